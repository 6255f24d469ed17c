//! Plugins' values in a poll's row.
//!
//! They stand behind the built-in columns, which keep their places, and with
//! that their breaks. A device whose plugins give the same series as at the poll
//! before shares its columns, and nothing is built for that.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use model::{Columns, Failure, FailureKind, Labels, PollReport, PollRow, Reading, SeriesKey};

/// Columns of plugins in one row: a quarter of what the store usually keeps of
/// one device (`series_per_device`), so that the built-in ones have their room.
pub const MAX_PLUGIN_COLUMNS: usize = 5_000;

/// How the poll itself went: no plugin says so, even of a device that does not.
/// Whether counters go on is read from these.
const RESERVED: [&str; 4] = [
    "snmp_up",
    "snmp_poll_seconds",
    "snmp_poll_requests",
    "sysUpTime",
];

/// What one plugin gave for a poll.
#[derive(Clone, Debug, Default)]
pub struct PluginPart {
    /// Its values. NaN: not measured.
    pub series: Vec<(SeriesKey, f64)>,
    /// Whether it failed this time, or a part of it did: those of its columns in
    /// the row before that are not in `series` stay, without a value. Without
    /// that they end.
    pub keep: bool,
    /// The names of its metrics, which tell its columns in the row before.
    pub metrics: BTreeSet<Arc<str>>,
}

/// A report with what plugins gave in it.
#[derive(Clone, Debug)]
pub struct WithPlugins {
    /// The report.
    pub report: PollReport,
    /// Series that were there already, of a plugin before or of the poll itself,
    /// or that are the poll's alone: the place of the plugin whose value was left
    /// out, and the series.
    pub duplicates: Vec<(usize, SeriesKey)>,
    /// Series above [`MAX_PLUGIN_COLUMNS`]: left out, as the report's outcome
    /// says.
    pub left_out: usize,
}

/// Puts what plugins gave behind the values of `report`, in the order of
/// `parts`: the first value of a series is the one that counts, and a series
/// without a value takes one from whoever has it.
///
/// `previous` is the group's newest row. A report without a row, or of a device
/// that did not answer, stays as it is.
#[must_use]
pub fn with_plugins(
    report: PollReport,
    parts: &[PluginPart],
    previous: Option<&Reading>,
) -> WithPlugins {
    let mut done = WithPlugins {
        report,
        duplicates: Vec::new(),
        left_out: 0,
    };
    if done.report.outcome.failure.is_some() || parts.is_empty() {
        return done;
    }
    let Some(row) = &mut done.report.row else {
        return done;
    };
    let previous = previous.map(|reading| &reading.row.columns);
    if let Some(columns) = previous
        && let Some(values) = as_before(row, parts, columns)
    {
        row.columns = Arc::clone(columns);
        row.values = values;
        return done;
    }
    let own = Arc::clone(&row.columns);
    let mut merge = Merge::new(&own, &row.values, previous.map(|columns| &**columns));
    for (place, part) in parts.iter().enumerate() {
        merge.add(place, part);
    }
    for part in parts.iter().filter(|part| part.keep) {
        merge.keep(part);
    }
    merge.order();
    row.columns = merge.columns(&own, previous);
    row.values = merge.values();
    done.duplicates = merge.duplicates;
    done.left_out = merge.left_out;
    if done.left_out > 0 {
        let trouble = ("plugins".to_owned(), too_many(done.left_out));
        done.report.outcome.partial.push(trouble);
    }
    done
}

fn too_many(left_out: usize) -> Failure {
    Failure {
        kind: FailureKind::Protocol,
        text: format!(
            "plugins read more than {MAX_PLUGIN_COLUMNS} series of this device: {left_out} are left out"
        ),
    }
}

/// All values, if `row` and `parts` have just the series of `columns`, in that
/// order.
fn as_before(row: &PollRow, parts: &[PluginPart], columns: &Columns) -> Option<Arc<[f64]>> {
    let own = row.columns.series();
    let given: usize = parts.iter().map(|part| part.series.len()).sum();
    let all = columns.series();
    if all.len() != own.len() + given || parts.iter().any(|part| part.keep) {
        return None;
    }
    let given = || parts.iter().flat_map(|part| &part.series);
    let (head, tail) = all.split_at(own.len());
    let is_same = tail.iter().eq(given().map(|(key, _)| key)) && head == own;
    is_same.then(|| {
        let own = row.values.iter().copied();
        own.chain(given().map(|(_, value)| *value)).collect()
    })
}

/// A series is known by its metric's name and its labels; one of another kind is
/// the same.
type Name<'a> = (&'a str, &'a Labels);

fn name(key: &SeriesKey) -> Name<'_> {
    (&key.metric, &key.labels)
}

struct Merge<'a> {
    /// The built-in values, and what of them plugins filled in.
    own: Vec<f64>,
    built_in: &'a [SeriesKey],
    added: Vec<(&'a SeriesKey, f64)>,
    /// Where each series stands: among the built-in ones, then the others.
    places: HashMap<Name<'a>, usize>,
    previous: Option<&'a Columns>,
    duplicates: Vec<(usize, SeriesKey)>,
    left_out: usize,
}

impl<'a> Merge<'a> {
    fn new(columns: &'a Columns, values: &[f64], previous: Option<&'a Columns>) -> Merge<'a> {
        let built_in = columns.series();
        let places = built_in.iter().enumerate();
        Merge {
            own: values.to_vec(),
            places: places.map(|(place, key)| (name(key), place)).collect(),
            built_in,
            added: Vec::new(),
            previous,
            duplicates: Vec::new(),
            left_out: 0,
        }
    }

    fn add(&mut self, part: usize, given: &'a PluginPart) {
        for (key, value) in &given.series {
            match self.places.get(&name(key)).copied() {
                None if !RESERVED.contains(&&*key.metric) => self.push(key, *value),
                Some(place) if self.fill(place, key, *value) => {}
                None | Some(_) => self.duplicates.push((part, key.clone())),
            }
        }
    }

    /// What the plugin had in the row before, without a value.
    fn keep(&mut self, given: &'a PluginPart) {
        let before = self.previous.into_iter().flat_map(Columns::series);
        for key in before.filter(|key| given.metrics.contains(&key.metric)) {
            if !self.places.contains_key(&name(key)) {
                self.push(key, f64::NAN);
            }
        }
    }

    fn push(&mut self, key: &'a SeriesKey, value: f64) {
        if self.added.len() >= MAX_PLUGIN_COLUMNS {
            self.left_out += 1;
            return;
        }
        self.places
            .insert(name(key), self.own.len() + self.added.len());
        self.added.push((key, value));
    }

    /// Whether the series in `place` had no value, and has this one now.
    fn fill(&mut self, place: usize, key: &SeriesKey, value: f64) -> bool {
        let (known, cell) = match place.checked_sub(self.own.len()) {
            None => (&self.built_in[place], &mut self.own[place]),
            Some(place) => {
                let (known, cell) = &mut self.added[place];
                (*known, cell)
            }
        };
        let has_room = cell.is_nan() && known.kind == key.kind;
        if has_room {
            *cell = value;
        }
        has_room
    }

    /// The added ones in the order of the row before, then those that are new: a
    /// plugin that gives its rows in another order each time has the same
    /// columns all the same.
    fn order(&mut self) {
        let Some(previous) = self.previous else {
            return;
        };
        let before = previous.series().iter().enumerate();
        let before: HashMap<Name<'_>, usize> =
            before.map(|(place, key)| (name(key), place)).collect();
        let place = |key: &SeriesKey| before.get(&name(key)).copied().unwrap_or(usize::MAX);
        self.added.sort_by_key(|(key, _)| place(key));
    }

    fn series(&self) -> impl Iterator<Item = &SeriesKey> {
        self.built_in
            .iter()
            .chain(self.added.iter().map(|(key, _)| *key))
    }

    /// Those of the poll itself or of the row before, if they are the same.
    fn columns(&self, own: &Arc<Columns>, previous: Option<&Arc<Columns>>) -> Arc<Columns> {
        match previous {
            Some(columns) if columns.series().iter().eq(self.series()) => Arc::clone(columns),
            _ if self.added.is_empty() => Arc::clone(own),
            _ => Arc::new(Columns::new(self.series().cloned().collect())),
        }
    }

    fn values(&self) -> Arc<[f64]> {
        let added = self.added.iter().map(|(_, value)| *value);
        self.own.iter().copied().chain(added).collect()
    }
}
