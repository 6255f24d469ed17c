//! Rows of values as bytes: blocks of one poll group's rows, column by column.
//!
//! Pure: no I/O, no clock. Corrupt bytes are an error and never a panic.

mod bits;
mod block;
mod bytes;
mod column;
mod decimal;
mod dense;
mod ints;
mod times;

use column::ColumnScratch;
use ints::IntScratch;

pub use block::{Block, ColumnsRef, RowsRef, encode_columns, encode_rows};

/// The most rows of a block.
pub const MAX_ROWS: usize = 65_536;

/// The most values of a row.
pub const MAX_WIDTH: usize = 65_536;

/// How hard to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// For fresh blocks of an hour: our own bit-packing alone.
    Fast,
    /// At compaction, for long blocks: the smaller of our own and pco.
    Dense,
}

/// These bytes are not what an encoder wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Corrupt(pub &'static str);

/// Memory that calls use again and again.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Columns that were turned out of rows.
    turned: Vec<f64>,
    /// Encoded columns, one behind the other.
    data: Vec<u8>,
    /// The bytes of each.
    lengths: Vec<usize>,
    /// Encoded parts of the header.
    head: Vec<u8>,
    whole: Vec<u64>,
    ints: IntScratch,
    column: ColumnScratch,
}
