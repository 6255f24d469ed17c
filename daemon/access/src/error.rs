//! What can go wrong when somebody wants in.

use std::time::Duration;

use secrets::SecretsError;
use store::WriteError;

/// Why somebody is not let in, or a change of their access is not made. The
/// texts may be shown to them.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// There is no administrator yet.
    #[error("the appliance is not set up; run `sudo sotp setup` on it and open the link")]
    NotSetUp,
    /// The token of the set-up link is wrong, was used, or is older than 30
    /// minutes.
    #[error("the set-up link is wrong, was used or is too old; run `sudo sotp setup` again")]
    SetupToken,
    /// There is an administrator.
    #[error("the appliance is set up already; sign in")]
    AlreadySetUp,
    /// User, password, code or state: which of them is wrong is not said.
    #[error("the user, the password or the code is wrong")]
    Refused,
    /// The password is right; a code is needed too.
    #[error("a code of the authenticator, or a recovery code, is needed too")]
    CodeNeeded,
    /// Too many attempts failed, or a token signed more than it may send.
    #[error("there were too many attempts; try again in {} s", wait.as_secs().max(1))]
    TooSoon {
        /// How long nothing is looked at.
        wait: Duration,
    },
    /// Too many people sign in at this moment.
    #[error("too many sign-ins at this moment; try again in a second")]
    TooBusy,
    /// What was shown is not one of ours, or not made for this.
    #[error("the token cannot be used: {why}")]
    BadToken {
        /// What is wrong with it.
        why: &'static str,
    },
    /// It was good once; it ended by its time.
    #[error("the token or the session has expired")]
    Expired,
    /// It was good once; somebody ended it, or its person.
    #[error("the session or the token was ended")]
    Revoked,
    /// A refresh token was used a second time: its session is ended.
    #[error("the refresh token was used before; the session is ended, sign in again")]
    Reused,
    /// The new password is one that others guess.
    #[error("this password is not taken: {why}")]
    WeakPassword {
        /// What is wrong with it.
        why: String,
    },
    /// What they ask for is more than they have.
    #[error("{what}")]
    NotAllowed {
        /// What is more than they have.
        what: String,
    },
    /// What they ask for makes no sense.
    #[error("{what}")]
    Invalid {
        /// What is wrong with it.
        what: String,
    },
    /// No such person, session or token.
    #[error("there is no {what}")]
    NotFound {
        /// What there is not.
        what: String,
    },
    /// TOTP is on, and begins anew only after it was removed.
    #[error("codes are demanded already; remove them first")]
    TotpIsOn,
    /// There is nothing to confirm or remove.
    #[error("no authenticator was set up; begin with that")]
    TotpIsOff,
    /// Sign-in at a provider is not set up.
    #[error("sign-in at an OpenID provider is not set up")]
    OidcOff,
    /// The provider's answer is not taken. Look at the text in the log, not at
    /// the person.
    #[error("sign-in at the OpenID provider failed: {why}")]
    Oidc {
        /// What is wrong.
        why: String,
    },
    /// The provider cannot be reached or answers nonsense: worth trying later.
    #[error("the OpenID provider cannot be asked: {why}")]
    OidcUnavailable {
        /// What is wrong.
        why: String,
    },
    /// The settings make no sense.
    #[error("{what}")]
    Settings {
        /// Which, and why.
        what: String,
    },
    /// The change was not written.
    #[error(transparent)]
    Store(#[from] WriteError),
    /// The secret cannot be read or written.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}
