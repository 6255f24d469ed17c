//! Networks: an address and how many of its bits count.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that begin with the same bits: `10.0.0.0/8`, `2001:db8::/32`
/// (RFC 4632, RFC 4291 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// The network of `address` in which the first `bits` count; `None` if an
    /// address has fewer. Bits of `address` beyond them are 0.
    #[must_use]
    pub fn new(address: IpAddr, bits: u8) -> Option<Network> {
        (bits <= Network::width(address)).then(|| Network {
            address: first(address, bits),
            bits,
        })
    }

    /// How many bits an address like this one has.
    #[must_use]
    pub fn width(address: IpAddr) -> u8 {
        match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        }
    }

    /// Its first address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits count.
    #[must_use]
    pub fn bits(&self) -> u8 {
        self.bits
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_lies_in_a_network_if_its_first_bits_are_the_same() {
        for (network, bits, inside, outside) in [
            ("10.0.0.0", 8, "10.255.0.1", "11.0.0.0"),
            ("192.0.2.128", 25, "192.0.2.128", "192.0.2.127"),
            ("192.0.2.7", 32, "192.0.2.7", "192.0.2.8"),
            ("2001:db8::", 32, "2001:db8:ffff::1", "2001:db9::"),
            ("::1", 128, "::1", "::2"),
            ("0.0.0.0", 0, "255.255.255.255", "::1"),
            ("::", 0, "ffff::", "1.2.3.4"),
        ] {
            let network = Network::new(network.parse().unwrap(), bits).unwrap();
            assert!(
                network.contains(inside.parse().unwrap()),
                "{network} {inside}"
            );
            assert!(
                !network.contains(outside.parse().unwrap()),
                "{network} {outside}"
            );
        }
        let v4 = Network::new("10.1.2.3".parse().unwrap(), 8).unwrap();
        assert_eq!(v4.to_string(), "10.0.0.0/8");
        assert!(v4.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert_eq!(Network::new("10.0.0.0".parse().unwrap(), 33), None);
        assert_eq!(Network::new("::".parse().unwrap(), 129), None);
    }
}
