//! Judging values against limits.
//!
//! A reading has hundreds of columns and nearly all of them are well, so which
//! columns a rule judges is found once per set of columns and shared by every
//! device that answers with the same ones ([`Plans`]); judging a healthy
//! reading is then arithmetic alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use model::{
    AlertState, Check, Columns, Comparison, Condition, GroupKey, Labels, MetricKind, Outcome,
    Reading, Rule, SeriesKey, Timestamp,
};

use crate::availability::{is_ripe, longest_step};
use crate::engine::Engine;
use crate::fault::Fault;
use crate::verdict::Draft;
use crate::words;

/// Answered polls in a row without the series, after which its fault is over:
/// the interface, disk or processor is gone. One gap is normal (a restart).
const MISSED_POLLS: u32 = 3;

/// The same while a part of each poll fails: then the series may well be there.
const MISSED_POLLS_WHILE_PARTIAL: u32 = 30;

/// A device has no more open faults than this. A rule that fires for every
/// interface of a 10,000-port chassis is a mistake in the rule.
pub(crate) const MAX_FAULTS_PER_DEVICE: usize = 1_000;

/// Sets of columns that are remembered beyond those in use.
const PLANS_KEPT: usize = 4_096;

/// The check that measures `metric`.
pub(crate) fn check_of(metric: &str) -> Check {
    if metric.starts_with("icmp_") {
        Check::Icmp
    } else {
        Check::Snmp
    }
}

/// Which columns each rule judges, for one set of columns.
#[derive(Debug)]
pub(crate) struct Plan {
    columns: Arc<Columns>,
    by_rule: Box<[Box<[usize]>]>,
}

impl Plan {
    fn new(columns: &Arc<Columns>, rules: &[Rule]) -> Plan {
        let judged_by = |rule: &Rule| -> Box<[usize]> {
            let series = columns.series().iter().enumerate();
            series
                .filter(|(_, key)| judges(rule, key))
                .map(|(place, _)| place)
                .collect()
        };
        Plan {
            columns: Arc::clone(columns),
            by_rule: rules.iter().map(judged_by).collect(),
        }
    }

    fn is_for(&self, columns: &Arc<Columns>) -> bool {
        Arc::ptr_eq(&self.columns, columns) || self.columns == *columns
    }

    /// The columns that the rule at `place` judges.
    fn columns_of(&self, place: usize) -> &[usize] {
        self.by_rule.get(place).map_or(&[], AsRef::as_ref)
    }
}

fn judges(rule: &Rule, key: &SeriesKey) -> bool {
    match &rule.condition {
        Condition::Availability { .. } | Condition::Plugin { .. } => false,
        Condition::Threshold { metric, labels, .. } => {
            *metric == *key.metric
                && labels
                    .iter()
                    .all(|(name, value)| key.labels.get(name) == Some(value))
        }
    }
}

/// The plans in use, by their columns' fingerprint.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    by_fingerprint: HashMap<u64, Weak<Plan>>,
}

impl Plans {
    /// Forgets all: the rules changed.
    pub(crate) fn clear(&mut self) {
        self.by_fingerprint.clear();
    }

    /// The plan for `columns`. `kept` is the one that the device used last.
    fn find(
        &mut self,
        columns: &Arc<Columns>,
        rules: &[Rule],
        kept: &mut Option<Arc<Plan>>,
    ) -> Arc<Plan> {
        if let Some(plan) = kept.as_ref().filter(|plan| plan.is_for(columns)) {
            return Arc::clone(plan);
        }
        let plan = self.shared(columns, rules);
        *kept = Some(Arc::clone(&plan));
        plan
    }

    fn shared(&mut self, columns: &Arc<Columns>, rules: &[Rule]) -> Arc<Plan> {
        let known = self.by_fingerprint.get(&columns.fingerprint());
        if let Some(plan) = known.and_then(Weak::upgrade) {
            if plan.is_for(columns) {
                return plan;
            }
            // another set with the same fingerprint: it goes without sharing
            return Arc::new(Plan::new(columns, rules));
        }
        if self.by_fingerprint.len() >= PLANS_KEPT {
            self.by_fingerprint
                .retain(|_, plan| plan.strong_count() > 0);
        }
        let plan = Arc::new(Plan::new(columns, rules));
        self.by_fingerprint
            .insert(columns.fingerprint(), Arc::downgrade(&plan));
        plan
    }
}

/// A poll's values, to be judged.
struct Measured<'a> {
    reading: &'a Reading,
    check: Check,
    at: Timestamp,
    every: Duration,
    /// The device did not answer: the row says only that.
    by_silence: bool,
    /// A part of the poll failed.
    is_partial: bool,
}

impl Measured<'_> {
    fn new<'a>(
        group: GroupKey,
        outcome: &Outcome,
        reading: &'a Reading,
        every: Duration,
        now: Timestamp,
    ) -> Measured<'a> {
        let is_of_outcome = reading.row.at == outcome.at;
        Measured {
            reading,
            check: group.check,
            at: reading.row.at.min(now),
            every,
            by_silence: is_of_outcome && outcome.device_answered() == Some(false),
            is_partial: is_of_outcome && !outcome.partial.is_empty(),
        }
    }
}

/// What a rule found in a poll beside faults that go on.
#[derive(Default)]
struct Found<'a> {
    /// New ones: the series, and its value.
    begun: Vec<(&'a SeriesKey, f64)>,
    /// Those that are over: of what, and why.
    over: Vec<(Arc<Labels>, String)>,
}

/// A threshold rule, taken apart once per reading.
struct Limit<'a> {
    rule: &'a Rule,
    metric: &'a str,
    comparison: Comparison,
    limit: f64,
    clear: f64,
}

impl Limit<'_> {
    fn of(rule: &Rule) -> Option<Limit<'_>> {
        match &rule.condition {
            Condition::Availability { .. } | Condition::Plugin { .. } => None,
            Condition::Threshold {
                metric,
                comparison,
                limit,
                clear,
                ..
            } => Some(Limit {
                rule,
                metric,
                comparison: *comparison,
                limit: *limit,
                clear: clear.unwrap_or(*limit),
            }),
        }
    }

    /// Judges the rule's `columns`. `open` is what is open of it already.
    fn judge<'a>(
        &self,
        columns: &[usize],
        measured: &Measured<'a>,
        mut open: Option<&mut BTreeMap<Arc<Labels>, Fault>>,
        draft: &mut Draft,
    ) -> Found<'a> {
        let mut found = Found::default();
        for &column in columns {
            let Some(value) = measured.reading.value(column) else {
                continue;
            };
            let key = &measured.reading.row.columns.series()[column];
            let fault = open
                .as_deref_mut()
                .and_then(|open| open.get_mut(&*key.labels));
            let is_bad = self.is_bad(value, fault.as_deref());
            match fault {
                None if is_bad => found.begun.push((key, value)),
                Some(fault) if fault.is_news(measured.at, draft.now) => {
                    if is_bad {
                        self.goes_on(fault, value, key.kind, measured, draft);
                    } else {
                        let why = self.summary_of_end(value, key.kind, fault);
                        found.over.push((Arc::clone(&key.labels), why));
                    }
                }
                None | Some(_) => {}
            }
        }
        let is_answer = !measured.by_silence && measured.check == check_of(self.metric);
        if let Some(open) = open.filter(|_| is_answer) {
            self.look_for_missing(open, measured, &mut found);
        }
        found
    }

    /// The value is beyond the limit once more, or for the first time.
    fn goes_on(
        &self,
        fault: &mut Fault,
        value: f64,
        kind: MetricKind,
        measured: &Measured<'_>,
        draft: &mut Draft,
    ) {
        let was_ripe = is_ripe(fault, self.rule);
        fault.count(measured.at, longest_step(measured.every, 0));
        fault.by_silence = measured.by_silence;
        fault.alert.value = Some(value);
        fault.alert.summary = words::clipped(self.summary(value, kind, fault));
        if fault.is_pending() && !was_ripe {
            draft.keep(fault);
        } else {
            draft.refresh(fault);
        }
    }

    /// Which open faults have been missing from answered polls for too long.
    fn look_for_missing(
        &self,
        open: &mut BTreeMap<Arc<Labels>, Fault>,
        measured: &Measured<'_>,
        found: &mut Found<'_>,
    ) {
        let most = if measured.is_partial {
            MISSED_POLLS_WHILE_PARTIAL
        } else {
            MISSED_POLLS
        };
        for fault in open.values_mut().filter(|f| f.alert.judged != measured.at) {
            fault.missed += 1;
            if fault.missed >= most {
                let series = words::series(self.metric, &fault.alert.labels);
                let why = format!("{series} is no longer measured");
                found.over.push((Arc::clone(&fault.alert.labels), why));
            }
        }
    }

    /// Whether `value` is a fault, given the one that is open already.
    fn is_bad(&self, value: f64, open: Option<&Fault>) -> bool {
        let fires = open.is_some_and(|fault| fault.alert.state == AlertState::Firing);
        let limit = if fires { self.clear } else { self.limit };
        self.comparison.holds(value, limit)
    }

    fn words(&self, value: f64, kind: MetricKind, labels: &Labels) -> String {
        let series = words::series(self.metric, labels);
        format!("{series} is {}", words::value(self.metric, kind, value))
    }

    /// `cpu_usage_ratio is 97 %, above 90 % for 5m`
    fn summary(&self, value: f64, kind: MetricKind, fault: &Fault) -> String {
        let is = self.words(value, kind, &fault.alert.labels);
        let limit = words::value(self.metric, kind, self.limit);
        if !self.comparison.holds(value, self.limit) {
            let clear = words::value(self.metric, kind, self.clear);
            return format!("{is}, not yet back to {clear} after it passed {limit}");
        }
        let compared = words::comparison(self.comparison, &limit);
        let held = fault.alert.judged.since(fault.alert.since);
        if held < Duration::from_secs(1) {
            return format!("{is}, {compared}");
        }
        format!("{is}, {compared} for {}", words::span(held))
    }

    /// `cpu_usage_ratio is 42 %, no longer above 90 %`
    fn summary_of_end(&self, value: f64, kind: MetricKind, fault: &Fault) -> String {
        let is = self.words(value, kind, &fault.alert.labels);
        let limit = words::value(self.metric, kind, self.clear);
        let compared = words::comparison(self.comparison, &limit);
        format!("{is}, no longer {compared}")
    }
}

impl Engine {
    /// Takes in what the poll measured.
    pub(crate) fn judge_values(
        &mut self,
        group: GroupKey,
        outcome: &Outcome,
        reading: &Reading,
        draft: &mut Draft,
    ) {
        let Some(watched) = self.devices.get_mut(&group.device) else {
            return;
        };
        let own = watched.group_mut(group.check);
        let measured = Measured::new(group, outcome, reading, own.every, draft.now);
        if !own.takes_row(measured.at, draft.now) {
            return;
        }
        let plan = self
            .plans
            .find(&reading.row.columns, &self.rules, &mut own.plan);
        for &place in &watched.value_rules {
            let rule = &self.rules[place];
            let Some(limit) = Limit::of(rule) else {
                continue;
            };
            let open = self.faults.of_rule_mut(group.device, &rule.name);
            let found = limit.judge(plan.columns_of(place), &measured, open, draft);
            for (labels, why) in found.over {
                if let Some(fault) = self.faults.remove(group.device, &rule.name, &labels) {
                    draft.end(fault, why);
                }
            }
            for (key, value) in found.begun {
                if self.faults.count(group.device) >= MAX_FAULTS_PER_DEVICE {
                    self.not_opened += 1;
                    continue;
                }
                let id = self.ids.next();
                let mut fault = Fault::begin(id, rule, &watched.device, &key.labels, measured.at);
                limit.goes_on(&mut fault, value, key.kind, &measured, draft);
                self.faults.insert(fault);
            }
        }
    }
}
