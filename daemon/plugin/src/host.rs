//! The host, as the daemon sees it: loads plugins, makes calls, counts.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use contract::{Call, Ended, Failure, Fault, FaultClass, LogLine, MetricDescriptor, Nanos, Reply};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot, watch};
use tracing::{debug, warn};
use wasm::Compiling;

use crate::breaker::{Outcome, Pass};
use crate::cache::{Cache, Wanted};
use crate::child::LONGEST_WAIT;
use crate::compile::{RATIONED, compile};
use crate::here::{check_size, ended, failed, input_fits};
use crate::judge::{Terms, judge, suits};
use crate::state::{Answer, Budget, Pending, Stage, State, Version, died, lock};
use crate::supervisor::{restarting, supervise, watch as watch_calls};
use crate::wire::{Head, Recording, TO_HOST, WireCall, WireCode, WireLoad, frame, to_host};
use crate::{
    Code, Figures, Generation, Host, HostFigures, HostOptions, Load, Loaded, Replay, Services,
};

/// Bytes of all calls under way.
const BYTES: usize = 256 << 20;
/// One plugin may not take this part of the places for calls that wait, if
/// there are others.
const FOR_OTHERS: usize = 8;
/// Loading takes no longer, once the code is compiled.
const LOADS: Duration = Duration::from_secs(45);
/// For a machine that does something else.
const SLACK: Duration = Duration::from_secs(5);
/// A process that is asked to end has this long.
const LEAVE: Duration = Duration::from_secs(2);

/// What all clones and threads share.
pub(crate) struct Shared {
    pub(crate) options: HostOptions,
    pub(crate) services: Arc<dyn Services>,
    pub(crate) now: fn() -> Nanos,
    pub(crate) runtime: Handle,
    pub(crate) cache: Cache,
    pub(crate) state: Mutex<State>,
    pub(crate) unread: Arc<Budget>,
    /// Questions that are answered at once.
    pub(crate) asking: Arc<Semaphore>,
    /// Why the process was killed, if we did that.
    pub(crate) killed: Mutex<Option<String>>,
    compiler: tokio::sync::Mutex<()>,
    stopped: Condvar,
    end: watch::Sender<bool>,
}

/// The clones of a [`Host`]; when the last is dropped the process ends.
pub(crate) struct Owner(pub(crate) Arc<Shared>);

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owner").finish_non_exhaustive()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.stop(true);
    }
}

impl Shared {
    /// The process ends, at once or when it has read that.
    fn stop(&self, at_once: bool) {
        let mut state = lock(&self.state);
        state.stopping = true;
        if let Some(link) = &state.link {
            if at_once {
                link.kill();
            } else {
                // it may be gone already
                let _gone = link.stream.shutdown(std::net::Shutdown::Write);
            }
        }
        drop(state);
        self.stopped.notify_all();
    }

    /// Waits before the next start, unless there will be none.
    pub(crate) fn rest(&self, pause: Duration) {
        let state = lock(&self.state);
        drop(
            self.stopped
                .wait_timeout_while(state, pause, |state| !state.stopping),
        );
    }

    /// There is no process any more, and there will be none.
    pub(crate) fn ended(&self) {
        let mut state = lock(&self.state);
        state.stopping = true;
        let ids: Vec<u64> = state.pending.keys().copied().collect();
        for id in ids {
            state.fail(id, died("the plugin host was stopped"));
        }
        for version in state.versions.values_mut() {
            drop(version.told.take());
        }
        drop(state);
        self.end.send_replace(true);
    }

    /// The code of a version, as a frame for the host; whether it was in the
    /// cache; and the file that it is in.
    async fn frame_of(
        self: &Arc<Shared>,
        generation: u64,
        load: Arc<Load>,
    ) -> Result<(Arc<[u8]>, bool, Option<String>), Fault> {
        let now = (self.now)();
        let component = match &load.code {
            Code::Script { file, source } => {
                let code = WireCode::Script { file, source };
                let frame = load_frame(generation, &load, now, code)?;
                return Ok((frame, false, None));
            }
            Code::Component(bytes) => Arc::clone(bytes),
        };
        let how = Compiling {
            for_its_author: load.for_its_author,
        };
        let shared = Arc::clone(self);
        let wanted = move || Wanted::new(&component, wasm::key(how));
        let (wanted, code) = blocking(move || {
            let wanted = wanted();
            let code = shared.cache.get(&wanted);
            (wanted, code)
        })
        .await?;
        let cached = code.is_some();
        let code = match code {
            Some(code) => code,
            None => self.compiled(&load, how, &wanted).await?,
        };
        let name = wanted.name();
        let frame = blocking(move || load_frame(generation, &load, now, WireCode::Compiled(&code)))
            .await??;
        Ok((frame, cached, Some(name)))
    }

    async fn compiled(
        self: &Arc<Shared>,
        load: &Arc<Load>,
        how: Compiling,
        wanted: &Wanted,
    ) -> Result<Vec<u8>, Fault> {
        let Code::Component(component) = &load.code else {
            return Err(Fault::new(FaultClass::Load, "a script is not compiled"));
        };
        let component = Arc::clone(component);
        let _one_at_a_time = self.compiler.lock().await;
        let (shared, wanted) = (Arc::clone(self), wanted.clone());
        blocking(move || {
            // somebody else may have compiled it meanwhile
            if let Some(code) = shared.cache.get(&wanted) {
                return Ok(code);
            }
            let code = compile(&shared.options.program, RATIONED, &component, how)?;
            let mut used: BTreeSet<String> = lock(&shared.state).files();
            used.insert(wanted.name());
            let kept = shared
                .cache
                .put(&wanted, &code)
                .and_then(|()| shared.cache.tidy(&used));
            if let Err(error) = kept {
                warn!(%error, "cannot keep a compiled plugin: it is compiled again at the next start");
            }
            Ok(code)
        })
        .await?
    }

    /// Sends a version to the process that serves for now; says whether its
    /// code was in the cache.
    pub(crate) fn send_version(
        self: &Arc<Shared>,
        generation: u64,
    ) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        let shared = Arc::clone(self);
        Box::pin(async move { shared.send_now(generation).await })
    }

    async fn send_now(self: &Arc<Shared>, generation: u64) -> bool {
        let load = {
            let state = lock(&self.state);
            let version = state.versions.get(&generation);
            version.map(|version| Arc::clone(&version.load))
        };
        let framed = match load {
            Some(load) => self.frame_of(generation, load).await,
            None => Err(Fault::new(FaultClass::Load, "it is forgotten")),
        };
        let mut state = lock(&self.state);
        let state = &mut *state;
        let mut was_cached = false;
        let suspect = match (framed, state.versions.get_mut(&generation)) {
            (Ok((frame, cached, file)), Some(version)) => {
                was_cached = cached;
                version.file = file;
                if let (Some(link), Stage::Unsent) = (&state.link, &version.stage) {
                    version.stage = Stage::Sent;
                    link.outbox.put_code(frame);
                    state.flush(generation);
                }
                state.next_suspect()
            }
            (Err(fault), Some(version)) => {
                debug!(%fault, plugin = version.name, "cannot be loaded");
                version.stage = Stage::Broken(fault.clone());
                if let Some(told) = version.told.take() {
                    // nobody waits any more
                    let _gone = told.send(Err(fault.clone()));
                }
                let of_it = |(_, call): &(&u64, &Pending)| call.generation == generation;
                let calls = state.pending.iter().filter(of_it);
                let ids: Vec<u64> = calls.map(|(id, _)| *id).collect();
                ids.into_iter().for_each(|id| state.fail(id, fault.clone()));
                state.acquitted(generation)
            }
            (_, None) => state.acquitted(generation),
        };
        if let Some(next) = suspect {
            self.runtime.spawn(self.send_version(next));
        }
        was_cached
    }
}

/// Does what blocks, where that is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Fault::new(FaultClass::Load, error.to_string()))
}

fn load_frame(
    generation: u64,
    load: &Load,
    now: Nanos,
    code: WireCode<'_>,
) -> Result<Arc<[u8]>, Fault> {
    let wire = WireLoad {
        kind: load.kind,
        limits: load.limits.clone(),
        grants: load.grants.clone(),
        settings: load.settings.clone(),
        for_its_author: load.for_its_author,
        now,
        code,
    };
    let head = Head {
        tag: to_host::LOAD,
        id: generation,
        generation,
    };
    let size = |why| Fault::new(FaultClass::Load, format!("its code has {why}"));
    frame(head, &wire, TO_HOST).map(Into::into).map_err(size)
}

/// A call that somebody waits for, and the version that it is for.
struct Ticket {
    shared: Arc<Shared>,
    generation: u64,
    load: Arc<Load>,
    described: Option<Arc<MetricDescriptor>>,
    /// Whose call counts: `None` for a golden case.
    name: Option<String>,
    pass: Pass,
    counted: bool,
    id: Option<u64>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        let state = &mut *state;
        if let Some(id) = self.id
            && let Some(call) = state.pending.get_mut(&id)
        {
            if call.sent.is_some() {
                // its answer comes yet
                call.reply = None;
                let version = state.versions.get(&self.generation);
                let named = version.and_then(|v| state.plugins.get_mut(&v.name));
                if let Some(named) = named {
                    named.waiting = named.waiting.saturating_sub(1);
                }
            } else {
                state.remove_call(id);
            }
        }
        if let (false, Some(name)) = (self.counted, &self.name)
            && let Some(named) = state.plugins.get_mut(name)
        {
            named.breaker.gave_up(self.pass);
        }
        if let Some(version) = state.versions.get_mut(&self.generation) {
            version.calls -= 1;
            if version.retired {
                state.retire(self.generation);
            }
        }
    }
}

impl Ticket {
    /// Lets a call of `name` in, or says why not.
    fn of_name(shared: &Arc<Shared>, name: &str, call: &Call) -> Result<Ticket, Fault> {
        let mut state = lock(&shared.state);
        let state = &mut *state;
        let unknown = || Fault::new(FaultClass::Load, format!("no plugin is called {name:?}"));
        let named = state.plugins.get_mut(name).ok_or_else(unknown)?;
        let generation = named.active.ok_or_else(unknown)?;
        let version = state.versions.get_mut(&generation).ok_or_else(unknown)?;
        suits(call, version.load.kind)?;
        if let Stage::Broken(fault) = &version.stage {
            return Err(fault.clone());
        }
        let pass = named.breaker.admit(Instant::now()).map_err(paused)?;
        version.calls += 1;
        Ok(Ticket {
            shared: Arc::clone(shared),
            generation,
            load: Arc::clone(&version.load),
            described: version.described.clone(),
            name: Some(name.to_owned()),
            pass,
            counted: false,
            id: None,
        })
    }

    /// Lets a call of a golden case in.
    fn of_generation(shared: &Arc<Shared>, generation: u64, call: &Call) -> Result<Ticket, Fault> {
        let mut state = lock(&shared.state);
        let version = state.versions.get_mut(&generation);
        let version = version.ok_or_else(|| Generation(generation).unknown())?;
        suits(call, version.load.kind)?;
        if let Stage::Broken(fault) = &version.stage {
            return Err(fault.clone());
        }
        version.calls += 1;
        Ok(Ticket {
            shared: Arc::clone(shared),
            generation,
            load: Arc::clone(&version.load),
            described: version.described.clone(),
            name: None,
            pass: Pass::Normal,
            counted: true,
            id: None,
        })
    }

    /// Makes the call and waits for what comes of it.
    async fn make(&mut self, call: &Call, now: Nanos, recording: Option<Recording>) -> Ended {
        let function = call.function();
        let began = Instant::now();
        let answers = match self.register(call, now, recording) {
            Ok(answers) => answers,
            Err(failure) => return failed(failure),
        };
        let unread = match self.answer(answers, began).await {
            Answer::Frame(unread) => unread,
            Answer::None(fault) => return ended(fault),
        };
        let terms = Terms {
            kind: self.load.kind,
            function,
            limits: &self.load.limits,
            grants: &self.load.grants,
            described: self.described.as_deref(),
        };
        match unread.frame.read::<Ended>() {
            Ok(answer) => judge(answer, terms),
            Err(why) => {
                self.shared.kill(format!("its answer is none: {why}"));
                ended(died("the plugin host sent an answer that is none"))
            }
        }
    }

    /// Puts the call among those under way, and sends it if that is possible
    /// now.
    fn register(
        &mut self,
        call: &Call,
        now: Nanos,
        recording: Option<Recording>,
    ) -> Result<oneshot::Receiver<Answer>, Failure> {
        let is_replay = recording.is_some();
        let id = lock(&self.shared.state).new_id();
        let wire = WireCall {
            now,
            recording,
            call,
        };
        let head = Head {
            tag: to_host::CALL,
            id,
            generation: self.generation,
        };
        let size = |why| Failure::from(Fault::new(FaultClass::Memory, format!("a call of {why}")));
        let frame: Arc<[u8]> = frame(head, &wire, TO_HOST).map_err(size)?.into();
        if !is_replay {
            input_fits(frame.len(), &self.load.limits)?;
        }
        let (reply, answers) = oneshot::channel();
        let mut state = lock(&self.shared.state);
        self.find_room(&mut state, frame.len())?;
        state.bytes += frame.len();
        let pending = Pending {
            generation: self.generation,
            frame,
            reply: Some(reply),
            sent: None,
            deaths: 0,
            resent: 0,
            asked: 0,
            asks: false,
            is_replay,
        };
        state.pending.insert(id, pending);
        let name = state.versions.get(&self.generation).map(|v| v.name.clone());
        if let Some(named) = name.and_then(|name| state.plugins.get_mut(&name)) {
            named.waiting += 1;
        }
        self.id = Some(id);
        state.send(id);
        Ok(answers)
    }

    fn find_room(&self, state: &mut State, bytes: usize) -> Result<(), Fault> {
        let busy = |message: String| Err(Fault::new(FaultClass::Busy, message));
        if state.stopping {
            return Err(died("the plugin host was stopped"));
        }
        let all = self.shared.options.waiting.max(1);
        if state.pending.len() >= all || state.bytes + bytes > BYTES {
            return busy(format!("{} calls wait already", state.pending.len()));
        }
        let others = state.plugins.len() > 1;
        let share = if others { all - all / FOR_OTHERS } else { all };
        let named = self.name.as_ref().and_then(|name| state.plugins.get(name));
        let waiting = named.map_or(0, |named| named.waiting);
        if waiting >= share {
            return busy(format!("{waiting} calls of it wait already"));
        }
        Ok(())
    }

    /// Waits for the answer, for as long as that makes sense.
    async fn answer(&self, mut answers: oneshot::Receiver<Answer>, began: Instant) -> Answer {
        let wall = Duration::from_millis(self.load.limits.wall_ms.into());
        let mut until = began + wall;
        loop {
            match tokio::time::timeout_at(until.into(), &mut answers).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(_)) => return Answer::None(died("the plugin host was stopped")),
                Err(_) => {}
            }
            let sent = self.id.and_then(|id| {
                let state = lock(&self.shared.state);
                state.pending.get(&id).map(|call| call.sent)
            });
            let most = LONGEST_WAIT + wall * 2 + SLACK;
            match sent {
                // its answer is on the way
                None => until = Instant::now() + SLACK,
                Some(None) => return Answer::None(restarting()),
                Some(Some(at)) if at.elapsed() > most => {
                    self.shared
                        .kill(format!("a call has no answer for {most:?}"));
                    return Answer::None(died("the plugin host gave no answer"));
                }
                Some(Some(at)) => until = at + most + Duration::from_millis(1),
            }
        }
    }
}

impl Shared {
    fn kill(&self, why: String) {
        *lock(&self.killed) = Some(why);
        lock(&self.state).link.iter().for_each(|link| link.kill());
    }
}

fn paused(left: Duration) -> Fault {
    let message = if left == Duration::MAX {
        "it is left alone until its settings change".to_owned()
    } else {
        let seconds = left.as_secs();
        format!("it broke too often and is left alone for another {seconds} s")
    };
    Fault::new(FaultClass::Paused, message)
}

/// Forgets a version whose loading nobody waits for any more.
struct Attempt {
    shared: Arc<Shared>,
    generation: u64,
    succeeded: bool,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.succeeded {
            lock(&self.shared.state).retire(self.generation);
        }
    }
}

impl Host {
    pub(crate) async fn start_host(
        options: HostOptions,
        services: Arc<dyn Services>,
        now: fn() -> Nanos,
    ) -> Result<Host, Fault> {
        let directory = options.cache.clone();
        let asking = Arc::new(Semaphore::new(options.threads.max(1)));
        let cache = blocking(move || Cache::open(&directory)).await?;
        let refused = |what: &str, error: std::io::Error| {
            Fault::new(FaultClass::Load, format!("{what}: {error}"))
        };
        let cache = cache.map_err(|error| refused("the directory of compiled plugins", error))?;
        let shared = Arc::new(Shared {
            options,
            services,
            now,
            runtime: Handle::current(),
            cache,
            state: Mutex::default(),
            unread: Arc::default(),
            asking,
            killed: Mutex::default(),
            compiler: tokio::sync::Mutex::default(),
            stopped: Condvar::new(),
            end: watch::Sender::new(false),
        });
        let owner = Owner(Arc::clone(&shared));
        let (first, started) = oneshot::channel();
        let supervised = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("plugin-host".to_owned())
            .spawn(move || supervise(&supervised, first))
            .map_err(|error| refused("cannot start a thread", error))?;
        started
            .await
            .map_err(|_| Fault::new(FaultClass::Load, "the plugin host did not start"))??;
        tokio::spawn(watch_calls(shared));
        Ok(Host {
            owner: Arc::new(owner),
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.owner.0
    }

    pub(crate) async fn load_version(&self, name: &str, load: Load) -> Result<Loaded, Fault> {
        let began = Instant::now();
        check_size(&load.code)?;
        let shared = self.shared();
        let (told, hear) = oneshot::channel();
        let (kind, limits, grants) = (load.kind, load.limits.clone(), load.grants.clone());
        let generation = {
            let mut state = lock(&shared.state);
            if state.stopping {
                return Err(died("the plugin host was stopped"));
            }
            let generation = state.new_id();
            let mut version = Version::new(name, load);
            version.told = Some(told);
            state.versions.insert(generation, version);
            state.plugins.entry(name.to_owned()).or_default();
            generation
        };
        let mut attempt = Attempt {
            shared: Arc::clone(shared),
            generation,
            succeeded: false,
        };
        let cached = shared.send_version(generation).await;
        let late = || Fault::new(FaultClass::Time, "loading it takes too long");
        let heard = tokio::time::timeout(LOADS, hear)
            .await
            .map_err(|_| late())?;
        let reply = heard.map_err(|_| died("the plugin host was stopped"))??;
        let terms = Terms {
            kind,
            function: "describe",
            limits: &limits,
            grants: &grants,
            described: None,
        };
        let described = judge(
            Ended {
                result: Ok(reply),
                log: Vec::new(),
                kv: Vec::new(),
                usage: contract::Usage::default(),
            },
            terms,
        );
        let described = described.result.map_err(|failure| match failure {
            Failure::Fault(fault) => fault,
            Failure::Said(said) => Fault::new(FaultClass::Load, said.text()),
        })?;
        if let Some(version) = lock(&shared.state).versions.get_mut(&generation)
            && let Reply::Metrics(metrics) = &described
        {
            version.described = Some(Arc::new(metrics.clone()));
        }
        attempt.succeeded = true;
        Ok(Loaded {
            generation: Generation(generation),
            described,
            cached,
            took: began.elapsed(),
        })
    }

    pub(crate) fn activate_version(&self, name: &str, generation: u64) {
        let mut state = lock(&self.shared().state);
        let state = &mut *state;
        let version = state.versions.get(&generation);
        if version.is_none_or(|version| version.name != name || version.retired) {
            return;
        }
        let named = state.plugins.entry(name.to_owned()).or_default();
        if named.active == Some(generation) {
            return;
        }
        named.breaker.loaded();
        if let Some(old) = named.active.replace(generation) {
            state.retire(old);
        }
    }

    pub(crate) fn forget_version(&self, generation: u64) {
        let mut state = lock(&self.shared().state);
        let mut plugins = state.plugins.values();
        if plugins.all(|named| named.active != Some(generation)) {
            state.retire(generation);
        }
    }

    pub(crate) fn unload_plugin(&self, name: &str) {
        let mut state = lock(&self.shared().state);
        let named = state.plugins.remove(name);
        if let Some(generation) = named.and_then(|named| named.active) {
            state.retire(generation);
        }
    }

    pub(crate) async fn make_call(&self, name: &str, call: &Call) -> Ended {
        let shared = self.shared();
        let mut ticket = match Ticket::of_name(shared, name, call) {
            Ok(ticket) => ticket,
            Err(fault) => {
                let failure = Failure::from(fault);
                if let Some(named) = lock(&shared.state).plugins.get_mut(name) {
                    named.tally.refused(&failure);
                }
                return failed(failure);
            }
        };
        let at = (shared.now)();
        let mut ended = ticket.make(call, at, None).await;
        ticket.count(&mut ended, at);
        ended
    }

    pub(crate) async fn make_replay(&self, generation: u64, replay: Replay) -> Ended {
        let shared = self.shared();
        let mut ticket = match Ticket::of_generation(shared, generation, &replay.call) {
            Ok(ticket) => ticket,
            Err(fault) => return ended(fault),
        };
        let recording = Recording {
            settings: replay.settings,
            host: replay.host,
        };
        ticket.make(&replay.call, replay.now, Some(recording)).await
    }

    pub(crate) fn figures_of(&self, name: &str) -> Figures {
        let state = lock(&self.shared().state);
        let named = state.plugins.get(name);
        named.map_or_else(Figures::default, |named| {
            named.tally.figures(&named.breaker, Instant::now())
        })
    }

    pub(crate) fn figures_of_host(&self) -> HostFigures {
        let state = lock(&self.shared().state);
        HostFigures {
            pid: state.link.as_ref().map(|link| link.pid),
            restarts: state.restarts,
            in_flight: state.pending.len(),
            resident: state.resident,
            not_in_force: state.not_in_force.clone(),
        }
    }

    pub(crate) fn lines_of(&self, name: &str) -> Vec<(Nanos, LogLine)> {
        let state = lock(&self.shared().state);
        let named = state.plugins.get(name);
        named.map_or_else(Vec::new, |named| named.tally.lines())
    }

    pub(crate) async fn stop_host(&self) {
        let shared = self.shared();
        shared.stop(false);
        let mut end = shared.end.subscribe();
        let ended = async |end: &mut watch::Receiver<bool>| {
            // the sender is in what we hold
            let _there = end.wait_for(|ended| *ended).await;
        };
        if tokio::time::timeout(LEAVE, ended(&mut end)).await.is_err() {
            shared.stop(true);
            ended(&mut end).await;
        }
    }
}

impl Ticket {
    /// Counts what came of the call.
    fn count(&mut self, ended: &mut Ended, at: Nanos) {
        self.counted = true;
        let now = Instant::now();
        let outcome = Outcome::of(ended.result.as_ref().err());
        let mut state = lock(&self.shared.state);
        let name = self.name.as_deref().unwrap_or_default();
        if let Some(named) = state.plugins.get_mut(name) {
            named.tally.count(ended, now, at);
            named.breaker.ended(self.pass, outcome, now);
        }
    }
}
