//! The key that wraps all secrets: a wrong one, and exchanging it.

use std::process::Stdio;
use std::time::{Duration, Instant};

use harness::{Daemon, Folder, Namespace, Process, Site, eventually, new_key, write_private};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{DEVICE_DOWN, QUICK, namespace};

/// How often the daemon is killed.
const KILLS: usize = 20;

/// Enough that a rotation takes long enough to be hit in the middle.
const SECRETS: usize = 400;

/// Runs `sotpd` until it ends: exit code and what it said.
fn run(folder: &Folder) -> (Option<i32>, String) {
    let said = folder.path().join("said");
    let mut command = Daemon::command(folder, None);
    command
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&said).unwrap());
    let status = Process::start(command).wait(30);
    (status.code(), std::fs::read_to_string(&said).unwrap())
}

#[test]
fn a_wrong_key_starts_nothing_and_changes_no_byte() {
    let folder = Folder::new();
    folder.write_settings("", "[icmp]\nevery = \"60s\"\n");
    let daemon = Daemon::start(&folder, None);
    let secret = json!({"value": "a value that only the right key opens"});
    daemon.ask("PUT", "/api/v1/secrets/canary", Some(&secret));
    assert!(daemon.stop().success());
    let bytes = std::fs::read(folder.store()).unwrap();
    let right = std::fs::read_to_string(folder.key()).unwrap();

    for wrong in [
        new_key(),
        String::new(),
        "too short\n".to_owned(),
        right.to_uppercase().replace('A', "B").replace('0', "1"),
    ] {
        write_private(&folder.key(), &wrong);
        let (code, said) = run(&folder);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains("key"), "it does not say why: {said}");
        assert!(!said.contains(right.trim()), "the key is in {said}");
        let now = std::fs::read(folder.store()).unwrap();
        assert_eq!(now.len(), bytes.len());
        assert!(now == bytes, "the store was changed");
    }
    std::fs::remove_file(folder.key()).unwrap();
    let (code, said) = run(&folder);
    assert_eq!(code, Some(78), "{said}");

    write_private(&folder.key(), &right);
    let daemon = Daemon::start(&folder, None);
    let secrets = daemon.get("/api/v1/secrets");
    assert!(secrets.to_string().contains("canary"), "{secrets}");
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    folder.write_settings("", "");
    std::fs::set_permissions(folder.key(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = run(&folder);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("kek") && said.contains("chmod 600"), "{said}");
    assert!(!folder.store().exists());
}

/// What the API says of the wrapping key.
fn key(daemon: &Daemon) -> Value {
    daemon.get("/api/v1/secrets-key")
}

#[test]
fn twenty_kills_in_the_middle_of_a_key_rotation_lose_no_secret() {
    let Some(namespace) = namespace() else { return };
    let folder = Folder::new();
    let site = Site::start(
        folder.path(),
        Some(&namespace),
        &["--uniform", "1", "--ports", "2"],
    );
    let new = folder.path().join("kek-new");
    let settings = format!("new_key_file = \"{}\"", new.display());
    write_private(&new, &new_key());
    folder.write_rules(DEVICE_DOWN);
    folder.write_all_settings("", "requests_per_minute = 100000", &settings, QUICK);
    let mut daemon = Daemon::start(&folder, Some(&namespace));
    let community = json!({"kind": "snmp-v2c", "community": "public"});
    daemon.ask("PUT", "/api/v1/credentials/public", Some(&community));
    let csv = site.csv("public");
    let import = Some(("text/csv", csv.as_bytes()));
    let report = daemon.try_request("POST", "/api/v1/devices/import", import);
    report.unwrap().expect("an import");
    for number in 0..SECRETS {
        let value = json!({"value": format!("value {number}")});
        daemon.ask("PUT", &format!("/api/v1/secrets/s{number}"), Some(&value));
    }
    let device = daemon.get("/api/v1/devices")["items"][0]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let polled = |daemon: &Daemon| {
        let path = format!("/api/v1/devices/{device}");
        let before = daemon.get(&path)["checks"]["snmp"]["at"].clone();
        let _now = daemon.try_request("POST", &format!("{path}/poll"), None);
        eventually(40, "a poll with the community", || {
            let now = daemon.get(&path)["checks"]["snmp"].clone();
            let new = now["at"] != before && !now["at"].is_null();
            if new && now["failure"].is_null() {
                Ok(())
            } else {
                Err(now)
            }
        });
    };
    polled(&daemon);

    // how long one takes that nobody disturbs
    write_private(&new, &new_key());
    let began = Instant::now();
    daemon.ask("POST", "/api/v1/secrets-key/rotate", None);
    let took = began.elapsed();
    daemon = with_the_new_key(daemon, &folder, &namespace);
    polled(&daemon);

    let mut hit = 0;
    for kill in 0..KILLS {
        write_private(&new, &new_key());
        let old = key(&daemon)["active_key"].clone();
        // spread from before its beginning to about its end
        let wait = took * u32::try_from(kill).unwrap() / u32::try_from(KILLS).unwrap();
        let answered = killed_while_rotating(daemon, wait);
        hit += usize::from(!answered);

        daemon = Daemon::start(&folder, Some(&namespace));
        polled(&daemon);
        // what was begun goes on by itself; what was not is asked for again
        eventually(60, "the end of the rotation", || {
            let state = key(&daemon);
            if state["active_key"] != old && state["keys"].as_array().unwrap().len() == 1 {
                return Ok(());
            }
            let _again = daemon.try_request("POST", "/api/v1/secrets-key/rotate", None);
            Err(state)
        });
        daemon = with_the_new_key(daemon, &folder, &namespace);
        let secrets = daemon.get("/api/v1/secrets?limit=1000");
        assert_eq!(secrets["items"].as_array().unwrap().len(), SECRETS + 1);
    }
    polled(&daemon);
    assert!(
        hit >= 5,
        "no rotation was hit in its middle: {hit} of {KILLS}, {took:?}"
    );
}

/// Kills the daemon `wait` after a rotation was asked for; says whether it had
/// been answered by then.
fn killed_while_rotating(daemon: Daemon, wait: Duration) -> bool {
    let answered = std::thread::scope(|scope| {
        let rotation = scope.spawn(|| {
            let path = "/api/v1/secrets-key/rotate";
            daemon.try_request("POST", path, None).is_ok()
        });
        let began = Instant::now();
        while let Some(left) = wait.checked_sub(began.elapsed()) {
            std::thread::park_timeout(left);
        }
        daemon.process().signal(Signal::SIGKILL);
        rotation.join().unwrap()
    });
    daemon.kill9();
    answered
}

/// The new key becomes the key, as an administrator does it after a rotation.
fn with_the_new_key(daemon: Daemon, folder: &Folder, namespace: &Namespace) -> Daemon {
    daemon.kill9();
    std::fs::copy(folder.path().join("kek-new"), folder.key()).unwrap();
    Daemon::start(folder, Some(namespace))
}
