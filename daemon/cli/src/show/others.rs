//! `sotp rules|outbox|credentials|notify …`.

use std::time::Duration;

use serde_json::{Value, json};

use super::devices::put_community;
use super::text::{ago, text};
use super::{ROWS, all, qualified};
use crate::client::{Client, query, segment};
use crate::command::{Credentials, Notify, Outbox, Rules};
use crate::error::Trouble;
use crate::output::{Column, Output, column, talk};

/// How long a test mail may take before we say that it is still on its way.
const TEST_PATIENCE: Duration = Duration::from_secs(35);

/// Between two looks at a test mail.
const TEST_LOOK: Duration = Duration::from_millis(250);

const RULES: [Column; 5] = [
    column!("NAME", 0, "/name"),
    column!("SEVERITY", 1, "/severity"),
    column!("ENABLED", 1, "/enabled"),
    column!("CONDITION", 0, = condition),
    column!("FROM", 2, "/source"),
];

/// A rule's condition in one line, as it stands in a rules file.
fn condition(rule: &Value) -> String {
    let Some((kind, fields)) = ["availability", "threshold"]
        .into_iter()
        .find_map(|kind| rule.get(kind)?.as_object().map(|fields| (kind, fields)))
    else {
        return String::new();
    };
    let shown = fields
        .iter()
        .filter(|(_, value)| !value.is_null() && value.as_object().is_none_or(|o| !o.is_empty()))
        .map(|(name, value)| {
            format!(
                "{name}={}",
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            )
        });
    format!("{kind} {}", shown.collect::<Vec<_>>().join(" "))
}

pub(super) async fn rules(
    command: &Rules,
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    match command {
        Rules::Ls => {
            let rules = all(client, "/api/v1/rules", ROWS).await?;
            output.list("rules", &rules, &RULES, "no rules: nothing is judged")
        }
        Rules::Show { rule, tenant } => {
            let name = qualified(tenant.as_deref(), rule)?;
            let rule = client
                .get(&format!("/api/v1/rules/{}", segment(&name)))
                .await?
                .body;
            output.item(
                &rule,
                &[
                    ("name", text(&rule, "/name")),
                    ("severity", text(&rule, "/severity")),
                    ("enabled", text(&rule, "/enabled")),
                    ("condition", condition(&rule)),
                    ("devices", text(&rule, "/match/devices")),
                    ("sites", text(&rule, "/match/sites")),
                    ("kinds", text(&rule, "/match/kinds")),
                    ("tags", text(&rule, "/match/tags")),
                    ("note", text(&rule, "/note")),
                    ("from", text(&rule, "/source")),
                ],
            )
        }
    }
}

const OUTBOX: [Column; 8] = [
    column!("ID", 0, "/id"),
    column!("STATE", 0, "/state"),
    column!("TO", 0, "/to"),
    column!("EVENT", 2, "/event"),
    column!("ALERT", 3, "/alert"),
    column!("AGE", 2, "/created", ago),
    column!("TRIES", 4, "/attempts"),
    column!("LAST ERROR", 1, "/last_error"),
];

pub(super) async fn outbox(
    command: &Outbox,
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    match command {
        Outbox::Ls { state } => {
            let asked = query(&[("state", state.clone()), ("limit", Some("1000".into()))]);
            let mails = all(client, &format!("/api/v1/outbox{asked}"), ROWS).await?;
            output.list(
                "outbox",
                &mails,
                &OUTBOX,
                "no mail waits, and none was sent",
            )
        }
        Outbox::Retry { id } => {
            client
                .post(&format!("/api/v1/outbox/{id}/retry"), &json!({}))
                .await?;
            talk(&format!("mail {id} is tried again now: sotp outbox ls"));
            Ok(())
        }
    }
}

const CREDENTIALS: [Column; 5] = [
    column!("NAME", 0, "/name"),
    column!("KIND", 0, "/kind"),
    column!("DEVICES", 1, "/devices"),
    column!("SECRET", 3, "/secret"),
    column!("CHANGED", 2, "/updated"),
];

pub(super) async fn credentials(
    command: &Credentials,
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    match command {
        Credentials::Ls => {
            let credentials = all(client, "/api/v1/credentials", ROWS).await?;
            output.list("credentials", &credentials, &CREDENTIALS, "no credentials")
        }
        Credentials::Set {
            name,
            snmp_community_file,
            secret,
            tenant,
        } => {
            let name = qualified(tenant.as_deref(), name)?;
            match (snmp_community_file, secret) {
                (Some(file), _) => put_community(&name, file, client).await?,
                (None, Some(secret)) => put_reference(&name, secret, client).await?,
                (None, None) => return Err(Trouble::Usage("where is the community?".into())),
            }
            talk(&format!("{name} is set"));
            Ok(())
        }
        Credentials::Rm { name, tenant } => {
            let name = qualified(tenant.as_deref(), name)?;
            client
                .delete_seen(&format!("/api/v1/credentials/{}", segment(&name)))
                .await?;
            talk(&format!("{name} is removed"));
            Ok(())
        }
    }
}

/// Sets a credential whose community is a secret that is kept already.
async fn put_reference(name: &str, secret: &str, client: &Client) -> Result<(), Trouble> {
    let body = json!({ "kind": "snmp-v2c", "secret": secret });
    let path = format!("/api/v1/credentials/{}", segment(name));
    client.put_seen(&path, &body).await?;
    Ok(())
}

pub(super) async fn notify(
    command: &Notify,
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    let Notify::Test { to } = command;
    let body = if to.is_empty() {
        json!({})
    } else {
        json!({ "to": to })
    };
    let sent = client.post("/api/v1/notify/test", &body).await?.body;
    let ids: Vec<u64> = sent
        .get("outbox")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_u64)
        .collect();
    let mut mails = Vec::new();
    for id in ids {
        mails.push(settled(id, client).await?);
    }
    output.list("outbox", &mails, &OUTBOX, "nobody is to be told")?;
    let failed = mails
        .iter()
        .filter(|mail| text(mail, "/state") != "delivered")
        .count();
    if failed > 0 {
        return Err(Trouble::Partly(format!(
            "{failed} of {} test mails were not delivered yet; sotp outbox ls shows how it goes on",
            mails.len()
        )));
    }
    Ok(())
}

/// The test mail once it was tried, or as it is when patience ends.
async fn settled(id: u64, client: &Client) -> Result<Value, Trouble> {
    let until = tokio::time::Instant::now() + TEST_PATIENCE;
    loop {
        let mail = client.get(&format!("/api/v1/outbox/{id}")).await?.body;
        let waits = text(&mail, "/state") == "queued" && text(&mail, "/last_error").is_empty();
        if !waits || tokio::time::Instant::now() >= until {
            return Ok(mail);
        }
        tokio::time::sleep(TEST_LOOK).await;
    }
}
