//! What things of several kinds are checked for before they are kept.

use model::{TenantName, checked_name};
use serde::Serialize;

use crate::error::Refusal;
use crate::people::People;

/// Whether something at revision `found` (`None`: not there) is what the caller
/// `expected`: 0 stands for something new.
pub(crate) fn expected(
    what: &'static str,
    name: &str,
    found: Option<u64>,
    expected: Option<u64>,
) -> Result<(), Refusal> {
    let name = || name.to_owned();
    match (found, expected) {
        (Some(_), Some(0)) => Err(Refusal::NameExists { what, name: name() }),
        (None, Some(1..)) => Err(Refusal::NoSuch { what, name: name() }),
        (Some(found), Some(expected)) if found != expected => {
            Err(Refusal::RevisionMismatch { expected, found })
        }
        _ => Ok(()),
    }
}

/// Whose a thing of this qualified name is, if it can be named so.
pub(crate) fn qualified(
    people: &People,
    what: &'static str,
    name: &str,
) -> Result<TenantName, Refusal> {
    let bad = |why| Refusal::BadName {
        what,
        name: name.chars().take(200).collect(),
        why,
    };
    let (tenant, own) = match name.split_once('/') {
        None => (TenantName::default_tenant(), name),
        Some((TenantName::DEFAULT, _)) => {
            return Err(bad(
                "what belongs to the tenant default is named without it",
            ));
        }
        Some((tenant, own)) => (TenantName(tenant.to_owned()), own),
    };
    if own.contains('/') {
        return Err(bad("only one \"/\" can stand in it, after the tenant"));
    }
    if own.starts_with('.') {
        return Err(bad("names that begin with a dot are the daemon's own"));
    }
    checked_name(own).map_err(|error| bad(error.why))?;
    self::tenant(people, &tenant)?;
    Ok(tenant)
}

/// Whether the tenant is there.
pub(crate) fn tenant(people: &People, name: &TenantName) -> Result<(), Refusal> {
    match people.tenant(name) {
        Some(_) => Ok(()),
        None => Err(Refusal::NoSuchTenant { name: name.clone() }),
    }
}

/// Whether one more fits among `count`.
pub(crate) fn room(what: &'static str, count: usize, limit: usize) -> Result<(), Refusal> {
    match count < limit {
        true => Ok(()),
        false => Err(Refusal::TooMany { what, limit }),
    }
}

/// Whether `value` takes at most `limit` bytes as it is kept.
pub(crate) fn size(
    what: &'static str,
    value: &impl Serialize,
    limit: usize,
) -> Result<(), Refusal> {
    match postcard::to_stdvec(value) {
        Ok(kept) if kept.len() <= limit => Ok(()),
        _ => Err(Refusal::TooMany { what, limit }),
    }
}
