//! `sotp status`: how the appliance itself is doing.

use std::process::ExitCode;

use serde_json::Value;

use super::text::{number, short_seconds, span, text};
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
            ("warnings", text(&status, "/warnings")),
        ],
    )
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
    let (word, code, why) = if text(&status, "/store/health") != "ok" {
        ("CRITICAL", 2, store(&status))
    } else if !warnings.is_empty() {
        ("WARNING", 1, warnings)
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
