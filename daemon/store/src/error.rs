//! What can go wrong, sorted by what the caller can do about it.

use std::path::PathBuf;

use model::{Address, CredentialName, DeviceId, KeyId, OutboxId, RuleName, SecretName, TenantName};

/// Why the store did not open. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "the store {} is in use by another process; stop that one first (only one sotpd can run on a store)",
        path.display()
    )]
    InUse {
        /// The store.
        path: PathBuf,
    },

    /// It was written by a newer version of this program.
    #[error(
        "the store {} has schema {found}, and this version knows schemas up to {known}; install the newer version again, or restore a backup made before the upgrade (the file was not changed)",
        path.display()
    )]
    Newer {
        /// The store.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema that this version reads.
        known: u32,
    },

    /// What is in the file is not what was written to it.
    #[error(
        "the store {} is damaged: {what}; the file was not changed: copy it away for examination, restore the newest backup in its place, or move it aside to begin with an empty store",
        path.display()
    )]
    Corrupt {
        /// The store.
        path: PathBuf,
        /// What was found, and where.
        what: String,
    },

    /// The operating system said no.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// The store.
        path: PathBuf,
        /// What we were doing, as it reads after "cannot".
        doing: &'static str,
        /// What it said.
        source: std::io::Error,
    },

    /// A store of an older version is brought to this one's format, for which
    /// there is too little room.
    #[error(
        "the store {} was written by an older version; to bring it to this one's format {} MiB have to be free on its disk, and {} MiB are: make room, and start again (the file was not changed)",
        path.display(), needed.div_ceil(1 << 20), free >> 20
    )]
    NoRoom {
        /// The store.
        path: PathBuf,
        /// Bytes that have to be free.
        needed: u64,
        /// Bytes that are.
        free: u64,
    },

    /// The samples beside the file cannot be used.
    #[error("cannot open the samples of the store {}", path.display())]
    Samples {
        /// The store.
        path: PathBuf,
        /// What the sample store says.
        source: samples::OpenError,
    },
}

/// Why no snapshot was taken. What there is of it is of no use.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The operating system said no.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What we were doing, as it reads after "cannot".
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },

    /// The samples cannot be put on the disk or linked now.
    #[error("the samples cannot be copied now")]
    Samples(#[from] samples::CatalogError),

    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] ReadError),

    /// The packages of plugins cannot be copied.
    #[error("the packages of plugins cannot be copied")]
    Packages(#[from] crate::PackageError),

    /// What was copied is not what is in the store.
    #[error("the copy {} cannot be used: {what}", path.display())]
    NotTheSame {
        /// The copy.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// Why the store could not be closed cleanly.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk took no writes to the end, so what waited in memory is lost.
    #[error("{reports} poll reports could not be written: {why}")]
    NotWritten {
        /// How many poll reports are lost.
        reports: u64,
        /// What the disk said.
        why: String,
    },

    /// The writer ended before by a fault; see the log.
    #[error("the store's writer ended by itself: {why}")]
    WriterFailed {
        /// What ended it.
        why: WriterEnd,
    },
}

/// Why the writer ended though nobody closed the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriterEnd {
    /// The file is not what was written: starting again does not help, it has
    /// to be replaced.
    #[error("the store is damaged: {0}")]
    Damaged(String),

    /// The program made a mistake, and the file opens again without a
    /// complaint: starting again may help. (redb panics where it meets damaged
    /// pages; where such a page is not read at a start, this is what it looks
    /// like.)
    #[error("the store's writer panicked: {0}")]
    Panicked(String),
}

/// Why a change is not made. The text is for people and says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No device has this number.
    #[error("there is no device {id}")]
    NoSuchDevice {
        /// The number asked for.
        id: DeviceId,
    },

    /// Another live device has the name.
    #[error("the name {name:?} is taken by device {by}; choose another, or rename that one")]
    NameTaken {
        /// The name asked for.
        name: String,
        /// Who has it.
        by: DeviceId,
    },

    /// Another live device has the address.
    #[error(
        "the address {address} is taken by device {by} ({name}); change or delete that one first"
    )]
    AddressTaken {
        /// The address asked for.
        address: Address,
        /// Who has it.
        by: DeviceId,
        /// The name of who has it.
        name: String,
    },

    /// A parent that is not there, or is deleted.
    #[error("there is no live device {id} to be a parent; leave it out, or restore it first")]
    NoSuchParent {
        /// The number asked for.
        id: DeviceId,
    },

    /// A device would be reached through itself.
    #[error(
        "with device {id} as a parent the device would be reached through itself; leave it out"
    )]
    ParentCycle {
        /// The parent that closes the circle.
        id: DeviceId,
    },

    /// No credential has this name.
    #[error("there is no credential \"{name}\"; create it first")]
    NoSuchCredential {
        /// The name asked for.
        name: CredentialName,
    },

    /// Devices would lose their way in, or find another secret there.
    #[error(
        "the credential \"{name}\" is used by {}; give them another one first",
        few(devices)
    )]
    CredentialInUse {
        /// The credential.
        name: CredentialName,
        /// Names of the devices that use it.
        devices: Vec<String>,
        /// Their numbers, in the same order: not everybody may see all of
        /// them.
        ids: Vec<DeviceId>,
    },

    /// Somebody else changed it meanwhile.
    #[error(
        "it is at revision {found}, not {expected}: somebody changed it meanwhile; read it again and repeat"
    )]
    RevisionMismatch {
        /// The revision that the caller saw.
        expected: u64,
        /// The revision that it has.
        found: u64,
    },

    /// Only a deleted device can be restored.
    #[error("device {id} is not deleted")]
    NotDeleted {
        /// The device.
        id: DeviceId,
    },

    /// A deleted device cannot be changed.
    #[error("device {id} is deleted; restore it first")]
    Deleted {
        /// The device.
        id: DeviceId,
    },

    /// No rule of the API has this name.
    #[error("there is no rule \"{name}\"")]
    NoSuchRule {
        /// The name asked for.
        name: RuleName,
    },

    /// A rule from a file is changed in the file.
    #[error("the rule \"{name}\" comes from the file {path}; change it there and reload")]
    RuleFromFile {
        /// The rule.
        name: RuleName,
        /// Where it stands.
        path: String,
    },

    /// No delivery has this number.
    #[error("there is no delivery {id} in the outbox")]
    NoSuchDelivery {
        /// The number asked for.
        id: OutboxId,
    },

    /// Only a parked delivery can be tried again by hand.
    #[error("delivery {id} is not parked")]
    NotParked {
        /// The delivery.
        id: OutboxId,
    },

    /// Somebody may do everything already.
    #[error("this appliance is set up already; sign in, or let an administrator make the account")]
    AlreadySetUp,

    /// Something of this name is there already.
    #[error("there is a {what} \"{name}\" already; choose another name, or change that one")]
    NameExists {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: String,
    },

    /// Nothing of this name is there.
    #[error("there is no {what} \"{name}\"; look at the list of what there is")]
    NoSuch {
        /// What was asked for.
        what: &'static str,
        /// The name asked for.
        name: String,
    },

    /// A name that nothing can have.
    #[error("{name:?} cannot be the name of a {what}: {why}")]
    BadName {
        /// Of what.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },

    /// Nobody would be left who may do everything.
    #[error(
        "nobody would be left who may do everything; give another active user the role ADMIN without a limit first"
    )]
    LastAdmin,

    /// Another person has this certificate.
    #[error("the certificate \"{certificate}\" is that of user {by}; take it from them first")]
    CertificateTaken {
        /// Its subject.
        certificate: String,
        /// Who has it.
        by: String,
    },

    /// Another person has this identity at the OpenID provider.
    #[error("the subject \"{subject}\" is that of user {by}; take it from them first")]
    SubjectTaken {
        /// The subject.
        subject: String,
        /// Who has it.
        by: String,
    },

    /// Something would lose its secret.
    #[error(
        "the secret \"{name}\" is used by {}; change or delete that first",
        few(users)
    )]
    SecretInUse {
        /// The secret.
        name: SecretName,
        /// What uses it, such as `credential:campus`.
        users: Vec<String>,
    },

    /// A secret could no longer be read.
    #[error(
        "{secrets} secrets are still sealed with the key {key}; wrap them with the new one first"
    )]
    KeyInUse {
        /// The key that would leave the ring.
        key: KeyId,
        /// How many secrets need it.
        secrets: usize,
    },

    /// A secret that nobody could read.
    #[error("it is sealed with the key {key}, which is not in use (any more); seal it again")]
    KeyNotInRing {
        /// The key.
        key: KeyId,
    },

    /// Something belongs to the tenant.
    #[error(
        "{} belong to the tenant {name}; delete or move them first",
        few(holders)
    )]
    TenantInUse {
        /// The tenant.
        name: TenantName,
        /// What belongs to it.
        holders: Vec<String>,
    },

    /// The default tenant is always there.
    #[error(
        "the tenant {} is always there; it cannot be deleted",
        TenantName::DEFAULT
    )]
    DefaultTenant,

    /// No tenant has this name.
    #[error(
        "there is no tenant {name}; create it first, or check the part of the name before the \"/\""
    )]
    NoSuchTenant {
        /// The name asked for.
        name: TenantName,
    },

    /// The tenant has as many as it may.
    #[error(
        "the tenant {tenant} may have at most {limit} {what}; delete some, or let an administrator raise its quota"
    )]
    Quota {
        /// The tenant.
        tenant: TenantName,
        /// Of what.
        what: &'static str,
        /// How many it may have.
        limit: u64,
    },

    /// Something of another tenant.
    #[error(
        "the {what} {name} belongs to the tenant {its}, not to {tenant}; use one of the same tenant"
    )]
    OtherTenant {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: String,
        /// Whose it is.
        its: TenantName,
        /// Whose it would have to be.
        tenant: TenantName,
        /// The device that is named, if it is one: not everybody may see it.
        device: Option<DeviceId>,
    },

    /// A limit of the store.
    #[error("there can be at most {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there can be.
        limit: usize,
    },
}

/// The first few of `names`, and how many more there are.
fn few(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// What a change answers: done or refused, unless the disk fails.
pub(crate) type Answer<T> = Result<Result<T, Refusal>, Fault>;

/// What was checked, or the refusal as the answer of the whole change.
macro_rules! or_refuse {
    ($checked:expr) => {
        match $checked {
            Ok(good) => good,
            Err(refusal) => return Ok(Err(refusal)),
        }
    };
}
pub(crate) use or_refuse;

/// Why a change was not made. Nothing of it is kept.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// It cannot be made as things are.
    #[error(transparent)]
    Refused(#[from] Refusal),

    /// The disk takes no writes now. (If it failed in the very last step of a
    /// write and cannot even be read again at once, the change may show once
    /// it can be.)
    #[error("the store cannot be written now, nothing was changed; try again later: {why}")]
    NotWriting {
        /// What the disk said.
        why: String,
    },

    /// The store is closed, or its writer ended by a fault.
    #[error("the store is closed")]
    Closed,
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What is on the disk is not what was written; everything else can still
    /// be read.
    #[error("the store is damaged: {what}")]
    Corrupt {
        /// What, and where.
        what: String,
    },

    /// The disk did not give it; the store opens the file again by itself.
    #[error("the store cannot be read now; try again: {what}")]
    Io {
        /// What the disk said.
        what: String,
    },
}

/// What redb, or what we found in it, says: internal, sorted into the errors
/// above at the border.
#[derive(Debug)]
pub(crate) enum Fault {
    /// redb failed.
    Redb(redb::Error),
    /// A value is not what was written, or is gone.
    Damage(String),
    /// redb panicked.
    Panic(String),
    /// redb panicked because a reader had panicked before: opening it again
    /// helps.
    Stale(String),
    /// There is too little room for what a migration makes.
    NoRoom { needed: u64, free: u64 },
    /// The samples of an older version cannot be moved.
    Samples(samples::OpenError),
}

impl Fault {
    /// Whether the file's content is wrong, as opposed to a disk that does not
    /// write or read now.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Fault::Damage(_) | Fault::Panic(_) => true,
            Fault::Stale(_) | Fault::NoRoom { .. } | Fault::Samples(_) => false,
            Fault::Redb(redb::Error::Io(error)) => Fault::is_bad_data(error),
            Fault::Redb(error) => !matches!(
                error,
                redb::Error::PreviousIo
                    | redb::Error::DatabaseClosed
                    | redb::Error::DatabaseAlreadyOpen
                    | redb::Error::LockPoisoned(_)
            ),
        }
    }

    /// Whether an I/O error says that the bytes are wrong or missing.
    pub(crate) fn is_bad_data(error: &std::io::Error) -> bool {
        use std::io::ErrorKind::{InvalidData, UnexpectedEof};
        matches!(error.kind(), InvalidData | UnexpectedEof)
    }

    /// Whether the disk, or the user's share of it, is full.
    pub(crate) fn is_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            Fault::Redb(redb::Error::Io(error)) => {
                matches!(error.kind(), StorageFull | QuotaExceeded)
            }
            _ => false,
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Redb(error) => error.fmt(f),
            Fault::Damage(what) | Fault::Stale(what) => f.write_str(what),
            Fault::Panic(what) => write!(f, "the database code panicked: {what}"),
            Fault::NoRoom { needed, free } => {
                write!(f, "{needed} bytes have to be free, and {free} are")
            }
            Fault::Samples(error) => error.fmt(f),
        }
    }
}

/// Every error of redb becomes a [`Fault`].
macro_rules! fault_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Fault {
                Fault::Redb(error.into())
            }
        }
    )*};
}

fault_from!(
    redb::Error,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::CompactionError,
    redb::DatabaseError
);

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> ReadError {
        let what = fault.to_string();
        if fault.is_damage() {
            ReadError::Corrupt { what }
        } else {
            ReadError::Io { what }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_a_few_devices_and_counts_the_rest() {
        let devices = (1..=7).map(|n| format!("sw{n}")).collect();
        let name = CredentialName("public".into());
        let ids = Vec::new();
        let refusal = Refusal::CredentialInUse { name, devices, ids };
        let text = refusal.to_string();
        assert!(
            text.contains("sw1, sw2, sw3, sw4, sw5 and 2 more"),
            "{text}"
        );
    }

    #[test]
    fn a_full_disk_is_not_damage() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let fault = Fault::from(redb::StorageError::Io(full));
        assert!(fault.is_full() && !fault.is_damage());
        assert!(Fault::Damage("a row".into()).is_damage());
    }
}
