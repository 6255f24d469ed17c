//! Judging: feeds the rules with what was committed, and stores what they say.
//!
//! A reconciler: it takes no input but what the store has, and what it decides
//! is stored in one transaction with the notifications that follow from it. What
//! cannot be stored now (a full disk) is kept and tried again, merged with what
//! is decided meanwhile; nobody is told of an alert that is not stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::{
    Alert, AlertId, AlertState, Channel, Check, Delivery, DeliveryState, Device, DeviceId,
    DeviceState, NotificationEvent, OutboxId, Timestamp,
};
use rules::{Engine, Reachability, Verdict};
use store::{Inventory, Judgement, Store};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::clock;
use crate::failure::chain;
use crate::plugins::{Judged, Plugins, Word};
use crate::poll::{Pace, PollerHandle};

/// Between two tries to store what could not be stored.
const STORE_AGAIN: Duration = Duration::from_secs(2);

/// How long changes of devices and rules are collected before the engine is told.
const SETTLE: Duration = Duration::from_millis(200);

/// Notifications that wait for a disk that is full. Beyond it the newest are
/// dropped, and the log says so.
const DELIVERIES_WAITING: usize = 100_000;

/// Names in a mail's list of devices that are cut off: more help nobody.
const NAMES_BEHIND: usize = 200;

/// What the rest of the daemon may ask of the rules.
#[derive(Clone)]
pub(crate) struct Judge {
    engine: Arc<Mutex<Engine>>,
    /// Which alerts fire, by device: asked for every device of a list.
    firing: Arc<Mutex<BTreeSet<(DeviceId, AlertId)>>>,
    store: Store,
}

impl Judge {
    /// A judge that goes on from the alerts that were open.
    pub(crate) fn new(store: Store) -> Judge {
        let open = store.open_alerts();
        let judge = Judge {
            engine: Arc::new(Mutex::new(Engine::new(store.next_alert_id(), open.clone()))),
            firing: Arc::default(),
            store,
        };
        judge.note_firing(&open);
        judge
    }

    fn note_firing(&self, alerts: &[Alert]) {
        let mut firing = self.firing.lock().unwrap_or_else(PoisonError::into_inner);
        for alert in alerts {
            let entry = (alert.device, alert.id);
            if alert.state == AlertState::Firing {
                firing.insert(entry);
            } else {
                firing.remove(&entry);
            }
        }
    }

    fn fires(&self, device: DeviceId) -> bool {
        let firing = self.firing.lock().unwrap_or_else(PoisonError::into_inner);
        let of_device = (device, AlertId(0))..=(device, AlertId(u64::MAX));
        firing.range(of_device).next().is_some()
    }

    fn engine(&self) -> std::sync::MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one word for how `device` is.
    pub(crate) fn device_state(&self, device: &Device) -> DeviceState {
        if !device.is_watched() {
            return DeviceState::Disabled;
        }
        let reachability = self.engine().reachability(device.id);
        match reachability {
            Reachability::Down => DeviceState::Down,
            Reachability::Unreachable { behind } => DeviceState::Unreachable {
                behind: names(&self.store.inventory(), &behind),
            },
            Reachability::Up => self.up_or_problem(device.id),
            Reachability::Unknown => self.state_without_a_rule(device),
        }
    }

    fn up_or_problem(&self, device: DeviceId) -> DeviceState {
        if self.fires(device) {
            DeviceState::Problem
        } else {
            DeviceState::Up
        }
    }

    /// No rule watches whether it answers: what the last polls say.
    fn state_without_a_rule(&self, device: &Device) -> DeviceState {
        let answered = |check| {
            let group = model::GroupKey {
                device: device.id,
                check,
            };
            self.store
                .outcome(group)
                .and_then(|outcome| outcome.device_answered())
        };
        match answered(Check::Icmp).or_else(|| answered(Check::Snmp)) {
            Some(true) => self.up_or_problem(device.id),
            Some(false) => DeviceState::Down,
            None => DeviceState::Unknown,
        }
    }

    /// Judges until told to stop, then once more.
    pub(crate) async fn run(
        self,
        poller: PollerHandle,
        pace: watch::Receiver<Pace>,
        recipients: watch::Receiver<Vec<String>>,
        (plugins, judged): (Plugins, mpsc::Receiver<Judged>),
        stop: CancellationToken,
    ) {
        let mut task = JudgeTask {
            committed: self.store.committed(),
            changed: self.store.changed(),
            pace,
            recipients,
            roster_changed: plugins.changed(),
            plugins,
            by_plugins: judged,
            poller,
            judged: 0,
            unstored: Unstored::default(),
            outdated: None,
            judge: self,
        };
        task.configure();
        task.catch_up();
        task.save().await;
        while task.step(&stop).await {}
        task.judge_new();
        task.unstored.again = None;
        task.save().await;
        if !task.unstored.is_empty() {
            let (alerts, mails) = (task.unstored.alerts.len(), task.unstored.deliveries.len());
            error!(
                alerts,
                mails, "{alerts} alerts and {mails} mails could not be stored and are lost"
            );
        }
    }
}

struct JudgeTask {
    judge: Judge,
    poller: PollerHandle,
    committed: watch::Receiver<u64>,
    changed: watch::Receiver<u64>,
    pace: watch::Receiver<Pace>,
    recipients: watch::Receiver<Vec<String>>,
    plugins: Plugins,
    roster_changed: watch::Receiver<u64>,
    /// What rules that are plugins say.
    by_plugins: mpsc::Receiver<Judged>,
    /// Committed reports up to this number were judged.
    judged: u64,
    unstored: Unstored,
    /// Since when the engine does not know of a change of devices or rules.
    outdated: Option<Duration>,
}

impl JudgeTask {
    /// Waits for something to judge and judges it. False when told to stop.
    async fn step(&mut self, stop: &CancellationToken) -> bool {
        let wake = self.judge.engine().wake().map(|at| at.since(clock::now()));
        let settled = self.outdated.map(|since| wait_until(since + SETTLE));
        let wait = self
            .unstored
            .wait()
            .into_iter()
            .chain(wake)
            .chain(settled)
            .min();
        tokio::select! {
            () = stop.cancelled() => return false,
            Ok(()) = self.changed.changed() => self.note_change(),
            Ok(()) = self.pace.changed() => self.note_change(),
            Ok(()) = self.roster_changed.changed() => self.note_change(),
            Some(judged) = self.by_plugins.recv() => self.take_judged(judged),
            Ok(()) = self.committed.changed() => self.judge_new(),
            () = clock::sleep_or_wait(wait) => {
                let verdict = self.judge.engine().tick(clock::now());
                self.take(verdict);
            }
        }
        if settled.is_some_and(|wait| wait.is_zero()) {
            self.configure();
        }
        self.save().await;
        true
    }

    /// Changes of the inventory come in runs: a thousand of them are taken as
    /// one.
    fn note_change(&mut self) {
        self.outdated.get_or_insert_with(clock::tick);
    }

    /// Tells the engine of every rule and device.
    fn configure(&mut self) {
        self.outdated = None;
        let pace = self.pace.borrow_and_update().clone();
        self.changed.borrow_and_update();
        self.roster_changed.borrow_and_update();
        let mut rules = Vec::clone(&self.judge.store.rules());
        rules.extend(self.plugins.rules());
        let inventory = self.judge.store.inventory();
        let devices: Vec<Arc<Device>> = inventory.all().cloned().collect();
        let every = |device: &Device, check: Check| pace.every(device, check);
        let verdict = self
            .judge
            .engine()
            .configure(&rules, &devices, &every, clock::now());
        self.take(verdict);
    }

    /// After a start, or when more was committed than the store remembers: the
    /// newest reading of every group stands for what was missed.
    fn catch_up(&mut self) {
        let now = clock::now();
        let inventory = self.judge.store.inventory();
        for group in inventory
            .live()
            .flat_map(|device| crate::poll::groups_of(device.id))
        {
            let Some(outcome) = self.judge.store.outcome(group) else {
                continue;
            };
            let reading = self.judge.store.reading(group);
            let verdict = self
                .judge
                .engine()
                .observe(group, &outcome, reading.as_deref(), now);
            self.take(verdict);
        }
    }

    fn judge_new(&mut self) {
        self.committed.borrow_and_update();
        let since = self.judge.store.committed_since(self.judged);
        self.judged = since.upto;
        if since.missed {
            warn!(
                "reports were committed faster than they were judged; judging the newest of each device"
            );
            self.catch_up();
        }
        for report in since.reports {
            let verdict = self.judge.engine().observe(
                report.group,
                &report.outcome,
                report.reading.as_deref(),
                clock::now(),
            );
            self.take(verdict);
        }
    }

    /// Takes what a rule that is a plugin says, and all that wait with it.
    fn take_judged(&mut self, first: Judged) {
        let mut next = Some(first);
        while let Some(judged) = next {
            let Judged { rule, device, word } = judged;
            let now = clock::now();
            let verdict = match word {
                Word::Said(verdicts) => self
                    .judge
                    .engine()
                    .observe_plugin(&rule, device, &verdicts, now),
                Word::CannotJudge(why) => self
                    .judge
                    .engine()
                    .observe_plugin_failure(&rule, device, &why, now),
            };
            self.take(verdict);
            next = self.by_plugins.try_recv().ok();
        }
    }

    /// Turns a verdict into what is to be stored and asked.
    fn take(&mut self, verdict: Verdict) {
        for group in verdict.probe {
            self.poller.poll_now(group);
        }
        let now = clock::now();
        for (alert, event, behind) in verdict.tell {
            info!(
                alert = %alert.id, rule = %alert.rule, device = %alert.device_name,
                summary = %alert.summary, "{}", event.word()
            );
            self.tell(&alert, event, &behind, now);
        }
        self.judge.note_firing(&verdict.alerts);
        self.unstored.add(verdict.alerts, verdict.gone);
    }

    fn tell(
        &mut self,
        alert: &Alert,
        event: NotificationEvent,
        behind: &[DeviceId],
        now: Timestamp,
    ) {
        let inventory = self.judge.store.inventory();
        let place = inventory
            .device(alert.device)
            .map(|d| place(d))
            .unwrap_or_default();
        let behind = names(&inventory, &behind[..behind.len().min(NAMES_BEHIND)]);
        let mail = self.recipients.borrow().clone().into_iter();
        let mail = mail.map(|to| Channel::Mail { to });
        let plugins = self.plugins.notifiers().into_iter();
        let plugins = plugins.map(|plugin| Channel::Plugin { plugin });
        for channel in mail.chain(plugins) {
            self.unstored.tell(Delivery {
                id: OutboxId(0),
                channel,
                event,
                alert: Some(alert.clone()),
                place: place.clone(),
                behind: behind.clone(),
                created: now,
                state: DeliveryState::Queued { next: now },
                attempts: 0,
                last_error: None,
            });
        }
    }

    async fn save(&mut self) {
        if self.unstored.is_empty() || !self.unstored.is_time() {
            return;
        }
        match self.judge.store.judge(self.unstored.judgement()).await {
            Ok(()) => self.unstored = Unstored::default(),
            Err(error) => {
                if self.unstored.again.is_none() {
                    let why = chain(&error);
                    warn!(error = %why, "alerts cannot be stored now ({why}); trying again");
                }
                self.unstored.again = Some(clock::tick() + STORE_AGAIN);
            }
        }
    }
}

/// What was decided and is not stored yet: the newest word on each alert.
#[derive(Default)]
struct Unstored {
    alerts: BTreeMap<AlertId, Alert>,
    gone: BTreeSet<AlertId>,
    deliveries: Vec<Delivery>,
    /// When the next try is due, after one that failed.
    again: Option<Duration>,
}

impl Unstored {
    fn add(&mut self, alerts: Vec<Alert>, gone: Vec<AlertId>) {
        self.alerts
            .extend(alerts.into_iter().map(|alert| (alert.id, alert)));
        for id in gone {
            self.alerts.remove(&id);
            self.gone.insert(id);
        }
    }

    fn tell(&mut self, delivery: Delivery) {
        if self.deliveries.len() < DELIVERIES_WAITING {
            self.deliveries.push(delivery);
        } else {
            warn!("too many notifications wait for the disk; one is dropped");
        }
    }

    fn is_empty(&self) -> bool {
        self.alerts.is_empty() && self.gone.is_empty() && self.deliveries.is_empty()
    }

    fn is_time(&self) -> bool {
        self.wait().is_none_or(|wait| wait.is_zero())
    }

    /// From now until the next try, after one that failed.
    fn wait(&self) -> Option<Duration> {
        self.again.map(wait_until)
    }

    fn judgement(&self) -> Judgement {
        Judgement {
            alerts: self.alerts.values().cloned().collect(),
            gone: self.gone.iter().copied().collect(),
            deliveries: self.deliveries.clone(),
        }
    }
}

/// Where a device is, in one line for a mail.
fn place(device: &Device) -> String {
    let parts = [
        Some(device.address.to_string()),
        device.site.clone(),
        device.location.clone(),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn names(inventory: &Inventory, devices: &[DeviceId]) -> Vec<String> {
    devices
        .iter()
        .map(|id| match inventory.device(*id) {
            Some(device) => device.name.clone(),
            None => format!("device {id}"),
        })
        .collect()
}

fn wait_until(tick: Duration) -> Duration {
    tick.saturating_sub(clock::tick())
}
