//! What a backup says about itself: [`About`] first, [`Manifest`] last.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use model::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The version of the format that this build writes and reads.
pub const FORMAT: u32 = 1;

/// What a backup is of: `about.json`, its first entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The version of the archive's format; [`crate::write`] sets it.
    pub format: u32,
    /// The version of the product that made it: `0.1.0`.
    pub product: String,
    /// The version of the store's schema.
    pub schema: u64,
    /// When the snapshot was taken: milliseconds since 1970.
    pub made: Timestamp,
    /// The host that it was taken on.
    pub host: String,
    /// How many files are in it; [`crate::write`] sets it.
    pub files: u64,
    /// How many bytes they have once restored; [`crate::write`] sets it.
    pub bytes: u64,
    /// What is in it, for people: how many devices, alerts, segments.
    pub counts: BTreeMap<String, u64>,
}

impl About {
    /// What the snapshot knows; the rest is filled in when it is written.
    #[must_use]
    pub fn new(product: &str, schema: u64, made: Timestamp) -> About {
        About {
            format: FORMAT,
            product: product.to_owned(),
            schema,
            made,
            host: String::new(),
            files: 0,
            bytes: 0,
            counts: BTreeMap::new(),
        }
    }
}

/// Everything that is in a backup: `manifest.json`, its last entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// SHA-256 of `about.json`, in hex.
    pub about: String,
    /// Every file, in the order of the archive.
    pub files: Vec<FileEntry>,
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Where it lies below the directory that it is restored into.
    pub path: String,
    /// Its bytes once restored.
    pub size: u64,
    /// SHA-256 of it once restored, in hex.
    pub sha256: String,
    /// How it stands in the archive, if it is compressed there: under its path
    /// and `.zst`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packed: Option<Packed>,
}

/// A file as it stands in the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packed {
    /// Its bytes there.
    pub size: u64,
    /// SHA-256 of them, in hex.
    pub sha256: String,
}

/// A backup that was read to its end and found whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What it is of.
    pub about: About,
    /// What is in it.
    pub manifest: Manifest,
    /// Whether it was encrypted.
    pub encrypted: bool,
}

/// Bytes that are counted and hashed as they pass.
#[derive(Default)]
pub(crate) struct Sum {
    bytes: u64,
    hash: Sha256,
}

impl Sum {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many there were, and their SHA-256 in hex.
    pub(crate) fn finish(self) -> (u64, String) {
        (self.bytes, hex(&self.hash.finalize()))
    }
}

/// SHA-256 of `bytes`, in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a String takes all text");
    }
    text
}
