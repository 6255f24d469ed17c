//! Whatever happens to a device, no rate is negative or more than its lines
//! can carry; whatever an agent sends, reading it does not panic.

use std::time::Duration;

use model::{
    Breaks, Failure, FailureKind, Oid, SnmpAnswer, SnmpColumn, SnmpTable, SnmpValue, Timestamp,
    Varbind,
};
use parse::snmp_plan;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::agent::{Agent, DEVICE, Memory};

/// What happens to a switch between two polls.
#[derive(Clone, Debug)]
enum Event {
    /// Nothing but traffic.
    Quiet,
    /// All counters begin at zero, and so does sysUpTime.
    Restart { seconds_ago: u8 },
    /// The ports are dealt other indices.
    Reindex { first: u32 },
    /// As above, on the way up again.
    RestartAndReindex { first: u32 },
    /// A port's counters are cleared, and the device says when or does not.
    Clear { port: usize, announced: bool },
    /// A port's counter is near the end of 32 bits.
    NearWrap { port: usize },
    /// sysUpTime is near its end, which breaks nothing but that poll.
    UptimeNearWrap,
    /// Another module in the same place: the counter is anywhere.
    Swap { port: usize, octets: u64 },
    /// ifSpeed and ifHighSpeed say 0, or the truth again.
    ForgetSpeed { port: usize, forget: bool },
    /// Tables fail half-way at this poll.
    Fail { extended: bool, plain: bool },
    /// Nobody answers.
    Silence,
    /// Our clock is set.
    Clock { hours: i8 },
}

fn event() -> impl Strategy<Value = Event> {
    let port = 0..4_usize;
    prop_oneof![
        6 => Just(Event::Quiet),
        1 => any::<u8>().prop_map(|seconds_ago| Event::Restart { seconds_ago }),
        1 => (1..u32::MAX - 9).prop_map(|first| Event::Reindex { first }),
        1 => (1..99_u32).prop_map(|first| Event::RestartAndReindex { first }),
        1 => (port.clone(), any::<bool>()).prop_map(|(port, announced)| Event::Clear { port, announced }),
        1 => port.clone().prop_map(|port| Event::NearWrap { port }),
        1 => Just(Event::UptimeNearWrap),
        1 => (port.clone(), any::<u64>()).prop_map(|(port, octets)| Event::Swap { port, octets }),
        1 => (port, any::<bool>()).prop_map(|(port, forget)| Event::ForgetSpeed { port, forget }),
        1 => any::<(bool, bool)>().prop_map(|(extended, plain)| Event::Fail { extended, plain }),
        1 => Just(Event::Silence),
        1 => (-3..=3_i8).prop_map(|hours| Event::Clock { hours }),
    ]
}

const MINUTE: Duration = Duration::from_secs(60);

/// What a 1 Gbit/s line carries in a minute, in octets.
const LINE: u64 = 7_500_000_000;

/// What it carries in a second, with what a device may be late in counting.
const MOST: f64 = 125_000_000.0 * 1.5;

struct Site {
    agent: Agent,
    memory: Memory,
    now: Timestamp,
    swapped: bool,
}

impl Site {
    fn new(wide: bool) -> Site {
        let mut agent = Agent::new(&["a", "b", "b", "c"]);
        agent.wide = wide;
        Site {
            agent,
            memory: Memory::default(),
            now: Timestamp(1_800_000_000_000),
            swapped: false,
        }
    }

    fn step(&mut self, event: &Event, load: u64) {
        self.now = self.now.plus(MINUTE);
        // a Counter32 that wraps more than once a minute cannot be read at all
        let load = if self.agent.wide {
            load
        } else {
            load % (1 << 31)
        };
        self.agent.run(MINUTE, load);
        self.agent.failing.clear();
        let swapped = std::mem::take(&mut self.swapped);
        match event {
            Event::Quiet => {}
            Event::Restart { seconds_ago } => self.restart(*seconds_ago),
            Event::Reindex { first } => self.reindex(*first),
            Event::RestartAndReindex { first } => {
                self.restart(20);
                self.reindex(*first);
            }
            Event::Clear { port, announced } => {
                let port = &mut self.agent.ports[*port];
                port.octets = 0;
                if *announced {
                    port.discontinuity = self.agent.uptime - 100;
                }
            }
            Event::NearWrap { port } => {
                self.agent.uptime = 0;
                self.agent.ports[*port].octets = (1 << 32) - 1000;
            }
            Event::UptimeNearWrap => {
                self.restart(0);
                self.agent.uptime = u32::MAX - 2000;
            }
            // two jumps in a row are as good as traffic
            Event::Swap { .. } if swapped => {}
            Event::Swap { port, octets } => {
                self.agent.ports[*port].octets = *octets / 2;
                self.swapped = true;
            }
            Event::ForgetSpeed { port, forget } => {
                self.agent.ports[*port].megabits = if *forget { 0 } else { 1000 };
            }
            Event::Fail { extended, plain } => {
                let failing = [(*extended, "ifXTable"), (*plain, "ifTable")];
                let failing = failing.into_iter().filter(|(fails, _)| *fails);
                self.agent.failing = failing.map(|(_, table)| table).collect();
            }
            Event::Silence => return self.memory.silence(self.now),
            Event::Clock { hours } => {
                let span = Duration::from_secs(3600) * u32::from(hours.unsigned_abs());
                self.now = match hours {
                    0.. => self.now.plus(span),
                    _ => self.now.minus(span),
                };
            }
        }
        self.memory.poll(&self.agent, self.now);
    }

    fn restart(&mut self, seconds_ago: u8) {
        self.agent.uptime = 100 * u32::from(seconds_ago.min(59));
        for port in &mut self.agent.ports {
            (port.octets, port.discontinuity) = (0, 0);
        }
    }

    fn reindex(&mut self, first: u32) {
        self.agent.ports.rotate_left(1);
        for (index, port) in (first..).zip(&mut self.agent.ports) {
            port.index = index;
        }
    }

    /// Every rate that can be seen now. Without a speed, only what the device
    /// itself announced is certain, so those are bounded by the fastest line.
    fn check(&self) -> Result<(), TestCaseError> {
        let Some(reading) = &self.memory.reading else {
            return Ok(());
        };
        for (column, series) in reading.row.columns.series().iter().enumerate() {
            let Some(rate) = reading.value(column).filter(|_| series.kind.is_counter()) else {
                continue;
            };
            prop_assert!(rate >= 0.0 && rate.is_finite(), "{series:?}: {rate}");
            let knows_speed = self.agent.ports.iter().all(|port| port.megabits > 0);
            let most = if knows_speed { MOST } else { 1e14 / 8.0 };
            prop_assert!(rate <= most, "{series:?}: {rate}");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_rate_is_negative_or_impossible(
        wide: bool,
        events in vec((event(), 0..LINE), 1..40),
    ) {
        let mut site = Site::new(wide);
        for (event, load) in &events {
            site.step(event, *load);
            site.check()?;
        }
    }

    #[test]
    fn other_indices_alone_leave_every_rate_true(
        wide: bool,
        loads in vec((0..LINE, 1..1000_u32), 2..10),
    ) {
        let mut site = Site::new(wide);
        site.step(&Event::Quiet, 0);
        for (load, first) in loads {
            let load = if wide { load } else { load % (1 << 31) };
            site.step(&Event::Reindex { first }, load);
            let metric = if wide { "ifHCInOctets" } else { "ifInOctets" };
            let rate = site.memory.value(metric, "a");
            let truth = f64::from(u32::try_from(load / 60).unwrap());
            prop_assert!(rate.is_some_and(|rate| (rate - truth).abs() <= 1.0), "{:?}", rate);
        }
    }

    #[test]
    fn a_clear_that_is_announced_or_a_restart_leaves_no_rate_for_that_step(
        port in 0..4_usize,
        load in 0..LINE,
        restart: bool,
    ) {
        let mut site = Site::new(true);
        site.step(&Event::Quiet, load);
        site.step(&Event::Quiet, load);
        let event = if restart {
            Event::Restart { seconds_ago: 30 }
        } else {
            Event::Clear { port, announced: true }
        };
        site.step(&event, load);
        let row = &site.memory.reading.as_ref().unwrap().row;
        prop_assert_eq!(row.breaks == Breaks::All, restart);
        prop_assert!(row.breaks != Breaks::None);
    }
}

fn any_value() -> impl Strategy<Value = SnmpValue> {
    prop_oneof![
        any::<i64>().prop_map(SnmpValue::Integer),
        any::<i32>().prop_map(|n| SnmpValue::Integer(n.into())),
        vec(any::<u8>(), 0..300).prop_map(|bytes| SnmpValue::Octets(bytes.into())),
        "[ab#0-3]{0,4}".prop_map(|text| SnmpValue::Octets(text.into_bytes().into())),
        vec(any::<u32>(), 0..20).prop_map(|numbers| SnmpValue::ObjectId(Oid(numbers))),
        any::<[u8; 4]>().prop_map(SnmpValue::IpAddress),
        any::<u32>().prop_map(SnmpValue::Counter32),
        any::<u32>().prop_map(SnmpValue::Gauge32),
        any::<u32>().prop_map(SnmpValue::TimeTicks),
        any::<u64>().prop_map(SnmpValue::Counter64),
        vec(any::<u8>(), 0..9).prop_map(|bytes| SnmpValue::Opaque(bytes.into())),
        Just(SnmpValue::Null),
    ]
}

/// Cells in any order, with indices that repeat and huge ones.
fn any_cells() -> impl Strategy<Value = Vec<(u32, SnmpValue)>> {
    let index = prop_oneof![0..6_u32, Just(u32::MAX), any::<u32>()];
    vec((index, any_value()), 0..8)
}

fn any_table() -> impl Strategy<Value = (Vec<Vec<(u32, SnmpValue)>>, bool)> {
    (vec(any_cells(), 12), any::<bool>())
}

fn any_answer() -> impl Strategy<Value = SnmpAnswer> {
    let scalars = vec(any_value(), 6);
    (scalars, vec(any_table(), 5), any::<u64>()).prop_map(|(scalars, tables, at)| {
        let plan = snmp_plan();
        let scalars = plan.scalars.into_iter().zip(scalars);
        let tables = plan.tables.into_iter().zip(tables);
        SnmpAnswer {
            extra: Default::default(),
            at: Timestamp(at),
            took: Duration::from_millis(at % 10_000),
            requests: 1,
            scalars: scalars.map(|(oid, value)| Varbind { oid, value }).collect(),
            tables: tables.map(|(ask, table)| filled(ask, table)).collect(),
        }
    })
}

fn filled(ask: model::TableAsk, table: (Vec<Vec<(u32, SnmpValue)>>, bool)) -> SnmpTable {
    let (cells, fails) = table;
    let columns = ask.columns.into_iter().zip(cells);
    SnmpTable {
        name: ask.name,
        columns: columns
            .map(|(oid, cells)| SnmpColumn { oid, cells })
            .collect(),
        odd_instances: 3,
        failure: fails.then(|| Failure {
            kind: FailureKind::Protocol,
            text: "OID not increasing".to_owned(),
        }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_an_agent_sends_is_read(answers in vec(any_answer(), 1..6)) {
        let mut memory = Memory::default();
        for answer in &answers {
            let report = memory.read(answer);
            let row = report.row.unwrap();
            let facts = report.facts.unwrap();
            prop_assert_eq!(row.values.len(), row.columns.series().len());
            let mut keys: Vec<String> = row
                .columns
                .series()
                .iter()
                .map(|series| format!("{}{}", series.metric, series.labels))
                .collect();
            keys.sort();
            let all = keys.len();
            keys.dedup();
            prop_assert_eq!(keys.len(), all, "two columns are one series");
            for value in row.values.iter() {
                prop_assert!(value.is_nan() || (*value >= 0.0 && value.is_finite()));
            }
            for (identity, interface) in &facts.interfaces {
                prop_assert!(!identity.trim().is_empty());
                prop_assert!(!identity.chars().any(char::is_control), "{:?}", interface);
            }
        }
    }

    #[test]
    fn the_same_answer_again_shares_its_columns(answer in any_answer()) {
        let first = parse::snmp(DEVICE, &answer, None, None);
        let mut memory = Memory::default();
        let columns = memory.read(&answer).row.unwrap().columns;
        prop_assert_eq!(&columns, &first.row.unwrap().columns);
        prop_assert!(std::sync::Arc::ptr_eq(&memory.read(&answer).row.unwrap().columns, &columns));
    }
}
