//! The words that all kinds of plugin share.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a plugin does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Reads what was collected.
    Parser,
    /// Judges.
    Rule,
    /// Plans repairs.
    Remediation,
    /// Words notifications.
    Notifier,
    /// Says what to fetch, then reads it.
    Poller,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 5] = [
        Kind::Parser,
        Kind::Rule,
        Kind::Remediation,
        Kind::Notifier,
        Kind::Poller,
    ];

    /// The word that people write.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Kind::Parser => "parser",
            Kind::Rule => "rule",
            Kind::Remediation => "remediation",
            Kind::Notifier => "notifier",
            Kind::Poller => "poller",
        }
    }

    /// The kind that `word` names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Nanoseconds since 1970-01-01T00:00:00Z; RFC 3339 to the millisecond where
/// people read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

const NANOS_PER_MS: u64 = 1_000_000;

impl From<model::Timestamp> for Nanos {
    fn from(at: model::Timestamp) -> Nanos {
        Nanos(at.0.saturating_mul(NANOS_PER_MS))
    }
}

impl From<Nanos> for model::Timestamp {
    fn from(at: Nanos) -> model::Timestamp {
        model::Timestamp(at.0 / NANOS_PER_MS)
    }
}

impl Serialize for Nanos {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&model::Timestamp::from(*self))
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Nanos {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Nanos, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            let at = model::Timestamp::from_str(&text).map_err(D::Error::custom)?;
            Ok(at.into())
        } else {
            u64::deserialize(deserializer).map(Nanos)
        }
    }
}

/// Bytes; in recordings text where they are text, else 0x and hexadecimal
/// digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Octets(pub Vec<u8>);

impl Octets {
    /// The text, if the bytes are text that people can read and edit.
    fn as_plain(&self) -> Option<&str> {
        let text = std::str::from_utf8(&self.0).ok()?;
        let is_plain = !text.starts_with("0x")
            && !text
                .chars()
                .any(|c| c.is_control() && !matches!(c, '\n' | '\t'));
        is_plain.then_some(text)
    }
}

impl fmt::Display for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_plain() {
            Some(text) => f.write_str(text),
            None => {
                f.write_str("0x")?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl FromStr for Octets {
    type Err = String;

    fn from_str(text: &str) -> Result<Octets, String> {
        let Some(digits) = text.strip_prefix("0x") else {
            return Ok(Octets(text.as_bytes().to_vec()));
        };
        let bad = || format!("{text:?} is no row of bytes: after 0x stand two digits a byte");
        let pairs = digits.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?;
            u8::from_str_radix(pair, 16).ok()
        });
        pairs
            .collect::<Option<Vec<u8>>>()
            .map(Octets)
            .ok_or_else(bad)
    }
}

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Octets, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            return text.parse().map_err(D::Error::custom);
        }
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = Octets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Octets, E> {
                Ok(Octets(bytes.to_vec()))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Octets, E> {
                Ok(Octets(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

/// Key and value; keys match `[a-z_][a-z0-9_.]*`.
pub type Attr = (String, String);

/// One value of a fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is the word itself")]
pub enum Scalar {
    Boolean(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(String),
    Bytes(Octets),
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Look at it today.
    Warning,
    /// Get up.
    Critical,
}

impl From<model::Severity> for Severity {
    fn from(severity: model::Severity) -> Severity {
        match severity {
            model::Severity::Info => Severity::Info,
            model::Severity::Warning => Severity::Warning,
            model::Severity::Critical => Severity::Critical,
        }
    }
}

impl From<Severity> for model::Severity {
    fn from(severity: Severity) -> model::Severity {
        match severity {
            Severity::Info => model::Severity::Info,
            Severity::Warning => model::Severity::Warning,
            Severity::Critical => model::Severity::Critical,
        }
    }
}

/// A device, as plugins see it. What is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Its number in the inventory.
    pub id: String,
    /// Its name in the inventory.
    pub hostname: String,
    /// Where it is reached.
    pub address: String,
    /// Who made it, by its sysObjectID.
    pub vendor: String,
    /// sysObjectID, dotted; or the model, once it is known.
    pub model: String,
    /// sysDescr.
    pub os: String,
    /// The version of that, once it is known.
    pub os_version: String,
    /// `site`, `kind`, `tag` (one each), `sys_object_id`, `sys_name`, ...
    pub attrs: Vec<Attr>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the words of the WIT")]
pub struct Event {
    pub at: Nanos,
    pub kind: String,
    pub severity: Severity,
    pub message: String,
    pub attrs: Vec<Attr>,
}

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the words of the WIT")]
pub struct Point {
    pub at: Nanos,
    pub value: f64,
}

/// Samples of one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the words of the WIT")]
pub struct Series {
    pub metric: String,
    pub labels: Vec<Attr>,
    pub points: Vec<Point>,
}

/// A named payload for what is added after 1.0; `body` is JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the words of the WIT")]
pub struct Extension {
    pub name: String,
    pub body: String,
}

/// What connects two devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the words of the WIT")]
pub struct Link {
    pub local_port: String,
    pub remote_device: String,
    pub remote_port: String,
    pub protocol: String,
}
