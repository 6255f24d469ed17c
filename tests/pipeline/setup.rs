//! Before anybody is there, and how the first one comes in.

use harness::{ADMIN, Ask, Client, Daemon, Folder, PASSWORD, Response};
use serde_json::{Value, json};

/// What answers before there is anybody: that the daemon lives, how it is, and
/// the way to set it up.
const OPEN_BEFORE: [&str; 8] = [
    "GET /health/live",
    "GET /health/ready",
    "GET /api/v1/status",
    "GET /api/v1/setup",
    "POST /api/v1/setup",
    "GET /setup",
    "GET /setup.js",
    "GET /setup.css",
];

/// A daemon that listens for HTTPS and polls nothing.
pub(crate) fn quiet(folder: &Folder) -> Daemon {
    folder.write_api_settings("", "[icmp]\nevery = \"60s\"\n");
    Daemon::start(folder, None)
}

/// Every operation of the document as method, path and `x-permission`; whatever
/// a path has a name for is called `x`.
pub(crate) fn operations(daemon: &Daemon) -> Vec<(String, String, String)> {
    let document = daemon.get("/api/v1/openapi.json");
    let paths = document["paths"].as_object().unwrap();
    let mut found = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let Some(permission) = operation.get("x-permission") else {
                let whole = ["parameters", "summary", "description"];
                assert!(whole.contains(&method.as_str()), "{method} {path}");
                continue;
            };
            let parts = path.split('/').map(|part| match part.starts_with('{') {
                true => "x",
                false => part,
            });
            found.push((
                method.to_uppercase(),
                parts.collect::<Vec<_>>().join("/"),
                permission.as_str().unwrap().to_owned(),
            ));
        }
    }
    assert!(found.len() > 60, "{found:?}");
    found
}

/// Asks each operation without anything that lets one in.
fn as_a_stranger(client: &Client, method: &str, path: &str) -> Response {
    let ask = Ask::new(method, path);
    match method {
        "GET" | "HEAD" => client.send(ask),
        _ => client.send(ask.header("If-Match", "*").json(&json!({}))),
    }
}

#[test]
fn before_set_up_the_network_gets_503_from_all_but_status_and_set_up() {
    let folder = Folder::with_https();
    let daemon = quiet(&folder);
    for (method, path, permission) in operations(&daemon) {
        let response = as_a_stranger(daemon.https(), &method, &path);
        let what = format!("{method} {path}");
        if OPEN_BEFORE.contains(&what.as_str()) {
            assert_ne!(response.status, 503, "{what}: {}", response.body);
            continue;
        }
        assert_eq!(response.status, 503, "{what}: {}", response.body);
        let told = response.body.to_string();
        assert!(told.contains("set up"), "{what} ({permission}): {told}");
    }
    // the socket is root's all the while
    assert_eq!(daemon.get("/api/v1/devices")["items"], json!([]));
    let small = daemon.https().get("/api/v1/status");
    assert!(
        small["devices"].is_null() && small["version"].is_null(),
        "{small}"
    );
}

#[test]
fn after_set_up_a_stranger_gets_401_from_all_that_is_not_open() {
    let folder = Folder::with_https();
    let daemon = {
        // this stranger asks more often than strangers may
        folder.write_api_settings("anonymous_per_minute = 6000", "[icmp]\nevery = \"60s\"\n");
        Daemon::start(&folder, None)
    };
    let _admin = daemon.set_up();
    for (method, path, permission) in operations(&daemon) {
        let response = as_a_stranger(daemon.https(), &method, &path);
        let what = format!("{method} {path} ({permission})");
        if permission == "open" {
            assert_ne!(response.status, 503, "{what}: {}", response.body);
            continue;
        }
        if permission == "local" {
            let refused = [401, 403].contains(&response.status);
            assert!(refused, "{what}: {} {}", response.status, response.body);
            continue;
        }
        assert_eq!(response.status, 401, "{what}: {}", response.body);
        let how = response.header("www-authenticate").unwrap_or_default();
        assert!(how.starts_with("Bearer"), "{what}: {how:?}");
    }
}

#[test]
fn a_set_up_link_works_once_and_the_newest_alone() {
    let folder = Folder::with_https();
    let daemon = quiet(&folder);
    assert_eq!(
        daemon.https().get("/api/v1/setup"),
        json!({"set_up": false})
    );
    let link = || daemon.ask("POST", "/api/v1/setup-links", None);
    let (old, new) = (link(), link());
    let attempt = |token: &Value| {
        let wanted = json!({"token": token, "user": ADMIN, "password": PASSWORD});
        daemon.https().say("POST", "/api/v1/setup", &wanted)
    };
    for bad in [&old["token"], &json!("nonsense"), &json!("")] {
        let refused = attempt(bad);
        assert!(
            (400..500).contains(&refused.status),
            "{bad}: {}",
            refused.body
        );
    }
    assert_eq!(daemon.https().sign_in(ADMIN, PASSWORD).status, 503);
    let made = attempt(&new["token"]);
    assert_eq!(made.status, 201, "{}", made.body);
    let again = attempt(&new["token"]);
    assert!((400..500).contains(&again.status), "{}", again.body);
    assert_eq!(daemon.https().get("/api/v1/setup"), json!({"set_up": true}));
    // and there is no further one
    let another = daemon.try_request("POST", "/api/v1/setup-links", None);
    let another = another.unwrap();
    assert_eq!(another.status, 409, "{}", another.body);
    let users = daemon.get("/api/v1/users");
    assert_eq!(users["items"].as_array().unwrap().len(), 1, "{users}");
}

#[test]
fn the_first_administrator_can_be_made_from_a_file_without_a_link() {
    let folder = Folder::with_https();
    let daemon = quiet(&folder);
    let wanted = json!({"user": ADMIN, "password": PASSWORD});
    let refused = daemon.https().say("POST", "/api/v1/admin", &wanted);
    assert_eq!(refused.status, 503, "{}", refused.body);
    let weak = json!({"user": ADMIN, "password": "password1234"});
    let refused = daemon
        .try_request(
            "POST",
            "/api/v1/admin",
            Some(("application/json", weak.to_string().as_bytes())),
        )
        .unwrap();
    assert_eq!(refused.status, 422, "{}", refused.body);
    daemon.ask("POST", "/api/v1/admin", Some(&wanted));
    let admin = daemon.https().signed_in(ADMIN, PASSWORD);
    assert_eq!(admin.get("/api/v1/me")["user"]["name"], ADMIN);
}

#[test]
fn reading_changes_nothing() {
    let folder = Folder::with_https();
    folder.write_api_settings("requests_per_minute = 60000", "[icmp]\nevery = \"60s\"\n");
    let daemon = Daemon::start(&folder, None);
    let admin = daemon.set_up();
    admin.ask(
        "POST",
        "/api/v1/devices",
        &json!({"name": "x", "address": "127.0.9.1", "enabled": false}),
    );
    let state = || {
        let audit = admin.get("/api/v1/audit?outcome=done");
        let device = admin.get("/api/v1/devices/x");
        (audit["items"].clone(), device["revision"].clone())
    };
    let before = state();
    for (method, path, _permission) in operations(&daemon) {
        if method == "GET" {
            let asked = admin.look(&path).status;
            assert!(asked < 500, "GET {path}: {asked}");
            let asked = admin.send(Ask::new("HEAD", &path)).status;
            assert!(asked < 500, "HEAD {path}: {asked}");
        }
    }
    assert_eq!(state(), before);
}
