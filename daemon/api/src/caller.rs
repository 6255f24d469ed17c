//! Who asks: made by `gate` for each request, taken by handlers.

use std::ops::Deref;
use std::sync::Arc;

use access::Origin;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use model::{By, Device, Permission, TenantName};
use tracing::info;

use crate::problem::{Kind, Problem};
use crate::request::Peer;

/// Who makes a request: what [`access::Caller`] says, and where
/// the request comes from.
#[derive(Clone)]
pub(crate) struct Caller(Arc<Asking>);

struct Asking {
    who: access::Caller,
    origin: Origin,
    peer: Peer,
}

impl Caller {
    pub(crate) fn new(who: access::Caller, origin: Origin, peer: Peer) -> Caller {
        Caller(Arc::new(Asking { who, origin, peer }))
    }

    /// Who makes the changes of this request, as the audit log has it.
    pub(crate) fn by(&self) -> By {
        self.0.who.by(self.request())
    }

    /// The request's id.
    pub(crate) fn request(&self) -> &str {
        self.0.origin.request.as_deref().unwrap_or_default()
    }

    /// Where the request comes from, for calls of [`access::Access`].
    pub(crate) fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// Whether root, or the daemon's own user, asks on the machine itself,
    /// and in no other name.
    pub(crate) fn is_local_root(&self) -> bool {
        let local = matches!(self.0.who.actor, model::Actor::Local(_));
        match self.0.peer {
            Peer::User { uid, own } => local && (uid == 0 || uid == own),
            Peer::Plain { .. } | Peer::Tls { .. } => false,
        }
    }

    /// Whether `device` exists as far as the caller is concerned.
    pub(crate) fn sees(&self, device: &Device) -> bool {
        self.0.who.on_device(Permission::DevicesRead, device)
    }

    /// Refuses unless the caller may change what is called `name`, where that
    /// belongs to a whole tenant: rules, credentials, secrets, tokens. Whether
    /// there is such a thing makes no difference.
    pub(crate) fn may_change(
        &self,
        write: Permission,
        read: Permission,
        what: &str,
        name: &str,
    ) -> Result<(), Problem> {
        let tenant = TenantName::of(name);
        if self.on_tenant(write, &tenant) {
            return Ok(());
        }
        let reaches = [write, read]
            .into_iter()
            .any(|permission| self.reaches_tenant(permission, &tenant));
        match reaches {
            true => Err(Problem::forbidden(format!(
                "changing a {what} of the tenant {tenant} needs the permission {} for all of it",
                write.word()
            ))),
            false => Err(Problem::hidden(what, name)),
        }
    }

    /// Refuses unless the caller has `permission` everywhere.
    pub(crate) fn need_everywhere(&self, permission: Permission) -> Result<(), Problem> {
        match self.holds_everywhere(permission) {
            true => Ok(()),
            false => Err(Problem::forbidden(format!(
                "this needs the permission {} without a limit to a tenant, sites or tags",
                permission.word()
            ))),
        }
    }

    /// Logs a change that the caller made. Names come from people, so they are
    /// shown quoted.
    pub(crate) fn did(&self, change: &'static str, to: &str) {
        info!(actor = %self.0.who.actor, origin = %self.0.origin, request = self.request(), to = ?to, "{change}");
    }
}

impl Deref for Caller {
    type Target = access::Caller;

    fn deref(&self) -> &access::Caller {
        &self.0.who
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Caller, Problem> {
        parts.extensions.get::<Caller>().cloned().ok_or_else(|| {
            Problem::new(Kind::Internal, "the request did not come through the gate")
        })
    }
}
