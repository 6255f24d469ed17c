//! People who sign in, stay signed in, and look after themselves.

use std::time::Duration;

use model::{Role, Timestamp};
use serde_json::{Value, json};

use crate::harness::{Answer, NOW, Served, served};

pub(crate) const PASSWORD: &str = "paint seven quiet otters";
const NEXT_PASSWORD: &str = "borrow ninety grey kettles";

const REFRESH: &str = "/api/v1/sessions/refresh";

/// An appliance with an administrator and a user called jane, whose password
/// is [`PASSWORD`].
async fn with_jane() -> Served {
    let api = served().await;
    api.set_up().await;
    let body = json!({
        "name": "jane",
        "password": PASSWORD,
        "must_change_password": false,
        "bindings": [{"role": "READONLY"}],
    });
    api.post("/api/v1/users", &body).await.expect(201);
    api
}

async fn sign_in(api: &Served, body: &Value) -> Answer {
    api.https_send(None, "POST", "/api/v1/sessions", body).await
}

async fn jane(api: &Served) -> Value {
    let body = json!({"user": "jane", "password": PASSWORD});
    sign_in(api, &body).await.expect(201)
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap()
}

/// What an authenticator with this seed shows at `at`.
fn code(seed: &str, at: Timestamp) -> String {
    let secret = totp_rs::Secret::try_from_base32(seed).unwrap();
    let totp = totp_rs::Builder::new()
        .with_secret(secret)
        .build_noncompliant();
    totp.generate(at.0 / 1000).to_string()
}

#[tokio::test]
async fn somebody_signs_in_and_is_who_they_are() {
    let api = with_jane().await;
    let answer = sign_in(&api, &json!({"user": "Jane", "password": PASSWORD})).await;
    let granted = answer.expect(201);
    assert_eq!(granted["token_type"], "Bearer");
    assert_eq!(granted["expires_in"], 300);
    assert_eq!(granted["restricted"], Value::Null);
    assert!(answer.header("set-cookie").is_none());

    let me = api
        .https_get(Some(text(&granted, "access_token")), "/api/v1/me")
        .await;
    let me = me.expect(200);
    assert_eq!(me["actor"], "user:jane");
    assert_eq!(me["kind"], "user");
    assert_eq!(me["session"], granted["session"]);
    assert_eq!(me["user"]["name"], "jane");
    let permissions = me["permissions"].as_array().unwrap();
    assert!(permissions.contains(&json!("devices:read")));
    assert!(!permissions.contains(&json!("devices:write")));
}

#[tokio::test]
async fn nobody_learns_whether_the_user_or_the_password_was_wrong() {
    let api = with_jane().await;
    let inactive = json!({"name": "gone", "password": PASSWORD, "active": false});
    api.post("/api/v1/users", &inactive).await.expect(201);
    let mut told = Vec::new();
    for (user, password) in [
        ("jane", NEXT_PASSWORD),
        ("nobody", PASSWORD),
        ("gone", PASSWORD),
        ("root", PASSWORD),
        ("no such user!", PASSWORD),
    ] {
        let answer = sign_in(&api, &json!({"user": user, "password": password})).await;
        let mut problem = answer.expect(401);
        problem["instance"] = Value::Null;
        assert!(!answer.body.contains(password));
        told.push(problem);
    }
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
}

#[tokio::test]
async fn who_guesses_waits_longer_and_longer() {
    let api = with_jane().await;
    let wrong = json!({"user": "jane", "password": NEXT_PASSWORD});
    let mut refused = Vec::new();
    for _ in 0..7 {
        refused.push(sign_in(&api, &wrong).await);
    }
    let last = refused.last().unwrap();
    last.expect(429);
    let wait: u64 = last.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=15 * 60).contains(&wait), "{wait}");
    // the right one does not help while they wait
    let right = json!({"user": "jane", "password": PASSWORD});
    sign_in(&api, &right).await.expect(429);
}

#[tokio::test]
async fn every_mistake_in_what_somebody_signs_in_with_is_named() {
    let api = with_jane().await;
    let body = json!({"usr": "jane", "cookie": "yes", "code": 123_456});
    let wrong = sign_in(&api, &body).await.mistakes(422);
    let places: Vec<&str> = wrong.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(places, ["/usr", "/user", "/password", "/code", "/cookie"]);
    let huge = json!({"user": "jane", "password": "x".repeat(100_000)});
    let refused = sign_in(&api, &huge).await.mistakes(422);
    assert_eq!(refused[0].0, "/password");
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_a_copy_ends_the_session() {
    let api = with_jane().await;
    let first = jane(&api).await;
    let token = |granted: &Value| json!({"refresh_token": granted["refresh_token"]});
    let second = api
        .https_send(None, "POST", REFRESH, &token(&first))
        .await
        .expect(200);
    assert_eq!(second["session"], first["session"]);
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    let third = api
        .https_send(None, "POST", REFRESH, &token(&second))
        .await
        .expect(200);
    // the first is neither the newest nor the one before it
    api.https_send(None, "POST", REFRESH, &token(&first))
        .await
        .expect(401);
    api.https_send(None, "POST", REFRESH, &token(&third))
        .await
        .expect(401);
    let access = text(&third, "access_token");
    api.https_get(Some(access), "/api/v1/me").await.expect(401);
}

#[tokio::test]
async fn a_browser_keeps_its_refresh_token_where_no_script_reads_it() {
    let api = with_jane().await;
    let body = json!({"user": "jane", "password": PASSWORD, "cookie": true});
    let answer = sign_in(&api, &body).await;
    assert_eq!(answer.expect(201)["refresh_token"], Value::Null);
    let cookie = answer.header("set-cookie").unwrap();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert!(pair.starts_with("__Host-sotp-refresh=sotpr_"), "{pair}");
    assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Strict");

    // another site's page cannot use it
    let foreign = [("cookie", pair), ("sec-fetch-site", "cross-site")];
    api.https(None, "POST", REFRESH, &foreign, b"")
        .await
        .expect(401);
    let elsewhere = [("cookie", pair), ("origin", "https://evil.example")];
    let refused = api.https(None, "POST", REFRESH, &elsewhere, b"").await;
    refused.expect(401);
    let own = [("cookie", pair), ("sec-fetch-site", "same-origin")];
    let refreshed = api.https(None, "POST", REFRESH, &own, b"").await;
    let granted = refreshed.expect(200);
    assert_eq!(granted["refresh_token"], Value::Null);
    let next = refreshed.header("set-cookie").unwrap();
    assert!(next.starts_with("__Host-sotp-refresh=sotpr_") && !next.starts_with(pair));

    let token = text(&granted, "access_token");
    let out = api
        .https(Some(token), "DELETE", "/api/v1/me/session", &[], b"")
        .await;
    out.expect(204);
    let gone = out.header("set-cookie").unwrap();
    assert!(
        gone.starts_with("__Host-sotp-refresh=;") && gone.ends_with("Max-Age=0"),
        "{gone}"
    );
    let pair = next.split("; ").next().unwrap();
    let over = api
        .https(None, "POST", REFRESH, &[("cookie", pair)], b"")
        .await;
    over.expect(401);
    assert!(over.header("set-cookie").unwrap().ends_with("Max-Age=0"));
}

#[tokio::test]
async fn without_any_refresh_token_there_is_nothing_to_exchange() {
    let api = with_jane().await;
    api.https(None, "POST", REFRESH, &[], b"").await.expect(401);
    for nonsense in [json!({}), json!(null), json!({"refresh_token": "x"})] {
        let refused = api.https_send(None, "POST", REFRESH, &nonsense).await;
        refused.expect(401);
    }
    let wrong = api
        .https_send(None, "POST", REFRESH, &json!({"token": 1}))
        .await;
    assert_eq!(wrong.mistakes(422)[0].0, "/token");
}

#[tokio::test]
async fn signing_out_ends_this_session_and_no_other() {
    let api = with_jane().await;
    let (one, other) = (jane(&api).await, jane(&api).await);
    let token = |granted: &Value| text(granted, "access_token").to_owned();
    let out = api
        .https(Some(&token(&one)), "DELETE", "/api/v1/me/session", &[], b"")
        .await;
    out.expect(204);
    api.https_get(Some(&token(&one)), "/api/v1/me")
        .await
        .expect(401);
    api.https_get(Some(&token(&other)), "/api/v1/me")
        .await
        .expect(200);
    // who did not sign in cannot sign out
    let service = api.role(Role::ReadOnly, None).await;
    let out = api
        .https(Some(&service), "DELETE", "/api/v1/me/session", &[], b"")
        .await;
    out.expect(409);
}

#[tokio::test]
async fn people_see_and_end_their_own_sessions_and_not_those_of_others() {
    let api = with_jane().await;
    let body = json!({"name": "joe", "password": PASSWORD, "must_change_password": false});
    api.post("/api/v1/users", &body).await.expect(201);
    let joe = sign_in(&api, &json!({"user": "joe", "password": PASSWORD}))
        .await
        .expect(201);
    let (one, other) = (jane(&api).await, jane(&api).await);
    let token = text(&one, "access_token");

    let own = api
        .https_get(Some(token), "/api/v1/me/sessions?sort=-created")
        .await;
    let own = own.expect(200);
    assert_eq!(own["total"], 2);
    let current: Vec<&Value> = own["items"].as_array().unwrap().iter().collect();
    let this = current
        .iter()
        .find(|session| session["current"] == true)
        .unwrap();
    assert_eq!(this["id"], one["session"]);
    assert_eq!(this["how"], "password");

    let path = |granted: &Value| format!("/api/v1/me/sessions/{}", text(granted, "session"));
    let foreign = api
        .https(Some(token), "DELETE", &path(&joe), &[], b"")
        .await;
    foreign.expect(404);
    let ended = api
        .https(Some(token), "DELETE", &path(&other), &[], b"")
        .await;
    ended.expect(204);
    let access = text(&other, "access_token");
    api.https_get(Some(access), "/api/v1/me").await.expect(401);
    let access = text(&joe, "access_token");
    api.https_get(Some(access), "/api/v1/me").await.expect(200);
}

#[tokio::test]
async fn an_administrator_sees_and_ends_sessions() {
    let api = with_jane().await;
    let session = jane(&api).await;
    let all = api.get("/api/v1/sessions?user=JANE").await.expect(200);
    assert_eq!(all["total"], 1);
    assert_eq!(all["items"][0]["user"], "jane");
    assert_eq!(all["items"][0]["origin"], "127.0.0.1");
    let none = api.get("/api/v1/sessions?user=root").await.expect(200);
    assert_eq!(none["total"], 0);

    let auditor = api.role(Role::Auditor, None).await;
    api.https_get(Some(&auditor), "/api/v1/sessions")
        .await
        .expect(200);
    let path = format!("/api/v1/sessions/{}", text(&session, "session"));
    let denied = api.https(Some(&auditor), "DELETE", &path, &[], b"").await;
    denied.expect(403);
    let scoped = api.role(Role::Admin, Some("default")).await;
    api.https_get(Some(&scoped), "/api/v1/sessions")
        .await
        .expect(403);
    let denied = api.https(Some(&scoped), "DELETE", &path, &[], b"").await;
    denied.expect(403);

    api.delete(&path).await.expect(204);
    api.delete(&path).await.expect(404);
    let access = text(&session, "access_token");
    api.https_get(Some(access), "/api/v1/me").await.expect(401);
}

#[tokio::test]
async fn a_new_password_needs_the_old_one_and_ends_the_other_sessions() {
    let api = with_jane().await;
    let (here, there) = (jane(&api).await, jane(&api).await);
    let token = text(&here, "access_token");
    let change = async |old: &str, new: &str| {
        let body = json!({"old": old, "new": new});
        api.https_send(Some(token), "PUT", "/api/v1/me/password", &body)
            .await
    };
    change(NEXT_PASSWORD, NEXT_PASSWORD).await.expect(401);
    let weak = change(PASSWORD, "short").await;
    assert_eq!(weak.mistakes(422)[0].0, "/new");
    let body = json!({"old": PASSWORD, "nw": 1});
    let wrong = api
        .https_send(Some(token), "PUT", "/api/v1/me/password", &body)
        .await;
    let places: Vec<String> = wrong.mistakes(422).into_iter().map(|(at, _)| at).collect();
    assert_eq!(places, ["/nw", "/new"]);

    change(PASSWORD, NEXT_PASSWORD).await.expect(204);
    api.https_get(Some(token), "/api/v1/me").await.expect(200);
    let elsewhere = text(&there, "access_token");
    api.https_get(Some(elsewhere), "/api/v1/me")
        .await
        .expect(401);
    let old = json!({"user": "jane", "password": PASSWORD});
    sign_in(&api, &old).await.expect(401);
    let new = json!({"user": "jane", "password": NEXT_PASSWORD});
    sign_in(&api, &new).await.expect(201);
}

#[tokio::test]
async fn codes_are_set_up_proved_needed_and_taken_away_again() {
    let api = with_jane().await;
    let granted = jane(&api).await;
    let token = text(&granted, "access_token");
    let totp = "/api/v1/me/totp";
    let send =
        async |method: &str, body: Value| api.https_send(Some(token), method, totp, &body).await;

    // who borrows a session does not keep the account
    for nothing in [json!({}), json!({"password": null}), Value::Null] {
        send("POST", nothing).await.expect(403);
    }
    let wrong = send("POST", json!({"password": NEXT_PASSWORD})).await;
    wrong.expect(401);
    let mistaken = send("POST", json!({"password": 1, "old": "x"})).await;
    let places: Vec<String> = mistaken
        .mistakes(422)
        .into_iter()
        .map(|(at, _)| at)
        .collect();
    assert_eq!(places, ["/old", "/password"]);
    let offer = send("POST", json!({"password": PASSWORD})).await;
    let offer = offer.expect(200);
    let seed = text(&offer, "secret");
    assert!(text(&offer, "uri").starts_with("otpauth://totp/"));
    // until it is proved nothing is demanded
    jane(&api).await;
    let state = api.get("/api/v1/users/jane").await.expect(200);
    assert_eq!(state["totp"], "pending");
    let confirmed = send("PUT", json!({"code": code(seed, NOW)}))
        .await
        .expect(200);
    let recovery = confirmed["recovery_codes"].as_array().unwrap();
    assert_eq!(recovery.len(), 10);
    assert_eq!(
        api.get("/api/v1/users/jane").await.expect(200)["totp"],
        "on"
    );
    send("POST", json!({})).await.expect(409);

    let mut body = json!({"user": "jane", "password": PASSWORD});
    let needed = sign_in(&api, &body).await.expect(401);
    assert_eq!(needed["type"], "/problems/code-needed");
    // the code that proved it is used up
    body["code"] = json!(code(seed, NOW));
    sign_in(&api, &body).await.expect(401);
    body["code"] = json!(code(seed, NOW.plus(Duration::from_secs(30))));
    sign_in(&api, &body).await.expect(201);
    body["code"] = recovery[0].clone();
    sign_in(&api, &body).await.expect(201);
    sign_in(&api, &body).await.expect(401);

    send("DELETE", json!({"password": NEXT_PASSWORD}))
        .await
        .expect(401);
    send("DELETE", json!({"password": PASSWORD}))
        .await
        .expect(204);
    jane(&api).await;
}

#[tokio::test]
async fn who_has_to_do_something_first_can_do_that_and_nothing_else() {
    let api = with_jane().await;
    let policy = json!({"require_totp": ["READONLY"]});
    api.send("PATCH", "/api/v1/policy", &policy)
        .await
        .expect(200);
    let granted = jane(&api).await;
    assert_eq!(granted["restricted"], "totp-required");
    let token = text(&granted, "access_token");
    let denied = api
        .https_get(Some(token), "/api/v1/devices")
        .await
        .expect(403);
    assert_eq!(denied["type"], "/problems/totp-required");
    let me = api.https_get(Some(token), "/api/v1/me").await.expect(200);
    assert_eq!(me["permissions"], json!([]));
    let totp = "/api/v1/me/totp";
    let offer = api
        .https_send(Some(token), "POST", totp, &json!({}))
        .await
        .expect(200);
    let body = json!({"code": code(text(&offer, "secret"), NOW)});
    api.https_send(Some(token), "PUT", totp, &body)
        .await
        .expect(200);
    api.https_get(Some(token), "/api/v1/devices")
        .await
        .expect(200);

    let reset = api
        .post("/api/v1/users/jane/password-reset", &json!({}))
        .await;
    assert!(reset.expect(200)["password"].as_str().unwrap().len() >= 12);
}

#[tokio::test]
async fn a_password_that_somebody_else_chose_is_good_for_choosing_another() {
    let api = with_jane().await;
    let path = "/api/v1/users/jane/password-reset";
    let reset = api.post(path, &json!({})).await.expect(200);
    let body = json!({"user": "jane", "password": reset["password"]});
    let granted = sign_in(&api, &body).await.expect(201);
    assert_eq!(granted["restricted"], "password-change-required");
    let token = text(&granted, "access_token");
    api.https_get(Some(token), "/api/v1/devices")
        .await
        .expect(403);
    let body = json!({"old": reset["password"], "new": NEXT_PASSWORD});
    let changed = api
        .https_send(Some(token), "PUT", "/api/v1/me/password", &body)
        .await;
    changed.expect(204);
    api.https_get(Some(token), "/api/v1/devices")
        .await
        .expect(200);
}

#[tokio::test]
async fn services_and_local_processes_have_no_password_or_codes() {
    let api = with_jane().await;
    let service = api.role(Role::Admin, None).await;
    let me = api
        .https_get(Some(&service), "/api/v1/me")
        .await
        .expect(200);
    assert_eq!(me["kind"], "token");
    assert_eq!(me["token"]["name"], "ADMIN-everywhere");
    let local = api.get("/api/v1/me").await.expect(200);
    assert_eq!(local["kind"], "local");
    let body = json!({"old": PASSWORD, "new": NEXT_PASSWORD});
    let refused = api
        .https_send(Some(&service), "PUT", "/api/v1/me/password", &body)
        .await;
    refused.expect(409);
    api.post("/api/v1/me/totp", &json!({})).await.expect(409);
}

#[tokio::test]
async fn answers_that_show_a_secret_are_not_kept_for_a_second_time() {
    let api = with_jane().await;
    let body = json!({"user": "jane", "password": PASSWORD}).to_string();
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", "k"),
    ];
    for (path, body) in [
        ("/api/v1/sessions", body.as_bytes()),
        ("/api/v1/users/jane/password-reset", b"{}"),
        ("/api/v1/tokens", b"{}"),
        ("/api/v1/me/totp", b"{}"),
    ] {
        let refused = api.ask("POST", path, &headers, body).await.expect(400);
        assert!(
            text(&refused, "detail").contains("Idempotency-Key"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn without_a_provider_in_the_settings_nobody_is_sent_to_one() {
    let api = with_jane().await;
    api.https_get(None, "/api/v1/oidc/login").await.expect(404);
    let back = "/api/v1/oidc/callback?code=c&state=s&session_state=x";
    api.https_get(None, back).await.expect(404);
    let missing = api.https_get(None, "/api/v1/oidc/callback?code=c").await;
    assert_eq!(missing.mistakes(400)[0].0, "state");
    let denied = api
        .https_get(None, "/api/v1/oidc/callback?error=access_denied")
        .await;
    denied.expect(401);
}
