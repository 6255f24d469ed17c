//! What lets us in. Written and used, never shown.

use std::sync::Arc;

use model::{Credential, CredentialName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::book::{Book, Change};
use crate::error::{Fault, Refusal};
use crate::tables;

/// Credentials that can be kept: one for every tenth device at the limit.
pub const MAX_CREDENTIALS: usize = 10_000;

/// A credential as it is kept.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct KeptCredential {
    pub(crate) secret: Credential,
    pub(crate) updated: Timestamp,
}

/// Puts a credential in, in the place of what had its name.
pub(crate) fn put(
    change: &mut Change<'_>,
    name: &CredentialName,
    secret: &Credential,
    now: Timestamp,
) -> Result<Result<(), Refusal>, Fault> {
    if let Err(refusal) = check_room(&change.book, name) {
        return Ok(Err(refusal));
    }
    keep(change, name, secret, now).map(Ok)
}

/// Takes a credential away that no live device uses.
pub(crate) fn delete(
    change: &mut Change<'_>,
    name: &CredentialName,
) -> Result<Result<(), Refusal>, Fault> {
    if !change.book.credentials.contains_key(name) {
        return Ok(Err(Refusal::NoSuchCredential { name: name.clone() }));
    }
    if let Err(refusal) = check_unused(&change.book, name) {
        return Ok(Err(refusal));
    }
    tables::CREDENTIAL.remove(change.txn, name.0.as_str())?;
    Arc::make_mut(&mut change.book.credentials).remove(name);
    change.book.watched += 1;
    Ok(Ok(()))
}

/// Whether a credential can come with a new device: not if that would change
/// the secret of other devices behind somebody's back.
pub(crate) fn check_new(
    book: &Book,
    name: &CredentialName,
    secret: &Credential,
) -> Result<(), Refusal> {
    match book.credentials.get(name) {
        Some(known) if known.secret == *secret => Ok(()),
        Some(_) => check_unused(book, name),
        None => check_room(book, name),
    }
}

fn check_unused(book: &Book, name: &CredentialName) -> Result<(), Refusal> {
    let users = book.inventory.users_of(name);
    if users.is_empty() {
        return Ok(());
    }
    Err(Refusal::CredentialInUse {
        name: name.clone(),
        devices: users.iter().map(|device| device.name.clone()).collect(),
    })
}

fn check_room(book: &Book, name: &CredentialName) -> Result<(), Refusal> {
    if book.credentials.len() >= MAX_CREDENTIALS && !book.credentials.contains_key(name) {
        return Err(Refusal::TooMany {
            what: "credentials",
            limit: MAX_CREDENTIALS,
        });
    }
    Ok(())
}

pub(crate) fn keep(
    change: &mut Change<'_>,
    name: &CredentialName,
    secret: &Credential,
    now: Timestamp,
) -> Result<(), Fault> {
    let kept = KeptCredential {
        secret: secret.clone(),
        updated: now,
    };
    tables::CREDENTIAL.put(change.txn, name.0.as_str(), &kept)?;
    Arc::make_mut(&mut change.book.credentials).insert(name.clone(), kept);
    change.book.watched += 1;
    Ok(())
}
