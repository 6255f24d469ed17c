//! The whole product from outside: real `sotpd`, real sockets, real peers.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by panicking"
)]

mod api_abuse;
mod clock;
mod crash;
mod disk;
mod names;
mod outage;
mod snmp;
mod start;

use harness::{Daemon, Folder, Namespace};

/// Settings that do not make a test wait.
const QUICK: &str = "[icmp]\nevery = \"1s\"\nprobes = 2\ngap = \"20ms\"\ntimeout = \"300ms\"\n\
     [snmp]\nevery = \"5s\"\ntimeout = \"300ms\"\nretries = 1\n";

/// The one rule that most tests need.
const DEVICE_DOWN: &str = "[[rule]]\nname = \"device-down\"\nseverity = \"critical\"\n\
     [rule.availability]\ncheck = \"icmp\"\nrounds = 2\n";

/// A namespace, or a line that says what was skipped.
fn namespace() -> Option<Namespace> {
    let namespace = Namespace::new();
    if namespace.is_none() {
        skipped("network namespaces are refused here");
    }
    namespace
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// A daemon in `namespace` with the quick settings and `more`.
fn daemon(folder: &Folder, namespace: &Namespace, more: &str) -> Daemon {
    folder.write_rules(DEVICE_DOWN);
    folder.write_settings("", &format!("{QUICK}{more}"));
    Daemon::start(folder, Some(namespace))
}
