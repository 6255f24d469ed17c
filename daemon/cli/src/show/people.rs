//! `sotp users|roles|policy|tenants …`.

use serde_json::{Map, Value, json};

use crate::client::{Client, If, segment};
use crate::command::{Limit, Policy, TenantFields, Tenants, UserFields, Users};
use crate::error::Trouble;
use crate::input;
use crate::output::{Column, Output, column, talk};
use crate::roles::{bodies, shown, with_roles};

use super::text::{NONE, ago, number, plain, text};
use super::{ROWS, all, text_or_null};

const USERS: [Column; 7] = [
    column!("NAME", 0, "/name"),
    column!("FULL NAME", 3, "/full_name"),
    column!("ROLES", 0, "/roles"),
    column!("ACTIVE", 1, "/active"),
    column!("CODES", 2, "/totp"),
    column!("LAST SIGN-IN", 2, "/last_login", ago),
    column!("EMAIL", 4, "/email"),
];

fn user_path(user: &str) -> String {
    format!("/api/v1/users/{}", segment(user))
}

pub(super) async fn users(words: &Users, client: &Client, output: &Output) -> Result<(), Trouble> {
    match words {
        Users::Ls => {
            let users = all(client, "/api/v1/users", ROWS).await?;
            let users: Vec<_> = users.into_iter().map(with_roles).collect();
            output.list("users", &users, &USERS, "nobody yet: sudo sotp setup")
        }
        Users::Show { user } => show_user(client.get(&user_path(user)).await?.body, output),
        Users::Add {
            user,
            fields,
            password_file,
            must_change,
        } => {
            let mut body = user_body(fields);
            body.insert("name".into(), json!(user));
            if let Some(file) = password_file {
                body.insert(
                    "password".into(),
                    json!(input::line(file, "the password").await?),
                );
            }
            if *must_change {
                body.insert("must_change_password".into(), json!(true));
            }
            add_user(
                user,
                password_file.is_some(),
                Value::Object(body),
                client,
                output,
            )
            .await
        }
        Users::Set {
            user,
            fields,
            active,
            inactive,
        } => {
            let mut body = user_body(fields);
            if *active || *inactive {
                body.insert("active".into(), json!(active));
            }
            something_to_change(&body, "users set")?;
            let changed = client
                .patch_seen(&user_path(user), &Value::Object(body))
                .await?;
            show_user(changed.body, output)
        }
        Users::Rm { user, yes } => {
            input::confirm("Remove", user, *yes).await?;
            client.delete_seen(&user_path(user)).await?;
            talk(&format!("{user} is removed"));
            Ok(())
        }
        Users::ResetPassword { user } => reset_password(user, client, output).await,
        Users::ResetTotp { user } => {
            reset_totp(user, client).await?;
            talk(&format!("{user} signs in without a code"));
            Ok(())
        }
        Users::SignOut { user } => {
            let path = format!("{}/sessions", user_path(user));
            client.delete(&path, If::Always).await?;
            talk(&format!("{user} is signed out everywhere"));
            Ok(())
        }
    }
}

async fn add_user(
    user: &str,
    has_password: bool,
    body: Value,
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    let added = client.post("/api/v1/users", &body).await?.body;
    if output.is_json() {
        return show_user(added, output);
    }
    talk(&match has_password {
        true => format!("{user} can sign in"),
        false => {
            format!("{user} is entered; a password to pass on: sotp users reset-password {user}")
        }
    });
    Ok(())
}

fn user_body(fields: &UserFields) -> Map<String, Value> {
    let mut body = Map::new();
    for (name, value) in [
        ("full_name", &fields.full_name),
        ("email", &fields.email),
        ("certificate", &fields.certificate),
    ] {
        if let Some(value) = value {
            body.insert(name.into(), text_or_null(value));
        }
    }
    if !fields.roles.is_empty() {
        body.insert("bindings".into(), bodies(&fields.roles));
    }
    body
}

fn something_to_change(body: &Map<String, Value>, command: &str) -> Result<(), Trouble> {
    match body.is_empty() {
        true => Err(Trouble::Usage(format!(
            "nothing to change: see sotp {command} --help"
        ))),
        false => Ok(()),
    }
}

fn show_user(user: Value, output: &Output) -> Result<(), Trouble> {
    let user = with_roles(user);
    output.item(
        &user,
        &[
            ("name", text(&user, "/name")),
            ("full name", text(&user, "/full_name")),
            ("email", text(&user, "/email")),
            ("roles", shown(&user).join(" ")),
            ("active", text(&user, "/active")),
            ("has a password", text(&user, "/password_set")),
            ("has to change it", text(&user, "/must_change_password")),
            ("codes", text(&user, "/totp")),
            ("certificate", text(&user, "/certificate")),
            ("openid issuer", text(&user, "/oidc/issuer")),
            ("openid subject", text(&user, "/oidc/subject")),
            ("last sign-in", text(&user, "/last_login")),
            ("entered", text(&user, "/created")),
            ("changed", text(&user, "/updated")),
        ],
    )
}

/// Prints a one-time password, alone on standard output.
pub(super) async fn reset_password(
    user: &str,
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    let path = format!("{}/password-reset", user_path(user));
    let reset = client.post_for_secret(&path, &json!({})).await?.body;
    talk(&format!(
        "{user} signs in with this once, and chooses another then; it is not shown again"
    ));
    match output.is_json() {
        true => output.document(&reset),
        false => output.said(&text(&reset, "/password")),
    }
}

/// Whoever has no authenticator needs none taken away.
pub(super) async fn reset_totp(user: &str, client: &Client) -> Result<(), Trouble> {
    let seen = client.get(&user_path(user)).await?;
    if text(&seen.body, "/totp") != "none" {
        let path = format!("{}/totp", user_path(user));
        client.delete(&path, seen.unchanged()).await?;
    }
    Ok(())
}

const ROLES: [Column; 3] = [
    column!("ROLE", 0, "/name"),
    column!("WHAT", 1, "/help"),
    column!("PERMISSIONS", 0, "/permissions"),
];

pub(super) async fn roles(client: &Client, output: &Output) -> Result<(), Trouble> {
    let answer = client.get("/api/v1/roles").await?.body;
    if output.is_json() {
        return output.document(&answer);
    }
    let rows = answer.get("items").and_then(Value::as_array);
    let rows = rows.cloned().unwrap_or_default();
    output.list("roles", &rows, &ROLES, "there are no roles")
}

pub(super) async fn policy(
    words: &Policy,
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    const PATH: &str = "/api/v1/policy";
    let policy = match words {
        Policy::Show => client.get(PATH).await?.body,
        Policy::Set { require_totp } => {
            let body = json!({ "require_totp": required(require_totp)? });
            client.patch_seen(PATH, &body).await?.body
        }
    };
    let codes = match text(&policy, "/require_totp") {
        nobody if nobody.is_empty() => "nobody".to_owned(),
        roles => roles,
    };
    output.item(&policy, &[("codes are required of", codes)])
}

fn required(words: &[String]) -> Result<Vec<String>, Trouble> {
    let nobody = words.iter().any(|word| word == "none");
    match (nobody, words.len()) {
        (true, 1) => Ok(Vec::new()),
        (true, _) => Err(Trouble::Usage(
            "none stands alone: it means that nobody has to".into(),
        )),
        (false, _) => Ok(words.iter().map(|word| word.to_ascii_uppercase()).collect()),
    }
}

const TENANTS: [Column; 5] = [
    column!("NAME", 0, "/name"),
    column!("DEVICES", 0, "/quota/devices", most),
    column!("SAMPLES/s", 1, "/quota/samples_per_second", most),
    column!("LOG LINES/s", 1, "/quota/log_lines_per_second", most),
    column!("NOTE", 2, "/note"),
];

/// A quota, or that there is none.
fn most(tenant: &Value, pointer: &str) -> String {
    match number(tenant, pointer, plain) {
        none if none == NONE => "any".to_owned(),
        number => number,
    }
}

fn tenant_path(tenant: &str) -> String {
    format!("/api/v1/tenants/{}", segment(tenant))
}

pub(super) async fn tenants(
    words: &Tenants,
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    match words {
        Tenants::Ls => {
            let tenants = all(client, "/api/v1/tenants", ROWS).await?;
            output.list("tenants", &tenants, &TENANTS, "you reach no tenant")
        }
        Tenants::Show { tenant } => {
            let found = client.get(&tenant_path(tenant)).await?.body;
            show_tenant(&found, output)
        }
        Tenants::Add { tenant, fields } => {
            let mut body = tenant_body(fields);
            body.insert("name".into(), json!(tenant));
            let added = client
                .post("/api/v1/tenants", &Value::Object(body))
                .await?
                .body;
            show_tenant(&added, output)
        }
        Tenants::Set { tenant, fields } => {
            let body = tenant_body(fields);
            something_to_change(&body, "tenants set")?;
            let changed = client
                .patch_seen(&tenant_path(tenant), &Value::Object(body))
                .await?;
            show_tenant(&changed.body, output)
        }
        Tenants::Rm { tenant, yes } => {
            input::confirm("Remove", tenant, *yes).await?;
            client.delete_seen(&tenant_path(tenant)).await?;
            talk(&format!("{tenant} is removed"));
            Ok(())
        }
    }
}

fn tenant_body(fields: &TenantFields) -> Map<String, Value> {
    let mut body = Map::new();
    if let Some(note) = &fields.note {
        body.insert("note".into(), text_or_null(note));
    }
    let mut quota = Map::new();
    for (name, limit) in [
        ("devices", fields.devices),
        ("samples_per_second", fields.samples_per_second),
        ("log_lines_per_second", fields.log_lines_per_second),
    ] {
        if let Some(Limit(most)) = limit {
            quota.insert(name.into(), json!(most));
        }
    }
    if !quota.is_empty() {
        body.insert("quota".into(), Value::Object(quota));
    }
    body
}

fn show_tenant(tenant: &Value, output: &Output) -> Result<(), Trouble> {
    output.item(
        tenant,
        &[
            ("name", text(tenant, "/name")),
            ("note", text(tenant, "/note")),
            ("devices", most(tenant, "/quota/devices")),
            ("samples/s", most(tenant, "/quota/samples_per_second")),
            ("log lines/s", most(tenant, "/quota/log_lines_per_second")),
            ("made", text(tenant, "/created")),
            ("changed", text(tenant, "/updated")),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_to_is_said_with_none_alone() {
        let read =
            |words: &[&str]| required(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(read(&["admin", "OPERATOR"]).unwrap(), ["ADMIN", "OPERATOR"]);
        assert!(read(&["none"]).unwrap().is_empty());
        assert!(read(&["none", "ADMIN"]).is_err());
    }

    #[test]
    fn only_what_was_said_is_changed() {
        let fields = TenantFields {
            note: Some(String::new()),
            devices: Some(Limit(None)),
            samples_per_second: Some(Limit(Some(9))),
            log_lines_per_second: None,
        };
        assert_eq!(
            Value::Object(tenant_body(&fields)),
            json!({"note": null, "quota": {"devices": null, "samples_per_second": 9}})
        );
    }
}
