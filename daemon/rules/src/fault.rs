//! One fault's life, and where the open ones are kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{Alert, AlertId, AlertState, Device, DeviceId, Labels, Rule, RuleName, Timestamp};

/// A fault that is not over.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) alert: Alert,
    /// The latest judged poll was silence: it proves nothing while the device
    /// itself may be down.
    pub(crate) by_silence: bool,
    /// Polls in a row that were answered and did not measure it.
    pub(crate) missed: u32,
    /// It was shown as unreachable, so it is kept when it is over.
    pub(crate) listed: bool,
    /// When it was last handed out to be stored.
    pub(crate) stored: Timestamp,
}

impl Fault {
    /// A fault first seen at `at`, which is yet to be counted.
    pub(crate) fn begin(
        id: AlertId,
        rule: &Rule,
        device: &Device,
        labels: &Arc<Labels>,
        at: Timestamp,
    ) -> Fault {
        Fault::restored(Alert {
            id,
            rule: rule.name.clone(),
            severity: rule.severity,
            device: device.id,
            device_name: device.name.clone(),
            labels: Arc::clone(labels),
            state: AlertState::Pending,
            since: at,
            judged: just_before(at),
            rounds: 0,
            told: false,
            fired: None,
            resolved: None,
            value: None,
            summary: String::new(),
        })
    }

    /// A fault that was open before a restart: nothing is proven until it is
    /// seen again.
    pub(crate) fn restored(alert: Alert) -> Fault {
        Fault {
            by_silence: true,
            missed: 0,
            listed: matches!(alert.state, AlertState::Unreachable { .. }),
            stored: alert.judged,
            alert,
        }
    }

    /// Whether a poll of `at` has not been judged yet. An older one has, unless
    /// the clock was set back behind the last one.
    pub(crate) fn is_news(&self, at: Timestamp, now: Timestamp) -> bool {
        at > self.alert.judged || now < self.alert.judged
    }

    /// The condition held at `at`, too.
    ///
    /// A pending fault's span since the poll before counts for `longest` at
    /// most: `since` is moved up by the rest, so that the span from `since` to
    /// `judged` is what was really watched. Without this a clock that jumped
    /// ahead by an hour, or a machine that slept, would fire `for = "5m"` on
    /// one sample. A clock that was set back makes `since` start anew.
    pub(crate) fn count(&mut self, at: Timestamp, longest: Duration) {
        let alert = &mut self.alert;
        if alert.state == AlertState::Pending {
            let unwatched = at.since(alert.judged).saturating_sub(longest);
            if alert.rounds == 0 || at < alert.judged {
                alert.since = at;
            } else {
                alert.since = alert.since.plus(unwatched);
            }
        }
        alert.rounds = alert.rounds.saturating_add(1);
        alert.judged = at;
        self.missed = 0;
    }

    /// What was counted so far was another fault's doing: only polls that begin
    /// now or later count.
    pub(crate) fn restart(&mut self, now: Timestamp) {
        self.alert.state = AlertState::Pending;
        self.alert.rounds = 0;
        self.alert.since = now;
        self.alert.judged = just_before(now);
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.alert.state == AlertState::Pending
    }

    /// Whether it is still to be decided whose fault it is.
    pub(crate) fn is_undecided(&self) -> bool {
        matches!(
            self.alert.state,
            AlertState::Pending | AlertState::Unreachable { .. }
        )
    }
}

fn just_before(at: Timestamp) -> Timestamp {
    at.minus(Duration::from_millis(1))
}

/// A device's open faults, by rule and labels.
#[derive(Debug, Default)]
pub(crate) struct OfDevice {
    by_rule: BTreeMap<RuleName, BTreeMap<Arc<Labels>, Fault>>,
    count: usize,
}

/// All open faults. There is no entry for a device that has none.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    by_device: BTreeMap<DeviceId, OfDevice>,
}

impl Faults {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_device.is_empty()
    }

    /// Whether `device` has any.
    pub(crate) fn has(&self, device: DeviceId) -> bool {
        self.by_device.contains_key(&device)
    }

    /// How many `device` has.
    pub(crate) fn count(&self, device: DeviceId) -> usize {
        self.by_device.get(&device).map_or(0, |of| of.count)
    }

    /// Every device that has one, by number.
    pub(crate) fn devices(&self) -> Vec<DeviceId> {
        self.by_device.keys().copied().collect()
    }

    /// The fault of `device` as a whole that `rule` sees.
    pub(crate) fn whole(&self, device: DeviceId, rule: &RuleName) -> Option<&Fault> {
        let of_rule = self.by_device.get(&device)?.by_rule.get(rule)?;
        of_rule.get(&Labels::default())
    }

    /// The same, to change it.
    pub(crate) fn whole_mut(&mut self, device: DeviceId, rule: &RuleName) -> Option<&mut Fault> {
        self.of_rule_mut(device, rule)?.get_mut(&Labels::default())
    }

    /// What `rule` sees on `device`.
    pub(crate) fn of_rule_mut(
        &mut self,
        device: DeviceId,
        rule: &RuleName,
    ) -> Option<&mut BTreeMap<Arc<Labels>, Fault>> {
        self.by_device.get_mut(&device)?.by_rule.get_mut(rule)
    }

    /// All, to change them.
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut Fault> {
        self.by_device
            .values_mut()
            .flat_map(|of| of.by_rule.values_mut())
            .flat_map(BTreeMap::values_mut)
    }

    pub(crate) fn insert(&mut self, fault: Fault) {
        let of = self.by_device.entry(fault.alert.device).or_default();
        let of_rule = of.by_rule.entry(fault.alert.rule.clone()).or_default();
        let labels = Arc::clone(&fault.alert.labels);
        if of_rule.insert(labels, fault).is_none() {
            of.count += 1;
        }
    }

    pub(crate) fn remove(
        &mut self,
        device: DeviceId,
        rule: &RuleName,
        labels: &Labels,
    ) -> Option<Fault> {
        let of = self.by_device.get_mut(&device)?;
        let of_rule = of.by_rule.get_mut(rule)?;
        let fault = of_rule.remove(labels)?;
        of.count -= 1;
        if of_rule.is_empty() {
            of.by_rule.remove(rule);
        }
        if of.by_rule.is_empty() {
            self.by_device.remove(&device);
        }
        Some(fault)
    }

    /// Takes out all that `is_over` gives a reason for.
    pub(crate) fn take_out(
        &mut self,
        is_over: impl Fn(&Fault) -> Option<String>,
    ) -> Vec<(Fault, String)> {
        let over: Vec<(Alert, String)> = self
            .all_mut()
            .filter_map(|fault| is_over(fault).map(|why| (fault.alert.clone(), why)))
            .collect();
        over.into_iter()
            .filter_map(|(alert, why)| {
                let fault = self.remove(alert.device, &alert.rule, &alert.labels)?;
                Some((fault, why))
            })
            .collect()
    }
}
