//! A run of a track's rows, column by column: what history is kept in.
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

use super::bytes::{self, Garbled, Reader, put, put_signed};
use super::number::{self, is_absent, put_value, read_value};
use super::row::{KeptRow, MAX_COLUMNS, put_breaks, read_breaks};

/// Rows in a chunk: an hour at one a minute.
pub(crate) const CHUNK_ROWS: usize = 60;

/// Values in a chunk, beyond which it takes fewer rows: what one making of a
/// chunk may cost in memory and time.
const CHUNK_VALUES: usize = 1 << 18;

/// Rows in the smallest chunk: wide rows still gain from each other.
const FEWEST_ROWS: usize = 4;

/// A body before compression: room for every value of the widest rows as bits.
const MAX_BODY: usize = MAX_COLUMNS * FEWEST_ROWS * 16;

/// zstd's fastest level: the body is already small numbers.
const LEVEL: i32 = 1;

const SAME: u8 = 0;
const DELTA: u8 = 1;
const DELTA2: u8 = 2;
const BITS: u8 = 3;
const HAS_GAPS: u8 = 1 << 3;

/// Rows that make a chunk, where they have this many columns.
pub(crate) fn rows_for(columns: usize) -> usize {
    (CHUNK_VALUES / columns.max(1)).clamp(FEWEST_ROWS, CHUNK_ROWS)
}

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

impl Head {
    pub(crate) fn samples(&self) -> u64 {
        let of = |span: &Span| (span.rows * span.columns) as u64;
        self.spans.iter().map(of).sum()
    }
}

/// Rows in a row with the same columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) id: u32,
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

/// Working memory that is used again for each chunk.
#[derive(Default)]
pub(crate) struct Scratch {
    body: Vec<u8>,
    column: Vec<f64>,
    mantissas: Vec<i64>,
}

/// A chunk of `rows`, which are not empty and each newer than the one before.
pub(crate) fn encode(rows: &[KeptRow], scratch: &mut Scratch) -> Vec<u8> {
    let (first, last) = match rows {
        [] => return Vec::new(),
        [first, .., last] => (first, last.at),
        [only] => (only, only.at),
    };
    scratch.body.clear();
    put_times(&mut scratch.body, rows);
    put_all_breaks(&mut scratch.body, rows);
    let spans = spans_of(rows);
    let mut rest = rows;
    for span in &spans {
        let (now, later) = rest.split_at(span.rows);
        for column in 0..span.columns {
            scratch.column.clear();
            scratch
                .column
                .extend(now.iter().map(|row| row.values[column]));
            put_column(&mut scratch.body, &scratch.column, &mut scratch.mantissas);
        }
        rest = later;
    }

    let mut out = Vec::with_capacity(scratch.body.len() / 2 + 64);
    let distance = first.at - first.before + 1;
    put(&mut out, if first.before == 0 { 0 } else { distance });
    put(&mut out, rows.len() as u64);
    put(&mut out, last - first.at);
    put(&mut out, scratch.body.len() as u64);
    put(&mut out, spans.len() as u64);
    for span in spans {
        put(&mut out, u64::from(span.id));
        put(&mut out, span.columns as u64);
        put(&mut out, span.rows as u64);
    }
    let body = zstd::bulk::compress(&scratch.body, LEVEL);
    out.extend(body.expect("zstd compresses any bytes in memory"));
    out
}

fn spans_of(rows: &[KeptRow]) -> Vec<Span> {
    let same =
        |a: &KeptRow, b: &KeptRow| a.columns == b.columns && a.values.len() == b.values.len();
    rows.chunk_by(same)
        .map(|run| Span {
            id: run[0].columns,
            columns: run[0].values.len(),
            rows: run.len(),
        })
        .collect()
}

fn put_times(out: &mut Vec<u8>, rows: &[KeptRow]) {
    let mut distance = 0i64;
    for pair in rows.windows(2) {
        let now = (pair[1].at - pair[0].at).cast_signed();
        put_signed(out, now.wrapping_sub(distance));
        distance = now;
    }
}

fn put_all_breaks(out: &mut Vec<u8>, rows: &[KeptRow]) {
    let broken = || {
        rows.iter()
            .enumerate()
            .filter(|(_, row)| row.breaks != Breaks::None)
    };
    put(out, broken().count() as u64);
    for (place, row) in broken() {
        put(out, place as u64);
        put_breaks(out, &row.breaks);
    }
}

fn put_column(out: &mut Vec<u8>, column: &[f64], mantissas: &mut Vec<i64>) {
    let first = column[0].to_bits();
    if column.iter().all(|value| value.to_bits() == first) {
        out.push(SAME);
        return put_value(out, column[0]);
    }
    let gaps = if column.iter().any(|value| is_absent(*value)) {
        HAS_GAPS
    } else {
        0
    };
    let present = || column.iter().copied().filter(|value| !is_absent(*value));
    match common_places(present, mantissas) {
        Some(places) => {
            let mode = better_mode(mantissas);
            out.push(mode | gaps | (places << 4));
            put_bitmap(out, gaps, column);
            put_mantissas(out, mode, mantissas);
        }
        None => {
            out.push(BITS | gaps);
            put_bitmap(out, gaps, column);
            let mut before = 0;
            for value in present() {
                out.extend_from_slice(&(value.to_bits() ^ before).to_le_bytes());
                before = value.to_bits();
            }
        }
    }
}

/// The decimal places with which every value is exact, and the mantissas.
fn common_places<I: Iterator<Item = f64>>(
    values: impl Fn() -> I,
    mantissas: &mut Vec<i64>,
) -> Option<u8> {
    let mut places = 0;
    for value in values() {
        places = number::places(value, places)?;
    }
    mantissas.clear();
    for value in values() {
        mantissas.push(number::mantissa(value, places)?);
    }
    Some(places)
}

fn better_mode(mantissas: &[i64]) -> u8 {
    let (mut once, mut twice, mut before) = (0, 0, 0);
    for pair in mantissas.windows(2) {
        let delta = pair[1].wrapping_sub(pair[0]);
        once += bytes::len(bytes::zigzag(delta));
        twice += bytes::len(bytes::zigzag(delta.wrapping_sub(before)));
        before = delta;
    }
    if twice < once { DELTA2 } else { DELTA }
}

fn put_mantissas(out: &mut Vec<u8>, mode: u8, mantissas: &[i64]) {
    let (mut value, mut delta) = (0i64, 0i64);
    for (place, mantissa) in mantissas.iter().enumerate() {
        let now = mantissa.wrapping_sub(value);
        put_signed(out, now.wrapping_sub(delta));
        value = *mantissa;
        if mode == DELTA2 && place > 0 {
            delta = now;
        }
    }
}

fn put_bitmap(out: &mut Vec<u8>, gaps: u8, column: &[f64]) {
    if gaps == 0 {
        return;
    }
    for eight in column.chunks(8) {
        let bit = |(place, value): (usize, &f64)| u8::from(!is_absent(*value)) << place;
        out.push(eight.iter().enumerate().map(bit).sum());
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(at: u64, before: u64, columns: u32, breaks: Breaks, values: Vec<f64>) -> KeptRow {
        KeptRow {
            at,
            before,
            columns,
            breaks,
            values,
        }
    }

    /// Takes `chunk` apart again into rows.
    fn rows_of(first: u64, chunk: &[u8]) -> Result<Vec<KeptRow>, Garbled> {
        let (head, body) = head(first, chunk)?;
        let opened = open(&head, body)?;
        let mut rows = Vec::new();
        let mut starts = Vec::new();
        for span in &head.spans {
            starts.push(rows.len());
            for _ in 0..span.rows {
                let place = rows.len();
                let before = if place == 0 {
                    head.before
                } else {
                    opened.times[place - 1]
                };
                let breaks = opened.breaks[place].clone();
                rows.push(row(opened.times[place], before, span.id, breaks, vec![]));
            }
        }
        opened.columns(&head, |span, _, values| {
            for (place, value) in values.iter().enumerate() {
                rows[starts[span] + place].values.push(*value);
            }
        })?;
        Ok(rows)
    }

    fn assert_same(rows: &[KeptRow], back: &[KeptRow]) {
        assert_eq!(rows.len(), back.len());
        for (a, b) in rows.iter().zip(back) {
            assert_eq!((a.at, a.before, a.columns), (b.at, b.before, b.columns));
            assert_eq!(a.breaks, b.breaks);
            let bits = |row: &KeptRow| row.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(a), bits(b));
        }
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => (0..1_000_000u32).prop_map(f64::from),
            2 => (0..10_000u32).prop_map(|n| f64::from(n) / 1000.0),
            1 => Just(f64::NAN),
            1 => Just(0.0),
            1 => any::<u64>().prop_map(f64::from_bits),
            1 => (0..u64::MAX).prop_map(|n| {
                #[expect(clippy::cast_precision_loss, reason = "any value will do")]
                let value = n as f64;
                value
            }),
        ]
    }

    fn breaks() -> impl Strategy<Value = Breaks> {
        prop_oneof![
            6 => Just(Breaks::None),
            1 => Just(Breaks::All),
            1 => proptest::collection::vec(0..9u32, 0..3).prop_map(Breaks::Columns),
        ]
    }

    fn rows() -> impl Strategy<Value = Vec<KeptRow>> {
        let one = (
            1..100_000u64,
            0..3u32,
            breaks(),
            proptest::collection::vec(value(), 6),
        );
        proptest::collection::vec(one, 1..=CHUNK_ROWS).prop_map(|all| {
            let mut at = 1_700_000_000_000;
            let mut before = 0;
            let mut rows = Vec::new();
            for (step, id, breaks, mut values) in all {
                at += step;
                values.truncate(4 + id as usize);
                rows.push(row(at, before, id, breaks, values));
                before = at;
            }
            rows
        })
    }

    proptest! {
        #[test]
        fn any_run_of_rows_reads_back_bit_for_bit(rows in rows()) {
            let chunk = encode(&rows, &mut Scratch::default());
            assert_same(&rows, &rows_of(rows[0].at, &chunk).unwrap());
        }

        #[test]
        fn garbled_chunks_are_refused_or_read_but_never_panic(
            rows in rows(),
            flips in proptest::collection::vec(any::<u32>(), 1..4),
        ) {
            let mut chunk = encode(&rows, &mut Scratch::default());
            let bits = chunk.len() * 8;
            for flip in flips {
                let bit = flip as usize % bits;
                chunk[bit / 8] ^= 1 << (bit % 8);
            }
            let _ = rows_of(rows[0].at, &chunk);
        }
    }

    #[test]
    fn counters_at_a_steady_pace_take_next_to_nothing() {
        let rows: Vec<KeptRow> = (0..60u32)
            .map(|n| {
                let at = 1_700_000_000_000 + u64::from(n) * 60_000;
                let values = (0..100)
                    .map(|c| f64::from(n) * 1e6 + f64::from(c))
                    .collect();
                row(at, at - 60_000, 1, Breaks::None, values)
            })
            .collect();
        let chunk = encode(&rows, &mut Scratch::default());
        assert!(chunk.len() < 600, "{} bytes for 6000 values", chunk.len());
    }

    #[test]
    fn wide_rows_make_shorter_chunks() {
        assert_eq!(rows_for(0), 60);
        assert_eq!(rows_for(750), 60);
        assert_eq!(rows_for(26_214), 10);
        assert_eq!(rows_for(MAX_COLUMNS), 4);
    }
}
