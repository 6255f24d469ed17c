//! Thousands of lives of a store, each ended by a power cut at any operation,
//! with disks and catalogs that fail. A model knows every row that was
//! acknowledged: none is lost, none is invented, none is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use model::{Breaks, Columns, Timestamp};
use segment::Tier;
use wal::fs::sim::SimFs;

use super::lab::{DAY, Fault, HOUR, Lab, MINUTE, MemoryCatalog, START, columns, group, options};
use crate::catalog::CatalogState;
use crate::engine::{Append, Options};
use crate::query::{Aggregate, Rollup, Source};

/// How many seeds `cargo test` tries.
const SEEDS: u64 = 1500;

struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % n
    }

    fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What a row was, and whether somebody was told that it is safe.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    values: Vec<(String, u64)>,
    breaks: bool,
    is_acknowledged: bool,
}

/// Every row that was appended, by device and time.
#[derive(Clone, Debug, Default)]
struct Model {
    rows: BTreeMap<(u64, u64), Known>,
    /// Devices whose data was deleted, but perhaps not.
    in_doubt: BTreeSet<u64>,
}

struct Life {
    seed: u64,
    chance: Chance,
    model: Model,
    lab: Lab,
    sets: Vec<Arc<Columns>>,
}

impl Life {
    fn new(seed: u64) -> Life {
        Life {
            seed,
            chance: Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            model: Model::default(),
            lab: Lab::with(small()),
            sets: vec![
                columns(&["a", "c"]),
                columns(&["c", "a", "b"]),
                columns(&["c"]),
            ],
        }
    }

    /// Does things until the power is gone or enough was done.
    fn goes_on(&mut self, doings: u64) {
        for _ in 0..doings {
            if self.lab.fs.is_dead() {
                return;
            }
            match self.chance.below(20) {
                0..12 => self.appends(),
                12..15 => self.passes(),
                15 => drop(self.lab.samples.cut()),
                16 => self.forgets(),
                17 => self.resumes(),
                18 => self.snapshots(),
                _ => self.fails(),
            }
        }
    }

    fn appends(&mut self) {
        let mut rows = Vec::new();
        for _ in 0..=self.chance.below(3) {
            let device = self.chance.below(3);
            let late = if self.chance.once_in(8) {
                self.chance.below(2 * HOUR)
            } else {
                0
            };
            let at = self.lab.now - late;
            let set = Arc::clone(&self.sets[usize::try_from(self.chance.below(3)).unwrap()]);
            let values: Vec<f64> = set.series().iter().map(|_| self.value()).collect();
            let breaks = if self.chance.once_in(5) {
                Breaks::All
            } else {
                Breaks::None
            };
            rows.push((device, at, set, values, breaks));
            self.lab.passes(1 + self.chance.below(20) * 1000);
        }
        let batch: Vec<Append<'_>> = rows
            .iter()
            .map(|(device, at, set, values, breaks)| Append {
                group: group(*device),
                at: Timestamp(*at),
                columns: set,
                values,
                breaks,
                note: None,
            })
            .collect();
        let appended = self.lab.samples.append(&batch, Timestamp(self.lab.now));
        let is_acknowledged = self.chance.once_in(2) && appended.ticket.durable().is_ok();
        let refused: BTreeSet<usize> = appended.refused.iter().map(|(place, _)| *place).collect();
        for (place, (device, at, set, values, breaks)) in rows.iter().enumerate() {
            if refused.contains(&place) {
                continue;
            }
            let names = set.series().iter().map(|key| key.metric.to_string());
            let values = names.zip(values.iter().map(|value| value.to_bits()));
            let row = Known {
                values: values
                    .filter(|(_, bits)| !f64::from_bits(*bits).is_nan())
                    .collect(),
                breaks: *breaks == Breaks::All,
                is_acknowledged,
            };
            // of two of one instant the first stays, wherever it lies
            self.model.rows.entry((*device, *at)).or_insert(row);
        }
    }

    fn value(&mut self) -> f64 {
        match self.chance.below(6) {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => 0.1 * self.chance.below(1000) as f64,
            _ => self.chance.below(1 << 40) as f64,
        }
    }

    fn passes(&mut self) {
        let ms = [MINUTE, HOUR, 5 * HOUR, DAY][usize::try_from(self.chance.below(4)).unwrap()];
        self.lab.passes(ms);
        for _ in 0..4 {
            let _ = self.lab.samples.maintain(Timestamp(self.lab.now));
        }
    }

    fn forgets(&mut self) {
        if !self.chance.once_in(4) {
            return;
        }
        let device = self.chance.below(3);
        match self.lab.samples.forget(&|key| key.device.0 == device) {
            Ok(_) => {
                self.model.rows.retain(|(other, _), _| *other != device);
                self.model.in_doubt.remove(&device);
            }
            Err(_) => {
                self.model.in_doubt.insert(device);
            }
        }
    }

    fn resumes(&mut self) {
        self.lab.fs.fail_with(None);
        self.lab.fs.set_capacity(None);
        let _ = self.lab.samples.resume(Timestamp(self.lab.now));
    }

    fn snapshots(&mut self) {
        let name = format!("/snapshot{}", self.lab.now);
        let _ = self.lab.samples.snapshot(name.as_ref(), &mut || {});
    }

    fn fails(&mut self) {
        let soon = 1 + self.chance.below(12);
        match self.chance.below(5) {
            0 => self.lab.fs.fail_once_in(soon, io::ErrorKind::Other),
            1 => self.lab.fs.fail_with(Some(io::ErrorKind::StorageFull)),
            2 => self.lab.catalog.fail(&[Fault::Refuses]),
            3 => self.lab.catalog.fail(&[Fault::Lies]),
            _ => self.lab.catalog.fail(&[Fault::Lies, Fault::Refuses]),
        }
    }

    /// The power is cut; what is there afterwards is compared.
    fn crashes(self, forgetful: bool) -> Result<Life, String> {
        let Life {
            seed,
            chance,
            mut model,
            lab,
            sets,
        } = self;
        if !forgetful {
            lab.fs.fail_with(None);
            lab.fs.set_capacity(None);
        }
        let lab = lab.after_power_cut(seed);
        let found = read(&lab).map_err(|what| format!("seed {seed}: {what}"))?;
        compare(&model, &found).map_err(|what| format!("seed {seed}: {what}"))?;
        // what is there counts from now on; what is not never was
        model.rows.retain(|key, _| found.contains_key(key));
        model.in_doubt.clear();
        roll_ups(&lab).map_err(|what| format!("seed {seed}: {what}"))?;
        Ok(Life {
            seed,
            chance,
            model,
            lab,
            sets,
        })
    }
}

fn small() -> Options {
    Options {
        open_bytes: 2048,
        backlog_bytes: 1 << 20,
        sync_every: Duration::from_millis(5),
        ..options()
    }
}

type Found = BTreeMap<(u64, u64), (Vec<(String, u64)>, bool)>;

fn read(lab: &Lab) -> Result<Found, String> {
    let mut found = Found::new();
    let selected = lab.selects("{__name__=~\"a|b|c\"}", 0, u64::MAX);
    if let Some(missing) = selected.missing.first() {
        return Err(missing.why.clone());
    }
    for series in selected.series {
        for point in series.points {
            let row = found
                .entry((series.group.device.0, point.at.0))
                .or_default();
            row.0
                .push((series.key.metric.to_string(), point.value.to_bits()));
            row.1 |= point.broken;
        }
    }
    Ok(found)
}

fn sorted(values: &[(String, u64)]) -> Vec<(String, u64)> {
    let mut values = values.to_vec();
    values.sort();
    values
}

fn compare(model: &Model, found: &Found) -> Result<(), String> {
    for (key, row) in &model.rows {
        let is_needed = row.is_acknowledged && !row.values.is_empty();
        match found.get(key) {
            None if is_needed && !model.in_doubt.contains(&key.0) => {
                return Err(format!("the row {key:?} was acknowledged and is lost"));
            }
            None => {}
            Some((values, broken)) => {
                if sorted(values) != sorted(&row.values) {
                    return Err(format!("the row {key:?} is {values:?} and was {row:?}"));
                }
                if row.breaks && !broken {
                    return Err(format!("the row {key:?} lost its break"));
                }
            }
        }
    }
    match found.keys().find(|key| !model.rows.contains_key(key)) {
        Some(key) => Err(format!("the row {key:?} was invented")),
        None => Ok(()),
    }
}

/// Roll-ups of the tiers are those of the raw rows. (Not where raw rows came
/// late: those are compared in other tests.)
fn roll_ups(lab: &Lab) -> Result<(), String> {
    let ask = |tier| {
        let ask = Rollup {
            selector: &"{__name__=~\"a|b\"}".parse().unwrap(),
            groups: &|_| true,
            from: Timestamp(START),
            until: Timestamp(lab.now + DAY),
            step_ms: DAY,
            aggregate: Aggregate::Max,
            across: None,
            source: Source::Of(tier),
            max_points: 1_000_000,
            max_series: 1000,
        };
        lab.samples.rollup(&ask).unwrap()
    };
    let (raw, hour) = (ask(Tier::Raw), ask(Tier::Hour));
    if raw.frames.len() < hour.frames.len() {
        return Err("a roll-up of nothing".into());
    }
    for frame in &hour.frames {
        let same = raw.frames.iter().find(|other| other.of == frame.of);
        let same = same.ok_or("a roll-up of nothing")?;
        for (of_hours, of_rows) in frame.values.iter().zip(&same.values) {
            if *of_hours > *of_rows || (of_rows.is_nan() && !of_hours.is_nan()) {
                return Err(format!("{of_hours} is rolled up of {of_rows}"));
            }
        }
    }
    Ok(())
}

fn lives(seed: u64) -> Result<(), String> {
    let mut life = Life::new(seed);
    for _ in 0..3 {
        let operations = 1 + life.chance.below(150);
        life.lab.fs.crash_in(operations);
        let doings = 5 + life.chance.below(60);
        life.goes_on(doings);
        life = life.crashes(false)?;
    }
    Ok(())
}

#[test]
fn no_acknowledged_row_is_lost_and_none_is_invented_whenever_the_power_is_cut() {
    let seeds = std::env::var("SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(SEEDS);
    let first: u64 = std::env::var("SEED")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let failed: Vec<String> = std::thread::scope(|scope| {
        let halves = [0, 1].map(|half| {
            scope.spawn(move || {
                let mine = (first..first + seeds).filter(move |seed| seed % 2 == half);
                mine.filter_map(|seed| lives(seed).err())
                    .collect::<Vec<_>>()
            })
        });
        halves
            .into_iter()
            .flat_map(|half| half.join().unwrap())
            .collect()
    });
    assert!(
        failed.is_empty(),
        "{} of {seeds}: {:#?}",
        failed.len(),
        &failed[..failed.len().min(5)]
    );
}

#[test]
fn the_checker_finds_a_disk_that_forgets() {
    let is_found = |seed: &u64| {
        let mut life = Life::new(*seed);
        life.lab.fs.forget_syncs();
        life.goes_on(40);
        life.crashes(true).is_err()
    };
    assert!((0..50).any(|seed| is_found(&seed)));
}

#[test]
fn a_catalog_that_says_no_but_did_it_loses_and_doubles_nothing() {
    let one = columns(&["a"]);
    for faults in [
        &[Fault::Lies][..],
        &[Fault::Refuses],
        &[Fault::Lies, Fault::Lies],
    ] {
        for crash in [false, true] {
            let lab = Lab::new();
            lab.keeps(1, START, &one, &[1.0]);
            lab.catalog.fail(faults);
            lab.samples.cut().unwrap_err();
            assert_eq!(lab.points("a"), [(START, 1.0)]);
            lab.keeps(1, START + 1, &one, &[2.0]);
            let lab = if crash { lab.after_power_cut(1) } else { lab };
            while lab.samples.cut().is_err() {}
            assert_eq!(lab.points("a"), [(START, 1.0), (START + 1, 2.0)]);
            let lab = lab.reopened();
            assert_eq!(lab.points("a"), [(START, 1.0), (START + 1, 2.0)]);
        }
    }
}

#[test]
fn a_store_on_an_empty_disk_with_an_old_catalog_says_what_is_missing() {
    let lab = Lab::new();
    lab.keeps(1, START, &columns(&["a"]), &[1.0]);
    lab.samples.cut().unwrap();
    let state: CatalogState = lab.catalog.state();
    let lab = Lab::on(SimFs::default(), MemoryCatalog::of(state), options(), START);
    let selected = lab.selects("a", 0, u64::MAX);
    assert_eq!(selected.series, []);
    assert_eq!(selected.missing.len(), 1);
    assert_eq!(lab.samples.stats().damaged, 1);
}

#[test]
fn a_deletion_that_was_under_way_does_not_come_back_after_the_next_one() {
    let one = columns(&["a"]);
    let lab = Lab::new();
    lab.keeps(1, START, &one, &[1.0]);
    lab.samples.cut().unwrap();
    lab.catalog.fail(&[Fault::Refuses]);
    lab.samples.forget(&|_| true).unwrap_err();
    lab.keeps(1, START + 1, &one, &[2.0]);
    let lab = lab.reopened();
    assert_eq!(lab.points("a"), [(START + 1, 2.0)]);
    lab.samples.forget(&|_| true).unwrap();
    let lab = lab.reopened();
    assert_eq!(lab.points("a"), []);
}
