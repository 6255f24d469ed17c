//! A block: a run of one group's rows with the same columns.

use std::ops::Range;

use model::Breaks;

use crate::bytes::{Reader, put_varint, unzigzag, zigzag};
use crate::{Corrupt, Effort, MAX_ROWS, MAX_WIDTH, Scratch, column, times};

/// The layout of blocks that we write.
const VERSION: u8 = 1;

/// After how many columns their table tells where it stands, so that one
/// column is found without adding up all before it.
const STRIDE: usize = 32;

/// Bytes of that.
const MARK: usize = 8;

/// Rows that are turned at once: a column's values of them fill one line of
/// the processor's cache.
const LINE: usize = 8;

/// Values that are turned before they are encoded, about: more would not stay
/// in the processor's cache until then.
const TURNED: usize = 1 << 18;

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
/// [`crate::MAX_WIDTH`], or values do not fit them; if times or the rows of
/// breaks do not rise; if the block would be larger than 4 GiB.
pub fn encode_rows(rows: RowsRef<'_>, effort: Effort, scratch: &mut Scratch, out: &mut Vec<u8>) {
    let count = rows.times.len();
    check(count, rows.width, rows.values.len());
    let mut turned = std::mem::take(&mut scratch.turned);
    let step = (TURNED / count).max(LINE).min(rows.width.max(1));
    turned.resize(count * step, 0.0);
    scratch.begin();
    for first in (0..rows.width).step_by(step) {
        let columns = first..rows.width.min(first + step);
        let turned = &mut turned[..count * columns.len()];
        turn(&rows, columns, turned);
        for values in turned.chunks_exact(count) {
            scratch.add_column(values, effort);
        }
    }
    scratch.turned = turned;
    finish(rows.columns, rows.times, rows.breaks, effort, scratch, out);
}

/// Copies columns out of rows: reads some rows from their start to their end
/// and writes whole lines of the cache.
fn turn(rows: &RowsRef<'_>, columns: Range<usize>, turned: &mut [f64]) {
    let count = rows.times.len();
    let mut done = 0;
    let mut lines = rows.values.chunks_exact(rows.width * LINE);
    for line in &mut lines {
        let row = |i: usize| &line[i * rows.width..][columns.clone()];
        let [a, b, c, d, e, f, g, h]: [&[f64]; LINE] = std::array::from_fn(row);
        let ahead = a.iter().zip(b).zip(c).zip(d);
        let behind = e.iter().zip(f).zip(g).zip(h);
        let of_columns = ahead.zip(behind).zip(turned.chunks_exact_mut(count));
        for (((((a, b), c), d), (((e, f), g), h)), column) in of_columns {
            column[done..done + LINE].copy_from_slice(&[*a, *b, *c, *d, *e, *f, *g, *h]);
        }
        done += LINE;
    }
    for values in lines.remainder().chunks_exact(rows.width) {
        let values = &values[columns.clone()];
        for (value, column) in values.iter().zip(turned.chunks_exact_mut(count)) {
            column[done] = *value;
        }
        done += 1;
    }
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
    let count = rows.times.len();
    check(count, rows.width, rows.values.len());
    scratch.begin();
    for values in rows.values.chunks_exact(count) {
        scratch.add_column(values, effort);
    }
    finish(rows.columns, rows.times, rows.breaks, effort, scratch, out);
}

fn check(rows: usize, width: usize, values: usize) {
    assert!(rows > 0, "a block of no rows");
    assert!(rows <= MAX_ROWS, "a block of {rows} rows");
    assert!(width <= MAX_WIDTH, "a block of {width} columns");
    assert_eq!(values, rows * width, "values of a block of {rows} rows");
}

impl Scratch {
    fn begin(&mut self) {
        self.data.clear();
        self.lengths.clear();
    }

    fn add_column(&mut self, values: &[f64], effort: Effort) {
        let start = self.data.len();
        column::encode(values, effort, &mut self.column, &mut self.data);
        self.lengths.push(self.data.len() - start);
    }
}

fn finish(
    columns: u32,
    times: &[u64],
    breaks: &[(u32, Breaks)],
    effort: Effort,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) {
    let Scratch {
        head,
        data,
        lengths,
        whole,
        ints,
        ..
    } = scratch;
    let start = out.len();
    out.push(VERSION);
    put_varint(out, columns.into());
    put_varint(out, times.len() as u64);
    put_varint(out, lengths.len() as u64);
    head.clear();
    times::encode(times, effort, whole, ints, head);
    put_varint(out, head.len() as u64);
    out.extend_from_slice(head);
    head.clear();
    put_breaks(breaks, times.len(), head);
    put_varint(out, head.len() as u64);
    out.extend_from_slice(head);
    put_table(lengths, head, out);
    out.extend_from_slice(data);
    let sum = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&sum.to_le_bytes());
}

/// The lengths of the columns, and before them a mark for every
/// [`STRIDE`] of them but the first.
fn put_table(lengths: &[usize], table: &mut Vec<u8>, out: &mut Vec<u8>) {
    table.clear();
    let mut offset = 0;
    for (column, length) in lengths.iter().enumerate() {
        if column > 0 && column % STRIDE == 0 {
            out.extend_from_slice(&offset_bytes(table.len()));
            out.extend_from_slice(&offset_bytes(offset));
        }
        put_varint(table, *length as u64);
        offset += length;
    }
    offset_bytes(offset);
    put_varint(out, table.len() as u64);
    out.extend_from_slice(table);
}

fn offset_bytes(offset: usize) -> [u8; 4] {
    let offset = u32::try_from(offset).expect("a block is smaller than 4 GiB");
    offset.to_le_bytes()
}

fn put_breaks(breaks: &[(u32, Breaks)], rows: usize, out: &mut Vec<u8>) {
    let mut next = 0;
    for (row, breaks) in breaks {
        assert!(
            *row >= next && (*row as usize) < rows,
            "rows of breaks rise"
        );
        let broken: &[u32] = match breaks {
            Breaks::None => continue,
            Breaks::All => &[],
            Breaks::Columns(broken) if broken.is_empty() => continue,
            Breaks::Columns(broken) => broken,
        };
        put_varint(out, u64::from(row - next));
        put_varint(out, broken.len() as u64);
        let mut before = 0;
        for column in broken {
            put_varint(out, zigzag(u64::from(*column).wrapping_sub(before)));
            before = u64::from(*column);
        }
        next = row + 1;
    }
}

/// A block that was verified.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    columns: u32,
    rows: usize,
    width: usize,
    times: &'a [u8],
    breaks: &'a [u8],
    marks: &'a [u8],
    table: &'a [u8],
    data: &'a [u8],
}

impl<'a> Block<'a> {
    /// Verifies the checksum and the header of one whole block.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn open(bytes: &'a [u8]) -> Result<Block<'a>, Corrupt> {
        let (bytes, sum) = bytes
            .split_last_chunk()
            .ok_or(Corrupt("a block is longer than its checksum"))?;
        if crc32fast::hash(bytes) != u32::from_le_bytes(*sum) {
            return Err(Corrupt("the checksum of a block differs"));
        }
        let block = Block::read(&mut Reader::new(bytes))?;
        block.check_table()?;
        Ok(block)
    }

    fn read(from: &mut Reader<'a>) -> Result<Block<'a>, Corrupt> {
        if from.byte()? != VERSION {
            return Err(Corrupt("an unknown version of blocks"));
        }
        let columns = u32::try_from(from.varint()?).map_err(|_| Corrupt("no number of columns"))?;
        let rows = from.count(MAX_ROWS)?;
        if rows == 0 {
            return Err(Corrupt("a block of no rows"));
        }
        let width = from.count(MAX_WIDTH)?;
        let times = take_counted(from)?;
        let breaks = take_counted(from)?;
        let marks = from.take(width.saturating_sub(1) / STRIDE * MARK)?;
        let table = take_counted(from)?;
        let data = from.rest();
        Ok(Block {
            columns,
            rows,
            width,
            times,
            breaks,
            marks,
            table,
            data,
        })
    }

    /// That lengths and marks agree with each other and with what is there.
    fn check_table(&self) -> Result<(), Corrupt> {
        let (mut table, mut marks) = (Reader::new(self.table), Reader::new(self.marks));
        let mut offset = 0;
        for column in 0..self.width {
            if column > 0 && column % STRIDE == 0 {
                let read = self.table.len() - table.rest().len();
                if (marks.u32()? as usize, marks.u32()? as usize) != (read, offset) {
                    return Err(Corrupt("a mark in the table of columns is wrong"));
                }
            }
            offset += table.count(self.data.len() - offset)?;
        }
        if !table.is_empty() || offset != self.data.len() {
            return Err(Corrupt("the table of columns does not fit them"));
        }
        Ok(())
    }

    /// The number of the set of columns.
    #[must_use]
    pub fn columns(&self) -> u32 {
        self.columns
    }

    /// Rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Appends the times, rising strictly, to `out`.
    ///
    /// # Errors
    ///
    /// [`Corrupt`]; then `out` is as it was.
    pub fn times(&self, scratch: &mut Scratch, out: &mut Vec<u64>) -> Result<(), Corrupt> {
        let _ = scratch;
        times::decode(self.times, self.rows, out)
    }

    /// Appends the values of one column to `out`; `f64::NAN` where none was
    /// measured.
    ///
    /// # Errors
    ///
    /// [`Corrupt`], also where there is no such column; then `out` is as it
    /// was.
    pub fn column(
        &self,
        column: usize,
        scratch: &mut Scratch,
        out: &mut Vec<f64>,
    ) -> Result<(), Corrupt> {
        let bytes = self.find(column)?;
        column::decode(bytes, self.rows, &mut scratch.column, out)
    }

    /// How many bytes a column takes, without its share of times and header;
    /// 0 where nothing was measured or there is no such column.
    #[must_use]
    pub fn column_bytes(&self, column: usize) -> usize {
        self.find(column).map_or(0, <[u8]>::len)
    }

    fn find(&self, column: usize) -> Result<&'a [u8], Corrupt> {
        if column >= self.width {
            return Err(Corrupt("there is no such column"));
        }
        let (mut table, mut offset) = (Reader::new(self.table), 0);
        if let Some(mark) = (column / STRIDE).checked_sub(1) {
            let mut marks = Reader::new(self.marks);
            marks.take(mark * MARK)?;
            table.take(marks.u32()? as usize)?;
            offset = marks.u32()? as usize;
        }
        for _ in 0..column % STRIDE {
            offset += table.count(self.data.len())?;
        }
        let mut data = Reader::new(self.data);
        data.take(offset)?;
        data.take(table.count(self.data.len())?)
    }

    /// Where counters lost continuity, by row.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn breaks(&self) -> Result<Vec<(u32, Breaks)>, Corrupt> {
        let mut from = Reader::new(self.breaks);
        let mut breaks = Vec::new();
        let mut next = 0;
        while !from.is_empty() {
            let row = next + from.count(MAX_ROWS)?;
            if row >= self.rows {
                return Err(Corrupt("a break behind the last row"));
            }
            next = row + 1;
            let row = u32::try_from(row).map_err(|_| Corrupt("a break behind the last row"))?;
            breaks.push((row, read_broken(&mut from)?));
        }
        Ok(breaks)
    }
}

fn take_counted<'a>(from: &mut Reader<'a>) -> Result<&'a [u8], Corrupt> {
    let count = from.count(from.rest().len())?;
    from.take(count)
}

fn read_broken(from: &mut Reader<'_>) -> Result<Breaks, Corrupt> {
    // each takes a byte at least, so this allocates no more than is there
    let count = from.count(from.rest().len())?;
    if count == 0 {
        return Ok(Breaks::All);
    }
    let mut broken = Vec::with_capacity(count);
    let mut column = 0_u64;
    for _ in 0..count {
        column = column.wrapping_add(unzigzag(from.varint()?));
        broken.push(u32::try_from(column).map_err(|_| Corrupt("no number of a column"))?);
    }
    Ok(Breaks::Columns(broken))
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "damage_tests.rs"]
mod damage_tests;

#[cfg(test)]
#[path = "golden_tests.rs"]
mod golden_tests;
