//! A run of a track's rows, column by column: what schema 2 kept history in.
//!
//! Head, not compressed: the distance in ms from the row before the first row
//! plus one (0: there is none), the count of rows, the distance from the first
//! row to the last, the bytes of the body before compression, the count of
//! spans; per span (rows in a row with the same columns) the columns' number,
//! the count of columns, the count of rows.
//!
//! Body, zstd: the times from the second row on, as signed differences of
//! their distances; the count of rows with breaks, each with its place and its
//! breaks; per span and column one byte, then the values of the column:
//!
//! | low 3 bits | values |
//! |---|---|
//! | 0 | one value (see [`super::number`]): all rows have it |
//! | 1 | mantissas: the first, then differences, signed |
//! | 2 | mantissas: the first, the first difference, then differences of differences, signed |
//! | 3 | bits, eight bytes each, exclusive-or with those before |
//!
//! Bit 3 says that a bitmap of the rows that were measured comes first, and
//! only these have values. The high 4 bits are the mantissas' decimal places.

use model::Breaks;

use super::number::{self, read_value};
use super::row::read_breaks;
use crate::bytes::{Garbled, Reader};
use crate::columns::MAX_COLUMNS;

/// Rows in a chunk: an hour at one a minute.
pub(crate) const CHUNK_ROWS: usize = 60;

/// Rows in the smallest chunk: wide rows still gain from each other.
const FEWEST_ROWS: usize = 4;

/// A body before compression: room for every value of the widest rows as bits.
const MAX_BODY: usize = MAX_COLUMNS * FEWEST_ROWS * 16;

const SAME: u8 = 0;
const DELTA: u8 = 1;
const DELTA2: u8 = 2;
const BITS: u8 = 3;
const HAS_GAPS: u8 = 1 << 3;

/// What is known of a chunk without decompressing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The time of the row before the first one; 0 if there is none.
    pub(crate) before: u64,
    pub(crate) rows: usize,
    body_bytes: usize,
    pub(crate) spans: Vec<Span>,
}

/// Rows in a row with the same columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) id: u32,
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

/// Reads the head of the chunk whose first row is at `first`; gives the
/// compressed body too.
pub(crate) fn head(first: u64, chunk: &[u8]) -> Result<(Head, &[u8]), Garbled> {
    let mut from = Reader(chunk);
    let before = match from.number()? {
        0 => 0,
        distance => first.checked_sub(distance - 1).ok_or(Garbled)?,
    };
    let rows = from.count(CHUNK_ROWS)?;
    let last = first.checked_add(from.number()?).ok_or(Garbled)?;
    let body_bytes = from.count(MAX_BODY)?;
    let count = from.count(rows)?;
    let mut spans = Vec::with_capacity(count);
    for _ in 0..count {
        spans.push(Span {
            id: from.u32()?,
            columns: from.count(MAX_COLUMNS)?,
            rows: from.count(rows)?,
        });
    }
    if rows == 0 || spans.iter().map(|span| span.rows).sum::<usize>() != rows {
        return Err(Garbled);
    }
    let head = Head {
        first,
        last,
        before,
        rows,
        body_bytes,
        spans,
    };
    Ok((head, from.0))
}

/// A chunk's times and breaks, and its columns still as bytes.
pub(crate) struct Opened {
    pub(crate) times: Vec<u64>,
    pub(crate) breaks: Vec<Breaks>,
    body: Vec<u8>,
    columns_at: usize,
}

/// Decompresses the body that belongs to `head`.
pub(crate) fn open(head: &Head, compressed: &[u8]) -> Result<Opened, Garbled> {
    let body = zstd::bulk::decompress(compressed, head.body_bytes).map_err(|_| Garbled)?;
    if body.len() != head.body_bytes {
        return Err(Garbled);
    }
    let mut from = Reader(&body);
    let times = read_times(&mut from, head)?;
    let mut breaks = vec![Breaks::None; head.rows];
    for _ in 0..from.count(head.rows)? {
        let place = from.count(head.rows - 1)?;
        breaks[place] = read_breaks(&mut from)?;
    }
    let columns_at = body.len() - from.0.len();
    Ok(Opened {
        times,
        breaks,
        columns_at,
        body,
    })
}

fn read_times(from: &mut Reader<'_>, head: &Head) -> Result<Vec<u64>, Garbled> {
    let mut times = Vec::with_capacity(head.rows);
    times.push(head.first);
    let (mut at, mut distance) = (head.first, 0i64);
    for _ in 1..head.rows {
        distance = distance.wrapping_add(from.signed()?);
        at = at.checked_add_signed(distance).ok_or(Garbled)?;
        times.push(at);
    }
    let in_order = times.windows(2).all(|pair| pair[0] < pair[1]);
    if !in_order || at != head.last {
        return Err(Garbled);
    }
    Ok(times)
}

impl Opened {
    /// Hands every column to `each`: the place of its span, its place in the
    /// span, and its values.
    pub(crate) fn columns(
        &self,
        head: &Head,
        mut each: impl FnMut(usize, usize, &[f64]),
    ) -> Result<(), Garbled> {
        let mut from = Reader(&self.body[self.columns_at..]);
        let mut values = Vec::with_capacity(head.rows);
        for (place, span) in head.spans.iter().enumerate() {
            for column in 0..span.columns {
                read_column(&mut from, span.rows, &mut values)?;
                each(place, column, &values);
            }
        }
        if from.0.is_empty() {
            Ok(())
        } else {
            Err(Garbled)
        }
    }
}

fn read_column(from: &mut Reader<'_>, rows: usize, values: &mut Vec<f64>) -> Result<(), Garbled> {
    values.clear();
    let mode = from.byte()?;
    if mode == SAME {
        let value = read_value(from)?;
        values.resize(rows, value);
        return Ok(());
    }
    let bitmap = if mode & HAS_GAPS == 0 {
        None
    } else {
        Some(from.take(rows.div_ceil(8))?)
    };
    let places = mode >> 4;
    let known = matches!(mode & 7, DELTA | DELTA2 | BITS);
    if places > number::MAX_PLACES || !known {
        return Err(Garbled);
    }
    let (mut value, mut delta, mut first, mut bits) = (0i64, 0i64, true, 0u64);
    for row in 0..rows {
        let present = bitmap.is_none_or(|map| map[row / 8] >> (row % 8) & 1 == 1);
        if !present {
            values.push(f64::NAN);
            continue;
        }
        if mode & 7 == BITS {
            bits ^= from.raw()?;
            values.push(f64::from_bits(bits));
            continue;
        }
        let now = from.signed()?.wrapping_add(delta);
        value = value.wrapping_add(now);
        if mode & 7 == DELTA2 && !first {
            delta = now;
        }
        first = false;
        values.push(number::from_mantissa(value, places));
    }
    Ok(())
}
