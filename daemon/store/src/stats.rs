//! What the store says of itself.

use std::time::Duration;

use ::samples::{SamplesStats, Tier};
use model::Timestamp;

/// Upper bounds, in seconds, of a commit's time: from a fast disk to one that
/// hangs.
const BOUNDS: [f64; 12] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
];

/// How often which spans of time were seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    counts: [u64; BOUNDS.len()],
    sum: f64,
    count: u64,
}

impl Histogram {
    pub(crate) fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.sum += seconds;
        self.count += 1;
        for (bound, count) in BOUNDS.iter().zip(&mut self.counts) {
            *count += u64::from(seconds <= *bound);
        }
    }

    pub(crate) fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            buckets: BOUNDS.into_iter().zip(self.counts).collect(),
            sum: self.sum,
            count: self.count,
        }
    }
}

/// A histogram as Prometheus has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramSnapshot {
    /// Upper bound in seconds, and how many took at most that long.
    pub buckets: Vec<(f64, u64)>,
    /// Seconds in all.
    pub sum: f64,
    /// How many.
    pub count: u64,
}

/// Whether the disk takes what comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreHealth {
    /// It does.
    Ok,
    /// It does not: polls are kept in memory, within a bound, and written when
    /// it does again.
    NotWriting {
        /// Since when, by the newest report's or change's time.
        since: Timestamp,
        /// What the disk says, and what to do.
        error: String,
    },
}

/// What the store says of itself.
#[derive(Clone, Debug)]
pub struct StoreStats {
    /// What the file takes on the disk, without the samples.
    pub file_bytes: u64,
    /// Transactions that reached the disk since the start.
    pub commits: u64,
    /// How long they took.
    pub commit_seconds: HistogramSnapshot,
    /// Poll reports that wait for the writer, places taken beforehand included.
    pub queue_len: usize,
    /// As many can wait.
    pub queue_limit: usize,
    /// Poll reports kept in memory because the disk takes none.
    pub backlog_reports: usize,
    /// Values dropped because that memory was full, since the start.
    pub backlog_dropped: u64,
    /// Polls' rows that are kept as they were measured.
    pub rows: u64,
    /// Values in them.
    pub values: u64,
    /// What the sample store says of itself.
    pub samples: SamplesStats,
    /// Reads that met damage since the start, in the samples too.
    pub corrupt_reads: u64,
    /// Deliveries that wait.
    pub open_outbox: usize,
    /// Deliveries that were refused for good.
    pub parked_outbox: usize,
    /// Lines of the audit log that were dropped because too many waited.
    pub audit_dropped: u64,
    /// Whether the disk takes what comes.
    pub health: StoreHealth,
}

/// Rows as they were measured, and the values in them.
pub(crate) fn raw_totals(samples: &SamplesStats) -> (u64, u64) {
    let raw = samples.tiers.iter().filter(|(tier, ..)| *tier == Tier::Raw);
    let head = (samples.head_rows, samples.head_samples);
    raw.fold(head, |(rows, values), (_, _, tier)| {
        (rows + tier.rows, values + tier.samples)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_what_took_at_most_that_long() {
        let mut histogram = Histogram::default();
        for ms in [1, 4, 9_000] {
            histogram.add(Duration::from_millis(ms));
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.buckets[0], (0.001, 1));
        assert_eq!(snapshot.buckets[2], (0.005, 2));
        assert_eq!(snapshot.buckets[11], (5.0, 2));
        assert_eq!(snapshot.count, 3);
    }
}
