//! Kinds of value that have to do with HTTP: where to listen, whom to ask, who
//! may ask.

use std::net::{IpAddr, SocketAddr};

use model::Address;

use crate::kinds::{One, quoted};
use crate::problem::Mistake;

/// What stands for a listener that is off.
const OFF: &str = "off";

/// An address and a port, or "off".
pub(crate) fn listener() -> One<Option<SocketAddr>> {
    One::of_text("an address and a port, or \"off\"", |text| {
        if text == OFF {
            return Ok(None);
        }
        let address: Option<SocketAddr> = text.parse().ok();
        let address = address.filter(|address| !address.ip().is_multicast());
        address.map(Some).ok_or_else(|| {
            let message = format!("{} is no address and port", quoted(text));
            let hint = "write \"[::]:8443\" for all addresses, \"10.0.0.5:8443\" for one, \
                        or \"off\"";
            Mistake::new(message, hint)
        })
    })
}

/// An address such as `https://id.example.net/realms/noc`: https, or http on
/// this machine; no user, query or fragment. A final slash stays.
pub(crate) fn web_address(example: &'static str) -> One<String> {
    One::of_text("an https address", move |text| {
        let url = checked(text, example)?;
        if url.https || is_this_machine(url.host) {
            return Ok(text.to_owned());
        }
        let message = format!("{} is not protected on its way", quoted(text));
        let hint = "begin it with https://; http:// is for a server on this machine";
        Err(Mistake::new(message, hint))
    })
}

/// An https address that ends in `path`.
pub(crate) fn https_address(path: &'static str, example: &'static str) -> One<String> {
    One::of_text(
        format!("an https address that ends in {path}"),
        move |text| {
            let url = checked(text, example)?;
            let refuse = |why: &str| {
                let message = format!("{} {why}", quoted(text));
                Err(Mistake::new(message, format!("write it as \"{example}\"")))
            };
            match (url.https, url.path.ends_with(path)) {
                (false, _) => refuse("does not begin with https://"),
                (true, false) => refuse(&format!("does not end in {path}")),
                (true, true) => Ok(text.to_owned()),
            }
        },
    )
}

/// What a browser puts into `Origin:` (RFC 6454 §7): a scheme, a host, and a
/// port if it is not the scheme's own.
pub(crate) fn origin() -> One<String> {
    One::of_text("origins", |text| {
        let example = "https://console.example.net";
        if text == "*" || text == "null" {
            let message = format!("{} would let every site in", quoted(text));
            return Err(Mistake::new(message, format!("write \"{example}\"")));
        }
        let url = checked(text, example)?;
        let refuse = |why: &str, hint: &str| {
            let message = format!("{} {why}", quoted(text));
            Err(Mistake::new(message, hint.to_owned()))
        };
        if !url.path.is_empty() {
            return refuse(
                "has a path",
                "an origin ends with its host or port, without a /",
            );
        }
        if text.chars().any(|c| c.is_ascii_uppercase()) {
            return refuse("has capital letters", "browsers send it in small letters");
        }
        let own_port = if url.https { 443 } else { 80 };
        if url.port == Some(own_port) {
            let hint = format!("leave :{own_port} out, as browsers do");
            return refuse("would never match", &hint);
        }
        if !url.https && !is_this_machine(url.host) {
            return refuse("is not protected on its way", "begin it with https://");
        }
        Ok(text.to_owned())
    })
}

/// A path or a mount point in OpenBao or Vault: words between slashes.
pub(crate) fn vault_path() -> One<String> {
    One::of_text("a path without a slash at either end", |text| {
        let inside = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_word =
            |part: &str| !part.is_empty() && part.chars().all(inside) && !part.starts_with('.');
        if text.split('/').all(is_word) {
            return Ok(text.to_owned());
        }
        let message = format!("{} is no path in it", quoted(text));
        let hint = "letters, digits and any of - _ . between slashes: \"team/sotp\"";
        Err(Mistake::new(message, hint))
    })
}

/// The parts of an address that matter here.
struct Url<'t> {
    https: bool,
    /// Without the brackets of IPv6.
    host: &'t str,
    port: Option<u16>,
    /// Empty, or begins with a slash.
    path: &'t str,
}

/// Splits `text`; refuses what has no place in a setting: users, passwords,
/// queries, fragments, white space.
fn checked<'t>(text: &'t str, example: &str) -> Result<Url<'t>, Mistake> {
    let refused = |why: &str| {
        // never the text itself: there may be a password in it
        let message = match text.contains('@') {
            true => why.to_owned(),
            false => format!("{} {why}", quoted(text)),
        };
        Mistake::new(message, format!("write it as \"{example}\""))
    };
    let (https, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(refused("does not begin with https://")),
    };
    let printable = |c: char| c.is_ascii_graphic() && !"\"<>\\^`{|}".contains(c);
    if !rest.chars().all(printable) {
        return Err(refused("has a character that no address has"));
    }
    if rest.contains('@') {
        return Err(refused("a user or a password has no place in an address"));
    }
    if rest.contains(['?', '#']) {
        return Err(refused("has a query or a fragment"));
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = host_and_port(authority).ok_or_else(|| refused("names no host"))?;
    Ok(Url {
        https,
        host,
        port,
        path,
    })
}

fn host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            let port = match after {
                "" => None,
                after => Some(after.strip_prefix(':')?),
            };
            (host, port)
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    host.parse::<Address>().ok()?;
    let port = match port {
        None => None,
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|port| *port != 0)?)
        }
        Some(_) => return None,
    };
    Some((host, port))
}

/// Whether what is sent to `host` stays on this machine.
pub(crate) fn is_this_machine(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        // RFC 6761 §6.3: names under localhost. always are this machine
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{read, says};

    #[test]
    fn any_address_of_this_machine_can_be_listened_on_or_none() {
        assert_eq!(read(&listener(), "\"off\""), Ok(None));
        for good in ["[::]:8443", "0.0.0.0:443", "10.0.0.5:8443", "127.0.0.1:0"] {
            let read = read(&listener(), &format!("\"{good}\"")).unwrap();
            assert_eq!(read.unwrap().to_string(), good);
        }
        for bad in ["", "8443", ":8443", "sotp:8443", "[::]", "224.0.0.1:1"] {
            says(&listener(), &format!("\"{bad}\""), "or \"off\"");
        }
        says(&listener(), "false", "not text");
    }

    #[test]
    fn a_secret_is_sent_in_the_clear_to_this_machine_alone() {
        let kind = web_address("https://id.example.net");
        for good in [
            "https://id.example.net",
            "https://id.example.net:8443/realms/noc/",
            "https://[2001:db8::1]:8200",
            "http://127.0.0.1:8200",
            "http://localhost:8200",
            "http://[::1]:8200/x",
        ] {
            let read = read(&kind, &format!("\"{good}\""));
            assert_eq!(read, Ok(good.to_owned()));
        }
        for (bad, said) in [
            ("http://id.example.net", "not protected on its way"),
            ("http://127.0.0.1.example.net", "not protected on its way"),
            ("id.example.net", "does not begin with https://"),
            ("HTTPS://id.example.net", "does not begin with https://"),
            ("https://", "names no host"),
            ("https:///x", "names no host"),
            ("https://a:b", "names no host"),
            ("https://a:0", "names no host"),
            ("https://a:65536", "names no host"),
            ("https://[::1", "names no host"),
            ("https://a/?x=1", "has a query"),
            ("https://a/#x", "has a query or a fragment"),
            ("https://a b/", "has a character that no address has"),
            ("https://ä.example", "has a character that no address has"),
        ] {
            says(&kind, &format!("\"{bad}\""), said);
        }
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        let kind = web_address("https://id.example.net");
        for bad in ["\"https://u:hunter2@a\"", "\"u:hunter2@a\""] {
            let said = read(&kind, bad).unwrap_err().join("");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn the_address_to_come_back_to_is_https_and_ours() {
        let kind = https_address("/callback", "https://sotp.example.net/callback");
        assert!(read(&kind, "\"https://a:8443/x/callback\"").is_ok());
        says(&kind, "\"http://localhost/callback\"", "https://");
        says(&kind, "\"https://a:8443/\"", "does not end in /callback");
    }

    #[test]
    fn a_path_in_the_vault_leads_nowhere_else() {
        for good in ["secret", "team/sotp", "a.b_c-d"] {
            assert_eq!(
                read(&vault_path(), &format!("\"{good}\"")),
                Ok(good.to_owned())
            );
        }
        for bad in [
            "", "/secret", "secret/", "a//b", "../sys", "a/../b", "a b", "a?b", "a%2fb",
        ] {
            says(&vault_path(), &format!("\"{bad}\""), "is no path in it");
        }
    }

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for good in [
            "https://console.example.net",
            "https://console.example.net:8443",
            "http://localhost:5173",
        ] {
            assert_eq!(read(&origin(), &format!("\"{good}\"")), Ok(good.to_owned()));
        }
        for (bad, said) in [
            ("*", "would let every site in"),
            ("null", "would let every site in"),
            ("https://a/", "has a path"),
            ("https://a:443", "leave :443 out"),
            ("http://localhost:80", "leave :80 out"),
            ("https://A", "capital letters"),
            ("http://a", "not protected"),
            ("a", "does not begin"),
        ] {
            says(&origin(), &format!("\"{bad}\""), said);
        }
    }
}
