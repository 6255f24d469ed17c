//! Carrying commands out: what is asked of the daemon and what is printed.

mod alerts;
mod devices;
mod others;
mod status;
mod text;

use std::process::ExitCode;

use serde_json::Value;

use crate::client::Client;
use crate::command::Command;
use crate::error::Trouble;
use crate::output::Output;

/// Pages fetched of one list: 100,000 items. More are asked for with a filter.
const PAGES: usize = 100;

/// Carries `command` out.
pub(crate) async fn run(
    command: &Command,
    client: &Client,
    output: &Output,
) -> Result<ExitCode, Trouble> {
    match command {
        Command::Devices(devices) => devices::run(devices, client, output).await?,
        Command::Alerts(alerts) => alerts::run(alerts, client, output).await?,
        Command::Rules(rules) => others::rules(rules, client, output).await?,
        Command::Outbox(outbox) => others::outbox(outbox, client, output).await?,
        Command::Credentials(names) => others::credentials(names, client, output).await?,
        Command::Notify(notify) => others::notify(notify, client, output).await?,
        Command::Status { check } => return status::run(*check, client, output).await,
        Command::Completions { .. } | Command::Man { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Every item of a list, page by page, at most `most` of them.
async fn all(client: &Client, path: &str, most: usize) -> Result<Vec<Value>, Trouble> {
    let mut items = Vec::new();
    let mut page_path = path.to_owned();
    for _page in 0..PAGES {
        let mut page = client.get(&page_path).await?.body;
        match page.get_mut("items").map(Value::take) {
            Some(Value::Array(mut more)) => items.append(&mut more),
            _ => return Err(Trouble::Garbled(format!("{path} has no items"))),
        }
        let Some(next) = page
            .get("next")
            .and_then(Value::as_str)
            .filter(|_| items.len() < most)
        else {
            break;
        };
        let joint = if path.contains('?') { '&' } else { '?' };
        page_path = format!("{path}{joint}cursor={}", crate::client::segment(next));
    }
    items.truncate(most);
    Ok(items)
}
