//! Where values lie and what they are sealed with.

use std::path::PathBuf;
use std::time::Duration;

use model::KeyRing;

use crate::{SecretBytes, SecretsError, WrappingKey, ring};

/// Where values lie and what they are sealed with.
#[derive(Clone, Debug)]
pub struct SecretsSettings {
    /// What wraps the keys of the values in the store.
    pub wrap: Wrap,
    /// Where new values are put.
    pub values: Values,
}

impl SecretsSettings {
    /// Whether a store with this ring can be opened with the keys at hand, as far
    /// as the ring says. A key that never leaves OpenBao or Vault is tried later.
    ///
    /// # Errors
    ///
    /// [`SecretsError::WrongKey`].
    pub fn check(&self, ring: &KeyRing) -> Result<(), SecretsError> {
        let Wrap::Key { active, old } = &self.wrap else {
            return Ok(());
        };
        let at_hand = || old.iter().chain([active]);
        let fits = |info| at_hand().any(|key| ring::fits(info, key));
        if ring.keys.is_empty() || ring.keys.iter().any(fits) {
            return Ok(());
        }
        Err(SecretsError::WrongKey {
            needed: ring.keys.iter().map(|info| info.id.clone()).collect(),
            given: at_hand().map(WrappingKey::id).collect(),
        })
    }
}

/// What wraps the keys of values.
#[derive(Clone, Debug)]
pub enum Wrap {
    /// A key that the daemon is given.
    Key {
        /// The key that a new store begins with. Of a store in use, its key
        /// ring says which one seals.
        active: WrappingKey,
        /// More keys at hand: the one before or after a rotation.
        old: Vec<WrappingKey>,
    },
    /// A key that never leaves OpenBao or Vault.
    Transit {
        /// The server.
        vault: VaultSettings,
        /// Where its transit engine is mounted: `transit`.
        mount: String,
        /// The key's name there: `sotp`.
        key: String,
    },
}

/// Where new values are put.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of them")]
pub enum Values {
    /// Sealed, in the store.
    Embedded,
    /// In the KV engine, version 2, of OpenBao or Vault.
    Kv {
        /// The server.
        vault: VaultSettings,
        /// Where its KV engine is mounted: `secret`.
        mount: String,
        /// The folder below it: `sotp`.
        path: String,
        /// Values are asked for again when they are this old.
        cache: Duration,
        /// For how long values are used after that while the server is down.
        stale: Duration,
    },
}

/// How OpenBao or Vault is reached, and as whom (AppRole).
#[derive(Clone, Debug)]
pub struct VaultSettings {
    /// `https://host:8200`; `http` on this machine alone.
    pub address: String,
    /// PEM certificates to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The AppRole's id.
    pub role_id: String,
    /// The AppRole's secret.
    pub secret_id: SecretBytes,
    /// Where AppRole is mounted: `approle`.
    pub auth_mount: String,
    /// The namespace, where there are some.
    pub namespace: Option<String>,
    /// How long one request may take.
    pub timeout: Duration,
}
