//! Requests out, answers in: a few UDP sockets that all polls share.
//!
//! Each request has a number that nobody else's has at the time. An answer
//! counts if its number is awaited and it comes from the very address and port
//! that was asked. A retry has a number of its own, and the answer to the try
//! before it is as welcome; whatever else comes in is counted and dropped.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::message::{self, Malformed};
use crate::error_queue;

/// Receive buffer to ask for, per socket. The kernel's usual limit makes it
/// 416 KiB: a hundred large answers even if each is charged a page.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The largest UDP datagram there is.
const DATAGRAM_BYTES: usize = 65_535;

/// Datagrams read before other tasks get their turn.
const READS_AT_ONCE: usize = 64;

/// How long to wait when the send buffer is full.
const SEND_AGAIN_AFTER: Duration = Duration::from_millis(2);

/// Tries of one send: each may report the error of an earlier datagram.
const SEND_TRIES: usize = 3;

/// What happened on all sockets since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) requests: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) answers: AtomicU64,
    pub(super) timeouts: AtomicU64,
    pub(super) stale: AtomicU64,
    pub(super) foreign: AtomicU64,
    pub(super) garbage: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One socket, and who waits for what on it.
pub(super) struct Port {
    socket: UdpSocket,
    table: Mutex<Table>,
    counters: Arc<Counters>,
}

struct Table {
    next_id: i32,
    waiting: HashMap<i32, Waiting>,
}

struct Waiting {
    peer: SocketAddr,
    exchange: Arc<Exchange>,
}

/// A [`Port`] whose answers are being read; that ends when this is dropped.
pub(super) struct OpenPort {
    port: Arc<Port>,
    reader: AbortHandle,
}

impl Drop for OpenPort {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl OpenPort {
    /// Opens a socket on a port of the kernel's choice. Needs a runtime.
    pub(super) fn open(is_v4: bool, counters: Arc<Counters>) -> io::Result<OpenPort> {
        let (domain, any) = if is_v4 {
            (Domain::IPV4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
        } else {
            (Domain::IPV6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))
        };
        let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        if !is_v4 {
            socket.set_only_v6(true)?;
        }
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            // what the system allows has to do
            let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        }
        error_queue::enable(&socket, is_v4)?;
        socket.bind(&any.into())?;
        let port = Arc::new(Port {
            socket: UdpSocket::from_std(socket.into())?,
            table: Mutex::new(Table {
                next_id: rand::random_range(1..=i32::MAX),
                waiting: HashMap::new(),
            }),
            counters,
        });
        let reader = tokio::spawn(Arc::clone(&port).read()).abort_handle();
        Ok(OpenPort { port, reader })
    }
}

impl Port {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads answers until it is aborted.
    async fn read(self: Arc<Self>) {
        let mut buffer = vec![0u8; DATAGRAM_BYTES];
        loop {
            let Ok(ready) = self
                .socket
                .ready(Interest::READABLE | Interest::ERROR)
                .await
            else {
                // the runtime is shutting down
                return;
            };
            if ready.is_error() {
                self.read_refusals();
            }
            // to yield wakes another thread: only under a flood
            if self.read_some(&mut buffer) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Reads what came in, up to a limit. Returns whether there may be more.
    fn read_some(&self, buffer: &mut [u8]) -> bool {
        for _ in 0..READS_AT_ONCE {
            match self.socket.try_recv_from(buffer) {
                Ok((length, source)) => self.receive(&buffer[..length], source),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // an earlier datagram's error, which is in the queue too
                Err(_) => self.read_refusals(),
            }
        }
        true
    }

    fn receive(&self, datagram: &[u8], source: SocketAddr) {
        let response = match message::read(datagram) {
            Ok(response) => response,
            Err(malformed) => {
                count(&self.counters.garbage);
                self.tell_all_waiting_for(source, |slot| slot.garbled = Some(malformed));
                return;
            }
        };
        let mut table = self.table();
        let Some(waiting) = table.waiting.get(&response.request_id) else {
            count(&self.counters.stale);
            return;
        };
        if !error_queue::is_same_peer(waiting.peer, source) {
            count(&self.counters.foreign);
            return;
        }
        let Some(waiting) = table.waiting.remove(&response.request_id) else {
            return;
        };
        drop(table);
        count(&self.counters.answers);
        waiting.exchange.tell(|slot| {
            slot.datagram.clear();
            slot.datagram.extend_from_slice(datagram);
            slot.state = State::Answered;
        });
    }

    /// Takes what routers and closed ports said of our requests.
    fn read_refusals(&self) {
        let _ = self.socket.try_io(Interest::ERROR, || {
            error_queue::drain(&self.socket, |refusal| {
                let errno = refusal.errno;
                if is_final(errno) {
                    count(&self.counters.refused);
                    self.tell_all_waiting_for(refusal.target, |slot| {
                        slot.state = State::Refused(errno);
                    });
                }
            });
            // nothing is left: wait for the next one
            Err::<(), io::Error>(io::ErrorKind::WouldBlock.into())
        });
    }

    fn tell_all_waiting_for(&self, peer: SocketAddr, change: impl Fn(&mut Slot)) {
        let table = self.table();
        let theirs = |waiting: &&Waiting| error_queue::is_same_peer(waiting.peer, peer);
        for waiting in table.waiting.values().filter(theirs) {
            waiting.exchange.tell(&change);
        }
    }

    async fn send(&self, datagram: &[u8], peer: SocketAddr, until: Instant) -> Result<(), Errno> {
        let mut tries = 0;
        loop {
            let Err(error) = self.socket.try_send_to(datagram, peer) else {
                return Ok(());
            };
            let is_full = matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory
            ) || error.raw_os_error() == Some(Errno::ENOBUFS as i32);
            if is_full && Instant::now() < until {
                sleep(SEND_AGAIN_AFTER).await;
                continue;
            }
            tries += 1;
            let errno = error.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw);
            if tries == SEND_TRIES || !error_queue::may_be_of_an_earlier_datagram(errno) {
                return Err(errno);
            }
        }
    }
}

/// Whether an ICMP error ends a request, as opposed to a hint about its size.
fn is_final(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ECONNREFUSED
            | Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::EHOSTDOWN
            | Errno::ENONET
            | Errno::EACCES
            | Errno::ENOPROTOOPT
            | Errno::EOPNOTSUPP
    )
}

/// Where one poll waits for its answers, one at a time.
struct Exchange {
    slot: Mutex<Slot>,
    bell: Notify,
}

struct Slot {
    state: State,
    datagram: Vec<u8>,
    /// Why something that came from the peer was not understood.
    garbled: Option<Malformed>,
}

enum State {
    /// Nothing is awaited: a late answer is dropped.
    Closed,
    Open,
    Answered,
    Refused(Errno),
}

impl Exchange {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut Slot)) {
        let mut slot = self.slot();
        if matches!(slot.state, State::Open) {
            change(&mut slot);
            if !matches!(slot.state, State::Open) {
                drop(slot);
                self.bell.notify_one();
            }
        }
    }
}

/// How long and how often to ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the first try; each retry waits half of it longer than the last.
    pub(super) timeout: Duration,
    /// Tries after the first.
    pub(super) retries: u8,
    /// When to stop asking at all.
    pub(super) until: Instant,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// This machine has no route to the agent, so nothing was asked.
    NoRoute,
    /// Nothing came, or only what could not be understood.
    Silence {
        /// Tries.
        tries: u32,
        /// How long was waited in all.
        waited: Duration,
        /// What was wrong with what came.
        garbled: Option<Malformed>,
    },
    /// Somebody said that it cannot get there, or this machine that it will
    /// not send it.
    Refused(Errno),
    /// The whole conversation has lasted long enough.
    TooLong,
}

/// One poll's conversation with one agent: a question at a time.
pub(super) struct Dialogue {
    port: Arc<OpenPort>,
    peer: SocketAddr,
    exchange: Arc<Exchange>,
    patience: Patience,
    request: Vec<u8>,
    answer: Vec<u8>,
    ids: Vec<i32>,
    /// Requests sent so far, retries included.
    pub(super) requests: u32,
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        self.forget_ids();
    }
}

impl Dialogue {
    pub(super) fn new(port: Arc<OpenPort>, peer: SocketAddr, patience: Patience) -> Dialogue {
        Dialogue {
            port,
            peer,
            exchange: Arc::new(Exchange {
                slot: Mutex::new(Slot {
                    state: State::Closed,
                    datagram: Vec::new(),
                    garbled: None,
                }),
                bell: Notify::new(),
            }),
            patience,
            request: Vec::new(),
            answer: Vec::new(),
            ids: Vec::new(),
            requests: 0,
        }
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Ends the asking at `until`, if it does not end before.
    pub(super) fn end_by(&mut self, until: Instant) {
        self.patience.until = self.patience.until.min(until);
    }

    /// Whether the time for asking is over.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.patience.until
    }

    /// The last answer.
    pub(super) fn answer(&self) -> &[u8] {
        &self.answer
    }

    /// Asks until there is an answer, which [`Dialogue::answer`] then holds.
    /// `write` is given the number of the try, from 0, and its request-id.
    /// Returns the number of retries it took.
    pub(super) async fn ask(
        &mut self,
        mut write: impl FnMut(u8, i32, &mut Vec<u8>),
    ) -> Result<u8, NoAnswer> {
        let began = Instant::now();
        self.open();
        let mut ended = None;
        for attempt in 0..=self.patience.retries {
            if self.is_over() {
                ended = Some(Err(NoAnswer::TooLong));
                break;
            }
            let id = self.register();
            write(attempt, id, &mut self.request);
            self.count(attempt);
            let wait = self.patience.timeout + self.patience.timeout / 2 * u32::from(attempt);
            let deadline = (Instant::now() + wait).min(self.patience.until);
            let sent = self.port.port.send(&self.request, self.peer, deadline);
            if let Err(errno) = sent.await {
                ended = Some(Err(match errno {
                    Errno::ENETUNREACH => NoAnswer::NoRoute,
                    errno => NoAnswer::Refused(errno),
                }));
                break;
            }
            ended = self.wait(deadline).await.map(|answered| match answered {
                Ok(()) => Ok(attempt),
                Err(errno) => Err(NoAnswer::Refused(errno)),
            });
            if ended.is_some() {
                break;
            }
        }
        let garbled = self.close();
        ended.unwrap_or_else(|| {
            count(&self.port.port.counters.timeouts);
            Err(NoAnswer::Silence {
                tries: u32::from(self.patience.retries) + 1,
                waited: began.elapsed(),
                garbled,
            })
        })
    }

    fn open(&mut self) {
        let mut slot = self.exchange.slot();
        slot.state = State::Open;
        slot.garbled = None;
    }

    /// Takes a number that is not in use, and waits for it.
    fn register(&mut self) -> i32 {
        let mut table = self.port.port.table();
        let id = loop {
            let id = table.next_id;
            table.next_id = id.checked_add(1).unwrap_or(1);
            if !table.waiting.contains_key(&id) {
                break id;
            }
        };
        let waiting = Waiting {
            peer: self.peer,
            exchange: Arc::clone(&self.exchange),
        };
        table.waiting.insert(id, waiting);
        drop(table);
        self.ids.push(id);
        id
    }

    fn count(&mut self, attempt: u8) {
        self.requests += 1;
        let counters = &self.port.port.counters;
        count(&counters.requests);
        if attempt > 0 {
            count(&counters.retries);
        }
    }

    /// Waits for an answer until `deadline`; `None` if none came.
    async fn wait(&mut self, deadline: Instant) -> Option<Result<(), Errno>> {
        loop {
            {
                let mut slot = self.exchange.slot();
                match slot.state {
                    State::Answered => {
                        std::mem::swap(&mut slot.datagram, &mut self.answer);
                        return Some(Ok(()));
                    }
                    State::Refused(errno) => return Some(Err(errno)),
                    State::Open | State::Closed => {}
                }
            }
            let rang = timeout_at(deadline, self.exchange.bell.notified()).await;
            if rang.is_err() && matches!(self.exchange.slot().state, State::Open) {
                return None;
            }
        }
    }

    fn close(&mut self) -> Option<Malformed> {
        let garbled = {
            let mut slot = self.exchange.slot();
            slot.state = State::Closed;
            slot.garbled.take()
        };
        self.forget_ids();
        garbled
    }

    fn forget_ids(&mut self) {
        if self.ids.is_empty() {
            return;
        }
        let mut table = self.port.port.table();
        for id in self.ids.drain(..) {
            table.waiting.remove(&id);
        }
    }
}
