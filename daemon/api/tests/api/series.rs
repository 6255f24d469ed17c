//! Series found by selectors, and what was measured deleted.

use std::sync::Arc;
use std::time::Duration;

use model::{Breaks, Check, Columns, DeviceId, MetricKind, Role, Timestamp};
use serde_json::{Value, json};

use crate::harness::{Answer, NOW, Served, at_site, column, person, report, request, served};

const PATH: &str = "/api/v1/series";

/// A whole multiple of a minute, some minutes ago.
const BEGIN: Timestamp = Timestamp(NOW.0 / 60_000 * 60_000 - 600_000);

fn after(seconds: u64) -> Timestamp {
    BEGIN.plus(Duration::from_secs(seconds))
}

fn columns() -> Arc<Columns> {
    Arc::new(Columns::new(vec![
        column("cpu_usage_ratio", MetricKind::Gauge, None),
        column("ifHCInOctets", MetricKind::Counter64, Some("eth0")),
        column("ifHCInOctets", MetricKind::Counter64, Some("eth1")),
        column("plugin_things", MetricKind::Gauge, None),
    ]))
}

/// Ten polls in five minutes: the counters rise by 30 and by 60 a second, and
/// start anew at the seventh.
async fn measured(api: &Served, device: DeviceId) {
    for round in 0..10_u32 {
        let seconds = f64::from(30 * round);
        let values = [
            f64::from(round) / 10.0,
            30.0 * seconds,
            60.0 * seconds,
            f64::INFINITY,
        ];
        let at = after(30 * u64::from(round));
        let mut poll = report(device, Check::Snmp, at, &columns(), &values);
        if round == 6 {
            poll.row.as_mut().unwrap().breaks = Breaks::All;
        }
        api.keep(poll).await;
    }
}

/// `core1` in Berlin and `edge1` in Rome, both measured.
async fn two() -> Served {
    let api = served().await;
    for (name, address, site, tags) in [
        ("core1", "10.0.0.1", "ber", json!(["core", "old"])),
        ("edge1", "10.0.0.2", "rom", json!([])),
    ] {
        let body = json!({"name": name, "address": address, "site": site, "tags": tags});
        let device = api.post("/api/v1/devices", &body).await.expect(201);
        measured(&api, DeviceId(device["id"].as_u64().unwrap())).await;
    }
    api
}

fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric();
    text.bytes()
        .map(|byte| match plain(&byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

/// The path of the five minutes, with more behind.
fn five_minutes(selector: &str, more: &str) -> String {
    format!(
        "{PATH}?selector={}&from={BEGIN}&until={}{more}",
        encoded(selector),
        after(300)
    )
}

/// Device, metric and interface of each series.
fn found(answer: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let series = answer["series"].as_array().unwrap();
    let mut found: Vec<_> = series
        .iter()
        .map(|one| {
            (
                text(&one["device"]),
                text(&one["metric"]),
                text(&one["labels"]["ifName"]),
            )
        })
        .collect();
    found.sort();
    found
}

async fn devices(api: &Served, selector: &str) -> Vec<String> {
    let answer = api.get(&five_minutes(selector, "")).await.expect(200);
    found(&answer).into_iter().map(|found| found.0).collect()
}

#[tokio::test]
async fn series_come_by_steps_with_what_they_are() {
    let api = two().await;
    let path = five_minutes("ifHCInOctets{device=\"core1\",ifName=\"eth1\"}", "&step=1m");
    let answer = api.get(&path).await.expect(200);
    assert_eq!(answer["from"], BEGIN.to_string());
    assert_eq!(answer["until"], after(300).to_string());
    assert_eq!(
        (&answer["step"], &answer["source"]),
        (&json!(60.0), &json!("raw"))
    );
    assert_eq!(
        (&answer["across"], &answer["selected"]),
        (&Value::Null, &json!(1))
    );
    assert_eq!(answer["warnings"], json!([]));
    let mut one = answer["series"][0].clone();
    let values = one["values"].take();
    assert_eq!(
        one,
        json!({
            "device": "core1", "id": 1, "check": "snmp", "metric": "ifHCInOctets",
            "labels": {"ifName": "eth1"}, "kind": "counter64", "unit": "octets/s",
            "help": "Octets received (RFC 2863)", "aggregate": "rate",
            "values": null, "points": [], "ends": [],
        })
    );
    assert_eq!(values.as_array().unwrap().len(), 5);
    assert_eq!(values[1], 60.0);
}

#[tokio::test]
async fn a_device_is_selected_by_what_it_is() {
    let api = two().await;
    for (matchers, expected) in [
        ("", &["core1", "edge1"][..]),
        ("device=\"core1\"", &["core1"]),
        ("device=~\"(core|edge).*\",device!=\"core1\"", &["edge1"]),
        ("id=\"2\"", &["edge1"]),
        ("site=~\"b.*\"", &["core1"]),
        ("site!=\"ber\"", &["edge1"]),
        ("tenant=\"default\"", &["core1", "edge1"]),
        ("tenant=\"other\"", &[]),
        ("tag=\"old\"", &["core1"]),
        ("tag!=\"old\"", &["edge1"]),
        ("tag=\"\"", &["edge1"]),
        ("tag=~\"o.+\",tag=\"core\"", &["core1"]),
        ("check=\"snmp\"", &["core1", "edge1"]),
        ("check!=\"snmp\"", &[]),
    ] {
        let selector = format!("cpu_usage_ratio{{{matchers}}}");
        assert_eq!(devices(&api, &selector).await, expected, "{matchers}");
    }
    let answer = api
        .get(&five_minutes("{device=\"core1\"}", ""))
        .await
        .expect(200);
    assert_eq!(found(&answer).len(), 4, "a device alone is a selector too");
}

#[tokio::test]
async fn counters_are_rates_and_the_rest_means_unless_it_is_said() {
    let api = two().await;
    let aggregates = async |more: &str| {
        let path = five_minutes("{device=\"core1\",__name__=~\"cpu.*|ifHC.*\"}", more);
        let answer = api.get(&path).await.expect(200);
        let series = answer["series"].as_array().unwrap().clone();
        let of = |one: &Value| {
            format!(
                "{} {}",
                one["aggregate"].as_str().unwrap(),
                one["unit"].as_str().unwrap()
            )
        };
        series.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(
        aggregates("").await,
        ["avg ratio", "rate octets/s", "rate octets/s"]
    );
    // what a counter stands at is no figure of a step
    assert_eq!(aggregates("&aggregate=last").await, ["last ratio"]);
    assert_eq!(
        aggregates("&aggregate=count").await,
        ["count ", "count ", "count "]
    );
}

#[tokio::test]
async fn as_many_series_are_selected_as_are_shown() {
    let api = two().await;
    let path = five_minutes("{device=\"core1\"}", "&step=1m");
    let answer = api.get(&path).await.expect(200);
    assert_eq!(answer["selected"], 4, "counters and others");
    assert_eq!(found(&answer).len(), 4);
    assert_eq!(answer["incomplete"], false);
}

#[tokio::test]
async fn an_answer_without_series_says_why() {
    let api = two().await;
    for (selector, more, why) in [
        (
            "ifHCInOctets",
            "&aggregate=min",
            "ifHCInOctets is a counter: it has increase, rate, max_rate and count, but not min",
        ),
        (
            "ifHCInOctets",
            "&aggregate=avg&across=sum",
            "ifHCInOctets is a counter",
        ),
        (
            "cpu_usage_ratio",
            "&aggregate=rate",
            "cpu_usage_ratio is no counter: it has min, max, avg, last and count, but not rate",
        ),
        (
            "{__name__=~\"cpu.*|plugin.*\"}",
            "&aggregate=increase",
            "cpu_usage_ratio is no counter, as are 1 others",
        ),
        (
            "plugin_thing",
            "",
            "no series is called so: \"plugin_thing\" is not measured; did you mean \"plugin_things\"?",
        ),
        (
            "plugin_thing",
            "&step=raw",
            "no series is called so: \"plugin_thing\" is not measured",
        ),
        (
            "sysUpTime",
            "",
            "no series is called so: sysUpTime is not measured there",
        ),
        (
            "ifHCInOctets{ifName=\"eth7\"}",
            "&aggregate=min",
            "no series is called so: ifHCInOctets is measured, but without such labels",
        ),
        (
            "{foo=\"bar\"}",
            "",
            "no series is called so: nothing that is measured is selected",
        ),
        (
            "ifHCInOctets{device=\"nope\"}",
            "",
            "no series is called so: there is no such device",
        ),
    ] {
        let answer = api.get(&five_minutes(selector, more)).await.expect(200);
        let warnings = answer["warnings"].as_array().unwrap();
        assert_eq!(warnings.len(), 1, "{selector} {more}: {warnings:?}");
        let told = warnings[0].as_str().unwrap();
        assert!(told.starts_with(why), "{selector} {more}: {told}");
        assert_eq!(answer["incomplete"], false);
    }
    let path = format!("{PATH}?selector=cpu_usage_ratio&from=1000&until=2000");
    let before = api.get(&path).await.expect(200);
    assert_eq!(before["warnings"], json!([]), "it is called so");
}

#[tokio::test]
async fn what_is_brought_together_has_one_unit() {
    let api = two().await;
    let warnings = async |selector: &str, more: &str| {
        let path = five_minutes(selector, more);
        api.get(&path).await.expect(200)["warnings"].clone()
    };
    let mixed = warnings("{device=\"core1\"}", "&across=sum&aggregate=avg").await;
    assert_eq!(
        mixed,
        json!(["what is brought together across series has different units: no unit, ratio"])
    );
    for (selector, more) in [
        ("{device=\"core1\"}", "&across=sum&aggregate=rate"),
        ("{device=\"core1\"}", "&across=count&aggregate=avg"),
        ("cpu_usage_ratio", "&across=avg"),
        ("{__name__=~\"ifHC.*\"}", "&across=sum"),
    ] {
        assert_eq!(warnings(selector, more).await, json!([]), "{selector}");
    }
}

#[tokio::test]
async fn several_series_become_one() {
    let api = two().await;
    let path = five_minutes("ifHCInOctets", "&across=sum&step=1m");
    let answer = api.get(&path).await.expect(200);
    assert_eq!(
        (&answer["across"], &answer["selected"]),
        (&json!("sum"), &json!(4))
    );
    let series = answer["series"].as_array().unwrap();
    assert_eq!(series.len(), 1);
    assert_eq!(
        (&series[0]["device"], &series[0]["labels"]),
        (&Value::Null, &json!({}))
    );
    assert_eq!(
        (&series[0]["metric"], &series[0]["unit"]),
        (&json!("ifHCInOctets"), &json!("octets/s"))
    );
    assert_eq!(series[0]["values"][1], 180.0);
    let mixed = five_minutes("{__name__=~\".+\"}", "&across=sum");
    let mistakes = api.get(&mixed).await.mistakes(400);
    assert_eq!(mistakes[0].0, "aggregate");
    api.get(&format!("{mixed}&aggregate=max")).await.expect(200);
}

#[tokio::test]
async fn raw_points_say_where_a_counter_starts_anew() {
    let api = two().await;
    let path = five_minutes(
        "ifHCInOctets{device=\"core1\",ifName=\"eth0\"}",
        "&step=raw",
    );
    let answer = api.get(&path).await.expect(200);
    assert_eq!(
        (&answer["step"], &answer["source"]),
        (&Value::Null, &json!("raw"))
    );
    let one = &answer["series"][0];
    assert_eq!(
        (&one["values"], &one["aggregate"]),
        (&json!([]), &Value::Null)
    );
    assert_eq!(one["unit"], "octets");
    let seconds = |place: u64| after(30 * place).since(Timestamp(0)).as_secs_f64();
    let points = one["points"].as_array().unwrap();
    assert_eq!(points.len(), 10);
    assert_eq!(points[5], json!([seconds(5), 4500.0]));
    assert_eq!(points[6], json!([seconds(6), 5400.0, true]));
}

#[tokio::test]
async fn infinities_are_text_and_what_was_not_measured_is_null() {
    let api = two().await;
    let path = format!(
        "{PATH}?selector=plugin_things&from={BEGIN}&until={}&step=5m",
        after(900)
    );
    let answer = api.get(&path).await.expect(200);
    let values = answer["series"][0]["values"].as_array().unwrap();
    assert!(
        values.contains(&json!("+Inf")) && values.contains(&Value::Null),
        "{values:?}"
    );
}

#[tokio::test]
async fn a_step_that_nobody_names_fits_the_width_and_the_polls() {
    let api = two().await;
    let step = async |more: &str| {
        let path = format!("{PATH}?selector=cpu_usage_ratio{more}");
        api.get(&path).await.expect(200)["step"].clone()
    };
    // 30 s between two polls
    assert_eq!(step("&from=-5m").await, 60.0);
    assert_eq!(step("&from=-1d").await, 300.0);
    assert_eq!(step("&from=-1d&width=1000").await, 120.0);
    assert_eq!(step("&from=-1d&points=24").await, 3600.0);
}

/// The bytes of an answer's body.
async fn bytes(api: &Served, path: &str, headers: &[(&str, &str)]) -> (Option<String>, Vec<u8>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::UnixStream::connect(&api.socket).await.unwrap();
    stream
        .write_all(&request("GET", path, headers, b""))
        .await
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let kind = head
        .lines()
        .find_map(|line| line.strip_prefix("content-type: "));
    (kind.map(str::to_owned), answer[end + 4..].to_vec())
}

/// The header and the numbers of an answer as columns.
fn columns_of(body: &[u8]) -> (Value, Vec<f64>) {
    assert_eq!(&body[..8], b"SOTPCOL1");
    let length = u32::from_le_bytes(body[8..12].try_into().unwrap()) as usize;
    let header = serde_json::from_slice(&body[16..16 + length]).unwrap();
    let numbers = body[16 + length..].chunks(8);
    let numbers = numbers.map(|eight| f64::from_le_bytes(eight.try_into().unwrap()));
    (header, numbers.collect())
}

#[tokio::test]
async fn columns_say_what_json_says() {
    let api = two().await;
    for more in ["&step=1m", "&step=raw"] {
        let path = five_minutes("{device=\"core1\"}", more);
        let (kind, body) = bytes(&api, &format!("{path}&format=columns"), &[]).await;
        assert_eq!(kind.as_deref(), Some("application/vnd.sotp.columns"));
        let accept = [("accept", "application/vnd.sotp.columns")];
        assert_eq!(bytes(&api, &path, &accept).await.1, body);
        let (header, numbers) = columns_of(&body);
        let json = api.get(&path).await.expect(200);
        assert_eq!(header["from"], json["from"]);
        let series = header["series"].as_array().unwrap();
        assert_eq!(series.len(), 4);
        for (one, same) in series.iter().zip(json["series"].as_array().unwrap()) {
            assert_eq!(
                (&one["metric"], &one["labels"]),
                (&same["metric"], &same["labels"])
            );
            let whole = |name: &str| usize::try_from(one[name].as_u64().unwrap()).unwrap();
            let (offset, length) = (whole("offset"), whole("length"));
            let column = &numbers[offset..offset + length];
            if more == "&step=1m" {
                let values = same["values"].as_array().unwrap();
                assert_eq!(values.len(), length);
                for (number, value) in column.iter().zip(values) {
                    assert_eq!(number.is_finite().then_some(*number), value.as_f64());
                }
                continue;
            }
            let points = same["points"].as_array().unwrap();
            assert_eq!(points.len(), length);
            for (at, point) in column.iter().zip(points) {
                assert_eq!(point[0], *at);
            }
            for (number, point) in numbers[offset + length..].iter().zip(points) {
                assert_eq!(number.is_finite().then_some(*number), point[1].as_f64());
            }
            assert_eq!(one["broken"], json!([6]));
        }
    }
}

#[tokio::test]
async fn a_wrong_question_names_every_mistake() {
    let api = served().await;
    let path = format!(
        "{PATH}?selector=up%7B&from=yesterday&step=often&aggregate=mean&across=all&source=1d&points=0&format=xml"
    );
    let mistakes = api.get(&path).await.mistakes(400);
    let mut places: Vec<&str> = mistakes.iter().map(|(place, _)| place.as_str()).collect();
    places.sort_unstable();
    assert_eq!(
        places,
        [
            "across",
            "aggregate",
            "format",
            "from",
            "points",
            "selector",
            "source",
            "step"
        ]
    );
    for (selector, what) in [
        ("", "an empty selector"),
        ("{}", "this selects everything"),
        ("up{a=~\"(\"}", "not a regular expression: unclosed group"),
        ("rate(up[5m])", "a function cannot stand here"),
        ("up{a=~\"(\\\\w{100}){100}\"}", "bytes of memory"),
    ] {
        let answer = api
            .get(&format!("{PATH}?selector={}", encoded(selector)))
            .await;
        let mistakes = answer.mistakes(400);
        assert_eq!(mistakes[0].0, "selector");
        assert!(mistakes[0].1.contains(what), "{selector}: {mistakes:?}");
    }
}

fn kind(answer: &Answer) -> String {
    answer.expect(400)["type"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn too_large_an_answer_is_refused_and_says_how_to_ask_for_less() {
    let api = two().await;
    let answer = api
        .get(&format!("{PATH}?selector=cpu_usage_ratio&from=0&step=1s"))
        .await;
    assert_eq!(kind(&answer), "/problems/too-many-points");
    assert!(answer.body.contains("longer step"), "{}", answer.body);
    // each is small, and together they are too large
    let answer = api
        .get(&format!(
            "{PATH}?selector=cpu_usage_ratio&from=-180000s&step=1s"
        ))
        .await;
    assert_eq!(kind(&answer), "/problems/too-many-points");
}

#[tokio::test]
async fn devices_that_somebody_may_not_see_are_not_there() {
    let api = two().await;
    api.set_up().await;
    let mut operator = person("roman", vec![at_site(Role::Operator, "default", "rom")]);
    operator.active = true;
    let token = api
        .token(crate::harness::new_token("rom", operator.bindings, &[]))
        .await;
    let ask = async |selector: &str, more: &str| {
        let path = five_minutes(selector, more);
        api.https_get(Some(&token), &path).await.expect(200)
    };
    assert_eq!(
        found(&ask("cpu_usage_ratio", "").await),
        [("edge1".into(), "cpu_usage_ratio".into(), String::new())]
    );
    assert_eq!(
        found(&ask("cpu_usage_ratio{device=\"core1\"}", "").await),
        []
    );
    // what others measure does not turn an answer into a refusal
    ask("{__name__=~\"ifHC.*|plugin_thingz\"}", "&across=sum").await;
    let sum = ask("ifHCInOctets", "&across=sum&step=1m").await;
    assert_eq!(sum["selected"], 2);
    assert_eq!(sum["series"][0]["values"][1], 90.0);
}

#[tokio::test]
async fn a_metric_of_one_device_comes_by_steps_too() {
    let api = two().await;
    let range = format!("from={BEGIN}&until={}", after(300));
    let path = format!("/api/v1/devices/core1/metrics/ifHCInOctets?{range}&label.ifName=eth1");
    let answer = api.get(&format!("{path}&step=1m")).await.expect(200);
    assert_eq!(
        (&answer["step"], &answer["unit"]),
        (&json!("1m"), &json!("octets/s"))
    );
    assert_eq!(answer["warnings"], json!([]));
    let points = answer["series"][0]["points"].as_array().unwrap();
    assert_eq!(points.len(), 5);
    let minute = after(60).since(Timestamp(0)).as_secs_f64();
    assert_eq!(points[1], json!([minute, 60.0]));
    let answer = api.get(&format!("{path}&step=1m&view=raw")).await;
    assert_eq!(answer.mistakes(400)[0].0, "view");
    let answer = api.get(&format!("{path}&step=0s")).await;
    assert_eq!(answer.mistakes(400)[0].0, "step");
    let answer = api
        .get("/api/v1/devices/core1/metrics/ifHCInOctets?from=0&step=1s")
        .await;
    assert_eq!(kind(&answer), "/problems/too-many-points");
}

#[tokio::test]
async fn a_metric_that_is_not_built_in_is_there_once_it_was_measured() {
    let api = two().await;
    let path = "/api/v1/devices/core1/metrics/plugin_things";
    let answer = api.get(path).await.expect(200);
    assert_eq!(answer["series"][0]["kind"], "gauge");
    api.get("/api/v1/devices/core1/metrics/plugin_thing")
        .await
        .expect(404);
}

#[tokio::test]
async fn the_figures_of_the_sample_store_are_shown() {
    let api = two().await;
    let text = api.get("/metrics").await.body;
    for line in [
        "# TYPE sotp_samples_bytes gauge",
        "# TYPE sotp_samples_appended_total counter",
        "# TYPE sotp_samples_sync_seconds histogram",
        "sotp_samples_kind_bytes{kind=\"counter64\"}",
        "sotp_samples_kind_values{kind=\"gauge\"}",
        "sotp_samples_refused_total{reason=\"duplicate\"}",
        "sotp_samples_writing 1",
        "sotp_store_disk_full_days NaN",
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    let status = api.get("/api/v1/status").await.expect(200);
    let samples = &status["samples"];
    assert_eq!(
        (&samples["health"], &samples["disk_full_days"]),
        (&json!("ok"), &Value::Null)
    );
    let kinds = samples["by_kind"].as_array().unwrap().iter();
    let kinds: Vec<&str> = kinds.map(|of| of["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["counter32", "counter64", "gauge", "state"]);
    for tier in ["raw", "15m", "1h"] {
        assert!(samples[tier].is_object(), "{samples}");
    }
}

#[tokio::test]
async fn what_was_measured_of_a_device_is_deleted_for_good_and_written_down() {
    let api = two().await;
    let raw = async |device: &str| {
        let selector = format!("{{device=\"{device}\"}}");
        let answer = api.get(&five_minutes(&selector, "&step=raw")).await;
        found(&answer.expect(200)).len()
    };
    assert_eq!((raw("core1").await, raw("edge1").await), (4, 4));
    let path = "/api/v1/devices/core1/metrics";
    let gone = api.ask("DELETE", path, &[], b"").await.expect(200);
    assert_eq!(gone["checks"], 1);
    assert_eq!((raw("core1").await, raw("edge1").await), (0, 4));
    let range = format!("{path}/ifHCInOctets?from={BEGIN}");
    assert_eq!(api.get(&range).await.expect(200)["series"], json!([]));

    let audit = api.get("/api/v1/audit?action=metrics.delete").await;
    let lines = audit.expect(200)["items"].as_array().unwrap().clone();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["object"], "device:core1");

    // what is measured from now on is kept
    let values = [0.5, 1.0, 2.0, 3.0];
    let at = after(290);
    api.keep(report(DeviceId(1), Check::Snmp, at, &columns(), &values))
        .await;
    assert_eq!(raw("core1").await, 4);
    api.ask("DELETE", "/api/v1/devices/nobody/metrics", &[], b"")
        .await
        .expect(404);
}

#[tokio::test]
async fn who_may_only_read_deletes_nothing() {
    let api = two().await;
    api.set_up().await;
    for (role, status) in [
        (Role::Operator, 403),
        (Role::ReadOnly, 403),
        (Role::Admin, 200),
    ] {
        let token = api.role(role, None).await;
        let path = "/api/v1/devices/core1/metrics";
        let answer = api.https(Some(&token), "DELETE", path, &[], b"").await;
        assert_eq!(answer.status, status, "{role:?}: {}", answer.body);
    }
}
