//! Who did what.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Digest, SessionId, TenantName, Timestamp, TokenId, UserName};

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Actor {
    /// Nobody that we know.
    Anonymous,
    /// The daemon itself.
    System,
    /// A local process of this user id: the kernel says so.
    Local(u32),
    /// A person who is signed in.
    User(UserName, SessionId),
    /// A person, by their client certificate.
    Certificate(UserName),
    /// A service: the token's number and name.
    Token(TokenId, String),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Anonymous => f.write_str("anonymous"),
            Actor::System => f.write_str("system"),
            Actor::Local(uid) => write!(f, "uid:{uid}"),
            Actor::User(name, _) => write!(f, "user:{name}"),
            Actor::Certificate(name) => write!(f, "certificate:{name}"),
            Actor::Token(id, name) => write!(f, "token:{name} ({id})"),
        }
    }
}

/// Who makes a change, as it is written down beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    /// Who.
    pub actor: Actor,
    /// From which address; `socket` for a local process.
    pub origin: String,
    /// The request's id.
    pub request: Option<String>,
}

impl By {
    /// The daemon itself.
    #[must_use]
    pub fn system() -> By {
        By {
            actor: Actor::System,
            origin: "daemon".to_owned(),
            request: None,
        }
    }
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuditOutcome {
    /// It was done.
    Done,
    /// They were not allowed to; says why not.
    Denied(String),
}

/// What is to be written down of something that changed nothing in the store,
/// or was denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditDraft {
    /// `resource.verb`, such as `session.create`.
    pub action: String,
    /// On what: `kind:name`.
    pub object: String,
    /// Whose that is; `None`: the appliance's.
    pub tenant: Option<TenantName>,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// More, as a JSON object without secrets.
    pub after: Option<String>,
}

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Counts from 1 without a gap.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who, as [`Actor`] is shown.
    pub actor: String,
    /// From which address; `socket` for a local process.
    pub origin: String,
    /// The request's id.
    pub request: Option<String>,
    /// `resource.verb`, such as `device.create`.
    pub action: String,
    /// On what: `kind:name`.
    pub object: String,
    /// Whose that is; `None`: the appliance's.
    pub tenant: Option<TenantName>,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// What it was before, as a JSON object without secrets.
    pub before: Option<String>,
    /// What it is now, as a JSON object without secrets.
    pub after: Option<String>,
    /// `hash` of the line before; zeros for the first.
    pub previous: Digest,
    /// SHA-256 over all of the above: see the store's format.
    pub hash: Digest,
}
