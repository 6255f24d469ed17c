//! Plugins in the daemon: which run, and where they act.
//!
//! ```text
//! poll ──answers──▶ reading (parsers, pollers) ──columns──▶ the device's row
//! store ──series──▶ judging (rules) ──verdicts──▶ the judge
//! outbox ──▶ courier (notifiers) ──requests──▶ the world, where granted
//! people ──▶ admin (install, grant, enable ...), trial (dev, try), planning (dry runs)
//! ```
//!
//! The roster is what runs. It changes as a whole and at once; whoever works
//! with the one before finishes with it. What is installed, granted and set is
//! in the store; a package that cannot be brought up is broken, which is shown,
//! and never a reason not to start.

mod admin;
mod courier;
mod figures;
mod judging;
mod packages;
mod planning;
mod query;
mod reading;
mod roster;
mod services;
mod trial;
mod words;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use config::Settings;
use contract::{Call, Failure, Fault, FaultClass, Kind, Reply};
use fetch::{FetchSettings, Fetcher};
use futures_util::StreamExt;
use model::{
    Capabilities, Condition, DeviceId, OutboxId, PluginName, PluginRecord, Rule, RuleSource,
    Selector, Severity, Timestamp,
};
use package::PublicKey;
use plugin::{Host, HostOptions};
use secrets::Secrets;
use store::Store;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock;
use crate::failure::chain;
use crate::poll::{Collectors, Pace};

pub(crate) use judging::{Happened, Judged, Word};
pub(crate) use reading::{Asker, Readers};
use roster::{Active, Roster};
use services::{FactBook, Services};
use trial::Trial;

/// Events that wait to be judged; further ones are dropped and counted.
const EVENTS_WAITING: usize = 10_000;

/// Plugins that are brought up at once when the daemon starts.
const BRINGING_UP: usize = 8;

/// Bytes of an answer to a plugin's request.
const ANSWER_BYTES: usize = 1 << 20;

/// A request of a plugin takes no longer, whatever it says.
const REQUEST: Duration = Duration::from_secs(30);

/// Between two tries to bring up what did not come up.
const MEND: Duration = Duration::from_secs(60);

/// Facts of one device that plugins read; further ones are left out.
const FACTS: usize = 200;

/// Calls that may wait for the host.
const CALLS_WAITING: usize = 4_096;

/// All plugins. Clones are the same.
#[derive(Clone)]
pub(crate) struct Plugins {
    inner: Arc<Inner>,
}

struct Inner {
    /// The settings let plugins run.
    may_run: bool,
    /// `None`: the settings do not let plugins run, or the host cannot be
    /// started.
    host: Option<Host>,
    services: Arc<Services>,
    store: Store,
    secrets: Secrets,
    collectors: Collectors,
    pace: watch::Receiver<Pace>,
    fetcher: Fetcher,
    facts: Arc<FactBook>,
    /// The minute in which the facts of deleted devices were forgotten.
    swept: AtomicU64,
    /// Polls that may be inside plugins at once.
    inside: Semaphore,
    roster: RwLock<Arc<Roster>>,
    /// What is enabled and does not run, and why.
    broken: Mutex<BTreeMap<String, String>>,
    /// Whoever changes what is installed, granted or set: one at a time.
    changing: Arc<tokio::sync::Mutex<()>>,
    trials: Mutex<BTreeMap<PluginName, Trial>>,
    events: mpsc::Sender<Happened>,
    /// Of deliveries that take several requests, how many were taken.
    taken: Mutex<HashMap<OutboxId, usize>>,
    /// The directory of packages that came with the daemon.
    bundled: PathBuf,
    trusted: RwLock<Vec<(String, PublicKey)>>,
    host_name: String,
    /// Where people see the daemon's page.
    url: Option<String>,
    /// Counts changes of the roster.
    changed: watch::Sender<u64>,
    /// Counts changes of notifiers.
    notifiers_changed: watch::Sender<u64>,
}

impl Plugins {
    /// Starts the host and brings up what is enabled.
    pub(crate) async fn start(
        settings: &Settings,
        store: &Store,
        secrets: &Secrets,
        collectors: &Collectors,
        pace: watch::Receiver<Pace>,
        url: Option<String>,
    ) -> Result<(Plugins, mpsc::Receiver<Happened>), crate::failure::Failure> {
        let facts: Arc<FactBook> = Arc::default();
        let services = Arc::new(Services {
            store: store.clone(),
            facts: Arc::clone(&facts),
            granted: Mutex::default(),
        });
        let host = match settings.plugins.enabled {
            true => start_host(settings, Arc::clone(&services)).await,
            false => None,
        };
        let fetcher = Fetcher::new(&FetchSettings {
            ca_file: None,
            timeout: REQUEST,
            max_body: ANSWER_BYTES,
        });
        let fetcher = fetcher.map_err(crate::failure::Failure::PluginRequests)?;
        let (events, happened) = mpsc::channel(EVENTS_WAITING);
        let plugins = Plugins {
            inner: Arc::new(Inner {
                may_run: settings.plugins.enabled,
                host,
                services,
                store: store.clone(),
                secrets: secrets.clone(),
                collectors: collectors.clone(),
                pace,
                fetcher,
                facts,
                swept: AtomicU64::new(0),
                inside: Semaphore::new(reading::POLLS_INSIDE),
                roster: RwLock::default(),
                broken: Mutex::default(),
                changing: Arc::default(),
                trials: Mutex::default(),
                events,
                taken: Mutex::default(),
                bundled: settings.plugins.dir.clone(),
                trusted: RwLock::new(trusted(settings)),
                host_name: crate::settings::host_name(),
                url,
                changed: watch::Sender::new(0),
                notifiers_changed: watch::Sender::new(0),
            }),
        };
        plugins.bring_all_up().await;
        Ok((plugins, happened))
    }

    /// Takes keys that are trusted from now on.
    pub(crate) fn reconfigure(&self, settings: &Settings) {
        let mut known = self
            .inner
            .trusted
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *known = trusted(settings);
    }

    async fn bring_all_up(&self) {
        if self.inner.host.is_none() {
            return;
        }
        let began = clock::tick();
        let installed = self.inner.store.plugins();
        let enabled = installed.values().filter(|record| record.enabled);
        let enabled: Vec<Arc<PluginRecord>> = enabled.cloned().collect();
        let count = enabled.len();
        futures_util::stream::iter(enabled)
            .for_each_concurrent(BRINGING_UP, |record| async move {
                self.run(&record).await;
            })
            .await;
        if count > 0 {
            let took = clock::tick().saturating_sub(began);
            let running = self.roster().all.len();
            info!(running, enabled = count, ?took, "plugins are up");
        }
    }

    /// Brings `record` up and lets it run; notes why, if it cannot.
    async fn run(&self, record: &PluginRecord) {
        let name = record.name.as_str();
        let up = match unconsidered(record) {
            missing if missing == Capabilities::default() => self.bring_up(record).await,
            _ => Err("it asks for what it was not granted".to_owned()),
        };
        match up {
            Ok(active) => self.activate(active),
            Err(why) => {
                warn!(plugin = name, error = %why, "a plugin does not run: {why}");
                self.put_out(name);
                self.broken().insert(name.to_owned(), why);
            }
        }
    }

    /// From now on `active` runs, in the place of what has its name.
    fn activate(&self, active: Active) {
        let Some(host) = &self.inner.host else {
            return;
        };
        let name = active.host_name.clone();
        self.services_granted()
            .insert(name.clone(), active.granted.clone());
        host.activate(&name, active.generation);
        self.broken().remove(&name);
        if active.manifest.kind == Kind::Notifier {
            self.notifiers_changed();
        }
        let before = self.roster().find(&name).cloned();
        self.change(|roster| roster.with(active));
        self.forget_facts(before.as_deref());
    }

    /// From now on nothing runs under `name`.
    fn put_out(&self, name: &str) {
        let before = self.roster().find(name).cloned();
        self.change(|roster| roster.without(name));
        self.forget_facts(before.as_deref());
        if let Some(host) = &self.inner.host {
            host.unload(name);
        }
        self.services_granted().remove(name);
        self.broken().remove(name);
    }

    /// What waits for notifiers deserves a try.
    fn notifiers_changed(&self) {
        let changed = &self.inner.notifiers_changed;
        changed.send_modify(|count| *count += 1);
    }

    fn change(&self, change: impl FnOnce(&Roster) -> Roster) {
        {
            let mut roster = self
                .inner
                .roster
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            *roster = Arc::new(change(&roster));
        }
        self.inner.changed.send_modify(|count| *count += 1);
    }

    fn roster(&self) -> Arc<Roster> {
        let roster = self.inner.roster.read();
        Arc::clone(&roster.unwrap_or_else(PoisonError::into_inner))
    }

    fn broken(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        let broken = self.inner.broken.lock();
        broken.unwrap_or_else(PoisonError::into_inner)
    }

    fn services_granted(&self) -> MutexGuard<'_, HashMap<String, Capabilities>> {
        let granted = self.inner.services.granted.lock();
        granted.unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls a plugin that runs, and keeps what it wants kept.
    async fn call(&self, active: &Active, call: Call) -> Result<Reply, Failure> {
        let Some(host) = &self.inner.host else {
            return Err(Fault::new(FaultClass::HostDied, "plugins do not run here").into());
        };
        let ended = host.call(&active.host_name, &call).await;
        let reply = ended.result?;
        if !ended.kv.is_empty() && active.only.is_none() {
            self.keep_values(active, ended.kv).await?;
        }
        Ok(reply)
    }

    async fn keep_values(
        &self,
        active: &Active,
        writes: Vec<contract::KvWrite>,
    ) -> Result<(), Failure> {
        let unavailable =
            |why: String| Failure::from(contract::PluginError::Unavailable(words::safe(&why)));
        let name = PluginName::new(&active.host_name).map_err(|e| unavailable(e.to_string()))?;
        let now = clock::now();
        let values = writes.into_iter().map(|write| {
            let expires = write
                .ttl_s
                .map(|ttl| now.plus(Duration::from_secs(u64::from(ttl))));
            let value = write.value.map(|value| model::PluginValue {
                bytes: value.0,
                expires,
            });
            (write.key, value)
        });
        let limits = &active.manifest.limits;
        let room = store::PluginRoom {
            bytes: limits.kv_bytes as usize,
            keys: limits.kv_keys as usize,
        };
        let kept = self
            .inner
            .store
            .keep_plugin_values(&name, values.collect(), room, now)
            .await;
        kept.map_err(|error| unavailable(chain(&error)))
    }

    /// What a rule kept about a device.
    fn state(&self, active: &Active, device: DeviceId) -> Vec<u8> {
        let name = PluginName::new(&active.host_name).ok();
        let state = name.and_then(|name| self.inner.store.plugin_state(&name, device));
        state.map(|state| state.to_vec()).unwrap_or_default()
    }

    async fn keep_states(&self, states: Vec<(String, DeviceId, Vec<u8>)>) -> Result<(), String> {
        if states.is_empty() {
            return Ok(());
        }
        let states = states.into_iter().filter_map(|(name, device, state)| {
            let name = PluginName::new(&name).ok()?;
            Some((name, device, state))
        });
        let kept = self.inner.store.keep_plugin_states(states.collect()).await;
        match kept.map_err(|error| chain(&error))?.first() {
            Some((name, device)) => Err(format!(
                "{name} has no room for what it keeps of device {device}"
            )),
            None => Ok(()),
        }
    }

    /// Keeps what `active` read of a device, as long as both are there.
    fn note_facts(&self, device: DeviceId, active: &Active, facts: &[contract::Fact]) {
        let book = self.inner.facts.lock();
        let mut book = book.unwrap_or_else(PoisonError::into_inner);
        // looked up while the book is held: whoever puts the plugin out, or
        // replaces it, forgets its facts afterwards
        let runs = self.roster();
        let runs = runs.find(&active.host_name);
        if runs.is_none_or(|now| now.generation != active.generation) {
            return;
        }
        let inventory = self.inner.store.inventory();
        let is_live = |id: &DeviceId| {
            let device = inventory.device(*id);
            device.is_some_and(|device| device.deleted.is_none())
        };
        if !is_live(&device) {
            return;
        }
        let minute = clock::tick().as_secs() / 60;
        if self.inner.swept.swap(minute, Ordering::Relaxed) != minute {
            book.retain(|id, _| is_live(id));
        }
        add_facts(book.entry(device).or_default(), facts);
    }

    /// Forgets what a plugin that does not run any more read: what another one
    /// reads as well, or its successor, comes back with the next poll.
    fn forget_facts(&self, before: Option<&Active>) {
        let Some(measures) = before.and_then(Active::measures) else {
            return;
        };
        if measures.facts.is_empty() {
            return;
        }
        let gone: BTreeSet<&str> = measures.facts.iter().map(String::as_str).collect();
        let book = self.inner.facts.lock();
        let mut book = book.unwrap_or_else(PoisonError::into_inner);
        for facts in book.values_mut() {
            facts.retain(|key, _| !gone.contains(key.as_str()));
        }
        book.retain(|_, facts| !facts.is_empty());
    }

    fn happened(&self, device: DeviceId, event: contract::Event) {
        info!(%device, kind = %words::safe(&event.kind), "{}", words::safe(&event.message));
        // the rules are behind by thousands of events: the newest are lost
        let _ = self.inner.events.try_send(Happened { device, event });
    }

    /// The rules that are enabled, for the engine. One that does not run judges
    /// nothing, and its alerts stay as they are.
    pub(crate) fn rules(&self) -> Vec<Rule> {
        self.enabled(Kind::Rule).iter().map(rule).collect()
    }

    /// The notifiers that are enabled: each is told of every alert. What is for
    /// one that does not run waits for it.
    pub(crate) fn notifiers(&self) -> Vec<String> {
        let notifiers = self.enabled(Kind::Notifier).into_iter();
        notifiers.map(|name| name.as_str().to_owned()).collect()
    }

    fn enabled(&self, kind: Kind) -> Vec<PluginName> {
        if !self.inner.may_run {
            return Vec::new();
        }
        let installed = self.inner.store.plugins();
        let enabled = installed.values().filter(|record| record.enabled);
        enabled
            .filter(|record| record.current.kind == kind.word())
            .map(|record| record.name.clone())
            .collect()
    }

    /// Tries again and again to bring up what is enabled and did not come up,
    /// until told to stop.
    async fn mend(&self, stop: &CancellationToken) {
        let mut every = tokio::time::interval(MEND);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        every.tick().await;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = every.tick() => {}
            }
            let broken: Vec<String> = self.broken().keys().cloned().collect();
            for name in broken {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.run_again(&name) => {}
                }
            }
        }
    }

    /// Lets the plugin called `name` run, if it shall and does not.
    async fn run_again(&self, name: &str) {
        let _alone = self.inner.changing.lock().await;
        let Ok(name) = PluginName::new(name) else {
            return;
        };
        let record = self.inner.store.plugins().get(&name).cloned();
        let name = name.as_str();
        let Some(record) = record.filter(|record| record.enabled) else {
            return;
        };
        // a grant is what an administrator does, and brings it up
        let may = unconsidered(&record) == Capabilities::default();
        if !may || self.roster().find(name).is_some() || !self.broken().contains_key(name) {
            return;
        }
        match self.bring_up(&record).await {
            Ok(active) => {
                info!(plugin = name, "a plugin that did not come up runs now");
                self.activate(active);
            }
            Err(why) => {
                let before = self.broken().insert(name.to_owned(), why.clone());
                if before.as_ref() != Some(&why) {
                    warn!(plugin = name, error = %why, "a plugin does not run: {why}");
                }
            }
        }
    }

    /// Counts changes of what runs.
    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// What a metric is that a plugin measures.
    pub(crate) fn described(&self, name: &str) -> Option<api::Described> {
        let roster = self.roster();
        let all = roster.all.iter().filter_map(|active| active.measures());
        let metric = all
            .flat_map(|measures| &measures.metrics)
            .find(|metric| metric.name == name)?;
        Some(api::Described {
            kind: metric.kind.into(),
            unit: words::safe(&metric.unit),
            help: words::safe(&metric.help),
        })
    }

    /// What is wrong with plugins, for the status.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let broken = self.broken();
        let mut warnings: Vec<String> = broken
            .iter()
            .map(|(name, why)| format!("the plugin {name} does not run: {why}"))
            .collect();
        if let Some(host) = &self.inner.host {
            let figures = host.host_figures();
            if figures.pid.is_none() {
                warnings.push("the plugin host is not running; it is being started".to_owned());
            }
        }
        warnings
    }

    /// Ends the host.
    pub(crate) async fn stop(&self) {
        if let Some(host) = &self.inner.host {
            host.stop().await;
        }
    }
}

/// Adds `facts` to what is `known` of a device, which takes so many names and
/// no more.
fn add_facts(known: &mut BTreeMap<String, contract::Scalar>, facts: &[contract::Fact]) {
    for fact in facts {
        if known.len() >= FACTS && !known.contains_key(&fact.key) {
            continue;
        }
        let value = match &fact.value {
            contract::Scalar::Text(text) => contract::Scalar::Text(words::safe(text)),
            value => value.clone(),
        };
        known.insert(fact.key.clone(), value);
    }
}

/// What a plugin asks for and no administrator has granted or left out yet: it
/// does not run before that.
fn unconsidered(record: &PluginRecord) -> Capabilities {
    package::beyond(&record.current.asks, &record.considered)
}

fn rule(name: &PluginName) -> Rule {
    Rule {
        name: roster::rule_name(name.as_str()),
        severity: Severity::Warning,
        enabled: true,
        selector: Selector::default(),
        condition: Condition::Plugin {
            plugin: name.as_str().to_owned(),
        },
        note: None,
        source: RuleSource::Plugin,
        updated: Timestamp(0),
        revision: 1,
    }
}

fn trusted(settings: &Settings) -> Vec<(String, PublicKey)> {
    let keys = settings.plugins.trusted_keys.iter();
    keys.filter_map(|key| match PublicKey::parse(&key.key) {
        Ok((public, _comment)) => Some((key.name.clone(), public)),
        Err(problem) => {
            warn!(key = %key.name, "a key in plugins.trusted_keys is none: {}", problem.message);
            None
        }
    })
    .collect()
}

/// Starts the host. Without it the daemon does everything but run plugins.
async fn start_host(settings: &Settings, services: Arc<Services>) -> Option<Host> {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            warn!(%error, "plugins do not run: where this program lies is not known");
            return None;
        }
    };
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let options = HostOptions {
        program,
        cache: settings.store.path.with_extension("plugin-cache"),
        threads: match settings.plugins.threads {
            0 => cores.clamp(2, 8),
            threads => threads,
        },
        waiting: CALLS_WAITING,
        memory: settings.plugins.memory,
    };
    match Host::start(options, services, || clock::now().into()).await {
        Ok(host) => {
            for what in host.host_figures().not_in_force {
                warn!("the plugins' sandbox is weaker here: {what}");
            }
            Some(host)
        }
        Err(fault) => {
            warn!(error = %fault, "plugins do not run: their host cannot be started: {fault}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_so_many_facts_and_the_known_ones_still_change() {
        let fact = |place: usize, value: u64| contract::Fact {
            key: format!("fact {place}"),
            value: contract::Scalar::Uint(value),
        };
        let mut known = BTreeMap::new();
        let many: Vec<_> = (0..FACTS + 50).map(|place| fact(place, 1)).collect();
        add_facts(&mut known, &many);
        assert_eq!(known.len(), FACTS);
        add_facts(&mut known, &[fact(3, 2), fact(FACTS + 1, 2)]);
        assert_eq!(known.len(), FACTS);
        assert_eq!(known["fact 3"], contract::Scalar::Uint(2));
    }
}
