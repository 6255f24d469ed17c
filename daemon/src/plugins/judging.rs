//! Rules that are plugins: each is asked about every device that it is for,
//! every so often and when something happened that it wants to hear of.
//!
//! What it says goes to the judge, which tells people as with any rule. What it
//! wants to remember is kept in the store, one transaction a round. A rule that
//! breaks judges nothing: its alerts stay as they are, and after a few times an
//! alert says that the rule itself is broken.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use contract::{
    Call, Event, Failure, Kind, Octets, PluginError, Reply, RuleInput, RuleStatus, RuleTrigger,
    Series, Verdict,
};
use model::{Device, DeviceId, RuleName, Timestamp};
use rules::{PluginStatus, PluginVerdict};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
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

/// The key of the alert that a rule is broken.
const BROKEN: &str = "plugin-broken";

/// Between two looks at what is due.
const LOOK: Duration = Duration::from_secs(1);

/// A rule's word on one device.
pub(crate) struct Judged {
    pub(crate) rule: RuleName,
    pub(crate) device: DeviceId,
    pub(crate) verdicts: Vec<PluginVerdict>,
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
    /// What each rule said last of each device.
    said: HashMap<(String, DeviceId), Vec<PluginVerdict>>,
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
        tokio::join!(
            self.judge_until(happened, judged, &stop),
            self.mend(&stop)
        );
    }

    async fn judge_until(
        &self,
        mut happened: mpsc::Receiver<Happened>,
        judged: mpsc::Sender<Judged>,
        stop: &CancellationToken,
    ) {
        let mut book = Book::default();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => self.judge_due(&mut book, &judged).await,
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
        book.said.retain(|(name, _), _| roster.find(name).is_some());
        for active in roster.of(Kind::Rule) {
            let Some(described) = active.judges() else {
                continue;
            };
            let every = Duration::from_secs(u64::from(described.interval_s));
            let due = book.due.entry(active.host_name.clone()).or_insert(now);
            if *due > now {
                continue;
            }
            // a round that took long does not make the next ones come at once
            *due = now + every;
            let devices = self.devices_of(active);
            for word in book.no_longer_for(active, &devices) {
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
            let devices = self.devices_of(active).into_iter();
            let device: Vec<_> = devices.filter(|d| d.id == happened.device).collect();
            if wants && !device.is_empty() {
                let event = Some(happened.event.clone());
                self.judge_all(book, active, device, event, judged).await;
            }
        }
    }

    /// The devices that `active` is for.
    pub(super) fn devices_of(&self, active: &Active) -> Vec<Arc<Device>> {
        let inventory = self.inner.store.inventory();
        let watched = inventory.live().filter(|device| device.is_watched());
        watched
            .filter(|device| {
                let facts = self.inner.store.facts(device.id);
                active.is_for(device.id, &words::About::of(device, facts.as_deref()))
            })
            .cloned()
            .collect()
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
                let input = RuleInput {
                    rule_id: active.host_name.clone(),
                    device: Some(self.seen(device)),
                    at: clock::now().into(),
                    trigger,
                    state: Octets(before.clone()),
                };
                match self.call(&active, Call::Evaluate(input)).await {
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
    /// What ends the alerts of devices that a rule judged and is not for any
    /// more.
    fn no_longer_for(&mut self, active: &Active, devices: &[Arc<Device>]) -> Vec<Judged> {
        let is_gone = |key: &(String, DeviceId)| {
            key.0 == active.host_name && !devices.iter().any(|device| device.id == key.1)
        };
        let gone: Vec<_> = self
            .said
            .keys()
            .filter(|key| is_gone(key))
            .cloned()
            .collect();
        let words = gone.into_iter().map(|key| {
            self.said.remove(&key);
            self.failed.remove(&key);
            Judged {
                rule: active.rule(),
                device: key.1,
                verdicts: Vec::new(),
            }
        });
        words.collect()
    }
}

/// What the judge is told about a judgement, if anything.
fn take(book: &mut Book, round: Round) -> Option<Judged> {
    let key = (round.active.host_name.clone(), round.device);
    let verdicts = match round.result {
        Ok(output) => {
            book.failed.remove(&key);
            let verdicts: Vec<_> = output.verdicts.into_iter().map(verdict).collect();
            book.said.insert(key, verdicts.clone());
            verdicts
        }
        Err(Failure::Said(PluginError::NotMine(_))) => {
            book.failed.remove(&key);
            book.said.insert(key, Vec::new());
            Vec::new()
        }
        Err(failure) => {
            debug!(plugin = %key.0, device = %key.1, %failure, "a rule could not judge");
            let known = book.said.get(&key).cloned().unwrap_or_default();
            let failed = book.failed.entry(key).or_default();
            *failed += 1;
            if *failed < BROKEN_AFTER {
                return None;
            }
            // what it said before stays as it is
            let unknown = known.into_iter().map(|verdict| PluginVerdict {
                status: PluginStatus::Unknown,
                ..verdict
            });
            let broken = PluginVerdict {
                key: BROKEN.to_owned(),
                status: PluginStatus::Firing,
                severity: model::Severity::Warning,
                summary: words::safe(&format!("the rule cannot judge this device: {failure}")),
                value: None,
            };
            unknown.chain([broken]).collect()
        }
    };
    Some(Judged {
        rule: round.active.rule(),
        device: round.device,
        verdicts,
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
