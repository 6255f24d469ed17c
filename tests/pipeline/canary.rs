//! Secrets that go in, and every place where they must not come out.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use harness::{Ask, Client, Daemon, Folder, PASSWORD, is_root, tool};
use serde_json::{Value, json};

use crate::setup::operations;
use crate::{QUICK, skipped};

/// Everything that was told to the daemon in confidence, or by it once.
struct Confided(Vec<(&'static str, String)>);

impl Confided {
    /// Which of them stand in `bytes`.
    fn in_bytes(&self, bytes: &[u8]) -> Vec<&'static str> {
        let stands = |value: &str| {
            let value = value.as_bytes();
            bytes.windows(value.len()).any(|part| part == value)
        };
        let found = self.0.iter().filter(|(_, value)| stands(value));
        found.map(|(name, _)| *name).collect()
    }

    #[track_caller]
    fn are_not_in(&self, place: &str, bytes: &[u8]) {
        let found = self.in_bytes(bytes);
        assert!(found.is_empty(), "{found:?} in {place}");
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Confides everything that can be confided.
fn confide(daemon: &Daemon, folder: &Folder) -> (Client, Confided) {
    let mut told: Vec<(&'static str, String)> = Vec::new();
    let link = daemon.ask("POST", "/api/v1/setup-links", None);
    told.push(("set-up token", text(&link["token"])));
    let admin = daemon.set_up();
    told.push(("password", PASSWORD.to_owned()));
    told.push(("access token", admin.token().to_owned()));
    let granted = admin.sign_in(harness::ADMIN, PASSWORD).expect("a session");
    told.push(("refresh token", text(&granted["refresh_token"])));

    let secret = json!({"value": "canary-of-a-secret-51873", "note": "a note is no secret"});
    admin.ask("PUT", "/api/v1/secrets/canary", &secret);
    told.push(("secret", text(&secret["value"])));
    // an older version is a secret still
    let newer = json!({"value": "canary-of-a-newer-secret-90210"});
    let put = Ask::new("PUT", "/api/v1/secrets/canary").header("If-Match", "*");
    admin.send(put.json(&newer)).expect("a new version");
    told.push(("newer secret", text(&newer["value"])));
    let community = json!({"kind": "snmp-v2c", "community": "canary-of-a-community-4711"});
    admin.ask("PUT", "/api/v1/credentials/campus", &community);
    told.push(("community", text(&community["community"])));
    let device = json!({"name": "d1", "address": "127.0.9.1", "snmp": {"community": "canary-given-inline-777"}});
    if admin.say("POST", "/api/v1/devices", &device).status == 201 {
        told.push(("inline community", "canary-given-inline-777".to_owned()));
    }

    let service = admin.service("deploy", &json!([{"role": "ADMIN"}]));
    told.push(("bearer token", service.token().to_owned()));
    let wanted = json!({"name": "signer", "kind": "hmac", "bindings": [{"role": "READONLY"}], "expires": harness::in_a_month()});
    let made = admin.ask("POST", "/api/v1/tokens", &wanted);
    told.push(("signing key", text(&made["token"])));
    admin.add_person("berta", &json!([{"role": "READONLY"}]));
    let reset = admin.ask("POST", "/api/v1/users/berta/password-reset", &Value::Null);
    told.push(("one-time password", text(&reset["password"])));
    admin.add_person("carl", &json!([{"role": "READONLY"}]));
    let carl = admin.signed_in("carl", PASSWORD);
    let offer = carl.ask("POST", "/api/v1/me/totp", &json!({"password": PASSWORD}));
    told.push(("TOTP seed", text(&offer["secret"])));
    let key = std::fs::read_to_string(folder.key()).unwrap();
    told.push(("wrapping key", key.trim().to_owned()));

    // a wrong password and a forged token are nobody's business either
    let wrong = "canary-of-a-wrong-password-3";
    let _refused = admin.sign_in(harness::ADMIN, wrong);
    told.push(("wrong password", wrong.to_owned()));
    let forged = "canaryforgedtoken0123456789";
    let _refused = admin.bearer(forged).look("/api/v1/me");
    told.push(("forged token", forged.to_owned()));
    // the same as bytes, where it is a text of digits
    let bytes: Vec<u8> = (0..key.trim().len() / 2)
        .filter_map(|place| u8::from_str_radix(key.get(place * 2..place * 2 + 2)?, 16).ok())
        .collect();
    assert_eq!(bytes.len(), 32);
    (admin, Confided(told))
}

#[test]
fn what_was_confided_is_in_no_file_no_log_no_answer_and_not_in_proc() {
    let folder = Folder::with_https();
    folder.write_api_settings(
        "anonymous_per_minute = 6000\nrequests_per_minute = 60000",
        // all that it can say
        &format!("{QUICK}[log]\nlevel = \"trace\"\n"),
    );
    let daemon = Daemon::start(&folder, None);
    let (admin, confided) = confide(&daemon, &folder);

    let names = [
        "canary", "campus", "d1", "deploy", "berta", "carl", "default", "1",
    ];
    let mut answers = 0;
    for (method, path, _permission) in operations(&daemon) {
        if method != "GET" {
            continue;
        }
        let paths: Vec<String> = match path.contains("/x") {
            true => names
                .map(|name| path.replace("/x", &format!("/{name}")))
                .to_vec(),
            false => vec![path],
        };
        for path in paths {
            for answer in [
                admin.look(&path),
                daemon.try_request("GET", &path, None).unwrap(),
            ] {
                answers += usize::from(answer.status == 200);
                let shown = format!("{:?} {}", answer.headers, answer.text());
                confided.are_not_in(&format!("the answer of GET {path}"), shown.as_bytes());
            }
        }
    }
    assert!(answers > 40, "only {answers} answers were a yes");
    for kind in ["application/x-ndjson", "text/csv"] {
        let export = Ask::new("GET", "/api/v1/audit").header("Accept", kind);
        let export = admin.send(export);
        assert_eq!(export.status, 200, "{}", export.body);
        assert!(export.text().contains("secret.set"), "{}", export.text());
        confided.are_not_in(kind, export.text().as_bytes());
    }

    let id = daemon.process().id();
    for file in ["environ", "cmdline"] {
        let bytes = std::fs::read(format!("/proc/{id}/{file}")).unwrap();
        confided.are_not_in(file, &bytes);
    }
    let limits = std::fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file"));
    let core: Vec<&str> = core.unwrap().split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"], "{limits}");

    let log = daemon.log();
    assert!(log.contains("DEBUG") || log.contains("TRACE"), "{log}");
    confided.are_not_in("the log", log.as_bytes());
    assert!(daemon.stop().success());
    files_hold_none(&folder, &confided);
}

/// Every file that the daemon wrote; the key's own file aside.
fn files_hold_none(folder: &Folder, confided: &Confided) {
    let mut folders = vec![folder.path().to_owned()];
    let mut files = 0;
    while let Some(here) = folders.pop() {
        for entry in std::fs::read_dir(here).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() && path != folder.key() {
                files += 1;
                let place = path.display().to_string();
                confided.are_not_in(&place, &std::fs::read(&path).unwrap());
            }
        }
    }
    assert!(files >= 3, "{files} files");
    let store = std::fs::read(folder.store()).unwrap();
    // the key as it is used, not as it is written
    let key = std::fs::read_to_string(folder.key()).unwrap();
    let digits = key.trim().as_bytes();
    let raw: Vec<u8> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    assert!(!store.windows(32).any(|part| part == raw), "the raw key");
}

#[test]
fn nobody_but_root_looks_into_the_running_daemon() {
    if !is_root() || !tool("setpriv") {
        return skipped("it takes root and setpriv to run the daemon as somebody else");
    }
    let folder = Folder::new();
    folder.write_settings("", "[icmp]\nevery = \"60s\"\n");
    give_away(folder.path());
    let plain = Daemon::command(&folder, None);
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(plain.get_program())
        .args(plain.get_args());
    let daemon = Daemon::start_command(&folder, command);
    let id = daemon.process().id();
    // proc(5): a process that may not be dumped has its files owned by root
    for file in ["environ", "mem", "maps"] {
        let owner = std::fs::metadata(format!("/proc/{id}/{file}"))
            .unwrap()
            .uid();
        assert_eq!(owner, 0, "{file} belongs to the daemon's user");
    }
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    assert!(status.contains("Uid:\t65534"), "{status}");
}

fn give_away(path: &Path) {
    let done = Command::new("chown")
        .args(["-R", "65534:65534"])
        .arg(path)
        .status();
    assert!(done.unwrap().success());
}
