//! The bytes of a segment beside its blocks: header, index and footer. The
//! crate's documentation specifies them; here they are written and read.

use crate::{Entry, Span, Summary, Tier};

/// What a segment begins with.
pub(crate) const MAGIC: &[u8; 8] = b"SOTPSEG1";
/// What a segment ends with.
pub(crate) const END: &[u8; 8] = b"SOTPSEGZ";
/// The format that this version writes, and the newest that it reads.
pub(crate) const FORMAT: u16 = 1;
/// The feature bits that this version knows: none yet.
pub(crate) const FEATURES: u32 = 0;
/// Bytes of the header. Its layout is the same in every format, so that an
/// older version can tell a newer file from a damaged one.
pub(crate) const HEADER: usize = 20;
/// Bytes of the footer of format 1.
pub(crate) const FOOTER: usize = 132;
/// Six numbers of at least a byte each: what bounds the count of entries by
/// the bytes that are there.
const SMALLEST_ENTRY: usize = 6;
/// A number of 64 bits takes at most this many bytes, seven bits in each.
const LONGEST_NUMBER: usize = 10;

/// Why bytes are refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// They are not what was written.
    Corrupt(String),
    /// A later version wrote them.
    Newer(String),
}

fn corrupt<T>(what: &str) -> Result<T, Refused> {
    Err(Refused::Corrupt(what.to_owned()))
}

/// The header of a segment.
pub(crate) fn header(tier: Tier, span: Span) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[10] = tier.number();
    bytes[11] = span.number();
    bytes[12..16].copy_from_slice(&FEATURES.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..16]);
    bytes[16..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Tier and span out of a header.
pub(crate) fn read_header(bytes: &[u8; HEADER]) -> Result<(Tier, Span), Refused> {
    if &bytes[..8] != MAGIC {
        return corrupt("it does not begin as a segment does");
    }
    if crc32fast::hash(&bytes[..16]) != number_32(bytes, 16) {
        return corrupt("the header's checksum is wrong");
    }
    let format = u16::from_le_bytes([bytes[8], bytes[9]]);
    if format > FORMAT {
        return Err(Refused::Newer(format!("format {format}")));
    }
    let features = number_32(bytes, 12);
    if features & !FEATURES != 0 {
        return Err(Refused::Newer(format!("feature bits {features:#x}")));
    }
    match (Tier::of_number(bytes[10]), Span::of_number(bytes[11])) {
        (Some(tier), Some(span)) => Ok((tier, span)),
        _ => Err(Refused::Newer(format!(
            "tier {}, span {}",
            bytes[10], bytes[11]
        ))),
    }
}

/// Where the index lies and what the file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    /// Where the blocks end and the index begins.
    pub(crate) index_at: u64,
    /// The index's bytes.
    pub(crate) index_length: u64,
    /// Blocks.
    pub(crate) blocks: u32,
    /// Of the whole file.
    pub(crate) summary: Summary,
}

impl Footer {
    /// Its bytes.
    pub(crate) fn write(&self) -> Vec<u8> {
        let summary = &self.summary;
        let mut bytes = Vec::with_capacity(FOOTER);
        bytes.extend(self.index_at.to_le_bytes());
        bytes.extend(self.index_length.to_le_bytes());
        bytes.extend(self.blocks.to_le_bytes());
        bytes.extend(summary.crc.to_le_bytes());
        for number in [summary.from, summary.until, summary.rows, summary.samples] {
            bytes.extend(number.to_le_bytes());
        }
        for (values, column_bytes) in summary.kinds {
            bytes.extend(values.to_le_bytes());
            bytes.extend(column_bytes.to_le_bytes());
        }
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes.extend(END);
        bytes
    }

    /// Out of the last bytes of a file of `length` bytes.
    pub(crate) fn read(
        bytes: &[u8; FOOTER],
        length: u64,
        (tier, span): (Tier, Span),
    ) -> Result<Footer, Refused> {
        let end = FOOTER - END.len();
        if &bytes[end..] != END {
            return corrupt("it does not end as a segment does");
        }
        if crc32fast::hash(&bytes[..end - 4]) != number_32(bytes, end - 4) {
            return corrupt("the footer's checksum is wrong");
        }
        let footer = Footer {
            index_at: number_64(bytes, 0),
            index_length: number_64(bytes, 8),
            blocks: number_32(bytes, 16),
            summary: Summary {
                tier,
                span,
                from: number_64(bytes, 24),
                until: number_64(bytes, 32),
                rows: number_64(bytes, 40),
                samples: number_64(bytes, 48),
                bytes: length,
                kinds: std::array::from_fn(|kind| {
                    let at = 56 + kind * 16;
                    (number_64(bytes, at), number_64(bytes, at + 8))
                }),
                crc: number_32(bytes, 20),
            },
        };
        footer.check(length)?;
        Ok(footer)
    }

    /// Whether the parts make up the file.
    fn check(&self, length: u64) -> Result<(), Refused> {
        let end = self
            .index_at
            .checked_add(self.index_length)
            .and_then(|end| end.checked_add(FOOTER as u64));
        if self.index_at < HEADER as u64 || end != Some(length) {
            return corrupt("its length is not what its footer says");
        }
        if self.blocks == 0 {
            return corrupt("it holds no block");
        }
        Ok(())
    }
}

/// Builds the index, block after block.
#[derive(Debug, Default)]
pub(crate) struct IndexWriter {
    /// What was built.
    pub(crate) bytes: Vec<u8>,
    last: Differences,
}

impl IndexWriter {
    /// Adds an entry.
    pub(crate) fn push(&mut self, entry: &Entry) {
        let last = self.last;
        let lasts = entry.until.wrapping_sub(entry.from);
        for number in [
            u64::from(entry.group.wrapping_sub(last.group)),
            difference(u64::from(entry.columns), u64::from(last.columns)),
            u64::from(entry.rows),
            u64::from(entry.length),
            difference(entry.from, last.from),
            difference(lasts, last.lasts),
        ] {
            write_number(number, &mut self.bytes);
        }
        self.last = Differences::of(entry);
    }
}

/// What the next entry is written as a difference from.
#[derive(Clone, Copy, Debug, Default)]
struct Differences {
    group: u32,
    columns: u32,
    from: u64,
    lasts: u64,
}

impl Differences {
    fn of(entry: &Entry) -> Differences {
        Differences {
            group: entry.group,
            columns: entry.columns,
            from: entry.from,
            lasts: entry.until.wrapping_sub(entry.from),
        }
    }
}

/// The entries of an index whose checksum is right, with everything checked
/// that can be without the blocks.
pub(crate) fn read_index(bytes: &[u8], footer: &Footer) -> Result<Vec<Entry>, Refused> {
    let blocks = footer.blocks as usize;
    if blocks > bytes.len() / SMALLEST_ENTRY {
        return corrupt("its index is too short for its blocks");
    }
    let mut entries: Vec<Entry> = Vec::with_capacity(blocks);
    let mut rest = bytes;
    let mut last = Differences::default();
    let mut offset = HEADER as u64;
    for _ in 0..blocks {
        let entry = read_entry(&mut rest, last, offset)?;
        offset += u64::from(entry.length);
        if let Some(before) = entries.last()
            && (before.group, before.from) > (entry.group, entry.from)
        {
            return corrupt("the blocks in its index are out of order");
        }
        last = Differences::of(&entry);
        entries.push(entry);
    }
    if !rest.is_empty() || offset != footer.index_at {
        return corrupt("its index does not end where its blocks do");
    }
    check_summary(&entries, &footer.summary)?;
    Ok(entries)
}

fn read_entry(rest: &mut &[u8], last: Differences, offset: u64) -> Result<Entry, Refused> {
    let mut numbers = [0; 6];
    for number in &mut numbers {
        let Some(read) = read_number(rest) else {
            return corrupt("its index ends in mid entry");
        };
        *number = read;
    }
    let [group, columns, rows, length, from, lasts] = numbers;
    let small = |number: u64| u32::try_from(number).ok();
    let from = undo(from, last.from);
    let entry = (|| {
        Some(Entry {
            group: last.group.checked_add(small(group)?)?,
            columns: small(undo(columns, u64::from(last.columns)))?,
            rows: small(rows)?,
            length: small(length)?,
            offset,
            from,
            until: from.checked_add(undo(lasts, last.lasts))?,
        })
    })();
    match entry {
        Some(entry) if sensible(&entry) => Ok(entry),
        _ => corrupt("an entry of its index makes no sense"),
    }
}

fn sensible(entry: &Entry) -> bool {
    entry.length > 0 && entry.rows > 0 && entry.rows as usize <= codec::MAX_ROWS
}

fn check_summary(entries: &[Entry], summary: &Summary) -> Result<(), Refused> {
    let rows: u64 = entries.iter().map(|entry| u64::from(entry.rows)).sum();
    let from = entries.iter().map(|entry| entry.from).min();
    let until = entries.iter().map(|entry| entry.until).max();
    let told = (summary.rows, Some(summary.from), Some(summary.until));
    match (rows, from, until) == told {
        true => Ok(()),
        false => corrupt("its index and its footer do not say the same"),
    }
}

/// How `now` differs from `before`, small for small differences of either sign.
fn difference(now: u64, before: u64) -> u64 {
    let difference = now.wrapping_sub(before).cast_signed();
    ((difference << 1) ^ (difference >> 63)).cast_unsigned()
}

/// The inverse of [`difference`].
fn undo(number: u64, before: u64) -> u64 {
    before.wrapping_add((number >> 1) ^ (number & 1).wrapping_neg())
}

fn write_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn read_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for place in 0..LONGEST_NUMBER {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << (7 * place);
        if shifted >> (7 * place) != bits {
            return None;
        }
        number |= shifted;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn number_32(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn number_64(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_and_differences_come_back(now: u64, before: u64) {
            let mut bytes = Vec::new();
            write_number(difference(now, before), &mut bytes);
            let mut rest = &bytes[..];
            let read = read_number(&mut rest).map(|number| undo(number, before));
            prop_assert_eq!(read, Some(now));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_as_an_index_are_entries_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            blocks in 1u32..40,
        ) {
            let footer = Footer {
                index_at: 4_000,
                index_length: bytes.len() as u64,
                blocks,
                summary: summary(),
            };
            let _ = read_index(&bytes, &footer);
        }
    }

    proptest! {
        #[test]
        fn a_footer_of_any_numbers_promises_no_more_than_the_file_has(
            numbers in proptest::collection::vec(prop_oneof![any::<u64>(), 0u64..5_000], 15),
            length in 152u64..5_000,
        ) {
            let mut bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
            bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
            bytes.extend(END);
            let bytes: [u8; FOOTER] = bytes.try_into().unwrap();
            if let Ok(footer) = Footer::read(&bytes, length, (Tier::Raw, Span::Day)) {
                prop_assert!(footer.index_at + footer.index_length < length);
            }
        }
    }

    fn summary() -> Summary {
        Summary {
            tier: Tier::Hour,
            span: Span::Month,
            from: 5,
            until: 900,
            rows: 12,
            samples: 36,
            bytes: 20 + 100 + 14 + FOOTER as u64,
            kinds: [(1, 2), (3, 4), (5, 6), (7, 8)],
            crc: 0xdead_beef,
        }
    }

    #[test]
    fn a_footer_comes_back() {
        let footer = Footer {
            index_at: 120,
            index_length: 14,
            blocks: 2,
            summary: summary(),
        };
        let bytes: [u8; FOOTER] = footer.write().try_into().unwrap();
        let length = summary().bytes;
        let read = Footer::read(&bytes, length, (Tier::Hour, Span::Month));
        assert_eq!(read, Ok(footer));
        assert!(Footer::read(&bytes, length + 1, (Tier::Hour, Span::Month)).is_err());
    }

    #[test]
    fn a_later_format_is_newer_and_a_flipped_bit_is_damage() {
        let good = header(Tier::Quarter, Span::Day);
        assert_eq!(read_header(&good), Ok((Tier::Quarter, Span::Day)));
        for (byte, value) in [(8, 2), (12, 1), (10, 3), (11, 9)] {
            let mut later = good;
            later[byte] = value;
            assert!(matches!(read_header(&later), Err(Refused::Corrupt(_))));
            let crc = crc32fast::hash(&later[..16]);
            later[16..].copy_from_slice(&crc.to_le_bytes());
            assert!(matches!(read_header(&later), Err(Refused::Newer(_))));
        }
    }
}
