//! Tenants: whose devices, rules, tokens and secrets are kept apart, and what
//! each may use.

use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use model::{Permission, Quota, Tenant, TenantName};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::Api;
use crate::caller::Caller;
use crate::mistakes::{Mistakes, Object};
use crate::patch::{self, is_changed_meanwhile, merged};
use crate::problem::{Kind, Problem, not_written};
use crate::query::{self, Query};
use crate::request::{Json, JsonAnswer, Path, etag, require_match};
use crate::sorted::{Sorted, time_key};
use crate::words::line;

/// What a list of tenants is sorted by.
pub(crate) const SORTS: [&str; 3] = ["name", "created", "updated"];

/// Fields that a patch may name, too.
const FIELDS: [&str; 2] = ["note", "quota"];

const QUOTA_FIELDS: [&str; 3] = ["devices", "samples_per_second", "log_lines_per_second"];

/// A quota beyond this is none.
const QUOTA: RangeInclusive<u64> = 0..=1_000_000_000;

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantView {
    /// Its name; stands before the `/` in names of its rules, credentials,
    /// secrets and tokens.
    #[schema(example = "acme")]
    name: String,
    /// What people call it, or why it is there.
    note: Option<String>,
    /// What it may use.
    quota: QuotaView,
    /// When it was made.
    created: String,
    /// When it was last changed.
    updated: String,
    /// Counts changes, from 1; the `ETag`.
    revision: u64,
}

/// What a tenant may use; null: without a limit of its own.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QuotaView {
    /// Devices that are not deleted.
    devices: Option<u64>,
    /// Values measured per second, over all of its devices.
    samples_per_second: Option<u64>,
    /// Log lines per second, over all of its devices.
    log_lines_per_second: Option<u64>,
}

/// One page of tenants.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantList {
    /// The tenants, in order.
    items: Vec<TenantView>,
    /// `cursor` of the next page; null on the last one.
    next: Option<String>,
    /// How many you see, on all pages.
    total: usize,
}

/// A new tenant.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "describes in the document what `create_tenant` reads"
)]
pub(crate) struct NewTenantBody {
    /// Its name: 1 to 32 lower-case letters, digits and hyphens, a letter
    /// first; it cannot be changed.
    #[schema(example = "acme")]
    name: String,
    /// What people call it, or why it is there.
    #[schema(example = "ACME Ltd, contract 4711")]
    note: Option<String>,
    /// What it may use; by default as much as there is.
    quota: Option<QuotaBody>,
}

/// What can be changed of a tenant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantBody {
    /// What people call it, or why it is there.
    #[schema(example = "ACME Ltd, contract 4711")]
    note: Option<String>,
    /// What it may use; by default as much as there is.
    quota: Option<QuotaBody>,
}

/// What a tenant may use; null: without a limit of its own.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuotaBody {
    /// Devices that are not deleted.
    #[schema(minimum = 0, maximum = 1_000_000_000, example = 500)]
    devices: Option<u64>,
    /// Values measured per second, over all of its devices.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    samples_per_second: Option<u64>,
    /// Log lines per second, over all of its devices.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    log_lines_per_second: Option<u64>,
}

impl From<&Tenant> for TenantView {
    fn from(tenant: &Tenant) -> TenantView {
        TenantView {
            name: tenant.name.to_string(),
            note: tenant.note.clone(),
            quota: QuotaView {
                devices: tenant.quota.devices,
                samples_per_second: tenant.quota.samples_per_second,
                log_lines_per_second: tenant.quota.log_lines_per_second,
            },
            created: tenant.created.to_string(),
            updated: tenant.updated.to_string(),
            revision: tenant.revision,
        }
    }
}

impl TenantBody {
    fn of(tenant: &Tenant) -> TenantBody {
        TenantBody {
            note: tenant.note.clone(),
            quota: Some(QuotaBody {
                devices: tenant.quota.devices,
                samples_per_second: tenant.quota.samples_per_second,
                log_lines_per_second: tenant.quota.log_lines_per_second,
            }),
        }
    }
}

fn shown(status: StatusCode, tenant: &Tenant) -> Response {
    let tag = [(header::ETAG, etag(tenant.revision))];
    (status, tag, JsonAnswer(TenantView::from(tenant))).into_response()
}

/// The tenant called `asked`, if the caller has anything in it.
fn find(api: &Api, caller: &Caller, asked: &str) -> Result<Arc<Tenant>, Problem> {
    let missing = || Problem::not_found("tenant", asked);
    let name: TenantName = asked.parse().map_err(|_| missing())?;
    if !caller.reaches_tenant(Permission::TenantsRead, &name) {
        return Err(missing());
    }
    let people = api.store().people();
    people.tenant(&name).cloned().ok_or_else(missing)
}

/// Lists the tenants in which you may do something.
#[utoipa::path(
    get,
    path = "/tenants",
    tag = "people",
    params(
        ("sort" = Option<String>, Query, description = "name (the default), created or updated; with - before it from last to first"),
        ("limit" = Option<usize>, Query, description = "Items in a page, 1 to 1000; by default 100"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of tenants", body = TenantList),
        (status = 400, description = "A parameter is wrong"),
    )
)]
pub(crate) async fn list_tenants(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<TenantList>, Problem> {
    let query = Query::read(&uri, &["sort", "limit", "cursor"])?;
    let sorted = Sorted::read(&query, &SORTS)?;
    query.or(())?;
    let people = api.store().people();
    let seen = caller.tenants(Permission::TenantsRead);
    let tenants = people
        .tenants()
        .filter(|tenant| seen.contains(&tenant.name));
    let page = sorted.cut(tenants.map(|tenant| {
        let key = match sorted.field() {
            "created" => time_key(Some(tenant.created)),
            "updated" => time_key(Some(tenant.updated)),
            _name => String::new(),
        };
        (key, tenant.name.0.clone(), TenantView::from(&**tenant))
    }));
    Ok(JsonAnswer(TenantList {
        items: page.items,
        next: page.next,
        total: page.total,
    }))
}

/// Shows a tenant.
#[utoipa::path(
    get,
    path = "/tenants/{name}",
    tag = "people",
    params(("name" = String, Path, description = "The tenant's name")),
    responses(
        (status = 200, description = "The tenant", body = TenantView, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such tenant"),
    )
)]
pub(crate) async fn get_tenant(
    State(api): State<Api>,
    Path(name): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    let tenant = find(&api, &caller, &name)?;
    Ok(shown(StatusCode::OK, &tenant))
}

/// Makes a tenant.
#[utoipa::path(
    post,
    path = "/tenants",
    tag = "people",
    request_body = NewTenantBody,
    responses(
        (status = 201, description = "The new tenant", body = TenantView, headers(("ETag" = String, description = "Its revision"), ("Location" = String, description = "Its path"))),
        (status = 409, description = "There is a tenant of that name"),
        (status = 422, description = "The body has mistakes: all are named"),
    )
)]
pub(crate) async fn create_tenant(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    Json(body): Json,
) -> Result<Response, Problem> {
    caller.need_everywhere(Permission::TenantsWrite)?;
    query::none(&uri)?;
    let tenant = read_new(&api, &body)?;
    let tenant = api
        .store()
        .put_tenant(&caller.by(), tenant, Some(0), api.now())
        .await
        .map_err(|error| not_written(&error, &api.store().inventory()))?;
    caller.did("tenant made", &tenant.name.0);
    let path = format!("/api/v1/tenants/{}", tenant.name);
    let location = [(header::LOCATION, path)];
    Ok((location, shown(StatusCode::CREATED, &tenant)).into_response())
}

fn read_new(api: &Api, body: &Value) -> Result<Tenant, Problem> {
    let mistakes = Mistakes::default();
    let tenant = Object::read(body, "", &["name", "note", "quota"], &mistakes).and_then(|body| {
        let name = body.required_text("name").map(str::parse::<TenantName>);
        if let Some(Err(why)) = &name {
            body.wrong("name", why.to_string());
        }
        let (note, quota) = rest(&body);
        Some(Tenant {
            name: name?.ok()?,
            note,
            quota,
            created: api.now(),
            updated: api.now(),
            revision: 1,
        })
    });
    mistakes.or(Kind::Invalid, tenant)
}

fn rest(body: &Object<'_>) -> (Option<String>, Quota) {
    let note = line(body, "note");
    let Some(quota) = body.object("quota", &QUOTA_FIELDS) else {
        return (note, Quota::default());
    };
    let quota = Quota {
        devices: quota.whole("devices", QUOTA),
        samples_per_second: quota.whole("samples_per_second", QUOTA),
        log_lines_per_second: quota.whole("log_lines_per_second", QUOTA),
    };
    (note, quota)
}

/// Changes what a tenant may use, or its note.
///
/// The body is a merge patch (RFC 7396): what it does not name stays, null
/// takes a limit away.
#[utoipa::path(
    patch,
    path = "/tenants/{name}",
    tag = "people",
    params(
        ("name" = String, Path, description = "The tenant's name"),
        ("If-Match" = String, Header, description = "The revision that is to be changed, or `*`"),
    ),
    request_body(content((TenantBody = "application/merge-patch+json"), (TenantBody = "application/json"))),
    responses(
        (status = 200, description = "The tenant as it is now", body = TenantView, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such tenant"),
        (status = 412, description = "The tenant was changed meanwhile"),
        (status = 422, description = "The body has mistakes: all are named"),
        (status = 428, description = "If-Match is missing"),
    )
)]
pub(crate) async fn patch_tenant(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
    Json(patch): Json,
) -> Result<Response, Problem> {
    caller.need_everywhere(Permission::TenantsWrite)?;
    query::none(&uri)?;
    let by = caller.by();
    for _ in 0..patch::TRIES {
        let tenant = find(&api, &caller, &asked)?;
        require_match(&headers, tenant.revision)?;
        let changed = patched(&tenant, &patch)?;
        let write = api
            .store()
            .put_tenant(&by, changed, Some(tenant.revision), api.now());
        match write.await {
            Ok(tenant) => {
                caller.did("tenant changed", &tenant.name.0);
                return Ok(shown(StatusCode::OK, &tenant));
            }
            Err(error) if is_changed_meanwhile(&error) => {}
            Err(error) => return Err(not_written(&error, &api.store().inventory())),
        }
    }
    Err(patch::contended("tenant"))
}

fn patched(tenant: &Tenant, patch: &Value) -> Result<Tenant, Problem> {
    let body = merged(&TenantBody::of(tenant), patch)?;
    let mistakes = Mistakes::default();
    let changed = Object::read(&body, "", &FIELDS, &mistakes).map(|body| {
        let (note, quota) = rest(&body);
        Tenant {
            note,
            quota,
            ..tenant.clone()
        }
    });
    mistakes.or(Kind::Invalid, changed)
}

/// Deletes a tenant that nothing belongs to any more.
#[utoipa::path(
    delete,
    path = "/tenants/{name}",
    tag = "people",
    params(
        ("name" = String, Path, description = "The tenant's name"),
        ("If-Match" = String, Header, description = "The revision that is to be deleted, or `*`"),
    ),
    responses(
        (status = 204, description = "It is deleted"),
        (status = 404, description = "There is no such tenant"),
        (status = 409, description = "Something belongs to it, or it is the default one"),
        (status = 412, description = "The tenant was changed meanwhile"),
        (status = 428, description = "If-Match is missing"),
    )
)]
pub(crate) async fn delete_tenant(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    caller.need_everywhere(Permission::TenantsWrite)?;
    query::none(&uri)?;
    let tenant = find(&api, &caller, &asked)?;
    let expected = require_match(&headers, tenant.revision)?;
    api.store()
        .delete_tenant(&caller.by(), &tenant.name, expected, api.now())
        .await
        .map_err(|error| not_written(&error, &api.store().inventory()))?;
    caller.did("tenant deleted", &tenant.name.0);
    Ok(StatusCode::NO_CONTENT)
}
