//! The program as people and scripts use it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::bench::{has, text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PROGRAM: &str = env!("CARGO_BIN_EXE_simulate");

fn simulate(words: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// A running simulation that has said that it is ready.
struct Running(Child);

impl Running {
    fn start(words: &[&str]) -> Running {
        let mut child = Command::new(PROGRAM)
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.as_mut().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Running(child)
    }

    fn stop(mut self, signal: Signal) -> Option<i32> {
        let pid = i32::try_from(self.0.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ctl(socket: &Path, words: &[&str]) -> Output {
    let socket = socket.to_str().unwrap();
    let mut all = vec!["ctl", "--control", socket];
    all.extend(words);
    simulate(&all)
}

#[test]
fn faults_are_set_and_cleared_over_the_control_socket() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control");
    let control = socket.to_str().unwrap();
    let words = ["--devices", "20", "--port", "0", "--control", control];
    let running = Running::start(&words);

    assert!(ctl(&socket, &["down", "sw-berlin-03"]).status.success());
    let list = text(&ctl(&socket, &["list"]));
    assert_eq!(list.lines().count(), 20, "{list}");
    let down = |list: &str| list.lines().filter(|line| line.ends_with(" down")).count();
    assert_eq!(down(&list), 1, "{list}");

    let refused = ctl(&socket, &["down", "sw-nowhere-1"]);
    assert!(!refused.status.success());
    assert!(
        text(&refused).contains("no simulated device is called"),
        "{}",
        text(&refused)
    );

    assert!(ctl(&socket, &["up", "sw-berlin-03"]).status.success());
    assert_eq!(down(&text(&ctl(&socket, &["list"]))), 0);

    assert_eq!(running.stop(Signal::SIGTERM), Some(0));
    assert!(!socket.exists());
    let gone = ctl(&socket, &["list"]);
    assert!(
        text(&gone).contains("no simulation answers at"),
        "{}",
        text(&gone)
    );
}

#[test]
fn an_interrupt_ends_it_cleanly() {
    let running = Running::start(&["--uniform", "3", "--ports", "4", "--port", "0"]);
    assert_eq!(running.stop(Signal::SIGINT), Some(0));
}

#[test]
fn the_community_can_come_from_a_file() {
    if !has("snmpget") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("community");
    let socket = folder.path().join("control");
    fs::write(&file, "s3cret\n").unwrap();
    let words = [
        "--devices",
        "2",
        "--port",
        "0",
        "--community-file",
        file.to_str().unwrap(),
        "--control",
        socket.to_str().unwrap(),
    ];
    let _running = Running::start(&words);
    let list = text(&ctl(&socket, &["list"]));
    let address = list.split_whitespace().nth(1).unwrap().to_owned();
    let ask = |community: &str| {
        let output = Command::new("snmpget")
            .args(["-v2c", "-t0.35", "-r0", "-c", community, "-m", ""])
            .args([&address, ".1.3.6.1.2.1.1.5.0"])
            .output();
        text(&output.unwrap())
    };
    assert!(ask("s3cret").contains("core-1"));
    assert!(ask("public").contains("Timeout"));
}

#[test]
fn the_inventory_is_printed_without_starting_anything() {
    let csv = text(&simulate(&[
        "site",
        "--devices",
        "50",
        "--credential",
        "demo",
    ]));
    assert!(csv.starts_with(
        "name,address,kind,vendor,model,os,site,location,tags,parents,credential,snmp_port\n"
    ));
    assert_eq!(csv.lines().count(), 51);
    assert!(csv.lines().skip(1).all(|line| line.ends_with(",demo,1161")));

    let json = simulate(&["site", "--uniform", "3", "--format", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json[2]["name"], "sim-00003");
    assert_eq!(json[2]["address"], "127.20.0.3");
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    for (words, message) in [
        (
            &["--network", "10.0.0.0/8"][..],
            "10.0.0.0 is not inside 127.0.0.0/8",
        ),
        (&["--devices", "0"], "a site has 1 to 100000 devices, not 0"),
        (
            &["--network", "127.20.0.0/30"],
            "127.20.0.0/30 has room for 2 devices, not for 50",
        ),
        (
            &["--snmprec", "/nowhere.snmprec"],
            "cannot read the recording /nowhere.snmprec: No such file",
        ),
        (
            &["--response-bytes", "10"],
            "a response is limited to 484 to 65507 bytes, not 10",
        ),
        (
            &["--community-file", "/nowhere"],
            "cannot read the community file /nowhere",
        ),
    ] {
        let output = simulate(words);
        assert!(!output.status.success(), "{words:?}");
        let said = text(&output);
        assert!(said.contains(message), "{words:?}: {said}");
    }
}
