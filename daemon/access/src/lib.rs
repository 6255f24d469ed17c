//! Who may do what.
//!
//! People sign in ([`Access::log_in`], at an OpenID provider, or by client
//! certificate), services show tokens, local processes are known by their user
//! id. Whoever makes a request becomes a [`Caller`] ([`Access::authenticate`]),
//! made anew for each request from what the store has in memory: a change of
//! roles, a deactivation and a sign-out hold from the next request on.
//!
//! Nothing that lets somebody in is kept as it is: passwords as argon2id,
//! refresh tokens and service tokens as SHA-256, seeds and signing keys as
//! sealed secrets; the keys of access tokens live in memory alone.
//!
//! - `session.rs`: signing in, refreshing, signing out
//! - `request.rs`: who makes a request
//! - `caller.rs`: what they may do
//! - `account.rs`: passwords and codes of people
//! - `service.rs`: tokens of services
//! - `setup.rs`: the first administrator
//! - `oidc/`: signing in at a provider
//!
//! The rest are the parts of these, each without I/O.

mod account;
mod caller;
mod certificate;
mod error;
mod jwt;
mod lockout;
mod oidc;
mod password;
mod request;
mod service;
mod session;
mod setup;
mod signed;
#[cfg(test)]
mod tests;
mod text;
mod token;
mod totp;
mod words;

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use model::{Actor, AuditDraft, AuditOutcome, By, SessionId, Timestamp, User, UserName};
use secrets::Secrets;
use store::Store;

use jwt::Signer;
use lockout::{Known, Lockout, Minutes};
use oidc::Provider;
use password::{Cost, Hasher};
use setup::Offer;
use signed::Seen;

pub use caller::{Caller, Restriction, Tenants};
pub use error::AccessError;
pub use signed::SignedHeader;
pub use text::SecretText;
pub use words::{
    AccessSettings, AccessStats, Granted, LogIn, NewToken, OidcRedirect, OidcReturn, OidcSettings,
    Origin, SetupOffer, Shown, TokenKind, TotpOffer,
};

/// Lets people and services in. Clones are the same.
#[derive(Clone)]
pub struct Access {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    secrets: Secrets,
    live: RwLock<Arc<Live>>,
    own_uid: Option<u32>,
    hasher: Hasher,
    signer: Signer,
    accounts: Lockout,
    addresses: Lockout,
    known: Known,
    codes: Minutes,
    seen: Seen,
    offer: Mutex<Option<Offer>>,
    oidc_state: oidc::State,
    /// Sessions from the provider that proved a second factor.
    proved: Mutex<HashSet<SessionId>>,
    counts: Counts,
}

/// What the settings say, until they are read again.
struct Live {
    settings: AccessSettings,
    provider: Option<Arc<Provider>>,
}

#[derive(Default)]
struct Counts {
    logins: AtomicU64,
    refused: AtomicU64,
    too_soon: AtomicU64,
    too_busy: AtomicU64,
    reused: AtomicU64,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

impl Access {
    /// Over `store` and `secrets`. Blocks: reads the provider's certificates
    /// and computes one hash.
    ///
    /// # Errors
    ///
    /// [`AccessError::Settings`] if the settings make no sense.
    pub fn new(
        store: Store,
        secrets: Secrets,
        settings: AccessSettings,
        now: Timestamp,
    ) -> Result<Access, AccessError> {
        Access::with_cost(store, secrets, settings, Cost::USUAL, now)
    }

    fn with_cost(
        store: Store,
        secrets: Secrets,
        settings: AccessSettings,
        cost: Cost,
        now: Timestamp,
    ) -> Result<Access, AccessError> {
        let live = Live::new(settings, None)?;
        Ok(Access {
            inner: Arc::new(Inner {
                store,
                secrets,
                live: RwLock::new(Arc::new(live)),
                own_uid: std::fs::metadata("/proc/self").ok().map(|own| own.uid()),
                hasher: Hasher::new(cost),
                signer: Signer::new(now),
                accounts: Lockout::of_accounts(),
                addresses: Lockout::of_addresses(),
                known: Known::default(),
                codes: Minutes::default(),
                seen: Seen::new(now),
                offer: Mutex::default(),
                oidc_state: oidc::State::new(),
                proved: Mutex::default(),
                counts: Counts::default(),
            }),
        })
    }

    /// Goes by `settings` from now on; on an error the old ones hold. Sessions
    /// stay. Blocks: reads the provider's certificates.
    ///
    /// # Errors
    ///
    /// [`AccessError::Settings`] if the settings make no sense.
    pub fn reconfigure(&self, settings: AccessSettings) -> Result<(), AccessError> {
        let live = Live::new(settings, Some(&self.live()))?;
        let mut place = self
            .inner
            .live
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *place = Arc::new(live);
        Ok(())
    }

    /// Whether somebody may do everything everywhere.
    #[must_use]
    pub fn is_set_up(&self) -> bool {
        self.inner.store.people().has_full_admin()
    }

    /// What there is to count.
    #[must_use]
    pub fn stats(&self) -> AccessStats {
        let counts = &self.inner.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        AccessStats {
            logins: read(&counts.logins),
            refused: read(&counts.refused),
            too_soon: read(&counts.too_soon),
            too_busy: read(&counts.too_busy),
            reused: read(&counts.reused),
            hashes: self.inner.hasher.done(),
            sessions: self.inner.store.sessions().len(),
            locked: self.inner.accounts.slowed() + self.inner.addresses.slowed(),
            waiting: self.inner.hasher.waiting(),
        }
    }

    fn live(&self) -> Arc<Live> {
        let live = self
            .inner
            .live
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        live.clone()
    }

    /// The person, as they are now.
    fn user(&self, name: &UserName) -> Result<Arc<User>, AccessError> {
        let people = self.inner.store.people();
        let user = people.user(name).cloned();
        user.ok_or_else(|| AccessError::NotFound {
            what: format!("user {name}"),
        })
    }

    /// Writes down what the store does not write down by itself.
    fn note(
        &self,
        by: &By,
        action: &str,
        object: String,
        outcome: AuditOutcome,
        more: Option<serde_json::Value>,
        now: Timestamp,
    ) {
        let draft = AuditDraft {
            action: action.to_owned(),
            object,
            tenant: None,
            outcome,
            after: more.map(|more| more.to_string()),
        };
        self.inner.store.try_note_audit(by, draft, now);
    }
}

impl Live {
    /// Keeps the provider of `before`, and what is known of it, if nothing
    /// changed there.
    fn new(settings: AccessSettings, before: Option<&Live>) -> Result<Live, AccessError> {
        check(&settings)?;
        let unchanged = before.filter(|before| before.settings.oidc == settings.oidc);
        let provider = match (&settings.oidc, unchanged) {
            (None, _) => None,
            (Some(_), Some(before)) => before.provider.clone(),
            (Some(oidc), None) => Some(Arc::new(Provider::new(oidc.clone())?)),
        };
        Ok(Live { settings, provider })
    }
}

fn check(settings: &AccessSettings) -> Result<(), AccessError> {
    let wrong = |what: &str| {
        Err(AccessError::Settings {
            what: what.to_owned(),
        })
    };
    if settings.access_ttl.is_zero() || settings.access_ttl > settings.session_max {
        return wrong("access_ttl has to be longer than nothing and shorter than session_max");
    }
    if settings.refresh_idle < settings.access_ttl {
        return wrong("refresh_idle has to be longer than access_ttl");
    }
    if settings.issuer.is_empty() {
        return wrong("the issuer of access tokens is empty");
    }
    Ok(())
}

/// Somebody of whom we only know where they are.
fn nobody(origin: &Origin) -> By {
    origin.by(Actor::Anonymous)
}
