//! Samples: in, out, over restarts and cuts, through a clock that is set back,
//! and away when somebody deletes them.

use model::{Breaks, DeviceId, Failure, FailureKind, PollReport, Timestamp};

use super::support::*;
use crate::{Refusal, Store};

const MINUTE: u64 = 60_000;

/// A counter that rises by 7 each minute, from minute `from` on.
fn feed(store: &Store, device: u64, minutes: std::ops::Range<u32>) {
    for minute in minutes {
        let at = Timestamp(NOW.0 + u64::from(minute) * MINUTE);
        let value = f64::from(minute) * 7.0;
        let room = until("a place", || store.try_reserve());
        room.send(report(icmp(device), at, &["x"], &[value]));
    }
}

fn later(seconds: u64) -> Timestamp {
    Timestamp(NOW.0 + seconds * 1_000)
}

fn settled(store: &Store, rows: u64) {
    until("the rows", || (store.stats().rows >= rows).then_some(()));
}

#[test]
fn history_reads_back_over_cuts_and_restarts() {
    let home = Home::new();
    let store = home.open();
    feed(&store, 1, 0..500);
    settled(&store, 500);
    store.samples().cut().unwrap();
    let check = |store: &Store| {
        let points = points(store, 1);
        assert_eq!(points.len(), 500);
        for (minute, point) in (0u32..).zip(&points) {
            assert_eq!(point.at.0, NOW.0 + u64::from(minute) * MINUTE);
            assert_eq!(point.value.to_bits(), (f64::from(minute) * 7.0).to_bits());
            assert!(!point.broken);
        }
    };
    check(&store);
    store.close().unwrap();
    let store = home.open();
    check(&store);
    assert_eq!(store.stats().rows, 500);
    feed(&store, 1, 500..510);
    settled(&store, 510);
    assert_eq!(points(&store, 1).len(), 510);
}

#[test]
fn any_part_of_history_can_be_asked_for() {
    let home = Home::new();
    let store = home.open();
    feed(&store, 1, 0..300);
    settled(&store, 300);
    for (from, until) in [
        (0, 300),
        (0, 1),
        (10, 11),
        (55, 130),
        (100, 299),
        (290, 400),
        (299, 300),
        (300, 400),
        (20, 20),
        (30, 20),
    ] {
        let (first, last) = (NOW.0 + from * MINUTE, NOW.0 + until * MINUTE);
        let found = select(&store, 1, first, last)
            .pop()
            .map_or(0, |series| series.points.len() as u64);
        let expected = until.min(300).saturating_sub(from);
        assert_eq!(found, expected, "{from}..{until}");
    }
    assert_eq!(select(&store, 2, 0, u64::MAX), []);
}

#[test]
fn the_newest_reading_and_outcome_are_the_same_after_a_restart() {
    let home = Home::new();
    let store = home.open();
    send(&store, report(icmp(1), later(1), &["x", "y"], &[1.0, 10.0]));
    // another set of columns: y is gone, z is new
    send(&store, report(icmp(1), later(2), &["z", "x"], &[5.0, 3.0]));
    let failed = PollReport {
        row: None,
        ..report(icmp(1), later(3), &[], &[])
    };
    let failed = PollReport {
        outcome: model::Outcome {
            failure: Some(Failure {
                kind: FailureKind::Resolution,
                text: "no such name".into(),
            }),
            ..failed.outcome
        },
        ..failed
    };
    send(&store, failed);
    let check = |store: &Store| {
        let reading = store.reading(icmp(1)).unwrap();
        assert_eq!(reading.row.at, later(2));
        assert_eq!(reading.value(1), Some(2.0), "x rose by 2 in a second");
        assert_eq!(reading.value(0), None, "z has no value before");
        let (at, before) = reading.previous.as_ref().unwrap();
        assert_eq!((*at, before[1]), (later(1), 1.0));
        let outcome = store.outcome(icmp(1)).unwrap();
        assert_eq!(outcome.at, later(3));
        assert_eq!(outcome.failure.unwrap().kind, FailureKind::Resolution);
        assert!(store.reading(icmp(2)).is_none());
    };
    check(&store);
    store.close().unwrap();
    check(&home.open());
}

#[test]
fn equal_columns_are_one_in_memory_also_after_a_restart() {
    let home = Home::new();
    let store = home.open();
    for device in 1..=3 {
        for second in [1, 2] {
            send(
                &store,
                report(icmp(device), later(second), &["x", "y"], &[1.0, 2.0]),
            );
        }
    }
    let check = |store: &Store| {
        let columns = |device| store.reading(icmp(device)).unwrap().row.columns.clone();
        assert!(std::sync::Arc::ptr_eq(&columns(1), &columns(2)));
        assert!(std::sync::Arc::ptr_eq(&columns(1), &columns(3)));
    };
    check(&store);
    store.close().unwrap();
    check(&home.open());
}

#[test]
fn what_was_not_measured_has_no_point_and_a_break_is_on_the_next_one() {
    let home = Home::new();
    let store = home.open();
    let rows = [
        (Breaks::None, 1.0),
        (Breaks::None, 2.0),
        (Breaks::All, f64::NAN),
        (Breaks::None, 3.0),
        (Breaks::Columns(vec![0]), 4.0),
        (Breaks::Columns(vec![7]), 5.0),
    ];
    for round in 0..20 {
        for (place, (breaks, value)) in (0u64..).zip(&rows) {
            let at = Timestamp(NOW.0 + (round * 6 + place) * MINUTE);
            let mut report = report(icmp(1), at, &["x"], &[*value]);
            report.row.as_mut().unwrap().breaks = breaks.clone();
            send(&store, report);
        }
    }
    for _ in 0..2 {
        let points = points(&store, 1);
        assert_eq!(points.len(), 100);
        for (place, point) in points.iter().enumerate() {
            let broken = [false, false, true, true, false][place % 5];
            assert_eq!(point.broken, broken, "{place}");
        }
        store.samples().cut().unwrap();
    }
}

#[test]
fn a_clock_that_is_set_back_an_hour_loses_nothing() {
    let home = Home::new();
    let store = home.open();
    feed(&store, 1, 0..100);
    settled(&store, 100);
    // the clock is set back from minute 100 to minute 40, and goes on
    for minute in 40..140u32 {
        let at = Timestamp(NOW.0 + u64::from(minute) * MINUTE + 500);
        let value = f64::from(minute + 60) * 7.0;
        send(&store, report(icmp(1), at, &["x"], &[value]));
        let reading = store.reading(icmp(1)).unwrap();
        assert_eq!(reading.row.at, at, "what is new is visible and judged");
        let rate = reading.value(0);
        let expected = (minute > 40).then_some(7.0 / 60.0);
        assert_eq!(
            rate, expected,
            "no rate over the step, the true one after it"
        );
    }
    let check = |store: &Store| {
        let points = points(store, 1);
        assert_eq!(points.len(), 200, "no sample is lost");
        assert!(
            points.windows(2).all(|pair| pair[0].at < pair[1].at),
            "in order"
        );
        for pair in points.windows(2) {
            let goes_on = (pair[1].value - pair[0].value - 7.0).abs() < 0.01;
            assert_eq!(pair[1].broken, !goes_on, "{pair:?}");
        }
        assert_eq!(store.reading(icmp(1)).unwrap().value(0), Some(7.0 / 60.0));
    };
    check(&store);
    store.close().unwrap();
    let store = home.open();
    check(&store);
    feed(&store, 1, 141..150);
    settled(&store, 209);
    assert_eq!(points(&store, 1).len(), 209);
}

#[test]
fn a_clock_that_was_in_the_future_for_a_moment_does_not_spoil_history() {
    let home = Home::new();
    let store = home.open();
    feed(&store, 1, 0..10);
    let far = Timestamp(NOW.0 + 20 * 365 * 86_400_000);
    send(&store, report(icmp(1), far, &["x"], &[70.0]));
    feed(&store, 1, 11..100);
    settled(&store, 100);
    let found = select(&store, 1, 0, far.0);
    assert_eq!(found[0].points.len(), 99);
    assert_eq!(points(&store, 1).len(), 100);
}

#[test]
fn a_clock_that_jumps_without_end_loses_nothing() {
    let home = Home::new();
    let store = home.open();
    for n in 0..300 {
        let at = Timestamp(NOW.0 - n);
        send(&store, report(icmp(1), at, &["x"], &[1.0]));
    }
    assert_eq!(points(&store, 1).len(), 300);
    let newest = store.reading(icmp(1)).unwrap();
    assert_eq!(newest.row.at, Timestamp(NOW.0 - 299), "visible");
}

#[test]
fn rows_alone_are_no_commit_of_the_file() {
    let home = Home::new();
    let store = home.open();
    create(&store, "d1", "10.0.0.1");
    let commits = store.stats().commits;
    feed(&store, 1, 0..50);
    settled(&store, 50);
    for minute in 50..60u32 {
        let at = Timestamp(NOW.0 + u64::from(minute) * MINUTE);
        send(&store, report(icmp(1), at, &["x"], &[1.0]));
    }
    assert_eq!(store.stats().commits, commits);
    store.samples().cut().unwrap();
    assert_eq!(store.stats().commits, commits + 1, "one for a cut");
    assert_eq!(points(&store, 1).len(), 60);
}

#[test]
fn two_stores_share_nothing() {
    let (one, other) = (Home::new(), Home::new());
    let (first, second) = (one.open(), other.open());
    assert_ne!(one.options().samples_dir(), other.options().samples_dir());
    feed(&first, 1, 0..10);
    settled(&first, 10);
    first.samples().cut().unwrap();
    assert!(points(&second, 1).is_empty());
    let segments = |home: &Home| {
        let dir = home.options().samples_dir().join("seg");
        std::fs::read_dir(dir).map_or(0, Iterator::count)
    };
    assert_eq!((segments(&one), segments(&other)), (1, 0));
    // also side by side in one directory
    let beside = crate::StoreOptions {
        path: one.path().with_file_name("other.redb"),
        ..one.options()
    };
    let third = Store::open(beside, NOW).unwrap();
    assert!(points(&third, 1).is_empty());
    assert_eq!(points(&first, 1).len(), 10);
}

#[test]
fn samples_of_a_store_that_is_gone_are_neither_taken_nor_removed() {
    let home = Home::new();
    for n in 1..=2 {
        let store = home.open();
        assert!(points(&store, 1).is_empty());
        feed(&store, 1, 0..10);
        settled(&store, 10);
        store.samples().cut().unwrap();
        feed(&store, 1, 10..20);
        settled(&store, 20);
        store.close().unwrap();
        // a damaged one is moved aside, to begin with an empty store
        let aside = home.path().with_file_name(format!("damaged-{n}"));
        std::fs::rename(home.path(), aside).unwrap();
    }
    assert!(points(&home.open(), 1).is_empty());
    for n in 1..=2 {
        let name = format!("sotp.samples.aside-{n}/seg");
        let files = std::fs::read_dir(home.path().with_file_name(name)).unwrap();
        assert_eq!(files.count(), 1);
    }
}

#[test]
fn samples_that_somebody_deletes_are_gone_and_the_log_tells_who_did_it() {
    let home = Home::new();
    let store = home.open();
    create(&store, "d1", "10.0.0.1");
    create(&store, "d2", "10.0.0.2");
    for device in [1, 2] {
        feed(&store, device, 0..10);
    }
    settled(&store, 20);
    store.samples().cut().unwrap();
    feed(&store, 1, 10..20);
    settled(&store, 30);
    let refused = store.forget_samples(by(), DeviceId(9), NOW);
    assert!(matches!(
        super::support::refused(refused),
        Refusal::NoSuchDevice { .. }
    ));
    assert_eq!(store.forget_samples(by(), DeviceId(1), NOW).unwrap(), 1);
    assert!(store.reading(icmp(1)).is_none());
    let told = |store: &Store| {
        let lines = audit_lines(store);
        let lines = lines.iter().filter(|line| line.action == "metrics.delete");
        lines.map(|line| line.object.clone()).collect::<Vec<_>>()
    };
    assert_eq!(told(&store), ["device:d1"]);
    feed(&store, 1, 30..33);
    until("new rows", || (points(&store, 1).len() == 3).then_some(()));
    store.close().unwrap();
    let store = home.open();
    assert_eq!((points(&store, 1).len(), points(&store, 2).len()), (3, 10));
    assert_eq!(store.forget_samples(by(), DeviceId(1), NOW).unwrap(), 1);
    assert_eq!(told(&store), ["device:d1", "device:d1"]);
    assert_eq!(store.verify_audit().unwrap().broken, None);
}

#[test]
fn wide_rows_read_back() {
    let home = Home::new();
    let store = home.open();
    let names: Vec<String> = (0..5_000).map(|n| format!("metric_{n:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for minute in 0..60u32 {
        let at = Timestamp(NOW.0 + u64::from(minute) * MINUTE);
        let values: Vec<f64> = (0..5_000)
            .map(|n| f64::from(n) * 1.1 + f64::from(minute))
            .collect();
        send(&store, report(icmp(1), at, &names, &values));
    }
    store.close().unwrap();
    let store = home.open();
    let found = select(&store, 1, 0, u64::MAX);
    assert_eq!(found.len(), 5_000);
    for (n, series) in (0..5_000u32).zip(&found) {
        assert_eq!(series.points.len(), 60);
        for (minute, point) in (0u32..).zip(&series.points) {
            let value = f64::from(n) * 1.1 + f64::from(minute);
            assert_eq!(point.value.to_bits(), value.to_bits());
        }
    }
}
