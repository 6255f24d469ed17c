//! From which address a request comes, where proxies stand between.
//!
//! `X-Forwarded-For` is what anybody may write. Each proxy adds the address it
//! was spoken to from at the right, so what a proxy of ours added is true, and
//! everything left of the first address that is none of our proxies is not.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};
use model::Network;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address that a request comes from: `peer`, unless that is one of our
/// `proxies`.
pub(crate) fn client(peer: IpAddr, headers: &HeaderMap, proxies: &[Network]) -> IpAddr {
    let is_ours = |address: IpAddr| proxies.iter().any(|proxy| proxy.contains(address));
    let mut client = peer.to_canonical();
    let hops: Vec<&str> = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or("unreadable").split(','))
        .collect();
    for hop in hops.into_iter().rev() {
        if !is_ours(client) {
            break;
        }
        match address(hop.trim()) {
            Some(address) => client = address,
            // what the proxy was spoken to from is not known
            None => break,
        }
    }
    client
}

/// An address with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    bare.unwrap_or(text)
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
        .map(|address| address.to_canonical())
}

/// What requests without a credential are counted by: an address, or the
/// network of one customer (IPv6, RFC 6177).
pub(crate) fn counted_by(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        headers
    }

    #[track_caller]
    fn is(peer: &str, forwarded: &[&str], client: &str) {
        let proxies = [("10.0.0.0", 8), ("2001:db8::1", 128)]
            .map(|(address, bits)| Network::new(address.parse().unwrap(), bits).unwrap());
        let found = super::client(peer.parse().unwrap(), &headers(forwarded), &proxies);
        assert_eq!(found.to_string(), client);
    }

    #[test]
    fn nobody_but_a_trusted_proxy_names_an_address() {
        is("192.0.2.1", &["198.51.100.7"], "192.0.2.1");
        is("10.1.2.3", &["198.51.100.7"], "198.51.100.7");
        is("::ffff:10.1.2.3", &["198.51.100.7"], "198.51.100.7");
        is("2001:db8::1", &["[2001:db8::2]:443"], "2001:db8::2");
        is("2001:db8::3", &["198.51.100.7"], "2001:db8::3");
    }

    #[test]
    fn the_right_most_address_that_is_not_ours_counts() {
        is(
            "10.0.0.1",
            &["127.0.0.1, 198.51.100.7, 10.0.0.2"],
            "198.51.100.7",
        );
        is(
            "10.0.0.1",
            &["127.0.0.1", "198.51.100.7:5000"],
            "198.51.100.7",
        );
        is("10.0.0.1", &["1.1.1.1, nonsense"], "10.0.0.1");
        is("10.0.0.1", &["1.1.1.1, "], "10.0.0.1");
        is("10.0.0.1", &["10.0.0.9, 10.0.0.8"], "10.0.0.9");
        is("10.0.0.1", &[], "10.0.0.1");
    }

    #[test]
    fn a_customer_s_ipv6_network_is_one() {
        let a = counted_by("2001:db8:1:2:3::4".parse().unwrap());
        assert_eq!(a, counted_by("2001:db8:1:2:ffff::".parse().unwrap()));
    }
}
