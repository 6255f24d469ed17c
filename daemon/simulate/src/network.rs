//! The addresses that a site may take: a network inside 127.0.0.0/8.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 network on loopback. Simulated devices answer without a question:
/// they must never be reachable from another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: Ipv4Addr,
    prefix: u8,
}

/// Why a text or an address is not a [`Network`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not written as a network.
    #[error("{0:?} is not a network such as 127.20.0.0/16")]
    Form(String),
    /// Reachable from elsewhere.
    #[error("{0} is not inside 127.0.0.0/8; simulated devices live on loopback only")]
    NotLoopback(Ipv4Addr),
    /// Too few addresses.
    #[error("{network} has room for {room} devices, not for {wanted}; choose a shorter prefix")]
    TooSmall {
        /// The network.
        network: Network,
        /// Addresses that it has.
        room: usize,
        /// Addresses that are needed.
        wanted: usize,
    },
}

impl Network {
    /// The network that `address` with `prefix` bits is in.
    ///
    /// # Errors
    ///
    /// [`NetworkError::NotLoopback`] and, for a prefix that is no prefix,
    /// [`NetworkError::Form`].
    pub fn new(address: Ipv4Addr, prefix: u8) -> Result<Network, NetworkError> {
        if prefix > 32 {
            return Err(NetworkError::Form(format!("{address}/{prefix}")));
        }
        if !address.is_loopback() || prefix < 8 {
            return Err(NetworkError::NotLoopback(address));
        }
        let mask = u32::MAX
            .checked_shl(32 - u32::from(prefix))
            .unwrap_or_default();
        let base = Ipv4Addr::from_bits(address.to_bits() & mask);
        Ok(Network { base, prefix })
    }

    /// The first `count` addresses: from .1 on, or from the only one.
    pub(crate) fn first_addresses(
        &self,
        count: usize,
    ) -> Result<impl Iterator<Item = Ipv4Addr> + use<>, NetworkError> {
        let room = self.room();
        if count > room {
            return Err(NetworkError::TooSmall {
                network: *self,
                room,
                wanted: count,
            });
        }
        let first = self.base.to_bits() + u32::from(self.prefix < 32);
        Ok((first..).map(Ipv4Addr::from_bits).take(count))
    }

    fn room(&self) -> usize {
        let all = 1_usize << (32 - u32::from(self.prefix));
        // without the first and the last, which are not hosts
        all.saturating_sub(2).max(1)
    }
}

impl Default for Network {
    /// 127.20.0.0/16
    fn default() -> Network {
        Network {
            base: Ipv4Addr::new(127, 20, 0, 0),
            prefix: 16,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let refused = || NetworkError::Form(text.chars().take(80).collect());
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let address = address.parse().map_err(|_other| refused())?;
        let prefix = prefix.parse().map_err(|_other| refused())?;
        Network::new(address, prefix)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_begin_behind_the_networks_own() {
        let network: Network = "127.20.0.0/16".parse().unwrap();
        let addresses: Vec<Ipv4Addr> = network.first_addresses(2).unwrap().collect();
        assert_eq!(
            addresses,
            [Ipv4Addr::new(127, 20, 0, 1), Ipv4Addr::new(127, 20, 0, 2)]
        );
        let one: Network = "127.0.0.9".parse().unwrap();
        assert!(
            one.first_addresses(1)
                .unwrap()
                .eq([Ipv4Addr::new(127, 0, 0, 9)])
        );
    }

    #[test]
    fn what_others_could_reach_is_refused_by_name() {
        for (text, message) in [
            (
                "10.0.0.0/8",
                "10.0.0.0 is not inside 127.0.0.0/8; simulated devices live on loopback only",
            ),
            (
                "127.0.0.0/7",
                "127.0.0.0 is not inside 127.0.0.0/8; simulated devices live on loopback only",
            ),
            (
                "0.0.0.0/0",
                "0.0.0.0 is not inside 127.0.0.0/8; simulated devices live on loopback only",
            ),
            (
                "127.0.0.0/33",
                "\"127.0.0.0/33\" is not a network such as 127.20.0.0/16",
            ),
            ("::1", "\"::1\" is not a network such as 127.20.0.0/16"),
        ] {
            assert_eq!(text.parse::<Network>().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_network_that_is_too_small_says_what_it_has_room_for() {
        let network: Network = "127.20.0.0/29".parse().unwrap();
        let error = network.first_addresses(7).err().unwrap();
        assert_eq!(
            error.to_string(),
            "127.20.0.0/29 has room for 6 devices, not for 7; choose a shorter prefix"
        );
    }
}
