use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};

use model::{Rule, RuleName, RuleSource, Timestamp};
use serde_json::{Value, json};

use crate::harness::served;

#[tokio::test]
async fn a_rule_comes_back_as_it_was_written() {
    let api = served().await;
    let rules = [
        json!({
            "name": "busy", "severity": "warning", "enabled": true, "note": "see the runbook",
            "match": {"devices": ["core1"], "sites": ["berlin"], "kinds": ["router"], "tags": ["a"]},
            "threshold": {"metric": "cpu_usage_ratio", "labels": {"x": "y"}, "above": 0.9, "for": "5m", "clear": 0.8},
        }),
        json!({"name": "down", "severity": "critical", "availability": {"check": "icmp", "rounds": 3}}),
        json!({"name": "gone", "severity": "info", "enabled": false, "availability": {"check": "snmp", "for": "90s"}}),
    ];
    for rule in &rules {
        let answer = api.post("/api/v1/rules", rule).await;
        let shown = answer.expect(201);
        assert_eq!(answer.header("etag"), Some("\"1\""));
        let path = answer.header("location").unwrap().to_owned();
        assert_eq!(api.get(&path).await.expect(200), shown);
        assert_eq!(shown["source"], "api");
        for part in ["availability", "threshold"] {
            let written = rule[part].as_object().cloned().unwrap_or_default();
            for (field, value) in &written {
                assert_eq!(shown[part][field], *value, "{part}/{field}");
            }
        }
        // what was shown can be written again
        let mut again = shown.as_object().unwrap().clone();
        again.retain(|name, _| {
            !["tenant", "source", "file", "updated", "revision"].contains(&name.as_str())
        });
        let shown_again = api
            .send("PUT", &path, &Value::Object(again))
            .await
            .expect(200);
        assert_eq!(shown_again["revision"], 2);
        assert_eq!(shown_again["threshold"], shown["threshold"]);
    }
    let list = api.get("/api/v1/rules").await.expect(200);
    let names: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["busy", "down", "gone"]);
    api.post("/api/v1/rules", &rules[0]).await.expect(409);
}

#[tokio::test]
async fn a_rule_with_mistakes_is_refused_with_all_of_them() {
    let api = served().await;
    let rule = json!({
        "severity": "high", "nmae": "x", "match": {"kinds": ["swich"], "site": []},
        "availability": {"check": "http"},
        "threshold": {"metric": "cpu_usage", "above": 90, "below": 1, "for": "soon"},
    });
    let answer = api.post("/api/v1/rules", &rule).await;
    let mut places: Vec<String> = answer.mistakes(422).into_iter().map(|m| m.0).collect();
    places.sort_unstable();
    assert_eq!(
        places,
        [
            "/availability/check",
            "/availability/rounds",
            "/match/kinds/0",
            "/match/site",
            "/name",
            "/nmae",
            "/severity",
            "/threshold",
            "/threshold/below",
            "/threshold/for",
            "/threshold/metric"
        ]
    );
    for (threshold, place) in [
        (
            json!({"metric": "cpu_usage_ratio", "above": 90}),
            "/threshold/above",
        ),
        (
            json!({"metric": "cpu_usage_ratio", "above": 0.9, "clear": 0.95}),
            "/threshold/clear",
        ),
        (
            json!({"metric": "ifOperStatus", "equals": 2, "clear": 1}),
            "/threshold/clear",
        ),
        (
            json!({"metric": "icmp_loss_ratio", "at_least": 0}),
            "/threshold/at_least",
        ),
        (json!({"metric": "icmp_loss_ratio"}), "/threshold/above"),
    ] {
        let rule = json!({"name": "x", "severity": "info", "threshold": threshold});
        let mistakes = api.post("/api/v1/rules", &rule).await.mistakes(422);
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert_eq!(mistakes[0].0, place);
    }
}

#[tokio::test]
async fn a_rule_of_a_file_is_changed_in_the_file() {
    let api = served().await;
    let body = json!({"severity": "info", "availability": {"check": "icmp", "rounds": 3}});
    api.send("PUT", "/api/v1/rules/ours", &body)
        .await
        .expect(201);
    let ours = api.store.rules()[0].clone();
    api.store.set_file_rules(vec![Rule {
        name: RuleName("theirs".into()),
        source: RuleSource::File("/etc/sotp/rules/site.toml".into()),
        updated: Timestamp(0),
        ..ours
    }]);
    let shown = api.get("/api/v1/rules/theirs").await.expect(200);
    assert_eq!(shown["source"], "file");
    assert_eq!(shown["file"], "/etc/sotp/rules/site.toml");
    for answer in [
        api.send("PUT", "/api/v1/rules/theirs", &body).await,
        api.delete("/api/v1/rules/theirs").await,
        api.post("/api/v1/rules", &json!({"name": "theirs", "severity": "info", "availability": {"check": "icmp", "rounds": 3}})).await,
    ] {
        let problem = answer.expect(409);
        assert!(problem["detail"].as_str().unwrap().contains("/etc/sotp/rules/site.toml"), "{problem}");
    }
    let renamed = json!({"name": "other", "severity": "info", "availability": {"check": "icmp", "rounds": 3}});
    let answer = api.send("PUT", "/api/v1/rules/ours", &renamed).await;
    assert_eq!(answer.mistakes(422)[0].0, "/name");
    let stale = [("if-match", "\"7\"")];
    api.ask("DELETE", "/api/v1/rules/ours", &stale, b"")
        .await
        .expect(412);
    api.delete("/api/v1/rules/ours").await.expect(204);
    api.delete("/api/v1/rules/ours").await.expect(404);
}

#[tokio::test]
async fn a_credential_that_is_used_stays() {
    let api = served().await;
    let body = json!({"kind": "snmp-v2c", "community": "public"});
    api.send("PUT", "/api/v1/credentials/lab", &body)
        .await
        .expect(201);
    let device = json!({"name": "core1", "address": "10.0.0.1", "credential": "lab"});
    api.post("/api/v1/devices", &device).await.expect(201);
    let list = api.get("/api/v1/credentials").await.expect(200);
    assert_eq!(
        list["items"],
        json!([{
            "name": "lab", "tenant": "default", "kind": "snmp-v2c", "secret": "secret://credential.lab",
            "updated": "2027-01-15T08:00:00.000Z", "devices": 1, "revision": 1,
        }])
    );
    let problem = api.delete("/api/v1/credentials/lab").await.expect(409);
    assert!(
        problem["detail"].as_str().unwrap().contains("core1"),
        "{problem}"
    );
    api.delete("/api/v1/devices/core1").await.expect(200);
    api.delete("/api/v1/credentials/lab").await.expect(204);
    api.get("/api/v1/credentials/lab").await.expect(404);
}

#[tokio::test]
async fn status_and_health_say_how_the_daemon_is() {
    let api = served().await;
    let status = api.get("/api/v1/status").await.expect(200);
    assert_eq!(status["version"], "1.2.3");
    assert_eq!(status["uptime_seconds"], 60.0);
    assert_eq!(status["scheduler"]["in_flight"], 3);
    assert_eq!(status["scheduler"]["skipped"], json!({"busy": 7}));
    assert_eq!(status["icmp"]["v4"], "ping socket");
    assert_eq!(status["store"]["health"], "ok");
    assert_eq!(status["mail"], Value::Null);
    let ready = api.get("/health/ready").await.expect(200);
    assert_eq!(ready, json!({"status": "ok", "reasons": []}));
    assert_eq!(api.get("/health/live").await.expect(200)["status"], "ok");
}

#[tokio::test]
async fn what_prometheus_reads_is_well_formed() {
    let api = served().await;
    api.get("/api/v1/devices/nobody").await.expect(404);
    api.get("/nowhere").await.expect(404);
    let answer = api.get("/metrics").await;
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let samples = parsed(&answer.body);
    let count = |labels: &str| samples.get(&format!("sotp_api_requests_total{{{labels}}}"));
    assert_eq!(
        count(r#"method="GET",route="/api/v1/devices/{device}",status="404""#),
        Some(&1.0)
    );
    assert_eq!(
        count(r#"method="GET",route="none",status="404""#),
        Some(&1.0)
    );
    assert_eq!(samples.get(r#"sotp_test{name="a\\b\"c\nd"}"#), Some(&1.0));
    assert_eq!(samples.get("sotp_store_writing"), Some(&1.0));
}

/// Reads the text format strictly: each sample belongs to the family announced
/// before it, each family stands once, and no series stands twice.
fn parsed(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'));
    let mut samples = BTreeMap::new();
    let mut families = Vec::new();
    let mut family = (String::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, _) = rest.split_once(' ').unwrap();
            assert!(!families.contains(&name.to_owned()), "{name} stands twice");
            families.push(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(families.last().map(String::as_str), Some(name), "no HELP");
            family = (name.to_owned(), kind.to_owned());
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            assert!(name.chars().all(plain), "{line}");
            let suffix = name.strip_prefix(family.0.as_str());
            let suffixes: &[&str] = match family.1.as_str() {
                "histogram" => &["_bucket", "_sum", "_count"],
                "counter" | "gauge" => &[""],
                other => panic!("{other}"),
            };
            assert!(
                suffixes.contains(&suffix.unwrap_or("?")),
                "{line} in {family:?}"
            );
            let value: f64 = value.parse().unwrap();
            if family.1 == "counter" {
                assert!(name.ends_with("_total") && value >= 0.0, "{line}");
            }
            assert!(
                samples.insert(series.to_owned(), value).is_none(),
                "{line} twice"
            );
        }
    }
    samples
}

#[tokio::test]
async fn a_store_that_takes_no_writes_is_a_503_and_reads_go_on() {
    let api = served().await;
    api.enter("core1", "10.0.0.1").await;
    let store = api.store.clone();
    tokio::task::spawn_blocking(|| store.close())
        .await
        .unwrap()
        .unwrap();
    let body = json!({"name": "core2", "address": "10.0.0.2"});
    let answer = api.post("/api/v1/devices", &body).await;
    assert_eq!(answer.expect(503)["type"], "/problems/unavailable");
    assert_eq!(answer.header("retry-after"), Some("5"));
    api.get("/api/v1/devices/core1").await.expect(200);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_change_is_logged_with_who_made_it() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // with a single subscriber, places that log are turned off for good if
    // another test's thread, which has none, comes by there first
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    // the server runs on this thread, too
    let _guard = tracing::subscriber::set_default(subscriber);
    let api = served().await;
    api.enter("a\"b", "10.0.0.1").await;
    api.delete("/api/v1/devices/1").await.expect(200);
    api.get("/api/v1/devices/1").await.expect(200);
    let uid = std::fs::metadata(&api.socket).unwrap().uid();
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let changes: Vec<&str> = text.lines().filter(|line| line.contains("actor")).collect();
    assert_eq!(changes.len(), 2, "{text}");
    let who = format!("actor=uid:{uid} origin=socket");
    let what = r#"to="a\"b""#;
    assert!(
        changes[0].contains("device created")
            && changes[0].contains(&who)
            && changes[0].contains(what),
        "{text}"
    );
    assert!(changes[1].contains("device deleted"), "{text}");
}
