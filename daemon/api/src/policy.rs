//! What is demanded of everybody who signs in.

use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use model::{Permission, Policy, Role};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::Api;
use crate::binding_body;
use crate::caller::Caller;
use crate::mistakes::{Mistakes, Object};
use crate::patch::{self, is_changed_meanwhile, merged};
use crate::problem::{Kind, Problem, not_written};
use crate::query;
use crate::request::{Json, JsonAnswer, etag, require_match};

/// What is demanded of everybody who signs in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PolicyView {
    /// Who has one of these roles needs codes that change (TOTP).
    #[schema(example = json!(["ADMIN"]))]
    require_totp: Vec<&'static str>,
    /// Counts changes; 0 as long as nobody said anything; the `ETag`.
    revision: u64,
}

/// What can be demanded of everybody who signs in.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyBody {
    /// Who has one of these roles needs codes that change (TOTP); until they
    /// have them they can do nothing but set them up.
    #[schema(example = json!(["ADMIN"]))]
    require_totp: Option<Vec<&'static str>>,
}

fn roles(policy: &Policy) -> Vec<&'static str> {
    policy
        .require_totp
        .iter()
        .map(|role| Role::word(*role))
        .collect()
}

fn shown(policy: &Policy) -> Response {
    let tag = [(header::ETAG, etag(policy.revision))];
    let view = PolicyView {
        require_totp: roles(policy),
        revision: policy.revision,
    };
    (tag, JsonAnswer(view)).into_response()
}

/// Shows what is demanded of everybody who signs in.
#[utoipa::path(
    get,
    path = "/policy",
    tag = "people",
    responses((status = 200, description = "The policy", body = PolicyView, headers(("ETag" = String, description = "Its revision"))))
)]
pub(crate) async fn get_policy(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    caller.need_everywhere(Permission::PolicyRead)?;
    query::none(&uri)?;
    Ok(shown(api.store().people().policy()))
}

/// Changes what is demanded of everybody who signs in.
///
/// It holds at once, also in sessions that are open.
#[utoipa::path(
    patch,
    path = "/policy",
    tag = "people",
    params(("If-Match" = String, Header, description = "The revision that is to be changed, or `*`")),
    request_body(content((PolicyBody = "application/merge-patch+json"), (PolicyBody = "application/json"))),
    responses(
        (status = 200, description = "The policy as it is now", body = PolicyView, headers(("ETag" = String, description = "Its revision"))),
        (status = 412, description = "The policy was changed meanwhile"),
        (status = 422, description = "The body has mistakes: all are named"),
        (status = 428, description = "If-Match is missing"),
    )
)]
pub(crate) async fn patch_policy(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
    Json(patch): Json,
) -> Result<Response, Problem> {
    caller.need_everywhere(Permission::PolicyWrite)?;
    query::none(&uri)?;
    let by = caller.by();
    for _ in 0..patch::TRIES {
        let people = api.store().people();
        let policy = people.policy();
        require_match(&headers, policy.revision)?;
        let changed = patched(policy, &patch)?;
        let write = api
            .store()
            .put_policy(&by, changed, policy.revision, api.now());
        match write.await {
            Ok(policy) => {
                caller.did("policy changed", &roles(&policy).join(" "));
                return Ok(shown(&policy));
            }
            Err(error) if is_changed_meanwhile(&error) => {}
            Err(error) => return Err(not_written(&error, &api.store().inventory())),
        }
    }
    Err(patch::contended("policy"))
}

fn patched(policy: &Policy, patch: &Value) -> Result<Policy, Problem> {
    let body = PolicyBody {
        require_totp: Some(roles(policy)),
    };
    let body = merged(&body, patch)?;
    let mistakes = Mistakes::default();
    let changed = Object::read(&body, "", &["require_totp"], &mistakes).map(|body| Policy {
        require_totp: binding_body::roles(&body, "require_totp"),
        revision: policy.revision,
    });
    mistakes.or(Kind::Invalid, changed)
}
