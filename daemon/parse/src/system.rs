//! The system group (RFC 3418).

use model::{SnmpAnswer, SnmpValue, SystemFacts};

use crate::plan::{
    SYS_CONTACT, SYS_DESCR, SYS_LOCATION, SYS_NAME, SYS_OBJECT_ID, SYS_UP_TIME, SYSTEM,
};
use crate::value::{scalar, seconds, text};
use crate::vendor::vendor;

/// What the device says of itself.
pub(crate) fn system_facts(answer: &SnmpAnswer) -> SystemFacts {
    let object_id = scalar(answer, SYSTEM, SYS_OBJECT_ID).and_then(|value| match value {
        SnmpValue::ObjectId(oid) => Some(oid),
        SnmpValue::Integer(_)
        | SnmpValue::Octets(_)
        | SnmpValue::IpAddress(_)
        | SnmpValue::Counter32(_)
        | SnmpValue::Gauge32(_)
        | SnmpValue::TimeTicks(_)
        | SnmpValue::Counter64(_)
        | SnmpValue::Opaque(_)
        | SnmpValue::Null => None,
    });
    let shown = |object| {
        let shown = scalar(answer, SYSTEM, object).and_then(text)?;
        (!shown.is_empty()).then(|| shown.into_owned())
    };
    SystemFacts {
        descr: shown(SYS_DESCR),
        object_id: object_id.map(ToString::to_string),
        name: shown(SYS_NAME),
        location: shown(SYS_LOCATION),
        contact: shown(SYS_CONTACT),
        vendor: object_id.and_then(vendor).map(str::to_owned),
    }
}

/// sysUpTime in seconds; NaN if the agent has none.
pub(crate) fn uptime(answer: &SnmpAnswer) -> f64 {
    scalar(answer, SYSTEM, SYS_UP_TIME).map_or(f64::NAN, seconds)
}
