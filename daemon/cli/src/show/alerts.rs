//! `sotp alerts …`.

use serde_json::Value;

use super::all;
use super::text::{ago, text};
use crate::client::{Client, query};
use crate::command::Alerts;
use crate::error::Trouble;
use crate::output::{Column, Output, column, talk};

const LIST: [Column; 7] = [
    column!("ID", 0, "/id"),
    column!("STATE", 0, "/state"),
    column!("SEVERITY", 3, "/severity"),
    column!("DEVICE", 0, "/device/name"),
    column!("RULE", 4, "/rule"),
    column!("AGE", 2, "/since", ago),
    column!("WHAT", 0, "/summary"),
];

pub(super) async fn run(command: &Alerts, client: &Client, output: &Output) -> Result<(), Trouble> {
    match command {
        Alerts::Ls {
            all: over,
            state,
            device,
            limit,
        } => {
            let open = (!over).then(|| "firing,unreachable".to_owned());
            let asked = query(&[
                ("state", state.clone().or(open)),
                ("device", device.clone()),
                (
                    "limit",
                    Some(limit.saturating_add(1).min(1_000).to_string()),
                ),
            ]);
            let most = usize::try_from(*limit).unwrap_or(usize::MAX);
            let path = format!("/api/v1/alerts{asked}");
            let mut alerts = all(client, &path, most.saturating_add(1)).await?;
            if alerts.len() > most {
                alerts.truncate(most);
                talk(&format!("the newest {most}; there are more: --limit"));
            }
            // what fires stands above what is only cut off by it
            alerts.sort_by_key(|alert| text(alert, "/state") == "unreachable");
            output.list("alerts", &alerts, &LIST, "nothing is wrong")
        }
        Alerts::Show { alert } => {
            let found = client.get(&format!("/api/v1/alerts/{alert}")).await?.body;
            show(&found, output)
        }
    }
}

fn show(alert: &Value, output: &Output) -> Result<(), Trouble> {
    let behind: Vec<_> = alert
        .get("unreachable")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|other| text(other, "/device/name"))
        .collect();
    let told: Vec<_> = alert
        .get("deliveries")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|mail| {
            format!(
                "{} ({}, {})",
                text(mail, "/to"),
                text(mail, "/event"),
                text(mail, "/state")
            )
        })
        .collect();
    output.item(
        alert,
        &[
            ("id", text(alert, "/id")),
            ("state", text(alert, "/state")),
            ("severity", text(alert, "/severity")),
            ("device", text(alert, "/device/name")),
            ("rule", text(alert, "/rule")),
            ("what", text(alert, "/summary")),
            ("note", text(alert, "/note")),
            ("since", text(alert, "/since")),
            ("fired", text(alert, "/fired")),
            ("resolved", text(alert, "/resolved")),
            ("behind it", behind.join(" ")),
            ("told", told.join("; ")),
        ],
    )
}
