//! Bad rows, bad clocks, bad disks: each is named, and harms nobody else.

use std::io;
use std::path::Path;
use std::sync::Arc;

use model::{Breaks, Columns, DeviceId, Labels, MetricKind, SeriesKey, Timestamp};

use super::lab::{DAY, HOUR, Lab, MINUTE, START, columns, group, options};
use crate::engine::{Append, Refused, SamplesHealth};
use crate::query::{QueryError, Select};

fn refusal(lab: &Lab, at: u64, columns: &Arc<Columns>, values: &[f64]) -> Option<Refused> {
    let row = Append {
        group: group(1),
        at: Timestamp(at),
        columns,
        values,
        breaks: &Breaks::None,
        note: None,
    };
    lab.append(&row).refused.pop().map(|(_, why)| why)
}

fn labelled(labels: Labels) -> Arc<Columns> {
    let key = SeriesKey {
        metric: Arc::from("a"),
        labels: Arc::new(labels),
        kind: MetricKind::Gauge,
    };
    Arc::new(Columns::new(vec![key]))
}

#[test]
fn rows_out_of_order_are_sorted_and_break_counters_around_them() {
    let lab = Lab::new();
    let counter = columns(&["c"]);
    for minute in [0, 1, 4, 2, 5] {
        lab.keeps(1, START + minute * MINUTE, &counter, &[minute as f64]);
    }
    let check = |lab: &Lab| {
        let selected = lab.selects("c", 0, u64::MAX);
        let points = selected.series[0].points.iter();
        let found: Vec<(f64, bool)> = points.map(|point| (point.value, point.broken)).collect();
        let wanted = [
            (0.0, false),
            (1.0, false),
            (2.0, true),
            (4.0, true),
            (5.0, false),
        ];
        assert_eq!(found, wanted);
    };
    check(&lab);
    let lab = lab.reopened();
    check(&lab);
    lab.samples.cut().unwrap();
    check(&lab);
}

#[test]
fn a_row_of_the_future_breaks_the_next_row_alone() {
    let lab = Lab::new();
    let counter = columns(&["c"]);
    let keeps = |lab: &Lab, minute: u64| {
        lab.keeps(1, START + minute * MINUTE, &counter, &[minute as f64]);
    };
    keeps(&lab, 0);
    keeps(&lab, 1200); // within the day that is let through
    for minute in 1..100 {
        keeps(&lab, minute);
    }
    let broken = |lab: &Lab| {
        let selected = lab.selects("c", 0, u64::MAX);
        let points = selected.series[0].points.iter();
        let broken = points.filter(|point| point.broken);
        broken.map(|point| point.value).collect::<Vec<f64>>()
    };
    assert_eq!(broken(&lab), [1.0, 1200.0]);
    let lab = lab.reopened();
    keeps(&lab, 100);
    assert_eq!(broken(&lab), [1.0, 1200.0]);
    lab.samples.cut().unwrap();
    keeps(&lab, 101);
    assert_eq!(broken(&lab), [1.0, 1200.0]);
    // nobody knows any more which row was stored last
    lab.samples.cut().unwrap();
    let lab = lab.reopened();
    keeps(&lab, 102);
    keeps(&lab, 103);
    assert_eq!(broken(&lab), [1.0, 102.0, 1200.0]);
}

#[test]
fn a_second_row_of_an_instant_is_refused_or_the_first_one_stays() {
    let lab = Lab::new();
    let one = columns(&["a"]);
    lab.keeps(1, START, &one, &[1.0]);
    lab.keeps(1, START + 1, &one, &[1.0]);
    let at = Timestamp(START);
    assert_eq!(
        refusal(&lab, START, &one, &[2.0]),
        Some(Refused::Duplicate { at })
    );
    lab.samples.cut().unwrap();
    assert_eq!(
        refusal(&lab, START, &one, &[2.0]),
        None,
        "a segment is not asked"
    );
    assert_eq!(lab.points("a"), [(START, 1.0), (START + 1, 1.0)]);
    lab.samples.cut().unwrap();
    assert_eq!(lab.points("a"), [(START, 1.0), (START + 1, 1.0)]);
    assert_eq!(lab.samples.stats().refused[0], ("duplicate", 1));
}

#[test]
fn rows_of_1970_and_of_2100_are_refused() {
    let lab = Lab::new();
    let one = columns(&["a"]);
    let at = Timestamp(0);
    assert_eq!(refusal(&lab, 0, &one, &[1.0]), Some(Refused::TooOld { at }));
    let at = Timestamp(4_102_444_800_000);
    assert_eq!(
        refusal(&lab, at.0, &one, &[1.0]),
        Some(Refused::TooNew { at })
    );
    assert_eq!(refusal(&lab, START + DAY, &one, &[1.0]), None);
    assert_eq!(
        lab.samples.stats().refused[1..3],
        [("too_old", 1), ("too_new", 1)]
    );
}

#[test]
fn nan_is_not_measured_and_infinities_are_values() {
    let lab = Lab::new();
    let both = columns(&["a", "b"]);
    lab.keeps(1, START, &both, &[f64::INFINITY, 1.0]);
    lab.keeps(1, START + 1, &both, &[f64::NAN, f64::NEG_INFINITY]);
    lab.keeps(1, START + 2, &both, &[-0.0, f64::NAN]);
    let check = |lab: &Lab| {
        assert_eq!(lab.points("a"), [(START, f64::INFINITY), (START + 2, -0.0)]);
        assert_eq!(
            lab.points("b"),
            [(START, 1.0), (START + 1, f64::NEG_INFINITY)]
        );
        let ends = |selector| lab.selects(selector, 0, u64::MAX).series[0].ends.clone();
        assert_eq!(ends("a"), [Timestamp(START + 1)]);
        assert_eq!(ends("b"), [Timestamp(START + 2)]);
    };
    check(&lab);
    let lab = lab.reopened();
    check(&lab);
    lab.samples.cut().unwrap();
    check(&lab);
}

#[test]
fn a_series_that_is_not_in_the_columns_any_more_has_ended() {
    let lab = Lab::new();
    lab.keeps(1, START, &columns(&["a", "b"]), &[1.0, 2.0]);
    lab.keeps(1, START + 1, &columns(&["b"]), &[2.0]);
    lab.keeps(1, START + 2, &columns(&["b"]), &[2.0]);
    let series = &lab.selects("a", 0, u64::MAX).series[0];
    assert_eq!(series.ends, [Timestamp(START + 1)]);
    assert_eq!(lab.points("b").len(), 3);
}

#[test]
fn ten_thousand_labels_are_refused() {
    let lab = Lab::new();
    let labels = (0..10_000).map(|n| (format!("l{n}"), "x"));
    let columns = labelled(Labels::new(labels));
    let Some(Refused::Labels { what }) = refusal(&lab, START, &columns, &[1.0]) else {
        panic!("it was taken");
    };
    assert_eq!(what, "a series of a has more than 64 labels");
}

#[test]
fn a_label_of_a_megabyte_is_refused() {
    let lab = Lab::new();
    let long = "x".repeat(1 << 20);
    for labels in [
        Labels::new([("l", long.as_str())]),
        Labels::new([(long.as_str(), "l")]),
    ] {
        let Some(Refused::Labels { what }) = refusal(&lab, START, &labelled(labels), &[1.0]) else {
            panic!("it was taken");
        };
        assert!(what.len() < 200, "{what}");
    }
    assert_eq!(lab.samples.stats().refused[4], ("labels", 2));
}

#[test]
fn a_row_that_does_not_fit_its_columns_is_refused() {
    let lab = Lab::new();
    let why = refusal(&lab, START, &columns(&["a"]), &[1.0, 2.0]);
    assert!(matches!(
        why,
        Some(Refused::Shape {
            values: 2,
            columns: 1,
            ..
        })
    ));
}

#[test]
fn one_device_that_begins_too_many_series_harms_no_other() {
    let lab = Lab::new();
    let device = |n: u64| labelled(Labels::new([("n", n.to_string())]));
    for n in 0..1000 {
        assert_eq!(refusal(&lab, START + n, &device(n), &[1.0]), None);
    }
    let limit = 1000;
    let device_1 = DeviceId(1);
    let wanted = Refused::TooManySeries {
        device: device_1,
        limit,
    };
    assert_eq!(
        refusal(&lab, START + 2000, &device(2000), &[1.0]),
        Some(wanted)
    );
    assert_eq!(
        refusal(&lab, START + 2001, &device(999), &[1.0]),
        None,
        "it has that one"
    );
    lab.keeps(2, START, &device(5000), &[1.0]);
    let mut lab = lab;
    lab.passes(DAY);
    assert_eq!(
        refusal(&lab, START + DAY, &device(2000), &[1.0]),
        None,
        "a day later"
    );
}

#[test]
fn a_corrupt_segment_is_set_aside_and_the_rest_is_served() {
    let lab = Lab::new();
    let one = columns(&["a"]);
    lab.keeps(1, START, &one, &[1.0]);
    lab.samples.cut().unwrap();
    lab.keeps(1, START + HOUR, &one, &[2.0]);
    lab.samples.cut().unwrap();
    lab.fs.flip(Path::new("/samples/seg/00000000.seg"), 3, 1);
    let check = |lab: &Lab| {
        let selected = lab.selects("a", 0, u64::MAX);
        assert_eq!(selected.series[0].points.len(), 1);
        assert_eq!(selected.missing.len(), 1);
        assert_eq!(selected.missing[0].from, Timestamp(START));
        assert_eq!(lab.samples.stats().quarantined, 1);
        assert_eq!(lab.segments(), ["00000001.seg"]);
    };
    let lab = lab.reopened();
    check(&lab);
    let lab = lab.reopened();
    check(&lab);
}

#[test]
fn a_corrupt_block_is_missing_and_the_rest_is_served_also_after_its_day_was_compacted() {
    let mut lab = Lab::new();
    let one = columns(&["a"]);
    lab.keeps(1, START, &one, &[1.0]);
    lab.keeps(2, START, &one, &[2.0]);
    lab.samples.cut().unwrap();
    let segment = Arc::clone(&crate::lock::lock(&lab.samples.inner().head).shelf);
    let entry = segment.segments[0].segment().unwrap().of(0)[0];
    let path = Path::new("/samples/seg/00000000.seg");
    lab.fs
        .flip(path, entry.offset + u64::from(entry.length) - 6, 1);
    let check = |lab: &Lab| {
        let selected = lab.selects("a", 0, u64::MAX);
        assert_eq!(selected.series.len(), 1);
        assert_eq!(selected.series[0].group, group(2));
        assert_eq!(selected.missing.len(), 1, "{:?}", selected.missing);
    };
    check(&lab);
    lab.lives(DAY + HOUR);
    check(&lab);
    assert_eq!(lab.samples.stats().quarantined, 1);
    assert!(lab.samples.stats().damaged > 0);
    let lab = lab.reopened();
    check(&lab);
}

#[test]
fn a_segment_of_a_newer_version_is_left_alone_and_named() {
    let lab = Lab::new();
    lab.keeps(1, START, &columns(&["a"]), &[1.0]);
    lab.samples.cut().unwrap();
    let path = Path::new("/samples/seg/00000000.seg");
    let mut bytes = lab.fs.read_all(path);
    bytes[8] = 99; // the format, which the header's checksum covers
    let crc = crc32fast::hash(&bytes[..16]);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    super::lab::write(&lab.fs, path, &bytes);
    let lab = lab.reopened();
    let selected = lab.selects("a", 0, u64::MAX);
    assert!(
        selected.missing[0].why.contains("newer"),
        "{:?}",
        selected.missing
    );
    assert_eq!(lab.segments(), ["00000000.seg"]);
}

#[test]
fn a_log_that_is_cut_short_gives_the_rows_before() {
    let lab = Lab::new();
    let one = columns(&["a"]);
    lab.keeps(1, START, &one, &[1.0]);
    lab.keeps(1, START + 1, &one, &[2.0]);
    let dir = Path::new("/samples/wal");
    let name = lab.fs.names(dir).pop().unwrap();
    let path = dir.join(name);
    let fs = lab.fs.after_kill();
    let length = fs.read_all(&path).len() as u64;
    fs.truncate(&path, length - 3);
    let state = lab.catalog.state();
    let catalog = super::lab::MemoryCatalog::of(state);
    let lab = Lab::on(fs, catalog, options(), START);
    assert_eq!(lab.points("a"), [(START, 1.0)]);
    assert!(lab.samples.stats().replay.torn_tail > 0);
    assert_eq!(lab.samples.stats().damaged, 0);
}

#[test]
fn a_log_that_is_corrupt_in_the_middle_loses_that_place_alone_and_says_so() {
    let lab = Lab::new();
    let one = columns(&["a"]);
    for place in 0..10 {
        lab.keeps(1, START + place, &one, &[1.5]);
    }
    let dir = Path::new("/samples/wal");
    let path = dir.join(lab.fs.names(dir).pop().unwrap());
    let fs = lab.fs.after_kill();
    let length = fs.read_all(&path).len() as u64;
    fs.flip(&path, length - length / 3, 2);
    let catalog = super::lab::MemoryCatalog::of(lab.catalog.state());
    let lab = Lab::on(fs, catalog, options(), START);
    let found = lab.points("a").len();
    assert!((7..10).contains(&found), "{found}");
    assert!(lab.samples.stats().damaged > 0);
    assert_eq!(lab.samples.stats().replay.damaged.len(), 1);
}

#[test]
fn a_sync_that_fails_loses_nothing() {
    for place in 1..8 {
        let lab = Lab::new();
        let one = columns(&["a"]);
        lab.keeps(1, START, &one, &[1.0]);
        lab.fs.fail_once_in(place, io::ErrorKind::Other);
        for row in 1..5 {
            lab.keeps(1, START + row, &one, &[1.0]);
        }
        let lab = lab.after_power_cut(place);
        assert_eq!(lab.points("a").len(), 5);
    }
}

#[test]
fn a_disk_that_is_full_for_an_hour_loses_nothing_that_memory_holds() {
    let mut lab = Lab::new();
    let one = columns(&["a"]);
    lab.keeps(1, START, &one, &[1.0]);
    lab.fs.fail_with(Some(io::ErrorKind::StorageFull));
    let row = |lab: &Lab, value: f64| {
        let values = [value];
        let row = Append {
            group: group(1),
            at: Timestamp(lab.now),
            columns: &one,
            values: &values,
            breaks: &Breaks::None,
            note: None,
        };
        let appended = lab.append(&row);
        assert_eq!(appended.refused, []);
        appended.ticket
    };
    for minute in 1..=60 {
        lab.passes(MINUTE);
        let ticket = row(&lab, f64::from(minute));
        ticket.durable().unwrap_err();
        let _ = lab.samples.maintain(Timestamp(lab.now));
        lab.samples.resume(Timestamp(lab.now)).unwrap_err();
        let health = lab.samples.stats().health;
        assert!(matches!(health, SamplesHealth::NotWriting(why) if why.full));
    }
    assert_eq!(lab.points("a").len(), 61);
    lab.fs.fail_with(None);
    lab.samples.resume(Timestamp(lab.now)).unwrap();
    assert_eq!(lab.samples.stats().health, SamplesHealth::Ok);
    lab.passes(MINUTE);
    row(&lab, 61.0).durable().unwrap();
    let lab = lab.after_power_cut(1);
    assert_eq!(lab.points("a").len(), 62);
    assert_eq!(lab.samples.stats().dropped, 0);
}

#[test]
fn a_group_that_began_while_the_disk_was_full_is_known_after_a_power_cut() {
    let lab = Lab::new();
    lab.fs.fail_with(Some(io::ErrorKind::StorageFull));
    let one = columns(&["a"]);
    let row = Append {
        group: group(5),
        at: Timestamp(START),
        columns: &one,
        values: &[1.0],
        breaks: &Breaks::None,
        note: Some(b"note"),
    };
    lab.append(&row).ticket.durable().unwrap_err();
    let _ = lab.samples.maintain(Timestamp(START));
    lab.fs.fail_with(None);
    // the log goes on, but the cut fails: definitions must be in the log
    lab.catalog.fail(&[super::lab::Fault::Refuses; 3]);
    lab.samples.resume(Timestamp(START)).unwrap_err();
    let health = lab.samples.stats().health;
    assert!(
        matches!(health, SamplesHealth::NotWriting(_)),
        "it is not over"
    );
    lab.keeps(5, START + 1, &one, &[2.0]);
    let lab = lab.after_power_cut(1);
    assert_eq!(lab.points("a"), [(START + 1, 2.0)]);
    assert_eq!(lab.samples.newest()[0].1, b"note");
}

#[test]
fn when_memory_is_full_too_the_oldest_rows_go_and_are_counted_but_never_acknowledged_ones() {
    let mut options = options();
    options.backlog_bytes = 64 << 10;
    let mut lab = Lab::with(options);
    let names: Vec<String> = (0..100).map(|n| format!("a{n}")).collect();
    let wide = columns(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let values: Vec<f64> = (0..100)
        .map(|n| f64::from(n) * 1.000_1 + 0.123_456_789)
        .collect();
    lab.keeps(1, START, &wide, &values);
    lab.fs.fail_with(Some(io::ErrorKind::StorageFull));
    for second in 1..2000u64 {
        lab.passes(1000);
        let values: Vec<f64> = values.iter().map(|v| v * second as f64 * 1.1).collect();
        let row = Append {
            group: group(1),
            at: Timestamp(lab.now),
            columns: &wide,
            values: &values,
            breaks: &Breaks::None,
            note: None,
        };
        let ticket = lab.append(&row).ticket;
        if second == 1 {
            ticket.durable().unwrap_err();
        }
        let _ = lab.samples.maintain(Timestamp(lab.now));
        let stats = lab.samples.stats();
        assert!(stats.head_bytes < 80 << 10, "{}", stats.head_bytes);
    }
    let stats = lab.samples.stats();
    assert!(stats.dropped > 0);
    let points = lab.points("a7");
    assert_eq!(points[0].0, START, "it was acknowledged");
    assert_eq!(points.last().unwrap().0, lab.now);
    assert_eq!(stats.dropped + stats.head_samples, 2000 * 100);
}

fn evicted_of_a_full_disk(is_linked: bool) -> u64 {
    let mut options = options();
    options.backlog_bytes = 32 << 10;
    let mut lab = Lab::with(options);
    let one = columns(&["a"]);
    for day in 0..4 {
        for hour in 0..24 {
            lab.keeps(1, START + day * DAY + hour * HOUR, &one, &[1.0]);
            lab.lives(HOUR);
        }
    }
    let used = lab.samples.stats().evicted;
    assert_eq!(used, 0);
    if is_linked {
        let into = Path::new("/samples/backup");
        lab.samples.snapshot(into, &mut || {}).unwrap();
    }
    lab.fs.fail_with(Some(io::ErrorKind::StorageFull));
    let names: Vec<String> = (0..100).map(|n| format!("b{n}")).collect();
    let wide = columns(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for second in 0..100u64 {
        lab.passes(1000);
        let value = |n: u64| ((second * 100 + n) as f64).sin();
        let values: Vec<f64> = (0..100).map(value).collect();
        let row = Append {
            group: group(1),
            at: Timestamp(lab.now),
            columns: &wide,
            values: &values,
            breaks: &Breaks::None,
            note: None,
        };
        let ticket = lab.append(&row).ticket;
        if second == 0 {
            ticket.durable().unwrap_err();
        }
        let _ = lab.samples.maintain(Timestamp(lab.now));
    }
    let stats = lab.samples.stats();
    let oldest = lab.points("a")[0].0;
    assert!(oldest >= START + stats.evicted.min(2) * DAY);
    stats.evicted
}

#[test]
fn a_full_disk_gives_its_oldest_days_before_new_rows_are_dropped() {
    assert!(evicted_of_a_full_disk(false) >= 2);
}

#[test]
fn a_full_disk_whose_files_somebody_else_holds_gives_one_of_them_only() {
    assert_eq!(evicted_of_a_full_disk(true), 1);
}

#[test]
fn answers_that_are_too_large_are_refused() {
    let lab = Lab::new();
    let both = columns(&["a", "b"]);
    for place in 0..10 {
        lab.keeps(1, START + place, &both, &[1.0, 2.0]);
    }
    let ask = |max_points, max_series| {
        let ask = Select {
            selector: &"{__name__=~\"a|b\"}".parse().unwrap(),
            groups: &|_| true,
            from: Timestamp(0),
            until: Timestamp(u64::MAX),
            max_points,
            max_series,
        };
        lab.samples
            .select(&ask)
            .map(|selected| selected.series.len())
    };
    assert_eq!(ask(20, 2), Ok(2));
    assert_eq!(ask(19, 2), Err(QueryError::TooManyPoints { limit: 19 }));
    assert_eq!(ask(20, 1), Err(QueryError::TooManySeries { limit: 1 }));
}

#[test]
fn rows_that_come_while_the_log_is_resumed_are_a_backlog_until_they_are_in_a_segment() {
    let lab = Lab::new();
    let one = columns(&["a"]);
    let inner = lab.samples.inner();
    inner.begin_resuming();
    lab.keeps(1, START, &one, &[1.0]);
    inner.end_resuming(true);
    lab.catalog.fail(&[super::lab::Fault::Refuses]);
    lab.samples.resume(Timestamp(lab.now)).unwrap_err();
    lab.catalog.fail(&[super::lab::Fault::Refuses]);
    lab.samples.resume(Timestamp(lab.now)).unwrap_err();
    lab.samples.resume(Timestamp(lab.now)).unwrap();
    assert_eq!(lab.points("a"), [(START, 1.0)]);
    assert_eq!(lab.segments().len(), 1);
}

#[test]
fn one_device_that_shows_ever_new_sets_of_its_series_is_refused_and_harms_no_other() {
    let mut lab = Lab::new();
    let names: Vec<String> = (0..500).map(|n| format!("a{n}")).collect();
    let without = |left_out: usize| {
        let some = names.iter().enumerate().filter(|(n, _)| *n != left_out);
        columns(&some.map(|(_, name)| name.as_str()).collect::<Vec<_>>())
    };
    let limit = 1000;
    let refused = Refused::TooManySeries {
        device: DeviceId(1),
        limit,
    };
    let values = [1.0; 499];
    for n in 0..40 {
        assert_eq!(refusal(&lab, START + n as u64, &without(n), &values), None);
    }
    let more = without(40);
    assert_eq!(refusal(&lab, START + 40, &more, &values), Some(refused));
    assert_eq!(refusal(&lab, START + 41, &without(3), &values), None);
    lab.keeps(2, START, &more, &values);
    lab.passes(DAY);
    assert_eq!(refusal(&lab, START + DAY, &without(41), &values), None);
}
