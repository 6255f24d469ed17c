//! Who may do what: every operation of the document, asked by nobody, by each
//! role everywhere, and by each role in a tenant that is not the things' own.
//!
//! `matrix.txt` keeps what came of it; the rules that it has to follow stand
//! here and are derived from each operation's `x-permission` alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use api::Limits;
use model::{Permission, Role};
use serde_json::{Value, json};

use crate::alerts::{alert, mail_about};
use crate::document::{BLESS, document, operations};
use crate::harness::{Answer, Served, binding, limits, new_token, person, served_with};

/// Stands in every name of what belongs to the default tenant.
const CANARY: &str = "zcanary";

/// An appliance with one of everything in the default tenant, and another
/// tenant with nothing.
pub(crate) struct Furnished {
    pub(crate) api: Served,
    /// What stands for the variable parts of paths, by path.
    parts: BTreeMap<String, String>,
}

pub(crate) async fn furnished() -> Furnished {
    let api = served_with(Limits {
        anonymous_per_minute: 1_000_000,
        ..limits()
    })
    .await;
    api.set_up().await;
    api.tenant("other").await;
    let community = json!({"kind": "snmp-v2c", "community": "public"});
    let credential = format!("/api/v1/credentials/{CANARY}-credential");
    api.send("PUT", &credential, &community).await.expect(201);
    let device = api.enter(&format!("{CANARY}-device"), "10.0.0.1").await;
    let rule = json!({"name": format!("{CANARY}-rule"), "severity": "info", "availability": {"check": "icmp", "rounds": 3}});
    api.post("/api/v1/rules", &rule).await.expect(201);
    let secret = format!("/api/v1/secrets/{CANARY}-secret");
    let value = json!({"value": "sesame"});
    api.send("PUT", &secret, &value).await.expect(201);
    let fault = alert(
        1,
        device,
        &format!("{CANARY}-device"),
        model::AlertState::Firing,
    );
    let judgement = store::Judgement {
        alerts: vec![fault.clone()],
        gone: Vec::new(),
        deliveries: vec![mail_about(&fault)],
    };
    api.store.judge(judgement).await.unwrap();
    let somebody = person(
        &format!("{CANARY}-person"),
        vec![binding(Role::ReadOnly, None)],
    );
    let by = model::By::system();
    let now = crate::harness::NOW;
    api.store.create_user(&by, somebody, now).await.unwrap();
    let token = new_token(
        &format!("{CANARY}-token"),
        vec![binding(Role::ReadOnly, None)],
        &[],
    );
    api.token(token).await;
    let tokens = api.get("/api/v1/tokens").await.expect(200);
    let token = tokens["items"][0]["id"].as_str().unwrap().to_owned();
    let parts = [
        ("/devices/{device}", "1".to_owned()),
        ("/metrics/{metric}", "icmp_up".to_owned()),
        ("/alerts/{id}", "1".to_owned()),
        ("/outbox/{id}", "1".to_owned()),
        ("/rules/{name}", format!("{CANARY}-rule")),
        ("/credentials/{name}", format!("{CANARY}-credential")),
        ("/secrets/{name}", format!("{CANARY}-secret")),
        ("/users/{name}", format!("{CANARY}-person")),
        ("/tenants/{name}", "default".to_owned()),
        ("/tokens/{id}", token),
        ("/plugins/{name}", "acme-ups".to_owned()),
        ("/dev/{name}", "acme-ups".to_owned()),
        ("/runs/{id}", "1".to_owned()),
        (
            "/sessions/{id}",
            "0123456789abcdef0123456789abcdef".to_owned(),
        ),
    ]
    .map(|(path, part)| (path.to_owned(), part));
    Furnished {
        api,
        parts: parts.into(),
    }
}

impl Furnished {
    /// `path` with something that is there in its variable parts.
    pub(crate) fn concrete(&self, path: &str) -> String {
        let mut concrete = path.to_owned();
        for (template, part) in &self.parts {
            let (before, _) = template.rsplit_once('/').unwrap();
            concrete = concrete.replace(template, &format!("{before}/{part}"));
        }
        assert!(!concrete.contains('{'), "nothing stands for {concrete}");
        concrete
    }

    /// Asks for the operation in a way that changes nothing: changes lack
    /// their `If-Match`, or their body is no good.
    async fn ask(&self, token: Option<&str>, method: &str, path: &str) -> Answer {
        let path = self.concrete(path);
        let method = method.to_uppercase();
        let kind = match path.ends_with("/import") {
            true => "text/csv",
            false => "application/json",
        };
        let (headers, body): (&[(&str, &str)], &[u8]) = match method.as_str() {
            "POST" | "PUT" | "PATCH" => (&[("content-type", kind)], b"{\"zz\": 1}"),
            _ => (&[], b""),
        };
        self.api.https(token, &method, &path, headers, body).await
    }
}

/// Somebody who asks.
struct Asker {
    name: String,
    role: Option<Role>,
    everywhere: bool,
    token: Option<String>,
}

async fn askers(api: &Served) -> Vec<Asker> {
    let mut askers = vec![Asker {
        name: "nobody".to_owned(),
        role: None,
        everywhere: false,
        token: None,
    }];
    for tenant in [None, Some("other")] {
        for role in Role::ALL {
            let place = if tenant.is_some() { "/other" } else { "" };
            askers.push(Asker {
                name: format!("{}{place}", role.word()),
                role: Some(role),
                everywhere: tenant.is_none(),
                token: Some(api.role(role, tenant).await),
            });
        }
    }
    askers
}

/// Whether there is something that belongs to the default tenant alone in the
/// path, so that those of another tenant must not find it.
fn is_of_the_tenant(path: &str) -> bool {
    [
        "devices",
        "rules",
        "credentials",
        "secrets",
        "tokens",
        "alerts",
        "outbox",
    ]
    .iter()
    .any(|kind| path.contains(&format!("/{kind}/{{")))
}

/// Whether it is the appliance's, so that who has a role in a tenant alone may
/// not.
fn is_the_appliance_s(method: &str, path: &str) -> bool {
    let whole = [
        "users",
        "policy",
        "secrets-key",
        "sessions",
        "notify",
        "audit/verify",
        "backups",
        "plugins",
    ];
    let resource = path.strip_prefix("/api/v1/").unwrap_or_default();
    whole.iter().any(|whole| resource.starts_with(whole))
        || (resource.starts_with("tenants") && method != "get")
        || path == "/metrics"
}

/// What is wrong with this answer to `asker`, if anything.
fn wrong(
    asker: &Asker,
    method: &str,
    path: &str,
    permission: &str,
    answer: &Answer,
) -> Option<String> {
    let status = answer.status;
    let known = Permission::from_word(permission);
    let granted = |role: Role| known.is_some_and(|permission| role.grants(permission));
    let expected = match (permission, asker.role) {
        ("open", _) => (status != 403).then_some("").ok_or("anything but 403"),
        (_, None) => (status == 401).then_some("").ok_or("401"),
        ("self", Some(_)) => (status != 401).then_some("").ok_or("anything but 401"),
        ("local", Some(_)) => (status == 403).then_some("").ok_or("403"),
        (_, Some(role)) if !granted(role) => (status == 403).then_some("").ok_or("403"),
        (_, Some(_)) if asker.everywhere => {
            let let_in = ![401, 403].contains(&status);
            let found = status != 404 || path.contains("/sessions/{id}");
            (let_in && found)
                .then_some("")
                .ok_or("to be let in and to find it")
        }
        (_, Some(_)) if is_of_the_tenant(path) => (status == 404).then_some("").ok_or("404"),
        (_, Some(_)) if is_the_appliance_s(method, path) => {
            (status == 403).then_some("").ok_or("403")
        }
        (_, Some(_)) => {
            let let_in = ![401, 403].contains(&status);
            (let_in || path.contains("/tenants/{"))
                .then_some("")
                .ok_or("to be let in")
        }
    };
    if let Err(expected) = expected {
        return Some(format!(
            "{} {method} {path} ({permission}): {status}, expected {expected}: {}",
            asker.name, answer.body
        ));
    }
    // what they may not see is in no answer; a problem repeats what was asked
    let leaks = asker.role.is_some() && !asker.everywhere && answer.body.contains(CANARY);
    (leaks && status < 300).then(|| {
        format!(
            "{} {method} {path} tells of another tenant: {}",
            asker.name, answer.body
        )
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_lets_in_whom_its_permission_says_and_nobody_else() {
    let there = furnished().await;
    let askers = askers(&there.api).await;
    let mut rows = Vec::new();
    let mut faults = Vec::new();
    for (path, method, operation) in operations(&document()) {
        let permission = operation["x-permission"].as_str();
        let permission =
            permission.unwrap_or_else(|| panic!("{method} {path} has no x-permission"));
        let mut row = vec![
            format!("{} {path}", method.to_uppercase()),
            permission.to_owned(),
        ];
        for asker in &askers {
            let answer = there.ask(asker.token.as_deref(), &method, &path).await;
            assert_ne!(answer.status / 100, 5, "{method} {path}: {}", answer.body);
            faults.extend(wrong(asker, &method, &path, permission, &answer));
            row.push(answer.status.to_string());
        }
        rows.push(row);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let table = table(&askers, &rows);
    show(&table);
    compare(&table);
}

fn table(askers: &[Asker], rows: &[Vec<String>]) -> String {
    let mut head = vec!["operation".to_owned(), "x-permission".to_owned()];
    head.extend(askers.iter().map(|asker| asker.name.clone()));
    let width = |column: usize| {
        rows.iter()
            .chain([&head])
            .map(|row| row[column].len())
            .max()
            .unwrap()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in [&head].into_iter().chain(rows) {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        writeln!(text, "{}", line.join("  ").trim_end()).unwrap();
    }
    let count = |wanted: &str| rows.iter().flatten().filter(|cell| *cell == wanted).count();
    writeln!(
        text,
        "\n{} operations, {} answers: {} times 401, {} times 403, {} times 404",
        rows.len(),
        rows.len() * askers.len(),
        count("401"),
        count("403"),
        count("404")
    )
    .unwrap();
    text
}

#[expect(clippy::print_stdout, reason = "shown with --nocapture")]
fn show(table: &str) {
    println!("{table}");
}

fn compare(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("matrix.txt");
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(&path, table).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == table,
        "matrix.txt differs from what was answered; if that is meant, run this test with {BLESS}=1 and look at the difference:\n{table}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_local_can_be_done_by_root_on_the_socket() {
    let there = furnished().await;
    let mut local = 0;
    for (path, method, operation) in operations(&document()) {
        if operation["x-permission"] == "local" {
            local += 1;
            let json = [("content-type", "application/json")];
            let answer = there
                .api
                .ask(&method.to_uppercase(), &path, &json, b"{\"zz\": 1}")
                .await;
            assert!(
                ![401, 403, 404].contains(&answer.status),
                "{method} {path}: {}",
                answer.body
            );
        }
    }
    assert!(local > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn before_it_is_set_up_the_network_sees_next_to_nothing() {
    let api = served_with(Limits {
        anonymous_per_minute: 1_000_000,
        ..limits()
    })
    .await;
    let token = api.role(Role::Admin, None).await;
    let mut open = Vec::new();
    for (path, method, _) in operations(&document()) {
        let concrete = path.replace("{device}", "1").replace("{metric}", "icmp_up");
        let concrete = concrete.replace("{id}", "1").replace("{name}", "x");
        let method = method.to_uppercase();
        for token in [None, Some(token.as_str())] {
            let json = [("content-type", "application/json")];
            let answer = api.https(token, &method, &concrete, &json, b"{}").await;
            if answer.status == 503 && answer.body.contains("/problems/not-set-up") {
                continue;
            }
            open.push(format!("{method} {path}"));
        }
    }
    open.dedup();
    assert_eq!(
        open,
        [
            "GET /api/v1/setup",
            "POST /api/v1/setup",
            "GET /api/v1/status",
            "GET /health/live",
            "GET /health/ready",
            "GET /setup",
            "GET /setup.css",
            "GET /setup.js",
        ]
    );
    let status = api.https_get(None, "/api/v1/status").await.expect(200);
    assert_eq!(status["set_up"], false);
    let said = status
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, value)| !value.is_null());
    let said: Vec<(&String, &Value)> = said.collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(status["warnings"], json!([]));
}
