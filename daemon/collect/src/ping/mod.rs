//! The pinger: bursts of echo requests to many targets at once.
//!
//! One thread holds one socket per address family ([`door`]) and decides who is
//! asked when ([`table`]). Callers hand it whole rounds and get whole rounds
//! back, so that a probe costs no task, no timer and no hop between threads.
//! The thread wakes every few milliseconds while answers are awaited, sends what is
//! due, reads everything that came, and sleeps while there is nothing to do.
//! The kernel stamps each reply on arrival, so reading late does not make a
//! device look slow.
//!
//! **Why not surge-ping.** It was tried first (0.9.1), on a thread and a
//! current-thread runtime of its own, with one task per round, five probes to
//! each of 10,000 loopback addresses, on two cores:
//!
//! | sender | CPU per probe, all at once | asked within 5 s | spread over 25 s |
//! |---|---|---|---|
//! | `fping -i 0 -c 1`; `-C 5` | 12.5-17 us; 10.6 us | | |
//! | surge-ping, ping socket | | 12.9 us | 16.4 us |
//! | surge-ping, raw socket | | 14.7 us | 17.8 us |
//! | this engine, ping socket | 7.7-8.3 us | 9.8-10.7 us | 11.3-12.3 us |
//! | this engine, raw socket | 8.6-9.4 us | 10.3-10.7 us | 11.3-12.1 us |
//! | the kernel alone: a loop of sends and receives, ping and raw | 5.6 us, 7.1 us | | |
//!
//! Our bar is 0.7 of fping's cost for the same targets; this engine comes to
//! about 0.76 in the running daemon (`make bench`). surge-ping also cannot
//! tell "unreachable" from silence on a ping socket, because it does not read the socket's error
//! queue; it stamps replies when its task runs; and its socket options can only
//! be reached through a raw file descriptor, with `unsafe`.

mod door;
mod packet;
mod table;

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, mem, thread};

use model::{Failure, FailureKind, PingAnswer, Timestamp};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::oneshot;
use tracing::{info, warn};

pub use door::PingAccess;
use door::{Door, SendFate};
use packet::Family;
use table::{Ask, Due, Mood, Table};

use crate::failure;

/// How often the thread looks for answers while it waits for some. A turn costs
/// some 5 us; reading late costs nothing but a later end of the round.
const TURN: Duration = Duration::from_millis(20);

/// The same while probes are held back: the answers of such a turn at full
/// speed (10,000 probes a second) fit into the default receive buffer twice.
const BUSY_TURN: Duration = Duration::from_millis(5);

/// How often a family that was shut is tried again, so that an administrator's
/// fix works without a restart.
const KNOCK_EVERY: Duration = Duration::from_secs(10);

/// How long a probe waits for room in the send buffer. Neighbours that do not
/// answer ARP keep theirs for three seconds.
const SEND_PATIENCE: Duration = Duration::from_secs(10);

/// Calls of [`Door::receive`] in one turn: more replies than the largest round
/// has in a turn, and an end for whoever floods us with forged ones.
const READS_PER_TURN: usize = 16;

/// Rounds that wait for the thread. It takes them all every few milliseconds;
/// the largest site has one per device.
const ROUNDS_WAITING: usize = 65_536;

/// How devices are pinged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PingSettings {
    /// Echo requests in a round; at least 1.
    pub probes: u16,
    /// How long each of them waits for its answer.
    pub timeout: Duration,
    /// Time between two of them to one target.
    pub gap: Duration,
    /// How many may be on their way at once, unanswered for less than a tenth
    /// of a second. Never more than the receive buffer holds replies.
    pub in_flight: usize,
    /// Bytes of receive buffer to ask the kernel for.
    pub receive_buffer: usize,
}

/// Sends echo requests; cheap to clone. Its thread ends with the last clone.
#[derive(Clone)]
pub struct Pinger {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.wake();
    }
}

/// What callers and the thread share.
struct Shared {
    state: Mutex<State>,
    bell: EventFd,
    /// The thread sleeps until it hears the bell.
    is_asleep: AtomicBool,
}

struct State {
    asks: Vec<Ask>,
    settings: Option<PingSettings>,
    access: [PingAccess; 2],
    is_over: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the thread's sleep. While it is taking turns it looks by itself.
    fn wake(&self) {
        if self.is_asleep.swap(false, Ordering::SeqCst) {
            // a full counter wakes as well
            let _ = self.bell.write(1);
        }
    }
}

impl Pinger {
    /// Opens the sockets that this process may open and starts the thread.
    ///
    /// A family without a socket is no error: its rounds fail, and it is tried
    /// again every ten seconds.
    ///
    /// # Errors
    ///
    /// The system has no thread or no file descriptor left.
    pub fn start(settings: PingSettings) -> io::Result<Pinger> {
        let ident = rand::random();
        let doors = Family::ALL.map(|family| Entrance::open(family, ident, &settings));
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                asks: Vec::new(),
                settings: None,
                access: doors.each_ref().map(Entrance::access),
                is_over: false,
            }),
            bell: EventFd::from_value_and_flags(0, flags)?,
            is_asleep: AtomicBool::new(false),
        });
        let mut engine = Engine {
            shared: Arc::clone(&shared),
            table: Table::new(settings.clone(), rand::random()),
            settings,
            doors,
            ident,
        };
        thread::Builder::new()
            .name("ping".to_owned())
            .spawn(move || engine.run())?;
        let handle = Arc::new(Handle { shared });
        Ok(Pinger { handle })
    }

    /// Sends one burst to `target` and waits for its end: at most the gaps and
    /// one timeout, longer only while more probes are due than may leave.
    ///
    /// `at` is when the round began, and comes back in the answer. Silence is
    /// an answer too: see [`model::Probe`].
    ///
    /// # Errors
    ///
    /// Only where no probe could be sent: [`FailureKind::Permission`] if this
    /// process may not ping, or a local firewall forbids it;
    /// [`FailureKind::Local`] for anything else on this machine.
    pub async fn round(&self, target: IpAddr, at: Timestamp) -> Result<PingAnswer, Failure> {
        let (reply, told) = oneshot::channel();
        let shared = &self.handle.shared;
        {
            let mut state = shared.lock();
            if state.asks.len() >= ROUNDS_WAITING {
                return Err(failure(
                    FailureKind::Local,
                    format!("not pinging {target}: {ROUNDS_WAITING} rounds are waiting already"),
                ));
            }
            state.asks.push(Ask {
                target: target.to_canonical(),
                at,
                reply,
            });
        }
        shared.wake();
        told.await.unwrap_or_else(|_gone| {
            Err(failure(
                FailureKind::Local,
                format!("not pinging {target}: the pinger has stopped"),
            ))
        })
    }

    /// Takes new settings; rounds that are running keep their number of probes.
    pub fn reconfigure(&self, settings: PingSettings) {
        self.handle.shared.lock().settings = Some(settings);
        self.handle.shared.wake();
    }

    /// How IPv4 and IPv6 requests leave this machine, in this order.
    #[must_use]
    pub fn capability(&self) -> (PingAccess, PingAccess) {
        let [v4, v6] = self.handle.shared.lock().access.clone();
        (v4, v6)
    }
}

fn cannot_leave(target: IpAddr) -> Failure {
    let seconds = SEND_PATIENCE.as_secs();
    failure(
        FailureKind::Local,
        format!(
            "cannot send an echo request to {target}: this machine's send buffer has been full \
             for {seconds} s"
        ),
    )
}

/// A family's door, or why it is shut.
enum Entrance {
    Open(Door),
    Shut { why: Failure, since: Instant },
}

impl Entrance {
    fn open(family: Family, ident: u16, settings: &PingSettings) -> Entrance {
        match Door::open(family, ident, settings.receive_buffer) {
            Ok(door) => Entrance::Open(door),
            Err(why) => Entrance::Shut {
                why,
                since: Instant::now(),
            },
        }
    }

    fn access(&self) -> PingAccess {
        match self {
            Entrance::Open(door) => door.access(),
            Entrance::Shut { why, .. } => PingAccess::None { why: why.clone() },
        }
    }

    fn door(&self) -> Option<&Door> {
        match self {
            Entrance::Open(door) => Some(door),
            Entrance::Shut { .. } => None,
        }
    }
}

/// What the thread owns.
struct Engine {
    shared: Arc<Shared>,
    settings: PingSettings,
    table: Table,
    doors: [Entrance; 2],
    ident: u16,
}

impl Engine {
    /// Takes turns until the last [`Pinger`] is gone.
    fn run(&mut self) {
        self.limit_in_flight();
        while self.take_what_is_new() {
            self.send_what_is_due();
            self.read_what_came();
            self.table.expire(Instant::now());
            self.table.tell();
            self.sleep();
        }
    }

    /// Takes over new rounds and settings; false when there is nobody left to
    /// ask for any.
    fn take_what_is_new(&mut self) -> bool {
        let (asks, settings) = {
            let mut state = self.shared.lock();
            if state.is_over {
                return false;
            }
            (mem::take(&mut state.asks), state.settings.take())
        };
        if let Some(settings) = settings {
            self.configure(settings);
        }
        let now = Instant::now();
        for ask in asks {
            self.table.begin(ask, now);
        }
        true
    }

    fn configure(&mut self, settings: PingSettings) {
        for door in self.doors.iter().filter_map(Entrance::door) {
            door.resize(settings.receive_buffer);
        }
        self.table.configure(settings.clone());
        self.settings = settings;
        self.limit_in_flight();
    }

    /// The smaller of the two buffers counts for both: a round does not know
    /// the other family's share.
    fn limit_in_flight(&mut self) {
        let open = self.doors.iter().filter_map(Entrance::door);
        let held = open.map(Door::replies_held).min();
        self.table.limit_in_flight(held.unwrap_or(usize::MAX));
    }

    fn send_what_is_due(&mut self) {
        while let Some(due) = self.table.next(Instant::now()) {
            let family = match due.target {
                IpAddr::V4(_) => Family::V4,
                IpAddr::V6(_) => Family::V6,
            };
            self.knock(family);
            if !self.send(family, due) {
                return;
            }
        }
    }

    /// Returns whether to go on sending.
    fn send(&mut self, family: Family, due: Due) -> bool {
        let door = match &self.doors[family as usize] {
            Entrance::Open(door) => door,
            Entrance::Shut { why, .. } => {
                let why = why.clone();
                self.table.stop(due, why);
                return true;
            }
        };
        match door.send(due.target, due.sequence) {
            SendFate::Sent(moment) => self.table.sent(due, moment),
            SendFate::Nowhere => self.table.sent_nowhere(due),
            SendFate::Never(why) => self.table.stop(due, why),
            SendFate::Later if due.when.elapsed() < SEND_PATIENCE => {
                self.table.unsent(due);
                return false;
            }
            SendFate::Later => self.table.stop(due, cannot_leave(due.target)),
        }
        true
    }

    /// Tries a shut door again, now and then.
    fn knock(&mut self, family: Family) {
        let entrance = &mut self.doors[family as usize];
        match entrance {
            Entrance::Shut { since, .. } if since.elapsed() >= KNOCK_EVERY => {}
            _ => return,
        }
        *entrance = Entrance::open(family, self.ident, &self.settings);
        let access = entrance.access();
        let mut state = self.shared.lock();
        let before = mem::replace(&mut state.access[family as usize], access.clone());
        drop(state);
        if before != access {
            info!(?family, %access, "echo requests can be sent another way");
        }
        self.limit_in_flight();
    }

    fn read_what_came(&mut self) {
        let table = &mut self.table;
        for door in self.doors.iter().filter_map(Entrance::door) {
            for _ in 0..READS_PER_TURN {
                let is_more = door.receive(|source, sequence, came| {
                    table.answered(source, sequence, came);
                });
                if !is_more {
                    break;
                }
            }
        }
    }

    /// Waits for the next turn, for something due, or for somebody to ask. An
    /// ICMP error ends the wait at once.
    fn sleep(&mut self) {
        let wait = match self.table.mood(Instant::now()) {
            Mood::Held => Some(BUSY_TURN),
            Mood::Awaiting => Some(TURN),
            Mood::Idle(until_due) => Some(until_due.max(Duration::from_millis(1))),
            Mood::Done => None,
        };
        if wait.is_none_or(|wait| wait > TURN) {
            self.shared.is_asleep.store(true, Ordering::SeqCst);
            let state = self.shared.lock();
            if !state.asks.is_empty() || state.settings.is_some() || state.is_over {
                return;
            }
        }
        let timeout = wait.map_or(PollTimeout::NONE, |wait| {
            PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
        });
        // poll reports errors whether or not they are asked for
        let open = self.doors.iter().filter_map(Entrance::door);
        let mut watched: Vec<PollFd<'_>> = open
            .map(|door| PollFd::new(door.as_fd(), PollFlags::empty()))
            .collect();
        watched.push(PollFd::new(self.shared.bell.as_fd(), PollFlags::POLLIN));
        if let Err(error) = poll(&mut watched, timeout)
            && error != Errno::EINTR
        {
            warn!(%error, "the pinger cannot wait for its sockets: {error}");
        }
        let has_error = watched.iter().any(|watched| {
            watched
                .revents()
                .is_some_and(|what| what.contains(PollFlags::POLLERR))
        });
        self.shared.is_asleep.store(false, Ordering::SeqCst);
        // nothing rang: EAGAIN
        let _ = self.shared.bell.read();
        if has_error {
            self.read_refusals();
        }
    }

    fn read_refusals(&mut self) {
        let table = &mut self.table;
        for door in self.doors.iter().filter_map(Entrance::door) {
            door.receive_refusals(|target, sequence| {
                table.refused(target, sequence);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use model::Probe;

    use super::*;

    fn settings() -> PingSettings {
        PingSettings {
            probes: 3,
            timeout: Duration::from_millis(500),
            gap: Duration::from_millis(20),
            in_flight: 512,
            receive_buffer: 1 << 20,
        }
    }

    /// A pinger, if this process may ping by IPv4 at all.
    fn pinger(settings: PingSettings) -> Option<Pinger> {
        let pinger = Pinger::start(settings).unwrap();
        match pinger.capability().0 {
            PingAccess::None { why } => {
                crate::skip(&why.text);
                assert!(why.text.contains("ping_group_range") || why.kind == FailureKind::Local);
                None
            }
            _ => Some(pinger),
        }
    }

    async fn round(pinger: &Pinger, target: impl Into<IpAddr>) -> Result<PingAnswer, Failure> {
        let round = pinger.round(target.into(), Timestamp(5));
        tokio::time::timeout(Duration::from_secs(20), round)
            .await
            .expect("a round ends by itself")
    }

    fn round_trips(answer: &PingAnswer) -> Vec<Duration> {
        let answered = |probe: &Probe| match probe {
            Probe::Answered(after) => Some(*after),
            Probe::TimedOut | Probe::Unreachable => None,
        };
        answer.probes.iter().filter_map(answered).collect()
    }

    #[tokio::test]
    async fn loopback_answers_every_probe_by_both_families() {
        let Some(pinger) = pinger(settings()) else {
            return;
        };
        let answer = round(&pinger, Ipv4Addr::LOCALHOST).await.unwrap();
        assert_eq!((answer.at, answer.probes.len()), (Timestamp(5), 3));
        let trips = round_trips(&answer);
        assert_eq!(trips.len(), 3, "{answer:?}");
        assert!(trips.iter().all(|trip| !trip.is_zero()), "{trips:?}");

        match round(&pinger, Ipv6Addr::LOCALHOST).await {
            Ok(answer) => assert_eq!(answer.probes.len(), 3),
            Err(why) => assert_eq!(why.kind, FailureKind::Local, "no IPv6 here: {why}"),
        }
    }

    #[tokio::test]
    async fn two_thousand_targets_at_once_lose_nothing_in_the_default_buffer() {
        let default_buffer = PingSettings {
            receive_buffer: 212_992 / 2,
            timeout: Duration::from_secs(5),
            ..settings()
        };
        let Some(pinger) = pinger(default_buffer) else {
            return;
        };
        let mut rounds = tokio::task::JoinSet::new();
        for host in 0..2_000u16 {
            let [high, low] = host.to_be_bytes();
            let target = Ipv4Addr::new(127, 9, high, low.max(1));
            let pinger = pinger.clone();
            rounds.spawn(async move { round(&pinger, target).await });
        }
        while let Some(answer) = rounds.join_next().await {
            let answer = answer.unwrap().unwrap();
            let trips = round_trips(&answer);
            assert_eq!(trips.len(), 3, "{answer:?}");
            assert!(trips.iter().all(|trip| !trip.is_zero()), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn a_target_that_cannot_be_pinged_is_told_from_one_that_is_silent() {
        let Some(pinger) = pinger(settings()) else {
            return;
        };
        // the kernel forbids it on an ordinary socket, whatever our privileges;
        // without any route it finds no way there before it looks
        match round(&pinger, Ipv4Addr::BROADCAST).await {
            Err(why) => {
                assert_eq!(why.kind, FailureKind::Permission, "{why}");
                assert!(why.text.contains("255.255.255.255"), "{why}");
            }
            Ok(answer) => assert_eq!(answer.probes, vec![Probe::Unreachable; 3]),
        }

        // and the one after it is none the worse
        let answer = round(&pinger, Ipv4Addr::LOCALHOST).await.unwrap();
        assert_eq!(round_trips(&answer).len(), 3, "{answer:?}");
    }

    #[tokio::test]
    async fn new_settings_hold_from_the_next_round_on() {
        let Some(pinger) = pinger(settings()) else {
            return;
        };
        let more = PingSettings {
            probes: 7,
            ..settings()
        };
        pinger.reconfigure(more);
        let answer = round(&pinger, Ipv4Addr::LOCALHOST).await.unwrap();
        assert_eq!(answer.probes.len(), 7);
    }
}
