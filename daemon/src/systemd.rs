//! What systemd is told, and what it expects of us (sd_notify(3)).
//!
//! Without systemd every call does nothing. Text from devices or errors never
//! reaches the socket raw: a newline would begin a new field, and a NUL would
//! make the `systemd` crate panic.

use std::time::Duration;

use tracing::warn;

/// Everything listens and the store is open.
pub(crate) fn ready() {
    notify(&[("READY", "1")]);
}

/// New settings are being taken; [`ready`] ends it. The instant is what tells
/// systemd 253 and later which reload is meant.
pub(crate) fn reloading() {
    let instant = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_or(Duration::ZERO, Duration::from);
    let instant_us = instant.as_micros().to_string();
    notify(&[("RELOADING", "1"), ("MONOTONIC_USEC", &instant_us)]);
}

/// We are going down on purpose.
pub(crate) fn stopping() {
    notify(&[("STOPPING", "1")]);
}

/// One line for `systemctl status`.
pub(crate) fn status(line: &str) {
    notify(&[("STATUS", &one_line(line))]);
}

/// We are alive: say so only when it was proven.
pub(crate) fn feed_watchdog() {
    notify(&[("WATCHDOG", "1")]);
}

/// Starting takes longer than usual, and goes on.
pub(crate) fn extend_timeout(by: Duration) {
    notify(&[("EXTEND_TIMEOUT_USEC", &by.as_micros().to_string())]);
}

/// Whether systemd started us and waits for READY=1.
pub(crate) fn started_us() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// How often the watchdog wants to be fed at the least, if it watches us.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    let interval_us: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    let ours = std::env::var("WATCHDOG_PID")
        .ok()
        .is_none_or(|pid| pid == std::process::id().to_string());
    (ours && interval_us > 0).then(|| Duration::from_micros(interval_us))
}

fn notify(fields: &[(&str, &str)]) {
    if let Err(error) = systemd::daemon::notify(fields.iter()) {
        warn!(%error, "cannot tell systemd");
    }
}

/// The longest STATUS line: what `systemctl status` shows without folding.
const STATUS_CHARS: usize = 200;

fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(STATUS_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_cannot_begin_another_field_or_end_early() {
        assert_eq!(
            one_line("up\nWATCHDOG=1\0\u{1b}[31m"),
            "up WATCHDOG=1  [31m"
        );
        assert_eq!(one_line(&"x".repeat(999)).len(), STATUS_CHARS);
    }
}
