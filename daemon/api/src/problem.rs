//! What goes wrong, as the client is told: problem documents (RFC 9457).
//!
//! A problem says what was tried, what stood in the way and what to do, and a
//! body with several mistakes has all of them in one answer.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::{Device, DeviceId};
use serde::Serialize;
use store::{ReadError, Refusal, WriteError};
use utoipa::ToSchema;

/// How long a client waits before it tries again after a 503.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// The kinds of problem: stable, each with its own status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    BadRequest,
    NotFound,
    MethodNotAllowed,
    TooSlow,
    Conflict,
    Precondition,
    BodyTooLarge,
    MediaType,
    Invalid,
    TooManyPoints,
    Internal,
    Unavailable,
}

impl Kind {
    /// Status, last part of the type, title.
    fn words(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Kind::BadRequest => (
                StatusCode::BAD_REQUEST,
                "bad-request",
                "The request cannot be understood",
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
    conflicts_with: Option<InTheWay>,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Problem {
        Problem {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            conflicts_with: None,
        }
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

    pub(crate) fn against(mut self, device: &Device) -> Problem {
        self.conflicts_with = Some(InTheWay {
            id: device.id.0,
            name: device.name.clone(),
        });
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
        let document = Document {
            kind: format!("/problems/{slug}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            instance,
            errors: &self.errors,
            conflicts_with: self.conflicts_with.as_ref(),
        };
        let body = serde_json::to_vec(&document).expect("a problem is plain text and numbers");
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, kind, body).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
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
    let against = |problem: Problem, id: DeviceId| match inventory.device(id) {
        Some(device) => problem.against(device),
        None => problem,
    };
    match refusal {
        Refusal::NoSuchDevice { .. }
        | Refusal::NoSuchRule { .. }
        | Refusal::NoSuchDelivery { .. } => Problem::new(Kind::NotFound, text),
        Refusal::NameTaken { by, .. } => {
            against(Problem::new(Kind::Conflict, text).at("/name"), *by)
        }
        Refusal::AddressTaken { by, .. } => {
            against(Problem::new(Kind::Conflict, text).at("/address"), *by)
        }
        Refusal::NoSuchParent { .. } | Refusal::ParentCycle { .. } => {
            Problem::new(Kind::Invalid, text).at("/parents")
        }
        Refusal::NoSuchCredential { .. } => Problem::new(Kind::Invalid, text).at("/credential"),
        Refusal::RevisionMismatch { .. } => Problem::new(Kind::Precondition, text),
        Refusal::CredentialInUse { .. }
        | Refusal::NotDeleted { .. }
        | Refusal::Deleted { .. }
        | Refusal::RuleFromFile { .. }
        | Refusal::NotParked { .. }
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
