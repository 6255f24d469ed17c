//! Who gets in: between the request's id and its handler.
//!
//! [`gate`] says who asks, for every route at once; [`Guard`] says of each
//! route who may, and [`guard`] lets nobody else through. A route without a
//! guard cannot be added: see `router`. Attempts that are denied are written
//! into the audit log here, wherever in a handler it was that they were.

use std::sync::atomic::Ordering;
use std::time::Duration;

use access::{AccessError, Origin, Restriction, Shown, SignedHeader};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use model::{AuditDraft, AuditOutcome, By, Digest, Permission, TokenProof};
use serde_json::json;
use sha2::Digest as _;
use tracing::warn;

use crate::Api;
use crate::answer::RequestId;
use crate::caller::Caller;
use crate::problem::{Kind, Problem};
use crate::request::{Peer, buffered, patience};
use crate::{cookies, idempotency, proxies};

/// Characters of a path that are written down: who asks for what is not there
/// shall not fill the log.
const PATH_CHARS: usize = 256;

/// How long the body of somebody may take who has proved nothing yet: whether
/// the signature is theirs is known only with the body.
const UNPROVED_PATIENCE: Duration = Duration::from_secs(2);

/// What the network sees of an appliance that is not set up.
const BEFORE_SETUP: [&str; 7] = [
    "/health/live",
    "/health/ready",
    "/api/v1/status",
    "/api/v1/setup",
    "/setup",
    "/setup.js",
    "/setup.css",
];

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Everybody.
    Open,
    /// Everybody whom we know, for themselves; also those who have something
    /// to do before anything else.
    SelfService,
    /// Who has this permission somewhere; the handler looks where.
    Needs(Permission),
    /// Root, or the daemon's own user, on the machine itself.
    LocalRoot,
}

impl Guard {
    /// The word in the document: `x-permission`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Guard::Open => "open",
            Guard::SelfService => "self",
            Guard::Needs(permission) => permission.word(),
            Guard::LocalRoot => "local",
        }
    }

    fn check(self, caller: &Caller) -> Result<(), Problem> {
        if self == Guard::Open {
            return Ok(());
        }
        if caller.is_anonymous() {
            return Err(Problem::new(
                Kind::Unauthorized,
                "nobody is signed in: send an access token or a token as Authorization: Bearer …",
            ));
        }
        if self == Guard::SelfService {
            return Ok(());
        }
        if let Some(restriction) = caller.restricted {
            return Err(restricted(restriction));
        }
        match self {
            Guard::LocalRoot if !caller.is_local_root() => Err(Problem::forbidden(
                "this can be done on the machine itself alone, as root",
            )),
            Guard::Needs(permission) if !caller.holds(permission) => Err(Problem::forbidden(
                format!("this needs the permission {}", permission.word()),
            )),
            _ => Ok(()),
        }
    }
}

fn restricted(restriction: Restriction) -> Problem {
    let (kind, what) = match restriction {
        Restriction::MustChangePassword => (
            Kind::PasswordChangeRequired,
            "the password has to be changed first: PUT /api/v1/me/password",
        ),
        Restriction::MustEnrolTotp => (
            Kind::TotpRequired,
            "an authenticator has to be set up first: POST /api/v1/me/totp",
        ),
    };
    Problem::new(kind, what).denied(what)
}

/// What the guard of a route needs, beside the caller.
#[derive(Clone)]
struct Admitted {
    api: Api,
    /// The appliance is not set up, and this is what it shows to everybody.
    before_setup: bool,
    /// What was shown is no good. What is open to everybody is open to them
    /// too: to sign in, say, with a certificate that is nobody's here.
    refused: Option<Problem>,
    /// A page of others uses what the browser adds by itself: no route does
    /// anything for it.
    foreign: bool,
}

/// Finds out who asks, and writes down what was denied to them.
pub(crate) async fn gate(State(api): State<Api>, request: Request, next: Next) -> Response {
    let attempt = Attempt::of(&request, &api);
    match admit(&api, &attempt, request).await {
        Ok((caller, request)) => {
            let by = caller.by();
            let mut response = next.run(request).await;
            if let Some(problem) = response.extensions_mut().remove::<Problem>() {
                let problem = problem.without_what_is_hidden(&caller);
                response.extensions_mut().insert(problem);
            }
            attempt.note(&api, &by, &response);
            response
        }
        Err(problem) => {
            let response = problem.into_response();
            let by = By {
                actor: model::Actor::Anonymous,
                origin: attempt.origin.to_string(),
                request: attempt.origin.request.clone(),
            };
            attempt.note(&api, &by, &response);
            response
        }
    }
}

/// The caller, and the request with what handlers take from it.
async fn admit(
    api: &Api,
    attempt: &Attempt,
    request: Request,
) -> Result<(Caller, Request), Problem> {
    let mut before_setup = false;
    if attempt.is_from_network() && !api.access().is_set_up() {
        before_setup = true;
        if !BEFORE_SETUP.contains(&request.uri().path()) {
            return Err(AccessError::NotSetUp.into());
        }
    }
    let (found, mut request) = recognise(api, attempt, request).await?;
    let (who, refused) = match found {
        Ok(who) => (who, None),
        Err(error) => {
            let nobody = access::Caller::anonymous(&attempt.origin);
            (nobody, Some(Problem::from(error)))
        }
    };
    let foreign = !who.is_anonymous() && attempt.is_by_certificate_from_elsewhere(api, &request);
    let caller = Caller::new(who, attempt.origin.clone(), attempt.peer.clone());
    limit(api, attempt, &caller)?;
    request.extensions_mut().insert(caller.clone());
    request.extensions_mut().insert(Admitted {
        api: api.clone(),
        before_setup,
        refused,
        foreign,
    });
    Ok((caller, request))
}

/// Who shows what this request shows.
async fn recognise(
    api: &Api,
    attempt: &Attempt,
    request: Request,
) -> Result<(Result<access::Caller, AccessError>, Request), Problem> {
    let recognised =
        |shown: Shown<'_>| api.access().authenticate(shown, &attempt.origin, api.now());
    let refused = |why| Err(AccessError::BadToken { why });
    if matches!(attempt.peer, Peer::Plain { .. }) {
        return Ok((recognised(Shown::Nothing), request));
    }
    let Some(said) = authorization(request.headers()) else {
        let found = match &attempt.peer {
            Peer::User { uid, .. } => recognised(Shown::Local(*uid)),
            Peer::Tls {
                certificate: Some(certificate),
                ..
            } => recognised(Shown::Certificate(certificate)),
            Peer::Tls { .. } | Peer::Plain { .. } => recognised(Shown::Nothing),
        };
        return Ok((found, request));
    };
    let Ok(said) = said else {
        return Ok((
            refused("there is more than one Authorization, or it is not text"),
            request,
        ));
    };
    if let Some(token) = bearer(&said) {
        return Ok((recognised(Shown::Bearer(token)), request));
    }
    let Some(signed) = SignedHeader::parse(&said) else {
        return Ok((
            refused("Authorization has to be Bearer with a token, or SOTP-HMAC-SHA256"),
            request,
        ));
    };
    // whose key we do not know makes us read no body
    let people = api.store().people();
    let known = people
        .token(&model::TokenId(signed.key.to_owned()))
        .is_some_and(|token| matches!(token.proof, TokenProof::Hmac(_)));
    if !known {
        return Ok((refused("no such key"), request));
    }
    // nor does what is no good any more, whatever it says
    if let Err(error) = api.access().check_signed_time(signed.timestamp, api.now()) {
        return Ok((Err(error), request));
    }
    let read = {
        let who = attempt.origin.address.map(proxies::counted_by);
        let who = who.map_or(String::new(), |address| format!("address:{address}"));
        let _place = api.buffers().take(&who).await;
        buffered(request, api, patience(api).min(UNPROVED_PATIENCE)).await
    };
    let (request, body) = match read {
        Ok(read) => read,
        Err(problem) => {
            count_failure(api, attempt)?;
            return Err(problem);
        }
    };
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let found = recognised(Shown::Signed {
        header: signed,
        method: request.method().as_str(),
        target,
        body: Digest(sha2::Sha256::digest(&body).into()),
    });
    Ok((found, request))
}

/// The one `Authorization`, if there is any.
fn authorization(headers: &HeaderMap) -> Option<Result<String, ()>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let first = values.next()?;
    let only = values.next().is_none();
    let text = first.to_str().ok().filter(|_| only);
    Some(text.map(str::to_owned).ok_or(()))
}

fn bearer(said: &str) -> Option<&str> {
    let (scheme, token) = said.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// Requests of nobody, and those that fail, are counted by their address.
fn count_failure(api: &Api, attempt: &Attempt) -> Result<(), Problem> {
    let Some(address) = attempt.origin.address else {
        return Ok(());
    };
    let per_minute = api.limits().anonymous_per_minute;
    api.addresses()
        .take(proxies::counted_by(address), per_minute)
        .map_err(|wait| too_many(api, "address", per_minute, wait))
}

/// Whoever is known is counted by who they are; local processes are not.
fn limit(api: &Api, attempt: &Attempt, caller: &Caller) -> Result<(), Problem> {
    if matches!(attempt.peer, Peer::Plain { .. }) {
        return Ok(());
    }
    if caller.is_anonymous() {
        return count_failure(api, attempt);
    }
    if matches!(caller.actor, model::Actor::Local(_)) {
        return Ok(());
    }
    let per_minute = match &caller.token {
        Some(token) => token.requests_per_minute,
        None => api.limits().requests_per_minute,
    };
    api.principals()
        .take(caller.rate_key(), per_minute)
        .map_err(|wait| too_many(api, "principal", per_minute, wait))
}

fn too_many(api: &Api, by: &'static str, per_minute: u32, wait: Duration) -> Problem {
    api.telemetry().rate_limited(by);
    Problem::new(
        Kind::RateLimited,
        format!(
            "at most {per_minute} requests a minute are answered; wait as long as Retry-After says"
        ),
    )
    .retry_after(wait)
}

/// A request as the audit log has it.
struct Attempt {
    method: Method,
    /// The template, where there is such a route.
    route: String,
    path: String,
    origin: Origin,
    peer: Peer,
}

impl Attempt {
    fn of(request: &Request, api: &Api) -> Attempt {
        let extensions = request.extensions();
        let peer = extensions.get::<Peer>().cloned().unwrap_or(Peer::Plain {
            address: std::net::IpAddr::from([0, 0, 0, 0]),
        });
        let address = match &peer {
            Peer::User { .. } => None,
            Peer::Plain { address } => Some(*address),
            Peer::Tls { address, .. } => Some(proxies::client(
                *address,
                request.headers(),
                &api.limits().trusted_proxies,
            )),
        };
        let path: String = request.uri().path().chars().take(PATH_CHARS).collect();
        Attempt {
            method: request.method().clone(),
            route: extensions
                .get::<MatchedPath>()
                .map_or(path.clone(), |route| route.as_str().to_owned()),
            path,
            origin: Origin {
                address,
                request: extensions.get::<RequestId>().map(|id| id.0.clone()),
            },
            peer,
        }
    }

    /// Whether it would change something in the name of whom the browser has a
    /// certificate of, and a page of somebody else sends it (cross-site request
    /// forgery). A token is nothing that a browser adds by itself.
    fn is_by_certificate_from_elsewhere(&self, api: &Api, request: &Request) -> bool {
        let headers = request.headers();
        let by_certificate = matches!(
            self.peer,
            Peer::Tls {
                certificate: Some(_),
                ..
            }
        ) && !headers.contains_key(header::AUTHORIZATION);
        by_certificate
            && !self.method.is_safe()
            && cookies::comes_from_elsewhere(headers, &api.limits().cors_origins)
    }

    fn is_from_network(&self) -> bool {
        matches!(self.peer, Peer::Tls { .. })
    }

    /// Writes down an attempt that was denied. What is not there for somebody
    /// who only looks is no attempt at anything.
    fn note(&self, api: &Api, by: &By, response: &Response) {
        let Some(problem) = response.extensions().get::<Problem>() else {
            return;
        };
        api.telemetry().refused(problem.kind());
        let Some(why) = problem.why_denied() else {
            return;
        };
        if problem.kind() == Kind::NotFound && self.method.is_safe() {
            return;
        }
        api.telemetry().denied.fetch_add(1, Ordering::Relaxed);
        warn!(actor = %by.actor, origin = %by.origin, request = by.request, method = %self.method, path = ?self.path, why, "denied");
        let more = json!({"path": self.path, "status": response.status().as_u16()});
        let draft = AuditDraft {
            action: "access.denied".to_owned(),
            object: format!("request:{} {}", self.method, self.route),
            tenant: None,
            outcome: AuditOutcome::Denied(why.to_owned()),
            after: Some(more.to_string()),
        };
        api.store().try_note_audit(by, draft, api.now());
    }
}

/// Lets through whom `guard` lets through, and each POST with a key once.
pub(crate) async fn guard(guard: Guard, secret: bool, request: Request, next: Next) -> Response {
    let extensions = request.extensions();
    let admitted = extensions.get::<Admitted>().cloned();
    let caller = extensions.get::<Caller>().cloned();
    let (Some(admitted), Some(caller)) = (admitted, caller) else {
        let why = "the request did not come through the gate";
        return Problem::new(Kind::Internal, why).into_response();
    };
    if admitted.foreign {
        let why = "a page of another origin sends this, and the browser's certificate is for our own alone: send a token";
        return Problem::forbidden(why).into_response();
    }
    let is_open = guard == Guard::Open || admitted.before_setup;
    if let Some(refused) = admitted.refused.filter(|_| !is_open) {
        return refused.into_response();
    }
    if !is_open && let Err(problem) = guard.check(&caller) {
        return problem.into_response();
    }
    let storable = !secret && guard != Guard::Open;
    idempotency::once(&admitted.api, &caller, storable, request, next).await
}
