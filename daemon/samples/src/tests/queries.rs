//! Queries: their bounds, and what they never make up.

use std::path::Path;

use model::{Breaks, Timestamp};
use segment::Tier;

use super::lab::{HOUR, Lab, MINUTE, START, columns};
use crate::lock::lock;
use crate::query::{Across, Aggregate, Frames, QueryError, Rollup, Select, Source};
use crate::read::{Reader, ViewGroup};

#[test]
fn a_reader_that_panics_is_never_half_an_answer() {
    let lab = Lab::new();
    let groups: Vec<ViewGroup> = (0..8).map(group).collect();
    let read = |group: &ViewGroup, _: &mut Reader| -> Result<u32, QueryError> {
        assert!(group.number != 6, "a test says so");
        Ok(group.number)
    };
    let inner = lab.samples.inner();
    let answer = std::panic::AssertUnwindSafe(|| inner.in_two(&groups, &read));
    assert!(std::panic::catch_unwind(answer).is_err());
    let (found, missing) = inner.in_two(&groups[..6], &read).unwrap();
    assert_eq!((found, missing), ((0..6).collect(), Vec::new()));
}

fn group(number: u32) -> ViewGroup {
    ViewGroup {
        key: super::lab::group(u64::from(number)),
        number,
        head: Vec::new(),
    }
}

#[test]
fn no_row_is_the_last_one_if_a_newer_one_cannot_be_read() {
    let mut lab = Lab::new();
    let set = columns(&["c"]);
    for part in 0..2_u64 {
        for row in 0..100 {
            let at = lab.now;
            lab.keeps(1, at, &set, &[(part * 100 + row) as f64]);
            lab.passes(MINUTE);
        }
        lab.maintains();
    }
    let last = |lab: &Lab, before: u64| {
        let inner = lab.samples.inner();
        let shelf = lock(&inner.head).shelf.clone();
        let number = shelf.segments[0].segment().unwrap().entries()[0].group;
        let last = inner.last_before(&shelf, number, before);
        last.map(|(at, _, values)| (at, values))
    };
    let cut = |part: u64| START + part * 100 * MINUTE;
    assert_eq!(last(&lab, cut(1)), Some((cut(1) - MINUTE, vec![99.0])));
    assert_eq!(last(&lab, cut(2)), Some((cut(2) - MINUTE, vec![199.0])));
    let (path, entry) = {
        let shelf = lock(&lab.samples.inner().head).shelf.clone();
        let newest = shelf.segments.last().unwrap().segment().unwrap().clone();
        (newest.path().clone(), *newest.entries().last().unwrap())
    };
    let place = entry.offset + u64::from(entry.length) - 6;
    lab.fs.flip(Path::new(&path), place, 1);
    assert_eq!(last(&lab, cut(2)), None);
    assert_eq!(last(&lab, cut(1)), Some((cut(1) - MINUTE, vec![99.0])));
}

fn rollup(
    lab: &Lab,
    from: u64,
    step: u64,
    across: Option<Across>,
    tier: Tier,
) -> Result<Frames, QueryError> {
    let ask = Rollup {
        selector: &"{__name__=~\"c.*\"}".parse().unwrap(),
        groups: &|_| true,
        from: Timestamp(from),
        until: Timestamp(lab.now),
        step_ms: step,
        aggregate: Aggregate::Rate,
        across,
        source: Source::Of(tier),
        max_points: 1_000_000,
        max_series: 1_000,
    };
    lab.samples.rollup(&ask)
}

#[test]
fn a_steady_counter_has_one_rate_whatever_the_steps_the_gaps_and_the_breaks() {
    let mut lab = Lab::new();
    let set = columns(&["c"]);
    let mut breaks = Breaks::None;
    for poll in 0..1000_u64 {
        match poll {
            300..340 => breaks = Breaks::None, // silence: the next step is long
            500..520 => breaks = Breaks::All,  // a restart: there is no step
            _ => {
                let value = (lab.now - START) as f64 * 7.0; // per ms
                lab.keeps_broken(1, lab.now, &set, &[value], &breaks);
                breaks = Breaks::None;
            }
        }
        lab.passes(if poll == 700 { 7_300 } else { 5_000 });
    }
    let rates = |step: u64, tier| {
        let frames = rollup(&lab, START, step, None, tier).unwrap();
        let values = frames.frames[0].values.iter().copied();
        values.filter(|rate| !rate.is_nan()).collect::<Vec<_>>()
    };
    for step in [3_000, 7_000, 10_000, 60_000, 15 * MINUTE, HOUR, 10 * HOUR] {
        let rates = rates(step, Tier::Raw);
        assert!(!rates.is_empty());
        assert!(
            rates.iter().all(|rate| (rate / 7_000.0 - 1.0).abs() < 1e-9),
            "{step}: {rates:?}"
        );
    }
    for rate in rates(HOUR, Tier::Quarter) {
        assert!((rate / 7_000.0 - 1.0).abs() < 1e-9, "{rate}");
    }
}

#[test]
fn what_is_added_up_is_bounded_before_it_takes_memory() {
    let mut lab = Lab::new();
    let names: Vec<String> = (0..60).map(|name| format!("c{name}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let set = columns(&names);
    for row in 0..200_u64 {
        lab.keeps(1, lab.now, &set, &[row as f64; 60]);
        lab.passes(10_000);
    }
    let sum = |step| rollup(&lab, START, step, Some(Across::Sum), Tier::Raw);
    let frames = sum(MINUTE).unwrap();
    assert!((frames.frames[0].values[1] - 6.0).abs() < 1e-9);
    let refused = sum(1_000).unwrap_err();
    assert_eq!(refused, QueryError::TooManyPoints { limit: 100_000 });
}

#[test]
fn rows_that_are_read_in_many_pieces_are_those_of_one() {
    let mut lab = Lab::new();
    let (both, other) = (columns(&["a", "c"]), columns(&["b", "c"]));
    let mut kept: Vec<(u64, f64, bool)> = Vec::new();
    for row in 0..6_000_u64 {
        let set = if row / 700 % 2 == 0 { &both } else { &other };
        let is_broken = row % 501 == 500;
        let breaks = if is_broken { Breaks::All } else { Breaks::None };
        lab.keeps_broken(1, lab.now, set, &[1.0, row as f64], &breaks);
        kept.push((lab.now, row as f64, is_broken));
        lab.lives(10_000);
    }
    let selected = lab.selects("c", 0, u64::MAX);
    let points = selected.series[0].points.iter();
    let found: Vec<(u64, f64, bool)> = points.map(|p| (p.at.0, p.value, p.broken)).collect();
    assert_eq!(found, kept);
    assert_eq!(lab.selects("a", 0, u64::MAX).series[0].ends.len(), 4);
    let frames = rollup(&lab, START, 24 * HOUR, None, Tier::Raw).unwrap();
    assert!((frames.frames[0].values[0] - 0.1).abs() < 1e-9);
    let ask = Select {
        selector: &"c".parse().unwrap(),
        groups: &|_| true,
        from: Timestamp(0),
        until: Timestamp(u64::MAX),
        max_points: 5_999,
        max_series: 1,
    };
    let refused = lab.samples.select(&ask).unwrap_err();
    assert_eq!(refused, QueryError::TooManyPoints { limit: 5_999 });
    let allowed = Select {
        max_points: 6_000,
        ..ask
    };
    assert!(lab.samples.select(&allowed).is_ok());
}
