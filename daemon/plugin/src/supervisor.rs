//! Keeps a host process running: starts it, reads what it sends, sees when it
//! hangs, and starts it again when it dies.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use contract::{Fault, FaultClass, HostAsk, Reply};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::board::Board;
use crate::child::answer_bytes;
use crate::compile::{bare, read_all};
use crate::host::Shared;
use crate::judge::cut_fault;
use crate::outbox::Outbox;
use crate::state::{Answer, Link, Pending, Stage, Unread, died, lock};
use crate::wire::{
    ASK, Begin, FROM_HOST, Frames, Head, Hello, LOADED, PROTOCOL, Received, TO_HOST, frame,
    from_host, to_host,
};

/// A process that does not say hello for so long is killed.
const HELLO: Duration = Duration::from_secs(10);
/// One that lived for so long is started again at once.
const LIVED: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often somebody looks whether a call hangs.
const LOOK: Duration = Duration::from_millis(100);
/// A call that takes so many times what it may take, and a moment, hangs.
const HANGS: u32 = 2;
const MOMENT: Duration = Duration::from_millis(500);
/// A plugin that is loaded for so long hangs.
const LOADS: Duration = Duration::from_secs(20);
/// How often the process is asked how it does, and for how long it may not say.
const PING: Duration = Duration::from_secs(1);
const NO_PONG: Duration = Duration::from_secs(15);
/// Bytes of an answer to a question.
const ANSWER: usize = 16 << 20;
/// Bytes that are read of what a dead process said.
const LAST_WORDS: u64 = 64 << 10;

struct Process {
    child: Child,
    stream: UnixStream,
    frames: Frames<UnixStream>,
    board: Arc<Board>,
    hello: Hello,
}

/// Ends a process that was started, whatever happens to whoever started it.
impl Process {
    fn start(shared: &Shared) -> Result<Process, String> {
        let (ours, theirs) = UnixStream::pair().map_err(|e| e.to_string())?;
        let board = Board::new().map_err(|e| format!("no memory to share: {e}"))?;
        let theirs_too = board.share().map_err(|e| e.to_string())?;
        let options = &shared.options;
        let mut child = bare(&options.program, "plugin-host")
            .stdin(OwnedFd::from(theirs))
            .stdout(theirs_too)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{}: {e}", options.program.display()))?;
        match greet(shared, &ours) {
            Ok((frames, hello)) => Ok(Process {
                child,
                stream: ours,
                frames,
                board: Arc::new(board),
                hello,
            }),
            Err(why) => {
                let _dead = child.kill();
                let status = child
                    .wait()
                    .map_or_else(|e| e.to_string(), |s| s.to_string());
                Err(format!("{why} ({status}) {}", last_words(&mut child)))
            }
        }
    }
}

fn greet(shared: &Shared, stream: &UnixStream) -> Result<(Frames<UnixStream>, Hello), String> {
    let begin = Begin {
        protocol: PROTOCOL,
        threads: u32::try_from(shared.options.threads).unwrap_or(1),
        memory: shared.options.memory,
    };
    let head = Head {
        tag: to_host::BEGIN,
        id: 0,
        generation: 0,
    };
    let begin = frame(head, &begin, TO_HOST)?;
    let failed = |error: io::Error| format!("it does not answer: {error}");
    io::Write::write_all(&mut &*stream, &begin).map_err(failed)?;
    stream.set_read_timeout(Some(HELLO)).map_err(failed)?;
    let reader = stream.try_clone().map_err(failed)?;
    let mut frames = Frames::new(reader, FROM_HOST);
    let first = frames.next().map_err(failed)?;
    let first = first.ok_or("it ended at once")?;
    let hello: Hello = first.read()?;
    if first.head.tag != from_host::HELLO || hello.protocol != PROTOCOL {
        return Err("it is of another version: restart the daemon".to_owned());
    }
    stream.set_read_timeout(None).map_err(failed)?;
    Ok((frames, hello))
}

fn last_words(child: &mut Child) -> String {
    let words = read_all(child.stderr.take(), LAST_WORDS);
    let words = String::from_utf8_lossy(&words);
    let mut lines: Vec<&str> = words.lines().rev().take(3).collect();
    lines.reverse();
    lines
        .join("; ")
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}

/// Runs until the host is stopped. Its thread must live as long as the process:
/// the process ends with it.
pub(crate) fn supervise(shared: &Arc<Shared>, first: oneshot::Sender<Result<(), Fault>>) {
    let mut first = Some(first);
    let mut pause = Duration::ZERO;
    while !lock(&shared.state).stopping {
        let began = Instant::now();
        match Process::start(shared) {
            Ok(process) => serve(shared, process, first.take()),
            Err(why) => {
                if let Some(first) = first.take() {
                    let message = format!("cannot start the plugin host: {why}");
                    let _gone = first.send(Err(Fault::new(FaultClass::Load, message)));
                    break;
                }
                warn!(why, "cannot start the plugin host");
            }
        }
        pause = if began.elapsed() > LIVED {
            Duration::ZERO
        } else {
            shared.rest(pause);
            (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
        };
    }
    shared.ended();
}

/// Serves calls until the process dies; tells `first`, who waits for it, that it
/// is there.
fn serve(
    shared: &Arc<Shared>,
    process: Process,
    first: Option<oneshot::Sender<Result<(), Fault>>>,
) {
    let Process {
        mut child,
        stream,
        mut frames,
        board,
        hello,
    } = process;
    let outbox = Arc::new(Outbox::to(stream.try_clone().ok()));
    let writer = {
        let (outbox, stream) = (Arc::clone(&outbox), stream.try_clone());
        let write = move || {
            // the reader sees as well that the process is gone
            let _gone = stream.and_then(|stream| outbox.write_to(&stream));
        };
        thread::Builder::new()
            .name("plugin-calls".to_owned())
            .spawn(write)
    };
    let last_stream = stream.try_clone();
    attach(shared, child.id(), &outbox, &board, stream, hello);
    if let Some(first) = first {
        // nobody waits any more: the host is dropped, which is seen
        let _gone = first.send(Ok(()));
    }
    let why = loop {
        match frames.next() {
            Ok(Some(received)) => {
                if let Err(why) = take(shared, received) {
                    break Some(format!("it broke the protocol: {why}"));
                }
            }
            Ok(None) => break None,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                break Some(format!("it broke the protocol: {error}"));
            }
            Err(_) => break None,
        }
    };
    // it may be dead already
    let _dead = child.kill();
    let running = board.read();
    lock(&shared.state).link = None;
    let status = child
        .wait()
        .map_or_else(|e| e.to_string(), |s| s.to_string());
    outbox.close();
    if let Ok(stream) = last_stream {
        let _gone = stream.shutdown(std::net::Shutdown::Both);
    }
    if let Ok(writer) = writer {
        let _ended = writer.join();
    }
    let words = last_words(&mut child);
    let killed = lock(&shared.killed).take();
    let why = why.or(killed).unwrap_or(status);
    let mut state = lock(&shared.state);
    if state.stopping {
        return;
    }
    state.restarts += 1;
    state.died(&running, &why, Instant::now());
    drop(state);
    warn!(why, words, "the plugin host died and is started again");
}

fn attach(
    shared: &Arc<Shared>,
    pid: u32,
    outbox: &Arc<Outbox>,
    board: &Arc<Board>,
    stream: UnixStream,
    hello: Hello,
) {
    info!(pid, "the plugin host is there");
    let mut state = lock(&shared.state);
    let incarnation = state.new_id();
    state.not_in_force = hello
        .not_in_force
        .into_iter()
        .take(32)
        .map(|text| text.chars().filter(|c| !c.is_control()).take(200).collect())
        .collect();
    state.link = Some(Link {
        pid,
        incarnation,
        outbox: Arc::clone(outbox),
        board: Arc::clone(board),
        stream,
        pong: Instant::now(),
    });
    if state.stopping {
        state.link.iter().for_each(Link::kill);
        return;
    }
    let suspects: Vec<u64> = state.suspects.iter().map(|(id, _)| *id).collect();
    let unsent = state.versions.iter().filter(|(generation, version)| {
        version.stage == Stage::Unsent && !suspects.contains(generation)
    });
    let unsent: Vec<u64> = unsent.map(|(generation, _)| *generation).collect();
    let suspect = state.next_suspect();
    drop(state);
    for generation in unsent.into_iter().chain(suspect) {
        send_later(shared, generation);
    }
}

/// Takes one frame.
///
/// # Errors
///
/// Says how it breaks the protocol: whoever sends such a thing is not to be
/// trusted with another call.
fn take(shared: &Arc<Shared>, received: Received) -> Result<(), String> {
    match received.head.tag {
        from_host::ENDED => ended(shared, received),
        from_host::LOADED => loaded(shared, &received),
        from_host::ASK => asked(shared, &received),
        from_host::PONG => {
            let resident = received.read()?;
            let mut state = lock(&shared.state);
            state.resident = resident;
            if let Some(link) = &mut state.link {
                link.pong = Instant::now();
            }
            Ok(())
        }
        tag => Err(format!("a frame of kind {tag}")),
    }
}

fn ended(shared: &Arc<Shared>, received: Received) -> Result<(), String> {
    let id = received.head.id;
    let length = received.body().len();
    let mut state = lock(&shared.state);
    let Some(call) = state.pending.get(&id).filter(|call| call.sent.is_some()) else {
        return Err(format!("an answer to call {id}, which nobody made"));
    };
    let version = state.versions.get(&call.generation);
    let most = version.map_or(FROM_HOST, |v| answer_bytes(&v.load.limits));
    // what a fault about a result that is too large says besides
    const FAULT: usize = 128 << 10;
    if length > most + FAULT {
        return Err(format!("an answer of {length} bytes"));
    }
    let call = state.remove_call(id);
    let suspect = state.acquitted(id);
    drop(state);
    if let Some(generation) = suspect {
        send_later(shared, generation);
    }
    if let Some(reply) = call.and_then(|call| call.reply) {
        let unread = Unread::new(received, &shared.unread);
        // it has gone meanwhile
        let _gone = reply.send(Answer::Frame(unread));
    }
    Ok(())
}

fn send_later(shared: &Arc<Shared>, generation: u64) {
    shared.runtime.spawn(shared.send_version(generation));
}

fn loaded(shared: &Arc<Shared>, received: &Received) -> Result<(), String> {
    let generation = received.head.id;
    let length = received.body().len();
    if length > LOADED {
        return Err(format!("a description of {length} bytes"));
    }
    let mut state = lock(&shared.state);
    // it may have been forgotten meanwhile: nobody reads its description then
    if let Some(version) = state.versions.get_mut(&generation) {
        if version.stage != Stage::Sent {
            return Err(format!("plugin {generation} is loaded, which nobody sent"));
        }
        let mut result: Result<Reply, Fault> = received.read()?;
        if let Err(fault) = &mut result {
            cut_fault(fault);
        }
        version.stage = match &result {
            Ok(_) => Stage::Loaded,
            Err(fault) => Stage::Broken(fault.clone()),
        };
        if let Some(told) = version.told.take() {
            // nobody waits any more
            let _gone = told.send(result);
        }
    }
    let suspect = state.acquitted(generation);
    drop(state);
    if let Some(generation) = suspect {
        send_later(shared, generation);
    }
    Ok(())
}

/// A call asks the daemon something.
fn asked(shared: &Arc<Shared>, received: &Received) -> Result<(), String> {
    let id = received.head.id;
    let length = received.body().len();
    if length > ASK {
        return Err(format!("a question of {length} bytes"));
    }
    let mut state = lock(&shared.state);
    let state = &mut *state;
    let call = state.pending.get_mut(&id);
    let is_running = |call: &&mut Pending| call.sent.is_some() && !call.asks && !call.is_replay;
    let Some(call) = call.filter(is_running) else {
        return Err(format!("a question of call {id}, which cannot have one"));
    };
    call.asks = true;
    call.asked += 1;
    let Some(version) = state.versions.get(&call.generation) else {
        // nobody waits for the call any more; its time will be over
        return Ok(());
    };
    let most = version.load.limits.host_calls;
    if call.asked > most {
        return Err(format!("call {id} has more than {most} questions"));
    }
    let ask: HostAsk = received.read()?;
    let (load, name) = (Arc::clone(&version.load), version.name.clone());
    let incarnation = state.link.as_ref().map(|link| link.incarnation);
    let shared = Arc::clone(shared);
    let runtime = shared.runtime.clone();
    let asking = Arc::clone(&shared.asking);
    let answer = move || {
        let answer = match may_ask(&load, &ask) {
            Ok(()) => shared.services.answer(&name, ask),
            Err(fault) => Err(fault),
        };
        let head = Head {
            tag: to_host::ANSWER,
            id,
            generation: 0,
        };
        let frame = frame(head, &answer, ANSWER).or_else(|size| {
            let message = format!("the answer to its question has {size}");
            let fault = Fault::new(FaultClass::Memory, message);
            frame(head, &Err::<contract::HostAnswer, _>(fault), ANSWER)
        });
        let mut state = lock(&shared.state);
        let state = &mut *state;
        let same = state
            .link
            .as_ref()
            .filter(|link| Some(link.incarnation) == incarnation);
        if let (Some(link), Some(call), Ok(frame)) = (same, state.pending.get_mut(&id), frame) {
            call.asks = false;
            link.outbox.put(frame.into());
        }
    };
    runtime.spawn(async move {
        // as many at once as there are threads that can ask; it is never closed
        let place = asking.acquire_owned().await;
        // a panic is logged, and the call's time will be over
        let _answered = tokio::task::spawn_blocking(answer).await;
        drop(place);
    });
    Ok(())
}

/// The host checks this as well; a host that was taken over does not.
fn may_ask(load: &crate::Load, ask: &HostAsk) -> Result<(), Fault> {
    let grants = &load.grants;
    let granted = match ask {
        HostAsk::KvGet(_) | HostAsk::KvKeys { .. } => grants.kv,
        HostAsk::Device(_) | HostAsk::Fact { .. } | HostAsk::Links(_) => grants.inventory,
        HostAsk::Query { .. } => !grants.series.is_empty(),
    };
    if !granted {
        let message = "it asks what it was not granted";
        return Err(Fault::new(FaultClass::NotGranted, message));
    }
    Ok(())
}

/// Looks for calls that hang, and asks the process how it does.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen: Vec<(u64, Instant)> = Vec::new();
    let mut pinged = Instant::now();
    loop {
        ticks.tick().await;
        let state = lock(&shared.state);
        if state.stopping {
            return;
        }
        let Some(link) = &state.link else {
            seen.clear();
            continue;
        };
        let now = Instant::now();
        let running = link.board.read();
        seen.resize(running.len(), (0, now));
        for (id, seen) in running.iter().zip(&mut seen) {
            if seen.0 != *id {
                *seen = (*id, now);
            }
        }
        let hangs = seen.iter().find_map(|(id, since)| {
            let took = now.saturating_duration_since(*since);
            let version = |generation| state.versions.get(generation);
            if let Some(call) = state.pending.get(id).filter(|call| call.sent.is_some()) {
                let may = version(&call.generation).map_or(LOADS, |v| v.wall() * HANGS + MOMENT);
                return (took > may).then(|| format!("a call hangs for {took:?}"));
            }
            let loads = version(id).is_some_and(|v| v.stage == Stage::Sent);
            (loads && took > LOADS).then(|| format!("loading a plugin hangs for {took:?}"))
        });
        let silent = now.saturating_duration_since(link.pong) > NO_PONG;
        let silent = silent.then(|| "it does not answer".to_owned());
        let deaf = link.outbox.is_overfull();
        let deaf = deaf.then(|| "it does not read what it is sent".to_owned());
        if let Some(why) = deaf.or(hangs).or(silent) {
            *lock(&shared.killed) = Some(why);
            link.kill();
            seen.clear();
        } else if now.saturating_duration_since(pinged) > PING {
            pinged = now;
            let head = Head {
                tag: to_host::PING,
                id: 0,
                generation: 0,
            };
            if let Ok(frame) = frame(head, &(), 64) {
                link.outbox.put(frame.into());
            }
        }
    }
}

/// An error that ends the wait for a call.
pub(crate) fn restarting() -> Fault {
    died("the plugin host is being started again")
}
