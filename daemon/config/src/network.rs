//! Networks as people write them: an address and how many of its bits count.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::kinds::{One, quoted};
use crate::problem::Mistake;

/// Addresses that begin with the same bits: `10.0.0.0/8`, `2001:db8::/32`
/// (RFC 4632, RFC 4291 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// Its first address: the bits that do not count are 0.
    address: IpAddr,
    /// How many bits count.
    bits: u8,
}

impl Network {
    /// Whether `address` lies in it. `::ffff:10.0.0.1` is 10.0.0.1.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && first(address, self.bits) == self.address
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// `address` with all but its first `bits` bits 0.
fn first(address: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(u32::BITS - bits).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(u128::BITS - bits).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

/// How many bits an address like this one has.
fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// A network; a single address is one of its own. `why_not_all` says what is
/// wrong with one that every address lies in.
pub(crate) fn network(why_not_all: &'static str) -> One<Network> {
    One::of_text("addresses and networks", move |text| {
        let network = parse(text)?;
        match network.bits {
            0 => Err(Mistake::new(
                format!("{network} is every address"),
                why_not_all,
            )),
            _ => Ok(network),
        }
    })
}

fn parse(text: &str) -> Result<Network, Mistake> {
    let refused = || {
        let message = format!("{} is no address and no network", quoted(text));
        Mistake::new(
            message,
            "write \"10.0.0.5\", \"10.0.0.0/8\" or \"2001:db8::/32\"",
        )
    };
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| refused())?;
    if address.to_canonical() != address {
        let message = format!("{} is an IPv4 address in an IPv6 one", quoted(text));
        let hint = format!("write it as IPv4: {}", address.to_canonical());
        return Err(Mistake::new(message, hint));
    }
    let width = width(address);
    let bits = match bits {
        None => width,
        Some(bits) => {
            let in_digits = bits.chars().all(|c| c.is_ascii_digit());
            let bits: Option<u8> = bits.parse().ok().filter(|_| in_digits);
            bits.filter(|bits| *bits <= width).ok_or_else(refused)?
        }
    };
    let network = Network {
        address: first(address, bits),
        bits,
    };
    if network.address != address {
        let message = format!("{} has bits after the first {bits}", quoted(text));
        let hint = format!("write \"{network}\" for the network, \"{address}\" for one address");
        return Err(Mistake::new(message, hint));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_lies_in_a_network_if_its_first_bits_are_the_same() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.128/25", "192.0.2.128", "192.0.2.127"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::1", "::1", "::2"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "ffff::", "1.2.3.4"),
        ] {
            let network = parse(network).unwrap();
            assert!(network.contains(ip(inside)), "{network} {inside}");
            assert!(!network.contains(ip(outside)), "{network} {outside}");
        }
        let v4 = parse("10.0.0.0/8").unwrap();
        assert!(v4.contains(ip("::ffff:10.1.2.3")));
    }

    #[test]
    fn a_network_is_shown_as_it_is_written() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.5", "10.0.0.5/32"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_could_be_meant_in_two_ways_is_no_network() {
        for (text, said) in [
            ("", "no address and no network"),
            ("10.0.0.0/33", "no address and no network"),
            ("10.0.0.0/", "no address and no network"),
            ("10.0.0.0/+8", "no address and no network"),
            ("10.0.0.0/8/8", "no address and no network"),
            ("10/8", "no address and no network"),
            ("proxy.example.net", "no address and no network"),
            ("10.0.0.5/8", "\"10.0.0.0/8\" for the network"),
            ("::ffff:10.0.0.5", "as IPv4: 10.0.0.5"),
        ] {
            let mistake = parse(text).unwrap_err();
            let shown = format!("{} ({})", mistake.message, mistake.hint);
            assert!(shown.contains(said), "{text:?}: {shown}");
        }
    }
}
