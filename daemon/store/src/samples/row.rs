//! One poll's values as they lie in the `row` table until they are in a chunk:
//! each row can be read alone.
//!
//! Body: the distance in ms to the row before in its track plus one (0: there
//! is none), the columns' number, breaks, the count of values, the values (see
//! [`super::number`]). Breaks: 0 none, 1 all, else 2 plus the count of broken
//! columns, followed by these.

use model::Breaks;

use super::bytes::{Garbled, Reader, put};
use super::number::{put_value, read_value};

/// Values that one poll can bring: ten times the largest chassis we know of.
pub const MAX_COLUMNS: usize = 200_000;

/// A row as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct KeptRow {
    /// Its time in ms.
    pub(crate) at: u64,
    /// The time of the row before in its track, in ms; 0 if there is none.
    pub(crate) before: u64,
    pub(crate) columns: u32,
    pub(crate) breaks: Breaks,
    pub(crate) values: Vec<f64>,
}

/// Appends the body of a row.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    (at, before): (u64, u64),
    columns: u32,
    breaks: &Breaks,
    values: &[f64],
) {
    put(out, if before == 0 { 0 } else { at - before + 1 });
    put(out, u64::from(columns));
    put_breaks(out, breaks);
    put(out, values.len() as u64);
    for value in values {
        put_value(out, *value);
    }
}

/// Reads the body of the row at `at`.
pub(crate) fn decode(at: u64, body: &[u8]) -> Result<KeptRow, Garbled> {
    let mut from = Reader(body);
    let before = match from.number()? {
        0 => 0,
        distance => at.checked_sub(distance - 1).ok_or(Garbled)?,
    };
    let columns = from.u32()?;
    let breaks = read_breaks(&mut from)?;
    let count = from.count(MAX_COLUMNS)?;
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        values.push(read_value(&mut from)?);
    }
    if !from.0.is_empty() {
        return Err(Garbled);
    }
    Ok(KeptRow {
        at,
        before,
        columns,
        breaks,
        values,
    })
}

pub(crate) fn put_breaks(out: &mut Vec<u8>, breaks: &Breaks) {
    match breaks {
        Breaks::None => put(out, 0),
        Breaks::All => put(out, 1),
        Breaks::Columns(broken) => {
            put(out, 2 + broken.len() as u64);
            for column in broken {
                put(out, u64::from(*column));
            }
        }
    }
}

pub(crate) fn read_breaks(from: &mut Reader<'_>) -> Result<Breaks, Garbled> {
    match from.count(MAX_COLUMNS + 2)? {
        0 => Ok(Breaks::None),
        1 => Ok(Breaks::All),
        more => {
            let broken = (2..more).map(|_| from.u32());
            Ok(Breaks::Columns(broken.collect::<Result<_, _>>()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(before: u64, breaks: Breaks, values: &[f64]) -> KeptRow {
        let mut out = Vec::new();
        encode(&mut out, (90_000, before), 7, &breaks, values);
        let row = decode(90_000, &out).unwrap();
        assert_eq!((row.before, row.columns, &row.breaks), (before, 7, &breaks));
        row
    }

    #[test]
    fn a_row_reads_back_with_its_breaks() {
        for breaks in [Breaks::None, Breaks::All, Breaks::Columns(vec![0, 300])] {
            let row = there_and_back(30_000, breaks, &[1.0, f64::NAN, 0.25]);
            assert_eq!(row.values[0].to_bits(), 1f64.to_bits());
            assert!(row.values[1].is_nan());
        }
        there_and_back(0, Breaks::None, &[]);
    }

    #[test]
    fn a_garbled_row_is_refused_and_never_asks_for_all_memory() {
        let mut out = Vec::new();
        encode(&mut out, (90_000, 0), 7, &Breaks::None, &[1.0, 2.0]);
        for end in 0..out.len() {
            assert!(decode(90_000, &out[..end]).is_err(), "{end}");
        }
        out.push(0);
        assert!(decode(90_000, &out).is_err());
        assert!(decode(5, &[0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x7f]).is_err());
    }
}
