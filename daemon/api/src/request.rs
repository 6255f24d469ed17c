//! What handlers take from a request beside its path: who asks, the body and
//! the revision that a change expects.

use std::fmt;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tracing::info;

use crate::Api;
use crate::problem::{Kind, Problem};

/// Bytes of a JSON body: the largest rule is far below that, and many
/// connections may each hold one in memory.
const JSON_BYTES: usize = 1024 * 1024;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A local process of this user: the kernel says so.
    User(u32),
    /// Somebody on the network.
    Network,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::User(uid) => write!(f, "uid {uid}"),
            Peer::Network => f.write_str("network"),
        }
    }
}

impl Peer {
    /// Logs a change that this peer made. Names come from people, so they are
    /// shown quoted.
    pub(crate) fn did(self, change: &'static str, to: &str) {
        info!(actor = %self, to = ?to, "{change}");
    }
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Peer, Problem> {
        Ok(*parts.extensions.get().unwrap_or(&Peer::Network))
    }
}

/// What stands in the variable parts of a path.
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Path<T>, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(part)) => Ok(Path(part)),
            Err(error) => Err(Problem::new(Kind::BadRequest, error.body_text())),
        }
    }
}

/// A JSON body.
pub(crate) struct Json(pub(crate) Value);

impl FromRequest<Api> for Json {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Json, Problem> {
        let known = ["application/json", "application/merge-patch+json"];
        expect_type(request.headers(), &known)?;
        let limit = api.limits().body_bytes.min(JSON_BYTES);
        let body = read_body(request, limit, api).await?;
        serde_json::from_slice(&body).map(Json).map_err(|error| {
            Problem::new(Kind::BadRequest, format!("the body is not JSON: {error}"))
        })
    }
}

/// A JSON body, or none at all.
pub(crate) struct MaybeJson(pub(crate) Option<Value>);

impl FromRequest<Api> for MaybeJson {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<MaybeJson, Problem> {
        if !request.headers().contains_key(header::CONTENT_TYPE) {
            let body = read_body(request, JSON_BYTES, api).await?;
            return match body.is_empty() {
                true => Ok(MaybeJson(None)),
                false => Err(wrong_type("none", &["application/json"])),
            };
        }
        let Json(value) = Json::from_request(request, api).await?;
        Ok(MaybeJson(Some(value)))
    }
}

/// A CSV body (RFC 4180), and the place of one that is read.
pub(crate) struct Csv {
    pub(crate) body: Bytes,
    _place: OwnedSemaphorePermit,
}

impl FromRequest<Api> for Csv {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Csv, Problem> {
        expect_type(request.headers(), &["text/csv"])?;
        let place = api.import_place().await;
        let body = read_body(request, api.limits().body_bytes, api).await?;
        Ok(Csv {
            body,
            _place: place,
        })
    }
}

fn expect_type(headers: &HeaderMap, known: &[&str]) -> Result<(), Problem> {
    let given = headers
        .get(header::CONTENT_TYPE)
        .map_or("none", |value| value.to_str().unwrap_or("unreadable"));
    let essence = given.split(';').next().unwrap_or_default().trim();
    known
        .iter()
        .any(|known| known.eq_ignore_ascii_case(essence))
        .then_some(())
        .ok_or_else(|| wrong_type(given, known))
}

fn wrong_type(given: &str, known: &[&str]) -> Problem {
    Problem::new(
        Kind::MediaType,
        format!(
            "the content type is {given:?} and has to be {}",
            known.join(" or ")
        ),
    )
}

/// The whole body, if it is not too large and comes in time: half of what a
/// request may take, so that there is time left to do what it says.
async fn read_body(request: Request, limit: usize, api: &Api) -> Result<Bytes, Problem> {
    let patience: Duration = api.limits().request_timeout / 2;
    let body = request.into_body();
    let stated = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if stated > limit {
        return Err(too_large(limit));
    }
    match tokio::time::timeout(patience, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Ok(Err(error)) => Err(Problem::new(
            Kind::BadRequest,
            format!("the body ended before its time: {error}"),
        )),
        Err(_elapsed) => Err(Problem::new(
            Kind::TooSlow,
            format!("the body did not arrive within {patience:?}"),
        )),
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        Kind::BodyTooLarge,
        format!("a body can have {limit} bytes; send less at a time"),
    )
}

/// The `ETag` of a thing at `revision`.
pub(crate) fn etag(revision: u64) -> String {
    format!("\"{revision}\"")
}

/// The revision that `If-Match` allows to be changed, where the thing is now
/// at `current`; `None` where any will do.
///
/// # Errors
///
/// 412 if `If-Match` names no revision that can be the current one.
pub(crate) fn expected(headers: &HeaderMap, current: u64) -> Result<Option<u64>, Problem> {
    let mut offered = headers
        .get_all(header::IF_MATCH)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or("").split(','))
        .map(str::trim)
        .peekable();
    if offered.peek().is_none() {
        return Ok(None);
    }
    let now = etag(current);
    let mut seen = Vec::new();
    for tag in offered {
        if tag == "*" {
            return Ok(None);
        }
        if tag == now {
            return Ok(Some(current));
        }
        seen.push(tag.to_owned());
    }
    Err(Problem::new(
        Kind::Precondition,
        format!(
            "If-Match is {} and the revision is now {now}; read it again and repeat the change",
            seen.join(", ")
        ),
    ))
}

/// A JSON answer.
pub(crate) use axum::Json as JsonAnswer;
