//! One file of everything, here or in an S3 bucket.
//!
//! [`write()`] makes an archive of a snapshot's directory, [`verify`] reads one
//! to its end and checks all of it, [`restore`] does the same and puts its files
//! into place, all or none. They stream: memory does not grow with the archive.
//! [`Place`] is where archives lie. [`Backups`] makes them for a running daemon:
//! when they are due, one at a time, and removes those that are too many.
//!
//! # The format, version 1
//!
//! An archive is a tar (GNU, as `tar -tvf` shows it) of regular files:
//!
//! ```text
//! about.json               what it is of: see About
//! sotp.plugins/….sotp-plugin.zst
//! sotp.redb.zst            the files, by path
//! sotp.samples/seg/1.seg
//! manifest.json            what is in it: see Manifest
//! ```
//!
//! - Each entry is a header of 512 bytes, the content, and zeros up to the next
//!   multiple of 512. After the last entry follow 1024 zeros, and nothing else.
//! - A header has the path (at most 100 bytes: words of ASCII letters, digits,
//!   `.`, `_` and `-`, which begin with a letter or digit, between slashes), the
//!   mode 0600, user and group 0, the size, the time (`made` of `about.json` in
//!   seconds), the type `0`, the magic `ustar  ` of GNU, and the checksum. Sizes
//!   from 8 GiB on stand in base 256. Nothing else is set, and no other header
//!   is accepted: an archive that was unpacked and packed again is none.
//! - Files are sorted by path. Every file but segments (`.seg`) is compressed
//!   with zstd (a window of at most 8 MiB) and has `.zst` behind its path.
//! - `about.json` and `manifest.json` are JSON as `serde_json` writes it, without
//!   white space, with exactly the keys of [`About`] and [`Manifest`] in their
//!   order. Hashes are SHA-256 in small hex digits; instants are milliseconds
//!   since 1970.
//! - `manifest.json` lists every file in the order of the archive with its size
//!   and hash as it is restored and, where it is compressed, as it stands in the
//!   archive; and has the hash of `about.json`. It is last because a writer that
//!   streams knows no hash before: an archive without it is cut short.
//!
//! A reader takes files of any path: directories that came later (that of plugins
//! did) need no other format, and a daemon that does not know one leaves it
//! alone.
//!
//! Later formats keep `about.json` with its `format` as the first entry.
//!
//! An encrypted archive is all of this inside a binary file of age
//! (age-encryption.org/v1) for one or more X25519 recipients.
//!
//! `.tar` and `.tar.age` follow the names: `sotp-<host>-20261121T023000Z.tar`.

mod about;
mod backups;
mod calendar;
mod entry;
mod error;
mod local;
mod name;
mod pipe;
mod place;
mod read;
mod restore;
mod s3;
mod seal;
mod write;

#[cfg(test)]
mod archive_tests;
#[cfg(test)]
mod backups_tests;
#[cfg(test)]
mod live;

pub use about::{About, FORMAT, FileEntry, Manifest, Packed, Verified};
pub use backups::{Backups, BackupsSettings, Done, Snapshot};
pub use calendar::{TimeOfDay, due, next_due, to_remove};
pub use error::{ArchiveError, BackupError};
pub use name::{BackupName, NotABackupName};
pub use pipe::Pieces;
pub use place::{Place, PlaceSettings, StoredBackup};
pub use read::verify;
pub use restore::restore;
pub use s3::{S3Settings, SecretKey};
pub use seal::{Identities, Recipients};
pub use write::write;
