//! What lets us into devices: written here, never shown again.
//!
//! A credential refers to a secret. Where its value comes with it, it becomes a
//! secret of its own (`credential.NAME`); a reference to another one needs the
//! right to set that, as whoever names it can have it sent to a device of
//! theirs.

use std::collections::HashMap;
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
use store::{Inventory, Store};
use utoipa::ToSchema;

use crate::Api;
use crate::caller::Caller;
use crate::device_body::read_community;
use crate::mistakes::{Mistakes, Object, did_you_mean};
use crate::problem::{Kind, Problem, not_written};
use crate::query::{self, Query};
use crate::request::{Json, JsonAnswer, Path, etag, require_match, require_match_or_new};
use crate::secret_routes;
use crate::sorted::{Sorted, time_key};

/// What a list of credentials is sorted by.
pub(crate) const SORTS: [&str; 2] = ["name", "updated"];

/// The kinds of credential.
pub(crate) const KINDS: [&str; 1] = ["snmp-v2c"];

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

/// One page of credentials.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CredentialList {
    /// The credentials, in order.
    items: Vec<CredentialView>,
    /// `cursor` of the next page; null on the last one.
    next: Option<String>,
    /// How many you see, on all pages.
    total: usize,
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

impl CredentialView {
    /// `credential`, which `devices` use as far as the caller sees them.
    fn of(credential: &CredentialRecord, devices: usize) -> CredentialView {
        CredentialView {
            name: credential.name.0.clone(),
            tenant: TenantName::of(&credential.name.0).0,
            kind: credential.kind.word(),
            secret: format!("{}{}", SecretName::SCHEME, credential.secret),
            updated: credential.updated.to_string(),
            devices,
            revision: credential.revision,
        }
    }
}

/// How many devices that the caller sees use each credential.
fn uses<'i>(inventory: &'i Inventory, caller: &Caller) -> HashMap<&'i CredentialName, usize> {
    let mut uses = HashMap::new();
    for device in inventory.live() {
        if let Some(name) = &device.credential
            && caller.sees(device)
        {
            *uses.entry(name).or_default() += 1;
        }
    }
    uses
}

fn shown(
    api: &Api,
    caller: &Caller,
    status: StatusCode,
    credential: &CredentialRecord,
) -> Response {
    let inventory = api.store().inventory();
    let devices = inventory
        .live()
        .filter(|device| device.credential.as_ref() == Some(&credential.name))
        .filter(|device| caller.sees(device))
        .count();
    let tag = [(header::ETAG, etag(credential.revision))];
    let view = CredentialView::of(credential, devices);
    (status, tag, JsonAnswer(view)).into_response()
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
    params(
        ("tenant" = Option<String>, Query, description = "Of this tenant"),
        ("sort" = Option<String>, Query, description = "name (the default) or updated; with - before it from last to first"),
        ("limit" = Option<usize>, Query, description = "Items in a page, 1 to 1000; by default 100"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of credentials", body = CredentialList),
        (status = 400, description = "A parameter is wrong"),
    )
)]
pub(crate) async fn list_credentials(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<CredentialList>, Problem> {
    let query = Query::read(&uri, &["tenant", "sort", "limit", "cursor"])?;
    let tenant = query.one("tenant").map(|name| TenantName(name.to_owned()));
    let sorted = Sorted::read(&query, &SORTS)?;
    query.or(())?;
    // there may be very many devices
    let list = api.read(move |store| Ok::<_, Problem>(list(store, &caller, tenant, &sorted)));
    list.await.map(JsonAnswer)
}

fn list(
    store: &Store,
    caller: &Caller,
    tenant: Option<TenantName>,
    sorted: &Sorted,
) -> CredentialList {
    let inventory = store.inventory();
    let uses = uses(&inventory, caller);
    let seen = caller.tenants(Permission::CredentialsRead);
    let credentials = store.credentials();
    let wanted = credentials
        .iter()
        .map(|(credential, _)| credential)
        .filter(|credential| {
            let its = TenantName::of(&credential.name.0);
            seen.contains(&its) && tenant.as_ref().is_none_or(|tenant| *tenant == its)
        });
    let page = sorted.cut(wanted.map(|credential| {
        let key = match sorted.field() {
            "updated" => time_key(Some(credential.updated)),
            _name => String::new(),
        };
        (key, credential.name.0.clone(), credential)
    }));
    let view = |credential: &Arc<CredentialRecord>| {
        let devices = uses.get(&credential.name).copied().unwrap_or_default();
        CredentialView::of(credential, devices)
    };
    CredentialList {
        items: page.items.into_iter().map(view).collect(),
        next: page.next,
        total: page.total,
    }
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
            let its = TenantName::of(&secret.0);
            if is_new && !secret_routes::holds(&caller, Permission::SecretsWrite, &its) {
                return Err(Problem::forbidden(
                    "to name a secret needs the right to set it (secrets:write); give the community instead",
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
    let secret = own_secret(name);
    let who = caller.actor.to_string();
    let sealed = api.secrets().seal_record(&secret, value, &who, now).await?;
    Ok((secret, sealed))
}

/// What the secret is called that comes with the credential called `name`.
fn own_secret(name: &str) -> SecretName {
    let own = name.split_once('/').map_or(name, |(_, own)| own);
    SecretName(TenantName::of(name).qualify(&format!("credential.{own}")))
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
    secret_routes::forget(&api, own_secret(&name));
    caller.did("credential deleted", &name);
    Ok(StatusCode::NO_CONTENT)
}
