//! The async-free shell around the simulated devices: one socket for all of
//! their addresses, and replies that leave when they are due.
//!
//! A thread waits for a datagram, for the next due reply or for the end, by
//! `ppoll`: replies can be due in tens of microseconds, which a runtime's
//! millisecond timers could not do.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering as Memory};
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use nix::sys::time::TimeSpec;
use socket2::Socket;
use tracing::{debug, warn};

/// Replies that wait for their time; 1,000 devices that are 1 s slow and asked
/// 60 times a second.
const WAITING_REPLIES: usize = 65_536;

/// Bytes of them. A few long echo requests must not fill the memory.
const WAITING_BYTES: usize = 64 << 20;

/// Datagrams that are read before due replies get their turn.
const DATAGRAMS_AT_ONCE: usize = 64;

/// Requests that the kernel keeps while we answer others. A round of 1,000
/// devices may arrive in one burst.
const RECEIVE_BUFFER: usize = 8 << 20;

/// Longest datagram over IPv4.
const DATAGRAM_BYTES: usize = 65_535;

/// A datagram and where it was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram<'a> {
    pub(crate) from: SocketAddrV4,
    pub(crate) to: Ipv4Addr,
    pub(crate) bytes: &'a [u8],
}

/// What goes back, and how long from now.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub(crate) after: Duration,
}

/// What a socket's thread did so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Datagrams received.
    pub(crate) received: AtomicU64,
    /// Replies sent.
    pub(crate) sent: AtomicU64,
    /// Replies that found no room, in the queue or in the kernel.
    pub(crate) dropped: AtomicU64,
}

/// Lets `socket` tell which address a datagram was sent to, and makes room
/// for bursts.
pub(crate) fn prepare(socket: &Socket) -> io::Result<()> {
    setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        // without CAP_NET_ADMIN the kernel's limit applies
        setsockopt(socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
    }
    socket.set_nonblocking(true)
}

/// Answers datagrams until the other end of `stop` is closed.
pub(crate) fn serve(
    socket: &Socket,
    stop: &UnixStream,
    counts: &Counts,
    mut answer: impl FnMut(Datagram<'_>) -> Option<Reply>,
) {
    let mut buffer = vec![0; DATAGRAM_BYTES];
    let mut waiting = Waiting::default();
    loop {
        match wait(socket, stop, waiting.next_due()) {
            Ok(Event::Stop) => return,
            Ok(Event::Datagrams) => {
                receive(socket, &mut buffer, counts, |datagram| {
                    let Some(reply) = answer(datagram) else {
                        return;
                    };
                    let (from, to) = (datagram.to, datagram.from);
                    if reply.after.is_zero() {
                        send(socket, from, to, &reply.bytes, counts);
                    } else if !waiting.add(from, to, reply, Instant::now()) {
                        counts.dropped.fetch_add(1, Memory::Relaxed);
                    }
                });
            }
            Ok(Event::Due) => {}
            Err(error) => {
                warn!(%error, "cannot wait for requests; this part of the simulation ends");
                return;
            }
        }
        while let Some(due) = waiting.take_due(Instant::now()) {
            send(socket, due.from, due.to, &due.bytes, counts);
        }
    }
}

enum Event {
    Stop,
    Datagrams,
    Due,
}

fn wait(socket: &Socket, stop: &UnixStream, next_due: Option<Instant>) -> io::Result<Event> {
    let patience = next_due.map(|due| {
        let left = due.saturating_duration_since(Instant::now());
        TimeSpec::from_duration(left)
    });
    let mut watched = [
        PollFd::new(socket.as_fd(), PollFlags::POLLIN),
        PollFd::new(stop.as_fd(), PollFlags::POLLIN),
    ];
    match ppoll(&mut watched, patience, None) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let [datagrams, stopped] = watched.map(|fd| fd.any().unwrap_or(false));
    Ok(if stopped {
        Event::Stop
    } else if datagrams {
        Event::Datagrams
    } else {
        Event::Due
    })
}

fn receive(
    socket: &Socket,
    buffer: &mut [u8],
    counts: &Counts,
    mut take: impl FnMut(Datagram<'_>),
) {
    let mut control = cmsg_space!(libc::in_pktinfo);
    for _ in 0..DATAGRAMS_AT_ONCE {
        let (from, to, length) = match receive_one(socket, buffer, &mut control) {
            Ok(Some(received)) => received,
            Ok(None) => continue,
            Err(Errno::EAGAIN) => return,
            // an error of an earlier reply, such as a port that is closed by now
            Err(error) => {
                debug!(%error, "nothing received");
                return;
            }
        };
        counts.received.fetch_add(1, Memory::Relaxed);
        let bytes = &buffer[..length];
        take(Datagram { from, to, bytes });
    }
}

/// The next datagram: who sent it, to which address, and its length. None if
/// the kernel did not say.
fn receive_one(
    socket: &Socket,
    buffer: &mut [u8],
    control: &mut [u8],
) -> Result<Option<(SocketAddrV4, Ipv4Addr, usize)>, Errno> {
    let mut parts = [IoSliceMut::new(buffer)];
    let received = recvmsg::<SockaddrIn>(
        socket.as_raw_fd(),
        &mut parts,
        Some(control),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let to = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()))
        }
        _ => None,
    });
    let from = received.address.map(SocketAddrV4::from);
    Ok(from.zip(to).map(|(from, to)| (from, to, received.bytes)))
}

/// Sends `bytes` as `from`, which is one of our addresses.
fn send(socket: &Socket, from: Ipv4Addr, to: SocketAddrV4, bytes: &[u8], counts: &Counts) {
    let info = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr {
            s_addr: u32::from_ne_bytes(from.octets()),
        },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let sent = sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        &[ControlMessage::Ipv4PacketInfo(&info)],
        MsgFlags::MSG_DONTWAIT,
        Some(&SockaddrIn::from(to)),
    );
    let count = match sent {
        Ok(_) => &counts.sent,
        Err(error) => {
            debug!(%from, %to, %error, "reply lost");
            &counts.dropped
        }
    };
    count.fetch_add(1, Memory::Relaxed);
}

/// Replies in the order in which they are due.
#[derive(Debug, Default)]
struct Waiting {
    replies: BinaryHeap<Due>,
    bytes: usize,
    added: u64,
}

impl Waiting {
    /// Keeps a reply until it is due; false if there is no room.
    fn add(&mut self, from: Ipv4Addr, to: SocketAddrV4, reply: Reply, now: Instant) -> bool {
        let length = reply.bytes.len();
        if self.replies.len() >= WAITING_REPLIES || self.bytes + length > WAITING_BYTES {
            return false;
        }
        self.bytes += length;
        self.added += 1;
        self.replies.push(Due {
            at: now + reply.after,
            number: self.added,
            from,
            to,
            bytes: reply.bytes,
        });
        true
    }

    fn next_due(&self) -> Option<Instant> {
        self.replies.peek().map(|due| due.at)
    }

    fn take_due(&mut self, now: Instant) -> Option<Due> {
        if self.next_due()? > now {
            return None;
        }
        let due = self.replies.pop()?;
        self.bytes -= due.bytes.len();
        Some(due)
    }
}

/// A reply that waits. The greatest is the one that is due first.
#[derive(Debug)]
struct Due {
    at: Instant,
    number: u64,
    from: Ipv4Addr,
    to: SocketAddrV4,
    bytes: Vec<u8>,
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(length: usize, after_ms: u64) -> Reply {
        Reply {
            bytes: vec![0; length],
            after: Duration::from_millis(after_ms),
        }
    }

    fn add(waiting: &mut Waiting, reply: Reply, now: Instant) -> bool {
        let here = Ipv4Addr::LOCALHOST;
        waiting.add(here, SocketAddrV4::new(here, 9), reply, now)
    }

    #[test]
    fn replies_leave_in_the_order_in_which_they_are_due() {
        let now = Instant::now();
        let mut waiting = Waiting::default();
        for (length, after_ms) in [(3, 30), (1, 10), (2, 10), (4, 40)] {
            assert!(add(&mut waiting, reply(length, after_ms), now));
        }
        let later = now + Duration::from_millis(30);
        let left: Vec<usize> = std::iter::from_fn(|| waiting.take_due(later))
            .map(|due| due.bytes.len())
            .collect();
        assert_eq!(left, [1, 2, 3]);
        assert_eq!(waiting.bytes, 4);
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_in_bytes() {
        let now = Instant::now();
        let mut waiting = Waiting::default();
        while add(&mut waiting, reply(DATAGRAM_BYTES, 1), now) {}
        assert!(waiting.bytes <= WAITING_BYTES);

        let mut waiting = Waiting::default();
        while add(&mut waiting, reply(1, 1), now) {}
        assert_eq!(waiting.replies.len(), WAITING_REPLIES);
    }
}
