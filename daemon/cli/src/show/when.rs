//! Instants and spans as the daemon reads them, for what is asked of it piece by
//! piece.

use jiff::Timestamp;

use super::instant;

/// Units with their milliseconds.
const UNITS: [(&str, i64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// RFC 3339, a date, seconds since 1970, `now`, or a span before now such as
/// `-1h30m`, in milliseconds since 1970.
pub(super) fn instant_ms(text: &str, now: Timestamp) -> Option<i64> {
    if text == "now" {
        return Some(now.as_millisecond());
    }
    if let Some(back) = text.strip_prefix('-') {
        return now.as_millisecond().checked_sub(span_ms(back)?);
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return super::series::whole_ms(seconds);
    }
    instant(text).map(Timestamp::as_millisecond)
}

/// `1h30m`, `30s`, `200ms`.
pub(super) fn span_ms(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut sum_ms: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let (_, unit_ms) = UNITS.iter().find(|(known, _)| *known == unit)?;
        let part_ms = number.parse::<i64>().ok()?.checked_mul(*unit_ms)?;
        sum_ms = sum_ms.checked_add(part_ms)?;
        rest = after;
    }
    (sum_ms > 0).then_some(sum_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_read_as_the_daemon_reads_it() {
        let now = Timestamp::from_millisecond(10_000_000).unwrap();
        let read = |text: &str| instant_ms(text, now);
        assert_eq!(read("now"), Some(10_000_000));
        assert_eq!(read("-1h"), Some(6_400_000));
        assert_eq!(read("-1h30m"), Some(4_600_000));
        assert_eq!(read("12.5"), Some(12_500));
        assert_eq!(read("1970-01-01T00:00:01Z"), Some(1_000));
        assert_eq!(read("1970-01-02"), Some(86_400_000));
        for wrong in ["", "yesterday", "-1x", "-", "NaN", "inf", "-5", "1e300"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_span_may_have_several_units_and_is_not_nothing() {
        assert_eq!(span_ms("1m30s"), Some(90_000));
        assert_eq!(span_ms("200ms"), Some(200));
        for wrong in ["", "0s", "1", "h", "1.5h", "99999999999999d", "1w", "1hé"] {
            assert_eq!(span_ms(wrong), None, "{wrong:?}");
        }
    }
}
