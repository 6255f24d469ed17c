//! A store of schema 1 becomes one of today, and what it kept in plain text is
//! gone once it is sealed.

use std::collections::BTreeSet;
use std::path::Path;

use model::{
    Address, AlertState, Credential, CredentialName, DeviceId, DeviceKind, PollSettings, RuleName,
    RuleSource, Timestamp,
};
use redb::{Database, TableHandle};
use serde::Serialize;

use super::sim::{Dice, SimDisk};
use super::support::*;
use crate::credentials::PlainCredential;
use crate::disk::begin_write;
use crate::migrate::to_tenants::CREDENTIAL_1;
use crate::record::{self, Table};
use crate::tables::{self, COUNTER, SCHEMA_KEY};
use crate::{AlertsAsk, OpenError, Store};

/// A device as schema 1 had it.
#[derive(Serialize)]
struct Device1 {
    id: DeviceId,
    name: String,
    address: Address,
    kind: DeviceKind,
    vendor: Option<String>,
    model: Option<String>,
    os: Option<String>,
    site: Option<String>,
    location: Option<String>,
    tags: BTreeSet<String>,
    parents: BTreeSet<DeviceId>,
    poll: PollSettings,
    credential: Option<CredentialName>,
    enabled: bool,
    created: Timestamp,
    updated: Timestamp,
    deleted: Option<Timestamp>,
    revision: u64,
}

fn device(id: u64, credential: &str) -> Device1 {
    Device1 {
        id: DeviceId(id),
        name: format!("d{id}"),
        address: format!("10.0.0.{id}").parse().unwrap(),
        kind: DeviceKind::Switch,
        vendor: Some("ACME".into()),
        model: None,
        os: None,
        site: Some("berlin".into()),
        location: None,
        tags: ["core".to_owned()].into(),
        parents: BTreeSet::new(),
        poll: PollSettings::default(),
        credential: Some(CredentialName(credential.into())),
        enabled: true,
        created: NOW,
        updated: NOW,
        deleted: None,
        revision: 3,
    }
}

const CANARY: &str = "canary-community";

/// Makes a store of schema 1 of what is empty today.
fn make_old(path: &Path) {
    std::fs::write(path, crate::migrate::empty_image().unwrap()).unwrap();
    let db = Database::open(path).unwrap();
    let txn = begin_write(&db).unwrap();
    for name in [
        "credential",
        "credential_plain",
        "user",
        "tenant",
        "token",
        "policy",
        "session",
        "secret",
        "key_ring",
        "audit",
        "audit_end",
        "answer",
        "device",
        "group",
        "segment",
    ] {
        // whatever the types of its keys and values are
        let known = txn.list_tables().unwrap();
        let known: Vec<_> = known.filter(|known| known.name() == name).collect();
        assert_eq!(known.len(), 1, "{name}");
        for known in known {
            txn.delete_table(known).unwrap();
        }
    }
    CREDENTIAL_1.create(&txn).unwrap();
    crate::migrate::to_segments::create_old_tables(&txn).unwrap();
    COUNTER.put(&txn, SCHEMA_KEY, &1).unwrap();
    let devices: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("device");
    let mut devices = txn.open_table(devices).unwrap();
    for (id, credential) in [(1, "lab"), (2, "acme/lab"), (3, "acme-lab")] {
        let body = postcard::to_stdvec(&device(id, credential)).unwrap();
        let row = record::seal("device", &id.to_le_bytes(), 1, &body);
        devices.insert(id, row.as_slice()).unwrap();
    }
    drop(devices);
    for name in ["up/down", "down"] {
        let rule = super::life::rule(name, RuleSource::Api);
        tables::RULE.put(&txn, name, &rule).unwrap();
    }
    for (kept, id, state) in [
        (tables::ALERT, 1, AlertState::Firing),
        (tables::ALERT_PAST, 2, AlertState::Resolved),
    ] {
        let mut alert = alert(id, state);
        alert.rule = RuleName("up/down".into());
        kept.put(&txn, id, &alert).unwrap();
    }
    txn.commit().unwrap();
    fill_free_pages(&db);
}

/// Credentials that were changed often: what they were lies about in free
/// pages.
fn fill_free_pages(db: &Database) {
    for round in (0..30).rev() {
        let txn = begin_write(db).unwrap();
        for (n, name) in ["lab", "acme/lab", "acme-lab"].iter().enumerate() {
            CREDENTIAL_1
                .put(&txn, name, &plain(&format!("{CANARY}-{n}-{round}")))
                .unwrap();
        }
        for n in 0..200 {
            let (name, kept) = (format!("old-{round}-{n}"), plain(&format!("{CANARY}-{n}")));
            CREDENTIAL_1.put(&txn, name.as_str(), &kept).unwrap();
        }
        txn.commit().unwrap();
        let txn = begin_write(db).unwrap();
        for n in 0..200 {
            let name = format!("old-{round}-{n}");
            CREDENTIAL_1.remove(&txn, name.as_str()).unwrap();
        }
        txn.commit().unwrap();
    }
}

fn plain(community: &str) -> PlainCredential {
    PlainCredential {
        secret: Credential::SnmpV2c {
            community: community.as_bytes().to_vec(),
        },
        updated: NOW,
    }
}

fn canaries(bytes: &[u8]) -> usize {
    let windows = bytes.windows(CANARY.len());
    windows
        .filter(|window| *window == CANARY.as_bytes())
        .count()
}

fn old() -> Home {
    let home = Home::new();
    make_old(&home.path());
    home
}

fn name(text: &str) -> CredentialName {
    CredentialName(text.to_owned())
}

/// Seals what waits to be sealed.
fn seal(store: &Store) -> Result<(), crate::WriteError> {
    let sealed = store
        .open_plain_credentials()
        .into_iter()
        .map(|(name, plain)| {
            let Credential::SnmpV2c { community } = plain;
            credential(&name.0, &String::from_utf8(community).unwrap())
        });
    block_on(store.seal_plain_credentials(by(), sealed.collect(), NOW))
}

#[test]
fn devices_rules_and_credentials_of_schema_1_are_there_in_the_default_tenant() {
    let home = old();
    let store = home.open();
    let inventory = store.inventory();
    let used: Vec<String> = inventory
        .live()
        .map(|device| device.credential.clone().unwrap().0)
        .collect();
    assert_eq!(used, ["lab", "acme-lab-2", "acme-lab"]);
    let first = inventory.by_name(&ours(), "d1").unwrap();
    assert_eq!((first.revision, first.site.as_deref()), (3, Some("berlin")));
    assert_eq!(first.tags, ["core".to_owned()].into());
    let plain = store.open_plain_credentials();
    let names: Vec<&str> = plain.iter().map(|(name, _)| name.0.as_str()).collect();
    assert_eq!(names, ["acme-lab", "acme-lab-2", "lab"]);
    let Credential::SnmpV2c { community } = &plain[1].1;
    assert_eq!(community, format!("{CANARY}-1-0").as_bytes());

    let rules = store.rules();
    let rules: Vec<&str> = rules.iter().map(|rule| rule.name.0.as_str()).collect();
    assert_eq!(rules, ["down", "up-down"]);
    let ask = AlertsAsk {
        states: Vec::new(),
        device: None,
        rule: Some(RuleName("up-down".into())),
        severity: None,
        before: None,
        limit: 10,
    };
    assert_eq!(store.alerts(&ask).unwrap().len(), 2);
    assert_eq!(store.people().tenants().count(), 1);
    assert_eq!(store.verify_audit().unwrap().lines, 0);
}

#[test]
fn a_device_can_be_changed_before_its_credential_is_sealed() {
    let home = old();
    let store = home.open();
    let first = store.inventory().device(DeviceId(1)).unwrap().clone();
    let renamed = model::DeviceDraft {
        name: "core1".into(),
        ..first.draft()
    };
    block_on(store.replace_device(by(), first.id, renamed, Some(3), NOW)).unwrap();
    assert_eq!(
        store.credential(&name("lab")),
        None,
        "nobody can use it yet"
    );
    store.close().unwrap();
    assert_eq!(home.open().open_plain_credentials().len(), 3);
}

#[test]
fn what_was_kept_in_plain_text_is_nowhere_in_the_file_once_it_is_sealed() {
    let home = old();
    let before = canaries(&std::fs::read(home.path()).unwrap());
    assert!(before > 100, "the test would prove nothing: {before}");
    let store = home.open();
    seal(&store).unwrap();
    assert_eq!(canaries(&std::fs::read(home.path()).unwrap()), 0, "at once");
    assert!(store.open_plain_credentials().is_empty());
    let lab = store.credential(&name("lab")).unwrap();
    let value = store.secret(&lab.secret).unwrap().versions[0]
        .sealed
        .clone();
    assert_eq!(opened(&value.unwrap()), Some(format!("{CANARY}-0-0")));
    assert_eq!(store.credentials().len(), 3);
    assert_eq!(store.verify_audit().unwrap().lines, 6);
    store.close().unwrap();
    assert_eq!(canaries(&std::fs::read(home.path()).unwrap()), 0);
    let store = home.open();
    assert_eq!(store.credentials().len(), 3);
    create(&store, "new", "10.0.1.1");
}

#[test]
fn what_is_sealed_in_parts_is_gone_with_the_last_part() {
    let home = old();
    let store = home.open();
    for part in ["lab", "acme-lab", "acme-lab-2"] {
        let all = store.open_plain_credentials();
        let (_, plain) = all.iter().find(|(name, _)| name.0 == part).unwrap();
        let Credential::SnmpV2c { community } = plain;
        let one = credential(part, &String::from_utf8(community.clone()).unwrap());
        block_on(store.seal_plain_credentials(by(), vec![one.clone()], NOW)).unwrap();
        let again = block_on(store.seal_plain_credentials(by(), vec![one], NOW));
        assert!(again.is_err(), "it is sealed already");
    }
    assert_eq!(canaries(&std::fs::read(home.path()).unwrap()), 0);
}

#[test]
fn an_old_store_without_credentials_is_cleaned_by_itself() {
    let home = old();
    let db = Database::open(home.path()).unwrap();
    fill_free_pages(&db);
    let txn = begin_write(&db).unwrap();
    for name in ["lab", "acme/lab", "acme-lab"] {
        CREDENTIAL_1.remove(&txn, name).unwrap();
    }
    txn.commit().unwrap();
    // not closed, which would cut most free pages off
    let image = std::fs::read(home.path()).unwrap();
    drop(db);
    std::fs::write(home.path(), image).unwrap();
    let before = canaries(&std::fs::read(home.path()).unwrap());
    assert!(before > 0, "the test would prove nothing");
    let store = home.open();
    block_on(store.heartbeat()).unwrap();
    assert_eq!(canaries(&std::fs::read(home.path()).unwrap()), 0);
}

#[test]
fn a_migration_that_is_cut_off_anywhere_loses_nothing_and_comes_to_its_end() {
    let home = old();
    let image = std::fs::read(home.path()).unwrap();
    let open = |disk: &SimDisk| Store::open_on(home.options(), disk.parts(), QUICK, NOW);
    for writes in (1..160).step_by(3) {
        let story = format!("power gone at write {writes}");
        let mut dice = Dice::new(writes);
        let disk = SimDisk::new(image.clone());
        disk.crash_in(writes);
        match open(&disk) {
            Ok(store) => {
                // the power may go
                let _ = seal(&store);
                drop(store.close());
            }
            Err(OpenError::Io { .. } | OpenError::Samples { .. }) => {}
            Err(error) => panic!("{story}: {error}"),
        }
        let disk = disk.after_power_cut(&mut dice);
        let store = open(&disk).unwrap();
        if !store.open_plain_credentials().is_empty() {
            seal(&store).unwrap();
        }
        block_on(store.heartbeat()).unwrap();
        assert_eq!(store.credentials().len(), 3, "{story}");
        assert_eq!(store.inventory().len(), 3, "{story}");
        assert_eq!(canaries(&disk.image()), 0, "{story}");
        store.close().unwrap();
    }
}

#[test]
fn a_damaged_old_store_is_refused_and_left_alone() {
    let home = old();
    let db = Database::open(home.path()).unwrap();
    let txn = begin_write(&db).unwrap();
    let devices: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("device");
    txn.open_table(devices)
        .unwrap()
        .insert(2, &b"damaged"[..])
        .unwrap();
    txn.commit().unwrap();
    drop(db);
    let before = std::fs::read(home.path()).unwrap();
    let error = Store::open(home.options(), NOW).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
    assert!(std::fs::read(home.path()).unwrap() == before);
}
