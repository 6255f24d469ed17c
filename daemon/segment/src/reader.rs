//! Reading a segment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wal::fs::Fs;

use crate::{SegmentError, Summary};

/// Where a block lies, and what it spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whose.
    pub group: u32,
    /// The number of its set of columns.
    pub columns: u32,
    /// Its rows.
    pub rows: u32,
    /// Its bytes.
    pub length: u32,
    /// Where it begins.
    pub offset: u64,
    /// Its first row's time in ms.
    pub from: u64,
    /// Its last row's time in ms.
    pub until: u64,
}

/// An open segment. Its index is in memory, its blocks are not. It stays
/// readable after the file was unlinked.
#[derive(Debug)]
pub struct Segment {}

impl Segment {
    /// Opens a segment and verifies header, footer and index.
    ///
    /// # Errors
    ///
    /// See [`SegmentError`].
    pub fn open(fs: &Arc<dyn Fs>, path: &Path) -> Result<Segment, SegmentError> {
        let _ = (fs, path);
        unimplemented!()
    }

    /// What it holds.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        unimplemented!()
    }

    /// Its file when it was opened.
    #[must_use]
    pub fn path(&self) -> &PathBuf {
        unimplemented!()
    }

    /// All blocks, by group and first row.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        unimplemented!()
    }

    /// The blocks of one group, by their first row. Within a segment a
    /// group's blocks do not overlap in time, but where columns changed in
    /// mid bucket two blocks of a tier above raw may share one bucket.
    #[must_use]
    pub fn of(&self, group: u32) -> &[Entry] {
        let _ = group;
        unimplemented!()
    }

    /// Reads a block's bytes into `out`, in the place of what was there. It is
    /// verified by `codec::Block::open`, not here.
    ///
    /// # Errors
    ///
    /// [`SegmentError::Io`].
    pub fn read(&self, entry: &Entry, out: &mut Vec<u8>) -> Result<(), SegmentError> {
        let _ = (entry, out);
        unimplemented!()
    }

    /// Reads every block and verifies it against its checksum and its entry.
    ///
    /// # Errors
    ///
    /// See [`SegmentError`].
    pub fn verify(&self) -> Result<(), SegmentError> {
        unimplemented!()
    }
}
