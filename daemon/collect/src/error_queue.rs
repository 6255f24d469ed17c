//! What routers say about our datagrams.
//!
//! An ICMP error about a datagram never reaches an unconnected socket by
//! itself. With `IP_RECVERR` the kernel keeps such errors in a queue beside the
//! socket, each with the address that the datagram went to and its first bytes
//! (ip(7)).

use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
use nix::sys::socket::{setsockopt, sockopt};

/// `SO_EE_ORIGIN_ICMP` and `SO_EE_ORIGIN_ICMP6` of `<linux/errqueue.h>`.
const FROM_ICMP: u8 = 2;
const FROM_ICMP6: u8 = 3;

/// Errors taken per call: more of them wait for the next call, so that a flood
/// cannot keep a reader busy for ever.
const ERRORS_PER_CALL: usize = 256;

/// Room for `sock_extended_err` and the address of whoever complained.
const CONTROL_BYTES: usize = 256;

/// A router's, or the target's own, refusal of one datagram.
#[derive(Debug)]
pub(crate) struct Refusal<'a> {
    /// Where the datagram went.
    pub(crate) target: SocketAddr,
    /// What the error means for a socket, such as `EHOSTUNREACH`.
    pub(crate) errno: Errno,
    /// The datagram's first bytes, from its ICMP header or UDP payload on.
    pub(crate) quoted: &'a [u8],
}

/// Asks the kernel to keep the errors of `socket`.
pub(crate) fn enable(socket: &impl AsFd, target_is_v4: bool) -> nix::Result<()> {
    if target_is_v4 {
        setsockopt(socket, sockopt::Ipv4RecvErr, &true)
    } else {
        setsockopt(socket, sockopt::Ipv6RecvErr, &true)
    }
}

/// Hands every waiting error to `tell`; those of this machine itself are
/// dropped.
pub(crate) fn drain(socket: &impl AsRawFd, mut tell: impl FnMut(Refusal<'_>)) {
    for _ in 0..ERRORS_PER_CALL {
        let mut quoted = [0u8; 128];
        let mut control = [0u8; CONTROL_BYTES];
        let mut parts = [IoSliceMut::new(&mut quoted)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let received =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags);
        let Ok(message) = received else { return };
        let errno = message.cmsgs().ok().and_then(|mut all| {
            all.find_map(|part| match part {
                ControlMessageOwned::Ipv4RecvErr(error, _)
                | ControlMessageOwned::Ipv6RecvErr(error, _)
                    if matches!(error.ee_origin, FROM_ICMP | FROM_ICMP6) =>
                {
                    i32::try_from(error.ee_errno).ok().map(Errno::from_raw)
                }
                _ => None,
            })
        });
        let target = message.address.as_ref().and_then(socket_address);
        let length = message.bytes;
        if let (Some(errno), Some(target)) = (errno, target) {
            let quoted = quoted.get(..length).unwrap_or_default();
            tell(Refusal {
                target,
                errno,
                quoted,
            });
        }
    }
}

/// Whether a send's error may be an earlier datagram's: the kernel reports a
/// queued ICMP error at the next call on the socket, whatever that call is
/// about.
pub(crate) fn may_be_of_an_earlier_datagram(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::ECONNREFUSED
            | Errno::EHOSTDOWN
            | Errno::ENONET
            | Errno::ENOPROTOOPT
            | Errno::EOPNOTSUPP
            | Errno::EPROTO
            | Errno::EACCES
            | Errno::EMSGSIZE
    )
}

/// The address in `storage`, if it is an Internet one.
pub(crate) fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::V4(SocketAddrV4::new(v4.ip(), v4.port())));
    }
    let v6 = storage.as_sockaddr_in6()?;
    let plain = SocketAddrV6::new(v6.ip(), v6.port(), 0, v6.scope_id());
    Some(SocketAddr::V6(plain))
}

/// Whether two socket addresses are one peer; an IPv6 scope or flow does not
/// count.
pub(crate) fn is_same_peer(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && canonical(a.ip()) == canonical(b.ip())
}

fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}
