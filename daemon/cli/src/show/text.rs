//! Values as people read them. What was not measured is "—", never a number.

use serde_json::Value;

/// Stands for what was not measured.
pub(crate) const NONE: &str = "—";

/// The text at `pointer`, or "".
pub(crate) fn text(item: &Value, pointer: &str) -> String {
    match item.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| {
                item.as_str()
                    .map_or_else(|| item.to_string(), str::to_owned)
            })
            .collect::<Vec<_>>()
            .join(" "),
        Some(Value::Null | Value::Object(_)) | None => String::new(),
    }
}

/// The number at `pointer`, shown by `show`, or [`NONE`].
pub(crate) fn number(item: &Value, pointer: &str, show: fn(f64) -> String) -> String {
    item.pointer(pointer)
        .and_then(Value::as_f64)
        .map_or_else(|| NONE.to_owned(), show)
}

/// Seconds as `1.25 ms` or `1.25 s`.
pub(crate) fn short_seconds(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.2} ms", seconds * 1_000.0)
    } else {
        format!("{seconds:.2} s")
    }
}

/// A ratio as percent.
pub(crate) fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    if percent == percent.round() || percent >= 10.0 {
        format!("{percent:.0} %")
    } else {
        format!("{percent:.1} %")
    }
}

/// Bits per second with a decimal prefix.
pub(crate) fn bits(bps: f64) -> String {
    let (value, unit) = match bps {
        // from what would be rounded up to 1000 on
        b if b >= 999.5e6 => (b / 1e9, "Gbit/s"),
        b if b >= 999.5e3 => (b / 1e6, "Mbit/s"),
        b if b >= 999.5 => (b / 1e3, "kbit/s"),
        b => (b, "bit/s"),
    };
    if value >= 100.0 || unit == "bit/s" {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// Bytes with a binary prefix.
pub(crate) fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes;
    let mut place = 0;
    // from what would be rounded up to 1024 on
    while value.abs() >= 1023.5 && place + 1 < UNITS.len() {
        value /= 1024.0;
        place += 1;
    }
    match place == 0 || value.abs() >= 99.95 {
        true => format!("{value:.0} {}", UNITS[place]),
        false => format!("{value:.1} {}", UNITS[place]),
    }
}

/// A value in a unit as the API names it, as people read it.
pub(crate) fn with_unit(value: f64, unit: &str) -> String {
    if !value.is_finite() {
        return plain(value);
    }
    match unit {
        "seconds" if value.abs() < 120.0 => short_seconds(value),
        "seconds" if value > 0.0 => span(value),
        "ratio" => percent(value),
        "percent" => percent(value / 100.0),
        "bytes" | "octets" => bytes(value),
        "bytes/s" => format!("{}/s", bytes(value)),
        // traffic is spoken of in bits
        "octets/s" => bits(value * 8.0),
        "bit/s" | "bits/s" => bits(value),
        "" | "/s" => format!("{}{unit}", plain(value)),
        other => format!("{} {other}", plain(value)),
    }
}

/// A plain number with four significant digits, and all of a whole one: what was
/// measured is never shown as 0.
pub(crate) fn plain(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == value.trunc() && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    let digits_before = value.abs().log10().floor();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 300 for every finite value"
    )]
    let decimals = (3.0 - digits_before).clamp(0.0, 12.0) as usize;
    format!("{value:.decimals$}")
}

/// A span as its two largest units.
pub(crate) fn span(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to what fits; a span of 500 years needs no seconds"
    )]
    let whole = seconds.clamp(0.0, 1.6e10) as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{whole}s"),
        (0, 0, m) => format!("{m}m {}s", whole % 60),
        (0, h, m) => format!("{h}h {m}m"),
        (d, h, _) => format!("{d}d {h}h"),
    }
}

/// How long ago the RFC 3339 time at `pointer` was.
pub(crate) fn ago(item: &Value, pointer: &str) -> String {
    let then = item
        .pointer(pointer)
        .and_then(Value::as_str)
        .and_then(|text| text.parse::<jiff::Timestamp>().ok());
    match then {
        Some(then) => span(jiff::Timestamp::now().duration_since(then).as_secs_f64()),
        None => NONE.to_owned(),
    }
}

/// How long it is until the RFC 3339 time at `pointer`.
pub(crate) fn left(item: &Value, pointer: &str) -> String {
    left_at(item, pointer, jiff::Timestamp::now())
}

fn left_at(item: &Value, pointer: &str, now: jiff::Timestamp) -> String {
    let end = item
        .pointer(pointer)
        .and_then(Value::as_str)
        .and_then(|text| text.parse::<jiff::Timestamp>().ok());
    match end {
        Some(end) if end > now => span(end.duration_since(now).as_secs_f64()),
        Some(_over) => "expired".to_owned(),
        None => NONE.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_not_measured_is_a_dash() {
        let item = json!({"rtt_seconds": null, "loss_ratio": 0.0});
        assert_eq!(number(&item, "/rtt_seconds", short_seconds), "—");
        assert_eq!(number(&item, "/nothing", short_seconds), "—");
        assert_eq!(number(&item, "/loss_ratio", percent), "0 %");
    }

    #[test]
    fn what_is_over_says_so() {
        let item = json!({"expires": "2026-01-02T00:00:00Z"});
        let at = |now: &str| left_at(&item, "/expires", now.parse().unwrap());
        assert_eq!(at("2026-01-01T00:00:00Z"), "1d 0h");
        assert_eq!(at("2026-01-02T00:00:00Z"), "expired");
        assert_eq!(left(&item, "/nothing"), "—");
    }

    #[test]
    fn figures_are_as_long_as_they_help() {
        assert_eq!(short_seconds(0.001_25), "1.25 ms");
        assert_eq!(bits(999.0), "999 bit/s");
        assert_eq!(bits(999_800_000.0), "1.0 Gbit/s");
        assert_eq!(bits(12_345_678.0), "12.3 Mbit/s");
        assert_eq!(percent(0.025), "2.5 %");
        assert_eq!(span(59.0), "59s");
        assert_eq!(span(3_720.0), "1h 2m");
        assert_eq!(span(200_000.0), "2d 7h");
        assert_eq!(plain(0.97), "0.9700");
        assert_eq!(plain(0.000_026_2), "0.00002620");
        assert_eq!(plain(1_234.56), "1235");
        assert_eq!(plain(42.0), "42");
        assert_eq!(plain(f64::NEG_INFINITY), "-Inf");
        assert_eq!(bytes(1023.0), "1023 B");
        assert_eq!(bytes(1_048_570.0), "1.0 MiB");
        assert_eq!(bytes(250.0 * 1024.0 * 1024.0), "250 MiB");
    }

    #[test]
    fn a_value_is_shown_in_the_unit_that_people_think_in() {
        assert_eq!(with_unit(0.012, "seconds"), "12.00 ms");
        assert_eq!(with_unit(90_000.0, "seconds"), "1d 1h");
        assert_eq!(with_unit(1_250_000.0, "octets/s"), "10.0 Mbit/s");
        assert_eq!(with_unit(12.0, "percent"), "12 %");
        assert_eq!(with_unit(3.5, "packets/s"), "3.500 packets/s");
        assert_eq!(with_unit(f64::INFINITY, "octets/s"), "+Inf");
        assert_eq!(with_unit(1.0, ""), "1");
    }
}
