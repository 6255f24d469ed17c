//! The words in which access is spoken of: what is shown, what is granted, how
//! it is set.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::{Actor, Binding, By, Digest, Permission, Role, SecretName, SessionId, Timestamp, User};

use crate::{Restriction, SecretText, SignedHeader};

/// How people and services get in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessSettings {
    /// How long an access token is good.
    pub access_ttl: Duration,
    /// A session that is not refreshed for this long ends.
    pub refresh_idle: Duration,
    /// Every session ends after this long; one that was opened at the OpenID
    /// provider after 12 hours at most.
    pub session_max: Duration,
    /// Characters that a new password has at least.
    pub min_password: usize,
    /// What local processes of the socket's group may do. Those of root and of
    /// the daemon's own user may do everything.
    pub socket_role: Role,
    /// Who access tokens say that they are from: the appliance's address.
    pub issuer: String,
    /// Sign-in at an OpenID provider.
    pub oidc: Option<OidcSettings>,
}

/// Sign-in at an OpenID provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcSettings {
    /// The provider: `https://…`, exactly as it names itself.
    pub issuer: String,
    /// Who we are to it.
    pub client_id: String,
    /// The secret that proves it; `None`: we are a public client.
    pub client_secret: Option<SecretName>,
    /// Where it sends people back to.
    pub redirect: String,
    /// What we ask for; `openid` is added.
    pub scopes: Vec<String>,
    /// The claim with the groups.
    pub groups_claim: String,
    /// The claim that becomes the name of a new user.
    pub user_claim: String,
    /// What a group gives; a person has what all of their groups give.
    pub groups: Vec<(String, Binding)>,
    /// A file of PEM certificates to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether people whom we do not know are entered.
    pub create_users: bool,
    /// Whether the provider's word is taken that a second factor was used
    /// (RFC 8176: `amr` with `mfa`, `otp` or `hwk`).
    pub trust_mfa: bool,
}

/// Where a request comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The client's address; `None`: a local process, by the socket.
    pub address: Option<IpAddr>,
    /// The request's id.
    pub request: Option<String>,
}

impl Origin {
    /// As it is written down of somebody whom we do not know (yet).
    pub(crate) fn by(&self, actor: Actor) -> By {
        By {
            actor,
            origin: self.to_string(),
            request: self.request.clone(),
        }
    }
}

impl fmt::Display for Origin {
    /// The address, or `socket`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{}", address.to_canonical()),
            None => f.write_str("socket"),
        }
    }
}

/// What somebody shows to be let in.
#[derive(Clone, Copy)]
pub enum Shown<'a> {
    /// Nothing.
    Nothing,
    /// `Authorization: Bearer …`: an access token, or a service's token.
    Bearer(&'a str),
    /// `Authorization: SOTP-HMAC-SHA256 …`: a signed request.
    Signed {
        /// The header, taken apart.
        header: SignedHeader<'a>,
        /// The method, in capitals.
        method: &'a str,
        /// The path and the query, as they were sent.
        target: &'a str,
        /// SHA-256 of the body.
        body: Digest,
    },
    /// A client certificate (DER) that TLS has verified.
    Certificate(&'a [u8]),
    /// The user id of a local process, as the kernel says.
    Local(u32),
}

impl fmt::Debug for Shown<'_> {
    /// Of what kind it is; never what lets somebody in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shown::Nothing => f.write_str("Nothing"),
            Shown::Bearer(_) => f.write_str("Bearer(…)"),
            Shown::Signed { header, .. } => write!(f, "Signed({})", header.key),
            Shown::Certificate(_) => f.write_str("Certificate(…)"),
            Shown::Local(uid) => write!(f, "Local({uid})"),
        }
    }
}

/// What somebody signs in with.
#[derive(Clone)]
pub struct LogIn {
    /// The name, as it was typed.
    pub user: String,
    /// The password.
    pub password: SecretText,
    /// The code of the authenticator, or a recovery code.
    pub code: Option<String>,
    /// With which program, as it says itself.
    pub agent: Option<String>,
}

/// What somebody gets who is let in.
#[derive(Clone, Debug)]
pub struct Granted {
    /// To be sent with each request.
    pub access_token: SecretText,
    /// How long it is good.
    pub expires_in: Duration,
    /// To be exchanged for the next ones, once. `None`: it was exchanged by
    /// somebody else (another tab) a moment ago, and what they got holds.
    pub refresh_token: Option<SecretText>,
    /// The session.
    pub session: SessionId,
    /// Who.
    pub user: Arc<User>,
    /// What they have to do before anything else.
    pub restricted: Option<Restriction>,
}

/// What the set-up link carries.
#[derive(Clone, Debug)]
pub struct SetupOffer {
    /// The token for its fragment.
    pub token: SecretText,
    /// How long it holds.
    pub expires: Timestamp,
}

/// What an authenticator is set up with.
#[derive(Clone, Debug)]
pub struct TotpOffer {
    /// `otpauth://…`, as in a QR code.
    pub uri: SecretText,
    /// The seed in base32, to be typed.
    pub secret: SecretText,
}

/// How a service proves that it has its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// It sends it.
    Bearer,
    /// It signs its requests with it.
    Hmac,
}

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What people call it; `tenant/name` in any tenant but the default one.
    pub name: String,
    /// What it may do.
    pub bindings: Vec<Binding>,
    /// Only these of what the roles grant; empty: all of it.
    pub permissions: BTreeSet<Permission>,
    /// When it ends: within 366 days.
    pub expires: Timestamp,
    /// Requests that it may make per minute.
    pub requests_per_minute: u32,
    /// How it is proved.
    pub kind: TokenKind,
}

/// Where somebody is sent to sign in.
#[derive(Clone, Debug)]
pub struct OidcRedirect {
    /// The provider's page.
    pub url: String,
    /// What their browser keeps for the way back: HttpOnly, Secure,
    /// SameSite=Lax, for ten minutes.
    pub state_cookie: SecretText,
}

/// What somebody brings back from the provider.
#[derive(Clone, Copy)]
pub struct OidcReturn<'a> {
    /// `code`.
    pub code: &'a str,
    /// `state`.
    pub state: &'a str,
    /// `iss` (RFC 9207), where the provider says it.
    pub issuer: Option<&'a str>,
    /// What their browser kept.
    pub state_cookie: &'a str,
}

/// Counts since the start, and what is at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessStats {
    /// People who were let in.
    pub logins: u64,
    /// Attempts that were not.
    pub refused: u64,
    /// Attempts that were not looked at, as too many had failed before.
    pub too_soon: u64,
    /// Attempts that were sent away as too many waited.
    pub too_busy: u64,
    /// Refresh tokens that were used twice.
    pub reused: u64,
    /// Password hashes that were computed.
    pub hashes: u64,
    /// Sessions at this moment.
    pub sessions: usize,
    /// Accounts and addresses that have to wait between attempts.
    pub locked: usize,
    /// Attempts that wait for a hash at this moment.
    pub waiting: usize,
}
