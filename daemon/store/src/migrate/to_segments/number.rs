//! One value in few bytes, exact to the last bit, as schema 2 had it.
//!
//! Most of what a network measures is a whole number or a decimal with few
//! places. Such a value was kept as `mantissa / 10^places`, where division gives
//! back exactly the same bits; anything else as its bits.
//!
//! A value is one varint `code`, by its low bits:
//!
//! | code | value |
//! |---|---|
//! | `n * 2` | the whole number whose zigzag is n |
//! | `1` | not measured: the usual NaN |
//! | `3` | eight bytes follow, little-endian: the bits |
//! | `1 + 2 * (places + 1)`, places 1 to 9 | a signed varint follows: the mantissa |

use crate::bytes::{Garbled, Reader, unzigzag};

/// Most decimal places: nanoseconds in a second.
pub(crate) const MAX_PLACES: u8 = 9;

const POWERS: [f64; 10] = [
    1.0,
    10.0,
    100.0,
    1_000.0,
    10_000.0,
    100_000.0,
    1_000_000.0,
    10_000_000.0,
    100_000_000.0,
    1_000_000_000.0,
];

const NOT_MEASURED: u64 = 1;
const RAW: u64 = 3;

/// The value of a mantissa.
#[expect(
    clippy::cast_precision_loss,
    reason = "only mantissas that are exact are ever made"
)]
pub(crate) fn from_mantissa(mantissa: i64, places: u8) -> f64 {
    if places == 0 {
        return mantissa as f64;
    }
    mantissa as f64 / POWERS[usize::from(places)]
}

/// Reads one value.
pub(crate) fn read_value(from: &mut Reader<'_>) -> Result<f64, Garbled> {
    let code = from.number()?;
    if code & 1 == 0 {
        return Ok(from_mantissa(unzigzag(code >> 1), 0));
    }
    match code {
        NOT_MEASURED => Ok(f64::NAN),
        RAW => from.raw().map(f64::from_bits),
        decimal => {
            let places = u8::try_from((decimal - 1) / 2 - 1).map_err(|_| Garbled)?;
            if places > MAX_PLACES {
                return Err(Garbled);
            }
            Ok(from_mantissa(from.signed()?, places))
        }
    }
}
