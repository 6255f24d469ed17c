//! `sotp whoami|password|totp|sessions …`.

use std::path::Path;

use hyper::Method;
use serde_json::{Value, json};

use crate::client::{Client, If, query, segment};
use crate::command::{Password, Sessions, Totp};
use crate::error::Trouble;
use crate::input;
use crate::output::{Column, Output, column, talk};
use crate::roles::{shown, with_roles};

use super::text::{ago, text};
use super::{ROWS, all};

pub(super) async fn whoami(client: &Client, output: &Output) -> Result<(), Trouble> {
    let me = with_roles(client.get("/api/v1/me").await?.body);
    output.item(
        &me,
        &[
            ("who", text(&me, "/actor")),
            ("name", text(&me, "/user/full_name")),
            ("at", client.at().to_string()),
            ("roles", shown(&me).join(" ")),
            ("permissions", text(&me, "/permissions")),
            ("session", text(&me, "/session")),
            ("restricted", text(&me, "/restricted")),
        ],
    )
}

pub(super) async fn password(words: &Password, client: &Client) -> Result<(), Trouble> {
    let (old, new) = (
        words.old_password_file.as_deref(),
        words.new_password_file.as_deref(),
    );
    let stdin = Path::new("-");
    if old == Some(stdin) && new == Some(stdin) {
        return Err(Trouble::Usage(
            "standard input can hold one of the two, not both".into(),
        ));
    }
    let old = input::password(old, "Password so far: ", "--old-password-file FILE").await?;
    let new = input::new_password(new, "--new-password-file FILE").await?;
    let body = json!({ "old": old, "new": new });
    client
        .prove(Method::PUT, "/api/v1/me/password", &body)
        .await?;
    talk("the password is changed");
    Ok(())
}

pub(super) async fn totp(words: &Totp, client: &Client, output: &Output) -> Result<(), Trouble> {
    match words {
        Totp::Enable { password_file } => enable(password_file.as_deref(), client, output).await,
        Totp::Disable { password_file } => {
            let file = password_file.as_deref();
            let password = input::password(file, "Password: ", "--password-file FILE").await?;
            let body = json!({ "password": password });
            client
                .prove(Method::DELETE, "/api/v1/me/totp", &body)
                .await?;
            talk("no codes are asked for any more");
            Ok(())
        }
    }
}

/// The secret goes to standard error, so that `> file` keeps the recovery codes
/// and nothing else.
async fn enable(
    password_file: Option<&Path>,
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    if password_file == Some(Path::new("-")) {
        return Err(Trouble::Usage(
            "standard input holds the code; put the password into a file".into(),
        ));
    }
    let body = proof(password_file, client).await?;
    let offer = client
        .prove(Method::POST, "/api/v1/me/totp", &body)
        .await?
        .body;
    talk(&format!(
        "Enter this into an authenticator; it is shown this once.\n  secret  {}\n  URI     {}\nThen type the code that it shows:",
        text(&offer, "/secret"),
        text(&offer, "/uri")
    ));
    let code = input::stdin_line().await?.ok_or_else(|| {
        Trouble::NeedsConfirmation("no code came, so none is asked for from now on either".into())
    })?;
    let body = json!({ "code": code });
    let confirmed = client
        .prove(Method::PUT, "/api/v1/me/totp", &body)
        .await?
        .body;
    talk(
        "Codes are asked for from now on. Each of these lets you in once without; keep them apart from the authenticator:",
    );
    if output.is_json() {
        return output.document(&confirmed);
    }
    let codes = confirmed.get("recovery_codes").and_then(Value::as_array);
    codes
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .try_for_each(|code| output.said(code))
}

/// The password of who has one: whoever borrows a session must not set up
/// codes.
async fn proof(file: Option<&Path>, client: &Client) -> Result<Value, Trouble> {
    let me = client.get("/api/v1/me").await?.body;
    let has_one = me.pointer("/user/password_set") == Some(&Value::Bool(true));
    if file.is_none() && !has_one {
        return Ok(json!({}));
    }
    let password = input::password(file, "Password: ", "--password-file FILE").await?;
    Ok(json!({ "password": password }))
}

const SESSIONS: [Column; 8] = [
    column!("ID", 0, "/id"),
    column!("USER", 0, "/user"),
    column!("HOW", 3, "/how"),
    column!("FROM", 1, "/origin"),
    column!("WITH", 4, "/agent"),
    column!("SINCE", 2, "/created", ago),
    column!("USED", 2, "/used", ago),
    column!("CURRENT", 3, "/current"),
];

pub(super) async fn sessions(
    words: &Sessions,
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    match words {
        Sessions::Ls {
            user,
            all: everybody,
        } => {
            let path = match user.is_some() || *everybody {
                true => format!("/api/v1/sessions{}", query(&[("user", user.clone())])),
                false => "/api/v1/me/sessions".to_owned(),
            };
            let rows = all(client, &path, ROWS).await?;
            output.list("sessions", &rows, &SESSIONS, "nobody is signed in")
        }
        Sessions::End { session } => {
            end(session, client).await?;
            talk(&format!("session {session} is ended"));
            Ok(())
        }
    }
}

/// One's own needs no permission; anybody's other does.
async fn end(session: &str, client: &Client) -> Result<(), Trouble> {
    let own = format!("/api/v1/me/sessions/{}", segment(session));
    match client.delete(&own, If::Always).await {
        Err(trouble) if matches!(trouble.status(), Some(403 | 404)) => {
            let anybodys = format!("/api/v1/sessions/{}", segment(session));
            client.delete(&anybodys, If::Always).await.map(|_answer| ())
        }
        other => other.map(|_answer| ()),
    }
}
