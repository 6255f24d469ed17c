//! Secrets: set here, referred to as `secret://name`, never shown again.
//!
//! A secret is its tenant's; those of the default tenant are the appliance's.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::{Permission, SecretName, SecretRecord, TenantName, Timestamp};
use secrets::SecretBytes;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::Api;
use crate::caller::Caller;
use crate::mistakes::{Mistakes, Object};
use crate::problem::{Kind, Problem};
use crate::query::{self, Query};
use crate::request::{Json, JsonAnswer, Path, etag, require_match, require_match_or_new};
use crate::sorted::{Sorted, time_key};
use crate::words::{line, qualified};

/// Bytes of a value: a key or a certificate, not a file.
pub(crate) const VALUE_BYTES: usize = 32 * 1024;

/// What a list of secrets is sorted by.
pub(crate) const SORTS: [&str; 4] = ["name", "created", "updated", "age"];

/// A secret without its value.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SecretView {
    /// Its name; `tenant/name` in any tenant but the default one.
    #[schema(example = "smtp")]
    name: String,
    /// What stands in settings and other things in its place.
    #[schema(example = "secret://smtp")]
    reference: String,
    /// What it is for.
    note: Option<String>,
    /// The version in use.
    version: u32,
    /// The versions that are kept, oldest first.
    versions: Vec<VersionView>,
    /// When it was first set.
    created: String,
    /// When it was last set.
    updated: String,
    /// Seconds since the value in use was set.
    age_seconds: u64,
    /// What uses it, such as `credential:campus`.
    #[schema(example = json!(["credential:campus"]))]
    used_by: Vec<String>,
    /// Counts changes, from 1; the `ETag`.
    revision: u64,
}

/// One version of a secret, without its value.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VersionView {
    /// Counts from 1.
    version: u32,
    /// When it was set.
    created: String,
    /// Who set it.
    created_by: String,
}

/// One page of secrets.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SecretList {
    /// The secrets, in order, without their values.
    items: Vec<SecretView>,
    /// `cursor` of the next page; null on the last one.
    next: Option<String>,
    /// How many you see, on all pages.
    total: usize,
}

/// The value of a secret: either `value` or `value_base64`.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes in the document what `read` reads")]
pub(crate) struct SecretBody {
    /// The value as text; 1 to 32768 bytes. It is never shown again.
    #[schema(write_only)]
    value: Option<String>,
    /// The value as bytes, in base64 (RFC 4648 §4).
    #[schema(write_only)]
    value_base64: Option<String>,
    /// What it is for; by default what it was for before.
    #[schema(example = "Password of the mail account alerts@example.net")]
    note: Option<String>,
}

impl SecretView {
    fn of(api: &Api, secret: &SecretRecord) -> SecretView {
        let newest = secret.versions.last();
        SecretView {
            name: secret.name.to_string(),
            reference: format!("{}{}", SecretName::SCHEME, secret.name),
            note: secret.note.clone(),
            version: newest.map_or(0, |version| version.version),
            versions: secret
                .versions
                .iter()
                .map(|version| VersionView {
                    version: version.version,
                    created: version.created.to_string(),
                    created_by: version.created_by.clone(),
                })
                .collect(),
            created: secret.created.to_string(),
            updated: secret.updated.to_string(),
            age_seconds: api.now().since(set(secret)).as_secs(),
            used_by: api.store().secret_users(&secret.name),
            revision: secret.revision,
        }
    }
}

/// When the value in use was set.
fn set(secret: &SecretRecord) -> Timestamp {
    let newest = secret.versions.last();
    newest.map_or(secret.updated, |version| version.created)
}

fn shown(api: &Api, status: StatusCode, secret: &SecretRecord) -> Response {
    let tag = [(header::ETAG, etag(secret.revision))];
    (status, tag, JsonAnswer(SecretView::of(api, secret))).into_response()
}

/// Whose secret it is, if people may see and set it.
fn tenant_of(name: &SecretName) -> Option<TenantName> {
    (!is_internal(name)).then(|| TenantName::of(&name.0))
}

/// Whether it is the daemon's own, in whichever tenant.
fn is_internal(name: &SecretName) -> bool {
    name.is_internal() || name.0.contains("/.")
}

/// The secret called `asked`, if it is of a tenant whose secrets the caller
/// may see.
fn find(api: &Api, caller: &Caller, asked: &str) -> Result<Arc<SecretRecord>, Problem> {
    let name = SecretName(asked.to_owned());
    let missing = || Problem::not_found("secret", asked);
    let tenant = tenant_of(&name).ok_or_else(missing)?;
    let secret = api.store().secret(&name).ok_or_else(missing)?;
    match holds(caller, Permission::SecretsRead, &tenant) {
        true => Ok(secret),
        false => Err(Problem::hidden("secret", asked)),
    }
}

/// Whether the caller has `permission` for the secrets of `tenant`. Those of
/// the default one are the appliance's (mail, OpenID), so that a role in it
/// alone does not do.
pub(crate) fn holds(caller: &Caller, permission: Permission, tenant: &TenantName) -> bool {
    match tenant.is_default() {
        true => caller.holds_everywhere(permission),
        false => caller.on_tenant(permission, tenant),
    }
}

fn may_change(caller: &Caller, name: &str) -> Result<(), Problem> {
    let (write, read) = (Permission::SecretsWrite, Permission::SecretsRead);
    if !TenantName::of(name).is_default() {
        return caller.may_change(write, read, "secret", name);
    }
    match (
        caller.holds_everywhere(write),
        caller.holds_everywhere(read),
    ) {
        (true, _) => Ok(()),
        (false, true) => caller.need_everywhere(write),
        (false, false) => Err(Problem::hidden("secret", name)),
    }
}

/// Removes what OpenBao or Vault has of a secret that went together with
/// something else. Whoever asks does not wait for it, nor can they break it off
/// by hanging up.
pub(crate) fn forget(api: &Api, name: SecretName) {
    let secrets = api.secrets().clone();
    tokio::spawn(async move { secrets.forget(&name).await });
}

/// Lists secrets, without their values.
#[utoipa::path(
    get,
    path = "/secrets",
    tag = "secrets",
    params(
        ("tenant" = Option<String>, Query, description = "Of this tenant"),
        ("sort" = Option<String>, Query, description = "name (the default), created, updated or age; with - before it from last to first"),
        ("limit" = Option<usize>, Query, description = "Items in a page, 1 to 1000; by default 100"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of secrets", body = SecretList),
        (status = 400, description = "A parameter is wrong"),
    )
)]
pub(crate) async fn list_secrets(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<SecretList>, Problem> {
    let query = Query::read(&uri, &["tenant", "sort", "limit", "cursor"])?;
    let tenant = query.one("tenant").map(|name| TenantName(name.to_owned()));
    let sorted = Sorted::read(&query, &SORTS)?;
    query.or(())?;
    let secrets = api.store().secrets();
    let wanted = |secret: &&Arc<SecretRecord>| {
        let its = tenant_of(&secret.name);
        its.is_some_and(|its| {
            holds(&caller, Permission::SecretsRead, &its)
                && tenant.as_ref().is_none_or(|tenant| *tenant == its)
        })
    };
    let page = sorted.cut(secrets.iter().filter(wanted).map(|secret| {
        let key = match sorted.field() {
            "created" => time_key(Some(secret.created)),
            "updated" => time_key(Some(secret.updated)),
            // the youngest was set last
            "age" => time_key(Some(Timestamp(u64::MAX - set(secret).0))),
            _name => String::new(),
        };
        (key, secret.name.0.clone(), secret)
    }));
    let items = page
        .items
        .into_iter()
        .map(|secret| SecretView::of(&api, secret));
    Ok(JsonAnswer(SecretList {
        items: items.collect(),
        next: page.next,
        total: page.total,
    }))
}

/// Shows a secret, without its value.
#[utoipa::path(
    get,
    path = "/secrets/{name}",
    tag = "secrets",
    params(("name" = String, Path, description = "The secret's name; a / in it is written %2F")),
    responses(
        (status = 200, description = "The secret", body = SecretView, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such secret"),
    )
)]
pub(crate) async fn get_secret(
    State(api): State<Api>,
    Path(name): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    let secret = find(&api, &caller, &name)?;
    Ok(shown(&api, StatusCode::OK, &secret))
}

/// Sets a secret: a new one, or the next version of one.
///
/// Whatever refers to it uses the new value at once. The ten newest versions
/// are kept.
#[utoipa::path(
    put,
    path = "/secrets/{name}",
    tag = "secrets",
    params(
        ("name" = String, Path, description = "The secret's name; a / in it is written %2F"),
        ("If-Match" = Option<String>, Header, description = "The revision that is to be changed, or `*`; needed if there is one"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only if there is none"),
    ),
    request_body = SecretBody,
    responses(
        (status = 200, description = "The secret as it is now, without its value", body = SecretView, headers(("ETag" = String, description = "Its revision"))),
        (status = 201, description = "The new secret, without its value", body = SecretView, headers(("ETag" = String, description = "Its revision"))),
        (status = 403, description = "It is of a tenant whose secrets you may not set"),
        (status = 412, description = "It was changed meanwhile, or is there already"),
        (status = 422, description = "The name or the body has mistakes: all are named"),
        (status = 428, description = "There is one, and If-Match is missing"),
        (status = 503, description = "The wrapping key or the other backend cannot be used now"),
    )
)]
pub(crate) async fn put_secret(
    State(api): State<Api>,
    Path(name): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
    Json(body): Json,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    may_change(&caller, &name)?;
    let draft = read(&api, &name, &body)?;
    let name = SecretName(name);
    let known = api.store().secret(&name);
    let revision = known.as_ref().map(|known| known.revision);
    let expected = match require_match_or_new(&headers, revision)? {
        None if revision.is_none() => Some(0),
        expected => expected,
    };
    let note = draft.note.or(known.and_then(|known| known.note.clone()));
    let secret = api
        .secrets()
        .put(&caller.by(), name, draft.value, note, expected, api.now())
        .await?;
    caller.did("secret set", &secret.name.0);
    let status = match secret.revision {
        1 => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    Ok(shown(&api, status, &secret))
}

/// What a body says.
struct Draft {
    value: SecretBytes,
    note: Option<String>,
}

/// Reads a name and a value. No mistake repeats the value.
fn read(api: &Api, name: &str, body: &Value) -> Result<Draft, Problem> {
    let mistakes = Mistakes::default();
    let people = api.store().people();
    match qualified(name, &|tenant| people.tenant(tenant).is_some()) {
        Ok(_) if is_internal(&SecretName(name.to_owned())) => {
            mistakes.at("", "names that begin with a dot are the daemon's own");
        }
        Ok(_) => {}
        Err(why) => mistakes.at("", why),
    }
    let known = ["value", "value_base64", "note"];
    let draft = Object::read(body, "", &known, &mistakes).and_then(|body| {
        let note = line(&body, "note");
        let value = value(&body)?;
        Some(Draft { value, note })
    });
    mistakes.or(Kind::Invalid, draft)
}

fn value(body: &Object<'_>) -> Option<SecretBytes> {
    let (text, coded) = (body.text("value"), body.text("value_base64"));
    let value = match (text, coded) {
        (Some(text), None) => SecretBytes::from(text.to_owned()),
        (None, Some(coded)) => match STANDARD.decode(coded) {
            Ok(bytes) => SecretBytes::from(bytes),
            Err(_) => {
                body.wrong(
                    "value_base64",
                    "this is not base64 (RFC 4648 §4, with padding)",
                );
                return None;
            }
        },
        (Some(_), Some(_)) => {
            body.wrong("value_base64", "either value or value_base64, not both");
            return None;
        }
        (None, None) => {
            if !body.has("value") && !body.has("value_base64") {
                body.wrong("value", "value is missing (or value_base64)");
            }
            return None;
        }
    };
    let field = match text {
        Some(_) => "value",
        None => "value_base64",
    };
    if value.is_empty() || value.len() > VALUE_BYTES {
        body.wrong(field, format!("a value has 1 to {VALUE_BYTES} bytes"));
    }
    Some(value)
}

/// Deletes a secret that nothing uses, with all its versions.
#[utoipa::path(
    delete,
    path = "/secrets/{name}",
    tag = "secrets",
    params(
        ("name" = String, Path, description = "The secret's name; a / in it is written %2F"),
        ("If-Match" = String, Header, description = "The revision that is to be deleted, or `*`"),
    ),
    responses(
        (status = 204, description = "It is deleted"),
        (status = 403, description = "It is of a tenant whose secrets you may not delete"),
        (status = 404, description = "There is no such secret"),
        (status = 409, description = "Something uses it"),
        (status = 412, description = "It was changed meanwhile"),
        (status = 428, description = "If-Match is missing"),
    )
)]
pub(crate) async fn delete_secret(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    query::none(&uri)?;
    let secret = find(&api, &caller, &asked)?;
    may_change(&caller, &asked)?;
    let expected = require_match(&headers, secret.revision)?;
    api.secrets()
        .delete(&caller.by(), &secret.name, expected, api.now())
        .await?;
    caller.did("secret deleted", &asked);
    Ok(StatusCode::NO_CONTENT)
}
