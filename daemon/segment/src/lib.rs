//! Immutable files of samples: written once, checksummed, never changed.
//!
//! A segment is written under a temporary name, synced, renamed, and exists
//! only once the catalog lists it.

mod compact;
mod lanes;
mod reader;
mod writer;

use std::io;
use std::path::PathBuf;

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
