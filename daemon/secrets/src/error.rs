//! What can go wrong, sorted by what the caller can do about it.

use std::io;
use std::path::PathBuf;

use model::{KeyId, SecretName};
use store::WriteError;

/// Why a file with a key or another secret is not used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing in it: systemd hands an empty credential over where
    /// there is no file.
    #[error("{} is empty", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// Others than its owner may read it.
    #[error(
        "{} may be read by others (mode {mode:03o}); `chmod 600` it, or hand it over as a systemd credential",
        path.display()
    )]
    TooOpen {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// What is in it is something else.
    #[error("{} does not hold what it should: {why}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it; nothing of its content.
        why: &'static str,
    },
}

impl KeyFileError {
    /// Whether there is no key at all, rather than a bad one.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        match self {
            KeyFileError::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            KeyFileError::Empty { .. } => true,
            KeyFileError::TooOpen { .. } | KeyFileError::Content { .. } => false,
        }
    }
}

/// Why something cannot be done with secrets. None of them shows a value.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SecretsError {
    /// The store is sealed with keys that are not at hand. Nothing was
    /// changed.
    #[error(
        "the secrets in the store are sealed with {}, and the key at hand is {}; give the daemon the key that it had before (nothing was changed)",
        few(needed),
        few(given)
    )]
    WrongKey {
        /// The keys that are missing.
        needed: Vec<KeyId>,
        /// The keys at hand.
        given: Vec<KeyId>,
    },
    /// There is no secret of this name.
    #[error("there is no secret \"{name}\"; set it first")]
    NoSuchSecret {
        /// The name asked for.
        name: SecretName,
    },
    /// The secret is there, but not this version of it.
    #[error("the secret \"{name}\" has no version {version} any more")]
    NoSuchVersion {
        /// The secret.
        name: SecretName,
        /// The version asked for.
        version: u32,
    },
    /// The name cannot be one of a secret.
    #[error("{name:?} cannot be the name of a secret: {why}")]
    BadName {
        /// What was offered.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The value cannot be one of a secret.
    #[error("this cannot be the value of the secret \"{name}\": {why}")]
    BadValue {
        /// The secret.
        name: SecretName,
        /// What is wrong with the value.
        why: &'static str,
    },
    /// It cannot be had now; it is tried again by itself.
    #[error("{what} cannot be had now: {why}")]
    Unavailable {
        /// What, such as `the secret "smtp"`.
        what: String,
        /// Why not.
        why: String,
    },
    /// The sealed value is not what was sealed under this name and version.
    #[error(
        "the value of the secret \"{name}\" (version {version}) is damaged or not its own; set it again"
    )]
    Damaged {
        /// The secret.
        name: SecretName,
        /// The version.
        version: u32,
    },
    /// Somebody set it in OpenBao or Vault at the same time.
    #[error("the secret \"{name}\" was changed at the same time; read it again and repeat")]
    Conflict {
        /// The secret.
        name: SecretName,
    },
    /// There is no new key to change to.
    #[error(
        "there is no new key to change to: make one (`openssl rand -base64 32`) and give it to the daemon as sotp-kek-new"
    )]
    NoNewKey,
    /// The new key is the one in use.
    #[error("the new key {key} is the one in use; make another one")]
    SameKey {
        /// Its name.
        key: KeyId,
    },
    /// A rotation to another key goes on.
    #[error("a change to the key {to} is going on; let that end first")]
    RotationRunning {
        /// Which key it changes to.
        to: KeyId,
    },
    /// OpenBao or Vault refused.
    #[error("{server} refuses to {doing}: {why}")]
    Vault {
        /// Its address.
        server: String,
        /// What we were doing, as it reads after "refuses to".
        doing: String,
        /// What it said.
        why: String,
    },
    /// The server cannot be spoken to as the settings say.
    #[error("the settings for {server} do not work: {why}")]
    Settings {
        /// Its address.
        server: String,
        /// What is wrong.
        why: String,
    },
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] WriteError),
}

/// The first few of `keys`.
fn few(keys: &[KeyId]) -> String {
    const SHOWN: usize = 4;
    if keys.is_empty() {
        return "none".to_owned();
    }
    let shown: Vec<&str> = keys.iter().take(SHOWN).map(|key| key.0.as_str()).collect();
    shown.join(", ")
}
