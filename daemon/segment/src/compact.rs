//! Many segments into one, and roll-ups of them.

use std::path::PathBuf;
use std::sync::Arc;

use model::Columns;
use wal::fs::Fs;

use crate::{Segment, SegmentError, Span, Summary, Tier};

/// A file to be written.
#[derive(Clone, Debug)]
pub struct Output {
    /// Where (a temporary name).
    pub path: PathBuf,
    /// Which tier: that of the sources, or a coarser one of raw sources.
    pub tier: Tier,
    /// Its span.
    pub span: Span,
}

/// A group's last row before the sources begin, by series: what a counter's
/// first step is measured from.
pub type Previous<'a> = &'a dyn Fn(u32) -> Option<(u64, Arc<Columns>, Vec<f64>)>;

/// What is to become of some segments of one tier.
pub struct Compaction<'a> {
    /// Where files are.
    pub fs: Arc<dyn Fs>,
    /// Oldest first; of two rows of a group at one instant, that of the
    /// earlier source stays.
    pub sources: Vec<Arc<Segment>>,
    /// Rows outside of this (ms; the end excluded) are left out.
    pub range: std::ops::Range<u64>,
    /// Groups that are left out: their data was deleted.
    pub is_gone: &'a dyn Fn(u32) -> bool,
    /// The columns of this number.
    pub columns: &'a dyn Fn(u32) -> Option<Arc<Columns>>,
    /// See [`Previous`].
    pub previous: Previous<'a>,
    /// What is written.
    pub outputs: Vec<Output>,
    /// Asked between groups: whether to give up.
    pub stop: &'a dyn Fn() -> bool,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Compacted {
    /// For each output: what it holds; `None` if there was nothing for it.
    pub outputs: Vec<Option<Summary>>,
    /// Blocks that could not be read and are in none of the outputs: file,
    /// group, from, until and what is wrong. Whoever compacts keeps the file.
    pub damaged: Vec<(PathBuf, u32, u64, u64, String)>,
    /// [`Compaction::stop`] said so; nothing of it is to be used.
    pub stopped: bool,
}

/// Reads the sources group by group, merges rows by time, drops second ones of
/// an instant, and writes the outputs, raw ones with `codec::Effort::Dense`.
/// Memory: one group's rows. The files are synced, not renamed.
///
/// # Errors
///
/// [`SegmentError::Io`] of an output; those of a source are in
/// [`Compacted::damaged`].
pub fn compact(compaction: &Compaction<'_>) -> Result<Compacted, SegmentError> {
    let _ = compaction.range.start;
    unimplemented!()
}
