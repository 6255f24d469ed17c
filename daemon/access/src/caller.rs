//! Who makes a request, and what they may do.
//!
//! A [`Caller`] is made for every request from what the store has in memory at
//! that moment, so that a change of roles holds from the next request on. It
//! answers questions and changes nothing. One that is restricted may do nothing
//! here at all: only what everybody may do for themselves is left to it.

use std::collections::BTreeSet;
use std::slice;
use std::sync::Arc;

use model::{
    Actor, Binding, By, Device, Permission, Role, Scope, SessionId, TenantName, Timestamp,
    TokenRecord, User,
};

use crate::{AccessError, Origin};

/// What somebody has to do before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restriction {
    /// Choose another password.
    MustChangePassword,
    /// Set up codes; or, when signed in at a provider that vouched for no second
    /// factor, prove one; or, with a client certificate, which is one factor,
    /// sign in with a password and a code instead.
    MustEnrolTotp,
}

impl Restriction {
    /// The word in the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Restriction::MustChangePassword => "password-change-required",
            Restriction::MustEnrolTotp => "totp-required",
        }
    }
}

/// Whose things somebody sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tenants {
    /// Everybody's, those of tenants to come too.
    All,
    /// Those of these; none: nothing.
    Some(BTreeSet<TenantName>),
}

impl Tenants {
    /// Whether `tenant` is among them.
    #[must_use]
    pub fn contains(&self, tenant: &TenantName) -> bool {
        match self {
            Tenants::All => true,
            Tenants::Some(tenants) => tenants.contains(tenant),
        }
    }
}

/// Who makes a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who, as it is written down.
    pub actor: Actor,
    /// From which address; `socket` for a local process.
    pub origin: String,
    /// The person, if it is one.
    pub user: Option<Arc<User>>,
    /// The service's token, if it is one.
    pub token: Option<Arc<TokenRecord>>,
    /// The session, if a person signed in.
    pub session: Option<SessionId>,
    /// What they have to do before anything else.
    pub restricted: Option<Restriction>,
    local: Vec<Binding>,
    request: Option<String>,
}

impl Caller {
    /// Nobody that we know, who may do nothing.
    #[must_use]
    pub fn anonymous(origin: &Origin) -> Caller {
        Caller {
            actor: Actor::Anonymous,
            origin: origin.to_string(),
            user: None,
            token: None,
            session: None,
            restricted: None,
            local: Vec::new(),
            request: origin.request.clone(),
        }
    }

    /// A local process of `uid`, which has `role` everywhere.
    #[must_use]
    pub fn local(uid: u32, role: Role, origin: &Origin) -> Caller {
        Caller {
            actor: Actor::Local(uid),
            local: vec![Binding {
                role,
                scope: Scope::default(),
            }],
            ..Caller::anonymous(origin)
        }
    }

    /// A service.
    pub(crate) fn service(token: Arc<TokenRecord>, origin: &Origin) -> Caller {
        Caller {
            actor: Actor::Token(token.id.clone(), token.name.clone()),
            token: Some(token),
            ..Caller::anonymous(origin)
        }
    }

    /// A person who is signed in.
    pub(crate) fn person(
        user: Arc<User>,
        session: SessionId,
        restricted: Option<Restriction>,
        origin: &Origin,
    ) -> Caller {
        Caller {
            actor: Actor::User(user.name.clone(), session.clone()),
            user: Some(user),
            session: Some(session),
            restricted,
            ..Caller::anonymous(origin)
        }
    }

    /// A person with a client certificate.
    pub(crate) fn certificate(
        user: Arc<User>,
        restricted: Option<Restriction>,
        origin: &Origin,
    ) -> Caller {
        Caller {
            actor: Actor::Certificate(user.name.clone()),
            user: Some(user),
            restricted,
            ..Caller::anonymous(origin)
        }
    }

    /// Whether it is nobody that we know.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.actor == Actor::Anonymous
    }

    /// Who makes the change, as it is written down beside it.
    #[must_use]
    pub fn by(&self, request: &str) -> By {
        By {
            actor: self.actor.clone(),
            origin: self.origin.clone(),
            request: Some(request.to_owned()),
        }
    }

    /// As [`Caller::by`], with the id that the request came with.
    pub(crate) fn own_by(&self) -> By {
        By {
            actor: self.actor.clone(),
            origin: self.origin.clone(),
            request: self.request.clone(),
        }
    }

    /// Where their request comes from.
    pub(crate) fn origin(&self) -> Origin {
        Origin {
            address: self.origin.parse().ok(),
            request: self.request.clone(),
        }
    }

    /// What they were given, whether they are restricted or not.
    #[must_use]
    pub fn bindings(&self) -> &[Binding] {
        match (&self.token, &self.user) {
            (Some(token), _) => &token.bindings,
            (None, Some(user)) => &user.bindings,
            (None, None) => &self.local,
        }
    }

    /// Whether they have the permission somewhere.
    #[must_use]
    pub fn holds(&self, permission: Permission) -> bool {
        self.scopes(permission).next().is_some()
    }

    /// Whether they have the permission everywhere, for what belongs to no
    /// tenant too.
    #[must_use]
    pub fn holds_everywhere(&self, permission: Permission) -> bool {
        self.scopes(permission).any(Scope::is_everything)
    }

    /// Every permission that they have somewhere.
    #[must_use]
    pub fn permissions(&self) -> BTreeSet<Permission> {
        Permission::ALL
            .iter()
            .copied()
            .filter(|permission| self.holds(*permission))
            .collect()
    }

    /// Whether they have the permission for `device`.
    #[must_use]
    pub fn on_device(&self, permission: Permission, device: &Device) -> bool {
        self.scopes(permission).any(|scope| scope.covers(device))
    }

    /// Whether they have the permission for a device of `tenant` at `site`
    /// with `tags`.
    #[must_use]
    pub fn on_place(
        &self,
        permission: Permission,
        tenant: &TenantName,
        site: Option<&String>,
        tags: &BTreeSet<String>,
    ) -> bool {
        self.scopes(permission)
            .any(|scope| scope.covers_place(tenant, site, tags))
    }

    /// Whether they have the permission for what is the whole tenant's: rules,
    /// tokens, credentials, secrets.
    #[must_use]
    pub fn on_tenant(&self, permission: Permission, tenant: &TenantName) -> bool {
        self.scopes(permission)
            .any(|scope| scope.covers_tenant(tenant))
    }

    /// Whether they have the permission for anything of `tenant`, be it for
    /// one site: enough to read its rules and the names of its credentials.
    #[must_use]
    pub fn reaches_tenant(&self, permission: Permission, tenant: &TenantName) -> bool {
        self.scopes(permission)
            .any(|scope| scope.reaches_tenant(tenant))
    }

    /// The tenants that they reach with the permission.
    #[must_use]
    pub fn tenants(&self, permission: Permission) -> Tenants {
        self.scopes(permission)
            .map(|scope| scope.tenant.clone())
            .collect::<Option<BTreeSet<_>>>()
            .map_or(Tenants::All, Tenants::Some)
    }

    /// The tenants of which they have the permission for the whole.
    #[must_use]
    pub fn whole_tenants(&self, permission: Permission) -> Tenants {
        self.scopes(permission)
            .filter(|scope| !scope.is_part_of_a_tenant())
            .map(|scope| scope.tenant.clone())
            .collect::<Option<BTreeSet<_>>>()
            .map_or(Tenants::All, Tenants::Some)
    }

    /// Whether they have all that `bindings` give, where they give it, and so
    /// may give it to others. `permissions` limits what is given; empty: all
    /// that the roles grant.
    #[must_use]
    pub fn may_give(&self, bindings: &[Binding], permissions: &BTreeSet<Permission>) -> bool {
        bindings.iter().all(|given| {
            Permission::ALL
                .iter()
                .filter(|wanted| permissions.is_empty() || permissions.contains(wanted))
                .filter(|wanted| given.role.grants(**wanted))
                .all(|wanted| self.scopes(*wanted).any(|mine| mine.contains(&given.scope)))
        })
    }

    /// Whether they may have a token that ends at `expires` and sends
    /// `requests_per_minute`: for a token, no later and no more than itself.
    /// Otherwise it would give itself a longer life.
    ///
    /// # Errors
    ///
    /// [`AccessError::NotAllowed`] says which of them is too much, and the most
    /// that it can be.
    pub fn check_token_limits(
        &self,
        expires: Timestamp,
        requests_per_minute: u32,
    ) -> Result<(), AccessError> {
        let Some(token) = &self.token else {
            return Ok(());
        };
        let what = if expires > token.expires {
            format!(
                "a token made by a token ends with it at the latest; choose {} or earlier",
                token.expires
            )
        } else if requests_per_minute > token.requests_per_minute {
            format!(
                "a token made by a token sends no more requests than it; choose at most {} per minute",
                token.requests_per_minute
            )
        } else {
            return Ok(());
        };
        Err(AccessError::NotAllowed { what })
    }

    /// Whose requests are counted together.
    #[must_use]
    pub fn rate_key(&self) -> String {
        match &self.actor {
            Actor::Token(id, _) => format!("token:{id}"),
            Actor::User(name, _) | Actor::Certificate(name) => format!("user:{name}"),
            Actor::Local(uid) => format!("uid:{uid}"),
            Actor::Anonymous | Actor::System => format!("address:{}", self.origin),
        }
    }

    /// Where they have the permission.
    fn scopes(&self, permission: Permission) -> impl Iterator<Item = &Scope> {
        let bindings: slice::Iter<'_, Binding> = match self.restricted {
            Some(_) => [].iter(),
            None => self.bindings().iter(),
        };
        let left_out = self.token.as_ref().is_some_and(|token| {
            !token.permissions.is_empty() && !token.permissions.contains(&permission)
        });
        bindings
            .filter(move |binding| !left_out && binding.role.grants(permission))
            .map(|binding| &binding.scope)
    }
}
