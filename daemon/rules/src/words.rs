//! The one line that says what is wrong: figures with units, for people.

use std::time::Duration;

use model::{Comparison, Labels, MetricKind, Timestamp, metric_info};

/// Longer summaries are cut: they become mail subjects and table cells.
const SUMMARY_CHARS: usize = 300;

/// A span in its two largest units: `45s`, `5m`, `1h 30m`, `2d 3h`.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let Some(first) = units.iter().position(|(count, _)| *count > 0) else {
        return "0s".to_owned();
    };
    units[first..]
        .iter()
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// `at` as somebody reads it who looks at `seen_from`: `03:00:10Z`, and with
/// the date if that is another day.
pub(crate) fn moment(at: Timestamp, seen_from: Timestamp) -> String {
    let (text, reference) = (at.to_string(), seen_from.to_string());
    let (Some((date, time)), Some((today, _))) = (text.split_once('T'), reference.split_once('T'))
    else {
        return text;
    };
    let time = time.split('.').next().unwrap_or(time);
    if date == today {
        format!("{time}Z")
    } else {
        format!("{date} {time}Z")
    }
}

/// A metric with what it is measured of: `ifInErrors of ge-0/0/0`.
pub(crate) fn series(metric: &str, labels: &Labels) -> String {
    let mut all = labels.iter();
    match (all.next(), all.next()) {
        (None, _) => metric.to_owned(),
        (Some((_, only)), None) => format!("{metric} of {only}"),
        (Some(_), Some(_)) => format!("{metric} of {labels}"),
    }
}

/// A judged value with its unit: a ratio in percent, a counter per second.
pub(crate) fn value(metric: &str, kind: MetricKind, value: f64) -> String {
    let unit = metric_info(metric).map_or("", |known| known.unit);
    let per_second = if kind.is_counter() { "/s" } else { "" };
    match unit {
        "" => format!("{}{per_second}", short(value)),
        "ratio" => format!("{} %", short(value * 100.0)),
        "percent" => format!("{} %", short(value)),
        "seconds" if value.abs() < 1.0 => format!("{} ms", short(value * 1000.0)),
        "seconds" if value >= 120.0 => span(Duration::try_from_secs_f64(value).unwrap_or_default()),
        "seconds" => format!("{} s", short(value)),
        "bytes" => format!("{}B", scaled(value)),
        "bit/s" => format!("{}bit/s", scaled(value)),
        _ => format!("{}{unit}{per_second}", scaled(value)),
    }
}

/// How a value compares with a limit: `above 90 %`.
pub(crate) fn comparison(comparison: Comparison, limit: &str) -> String {
    match comparison {
        Comparison::Above => format!("above {limit}"),
        Comparison::AtLeast => format!("at least {limit}"),
        Comparison::Below => format!("below {limit}"),
        Comparison::AtMost => format!("at most {limit}"),
        Comparison::Equal => format!("equal to {limit}"),
        Comparison::NotEqual => format!("not {limit}"),
    }
}

/// Some names of many: `core1, core2 and 7 more`.
pub(crate) fn names(all: &[&str]) -> String {
    const SHOWN: usize = 5;
    let shown = all[..all.len().min(SHOWN)].join(", ");
    match all.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// `text`, cut to what a summary may be.
pub(crate) fn clipped(text: String) -> String {
    match text.char_indices().nth(SUMMARY_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Four significant digits at most.
fn short(value: f64) -> String {
    let size = value.abs();
    if size > 0.0 && !(0.001..1e15).contains(&size) {
        return format!("{value:.2e}");
    }
    let decimals = match size {
        s if s >= 1000.0 => 0,
        s if s >= 100.0 => 1,
        s if s >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// `12.5 M`, ready for a unit.
fn scaled(value: f64) -> String {
    let (divisor, prefix) = match value.abs() {
        s if s >= 1e12 => (1e12, "T"),
        s if s >= 1e9 => (1e9, "G"),
        s if s >= 1e6 => (1e6, "M"),
        s if s >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    format!("{} {prefix}", short(value / divisor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_shown_in_two_units() {
        for (seconds, shown) in [
            (0, "0s"),
            (45, "45s"),
            (90, "1m 30s"),
            (300, "5m"),
            (5_400, "1h 30m"),
            (90_061, "1d 1h"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), shown);
        }
    }

    #[test]
    fn another_day_is_named() {
        let at: Timestamp = "2026-11-21T03:00:10.120Z".parse().unwrap();
        assert_eq!(moment(at, at.plus(Duration::from_secs(60))), "03:00:10Z");
        let next_day = at.plus(Duration::from_secs(86_400));
        assert_eq!(moment(at, next_day), "2026-11-21 03:00:10Z");
    }

    #[test]
    fn values_carry_the_unit_people_use() {
        use MetricKind::{Counter32, Counter64, Gauge, State};
        for (metric, kind, number, shown) in [
            ("cpu_usage_ratio", Gauge, 0.97, "97 %"),
            ("icmp_loss_ratio", Gauge, 0.004, "0.4 %"),
            ("icmp_rtt_seconds", Gauge, 0.0853, "85.3 ms"),
            ("sysUpTime", Gauge, 300.0, "5m"),
            ("ifInErrors", Counter32, 12.0, "12 packets/s"),
            ("ifHCInOctets", Counter64, 12_500_000.0, "12.5 Moctets/s"),
            ("memory_used_bytes", Gauge, 8.1e9, "8.1 GB"),
            ("ifSpeed_bps", Gauge, 1e9, "1 Gbit/s"),
            ("ifOperStatus", State, 2.0, "2"),
            ("somebodys_own", Counter64, 0.25, "0.25/s"),
        ] {
            assert_eq!(value(metric, kind, number), shown);
        }
    }

    #[test]
    fn a_label_stands_for_itself_and_several_are_named() {
        let one = Labels::new([("interface", "ge-0/0/0")]);
        assert_eq!(series("ifInErrors", &one), "ifInErrors of ge-0/0/0");
        let two = Labels::new([("a", "1"), ("b", "2")]);
        assert_eq!(series("m", &two), r#"m of {a="1",b="2"}"#);
        assert_eq!(series("m", &Labels::default()), "m");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let cut = clipped("ä".repeat(1_000));
        assert_eq!(cut.chars().count(), SUMMARY_CHARS + 1);
    }
}
