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
            ("samples kept", kept(&status)),
            (
                "samples cut in",
                shown(&status, "/samples/last_cut_seconds"),
            ),
            (
                "samples synced in",
                shown(&status, "/samples/sync_p99_seconds"),
            ),
            ("disk full in", disk_full(&status)),
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
    let number = |pointer: &str| status.pointer(&format!("/samples{pointer}"))?.as_f64();
    let kinds = status
        .pointer("/samples/by_kind")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|kind| {
            let each = kind.get("bytes_per_sample")?.as_f64()?;
            Some(format!("{} {each:.2}", text(kind, "/kind")))
        });
    let kinds: Vec<String> = kinds.collect();
    let each = number("/bytes_per_sample").map(|each| match kinds.is_empty() {
        true => format!("{each:.2} bytes a value"),
        false => format!("{each:.2} bytes a value ({})", kinds.join(", ")),
    });
    let parts = [
        Some(text(status, "/samples/health")).filter(|health| !health.is_empty()),
        number("/bytes").map(bytes),
        each,
        number("/active_series").map(|series| format!("{series:.0} series")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
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

fn disk_full(status: &Value) -> String {
    match status.pointer("/samples/disk_full_days") {
        Some(Value::Number(days)) => format!("{:.0} days", days.as_f64().unwrap_or(0.0)),
        Some(_) | None => String::new(),
    }
}

/// What the sample store wants to be known of: why it is not well, or a warning.
fn samples_trouble(status: &Value) -> Option<(&'static str, u8, String)> {
    let health = text(status, "/samples/health");
    let warnings = text(status, "/samples/warnings");
    match (health.as_str(), warnings.as_str()) {
        ("" | "ok", "") => None,
        ("" | "ok", _) => Some(("WARNING", 1, warnings)),
        _ => Some((
            "CRITICAL",
            2,
            format!("samples: {health} {warnings}")
                .trim_end()
                .to_owned(),
        )),
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
    let (word, code, why) = if text(&status, "/store/health") != "ok" {
        ("CRITICAL", 2, store(&status))
    } else if let Some(critical) = of_samples.clone().filter(|(_, code, _)| *code == 2) {
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
            "health": "ok", "bytes": 5_368_709_120_u64, "bytes_per_sample": 1.049,
            "by_kind": [{"kind": "counter64", "bytes_per_sample": 1.3}, {"kind": "gauge"}],
            "active_series": 100_000, "raw": {"oldest": "2026-01-02T03:04:05Z"},
            "1h": {"oldest": 1_735_689_600}, "15m": {"oldest": null},
            "disk_full_days": 312.4, "last_cut_seconds": 0.8, "warnings": [],
        }});
        assert_eq!(
            samples(&status),
            "ok, 5.0 GiB, 1.05 bytes a value (counter64 1.30), 100000 series"
        );
        assert_eq!(kept(&status), "raw since 2026-01-02, 1h since 2025-01-01");
        assert_eq!(disk_full(&status), "312 days");
        assert_eq!(shown(&status, "/samples/last_cut_seconds"), "800.00 ms");
        assert_eq!(shown(&status, "/samples/sync_p99_seconds"), "");
        for less in [json!({}), json!({"samples": null}), json!({"samples": {}})] {
            assert_eq!(
                (samples(&less), kept(&less)),
                (String::new(), String::new())
            );
            assert_eq!(samples_trouble(&less), None);
        }
    }

    #[test]
    fn a_sample_store_that_is_not_well_is_critical_and_its_warnings_are_warnings() {
        let code = |samples: Value| {
            samples_trouble(&json!({ "samples": samples })).map(|(word, code, _)| (word, code))
        };
        assert_eq!(code(json!({"health": "ok", "warnings": []})), None);
        let warned = json!({"health": "ok", "warnings": ["the disk is full in 3 days"]});
        assert_eq!(code(warned), Some(("WARNING", 1)));
        let suspended = json!({"health": "suspended", "warnings": []});
        assert_eq!(code(suspended), Some(("CRITICAL", 2)));
    }
}
