//! Roll-ups: what is kept of a bucket of time instead of its rows.
//!
//! A row of a roll-up has the bucket's first instant as its time and, for each
//! column of the raw rows, its lanes one after the other. Counters: increase
//! (reset-corrected, over the steps that end in the bucket), max_rate (per
//! second), count. Gauges and states: min, max, avg, last, count. max_rate and
//! avg are quotients, which would take more room than all the rest: they are
//! written to six significant digits. A bucket without a value has no lanes measured.
//! count is how many values were measured; of a counter, how many steps were.
//!
//! A step leads from one row to the next and belongs to the bucket of the
//! latter. There is none where either value was not measured, where the counter
//! fell (a Counter32 that fell by more than half its range wrapped instead) and
//! where it lost continuity: [`model::counter_rate`]'s rules.

use std::ops::Range;
use std::time::Duration;

use model::{MetricKind, SeriesKey};

/// What is kept of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// How much a counter rose.
    Increase,
    /// Its steepest step, per second; six significant digits on the disk.
    MaxRate,
    /// The least value.
    Min,
    /// The greatest.
    Max,
    /// Their mean; six significant digits on the disk.
    Avg,
    /// The newest.
    Last,
    /// How many.
    Count,
}

impl Lane {
    /// Whether it is written to six significant digits.
    fn is_rounded(self) -> bool {
        matches!(self, Lane::MaxRate | Lane::Avg)
    }
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
pub struct Lanes {
    /// Of each column: its kind and the place of its first lane.
    columns: Vec<(MetricKind, usize)>,
    width: usize,
}

impl Lanes {
    /// Those of rows with these columns.
    #[must_use]
    pub fn new(series: &[SeriesKey]) -> Lanes {
        let mut width = 0;
        let place = |key: &SeriesKey| {
            let first = width;
            width += lanes_of(key.kind).len();
            (key.kind, first)
        };
        let columns = series.iter().map(place).collect();
        Lanes { columns, width }
    }

    /// Lanes in all.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The place of a lane; `None` where the column's kind has none.
    #[must_use]
    pub fn place(&self, column: usize, lane: Lane) -> Option<usize> {
        let (kind, first) = *self.columns.get(column)?;
        let within = lanes_of(kind).iter().position(|known| *known == lane)?;
        Some(first + within)
    }

    /// Each column's kind, and the place of its first lane.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (MetricKind, usize)> {
        self.columns.iter().copied()
    }

    /// The places of lanes that are written to six digits.
    pub(crate) fn rounded(&self) -> impl Iterator<Item = usize> {
        let columns = self.columns.iter();
        columns.flat_map(|(kind, first)| {
            let lanes = (*first..).zip(lanes_of(*kind));
            let rounded = lanes.filter(|(_, lane)| lane.is_rounded());
            rounded.map(|(place, _)| place)
        })
    }

    /// The kind of each lane: that of its column.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = MetricKind> {
        let columns = self.columns.iter();
        columns.flat_map(|(kind, _)| lanes_of(*kind).iter().map(|_| *kind))
    }
}

/// What is known of one series in one bucket. NaN: not measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// The bucket's first instant.
    pub at: u64,
    /// See [`Lane`]; those of the other kind are NaN.
    pub increase: f64,
    /// See [`Lane`]; exact while in memory.
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
    /// How long the steps of a counter took that `increase` is of. It is not
    /// written: only [`buckets_of`] knows it.
    pub seconds: f64,
}

impl Bucket {
    /// A bucket in which nothing was measured.
    #[must_use]
    pub fn empty(at: u64) -> Bucket {
        Bucket {
            at,
            increase: f64::NAN,
            max_rate: f64::NAN,
            min: f64::NAN,
            max: f64::NAN,
            avg: f64::NAN,
            last: f64::NAN,
            count: f64::NAN,
            seconds: f64::NAN,
        }
    }

    /// Two parts of the same bucket as one; `later` has the newer values.
    #[must_use]
    pub fn merge(self, later: Bucket) -> Bucket {
        if later.count.is_nan() {
            return self;
        }
        if self.count.is_nan() {
            return later;
        }
        let count = self.count + later.count;
        Bucket {
            at: self.at,
            increase: self.increase + later.increase,
            max_rate: self.max_rate.max(later.max_rate),
            min: self.min.min(later.min),
            max: self.max.max(later.max),
            avg: self.avg * (self.count / count) + later.avg * (later.count / count),
            last: later.last,
            count,
            seconds: self.seconds + later.seconds,
        }
    }

    /// The value of a lane.
    #[must_use]
    pub fn lane(&self, lane: Lane) -> f64 {
        match lane {
            Lane::Increase => self.increase,
            Lane::MaxRate => self.max_rate,
            Lane::Min => self.min,
            Lane::Max => self.max,
            Lane::Avg => self.avg,
            Lane::Last => self.last,
            Lane::Count => self.count,
        }
    }

    /// Puts a lane's value in, as a reader of blocks does.
    pub fn set(&mut self, lane: Lane, value: f64) {
        let place = match lane {
            Lane::Increase => &mut self.increase,
            Lane::MaxRate => &mut self.max_rate,
            Lane::Min => &mut self.min,
            Lane::Max => &mut self.max,
            Lane::Avg => &mut self.avg,
            Lane::Last => &mut self.last,
            Lane::Count => &mut self.count,
        };
        *place = value;
    }

    /// The value of a lane as it is written.
    pub(crate) fn written(&self, lane: Lane) -> f64 {
        match lane.is_rounded() {
            true => six_digits(self.lane(lane)),
            false => self.lane(lane),
        }
    }
}

/// The buckets of one series out of its rows, oldest first; those without a
/// value are left out. `before`: the row before the first one, if it is known
/// to be. `goes_on` says whether a counter goes on *into* the row at a place:
/// true where it was not broken. The one definition of a roll-up: queries use
/// it for what has not been compacted.
pub fn buckets_of(
    kind: MetricKind,
    width_ms: u64,
    before: Option<(u64, f64)>,
    times: &[u64],
    values: &[f64],
    goes_on: &dyn Fn(usize) -> bool,
    out: &mut Vec<Bucket>,
) {
    let slots = slots_of(width_ms, times);
    if !kind.is_counter() {
        out.extend(slots.iter().filter_map(|slot| gauge_bucket(slot, values)));
        return;
    }
    let mut steps = Steps::default();
    let seconds = seconds_of(before.map(|(at, _)| at), times);
    let value = before.map_or(f64::NAN, |(_, value)| value);
    steps.measure(kind, value, &seconds, values);
    for place in (0..times.len()).filter(|place| !goes_on(*place)) {
        steps.forget(place);
    }
    let bucket = |slot: &Slot| {
        let took = slot
            .rows
            .clone()
            .map(|row| (seconds[row], steps.increases[row]));
        let measured = took.filter(|(_, increase)| !increase.is_nan());
        let covered: f64 = measured.map(|(seconds, _)| seconds).sum();
        counter_bucket(slot, &steps).map(|bucket| Bucket {
            seconds: covered,
            ..bucket
        })
    };
    out.extend(slots.iter().filter_map(bucket));
}

/// The rows of one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The bucket's first instant.
    pub(crate) at: u64,
    /// The places of its rows.
    pub(crate) rows: Range<usize>,
}

/// Which bucket each row is in.
pub(crate) fn slots_of(width_ms: u64, times: &[u64]) -> Vec<Slot> {
    let bucket = |time: u64| time - time % width_ms;
    let mut slots = Vec::new();
    let mut begin = 0;
    for rows in times.chunk_by(|a, b| bucket(*a) == bucket(*b)) {
        let end = begin + rows.len();
        slots.push(Slot {
            at: bucket(rows[0]),
            rows: begin..end,
        });
        begin = end;
    }
    slots
}

/// How long the step into each row took; NaN where there is no row before.
pub(crate) fn seconds_of(before: Option<u64>, times: &[u64]) -> Vec<f64> {
    let mut before = before;
    let step = |time: &u64| {
        let since = before.replace(*time).map(|at| time.saturating_sub(at));
        since.map_or(f64::NAN, |ms| Duration::from_millis(ms).as_secs_f64())
    };
    times.iter().map(step).collect()
}

/// 2^32, where a Counter32 wraps.
const COUNTER32_MODULUS: f64 = 4_294_967_296.0;

/// The steps of one counter, one into each row; NaN where there is none.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    increases: Vec<f64>,
    rates: Vec<f64>,
}

impl Steps {
    /// Those into rows of these values, in the place of what was there.
    /// `before` is the value of the row before the first.
    pub(crate) fn measure(
        &mut self,
        kind: MetricKind,
        before: f64,
        seconds: &[f64],
        values: &[f64],
    ) {
        let wraps = kind == MetricKind::Counter32;
        let befores = std::iter::once(&before).chain(values);
        let rows = values.iter().zip(befores).zip(seconds);
        let steps = rows.map(|((value, before), seconds)| {
            let difference = value - before;
            let wrapped = wraps && difference < -COUNTER32_MODULUS / 2.0;
            let increase = difference + if wrapped { COUNTER32_MODULUS } else { 0.0 };
            let is_step = increase >= 0.0 && *seconds > 0.0;
            let increase = if is_step { increase } else { f64::NAN };
            (increase, increase / seconds)
        });
        self.increases.clear();
        self.rates.clear();
        self.increases.reserve(values.len());
        self.rates.reserve(values.len());
        for (increase, rate) in steps {
            self.increases.push(increase);
            self.rates.push(rate);
        }
    }

    /// Takes the step into a row away.
    pub(crate) fn forget(&mut self, place: usize) {
        self.increases[place] = f64::NAN;
        self.rates[place] = f64::NAN;
    }
}

/// The bucket of a counter; `None` without a step.
pub(crate) fn counter_bucket(slot: &Slot, steps: &Steps) -> Option<Bucket> {
    let increases = Reduced::of(&steps.increases[slot.rows.clone()]);
    let rates = Reduced::of(&steps.rates[slot.rows.clone()]);
    (increases.count > 0.0).then(|| Bucket {
        increase: increases.sum,
        max_rate: rates.max,
        count: increases.count,
        ..Bucket::empty(slot.at)
    })
}

/// The bucket of a gauge or a state; `None` without a value.
pub(crate) fn gauge_bucket(slot: &Slot, values: &[f64]) -> Option<Bucket> {
    let values = &values[slot.rows.clone()];
    let last = values.iter().rev().find(|value| !value.is_nan())?;
    let reduced = Reduced::of(values);
    Some(Bucket {
        min: reduced.min,
        max: reduced.max,
        avg: reduced.avg(values),
        last: *last,
        count: reduced.count,
        ..Bucket::empty(slot.at)
    })
}

/// So many values go side by side: sums that do not wait for each other.
const ABREAST: usize = 4;

/// Some values as few; NaN among them count as none.
#[derive(Clone, Copy, Debug)]
struct Reduced {
    sum: f64,
    min: f64,
    max: f64,
    count: f64,
}

impl Reduced {
    const NONE: Reduced = Reduced {
        sum: 0.0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        count: 0.0,
    };

    fn of(values: &[f64]) -> Reduced {
        let mut parts = [Reduced::NONE; ABREAST];
        let (chunks, rest) = values.as_chunks::<ABREAST>();
        for chunk in chunks {
            for (part, value) in parts.iter_mut().zip(chunk) {
                part.add(*value);
            }
        }
        for (part, value) in parts.iter_mut().zip(rest) {
            part.add(*value);
        }
        let [a, b, c, d] = parts;
        a.and(b).and(c.and(d))
    }

    fn add(&mut self, value: f64) {
        let measured = !value.is_nan();
        self.sum += if measured { value } else { 0.0 };
        self.count += if measured { 1.0 } else { 0.0 };
        self.min = if value < self.min { value } else { self.min };
        self.max = if value > self.max { value } else { self.max };
    }

    fn and(self, other: Reduced) -> Reduced {
        Reduced {
            sum: self.sum + other.sum,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            count: self.count + other.count,
        }
    }

    /// The mean of `values`, which this was made of.
    fn avg(&self, values: &[f64]) -> f64 {
        let overflows = self.sum.is_infinite() && self.min.is_finite() && self.max.is_finite();
        if !overflows {
            return self.sum / self.count;
        }
        let measured = values.iter().filter(|value| !value.is_nan());
        measured.map(|value| value / self.count).sum()
    }
}

/// Powers of ten up to this are exact in an f64.
const EXACT_POWER: i32 = 22;

/// A value to six significant digits, as the f64 nearest to them.
pub(crate) fn six_digits(value: f64) -> f64 {
    let size = value.abs();
    let is_short = size < 1e6 && value.fract() == 0.0;
    if is_short || !size.is_finite() {
        return value;
    }
    // within the range of an i32: an f64's exponent is
    #[expect(clippy::cast_possible_truncation, reason = "at most three digits")]
    let places = 5 - size.log10().floor() as i32;
    match places {
        0..=EXACT_POWER => {
            let power = 10f64.powi(places);
            (value * power).round() / power
        }
        places if (-EXACT_POWER..0).contains(&places) => {
            let power = 10f64.powi(-places);
            (value / power).round() * power
        }
        _ => format!("{value:.5e}").parse().unwrap_or(value),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Labels, Timestamp, counter_rate};
    use proptest::prelude::*;

    use super::*;

    const QUARTER: u64 = 900_000;

    fn buckets(kind: MetricKind, before: Option<(u64, f64)>, rows: &[(u64, f64)]) -> Vec<Bucket> {
        let (times, values): (Vec<u64>, Vec<f64>) = rows.iter().copied().unzip();
        let mut out = Vec::new();
        buckets_of(kind, QUARTER, before, &times, &values, &|_| true, &mut out);
        out
    }

    #[test]
    fn a_gauge_keeps_least_greatest_mean_newest_and_how_many() {
        let rows = [
            (0, 3.0),
            (1, f64::NAN),
            (2, 1.0),
            (3, f64::NAN),
            (900_000, 7.0),
        ];
        let made = buckets(MetricKind::Gauge, None, &rows);
        assert_eq!(made.len(), 2);
        let lanes = |bucket: &Bucket| (bucket.min, bucket.max, bucket.avg, bucket.last);
        assert_eq!(lanes(&made[0]), (1.0, 3.0, 2.0, 1.0));
        assert_eq!((made[0].at, made[0].count), (0, 2.0));
        assert!(made[0].increase.is_nan() && made[0].max_rate.is_nan());
        assert_eq!((made[1].at, made[1].avg), (900_000, 7.0));
    }

    #[test]
    fn a_step_belongs_to_the_bucket_of_its_later_row() {
        let rows = [(890_000, 10.0), (910_000, 30.0), (920_000, 35.0)];
        let made = buckets(MetricKind::Counter64, None, &rows);
        assert_eq!(made.len(), 1, "the first row has no step: {made:?}");
        assert_eq!((made[0].at, made[0].increase), (900_000, 25.0));
        assert_eq!((made[0].max_rate, made[0].count), (1.0, 2.0));
        assert_eq!(made[0].seconds, 30.0, "also those before the bucket");
        let made = buckets(MetricKind::Counter64, Some((880_000, 4.0)), &rows);
        assert_eq!((made[0].at, made[0].increase), (0, 6.0));
    }

    #[test]
    fn a_reset_gives_no_step_and_a_wrap_one() {
        let rows = [(0, 4_294_967_290.0), (1_000, 4.0), (2_000, 1.0)];
        let made = buckets(MetricKind::Counter32, None, &rows);
        assert_eq!((made[0].increase, made[0].count), (10.0, 1.0));
        assert_eq!(buckets(MetricKind::Counter64, None, &rows), []);
    }

    #[test]
    fn a_break_gives_no_step_even_into_the_first_row() {
        let mut out = Vec::new();
        let (times, values) = ([1_000, 2_000, 3_000], [5.0, 6.0, 8.0]);
        let before = Some((0, 1.0));
        let kind = MetricKind::Counter64;
        let goes_on = |place| place == 2;
        buckets_of(kind, QUARTER, before, &times, &values, &goes_on, &mut out);
        assert_eq!((out[0].increase, out[0].count), (2.0, 1.0));
        assert_eq!(out[0].seconds, 1.0);
    }

    #[test]
    fn the_mean_of_huge_values_is_no_infinity() {
        let rows = [(0, 1e308), (1, 1.5e308), (2, 1.7e308)];
        let made = buckets(MetricKind::Gauge, None, &rows);
        assert!((made[0].avg / 1.4e308 - 1.0).abs() < 1e-12, "{made:?}");
        let rows = [(0, f64::INFINITY), (1, 1.0)];
        let made = buckets(MetricKind::Gauge, None, &rows);
        assert_eq!((made[0].avg, made[0].min), (f64::INFINITY, 1.0));
    }

    #[test]
    fn lanes_stand_column_by_column() {
        let key = |kind| SeriesKey {
            metric: "x".into(),
            labels: Arc::new(Labels::default()),
            kind,
        };
        let lanes = Lanes::new(&[key(MetricKind::Gauge), key(MetricKind::Counter32)]);
        assert_eq!(lanes.width(), 8);
        assert_eq!(lanes.place(0, Lane::Min), Some(0));
        assert_eq!(lanes.place(0, Lane::Increase), None);
        assert_eq!(lanes.place(1, Lane::Increase), Some(5));
        assert_eq!(lanes.place(1, Lane::Count), Some(7));
        assert_eq!(lanes.place(2, Lane::Count), None);
        assert_eq!(lanes.kinds().count(), 8);
    }

    fn kind() -> impl Strategy<Value = MetricKind> {
        prop_oneof![
            Just(MetricKind::Counter32),
            Just(MetricKind::Counter64),
            Just(MetricKind::Gauge),
            Just(MetricKind::State),
        ]
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            8 => (0u32..4_000).prop_map(f64::from),
            2 => (0u32..u32::MAX).prop_map(f64::from),
            1 => Just(f64::NAN),
        ]
    }

    proptest! {
        #[test]
        fn steps_are_those_of_counter_rate(
            kind in kind(),
            rows in proptest::collection::vec((0u64..90_000, value()), 1..60),
        ) {
            let mut at = 0;
            let rows: Vec<(u64, f64)> = rows.iter().map(|(step, value)| {
                at += step;
                (at, *value)
            }).collect();
            let (times, values): (Vec<u64>, Vec<f64>) = rows.iter().copied().unzip();
            let mut steps = Steps::default();
            steps.measure(kind, f64::NAN, &seconds_of(None, &times), &values);
            for (place, pair) in rows.windows(2).enumerate() {
                let point = |row: (u64, f64)| (Timestamp(row.0), row.1);
                let rate = counter_rate(kind, point(pair[0]), point(pair[1]));
                let measured = steps.rates[place + 1];
                prop_assert_eq!((!measured.is_nan()).then_some(measured), rate);
            }
        }

        #[test]
        fn parts_of_a_bucket_merge_into_the_whole(
            kind in kind(),
            values in proptest::collection::vec(value(), 2..40),
            cut in 1usize..39,
        ) {
            let rows: Vec<(u64, f64)> = (0u64..).map(|at| at * 1_000).zip(values).collect();
            let cut = cut.min(rows.len() - 1);
            let whole = buckets(kind, None, &rows);
            let early = buckets(kind, None, &rows[..cut]);
            let late = buckets(kind, Some(rows[cut - 1]), &rows[cut..]);
            let empty = Bucket::empty(0);
            let part = |part: &[Bucket]| part.first().copied().unwrap_or(empty);
            let merged = part(&early).merge(part(&late));
            let whole = part(&whole);
            for lane in lanes_of(kind) {
                let (a, b) = (merged.lane(*lane), whole.lane(*lane));
                let near = (a - b).abs() <= 1e-12 * b.abs();
                prop_assert!(near || a.is_nan() && b.is_nan(), "{lane:?}: {a} {b}");
            }
        }

        #[test]
        fn six_digits_are_the_nearest(value: f64) {
            let short = six_digits(value);
            match value.is_finite() {
                true => {
                    prop_assert!((short - value).abs() <= 5.000_01e-6 * value.abs());
                    prop_assert_eq!(six_digits(short).to_bits(), short.to_bits());
                }
                false => prop_assert_eq!(short.to_bits(), value.to_bits()),
            }
        }

        #[test]
        fn usual_quotients_are_written_with_six_digits(value in -1e12f64..1e12) {
            let digits: f64 = format!("{value:.5e}").parse().unwrap();
            let short = six_digits(value);
            prop_assert!(short == digits || (short - value).abs() <= (digits - value).abs() * 1.000_001);
        }
    }
}
