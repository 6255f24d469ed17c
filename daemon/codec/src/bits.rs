//! Numbers of 0 to 64 bits each, one directly behind the other.
//!
//! The lowest bit of the first number is the lowest bit of the first byte;
//! the last byte is filled up with zeros.

/// Numbers that are packed at once: as many bytes as a number has bits.
const GROUP: usize = 8;

/// Bytes beyond a group that reading or writing it touches.
const SLACK: usize = 8;

/// Bytes of `count` numbers.
pub(crate) fn packed_bytes(count: usize, bits: u32) -> usize {
    (count * bits as usize).div_ceil(8)
}

/// The lowest `bits` bits.
pub(crate) fn mask(bits: u32) -> u64 {
    if bits == 0 {
        0
    } else {
        u64::MAX >> (64 - bits)
    }
}

/// Calls a function that knows the width when it is compiled.
macro_rules! for_width {
    ($bits:expr, $function:ident $arguments:tt) => {
        for_width!($bits, $function $arguments,
            1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
            33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61
            62 63 64)
    };
    ($bits:expr, $function:ident $arguments:tt, $($width:literal)*) => {
        match $bits {
            $($width => $function::<$width> $arguments,)*
            _ => {}
        }
    };
}

/// Appends the lowest `bits` bits of each number.
pub(crate) fn pack(numbers: &[u64], bits: u32, out: &mut Vec<u8>) {
    let start = out.len();
    let end = start + packed_bytes(numbers.len(), bits);
    // groups write whole words, so the last of them needs room for a whole group
    out.resize(end + 64 + SLACK, 0);
    let room = &mut out[start..];
    for_width!(bits, pack_all(numbers, room));
    out.truncate(end);
}

fn pack_all<const BITS: usize>(numbers: &[u64], room: &mut [u8]) {
    let (groups, tail) = numbers.as_chunks::<GROUP>();
    let mut at = 0;
    for group in groups {
        pack_group::<BITS>(group, &mut room[at..at + BITS + SLACK]);
        at += BITS;
    }
    if !tail.is_empty() {
        let mut last = [0; GROUP];
        last[..tail.len()].copy_from_slice(tail);
        pack_group::<BITS>(&last, &mut room[at..at + BITS + SLACK]);
    }
}

#[inline(always)]
fn pack_group<const BITS: usize>(group: &[u64; GROUP], room: &mut [u8]) {
    let mut words = [0_u64; 9];
    for (place, number) in group.iter().enumerate() {
        let number = number & (u64::MAX >> (64 - BITS));
        let (word, shift) = (place * BITS / 64, place * BITS % 64);
        words[word] |= number << shift;
        if shift + BITS > 64 {
            words[word + 1] |= number >> (64 - shift);
        }
    }
    for word in 0..BITS.div_ceil(8) {
        room[word * 8..word * 8 + 8].copy_from_slice(&words[word].to_le_bytes());
    }
}

/// Fills `numbers` from `bytes`, of which there must be [`packed_bytes`].
pub(crate) fn unpack(bytes: &[u8], bits: u32, numbers: &mut [u64]) {
    debug_assert_eq!(bytes.len(), packed_bytes(numbers.len(), bits));
    if bits == 0 {
        numbers.fill(0);
    }
    for_width!(bits, unpack_all(bytes, numbers));
}

fn unpack_all<const BITS: usize>(bytes: &[u8], numbers: &mut [u64]) {
    let safe = (bytes.len().saturating_sub(SLACK) / BITS).min(numbers.len() / GROUP);
    let (head, tail) = numbers.split_at_mut(safe * GROUP);
    let mut at = 0;
    for group in head.as_chunks_mut::<GROUP>().0 {
        unpack_group::<BITS>(&bytes[at..at + BITS + SLACK], group);
        at += BITS;
    }
    unpack_tail::<BITS>(&bytes[at..], tail);
}

/// The last groups, whose reads would go past the end: from a copy that has
/// zeros behind it.
fn unpack_tail<const BITS: usize>(bytes: &[u8], numbers: &mut [u64]) {
    // less than a group and the slack are left, and a group reads as much again
    let mut copy = [0; 2 * (64 + SLACK)];
    let length = bytes.len().min(64 + SLACK);
    copy[..length].copy_from_slice(&bytes[..length]);
    let mut at = 0;
    for numbers in numbers.chunks_mut(GROUP) {
        let mut group = [0; GROUP];
        unpack_group::<BITS>(&copy[at..at + BITS + SLACK], &mut group);
        numbers.copy_from_slice(&group[..numbers.len()]);
        at += BITS;
    }
}

#[inline(always)]
fn unpack_group<const BITS: usize>(window: &[u8], group: &mut [u64; GROUP]) {
    let window = &window[..BITS + SLACK];
    for (place, number) in group.iter_mut().enumerate() {
        let (byte, shift) = (place * BITS / 8, place * BITS % 8);
        let mut word = word_at(window, byte) >> shift;
        if shift + BITS > 64 {
            word |= u64::from(window[byte + 8]) << (64 - shift);
        }
        *number = word & (u64::MAX >> (64 - BITS));
    }
}

#[inline(always)]
fn word_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_and_length_comes_back() {
        let mut seed = 1_u64;
        for bits in 0..=64 {
            for count in (0..40).chain([63, 64, 65, 120, 300]) {
                let numbers: Vec<u64> = (0..count)
                    .map(|_| {
                        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        (seed ^ (seed >> 29)) & mask(bits)
                    })
                    .collect();
                let mut out = vec![7];
                pack(&numbers, bits, &mut out);
                assert_eq!(out.len() - 1, packed_bytes(count, bits));
                let mut back = vec![9; count];
                unpack(&out[1..], bits, &mut back);
                assert_eq!(back, numbers, "{count} numbers of {bits} bits");
            }
        }
    }

    #[test]
    fn what_lies_above_the_width_is_cut_off() {
        let mut out = Vec::new();
        pack(&[u64::MAX, 0, u64::MAX], 3, &mut out);
        assert_eq!(out, [0b1100_0111, 0b1]);
    }
}
