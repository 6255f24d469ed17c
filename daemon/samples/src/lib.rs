//! The sample store: what was measured, for years, in little room.
//!
//! A poll's values share a timestamp and are a *row* of a *group* (a device and
//! a check). Rows are appended to a log and to the head in memory; once an hour
//! the head is cut into a segment; once a day the day's segments are compacted
//! into one and rolled up.

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
