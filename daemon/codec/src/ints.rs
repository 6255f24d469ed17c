//! Runs of whole numbers: what is left after the best prediction, packed.
//!
//! Numbers are 64 bits with wrapping arithmetic, kept as `u64`; where their
//! order matters they are signed.

use crate::bits::{mask, pack, packed_bytes, unpack};
use crate::bytes::{Reader, put_varint, unzigzag, varint_bytes, zigzag};
use crate::dense::{self, DenseScratch};
use crate::{Corrupt, Effort};

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
    dense: DenseScratch<u64>,
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
    if let Some(factor) = common_factor(numbers, first) {
        for number in numbers.iter_mut() {
            *number = factor.divide(number.wrapping_sub(first));
        }
        out.push(FACTOR);
        put_varint(out, zigzag(first));
        put_varint(out, factor.factor);
    }
    let start = out.len();
    encode_best(numbers, scratch, out);
    if effort == Effort::Dense {
        for number in numbers.iter_mut() {
            *number ^= MIDDLE;
        }
        // its own id stays where ours stood
        let replaced = dense::replace(numbers, u64::from, start + 1, &mut scratch.dense, out);
        if replaced {
            out[start] = PCO;
        }
    }
}

/// Divides without dividing: an odd number has an inverse modulo 2^64, and a
/// multiple times that is the quotient.
struct Factor {
    factor: u64,
    zeros: u32,
    inverse: u64,
    largest_quotient: u64,
}

impl Factor {
    fn new(factor: u64) -> Factor {
        let zeros = factor.trailing_zeros();
        let odd = factor >> zeros;
        // right to 5 bits, and each step doubles that
        let mut inverse = odd.wrapping_mul(3) ^ 2;
        for _ in 0..4 {
            inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        }
        Factor {
            factor,
            zeros,
            inverse,
            largest_quotient: u64::MAX / odd,
        }
    }

    fn divides(&self, number: u64) -> bool {
        let quotient = (number >> self.zeros).wrapping_mul(self.inverse);
        number.trailing_zeros() >= self.zeros && quotient <= self.largest_quotient
    }

    /// Of a multiple, seen as a number with a sign.
    fn divide(&self, multiple: u64) -> u64 {
        let shifted = (multiple.cast_signed() >> self.zeros).cast_unsigned();
        shifted.wrapping_mul(self.inverse)
    }
}

/// The greatest number that divides every difference from `first`, if it is
/// more than 1; one at least is not 0.
fn common_factor(numbers: &[u64], first: u64) -> Option<Factor> {
    let differences = numbers
        .iter()
        .map(|number| number.wrapping_sub(first).cast_signed().unsigned_abs());
    let mut differences = differences.filter(|difference| *difference != 0);
    let mut factor = Factor::new(differences.next()?);
    for difference in differences {
        if !factor.divides(difference) {
            let divisor = greatest_common_divisor(difference, factor.factor);
            if divisor == 1 {
                return None;
            }
            factor = Factor::new(divisor);
        }
    }
    (factor.factor > 1).then_some(factor)
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// What is left after a prediction, and what the prediction starts from.
struct Candidate<'a> {
    id: u8,
    start: [u64; 2],
    starts: usize,
    rest: &'a [u64],
    width: Width,
}

impl<'a> Candidate<'a> {
    fn new<const STARTS: usize>(id: u8, start: [u64; STARTS], rest: &'a [u64]) -> Candidate<'a> {
        let mut both = [0; 2];
        both[..STARTS].copy_from_slice(&start);
        let mut width = best_width(rest);
        let bytes: usize = start.iter().map(|s| varint_bytes(zigzag(*s))).sum();
        width.cost += bytes * 8;
        Candidate {
            id,
            start: both,
            starts: STARTS,
            rest,
            width,
        }
    }

    fn or(self, other: Candidate<'a>) -> Candidate<'a> {
        if other.width.cost < self.width.cost {
            other
        } else {
            self
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.id);
        for start in &self.start[..self.starts] {
            put_varint(out, zigzag(*start));
        }
        put_packed(self.rest, self.width, out);
    }
}

/// Tries what can be best: the search is most of the time that encoding takes.
fn encode_best(numbers: &[u64], scratch: &mut IntScratch, out: &mut Vec<u8>) {
    let IntScratch {
        deltas,
        offset,
        delta_offset,
        delta,
        delta_of_delta,
        ..
    } = scratch;
    let first = numbers[0];
    let ahead = &numbers[1..];
    fill(
        deltas,
        ahead
            .iter()
            .zip(numbers)
            .map(|(n, before)| n.wrapping_sub(*before)),
    );
    let least = smallest(deltas);
    fill(delta_offset, deltas.iter().map(|d| d.wrapping_sub(least)));
    let mut best = Candidate::new(DELTA_OFFSET, [first, least], delta_offset);
    let mut smooth = true;
    if least.cast_signed() < 0 {
        // it does not rise steadily: a step is not always smaller than the range
        fill(delta, deltas.iter().map(|d| zigzag(*d)));
        best = best.or(Candidate::new(DELTA, [first], delta));
        let least = smallest(numbers);
        fill(offset, numbers.iter().map(|n| n.wrapping_sub(least)));
        best = best.or(Candidate::new(OFFSET, [least], offset));
        smooth = best.id != OFFSET;
    }
    if smooth {
        let ahead = &deltas[1..];
        fill(
            delta_of_delta,
            ahead
                .iter()
                .zip(&**deltas)
                .map(|(d, before)| zigzag(d.wrapping_sub(*before))),
        );
        best = best.or(Candidate::new(
            DELTA_OF_DELTA,
            [first, deltas[0]],
            delta_of_delta,
        ));
    }
    best.put(out);
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
    let count_of_width = count_widths(numbers);
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
        if wider * each > best.cost {
            break;
        }
        wider += count_of_width[usize::from(bits)] as usize;
    }
    best
}

/// Neighbours are often as wide as each other, and a processor waits for the
/// same counter: so there are some of each.
fn count_widths(numbers: &[u64]) -> [u32; 65] {
    const LANES: usize = 4;
    let mut lanes = [[0_u32; 65]; LANES];
    let (groups, tail) = numbers.as_chunks::<LANES>();
    for group in groups {
        for (lane, number) in lanes.iter_mut().zip(group) {
            lane[width_of(*number)] += 1;
        }
    }
    for number in tail {
        lanes[0][width_of(*number)] += 1;
    }
    let [mut sum, others @ ..] = lanes;
    for lane in others {
        for (sum, count) in sum.iter_mut().zip(lane) {
            *sum += count;
        }
    }
    sum
}

fn width_of(number: u64) -> usize {
    64 - number.leading_zeros() as usize
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
    fn a_common_factor_is_found_and_divided_by() {
        for factor in [2, 3, 5, 4096, 10_000, (1 << 61) - 1, 1 << 63, u64::MAX / 3] {
            let numbers = [7, 7_u64.wrapping_add(factor), 7_u64.wrapping_sub(factor), 7];
            let found = common_factor(&numbers, 7).expect("there is one").factor;
            assert_eq!(found % factor.min(factor.wrapping_neg()), 0, "{factor}");
            bytes_of(&numbers);
        }
        let numbers = [10, 16, 25, 40];
        assert_eq!(common_factor(&numbers, 10).expect("three").factor, 3);
        assert!(common_factor(&[10, 16, 25, 41], 10).is_none());
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
