//! How people write spans of time and sizes: a number and its unit, always.

use std::time::Duration;

use crate::problem::{Mistake, nearest};

/// Each with its milliseconds, the largest first.
const TIME_UNITS: &[(&str, u64)] = &[
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Each with its bytes.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// What people write for a unit of time instead of ours.
const OTHER_TIME_UNITS: &[(&str, &str)] = &[
    ("sec", "s"),
    ("secs", "s"),
    ("second", "s"),
    ("seconds", "s"),
    ("min", "m"),
    ("mins", "m"),
    ("minute", "m"),
    ("minutes", "m"),
    ("hour", "h"),
    ("hours", "h"),
    ("hr", "h"),
    ("day", "d"),
    ("days", "d"),
    ("msec", "ms"),
    ("D", "d"),
    ("H", "h"),
    ("M", "m"),
    ("S", "s"),
];

const TIME_HINT: &str = "write \"200ms\", \"30s\", \"5m\", \"1h30m\" or \"30d\"";
const SIZE_HINT: &str = "write \"512KiB\", \"64MiB\" or \"1GiB\"; \"10MB\" is 10,000,000 bytes";

/// The span that `text` stands for: whole numbers of d, h, m, s and ms, the
/// larger unit first.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, Mistake> {
    let refuse = |why: &str, hint: &str| Err(Mistake::new(format!("{text:?} {why}"), hint));
    let mut units = TIME_UNITS;
    let mut total_ms: u64 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return refuse("is no span of time", TIME_HINT);
    }
    while !rest.is_empty() {
        let (digits, unit, after) = number_and_unit(rest);
        if digits.is_empty() {
            return refuse("is no span of time", TIME_HINT);
        }
        if unit.is_empty() {
            return refuse("has a number without a unit", TIME_HINT);
        }
        let Some(&(_, unit_ms)) = TIME_UNITS.iter().find(|(known, _)| *known == unit) else {
            return refuse("has an unknown unit", &time_unit_hint(unit));
        };
        let Some(nth) = units.iter().position(|(known, _)| *known == unit) else {
            return refuse(
                "names its units out of order",
                "the larger unit first and each once, such as \"1h30m\"",
            );
        };
        units = &units[nth + 1..];
        let sum = digits
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(unit_ms))
            .and_then(|ms| total_ms.checked_add(ms));
        match sum {
            Some(sum) => total_ms = sum,
            None => return refuse("is longer than anyone can wait", TIME_HINT),
        }
        rest = after;
    }
    Ok(Duration::from_millis(total_ms))
}

/// The bytes that `text` stands for: a whole number and a unit.
pub(crate) fn parse_size(text: &str) -> Result<u64, Mistake> {
    let refuse = |why: &str, hint: &str| Err(Mistake::new(format!("{text:?} {why}"), hint));
    let (digits, unit, after) = number_and_unit(text);
    if digits.is_empty() || !after.is_empty() {
        return refuse("is no size", SIZE_HINT);
    }
    if unit.is_empty() {
        return refuse("has no unit", SIZE_HINT);
    }
    let Some(&(_, unit_bytes)) = SIZE_UNITS.iter().find(|(known, _)| *known == unit) else {
        return refuse("has an unknown unit", &size_unit_hint(unit));
    };
    let bytes = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit_bytes));
    match bytes {
        Some(bytes) => Ok(bytes),
        None => refuse("is larger than any disk", SIZE_HINT),
    }
}

/// Leading digits, the letters after them, and the rest.
fn number_and_unit(text: &str) -> (&str, &str, &str) {
    let split =
        |text: &str, inside: fn(char) -> bool| text.find(|c| !inside(c)).unwrap_or(text.len());
    let (digits, rest) = text.split_at(split(text, |c| c.is_ascii_digit()));
    let (unit, rest) = rest.split_at(split(rest, char::is_alphabetic));
    (digits, unit, rest)
}

fn time_unit_hint(unit: &str) -> String {
    let meant = OTHER_TIME_UNITS.iter().find(|(other, _)| *other == unit);
    match meant {
        Some((_, ours)) => format!("did you mean {ours:?}?"),
        None => TIME_HINT.to_owned(),
    }
}

fn size_unit_hint(unit: &str) -> String {
    let known = SIZE_UNITS.iter().map(|(known, _)| *known);
    match nearest(unit, known) {
        Some(meant) => format!("did you mean {meant:?}? {SIZE_HINT}"),
        None => SIZE_HINT.to_owned(),
    }
}

/// `span` as people write it; whole milliseconds.
pub(crate) fn show_duration(span: Duration) -> String {
    let mut rest_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    if rest_ms == 0 {
        return "0s".to_owned();
    }
    let mut shown = String::new();
    for (unit, unit_ms) in TIME_UNITS {
        let number = rest_ms / unit_ms;
        rest_ms %= unit_ms;
        if number > 0 {
            shown.push_str(&format!("{number}{unit}"));
        }
    }
    shown
}

/// `bytes` in the largest unit that divides them.
pub(crate) fn show_size(bytes: u64) -> String {
    SIZE_UNITS
        .iter()
        .find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or("0B".to_owned(), |(name, unit)| {
            format!("{}{name}", bytes / unit)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them_and_shown_the_same_way() {
        for (text, ms) in [
            ("0s", 0),
            ("200ms", 200),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("30d", 2_592_000_000),
            ("1d2h3m4s5ms", 93_784_005),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
            assert_eq!(show_duration(Duration::from_millis(ms)), text);
        }
        assert_eq!(parse_duration("90s"), parse_duration("1m30s"));
    }

    #[test]
    fn a_span_that_could_be_meant_in_two_ways_is_refused_with_a_hint() {
        for (text, hint) in [
            ("", "200ms"),
            ("30", "30s"),
            ("30 s", "30s"),
            (" 30s", "30s"),
            ("-30s", "30s"),
            ("1.5h", "1h30m"),
            ("30m1h", "larger unit first"),
            ("1s1s", "each once"),
            ("5min", "did you mean \"m\"?"),
            ("30S", "did you mean \"s\"?"),
            ("1h30", "1h30m"),
            ("99999999999999999999s", "30s"),
            ("9999999999999999d", "30s"),
            ("５m", "5m"),
        ] {
            let mistake = parse_duration(text).unwrap_err();
            assert!(mistake.hint.contains(hint), "{text:?}: {mistake:?}");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them_and_shown_the_same_way() {
        for (text, bytes) in [
            ("0B", 0),
            ("1B", 1),
            ("512KiB", 524_288),
            ("64MiB", 67_108_864),
            ("10MB", 10_000_000),
            ("2TiB", 2_199_023_255_552),
        ] {
            assert_eq!(parse_size(text), Ok(bytes));
            assert_eq!(show_size(bytes), text);
        }
    }

    #[test]
    fn a_size_that_could_be_meant_in_two_ways_is_refused_with_a_hint() {
        for (text, hint) in [
            ("64", "64MiB"),
            ("64M", "64MiB"),
            ("64mib", "did you mean \"MiB\"?"),
            ("64 MiB", "64MiB"),
            ("1.5GiB", "1GiB"),
            ("99999999999TiB", "1GiB"),
            ("MiB", "64MiB"),
        ] {
            let mistake = parse_size(text).unwrap_err();
            assert!(mistake.hint.contains(hint), "{text:?}: {mistake:?}");
        }
    }
}
