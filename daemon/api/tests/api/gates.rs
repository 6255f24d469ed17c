//! Who gets in, how often, and what is written down of who does not.

use access::TokenKind;
use api::Limits;
use model::{AuditOutcome, Network, Permission, Role};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use crate::harness::{
    NOW, Served, binding, limits, new_token, read_answer, request, served, served_with,
};

/// What nobody ever got.
const BAD: &str = "sotp_nobody_0000000000000000000000000000000000000000000_000000";

async fn served_and_set_up(limits: Limits) -> Served {
    let api = served_with(limits).await;
    api.set_up().await;
    api
}

#[tokio::test]
async fn who_shows_nothing_or_nonsense_is_told_how_to_get_in() {
    let api = served_and_set_up(limits()).await;
    let answer = api.https_get(None, "/api/v1/devices").await;
    assert_eq!(answer.expect(401)["type"], "/problems/unauthorized");
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Bearer realm=\"sotp\"")
    );
    let good = api.role(Role::Admin, None).await;
    let good = format!("Bearer {good}");
    for headers in [
        &[("authorization", BAD)][..],
        &[("authorization", "Bearer")],
        &[("authorization", "Basic cm9vdDpyb290")],
        &[("authorization", "SOTP-HMAC-SHA256 key=x")],
        &[("authorization", "Bearer eyJhbGciOiJub25lIn0.e30.")],
        &[("authorization", &good), ("authorization", &good)],
    ] {
        let answer = api
            .https(None, "GET", "/api/v1/devices", headers, b"")
            .await;
        assert_eq!(answer.status, 401, "{headers:?}: {}", answer.body);
    }
    // what is open to everybody is open to them, too
    let bad = [("authorization", BAD)];
    let answer = api.https(None, "GET", "/health/live", &bad, b"").await;
    answer.expect(200);
    let once = [("authorization", good.as_str())];
    let answer = api.https(None, "GET", "/api/v1/devices", &once, b"").await;
    answer.expect(200);
}

#[tokio::test]
async fn attempts_that_are_denied_are_written_down_and_questions_are_not() {
    let api = served_and_set_up(limits()).await;
    api.tenant("acme").await;
    api.enter("core1", "10.0.0.1").await;
    let reader = api.role(Role::ReadOnly, None).await;
    let acme = api.role(Role::Operator, Some("acme")).await;

    // nobody tries anything, and who looks for what is not theirs finds nothing
    api.https_get(None, "/api/v1/devices").await.expect(401);
    api.https_get(Some(&acme), "/api/v1/devices/1")
        .await
        .expect(404);
    api.https_get(Some(&acme), "/api/v1/devices/2")
        .await
        .expect(404);
    assert_eq!(api.denied().await, []);

    api.https_get(Some(BAD), "/api/v1/devices")
        .await
        .expect(401);
    api.https_get(Some(&reader), "/api/v1/users")
        .await
        .expect(403);
    let gone = api
        .https_send(Some(&acme), "DELETE", "/api/v1/devices/1", &json!({}))
        .await;
    gone.expect(404);
    // one that is not there at all was no attempt at anything
    let gone = api
        .https_send(Some(&acme), "DELETE", "/api/v1/devices/2", &json!({}))
        .await;
    gone.expect(404);
    let denied = api.denied().await;
    let seen: Vec<(&str, &str)> = denied
        .iter()
        .map(|(actor, object, _)| (actor.split(' ').next().unwrap(), object.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            ("anonymous", "request:GET /api/v1/devices"),
            ("token:READONLY-everywhere", "request:GET /api/v1/users"),
            (
                "token:OPERATOR-acme",
                "request:DELETE /api/v1/devices/{device}"
            ),
        ]
    );
    assert!(denied[1].2.contains("users:read"), "{denied:?}");
    let metrics = api.get("/metrics").await.body;
    assert!(metrics.contains("\nsotp_api_denied_total 3\n"), "{metrics}");
    assert!(
        metrics.contains("sotp_api_refused_total{problem=\"forbidden\"} 1\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_change_is_written_down_with_who_made_it_and_the_request_s_id() {
    let api = served_and_set_up(limits()).await;
    let token = api.role(Role::Operator, None).await;
    let body = json!({"name": "core1", "address": "10.0.0.1"});
    let answer = api
        .https_send(Some(&token), "POST", "/api/v1/devices", &body)
        .await;
    answer.expect(201);
    let store = api.store.clone();
    let ask = store::AuditAsk::newest(1);
    let read = tokio::task::spawn_blocking(move || store.audit(&ask));
    let line = read.await.unwrap().unwrap().remove(0);
    assert_eq!(line.action, "device.create");
    assert!(
        line.actor.starts_with("token:OPERATOR-everywhere"),
        "{line:?}"
    );
    assert_eq!(
        (line.origin.as_str(), line.outcome),
        ("127.0.0.1", AuditOutcome::Done)
    );
    assert_eq!(line.request.as_deref(), answer.header("x-request-id"));
}

#[tokio::test]
async fn a_token_has_so_many_requests_and_takes_none_of_another_s() {
    let api = served_and_set_up(limits()).await;
    let mut new = new_token("slow", vec![binding(Role::ReadOnly, None)], &[]);
    new.requests_per_minute = 3;
    let slow = api.token(new).await;
    let other = api.role(Role::ReadOnly, None).await;
    for _ in 0..3 {
        api.https_get(Some(&slow), "/api/v1/devices")
            .await
            .expect(200);
    }
    let answer = api.https_get(Some(&slow), "/api/v1/devices").await;
    assert_eq!(answer.expect(429)["type"], "/problems/rate-limited");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=20).contains(&wait), "{wait}");
    api.https_get(Some(&other), "/api/v1/devices")
        .await
        .expect(200);
    api.get("/api/v1/devices").await.expect(200);
    let metrics = api.get("/metrics").await.body;
    assert!(
        metrics.contains("sotp_api_rate_limited_total{by=\"principal\"} 1\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn an_address_that_fails_too_often_waits_and_who_is_known_there_does_not() {
    let api = served_and_set_up(Limits {
        anonymous_per_minute: 5,
        ..limits()
    })
    .await;
    let known = api.role(Role::ReadOnly, None).await;
    for _ in 0..20 {
        api.https_get(Some(&known), "/api/v1/devices")
            .await
            .expect(200);
    }
    for token in [None, Some(BAD), None, Some(BAD), None] {
        api.https_get(token, "/api/v1/devices").await.expect(401);
    }
    for token in [None, Some(BAD)] {
        let answer = api.https_get(token, "/api/v1/devices").await;
        answer.expect(429);
        assert!(answer.header("retry-after").is_some());
    }
    // the same again is counted, and what was not looked at is not even that
    assert_eq!(api.denied().await.len(), 1);
    api.https_get(Some(&known), "/api/v1/devices")
        .await
        .expect(200);
}

#[tokio::test]
async fn only_a_trusted_proxy_says_for_whom_it_speaks() {
    let loopback = Network::new("127.0.0.0".parse().unwrap(), 8).unwrap();
    for (proxies, expected) in [(Vec::new(), "127.0.0.1"), (vec![loopback], "198.51.100.7")] {
        let api = served_and_set_up(Limits {
            trusted_proxies: proxies,
            ..limits()
        })
        .await;
        let forwarded = [
            ("x-forwarded-for", "192.0.2.66, 198.51.100.7"),
            ("forwarded", "for=192.0.2.67"),
            ("x-real-ip", "192.0.2.68"),
        ];
        let answer = api
            .https(Some(BAD), "GET", "/api/v1/devices", &forwarded, b"")
            .await;
        answer.expect(401);
        api.store.heartbeat().await.unwrap();
        let store = api.store.clone();
        let ask = store::AuditAsk::newest(1);
        let read = tokio::task::spawn_blocking(move || store.audit(&ask));
        assert_eq!(read.await.unwrap().unwrap()[0].origin, expected);
    }
}

#[tokio::test]
async fn pages_of_other_origins_read_nothing_unless_the_settings_name_them() {
    let api = served_and_set_up(Limits {
        cors_origins: vec!["https://noc.example".to_owned()],
        ..limits()
    })
    .await;
    let token = api.role(Role::ReadOnly, None).await;
    for (origin, allowed) in [
        ("https://noc.example", true),
        ("https://noc.example.evil.example", false),
        ("http://noc.example", false),
        ("https://NOC.example", false),
        ("null", false),
    ] {
        let headers = [("origin", origin)];
        let answer = api
            .https(Some(&token), "GET", "/api/v1/devices", &headers, b"")
            .await;
        answer.expect(200);
        let said = answer.header("access-control-allow-origin");
        assert_eq!(said, allowed.then_some(origin), "{origin}");
        assert_eq!(answer.header("access-control-allow-credentials"), None);

        let asks = [("origin", origin), ("access-control-request-method", "PUT")];
        let answer = api
            .https(None, "OPTIONS", "/api/v1/devices/1", &asks, b"")
            .await;
        assert_eq!(answer.status, if allowed { 204 } else { 405 }, "{origin}");
        let methods = answer.header("access-control-allow-methods");
        assert_eq!(methods.is_some(), allowed, "{origin}");
    }
}

/// HMAC-SHA-256 (RFC 2104).
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    match key.len() > 64 {
        true => block[..32].copy_from_slice(&Sha256::digest(key)),
        false => block[..key.len()].copy_from_slice(key),
    }
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::digest([&pad(0x36)[..], text].concat());
    Sha256::digest([&pad(0x5c)[..], &inner].concat()).to_vec()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let mut all = [0; 3];
        all[..three.len()].copy_from_slice(three);
        let number = u32::from_be_bytes([0, all[0], all[1], all[2]]);
        for place in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= three.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}

fn signed(token: &str, method: &str, target: &str, nonce: &str, body: &[u8]) -> String {
    let id = token.split('_').nth(1).unwrap();
    let seconds = NOW.0 / 1000;
    let digest: String = Sha256::digest(body)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let text = format!("{method}\n{target}\n{seconds}\n{nonce}\n{digest}");
    let signature = base64(&hmac(token.as_bytes(), text.as_bytes()));
    format!("SOTP-HMAC-SHA256 key={id}, ts={seconds}, nonce={nonce}, signature={signature}")
}

#[tokio::test]
async fn a_signed_request_is_let_in_once_and_only_as_it_was_signed() {
    let api = served_and_set_up(limits()).await;
    let mut new = new_token("signer", vec![binding(Role::Operator, None)], &[]);
    new.kind = TokenKind::Hmac;
    let token = api.token(new).await;
    let path = "/api/v1/devices";
    let body = json!({"name": "core1", "address": "10.0.0.1"}).to_string();
    let other = json!({"name": "core2", "address": "10.0.0.2"}).to_string();
    let send = async |said: &str, path: &str, body: &str| {
        let headers = [
            ("authorization", said),
            ("content-type", "application/json"),
        ];
        api.https(None, "POST", path, &headers, body.as_bytes())
            .await
    };
    let said = signed(&token, "POST", path, "nonce-0123456789a", body.as_bytes());
    send(&said, path, &other).await.expect(401);
    send(&said, &format!("{path}?x=1"), &body).await.expect(401);
    let said = signed(&token, "POST", path, "nonce-0123456789b", body.as_bytes());
    send(&said, path, &body).await.expect(201);
    send(&said, path, &body).await.expect(401);
    // the key itself is nothing to show
    api.https_get(Some(&token), path).await.expect(401);
}

/// The head of a signed request whose body does not come.
fn without_its_body(token: &str, seconds: u64) -> Vec<u8> {
    let id = token.split('_').nth(1).unwrap();
    let said =
        format!("SOTP-HMAC-SHA256 key={id}, ts={seconds}, nonce=nonce-0123456789c, signature=AAAA");
    let headers = [
        ("authorization", said.as_str()),
        ("content-type", "application/json"),
        ("content-length", "100"),
    ];
    request("POST", "/api/v1/devices", &headers, b"")
}

#[tokio::test]
async fn what_was_signed_too_long_ago_is_refused_before_its_body() {
    let api = served_and_set_up(limits()).await;
    let mut new = new_token("signer", vec![binding(Role::Operator, None)], &[]);
    new.kind = TokenKind::Hmac;
    let token = api.token(new).await;
    let now = NOW.0 / 1000;
    for seconds in [1, now - 301, now + 301, u64::MAX] {
        let mut stream = api.tls(None).await.unwrap();
        let head = without_its_body(&token, seconds);
        stream.write_all(&head).await.unwrap();
        let problem = read_answer(&mut stream).await.expect(401);
        assert!(problem["detail"].as_str().unwrap().contains("five minutes"));
    }
}

#[tokio::test]
async fn who_sends_no_body_and_has_proved_nothing_keeps_nobody_waiting() {
    let api = served_and_set_up(Limits {
        anonymous_per_minute: 2,
        ..limits()
    })
    .await;
    let mut new = new_token("signer", vec![binding(Role::Operator, None)], &[]);
    new.kind = TokenKind::Hmac;
    let token = api.token(new).await;
    let now = NOW.0 / 1000;
    // one answer from each of the ten
    let (told, mut answers) = tokio::sync::mpsc::channel(10);
    let mut slow = Vec::new();
    for _ in 0..10 {
        let mut stream = api.tls(None).await.unwrap();
        let head = without_its_body(&token, now);
        stream.write_all(&head).await.unwrap();
        let told = told.clone();
        slow.push(tokio::spawn(async move {
            let answer = read_answer(&mut stream).await;
            let _ = told.send(answer.status).await;
        }));
    }
    let body = json!({"name": "core1", "address": "10.0.0.1"}).to_string();
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", "key"),
    ];
    let path = "/api/v1/devices";
    let mine = api.ask("POST", path, &headers, body.as_bytes());
    let mine = tokio::time::timeout(std::time::Duration::from_secs(5), mine).await;
    mine.expect("others keep us waiting").expect(201);
    // each is a failure of the address
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(answers.recv().await.unwrap());
    }
    assert_eq!(statuses, [408, 408, 429]);
    for slow in slow {
        slow.abort();
    }
}

#[tokio::test]
async fn on_the_socket_a_token_makes_somebody_less_than_root() {
    let api = served_and_set_up(limits()).await;
    let reader = format!("Bearer {}", api.role(Role::ReadOnly, None).await);
    let headers = [("authorization", reader.as_str())];
    api.ask("GET", "/api/v1/devices", &headers, b"")
        .await
        .expect(200);
    api.ask("GET", "/api/v1/users", &headers, b"")
        .await
        .expect(403);
    api.ask("POST", "/api/v1/setup-links", &headers, b"")
        .await
        .expect(403);
    let bad = [("authorization", BAD)];
    api.ask("GET", "/api/v1/devices", &bad, b"")
        .await
        .expect(401);
    api.get("/api/v1/users").await.expect(200);
}

#[tokio::test]
async fn a_token_may_do_what_it_says_of_what_its_role_grants() {
    let api = served_and_set_up(limits()).await;
    let only = [Permission::DevicesRead];
    let token = api
        .token(new_token("narrow", vec![binding(Role::Admin, None)], &only))
        .await;
    api.https_get(Some(&token), "/api/v1/devices")
        .await
        .expect(200);
    api.https_get(Some(&token), "/api/v1/alerts")
        .await
        .expect(403);
    api.https_get(Some(&token), "/api/v1/users")
        .await
        .expect(403);
}

#[tokio::test]
async fn who_has_to_change_their_password_does_that_first() {
    let api = served_and_set_up(limits()).await;
    let password = "correct horse battery staple 7";
    let jane = json!({
        "name": "jane", "password": password, "must_change_password": true,
        "bindings": [{"role": "ADMIN"}],
    });
    api.post("/api/v1/users", &jane).await.expect(201);
    let ask = json!({"user": "jane", "password": password});
    let granted = api
        .https_send(None, "POST", "/api/v1/sessions", &ask)
        .await
        .expect(201);
    let token = granted["access_token"].as_str().unwrap();
    let answer = api.https_get(Some(token), "/api/v1/devices").await;
    assert_eq!(
        answer.expect(403)["type"],
        "/problems/password-change-required"
    );
    api.https_get(Some(token), "/api/v1/me").await.expect(200);
    let denied = api.denied().await;
    assert!(
        denied.iter().any(|(actor, _, _)| actor == "user:jane"),
        "{denied:?}"
    );
}

#[tokio::test]
async fn metrics_are_open_on_the_machine_itself_and_nowhere_else() {
    let api = served_and_set_up(limits()).await;
    let credential = json!({"kind": "snmp-v2c", "community": "public"});
    api.send("PUT", "/api/v1/credentials/lab", &credential)
        .await
        .expect(201);
    let plain = api.raw_tcp(&request("GET", "/metrics", &[], b"")).await;
    assert_eq!(plain.status, 200);
    // without a name: who listens there may not know it
    for line in ["\nsotp_secrets 1\n", "\nsotp_secret_oldest_age_seconds 0\n"] {
        assert!(plain.body.contains(line), "{}", plain.body);
    }
    assert!(!plain.body.contains("credential.lab"), "{}", plain.body);
    api.https_get(None, "/metrics").await.expect(401);
    for (role, status) in [
        (Role::ReadOnly, 403),
        (Role::Operator, 200),
        (Role::Auditor, 200),
    ] {
        let token = api.role(role, None).await;
        assert_eq!(
            api.https_get(Some(&token), "/metrics").await.status,
            status,
            "{role:?}"
        );
    }
    assert_eq!(api.get("/metrics").await.status, 200);
    let named = "\nsotp_secret_age_seconds{secret=\"credential.lab\"} 0\n";
    let admin = api.role(Role::Admin, None).await;
    let guarded = api.https_get(Some(&admin), "/metrics").await.body;
    assert!(guarded.contains(named), "{guarded}");
    let mut new = new_token("scraper", vec![binding(Role::Admin, None)], &[]);
    new.permissions = [Permission::TelemetryRead].into();
    let scraper = api.token(new).await;
    let less = api.https_get(Some(&scraper), "/metrics").await.body;
    assert!(less.contains("\nsotp_secrets 1\n") && !less.contains("credential.lab"));
}

#[tokio::test]
async fn a_long_path_does_not_fill_the_audit_log() {
    let api = served_and_set_up(limits()).await;
    let path = format!("/api/v1/devices/{}", "a".repeat(50_000));
    let answer = api.https_get(Some(BAD), &path).await;
    answer.expect(401);
    api.store.heartbeat().await.unwrap();
    let store = api.store.clone();
    let ask = store::AuditAsk::newest(1);
    let read = tokio::task::spawn_blocking(move || store.audit(&ask));
    let line = read.await.unwrap().unwrap().remove(0);
    assert_eq!(line.action, "access.denied");
    let after: Value = serde_json::from_str(line.after.as_deref().unwrap()).unwrap();
    assert_eq!(after["path"], path[..256], "{after}");
    assert!(line.object.len() <= 300, "{}", line.object);
}

#[tokio::test]
async fn how_the_appliance_is_shows_itself_to_who_has_all_of_it() {
    let api = served_and_set_up(limits()).await;
    api.tenant("acme").await;
    let acme = api.role(Role::Admin, Some("acme")).await;
    let status = api
        .https_get(Some(&acme), "/api/v1/status")
        .await
        .expect(200);
    assert_eq!(status["version"], "1.2.3");
    assert_eq!(status["devices"]["total"], 0);
    for detail in ["scheduler", "icmp", "store", "mail", "outbox"] {
        assert_eq!(status[detail], Value::Null, "{detail}");
    }
    let test = api
        .https_send(Some(&acme), "POST", "/api/v1/notify/test", &json!({}))
        .await;
    test.expect(403);
    let all = served().await;
    all.get("/api/v1/status").await.expect(200);
}
