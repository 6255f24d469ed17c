//! Networks as people write them: an address and how many of its bits count.

use std::net::IpAddr;

use model::Network;

use crate::kinds::{One, quoted};
use crate::problem::Mistake;

/// A network; a single address is one of its own. `why_not_all` says what is
/// wrong with one that every address lies in.
pub(crate) fn network(why_not_all: &'static str) -> One<Network> {
    One::of_text("addresses and networks", move |text| {
        let network = parse(text)?;
        match network.bits() {
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
    let width = Network::width(address);
    let bits = match bits {
        None => width,
        Some(bits) => {
            let in_digits = bits.chars().all(|c| c.is_ascii_digit());
            let bits: Option<u8> = bits.parse().ok().filter(|_| in_digits);
            bits.ok_or_else(refused)?
        }
    };
    let network = Network::new(address, bits).ok_or_else(refused)?;
    if network.address() != address {
        let message = format!("{} has bits after the first {bits}", quoted(text));
        let hint = format!("write \"{network}\" for the network, \"{address}\" for one address");
        return Err(Mistake::new(message, hint));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

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
