//! Echo replies (RFC 792) by the simulated devices themselves, with the delay
//! of a network in between.
//!
//! The kernel answers pings to all of 127/8 at once and for ever; where it was
//! told not to (`net.ipv4.icmp_echo_ignore_all=1`, in a network namespace of
//! one's own), the devices do it, and a device that is down does not.

use std::time::Duration;

use crate::noise::{Chance, between, unit};

const ECHO_REQUEST: u8 = 8;
const PROTOCOL_ICMP: u8 = 1;
const SHORTEST_IP_HEADER: usize = 20;
const ICMP_HEADER: usize = 8;

/// The reply to an IP packet as a raw socket gives it, if that is a sound and
/// whole echo request.
pub(crate) fn reply(packet: &[u8]) -> Option<Vec<u8>> {
    let request = icmp(packet)?;
    let sound = request.len() >= ICMP_HEADER && checksum(request) == 0;
    if !sound || request[0] != ECHO_REQUEST || request[1] != 0 {
        return None;
    }
    let mut reply = request.to_vec();
    reply[..4].fill(0);
    let sum = checksum(&reply).to_be_bytes();
    reply[2..4].copy_from_slice(&sum);
    Some(reply)
}

/// What an IPv4 packet (RFC 791) carries, if that is whole and ICMP.
fn icmp(packet: &[u8]) -> Option<&[u8]> {
    if packet.len() < SHORTEST_IP_HEADER || packet[0] >> 4 != 4 {
        return None;
    }
    let header = usize::from(packet[0] & 0x0f) * 4;
    // more fragments, or one that is not the first
    let fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0;
    if fragment || packet[9] != PROTOCOL_ICMP || header < SHORTEST_IP_HEADER {
        return None;
    }
    packet.get(header..)
}

/// The Internet checksum (RFC 1071); 0 over bytes that contain a right one.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("the carry was folded in")
}

/// How far away a device is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Distance {
    base_ms: f64,
    jitter_ms: f64,
}

impl Distance {
    /// Of a device with this seed, at a site with that one: every site has its
    /// own distance, and devices of a site differ a little.
    pub(crate) fn new(seed: u64, site_seed: u64) -> Distance {
        let site_ms = if unit(site_seed, 1) < 0.3 {
            between(site_seed, 2, 0.3, 1.0)
        } else {
            between(site_seed, 2, 2.0, 22.0)
        };
        let base_ms = (site_ms + between(seed, 3, 0.0, 1.2)).min(25.0);
        Distance {
            base_ms,
            jitter_ms: base_ms * between(seed, 4, 0.02, 0.15),
        }
    }

    /// How long the next echo takes: mostly the base, sometimes some more.
    pub(crate) fn delay(&self, chance: &mut Chance) -> Duration {
        let late = chance.unit().powi(3);
        Duration::from_secs_f64((self.base_ms + self.jitter_ms * late) / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An echo request with the payload "abc" in an IPv4 packet.
    fn request() -> Vec<u8> {
        let mut icmp = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1, b'a', b'b', b'c'];
        let sum = checksum(&icmp).to_be_bytes();
        icmp[2..4].copy_from_slice(&sum);
        let mut packet = vec![0; 20];
        packet[0] = 0x45;
        packet[9] = 1;
        packet.extend(icmp);
        packet
    }

    #[test]
    fn the_reply_carries_what_the_request_carried() {
        let reply = reply(&request()).unwrap();
        assert_eq!(reply[0], 0);
        assert_eq!(reply[4..], request()[24..]);
        assert_eq!(checksum(&reply), 0);
    }

    #[test]
    fn nothing_but_a_sound_and_whole_echo_request_is_answered() {
        let changed = |place: usize, byte: u8| {
            let mut packet = request();
            packet[place] = byte;
            packet
        };
        for (packet, what) in [
            (changed(0, 0x65), "not IPv4"),
            (changed(0, 0x41), "a header too short"),
            (changed(6, 0x20), "more fragments"),
            (changed(7, 0x01), "a later fragment"),
            (changed(9, 17), "not ICMP"),
            (changed(20, 0), "an echo reply"),
            (changed(30, b'x'), "a wrong checksum"),
            (request()[..27].to_vec(), "cut short"),
            (Vec::new(), "empty"),
        ] {
            assert_eq!(reply(&packet), None, "{what}");
        }
    }

    #[test]
    fn the_ip_header_may_have_options() {
        let mut packet = request();
        packet[0] = 0x46;
        packet.splice(20..20, [1, 1, 1, 1]);
        assert!(reply(&packet).is_some());
    }

    #[test]
    fn devices_are_between_a_third_and_thirty_milliseconds_away() {
        let mut chance = Chance::new(1);
        for seed in 0..500 {
            let distance = Distance::new(seed, seed / 16);
            for _ in 0..20 {
                let ms = distance.delay(&mut chance).as_secs_f64() * 1e3;
                assert!((0.3..30.0).contains(&ms), "{ms} ms");
            }
        }
    }
}
