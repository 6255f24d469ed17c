//! Kinds of value that have to do with backups: where they go, when, and who
//! can read them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use toml::de::DeValue;

use crate::kinds::{One, quoted};
use crate::problem::Mistake;

/// Where backups go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupPlace {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A bucket of a server that speaks S3.
    S3 {
        /// Its name.
        bucket: String,
        /// What the names of all objects begin with: empty, or words between
        /// slashes without one at either end.
        prefix: String,
    },
}

impl Default for BackupPlace {
    fn default() -> BackupPlace {
        BackupPlace::Directory(PathBuf::from("/"))
    }
}

/// A time of day, to the minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeOfDay {
    /// From 0 to 23.
    pub hour: u8,
    /// From 0 to 59.
    pub minute: u8,
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.hour, self.minute)
    }
}

/// What an address in S3 begins with.
const S3: &str = "s3://";

/// A directory's absolute path, or `s3://bucket/prefix`.
pub(crate) fn backup_place() -> One<BackupPlace> {
    One::of_text("an absolute path, or \"s3://bucket/prefix\"", read_place)
}

fn read_place(text: &str) -> Result<BackupPlace, Mistake> {
    if let Some(address) = text.strip_prefix(S3) {
        return s3_place(address);
    }
    if text.starts_with('/') && !text.contains('\0') {
        return Ok(BackupPlace::Directory(PathBuf::from(text)));
    }
    let message = format!("{} is neither a path nor in S3", quoted(text));
    let hint = "write \"/var/lib/sotp-backups\", or \"s3://bucket/prefix\"";
    Err(Mistake::new(message, hint))
}

/// As in the settings; the error says what is wrong and what would be right.
impl FromStr for BackupPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<BackupPlace, String> {
        read_place(text).map_err(|mistake| format!("{}: {}", mistake.message, mistake.hint))
    }
}

fn s3_place(address: &str) -> Result<BackupPlace, Mistake> {
    let (bucket, prefix) = address.split_once('/').unwrap_or((address, ""));
    if !is_bucket(bucket) {
        let message = format!("{} is no name of a bucket", quoted(bucket));
        let hint = "3 to 63 small letters, digits, - and .: \"s3://backups/sotp\"";
        return Err(Mistake::new(message, hint));
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let inside = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_word = |part: &str| part.chars().all(inside) && !part.trim_matches('.').is_empty();
    if prefix.len() > PREFIX_BYTES || !(prefix.is_empty() || prefix.split('/').all(is_word)) {
        let message = format!("{} is no prefix", quoted(prefix));
        let hint = "letters, digits and any of - _ . between slashes: \"s3://backups/noc/sotp\"";
        return Err(Mistake::new(message, hint));
    }
    Ok(BackupPlace::S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    })
}

/// The longest prefix: an object's whole name has at most 1024 bytes.
const PREFIX_BYTES: usize = 512;

/// The rules of AWS for buckets, which others are no stricter than.
fn is_bucket(name: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let at_an_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (3..=63).contains(&name.len())
        && name.chars().all(inside)
        && name.starts_with(at_an_end)
        && name.ends_with(at_an_end)
        && !name.contains("..")
}

/// A time of day: `02:30`.
pub(crate) fn time_of_day() -> One<TimeOfDay> {
    One::of_text("a time of day: \"02:30\"", |text| {
        let number = |digits: &str, most: u8| -> Option<u8> {
            let two = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_digit());
            let number: u8 = digits.parse().ok().filter(|_| two)?;
            (number <= most).then_some(number)
        };
        let parts = text.split_once(':');
        let time = parts.and_then(|(hour, minute)| {
            Some(TimeOfDay {
                hour: number(hour, 23)?,
                minute: number(minute, 59)?,
            })
        });
        time.ok_or_else(|| {
            let message = format!("{} is no time of day", quoted(text));
            Mistake::new(message, "write it from \"00:00\" to \"23:59\"")
        })
    })
}

/// A public key of age, made by `age-keygen`. A private one is not repeated.
pub(crate) fn recipient() -> One<String> {
    One::new("public keys of age: \"age1...\"", |value| {
        let DeValue::String(text) = value else {
            return Err(Mistake::new("is not text", RECIPIENT_HINT));
        };
        if text.to_ascii_uppercase().contains("AGE-SECRET-KEY-") {
            let hint = "its public key belongs here, which age-keygen -y shows; whoever could \
                        read this file has the private one: make another";
            return Err(Mistake::new("is a private key", hint));
        }
        if !is_recipient(text) {
            let message = format!("{} is no public key of age", quoted(text));
            return Err(Mistake::new(message, RECIPIENT_HINT));
        }
        Ok(text.to_string())
    })
}

const RECIPIENT_HINT: &str = "copy the line that begins with age1 whole; age-keygen makes one";

/// The letters of Bech32 (BIP 173), each standing for its place.
const BECH32: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// The letters of an X25519 key, and those of the sum over it.
const RECIPIENT_LETTERS: usize = 52 + 6;

/// Whether `text` is `age1` and a key with the right sum (BIP 173): a letter
/// that was mistyped would lock everybody out.
fn is_recipient(text: &str) -> bool {
    let Some(letters) = text.strip_prefix("age1") else {
        return false;
    };
    let values: Option<Vec<u32>> = letters
        .chars()
        .map(|c| BECH32.find(c).and_then(|place| u32::try_from(place).ok()))
        .collect();
    let is_right = |values: Vec<u32>| {
        // "age" as the sum takes it: the high bits of each letter, 0, the low ones
        let name = [3, 3, 3, 0, 1, 7, 5];
        values.len() == RECIPIENT_LETTERS && polymod(name.into_iter().chain(values)) == 1
    };
    values.is_some_and(is_right)
}

/// The sum of BIP 173.
fn polymod(values: impl Iterator<Item = u32>) -> u32 {
    const GENERATOR: [u32; 5] = [
        0x3b6a_57b2,
        0x2650_8e6d,
        0x1ea1_19fa,
        0x3d42_33dd,
        0x2a14_62b3,
    ];
    values.fold(1, |sum, value| {
        let shifted = ((sum & 0x1ff_ffff) << 5) ^ value;
        let top = sum >> 25;
        let chosen = GENERATOR
            .iter()
            .enumerate()
            .filter(|(bit, _)| (top >> bit) & 1 == 1);
        chosen.fold(shifted, |sum, (_, generator)| sum ^ generator)
    })
}

/// A region of S3: `us-east-1`.
pub(crate) fn region() -> One<String> {
    One::of_text("a region", |text| {
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if (1..=63).contains(&text.len()) && text.chars().all(inside) {
            return Ok(text.to_owned());
        }
        let message = format!("{} is no region", quoted(text));
        Err(Mistake::new(message, "write it as \"us-east-1\""))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{read, says};

    /// Made by age-keygen; nobody has the private key.
    const KEY: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    #[test]
    fn a_backup_goes_into_a_directory_or_a_bucket() {
        let place = |text: &str| read(&backup_place(), &format!("\"{text}\""));
        assert_eq!(
            place("/var/backups"),
            Ok(BackupPlace::Directory("/var/backups".into()))
        );
        let s3 = |bucket: &str, prefix: &str| {
            Ok(BackupPlace::S3 {
                bucket: bucket.to_owned(),
                prefix: prefix.to_owned(),
            })
        };
        assert_eq!(place("s3://backups"), s3("backups", ""));
        assert_eq!(place("s3://backups/"), s3("backups", ""));
        assert_eq!(place("s3://b.1-c/noc/sotp/"), s3("b.1-c", "noc/sotp"));
        for (bad, said) in [
            ("", "neither a path nor in S3"),
            ("backups", "neither a path nor in S3"),
            ("S3://backups", "neither a path nor in S3"),
            ("s3://", "no name of a bucket"),
            ("s3://Backups", "no name of a bucket"),
            ("s3://ab", "no name of a bucket"),
            ("s3://a..b", "no name of a bucket"),
            ("s3://key:secret@bucket", "no name of a bucket"),
            ("s3://backups//x", "no prefix"),
            ("s3://backups/../x", "no prefix"),
            ("s3://backups/a b", "no prefix"),
        ] {
            says(&backup_place(), &format!("\"{bad}\""), said);
        }
    }

    #[test]
    fn a_time_of_day_has_four_digits() {
        let read = |text: &str| read(&time_of_day(), text).map(|time| time.to_string());
        for good in ["00:00", "02:30", "23:59"] {
            assert_eq!(read(&format!("\"{good}\"")), Ok(good.to_owned()));
        }
        for bad in ["", "2:30", "24:00", "02:60", "02.30", "02:3a", "+2:30"] {
            says(&time_of_day(), &format!("\"{bad}\""), "no time of day");
        }
    }

    #[test]
    fn a_public_key_with_one_wrong_letter_is_refused() {
        assert_eq!(read(&recipient(), &format!("{KEY:?}")), Ok(KEY.to_owned()));
        for at in 4..KEY.len() {
            let other = if KEY.as_bytes()[at] == b'q' { "p" } else { "q" };
            let wrong = format!("{:?}", format!("{}{other}{}", &KEY[..at], &KEY[at + 1..]));
            says(&recipient(), &wrong, "no public key of age");
        }
        for bad in [
            "",
            "age1",
            &KEY[..61],
            &KEY.to_uppercase(),
            "ssh-ed25519 AAAA",
        ] {
            says(&recipient(), &format!("{bad:?}"), "no public key of age");
        }
    }

    #[test]
    fn a_private_key_is_refused_and_not_repeated() {
        let said = read(&recipient(), "\"AGE-SECRET-KEY-1CANARY\"").unwrap_err();
        assert!(said[0].contains("is a private key"), "{said:?}");
        assert!(!said[0].contains("CANARY"), "{said:?}");
    }
}
