//! Spans of time as people write them: `30s`, `5m`, `1h30m`.

use std::time::Duration;

/// Units from long to short, in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads `1h30m`, `30s`, `200ms`.
///
/// # Errors
///
/// A sentence that says how a span is written.
pub(crate) fn read(text: &str) -> Result<Duration, String> {
    let wrong = || {
        let text: String = text.chars().take(40).collect();
        format!(
            "{text:?} is not a span of time such as \"30s\", \"5m\", \"1h30m\" (units d, h, m, s, ms)"
        )
    };
    let mut rest = text;
    let mut sum_ms: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let (_, unit_ms) = UNITS
            .iter()
            .find(|(known, _)| *known == unit)
            .ok_or_else(wrong)?;
        sum_ms = number
            .checked_mul(*unit_ms)
            .and_then(|ms| sum_ms.checked_add(ms))
            .ok_or_else(wrong)?;
        rest = after;
    }
    if text.is_empty() {
        return Err(wrong());
    }
    Ok(Duration::from_millis(sum_ms))
}

/// `span` in the longest unit that divides it.
pub(crate) fn write(span: Duration) -> String {
    let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".to_owned();
    }
    UNITS
        .iter()
        .find(|(_, unit_ms)| ms.is_multiple_of(*unit_ms))
        .map(|(unit, unit_ms)| format!("{}{unit}", ms / unit_ms))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        assert_eq!(read("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(read("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(read("200ms"), Ok(Duration::from_millis(200)));
        for wrong in [
            "",
            "30",
            "s",
            "-5s",
            "5 s",
            "1y",
            "99999999999999999999d",
            "9999999999999d",
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_written_reads_as_the_same() {
        for ms in [0, 1, 1500, 90_000, 300_000, 86_400_000] {
            let span = Duration::from_millis(ms);
            assert_eq!(read(&write(span)), Ok(span));
        }
        assert_eq!(write(Duration::from_secs(300)), "5m");
        assert_eq!(write(Duration::from_secs(90)), "90s");
    }
}
