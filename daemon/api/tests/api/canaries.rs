//! What is secret goes in and never comes out: not in any answer to any
//! question that can be asked.

use std::time::Duration;

use serde_json::{Value, json};

use crate::document::{document, operations};
use crate::harness::{NOW, Served, served};

const PASSWORD: &str = "canary paints seven quiet otters";
const NEXT: &str = "canary borrows ninety grey kettles";
const COMMUNITY: &str = "canary-community-4711";
const SECRET: &str = "canary-secret-4711";

/// Puts a canary wherever a secret can be put, and returns all of them, those
/// too that the daemon made and showed once.
async fn put_canaries(api: &Served) -> Vec<String> {
    let mut canaries: Vec<String> = [PASSWORD, NEXT, COMMUNITY, SECRET]
        .map(str::to_owned)
        .into();
    let body = json!({"token": offer(api, &mut canaries), "user": "root", "password": PASSWORD});
    api.https_send(None, "POST", "/api/v1/setup", &body)
        .await
        .expect(201);
    let expires = NOW.plus(Duration::from_secs(86_400)).to_string();

    let device = json!({"name": "x", "address": "192.0.2.1", "snmp_community": COMMUNITY});
    api.post("/api/v1/devices", &device).await.expect(201);
    let credential = json!({"kind": "snmp-v2c", "community": COMMUNITY});
    api.send("PUT", "/api/v1/credentials/y", &credential)
        .await
        .expect(201);
    for value in [SECRET, "canary-secret-4712"] {
        let body = json!({"value": value, "note": "of the mail account"});
        let set = api.send("PUT", "/api/v1/secrets/x", &body).await;
        assert_eq!(set.status / 100, 2, "{}", set.body);
    }
    canaries.push("canary-secret-4712".into());
    let user = json!({"name": "x", "password": PASSWORD, "must_change_password": false});
    api.post("/api/v1/users", &user).await.expect(201);
    for kind in ["bearer", "hmac"] {
        let body = json!({"name": kind, "kind": kind, "bindings": [{"role": "READONLY"}], "expires": expires});
        let made = api.post("/api/v1/tokens", &body).await.expect(201);
        canaries.push(shown(&made, "token"));
    }
    canaries.extend(person(api).await);
    let reset = api.post("/api/v1/users/x/password-reset", &json!({})).await;
    canaries.push(shown(&reset.expect(200), "password"));
    canaries
}

/// The token of a link.
fn offer(api: &Served, canaries: &mut Vec<String>) -> String {
    let offer = api.access.offer_setup(NOW).unwrap();
    canaries.push(offer.token.expose().to_owned());
    offer.token.expose().to_owned()
}

/// What somebody is shown who signs in, sets codes up and changes their
/// password.
async fn person(api: &Served) -> Vec<String> {
    let body = json!({"user": "x", "password": PASSWORD});
    let session = api
        .https_send(None, "POST", "/api/v1/sessions", &body)
        .await;
    let session = session.expect(201);
    let access = shown(&session, "access_token");
    let totp = "/api/v1/me/totp";
    let offer = api
        .https_send(Some(&access), "POST", totp, &json!({"password": PASSWORD}))
        .await;
    let seed = shown(&offer.expect(200), "secret");
    let secret = totp_rs::Secret::try_from_base32(&seed).unwrap();
    let generator = totp_rs::Builder::new()
        .with_secret(secret)
        .build_noncompliant();
    let body = json!({"code": generator.generate(NOW.0 / 1000).to_string()});
    let codes = api
        .https_send(Some(&access), "PUT", totp, &body)
        .await
        .expect(200);
    let body = json!({"old": PASSWORD, "new": NEXT});
    let path = "/api/v1/me/password";
    api.https_send(Some(&access), "PUT", path, &body)
        .await
        .expect(204);
    let mut all: Vec<String> = serde_json::from_value(codes["recovery_codes"].clone()).unwrap();
    all.extend([access, shown(&session, "refresh_token"), seed]);
    all
}

fn shown(answer: &Value, field: &str) -> String {
    answer[field].as_str().unwrap().to_owned()
}

/// Every path that can be read, with what is there in the place of its parts.
fn readable() -> Vec<String> {
    let mut paths = Vec::new();
    for (path, method, _) in operations(&document()) {
        if method != "get" {
            continue;
        }
        for part in ["1", "x", "y", "icmp_up"] {
            let filled: Vec<&str> = path
                .split('/')
                .map(|step| if step.starts_with('{') { part } else { step })
                .collect();
            let filled = filled.join("/");
            if !paths.contains(&filled) {
                paths.push(filled);
            }
        }
    }
    paths
}

#[tokio::test]
async fn no_answer_to_any_question_holds_a_secret() {
    let api = served().await;
    let canaries = put_canaries(&api).await;
    let stored = ["$argon2", "argon2id"].map(str::to_owned);
    let paths = readable();
    assert!(paths.len() > 40, "{paths:?}");
    let mut good = 0;
    for path in paths {
        for accept in ["application/json", "application/x-ndjson", "text/csv"] {
            let answer = api.ask("GET", &path, &[("accept", accept)], b"").await;
            assert!(
                answer.status < 500 || path == "/health/ready",
                "{path}: {}",
                answer.body
            );
            good += usize::from(answer.status == 200);
            let headers = format!("{:?}", answer.headers);
            for canary in canaries.iter().chain(&stored) {
                assert!(!answer.body.contains(canary), "{canary} is in {path}");
                assert!(
                    !headers.contains(canary),
                    "{canary} is in the head of {path}"
                );
            }
        }
    }
    assert!(good > 100, "only {good} answers had anything in them");
}

#[tokio::test]
async fn a_refused_request_does_not_repeat_what_it_was_sent() {
    let api = served().await;
    api.set_up().await;
    for (method, path, body) in [
        (
            "POST",
            "/api/v1/users",
            json!({"name": "a b", "password": SECRET}),
        ),
        (
            "POST",
            "/api/v1/users",
            json!({"name": "a", "password": [SECRET]}),
        ),
        (
            "POST",
            "/api/v1/setup",
            json!({"token": SECRET, "user": "a", "password": SECRET}),
        ),
        (
            "POST",
            "/api/v1/sessions",
            json!({"user": "a", "password": SECRET, "code": SECRET}),
        ),
        (
            "POST",
            "/api/v1/sessions/refresh",
            json!({"refresh_token": SECRET}),
        ),
        (
            "PUT",
            "/api/v1/secrets/x",
            json!({"value": SECRET, "value_base64": SECRET}),
        ),
        (
            "PUT",
            "/api/v1/credentials/x",
            json!({"kind": "v9", "community": SECRET}),
        ),
        (
            "PUT",
            "/api/v1/me/password",
            json!({"old": SECRET, "new": SECRET}),
        ),
        ("PUT", "/api/v1/me/totp", json!({"code": SECRET})),
    ] {
        let refused = api.send(method, path, &body).await;
        assert!(refused.status >= 400, "{method} {path}");
        assert!(
            !refused.body.contains(SECRET),
            "{method} {path}: {}",
            refused.body
        );
    }
    api.https_get(Some(SECRET), "/api/v1/me").await.expect(401);
    let log = api.get("/api/v1/audit").await;
    assert!(!log.body.contains(SECRET));
}
