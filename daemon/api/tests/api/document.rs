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

/// The lists without a variable part in their path, with their parameters.
fn lists() -> Vec<(String, Vec<Value>)> {
    let lists = operations(&document()).into_iter();
    lists
        .filter(|(path, method, _)| method == "get" && !path.contains('{'))
        .map(|(path, _, operation)| {
            let parameters = operation["parameters"].as_array();
            (path, parameters.cloned().unwrap_or_default())
        })
        .collect()
}

#[tokio::test]
async fn the_words_and_numbers_that_the_document_offers_are_those_that_are_taken() {
    let api = served().await;
    api.set_up().await;
    let mut asked = 0;
    for (path, parameters) in lists() {
        for parameter in parameters {
            let name = parameter["name"].as_str().unwrap();
            let schema = &parameter["schema"];
            let values = schema.get("items").unwrap_or(schema);
            // there are no series without this
            let needed = match path.as_str() {
                "/api/v1/series" if name != "selector" => "selector=icmp_up&",
                _ => "",
            };
            let ask = async |value: &str| {
                let asked = format!("{path}?{needed}{name}={value}");
                api.get(&asked).await.status
            };
            if let Some(words) = values["enum"].as_array() {
                for word in words {
                    let word = word.as_str().unwrap();
                    assert_eq!(ask(word).await, 200, "{path}?{name}={word}");
                    asked += 1;
                }
                assert_eq!(ask("zz").await, 400, "{path}?{name}");
            }
            if name == "limit" {
                let (least, most) = (&schema["minimum"], &schema["maximum"]);
                let (least, most) = (least.as_u64().unwrap(), most.as_u64().unwrap());
                for (limit, status) in
                    [(least - 1, 400), (least, 200), (most, 200), (most + 1, 400)]
                {
                    assert_eq!(
                        ask(&limit.to_string()).await,
                        status,
                        "{path}?limit={limit}"
                    );
                }
            }
            if ["sort", "state", "role", "kind", "severity", "outcome"].contains(&name)
                && path.ends_with('s')
            {
                assert!(values["enum"].is_array(), "{path}?{name}");
            }
        }
    }
    assert!(asked > 60, "{asked}");
}

#[test]
fn bodies_say_which_words_and_how_long_texts_they_take() {
    let document = document();
    let field = |body: &str, field: &str| {
        document["components"]["schemas"][body]["properties"][field].clone()
    };
    let roles = ["ADMIN", "OPERATOR", "AUDITOR", "READONLY"];
    assert_eq!(
        field("BindingBody", "role")["enum"],
        serde_json::json!(roles)
    );
    assert_eq!(
        field("NewTokenBody", "kind")["enum"],
        serde_json::json!(["bearer", "hmac", null])
    );
    assert!(
        field("NewTokenBody", "permissions")["items"]["enum"]
            .as_array()
            .unwrap()
            .len()
            > 20
    );
    assert_eq!(field("RuleBody", "severity")["enum"][2], "critical");
    for (body, name) in [
        ("NewUserBody", "password"),
        ("SetupBody", "password"),
        ("SignInBody", "password"),
        ("PasswordBody", "new"),
        ("DeviceBody", "name"),
        ("NewDeviceBody", "name"),
        ("NewTokenBody", "name"),
    ] {
        let field = field(body, name);
        assert!(
            field["minLength"].as_u64() >= Some(1),
            "{body} {name}: {field}"
        );
        assert!(field["maxLength"].is_u64(), "{body} {name}: {field}");
    }
    // null would be refused
    assert_eq!(field("TokenBody", "expires")["type"], "string");
    let patch = &document["paths"]["/api/v1/devices/{device}"]["patch"]["requestBody"]["content"];
    let patch = &patch["application/merge-patch+json"]["schema"]["$ref"];
    assert_eq!(patch, "#/components/schemas/DevicePatchBody");
    assert!(field("NewDeviceBody", "snmp_community").is_object());
    // what an answer is made of beside other fields cannot be closed
    let text = document["components"]["schemas"].to_string();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let closed = schema["additionalProperties"] == false;
        let part = format!("\"allOf\":[{{\"$ref\":\"#/components/schemas/{name}\"");
        assert!(!(closed && text.contains(&part)), "{name}");
    }
}
