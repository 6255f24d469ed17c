//! Samples: rows as they come, chunks of them later.
//!
//! One poll's values are a row. The newest rows of a track lie one by one in
//! the table `row`; once there are enough, all but the newest two move into a
//! chunk, column by column. Each row and each chunk knows the time of the row
//! before it, so a reader notices one that is gone.

pub(crate) mod bytes;
pub(crate) mod chunk;
pub(crate) mod columns;
pub(crate) mod number;
pub(crate) mod pieces;
pub(crate) mod row;
pub(crate) mod select;
pub(crate) mod write;
