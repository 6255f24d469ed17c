//! A site, what is seen of it, and what is told: the one place that holds the
//! API, so that a test is data.
#![allow(
    dead_code,
    reason = "each test file uses its own part of what all of them share"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::{
    Alert, AlertId, AlertState, Breaks, Check, Columns, Comparison, Condition, CredentialName,
    Device, DeviceDraft, DeviceId, DownAfter, Failure, FailureKind, GroupKey, Labels, MetricKind,
    NotificationEvent, Outcome, PollRow, Reading, Rule, RuleName, RuleSource, Selector, SeriesKey,
    Severity, Timestamp,
};
use rules::{Engine, PluginStatus, PluginVerdict, Reachability, Verdict};

/// 2026-11-21T03:00:00Z: second 0 of every story.
const START_MS: u64 = 1_795_230_000_000;

/// Time between two polls.
pub(crate) const EVERY: Duration = Duration::from_secs(30);

pub(crate) fn at(second: u64) -> Timestamp {
    Timestamp(START_MS + second * 1000)
}

fn second(at: Timestamp) -> u64 {
    (at.0 - START_MS) / 1000
}

/// Devices and rules.
#[derive(Clone, Default)]
pub(crate) struct Site {
    pub(crate) devices: Vec<Device>,
    pub(crate) rules: Vec<Rule>,
}

impl Site {
    /// Devices with their parents, which must come before them; `device-down`
    /// judges all of them after three rounds of ICMP.
    pub(crate) fn new(devices: &[(&str, &[&str])]) -> Site {
        let mut site = Site::default();
        for (name, parents) in devices {
            site.add(name, parents);
        }
        site.with(down_after("device-down", Check::Icmp, DownAfter::Rounds(3)))
    }

    pub(crate) fn add(&mut self, name: &str, parents: &[&str]) {
        let number = self.devices.len() as u64 + 1;
        let address = format!("host-{number}").parse();
        let address = address.expect("a host name is an address");
        let mut draft = DeviceDraft::new(name.to_owned(), address);
        draft.parents = parents.iter().map(|parent| self.id(parent)).collect();
        draft.credential = Some(CredentialName("public".to_owned()));
        self.devices.push(device(DeviceId(number), draft));
    }

    /// With `rule`, in the place of one of the same name.
    pub(crate) fn with(mut self, rule: Rule) -> Site {
        self.rules.retain(|known| known.name != rule.name);
        self.rules.push(rule);
        self
    }

    pub(crate) fn without(mut self, rule: &str) -> Site {
        self.rules.retain(|known| known.name.0 != rule);
        self
    }

    pub(crate) fn change(mut self, name: &str, change: impl Fn(&mut Device)) -> Site {
        let id = self.id(name);
        let device = self.devices.iter_mut().find(|device| device.id == id);
        change(device.expect("id() found it"));
        self
    }

    pub(crate) fn id(&self, name: &str) -> DeviceId {
        let device = self.devices.iter().find(|device| device.name == name);
        device.unwrap_or_else(|| panic!("no device {name}")).id
    }

    pub(crate) fn name(&self, id: DeviceId) -> &str {
        let device = self.devices.iter().find(|device| device.id == id);
        device.map_or("?", |device| device.name.as_str())
    }
}

fn device(id: DeviceId, draft: DeviceDraft) -> Device {
    Device {
        id,
        name: draft.name,
        address: draft.address,
        kind: draft.kind,
        vendor: None,
        model: None,
        os: None,
        site: None,
        location: None,
        tags: draft.tags,
        parents: draft.parents,
        poll: draft.poll,
        credential: draft.credential,
        enabled: true,
        created: at(0),
        updated: at(0),
        deleted: None,
        revision: 1,
        tenant: draft.tenant,
    }
}

fn rule(name: &str, condition: Condition) -> Rule {
    Rule {
        name: RuleName(name.to_owned()),
        severity: Severity::Critical,
        enabled: true,
        selector: Selector::default(),
        condition,
        note: None,
        source: RuleSource::Api,
        updated: at(0),
        revision: 1,
    }
}

pub(crate) fn down_after(name: &str, check: Check, after: DownAfter) -> Rule {
    rule(name, Condition::Availability { check, after })
}

/// `metric > limit for hold`.
pub(crate) fn above(name: &str, metric: &str, limit: f64, hold: u64, clear: Option<f64>) -> Rule {
    let condition = Condition::Threshold {
        metric: metric.to_owned(),
        labels: BTreeMap::new(),
        comparison: Comparison::Above,
        limit,
        hold: Duration::from_secs(hold),
        clear,
    };
    rule(name, condition)
}

/// What the plugin `flaps` judges.
pub(crate) fn judged_by_plugin(name: &str) -> Rule {
    let condition = Condition::Plugin {
        plugin: "flaps".to_owned(),
    };
    Rule {
        source: RuleSource::Plugin,
        ..rule(name, condition)
    }
}

/// A plugin's judgement of something with this key.
pub(crate) fn verdict(key: &str, status: PluginStatus, severity: Severity) -> PluginVerdict {
    PluginVerdict {
        key: key.to_owned(),
        status,
        severity,
        summary: format!("{key} is {status:?}"),
        value: None,
    }
}

/// What is seen, or done.
#[derive(Clone)]
pub(crate) enum Seen {
    /// ICMP: no answer.
    Silent,
    /// ICMP: an answer.
    Answers,
    /// ICMP: we could not ask.
    CannotAsk(FailureKind),
    /// SNMP: no answer.
    AgentSilent,
    /// SNMP: these metrics, each of an interface or ("") of the device. NaN is
    /// a gap.
    Agent(&'static [(&'static str, &'static str, f64)]),
    /// SNMP: the same while a table could not be read.
    AgentInPart(&'static [(&'static str, &'static str, f64)]),
    /// The plugin behind the rule `flaps` judges: keys and what it says of them.
    Judged(&'static [(&'static str, PluginStatus)]),
    /// The plugin behind the rule `flaps` breaks while it judges.
    Breaks,
    /// ICMP: an answer with this share of the probes lost.
    Loss(f64),
    /// The daemon starts again, from what is stored.
    Restart,
    /// The site becomes this one.
    Becomes(Site),
    /// The wall clock is set to the second of this event, or the machine slept
    /// until then: nothing is called in between.
    ClockIsSet,
    /// Nothing happens, to look at what was decided until now.
    Nothing,
}

/// At a second, of a device, something is seen.
pub(crate) type Event<'a> = (u64, &'a str, Seen);

/// What came of a story.
#[derive(Debug, Default)]
pub(crate) struct Came {
    /// `60 sw fires`, `90 sw resolved`.
    pub(crate) told: Vec<String>,
    /// `0 ask core`.
    pub(crate) asked: Vec<String>,
    /// The open alerts and those that were kept: `sw unreachable behind core`.
    pub(crate) states: Vec<String>,
    /// Summaries of what was told, in order.
    pub(crate) summaries: Vec<String>,
    /// Alerts that are stored.
    pub(crate) stored: BTreeMap<AlertId, Alert>,
}

/// Plays `events` on `site`. Ticks come when the engine wants them.
#[track_caller]
pub(crate) fn story(site: Site, events: &[Event<'_>]) -> Came {
    let mut teller = Teller::new(site, at(0));
    for (when, name, seen) in events {
        teller.play(at(*when), name, seen);
    }
    teller.finish()
}

/// What was told alone, which is what most stories are about.
#[track_caller]
pub(crate) fn told(site: Site, events: &[Event<'_>]) -> Vec<String> {
    story(site, events).told
}

/// The engine with the store and the people around it.
pub(crate) struct Teller {
    pub(crate) engine: Engine,
    pub(crate) site: Site,
    pub(crate) stored: BTreeMap<AlertId, Alert>,
    pub(crate) came: Came,
    /// Time between two polls of devices that are not polled every [`EVERY`].
    pub(crate) intervals: BTreeMap<DeviceId, Duration>,
    rows: BTreeMap<GroupKey, PollRow>,
    fired: BTreeSet<AlertId>,
    resolved: BTreeSet<AlertId>,
    highest: u64,
}

impl Teller {
    pub(crate) fn new(site: Site, now: Timestamp) -> Teller {
        let mut teller = Teller {
            engine: Engine::new(1, Vec::new()),
            site,
            stored: BTreeMap::new(),
            came: Came::default(),
            intervals: BTreeMap::new(),
            rows: BTreeMap::new(),
            fired: BTreeSet::new(),
            resolved: BTreeSet::new(),
            highest: 0,
        };
        teller.configure(now);
        teller
    }

    pub(crate) fn configure(&mut self, now: Timestamp) -> Verdict {
        let devices: Vec<Arc<Device>> = self.site.devices.iter().cloned().map(Arc::new).collect();
        let every = |device: &Device, _| *self.intervals.get(&device.id).unwrap_or(&EVERY);
        let verdict = self
            .engine
            .configure(&self.site.rules, &devices, &every, now);
        self.take(verdict, now)
    }

    pub(crate) fn restart(&mut self, now: Timestamp) -> Verdict {
        let is_open = |alert: &&Alert| alert.state != AlertState::Resolved;
        let open = self.stored.values().filter(is_open).cloned().collect();
        self.engine = Engine::new(self.highest + 1, open);
        self.configure(now)
    }

    /// Ticks that are due before `now`, each at its time.
    pub(crate) fn tick_until(&mut self, now: Timestamp) {
        while let Some(due) = self.engine.wake().filter(|due| *due <= now) {
            self.tick(due);
            assert!(
                self.engine.wake().is_none_or(|next| next > due),
                "a tick leaves its alarm"
            );
        }
    }

    pub(crate) fn tick(&mut self, now: Timestamp) -> Verdict {
        let verdict = self.engine.tick(now);
        self.take(verdict, now)
    }

    pub(crate) fn play(&mut self, now: Timestamp, name: &str, seen: &Seen) {
        if !matches!(seen, Seen::ClockIsSet) {
            self.tick_until(now);
        }
        let failed = |kind, text: &str| {
            Some(Failure {
                kind,
                text: text.to_owned(),
            })
        };
        let icmp = |failure, loss: f64| (Check::Icmp, failure, loss);
        let (check, failure, loss) = match seen {
            Seen::Silent => icmp(failed(FailureKind::Timeout, "5 probes, no answer"), 1.0),
            Seen::Answers => icmp(None, 0.0),
            Seen::Loss(loss) => icmp(None, *loss),
            Seen::CannotAsk(kind) => icmp(failed(*kind, "we could not ask"), f64::NAN),
            Seen::AgentSilent => (
                Check::Snmp,
                failed(FailureKind::Timeout, "no response"),
                f64::NAN,
            ),
            Seen::Agent(values) | Seen::AgentInPart(values) => {
                let partial = matches!(seen, Seen::AgentInPart(_));
                self.agent(now, name, values, partial);
                return;
            }
            Seen::Breaks => {
                let rule = RuleName("flaps".to_owned());
                let device = self.site.id(name);
                let summary = "it cannot judge";
                let verdict = self
                    .engine
                    .observe_plugin_failure(&rule, device, summary, now);
                self.take(verdict, now);
                return;
            }
            Seen::Judged(keys) => {
                let of = |(key, status): &(&str, _)| verdict(key, *status, Severity::Warning);
                let verdicts: Vec<PluginVerdict> = keys.iter().map(of).collect();
                self.judged(now, name, &verdicts);
                return;
            }
            Seen::Restart => {
                self.restart(now);
                return;
            }
            Seen::Becomes(site) => {
                self.site = site.clone();
                self.configure(now);
                return;
            }
            Seen::ClockIsSet => {
                self.tick(now);
                return;
            }
            Seen::Nothing => return,
        };
        let group = GroupKey {
            device: self.site.id(name),
            check,
        };
        let reading = (!loss.is_nan()).then(|| {
            let columns = columns(&[("icmp_up", ""), ("icmp_loss_ratio", "")]);
            let up = if loss < 1.0 { 1.0 } else { 0.0 };
            self.reading(group, now, columns, &[up, loss])
        });
        self.report(group, now, Duration::ZERO, failure, reading.as_ref(), now);
    }

    /// The plugin behind the rule `flaps` judges a device.
    pub(crate) fn judged(
        &mut self,
        now: Timestamp,
        name: &str,
        verdicts: &[PluginVerdict],
    ) -> Verdict {
        let rule = RuleName("flaps".to_owned());
        let device = self.site.id(name);
        let verdict = self.engine.observe_plugin(&rule, device, verdicts, now);
        self.take(verdict, now)
    }

    fn agent(&mut self, at: Timestamp, name: &str, values: &[(&str, &str, f64)], partial: bool) {
        let group = GroupKey {
            device: self.site.id(name),
            check: Check::Snmp,
        };
        let keys: Vec<(&str, &str)> = values.iter().map(|(m, i, _)| (*m, *i)).collect();
        let numbers: Vec<f64> = values.iter().map(|(_, _, v)| *v).collect();
        let reading = self.reading(group, at, columns(&keys), &numbers);
        let mut outcome = outcome(at, Duration::ZERO, None);
        if partial {
            let failure = Failure {
                kind: FailureKind::Timeout,
                text: "ifTable: no answer".to_owned(),
            };
            outcome.partial.push(("ifTable".to_owned(), failure));
        }
        let verdict = self.engine.observe(group, &outcome, Some(&reading), at);
        self.take(verdict, at);
    }

    /// The newest row of `group` beside the one before, as the store keeps them.
    fn reading(
        &mut self,
        group: GroupKey,
        at: Timestamp,
        columns: Arc<Columns>,
        values: &[f64],
    ) -> Reading {
        let row = PollRow {
            group,
            at,
            columns: Arc::clone(&columns),
            values: values.into(),
            breaks: Breaks::None,
        };
        let before = self.rows.insert(group, row.clone());
        let previous = before.map(|before| {
            let column = |key: &SeriesKey| before.columns.series().iter().position(|k| k == key);
            let value = |key| column(key).map_or(f64::NAN, |place| before.values[place]);
            (before.at, columns.series().iter().map(value).collect())
        });
        Reading { row, previous }
    }

    pub(crate) fn report(
        &mut self,
        group: GroupKey,
        at: Timestamp,
        took: Duration,
        failure: Option<Failure>,
        reading: Option<&Reading>,
        now: Timestamp,
    ) -> Verdict {
        let outcome = outcome(at, took, failure);
        let verdict = self.engine.observe(group, &outcome, reading, now);
        self.take(verdict, now)
    }

    /// Stores and tells, and checks what holds for every verdict.
    fn take(&mut self, verdict: Verdict, now: Timestamp) -> Verdict {
        for alert in &verdict.alerts {
            assert!(!verdict.gone.contains(&alert.id), "stored and gone");
            self.highest = self.highest.max(alert.id.0);
            self.stored.insert(alert.id, alert.clone());
        }
        for id in &verdict.gone {
            assert!(!self.fired.contains(id), "told, and then gone");
            self.stored.remove(id);
        }
        for (alert, event, cuts_off) in &verdict.tell {
            assert!(alert.told);
            let is_new = match event {
                NotificationEvent::Firing => self.fired.insert(alert.id),
                NotificationEvent::Resolved => {
                    assert!(self.fired.contains(&alert.id), "resolved, never fired");
                    self.resolved.insert(alert.id)
                }
                NotificationEvent::Test => false,
            };
            assert!(is_new, "told twice: {alert:?}");
            assert_eq!(self.stored.get(&alert.id), Some(alert), "told, not stored");
            let told = self.words(now, alert, *event, cuts_off);
            self.came.told.push(told);
            self.came.summaries.push(alert.summary.clone());
        }
        for group in &verdict.probe {
            let what = match group.check {
                Check::Icmp => "",
                Check::Snmp => " agent",
            };
            let name = self.site.name(group.device);
            let line = format!("{} ask {name}{what}", second(now));
            self.came.asked.push(line);
        }
        if !verdict.alerts.is_empty() {
            self.at_most_one_open_per_fault();
        }
        verdict
    }

    fn at_most_one_open_per_fault(&self) {
        let mut seen = BTreeSet::new();
        for alert in self.stored.values() {
            if alert.state != AlertState::Resolved {
                let fault = (alert.rule.clone(), alert.device, alert.labels.clone());
                assert!(seen.insert(fault), "two alerts for one fault: {alert:?}");
            }
        }
    }

    fn words(
        &self,
        now: Timestamp,
        alert: &Alert,
        event: NotificationEvent,
        cuts_off: &[DeviceId],
    ) -> String {
        let verb = match event {
            NotificationEvent::Firing => "fires",
            NotificationEvent::Resolved => "resolved",
            NotificationEvent::Test => "test",
        };
        let names: Vec<&str> = cuts_off.iter().map(|id| self.site.name(*id)).collect();
        let what = subject(&self.site, alert);
        let line = format!("{} {what} {verb}", second(now));
        if names.is_empty() {
            return line;
        }
        format!("{line}, cuts off {}", names.join(" "))
    }

    pub(crate) fn finish(mut self) -> Came {
        self.came.states = self
            .stored
            .values()
            .map(|alert| {
                let what = subject(&self.site, alert);
                match &alert.state {
                    AlertState::Unreachable { behind } => {
                        let behind: Vec<&str> =
                            behind.iter().map(|id| self.site.name(*id)).collect();
                        format!("{what} unreachable behind {}", behind.join(" "))
                    }
                    state => format!("{what} {}", state.word()),
                }
            })
            .collect();
        self.came.stored = self.stored;
        self.came
    }

    pub(crate) fn reachability(&self, name: &str) -> Reachability {
        self.engine.reachability(self.site.id(name))
    }
}

/// `sw`, or `sw/cpu-high`, or `sw/errors(ge-0/0/0)`.
fn subject(site: &Site, alert: &Alert) -> String {
    let name = site.name(alert.device);
    let name = if name == "?" {
        alert.device_name.as_str()
    } else {
        name
    };
    let rule = &alert.rule.0;
    let of = alert.labels.get("interface").or(alert.labels.get("key"));
    match (rule.as_str(), of) {
        ("device-down", _) => name.to_owned(),
        (_, None) => format!("{name}/{rule}"),
        (_, Some(of)) => format!("{name}/{rule}({of})"),
    }
}

fn outcome(at: Timestamp, took: Duration, failure: Option<Failure>) -> Outcome {
    Outcome {
        at,
        took,
        failure,
        partial: Vec::new(),
    }
}

pub(crate) fn silence() -> Option<Failure> {
    Some(Failure {
        kind: FailureKind::Timeout,
        text: "5 probes, no answer".to_owned(),
    })
}

/// Metrics of an interface, or of the device where that is "".
pub(crate) fn columns(keys: &[(&str, &str)]) -> Arc<Columns> {
    let series = keys.iter().map(|(metric, interface)| {
        let labels = match *interface {
            "" => Labels::default(),
            name => Labels::new([("interface", name)]),
        };
        SeriesKey {
            metric: Arc::from(*metric),
            labels: Arc::new(labels),
            kind: model::metric_info(metric).map_or(MetricKind::Gauge, |known| known.kind),
        }
    });
    Arc::new(Columns::new(series.collect()))
}
