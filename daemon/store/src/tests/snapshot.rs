//! A copy of a store that is in use: it opens elsewhere and answers the same.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use model::{AlertState, Timestamp};

use super::support::*;
use crate::{Judgement, SnapshotError, Store, StoreOptions};

fn time_of(row: u64) -> Timestamp {
    Timestamp(NOW.0 + row * 1_000)
}

fn feed(store: &Store, rows: std::ops::Range<u32>) {
    for row in rows {
        let at = time_of(u64::from(row));
        send(store, report(icmp(1), at, &["x"], &[f64::from(row)]));
    }
}

fn options_in(folder: &Path) -> StoreOptions {
    options(folder)
}

#[test]
fn a_copy_opens_elsewhere_and_answers_the_same() {
    let home = Home::new();
    let store = home.open();
    create(&store, "d1", "10.0.0.1");
    create(&store, "d2", "10.0.0.2");
    block_on(store.delete_device(by(), model::DeviceId(2), None, NOW)).unwrap();
    let judgement = Judgement {
        alerts: vec![alert(1, AlertState::Firing), alert(2, AlertState::Resolved)],
        gone: Vec::new(),
        deliveries: vec![delivery(1)],
    };
    block_on(store.judge(judgement)).unwrap();
    feed(&store, 0..100);
    store.samples().cut().unwrap();
    feed(&store, 100..150);

    let elsewhere = tempfile::tempdir_in(home.path().parent().unwrap()).unwrap();
    let into = elsewhere.path().join("a/copy");
    let about = store.snapshot(&into, time_of(150)).unwrap();
    assert_eq!((about.schema, about.devices, about.groups), (3, 1, 1));
    assert_eq!(about.at, time_of(150));
    let file = std::fs::metadata(into.join("sotp.redb")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    assert!(about.bytes > file.len() && about.segments > 0, "{about:?}");
    // what comes later is not in it
    feed(&store, 150..160);
    store.samples().cut().unwrap();

    let copy = Store::open(options_in(&into), time_of(160)).unwrap();
    let expected = points(&store, 1);
    assert_eq!(expected.len(), 160);
    assert_eq!(points(&copy, 1), expected[..150]);
    assert_eq!(audit_lines(&copy), audit_lines(&store));
    assert_eq!(copy.inventory().len(), 1);
    assert_eq!(copy.open_alerts(), store.open_alerts());
    assert_eq!(copy.reading(icmp(1)).unwrap().row.at, time_of(149));
    assert!(copy.outcome(icmp(1)).is_some());
    assert_eq!(copy.verify_audit().unwrap().broken, None);
    // and goes on by itself
    feed(&copy, 150..155);
    create(&copy, "d3", "10.0.0.3");
    copy.samples().cut().unwrap();
    assert_eq!(points(&copy, 1).len(), 155);
    assert_eq!(points(&store, 1).len(), 160);
}

#[test]
fn a_copy_that_is_taken_while_everything_changes_is_whole() {
    let home = Home::new();
    let store = home.open();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut row = 0;
            while !over.load(Ordering::Relaxed) {
                feed(&store, row..row + 5);
                let name = format!("d{row}");
                create(&store, &name, &format!("10.0.{}.{}", row >> 8, row & 255));
                row += 5;
                if row % 20 == 0 {
                    store.samples().cut().unwrap();
                }
            }
        });
        for n in 0..10 {
            let into = home.path().with_file_name(format!("copy-{n}"));
            let before = store.samples().stats().head_rows;
            let seen = points(&store, 1).len();
            store.snapshot(&into, NOW).unwrap();
            let copy = Store::open(options_in(&into), NOW).unwrap();
            let found = points(&copy, 1);
            assert!(found.len() >= seen, "{} of {seen}, {before}", found.len());
            for (row, point) in (0u64..).zip(&found) {
                assert_eq!(point.at, time_of(row));
            }
            assert_eq!(copy.verify_audit().unwrap().broken, None);
            copy.close().unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_copy_replaces_nothing() {
    let home = Home::new();
    let store = home.open();
    let into = home.path().with_file_name("copy");
    store.snapshot(&into, NOW).unwrap();
    let before = std::fs::read(into.join("sotp.redb")).unwrap();
    let error = store.snapshot(&into, NOW).unwrap_err();
    assert!(matches!(error, SnapshotError::Io { .. }), "{error:?}");
    assert!(std::fs::read(into.join("sotp.redb")).unwrap() == before);
    let own = home.path().parent().unwrap().to_owned();
    assert!(store.snapshot(&own, NOW).is_err(), "not into itself");
    create(&store, "d1", "10.0.0.1");
}
