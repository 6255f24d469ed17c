//! What the rest of the daemon must do about what was judged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{Alert, AlertId, AlertState, DeviceId, GroupKey, NotificationEvent, Timestamp};

use crate::fault::Fault;
use crate::words;

/// What one call of the engine led to. Alerts and the notifications about them
/// belong into one transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// New or changed alerts, to be stored; each once, by id.
    pub alerts: Vec<Alert>,
    /// Pending alerts that came to nothing, to be deleted.
    pub gone: Vec<AlertId>,
    /// What people are to be told, in order. The devices are those that a
    /// firing alert's device cuts off.
    pub tell: Vec<(Alert, NotificationEvent, Vec<DeviceId>)>,
    /// What to poll now rather than in its turn; each group once.
    pub probe: Vec<GroupKey>,
}

impl Verdict {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.alerts.is_empty()
            && self.gone.is_empty()
            && self.tell.is_empty()
            && self.probe.is_empty()
    }
}

/// A fault that goes on is stored again after this long, for its figures: not
/// with every poll, which would be a write per alert and interval.
const REFRESH: Duration = Duration::from_secs(300);

/// A verdict in the making. Costs nothing while it is empty.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) now: Timestamp,
    /// A change of rules or devices alone tells nobody that anything fires: it
    /// is judged with the next sample.
    pub(crate) may_fire: bool,
    alerts: BTreeMap<AlertId, Alert>,
    gone: BTreeSet<AlertId>,
    tell: Vec<(Alert, NotificationEvent, Vec<DeviceId>)>,
    probe: BTreeSet<GroupKey>,
}

impl Draft {
    pub(crate) fn new(now: Timestamp) -> Draft {
        Draft {
            now,
            may_fire: true,
            alerts: BTreeMap::new(),
            gone: BTreeSet::new(),
            tell: Vec::new(),
            probe: BTreeSet::new(),
        }
    }

    pub(crate) fn into_verdict(self) -> Verdict {
        Verdict {
            alerts: self.alerts.into_values().collect(),
            gone: self.gone.into_iter().collect(),
            tell: self.tell,
            probe: self.probe.into_iter().collect(),
        }
    }

    pub(crate) fn probe(&mut self, group: GroupKey) {
        self.probe.insert(group);
    }

    /// Stores the fault as it is now.
    pub(crate) fn keep(&mut self, fault: &mut Fault) {
        fault.stored = self.now;
        self.alerts.insert(fault.alert.id, fault.alert.clone());
    }

    /// Stores it if that was long ago.
    pub(crate) fn refresh(&mut self, fault: &mut Fault) {
        let is_fresh = self.now.since(fault.stored) < REFRESH && self.now >= fault.stored;
        if !is_fresh {
            self.keep(fault);
        }
    }

    /// The fault is one, and people are told, with whom it cuts off.
    pub(crate) fn fire(&mut self, fault: &mut Fault, cuts_off: Vec<DeviceId>) {
        fault.alert.state = AlertState::Firing;
        fault.alert.fired = Some(self.now);
        fault.alert.told = true;
        self.keep(fault);
        self.tell
            .push((fault.alert.clone(), NotificationEvent::Firing, cuts_off));
    }

    /// The device is behind others that are down.
    pub(crate) fn cut_off(&mut self, fault: &mut Fault, behind: &[DeviceId], names: &str) {
        fault.alert.state = AlertState::Unreachable {
            behind: behind.to_vec(),
        };
        fault.alert.summary = words::clipped(format!("unreachable behind {names}"));
        fault.listed = true;
        self.keep(fault);
    }

    /// A way to the device may be open again: its own rounds start anew.
    pub(crate) fn release(&mut self, fault: &mut Fault) {
        fault.restart(self.now);
        fault.alert.summary = "what it was behind is no longer down; asking it again".to_owned();
        self.keep(fault);
    }

    /// The fault is over. Those who heard of it are told so; one that nobody
    /// ever saw leaves no trace.
    pub(crate) fn end(&mut self, mut fault: Fault, summary: String) {
        if fault.is_pending() && !fault.listed {
            self.alerts.remove(&fault.alert.id);
            self.gone.insert(fault.alert.id);
            return;
        }
        fault.alert.state = AlertState::Resolved;
        fault.alert.resolved = Some(self.now);
        fault.alert.summary = words::clipped(summary);
        self.keep(&mut fault);
        if fault.alert.told {
            self.tell
                .push((fault.alert, NotificationEvent::Resolved, Vec::new()));
        }
    }
}
