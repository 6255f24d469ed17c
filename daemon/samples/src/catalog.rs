//! What the catalog (redb, in the crate `store`) keeps for the sample store.

use std::sync::Arc;

use model::{Columns, GroupKey};
use segment::Summary;

/// A segment's number: its file is `<number, 8 digits>.seg`. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName(pub u64);

/// A segment that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRow {
    /// Which.
    pub name: SegmentName,
    /// What it holds.
    pub summary: Summary,
}

/// A group that has rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// Whose.
    pub key: GroupKey,
    /// What the owner wants to find again beside the newest row; opaque.
    pub note: Vec<u8>,
    /// Its data was deleted: it goes from the segments as they are compacted.
    pub gone: bool,
}

/// Everything that a start needs.
#[derive(Clone, Debug, Default)]
pub struct CatalogState {
    /// By number.
    pub groups: Vec<(u32, GroupRecord)>,
    /// By number.
    pub columns: Vec<(u32, Arc<Columns>)>,
    /// In any order.
    pub segments: Vec<SegmentRow>,
    /// The first log file that is still needed.
    pub checkpoint: u64,
    /// The next segment's number.
    pub next_segment: u64,
}

/// One change, in one transaction. Doing it twice is like doing it once.
#[derive(Clone, Debug, Default)]
pub struct CatalogChange {
    /// Put in the place of what has the number.
    pub groups: Vec<(u32, GroupRecord)>,
    /// Take away.
    pub forget_groups: Vec<u32>,
    /// Put.
    pub columns: Vec<(u32, Arc<Columns>)>,
    /// Take away.
    pub forget_columns: Vec<u32>,
    /// Put.
    pub segments: Vec<SegmentRow>,
    /// Take away.
    pub forget_segments: Vec<SegmentName>,
    /// Put, if given.
    pub checkpoint: Option<u64>,
    /// Put, if given.
    pub next_segment: Option<u64>,
}

/// The catalog did not take it, or may have: try again later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the catalog takes nothing: {why}")]
pub struct CatalogError {
    /// What it says.
    pub why: String,
    /// Whether the disk is full.
    pub full: bool,
}

/// Where [`CatalogState`] is kept.
pub trait Catalog: Send + Sync {
    /// On the disk when it returns. Blocks.
    ///
    /// # Errors
    ///
    /// [`CatalogError`].
    fn commit(&self, change: &CatalogChange) -> Result<(), CatalogError>;
}
