//! What is remembered of a device that is asked: which rules judge it, and how
//! its latest polls went.

use std::sync::Arc;
use std::time::Duration;

use model::{Check, Condition, Device, Outcome, Rule, Timestamp};

use crate::threshold::{Plan, check_of};

/// How a device is, as far as reaching others through it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not asked yet, or we could not ask.
    Unknown,
    /// It answers.
    Up,
    /// Silent, but not yet for long enough to say so.
    Suspect,
    /// Silent for long enough, and by itself.
    Down,
    /// Silent, and so is every way to it.
    CutOff,
}

impl Standing {
    /// Nothing gets through it.
    pub(crate) fn is_closed(self) -> bool {
        matches!(self, Standing::Down | Standing::CutOff)
    }

    /// It does not answer.
    pub(crate) fn is_silent(self) -> bool {
        self.is_closed() || self == Standing::Suspect
    }
}

/// A poll that said something of the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Poll {
    /// When it began.
    pub(crate) at: Timestamp,
    /// When it was over.
    pub(crate) end: Timestamp,
    /// What it said.
    pub(crate) answered: bool,
}

impl Poll {
    /// What `outcome` says of the device, if anything. It cannot have begun
    /// after `now`: if it says so, the clock was set back meanwhile.
    pub(crate) fn of(outcome: &Outcome, now: Timestamp) -> Option<Poll> {
        let at = outcome.at.min(now);
        outcome.device_answered().map(|answered| Poll {
            at,
            end: at.plus(outcome.took),
            answered,
        })
    }

    /// Whether it began after all of `other`: what it saw is later than
    /// anything `other` saw.
    pub(crate) fn is_after(self, other: Poll) -> bool {
        self.at > other.at && self.at >= other.end
    }
}

/// A group's silence, as evidence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silence {
    /// The first silent round that counts.
    pub(crate) first: Poll,
    /// An open way must be proven by a poll after this silent round: the latest
    /// one, until its fault waits for that proof.
    pub(crate) from: Poll,
    /// When that round was judged: waiting for a proof begins here.
    pub(crate) seen: Timestamp,
    /// Its fault waits for a proof, so `from` stays.
    pub(crate) waits: bool,
    /// Waiting began anew because the clock jumped; once is enough.
    pub(crate) excused: bool,
}

impl Silence {
    /// One more silent round.
    fn goes_on(before: Option<Silence>, poll: Poll, now: Timestamp) -> Silence {
        match before {
            Some(silence) if silence.waits => silence,
            _ => Silence {
                first: before.map_or(poll, |silence| silence.first),
                from: poll,
                seen: now,
                waits: false,
                excused: false,
            },
        }
    }
}

/// One check of one device.
#[derive(Debug)]
pub(crate) struct Group {
    /// Time between two polls.
    pub(crate) every: Duration,
    /// The newest report, whatever it said.
    newest: Option<Timestamp>,
    newest_row: Option<Timestamp>,
    /// The newest poll that said something of the device.
    pub(crate) last: Option<Poll>,
    /// When `last` was judged; at first, when watching began.
    pub(crate) seen: Timestamp,
    /// Evidence; none while it answers, and none while a fresh silent round has
    /// to be waited for.
    pub(crate) silence: Option<Silence>,
    /// Silent rounds that did not begin after this one say nothing any more.
    pub(crate) floor: Option<Poll>,
    /// When a poll was last asked for.
    pub(crate) asked: Option<Timestamp>,
    /// Where the rules' metrics stand in its rows.
    pub(crate) plan: Option<Arc<Plan>>,
}

/// Two requests for polls of one group are at least this far apart when the
/// first was answered: a thousand children must not have their parent pinged
/// without a pause.
const ASK_SPACING: Duration = Duration::from_secs(5);

/// What a poll may take from being asked for to being judged, beside the
/// interval.
const GRACE: Duration = Duration::from_secs(5);

impl Group {
    fn new(every: Duration, now: Timestamp) -> Group {
        Group {
            every,
            newest: None,
            newest_row: None,
            last: None,
            seen: now,
            silence: None,
            floor: None,
            asked: None,
            plan: None,
        }
    }

    /// Whether a report of `at` is news. An older one than the newest is not,
    /// unless the clock itself was set back behind that one.
    pub(crate) fn takes(&mut self, at: Timestamp, now: Timestamp) -> bool {
        is_news(&mut self.newest, at, now)
    }

    /// The same for a row of values, which may come later than its report.
    pub(crate) fn takes_row(&mut self, at: Timestamp, now: Timestamp) -> bool {
        is_news(&mut self.newest_row, at, now)
    }

    /// The device answered: nothing is left of its silence.
    pub(crate) fn heard(&mut self, poll: Poll, now: Timestamp) {
        self.last = Some(poll);
        self.seen = now;
        self.silence = None;
        self.floor = None;
    }

    /// The device was silent; says whether the round counts.
    pub(crate) fn unheard(&mut self, poll: Poll, now: Timestamp) -> bool {
        if self.floor.is_some_and(|floor| !poll.is_after(floor)) {
            return false;
        }
        self.last = Some(poll);
        self.seen = now;
        self.silence = Some(Silence::goes_on(self.silence, poll, now));
        true
    }

    /// Its fault waits for a proof, or no longer.
    pub(crate) fn set_waits(&mut self, waits: bool) {
        if let Some(silence) = &mut self.silence {
            silence.waits = waits;
        }
    }

    /// Only silent rounds after `poll` count from now on. Says whether evidence
    /// was lost, so that a fresh round is wanted.
    pub(crate) fn doubt(&mut self, poll: Poll) -> bool {
        if self.silence.is_some_and(|s| s.from.is_after(poll)) {
            return false;
        }
        self.silence = None;
        if self.floor.is_none_or(|floor| floor.at < poll.at) {
            self.floor = Some(poll);
        }
        true
    }

    /// How long a poll of it is waited for.
    pub(crate) fn patience(&self) -> Duration {
        self.every + GRACE
    }

    /// From when on asking for a poll makes sense; until then one is on its way
    /// or has just been.
    pub(crate) fn next_ask(&self) -> Timestamp {
        match self.asked {
            None => Timestamp(0),
            Some(asked) if self.seen >= asked => asked.plus(ASK_SPACING),
            Some(asked) => asked.plus(self.every),
        }
    }

    /// The clock was set back: nothing measured by it can be compared with what
    /// comes.
    pub(crate) fn forget_times(&mut self, now: Timestamp) {
        if let Some(last) = &mut self.last {
            (last.at, last.end) = (Timestamp(0), Timestamp(0));
        }
        (self.newest, self.newest_row) = (None, None);
        (self.silence, self.floor, self.asked) = (None, None, None);
        self.seen = now;
    }
}

fn is_news(newest: &mut Option<Timestamp>, at: Timestamp, now: Timestamp) -> bool {
    let is_news = newest.is_none_or(|newest| at > newest || now < newest);
    if is_news {
        *newest = Some(at);
    }
    is_news
}

/// The two things a device may be waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wait {
    /// Whether it or something before it is down.
    Main,
    /// Whether it is down, which decides about its other faults.
    Side,
}

impl Wait {
    /// Its place in [`Watched::alarms`].
    pub(crate) fn place(self) -> usize {
        match self {
            Wait::Main => 0,
            Wait::Side => 1,
        }
    }
}

/// A device that is asked.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) device: Arc<Device>,
    groups: [Group; 2],
    /// The check that says whether others are reached through it; `None` if no
    /// availability rule judges it.
    pub(crate) main_check: Option<Check>,
    /// Places in the rules: availability by the main check.
    pub(crate) main_rules: Vec<usize>,
    /// Availability by another check.
    pub(crate) side_rules: Vec<usize>,
    /// Thresholds, and what plugins judge.
    pub(crate) value_rules: Vec<usize>,
    /// How it stood when it was last settled.
    pub(crate) known: Standing,
    /// Whether it answered before it fell silent, as far as that is decided.
    pub(crate) was_up: bool,
    /// When each of its waits ends.
    pub(crate) alarms: [Option<Timestamp>; 2],
}

impl Watched {
    pub(crate) fn new(device: Arc<Device>, now: Timestamp) -> Watched {
        Watched {
            device,
            groups: Check::ALL.map(|_| Group::new(Duration::from_secs(1), now)),
            main_check: None,
            main_rules: Vec::new(),
            side_rules: Vec::new(),
            value_rules: Vec::new(),
            known: Standing::Unknown,
            was_up: false,
            alarms: [None; 2],
        }
    }

    /// Finds out which of `rules` judge the device.
    pub(crate) fn select(&mut self, rules: &[Rule], now: Timestamp) {
        let device = Arc::clone(&self.device);
        self.main_rules.clear();
        self.side_rules.clear();
        self.value_rules.clear();
        let mut available: [Vec<usize>; 2] = Default::default();
        for (place, rule) in rules.iter().enumerate() {
            let check = check_judged(&rule.condition);
            let is_asked = check.is_none_or(|check| device.wants(check));
            if !is_asked || !rule.judges(&device) {
                continue;
            }
            match rule.condition {
                Condition::Availability { check, .. } => available[index(check)].push(place),
                Condition::Threshold { .. } | Condition::Plugin { .. } => {
                    self.value_rules.push(place);
                }
            }
        }
        self.main_check = Check::ALL
            .into_iter()
            .find(|check| !available[index(*check)].is_empty());
        for (check, places) in Check::ALL.into_iter().zip(available) {
            if self.main_check == Some(check) {
                self.main_rules = places;
            } else {
                self.side_rules.extend(places);
            }
        }
        for check in Check::ALL {
            let group = self.group_mut(check);
            group.plan = None;
            if !device.wants(check) {
                *group = Group::new(group.every, now);
            }
        }
    }

    /// Whether the rule at `place` judges it.
    pub(crate) fn is_judged_by(&self, place: usize) -> bool {
        [&self.main_rules, &self.side_rules, &self.value_rules]
            .iter()
            .any(|places| places.contains(&place))
    }

    pub(crate) fn group(&self, check: Check) -> &Group {
        &self.groups[index(check)]
    }

    pub(crate) fn group_mut(&mut self, check: Check) -> &mut Group {
        &mut self.groups[index(check)]
    }

    pub(crate) fn groups_mut(&mut self) -> &mut [Group; 2] {
        &mut self.groups
    }

    /// Whether any check answered when it was last asked.
    pub(crate) fn answers_something(&self) -> bool {
        let answered = |group: &Group| group.last.is_some_and(|poll| poll.answered);
        self.groups.iter().any(answered)
    }

    /// The group of its main check, if it has one.
    pub(crate) fn main_group(&self) -> Option<&Group> {
        self.main_check.map(|check| self.group(check))
    }
}

/// The check that brings what `condition` judges; `None`: whatever there is.
pub(crate) fn check_judged(condition: &Condition) -> Option<Check> {
    match condition {
        Condition::Availability { check, .. } => Some(*check),
        Condition::Threshold { metric, .. } => Some(check_of(metric)),
        Condition::Plugin { .. } => None,
    }
}

fn index(check: Check) -> usize {
    match check {
        Check::Icmp => 0,
        Check::Snmp => 1,
    }
}
