//! Instants, as every stage passes them around.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z, shown as RFC 3339 in UTC.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// How long after `earlier` this is; zero if the clock was set back.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This instant, `span` later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Timestamp {
        let span_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_add(span_ms))
    }

    /// This instant, `span` earlier, but not before 1970.
    #[must_use]
    pub fn minus(self, span: Duration) -> Timestamp {
        let span_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_sub(span_ms))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = i64::try_from(self.0)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        match shown {
            Some(instant) => write!(f, "{instant:.3}"),
            None => write!(f, "{} ms after 1970", self.0),
        }
    }
}

/// A text that is not an instant after 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotATimestamp(pub String);

impl fmt::Display for NotATimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not an RFC 3339 time after 1970, such as 2026-11-21T03:00:00Z",
            self.0
        )
    }
}

impl std::error::Error for NotATimestamp {}

impl FromStr for Timestamp {
    type Err = NotATimestamp;

    fn from_str(text: &str) -> Result<Timestamp, NotATimestamp> {
        text.parse::<jiff::Timestamp>()
            .ok()
            .and_then(|instant| u64::try_from(instant.as_millisecond()).ok())
            .map(Timestamp)
            .ok_or_else(|| NotATimestamp(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_shown_and_read_back_as_rfc_3339() {
        let instant = Timestamp(1_795_230_000_123);
        assert_eq!(instant.to_string(), "2026-11-21T03:00:00.123Z");
        assert_eq!(instant.to_string().parse(), Ok(instant));
    }

    #[test]
    fn a_clock_that_was_set_back_gives_no_time_rather_than_a_huge_one() {
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
    }

    #[test]
    fn a_time_before_1970_is_refused_by_name() {
        let error = "1969-12-31T23:59:59Z".parse::<Timestamp>().unwrap_err();
        assert!(error.to_string().contains("1969"), "{error}");
    }
}
