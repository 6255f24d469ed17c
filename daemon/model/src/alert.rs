//! Faults, and telling people of them.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{DeviceId, Labels, RuleName, Severity, Timestamp};

/// An alert's number: given once, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AlertId(pub u64);

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where in its life an alert is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AlertState {
    /// Seen, but not for long enough; or waiting to hear whether a parent is
    /// down too. Nobody is told.
    Pending,
    /// A fault. Told.
    Firing,
    /// The device is silent because every way to it is: listed under the
    /// alerts of the devices it is behind, and not told by itself.
    Unreachable {
        /// The down devices nearest to us that cut it off.
        behind: Vec<DeviceId>,
    },
    /// Over.
    Resolved,
}

impl AlertState {
    /// The word used in the API.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            AlertState::Pending => "pending",
            AlertState::Firing => "firing",
            AlertState::Unreachable { .. } => "unreachable",
            AlertState::Resolved => "resolved",
        }
    }
}

/// One fault from its first sign to its end. There is at most one that is not
/// resolved per rule, device and labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Its number.
    pub id: AlertId,
    /// The rule that sees a fault.
    pub rule: RuleName,
    /// How bad.
    pub severity: Severity,
    /// On which device.
    pub device: DeviceId,
    /// The device's name when the alert began.
    pub device_name: String,
    /// On what of the device; empty for the device as a whole.
    pub labels: Arc<Labels>,
    /// Where in its life.
    pub state: AlertState,
    /// When the condition first held without a break.
    pub since: Timestamp,
    /// When it was last judged, by a poll's timestamp.
    pub judged: Timestamp,
    /// Judgements in a row in which the condition held.
    pub rounds: u32,
    /// Whether people were told that it fires; only then are they told that it
    /// is over.
    pub told: bool,
    /// When it began to fire.
    pub fired: Option<Timestamp>,
    /// When it ended.
    pub resolved: Option<Timestamp>,
    /// The last judged value of a threshold, in the metric's base unit.
    pub value: Option<f64>,
    /// One line: what is wrong, with the figures.
    pub summary: String,
}

/// A notification's number in the outbox: older ones are smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OutboxId(pub u64);

impl fmt::Display for OutboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is told of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NotificationEvent {
    /// It fires.
    Firing,
    /// It is over.
    Resolved,
    /// There is no alert: somebody asked for a test.
    Test,
}

impl NotificationEvent {
    /// The word used in the API and in templates.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            NotificationEvent::Firing => "firing",
            NotificationEvent::Resolved => "resolved",
            NotificationEvent::Test => "test",
        }
    }
}

/// How and to whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Channel {
    /// One mail address.
    Mail {
        /// The recipient.
        to: String,
    },
    /// A notifier plugin.
    Plugin {
        /// Which.
        plugin: String,
    },
}

/// How far a delivery is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryState {
    /// To be tried at `next`.
    Queued {
        /// Not before.
        next: Timestamp,
    },
    /// Refused for good: kept and shown, not tried again by itself.
    Parked,
    /// Accepted by the other side.
    Delivered {
        /// When.
        at: Timestamp,
    },
}

impl DeliveryState {
    /// The word used in the API.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            DeliveryState::Queued { .. } => "queued",
            DeliveryState::Parked => "parked",
            DeliveryState::Delivered { .. } => "delivered",
        }
    }
}

/// One notification to one recipient. Written in the transaction that changes
/// the alert, so there is neither an alert that nobody is told of nor a mail
/// about nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its number.
    pub id: OutboxId,
    /// How and to whom.
    pub channel: Channel,
    /// What is told.
    pub event: NotificationEvent,
    /// The alert as it was; `None` for a test.
    pub alert: Option<Alert>,
    /// The device's address, site and location when this was written.
    pub place: String,
    /// Names of devices that are cut off by this fault, when this was written.
    pub behind: Vec<String>,
    /// When this was written.
    pub created: Timestamp,
    /// How far it is.
    pub state: DeliveryState,
    /// Tries so far.
    pub attempts: u32,
    /// Why the last try failed.
    pub last_error: Option<String>,
}
