//! The key that wraps the keys of values.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::KeyId;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::KeyFileError;
use crate::file::read_secret_file;

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;

/// The key that wraps the keys of values: 32 bytes that are wiped from memory
/// when they are dropped. `Debug` shows its name alone.
#[derive(Clone)]
pub struct WrappingKey(Zeroizing<[u8; KEY_BYTES]>);

impl WrappingKey {
    /// A new key, from the system's source of randomness.
    ///
    /// # Panics
    ///
    /// If the system has no randomness: nothing could be sealed.
    #[must_use]
    pub fn generate() -> WrappingKey {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(key.as_mut_slice()).expect("the system has randomness");
        WrappingKey(key)
    }

    /// The key in a file: one line of 44 characters of base64 or 64 of hex;
    /// blocks. The file lies in `credentials_directory`, whose files systemd
    /// hands to us alone, or nobody but its owner may read it.
    ///
    /// # Errors
    ///
    /// See [`KeyFileError`]; none of them shows the file's content.
    pub fn from_file(
        path: &Path,
        credentials_directory: Option<&Path>,
    ) -> Result<WrappingKey, KeyFileError> {
        let text = read_secret_file(path, credentials_directory)?;
        WrappingKey::from_text(text.expose()).ok_or(KeyFileError::Content {
            path: path.to_owned(),
            why: "it is to be one line of 44 characters of base64 or 64 of hex: 32 bytes, as of `openssl rand -base64 32`",
        })
    }

    /// As [`WrappingKey::from_file`] reads it: base64, without the line's end.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0.as_slice()))
    }

    /// What it is called where it may be written down.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let digest = Sha256::new()
            .chain_update(b"sotp kek")
            .chain_update(self.0.as_slice())
            .finalize();
        KeyId(
            digest
                .iter()
                .take(8)
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        )
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    fn from_text(text: &[u8]) -> Option<WrappingKey> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        match text.len() {
            44 => {
                let bytes = Zeroizing::new(STANDARD.decode(text).ok()?);
                (bytes.len() == KEY_BYTES).then(|| key.copy_from_slice(&bytes))?;
            }
            64 => {
                for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
                    *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
                }
            }
            _ => return None,
        }
        Some(WrappingKey(key))
    }
}

impl fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrappingKey({})", self.id())
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}
