//! Compaction: what it writes is what a model of a few lines says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Breaks, Columns, SeriesKey, Timestamp, counter_rate};
use proptest::prelude::*;
use segment::{
    Bucket, Compacted, Compaction, Lane, Lanes, Output, Segment, SegmentError, Span, Tier, compact,
    lanes_of,
};
use support::{Groups, Row, columns, read, row, width, write};
use wal::fs::Fs;
use wal::fs::sim::SimFs;

/// A whole hour.
const BASE: u64 = 1_700_002_800_000;
const MINUTE: u64 = 60_000;

/// Where it all happens, and what is asked.
struct Bench {
    sim: SimFs,
    fs: Arc<dyn Fs>,
    sources: Vec<Arc<Segment>>,
    range: std::ops::Range<u64>,
    gone: BTreeSet<u32>,
    previous: BTreeMap<u32, Row>,
}

impl Bench {
    fn new(sources: &[Groups], most: usize) -> Bench {
        Bench::of((Tier::Raw, Span::Fresh), sources, most)
    }

    fn of(kind: (Tier, Span), sources: &[Groups], most: usize) -> Bench {
        let sim = SimFs::default();
        let fs: Arc<dyn Fs> = Arc::new(sim.clone());
        fs.create_dir(Path::new("/seg")).unwrap();
        let mut segments = Vec::new();
        for (place, groups) in sources.iter().enumerate() {
            let path = PathBuf::from(format!("/seg/{place:08}.seg"));
            if write(&fs, &path, kind, groups, most).unwrap().is_some() {
                segments.push(Arc::new(Segment::open(&fs, &path).unwrap()));
            }
        }
        Bench {
            sim,
            fs,
            sources: segments,
            range: 0..u64::MAX,
            gone: BTreeSet::new(),
            previous: BTreeMap::new(),
        }
    }

    fn compact(&self, tiers: &[Tier], stop: &dyn Fn() -> bool) -> Result<Compacted, SegmentError> {
        let output = |tier: &Tier| Output {
            path: path_of(*tier),
            tier: *tier,
            span: Span::Day,
        };
        let previous = |group: u32| -> Option<(u64, Arc<Columns>, Vec<f64>)> {
            let row = self.previous.get(&group)?;
            Some((row.at, columns(row.columns)?, row.values.clone()))
        };
        compact(&Compaction {
            fs: Arc::clone(&self.fs),
            sources: self.sources.clone(),
            range: self.range.clone(),
            is_gone: &|group| self.gone.contains(&group),
            columns: &columns,
            previous: &previous,
            outputs: tiers.iter().map(output).collect(),
            stop,
        })
    }

    fn all(&self) -> Compacted {
        self.compact(&Tier::ALL, &|| false).unwrap()
    }

    fn open(&self, tier: Tier) -> Option<Segment> {
        let segment = Segment::open(&self.fs, &path_of(tier)).ok()?;
        segment.verify().unwrap();
        Some(segment)
    }

    fn rows(&self, tier: Tier) -> Groups {
        let segment = self.open(tier);
        segment.map_or(Groups::new(), |segment| read(&segment).unwrap())
    }
}

fn path_of(tier: Tier) -> PathBuf {
    PathBuf::from(format!("/seg/{}.tmp", tier.word()))
}

/// By group, series and bucket.
type Buckets = BTreeMap<(u32, String, u64), Bucket>;

/// Of rows of one instant the earliest source's; counters are broken at those
/// that a row of a later source was put before.
fn kept(sources: &[Groups]) -> BTreeMap<(u32, u64), Row> {
    let mut rows: BTreeMap<(u32, u64), (usize, Row)> = BTreeMap::new();
    for (source, groups) in sources.iter().enumerate() {
        for (group, of) in groups {
            for row in of {
                let place = (*group, row.at);
                rows.entry(place).or_insert_with(|| (source, row.clone()));
            }
        }
    }
    let mut before = None;
    let broken = rows.into_iter().map(|(place, (source, mut row))| {
        if before.is_some_and(|(group, before)| group == place.0 && before > source) {
            row.breaks = Breaks::All;
        }
        before = Some((place.0, source));
        (place, row)
    });
    broken.collect()
}

fn value_of(row: &Row, key: &SeriesKey) -> f64 {
    let set = columns(row.columns).unwrap();
    let place = set.series().iter().position(|own| own == key);
    place.map_or(f64::NAN, |place| row.values[place])
}

/// What one row adds to the bucket of one of its series.
fn addition(before: Option<&Row>, row: &Row, column: usize, key: &SeriesKey) -> Option<Bucket> {
    let value = row.values[column];
    let empty = Bucket::empty(0);
    if !key.kind.is_counter() {
        return (!value.is_nan()).then_some(Bucket {
            min: value,
            max: value,
            avg: value,
            last: value,
            count: 1.0,
            ..empty
        });
    }
    let before = before.filter(|_| row.breaks.spares(column))?;
    let was = value_of(before, key);
    let at = |row: &Row| Timestamp(row.at);
    let rate = counter_rate(key.kind, (at(before), was), (at(row), value))?;
    let wrapped = if value < was { 4_294_967_296.0 } else { 0.0 };
    Some(Bucket {
        increase: value - was + wrapped,
        max_rate: rate,
        count: 1.0,
        ..empty
    })
}

fn model(bench: &Bench, rows: &BTreeMap<(u32, u64), Row>, tier: Tier) -> Buckets {
    let width_ms = tier.bucket_ms().unwrap();
    let mut buckets = Buckets::new();
    let mut before: BTreeMap<u32, Row> = bench.previous.clone();
    for ((group, at), row) in rows {
        let known = before.get(group).cloned();
        if *at >= bench.range.end || bench.gone.contains(group) {
            continue;
        }
        if *at >= bench.range.start {
            let set = columns(row.columns).unwrap();
            for (column, key) in set.series().iter().enumerate() {
                let Some(more) = addition(known.as_ref(), row, column, key) else {
                    continue;
                };
                let bucket = at - at % width_ms;
                let place = (*group, key.metric.to_string(), bucket);
                let whole = buckets.entry(place).or_insert(Bucket::empty(bucket));
                *whole = whole.merge(more);
            }
        }
        if known.is_none_or(|known| known.at < *at) {
            before.insert(*group, row.clone());
        }
    }
    buckets
}

fn buckets_in(groups: &Groups) -> Buckets {
    let mut buckets = Buckets::new();
    for (group, rows) in groups {
        for row in rows {
            let set = columns(row.columns).unwrap();
            let lanes = Lanes::new(set.series());
            assert_eq!(row.values.len(), lanes.width());
            for (column, key) in set.series().iter().enumerate() {
                let mut part = Bucket::empty(row.at);
                for lane in lanes_of(key.kind) {
                    part.set(*lane, row.values[lanes.place(column, *lane).unwrap()]);
                }
                if part.count.is_nan() {
                    continue;
                }
                let place = (*group, key.metric.to_string(), row.at);
                let whole = buckets.entry(place).or_insert(Bucket::empty(row.at));
                *whole = whole.merge(part);
            }
        }
    }
    buckets
}

const LANES: [Lane; 7] = [
    Lane::Increase,
    Lane::MaxRate,
    Lane::Min,
    Lane::Max,
    Lane::Avg,
    Lane::Last,
    Lane::Count,
];

/// Sums may be added up in another order, and quotients have six digits.
fn assert_same(made: &Buckets, expected: &Buckets) {
    let places = |buckets: &Buckets| buckets.keys().cloned().collect::<Vec<_>>();
    assert_eq!(places(made), places(expected));
    for (place, bucket) in made {
        for lane in LANES {
            let (a, b) = (bucket.lane(lane), expected[place].lane(lane));
            // parts of a bucket were rounded each for itself
            let slack = match lane {
                Lane::Avg => 1e-5 * bucket.min.abs().max(bucket.max.abs()),
                Lane::MaxRate => 1e-5 * b,
                _ => 1e-12 * b.abs(),
            };
            let same = (a - b).abs() <= slack || a.is_nan() && b.is_nan();
            assert!(same, "{place:?} {lane:?}: {a} instead of {b}");
        }
    }
}

fn check(bench: &Bench, sources: &[Groups]) {
    let made = bench.all();
    assert_eq!(made.damaged, []);
    let rows = kept(sources);
    let mut expected = Groups::new();
    for ((group, at), row) in &rows {
        if bench.range.contains(at) && !bench.gone.contains(group) {
            expected.entry(*group).or_default().push(row.clone());
        }
    }
    assert_eq!(bench.rows(Tier::Raw), expected);
    for (tier, summary) in Tier::ALL.into_iter().zip(&made.outputs) {
        let segment = bench.open(tier);
        assert_eq!(summary.as_ref(), segment.as_ref().map(Segment::summary));
    }
    for tier in [Tier::Quarter, Tier::Hour] {
        let buckets = buckets_in(&bench.rows(tier));
        assert_same(&buckets, &model(bench, &rows, tier));
    }
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (0u32..5_000).prop_map(f64::from),
        3 => (4_294_960_000u32..=u32::MAX).prop_map(f64::from),
        2 => (-9_000i32..9_000).prop_map(|value| f64::from(value) / 8.0),
        2 => Just(f64::NAN),
    ]
}

fn breaks(width: usize) -> impl Strategy<Value = Breaks> {
    let broken = proptest::sample::subsequence((0..width).collect::<Vec<_>>(), 1..=width);
    let numbers = |broken: Vec<usize>| broken.iter().map(|b| u32::try_from(*b).unwrap()).collect();
    prop_oneof![
        9 => Just(Breaks::None),
        1 => Just(Breaks::All),
        1 => broken.prop_map(move |broken| Breaks::Columns(numbers(broken))),
    ]
}

/// Rows of one group: few different times, so that sources meet at some.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    let at = (0u64..200, 0u64..3);
    let row = (at, prop_oneof![6 => Just(1u32), 2 => Just(2), 1 => Just(3)]).prop_flat_map(
        |((minute, ms), number)| {
            let values = proptest::collection::vec(value(), width(number));
            (values, breaks(width(number))).prop_map(move |(values, breaks)| Row {
                at: BASE + minute * MINUTE + ms * 300,
                columns: number,
                values,
                breaks,
            })
        },
    );
    proptest::collection::vec(row, 1..60).prop_map(|mut rows| {
        rows.sort_by_key(|row| row.at);
        rows.dedup_by_key(|row| row.at);
        rows
    })
}

fn groups() -> impl Strategy<Value = Groups> {
    proptest::collection::btree_map(1u32..5, rows(), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..Default::default() })]

    #[test]
    fn compaction_is_what_the_model_says(
        sources in proptest::collection::vec(groups(), 1..4),
        most in 1usize..80,
        start in 0u64..60,
        end in 100u64..210,
        gone in proptest::collection::btree_set(1u32..5, 0..2),
        previous in proptest::option::of(rows()),
    ) {
        let mut bench = Bench::new(&sources, most);
        bench.range = BASE + start * MINUTE..BASE + end * MINUTE;
        bench.gone = gone;
        if let Some(mut row) = previous.and_then(|mut rows| rows.pop()) {
            row.at = BASE - 7;
            bench.previous.insert(1, row);
        }
        check(&bench, &sources);
    }

    #[test]
    fn roll_ups_that_are_compacted_again_say_the_same(
        sources in proptest::collection::vec(groups(), 2..4),
        most in 1usize..80,
    ) {
        let mut parts = Vec::new();
        for groups in &sources {
            let bench = Bench::new(std::slice::from_ref(groups), most);
            bench.all();
            parts.push(bench.rows(Tier::Quarter));
        }
        let bench = Bench::of((Tier::Quarter, Span::Day), &parts, most);
        let made = bench.compact(&[Tier::Quarter], &|| false).unwrap();
        prop_assert_eq!(made.damaged, []);
        let mut first: BTreeMap<(u32, u64), usize> = BTreeMap::new();
        let mut expected = Buckets::new();
        for (source, groups) in parts.iter().enumerate() {
            let mut left = groups.clone();
            for (group, rows) in &mut left {
                rows.retain(|row| *first.entry((*group, row.at)).or_insert(source) == source);
            }
            expected.extend(buckets_in(&left));
        }
        assert_same(&buckets_in(&bench.rows(Tier::Quarter)), &expected);
    }
}

/// A group's rows every ten seconds, `count` of them.
fn steady(from: u64, count: u32, number: u32) -> Vec<Row> {
    let steady = |place: u32| {
        let values: Vec<f64> = (1..=width(number))
            .map(|column| f64::from(place) * column as f64)
            .collect();
        row(from + u64::from(place) * 10_000, number, &values)
    };
    (0..count).map(steady).collect()
}

#[test]
fn hours_become_one_block_a_group_and_a_day_of_seconds_some() {
    let hours: Vec<Groups> = (0..24)
        .map(|hour| Groups::from([(1, steady(BASE + hour * 3_600_000, 360, 1))]))
        .collect();
    let bench = Bench::new(&hours, 400);
    check(&bench, &hours);
    let rows = |tier| -> Vec<u32> {
        let segment = bench.open(tier).unwrap();
        segment.entries().iter().map(|entry| entry.rows).collect()
    };
    assert_eq!(rows(Tier::Raw), [720; 12]);
    assert_eq!(rows(Tier::Quarter), [96]);
    assert_eq!(rows(Tier::Hour), [24]);
}

#[test]
fn a_long_block_is_cut_in_mid_bucket_and_its_buckets_stay_whole() {
    let sources = [Groups::from([(1, steady(BASE, 10_001, 1))])];
    let bench = Bench::new(&sources, 20_000);
    check(&bench, &sources);
    let segment = bench.open(Tier::Raw).unwrap();
    let rows: Vec<u32> = segment.entries().iter().map(|entry| entry.rows).collect();
    assert_eq!(rows.len(), 14);
    assert!(rows.iter().all(|rows| *rows <= 720), "{rows:?}");
    let tops = bench.rows(Tier::Hour)[&1]
        .windows(2)
        .all(|pair| pair[0].at < pair[1].at);
    assert!(tops, "a bucket was cut");
}

#[test]
fn days_of_roll_ups_become_one_block_a_group() {
    let lanes = Lanes::new(columns(1).unwrap().series()).width();
    let day = |day: u64| -> Groups {
        let bucket = |quarter: u64| {
            let at = BASE + (day * 96 + quarter) * 15 * MINUTE;
            row(at, 1, &vec![quarter as f64; lanes])
        };
        Groups::from([(5, (0..96).map(bucket).collect())])
    };
    let days: Vec<Groups> = (0..30).map(day).collect();
    let bench = Bench::of((Tier::Quarter, Span::Day), &days, 200);
    let made = bench.compact(&[Tier::Quarter], &|| false).unwrap();
    let segment = bench.open(Tier::Quarter).unwrap();
    assert_eq!(segment.entries().len(), 1);
    assert_eq!(made.outputs[0].as_ref().unwrap().rows, 30 * 96);
    let all: Vec<Row> = days.iter().flat_map(|day| day[&5].clone()).collect();
    assert_eq!(read(&segment).unwrap()[&5], all);
}

#[test]
fn two_parts_of_a_bucket_in_one_source_become_one_row() {
    let early = row(BASE, 2, &[1.0, 3.0, 2.0, 3.0, 2.0, 10.0, 1.0, 2.0]);
    let late = row(BASE, 2, &[0.0, 5.0, 4.0, 4.0, 1.0, 5.0, 2.0, 1.0]);
    let absent = row(BASE + 15 * MINUTE, 2, &[f64::NAN; 8]);
    let groups = Groups::from([(1, vec![early, late, absent.clone()])]);
    let bench = Bench::of((Tier::Quarter, Span::Day), &[groups], 10);
    assert_eq!(bench.sources[0].entries().len(), 2);
    bench.compact(&[Tier::Quarter], &|| false).unwrap();
    let whole = row(BASE, 2, &[0.0, 5.0, 2.66667, 4.0, 3.0, 15.0, 2.0, 3.0]);
    assert_eq!(bench.rows(Tier::Quarter)[&1], [whole, absent]);
}

#[test]
fn without_rows_there_is_no_file() {
    let sources = [Groups::from([(1, steady(BASE, 5, 1))])];
    let mut bench = Bench::new(&sources, 10);
    bench.gone.insert(1);
    assert_eq!(bench.all().outputs, [None, None, None]);
    assert_eq!(bench.sim.names(Path::new("/seg")), ["00000000.seg"]);
    bench.sources.clear();
    assert_eq!(bench.all().outputs, [None, None, None]);
}

#[test]
fn a_stop_leaves_nothing_behind() {
    let groups = Groups::from([(1, steady(BASE, 5, 1)), (2, steady(BASE, 5, 1))]);
    let bench = Bench::new(&[groups], 10);
    let asked = std::cell::Cell::new(0);
    let stop = || asked.replace(asked.get() + 1) == 1;
    let made = bench.compact(&Tier::ALL, &stop).unwrap();
    assert!(made.stopped);
    assert_eq!(made.outputs, [None, None, None]);
    assert_eq!(bench.sim.names(Path::new("/seg")), ["00000000.seg"]);
}

#[test]
fn a_damaged_block_is_left_out_and_told() {
    let sources = [
        Groups::from([(1, steady(BASE, 20, 2)), (2, steady(BASE, 20, 1))]),
        Groups::from([(1, steady(BASE + 200_000, 20, 2))]),
        Groups::from([(1, steady(BASE + 400_000, 20, 2))]),
    ];
    let bench = Bench::new(&sources, 50);
    let entry = bench.sources[1].entries()[0];
    bench
        .sim
        .flip(Path::new("/seg/00000001.seg"), entry.offset + 9, 3);
    let made = bench.all();
    let [(path, group, from, until, what)] = &made.damaged[..] else {
        panic!("{:?}", made.damaged);
    };
    assert_eq!(path, Path::new("/seg/00000001.seg"));
    assert_eq!((*group, *from, *until), (1, entry.from, entry.until));
    assert!(what.contains("checksum"), "{what}");
    let mut expected = sources[0].clone();
    let mut behind = sources[2][&1].clone();
    behind[0].breaks = Breaks::All;
    expected.get_mut(&1).unwrap().extend(behind);
    assert_eq!(bench.rows(Tier::Raw), expected);
    let buckets = buckets_in(&bench.rows(Tier::Hour));
    let counted = buckets[&(1, "rises".to_owned(), BASE)];
    assert_eq!(counted.count, 38.0, "no step leads over what was lost");
}

#[test]
fn a_source_that_cannot_be_read_is_told_and_the_others_are_compacted() {
    let groups = Groups::from([(1, steady(BASE, 20, 1))]);
    let bench = Bench::new(&[groups.clone(), groups.clone()], 50);
    bench.sim.truncate(Path::new("/seg/00000000.seg"), 30);
    let made = bench.all();
    assert_eq!(made.damaged.len(), 1);
    assert!(
        made.damaged[0].4.contains("cannot read"),
        "{:?}",
        made.damaged
    );
    let mut rows = bench.rows(Tier::Raw);
    assert_eq!(rows.remove(&1).unwrap().len(), 20);
}

#[test]
fn columns_that_nobody_knows_are_damage() {
    let bench = Bench::new(&[Groups::from([(1, steady(BASE, 20, 1))])], 50);
    let unknown = Compaction {
        fs: Arc::clone(&bench.fs),
        sources: bench.sources.clone(),
        range: 0..u64::MAX,
        is_gone: &|_| false,
        columns: &|_| None,
        previous: &|_| None,
        outputs: Vec::new(),
        stop: &|| false,
    };
    let made = compact(&unknown).unwrap();
    assert_eq!(made.damaged[0].4, "columns 1 are not known");
}

#[test]
fn an_output_that_fails_is_an_error_and_leaves_nothing_behind() {
    let groups = Groups::from([(1, steady(BASE, 50, 1))]);
    let operations = {
        let bench = Bench::new(std::slice::from_ref(&groups), 50);
        let before = bench.sim.operations();
        bench.all();
        bench.sim.operations() - before
    };
    assert_eq!(operations, 9, "three files: create, write, sync");
    for operation in 1..=operations {
        let bench = Bench::new(std::slice::from_ref(&groups), 50);
        bench.sim.fail_once_in(operation, ErrorKind::StorageFull);
        let error = bench.compact(&Tier::ALL, &|| false).unwrap_err();
        assert!(matches!(error, SegmentError::Io { .. }), "{error:?}");
        assert_eq!(bench.sim.names(Path::new("/seg")), ["00000000.seg"]);
    }
}

#[test]
fn a_file_that_was_there_before_stays() {
    let bench = Bench::new(&[Groups::from([(1, steady(BASE, 50, 1))])], 50);
    bench.fs.create(&path_of(Tier::Hour)).unwrap();
    let error = bench.compact(&Tier::ALL, &|| false).unwrap_err();
    assert!(error.to_string().contains("/seg/1h.tmp"), "{error}");
    let names = bench.sim.names(Path::new("/seg"));
    assert_eq!(names, ["00000000.seg", "1h.tmp"]);
}
