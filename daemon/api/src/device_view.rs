//! A device as it is shown: what people say of it, what it says of itself, how
//! it is and its figures.
//!
//! A figure is shown only if the newest poll measured it: a device that does
//! not answer has no round-trip time, whatever it was before.

use std::collections::HashMap;
use std::sync::Arc;

use model::{
    Alert, AlertState, Check, Device, DeviceId, DeviceState, Facts, Failure, GroupKey, Outcome,
    Permission, Reading,
};
use serde::Serialize;
use store::Inventory;
use utoipa::ToSchema;

use crate::Api;
use crate::caller::Caller;
use crate::device_body::DeviceBody;

/// Rounds after which a figure is old: one may be late, two in a row are
/// missing.
const ROUNDS_UNTIL_OLD: u32 = 3;

/// A device.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeviceView {
    /// Given once, never used again.
    pub(crate) id: u64,
    #[serde(flatten)]
    body: DeviceBody,
    /// up, problem, down, unreachable, unknown or disabled.
    state: &'static str,
    /// Why, where there is something to say.
    state_reason: Option<String>,
    /// Names of the down devices that cut it off.
    behind: Vec<String>,
    /// What it says of itself.
    facts: Option<FactsView>,
    /// How the latest polls went.
    checks: ChecksView,
    #[serde(flatten)]
    values: ValuesView,
    /// When it was entered.
    created: String,
    /// When it was last changed.
    updated: String,
    /// Since when it is deleted.
    deleted: Option<String>,
    /// Counts changes, from 1; the `ETag`.
    revision: u64,
}

/// What a device says of itself (the system group, RFC 3418).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FactsView {
    sys_name: Option<String>,
    sys_descr: Option<String>,
    sys_object_id: Option<String>,
    sys_location: Option<String>,
    sys_contact: Option<String>,
    /// The vendor that sysObjectID's enterprise number stands for.
    vendor: Option<String>,
    /// How many interfaces it has.
    interfaces: usize,
    /// When this last changed.
    changed: String,
}

/// How the latest poll by each check went; null where there was none.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChecksView {
    icmp: Option<CheckView>,
    snmp: Option<CheckView>,
}

/// How the latest poll went.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CheckView {
    /// When it began.
    at: String,
    /// How long it took.
    took_seconds: f64,
    /// What went wrong, if something did.
    failure: Option<FailureView>,
    /// What went wrong with a part of it.
    partial: Vec<PartialView>,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FailureView {
    /// timeout, unreachable, permission, resolution, protocol, refused or
    /// local.
    kind: &'static str,
    /// One line for people.
    text: String,
}

/// What went wrong with a part of a poll.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PartialView {
    /// Which part: a table's name.
    part: String,
    failure: FailureView,
}

/// A device's figures: of the newest poll, null where that did not measure
/// them.
#[derive(Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct ValuesView {
    /// Mean round-trip time of the newest round.
    rtt_seconds: Option<f64>,
    /// Share of the newest round's probes that were not answered, 0 to 1.
    loss_ratio: Option<f64>,
    /// Mean over all processors, 0 to 1.
    cpu_usage_ratio: Option<f64>,
    /// Share of physical memory in use, 0 to 1.
    memory_usage_ratio: Option<f64>,
    /// Time since the agent started.
    uptime_seconds: Option<f64>,
    /// Received by all physical interfaces together, per second.
    in_bps: Option<f64>,
    /// Sent by all physical interfaces together, per second.
    out_bps: Option<f64>,
}

impl From<&Failure> for FailureView {
    fn from(failure: &Failure) -> FailureView {
        FailureView {
            kind: failure.kind.word(),
            text: failure.text.clone(),
        }
    }
}

impl From<&Outcome> for CheckView {
    fn from(outcome: &Outcome) -> CheckView {
        CheckView {
            at: outcome.at.to_string(),
            took_seconds: outcome.took.as_secs_f64(),
            failure: outcome.failure.as_ref().map(FailureView::from),
            partial: outcome
                .partial
                .iter()
                .map(|(part, failure)| PartialView {
                    part: part.clone(),
                    failure: failure.into(),
                })
                .collect(),
        }
    }
}

impl From<&Facts> for FactsView {
    fn from(facts: &Facts) -> FactsView {
        let system = &facts.system;
        FactsView {
            sys_name: system.name.clone(),
            sys_descr: system.descr.clone(),
            sys_object_id: system.object_id.clone(),
            sys_location: system.location.clone(),
            sys_contact: system.contact.clone(),
            vendor: system.vendor.clone(),
            interfaces: facts.interfaces.len(),
            changed: facts.changed.to_string(),
        }
    }
}

/// Everything that the views of one answer share, read once.
pub(crate) struct Viewer<'a> {
    api: &'a Api,
    caller: &'a Caller,
    inventory: Arc<Inventory>,
    summaries: HashMap<DeviceId, Vec<String>>,
}

impl<'a> Viewer<'a> {
    pub(crate) fn new(api: &'a Api, caller: &'a Caller) -> Viewer<'a> {
        Viewer {
            api,
            caller,
            inventory: api.store().inventory(),
            summaries: summaries(api.store().open_alerts()),
        }
    }

    pub(crate) fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// How `device` is.
    pub(crate) fn state(&self, device: &Device) -> DeviceState {
        match device.deleted {
            Some(_) => DeviceState::Disabled,
            None => self.api.daemon().device_state(device),
        }
    }

    pub(crate) fn device(&self, device: &Device) -> DeviceView {
        let store = self.api.store();
        let facts = store.facts(device.id);
        let icmp = polled(self.api, device, Check::Icmp);
        let snmp = polled(self.api, device, Check::Snmp);
        let mut state = self.state(device);
        if let DeviceState::Unreachable { behind } = &mut state {
            behind.retain(|name| self.sees_by_name(device, name));
        }
        DeviceView {
            id: device.id.0,
            body: DeviceBody::of(device, &self.inventory, |parent| self.caller.sees(parent)),
            state: state.word(),
            state_reason: self.reason(device, &state, [&icmp, &snmp]),
            behind: behind(state),
            values: self.values(&icmp, &snmp, facts.as_ref()),
            facts: facts.as_deref().map(FactsView::from),
            checks: ChecksView {
                icmp: icmp.outcome.as_ref().map(CheckView::from),
                snmp: snmp.outcome.as_ref().map(CheckView::from),
            },
            created: device.created.to_string(),
            updated: device.updated.to_string(),
            deleted: device.deleted.map(|at| at.to_string()),
            revision: device.revision,
        }
    }

    /// Whether the caller sees what cuts `device` off.
    fn sees_by_name(&self, device: &Device, name: &str) -> bool {
        sees_by_name(self.caller, &self.inventory, device, name)
    }

    fn values(&self, icmp: &Polled, snmp: &Polled, facts: Option<&Arc<Facts>>) -> ValuesView {
        let mut values = ValuesView::default();
        if let Some(reading) = &icmp.fresh {
            let plan = self.api.rollups().plan(&reading.row.columns, None);
            values.rtt_seconds = value(reading, plan.rtt);
            values.loss_ratio = value(reading, plan.loss);
        }
        if let Some(reading) = &snmp.fresh {
            let plan = self.api.rollups().plan(&reading.row.columns, facts);
            values.cpu_usage_ratio = value(reading, plan.cpu);
            values.memory_usage_ratio = value(reading, plan.memory);
            values.uptime_seconds = value(reading, plan.uptime);
            // a sum over some of the interfaces would be a wrong number
            if !snmp.lacks_interfaces() {
                values.in_bps = plan.in_bps(reading);
                values.out_bps = plan.out_bps(reading);
            }
        }
        values
    }

    /// One line on why a device is in `state`.
    fn reason(&self, device: &Device, state: &DeviceState, polled: [&Polled; 2]) -> Option<String> {
        let failure = || {
            let mut outcomes = polled.iter().filter_map(|polled| polled.outcome.as_ref());
            outcomes.find_map(|outcome| Some(outcome.failure.as_ref()?.text.clone()))
        };
        match state {
            DeviceState::Up => None,
            DeviceState::Unreachable { behind } if behind.is_empty() => {
                Some("every way to it is down".to_owned())
            }
            DeviceState::Unreachable { behind } => Some(format!("behind {}", behind.join(", "))),
            DeviceState::Disabled if device.deleted.is_some() => Some("deleted".to_owned()),
            DeviceState::Disabled => Some("an operator disabled it".to_owned()),
            DeviceState::Unknown => failure().or_else(|| Some("not asked yet".to_owned())),
            DeviceState::Problem | DeviceState::Down => self
                .summaries
                .get(&device.id)
                .map(|summaries| summaries.join("; "))
                .or_else(failure),
        }
    }
}

/// Whether the caller sees the device called `name` of the tenant of `device`.
/// Names of devices that are gone are for those alone who see everything.
pub(crate) fn sees_by_name(
    caller: &Caller,
    inventory: &Inventory,
    device: &Device,
    name: &str,
) -> bool {
    match inventory.by_name(&device.tenant, name) {
        Some(named) => caller.sees(named),
        None => caller.holds_everywhere(Permission::DevicesRead),
    }
}

/// What the newest poll of `device` by `check` came to.
pub(crate) fn polled(api: &Api, device: &Device, check: Check) -> Polled {
    let group = GroupKey {
        device: device.id,
        check,
    };
    let outcome = api.store().outcome(group);
    let interval = api.daemon().interval(device, check);
    let oldest = api.now().minus(interval * ROUNDS_UNTIL_OLD);
    // a silent device is asked less and less often: that it was silent stays true
    let is_news = |outcome: &Outcome| {
        device.wants(check) && (outcome.failure.is_some() || outcome.at >= oldest)
    };
    let fresh = outcome
        .as_ref()
        .filter(|outcome| is_news(outcome))
        .and_then(|outcome| {
            let reading = api.store().reading(group)?;
            (reading.row.at >= outcome.at).then_some(reading)
        });
    Polled { outcome, fresh }
}

/// The newest poll by one check.
pub(crate) struct Polled {
    /// How it went, if there ever was one.
    pub(crate) outcome: Option<Outcome>,
    /// What it measured; `None` if nothing, or if that was too long ago.
    pub(crate) fresh: Option<Arc<Reading>>,
}

impl Polled {
    /// Whether a table of interfaces came back incomplete.
    fn lacks_interfaces(&self) -> bool {
        let partial = self.outcome.iter().flat_map(|outcome| &outcome.partial);
        partial
            .map(|(table, _)| table)
            .any(|table| table.starts_with("ifTable") || table == "ifXTable")
    }
}

fn value(reading: &Reading, column: Option<usize>) -> Option<f64> {
    reading.value(column?)
}

fn behind(state: DeviceState) -> Vec<String> {
    match state {
        DeviceState::Unreachable { behind } => behind,
        DeviceState::Up
        | DeviceState::Problem
        | DeviceState::Down
        | DeviceState::Unknown
        | DeviceState::Disabled => Vec::new(),
    }
}

/// What is wrong with each device: the summaries of its firing alerts.
fn summaries(open: Vec<Alert>) -> HashMap<DeviceId, Vec<String>> {
    let mut summaries = HashMap::<DeviceId, Vec<String>>::new();
    for alert in open {
        if alert.state == AlertState::Firing {
            summaries
                .entry(alert.device)
                .or_default()
                .push(alert.summary);
        }
    }
    summaries
}
