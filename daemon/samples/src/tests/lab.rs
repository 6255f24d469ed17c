//! A store on a simulated disk, and short words for what tests do with it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{Breaks, Check, Columns, DeviceId, GroupKey, Labels, MetricKind, SeriesKey, Timestamp};
use wal::fs::sim::SimFs;

use crate::catalog::{Catalog, CatalogChange, CatalogError, CatalogState};
use crate::engine::{Append, Appended, Keep, Options, Samples};
use crate::lock::lock;
use crate::query::{Select, Selected};
use series::Selector;

/// 2026-01-01T00:00:00Z.
pub(crate) const START: u64 = 1_767_225_600_000;
pub(crate) const MINUTE: u64 = 60_000;
pub(crate) const HOUR: u64 = 60 * MINUTE;
pub(crate) const DAY: u64 = 24 * HOUR;

/// A catalog in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryCatalog {
    state: Mutex<CatalogState>,
    /// What the next commits answer.
    faults: Mutex<Vec<Fault>>,
    pub(crate) disk: Mutex<Option<SimFs>>,
    pub(crate) commits: AtomicU64,
}

/// How a commit fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It did not happen.
    Refuses,
    /// It happened, but says that it did not.
    Lies,
}

impl MemoryCatalog {
    pub(crate) fn state(&self) -> CatalogState {
        lock(&self.state).clone()
    }

    pub(crate) fn of(state: CatalogState) -> Arc<MemoryCatalog> {
        let catalog = MemoryCatalog::default();
        *lock(&catalog.state) = state;
        Arc::new(catalog)
    }

    /// The next commits fail like this.
    pub(crate) fn fail(&self, faults: &[Fault]) {
        lock(&self.faults).extend(faults.iter().rev());
    }
}

impl Catalog for MemoryCatalog {
    fn commit(&self, change: &CatalogChange) -> Result<(), CatalogError> {
        let error = CatalogError {
            why: "a test says so".into(),
            full: false,
        };
        let is_dead = lock(&self.disk).as_ref().is_some_and(SimFs::is_dead);
        let fault = lock(&self.faults).pop();
        if is_dead || fault == Some(Fault::Refuses) {
            return Err(error);
        }
        self.commits.fetch_add(1, Ordering::Relaxed);
        apply(&mut lock(&self.state), change);
        match fault {
            Some(_) => Err(error),
            None => Ok(()),
        }
    }
}

fn apply(state: &mut CatalogState, change: &CatalogChange) {
    for (number, record) in &change.groups {
        state.groups.retain(|(other, _)| other != number);
        state.groups.push((*number, record.clone()));
    }
    state
        .groups
        .retain(|(number, _)| !change.forget_groups.contains(number));
    for (number, columns) in &change.columns {
        state.columns.retain(|(other, _)| other != number);
        state.columns.push((*number, Arc::clone(columns)));
    }
    state
        .columns
        .retain(|(number, _)| !change.forget_columns.contains(number));
    for row in &change.segments {
        state.segments.retain(|other| other.name != row.name);
        state.segments.push(row.clone());
    }
    state
        .segments
        .retain(|row| !change.forget_segments.contains(&row.name));
    state.checkpoint = change.checkpoint.unwrap_or(state.checkpoint);
    state.next_segment = change.next_segment.unwrap_or(state.next_segment);
}

pub(crate) fn options() -> Options {
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    Options {
        dir: PathBuf::from("/samples"),
        keep: Keep {
            raw: days(30),
            quarter: days(180),
            hour: days(5 * 365),
            budget: 0,
        },
        cut_every: Duration::from_secs(3600),
        sync_every: Duration::from_millis(200),
        open_bytes: 1 << 20,
        backlog_bytes: 1 << 20,
        series_per_device: 1000,
    }
}

/// A store that can be closed, crashed and opened again.
pub(crate) struct Lab {
    pub(crate) fs: SimFs,
    pub(crate) catalog: Arc<MemoryCatalog>,
    pub(crate) options: Options,
    pub(crate) samples: Samples,
    /// Milliseconds that a clock that nobody sets shows.
    pub(crate) monotonic: Arc<AtomicU64>,
    pub(crate) now: u64,
}

impl Lab {
    pub(crate) fn new() -> Lab {
        Lab::with(options())
    }

    pub(crate) fn with(options: Options) -> Lab {
        let catalog = MemoryCatalog::of(CatalogState::default());
        Lab::on(SimFs::default(), catalog, options, START)
    }

    pub(crate) fn on(fs: SimFs, catalog: Arc<MemoryCatalog>, options: Options, now: u64) -> Lab {
        *lock(&catalog.disk) = Some(fs.clone());
        let monotonic = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&monotonic);
        let samples = Samples::open_with(
            Arc::new(fs.clone()),
            options.clone(),
            catalog.state(),
            Arc::clone(&catalog) as Arc<dyn Catalog>,
            Timestamp(now),
            Box::new(move || Duration::from_millis(clock.load(Ordering::Relaxed))),
        );
        Lab {
            samples: samples.unwrap(),
            fs,
            catalog,
            options,
            monotonic,
            now,
        }
    }

    /// The process dies and starts again; what was written is there.
    pub(crate) fn reopened(self) -> Lab {
        let fs = self.fs.after_kill();
        let state = self.catalog.state();
        Lab::on(fs, MemoryCatalog::of(state), self.options, self.now)
    }

    /// The power fails, and the process starts again.
    pub(crate) fn after_power_cut(self, seed: u64) -> Lab {
        let fs = self.fs.after_power_cut(seed);
        let state = self.catalog.state();
        Lab::on(fs, MemoryCatalog::of(state), self.options, self.now)
    }

    pub(crate) fn passes(&mut self, ms: u64) {
        self.now += ms;
        self.monotonic.fetch_add(ms, Ordering::Relaxed);
    }

    /// Time passes, and what is due is done.
    pub(crate) fn lives(&mut self, ms: u64) {
        self.passes(ms);
        self.maintains();
    }

    pub(crate) fn maintains(&self) {
        for _ in 0..1000 {
            if !self.samples.maintain(Timestamp(self.now)).unwrap() {
                return;
            }
        }
        panic!("there is always something to do");
    }

    pub(crate) fn append(&self, row: &Append<'_>) -> Appended {
        self.samples
            .append(std::slice::from_ref(row), Timestamp(self.now))
    }

    /// Keeps a row of one device, durably.
    pub(crate) fn keeps(&self, device: u64, at: u64, columns: &Arc<Columns>, values: &[f64]) {
        self.keeps_broken(device, at, columns, values, &Breaks::None);
    }

    pub(crate) fn keeps_broken(
        &self,
        device: u64,
        at: u64,
        columns: &Arc<Columns>,
        values: &[f64],
        breaks: &Breaks,
    ) {
        let row = Append {
            group: group(device),
            at: Timestamp(at),
            columns,
            values,
            breaks,
            note: None,
        };
        let appended = self.append(&row);
        assert_eq!(appended.refused, []);
        appended.ticket.durable().unwrap();
    }

    pub(crate) fn selects(&self, selector: &str, from: u64, until: u64) -> Selected {
        let selector: Selector = selector.parse().unwrap();
        let ask = Select {
            selector: &selector,
            groups: &|_| true,
            from: Timestamp(from),
            until: Timestamp(until),
            max_points: 1_000_000,
            max_series: 10_000,
        };
        self.samples.select(&ask).unwrap()
    }

    /// Times and values of the only series that is selected.
    pub(crate) fn points(&self, selector: &str) -> Vec<(u64, f64)> {
        let selected = self.selects(selector, 0, u64::MAX);
        assert_eq!(selected.missing, []);
        let points = selected.series.iter().flat_map(|series| &series.points);
        points.map(|point| (point.at.0, point.value)).collect()
    }

    pub(crate) fn segments(&self) -> Vec<String> {
        self.fs.names(Path::new("/samples/seg"))
    }
}

pub(crate) fn group(device: u64) -> GroupKey {
    GroupKey {
        device: DeviceId(device),
        check: Check::Snmp,
    }
}

pub(crate) fn key(metric: &str, kind: MetricKind) -> SeriesKey {
    SeriesKey {
        metric: Arc::from(metric),
        labels: Arc::new(Labels::default()),
        kind,
    }
}

/// Columns: names that begin with c are counters.
pub(crate) fn columns(names: &[&str]) -> Arc<Columns> {
    let kind = |name: &str| match name.starts_with('c') {
        true => MetricKind::Counter64,
        false => MetricKind::Gauge,
    };
    let keys = names.iter().map(|name| key(name, kind(name)));
    Arc::new(Columns::new(keys.collect()))
}

/// Puts a file in the place of what was there.
pub(crate) fn write(fs: &SimFs, path: &Path, bytes: &[u8]) {
    use wal::fs::Fs;
    fs.remove(path).unwrap();
    let mut file = fs.create(path).unwrap();
    file.append(bytes).unwrap();
    file.sync().unwrap();
    fs.sync_dir(path.parent().unwrap()).unwrap();
}
