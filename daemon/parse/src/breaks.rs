//! Where counters do not go on from the row before.
//!
//! Three things break a counter: the device restarted (sysUpTime), it says
//! that the interface's counters lost continuity (ifCounterDiscontinuityTime)
//! or another interface took the name, and an increase that the line cannot
//! have carried.

use std::borrow::Cow;
use std::collections::HashMap;

use model::{Breaks, Columns, Labels, MetricKind, Reading, Timestamp, counter_rate};

use crate::plan::Reads;

/// sysUpTime counts hundredths of seconds in 32 bits: it wraps after 497 days.
const UPTIME_MODULUS: f64 = 42_949_672.96;

/// What a device's clock, its agent's caching and the way to it may cost
/// between two polls: a fixed part and a share of the time between them.
const UPTIME_SLACK: f64 = 2.0;
const UPTIME_SLACK_SHARE: f64 = 0.01;

/// A rate above this many times the interface's speed is impossible. More
/// than 1 because a device counts when it likes and not when it is asked.
const SPEED_MARGIN: f64 = 1.5;

/// No interface is faster: in bit/s, for those that do not say their speed.
const FASTEST: f64 = 1e14;

/// The least that a packet costs on a line, in octets: an IPv4 header.
const SMALLEST_PACKET: f64 = 20.0;

/// How far apart two steps may be and still be the same steady traffic.
const STEADY: f64 = 4.0;

/// From this many broken columns on, none is said to go on: a list of all
/// columns would be slow to search.
const MAX_BROKEN_COLUMNS: usize = 1000;

/// Whether the device is the same run of the same agent as in the row before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Continuity {
    /// There is no row before.
    First,
    /// sysUpTime went on.
    Continued,
    /// The agent has no sysUpTime: nothing says that it restarted.
    Unverified,
    /// It restarted, or the row before knows nothing of it.
    Restarted,
}

impl Continuity {
    /// Compares an answer taken at `now`, which said `uptime`, with the row
    /// before.
    ///
    /// A row without sysUpTime is one of a poll that failed: what happened
    /// since the last one that did not is unknown, so nothing goes on.
    pub(crate) fn between(previous: Option<&Reading>, now: Timestamp, uptime: f64) -> Continuity {
        let Some(previous) = previous else {
            return Continuity::First;
        };
        let of = |metric| {
            let column = previous.row.columns.find(metric);
            column.and_then(|column| previous.raw(column))
        };
        match of("sysUpTime") {
            None if uptime.is_nan() && of("snmp_up") == Some(1.0) => Continuity::Unverified,
            Some(before) if !uptime.is_nan() => {
                let took = of("snmp_poll_seconds").unwrap_or(0.0);
                match restarted((previous.row.at, before, took), (now, uptime)) {
                    true => Continuity::Restarted,
                    false => Continuity::Continued,
                }
            }
            Some(_) | None => Continuity::Restarted,
        }
    }
}

/// Whether the agent restarted between `before`, a poll that began then, was
/// told that uptime and took that long, and `now`.
///
/// Our own clock may have been set in between, so a difference alone proves
/// nothing: only an uptime that fell, or one that began after the poll before,
/// is a restart.
fn restarted(before: (Timestamp, f64, f64), now: (Timestamp, f64)) -> bool {
    let (before_at, before_uptime, took) = before;
    let (now_at, uptime) = now;
    let elapsed = now_at.since(before_at).as_secs_f64();
    let slack = took + UPTIME_SLACK + elapsed * UPTIME_SLACK_SHARE;
    let expected = before_uptime + elapsed;

    if uptime < before_uptime {
        let wrapped = (expected - UPTIME_MODULUS - uptime).abs() <= slack;
        return !wrapped;
    }
    let began_in_between = uptime < elapsed + slack;
    began_in_between && uptime < expected - slack
}

/// The rows before an answer, in the columns of the new row.
pub(crate) struct History<'a> {
    at: Timestamp,
    values: Cow<'a, [f64]>,
    older: Option<(Timestamp, Cow<'a, [f64]>)>,
}

impl<'a> History<'a> {
    /// `previous` and the row before it, in the order of `columns`.
    pub(crate) fn new(previous: &'a Reading, columns: &Columns) -> History<'a> {
        let older = previous.previous.as_ref();
        if std::ptr::eq(&raw const *previous.row.columns, columns) {
            return History {
                at: previous.row.at,
                values: Cow::Borrowed(&previous.row.values),
                older: older.map(|(at, values)| (*at, Cow::Borrowed(&**values))),
            };
        }
        // behind them stand only those of plugins
        let own = columns.series();
        if previous.row.columns.series().starts_with(own) {
            let head = |values: &'a [f64]| Cow::Borrowed(&values[..own.len().min(values.len())]);
            return History {
                at: previous.row.at,
                values: head(&previous.row.values),
                older: older.map(|(at, values)| (*at, head(values))),
            };
        }
        let places = places(&previous.row.columns, columns);
        let moved = |values: &[f64]| -> Cow<'a, [f64]> {
            let value = |place: &Option<usize>| {
                let value = place.and_then(|place| values.get(place));
                value.copied().unwrap_or(f64::NAN)
            };
            places.iter().map(value).collect()
        };
        History {
            at: previous.row.at,
            values: moved(&previous.row.values),
            older: older.map(|(at, values)| (*at, moved(values))),
        }
    }

    /// The value in `column` in the row before.
    fn newest(&self, column: usize) -> Option<(Timestamp, f64)> {
        measured(self.at, self.values.get(column))
    }

    /// The value in `column` in the row before that.
    fn older(&self, column: usize) -> Option<(Timestamp, f64)> {
        let (at, values) = self.older.as_ref()?;
        measured(*at, values.get(column))
    }

    /// The last measured value in `column`.
    fn last(&self, column: usize) -> Option<(Timestamp, f64)> {
        self.newest(column).or_else(|| self.older(column))
    }
}

fn measured(at: Timestamp, value: Option<&f64>) -> Option<(Timestamp, f64)> {
    value
        .filter(|value| !value.is_nan())
        .map(|value| (at, *value))
}

/// Where each of the `new` columns stood among the `old` ones.
fn places(old: &Columns, new: &Columns) -> Vec<Option<usize>> {
    let old = old.series().iter().enumerate();
    let old: HashMap<(&str, &Labels), usize> = old
        .map(|(place, series)| ((&*series.metric, &*series.labels), place))
        .collect();
    let new = new.series().iter();
    new.map(|series| old.get(&(&*series.metric, &*series.labels)).copied())
        .collect()
}

/// The columns of one interface in the new row.
pub(crate) struct InterfaceStep<'a> {
    /// The first of its columns.
    pub(crate) first: usize,
    /// Its values.
    pub(crate) values: &'a [f64],
    /// What each column is.
    pub(crate) columns: &'a [(MetricKind, Reads)],
    /// Where ifSpeed_bps and ifCounterDiscontinuityTime stand in them.
    pub(crate) speed: Option<usize>,
    pub(crate) discontinuity: Option<usize>,
    /// Whether another piece of hardware took its name.
    pub(crate) is_another: bool,
}

/// Collects broken columns of a row taken at `at`.
pub(crate) struct BreakFinder<'a> {
    at: Timestamp,
    history: History<'a>,
    /// Whether sysUpTime says that the device did not restart.
    verified: bool,
    broken: Vec<u32>,
}

impl<'a> BreakFinder<'a> {
    pub(crate) fn new(at: Timestamp, history: History<'a>, verified: bool) -> BreakFinder<'a> {
        BreakFinder {
            at,
            history,
            verified,
            broken: Vec::new(),
        }
    }

    /// Looks at the counters of one interface.
    pub(crate) fn look_at(&mut self, step: &InterfaceStep<'_>) {
        let lost = step.is_another || self.lost_continuity(step);
        let speed = self.speed(step);
        for (offset, (kind, reads)) in step.columns.iter().enumerate() {
            let (column, value) = (step.first + offset, step.values[offset]);
            if !kind.is_counter() || value.is_nan() {
                continue;
            }
            if lost || !self.goes_on(column, (*kind, *reads), value, speed) {
                self.broken.extend(u32::try_from(column));
            }
        }
    }

    pub(crate) fn finish(self) -> Breaks {
        match self.broken.len() {
            0 => Breaks::None,
            1..=MAX_BROKEN_COLUMNS => Breaks::Columns(self.broken),
            _ => Breaks::All,
        }
    }

    /// The device said so, or began to say when.
    #[expect(
        clippy::float_cmp,
        reason = "hundredths of a second, read the same way"
    )]
    fn lost_continuity(&self, step: &InterfaceStep<'_>) -> bool {
        let Some(offset) = step.discontinuity else {
            return false;
        };
        let now = step.values[offset];
        match self.history.last(step.first + offset) {
            _ if now.is_nan() => false,
            Some((_, before)) => before != now,
            None => true,
        }
    }

    /// The faster of the speeds at both ends of the step, in bit/s.
    fn speed(&self, step: &InterfaceStep<'_>) -> f64 {
        let Some(offset) = step.speed else {
            return f64::NAN;
        };
        let before = self.history.last(step.first + offset);
        before
            .map_or(f64::NAN, |(_, speed)| speed)
            .max(step.values[offset])
    }

    /// Whether `value` can follow from what the counter was.
    fn goes_on(&self, column: usize, what: (MetricKind, Reads), value: f64, speed: f64) -> bool {
        let (kind, reads) = what;
        let Some(before) = self.history.last(column) else {
            return false;
        };
        let Some(rate) = counter_rate(kind, before, (self.at, value)) else {
            // no time went by, or it fell: whoever asks for the rate gets none
            return true;
        };
        let wrapped = value < before.1;
        if wrapped && !self.verified {
            return false;
        }
        let bound = match reads {
            Reads::Losses if !wrapped => FASTEST / (8.0 * SMALLEST_PACKET),
            Reads::Octets | Reads::Packets | Reads::Losses => bound(reads, speed),
            Reads::State | Reads::Speed | Reads::Ticks => return true,
        };
        rate <= bound || self.was_as_fast(column, kind, bound, rate)
    }

    /// Whether the step before was beyond the bound as well. A counter that
    /// was reset jumps once; traffic that stays beyond the speed means that
    /// the speed is wrong, as that of tunnels and bridges often is.
    fn was_as_fast(&self, column: usize, kind: MetricKind, bound: f64, rate: f64) -> bool {
        let steps = self.history.older(column).zip(self.history.newest(column));
        steps
            .and_then(|(older, newest)| counter_rate(kind, older, newest))
            .is_some_and(|before| before > bound && rate <= before * STEADY)
    }
}

/// The most per second that a line of `speed` bit/s (NaN or 0: unknown) can
/// carry.
fn bound(reads: Reads, speed: f64) -> f64 {
    let octets = if speed > 0.0 {
        SPEED_MARGIN * speed / 8.0
    } else {
        FASTEST / 8.0
    };
    match reads {
        Reads::Octets => octets,
        Reads::State | Reads::Speed | Reads::Ticks | Reads::Packets | Reads::Losses => {
            octets / SMALLEST_PACKET
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DAY: f64 = 86_400.0;

    /// Polls `elapsed` apart, told uptimes `before` and `now`.
    fn restart(elapsed: Duration, before: f64, now: f64) -> bool {
        let first = Timestamp(1_800_000_000_000);
        restarted((first, before, 0.5), (first.plus(elapsed), now))
    }

    fn minute() -> Duration {
        Duration::from_secs(60)
    }

    #[test]
    fn an_uptime_that_goes_on_is_no_restart() {
        assert!(!restart(minute(), 1000.0, 1060.0));
        assert!(!restart(minute(), 1000.0, 1059.0));
        assert!(!restart(minute(), 5.0, 64.0));
        assert!(!restart(Duration::from_secs(3600), 1000.0, 4600.0));
    }

    #[test]
    fn an_uptime_that_fell_is_a_restart() {
        assert!(restart(minute(), 1000.0, 30.0));
        assert!(restart(minute(), 400.0 * DAY, 30.0));
        assert!(restart(Duration::ZERO, 1000.0, 30.0));
    }

    #[test]
    fn a_wrap_after_497_days_is_no_restart() {
        let before = UPTIME_MODULUS - 25.0;
        assert!(!restart(minute(), before, 35.0));
        assert!(restart(minute(), before, 10.0));
    }

    #[test]
    fn a_long_silence_does_not_hide_a_restart() {
        assert!(restart(Duration::from_secs(7200), 600.0, 3600.0));
        assert!(restart(minute(), 10.0, 50.0));
    }

    #[test]
    fn setting_our_clock_is_no_restart() {
        let hour = Duration::from_secs(3600);
        assert!(!restart(hour + minute(), 2.0 * DAY, 2.0 * DAY + 60.0));
        assert!(!restart(Duration::ZERO, 2.0 * DAY, 2.0 * DAY + 60.0));
        let later = Timestamp(1_800_000_000_000);
        let earlier = later.minus(hour);
        assert!(!restarted((later, 1000.0, 0.5), (earlier, 1060.0)));
        assert!(restarted((later, 1000.0, 0.5), (earlier, 20.0)));
    }
}
