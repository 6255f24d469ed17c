//! An agent that answers our plan, and the memory that a store gives us from
//! one poll to the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{
    Check, DeviceId, Facts, Failure, FailureKind, GroupKey, Oid, PollReport, PollRow, Reading,
    SnmpAnswer, SnmpColumn, SnmpTable, SnmpValue, TableAsk, Timestamp, Varbind,
};
use parse::snmp_plan;

/// An agent's objects in MIB order.
pub(crate) type Mib = BTreeMap<Oid, SnmpValue>;

/// What an agent with these objects answers to our plan.
pub(crate) fn answer(mib: &Mib, at: Timestamp) -> SnmpAnswer {
    let plan = snmp_plan();
    let scalars = plan.scalars.into_iter().filter_map(|oid| {
        let value = mib.get(&oid)?.clone();
        Some(Varbind { oid, value })
    });
    let mut tables: Vec<SnmpTable> = Vec::new();
    for ask in &plan.tables {
        let is_whole = |oid: &Oid| {
            tables.iter().any(|table| {
                let rows = table.columns.iter().map(|column| column.cells.len()).max();
                let is_it = |column: &&SnmpColumn| column.oid == *oid;
                let column = table.columns.iter().find(is_it);
                column.is_some_and(|column| {
                    !column.cells.is_empty() && Some(column.cells.len()) == rows
                })
            })
        };
        if !ask.only_if_missing.as_ref().is_some_and(is_whole) {
            tables.push(walk(mib, ask));
        }
    }
    SnmpAnswer {
        extra: Default::default(),
        at,
        took: Duration::from_millis(80),
        requests: 12,
        scalars: scalars.collect(),
        tables,
    }
}

fn walk(mib: &Mib, ask: &TableAsk) -> SnmpTable {
    let mut odd_instances = 0;
    let columns = ask.columns.iter().map(|oid| {
        let mut cells = Vec::new();
        for (instance, value) in mib.range(oid.clone()..) {
            match instance.below(oid) {
                Some([index]) => cells.push((*index, value.clone())),
                Some(_) => odd_instances += 1,
                None => break,
            }
        }
        SnmpColumn {
            oid: oid.clone(),
            cells,
        }
    });
    let columns = columns.collect();
    SnmpTable {
        name: ask.name,
        columns,
        odd_instances,
        failure: None,
    }
}

/// One port of a switch. All its counters count the same.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) alias: String,
    pub(crate) descr: String,
    pub(crate) if_type: i64,
    pub(crate) mac: [u8; 6],
    pub(crate) megabits: u32,
    pub(crate) octets: u64,
    pub(crate) discontinuity: u32,
}

impl Port {
    pub(crate) fn new(index: u32, name: &str) -> Port {
        Port {
            index,
            name: name.to_owned(),
            alias: String::new(),
            descr: format!("port {index}"),
            if_type: 6,
            mac: [2, 0, 0, 0, 0, u8::try_from(index % 256).unwrap()],
            megabits: 1000,
            octets: 1_000_000,
            discontinuity: 0,
        }
    }
}

/// A switch.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    /// In hundredths of seconds.
    pub(crate) uptime: u32,
    pub(crate) ports: Vec<Port>,
    /// Whether it has 64-bit counters, and with them all of ifXTable's.
    pub(crate) wide: bool,
    /// Tables that fail half-way.
    pub(crate) failing: Vec<&'static str>,
    /// What else it has.
    pub(crate) extra: Mib,
}

impl Agent {
    /// A switch that has been up for ten days.
    pub(crate) fn new(names: &[&str]) -> Agent {
        let ports = (1..).zip(names).map(|(index, name)| Port::new(index, name));
        Agent {
            uptime: 86_400_000,
            ports: ports.collect(),
            wide: true,
            failing: Vec::new(),
            extra: Mib::new(),
        }
    }

    /// Time goes by and every port receives and sends `octets`.
    pub(crate) fn run(&mut self, span: Duration, octets: u64) {
        let hundredths = u32::try_from(span.as_millis() / 10).unwrap();
        self.uptime = self.uptime.wrapping_add(hundredths);
        for port in &mut self.ports {
            port.octets += octets;
        }
    }

    pub(crate) fn set(&mut self, oid: &str, value: SnmpValue) {
        self.extra.insert(oid.parse().unwrap(), value);
    }

    pub(crate) fn answer(&self, at: Timestamp) -> SnmpAnswer {
        let mut answer = answer(&self.mib(), at);
        for table in &mut answer.tables {
            if self.failing.contains(&table.name) {
                fail(table);
            }
        }
        answer
    }

    fn mib(&self) -> Mib {
        let mut mib = self.extra.clone();
        let mut put = |oid: &str, value| mib.insert(oid.parse().unwrap(), value);
        put("1.3.6.1.2.1.1.1.0", octets("a switch"));
        put(
            "1.3.6.1.2.1.1.2.0",
            SnmpValue::ObjectId("1.3.6.1.4.1.9.1.1".parse().unwrap()),
        );
        put("1.3.6.1.2.1.1.3.0", SnmpValue::TimeTicks(self.uptime));
        put("1.3.6.1.2.1.1.5.0", octets("sw1"));
        for port in &self.ports {
            let plain = |column| format!("1.3.6.1.2.1.2.2.1.{column}.{}", port.index);
            let extended = |column| format!("1.3.6.1.2.1.31.1.1.1.{column}.{}", port.index);
            let narrow = SnmpValue::Counter32(u32::try_from(port.octets % (1 << 32)).unwrap());
            put(&plain(2), octets(&port.descr));
            put(&plain(3), SnmpValue::Integer(port.if_type));
            put(
                &plain(5),
                SnmpValue::Gauge32(port.megabits.saturating_mul(1_000_000)),
            );
            put(&plain(6), SnmpValue::Octets(port.mac.into()));
            put(&plain(7), SnmpValue::Integer(1));
            put(&plain(8), SnmpValue::Integer(1));
            for column in [10, 16] {
                put(&plain(column), narrow.clone());
            }
            for column in [13, 14, 19, 20] {
                put(&plain(column), SnmpValue::Counter32(0));
            }
            put(&extended(1), octets(&port.name));
            put(&extended(15), SnmpValue::Gauge32(port.megabits));
            put(&extended(18), octets(&port.alias));
            if self.wide {
                for column in [6, 10] {
                    put(&extended(column), SnmpValue::Counter64(port.octets));
                }
                put(&extended(19), SnmpValue::TimeTicks(port.discontinuity));
            }
        }
        mib
    }
}

pub(crate) fn octets(text: &str) -> SnmpValue {
    SnmpValue::Octets(text.as_bytes().into())
}

/// The first half of each column came, then silence.
fn fail(table: &mut SnmpTable) {
    for column in &mut table.columns {
        column.cells.truncate(column.cells.len() / 2);
    }
    table.failure = Some(timeout());
}

fn timeout() -> Failure {
    Failure {
        kind: FailureKind::Timeout,
        text: "no answer within 2 s".to_owned(),
    }
}

pub(crate) const DEVICE: DeviceId = DeviceId(7);

/// What a store remembers of a device.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) reading: Option<Reading>,
    pub(crate) facts: Option<Facts>,
}

impl Memory {
    /// Reads the agent's answer and remembers what came of it.
    pub(crate) fn poll(&mut self, agent: &Agent, at: Timestamp) -> PollReport {
        self.read(&agent.answer(at))
    }

    pub(crate) fn read(&mut self, answer: &SnmpAnswer) -> PollReport {
        let report = parse::snmp(DEVICE, answer, self.reading.as_ref(), self.facts.as_ref());
        self.keep(&report);
        report
    }

    /// A poll that nobody answers.
    pub(crate) fn silence(&mut self, at: Timestamp) {
        let group = GroupKey {
            device: DEVICE,
            check: Check::Snmp,
        };
        let report = parse::failed(group, at, Duration::from_secs(6), timeout());
        self.keep(&report);
    }

    pub(crate) fn keep(&mut self, report: &PollReport) {
        if let Some(row) = &report.row {
            let previous = self.reading.take().map(|old| in_columns_of(row, &old.row));
            self.reading = Some(Reading {
                row: row.clone(),
                previous,
            });
        }
        self.facts = report.facts.clone().or(self.facts.take());
    }

    /// A metric of an interface as it is judged: a rate, for a counter.
    pub(crate) fn value(&self, metric: &str, interface: &str) -> Option<f64> {
        let reading = self.reading.as_ref()?;
        let column = column(&reading.row, metric, interface)?;
        reading.value(column)
    }
}

/// The place of a metric of an interface, or of the device.
pub(crate) fn column(row: &PollRow, metric: &str, interface: &str) -> Option<usize> {
    row.columns.series().iter().position(|series| {
        &*series.metric == metric && series.labels.get("ifName").unwrap_or("") == interface
    })
}

fn in_columns_of(new: &PollRow, old: &PollRow) -> (Timestamp, Arc<[f64]>) {
    if Arc::ptr_eq(&new.columns, &old.columns) {
        return (old.at, Arc::clone(&old.values));
    }
    let values = new.columns.series().iter().map(|series| {
        let place = old
            .columns
            .series()
            .iter()
            .position(|other| other == series);
        place.map_or(f64::NAN, |place| old.values[place])
    });
    (old.at, values.collect())
}
