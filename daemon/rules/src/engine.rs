//! The wiring of the parts that judge.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use model::{
    Alert, AlertId, AlertState, Check, Condition, Device, DeviceId, GroupKey, Outcome, Reading,
    Rule, Timestamp,
};

use crate::availability::name_of;
use crate::fault::{Fault, Faults};
use crate::plugin::is_of_a_plugin;
use crate::threshold::Plans;
use crate::topology::Topology;
use crate::verdict::{Draft, Verdict};
use crate::watched::{Standing, Wait, Watched, check_judged};

/// Whether a device is reached, as far as that is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reachability {
    /// Not asked yet, we could not ask, or no rule says that it should answer.
    Unknown,
    /// It answers; or it has just fallen silent, and what that means is not
    /// decided yet.
    Up,
    /// It does not answer.
    Down,
    /// It does not answer, and neither does anything that leads to it.
    Unreachable {
        /// The down devices nearest to us that cut it off.
        behind: Vec<DeviceId>,
    },
}

/// A wall clock that differs by less from what we expect has not been set.
const CLOCK_STEP: Duration = Duration::from_secs(5);

/// Gives alerts their numbers.
#[derive(Debug)]
pub(crate) struct Ids {
    next: u64,
}

impl Ids {
    pub(crate) fn next(&mut self) -> AlertId {
        let id = AlertId(self.next);
        self.next += 1;
        id
    }
}

/// Judges every poll of every device. One judge at a time: whoever owns it
/// hands every report to it once, in any order across devices.
#[derive(Debug)]
pub struct Engine {
    pub(crate) ids: Ids,
    /// The enabled ones, by name.
    pub(crate) rules: Vec<Rule>,
    /// All of them, as they were handed in.
    given: Vec<Rule>,
    pub(crate) devices: HashMap<DeviceId, Watched>,
    pub(crate) topology: Topology,
    pub(crate) faults: Faults,
    pub(crate) plans: Plans,
    /// Faults that were not opened because the device had too many.
    pub(crate) not_opened: u64,
    alarms: BTreeSet<(Timestamp, DeviceId, Wait)>,
    latest: Timestamp,
}

impl Engine {
    /// An engine that goes on with the alerts that were `open` before a restart
    /// and gives new ones numbers from `next_alert` on. It judges nothing until
    /// it is [configured](Engine::configure).
    #[must_use]
    pub fn new(next_alert: u64, open: Vec<Alert>) -> Engine {
        let mut faults = Faults::default();
        let mut next = next_alert;
        for alert in open {
            next = next.max(alert.id.0.saturating_add(1));
            if alert.state != AlertState::Resolved {
                faults.insert(Fault::restored(alert));
            }
        }
        Engine {
            ids: Ids { next },
            rules: Vec::new(),
            given: Vec::new(),
            devices: HashMap::new(),
            topology: Topology::default(),
            faults,
            plans: Plans::default(),
            not_opened: 0,
            alarms: BTreeSet::new(),
            latest: Timestamp(0),
        }
    }

    /// Takes the rules and devices to judge by from now on: at start, and
    /// whenever one of them, or an interval, has changed. Devices may include
    /// disabled and deleted ones; `intervals` gives the time between two polls.
    ///
    /// Alerts of a rule or a device that is gone, disabled or no longer selected
    /// end, with the reason as their summary. An open alert takes the severity
    /// its rule has now, and is judged by the rule as it is now with the next
    /// sample.
    pub fn configure(
        &mut self,
        rules: &[Rule],
        devices: &[Arc<Device>],
        intervals: &dyn Fn(&Device, Check) -> Duration,
        now: Timestamp,
    ) -> Verdict {
        self.mind_the_clock(now);
        let mut draft = Draft::new(now);
        draft.may_fire = false;
        let rules_changed = self.take_rules(rules);
        let devices_changed = self.take_devices(devices, rules_changed, intervals, now);
        if rules_changed || devices_changed || !self.faults.is_empty() {
            self.end_orphans(devices, &mut draft);
            self.follow_rules(&mut draft);
        }
        if rules_changed || devices_changed {
            self.connect();
            for device in self.faults.devices() {
                self.settle(device, &mut draft);
            }
        }
        draft.into_verdict()
    }

    /// Judges a report: how asking `group` went, and what it measured. The
    /// reading is judged only if it is newer than the last one that was.
    pub fn observe(
        &mut self,
        group: GroupKey,
        outcome: &Outcome,
        reading: Option<&Reading>,
        now: Timestamp,
    ) -> Verdict {
        self.mind_the_clock(now);
        let mut draft = Draft::new(now);
        if self.is_news(group, outcome, now) {
            let says_something = self.judge_answer(group, outcome, &mut draft);
            if let Some(reading) = reading {
                self.judge_values(group, outcome, reading, &mut draft);
            }
            self.settle_after(group, says_something, &mut draft);
        }
        draft.into_verdict()
    }

    /// Looks again at what was waiting for something that did not come.
    pub fn tick(&mut self, now: Timestamp) -> Verdict {
        self.mind_the_clock(now);
        let mut draft = Draft::new(now);
        while let Some(&(due, device, wait)) = self.alarms.first()
            && due <= now
        {
            self.alarms.pop_first();
            if let Some(watched) = self.devices.get_mut(&device) {
                watched.alarms[wait.place()] = None;
            }
            self.settle(device, &mut draft);
        }
        draft.into_verdict()
    }

    /// When [`tick`](Engine::tick) has something to do.
    #[must_use]
    pub fn wake(&self) -> Option<Timestamp> {
        self.alarms.first().map(|(due, _, _)| *due)
    }

    /// Whether `device` is reached.
    #[must_use]
    pub fn reachability(&self, device: DeviceId) -> Reachability {
        let Some(watched) = self.devices.get(&device) else {
            return Reachability::Unknown;
        };
        match watched.known {
            Standing::Down => Reachability::Down,
            Standing::CutOff => Reachability::Unreachable {
                behind: self.topology.behind(device, |other| {
                    self.devices
                        .get(&other)
                        .map_or(Standing::Unknown, |watched| watched.known)
                }),
            },
            Standing::Up => Reachability::Up,
            Standing::Suspect if watched.was_up => Reachability::Up,
            Standing::Unknown if watched.main_check.is_none() && watched.answers_something() => {
                Reachability::Up
            }
            Standing::Suspect | Standing::Unknown => Reachability::Unknown,
        }
    }

    /// Faults that were seen and not opened, because the device had more open
    /// ones than anybody could read.
    #[must_use]
    pub fn not_opened(&self) -> u64 {
        self.not_opened
    }

    fn is_news(&mut self, group: GroupKey, outcome: &Outcome, now: Timestamp) -> bool {
        self.devices.get_mut(&group.device).is_some_and(|watched| {
            watched.device.wants(group.check)
                && watched
                    .group_mut(group.check)
                    .takes(outcome.at.min(now), now)
        })
    }

    fn settle_after(&mut self, group: GroupKey, says_something: bool, draft: &mut Draft) {
        let device = group.device;
        let Some(watched) = self.devices.get(&device) else {
            return;
        };
        if watched.main_check != Some(group.check) {
            if self.faults.has(device) {
                self.settle_side(device, draft);
            }
        } else if says_something
            && (self.concerns_an_open_fault(device) || self.standing(device) != watched.known)
        {
            self.settle(device, draft);
        }
    }

    /// Sees that the clock was set back, or that it jumped ahead while somebody
    /// waited for something.
    pub(crate) fn mind_the_clock(&mut self, now: Timestamp) {
        if now.plus(CLOCK_STEP) < self.latest {
            self.forget_times(now);
        } else if self.wake().is_some_and(|due| due.plus(CLOCK_STEP) < now) {
            self.excuse_waits(now);
        }
        self.latest = now;
    }

    fn forget_times(&mut self, now: Timestamp) {
        for watched in self.devices.values_mut() {
            watched.alarms = [None; 2];
            for group in watched.groups_mut() {
                group.forget_times(now);
            }
        }
        self.alarms.clear();
    }

    /// Nobody looked when a wait ended: the machine slept, or the clock was set
    /// ahead. What was waited for may not have had its time, so it gets it once
    /// more.
    fn excuse_waits(&mut self, now: Timestamp) {
        for (_, device, _) in &self.alarms {
            let Some(watched) = self.devices.get_mut(device) else {
                continue;
            };
            for group in watched.groups_mut() {
                if let Some(silence) = group.silence.as_mut().filter(|s| !s.excused) {
                    silence.seen = now;
                    silence.excused = true;
                }
            }
        }
    }

    pub(crate) fn set_alarm(&mut self, device: DeviceId, wait: Wait, at: Option<Timestamp>) {
        let Some(watched) = self.devices.get_mut(&device) else {
            return;
        };
        let before = std::mem::replace(&mut watched.alarms[wait.place()], at);
        if before == at {
            return;
        }
        if let Some(old) = before {
            self.alarms.remove(&(old, device, wait));
        }
        if let Some(at) = at {
            self.alarms.insert((at, device, wait));
        }
    }

    /// Says whether the rules changed.
    fn take_rules(&mut self, rules: &[Rule]) -> bool {
        if self.given == rules {
            return false;
        }
        self.given = rules.to_vec();
        self.rules = rules.iter().filter(|rule| rule.enabled).cloned().collect();
        self.rules.sort_by(|a, b| a.name.cmp(&b.name));
        self.rules.dedup_by(|later, first| later.name == first.name);
        self.plans.clear();
        true
    }

    /// Says whether a device changed. One that did not, which is nearly all of
    /// them, is recognised by its pointer.
    fn take_devices(
        &mut self,
        devices: &[Arc<Device>],
        rules_changed: bool,
        intervals: &dyn Fn(&Device, Check) -> Duration,
        now: Timestamp,
    ) -> bool {
        let mut before = std::mem::take(&mut self.devices);
        self.devices.reserve(devices.len());
        let mut changed = false;
        for device in devices.iter().filter(|device| device.is_watched()) {
            let known = before.remove(&device.id);
            let is_new = known.is_none();
            let mut watched = known.unwrap_or_else(|| Watched::new(Arc::clone(device), now));
            if is_new || rules_changed || !Arc::ptr_eq(&watched.device, device) {
                watched.device = Arc::clone(device);
                watched.select(&self.rules, now);
                changed = true;
            }
            for check in Check::ALL {
                watched.group_mut(check).every = intervals(device, check);
            }
            self.devices.insert(device.id, watched);
        }
        for (id, gone) in before {
            for wait in [Wait::Main, Wait::Side] {
                if let Some(at) = gone.alarms[wait.place()] {
                    self.alarms.remove(&(at, id, wait));
                }
            }
            changed = true;
        }
        changed
    }

    /// Ends the alerts that nobody judges any more.
    fn end_orphans(&mut self, devices: &[Arc<Device>], draft: &mut Draft) {
        let disabled: HashSet<DeviceId> = devices
            .iter()
            .filter(|device| device.deleted.is_none() && !device.enabled)
            .map(|device| device.id)
            .collect();
        let Engine {
            devices: watched,
            faults,
            rules,
            given,
            ..
        } = self;
        let over = faults.take_out(|fault| {
            let alert = &fault.alert;
            let Some(watched) = watched.get(&alert.device) else {
                let why = if disabled.contains(&alert.device) {
                    "device disabled"
                } else {
                    "device deleted"
                };
                return Some(why.to_owned());
            };
            let Ok(place) = rules.binary_search_by(|rule| rule.name.cmp(&alert.rule)) else {
                let is_disabled = given.iter().any(|rule| rule.name == alert.rule);
                let why = if is_disabled {
                    "rule disabled"
                } else {
                    "rule removed"
                };
                return Some(why.to_owned());
            };
            why_not_judged(fault, &rules[place], watched, place)
        });
        for (fault, why) in over {
            let summary = format!("{why}; it was: {}", fault.alert.summary);
            draft.end(fault, summary);
        }
    }

    /// Gives open alerts the severity that their rule has now. Those of plugins
    /// have the one that the plugin says.
    fn follow_rules(&mut self, draft: &mut Draft) {
        for fault in self.faults.all_mut() {
            let place = self
                .rules
                .binary_search_by(|rule| rule.name.cmp(&fault.alert.rule));
            if let Ok(place) = place
                && !matches!(self.rules[place].condition, Condition::Plugin { .. })
                && self.rules[place].severity != fault.alert.severity
            {
                fault.alert.severity = self.rules[place].severity;
                draft.keep(fault);
            }
        }
    }

    /// Finds out anew what is reached through what, and how everything stands.
    fn connect(&mut self) {
        let devices = &self.devices;
        self.topology = Topology::new(
            devices.iter().map(|(id, w)| (*id, &w.device.parents)),
            |parent| devices.get(&parent).is_some_and(|w| w.main_check.is_some()),
        );
        let standings: Vec<(DeviceId, Standing)> = self
            .devices
            .keys()
            .map(|id| (*id, self.standing(*id)))
            .collect();
        for (id, standing) in standings {
            if let Some(watched) = self.devices.get_mut(&id) {
                watched.known = standing;
            }
        }
    }
}

/// Why an alert's rule, which is there, does not judge it any more.
fn why_not_judged(fault: &Fault, rule: &Rule, watched: &Watched, place: usize) -> Option<String> {
    let alert = &fault.alert;
    let still_fits = match &rule.condition {
        Condition::Availability { .. } => alert.labels.is_empty() && alert.value.is_none(),
        Condition::Plugin { .. } => {
            let was_cut_off = matches!(alert.state, AlertState::Unreachable { .. });
            is_of_a_plugin(&alert.labels) && !was_cut_off
        }
        Condition::Threshold { labels, .. } => {
            let carries = |(name, value): (&String, &String)| alert.labels.get(name) == Some(value);
            alert.value.is_some() && labels.iter().all(carries)
        }
    };
    if !still_fits {
        return Some("rule changed".to_owned());
    }
    if watched.is_judged_by(place) {
        return None;
    }
    let check = check_judged(&rule.condition);
    Some(match check.filter(|check| !watched.device.wants(*check)) {
        None => "device no longer selected by the rule".to_owned(),
        Some(check) => format!("device no longer asked by {}", name_of(check)),
    })
}
