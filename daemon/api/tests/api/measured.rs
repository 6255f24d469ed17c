use std::sync::Arc;
use std::time::Duration;

use model::{
    Breaks, Check, Columns, DeviceState, Facts, Failure, FailureKind, Interface, MetricKind,
    SystemFacts, Timestamp,
};
use serde_json::{Value, json};

use crate::harness::{NOW, column, ping_columns, report, served, with_facts};

const POLLED: Timestamp = Timestamp(NOW.0 - 5_000);

fn before(seconds: u64) -> Timestamp {
    POLLED.minus(Duration::from_secs(seconds))
}

fn snmp_columns() -> Arc<Columns> {
    Arc::new(Columns::new(vec![
        column("snmp_up", MetricKind::State, None),
        column("cpu_usage_ratio", MetricKind::Gauge, None),
        column("sysUpTime", MetricKind::Gauge, None),
        column("ifHCInOctets", MetricKind::Counter64, Some("eth0")),
        column("ifHCOutOctets", MetricKind::Counter64, Some("eth0")),
        column("ifOperStatus", MetricKind::State, Some("eth0")),
        column("ifHCInOctets", MetricKind::Counter64, Some("eth1")),
    ]))
}

fn facts() -> Facts {
    let mut facts = Facts {
        system: SystemFacts {
            name: Some("core1.example".into()),
            ..SystemFacts::default()
        },
        changed: POLLED,
        ..Facts::default()
    };
    let eth0 = Interface {
        index: 7,
        alias: Some("uplink".into()),
        speed_bps: Some(1_000_000),
        ..Interface::default()
    };
    facts.interfaces.insert("eth0".into(), eth0);
    facts.interfaces.insert("eth1".into(), Interface::default());
    facts
}

#[tokio::test]
async fn figures_are_those_of_the_newest_poll_only() {
    let api = served().await;
    let id = api.enter("core1", "10.0.0.1").await;
    let columns = ping_columns();
    api.keep(report(
        id,
        Check::Icmp,
        before(30),
        &columns,
        &[1.0, 0.02, 0.0],
    ))
    .await;
    api.keep(report(id, Check::Icmp, POLLED, &columns, &[1.0, 0.01, 0.2]))
        .await;
    let device = api.get("/api/v1/devices/core1").await.expect(200);
    assert_eq!(device["rtt_seconds"], 0.01);
    assert_eq!(device["loss_ratio"], 0.2);
    assert_eq!(device["cpu_usage_ratio"], Value::Null);
    assert_eq!(device["checks"]["icmp"]["took_seconds"], 0.012);
    assert_eq!(device["checks"]["icmp"]["failure"], Value::Null);

    // it falls silent: no round-trip time any more, and the loss is measured
    let at = POLLED.plus(Duration::from_secs(1));
    let mut silent = report(id, Check::Icmp, at, &columns, &[0.0, f64::NAN, 1.0]);
    silent.outcome.failure = Some(Failure {
        kind: FailureKind::Timeout,
        text: "no answer to 5 probes".into(),
    });
    api.keep(silent).await;
    api.daemon
        .states
        .lock()
        .unwrap()
        .insert(id, DeviceState::Down);
    let device = api.get("/api/v1/devices/core1").await.expect(200);
    assert_eq!(device["state"], "down");
    assert_eq!(device["state_reason"], "no answer to 5 probes");
    assert_eq!(device["rtt_seconds"], Value::Null);
    assert_eq!(device["loss_ratio"], 1.0);
    assert_eq!(device["checks"]["icmp"]["failure"]["kind"], "timeout");
}

#[tokio::test]
async fn what_was_measured_long_ago_or_before_a_failure_is_not_shown_as_now() {
    let api = served().await;
    let columns = ping_columns();
    let old = api.enter("old", "10.0.0.1").await;
    api.keep(report(
        old,
        Check::Icmp,
        before(3_600),
        &columns,
        &[1.0, 0.02, 0.0],
    ))
    .await;
    let denied = api.enter("denied", "10.0.0.2").await;
    api.keep(report(
        denied,
        Check::Icmp,
        before(30),
        &columns,
        &[1.0, 0.02, 0.0],
    ))
    .await;
    let mut failed = report(denied, Check::Icmp, POLLED, &columns, &[]);
    failed.row = None;
    failed.outcome.failure = Some(Failure {
        kind: FailureKind::Permission,
        text: "not allowed to ping".into(),
    });
    api.keep(failed).await;
    for name in ["old", "denied"] {
        let device = api
            .get(&format!("/api/v1/devices/{name}"))
            .await
            .expect(200);
        assert_eq!(device["rtt_seconds"], Value::Null, "{name}");
        assert_ne!(device["checks"]["icmp"], Value::Null, "{name}");
        let latest = api
            .get(&format!("/api/v1/devices/{name}/metrics"))
            .await
            .expect(200);
        assert_eq!(latest["items"][1]["value"], 0.02);
        assert_eq!(latest["items"][1]["current"], false);
    }
}

#[tokio::test]
async fn rates_are_shown_per_interface_and_for_the_device() {
    let api = served().await;
    let id = api.enter("core1", "10.0.0.1").await;
    let credential = json!({"kind": "snmp-v2c", "community": "public"});
    api.send("PUT", "/api/v1/credentials/lab", &credential)
        .await
        .expect(201);
    api.send(
        "PATCH",
        "/api/v1/devices/core1",
        &json!({"credential": "lab"}),
    )
    .await
    .expect(200);
    let columns = snmp_columns();
    let first = [1.0, 0.25, 100.0, 0.0, 0.0, 1.0, 0.0];
    api.keep(with_facts(
        report(id, Check::Snmp, before(10), &columns, &first),
        facts(),
    ))
    .await;
    // the first reading has no rate, and shows none
    let device = api.get("/api/v1/devices/core1").await.expect(200);
    assert_eq!(device["in_bps"], Value::Null);
    assert_eq!(device["cpu_usage_ratio"], 0.25);

    let second = [1.0, 0.5, 110.0, 10_000.0, 5_000.0, 1.0, 2_500.0];
    api.keep(report(id, Check::Snmp, POLLED, &columns, &second))
        .await;
    let device = api.get("/api/v1/devices/core1").await.expect(200);
    assert_eq!(device["in_bps"], 10_000.0);
    assert_eq!(device["out_bps"], 4_000.0);
    assert_eq!(device["uptime_seconds"], 110.0);
    assert_eq!(device["facts"]["sys_name"], "core1.example");

    let list = api
        .get("/api/v1/devices/core1/interfaces")
        .await
        .expect(200);
    let eth0 = &list["items"][0];
    assert_eq!(eth0["identity"], "eth0");
    assert_eq!(eth0["alias"], "uplink");
    assert_eq!(eth0["in_bps"], 8_000.0);
    assert_eq!(eth0["in_utilisation_ratio"], 0.008);
    assert_eq!(eth0["oper_status"], "up");
    assert_eq!(eth0["admin_status"], Value::Null);
    assert_eq!(eth0["in_errors_per_second"], Value::Null);
    assert_eq!(list["items"][1]["in_bps"], 2_000.0);
    assert_eq!(list["items"][1]["in_utilisation_ratio"], Value::Null);

    let latest = api
        .get("/api/v1/devices/core1/metrics?metric=ifHCInOctets&label.ifName=eth1")
        .await
        .expect(200);
    assert_eq!(
        latest["items"],
        json!([{
            "metric": "ifHCInOctets", "labels": {"ifName": "eth1"}, "kind": "counter64",
            "unit": "octets/s", "value": 250.0, "raw": 2500.0, "at": POLLED.to_string(),
            "current": true, "help": "Octets received (RFC 2863)",
        }])
    );
}

#[tokio::test]
async fn a_range_has_nulls_where_nothing_was_measured() {
    let api = served().await;
    let id = api.enter("core1", "10.0.0.1").await;
    let columns = snmp_columns();
    for (seconds, octets, broken) in [
        (240, 0.0, false),
        (210, 300.0, false),
        (180, 30.0, true),
        (60, 150.0, false),
    ] {
        let values = [1.0, f64::NAN, 1.0, octets, 0.0, 1.0, 0.0];
        let mut poll = report(id, Check::Snmp, before(seconds), &columns, &values);
        if broken {
            poll.row.as_mut().unwrap().breaks = Breaks::All;
        }
        api.keep(poll).await;
    }
    let at = |seconds: u64| json!(before(seconds).since(Timestamp(0)).as_secs_f64());
    let path = "/api/v1/devices/core1/metrics/ifHCInOctets";
    let range = api
        .get(&format!("{path}?label.ifName=eth0"))
        .await
        .expect(200);
    assert_eq!(range["unit"], "octets/s");
    assert_eq!(range["until"], NOW.to_string());
    assert_eq!(
        range["series"],
        json!([{"labels": {"ifName": "eth0"}, "kind": "counter64", "points": [
            [at(210), 10.0], [at(180), null], [at(120), null], [at(60), 1.0],
        ]}])
    );
    let until = before(200).to_string();
    let raw = api
        .get(&format!(
            "{path}?label.ifName=eth0&view=raw&step=raw&from=-10m&until={until}"
        ))
        .await
        .expect(200);
    assert_eq!(
        raw["series"][0]["points"],
        json!([[at(240), 0.0], [at(210), 300.0]])
    );
    assert_eq!(raw["unit"], "octets");
    let never = api
        .get("/api/v1/devices/core1/metrics/cpu_usage_ratio")
        .await
        .expect(200);
    assert_eq!(never["series"], json!([]));
}

#[tokio::test]
async fn a_wrong_range_is_refused_with_a_hint() {
    let api = served().await;
    api.enter("core1", "10.0.0.1").await;
    let path = "/api/v1/devices/core1/metrics";
    let answer = api
        .get(&format!(
            "{path}/icmp_rtt_seconds?from=yesterday&step=often&view=avg&until=x"
        ))
        .await;
    let places: Vec<String> = answer.mistakes(400).into_iter().map(|m| m.0).collect();
    assert_eq!(places, ["until", "from", "step", "view"]);
    let answer = api
        .get(&format!("{path}/icmp_rtt_seconds?from=-1h&until=-2h"))
        .await;
    assert_eq!(answer.mistakes(400)[0].0, "from");
    let problem = api
        .get(&format!("{path}/icmp_rtt_secnds"))
        .await
        .expect(404);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("icmp_rtt_seconds")
    );
    api.get("/api/v1/devices/nobody/metrics").await.expect(404);
}

#[tokio::test]
async fn the_catalogue_says_what_each_metric_means() {
    let api = served().await;
    let list = api.get("/api/v1/metrics").await.expect(200);
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), model::BUILT_IN_METRICS.len());
    assert_eq!(items[0]["name"], "icmp_up");
    assert_eq!(items[0]["kind"], "state");
}

/// A switch with 48 ports: its columns are its own, as its port names are.
fn switch(device: u64) -> Arc<Columns> {
    let mut columns = vec![
        column("snmp_up", MetricKind::State, None),
        column("cpu_usage_ratio", MetricKind::Gauge, None),
    ];
    for port in 0..48 {
        let name = format!("sw{device}-{port}");
        for metric in [
            "ifHCInOctets",
            "ifHCOutOctets",
            "ifHCInUcastPkts",
            "ifHCOutUcastPkts",
            "ifInErrors",
            "ifOutErrors",
            "ifInDiscards",
            "ifOutDiscards",
        ] {
            columns.push(column(metric, MetricKind::Counter64, Some(&name)));
        }
    }
    Arc::new(Columns::new(columns))
}

#[tokio::test]
#[ignore = "a measurement: run it in a release build with --nocapture"]
#[expect(clippy::print_stdout, reason = "a measurement is for people")]
async fn how_long_lists_of_a_thousand_switches_take() {
    let api = served().await;
    let credential = json!({"kind": "snmp-v2c", "community": "public"});
    api.send("PUT", "/api/v1/credentials/lab", &credential)
        .await
        .expect(201);
    let mut csv = "name,address,credential\n".to_owned();
    for n in 0..1_000 {
        csv.push_str(&format!("switch{n},10.1.{}.{},lab\n", n / 250, n % 250 + 1));
    }
    let kind = [("content-type", "text/csv")];
    let path = "/api/v1/devices/import";
    api.ask("POST", path, &kind, csv.as_bytes())
        .await
        .expect(200);
    let devices: Vec<_> = api.store.inventory().live().cloned().collect();
    for device in &devices {
        let columns = switch(device.id.0);
        for seconds in [10_u32, 0] {
            let values = vec![1000.0 - f64::from(seconds); columns.series().len()];
            let at = before(u64::from(seconds));
            api.keep(report(device.id, Check::Snmp, at, &columns, &values))
                .await;
        }
        let ping = report(
            device.id,
            Check::Icmp,
            POLLED,
            &ping_columns(),
            &[1.0, 0.01, 0.0],
        );
        api.keep(ping).await;
    }
    for path in [
        "/api/v1/devices?limit=1000",
        "/api/v1/devices?limit=1000&sort=-state&state=unknown",
        "/api/v1/devices/switch7/metrics",
        "/api/v1/devices/switch7/interfaces",
        "/api/v1/status",
        "/metrics",
    ] {
        let mut took = Vec::new();
        for _ in 0..100 {
            let began = tokio::time::Instant::now();
            let answer = api.get(path).await;
            took.push(began.elapsed());
            assert_eq!(answer.status, 200);
        }
        took.sort_unstable();
        println!("{path}: median {:?}, p95 {:?}", took[50], took[95]);
    }
}
