//! The OpenAPI 3.1 document: generated from the handlers, finished here, and
//! kept as `openapi.json` so that a change of the API shows in a review.

use std::sync::OnceLock;

use axum::http::{Uri, header};
use axum::response::IntoResponse;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, Info, License, OpenApi, Ref, RefOr, Response, Schema, Tag};
use utoipa::{PartialSchema, ToSchema};

use crate::problem::{Document, InTheWay, Mistake, Problem};
use crate::{query, router, taken};

/// The document as JSON, indented.
///
/// # Panics
///
/// Never: the document is plain data.
#[must_use]
pub fn openapi() -> String {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    let written = DOCUMENT.get_or_init(|| {
        let mut text = document()
            .to_pretty_json()
            .expect("a document of strings and numbers becomes JSON");
        text.push('\n');
        text
    });
    written.clone()
}

/// The OpenAPI document of this API.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "daemon",
    responses((status = 200, description = "The document", content_type = "application/json"))
)]
pub(crate) async fn get_openapi(uri: Uri) -> Result<impl IntoResponse, Problem> {
    query::none(&uri)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], openapi()))
}

pub(crate) fn document() -> OpenApi {
    let (_router, mut document) = router::parts();
    document.info = info();
    document.tags = Some(tags());
    add_problem_schemas(&mut document);
    add_security_schemes(&mut document);
    require_what_is_always_there(&mut document);
    taken::say(&mut document);
    for item in document.paths.paths.values_mut() {
        router::operations(item).for_each(describe_problems);
    }
    document
}

fn info() -> Info {
    let mut info = Info::new("SOTP", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "Devices, what is measured of them, what is wrong with them and whom we told. \
         Times are RFC 3339 in UTC, spans are text such as \"30s\", what was not measured is null. \
         A failed request is answered with a problem document (RFC 9457). \
         Every operation says as x-permission who may use it: open (everybody), self (everybody who is \
         signed in), local (root on the machine itself), or the permission that it needs; what somebody \
         may not see is not there for them."
            .to_owned(),
    );
    info.license = Some(License::new("Apache-2.0"));
    info
}

fn tags() -> Vec<Tag> {
    [
        ("devices", "The inventory and what is known of each device"),
        ("metrics", "What is measured"),
        ("alerts", "What is wrong, and what counts as wrong"),
        ("notifications", "Whom we told, and how that went"),
        ("setup", "The first administrator"),
        ("access", "Signing in, sessions and tokens of services"),
        (
            "people",
            "Users, roles, tenants, and what is demanded of who signs in",
        ),
        (
            "secrets",
            "What lets us into other things: set here, never shown again",
        ),
        ("plugins", "What runs in a sandbox: read, judge, tell, plan"),
        ("audit", "Who did what"),
        ("daemon", "The daemon itself"),
    ]
    .into_iter()
    .map(|(name, description)| {
        let mut tag = Tag::new(name);
        tag.description = Some(description.to_owned());
        tag
    })
    .collect()
}

/// How somebody proves who they are; on the local socket the kernel does.
fn add_security_schemes(document: &mut OpenApi) {
    let mut bearer = Http::new(HttpAuthScheme::Bearer);
    bearer.description =
        Some("The access token of a session, or the token of a service.".to_owned());
    let signed = "SOTP-HMAC-SHA256 key=ID, ts=SECONDS, nonce=TEXT, signature=BASE64: the HMAC over \
                  method, path with query, ts, nonce and the SHA-256 of the body in hex, one a line.";
    let hmac = ApiKeyValue::with_description("Authorization", signed);
    let certificate = "A client certificate that belongs to a user.";
    let components = document.components.get_or_insert_default();
    for (name, scheme) in [
        ("bearer", SecurityScheme::Http(bearer)),
        ("hmac", SecurityScheme::ApiKey(ApiKey::Header(hmac))),
        (
            "mutualTLS",
            SecurityScheme::MutualTls {
                description: Some(certificate.to_owned()),
                deprecated: None,
                extensions: None,
            },
        ),
    ] {
        components.add_security_scheme(name, scheme);
    }
}

fn add_problem_schemas(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let schemas = &mut components.schemas;
    schemas.insert(Document::name().into(), Document::schema());
    schemas.insert(Mistake::name().into(), Mistake::schema());
    schemas.insert(InTheWay::name().into(), InTheWay::schema());
}

/// Answers have all of their fields, null where there is nothing to say; only
/// problems leave some out. Bodies say themselves what they need.
fn require_what_is_always_there(document: &mut OpenApi) {
    let schemas = &mut document.components.get_or_insert_default().schemas;
    let optional = [&*Document::name(), &*Mistake::name()];
    for (name, schema) in schemas {
        if !name.ends_with("Body") && !optional.contains(&name.as_str()) {
            require_all(schema);
        }
    }
}

fn require_all(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            object.required = object.properties.keys().cloned().collect();
        }
        RefOr::T(Schema::AllOf(parts)) => parts.items.iter_mut().for_each(require_all),
        RefOr::T(_) | RefOr::Ref(_) => {}
    }
}

/// Every operation can end in a problem, and every failure has the same shape.
fn describe_problems(operation: &mut Operation) {
    let problem = || {
        let schema = Ref::from_schema_name(Document::name());
        RefOr::T(Content::new(Some(schema)))
    };
    let responses = &mut operation.responses.responses;
    for (status, response) in &mut *responses {
        let RefOr::T(response) = response else {
            continue;
        };
        let failed = status.starts_with('4') || status.starts_with('5');
        if failed && response.content.is_empty() {
            response
                .content
                .insert("application/problem+json".to_owned(), problem());
        }
    }
    let mut any = Response::new("Any other problem");
    any.content
        .insert("application/problem+json".to_owned(), problem());
    responses.insert("default".to_owned(), RefOr::T(any));
}
