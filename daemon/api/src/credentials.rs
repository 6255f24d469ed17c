//! What lets us into devices: written here, never shown again.
//!
//! A credential refers to a secret. Where its value comes with it, it becomes a
//! secret of its own (`credential.NAME`); a reference to another one needs the
//! right to set that, as whoever names it can have it sent to a device of
//! theirs.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use model::{
    CredentialKind, CredentialName, CredentialRecord, Permission, SecretName, SecretRecord,
    TenantName, Timestamp, checked_name,
};
use secrets::SecretBytes;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::Api;
use crate::caller::Caller;
use crate::device_body::read_community;
use crate::mistakes::{Mistakes, Object, did_you_mean};
use crate::problem::{Kind, Problem, not_written};
use crate::query;
use crate::request::{Json, JsonAnswer, Path, etag, require_match, require_match_or_new};

/// The kinds of credential.
const KINDS: [&str; 1] = ["snmp-v2c"];

/// A credential without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CredentialView {
    /// What devices refer to; `tenant/name` in any tenant but the default one.
    name: String,
    /// Whose it is.
    tenant: String,
    /// snmp-v2c.
    kind: &'static str,
    /// A reference to its secret: `secret://name`.
    secret: String,
    /// When it was last written.
    updated: String,
    /// How many devices use it.
    devices: usize,
    /// Counts changes, from 1; the `ETag`.
    revision: u64,
}

/// All credentials.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CredentialList {
    /// The credentials, by name.
    items: Vec<CredentialView>,
}

/// A credential with its secret: either `community` or `secret`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes in the document what `read` reads")]
pub(crate) struct CredentialBody {
    /// snmp-v2c.
    kind: String,
    /// The SNMP community, 1 to 255 bytes; never shown again.
    #[schema(write_only)]
    community: Option<String>,
    /// A reference to a secret of the same tenant: `secret://name`.
    secret: Option<String>,
}

fn view(api: &Api, caller: &Caller, credential: &CredentialRecord) -> CredentialView {
    let inventory = api.store().inventory();
    let uses = inventory
        .live()
        .filter(|device| device.credential.as_ref() == Some(&credential.name));
    CredentialView {
        name: credential.name.0.clone(),
        tenant: TenantName::of(&credential.name.0).0,
        kind: credential.kind.word(),
        secret: format!("{}{}", SecretName::SCHEME, credential.secret),
        updated: credential.updated.to_string(),
        devices: uses.filter(|device| caller.sees(device)).count(),
        revision: credential.revision,
    }
}

fn shown(
    api: &Api,
    caller: &Caller,
    status: StatusCode,
    credential: &CredentialRecord,
) -> Response {
    let tag = [(header::ETAG, etag(credential.revision))];
    (status, tag, JsonAnswer(view(api, caller, credential))).into_response()
}

fn missing(name: &str) -> Problem {
    Problem::not_found("credential", name)
}

fn find(api: &Api, name: &str) -> Option<Arc<CredentialRecord>> {
    api.store().credential(&CredentialName(name.to_owned()))
}

/// Lists credentials, without their secrets.
#[utoipa::path(
    get,
    path = "/credentials",
    tag = "devices",
    responses((status = 200, description = "The credentials", body = CredentialList))
)]
pub(crate) async fn list_credentials(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<CredentialList>, Problem> {
    query::none(&uri)?;
    let tenants = caller.tenants(Permission::CredentialsRead);
    let all = api.store().credentials();
    let seen = all
        .iter()
        .map(|(credential, _)| credential)
        .filter(|credential| tenants.contains(&TenantName::of(&credential.name.0)));
    Ok(JsonAnswer(CredentialList {
        items: seen
            .map(|credential| view(&api, &caller, credential))
            .collect(),
    }))
}

/// Shows a credential, without its secret.
#[utoipa::path(
    get,
    path = "/credentials/{name}",
    tag = "devices",
    params(("name" = String, Path, description = "The credential's name")),
    responses(
        (status = 200, description = "The credential", body = CredentialView, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such credential"),
    )
)]
pub(crate) async fn get_credential(
    State(api): State<Api>,
    Path(name): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    if !caller.reaches_tenant(Permission::CredentialsRead, &TenantName::of(&name)) {
        return Err(Problem::hidden("credential", &name));
    }
    let credential = find(&api, &name).ok_or_else(|| missing(&name))?;
    Ok(shown(&api, &caller, StatusCode::OK, &credential))
}

fn may_change(caller: &Caller, name: &str) -> Result<(), Problem> {
    let read = Permission::CredentialsRead;
    caller.may_change(Permission::CredentialsWrite, read, "credential", name)
}

/// Makes or replaces a credential.
///
/// Its value comes with it as `community`, and is kept sealed; or `secret`
/// refers to one that is there, which needs the permission secrets:write.
#[utoipa::path(
    put,
    path = "/credentials/{name}",
    tag = "devices",
    params(
        ("name" = String, Path, description = "The credential's name"),
        ("If-Match" = Option<String>, Header, description = "The revision that is replaced; needed if there is such a credential"),
        ("If-None-Match" = Option<String>, Header, description = "*: only if there is no such credential"),
    ),
    request_body = CredentialBody,
    responses(
        (status = 200, description = "The credential, without its secret", body = CredentialView, headers(("ETag" = String, description = "Its revision"))),
        (status = 201, description = "The new credential, without its secret", body = CredentialView, headers(("ETag" = String, description = "Its revision"))),
        (status = 412, description = "The credential was changed meanwhile"),
        (status = 422, description = "The body has mistakes: all are named"),
        (status = 428, description = "There is such a credential and If-Match is missing"),
    )
)]
pub(crate) async fn put_credential(
    State(api): State<Api>,
    Path(name): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
    Json(body): Json,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    may_change(&caller, &name)?;
    let known = find(&api, &name);
    let current = known.as_ref().map(|known| known.revision);
    let expected = match require_match_or_new(&headers, current)? {
        None if current.is_none() => Some(0),
        expected => expected,
    };
    let draft = read(&name, &body)?;
    let now = api.now();
    let (secret, sealed) = match draft.value {
        Given::Inline(value) => {
            let (name, sealed) = sealed(&api, &caller, &name, &value, now).await?;
            (name, Some(sealed))
        }
        Given::Reference(secret) => {
            let is_new = known.is_none_or(|known| known.secret != secret);
            if is_new && !caller.on_tenant(Permission::SecretsWrite, &TenantName::of(&name)) {
                return Err(Problem::forbidden(
                    "to name a secret needs the permission secrets:write; give the community instead",
                ));
            }
            (secret, None)
        }
    };
    let record = record(&name, draft.kind, secret, now);
    let kept = api
        .store()
        .put_credential(&caller.by(), record, sealed, expected, now)
        .await
        .map_err(|error| not_written(&error, &api.store().inventory()))?;
    caller.did("credential written", &name);
    let status = match current {
        Some(_) => StatusCode::OK,
        None => StatusCode::CREATED,
    };
    Ok(shown(&api, &caller, status, &kept))
}

/// A credential as it is offered to the store.
pub(crate) fn record(
    name: &str,
    kind: CredentialKind,
    secret: SecretName,
    now: Timestamp,
) -> CredentialRecord {
    CredentialRecord {
        name: CredentialName(name.to_owned()),
        kind,
        secret,
        updated: now,
        // the store counts
        revision: 1,
    }
}

/// The secret of the credential called `name`, to be kept together with it.
pub(crate) async fn sealed(
    api: &Api,
    caller: &Caller,
    name: &str,
    value: &SecretBytes,
    now: Timestamp,
) -> Result<(SecretName, SecretRecord), Problem> {
    let tenant = TenantName::of(name);
    let own = name.split_once('/').map_or(name, |(_, own)| own);
    let secret = SecretName(tenant.qualify(&format!("credential.{own}")));
    let who = caller.actor.to_string();
    let sealed = api.secrets().seal_record(&secret, value, &who, now).await?;
    Ok((secret, sealed))
}

/// What a credential's body says.
struct Draft {
    kind: CredentialKind,
    value: Given,
}

enum Given {
    Inline(SecretBytes),
    Reference(SecretName),
}

/// Reads a credential. No mistake repeats the secret.
fn read(name: &str, body: &Value) -> Result<Draft, Problem> {
    let mistakes = Mistakes::default();
    if let Err(why) = checked_name(name) {
        mistakes.at("", why.to_string());
    }
    let fields = ["kind", "community", "secret"];
    let draft = Object::read(body, "", &fields, &mistakes).and_then(|body| {
        let kind = body.required_text("kind");
        if let Some(kind) = kind.filter(|kind| !KINDS.contains(kind)) {
            let hint = did_you_mean(kind, &KINDS);
            body.wrong("kind", format!("unknown kind {kind:?}: {hint}"));
        }
        let value = match (body.has("community"), body.has("secret")) {
            (true, true) => {
                body.wrong("secret", "there is a community, too; keep one of them");
                None
            }
            (false, false) => {
                body.wrong("community", "community is missing, or a secret instead");
                None
            }
            (true, false) => {
                read_community(body.text("community")?, "/community", &mistakes).map(Given::Inline)
            }
            (false, true) => read_reference(&body, name).map(Given::Reference),
        };
        Some(Draft {
            kind: CredentialKind::SnmpV2c,
            value: value?,
        })
    });
    mistakes.or(Kind::Invalid, draft)
}

fn read_reference(body: &Object<'_>, name: &str) -> Option<SecretName> {
    let text = body.text("secret")?;
    let Some(secret) = SecretName::from_reference(text).filter(|secret| !secret.is_internal())
    else {
        body.wrong("secret", "this is no reference to a secret: secret://NAME");
        return None;
    };
    if TenantName::of(&secret.0) != TenantName::of(name) {
        body.wrong("secret", "the secret has to be one of the same tenant");
    }
    Some(secret)
}

/// Deletes a credential that no device uses.
#[utoipa::path(
    delete,
    path = "/credentials/{name}",
    tag = "devices",
    params(
        ("name" = String, Path, description = "The credential's name"),
        ("If-Match" = String, Header, description = "The revision that is deleted; * for any"),
    ),
    responses(
        (status = 204, description = "It is deleted"),
        (status = 404, description = "There is no such credential"),
        (status = 409, description = "Devices use it"),
        (status = 412, description = "The credential was changed meanwhile"),
        (status = 428, description = "If-Match is missing"),
    )
)]
pub(crate) async fn delete_credential(
    State(api): State<Api>,
    Path(name): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    query::none(&uri)?;
    may_change(&caller, &name)?;
    let credential = find(&api, &name).ok_or_else(|| missing(&name))?;
    let expected = require_match(&headers, credential.revision)?;
    api.store()
        .delete_credential(&caller.by(), &credential.name, expected, api.now())
        .await
        .map_err(|error| not_written(&error, &api.store().inventory()))?;
    caller.did("credential deleted", &name);
    Ok(StatusCode::NO_CONTENT)
}
