//! What a collector brings back, unread: `collect` makes these, `parse` reads
//! them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use crate::Timestamp;

/// One echo request's fate.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// Answered after this long, which is never zero.
    Answered(Duration),
    /// Silence.
    TimedOut,
    /// A router or the kernel said that the address cannot be reached.
    Unreachable,
}

/// One round of echo requests to one address.
#[derive(Clone, Debug, PartialEq)]
pub struct PingAnswer {
    /// When the round began.
    pub at: Timestamp,
    /// Which address was asked.
    pub target: IpAddr,
    /// In the order they were sent; only those that were really sent.
    pub probes: Vec<Probe>,
}

/// What kind of trouble: each is a different thing to do for whoever reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum FailureKind {
    /// Silence: the device, or something on the way, may be down.
    Timeout,
    /// Somebody on the way, or the device, said no: ICMP unreachable.
    Unreachable,
    /// This machine does not let us ask: nothing was learnt of the device.
    Permission,
    /// The name has no address, or the name server does not answer.
    Resolution,
    /// It answered, but not in the protocol.
    Protocol,
    /// It answered that it will not.
    Refused,
    /// This machine could not ask: no socket, no memory, no route.
    Local,
}

impl FailureKind {
    /// The word used in the API and in metric labels.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            FailureKind::Timeout => "timeout",
            FailureKind::Unreachable => "unreachable",
            FailureKind::Permission => "permission",
            FailureKind::Resolution => "resolution",
            FailureKind::Protocol => "protocol",
            FailureKind::Refused => "refused",
            FailureKind::Local => "local",
        }
    }

    /// Whether it says something of the device: the others say only that we
    /// could not ask, so they neither raise nor clear an alert.
    #[must_use]
    pub fn is_about_the_device(self) -> bool {
        match self {
            FailureKind::Timeout
            | FailureKind::Unreachable
            | FailureKind::Protocol
            | FailureKind::Refused => true,
            FailureKind::Permission | FailureKind::Resolution | FailureKind::Local => false,
        }
    }
}

/// Why a question has no, or only half an, answer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    /// What kind of trouble.
    pub kind: FailureKind,
    /// One line for people, safe to show, with what to do where we know it.
    pub text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// An object identifier: at most 128 sub-identifiers (RFC 2578 §3.5).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(pub Vec<u32>);

impl Oid {
    /// What follows `root`, if this lies below it.
    #[must_use]
    pub fn below(&self, root: &Oid) -> Option<&[u32]> {
        self.0.strip_prefix(root.0.as_slice())
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, number) in self.0.iter().enumerate() {
            let dot = if place == 0 { "" } else { "." };
            write!(f, "{dot}{number}")?;
        }
        Ok(())
    }
}

impl FromStr for Oid {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Oid, Self::Err> {
        text.strip_prefix('.')
            .unwrap_or(text)
            .split('.')
            .map(str::parse)
            .collect::<Result<Vec<u32>, _>>()
            .map(Oid)
    }
}

/// One value (RFC 3416 §2).
#[derive(Clone, Debug, PartialEq)]
pub enum SnmpValue {
    /// INTEGER, Integer32.
    Integer(i64),
    /// OCTET STRING, as it came.
    Octets(Box<[u8]>),
    /// OBJECT IDENTIFIER.
    ObjectId(Oid),
    /// IpAddress.
    IpAddress([u8; 4]),
    /// Counter32.
    Counter32(u32),
    /// Gauge32, Unsigned32.
    Gauge32(u32),
    /// TimeTicks: hundredths of a second.
    TimeTicks(u32),
    /// Counter64.
    Counter64(u64),
    /// Opaque, as it came.
    Opaque(Box<[u8]>),
    /// NULL.
    Null,
}

impl SnmpValue {
    /// The number in it, if it is one.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "samples are f64; a counter above 2^53 loses its lowest bits, as in Prometheus"
    )]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            SnmpValue::Integer(n) => Some(*n as f64),
            SnmpValue::Counter32(n) | SnmpValue::Gauge32(n) | SnmpValue::TimeTicks(n) => {
                Some(f64::from(*n))
            }
            SnmpValue::Counter64(n) => Some(*n as f64),
            SnmpValue::Octets(_)
            | SnmpValue::ObjectId(_)
            | SnmpValue::IpAddress(_)
            | SnmpValue::Opaque(_)
            | SnmpValue::Null => None,
        }
    }
}

/// One object instance and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Varbind {
    /// Which instance.
    pub oid: Oid,
    /// Its value.
    pub value: SnmpValue,
}

/// What to ask an agent for in one poll.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SnmpPlan {
    /// Instances to get, each with its final `.0`.
    pub scalars: Vec<Oid>,
    /// Tables to walk, in this order.
    pub tables: Vec<TableAsk>,
    /// What plugins want beside it.
    pub extra: SnmpExtra,
}

/// What plugins want of an agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SnmpExtra {
    /// Instances to get.
    pub get: Vec<Oid>,
    /// Subtrees to walk.
    pub walk: Vec<Oid>,
}

impl SnmpExtra {
    /// Whether nothing is wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.get.is_empty() && self.walk.is_empty()
    }
}

/// What an agent has below an object.
#[derive(Clone, Debug, PartialEq)]
pub struct SnmpWalk {
    /// The object.
    pub root: Oid,
    /// Its instances, in the agent's order.
    pub varbinds: Vec<Varbind>,
    /// Why it is not complete, if it is not.
    pub failure: Option<Failure>,
}

/// What an agent answered to an [`SnmpExtra`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SnmpExtraAnswer {
    /// What was to be got. Absent instances are left out.
    pub got: Vec<Varbind>,
    /// Why not all of it was got, if it was not.
    pub failure: Option<Failure>,
    /// One for each subtree, in that order.
    pub walks: Vec<SnmpWalk>,
}

/// A table to walk.
#[derive(Clone, Debug, PartialEq)]
pub struct TableAsk {
    /// Its name in the MIB, for errors.
    pub name: &'static str,
    /// The columns we need; the others are not asked for.
    pub columns: Vec<Oid>,
    /// Walk it only if this column, of a table before it in the plan, came back
    /// without a failure and with fewer cells than the table has rows: the
    /// 32-bit counters of a device that has no 64-bit ones, or not for all its
    /// interfaces (RFC 2863 §3.1.6 wants them for fast ones alone).
    pub only_if_missing: Option<Oid>,
}

/// One column of a table: `(index, value)` in the order the agent gave them.
#[derive(Clone, Debug, PartialEq)]
pub struct SnmpColumn {
    /// The column's OID, without the index.
    pub oid: Oid,
    /// Of rows whose index is one number: what all our built-in tables have.
    /// An instance with another index is left out and counted in
    /// [`SnmpTable::odd_instances`].
    pub cells: Vec<(u32, SnmpValue)>,
}

/// A table as far as the agent gave it.
#[derive(Clone, Debug, PartialEq)]
pub struct SnmpTable {
    /// Its name in the MIB, such as `ifXTable`.
    pub name: &'static str,
    /// The columns that were asked for, in that order; empty where the agent
    /// has none of it.
    pub columns: Vec<SnmpColumn>,
    /// Instances below a column whose index is not one number.
    pub odd_instances: u32,
    /// Why it is not complete, if it is not.
    pub failure: Option<Failure>,
}

/// What an agent answered to one poll.
#[derive(Clone, Debug, PartialEq)]
pub struct SnmpAnswer {
    /// When the poll began.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// Requests sent, retries included.
    pub requests: u32,
    /// The scalars: the system group. Absent instances are left out.
    pub scalars: Vec<Varbind>,
    /// The tables, each with its own failure.
    pub tables: Vec<SnmpTable>,
    /// What plugins wanted.
    pub extra: SnmpExtraAnswer,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oid_reads_and_shows_as_dotted_numbers() {
        let oid: Oid = ".1.3.6.1.2.1.2".parse().unwrap();
        assert_eq!(oid.to_string(), "1.3.6.1.2.1.2");
        let cell: Oid = "1.3.6.1.2.1.2.7".parse().unwrap();
        assert_eq!(cell.below(&oid), Some([7].as_slice()));
        assert!("1.3.x".parse::<Oid>().is_err());
    }

    #[test]
    fn trouble_on_our_side_says_nothing_of_the_device() {
        assert!(FailureKind::Timeout.is_about_the_device());
        assert!(!FailureKind::Permission.is_about_the_device());
        assert!(!FailureKind::Resolution.is_about_the_device());
    }
}
