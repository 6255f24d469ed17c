//! Signing in, staying signed in, and who is signed in.

use std::time::Duration;

use access::{AccessError, Granted, LogIn, SecretText};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use model::{Permission, SessionId, SessionRecord, Timestamp};
use serde::Serialize;
use serde_json::Value;
use store::{Refusal, WriteError};
use utoipa::ToSchema;

use crate::Api;
use crate::caller::Caller;
use crate::cookies::{self, SameSite};
use crate::mistakes::{Mistakes, Object};
use crate::problem::{Kind, Problem};
use crate::query::{self, Query};
use crate::request::{Json, JsonAnswer, MaybeJson, Path};
use crate::sorted::{Cut, Sorted, time_key};
use crate::users::password;

/// Bytes that are kept of what a program says of itself.
const AGENT_BYTES: usize = 200;

/// Bytes of a name or a code that somebody signs in with.
pub(crate) const TYPED_BYTES: usize = 256;

/// Bytes of a refresh token: ours are far shorter.
pub(crate) const TOKEN_BYTES: usize = 512;

/// When somebody tries again who came when there were too many sessions.
const FULL_FOR: Duration = Duration::from_secs(60);

/// What a list of sessions is sorted by.
pub(crate) const SORTS: [&str; 4] = ["user", "created", "used", "expires"];

/// What a list of one's own sessions is sorted by.
pub(crate) const OWN_SORTS: [&str; 3] = ["created", "used", "expires"];

/// What somebody signs in with.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes in the document what `read` reads")]
pub(crate) struct SignInBody {
    /// The user's name.
    #[schema(example = "jane")]
    user: String,
    /// The password.
    #[schema(write_only)]
    password: String,
    /// The code of the authenticator, or a recovery code: needed by who has
    /// set one up.
    #[schema(write_only, example = "123456")]
    code: Option<String>,
    /// For browsers: keep the refresh token in a cookie that no script can
    /// read, instead of in the answer.
    cookie: Option<bool>,
}

/// The refresh token; who keeps it in the cookie sends none.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes in the document what is read")]
pub(crate) struct RefreshBody {
    /// The refresh token of the last answer; it is good once.
    #[schema(write_only)]
    refresh_token: Option<String>,
}

/// What somebody gets who is let in.
#[derive(Serialize, ToSchema)]
pub(crate) struct GrantedView {
    /// `Authorization: Bearer <access_token>`.
    access_token: String,
    /// Bearer.
    token_type: &'static str,
    /// Seconds for which the access token is good.
    #[schema(example = 300)]
    expires_in: u64,
    /// To be exchanged for the next access token, once; null if it is in the
    /// cookie, or if another tab of the same browser has just exchanged it.
    refresh_token: Option<String>,
    /// The session's number.
    session: String,
    /// Who.
    user: String,
    /// What they have to do before anything else:
    /// password-change-required or totp-required; null: nothing.
    restricted: Option<&'static str>,
}

/// Somebody who is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionView {
    /// The session's number.
    id: String,
    /// Who.
    user: String,
    /// password, password+totp or oidc.
    how: &'static str,
    /// From which address; `socket` for a local process.
    origin: String,
    /// With which program, as it says itself.
    agent: Option<String>,
    /// Since when.
    created: String,
    /// When it was last refreshed.
    used: String,
    /// When it ends, whatever happens.
    expires: String,
    /// Whether it is the one that asks.
    current: bool,
}

/// One page of sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionList {
    /// The sessions, in order.
    items: Vec<SessionView>,
    /// `cursor` of the next page; null on the last one.
    next: Option<String>,
    /// How many the filters leave, on all pages.
    total: usize,
}

impl SessionView {
    fn of(session: &SessionRecord, caller: &Caller) -> SessionView {
        SessionView {
            id: session.id.to_string(),
            user: session.user.to_string(),
            how: session.how.word(),
            origin: session.origin.clone(),
            agent: session.agent.clone(),
            created: session.created.to_string(),
            used: session.used.to_string(),
            expires: session.expires.to_string(),
            current: caller.session.as_ref() == Some(&session.id),
        }
    }
}

/// How a refresh token travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    Body,
    Cookie,
}

/// The answer to somebody who is let in.
fn granted(status: StatusCode, granted: &Granted, carrier: Carrier) -> Response {
    let refresh = granted.refresh_token.as_ref().map(SecretText::expose);
    let view = GrantedView {
        access_token: granted.access_token.expose().to_owned(),
        token_type: "Bearer",
        expires_in: granted.expires_in.as_secs(),
        refresh_token: refresh
            .filter(|_| carrier == Carrier::Body)
            .map(str::to_owned),
        session: granted.session.to_string(),
        user: granted.user.name.to_string(),
        restricted: granted.restricted.map(access::Restriction::word),
    };
    let answer = (status, JsonAnswer(view));
    match refresh.filter(|_| carrier == Carrier::Cookie) {
        Some(token) => ([refresh_cookie(token)], answer).into_response(),
        None => answer.into_response(),
    }
}

/// The header that keeps a refresh token in the browser.
pub(crate) fn refresh_cookie(token: &str) -> (axum::http::HeaderName, axum::http::HeaderValue) {
    cookies::set(cookies::REFRESH, token, SameSite::Strict, None)
}

/// What the program that asks says of itself.
pub(crate) fn agent(headers: &HeaderMap) -> Option<String> {
    let said = headers.get(header::USER_AGENT)?.to_str().ok()?;
    let agent: String = said
        .chars()
        .filter(|c| !c.is_control())
        .take(AGENT_BYTES)
        .collect();
    (!agent.is_empty()).then_some(agent)
}

/// Signs in with a password, and a code where one is needed.
///
/// Whether the user, the password or the code is wrong is not said. After
/// failed attempts nothing is looked at for a while, which grows; `Retry-After`
/// says how long.
#[utoipa::path(
    post,
    path = "/sessions",
    tag = "access",
    request_body = SignInBody,
    responses(
        (status = 201, description = "They are signed in; with `cookie` the refresh token is in a cookie", body = GrantedView, headers(("Set-Cookie" = Option<String>, description = "`__Host-sotp-refresh`: Secure, HttpOnly, SameSite=Strict"))),
        (status = 401, description = "User, password or code is wrong, or a code is needed too (`/problems/code-needed`)"),
        (status = 422, description = "The body has mistakes: all are named"),
        (status = 429, description = "Too many attempts failed: see Retry-After"),
        (status = 503, description = "Too many people sign in at this moment or are signed in, or the appliance is not set up: see Retry-After"),
    )
)]
pub(crate) async fn create_session(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
    Json(body): Json,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    let (ask, carrier) = read(&body, agent(&headers))?;
    let let_in = api
        .access()
        .log_in(ask, caller.origin(), api.now())
        .await
        .map_err(not_let_in)?;
    Ok(granted(StatusCode::CREATED, &let_in, carrier))
}

/// What an attempt to sign in means that came to nothing. That there are too
/// many sessions is no fault of whoever comes next: some of them will end.
pub(crate) fn not_let_in(error: AccessError) -> Problem {
    match error {
        AccessError::Store(WriteError::Refused(full @ Refusal::TooMany { .. })) => {
            Problem::new(Kind::Unavailable, full.to_string()).retry_after(FULL_FOR)
        }
        other => other.into(),
    }
}

fn read(body: &Value, agent: Option<String>) -> Result<(LogIn, Carrier), Problem> {
    let mistakes = Mistakes::default();
    let known = ["user", "password", "code", "cookie"];
    let ask = Object::read(body, "", &known, &mistakes).and_then(|body| {
        let user = typed(&body, "user");
        let word = password(&body, "password");
        for field in ["user", "password"] {
            if !body.has(field) {
                body.wrong(field, format!("{field} is missing"));
            }
        }
        let code = typed(&body, "code");
        let carrier = match body.flag("cookie") {
            Some(true) => Carrier::Cookie,
            _ => Carrier::Body,
        };
        let ask = LogIn {
            user: user?.to_owned(),
            password: SecretText::new(word?.to_owned()),
            code: code.map(str::to_owned),
            agent,
        };
        Some((ask, carrier))
    });
    mistakes.or(Kind::Invalid, ask)
}

/// A name or a code as somebody typed it.
pub(crate) fn typed<'b>(body: &Object<'b>, field: &str) -> Option<&'b str> {
    let text = body.text(field)?;
    if text.len() > TYPED_BYTES {
        body.wrong(field, format!("{field} has at most {TYPED_BYTES} bytes"));
    }
    Some(text)
}

/// Exchanges a refresh token for the next access token.
///
/// A refresh token is good once. Who shows one that was exchanged before has a
/// copy, or somebody else has: the session ends.
#[utoipa::path(
    post,
    path = "/sessions/refresh",
    tag = "access",
    request_body(content = Option<RefreshBody>, content_type = "application/json"),
    responses(
        (status = 200, description = "The next tokens", body = GrantedView, headers(("Set-Cookie" = Option<String>, description = "`__Host-sotp-refresh`, if it came in the cookie"))),
        (status = 401, description = "The token is wrong, expired or used, or its session has ended"),
        (status = 422, description = "The body has mistakes: all are named"),
    )
)]
pub(crate) async fn refresh_session(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
    MaybeJson(body): MaybeJson,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    let said = body.filter(|body| !body.is_null());
    let said = said.as_ref().map(read_refresh).transpose()?.flatten();
    let (token, carrier) = match said {
        Some(token) => (token, Carrier::Body),
        None => (kept(&headers)?.to_owned(), Carrier::Cookie),
    };
    let refreshed = api.access().refresh(&token, caller.origin(), api.now());
    match refreshed.await {
        Ok(let_in) => Ok(granted(StatusCode::OK, &let_in, carrier)),
        Err(error) => {
            let problem = Problem::from(error);
            let is_over = problem.kind() == Kind::Unauthorized && carrier == Carrier::Cookie;
            match is_over {
                true => Ok(([cookies::clear(cookies::REFRESH)], problem).into_response()),
                false => Err(problem),
            }
        }
    }
}

fn read_refresh(body: &Value) -> Result<Option<String>, Problem> {
    let mistakes = Mistakes::default();
    let token = Object::read(body, "", &["refresh_token"], &mistakes).map(|body| {
        let token = body.text("refresh_token");
        if token.is_some_and(|token| token.len() > TOKEN_BYTES) {
            body.wrong("refresh_token", "this is no refresh token: it is too long");
        }
        token.map(str::to_owned)
    });
    mistakes.or(Kind::Invalid, token)
}

/// The refresh token in the cookie.
fn kept(headers: &HeaderMap) -> Result<&str, Problem> {
    if cookies::comes_from_another_site(headers) {
        let detail = "the cookie is taken from our own pages alone";
        return Err(Problem::new(Kind::Unauthorized, detail).denied(detail));
    }
    cookies::get(headers, cookies::REFRESH).ok_or_else(|| {
        Problem::new(
            Kind::Unauthorized,
            "there is no refresh token in the body and none in the cookie; sign in",
        )
    })
}

/// Lists who is signed in.
#[utoipa::path(
    get,
    path = "/sessions",
    tag = "access",
    params(
        ("user" = Option<String>, Query, description = "Of this user"),
        ("sort" = Option<String>, Query, description = "user (the default), created, used or expires; with - before it from last to first"),
        ("limit" = Option<usize>, Query, description = "Items in a page, 1 to 1000; by default 100"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of sessions", body = SessionList),
        (status = 400, description = "A parameter is wrong"),
    )
)]
pub(crate) async fn list_sessions(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<SessionList>, Problem> {
    caller.need_everywhere(Permission::SessionsRead)?;
    let query = Query::read(&uri, &["user", "sort", "limit", "cursor"])?;
    let user = query.one("user").map(str::to_lowercase);
    let sorted = Sorted::read(&query, &SORTS)?;
    query.or(())?;
    let of = |session: &SessionRecord| user.as_ref().is_none_or(|user| session.user.0 == *user);
    Ok(JsonAnswer(page(&api, &caller, &sorted, of)))
}

/// The page of the sessions that are `wanted` and have not expired.
fn page(
    api: &Api,
    caller: &Caller,
    sorted: &Sorted,
    wanted: impl Fn(&SessionRecord) -> bool,
) -> SessionList {
    let (sessions, now) = (api.store().sessions(), api.now());
    let live = sessions
        .values()
        .filter(|session| session.expires > now && wanted(session));
    let page: Cut<SessionView> = sorted.cut(live.map(|session| {
        let key = match sorted.field() {
            "created" => time_key(Some(session.created)),
            "used" => time_key(Some(session.used)),
            "expires" => time_key(Some(session.expires)),
            _user => session.user.0.clone(),
        };
        let view = SessionView::of(session, caller);
        (key, session.id.0.clone(), view)
    }));
    SessionList {
        items: page.items,
        next: page.next,
        total: page.total,
    }
}

/// The caller's own sessions, for `me`.
pub(crate) fn own(api: &Api, caller: &Caller, uri: &Uri) -> Result<SessionList, Problem> {
    let query = Query::read(uri, &["sort", "limit", "cursor"])?;
    let sorted = Sorted::read(&query, &OWN_SORTS)?;
    query.or(())?;
    let name = caller.user.as_ref().map(|user| &user.name);
    let of = |session: &SessionRecord| Some(&session.user) == name;
    Ok(page(api, caller, &sorted, of))
}

/// Signs somebody out.
#[utoipa::path(
    delete,
    path = "/sessions/{id}",
    tag = "access",
    params(("id" = String, Path, description = "The session's number")),
    responses(
        (status = 204, description = "The session has ended; its tokens are good for nothing"),
        (status = 404, description = "There is no such session"),
    )
)]
pub(crate) async fn end_session(
    State(api): State<Api>,
    Path(id): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    caller.need_everywhere(Permission::SessionsEnd)?;
    query::none(&uri)?;
    let session = find(&api, &id, api.now())?;
    end(&api, &caller, &session).await
}

/// The session of this number, if it has not expired.
pub(crate) fn find(api: &Api, asked: &str, now: Timestamp) -> Result<SessionId, Problem> {
    let id = SessionId(asked.to_owned());
    let sessions = api.store().sessions();
    match sessions.get(&id) {
        Some(session) if session.expires > now => Ok(id),
        _ => Err(Problem::not_found("session", asked)),
    }
}

pub(crate) async fn end(
    api: &Api,
    caller: &Caller,
    session: &SessionId,
) -> Result<StatusCode, Problem> {
    api.access()
        .end_session(&caller.by(), session, api.now())
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_when_there_are_too_many_sessions_is_told_to_come_again() {
        let full = Refusal::TooMany {
            what: "sessions",
            limit: 10_000,
        };
        let problem = not_let_in(AccessError::Store(WriteError::Refused(full)));
        assert!(problem.detail().contains("10000 sessions"), "{problem:?}");
        let answer = problem.answer("r");
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()[header::RETRY_AFTER], "60");
        let refused = not_let_in(AccessError::Refused).answer("r");
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    }
}
