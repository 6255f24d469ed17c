//! What is measured: metric names, labels, kinds and units.
//!
//! A metric that comes straight from a MIB object carries the object's name
//! (`ifHCInOctets`); one that we compute is named as Prometheus names things,
//! with its base unit last (`icmp_rtt_seconds`).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How a metric's values relate to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MetricKind {
    /// Rises, wraps at 2^32 (SMIv2 Counter32).
    Counter32,
    /// Rises, wraps at 2^64 (SMIv2 Counter64).
    Counter64,
    /// Goes up and down.
    Gauge,
    /// A number that stands for a word (`ifOperStatus`, `icmp_up`).
    State,
}

impl MetricKind {
    /// Whether its values are read as a rate.
    #[must_use]
    pub fn is_counter(self) -> bool {
        matches!(self, MetricKind::Counter32 | MetricKind::Counter64)
    }

    /// The word used in the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            MetricKind::Counter32 => "counter32",
            MetricKind::Counter64 => "counter64",
            MetricKind::Gauge => "gauge",
            MetricKind::State => "state",
        }
    }
}

/// What is known of a metric by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricInfo {
    /// Its name.
    pub name: &'static str,
    /// How its values relate.
    pub kind: MetricKind,
    /// Its base unit, or "" for a bare number.
    pub unit: &'static str,
    /// One line for people.
    pub help: &'static str,
}

const fn info(
    name: &'static str,
    kind: MetricKind,
    unit: &'static str,
    help: &'static str,
) -> MetricInfo {
    MetricInfo {
        name,
        kind,
        unit,
        help,
    }
}

/// Every metric that the built-in polls measure.
pub const BUILT_IN_METRICS: &[MetricInfo] = {
    use MetricKind::{Counter32, Counter64, Gauge, State};
    &[
        info(
            "icmp_up",
            State,
            "",
            "1 if at least one probe of the round was answered, else 0",
        ),
        info(
            "icmp_rtt_seconds",
            Gauge,
            "seconds",
            "Mean round-trip time of the round's answered probes",
        ),
        info(
            "icmp_rtt_min_seconds",
            Gauge,
            "seconds",
            "Shortest round-trip time of the round",
        ),
        info(
            "icmp_rtt_max_seconds",
            Gauge,
            "seconds",
            "Longest round-trip time of the round",
        ),
        info(
            "icmp_jitter_seconds",
            Gauge,
            "seconds",
            "Mean difference between the round-trip times of neighbouring probes",
        ),
        info(
            "icmp_loss_ratio",
            Gauge,
            "ratio",
            "Share of the round's probes that were not answered, 0 to 1",
        ),
        info("snmp_up", State, "", "1 if the agent answered, else 0"),
        info(
            "snmp_poll_seconds",
            Gauge,
            "seconds",
            "How long the SNMP poll took",
        ),
        info(
            "snmp_poll_requests",
            Gauge,
            "",
            "Requests that the SNMP poll sent, retries included",
        ),
        info(
            "sysUpTime",
            Gauge,
            "seconds",
            "Time since the agent started (RFC 3418)",
        ),
        info(
            "cpu_usage_ratio",
            Gauge,
            "ratio",
            "Mean of hrProcessorLoad over all processors, 0 to 1 (RFC 2790)",
        ),
        info(
            "hrProcessorLoad",
            Gauge,
            "percent",
            "Share of the last minute that a processor was not idle (RFC 2790)",
        ),
        info(
            "memory_size_bytes",
            Gauge,
            "bytes",
            "Physical memory (hrStorageSize of hrStorageRam, RFC 2790)",
        ),
        info(
            "memory_used_bytes",
            Gauge,
            "bytes",
            "Physical memory in use (hrStorageUsed of hrStorageRam, RFC 2790)",
        ),
        info(
            "memory_usage_ratio",
            Gauge,
            "ratio",
            "Share of physical memory in use, 0 to 1",
        ),
        info(
            "storage_size_bytes",
            Gauge,
            "bytes",
            "Size of a storage area (hrStorageSize, RFC 2790)",
        ),
        info(
            "storage_used_bytes",
            Gauge,
            "bytes",
            "Used part of a storage area (hrStorageUsed, RFC 2790)",
        ),
        info(
            "ifAdminStatus",
            State,
            "",
            "1 up, 2 down, 3 testing (RFC 2863)",
        ),
        info(
            "ifOperStatus",
            State,
            "",
            "1 up, 2 down, 3 testing, 4 unknown, 5 dormant, 6 notPresent, 7 lowerLayerDown (RFC 2863)",
        ),
        info(
            "ifSpeed_bps",
            Gauge,
            "bit/s",
            "ifHighSpeed, else ifSpeed, in bit/s (RFC 2863)",
        ),
        info(
            "ifCounterDiscontinuityTime",
            Gauge,
            "seconds",
            "sysUpTime at which the interface's counters last lost continuity (RFC 2863)",
        ),
        info(
            "ifHCInOctets",
            Counter64,
            "octets",
            "Octets received (RFC 2863)",
        ),
        info(
            "ifHCOutOctets",
            Counter64,
            "octets",
            "Octets sent (RFC 2863)",
        ),
        info(
            "ifHCInUcastPkts",
            Counter64,
            "packets",
            "Unicast packets received (RFC 2863)",
        ),
        info(
            "ifHCOutUcastPkts",
            Counter64,
            "packets",
            "Unicast packets sent (RFC 2863)",
        ),
        info(
            "ifHCInMulticastPkts",
            Counter64,
            "packets",
            "Multicast packets received (RFC 2863)",
        ),
        info(
            "ifHCOutMulticastPkts",
            Counter64,
            "packets",
            "Multicast packets sent (RFC 2863)",
        ),
        info(
            "ifHCInBroadcastPkts",
            Counter64,
            "packets",
            "Broadcast packets received (RFC 2863)",
        ),
        info(
            "ifHCOutBroadcastPkts",
            Counter64,
            "packets",
            "Broadcast packets sent (RFC 2863)",
        ),
        info(
            "ifInOctets",
            Counter32,
            "octets",
            "Octets received, where the device has no 64-bit counter (RFC 2863)",
        ),
        info(
            "ifOutOctets",
            Counter32,
            "octets",
            "Octets sent, where the device has no 64-bit counter (RFC 2863)",
        ),
        info(
            "ifInUcastPkts",
            Counter32,
            "packets",
            "Unicast packets received, where the device has no 64-bit counter (RFC 2863)",
        ),
        info(
            "ifOutUcastPkts",
            Counter32,
            "packets",
            "Unicast packets sent, where the device has no 64-bit counter (RFC 2863)",
        ),
        info(
            "ifInErrors",
            Counter32,
            "packets",
            "Packets received with errors (RFC 2863)",
        ),
        info(
            "ifOutErrors",
            Counter32,
            "packets",
            "Packets not sent because of errors (RFC 2863)",
        ),
        info(
            "ifInDiscards",
            Counter32,
            "packets",
            "Packets received and dropped without an error (RFC 2863)",
        ),
        info(
            "ifOutDiscards",
            Counter32,
            "packets",
            "Packets dropped before they were sent, without an error (RFC 2863)",
        ),
    ]
};

/// What is known of the metric called `name`, if it is a built-in one.
#[must_use]
pub fn metric_info(name: &str) -> Option<&'static MetricInfo> {
    BUILT_IN_METRICS.iter().find(|known| known.name == name)
}

/// Label names and values, sorted by name. Shared: an interface's dozen series
/// carry the same set.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Labels(Vec<(String, String)>);

impl Labels {
    /// The labels in `pairs`, sorted; of two with one name, the first stays.
    #[must_use]
    pub fn new<N: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Labels {
        let mut pairs: Vec<(String, String)> = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.dedup_by(|later, first| later.0 == first.0);
        Labels(pairs)
    }

    /// The value of the label called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// Name and value of each, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (place, (name, value)) in self.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

/// One series of a device: what is measured, of what.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SeriesKey {
    /// The metric's name.
    pub metric: Arc<str>,
    /// Of what: empty for the device as a whole.
    pub labels: Arc<Labels>,
    /// How its values relate.
    pub kind: MetricKind,
}

/// The columns of a poll group's rows: immutable and shared by every row and
/// every device that answers with the same ones.
#[derive(Debug)]
pub struct Columns {
    series: Vec<SeriesKey>,
    fingerprint: u64,
}

impl Columns {
    /// Columns in this order.
    #[must_use]
    pub fn new(series: Vec<SeriesKey>) -> Columns {
        let mut fingerprint = Fnv(0xcbf2_9ce4_8422_2325);
        series.hash(&mut fingerprint);
        Columns {
            fingerprint: fingerprint.finish(),
            series,
        }
    }

    /// The series of each column.
    #[must_use]
    pub fn series(&self) -> &[SeriesKey] {
        &self.series
    }

    /// Equal columns have equal fingerprints; unequal ones nearly never, so
    /// compare both.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The place of the first column called `metric` with no labels.
    #[must_use]
    pub fn find(&self, metric: &str) -> Option<usize> {
        self.series
            .iter()
            .position(|key| &*key.metric == metric && key.labels.is_empty())
    }
}

impl PartialEq for Columns {
    fn eq(&self, other: &Columns) -> bool {
        self.fingerprint == other.fingerprint && self.series == other.series
    }
}

impl Eq for Columns {}

/// FNV-1a: small, and the same in every run of every build.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_and_the_first_of_a_name_stays() {
        let labels = Labels::new([("b", "2"), ("a", "1"), ("b", "3")]);
        assert_eq!(labels.to_string(), r#"{a="1",b="2"}"#);
        assert_eq!(labels.get("b"), Some("2"));
    }

    #[test]
    fn every_metric_is_described_once() {
        for (place, metric) in BUILT_IN_METRICS.iter().enumerate() {
            assert_eq!(metric_info(metric.name), Some(metric));
            assert!(!metric.help.is_empty(), "{}", metric.name);
            let twice = BUILT_IN_METRICS[place + 1..]
                .iter()
                .any(|m| m.name == metric.name);
            assert!(!twice, "{} stands twice", metric.name);
        }
    }
}
