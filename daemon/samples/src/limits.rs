//! What is refused, and why: so that one device cannot harm the others, and
//! a clock that is wrong cannot fill years.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use model::{Columns, DeviceId, SeriesKey, Timestamp};

use crate::engine::{Append, Refused};

/// Values of a row: a roll-up has up to five lanes for each, and they have to
/// fit into one block.
pub(crate) const MAX_WIDTH: usize = codec::MAX_WIDTH / 5;

/// Labels of a series: far more than any table of a MIB has indexes and names.
pub(crate) const MAX_LABELS: usize = 64;

/// Bytes of a label's name, and of a metric's.
pub(crate) const MAX_NAME: usize = 256;

/// Bytes of a label's value: eight times what an SNMP `DisplayString` holds.
pub(crate) const MAX_VALUE: usize = 2048;

/// Rows may be this far ahead of the clock: time zones that were mistaken for
/// UTC lie within it.
pub(crate) const AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Whether a row has as many values as columns, and not too many.
pub(crate) fn check_shape(row: &Append<'_>) -> Result<(), Refused> {
    let (values, columns) = (row.values.len(), row.columns.series().len());
    if values == columns && values <= MAX_WIDTH {
        return Ok(());
    }
    Err(Refused::Shape {
        values,
        columns,
        limit: MAX_WIDTH,
    })
}

/// Whether a row's time is one that is kept.
pub(crate) fn check_time(at: Timestamp, keep: Duration, now: Timestamp) -> Result<(), Refused> {
    if at > now.plus(AHEAD) {
        return Err(Refused::TooNew { at });
    }
    if at < now.minus(keep) {
        return Err(Refused::TooOld { at });
    }
    Ok(())
}

/// Whether the series of `columns` have few enough labels, short enough.
pub(crate) fn check_labels(columns: &Columns) -> Result<(), Refused> {
    for key in columns.series() {
        if let Some(what) = too_much(key) {
            return Err(Refused::Labels { what });
        }
    }
    Ok(())
}

/// What of a series is too much.
fn too_much(key: &SeriesKey) -> Option<String> {
    let metric = shown(&key.metric);
    if key.metric.len() > MAX_NAME {
        return Some(format!(
            "the metric's name {metric} has more than {MAX_NAME} bytes"
        ));
    }
    if key.labels.iter().count() > MAX_LABELS {
        return Some(format!(
            "a series of {metric} has more than {MAX_LABELS} labels"
        ));
    }
    for (name, value) in key.labels.iter() {
        let shown = shown(name);
        if name.len() > MAX_NAME {
            return Some(format!(
                "the label {shown} of {metric} has a name of more than {MAX_NAME} bytes"
            ));
        }
        if value.len() > MAX_VALUE {
            return Some(format!(
                "the label {shown} of {metric} has more than {MAX_VALUE} bytes"
            ));
        }
    }
    None
}

/// The beginning of a text that may be long.
fn shown(text: &str) -> String {
    text.chars().take(60).collect()
}

/// New sets of columns that a device may show in a day, as many values as it
/// may begin series, times this: each set is kept in memory, catalog and log.
pub(crate) const SETS_A_DAY: usize = 20;

/// How many series each device began today.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    devices: HashMap<DeviceId, BegunToday>,
}

#[derive(Debug, Default)]
struct BegunToday {
    day: u64,
    /// Hashes of the series that were begun.
    series: HashSet<u64>,
    /// Values of a row of each set of columns that was new.
    values: usize,
}

impl Begun {
    /// Counts the series of `columns` that are not in `old`; refuses them all
    /// if they are too many.
    pub(crate) fn count(
        &mut self,
        device: DeviceId,
        old: Option<&Columns>,
        columns: &Columns,
        limit: usize,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let today = self.devices.entry(device).or_default();
        let day = now.0 / DAY_MS;
        if today.day != day {
            today.day = day;
            today.series = HashSet::new();
            today.values = 0;
        }
        let known: HashSet<u64> = old.map(hashes).unwrap_or_default();
        let is_new = |hash: &u64| !known.contains(hash) && !today.series.contains(hash);
        let new: HashSet<u64> = hashes(columns).into_iter().filter(is_new).collect();
        if today.series.len() + new.len() > limit {
            return Err(Refused::TooManySeries { device, limit });
        }
        today.series.extend(new);
        Ok(())
    }

    /// Counts a set of columns that nobody had; refuses it if those of today
    /// have too many values. To be called behind [`Begun::count`].
    pub(crate) fn count_set(
        &mut self,
        device: DeviceId,
        width: usize,
        limit: usize,
    ) -> Result<(), Refused> {
        let today = self.devices.entry(device).or_default();
        if today.values + width > limit.saturating_mul(SETS_A_DAY) {
            return Err(Refused::TooManySeries { device, limit });
        }
        today.values += width;
        Ok(())
    }

    /// Forgets what was counted before the day of `now`.
    pub(crate) fn tidy(&mut self, now: Timestamp) {
        let day = now.0 / DAY_MS;
        self.devices.retain(|_, today| today.day == day);
    }
}

fn hashes(columns: &Columns) -> HashSet<u64> {
    let hash = |key: &SeriesKey| {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        hasher.finish()
    };
    columns.series().iter().map(hash).collect()
}
