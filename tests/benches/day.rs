//! A store with a day of samples, written by the store itself.
//!
//! 1,000 switches with 48 ports, asked over SNMP every 60 s and pinged every
//! 30 s: as many values as such a network really brings, with counters that
//! rise unevenly, ports without a link, and times that are not round.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{
    Address, Breaks, By, Check, Columns, CredentialKind, CredentialName, CredentialRecord,
    DeviceDraft, DeviceId, Facts, GroupKey, Interface, Labels, Outcome, PollReport, PollRow,
    SecretName, SecretRecord, SecretVersion, SeriesKey, SystemFacts, Timestamp, metric_info,
};
use store::{Room, Store, StoreOptions, StoreStats};

use crate::fleet::{CREDENTIAL, number, pause};

/// Ports of each switch.
pub(crate) const PORTS: u32 = 48;

/// Minutes of a day.
pub(crate) const DAY: u64 = 24 * 60;

/// What an agent tells of itself, in the order of its columns.
const OF_A_DEVICE: [&str; 4] = [
    "snmp_up",
    "snmp_poll_seconds",
    "snmp_poll_requests",
    "sysUpTime",
];

/// What it tells of each port, and what of it goes on in a second on average.
const OF_A_PORT: [(&str, Shape); 16] = [
    ("ifAdminStatus", Shape::Constant(1.0)),
    ("ifOperStatus", Shape::Link),
    ("ifSpeed_bps", Shape::Constant(1e9)),
    ("ifCounterDiscontinuityTime", Shape::Constant(0.0)),
    ("ifHCInOctets", Shape::Rises(2_000_000)),
    ("ifHCOutOctets", Shape::Rises(5_000_000)),
    ("ifHCInUcastPkts", Shape::Rises(3_000)),
    ("ifHCOutUcastPkts", Shape::Rises(5_000)),
    ("ifHCInMulticastPkts", Shape::Rises(4)),
    ("ifHCOutMulticastPkts", Shape::Rises(20)),
    ("ifHCInBroadcastPkts", Shape::Rises(2)),
    ("ifHCOutBroadcastPkts", Shape::Rises(30)),
    ("ifInErrors", Shape::Constant(0.0)),
    ("ifOutErrors", Shape::Constant(0.0)),
    ("ifInDiscards", Shape::Constant(3.0)),
    ("ifOutDiscards", Shape::Constant(17.0)),
];

const OF_A_PING: [&str; 6] = [
    "icmp_up",
    "icmp_rtt_seconds",
    "icmp_rtt_min_seconds",
    "icmp_rtt_max_seconds",
    "icmp_jitter_seconds",
    "icmp_loss_ratio",
];

/// How a value goes on.
#[derive(Clone, Copy)]
enum Shape {
    Constant(f64),
    /// 1 up, 2 down.
    Link,
    /// By so much in a second.
    Rises(u32),
}

/// A device to be entered: its name, address and SNMP port.
pub(crate) type Entry = [String; 3];

/// A store that was made.
pub(crate) struct Made {
    pub(crate) took: Duration,
    pub(crate) stats: StoreStats,
}

/// Makes a store of `devices` with `ports` ports each, whose samples fill
/// `minutes` before `until`.
///
/// # Panics
///
/// If the store refuses.
pub(crate) fn make(
    options: StoreOptions,
    devices: &[Entry],
    ports: u32,
    minutes: u64,
    until: Timestamp,
) -> Made {
    let began = Instant::now();
    let from = until.minus(Duration::from_secs(minutes * 60));
    let options = StoreOptions {
        // the queue is full all the time: nothing has to wait for company
        commit_every: Duration::from_millis(1),
        ..options
    };
    let store = Store::open(options, from).expect("an empty store");
    let ids = enter(&store, devices, from);
    let mut switches: Vec<Switch> = ids.into_iter().map(|id| Switch::new(id, ports)).collect();
    let layout = Layout::new(ports);
    for minute in 0..minutes {
        let at = from.plus(Duration::from_secs(minute * 60));
        for switch in &mut switches {
            room(&store).send(switch.ping(&layout, at));
            room(&store).send(switch.ask(&layout, at, minute == 0));
            room(&store).send(switch.ping(&layout, at.plus(Duration::from_secs(30))));
        }
    }
    // everything that was sent is in the figures once the queue is empty
    while store.stats().queue_len > 0 {
        pause(Duration::from_millis(10));
    }
    let writer = store.clone();
    writer.close().expect("everything reaches the disk");
    Made {
        took: began.elapsed(),
        stats: store.stats(),
    }
}

/// A place in the store's queue, as soon as there is one.
fn room(store: &Store) -> Room {
    loop {
        match store.try_reserve() {
            Some(room) => return room,
            None => pause(Duration::from_micros(500)),
        }
    }
}

fn enter(store: &Store, devices: &[Entry], now: Timestamp) -> Vec<DeviceId> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without I/O needs nothing");
    let by = By::system();
    let (credential, secret) = credential(now);
    let drafts = devices.iter().map(draft).collect();
    let created = runtime.block_on(async {
        let put = store.put_credential(&by, credential, Some(secret), None, now);
        put.await.expect("the store takes a credential");
        store.create_devices(&by, drafts, now).await
    });
    let created = created.expect("the store takes devices");
    let ids = created.into_iter().map(|device| {
        let device = device.unwrap_or_else(|refusal| panic!("{refusal}"));
        device.id
    });
    ids.collect()
}

/// The credential of all devices. Its value is not in it: nothing here has the
/// key; the running daemon is told.
fn credential(now: Timestamp) -> (CredentialRecord, SecretRecord) {
    let name = CredentialName(CREDENTIAL.to_owned());
    let secret = SecretRecord {
        name: SecretName::of_credential(&name),
        note: None,
        versions: vec![SecretVersion {
            version: 1,
            created: now,
            created_by: By::system().actor.to_string(),
            sealed: None,
        }],
        created: now,
        updated: now,
        revision: 0,
    };
    let credential = CredentialRecord {
        secret: secret.name.clone(),
        name,
        kind: CredentialKind::SnmpV2c,
        updated: now,
        revision: 1,
    };
    (credential, secret)
}

fn draft([name, address, port]: &Entry) -> DeviceDraft {
    let address: Address = address.parse().expect("the simulator writes addresses");
    let mut draft = DeviceDraft::new(name.clone(), address);
    draft.credential = Some(CredentialName(CREDENTIAL.to_owned()));
    draft.poll.snmp.port = Some(port.parse().expect("the simulator writes ports"));
    draft
}

/// What the rows of all switches share.
struct Layout {
    snmp: Arc<Columns>,
    icmp: Arc<Columns>,
}

impl Layout {
    fn new(ports: u32) -> Layout {
        let none = Arc::default();
        let mut snmp: Vec<SeriesKey> = OF_A_DEVICE.map(|name| series(name, &none)).into();
        for port in 1..=ports {
            let labels = Arc::new(Labels::new([("ifName", port_name(port))]));
            snmp.extend(OF_A_PORT.map(|(name, _)| series(name, &labels)));
        }
        let icmp = OF_A_PING.map(|name| series(name, &none)).into();
        Layout {
            snmp: Arc::new(Columns::new(snmp)),
            icmp: Arc::new(Columns::new(icmp)),
        }
    }
}

fn series(name: &str, labels: &Arc<Labels>) -> SeriesKey {
    let known = metric_info(name).expect("a built-in metric");
    SeriesKey {
        metric: known.name.into(),
        labels: Arc::clone(labels),
        kind: known.kind,
    }
}

fn port_name(port: u32) -> String {
    format!("GigabitEthernet1/0/{port}")
}

/// One device and where its counters stand.
struct Switch {
    id: DeviceId,
    dice: Dice,
    uptime: f64,
    ports: Vec<[f64; OF_A_PORT.len()]>,
}

impl Switch {
    fn new(id: DeviceId, ports: u32) -> Switch {
        let mut dice = Dice(id.0);
        let port = |_| {
            let has_link = dice.below(4) > 0;
            OF_A_PORT.map(|(_, shape)| match shape {
                Shape::Constant(value) => value,
                Shape::Link => f64::from(if has_link { 1 } else { 2_u8 }),
                Shape::Rises(by) => f64::from(by) * f64::from(dice.below(10_000)),
            })
        };
        Switch {
            id,
            ports: (0..ports).map(port).collect(),
            uptime: f64::from(dice.below(10_000_000)),
            dice,
        }
    }

    /// One poll over SNMP, a minute after the one before.
    fn ask(&mut self, layout: &Layout, at: Timestamp, first: bool) -> PollReport {
        let at = at.plus(self.late());
        self.uptime += 60.0 + f64::from(self.dice.below(3)) / 100.0;
        let took = self.dice.nanoseconds(9_000_000);
        let mut values = vec![1.0, took, 48.0, self.uptime];
        for port in &mut self.ports {
            let has_link = port[1] < 2.0;
            for (value, (_, shape)) in port.iter_mut().zip(OF_A_PORT) {
                if let (Shape::Rises(by), true) = (shape, has_link) {
                    *value += f64::from(by) * 60.0 * (0.5 + self.dice.share());
                    *value = value.floor();
                }
                values.push(*value);
            }
        }
        let facts = first.then(|| self.facts(at));
        self.report(Check::Snmp, at, &layout.snmp, values.into(), facts)
    }

    fn ping(&mut self, layout: &Layout, at: Timestamp) -> PollReport {
        let at = at.plus(self.late());
        let shortest = self.dice.nanoseconds(200_000);
        let (more, jitter) = (self.dice.nanoseconds(40_000), self.dice.nanoseconds(20_000));
        let (mean, longest) = (shortest + more, shortest + more + more);
        let values: [f64; OF_A_PING.len()] = [1.0, mean, shortest, longest, jitter, 0.0];
        self.report(Check::Icmp, at, &layout.icmp, Arc::new(values), None)
    }

    fn late(&mut self) -> Duration {
        Duration::from_millis(u64::from(self.dice.below(4)) + self.id.0 % 1_000)
    }

    fn report(
        &self,
        check: Check,
        at: Timestamp,
        columns: &Arc<Columns>,
        values: Arc<[f64]>,
        facts: Option<Facts>,
    ) -> PollReport {
        let group = GroupKey {
            device: self.id,
            check,
        };
        PollReport {
            group,
            outcome: Outcome {
                at,
                took: Duration::from_millis(10),
                failure: None,
                partial: Vec::new(),
            },
            row: Some(PollRow {
                group,
                at,
                columns: Arc::clone(columns),
                values,
                breaks: Breaks::None,
            }),
            facts,
        }
    }

    fn facts(&self, now: Timestamp) -> Facts {
        let interfaces = (1..).zip(&self.ports).map(|(index, port)| {
            let name = port_name(index);
            let interface = Interface {
                index,
                name: Some(name.clone()),
                descr: Some(name.clone()),
                if_type: Some(6),
                speed_bps: Some(1_000_000_000),
                admin_status: Some(1),
                oper_status: Some(if port[1] < 2.0 { 1 } else { 2 }),
                ..Interface::default()
            };
            (name, interface)
        });
        Facts {
            system: SystemFacts {
                descr: Some("a switch with 48 ports".to_owned()),
                name: Some(format!("switch-{}", self.id)),
                ..SystemFacts::default()
            },
            interfaces: interfaces.collect(),
            changed: now,
        }
    }
}

/// Numbers without a pattern, the same in each run (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from(mixed >> 32).expect("32 bits are left")
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.next() % limit
    }

    /// From 0 to below 1.
    fn share(&mut self) -> f64 {
        f64::from(self.next()) / (f64::from(u32::MAX) + 1.0)
    }

    /// A time around `usual`, in seconds, as exact as clocks are.
    fn nanoseconds(&mut self, usual: u32) -> f64 {
        let time = u64::from(usual / 2 + self.below(usual));
        Duration::from_nanos(time).as_secs_f64()
    }
}

/// The values of one poll over SNMP.
pub(crate) fn columns(ports: u32) -> f64 {
    let of_ports = f64::from(ports) * number(OF_A_PORT.len());
    number(OF_A_DEVICE.len()) + of_ports
}
