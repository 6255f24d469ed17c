//! Requests that plugins want made: only to where an administrator lets them go,
//! and to nothing inside that a name on the outside may point at.
//!
//! The request's own [`Uri`] is judged, part by part, and then connected to: there
//! is no second reading of its text that could see another host in it. A name is
//! resolved once, what it resolved to is judged, and that very address is
//! connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HOST, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{HeaderMap, Method, Uri};

/// Where a plugin's requests may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// As they were granted: `https://hooks.slack.com/services/*`. A pattern is a
    /// scheme, a host, perhaps a port, and a path, which may end with `*`; the
    /// path of a pattern without one is `/`. `https://*` is any host at its usual
    /// port. A `*` anywhere else in a host matches nothing.
    pub patterns: Vec<String>,
    /// Whether private networks may be asked by patterns that name no host. A
    /// host that a pattern names may always be there.
    pub allow_private: bool,
}

/// How a request was allowed, which decides about where its host may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The pattern names the host.
    is_named: bool,
    /// The request goes over plain HTTP.
    is_plain: bool,
}

impl Guard {
    /// Whether a request to `uri` is allowed, as far as its text tells; where its
    /// host really is, is judged when it is connected to.
    ///
    /// # Errors
    ///
    /// Why it is not, in words that show nothing of its path, which may be secret.
    pub fn check(&self, uri: &Uri) -> Result<(), String> {
        self.grant(uri).map(|_| ())
    }

    pub(crate) fn grant(&self, uri: &Uri) -> Result<Grant, String> {
        let target = Target::of(uri)?;
        let mut found: Option<Grant> = None;
        for pattern in &self.patterns {
            if let Some(grant) = target.meets(pattern)
                && found.is_none_or(|known| !known.is_named)
            {
                found = Some(grant);
            }
        }
        found.ok_or_else(|| {
            format!(
                "{}://{} with that path is not granted to the plugin",
                target.scheme, target.host
            )
        })
    }

    /// Those of `addresses` that may be connected to.
    pub(crate) fn admit(
        &self,
        grant: Grant,
        host: &str,
        addresses: &[SocketAddr],
    ) -> Result<Vec<SocketAddr>, String> {
        let may_be = |address: &&SocketAddr| {
            let ip = address.ip().to_canonical();
            match place_of(ip) {
                Place::Nowhere => false,
                // an address, or this machine's name: no other name may lead there
                Place::Here => grant.is_named && (host == "localhost" || is_literal(host)),
                Place::Private => !grant.is_plain && (grant.is_named || self.allow_private),
                Place::Public => !grant.is_plain,
            }
        };
        let admitted: Vec<SocketAddr> = addresses.iter().filter(may_be).copied().collect();
        match (admitted.is_empty(), addresses.first()) {
            (false, _) => Ok(admitted),
            (true, None) => Err("its name has no address".to_owned()),
            (true, Some(address)) => Err(format!(
                "{} is not an address that the plugin may ask: grant that host by its own name \
                 or address if it is to be",
                address.ip()
            )),
        }
    }
}

/// Where a request goes, in one way of writing it.
struct Target<'a> {
    scheme: &'a str,
    host: String,
    port: u16,
    path: &'a str,
}

impl<'a> Target<'a> {
    fn of(uri: &'a Uri) -> Result<Target<'a>, String> {
        let scheme = uri.scheme_str().unwrap_or_default();
        let Some(usual) = usual_port(scheme) else {
            return Err("it is neither https nor http".to_owned());
        };
        let authority = uri.authority().ok_or("it names no host")?;
        let is_odd = |c: char| !c.is_ascii_alphanumeric() && !"-._:[]".contains(c);
        if authority.as_str().contains(is_odd) {
            return Err("a user, a password or an odd character stands in its host".to_owned());
        }
        let host = authority.host().to_ascii_lowercase();
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        if host.is_empty() || host.ends_with('.') {
            return Err("its host is empty or ends with a dot".to_owned());
        }
        if !is_literal(&host) && looks_like_a_number(&host) {
            return Err("its host is an address in an odd way of writing".to_owned());
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        if climbs(uri.path()) {
            return Err("its path has . or .. for a part, or a backslash".to_owned());
        }
        Ok(Target {
            scheme,
            host,
            port: authority.port_u16().unwrap_or(usual),
            path,
        })
    }

    fn meets(&self, pattern: &str) -> Option<Grant> {
        let (scheme, rest) = pattern.split_once("://")?;
        if scheme != self.scheme {
            return None;
        }
        let (host, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None if rest == "*" => ("*", "/*"),
            None => (rest, "/"),
        };
        let is_path = match path.strip_suffix('*') {
            Some(start) => self.path.starts_with(start),
            None => self.path == path,
        };
        let is_named = host != "*";
        let is_host = if is_named { self.is_host(host) } else { true };
        (is_path && is_host).then_some(Grant {
            is_named,
            is_plain: scheme == "http",
        })
    }

    /// `name`, `name:port`, `[v6]` or `[v6]:port`.
    fn is_host(&self, pattern: &str) -> bool {
        let (host, port) = match pattern.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
            _ => (pattern, usual_port(self.scheme)),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_one = match (host.parse::<IpAddr>(), self.host.parse::<IpAddr>()) {
            (Ok(one), Ok(other)) => one == other,
            _ => host.eq_ignore_ascii_case(&self.host),
        };
        is_one && port == Some(self.port)
    }
}

fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    }
}

fn is_literal(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

/// `127.1`, `2130706433`, `0x7f.1`: some resolvers take them for addresses.
fn looks_like_a_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a server may take the path for one that begins otherwise.
fn climbs(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    let path = path
        .replace("%2e", ".")
        .replace("%2f", "/")
        .replace("%5c", "\\");
    path.contains('\\') || path.split('/').any(|part| part == "." || part == "..")
}

/// Where an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Anywhere on the Internet.
    Public,
    /// In somebody's own network.
    Private,
    /// On this machine or its links: also where clouds keep their keys.
    Here,
    /// Nothing that answers HTTP is there.
    Nowhere,
}

fn place_of(ip: IpAddr) -> Place {
    match ip {
        IpAddr::V4(ip) => place_of_v4(ip),
        IpAddr::V6(ip) => place_of_v6(ip),
    }
}

/// RFC 6890 and what was added to it.
fn place_of_v4(ip: Ipv4Addr) -> Place {
    match ip.octets() {
        [127, ..] | [169, 254, ..] => Place::Here,
        [0 | 224..=255, ..] => Place::Nowhere,
        [10, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [100, 64..=127, ..]
        | [192, 0, 0, _]
        | [198, 18..=19, ..] => Place::Private,
        _ => Place::Public,
    }
}

fn place_of_v6(ip: Ipv6Addr) -> Place {
    let parts = ip.segments();
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        place_of_v4(Ipv4Addr::new(a, b, c, d))
    };
    match parts {
        [0, 0, 0, 0, 0, 0, 0, 1] | [0xfe80..=0xfebf, ..] => Place::Here,
        // ::, and addresses of IPv4 as they were once written
        [0, 0, 0, 0, 0, 0, ..] | [0xff00..=0xffff, ..] => Place::Nowhere,
        // translated to IPv4 on the way (RFC 6052), or carried in it (RFC 3056)
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => inner(high, low),
        [0x64, 0xff9b, ..] | [0x2001, 0, ..] => Place::Private,
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Place::Private,
        _ => Place::Public,
    }
}

/// Whether a plugin may send such a request at all.
pub(crate) fn check_form(method: &Method, headers: &HeaderMap) -> Result<(), String> {
    let plain = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ];
    if !plain.contains(method) {
        return Err(format!("{method} is no method for plugins"));
    }
    let ours = [
        HOST,
        CONNECTION,
        CONTENT_LENGTH,
        TRANSFER_ENCODING,
        TE,
        TRAILER,
        UPGRADE,
        PROXY_AUTHORIZATION,
    ];
    match ours.into_iter().find(|name| headers.contains_key(name)) {
        Some(name) => Err(format!("the header {name} is not the plugin's to set")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(patterns: &[&str]) -> Guard {
        Guard {
            patterns: patterns.iter().map(|p| (*p).to_owned()).collect(),
            allow_private: false,
        }
    }

    fn allows(pattern: &str, url: &str) -> bool {
        let uri = url.parse::<Uri>();
        uri.is_ok_and(|uri| guard(&[pattern]).check(&uri).is_ok())
    }

    #[test]
    fn a_pattern_is_a_scheme_a_host_a_port_and_the_beginning_of_a_path() {
        let slack = "https://hooks.slack.com/services/*";
        for url in [
            "https://hooks.slack.com/services/T0/B0/x",
            "https://HOOKS.slack.com:443/services/a?b=c",
        ] {
            assert!(allows(slack, url), "{url}");
        }
        for url in [
            "http://hooks.slack.com/services/x",
            "https://hooks.slack.com/admin",
            "https://hooks.slack.com:8443/services/x",
            "https://hooks.slack.com.evil.net/services/x",
            "https://evil.net/https://hooks.slack.com/services/x",
            "https://evil.net/?x=hooks.slack.com/services/",
            "https://xhooks.slack.com/services/x",
            "ftp://hooks.slack.com/services/x",
            "/services/x",
        ] {
            assert!(!allows(slack, url), "{url}");
        }
        assert!(allows("https://x.net", "https://x.net"));
        assert!(!allows("https://x.net", "https://x.net/a"));
        assert!(allows("https://x.net/a", "https://x.net/a"));
        assert!(!allows("https://x.net/a", "https://x.net/ab"));
        assert!(allows("https://x.net:8443/*", "https://x.net:8443/a"));
        assert!(allows("https://[fd00::1]:99/*", "https://[fd00:0::1]:99/a"));
    }

    #[test]
    fn a_star_stands_for_a_whole_host_or_none() {
        assert!(allows("https://*", "https://any.net/x"));
        assert!(allows("https://*/hook/*", "https://any.net/hook/x"));
        assert!(!allows("https://*/hook/*", "https://any.net/x"));
        assert!(allows("https://*", "https://any.net:8443/x"));
        assert!(!allows("https://*", "http://any.net/x"));
        for pattern in [
            "https://hooks.slack.com*",
            "https://*.slack.com/*",
            "https://hooks*/",
        ] {
            for url in [
                "https://hooks.slack.com/",
                "https://hooks.slack.com.evil.net/",
            ] {
                assert!(!allows(pattern, url), "{pattern} {url}");
            }
        }
        assert!(!allows("*", "https://any.net/"));
        assert!(!allows("", "https://any.net/"));
    }

    #[test]
    fn no_trick_in_the_text_gets_past_a_pattern() {
        let slack = ["https://hooks.slack.com/services/*", "https://*"];
        for url in [
            "https://hooks.slack.com@evil.net/services/x",
            "https://hooks.slack.com:x@evil.net/services/x",
            "https://hooks.slack.com%2f@evil.net/services/x",
            "https://hooks.slack.com%00.evil.net/services/x",
            "https://hooks.slack.com\\@evil.net/services/x",
            "https://evil.net\\.hooks.slack.com/services/x",
            "https://hooks.slack.com./services/x",
            "https://hooks.slack.com/services/../admin",
            "https://hooks.slack.com/services/%2e%2e/admin",
            "https://hooks.slack.com/services/x%2f..%2f../admin",
            "https://hooks.slack.com/services/..%5cadmin",
            "https://2130706433/services/x",
            "https://127.1/services/x",
            "https://0x7f.0x1/services/x",
        ] {
            for pattern in slack {
                assert!(!allows(pattern, url), "{pattern} {url}");
            }
        }
        assert!(allows(
            slack[0],
            "https://hooks.slack.com/services/a%2Fb..c"
        ));
    }

    /// Whether `ip` may be connected to for `url` by `pattern`.
    fn admits(pattern: &str, allow_private: bool, url: &str, ip: &str) -> bool {
        let guard = Guard {
            allow_private,
            ..guard(&[pattern])
        };
        let uri: Uri = url.parse().unwrap();
        let grant = guard.grant(&uri).unwrap();
        let host = uri.host().unwrap().trim_matches(['[', ']']);
        let address = SocketAddr::new(ip.parse().unwrap(), 443);
        guard.admit(grant, host, &[address]).is_ok()
    }

    const HERE: [&str; 6] = [
        "127.0.0.1",
        "127.9.9.9",
        "169.254.169.254",
        "::1",
        "fe80::1",
        "::ffff:127.0.0.1",
    ];
    const PRIVATE: [&str; 9] = [
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "fd00::1",
        "fec0::1",
        "64:ff9b::10.0.0.1",
        "2002:a00:1::",
        "::ffff:192.168.1.1",
    ];
    const NOWHERE: [&str; 7] = [
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "ff02::1",
        "::10.0.0.1",
        "240.0.0.1",
    ];
    const PUBLIC: [&str; 4] = ["8.8.8.8", "172.32.0.1", "2606:4700::1", "64:ff9b::8.8.8.8"];

    #[test]
    fn a_name_that_nobody_granted_leads_to_nothing_inside() {
        let (any, url) = ("https://*", "https://any.net/x");
        for ip in PUBLIC {
            assert!(admits(any, false, url, ip), "{ip}");
        }
        for ip in PRIVATE {
            assert!(!admits(any, false, url, ip), "{ip}");
            assert!(admits(any, true, url, ip), "{ip}");
        }
        for ip in HERE.iter().chain(&NOWHERE) {
            assert!(!admits(any, true, url, ip), "{ip}");
        }
        // nor does an address in the URL
        assert!(!admits(any, false, "https://10.1.2.3/x", "10.1.2.3"));
        assert!(!admits(any, true, "https://127.0.0.1/x", "127.0.0.1"));
        assert!(!admits(any, true, "https://localhost/x", "127.0.0.1"));
    }

    #[test]
    fn a_host_that_was_granted_by_name_may_be_private_and_not_this_machine() {
        let (own, url) = ("https://chat.corp.net/*", "https://chat.corp.net/x");
        for ip in PRIVATE.iter().chain(&PUBLIC) {
            assert!(admits(own, false, url, ip), "{ip}");
        }
        for ip in HERE.iter().chain(&NOWHERE) {
            assert!(!admits(own, false, url, ip), "{ip}");
        }
    }

    #[test]
    fn this_machine_is_asked_only_if_just_that_was_granted() {
        for (pattern, url, ip) in [
            ("https://127.0.0.1/*", "https://127.0.0.1/x", "127.0.0.1"),
            ("http://127.0.0.1:80/*", "http://127.0.0.1/x", "127.0.0.1"),
            ("http://localhost/*", "http://localhost/x", "::1"),
            ("https://[::1]/*", "https://[::1]/x", "::1"),
        ] {
            assert!(admits(pattern, false, url, ip), "{pattern}");
        }
        assert!(!admits(
            "http://localhost/*",
            true,
            "http://localhost/x",
            "10.0.0.1"
        ));
        assert!(!admits(
            "http://localhost/*",
            true,
            "http://localhost/x",
            "8.8.8.8"
        ));
    }

    #[test]
    fn of_several_addresses_only_the_good_ones_are_kept() {
        let guard = guard(&["https://*"]);
        let grant = guard.grant(&"https://any.net/".parse().unwrap()).unwrap();
        let addresses = ["127.0.0.1:443", "8.8.8.8:443", "10.0.0.1:443"];
        let addresses = addresses.map(|address| address.parse().unwrap());
        let admitted = guard.admit(grant, "any.net", &addresses).unwrap();
        assert_eq!(admitted, [addresses[1]]);
        assert!(guard.admit(grant, "any.net", &[]).is_err());
    }

    #[test]
    fn what_frames_a_request_is_not_the_plugins_to_set() {
        let check = |method: Method, name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, "x".parse().unwrap());
            check_form(&method, &headers)
        };
        assert!(check(Method::POST, "authorization").is_ok());
        for name in ["host", "transfer-encoding", "content-length", "upgrade"] {
            assert!(check(Method::POST, name).unwrap_err().contains(name));
        }
        assert!(check(Method::CONNECT, "accept").is_err());
        assert!(check(Method::TRACE, "accept").is_err());
    }
}
