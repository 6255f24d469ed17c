//! Asking: takes what the schedule says is due, asks it, has the answer read,
//! and hands the report to the store.
//!
//! A place in the store's queue is taken *before* a device is asked, so that an
//! answer is never thrown away. Without a place the turn is skipped and counted.
//! With enough polls in flight a group waits, at most once and holding nothing;
//! turns that come meanwhile are skipped and counted.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use collect::{Pinger, Resolver, SnmpEngine};
use model::{
    Address, Check, Credential, CredentialKind, Device, DeviceId, Failure, FailureKind, GroupKey,
    PollReport, SnmpPlan, Timestamp,
};
use schedule::{First, Schedule};
use secrets::Secrets;
use store::{Room, Store};
use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::clock;
use crate::failure::chain;
use crate::plugins::{Asker, Plugins, Readers};
use crate::quota::Quotas;

/// Polls asked for by people and rules that wait to be taken: a whole network
/// of 10,000 devices twice over.
const POLL_NOW_WAITING: usize = 20_000;

/// Pings in flight. A round takes two seconds at the most, so 10,000 devices every
/// 30 s need some 700; an import of as many needs patience. Each holds a place in
/// the store's queue; further ones wait in the poller, where they hold nothing.
const PINGS_IN_FLIGHT: usize = 2_500;

/// SNMP polls in flight at the most, whatever the settings say: silent agents
/// hold their places for seconds, and pings must always find one.
const SNMP_IN_FLIGHT: usize = 1_500;

/// How long polls in flight may go on when the daemon stops: a round of ICMP, or
/// an agent that answers. A silent one is not waited for.
const LAST_POLLS: Duration = Duration::from_secs(3);

/// Devices are asked in turns of this length, all that are due together: at
/// 10,000 devices every task and thread on the way wakes once per turn rather
/// than once per device, which is most of what a poll costs. It is the default gap
/// between two probes, so that the pinger's turns fall together as well.
const TURN: Duration = Duration::from_millis(200);

/// What of the settings decides how devices are asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pace {
    /// Between two rounds of ICMP.
    pub(crate) icmp_every: Duration,
    /// Between two SNMP polls.
    pub(crate) snmp_every: Duration,
    /// Where agents listen, unless the device says otherwise.
    pub(crate) snmp_port: u16,
    /// A silent agent is asked at least this often.
    pub(crate) backoff_max: Duration,
    /// Agents asked at the same time.
    pub(crate) snmp_in_flight: usize,
}

impl Pace {
    /// The interval of `check` for `device`.
    pub(crate) fn every(&self, device: &Device, check: Check) -> Duration {
        match check {
            Check::Icmp => device.poll.icmp.every.unwrap_or(self.icmp_every),
            Check::Snmp => device.poll.snmp.every.unwrap_or(self.snmp_every),
        }
    }
}

/// Those who ask.
#[derive(Clone)]
pub(crate) struct Collectors {
    pub(crate) pinger: Pinger,
    pub(crate) snmp: SnmpEngine,
    pub(crate) resolver: Resolver,
}

/// Asks the poller for a poll out of turn, and knows how it is doing.
#[derive(Clone)]
pub(crate) struct PollerHandle {
    now: mpsc::Sender<GroupKey>,
    figures: Arc<Figures>,
}

/// What the poller counts for `/metrics` and `sotp status`.
#[derive(Default)]
pub(crate) struct Figures {
    stats: Mutex<(schedule::Stats, Duration)>,
    skipped_store: AtomicU64,
    skipped_quota: AtomicU64,
    lag_ms_sum: AtomicU64,
    polls: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

impl Figures {
    fn count(&self, check: Check, report: &PollReport) {
        let result = match &report.outcome.failure {
            None => "answered",
            Some(failure) => failure.kind.word(),
        };
        let mut polls = self.polls.lock().unwrap_or_else(PoisonError::into_inner);
        *polls.entry((check.word(), result)).or_default() += 1;
    }
}

impl PollerHandle {
    /// Asks for a poll of `group` now; says whether there was room to ask.
    pub(crate) fn poll_now(&self, group: GroupKey) -> bool {
        self.now.try_send(group).is_ok()
    }

    /// The schedule's figures and how long the longest waiting group waits.
    pub(crate) fn stats(&self) -> (schedule::Stats, Duration) {
        *self
            .figures
            .stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns skipped because the store was behind.
    pub(crate) fn skipped_by_the_store(&self) -> u64 {
        self.figures.skipped_store.load(Ordering::Relaxed)
    }

    /// Turns skipped because the device's tenant has measured enough.
    pub(crate) fn skipped_by_quota(&self) -> u64 {
        self.figures.skipped_quota.load(Ordering::Relaxed)
    }

    /// The sum of all lags so far.
    pub(crate) fn lag_sum(&self) -> Duration {
        Duration::from_millis(self.figures.lag_ms_sum.load(Ordering::Relaxed))
    }

    /// Polls so far by check and result: "answered" or the failure's word.
    pub(crate) fn polls(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.figures
            .polls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|((check, result), count)| (*check, *result, *count))
            .collect()
    }
}

/// Polls of one check. They have places of their own, so that silent agents do
/// not keep anybody from being pinged.
#[derive(Default)]
struct Lane {
    in_flight: usize,
    /// Groups whose turn has come while enough others are being asked; each at
    /// most once.
    waiting: VecDeque<GroupKey>,
}

/// How a poll's task ended.
type Ended = Result<(task::Id, Option<bool>), task::JoinError>;

/// The poller before it runs.
pub(crate) struct Poller {
    store: Store,
    secrets: Secrets,
    plugins: Plugins,
    quotas: Arc<Quotas>,
    collectors: Collectors,
    pace: watch::Receiver<Pace>,
    plan: Arc<SnmpPlan>,
    schedule: Schedule,
    asked_now: mpsc::Receiver<GroupKey>,
    figures: Arc<Figures>,
    /// Each poll gives what its device's silence or answer says of it.
    in_flight: JoinSet<Option<bool>>,
    groups_in_flight: HashMap<task::Id, GroupKey>,
    pings: Lane,
    agents: Lane,
    /// Since when the schedule does not know of a change, and how new groups are
    /// then asked first.
    outdated: Option<(schedule::Tick, First)>,
}

impl Poller {
    /// A poller that knows every device in the store.
    pub(crate) fn new(
        store: Store,
        secrets: Secrets,
        plugins: Plugins,
        collectors: Collectors,
        pace: watch::Receiver<Pace>,
    ) -> (Poller, PollerHandle) {
        let (now, asked_now) = mpsc::channel(POLL_NOW_WAITING);
        let figures = Arc::new(Figures::default());
        let schedule = Schedule::new(pace.borrow().backoff_max);
        let poller = Poller {
            store,
            secrets,
            plugins,
            quotas: Arc::default(),
            collectors,
            pace,
            plan: Arc::new(parse::snmp_plan()),
            schedule,
            asked_now,
            figures: Arc::clone(&figures),
            in_flight: JoinSet::new(),
            groups_in_flight: HashMap::new(),
            pings: Lane::default(),
            agents: Lane::default(),
            outdated: Some((schedule::Tick::ZERO, First::InTurn)),
        };
        (poller, PollerHandle { now, figures })
    }

    /// Polls until told to stop, then lets what is in flight finish.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut inventory_changed = self.store.changed();
        loop {
            let wake = self.until_turn();
            if wake.is_some_and(|wake| wake.is_zero()) {
                self.take_turn();
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = clock::sleep_or_wait(wake) => self.take_turn(),
                Some(ended) = self.in_flight.join_next_with_id() => self.note(ended),
                Some(group) = self.asked_now.recv() => self.ask_now(group),
                Ok(()) = inventory_changed.changed() => {
                    let since = self.outdated.map_or_else(clock::tick, |(since, _)| since);
                    self.outdated = Some((since, First::Soon));
                }
                Ok(()) = self.pace.changed() => {
                    let backoff_max = self.pace.borrow_and_update().backoff_max;
                    self.schedule.set_backoff_max(backoff_max);
                    self.outdated.get_or_insert((clock::tick(), First::InTurn));
                }
            }
            self.publish();
        }
        let last = async { while self.in_flight.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_POLLS, last).await.is_err() {
            debug!("polls of silent devices are given up");
        }
    }

    /// From now until the next turn with something to do. A change of the
    /// inventory waits for the turn too, so that a thousand changes cost as much
    /// as one.
    fn until_turn(&self) -> Option<Duration> {
        let due = self.schedule.wake();
        let changed = self.outdated.map(|(since, _)| since);
        due.into_iter().chain(changed).min().map(until_turn)
    }

    fn take_turn(&mut self) {
        if let Some((_, first)) = self.outdated.take() {
            self.follow_inventory(first);
        }
        self.ask_what_is_due();
    }

    /// Asks a group out of turn, and all that are due with it.
    fn ask_now(&mut self, group: GroupKey) {
        if let Some((_, first)) = self.outdated.take() {
            self.follow_inventory(first);
        }
        self.schedule.poll_now(group, clock::tick());
        while let Ok(group) = self.asked_now.try_recv() {
            self.schedule.poll_now(group, clock::tick());
        }
        self.ask_what_is_due();
    }

    fn publish(&self) {
        let now = clock::tick();
        let figures = (self.schedule.stats(now), self.schedule.lag(now));
        *self
            .figures
            .stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = figures;
    }

    /// Makes the schedule hold exactly what the inventory wants asked.
    fn follow_inventory(&mut self, first: First) {
        let inventory = self.store.inventory();
        let pace = self.pace.borrow().clone();
        let now = clock::tick();
        let mut wanted = HashSet::new();
        for device in inventory.live() {
            for check in Check::ALL.into_iter().filter(|check| device.wants(*check)) {
                let group = GroupKey {
                    device: device.id,
                    check,
                };
                wanted.insert(group);
                self.schedule
                    .set(group, pace.every(device, check), first, now);
            }
        }
        let people = self.store.people();
        self.quotas.retain(|tenant| {
            let tenant = people.tenant(tenant);
            tenant.is_some_and(|tenant| tenant.quota.samples_per_second.is_some())
        });
        let unwanted: Vec<_> = self
            .schedule
            .groups()
            .filter(|g| !wanted.contains(g))
            .collect();
        for group in unwanted {
            self.schedule.remove(group);
        }
    }

    fn ask_what_is_due(&mut self) {
        while let Some(ask) = self.schedule.next(clock::tick()) {
            let lag_ms = u64::try_from(ask.lag.as_millis()).unwrap_or(u64::MAX);
            self.figures.lag_ms_sum.fetch_add(lag_ms, Ordering::Relaxed);
            self.take(ask.group);
        }
    }

    /// Asks `group` now, or when fewer others are being asked.
    fn take(&mut self, group: GroupKey) {
        let limit = self.limit(group.check);
        let lane = self.lane(group.check);
        if lane.in_flight >= limit {
            lane.waiting.push_back(group);
        } else if !self.is_within_quota(group) {
            self.figures.skipped_quota.fetch_add(1, Ordering::Relaxed);
            self.schedule.finished(group, None, clock::tick());
        } else if !self.ask(group) {
            self.figures.skipped_store.fetch_add(1, Ordering::Relaxed);
            self.schedule.finished(group, None, clock::tick());
        }
    }

    /// Whether the device's tenant may measure more values now.
    fn is_within_quota(&self, group: GroupKey) -> bool {
        let inventory = self.store.inventory();
        let Some(device) = inventory.device(group.device) else {
            return true;
        };
        let people = self.store.people();
        let quota = people.tenant(&device.tenant).map(|tenant| &tenant.quota);
        match quota.and_then(|quota| quota.samples_per_second) {
            Some(limit) => self.quotas.allow(&device.tenant, limit, clock::tick()),
            None => true,
        }
    }

    fn limit(&self, check: Check) -> usize {
        match check {
            Check::Icmp => PINGS_IN_FLIGHT,
            Check::Snmp => self.pace.borrow().snmp_in_flight.min(SNMP_IN_FLIGHT),
        }
    }

    fn lane(&mut self, check: Check) -> &mut Lane {
        match check {
            Check::Icmp => &mut self.pings,
            Check::Snmp => &mut self.agents,
        }
    }

    /// Starts one poll, unless the store is behind.
    fn ask(&mut self, group: GroupKey) -> bool {
        let Some(room) = self.store.try_reserve() else {
            return false;
        };
        let poll = Poll {
            group,
            store: self.store.clone(),
            secrets: self.secrets.clone(),
            plugins: self.plugins.clone(),
            quotas: Arc::clone(&self.quotas),
            collectors: self.collectors.clone(),
            plan: Arc::clone(&self.plan),
            snmp_port: self.pace.borrow().snmp_port,
            figures: Arc::clone(&self.figures),
        };
        let task = self.in_flight.spawn(poll.run(room));
        self.groups_in_flight.insert(task.id(), group);
        self.lane(group.check).in_flight += 1;
        true
    }

    /// A poll has ended, and others with it; one that panicked was logged and
    /// says nothing of its device.
    fn note(&mut self, ended: Ended) {
        self.note_one(ended);
        while let Some(ended) = self.in_flight.try_join_next_with_id() {
            self.note_one(ended);
        }
    }

    fn note_one(&mut self, ended: Ended) {
        let (id, answered) = match ended {
            Ok(ended) => ended,
            Err(panicked) => (panicked.id(), None),
        };
        let Some(group) = self.groups_in_flight.remove(&id) else {
            return;
        };
        self.schedule.finished(group, answered, clock::tick());
        self.lane(group.check).in_flight -= 1;
        while self.lane(group.check).in_flight < self.limit(group.check)
            && let Some(next) = self.lane(group.check).waiting.pop_front()
        {
            self.take(next);
        }
    }
}

/// One poll of one group.
struct Poll {
    group: GroupKey,
    store: Store,
    secrets: Secrets,
    plugins: Plugins,
    quotas: Arc<Quotas>,
    collectors: Collectors,
    plan: Arc<SnmpPlan>,
    snmp_port: u16,
    figures: Arc<Figures>,
}

impl Poll {
    async fn run(self, room: Room) -> Option<bool> {
        let inventory = self.store.inventory();
        // deleted since it was due: the place in the queue is given back
        let device = inventory.device(self.group.device)?;
        let report = self.report(device).await;
        let answered = report.outcome.device_answered();
        if let Some(row) = &report.row {
            self.quotas.take(&device.tenant, row.values.len());
        }
        self.figures.count(self.group.check, &report);
        debug!(device = %device.name, check = self.group.check.word(), ?answered, "polled");
        room.send(report);
        answered
    }

    async fn report(&self, device: &Device) -> PollReport {
        let at = clock::now();
        let began = clock::tick();
        let took = || clock::tick().saturating_sub(began);
        let asked = match self.address(device).await {
            Ok(ip) => self.ask(device, ip, at, &took).await,
            Err(failure) => Err(failure),
        };
        asked.unwrap_or_else(|failure| parse::failed(self.group, at, took(), failure))
    }

    async fn ask(
        &self,
        device: &Device,
        ip: IpAddr,
        at: Timestamp,
        took: &impl Fn() -> Duration,
    ) -> Result<PollReport, Failure> {
        match self.group.check {
            Check::Icmp => {
                let answer = self.collectors.pinger.round(ip, at).await?;
                Ok(parse::ping(device.id, &answer, took()))
            }
            Check::Snmp => {
                let port = device.poll.snmp.port.unwrap_or(self.snmp_port);
                let credential = credential(&self.store, &self.secrets, device)?;
                let target = SocketAddr::new(ip, port);
                let readers = self.plugins.readers(device);
                let plan = match readers.as_ref().map(Readers::extra) {
                    Some(extra) if !extra.is_empty() => Arc::new(SnmpPlan {
                        extra,
                        ..SnmpPlan::clone(&self.plan)
                    }),
                    _ => Arc::clone(&self.plan),
                };
                let answer = self
                    .collectors
                    .snmp
                    .poll(target, &credential, &plan, at)
                    .await?;
                let previous = self.store.reading(self.group);
                let known = self.store.facts(device.id);
                let previous = previous.as_deref();
                let report = parse::snmp(device.id, &answer, previous, known.as_deref());
                let Some(readers) = readers else {
                    return Ok(report);
                };
                let asker = Asker {
                    target,
                    credential: &credential,
                };
                Ok(self
                    .plugins
                    .read(device, readers, &answer, report, previous, asker)
                    .await)
            }
        }
    }

    async fn address(&self, device: &Device) -> Result<IpAddr, Failure> {
        address(&self.store, &self.collectors.resolver, device).await
    }
}

/// Where and with what a device's agent is asked.
pub(crate) async fn reach(
    store: &Store,
    secrets: &Secrets,
    collectors: &Collectors,
    device: &Device,
    port: u16,
) -> Result<(SocketAddr, Credential), Failure> {
    let credential = credential(store, secrets, device)?;
    let ip = address(store, &collectors.resolver, device).await?;
    let port = device.poll.snmp.port.unwrap_or(port);
    Ok((SocketAddr::new(ip, port), credential))
}

/// What the device is asked with. A secret that cannot be had says nothing of
/// the device.
fn credential(store: &Store, secrets: &Secrets, device: &Device) -> Result<Credential, Failure> {
    let name = device.credential.as_ref().ok_or_else(no_credential)?;
    let record = store.credential(name).ok_or_else(no_credential)?;
    let secret = secrets.expose(&record.secret);
    let secret = secret.map_err(|error| Failure {
        kind: FailureKind::Local,
        text: format!("the credential {name} cannot be used: {}", chain(&error)),
    })?;
    Ok(match record.kind {
        CredentialKind::SnmpV2c => Credential::SnmpV2c {
            community: secret.expose().to_vec(),
        },
    })
}

/// The device's address; for a host name the last known one if the name
/// server does not help.
async fn address(store: &Store, resolver: &Resolver, device: &Device) -> Result<IpAddr, Failure> {
    let Address::Host(host) = &device.address else {
        let resolved = resolver.resolve(&device.address, None).await?;
        return Ok(resolved.ip);
    };
    let last_known = store.last_address(host);
    let resolved = resolver.resolve(&device.address, last_known).await?;
    if resolved.fresh && last_known != Some(resolved.ip) {
        store.keep_address(host, resolved.ip);
    }
    Ok(resolved.ip)
}

fn no_credential() -> Failure {
    Failure {
        kind: FailureKind::Local,
        text: "the device's credential is gone; set one with `sotp devices set`".into(),
    }
}

/// Both checks of a device.
pub(crate) fn groups_of(device: DeviceId) -> impl Iterator<Item = GroupKey> {
    Check::ALL
        .into_iter()
        .map(move |check| GroupKey { device, check })
}

/// From now until the turn in which a group that is due at `due` is asked.
fn until_turn(due: schedule::Tick) -> Duration {
    let turns = due.as_nanos().div_ceil(TURN.as_nanos());
    let turn = TURN * u32::try_from(turns).unwrap_or(u32::MAX);
    turn.saturating_sub(clock::tick())
}
