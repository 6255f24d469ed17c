//! What people and administrators change of how somebody signs in.
//!
//! Whenever a password or codes change, the other sessions of that person end.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use model::{
    AuditOutcome, By, SecretName, SessionId, SignIn, Timestamp, TotpRecord, User, UserName,
};
use store::{Refusal, WriteError};

use crate::session::Attempt;
use crate::text::digest;
use crate::{Access, AccessError, Caller, Restriction, SecretText, TotpOffer, password, totp};

/// For how long a password that was said at signing in need not be said again.
const JUST_NOW: Duration = Duration::from_mins(10);

impl Access {
    /// Enters a person; `password`: what they sign in with, which is hashed
    /// into `user.password`. Who made it is who knows it: set
    /// `must_change_password` for somebody else's.
    ///
    /// # Errors
    ///
    /// [`AccessError::WeakPassword`], [`AccessError::TooBusy`],
    /// [`AccessError::Store`].
    pub async fn create_user(
        &self,
        by: &By,
        mut user: User,
        password: Option<&str>,
        now: Timestamp,
    ) -> Result<Arc<User>, AccessError> {
        if let Some(password) = password {
            self.check_new(password, &names_of(&user))?;
            let password = SecretText::new(password.to_owned());
            user.password = Some(self.inner.hasher.hash(&password).await?);
            user.password_changed = Some(now);
        }
        Ok(self.inner.store.create_user(by, user, now).await?)
    }

    /// Changes the caller's own password; their other sessions end.
    ///
    /// # Errors
    ///
    /// [`AccessError::Refused`] if the old one is wrong,
    /// [`AccessError::TooSoon`] after five within a minute,
    /// [`AccessError::WeakPassword`], [`AccessError::TooBusy`],
    /// [`AccessError::NotAllowed`] for who is no person,
    /// [`AccessError::Store`].
    pub async fn change_password(
        &self,
        caller: &Caller,
        old: &str,
        new: &str,
        now: Timestamp,
    ) -> Result<(), AccessError> {
        let user = self.own_user(caller)?;
        self.check_own_password(&user, old, now).await?;
        if old == new {
            return Err(AccessError::WeakPassword {
                why: "it is the one that you have".to_owned(),
            });
        }
        self.check_new(new, &names_of(&user))?;
        let new = SecretText::new(new.to_owned());
        let changed = User {
            password: Some(self.inner.hasher.hash(&new).await?),
            password_changed: Some(now),
            must_change_password: false,
            ..(*user).clone()
        };
        let by = caller.own_by();
        let store = &self.inner.store;
        store
            .replace_user(&by, changed, Some(user.revision), now)
            .await?;
        self.note_change(&by, "user.password", &user.name, now);
        self.end_sessions_of(&by, &user.name, caller.session.as_ref(), now)
            .await?;
        Ok(())
    }

    /// Gives a person a password for once, good for seven days; their sessions
    /// end. Their codes stay. `expected`: the revision at which the caller was
    /// found to be allowed to; `None`: whatever they are.
    ///
    /// # Errors
    ///
    /// [`AccessError::NotFound`], [`AccessError::TooBusy`],
    /// [`AccessError::Store`], with [`Refusal::RevisionMismatch`] if the person
    /// is at another revision.
    pub async fn reset_password(
        &self,
        by: &By,
        user: &UserName,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<SecretText, AccessError> {
        let password = password::make_password();
        self.user_at(user, expected)?;
        let hash = self.inner.hasher.hash(&password).await?;
        // as it is now: hashing takes a while
        let user = self.user_at(user, expected)?;
        let changed = User {
            password: Some(hash),
            password_changed: Some(now),
            must_change_password: true,
            ..(*user).clone()
        };
        let store = &self.inner.store;
        store
            .replace_user(by, changed, Some(user.revision), now)
            .await?;
        self.note_change(by, "user.password-reset", &user.name, now);
        self.end_sessions_of(by, &user.name, None, now).await?;
        // what others tried before does not keep them out now
        self.inner.accounts.clear(&digest(&user.name.0));
        Ok(password)
    }

    /// Begins to set up the caller's authenticator. Codes are not demanded
    /// before [`Access::confirm_totp`].
    ///
    /// Whoever has a password says it again, so that a borrowed session is not
    /// enough to lock its person out. They need not where codes are demanded of
    /// them before anything else and they said it within the last ten minutes.
    /// A wrong one counts as at signing in.
    ///
    /// # Errors
    ///
    /// [`AccessError::Refused`] if the password is wrong,
    /// [`AccessError::TooSoon`], [`AccessError::TooBusy`] without having looked;
    /// [`AccessError::NotAllowed`] if it is missing, or for who is no person;
    /// [`AccessError::TotpIsOn`], [`AccessError::Store`],
    /// [`AccessError::Secrets`].
    pub async fn begin_totp(
        &self,
        caller: &Caller,
        password: Option<&str>,
        now: Timestamp,
    ) -> Result<TotpOffer, AccessError> {
        let user = self.own_user(caller)?;
        if user.totp.as_ref().is_some_and(|totp| totp.confirmed) {
            return Err(AccessError::TotpIsOn);
        }
        if user.password.is_some() && !self.said_it_just_now(caller, now) {
            let password = password.ok_or_else(|| AccessError::NotAllowed {
                what: "to set up an authenticator, say your password too".to_owned(),
            })?;
            self.prove_password(caller, &user, password, now).await?;
        }
        let by = caller.own_by();
        let name = SecretName(format!(".totp/{}", user.name));
        let seed = totp::new_seed();
        let offer = totp::offer(&seed, &user.name, host_of(&self.live().settings.issuer))?;
        let secrets = &self.inner.secrets;
        secrets
            .put(&by, name.clone(), seed, None, None, now)
            .await?;
        let changed = User {
            totp: Some(TotpRecord {
                seed: name,
                confirmed: false,
                last_step: 0,
                recovery: Vec::new(),
            }),
            ..(*user).clone()
        };
        let store = &self.inner.store;
        store
            .replace_user(&by, changed, Some(user.revision), now)
            .await?;
        Ok(offer)
    }

    /// Turns codes on, after a first one that is right; gives ten recovery
    /// codes, and ends their other sessions. Where they are on: proves the
    /// second factor for this session, and gives none.
    ///
    /// # Errors
    ///
    /// [`AccessError::Refused`] if the code is wrong, [`AccessError::TooSoon`]
    /// after five within a minute, [`AccessError::TotpIsOff`] if nothing was
    /// begun, [`AccessError::Store`], [`AccessError::Secrets`].
    pub async fn confirm_totp(
        &self,
        caller: &Caller,
        code: &str,
        now: Timestamp,
    ) -> Result<Vec<SecretText>, AccessError> {
        let user = self.own_user(caller)?;
        let by = caller.own_by();
        self.take_code(&by, &user, code, now).await?;
        // as it is now, with the step just taken
        let user = self.user(&user.name)?;
        let record = user.totp.clone().ok_or(AccessError::TotpIsOff)?;
        let was_on = record.confirmed;
        let mut shown = Vec::new();
        if !was_on {
            let (codes, kept) = totp::new_recovery_codes();
            let changed = User {
                totp: Some(TotpRecord {
                    confirmed: true,
                    recovery: kept,
                    ..record
                }),
                ..(*user).clone()
            };
            let store = &self.inner.store;
            store
                .replace_user(&by, changed, Some(user.revision), now)
                .await?;
            self.note_change(&by, "user.totp-on", &user.name, now);
            self.end_sessions_of(&by, &user.name, caller.session.as_ref(), now)
                .await?;
            shown = codes;
        }
        if let Some(session) = &caller.session {
            self.prove(session);
        }
        Ok(shown)
    }

    /// Turns the caller's own codes off, by their password; their other
    /// sessions end.
    ///
    /// # Errors
    ///
    /// [`AccessError::Refused`] if the password is wrong,
    /// [`AccessError::TooSoon`], [`AccessError::TooBusy`],
    /// [`AccessError::TotpIsOff`], [`AccessError::Store`].
    pub async fn remove_own_totp(
        &self,
        caller: &Caller,
        password: &str,
        now: Timestamp,
    ) -> Result<(), AccessError> {
        let user = self.own_user(caller)?;
        self.check_own_password(&user, password, now).await?;
        let except = caller.session.as_ref();
        self.turn_totp_off(&caller.own_by(), &user, except, now)
            .await
    }

    /// Turns a person's codes off; their sessions end. `expected` as in
    /// [`Access::reset_password`].
    ///
    /// # Errors
    ///
    /// [`AccessError::NotFound`], [`AccessError::TotpIsOff`],
    /// [`AccessError::Store`], with [`Refusal::RevisionMismatch`] if the person
    /// is at another revision.
    pub async fn remove_totp(
        &self,
        by: &By,
        user: &UserName,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<(), AccessError> {
        let user = self.user_at(user, expected)?;
        self.turn_totp_off(by, &user, None, now).await
    }

    async fn turn_totp_off(
        &self,
        by: &By,
        user: &User,
        except: Option<&SessionId>,
        now: Timestamp,
    ) -> Result<(), AccessError> {
        if user.totp.is_none() {
            return Err(AccessError::TotpIsOff);
        }
        let changed = User {
            totp: None,
            ..user.clone()
        };
        let store = &self.inner.store;
        store
            .replace_user(by, changed, Some(user.revision), now)
            .await?;
        self.note_change(by, "user.totp-off", &user.name, now);
        self.end_sessions_of(by, &user.name, except, now).await?;
        Ok(())
    }

    /// Who is signed in, as they are now.
    fn own_user(&self, caller: &Caller) -> Result<Arc<User>, AccessError> {
        let user = caller
            .user
            .as_ref()
            .ok_or_else(|| AccessError::NotAllowed {
                what: "only people have a password and codes; sign in as one".to_owned(),
            })?;
        self.user(&user.name)
    }

    /// The person, if nobody changed them since `expected`.
    fn user_at(&self, name: &UserName, expected: Option<u64>) -> Result<Arc<User>, AccessError> {
        let user = self.user(name)?;
        match expected.filter(|expected| *expected != user.revision) {
            None => Ok(user),
            Some(expected) => {
                let found = user.revision;
                let changed = Refusal::RevisionMismatch { expected, found };
                Err(AccessError::Store(WriteError::Refused(changed)))
            }
        }
    }

    /// Whether they signed in with their password a moment ago, and have to set
    /// codes up.
    fn said_it_just_now(&self, caller: &Caller, now: Timestamp) -> bool {
        let sessions = self.inner.store.sessions();
        let session = caller.session.as_ref().and_then(|id| sessions.get(id));
        caller.restricted == Some(Restriction::MustEnrolTotp)
            && session.is_some_and(|session| {
                session.how != SignIn::Oidc && now.since(session.created) < JUST_NOW
            })
    }

    /// Whether `password` is theirs; an attempt as at signing in.
    async fn prove_password(
        &self,
        caller: &Caller,
        user: &User,
        password: &str,
        now: Timestamp,
    ) -> Result<(), AccessError> {
        let origin = caller.origin();
        let attempt = Attempt::begin(self, &user.name.0, origin.address, now)?;
        let password = SecretText::new(password.to_owned());
        let hasher = &self.inner.hasher;
        match hasher.verify(&password, user.password.as_ref()).await {
            Ok(true) => {
                attempt.succeeded();
                Ok(())
            }
            Ok(false) => {
                self.count_refused();
                self.note_refused(Some(user), "the password is wrong", &origin, now);
                Err(AccessError::Refused)
            }
            Err(error) => {
                attempt.undecided();
                Err(error)
            }
        }
    }

    /// Of people who are in already: what others fail at signing in does not
    /// stand in their way.
    async fn check_own_password(
        &self,
        user: &User,
        password: &str,
        now: Timestamp,
    ) -> Result<(), AccessError> {
        let tried = digest(&format!("password of {}", user.name));
        let tried = self.inner.codes.begin(tried, now);
        tried.map_err(|wait| AccessError::TooSoon { wait })?;
        let password = SecretText::new(password.to_owned());
        let hasher = &self.inner.hasher;
        match hasher.verify(&password, user.password.as_ref()).await? {
            true => Ok(()),
            false => Err(AccessError::Refused),
        }
    }

    /// Keeps that a session from the provider proved a second factor. In
    /// memory: after a restart it is proved again.
    pub(crate) fn prove(&self, session: &SessionId) {
        let sessions = self.inner.store.sessions();
        let from_provider = |id: &SessionId| {
            sessions
                .get(id)
                .is_some_and(|session| session.how == SignIn::Oidc)
        };
        let mut proved = self
            .inner
            .proved
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        proved.retain(from_provider);
        if from_provider(session) {
            proved.insert(session.clone());
        }
    }

    fn note_change(&self, by: &By, action: &str, user: &UserName, now: Timestamp) {
        let object = format!("user:{user}");
        self.note(by, action, object, AuditOutcome::Done, None, now);
    }
}

/// What a password of theirs must not be made of.
fn names_of(user: &User) -> Vec<&str> {
    [
        Some(user.name.0.as_str()),
        user.full_name.as_deref(),
        user.email.as_deref(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The host in `https://host:port`.
fn host_of(issuer: &str) -> &str {
    let rest = issuer.split_once("://").map_or(issuer, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}
