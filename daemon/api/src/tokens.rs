//! Tokens of services: what lets a script in.
//!
//! A token is shown once, when it is made; afterwards only its number, which
//! is no secret, what it may do and when it was last used.

use std::sync::Arc;
use std::time::Duration;

use access::{NewToken, TokenKind};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use model::{Binding, Permission, TenantName, Timestamp, TokenId, TokenProof, TokenRecord};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::Api;
use crate::binding_body::{self, BindingBody, BindingView};
use crate::caller::Caller;
use crate::mistakes::{Mistakes, Object};
use crate::patch::{self, is_changed_meanwhile, merged};
use crate::problem::{Kind, Problem, not_written};
use crate::query::{self, Query};
use crate::request::{Json, JsonAnswer, Path, etag, require_match};
use crate::secret_routes;
use crate::sorted::{Sorted, time_key};
use crate::words::qualified;

/// What a list of tokens is sorted by.
pub(crate) const SORTS: [&str; 5] = ["name", "id", "created", "expires", "last_used"];

/// How a service proves that it has the token.
pub(crate) const KINDS: [&str; 2] = ["bearer", "hmac"];

/// Requests per minute that a token can be given, and what one gets that is
/// given no number.
const REQUESTS: std::ops::RangeInclusive<u64> = 1..=60_000;
const REQUESTS_DEFAULT: u64 = 600;

/// The longest life of a token: a year, and a day to change it on.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

const FIELDS: [&str; 6] = [
    "name",
    "kind",
    "bindings",
    "permissions",
    "expires",
    "requests_per_minute",
];

const PATCH_FIELDS: [&str; 2] = ["expires", "requests_per_minute"];

/// A token, without what it proves itself with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenView {
    /// Its number: stands in the token after `sotp_`, and is no secret.
    id: String,
    /// What people call it; `tenant/name` in any tenant but the default one.
    #[schema(example = "backup-script")]
    name: String,
    /// bearer: it is sent; hmac: requests are signed with it.
    kind: &'static str,
    /// What it may do, and where.
    bindings: Vec<BindingView>,
    /// Only these of what the roles grant; empty: all of it.
    #[schema(example = json!(["devices:read"]))]
    permissions: Vec<&'static str>,
    /// Requests that it may make per minute.
    requests_per_minute: u32,
    /// Who made it.
    created_by: String,
    /// When.
    created: String,
    /// When it ends.
    expires: String,
    /// Whether it has ended.
    expired: bool,
    /// When it was last used, exact to a minute.
    last_used: Option<String>,
    /// From where it was last used.
    last_used_from: Option<String>,
    /// Counts changes, from 1; the `ETag`.
    revision: u64,
}

/// A new token, with what it proves itself with: it is not shown again.
#[derive(Serialize, ToSchema)]
pub(crate) struct MadeTokenView {
    #[serde(flatten)]
    view: TokenView,
    /// The token (or the key to sign with): `Authorization: Bearer <token>`.
    token: String,
}

/// One page of tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenList {
    /// The tokens, in order.
    items: Vec<TokenView>,
    /// `cursor` of the next page; null on the last one.
    next: Option<String>,
    /// How many you see, on all pages.
    total: usize,
}

/// A new token.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes in the document what `read_new` reads")]
pub(crate) struct NewTokenBody {
    /// What people call it; `tenant/name` in any tenant but the default one.
    #[schema(example = "backup-script")]
    name: String,
    /// bearer (the default): it is sent; hmac: requests are signed with it.
    #[schema(example = "bearer")]
    kind: Option<String>,
    /// What it may do, and where; not more than you may.
    #[schema(min_items = 1)]
    bindings: Vec<BindingBody>,
    /// Only these of what the roles grant; empty (the default): all of it.
    #[schema(example = json!(["devices:read"]))]
    permissions: Option<Vec<String>>,
    /// When it ends (RFC 3339): at most 366 days from now.
    #[schema(example = "2027-03-31T00:00:00Z")]
    expires: String,
    /// Requests that it may make per minute; by default 600.
    #[schema(minimum = 1, maximum = 60_000, example = 600)]
    requests_per_minute: Option<u32>,
}

/// What can be changed of a token.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenBody {
    /// When it ends (RFC 3339): not later than before.
    expires: Option<String>,
    /// Requests that it may make per minute; null: 600.
    #[schema(minimum = 1, maximum = 60_000)]
    requests_per_minute: Option<u32>,
}

impl TokenView {
    pub(crate) fn of(token: &TokenRecord, now: Timestamp) -> TokenView {
        let used = token.last_used.as_ref();
        TokenView {
            id: token.id.to_string(),
            name: token.name.clone(),
            kind: match token.proof {
                TokenProof::Bearer(_) => "bearer",
                TokenProof::Hmac(_) => "hmac",
            },
            bindings: binding_body::shown(&token.bindings),
            permissions: token.permissions.iter().map(|known| known.word()).collect(),
            requests_per_minute: token.requests_per_minute,
            created_by: token.created_by.clone(),
            created: token.created.to_string(),
            expires: token.expires.to_string(),
            expired: token.expires <= now,
            last_used: used.map(|(at, _)| at.to_string()),
            last_used_from: used.map(|(_, from)| from.clone()),
            revision: token.revision,
        }
    }
}

fn shown(api: &Api, token: &TokenRecord) -> Response {
    let tag = [(header::ETAG, etag(token.revision))];
    (tag, JsonAnswer(TokenView::of(token, api.now()))).into_response()
}

/// Whether the token exists as far as the caller is concerned: it is of a
/// tenant in which they may read tokens, and reaches no further than they do.
/// The name alone says little: one without a tenant may act everywhere.
fn sees(caller: &Caller, token: &TokenRecord) -> bool {
    let read = Permission::TokensRead;
    let within = |given: &Binding| {
        caller
            .bindings()
            .iter()
            .any(|mine| mine.role.grants(read) && mine.scope.contains(&given.scope))
    };
    caller.on_tenant(read, &TenantName::of(&token.name)) && token.bindings.iter().all(within)
}

/// The token of this number, if the caller sees it.
fn find(api: &Api, caller: &Caller, asked: &str) -> Result<Arc<TokenRecord>, Problem> {
    let people = api.store().people();
    let token = people.token(&TokenId(asked.to_owned()));
    let token = token.ok_or_else(|| Problem::not_found("token", asked))?;
    match sees(caller, token) {
        true => Ok(Arc::clone(token)),
        false => Err(Problem::hidden("token", asked)),
    }
}

/// The same, if the caller may change tokens of that tenant and do all that
/// this one may.
fn find_to_change(api: &Api, caller: &Caller, asked: &str) -> Result<Arc<TokenRecord>, Problem> {
    let token = find(api, caller, asked)?;
    may_change(caller, &token.name)?;
    match caller.may_give(&token.bindings, &token.permissions) {
        true => Ok(token),
        false => Err(Problem::forbidden("this token may do more than you may")),
    }
}

fn may_change(caller: &Caller, name: &str) -> Result<(), Problem> {
    caller.may_change(
        Permission::TokensWrite,
        Permission::TokensRead,
        "token",
        name,
    )
}

/// Lists tokens, without what they prove themselves with.
#[utoipa::path(
    get,
    path = "/tokens",
    tag = "access",
    params(
        ("tenant" = Option<String>, Query, description = "Of this tenant"),
        ("expired" = Option<bool>, Query, description = "Only those that have, or have not, ended"),
        ("sort" = Option<String>, Query, description = "name (the default), id, created, expires or last_used; with - before it from last to first"),
        ("limit" = Option<usize>, Query, description = "Items in a page, 1 to 1000; by default 100"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of tokens", body = TokenList),
        (status = 400, description = "A parameter is wrong"),
    )
)]
pub(crate) async fn list_tokens(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<TokenList>, Problem> {
    let query = Query::read(&uri, &["tenant", "expired", "sort", "limit", "cursor"])?;
    let tenant = query.one("tenant").map(|name| TenantName(name.to_owned()));
    let expired = query.flag("expired");
    let sorted = Sorted::read(&query, &SORTS)?;
    query.or(())?;

    let (people, now) = (api.store().people(), api.now());
    let wanted = |token: &&Arc<TokenRecord>| {
        let its = TenantName::of(&token.name);
        sees(&caller, token)
            && tenant.as_ref().is_none_or(|tenant| *tenant == its)
            && expired.is_none_or(|expired| (token.expires <= now) == expired)
    };
    let page = sorted.cut(people.tokens().filter(wanted).map(|token| {
        let key = match sorted.field() {
            "created" => time_key(Some(token.created)),
            "expires" => time_key(Some(token.expires)),
            "last_used" => time_key(token.last_used.as_ref().map(|(at, _)| *at)),
            "name" => token.name.clone(),
            _id => String::new(),
        };
        (key, token.id.0.clone(), token)
    }));
    let items = page
        .items
        .into_iter()
        .map(|token| TokenView::of(token, now));
    Ok(JsonAnswer(TokenList {
        items: items.collect(),
        next: page.next,
        total: page.total,
    }))
}

/// Shows a token, without what it proves itself with.
#[utoipa::path(
    get,
    path = "/tokens/{id}",
    tag = "access",
    params(("id" = String, Path, description = "The token's number")),
    responses(
        (status = 200, description = "The token", body = TokenView, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such token"),
    )
)]
pub(crate) async fn get_token(
    State(api): State<Api>,
    Path(id): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    let token = find(&api, &caller, &id)?;
    Ok(shown(&api, &token))
}

/// Makes a token, which is shown this once.
///
/// It may do nothing that you may not.
#[utoipa::path(
    post,
    path = "/tokens",
    tag = "access",
    request_body = NewTokenBody,
    responses(
        (status = 201, description = "The new token", body = MadeTokenView, headers(("ETag" = String, description = "Its revision"), ("Location" = String, description = "Its path"))),
        (status = 403, description = "It would be allowed more than you are, or is of a tenant whose tokens you may not make"),
        (status = 409, description = "There is a token of that name"),
        (status = 422, description = "The body has mistakes: all are named"),
    )
)]
pub(crate) async fn create_token(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    Json(body): Json,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    let draft = read_new(&api, &body)?;
    may_change(&caller, &draft.name)?;
    let (token, secret) = api
        .access()
        .create_token(&caller, &caller.by(), draft, api.now())
        .await?;
    caller.did("token made", &token.name);
    let made = MadeTokenView {
        view: TokenView::of(&token, api.now()),
        token: secret.expose().to_owned(),
    };
    let headers = [
        (header::LOCATION, format!("/api/v1/tokens/{}", token.id)),
        (header::ETAG, etag(token.revision)),
    ];
    Ok((StatusCode::CREATED, headers, JsonAnswer(made)).into_response())
}

fn read_new(api: &Api, body: &Value) -> Result<NewToken, Problem> {
    let mistakes = Mistakes::default();
    let people = api.store().people();
    let known = |tenant: &TenantName| people.tenant(tenant).is_some();
    let draft = Object::read(body, "", &FIELDS, &mistakes).and_then(|fields| {
        let name = fields.required_text("name");
        if let Some(Err(why)) = name.map(|name| qualified(name, &known)) {
            fields.wrong("name", why);
        }
        let bindings = binding_body::read(body, &known, &mistakes);
        if bindings.is_empty() && mistakes.is_empty() {
            fields.wrong(
                "bindings",
                "bindings is missing: a token without any may do nothing",
            );
        }
        let kind = fields.word("kind", &KINDS, |word| match word {
            "bearer" => Some(TokenKind::Bearer),
            "hmac" => Some(TokenKind::Hmac),
            _ => None,
        });
        let permissions = binding_body::permissions(&fields, "permissions");
        let expires = read_expiry(&fields, api.now());
        let requests = fields.whole("requests_per_minute", REQUESTS);
        Some(NewToken {
            name: name?.to_owned(),
            bindings,
            permissions,
            expires: expires?,
            requests_per_minute: per_minute(requests.unwrap_or(REQUESTS_DEFAULT)),
            kind: kind.unwrap_or(TokenKind::Bearer),
        })
    });
    mistakes.or(Kind::Invalid, draft)
}

fn per_minute(requests: u64) -> u32 {
    u32::try_from(requests).expect("REQUESTS ends far below that")
}

fn read_expiry(body: &Object<'_>, now: Timestamp) -> Option<Timestamp> {
    let expires = match body.required_text("expires")?.parse::<Timestamp>() {
        Ok(expires) => expires,
        Err(why) => {
            body.wrong("expires", why.to_string());
            return None;
        }
    };
    if expires <= now {
        body.wrong(
            "expires",
            format!("{expires} is over; say when it will end"),
        );
    } else if expires > now.plus(LONGEST) {
        let latest = now.plus(LONGEST);
        let message = format!("{expires} is more than 366 days away; at the latest {latest}");
        body.wrong("expires", message);
    }
    Some(expires)
}

/// Changes how much a token may ask, or lets it end earlier.
///
/// The body is a merge patch (RFC 7396). What a token may do is not changed:
/// make another one.
#[utoipa::path(
    patch,
    path = "/tokens/{id}",
    tag = "access",
    params(
        ("id" = String, Path, description = "The token's number"),
        ("If-Match" = String, Header, description = "The revision that is to be changed, or `*`"),
    ),
    request_body(content((TokenBody = "application/merge-patch+json"), (TokenBody = "application/json"))),
    responses(
        (status = 200, description = "The token as it is now", body = TokenView, headers(("ETag" = String, description = "Its revision"))),
        (status = 403, description = "It may do more than you"),
        (status = 404, description = "There is no such token"),
        (status = 412, description = "The token was changed meanwhile"),
        (status = 422, description = "The body has mistakes: all are named"),
        (status = 428, description = "If-Match is missing"),
    )
)]
pub(crate) async fn patch_token(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
    Json(patch): Json,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    let by = caller.by();
    for _ in 0..patch::TRIES {
        let token = find_to_change(&api, &caller, &asked)?;
        require_match(&headers, token.revision)?;
        let changed = patched(&token, &patch, api.now())?;
        let write = api
            .store()
            .replace_token(&by, changed, Some(token.revision), api.now());
        match write.await {
            Ok(token) => {
                caller.did("token changed", &token.name);
                return Ok(shown(&api, &token));
            }
            Err(error) if is_changed_meanwhile(&error) => {}
            Err(error) => return Err(not_written(&error, &api.store().inventory())),
        }
    }
    Err(patch::contended("token"))
}

fn patched(token: &TokenRecord, patch: &Value, now: Timestamp) -> Result<TokenRecord, Problem> {
    let body = TokenBody {
        expires: Some(token.expires.to_string()),
        requests_per_minute: Some(token.requests_per_minute),
    };
    let body = merged(&body, patch)?;
    let mistakes = Mistakes::default();
    let changed = Object::read(&body, "", &PATCH_FIELDS, &mistakes).and_then(|fields| {
        let expires = match patch.get("expires") {
            None => Some(token.expires),
            Some(_) => read_expiry(&fields, now),
        };
        if expires.is_some_and(|expires| expires > token.expires) {
            let message = format!(
                "it ends at {}, and that can only be made earlier; make another token",
                token.expires
            );
            fields.wrong("expires", message);
        }
        let requests = fields.whole("requests_per_minute", REQUESTS);
        Some(TokenRecord {
            expires: expires?,
            requests_per_minute: per_minute(requests.unwrap_or(REQUESTS_DEFAULT)),
            ..token.clone()
        })
    });
    mistakes.or(Kind::Invalid, changed)
}

/// Revokes a token: it lets nobody in from now on.
#[utoipa::path(
    delete,
    path = "/tokens/{id}",
    tag = "access",
    params(
        ("id" = String, Path, description = "The token's number"),
        ("If-Match" = String, Header, description = "The revision that is to be revoked, or `*`"),
    ),
    responses(
        (status = 204, description = "It is revoked"),
        (status = 403, description = "It may do more than you"),
        (status = 404, description = "There is no such token"),
        (status = 412, description = "The token was changed meanwhile"),
        (status = 428, description = "If-Match is missing"),
    )
)]
pub(crate) async fn delete_token(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    query::none(&uri)?;
    let token = find_to_change(&api, &caller, &asked)?;
    let expected = require_match(&headers, token.revision)?;
    api.store()
        .delete_token(&caller.by(), &token.id, expected, api.now())
        .await
        .map_err(|error| not_written(&error, &api.store().inventory()))?;
    if let TokenProof::Hmac(secret) = &token.proof {
        secret_routes::forget(&api, secret.clone());
    }
    caller.did("token revoked", &token.name);
    Ok(StatusCode::NO_CONTENT)
}
