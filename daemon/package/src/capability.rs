//! What a plugin asks to be allowed: how its manifest says it, and how an
//! administrator reads it.
//!
//! A pattern is exact, or ends with `*` and means everything that begins so;
//! [`Capabilities::allows`] reads it. Patterns are refused here if what begins
//! so is more than their reader would think: `https://hooks.slack.com*` would
//! cover `https://hooks.slack.com.evil.example/`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use contract::{Grants, Kind};
use model::Capabilities;

use crate::limits;
use crate::problem::quoted;
use crate::reader::{Findings, Section};

/// Patterns of one capability.
const PATTERNS: usize = 100;
/// Bytes of a pattern.
const PATTERN_BYTES: usize = 200;

/// Which kinds of plugin can make use of a capability; for the others it is a
/// mistake to ask for it.
fn kinds_of(capability: &str) -> &'static [Kind] {
    use Kind::{Notifier, Parser, Poller, Remediation, Rule};
    match capability {
        "kv" => &[Parser, Remediation, Notifier, Poller],
        "inventory" => &[Parser, Rule, Remediation, Poller],
        "series" => &[Rule, Remediation],
        "http" | "secrets" => &[Remediation, Notifier, Poller],
        "cli.exec" => &[Remediation, Poller],
        "cli.configure" | "snmp_set" => &[Remediation],
        _ => &[],
    }
}

/// Reads `[capabilities]` of a plugin of `kind`.
pub(crate) fn read(
    root: &mut Section<'_>,
    kind: Option<Kind>,
    findings: &mut Findings<'_>,
) -> Capabilities {
    let mut asks = Capabilities::default();
    let mut section = root.below("capabilities", findings);
    for capability in ["kv", "inventory", "secrets"] {
        if section.boolean(capability, findings) == Some(true) {
            fits_kind(capability, kind, section.place_of(capability), findings);
            asks.0.insert(capability.to_owned(), BTreeSet::new());
        }
    }
    for (capability, check) in [
        ("series", series as Check),
        ("http", http),
        ("snmp_set", snmp_set),
    ] {
        patterns(
            &mut section,
            capability,
            capability,
            check,
            kind,
            &mut asks,
            findings,
        );
    }
    let mut of_cli = section.below("cli", findings);
    for (key, capability) in [("exec", "cli.exec"), ("configure", "cli.configure")] {
        patterns(
            &mut of_cli,
            key,
            capability,
            command,
            kind,
            &mut asks,
            findings,
        );
    }
    of_cli.finish(findings);
    section.finish(findings);
    asks
}

/// A pattern as it is granted, or what is wrong with it and a hint.
type Check = fn(&str) -> Result<String, (String, &'static str)>;

fn patterns(
    section: &mut Section<'_>,
    key: &'static str,
    capability: &str,
    check: Check,
    kind: Option<Kind>,
    asks: &mut Capabilities,
    findings: &mut Findings<'_>,
) {
    let list = section.texts(key, findings);
    if list.is_empty() {
        return;
    }
    let at = section.place_of(key);
    fits_kind(capability, kind, at, findings);
    if list.len() > PATTERNS {
        let count = list.len();
        let message = format!("{count} patterns of {capability}: at most {PATTERNS} are allowed");
        findings.note(at, message, "");
    }
    let granted = asks.0.entry(capability.to_owned()).or_default();
    for (at, pattern) in list {
        match in_general(&pattern).and_then(|()| check(&pattern)) {
            Ok(pattern) => {
                granted.insert(pattern);
            }
            Err((message, hint)) => {
                findings.note(at, format!("{} {message}", quoted(&pattern)), hint);
            }
        }
    }
}

fn fits_kind(capability: &str, kind: Option<Kind>, at: usize, findings: &mut Findings<'_>) {
    let kinds = kinds_of(capability);
    if let Some(kind) = kind.filter(|kind| !kinds.contains(kind)) {
        let words: Vec<&str> = kinds.iter().map(|kind| kind.word()).collect();
        findings.note(
            at,
            format!("a {kind} has no use for the capability {capability}"),
            format!("leave it out; it is for: {}", words.join(", ")),
        );
    }
}

fn in_general(pattern: &str) -> Result<(), (String, &'static str)> {
    let refused = |message: &str, hint| Err((message.to_owned(), hint));
    if pattern.is_empty() {
        return refused("is empty", "leave it out");
    }
    if pattern.len() > PATTERN_BYTES {
        return refused("is too long", "at most 200 bytes are allowed");
    }
    if pattern.chars().any(char::is_control) {
        return refused("has a control character", "leave it out");
    }
    match pattern.strip_suffix('*').unwrap_or(pattern).contains('*') {
        true => refused(
            "has a * that is not at its end",
            "a * stands for the rest: it comes last, and once",
        ),
        false => Ok(()),
    }
}

fn series(pattern: &str) -> Result<String, (String, &'static str)> {
    let name = pattern.strip_suffix('*').unwrap_or(pattern);
    let is_name = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
    match is_name && !name.starts_with(|c: char| c.is_ascii_digit()) {
        true => Ok(pattern.to_owned()),
        false => Err((
            "is no name of a metric".to_owned(),
            "write icmp_rtt_seconds, or if* for all that begin with if",
        )),
    }
}

fn http(pattern: &str) -> Result<String, (String, &'static str)> {
    const WRITE: &str = "write https://hooks.slack.com/*, or https://* for every host";
    let refused = |message: &str, hint| Err((message.to_owned(), hint));
    if pattern == "https://*" {
        return Ok(pattern.to_owned());
    }
    let (rest, is_plain) = match (
        pattern.strip_prefix("https://"),
        pattern.strip_prefix("http://"),
    ) {
        (Some(rest), _) => (rest, false),
        (_, Some(rest)) => (rest, true),
        _ => return refused("is no address", WRITE),
    };
    let Some((authority, path)) = rest.split_once('/') else {
        return refused(
            "has no / after its host, so that other hosts begin alike",
            WRITE,
        );
    };
    if authority.contains('@') {
        return refused(
            "has a user in it",
            "passwords are secrets: name them in settings",
        );
    }
    if authority.contains('*') {
        return refused("has a * in its host", WRITE);
    }
    let Some(host) = host_of(authority) else {
        return refused("has no host that is one", WRITE);
    };
    if path.contains(char::is_whitespace) || path.contains('#') {
        return refused("has a path that is none", WRITE);
    }
    let climbs = |part: &str| matches!(part.to_lowercase().as_str(), ".." | "." | "%2e" | "%2e%2e");
    if path.split('/').any(climbs) {
        return refused("climbs up its path", "write the path that is meant");
    }
    if is_plain && !is_loopback(host) {
        return refused(
            "goes over the network without encryption",
            "write https://; plain http:// only to this machine: http://127.0.0.1:8080/*",
        );
    }
    Ok(pattern.to_owned())
}

/// The host in `host` or `host:port`, if it is one in small letters.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            match after {
                "" => (host, None),
                port => (host, Some(port.strip_prefix(':')?)),
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (named(host)?, Some(port)),
            None => (named(authority)?, None),
        },
    };
    let is_port = |port: &str| {
        port.parse::<u16>()
            .is_ok_and(|n| n.to_string() == port && n > 0)
    };
    port.is_none_or(is_port).then_some(host)
}

fn named(host: &str) -> Option<&str> {
    let is_label = |label: &str| {
        let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        (1..=63).contains(&label.len())
            && label.chars().all(|c| is_letter(c) || c == '-' || c == '_')
    };
    host.split('.').all(is_label).then_some(host)
}

fn is_loopback(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// An object: what lies below it; an instance that ends in .0: itself alone.
fn snmp_set(pattern: &str) -> Result<String, (String, &'static str)> {
    let object = pattern.strip_suffix(".*").unwrap_or(pattern);
    if oid(object).is_none() || object.starts_with('.') {
        return Err((
            "is no object identifier".to_owned(),
            "write 1.3.6.1.2.1.2.2.1.7 for ifAdminStatus of every interface",
        ));
    }
    let is_instance = object == pattern && object.ends_with(".0");
    Ok(match is_instance {
        true => object.to_owned(),
        false => format!("{object}.*"),
    })
}

fn command(pattern: &str) -> Result<String, (String, &'static str)> {
    match pattern.trim() == pattern {
        true => Ok(pattern.to_owned()),
        false => Err((
            "has a space at an end".to_owned(),
            "write the command alone: show version, or show * for all that begin so",
        )),
    }
}

/// An object identifier as SMI allows it (RFC 2578 §3.5).
pub(crate) fn oid(text: &str) -> Option<contract::Oid> {
    const ARCS: usize = 128;
    let oid: contract::Oid = text.parse().ok()?;
    let is_one = (2..=ARCS).contains(&oid.0.len()) && oid.0[0] <= 2;
    is_one.then_some(oid)
}

/// What of `granted` concerns the host interfaces.
pub(crate) fn grants(granted: &Capabilities) -> Grants {
    Grants {
        kv: granted.has("kv"),
        inventory: granted.has("inventory"),
        series: granted.patterns("series").map(str::to_owned).collect(),
    }
}

/// What of `asks` goes beyond `granted`, as [`Capabilities::beyond`]; a limit
/// that was granted covers lower ones.
#[must_use]
pub fn beyond(asks: &Capabilities, granted: &Capabilities) -> Capabilities {
    let mut missing = asks.beyond(granted);
    if let Some(patterns) = missing.0.get_mut("limits") {
        patterns.retain(|pattern| !limits::is_covered(pattern, granted));
        if patterns.is_empty() {
            missing.0.remove("limits");
        }
    }
    missing
}

/// Each capability in a sentence that an administrator understands, to be read
/// after "The plugin".
#[must_use]
pub fn in_plain_words(capabilities: &Capabilities) -> Vec<String> {
    let mut words = Vec::new();
    for (capability, patterns) in &capabilities.0 {
        match capability.as_str() {
            "kv" => {
                let kib = limits::granted(capabilities, "kv_kib").unwrap_or(1024);
                words.push(format!("may keep up to {} of its own data", size(kib)));
            }
            "inventory" => words.push("may read the inventory: devices, facts and links".into()),
            "secrets" => words
                .push("may send secrets that its settings name, without seeing them itself".into()),
            _ => words.extend(patterns.iter().map(|pattern| sentence(capability, pattern))),
        }
    }
    words
}

fn size(kib: u64) -> String {
    match kib % 1024 {
        0 => format!("{} MiB", kib / 1024),
        _ => format!("{kib} KiB"),
    }
}

fn sentence(capability: &str, pattern: &str) -> String {
    let start = pattern.strip_suffix('*');
    match (capability, start) {
        ("series", Some("")) => "may read every metric".to_owned(),
        ("series", Some(start)) => format!("may read the metrics that begin with {start}"),
        ("series", None) => format!("may read the metric {pattern}"),
        ("http", _) => http_sentence(pattern),
        ("snmp_set", Some(start)) => {
            let object = start.trim_end_matches('.');
            format!(
                "may change by SNMP what lies below {}",
                named_object(object)
            )
        }
        ("snmp_set", None) => format!("may change by SNMP {pattern}"),
        ("cli.exec", Some("")) => "may run every command on devices".to_owned(),
        ("cli.exec", Some(start)) => {
            format!("may run commands on devices that begin with {start:?}")
        }
        ("cli.exec", None) => format!("may run the command {pattern:?} on devices"),
        ("cli.configure", Some("")) => {
            "may change the configuration of devices by every command".to_owned()
        }
        ("cli.configure", Some(start)) => {
            format!("may change the configuration of devices by commands that begin with {start:?}")
        }
        ("cli.configure", None) => {
            format!("may change the configuration of devices by the command {pattern:?}")
        }
        ("limits", _) => limits::sentence(pattern),
        _ => format!("asks for {capability}: {pattern}"),
    }
}

fn http_sentence(pattern: &str) -> String {
    if pattern == "https://*" {
        return "may send HTTPS requests to every host".to_owned();
    }
    let (scheme, rest) = match pattern.strip_prefix("https://") {
        Some(rest) => ("HTTPS", rest),
        None => ("HTTP", pattern.strip_prefix("http://").unwrap_or(pattern)),
    };
    let place = match scheme {
        "HTTP" => " on this machine",
        _ => "",
    };
    match rest.split_once('/') {
        Some((host, "*")) => format!("may send {scheme} requests to {host}{place}"),
        Some((host, path)) => match path.strip_suffix('*') {
            Some(path) => {
                format!("may send {scheme} requests to {host}{place}, to what begins with /{path}")
            }
            None => format!("may send {scheme} requests to {host}{place}, to /{path} alone"),
        },
        None => format!("may send {scheme} requests to {rest}{place}"),
    }
}

/// Names of what is changed most often.
fn named_object(object: &str) -> String {
    let name = match object {
        "1.3.6.1.2.1.2.2.1.7" => "ifAdminStatus",
        "1.3.6.1.2.1.31.1.1.1.18" => "ifAlias",
        "1.3.6.1.2.1.105.1.1.1.3" => "pethPsePortAdminEnable",
        _ => return object.to_owned(),
    };
    format!("{object} ({name})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(list: &[(&str, &[&str])]) -> Capabilities {
        let entries = list.iter().map(|(capability, patterns)| {
            let patterns = patterns.iter().map(|p| (*p).to_owned()).collect();
            ((*capability).to_owned(), patterns)
        });
        Capabilities(entries.collect())
    }

    #[test]
    fn an_administrator_reads_what_a_plugin_may_do_in_plain_words() {
        let words = in_plain_words(&asks(&[
            ("cli.configure", &["interface *"]),
            ("cli.exec", &["show *", "show version"]),
            (
                "http",
                &[
                    "http://127.0.0.1:8080/*",
                    "https://*",
                    "https://hooks.slack.com/*",
                    "https://hooks.slack.com/services/*",
                ],
            ),
            ("inventory", &[]),
            ("kv", &[]),
            ("limits", &["cpu_ms=500", "memory_mib=256"]),
            ("secrets", &[]),
            ("series", &["*", "icmp_rtt_seconds", "if*"]),
            ("snmp_set", &["1.3.6.1.2.1.2.2.1.7.*", "1.3.6.1.2.1.1.6.0"]),
        ]));
        let expected = [
            "may change the configuration of devices by commands that begin with \"interface \"",
            "may run commands on devices that begin with \"show \"",
            "may run the command \"show version\" on devices",
            "may send HTTP requests to 127.0.0.1:8080 on this machine",
            "may send HTTPS requests to every host",
            "may send HTTPS requests to hooks.slack.com",
            "may send HTTPS requests to hooks.slack.com, to what begins with /services/",
            "may read the inventory: devices, facts and links",
            "may keep up to 1 MiB of its own data",
            "may use more than usual: up to 500 ms of processor time a call",
            "may use more than usual: up to 256 MiB of memory a call",
            "may send secrets that its settings name, without seeing them itself",
            "may read every metric",
            "may read the metric icmp_rtt_seconds",
            "may read the metrics that begin with if",
            "may change by SNMP 1.3.6.1.2.1.1.6.0",
            "may change by SNMP what lies below 1.3.6.1.2.1.2.2.1.7 (ifAdminStatus)",
        ];
        assert_eq!(words, expected);
        let more = in_plain_words(&asks(&[("kv", &[]), ("limits", &["kv_kib=4096"])]));
        assert_eq!(more[0], "may keep up to 4 MiB of its own data");
    }

    #[test]
    fn requests_go_to_whole_hosts_and_without_encryption_only_to_this_machine() {
        for good in [
            "https://*",
            "https://hooks.slack.com/*",
            "https://hooks.slack.com/services/*",
            "https://events.pagerduty.com/v2/enqueue",
            "https://192.0.2.1:8443/*",
            "https://[2001:db8::1]:8443/*",
            "http://127.0.0.1:8080/*",
            "http://[::1]/*",
        ] {
            assert_eq!(http(good), Ok(good.to_owned()));
        }
        for (bad, why) in [
            ("https://hooks.slack.com*", "begin alike"),
            ("https://hooks.slack.com", "begin alike"),
            ("https://*.slack.com/*", "* in its host"),
            ("https://", "begin alike"),
            ("https:///x", "no host"),
            ("https://Hooks.Slack.com/*", "no host"),
            ("https://a:0/*", "no host"),
            ("https://a:b/*", "no host"),
            ("https://[::1/*", "no host"),
            ("https://me@host/*", "user in it"),
            ("https://host/a/../*", "climbs"),
            ("https://host/%2E%2e/*", "climbs"),
            ("https://host/a b", "path that is none"),
            ("http://10.0.0.1/*", "without encryption"),
            ("http://localhost/*", "without encryption"),
            ("http://127.0.0.1.evil.example/*", "without encryption"),
            ("http://*", "begin alike"),
            ("ftp://host/*", "no address"),
        ] {
            let (message, _) = http(bad).unwrap_err();
            assert!(message.contains(why), "{bad}: {message}");
        }
    }

    #[test]
    fn a_star_comes_last_and_once_and_patterns_are_short_and_printable() {
        assert!(in_general("if*").is_ok());
        for (bad, why) in [
            ("", "empty"),
            ("i*f", "not at its end"),
            ("if**", "not at its end"),
            ("show\nreload", "control character"),
            (&"x".repeat(201), "too long"),
        ] {
            let (message, _) = in_general(bad).unwrap_err();
            assert!(message.contains(why), "{bad}: {message}");
        }
    }

    #[test]
    fn an_object_is_granted_with_what_lies_below_it_and_nothing_that_begins_alike() {
        let granted = snmp_set("1.3.6.1.2.1.2.2.1.7").unwrap();
        assert_eq!(granted, "1.3.6.1.2.1.2.2.1.7.*");
        let granted = asks(&[("snmp_set", &[&granted])]);
        assert!(granted.allows("snmp_set", "1.3.6.1.2.1.2.2.1.7.3"));
        assert!(!granted.allows("snmp_set", "1.3.6.1.2.1.2.2.1.70.3"));
        assert_eq!(
            snmp_set("1.3.6.1.2.1.1.6.0"),
            Ok("1.3.6.1.2.1.1.6.0".to_owned())
        );
        assert_eq!(
            snmp_set("1.3.6.1.2.1.1.*"),
            Ok("1.3.6.1.2.1.1.*".to_owned())
        );
        for bad in ["*", "1", "1.3.x", ".1.3.6", "3.1", "1.3.6*"] {
            assert!(snmp_set(bad).is_err(), "{bad}");
        }
        assert!(series("if*").is_ok() && series("*").is_ok());
        assert!(series("2x").is_err() && series("a-b").is_err());
        assert!(command("show *").is_ok());
        assert!(command("show ").is_err());
    }

    #[test]
    fn a_granted_limit_covers_a_lower_one_and_not_a_higher_one() {
        let granted = asks(&[("limits", &["memory_mib=256"]), ("kv", &[])]);
        let lower = asks(&[("limits", &["memory_mib=128"]), ("kv", &[])]);
        assert_eq!(beyond(&lower, &granted), Capabilities::default());
        let higher = asks(&[("limits", &["memory_mib=512", "cpu_ms=500"])]);
        assert_eq!(beyond(&higher, &granted), higher);
    }
}
