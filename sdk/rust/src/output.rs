//! What a parser or poller emits.

use crate::http::Request;
use crate::{Descriptor, Event, Fact, MetricKind, Output, Row, Scalar};

/// A metric of [`metrics!`](crate::metrics), with as many labels as it was
/// described with.
#[derive(Clone, Copy, Debug)]
pub struct Metric<const LABELS: usize>(u32);

impl<const LABELS: usize> Metric<LABELS> {
    /// The metric in this place of the descriptor.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(place: u32) -> Metric<LABELS> {
        Metric(place)
    }
}

/// What can be a metric's value: every number, and `None`, which is left out.
pub trait Value {
    /// As a number.
    fn value(self) -> Option<f64>;
}

macro_rules! numbers {
    ($($number:ty)*) => {
        $(impl Value for $number {
            fn value(self) -> Option<f64> {
                Some(self as f64)
            }
        })*
    };
}

numbers!(f64 f32 i64 i32 i16 i8 u64 u32 u16 u8 usize);

impl Value for bool {
    fn value(self) -> Option<f64> {
        Some(f64::from(u8::from(self)))
    }
}

impl<T: Value> Value for Option<T> {
    fn value(self) -> Option<f64> {
        self?.value()
    }
}

impl Output {
    /// One value. What is `None` or not finite is left out.
    pub fn set<const LABELS: usize>(
        &mut self,
        metric: Metric<LABELS>,
        labels: [&str; LABELS],
        value: impl Value,
    ) {
        self.row(labels).set(metric, value);
    }

    /// Several values under the same labels: cheaper than one by one.
    pub fn row<const LABELS: usize>(&mut self, labels: [&str; LABELS]) -> RowMut<'_, LABELS> {
        let row = Row {
            labels: labels.iter().map(|l| (*l).to_owned()).collect(),
            values: Vec::new(),
        };
        RowMut { out: self, row }
    }

    /// Something that is known of the device: a serial number, a version.
    pub fn fact(&mut self, key: &str, value: Scalar) {
        self.facts.push(Fact {
            key: key.to_owned(),
            value,
        });
    }

    /// A fact that is text; none is left out.
    pub fn fact_text(&mut self, key: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.fact(key, Scalar::Text(value.into()));
        }
    }

    /// Something that happened.
    pub fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Something odd that does not spoil the rest.
    pub fn warning(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }
}

/// A row that is being filled; it stands in the output once it is dropped, if
/// it has values.
#[derive(Debug)]
pub struct RowMut<'a, const LABELS: usize> {
    out: &'a mut Output,
    row: Row,
}

impl<const LABELS: usize> RowMut<'_, LABELS> {
    /// One value. What is `None` or not finite is left out.
    pub fn set(&mut self, metric: Metric<LABELS>, value: impl Value) -> &mut Self {
        if let Some(value) = value.value().filter(|value| value.is_finite()) {
            self.row.values.push((metric.0, value));
        }
        self
    }
}

impl<const LABELS: usize> Drop for RowMut<'_, LABELS> {
    fn drop(&mut self) {
        if !self.row.values.is_empty() {
            let empty = Row {
                labels: Vec::new(),
                values: Vec::new(),
            };
            self.out.rows.push(std::mem::replace(&mut self.row, empty));
        }
    }
}

impl Descriptor {
    /// Adds names of facts.
    #[must_use]
    pub fn with_facts(mut self, facts: &[&str]) -> Descriptor {
        self.facts.extend(facts.iter().map(|f| (*f).to_owned()));
        self
    }

    /// Adds kinds of events.
    #[must_use]
    pub fn with_events(mut self, events: &[&str]) -> Descriptor {
        self.events.extend(events.iter().map(|e| (*e).to_owned()));
        self
    }
}

/// A request without a body and with ten seconds to be answered.
#[must_use]
pub fn request(method: &str, url: impl Into<String>) -> Request {
    Request {
        method: method.to_owned(),
        url: url.into(),
        headers: Vec::new(),
        body: None,
        timeout_ms: 10_000,
    }
}

impl Request {
    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Request {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sets a body of JSON, with its content type.
    #[must_use]
    pub fn json(mut self, body: &crate::json::Json) -> Request {
        self.body = Some(body.to_string().into_bytes());
        self.header("content-type", "application/json")
    }
}

#[doc(hidden)]
#[must_use]
pub fn labels(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

#[doc(hidden)]
#[must_use]
pub fn states(states: &[(i64, &str)]) -> Vec<(i64, String)> {
    states
        .iter()
        .map(|(code, name)| (*code, (*name).to_owned()))
        .collect()
}

/// The kinds as [`metrics!`](crate::metrics) writes them.
#[doc(hidden)]
#[allow(non_upper_case_globals, missing_docs)]
pub mod kind {
    use super::MetricKind;

    pub const gauge: MetricKind = MetricKind::Gauge;
    pub const counter32: MetricKind = MetricKind::Counter32;
    pub const counter64: MetricKind = MetricKind::Counter64;
    pub const state: MetricKind = MetricKind::State;
}

/// Describes metrics: for each a constant of its name, and `descriptor()` for
/// all of them.
///
/// ```
/// sotp_plugin::metrics! {
///     gauge acme_fan_rpm{fan} "rpm" "Speed of a fan";
///     counter64 acme_starts_total "1" "Starts of the engine";
///     state acme_power_state{supply} "" "State of a power supply" [0 = "ok", 1 = "failed"];
/// }
/// assert_eq!(descriptor().metrics[2].labels, ["supply"]);
/// ```
///
/// A value with another number of labels than described does not compile:
///
/// ```compile_fail
/// sotp_plugin::metrics! { gauge acme_fan_rpm{fan} "rpm" "Speed of a fan"; }
/// sotp_plugin::Output::default().set(acme_fan_rpm, [], 5);
/// ```
#[macro_export]
macro_rules! metrics {
    ($(
        $kind:ident $name:ident $({ $($label:ident),* $(,)? })? $unit:literal $help:literal
        $([ $($code:literal = $state:literal),* $(,)? ])?;
    )*) => {
        #[allow(non_camel_case_types, dead_code)]
        #[repr(u32)]
        enum __Metrics { $($name),* }
        $(
            #[doc = $help]
            #[allow(non_upper_case_globals, dead_code)]
            pub const $name: $crate::Metric<{
                let labels: &[&str] = &[$($(stringify!($label)),*)?];
                labels.len()
            }> = $crate::Metric::new(__Metrics::$name as u32);
        )*
        /// What this plugin measures.
        #[allow(dead_code)]
        pub fn descriptor() -> $crate::Descriptor {
            $crate::Descriptor {
                metrics: ::std::vec![$($crate::MetricDesc {
                    name: stringify!($name).into(),
                    kind: $crate::__private::kind::$kind,
                    unit: $unit.into(),
                    help: $help.into(),
                    labels: $crate::__private::labels(&[$($(stringify!($label)),*)?]),
                    states: $crate::__private::states(&[$($(($code, $state)),*)?]),
                }),*],
                ..::std::default::Default::default()
            }
        }
    };
}

#[allow(clippy::derivable_impls, reason = "the type is generated")]
impl Default for Output {
    fn default() -> Output {
        Output {
            rows: Vec::new(),
            facts: Vec::new(),
            events: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

#[allow(clippy::derivable_impls, reason = "the type is generated")]
impl Default for Descriptor {
    fn default() -> Descriptor {
        Descriptor {
            metrics: Vec::new(),
            facts: Vec::new(),
            events: Vec::new(),
        }
    }
}

#[allow(clippy::derivable_impls, reason = "the type is generated")]
impl Default for crate::Device {
    fn default() -> crate::Device {
        crate::Device {
            id: String::new(),
            hostname: String::new(),
            address: String::new(),
            vendor: String::new(),
            model: String::new(),
            os: String::new(),
            os_version: String::new(),
            attrs: Vec::new(),
        }
    }
}
