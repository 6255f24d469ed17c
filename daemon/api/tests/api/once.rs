//! A POST with an `Idempotency-Key` is done once.

use std::collections::BTreeSet;

use model::Role;
use serde_json::{Value, json};

use crate::harness::{Answer, Served, served};

fn device(name: &str, address: &str) -> Value {
    json!({"name": name, "address": address})
}

async fn post(api: &Served, key: &str, path: &str, body: &Value) -> Answer {
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", key),
    ];
    let body = body.to_string();
    api.ask("POST", path, &headers, body.as_bytes()).await
}

#[tokio::test]
async fn the_same_request_again_gets_the_same_answer_and_does_nothing() {
    let api = served().await;
    let body = device("core1", "10.0.0.1");
    let first = post(&api, "key-1", "/api/v1/devices", &body).await;
    assert_eq!(first.status, 201);
    assert_eq!(first.header("idempotency-replayed"), None);
    // what it made may even be gone meanwhile
    api.delete("/api/v1/devices/core1").await.expect(200);
    let again = post(&api, "key-1", "/api/v1/devices", &body).await;
    assert_eq!((again.status, &again.body), (201, &first.body));
    for header in ["etag", "location", "content-type"] {
        assert_eq!(again.header(header), first.header(header), "{header}");
    }
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
    let list = api.get("/api/v1/devices?deleted=true").await.expect(200);
    assert_eq!(list["total"], 1);
}

#[tokio::test]
async fn a_key_belongs_to_one_body_one_path_and_one_caller() {
    let api = served().await;
    api.set_up().await;
    let body = device("core1", "10.0.0.1");
    post(&api, "key", "/api/v1/devices", &body)
        .await
        .expect(201);
    let other = post(&api, "key", "/api/v1/devices", &device("core2", "10.0.0.2")).await;
    assert_eq!(
        other.expect(422)["type"],
        "/problems/idempotency-key-reused"
    );
    // at another path it is another key
    let polled = post(&api, "key", "/api/v1/devices/1/poll", &json!({})).await;
    assert_eq!(
        (polled.status, polled.header("idempotency-replayed")),
        (202, None)
    );
    // of another caller, too: they get no answer that is not theirs
    let token = api.role(Role::Admin, None).await;
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", "key"),
    ];
    let text = body.to_string();
    let theirs = api
        .https(
            Some(&token),
            "POST",
            "/api/v1/devices",
            &headers,
            text.as_bytes(),
        )
        .await;
    theirs.expect(409);
}

#[tokio::test]
async fn a_request_that_was_refused_may_be_sent_again() {
    let api = served().await;
    let bad = json!({"name": "core1"});
    post(&api, "key", "/api/v1/devices", &bad).await.expect(422);
    let good = device("core1", "10.0.0.1");
    post(&api, "key", "/api/v1/devices", &good)
        .await
        .expect(201);
}

#[tokio::test]
async fn of_many_at_once_one_is_done() {
    let api = served().await;
    let body = device("core1", "10.0.0.1");
    let all = (0..20).map(|_| post(&api, "key", "/api/v1/devices", &body));
    let mut ids = BTreeSet::new();
    for answer in futures_util::future::join_all(all).await {
        match answer.status {
            201 => {
                ids.insert(answer.json()["id"].as_u64().unwrap());
            }
            409 => assert!(answer.body.contains("being done"), "{}", answer.body),
            other => panic!("{other}: {}", answer.body),
        }
    }
    assert_eq!(ids.len(), 1);
    let list = api.get("/api/v1/devices").await.expect(200);
    assert_eq!(list["total"], 1);
}

#[tokio::test]
async fn a_key_that_is_none_is_refused_and_so_is_one_where_the_answer_is_a_secret() {
    let api = served().await;
    let body = device("core1", "10.0.0.1");
    for key in ["", "a b", "ä", &"x".repeat(256)] {
        let answer = post(&api, key, "/api/v1/devices", &body).await;
        assert_eq!(answer.status, 400, "{key:?}: {}", answer.body);
    }
    for path in [
        "/api/v1/setup-links",
        "/api/v1/sessions",
        "/api/v1/tokens",
        "/api/v1/me/totp",
    ] {
        let answer = post(&api, "key", path, &json!({})).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.body);
        assert!(
            answer.body.contains("Idempotency-Key cannot be used"),
            "{path}: {}",
            answer.body
        );
    }
    // on other methods it says nothing
    let headers = [("idempotency-key", "a b")];
    api.ask("GET", "/api/v1/devices", &headers, b"")
        .await
        .expect(200);
}

#[tokio::test]
async fn an_import_is_done_once_too() {
    let api = served().await;
    let csv = b"name,address\ncore1,10.0.0.1\n";
    let headers = [
        ("content-type", "text/csv"),
        ("idempotency-key", "import-1"),
    ];
    let path = "/api/v1/devices/import";
    let first = api.ask("POST", path, &headers, csv).await;
    assert_eq!(first.expect(200)["created"], 1);
    let again = api.ask("POST", path, &headers, csv).await;
    assert_eq!(again.expect(200)["created"], 1);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
}
