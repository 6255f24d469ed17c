//! A clock that is set.

use std::path::Path;

use harness::{Daemon, Folder, eventually};
use serde_json::json;

use crate::{DEVICE_DOWN, QUICK, skipped};

/// Debian's libfaketime for programs with threads.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

#[test]
fn a_clock_that_steps_back_an_hour_loses_no_samples_and_raises_no_alert() {
    if !Path::new(FAKETIME).exists() {
        return skipped("libfaketime is not installed");
    }
    let folder = Folder::new();
    folder.write_rules(DEVICE_DOWN);
    folder.write_settings("", QUICK);
    let offset = folder.path().join("offset");
    std::fs::write(&offset, "+0s\n").unwrap();
    let mut command = Daemon::command(&folder, None);
    command
        .env("LD_PRELOAD", FAKETIME)
        .env("FAKETIME_TIMESTAMP_FILE", &offset)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let daemon = Daemon::start_command(&folder, command);
    daemon.add(&json!({"name": "local", "address": "127.0.0.1"}));
    daemon.until_state(10, "local", "up");
    let points = || {
        let range = daemon.get(
            "/api/v1/devices/local/metrics/icmp_loss_ratio?from=-3h&until=2037-01-01T00:00:00Z",
        );
        range["series"][0]["points"].as_array().map_or(0, Vec::len)
    };
    eventually(20, "some points", || {
        if points() >= 3 { Ok(()) } else { Err(points()) }
    });

    let before = points();
    std::fs::write(&offset, "-1h\n").unwrap();
    eventually(30, "points after the step back", || {
        if points() >= before + 4 {
            Ok(())
        } else {
            Err((before, points()))
        }
    });
    assert_eq!(daemon.state("local"), "up");

    let before = points();
    std::fs::write(&offset, "+0s\n").unwrap();
    eventually(30, "points after the step forward", || {
        if points() >= before + 4 {
            Ok(())
        } else {
            Err((before, points()))
        }
    });
    assert_eq!(daemon.state("local"), "up");
    assert!(daemon.alerts("pending,firing,resolved").is_empty());
}
