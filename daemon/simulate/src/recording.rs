//! A device as it was recorded: lines of `OID|type|value`, as written by
//! snmpsim (`*.snmprec`).
//!
//! The type is the ASN.1 tag in decimal; `x` behind it says that the value is
//! in hexadecimal, `e` that it has backslash escapes. Empty lines and lines
//! that begin with `#` are comments. Recordings that people edited contain
//! lines that no agent could have sent: these are left out and reported.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::ber::MAX_SUB_IDS;
use crate::message::Value;
use crate::view::{Found, Place, View};

/// The longest recording that is read; the longest known one has 4 MB.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Why a recording cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It could not be read.
    #[error("cannot read the recording {path}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is not a recording.
    #[error("{path} is longer than {} MiB; is it a recording?", MAX_FILE_BYTES >> 20)]
    TooLong {
        /// Which one.
        path: PathBuf,
    },
    /// None of its lines can be served.
    #[error("{path} has no line of the form OID|type|value")]
    Empty {
        /// Which one.
        path: PathBuf,
    },
}

/// A line that is not served, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skipped {
    pub(crate) line: usize,
    pub(crate) why: &'static str,
}

/// A recorded device.
#[derive(Debug)]
pub(crate) struct Recording {
    /// Sorted by name, each name once: of two lines with one name, the first.
    instances: Vec<(Vec<u32>, Value)>,
    pub(crate) skipped: Vec<Skipped>,
}

impl Recording {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Recording, RecordingError> {
        let failed = |source| RecordingError::Read {
            path: path.to_owned(),
            source,
        };
        if fs::metadata(path).map_err(failed)?.len() > MAX_FILE_BYTES {
            return Err(RecordingError::TooLong {
                path: path.to_owned(),
            });
        }
        let recording = Recording::parse(&fs::read(path).map_err(failed)?);
        if recording.instances.is_empty() {
            return Err(RecordingError::Empty {
                path: path.to_owned(),
            });
        }
        Ok(recording)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Recording {
        let mut instances = Vec::new();
        let mut skipped = Vec::new();
        for (line, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            if text.trim_ascii().is_empty() || text.starts_with(b"#") {
                continue;
            }
            match instance(text) {
                Ok(instance) => instances.push(instance),
                Err(why) => skipped.push(Skipped { line, why }),
            }
        }
        instances.sort_by(|a, b| a.0.cmp(&b.0));
        instances.dedup_by(|later, first| later.0 == first.0);
        Recording { instances, skipped }
    }

    /// How many instances it has.
    pub(crate) fn len(&self) -> usize {
        self.instances.len()
    }

    fn at(&self, row: usize) -> Option<Place> {
        (row < self.instances.len()).then_some(Place { column: 0, row })
    }
}

impl View for Recording {
    fn get(&self, oid: &[u32]) -> Found {
        let found = self
            .instances
            .binary_search_by(|(name, _)| name.as_slice().cmp(oid));
        match found {
            Ok(row) => Found::Instance(Place { column: 0, row }),
            Err(_) => Found::NoSuchInstance,
        }
    }

    fn next(&self, oid: &[u32]) -> Option<Place> {
        let row = self
            .instances
            .partition_point(|(name, _)| name.as_slice() <= oid);
        self.at(row)
    }

    fn after(&self, place: Place) -> Option<Place> {
        self.at(place.row + 1)
    }

    fn name(&self, place: Place, name: &mut Vec<u32>) {
        name.clear();
        name.extend_from_slice(&self.instances[place.row].0);
    }

    fn value(&self, place: Place) -> Value {
        self.instances[place.row].1.clone()
    }
}

fn instance(line: &[u8]) -> Result<(Vec<u32>, Value), &'static str> {
    let mut fields = line.splitn(3, |byte| *byte == b'|');
    let (Some(oid), Some(kind), Some(content)) = (fields.next(), fields.next(), fields.next())
    else {
        return Err("not of the form OID|type|value");
    };
    let oid = object_id(oid).ok_or("the name is not an object identifier")?;
    Ok((oid, value(kind, content)?))
}

fn object_id(text: &[u8]) -> Option<Vec<u32>> {
    let text = std::str::from_utf8(text).ok()?.trim();
    // some tools write a dot in front, some people one behind
    let text = text.strip_prefix('.').unwrap_or(text);
    let text = text.strip_suffix('.').unwrap_or(text);
    let ids: Option<Vec<u32>> = text.split('.').map(|id| id.parse().ok()).collect();
    ids.filter(|ids| (2..=MAX_SUB_IDS).contains(&ids.len()) && encodable(ids))
}

/// Whether the first two parts fit into one (X.690 §8.19.4).
fn encodable(ids: &[u32]) -> bool {
    match ids[0] {
        0 | 1 => ids[1] < 40,
        2 => ids[1] <= u32::MAX - 80,
        _ => false,
    }
}

fn value(kind: &[u8], content: &[u8]) -> Result<Value, &'static str> {
    let kind = std::str::from_utf8(kind).map_err(|_other| "the type is not a number")?;
    let digits = kind.trim_end_matches(|c: char| !c.is_ascii_digit());
    let tag: u8 = digits
        .parse()
        .map_err(|_other| "the type is not a number")?;
    let content = match &kind[digits.len()..] {
        "" => content.to_vec(),
        "x" => hexadecimal(content).ok_or("the value is not hexadecimal")?,
        "e" => unescaped(content).ok_or("a backslash escape is malformed")?,
        _ => return Err("the type has a suffix other than x and e"),
    };
    typed(tag, content, kind.ends_with('x'))
}

fn typed(tag: u8, content: Vec<u8>, hexadecimal: bool) -> Result<Value, &'static str> {
    const NO_NUMBER: &str = "the value is not a number of its type";
    let number = || std::str::from_utf8(&content).ok().map(str::trim);
    let unsigned = || {
        number()
            .and_then(|text| text.parse::<u32>().ok())
            .ok_or(NO_NUMBER)
    };
    Ok(match tag {
        2 => {
            let parsed = number().and_then(|text| text.parse().ok());
            Value::Integer(parsed.ok_or(NO_NUMBER)?)
        }
        4 => Value::OctetString(content),
        5 => Value::Null,
        6 => {
            let text = content.trim_ascii();
            // zeroDotZero, which old tools write as one number
            let ids = if text == b"0" {
                Some(vec![0, 0])
            } else {
                object_id(text)
            };
            Value::ObjectId(ids.ok_or("the value is not an object identifier")?)
        }
        64 => {
            let octets = if hexadecimal {
                <[u8; 4]>::try_from(content.as_slice()).ok()
            } else {
                number()
                    .and_then(|text| text.parse::<Ipv4Addr>().ok())
                    .map(|ip| ip.octets())
            };
            Value::IpAddress(octets.ok_or("the value is not an IPv4 address")?)
        }
        65 => Value::Counter32(unsigned()?),
        66 => Value::Gauge32(unsigned()?),
        67 => Value::TimeTicks(unsigned()?),
        68 => Value::Opaque(content),
        70 => {
            let parsed = number().and_then(|text| text.parse().ok());
            Value::Counter64(parsed.ok_or(NO_NUMBER)?)
        }
        _ => return Err("no SNMP value has this type"),
    })
}

fn hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
    let digit = |byte: u8| {
        (byte as char)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let pairs = text.chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}

fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let (escape, after) = rest.split_first()?;
        rest = after;
        out.push(match escape {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'0' => 0,
            b'a' => 7,
            b'b' => 8,
            b'v' => 11,
            b'f' => 12,
            b'x' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                *hexadecimal(digits)?.first()?
            }
            other => *other,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_line_is_read() {
        let recording = Recording::parse(
            b"# a comment\n\n1.3.6.1.2.1.1.1.0|4|a|b\r\n\
              .1.3.6.1.2.1.1.2.0|6|1.3.6.1.4.1.9.1\n1.3.6.1.2.1.1.3.0|67|42\n\
              1.3.6.1.4.1.1|4x|00fF\n1.3.6.1.4.1.2|64|10.0.0.1\n1.3.6.1.4.1.3|64x|0a000002\n\
              1.3.6.1.4.1.4|65|4294967295\n1.3.6.1.4.1.5|70|18446744073709551615\n\
              1.3.6.1.4.1.6|2|-5\n1.3.6.1.4.1.7|4e|\\x07\\\\n\n1.3.6.1.4.1.8|5|\n\
              1.3.6.1.4.1.9|68x|9f780441\n",
        );
        let values: Vec<Value> = recording.instances.iter().map(|(_, v)| v.clone()).collect();
        assert_eq!(recording.skipped, []);
        assert_eq!(
            values,
            [
                Value::OctetString(b"a|b".to_vec()),
                Value::ObjectId(vec![1, 3, 6, 1, 4, 1, 9, 1]),
                Value::TimeTicks(42),
                Value::OctetString(vec![0, 255]),
                Value::IpAddress([10, 0, 0, 1]),
                Value::IpAddress([10, 0, 0, 2]),
                Value::Counter32(u32::MAX),
                Value::Counter64(u64::MAX),
                Value::Integer(-5),
                Value::OctetString(b"\x07\\n".to_vec()),
                Value::Null,
                Value::Opaque(vec![0x9f, 0x78, 4, 0x41]),
            ]
        );
    }

    #[test]
    fn lines_that_no_agent_could_send_are_left_out_and_named() {
        let recording = Recording::parse(
            b"1.3.6.1.2.1.4.20.1.2.<IPADDR>|2|3\nhello\n1.3.6.1|65|-1\n1.3.6.1|4x|0\n1.3.6.2|99|1\n1.3.7|2|1",
        );
        let lines: Vec<usize> = recording
            .skipped
            .iter()
            .map(|skipped| skipped.line)
            .collect();
        assert_eq!(lines, [1, 2, 3, 4, 5]);
        assert_eq!(recording.len(), 1);
    }

    #[test]
    fn lines_in_disorder_are_walked_in_order_and_each_once() {
        let recording = Recording::parse(b"1.3.10|2|1\n1.3.9|2|2\n1.3.10|2|3\n");
        let first = recording.next(&[1]).unwrap();
        assert_eq!(recording.value(first), Value::Integer(2));
        let second = recording.after(first).unwrap();
        assert_eq!(recording.value(second), Value::Integer(1));
        assert_eq!(recording.after(second), None);
        assert_eq!(recording.get(&[1, 3, 11]), Found::NoSuchInstance);
    }

    #[test]
    fn real_recordings_are_read_but_for_a_few_lines_that_people_edited() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/librenms");
        let Ok(files) = fs::read_dir(folder) else {
            return;
        };
        let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        paths.retain(|path| {
            path.extension()
                .is_some_and(|extension| extension == "snmprec")
        });
        paths.sort();
        let (mut instances, mut skipped) = (0, 0);
        // one in ten: all of them take a while in a build without optimisation
        for path in paths.iter().step_by(10) {
            let recording = Recording::read(path).unwrap();
            instances += recording.len();
            skipped += recording.skipped.len();
        }
        assert!(
            skipped * 100 < instances,
            "{skipped} lines skipped, {instances} read"
        );
    }
}
