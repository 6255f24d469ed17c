//! From schema 1 to 2: tenants, and secrets that are sealed.
//!
//! Each device gets the default tenant. A `/` now separates a tenant from a
//! name, so rules and credentials that have one in their names get a `-` for
//! it, and so do those who refer to them. Credentials go to a table of their
//! own until they are sealed; from then on the pages they were in are to be
//! overwritten.

use std::collections::{BTreeMap, BTreeSet};

use model::{Alert, CredentialName, Device, RuleName, TenantName};
use redb::{Key, ReadableTable, TableHandle, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::credentials::PlainCredential;
use crate::error::Fault;
use crate::record::{self, Kept};
use crate::tables;

/// What schema 1 had in the places of tables that are others now.
pub(crate) const DEVICE_1: Kept<u64, Device> = Kept::new("device", 1);
pub(crate) const CREDENTIAL_1: Kept<&str, PlainCredential> = Kept::new("credential", 1);

/// New names for old ones.
type Renamed = BTreeMap<String, String>;

pub(crate) fn run(txn: &WriteTransaction) -> Result<(), Fault> {
    let credentials = move_credentials(txn)?;
    move_devices(txn, &credentials)?;
    rename_rules(txn)?;
    super::create_tables(txn)?;
    tables::COUNTER.put(txn, tables::WIPE, &1)
}

/// Every row of a table, read as `T` of schema 1.
fn rows<K: Key + 'static, T: Serialize + DeserializeOwned, Own>(
    txn: &WriteTransaction,
    kept: &Kept<K, T>,
    own: impl Fn(K::SelfType<'_>) -> Own,
) -> Result<Vec<(Own, T)>, Fault> {
    let table = txn.open_table(kept.definition())?;
    let rows = table.iter()?.map(|row| {
        let (key, sealed) = row?;
        let value = kept.unseal(&key.value(), sealed.value())?;
        Ok((own(key.value()), value))
    });
    rows.collect()
}

fn move_credentials(txn: &WriteTransaction) -> Result<Renamed, Fault> {
    let plain = rows(txn, &CREDENTIAL_1, str::to_owned)?;
    txn.delete_table(CREDENTIAL_1.definition())?;
    let renamed = renamed(plain.iter().map(|(name, _)| name));
    for (name, kept) in &plain {
        let name = renamed.get(name).unwrap_or(name);
        tables::CREDENTIAL_PLAIN.put(txn, name.as_str(), kept)?;
    }
    Ok(renamed)
}

fn move_devices(txn: &WriteTransaction, credentials: &Renamed) -> Result<(), Fault> {
    for (id, mut device) in devices(txn)? {
        if let Some(name) = &mut device.credential
            && let Some(new) = credentials.get(&name.0)
        {
            *name = CredentialName(new.clone());
        }
        tables::DEVICE.put(txn, id, &device)?;
    }
    Ok(())
}

/// Devices as they are now: the tenant is the last field, so all that is
/// missing is at the end.
fn devices(txn: &WriteTransaction) -> Result<Vec<(u64, Device)>, Fault> {
    let tenant = postcard::to_stdvec(&TenantName::default_tenant())
        .expect("plain data in memory can be written down");
    let definition = DEVICE_1.definition();
    let table = txn.open_table(definition)?;
    let rows = table.iter()?.map(|row| {
        let (key, sealed) = row?;
        let id = key.value();
        let body = record::unseal(definition.name(), &id.to_le_bytes(), 1, sealed.value())?;
        let body = [body, &tenant].concat();
        match postcard::take_from_bytes(&body) {
            Ok((device, [])) => Ok((id, device)),
            Ok(_) => Err(damage(id, "it is too long")),
            Err(error) => Err(damage(id, &error.to_string())),
        }
    });
    rows.collect()
}

fn damage(id: u64, why: &str) -> Fault {
    Fault::Damage(format!("table device, key {id}: {why}"))
}

fn rename_rules(txn: &WriteTransaction) -> Result<(), Fault> {
    let rules = rows(txn, &tables::RULE, str::to_owned)?;
    let renamed = renamed(rules.iter().map(|(name, _)| name));
    for (old, mut rule) in rules {
        if let Some(new) = renamed.get(&old) {
            tables::RULE.remove(txn, old.as_str())?;
            rule.name = RuleName(new.clone());
            tables::RULE.put(txn, new.as_str(), &rule)?;
        }
    }
    if !renamed.is_empty() {
        rename_in_alerts(txn, &tables::ALERT, &renamed)?;
        rename_in_alerts(txn, &tables::ALERT_PAST, &renamed)?;
    }
    Ok(())
}

fn rename_in_alerts(
    txn: &WriteTransaction,
    kept: &Kept<u64, Alert>,
    renamed: &Renamed,
) -> Result<(), Fault> {
    for (id, mut alert) in rows(txn, kept, |id| id)? {
        if let Some(new) = renamed.get(&alert.rule.0) {
            alert.rule = RuleName(new.clone());
            kept.put(txn, id, &alert)?;
        }
    }
    Ok(())
}

/// Names without `/` for those with one, each unlike any other.
fn renamed<'n>(names: impl Iterator<Item = &'n String>) -> Renamed {
    let names: Vec<&String> = names.collect();
    let mut taken: BTreeSet<String> = names.iter().map(|name| (*name).clone()).collect();
    let mut renamed = Renamed::new();
    for name in names.into_iter().filter(|name| name.contains('/')) {
        let plain = name.replace('/', "-");
        let numbered = (2u32..).map(|n| format!("{plain}-{n}"));
        let mut candidates = std::iter::once(plain.clone()).chain(numbered);
        let free = candidates.find(|candidate| !taken.contains(candidate));
        let free = free.expect("there are more numbers than names");
        taken.insert(free.clone());
        renamed.insert(name.clone(), free);
    }
    renamed
}
