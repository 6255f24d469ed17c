//! What devices are asked with. The secrets themselves lie sealed elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{
    By, Credential, CredentialName, CredentialRecord, SecretRecord, TenantName, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::audit::{self, Line};
use crate::book::{Book, Change};
use crate::error::{Answer, Fault, Refusal, or_refuse};
use crate::record::Table;
use crate::{checks, secrets, shown, tables};

/// Credentials that can be kept: one for every tenth device at the limit.
pub const MAX_CREDENTIALS: usize = 10_000;

/// A credential as schema 1 kept it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PlainCredential {
    pub(crate) secret: Credential,
    pub(crate) updated: Timestamp,
}

/// A credential, and the secret that comes with it, as they would be kept.
pub(crate) struct Planned {
    credential: CredentialRecord,
    secret: Option<SecretRecord>,
}

/// Whether there is a credential of this name, sealed or not yet.
pub(crate) fn is_there(book: &Book, name: &CredentialName) -> bool {
    book.credentials.contains_key(name) || book.plain.contains_key(name)
}

/// Puts a credential in, in the place of what had its name.
pub(crate) fn put(
    change: &mut Change<'_>,
    by: &By,
    (credential, secret): (&CredentialRecord, Option<&SecretRecord>),
    expected: Option<u64>,
    now: Timestamp,
) -> Answer<Arc<CredentialRecord>> {
    let planned = or_refuse!(plan(&change.book, credential, secret, expected, now));
    keep(change, by, planned, now).map(Ok)
}

/// The credential as it would be kept, if it can be.
fn plan(
    book: &Book,
    credential: &CredentialRecord,
    secret: Option<&SecretRecord>,
    expected: Option<u64>,
    now: Timestamp,
) -> Result<Planned, Refusal> {
    let name = &credential.name;
    let tenant = checks::qualified(&book.people, "credential", &name.0)?;
    let found = book.credentials.get(name).map(|known| known.revision);
    if found.is_none() && expected.is_some_and(|expected| expected > 0) {
        return Err(Refusal::NoSuchCredential { name: name.clone() });
    }
    checks::expected("credential", &name.0, found, expected)?;
    if !is_there(book, name) {
        let count = book.credentials.len() + book.plain.len();
        checks::room("credentials", count, MAX_CREDENTIALS)?;
    }
    check_secret(book, credential, secret, &tenant)?;
    let secret = secret.map(|secret| secrets::plan(book, secret, Some(secret.revision), now));
    Ok(Planned {
        credential: CredentialRecord {
            updated: now,
            revision: found.unwrap_or(0) + 1,
            ..credential.clone()
        },
        secret: secret.transpose()?,
    })
}

/// Whether the secret of a credential is there, or comes with it, and belongs
/// to its tenant.
fn check_secret(
    book: &Book,
    credential: &CredentialRecord,
    brought: Option<&SecretRecord>,
    tenant: &TenantName,
) -> Result<(), Refusal> {
    let secret = &credential.secret;
    let comes = brought.is_some_and(|brought| brought.name == *secret);
    let wrong = brought.is_some() && !comes;
    if secret.is_internal() || wrong || !(comes || book.secrets.contains_key(secret)) {
        return Err(Refusal::NoSuch {
            what: "secret",
            name: secret.0.clone(),
        });
    }
    let its = TenantName::of(&secret.0);
    match its == *tenant {
        true => Ok(()),
        false => Err(Refusal::OtherTenant {
            what: "secret",
            name: secret.0.clone(),
            its,
            tenant: tenant.clone(),
            device: None,
        }),
    }
}

/// Keeps a credential that was planned.
pub(crate) fn keep(
    change: &mut Change<'_>,
    by: &By,
    planned: Planned,
    now: Timestamp,
) -> Result<Arc<CredentialRecord>, Fault> {
    if let Some(secret) = planned.secret {
        secrets::keep(change, by, secret, now)?;
    }
    let credential = planned.credential;
    let name = credential.name.clone();
    let before = change.book.credentials.get(&name).cloned();
    let line = Line::set(
        "credential",
        &name.0,
        before.as_ref().map(|b| shown::credential(b)),
    )
    .of(Some(TenantName::of(&name.0)))
    .after(shown::credential(&credential));
    audit::append(change, by, now, line)?;
    tables::CREDENTIAL.put(change.txn, name.0.as_str(), &credential)?;
    let credential = Arc::new(credential);
    Arc::make_mut(&mut change.book.credentials).insert(name.clone(), credential.clone());
    change.book.watched += 1;
    forget_plain(change, std::slice::from_ref(&name))?;
    if let Some(before) = before
        && before.secret == secrets::inline_of(&name)
    {
        secrets::forget_unused(change, by, &before.secret, now)?;
    }
    Ok(credential)
}

/// Takes a credential away that no live device uses, and its own secret.
pub(crate) fn delete(
    change: &mut Change<'_>,
    by: &By,
    name: &CredentialName,
    expected: Option<u64>,
    now: Timestamp,
) -> Answer<()> {
    if !is_there(&change.book, name) {
        return Ok(Err(Refusal::NoSuchCredential { name: name.clone() }));
    }
    let before = change.book.credentials.get(name).cloned();
    let found = before.as_ref().map_or(1, |before| before.revision);
    or_refuse!(checks::expected(
        "credential",
        &name.0,
        Some(found),
        expected
    ));
    or_refuse!(check_unused(&change.book, name));
    let line = Line::on("credential.delete", &format!("credential:{name}"))
        .of(Some(TenantName::of(&name.0)));
    let line = match &before {
        Some(before) => line.before(shown::credential(before)),
        None => line,
    };
    audit::append(change, by, now, line)?;
    tables::CREDENTIAL.remove(change.txn, name.0.as_str())?;
    Arc::make_mut(&mut change.book.credentials).remove(name);
    change.book.watched += 1;
    forget_plain(change, std::slice::from_ref(name))?;
    secrets::forget_unused(change, by, &secrets::inline_of(name), now)?;
    Ok(Ok(()))
}

/// What has to be kept so that `credential` can come with a new device: nothing
/// if it is there as it comes without a secret. Else it has to be new, and so
/// has its secret: who may enter a device may not change what others are asked
/// with, now or once they are restored.
pub(crate) fn plan_new(
    book: &Book,
    credential: &CredentialRecord,
    secret: Option<&SecretRecord>,
    now: Timestamp,
) -> Result<Option<Planned>, Refusal> {
    let known = book.credentials.get(&credential.name);
    let same = known
        .is_some_and(|known| (known.kind, &known.secret) == (credential.kind, &credential.secret));
    if same && secret.is_none() {
        return Ok(None);
    }
    check_unused(book, &credential.name)?;
    let there = |what, name: &str| Refusal::NameExists {
        what,
        name: name.to_owned(),
    };
    if is_there(book, &credential.name) {
        return Err(there("credential", &credential.name.0));
    }
    match secret {
        Some(secret) if book.secrets.contains_key(&secret.name) => {
            Err(there("secret", &secret.name.0))
        }
        _ => plan(book, credential, secret, Some(0), now).map(Some),
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
        ids: users.iter().map(|device| device.id).collect(),
    })
}

/// Keeps sealed credentials in the place of what schema 1 kept.
pub(crate) fn seal_plain(
    change: &mut Change<'_>,
    by: &By,
    sealed: &[(CredentialRecord, SecretRecord)],
    now: Timestamp,
) -> Answer<()> {
    let mut planned = BTreeMap::new();
    for (credential, secret) in sealed {
        let name = &credential.name;
        if !change.book.plain.contains_key(name) {
            return Ok(Err(Refusal::NoSuchCredential { name: name.clone() }));
        }
        let plan = or_refuse!(plan(&change.book, credential, Some(secret), None, now));
        planned.insert(name.clone(), plan);
    }
    let names: Vec<CredentialName> = planned.keys().cloned().collect();
    forget_plain(change, &names)?;
    for plan in planned.into_values() {
        keep(change, by, plan, now)?;
    }
    Ok(Ok(()))
}

/// Forgets what schema 1 kept under these names, and has the pages overwritten
/// that it was in.
fn forget_plain(change: &mut Change<'_>, names: &[CredentialName]) -> Result<(), Fault> {
    if !names
        .iter()
        .any(|name| change.book.plain.contains_key(name))
    {
        return Ok(());
    }
    let plain = Arc::make_mut(&mut change.book.plain);
    for name in names {
        plain.remove(name);
    }
    // a row that is removed can stay as it was in a page that is not free; all
    // pages of the table are
    change
        .txn
        .delete_table(tables::CREDENTIAL_PLAIN.definition())?;
    Table::create(&tables::CREDENTIAL_PLAIN, change.txn)?;
    for (name, kept) in change.book.plain.iter() {
        tables::CREDENTIAL_PLAIN.put(change.txn, name.0.as_str(), kept)?;
    }
    tables::COUNTER.put(change.txn, tables::WIPE, &1)?;
    change.book.to_wipe = true;
    Ok(())
}
