//! Object identifiers as they are on the wire (X.690 §8.19).
//!
//! A walk compares and copies OIDs far more often than it shows them, so they
//! stay encoded. Within one prefix the encoded bytes of two OIDs are equal
//! exactly if their numbers are; their order has to be taken from the numbers.

use std::cmp::Ordering;

use model::Oid;

/// The most numbers in an OID (RFC 2578 §3.5).
const NUMBERS_AT_MOST: usize = 128;

/// Writes the contents of an OBJECT IDENTIFIER. `None` if `oid` cannot be one:
/// fewer than two numbers, or a first one above 2.
pub(super) fn encode(oid: &Oid) -> Option<Vec<u8>> {
    let (&[first, second], rest) = oid.0.split_first_chunk::<2>()?;
    if first > 2 || (first < 2 && second >= 40) || oid.0.len() > NUMBERS_AT_MOST {
        return None;
    }
    let mut encoded = Vec::with_capacity(oid.0.len() + 4);
    push_number(&mut encoded, (first * 40).checked_add(second)?);
    for &number in rest {
        push_number(&mut encoded, number);
    }
    Some(encoded)
}

fn push_number(out: &mut Vec<u8>, number: u32) {
    let groups = (32 - number.leading_zeros()).div_ceil(7).max(1);
    for group in (0..groups).rev() {
        let low = u8::try_from((number >> (7 * group)) & 0x7f).expect("masked to seven bits");
        let more = if group == 0 { 0 } else { 0x80 };
        out.push(low | more);
    }
}

/// Takes one number off the front; `None` if there is none, if it is cut, or if
/// it is larger than 32 bits.
fn take_number(bytes: &mut &[u8]) -> Option<u32> {
    let mut number: u32 = 0;
    loop {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if number >> 25 != 0 {
            return None;
        }
        number = (number << 7) | u32::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
}

/// Whether `encoded` is whole numbers of at most 32 bits each, and not too many.
pub(super) fn is_valid(encoded: &[u8]) -> bool {
    let mut rest = encoded;
    let mut numbers = 1;
    while !rest.is_empty() {
        numbers += 1;
        if numbers > NUMBERS_AT_MOST || take_number(&mut rest).is_none() {
            return false;
        }
    }
    !encoded.is_empty()
}

/// What follows `prefix` in `encoded`, if it begins with it.
pub(super) fn below<'a>(encoded: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    encoded.strip_prefix(prefix)
}

/// The one number that `rest` is; `None` if it is none, or more.
pub(super) fn single(mut rest: &[u8]) -> Option<u32> {
    let number = take_number(&mut rest)?;
    rest.is_empty().then_some(number)
}

/// Orders two valid encoded OIDs by their numbers.
pub(super) fn compare(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        match (take_number(&mut a), take_number(&mut b)) {
            (Some(x), Some(y)) if x == y => {}
            (x, y) => return x.cmp(&y),
        }
    }
}

/// Reads an encoded OID; numbers that cannot be read end it.
pub(super) fn decode(mut encoded: &[u8]) -> Oid {
    let mut numbers = Vec::with_capacity(encoded.len() + 1);
    if let Some(first_two) = take_number(&mut encoded) {
        let first = (first_two / 40).min(2);
        numbers.extend([first, first_two - first * 40]);
    }
    while let Some(number) = take_number(&mut encoded) {
        numbers.push(number);
    }
    Oid(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oid(text: &str) -> Oid {
        text.parse().unwrap()
    }

    #[test]
    fn an_oid_reads_back_as_it_was_written() {
        for text in [
            "1.3.6.1.2.1.2.2.1.10.4294967295",
            "2.999.3",
            "0.39",
            "1.3.127.128.16383.16384",
        ] {
            let encoded = encode(&oid(text)).unwrap();
            assert!(is_valid(&encoded));
            assert_eq!(decode(&encoded).to_string(), text);
        }
        for text in ["1", "3.1", "1.40", "2.4294967295"] {
            assert_eq!(encode(&oid(text)), None, "{text}");
        }
    }

    #[test]
    fn order_is_that_of_the_numbers_not_of_the_bytes() {
        let ordered = [
            "1.3.6",
            "1.3.6.127",
            "1.3.6.128",
            "1.3.6.16383",
            "1.3.6.16384",
            "1.3.7",
        ];
        for pair in ordered.windows(2) {
            let (low, high) = (
                encode(&oid(pair[0])).unwrap(),
                encode(&oid(pair[1])).unwrap(),
            );
            assert_eq!(compare(&low, &high), Ordering::Less, "{pair:?}");
            assert_eq!(compare(&high, &low), Ordering::Greater, "{pair:?}");
            assert_eq!(compare(&high, &high), Ordering::Equal);
        }
    }

    #[test]
    fn an_index_is_one_whole_number() {
        let column = encode(&oid("1.3.6.1.2.1.2.2.1.10")).unwrap();
        let rest_of = |text: &str| {
            let cell = encode(&oid(text)).unwrap();
            below(&cell, &column).map(<[u8]>::to_vec)
        };
        let index = |text: &str| rest_of(text).and_then(|rest| single(&rest));
        assert_eq!(index("1.3.6.1.2.1.2.2.1.10.70000"), Some(70_000));
        assert_eq!(index("1.3.6.1.2.1.2.2.1.10.1.2"), None);
        assert_eq!(index("1.3.6.1.2.1.2.2.1.10"), None);
        assert_eq!(rest_of("1.3.6.1.2.1.2.2.1.11.1"), None);
    }

    #[test]
    fn cut_and_oversized_numbers_are_not_valid() {
        assert!(!is_valid(&[]));
        assert!(!is_valid(&[0x2b, 0x86]));
        assert!(!is_valid(&[0x2b, 0x90, 0x80, 0x80, 0x80, 0x00]));
        assert!(is_valid(&[0x2b, 0x8f, 0xff, 0xff, 0xff, 0x7f]));
        assert!(!is_valid(&[0x01; 200]));
    }
}
