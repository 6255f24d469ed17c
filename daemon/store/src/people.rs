//! People, tenants, tokens of services, and the policy for signing in: who
//! there is. What they may do is decided elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{
    By, Digest, OidcSubject, Policy, SecretRecord, Tenant, TenantName, Timestamp, TokenId,
    TokenRecord, User, UserName,
};
use tokio::sync::watch;

use crate::Store;
use crate::error::WriteError;

/// People that can be kept.
pub const MAX_USERS: usize = 10_000;

/// Tenants that can be kept.
pub const MAX_TENANTS: usize = 1_000;

/// Tokens that can be kept.
pub const MAX_TOKENS: usize = 10_000;

/// Bytes of one person, tenant, token or policy as it is kept.
pub const MAX_PERSON_BYTES: usize = 64 * 1024;

/// Everybody at one instant.
#[derive(Clone, Debug, Default)]
pub struct People {
    users: BTreeMap<UserName, Arc<User>>,
    certificates: BTreeMap<String, UserName>,
    subjects: BTreeMap<OidcSubject, UserName>,
    tenants: BTreeMap<TenantName, Arc<Tenant>>,
    tokens: BTreeMap<TokenId, Arc<TokenRecord>>,
    policy: Policy,
    revision: u64,
}

impl People {
    /// The person of this name.
    #[must_use]
    pub fn user(&self, name: &UserName) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// Everybody, by name.
    pub fn users(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.values()
    }

    /// The person with this subject of a client certificate.
    #[must_use]
    pub fn user_by_certificate(&self, subject: &str) -> Option<&Arc<User>> {
        self.user(self.certificates.get(subject)?)
    }

    /// Who somebody at an OpenID provider is here.
    #[must_use]
    pub fn user_by_oidc(&self, subject: &OidcSubject) -> Option<&Arc<User>> {
        self.user(self.subjects.get(subject)?)
    }

    /// The tenant of this name.
    #[must_use]
    pub fn tenant(&self, name: &TenantName) -> Option<&Arc<Tenant>> {
        self.tenants.get(name)
    }

    /// All tenants, by name; the default one is always there.
    pub fn tenants(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.tenants.values()
    }

    /// The token of this number, an expired one too.
    #[must_use]
    pub fn token(&self, id: &TokenId) -> Option<&Arc<TokenRecord>> {
        self.tokens.get(id)
    }

    /// All tokens, by number, expired ones too.
    pub fn tokens(&self) -> impl Iterator<Item = &Arc<TokenRecord>> {
        self.tokens.values()
    }

    /// What is demanded of people who sign in.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether somebody may do everything everywhere.
    #[must_use]
    pub fn has_full_admin(&self) -> bool {
        self.users().any(|user| user.is_full_admin())
    }

    /// Counts changes of people, tenants, tokens and the policy since the
    /// start; signing in and the use of a token are none.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }
}

impl Store {
    // --- people

    /// Everybody, as of the last committed change.
    #[must_use]
    pub fn people(&self) -> Arc<People> {
        unimplemented!()
    }

    /// [`People::revision`], whenever it rises.
    #[must_use]
    pub fn people_changed(&self) -> watch::Receiver<u64> {
        unimplemented!()
    }

    /// Enters the first person who may do everything. Returns when they are on
    /// the disk; so do all that follow.
    ///
    /// # Errors
    ///
    /// [`Refusal::AlreadySetUp`](crate::Refusal) if there is such a person, and
    /// as [`Store::create_user`].
    pub async fn create_first_admin(
        &self,
        by: &By,
        user: User,
        now: Timestamp,
    ) -> Result<Arc<User>, WriteError> {
        let _ = (by, user, now);
        unimplemented!()
    }

    /// Enters a person. The store sets revision and times.
    ///
    /// # Errors
    ///
    /// Refused with `NameExists`, `CertificateTaken`, `SubjectTaken`,
    /// `NoSuchTenant` (in a binding) or `TooMany`; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn create_user(
        &self,
        by: &By,
        user: User,
        now: Timestamp,
    ) -> Result<Arc<User>, WriteError> {
        let _ = (by, user, now);
        unimplemented!()
    }

    /// Replaces all of a person but their name; only at revision `expected`,
    /// where given. What happens meanwhile is not taken back: the last sign-in
    /// and the last TOTP step (of the same seed) stay where they are later.
    /// Sessions end if the person is no longer active, and a TOTP seed that
    /// nobody uses any more goes.
    ///
    /// # Errors
    ///
    /// As [`Store::create_user`], and `NoSuch`, `RevisionMismatch`,
    /// `LastAdmin`.
    pub async fn replace_user(
        &self,
        by: &By,
        user: User,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<Arc<User>, WriteError> {
        let _ = (by, user, expected, now);
        unimplemented!()
    }

    /// Takes a person away, with their sessions and their TOTP seed.
    ///
    /// # Errors
    ///
    /// Refused with `NoSuch`, `RevisionMismatch` or `LastAdmin`;
    /// [`WriteError::NotWriting`], [`WriteError::Closed`].
    pub async fn delete_user(
        &self,
        by: &By,
        name: &UserName,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        let _ = (by, name, expected, now);
        unimplemented!()
    }

    /// Takes a TOTP step: true once, false if that step or a later one was
    /// taken before. Durable when it returns; no audit line, no new revision.
    ///
    /// # Errors
    ///
    /// Refused with `NoSuch` if there is no such person or they have no TOTP;
    /// [`WriteError::NotWriting`], [`WriteError::Closed`].
    pub async fn take_totp_step(&self, name: &UserName, step: u64) -> Result<bool, WriteError> {
        let _ = (name, step);
        unimplemented!()
    }

    /// Takes a recovery code: true once, false if it is none.
    ///
    /// # Errors
    ///
    /// As [`Store::take_totp_step`].
    pub async fn take_recovery_code(
        &self,
        by: &By,
        name: &UserName,
        code: Digest,
        now: Timestamp,
    ) -> Result<bool, WriteError> {
        let _ = (by, name, code, now);
        unimplemented!()
    }

    /// Keeps when somebody signed in. No audit line, no new revision.
    ///
    /// # Errors
    ///
    /// Refused with `NoSuch`; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn note_login(&self, name: &UserName, now: Timestamp) -> Result<(), WriteError> {
        let _ = (name, now);
        unimplemented!()
    }

    /// Replaces the policy; `expected` is the revision that was seen, 0 at
    /// first.
    ///
    /// # Errors
    ///
    /// Refused with `RevisionMismatch`; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn put_policy(
        &self,
        by: &By,
        policy: Policy,
        expected: u64,
        now: Timestamp,
    ) -> Result<Policy, WriteError> {
        let _ = (by, policy, expected, now);
        unimplemented!()
    }

    // --- tenants

    /// Keeps a tenant, in the place of what had its name. `expected`: 0 if it
    /// has to be new, else the revision that was seen; `None`: whatever is
    /// there. The store sets revision and times.
    ///
    /// # Errors
    ///
    /// Refused with `NameExists`, `NoSuch`, `RevisionMismatch` or `TooMany`;
    /// [`WriteError::NotWriting`], [`WriteError::Closed`].
    pub async fn put_tenant(
        &self,
        by: &By,
        tenant: Tenant,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<Arc<Tenant>, WriteError> {
        let _ = (by, tenant, expected, now);
        unimplemented!()
    }

    /// Takes a tenant away that nothing belongs to. (Deleted devices do not
    /// count: they cannot be restored without their tenant.)
    ///
    /// # Errors
    ///
    /// Refused with `NoSuch`, `RevisionMismatch` or `TenantInUse`, the default
    /// one always; [`WriteError::NotWriting`], [`WriteError::Closed`].
    pub async fn delete_tenant(
        &self,
        by: &By,
        name: &TenantName,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        let _ = (by, name, expected, now);
        unimplemented!()
    }

    // --- tokens

    /// Keeps a new token, and its key if it signs: both or neither. The store
    /// sets the revision.
    ///
    /// # Errors
    ///
    /// Refused with `NameExists` (name or number), `NoSuchTenant`, `NoSuch` (its
    /// secret) or `TooMany`; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn create_token(
        &self,
        by: &By,
        token: TokenRecord,
        secret: Option<SecretRecord>,
        now: Timestamp,
    ) -> Result<Arc<TokenRecord>, WriteError> {
        let _ = (by, token, secret, now);
        unimplemented!()
    }

    /// Replaces all of a token but its number and its last use; only at
    /// revision `expected`, where given.
    ///
    /// # Errors
    ///
    /// As [`Store::create_token`], and `NoSuch`, `RevisionMismatch`.
    pub async fn replace_token(
        &self,
        by: &By,
        token: TokenRecord,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<Arc<TokenRecord>, WriteError> {
        let _ = (by, token, expected, now);
        unimplemented!()
    }

    /// Takes a token away, with its secret `.token/<id>`.
    ///
    /// # Errors
    ///
    /// Refused with `NoSuch` or `RevisionMismatch`; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn delete_token(
        &self,
        by: &By,
        id: &TokenId,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        let _ = (by, id, expected, now);
        unimplemented!()
    }

    /// Keeps that a token was used, with the next commit, and at most once a
    /// minute for each. Never waits.
    pub fn note_token_use(&self, id: &TokenId, from: String, now: Timestamp) {
        let _ = (id, from, now);
        unimplemented!()
    }
}
