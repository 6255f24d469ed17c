//! Deciding whose fault a silence is: the device's own, or that of something on
//! every way to it. The rules are in the crate's documentation.

use model::{AlertState, DeviceId, GroupKey, Timestamp};

use crate::availability::is_ripe;
use crate::engine::Engine;
use crate::fault::Fault;
use crate::verdict::Draft;
use crate::watched::{Poll, Silence, Standing, Wait};
use crate::words;

/// What a device's silence turned out to be.
pub(crate) enum Decision {
    /// Its own fault.
    Alone,
    /// The fault of these, which are down.
    Behind(Vec<DeviceId>),
    /// Not known yet; look again then, or when something is heard.
    Wait(Option<Timestamp>),
}

/// What is known of one way to a device.
pub(crate) enum Way {
    /// Something got through it after the device fell silent.
    Open,
    /// Nothing gets through it.
    Closed,
    /// Not known yet; look again then.
    Unproven(Timestamp),
    /// Waited for, and nothing was learnt.
    Unknown,
}

/// How settling one device changed it.
#[derive(Default)]
struct Change {
    /// It stands otherwise, or behind others.
    stands_otherwise: bool,
    /// It answered after it had been silent: the answer.
    returned: Option<Poll>,
}

impl Engine {
    /// Decides what is to be decided of `first`, of which something was heard,
    /// and then of everything below it whose case that changes.
    ///
    /// Ends because the topology has no circles: what changes below a device
    /// changes nothing above it.
    pub(crate) fn settle(&mut self, first: DeviceId, draft: &mut Draft) {
        let mut work = vec![first];
        // an answer is news for those below even if the device stands as before
        let mut is_news = true;
        while let Some(device) = work.pop() {
            let change = self.settle_one(device, draft);
            if !change.stands_otherwise && !std::mem::take(&mut is_news) {
                continue;
            }
            is_news = false;
            for child in self.undecided_children(device) {
                if let Some(answer) = change.returned {
                    self.doubt(child, answer, draft);
                }
                work.push(child);
            }
        }
    }

    /// Whether a poll of `device` by its main check, well or not, could matter
    /// to anything that is open.
    pub(crate) fn concerns_an_open_fault(&self, device: DeviceId) -> bool {
        if self.faults.is_empty() {
            return false;
        }
        let children = self.topology.children(device);
        self.faults.has(device) || children.iter().any(|child| self.faults.has(*child))
    }

    fn undecided_children(&self, device: DeviceId) -> Vec<DeviceId> {
        let children = self.topology.children(device).iter().copied();
        children.filter(|child| self.is_undecided(*child)).collect()
    }

    fn settle_one(&mut self, device: DeviceId, draft: &mut Draft) -> Change {
        let (alarm, moved) = self.decide_main(device, draft);
        self.set_alarm(device, Wait::Main, alarm);

        let after = self.standing(device);
        let Some(watched) = self.devices.get_mut(&device) else {
            return Change::default();
        };
        let before = std::mem::replace(&mut watched.known, after);
        match after {
            Standing::Up => watched.was_up = true,
            Standing::Down | Standing::CutOff => watched.was_up = false,
            Standing::Suspect | Standing::Unknown => {}
        }
        let returned = (before.is_silent() && after == Standing::Up)
            .then(|| watched.main_group().and_then(|group| group.last))
            .flatten();
        if let Some(answer) = returned {
            self.doubt_side_faults(device, before, answer, draft);
        }
        self.settle_side(device, draft);
        Change {
            stands_otherwise: moved || before != after,
            returned,
        }
    }

    /// How `device` stands by its latest poll and its alerts.
    pub(crate) fn standing(&self, device: DeviceId) -> Standing {
        let Some(watched) = self.devices.get(&device) else {
            return Standing::Unknown;
        };
        let last = watched.main_group().and_then(|group| group.last);
        let mut standing = match last {
            None => Standing::Unknown,
            Some(poll) if poll.answered => Standing::Up,
            Some(_) => Standing::Suspect,
        };
        if !self.faults.has(device) {
            return standing;
        }
        for &place in &watched.main_rules {
            let fault = self.faults.whole(device, &self.rules[place].name);
            match fault.map(|fault| &fault.alert.state) {
                Some(AlertState::Firing) => return Standing::Down,
                Some(AlertState::Unreachable { .. }) => standing = Standing::CutOff,
                Some(AlertState::Pending) if standing == Standing::Unknown => {
                    standing = Standing::Suspect;
                }
                Some(AlertState::Pending | AlertState::Resolved) | None => {}
            }
        }
        standing
    }

    /// How `device` stood when it was last settled.
    fn known(&self, device: DeviceId) -> Standing {
        self.devices
            .get(&device)
            .map_or(Standing::Unknown, |watched| watched.known)
    }

    /// Moves the device's undecided alerts of its main check. Returns when to
    /// look again, and whether one of them is behind others now or no longer.
    fn decide_main(&mut self, device: DeviceId, draft: &mut Draft) -> (Option<Timestamp>, bool) {
        if !self.is_undecided(device) {
            return (None, false);
        }
        let is_ripe = self.has_ripe_main(device);
        let decision = self.decide(device, is_ripe, draft);
        let waits = is_ripe && matches!(decision, Decision::Wait(_));
        self.set_waits(device, waits);
        match decision {
            Decision::Behind(behind) => (None, self.cut_off(device, &behind, draft)),
            Decision::Alone => {
                let released = self.release(device, draft);
                self.fire_main(device, draft);
                (None, released)
            }
            Decision::Wait(until) => {
                let released = self.release(device, draft);
                (until.filter(|_| waits), released)
            }
        }
    }

    fn set_waits(&mut self, device: DeviceId, waits: bool) {
        if let Some(watched) = self.devices.get_mut(&device)
            && let Some(check) = watched.main_check
        {
            watched.group_mut(check).set_waits(waits);
        }
    }

    fn decide(&mut self, device: DeviceId, is_ripe: bool, draft: &mut Draft) -> Decision {
        let parents = self.topology.parents(device).to_vec();
        if parents.is_empty() {
            return Decision::Alone;
        }
        if parents.iter().all(|parent| self.known(*parent).is_closed()) {
            let behind = self.topology.behind(device, |other| self.known(other));
            if !behind.is_empty() {
                return Decision::Behind(behind);
            }
        }
        let main = self.devices.get(&device).and_then(|w| w.main_group());
        let Some(silence) = main.and_then(|group| group.silence) else {
            return Decision::Wait(None);
        };
        if parents.iter().any(|p| self.was_heard(*p, silence.from)) {
            return Decision::Alone;
        }
        let mut until = None;
        for parent in parents {
            if let Way::Unproven(then) = self.look_at_way(parent, silence, is_ripe, draft) {
                until = Some(until.map_or(then, |until: Timestamp| until.min(then)));
            }
        }
        match until {
            Some(_) => Decision::Wait(until),
            None => Decision::Alone,
        }
    }

    /// Whether `device` was heard after `poll`, and is not silent by now.
    fn was_heard(&self, device: DeviceId, poll: Poll) -> bool {
        let Some(watched) = self.devices.get(&device) else {
            return false;
        };
        let last = watched.main_group().and_then(|group| group.last);
        watched.known == Standing::Up
            && last.is_some_and(|last| last.answered && last.is_after(poll))
    }

    /// What is known of the way through `through`. Asks for a poll of it if that
    /// would help: for a fault that is ripe, and for one that just began, so
    /// that what is broken before it is seen early.
    pub(crate) fn look_at_way(
        &mut self,
        through: DeviceId,
        silence: Silence,
        is_ripe: bool,
        draft: &mut Draft,
    ) -> Way {
        let standing = self.known(through);
        if standing.is_closed() {
            return Way::Closed;
        }
        if self.was_heard(through, silence.from) {
            return Way::Open;
        }
        let is_wanted = is_ripe || !self.was_heard(through, silence.first);
        let Some(watched) = self.devices.get_mut(&through) else {
            return Way::Unknown;
        };
        let Some(check) = watched.main_check else {
            return Way::Unknown;
        };
        let group = watched.group_mut(check);
        // one that is silent is being asked in its turn; only if that does not
        // happen it is asked for, and then waited for as long again
        let (ask_from, until) = if standing == Standing::Suspect {
            let overdue = silence.seen.max(group.seen).plus(group.patience());
            (overdue, overdue.plus(group.patience()))
        } else {
            (silence.seen, silence.seen.plus(group.patience()))
        };
        if draft.now >= until {
            return Way::Unknown;
        }
        let ask_from = ask_from.max(group.next_ask());
        if draft.now < ask_from || !is_wanted {
            return Way::Unproven(ask_from.max(draft.now).min(until));
        }
        group.asked = Some(draft.now);
        draft.probe(GroupKey {
            device: through,
            check,
        });
        Way::Unproven(until.min(group.next_ask()))
    }

    /// Lists the device's undecided alerts under those of `behind`. Says whether
    /// that is new.
    fn cut_off(&mut self, device: DeviceId, behind: &[DeviceId], draft: &mut Draft) -> bool {
        let names: Vec<&str> = behind
            .iter()
            .filter_map(|id| self.devices.get(id))
            .map(|watched| watched.device.name.as_str())
            .collect();
        let names = words::names(&names);
        let mut is_new = false;
        let Some(watched) = self.devices.get(&device) else {
            return false;
        };
        for &place in &watched.main_rules {
            let fault = self.faults.whole_mut(device, &self.rules[place].name);
            let Some(fault) = fault.filter(|fault| fault.is_undecided()) else {
                continue;
            };
            let is_known = matches!(
                &fault.alert.state,
                AlertState::Unreachable { behind: known } if known == behind
            );
            if !is_known {
                draft.cut_off(fault, behind, &names);
                is_new = true;
            }
        }
        is_new
    }

    /// What was behind others no longer is: its own rounds start anew, after
    /// the answer of whatever is back. Says whether anything was.
    fn release(&mut self, device: DeviceId, draft: &mut Draft) -> bool {
        let mut released = false;
        let Some(watched) = self.devices.get(&device) else {
            return false;
        };
        for &place in &watched.main_rules {
            let fault = self.faults.whole_mut(device, &self.rules[place].name);
            let unreachable = |fault: &&mut Fault| fault.is_undecided() && !fault.is_pending();
            if let Some(fault) = fault.filter(unreachable) {
                draft.release(fault);
                released = true;
            }
        }
        if released {
            self.await_fresh_rounds(device, draft);
        }
        released
    }

    /// Only rounds after the latest answer of a parent count for `device`. Asks
    /// it at once if a way to it may be open.
    fn await_fresh_rounds(&mut self, device: DeviceId, draft: &mut Draft) {
        let parents = self.topology.parents(device);
        let answer = parents
            .iter()
            .filter(|parent| self.known(**parent) == Standing::Up)
            .filter_map(|parent| self.devices.get(parent)?.main_group()?.last)
            .max_by_key(|poll| poll.at);
        let may_be_open = parents.is_empty() || answer.is_some();
        let Some(watched) = self.devices.get_mut(&device) else {
            return;
        };
        let Some(check) = watched.main_check else {
            return;
        };
        let group = watched.group_mut(check);
        group.silence = None;
        group.floor = answer;
        if may_be_open {
            group.asked = Some(draft.now);
            draft.probe(GroupKey { device, check });
        }
    }

    /// A parent of `device` is back with `answer`: a silence that began before
    /// it proves nothing, so `device` is asked again.
    fn doubt(&mut self, device: DeviceId, answer: Poll, draft: &mut Draft) {
        if self.known(device) != Standing::Suspect {
            return;
        }
        let Some(watched) = self.devices.get_mut(&device) else {
            return;
        };
        let Some(check) = watched.main_check else {
            return;
        };
        if watched.group_mut(check).doubt(answer) {
            watched.group_mut(check).asked = Some(draft.now);
            draft.probe(GroupKey { device, check });
        }
    }

    fn has_ripe_main(&self, device: DeviceId) -> bool {
        let Some(watched) = self.devices.get(&device) else {
            return false;
        };
        watched.main_rules.iter().any(|&place| {
            let rule = &self.rules[place];
            let fault = self.faults.whole(device, &rule.name);
            fault.is_some_and(|fault| is_ripe(fault, rule))
        })
    }

    fn fire_main(&mut self, device: DeviceId, draft: &mut Draft) {
        if !draft.may_fire || !self.has_ripe_main(device) {
            return;
        }
        let cuts_off = self.cut_off_by(device);
        let Some(watched) = self.devices.get(&device) else {
            return;
        };
        for &place in &watched.main_rules {
            let rule = &self.rules[place];
            let fault = self.faults.whole_mut(device, &rule.name);
            if let Some(fault) = fault.filter(|fault| is_ripe(fault, rule)) {
                draft.fire(fault, cuts_off.clone());
            }
        }
    }

    /// What has no way up if `device` is down, less those that were heard since
    /// it fell silent.
    fn cut_off_by(&self, device: DeviceId) -> Vec<DeviceId> {
        let silence = self
            .devices
            .get(&device)
            .and_then(|watched| watched.main_group()?.silence);
        let was_heard = |other| silence.is_some_and(|s| self.was_heard(other, s.first));
        self.topology.cut_off_by(
            device,
            |other| self.known(other).is_closed(),
            |other| self.known(other) == Standing::Down || was_heard(other),
        )
    }
}
