//! Measured numbers as JSON, quickly: what takes most of the time of a large
//! answer. The text is that of `serde_json`, byte for byte.
//!
//! Most numbers that are measured are whole or have three decimals or fewer, as
//! times have. These are written as integers are.

use model::Timestamp;
use store::samples;

use crate::number::Number;

/// Two decimals with at most 15 digits are never the same `f64`, so below this
/// no shorter text reads back as the same number.
const ALL_DIGITS_COUNT: u64 = 1_000_000_000_000_000;

/// Writes `numbers` as [`Numbers`](crate::number::Numbers) are written.
///
/// # Errors
///
/// As `serde_json::to_vec`.
pub(crate) fn numbers(text: &mut Vec<u8>, numbers: &[f64]) -> serde_json::Result<()> {
    text.push(b'[');
    for (place, value) in numbers.iter().enumerate() {
        if place > 0 {
            text.push(b',');
        }
        number(text, *value)?;
    }
    text.push(b']');
    Ok(())
}

/// Writes `points` as each [`Point`](crate::number::Point) is written.
///
/// # Errors
///
/// As `serde_json::to_vec`.
pub(crate) fn points(text: &mut Vec<u8>, points: &[samples::Point]) -> serde_json::Result<()> {
    text.push(b'[');
    for (place, point) in points.iter().enumerate() {
        text.extend_from_slice(if place > 0 { b",[" } else { b"[" });
        seconds(text, point.at)?;
        text.push(b',');
        number(text, point.value)?;
        text.extend_from_slice(if point.broken { b",true]" } else { b"]" });
    }
    text.push(b']');
    Ok(())
}

fn seconds(text: &mut Vec<u8>, at: Timestamp) -> serde_json::Result<()> {
    if at.0 >= ALL_DIGITS_COUNT {
        return number(text, crate::history::seconds(at));
    }
    thousandths(text, at.0);
    Ok(())
}

fn number(text: &mut Vec<u8>, value: f64) -> serde_json::Result<()> {
    let size = value.abs();
    match whole(size).or_else(|| in_thousandths(size)) {
        Some(size) => {
            // the sign of -0.0 too
            if value.is_sign_negative() {
                text.push(b'-');
            }
            thousandths(text, size);
            Ok(())
        }
        None => serde_json::to_writer(text, &Number(value)),
    }
}

/// A number that is not negative in thousandths, if it is whole.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "what was cut off is seen when the numbers are compared"
)]
fn whole(size: f64) -> Option<u64> {
    let whole = size as u64;
    let is_same = (whole as f64).to_bits() == size.to_bits();
    (whole < ALL_DIGITS_COUNT && is_same).then(|| whole * 1_000)
}

/// A number that is not negative in thousandths, if it is the one nearest to
/// them.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "what was cut off is seen when the numbers are compared"
)]
fn in_thousandths(size: f64) -> Option<u64> {
    let rounded = (size * 1e3 + 0.5) as u64;
    let is_nearest = (rounded as f64 / 1e3).to_bits() == size.to_bits();
    (rounded < ALL_DIGITS_COUNT && is_nearest).then_some(rounded)
}

/// Writes so many thousandths: at least one digit behind the point, and no
/// further zeros.
fn thousandths(text: &mut Vec<u8>, size: u64) {
    let digit = |number: u64| b'0' + u8::try_from(number % 10).unwrap_or(0);
    let fraction = size % 1_000;
    text.extend_from_slice(itoa::Buffer::new().format(size / 1_000).as_bytes());
    let behind = [
        b'.',
        digit(fraction / 100),
        digit(fraction / 10),
        digit(fraction),
    ];
    let length = match fraction {
        tenths if tenths % 100 == 0 => 2,
        hundredths if hundredths % 10 == 0 => 3,
        _ => 4,
    };
    // all four, which is quicker than so many
    text.extend_from_slice(&behind);
    text.truncate(text.len() - behind.len() + length);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::{Numbers, Point};

    fn same(value: f64) {
        let mut quick = Vec::new();
        numbers(&mut quick, &[value]).unwrap();
        let slow = serde_json::to_string(&Numbers(&[value])).unwrap();
        assert_eq!(String::from_utf8(quick).unwrap(), slow);
    }

    #[test]
    fn numbers_are_written_as_serde_json_writes_them() {
        let sizes = [
            0.0,
            0.001,
            0.0005,
            0.000_999_999,
            0.5,
            0.25,
            0.125,
            0.0625,
            0.1 + 0.2,
            1.0 / 3.0,
            9.999,
            9.999_5,
            100.0,
            1_763_700_000.123,
            1_763_700_000.120,
            999_999_999_999.999,
            1_000_000_000_000.001,
            999_999_999_999_999.0,
            1e15,
            1e15 + 1.0,
            9_007_199_254_740_993.0,
            1e16,
            1.8e19,
            1e300,
            1e-5,
            f64::MIN_POSITIVE,
            f64::MAX,
            f64::NAN,
            f64::INFINITY,
        ];
        for size in sizes {
            same(size);
            same(-size);
        }
    }

    #[test]
    fn numbers_of_every_size_are_written_as_serde_json_writes_them() {
        let mut bits = 1_u64;
        for _ in 0..50_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            same(f64::from_bits(bits));
            let whole = u32::try_from(bits >> 32).unwrap();
            for tenths in [1.0, 10.0, 1e2, 1e3, 1e4, 1e6, 1e-3, 1e-6, 1e-9] {
                same(f64::from(whole) / tenths);
                same((f64::from(whole) / tenths).next_up());
            }
        }
    }

    #[test]
    fn points_are_written_as_serde_json_writes_them() {
        let times = [0, 1, 10, 999, 1_000, 1_763_700_000_120, 999_999_999_999_999];
        let times = times.into_iter().chain([1 << 50, 1 << 60, u64::MAX]);
        let all: Vec<samples::Point> = times
            .enumerate()
            .map(|(place, at)| samples::Point {
                at: Timestamp(at),
                value: [1.0, 0.3, f64::INFINITY][place % 3],
                broken: place % 2 == 1,
            })
            .collect();
        for some in [&all[..], &all[..1], &[]] {
            let mut quick = Vec::new();
            points(&mut quick, some).unwrap();
            let each = some
                .iter()
                .map(|one| Point(crate::history::seconds(one.at), one.value, one.broken));
            let slow = serde_json::to_string(&each.collect::<Vec<_>>()).unwrap();
            assert_eq!(String::from_utf8(quick).unwrap(), slow);
        }
    }
}
