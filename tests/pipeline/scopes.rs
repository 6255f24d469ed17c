//! What somebody may not see does not exist for them.

use std::collections::BTreeSet;

use harness::{Client, Daemon, Folder, Forward, Namespace, Site, eventually};
use serde_json::{Value, json};

use crate::{DEVICE_DOWN, QUICK, namespace};

/// Three devices that are polled: two of the tenant acme, at berlin and munich,
/// and one of the tenant that is always there.
struct Three {
    daemon: Daemon,
    site: Site,
    admin: Client,
    /// What the simulation calls them: berlin, munich, the default tenant's.
    simulated: Vec<String>,
    _forward: Forward,
}

const NAMES: [&str; 3] = ["berlin-1", "munich-1", "ours-1"];

fn three(namespace: &Namespace, folder: &Folder) -> Three {
    let site = Site::start(
        folder.path(),
        Some(namespace),
        &["--uniform", "3", "--ports", "2"],
    );
    folder.write_rules(DEVICE_DOWN);
    folder.write_api_settings("", QUICK);
    let daemon = Daemon::start(folder, Some(namespace));
    let forward = Forward::start(folder.path(), namespace, folder.https().port());
    let admin = daemon.set_up_over(&daemon.https().by_way_of(&forward));
    admin.ask("POST", "/api/v1/tenants", &json!({"name": "acme"}));
    let community = json!({"kind": "snmp-v2c", "community": "public"});
    for name in ["public", "acme%2Fpublic"] {
        admin.ask("PUT", &format!("/api/v1/credentials/{name}"), &community);
    }
    let csv = site.csv("public");
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let column = |name| header.iter().position(|column| *column == name).unwrap();
    let (name, address) = (column("name"), column("address"));
    let rows: Vec<_> = lines.collect();
    let places = [
        json!({"name": NAMES[0], "tenant": "acme", "site": "berlin", "credential": "acme/public"}),
        json!({"name": NAMES[1], "tenant": "acme", "site": "munich", "credential": "acme/public"}),
        json!({"name": NAMES[2], "site": "berlin", "credential": "public"}),
    ];
    for (mut device, row) in places.into_iter().zip(&rows) {
        device["address"] = json!(row[address]);
        admin.ask("POST", "/api/v1/devices", &device);
    }
    Three {
        daemon,
        site,
        admin,
        simulated: rows.iter().map(|row| row[name].to_owned()).collect(),
        _forward: forward,
    }
}

/// The names of the devices in a list, whatever they are called there.
fn names(list: &Value) -> BTreeSet<String> {
    let text = list.to_string();
    let known = NAMES.into_iter().filter(|name| text.contains(name));
    known.map(str::to_owned).collect()
}

fn only(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn who_has_one_site_of_a_tenant_sees_its_devices_metrics_alerts_and_counts_alone() {
    let Some(namespace) = namespace() else { return };
    let folder = Folder::with_https();
    let three = three(&namespace, &folder);
    let Three { daemon, admin, .. } = &three;
    for name in NAMES {
        daemon.until_state(40, name, "up");
    }
    for device in &three.simulated {
        three.site.control(&format!("down {device}"));
    }
    eventually(60, "three alerts", || {
        let alerts = daemon.alerts("firing");
        if alerts.len() == 3 {
            Ok(())
        } else {
            Err(alerts)
        }
    });

    let berlin = json!([{"role": "OPERATOR", "tenant": "acme", "sites": ["berlin"]}]);
    let person = admin.person("berta", &berlin);
    let service = admin.service("acme/berlin-service", &berlin);
    for (who, client) in [("a person", &person), ("a service", &service)] {
        sees_berlin_alone(who, client, daemon);
    }
    let tenant = admin.person("tara", &json!([{"role": "READONLY", "tenant": "acme"}]));
    assert_eq!(
        names(&tenant.get("/api/v1/devices")),
        only(&["berlin-1", "munich-1"])
    );
    assert_eq!(
        names(&tenant.get("/api/v1/alerts?state=firing")),
        only(&["berlin-1", "munich-1"])
    );
}

fn sees_berlin_alone(who: &str, client: &Client, daemon: &Daemon) {
    let mine = only(&["berlin-1"]);
    let devices = client.get("/api/v1/devices");
    assert_eq!(names(&devices), mine, "{who}");
    assert!(
        devices.get("total").is_none_or(|total| *total == json!(1)),
        "{who}: {devices}"
    );
    let alerts = client.get("/api/v1/alerts?state=firing");
    assert_eq!(names(&alerts), mine, "{who}");
    assert_eq!(alerts["items"].as_array().unwrap().len(), 1, "{who}");

    let id = |name: &str| {
        let device = daemon.get(&format!("/api/v1/devices/{name}"));
        device["id"].to_string().trim_matches('"').to_owned()
    };
    for (name, seen) in [("berlin-1", 200), ("munich-1", 404), ("ours-1", 404)] {
        for path in [
            format!("/api/v1/devices/{name}"),
            format!("/api/v1/devices/{}", id(name)),
            format!("/api/v1/devices/{name}/metrics"),
            format!("/api/v1/devices/{name}/metrics/icmp_loss_ratio"),
            format!("/api/v1/devices/{name}/interfaces"),
        ] {
            let response = client.look(&path);
            // whether there is such a metric is said of devices that one sees alone
            let fits = response.status == seen || (path.contains("icmp_") && seen == 200);
            assert!(fits, "{who} {path}: {} {}", response.status, response.body);
            if seen == 404 {
                assert!(
                    !response.body.to_string().contains("127."),
                    "{}",
                    response.body
                );
            }
        }
    }
    for alert in daemon.get("/api/v1/alerts?state=firing")["items"]
        .as_array()
        .unwrap()
    {
        let path = format!(
            "/api/v1/alerts/{}",
            alert["id"].to_string().trim_matches('"')
        );
        let expected = match alert["device"]["name"] == "berlin-1" {
            true => 200,
            false => 404,
        };
        assert_eq!(client.look(&path).status, expected, "{who} {path}");
    }
    let status = client.get("/api/v1/status");
    let text = status.to_string();
    assert!(names(&status).is_subset(&mine), "{who}: {text}");
    assert_eq!(status["devices"]["total"], 1, "{who}: {text}");
    assert!(
        status["store"].is_null(),
        "{who} sees the daemon itself: {text}"
    );

    // what changes something, on what is not there for them
    for (method, path, body) in [
        ("PATCH", "/api/v1/devices/ours-1", json!({"note": "x"})),
        ("DELETE", "/api/v1/devices/munich-1", Value::Null),
        ("POST", "/api/v1/devices/ours-1/poll", Value::Null),
    ] {
        let response = client.say(method, path, &body);
        assert_eq!(response.status, 404, "{who} {path}: {}", response.body);
    }
    // and out of their place
    let moved = client.say(
        "PATCH",
        "/api/v1/devices/berlin-1",
        &json!({"site": "munich"}),
    );
    assert!(
        [403, 404].contains(&moved.status),
        "{who}: {} {}",
        moved.status,
        moved.body
    );
    let elsewhere = json!({"name": "new", "address": "127.0.9.1", "tenant": "acme"});
    let made = client.say("POST", "/api/v1/devices", &elsewhere);
    assert!([403, 404].contains(&made.status), "{who}: {}", made.body);
    for path in ["/api/v1/users", "/api/v1/audit", "/api/v1/secrets"] {
        assert_eq!(client.look(path).status, 403, "{who} {path}");
    }
}

#[test]
fn an_operator_of_one_tenant_changes_nothing_of_another() {
    let folder = Folder::with_https();
    let daemon = crate::setup::quiet(&folder);
    let admin = daemon.set_up();
    for tenant in ["acme", "other"] {
        admin.ask("POST", "/api/v1/tenants", &json!({"name": tenant}));
    }
    let device = |tenant: &str, place: u8| json!({"name": "core", "address": format!("127.0.9.{place}"), "tenant": tenant, "enabled": false});
    for (tenant, place) in [("acme", 1), ("other", 2), ("default", 3)] {
        admin.ask("POST", "/api/v1/devices", &device(tenant, place));
    }
    let olga = admin.person("olga", &json!([{"role": "OPERATOR", "tenant": "acme"}]));
    let community = json!({"kind": "snmp-v2c", "community": "c0mmunity"});
    let refused = |method: &str, path: &str, body: &Value| {
        let response = olga.say(method, path, body);
        assert!(
            [403, 404].contains(&response.status),
            "{method} {path}: {} {}",
            response.status,
            response.body
        );
    };
    let good = olga.say("PUT", "/api/v1/credentials/acme%2Fcampus", &community);
    assert!([200, 201].contains(&good.status), "{}", good.body);
    refused("PUT", "/api/v1/credentials/campus", &community);
    refused("PUT", "/api/v1/credentials/other%2Fcampus", &community);
    let rule = |name: &str| json!({"name": name, "severity": "info", "availability": {"check": "icmp", "rounds": 3}});
    let good = olga.say("POST", "/api/v1/rules", &rule("acme/down"));
    assert_eq!(good.status, 201, "{}", good.body);
    refused("POST", "/api/v1/rules", &rule("down"));
    refused("POST", "/api/v1/rules", &rule("other/down"));
    refused("POST", "/api/v1/devices", &device("other", 9));
    refused("POST", "/api/v1/devices", &device("default", 9));
    refused("DELETE", "/api/v1/tenants/other", &Value::Null);
    let listed = olga.get("/api/v1/devices");
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
    let id = &listed["items"][0]["id"];
    let id = id.to_string().trim_matches('"').to_owned();
    refused(
        "PATCH",
        &format!("/api/v1/devices/{id}"),
        &json!({"tenant": "other"}),
    );
    let tenants = olga.get("/api/v1/tenants").to_string();
    assert!(
        tenants.contains("acme") && !tenants.contains("other"),
        "{tenants}"
    );
    // each kind of attempt stands in the audit log; the same again is counted
    eventually(10, "what was denied", || {
        let denied = admin.get("/api/v1/audit?actor=user:olga&outcome=denied");
        match denied["items"].as_array().map_or(0, Vec::len) {
            5.. => Ok(()),
            _ => Err(denied),
        }
    });
}
