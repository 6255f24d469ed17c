//! Signing in with a password, refreshing, signing out.
//!
//! Whoever is wrong hears the same, after the same work: that of one hash. The
//! books of failures are asked before it, and each attempt stands in them as
//! failed until it turns out well.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use model::{
    Actor, AuditOutcome, By, Digest, SessionId, SessionRecord, SignIn, Timestamp, User, UserName,
};
use serde_json::json;
use store::Rotated;
use tokio::time::MissedTickBehavior;

use crate::request::{GIVEN_PASSWORD_LIFE, active, address_key};
use crate::text::digest;
use crate::token::{Refresh, new_session};
use crate::{Access, AccessError, Granted, LogIn, Origin, SecretText, totp};

/// How often idle sessions are looked for.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// The longest that a session lasts that was opened at the OpenID provider. Its
/// groups are read at sign-in only: whoever loses one there keeps the role here
/// until they sign in again. Half a day is one shift.
const LONGEST_FROM_PROVIDER: Duration = Duration::from_hours(12);

/// Characters of what a program says that it is.
const MAX_AGENT: usize = 200;

/// An attempt to prove a password, which stands in the books as failed.
pub(crate) struct Attempt<'a> {
    access: &'a Access,
    account: Digest,
    address: Option<Digest>,
    now: Timestamp,
}

impl<'a> Attempt<'a> {
    /// # Errors
    ///
    /// [`AccessError::TooSoon`] if too many failed before, for this name or from
    /// this address. Where they signed in before, others who try their name do
    /// not hold them up.
    pub(crate) fn begin(
        access: &'a Access,
        name: &str,
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Attempt<'a>, AccessError> {
        let account = digest(&name.to_ascii_lowercase());
        let address = address.map(address_key);
        let too_soon = |wait| {
            count(&access.inner.counts.too_soon);
            AccessError::TooSoon { wait }
        };
        if let Some(address) = address {
            access
                .inner
                .addresses
                .begin(address, now)
                .map_err(too_soon)?;
        }
        let known = |address: &Digest| access.inner.known.has(&account, address, now);
        if address.as_ref().is_some_and(known) {
            access.inner.accounts.begin_at_once(account, now);
        } else if let Err(wait) = access.inner.accounts.begin(account, now) {
            if let Some(address) = &address {
                access.inner.addresses.take_back(address);
            }
            return Err(too_soon(wait));
        }
        Ok(Attempt {
            access,
            account,
            address,
            now,
        })
    }

    /// They proved who they are.
    pub(crate) fn succeeded(self) {
        let inner = &self.access.inner;
        inner.accounts.clear(&self.account);
        if let Some(address) = self.address {
            inner.addresses.take_back(&address);
            inner.known.note(self.account, address, self.now);
        }
    }

    /// Nothing was wrong, but it came to nothing.
    pub(crate) fn undecided(self) {
        self.access.inner.accounts.take_back(&self.account);
        if let Some(address) = &self.address {
            self.access.inner.addresses.take_back(address);
        }
    }
}

impl Access {
    /// Lets somebody in with a password, and a code if they have codes.
    ///
    /// # Errors
    ///
    /// [`AccessError::NotSetUp`]; [`AccessError::Refused`] whatever is wrong;
    /// [`AccessError::CodeNeeded`] if only the code is missing;
    /// [`AccessError::TooSoon`], [`AccessError::TooBusy`] without having looked;
    /// [`AccessError::Store`], [`AccessError::Secrets`].
    pub async fn log_in(
        &self,
        ask: LogIn,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Granted, AccessError> {
        if !self.is_set_up() {
            return Err(AccessError::NotSetUp);
        }
        let attempt = Attempt::begin(self, &ask.user, origin.address, now)?;
        let known = ask.user.parse().ok().and_then(|name| self.user(&name).ok());
        match self.judge(known.as_deref(), &ask, origin, now).await {
            Ok((user, how)) => {
                attempt.succeeded();
                self.grant(user, how, ask.agent, origin, now).await
            }
            Err(error @ AccessError::Refused) => {
                self.count_refused();
                self.note_refused(
                    known.as_deref(),
                    "user, password or code is wrong",
                    origin,
                    now,
                );
                Err(error)
            }
            Err(error) => {
                if matches!(error, AccessError::TooBusy) {
                    count(&self.inner.counts.too_busy);
                }
                // a code that may not even be tried is a failure too
                if !matches!(error, AccessError::TooSoon { .. }) {
                    attempt.undecided();
                }
                Err(error)
            }
        }
    }

    /// Counts an attempt that was wrong.
    pub(crate) fn count_refused(&self) {
        count(&self.inner.counts.refused);
    }

    /// Whether password and code are those of `known`.
    async fn judge(
        &self,
        known: Option<&User>,
        ask: &LogIn,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<(Arc<User>, SignIn), AccessError> {
        let able = known.filter(|user| user.active && !is_stale(user, now));
        let hash = able.and_then(|user| user.password.as_ref());
        let right = self.inner.hasher.verify(&ask.password, hash).await?;
        let (true, Some(user)) = (right, able) else {
            return Err(AccessError::Refused);
        };
        let has_codes = user.totp.as_ref().is_some_and(|totp| totp.confirmed);
        let how = match (
            has_codes,
            ask.code.as_deref().filter(|code| !code.is_empty()),
        ) {
            (false, _) => SignIn::Password,
            (true, None) => return Err(AccessError::CodeNeeded),
            (true, Some(code)) => {
                let by = origin.by(Actor::User(user.name.clone(), SessionId(String::new())));
                self.take_code(&by, user, code, now).await?;
                SignIn::PasswordAndTotp
            }
        };
        self.hash_anew(user, &ask.password, origin, now).await;
        Ok((self.user(&user.name)?, how))
    }

    /// Takes a code of the authenticator or a recovery code, once.
    ///
    /// # Errors
    ///
    /// [`AccessError::Refused`] if it is wrong or was taken before,
    /// [`AccessError::TooSoon`] after too many within a minute.
    pub(crate) async fn take_code(
        &self,
        by: &By,
        user: &User,
        code: &str,
        now: Timestamp,
    ) -> Result<(), AccessError> {
        let Some(record) = &user.totp else {
            return Err(AccessError::TotpIsOff);
        };
        let tried = self.inner.codes.begin(digest(&user.name.0), now);
        tried.map_err(|wait| AccessError::TooSoon { wait })?;
        let taken = if totp::looks_like_a_code(code) {
            let seed = self.inner.secrets.expose_fresh(&record.seed).await?;
            match totp::step_of(&seed, code, now) {
                Some(step) => self.inner.store.take_totp_step(&user.name, step).await?,
                None => false,
            }
        } else {
            let code = totp::recovery_digest(code);
            let known = record.recovery.contains(&code);
            known && self.take_recovery(by, user, code, now).await?
        };
        match taken {
            true => Ok(()),
            false => Err(AccessError::Refused),
        }
    }

    async fn take_recovery(
        &self,
        by: &By,
        user: &User,
        code: Digest,
        now: Timestamp,
    ) -> Result<bool, AccessError> {
        let store = &self.inner.store;
        Ok(store.take_recovery_code(by, &user.name, code, now).await?)
    }

    /// Hashes a password again that was hashed with another cost. Whatever
    /// goes wrong with it: they are let in.
    async fn hash_anew(&self, user: &User, password: &SecretText, origin: &Origin, now: Timestamp) {
        let outdated = |hash| self.inner.hasher.is_outdated(hash);
        if !user.password.as_ref().is_some_and(outdated) {
            return;
        }
        let Ok(hash) = self.inner.hasher.hash(password).await else {
            return;
        };
        // as it is now: a code may have been taken since
        let Ok(current) = self.user(&user.name) else {
            return;
        };
        if current.password != user.password {
            return;
        }
        let by = By {
            origin: origin.to_string(),
            request: origin.request.clone(),
            ..By::system()
        };
        let anew = User {
            password: Some(hash),
            ..(*current).clone()
        };
        let kept = self
            .inner
            .store
            .replace_user(&by, anew, Some(current.revision), now);
        if let Err(error) = kept.await {
            tracing::warn!(user = %user.name, %error, "a password is still kept with its old cost");
        }
    }

    /// Opens a session.
    pub(crate) async fn grant(
        &self,
        user: Arc<User>,
        how: SignIn,
        agent: Option<String>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Granted, AccessError> {
        let (id, refresh) = new_session();
        let session_max = self.live().settings.session_max;
        let lasts = match how {
            SignIn::Oidc => session_max.min(LONGEST_FROM_PROVIDER),
            SignIn::Password | SignIn::PasswordAndTotp => session_max,
        };
        let record = SessionRecord {
            id: id.clone(),
            user: user.name.clone(),
            how,
            origin: origin.to_string(),
            agent: agent.map(|agent| tidy(&agent)),
            created: now,
            used: now,
            expires: now.plus(lasts),
            refresh: digest(refresh.expose()),
            previous: None,
        };
        let record = self.inner.store.create_session(record, now).await?;
        self.inner.store.note_login(&user.name, now).await?;
        count(&self.inner.counts.logins);
        let by = origin.by(Actor::User(user.name.clone(), id.clone()));
        let more = json!({"user": user.name.0, "how": how.word(), "agent": record.agent});
        let object = format!("session:{id}");
        self.note(
            &by,
            "session.create",
            object,
            AuditOutcome::Done,
            Some(more),
            now,
        );
        Ok(self.granted(user, &record, Some(refresh), now))
    }

    fn granted(
        &self,
        user: Arc<User>,
        session: &SessionRecord,
        refresh_token: Option<SecretText>,
        now: Timestamp,
    ) -> Granted {
        let settings = &self.live().settings;
        // no token outlives its session
        let expires_in = settings.access_ttl.min(session.expires.since(now));
        let signer = &self.inner.signer;
        let id = session.id.clone();
        let access_token = signer.sign(&settings.issuer, &user.name, &id, expires_in, now);
        let restricted = self.restriction(&self.inner.store.people(), &user, session);
        Granted {
            access_token,
            expires_in,
            refresh_token,
            session: id,
            user,
            restricted,
        }
    }

    /// Exchanges a refresh token.
    ///
    /// # Errors
    ///
    /// [`AccessError::BadToken`] for what is none, [`AccessError::Revoked`] and
    /// [`AccessError::Expired`] for what was one, [`AccessError::Reused`] for
    /// one that was exchanged before: the session is ended then, as somebody
    /// has a copy. [`AccessError::Store`].
    pub async fn refresh(
        &self,
        token: &str,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Granted, AccessError> {
        let shown = Refresh::parse(token).ok_or(AccessError::BadToken {
            why: "it is no refresh token",
        })?;
        let sessions = self.inner.store.sessions();
        let session = sessions.get(&shown.session).ok_or(AccessError::Revoked)?;
        let user = active(&self.inner.store.people(), session)?;
        let idle = self.live().settings.refresh_idle;
        if session.expires <= now || session.used.plus(idle) <= now {
            self.inner.store.end_sessions(vec![shown.session]).await?;
            return Err(AccessError::Expired);
        }
        let next = shown.next();
        let store = &self.inner.store;
        let exchanged =
            store.rotate_session(&shown.session, shown.digest, digest(next.expose()), now);
        match exchanged.await? {
            Rotated::Done(session) => Ok(self.granted(user, &session, Some(next), now)),
            Rotated::Grace(session) => Ok(self.granted(user, &session, None, now)),
            Rotated::Gone => Err(AccessError::Revoked),
            Rotated::Reused => {
                count(&self.inner.counts.reused);
                self.note_reused(session, origin, now);
                Err(AccessError::Reused)
            }
        }
    }

    fn note_reused(&self, session: &SessionRecord, origin: &Origin, now: Timestamp) {
        let (user, id) = (&session.user, &session.id);
        tracing::warn!(%user, session = %id, %origin, "a refresh token was used twice; its session is ended");
        let why = AuditOutcome::Denied("a refresh token was used twice".to_owned());
        let more = json!({"user": user.0, "opened_from": session.origin});
        let by = crate::nobody(origin);
        self.note(
            &by,
            "session.reuse",
            format!("session:{id}"),
            why,
            Some(more),
            now,
        );
    }

    /// Ends every minute the sessions that were not refreshed for too long;
    /// until it is dropped.
    pub async fn run(&self, clock: fn() -> Timestamp) {
        let mut minutes = tokio::time::interval(SWEEP_EVERY);
        minutes.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            minutes.tick().await;
            if let Err(error) = self.end_idle_sessions(clock()).await {
                tracing::warn!(%error, "idle sessions are not ended yet");
            }
        }
    }

    /// Ends the sessions that were not refreshed for too long; says how many.
    ///
    /// # Errors
    ///
    /// [`AccessError::Store`].
    pub(crate) async fn end_idle_sessions(&self, now: Timestamp) -> Result<usize, AccessError> {
        let idle = self.live().settings.refresh_idle;
        let sessions = self.inner.store.sessions();
        let over = sessions
            .values()
            .filter(|session| session.expires <= now || session.used.plus(idle) <= now)
            .cloned()
            .collect();
        self.end(&By::system(), over, now).await
    }

    /// Ends a session.
    ///
    /// # Errors
    ///
    /// [`AccessError::NotFound`] if there is none, [`AccessError::Store`].
    pub async fn end_session(
        &self,
        by: &By,
        id: &SessionId,
        now: Timestamp,
    ) -> Result<(), AccessError> {
        let sessions = self.inner.store.sessions();
        let ended = self.end(by, sessions.get(id).cloned().into_iter().collect(), now);
        match ended.await? {
            0 => Err(AccessError::NotFound {
                what: format!("session {id}"),
            }),
            _ => Ok(()),
        }
    }

    /// Ends the sessions of a person, but `except`; says how many.
    ///
    /// # Errors
    ///
    /// [`AccessError::Store`].
    pub async fn end_sessions_of(
        &self,
        by: &By,
        user: &UserName,
        except: Option<&SessionId>,
        now: Timestamp,
    ) -> Result<usize, AccessError> {
        let sessions = self.inner.store.sessions();
        let theirs = sessions
            .values()
            .filter(|session| session.user == *user && Some(&session.id) != except)
            .cloned()
            .collect();
        self.end(by, theirs, now).await
    }

    async fn end(
        &self,
        by: &By,
        sessions: Vec<Arc<SessionRecord>>,
        now: Timestamp,
    ) -> Result<usize, AccessError> {
        if sessions.is_empty() {
            return Ok(0);
        }
        let ids: Vec<SessionId> = sessions.iter().map(|session| session.id.clone()).collect();
        let ended = self.inner.store.end_sessions(ids.clone()).await?;
        let mut proved = self
            .inner
            .proved
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for id in &ids {
            proved.remove(id);
        }
        drop(proved);
        for session in sessions.iter().filter(|_| ended > 0) {
            let more = Some(json!({"user": session.user.0}));
            let object = format!("session:{}", session.id);
            self.note(by, "session.end", object, AuditOutcome::Done, more, now);
        }
        Ok(ended)
    }
}

/// Whether their password was made by somebody else, and too long ago.
fn is_stale(user: &User, now: Timestamp) -> bool {
    let since = user.password_changed.unwrap_or(user.created);
    user.must_change_password && now.since(since) > GIVEN_PASSWORD_LIFE
}

/// What a program says that it is, in printable characters and not for ever.
fn tidy(agent: &str) -> String {
    agent
        .chars()
        .filter(|letter| !letter.is_control())
        .take(MAX_AGENT)
        .collect()
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
