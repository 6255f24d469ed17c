//! What is asked of the sample store, and what it answers.

use model::{GroupKey, SeriesKey, Timestamp};
use segment::Tier;
use series::Selector;

/// Raw samples are asked for.
pub struct Select<'a> {
    /// Which series.
    pub selector: &'a Selector,
    /// Of which devices' checks.
    pub groups: &'a dyn Fn(GroupKey) -> bool,
    /// Not older than this.
    pub from: Timestamp,
    /// Older than this.
    pub until: Timestamp,
    /// Over all series; more are refused.
    pub max_points: usize,
    /// Series that are found; more are refused.
    pub max_series: usize,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selected {
    /// By group and key; without those that have no point.
    pub series: Vec<SelectedSeries>,
    /// What could not be read: the answer lacks it.
    pub missing: Vec<Missing>,
}

/// The points of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectedSeries {
    /// Whose.
    pub group: GroupKey,
    /// Which.
    pub key: SeriesKey,
    /// Oldest first.
    pub points: Vec<Point>,
    /// Instants, rising, at which the series had ended: the group was asked and
    /// this series was not there any more, or not measured (the first such row
    /// after a point).
    pub ends: Vec<Timestamp>,
}

/// One measured value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When.
    pub at: Timestamp,
    /// As it was measured; never NaN.
    pub value: f64,
    /// A counter does not go on from the point before.
    pub broken: bool,
}

/// A part of an answer that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// From this instant.
    pub from: Timestamp,
    /// To this one, included.
    pub until: Timestamp,
    /// Which file, and what is wrong with it.
    pub why: String,
}

/// Where the values of a roll-up come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The coarsest tier whose buckets are at most a quarter of the step and
    /// divide it, or a finer one if it does not reach back to `from` and the
    /// finer does; never two.
    Auto,
    /// This tier.
    Of(Tier),
}

/// What becomes of a series' values within a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// Their mean.
    Avg,
    /// The newest.
    Last,
    /// How many.
    Count,
    /// How much a counter rose (reset-corrected; not extrapolated).
    Increase,
    /// The same, divided by the seconds in which it was measured: of raw rows
    /// the time between those rows, also where that is less or more than the
    /// step; of a bucket of a roll-up its width.
    Rate,
    /// A counter's steepest raw step, per second.
    MaxRate,
}

/// What becomes of several series at one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Across {
    /// Their sum.
    Sum,
    /// Their mean.
    Avg,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// How many have a value.
    Count,
}

/// Values by steps are asked for.
pub struct Rollup<'a> {
    /// Which series.
    pub selector: &'a Selector,
    /// Of which devices' checks.
    pub groups: &'a dyn Fn(GroupKey) -> bool,
    /// The first step begins here.
    pub from: Timestamp,
    /// Steps begin before this.
    pub until: Timestamp,
    /// In ms, at least 1; `from` should be a multiple for stable answers. Of a
    /// tier above raw, the first step begins with the bucket that `from` is in.
    pub step_ms: u64,
    /// Within a series.
    pub aggregate: Aggregate,
    /// Over all series; `None`: each for itself.
    pub across: Option<Across>,
    /// From where.
    pub source: Source,
    /// Steps times series in the answer; more are refused.
    pub max_points: usize,
    /// Series that are found; more are refused.
    pub max_series: usize,
}

/// The answer: one value per step; NaN where there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Frames {
    /// Where all values come from.
    pub source: Tier,
    /// That tier reaches back to here; steps before it have no values.
    pub oldest: Timestamp,
    /// The first step's beginning.
    pub from: Timestamp,
    /// The length of a step.
    pub step_ms: u64,
    /// Steps.
    pub steps: usize,
    /// By group and key; one without a key with [`Rollup::across`].
    pub frames: Vec<Frame>,
    /// Series that went into them.
    pub series: usize,
    /// What could not be read.
    pub missing: Vec<Missing>,
}

/// One series by steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Which; `None`: all that were selected.
    pub of: Option<(GroupKey, SeriesKey)>,
    /// One per step.
    pub values: Vec<f64>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// More points than were allowed.
    #[error("the answer has more than {limit} points")]
    TooManyPoints {
        /// How many were.
        limit: usize,
    },
    /// More series than were allowed.
    #[error("more than {limit} series are selected")]
    TooManySeries {
        /// How many were.
        limit: usize,
    },
    /// A roll-up cannot give that: its buckets do not divide the step.
    #[error("{0}")]
    NoSuchStep(String),
}
