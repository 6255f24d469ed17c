//! When to ask: which device is due, and how.
//!
//! Pure: no clock, no sockets. Time is a [`Tick`], the span since the daemon
//! started on a clock that never goes back, so that a wall clock that is set
//! has no effect here. The caller takes what is due with [`Schedule::next`] as
//! long as it has room, says [`Schedule::finished`], and sleeps until
//! [`Schedule::wake`].
//!
//! Promises:
//! - a group (a device and a check) is asked once per interval, at a place in
//!   the interval that a hash of it gives: 10,000 devices are spread evenly, and
//!   each keeps its place;
//! - it is never asked while it is being asked; a turn that comes meanwhile is
//!   skipped and counted;
//! - a device that stays silent is asked less often, within limits, and as
//!   before as soon as it answers;
//! - a new device is asked within [`FIRST_WITHIN`].

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use model::{Check, GroupKey};

/// The span since the daemon started, on a clock that never goes back.
pub type Tick = Duration;

/// A new device's first poll comes this soon. Not at once: an import of 10,000
/// must not be one burst.
pub const FIRST_WITHIN: Duration = Duration::from_secs(3);

/// Silent rounds before the first longer pause: rules that wait for some rounds
/// get them at full speed.
const PATIENT_ROUNDS: u32 = 10;

/// A dead device's ping is delayed to at most this many intervals: its return
/// must be seen soon, and a ping costs next to nothing.
const ICMP_BACKOFF_INTERVALS: u32 = 2;

/// When a group that is new to the schedule is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// Within [`FIRST_WITHIN`]: somebody is waiting to see it.
    Soon,
    /// At its place in the interval: the daemon has just started and knows the
    /// device already.
    InTurn,
}

/// A group to ask now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Whom and how.
    pub group: GroupKey,
    /// How long after its time this is.
    pub lag: Duration,
}

/// What was asked and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Groups in the schedule.
    pub groups: usize,
    /// Due and not taken yet.
    pub due: usize,
    /// Being asked now.
    pub in_flight: usize,
    /// Asked so far.
    pub asked: u64,
    /// Turns skipped because the turn before was still going on.
    pub skipped_busy: u64,
    /// Turns skipped because nobody took them for a whole interval.
    pub skipped_behind: u64,
    /// Groups that are asked less often because they stay silent.
    pub backed_off: usize,
}

/// Every group's turn.
#[derive(Debug)]
pub struct Schedule {
    backoff_max: Duration,
    turns: HashMap<GroupKey, Turn>,
    queue: BTreeSet<(Tick, GroupKey)>,
    /// Kept apart from `turns`, so that a device that is removed and entered
    /// again while it is being asked is not asked twice at a time.
    in_flight: HashSet<GroupKey>,
    stats: Stats,
}

#[derive(Debug)]
struct Turn {
    every: Duration,
    due: Tick,
    silent_rounds: u32,
    /// Asked for while in flight: due again as soon as it is finished.
    again: bool,
}

impl Turn {
    fn is_backed_off(&self) -> bool {
        self.silent_rounds > PATIENT_ROUNDS
    }
}

impl Schedule {
    /// An empty schedule. A silent agent is asked at least every `backoff_max`.
    #[must_use]
    pub fn new(backoff_max: Duration) -> Schedule {
        Schedule {
            backoff_max,
            turns: HashMap::new(),
            queue: BTreeSet::new(),
            in_flight: HashSet::new(),
            stats: Stats::default(),
        }
    }

    /// Changes the longest pause of a silent agent, from its next turn on.
    pub fn set_backoff_max(&mut self, backoff_max: Duration) {
        self.backoff_max = backoff_max;
    }

    /// Asks `group` every `every` from now on. A group that is there already
    /// keeps its turn unless the interval changed.
    pub fn set(&mut self, group: GroupKey, every: Duration, first: First, now: Tick) {
        let every = every.max(Duration::from_millis(1));
        if self
            .turns
            .get(&group)
            .is_some_and(|turn| turn.every == every)
        {
            return;
        }
        self.remove(group);
        let due = match first {
            First::Soon => now + share_of(FIRST_WITHIN.min(every), group),
            First::InTurn => next_turn(group, every, now),
        };
        let turn = Turn {
            every,
            due,
            silent_rounds: 0,
            again: false,
        };
        self.turns.insert(group, turn);
        self.queue.insert((due, group));
    }

    /// Stops asking `group`. One that is being asked now may still finish.
    pub fn remove(&mut self, group: GroupKey) {
        if let Some(turn) = self.turns.remove(&group) {
            self.queue.remove(&(turn.due, group));
            self.stats.backed_off -= usize::from(turn.is_backed_off());
        }
    }

    /// Every group in the schedule, in no order.
    pub fn groups(&self) -> impl Iterator<Item = GroupKey> {
        self.turns.keys().copied()
    }

    /// Makes `group` due now, or as soon as the poll in flight is finished.
    /// Says whether it is in the schedule.
    pub fn poll_now(&mut self, group: GroupKey, now: Tick) -> bool {
        let asked = self.in_flight.contains(&group);
        let Some(turn) = self.turns.get_mut(&group) else {
            return false;
        };
        if asked {
            turn.again = true;
        } else if turn.due > now {
            self.queue.remove(&(turn.due, group));
            turn.due = now;
            self.queue.insert((now, group));
        }
        true
    }

    /// Takes the group that has waited longest, if one is due. The caller asks
    /// it and says [`finished`](Schedule::finished) whatever happens.
    pub fn next(&mut self, now: Tick) -> Option<Ask> {
        loop {
            let (due, group) = *self.queue.first().filter(|(due, _)| *due <= now)?;
            self.queue.remove(&(due, group));
            let busy = self.in_flight.contains(&group);
            let behind = self.take_turn(group, due, now);
            if busy {
                self.stats.skipped_busy += 1;
                continue;
            }
            self.in_flight.insert(group);
            self.stats.asked += 1;
            self.stats.skipped_behind += behind;
            return Some(Ask {
                group,
                lag: now.saturating_sub(due),
            });
        }
    }

    /// Puts `group` at its next turn after `now`; returns how many of its turns
    /// went by untaken.
    fn take_turn(&mut self, group: GroupKey, due: Tick, now: Tick) -> u64 {
        let backoff_max = self.backoff_max;
        let Some(turn) = self.turns.get_mut(&group) else {
            return 0;
        };
        let every = pause(group.check, turn.every, turn.silent_rounds, backoff_max);
        turn.due = next_turn(group, every, now);
        self.queue.insert((turn.due, group));
        let untaken = now.saturating_sub(due).as_millis() / every.as_millis().max(1);
        u64::try_from(untaken).unwrap_or(u64::MAX)
    }

    /// The poll of `group` has ended. `answered` is `None` where the device
    /// could not be asked, which says nothing of it.
    pub fn finished(&mut self, group: GroupKey, answered: Option<bool>, now: Tick) {
        if !self.in_flight.remove(&group) {
            return;
        }
        let backoff_max = self.backoff_max;
        let Some(turn) = self.turns.get_mut(&group) else {
            return;
        };
        self.stats.backed_off -= usize::from(turn.is_backed_off());
        match answered {
            Some(true) => turn.silent_rounds = 0,
            Some(false) => turn.silent_rounds = turn.silent_rounds.saturating_add(1),
            None => {}
        }
        self.stats.backed_off += usize::from(turn.is_backed_off());
        let due = if std::mem::take(&mut turn.again) {
            now
        } else if answered.is_some() {
            // an answer ends a long pause, a further silence may begin one
            let every = pause(group.check, turn.every, turn.silent_rounds, backoff_max);
            next_turn(group, every, turn.due.min(now))
        } else {
            turn.due
        };
        self.queue.remove(&(turn.due, group));
        turn.due = due;
        self.queue.insert((due, group));
    }

    /// When the next group is due.
    #[must_use]
    pub fn wake(&self) -> Option<Tick> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// How long the group that waits longest has been due.
    #[must_use]
    pub fn lag(&self, now: Tick) -> Duration {
        self.wake()
            .map_or(Duration::ZERO, |due| now.saturating_sub(due))
    }

    /// What was asked and what was not.
    #[must_use]
    pub fn stats(&self, now: Tick) -> Stats {
        Stats {
            due: self.queue.iter().take_while(|(due, _)| *due <= now).count(),
            groups: self.turns.len(),
            in_flight: self.in_flight.len(),
            ..self.stats
        }
    }
}

/// The time between two turns: doubled for every silent round after the first
/// [`PATIENT_ROUNDS`], up to the limit.
fn pause(check: Check, every: Duration, silent_rounds: u32, backoff_max: Duration) -> Duration {
    let doublings = silent_rounds.saturating_sub(PATIENT_ROUNDS).min(16);
    let limit = match check {
        Check::Icmp => every * ICMP_BACKOFF_INTERVALS,
        Check::Snmp => backoff_max,
    };
    every.saturating_mul(1 << doublings).min(limit.max(every))
}

/// The first of the group's turns after `now`: its place in every interval.
fn next_turn(group: GroupKey, every: Duration, now: Tick) -> Tick {
    let phase = share_of(every, group);
    let every_ms = every.as_millis().max(1);
    let gone_ms = now.saturating_sub(phase).as_millis();
    let turns = if now < phase {
        0
    } else {
        gone_ms / every_ms + 1
    };
    let after = u64::try_from(turns * every_ms).unwrap_or(u64::MAX);
    phase + Duration::from_millis(after)
}

/// A part of `span` that belongs to `group` alone, always the same.
fn share_of(span: Duration, group: GroupKey) -> Duration {
    let span_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(spread(group) % span_ms)
}

/// SplitMix64's finisher: neighbours in the inventory land far apart.
fn spread(group: GroupKey) -> u64 {
    let check = match group.check {
        Check::Icmp => 1,
        Check::Snmp => 2,
    };
    let mut x = (group.device.0 << 2 | check).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests;
