//! Roll-ups of a run of rows, column by column.

use codec::{ColumnsRef, Effort, Scratch};
use model::{Breaks, MetricKind};

use crate::lanes::{
    Bucket, Lane, Lanes, Slot, Steps, counter_bucket, gauge_bucket, lanes_of, six_digits, slots_of,
};

/// The roll-up of a run of rows with the same columns. The rows come in pieces
/// one behind the other, and in each column by column.
pub(crate) struct Roll {
    width_ms: u64,
    /// The first instants of the run's buckets.
    times: Vec<u64>,
    /// The lanes, one behind the other.
    lanes: Vec<f64>,
    /// The buckets that the rows at hand are in, and the place of the first.
    slots: Vec<Slot>,
    first: usize,
}

impl Roll {
    /// That of rows of these times into buckets of this width.
    pub(crate) fn new(width_ms: u64, run: &[u64], lanes: &Lanes) -> Roll {
        let slots = slots_of(width_ms, run);
        let times: Vec<u64> = slots.iter().map(|slot| slot.at).collect();
        Roll {
            width_ms,
            lanes: vec![f64::NAN; times.len() * lanes.width()],
            times,
            slots: Vec::new(),
            first: 0,
        }
    }

    /// The rows that come now.
    pub(crate) fn begin(&mut self, times: &[u64]) {
        self.slots = slots_of(self.width_ms, times);
        let at = self.slots.first().map_or(0, |slot| slot.at);
        self.first = self.times.partition_point(|time| *time < at);
    }

    /// Takes a gauge's values, whose first lane stands at `lane`.
    pub(crate) fn gauge(&mut self, lane: usize, values: &[f64]) {
        for place in 0..self.slots.len() {
            if let Some(bucket) = gauge_bucket(&self.slots[place], values) {
                self.put(lane, place, bucket, lanes_of(MetricKind::Gauge));
            }
        }
    }

    /// Takes a counter's steps.
    pub(crate) fn counter(&mut self, lane: usize, steps: &Steps) {
        for place in 0..self.slots.len() {
            if let Some(bucket) = counter_bucket(&self.slots[place], steps) {
                self.put(lane, place, bucket, lanes_of(MetricKind::Counter64));
            }
        }
    }

    fn put(&mut self, lane: usize, place: usize, bucket: Bucket, lanes: &[Lane]) {
        let count = self.times.len();
        let begin = lane * count + self.first + place;
        let whole = match place {
            // the rows before these may have begun it
            0 => get(&self.lanes[begin..], count, bucket.at, lanes).merge(bucket),
            _ => bucket,
        };
        for (step, lane) in lanes.iter().enumerate() {
            self.lanes[begin + step * count] = whole.lane(*lane);
        }
    }

    /// Appends the blocks, and where each ends.
    pub(crate) fn encode(
        mut self,
        columns: u32,
        layout: &Lanes,
        target: usize,
        scratch: &mut Scratch,
        out: &mut dyn FnMut(Vec<u8>),
    ) {
        let count = self.times.len();
        for lane in layout.rounded() {
            for value in &mut self.lanes[lane * count..(lane + 1) * count] {
                *value = six_digits(*value);
            }
        }
        let mut begin = 0;
        for times in self.times.chunks(target) {
            let rows = begin..begin + times.len();
            let values = match times.len() == count {
                true => std::mem::take(&mut self.lanes),
                false => {
                    let lanes = self.lanes.chunks_exact(count);
                    lanes
                        .flat_map(|lane| &lane[rows.clone()])
                        .copied()
                        .collect()
                }
            };
            let block = ColumnsRef {
                columns,
                width: layout.width(),
                times,
                values: &values,
                breaks: &[],
            };
            let mut bytes = Vec::new();
            codec::encode_columns(block, Effort::Fast, scratch, &mut bytes);
            out(bytes);
            begin += times.len();
        }
    }
}

/// The bucket whose lanes stand `stride` apart.
fn get(values: &[f64], stride: usize, at: u64, lanes: &[Lane]) -> Bucket {
    let mut bucket = Bucket::empty(at);
    for (step, lane) in lanes.iter().enumerate() {
        bucket.set(*lane, values[step * stride]);
    }
    bucket
}

/// Rows of buckets of which some are of the same instant, as one row each.
/// `values` lie lane by lane.
pub(crate) fn fold(times: &mut Vec<u64>, values: &mut Vec<f64>, layout: &Lanes) {
    if times.windows(2).all(|pair| pair[0] != pair[1]) {
        return;
    }
    let slots = slots_of(1, times);
    let count = times.len();
    let mut folded = vec![f64::NAN; slots.len() * layout.width()];
    for (kind, first) in layout.columns() {
        let lanes = lanes_of(kind);
        for (place, slot) in slots.iter().enumerate() {
            let part = |row| get(&values[first * count + row..], count, slot.at, lanes);
            let whole = slot.rows.clone().map(part).reduce(Bucket::merge);
            let whole = whole.unwrap_or(Bucket::empty(slot.at));
            for (step, lane) in lanes.iter().enumerate() {
                folded[(first + step) * slots.len() + place] = whole.written(*lane);
            }
        }
    }
    *times = slots.iter().map(|slot| slot.at).collect();
    *values = folded;
}

/// Takes away the steps into rows that a counter did not go on into.
pub(crate) fn forget_broken(steps: &mut Steps, breaks: &[(u32, Breaks)], column: usize) {
    for (row, broken) in breaks {
        if !broken.spares(column) {
            steps.forget(*row as usize);
        }
    }
}
