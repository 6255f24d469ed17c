//! Values by steps.
//!
//! All values of an answer come from one tier. What that tier's segments hold
//! ends with the newest day that was compacted; rows behind it are rolled up
//! while the answer is made, with the same function and into the same buckets,
//! so that an answer does not depend on when a day was compacted.
//!
//! - `Increase` of a step is the sum of the increases of the steps between
//!   rows that end in it; it is not extrapolated. `Rate` is that divided by the
//!   seconds between those rows, so that polls that do not line up with steps, a
//!   step that is not over and one behind a gap have the true rate. A bucket
//!   that was compacted does not know them: it counts with its whole width.
//! - `Avg` weighs each bucket with how many values it has.
//! - A bucket belongs to the step in which it begins.
//! - Of raw rows a step is one bucket. A counter's first step is measured from
//!   a row up to two hours before `from`.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{MetricKind, SeriesKey, Timestamp};
use segment::{Bucket, Entry, Lane, Lanes, Segment, Tier, buckets_of};

use crate::engine::Inner;
use crate::limits::DAY_MS;
use crate::lock::{self, lock};
use crate::query::{Across, Aggregate, Frame, Frames, Missing, QueryError, Rollup, Source};
use crate::read::{
    Gathered, GatheredSeries, Held, Limits, Reader, Reading, View, ViewGroup, lost, sort,
};
use crate::registry::Meant;
use crate::rows::{Part, Wanted};
use crate::shelf::{Listed, Shelf};

/// How far before `from` the row is looked for that a counter's first step is
/// measured from: more than any device is polled apart.
const LOOK_BACK_MS: u64 = 2 * 60 * 60 * 1000;

impl Inner {
    pub(crate) fn rollup(&self, ask: &Rollup<'_>) -> Result<Frames, QueryError> {
        if ask.step_ms == 0 {
            return Err(QueryError::NoSuchStep("a step has at least 1 ms".into()));
        }
        let meant = lock::read(&self.registry).meant(ask.selector);
        let view_from = ask.from.0.saturating_sub(LOOK_BACK_MS + DAY_MS);
        let view = self.view(&meant, ask.groups, &(view_from..ask.until.0));
        let tier = choose(ask, &view)?;
        let steps = Steps::new(ask, tier)?;
        let limits = Limits::new(ask.max_series, ask.max_points);
        let job = Job::new(ask, tier, &view, &meant, &steps);
        let total = Mutex::new(ask.across.map(|_| Total::new(steps.count)));
        if ask.across.is_some() {
            limits.add_points(steps.count)?;
        }
        let read = |group: &ViewGroup, reader: &mut Reader| {
            let frames = job.group(group, reader, &limits)?;
            if let Some(total) = &mut *lock(&total) {
                frames.iter().for_each(|frame| total.add(&frame.values));
                return Ok(Vec::new());
            }
            Ok(frames)
        };
        let (frames, missing) = self.in_two(&view.groups, &read)?;
        let frames: Vec<Frame> = match (ask.across, lock(&total).take()) {
            (Some(across), Some(total)) => vec![total.frame(across)],
            _ => frames.into_iter().flatten().collect(),
        };
        let mut all_missing = job.lost();
        all_missing.extend(missing);
        Ok(Frames {
            source: tier,
            oldest: Timestamp(reach(&view, tier).unwrap_or(ask.until.0)),
            from: Timestamp(steps.from),
            step_ms: steps.step,
            steps: steps.count,
            frames,
            series: limits.series(),
            missing: all_missing,
        })
    }
}

/// The tier that answers.
fn choose(ask: &Rollup<'_>, view: &View) -> Result<Tier, QueryError> {
    if let Source::Of(tier) = ask.source {
        let width = tier.bucket_ms().unwrap_or(1);
        if !ask.step_ms.is_multiple_of(width) {
            let word = tier.word();
            let what = format!("the step is not a multiple of {word}, as long as a bucket is");
            return Err(QueryError::NoSuchStep(what));
        }
        return Ok(tier);
    }
    let fits = |tier: &Tier| {
        let width = tier.bucket_ms().unwrap_or(1);
        let is_fine = width * 4 <= ask.step_ms && ask.step_ms.is_multiple_of(width);
        *tier == Tier::Raw || is_fine
    };
    let mut fitting = Tier::ALL.into_iter().rev().filter(fits);
    let reaches = |tier: &Tier| reach(view, *tier).is_some_and(|oldest| oldest <= ask.from.0);
    let coarsest = fitting.clone().next().unwrap_or(Tier::Raw);
    Ok(fitting.find(reaches).unwrap_or(coarsest))
}

/// Where what a tier can say begins.
fn reach(view: &View, tier: Tier) -> Option<u64> {
    let from = view
        .shelf
        .of(tier)
        .map(|listed| listed.row.summary.from)
        .min();
    let covered = covered(&view.shelf, tier);
    let raw = view
        .shelf
        .of(Tier::Raw)
        .filter(|listed| listed.last() >= covered);
    let raw = raw.map(|listed| listed.row.summary.from.max(covered)).min();
    let frozen = view.frozen.iter().flat_map(|frozen| frozen.pieces());
    let frozen = frozen
        .map(|piece| piece.span())
        .filter(|span| span.1 >= covered);
    let frozen = frozen.map(|span| span.0.max(covered)).min();
    let held = view.groups.iter().flat_map(|group| &group.head);
    let held = held.map(Held::span).filter(|span| span.1 >= covered);
    let held = held.map(|span| span.0.max(covered)).min();
    let reach = [from, raw, frozen, held].into_iter().flatten().min()?;
    let width = tier.bucket_ms().unwrap_or(1);
    Some(reach - reach % width)
}

/// Up to where days were compacted into a tier.
fn covered(shelf: &Shelf, tier: Tier) -> u64 {
    if tier == Tier::Raw {
        return 0;
    }
    let ends = shelf
        .of(tier)
        .map(|listed| (listed.row.summary.until / DAY_MS + 1) * DAY_MS);
    ends.max().unwrap_or(0)
}

/// The steps of an answer.
struct Steps {
    from: u64,
    step: u64,
    count: usize,
}

impl Steps {
    fn new(ask: &Rollup<'_>, tier: Tier) -> Result<Steps, QueryError> {
        let width = tier.bucket_ms().unwrap_or(1);
        let from = ask.from.0 - ask.from.0 % width;
        let limit = ask.max_points;
        let count = ask.until.0.saturating_sub(from).div_ceil(ask.step_ms);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > limit {
            return Err(QueryError::TooManyPoints { limit });
        }
        Ok(Steps {
            from,
            step: ask.step_ms,
            count,
        })
    }

    fn range(&self) -> Range<u64> {
        let length = self.step.saturating_mul(self.count as u64);
        self.from..self.from.saturating_add(length)
    }

    /// The step that `at` is in.
    fn place(&self, at: u64) -> Option<usize> {
        let place = at.checked_sub(self.from)? / self.step;
        let place = usize::try_from(place).ok()?;
        (place < self.count).then_some(place)
    }
}

/// An answer in the making.
struct Job<'a> {
    aggregate: Aggregate,
    steps: &'a Steps,
    meant: &'a Meant,
    tier: Tier,
    shelf: &'a Shelf,
    /// Segments of a tier above raw.
    segments: Vec<Arc<Listed>>,
    /// Of each set of columns: the lanes that are read, and how many of each
    /// place.
    lanes: HashMap<u32, Vec<u32>>,
    /// The raw rows that no bucket has yet.
    raw: Option<Reading<'a>>,
    /// Those behind this count, those before are only stepped from.
    raw_from: u64,
    is_per_step: bool,
    /// Series are added up: they are not in the answer.
    is_added_up: bool,
}

/// The lanes that an aggregate is made of.
fn lanes_for(aggregate: Aggregate) -> &'static [Lane] {
    match aggregate {
        Aggregate::Min => &[Lane::Min],
        Aggregate::Max => &[Lane::Max],
        Aggregate::Avg => &[Lane::Avg, Lane::Count],
        Aggregate::Last => &[Lane::Last],
        Aggregate::Count => &[Lane::Count],
        Aggregate::Increase | Aggregate::Rate => &[Lane::Increase],
        Aggregate::MaxRate => &[Lane::MaxRate],
    }
}

/// A lane that no kind of column lacks stands for one that this kind lacks.
const NO_LANE: u32 = u32::MAX;

impl<'a> Job<'a> {
    fn new(
        ask: &Rollup<'_>,
        tier: Tier,
        view: &'a View,
        meant: &'a Meant,
        steps: &'a Steps,
    ) -> Job<'a> {
        let range = steps.range();
        let is_tier = tier != Tier::Raw;
        let segments = view
            .shelf
            .of(tier)
            .filter(|listed| is_tier && listed.overlaps(range.start, range.end));
        let raw_from = covered(&view.shelf, tier).max(range.start);
        let back = raw_from.saturating_sub(LOOK_BACK_MS);
        let raw = raw_from < range.end;
        Job {
            aggregate: ask.aggregate,
            steps,
            meant,
            tier,
            shelf: &view.shelf,
            segments: segments.cloned().collect(),
            lanes: lanes_of(meant, ask.aggregate),
            raw: raw.then(|| Reading::new(view, meant, back..range.end)),
            raw_from,
            is_per_step: !is_tier,
            is_added_up: ask.across.is_some(),
        }
    }

    /// What cannot be read at all. A raw segment that is lost or was damaged
    /// when its day was compacted is missing in roll-ups too.
    fn lost(&self) -> Vec<Missing> {
        let range = self.steps.range();
        let is_tier = self.tier != Tier::Raw;
        let mut missing = lost(&self.segments, &range);
        let raw = self.shelf.of(Tier::Raw);
        let raw: Vec<Arc<Listed>> = raw
            .filter(|listed| listed.overlaps(range.start, range.end))
            .cloned()
            .collect();
        missing.extend(lost(&raw, &range));
        let set_aside = raw.iter().filter(|listed| listed.quarantined);
        let in_buckets =
            set_aside.filter(|listed| is_tier && listed.row.summary.from < self.raw_from);
        missing.extend(
            in_buckets
                .filter(|listed| listed.segment().is_some())
                .map(|listed| {
                    let path = listed.path.display();
                    Missing {
                        from: Timestamp(listed.row.summary.from),
                        until: Timestamp(listed.row.summary.until),
                        why: format!("blocks of {path} were damaged when its day was rolled up"),
                    }
                }),
        );
        missing
    }

    /// The frames of one group.
    fn group(
        &self,
        group: &ViewGroup,
        reader: &mut Reader,
        limits: &Limits,
    ) -> Result<Vec<Frame>, QueryError> {
        let mut folds = Folds::default();
        self.fold_segments(group, reader, limits, &mut folds)?;
        if let Some(raw) = &self.raw {
            let mut before = Before::default();
            raw.gather(group, reader, &mut |gathered| {
                self.fold_rows(gathered, &mut before, limits, &mut folds)
            })?;
        }
        let mut list = folds.list;
        list.retain(|(_, fold)| fold.has_values);
        limits.add_series(list.len())?;
        sort(&mut list, |(key, _)| key);
        let mut frames = Vec::with_capacity(list.len());
        for (key, fold) in list {
            frames.push(Frame {
                of: Some((group.key, key)),
                values: fold.values(self.aggregate),
            });
        }
        Ok(frames)
    }

    fn fold_segments(
        &self,
        group: &ViewGroup,
        reader: &mut Reader,
        limits: &Limits,
        folds: &mut Folds,
    ) -> Result<(), QueryError> {
        let range = self.steps.range();
        for segment in self.segments.iter().filter_map(|listed| listed.segment()) {
            for entry in segment.of(group.number) {
                if entry.from < range.end && entry.until >= range.start {
                    self.fold_block(segment, entry, reader, limits, folds)?;
                }
            }
        }
        Ok(())
    }

    /// Makes room for a series that has its first value, if its steps may be in
    /// the answer, or in memory until all are added up.
    fn begin(&self, fold: &mut Fold, open: &mut usize, limits: &Limits) -> Result<(), QueryError> {
        if !fold.values.is_empty() {
            return Ok(());
        }
        let steps = self.steps.count;
        if self.is_added_up {
            *open += steps;
            if *open > ADDED_UP_AT_ONCE {
                let limit = ADDED_UP_AT_ONCE;
                return Err(QueryError::TooManyPoints { limit });
            }
        } else {
            limits.add_points(steps)?;
        }
        fold.values = vec![f64::NAN; steps];
        Ok(())
    }

    fn fold_block(
        &self,
        segment: &Segment,
        entry: &Entry,
        reader: &mut Reader,
        limits: &Limits,
        folds: &mut Folds,
    ) -> Result<(), QueryError> {
        let Some(lanes) = self.lanes.get(&entry.columns) else {
            return Ok(());
        };
        let real: Vec<u32> = lanes
            .iter()
            .copied()
            .filter(|lane| *lane != NO_LANE)
            .collect();
        let Some(part) = reader.entry(segment, entry, Wanted::Places(&real)) else {
            return Ok(());
        };
        let slots = folds.slots(entry.columns, self.meant);
        let steps: Vec<Option<usize>> = part.times.iter().map(|at| self.steps.place(*at)).collect();
        let of_each = lanes_for(self.aggregate).len();
        let width = Duration::from_millis(self.tier.bucket_ms().unwrap_or(0)).as_secs_f64();
        let mut read = 0;
        for (slot, lanes) in slots.iter().zip(lanes.chunks(of_each)) {
            if lanes.contains(&NO_LANE) {
                continue;
            }
            let fold = &mut folds.list[*slot].1;
            let mut values = part.column(read).iter().zip(&steps);
            if values.any(|(value, step)| !value.is_nan() && step.is_some()) {
                self.begin(fold, &mut folds.open, limits)?;
                fold.add_column(self.aggregate, &part, read, width, &steps);
            }
            read += of_each;
        }
        Ok(())
    }

    /// Rows that are in no bucket yet.
    fn fold_rows(
        &self,
        gathered: &Gathered,
        before: &mut Before,
        limits: &Limits,
        folds: &mut Folds,
    ) -> Result<(), QueryError> {
        let (width, shift) = match self.tier.bucket_ms() {
            Some(width) => (width, 0),
            None => (self.steps.step, self.steps.from % self.steps.step),
        };
        // buckets begin at whole multiples; steps begin where they were asked to
        let moved: Vec<u64>;
        let times = match shift {
            0 => &gathered.times,
            _ => {
                moved = gathered
                    .times
                    .iter()
                    .map(|at| at.saturating_sub(shift))
                    .collect();
                &moved
            }
        };
        let mut buckets: Vec<Bucket> = Vec::new();
        for (place, series) in gathered.series.iter().enumerate() {
            buckets.clear();
            let last = before.values.get(place).copied().unwrap_or(f64::NAN);
            let goes_on = |row: usize| {
                let row = u32::try_from(row).unwrap_or(u32::MAX);
                series.broken.binary_search(&row).is_err()
            };
            let kind: MetricKind = series.key.kind;
            buckets_of(
                kind,
                width,
                before.at.map(|at| (at.saturating_sub(shift), last)),
                times,
                &series.values,
                &goes_on,
                &mut buckets,
            );
            let slot = folds.slot(&series.key);
            let fold = &mut folds.list[slot].1;
            let lane = lanes_for(self.aggregate)[0];
            for bucket in &buckets {
                let at = bucket.at + shift;
                let is_new = at >= self.raw_from || self.is_per_step;
                let is_new = is_new && !bucket.lane(lane).is_nan();
                if let Some(place) = self.steps.place(at).filter(|_| is_new) {
                    self.begin(fold, &mut folds.open, limits)?;
                    fold.add_bucket(self.aggregate, bucket, place);
                }
            }
        }
        if let Some(at) = gathered.times.last() {
            let last = |series: &GatheredSeries| series.values.last().copied();
            let values = gathered
                .series
                .iter()
                .map(|one| last(one).unwrap_or(f64::NAN));
            before.at = Some(*at);
            before.values = values.collect();
        }
        Ok(())
    }
}

/// A group's last row of the piece of time before.
#[derive(Default)]
struct Before {
    at: Option<u64>,
    /// Of each series.
    values: Vec<f64>,
}

/// Steps times series of one group that are in memory until they are added up.
const ADDED_UP_AT_ONCE: usize = if cfg!(test) { 100_000 } else { 16_000_000 };

/// The lanes to read of every set of columns, [`lanes_for`] for each place.
fn lanes_of(meant: &Meant, aggregate: Aggregate) -> HashMap<u32, Vec<u32>> {
    let of_set = |(number, set): (&u32, &crate::registry::MeantSet)| {
        let lanes = Lanes::new(set.columns.series());
        let place = |place: u32, lane: Lane| {
            let found = lanes.place(place as usize, lane);
            found
                .and_then(|lane| u32::try_from(lane).ok())
                .unwrap_or(NO_LANE)
        };
        let wanted = lanes_for(aggregate);
        let places = set.places.iter();
        let all = places.flat_map(|column| wanted.iter().map(move |lane| (*column, *lane)));
        (
            *number,
            all.map(|(column, lane)| place(column, lane)).collect(),
        )
    };
    meant.sets.iter().map(of_set).collect()
}

/// The series of one group, each by steps.
#[derive(Default)]
struct Folds {
    list: Vec<(SeriesKey, Fold)>,
    by_set: HashMap<u32, Arc<[usize]>>,
    by_key: HashMap<SeriesKey, usize>,
    /// Steps times series that have values.
    open: usize,
}

impl Folds {
    fn slot(&mut self, key: &SeriesKey) -> usize {
        if let Some(slot) = self.by_key.get(key) {
            return *slot;
        }
        self.list.push((key.clone(), Fold::default()));
        self.by_key.insert(key.clone(), self.list.len() - 1);
        self.list.len() - 1
    }

    /// The slot of each place that is meant.
    fn slots(&mut self, columns: u32, meant: &Meant) -> Arc<[usize]> {
        if let Some(slots) = self.by_set.get(&columns) {
            return Arc::clone(slots);
        }
        let Some(set) = meant.sets.get(&columns) else {
            return Arc::default();
        };
        let series = set.columns.series();
        let keys = set.places.iter().map(|place| &series[*place as usize]);
        let slots: Arc<[usize]> = keys.map(|key| self.slot(key)).collect();
        self.by_set.insert(columns, Arc::clone(&slots));
        slots
    }
}

/// One series by steps, in the making.
#[derive(Default)]
struct Fold {
    values: Vec<f64>,
    /// With [`Aggregate::Avg`]: how many values are in each step. With
    /// [`Aggregate::Rate`]: how many seconds they were measured in.
    weights: Vec<f64>,
    has_values: bool,
}

impl Fold {
    fn add_bucket(&mut self, aggregate: Aggregate, bucket: &Bucket, step: usize) {
        let value = bucket.lane(lanes_for(aggregate)[0]);
        let weight = match aggregate {
            Aggregate::Rate => bucket.seconds,
            _ => bucket.count,
        };
        self.add(aggregate, value, weight, step);
    }

    /// Adds the buckets of a block: the `column`-th that was read of it has the
    /// values, of a mean the next one their weights. Each took `seconds`.
    fn add_column(
        &mut self,
        aggregate: Aggregate,
        part: &Part,
        column: usize,
        seconds: f64,
        steps: &[Option<usize>],
    ) {
        let values = part.column(column);
        let weights = if aggregate == Aggregate::Avg {
            part.column(column + 1)
        } else {
            &[]
        };
        for (row, (value, step)) in values.iter().zip(steps).enumerate() {
            if let Some(step) = step {
                let weight = weights.get(row).copied().unwrap_or(seconds);
                self.add(aggregate, *value, weight, *step);
            }
        }
    }

    #[inline]
    fn add(&mut self, aggregate: Aggregate, value: f64, weight: f64, step: usize) {
        if value.is_nan() {
            return;
        }
        self.has_values = true;
        if aggregate == Aggregate::Avg {
            return self.weigh(value, weight, step);
        }
        if aggregate == Aggregate::Rate {
            self.weights.resize(self.values.len(), 0.0);
            self.weights[step] += weight;
        }
        let old = self.values[step];
        self.values[step] = match aggregate {
            Aggregate::Min => old.min(value),
            Aggregate::Max | Aggregate::MaxRate => old.max(value),
            Aggregate::Last | Aggregate::Avg => value,
            Aggregate::Count | Aggregate::Increase | Aggregate::Rate if old.is_nan() => value,
            Aggregate::Count | Aggregate::Increase | Aggregate::Rate => old + value,
        };
    }

    fn weigh(&mut self, value: f64, weight: f64, step: usize) {
        self.weights.resize(self.values.len(), 0.0);
        let before = self.weights[step];
        let both = before + weight;
        self.weights[step] = both;
        self.values[step] = match before > 0.0 {
            true => self.values[step] * (before / both) + value * (weight / both),
            false => value,
        };
    }

    fn values(mut self, aggregate: Aggregate) -> Vec<f64> {
        if aggregate == Aggregate::Rate {
            for (value, seconds) in self.values.iter_mut().zip(&self.weights) {
                *value /= seconds;
            }
        }
        self.values
    }
}

/// All series by steps.
struct Total {
    sums: Vec<f64>,
    least: Vec<f64>,
    greatest: Vec<f64>,
    counts: Vec<f64>,
}

impl Total {
    fn new(steps: usize) -> Total {
        Total {
            sums: vec![0.0; steps],
            least: vec![f64::NAN; steps],
            greatest: vec![f64::NAN; steps],
            counts: vec![0.0; steps],
        }
    }

    fn add(&mut self, values: &[f64]) {
        for (step, value) in values.iter().enumerate() {
            if !value.is_nan() {
                self.sums[step] += value;
                self.least[step] = self.least[step].min(*value);
                self.greatest[step] = self.greatest[step].max(*value);
                self.counts[step] += 1.0;
            }
        }
    }

    fn frame(self, across: Across) -> Frame {
        let is_there = |step: usize| self.counts[step] > 0.0;
        let value = |step: usize| match across {
            _ if !is_there(step) => f64::NAN,
            Across::Sum => self.sums[step],
            Across::Avg => self.sums[step] / self.counts[step],
            Across::Min => self.least[step],
            Across::Max => self.greatest[step],
            Across::Count => self.counts[step],
        };
        Frame {
            of: None,
            values: (0..self.counts.len()).map(value).collect(),
        }
    }
}
