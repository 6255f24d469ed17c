//! The segments that are listed: a list that is swapped as a whole, so that
//! readers never wait.

use std::path::PathBuf;
use std::sync::Arc;

use segment::{Segment, Span, Tier};

use crate::catalog::{SegmentName, SegmentRow};
use crate::limits::DAY_MS;

/// A segment that the catalog lists.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) row: SegmentRow,
    pub(crate) content: Content,
    /// It lies in quarantine: it is read, but never compacted again.
    pub(crate) quarantined: bool,
    pub(crate) path: PathBuf,
}

/// What can be had of a listed segment.
#[derive(Debug)]
pub(crate) enum Content {
    Open(Arc<Segment>),
    /// Nothing; why.
    Lost(String),
}

impl Listed {
    /// Whether rows of it may lie in these times.
    pub(crate) fn overlaps(&self, from: u64, until: u64) -> bool {
        self.row.summary.from < until && self.last() >= from
    }

    /// The end of its last row: of a roll-up, that of its bucket.
    pub(crate) fn last(&self) -> u64 {
        let width = self.row.summary.tier.bucket_ms().unwrap_or(1);
        self.row.summary.until.saturating_add(width - 1)
    }

    pub(crate) fn segment(&self) -> Option<&Arc<Segment>> {
        match &self.content {
            Content::Open(segment) => Some(segment),
            Content::Lost(_) => None,
        }
    }

    pub(crate) fn is(&self, tier: Tier, span: Span) -> bool {
        self.row.summary.tier == tier && self.row.summary.span == span
    }

    /// The UTC day of its first row, in days since 1970.
    pub(crate) fn day(&self) -> u64 {
        self.row.summary.from / DAY_MS
    }

    /// Whether all of its rows are of one UTC day.
    pub(crate) fn is_of_one_day(&self) -> bool {
        self.day() == self.row.summary.until / DAY_MS
    }
}

/// All of them: by tier, by day, and within a day in the order in which their
/// rows were stored.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) segments: Vec<Arc<Listed>>,
}

impl Shelf {
    pub(crate) fn new(mut segments: Vec<Arc<Listed>>) -> Shelf {
        segments.sort_by_key(|listed| {
            let summary = &listed.row.summary;
            let was_cut = summary.span == Span::Fresh;
            (summary.tier, listed.day(), was_cut, listed.row.name)
        });
        Shelf { segments }
    }

    /// This list with some more and without others.
    pub(crate) fn changed(&self, more: &[Arc<Listed>], without: &[SegmentName]) -> Shelf {
        let keep = |listed: &&Arc<Listed>| {
            let name = listed.row.name;
            !without.contains(&name) && !more.iter().any(|new| new.row.name == name)
        };
        let kept = self.segments.iter().filter(keep);
        Shelf::new(kept.chain(more).cloned().collect())
    }

    /// Those of a tier.
    pub(crate) fn of(&self, tier: Tier) -> impl Iterator<Item = &Arc<Listed>> {
        let is_of = move |listed: &&Arc<Listed>| listed.row.summary.tier == tier;
        self.segments.iter().filter(is_of)
    }

    /// Their rows.
    pub(crate) fn rows(&self) -> Vec<SegmentRow> {
        let row = |listed: &Arc<Listed>| listed.row.clone();
        self.segments.iter().map(row).collect()
    }
}
