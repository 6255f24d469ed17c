//! Selectors: `ifHCInOctets{device="core1",ifName=~"Gi.*"}`.

use std::fmt;
use std::str::FromStr;

use model::SeriesKey;

use crate::{Matcher, parse};

/// The label that stands for the metric.
pub(crate) const METRIC: &str = "__name__";

/// All of its matchers have to accept.
#[derive(Clone, Debug)]
pub struct Selector {
    matchers: Vec<Matcher>,
}

/// A text that is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} (at character {})", at + 1)]
pub struct NotASelector {
    /// Where, in characters from 0.
    pub at: usize,
    /// What is wrong and what would be right.
    pub what: String,
}

impl Selector {
    /// A text has at most so many bytes: room for a list of a hundred names, and
    /// for all of it in an address, where each byte may take three.
    pub const LONGEST: usize = 4 << 10;

    /// A text has at most so many matchers: each is work for every answer.
    pub const MOST_MATCHERS: usize = 100;

    /// The series that all of `matchers` accept; without any, all series.
    #[must_use]
    pub fn new(matchers: Vec<Matcher>) -> Selector {
        Selector { matchers }
    }

    /// Its matchers.
    #[must_use]
    pub fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }

    /// The matchers on `names` taken out of it: what a device is asked for,
    /// not a series.
    #[must_use]
    pub fn split(self, names: &[&str]) -> (Vec<Matcher>, Selector) {
        let (taken, rest) = self
            .matchers
            .into_iter()
            .partition(|matcher| names.contains(&matcher.name()));
        (taken, Selector { matchers: rest })
    }

    /// Whether this series is meant.
    #[must_use]
    pub fn accepts(&self, key: &SeriesKey) -> bool {
        self.matchers.iter().all(|matcher| {
            let value = match matcher.name() {
                METRIC => Some(&*key.metric),
                name => key.labels.get(name),
            };
            matcher.accepts(value.unwrap_or_default())
        })
    }
}

impl FromStr for Selector {
    type Err = NotASelector;

    fn from_str(text: &str) -> Result<Selector, NotASelector> {
        parse::selector(text).map(Selector::new)
    }
}

/// As it can be read again: `{__name__="ifHCInOctets",ifName=~"Gi.*"}`.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (place, matcher) in self.matchers.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{matcher}")?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Labels, MetricKind};

    use super::*;

    fn key(metric: &str, labels: &[(&str, &str)]) -> SeriesKey {
        SeriesKey {
            metric: Arc::from(metric),
            labels: Arc::new(Labels::new(labels.iter().copied())),
            kind: MetricKind::Gauge,
        }
    }

    #[test]
    fn all_matchers_have_to_accept() {
        let selector: Selector = r#"up{a="1",b!="2"}"#.parse().unwrap();
        assert!(selector.accepts(&key("up", &[("a", "1")])));
        assert!(!selector.accepts(&key("up", &[("a", "1"), ("b", "2")])));
        assert!(!selector.accepts(&key("up", &[])));
        assert!(!selector.accepts(&key("down", &[("a", "1")])));
    }

    #[test]
    fn what_a_device_is_asked_for_can_be_taken_out() {
        let selector: Selector = r#"up{device=~"core.*",a="1",device!="core9"}"#.parse().unwrap();
        let (device, rest) = selector.split(&["device", "site"]);
        let device: Vec<String> = device.iter().map(Matcher::to_string).collect();
        assert_eq!(device, [r#"device=~"core.*""#, r#"device!="core9""#]);
        assert_eq!(rest.to_string(), r#"{__name__="up",a="1"}"#);
    }

    #[test]
    fn a_selector_can_be_written_and_read_again() {
        let text = "{__name__=\"a\",b=~\"x\\\\.\\\"\\n.\\t\",c!=\"ü\"}";
        let selector: Selector = text.parse().unwrap();
        let again: Selector = selector.to_string().parse().unwrap();
        assert_eq!(again.to_string(), selector.to_string());
        assert_eq!(again.matchers()[1].value(), "x\\.\"\n.\t");
    }
}
