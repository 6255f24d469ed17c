//! Rules that are plugins: each is asked about every device that it is for,
//! every so often and when something happened that it wants to hear of.
//!
//! What it says goes to the judge, which tells people as with any rule. What it
//! wants to remember is kept in the store, one transaction a round. A rule that
//! breaks judges nothing: its alerts stay as they are, and after a few times one
//! alert, of the first device that it could not judge, says that the rule itself
//! is broken.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use contract::{
    Call, Event, Failure, FaultClass, Kind, Octets, PluginError, Reply, RuleInput, RuleStatus,
    RuleTrigger, Series, Verdict,
};
use model::{Alert, Device, DeviceId, RuleName, Timestamp};
use rules::{CANNOT_JUDGE, PluginStatus, PluginVerdict};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::query::Query;
use super::roster::Active;
use super::{Plugins, words};
use crate::clock;

/// Devices that are judged at once.
const AT_ONCE: usize = 8;

/// Judgements in a row that came to nothing before an alert says so.
const BROKEN_AFTER: u32 = 3;

/// Events that a rule is asked about in a minute. Further ones are dropped.
const EVENTS_A_MINUTE: u32 = 600;

/// The same, of one device: one that is noisy does not drown the others.
const EVENTS_OF_A_DEVICE: u32 = 60;

const MINUTE: Duration = Duration::from_secs(60);

/// Between two looks at what is due.
const LOOK: Duration = Duration::from_secs(1);

/// A rule's word on one device.
pub(crate) struct Judged {
    pub(crate) rule: RuleName,
    pub(crate) device: DeviceId,
    pub(crate) word: Word,
}

/// What a rule says.
pub(crate) enum Word {
    /// All that it says of the device.
    Said(Vec<PluginVerdict>),
    /// Nothing, and why. What it said before stays.
    CannotJudge(String),
}

/// Something that a parser saw happen.
pub(crate) struct Happened {
    pub(super) device: DeviceId,
    pub(super) event: Event,
}

/// What is known of each rule.
#[derive(Default)]
struct Book {
    /// When each rule is due again.
    due: HashMap<String, Duration>,
    /// How often in a row a rule could not judge a device.
    failed: HashMap<(String, DeviceId), u32>,
    /// Of which device the alert is that a rule is broken.
    told: HashMap<String, DeviceId>,
    events: Budget,
}

/// How many events each rule was asked about in this minute.
#[derive(Default)]
struct Budget {
    since: Duration,
    by_rule: HashMap<String, u32>,
    by_device: HashMap<(String, DeviceId), u32>,
    dropped: HashMap<String, u64>,
}

/// One judgement.
struct Round {
    active: Arc<Active>,
    device: DeviceId,
    result: Result<contract::RuleOutput, Failure>,
    before: Vec<u8>,
}

impl Plugins {
    /// Judges until told to stop, and brings up meanwhile what did not come up.
    pub(crate) async fn judge(
        self,
        happened: mpsc::Receiver<Happened>,
        judged: mpsc::Sender<Judged>,
        stop: CancellationToken,
    ) {
        tokio::join!(self.judge_until(happened, judged, &stop), self.mend(&stop));
    }

    async fn judge_until(
        &self,
        mut happened: mpsc::Receiver<Happened>,
        judged: mpsc::Sender<Judged>,
        stop: &CancellationToken,
    ) {
        let mut book = Book::default();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = look.tick() => self.judge_due(&mut book, &judged).await,
                Some(event) = happened.recv() => self.judge_event(&mut book, event, &judged).await,
            }
        }
    }

    async fn judge_due(&self, book: &mut Book, judged: &mpsc::Sender<Judged>) {
        let roster = self.roster();
        let now = clock::tick();
        book.due.retain(|name, _| roster.find(name).is_some());
        book.failed
            .retain(|(name, _), _| roster.find(name).is_some());
        book.told.retain(|name, _| roster.find(name).is_some());
        for (name, count) in book.events.turn(now) {
            warn!(plugin = %name, count, "{count} events came faster than {name} may be asked about them; they are dropped");
        }
        let mut open: Option<Vec<Alert>> = None;
        for active in roster.of(Kind::Rule) {
            let Some(described) = active.judges() else {
                continue;
            };
            let every = Duration::from_secs(u64::from(described.interval_s));
            let before = book.due.get(&active.host_name).copied();
            if before.is_some_and(|due| due > now) {
                continue;
            }
            // a round that took long does not make the next ones come at once
            book.due.insert(active.host_name.clone(), now + every);
            let devices = self.devices_of(active);
            let open = open.get_or_insert_with(|| self.inner.store.open_alerts());
            if before.is_none() {
                book.remember(active, open);
            }
            for word in book.no_longer_for(active, &devices, open) {
                if judged.send(word).await.is_err() {
                    return;
                }
            }
            self.judge_all(book, active, devices, None, judged).await;
        }
    }

    async fn judge_event(
        &self,
        book: &mut Book,
        happened: Happened,
        judged: &mpsc::Sender<Judged>,
    ) {
        let roster = self.roster();
        for active in roster.of(Kind::Rule) {
            let wants = active
                .judges()
                .is_some_and(|described| described.events.contains(&happened.event.kind));
            if !wants {
                continue;
            }
            let inventory = self.inner.store.inventory();
            let device = inventory.device(happened.device).cloned();
            let Some(device) = device.filter(|device| self.is_judged(active, device)) else {
                continue;
            };
            if book.events.allows(&active.host_name, device.id) {
                let event = Some(happened.event.clone());
                self.judge_all(book, active, vec![device], event, judged)
                    .await;
            }
        }
    }

    /// The devices that `active` is for.
    pub(super) fn devices_of(&self, active: &Active) -> Vec<Arc<Device>> {
        let inventory = self.inner.store.inventory();
        let all = inventory.live();
        all.filter(|device| self.is_judged(active, device))
            .cloned()
            .collect()
    }

    fn is_judged(&self, active: &Active, device: &Device) -> bool {
        device.deleted.is_none() && device.is_watched() && {
            let facts = self.inner.store.facts(device.id);
            active.is_for(device.id, &words::About::of(device, facts.as_deref()))
        }
    }

    async fn judge_all(
        &self,
        book: &mut Book,
        active: &Arc<Active>,
        devices: Vec<Arc<Device>>,
        event: Option<Event>,
        judged: &mpsc::Sender<Judged>,
    ) {
        let mut going = JoinSet::new();
        let mut states = Vec::new();
        let mut devices = devices.into_iter();
        loop {
            while going.len() < AT_ONCE
                && let Some(device) = devices.next()
            {
                let (plugins, active) = (self.clone(), Arc::clone(active));
                let event = event.clone();
                going.spawn(async move { plugins.judge_one(active, &device, event).await });
            }
            let Some(round) = going.join_next().await else {
                break;
            };
            let Ok(round) = round else {
                continue;
            };
            if let Ok(output) = &round.result
                && output.state.0 != round.before
                && round.active.only.is_none()
            {
                let state = output.state.0.clone();
                states.push((round.active.host_name.clone(), round.device, state));
            }
            if let Some(word) = take(book, round)
                && judged.send(word).await.is_err()
            {
                return;
            }
        }
        if let Err(why) = self.keep_states(states).await {
            warn!(plugin = %active.host_name, error = %why, "what a rule wants to remember cannot be kept now: {why}");
        }
    }

    async fn judge_one(&self, active: Arc<Active>, device: &Device, event: Option<Event>) -> Round {
        let before = self.state(&active, device.id);
        let trigger = match event {
            Some(event) => Ok(RuleTrigger::Event(event)),
            None => self.windows(&active, device.id).await,
        };
        let result = match trigger {
            Ok(trigger) => {
                let ask = self.evaluation(&active, device, trigger, before.clone());
                match self.call(&active, ask).await {
                    Ok(Reply::Verdicts(output)) => Ok(output),
                    Ok(_) => Err(PluginError::Internal("it answered something else".into()).into()),
                    Err(failure) => Err(failure),
                }
            }
            Err(why) => Err(PluginError::Unavailable(why).into()),
        };
        Round {
            active,
            device: device.id,
            result,
            before,
        }
    }

    /// The question to a rule about `device`.
    pub(super) fn evaluation(
        &self,
        active: &Active,
        device: &Device,
        trigger: RuleTrigger,
        state: Vec<u8>,
    ) -> Call {
        Call::Evaluate(RuleInput {
            rule_id: active.host_name.clone(),
            device: Some(self.seen(device)),
            at: clock::now().into(),
            trigger,
            state: Octets(state),
        })
    }

    pub(super) async fn windows(
        &self,
        active: &Active,
        device: DeviceId,
    ) -> Result<RuleTrigger, String> {
        let described = active.judges().cloned().unwrap_or_default();
        let (store, granted) = (self.inner.store.clone(), active.granted.clone());
        let now = clock::now();
        let read = move || -> Result<Vec<(String, Vec<Series>)>, contract::QueryError> {
            let windows = described.selectors.iter().map(|selector| {
                let query = Query::read(&selector.query, &granted)?;
                let from = now.minus(Duration::from_secs(u64::from(selector.window_s)));
                let step = Duration::from_secs(u64::from(selector.step_s));
                let until = Timestamp(now.0 + 1);
                let series = query.run(&store, Some(device), (from, until), step)?;
                Ok((selector.name.clone(), series))
            });
            windows.collect()
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(windows)) => Ok(RuleTrigger::Window(windows)),
            Ok(Err(why)) => Err(format!("{why:?}")),
            Err(_panicked) => Err("reading its series ended by a defect".to_owned()),
        }
    }
}

impl Book {
    /// Of which device it was said before a restart that the rule is broken.
    fn remember(&mut self, active: &Active, open: &[Alert]) {
        let rule = active.rule();
        let told = open.iter().find(|alert| {
            alert.rule == rule && alert.labels.iter().any(|(_, key)| key == CANNOT_JUDGE)
        });
        if let Some(alert) = told {
            self.told.insert(active.host_name.clone(), alert.device);
        }
    }

    /// What ends the alerts of devices that a rule judged and is not for any
    /// more.
    fn no_longer_for(
        &mut self,
        active: &Active,
        devices: &[Arc<Device>],
        open: &[Alert],
    ) -> Vec<Judged> {
        let rule = active.rule();
        let devices: HashSet<DeviceId> = devices.iter().map(|device| device.id).collect();
        self.failed
            .retain(|(name, device), _| *name != active.host_name || devices.contains(device));
        self.told
            .retain(|name, device| *name != active.host_name || devices.contains(device));
        let of_rule = open.iter().filter(|alert| alert.rule == rule);
        let gone = of_rule.filter(|alert| !devices.contains(&alert.device));
        let gone: BTreeSet<DeviceId> = gone.map(|alert| alert.device).collect();
        let words = gone.into_iter().map(|device| Judged {
            rule: rule.clone(),
            device,
            word: Word::Said(Vec::new()),
        });
        words.collect()
    }

    /// A device was judged.
    fn well(&mut self, name: &str, device: DeviceId) {
        self.failed.remove(&(name.to_owned(), device));
        if self.told.get(name) == Some(&device) {
            self.told.remove(name);
        }
    }

    /// A device could not be judged. Whether to say so: of one device alone, a
    /// rule that is broken is one fault and not one for each device.
    fn fails(&mut self, name: &str, device: DeviceId) -> bool {
        let failed = self.failed.entry((name.to_owned(), device)).or_default();
        *failed = failed.saturating_add(1);
        *failed >= BROKEN_AFTER && *self.told.entry(name.to_owned()).or_insert(device) == device
    }
}

impl Budget {
    /// Whether the rule may be asked about one more event of `device`.
    fn allows(&mut self, rule: &str, device: DeviceId) -> bool {
        let of_device = self.by_device.entry((rule.to_owned(), device)).or_default();
        let of_rule = self.by_rule.entry(rule.to_owned()).or_default();
        let may = *of_device < EVENTS_OF_A_DEVICE && *of_rule < EVENTS_A_MINUTE;
        if may {
            *of_device += 1;
            *of_rule += 1;
        } else {
            *self.dropped.entry(rule.to_owned()).or_default() += 1;
        }
        may
    }

    /// Begins a new minute, if the last one is over: how many events were
    /// dropped in it, by rule.
    fn turn(&mut self, now: Duration) -> HashMap<String, u64> {
        if now.saturating_sub(self.since) < MINUTE {
            return HashMap::new();
        }
        let last = std::mem::take(self);
        self.since = now;
        last.dropped
    }
}

/// Whether a rule that could not judge is broken: not if it was not asked.
fn counts(failure: &Failure) -> bool {
    let Failure::Fault(fault) = failure else {
        return true;
    };
    !matches!(
        fault.class,
        FaultClass::Busy | FaultClass::HostDied | FaultClass::Paused
    )
}

/// What the judge is told about a judgement, if anything.
fn take(book: &mut Book, round: Round) -> Option<Judged> {
    let (name, device) = (&round.active.host_name, round.device);
    let word = match round.result {
        Ok(output) => {
            book.well(name, device);
            Word::Said(output.verdicts.into_iter().map(verdict).collect())
        }
        Err(Failure::Said(PluginError::NotMine(_))) => {
            book.well(name, device);
            Word::Said(Vec::new())
        }
        Err(failure) => {
            debug!(plugin = %name, %device, %failure, "a rule could not judge");
            let is_known = book.told.contains_key(name);
            if !counts(&failure) || !book.fails(name, device) {
                return None;
            }
            let why = words::safe(&failure.to_string());
            if !is_known {
                warn!(plugin = %name, %device, "a rule cannot judge: {why}");
            }
            Word::CannotJudge(format!("the rule cannot judge: {why}"))
        }
    };
    Some(Judged {
        rule: round.active.rule(),
        device,
        word,
    })
}

fn verdict(verdict: Verdict) -> PluginVerdict {
    let value = verdict.attrs.iter().find(|(name, _)| name == "value");
    PluginVerdict {
        key: words::safe(&verdict.key),
        status: match verdict.status {
            RuleStatus::Ok => PluginStatus::Ok,
            RuleStatus::Pending => PluginStatus::Pending,
            RuleStatus::Firing => PluginStatus::Firing,
            RuleStatus::Unknown => PluginStatus::Unknown,
        },
        severity: verdict.severity.into(),
        summary: words::safe(&verdict.summary),
        value: value.and_then(|(_, value)| value.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_is_broken_is_said_once_and_of_another_device_when_the_first_is_well() {
        let mut book = Book::default();
        let (first, second) = (DeviceId(1), DeviceId(2));
        let mut said = Vec::new();
        for _ in 0..4 {
            said.push((book.fails("flaps", first), book.fails("flaps", second)));
        }
        let expected = [(false, false), (false, false), (true, false), (true, false)];
        assert_eq!(said, expected);
        book.well("flaps", first);
        assert!(book.fails("flaps", second));
        assert!(!book.fails("flaps", first), "it begins to count anew");
    }

    #[test]
    fn a_rule_that_was_not_asked_is_not_broken() {
        for class in FaultClass::ALL {
            let not_asked = ["busy", "host_died", "paused"];
            let fault = contract::Fault::new(class, "so it is");
            let word = Failure::from(fault.clone()).word();
            assert_eq!(counts(&fault.into()), !not_asked.contains(&word), "{word}");
        }
    }

    #[test]
    fn a_noisy_device_does_not_take_the_events_of_others_and_what_is_dropped_is_counted() {
        let mut events = Budget::default();
        let asked = (0..100).filter(|_| events.allows("flaps", DeviceId(1)));
        assert_eq!(asked.count(), EVENTS_OF_A_DEVICE as usize);
        assert!(events.allows("flaps", DeviceId(2)));
        assert!(events.turn(Duration::from_secs(59)).is_empty());
        let dropped = events.turn(MINUTE);
        assert_eq!(dropped, HashMap::from([("flaps".to_owned(), 40)]));
        assert!(events.allows("flaps", DeviceId(1)), "a new minute");
        let many = (2..2_000).filter(|id| events.allows("flaps", DeviceId(*id)));
        assert_eq!(many.count(), EVENTS_A_MINUTE as usize - 1);
        assert!(events.allows("other", DeviceId(1)));
    }
}
