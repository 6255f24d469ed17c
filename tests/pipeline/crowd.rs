//! As many sessions as there may be.

use std::time::{Duration, Instant};

use harness::{Ask, Client, Daemon, Folder, PASSWORD, Response};
use model::{Digest, SessionId, SessionRecord, SignIn, Timestamp, UserName};
use serde_json::json;
use sha2::Digest as _;
use store::{Store, StoreOptions};

use crate::setup::quiet;

/// All that there may be, and all that one person may have.
const SESSIONS: usize = 10_000;
const EACH: usize = 50;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = sha2::Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// base64url without padding (RFC 4648 §5) of bytes that are a multiple of three.
fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let letters = bytes.chunks(3).flat_map(|three| {
        let number = three
            .iter()
            .fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| char::from(LETTERS[number >> shift & 63]))
    });
    letters.collect()
}

/// A session of `user` as signing in would have made it, and its refresh token.
fn session(user: usize, number: usize, now: Timestamp) -> (SessionRecord, String) {
    let family = &sha256(&[b"family", &number.to_be_bytes()])[..16];
    let once = sha256(&[b"once", &number.to_be_bytes()]);
    let token = format!("sotpr_{}", base64url(&[family, &once[..]].concat()));
    let id = &sha256(&[b"sotp session", family])[..16];
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let record = SessionRecord {
        id: SessionId(id),
        user: UserName(format!("user{user}")),
        how: SignIn::Password,
        origin: "127.0.0.1".to_owned(),
        agent: Some("a test".to_owned()),
        created: now,
        used: now,
        expires: now.plus(DAY),
        refresh: Digest(sha256(&[token.as_bytes()])),
        previous: None,
    };
    (record, token)
}

/// Writes all sessions while no daemon runs, as 10,000 people who sign in would
/// have; gives their refresh tokens.
fn fill(folder: &Folder, now: Timestamp) -> Vec<String> {
    let options = StoreOptions {
        commit_every: Duration::from_millis(200),
        backlog_bytes: 64 << 20,
        ballast_bytes: 0,
        keep_samples: 30 * DAY,
        keep_alerts: 365 * DAY,
        keep_audit: 730 * DAY,
        ..StoreOptions::at(folder.store())
    };
    let store = Store::open(options, now).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let tokens = runtime.block_on(async {
        let mut tokens = Vec::new();
        // the administrator has the one that is missing
        for first in (0..SESSIONS - 1).step_by(250) {
            let mut writes = Vec::new();
            for number in first..(first + 250).min(SESSIONS - 1) {
                let (record, token) = session(number / EACH, number, now);
                let store = store.clone();
                tokens.push(token);
                writes.push(tokio::spawn(async move {
                    store.create_session(record, now).await
                }));
            }
            for write in writes {
                write.await.unwrap().unwrap();
            }
        }
        tokens
    });
    store.close().unwrap();
    tokens
}

/// The instant that the daemon's own clock shows.
fn now_of(admin: &Client) -> Timestamp {
    let mine = admin.get("/api/v1/me/sessions");
    let at = mine["items"][0]["created"].as_str().unwrap();
    at.parse().unwrap()
}

#[test]
fn ten_thousand_sessions_are_held_and_not_one_more() {
    let folder = Folder::with_https();
    let daemon = quiet(&folder);
    let admin = daemon.set_up();
    for user in 0..SESSIONS / EACH {
        let person = json!({"name": format!("user{user}"), "bindings": [{"role": "READONLY"}]});
        admin.ask("POST", "/api/v1/users", &person);
    }
    admin.add_person("last", &json!([{"role": "READONLY"}]));
    let now = now_of(&admin);
    assert!(daemon.stop().success());
    let tokens = fill(&folder, now);

    let began = Instant::now();
    let daemon = Daemon::start(&folder, None);
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
    let refresh = |token: &str| -> Response {
        let ask = Ask::new("POST", "/api/v1/sessions/refresh");
        daemon
            .https()
            .send(ask.json(&json!({"refresh_token": token})))
    };
    for token in tokens.iter().step_by(500) {
        let granted = refresh(token).expect("a refresh");
        let client = daemon
            .https()
            .bearer(granted["access_token"].as_str().unwrap());
        let began = Instant::now();
        assert_eq!(client.look("/api/v1/devices").status, 200);
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
    }
    // a made-up one ends nobody's
    assert_eq!(refresh("sotpr_nonsense").status, 401);

    let full = daemon.https().sign_in("last", PASSWORD);
    assert!(
        [409, 429, 503].contains(&full.status),
        "{} {}",
        full.status,
        full.body
    );
    let page = daemon.get("/api/v1/sessions?limit=1000");
    assert_eq!(page["items"].as_array().unwrap().len(), 1000);
    let of_one = daemon.get("/api/v1/sessions?user=user7&limit=1000");
    let of_one = of_one["items"].as_array().unwrap();
    assert_eq!(of_one.len(), EACH);
    // whoever signs everybody out makes room
    let path = "/api/v1/users/user7/sessions";
    let _ended = daemon.try_request("DELETE", path, None).unwrap();
    assert_eq!(daemon.https().sign_in("last", PASSWORD).status, 201);
    let ended = refresh(&tokens[7 * EACH]);
    assert_eq!(ended.status, 401, "{}", ended.body);
}
