//! What the daemon knows of its host: the plugins, their generations, the calls
//! that are under way, and the process that serves them for now.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use contract::{Fault, FaultClass, MetricDescriptor, Reply};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::oneshot;
use tracing::warn;

use crate::Load;
use crate::board::Board;
use crate::breaker::Breaker;
use crate::outbox::Outbox;
use crate::tally::Tally;
use crate::wire::{Head, Received, frame, to_host};

/// A call during which the host died so often fails.
const DEATHS: u32 = 2;
/// A call that only waited when the host died is sent again, so often.
const RESENT: u32 = 5;

/// What became of a call.
pub(crate) enum Answer {
    /// An answer that was not read yet.
    Frame(Unread),
    /// None will come.
    None(Fault),
}

/// Bytes of answers that nobody has read yet: a host that sends faster than the
/// daemon reads has to wait.
#[derive(Default)]
pub(crate) struct Budget {
    used: Mutex<usize>,
    freed: Condvar,
}

/// Unread answers, in bytes.
const UNREAD: usize = 128 << 20;
/// A caller that does not look at its answer for so long does not stop the
/// others.
const PATIENCE: Duration = Duration::from_secs(5);

/// An answer that counts as unread until it is dropped.
pub(crate) struct Unread {
    pub(crate) frame: Received,
    bytes: usize,
    budget: Arc<Budget>,
}

impl Unread {
    /// Waits until there is room for it.
    pub(crate) fn new(frame: Received, budget: &Arc<Budget>) -> Unread {
        let bytes = frame.body().len();
        let used = budget.used.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |used: &mut usize| *used > 0 && *used + bytes > UNREAD;
        let waited = budget.freed.wait_timeout_while(used, PATIENCE, is_full);
        *waited.unwrap_or_else(PoisonError::into_inner).0 += bytes;
        Unread {
            frame,
            bytes,
            budget: Arc::clone(budget),
        }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let mut used = lock(&self.budget.used);
        *used -= self.bytes;
        drop(used);
        self.budget.freed.notify_one();
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The process that serves calls for now.
pub(crate) struct Link {
    pub(crate) pid: u32,
    pub(crate) incarnation: u64,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) board: Arc<Board>,
    pub(crate) stream: UnixStream,
    pub(crate) pong: Instant,
}

impl Link {
    /// Ends the process. The process is waited for only after its link is gone,
    /// so that the number is still its own.
    pub(crate) fn kill(&self) {
        if let Ok(pid) = i32::try_from(self.pid) {
            // it may be dead already
            let _dead = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// How far a generation is in the process that serves for now.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stage {
    Unsent,
    Sent,
    Loaded,
    Broken(Fault),
}

/// One version of a plugin.
pub(crate) struct Version {
    pub(crate) name: String,
    pub(crate) load: Arc<Load>,
    pub(crate) described: Option<Arc<MetricDescriptor>>,
    pub(crate) stage: Stage,
    /// How often the host died while loading it.
    pub(crate) deaths: u32,
    /// Calls that somebody waits for.
    pub(crate) calls: usize,
    /// To be dropped when the last call has ended.
    pub(crate) retired: bool,
    /// Its calls that are tried once more, one by one; the others wait.
    pub(crate) held: usize,
    pub(crate) told: Option<oneshot::Sender<Result<Reply, Fault>>>,
    /// Its file in the cache.
    pub(crate) file: Option<String>,
}

impl Version {
    pub(crate) fn new(name: &str, load: Load) -> Version {
        Version {
            name: name.to_owned(),
            load: Arc::new(load),
            described: None,
            stage: Stage::Unsent,
            deaths: 0,
            calls: 0,
            retired: false,
            held: 0,
            told: None,
            file: None,
        }
    }

    pub(crate) fn wall(&self) -> Duration {
        Duration::from_millis(self.load.limits.wall_ms.into())
    }
}

/// A call that is under way.
pub(crate) struct Pending {
    pub(crate) generation: u64,
    pub(crate) frame: Arc<[u8]>,
    /// `None`: nobody waits any more.
    pub(crate) reply: Option<oneshot::Sender<Answer>>,
    /// When it was sent to the process that serves for now.
    pub(crate) sent: Option<Instant>,
    /// How often the host died while it ran.
    pub(crate) deaths: u32,
    pub(crate) resent: u32,
    /// Questions that it asked, and whether one is not answered.
    pub(crate) asked: u32,
    pub(crate) asks: bool,
    pub(crate) is_replay: bool,
}

/// One plugin.
#[derive(Default)]
pub(crate) struct Named {
    pub(crate) active: Option<u64>,
    pub(crate) breaker: Breaker,
    pub(crate) tally: Tally,
    pub(crate) waiting: usize,
}

/// Everything.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) plugins: BTreeMap<String, Named>,
    pub(crate) versions: HashMap<u64, Version>,
    pub(crate) pending: HashMap<u64, Pending>,
    /// What ran when the host died, with its generation: tried one by one.
    pub(crate) suspects: VecDeque<(u64, u64)>,
    pub(crate) on_trial: Option<(u64, u64)>,
    pub(crate) last_id: u64,
    pub(crate) link: Option<Link>,
    pub(crate) restarts: u64,
    pub(crate) resident: u64,
    pub(crate) not_in_force: Vec<String>,
    pub(crate) stopping: bool,
    /// Bytes of all calls under way.
    pub(crate) bytes: usize,
}

impl State {
    /// A number that nothing else has.
    pub(crate) fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Takes a call out.
    pub(crate) fn remove_call(&mut self, id: u64) -> Option<Pending> {
        let call = self.pending.remove(&id)?;
        self.bytes -= call.frame.len();
        let name = self.versions.get(&call.generation).map(|v| &v.name);
        if call.reply.is_some()
            && let Some(named) = name.and_then(|name| self.plugins.get_mut(name))
        {
            named.waiting = named.waiting.saturating_sub(1);
        }
        Some(call)
    }

    /// Ends a call that will have no answer.
    pub(crate) fn fail(&mut self, id: u64, fault: Fault) {
        if let Some(reply) = self.remove_call(id).and_then(|call| call.reply) {
            // it has gone meanwhile
            let _gone = reply.send(Answer::None(fault));
        }
    }

    /// Sends a call, if its version is there and nothing holds it back.
    pub(crate) fn send(&mut self, id: u64) {
        let Some(call) = self.pending.get_mut(&id) else {
            return;
        };
        let version = self.versions.get(&call.generation);
        let may = version.is_some_and(|version| {
            matches!(version.stage, Stage::Sent | Stage::Loaded) && version.held == 0
        });
        if let (true, None, Some(link)) = (may, call.sent, &self.link) {
            call.sent = Some(Instant::now());
            link.outbox.put(Arc::clone(&call.frame));
        }
    }

    /// Sends what waited for a version.
    pub(crate) fn flush(&mut self, generation: u64) {
        let waits = |call: &Pending| call.generation == generation && call.sent.is_none();
        let calls = self.pending.iter().filter(|(_, call)| waits(call));
        let mut ids: Vec<u64> = calls.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.into_iter().for_each(|id| self.send(id));
    }

    /// What is to be tried next of what may have killed the host: a version to
    /// be loaded, for which the caller has to see. Calls are sent at once.
    pub(crate) fn next_suspect(&mut self) -> Option<u64> {
        while self.on_trial.is_none() {
            let (id, generation) = *self.suspects.front()?;
            if id == generation {
                self.suspects.pop_front();
                if self.versions.contains_key(&generation) {
                    self.on_trial = Some((id, generation));
                    return Some(generation);
                }
                continue;
            }
            let is_there = self
                .versions
                .get(&generation)
                .is_some_and(|v| matches!(v.stage, Stage::Sent | Stage::Loaded));
            let Some(call) = self.pending.get_mut(&id) else {
                self.suspects.pop_front();
                self.release(generation);
                continue;
            };
            let link = self.link.as_ref().filter(|_| is_there)?;
            self.suspects.pop_front();
            self.on_trial = Some((id, generation));
            call.sent = Some(Instant::now());
            link.outbox.put(Arc::clone(&call.frame));
        }
        None
    }

    /// What was tried has ended well; says which version is to be loaded next.
    pub(crate) fn acquitted(&mut self, id: u64) -> Option<u64> {
        let (_, generation) = self.on_trial.filter(|(suspect, _)| *suspect == id)?;
        self.on_trial = None;
        if id != generation {
            self.release(generation);
        }
        self.next_suspect()
    }

    fn release(&mut self, generation: u64) {
        if let Some(version) = self.versions.get_mut(&generation) {
            version.held = version.held.saturating_sub(1);
            if version.held == 0 {
                self.flush(generation);
            }
        }
    }

    /// Drops a version as soon as nobody waits for it.
    pub(crate) fn retire(&mut self, generation: u64) {
        let Some(version) = self.versions.get_mut(&generation) else {
            return;
        };
        version.retired = true;
        if version.calls > 0 {
            return;
        }
        self.versions.remove(&generation);
        if let Some(link) = &self.link {
            let head = Head {
                tag: to_host::DROP,
                id: 0,
                generation,
            };
            if let Ok(frame) = frame(head, &(), 64) {
                link.outbox.put(frame.into());
            }
        }
    }

    /// The files of the cache that are in use.
    pub(crate) fn files(&self) -> BTreeSet<String> {
        let files = self.versions.values().filter_map(|v| v.file.clone());
        files.collect()
    }

    /// The process is dead. Says who may be to blame, and sees to it that what
    /// killed it twice is not tried again.
    pub(crate) fn died(&mut self, running: &[u64], why: &str, now: Instant) {
        self.link = None;
        self.resident = 0;
        self.on_trial = None;
        self.suspects.clear();
        self.versions.values_mut().for_each(|v| v.held = 0);
        self.blame_versions(running, why);
        let mut ids: Vec<u64> = self.pending.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            self.blame_call(id, running.contains(&id), why, now);
        }
    }

    fn blame_versions(&mut self, running: &[u64], why: &str) {
        for (generation, version) in &mut self.versions {
            if version.stage == Stage::Sent && running.contains(generation) {
                version.deaths += 1;
                if version.deaths >= DEATHS {
                    let fault = died(format!(
                        "the plugin host dies when it loads this plugin ({why})"
                    ));
                    if let Some(told) = version.told.take() {
                        // nobody waits any more
                        let _gone = told.send(Err(fault.clone()));
                    }
                    version.stage = Stage::Broken(fault);
                    continue;
                }
                self.suspects.push_back((*generation, *generation));
            }
            if version.deaths < DEATHS {
                version.stage = Stage::Unsent;
            }
        }
    }

    fn blame_call(&mut self, id: u64, ran: bool, why: &str, now: Instant) {
        let Some(call) = self.pending.get_mut(&id) else {
            return;
        };
        let generation = call.generation;
        let was_sent = call.sent.take().is_some();
        call.asks = false;
        call.asked = 0;
        let version = self.versions.get_mut(&generation);
        let (Some(version), true) = (version, call.reply.is_some()) else {
            self.remove_call(id);
            return;
        };
        if let Stage::Broken(fault) = &version.stage {
            let fault = fault.clone();
            return self.fail(id, fault);
        }
        if ran && was_sent {
            call.deaths += 1;
            if call.deaths >= DEATHS {
                let name = version.name.clone();
                self.fail(
                    id,
                    died(format!(
                        "the plugin host died twice during this call ({why})"
                    )),
                );
                return self.poison(&name, now);
            }
            version.held += 1;
            self.suspects.push_back((id, generation));
        } else if was_sent {
            call.resent += 1;
            if call.resent > RESENT {
                let message = format!("the plugin host died again and again ({why})");
                self.fail(id, died(message));
            }
        }
    }

    /// A plugin that killed the host twice is left alone for a while, and what
    /// waits for it is told so.
    fn poison(&mut self, name: &str, now: Instant) {
        warn!(plugin = name, "the plugin host died twice in a call");
        if let Some(named) = self.plugins.get_mut(name) {
            named.breaker.open(now);
        }
        let of_it = |call: &Pending| {
            !call.is_replay
                && self
                    .versions
                    .get(&call.generation)
                    .is_some_and(|version| version.name == name)
        };
        let calls = self.pending.iter().filter(|(_, call)| of_it(call));
        let ids: Vec<u64> = calls.map(|(id, _)| *id).collect();
        for id in ids {
            self.suspects.retain(|(suspect, _)| *suspect != id);
            let message = "it is left alone for a while: it killed the plugin host";
            self.fail(id, Fault::new(FaultClass::Paused, message));
        }
        let gone = self.versions.iter_mut().filter(|(_, v)| v.name == name);
        for (generation, version) in gone {
            let held = self
                .suspects
                .iter()
                .filter(|(id, of)| of == generation && id != of);
            version.held = held.count();
        }
    }
}

/// A fault of the host.
pub(crate) fn died(message: impl Into<String>) -> Fault {
    Fault::new(FaultClass::HostDied, message)
}
