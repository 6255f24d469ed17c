//! A POST that is done once however often it is sent: with an
//! `Idempotency-Key`, who did not hear the answer gets it again.
//!
//! Only answers to requests that did something are kept: a refused one changed
//! nothing and may be sent again. Answers that are too long are not kept; the
//! one route that has such (the import) refuses what is there already.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};
use model::Digest;
use sha2::Digest as _;
use store::{KEEP_ANSWERS, MAX_ANSWER_BYTES, StoredAnswer};
use tracing::{error, warn};

use crate::Api;
use crate::caller::Caller;
use crate::problem::{Kind, Problem};
use crate::request::{buffered, patience};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Says that an answer is one that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Bytes of a key.
const KEY_BYTES: usize = 255;

/// Headers of an answer that belong to it and not to the request.
const KEPT_HEADERS: [HeaderName; 3] = [header::CONTENT_TYPE, header::ETAG, header::LOCATION];

/// Requests with a key that are being done.
#[derive(Clone, Default)]
pub(crate) struct InFlight(Arc<Mutex<HashSet<Digest>>>);

/// One of them; it is over when this is dropped.
struct Place {
    all: InFlight,
    key: Digest,
}

impl InFlight {
    fn begin(&self, key: Digest) -> Option<Place> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(key).then(|| Place {
            all: self.clone(),
            key,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&self.key);
    }
}

/// Runs the handler, once for each key. `storable`: whether its answer may be
/// kept.
pub(crate) async fn once(
    api: &Api,
    caller: &Caller,
    storable: bool,
    request: Request,
    next: Next,
) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(KEY) {
        return next.run(request).await;
    }
    match keyed(api, caller, storable, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn keyed(
    api: &Api,
    caller: &Caller,
    storable: bool,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let key = read_key(request.headers())?;
    if !storable {
        return Err(Problem::new(
            Kind::BadRequest,
            "Idempotency-Key cannot be used here: the answer is not kept; send the request without it",
        ));
    }
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let method = request.method().as_str();
    let said = key;
    let key = digest(&[&caller.rate_key(), method, target, &said].map(str::as_bytes));

    let _buffer = api.buffers().take(&caller.rate_key()).await;
    let (request, body) = buffered(request, api, patience(api)).await?;
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.map_or(&b""[..], HeaderValue::as_bytes);
    let sent = of_body(&said, kind, &body);

    let Some(place) = api.in_flight().begin(key) else {
        return Err(Problem::new(
            Kind::Conflict,
            "a request with this Idempotency-Key is being done; wait for its answer",
        ));
    };
    let known = api.store().idempotent(&key);
    if let Some(answer) = known.filter(|answer| api.now().since(answer.at) < KEEP_ANSWERS) {
        return replay(&answer, sent);
    }
    // what was begun is kept even if the client goes away meanwhile
    let keeper = api.clone();
    let done = tokio::spawn(async move {
        let response = next.run(request).await;
        let response = keep(&keeper, key, sent, response).await;
        drop(place);
        response
    });
    done.await.map_err(|fault| {
        api.telemetry().panics.fetch_add(1, Ordering::Relaxed);
        error!(%fault, "a handler ended by a fault");
        Problem::new(
            Kind::Internal,
            "a fault in the daemon ended this request; its log has more under the request's id",
        )
    })
}

fn read_key(headers: &HeaderMap) -> Result<String, Problem> {
    let mut keys = headers.get_all(KEY).iter();
    let key = keys.next().and_then(|key| key.to_str().ok());
    let is_good = |key: &&str| {
        (1..=KEY_BYTES).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match (key.filter(is_good), keys.next()) {
        (Some(key), None) => Ok(key.to_owned()),
        _ => Err(Problem::new(
            Kind::BadRequest,
            format!(
                "Idempotency-Key has to be one text of 1 to {KEY_BYTES} visible ASCII characters"
            ),
        )),
    }
}

/// SHA-256 over the parts and where they end.
fn digest(parts: &[&[u8]]) -> Digest {
    let mut hash = sha2::Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Digest(hash.finalize().into())
}

/// What is kept of a body: with the key, which is kept nowhere, so that who
/// reads the store cannot try out which body it was.
fn of_body(key: &str, kind: &[u8], body: &[u8]) -> Digest {
    digest(&[key.as_bytes(), kind, body])
}

fn replay(answer: &StoredAnswer, sent: Digest) -> Result<Response, Problem> {
    if answer.request != sent {
        return Err(Problem::new(
            Kind::KeyReused,
            "this Idempotency-Key was used with another body; use a new one for each request",
        ));
    }
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = (status, Body::from(answer.body.clone())).into_response();
    for (name, value) in &answer.headers {
        let name = HeaderName::try_from(name.as_str());
        let value = HeaderValue::try_from(value.as_str());
        if let (Ok(name), Ok(value)) = (name, value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
        .headers_mut()
        .insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

/// Keeps the answer of a request that did something.
async fn keep(api: &Api, key: Digest, sent: Digest, response: Response) -> Response {
    if !response.status().is_success() {
        return response;
    }
    let (parts, body) = response.into_parts();
    // our own answers are in memory already
    let Ok(body) = Limited::new(body, usize::MAX).collect().await else {
        return Problem::new(Kind::Internal, "the answer ended by a fault").into_response();
    };
    let body = body.to_bytes();
    if body.len() < MAX_ANSWER_BYTES {
        let headers = KEPT_HEADERS.iter().filter_map(|name| {
            let value = parts.headers.get(name)?.to_str().ok()?;
            Some((name.as_str().to_owned(), value.to_owned()))
        });
        let now = api.now();
        let answer = StoredAnswer {
            request: sent,
            status: parts.status.as_u16(),
            headers: headers.collect(),
            body: body.to_vec(),
            at: now,
        };
        if let Err(error) = api.store().put_idempotent(key, answer, now).await {
            warn!(%error, "an answer is not kept: {error}");
        }
    }
    Response::from_parts(parts, Body::from(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_body_under_two_keys_looks_like_two_bodies() {
        let kept = |key| of_body(key, b"application/json", b"{}");
        assert_eq!(kept("one"), kept("one"));
        assert_ne!(kept("one"), kept("two"));
    }
}
