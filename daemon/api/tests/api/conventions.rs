//! What holds for every operation alike, tested for all of them at once.

use serde_json::{Value, json};

use crate::document::{document, operations};
use crate::harness::Answer;
use crate::matrix::{Furnished, furnished};

/// What a provider sends back with somebody; it may say more than we know, and
/// that has to be ignored (RFC 6749 §4.1.2).
const TAKES_ANYTHING: &str = "GET /api/v1/oidc/callback";

/// Changes of something that has no revision: one's own password and codes,
/// what was measured, plugins that are being written, and what is ended at once.
const WITHOUT_REVISION: [&str; 11] = [
    "DELETE /api/v1/devices/{device}/metrics",
    "DELETE /api/v1/me/session",
    "DELETE /api/v1/me/sessions/{id}",
    "DELETE /api/v1/me/totp",
    "DELETE /api/v1/plugins/dev/{name}",
    "DELETE /api/v1/sessions/{id}",
    "DELETE /api/v1/users/{name}/sessions",
    "DELETE /api/v1/users/{name}/totp",
    "PUT /api/v1/me/password",
    "PUT /api/v1/me/totp",
    "PUT /api/v1/plugins/dev/{name}",
];

struct Operation {
    method: String,
    path: String,
    document: Value,
}

impl Operation {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    fn parameters(&self, place: &str) -> Vec<&Value> {
        let all = self.document["parameters"].as_array();
        all.into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == place)
            .collect()
    }

    fn header(&self, name: &str) -> Option<&Value> {
        let headers = self.parameters("header");
        headers.into_iter().find(|header| header["name"] == name)
    }

    /// The type of the body that it takes.
    fn body(&self) -> Option<String> {
        let content = self.document["requestBody"]["content"].as_object()?;
        content.keys().next().cloned()
    }
}

fn all() -> Vec<Operation> {
    let operations = operations(&document()).into_iter();
    operations
        .map(|(path, method, document)| Operation {
            method: method.to_uppercase(),
            path,
            document,
        })
        .collect()
}

async fn ask(
    there: &Furnished,
    operation: &Operation,
    query: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let path = format!("{}{query}", there.concrete(&operation.path));
    there
        .api
        .ask(&operation.method, &path, headers, body.as_bytes())
        .await
}

#[tokio::test]
async fn every_answer_has_the_headers_that_keep_browsers_away_from_it() {
    let there = furnished().await;
    let mut answers = Vec::new();
    for operation in all() {
        answers.push((
            operation.name(),
            ask(&there, &operation, "?zz=1", &[], "").await,
        ));
    }
    for (method, path) in [
        ("GET", "/nowhere"),
        ("BREW", "/api/v1/devices"),
        ("GET", "/setup"),
    ] {
        answers.push((path.to_owned(), there.api.ask(method, path, &[], b"").await));
    }
    answers.push((
        "TLS".to_owned(),
        there.api.https_get(None, "/api/v1/devices").await,
    ));
    for (name, answer) in answers {
        for (header, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("x-frame-options", "DENY"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(header), Some(value), "{name} {header}");
        }
        let policy = answer.header("content-security-policy").unwrap_or_default();
        assert!(policy.contains("default-src 'none'"), "{name}: {policy}");
        assert!(
            policy.contains("frame-ancestors 'none'"),
            "{name}: {policy}"
        );
        assert!(answer.header("x-request-id").is_some(), "{name}");
        let hsts = answer.header("strict-transport-security");
        assert_eq!(hsts.is_some(), name == "TLS", "{name}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{name}");
    }
}

#[tokio::test]
async fn every_change_of_something_with_a_revision_has_to_name_it() {
    let there = furnished().await;
    let mut without = Vec::new();
    for operation in all() {
        if !["PUT", "PATCH", "DELETE"].contains(&operation.method.as_str()) {
            continue;
        }
        if operation.header("If-Match").is_none() {
            without.push(operation.name());
            continue;
        }
        let kind = operation.body().unwrap_or("application/json".to_owned());
        let kind = [("content-type", kind.as_str())];
        let headers = match operation.method.as_str() {
            "DELETE" => &[][..],
            _ => &kind[..],
        };
        let body = match operation.path.as_str() {
            _ if headers.is_empty() => "",
            "/api/v1/secrets/{name}" => "{\"value\": \"x\"}",
            _ => "{}",
        };
        let answer = ask(&there, &operation, "", headers, body).await;
        let name = operation.name();
        assert_eq!(answer.status, 428, "{name}: {}", answer.body);
        assert_eq!(
            answer.json()["type"],
            "/problems/precondition-required",
            "{name}"
        );
        for wrong in ["\"999\"", "W/\"1\"", "\"1", "nonsense", "\"998\", \"999\""] {
            let mut headers = headers.to_vec();
            headers.push(("if-match", wrong));
            let answer = ask(&there, &operation, "", &headers, body).await;
            assert_eq!(answer.status, 412, "{name} {wrong}: {}", answer.body);
        }
        assert!(operation.document["responses"]["412"].is_object(), "{name}");
        assert!(operation.document["responses"]["428"].is_object(), "{name}");
    }
    without.sort();

    assert_eq!(without, WITHOUT_REVISION);
}

#[tokio::test]
async fn every_operation_refuses_parameters_that_it_does_not_know_and_those_given_twice() {
    let there = furnished().await;
    for operation in all() {
        let name = operation.name();
        let kind = operation.body();
        let headers: Vec<(&str, &str)> = kind
            .iter()
            .map(|kind| ("content-type", kind.as_str()))
            .chain([("if-match", "*")])
            .collect();
        let body = if kind.is_some() { "{}" } else { "" };
        if name != TAKES_ANYTHING {
            let answer = ask(&there, &operation, "?zz=1", &headers, body).await;
            assert_eq!(answer.status, 400, "{name}: {}", answer.body);
            let named = answer.mistakes(400);
            assert!(
                named.iter().any(|(place, _)| place == "zz"),
                "{name}: {named:?}"
            );
        }
        for parameter in operation.parameters("query") {
            let label = parameter["name"].as_str().unwrap();
            if parameter["schema"]["type"] == "array" || is_list(parameter) || label.contains('*') {
                continue;
            }
            let query = format!("?{label}=1&{label}=1");
            let answer = ask(&there, &operation, &query, &headers, body).await;
            assert_eq!(answer.status, 400, "{name} {label}: {}", answer.body);
        }
    }
}

/// Whether a parameter may be given several times.
fn is_list(parameter: &Value) -> bool {
    let types = parameter["schema"]["type"].as_array();
    types.is_some_and(|types| types.contains(&json!("array")))
}

#[tokio::test]
async fn every_body_refuses_fields_that_it_does_not_know() {
    let there = furnished().await;
    let mut tried = 0;
    for operation in all() {
        let Some(kind) = operation.body().filter(|kind| kind.ends_with("json")) else {
            continue;
        };
        tried += 1;
        let headers = [("content-type", kind.as_str()), ("if-match", "*")];
        let answer = ask(&there, &operation, "", &headers, "{\"zz\": 1}").await;
        let name = operation.name();
        let places: Vec<String> = answer.mistakes(422).into_iter().map(|m| m.0).collect();
        assert!(
            places.contains(&"/zz".to_owned()),
            "{name}: {}",
            answer.body
        );
    }
    assert!(tried > 15, "{tried}");
}

#[tokio::test]
async fn no_body_is_read_that_is_too_deep_or_says_something_twice() {
    let there = furnished().await;
    let deep = format!("{{\"zz\": {}1{}}}", "[".repeat(64), "]".repeat(64));
    let deepest_taken = format!("{{\"zz\": {}1{}}}", "[".repeat(63), "]".repeat(63));
    for operation in all() {
        let Some(kind) = operation.body().filter(|kind| kind.ends_with("json")) else {
            continue;
        };
        let headers = [("content-type", kind.as_str()), ("if-match", "*")];
        let name = operation.name();
        for (body, status) in [
            (deep.as_str(), 400),
            (deepest_taken.as_str(), 422),
            ("{\"a\": 1, \"a\": 2}", 400),
            ("{} {}", 400),
            ("{\"a\": ", 400),
        ] {
            let answer = ask(&there, &operation, "", &headers, body).await;
            assert_eq!(answer.status, status, "{name}: {}", answer.body);
        }
        let text = [("content-type", "text/plain"), ("if-match", "*")];
        let answer = ask(&there, &operation, "", &text, "{}").await;
        assert_eq!(answer.status, 415, "{name}: {}", answer.body);
    }
}

#[tokio::test]
async fn every_path_refuses_other_methods_and_says_which_it_takes() {
    let there = furnished().await;
    let all = all();
    for operation in &all {
        let taken = |method: &str| {
            let method = if method == "HEAD" { "GET" } else { method };
            all.iter()
                .any(|other| other.path == operation.path && other.method == method)
        };
        for method in [
            "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE",
        ] {
            if taken(method) {
                continue;
            }
            let path = there.concrete(&operation.path);
            let answer = there.api.ask(method, &path, &[], b"").await;
            assert_eq!(answer.status, 405, "{method} {path}: {}", answer.body);
            let allow = answer.header("allow").unwrap_or_default();
            assert!(allow.split(',').all(taken), "{method} {path}: {allow}");
            if method != "HEAD" {
                assert_eq!(answer.json()["type"], "/problems/method-not-allowed");
            }
        }
    }
}

#[tokio::test]
async fn the_id_of_a_request_is_ours_whatever_the_client_calls_it() {
    let there = furnished().await;
    let theirs = [("x-request-id", "theirs")];
    let first = there.api.ask("GET", "/health/live", &theirs, b"").await;
    let second = there.api.ask("GET", "/health/live", &theirs, b"").await;
    let ids = [&first, &second].map(|answer| answer.header("x-request-id").unwrap());
    assert!(ids[0] != ids[1] && !ids.contains(&"theirs"), "{ids:?}");
}

#[test]
fn the_document_says_of_every_operation_who_may_and_how_they_prove_it() {
    let document = document();
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!(schemes["bearer"]["scheme"], "bearer");
    assert_eq!(schemes["mutualTLS"]["type"], "mutualTLS");
    assert_eq!(schemes["hmac"]["in"], "header");
    for operation in all() {
        let name = operation.name();
        let permission = operation.document["x-permission"].as_str().unwrap();
        let known = model::Permission::from_word(permission).is_some();
        assert!(
            known || ["open", "self", "local"].contains(&permission),
            "{name}"
        );
        let security = operation.document["security"].as_array();
        let ways = security.map(Vec::len);
        let expected = if ["open", "local"].contains(&permission) {
            0
        } else {
            3
        };
        assert_eq!(ways, Some(expected), "{name}");
    }
}
