//! The audit log: asked for, taken away, verified.

use model::Role;
use serde_json::{Value, json};

use crate::harness::{Answer, Served, served};

/// An appliance on which a few things happened.
async fn busy() -> Served {
    let api = served().await;
    api.set_up().await;
    api.tenant("acme").await;
    api.enter("core1", "192.0.2.1").await;
    let device = json!({"name": "edge1", "address": "192.0.2.2", "tenant": "acme"});
    api.post("/api/v1/devices", &device).await.expect(201);
    let evil = json!({"name": "=HYPERLINK(\"http://evil\")", "address": "192.0.2.3"});
    api.post("/api/v1/devices", &evil).await.expect(201);
    let read_only = api.role(Role::ReadOnly, None).await;
    let denied = api.https_get(Some(&read_only), "/api/v1/users").await;
    denied.expect(403);
    // what does not wait is written with the next commit
    api.store.heartbeat().await.unwrap();
    api
}

async fn lines(api: &Served, query: &str) -> Vec<Value> {
    let page = api.get(&format!("/api/v1/audit?{query}")).await.expect(200);
    page["items"].as_array().unwrap().clone()
}

fn actions(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line["action"].as_str().unwrap())
        .collect()
}

async fn export(api: &Served, kind: &str, query: &str) -> Answer {
    let path = format!("/api/v1/audit?{query}");
    let answer = api.ask("GET", &path, &[("accept", kind)], b"").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer
}

/// The body of an answer that came in chunks (RFC 9112 §7.1).
fn whole(answer: &Answer) -> String {
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    let mut rest = answer.body.as_str();
    let mut whole = String::new();
    loop {
        let (length, after) = rest.split_once("\r\n").unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return whole;
        }
        whole.push_str(&after[..length]);
        rest = after[length..].strip_prefix("\r\n").unwrap();
    }
}

#[tokio::test]
async fn who_did_what_is_told_newest_first_with_all_of_it() {
    let api = busy().await;
    let all = lines(&api, "").await;
    let numbers: Vec<u64> = all
        .iter()
        .map(|line| line["seq"].as_u64().unwrap())
        .collect();
    let down: Vec<u64> = (1..=numbers[0]).rev().collect();
    assert_eq!(numbers, down);
    let made = lines(&api, "object=device:core1").await;
    let [made] = made.as_slice() else {
        panic!("{made:?}")
    };
    assert_eq!(made["action"], "device.create");
    assert_eq!(made["outcome"], "done");
    assert_eq!(made["origin"], "socket");
    assert_eq!(made["tenant"], "default");
    assert!(made["actor"].as_str().unwrap().starts_with("uid:"));
    assert!(made["request"].is_string());
    assert_eq!(made["before"], Value::Null);
    assert_eq!(made["after"]["name"], "core1");
    assert_eq!(made["hash"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn filters_leave_what_meets_all_of_them() {
    let api = busy().await;
    assert_eq!(
        actions(&lines(&api, "outcome=denied").await),
        ["access.denied"]
    );
    let devices = lines(&api, "action=device.*").await;
    assert_eq!(actions(&devices), ["device.create"; 3]);
    assert_eq!(
        actions(&lines(&api, "tenant=acme&action=device.*").await).len(),
        1
    );
    assert_eq!(lines(&api, "q=EDGE1").await.len(), 1);
    assert_eq!(lines(&api, "actor=token:*").await.len(), 1);
    assert_eq!(lines(&api, "actor=user:nobody").await.len(), 0);
    assert_eq!(lines(&api, "to=-1s").await.len(), 0);
    let all = lines(&api, "").await.len();
    assert_eq!(lines(&api, "from=-1h").await.len(), all);

    let long = "x".repeat(300);
    for (query, parameter) in [
        ("outcome=maybe", "outcome"),
        ("from=yesterday", "from"),
        ("limit=0", "limit"),
        ("cursor=zz", "cursor"),
        ("user=jane", "user"),
        (&*format!("q={long}"), "q"),
    ] {
        let wrong = api.get(&format!("/api/v1/audit?{query}")).await;
        assert_eq!(wrong.mistakes(400)[0].0, parameter);
    }
}

#[tokio::test]
async fn pages_go_on_where_the_one_before_ended_though_more_happens_meanwhile() {
    let api = busy().await;
    let all = lines(&api, "").await;
    let mut seen = Vec::new();
    let mut path = "/api/v1/audit?limit=2".to_owned();
    loop {
        let page = api.get(&path).await.expect(200);
        seen.extend(page["items"].as_array().unwrap().clone());
        api.enter(
            &format!("more{}", seen.len()),
            &format!("198.51.100.{}", seen.len()),
        )
        .await;
        match page["next"].as_str() {
            Some(next) => path = format!("/api/v1/audit?limit=2&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, all);
}

#[tokio::test]
async fn all_lines_can_be_taken_away_as_json() {
    let api = busy().await;
    let all = lines(&api, "").await;
    let answer = export(&api, "application/x-ndjson", "").await;
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    assert!(
        answer
            .header("content-disposition")
            .unwrap()
            .contains("audit.ndjson")
    );
    let text = whole(&answer);
    let exported: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(exported, all);
    // the chain can be followed in what was taken away
    for pair in exported.windows(2) {
        assert_eq!(pair[0]["previous"], pair[1]["hash"]);
    }
    let some = whole(&export(&api, "application/x-ndjson", "action=device.*").await);
    assert_eq!(some.lines().count(), 3);
    let none = whole(&export(&api, "application/x-ndjson", "actor=nobody").await);
    assert_eq!(none, "");
}

#[tokio::test]
async fn all_lines_can_be_taken_away_as_a_table_without_formulas() {
    let api = busy().await;
    let answer = export(&api, "text/csv", "").await;
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("text/csv")
    );
    let text = whole(&answer);
    let mut rows = text.split("\r\n");
    assert_eq!(
        rows.next(),
        Some(
            "seq,at,actor,origin,request,action,object,tenant,outcome,reason,before,after,previous,hash"
        )
    );
    let all = lines(&api, "").await.len();
    assert_eq!(rows.filter(|row| !row.is_empty()).count(), all);
    for field in text.split([',', '\n']) {
        let begins = field.trim_start_matches('"');
        assert!(!begins.starts_with(['=', '+', '-', '@']), "{field}");
    }
}

#[tokio::test]
async fn an_export_of_many_lines_has_every_one_of_them_once() {
    let api = served().await;
    let rows: String = (0..1200)
        .map(|n| format!("d{n},10.0.{}.{}\n", n / 250, n % 250 + 1))
        .collect();
    let table = format!("name,address\n{rows}");
    let import = api
        .ask(
            "POST",
            "/api/v1/devices/import",
            &[("content-type", "text/csv")],
            table.as_bytes(),
        )
        .await;
    assert_eq!(import.status / 100, 2, "{}", import.body);
    for n in 0..1100 {
        let draft = model::AuditDraft {
            action: "session.refused".into(),
            object: format!("user:{n}"),
            tenant: None,
            outcome: model::AuditOutcome::Denied("wrong".into()),
            after: None,
        };
        api.store
            .try_note_audit(&model::By::system(), draft, crate::harness::NOW);
        if n % 100 == 0 {
            api.store.heartbeat().await.unwrap();
        }
    }
    api.store.heartbeat().await.unwrap();
    let (newest, _) = api.store.audit_head();
    let text = whole(&export(&api, "application/x-ndjson", "").await);
    let mut numbers = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["seq"].as_u64().unwrap()
    });
    assert!(newest > 1_000);
    assert!(
        (1..=newest)
            .rev()
            .all(|number| numbers.next() == Some(number))
    );
    assert_eq!(numbers.next(), None);
}

#[tokio::test]
async fn who_may_read_the_log_of_a_tenant_sees_that_alone() {
    let api = busy().await;
    let auditor = api.role(Role::Auditor, Some("acme")).await;
    let seen = api
        .https_get(Some(&auditor), "/api/v1/audit")
        .await
        .expect(200);
    let seen = seen["items"].as_array().unwrap();
    assert!(!seen.is_empty());
    assert!(seen.iter().all(|line| line["tenant"] == "acme"), "{seen:?}");
    for query in [
        "tenant=default",
        "object=device:core1",
        "action=access.denied",
    ] {
        let none = api
            .https_get(Some(&auditor), &format!("/api/v1/audit?{query}"))
            .await;
        assert_eq!(none.expect(200)["items"], json!([]), "{query}");
    }
    api.https_get(Some(&auditor), "/api/v1/audit/verify")
        .await
        .expect(403);
    let operator = api.role(Role::Operator, None).await;
    api.https_get(Some(&operator), "/api/v1/audit")
        .await
        .expect(403);
}

#[tokio::test]
async fn the_log_verifies_and_names_its_newest_line() {
    let api = busy().await;
    let verdict = api.get("/api/v1/audit/verify").await.expect(200);
    let newest = &lines(&api, "limit=1").await[0];
    assert_eq!(verdict["ok"], true);
    assert_eq!(verdict["broken"], Value::Null);
    assert_eq!(verdict["first"], 1);
    assert_eq!(verdict["lines"], newest["seq"]);
    assert_eq!(verdict["head"]["seq"], newest["seq"]);
    assert_eq!(verdict["head"]["hash"], newest["hash"]);
    let auditor = api.role(Role::Auditor, None).await;
    let verdict = api.https_get(Some(&auditor), "/api/v1/audit/verify").await;
    assert_eq!(verdict.expect(200)["ok"], true);
}
