//! Around every handler: the request's id, the time it may take, what happens
//! if it panics, and counting it.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt;
use tokio::time::{Instant, timeout};
use tracing::{debug, error, warn};

use crate::Api;
use crate::problem::{Kind, Problem};

/// The route under which requests to unknown paths are counted.
const NO_ROUTE: &str = "none";

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

    let mut response = match run(&api, request, next).await {
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
    seal(&mut response, &id);

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

async fn run(api: &Api, request: Request, next: Next) -> Result<Response, Gone> {
    let answered = timeout(api.limits().request_timeout, next.run(request));
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

/// Headers that every answer has: nothing of it is for caches, and a browser
/// shall not guess what it is.
fn seal(response: &mut Response, id: &str) {
    let headers = response.headers_mut();
    let id = HeaderValue::from_str(id).expect("an id is letters and digits");
    headers.insert(REQUEST_ID, id);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
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
