//! `sotp secrets …`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use crate::client::{Client, segment};
use crate::command::Secrets;
use crate::error::Trouble;
use crate::input;
use crate::output::{Column, Output, column, talk};

use super::text::{number, span, text};
use super::{ROWS, all, text_or_null};

/// The largest secret; the daemon has the same limit.
const VALUE_BYTES: u64 = 64 * 1024;

const SECRETS: [Column; 5] = [
    column!("NAME", 0, "/name"),
    column!("VERSION", 1, "/version"),
    column!("AGE", 0, "/age_seconds", number span),
    column!("USED BY", 1, "/used_by"),
    column!("NOTE", 2, "/note"),
];

fn path(name: &str) -> String {
    format!("/api/v1/secrets/{}", segment(name))
}

pub(super) async fn run(words: &Secrets, client: &Client, output: &Output) -> Result<(), Trouble> {
    match words {
        Secrets::Ls => {
            let secrets = all(client, "/api/v1/secrets", ROWS).await?;
            output.list("secrets", &secrets, &SECRETS, "no secrets")
        }
        Secrets::Show { name } => show(&client.get(&path(name)).await?.body, output),
        Secrets::Set {
            name,
            value_file,
            note,
        } => {
            let mut body = value(input::read(value_file, VALUE_BYTES).await?)?;
            if let Some(note) = note {
                body.insert("note".into(), text_or_null(note));
            }
            let set = client.put_seen(&path(name), &Value::Object(body)).await?;
            match output.is_json() {
                true => show(&set.body, output),
                false => {
                    let version = text(&set.body, "/version");
                    talk(&format!(
                        "{name} is set (version {version}); refer to it as secret://{name}"
                    ));
                    Ok(())
                }
            }
        }
        Secrets::Rm { name, yes } => {
            input::confirm("Remove", name, *yes).await?;
            client.delete_seen(&path(name)).await?;
            talk(&format!("{name} is removed"));
            Ok(())
        }
        Secrets::Key => show_key(&client.get("/api/v1/secrets-key").await?.body, output),
        Secrets::RotateKey => {
            let rotated = client
                .post("/api/v1/secrets-key/rotate", &json!({}))
                .await?
                .body;
            output.item(
                &rotated,
                &[
                    ("key in use", text(&rotated, "/active")),
                    ("wrapped anew", text(&rotated, "/rewrapped")),
                    ("dropped", text(&rotated, "/dropped")),
                ],
            )
        }
    }
}

/// Text as text, and without the end of its only line, which editors and `echo`
/// put there; anything else as it is.
fn value(bytes: Vec<u8>) -> Result<Map<String, Value>, Trouble> {
    if bytes.is_empty() || bytes == b"\n" {
        return Err(Trouble::Usage("the value is empty".into()));
    }
    let (field, value) = match String::from_utf8(bytes) {
        Err(error) => ("value_base64", BASE64_STANDARD.encode(error.as_bytes())),
        Ok(text) => match text.trim_end_matches(['\r', '\n']) {
            line if !line.contains('\n') => ("value", line.to_owned()),
            _several => ("value", text),
        },
    };
    Ok(Map::from_iter([(field.to_owned(), json!(value))]))
}

fn show(secret: &Value, output: &Output) -> Result<(), Trouble> {
    let versions: Vec<_> = secret
        .get("versions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|version| {
            format!(
                "{} ({} by {})",
                text(version, "/version"),
                text(version, "/created"),
                text(version, "/created_by")
            )
        })
        .collect();
    output.item(
        secret,
        &[
            ("name", text(secret, "/name")),
            ("reference", text(secret, "/reference")),
            ("note", text(secret, "/note")),
            ("age", number(secret, "/age_seconds", span)),
            ("versions", versions.join("; ")),
            ("used by", text(secret, "/used_by")),
            ("made", text(secret, "/created")),
            ("set", text(secret, "/updated")),
        ],
    )
}

fn show_key(status: &Value, output: &Output) -> Result<(), Trouble> {
    let keys: Vec<_> = status
        .get("keys")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|key| {
            format!(
                "{} (since {}, wraps {})",
                text(key, "/id"),
                text(key, "/created"),
                text(key, "/sealed")
            )
        })
        .collect();
    output.item(
        status,
        &[
            ("values are kept by", text(status, "/values")),
            ("keys are wrapped by", text(status, "/wrap")),
            ("key in use", text(status, "/active_key")),
            ("keys", keys.join("; ")),
            ("secrets", text(status, "/secrets")),
            ("in the vault", text(status, "/in_vault")),
            ("oldest", text(status, "/oldest/name")),
            ("oldest was set", text(status, "/oldest/set")),
            ("vault", text(status, "/vault/address")),
            ("vault answers", text(status, "/vault/up")),
            ("vault error", text(status, "/vault/last_error")),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_only_line_is_not_part_of_the_secret() {
        let body = |bytes: &[u8]| Value::Object(value(bytes.to_vec()).unwrap());
        assert_eq!(body(b"hunter2\r\n"), json!({"value": "hunter2"}));
        assert_eq!(body(b" spaces "), json!({"value": " spaces "}));
        assert_eq!(body(b"a\nb\n"), json!({"value": "a\nb\n"}));
        assert_eq!(body(b"\xff\n"), json!({"value_base64": "/wo="}));
        assert!(value(b"\n".to_vec()).is_err() && value(Vec::new()).is_err());
    }
}
