//! The whole product from outside: real `sotpd`, real sockets, real peers.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by panicking"
)]

mod api_abuse;
mod canary;
mod clock;
mod crash;
mod crowd;
mod disk;
mod keys;
mod names;
mod outage;
mod page;
mod plugins;
mod restore;
mod schemathesis;
mod scopes;
mod sessions;
mod setup;
mod snmp;
mod start;
mod story;
mod terminal;
mod tls;
mod vault;

use std::io::Write;

use harness::{Daemon, Folder, Namespace};

/// Settings that do not make a test wait. An answer may still be late: nearly the
/// whole second between two rounds is left for it, as the machine may be busy.
const QUICK: &str = "[icmp]\nevery = \"1s\"\nprobes = 2\ngap = \"20ms\"\ntimeout = \"900ms\"\n\
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

/// A test is left out because something is missing that could be there; with
/// `SOTP_NO_SKIP=1` that is a failure.
#[track_caller]
fn skipped(why: &str) {
    let strict = std::env::var_os("SOTP_NO_SKIP").is_some_and(|value| value == "1");
    assert!(!strict, "SOTP_NO_SKIP=1, but {why}");
    say_skipped(why);
}

/// A test is left out because this kernel refuses what no package brings.
fn refused_by_kernel(why: &str) {
    say_skipped(why);
}

/// Past the capture of test output, which a passing test never shows.
fn say_skipped(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// A daemon in `namespace` with the quick settings and `more`.
fn daemon(folder: &Folder, namespace: &Namespace, more: &str) -> Daemon {
    folder.write_rules(DEVICE_DOWN);
    folder.write_settings("", &format!("{QUICK}{more}"));
    Daemon::start(folder, Some(namespace))
}
