//! Judging whether a device answers.

use std::time::Duration;

use model::{
    Check, Condition, DeviceId, DownAfter, Failure, FailureKind, GroupKey, Labels, Outcome, Rule,
};

use crate::engine::Engine;
use crate::fault::Fault;
use crate::verdict::Draft;
use crate::watched::{Poll, Watched};
use crate::words;

/// A device that has been silent for more rounds than this is asked less often.
const PATIENT_ROUNDS: u32 = 10;

/// A poll's share of how long a condition has held, in intervals: one, and one
/// poll may be lost.
const CREDIT_INTERVALS: u32 = 2;

/// The same for a device that is asked less often.
const PATIENT_CREDIT_INTERVALS: u32 = 10;

/// The most that one poll adds to how long a condition has held.
pub(crate) fn longest_step(every: Duration, rounds: u32) -> Duration {
    if rounds > PATIENT_ROUNDS {
        every * PATIENT_CREDIT_INTERVALS
    } else {
        every * CREDIT_INTERVALS
    }
}

/// Whether a pending fault has gone on for long enough to be told.
pub(crate) fn is_ripe(fault: &Fault, rule: &Rule) -> bool {
    let alert = &fault.alert;
    let span = alert.judged.since(alert.since);
    fault.is_pending()
        && alert.rounds > 0
        && match &rule.condition {
            Condition::Availability { after, .. } => match after {
                DownAfter::Rounds(rounds) => alert.rounds >= *rounds,
                DownAfter::Span(long) => span >= *long,
            },
            Condition::Threshold { hold, .. } => span >= *hold,
            Condition::Plugin { .. } => true,
        }
}

impl Engine {
    /// Takes in whether the device answered. Says whether that is news.
    pub(crate) fn judge_answer(
        &mut self,
        group: GroupKey,
        outcome: &Outcome,
        draft: &mut Draft,
    ) -> bool {
        let Some(poll) = Poll::of(outcome, draft.now) else {
            return false;
        };
        match &outcome.failure {
            None => self.heard(group, poll, draft),
            Some(failure) => self.unheard(group, poll, failure, draft),
        }
        true
    }

    fn heard(&mut self, group: GroupKey, poll: Poll, draft: &mut Draft) {
        let Some(watched) = self.devices.get_mut(&group.device) else {
            return;
        };
        watched.group_mut(group.check).heard(poll, draft.now);
        if !self.faults.has(group.device) {
            return;
        }
        for &place in availability_rules(watched, group.check) {
            let rule = &self.rules[place];
            let over = self
                .faults
                .remove(group.device, &rule.name, &Labels::default());
            if let Some(fault) = over {
                let silent_for = words::span(poll.at.since(fault.alert.since));
                let check = name_of(group.check);
                draft.end(fault, format!("answers {check} again after {silent_for}"));
            }
        }
    }

    fn unheard(&mut self, group: GroupKey, poll: Poll, failure: &Failure, draft: &mut Draft) {
        let Some(watched) = self.devices.get_mut(&group.device) else {
            return;
        };
        if !watched.group_mut(group.check).unheard(poll, draft.now) {
            return;
        }
        let every = watched.group(group.check).every;
        for &place in availability_rules(watched, group.check) {
            let rule = &self.rules[place];
            if self.faults.whole(group.device, &rule.name).is_none() {
                let id = self.ids.next();
                let labels = Default::default();
                self.faults
                    .insert(Fault::begin(id, rule, &watched.device, &labels, poll.at));
            }
            if let Some(fault) = self.faults.whole_mut(group.device, &rule.name) {
                count_round(fault, rule, group.check, poll, every, failure, draft);
            }
        }
    }

    /// Whether a rule of the device's main check has not decided yet whose
    /// fault its silence is.
    pub(crate) fn is_undecided(&self, device: DeviceId) -> bool {
        self.faults.has(device)
            && self.devices.get(&device).is_some_and(|watched| {
                watched.main_rules.iter().any(|&place| {
                    self.faults
                        .whole(device, &self.rules[place].name)
                        .is_some_and(Fault::is_undecided)
                })
            })
    }
}

fn availability_rules(watched: &Watched, check: Check) -> &[usize] {
    if watched.main_check == Some(check) {
        &watched.main_rules
    } else {
        // there are two checks, so all of these are of the other one
        &watched.side_rules
    }
}

fn count_round(
    fault: &mut Fault,
    rule: &Rule,
    check: Check,
    poll: Poll,
    every: Duration,
    failure: &Failure,
    draft: &mut Draft,
) {
    if !fault.is_news(poll.at, draft.now) {
        return;
    }
    let was_ripe = is_ripe(fault, rule);
    fault.count(poll.at, longest_step(every, fault.alert.rounds));
    fault.by_silence = true;
    if fault.is_pending() || fault.alert.told {
        fault.alert.summary = words::clipped(summary(fault, check, failure));
    }
    if fault.is_pending() && !was_ripe {
        draft.keep(fault);
    } else {
        draft.refresh(fault);
    }
}

/// `no answer to 3 rounds of ICMP since 03:00:10Z: …`
fn summary(fault: &Fault, check: Check, failure: &Failure) -> String {
    let alert = &fault.alert;
    let what = match failure.kind {
        FailureKind::Protocol | FailureKind::Refused => "no usable answer",
        FailureKind::Timeout
        | FailureKind::Unreachable
        | FailureKind::Permission
        | FailureKind::Resolution
        | FailureKind::Local => "no answer",
    };
    let rounds = alert.rounds;
    let plural = if rounds == 1 { "" } else { "s" };
    let since = words::moment(alert.since, alert.judged);
    let why = match failure.text.as_str() {
        "" => String::new(),
        text => format!(": {text}"),
    };
    format!(
        "{what} to {rounds} round{plural} of {} since {since}{why}",
        name_of(check)
    )
}

/// As people write it.
pub(crate) fn name_of(check: Check) -> &'static str {
    match check {
        Check::Icmp => "ICMP",
        Check::Snmp => "SNMP",
    }
}
