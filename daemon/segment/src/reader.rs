//! Reading a segment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use codec::{Block, Scratch};
use wal::fs::{File, Fs};

use crate::format::{self, FOOTER, Footer, HEADER, Refused};
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
pub struct Segment {
    file: Box<dyn File>,
    path: PathBuf,
    summary: Summary,
    entries: Vec<Entry>,
}

impl Segment {
    /// Opens a segment and verifies header, footer and index.
    ///
    /// # Errors
    ///
    /// See [`SegmentError`].
    pub fn open(fs: &Arc<dyn Fs>, path: &Path) -> Result<Segment, SegmentError> {
        let file = fs.open(path).map_err(SegmentError::io("open", path))?;
        let length = file.length().map_err(SegmentError::io("measure", path))?;
        let read = |offset, out: &mut [u8]| {
            let read = file.read_at(offset, out);
            read.map_err(SegmentError::io("read", path))
        };
        let refused = |why| SegmentError::refused(path, why);
        if length < (HEADER + FOOTER) as u64 {
            return Err(refused(Refused::Corrupt("it is too short".to_owned())));
        }
        let mut header = [0; HEADER];
        read(0, &mut header)?;
        let kind = format::read_header(&header).map_err(refused)?;
        let mut footer = [0; FOOTER];
        read(length - FOOTER as u64, &mut footer)?;
        let footer = Footer::read(&footer, length, kind).map_err(refused)?;
        let mut index = vec![0; usize::try_from(footer.index_length).unwrap_or(usize::MAX)];
        read(footer.index_at, &mut index)?;
        if crc32fast::hash(&index) != footer.summary.crc {
            let what = "the index's checksum is wrong".to_owned();
            return Err(refused(Refused::Corrupt(what)));
        }
        let entries = format::read_index(&index, &footer).map_err(refused)?;
        Ok(Segment {
            file,
            path: path.to_owned(),
            summary: footer.summary,
            entries,
        })
    }

    /// What it holds.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Its file when it was opened.
    #[must_use]
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// All blocks, by group and first row.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The blocks of one group, by their first row. Within a segment a
    /// group's blocks do not overlap in time, but where columns changed in
    /// mid bucket two blocks of a tier above raw may share one bucket.
    #[must_use]
    pub fn of(&self, group: u32) -> &[Entry] {
        let begin = self.entries.partition_point(|entry| entry.group < group);
        let behind = &self.entries[begin..];
        &behind[..behind.partition_point(|entry| entry.group == group)]
    }

    /// Reads a block's bytes into `out`, in the place of what was there. It is
    /// verified by `codec::Block::open`, not here.
    ///
    /// # Errors
    ///
    /// [`SegmentError::Io`].
    pub fn read(&self, entry: &Entry, out: &mut Vec<u8>) -> Result<(), SegmentError> {
        out.resize(entry.length as usize, 0);
        let read = self.file.read_at(entry.offset, out);
        read.map_err(SegmentError::io("read", &self.path))
    }

    /// Reads every block and verifies it against its checksum and its entry.
    ///
    /// # Errors
    ///
    /// See [`SegmentError`].
    pub fn verify(&self) -> Result<(), SegmentError> {
        let mut bytes = Vec::new();
        let mut scratch = Scratch::default();
        let mut times = Vec::new();
        for entry in &self.entries {
            self.read(entry, &mut bytes)?;
            open_block(&bytes, entry, &mut scratch, &mut times).map_err(|why| {
                let what = format!(
                    "the block of group {} at byte {}: {why}",
                    entry.group, entry.offset
                );
                SegmentError::refused(&self.path, Refused::Corrupt(what))
            })?;
        }
        Ok(())
    }
}

/// A block that is what its entry says, and its times, in the place of what was
/// in `times`.
pub(crate) fn open_block<'a>(
    bytes: &'a [u8],
    entry: &Entry,
    scratch: &mut Scratch,
    times: &mut Vec<u64>,
) -> Result<Block<'a>, String> {
    let block = Block::open(bytes).map_err(|corrupt| corrupt.to_string())?;
    times.clear();
    block
        .times(scratch, times)
        .map_err(|corrupt| corrupt.to_string())?;
    let ends = (times.first().copied(), times.last().copied());
    let is_so = block.columns() == entry.columns
        && block.rows() == entry.rows as usize
        && times.len() == block.rows()
        && ends == (Some(entry.from), Some(entry.until));
    match is_so {
        true => Ok(block),
        false => Err("it is not what the index says".to_owned()),
    }
}
