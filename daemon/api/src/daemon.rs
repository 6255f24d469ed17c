//! What the API asks of the daemon around it: everything that is neither in
//! the store nor in a request.

use std::fmt;
use std::time::Duration;

use model::{Check, Device, DeviceId, DeviceState, Timestamp};

use crate::exposition::Exposition;

/// The daemon, as the API sees it. Every method answers from memory: handlers
/// call them in async code, [`Daemon::device_state`] once per device of a list.
pub trait Daemon: Send + Sync + 'static {
    /// What time it is.
    fn now(&self) -> Timestamp;

    /// Asks for an extra poll of `device` by all its checks, now.
    ///
    /// # Errors
    ///
    /// Says why there will be none.
    fn poll_now(&self, device: DeviceId) -> Result<(), PollNowRefused>;

    /// How `device` is.
    fn device_state(&self, device: &Device) -> DeviceState;

    /// The time between two polls of `device` by `check` while it is well.
    fn interval(&self, device: &Device, check: Check) -> Duration;

    /// How the daemon itself is.
    fn status(&self) -> DaemonStatus;

    /// Writes the daemon's own metrics.
    fn metrics(&self, into: &mut Exposition);

    /// Where and with what certificate the API is served over HTTPS; `None` where
    /// it is not.
    fn https(&self) -> Option<HttpsStatus> {
        None
    }

    /// Who gets mail by default; `None` where mail is not set up.
    fn mail_recipients(&self) -> Option<Vec<String>>;

    /// Reads the key that shall wrap all secrets from now on, if one is laid
    /// out. Unlike the others this may block.
    ///
    /// # Errors
    ///
    /// Says why the file with it cannot be used.
    fn new_wrapping_key(&self) -> Result<Option<secrets::WrappingKey>, String> {
        Ok(None)
    }
}

/// Why a device is not polled now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollNowRefused {
    /// It is deleted or not enabled.
    NotWatched,
    /// It is watched, but all of its checks are off.
    NoCheck,
    /// Too many polls were asked for; this one would have to wait.
    Busy,
}

impl fmt::Display for PollNowRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PollNowRefused::NotWatched => {
                "the device is not watched: set \"enabled\" to true first"
            }
            PollNowRefused::NoCheck => {
                "every check of the device is off: enable icmp, or give it a credential for snmp"
            }
            PollNowRefused::Busy => "the daemon has too many polls to do; try again later",
        })
    }
}

impl std::error::Error for PollNowRefused {}

/// How the daemon is.
#[derive(Clone, Debug, PartialEq)]
pub struct DaemonStatus {
    /// Its version.
    pub version: String,
    /// Since when it runs.
    pub started: Timestamp,
    /// How polling goes.
    pub scheduler: SchedulerStatus,
    /// How it pings.
    pub icmp: IcmpStatus,
    /// How mail goes; `None` where it is not set up.
    pub mail: Option<MailStatus>,
    /// What an operator should know, one line each.
    pub warnings: Vec<String>,
}

/// How polling goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SchedulerStatus {
    /// Polls that are due and not begun.
    pub due: u64,
    /// Polls begun and not ended.
    pub in_flight: u64,
    /// How late the latest poll began.
    pub lag_seconds: f64,
    /// Polls that were skipped since the start, by reason.
    pub skipped: Vec<(String, u64)>,
}

/// How the daemon pings, by address family: `ping socket`, `raw socket`, or
/// why it cannot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IcmpStatus {
    /// IPv4.
    pub v4: String,
    /// IPv6.
    pub v6: String,
}

/// How the API is served over HTTPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpsStatus {
    /// `https://host:port`.
    pub url: String,
    /// SHA-256 of the certificate, `AB:CD:…`.
    pub fingerprint: String,
}

/// How mail goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailStatus {
    /// The server, as `host:port`.
    pub server: String,
    /// When a mail was last accepted.
    pub last_success: Option<Timestamp>,
    /// When a try last failed, and why.
    pub last_error: Option<(Timestamp, String)>,
}
