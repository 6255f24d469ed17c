//! Writing a segment.

use std::path::Path;
use std::sync::Arc;

use model::MetricKind;
use wal::fs::Fs;

use crate::{SegmentError, Span, Summary, Tier};

/// A segment that is being written. Dropped before [`SegmentWriter::finish`],
/// it leaves a file that nobody lists.
#[derive(Debug)]
pub struct SegmentWriter {}

impl SegmentWriter {
    /// Begins a file at `path`, which must not be there.
    ///
    /// # Errors
    ///
    /// [`SegmentError::Io`].
    pub fn create(
        fs: &Arc<dyn Fs>,
        path: &Path,
        tier: Tier,
        span: Span,
    ) -> Result<SegmentWriter, SegmentError> {
        let _ = (fs, path, tier, span);
        unimplemented!()
    }

    /// Adds a block that [`codec`] encoded. Blocks come by group, rising, and
    /// within a group by their first row. `kinds` are those of its columns, in
    /// order (of its lanes, in the tiers above raw).
    ///
    /// # Errors
    ///
    /// [`SegmentError::Io`].
    ///
    /// # Panics
    ///
    /// If blocks do not come in order.
    pub fn push(
        &mut self,
        group: u32,
        block: &[u8],
        kinds: &mut dyn Iterator<Item = MetricKind>,
    ) -> Result<(), SegmentError> {
        let _ = (group, block, kinds);
        unimplemented!()
    }

    /// Writes index and footer and syncs the file. Renaming it and syncing the
    /// directory is the caller's. `None`: there was no block; the file is
    /// removed.
    ///
    /// # Errors
    ///
    /// [`SegmentError::Io`].
    pub fn finish(self) -> Result<Option<Summary>, SegmentError> {
        unimplemented!()
    }
}
