//! Every kind of plugin from its input to its reply.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{NOW, bench, device, evaluate, oid, parse, parser, series, table, text};
use contract::{
    Action, Answer, Ask, Call, CliMode, Comparison, Decision, Delivery, Failure, HttpResponse,
    Incident, Kind, MetricKind, Next, Notification, Octets, OnFailure, Payload, Phase, PluginError,
    Reply, Risk, RuleStatus, Scalar, Severity, SnmpValue, Stage, StepOutcome, StepResult, Varbind,
};

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
    assert_eq!(rule.selectors[0].query, "ifOperStatus");
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

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> HttpResponse {
    let header = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    HttpResponse {
        status,
        headers: headers.iter().map(header).collect(),
        body: Octets(body.as_bytes().to_vec()),
    }
}

fn interpreted(source: &str, response: HttpResponse) -> Delivery {
    let call = Call::Interpret {
        notification: notification(),
        response,
    };
    match bench(Kind::Notifier, source).reply(call) {
        Reply::Delivery(delivery) => delivery,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_means_what_its_status_says_unless_the_notifier_knows_better() {
    let plain = "fn render(n) { }";
    assert_eq!(
        interpreted(plain, answer(204, &[], "")),
        Delivery::Delivered(None)
    );
    assert_eq!(
        interpreted(plain, answer(503, &[], "")),
        Delivery::RetryAfterS(30)
    );
    let later = answer(429, &[("Retry-After", "7")], "");
    assert_eq!(interpreted(plain, later), Delivery::RetryAfterS(7));
    let failed = interpreted(plain, answer(404, &[], "no such hook"));
    assert_eq!(
        failed,
        Delivery::Failed("HTTP 404: no such hook".to_owned())
    );
    let own = r#"fn render(n) { }
        fn interpret(n, r) {
            if r.status == 200 { return delivered(r.json.id) }
            by_status(r)
        }"#;
    let named = interpreted(own, answer(200, &[], r#"{"id": "m1"}"#));
    assert_eq!(named, Delivery::Delivered(Some("m1".to_owned())));
    assert_eq!(
        interpreted(own, answer(500, &[], "")),
        Delivery::RetryAfterS(30)
    );
}

#[test]
fn a_notifier_may_send_nothing_and_must_send_requests() {
    let nothing = bench(
        Kind::Notifier,
        "fn render(n) { if n.severity == \"info\" { get(\"x\") } }",
    );
    assert_eq!(
        nothing.reply(Call::Render(notification())),
        Reply::Requests(vec![])
    );
    let wrong = bench(Kind::Notifier, "fn render(n) { n.device.hostname }");
    let fault = wrong.fault(Call::Render(notification()));
    assert_eq!(fault.message, "render() returned text");
    assert_eq!(fault.place.unwrap().line, 1);
}

#[test]
fn a_rule_finds_its_state_again() {
    let source = r#"fn describe() { every(30); select("state", "ifOperStatus", 300, 30); on_events(["link"]); }
        fn evaluate(input) {
            let count = (input.state.count ?? 0) + 1;
            set_state(#{count: count});
            let s = input.series("state")[0];
            pending(input.device.hostname, "info", `${count} ${s.last} ${s.rate} ${median(s.values)}`, #{port: s.label("interface")});
        }"#;
    let bench = bench(Kind::Rule, source);
    let Reply::Verdicts(first) = bench.reply(evaluate(vec![series("e1", &[0.0, 60.0])], "")) else {
        panic!("no verdicts")
    };
    assert_eq!(first.state.to_string(), r#"{"count":1}"#);
    assert_eq!(first.verdicts[0].summary, "1 60.0 2.0 30.0");
    assert_eq!(first.verdicts[0].status, RuleStatus::Pending);
    assert_eq!(
        first.verdicts[0].attrs,
        [("port".to_owned(), "e1".to_owned())]
    );
    let state = first.state.to_string();
    let Reply::Verdicts(second) = bench.reply(evaluate(vec![series("e1", &[1.0])], &state)) else {
        panic!("no verdicts")
    };
    assert_eq!(second.state.to_string(), r#"{"count":2}"#);
    assert_eq!(second.verdicts[0].key, "core-1");
}

#[test]
fn a_key_is_judged_once() {
    let source = "fn describe() { }\nfn evaluate(input) {\n ok(\"a\");\n ok(\"a\"); }";
    let fault = bench(Kind::Rule, source).fault(evaluate(vec![], ""));
    assert_eq!(fault.message, "the key \"a\" is judged twice");
    assert_eq!(fault.place.unwrap().line, 4);
}

fn decide(history: Vec<Stage>) -> Call {
    Call::Decide {
        incident: Incident {
            alert_id: "a1".to_owned(),
            rule_id: "flap".to_owned(),
            key: "ether1".to_owned(),
            severity: Severity::Warning,
            since: NOW,
            summary: "ether1 flaps".to_owned(),
            attrs: vec![("index".to_owned(), "3".to_owned())],
            device: device(),
            attempt: 1,
        },
        history,
    }
}

#[test]
fn a_remediation_plans_and_looks_at_what_was_done() {
    let source = r#"fn decide(incident, history) {
            if history.len > 0 {
                let last = history[-1].results[0];
                if last.outcome == "done" { return resolved("bounced") }
                return escalate(last.reason);
            }
            let oid = "1.3.6.1.2.1.2.2.1.7." + incident.attrs.index;
            let up = snmp_set([integer(oid, 1)]);
            run(plan("bounce " + incident.key, "medium")
                .step(step(incident.device.id, "down", "shut it", snmp_set([integer(oid, 2)]))
                    .undo(up).on_failure("undo").idempotent().timeout_s(10))
                .step(step(incident.device.id, "look", "look", cli(["show interface"]).expect("up")))
                .verify(check("ifOperStatus", "==", 1).hold_s(30).within_s(120)))
        }"#;
    let bench = bench(Kind::Remediation, source);
    let Reply::Decision(Decision::Run(plan)) = bench.reply(decide(vec![])) else {
        panic!("no plan")
    };
    assert_eq!(
        (plan.summary.as_str(), plan.risk),
        ("bounce ether1", Risk::Medium)
    );
    let down = &plan.steps[0];
    let set = |value| {
        Action::SnmpSet(vec![Varbind {
            name: oid("1.3.6.1.2.1.2.2.1.7.3"),
            value: SnmpValue::Integer(value),
        }])
    };
    assert_eq!((&down.action, down.undo.as_ref()), (&set(2), Some(&set(1))));
    assert_eq!(
        (down.on_failure, down.idempotent, down.timeout_s),
        (OnFailure::Undo, true, 10)
    );
    let Action::Cli(cli) = &plan.steps[1].action else {
        panic!("no commands")
    };
    assert_eq!(
        (cli.mode, cli.expect.as_slice()),
        (CliMode::Exec, &[Some("up".to_owned())][..])
    );
    assert_eq!(
        (plan.verify[0].comparison, plan.verify[0].hold_s),
        (Comparison::Eq, 30)
    );
    let after = |outcome| {
        let result = StepResult {
            step_id: "down".to_owned(),
            outcome,
            output: String::new(),
            http: None,
        };
        let stage = Stage {
            plan: plan.clone(),
            results: vec![result],
        };
        bench.reply(decide(vec![stage]))
    };
    assert_eq!(
        after(StepOutcome::Done),
        Reply::Decision(Decision::Resolved("bounced".to_owned()))
    );
    let failed = after(StepOutcome::Failed("denied".to_owned()));
    assert_eq!(
        failed,
        Reply::Decision(Decision::Escalate("denied".to_owned()))
    );
}

#[test]
fn a_poller_asks_reads_and_asks_again() {
    let source = r#"fn describe() { gauge("acme_load", "ratio", "Load", ["cpu"]); }
        fn start(device) { [snmp_table("1.3.6.1.4.1.99"), get("http://" + device.address + "/api")] }
        fn resume(device, round, answers) {
            if round == 1 { return [snmp_get(["1.3.6.1.2.1.1.3.0"])] }
            for row in answers[0].table { emit("acme_load", #{cpu: row.text(2)}, scale(row.get(3), -2)); }
            if answers[1].error != () { warn(answers[1].ask + ": " + answers[1].error); }
        }"#;
    let bench = bench(Kind::Poller, source);
    let Reply::Asks(asks) = bench.reply(Call::Start { device: device() }) else {
        panic!("no questions")
    };
    assert_eq!(asks[0], Ask::SnmpTable(oid("1.3.6.1.4.1.99")));
    assert!(matches!(&asks[1], Ask::Http(request) if request.url == "http://10.0.0.5/api"));
    let resume = |round, answers| Call::Resume {
        device: device(),
        round,
        answers,
    };
    let more = bench.reply(resume(1, vec![]));
    assert_eq!(
        more,
        Reply::Next(Next::More(vec![Ask::SnmpGet(vec![oid(
            "1.3.6.1.2.1.1.3.0"
        )])]))
    );
    let answers = vec![
        (asks[0].clone(), Answer::SnmpTable(table())),
        (asks[1].clone(), Answer::Error("refused".to_owned())),
    ];
    let Reply::Next(Next::Done(output)) = bench.reply(resume(2, answers)) else {
        panic!("not done")
    };
    assert_eq!(output.rows.len(), 1);
    assert_eq!(
        (output.rows[0].labels.as_slice(), output.rows[0].values[0].1),
        (&["left".to_owned()][..], -0.45)
    );
    assert_eq!(output.warnings, ["GET http://10.0.0.5/api: refused"]);
    let unanswered = vec![(asks[0].clone(), Answer::Error("timeout".to_owned()))];
    let failure = bench.failure(resume(2, unanswered));
    let why = "snmp_table 1.3.6.1.4.1.99: timeout".to_owned();
    assert_eq!(failure, Failure::Said(PluginError::Unavailable(why)));
}

#[test]
fn a_parser_sees_varbinds_facts_and_events() {
    let body = r#"let v = input.varbinds;
        fact("serial", v.get("1.3.6.1.4.1.99.1.0"));
        for each in v.below("1.3.6.1.4.1.99.2") { emit("acme_many", #{fan: each.index}, each.int); }
        emit("acme_one", v.has("1.3.6.1.9.9"));
        emit("acme_one", v.get("1.3.6.1.9.9"));
        event("hot", "critical", input.device.hostname, #{site: input.device.attr("site")});"#;
    let varbind = |name: &str, value| Varbind {
        name: oid(name),
        value,
    };
    let payload = Payload::Snmp(vec![
        varbind(
            "1.3.6.1.4.1.99.1.0",
            SnmpValue::Octets(Octets(b"8F3A".to_vec())),
        ),
        varbind("1.3.6.1.4.1.99.2.1.7", SnmpValue::Unsigned32(900)),
        varbind(
            "1.3.6.1.4.1.99.2.1.8",
            SnmpValue::Counter64(u64::from(u32::MAX)),
        ),
        varbind("1.3.6.1.9.9", SnmpValue::NoSuchObject),
    ]);
    let Reply::Output(output) = parser(body).reply(parse(payload)) else {
        panic!("no output")
    };
    let rows: Vec<(Vec<String>, f64)> = output
        .rows
        .into_iter()
        .map(|row| (row.labels, row.values[0].1))
        .collect();
    let row = |label: &str, value: f64| (vec![label.to_owned()], value);
    assert_eq!(
        rows,
        [
            row("1.7", 900.0),
            row("1.8", 4_294_967_295.0),
            (vec![], 0.0)
        ]
    );
    assert_eq!(output.facts[0].value, Scalar::Text("8F3A".to_owned()));
    assert_eq!(
        output.events[0].attrs,
        [("site".to_owned(), "cellar".to_owned())]
    );
    assert_eq!(output.events[0].at, NOW);
}

/// Each line warns with what it found.
fn found(body: &str) -> Vec<String> {
    let mut bench = parser(body);
    bench.settings = serde_json::json!({"limit": 5, "names": ["a", "b"], "ratio": 0.5});
    let Reply::Output(output) = bench.reply(text("Temp: -4.5 C\nname = core 1;")) else {
        panic!("no output")
    };
    output.warnings
}

#[test]
fn texts_numbers_and_object_identifiers_are_read() {
    let body = r#"let t = input.text;
        warn(number_in(t).to_string());
        warn(between(t, "name = ", ";"));
        warn(`${quantity("1.5 kW")} ${quantity("4 KiB")} ${quantity("3 m")} ${quantity("12 mV")} ${quantity("none") ?? "-"}`);
        warn(`${numbers_in("1-2 x3.25")}`);
        warn(`${scale(415, -1)} ${round_to(1.2345, 2)}`);
        warn(trimmed("  x ") + replaced("a.b", ".", "-"));
        warn(oid_index("1.3.6.1.5.6", "1.3.6.1") + " " + oid_text("101.116.104"));
        warn(`${oid_arc("1.3.6.1", -1)} ${oid_starts_with("1.3.6", "1.3")} ${oid_starts_with("1.33", "1.3")}`);
        warn(to_json(#{a: [1, 2.5, "x", ()], b: true}) + json_parse("[7]")[0]);
        warn(url_encode("a b/ü") + " " + escape_html("<a>") + " " + shortened("abcdef", 4));
        warn(format_time(now()));
        warn(`${input.lines.len} ${words(" a  b ").len}`);"#;
    assert_eq!(
        found(body),
        [
            "-4.5",
            "core 1",
            "1500.0 4096.0 3.0 0.012 -",
            "[1.0, 2.0, 3.25]",
            "41.5 1.23",
            "xa-b",
            "5.6 eth",
            "1 true false",
            r#"{"a":[1,2.5,"x",null],"b":true}7"#,
            "a%20b%2F%C3%BC &lt;a&gt; abc…",
            "2026-11-21T12:00:00.000Z",
            "2 2",
        ]
    );
}

#[test]
fn the_host_is_asked_for_settings_values_devices_and_links() {
    let body = r#"warn(`${config("limit") + 1} ${config("names")[1]} ${config("none", 9)}`);
        kv_set("count", kv_get("count") + 1);
        warn(`${kv_get("count")} ${kv_keys("", 10)} ${kv_get("none") ?? "-"}`);
        warn(`${device("7").hostname} ${device("8") ?? "-"} ${fact_of("7", "serial")} ${links("7")[0].remote_port}`);"#;
    assert_eq!(
        found(body),
        ["6 b 9", "42 [\"count\"] -", "core-1 - 8F3A ether2"]
    );
    let ended = parser("kv_set(\"count\", kv_get(\"count\") + 1);").ended(text(""));
    assert_eq!(ended.kv[0].value, Some(Octets(b"42".to_vec())));
}

#[test]
fn a_rule_may_query_what_it_did_not_select() {
    let source =
        r#"fn describe() { } fn evaluate(input) { ok("a", `${query("x", 600)[0].max}`); }"#;
    let bench = bench(Kind::Rule, source);
    let Reply::Verdicts(output) = bench.reply(evaluate(vec![], "")) else {
        panic!("no verdicts")
    };
    assert_eq!(output.verdicts[0].summary, "600.0");
    // without every() it is evaluated once a minute
    let described = bench.reply(Call::Describe);
    assert!(
        matches!(&described, Reply::Rule(rule) if rule.interval_s == 60),
        "{described:?}"
    );
}

#[test]
fn a_description_looks_at_the_settings_alone() {
    let source = r#"fn describe() { for name in config("names", []) { gauge("acme_" + name, "", "h"); } }
        fn parse(input) { emit("acme_" + input.text, 1); }"#;
    let mut script = bench(Kind::Parser, source);
    script.settings = serde_json::json!({"names": ["a", "b"]});
    let Reply::Output(output) = script.reply(text("b")) else {
        panic!("no output")
    };
    assert_eq!(output.rows[0].values, [(1, 1.0)]);
    script.settings = serde_json::json!({"names": ["b"]});
    let Reply::Output(output) = script.reply(text("b")) else {
        panic!("no output")
    };
    assert_eq!(output.rows[0].values, [(0, 1.0)]);
    let curious = bench(
        Kind::Parser,
        "fn describe() {\n kv_get(\"a\"); }\nfn parse(input) { }",
    );
    let fault = curious.fault(Call::Describe);
    assert_eq!(fault.message, "kv_get() in describe()");
    assert_eq!(fault.place.unwrap().line, 2);
    let device = bench(
        Kind::Parser,
        "fn describe() {\n gauge(\"acme_a\", \"\", \"\", [\"device\"]); }\nfn parse(input) { }",
    );
    let fault = device.fault(Call::Describe);
    assert!(
        fault.message.contains("which the inventory sets"),
        "{fault}"
    );
    assert_eq!(fault.place.unwrap().line, 2);
}

#[test]
fn a_call_of_another_kind_is_refused() {
    let fault = bench(Kind::Notifier, "fn render(n) { }").fault(text(""));
    assert_eq!(
        fault.message,
        "parse() is a parser's; this plugin is a notifier"
    );
}

/// What `sotp plugin new --lang rhai` begins with.
#[test]
fn the_template_compiles() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../sdk/rhai/template/main.rhai"
    );
    let source = std::fs::read_to_string(path).unwrap();
    let template = bench(Kind::Parser, &source.replace("{{metric}}", "acme_ups"));
    let Reply::Metrics(metrics) = template.reply(Call::Describe) else {
        panic!("no metrics")
    };
    assert!(!metrics.metrics.is_empty());
}
