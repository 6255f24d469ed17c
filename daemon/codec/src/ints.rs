//! Runs of whole numbers: what is left after the best prediction, packed.
//!
//! Numbers are 64 bits with wrapping arithmetic, kept as `u64`; where their
//! order matters they are signed.

use crate::bits::{mask, pack, packed_bytes, unpack};
use crate::bytes::{Reader, put_varint, unzigzag, varint_bytes, zigzag};
use crate::{Corrupt, Effort, dense};

// ids are forever: see the table in the crate's documentation
const CONSTANT: u8 = 0;
const OFFSET: u8 = 1;
const DELTA_OFFSET: u8 = 2;
const DELTA: u8 = 3;
const DELTA_OF_DELTA: u8 = 4;
const PCO: u8 = 5;
const FACTOR: u8 = 0x80;

/// pco orders numbers without a sign, so zero goes into the middle.
const MIDDLE: u64 = 1 << 63;

/// Memory for what each prediction leaves.
#[derive(Debug, Default)]
pub(crate) struct IntScratch {
    deltas: Vec<u64>,
    offset: Vec<u64>,
    delta_offset: Vec<u64>,
    delta: Vec<u64>,
    delta_of_delta: Vec<u64>,
    dense: Vec<u8>,
}

/// How narrow to pack what a prediction leaves.
#[derive(Clone, Copy, Debug)]
struct Width {
    bits: u8,
    /// Numbers that need more bits than that.
    wider: usize,
    /// About what it costs, in bits.
    cost: usize,
}

/// Appends the numbers, at least one; leaves something else in their place.
pub(crate) fn encode(
    numbers: &mut [u64],
    effort: Effort,
    scratch: &mut IntScratch,
    out: &mut Vec<u8>,
) {
    let first = numbers[0];
    if numbers.iter().fold(0, |any, n| any | (n ^ first)) == 0 {
        out.push(CONSTANT);
        put_varint(out, zigzag(first));
        return;
    }
    let factor = common_factor(numbers, first);
    if factor > 1 {
        for number in numbers.iter_mut() {
            *number = divide(number.wrapping_sub(first), factor);
        }
        out.push(FACTOR);
        put_varint(out, zigzag(first));
        put_varint(out, factor);
    }
    let start = out.len();
    encode_best(numbers, scratch, out);
    if effort == Effort::Dense {
        for number in numbers.iter_mut() {
            *number ^= MIDDLE;
        }
        // its own id stays where ours stood
        let replaced = dense::replace(numbers, start + 1, &mut scratch.dense, out);
        if replaced {
            out[start] = PCO;
        }
    }
}

fn divide(difference: u64, factor: u64) -> u64 {
    difference
        .cast_signed()
        .wrapping_div(factor.cast_signed())
        .cast_unsigned()
}

/// The greatest number that divides every difference from `first`.
fn common_factor(numbers: &[u64], first: u64) -> u64 {
    let mut factor = 0;
    for number in numbers {
        let difference = number.wrapping_sub(first).cast_signed().unsigned_abs();
        if difference != 0 {
            factor = greatest_common_divisor(difference, factor);
            if factor == 1 {
                break;
            }
        }
    }
    factor
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn encode_best(numbers: &[u64], scratch: &mut IntScratch, out: &mut Vec<u8>) {
    let first = numbers[0];
    let least = smallest(numbers);
    fill(
        &mut scratch.offset,
        numbers.iter().map(|n| n.wrapping_sub(least)),
    );
    fill(
        &mut scratch.deltas,
        numbers.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])),
    );
    let deltas = &scratch.deltas;
    let least_delta = smallest(deltas);
    fill(
        &mut scratch.delta_offset,
        deltas.iter().map(|d| d.wrapping_sub(least_delta)),
    );
    fill(&mut scratch.delta, deltas.iter().map(|d| zigzag(*d)));
    fill(
        &mut scratch.delta_of_delta,
        deltas
            .windows(2)
            .map(|pair| zigzag(pair[1].wrapping_sub(pair[0]))),
    );

    let candidates: [(u8, &[u64], &[u64]); 4] = [
        (OFFSET, &[least], &scratch.offset),
        (DELTA_OFFSET, &[first, least_delta], &scratch.delta_offset),
        (DELTA, &[first], &scratch.delta),
        (DELTA_OF_DELTA, &[first, deltas[0]], &scratch.delta_of_delta),
    ];
    let best = candidates
        .into_iter()
        .map(|(id, start, rest)| {
            let width = best_width(rest);
            let start_bytes: usize = start.iter().map(|s| varint_bytes(zigzag(*s))).sum();
            (width.cost + start_bytes * 8, id, start, rest, width)
        })
        .min_by_key(|(cost, ..)| *cost);
    if let Some((_, id, start, rest, width)) = best {
        out.push(id);
        for start in start {
            put_varint(out, zigzag(*start));
        }
        put_packed(rest, width, out);
    }
}

fn fill(into: &mut Vec<u64>, from: impl Iterator<Item = u64>) {
    into.clear();
    into.extend(from);
}

fn smallest(numbers: &[u64]) -> u64 {
    let signed = numbers.iter().map(|n| n.cast_signed());
    signed.min().unwrap_or_default().cast_unsigned()
}

/// The width at which the numbers and what is above it cost least.
fn best_width(numbers: &[u64]) -> Width {
    let mut count_of_width = [0_u32; 65];
    for number in numbers {
        count_of_width[64 - number.leading_zeros() as usize] += 1;
    }
    let widest = (0..=64)
        .rev()
        .find(|bits| count_of_width[usize::from(*bits)] > 0);
    let widest: u8 = widest.unwrap_or(0);
    let mut best = Width {
        bits: 64,
        wider: 0,
        cost: usize::MAX,
    };
    let mut wider = 0;
    for bits in (0..=widest).rev() {
        // a gap of one byte, and what is above in sevens of bits
        let each = 8 + usize::from(widest - bits).div_ceil(7) * 8;
        let cost = numbers.len() * usize::from(bits) + wider * each;
        if cost < best.cost {
            best = Width { bits, wider, cost };
        }
        wider += count_of_width[usize::from(bits)] as usize;
    }
    best
}

fn put_packed(numbers: &[u64], width: Width, out: &mut Vec<u8>) {
    let Width { bits, wider, .. } = width;
    out.push(bits);
    put_varint(out, wider as u64);
    let bits = u32::from(bits);
    if wider > 0 {
        let most = mask(bits);
        let mut next = 0;
        for (place, number) in numbers.iter().enumerate() {
            if *number > most {
                put_varint(out, (place - next) as u64);
                put_varint(out, number >> bits);
                next = place + 1;
            }
        }
    }
    pack(numbers, bits, out);
}

/// Reads as many numbers as there is room for, at least one.
pub(crate) fn decode(from: &mut Reader<'_>, numbers: &mut [u64]) -> Result<(), Corrupt> {
    let id = from.byte()?;
    if id != FACTOR {
        return decode_plain(id, from, numbers);
    }
    let start = unzigzag(from.varint()?);
    let factor = from.varint()?;
    let id = from.byte()?;
    decode_plain(id, from, numbers)?;
    for number in numbers {
        *number = number.wrapping_mul(factor).wrapping_add(start);
    }
    Ok(())
}

fn decode_plain(id: u8, from: &mut Reader<'_>, numbers: &mut [u64]) -> Result<(), Corrupt> {
    if id == PCO {
        dense::decode(from.take_rest(), numbers)?;
        for number in numbers {
            *number ^= MIDDLE;
        }
        return Ok(());
    }
    let start = unzigzag(from.varint()?);
    match id {
        CONSTANT => numbers.fill(start),
        OFFSET => {
            get_packed(from, numbers)?;
            for number in numbers {
                *number = number.wrapping_add(start);
            }
        }
        DELTA_OFFSET => {
            let least = unzigzag(from.varint()?);
            get_packed(from, behind(numbers, 1)?)?;
            sum_up(numbers, start, |delta| delta.wrapping_add(least));
        }
        DELTA => {
            get_packed(from, behind(numbers, 1)?)?;
            sum_up(numbers, start, unzigzag);
        }
        DELTA_OF_DELTA => {
            let delta = unzigzag(from.varint()?);
            get_packed(from, behind(numbers, 2)?)?;
            sum_up_twice(numbers, start, delta);
        }
        _ => return Err(Corrupt("an unknown coding of integers")),
    }
    Ok(())
}

fn behind(numbers: &mut [u64], start: usize) -> Result<&mut [u64], Corrupt> {
    numbers
        .get_mut(start..)
        .ok_or(Corrupt("too few integers for their coding"))
}

fn sum_up(numbers: &mut [u64], start: u64, delta: impl Fn(u64) -> u64) {
    let mut sum = start;
    if let Some((first, rest)) = numbers.split_first_mut() {
        *first = sum;
        for number in rest {
            sum = sum.wrapping_add(delta(*number));
            *number = sum;
        }
    }
}

fn sum_up_twice(numbers: &mut [u64], start: u64, delta: u64) {
    let (mut sum, mut delta) = (start.wrapping_add(delta), delta);
    if let [first, second, rest @ ..] = numbers {
        *first = start;
        *second = sum;
        for number in rest {
            delta = delta.wrapping_add(unzigzag(*number));
            sum = sum.wrapping_add(delta);
            *number = sum;
        }
    }
}

fn get_packed(from: &mut Reader<'_>, numbers: &mut [u64]) -> Result<(), Corrupt> {
    let bits = u32::from(from.byte()?);
    if bits > 64 {
        return Err(Corrupt("integers of more than 64 bits"));
    }
    let wider = from.count(numbers.len())?;
    // what is above the width stands before the packed numbers, so it is read twice
    let mut above = *from;
    for _ in 0..2 * wider {
        from.varint()?;
    }
    let bytes = from.take(packed_bytes(numbers.len(), bits))?;
    unpack(bytes, bits, numbers);
    let mut next = 0;
    for _ in 0..wider {
        let place = above.count(numbers.len())? + next;
        let high = above.varint()?;
        let number = numbers
            .get_mut(place)
            .ok_or(Corrupt("an integer behind the last"))?;
        *number |= high.checked_shl(bits).unwrap_or(0);
        next = place + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(numbers: &[u64]) -> usize {
        let mut out = Vec::new();
        let mut copy = numbers.to_vec();
        encode(
            &mut copy,
            Effort::Fast,
            &mut IntScratch::default(),
            &mut out,
        );
        let mut back = vec![0; numbers.len()];
        let mut reader = Reader::new(&out);
        decode(&mut reader, &mut back).expect("it was encoded");
        assert!(reader.is_empty());
        assert_eq!(back, numbers);
        out.len()
    }

    #[test]
    fn each_prediction_wins_where_it_fits() {
        let line: Vec<u64> = (0..100).map(|i| 1_000_000 + i * 3001).collect();
        assert!(bytes_of(&line) < 12);
        let square: Vec<u64> = (0..100).map(|i| i * i).collect();
        assert!(bytes_of(&square) < 45);
        let pages: Vec<u64> = (0..100).map(|i| 4096 * (i * 7 % 11)).collect();
        assert!(bytes_of(&pages) < 64);
        assert_eq!(bytes_of(&[5; 100]), 2);
    }

    #[test]
    fn one_that_is_far_off_does_not_widen_the_others() {
        let mut numbers: Vec<u64> = (0..100).map(|i| i * 7 % 4).collect();
        numbers[50] = 1 << 60;
        assert!(bytes_of(&numbers) < 45);
    }

    #[test]
    fn the_ends_of_the_range_come_back() {
        bytes_of(&[0, 1 << 63, 0]);
        bytes_of(&[1 << 63, (1 << 63) - 1, u64::MAX, 0]);
        bytes_of(&[u64::MAX]);
        bytes_of(&[3, 1]);
    }

    proptest! {
        #[test]
        fn whatever_is_encoded_comes_back(
            shift in 0_u32..64,
            step in any::<u64>(),
            noise in prop::collection::vec(any::<u64>(), 1..300),
        ) {
            let mut sum = 0_u64;
            let walk: Vec<u64> = noise
                .iter()
                .map(|n| {
                    sum = sum.wrapping_add(step).wrapping_add(n >> shift);
                    sum
                })
                .collect();
            bytes_of(&walk);
            bytes_of(&noise);
        }
    }
}
