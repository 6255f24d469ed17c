//! How secrets are kept and how that goes, for people.

use model::{KeyId, SecretName, Timestamp};

/// How secrets are kept and how that goes.
#[derive(Clone, Debug)]
pub struct SecretsStatus {
    /// Where new values are put: `embedded` or `vault`.
    pub values: &'static str,
    /// What wraps their keys: `key` or `transit`.
    pub wrap: &'static str,
    /// The key that seals from now on; `None`: none was ever needed, or it is
    /// not known yet as the server is down.
    pub active_key: Option<KeyId>,
    /// The keys in use; more than one while a rotation goes on.
    pub keys: Vec<KeyStatus>,
    /// How many secrets there are, the daemon's own among them.
    pub secrets: usize,
    /// How many values, of all versions, lie in OpenBao or Vault.
    pub in_vault: usize,
    /// The secret whose value was set the longest time ago; not one of the
    /// daemon's own.
    pub oldest: Option<(SecretName, Timestamp)>,
    /// OpenBao or Vault, where it is used.
    pub vault: Option<VaultHealth>,
}

/// One key of the key ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// Its name.
    pub id: KeyId,
    /// Since when it is used.
    pub created: Timestamp,
    /// How many values, of all versions, are sealed under it.
    pub sealed: usize,
    /// Whether it seals from now on.
    pub active: bool,
}

/// How OpenBao or Vault does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultHealth {
    /// Its address.
    pub address: String,
    /// Whether the last request was answered.
    pub up: bool,
    /// When a request was last answered.
    pub last_ok: Option<Timestamp>,
    /// What went wrong last, and when; kept after it is well again.
    pub last_error: Option<(Timestamp, String)>,
    /// Values that are used beyond their time as the server is down.
    pub stale: usize,
    /// Values (or their keys) that are in the store's books but not in memory.
    pub missing: usize,
}

/// What a rotation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The keys that are not needed any more.
    pub dropped: Vec<KeyId>,
    /// The key that seals from now on.
    pub active: KeyId,
    /// How many secrets were wrapped anew.
    pub rewrapped: usize,
}
