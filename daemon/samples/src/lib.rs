//! The sample store: what was measured, for years, in little room.
//!
//! A poll's values share a timestamp and are a *row* of a *group* (a device and
//! a check). Rows are appended to a log and to the head in memory; once an hour
//! the head is cut into a segment for each UTC day that its rows touch; once a
//! day the day's segments are compacted into one and rolled up; once a month
//! its roll-ups become one segment each.
//!
//! What "stored" means, call by call, is in `DURABILITY.md` beside this crate,
//! and every line of it is tested.
//!
//! # On the disk
//!
//! | file | what |
//! |---|---|
//! | `wal/m-<number>.wal` | the log: the frames of the crate `wal`, which hold the records of `record.rs` |
//! | `seg/<number>.seg` | segments as the crate `segment` specifies them; one that the catalog does not list does not exist and is removed at a start |
//! | `seg/<number>.seg.tmp` | a segment that is being written; removed at a start |
//! | `quarantine/<number>.seg` | a listed segment that is damaged: read where it can be, named in answers, unlinked when it expires |
//!
//! # Order of changes
//!
//! A cut takes the head's rows and turns the log to a new file in one moment,
//! writes and syncs the segments, names them and syncs their directory; then
//! one change of the catalog lists them and moves the checkpoint; then the old
//! log goes. A compaction lists what it wrote and forgets its sources in one
//! change; then their files go. A change that the catalog did not confirm may
//! have happened: the very same one is tried until it is confirmed, and nothing
//! else before. Numbers of groups and columns are in the log before the first
//! row that uses them, and in the catalog with the first segment.
//!
//! # Readers
//!
//! A reader takes the list of segments, what is frozen and the asked part of
//! the head in one moment under the head's lock and reads without it. Rows are
//! merged by time; of two of one instant the one that was stored first stays;
//! a row whose predecessor was stored later than itself breaks all counters.

mod catalog;
mod compaction;
mod cut;
mod engine;
mod files;
mod head;
mod keeper;
mod limits;
mod lock;
mod maintain;
mod open;
mod query;
mod read;
mod record;
mod registry;
mod replay;
mod retention;
mod rollup;
mod rows;
mod shelf;
mod stats;
#[cfg(test)]
mod tests;

pub use catalog::{
    Catalog, CatalogChange, CatalogError, CatalogState, GroupRecord, SegmentName, SegmentRow,
};
pub use engine::{
    Append, Appended, ForecastDays, Keep, OpenError, Options, Refused, Samples, SamplesHealth,
    SamplesStats, Snapshot, Ticket, TierStats,
};
pub use query::{
    Across, Aggregate, Frame, Frames, Missing, Point, QueryError, Rollup, Select, Selected,
    SelectedSeries, Source,
};
pub use segment::{Span, Tier};
pub use series::{Matcher, MatcherKind, NotASelector, Selector};
pub use wal::NotDurable;
pub use wal::fs;
