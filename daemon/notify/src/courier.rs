//! Notifications that plugins carry: to chat rooms, pagers, anything that takes
//! HTTP.
//!
//! Each plugin has a lane of its own, with a task that lives while something
//! waits in it: one that is broken, slow or gone holds up neither the others nor
//! mail. What a lane promises is what the crate promises of mail: at least once,
//! oldest first, and nothing is sent before the fate of what went before it is on
//! disk.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::{Delivery, Rule, Timestamp};
use store::Store;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::channel::{Carried, Lane};
use crate::drain::{KEEP_GRACE, LOOK_MAX, in_time, keep_at_last, next_change, reached};
use crate::lanes::Pick;
use crate::outbox::{KeepError, Outbox, Over};
use crate::safe::one_line;

/// The fate of a delivery that is on its way.
pub type Carrying = Pin<Box<dyn Future<Output = Carried> + Send>>;

/// Takes deliveries to where a plugin says that they go.
pub trait Courier: Send + Sync + 'static {
    /// Carries `delivery`, whose channel is [`model::Channel::Plugin`]. `rule` is
    /// the alert's, if it still exists.
    fn carry(&self, delivery: &Delivery, rule: Option<&Rule>) -> Carrying;

    /// Counts changes after which what waits deserves a try at once: a plugin
    /// that was enabled, new settings of one.
    fn changed(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

/// Deliveries of one lane that are looked at for the next one.
const LOOK: usize = 64;
/// A courier that takes longer is not waited for, and is tried again: it goes on
/// with what was not taken yet.
const CARRY_AT_MOST: Duration = Duration::from_secs(180);
/// The time that a delivery in hand has after the stop.
const CARRY_GRACE: Duration = Duration::from_secs(10);
/// A lane whose task broke is left alone for so long.
const REST: Duration = Duration::from_secs(60);

/// How one plugin's deliveries do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelStatus {
    /// Deliveries that wait.
    pub queued: usize,
    /// When the service last took one.
    pub last_success: Option<Timestamp>,
    /// When a try last failed, and why: one line that is safe to show.
    pub last_error: Option<(Timestamp, String)>,
    /// Since when nothing gets through; `None`: as far as we know it does.
    pub failing_since: Option<Timestamp>,
    /// When the next try is due, if something waits for one.
    pub next_try: Option<Timestamp>,
    /// Deliveries that the service took, since the start.
    pub sent: u64,
    /// Tries that failed and are repeated, since the start.
    pub failed: u64,
    /// Deliveries that were refused for good or given up, since the start.
    pub parked: u64,
}

/// How all of them do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelsStatus {
    /// By plugin: those that had something to carry since the start.
    pub plugins: BTreeMap<String, ChannelStatus>,
    /// Why the outbox cannot be written: nothing is sent until it can.
    pub outbox_error: Option<String>,
}

/// The one [`ChannelsStatus`] of a daemon: written by [`drain_plugins`], read by
/// anybody. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct ChannelHealth(Arc<Mutex<ChannelsStatus>>);

impl ChannelHealth {
    /// How they do now.
    #[must_use]
    pub fn status(&self) -> ChannelsStatus {
        self.with(|status| status.clone())
    }

    fn with<T>(&self, read: impl FnOnce(&mut ChannelsStatus) -> T) -> T {
        read(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn of<T>(&self, plugin: &str, read: impl FnOnce(&mut ChannelStatus) -> T) -> T {
        self.with(|status| match status.plugins.get_mut(plugin) {
            Some(known) => read(known),
            None => read(status.plugins.entry(plugin.to_owned()).or_default()),
        })
    }

    fn outbox(&self, error: Option<String>) {
        self.with(|status| status.outbox_error = error);
    }

    fn waiting(&self, queued: &BTreeMap<String, usize>) {
        self.with(|status| {
            for (plugin, known) in &mut status.plugins {
                known.queued = queued.get(plugin).copied().unwrap_or(0);
                if known.queued == 0 {
                    known.next_try = None;
                }
            }
            for (plugin, count) in queued {
                if !status.plugins.contains_key(plugin) {
                    let new = ChannelStatus {
                        queued: *count,
                        ..ChannelStatus::default()
                    };
                    status.plugins.insert(plugin.clone(), new);
                }
            }
        });
    }

    fn tried(&self, plugin: &str, settled: &Delivery, carried: &Carried, now: Timestamp) {
        self.of(plugin, |status| {
            status.next_try = None;
            match (carried, &settled.state) {
                (Carried::Taken, _) => {
                    status.sent += 1;
                    status.last_success = Some(now);
                    status.failing_since = None;
                }
                (Carried::Never { .. }, _) => {
                    status.parked += 1;
                    status.failing_since = None;
                }
                (Carried::Later { .. }, state) => {
                    match state {
                        model::DeliveryState::Parked => status.parked += 1,
                        _ => status.failed += 1,
                    }
                    status.failing_since.get_or_insert(now);
                }
            }
            if let Some(error) = &settled.last_error {
                status.last_error = Some((now, error.clone()));
            }
        });
    }

    fn waits(&self, plugin: &str, until: Option<Instant>, now: Timestamp) {
        let next = until.map(|until| now.plus(until.saturating_duration_since(Instant::now())));
        self.of(plugin, |status| status.next_try = next);
    }
}

/// Carries what `store`'s outbox holds for plugins until `stop`, then finishes
/// what is in hand, for a few seconds at most, and ends. Also ends when the store
/// is closed. `health` tells how they do; `clock` says what time it is.
pub async fn drain_plugins(
    store: Store,
    courier: Arc<dyn Courier>,
    health: ChannelHealth,
    clock: fn() -> Timestamp,
    stop: CancellationToken,
) {
    let lanes = Lanes {
        outbox: store,
        courier,
        health,
        clock: Arc::new(clock),
        stop,
    };
    lanes.run().await;
}

type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What all lanes share.
#[derive(Clone)]
struct Lanes<O> {
    outbox: O,
    courier: Arc<dyn Courier>,
    health: ChannelHealth,
    clock: Clock,
    stop: CancellationToken,
}

/// The lanes that run.
#[derive(Default)]
struct Running {
    tasks: JoinSet<()>,
    names: HashMap<Id, String>,
    /// Those whose task broke.
    resting: HashMap<String, Instant>,
}

impl Running {
    fn has(&self, plugin: &str) -> bool {
        self.names.values().any(|name| name == plugin)
    }

    /// A lane ended; it is begun again when something waits in it.
    fn ended(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        match ended {
            Ok((id, ())) => drop(self.names.remove(&id)),
            Err(error) => {
                let name = self.names.remove(&error.id()).unwrap_or_default();
                warn!(plugin = %name, %error, "what carries notifications of {name} broke: {error}");
                self.resting.insert(name, Instant::now() + REST);
            }
        }
    }
}

impl<O: Outbox + Clone + 'static> Lanes<O> {
    async fn run(self) {
        let mut changed = self.outbox.changed();
        let mut running = Running::default();
        while !self.stop.is_cancelled() && changed.has_changed().is_ok() {
            changed.mark_unchanged();
            let queued = self.outbox.plugins();
            self.health.waiting(&queued);
            let now = Instant::now();
            running.resting.retain(|_, until| *until > now);
            for plugin in queued.into_keys() {
                if !running.has(&plugin) && !running.resting.contains_key(&plugin) {
                    let lane = self.clone().lane(plugin.clone());
                    let task = running.tasks.spawn(lane);
                    running.names.insert(task.id(), plugin);
                }
            }
            let rest = running.resting.values().min().copied();
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = next_change(&mut changed) => {}
                Some(ended) = running.tasks.join_next_with_id() => running.ended(ended),
                () = reached(rest) => {}
            }
        }
        while running.tasks.join_next().await.is_some() {}
    }

    /// Carries what waits for `plugin` until nothing does.
    async fn lane(self, plugin: String) {
        let mut lane = Lane::default();
        let mut changed = self.outbox.changed();
        let mut kicks = self.courier.changed();
        while !self.stop.is_cancelled() {
            changed.mark_unchanged();
            if kicks.as_mut().is_some_and(|kicks| {
                let is_new = kicks.has_changed().unwrap_or(false);
                kicks.mark_unchanged();
                is_new
            }) {
                lane.forget();
            }
            match self.look(&plugin, &mut lane) {
                Look::Carry(delivery) => {
                    if !self.tell(&plugin, &mut lane, &delivery).await {
                        return;
                    }
                }
                Look::Wait(until) => {
                    self.health.waits(&plugin, until, (self.clock)());
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = next_change(&mut changed) => {}
                        () = kick(kicks.as_mut()) => lane.forget(),
                        () = reached(until) => {}
                    }
                }
                Look::Empty => return,
            }
        }
    }

    fn look(&self, plugin: &str, lane: &mut Lane) -> Look {
        let now = Instant::now();
        let mut limit = LOOK;
        loop {
            let mut queued = self.outbox.queued(Over::Plugin(plugin), limit);
            let is_all = queued.len() < limit;
            if is_all {
                lane.keep_only(&queued);
            }
            match lane.pick(&queued, now) {
                Pick::Send(place) => return Look::Carry(Box::new(queued.swap_remove(place))),
                Pick::Wait(_) if queued.is_empty() => return Look::Empty,
                Pick::Wait(until) if is_all || limit >= LOOK_MAX => return Look::Wait(until),
                Pick::Wait(_) => limit = (limit * 4).min(LOOK_MAX),
            }
        }
    }

    /// Carries `delivery` and keeps what it came to. `false` if it is time to
    /// end.
    async fn tell(&self, plugin: &str, lane: &mut Lane, delivery: &Delivery) -> bool {
        let rule = delivery
            .alert
            .as_ref()
            .and_then(|alert| self.outbox.rule(&alert.rule));
        let carrying = timeout(CARRY_AT_MOST, self.courier.carry(delivery, rule.as_ref()));
        let Some(carried) = in_time(&self.stop, CARRY_GRACE, carrying).await else {
            warn!(delivery = %delivery.id, %plugin, "stopped while a notification was on its way; it may come twice");
            return false;
        };
        let carried = carried.unwrap_or_else(|_elapsed| Carried::Later {
            why: format!("no end of it after {} s", CARRY_AT_MOST.as_secs()),
            after: None,
        });
        let now = (self.clock)();
        let settled = lane.settle(delivery, &carried, Instant::now(), now);
        self.health.tried(plugin, &settled, &carried, now);
        log(plugin, &settled, &carried);
        let tell = |error| self.health.outbox(error);
        let keeping = keep_at_last(&self.outbox, tell, &settled);
        match in_time(&self.stop, KEEP_GRACE, keeping).await {
            Some(Ok(())) => true,
            Some(Err(KeepError::Refused(why))) => {
                warn!(delivery = %settled.id, %why, "a delivery's fate is not kept: {why}");
                lane.set_aside(settled.id, Instant::now());
                true
            }
            Some(Err(KeepError::TryAgain(_) | KeepError::Closed)) | None => false,
        }
    }
}

/// What a lane does next.
enum Look {
    Carry(Box<Delivery>),
    Wait(Option<Instant>),
    /// Nothing waits in it.
    Empty,
}

async fn kick(kicks: Option<&mut watch::Receiver<u64>>) {
    match kicks {
        Some(kicks) => next_change(kicks).await,
        None => std::future::pending().await,
    }
}

fn log(plugin: &str, settled: &Delivery, carried: &Carried) {
    let id = settled.id;
    let plugin = one_line(plugin, 63);
    let why = settled.last_error.as_deref().unwrap_or_default();
    match (carried, &settled.state) {
        (Carried::Taken, _) => {
            info!(delivery = %id, %plugin, event = settled.event.word(), "notification sent");
        }
        (_, model::DeliveryState::Parked) => {
            warn!(delivery = %id, %plugin, %why, "notification by {plugin} parked: {why}");
        }
        _ => {
            let attempts = settled.attempts;
            warn!(delivery = %id, %plugin, attempts, %why, "notification by {plugin} not sent yet: {why}");
        }
    }
}

#[cfg(test)]
mod tests;
