//! What the API asks of the daemon around it: everything that is neither in
//! the store nor in a request.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use model::{By, Check, Device, DeviceId, DeviceState, Timestamp};
use tokio::sync::mpsc;

use crate::exposition::Exposition;
use crate::installed::{Described, Plugins};

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

    /// Who makes backups; `None` where there are none.
    fn backups(&self) -> Option<Arc<dyn Backups>> {
        None
    }

    /// Who looks after the plugins; `None` where there are none.
    fn plugins(&self) -> Option<Arc<dyn Plugins>> {
        None
    }

    /// What a metric is that only a plugin measures; `None`: none does.
    fn metric_described(&self, _name: &str) -> Option<Described> {
        None
    }
}

/// Something that comes later and borrows nothing.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Who makes backups. What is asked for may read a disk or a server, and does
/// not block.
pub trait Backups: Send + Sync + 'static {
    /// The backups that are kept where they go by the settings, newest first.
    fn list(&self) -> Later<Result<Vec<KeptBackup>, BackupRefused>>;

    /// Begins to make one, there or at `to`: the absolute path of a
    /// directory, or `s3://bucket/prefix`. Returns once it has begun. The API writes the line in
    /// the audit log.
    fn start(&self, by: By, to: Option<String>) -> Later<Result<BackupRun, BackupRefused>>;

    /// Those that were begun since the daemon's start, newest first; only so
    /// many of them.
    fn runs(&self) -> Later<Vec<BackupRun>>;

    /// Begins to make one and hands it over piece by piece: returns soon, and
    /// the pieces follow. An empty piece says that all was handed over: a
    /// channel that closes without one, or after an error, is a backup that
    /// broke off, and its reader's connection is cut. It ends early when the
    /// receiver is dropped.
    fn stream(&self, by: By)
    -> Later<Result<mpsc::Receiver<Result<Bytes, String>>, BackupRefused>>;
}

/// A backup that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptBackup {
    /// Its name there.
    pub name: String,
    /// Where it is in full: a path, or `s3://bucket/name`.
    pub at: String,
    /// When it was made.
    pub made: Timestamp,
    /// What it takes.
    pub bytes: u64,
    /// Whether it is sealed for whom the settings name; `None`: not known.
    pub encrypted: Option<bool>,
}

/// How far a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupState {
    /// It is being made.
    Running,
    /// It is there, whole.
    Done,
    /// It came to nothing.
    Failed,
}

impl BackupState {
    /// The word in the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            BackupState::Running => "running",
            BackupState::Done => "done",
            BackupState::Failed => "failed",
        }
    }
}

/// The making of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupRun {
    /// Counts from 1 since the daemon's start.
    pub id: u64,
    /// How far it is.
    pub state: BackupState,
    /// When it began.
    pub begun: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Bytes written so far.
    pub bytes: u64,
    /// Where it goes.
    pub to: String,
    /// Why it came to nothing.
    pub error: Option<String>,
}

/// Why there is no backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupRefused {
    /// One is being made.
    Busy,
    /// `to` is no good: says why, and what would be.
    To(String),
    /// Nothing can be written or read there now: says why.
    Unavailable(String),
}

impl fmt::Display for BackupRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackupRefused::Busy => f.write_str("a backup is being made; wait until it has ended"),
            BackupRefused::To(why) | BackupRefused::Unavailable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for BackupRefused {}

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
