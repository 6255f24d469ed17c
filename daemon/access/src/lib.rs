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

mod caller;
mod error;
mod signed;
mod text;
mod words;

use std::sync::Arc;

use model::{By, SessionId, Timestamp, TokenRecord, User, UserName};
use secrets::Secrets;
use store::Store;

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
pub struct Access;

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

#[expect(
    clippy::unused_async,
    clippy::missing_errors_doc,
    unused_variables,
    reason = "signatures first"
)]
impl Access {
    /// Over `store` and `secrets`. Blocks: reads the provider's certificates.
    pub fn new(
        store: Store,
        secrets: Secrets,
        settings: AccessSettings,
        now: Timestamp,
    ) -> Result<Access, AccessError> {
        unimplemented!()
    }

    /// Goes by `settings` from now on; on an error the old ones hold. Blocks.
    pub fn reconfigure(&self, settings: AccessSettings) -> Result<(), AccessError> {
        unimplemented!()
    }

    /// Does what is due until `stop` is done: ends the sessions of people who
    /// are gone or inactive as soon as that is so.
    pub async fn run(&self, clock: fn() -> Timestamp) {
        unimplemented!()
    }

    /// Whether somebody may do everything everywhere.
    #[must_use]
    pub fn is_set_up(&self) -> bool {
        unimplemented!()
    }

    /// A link to set up the appliance with; the one before is void.
    pub fn offer_setup(&self, now: Timestamp) -> Result<SetupOffer, AccessError> {
        unimplemented!()
    }

    /// Makes the first administrator, once.
    pub async fn set_up(
        &self,
        token: &str,
        name: UserName,
        password: &str,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Arc<User>, AccessError> {
        unimplemented!()
    }

    /// Makes the first administrator without a link: for local root alone.
    pub async fn first_admin(
        &self,
        by: &By,
        name: UserName,
        password: &str,
        now: Timestamp,
    ) -> Result<Arc<User>, AccessError> {
        unimplemented!()
    }

    /// Enters a person; `password`: what they sign in with, which is hashed
    /// into `user.password`.
    pub async fn create_user(
        &self,
        by: &By,
        user: User,
        password: Option<&str>,
        now: Timestamp,
    ) -> Result<Arc<User>, AccessError> {
        unimplemented!()
    }

    /// Lets somebody in with a password.
    pub async fn log_in(
        &self,
        ask: LogIn,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Granted, AccessError> {
        unimplemented!()
    }

    /// Exchanges a refresh token.
    pub async fn refresh(
        &self,
        token: &str,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Granted, AccessError> {
        unimplemented!()
    }

    /// Ends a session; [`AccessError::NotFound`] if there is none.
    pub async fn end_session(
        &self,
        by: &By,
        id: &SessionId,
        now: Timestamp,
    ) -> Result<(), AccessError> {
        unimplemented!()
    }

    /// Ends the sessions of a person, but `except`; says how many.
    pub async fn end_sessions_of(
        &self,
        by: &By,
        user: &UserName,
        except: Option<&SessionId>,
        now: Timestamp,
    ) -> Result<usize, AccessError> {
        unimplemented!()
    }

    /// Ends the sessions of people who are gone or inactive; says how many.
    pub async fn people_ended(&self, by: &By, now: Timestamp) -> Result<usize, AccessError> {
        unimplemented!()
    }

    /// Who makes this request. Never waits: no disk, no other task.
    /// [`Shown::Nothing`] is [`Caller::anonymous`].
    pub fn authenticate(
        &self,
        shown: Shown<'_>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Caller, AccessError> {
        unimplemented!()
    }

    /// Changes the caller's own password; their other sessions end.
    pub async fn change_password(
        &self,
        caller: &Caller,
        old: &str,
        new: &str,
        now: Timestamp,
    ) -> Result<(), AccessError> {
        unimplemented!()
    }

    /// Gives a person a password for once; their sessions end.
    pub async fn reset_password(
        &self,
        by: &By,
        user: &UserName,
        now: Timestamp,
    ) -> Result<SecretText, AccessError> {
        unimplemented!()
    }

    /// Begins to set up the caller's authenticator.
    pub async fn begin_totp(
        &self,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<TotpOffer, AccessError> {
        unimplemented!()
    }

    /// Turns codes on, after a first one that is right; gives ten recovery
    /// codes. Where they are on: proves the second factor for this session,
    /// and gives none.
    pub async fn confirm_totp(
        &self,
        caller: &Caller,
        code: &str,
        now: Timestamp,
    ) -> Result<Vec<SecretText>, AccessError> {
        unimplemented!()
    }

    /// Turns the caller's own codes off, by their password.
    pub async fn remove_own_totp(
        &self,
        caller: &Caller,
        password: &str,
        now: Timestamp,
    ) -> Result<(), AccessError> {
        unimplemented!()
    }

    /// Turns a person's codes off.
    pub async fn remove_totp(
        &self,
        by: &By,
        user: &UserName,
        now: Timestamp,
    ) -> Result<(), AccessError> {
        unimplemented!()
    }

    /// Makes a token for a service: never with more than the caller has.
    pub async fn create_token(
        &self,
        caller: &Caller,
        by: &By,
        new: NewToken,
        now: Timestamp,
    ) -> Result<(Arc<TokenRecord>, SecretText), AccessError> {
        unimplemented!()
    }

    /// Where somebody signs in at the OpenID provider.
    pub async fn oidc_begin(&self, now: Timestamp) -> Result<OidcRedirect, AccessError> {
        unimplemented!()
    }

    /// Lets somebody in who comes back from the OpenID provider.
    pub async fn oidc_finish(
        &self,
        back: OidcReturn<'_>,
        agent: Option<String>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Granted, AccessError> {
        unimplemented!()
    }

    /// What there is to count.
    #[must_use]
    pub fn stats(&self) -> AccessStats {
        unimplemented!()
    }
}
