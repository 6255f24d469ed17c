//! The first administrator: by a link that local root was given, or at an
//! installation without people.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use model::{
    Actor, AuditOutcome, Binding, By, Digest, Role, Scope, SessionId, Timestamp, User, UserName,
};
use store::{Refusal, WriteError};

use crate::text::{digest, random_base62, same};
use crate::{Access, AccessError, Origin, SecretText, SetupOffer, nobody, password};

/// How long a link holds.
const LINK_LIFE: Duration = Duration::from_mins(30);

/// A link that was given out. There is one at most, and in memory alone.
pub(crate) struct Offer {
    token: Digest,
    expires: Timestamp,
}

impl Access {
    /// A link to set up the appliance with; the one before is void.
    ///
    /// # Errors
    ///
    /// [`AccessError::AlreadySetUp`].
    pub fn offer_setup(&self, now: Timestamp) -> Result<SetupOffer, AccessError> {
        if self.is_set_up() {
            return Err(AccessError::AlreadySetUp);
        }
        let token = SecretText::new(random_base62(43).to_string());
        let expires = now.plus(LINK_LIFE);
        let mut offer = self
            .inner
            .offer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *offer = Some(Offer {
            token: digest(token.expose()),
            expires,
        });
        Ok(SetupOffer { token, expires })
    }

    /// Makes the first administrator, once: of several at the same time, one
    /// wins. A password that is not taken leaves the link good.
    ///
    /// # Errors
    ///
    /// [`AccessError::AlreadySetUp`], [`AccessError::SetupToken`],
    /// [`AccessError::WeakPassword`], [`AccessError::TooBusy`],
    /// [`AccessError::Store`].
    pub async fn set_up(
        &self,
        token: &str,
        name: UserName,
        password: &str,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Arc<User>, AccessError> {
        if self.is_set_up() {
            return Err(AccessError::AlreadySetUp);
        }
        let by = nobody(origin);
        let Some(offer) = self.take_offer(token, || self.check_new(password, &[&name.0]), now)?
        else {
            let why = AuditOutcome::Denied("the token is wrong, used or too old".to_owned());
            self.note(&by, "setup.refused", "appliance".to_owned(), why, None, now);
            return Err(AccessError::SetupToken);
        };
        let made = self.make_first_admin(&by, name, password, now).await;
        if matches!(
            made,
            Err(AccessError::TooBusy | AccessError::Store(WriteError::NotWriting { .. }))
        ) {
            let mut place = self
                .inner
                .offer
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            place.get_or_insert(offer);
        }
        made
    }

    /// Makes the first administrator without a link: for local root alone.
    ///
    /// # Errors
    ///
    /// As [`Access::set_up`].
    pub async fn first_admin(
        &self,
        by: &By,
        name: UserName,
        password: &str,
        now: Timestamp,
    ) -> Result<Arc<User>, AccessError> {
        if self.is_set_up() {
            return Err(AccessError::AlreadySetUp);
        }
        self.check_new(password, &[&name.0])?;
        self.make_first_admin(by, name, password, now).await
    }

    /// Takes the link that was given out if `token` is its, and `and_then`
    /// agrees.
    fn take_offer(
        &self,
        token: &str,
        and_then: impl FnOnce() -> Result<(), AccessError>,
        now: Timestamp,
    ) -> Result<Option<Offer>, AccessError> {
        let fits = |offer: &Offer| same(&offer.token, &digest(token)) && now < offer.expires;
        let mut place = self
            .inner
            .offer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !place.as_ref().is_some_and(fits) {
            return Ok(None);
        }
        and_then()?;
        Ok(place.take())
    }

    async fn make_first_admin(
        &self,
        by: &By,
        name: UserName,
        password: &str,
        now: Timestamp,
    ) -> Result<Arc<User>, AccessError> {
        let password = SecretText::new(password.to_owned());
        let hash = self.inner.hasher.hash(&password).await?;
        let user = User {
            bindings: vec![Binding {
                role: Role::Admin,
                scope: Scope::default(),
            }],
            password: Some(hash),
            password_changed: Some(now),
            ..User::new(name.clone(), now)
        };
        // the first administrator is who sets the appliance up
        let by = match &by.actor {
            Actor::Anonymous => By {
                actor: Actor::User(name, SessionId("setup".to_owned())),
                ..by.clone()
            },
            _ => by.clone(),
        };
        let made = self.inner.store.create_first_admin(&by, user, now).await;
        if let Ok(user) = &made {
            tracing::info!(user = %user.name, "the appliance is set up");
        }
        made.map_err(|error| match error {
            WriteError::Refused(Refusal::AlreadySetUp) => AccessError::AlreadySetUp,
            error => AccessError::Store(error),
        })
    }

    /// Whether a new password is taken for somebody of these names.
    pub(crate) fn check_new(&self, password: &str, names: &[&str]) -> Result<(), AccessError> {
        password::check(password, names, self.live().settings.min_password)
    }
}
