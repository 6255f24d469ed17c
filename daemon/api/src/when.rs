//! Instants as people ask for them.

use std::time::Duration;

use model::Timestamp;

use crate::span;

/// Reads an RFC 3339 time, seconds since 1970, `now`, or a span before now
/// such as `-1h`.
///
/// # Errors
///
/// A sentence that says how an instant is written.
pub(crate) fn read(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if text == "now" {
        return Ok(now);
    }
    if let Some(back) = text.strip_prefix('-') {
        return span::read(back).map(|back| now.minus(back));
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds)
            .map(|since_1970| Timestamp::default().plus(since_1970))
            .map_err(|_| wrong(text));
    }
    text.parse().map_err(|_| wrong(text))
}

fn wrong(text: &str) -> String {
    let text: String = text.chars().take(40).collect();
    format!(
        "{text:?} is not a time: write 2026-11-21T03:00:00Z, seconds since 1970, or -1h for an hour ago"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_written_in_three_ways() {
        let now = Timestamp(10_000_000);
        assert_eq!(read("now", now), Ok(now));
        assert_eq!(read("-1h", now), Ok(Timestamp(6_400_000)));
        assert_eq!(read("12.5", now), Ok(Timestamp(12_500)));
        assert_eq!(read("1970-01-01T00:00:01Z", now), Ok(Timestamp(1_000)));
        for wrong in ["", "yesterday", "-1x", "NaN", "inf", "-5", "1e300"] {
            assert!(read(wrong, now).is_err(), "{wrong:?}");
        }
    }
}
