//! Roll-ups: what is kept of a bucket of time instead of its rows.
//!
//! A row of a roll-up has the bucket's first instant as its time and, for each
//! column of the raw rows, its lanes one after the other. Counters: increase
//! (reset-corrected, over the steps that end in the bucket), max_rate (per
//! second), count. Gauges and states: min, max, avg (to six significant
//! digits), last, count. A bucket without a value has no lanes measured.
//! count is how many values were measured; of a counter, how many steps were.

use model::{Breaks, MetricKind, SeriesKey};

/// What is kept of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// How much a counter rose.
    Increase,
    /// Its steepest step, per second.
    MaxRate,
    /// The least value.
    Min,
    /// The greatest.
    Max,
    /// Their mean.
    Avg,
    /// The newest.
    Last,
    /// How many.
    Count,
}

/// The lanes of a metric of this kind, in their order on the disk.
#[must_use]
pub fn lanes_of(kind: MetricKind) -> &'static [Lane] {
    match kind.is_counter() {
        true => &[Lane::Increase, Lane::MaxRate, Lane::Count],
        false => &[Lane::Min, Lane::Max, Lane::Avg, Lane::Last, Lane::Count],
    }
}

/// Where the lanes of each column stand in a row of a roll-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lanes {}

impl Lanes {
    /// Those of rows with these columns.
    #[must_use]
    pub fn new(series: &[SeriesKey]) -> Lanes {
        let _ = series;
        unimplemented!()
    }

    /// Lanes in all.
    #[must_use]
    pub fn width(&self) -> usize {
        unimplemented!()
    }

    /// The place of a lane; `None` where the column's kind has none.
    #[must_use]
    pub fn place(&self, column: usize, lane: Lane) -> Option<usize> {
        let _ = (column, lane);
        unimplemented!()
    }
}

/// What is known of one series in one bucket. NaN: not measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// The bucket's first instant.
    pub at: u64,
    /// See [`Lane`]; those of the other kind are NaN.
    pub increase: f64,
    /// See [`Lane`].
    pub max_rate: f64,
    /// See [`Lane`].
    pub min: f64,
    /// See [`Lane`].
    pub max: f64,
    /// See [`Lane`]; exact while in memory.
    pub avg: f64,
    /// See [`Lane`].
    pub last: f64,
    /// See [`Lane`].
    pub count: f64,
}

impl Bucket {
    /// Two parts of the same bucket as one; `later` has the newer values.
    #[must_use]
    pub fn merge(self, later: Bucket) -> Bucket {
        let _ = later;
        unimplemented!()
    }
}

/// The buckets of one series out of its rows, oldest first; those without a
/// value are left out. `before`: the row before the first one, if it is known
/// to be. `breaks` says whether a counter goes on *into* the row at a place.
/// The one definition of a roll-up: queries use it for what has not been
/// compacted.
pub fn buckets_of(
    kind: MetricKind,
    width_ms: u64,
    before: Option<(u64, f64)>,
    times: &[u64],
    values: &[f64],
    breaks: &dyn Fn(usize) -> bool,
    out: &mut Vec<Bucket>,
) {
    let _ = (kind, width_ms, before, times, values, breaks, out);
    let _ = Breaks::None;
    unimplemented!()
}
