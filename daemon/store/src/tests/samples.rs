//! Samples: in, out, over restarts, through a clock that is set back, and
//! away when they are too old.

use std::time::Duration;

use model::{Breaks, Failure, FailureKind, PollReport, Timestamp};

use super::support::*;
use crate::{ReadError, Select, Store, StoreOptions};

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

fn settled(store: &Store, rows: u64) {
    until("the rows", || (store.stats().rows >= rows).then_some(()));
}

#[test]
fn history_reads_back_over_chunks_rows_and_restarts() {
    let home = Home::new();
    let store = home.open();
    feed(&store, 1, 0..500);
    settled(&store, 500);
    assert!(store.stats().chunks >= 7, "{:?}", store.stats());
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
        let found = store.select(&Select {
            from: Timestamp(NOW.0 + from * MINUTE),
            until: Timestamp(NOW.0 + until * MINUTE),
            ..all_of(1)
        });
        let found = found
            .unwrap()
            .pop()
            .map_or(0, |series| series.points.len() as u64);
        let expected = until.min(300).saturating_sub(from);
        assert_eq!(found, expected, "{from}..{until}");
    }
    let error = store
        .select(&Select {
            max_points: 299,
            ..all_of(1)
        })
        .unwrap_err();
    assert!(
        matches!(error, ReadError::TooMany { points: 299 }),
        "{error}"
    );
    let other = Select {
        metric: Some("y".into()),
        ..all_of(1)
    };
    assert_eq!(store.select(&other).unwrap(), []);
    assert_eq!(store.select(&all_of(2)).unwrap(), []);
}

#[test]
fn the_newest_reading_and_outcome_are_the_same_after_a_restart() {
    let home = Home::new();
    let store = home.open();
    send(
        &store,
        report(icmp(1), Timestamp(1_000), &["x", "y"], &[1.0, 10.0]),
    );
    // another set of columns: y is gone, z is new
    send(
        &store,
        report(icmp(1), Timestamp(2_000), &["z", "x"], &[5.0, 3.0]),
    );
    let failed = PollReport {
        row: None,
        ..report(icmp(1), Timestamp(3_000), &[], &[])
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
        assert_eq!(reading.row.at, Timestamp(2_000));
        assert_eq!(reading.value(1), Some(2.0), "x rose by 2 in a second");
        assert_eq!(reading.value(0), None, "z has no value before");
        let (at, before) = reading.previous.as_ref().unwrap();
        assert_eq!((*at, before[1]), (Timestamp(1_000), 1.0));
        let outcome = store.outcome(icmp(1)).unwrap();
        assert_eq!(outcome.at, Timestamp(3_000));
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
        for at in [1_000, 2_000] {
            send(
                &store,
                report(icmp(device), Timestamp(at), &["x", "y"], &[1.0, 2.0]),
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
    assert!(store.stats().chunks > 0);
    let points = points(&store, 1);
    assert_eq!(points.len(), 100);
    for (place, point) in points.iter().enumerate() {
        assert_eq!(
            point.broken,
            [false, false, true, true, false][place % 5],
            "{place}"
        );
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
    let found = store
        .select(&Select {
            until: far,
            ..all_of(1)
        })
        .unwrap();
    assert_eq!(found[0].points.len(), 99);
    assert_eq!(points(&store, 1).len(), 100);
}

#[test]
fn a_clock_that_jumps_without_end_fills_nothing() {
    let home = Home::new();
    let store = home.open();
    let count = u64::from(crate::samples::write::MAX_TRACKS) + 50;
    for n in 0..count {
        send(
            &store,
            report(icmp(1), Timestamp(NOW.0 - n), &["x"], &[1.0]),
        );
    }
    assert_eq!(points(&store, 1).len() as u64, count - 50);
    let newest = store.reading(icmp(1)).unwrap();
    assert_eq!(newest.row.at, Timestamp(NOW.0 - count + 1), "still visible");
}

#[test]
fn what_is_too_old_goes_and_nothing_else() {
    let home = Home::new();
    let hour = Duration::from_secs(3_600);
    let options = StoreOptions {
        keep_samples: 10 * hour,
        ..home.options()
    };
    let store = open_quick(options.clone());
    feed(&store, 1, 0..600);
    feed(&store, 2, 0..5);
    settled(&store, 605);
    // twenty hours on, device 1 still answers now and then
    let mut minute = 1_200;
    let kept = until("old chunks to go", || {
        minute += 1;
        feed(&store, 1, minute..minute + 1);
        block_on(store.heartbeat()).unwrap();
        let points = points(&store, 1);
        (points[0].at.0 > NOW.0 + 540 * MINUTE).then_some(points)
    });
    assert!(
        kept.iter()
            .any(|point| point.at.0 >= NOW.0 + 1_200 * MINUTE)
    );
    until("the rows of a silent device to go", || {
        minute += 1;
        feed(&store, 1, minute..minute + 1);
        block_on(store.heartbeat()).unwrap();
        points(&store, 2).is_empty().then_some(())
    });
    let stats = store.stats();
    assert_eq!(stats.rows, points(&store, 1).len() as u64);
    store.close().unwrap();
    let store = Store::open(options, NOW).unwrap();
    assert!(points(&store, 2).is_empty());
    feed(&store, 2, 2_000..2_003);
    until("new rows", || (points(&store, 2).len() == 3).then_some(()));
}

#[test]
fn columns_stay_as_long_as_a_chunk_has_them_whatever_the_clock_says() {
    let home = Home::new();
    let store = home.open();
    feed(&store, 1, 0..300);
    settled(&store, 300);
    for minute in 300..400u32 {
        let at = Timestamp(NOW.0 + u64::from(minute) * MINUTE);
        send(&store, report(icmp(1), at, &["y", "z"], &[1.0, 2.0]));
    }
    // the clock is years ahead, until all that is too old by it has gone
    let mut far = NOW.0 + 20 * 365 * 86_400_000;
    until("history to go", || {
        far += MINUTE;
        send(
            &store,
            report(icmp(1), Timestamp(far), &["y", "z"], &[1.0, 2.0]),
        );
        let found = store.select(&all_of(1)).unwrap();
        let x = found.iter().any(|series| &*series.key.metric == "x");
        (!x).then_some(())
    });
}

#[test]
fn wide_rows_are_cut_into_pieces_and_read_back() {
    let home = Home::new();
    let store = home.open();
    let names: Vec<String> = (0..5_000).map(|n| format!("metric_{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for minute in 0..60u32 {
        let at = Timestamp(NOW.0 + u64::from(minute) * MINUTE);
        let values: Vec<f64> = (0..5_000)
            .map(|n| f64::from(n) * 1.1 + f64::from(minute))
            .collect();
        send(&store, report(icmp(1), at, &names, &values));
    }
    assert!(store.stats().chunks > 0);
    store.close().unwrap();
    let store = home.open();
    let found = store.select(&all_of(1)).unwrap();
    assert_eq!(found.len(), 5_000);
    for (n, series) in (0..5_000u32).zip(&found) {
        assert_eq!(series.points.len(), 60);
        for (minute, point) in (0u32..).zip(&series.points) {
            let value = f64::from(n) * 1.1 + f64::from(minute);
            assert_eq!(point.value.to_bits(), value.to_bits());
        }
    }
}
