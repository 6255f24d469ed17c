//! What goes wrong, as the client is told: problem documents (RFC 9457).
//!
//! A problem says what was tried, what stood in the way and what to do, and a
//! body with several mistakes has all of them in one answer.

use std::sync::Arc;
use std::time::Duration;

use access::AccessError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::{Device, DeviceId};
use secrets::SecretsError;
use serde::Serialize;
use store::{ReadError, Refusal, WriteError};
use utoipa::ToSchema;

use crate::caller::Caller;

/// How long a client waits before it tries again after a 503 or 429 that says
/// no other span.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What a client without a credential, or with a wrong one, can show instead.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"sotp\"");

/// Characters of what was sent that a refusal repeats.
const QUOTED_CHARS: usize = 200;

/// Characters of one text of a refusal: longer than any of ours, if it repeats
/// no more than it may.
const TEXT_CHARS: usize = 800;

/// Bytes that the mistakes of one refusal may take; those after are not named.
const MISTAKES_BYTES: usize = 5_000;

/// The kinds of problem: stable, each with its own status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    BadRequest,
    /// Nobody that we know asks.
    Unauthorized,
    /// They may not.
    Forbidden,
    /// They have to choose another password first.
    PasswordChangeRequired,
    /// They have to set up codes first.
    TotpRequired,
    /// The password was right, and a code is needed too.
    CodeNeeded,
    NotFound,
    MethodNotAllowed,
    TooSlow,
    Conflict,
    Precondition,
    /// A change does not say which revision it is meant for.
    PreconditionRequired,
    /// The same Idempotency-Key with another body.
    KeyReused,
    BodyTooLarge,
    MediaType,
    Invalid,
    TooManyPoints,
    TooManySeries,
    /// Too many requests.
    RateLimited,
    Internal,
    Unavailable,
    /// There is no administrator yet.
    NotSetUp,
}

impl Kind {
    /// The last part of the type.
    pub(crate) fn slug(self) -> &'static str {
        self.words().1
    }

    /// Status, last part of the type, title.
    fn words(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Kind::BadRequest => (
                StatusCode::BAD_REQUEST,
                "bad-request",
                "The request cannot be understood",
            ),
            Kind::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "Sign in first"),
            Kind::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "You may not do this"),
            Kind::PasswordChangeRequired => (
                StatusCode::FORBIDDEN,
                "password-change-required",
                "Choose another password first",
            ),
            Kind::TotpRequired => (
                StatusCode::FORBIDDEN,
                "totp-required",
                "Set up an authenticator first",
            ),
            Kind::CodeNeeded => (
                StatusCode::UNAUTHORIZED,
                "code-needed",
                "A code is needed too",
            ),
            Kind::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing"),
            Kind::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "The path does not take this method",
            ),
            Kind::TooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                "too-slow",
                "The body did not arrive in time",
            ),
            Kind::Conflict => (
                StatusCode::CONFLICT,
                "conflict",
                "It is in the way of something that exists",
            ),
            Kind::Precondition => (
                StatusCode::PRECONDITION_FAILED,
                "changed-meanwhile",
                "It was changed meanwhile",
            ),
            Kind::PreconditionRequired => (
                StatusCode::PRECONDITION_REQUIRED,
                "precondition-required",
                "Say which revision is to be changed",
            ),
            Kind::KeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "The Idempotency-Key was used for something else",
            ),
            Kind::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                "The body is too large",
            ),
            Kind::MediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "media-type",
                "The body is of a type that is not taken here",
            ),
            Kind::Invalid => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid",
                "The content has mistakes",
            ),
            Kind::TooManyPoints => (
                StatusCode::BAD_REQUEST,
                "too-many-points",
                "The range has too many points",
            ),
            Kind::TooManySeries => (
                StatusCode::BAD_REQUEST,
                "too-many-series",
                "Too many series are selected",
            ),
            Kind::RateLimited => (
                StatusCode::TOO_MANY_REQUESTS,
                "rate-limited",
                "Too many requests",
            ),
            Kind::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "The daemon has a fault",
            ),
            Kind::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "The daemon cannot do this now",
            ),
            Kind::NotSetUp => (
                StatusCode::SERVICE_UNAVAILABLE,
                "not-set-up",
                "The appliance is not set up",
            ),
        }
    }
}

/// One mistake in what the client sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Mistake {
    /// Where in the body: a JSON pointer (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pointer: Option<String>,
    /// Which query parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parameter: Option<String>,
    /// What is wrong, and what would be right.
    pub(crate) message: String,
}

/// What is in the way of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct InTheWay {
    /// The other device's id.
    pub(crate) id: u64,
    /// The other device's name.
    pub(crate) name: String,
}

/// A problem document (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Document<'a> {
    /// What kind of problem: a stable, relative reference.
    #[serde(rename = "type")]
    kind: String,
    /// The kind in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What happened this time, and what to do.
    detail: &'a str,
    /// The request's id, as in the log and in `x-request-id`.
    instance: &'a str,
    /// Every mistake in the body or the query.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Mistake],
    /// The device that already has the name or the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    conflicts_with: Option<&'a InTheWay>,
}

/// What went wrong with a request.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    errors: Vec<Mistake>,
    in_the_way: Option<Arc<Device>>,
    /// What `detail` becomes for who does not see all the devices it names.
    discreet: Option<Box<Discreet>>,
    retry_after: Option<Duration>,
    denied: Option<String>,
}

/// A problem whose text names devices.
#[derive(Clone, Debug)]
struct Discreet {
    /// Those devices; `None`: one that is not there any more.
    named: Vec<Option<Arc<Device>>>,
    /// The text without them.
    detail: String,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Problem {
        Problem {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            in_the_way: None,
            discreet: None,
            retry_after: None,
            denied: None,
        }
    }

    /// Something that the caller may not do; it is written into the audit log.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Problem {
        let detail = detail.into();
        Problem {
            denied: Some(detail.clone()),
            ..Problem::new(Kind::Forbidden, detail)
        }
    }

    /// Something that is there, but not for the caller: to them it looks like
    /// any other thing that is not there.
    pub(crate) fn hidden(what: &str, asked: &str) -> Problem {
        Problem {
            denied: Some(format!("the {what} is out of the caller's sight")),
            ..Problem::not_found(what, asked)
        }
    }

    /// The same problem as an attempt that was denied for the reason `why`, to
    /// be written into the audit log.
    pub(crate) fn denied(mut self, why: impl Into<String>) -> Problem {
        self.denied = Some(why.into());
        self
    }

    /// Why the attempt was denied, if it was.
    pub(crate) fn why_denied(&self) -> Option<&str> {
        self.denied.as_deref()
    }

    /// What kind of problem it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The same problem, worth another try after `wait`.
    pub(crate) fn retry_after(mut self, wait: Duration) -> Problem {
        self.retry_after = Some(wait);
        self
    }

    pub(crate) fn not_found(what: &str, asked: &str) -> Problem {
        Problem::new(Kind::NotFound, format!("there is no {what} {asked:?}"))
    }

    /// A body or a query with these mistakes in it.
    pub(crate) fn with_errors(mut self, errors: Vec<Mistake>) -> Problem {
        self.errors = errors;
        self
    }

    /// The same problem with the place in the body that it is about.
    pub(crate) fn at(mut self, pointer: &str) -> Problem {
        self.errors.push(Mistake {
            pointer: Some(pointer.to_owned()),
            parameter: None,
            message: self.detail.clone(),
        });
        self
    }

    pub(crate) fn against(mut self, device: &Arc<Device>) -> Problem {
        self.in_the_way = Some(Arc::clone(device));
        self
    }

    /// The same problem, whose text names these devices, with what it says to
    /// who does not see all of them.
    fn naming(mut self, named: Vec<Option<Arc<Device>>>, otherwise: impl Into<String>) -> Problem {
        self.discreet = Some(Box::new(Discreet {
            named,
            detail: otherwise.into(),
        }));
        self
    }

    /// The same problem without the devices that are in the way, if the caller
    /// does not see them: that there are some has to be said, which has not.
    /// The gate does this with every answer.
    pub(crate) fn without_what_is_hidden(mut self, caller: &Caller) -> Problem {
        let Some(discreet) = self.discreet.take() else {
            return self;
        };
        let sees = |device: &Option<Arc<Device>>| device.as_ref().is_some_and(|d| caller.sees(d));
        if discreet.named.iter().all(sees) {
            return self;
        }
        self.in_the_way = None;
        self.detail = discreet.detail;
        for error in &mut self.errors {
            error.message.clone_from(&self.detail);
        }
        self
    }

    /// The first place that the problem is about, if it names one.
    pub(crate) fn into_mistake(self) -> Option<Mistake> {
        self.errors.into_iter().next()
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The answer that carries this problem for the request called `instance`.
    pub(crate) fn answer(&self, instance: &str) -> Response {
        let (status, slug, title) = self.kind.words();
        let detail = shortened(&self.detail);
        let errors = worth_naming(&self.errors);
        let conflicts_with = self.in_the_way.as_ref().map(|device| InTheWay {
            id: device.id.0,
            name: device.name.clone(),
        });
        let document = Document {
            kind: format!("/problems/{slug}"),
            title,
            status: status.as_u16(),
            detail: &detail,
            instance,
            errors: &errors,
            conflicts_with: conflicts_with.as_ref(),
        };
        let body = serde_json::to_vec(&document).expect("a problem is plain text and numbers");
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, kind, body).into_response();
        let later = matches!(
            status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        );
        if let Some(wait) = self.retry_after.or(later.then_some(RETRY_AFTER)) {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let value = HeaderValue::from(seconds.max(1));
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, CHALLENGE);
        }
        response
    }
}

/// As many of the mistakes as one answer has room for, at least one.
fn worth_naming(mistakes: &[Mistake]) -> Vec<Mistake> {
    let mut bytes = 0;
    let short = mistakes.iter().map(|mistake| Mistake {
        pointer: mistake.pointer.as_deref().map(quoted),
        parameter: mistake.parameter.as_deref().map(quoted),
        message: shortened(&mistake.message),
    });
    let mut named: Vec<Mistake> = Vec::new();
    for mistake in short {
        bytes += serde_json::to_vec(&mistake).map_or(0, |text| text.len());
        if bytes > MISTAKES_BYTES && !named.is_empty() {
            break;
        }
        named.push(mistake);
    }
    named
}

/// What somebody sent, as far as a refusal repeats it.
pub(crate) fn quoted(sent: &str) -> String {
    match sent.char_indices().nth(QUOTED_CHARS - 1) {
        Some((end, last)) if end + last.len_utf8() < sent.len() => format!("{}…", &sent[..end]),
        _ => sent.to_owned(),
    }
}

/// `text` with what it repeats cut: what stands in quotes, and what has no
/// space in it. Ours is short.
pub(crate) fn shortened(text: &str) -> String {
    let mut short = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(piece_of(rest));
        short.push_str(&quoted(piece));
        rest = after;
    }
    match short.char_indices().nth(TEXT_CHARS) {
        Some((end, _)) => format!("{}…", &short[..end]),
        None => short,
    }
}

/// How long the piece is that `text` begins with: something in quotes with
/// what is escaped in it, spaces, or what is neither.
fn piece_of(text: &str) -> usize {
    let Some(inside) = text.strip_prefix('"') else {
        let spaces = text.starts_with(' ');
        let end = text.find(|c: char| c == '"' || (c == ' ') != spaces);
        return end.unwrap_or(text.len());
    };
    let mut escaped = false;
    for (place, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            // the quote before and this one
            '"' => return place + 2,
            _ => {}
        }
    }
    text.len()
}

/// Handlers return a problem without knowing their request's id: it travels as
/// an extension and `answer` writes it.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, _, _) = self.kind.words();
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// What a refused write means for the client. `devices` finds the device that
/// is in the way.
pub(crate) fn refused(refusal: &Refusal, inventory: &store::Inventory) -> Problem {
    let text = refusal.to_string();
    let found = |id: DeviceId| inventory.device(id).cloned();
    let against = |problem: Problem, id: DeviceId| {
        let problem = match inventory.device(id) {
            Some(device) => problem.against(device),
            None => problem,
        };
        let otherwise =
            "another device of the tenant, which you do not see, has it; choose another";
        problem.naming(vec![found(id)], otherwise)
    };
    match refusal {
        Refusal::NoSuchDevice { .. }
        | Refusal::NoSuchRule { .. }
        | Refusal::NoSuchDelivery { .. }
        | Refusal::NoSuch { .. } => Problem::new(Kind::NotFound, text),
        Refusal::NameTaken { by, .. } => {
            against(Problem::new(Kind::Conflict, text).at("/name"), *by)
        }
        Refusal::AddressTaken { by, .. } => {
            against(Problem::new(Kind::Conflict, text).at("/address"), *by)
        }
        Refusal::NoSuchParent { id } | Refusal::ParentCycle { id } => {
            let otherwise =
                "one of its parents, which you do not see, is deleted or leads back to the device";
            let problem = Problem::new(Kind::Invalid, text).at("/parents");
            problem.naming(vec![found(*id)], otherwise)
        }
        Refusal::NoSuchCredential { .. } => Problem::new(Kind::Invalid, text).at("/credential"),
        Refusal::NoSuchTenant { .. } => Problem::new(Kind::Invalid, text).at("/tenant"),
        Refusal::OtherTenant { what, name, .. } => {
            let (place, is_device) = match *what {
                "parent" => ("/parents", true),
                "secret" => ("/secret", false),
                "credential" => ("/credential", false),
                // a device behind it
                _ => ("/tenant", true),
            };
            let problem = Problem::new(Kind::Invalid, text).at(place);
            let otherwise =
                "a device before or behind it, which you do not see, is of another tenant";
            let id = name.parse().ok().filter(|_| is_device);
            match is_device {
                true => problem.naming(vec![id.and_then(|id| found(DeviceId(id)))], otherwise),
                false => problem,
            }
        }
        Refusal::BadName { .. } => Problem::new(Kind::Invalid, text).at("/name"),
        Refusal::NameExists { .. } => Problem::new(Kind::Conflict, text).at("/name"),
        Refusal::CertificateTaken { .. } => Problem::new(Kind::Conflict, text).at("/certificate"),
        Refusal::SubjectTaken { .. } => Problem::new(Kind::Conflict, text).at("/oidc"),
        Refusal::RevisionMismatch { .. } => Problem::new(Kind::Precondition, text),
        Refusal::CredentialInUse { name, ids, .. } => {
            let named = ids.iter().map(|id| found(*id));
            let otherwise = format!(
                "the credential \"{name}\" is used by devices, of which you do not see all; give them another one first"
            );
            Problem::new(Kind::Conflict, text).naming(named.collect(), otherwise)
        }
        Refusal::NotDeleted { .. }
        | Refusal::Deleted { .. }
        | Refusal::RuleFromFile { .. }
        | Refusal::NotParked { .. }
        | Refusal::AlreadySetUp
        | Refusal::LastAdmin
        | Refusal::SecretInUse { .. }
        | Refusal::KeyInUse { .. }
        | Refusal::KeyNotInRing { .. }
        | Refusal::TenantInUse { .. }
        | Refusal::DefaultTenant
        | Refusal::Quota { .. }
        | Refusal::TooMany { .. } => Problem::new(Kind::Conflict, text),
    }
}

/// What a failed write means for the client.
pub(crate) fn not_written(error: &WriteError, inventory: &store::Inventory) -> Problem {
    match error {
        WriteError::Refused(refusal) => refused(refusal, inventory),
        WriteError::NotWriting { .. } | WriteError::Closed => {
            Problem::new(Kind::Unavailable, error.to_string())
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Problem {
        tracing::error!(%error, "cannot read the store: {error}");
        Problem::new(Kind::Internal, error.to_string())
    }
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Problem {
        let text = error.to_string();
        let denied = |kind| Problem::new(kind, text.clone()).denied(text.clone());
        match error {
            AccessError::NotSetUp => Problem::new(Kind::NotSetUp, text),
            AccessError::SetupToken
            | AccessError::BadToken { .. }
            | AccessError::Expired
            | AccessError::Revoked
            | AccessError::Oidc { .. } => denied(Kind::Unauthorized),
            // access writes these down itself
            AccessError::Refused | AccessError::Reused => Problem::new(Kind::Unauthorized, text),
            AccessError::CodeNeeded => Problem::new(Kind::CodeNeeded, text),
            AccessError::TooSoon { wait } => {
                Problem::new(Kind::RateLimited, text).retry_after(wait)
            }
            AccessError::TooBusy => {
                Problem::new(Kind::Unavailable, text).retry_after(Duration::from_secs(1))
            }
            AccessError::NotAllowed { .. } => denied(Kind::Forbidden),
            AccessError::WeakPassword { .. } | AccessError::Invalid { .. } => {
                Problem::new(Kind::Invalid, text)
            }
            AccessError::NotFound { .. } | AccessError::OidcOff => {
                Problem::new(Kind::NotFound, text)
            }
            AccessError::AlreadySetUp | AccessError::TotpIsOn | AccessError::TotpIsOff => {
                Problem::new(Kind::Conflict, text)
            }
            AccessError::OidcUnavailable { .. } => Problem::new(Kind::Unavailable, text),
            AccessError::Settings { .. } => Problem::new(Kind::Internal, text),
            AccessError::Store(error) => not_written(&error, &store::Inventory::default()),
            AccessError::Secrets(error) => error.into(),
        }
    }
}

impl From<SecretsError> for Problem {
    fn from(error: SecretsError) -> Problem {
        let text = error.to_string();
        match error {
            SecretsError::NoSuchSecret { .. } | SecretsError::NoSuchVersion { .. } => {
                Problem::new(Kind::NotFound, text)
            }
            SecretsError::BadName { .. } | SecretsError::BadValue { .. } => {
                Problem::new(Kind::Invalid, text)
            }
            SecretsError::NoNewKey
            | SecretsError::SameKey { .. }
            | SecretsError::Conflict { .. }
            | SecretsError::RotationRunning { .. } => Problem::new(Kind::Conflict, text),
            SecretsError::Unavailable { .. }
            | SecretsError::Vault { .. }
            | SecretsError::Settings { .. }
            | SecretsError::WrongKey { .. }
            | SecretsError::Damaged { .. } => {
                tracing::warn!(%error, "a secret cannot be used: {error}");
                Problem::new(Kind::Unavailable, text)
            }
            SecretsError::Store(error) => not_written(&error, &store::Inventory::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_repeats_little_of_what_was_sent_and_keeps_what_it_says_about_it() {
        let long = "x y".repeat(100_000);
        let short = shortened(&format!("there is no device {long:?}; choose another"));
        assert!(short.starts_with("there is no device \"x yx"), "{short}");
        assert!(short.ends_with("…; choose another"), "{short}");
        assert!(short.chars().count() < 250, "{short}");

        let quotes = "\"\\".repeat(1_000);
        let short = shortened(&format!("{quotes:?} is wrong"));
        assert!(short.ends_with("… is wrong"), "{short}");
        let number = shortened(&format!("{} is not a port", "7".repeat(1_000)));
        assert_eq!(number, format!("{}… is not a port", "7".repeat(199)));
        let many = shortened(&"ä ".repeat(1_000));
        assert_eq!(many.chars().count(), 801);

        let plain = "unknown word \"a\\\"b\": known are up, down (\"ä\")";
        assert_eq!(shortened(plain), plain);
        assert_eq!(quoted(&"ä".repeat(200)), "ä".repeat(200));
        assert_eq!(quoted(&"ä".repeat(201)).chars().count(), 200);
    }
}
