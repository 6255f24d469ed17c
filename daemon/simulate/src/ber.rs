//! BER (X.690), as far as SNMP uses it: definite lengths, one-byte tags.
//!
//! Written for a simulated agent and on purpose not shared with the collector:
//! two readings of the standard check each other.

/// Sub-identifiers in an OBJECT IDENTIFIER (RFC 3416 §4.1).
pub(crate) const MAX_SUB_IDS: usize = 128;

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OBJECT_ID: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;

/// Why bytes are not the BER that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BerError {
    #[error("the bytes end in the middle of a value")]
    Cut,
    #[error("a length is indefinite or absurd")]
    Length,
    #[error("found tag {found:#04x}, expected {expected:#04x}")]
    Tag { expected: u8, found: u8 },
    #[error("a number does not fit its type")]
    Number,
    #[error("an object identifier is malformed")]
    ObjectId,
}

/// Reads values one after the other.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next value: its tag and its content.
    pub(crate) fn value(&mut self) -> Result<(u8, &'a [u8]), BerError> {
        let tag = self.byte()?;
        let length = self.length()?;
        Ok((tag, self.take(length)?))
    }

    /// The content of the next value, which must carry `tag`.
    pub(crate) fn content(&mut self, tag: u8) -> Result<&'a [u8], BerError> {
        match self.value()? {
            (found, content) if found == tag => Ok(content),
            (found, _) => Err(BerError::Tag {
                expected: tag,
                found,
            }),
        }
    }

    /// An INTEGER of at most 32 bits.
    pub(crate) fn int32(&mut self) -> Result<i32, BerError> {
        let wide = signed(self.content(INTEGER)?)?;
        i32::try_from(wide).map_err(|_wider| BerError::Number)
    }

    fn length(&mut self) -> Result<usize, BerError> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(usize::from(first));
        }
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return Err(BerError::Length);
        }
        let digits = self.take(count)?;
        Ok(digits
            .iter()
            .fold(0, |length, digit| length << 8 | usize::from(*digit)))
    }

    fn byte(&mut self) -> Result<u8, BerError> {
        let (first, rest) = self.rest.split_first().ok_or(BerError::Cut)?;
        self.rest = rest;
        Ok(*first)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], BerError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(BerError::Cut)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// The content of an INTEGER.
pub(crate) fn signed(content: &[u8]) -> Result<i64, BerError> {
    if content.is_empty() || content.len() > 8 {
        return Err(BerError::Number);
    }
    let sign = if content[0] & 0x80 == 0 { 0 } else { 0xff };
    let mut wide = [sign; 8];
    wide[8 - content.len()..].copy_from_slice(content);
    Ok(i64::from_be_bytes(wide))
}

/// The content of a Counter, Gauge or TimeTicks.
pub(crate) fn unsigned(content: &[u8]) -> Result<u64, BerError> {
    let digits = match content {
        [0, digits @ ..] if !digits.is_empty() => digits,
        digits => digits,
    };
    if digits.is_empty() || digits.len() > 8 {
        return Err(BerError::Number);
    }
    let mut wide = [0; 8];
    wide[8 - digits.len()..].copy_from_slice(digits);
    Ok(u64::from_be_bytes(wide))
}

/// The content of an OBJECT IDENTIFIER. The first byte stands for two
/// sub-identifiers (X.690 §8.19.4).
pub(crate) fn object_id(content: &[u8]) -> Result<Vec<u32>, BerError> {
    let mut ids = Vec::with_capacity(content.len() + 1);
    let mut rest = content;
    while !rest.is_empty() {
        let id = sub_id(&mut rest)?;
        if ids.is_empty() {
            let first = (id / 40).min(2);
            ids.push(first);
            ids.push(id - first * 40);
        } else {
            ids.push(id);
        }
        if ids.len() > MAX_SUB_IDS {
            return Err(BerError::ObjectId);
        }
    }
    if ids.is_empty() {
        return Err(BerError::ObjectId);
    }
    Ok(ids)
}

fn sub_id(rest: &mut &[u8]) -> Result<u32, BerError> {
    let mut id: u32 = 0;
    loop {
        let (byte, after) = rest.split_first().ok_or(BerError::ObjectId)?;
        *rest = after;
        if id > u32::MAX >> 7 {
            return Err(BerError::ObjectId);
        }
        id = id << 7 | u32::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok(id);
        }
    }
}

/// Bytes that a value with a content of `length` bytes takes.
pub(crate) fn whole_len(length: usize) -> usize {
    let (_, digits) = length_digits(length);
    let length_bytes = if length < 0x80 { 1 } else { 1 + digits };
    1 + length_bytes + length
}

/// The length's bytes in network order, and how many of them matter.
fn length_digits(length: usize) -> ([u8; 8], usize) {
    let digits = u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes();
    let zeros = digits.iter().take_while(|digit| **digit == 0).count();
    (digits, 8 - zeros)
}

/// Writes tag and length of a value whose content comes next.
pub(crate) fn put_header(out: &mut Vec<u8>, tag: u8, length: usize) {
    out.push(tag);
    if let Ok(short) = u8::try_from(length)
        && short < 0x80
    {
        out.push(short);
        return;
    }
    let (digits, count) = length_digits(length);
    out.push(0x80 | u8::try_from(count).expect("a length has at most 8 bytes"));
    out.extend_from_slice(&digits[8 - count..]);
}

/// Writes a whole value.
pub(crate) fn put_value(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    put_header(out, tag, content.len());
    out.extend_from_slice(content);
}

/// Writes a signed number in as few bytes as possible.
pub(crate) fn put_signed(out: &mut Vec<u8>, tag: u8, number: i64) {
    let digits = number.to_be_bytes();
    let first = (0..7)
        .find(|&place| !repeats_sign(digits[place], digits[place + 1]))
        .unwrap_or(7);
    put_value(out, tag, &digits[first..]);
}

/// Whether `byte` says no more than the sign bit of the byte behind it.
fn repeats_sign(byte: u8, next: u8) -> bool {
    let negative = next & 0x80 != 0;
    (byte == 0x00 && !negative) || (byte == 0xff && negative)
}

/// Writes an unsigned number in as few bytes as possible.
pub(crate) fn put_unsigned(out: &mut Vec<u8>, tag: u8, number: u64) {
    let mut digits = [0; 9];
    digits[1..].copy_from_slice(&number.to_be_bytes());
    let first = (0..8)
        .find(|&place| digits[place] != 0 || digits[place + 1] & 0x80 != 0)
        .unwrap_or(8);
    put_value(out, tag, &digits[first..]);
}

/// Writes an OBJECT IDENTIFIER; one of fewer than two parts is padded with 0.
pub(crate) fn put_object_id(out: &mut Vec<u8>, ids: &[u32]) {
    put_header(out, OBJECT_ID, object_id_len(ids));
    put_sub_id(out, joined_ids(ids));
    for id in ids.iter().skip(2) {
        put_sub_id(out, *id);
    }
}

fn object_id_len(ids: &[u32]) -> usize {
    let tail: usize = ids.iter().skip(2).map(|id| sub_id_len(*id)).sum();
    sub_id_len(joined_ids(ids)) + tail
}

fn joined_ids(ids: &[u32]) -> u32 {
    let first = ids.first().copied().unwrap_or(0);
    let second = ids.get(1).copied().unwrap_or(0);
    first.saturating_mul(40).saturating_add(second)
}

fn sub_id_len(id: u32) -> usize {
    match id {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        0x20_0000..=0xfff_ffff => 4,
        _ => 5,
    }
}

fn put_sub_id(out: &mut Vec<u8>, id: u32) {
    for group in (0..sub_id_len(id)).rev() {
        let [.., low] = (id >> (7 * group)).to_be_bytes();
        let more = if group == 0 { 0 } else { 0x80 };
        out.push(low & 0x7f | more);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_take_as_few_bytes_as_x690_wants() {
        for (number, bytes) in [
            (0, &[2, 1, 0][..]),
            (127, &[2, 1, 127]),
            (128, &[2, 2, 0, 128]),
            (-1, &[2, 1, 255]),
            (-128, &[2, 1, 128]),
            (-129, &[2, 2, 255, 127]),
        ] {
            let mut out = Vec::new();
            put_signed(&mut out, INTEGER, number);
            assert_eq!(out, bytes, "{number}");
        }
    }

    #[test]
    fn a_counter64_at_its_end_has_a_leading_zero() {
        let mut out = Vec::new();
        put_unsigned(&mut out, 0x46, u64::MAX);
        assert_eq!(out, [0x46, 9, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    }

    #[test]
    fn indefinite_and_absurd_lengths_are_refused() {
        for bytes in [
            &[0x30, 0x80, 0, 0][..],
            &[0x30, 0x85, 0, 0, 0, 0, 1],
            &[0x30, 0x84, 255, 255, 255, 255],
            &[0x30, 5, 1],
            &[0x30],
            &[],
        ] {
            assert!(Reader::new(bytes).value().is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn a_sub_identifier_above_32_bits_is_refused() {
        assert_eq!(
            object_id(&[0x2b, 0x90, 0x80, 0x80, 0x80, 0]),
            Err(BerError::ObjectId)
        );
        assert_eq!(object_id(&[0x2b, 0x81]), Err(BerError::ObjectId));
        assert_eq!(
            object_id(&[0x2b, 0x8f, 0xff, 0xff, 0xff, 0x7f]),
            Ok(vec![1, 3, u32::MAX])
        );
    }

    proptest! {
        #[test]
        fn signed_numbers_come_back(number: i64) {
            let mut out = Vec::new();
            put_signed(&mut out, INTEGER, number);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(signed(reader.content(INTEGER).unwrap()), Ok(number));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn unsigned_numbers_come_back(number: u64) {
            let mut out = Vec::new();
            put_unsigned(&mut out, 0x46, number);
            prop_assert_eq!(unsigned(Reader::new(&out).content(0x46).unwrap()), Ok(number));
        }

        #[test]
        fn object_ids_come_back(first in 0_u32..3, second in 0_u32..40, tail in prop::collection::vec(any::<u32>(), 0..100)) {
            let ids: Vec<u32> = [first, second].into_iter().chain(tail).collect();
            let mut out = Vec::new();
            put_object_id(&mut out, &ids);
            prop_assert_eq!(object_id(Reader::new(&out).content(OBJECT_ID).unwrap()), Ok(ids));
        }

        #[test]
        fn lengths_come_back(length in 0_usize..70_000) {
            let mut out = Vec::new();
            put_value(&mut out, OCTET_STRING, &vec![7; length]);
            prop_assert_eq!(out.len(), whole_len(length));
            prop_assert_eq!(Reader::new(&out).content(OCTET_STRING).unwrap().len(), length);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while let Ok((_, content)) = reader.value() {
                let _ = (signed(content), unsigned(content), object_id(content));
            }
        }
    }
}
