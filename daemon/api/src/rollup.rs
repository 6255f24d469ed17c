//! One figure for a device out of hundreds of columns.
//!
//! Which columns count is looked up once per set of columns and facts, not
//! once per device and request: a list of a thousand devices has 800,000
//! columns.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use model::{Columns, Facts, Reading, SeriesKey};

/// The label that names an interface: its identity in [`Facts::interfaces`].
pub(crate) const INTERFACE: &str = "ifName";

/// Bits in an octet.
pub(crate) const OCTET: f64 = 8.0;

/// Plans kept. Each device may need one, and those of facts or columns that
/// are gone are dropped before this is reached.
const PLANS_KEPT: usize = 65_536;

/// IANAifTypes whose traffic passes through another interface as well, or
/// never leaves the device: softwareLoopback, propVirtual, tunnel, l2vlan,
/// l3ipvlan, ieee8023adLag. Counting them would count a frame twice.
const NOT_PHYSICAL: [u32; 6] = [24, 53, 131, 135, 136, 161];

/// A metric's 64-bit column and its 32-bit one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Either {
    wide: Option<usize>,
    narrow: Option<usize>,
}

impl Either {
    /// The value of the first of them that has one.
    pub(crate) fn value(self, reading: &Reading) -> Option<f64> {
        [self.wide, self.narrow]
            .into_iter()
            .flatten()
            .find_map(|column| reading.value(column))
    }
}

/// Where the figures of a device stand in its rows.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) rtt: Option<usize>,
    pub(crate) loss: Option<usize>,
    pub(crate) cpu: Option<usize>,
    pub(crate) memory: Option<usize>,
    pub(crate) uptime: Option<usize>,
    octets_in: Vec<Either>,
    octets_out: Vec<Either>,
}

impl Plan {
    fn of(columns: &Columns, facts: Option<&Facts>) -> Plan {
        let mut ports = BTreeMap::<&str, (Either, Either)>::new();
        for (column, key) in columns.series().iter().enumerate() {
            let Some(name) = key.labels.get(INTERFACE) else {
                continue;
            };
            let (octets_in, octets_out) = ports.entry(name).or_default();
            match &*key.metric {
                "ifHCInOctets" => octets_in.wide = Some(column),
                "ifInOctets" => octets_in.narrow = Some(column),
                "ifHCOutOctets" => octets_out.wide = Some(column),
                "ifOutOctets" => octets_out.narrow = Some(column),
                _ => {}
            }
        }
        ports.retain(|name, _| is_physical(name, facts));
        Plan {
            rtt: columns.find("icmp_rtt_seconds"),
            loss: columns.find("icmp_loss_ratio"),
            cpu: columns.find("cpu_usage_ratio"),
            memory: columns.find("memory_usage_ratio"),
            uptime: columns.find("sysUpTime"),
            octets_in: ports.values().map(|(octets, _)| *octets).collect(),
            octets_out: ports.values().map(|(_, octets)| *octets).collect(),
        }
    }

    /// Bits per second received by all physical interfaces together; `None`
    /// if the rate of none is known.
    pub(crate) fn in_bps(&self, reading: &Reading) -> Option<f64> {
        sum(&self.octets_in, reading).map(|octets| octets * OCTET)
    }

    /// Bits per second sent by all physical interfaces together; `None` if the
    /// rate of none is known.
    pub(crate) fn out_bps(&self, reading: &Reading) -> Option<f64> {
        sum(&self.octets_out, reading).map(|octets| octets * OCTET)
    }
}

fn is_physical(name: &str, facts: Option<&Facts>) -> bool {
    facts
        .and_then(|facts| facts.interfaces.get(name)?.if_type)
        .is_none_or(|if_type| !NOT_PHYSICAL.contains(&if_type))
}

fn sum(columns: &[Either], reading: &Reading) -> Option<f64> {
    columns
        .iter()
        .filter_map(|either| either.value(reading))
        .reduce(|sum, value| sum + value)
}

/// A plan with what it was made for. The weak references keep the addresses
/// from being used again while the plan is here.
struct Kept {
    columns: Weak<Columns>,
    facts: Option<Weak<Facts>>,
    plan: Arc<Plan>,
}

impl Kept {
    fn is_of_use(&self) -> bool {
        let facts_live = self.facts.as_ref().is_none_or(|f| f.strong_count() > 0);
        self.columns.strong_count() > 0 && facts_live
    }
}

/// The plans of every set of columns and facts that was asked for.
#[derive(Default)]
pub(crate) struct Rollups(Mutex<HashMap<(usize, usize), Kept>>);

impl Rollups {
    /// The plan for rows with `columns` of a device with `facts`.
    pub(crate) fn plan(&self, columns: &Arc<Columns>, facts: Option<&Arc<Facts>>) -> Arc<Plan> {
        let key = (
            Arc::as_ptr(columns).addr(),
            facts.map_or(0, |facts| Arc::as_ptr(facts).addr()),
        );
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = plans.get(&key) {
            return Arc::clone(&kept.plan);
        }
        if plans.len() >= PLANS_KEPT {
            plans.retain(|_, kept| kept.is_of_use());
        }
        let plan = Arc::new(Plan::of(columns, facts.map(|facts| &**facts)));
        if plans.len() < PLANS_KEPT {
            let kept = Kept {
                columns: Arc::downgrade(columns),
                facts: facts.map(Arc::downgrade),
                plan: Arc::clone(&plan),
            };
            plans.insert(key, kept);
        }
        plan
    }
}

/// Where the columns of one interface stand, by metric.
pub(crate) fn columns_by_interface(columns: &Columns) -> BTreeMap<&str, BTreeMap<&str, usize>> {
    let mut interfaces = BTreeMap::<&str, BTreeMap<&str, usize>>::new();
    for (column, SeriesKey { metric, labels, .. }) in columns.series().iter().enumerate() {
        if let Some(name) = labels.get(INTERFACE) {
            interfaces.entry(name).or_default().insert(metric, column);
        }
    }
    interfaces
}

#[cfg(test)]
mod tests {
    use model::{
        Breaks, Check, DeviceId, GroupKey, Interface, Labels, MetricKind, PollRow, Timestamp,
    };

    use super::*;

    fn octets(metric: &str, interface: &str) -> SeriesKey {
        SeriesKey {
            metric: metric.into(),
            labels: Arc::new(Labels::new([(INTERFACE, interface)])),
            kind: MetricKind::Counter64,
        }
    }

    fn reading(columns: Arc<Columns>, before: &[f64], now: &[f64]) -> Reading {
        Reading {
            row: PollRow {
                group: GroupKey {
                    device: DeviceId(1),
                    check: Check::Snmp,
                },
                at: Timestamp(10_000),
                columns,
                values: now.into(),
                breaks: Breaks::None,
            },
            previous: Some((Timestamp(0), before.into())),
        }
    }

    #[test]
    fn a_device_s_traffic_is_that_of_its_physical_interfaces() {
        let columns = Arc::new(Columns::new(vec![
            octets("ifHCInOctets", "eth0"),
            octets("ifInOctets", "eth1"),
            octets("ifHCInOctets", "bond0"),
        ]));
        let mut facts = Facts::default();
        let bond = Interface {
            if_type: Some(161),
            ..Interface::default()
        };
        facts.interfaces.insert("bond0".into(), bond);

        let plan = Rollups::default().plan(&columns, Some(&Arc::new(facts)));
        let reading = reading(columns, &[0.0, 0.0, 0.0], &[1000.0, 500.0, 1500.0]);
        assert_eq!(plan.in_bps(&reading), Some(1200.0));
        assert_eq!(plan.out_bps(&reading), None);
    }

    #[test]
    fn plans_of_columns_that_are_gone_are_not_given_to_others() {
        let rollups = Rollups::default();
        for round in 0..100 {
            let name = format!("eth{round}");
            let columns = Arc::new(Columns::new(vec![octets("ifHCInOctets", &name); round]));
            let plan = rollups.plan(&columns, None);
            assert_eq!(plan.octets_in.len(), usize::from(round > 0));
        }
    }
}
