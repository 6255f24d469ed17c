//! People who are signed in, and what ends that.

use harness::{Ask, Daemon, Folder, PASSWORD, eventually};
use serde_json::{Value, json};

use crate::setup::quiet;

fn device(name: &str, place: u8) -> Value {
    json!({"name": name, "address": format!("127.0.9.{place}"), "enabled": false})
}

#[test]
fn a_change_of_role_a_deactivation_and_a_sign_out_act_on_an_open_connection() {
    let folder = Folder::with_https();
    let daemon = quiet(&folder);
    let admin = daemon.set_up();
    let operator = json!([{"role": "OPERATOR"}]);
    let otto = admin.person("otto", &operator);
    let mut line = otto.connect().unwrap();
    let mut see = || {
        let answer = otto.send_on(&mut line, Ask::new("GET", "/api/v1/me"));
        answer.unwrap().status
    };
    let create = |place: u8| {
        let ask = Ask::new("POST", "/api/v1/devices");
        otto.send(ask.json(&device(&format!("d{place}"), place)))
    };
    assert_eq!((create(1).status, see()), (201, 200));

    let change = |what: Value| admin.ask("PATCH", "/api/v1/users/otto", &what);
    change(json!({"bindings": [{"role": "READONLY"}]}));
    assert_eq!(create(2).status, 403, "the old role still holds");
    change(json!({"bindings": operator}));
    assert_eq!(create(2).status, 201);

    assert_eq!(see(), 200);
    change(json!({"active": false}));
    assert_eq!(see(), 401, "the open connection still lets in");
    let out = create(3);
    assert_eq!(out.status, 401, "{}", out.body);
    assert!(out.header("www-authenticate").is_some());
    change(json!({"active": true}));
    assert_eq!(create(3).status, 401, "a session came back to life");

    let again = admin.signed_in("otto", PASSWORD);
    let mut line = again.connect().unwrap();
    let mut ask = |method, path| {
        let ask = Ask::new(method, path).header("If-Match", "*");
        again.send_on(&mut line, ask).unwrap().status
    };
    assert_eq!(ask("GET", "/api/v1/me"), 200);
    assert_eq!(ask("DELETE", "/api/v1/me/session"), 204);
    assert_eq!(ask("GET", "/api/v1/me"), 401);

    let third = admin.signed_in("otto", PASSWORD);
    admin.say("DELETE", "/api/v1/users/otto/sessions", &Value::Null);
    assert_eq!(third.look("/api/v1/me").status, 401);

    let fourth = admin.signed_in("otto", PASSWORD);
    let gone = admin.say("DELETE", "/api/v1/users/otto", &Value::Null);
    assert_eq!(gone.status, 204, "{}", gone.body);
    assert_eq!(fourth.look("/api/v1/me").status, 401);
    assert_eq!(fourth.sign_in("otto", PASSWORD).status, 401);
}

#[test]
fn people_see_their_own_sessions_and_end_them() {
    let folder = Folder::with_https();
    let daemon = quiet(&folder);
    let admin = daemon.set_up();
    let here = admin.person("otto", &json!([{"role": "READONLY"}]));
    let there = admin.signed_in("otto", PASSWORD);
    let mine = here.get("/api/v1/me/sessions");
    let mine = mine["items"].as_array().unwrap();
    assert_eq!(mine.len(), 2, "{mine:?}");
    let other = there.get("/api/v1/me")["session"].clone();
    let other = other.as_str().unwrap();
    let ended = here.say(
        "DELETE",
        &format!("/api/v1/me/sessions/{other}"),
        &Value::Null,
    );
    assert_eq!(ended.status, 204, "{}", ended.body);
    assert_eq!(there.look("/api/v1/me").status, 401);
    assert_eq!(here.look("/api/v1/me").status, 200);
    // and nobody else's
    let admins = admin.get("/api/v1/me")["session"].clone();
    let admins = admins.as_str().unwrap();
    let refused = here.say(
        "DELETE",
        &format!("/api/v1/me/sessions/{admins}"),
        &Value::Null,
    );
    assert_eq!(refused.status, 404, "{}", refused.body);
    assert_eq!(admin.look("/api/v1/me").status, 200);
}

#[test]
fn a_refresh_token_that_is_shown_twice_ends_the_session() {
    let folder = Folder::with_https();
    let daemon = quiet(&folder);
    let admin = daemon.set_up();
    admin.add_person("otto", &json!([{"role": "READONLY"}]));
    let granted = admin.sign_in("otto", PASSWORD).expect("a session");
    let refresh = |token: &Value| {
        let ask = Ask::new("POST", "/api/v1/sessions/refresh");
        daemon
            .https()
            .send(ask.json(&json!({"refresh_token": token})))
    };
    let first = granted["refresh_token"].clone();
    let second = refresh(&first).expect("a refresh")["refresh_token"].clone();
    let third = refresh(&second).expect("a refresh");
    let signed_in = daemon
        .https()
        .bearer(third["access_token"].as_str().unwrap());
    assert_eq!(signed_in.look("/api/v1/me").status, 200);
    // older than the one before the last: nobody sends that by mistake
    assert_eq!(refresh(&first).status, 401);
    assert_eq!(signed_in.look("/api/v1/me").status, 401);
    assert_eq!(refresh(&third["refresh_token"]).status, 401);
    eventually(10, "a line about it", || {
        let audit = admin.get("/api/v1/audit?action=session.reuse");
        match audit["items"].as_array().map_or(0, Vec::len) {
            1 => Ok(()),
            _ => Err(audit),
        }
    });
}

#[test]
fn two_hundred_wrong_passwords_at_once_let_nobody_in_and_keep_nobody_out() {
    let folder = Folder::with_https();
    // each of them comes from another address, as far as the daemon can tell
    folder.write_api_settings(
        "trusted_proxies = [\"127.0.0.0/8\"]\nanonymous_per_minute = 6000",
        "[icmp]\nevery = \"60s\"\n",
    );
    let daemon = Daemon::start(&folder, None);
    let admin = daemon.set_up();
    let refused: Vec<u16> = std::thread::scope(|scope| {
        let storm: Vec<_> = (0..200_u16)
            .map(|attacker| {
                let client = daemon.https();
                scope.spawn(move || {
                    let from = format!("198.51.{}.{}", attacker / 100, attacker % 100 + 1);
                    // every other one tries the same account, the rest none that is
                    let user = match attacker % 2 {
                        0 => harness::ADMIN.to_owned(),
                        _ => format!("nobody{attacker}"),
                    };
                    let wrong =
                        json!({"user": user, "password": format!("Falsch-{attacker}-Wort")});
                    let ask = Ask::new("POST", "/api/v1/sessions");
                    let ask = ask.header("X-Forwarded-For", &from).json(&wrong);
                    client.try_send(ask).map_or(0, |response| response.status)
                })
            })
            .collect();
        // who is signed in goes on working meanwhile
        for _look in 0..20 {
            assert_eq!(admin.look("/api/v1/devices").status, 200);
        }
        storm.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for status in &refused {
        assert!([401, 429, 503].contains(status), "{refused:?}");
    }
    assert!(
        refused.contains(&401),
        "nobody was even judged: {refused:?}"
    );
    let sessions = admin.get("/api/v1/sessions");
    assert_eq!(sessions["items"].as_array().unwrap().len(), 1, "{sessions}");
    // an account that was attacked opens again within minutes; its owner's session
    // never closed
    assert_eq!(admin.look("/api/v1/me").status, 200);
}

#[test]
fn an_answer_is_given_again_for_the_same_key_also_after_a_restart() {
    let folder = Folder::with_https();
    let daemon = quiet(&folder);
    let admin = daemon.set_up();
    let service = admin.service("deploy", &json!([{"role": "OPERATOR"}]));
    let post = |place: u8| {
        let ask = Ask::new("POST", "/api/v1/devices").header("Idempotency-Key", "deploy-17");
        service.send(ask.json(&device("core1", place)))
    };
    let first = post(1);
    assert_eq!(first.status, 201, "{}", first.body);
    assert_eq!(first.header("idempotency-replayed"), None);
    assert!(daemon.stop().success());

    let daemon = Daemon::start(&folder, None);
    let again = post(1);
    assert_eq!(again.status, 201, "{}", again.body);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(again.body, first.body);
    assert_eq!(again.header("etag"), first.header("etag"));
    let other = post(2);
    assert_eq!(other.status, 422, "{}", other.body);
    // the key is this service's alone
    let theirs = daemon.https().signed_in(harness::ADMIN, PASSWORD);
    let ask = Ask::new("POST", "/api/v1/devices").header("Idempotency-Key", "deploy-17");
    let new = theirs.send(ask.json(&device("core2", 3)));
    assert_eq!(new.status, 201, "{}", new.body);
    assert_eq!(new.header("idempotency-replayed"), None);
    // and never for what holds a secret
    let ask = Ask::new("POST", "/api/v1/sessions").header("Idempotency-Key", "login-1");
    let login = json!({"user": harness::ADMIN, "password": PASSWORD});
    assert_eq!(daemon.https().send(ask.json(&login)).status, 400);
    eventually(10, "one device of each name", || {
        let devices = daemon.get("/api/v1/devices");
        match devices["items"].as_array().map_or(0, Vec::len) {
            2 => Ok(()),
            _ => Err(devices),
        }
    });
}

/// A part of a token as base64url without padding, of any length.
fn base64url(text: &str) -> String {
    let coded = text.as_bytes().chunks(3).map(|three| {
        let number = three
            .iter()
            .fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
        let number = number << (8 * (3 - three.len()));
        let letters = [18, 12, 6, 0].map(|shift| {
            let place = usize::try_from(number >> shift & 63).unwrap();
            char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[place])
        });
        letters[..=three.len()].iter().collect::<String>()
    });
    coded.collect()
}

#[test]
fn an_access_token_that_was_changed_or_made_up_lets_nobody_in() {
    let folder = Folder::with_https();
    let daemon = quiet(&folder);
    let admin = daemon.set_up();
    let parts: Vec<&str> = admin.token().split('.').collect();
    let [head, claims, signature] = parts.as_slice() else {
        panic!("a token has three parts")
    };
    let none = base64url("{\"alg\":\"none\",\"typ\":\"at+jwt\"}");
    let hmac = base64url("{\"alg\":\"HS256\",\"typ\":\"at+jwt\"}");
    let stranger = base64url("{\"alg\":\"EdDSA\",\"typ\":\"at+jwt\",\"kid\":\"another\"}");
    let brought = base64url(
        "{\"alg\":\"EdDSA\",\"typ\":\"at+jwt\",\"jwk\":{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}}",
    );
    let forever = base64url("{\"sub\":\"ada\",\"exp\":99999999999}");
    let forged = [
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        format!("{hmac}.{claims}.{signature}"),
        format!("{stranger}.{claims}.{signature}"),
        format!("{brought}.{claims}.{signature}"),
        format!("{head}.{forever}.{signature}"),
        format!("{head}.{claims}."),
        format!("{head}.{claims}"),
        format!(
            "{head}.{claims}.{}",
            signature.chars().rev().collect::<String>()
        ),
        format!("{head}.{claims}.{signature}.{signature}"),
        "x".repeat(8_000),
    ];
    for token in &forged {
        let refused = daemon.https().bearer(token).look("/api/v1/me");
        assert_eq!(refused.status, 401, "{token}: {}", refused.body);
        assert!(!refused.body.to_string().contains(signature));
    }
    for scheme in [
        "Basic YWRhOmFkYQ==",
        "Bearer",
        "bearer ",
        "Digest x",
        "\u{7f}",
    ] {
        let refused = daemon
            .https()
            .authorization(scheme)
            .try_send(Ask::new("GET", "/api/v1/me"));
        assert!(
            refused.is_ok_and(|refused| [400, 401].contains(&refused.status)),
            "{scheme}"
        );
    }
    assert_eq!(admin.look("/api/v1/me").status, 200);
}
