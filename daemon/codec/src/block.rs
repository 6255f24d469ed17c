//! A block: a run of one group's rows with the same columns.

use model::Breaks;

use crate::{Corrupt, Effort, Scratch};

/// Rows as they were polled: one after the other.
#[derive(Clone, Copy, Debug)]
pub struct RowsRef<'a> {
    /// The number of the set of columns.
    pub columns: u32,
    /// Values of a row.
    pub width: usize,
    /// Milliseconds since 1970, rising strictly.
    pub times: &'a [u64],
    /// `times.len() * width` values, row by row; any NaN: not measured.
    pub values: &'a [f64],
    /// Where counters lost continuity before a row: the row's place, rising.
    pub breaks: &'a [(u32, Breaks)],
}

/// Rows that lie column by column.
#[derive(Clone, Copy, Debug)]
pub struct ColumnsRef<'a> {
    /// As in [`RowsRef`].
    pub columns: u32,
    /// As in [`RowsRef`].
    pub width: usize,
    /// As in [`RowsRef`].
    pub times: &'a [u64],
    /// `width * times.len()` values, column by column.
    pub values: &'a [f64],
    /// As in [`RowsRef`].
    pub breaks: &'a [(u32, Breaks)],
}

/// Appends a block with its checksum to `out`.
///
/// # Panics
///
/// If there are no rows, more than [`crate::MAX_ROWS`], more columns than
/// [`crate::MAX_WIDTH`], or values do not fit them.
pub fn encode_rows(rows: RowsRef<'_>, effort: Effort, scratch: &mut Scratch, out: &mut Vec<u8>) {
    let _ = (rows, effort, scratch, out);
    unimplemented!()
}

/// Like [`encode_rows`].
///
/// # Panics
///
/// As [`encode_rows`].
pub fn encode_columns(
    rows: ColumnsRef<'_>,
    effort: Effort,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) {
    let _ = (rows, effort, scratch, out);
    unimplemented!()
}

/// A block that was verified.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    bytes: &'a [u8],
}

impl<'a> Block<'a> {
    /// Verifies the checksum and the header of one whole block.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn open(bytes: &'a [u8]) -> Result<Block<'a>, Corrupt> {
        Ok(Block { bytes })
    }

    /// The number of the set of columns.
    #[must_use]
    pub fn columns(&self) -> u32 {
        let _ = self.bytes;
        unimplemented!()
    }

    /// Rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        unimplemented!()
    }

    /// Values of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        unimplemented!()
    }

    /// Appends the times, rising strictly, to `out`.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn times(&self, scratch: &mut Scratch, out: &mut Vec<u64>) -> Result<(), Corrupt> {
        let _ = (scratch, out);
        unimplemented!()
    }

    /// Appends the values of one column to `out`; `f64::NAN` where none was
    /// measured.
    ///
    /// # Errors
    ///
    /// [`Corrupt`], also where there is no such column.
    pub fn column(
        &self,
        column: usize,
        scratch: &mut Scratch,
        out: &mut Vec<f64>,
    ) -> Result<(), Corrupt> {
        let _ = (column, scratch, out);
        unimplemented!()
    }

    /// Where counters lost continuity, by row.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn breaks(&self) -> Result<Vec<(u32, Breaks)>, Corrupt> {
        unimplemented!()
    }
}
