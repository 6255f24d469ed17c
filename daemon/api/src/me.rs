//! What everybody may do for themselves: see who they are, sign out, change
//! their password, set up codes.

use std::sync::Arc;

use access::SecretText;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use model::{Actor, SessionId, User};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::Api;
use crate::binding_body::{self, BindingView};
use crate::caller::Caller;
use crate::cookies;
use crate::mistakes::{Mistakes, Object};
use crate::problem::{Kind, Problem};
use crate::query;
use crate::request::{Json, JsonAnswer, MaybeJson, Path};
use crate::sessions::{self, SessionList};
use crate::tokens::TokenView;
use crate::users::{self, UserView, password};

/// Who asks, and what they may do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MeView {
    /// As the audit log has it.
    #[schema(example = "user:jane")]
    actor: String,
    /// user: signed in; certificate: a user with a client certificate; token:
    /// a service; local: a process on the machine itself.
    kind: &'static str,
    /// The user, if it is one.
    user: Option<UserView>,
    /// The token, if it is a service.
    token: Option<TokenView>,
    /// The session's number, if they are signed in.
    session: Option<String>,
    /// What they were given.
    bindings: Vec<BindingView>,
    /// What they may do somewhere now: what their roles grant, less what they
    /// are restricted to.
    #[schema(example = json!(["devices:read"]))]
    permissions: Vec<&'static str>,
    /// What they have to do before anything else:
    /// password-change-required or totp-required; null: nothing.
    restricted: Option<&'static str>,
}

/// The password as it is and as it shall be.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes in the document what is read")]
pub(crate) struct PasswordBody {
    /// The password until now.
    #[schema(write_only)]
    old: String,
    /// The next one: long, and none that others guess.
    #[schema(write_only)]
    new: String,
}

/// A code of the authenticator.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes in the document what is read")]
pub(crate) struct CodeBody {
    /// The code that the authenticator shows now.
    #[schema(write_only, example = "123456")]
    code: String,
}

/// The password.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes in the document what is read")]
pub(crate) struct ConfirmBody {
    /// The password.
    #[schema(write_only)]
    password: String,
}

/// The password, of who has one.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes in the document what is read")]
pub(crate) struct ReauthenticateBody {
    /// The password; not needed by who has none, nor by who has just signed
    /// in and has to set codes up before anything else.
    #[schema(write_only)]
    password: Option<String>,
}

/// What an authenticator is set up with; it is not shown again.
#[derive(Serialize, ToSchema)]
pub(crate) struct TotpOfferView {
    /// `otpauth://…`, as in a QR code.
    uri: String,
    /// The seed in base32, to be typed.
    secret: String,
}

/// Codes that let somebody in who has lost the authenticator; they are not
/// shown again.
#[derive(Serialize, ToSchema)]
pub(crate) struct RecoveryView {
    /// Each is good once; none, if they were given before.
    recovery_codes: Vec<String>,
}

/// Shows who asks, and what they may do.
#[utoipa::path(
    get,
    path = "/me",
    tag = "access",
    responses((status = 200, description = "Who you are", body = MeView))
)]
pub(crate) async fn get_me(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<MeView>, Problem> {
    query::none(&uri)?;
    let kind = match caller.actor {
        Actor::User(..) => "user",
        Actor::Certificate(_) => "certificate",
        Actor::Token(..) => "token",
        Actor::Local(_) | Actor::System | Actor::Anonymous => "local",
    };
    let token = caller.token.as_ref();
    Ok(JsonAnswer(MeView {
        actor: caller.actor.to_string(),
        kind,
        user: caller.user.as_ref().map(|user| UserView::from(&**user)),
        token: token.map(|token| TokenView::of(token, api.now())),
        session: caller.session.as_ref().map(ToString::to_string),
        bindings: binding_body::shown(caller.bindings()),
        permissions: caller
            .permissions()
            .iter()
            .map(|known| known.word())
            .collect(),
        restricted: caller.restricted.map(access::Restriction::word),
    }))
}

/// The person who asks.
fn person(caller: &Caller) -> Result<&Arc<User>, Problem> {
    caller.user.as_ref().ok_or_else(|| {
        let detail = format!("{} is no user, who alone has this", caller.actor);
        Problem::new(Kind::Conflict, detail)
    })
}

/// The session that asks.
fn session(caller: &Caller) -> Result<&SessionId, Problem> {
    caller.session.as_ref().ok_or_else(|| {
        let detail = format!("{} did not sign in, so there is no session", caller.actor);
        Problem::new(Kind::Conflict, detail)
    })
}

/// Signs out.
///
/// The tokens of this session are good for nothing from now on; the cookie is
/// taken away.
#[utoipa::path(
    delete,
    path = "/me/session",
    tag = "access",
    responses(
        (status = 204, description = "You are signed out"),
        (status = 409, description = "You did not sign in: you came with a token, a certificate or by the socket"),
    )
)]
pub(crate) async fn sign_out(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    let status = sessions::end(&api, &caller, session(&caller)?).await?;
    Ok((status, [cookies::clear(cookies::REFRESH)]).into_response())
}

/// Lists your own sessions.
#[utoipa::path(
    get,
    path = "/me/sessions",
    tag = "access",
    params(
        ("sort" = Option<String>, Query, description = "created (the default), used or expires; with - before it from last to first"),
        ("limit" = Option<usize>, Query, description = "Items in a page, 1 to 1000; by default 100"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of sessions", body = SessionList),
        (status = 400, description = "A parameter is wrong"),
    )
)]
pub(crate) async fn list_own_sessions(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<SessionList>, Problem> {
    sessions::own(&api, &caller, &uri).map(JsonAnswer)
}

/// Ends one of your own sessions.
#[utoipa::path(
    delete,
    path = "/me/sessions/{id}",
    tag = "access",
    params(("id" = String, Path, description = "The session's number")),
    responses(
        (status = 204, description = "The session has ended"),
        (status = 404, description = "You have no such session"),
    )
)]
pub(crate) async fn end_own_session(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    query::none(&uri)?;
    let id = sessions::find(&api, &asked, api.now())?;
    let own = api.store().sessions().get(&id).is_some_and(|session| {
        let user = caller.user.as_ref();
        user.is_some_and(|user| user.name == session.user)
    });
    match own {
        true => sessions::end(&api, &caller, &id).await,
        false => Err(Problem::hidden("session", &asked)),
    }
}

/// Changes your password.
///
/// Your other sessions end.
#[utoipa::path(
    put,
    path = "/me/password",
    tag = "access",
    request_body = PasswordBody,
    responses(
        (status = 204, description = "It is changed"),
        (status = 401, description = "The old password is wrong"),
        (status = 409, description = "You are no user"),
        (status = 422, description = "The new password is too short or one that others guess, or the body has mistakes"),
        (status = 429, description = "Too many attempts failed: see Retry-After"),
        (status = 503, description = "Too many passwords are being hashed; try again"),
    )
)]
pub(crate) async fn change_password(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    Json(body): Json,
) -> Result<StatusCode, Problem> {
    query::none(&uri)?;
    let [old, new] = passwords(&body, ["old", "new"])?;
    person(&caller)?;
    api.access()
        .change_password(&caller, old.expose(), new.expose(), api.now())
        .await
        .map_err(|error| users::refused(error, "/new"))?;
    Ok(StatusCode::NO_CONTENT)
}

/// The fields `names` of `body`, all of which have to be there, and no others.
fn passwords<const N: usize>(body: &Value, names: [&str; N]) -> Result<[SecretText; N], Problem> {
    let mistakes = Mistakes::default();
    let texts = Object::read(body, "", &names, &mistakes).map(|body| {
        names.map(|name| {
            if !body.has(name) {
                body.wrong(name, format!("{name} is missing"));
            }
            SecretText::new(password(&body, name).unwrap_or_default().to_owned())
        })
    });
    mistakes.or(Kind::Invalid, texts)
}

/// The password in `body`, if it has one.
fn read_password(body: &Value) -> Result<Option<SecretText>, Problem> {
    let mistakes = Mistakes::default();
    let read = Object::read(body, "", &["password"], &mistakes).map(|body| {
        let password = password(&body, "password");
        password.map(|password| SecretText::new(password.to_owned()))
    });
    mistakes.or(Kind::Invalid, read)
}

/// Begins to set up an authenticator (TOTP, RFC 6238).
///
/// It is on only once a first code was sent with PUT. It takes the password
/// again, so that whoever borrows a session for a moment does not keep the
/// account.
#[utoipa::path(
    post,
    path = "/me/totp",
    tag = "access",
    request_body(content = Option<ReauthenticateBody>, content_type = "application/json"),
    responses(
        (status = 200, description = "What the authenticator is set up with, this once", body = TotpOfferView),
        (status = 401, description = "The password is wrong"),
        (status = 403, description = "The password is missing"),
        (status = 422, description = "The body has mistakes: all are named"),
        (status = 429, description = "Too many attempts failed: see Retry-After"),
        (status = 503, description = "Too many passwords are being hashed; try again"),
        (status = 409, description = "One is set up already, or you are no user"),
    )
)]
pub(crate) async fn begin_totp(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    MaybeJson(body): MaybeJson,
) -> Result<JsonAnswer<TotpOfferView>, Problem> {
    query::none(&uri)?;
    let given = body.filter(|body| !body.is_null());
    let given = given.as_ref().map(read_password).transpose()?.flatten();
    person(&caller)?;
    let password = given.as_ref().map(SecretText::expose);
    let begun = api.access().begin_totp(&caller, password, api.now());
    let offer = begun.await?;
    Ok(JsonAnswer(TotpOfferView {
        uri: offer.uri.expose().to_owned(),
        secret: offer.secret.expose().to_owned(),
    }))
}

/// Turns codes on, with a first one that is right.
///
/// Who came in without a code although an authenticator is set up (through an
/// OpenID provider) proves it here.
#[utoipa::path(
    put,
    path = "/me/totp",
    tag = "access",
    request_body = CodeBody,
    responses(
        (status = 200, description = "They are on; recovery codes, this once", body = RecoveryView),
        (status = 401, description = "The code is wrong"),
        (status = 409, description = "Nothing was begun, or you are no user"),
        (status = 422, description = "The body has mistakes: all are named"),
        (status = 429, description = "Too many codes were wrong: see Retry-After"),
    )
)]
pub(crate) async fn confirm_totp(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    Json(body): Json,
) -> Result<JsonAnswer<RecoveryView>, Problem> {
    query::none(&uri)?;
    let [code] = passwords(&body, ["code"])?;
    person(&caller)?;
    let confirmed = api.access().confirm_totp(&caller, code.expose(), api.now());
    let codes = confirmed.await?;
    Ok(JsonAnswer(RecoveryView {
        recovery_codes: codes.iter().map(|code| code.expose().to_owned()).collect(),
    }))
}

/// Turns codes off; needs the password.
#[utoipa::path(
    delete,
    path = "/me/totp",
    tag = "access",
    request_body = ConfirmBody,
    responses(
        (status = 204, description = "They are off"),
        (status = 401, description = "The password is wrong"),
        (status = 409, description = "They were not on, or you are no user"),
        (status = 422, description = "The body has mistakes: all are named"),
        (status = 429, description = "Too many attempts failed: see Retry-After"),
    )
)]
pub(crate) async fn remove_own_totp(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    Json(body): Json,
) -> Result<StatusCode, Problem> {
    query::none(&uri)?;
    let [password] = passwords(&body, ["password"])?;
    person(&caller)?;
    api.access()
        .remove_own_totp(&caller, password.expose(), api.now())
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
