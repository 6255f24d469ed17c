//! `sotp status`: how the appliance itself is doing.

use std::process::ExitCode;

use serde_json::Value;

use super::series::millis;
use super::text::{bytes, number, short_seconds, span, text};
use crate::client::Client;
use crate::error::Trouble;
use crate::output::Output;

const PATH: &str = "/api/v1/status";

pub(super) async fn run(client: &Client, output: &Output) -> Result<(), Trouble> {
    let status = client.get(PATH).await?.body;
    let count = |word: &str| text(&status, &format!("/devices/{word}"));
    let devices = format!(
        "{} up, {} problem, {} down, {} unreachable, {} unknown, {} disabled",
        count("up"),
        count("problem"),
        count("down"),
        count("unreachable"),
        count("unknown"),
        count("disabled"),
    );
    output.item(
        &status,
        &[
            ("version", text(&status, "/version")),
            ("up for", number(&status, "/uptime_seconds", span)),
            ("devices", devices),
            ("alerts firing", text(&status, "/alerts/firing")),
            ("polls in flight", text(&status, "/scheduler/in_flight")),
            (
                "poll lag",
                number(&status, "/scheduler/lag_seconds", short_seconds),
            ),
            ("store", store(&status)),
            (
                "ping",
                format!(
                    "IPv4 {}, IPv6 {}",
                    text(&status, "/icmp/v4"),
                    text(&status, "/icmp/v6")
                ),
            ),
            ("mail server", text(&status, "/mail/server")),
            ("mail error", mail_error(&status)),
            ("mails waiting", text(&status, "/outbox/open")),
            ("samples", samples(&status)),
            ("a value takes", each_value(&status)),
            ("samples kept", kept(&status)),
            (
                "samples cut in",
                shown(&status, "/samples/last_cut_seconds"),
            ),
            (
                "samples synced in",
                shown(&status, "/samples/sync_p99_seconds"),
            ),
            ("disk", disk(&status)),
            ("samples warnings", text(&status, "/samples/warnings")),
            ("warnings", text(&status, "/warnings")),
        ],
    )
}

/// A span of seconds, or nothing where it is not known.
fn shown(status: &Value, pointer: &str) -> String {
    match status.pointer(pointer).and_then(Value::as_f64) {
        Some(seconds) => short_seconds(seconds),
        None => String::new(),
    }
}

/// How the sample store is and what it holds: as much of it as the daemon tells.
fn samples(status: &Value) -> String {
    let number = |pointer: &str| status.pointer(pointer)?.as_f64();
    let error = text(status, "/samples/error");
    let is_damaged = ["/samples/damaged", "/samples/quarantined"]
        .into_iter()
        .any(|pointer| number(pointer).is_some_and(|count| count > 0.0));
    let health = match text(status, "/samples/health") {
        health if health == "ok" && is_damaged => "damaged".to_owned(),
        health => health,
    };
    let parts = [
        Some(health).filter(|health| !health.is_empty()),
        Some(error).filter(|error| !error.is_empty()),
        number("/samples/bytes").map(bytes),
        number("/samples/active_series").map(|series| format!("{series:.0} series")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// What values take in files: all of them, and by the kind of their metric.
fn each_value(status: &Value) -> String {
    let each = |of: &Value| Some(format!("{:.2}", of.get("bytes_per_sample")?.as_f64()?));
    let Some(all) = status.get("samples").and_then(each) else {
        return String::new();
    };
    let kinds = status.pointer("/samples/by_kind").and_then(Value::as_array);
    let kinds = kinds.into_iter().flatten();
    let kinds: Vec<String> = kinds
        .filter_map(|kind| Some(format!("{} {}", text(kind, "/kind"), each(kind)?)))
        .collect();
    match kinds.is_empty() {
        true => format!("{all} bytes"),
        false => format!("{all} bytes ({})", kinds.join(", ")),
    }
}

/// How far back each tier reaches.
fn kept(status: &Value) -> String {
    let reach = |tier: &str| {
        let oldest = status.pointer(&format!("/samples/{tier}/oldest"))?;
        let at = jiff::Timestamp::from_millisecond(millis(oldest)?).ok()?;
        Some(format!("{tier} since {}", at.strftime("%Y-%m-%d")))
    };
    let tiers = ["raw", "15m", "1h"].into_iter().filter_map(reach);
    tiers.collect::<Vec<_>>().join(", ")
}

/// When the disk is full: in the daemon's words, or in days.
fn disk(status: &Value) -> String {
    let words = text(status, "/samples/forecast");
    match status
        .pointer("/samples/disk_full_days")
        .and_then(Value::as_f64)
    {
        Some(days) if words.is_empty() => format!("full in {days:.0} days"),
        Some(_) | None => words,
    }
}

/// What the sample store wants to be known, with its word and its exit code.
fn samples_trouble(status: &Value) -> Option<(&'static str, u8, String)> {
    let health = text(status, "/samples/health");
    let warnings = text(status, "/samples/warnings");
    match health.as_str() {
        "" | "ok" if warnings.is_empty() => None,
        "" | "ok" => Some(("WARNING", 1, warnings)),
        _ => {
            let why = format!("samples: {health}: {}", text(status, "/samples/error"));
            Some(("CRITICAL", 2, why))
        }
    }
}

/// Says it as monitoring plugins do, whatever stands in the way.
pub(super) async fn check(
    client: Result<Client, Trouble>,
    output: &Output,
) -> Result<ExitCode, Trouble> {
    let status = match client {
        Ok(client) => client.get(PATH).await.map(|answer| answer.body),
        Err(trouble) => Err(trouble),
    };
    checked(status, output)
}

/// The last error, unless a mail got through since. Times are RFC 3339 in UTC, so
/// that their order is that of the text.
fn mail_error(status: &Value) -> String {
    if text(status, "/mail/last_success") > text(status, "/mail/last_error_at") {
        return String::new();
    }
    text(status, "/mail/last_error")
}

fn store(status: &Value) -> String {
    let health = text(status, "/store/health");
    let error = text(status, "/store/error");
    if error.is_empty() {
        health
    } else {
        format!("{health}: {error}")
    }
}

/// One line and an exit code, as monitoring plugins give them: 0 ok, 1 warning,
/// 2 critical, 3 unknown.
fn checked(status: Result<Value, Trouble>, output: &Output) -> Result<ExitCode, Trouble> {
    let status = match status {
        Ok(status) => status,
        Err(trouble) => {
            output.line(&format!(
                "SOTP UNKNOWN - {}",
                trouble.to_string().replace('\n', " ")
            ))?;
            return Ok(ExitCode::from(3));
        }
    };
    let warnings = text(&status, "/warnings");
    let of_samples = samples_trouble(&status);
    let critical = of_samples.clone().filter(|(_, code, _)| *code == 2);
    let (word, code, why) = if text(&status, "/store/health") != "ok" {
        ("CRITICAL", 2, store(&status))
    } else if let Some(critical) = critical {
        critical
    } else if !warnings.is_empty() {
        ("WARNING", 1, warnings)
    } else if let Some(warning) = of_samples {
        warning
    } else {
        (
            "OK",
            0,
            format!("{} devices up", text(&status, "/devices/up")),
        )
    };
    output.line(&format!("SOTP {word} - {}", crate::output::safe(&why)))?;
    Ok(ExitCode::from(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_sample_store_is_told_of_as_far_as_the_daemon_tells() {
        let status = json!({"samples": {
            "health": "not writing", "error": "no space left", "bytes": 5_368_709_120_u64,
            "bytes_per_sample": 1.049, "active_series": 100_000, "last_cut_seconds": 0.8,
            "by_kind": [
                {"kind": "counter64", "bytes_per_sample": 1.304},
                {"kind": "gauge", "bytes_per_sample": null},
            ],
            "raw": {"oldest": "2026-01-02T03:04:05Z"}, "15m": {"oldest": null},
            "1h": {"oldest": "2025-01-01T00:00:00Z"}, "sync_p99_seconds": null,
        }});
        assert_eq!(
            samples(&status),
            "not writing, no space left, 5.0 GiB, 100000 series"
        );
        for damage in ["damaged", "quarantined"] {
            let status = json!({"samples": {"health": "ok", damage: 1}});
            assert_eq!(samples(&status), "damaged");
        }
        let whole = json!({"samples": {"health": "ok", "damaged": 0, "quarantined": 0}});
        assert_eq!(samples(&whole), "ok");
        assert_eq!(each_value(&status), "1.05 bytes (counter64 1.30)");
        assert_eq!(kept(&status), "raw since 2026-01-02, 1h since 2025-01-01");
        assert_eq!(shown(&status, "/samples/last_cut_seconds"), "800.00 ms");
        assert_eq!(shown(&status, "/samples/sync_p99_seconds"), "");
        let days = json!({"samples": {"disk_full_days": 312.4}});
        assert_eq!(
            (disk(&days), disk(&status)),
            ("full in 312 days".into(), String::new())
        );
        for less in [json!({}), json!({"samples": null}), json!({"samples": {}})] {
            let told = [samples(&less), each_value(&less), kept(&less)];
            assert_eq!(told.concat(), "");
            assert_eq!(samples_trouble(&less), None);
        }
    }

    #[test]
    fn a_sample_store_that_does_not_write_is_critical_and_its_warnings_are_warnings() {
        let of = |samples: Value| samples_trouble(&json!({ "samples": samples }));
        assert_eq!(of(json!({"health": "ok", "warnings": []})), None);
        let soon = of(json!({"health": "ok", "warnings": ["the disk is full in 3 days"]}));
        let soon = soon.unwrap();
        assert_eq!((soon.0, soon.1), ("WARNING", 1));
        let unwell = of(json!({"health": "not writing", "error": "no space left"})).unwrap();
        let why = "samples: not writing: no space left".to_owned();
        assert_eq!(unwell, ("CRITICAL", 2, why));
    }
}
