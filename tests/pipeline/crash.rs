//! kill -9 at any moment: what was acknowledged is there.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use harness::{Daemon, Folder, Namespace, Site};
use serde_json::{Value, json};

use crate::{DEVICE_DOWN, QUICK, namespace};

/// Rounds of kill -9 in one run.
const KILLS: u64 = 200;

/// What one writer was told about its device: the highest revision acknowledged,
/// and the location written with it.
#[derive(Default)]
struct Told {
    devices: HashMap<String, (u64, String)>,
}

impl Told {
    /// Writes as fast as it can until the daemon is gone; remembers only what
    /// was acknowledged.
    fn write_until(&mut self, daemon: &Daemon, round: u64, end: Instant) {
        let mut number = 0;
        while Instant::now() < end {
            number += 1;
            let name = format!("w{}", number % 5);
            let location = format!("round {round} write {number}");
            let (method, path, body) = if self.devices.contains_key(&name) {
                (
                    "PATCH",
                    format!("/api/v1/devices/{name}"),
                    json!({"location": location}),
                )
            } else {
                let address = format!("127.3.0.{}", number % 5 + 1);
                let body = json!({"name": name, "address": address, "location": location});
                ("POST", "/api/v1/devices".to_owned(), body)
            };
            let text = body.to_string();
            let Ok(response) =
                daemon.try_request(method, &path, Some(("application/json", text.as_bytes())))
            else {
                return;
            };
            if (200..300).contains(&response.status) {
                let revision = response.body["revision"].as_u64().unwrap();
                self.devices.insert(name, (revision, location));
            }
        }
    }

    /// Every acknowledged write is there, or a later one that was on its way.
    fn check(&self, daemon: &Daemon, round: u64) {
        for (name, (revision, location)) in &self.devices {
            let device = daemon.get(&format!("/api/v1/devices/{name}"));
            let found = device["revision"].as_u64().unwrap_or(0);
            assert!(
                found >= *revision,
                "round {round}: {name} went back to revision {found} from {revision}"
            );
            if found == *revision {
                assert_eq!(
                    device["location"],
                    Value::from(location.clone()),
                    "round {round}: {name}"
                );
            }
        }
    }
}

fn simulated(folder: &Folder, namespace: &Namespace) -> Site {
    Site::start(
        folder.path(),
        Some(namespace),
        &["--uniform", "20", "--ports", "8"],
    )
}

#[test]
fn two_hundred_kills_lose_no_acknowledged_write() {
    let Some(namespace) = namespace() else { return };
    let folder = Folder::new();
    let site = simulated(&folder, &namespace);
    folder.write_rules(DEVICE_DOWN);
    folder.write_settings("", QUICK);
    let mut told = Told::default();
    let mut points = 0;
    for round in 0..KILLS {
        let daemon = Daemon::start(&folder, Some(&namespace));
        if round == 0 {
            daemon.ask(
                "PUT",
                "/api/v1/credentials/public",
                Some(&json!({"kind": "snmp-v2c", "community": "public"})),
            );
            let csv = site.csv("public");
            daemon
                .try_request(
                    "POST",
                    "/api/v1/devices/import",
                    Some(("text/csv", csv.as_bytes())),
                )
                .unwrap();
        }
        told.check(&daemon, round);
        if round % 20 == 19 {
            // history only grows: no sample that was there is lost
            let range = daemon.get("/api/v1/devices/w0/metrics/icmp_loss_ratio?from=-1h");
            let now = range["series"][0]["points"].as_array().map_or(0, Vec::len);
            assert!(
                now >= points,
                "round {round}: {now} points, {points} before"
            );
            points = now;
        }
        // 20 to 320 ms, by a step that visits all of them; now and then long
        // enough to measure something
        let long = if round % 20 == 18 { 3_000 } else { 0 };
        let span = Duration::from_millis(20 + round * 97 % 300 + long);
        told.write_until(&daemon, round, Instant::now() + span);
        daemon.kill9();
    }
    let daemon = Daemon::start(&folder, Some(&namespace));
    told.check(&daemon, KILLS);
    assert!(points > 0, "nothing was measured all the while");
    assert!(daemon.stop().success());
}
