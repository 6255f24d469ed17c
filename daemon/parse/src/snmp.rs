//! Reading an agent's answer to the whole plan.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use model::{
    Breaks, Check, Columns, DeviceId, Facts, Failure, FailureKind, GroupKey, MetricKind, Outcome,
    PollReport, PollRow, Reading, SnmpAnswer,
};

use crate::breaks::{BreakFinder, Continuity, History, InterfaceStep};
use crate::host::{Host, MAX_ROWS};
use crate::interfaces::{Before, Interfaces, MAX_INTERFACES};
use crate::layout::{Layout, Metric, Owner, has_metric, metric, series};
use crate::plan::{
    DISCONTINUITY_SLOT, HR_PROCESSOR_TABLE, HR_STORAGE_TABLE, IF_TABLE, INTERFACE_METRICS, Reads,
    SPEED_SLOT,
};
use crate::system::{system_facts, uptime};
use crate::value::is_incomplete;

/// The columns of an agent that did not answer.
pub(crate) fn silent_columns() -> Arc<Columns> {
    static COLUMNS: OnceLock<Arc<Columns>> = OnceLock::new();
    Arc::clone(COLUMNS.get_or_init(|| {
        let up = series("snmp_up", &Arc::default());
        Arc::new(Columns::new(vec![up]))
    }))
}

/// The values of an agent that did not answer.
pub(crate) fn silent_values() -> Arc<[f64]> {
    Arc::new([0.0])
}

/// Reads what the agent of `device` answered to [`crate::snmp_plan`].
///
/// `previous` is the device's newest row and `known` what is kept of it; both
/// may be older than the last poll. They tell which counters go on, and what
/// stays, without a value, where a table is not complete. A device that
/// answers with the same columns as before shares them.
#[must_use]
pub fn snmp(
    device: DeviceId,
    answer: &SnmpAnswer,
    previous: Option<&Reading>,
    known: Option<&Facts>,
) -> PollReport {
    let group = GroupKey {
        device,
        check: Check::Snmp,
    };
    let columns_before = previous.map(|reading| &*reading.row.columns);
    let uptime = uptime(answer);
    let continuity = Continuity::between(previous, answer.at, uptime);
    let before = Before {
        columns: columns_before,
        facts: known,
        restarted: continuity == Continuity::Restarted,
    };
    let host = Host::read(answer, columns_before);
    let interfaces = Interfaces::read(answer, before);

    let mut row = RowBuilder::default();
    row.add_device(device_values(answer, uptime, &host, columns_before));
    row.add_host(&host);
    let first = row.values.len();
    row.add_interfaces(&interfaces);

    let columns = row
        .layout
        .columns(previous.map(|reading| &reading.row.columns));
    let step = Step {
        answer,
        previous,
        known,
        continuity,
    };
    let breaks = step.breaks(&columns, &interfaces, &row.values, first);
    PollReport {
        group,
        outcome: outcome(answer, &host, &interfaces),
        facts: Some(facts(answer, &interfaces, known)),
        row: Some(PollRow {
            group,
            at: answer.at,
            columns,
            values: row.values.into(),
            breaks,
        }),
    }
}

/// Columns and their values, side by side.
#[derive(Default)]
struct RowBuilder<'a> {
    layout: Layout<'a>,
    values: Vec<f64>,
}

impl<'a> RowBuilder<'a> {
    fn add_device(&mut self, values: Vec<(&'static Metric, f64)>) {
        let metrics = values.iter().map(|(metric, _)| *metric).collect();
        self.layout.set_metrics(Owner::Device, metrics);
        self.layout.add(Owner::Device, Cow::Borrowed(""));
        self.values.extend(values.iter().map(|(_, value)| value));
    }

    fn add_host(&mut self, host: &Host<'a>) {
        let load = vec![metric("hrProcessorLoad")];
        self.layout.set_metrics(Owner::Processor, load);
        for (index, load) in &host.processors {
            self.layout.add(Owner::Processor, index.clone());
            self.values.push(*load);
        }
        let area = ["storage_size_bytes", "storage_used_bytes"].map(metric);
        self.layout.set_metrics(Owner::Storage, area.to_vec());
        for (descr, area) in &host.storages {
            self.layout.add(Owner::Storage, descr.clone());
            self.values.extend([area.size, area.used]);
        }
    }

    fn add_interfaces(&mut self, interfaces: &Interfaces<'a>) {
        self.layout
            .set_metrics(Owner::Interface, interfaces.metrics());
        for identity in interfaces.identities() {
            self.layout.add(Owner::Interface, identity.clone());
        }
        self.values.extend(interfaces.values());
    }
}

/// What is measured of the device as a whole: the metrics that it has, and
/// those it had before if the table that they come from is incomplete now.
fn device_values(
    answer: &SnmpAnswer,
    uptime: f64,
    host: &Host<'_>,
    previous: Option<&Columns>,
) -> Vec<(&'static Metric, f64)> {
    let processors = is_incomplete(answer, HR_PROCESSOR_TABLE);
    let storages = is_incomplete(answer, HR_STORAGE_TABLE);
    let memory = host.memory;
    let all = [
        ("snmp_up", 1.0, false),
        ("snmp_poll_seconds", answer.took.as_secs_f64(), false),
        ("snmp_poll_requests", f64::from(answer.requests), false),
        ("sysUpTime", uptime, false),
        ("cpu_usage_ratio", host.cpu_usage(), processors),
        ("memory_size_bytes", memory.size, storages),
        ("memory_used_bytes", memory.used, storages),
        ("memory_usage_ratio", memory.usage(), storages),
    ];
    let was_there = |name| previous.is_some_and(|columns| has_metric(columns, name));
    all.into_iter()
        .filter(|(name, value, in_doubt)| !value.is_nan() || *in_doubt && was_there(name))
        .map(|(name, value, _)| (metric(name), value))
        .collect()
}

/// The way from the row before to the new one.
struct Step<'a> {
    answer: &'a SnmpAnswer,
    previous: Option<&'a Reading>,
    known: Option<&'a Facts>,
    continuity: Continuity,
}

impl Step<'_> {
    /// Which counters do not go on; those of interfaces begin at column
    /// `first`.
    fn breaks(
        &self,
        columns: &Columns,
        interfaces: &Interfaces<'_>,
        values: &[f64],
        first: usize,
    ) -> Breaks {
        let previous = match (self.continuity, self.previous) {
            (Continuity::Restarted, _) => return Breaks::All,
            (_, Some(previous)) if !interfaces.slots.is_empty() => previous,
            (_, _) => return Breaks::None,
        };
        let kinds: Vec<(MetricKind, Reads)> = interfaces
            .slots
            .iter()
            .map(|slot| &INTERFACE_METRICS[*slot])
            .map(|info| (metric(info.name).kind, info.reads))
            .collect();
        let place = |slot| interfaces.slots.iter().position(|found| *found == slot);
        let (speed, discontinuity) = (place(SPEED_SLOT), place(DISCONTINUITY_SLOT));
        let history = History::new(previous, columns);
        let verified = self.continuity == Continuity::Continued;
        let mut finder = BreakFinder::new(self.answer.at, history, verified);
        for (interface, values) in values[first..].chunks_exact(kinds.len()).enumerate() {
            finder.look_at(&InterfaceStep {
                first: first + interface * kinds.len(),
                values,
                columns: &kinds,
                speed,
                discontinuity,
                is_another: interfaces.is_another(interface, self.known),
            });
        }
        finder.finish()
    }
}

fn facts(answer: &SnmpAnswer, interfaces: &Interfaces<'_>, known: Option<&Facts>) -> Facts {
    let mut facts = Facts {
        system: system_facts(answer),
        interfaces: interfaces.facts(known),
        changed: known.map_or(answer.at, |known| known.changed),
    };
    if known.is_some_and(|known| *known != facts) {
        facts.changed = answer.at;
    }
    facts
}

fn outcome(answer: &SnmpAnswer, host: &Host<'_>, interfaces: &Interfaces<'_>) -> Outcome {
    let failed = answer.tables.iter().filter_map(|table| {
        let failure = table.failure.clone()?;
        Some((table.name.to_owned(), failure))
    });
    let mut partial: Vec<(String, Failure)> = failed.collect();
    if let Some(found) = interfaces.too_many {
        partial.push(too_many(IF_TABLE, found, MAX_INTERFACES));
    }
    for (table, found) in &host.cut {
        partial.push(too_many(table, *found, MAX_ROWS));
    }
    partial.extend(nothing_to_see(answer));
    Outcome {
        at: answer.at,
        took: answer.took,
        failure: None,
        partial,
    }
}

fn too_many(table: &str, found: usize, limit: usize) -> (String, Failure) {
    let failure = Failure {
        kind: FailureKind::Local,
        text: format!("{table} has {found} rows: only the {limit} with the lowest index are read"),
    };
    (table.to_owned(), failure)
}

/// An agent that answers and shows nothing: its access control hides
/// everything.
fn nothing_to_see(answer: &SnmpAnswer) -> Option<(String, Failure)> {
    let mut columns = answer.tables.iter().flat_map(|table| &table.columns);
    let nothing = answer.scalars.is_empty() && columns.all(|column| column.cells.is_empty());
    nothing.then(|| {
        let failure = Failure {
            kind: FailureKind::Refused,
            text: "the agent answers but shows nothing: check on the device which objects its \
                   view allows"
                .to_owned(),
        };
        ("system".to_owned(), failure)
    })
}
