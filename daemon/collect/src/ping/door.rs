//! The pinger's way out: one socket per address family.
//!
//! A ping socket (`SOCK_DGRAM`) needs no privilege where the administrator let
//! our group in with `net.ipv4.ping_group_range`, which rules IPv6 too. A raw
//! socket needs CAP_NET_RAW; a filter in the kernel keeps other programs' ICMP
//! off it.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use model::{Failure, FailureKind};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
use nix::sys::socket::{setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::packet::{self, Echo, Family};
use super::table::Moment;
use crate::error_queue::{self, Refusal};
use crate::failure;

/// What the kernel charges a receive buffer for one small reply: 832 bytes were
/// measured on loopback (256 replies fill the default buffer of 208 KiB), and
/// drivers that do not copy small packets charge more.
const BUFFER_BYTES_PER_REPLY: usize = 2 * 832;

/// Replies read per call.
const REPLIES_PER_CALL: usize = 256;

/// The longest packet that is looked at: an IP header with all its options,
/// and the beginning of an echo reply.
const PACKET_BYTES: usize = 128;

/// Tries of one send: each may report the error of an earlier probe instead.
const SEND_TRIES: usize = 3;

/// How echo requests leave this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PingAccess {
    /// By an unprivileged ping socket.
    PingSocket,
    /// By a raw socket.
    RawSocket,
    /// Not at all.
    None {
        /// Why, and what to do.
        why: Failure,
    },
}

impl fmt::Display for PingAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PingAccess::PingSocket => f.write_str("ping socket"),
            PingAccess::RawSocket => f.write_str("raw socket"),
            PingAccess::None { why } => write!(f, "none: {why}"),
        }
    }
}

/// An open socket of one family.
pub(super) struct Door {
    socket: Socket,
    family: Family,
    is_raw: bool,
    ident: u16,
}

/// What became of a send.
pub(super) enum SendFate {
    /// It left, at this moment.
    Sent(Moment),
    /// A buffer is full: later.
    Later,
    /// The kernel knows no way to it.
    Nowhere,
    /// It will not go.
    Never(Failure),
}

impl Door {
    /// Opens a ping socket, or else a raw one; `ident` tells our replies from
    /// other programs' on the raw one.
    pub(super) fn open(family: Family, ident: u16, buffer: usize) -> Result<Door, Failure> {
        let (domain, protocol) = match family {
            Family::V4 => (Domain::IPV4, Protocol::ICMPV4),
            Family::V6 => (Domain::IPV6, Protocol::ICMPV6),
        };
        let open = |kind: Type| Socket::new(domain, kind.nonblocking(), Some(protocol));
        let (socket, is_raw) = match open(Type::DGRAM) {
            Ok(socket) => (socket, false),
            Err(refused) => match open(Type::RAW) {
                Ok(socket) => (socket, true),
                Err(_) => return Err(cannot_open(family, &refused)),
            },
        };
        let door = Door {
            socket,
            family,
            is_raw,
            ident,
        };
        door.prepare(buffer)
            .map_err(|error| cannot_open(family, &error))?;
        Ok(door)
    }

    fn prepare(&self, buffer: usize) -> io::Result<()> {
        setsockopt(&self.socket, sockopt::ReceiveTimestampns, &true)?;
        error_queue::enable(&self.socket, self.family == Family::V4)?;
        if self.is_raw {
            self.socket
                .attach_filter(&reply_filter(self.family, self.ident))?;
        }
        self.resize(buffer);
        Ok(())
    }

    /// Asks for buffers of `bytes`, beyond the system's maximum where this
    /// process may (CAP_NET_ADMIN). A smaller one is lived with: see
    /// [`Door::replies_held`]. Requests to neighbours that do not answer ARP
    /// stay in the send buffer for seconds, so that it needs the room too.
    pub(super) fn resize(&self, bytes: usize) {
        if setsockopt(&self.socket, sockopt::RcvBufForce, &bytes).is_err() {
            let _ = self.socket.set_recv_buffer_size(bytes);
        }
        if setsockopt(&self.socket, sockopt::SndBufForce, &bytes).is_err() {
            let _ = self.socket.set_send_buffer_size(bytes);
        }
    }

    /// How many replies the receive buffer holds.
    pub(super) fn replies_held(&self) -> usize {
        let bytes = self.socket.recv_buffer_size().unwrap_or(0);
        (bytes / BUFFER_BYTES_PER_REPLY).max(1)
    }

    pub(super) fn access(&self) -> PingAccess {
        if self.is_raw {
            PingAccess::RawSocket
        } else {
            PingAccess::PingSocket
        }
    }

    /// Sends one request.
    pub(super) fn send(&self, target: IpAddr, sequence: u16) -> SendFate {
        let request = packet::request(self.family, self.ident, sequence);
        let address = SocketAddr::new(target, 0).into();
        let mut last = Errno::UnknownErrno;
        for _ in 0..SEND_TRIES {
            let sent = now();
            match self.socket.send_to(&request, &address) {
                Ok(_) => return SendFate::Sent(sent),
                Err(error) => last = errno_of(&error),
            }
            if !error_queue::may_be_of_an_earlier_datagram(last) {
                break;
            }
        }
        match last {
            Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM | Errno::EINTR => SendFate::Later,
            Errno::EHOSTUNREACH | Errno::EHOSTDOWN => SendFate::Nowhere,
            other => SendFate::Never(cannot_send(target, other)),
        }
    }

    /// Reads what came in, up to a limit, and hands each reply to `tell`.
    /// Returns whether there may be more.
    pub(super) fn receive(&self, mut tell: impl FnMut(IpAddr, u16, Moment)) -> bool {
        for _ in 0..REPLIES_PER_CALL {
            let mut packet = [0u8; PACKET_BYTES];
            let mut control = [0u8; 64];
            let mut parts = [IoSliceMut::new(&mut packet)];
            let received = recvmsg::<SockaddrStorage>(
                self.socket.as_raw_fd(),
                &mut parts,
                Some(&mut control),
                MsgFlags::MSG_DONTWAIT,
            );
            let message = match received {
                Ok(message) => message,
                // nothing came
                Err(Errno::EAGAIN) => return false,
                // an earlier probe's error: the next call goes on
                Err(_) => continue,
            };
            let stamped = message.cmsgs().ok().and_then(|mut parts| {
                parts.find_map(|part| match part {
                    ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
                    _ => None,
                })
            });
            let source = message
                .address
                .as_ref()
                .and_then(error_queue::socket_address);
            let length = message.bytes;
            let (Some(source), Some(packet)) = (source, packet.get(..length)) else {
                continue;
            };
            if let Some(echo) = self.ours(packet::reply(self.family, self.has_ip_header(), packet))
            {
                let came = Moment {
                    instant: Instant::now(),
                    wall: stamped.unwrap_or_else(wall),
                };
                tell(source.ip(), echo.sequence, came);
            }
        }
        true
    }

    /// Reads what routers said of our requests.
    pub(super) fn receive_refusals(&self, mut tell: impl FnMut(IpAddr, u16)) {
        error_queue::drain(&self.socket, |refusal: Refusal<'_>| {
            let request = packet::quoted_request(self.family, refusal.quoted);
            if let Some(echo) = self.ours(request)
                && is_final(refusal.errno)
            {
                tell(refusal.target.ip(), echo.sequence);
            }
        });
    }

    fn has_ip_header(&self) -> bool {
        self.is_raw && self.family == Family::V4
    }

    /// A ping socket only ever sees its own; the kernel chose its identifier.
    fn ours(&self, echo: Option<Echo>) -> Option<Echo> {
        echo.filter(|echo| !self.is_raw || echo.ident == self.ident)
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether an ICMP error means that the target cannot be reached, as opposed to
/// a hint such as "fragmentation needed". `EHOSTUNREACH` is also what a packet
/// in a routing loop gets (time exceeded).
fn is_final(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::EHOSTDOWN
            | Errno::ENONET
            | Errno::EACCES
            | Errno::ECONNREFUSED
            | Errno::ENOPROTOOPT
            | Errno::EOPNOTSUPP
    )
}

/// Both clocks, one right after the other.
fn now() -> Moment {
    Moment {
        instant: Instant::now(),
        wall: wall(),
    }
}

/// The clock in which the kernel stamps what it receives.
fn wall() -> Duration {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(Duration::ZERO, Duration::from)
}

/// A classic BPF program that lets echo replies with `ident` through. A raw
/// IPv4 socket's packets begin with the IP header, an IPv6 one's do not.
fn reply_filter(family: Family, ident: u16) -> Vec<SockFilter> {
    const LOAD_IP_HEADER_LENGTH: u16 = 0xb1;
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE_AFTER_IP: u16 = 0x50;
    const LOAD_HALF_AFTER_IP: u16 = 0x48;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const WHOLE_PACKET: u32 = 0xffff;

    let is_ours = |reply_type: u32, load_byte, load_half| {
        [
            SockFilter::new(load_byte, 0, 0, 0),
            SockFilter::new(JUMP_IF_EQUAL, 0, 3, reply_type),
            SockFilter::new(load_half, 0, 0, 4),
            SockFilter::new(JUMP_IF_EQUAL, 0, 1, u32::from(ident)),
            SockFilter::new(RETURN, 0, 0, WHOLE_PACKET),
            SockFilter::new(RETURN, 0, 0, 0),
        ]
    };
    match family {
        Family::V4 => [SockFilter::new(LOAD_IP_HEADER_LENGTH, 0, 0, 0)]
            .into_iter()
            .chain(is_ours(0, LOAD_BYTE_AFTER_IP, LOAD_HALF_AFTER_IP))
            .collect(),
        Family::V6 => is_ours(129, LOAD_BYTE, LOAD_HALF).into(),
    }
}

fn cannot_open(family: Family, error: &io::Error) -> Failure {
    let version = match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    match errno_of(error) {
        Errno::EACCES | Errno::EPERM => failure(
            FailureKind::Permission,
            format!(
                "this process may not send {version} echo requests: let its group in with \
                 `sysctl net.ipv4.ping_group_range=\"0 2147483647\"`, or give the service \
                 CAP_NET_RAW by a drop-in (AmbientCapabilities=CAP_NET_RAW)"
            ),
        ),
        Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT => failure(
            FailureKind::Local,
            format!("this machine has no {version}: echo requests cannot be sent by it"),
        ),
        other => failure(
            FailureKind::Local,
            format!(
                "cannot open a socket for {version} echo requests: {}",
                other.desc()
            ),
        ),
    }
}

fn cannot_send(target: IpAddr, errno: Errno) -> Failure {
    match errno {
        Errno::EPERM | Errno::EACCES => failure(
            FailureKind::Permission,
            format!(
                "this machine refuses to send echo requests to {target} ({}): look for a local \
                 firewall rule or a prohibiting route, and whether it is a broadcast address",
                errno.desc()
            ),
        ),
        // nothing left this machine, so nothing was learnt of the device
        Errno::ENETUNREACH => failure(
            FailureKind::Local,
            format!("this machine has no route to {target}: see `ip route get {target}`"),
        ),
        other => failure(
            FailureKind::Local,
            format!("cannot send an echo request to {target}: {}", other.desc()),
        ),
    }
}

fn errno_of(error: &io::Error) -> Errno {
    error
        .raw_os_error()
        .map_or(Errno::UnknownErrno, Errno::from_raw)
}
