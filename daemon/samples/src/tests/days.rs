//! Days pass: compaction, roll-ups, retention.

use std::collections::BTreeMap;

use model::{Breaks, Timestamp};
use segment::{Span, Tier};

use super::lab::{DAY, HOUR, Lab, MINUTE, START, columns, group, options};
use crate::catalog::CatalogState;
use crate::compaction::by_day;
use crate::engine::ForecastDays;
use crate::lock::lock;
use crate::query::{Across, Aggregate, Frames, Rollup, Source};

/// A row every five minutes for so many days; what was stored.
fn live(lab: &mut Lab, days: u64) -> Vec<(u64, f64, f64)> {
    let both = columns(&["a", "c"]);
    let mut rows = Vec::new();
    for step in 0..days * 288 {
        let at = lab.now;
        let values = [(step % 100) as f64, (step * 10) as f64];
        let restarts = step % 1000 == 999;
        let breaks = if restarts { Breaks::All } else { Breaks::None };
        lab.keeps_broken(1, at, &both, &values, &breaks);
        rows.push((at, values[0], if restarts { f64::NAN } else { 10.0 }));
        lab.lives(5 * MINUTE);
    }
    rows
}

fn shelf(lab: &Lab) -> BTreeMap<(Tier, Span, u64), usize> {
    by_day(&lock(&lab.samples.inner().head).shelf)
}

fn rollup(
    lab: &Lab,
    selector: &str,
    from: u64,
    step: u64,
    aggregate: Aggregate,
    source: Source,
) -> Frames {
    let ask = Rollup {
        selector: &selector.parse().unwrap(),
        groups: &|_| true,
        from: Timestamp(from),
        until: Timestamp(lab.now),
        step_ms: step,
        aggregate,
        across: None,
        source,
        max_points: 1_000_000,
        max_series: 100,
    };
    lab.samples.rollup(&ask).unwrap()
}

#[test]
fn a_day_becomes_one_segment_of_each_tier_and_a_month_one_of_each_roll_up() {
    let mut lab = Lab::new();
    let rows = live(&mut lab, 34);
    let first = START / DAY;
    let shelf = shelf(&lab);
    assert_eq!(shelf[&(Tier::Hour, Span::Month, first)], 1);
    assert_eq!(shelf[&(Tier::Quarter, Span::Month, first)], 1);
    assert!(!shelf.contains_key(&(Tier::Hour, Span::Day, first)));
    assert_eq!(shelf[&(Tier::Hour, Span::Day, first + 31)], 1);
    assert_eq!(shelf[&(Tier::Raw, Span::Day, first + 31)], 1);
    assert!(!shelf.contains_key(&(Tier::Raw, Span::Fresh, first + 31)));
    assert!(
        !shelf.contains_key(&(Tier::Raw, Span::Day, first)),
        "it expired"
    );
    let oldest = lab.points("a")[0].0;
    let kept: Vec<(u64, f64)> = rows
        .iter()
        .filter(|row| row.0 >= oldest)
        .map(|row| (row.0, row.1))
        .collect();
    assert_eq!(lab.points("a"), kept);
    let lab = lab.reopened();
    assert_eq!(lab.points("a"), kept);
}

#[test]
fn every_tier_tells_of_the_same_rows_and_so_do_rows_that_are_in_no_segment_yet() {
    let mut lab = Lab::new();
    let rows = live(&mut lab, 3);
    lab.passes(0);
    for source in [
        Source::Of(Tier::Raw),
        Source::Of(Tier::Quarter),
        Source::Of(Tier::Hour),
        Source::Auto,
    ] {
        for step in [HOUR, 4 * HOUR, DAY] {
            for aggregate in [
                Aggregate::Increase,
                Aggregate::Max,
                Aggregate::Count,
                Aggregate::Avg,
                Aggregate::Last,
                Aggregate::Min,
            ] {
                let metric = if aggregate == Aggregate::Increase {
                    "c"
                } else {
                    "a"
                };
                let frames = rollup(&lab, metric, START, step, aggregate, source);
                assert_eq!(frames.missing, []);
                assert_eq!(frames.oldest, Timestamp(START));
                let values = &frames.frames[0].values;
                for (place, value) in values.iter().enumerate() {
                    let from = START + place as u64 * step;
                    let wanted = naive(&rows, from..from + step, aggregate);
                    assert!(
                        (value - wanted).abs() < 1e-4,
                        "{source:?} {step} {aggregate:?} {place}: {value} {wanted}"
                    );
                }
            }
        }
    }
}

fn naive(rows: &[(u64, f64, f64)], range: std::ops::Range<u64>, aggregate: Aggregate) -> f64 {
    let within = || {
        rows.iter()
            .enumerate()
            .filter(|(_, row)| range.contains(&row.0))
    };
    let values = || within().map(|(_, row)| row.1);
    match aggregate {
        Aggregate::Min => values().fold(f64::INFINITY, f64::min),
        Aggregate::Max => values().fold(f64::NEG_INFINITY, f64::max),
        Aggregate::Avg => values().sum::<f64>() / values().count() as f64,
        Aggregate::Last => values().next_back().unwrap(),
        Aggregate::Count => values().count() as f64,
        _ => within()
            .filter(|(place, row)| *place > 0 && !row.2.is_nan())
            .map(|(_, row)| row.2)
            .sum(),
    }
}

#[test]
fn many_series_are_added_up_by_steps() {
    let lab = Lab::new();
    let both = columns(&["a", "c"]);
    for device in 0..20 {
        for minute in 0..60 {
            let _ = lab.samples.append(
                &[crate::Append {
                    group: group(device),
                    at: Timestamp(START + minute * MINUTE),
                    columns: &both,
                    values: &[device as f64, (minute * device) as f64],
                    breaks: &Breaks::None,
                    note: None,
                }],
                Timestamp(START),
            );
        }
    }
    let ask = |across, aggregate, selector: &str| {
        let ask = Rollup {
            selector: &selector.parse().unwrap(),
            groups: &|key| key.device.0 != 7,
            from: Timestamp(START),
            until: Timestamp(START + HOUR),
            step_ms: 10 * MINUTE,
            aggregate,
            across: Some(across),
            source: Source::Auto,
            max_points: 6,
            max_series: 19,
        };
        let frames = lab.samples.rollup(&ask).unwrap();
        assert_eq!((frames.series, frames.steps), (19, 6));
        frames.frames[0].values.clone()
    };
    assert_eq!(ask(Across::Sum, Aggregate::Last, "a"), [183.0; 6]);
    assert_eq!(ask(Across::Max, Aggregate::Last, "a"), [19.0; 6]);
    assert_eq!(ask(Across::Min, Aggregate::Last, "a"), [0.0; 6]);
    assert_eq!(ask(Across::Count, Aggregate::Last, "a"), [19.0; 6]);
    let increases = ask(Across::Sum, Aggregate::Increase, "c");
    assert_eq!(increases[..2], [183.0 * 9.0, 1830.0]);
    let rates = ask(Across::Sum, Aggregate::Rate, "c");
    assert!((rates[1] - 1830.0 / 600.0).abs() < 1e-9); // added in any order
}

#[test]
fn a_late_row_is_compacted_into_its_day_on_the_next_one() {
    let mut lab = Lab::new();
    live(&mut lab, 2);
    let both = columns(&["a", "c"]);
    let first = START / DAY;
    let has_fresh = |lab: &Lab| shelf(lab).contains_key(&(Tier::Raw, Span::Fresh, first));
    lab.keeps(1, START + 3 * HOUR + 1, &both, &[1000.0, 0.0]);
    lab.lives(HOUR);
    assert!(!has_fresh(&lab));
    lab.keeps(1, START + 5 * HOUR + 1, &both, &[2000.0, 0.0]);
    lab.lives(HOUR);
    assert!(has_fresh(&lab), "once a day is enough");
    lab.lives(DAY);
    assert!(!has_fresh(&lab));
    let frames = rollup(
        &lab,
        "a",
        START,
        HOUR,
        Aggregate::Max,
        Source::Of(Tier::Hour),
    );
    assert_eq!(frames.frames[0].values[3], 1000.0);
    assert_eq!(frames.frames[0].values[5], 2000.0);
    let selected = lab.selects("c", START + 3 * HOUR, START + 3 * HOUR + 10 * MINUTE);
    let points = selected.series[0].points.iter();
    let broken: Vec<bool> = points.map(|point| point.broken).collect();
    assert_eq!(broken[..2], [false, true]);
}

#[test]
fn one_segment_a_minute_expires_and_none_after_the_clock_was_set() {
    let mut lab = Lab::new();
    live(&mut lab, 3);
    lab.now += 100 * DAY; // the clock is set; nothing has passed
    for _ in 0..50 {
        lab.lives(MINUTE);
    }
    assert_eq!(lab.samples.stats().expired, 0);
    lab.now -= 100 * DAY;
    for _ in 0..50 {
        lab.lives(MINUTE);
    }
    assert_eq!(lab.samples.stats().expired, 0, "it was set again");
    assert_eq!(lab.points("a")[0].0, START);
    lab.now += 100 * DAY;
    lab.maintains();
    lab.passes(HOUR);
    for expired in 1..=3 {
        lab.maintains();
        lab.maintains();
        assert_eq!(lab.samples.stats().expired, expired);
        lab.passes(MINUTE);
    }
}

#[test]
fn the_budget_takes_the_oldest_raw_days_first() {
    let mut options = options();
    options.keep.budget = 1;
    let mut lab = Lab::with(options);
    live(&mut lab, 3);
    let oldest = lab.points("a")[0].0;
    assert_eq!(oldest, START + 2 * DAY);
    assert!(lab.samples.stats().evicted > 0);
}

#[test]
fn what_is_forgotten_is_gone_at_once_and_for_good() {
    let lab = Lab::new();
    let one = columns(&["a"]);
    lab.keeps(1, START, &one, &[1.0]);
    lab.keeps(2, START, &one, &[2.0]);
    lab.samples.cut().unwrap();
    lab.keeps(1, START + 1, &one, &[1.0]);
    assert_eq!(lab.samples.forget(&|key| key == group(1)).unwrap(), 1);
    assert_eq!(lab.points("a"), [(START, 2.0)]);
    lab.keeps(1, START + 2, &one, &[3.0]);
    let mut lab = lab.reopened();
    assert_eq!(lab.points("a"), [(START + 2, 3.0), (START, 2.0)]);
    for _ in 0..60 {
        lab.lives(HOUR);
    }
    assert_eq!(lab.points("a"), [(START + 2, 3.0), (START, 2.0)]);
    let state: CatalogState = lab.catalog.state();
    assert_eq!(
        state.groups.iter().filter(|(_, group)| group.gone).count(),
        0
    );
}

#[test]
fn columns_that_no_row_has_any_more_are_forgotten() {
    let mut options = options();
    let days = std::time::Duration::from_secs(5 * 24 * 3600);
    options.keep = crate::Keep {
        raw: days,
        quarter: days,
        hour: days,
        budget: 0,
    };
    let mut lab = Lab::with(options);
    lab.keeps(1, START, &columns(&["old"]), &[1.0]);
    lab.keeps(1, START + 1, &columns(&["new"]), &[1.0]);
    lab.samples.cut().unwrap();
    assert_eq!(lab.samples.metrics().len(), 2);
    for _ in 0..20 {
        lab.keeps(1, lab.now + 3, &columns(&["new"]), &[1.0]);
        for _ in 0..24 {
            lab.lives(HOUR);
        }
    }
    let names: Vec<String> = lab
        .samples
        .metrics()
        .iter()
        .map(|n| n.to_string())
        .collect();
    assert_eq!(names, ["new"]);
    assert_eq!(lab.catalog.state().columns.len(), 1);
    assert_eq!(lab.samples.stats().forecast, ForecastDays::Never);
    let lab = lab.reopened();
    assert_eq!(lab.points("new").len(), 5);
}

#[test]
fn a_snapshot_holds_every_row_and_opens_by_itself() {
    let mut lab = Lab::new();
    live(&mut lab, 2);
    let both = columns(&["a", "c"]);
    lab.keeps(1, lab.now, &both, &[5.0, 5.0]);
    lab.passes(1);
    let mut state = None;
    let into = std::path::Path::new("/backup/seg");
    let snapshot = lab
        .samples
        .snapshot(into, &mut || state = Some(lab.catalog.state()));
    let snapshot = snapshot.unwrap();
    assert_eq!(snapshot.files.len(), state.as_ref().unwrap().segments.len());
    assert!(snapshot.bytes > 0);
    let wanted = lab.points("a");
    live(&mut lab, 1);
    let mut options = options();
    options.dir = "/backup".into();
    let state = super::lab::MemoryCatalog::of(state.unwrap());
    let copy = Lab::on(lab.fs.clone(), state, options, lab.now);
    assert_eq!(copy.points("a"), wanted);
}

#[test]
fn an_answer_of_too_many_steps_times_series_is_refused() {
    let lab = Lab::new();
    let both = columns(&["a", "b"]);
    lab.keeps(1, START, &both, &[1.0, 2.0]);
    let ask = |max_points| {
        let ask = Rollup {
            selector: &"{__name__=~\"a|b\"}".parse().unwrap(),
            groups: &|_| true,
            from: Timestamp(START),
            until: Timestamp(START + HOUR),
            step_ms: MINUTE,
            aggregate: Aggregate::Max,
            across: None,
            source: Source::Auto,
            max_points,
            max_series: 2,
        };
        lab.samples.rollup(&ask)
    };
    assert_eq!(ask(120).unwrap().frames.len(), 2);
    let limit = 119;
    let wanted = crate::QueryError::TooManyPoints { limit };
    assert_eq!(ask(limit).unwrap_err(), wanted);
}

#[test]
fn a_cut_that_fails_for_hours_leaves_one_heap_of_blocks_and_loses_nothing() {
    let mut lab = Lab::new();
    let one = columns(&["a"]);
    lab.catalog.fail(&[super::lab::Fault::Lies; 3]);
    for step in 0..400 {
        lab.fs.fail_once_in(6, std::io::ErrorKind::Other);
        lab.keeps(1, lab.now, &one, &[f64::from(step)]);
        let _ = lab.samples.cut();
        lab.passes(MINUTE);
    }
    let frozen = lock(&lab.samples.inner().head).frozen.len();
    assert!(frozen <= 2, "{frozen}");
    assert_eq!(lab.points("a").len(), 400);
    while lab.samples.cut().is_err() {}
    assert_eq!(lab.points("a").len(), 400);
    let lab = lab.reopened();
    assert_eq!(lab.points("a").len(), 400);
}

#[test]
fn rows_that_a_kill_left_in_the_log_are_in_the_roll_ups_of_their_day() {
    let mut lab = Lab::new();
    let both = columns(&["a", "c"]);
    for step in 0..287u32 {
        let values = [f64::from(step), 1.0];
        lab.keeps_broken(1, lab.now, &both, &values, &Breaks::None);
        lab.lives(5 * MINUTE);
    }
    // the last hour is in the log alone when the next day is half an hour old
    lab.passes(35 * MINUTE);
    let lab = lab.reopened();
    lab.maintains();
    assert_eq!(shelf(&lab)[&(Tier::Hour, Span::Day, START / DAY)], 1);
    for tier in Tier::ALL {
        let frames = rollup(&lab, "a", START, DAY, Aggregate::Count, Source::Of(tier));
        assert_eq!(frames.frames[0].values[0], 287.0, "{tier:?}");
    }
}

#[test]
fn rows_of_just_before_midnight_are_in_the_roll_ups_and_their_day_is_compacted_once() {
    let mut lab = Lab::new();
    let both = columns(&["a", "c"]);
    for step in 0..288u32 {
        lab.keeps(1, lab.now, &both, &[f64::from(step), 1.0]);
        lab.lives(5 * MINUTE);
    }
    // measured before midnight, told of after the cut at midnight
    lab.keeps(1, START + DAY - 1000, &both, &[5.0, 1.0]);
    for _ in 0..30 {
        lab.keeps(1, lab.now, &both, &[1.0, 1.0]);
        lab.lives(5 * MINUTE);
    }
    for tier in Tier::ALL {
        let frames = rollup(&lab, "a", START, DAY, Aggregate::Count, Source::Of(tier));
        assert_eq!(frames.frames[0].values[0], 289.0, "{tier:?}");
    }
    assert_eq!(lab.samples.stats().compactions, 1);
    lab.lives(DAY);
    assert_eq!(lab.samples.stats().compactions, 2, "the next day alone");
}

#[test]
fn a_clock_that_is_ahead_neither_compacts_nor_expires_also_at_a_start() {
    let mut lab = Lab::new();
    live(&mut lab, 2);
    let before = shelf(&lab);
    lab.now += 3650 * DAY;
    lab.maintains();
    lab.now -= 3650 * DAY;
    lab.maintains();
    let months = |lab: &Lab| shelf(lab).keys().any(|(_, span, _)| *span == Span::Month);
    assert!(!months(&lab));
    lab.now += 3650 * DAY;
    let mut lab = lab.reopened();
    for _ in 0..50 {
        lab.lives(MINUTE);
    }
    assert!(!months(&lab));
    assert_eq!(lab.samples.stats().expired, 0);
    assert!(shelf(&lab).len() >= before.len());
    assert_eq!(lab.points("a")[0].0, START);
}

#[test]
fn days_that_pass_with_their_rows_are_compacted_whatever_the_monotonic_clock_says() {
    let mut lab = Lab::new();
    let one = columns(&["a"]);
    for step in 0..600u32 {
        lab.keeps(1, lab.now, &one, &[f64::from(step)]);
        lab.now += 10 * MINUTE;
        if step % 20 == 19 {
            lab.maintains();
        }
    }
    assert_eq!(shelf(&lab)[&(Tier::Raw, Span::Day, START / DAY)], 1);
    let active = lab.samples.stats().active_series;
    lab.samples.cut().unwrap();
    assert_eq!(lab.samples.stats().active_series, active.max(1));
}
