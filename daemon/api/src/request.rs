//! What handlers take from a request: its path, its body and the revision that
//! a change is meant for.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body as AxumBody, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Api;
use crate::caller::Caller;
use crate::places::Place;
use crate::problem::{Kind, Problem};
use crate::strict_json;

/// Bytes of a JSON body: the largest rule is far below that, and many
/// connections may each hold one in memory.
pub(crate) const JSON_BYTES: usize = 1024 * 1024;

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A local process: the kernel says of which user.
    User {
        /// Its user.
        uid: u32,
        /// The daemon's own.
        own: u32,
    },
    /// Somebody who sees health and metrics alone.
    Plain {
        /// From here.
        address: IpAddr,
    },
    /// Somebody on the network.
    Tls {
        /// From here.
        address: IpAddr,
        /// The certificate that they proved to have, which is one of an
        /// authority that we know: DER.
        certificate: Option<Arc<[u8]>>,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::User { uid, .. } => write!(f, "uid {uid}"),
            Peer::Plain { address } | Peer::Tls { address, .. } => address.fmt(f),
        }
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
        let body = read_body(request, limit, patience(api)).await?;
        strict_json::read(&body).map(Json).map_err(|error| {
            Problem::new(
                Kind::BadRequest,
                format!("the body cannot be read as JSON: {error}"),
            )
        })
    }
}

/// A JSON body, or none at all.
pub(crate) struct MaybeJson(pub(crate) Option<Value>);

impl FromRequest<Api> for MaybeJson {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<MaybeJson, Problem> {
        if !request.headers().contains_key(header::CONTENT_TYPE) {
            let body = read_body(request, JSON_BYTES, patience(api)).await?;
            return match body.is_empty() {
                true => Ok(MaybeJson(None)),
                false => Err(wrong_type(&HeaderMap::new(), &["application/json"])),
            };
        }
        let Json(value) = Json::from_request(request, api).await?;
        Ok(MaybeJson(Some(value)))
    }
}

/// A CSV body (RFC 4180), and the place of one that is read.
pub(crate) struct Csv {
    pub(crate) body: Bytes,
    _place: Place,
}

impl FromRequest<Api> for Csv {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Csv, Problem> {
        expect_type(request.headers(), &["text/csv"])?;
        let who = request.extensions().get::<Caller>().map(|c| c.rate_key());
        let place = api.imports().take(&who.unwrap_or_default()).await;
        let body = read_body(request, api.limits().body_bytes, patience(api)).await?;
        Ok(Csv {
            body,
            _place: place,
        })
    }
}

fn expect_type(headers: &HeaderMap, known: &[&str]) -> Result<(), Problem> {
    match is_of_type(headers, known) {
        true => Ok(()),
        false => Err(wrong_type(headers, known)),
    }
}

/// Whether the body is of one of these types.
pub(crate) fn is_of_type(headers: &HeaderMap, known: &[&str]) -> bool {
    let essence = type_of(headers).split(';').next().unwrap_or_default();
    let essence = essence.trim();
    known
        .iter()
        .any(|known| known.eq_ignore_ascii_case(essence))
}

fn type_of(headers: &HeaderMap) -> &str {
    let given = headers.get(header::CONTENT_TYPE);
    given.map_or("none", |value| value.to_str().unwrap_or("unreadable"))
}

/// The body is of none of the types that are known.
pub(crate) fn wrong_type(headers: &HeaderMap, known: &[&str]) -> Problem {
    let given = type_of(headers);
    Problem::new(
        Kind::MediaType,
        format!(
            "the content type is {given:?} and has to be {}",
            known.join(" or ")
        ),
    )
}

/// The request with its body in memory, and that body. The largest that a
/// handler of this content type would take, if it comes within `patience`.
pub(crate) async fn buffered(
    request: Request,
    api: &Api,
    patience: Duration,
) -> Result<(Request, Bytes), Problem> {
    let is_table = expect_type(request.headers(), &["text/csv"]).is_ok();
    let limit = match is_table {
        true => api.limits().body_bytes,
        false => api.limits().body_bytes.min(JSON_BYTES),
    };
    let (parts, body) = request.into_parts();
    let body = read_body(Request::from_parts(parts.clone(), body), limit, patience).await?;
    let request = Request::from_parts(parts, AxumBody::from(body.clone()));
    Ok((request, body))
}

/// How long a body may take: half of what a request may take, so that there is
/// time left to do what it says.
pub(crate) fn patience(api: &Api) -> Duration {
    api.limits().request_timeout / 2
}

/// The whole body, if it is not too large and comes within `patience`.
pub(crate) async fn read_body(
    request: Request,
    limit: usize,
    patience: Duration,
) -> Result<Bytes, Problem> {
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

/// The revision that a change is meant for, where the thing is now at
/// `current`; `None` where any will do: `If-Match: *`.
///
/// # Errors
///
/// 428 if the request does not say, 412 if it names only others.
pub(crate) fn require_match(headers: &HeaderMap, current: u64) -> Result<Option<u64>, Problem> {
    let now = etag(current);
    let mut others = Vec::new();
    for tag in tags(headers, &header::IF_MATCH) {
        if tag == "*" {
            return Ok(None);
        }
        if tag == now {
            return Ok(Some(current));
        }
        others.push(tag);
    }
    if others.is_empty() {
        return Err(Problem::new(
            Kind::PreconditionRequired,
            "send the ETag of what you read as If-Match, so that nobody's change is lost; If-Match: * changes whatever is there",
        ));
    }
    Err(Problem::new(
        Kind::Precondition,
        format!(
            "If-Match is {} and the revision is now {now}; read it again and repeat the change",
            others.join(", ")
        ),
    ))
}

/// The revision that a PUT which may also create is meant for, where the thing
/// is now at `current`, or is not there. A new thing needs no header.
///
/// # Errors
///
/// 428 if there is such a thing and the request does not say which revision it
/// is meant for, 412 if that is another one, if `If-None-Match: *` demands that
/// there be none, or if `If-Match` demands one that is not there.
pub(crate) fn require_match_or_new(
    headers: &HeaderMap,
    current: Option<u64>,
) -> Result<Option<u64>, Problem> {
    let only_new = tags(headers, &header::IF_NONE_MATCH).any(|tag| tag == "*");
    match current {
        Some(_) if only_new => Err(Problem::new(
            Kind::Precondition,
            "If-None-Match is * and there is one already; choose another name, or change that one with If-Match",
        )),
        Some(current) => require_match(headers, current),
        None if headers.contains_key(header::IF_MATCH) => Err(Problem::new(
            Kind::Precondition,
            "If-Match is given and there is no such thing any more; leave it out to make a new one",
        )),
        None => Ok(None),
    }
}

/// The entity tags in a header that may be repeated and hold several.
fn tags<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or("unreadable").split(','))
        .map(str::trim)
        .filter(|tag| !tag.is_empty())
}

/// A JSON answer.
pub(crate) use axum::Json as JsonAnswer;
