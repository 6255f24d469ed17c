//! What is asked of an SNMP agent, and what its columns mean.

use model::{Oid, SnmpPlan, TableAsk};

/// SNMPv2-MIB::system (RFC 3418).
pub(crate) const SYSTEM: &[u32] = &[1, 3, 6, 1, 2, 1, 1];
/// IF-MIB::ifEntry (RFC 2863).
pub(crate) const IF_ENTRY: &[u32] = &[1, 3, 6, 1, 2, 1, 2, 2, 1];
/// IF-MIB::ifXEntry (RFC 2863).
pub(crate) const IF_X_ENTRY: &[u32] = &[1, 3, 6, 1, 2, 1, 31, 1, 1, 1];
/// HOST-RESOURCES-MIB::hrStorageEntry (RFC 2790).
pub(crate) const HR_STORAGE_ENTRY: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 2, 3, 1];
/// HOST-RESOURCES-MIB::hrProcessorEntry (RFC 2790).
pub(crate) const HR_PROCESSOR_ENTRY: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 3, 3, 1];

pub(crate) const SYS_DESCR: u32 = 1;
pub(crate) const SYS_OBJECT_ID: u32 = 2;
pub(crate) const SYS_UP_TIME: u32 = 3;
pub(crate) const SYS_CONTACT: u32 = 4;
pub(crate) const SYS_NAME: u32 = 5;
pub(crate) const SYS_LOCATION: u32 = 6;

pub(crate) const IF_DESCR: u32 = 2;
pub(crate) const IF_TYPE: u32 = 3;
pub(crate) const IF_SPEED: u32 = 5;
pub(crate) const IF_PHYS_ADDRESS: u32 = 6;
pub(crate) const IF_NAME: u32 = 1;
pub(crate) const IF_HC_IN_OCTETS: u32 = 6;
pub(crate) const IF_HIGH_SPEED: u32 = 15;
pub(crate) const IF_ALIAS: u32 = 18;

pub(crate) const HR_STORAGE_TYPE: u32 = 2;
pub(crate) const HR_STORAGE_DESCR: u32 = 3;
pub(crate) const HR_STORAGE_ALLOCATION_UNITS: u32 = 4;
pub(crate) const HR_STORAGE_SIZE: u32 = 5;
pub(crate) const HR_STORAGE_USED: u32 = 6;

pub(crate) const HR_PROCESSOR_LOAD: u32 = 2;

pub(crate) const IF_X_TABLE: &str = "ifXTable";
pub(crate) const IF_TABLE: &str = "ifTable";
/// The part of ifTable that only devices without 64-bit counters are asked
/// for.
pub(crate) const IF_TABLE_32_BIT: &str = "ifTable (32-bit counters)";
pub(crate) const HR_PROCESSOR_TABLE: &str = "hrProcessorTable";
pub(crate) const HR_STORAGE_TABLE: &str = "hrStorageTable";

/// How a cell of an interface's metric is read, and how much of it a line can
/// carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// A small number that stands for a word.
    State,
    /// ifHighSpeed and ifSpeed together.
    Speed,
    /// Hundredths of a second.
    Ticks,
    /// Octets that went over the line.
    Octets,
    /// Packets that went over the line.
    Packets,
    /// Packets that did not: bounded by no line, as many may want into one.
    Losses,
}

/// A metric that each interface has.
pub(crate) struct InterfaceMetric {
    pub(crate) name: &'static str,
    pub(crate) table: &'static str,
    pub(crate) entry: &'static [u32],
    pub(crate) column: u32,
    pub(crate) reads: Reads,
}

const fn metric(
    name: &'static str,
    table: &'static str,
    entry: &'static [u32],
    column: u32,
    reads: Reads,
) -> InterfaceMetric {
    InterfaceMetric {
        name,
        table,
        entry,
        column,
        reads,
    }
}

/// Every metric of an interface, in the order of its columns.
pub(crate) const INTERFACE_METRICS: [InterfaceMetric; 20] = {
    use Reads::{Losses, Octets, Packets, Speed, State, Ticks};
    [
        metric("ifAdminStatus", IF_TABLE, IF_ENTRY, 7, State),
        metric("ifOperStatus", IF_TABLE, IF_ENTRY, 8, State),
        metric("ifSpeed_bps", IF_X_TABLE, IF_X_ENTRY, IF_HIGH_SPEED, Speed),
        metric(
            "ifCounterDiscontinuityTime",
            IF_X_TABLE,
            IF_X_ENTRY,
            19,
            Ticks,
        ),
        metric(
            "ifHCInOctets",
            IF_X_TABLE,
            IF_X_ENTRY,
            IF_HC_IN_OCTETS,
            Octets,
        ),
        metric("ifHCOutOctets", IF_X_TABLE, IF_X_ENTRY, 10, Octets),
        metric("ifHCInUcastPkts", IF_X_TABLE, IF_X_ENTRY, 7, Packets),
        metric("ifHCOutUcastPkts", IF_X_TABLE, IF_X_ENTRY, 11, Packets),
        metric("ifHCInMulticastPkts", IF_X_TABLE, IF_X_ENTRY, 8, Packets),
        metric("ifHCOutMulticastPkts", IF_X_TABLE, IF_X_ENTRY, 12, Packets),
        metric("ifHCInBroadcastPkts", IF_X_TABLE, IF_X_ENTRY, 9, Packets),
        metric("ifHCOutBroadcastPkts", IF_X_TABLE, IF_X_ENTRY, 13, Packets),
        metric("ifInOctets", IF_TABLE_32_BIT, IF_ENTRY, 10, Octets),
        metric("ifOutOctets", IF_TABLE_32_BIT, IF_ENTRY, 16, Octets),
        metric("ifInUcastPkts", IF_TABLE_32_BIT, IF_ENTRY, 11, Packets),
        metric("ifOutUcastPkts", IF_TABLE_32_BIT, IF_ENTRY, 17, Packets),
        metric("ifInErrors", IF_TABLE, IF_ENTRY, 14, Losses),
        metric("ifOutErrors", IF_TABLE, IF_ENTRY, 20, Losses),
        metric("ifInDiscards", IF_TABLE, IF_ENTRY, 13, Losses),
        metric("ifOutDiscards", IF_TABLE, IF_ENTRY, 19, Losses),
    ]
};

/// Where ifSpeed_bps stands in [`INTERFACE_METRICS`].
pub(crate) const SPEED_SLOT: usize = 2;
/// Where ifCounterDiscontinuityTime stands in [`INTERFACE_METRICS`].
pub(crate) const DISCONTINUITY_SLOT: usize = 3;
/// Where the 64-bit counters stand in [`INTERFACE_METRICS`].
pub(crate) const WIDE_SLOTS: std::ops::Range<usize> = 4..12;
/// Where the 32-bit counters that stand in for them are.
pub(crate) const NARROW_SLOTS: std::ops::Range<usize> = 12..16;

/// What one poll asks of an agent: the system group; the interfaces, 64-bit
/// counters first and 32-bit ones only where there are no others; processors;
/// storage. No column that is not read.
#[must_use]
pub fn snmp_plan() -> SnmpPlan {
    let system = [
        SYS_DESCR,
        SYS_OBJECT_ID,
        SYS_UP_TIME,
        SYS_CONTACT,
        SYS_NAME,
        SYS_LOCATION,
    ];
    SnmpPlan {
        extra: model::SnmpExtra::default(),
        scalars: system
            .iter()
            .map(|object| oid(SYSTEM, &[*object, 0]))
            .collect(),
        tables: vec![
            interface_table(IF_X_TABLE, IF_X_ENTRY, &[IF_NAME, IF_ALIAS]),
            interface_table(
                IF_TABLE,
                IF_ENTRY,
                &[IF_DESCR, IF_TYPE, IF_SPEED, IF_PHYS_ADDRESS],
            ),
            TableAsk {
                only_if_missing: Some(oid(IF_X_ENTRY, &[IF_HC_IN_OCTETS])),
                ..interface_table(IF_TABLE_32_BIT, IF_ENTRY, &[])
            },
            table(HR_PROCESSOR_TABLE, HR_PROCESSOR_ENTRY, &[HR_PROCESSOR_LOAD]),
            table(
                HR_STORAGE_TABLE,
                HR_STORAGE_ENTRY,
                &[
                    HR_STORAGE_TYPE,
                    HR_STORAGE_DESCR,
                    HR_STORAGE_ALLOCATION_UNITS,
                    HR_STORAGE_SIZE,
                    HR_STORAGE_USED,
                ],
            ),
        ],
    }
}

/// `texts` and every metric's column of the table called `name`, as the MIB
/// orders them.
fn interface_table(name: &'static str, entry: &[u32], texts: &[u32]) -> TableAsk {
    let metrics = INTERFACE_METRICS
        .iter()
        .filter(|metric| metric.table == name);
    let mut columns: Vec<u32> = texts
        .iter()
        .copied()
        .chain(metrics.map(|m| m.column))
        .collect();
    columns.sort_unstable();
    table(name, entry, &columns)
}

fn table(name: &'static str, entry: &[u32], columns: &[u32]) -> TableAsk {
    TableAsk {
        name,
        columns: columns
            .iter()
            .map(|column| oid(entry, &[*column]))
            .collect(),
        only_if_missing: None,
    }
}

fn oid(root: &[u32], below: &[u32]) -> Oid {
    Oid([root, below].concat())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use model::{MetricKind, metric_info};

    use super::*;

    #[test]
    fn the_plan_asks_for_each_object_once_and_for_64_bit_counters_first() {
        let plan = snmp_plan();
        let shown: Vec<String> = plan
            .tables
            .iter()
            .map(|table| {
                let columns = table.columns.iter().filter_map(|oid| oid.0.last());
                let columns: Vec<String> = columns.map(u32::to_string).collect();
                format!("{}: {}", table.name, columns.join(" "))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "ifXTable: 1 6 7 8 9 10 11 12 13 15 18 19",
                "ifTable: 2 3 5 6 7 8 13 14 19 20",
                "ifTable (32-bit counters): 10 11 16 17",
                "hrProcessorTable: 2",
                "hrStorageTable: 2 3 4 5 6",
            ]
        );
        assert_eq!(plan.scalars[2].to_string(), "1.3.6.1.2.1.1.3.0");
        let all: Vec<&Oid> = plan
            .tables
            .iter()
            .flat_map(|table| &table.columns)
            .collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert_eq!(
            plan.tables[2].only_if_missing.as_ref(),
            Some(&plan.tables[0].columns[1])
        );
    }

    #[test]
    fn the_slots_hold_what_their_names_say() {
        assert_eq!(INTERFACE_METRICS[SPEED_SLOT].name, "ifSpeed_bps");
        assert_eq!(
            INTERFACE_METRICS[DISCONTINUITY_SLOT].name,
            "ifCounterDiscontinuityTime"
        );
        for (slot, metric) in INTERFACE_METRICS.iter().enumerate() {
            let kind = metric_info(metric.name).unwrap().kind;
            assert_eq!(WIDE_SLOTS.contains(&slot), kind == MetricKind::Counter64);
            assert_eq!(
                NARROW_SLOTS.contains(&slot),
                metric.table == IF_TABLE_32_BIT
            );
        }
    }
}
