//! Decimal fractions as whole numbers: 20.5 is 205 and the exponent 1.

/// The largest exponent: microseconds of a second are the finest that
/// devices tell.
pub(crate) const MAX_EXPONENT: u8 = 6;

const POWERS: [f64; MAX_EXPONENT as usize + 1] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];

/// Adding it to a number below [`ROUNDED_BELOW`] leaves no room for a
/// fraction, so subtracting it again rounds; faster than `round` where the
/// processor's instruction cannot be assumed.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

const ROUNDED_BELOW: f64 = 2_251_799_813_685_248.0;

/// Values that are tried before looking whether one did not fit.
const CHUNK: usize = 32;

/// The smallest exponent with which every value comes back from `whole` bit
/// by bit, if there is one. `whole` is as long as `values`.
pub(crate) fn split(values: &[f64], whole: &mut [u64]) -> Option<u8> {
    let mut exponent = 0;
    while let Some(misfit) = first_misfit(values, exponent, whole) {
        exponent = (exponent + 1..=MAX_EXPONENT).find(|e| fits(misfit, *e))?;
    }
    Some(exponent)
}

/// Undoes [`split`].
pub(crate) fn join(whole: &[u64], exponent: u8, values: &mut [f64]) {
    let power = POWERS[usize::from(exponent.min(MAX_EXPONENT))];
    if exponent == 0 {
        for (value, whole) in values.iter_mut().zip(whole) {
            *value = whole.cast_signed() as f64;
        }
    } else {
        for (value, whole) in values.iter_mut().zip(whole) {
            *value = whole.cast_signed() as f64 / power;
        }
    }
}

fn first_misfit(values: &[f64], exponent: u8, whole: &mut [u64]) -> Option<f64> {
    for (values, whole) in values.chunks(CHUNK).zip(whole.chunks_mut(CHUNK)) {
        let fit = if exponent == 0 {
            split_integers(values, whole)
        } else {
            split_fractions(values, POWERS[usize::from(exponent)], whole)
        };
        if !fit {
            return values.iter().copied().find(|v| !fits(*v, exponent));
        }
    }
    None
}

fn fits(value: f64, exponent: u8) -> bool {
    let mut whole = [0];
    if exponent == 0 {
        split_integers(&[value], &mut whole)
    } else {
        split_fractions(&[value], POWERS[usize::from(exponent)], &mut whole)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "what was cut off is seen when the bits are compared"
)]
#[inline(always)]
fn split_integers(values: &[f64], whole: &mut [u64]) -> bool {
    let mut different = 0;
    for (value, whole) in values.iter().zip(whole) {
        let integer = *value as i64;
        *whole = integer.cast_unsigned();
        different |= (integer as f64).to_bits() ^ value.to_bits();
    }
    different == 0
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "it was rounded to a whole number"
)]
#[inline(always)]
fn split_fractions(values: &[f64], power: f64, whole: &mut [u64]) -> bool {
    let mut different = 0;
    let mut small = true;
    for (value, whole) in values.iter().zip(whole) {
        let shifted = value * power;
        small &= shifted.abs() < ROUNDED_BELOW;
        let rounded = (shifted + ROUNDER) - ROUNDER;
        *whole = (rounded as i64).cast_unsigned();
        different |= (rounded / power).to_bits() ^ value.to_bits();
    }
    small && different == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponent_of(values: &[f64]) -> Option<u8> {
        let mut whole = vec![0; values.len()];
        let exponent = split(values, &mut whole)?;
        let mut back = vec![0.0; values.len()];
        join(&whole, exponent, &mut back);
        for (value, back) in values.iter().zip(&back) {
            assert_eq!(value.to_bits(), back.to_bits());
        }
        Some(exponent)
    }

    #[test]
    fn the_smallest_exponent_that_fits_all_is_found() {
        assert_eq!(exponent_of(&[1.0, -7.0, 0.0]), Some(0));
        assert_eq!(exponent_of(&[1.0, 33.3, 20.5]), Some(1));
        assert_eq!(exponent_of(&[0.25, 0.001_234]), Some(6));
        assert_eq!(exponent_of(&[-0.1]), Some(1));
    }

    #[test]
    fn large_whole_numbers_fit() {
        let values = [
            9_007_199_254_740_994.0,
            9.223_372_036_854_775e18,
            -9.223_372_036_854_775e18,
        ];
        assert_eq!(exponent_of(&values), Some(0));
    }

    #[test]
    fn what_is_no_short_decimal_does_not_fit() {
        for value in [
            -0.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            f64::MIN_POSITIVE / 2.0,
            1.0 / 3.0,
            1e19,
            1e-7,
            4e15 + 0.5,
        ] {
            assert_eq!(exponent_of(&[1.0, value]), None, "{value}");
        }
    }
}
