//! One column: some values of one metric, each present or not.

use crate::bytes::{Reader, put_varint};
use crate::decimal::{self, MAX_EXPONENT};
use crate::dense::{self, DenseScratch};
use crate::ints::{self, IntScratch};
use crate::{Corrupt, Effort};

// ids are forever: see the table in the crate's documentation
const RAW: u8 = 7;
const PCO: u8 = 8;
const SOME_ABSENT: u8 = 0x40;

/// Memory for encoding and decoding columns.
#[derive(Debug, Default)]
pub(crate) struct ColumnScratch {
    present: Vec<f64>,
    whole: Vec<u64>,
    ints: IntScratch,
    dense: DenseScratch<f64>,
}

/// Appends the values of a column; nothing where all are absent.
pub(crate) fn encode(
    values: &[f64],
    effort: Effort,
    scratch: &mut ColumnScratch,
    out: &mut Vec<u8>,
) {
    let absent = values.iter().filter(|value| value.is_nan()).count();
    if absent == values.len() {
        return;
    }
    let id_at = out.len();
    out.push(0);
    let id = if absent == 0 {
        encode_present(values, effort, scratch, out)
    } else {
        put_presence(values, out);
        let mut present = std::mem::take(&mut scratch.present);
        present.clear();
        present.extend(values.iter().filter(|value| !value.is_nan()));
        let id = encode_present(&present, effort, scratch, out);
        scratch.present = present;
        id | SOME_ABSENT
    };
    out[id_at] = id;
}

fn encode_present(
    values: &[f64],
    effort: Effort,
    scratch: &mut ColumnScratch,
    out: &mut Vec<u8>,
) -> u8 {
    let first = values[0].to_bits();
    let constant = values.iter().fold(0, |any, v| any | (v.to_bits() ^ first)) == 0;
    if constant && first == 0 {
        return 0;
    }
    let values = if constant { &values[..1] } else { values };
    let ColumnScratch {
        whole, ints, dense, ..
    } = scratch;
    whole.resize(values.len(), 0);
    if let Some(exponent) = decimal::split(values, whole) {
        ints::encode(whole, effort, ints, out);
        return exponent;
    }
    for (whole, value) in whole.iter_mut().zip(values) {
        *whole = value.to_bits();
    }
    let start = out.len();
    ints::encode(whole, Effort::Fast, ints, out);
    let replaced =
        effort == Effort::Dense && dense::replace(values, f64::to_bits, start, dense, out);
    if replaced { PCO } else { RAW }
}

/// Reads a column of `rows` values.
pub(crate) fn decode(
    bytes: &[u8],
    rows: usize,
    scratch: &mut ColumnScratch,
    out: &mut Vec<f64>,
) -> Result<(), Corrupt> {
    let start = out.len();
    if bytes.is_empty() {
        out.resize(start + rows, f64::NAN);
        return Ok(());
    }
    let mut from = Reader::new(bytes);
    let id = from.byte()?;
    out.resize(start + rows, 0.0);
    let values = &mut out[start..];
    let decoded = if id & SOME_ABSENT == 0 {
        decode_present(id, &mut from, scratch, values)
    } else {
        decode_some(id & !SOME_ABSENT, &mut from, scratch, values)
    };
    if decoded.is_err() {
        out.truncate(start);
    }
    decoded
}

fn decode_some(
    id: u8,
    from: &mut Reader<'_>,
    scratch: &mut ColumnScratch,
    values: &mut [f64],
) -> Result<(), Corrupt> {
    let presence = Presence::read(from, values.len())?;
    let mut present = std::mem::take(&mut scratch.present);
    present.clear();
    present.resize(presence.present, 0.0);
    let decoded = decode_present(id, from, scratch, &mut present);
    if decoded.is_ok() {
        presence.spread(&present, values);
    }
    scratch.present = present;
    decoded
}

fn decode_present(
    id: u8,
    from: &mut Reader<'_>,
    scratch: &mut ColumnScratch,
    values: &mut [f64],
) -> Result<(), Corrupt> {
    if id == 0 && from.is_empty() {
        values.fill(0.0);
        return Ok(());
    }
    let whole = &mut scratch.whole;
    whole.resize(values.len(), 0);
    match id {
        0..=MAX_EXPONENT => {
            ints::decode(from, whole)?;
            decimal::join(whole, id, values);
        }
        RAW => {
            ints::decode(from, whole)?;
            for (value, whole) in values.iter_mut().zip(whole) {
                *value = f64::from_bits(*whole);
            }
        }
        PCO => dense::decode(from.take_rest(), values)?,
        _ => return Err(Corrupt("an unknown coding of values")),
    }
    if from.is_empty() {
        Ok(())
    } else {
        Err(Corrupt("more bytes than the column needs"))
    }
}

/// Which rows have a value.
#[derive(Debug)]
struct Presence<'a> {
    present: usize,
    kind: PresenceKind<'a>,
}

#[derive(Debug)]
enum PresenceKind<'a> {
    /// A bit for each row, the lowest first.
    Bitmap(&'a [u8]),
    /// The lengths of that many runs: present, absent, present ...; the last
    /// run goes on to the end and is not among them.
    Runs(usize, Reader<'a>),
}

fn put_presence(values: &[f64], out: &mut Vec<u8>) {
    let start = out.len();
    let changes = values
        .windows(2)
        .filter(|pair| pair[0].is_nan() != pair[1].is_nan())
        .count();
    let bitmap = values.len().div_ceil(8);
    // the first run is of values that are present, maybe of none
    let runs = changes + usize::from(values[0].is_nan());
    if runs < bitmap {
        put_varint(out, runs as u64);
        let (mut length, mut absent) = (0, false);
        for value in values {
            if value.is_nan() != absent {
                put_varint(out, length);
                (length, absent) = (0, !absent);
            }
            length += 1;
        }
    }
    if runs >= bitmap || out.len() - start > bitmap + 1 {
        out.truncate(start);
        out.push(0);
        out.extend(values.chunks(8).map(|rows| {
            let bits = rows.iter().enumerate();
            bits.fold(0, |byte, (bit, value)| {
                byte | (u8::from(!value.is_nan()) << bit)
            })
        }));
    }
}

impl<'a> Presence<'a> {
    fn read(from: &mut Reader<'a>, rows: usize) -> Result<Presence<'a>, Corrupt> {
        let runs = from.count(rows)?;
        let presence = if runs == 0 {
            Presence::read_bitmap(from, rows)?
        } else {
            Presence::read_runs(from, rows, runs)?
        };
        if presence.present == 0 || presence.present > rows {
            return Err(Corrupt("the present values are none or too many"));
        }
        Ok(presence)
    }

    fn read_bitmap(from: &mut Reader<'a>, rows: usize) -> Result<Presence<'a>, Corrupt> {
        let bitmap = from.take(rows.div_ceil(8))?;
        let present = bitmap.iter().map(|byte| byte.count_ones() as usize).sum();
        let last = bitmap.last().copied().unwrap_or(0);
        if !rows.is_multiple_of(8) && last >> (rows % 8) != 0 {
            return Err(Corrupt("values behind the last row"));
        }
        Ok(Presence {
            present,
            kind: PresenceKind::Bitmap(bitmap),
        })
    }

    fn read_runs(from: &mut Reader<'a>, rows: usize, runs: usize) -> Result<Presence<'a>, Corrupt> {
        let kind = PresenceKind::Runs(runs, *from);
        let (mut present, mut left) = (0, rows);
        for run in 0..runs {
            let length = from.count(left)?;
            left -= length;
            present += if run.is_multiple_of(2) { length } else { 0 };
        }
        present += if runs.is_multiple_of(2) { left } else { 0 };
        Ok(Presence { present, kind })
    }

    /// Puts the values where they belong and NaN elsewhere.
    fn spread(&self, present: &[f64], values: &mut [f64]) {
        let mut present = present.iter().copied();
        let mut value_if =
            |here: bool| if here { present.next() } else { None }.unwrap_or(f64::NAN);
        match self.kind {
            PresenceKind::Bitmap(bitmap) => {
                for (values, bits) in values.chunks_mut(8).zip(bitmap) {
                    for (bit, value) in values.iter_mut().enumerate() {
                        *value = value_if(bits >> bit & 1 == 1);
                    }
                }
            }
            PresenceKind::Runs(runs, mut lengths) => {
                let mut rest = values;
                for run in 0..=runs {
                    // the lengths were read before; the last run is the rest
                    let length = Some(run).filter(|run| *run < runs);
                    let length = length.and_then(|_| lengths.count(rest.len()).ok());
                    let (values, behind) = rest.split_at_mut(length.unwrap_or(rest.len()));
                    for value in values {
                        *value = value_if(run.is_multiple_of(2));
                    }
                    rest = behind;
                }
            }
        }
    }
}
