//! Every kind of plugin from its input to its reply.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{NOW, bench, device, evaluate, oid, parse, series};
use contract::{Call, Kind, MetricKind, Notification, Payload, Phase, Reply, RuleStatus, Severity};

/// The scripts of the reference's first page.
fn example(number: usize) -> String {
    let page = script::reference();
    let mut blocks = page.split("```rhai\n").skip(1);
    let block = blocks.nth(number).unwrap();
    block.split("```").next().unwrap().to_owned()
}

#[test]
fn the_parser_of_the_reference_reads_a_table() {
    let bench = bench(Kind::Parser, &example(0));
    let Reply::Metrics(metrics) = bench.reply(Call::Describe) else {
        panic!("no metrics")
    };
    assert_eq!(metrics.metrics[0].name, "mikrotik_temperature_celsius");
    assert_eq!(metrics.metrics[1].kind, MetricKind::Gauge);
    assert_eq!(metrics.metrics[1].labels, ["fan"]);
    assert_eq!(metrics.facts, ["serial"]);
    let column = |number: u32, cells| contract::Column {
        base: oid(&format!("1.3.6.1.4.1.14988.1.1.3.100.1.{number}")),
        rows: vec![0, 1],
        cells,
    };
    let names = vec!["cpu".to_owned(), "fan1".to_owned()];
    let table = contract::Table {
        indexes: vec![oid("1"), oid("2")],
        columns: vec![
            column(2, contract::Cells::Texts(names)),
            column(3, contract::Cells::Ints(vec![41, 3_200])),
            column(4, contract::Cells::Ints(vec![1, 2])),
        ],
    };
    let Reply::Output(output) = bench.reply(parse(Payload::SnmpTable(table))) else {
        panic!("no output")
    };
    assert_eq!(output.rows.len(), 2);
    assert_eq!(output.rows[0].labels, ["cpu"]);
    assert_eq!(output.rows[0].values, [(0, 41.0)]);
    assert_eq!(output.rows[1].labels, ["fan1"]);
    assert_eq!(output.rows[1].values, [(1, 3_200.0)]);
}

#[test]
fn the_rule_of_the_reference_judges_each_port() {
    let bench = bench(Kind::Rule, &example(1));
    let Reply::Rule(rule) = bench.reply(Call::Describe) else {
        panic!("no rule")
    };
    assert_eq!(rule.interval_s, 60);
    assert_eq!(rule.selectors[0].query, "if_oper_up");
    assert_eq!(rule.selectors[0].window_s, 600);
    let flapping = series("ether1", &[1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
    let quiet = series("ether2", &[1.0, 1.0]);
    let Reply::Verdicts(output) = bench.reply(evaluate(vec![flapping, quiet], "")) else {
        panic!("no verdicts")
    };
    let verdicts: Vec<(&str, RuleStatus)> = output
        .verdicts
        .iter()
        .map(|verdict| (verdict.key.as_str(), verdict.status))
        .collect();
    assert_eq!(
        verdicts,
        [("ether1", RuleStatus::Firing), ("ether2", RuleStatus::Ok)]
    );
    assert_eq!(output.verdicts[0].severity, Severity::Warning);
    assert_eq!(
        output.verdicts[0].summary,
        "ether1 changed 6 times in 10 minutes"
    );
}

fn notification() -> Notification {
    Notification {
        id: "n1".to_owned(),
        phase: Phase::Opened,
        severity: Severity::Critical,
        at: NOW,
        summary: "core-1 is \"hot\"".to_owned(),
        attrs: vec![("sensor".to_owned(), "cpu".to_owned())],
        device: Some(device()),
        url: "https://sotp/alerts/1".to_owned(),
    }
}

#[test]
fn the_notifier_of_the_reference_posts_json() {
    let mut bench = bench(Kind::Notifier, &example(2));
    bench.settings = serde_json::json!({"webhook": "${secret:slack}"});
    assert_eq!(bench.reply(Call::Describe), Reply::Nothing);
    let Reply::Requests(requests) = bench.reply(Call::Render(notification())) else {
        panic!("no requests")
    };
    let [request] = requests.as_slice() else {
        panic!("{requests:?}")
    };
    assert_eq!(
        (request.method.as_str(), request.url.as_str()),
        ("POST", "${secret:slack}")
    );
    let json: serde_json::Value =
        serde_json::from_slice(&request.body.as_ref().unwrap().0).unwrap();
    let text = "critical: core-1 is \"hot\"\nhttps://sotp/alerts/1";
    assert_eq!(json, serde_json::json!({"text": text}));
    assert!(
        request
            .headers
            .contains(&("Content-Type".to_owned(), "application/json".to_owned()))
    );
}
