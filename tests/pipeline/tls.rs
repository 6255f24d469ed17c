//! The HTTPS listener: its certificate, those of clients, and what it refuses.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::{Ask, Authority, Client, Daemon, Folder, Identity, eventually, self_signed, tool};
use serde_json::json;

use crate::setup::quiet;
use crate::skipped;

/// Whether this certificate is let in as somebody: the status of `GET /me`, or
/// why there is none.
fn let_in(client: &Client) -> Result<u16, String> {
    let response = client.try_send(Ask::new("GET", "/api/v1/me"));
    response
        .map(|response| response.status)
        .map_err(|error| error.to_string())
}

#[test]
fn a_client_certificate_is_somebody_until_a_reload_finds_it_revoked() {
    let folder = Folder::with_https();
    let mut authority = Authority::new(&folder.path().join("ca"));
    let mut strangers = Authority::new(&folder.path().join("strangers"));
    folder.write_api_settings(
        &format!(
            "client_ca = \"{}\"\nclient_crl = \"{}\"",
            authority.certificate().display(),
            authority.revoked().display()
        ),
        "[icmp]\nevery = \"60s\"\n",
    );
    let daemon = Daemon::start(&folder, None);
    let admin = daemon.set_up();
    for (name, subject) in [("berta", "CN=berta-laptop"), ("carl", "CN=carl-laptop")] {
        admin.add_person(name, &json!([{"role": "READONLY"}]));
        let path = format!("/api/v1/users/{name}");
        admin.ask("PATCH", &path, &json!({"certificate": subject}));
    }
    let client = |identity: &Identity| daemon.https().identity(identity);
    let berta = client(&authority.issue("berta-laptop"));
    let carls = authority.issue("carl-laptop");
    let carl = client(&carls);
    assert_eq!(berta.get("/api/v1/me")["user"]["name"], "berta");
    assert_eq!(carl.get("/api/v1/me")["user"]["name"], "carl");
    // their role counts as ever
    let refused = berta.say(
        "POST",
        "/api/v1/devices",
        &json!({"name": "x", "address": "127.0.9.1"}),
    );
    assert_eq!(refused.status, 403, "{}", refused.body);

    // a name that nobody here has, and the right name from somebody else
    assert_eq!(let_in(&client(&authority.issue("mallory"))), Ok(401));
    let forged = let_in(&client(&strangers.issue("berta-laptop")));
    assert!(forged.is_err(), "{forged:?}");

    let mut open = admin.connect().unwrap();
    let mut ask_admin = || admin.send_on(&mut open, Ask::new("GET", "/api/v1/me"));
    assert_eq!(ask_admin().unwrap().status, 200);
    let mut carls_open = carl.connect().unwrap();
    let mut ask_carl = || carl.send_on(&mut carls_open, Ask::new("GET", "/api/v1/me"));
    assert_eq!(ask_carl().unwrap().status, 200);
    authority.revoke(&[&carls]);
    daemon.reload();
    eventually(10, "no more carl", || {
        // all the while, as a connection that nobody uses is closed after seconds
        let open = ask_admin().map(|answer| answer.status);
        assert!(matches!(open, Ok(200)), "the open connection: {open:?}");
        match let_in(&carl) {
            Err(_) => Ok(()),
            seen => Err(seen),
        }
    });
    assert_eq!(ask_admin().unwrap().status, 200);
    // who proved themselves before the reload proves it again
    let still = ask_carl().map(|answer| answer.status);
    assert!(still.is_err(), "a revoked client goes on: {still:?}");
    assert_eq!(let_in(&berta), Ok(200));
    // a list that cannot be read takes nobody in by mistake, and keeps the old one
    std::fs::write(authority.revoked(), "not a list").unwrap();
    daemon.reload();
    eventually(10, "a warning", || {
        let status = daemon.get("/api/v1/status");
        let warned = status["warnings"].to_string();
        if warned.contains("crl") {
            Ok(())
        } else {
            Err(warned)
        }
    });
    assert!(let_in(&carl).is_err());
    assert_eq!(let_in(&berta), Ok(200));
}

/// What a page of another origin can make a browser send without asking first
/// (the CORS-safelisted requests): the browser adds the certificate by itself.
#[test]
fn a_foreign_page_does_nothing_with_a_browsers_certificate() {
    let folder = Folder::with_https();
    let mut authority = Authority::new(&folder.path().join("ca"));
    let ca = format!("client_ca = \"{}\"", authority.certificate().display());
    folder.write_api_settings(&ca, "[icmp]\nevery = \"60s\"\n");
    let daemon = Daemon::start(&folder, None);
    let admin = daemon.set_up();
    let bindings = json!([{"role": "ADMIN"}]);
    admin.add_person("berta", &bindings);
    admin.ask(
        "PATCH",
        "/api/v1/users/berta",
        &json!({"certificate": "CN=berta"}),
    );
    admin.add_person("carl", &bindings);
    let device = json!({"name": "d1", "address": "127.0.9.1", "enabled": false});
    admin.ask("POST", "/api/v1/devices", &device);
    let berta = daemon.https().identity(&authority.issue("berta"));
    assert_eq!(berta.get("/api/v1/me")["user"]["name"], "berta");

    let body = |text: &str| text.as_bytes().to_vec();
    let person = "{\"name\":\"mallory\",\"bindings\":[{\"role\":\"ADMIN\"}]}";
    for (path, kind, content) in [
        ("/api/v1/users/carl/password-reset", "text/plain", body("")),
        (
            "/api/v1/users/carl/password-reset",
            "application/x-www-form-urlencoded",
            body("a=b"),
        ),
        ("/api/v1/devices/d1/poll", "text/plain", body("")),
        ("/api/v1/secrets-key/rotate", "text/plain", body("")),
        ("/api/v1/users", "text/plain", body(person)),
        (
            "/api/v1/users",
            "multipart/form-data; boundary=x",
            body(person),
        ),
        (
            "/api/v1/devices/import",
            "text/plain",
            body("name,address\nd2,127.0.9.2\n"),
        ),
    ] {
        // with the headers of today's browsers, and as one sends that has none of them
        for modern in [true, false] {
            let mut ask = Ask::new("POST", path).header("Origin", "https://evil.example");
            if modern {
                ask = ask
                    .header("Sec-Fetch-Site", "cross-site")
                    .header("Sec-Fetch-Mode", "no-cors");
            }
            let refused = berta.send(ask.bytes(kind, content.clone()));
            assert!(
                [400, 401, 403, 415].contains(&refused.status),
                "{path} as {kind}: {} {}",
                refused.status,
                refused.body
            );
            assert_eq!(refused.header("access-control-allow-origin"), None);
        }
    }
    let users = admin.get("/api/v1/users");
    assert_eq!(users["total"], 3, "{users}");
    assert_eq!(admin.sign_in("carl", harness::PASSWORD).status, 201);
    // and the same from a program, which no page can steer, works
    let polled = berta.say(
        "POST",
        "/api/v1/users/carl/password-reset",
        &serde_json::Value::Null,
    );
    assert_eq!(polled.status, 200, "{}", polled.body);
}

#[test]
fn a_new_certificate_is_taken_at_a_reload_and_no_connection_is_dropped() {
    let folder = Folder::with_https();
    let daemon = quiet(&folder);
    let admin = daemon.set_up();
    let mut open = admin.connect().unwrap();
    let mut ask = || admin.send_on(&mut open, Ask::new("GET", "/api/v1/me"));
    assert_eq!(ask().unwrap().status, 200);

    let new = self_signed(&folder.path().join("new"));
    let old = folder.path().join("old.pem");
    std::fs::copy(&folder.tls().certificate, &old).unwrap();
    std::fs::copy(&new.certificate, &folder.tls().certificate).unwrap();
    // half of a pair is no pair: the old one stays
    daemon.reload();
    eventually(10, "a warning", || {
        assert_eq!(ask().unwrap().status, 200);
        let status = daemon.get("/api/v1/status");
        let warned = status["warnings"].to_string();
        if warned.contains("key") {
            Ok(())
        } else {
            Err(warned)
        }
    });
    let before = admin.trusting(&old);
    assert_eq!(let_in(&before), Ok(200));
    std::fs::copy(&new.key, &folder.tls().key).unwrap();
    daemon.reload();
    let after = admin.trusting(&new.certificate);
    eventually(10, "the new certificate", || {
        let open = ask().map(|answer| answer.status);
        assert!(matches!(open, Ok(200)), "the open connection: {open:?}");
        match let_in(&after) {
            Ok(200) => Ok(()),
            seen => Err(seen),
        }
    });
    assert!(let_in(&before).is_err());
    assert_eq!(ask().unwrap().status, 200);
}

#[test]
fn without_a_certificate_in_the_settings_one_is_made_and_kept() {
    let folder = Folder::new();
    folder.write_settings("", "[icmp]\nevery = \"60s\"\n");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let text = std::fs::read_to_string(folder.settings()).unwrap();
    let text = text.replace("https = \"off\"", &format!("https = \"{address}\""));
    std::fs::write(folder.settings(), text).unwrap();
    let daemon = Daemon::start(&folder, None);
    let made = folder.path().join("tls/certificate.pem");
    let first = std::fs::read(&made).unwrap();
    let client = Client::new(address, &made);
    assert_eq!(client.get("/api/v1/setup"), json!({"set_up": false}));
    let key = std::fs::metadata(folder.path().join("tls/key.pem")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    assert!(daemon.stop().success());

    let _daemon = Daemon::start(&folder, None);
    assert_eq!(std::fs::read(&made).unwrap(), first, "it was made anew");
    assert_eq!(client.get("/api/v1/setup"), json!({"set_up": false}));
}

#[test]
fn old_tls_and_plain_http_get_nowhere() {
    let folder = Folder::with_https();
    let daemon = quiet(&folder);
    let _admin = daemon.set_up();
    let mut plain = TcpStream::connect(folder.https()).unwrap();
    plain
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    plain
        .write_all(b"GET /api/v1/setup HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let _reset = plain.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    assert!(
        !text.contains("set_up") && !text.contains("HTTP/1.1 200"),
        "{text}"
    );

    if !tool("openssl") {
        return skipped("openssl is not installed");
    }
    let agreed = |version: &str| {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &folder.https().to_string(), version])
            .args(["-cipher", "DEFAULT:@SECLEVEL=0"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.contains("BEGIN CERTIFICATE")
    };
    assert!(agreed("-tls1_2") && agreed("-tls1_3"));
    assert!(!agreed("-tls1_1") && !agreed("-tls1"));
    // of both, the newer one
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &folder.https().to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("TLSv1.3"), "{text}");
}

#[test]
fn every_answer_over_https_tells_browsers_to_be_careful() {
    let folder = Folder::with_https();
    let daemon = quiet(&folder);
    let admin = daemon.set_up();
    for path in [
        "/api/v1/devices",
        "/api/v1/nowhere",
        "/health/live",
        "/setup",
        "/setup.js",
        "/setup.css",
    ] {
        let response = admin.look(path);
        let header = |name: &str| response.header(name).unwrap_or_default();
        let age = header("strict-transport-security");
        let age = age.split("max-age=").nth(1).unwrap_or_default();
        let seconds: String = age.chars().take_while(char::is_ascii_digit).collect();
        assert!(
            seconds.parse::<u64>().is_ok_and(|age| age >= 31_536_000),
            "{path}: {:?}",
            response.headers
        );
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(header("cache-control"), "no-store", "{path}");
        let policy = header("content-security-policy");
        assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
        assert!(
            policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert!(response.header("server").is_none(), "{path}");
        let kind = header("content-type").to_owned();
        assert!(!kind.is_empty(), "{path}: a body without a type");
        let says_charset = kind.to_ascii_lowercase().contains("charset=utf-8");
        assert!(!kind.starts_with("text/") || says_charset, "{path}: {kind}");
    }
    let trace = admin.send(Ask::new("TRACE", "/api/v1/devices"));
    assert_eq!(trace.status, 405, "{}", trace.body);
    let foreign = Ask::new("GET", "/api/v1/devices").header("Origin", "https://evil.example");
    let foreign = admin.send(foreign);
    assert_eq!(foreign.header("access-control-allow-origin"), None);
}

#[test]
fn the_set_up_page_hides_the_password_lets_it_be_pasted_and_keeps_nothing() {
    let folder = Folder::with_https();
    let daemon = quiet(&folder);
    let page = daemon.https().look("/setup").text();
    let script = daemon.https().look("/setup.js").text();
    assert!(page.contains("type=\"password\""), "{page}");
    assert!(page.contains("autocomplete=\"new-password\""), "{page}");
    for hindrance in ["onpaste", "autocomplete=\"off\""] {
        assert!(!page.contains(hindrance), "{hindrance}: {page}");
    }
    for danger in [
        "innerHTML",
        "outerHTML",
        "document.write",
        "eval(",
        "localStorage",
        "sessionStorage",
        "document.cookie",
        "\"paste\"",
    ] {
        assert!(!script.contains(danger), "{danger}: {script}");
    }
    // the token leaves the address bar
    assert!(script.contains("replaceState"), "{script}");
    assert!(
        !page.contains("<script>") && !page.contains("style="),
        "{page}"
    );
}
