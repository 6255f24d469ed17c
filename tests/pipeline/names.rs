//! A name server that does not answer.

use std::time::Instant;

use harness::{Folder, Process, eventually};
use serde_json::json;

use crate::{daemon, namespace};

#[test]
fn a_dead_name_server_with_a_thousand_names_slows_nothing_else_down() {
    let Some(namespace) = namespace() else { return };
    let folder = Folder::new();
    // a name server that takes every question and answers none
    let silent = "import socket, time\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                  s.bind(('127.9.9.9', 53))\ntime.sleep(3600)";
    let mut command = namespace.command("python3");
    command.args(["-c", silent]);
    let _silent_server = Process::start(command);
    eventually(20, "a name server that listens", || {
        match namespace.run("ss", &["-Hlun", "sport", "=", ":53"]) {
            Some(sockets) if sockets.contains("127.9.9.9:53") => Ok(()),
            seen => Err(seen),
        }
    });
    let daemon = daemon(&folder, &namespace, "[dns]\nservers = [\"127.9.9.9\"]\n");
    let mut csv = String::from("name,address\n");
    for place in 0..1_000 {
        csv.push_str(&format!("named{place},d{place}.example.net\n"));
    }
    daemon
        .try_request(
            "POST",
            "/api/v1/devices/import",
            Some(("text/csv", csv.as_bytes())),
        )
        .unwrap();
    daemon.add(&json!({"name": "plain", "address": "127.0.0.5"}));

    daemon.until_state(15, "plain", "up");
    eventually(20, "the trouble with a name", || {
        let device = daemon.get("/api/v1/devices/named7");
        let icmp = device["checks"]["icmp"]["failure"]["kind"].clone();
        if icmp == "resolution" {
            Ok(())
        } else {
            Err(device)
        }
    });
    assert_eq!(
        daemon.state("named7"),
        "unknown",
        "our trouble is not the device's"
    );
    assert!(daemon.alerts("pending,firing").is_empty());

    // the plain device is asked every second all the while
    let asked = |device: &serde_json::Value| {
        device["checks"]["icmp"]["at"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    for _round in 0..3 {
        let last = asked(&daemon.get("/api/v1/devices/plain"));
        eventually(4, "another round of the plain device", || {
            let now = asked(&daemon.get("/api/v1/devices/plain"));
            if now == last { Err(now) } else { Ok(()) }
        });
    }
    let began = Instant::now();
    daemon.get("/api/v1/devices?limit=1000");
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}
