//! What counts as a fault: rules of files, to be read, and of the API, to be
//! changed.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use model::{Permission, Rule, RuleName, RuleSource};
use serde::Serialize;
use serde_json::Value;
use store::WriteError;
use utoipa::ToSchema;

use crate::Api;
use crate::caller::Caller;
use crate::mistakes::Mistakes;
use crate::problem::{Kind, Problem, not_written};
use crate::query;
use crate::request::{Json, JsonAnswer, Path, etag, require_match, require_match_or_new};
use crate::rule_body::{self, RuleBody};

/// A rule.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuleView {
    #[serde(flatten)]
    body: RuleBody,
    /// Whose it is; null: the appliance's, for the devices of every tenant.
    tenant: Option<String>,
    /// file or api; one from a file is changed in the file.
    source: &'static str,
    /// The file that it stands in.
    file: Option<String>,
    /// When it was last changed.
    updated: String,
    /// Counts changes, from 1; the `ETag`.
    revision: u64,
}

/// All rules, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuleList {
    /// The rules.
    items: Vec<RuleView>,
}

impl From<&Rule> for RuleView {
    fn from(rule: &Rule) -> RuleView {
        let (source, file) = match &rule.source {
            RuleSource::File(path) => ("file", Some(path.clone())),
            RuleSource::Api => ("api", None),
            RuleSource::Plugin => ("plugin", None),
        };
        RuleView {
            body: RuleBody::of(rule),
            tenant: rule.tenant().map(|tenant| tenant.0),
            source,
            file,
            updated: rule.updated.to_string(),
            revision: rule.revision,
        }
    }
}

fn shown(status: StatusCode, rule: &Rule) -> Response {
    let tag = [(header::ETAG, etag(rule.revision))];
    (status, tag, JsonAnswer(RuleView::from(rule))).into_response()
}

/// Whether the caller sees a rule: one that is for everybody's devices, or one
/// of a tenant that they reach.
fn sees(caller: &Caller, rule: &Rule) -> bool {
    let tenant = rule.tenant();
    tenant.is_none_or(|tenant| caller.reaches_tenant(Permission::RulesRead, &tenant))
}

fn may_change(caller: &Caller, name: &str) -> Result<(), Problem> {
    let (write, read) = (Permission::RulesWrite, Permission::RulesRead);
    caller.may_change(write, read, "rule", name)
}

/// The rule called `name`, also one from a file.
fn find(api: &Api, name: &str) -> Option<Rule> {
    let rules = api.store().rules();
    rules.iter().find(|rule| rule.name.0 == name).cloned()
}

fn failed(api: &Api, error: &WriteError) -> Problem {
    not_written(error, &api.store().inventory())
}

/// Lists all rules.
#[utoipa::path(
    get,
    path = "/rules",
    tag = "alerts",
    responses((status = 200, description = "The rules", body = RuleList))
)]
pub(crate) async fn list_rules(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<RuleList>, Problem> {
    query::none(&uri)?;
    let rules = api.store().rules();
    let seen = rules.iter().filter(|rule| sees(&caller, rule));
    Ok(JsonAnswer(RuleList {
        items: seen.map(RuleView::from).collect(),
    }))
}

/// Shows a rule.
#[utoipa::path(
    get,
    path = "/rules/{name}",
    tag = "alerts",
    params(("name" = String, Path, description = "The rule's name")),
    responses(
        (status = 200, description = "The rule", body = RuleView, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such rule"),
    )
)]
pub(crate) async fn get_rule(
    State(api): State<Api>,
    Path(name): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    let rule = find(&api, &name).ok_or_else(|| Problem::not_found("rule", &name))?;
    if !sees(&caller, &rule) {
        return Err(Problem::hidden("rule", &name));
    }
    Ok(shown(StatusCode::OK, &rule))
}

/// Makes a rule.
#[utoipa::path(
    post,
    path = "/rules",
    tag = "alerts",
    request_body = RuleBody,
    responses(
        (status = 201, description = "The new rule", body = RuleView, headers(("ETag" = String, description = "Its revision"), ("Location" = String, description = "Its path"))),
        (status = 409, description = "There is a rule of that name"),
        (status = 422, description = "The body has mistakes: all are named"),
    )
)]
pub(crate) async fn create_rule(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    Json(body): Json,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    let rule = read_rule(&api, &body, None)?;
    may_change(&caller, &rule.name.0)?;
    // two who make the same one at once: the second is told
    let _alone = api.rule_changes().await;
    if let Some(known) = find(&api, &rule.name.0) {
        let place = match known.source {
            RuleSource::File(path) => format!(" in the file {path}"),
            RuleSource::Api => "; PUT changes it".to_owned(),
            RuleSource::Plugin => " of a plugin".to_owned(),
        };
        let detail = format!("there is a rule {:?} already{place}", rule.name.0);
        return Err(Problem::new(Kind::Conflict, detail).at("/name"));
    }
    let rule = api
        .store()
        .put_rule(&caller.by(), rule, None, api.now())
        .await
        .map_err(|error| failed(&api, &error))?;
    caller.did("rule created", &rule.name.0);
    let path = format!("/api/v1/rules/{}", in_path(&rule.name.0));
    Ok((
        [(header::LOCATION, path)],
        shown(StatusCode::CREATED, &rule),
    )
        .into_response())
}

/// Makes or replaces a rule.
#[utoipa::path(
    put,
    path = "/rules/{name}",
    tag = "alerts",
    params(
        ("name" = String, Path, description = "The rule's name"),
        ("If-Match" = Option<String>, Header, description = "The revision that is replaced; needed if there is such a rule"),
        ("If-None-Match" = Option<String>, Header, description = "*: only if there is no such rule"),
    ),
    request_body = RuleBody,
    responses(
        (status = 200, description = "The rule as it is now", body = RuleView, headers(("ETag" = String, description = "Its revision"))),
        (status = 201, description = "The new rule", body = RuleView, headers(("ETag" = String, description = "Its revision"))),
        (status = 409, description = "The rule stands in a file: change it there"),
        (status = 412, description = "The rule was changed meanwhile"),
        (status = 428, description = "If-Match is missing"),
        (status = 422, description = "The body has mistakes: all are named"),
    )
)]
pub(crate) async fn put_rule(
    State(api): State<Api>,
    Path(name): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
    Json(body): Json,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    may_change(&caller, &name)?;
    let _alone = api.rule_changes().await;
    let current = find(&api, &name).map(|known| known.revision);
    let expected = require_match_or_new(&headers, current)?;
    let rule = read_rule(&api, &body, Some(&name))?;
    let rule = api
        .store()
        .put_rule(&caller.by(), rule, expected, api.now())
        .await
        .map_err(|error| failed(&api, &error))?;
    caller.did("rule changed", &rule.name.0);
    let status = match rule.revision {
        1 => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    Ok(shown(status, &rule))
}

/// The rule in `body`; its name is the one in the path, if there is one.
fn read_rule(api: &Api, body: &Value, name: Option<&str>) -> Result<Rule, Problem> {
    let mistakes = Mistakes::default();
    let draft = rule_body::read(body, &mistakes);
    let said = body.get("name").and_then(Value::as_str);
    match (name, said) {
        (None, None) => mistakes.at("/name", "name is missing"),
        (Some(name), None) => {
            if let Err(why) = model::checked_name(name) {
                mistakes.at("/name", why.to_string());
            }
        }
        (Some(name), Some(said)) if name != said => mistakes.at(
            "/name",
            format!("the path says {name:?}; a rule is renamed by deleting it and making another"),
        ),
        _ => {}
    }
    let draft = mistakes.or(Kind::Invalid, draft)?;
    Ok(Rule {
        name: RuleName(draft.name.or(name.map(str::to_owned)).unwrap_or_default()),
        severity: draft.severity,
        enabled: draft.enabled,
        selector: draft.selector,
        condition: draft.condition,
        note: draft.note,
        source: RuleSource::Api,
        updated: api.now(),
        revision: 1,
    })
}

/// `name` as a segment of a path (RFC 3986).
pub(crate) fn in_path(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

/// Deletes a rule.
///
/// Alerts that it raised end.
#[utoipa::path(
    delete,
    path = "/rules/{name}",
    tag = "alerts",
    params(
        ("name" = String, Path, description = "The rule's name"),
        ("If-Match" = String, Header, description = "The revision that is deleted; * for any"),
    ),
    responses(
        (status = 204, description = "It is deleted"),
        (status = 404, description = "There is no such rule"),
        (status = 409, description = "The rule stands in a file: delete it there"),
        (status = 412, description = "The rule was changed meanwhile"),
        (status = 428, description = "If-Match is missing"),
    )
)]
pub(crate) async fn delete_rule(
    State(api): State<Api>,
    Path(name): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    query::none(&uri)?;
    may_change(&caller, &name)?;
    let _alone = api.rule_changes().await;
    let rule = find(&api, &name).ok_or_else(|| Problem::not_found("rule", &name))?;
    let expected = require_match(&headers, rule.revision)?;
    api.store()
        .delete_rule(&caller.by(), &rule.name, expected, api.now())
        .await
        .map_err(|error| failed(&api, &error))?;
    caller.did("rule deleted", &name);
    Ok(StatusCode::NO_CONTENT)
}
