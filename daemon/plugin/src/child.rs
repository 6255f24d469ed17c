//! The host: the sandboxed process that plugins run in.
//!
//! One thread reads what the daemon sends, some threads call plugins, some load
//! them, one writes what came of it. A plugin's calls wait in a queue of its
//! own; the queues take turns, and no plugin may keep all threads busy.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use contract::{
    Call, Ended, Fault, FaultClass, Grants, HostAnswer, HostAsk, HostCalls, Kind, Limits,
    MetricDescriptor, Nanos, Plugin, Reply, Session, Settings,
};
use script::Script;
use wasm::{Compiling, Engine};

use crate::Generation;
use crate::board::{Board, PLACES};
use crate::here::{Recorded, ended};
use crate::judge::{Terms, judge};
use crate::outbox::Outbox;
use crate::sandbox::{Rations, Sandbox};
use crate::system;
use crate::wire::{
    ASK, Begin, FROM_HOST, Frames, Head, Hello, LOADED, PROTOCOL, Received, TO_HOST, WireAnswer,
    WireCall, WireCode, WireLoad, frame, from_host, to_host,
};

/// Threads that load plugins.
const LOADERS: usize = 4;

/// What scripts need; components need less.
const STACK: usize = script::STACK_BYTES;

/// A call that waited so long for a thread is not made any more: whoever wanted
/// it has gone on.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Calls that may wait, all plugins together. The daemon allows fewer.
const WAITING: usize = 100_000;

/// Makes plugins of scripts that are none: for the host's own tests.
pub type Maker = fn(file: &str, source: &str) -> Option<Box<dyn Plugin>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A plugin that is ready.
struct Ready {
    plugin: Box<dyn Plugin>,
    kind: Kind,
    limits: Limits,
    grants: Grants,
    settings: Arc<Settings>,
    described: Option<MetricDescriptor>,
}

enum Stage {
    Loading,
    Ready(Arc<Ready>),
    Failed(Fault),
}

struct Waiting {
    frame: Received,
    since: Instant,
}

/// One generation, and the calls that wait for it.
struct Lane {
    stage: Stage,
    calls: VecDeque<Waiting>,
    running: usize,
    /// It stands in line for a thread.
    in_line: bool,
}

#[derive(Default)]
struct Queue {
    lanes: HashMap<u64, Lane>,
    line: VecDeque<u64>,
    waiting: usize,
    idle: usize,
    loads: VecDeque<Received>,
}

impl Queue {
    /// Puts a lane in line, if it has something to do and may do it.
    fn line_up(&mut self, generation: u64, at_once: usize) {
        if let Some(lane) = self.lanes.get_mut(&generation)
            && !lane.in_line
            && !lane.calls.is_empty()
            && lane.running < at_once
            && !matches!(lane.stage, Stage::Loading)
        {
            lane.in_line = true;
            self.line.push_back(generation);
        }
    }
}

/// A question that was not answered yet, of one call.
#[derive(Default)]
struct Question {
    answer: Mutex<Option<WireAnswer>>,
    came: Condvar,
}

struct Host {
    queue: Mutex<Queue>,
    to_do: Condvar,
    to_load: Condvar,
    questions: Mutex<HashMap<u64, Arc<Question>>>,
    out: Arc<Outbox>,
    board: Board,
    memory: Option<File>,
    /// How many calls of one plugin run at once.
    at_once: usize,
    engine: Result<Engine, Fault>,
    for_authors: OnceLock<Result<Engine, Fault>>,
    make: Option<Maker>,
}

/// Serves until standard input ends.
pub(crate) fn serve(make: Option<Maker>) -> ExitCode {
    let closed = system::close_all_from(3);
    let Some((stream, board)) = inherited() else {
        return ExitCode::FAILURE;
    };
    let mut frames = Frames::new(&stream, TO_HOST);
    let Some(begin) = begun(&mut frames) else {
        return ExitCode::FAILURE;
    };
    let threads = (begin.threads as usize).clamp(1, PLACES - LOADERS);
    let mut sandbox = Sandbox::begin(Rations {
        memory: begin.memory.saturating_add(stacks(threads)),
        cpu_s: None,
    });
    sandbox.layer("closed descriptors", closed);
    let how = Compiling {
        for_its_author: false,
    };
    let engine = Engine::new(how);
    let memory = File::open("/proc/self/statm").ok();
    // before threads start, and before anything of a plugin is read
    let not_in_force = sandbox.close();
    let host = Arc::new(Host {
        queue: Mutex::default(),
        to_do: Condvar::new(),
        to_load: Condvar::new(),
        questions: Mutex::default(),
        out: Arc::new(Outbox::to(stream.try_clone().ok())),
        board,
        memory,
        at_once: threads.saturating_sub(1).max(1),
        engine,
        for_authors: OnceLock::new(),
        make,
    });
    let hello = Hello {
        protocol: PROTOCOL,
        not_in_force,
    };
    host.send(from_host::HELLO, 0, 0, &hello);
    if host.start_threads(threads, &stream).is_err() {
        return ExitCode::FAILURE;
    }
    // the end of the input, or an input that is none: the daemon is gone
    while let Ok(Some(received)) = frames.next() {
        host.take(received);
    }
    ExitCode::SUCCESS
}

/// Bytes of all threads' stacks, most of which is never touched but counts as
/// memory; loading a script takes a thread of its own.
fn stacks(threads: usize) -> u64 {
    let threads = threads + 2 * LOADERS + 1;
    (threads * STACK) as u64
}

/// The socket is standard input, the board standard output; a full pipe must
/// not stop whoever writes to standard error.
fn inherited() -> Option<(UnixStream, Board)> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(std::io::stderr(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).ok()?;
    let stream = std::io::stdin().as_fd().try_clone_to_owned().ok()?;
    let board = std::io::stdout().as_fd().try_clone_to_owned().ok()?;
    Some((stream.into(), Board::from_fd(board)))
}

fn begun(frames: &mut Frames<&UnixStream>) -> Option<Begin> {
    let first = frames.next().ok()??;
    let begin: Begin = first.read().ok()?;
    (first.head.tag == to_host::BEGIN && begin.protocol == PROTOCOL).then_some(begin)
}

impl Host {
    fn start_threads(self: &Arc<Host>, threads: usize, stream: &UnixStream) -> std::io::Result<()> {
        let spawn = |name: String, work: Box<dyn FnOnce() + Send>| {
            let builder = thread::Builder::new().name(name).stack_size(STACK);
            builder.spawn(work).map(drop)
        };
        let (out, to) = (Arc::clone(&self.out), stream.try_clone()?);
        spawn(
            "answers".to_owned(),
            Box::new(move || {
                // the daemon is gone: the reader sees it as well
                let _gone = out.write_to(&to);
            }),
        )?;
        for place in 0..threads {
            let host = Arc::clone(self);
            spawn(format!("calls-{place}"), Box::new(move || host.work(place)))?;
        }
        for loader in 0..LOADERS {
            let host = Arc::clone(self);
            let place = PLACES - 1 - loader;
            spawn(
                format!("loads-{loader}"),
                Box::new(move || host.load(place)),
            )?;
        }
        Ok(())
    }

    fn send<T: serde::Serialize>(&self, tag: u8, id: u64, generation: u64, body: &T) {
        let head = Head {
            tag,
            id,
            generation,
        };
        // what has no limit of its own is small
        if let Ok(frame) = frame(head, body, FROM_HOST) {
            self.out.put(frame.into());
        }
    }

    /// Does what the daemon sent, as far as that takes no time.
    fn take(&self, received: Received) {
        let Head {
            tag,
            id,
            generation,
        } = received.head;
        match tag {
            to_host::CALL => self.queue_call(received),
            to_host::ANSWER => self.answered(id, &received),
            to_host::LOAD => {
                let mut queue = lock(&self.queue);
                let lane = Lane {
                    stage: Stage::Loading,
                    calls: VecDeque::new(),
                    running: 0,
                    in_line: false,
                };
                queue.lanes.insert(generation, lane);
                queue.loads.push_back(received);
                drop(queue);
                self.to_load.notify_one();
            }
            to_host::DROP => {
                let dropped = lock(&self.queue).lanes.remove(&generation);
                let calls = dropped.map(|lane| lane.calls).unwrap_or_default();
                for call in calls {
                    self.refuse(&call.frame, Generation(generation).unknown());
                }
            }
            to_host::PING => self.send(from_host::PONG, id, 0, &self.resident()),
            _ => {}
        }
    }

    fn resident(&self) -> u64 {
        use nix::unistd::{SysconfVar, sysconf};
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        let page = page.and_then(|bytes| u64::try_from(bytes).ok());
        let mut text = [0; 128];
        let read = self
            .memory
            .as_ref()
            .and_then(|f| f.read_at(&mut text, 0).ok());
        let text = String::from_utf8_lossy(&text[..read.unwrap_or(0)]);
        let pages: Option<u64> = text
            .split_ascii_whitespace()
            .nth(1)
            .and_then(|n| n.parse().ok());
        pages.unwrap_or(0) * page.unwrap_or(4_096)
    }

    fn queue_call(&self, frame: Received) {
        let generation = frame.head.generation;
        let mut queue = lock(&self.queue);
        if queue.waiting >= WAITING {
            drop(queue);
            let fault = Fault::new(FaultClass::Busy, "too many calls wait");
            return self.refuse(&frame, fault);
        }
        let Some(lane) = queue.lanes.get_mut(&generation) else {
            drop(queue);
            return self.refuse(&frame, Generation(generation).unknown());
        };
        let since = Instant::now();
        lane.calls.push_back(Waiting { frame, since });
        queue.waiting += 1;
        queue.line_up(generation, self.at_once);
        let sleeps = queue.idle > 0;
        drop(queue);
        if sleeps {
            self.to_do.notify_one();
        }
    }

    fn refuse(&self, call: &Received, fault: Fault) {
        let Head { id, generation, .. } = call.head;
        self.send(from_host::ENDED, id, generation, &ended(fault));
    }

    fn answered(&self, id: u64, received: &Received) {
        let Some(question) = lock(&self.questions).get(&id).cloned() else {
            return;
        };
        let unreadable = |why| Err(Fault::new(FaultClass::HostDied, why));
        let answer = received.read().unwrap_or_else(unreadable);
        *lock(&question.answer) = Some(answer);
        question.came.notify_one();
    }

    /// Makes calls until the process ends.
    fn work(self: Arc<Host>, place: usize) {
        loop {
            let (call, ready) = self.next_call();
            let id = call.frame.head.id;
            self.board.write(place, id);
            match ready {
                Ok(ready) => {
                    self.make_call(&call, &ready);
                    let generation = call.frame.head.generation;
                    let mut queue = lock(&self.queue);
                    if let Some(lane) = queue.lanes.get_mut(&generation) {
                        lane.running = lane.running.saturating_sub(1);
                    }
                    queue.line_up(generation, self.at_once);
                }
                Err(fault) => self.refuse(&call.frame, fault),
            }
        }
    }

    fn next_call(&self) -> (Waiting, Result<Arc<Ready>, Fault>) {
        let mut queue = lock(&self.queue);
        loop {
            while let Some(generation) = queue.line.pop_front() {
                let Some(lane) = queue.lanes.get_mut(&generation) else {
                    continue;
                };
                lane.in_line = false;
                let ready = match &lane.stage {
                    Stage::Ready(ready) => Ok(Arc::clone(ready)),
                    Stage::Failed(fault) => Err(fault.clone()),
                    Stage::Loading => continue,
                };
                let Some(call) = lane.calls.pop_front() else {
                    continue;
                };
                lane.running += usize::from(ready.is_ok());
                queue.waiting -= 1;
                queue.line_up(generation, self.at_once);
                return (call, ready);
            }
            queue.idle += 1;
            queue = self
                .to_do
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    fn make_call(self: &Arc<Host>, call: &Waiting, ready: &Ready) {
        let Head { id, generation, .. } = call.frame.head;
        if call.since.elapsed() > LONGEST_WAIT {
            let message = format!("it waited {} s for a free thread", LONGEST_WAIT.as_secs());
            return self.refuse(&call.frame, Fault::new(FaultClass::Busy, message));
        }
        let wire: WireCall<Call> = match call.frame.read() {
            Ok(wire) => wire,
            Err(why) => return self.refuse(&call.frame, Fault::new(FaultClass::HostDied, why)),
        };
        let (settings, asks): (Arc<Settings>, Arc<dyn HostCalls>) = match wire.recording {
            Some(case) => (Arc::new(case.settings), Arc::new(Recorded(case.host))),
            None => (Arc::clone(&ready.settings), self.asks(id, &ready.limits)),
        };
        let function = wire.call.function();
        let session = ready.session(wire.now, settings, asks);
        let ended = called(ready.plugin.as_ref(), wire.call, session);
        let ended = judge(ended, ready.terms(function));
        self.send_ended(id, generation, ended, &ready.limits);
    }

    fn asks(self: &Arc<Host>, id: u64, limits: &Limits) -> Arc<dyn HostCalls> {
        Arc::new(Boundary {
            host: Arc::clone(self),
            id,
            until: Instant::now() + Duration::from_millis(limits.wall_ms.into()),
        })
    }

    fn send_ended(&self, id: u64, generation: u64, mut ended_with: Ended, limits: &Limits) {
        let head = Head {
            tag: from_host::ENDED,
            id,
            generation,
        };
        let limit = answer_bytes(limits);
        let sent = frame(head, &ended_with, limit).or_else(|size| {
            let message = format!("its result has {size}");
            ended_with.result = Err(Fault::new(FaultClass::ResultSize, message).into());
            ended_with.kv.clear();
            frame(head, &ended_with, FROM_HOST)
        });
        match sent {
            Ok(frame) => self.out.put(frame.into()),
            Err(why) => {
                let fault = Fault::new(FaultClass::ResultSize, why);
                self.send(from_host::ENDED, id, generation, &ended(fault));
            }
        }
    }

    /// Loads plugins until the process ends.
    fn load(self: Arc<Host>, place: usize) {
        loop {
            let mut queue = lock(&self.queue);
            let received = loop {
                if let Some(received) = queue.loads.pop_front() {
                    break received;
                }
                queue = self
                    .to_load
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
            };
            drop(queue);
            let generation = received.head.generation;
            self.board.write(place, generation);
            let loaded = catch_unwind(AssertUnwindSafe(|| self.loaded(&received)))
                .unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
            let (stage, described) = match loaded {
                Ok((ready, reply)) => (Stage::Ready(Arc::new(ready)), Ok(reply)),
                Err(fault) => (Stage::Failed(fault.clone()), Err(fault)),
            };
            let mut queue = lock(&self.queue);
            if let Some(lane) = queue.lanes.get_mut(&generation) {
                lane.stage = stage;
            }
            queue.line_up(generation, self.at_once);
            drop(queue);
            self.to_do.notify_all();
            self.send(from_host::LOADED, generation, generation, &described);
        }
    }

    fn loaded(self: &Arc<Host>, received: &Received) -> Result<(Ready, Reply), Fault> {
        let unreadable = |why| Fault::new(FaultClass::HostDied, why);
        let load: WireLoad<'_> = received.read().map_err(unreadable)?;
        let plugin: Box<dyn Plugin> = match load.code {
            WireCode::Script { file, source } => {
                match self.make.and_then(|make| make(file, source)) {
                    Some(plugin) => plugin,
                    None => Box::new(Script::compile(file, source, load.kind, &load.grants)?),
                }
            }
            WireCode::Compiled(code) => {
                let engine = self.engine(load.for_its_author)?;
                Box::new(engine.load(code, load.kind, &load.grants, &load.limits)?)
            }
        };
        let mut ready = Ready {
            plugin,
            kind: load.kind,
            limits: load.limits,
            grants: load.grants,
            settings: Arc::new(load.settings),
            described: None,
        };
        let nobody = Arc::new(Recorded(Vec::new()));
        let session = ready.session(load.now, Arc::clone(&ready.settings), nobody);
        let ended = called(ready.plugin.as_ref(), Call::Describe, session);
        let reply = judge(ended, ready.terms("describe")).result;
        let reply = reply.map_err(|failure| match failure {
            contract::Failure::Fault(fault) => fault,
            contract::Failure::Said(said) => {
                let message = format!("describe: {}: {}", said.word(), said.text());
                Fault::new(FaultClass::Load, message)
            }
        })?;
        if let Reply::Metrics(described) = &reply {
            ready.described = Some(described.clone());
        }
        let length = postcard::experimental::serialized_size(&reply).unwrap_or(usize::MAX);
        // the daemon looks at the frame, which has a head and a word besides
        let most = LOADED - 64;
        if length > most {
            let message = format!("its description has {length} bytes: at most {most} are allowed");
            return Err(Fault::new(FaultClass::ResultSize, message));
        }
        Ok((ready, reply))
    }

    fn engine(&self, for_its_author: bool) -> Result<&Engine, Fault> {
        if !for_its_author {
            return self.engine.as_ref().map_err(Clone::clone);
        }
        let new = || Engine::new(Compiling { for_its_author });
        self.for_authors
            .get_or_init(new)
            .as_ref()
            .map_err(Clone::clone)
    }
}

impl Ready {
    fn terms(&self, function: &'static str) -> Terms<'_> {
        Terms {
            kind: self.kind,
            function,
            limits: &self.limits,
            grants: &self.grants,
            described: self.described.as_ref(),
        }
    }

    fn session(&self, now: Nanos, settings: Arc<Settings>, asks: Arc<dyn HostCalls>) -> Session {
        let (limits, grants) = (self.limits.clone(), self.grants.clone());
        Session::new(now, limits, grants, settings, asks)
    }
}

/// Bytes of all that a call may hand to the daemon.
pub(crate) fn answer_bytes(limits: &Limits) -> usize {
    const AROUND_IT: u64 = 64 << 10;
    let all = limits.output + u64::from(limits.log_bytes) + u64::from(limits.kv_bytes) + AROUND_IT;
    usize::try_from(all).unwrap_or(FROM_HOST).min(FROM_HOST)
}

/// Calls a plugin; a panic of ours ends the call and nothing else.
fn called(plugin: &dyn Plugin, call: Call, session: Session) -> Ended {
    let began = Instant::now();
    let mut ended_with = catch_unwind(AssertUnwindSafe(|| plugin.call(call, session)))
        .unwrap_or_else(|panic| ended(panicked(panic.as_ref())));
    if ended_with.usage.wall_ns == 0 {
        let took = began.elapsed().as_nanos();
        ended_with.usage.wall_ns = u64::try_from(took).unwrap_or(u64::MAX);
    }
    ended_with
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Fault {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let why = text.unwrap_or("for a reason that it did not say");
    Fault::new(FaultClass::Trap, format!("the plugin host panicked: {why}"))
        .with_hint("this is a mistake of the host, not of the plugin: please report it")
}

/// A call's questions, which the daemon answers.
struct Boundary {
    host: Arc<Host>,
    id: u64,
    until: Instant,
}

impl HostCalls for Boundary {
    fn ask(&self, ask: HostAsk) -> Result<HostAnswer, Fault> {
        let head = Head {
            tag: from_host::ASK,
            id: self.id,
            generation: 0,
        };
        let size = |why| Fault::new(FaultClass::HostCalls, format!("its question has {why}"));
        let asked = frame(head, &ask, ASK).map_err(size)?;
        let question = Arc::new(Question::default());
        lock(&self.host.questions).insert(self.id, Arc::clone(&question));
        self.host.out.put(asked.into());
        let mut answer = lock(&question.answer);
        while answer.is_none() {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = question.came.wait_timeout(answer, left);
            answer = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        lock(&self.host.questions).remove(&self.id);
        answer.take().unwrap_or_else(|| {
            let message = "its time was over before the daemon answered its question";
            Err(Fault::new(FaultClass::Time, message))
        })
    }
}
