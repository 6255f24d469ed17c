//! What was read out of an answer: rows of values, and how the asking went.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Check, Columns, DeviceId, Facts, Failure, MetricKind, Timestamp};

/// A device's values of one check: they share a timestamp and are kept
/// together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupKey {
    /// Whose.
    pub device: DeviceId,
    /// Asked how.
    pub check: Check,
}

/// Which counters do not go on from the previous row: their rate over that
/// step is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Breaks {
    /// All go on.
    #[default]
    None,
    /// None does: the device restarted.
    All,
    /// These columns do not: an interface's counters were cleared or it is
    /// another interface under the old name.
    Columns(Vec<u32>),
}

impl Breaks {
    /// Whether the counter in `column` goes on from the previous row.
    #[must_use]
    pub fn spares(&self, column: usize) -> bool {
        match self {
            Breaks::None => true,
            Breaks::All => false,
            Breaks::Columns(broken) => !broken.iter().any(|b| *b as usize == column),
        }
    }
}

/// One poll's values.
#[derive(Clone, Debug)]
pub struct PollRow {
    /// Whose and how.
    pub group: GroupKey,
    /// When the device was asked.
    pub at: Timestamp,
    /// What each value is.
    pub columns: Arc<Columns>,
    /// As many as there are columns. NaN stands for "not measured" and is
    /// never shown as a number; no measurement gives NaN.
    pub values: Arc<[f64]>,
    /// Where counters lost continuity before this row.
    pub breaks: Breaks,
}

/// How the latest asking went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// When.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// What went wrong, if something did.
    pub failure: Option<Failure>,
    /// What went wrong with a part of it: table name and why.
    pub partial: Vec<(String, Failure)>,
}

impl Outcome {
    /// What it says of the device: `None` where we could not ask.
    #[must_use]
    pub fn device_answered(&self) -> Option<bool> {
        match &self.failure {
            None => Some(true),
            Some(failure) => failure.kind.is_about_the_device().then_some(false),
        }
    }
}

/// Everything one poll led to; kept in one transaction.
#[derive(Clone, Debug)]
pub struct PollReport {
    /// Whose and how.
    pub group: GroupKey,
    /// How it went.
    pub outcome: Outcome,
    /// The values, if any were measured.
    pub row: Option<PollRow>,
    /// What the device said of itself, if it was asked; the store keeps it
    /// only where it differs.
    pub facts: Option<Facts>,
}

/// A group's newest row beside the one before it.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The newest row.
    pub row: PollRow,
    /// When the row before it was taken and its values in the *newest* row's
    /// columns (NaN where it had no such column). `None` for a first row.
    pub previous: Option<(Timestamp, Arc<[f64]>)>,
}

impl Reading {
    /// The value of `column` as it is judged and shown: a counter's increase
    /// per second since the previous row, anything else as it is. `None` where
    /// it was not measured, or where a counter did not go on.
    #[must_use]
    pub fn value(&self, column: usize) -> Option<f64> {
        let now = *self.row.values.get(column)?;
        let kind = self.row.columns.series().get(column)?.kind;
        if !kind.is_counter() {
            return (!now.is_nan()).then_some(now);
        }
        let (at, before) = self.previous.as_ref()?;
        if !self.row.breaks.spares(column) {
            return None;
        }
        counter_rate(kind, (*at, *before.get(column)?), (self.row.at, now))
    }

    /// The number in `column` as the device gave it.
    #[must_use]
    pub fn raw(&self, column: usize) -> Option<f64> {
        self.row.values.get(column).copied().filter(|v| !v.is_nan())
    }
}

/// 2^32, where a Counter32 wraps.
const COUNTER32_MODULUS: f64 = 4_294_967_296.0;

/// A counter's increase per second from one row to the next.
///
/// `None` where one of the two was not measured, where no time went by, or
/// where the counter fell: a Counter32 that fell by more than half its range
/// wrapped once; any other fall is a reset that the device did not announce,
/// and a gap is true where a spike would be a lie.
#[must_use]
pub fn counter_rate(
    kind: MetricKind,
    before: (Timestamp, f64),
    now: (Timestamp, f64),
) -> Option<f64> {
    let seconds = now.0.since(before.0).as_secs_f64();
    if seconds <= 0.0 || before.1.is_nan() || now.1.is_nan() {
        return None;
    }
    let mut increase = now.1 - before.1;
    if increase < 0.0 && kind == MetricKind::Counter32 && -increase > COUNTER32_MODULUS / 2.0 {
        increase += COUNTER32_MODULUS;
    }
    (increase >= 0.0).then_some(increase / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(kind: MetricKind, before: f64, now: f64) -> Option<f64> {
        counter_rate(kind, (Timestamp(0), before), (Timestamp(10_000), now))
    }

    #[test]
    fn a_32_bit_counter_wraps_and_a_64_bit_one_does_not() {
        let near_the_end = COUNTER32_MODULUS - 100.0;
        assert_eq!(
            rate(MetricKind::Counter32, near_the_end, 900.0),
            Some(100.0)
        );
        assert_eq!(rate(MetricKind::Counter64, near_the_end, 900.0), None);
    }

    #[test]
    fn a_fall_that_is_no_wrap_is_a_gap() {
        assert_eq!(rate(MetricKind::Counter32, 1_000_000.0, 5.0), None);
    }

    #[test]
    fn what_was_not_measured_has_no_rate() {
        assert_eq!(rate(MetricKind::Counter64, f64::NAN, 5.0), None);
        assert_eq!(rate(MetricKind::Counter64, 5.0, f64::NAN), None);
        let same = (Timestamp(5), 1.0);
        assert_eq!(counter_rate(MetricKind::Counter64, same, same), None);
    }

    #[test]
    fn trouble_asking_leaves_the_device_unknown() {
        let outcome = |kind| Outcome {
            at: Timestamp(0),
            took: Duration::ZERO,
            failure: Some(Failure {
                kind,
                text: String::new(),
            }),
            partial: Vec::new(),
        };
        use crate::FailureKind::{Permission, Timeout};
        assert_eq!(outcome(Timeout).device_answered(), Some(false));
        assert_eq!(outcome(Permission).device_answered(), None);
    }
}
