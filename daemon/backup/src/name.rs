//! The names of backups: `sotp-<host>-20261121T023000Z.tar`, and `.age` behind
//! it if it is encrypted. Only what has such a name is ever listed or removed.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use model::Timestamp;

const START: &str = "sotp-";
const END: &str = ".tar";
const ENCRYPTED: &str = ".age";
const TIME: &str = "%Y%m%dT%H%M%SZ";
/// `20261121T023000Z`.
const TIME_BYTES: usize = 16;
/// The longest label of a host name (RFC 1035 §2.3.4).
const HOST_BYTES: usize = 63;

/// The name of a backup; the later one is the greater one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupName {
    at: DateTime,
    host: String,
    encrypted: bool,
}

impl BackupName {
    /// The name of a backup that was begun on `host` at `now`; to the second.
    #[must_use]
    pub fn new(host: &str, now: Timestamp, encrypted: bool) -> BackupName {
        let second = i64::try_from(now.0 / 1_000).unwrap_or(i64::MAX);
        let instant = jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::MAX);
        BackupName {
            at: instant.to_zoned(TimeZone::UTC).datetime(),
            host: host_in_names(host),
            encrypted,
        }
    }

    /// When it was begun.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        let instant = self.at.to_zoned(TimeZone::UTC).map(|at| at.timestamp());
        let ms = instant.map_or(0, jiff::Timestamp::as_millisecond);
        Timestamp(u64::try_from(ms).unwrap_or(0))
    }

    /// Where it was made, as names spell it: see [`BackupName::is_of`].
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it was made on `host`.
    #[must_use]
    pub fn is_of(&self, host: &str) -> bool {
        self.host == host_in_names(host)
    }

    /// Whether it says of itself that it is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }
}

/// `host` in small letters, digits and hyphens.
fn host_in_names(host: &str) -> String {
    let plain = |c: char| match c.to_ascii_lowercase() {
        c if is_plain(c) => c,
        _ => '-',
    };
    let name: String = host.chars().map(plain).take(HOST_BYTES).collect();
    match name.trim_matches('-') {
        "" => "unknown".to_owned(),
        name => name.to_owned(),
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

impl Ord for BackupName {
    fn cmp(&self, other: &BackupName) -> Ordering {
        let key = |name: &BackupName| (name.at, name.encrypted);
        key(self)
            .cmp(&key(other))
            .then_with(|| self.host.cmp(&other.host))
    }
}

impl PartialOrd for BackupName {
    fn partial_cmp(&self, other: &BackupName) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.encrypted { ENCRYPTED } else { "" };
        let (host, at) = (&self.host, self.at.strftime(TIME));
        write!(f, "{START}{host}-{at}{END}{end}")
    }
}

/// A text that is no name of a backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a backup, such as sotp-core-20261121T023000Z.tar")]
pub struct NotABackupName(pub String);

impl FromStr for BackupName {
    type Err = NotABackupName;

    fn from_str(text: &str) -> Result<BackupName, NotABackupName> {
        parse(text)
            // whatever the parts allow, the whole has one spelling
            .filter(|name| name.to_string() == text)
            .ok_or_else(|| NotABackupName(text.chars().take(200).collect()))
    }
}

fn parse(text: &str) -> Option<BackupName> {
    let (text, encrypted) = match text.strip_suffix(ENCRYPTED) {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (host, at) = text
        .strip_prefix(START)?
        .strip_suffix(END)?
        .rsplit_once('-')?;
    let is_host = (1..=HOST_BYTES).contains(&host.len())
        && host.chars().all(is_plain)
        && host.trim_matches('-') == host;
    if !is_host || at.len() != TIME_BYTES || !at.is_ascii() {
        return None;
    }
    Some(BackupName {
        at: DateTime::strptime(TIME, at).ok()?,
        host: host.to_owned(),
        encrypted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_says_where_and_when_and_reads_back() {
        for (host, encrypted, expected) in [
            ("core", false, "sotp-core-20261121T023000Z.tar"),
            ("core", true, "sotp-core-20261121T023000Z.tar.age"),
            (
                "NOC.example.net",
                false,
                "sotp-noc-example-net-20261121T023000Z.tar",
            ),
            ("../../x y", false, "sotp-x-y-20261121T023000Z.tar"),
            ("", false, "sotp-unknown-20261121T023000Z.tar"),
            (
                "a-20200101T000000Z",
                false,
                "sotp-a-20200101t000000z-20261121T023000Z.tar",
            ),
        ] {
            let name = BackupName::new(host, at("2026-11-21T02:30:00.999Z"), encrypted);
            assert_eq!(name.to_string(), expected);
            assert_eq!(expected.parse(), Ok(name.clone()));
            assert_eq!(name.at(), at("2026-11-21T02:30:00Z"));
            assert!(name.is_of(host));
        }
    }

    #[test]
    fn what_others_put_there_is_no_backup_of_ours() {
        for other in [
            "",
            "sotp",
            "sotp-core.tar",
            "sotp--20261121T023000Z.tar",
            "sotp-core-20261121T023000Z.tar.gz",
            "sotp-core-20261121T023000Z.tar.age.age",
            "sotp-core-20261321T023000Z.tar",
            "sotp-core-20261121T256000Z.tar",
            "sotp-Core-20261121T023000Z.tar",
            "sotp-core-20261121T023000z.tar",
            "sotp-../x-20261121T023000Z.tar",
            "a/sotp-core-20261121T023000Z.tar",
            ".sotp-core-20261121T023000Z.tar.part",
            "sotp-core-+0261121T023000Z.tar",
        ] {
            assert!(other.parse::<BackupName>().is_err(), "{other}");
        }
    }

    #[test]
    fn the_later_one_is_the_greater_one_whatever_the_host() {
        let early = BackupName::new("z", at("2026-11-21T02:30:00Z"), true);
        let late = BackupName::new("a", at("2026-11-22T02:30:00Z"), false);
        assert!(early < late);
    }
}
