//! Echo requests and replies on the wire (RFC 792, RFC 4443 §4).

/// An IP version: each has its own ICMP, and its own socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    pub(super) const ALL: [Family; 2] = [Family::V4, Family::V6];

    fn request_type(self) -> u8 {
        match self {
            Family::V4 => 8,
            Family::V6 => 128,
        }
    }

    fn reply_type(self) -> u8 {
        match self {
            Family::V4 => 0,
            Family::V6 => 129,
        }
    }
}

const HEADER: usize = 8;

/// What a request carries after its header: for whoever looks at the wire.
const PAYLOAD: [u8; 16] = *b"SOTP is watching";

/// A whole request.
pub(super) type Request = [u8; HEADER + PAYLOAD.len()];

/// Writes an echo request. The kernel fills in an ICMPv6 checksum, and a ping
/// socket's identifier.
pub(super) fn request(family: Family, ident: u16, sequence: u16) -> Request {
    let mut packet = [0u8; HEADER + PAYLOAD.len()];
    packet[0] = family.request_type();
    packet[4..6].copy_from_slice(&ident.to_be_bytes());
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    packet[HEADER..].copy_from_slice(&PAYLOAD);
    if family == Family::V4 {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(packet: &Request) -> u16 {
    let (words, _even) = packet.as_chunks::<2>();
    let mut sum: u32 = words
        .iter()
        .map(|word| u32::from(u16::from_be_bytes(*word)))
        .sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).expect("the loop above leaves 16 bits")
}

/// An echo's identifier and sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Echo {
    pub(super) ident: u16,
    pub(super) sequence: u16,
}

/// Reads an echo reply; `None` for any other packet. `has_ip_header`: what a
/// raw IPv4 socket delivers begins with one.
pub(super) fn reply(family: Family, has_ip_header: bool, packet: &[u8]) -> Option<Echo> {
    let header_bytes = match packet.first() {
        Some(first) if has_ip_header => usize::from(first & 0x0f) * 4,
        _ => 0,
    };
    echo(packet.get(header_bytes..)?, family.reply_type())
}

/// Reads the beginning of one of our requests, as an ICMP error quotes it.
pub(super) fn quoted_request(family: Family, quoted: &[u8]) -> Option<Echo> {
    echo(quoted, family.request_type())
}

fn echo(icmp: &[u8], kind: u8) -> Option<Echo> {
    let header = icmp.first_chunk::<HEADER>()?;
    let is_it = header[0] == kind && header[1] == 0;
    is_it.then(|| Echo {
        ident: u16::from_be_bytes([header[4], header[5]]),
        sequence: u16::from_be_bytes([header[6], header[7]]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_back_where_an_error_quotes_it() {
        for family in Family::ALL {
            let packet = request(family, 7, 513);
            let expected = Some(Echo {
                ident: 7,
                sequence: 513,
            });
            assert_eq!(quoted_request(family, &packet), expected);
            assert_eq!(quoted_request(family, &packet[..8]), expected);
            assert_eq!(quoted_request(family, &packet[..7]), None);
            assert_eq!(reply(family, false, &packet), None, "a request is no reply");
        }
    }

    #[test]
    fn a_request_with_its_checksum_sums_to_zero() {
        let mut packet = request(Family::V4, 0xbeef, 0xffff);
        assert_eq!(checksum(&packet), 0);
        packet[9] ^= 1;
        assert_ne!(checksum(&packet), 0);
    }

    #[test]
    fn a_raw_ipv4_reply_begins_with_an_ip_header_of_any_length() {
        for words in [5usize, 15] {
            let mut packet = vec![0u8; words * 4];
            packet[0] = 0x40 | u8::try_from(words).unwrap();
            let mut icmp = request(Family::V4, 9, 3);
            icmp[0] = 0;
            packet.extend_from_slice(&icmp);
            let expected = Some(Echo {
                ident: 9,
                sequence: 3,
            });
            assert_eq!(reply(Family::V4, true, &packet), expected);
            assert_eq!(reply(Family::V4, true, &packet[..words * 4 + 7]), None);
        }
        assert_eq!(reply(Family::V4, true, &[]), None);
        assert_eq!(reply(Family::V4, true, &[0x4f; 3]), None);
    }
}
