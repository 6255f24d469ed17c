//! Starting: bad settings, a store in use, a damaged store, signals.

use std::process::{Command, Stdio};

use harness::{Daemon, Folder, Process, binary, eventually};
use nix::sys::signal::Signal;
use serde_json::json;

/// Runs `sotpd` until it ends: exit code and what it said. One that starts after
/// all is a failure and is ended.
#[track_caller]
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
fn bad_settings_are_all_named_with_their_place_and_nothing_starts() {
    let folder = Folder::new();
    folder.write_settings(
        "commit_evry = \"1s\"",
        "[icmp]\nprobes = 0\n[snmp]\nevery = 60\n",
    );
    let (code, said) = run(&folder);
    assert_eq!(code, Some(78), "{said}");
    for part in ["sotp.toml:4:", "commit_every", "icmp.probes", "snmp.every"] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
    assert!(!folder.store().exists());
}

#[test]
fn wrong_words_on_the_command_line_end_with_ex_usage() {
    let status = Command::new(binary("sotpd"))
        .arg("--nonsense")
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(64));
}

#[test]
fn a_second_instance_leaves_the_store_alone_and_says_why() {
    let folder = Folder::new();
    folder.write_settings("", "");
    let _first = Daemon::start(&folder, None);
    let (code, said) = run(&folder);
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains("in use"), "{said}");
}

#[test]
fn a_damaged_store_is_refused_and_left_as_it_is() {
    let folder = Folder::new();
    folder.write_settings("", "");
    let daemon = Daemon::start(&folder, None);
    for place in 0..50 {
        daemon.add(
            &json!({"name": format!("d{place}"), "address": format!("127.1.0.{}", place + 1)}),
        );
    }
    assert!(daemon.stop().success());

    let mut bytes = std::fs::read(folder.store()).unwrap();
    // wherever the name stands: a page that is no longer used may hold it, too
    let places: Vec<usize> = bytes
        .windows(3)
        .enumerate()
        .filter_map(|(place, part)| (part == b"d42").then_some(place))
        .collect();
    assert!(!places.is_empty(), "the name is not in the file");
    for place in places {
        bytes[place] ^= 1;
    }
    std::fs::write(folder.store(), &bytes).unwrap();
    let (code, said) = run(&folder);
    assert_eq!(code, Some(74), "{said}");
    assert!(said.contains("sotp.redb"), "{said}");
    assert_eq!(
        std::fs::read(folder.store()).unwrap(),
        bytes,
        "the file was changed"
    );
}

#[test]
fn a_reload_takes_all_of_a_good_file_and_nothing_of_a_bad_one() {
    let folder = Folder::new();
    folder.write_settings("", "[icmp]\nevery = \"20s\"\n");
    let daemon = Daemon::start(&folder, None);

    let rule = "[[rule]]\nname = \"new\"\nseverity = \"info\"\n[rule.availability]\ncheck = \"icmp\"\nrounds = 9\n";
    folder.write_rules(rule);
    folder.write_settings("", "[icmp]\nevery = \"20s\"\nprobes = 0\n");
    daemon.process().signal(Signal::SIGHUP);
    eventually(5, "a refusal", || {
        let status = daemon.get("/api/v1/status");
        if status["warnings"].to_string().contains("icmp.probes") {
            Ok(())
        } else {
            Err(status)
        }
    });
    assert_eq!(
        daemon.get("/api/v1/rules")["items"],
        json!([]),
        "half of a reload was taken"
    );

    folder.write_settings("", "[icmp]\nevery = \"20s\"\n");
    daemon.process().signal(Signal::SIGHUP);
    eventually(5, "the new rule", || {
        let rules = daemon.get("/api/v1/rules");
        if rules["items"][0]["name"] == "new" {
            Ok(())
        } else {
            Err(rules)
        }
    });
    assert!(
        !daemon.get("/api/v1/status")["warnings"]
            .to_string()
            .contains("reload")
    );
}

#[test]
fn every_shipped_settings_and_rules_file_is_accepted() {
    // asked when the test runs: builds of several checkouts may share a target
    let etc = format!("{}/../etc", std::env::var("CARGO_MANIFEST_DIR").unwrap());
    let output = Command::new(binary("sotpd"))
        .args([
            "check",
            &format!("{etc}/sotp.toml"),
            "--rules",
            &format!("{etc}/rules"),
        ])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
