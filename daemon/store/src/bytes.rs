//! Varints: whole numbers in as few bytes as they need (LEB128).

/// Bytes that end before their meaning does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Garbled;

/// Appends `number`.
pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(low_byte(number) | 0x80);
        number >>= 7;
    }
    out.push(low_byte(number));
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low byte is what is wanted"
)]
fn low_byte(number: u64) -> u8 {
    number as u8
}

/// 0, 1, 2, 3, … to 0, -1, 1, -2, …
pub(crate) fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Reads from the front of bytes.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'b>(pub(crate) &'b [u8]);

impl<'b> Reader<'b> {
    pub(crate) fn byte(&mut self) -> Result<u8, Garbled> {
        let (first, rest) = self.0.split_first().ok_or(Garbled)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(crate) fn number(&mut self) -> Result<u64, Garbled> {
        let mut number = 0u64;
        for place in 0..10 {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Garbled)
    }

    pub(crate) fn signed(&mut self) -> Result<i64, Garbled> {
        self.number().map(unzigzag)
    }

    /// A number that counts things that follow: never more than `limit`, so
    /// that damage cannot ask for all memory.
    pub(crate) fn count(&mut self, limit: usize) -> Result<usize, Garbled> {
        let number = usize::try_from(self.number()?).map_err(|_| Garbled)?;
        if number > limit {
            return Err(Garbled);
        }
        Ok(number)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Garbled> {
        u32::try_from(self.number()?).map_err(|_| Garbled)
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'b [u8], Garbled> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Garbled)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Eight bytes as they are.
    pub(crate) fn raw(&mut self) -> Result<u64, Garbled> {
        let (bytes, rest) = self.0.split_first_chunk::<8>().ok_or(Garbled)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    pub(crate) fn text(&mut self) -> Result<&'b str, Garbled> {
        let length = self.count(self.0.len())?;
        std::str::from_utf8(self.take(length)?).map_err(|_| Garbled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_read_back() {
        let mut numbers: Vec<u64> = (0..64).map(|bit| 1 << bit).collect();
        numbers.extend([0, 127, 128, 16_383, 16_384, u64::MAX]);
        for number in numbers {
            let mut out = Vec::new();
            put(&mut out, number);
            assert_eq!(Reader(&out).number(), Ok(number));
        }
    }

    #[test]
    fn signed_numbers_read_back() {
        for (bytes, number) in [(&[0][..], 0), (&[1], -1), (&[2], 1), (&[0x80, 1], 64)] {
            assert_eq!(Reader(bytes).signed(), Ok(number));
        }
    }

    #[test]
    fn what_ends_too_early_or_counts_too_far_is_garbled() {
        assert_eq!(Reader(&[0x80]).number(), Err(Garbled));
        assert_eq!(Reader(&[0xff; 11]).number(), Err(Garbled));
        assert_eq!(Reader(&[100]).count(99), Err(Garbled));
        assert_eq!(Reader(&[5, b'a']).text(), Err(Garbled));
    }
}
