//! What the store says of itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Timestamp;
use segment::{Span, Tier};
use wal::NotDurable;

use crate::catalog::SegmentRow;
use crate::engine::{ForecastDays, Inner, SamplesHealth, SamplesStats, TierStats};
use crate::head::{Head, REFUSALS};
use crate::lock::lock;
use crate::retention;
use crate::rows::Piece;

impl Inner {
    pub(crate) fn stats(&self) -> SamplesStats {
        let wal = self.wal.stats();
        let counts = *lock(&self.counts);
        let quarantine = self.fs.list(&self.places().quarantine);
        let space = self.fs.space(&self.options.dir).ok();
        let head = lock(&self.head);
        let shelf = Arc::clone(&head.shelf);
        let (rows, samples, bytes) = held(&head);
        let words = REFUSALS.into_iter().zip(head.refused);
        let mut refused = [("", 0); 6];
        for (place, word) in refused.iter_mut().zip(words) {
            *place = word;
        }
        let mut stats = SamplesStats {
            tiers: Vec::new(),
            kinds: [(0, 0); 4],
            groups: head.groups.len(),
            active_series: head.active.max(head.active_before),
            head_rows: rows,
            head_samples: samples,
            head_bytes: bytes,
            appended: head.appended,
            refused,
            dropped: head.dropped,
            damaged: counts.damaged,
            quarantined: quarantine.map_or(0, |files| files.len()),
            expired: counts.expired,
            evicted: counts.evicted,
            cuts: counts.cuts,
            last_cut: counts.last_cut,
            compactions: counts.compactions,
            last_compaction: counts.last_compaction,
            health: match &wal.suspended {
                Some(why) => SamplesHealth::NotWriting(why.clone()),
                None if head.has_backlog() => SamplesHealth::NotWriting(NotDurable {
                    why: "what was kept in memory is not in a segment yet".into(),
                    full: false,
                }),
                None => SamplesHealth::Ok,
            },
            wal,
            replay: self.replay.clone(),
            replay_took: self.replay_took,
            forecast: ForecastDays::Unknown,
        };
        // nobody waits with a row for what follows
        drop(head);
        let rows = shelf.rows();
        stats.forecast = retention::forecast(&rows, &self.options.keep, space);
        count_segments(&rows, &mut stats);
        stats
    }
}

/// Rows, values and bytes of the head and of what is frozen.
fn held(head: &Head) -> (u64, u64, u64) {
    let pieces = || head.frozen.iter().flat_map(|frozen| frozen.pieces());
    let rows: usize = pieces().map(Piece::rows).sum();
    let samples: usize = pieces().map(Piece::samples).sum();
    let bytes: usize = pieces().map(Piece::bytes).sum();
    (
        head.held.rows + rows as u64,
        head.held.samples + samples as u64,
        (head.held.bytes + bytes) as u64,
    )
}

fn count_segments(rows: &[SegmentRow], stats: &mut SamplesStats) {
    let mut tiers: BTreeMap<(Tier, Span), TierStats> = BTreeMap::new();
    for row in rows {
        let summary = &row.summary;
        let tier = tiers.entry((summary.tier, summary.span)).or_default();
        tier.segments += 1;
        tier.bytes += summary.bytes;
        tier.rows += summary.rows;
        tier.samples += summary.samples;
        let from = Timestamp(summary.from);
        tier.oldest = Some(tier.oldest.map_or(from, |oldest| oldest.min(from)));
        tier.newest = tier.newest.max(Some(Timestamp(summary.until)));
        if summary.tier == Tier::Raw {
            for (sum, kind) in stats.kinds.iter_mut().zip(summary.kinds) {
                *sum = (sum.0 + kind.0, sum.1 + kind.1);
            }
        }
    }
    let tiers = tiers.into_iter();
    stats.tiers = tiers.map(|((tier, span), of)| (tier, span, of)).collect();
}
