//! Secrets: set, referred to, never shown again.

use model::{Role, SecretName};
use serde_json::{Value, json};

use crate::harness::{Served, at_site, new_token, served};

async fn ready() -> Served {
    let api = served().await;
    api.set_up().await;
    api.tenant("acme").await;
    api
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_secret_is_set_referred_to_set_again_and_deleted() {
    let api = ready().await;
    let path = "/api/v1/secrets/smtp";
    let body = json!({"value": "canary-one", "note": "alerts@example.net"});
    let made = api.send("PUT", path, &body).await;
    let secret = made.expect(201);
    assert_eq!(secret["reference"], "secret://smtp");
    assert_eq!(secret["note"], "alerts@example.net");
    assert_eq!(secret["version"], 1);
    assert_eq!(secret["age_seconds"], 0);
    assert_eq!(secret["used_by"], json!([]));
    assert!(!made.body.contains("canary"));

    let body = json!({"value_base64": "AP9jYW5hcnk="});
    let next = api.send("PUT", path, &body).await.expect(200);
    assert_eq!(next["version"], 2);
    assert_eq!(next["note"], "alerts@example.net");
    assert_eq!(next["versions"].as_array().unwrap().len(), 2);
    let value = api.secrets.expose(&SecretName("smtp".into())).unwrap();
    assert_eq!(value.expose(), b"\x00\xffcanary");
    let shown = api.get(path).await;
    assert!(!shown.body.contains("canary") && !shown.body.contains("AP9"));
    assert_eq!(shown.expect(200), next);

    api.delete(path).await.expect(204);
    api.get(path).await.expect(404);
}

#[tokio::test]
async fn a_secret_that_is_used_stays_and_says_by_what() {
    let api = ready().await;
    let secret = "/api/v1/secrets/campus";
    api.send("PUT", secret, &json!({"value": "c"}))
        .await
        .expect(201);
    let credential = json!({"kind": "snmp-v2c", "secret": "secret://campus"});
    let path = "/api/v1/credentials/campus";
    api.send("PUT", path, &credential).await.expect(201);
    let used = api.get(secret).await.expect(200);
    assert_eq!(used["used_by"], json!(["credential:campus"]));
    let refused = api.delete(secret).await.expect(409);
    assert!(
        refused["detail"]
            .as_str()
            .unwrap()
            .contains("credential:campus")
    );
    api.delete(path).await.expect(204);
    api.delete(secret).await.expect(204);
}

#[tokio::test]
async fn a_change_says_which_version_it_is_meant_for() {
    let api = ready().await;
    let path = "/api/v1/secrets/smtp";
    let put = async |headers: &[(&str, &str)]| {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        api.ask("PUT", path, &all, br#"{"value":"x"}"#).await
    };
    put(&[("if-match", "\"1\"")]).await.expect(412);
    put(&[("if-none-match", "*")]).await.expect(201);
    put(&[]).await.expect(428);
    put(&[("if-none-match", "*")]).await.expect(412);
    put(&[("if-match", "\"7\"")]).await.expect(412);
    put(&[("if-match", "\"1\"")]).await.expect(200);
    put(&[("if-match", "*")]).await.expect(200);
    api.ask("DELETE", path, &[], b"").await.expect(428);
    let stale = [("if-match", "\"1\"")];
    api.ask("DELETE", path, &stale, b"").await.expect(412);
}

#[tokio::test]
async fn mistakes_are_named_and_never_repeat_the_value() {
    let api = ready().await;
    let canary = "canary-4711";
    for (name, body, place) in [
        (
            "smtp",
            json!({"value": canary, "value_base64": "eA=="}),
            "/value_base64",
        ),
        ("smtp", json!({"value": ""}), "/value"),
        ("smtp", json!({"value": canary.repeat(10_000)}), "/value"),
        ("smtp", json!({"value_base64": canary}), "/value_base64"),
        ("smtp", json!({"value": [canary]}), "/value"),
        ("smtp", json!({"note": "n"}), "/value"),
        ("smtp", json!({"value": canary, "version": 3}), "/version"),
        (".totp%2Fjane", json!({"value": canary}), ""),
        ("nobody%2Fsmtp", json!({"value": canary}), ""),
        ("acme%2Fa%2Fb", json!({"value": canary}), ""),
        ("acme%2F.token", json!({"value": canary}), ""),
        ("4711", json!({"value": canary}), ""),
    ] {
        let path = format!("/api/v1/secrets/{name}");
        let refused = api.send("PUT", &path, &body).await;
        assert!(!refused.body.contains(canary), "{}", refused.body);
        assert_eq!(refused.mistakes(422)[0].0, place, "{name} {}", refused.body);
    }
}

#[tokio::test]
async fn the_daemon_s_own_secrets_are_not_there() {
    let api = ready().await;
    let body = json!({"name": "jane", "password": "paint seven quiet otters", "must_change_password": false});
    api.post("/api/v1/users", &body).await.expect(201);
    let body = json!({"user": "jane", "password": "paint seven quiet otters"});
    let session = api
        .https_send(None, "POST", "/api/v1/sessions", &body)
        .await;
    let session = session.expect(201);
    let token = session["access_token"].as_str();
    let body = json!({"password": "paint seven quiet otters"});
    api.https_send(token, "POST", "/api/v1/me/totp", &body)
        .await
        .expect(200);
    let seed = SecretName(".totp/jane".into());
    assert!(api.store.secret(&seed).is_some());
    assert_eq!(api.get("/api/v1/secrets").await.expect(200)["total"], 0);
    for method in ["GET", "DELETE"] {
        let hidden = api
            .send(method, "/api/v1/secrets/.totp%2Fjane", &json!({}))
            .await;
        hidden.expect(404);
    }
}

#[tokio::test]
async fn secrets_of_other_tenants_are_not_there() {
    let api = ready().await;
    let value = json!({"value": "x"});
    api.send("PUT", "/api/v1/secrets/smtp", &value)
        .await
        .expect(201);
    api.send("PUT", "/api/v1/secrets/acme%2Fsmtp", &value)
        .await
        .expect(201);
    let scoped = api.role(Role::Admin, Some("acme")).await;
    let list = api
        .https_get(Some(&scoped), "/api/v1/secrets")
        .await
        .expect(200);
    assert_eq!(names(&list), ["acme/smtp"]);
    let own = "/api/v1/secrets/acme%2Fsmtp";
    api.https_get(Some(&scoped), own).await.expect(200);
    let other = "/api/v1/secrets/smtp";
    api.https_get(Some(&scoped), other).await.expect(404);
    let ask = async |method: &str, path: &str| {
        let headers = [("content-type", "application/json"), ("if-match", "*")];
        api.https(Some(&scoped), method, path, &headers, br#"{"value":"y"}"#)
            .await
    };
    ask("PUT", own).await.expect(200);
    ask("PUT", other).await.expect(404);
    ask("DELETE", other).await.expect(404);
    ask("DELETE", own).await.expect(204);

    let auditor = api.role(Role::Auditor, None).await;
    api.https_get(Some(&auditor), "/api/v1/secrets")
        .await
        .expect(200);
    let set = api
        .https_send(Some(&auditor), "PUT", "/api/v1/secrets/new", &value)
        .await;
    set.expect(403);
    let operator = api.role(Role::Operator, None).await;
    api.https_get(Some(&operator), "/api/v1/secrets")
        .await
        .expect(403);
    // who has a site of a tenant has none of what is the tenant's
    let site = vec![at_site(Role::Admin, "acme", "berlin")];
    let site = api.token(new_token("site", site, &[])).await;
    let list = api
        .https_get(Some(&site), "/api/v1/secrets")
        .await
        .expect(200);
    assert_eq!(list["total"], 0);
}

#[tokio::test]
async fn the_wrapping_key_is_told_by_name_and_changed_by_the_whole_appliance_s_people() {
    let api = ready().await;
    api.send("PUT", "/api/v1/secrets/smtp", &json!({"value": "x"}))
        .await
        .expect(201);
    let status = api.get("/api/v1/secrets-key").await.expect(200);
    assert_eq!(
        (&status["values"], &status["wrap"]),
        (&json!("embedded"), &json!("key"))
    );
    assert_eq!(status["keys"][0]["active"], true);
    assert_eq!(status["keys"][0]["id"], status["active_key"]);
    assert_eq!(status["oldest"]["name"], "smtp");
    assert_eq!(status["vault"], Value::Null);
    let none = api
        .post("/api/v1/secrets-key/rotate", &json!({}))
        .await
        .expect(409);
    assert!(
        none["detail"].as_str().unwrap().contains("no new key"),
        "{none}"
    );

    *api.daemon.new_key.lock().unwrap() = Some(secrets::WrappingKey::generate());
    let rotated = api
        .post("/api/v1/secrets-key/rotate", &json!({}))
        .await
        .expect(200);
    assert_eq!(rotated["dropped"], json!([status["active_key"]]));
    let after = api.get("/api/v1/secrets-key").await.expect(200);
    assert_eq!(after["active_key"], rotated["active"]);
    let value = api.secrets.expose(&SecretName("smtp".into())).unwrap();
    assert_eq!(value.expose(), b"x");

    let scoped = api.role(Role::Admin, Some("acme")).await;
    api.https_get(Some(&scoped), "/api/v1/secrets-key")
        .await
        .expect(403);
    let rotate = "/api/v1/secrets-key/rotate";
    api.https_send(Some(&scoped), "POST", rotate, &json!({}))
        .await
        .expect(403);
    let auditor = api.role(Role::Auditor, None).await;
    api.https_get(Some(&auditor), "/api/v1/secrets-key")
        .await
        .expect(200);
    api.https_send(Some(&auditor), "POST", rotate, &json!({}))
        .await
        .expect(403);
}

#[tokio::test]
async fn the_secrets_of_the_default_tenant_are_the_appliance_s() {
    let api = ready().await;
    let value = json!({"value": "the mail server's"});
    let smtp = "/api/v1/secrets/smtp";
    api.send("PUT", smtp, &value).await.expect(201);
    let limited = api.role(Role::Admin, Some("default")).await;
    let seen = api.https_get(Some(&limited), "/api/v1/secrets").await;
    assert_eq!(seen.expect(200)["total"], 0);
    api.https_get(Some(&limited), smtp).await.expect(404);
    for path in [smtp, "/api/v1/secrets/new"] {
        let headers = [("content-type", "application/json"), ("if-match", "*")];
        let put = api
            .https(Some(&limited), "PUT", path, &headers, br#"{"value":"y"}"#)
            .await;
        put.expect(404);
        let deleted = api
            .https_send(Some(&limited), "DELETE", path, &json!({}))
            .await;
        deleted.expect(404);
    }
    // nor can they have it sent to a device of theirs
    let steal = json!({"kind": "snmp-v2c", "secret": "secret://smtp"});
    let credential = "/api/v1/credentials/steal";
    let put = async |token: &str, body: &Value| {
        api.https_send(Some(token), "PUT", credential, body).await
    };
    put(&limited, &steal).await.expect(403);
    // a community that comes along is the tenant's
    let community = json!({"kind": "snmp-v2c", "community": "public"});
    put(&limited, &community).await.expect(201);
    let kept = api.secrets.expose(&SecretName("smtp".into())).unwrap();
    assert_eq!(kept.expose(), b"the mail server's");
    let auditor = api.role(Role::Auditor, None).await;
    let set = api.https_send(Some(&auditor), "PUT", smtp, &value).await;
    set.expect(403);
}
