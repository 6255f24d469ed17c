//! Entries of the archive: a header of 512 bytes as GNU tar writes it, the
//! content, zeros up to the next multiple of 512.
//!
//! A header is accepted only if it is, to the byte, the one that we would have
//! written for its path and size: so there are no links, devices, sparse files
//! or long names to be careful with, and no bit of it can flip unseen.

use tar::{EntryType, Header};

use crate::error::ArchiveError;

/// What everything in a tar is a multiple of.
pub(crate) const BLOCK: usize = 512;
/// Zeros at the end of a tar.
pub(crate) const TRAILER: usize = 2 * BLOCK;

/// The first entry.
pub(crate) const ABOUT: &str = "about.json";
/// The last entry.
pub(crate) const MANIFEST: &str = "manifest.json";
/// What is appended to the path of a file that is compressed.
pub(crate) const PACKED: &str = ".zst";

/// The longest path: what fits into a header without an extension.
pub(crate) const PATH_BYTES: usize = 100;
/// Directories in a path: a snapshot has three.
const DEPTH: usize = 8;
/// Files in a backup: some years of a large network are a tenth of it.
pub(crate) const MAX_FILES: usize = 100_000;
/// `about.json` has some hundred bytes.
pub(crate) const ABOUT_BYTES: u64 = 64 << 10;
/// `manifest.json` has some 250 bytes for each file.
pub(crate) const MANIFEST_BYTES: u64 = 64 << 20;

/// The header of a file: for its owner alone, as old as the backup.
pub(crate) fn header(path: &str, size: u64, made_s: u64) -> Result<Header, ArchiveError> {
    let mut header = Header::new_gnu();
    header
        .set_path(path)
        .map_err(|source| ArchiveError::Write { source })?;
    header.set_size(size);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(made_s);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    Ok(header)
}

/// Zeros that follow `size` bytes of content.
pub(crate) fn padding(size: u64) -> usize {
    let rest = usize::try_from(size % BLOCK as u64).expect("it is less than 512");
    (BLOCK - rest) % BLOCK
}

/// The path, size and time in a header.
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) made_s: u64,
}

/// Reads a header; refuses every one that [`header`] does not make.
pub(crate) fn parse(block: &[u8; BLOCK]) -> Result<Entry, ArchiveError> {
    let header = Header::from_byte_slice(block);
    let shown = shown_name(header);
    let damaged = |why| ArchiveError::Damaged {
        name: shown.clone(),
        why,
    };
    let forbidden = |why| ArchiveError::Forbidden {
        name: shown.clone(),
        why,
    };
    if header.cksum().ok() != Some(checksum(block)) {
        return Err(damaged("its header is not as it was written"));
    }
    check_type(header).map_err(forbidden)?;
    let path = header.path_bytes();
    let path = std::str::from_utf8(&path).map_err(|_| forbidden("its name is not UTF-8"))?;
    check_path(path).map_err(forbidden)?;
    let number = |number: std::io::Result<u64>| number.map_err(|_| damaged("a number is none"));
    let (size, made_s) = (number(header.entry_size())?, number(header.mtime())?);
    let ours = self::header(path, size, made_s)?;
    if ours.as_bytes() != block {
        return Err(damaged("its header is not as we write it"));
    }
    Ok(Entry {
        path: path.to_owned(),
        size,
        made_s,
    })
}

fn shown_name(header: &Header) -> String {
    let bytes = header.path_bytes();
    let text = String::from_utf8_lossy(&bytes);
    text.chars()
        .take(PATH_BYTES)
        .flat_map(char::escape_default)
        .collect()
}

/// The sum of all bytes, those of the sum itself taken as spaces.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..])
}

fn check_type(header: &Header) -> Result<(), &'static str> {
    match header.entry_type() {
        EntryType::Regular => Ok(()),
        EntryType::Link | EntryType::Symlink => Err("it is a link"),
        EntryType::Char | EntryType::Block | EntryType::Fifo => Err("it is a device or a pipe"),
        EntryType::Directory => Err("it is a directory; only files have a place here"),
        EntryType::GNULongName | EntryType::GNULongLink => Err("its name is too long"),
        _ => Err("it is no regular file"),
    }
}

/// Whether a file may have this path below the directory it is restored into:
/// words of ASCII letters, digits, `.`, `_` and `-` between slashes, each
/// beginning with a letter or a digit.
pub(crate) fn check_path(path: &str) -> Result<(), &'static str> {
    let inside = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if path.len() > PATH_BYTES {
        return Err("its name is too long");
    }
    if path.starts_with('/') {
        return Err("its path is absolute");
    }
    if path.split('/').any(|word| word == "..") {
        return Err("its path leads out of the backup");
    }
    if path.split('/').count() > DEPTH {
        return Err("it lies too deep");
    }
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphanumeric()) && word.chars().all(inside)
    };
    match path.split('/').all(is_word) {
        true => Ok(()),
        false => Err("its name has a character that none of our files has"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_what_it_was_made_of() {
        for (path, size) in [
            ("sotp.redb", 0),
            ("sotp.samples/seg/00000012.seg", 1 << 20),
            ("a", 1 << 40),
        ] {
            let header = header(path, size, 1_795_000_000).unwrap();
            let entry = parse(header.as_bytes()).unwrap();
            assert_eq!(
                (entry.path.as_str(), entry.size, entry.made_s),
                (path, size, 1_795_000_000)
            );
        }
    }

    #[test]
    fn no_bit_of_a_header_flips_unseen() {
        let header = header("sotp.samples/seg/1.seg", 4096, 1_795_000_000).unwrap();
        for bit in 0..BLOCK * 8 {
            let mut block = *header.as_bytes();
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&block).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_path_stays_below_its_directory() {
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../x",
            "a/..",
            ".",
            "./a",
            "a//b",
            "a/",
            "a\\b",
            "a\nb",
            ".hidden",
            "-rf",
            "ä",
            "a b",
            "a/b/c/d/e/f/g/h/i",
        ] {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
        assert!(check_path(&"x".repeat(101)).is_err());
        assert!(check_path("sotp.samples/seg/00000012.seg").is_ok());
    }
}
