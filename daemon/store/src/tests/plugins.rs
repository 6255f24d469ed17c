//! Plugins, what they keep, and their packages.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use model::{
    Capabilities, DeviceId, Digest, PluginName, PluginRecord, PluginValue, PluginVersion, Timestamp,
};
use sha2::{Digest as _, Sha256};

use super::support::*;
use crate::{
    MAX_PLUGIN_BYTES, MAX_PLUGIN_CHANGED_BYTES, MAX_PLUGIN_KEY_BYTES, MAX_PLUGIN_STATE_BYTES,
    MAX_PLUGIN_STATES_BYTES, MAX_PLUGIN_VALUE_BYTES, MAX_PLUGINS, PackageError, PluginRoom,
    Refusal, Store, WriteError,
};

const ROOMY: PluginRoom = PluginRoom {
    bytes: 1 << 20,
    keys: 2_000,
};

fn name(text: &str) -> PluginName {
    PluginName::new(text).unwrap()
}

fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

fn version(package: &[u8]) -> PluginVersion {
    PluginVersion {
        id: "acme-ups".to_owned(),
        version: "1.0.0".to_owned(),
        kind: "parser".to_owned(),
        description: "Batteries".to_owned(),
        digest: digest(package),
        signer: "acme".to_owned(),
        asks: Capabilities::default(),
        installed: NOW,
    }
}

fn record(text: &str) -> PluginRecord {
    PluginRecord {
        name: name(text),
        current: version(b"one"),
        previous: None,
        waiting: None,
        granted: Capabilities::default(),
        considered: Capabilities::default(),
        settings: BTreeMap::new(),
        enabled: true,
        updated: NOW,
        revision: 0,
    }
}

fn put(store: &Store, record: PluginRecord, expected: Option<u64>) -> Result<u64, WriteError> {
    let put = store.put_plugin(by(), record, expected, "plugin.install", NOW);
    block_on(put).map(|kept| kept.revision)
}

fn install(store: &Store, text: &str) -> PluginName {
    put(store, record(text), Some(0)).unwrap();
    name(text)
}

fn value(bytes: &[u8]) -> PluginValue {
    PluginValue {
        bytes: bytes.to_vec(),
        expires: None,
    }
}

fn until_s(bytes: &[u8], seconds: u64) -> PluginValue {
    PluginValue {
        bytes: bytes.to_vec(),
        expires: Some(NOW.plus(Duration::from_secs(seconds))),
    }
}

fn keep_in(
    store: &Store,
    plugin: &PluginName,
    changes: &[(&str, Option<PluginValue>)],
    room: PluginRoom,
) -> Result<(), WriteError> {
    let changes = changes.iter().cloned();
    let changes = changes.map(|(key, value)| (key.to_owned(), value));
    block_on(store.keep_plugin_values(plugin, changes.collect(), room, NOW))
}

fn keep(store: &Store, plugin: &PluginName, changes: &[(&str, Option<PluginValue>)]) {
    keep_in(store, plugin, changes, ROOMY).unwrap();
}

fn keep_states(store: &Store, states: &[(&PluginName, u64, &[u8])]) -> Vec<DeviceId> {
    let states = states.iter();
    let states =
        states.map(|(name, device, state)| ((*name).clone(), DeviceId(*device), state.to_vec()));
    let left = block_on(store.keep_plugin_states(states.collect())).unwrap();
    left.into_iter().map(|(_, device)| device).collect()
}

fn state(store: &Store, plugin: &PluginName, device: u64) -> Vec<u8> {
    let state = store.plugin_state(plugin, DeviceId(device));
    state.as_deref().unwrap_or_default().to_vec()
}

fn refusal(result: Result<impl std::fmt::Debug, WriteError>) -> Refusal {
    match result {
        Err(WriteError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn late() -> Timestamp {
    NOW.plus(Duration::from_secs(100))
}

#[test]
fn what_is_kept_of_plugins_survives_a_start() {
    let home = Home::new();
    let store = home.open();
    create(&store, "d1", "10.0.0.1");
    let ups = install(&store, "acme-ups");
    keep(
        &store,
        &ups,
        &[("a", Some(value(b"1"))), ("b", Some(until_s(b"2", 60)))],
    );
    keep_states(&store, &[(&ups, 1, b"up")]);
    let kept = store.plugins();
    store.close().unwrap();

    let store = home.open();
    assert_eq!(store.plugins(), kept);
    assert_eq!(kept[&ups].revision, 1);
    assert_eq!(*store.plugin_value(&ups, "a", late()).unwrap(), value(b"1"));
    assert_eq!(store.plugin_kept(&ups), PluginRoom { bytes: 4, keys: 2 });
    assert_eq!(state(&store, &ups, 1), b"up");
}

#[test]
fn a_change_of_a_plugin_has_its_line_in_the_audit_log_and_is_told() {
    let home = Home::new();
    let store = home.open();
    let mut changed = store.plugins_changed();
    let ups = install(&store, "acme-ups");
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();
    let disabled = PluginRecord {
        enabled: false,
        ..PluginRecord::clone(&store.plugins()[&ups])
    };
    let kept = block_on(store.put_plugin(by(), disabled, Some(1), "plugin.disable", NOW));
    assert_eq!(kept.unwrap().revision, 2);
    assert!(changed.has_changed().unwrap());
    block_on(store.remove_plugin(by(), &ups, Some(2), NOW)).unwrap();
    let lines = audit_lines(&store);
    let lines: Vec<_> = lines
        .iter()
        .map(|line| (line.action.as_str(), line.object.as_str()))
        .collect();
    let object = "plugin:acme-ups";
    let expected = ["plugin.install", "plugin.disable", "plugin.remove"];
    assert_eq!(lines, expected.map(|action| (action, object)));
    assert_eq!(store.verify_audit().unwrap().broken, None);
}

#[test]
fn who_saw_an_older_revision_changes_nothing() {
    let home = Home::new();
    let store = home.open();
    let ups = install(&store, "acme-ups");
    let again = refusal(put(&store, record("acme-ups"), Some(0)));
    assert!(matches!(again, Refusal::NameExists { .. }), "{again}");
    assert_eq!(put(&store, record("acme-ups"), Some(1)).unwrap(), 2);
    let old = refusal(put(&store, record("acme-ups"), Some(1)));
    assert!(matches!(old, Refusal::RevisionMismatch { found: 2, .. }));
    let old = refusal(block_on(store.remove_plugin(by(), &ups, Some(1), NOW)));
    assert!(matches!(old, Refusal::RevisionMismatch { .. }), "{old}");
    let gone = refusal(block_on(store.remove_plugin(by(), &name("x"), None, NOW)));
    assert!(matches!(gone, Refusal::NoSuch { .. }), "{gone}");
}

#[test]
fn there_is_an_end_to_plugins_and_to_their_size() {
    let home = Home::new();
    let store = home.open();
    for n in 0..MAX_PLUGINS {
        install(&store, &format!("p{n}"));
    }
    let full = refusal(put(&store, record("more"), None));
    assert!(full.to_string().contains("at most 200 plugins"), "{full}");
    let mut large = record("p1");
    let text = "x".repeat(MAX_PLUGIN_BYTES);
    large.settings.insert("text".to_owned(), text);
    let large = refusal(put(&store, large, None));
    assert!(matches!(large, Refusal::TooMany { .. }), "{large}");
    assert_eq!(
        put(&store, record("p1"), Some(1)).unwrap(),
        2,
        "not one more"
    );
}

#[test]
fn what_a_plugin_kept_goes_with_it() {
    let home = Home::new();
    let store = home.open();
    create(&store, "d1", "10.0.0.1");
    let (a, b) = (install(&store, "a"), install(&store, "b"));
    for plugin in [&a, &b] {
        keep(&store, plugin, &[("k", Some(value(b"v")))]);
        keep_states(&store, &[(plugin, 1, b"s")]);
    }
    block_on(store.remove_plugin(by(), &a, None, NOW)).unwrap();
    install(&store, "a");
    for store in [store.clone(), {
        store.close().unwrap();
        home.open()
    }] {
        assert_eq!(store.plugin_value(&a, "k", NOW), None);
        assert_eq!(state(&store, &a, 1), b"");
        assert_eq!(state(&store, &b, 1), b"s");
        assert!(store.plugin_value(&b, "k", NOW).is_some());
    }
}

#[test]
fn a_value_that_expires_is_gone_for_readers_at_once_and_from_the_disk_soon() {
    let home = Home::new();
    let store = open_quick(home.options());
    let ups = install(&store, "acme-ups");
    let short = ("b", Some(until_s(b"2", 60)));
    keep(
        &store,
        &ups,
        &[("a", Some(value(b"1"))), short, ("c", Some(value(b"3")))],
    );
    let just_before = NOW.plus(Duration::from_millis(59_999));
    assert!(store.plugin_value(&ups, "b", just_before).is_some());
    let then = NOW.plus(Duration::from_secs(60));
    assert!(store.plugin_value(&ups, "b", then).is_none());
    assert_eq!(store.plugin_keys(&ups, "", 10, then), ["a", "c"]);
    assert_eq!(store.plugin_keys(&ups, "", 2, NOW), ["a", "b"]);
    assert_eq!(store.plugin_keys(&ups, "b", 2, NOW), ["b"]);
    send(&store, report(icmp(1), late(), &["x"], &[1.0]));
    until("the value is swept", || {
        block_on(store.heartbeat()).unwrap();
        (store.plugin_kept(&ups).keys == 2).then_some(())
    });
}

#[test]
fn a_plugin_keeps_no_more_than_it_may() {
    let home = Home::new();
    let store = home.open();
    let ups = install(&store, "acme-ups");
    let small = PluginRoom { bytes: 10, keys: 2 };
    let try_to = |changes: &[(&str, Option<PluginValue>)]| keep_in(&store, &ups, changes, small);
    try_to(&[("a", Some(value(b"1234"))), ("b", Some(value(b"1234")))]).unwrap();
    let before = store.plugin_kept(&ups);
    for changes in [
        &[("a", Some(value(b"12345")))][..],
        &[("c", Some(value(b"")))],
        &[("a", None), ("c", Some(value(b"12345")))],
    ] {
        let refused = refusal(try_to(changes));
        assert!(matches!(refused, Refusal::TooMany { .. }), "{refused}");
        assert_eq!(store.plugin_kept(&ups), before, "all or nothing");
    }
    try_to(&[("a", None), ("c", Some(value(b"1234")))]).unwrap();
    let long = "k".repeat(MAX_PLUGIN_KEY_BYTES + 1);
    let large = vec![0; MAX_PLUGIN_VALUE_BYTES + 1];
    for (key, value) in [(long.as_str(), value(b"")), ("k", value(&large))] {
        let refused = refusal(keep_in(&store, &ups, &[(key, Some(value))], ROOMY));
        assert!(matches!(refused, Refusal::TooMany { .. }), "{refused}");
    }
    let (key, longest) = (&long[1..], value(&large[1..]));
    keep(&store, &ups, &[(key, Some(longest.clone()))]);
    assert_eq!(*store.plugin_value(&ups, key, NOW).unwrap(), longest);
    let nobody = refusal(keep_in(&store, &name("x"), &[("a", None)], ROOMY));
    assert!(matches!(nobody, Refusal::NoSuch { .. }), "{nobody}");
}

#[test]
fn a_plugin_changes_so_much_a_minute_and_no_more() {
    let home = Home::new();
    let store = home.open();
    let (a, b) = (install(&store, "a"), install(&store, "b"));
    let change = |plugin: &PluginName, seconds: u64| {
        let large = Some(value(&vec![7; MAX_PLUGIN_VALUE_BYTES]));
        let now = NOW.plus(Duration::from_secs(seconds));
        let changes = vec![("k".to_owned(), large)];
        block_on(store.keep_plugin_values(plugin, changes, ROOMY, now))
    };
    // the same key again and again: what it keeps is small all the while
    let each = MAX_PLUGIN_CHANGED_BYTES / MAX_PLUGIN_VALUE_BYTES - 1;
    for _ in 0..each {
        change(&a, 0).unwrap();
    }
    let refused = refusal(change(&a, 59));
    let limit = MAX_PLUGIN_CHANGED_BYTES;
    assert_eq!(
        refused.to_string(),
        format!("there can be at most {limit} bytes that the plugin changes in a minute")
    );
    // what is refused counts nothing, and others are not concerned
    keep(&store, &a, &[("small", Some(value(b"1")))]);
    change(&b, 59).unwrap();
    change(&a, 60).unwrap();
    // taking away is a change, too
    let gone: Vec<(String, Option<PluginValue>)> =
        (0..limit / 64).map(|n| (n.to_string(), None)).collect();
    let gone = block_on(store.keep_plugin_values(&b, gone, ROOMY, NOW));
    assert!(matches!(refusal(gone), Refusal::TooMany { .. }));
}

#[test]
fn what_has_expired_takes_no_room() {
    let home = Home::new();
    let store = home.open();
    let ups = install(&store, "acme-ups");
    keep(&store, &ups, &[("a", Some(until_s(b"1234", 60)))]);
    let one = PluginRoom { bytes: 5, keys: 1 };
    let new = vec![("b".to_owned(), Some(value(b"1234")))];
    block_on(store.keep_plugin_values(&ups, new, one, late())).unwrap();
    assert_eq!(store.plugin_kept(&ups), one);
}

#[test]
fn a_state_without_room_is_left_and_the_others_are_kept() {
    let home = Home::new();
    let store = home.open();
    create(&store, "d1", "10.0.0.1");
    create(&store, "d2", "10.0.0.2");
    let (a, b) = (install(&store, "a"), install(&store, "b"));
    let largest = vec![7; MAX_PLUGIN_STATE_BYTES];
    let larger = vec![7; MAX_PLUGIN_STATE_BYTES + 1];
    let left = keep_states(
        &store,
        &[(&a, 1, &largest), (&a, 2, &larger), (&b, 2, b"s")],
    );
    assert_eq!(left, [DeviceId(2)]);
    assert!(state(&store, &a, 1) == largest);
    assert_eq!(state(&store, &b, 2), b"s");
    // a device or plugin that is not there
    assert!(keep_states(&store, &[(&a, 9, b"x"), (&name("x"), 1, b"x")]).is_empty());
    assert_eq!(state(&store, &a, 9), b"");
    keep_states(&store, &[(&a, 1, b"")]);
    assert_eq!(store.plugin_state(&a, DeviceId(1)), None);
}

#[test]
fn the_states_of_one_plugin_leave_room_for_those_of_another() {
    let home = Home::new();
    let store = home.open();
    let (a, b) = (install(&store, "a"), install(&store, "b"));
    let count = MAX_PLUGIN_STATES_BYTES / MAX_PLUGIN_STATE_BYTES;
    let drafts = (0..=count).map(|n| {
        let address = format!("10.0.{}.{}", n >> 8, n & 255);
        draft(&format!("d{n}"), &address)
    });
    let made = block_on(store.create_devices(by(), drafts.collect(), NOW)).unwrap();
    assert!(made.iter().all(Result::is_ok));
    let largest = vec![7; MAX_PLUGIN_STATE_BYTES];
    let all: Vec<(&PluginName, u64, &[u8])> = (1..=count as u64 + 1)
        .map(|device| (&a, device, largest.as_slice()))
        .collect();
    let left = keep_states(&store, &all);
    assert_eq!(left, [DeviceId(count as u64 + 1)]);
    assert!(keep_states(&store, &[(&b, count as u64 + 1, b"s")]).is_empty());
}

#[test]
fn states_that_are_as_they_were_cost_no_write() {
    let home = Home::new();
    let store = home.open();
    create(&store, "d1", "10.0.0.1");
    let ups = install(&store, "acme-ups");
    keep_states(&store, &[(&ups, 1, b"s")]);
    let before = store.stats().commits;
    keep_states(&store, &[(&ups, 1, b"s")]);
    assert_eq!(store.stats().commits, before);
    keep_states(&store, &[(&ups, 1, b"t")]);
    assert_eq!(state(&store, &ups, 1), b"t");
}

#[test]
fn the_states_for_a_device_go_when_it_is_deleted() {
    let home = Home::new();
    let store = home.open();
    create(&store, "d1", "10.0.0.1");
    create(&store, "d2", "10.0.0.2");
    let (a, b) = (install(&store, "a"), install(&store, "b"));
    keep_states(&store, &[(&a, 1, b"1"), (&b, 1, b"1"), (&a, 2, b"2")]);
    block_on(store.delete_device(by(), DeviceId(1), None, NOW)).unwrap();
    keep_states(&store, &[(&a, 1, b"late")]);
    store.close().unwrap();
    let store = home.open();
    let states = [(&a, 1), (&b, 1), (&a, 2)].map(|(name, device)| state(&store, name, device));
    assert_eq!(states, [b"".to_vec(), b"".to_vec(), b"2".to_vec()]);
}

#[test]
fn a_store_from_before_plugins_gets_their_tables() {
    let home = Home::new();
    let store = home.open();
    create(&store, "d1", "10.0.0.1");
    store.close().unwrap();
    let db = redb::Database::open(home.path()).unwrap();
    let txn = db.begin_write().unwrap();
    for table in ["plugin", "plugin_kv", "plugin_state"] {
        let table: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new(table);
        assert!(txn.delete_table(table).unwrap());
    }
    txn.commit().unwrap();
    drop(db);

    let store = home.open();
    assert_eq!(store.inventory().len(), 1);
    assert!(store.plugins().is_empty());
    let ups = install(&store, "acme-ups");
    keep(&store, &ups, &[("a", Some(value(b"1")))]);
    let copy = home.path().with_file_name("copy");
    assert_eq!(store.snapshot(&copy, NOW).unwrap().schema, 3, "as it was");
}

// --- packages

fn files(store: &Store) -> Vec<String> {
    let folder = store.shared.options.plugins_dir();
    let found = std::fs::read_dir(folder).map_or(Vec::new(), |files| files.collect());
    let names = found.into_iter().map(|file| file.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn package_file(store: &Store, bytes: &[u8]) -> PathBuf {
    let folder = store.shared.options.plugins_dir();
    folder.join(format!("{}.sotp-plugin", digest(bytes).hex()))
}

#[test]
fn a_package_is_kept_to_the_byte_or_not_at_all() {
    let home = Home::new();
    let store = home.open();
    let missing = store.package(digest(b"one")).unwrap_err();
    assert!(matches!(missing, PackageError::Missing { .. }), "{missing}");
    store.put_package(b"one", digest(b"one")).unwrap();
    store.put_package(b"one", digest(b"one")).unwrap();
    assert_eq!(store.package(digest(b"one")).unwrap(), b"one");
    let foreign = store.put_package(b"two", digest(b"three")).unwrap_err();
    assert!(matches!(foreign, PackageError::Damaged { .. }), "{foreign}");
    assert_eq!(files(&store).len(), 1, "{:?}", files(&store));

    std::fs::write(package_file(&store, b"one"), b"0ne").unwrap();
    let damaged = store.package(digest(b"one")).unwrap_err();
    assert!(damaged.to_string().contains("install the plugin again"));
    store.put_package(b"one", digest(b"one")).unwrap();
    assert_eq!(store.package(digest(b"one")).unwrap(), b"one", "mended");
}

#[test]
fn packages_that_no_plugin_needs_go_at_the_next_start_and_not_before() {
    let home = Home::new();
    let store = home.open();
    for package in [&b"one"[..], b"two", b"three", b"four"] {
        store.put_package(package, digest(package)).unwrap();
    }
    let record = PluginRecord {
        previous: Some(version(b"two")),
        waiting: Some(version(b"three")),
        ..record("acme-ups")
    };
    put(&store, record, None).unwrap();
    let folder = home.options().plugins_dir();
    let part = folder.join(format!("{}.part", digest(b"five").hex()));
    std::fs::write(&part, b"fi").unwrap();
    std::fs::write(folder.join("README"), b"not ours").unwrap();
    store.shared.tidy_packages();
    assert!(
        package_file(&store, b"four").exists(),
        "its record may come"
    );
    assert!(!part.exists());
    store.close().unwrap();

    let store = home.open();
    assert!(!package_file(&store, b"four").exists());
    for package in [&b"one"[..], b"two", b"three"] {
        assert_eq!(store.package(digest(package)).unwrap(), package);
    }
    assert!(files(&store).contains(&"README".to_owned()));
    block_on(store.remove_plugin(by(), &name("acme-ups"), None, NOW)).unwrap();
    store.shared.tidy_packages();
    assert_eq!(files(&store), ["README"], "they were put long ago");
}

#[test]
fn a_copy_has_the_packages_that_its_plugins_need() {
    let home = Home::new();
    let store = home.open();
    for package in [&b"one"[..], b"two"] {
        store.put_package(package, digest(package)).unwrap();
    }
    install(&store, "acme-ups");
    let into = home.path().with_file_name("copy");
    store.snapshot(&into, NOW).unwrap();
    block_on(store.remove_plugin(by(), &name("acme-ups"), None, NOW)).unwrap();
    store.close().unwrap();
    drop(home.open());

    let copy = Store::open(options(&into), NOW).unwrap();
    assert_eq!(copy.package(digest(b"one")).unwrap(), b"one");
    assert_eq!(files(&copy).len(), 1, "{:?}", files(&copy));
    assert!(copy.plugins().contains_key(&name("acme-ups")));
}

#[test]
fn a_copy_without_a_package_that_is_missing_is_made_all_the_same() {
    let home = Home::new();
    let store = home.open();
    install(&store, "acme-ups");
    let into = home.path().with_file_name("copy");
    store.snapshot(&into, NOW).unwrap();
    let copy = Store::open(options(&into), NOW).unwrap();
    let missing = copy.package(digest(b"one")).unwrap_err();
    assert!(matches!(missing, PackageError::Missing { .. }), "{missing}");
}

#[test]
fn the_packages_of_a_store_that_is_gone_are_set_aside() {
    let home = Home::new();
    let store = home.open();
    store.put_package(b"one", digest(b"one")).unwrap();
    store.close().unwrap();
    std::fs::remove_file(home.path()).unwrap();
    let store = home.open();
    assert!(files(&store).is_empty());
    let aside = home.path().with_file_name("sotp.plugins.aside-1");
    assert_eq!(std::fs::read_dir(aside).unwrap().count(), 1);
}
