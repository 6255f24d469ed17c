//! `sotp tokens …`.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::client::{Client, segment};
use crate::command::{Tokens, TokensAdd};
use crate::error::Trouble;
use crate::input;
use crate::output::{Column, Output, column, talk};
use crate::roles::{bodies, shown, with_roles};

use super::text::{ago, left, text};
use super::{ROWS, all, instant, qualified};

const PATH: &str = "/api/v1/tokens";

const TOKENS: [Column; 6] = [
    column!("NAME", 0, "/name"),
    column!("ID", 2, "/id"),
    column!("KIND", 3, "/kind"),
    column!("ROLES", 1, "/roles"),
    column!("ENDS IN", 0, "/expires", left),
    column!("LAST USED", 1, "/last_used", ago),
];

pub(super) async fn run(words: &Tokens, client: &Client, output: &Output) -> Result<(), Trouble> {
    match words {
        Tokens::Ls => {
            let tokens = all(client, PATH, ROWS).await?;
            let tokens: Vec<_> = tokens.into_iter().map(with_roles).collect();
            output.list("tokens", &tokens, &TOKENS, "no tokens")
        }
        Tokens::Show { token } => {
            let found = client.get(&path(token, client).await?).await?.body;
            show(found, output)
        }
        Tokens::Add(add) => make(add, client, output).await,
        Tokens::Revoke { token, yes } => {
            input::confirm("Revoke", token, *yes).await?;
            client.delete_seen(&path(token, client).await?).await?;
            talk(&format!("{token} lets nobody in any more"));
            Ok(())
        }
    }
}

/// The path of the token with this number or name.
async fn path(token: &str, client: &Client) -> Result<String, Trouble> {
    let known = all(client, PATH, ROWS).await?;
    let called = |field: &str| {
        let mut named = known.iter().filter(|row| text(row, field) == token);
        (named.next(), named.next())
    };
    match (called("/id").0, called("/name")) {
        (Some(one), _) | (None, (Some(one), None)) => {
            Ok(format!("{PATH}/{}", segment(&text(one, "/id"))))
        }
        (None, (Some(_), Some(_))) => Err(Trouble::NotNow(format!(
            "several tokens are called {token}: say which by its number; sotp tokens ls"
        ))),
        (None, (None, _)) => Err(Trouble::refused(404, format!("there is no token {token}"))),
    }
}

fn show(token: Value, output: &Output) -> Result<(), Trouble> {
    let token = with_roles(token);
    output.item(
        &token,
        &[
            ("name", text(&token, "/name")),
            ("id", text(&token, "/id")),
            ("kind", text(&token, "/kind")),
            ("roles", shown(&token).join(" ")),
            ("only", text(&token, "/permissions")),
            ("requests/min", text(&token, "/requests_per_minute")),
            ("ends", text(&token, "/expires")),
            ("last used", text(&token, "/last_used")),
            ("last used from", text(&token, "/last_used_from")),
            ("made by", text(&token, "/created_by")),
            ("made", text(&token, "/created")),
        ],
    )
}

/// The token stands alone on standard output, so that `> file` keeps it.
async fn make(add: &TokensAdd, client: &Client, output: &Output) -> Result<(), Trouble> {
    let body = body(add, Timestamp::now())?;
    let made = client.post_for_secret(PATH, &body).await?.body;
    talk(&format!(
        "{} ends {}; the token is printed this once: whoever has it is let in",
        text(&made, "/name"),
        text(&made, "/expires")
    ));
    match output.is_json() {
        true => output.document(&with_roles(made)),
        false => output.said(&text(&made, "/token")),
    }
}

fn body(add: &TokensAdd, now: Timestamp) -> Result<Value, Trouble> {
    let mut body = Map::new();
    let name = qualified(add.tenant.as_deref(), &add.name)?;
    body.insert("name".into(), json!(name));
    let kind = if add.hmac { "hmac" } else { "bearer" };
    body.insert("kind".into(), json!(kind));
    body.insert("bindings".into(), bodies(&add.roles));
    if !add.permissions.is_empty() {
        body.insert("permissions".into(), json!(add.permissions));
    }
    if let Some(most) = add.requests_per_minute {
        body.insert("requests_per_minute".into(), json!(most));
    }
    body.insert("expires".into(), json!(end(&add.expires, now)?));
    Ok(Value::Object(body))
}

/// `90d` and the like from now on, or an instant.
fn end(text: &str, now: Timestamp) -> Result<String, Trouble> {
    let after = |span: SignedDuration| now.checked_add(span).ok();
    let bad = || Trouble::Usage(format!("{text:?} is no end: like 90d, 12h or 2027-01-01"));
    let found = super::span(text).and_then(after).or_else(|| instant(text));
    let end = found.ok_or_else(bad)?;
    // whole seconds: an end is no measurement
    Ok(Timestamp::from_second(end.as_second())
        .unwrap_or(end)
        .to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_span_from_now_or_a_date() {
        let now: Timestamp = "2026-01-01T00:00:00.5Z".parse().unwrap();
        for (text, expected) in [
            ("90d", "2026-04-01T00:00:00Z"),
            ("12h", "2026-01-01T12:00:00Z"),
            ("2027-01-01", "2027-01-01T00:00:00Z"),
            ("2027-01-01T10:00:00+02:00", "2027-01-01T08:00:00Z"),
        ] {
            assert_eq!(end(text, now).unwrap(), expected);
        }
        for bad in ["", "soon", "-1d", "90", "d", "2027-13-01", "9999999999999d"] {
            assert!(end(bad, now).is_err(), "{bad}");
        }
    }
}
