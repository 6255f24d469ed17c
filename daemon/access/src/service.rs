//! Tokens of services.

use std::sync::Arc;
use std::time::Duration;

use model::{By, SecretName, TenantName, Timestamp, TokenProof, TokenRecord};
use secrets::SecretBytes;

use crate::text::digest;
use crate::token::new_token;
use crate::{Access, AccessError, Caller, NewToken, SecretText, TokenKind};

/// The longest that a token lives.
const LONGEST_LIFE: Duration = Duration::from_hours(366 * 24);

/// Requests per minute that a token can be given.
const MOST_REQUESTS: u32 = 60_000;

/// Letters of a token's name.
const MAX_NAME: usize = 128;

impl Access {
    /// Makes a token for a service: never with more than the caller has. The
    /// text is shown once. Whether the caller may make tokens (of that tenant)
    /// is asked before.
    ///
    /// A token is a service's, not its maker's: it stays when the person who
    /// made it is deactivated, demoted or deleted, until it expires or somebody
    /// revokes it. One that a token made ends no later than that one and may
    /// send no more ([`Caller::check_token_limits`]).
    ///
    /// # Errors
    ///
    /// [`AccessError::NotAllowed`] if it is more than the caller has,
    /// [`AccessError::Invalid`] if it makes no sense, [`AccessError::Store`],
    /// [`AccessError::Secrets`].
    pub async fn create_token(
        &self,
        caller: &Caller,
        by: &By,
        new: NewToken,
        now: Timestamp,
    ) -> Result<(Arc<TokenRecord>, SecretText), AccessError> {
        check(&new, now)?;
        if !caller.may_give(&new.bindings, &new.permissions) {
            return Err(AccessError::NotAllowed {
                what: "a token can do no more than who makes it".to_owned(),
            });
        }
        caller.check_token_limits(new.expires, new.requests_per_minute)?;
        let (id, text) = new_token();
        let (proof, secret) = match new.kind {
            TokenKind::Bearer => (TokenProof::Bearer(digest(text.expose())), None),
            TokenKind::Hmac => {
                let name = SecretName(format!(".token/{id}"));
                let value = SecretBytes::from(text.expose().to_owned());
                let author = by.actor.to_string();
                let secrets = &self.inner.secrets;
                let sealed = secrets.seal_record(&name, &value, &author, now).await?;
                (TokenProof::Hmac(name), Some(sealed))
            }
        };
        let record = TokenRecord {
            id,
            name: new.name,
            proof,
            bindings: new.bindings,
            permissions: new.permissions,
            requests_per_minute: new.requests_per_minute,
            created_by: by.actor.to_string(),
            created: now,
            expires: new.expires,
            last_used: None,
            revision: 1,
        };
        let kept = self
            .inner
            .store
            .create_token(by, record, secret, now)
            .await?;
        Ok((kept, text))
    }
}

fn check(new: &NewToken, now: Timestamp) -> Result<(), AccessError> {
    let invalid = |what: &str| {
        Err(AccessError::Invalid {
            what: what.to_owned(),
        })
    };
    if new.name.is_empty() || new.name.len() > MAX_NAME {
        return invalid("a token needs a name of at most 128 bytes");
    }
    if new.bindings.is_empty() {
        return invalid("a token without a role can do nothing; give it one");
    }
    let tenant = TenantName::of(&new.name);
    let foreign = |only: &TenantName| *only != tenant;
    if !tenant.is_default()
        && new
            .bindings
            .iter()
            .any(|given| given.scope.tenant.as_ref().is_none_or(foreign))
    {
        return invalid("a token of a tenant can act in that tenant alone; limit its roles to it");
    }
    if new.expires <= now {
        return invalid("the token would have expired already; choose a later time");
    }
    if new.expires > now.plus(LONGEST_LIFE) {
        return invalid("a token lives for at most 366 days; choose an earlier time");
    }
    if new.requests_per_minute == 0 || new.requests_per_minute > MOST_REQUESTS {
        return invalid("requests per minute have to be between 1 and 60000");
    }
    Ok(())
}
