//! Rows of values as bytes: blocks of one poll group's rows, column by column.
//!
//! Pure: no I/O, no clock. Corrupt bytes are an error and never a panic, and
//! reading allocates for the rows that a block may have, whatever its bytes
//! claim. MEASURED.md, beside the sources, has sizes and speeds.
//!
//! # Format
//!
//! Ids below are for ever: each that was released is read by every later
//! version, and `tests/golden` has a block with it. A change to what an id
//! means is a new id; a change to the layout of blocks is a new version.
//!
//! A *varint* is an unsigned number of up to 64 bits, seven bits a byte, the
//! lowest first; the top bit of a byte says that more follow. A *zigzag* is a
//! varint for numbers of either sign: 0, -1, 1, -2, 2 are 0, 1, 2, 3, 4. What
//! has a fixed length is little-endian. Integers are 64 bits and wrap.
//!
//! ## Block
//!
//! | Bytes | What |
//! |---|---|
//! | 1 | version: 1 |
//! | varint | number of the set of columns, 32 bits |
//! | varint | rows, 1 to [`MAX_ROWS`] |
//! | varint | width: columns, 0 to [`MAX_WIDTH`] |
//! | varint, bytes | how many bytes of times, and they |
//! | varint, bytes | how many bytes of breaks, and they |
//! | 8 for each of columns 32, 64, 96 ... | a mark: u32, where the column's length stands in the table; u32, where its bytes begin behind the table |
//! | varint, bytes | how many bytes of the table, and they: a varint for each column, the length of its bytes |
//! | rest | the columns, one behind the other |
//! | 4 | CRC-32 (ISO-HDLC, as in zlib) of all before it |
//!
//! **Times**: a varint, the step in milliseconds; then integers, how far row
//! `k` is behind `k` steps. The sum is milliseconds since 1970 and rises
//! strictly.
//!
//! **Breaks**, rising by row, until their bytes end: a varint, rows between
//! the one before and this; a varint, how many columns, 0 for all; then as
//! many zigzags, the difference of each column from the one before (the first
//! from 0). Columns stand in the order in which they were given.
//!
//! ## Column
//!
//! No bytes at all: no row has a value. Otherwise one byte of id:
//!
//! | Id | What follows |
//! |---|---|
//! | 0 to 6 | integers; a value is an integer divided by 10 to the power of the id |
//! | 0 and the end | all values are +0.0 |
//! | 7 | integers: the bits of each `f64` |
//! | 8 | values as pco writes `f64` |
//! | + 0x40 | first, which rows have a value; only those follow |
//!
//! The exponent is the smallest with which every value comes back bit by bit:
//! -0.0, infinities and fractions of more than six digits make a column raw.
//! NaN is always "no value"; its bits are not kept.
//!
//! **Which rows**: a varint, how many runs. With 0 a bitmap follows, of one
//! bit a row, the lowest first, zeros behind the last row. Otherwise as many
//! varints, lengths of runs: rows with a value (maybe 0 of them), rows
//! without, rows with ...; the last run is not among them and goes on to the
//! end.
//!
//! ## Integers
//!
//! How many there are follows from the rows. One byte of id:
//!
//! | Id | What follows | The integers |
//! |---|---|---|
//! | 0 | zigzag *a* | all are *a* |
//! | 1 | zigzag *a*, packed *r* | *a* + *r* |
//! | 2 | zigzag *a*, zigzag *d*, packed *r* of all but the first | *a*, then each the one before + *d* + *r* |
//! | 3 | zigzag *a*, packed *r* of all but the first | *a*, then each the one before + unzigzagged *r* |
//! | 4 | zigzag *a*, zigzag *d*, packed *r* of all but the first two | *a*, *a* + *d*, then steps that change by unzigzagged *r* |
//! | 5 | `u64` as pco writes them | each with its top bit turned over |
//! | 0x80 | zigzag *a*, varint *g*, one byte of id 0 to 5 and what follows it | *a* + *g* times those |
//!
//! **Packed** are unsigned integers: one byte, the width in bits (0 to 64); a
//! varint, how many need more bits than that; for each of those two varints,
//! how many integers lie between it and the one before, and its bits above
//! the width; then the low bits of all, the width of each, the lowest bit of
//! the first in the lowest bit of the first byte, the last byte filled up with
//! zeros.
//!
//! **As pco writes them** is pco's wrapped format up to the end of the column
//! (of the times): its header (two bytes, the first is 4), the metadata of one
//! chunk, one page. Its modes are classic, multiples of an integer or of a
//! float, and quantised floats; deltas are none or consecutive. A dictionary,
//! looking back and convolution are refused: they allocate by what bytes
//! claim.

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

/// The most values of a row: a row of a poll has up to 65,536, and roll-ups
/// keep up to five for each of them.
pub const MAX_WIDTH: usize = 5 * 65_536;

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
