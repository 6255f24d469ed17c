//! What plugins judge: they say themselves since when and how long something has
//! to hold. What is done about it is what is done about every other fault.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Condition, DeviceId, Labels, RuleName, Severity, Timestamp};

use crate::engine::Engine;
use crate::fault::Fault;
use crate::threshold::MAX_FAULTS_PER_DEVICE;
use crate::verdict::{Draft, Verdict};
use crate::words;

/// The label that tells a plugin's faults of one device apart.
const KEY: &str = "key";

/// The key of the fault that a rule cannot judge.
pub const CANNOT_JUDGE: &str = "plugin-broken";

/// What a plugin says of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginStatus {
    /// It is well.
    Ok,
    /// It is not, but not yet for long enough to tell anybody.
    Pending,
    /// It is a fault.
    Firing,
    /// Nothing can be said now: what was said before stays.
    Unknown,
}

/// A plugin's judgement of one thing of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginVerdict {
    /// Of what; empty for the device as a whole.
    pub key: String,
    /// Whether it is a fault.
    pub status: PluginStatus,
    /// How bad.
    pub severity: Severity,
    /// One line for people: what is wrong, or why it no longer is.
    pub summary: String,
    /// The figure that it is about, if there is one.
    pub value: Option<f64>,
}

impl PluginVerdict {
    fn is_bad(&self) -> bool {
        matches!(self.status, PluginStatus::Pending | PluginStatus::Firing)
    }

    fn labels(&self) -> Labels {
        let key = (!self.key.is_empty()).then_some((KEY, self.key.as_str()));
        Labels::new(key)
    }
}

/// Whether `labels` are those of a plugin's fault.
pub(crate) fn is_of_a_plugin(labels: &Labels) -> bool {
    labels.iter().all(|(name, _)| name == KEY)
}

impl Engine {
    /// Takes in what a plugin says of all of a device that its `rule` judges:
    /// of two verdicts with one key the first, and a key that is not there is
    /// well.
    ///
    /// What is firing goes on until its verdict is [`PluginStatus::Ok`], whatever
    /// else the plugin says of it meanwhile. A rule that is unknown or disabled,
    /// or that does not judge the device any more, is not listened to: its alerts
    /// ended with that.
    pub fn observe_plugin(
        &mut self,
        rule: &RuleName,
        device: DeviceId,
        verdicts: &[PluginVerdict],
        now: Timestamp,
    ) -> Verdict {
        self.mind_the_clock(now);
        let mut draft = Draft::new(now);
        if let Some(place) = self.plugin_rule(rule, device) {
            self.judge_by_plugin(place, device, verdicts, &mut draft);
            self.settle_side(device, &mut draft);
        }
        draft.into_verdict()
    }

    /// Takes in that the plugin behind `rule` cannot judge `device`: a fault of
    /// its own, with the key [`CANNOT_JUDGE`], until the plugin judges the device
    /// again. Whatever else it said of the device stays as it is.
    pub fn observe_plugin_failure(
        &mut self,
        rule: &RuleName,
        device: DeviceId,
        summary: &str,
        now: Timestamp,
    ) -> Verdict {
        self.mind_the_clock(now);
        let mut draft = Draft::new(now);
        if let Some(place) = self.plugin_rule(rule, device) {
            let broken = PluginVerdict {
                key: CANNOT_JUDGE.to_owned(),
                status: PluginStatus::Firing,
                severity: Severity::Warning,
                summary: summary.to_owned(),
                value: None,
            };
            let labels = broken.labels();
            let open = self.faults.of_rule_mut(device, rule);
            match open.and_then(|open| open.get_mut(&labels)) {
                Some(fault) => goes_on(fault, &broken, &mut draft),
                None => self.begin_by_plugin(place, device, labels, &broken, &mut draft),
            }
            self.settle_side(device, &mut draft);
        }
        draft.into_verdict()
    }

    /// The place of the plugin's `rule`, if it judges `device`.
    fn plugin_rule(&self, rule: &RuleName, device: DeviceId) -> Option<usize> {
        let place = self.rules.binary_search_by(|known| known.name.cmp(rule));
        let place = place.ok()?;
        let is_one = matches!(self.rules[place].condition, Condition::Plugin { .. });
        let watched = self.devices.get(&device)?;
        (is_one && watched.is_judged_by(place)).then_some(place)
    }

    fn judge_by_plugin(
        &mut self,
        place: usize,
        device: DeviceId,
        verdicts: &[PluginVerdict],
        draft: &mut Draft,
    ) {
        let mut by_labels: BTreeMap<Labels, &PluginVerdict> = BTreeMap::new();
        for verdict in verdicts {
            by_labels.entry(verdict.labels()).or_insert(verdict);
        }
        let rule = &self.rules[place];
        let open = self.faults.of_rule_mut(device, &rule.name);
        let mut known = BTreeSet::new();
        let mut over = Vec::new();
        for (labels, fault) in open.into_iter().flatten() {
            known.insert(Arc::clone(labels));
            match by_labels.get(&**labels) {
                Some(verdict) if verdict.is_bad() => goes_on(fault, verdict, draft),
                Some(verdict) if verdict.status == PluginStatus::Unknown => {}
                well => over.push((Arc::clone(labels), why_over(fault, well.copied()))),
            }
        }
        for (labels, why) in over {
            if let Some(fault) = self.faults.remove(device, &rule.name, &labels) {
                draft.end(fault, why);
            }
        }
        for (labels, verdict) in by_labels {
            if verdict.is_bad() && !known.contains(&labels) {
                self.begin_by_plugin(place, device, labels, verdict, draft);
            }
        }
    }

    fn begin_by_plugin(
        &mut self,
        place: usize,
        device: DeviceId,
        labels: Labels,
        verdict: &PluginVerdict,
        draft: &mut Draft,
    ) {
        if self.faults.count(device) >= MAX_FAULTS_PER_DEVICE {
            self.not_opened += 1;
            return;
        }
        let Some(watched) = self.devices.get(&device) else {
            return;
        };
        let id = self.ids.next();
        let rule = &self.rules[place];
        let mut fault = Fault::begin(id, rule, &watched.device, &Arc::new(labels), draft.now);
        goes_on(&mut fault, verdict, draft);
        draft.keep(&mut fault);
        self.faults.insert(fault);
    }
}

/// It is not well, once more or for the first time. A round is counted for what
/// is said to be a fault: one is enough to tell people.
fn goes_on(fault: &mut Fault, verdict: &PluginVerdict, draft: &mut Draft) {
    let is_pending = fault.is_pending();
    let alert = &mut fault.alert;
    let rounds = match verdict.status {
        PluginStatus::Firing => alert.rounds.saturating_add(1),
        // held back until now, and now not even that
        _ if is_pending => 0,
        _ => alert.rounds,
    };
    let is_other = alert.severity != verdict.severity || (alert.rounds == 0) != (rounds == 0);
    // the clock may have been set back
    alert.since = alert.since.min(draft.now);
    alert.rounds = rounds;
    alert.judged = draft.now;
    alert.severity = verdict.severity;
    alert.value = verdict.value.filter(|value| value.is_finite());
    alert.summary = match verdict.summary.as_str() {
        "" => "the plugin says so".to_owned(),
        text => one_line(text),
    };
    fault.by_silence = false;
    fault.missed = 0;
    if is_other {
        draft.keep(fault);
    } else {
        draft.refresh(fault);
    }
}

fn why_over(fault: &Fault, well: Option<&PluginVerdict>) -> String {
    match well.map(|verdict| verdict.summary.as_str()) {
        Some(why) if !why.is_empty() => one_line(why),
        _ => format!("over; it was: {}", fault.alert.summary),
    }
}

fn one_line(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    words::clipped(plain.collect())
}
