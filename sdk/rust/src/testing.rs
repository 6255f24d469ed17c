//! The host's double, for `cargo test`: what a plugin asks is answered from
//! here, what it logs and keeps is found here. Each test has its own, because
//! each test has its own thread.
//!
//! ```
//! use sotp_plugin::{config, testing, warn};
//!
//! testing::host(|host| {
//!     host.settings.insert("limit".into(), "80".into());
//! });
//! assert_eq!(config::get("limit"), Ok(Some(80)));
//! warn!("{} is a lot", 81);
//! assert_eq!(testing::logged(), ["warn: 81 is a lot"]);
//! ```
//!
//! Tables are made of lines as `.snmprec` files have them, or `snmprec`
//! records: object identifier, type, value.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::contract::inventory::Link;
use crate::contract::snmp::{Table, Value, Varbind};
use crate::json::Json;
use crate::notifier::{Notification, Phase};
use crate::parser::{Input, Payload};
use crate::remediation::Incident;
use crate::rule::{RuleInput, RuleOutput, Trigger};
use crate::{
    Attr, Descriptor, Device, Level, Output, Parser, Point, Result, Rule, Scalar, Series, Severity,
    Timestamp,
};

/// 2026-11-21T12:00:00Z
pub const NOON: Timestamp = 1_795_262_400_000_000_000;

/// What the double answers, and what it was told.
#[derive(Clone, Debug)]
pub struct Host {
    /// What was logged.
    pub log: Vec<(Level, String, Vec<Attr>)>,
    /// Lines below this level are not wanted.
    pub level: Level,
    /// The instant of the call.
    pub now: Timestamp,
    /// Settings as text.
    pub settings: BTreeMap<String, String>,
    /// What the plugin keeps.
    pub kv: BTreeMap<String, Vec<u8>>,
    /// The inventory.
    pub devices: Vec<Device>,
    /// By device and key.
    pub facts: BTreeMap<(String, String), Scalar>,
    /// By device.
    pub links: BTreeMap<String, Vec<Link>>,
    /// What a selector selects, whatever the time.
    pub series: BTreeMap<String, Vec<Series>>,
}

impl Default for Host {
    fn default() -> Host {
        Host {
            log: Vec::new(),
            level: Level::Trace,
            now: NOON,
            settings: BTreeMap::new(),
            kv: BTreeMap::new(),
            devices: Vec::new(),
            facts: BTreeMap::new(),
            links: BTreeMap::new(),
            series: BTreeMap::new(),
        }
    }
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::new(Host::default());
}

pub(crate) fn with<T>(work: impl FnOnce(&mut Host) -> T) -> T {
    HOST.with_borrow_mut(work)
}

/// Changes or reads this test's host.
pub fn host<T>(work: impl FnOnce(&mut Host) -> T) -> T {
    with(work)
}

/// What was logged: `warn: 81 is a lot`.
#[must_use]
pub fn logged() -> Vec<String> {
    let word = |level: &Level| match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    with(|host| {
        let lines = host.log.iter();
        lines
            .map(|(level, text, _)| format!("{}: {text}", word(level)))
            .collect()
    })
}

/// A device of this maker, called `test`.
#[must_use]
pub fn device(vendor: &str) -> Device {
    Device {
        id: "1".to_owned(),
        hostname: "test".to_owned(),
        address: "192.0.2.1".to_owned(),
        vendor: vendor.to_owned(),
        ..Device::default()
    }
}

/// What a parser makes of a payload.
///
/// # Errors
///
/// What it says.
pub fn parse<P: Parser>(source: &str, payload: Payload) -> Result<Output> {
    let mut out = Output::default();
    let input = Input {
        device: device(""),
        source: source.to_owned(),
        collected_at: with(|host| host.now),
        payload,
    };
    P::parse(input, &mut out)?;
    Ok(out)
}

/// What a rule says of these series, which all of its selectors select, after
/// an evaluation that left `state`.
///
/// # Errors
///
/// What it says.
pub fn evaluate<R: Rule>(series: &[Series], state: &str) -> Result<RuleOutput> {
    let at = with(|host| host.now);
    let selectors = R::describe().selectors.into_iter();
    let input = RuleInput {
        rule_id: "test".to_owned(),
        device: Some(device("")),
        at,
        trigger: Trigger::Window(selectors.map(|s| (s.name, series.to_vec())).collect()),
        state: state.as_bytes().to_vec(),
    };
    let mut out = RuleOutput {
        verdicts: Vec::new(),
        state: input.state.clone(),
    };
    R::evaluate(input, &mut out)?;
    Ok(out)
}

/// A series with a sample every minute, the last of them now.
#[must_use]
pub fn series(metric: &str, labels: &[(&str, &str)], values: &[f64]) -> Series {
    const MINUTE: u64 = 60_000_000_000;
    let now = with(|host| host.now);
    let ago = |place: usize| (values.len() - 1 - place) as u64 * MINUTE;
    let points = values.iter().enumerate().map(|(place, value)| Point {
        at: now - ago(place),
        value: *value,
    });
    let labels = labels
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Series {
        metric: metric.to_owned(),
        labels: labels.collect(),
        points: points.collect(),
    }
}

/// A notification about the device `test`.
#[must_use]
pub fn notification(phase: Phase, severity: Severity, summary: &str) -> Notification {
    Notification {
        id: "1".to_owned(),
        phase,
        severity,
        at: with(|host| host.now),
        summary: summary.to_owned(),
        attrs: Vec::new(),
        device: Some(device("")),
        url: "https://sotp.example/alerts/1".to_owned(),
    }
}

/// An incident of the device `test` with these attributes.
#[must_use]
pub fn incident(attrs: &[(&str, &str)]) -> Incident {
    let attrs = attrs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Incident {
        alert_id: "1".to_owned(),
        rule_id: "test".to_owned(),
        key: "test".to_owned(),
        severity: Severity::Warning,
        since: with(|host| host.now),
        summary: "a test".to_owned(),
        attrs: attrs.collect(),
        device: device(""),
        attempt: 1,
    }
}

/// What a parser or poller emitted, as Prometheus writes it:
/// `acme_fan_rpm{fan="left"} 4500`.
///
/// # Panics
///
/// If a row breaks the contract: that is what tests are for.
#[must_use]
pub fn readings(descriptor: &Descriptor, output: &Output) -> Vec<String> {
    let mut lines = Vec::new();
    for row in &output.rows {
        for (place, value) in &row.values {
            let metric = &descriptor.metrics[*place as usize];
            assert_eq!(
                metric.labels.len(),
                row.labels.len(),
                "labels of {}",
                metric.name
            );
            assert!(value.is_finite(), "{} is {value}", metric.name);
            let mut line = metric.name.clone();
            for (place, (name, value)) in metric.labels.iter().zip(&row.labels).enumerate() {
                let before = if place == 0 { '{' } else { ',' };
                let _ = write!(line, "{before}{name}={value:?}");
            }
            let end = if metric.labels.is_empty() { "" } else { "}" };
            let _ = write!(line, "{end} {value}");
            lines.push(line);
        }
    }
    lines
}

/// The varbinds of a recording.
///
/// # Panics
///
/// If a line is none: `1.3.6.1.2.1.1.5.0|4|router`.
#[must_use]
pub fn varbinds(recording: &str) -> Vec<Varbind> {
    let lines = recording.lines().map(str::trim_start);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(varbind)
        .collect()
}

fn varbind(line: &str) -> Varbind {
    let mut parts = line.splitn(3, '|');
    let (Some(name), Some(tag), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
        panic!("no line of a recording: {line}");
    };
    let number = || {
        text.trim()
            .parse::<u64>()
            .unwrap_or_else(|_| panic!("no number: {line}"))
    };
    let value = match tag {
        "2" => Value::Integer(
            text.trim()
                .parse()
                .unwrap_or_else(|_| panic!("no number: {line}")),
        ),
        "4" => Value::Octets(text.as_bytes().to_vec()),
        "4x" => Value::Octets(bytes(text)),
        "5" => Value::Null,
        "6" => Value::ObjectId(crate::oid(text)),
        "64" => match crate::oid(text)[..] {
            [a, b, c, d] => Value::IpAddress((a as u8, b as u8, c as u8, d as u8)),
            _ => panic!("no address: {line}"),
        },
        "65" => Value::Counter32(number() as u32),
        "66" => Value::Unsigned32(number() as u32),
        "67" => Value::TimeTicks(number() as u32),
        "70" => Value::Counter64(number()),
        _ => panic!("a type that we do not know: {line}"),
    };
    Varbind {
        name: crate::oid(name),
        value,
    }
}

fn bytes(digits: &str) -> Vec<u8> {
    let pair = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16);
    (0..digits.len() / 2)
        .map(|n| pair(n * 2).expect("hexadecimal digits"))
        .collect()
}

/// The table at `oid` (the table's or its entry's) of a recording, as the
/// daemon passes it.
#[must_use]
pub fn table(oid: &str, recording: &str) -> Table {
    Table::pivot(oid, &varbinds(recording))
}

/// What host functions do natively.
pub(crate) mod double {
    use super::{BTreeMap, Json, with};

    pub(crate) mod clock {
        pub(crate) fn now() -> crate::Timestamp {
            super::with(|host| host.now)
        }
    }

    pub(crate) mod config {
        use super::{BTreeMap, Json, with};

        pub(crate) fn get(key: &str) -> Option<String> {
            with(|host| host.settings.get(key).cloned())
        }

        pub(crate) fn all() -> String {
            let settings: BTreeMap<String, String> = with(|host| host.settings.clone());
            let value = |text: String| Json::parse(&text).unwrap_or(Json::Text(text));
            Json::Object(settings.into_iter().map(|(k, v)| (k, value(v))).collect()).to_string()
        }
    }

    pub(crate) mod kv {
        use super::with;
        use crate::contract::kv::KvError;

        pub(crate) fn get(key: &str) -> Option<Vec<u8>> {
            with(|host| host.kv.get(key).cloned())
        }

        pub(crate) fn set(key: &str, value: &[u8], _ttl_s: Option<u32>) -> Result<(), KvError> {
            if key.is_empty() || key.len() > 256 {
                return Err(KvError::TooLarge("a key has 1 to 256 bytes".to_owned()));
            }
            if value.len() > 64 << 10 {
                return Err(KvError::TooLarge(
                    "a value has at most 65536 bytes".to_owned(),
                ));
            }
            with(|host| host.kv.insert(key.to_owned(), value.to_vec()));
            Ok(())
        }

        pub(crate) fn delete(key: &str) {
            with(|host| host.kv.remove(key));
        }

        pub(crate) fn keys(prefix: &str, limit: u32) -> Vec<String> {
            with(|host| {
                let keys = host.kv.keys().filter(|key| key.starts_with(prefix));
                keys.take(limit as usize).cloned().collect()
            })
        }
    }

    pub(crate) mod inventory {
        use super::with;
        use crate::contract::inventory::Link;
        use crate::{Device, Scalar};

        pub(crate) fn get_device(id: &str) -> Option<Device> {
            with(|host| host.devices.iter().find(|device| device.id == id).cloned())
        }

        pub(crate) fn get_fact(device: &str, key: &str) -> Option<Scalar> {
            with(|host| {
                host.facts
                    .get(&(device.to_owned(), key.to_owned()))
                    .cloned()
            })
        }

        pub(crate) fn get_links(device: &str) -> Vec<Link> {
            with(|host| host.links.get(device).cloned().unwrap_or_default())
        }
    }

    pub(crate) mod series_query {
        use super::with;
        use crate::contract::series_query::QueryError;
        use crate::{Series, Timestamp};

        pub(crate) fn query(
            selector: &str,
            _start: Timestamp,
            _end: Timestamp,
            _step_s: u32,
        ) -> Result<Vec<Series>, QueryError> {
            Ok(with(|host| {
                host.series.get(selector).cloned().unwrap_or_default()
            }))
        }
    }
}
