//! What can be wrong with an archive, or with the place it goes to. No error
//! shows a key, a secret or a signed address.

use std::io;
use std::path::PathBuf;

use fetch::FetchError;

use crate::about::FORMAT;

/// What is wrong with an archive, or with where it is read from or put.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archive cannot be read on.
    #[error("cannot read the backup")]
    Read {
        /// What the system said.
        source: io::Error,
    },
    /// The archive cannot be written on.
    #[error("cannot write the backup")]
    Write {
        /// What the system said.
        source: io::Error,
    },
    /// A file of the snapshot cannot be read.
    #[error("cannot read {path} of the snapshot")]
    Snapshot {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the snapshot does not belong into a backup.
    #[error("{path} of the snapshot cannot be put into a backup: {why}")]
    NotForBackup {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It does not begin as our archives do.
    #[error("this is no backup of SOTP: {why}")]
    NotABackup {
        /// What it seems to be.
        why: &'static str,
    },
    /// It is encrypted, and nobody gave a key.
    #[error("the backup is encrypted: give --identity FILE, the file with the private key of age")]
    Encrypted,
    /// None of the keys opens it.
    #[error("none of the given identities opens the backup: it was encrypted for another key")]
    WrongIdentity,
    /// A file of identities cannot be used.
    #[error("cannot use the identities in {path}: {why}")]
    Identity {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it; never what is in it.
        why: String,
    },
    /// A public key is none.
    #[error("{key} is no public key of age: it begins with age1 and is copied whole")]
    Recipient {
        /// What stood there.
        key: String,
    },
    /// A later build made it.
    #[error(
        "the backup has format {found}, this build reads up to {FORMAT}: use the release of SOTP that made it, or a newer one"
    )]
    Newer {
        /// Its format.
        found: u32,
    },
    /// It ends too early.
    #[error("the backup is cut short: its end is missing. Copy it again, or take another one")]
    CutShort,
    /// Something in it is not as it was written.
    #[error("the backup is damaged: {name}: {why}. Copy it again, or take another one")]
    Damaged {
        /// Which of its entries.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Something in it was not written by us.
    #[error("the backup is refused: {name}: {why}")]
    Forbidden {
        /// Which of its entries.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Nothing is restored into a directory that is in use.
    #[error(
        "{path} is not empty: {found} is in it. Restore into an empty or a new directory, and put it in place afterwards"
    )]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// One of the things in it.
        found: String,
    },
    /// A restored file cannot be written.
    #[error("cannot restore {path}")]
    Restore {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no room.
    #[error("no space left for {path}: make room, or choose another disk")]
    DiskFull {
        /// What was being written.
        path: PathBuf,
    },
}

/// Whether there is no room left.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Why there is no backup, or why it cannot be listed or fetched.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Another one is being made.
    #[error("another backup is being made: wait for it to end")]
    Busy,
    /// Nothing says where backups go.
    #[error("nothing says where backups go: add section [backup] with to = … to the settings")]
    NoPlace,
    /// No snapshot could be taken.
    #[error("cannot take a snapshot: {why}")]
    Snapshot {
        /// What the store said.
        why: String,
    },
    /// The archive could not be written or read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// There is a backup of this name already.
    #[error("there is a backup {name} already")]
    Exists {
        /// Which.
        name: String,
    },
    /// There is no backup of this name.
    #[error("there is no backup {name}")]
    Missing {
        /// Which.
        name: String,
    },
    /// What was put away is not there as it should be.
    #[error("the backup {name} was put away, but {found} is there instead of {expected} bytes")]
    NotThere {
        /// Which.
        name: String,
        /// What the place says.
        found: String,
        /// What was sent.
        expected: u64,
    },
    /// A directory cannot be used.
    #[error("cannot {doing} {path}")]
    Directory {
        /// What was tried.
        doing: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory for backups is not there.
    #[error("{path} is no directory: make it, for the daemon's user, or mount it")]
    NoDirectory {
        /// Which.
        path: PathBuf,
    },
    /// There is no room.
    #[error("no space left for {path}: make room, or keep fewer backups")]
    DiskFull {
        /// What was being written.
        path: PathBuf,
    },
    /// The settings of S3 cannot be used.
    #[error("cannot use S3 like this: {why}")]
    S3Settings {
        /// What is wrong with them.
        why: String,
    },
    /// The secret of the access key cannot be had.
    #[error("cannot get the secret of the access key: {why}")]
    SecretKey {
        /// What is wrong.
        why: String,
    },
    /// The server does not answer.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The server refused.
    #[error("{server} refused to {doing}: {code} (status {status}){hint}")]
    S3 {
        /// Which server.
        server: String,
        /// What it was asked to do.
        doing: String,
        /// What it said: a word of S3's.
        code: String,
        /// The HTTP status.
        status: u16,
        /// What to do, after a colon.
        hint: &'static str,
    },
    /// The server's answer makes no sense.
    #[error("{server} did not {doing}: {why}")]
    Nonsense {
        /// Which server.
        server: String,
        /// What it was asked to do.
        doing: String,
        /// What is wrong with the answer.
        why: &'static str,
    },
    /// A thread of the daemon ended early; a bug of ours.
    #[error("the backup ended in its middle")]
    Interrupted,
}
