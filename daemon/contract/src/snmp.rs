//! SNMP's words (RFC 2578, RFC 3416).

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Octets;

/// An object identifier; dotted in recordings.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(pub Vec<u32>);

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
    type Err = String;

    fn from_str(text: &str) -> Result<Oid, String> {
        if text.is_empty() {
            return Ok(Oid::default());
        }
        let arcs = text.strip_prefix('.').unwrap_or(text).split('.');
        let arcs: Result<Vec<u32>, _> = arcs.map(str::parse).collect();
        arcs.map(Oid)
            .map_err(|_| format!("{text:?} is no object identifier: write 1.3.6.1.2.1.1.3.0"))
    }
}

impl From<&model::Oid> for Oid {
    fn from(oid: &model::Oid) -> Oid {
        Oid(oid.0.clone())
    }
}

impl From<Oid> for model::Oid {
    fn from(oid: Oid) -> model::Oid {
        model::Oid(oid.0)
    }
}

impl Serialize for Oid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Oid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Oid, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(D::Error::custom)
        } else {
            Vec::deserialize(deserializer).map(Oid)
        }
    }
}

/// One value (RFC 3416 §2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is the word itself")]
pub enum SnmpValue {
    Integer(i32),
    Unsigned32(u32),
    Counter32(u32),
    Counter64(u64),
    TimeTicks(u32),
    Octets(Octets),
    ObjectId(Oid),
    IpAddress(u8, u8, u8, u8),
    Opaque(Octets),
    Null,
    NoSuchObject,
    NoSuchInstance,
    EndOfMibView,
}

impl From<&model::SnmpValue> for SnmpValue {
    fn from(value: &model::SnmpValue) -> SnmpValue {
        use model::SnmpValue as From;
        match value {
            From::Integer(n) => SnmpValue::Integer(clamped(*n)),
            From::Octets(octets) => SnmpValue::Octets(Octets(octets.to_vec())),
            From::ObjectId(oid) => SnmpValue::ObjectId(oid.into()),
            From::IpAddress([a, b, c, d]) => SnmpValue::IpAddress(*a, *b, *c, *d),
            From::Counter32(n) => SnmpValue::Counter32(*n),
            From::Gauge32(n) => SnmpValue::Unsigned32(*n),
            From::TimeTicks(n) => SnmpValue::TimeTicks(*n),
            From::Counter64(n) => SnmpValue::Counter64(*n),
            From::Opaque(octets) => SnmpValue::Opaque(Octets(octets.to_vec())),
            From::Null => SnmpValue::Null,
        }
    }
}

/// An INTEGER has 32 bits (RFC 2578 §7.1.1); agents that send more are wrong.
fn clamped(number: i64) -> i32 {
    let end = if number < 0 { i32::MIN } else { i32::MAX };
    i32::try_from(number).unwrap_or(end)
}

/// One object instance and its value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Varbind {
    /// Which instance.
    pub name: Oid,
    /// Its value.
    pub value: SnmpValue,
}

impl From<&model::Varbind> for Varbind {
    fn from(varbind: &model::Varbind) -> Varbind {
        Varbind {
            name: (&varbind.oid).into(),
            value: (&varbind.value).into(),
        }
    }
}
