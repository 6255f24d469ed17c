//! One value in few bytes, exact to the last bit.
//!
//! Most of what a network measures is a whole number or a decimal with few
//! places. Such a value is kept as `mantissa / 10^places`, where division gives
//! back exactly the same bits; anything else as its bits.
//!
//! A value in a row is one varint `code`, by its low bits:
//!
//! | code | value |
//! |---|---|
//! | `n * 2` | the whole number whose zigzag is n |
//! | `1` | not measured: the usual NaN |
//! | `3` | eight bytes follow, little-endian: the bits |
//! | `1 + 2 * (places + 1)`, places 1 to 9 | a signed varint follows: the mantissa |

use super::bytes::{Garbled, Reader, put, put_signed, unzigzag, zigzag};

/// Most decimal places that are tried: nanoseconds in a second.
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

/// 2^61: whole numbers below it can be shifted and subtracted without care.
const WHOLE_LIMIT: f64 = 2_305_843_009_213_693_952.0;

/// 2^53: below it, a whole number divided by a power of ten is the double that
/// is nearest to that decimal.
const DECIMAL_LIMIT: f64 = 9_007_199_254_740_992.0;

const NOT_MEASURED: u64 = 1;
const RAW: u64 = 3;

/// The bits that stand for "not measured"; other NaNs are kept as they are.
pub(crate) fn is_absent(value: f64) -> bool {
    value.to_bits() == f64::NAN.to_bits()
}

/// The mantissa of `value` with this many decimal places, if that is exact.
pub(crate) fn mantissa(value: f64, places: u8) -> Option<i64> {
    let scaled = value * POWERS[usize::from(places)];
    let limit = if places == 0 {
        WHOLE_LIMIT
    } else {
        DECIMAL_LIMIT
    };
    if scaled.is_nan() || scaled.abs() >= limit {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked against the limit above"
    )]
    let mantissa = if places == 0 {
        scaled as i64
    } else {
        scaled.round() as i64
    };
    let same = from_mantissa(mantissa, places).to_bits() == value.to_bits();
    same.then_some(mantissa)
}

/// The value that [`mantissa`] took apart.
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

/// The fewest decimal places from `least` on with which `value` is exact.
pub(crate) fn places(value: f64, least: u8) -> Option<u8> {
    (least..=MAX_PLACES).find(|places| mantissa(value, *places).is_some())
}

/// Appends `value`.
pub(crate) fn put_value(out: &mut Vec<u8>, value: f64) {
    if let Some(whole) = mantissa(value, 0) {
        return put(out, zigzag(whole) << 1);
    }
    if is_absent(value) {
        return put(out, NOT_MEASURED);
    }
    match places(value, 1) {
        Some(places) => {
            put(out, 1 + 2 * (u64::from(places) + 1));
            let mantissa = mantissa(value, places).expect("these places were just tried");
            put_signed(out, mantissa);
        }
        None => {
            put(out, RAW);
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
    }
}

/// Reads what [`put_value`] appended.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn there_and_back(value: f64) -> (f64, usize) {
        let mut out = Vec::new();
        put_value(&mut out, value);
        let mut from = Reader(&out);
        let back = read_value(&mut from).unwrap();
        assert!(from.0.is_empty());
        (back, out.len())
    }

    #[test]
    fn believable_values_take_few_bytes() {
        for (value, bytes) in [
            (0.0, 1),
            (1.0, 1),
            (10_000_000_000.0, 6),
            (0.000_123, 3),
            (21.5, 3),
            (f64::NAN, 1),
            (0.1 + 0.2, 9),
        ] {
            let (back, len) = there_and_back(value);
            assert_eq!(back.to_bits(), value.to_bits(), "{value}");
            assert_eq!(len, bytes, "{value}");
        }
    }

    #[test]
    fn the_odd_corners_of_floating_point_are_exact() {
        for value in [
            -0.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN_POSITIVE,
            f64::MAX,
            -f64::NAN,
            f64::from_bits(0x7ff8_dead_beef_0001),
            WHOLE_LIMIT,
            -WHOLE_LIMIT,
            DECIMAL_LIMIT + 2.0,
            1.844_674_407_370_955_2e19,
        ] {
            assert_eq!(
                there_and_back(value).0.to_bits(),
                value.to_bits(),
                "{value}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_value_reads_back_bit_for_bit(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assert_eq!(there_and_back(value).0.to_bits(), bits);
        }

        #[test]
        fn any_decimal_reads_back_bit_for_bit(mantissa: i64, places in 0..12i32) {
            #[expect(clippy::cast_precision_loss, reason = "any value will do")]
            let value = mantissa as f64 / 10f64.powi(places);
            prop_assert_eq!(there_and_back(value).0.to_bits(), value.to_bits());
        }
    }
}
