//! Around every handler: the request's id, the time it may take, what happens
//! if it panics, and counting it.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tokio::time::{Instant, timeout};
use tracing::{debug, error, warn};

use crate::problem::{Kind, Problem};
use crate::request::Peer;
use crate::{Api, backups};

/// The route under which requests to unknown paths are counted.
const NO_ROUTE: &str = "none";

/// What every answer says.
const SEALS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// The policy of an answer that is no page.
const NOTHING_BUT_DATA: &str = "default-src 'none'; frame-ancestors 'none'";

/// What a page of a known origin may send.
const PREFLIGHT: &[(HeaderName, &str)] = &[
    (
        header::ACCESS_CONTROL_ALLOW_METHODS,
        "GET, POST, PUT, PATCH, DELETE",
    ),
    (
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        "authorization, content-type, if-match, if-none-match, idempotency-key",
    ),
    (header::ACCESS_CONTROL_MAX_AGE, "600"),
];

/// What it may read beside the body.
const READABLE: &[(HeaderName, &str)] = &[(
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    "etag, location, retry-after, x-request-id, idempotency-replayed",
)];

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The request's id, as it is in the answer, the log and the audit log.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

/// Answers one request, whatever its handler does.
pub(crate) async fn answer(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    // whatever id the client sends: ours is unlike any other
    let id = api.next_request_id();
    request.extensions_mut().insert(RequestId(id.clone()));
    let method = request.method().clone();
    let route = route_of(&request);
    let shape = Shape::of(&request, &api);

    let mut response = match run(&api, &shape, request, next).await {
        Ok(response) => response,
        Err(Gone::Panicked) => {
            api.telemetry().panics.fetch_add(1, Ordering::Relaxed);
            error!(request = %id, %method, %route, "a handler panicked");
            internal().answer(&id)
        }
        Err(Gone::TooLong) => {
            warn!(request = %id, %method, %route, "a request took too long");
            took_too_long(&api).answer(&id)
        }
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        debug!(request = %id, %method, %route, problem = problem.detail(), "refused");
        response = with_headers_of(response, problem.answer(&id));
    }
    shape.seal(&mut response, &id);

    let status = response.status().as_u16();
    let took = started.elapsed();
    api.telemetry().count(method.as_str(), &route, status, took);
    debug!(request = %id, %method, %route, status, ?took, "answered");
    response
}

/// Why there is no answer of the handler.
enum Gone {
    Panicked,
    TooLong,
}

async fn run(api: &Api, shape: &Shape, request: Request, next: Next) -> Result<Response, Gone> {
    if shape.is_preflight {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let patience = match route_of(&request).as_str() {
        backups::STREAM => Duration::MAX,
        _ => api.limits().request_timeout,
    };
    let answered = timeout(patience, next.run(request));
    match AssertUnwindSafe(answered).catch_unwind().await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(_elapsed)) => Err(Gone::TooLong),
        Err(_panic) => Err(Gone::Panicked),
    }
}

fn route_of(request: &Request) -> String {
    request
        .extensions()
        .get::<MatchedPath>()
        .map_or(NO_ROUTE, MatchedPath::as_str)
        .to_owned()
}

/// `problem` with what the plain `response` said beside its status, such as
/// `Allow`.
fn with_headers_of(response: Response, mut problem: Response) -> Response {
    for (name, value) in response.headers() {
        if *name != header::CONTENT_LENGTH && *name != header::CONTENT_TYPE {
            problem.headers_mut().insert(name, value.clone());
        }
    }
    problem
}

/// What of a request shapes the headers of its answer, whatever that is.
struct Shape {
    is_tls: bool,
    /// The origin whose page may read the answer: one in the settings.
    origin: Option<HeaderValue>,
    /// A browser asks whether a page of that origin may send a request.
    is_preflight: bool,
}

impl Shape {
    fn of(request: &Request, api: &Api) -> Shape {
        let headers = request.headers();
        let known = &api.limits().cors_origins;
        let origin = headers
            .get(header::ORIGIN)
            .filter(|origin| {
                known
                    .iter()
                    .any(|known| known.as_bytes() == origin.as_bytes())
            })
            .cloned();
        let asks = headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        Shape {
            is_tls: matches!(request.extensions().get(), Some(Peer::Tls { .. })),
            is_preflight: origin.is_some() && asks && request.method() == Method::OPTIONS,
            origin,
        }
    }

    /// Headers that every answer has: nothing of it is for caches or frames, a
    /// browser shall not guess what it is, and no page of another origin reads
    /// it unless the settings say so. A handler's own policy for a page holds.
    fn seal(&self, response: &mut Response, id: &str) {
        let headers = response.headers_mut();
        let id = HeaderValue::from_str(id).expect("an id is letters and digits");
        headers.insert(REQUEST_ID, id);
        for (name, value) in SEALS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers
            .entry(header::CONTENT_SECURITY_POLICY)
            .or_insert(HeaderValue::from_static(NOTHING_BUT_DATA));
        if self.is_tls {
            let year = HeaderValue::from_static("max-age=31536000");
            headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
        }
        if let Some(origin) = &self.origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.append(header::VARY, HeaderValue::from_static("origin"));
            let more = if self.is_preflight {
                PREFLIGHT
            } else {
                READABLE
            };
            for (name, value) in more {
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
    }
}

fn internal() -> Problem {
    Problem::new(
        Kind::Internal,
        "a fault in the daemon ended this request; its log has more under the request's id",
    )
}

fn took_too_long(api: &Api) -> Problem {
    Problem::new(
        Kind::Unavailable,
        format!(
            "the request took longer than {:?}; whether it changed something is not known",
            api.limits().request_timeout
        ),
    )
}

/// For paths that no route has.
pub(crate) async fn no_such_path(request: Request) -> Problem {
    Problem::new(
        Kind::NotFound,
        format!(
            "there is nothing at {:?}; see /api/v1/openapi.json for what there is",
            request.uri().path()
        ),
    )
}

/// For routes that do not have the method.
pub(crate) async fn no_such_method(request: Request) -> Problem {
    Problem::new(
        Kind::MethodNotAllowed,
        format!(
            "{} cannot be used on {:?}; the Allow header says what can",
            request.method(),
            request.uri().path()
        ),
    )
}
