//! One poll's values as schema 2 had them in the table `row` until they were in
//! a chunk: each row can be read alone.
//!
//! Body: the distance in ms to the row before in its track plus one (0: there
//! is none), the columns' number, breaks, the count of values, the values (see
//! [`super::number`]). Breaks: 0 none, 1 all, else 2 plus the count of broken
//! columns, followed by these.

use model::Breaks;

use super::number::read_value;
use crate::bytes::{Garbled, Reader};
use crate::columns::MAX_COLUMNS;

/// A row as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct KeptRow {
    /// The time of the row before in its track, in ms; 0 if there is none.
    pub(crate) before: u64,
    pub(crate) columns: u32,
    pub(crate) breaks: Breaks,
    pub(crate) values: Vec<f64>,
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
        before,
        columns,
        breaks,
        values,
    })
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

    #[test]
    fn a_garbled_row_is_refused_and_never_asks_for_all_memory() {
        let whole = [1, 7, 3, 4, 2, 2, 4];
        let row = decode(90_000, &whole).unwrap();
        assert_eq!((row.columns, row.before), (7, 90_000));
        assert_eq!(row.breaks, Breaks::Columns(vec![4]));
        for end in 0..whole.len() {
            assert!(decode(90_000, &whole[..end]).is_err(), "{end}");
        }
        assert!(decode(90_000, &[1, 7, 0, 0, 0]).is_err(), "too long");
        assert!(decode(5, &[0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x7f]).is_err());
    }
}
