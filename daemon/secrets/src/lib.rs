//! Secrets: sealed in the store, or kept in OpenBao or Vault.

mod bytes;
mod error;
mod file;
mod key;
mod settings;
mod status;

use std::sync::Arc;
use std::time::Duration;

use model::{By, SecretName, SecretRecord, Timestamp};
use store::Store;
use tokio_util::sync::CancellationToken;

pub use bytes::SecretBytes;
pub use error::{KeyFileError, SecretsError};
pub use key::WrappingKey;
pub use settings::{SecretsSettings, Values, VaultSettings, Wrap};
pub use status::{KeyStatus, Rotation, SecretsStatus, VaultHealth};

/// All secrets. Clones are the same.
#[derive(Clone)]
pub struct Secrets {
    #[expect(dead_code, reason = "signatures first")]
    store: Store,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

#[expect(
    clippy::unused_async,
    clippy::missing_errors_doc,
    unused_variables,
    reason = "signatures first"
)]
impl Secrets {
    /// Opens the secrets of a store.
    pub async fn open(
        store: Store,
        settings: SecretsSettings,
        now: Timestamp,
    ) -> Result<Secrets, SecretsError> {
        unimplemented!()
    }

    /// Sets a secret.
    pub async fn put(
        &self,
        by: &By,
        name: SecretName,
        value: SecretBytes,
        note: Option<String>,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<Arc<SecretRecord>, SecretsError> {
        unimplemented!()
    }

    /// The next version of a secret, to be put into the store together with
    /// something else.
    pub async fn seal_record(
        &self,
        name: &SecretName,
        value: &SecretBytes,
        created_by: &str,
        now: Timestamp,
    ) -> Result<SecretRecord, SecretsError> {
        unimplemented!()
    }

    /// The value in use, from memory.
    pub fn expose(&self, name: &SecretName) -> Result<SecretBytes, SecretsError> {
        unimplemented!()
    }

    /// The value in use; asks the server where it is not in memory.
    pub async fn expose_fresh(&self, name: &SecretName) -> Result<SecretBytes, SecretsError> {
        unimplemented!()
    }

    /// An earlier value, where it is still kept; may ask the server.
    pub async fn expose_version(
        &self,
        name: &SecretName,
        version: u32,
    ) -> Result<SecretBytes, SecretsError> {
        unimplemented!()
    }

    /// Takes a secret away with all its versions.
    pub async fn delete(
        &self,
        by: &By,
        name: &SecretName,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<(), SecretsError> {
        unimplemented!()
    }

    /// Changes the key that wraps the keys of values.
    pub async fn rotate_key(
        &self,
        by: &By,
        new: Option<WrappingKey>,
        now: Timestamp,
    ) -> Result<Rotation, SecretsError> {
        unimplemented!()
    }

    /// How secrets are kept and how that goes.
    #[must_use]
    pub fn status(&self) -> SecretsStatus {
        unimplemented!()
    }

    /// How long ago the value of each secret was set; without the daemon's own.
    #[must_use]
    pub fn ages(&self, now: Timestamp) -> Vec<(SecretName, Duration)> {
        unimplemented!()
    }

    /// Does what is due until `stop`.
    pub async fn run(&self, clock: fn() -> Timestamp, stop: CancellationToken) {
        unimplemented!()
    }
}
