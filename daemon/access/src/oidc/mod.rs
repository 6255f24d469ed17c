//! Signing in at an OpenID provider: code flow with PKCE, state and nonce.
//!
//! Who somebody is, is said by (`iss`, `sub`) and nothing else: a name or an
//! address at the provider may be anybody's, and never leads to a person who is
//! here already. What they may do is what their groups say, at each sign-in
//! anew; who is in no group that we know is not let in, and loses what they
//! had.

mod provider;
mod state;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::{Binding, By, OidcSubject, SignIn, Timestamp, User, UserName};
use store::People;

use crate::{
    Access, AccessError, Granted, OidcRedirect, OidcReturn, OidcSettings, Origin, Restriction,
};

use provider::Identity;
pub(crate) use provider::Provider;
pub(crate) use state::State;

/// What says that a second factor was used (RFC 8176).
const SECOND_FACTORS: [&str; 3] = ["mfa", "otp", "hwk"];

impl Access {
    /// Where somebody signs in at the OpenID provider.
    ///
    /// # Errors
    ///
    /// [`AccessError::OidcOff`], [`AccessError::OidcUnavailable`],
    /// [`AccessError::NotSetUp`].
    pub async fn oidc_begin(&self, now: Timestamp) -> Result<OidcRedirect, AccessError> {
        if !self.is_set_up() {
            return Err(AccessError::NotSetUp);
        }
        let provider = self.live().provider.clone().ok_or(AccessError::OidcOff)?;
        let begun = self.inner.oidc_state.begin(now);
        let url = provider.redirect(&begun, now).await?;
        Ok(OidcRedirect {
            url,
            state_cookie: begun.cookie,
        })
    }

    /// Lets somebody in who comes back from the OpenID provider.
    ///
    /// # Errors
    ///
    /// [`AccessError::Oidc`] if what they bring or what the provider says is
    /// not right, or they may not in; [`AccessError::OidcOff`],
    /// [`AccessError::OidcUnavailable`], [`AccessError::NotSetUp`],
    /// [`AccessError::Store`], [`AccessError::Secrets`].
    pub async fn oidc_finish(
        &self,
        back: OidcReturn<'_>,
        agent: Option<String>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Granted, AccessError> {
        if !self.is_set_up() {
            return Err(AccessError::NotSetUp);
        }
        let provider = self.live().provider.clone().ok_or(AccessError::OidcOff)?;
        match self.finish(&provider, back, agent, origin, now).await {
            Err(AccessError::Oidc { why }) => {
                self.inner.counts.refused.fetch_add(1, Ordering::Relaxed);
                tracing::info!(%origin, why, "somebody from the OpenID provider is not let in");
                self.note_refused(None, &why, origin, now);
                Err(AccessError::Oidc { why })
            }
            other => other,
        }
    }

    async fn finish(
        &self,
        provider: &Provider,
        back: OidcReturn<'_>,
        agent: Option<String>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Granted, AccessError> {
        let begun = self
            .inner
            .oidc_state
            .finish(back.state_cookie, back.state, now)?;
        let settings = &provider.settings;
        // RFC 9207: an answer of another provider than the one asked
        if back.issuer.is_some_and(|issuer| issuer != settings.issuer) {
            return refused("the answer comes from another provider".to_owned());
        }
        let secret = match &settings.client_secret {
            Some(name) => Some(self.inner.secrets.expose_fresh(name).await?),
            None => None,
        };
        let who = provider.exchange(secret, back.code, &begun, now).await?;
        let user = self.user_of(settings, &who, origin, now).await?;
        let mut granted = self.grant(user, SignIn::Oidc, agent, origin, now).await?;
        let vouched = |word: &String| SECOND_FACTORS.contains(&word.as_str());
        if settings.trust_mfa && who.methods.iter().any(vouched) {
            self.prove(&granted.session);
            granted.restricted = granted
                .restricted
                .filter(|what| *what != Restriction::MustEnrolTotp);
        }
        Ok(granted)
    }

    /// Who that is here, with what their groups give them.
    async fn user_of(
        &self,
        settings: &OidcSettings,
        who: &Identity,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Arc<User>, AccessError> {
        let people = self.inner.store.people();
        let subject = OidcSubject {
            issuer: settings.issuer.clone(),
            subject: who.subject.clone(),
        };
        let bindings = bindings_of(settings, &people, &who.groups);
        let by = By {
            origin: origin.to_string(),
            request: origin.request.clone(),
            ..By::system()
        };
        match people.user_by_oidc(&subject) {
            Some(user) if !user.active => refused(format!("the user {} is not active", user.name)),
            Some(user) => self.bind(&by, user, bindings, now).await,
            None => {
                self.enter(&by, settings, &people, who, subject, bindings, now)
                    .await
            }
        }
    }

    /// Gives a known person what their groups say, no more and no less.
    async fn bind(
        &self,
        by: &By,
        user: &Arc<User>,
        bindings: Vec<Binding>,
        now: Timestamp,
    ) -> Result<Arc<User>, AccessError> {
        let nothing = bindings.is_empty();
        let mut user = user.clone();
        if user.bindings != bindings {
            let changed = User {
                bindings,
                ..(*user).clone()
            };
            let store = &self.inner.store;
            user = store
                .replace_user(by, changed, Some(user.revision), now)
                .await?;
        }
        if nothing {
            self.end_sessions_of(by, &user.name, None, now).await?;
            return refused(format!(
                "none of the groups of {} gives them a role here",
                user.name
            ));
        }
        Ok(user)
    }

    /// Enters somebody whom we do not know yet.
    #[expect(clippy::too_many_arguments, reason = "one call, one meaning each")]
    async fn enter(
        &self,
        by: &By,
        settings: &OidcSettings,
        people: &People,
        who: &Identity,
        subject: OidcSubject,
        bindings: Vec<Binding>,
        now: Timestamp,
    ) -> Result<Arc<User>, AccessError> {
        if !settings.create_users {
            return refused(format!(
                "the subject {:?} is nobody's here; enter it with a user, or set create_users",
                subject.subject
            ));
        }
        if bindings.is_empty() {
            return refused("none of their groups gives them a role here".to_owned());
        }
        let Some(name) = who
            .name
            .as_deref()
            .and_then(|name| name.parse::<UserName>().ok())
        else {
            return refused(format!(
                "the claim {:?} has no text that can be a user's name",
                settings.user_claim
            ));
        };
        if people.user(&name).is_some() {
            return refused(format!(
                "there is a user {name} already who is somebody else; rename one of them, or enter the subject {:?} with that user",
                subject.subject
            ));
        }
        let user = User {
            full_name: who.full_name.clone(),
            email: who.email.clone(),
            bindings,
            oidc: Some(subject),
            ..User::new(name, now)
        };
        Ok(self.inner.store.create_user(by, user, now).await?)
    }
}

/// What all of these groups give together.
fn bindings_of(settings: &OidcSettings, people: &People, groups: &[String]) -> Vec<Binding> {
    let there = |binding: &&Binding| {
        let tenant = binding.scope.tenant.as_ref();
        let there = tenant.is_none_or(|tenant| people.tenant(tenant).is_some());
        if !there {
            tracing::warn!(
                ?tenant,
                "a group of the OpenID provider gives a role in a tenant that is not there"
            );
        }
        there
    };
    let given: BTreeSet<Binding> = settings
        .groups
        .iter()
        .filter(|(group, _)| groups.contains(group))
        .map(|(_, binding)| binding)
        .filter(there)
        .cloned()
        .collect();
    given.into_iter().collect()
}

fn refused<T>(why: String) -> Result<T, AccessError> {
    Err(AccessError::Oidc { why })
}
