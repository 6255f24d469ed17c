//! Immutable files of samples: written once, checksummed, never changed.
//!
//! A segment is written under a temporary name, synced, renamed, and exists
//! only once the catalog lists it. It has *blocks*, each a run of one group's
//! rows with the same columns (see [`codec`], which makes and verifies them),
//! of one [`Tier`]. Raw segments hold rows as they were polled; those of the
//! tiers above hold a row per bucket of time, with lanes instead of values
//! (see [`lanes_of`] and [`Lanes`]).
//!
//! # The file, format 1
//!
//! Numbers are little-endian and unsigned; CRC is CRC-32 (IEEE 802.3).
//!
//! ```text
//! header   20 bytes
//! blocks   back to back, the first right behind the header
//! index    right behind the last block
//! footer   132 bytes, the last of the file
//! ```
//!
//! **Header.** Its layout stays in later formats, so that a newer file can be
//! told from a damaged one.
//!
//! ```text
//!  0  8  magic: SOTPSEG1
//!  8  2  format: 1
//! 10  1  tier: 0 raw, 1 buckets of 15 minutes, 2 of an hour
//! 11  1  span: 0 fresh, 1 a UTC day, 2 a UTC month
//! 12  4  feature bits: none is defined
//! 16  4  CRC of bytes 0 to 15
//! ```
//!
//! A format above 1, a feature bit, a tier or a span that the reader does not
//! know, under a right CRC: a later version wrote it
//! ([`SegmentError::Newer`]), and nothing of it is used.
//!
//! **Blocks** are ordered by group and then by their first row; each carries
//! its own CRC. Who writes them sees to it that those of a group do not overlap
//! in time. In the tiers above raw the times are the first instants of buckets
//! since 1970, and where columns changed in mid bucket the last row of one
//! block and the first of the next have the same time: two parts of one bucket.
//! The values of such a block are lanes: column by column of the raw rows, and
//! within it in the order of [`lanes_of`]; the number of its set of columns is
//! that of the raw rows.
//!
//! **Index.** An entry per block, in their order. Six numbers each, as LEB128
//! (seven bits to a byte, lowest first, the top bit set where another byte
//! follows, at most 64 bits):
//!
//! ```text
//! group      minus that of the entry before
//! columns    minus that of the entry before, zigzag: the set's number
//! rows       1 to codec::MAX_ROWS
//! length     bytes of the block
//! from       minus that of the entry before, zigzag: first row's time, ms
//! duration   minus that of the entry before, zigzag: last row's time minus
//!            the first row's
//! ```
//!
//! "The entry before" the first one is all zeros. Zigzag maps a difference
//! modulo 2^64, read as signed, to (d << 1) ^ (d >> 63). A block begins where
//! the one before it ends.
//!
//! **Footer.**
//!
//! ```text
//!   0  8  where the index begins
//!   8  8  its bytes
//!  16  4  blocks, at least 1
//!  20  4  CRC of the index
//!  24  8  the first row's time in ms, of all blocks
//!  32  8  the last row's time
//!  40  8  rows
//!  48  8  samples: values (in the tiers above raw: lanes), absent ones too
//!  56 64  for counter32, counter64, gauge, state: 8 values, 8 the bytes of
//!         their columns
//! 120  4  CRC of bytes 0 to 119
//! 124  8  magic: SOTPSEGZ
//! ```
//!
//! # Errors
//!
//! [`Segment::open`] verifies all but the blocks: both magics, all CRCs, that
//! the parts make up the file's length, that the index's blocks are in order,
//! end where the index begins, and add up to what the footer says. What it
//! allocates is bounded by the length of the file. A block is verified by
//! [`codec::Block::open`] whenever it is read: damage to one costs its rows and
//! no others.

mod compact;
mod format;
mod gather;
mod lanes;
mod make;
mod reader;
mod rollup;
mod writer;

use std::io;
use std::path::{Path, PathBuf};

pub use compact::{Compacted, Compaction, Output, Previous, compact};
pub use lanes::{Bucket, Lane, Lanes, buckets_of, lanes_of};
pub use reader::{Entry, Segment};
pub use writer::SegmentWriter;

/// How finely a segment's rows follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// As they were polled.
    Raw,
    /// Buckets of 15 minutes.
    Quarter,
    /// Buckets of an hour.
    Hour,
}

impl Tier {
    /// Each, finest first.
    pub const ALL: [Tier; 3] = [Tier::Raw, Tier::Quarter, Tier::Hour];

    /// The width of a bucket in ms; `None` for raw rows.
    #[must_use]
    pub fn bucket_ms(self) -> Option<u64> {
        match self {
            Tier::Raw => None,
            Tier::Quarter => Some(15 * 60 * 1000),
            Tier::Hour => Some(60 * 60 * 1000),
        }
    }

    /// The word used in file names, in the API and in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Tier::Raw => "raw",
            Tier::Quarter => "15m",
            Tier::Hour => "1h",
        }
    }

    /// Its number on the disk.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Tier::Raw => 0,
            Tier::Quarter => 1,
            Tier::Hour => 2,
        }
    }

    /// The tier of this number.
    #[must_use]
    pub fn of_number(number: u8) -> Option<Tier> {
        Tier::ALL.into_iter().find(|tier| tier.number() == number)
    }
}

/// How far a segment was compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    /// What one cut of the head gave, or a migration.
    Fresh,
    /// A UTC day.
    Day,
    /// A UTC month.
    Month,
}

impl Span {
    /// The word used in file names and in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Span::Fresh => "fresh",
            Span::Day => "day",
            Span::Month => "month",
        }
    }

    /// Its number on the disk.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Span::Fresh => 0,
            Span::Day => 1,
            Span::Month => 2,
        }
    }

    /// The span of this number.
    #[must_use]
    pub fn of_number(number: u8) -> Option<Span> {
        let all = [Span::Fresh, Span::Day, Span::Month];
        all.into_iter().find(|span| span.number() == number)
    }
}

/// What a segment holds: the same in its footer and in the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How finely.
    pub tier: Tier,
    /// How far compacted.
    pub span: Span,
    /// The first row's time in ms.
    pub from: u64,
    /// The last row's time in ms.
    pub until: u64,
    /// Rows (of buckets, in the tiers above raw).
    pub rows: u64,
    /// Values, those not measured included; in the tiers above raw: lanes.
    pub samples: u64,
    /// What the file takes.
    pub bytes: u64,
    /// By kind of metric (the places of [`model::MetricKind`]'s variants):
    /// values and the bytes of their columns.
    pub kinds: [(u64, u64); 4],
    /// CRC-32 of the index; with the blocks' own it ties file and catalog.
    pub crc: u32,
}

/// Why a segment cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The system says so.
    #[error("cannot {doing} the segment {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Its bytes are not what was written.
    #[error("the segment {path} is damaged: {what}")]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong and where.
        what: String,
    },
    /// A later version wrote it, with something that this one does not know.
    #[error("the segment {path} was written by a newer version ({what})")]
    Newer {
        /// Which file.
        path: PathBuf,
        /// The format or the feature bits.
        what: String,
    },
}

impl SegmentError {
    /// What becomes of the system's answer.
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SegmentError {
        let path = path.to_owned();
        move |source| SegmentError::Io {
            doing,
            path,
            source,
        }
    }

    fn refused(path: &Path, why: format::Refused) -> SegmentError {
        let path = path.to_owned();
        match why {
            format::Refused::Corrupt(what) => SegmentError::Corrupt { path, what },
            format::Refused::Newer(what) => SegmentError::Newer { path, what },
        }
    }
}
