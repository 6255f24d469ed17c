//! The sample store: what was measured, for years, in little room.
//!
//! A poll's values share a timestamp and are a *row* of a *group* (a device and
//! a check). Rows are appended to a log and to the head in memory; once an hour
//! the head is cut into a segment; once a day the day's segments are compacted
//! into one and rolled up.

mod catalog;
mod engine;
mod query;

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
