//! People, tenants, tokens of services, and the policy for signing in: who
//! there is. What they may do is decided elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{
    Binding, By, Digest, OidcSubject, Policy, Quota, SecretName, SecretRecord, Tenant, TenantName,
    Timestamp, TokenId, TokenProof, TokenRecord, TotpRecord, User, UserName,
};
use redb::ReadTransaction;
use tokio::sync::watch;

use crate::audit::{self, Line};
use crate::book::{Book, Change};
use crate::error::{Answer, Fault, Refusal, WriteError, or_refuse};
use crate::{Store, checks, secrets, sessions, shown, tables};

/// People that can be kept.
pub const MAX_USERS: usize = 10_000;

/// Tenants that can be kept.
pub const MAX_TENANTS: usize = 1_000;

/// Tokens that can be kept.
pub const MAX_TOKENS: usize = 10_000;

/// Bytes of one person, tenant, token or policy as it is kept.
pub const MAX_PERSON_BYTES: usize = 64 * 1024;

/// Everybody at one instant.
#[derive(Clone, Debug)]
pub struct People {
    users: BTreeMap<UserName, Arc<User>>,
    certificates: BTreeMap<String, UserName>,
    subjects: BTreeMap<OidcSubject, UserName>,
    full_admins: usize,
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
        self.full_admins > 0
    }

    /// Counts changes of people, tenants, tokens and the policy since the
    /// start; signing in and the use of a token are none.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Reads everybody, counting the rows.
    pub(crate) fn load(txn: &ReadTransaction) -> Result<People, Fault> {
        let mut people = People {
            users: BTreeMap::new(),
            certificates: BTreeMap::new(),
            subjects: BTreeMap::new(),
            full_admins: 0,
            tenants: BTreeMap::new(),
            tokens: BTreeMap::new(),
            policy: Policy::default(),
            revision: 0,
        };
        let always = default_tenant();
        people.tenants.insert(always.name.clone(), Arc::new(always));
        tables::USER.load(txn, |_, user| people.insert(Arc::new(user)))?;
        tables::TENANT.load(txn, |_, tenant| {
            people.tenants.insert(tenant.name.clone(), Arc::new(tenant));
        })?;
        tables::TOKEN.load(txn, |_, token| {
            people.tokens.insert(token.id.clone(), Arc::new(token));
        })?;
        tables::POLICY.load(txn, |_, policy| people.policy = policy)?;
        Ok(people)
    }

    /// The same, as something that changed.
    pub(crate) fn changed_since(&self, before: &People) -> People {
        People {
            revision: before.revision + 1,
            ..self.clone()
        }
    }

    fn insert(&mut self, user: Arc<User>) {
        self.remove(&user.name);
        if let Some(subject) = &user.certificate {
            self.certificates.insert(subject.clone(), user.name.clone());
        }
        if let Some(subject) = &user.oidc {
            self.subjects.insert(subject.clone(), user.name.clone());
        }
        self.full_admins += usize::from(user.is_full_admin());
        self.users.insert(user.name.clone(), user);
    }

    fn remove(&mut self, name: &UserName) {
        let Some(user) = self.users.remove(name) else {
            return;
        };
        self.full_admins -= usize::from(user.is_full_admin());
        if let Some(subject) = &user.certificate {
            self.certificates.remove(subject);
        }
        if let Some(subject) = &user.oidc {
            self.subjects.remove(subject);
        }
    }
}

/// The tenant that is always there, as long as nobody changed it.
fn default_tenant() -> Tenant {
    Tenant {
        name: TenantName::default_tenant(),
        note: None,
        quota: Quota::default(),
        created: Timestamp(0),
        updated: Timestamp(0),
        revision: 1,
    }
}

impl Store {
    // --- people

    /// Everybody, as of the last committed change.
    #[must_use]
    pub fn people(&self) -> Arc<People> {
        self.shared.book().people.clone()
    }

    /// [`People::revision`], whenever it rises.
    #[must_use]
    pub fn people_changed(&self) -> watch::Receiver<u64> {
        self.shared.people.subscribe()
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
        let by = by.clone();
        self.write(move |change| create_first_admin(change, &by, &user, now))
            .await
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
        let by = by.clone();
        self.write(move |change| create_user(change, &by, &user, now))
            .await
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
        let by = by.clone();
        self.write(move |change| replace_user(change, &by, &user, expected, now))
            .await
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
        let (by, name) = (by.clone(), name.clone());
        self.write(move |change| delete_user(change, &by, &name, expected, now))
            .await
    }

    /// Takes a TOTP step: true once, false if that step or a later one was
    /// taken before. Durable when it returns; no audit line, no new revision.
    ///
    /// # Errors
    ///
    /// Refused with `NoSuch` if there is no such person or they have no TOTP;
    /// [`WriteError::NotWriting`], [`WriteError::Closed`].
    pub async fn take_totp_step(&self, name: &UserName, step: u64) -> Result<bool, WriteError> {
        let name = name.clone();
        self.write(move |change| take_totp_step(change, &name, step))
            .await
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
        let (by, name) = (by.clone(), name.clone());
        self.write(move |change| take_recovery_code(change, &by, &name, code, now))
            .await
    }

    /// Keeps when somebody signed in. No audit line, no new revision.
    ///
    /// # Errors
    ///
    /// Refused with `NoSuch`; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn note_login(&self, name: &UserName, now: Timestamp) -> Result<(), WriteError> {
        let name = name.clone();
        self.write(move |change| note_login(change, &name, now))
            .await
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
        let by = by.clone();
        self.write(move |change| put_policy(change, &by, &policy, expected, now))
            .await
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
        let by = by.clone();
        self.write(move |change| put_tenant(change, &by, &tenant, expected, now))
            .await
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
        let (by, name) = (by.clone(), name.clone());
        self.write(move |change| delete_tenant(change, &by, &name, expected, now))
            .await
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
        let by = by.clone();
        self.write(move |change| create_token(change, &by, &token, secret.as_ref(), now))
            .await
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
        let by = by.clone();
        self.write(move |change| replace_token(change, &by, &token, expected, now))
            .await
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
        let (by, id) = (by.clone(), id.clone());
        self.write(move |change| delete_token(change, &by, &id, expected, now))
            .await
    }

    /// Keeps that a token was used, with the next commit, and at most once a
    /// minute for each. Never waits.
    pub fn note_token_use(&self, id: &TokenId, from: String, now: Timestamp) {
        let known = self.people();
        let Some(token) = known.token(id) else {
            return;
        };
        if is_news(token.last_used.as_ref(), now) {
            self.shared.queue.push_token_use(id.clone(), now, from);
        }
    }
}

/// Uses of a token that are closer together than this are one.
const TOKEN_USE_EXACT: Duration = Duration::from_secs(60);

fn is_news(before: Option<&(Timestamp, String)>, now: Timestamp) -> bool {
    // a clock that was set back makes it news too
    before.is_none_or(|(at, _)| *at > now || now.since(*at) >= TOKEN_USE_EXACT)
}

/// Writes down when tokens were used, for those that are still there.
pub(crate) fn keep_token_uses<'u>(
    change: &mut Change<'_>,
    uses: impl Iterator<Item = (&'u TokenId, &'u (Timestamp, String))>,
) -> Result<(), Fault> {
    for (id, used) in uses {
        let Some(token) = change.book.people.token(id) else {
            continue;
        };
        let token = TokenRecord {
            last_used: Some(used.clone()),
            ..TokenRecord::clone(token)
        };
        tables::TOKEN.put(change.txn, id.0.as_str(), &token)?;
        let people = Arc::make_mut(&mut change.book.people);
        people.tokens.insert(id.clone(), Arc::new(token));
    }
    Ok(())
}

/// People as they can be changed, which is counted.
fn touch<'c>(change: &'c mut Change<'_>) -> &'c mut People {
    let people = Arc::make_mut(&mut change.book.people);
    people.revision += 1;
    people
}

// --- people

fn create_first_admin(
    change: &mut Change<'_>,
    by: &By,
    user: &User,
    now: Timestamp,
) -> Answer<Arc<User>> {
    if change.book.people.has_full_admin() {
        return Ok(Err(Refusal::AlreadySetUp));
    }
    enter(change, by, "setup.admin", user, now)
}

fn create_user(change: &mut Change<'_>, by: &By, user: &User, now: Timestamp) -> Answer<Arc<User>> {
    enter(change, by, "user.create", user, now)
}

fn enter(
    change: &mut Change<'_>,
    by: &By,
    action: &'static str,
    user: &User,
    now: Timestamp,
) -> Answer<Arc<User>> {
    let people = &change.book.people;
    let known = people.user(&user.name).map(|known| known.revision);
    or_refuse!(checks::expected("user", &user.name.0, known, Some(0)));
    or_refuse!(checks::room("users", people.users.len(), MAX_USERS));
    or_refuse!(check_user(people, user));
    let user = User {
        created: now,
        updated: now,
        revision: 1,
        ..user.clone()
    };
    let line = Line::on(action, &user_object(&user.name)).after(shown::user(&user));
    audit::append(change, by, now, line)?;
    keep_user(change, user).map(Ok)
}

fn user_object(name: &UserName) -> String {
    format!("user:{name}")
}

fn keep_user(change: &mut Change<'_>, user: User) -> Result<Arc<User>, Fault> {
    tables::USER.put(change.txn, user.name.0.as_str(), &user)?;
    let user = Arc::new(user);
    touch(change).insert(user.clone());
    Ok(user)
}

fn check_user(people: &People, user: &User) -> Result<(), Refusal> {
    if user.name.0.parse::<UserName>().as_ref() != Ok(&user.name) {
        return Err(Refusal::BadName {
            what: "user",
            name: user.name.0.clone(),
            why: "it has to be 1 to 64 lower-case letters, digits and any of . _ - + @",
        });
    }
    let another = |found: Option<&Arc<User>>| found.filter(|by| by.name != user.name).cloned();
    if let Some(subject) = &user.certificate
        && let Some(by) = another(people.user_by_certificate(subject))
    {
        return Err(Refusal::CertificateTaken {
            certificate: subject.clone(),
            by: by.name.0.clone(),
        });
    }
    if let Some(subject) = &user.oidc
        && let Some(by) = another(people.user_by_oidc(subject))
    {
        return Err(Refusal::SubjectTaken {
            subject: subject.subject.clone(),
            by: by.name.0.clone(),
        });
    }
    check_bindings(people, &user.bindings)?;
    checks::size("bytes in one user", user, MAX_PERSON_BYTES)
}

fn check_bindings(people: &People, bindings: &[Binding]) -> Result<(), Refusal> {
    let tenants = bindings
        .iter()
        .filter_map(|binding| binding.scope.tenant.as_ref());
    tenants
        .into_iter()
        .try_for_each(|tenant| checks::tenant(people, tenant))
}

fn known_user(
    people: &People,
    name: &UserName,
    expected: Option<u64>,
) -> Result<Arc<User>, Refusal> {
    let Some(user) = people.user(name) else {
        return Err(Refusal::NoSuch {
            what: "user",
            name: name.0.clone(),
        });
    };
    checks::expected("user", &name.0, Some(user.revision), expected)?;
    Ok(user.clone())
}

/// Whether somebody else could still do everything.
fn check_not_last(people: &People, name: &UserName, after: Option<&User>) -> Result<(), Refusal> {
    let others = people.users().filter(|user| user.name != *name);
    let left = others.map(|user| user.as_ref()).chain(after);
    let mut left = left.filter(|user| user.is_full_admin());
    match people.has_full_admin() && left.next().is_none() {
        true => Err(Refusal::LastAdmin),
        false => Ok(()),
    }
}

fn replace_user(
    change: &mut Change<'_>,
    by: &By,
    user: &User,
    expected: Option<u64>,
    now: Timestamp,
) -> Answer<Arc<User>> {
    let people = &change.book.people;
    let before = or_refuse!(known_user(people, &user.name, expected));
    or_refuse!(check_not_last(people, &user.name, Some(user)));
    or_refuse!(check_user(people, user));
    let user = User {
        created: before.created,
        updated: now,
        last_login: before.last_login.max(user.last_login),
        totp: later_totp(before.totp.as_ref(), user.totp.as_ref()),
        revision: before.revision + 1,
        ..user.clone()
    };
    let line = Line::on("user.change", &user_object(&user.name))
        .before(shown::user(&before))
        .after(shown::user(&user));
    audit::append(change, by, now, line)?;
    if !user.active {
        sessions::end_of(change, &user.name)?;
    }
    let user = keep_user(change, user)?;
    forget_seed(change, by, &before, now)?;
    Ok(Ok(user))
}

/// `after`, with the later step of both: a step is not given back by who saw
/// the person before it was taken.
fn later_totp(before: Option<&TotpRecord>, after: Option<&TotpRecord>) -> Option<TotpRecord> {
    let mut totp = after?.clone();
    let same = before.filter(|before| before.seed == totp.seed);
    totp.last_step = totp
        .last_step
        .max(same.map_or(0, |before| before.last_step));
    Some(totp)
}

/// Takes the TOTP seed that `before` had away, if nobody has it now.
fn forget_seed(
    change: &mut Change<'_>,
    by: &By,
    before: &User,
    now: Timestamp,
) -> Result<(), Fault> {
    match &before.totp {
        Some(totp) if totp.seed.is_internal() => {
            secrets::forget_unused(change, by, &totp.seed, now)
        }
        _ => Ok(()),
    }
}

fn delete_user(
    change: &mut Change<'_>,
    by: &By,
    name: &UserName,
    expected: Option<u64>,
    now: Timestamp,
) -> Answer<()> {
    let people = &change.book.people;
    let before = or_refuse!(known_user(people, name, expected));
    or_refuse!(check_not_last(people, name, None));
    let line = Line::on("user.delete", &user_object(name)).before(shown::user(&before));
    audit::append(change, by, now, line)?;
    tables::USER.remove(change.txn, name.0.as_str())?;
    touch(change).remove(name);
    sessions::end_of(change, name)?;
    forget_seed(change, by, &before, now)?;
    Ok(Ok(()))
}

/// Changes a person without counting that as a change.
fn amend(
    change: &mut Change<'_>,
    name: &UserName,
    amend: impl FnOnce(&mut User),
) -> Result<(), Fault> {
    let Some(known) = change.book.people.user(name) else {
        return Ok(());
    };
    let mut user = User::clone(known);
    amend(&mut user);
    tables::USER.put(change.txn, name.0.as_str(), &user)?;
    Arc::make_mut(&mut change.book.people).insert(Arc::new(user));
    Ok(())
}

fn known_totp(people: &People, name: &UserName) -> Result<TotpRecord, Refusal> {
    let totp = people.user(name).and_then(|user| user.totp.clone());
    totp.ok_or_else(|| Refusal::NoSuch {
        what: "user with TOTP",
        name: name.0.clone(),
    })
}

fn take_totp_step(change: &mut Change<'_>, name: &UserName, step: u64) -> Answer<bool> {
    let totp = or_refuse!(known_totp(&change.book.people, name));
    if step <= totp.last_step {
        return Ok(Ok(false));
    }
    amend(change, name, |user| {
        if let Some(totp) = &mut user.totp {
            totp.last_step = step;
        }
    })?;
    Ok(Ok(true))
}

fn take_recovery_code(
    change: &mut Change<'_>,
    by: &By,
    name: &UserName,
    code: Digest,
    now: Timestamp,
) -> Answer<bool> {
    let mut totp = or_refuse!(known_totp(&change.book.people, name));
    let before = or_refuse!(known_user(&change.book.people, name, None));
    let Some(place) = totp.recovery.iter().position(|left| *left == code) else {
        return Ok(Ok(false));
    };
    totp.recovery.remove(place);
    let user = User {
        totp: Some(totp),
        updated: now,
        revision: before.revision + 1,
        ..User::clone(&before)
    };
    let line = Line::on("user.change", &user_object(name))
        .before(shown::user(&before))
        .after(shown::user(&user));
    audit::append(change, by, now, line)?;
    keep_user(change, user)?;
    Ok(Ok(true))
}

fn note_login(change: &mut Change<'_>, name: &UserName, now: Timestamp) -> Answer<()> {
    or_refuse!(known_user(&change.book.people, name, None));
    amend(change, name, |user| user.last_login = Some(now))?;
    Ok(Ok(()))
}

fn put_policy(
    change: &mut Change<'_>,
    by: &By,
    policy: &Policy,
    expected: u64,
    now: Timestamp,
) -> Answer<Policy> {
    let before = change.book.people.policy.clone();
    if expected != before.revision {
        let found = before.revision;
        return Ok(Err(Refusal::RevisionMismatch { expected, found }));
    }
    let policy = Policy {
        revision: before.revision + 1,
        ..policy.clone()
    };
    let line = Line::on("policy.change", "policy:sign-in")
        .before(shown::policy(&before))
        .after(shown::policy(&policy));
    audit::append(change, by, now, line)?;
    tables::POLICY.put(change.txn, tables::ONLY, &policy)?;
    touch(change).policy = policy.clone();
    Ok(Ok(policy))
}

// --- tenants

fn put_tenant(
    change: &mut Change<'_>,
    by: &By,
    tenant: &Tenant,
    expected: Option<u64>,
    now: Timestamp,
) -> Answer<Arc<Tenant>> {
    let before = change.book.people.tenant(&tenant.name).cloned();
    or_refuse!(check_tenant(
        &change.book.people,
        tenant,
        before.as_deref(),
        expected
    ));
    let revision = before.as_ref().map_or(0, |before| before.revision);
    let tenant = Tenant {
        created: before.as_ref().map_or(now, |before| before.created),
        updated: now,
        revision: revision + 1,
        ..tenant.clone()
    };
    let line = Line::put("tenant", &tenant.name.0, before.map(|b| shown::tenant(&b)))
        .after(shown::tenant(&tenant));
    audit::append(change, by, now, line)?;
    tables::TENANT.put(change.txn, tenant.name.0.as_str(), &tenant)?;
    let tenant = Arc::new(tenant);
    touch(change)
        .tenants
        .insert(tenant.name.clone(), tenant.clone());
    Ok(Ok(tenant))
}

fn check_tenant(
    people: &People,
    tenant: &Tenant,
    before: Option<&Tenant>,
    expected: Option<u64>,
) -> Result<(), Refusal> {
    let name = &tenant.name;
    if name.0.parse::<TenantName>().as_ref() != Ok(name) {
        return Err(Refusal::BadName {
            what: "tenant",
            name: name.0.clone(),
            why: "it has to be 1 to 32 lower-case letters, digits and hyphens, a letter first",
        });
    }
    let found = before.map(|before| before.revision);
    checks::expected("tenant", &name.0, found, expected)?;
    if before.is_none() {
        checks::room("tenants", people.tenants.len(), MAX_TENANTS)?;
    }
    checks::size("bytes in one tenant", tenant, MAX_PERSON_BYTES)
}

fn delete_tenant(
    change: &mut Change<'_>,
    by: &By,
    name: &TenantName,
    expected: Option<u64>,
    now: Timestamp,
) -> Answer<()> {
    let Some(before) = change.book.people.tenant(name).cloned() else {
        return Ok(Err(Refusal::NoSuchTenant { name: name.clone() }));
    };
    let revision = Some(before.revision);
    or_refuse!(checks::expected("tenant", &name.0, revision, expected));
    if name.is_default() {
        return Ok(Err(Refusal::DefaultTenant));
    }
    let holders = holders(&change.book, name);
    if !holders.is_empty() {
        let name = name.clone();
        return Ok(Err(Refusal::TenantInUse { name, holders }));
    }
    let line = Line::on("tenant.delete", &format!("tenant:{name}")).before(shown::tenant(&before));
    audit::append(change, by, now, line)?;
    tables::TENANT.remove(change.txn, name.0.as_str())?;
    touch(change).tenants.remove(name);
    Ok(Ok(()))
}

/// What belongs to a tenant.
fn holders(book: &Book, name: &TenantName) -> Vec<String> {
    let its = |qualified: &str| TenantName::of(qualified) == *name;
    let bound = |bindings: &[Binding]| {
        let mut tenants = bindings.iter().map(|binding| binding.scope.tenant.as_ref());
        tenants.any(|tenant| tenant == Some(name))
    };
    let mut found = Vec::new();
    match book.inventory.count_of(name) {
        0 => {}
        1 => found.push("1 device".to_owned()),
        count => found.push(format!("{count} devices")),
    }
    let rules = book.rules.keys().filter(|rule| its(&rule.0));
    found.extend(rules.map(|rule| format!("rule:{rule}")));
    let credentials = book.credentials.keys().filter(|kept| its(&kept.0));
    found.extend(credentials.map(|kept| format!("credential:{kept}")));
    let secrets = book.secrets.keys().filter(|secret| its(&secret.0));
    found.extend(secrets.map(|secret| format!("secret:{secret}")));
    let tokens = book.people.tokens();
    let tokens = tokens.filter(|token| its(&token.name) || bound(&token.bindings));
    found.extend(tokens.map(|token| format!("token:{}", token.name)));
    let users = book.people.users().filter(|user| bound(&user.bindings));
    found.extend(users.map(|user| user_object(&user.name)));
    found
}

// --- tokens

/// The secret that belongs to a token alone.
fn own_secret(id: &TokenId) -> SecretName {
    SecretName(format!(".token/{id}"))
}

fn token_line(action: &'static str, token: &TokenRecord) -> Line {
    let tenant = TenantName::of(&token.name);
    Line::on(action, &format!("token:{}", token.name)).of(Some(tenant))
}

fn check_token(
    book: &Book,
    token: &TokenRecord,
    brought: Option<&SecretName>,
) -> Result<(), Refusal> {
    let people = &book.people;
    checks::qualified(people, "token", &token.name)?;
    let mut others = people.tokens().filter(|other| other.id != token.id);
    if others.any(|other| other.name == token.name) {
        return Err(Refusal::NameExists {
            what: "token",
            name: token.name.clone(),
        });
    }
    if let TokenProof::Hmac(secret) = &token.proof
        && brought != Some(secret)
        && !book.secrets.contains_key(secret)
    {
        return Err(Refusal::NoSuch {
            what: "secret",
            name: secret.0.clone(),
        });
    }
    check_bindings(people, &token.bindings)?;
    checks::size("bytes in one token", token, MAX_PERSON_BYTES)
}

fn create_token(
    change: &mut Change<'_>,
    by: &By,
    token: &TokenRecord,
    secret: Option<&SecretRecord>,
    now: Timestamp,
) -> Answer<Arc<TokenRecord>> {
    let people = &change.book.people;
    let known = people.token(&token.id).map(|known| known.revision);
    or_refuse!(checks::expected("token", &token.id.0, known, Some(0)));
    or_refuse!(checks::room("tokens", people.tokens.len(), MAX_TOKENS));
    or_refuse!(check_token(
        &change.book,
        token,
        secret.map(|secret| &secret.name)
    ));
    let secret =
        secret.map(|secret| secrets::plan(&change.book, secret, Some(secret.revision), now));
    let secret = or_refuse!(secret.transpose());
    let token = TokenRecord {
        created: now,
        last_used: None,
        revision: 1,
        ..token.clone()
    };
    let line = token_line("token.create", &token).after(shown::token(&token));
    audit::append(change, by, now, line)?;
    if let Some(secret) = secret {
        secrets::keep(change, by, secret, now)?;
    }
    keep_token(change, token).map(Ok)
}

fn keep_token(change: &mut Change<'_>, token: TokenRecord) -> Result<Arc<TokenRecord>, Fault> {
    tables::TOKEN.put(change.txn, token.id.0.as_str(), &token)?;
    let token = Arc::new(token);
    touch(change).tokens.insert(token.id.clone(), token.clone());
    Ok(token)
}

fn known_token(
    people: &People,
    id: &TokenId,
    expected: Option<u64>,
) -> Result<Arc<TokenRecord>, Refusal> {
    let Some(token) = people.token(id) else {
        return Err(Refusal::NoSuch {
            what: "token",
            name: id.0.clone(),
        });
    };
    checks::expected("token", &id.0, Some(token.revision), expected)?;
    Ok(token.clone())
}

fn replace_token(
    change: &mut Change<'_>,
    by: &By,
    token: &TokenRecord,
    expected: Option<u64>,
    now: Timestamp,
) -> Answer<Arc<TokenRecord>> {
    let before = or_refuse!(known_token(&change.book.people, &token.id, expected));
    or_refuse!(check_token(&change.book, token, None));
    let token = TokenRecord {
        created: before.created,
        last_used: before.last_used.clone(),
        revision: before.revision + 1,
        ..token.clone()
    };
    let line = token_line("token.change", &token)
        .before(shown::token(&before))
        .after(shown::token(&token));
    audit::append(change, by, now, line)?;
    keep_token(change, token).map(Ok)
}

fn delete_token(
    change: &mut Change<'_>,
    by: &By,
    id: &TokenId,
    expected: Option<u64>,
    now: Timestamp,
) -> Answer<()> {
    let before = or_refuse!(known_token(&change.book.people, id, expected));
    let line = token_line("token.delete", &before).before(shown::token(&before));
    audit::append(change, by, now, line)?;
    tables::TOKEN.remove(change.txn, id.0.as_str())?;
    touch(change).tokens.remove(id);
    secrets::forget_unused(change, by, &own_secret(id), now)?;
    Ok(Ok(()))
}
