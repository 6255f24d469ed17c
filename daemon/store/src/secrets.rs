//! Secrets, sealed before they come here, and the ring of keys that they are
//! sealed with.

use std::sync::Arc;

use model::{
    By, Credential, CredentialName, CredentialRecord, KeyRing, SecretName, SecretRecord, Timestamp,
};

use crate::Store;
use crate::error::WriteError;

/// Secrets that can be kept.
pub const MAX_SECRETS: usize = 10_000;

/// Bytes of one secret as it is kept, all versions together.
pub const MAX_SECRET_BYTES: usize = 64 * 1024;

/// Versions of one secret that are kept: the oldest go first.
pub const MAX_SECRET_VERSIONS: usize = 10;

impl Store {
    // --- secrets

    /// The secret of this name, sealed.
    #[must_use]
    pub fn secret(&self, name: &SecretName) -> Option<Arc<SecretRecord>> {
        let _ = name;
        unimplemented!()
    }

    /// All secrets, sealed, by name; the daemon's own too.
    #[must_use]
    pub fn secrets(&self) -> Vec<Arc<SecretRecord>> {
        unimplemented!()
    }

    /// What uses a secret: `credential:campus`, `token:backup`, `user:jane`.
    #[must_use]
    pub fn secret_users(&self, name: &SecretName) -> Vec<String> {
        let _ = name;
        unimplemented!()
    }

    /// Keeps a secret, in the place of what had its name. `expected`: 0 if it
    /// has to be new, else the revision that was seen; `None`: whatever is
    /// there. The store sets revision and times, keeps the newest
    /// [`MAX_SECRET_VERSIONS`], and keeps older versions as *it* has them
    /// (another call may have wrapped them anew meanwhile). A version is never
    /// given twice: the last one of `secret` has to be newer than what is
    /// there. Returns when it is on the disk.
    ///
    /// Where a secret comes with something else (a credential, a token), its
    /// `revision` takes the place of `expected`: the one that was seen, 0 if
    /// there was none.
    ///
    /// # Errors
    ///
    /// Refused with `NameExists`, `NoSuch`, `RevisionMismatch`, `NoSuchTenant`,
    /// `KeyNotInRing` or `TooMany`; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn put_secret(
        &self,
        by: &By,
        secret: SecretRecord,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<Arc<SecretRecord>, WriteError> {
        let _ = (by, secret, expected, now);
        unimplemented!()
    }

    /// Takes a secret away that nothing uses. Returns when that is on the
    /// disk.
    ///
    /// # Errors
    ///
    /// Refused with `NoSuch`, `RevisionMismatch` or `SecretInUse`;
    /// [`WriteError::NotWriting`], [`WriteError::Closed`].
    pub async fn delete_secret(
        &self,
        by: &By,
        name: &SecretName,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        let _ = (by, name, expected, now);
        unimplemented!()
    }

    /// Puts the same values, wrapped by another key, in the place of those at
    /// the revisions that were seen; skips what changed meanwhile. How many
    /// were replaced. All in one transaction, which is on the disk when this
    /// returns. No audit line, no new revision.
    ///
    /// # Errors
    ///
    /// Refused with `KeyNotInRing`; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn replace_sealed(
        &self,
        secrets: Vec<(SecretName, u64, SecretRecord)>,
        now: Timestamp,
    ) -> Result<usize, WriteError> {
        let _ = (secrets, now);
        unimplemented!()
    }

    /// The keys in use.
    #[must_use]
    pub fn key_ring(&self) -> Arc<KeyRing> {
        unimplemented!()
    }

    /// Replaces the ring; `expected` is the revision that was seen, 0 at
    /// first. Returns when it is on the disk.
    ///
    /// # Errors
    ///
    /// Refused with `RevisionMismatch`, or `KeyInUse` if a secret is sealed
    /// with a key that would leave the ring; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn put_key_ring(
        &self,
        by: &By,
        ring: KeyRing,
        expected: u64,
        now: Timestamp,
    ) -> Result<Arc<KeyRing>, WriteError> {
        let _ = (by, ring, expected, now);
        unimplemented!()
    }

    // --- what an older version kept unsealed

    /// Credentials that an older version kept as they are, to be sealed now:
    /// until then no device can be asked with them.
    #[must_use]
    pub fn open_plain_credentials(&self) -> Vec<(CredentialName, Credential)> {
        unimplemented!()
    }

    /// Keeps sealed ones in the place of [`Store::open_plain_credentials`], all
    /// or none, and overwrites what of those is left in the file's free pages.
    /// Returns when all of it is on the disk. If the disk runs full on the way,
    /// the pages are overwritten at the next start.
    ///
    /// # Errors
    ///
    /// As [`Store::put_credential`].
    pub async fn seal_plain_credentials(
        &self,
        by: &By,
        sealed: Vec<(CredentialRecord, SecretRecord)>,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        let _ = (by, sealed, now);
        unimplemented!()
    }
}
