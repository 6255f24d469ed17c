//! Writing a segment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use codec::{Block, Scratch};
use model::MetricKind;
use wal::fs::{File, Fs};

use crate::format::{self, FOOTER, Footer, HEADER, IndexWriter};
use crate::{Entry, SegmentError, Span, Summary, Tier};

/// What is gathered before it is written: large enough that the system's part
/// of a write does not count.
const BUFFER: usize = 1 << 20;

/// A segment that is being written. Dropped before [`SegmentWriter::finish`],
/// it leaves a file that nobody lists.
#[derive(Debug)]
pub struct SegmentWriter {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    file: Box<dyn File>,
    buffer: Vec<u8>,
    /// Where the next block begins.
    offset: u64,
    index: IndexWriter,
    blocks: u32,
    /// The group and the first row of the newest block.
    newest: Option<(u32, u64)>,
    summary: Summary,
    scratch: Scratch,
    times: Vec<u64>,
}

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
        let file = fs.create(path).map_err(SegmentError::io("create", path))?;
        let mut buffer = Vec::with_capacity(BUFFER);
        buffer.extend(format::header(tier, span));
        Ok(SegmentWriter {
            fs: Arc::clone(fs),
            path: path.to_owned(),
            file,
            buffer,
            offset: HEADER as u64,
            index: IndexWriter::default(),
            blocks: 0,
            newest: None,
            summary: Summary {
                tier,
                span,
                from: u64::MAX,
                until: 0,
                rows: 0,
                samples: 0,
                bytes: 0,
                kinds: [(0, 0); 4],
                crc: 0,
            },
            scratch: Scratch::default(),
            times: Vec::new(),
        })
    }

    /// Adds a block that [`codec`] encoded. Blocks come by group, rising, and
    /// within a group by their first row. `kinds` are those of its columns, in
    /// order (of its lanes, in the tiers above raw).
    ///
    /// # Errors
    ///
    /// [`SegmentError::Io`]; the writer is of no more use then.
    ///
    /// # Panics
    ///
    /// If blocks do not come in order, or `block` is not one.
    pub fn push(
        &mut self,
        group: u32,
        block: &[u8],
        kinds: &mut dyn Iterator<Item = MetricKind>,
    ) -> Result<(), SegmentError> {
        let opened = Block::open(block).expect("what codec encoded is a block");
        let entry = self.entry(group, &opened, block.len());
        let order = (entry.group, entry.from);
        assert!(
            self.newest.is_none_or(|newest| newest <= order),
            "blocks of a segment come in order"
        );
        self.newest = Some(order);
        self.count(&entry, &opened, kinds);
        self.index.push(&entry);
        self.offset += u64::from(entry.length);
        self.blocks += 1;
        self.buffer.extend_from_slice(block);
        match self.buffer.len() >= BUFFER {
            true => self.write(),
            false => Ok(()),
        }
    }

    fn entry(&mut self, group: u32, block: &Block<'_>, length: usize) -> Entry {
        self.times.clear();
        block
            .times(&mut self.scratch, &mut self.times)
            .expect("what codec encoded has times");
        let end = "a block has rows, and less than 4 GiB";
        Entry {
            group,
            columns: block.columns(),
            rows: u32::try_from(block.rows()).expect(end),
            length: u32::try_from(length).expect(end),
            offset: self.offset,
            from: *self.times.first().expect(end),
            until: *self.times.last().expect(end),
        }
    }

    fn count(
        &mut self,
        entry: &Entry,
        block: &Block<'_>,
        kinds: &mut dyn Iterator<Item = MetricKind>,
    ) {
        let summary = &mut self.summary;
        let rows = u64::from(entry.rows);
        summary.from = summary.from.min(entry.from);
        summary.until = summary.until.max(entry.until);
        summary.rows += rows;
        summary.samples += rows * block.width() as u64;
        for (column, kind) in (0..block.width()).zip(kinds) {
            let (values, bytes) = &mut summary.kinds[kind as usize];
            *values += rows;
            *bytes += block.column_bytes(column) as u64;
        }
    }

    fn write(&mut self) -> Result<(), SegmentError> {
        let written = self.file.append(&self.buffer);
        self.buffer.clear();
        written.map_err(SegmentError::io("write", &self.path))
    }

    /// Writes index and footer and syncs the file. Renaming it and syncing the
    /// directory is the caller's. `None`: there was no block; the file is
    /// removed.
    ///
    /// # Errors
    ///
    /// [`SegmentError::Io`].
    pub fn finish(mut self) -> Result<Option<Summary>, SegmentError> {
        if self.blocks == 0 {
            let removed = self.fs.remove(&self.path);
            return match removed {
                Ok(()) => Ok(None),
                Err(error) => Err(SegmentError::io("remove", &self.path)(error)),
            };
        }
        let index_length = self.index.bytes.len() as u64;
        self.summary.crc = crc32fast::hash(&self.index.bytes);
        self.summary.bytes = self.offset + index_length + FOOTER as u64;
        let footer = Footer {
            index_at: self.offset,
            index_length,
            blocks: self.blocks,
            summary: self.summary.clone(),
        };
        self.buffer.append(&mut self.index.bytes);
        self.buffer.extend(footer.write());
        self.write()?;
        self.file
            .sync()
            .map_err(SegmentError::io("sync", &self.path))?;
        Ok(Some(self.summary))
    }
}
