//! What a device says of itself: kept once and replaced when it changes, not
//! a time series.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// The system group (RFC 3418), as text that is safe to show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemFacts {
    /// sysDescr.
    pub descr: Option<String>,
    /// sysObjectID, dotted.
    pub object_id: Option<String>,
    /// sysName.
    pub name: Option<String>,
    /// sysLocation.
    pub location: Option<String>,
    /// sysContact.
    pub contact: Option<String>,
    /// The vendor that sysObjectID's enterprise number stands for.
    pub vendor: Option<String>,
}

/// One interface (RFC 2863). Its identity is the key it is kept under in
/// [`Facts::interfaces`], never its ifIndex.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// ifIndex at the last poll; another one after a restart is normal.
    pub index: u32,
    /// ifName.
    pub name: Option<String>,
    /// ifAlias: what the operator called it.
    pub alias: Option<String>,
    /// ifDescr.
    pub descr: Option<String>,
    /// ifType (IANAifType).
    pub if_type: Option<u32>,
    /// ifPhysAddress, as aa:bb:cc:dd:ee:ff.
    pub mac: Option<String>,
    /// ifHighSpeed, else ifSpeed, in bit/s.
    pub speed_bps: Option<u64>,
    /// ifAdminStatus: 1 up, 2 down, 3 testing.
    pub admin_status: Option<u32>,
    /// ifOperStatus: 1 up, 2 down, 3 testing, 4 unknown, 5 dormant,
    /// 6 notPresent, 7 lowerLayerDown.
    pub oper_status: Option<u32>,
}

/// Everything a device says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The system group.
    pub system: SystemFacts,
    /// By identity: ifName, else ifAlias, else ifDescr, made unique by
    /// appending `#ifIndex` where two share it.
    pub interfaces: BTreeMap<String, Interface>,
    /// When this last changed.
    pub changed: Timestamp,
}
