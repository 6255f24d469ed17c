//! Series as columns: an answer that a browser reads without parsing numbers.
//!
//! `application/vnd.sotp.columns`, version 1. Numbers are little-endian.
//!
//! ```text
//!    0  8  magic: the ASCII text SOTPCOL1
//!    8  4  unsigned: bytes of the header, a multiple of 8
//!   12  4  zero
//!   16  h  the header: JSON in UTF-8, spaces behind it up to h
//! 16+h     values: IEEE 754 doubles, back to back to the end
//! ```
//!
//! The header is what `format=json` answers, but of each series it has `offset`,
//! `length` and `broken` in place of its `values` and `points`: where its numbers
//! begin, counted in values from the first one, and how many there are. By steps
//! there are `length` values, one per step, and `broken` is empty. With
//! `step=raw` there are `length` times (seconds since 1970) and behind them as
//! many values; `broken` lists the places, from 0, of points at which a counter
//! does not go on from the point before. A value that was not measured is NaN;
//! infinities are infinities.
//!
//! So the numbers of series `s` in an answer in the ArrayBuffer `b` are
//! `new Float64Array(b, 16 + h + 8 * s.offset, s.length)`, without copying and
//! whatever `h` is, since all of it is aligned to 8 bytes.

use serde::Serialize;
use serde::ser::Error;

/// The content type.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.sotp.columns";

const MAGIC: &[u8; 8] = b"SOTPCOL1";

/// What stands before the header.
const PREAMBLE: usize = 16;

/// Writes an answer: `header` and then `columns`.
pub(crate) fn write<'a>(
    header: &impl Serialize,
    columns: impl Iterator<Item = &'a [f64]>,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = vec![0; PREAMBLE];
    serde_json::to_writer(&mut bytes, header)?;
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    let length = u32::try_from(bytes.len() - PREAMBLE)
        .map_err(|_| serde_json::Error::custom("the header is longer than 4 GB"))?;
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&length.to_le_bytes());
    for column in columns {
        bytes.extend(column.iter().flat_map(|value| value.to_le_bytes()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn values_lie_aligned_behind_the_header() {
        for text in ["", "x", "four", "sevenxx", "eight xx"] {
            let columns = [&[1.0, f64::NAN][..], &[f64::INFINITY]];
            let bytes = write(&json!({ "text": text }), columns.into_iter()).unwrap();
            assert_eq!(&bytes[..8], b"SOTPCOL1");
            let length = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
            assert_eq!(length % 8, 0);
            assert_eq!(bytes[12..16], [0; 4]);
            let header: Value = serde_json::from_slice(&bytes[16..16 + length]).unwrap();
            assert_eq!(header["text"], text);
            let values: Vec<f64> = bytes[16 + length..]
                .chunks(8)
                .map(|value| f64::from_le_bytes(value.try_into().unwrap()))
                .collect();
            assert!(values[0] == 1.0 && values[1].is_nan() && values[2] == f64::INFINITY);
            assert_eq!(values.len(), 3);
        }
    }
}
