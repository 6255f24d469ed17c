//! The packages of plugins: files beside the store, named by what is in them.
//!
//! A package is put there before the record that names it is written, and goes
//! when no record names it any more: at a start at once, later only an hour
//! after it was put, because its record may be on the way.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::{Digest, PluginRecord};
use sha2::{Digest as _, Sha256};

use crate::Store;
use crate::disk::{self, MODE};

/// What a package's file is called after its digest.
const SUFFIX: &str = ".sotp-plugin";

/// What it is called, before that, until it is whole.
const PART: &str = ".part";

/// How long a package is left alone that no record names.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// Why a package cannot be kept or had.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// There is none.
    #[error("there is no package {}", digest.hex())]
    Missing {
        /// Of this digest.
        digest: Digest,
    },

    /// The bytes are not those that the digest is of.
    #[error("the package {} is not what it was: install the plugin again", digest.hex())]
    Damaged {
        /// Of which it should have been.
        digest: Digest,
    },

    /// The operating system said no.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What we were doing, as it reads after "cannot".
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Where packages lie. Held while they are linked, so that none goes meanwhile.
#[derive(Default)]
pub(crate) struct Packages {
    folder: PathBuf,
    /// When those came that were put since the start.
    put: Mutex<HashMap<Digest, Instant>>,
}

/// What is kept from going while this is held.
pub(crate) struct Held<'p> {
    folder: &'p Path,
    put: MutexGuard<'p, HashMap<Digest, Instant>>,
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PackageError {
    move |source| PackageError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

fn file_name(digest: &Digest) -> String {
    format!("{}{SUFFIX}", digest.hex())
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// The digests that `records` name.
pub(crate) fn named<'r>(records: impl IntoIterator<Item = &'r PluginRecord>) -> BTreeSet<Digest> {
    let versions = records.into_iter().flat_map(|record| {
        let others = [record.previous.as_ref(), record.waiting.as_ref()];
        others.into_iter().flatten().chain([&record.current])
    });
    versions.map(|version| version.digest).collect()
}

impl Packages {
    pub(crate) fn new(folder: PathBuf) -> Packages {
        Packages {
            folder,
            put: Mutex::default(),
        }
    }

    /// Keeps them all until what this gives is dropped.
    pub(crate) fn hold(&self) -> Held<'_> {
        Held {
            folder: &self.folder,
            put: self.put.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn put(&self, bytes: &[u8], digest: Digest) -> Result<(), PackageError> {
        if digest_of(bytes) != digest {
            return Err(PackageError::Damaged { digest });
        }
        let mut held = self.hold();
        held.put.insert(digest, Instant::now());
        make_folder(&self.folder)?;
        let path = self.folder.join(file_name(&digest));
        if self.read(digest).is_ok() {
            return Ok(());
        }
        let part = self.folder.join(format!("{}{PART}", digest.hex()));
        let written = write_synced(&part, bytes).and_then(|()| fs::rename(&part, &path));
        if let Err(source) = written {
            // what cannot be removed goes at the next start
            let _ = fs::remove_file(&part);
            return Err(failed("write", &path)(source));
        }
        disk::sync_folder(&path).map_err(failed("sync the directory of", &path))
    }

    fn read(&self, digest: Digest) -> Result<Vec<u8>, PackageError> {
        let path = self.folder.join(file_name(&digest));
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(PackageError::Missing { digest });
            }
            Err(error) => return Err(failed("read", &path)(error)),
        };
        match digest_of(&bytes) == digest {
            true => Ok(bytes),
            false => Err(PackageError::Damaged { digest }),
        }
    }

    /// Removes what is not among `named` and was not put of late. Only files
    /// that are ours.
    /// Does nothing while they are held: there is a next time.
    pub(crate) fn tidy(&self, named: impl FnOnce() -> BTreeSet<Digest>) {
        let Ok(mut put) = self.put.try_lock() else {
            return;
        };
        put.retain(|_, at| at.elapsed() < PATIENCE);
        let named = named();
        let removed = superfluous(&self.folder, |name| {
            let kept = named.iter().chain(put.keys());
            kept.into_iter().any(|digest| file_name(digest) == name)
        });
        let removed = removed.and_then(|files| files.iter().try_for_each(fs::remove_file));
        if let Err(error) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            let folder = self.folder.display();
            tracing::warn!(%error, %folder, "packages that no plugin needs stay");
        }
    }
}

/// Files of ours in `folder` that are not to be kept.
fn superfluous(folder: &Path, is_kept: impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for file in fs::read_dir(folder)? {
        let file = file?;
        let name = file.file_name();
        let Some(name) = name.to_str() else {
            continue;
        };
        let digits = name.strip_suffix(SUFFIX).or(name.strip_suffix(PART));
        let is_ours = digits
            .is_some_and(|text| text.len() == 64 && text.bytes().all(|c| c.is_ascii_hexdigit()));
        if is_ours && !is_kept(name) {
            found.push(file.path());
        }
    }
    Ok(found)
}

impl Held<'_> {
    /// Links the packages of these digests into `into`, or copies them where
    /// that cannot be done. Those that are missing are left out: the plugin is
    /// broken there as it is here. Gives the bytes of all.
    pub(crate) fn link(
        &self,
        digests: &BTreeSet<Digest>,
        into: &Path,
    ) -> Result<u64, PackageError> {
        if digests.is_empty() {
            return Ok(0);
        }
        make_folder(into)?;
        let mut bytes = 0;
        for digest in digests {
            let (from, to) = (
                self.folder.join(file_name(digest)),
                into.join(file_name(digest)),
            );
            match fs::hard_link(&from, &to) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    tracing::warn!(digest = %digest.hex(), "a plugin's package is missing: it is not in the copy");
                    continue;
                }
                Err(_) => copy(&from, &to).map_err(failed("copy", &from))?,
            }
            bytes += fs::metadata(&to).map_err(failed("look at", &to))?.len();
        }
        disk::sync_folder(&into.join("x")).map_err(failed("sync", into))?;
        Ok(bytes)
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    write_synced(to, &fs::read(from)?)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(MODE)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes it, on the disk, if it is not there.
fn make_folder(folder: &Path) -> Result<(), PackageError> {
    let made = DirBuilder::new().mode(0o700).create(folder);
    match made {
        Ok(()) => disk::sync_folder(folder).map_err(failed("sync the directory of", folder)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("make the directory", folder)(error)),
    }
}

impl Store {
    // --- packages of plugins

    /// Keeps a package in a file beside the store. To be called before
    /// [`Store::put_plugin`] with a record that names it; one that no record
    /// names goes after an hour, or at the next start. Blocks until it is on the
    /// disk.
    ///
    /// # Errors
    ///
    /// [`PackageError::Damaged`] if `digest` is not the SHA-256 of `bytes`;
    /// [`PackageError::Io`].
    pub fn put_package(&self, bytes: &[u8], digest: Digest) -> Result<(), PackageError> {
        self.shared.packages.put(bytes, digest)
    }

    /// The package of this digest, to the byte. Blocks.
    ///
    /// # Errors
    ///
    /// [`PackageError`].
    pub fn package(&self, digest: Digest) -> Result<Vec<u8>, PackageError> {
        self.shared.packages.read(digest)
    }
}
