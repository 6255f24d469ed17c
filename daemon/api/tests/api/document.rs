use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::harness::served;

/// Set this to write the document anew after a change that is meant.
pub(crate) const BLESS: &str = "BLESS";

pub(crate) fn document() -> Value {
    serde_json::from_str(&api::openapi()).unwrap()
}

/// Path, method and operation of each.
pub(crate) fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let mut operations = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            operations.push((path.clone(), method.clone(), operation.clone()));
        }
    }
    operations
}

#[test]
fn the_kept_document_is_the_one_the_handlers_make() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(&path, api::openapi()).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == api::openapi(),
        "openapi.json differs from what the handlers make; if that is meant, run this test with {BLESS}=1 and look at the difference"
    );
}

#[test]
fn every_operation_says_what_it_does_and_how_it_fails() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let name = format!("{method} {path}");
        assert!(
            operation["summary"]
                .as_str()
                .is_some_and(|s| s.ends_with('.')),
            "{name}"
        );
        assert!(
            ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
            "{name}"
        );
        assert_eq!(
            operation["tags"].as_array().map(Vec::len),
            Some(1),
            "{name}"
        );
        let responses = operation["responses"].as_object().unwrap();
        let succeeds = |status: &String| status.starts_with(['2', '3']);
        assert!(responses.keys().any(succeeds), "{name}");
        for (status, response) in responses {
            let kinds = response["content"].as_object();
            if status == "default" || (status.starts_with('4') && path != "/health/ready") {
                assert!(
                    kinds.unwrap().contains_key("application/problem+json"),
                    "{name} {status}"
                );
            }
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["description"].is_string(), "{name} {parameter}");
        }
        for part in path.split('/').filter(|part| part.starts_with('{')) {
            let part = part.trim_matches(['{', '}']);
            let parameters = operation["parameters"].as_array().unwrap();
            assert!(
                parameters
                    .iter()
                    .any(|p| p["name"] == part && p["in"] == "path"),
                "{name}"
            );
        }
    }
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    fn references<'d>(value: &'d Value, found: &mut BTreeSet<&'d str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn every_operation_in_the_document_is_served_and_takes_its_parameters() {
    let api = served().await;
    for (path, method, operation) in operations(&document()) {
        let concrete = path
            .replace("{device}", "1")
            .replace("{id}", "1")
            .replace("{name}", "x");
        let mut query = String::new();
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            if parameter["in"] == "query" {
                let name = parameter["name"].as_str().unwrap().replace('*', "x");
                query.push_str(&format!("&{name}=?"));
            }
        }
        let asked = format!("{concrete}?{}", query.trim_start_matches('&'));
        let method = method.to_uppercase();
        let answer = api
            .ask(&method, asked.trim_end_matches('?'), &[], b"")
            .await;
        assert_ne!(answer.status, 405, "{method} {path}");
        assert!(
            !answer.body.contains("there is nothing at"),
            "{method} {path}"
        );
        assert!(
            !answer.body.contains("unknown parameter"),
            "{method} {path}: {}",
            answer.body
        );
    }
}

#[tokio::test]
async fn the_document_is_served() {
    let api = served().await;
    let served = api.get("/api/v1/openapi.json").await;
    assert_eq!(served.body, api::openapi());
}
