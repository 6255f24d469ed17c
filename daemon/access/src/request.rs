//! Who makes a request.
//!
//! Everything here comes from memory: a signature, a few look-ups, no waiting.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use model::{
    AuditOutcome, Digest, Role, SessionRecord, SignIn, Timestamp, TokenId, TokenProof, TokenRecord,
    User,
};
use store::People;

use crate::signed::{is_signed, message};
use crate::text::{digest, same};
use crate::token::{TOKEN, token_id};
use crate::{
    Access, AccessError, Caller, Origin, Restriction, Shown, SignedHeader, certificate, nobody,
};

impl Access {
    /// Who makes this request. Never waits: no disk, no other task.
    /// [`Shown::Nothing`] is [`Caller::anonymous`].
    ///
    /// # Errors
    ///
    /// [`AccessError::BadToken`] for what is not ours,
    /// [`AccessError::Expired`] and [`AccessError::Revoked`] for what was,
    /// [`AccessError::TooSoon`] if a token signed far more requests than it may
    /// send, [`AccessError::TooBusy`] if no more signed requests can be
    /// remembered, [`AccessError::Secrets`] if a signing key cannot be read.
    pub fn authenticate(
        &self,
        shown: Shown<'_>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Caller, AccessError> {
        match shown {
            Shown::Nothing => Ok(Caller::anonymous(origin)),
            Shown::Local(uid) => Ok(Caller::local(uid, self.local_role(uid), origin)),
            Shown::Bearer(text) if text.starts_with(TOKEN) => self.service(text, origin, now),
            Shown::Bearer(text) => self.person(text, origin, now),
            Shown::Certificate(der) => self.certified(der, origin, now),
            Shown::Signed {
                header,
                method,
                target,
                body,
            } => self.signed(&header, method, target, &body, origin, now),
        }
    }

    /// Whether a signed request of this time (in seconds since 1970) is one to
    /// look at: asked before anything of its body is read, as nothing is proved
    /// until then. [`Access::authenticate`] asks again.
    ///
    /// # Errors
    ///
    /// [`AccessError::BadToken`] says why not.
    pub fn check_signed_time(&self, timestamp: u64, now: Timestamp) -> Result<(), AccessError> {
        self.inner.seen.check_time(timestamp, now)
    }

    fn local_role(&self, uid: u32) -> Role {
        match uid == 0 || Some(uid) == self.inner.own_uid {
            true => Role::Admin,
            false => self.live().settings.socket_role,
        }
    }

    fn person(&self, text: &str, origin: &Origin, now: Timestamp) -> Result<Caller, AccessError> {
        let live = self.live();
        let (name, id) = self.inner.signer.verify(text, &live.settings.issuer, now)?;
        let sessions = self.inner.store.sessions();
        let session = sessions.get(&id).filter(|session| session.user == name);
        let session = session.ok_or(AccessError::Revoked)?;
        if session.expires <= now {
            return Err(AccessError::Expired);
        }
        let people = self.inner.store.people();
        let user = active(&people, session)?;
        let restricted = self.restriction(&people, &user, session);
        Ok(Caller::person(user, id, restricted, origin))
    }

    fn service(&self, text: &str, origin: &Origin, now: Timestamp) -> Result<Caller, AccessError> {
        let id = token_id(text).ok_or(AccessError::BadToken {
            why: "it is mistyped or cut off",
        })?;
        let token = self.token(&id, now)?;
        match &token.proof {
            TokenProof::Bearer(kept) if same(kept, &digest(text)) => {
                self.inner
                    .store
                    .note_token_use(&id, origin.to_string(), now);
                Ok(Caller::service(token, origin))
            }
            TokenProof::Bearer(_) => Err(AccessError::BadToken {
                why: "it is not ours",
            }),
            TokenProof::Hmac(_) => Err(AccessError::BadToken {
                why: "it is for signing requests, and must never be sent; make another one",
            }),
        }
    }

    fn signed(
        &self,
        header: &SignedHeader<'_>,
        method: &str,
        target: &str,
        body: &Digest,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Caller, AccessError> {
        self.inner.seen.check_time(header.timestamp, now)?;
        let bad = || AccessError::BadToken {
            why: "the signature is wrong",
        };
        let id = TokenId(header.key.to_owned());
        let token = self.token(&id, now)?;
        let TokenProof::Hmac(secret) = &token.proof else {
            return Err(bad());
        };
        let key = self.inner.secrets.expose(secret)?;
        let message = message(header, method, target, body);
        if !is_signed(key.expose(), &message, header.signature) {
            return Err(bad());
        }
        self.inner.seen.remember(&token, header, now)?;
        self.inner
            .store
            .note_token_use(&id, origin.to_string(), now);
        Ok(Caller::service(token, origin))
    }

    fn token(&self, id: &TokenId, now: Timestamp) -> Result<Arc<TokenRecord>, AccessError> {
        let people = self.inner.store.people();
        let token = people.token(id).ok_or(AccessError::BadToken {
            why: "it is not ours, or was revoked",
        })?;
        match token.expires <= now {
            true => Err(AccessError::Expired),
            false => Ok(token.clone()),
        }
    }

    fn certified(
        &self,
        der: &[u8],
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Caller, AccessError> {
        let people = self.inner.store.people();
        let mut found: Option<Arc<User>> = None;
        for name in certificate::names(der, now)? {
            let Some(user) = people.user_by_certificate(&name) else {
                continue;
            };
            if found.as_ref().is_some_and(|other| other.name != user.name) {
                return Err(AccessError::BadToken {
                    why: "the client certificate is that of two people",
                });
            }
            found = Some(user.clone());
        }
        let user = found.ok_or(AccessError::BadToken {
            why: "the client certificate is nobody's; enter its subject with a user",
        })?;
        if !user.active {
            return Err(AccessError::Revoked);
        }
        // a certificate is one factor, a file: whoever has codes did not show
        // one with it, so that where codes are demanded it does not do
        let restricted = demands_codes(&people, &user).then_some(Restriction::MustEnrolTotp);
        Ok(Caller::certificate(user, restricted, origin))
    }

    /// What somebody who signed in has to do first.
    pub(crate) fn restriction(
        &self,
        people: &People,
        user: &User,
        session: &SessionRecord,
    ) -> Option<Restriction> {
        let at_provider = session.how == SignIn::Oidc;
        if user.must_change_password && !at_provider {
            return Some(Restriction::MustChangePassword);
        }
        let has_codes = match at_provider {
            true => {
                let proved = self
                    .inner
                    .proved
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                proved.contains(&session.id)
            }
            false => user.totp.as_ref().is_some_and(|totp| totp.confirmed),
        };
        (demands_codes(people, user) && !has_codes).then_some(Restriction::MustEnrolTotp)
    }

    /// Writes down an attempt to get in that failed. Who is not known is not
    /// named: a password typed into the wrong field would stay in the log.
    pub(crate) fn note_refused(
        &self,
        user: Option<&User>,
        why: &str,
        origin: &Origin,
        now: Timestamp,
    ) {
        let object = match user {
            Some(user) => format!("user:{}", user.name),
            None => "user:(unknown)".to_owned(),
        };
        let denied = AuditOutcome::Denied(why.to_owned());
        self.note(
            &nobody(origin),
            "session.refused",
            object,
            denied,
            None,
            now,
        );
    }
}

/// Whether the policy demands a second factor for one of their roles.
fn demands_codes(people: &People, user: &User) -> bool {
    let demanded = &people.policy().require_totp;
    let mut roles = user.bindings.iter().map(|given| given.role);
    roles.any(|role| demanded.contains(&role))
}

/// The person of a session.
pub(crate) fn active(people: &People, session: &SessionRecord) -> Result<Arc<User>, AccessError> {
    people
        .user(&session.user)
        .filter(|user| user.active)
        .cloned()
        .ok_or(AccessError::Revoked)
}

/// What failures are counted by: an address, or the network that one customer
/// has (RFC 6177).
pub(crate) fn address_key(address: IpAddr) -> Digest {
    match address.to_canonical() {
        IpAddr::V4(address) => digest(&address.to_string()),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            digest(&format!("{a:x}:{b:x}:{c:x}:{d:x}::/64"))
        }
    }
}

/// How long a password that somebody else made holds: who did not change it by
/// then needs another one.
pub(crate) const GIVEN_PASSWORD_LIFE: Duration = Duration::from_hours(7 * 24);
