//! Tokens of services.

use std::time::Duration;

use model::{Permission, Role};
use serde_json::{Value, json};

use crate::harness::{NOW, Served, binding, new_token, served};

async fn ready() -> Served {
    let api = served().await;
    api.set_up().await;
    api.tenant("acme").await;
    api
}

fn tomorrow() -> String {
    NOW.plus(Duration::from_secs(86_400)).to_string()
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_token_is_shown_once_lets_its_service_in_and_is_revoked() {
    let api = ready().await;
    let body = json!({
        "name": "backup",
        "bindings": [{"role": "READONLY"}],
        "permissions": ["devices:read"],
        "expires": tomorrow(),
    });
    let made = api.post("/api/v1/tokens", &body).await;
    let view = made.expect(201);
    let token = view["token"].as_str().unwrap();
    assert!(token.starts_with(&format!("sotp_{}_", view["id"].as_str().unwrap())));
    assert_eq!(view["kind"], "bearer");
    assert_eq!(view["requests_per_minute"], 600);
    assert_eq!(view["created_by"], format!("uid:{}", uid()));
    assert_eq!(view["expired"], false);

    api.https_get(Some(token), "/api/v1/devices")
        .await
        .expect(200);
    api.https_get(Some(token), "/api/v1/rules")
        .await
        .expect(403);
    let path = made.header("location").unwrap();
    // its use is written down with the next commit
    api.store.heartbeat().await.unwrap();
    let shown = api.get(path).await;
    assert!(!shown.body.contains(token));
    let shown = shown.expect(200);
    assert_eq!(shown["last_used"], NOW.to_string());
    assert_eq!(shown["last_used_from"], "127.0.0.1");
    let list = api.get("/api/v1/tokens").await;
    assert!(!list.body.contains(token));

    api.delete(path).await.expect(204);
    api.https_get(Some(token), "/api/v1/devices")
        .await
        .expect(401);
    api.get(path).await.expect(404);
}

/// Whose tests these are.
fn uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid()
}

#[tokio::test]
async fn every_mistake_in_a_token_is_named() {
    let api = ready().await;
    let places = async |body: Value| {
        let answer = api.post("/api/v1/tokens", &body).await;
        let mistakes = answer.mistakes(422).into_iter();
        mistakes.map(|(place, _)| place).collect::<Vec<_>>()
    };
    let wrong = json!({
        "name": "nobody/x",
        "kind": "basic",
        "bindings": [{"role": "ROOT"}],
        "permissions": ["devices:fly"],
        "expires": "tomorrow",
        "requests_per_minute": 0,
        "token": "sotp_x",
    });
    let mut found = places(wrong).await;
    found.sort();
    assert_eq!(
        found,
        [
            "/bindings/0/role",
            "/expires",
            "/kind",
            "/name",
            "/permissions/0",
            "/requests_per_minute",
            "/token",
        ]
    );
    let bare = json!({"name": "x", "expires": tomorrow()});
    assert_eq!(places(bare).await, ["/bindings"]);
    let two_years = NOW.plus(Duration::from_secs(2 * 366 * 86_400));
    for expires in [NOW, two_years] {
        let body = json!({"name": "x", "bindings": [{"role": "READONLY"}], "expires": expires.to_string()});
        assert_eq!(places(body).await, ["/expires"]);
    }
}

#[tokio::test]
async fn nobody_makes_a_token_that_may_do_more_than_they_may() {
    let api = ready().await;
    let scoped = api.role(Role::Admin, Some("acme")).await;
    let make = async |name: &str, bindings: Value| {
        let body = json!({"name": name, "bindings": bindings, "expires": tomorrow()});
        api.https_send(Some(&scoped), "POST", "/api/v1/tokens", &body)
            .await
    };
    let own = json!([{"role": "ADMIN", "tenant": "acme"}]);
    make("acme/script", own.clone()).await.expect(201);
    // what is of a tenant acts in it alone
    make("acme/wider", json!([{"role": "READONLY"}]))
        .await
        .expect(422);
    let other = json!([{"role": "READONLY", "tenant": "default"}]);
    make("acme/other", other).await.expect(422);
    // a tenant whose tokens are not theirs
    make("script", own).await.expect(404);
    let limited = [Permission::TokensRead, Permission::TokensWrite];
    let new = new_token("maker", vec![binding(Role::Admin, None)], &limited);
    let maker = api.token(new).await;
    let body = json!({"name": "x", "bindings": [{"role": "ADMIN"}], "expires": tomorrow()});
    let made = api
        .https_send(Some(&maker), "POST", "/api/v1/tokens", &body)
        .await;
    made.expect(403);
}

#[tokio::test]
async fn a_token_can_end_earlier_and_ask_less_and_nothing_else() {
    let api = ready().await;
    let body = json!({"name": "x", "bindings": [{"role": "READONLY"}], "expires": tomorrow()});
    let made = api.post("/api/v1/tokens", &body).await.expect(201);
    let path = format!("/api/v1/tokens/{}", made["id"].as_str().unwrap());
    let sooner = NOW.plus(Duration::from_secs(60)).to_string();
    let patch = json!({"expires": sooner, "requests_per_minute": 10});
    let changed = api.send("PATCH", &path, &patch).await.expect(200);
    assert_eq!(changed["expires"], sooner);
    assert_eq!(changed["requests_per_minute"], 10);
    for (patch, place) in [
        (json!({"expires": tomorrow()}), "/expires"),
        (json!({"expires": null}), "/expires"),
        (json!({"requests_per_minute": 0}), "/requests_per_minute"),
        (json!({"bindings": [{"role": "ADMIN"}]}), "/bindings"),
        (json!({"name": "y"}), "/name"),
    ] {
        let refused = api.send("PATCH", &path, &patch).await.mistakes(422);
        assert_eq!(refused[0].0, place, "{patch}");
    }
    let patch = json!({"requests_per_minute": 20}).to_string();
    let json = ("content-type", "application/json");
    api.ask("PATCH", &path, &[json], patch.as_bytes())
        .await
        .expect(428);
    let stale = [json, ("if-match", "\"1\"")];
    api.ask("PATCH", &path, &stale, patch.as_bytes())
        .await
        .expect(412);
    api.ask("DELETE", &path, &[], b"").await.expect(428);
}

#[tokio::test]
async fn tokens_of_other_tenants_are_not_there() {
    let api = ready().await;
    let everywhere =
        json!({"name": "mine", "bindings": [{"role": "READONLY"}], "expires": tomorrow()});
    let mine = api.post("/api/v1/tokens", &everywhere).await.expect(201);
    let scoped = api.role(Role::Admin, Some("acme")).await;
    let theirs = json!({
        "name": "acme/theirs",
        "bindings": [{"role": "READONLY", "tenant": "acme"}],
        "expires": tomorrow(),
    });
    let theirs = api
        .https_send(Some(&scoped), "POST", "/api/v1/tokens", &theirs)
        .await;
    let theirs = theirs.expect(201);

    let list = api
        .https_get(Some(&scoped), "/api/v1/tokens")
        .await
        .expect(200);
    assert_eq!(names(&list), ["acme/theirs"]);
    assert_eq!(list["total"], 1);
    let path = |token: &Value| format!("/api/v1/tokens/{}", token["id"].as_str().unwrap());
    api.https_get(Some(&scoped), &path(&theirs))
        .await
        .expect(200);
    for method in ["GET", "PATCH", "DELETE"] {
        let body = json!({"requests_per_minute": 1});
        let hidden = api
            .https_send(Some(&scoped), method, &path(&mine), &body)
            .await;
        hidden.expect(404);
    }
    let auditor = api.role(Role::Auditor, Some("acme")).await;
    let denied = api
        .https_send(Some(&auditor), "DELETE", &path(&theirs), &json!({}))
        .await;
    denied.expect(403);
    let by_tenant = api
        .get("/api/v1/tokens?tenant=acme&sort=-expires")
        .await
        .expect(200);
    assert_eq!(names(&by_tenant), ["acme/theirs"]);
    let none = api.get("/api/v1/tokens?expired=true").await.expect(200);
    assert_eq!(none["total"], 0);
}

#[tokio::test]
async fn a_token_that_reaches_further_than_the_caller_is_not_there_for_them() {
    let api = ready().await;
    let limited = api.role(Role::Admin, Some("default")).await;
    let make = async |name: &str, binding: Value| {
        let body = json!({"name": name, "bindings": [binding], "expires": tomorrow()});
        let made = api.post("/api/v1/tokens", &body).await.expect(201);
        format!("/api/v1/tokens/{}", made["id"].as_str().unwrap())
    };
    let whole = make("whole", json!({"role": "ADMIN"})).await;
    let acme = make("acme-too", json!({"role": "READONLY", "tenant": "acme"})).await;
    let own = make(
        "own",
        json!({"role": "ADMIN", "tenant": "default", "sites": ["berlin"]}),
    )
    .await;

    let list = api.https_get(Some(&limited), "/api/v1/tokens").await;
    assert_eq!(names(&list.expect(200)), ["ADMIN-default", "own"]);
    for path in [&whole, &acme] {
        for method in ["GET", "PATCH", "DELETE"] {
            let body = json!({"requests_per_minute": 60_000});
            let hidden = api.https_send(Some(&limited), method, path, &body).await;
            hidden.expect(404);
        }
    }
    let body = json!({"requests_per_minute": 1});
    let changed = api.https_send(Some(&limited), "PATCH", &own, &body).await;
    changed.expect(200);

    // who may see a token and has not all that it has, changes nothing of it
    let seeing = [Permission::TokensRead, Permission::TokensWrite];
    let seeing = new_token("seeing", vec![binding(Role::Admin, None)], &seeing);
    let seeing = api.token(seeing).await;
    api.https_get(Some(&seeing), &whole).await.expect(200);
    for method in ["PATCH", "DELETE"] {
        let refused = api.https_send(Some(&seeing), method, &whole, &body).await;
        refused.expect(403);
    }
    let gone = api
        .https_send(Some(&limited), "DELETE", &own, &json!({}))
        .await;
    gone.expect(204);
}
