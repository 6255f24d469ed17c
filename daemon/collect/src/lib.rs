//! Asking a device one question and bringing back the answer, unread.
//!
//! A collector does I/O and nothing else. It asks once per call: the schedule
//! decides when to ask again, and `parse` decides what the answer means.
//!
//! - [`Pinger`]: bursts of echo requests, from one thread and one socket per
//!   address family.
//! - [`SnmpEngine`]: whole polls over a few shared UDP sockets.
//! - [`Resolver`]: names to addresses, without ever blocking a thread, and
//!   with the last known address where the name servers are silent.
//!
//! What is promised everywhere: every wait has a limit, every queue has a
//! limit, and what a device sends can neither stop nor confuse the daemon.

mod error_queue;
mod ping;
mod resolve;
mod snmp;

pub use ping::{PingAccess, PingSettings, Pinger};
pub use resolve::{DnsSettings, Resolved, Resolver, ResolverError};
pub use snmp::{SnmpEngine, SnmpSettings, SnmpStats};

use model::{Failure, FailureKind};

/// A failure with its text.
fn failure(kind: FailureKind, text: impl Into<String>) -> Failure {
    Failure {
        kind,
        text: text.into(),
    }
}

/// Says in a test's output why it proves nothing here.
#[cfg(test)]
#[expect(
    clippy::print_stderr,
    reason = "whoever runs the tests has to see what was not tested"
)]
fn skip(why: &str) {
    eprintln!("skipped: {why}");
}
