//! The bytes of files and frames, as the crate's documentation says.

use crc32fast::Hasher;

/// How a file begins.
const FILE_MAGIC: [u8; 8] = *b"SOTPWAL\n";
/// The format that is written.
pub(super) const VERSION: u32 = 1;
/// Bytes of a file before its first frame.
pub(super) const FILE_HEADER: usize = 52;
/// Where the checksum of a file's header lies: behind all that it covers.
const FILE_HEADER_CRC: usize = FILE_HEADER - 4;

/// How a frame begins; not text, not zeros, not the start of a small number.
pub(super) const FRAME_MAGIC: [u8; 4] = [0xf7, b'W', 0xa1, b'f'];
/// Bytes of a frame before its records.
pub(super) const FRAME_HEADER: usize = 28;
/// Where the checksum of a frame lies.
const FRAME_CRC: usize = FRAME_HEADER - 4;

/// A frame that has this many bytes of records takes no more: large enough
/// that a sync is never for a little, small enough to be read in one piece.
pub(super) const FRAME_TARGET: usize = 1 << 20;
/// What one append may write at most: far above every record, far below what
/// 32 bits count.
pub(super) const MAX_APPEND: usize = 256 << 20;
/// Hence the longest frame; a reader refuses a longer one.
pub(super) const MAX_FRAME: usize = FRAME_TARGET + MAX_APPEND;

/// What tells a file from others with the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    pub(super) stream: char,
    pub(super) number: u64,
}

impl FileId {
    pub(super) fn name(self) -> String {
        format!("{}-{:08}.wal", self.stream, self.number)
    }

    /// The file of this name, if it is one of this stream.
    pub(super) fn parse(name: &str, stream: char) -> Option<FileId> {
        let digits = name
            .strip_prefix(stream)?
            .strip_prefix('-')?
            .strip_suffix(".wal")?;
        let number = digits.parse().ok()?;
        let id = FileId { stream, number };
        (id.name() == name).then_some(id)
    }
}

/// What a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) id: FileId,
    /// Its frames have this number and above.
    pub(super) first: u64,
    /// Frames from this number up to `first` were given up: they may be
    /// missing. The same as `first` if none were.
    pub(super) given_up: u64,
    /// The number of the file before it that is known to be there; 0 if none.
    pub(super) previous: u64,
}

/// Why a header is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// Too short, or its checksum is wrong.
    Damaged,
    /// Whole, and of this version.
    Version(u32),
}

impl FileHeader {
    pub(super) fn encode(&self) -> [u8; FILE_HEADER] {
        let mut bytes = [0; FILE_HEADER];
        bytes[..8].copy_from_slice(&FILE_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&u32::from(self.id.stream).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.id.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.given_up.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.previous.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..FILE_HEADER_CRC]);
        bytes[FILE_HEADER_CRC..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header of the file that is named `id`.
    pub(super) fn decode(bytes: &[u8], id: FileId) -> Result<FileHeader, BadHeader> {
        let bytes = bytes.get(..FILE_HEADER).ok_or(BadHeader::Damaged)?;
        let crc = crc32fast::hash(&bytes[..FILE_HEADER_CRC]);
        if bytes[..8] != FILE_MAGIC || u32_at(bytes, FILE_HEADER_CRC) != crc {
            return Err(BadHeader::Damaged);
        }
        match u32_at(bytes, 8) {
            VERSION => {}
            other => return Err(BadHeader::Version(other)),
        }
        if u32_at(bytes, 12) != u32::from(id.stream) || u64_at(bytes, 16) != id.number {
            return Err(BadHeader::Damaged);
        }
        Ok(FileHeader {
            id,
            first: u64_at(bytes, 24),
            given_up: u64_at(bytes, 32),
            previous: u64_at(bytes, 40),
        })
    }
}

/// What stands before the records of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) length: usize,
    pub(super) number: u64,
    /// The number that [`crate::Wal::rotate`] last gave before these records.
    pub(super) rotation: u64,
    crc: u32,
}

impl FrameHeader {
    /// Reads one, without a look at the checksum.
    pub(super) fn decode(bytes: &[u8]) -> Option<FrameHeader> {
        let bytes = bytes.get(..FRAME_HEADER)?;
        let length = usize::try_from(u32_at(bytes, 4)).ok()?;
        (bytes[..4] == FRAME_MAGIC && length <= MAX_FRAME).then(|| FrameHeader {
            length,
            number: u64_at(bytes, 8),
            rotation: u64_at(bytes, 16),
            crc: u32_at(bytes, FRAME_CRC),
        })
    }

    /// Whether the whole frame is as it was written to this file.
    pub(super) fn matches(&self, frame: &[u8], file: FileId) -> bool {
        frame_crc(frame, file) == self.crc
    }
}

/// Fills the header that was left free before the records in `frame`.
pub(super) fn seal(frame: &mut [u8], file: FileId, number: u64, rotation: u64) {
    let length = u32::try_from(frame.len() - FRAME_HEADER).expect("at most MAX_FRAME");
    frame[..4].copy_from_slice(&FRAME_MAGIC);
    frame[4..8].copy_from_slice(&length.to_le_bytes());
    frame[8..16].copy_from_slice(&number.to_le_bytes());
    frame[16..24].copy_from_slice(&rotation.to_le_bytes());
    let crc = frame_crc(frame, file);
    frame[FRAME_CRC..FRAME_HEADER].copy_from_slice(&crc.to_le_bytes());
}

/// Over the file too, so that what an older file left on the disk is no frame.
fn frame_crc(frame: &[u8], file: FileId) -> u32 {
    let mut crc = Hasher::new();
    crc.update(&u32::from(file.stream).to_le_bytes());
    crc.update(&file.number.to_le_bytes());
    crc.update(&frame[..FRAME_CRC]);
    crc.update(&frame[FRAME_HEADER..]);
    crc.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId {
        stream: 'm',
        number: 42,
    };

    #[test]
    fn a_name_is_eight_digits_or_more() {
        assert_eq!(FILE.name(), "m-00000042.wal");
        assert_eq!(FileId::parse("m-00000042.wal", 'm'), Some(FILE));
        assert_eq!(FileId::parse("m-00000042.wal", 'l'), None);
        assert_eq!(FileId::parse("m-42.wal", 'm'), None);
        assert_eq!(FileId::parse("m-+0000042.wal", 'm'), None);
        assert_eq!(FileId::parse("m-00000042.wal.damaged", 'm'), None);
        let far = FileId::parse("m-123456789.wal", 'm').unwrap();
        assert_eq!(far.number, 123_456_789);
    }

    #[test]
    fn the_bytes_are_what_the_documentation_says() {
        let header = FileHeader {
            id: FILE,
            first: 7,
            given_up: 5,
            previous: 41,
        };
        let bytes = header.encode();
        assert_eq!(&bytes[..8], b"SOTPWAL\n");
        assert_eq!(bytes[8..16], [1, 0, 0, 0, b'm', 0, 0, 0]);
        assert_eq!(bytes[16], 42);
        assert_eq!((bytes[24], bytes[32], bytes[40]), (7, 5, 41));
        assert_eq!(FileHeader::decode(&bytes, FILE), Ok(header));

        let mut frame = vec![0; FRAME_HEADER];
        frame.extend_from_slice(b"records");
        seal(&mut frame, FILE, 9, 40);
        assert_eq!(frame[..8], [0xf7, b'W', 0xa1, b'f', 7, 0, 0, 0]);
        assert_eq!((frame[8], frame[16]), (9, 40));
        let covered = [b"m\0\0\0\x2a\0\0\0\0\0\0\0", &frame[..24], b"records"].concat();
        assert_eq!(frame[24..28], crc32fast::hash(&covered).to_le_bytes());
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_so_is_another_file() {
        let header = FileHeader {
            id: FILE,
            first: 7,
            given_up: 7,
            previous: 0,
        };
        let mut bytes = header.encode();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(FileHeader::decode(&bytes, FILE).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let mut frame = vec![0; FRAME_HEADER + 5];
        seal(&mut frame, FILE, 9, 40);
        let whole = |frame: &[u8], file| {
            FrameHeader::decode(frame).is_some_and(|header| header.matches(frame, file))
        };
        assert!(whole(&frame, FILE));
        assert!(!whole(&frame, FileId { number: 43, ..FILE }));
        assert!(!whole(
            &frame,
            FileId {
                stream: 'l',
                ..FILE
            }
        ));
        for bit in 0..frame.len() * 8 {
            frame[bit / 8] ^= 1 << (bit % 8);
            assert!(!whole(&frame, FILE), "bit {bit}");
            frame[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let header = FileHeader {
            id: FILE,
            first: 0,
            given_up: 0,
            previous: 0,
        };
        let mut bytes = header.encode();
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..FILE_HEADER_CRC]);
        bytes[FILE_HEADER_CRC..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(FileHeader::decode(&bytes, FILE), Err(BadHeader::Version(2)));
    }
}
