//! Agents that misbehave: each is shown for what it is, and harms nobody else.

use harness::{Daemon, Folder, Site, eventually};
use serde_json::{Value, json};

use crate::{daemon, namespace};

/// The failure of a device's last SNMP poll, once it shows `part`.
fn until_failure(daemon: &Daemon, device: &str, part: &str) {
    eventually(40, &format!("{device}: {part}"), || {
        let device = daemon.get(&format!("/api/v1/devices/{device}"));
        let snmp = device["checks"]["snmp"].clone();
        if snmp.to_string().contains(part) {
            Ok(())
        } else {
            Err(snmp)
        }
    });
}

/// Waits for `many` SNMP polls that end from now on.
fn newer_polls(daemon: &Daemon, device: &str, many: usize) {
    let at = || {
        let device = daemon.get(&format!("/api/v1/devices/{device}"));
        device["checks"]["snmp"]["at"].clone()
    };
    for _poll in 0..many {
        let last = at();
        eventually(20, &format!("another poll of {device}"), || {
            let now = at();
            if now == last { Err(now) } else { Ok(()) }
        });
    }
}

fn healthy(device: &Value) -> bool {
    device["checks"]["snmp"]["failure"].is_null() && device["in_bps"].is_number()
}

#[test]
fn agents_that_misbehave_are_named_and_the_others_go_on() {
    let Some(namespace) = namespace() else { return };
    let folder = Folder::new();
    let site = Site::start(
        folder.path(),
        Some(&namespace),
        &["--uniform", "6", "--ports", "4"],
    );
    let daemon = daemon(&folder, &namespace, "");
    daemon.ask(
        "PUT",
        "/api/v1/credentials/public",
        Some(&json!({"kind": "snmp-v2c", "community": "public"})),
    );
    daemon.ask(
        "PUT",
        "/api/v1/credentials/wrong",
        Some(&json!({"kind": "snmp-v2c", "community": "wr0ngsecret"})),
    );
    let csv = site.csv("public");
    let body = Some(("text/csv", csv.as_bytes()));
    daemon
        .try_request("POST", "/api/v1/devices/import", body)
        .unwrap();
    let page = daemon.get("/api/v1/devices?sort=address&limit=10");
    let names: Vec<String> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|device| device["name"].as_str().unwrap().to_owned())
        .collect();
    let [garbage, silent, stuck, big, wrong, well] = &names[..] else {
        panic!("{names:?}")
    };
    for name in &names {
        eventually(30, "all healthy at first", || {
            let device = daemon.get(&format!("/api/v1/devices/{name}"));
            if healthy(&device) {
                Ok(())
            } else {
                Err(device)
            }
        });
    }

    site.control(&format!("garbage {garbage}"));
    site.control(&format!("silent {silent}"));
    site.control(&format!("not-increasing {stuck}"));
    site.control(&format!("too-big {big} 12"));
    daemon.ask(
        "PATCH",
        &format!("/api/v1/devices/{wrong}"),
        Some(&json!({"credential": "wrong"})),
    );

    until_failure(&daemon, silent, "timeout");
    until_failure(&daemon, wrong, "community");
    until_failure(&daemon, stuck, "increasing");
    until_failure(&daemon, garbage, "failure\":{");
    // too big is no failure: the engine asks for less. The first poll that ends may
    // have begun before the fault
    newer_polls(&daemon, big, 2);
    let big = daemon.get(&format!("/api/v1/devices/{big}"));
    assert!(healthy(&big), "{big}");
    let well = daemon.get(&format!("/api/v1/devices/{well}"));
    assert!(healthy(&well), "{well}");
    for name in &names {
        assert_eq!(
            daemon.state(name),
            "up",
            "an agent's trouble is not the device's"
        );
    }
    assert!(!daemon.log().contains("wr0ngsecret"));
}

#[test]
fn a_reboot_is_a_gap_in_the_rates_and_never_a_spike() {
    let Some(namespace) = namespace() else { return };
    let folder = Folder::new();
    let site = Site::start(
        folder.path(),
        Some(&namespace),
        &["--uniform", "1", "--ports", "2"],
    );
    let daemon = daemon(&folder, &namespace, "");
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
    let device = daemon.get("/api/v1/devices?limit=1")["items"][0]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let rates = || {
        let range = daemon.get(&format!(
            "/api/v1/devices/{device}/metrics/ifHCInOctets?view=rate"
        ));
        let series = range["series"].as_array().cloned().unwrap_or_default();
        series
            .iter()
            .flat_map(|one| one["points"].as_array().cloned().unwrap_or_default())
            .map(|point| point[1].as_f64())
            .collect::<Vec<_>>()
    };
    eventually(40, "two rates", || {
        let rates = rates();
        if rates.iter().flatten().count() >= 2 {
            Ok(())
        } else {
            Err(rates)
        }
    });
    let gaps = |rates: &[Option<f64>]| rates.iter().filter(|rate| rate.is_none()).count();
    let (before, gaps_before) = (rates().len(), gaps(&rates()));
    site.control(&format!("reboot {device}"));
    eventually(60, "rates after the reboot", || {
        let rates = rates();
        if rates.len() >= before + 6 {
            Ok(())
        } else {
            Err(rates)
        }
    });
    let speed_octets = 1e9 / 8.0 * 10.0;
    let rates = rates();
    assert!(gaps(&rates) > gaps_before, "no gap in {rates:?}");
    for rate in rates.into_iter().flatten() {
        assert!((0.0..speed_octets).contains(&rate), "{rate} octets/s");
    }
}
