//! A set of small numbers, one bit for each number that may be in it.

use std::ops::Range;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// None of the numbers below `end`.
    pub(crate) fn none(end: u32) -> Bits {
        Bits {
            words: vec![0; (end as usize).div_ceil(64)],
        }
    }

    /// All of the numbers below `end`, and perhaps some more.
    pub(crate) fn all(end: u32) -> Bits {
        Bits {
            words: vec![u64::MAX; (end as usize).div_ceil(64)],
        }
    }

    /// Puts in a number below the end.
    pub(crate) fn put(&mut self, number: u32) {
        self.words[(number / 64) as usize] |= 1 << (number % 64);
    }

    pub(crate) fn put_all(&mut self, numbers: Range<u32>) {
        numbers.for_each(|number| self.put(number));
    }

    pub(crate) fn has(&self, number: u32) -> bool {
        self.word(number) & (1 << (number % 64)) != 0
    }

    /// Leaves what is in `others` too.
    pub(crate) fn keep(&mut self, others: &Bits) {
        for (word, other) in self.words.iter_mut().zip(&others.words) {
            *word &= other;
        }
    }

    /// Leaves what is not in `others`.
    pub(crate) fn drop(&mut self, others: &Bits) {
        for (word, other) in self.words.iter_mut().zip(&others.words) {
            *word &= !other;
        }
    }

    /// Which of `numbers` are in it, counted from the first of them; rising.
    pub(crate) fn within(&self, numbers: Range<u32>) -> Vec<u32> {
        let mut within = Vec::new();
        let mut number = numbers.start;
        while number < numbers.end {
            let ahead = self.word(number) >> (number % 64);
            // to the next one, or to the next word
            number += ahead.trailing_zeros().min(64 - number % 64);
            if ahead != 0 && number < numbers.end {
                within.push(number - numbers.start);
                number += 1;
            }
        }
        within
    }

    fn word(&self, number: u32) -> u64 {
        let word = self.words.get((number / 64) as usize);
        word.copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(numbers: &[u32]) -> Bits {
        let mut bits = Bits::none(200);
        numbers.iter().for_each(|number| bits.put(*number));
        bits
    }

    #[test]
    fn what_is_put_in_is_found_in_order() {
        let bits = bits(&[199, 0, 63, 64, 5, 5]);
        assert_eq!(bits.within(0..200), [0, 5, 63, 64, 199]);
        assert_eq!(bits.within(5..64), [0, 58]);
        assert_eq!(bits.within(6..63), []);
        assert_eq!(bits.within(64..199), [0]);
        assert_eq!(bits.within(70..70), []);
        assert!(bits.has(63) && !bits.has(62) && !bits.has(100_000));
    }

    #[test]
    fn all_are_found_in_all() {
        let expected: Vec<u32> = (0..130).collect();
        assert_eq!(Bits::all(200).within(60..190), expected);
        let mut range = Bits::none(200);
        range.put_all(60..190);
        assert_eq!(range.within(60..200), expected);
    }

    #[test]
    fn what_is_kept_is_in_both_and_what_is_dropped_in_neither() {
        let mut kept = bits(&[1, 2, 70]);
        kept.keep(&bits(&[2, 70, 71]));
        assert_eq!(kept.within(0..200), [2, 70]);
        kept.drop(&bits(&[2, 3]));
        assert_eq!(kept.within(0..200), [70]);
    }
}
