//! What a frame of the log holds: records, one behind the other.
//!
//! No record depends on another record's bytes, so a lost frame loses only
//! itself, and a start can share the records between threads by group.
//!
//! # The format
//!
//! All numbers are little-endian. A record is `length: u32` (of what follows
//! it), `kind: u8` and a body:
//!
//! | kind | body |
//! |---|---|
//! | 1 group | `group: u32`, then the `GroupKey` as postcard |
//! | 2 columns | `columns: u32`, then the list of `SeriesKey` as postcard |
//! | 3 row | `group: u32`, `columns: u32`, `at: u64` (ms), breaks, `width: u32`, values |
//! | 4 note | `group: u32`, then the note |
//!
//! Breaks: a byte, 0 none, 1 all, 2 these columns: `count: u32` and a `u32`
//! each. Values: `width` nibbles, the first in the low half of a byte, an odd
//! last one beside a zero; then the bytes of each value. The nibble says which:
//!
//! | nibble | bytes | value |
//! |---|---|---|
//! | 0 | none | +0 |
//! | 1-7 | as many | an unsigned integer |
//! | 8 | 8 | the IEEE 754 double |
//! | 9-14 | nibble - 8 | the double's highest bytes; the rest of it is zero |
//! | 15 | none | not measured |
//!
//! A reader skips kinds that it does not know.

use std::collections::HashSet;
use std::sync::Arc;

use model::{Breaks, Columns, GroupKey, Labels, SeriesKey};

const GROUP: u8 = 1;
const COLUMNS: u8 = 2;
const ROW: u8 = 3;
const NOTE: u8 = 4;

const RAW: u8 = 8;
const ABSENT: u8 = 15;

/// A record as it lies in a frame.
#[derive(Debug, PartialEq)]
pub(crate) enum Record<'a> {
    /// What a group's number stands for.
    Group { group: u32, key: GroupKey },
    /// What a number of columns stands for.
    Columns { columns: u32, bytes: &'a [u8] },
    /// A row; its values are still packed.
    Row(RowRecord<'a>),
    /// A group's note.
    Note { group: u32, note: &'a [u8] },
    /// Of a later version.
    Unknown,
}

/// A row as it lies in a frame.
#[derive(Debug, PartialEq)]
pub(crate) struct RowRecord<'a> {
    pub(crate) group: u32,
    pub(crate) columns: u32,
    pub(crate) at: u64,
    rest: &'a [u8],
}

/// A frame whose checksum is right holds something that is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Garbled;

fn begin(out: &mut Vec<u8>, kind: u8) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.push(kind);
    start
}

fn end(out: &mut [u8], start: usize) {
    let length = u32::try_from(out.len() - start - 4).expect("limits keep a record below 4 GiB");
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Says what a group's number stands for.
pub(crate) fn put_group(group: u32, key: GroupKey, out: &mut Vec<u8>) {
    let start = begin(out, GROUP);
    out.extend_from_slice(&group.to_le_bytes());
    out.extend(postcard::to_stdvec(&key).expect("plain data"));
    end(out, start);
}

/// Says what a number of columns stands for.
pub(crate) fn put_columns(columns: u32, what: &Columns, out: &mut Vec<u8>) {
    let start = begin(out, COLUMNS);
    out.extend_from_slice(&columns.to_le_bytes());
    out.extend(postcard::to_stdvec(what.series()).expect("plain data"));
    end(out, start);
}

/// Keeps a group's note.
pub(crate) fn put_note(group: u32, note: &[u8], out: &mut Vec<u8>) {
    let start = begin(out, NOTE);
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(note);
    end(out, start);
}

/// Keeps a row.
pub(crate) fn put_row(
    group: u32,
    columns: u32,
    at: u64,
    breaks: &Breaks,
    values: &[f64],
    out: &mut Vec<u8>,
) {
    let start = begin(out, ROW);
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(&columns.to_le_bytes());
    out.extend_from_slice(&at.to_le_bytes());
    put_breaks(breaks, out);
    let width = u32::try_from(values.len()).expect("limits keep a row's width below 2^16");
    out.extend_from_slice(&width.to_le_bytes());
    put_values(values, out);
    end(out, start);
}

fn put_breaks(breaks: &Breaks, out: &mut Vec<u8>) {
    match breaks {
        Breaks::None => out.push(0),
        Breaks::All => out.push(1),
        Breaks::Columns(places) => {
            out.push(2);
            let count = u32::try_from(places.len()).expect("limits keep breaks below a width");
            out.extend_from_slice(&count.to_le_bytes());
            for place in places {
                out.extend_from_slice(&place.to_le_bytes());
            }
        }
    }
}

/// The nibble of a value, and its bytes in the low end of a number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "whether the value is a small integer is checked by the way back"
)]
#[inline]
fn pack(value: f64) -> (u8, usize, u64) {
    let bits = value.to_bits();
    if bits == 0 {
        return (0, 0, 0);
    }
    if value.is_nan() {
        return (ABSENT, 0, 0);
    }
    let whole = value as u64;
    if whole != 0 && whole < 1 << 56 && (whole as f64).to_bits() == bits {
        let length = (71 - whole.leading_zeros() as usize) / 8;
        return (length as u8, length, whole);
    }
    let zero_bytes = bits.trailing_zeros() as usize / 8;
    match zero_bytes {
        0 | 1 => (RAW, 8, bits),
        _ => (
            16 - zero_bytes as u8,
            8 - zero_bytes,
            bits >> (8 * zero_bytes),
        ),
    }
}

fn put_values(values: &[f64], out: &mut Vec<u8>) {
    let nibbles = out.len();
    let mut at = nibbles + values.len().div_ceil(2);
    out.resize(at + 8 * values.len(), 0);
    for (pair, place) in values.chunks(2).zip(nibbles..) {
        let (low, length, bytes) = pack(pair[0]);
        out[at..at + 8].copy_from_slice(&bytes.to_le_bytes());
        at += length;
        let mut nibble = low;
        if let Some(second) = pair.get(1) {
            let (high, length, bytes) = pack(*second);
            out[at..at + 8].copy_from_slice(&bytes.to_le_bytes());
            at += length;
            nibble |= high << 4;
        }
        out[place] = nibble;
    }
    out.truncate(at);
}

/// The records of a frame.
pub(crate) struct Records<'a> {
    bytes: &'a [u8],
}

impl<'a> Records<'a> {
    /// Of a whole frame.
    pub(crate) fn of(frame: &'a [u8]) -> Records<'a> {
        Records { bytes: frame }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Garbled>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let record = next_record(&mut self.bytes);
        if record.is_err() {
            self.bytes = &[]; // where the next one begins is not known
        }
        Some(record)
    }
}

fn next_record<'a>(bytes: &mut &'a [u8]) -> Result<Record<'a>, Garbled> {
    let length = take_u32(bytes)? as usize;
    let mut body = take(bytes, length)?;
    let kind = take(&mut body, 1)?[0];
    match kind {
        GROUP => {
            let group = take_u32(&mut body)?;
            let key = postcard::from_bytes(body).map_err(|_| Garbled)?;
            Ok(Record::Group { group, key })
        }
        COLUMNS => {
            let columns = take_u32(&mut body)?;
            let bytes = body;
            Ok(Record::Columns { columns, bytes })
        }
        ROW => Ok(Record::Row(RowRecord {
            group: take_u32(&mut body)?,
            columns: take_u32(&mut body)?,
            at: take_u64(&mut body)?,
            rest: body,
        })),
        NOTE => {
            let group = take_u32(&mut body)?;
            Ok(Record::Note { group, note: body })
        }
        _ => Ok(Record::Unknown),
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Garbled> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or(Garbled)?;
    *bytes = rest;
    Ok(taken)
}

fn take_u32(bytes: &mut &[u8]) -> Result<u32, Garbled> {
    let (taken, rest) = bytes.split_first_chunk().ok_or(Garbled)?;
    *bytes = rest;
    Ok(u32::from_le_bytes(*taken))
}

fn take_u64(bytes: &mut &[u8]) -> Result<u64, Garbled> {
    let (taken, rest) = bytes.split_first_chunk().ok_or(Garbled)?;
    *bytes = rest;
    Ok(u64::from_le_bytes(*taken))
}

impl RowRecord<'_> {
    /// Its breaks; its values are put in the place of what is in `values`.
    pub(crate) fn unpack(&self, values: &mut Vec<f64>) -> Result<Breaks, Garbled> {
        let mut rest = self.rest;
        let breaks = take_breaks(&mut rest)?;
        let width = take_u32(&mut rest)? as usize;
        let nibbles = take(&mut rest, width.div_ceil(2))?;
        values.clear();
        values.reserve(width);
        for place in 0..width {
            let nibble = nibbles[place / 2] >> (4 * (place % 2)) & 15;
            values.push(take_value(nibble, &mut rest)?);
        }
        match rest.is_empty() {
            true => Ok(breaks),
            false => Err(Garbled),
        }
    }
}

fn take_breaks(rest: &mut &[u8]) -> Result<Breaks, Garbled> {
    match take(rest, 1)?[0] {
        0 => Ok(Breaks::None),
        1 => Ok(Breaks::All),
        2 => {
            let count = take_u32(rest)? as usize;
            let mut places = take(rest, count.checked_mul(4).ok_or(Garbled)?)?;
            let places = (0..count).map(|_| take_u32(&mut places));
            Ok(Breaks::Columns(places.collect::<Result<_, _>>()?))
        }
        _ => Err(Garbled),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seven bytes were checked when packed"
)]
#[inline]
fn take_value(nibble: u8, rest: &mut &[u8]) -> Result<f64, Garbled> {
    let count = usize::from(match nibble {
        ABSENT => return Ok(f64::NAN),
        0..=RAW => nibble,
        _ => nibble - RAW,
    });
    let number = match rest.first_chunk::<8>() {
        Some(eight) if count < 8 => u64::from_le_bytes(*eight) & ((1 << (8 * count)) - 1),
        Some(eight) => u64::from_le_bytes(*eight),
        None => {
            let mut eight = [0; 8];
            let few = rest.get(..count).ok_or(Garbled)?;
            eight[..count].copy_from_slice(few);
            u64::from_le_bytes(eight)
        }
    };
    *rest = &rest[count..];
    Ok(match nibble {
        0..RAW => number as f64,
        RAW => f64::from_bits(number),
        _ => f64::from_bits(number << (8 * (8 - count))),
    })
}

/// The columns that a record holds; equal label sets and names are shared.
pub(crate) fn columns_of(bytes: &[u8]) -> Result<Arc<Columns>, Garbled> {
    let series: Vec<SeriesKey> = postcard::from_bytes(bytes).map_err(|_| Garbled)?;
    let mut names: HashSet<Arc<str>> = HashSet::new();
    let mut labels: HashSet<Arc<Labels>> = HashSet::new();
    let shared = series.into_iter().map(|key| SeriesKey {
        metric: share(&mut names, key.metric),
        labels: share(&mut labels, key.labels),
        kind: key.kind,
    });
    Ok(Arc::new(Columns::new(shared.collect())))
}

fn share<T: ?Sized + std::hash::Hash + Eq>(known: &mut HashSet<Arc<T>>, one: Arc<T>) -> Arc<T> {
    if let Some(same) = known.get(&one) {
        return Arc::clone(same);
    }
    known.insert(Arc::clone(&one));
    one
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Check, DeviceId, MetricKind};
    use proptest::prelude::*;

    fn back(values: &[f64], breaks: &Breaks) -> (Breaks, Vec<f64>) {
        let mut bytes = Vec::new();
        put_row(7, 9, 1_700_000_000_000, breaks, values, &mut bytes);
        let mut records = Records::of(&bytes);
        let Some(Ok(Record::Row(row))) = records.next() else {
            panic!("no row");
        };
        assert_eq!((row.group, row.columns, row.at), (7, 9, 1_700_000_000_000));
        assert!(records.next().is_none());
        let mut values = vec![1.0];
        let breaks = row.unpack(&mut values).unwrap();
        (breaks, values)
    }

    fn bits(values: &[f64]) -> Vec<u64> {
        let canonical = |v: &f64| if v.is_nan() { f64::NAN } else { *v };
        values.iter().map(|v| canonical(v).to_bits()).collect()
    }

    #[test]
    fn a_row_comes_back_bit_by_bit() {
        let values = [
            0.0,
            -0.0,
            1.0,
            255.0,
            256.0,
            -1.0,
            0.5,
            1.5e300,
            0.1,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            72_057_594_037_927_935.0,
            72_057_594_037_927_936.0,
            9_007_199_254_740_993.0,
            f64::MIN_POSITIVE,
            5e-324,
            u64::MAX as f64,
        ];
        for count in 0..=values.len() {
            let (breaks, came) = back(&values[..count], &Breaks::Columns(vec![1, 5]));
            assert_eq!(bits(&came), bits(&values[..count]));
            assert_eq!(breaks, Breaks::Columns(vec![1, 5]));
        }
    }

    #[test]
    fn definitions_and_notes_come_back() {
        let key = GroupKey {
            device: DeviceId(3),
            check: Check::Snmp,
        };
        let series = SeriesKey {
            metric: Arc::from("ifInErrors"),
            labels: Arc::new(Labels::new([("ifName", "Gi0/1")])),
            kind: MetricKind::Counter32,
        };
        let columns = Columns::new(vec![series.clone(), series]);
        let mut bytes = Vec::new();
        put_group(1, key, &mut bytes);
        put_columns(2, &columns, &mut bytes);
        put_note(1, b"hello", &mut bytes);
        let records: Vec<Record<'_>> = Records::of(&bytes).map(Result::unwrap).collect();
        assert_eq!(records[0], Record::Group { group: 1, key });
        let Record::Columns { columns: 2, bytes } = records[1] else {
            panic!()
        };
        let came = columns_of(bytes).unwrap();
        assert_eq!(*came, columns);
        assert!(Arc::ptr_eq(
            &came.series()[0].labels,
            &came.series()[1].labels
        ));
        assert_eq!(
            records[2],
            Record::Note {
                group: 1,
                note: b"hello"
            }
        );
    }

    proptest! {
        #[test]
        fn any_row_comes_back(raw in prop::collection::vec(any::<u64>(), 0..40), small in prop::collection::vec(0u64..1 << 57, 0..9)) {
            let mut values: Vec<f64> = raw.into_iter().map(f64::from_bits).collect();
            values.extend(small.iter().map(|v| *v as f64));
            let (_, came) = back(&values, &Breaks::All);
            prop_assert_eq!(bits(&came), bits(&values));
        }

        #[test]
        fn garbled_bytes_are_an_error_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..6) {
            let mut framed = Vec::new();
            let start = begin(&mut framed, kind);
            framed.extend_from_slice(&bytes);
            end(&mut framed, start);
            framed.extend_from_slice(&bytes);
            for record in Records::of(&framed) {
                match record {
                    Ok(Record::Row(row)) => { let _ = row.unpack(&mut Vec::new()); }
                    Ok(Record::Columns { bytes, .. }) => { let _ = columns_of(bytes); }
                    _ => {}
                }
            }
        }
    }
}
