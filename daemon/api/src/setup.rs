//! The first administrator: made once, with the link that `sudo sotp setup`
//! prints, or by local root.

use access::SecretText;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use model::UserName;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::Api;
use crate::caller::Caller;
use crate::mistakes::{Mistakes, Object};
use crate::problem::{Kind, Problem};
use crate::query;
use crate::request::{Json, JsonAnswer};
use crate::sessions::typed;
use crate::users::{self, UserView, password};

/// Whether the appliance is set up.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SetupView {
    /// Whether there is an administrator.
    set_up: bool,
}

/// What the link to set the appliance up is made of.
#[derive(Serialize, ToSchema)]
pub(crate) struct SetupLinkView {
    /// Stands in the link's fragment, which no browser sends anywhere; good
    /// once.
    token: String,
    /// Until when.
    expires: String,
    /// The page that takes it.
    #[schema(example = "/setup")]
    path: &'static str,
    /// Where that page is served; empty where HTTPS is off.
    #[schema(example = json!(["https://sotp.example.net:8443"]))]
    urls: Vec<String>,
    /// SHA-256 of the certificate there, to compare with what the browser shows.
    fingerprint: Option<String>,
}

/// The first administrator, by the link.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes in the document what `read` reads")]
pub(crate) struct SetupBody {
    /// What stands in the link's fragment.
    #[schema(write_only)]
    token: String,
    /// What they will sign in with.
    #[schema(example = "jane")]
    user: String,
    /// Long, and none that others guess.
    #[schema(write_only)]
    password: String,
}

/// The first administrator.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes in the document what `read` reads")]
pub(crate) struct AdminBody {
    /// What they will sign in with.
    #[schema(example = "jane")]
    user: String,
    /// Long, and none that others guess.
    #[schema(write_only)]
    password: String,
}

/// Says whether the appliance is set up.
///
/// Until it is, all other paths answer 503.
#[utoipa::path(
    get,
    path = "/setup",
    tag = "setup",
    responses((status = 200, description = "Whether there is an administrator", body = SetupView))
)]
pub(crate) async fn get_setup(
    State(api): State<Api>,
    uri: Uri,
) -> Result<JsonAnswer<SetupView>, Problem> {
    query::none(&uri)?;
    Ok(JsonAnswer(SetupView {
        set_up: api.access().is_set_up(),
    }))
}

/// Makes a link to set the appliance up with.
///
/// For root and the daemon's own user, on the machine itself. It is good for
/// 30 minutes and once; the one before is void.
#[utoipa::path(
    post,
    path = "/setup-links",
    tag = "setup",
    responses(
        (status = 200, description = "What the link is made of, this once", body = SetupLinkView),
        (status = 403, description = "You are not root on the machine itself"),
        (status = 409, description = "It is set up already"),
    )
)]
pub(crate) async fn create_setup_link(
    State(api): State<Api>,
    uri: Uri,
) -> Result<JsonAnswer<SetupLinkView>, Problem> {
    query::none(&uri)?;
    let offer = api.access().offer_setup(api.now())?;
    let https = api.daemon().https();
    Ok(JsonAnswer(SetupLinkView {
        token: offer.token.expose().to_owned(),
        expires: offer.expires.to_string(),
        path: "/setup",
        urls: https.iter().map(|https| https.url.clone()).collect(),
        fingerprint: https.map(|https| https.fingerprint),
    }))
}

/// Makes the first administrator, with the token of the link.
#[utoipa::path(
    post,
    path = "/setup",
    tag = "setup",
    request_body = SetupBody,
    responses(
        (status = 201, description = "The administrator; sign in now", body = UserView, headers(("ETag" = String, description = "The revision"), ("Location" = String, description = "The path"))),
        (status = 401, description = "The link is wrong, was used or is too old"),
        (status = 409, description = "It is set up already"),
        (status = 422, description = "The password is too short or one that others guess, or the body has mistakes"),
        (status = 503, description = "Too many passwords are being hashed; try again"),
    )
)]
pub(crate) async fn set_up(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    Json(body): Json,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    let mistakes = Mistakes::default();
    let asked = Object::read(&body, "", &["token", "user", "password"], &mistakes)
        .and_then(|body| Some((required(&body, "token"), read(&body)?)));
    let (token, (name, password)) = mistakes.or(Kind::Invalid, asked)?;
    let made = api.access().set_up(
        token.expose(),
        name,
        password.expose(),
        caller.origin(),
        api.now(),
    );
    let user = made
        .await
        .map_err(|error| users::refused(error, "/password"))?;
    caller.did("first administrator made", &user.name.0);
    Ok(users::created(&user))
}

/// Makes the first administrator without a link.
///
/// For root and the daemon's own user, on the machine itself: for set-up
/// without a person.
#[utoipa::path(
    post,
    path = "/admin",
    tag = "setup",
    request_body = AdminBody,
    responses(
        (status = 201, description = "The administrator", body = UserView, headers(("ETag" = String, description = "The revision"), ("Location" = String, description = "The path"))),
        (status = 403, description = "You are not root on the machine itself"),
        (status = 409, description = "It is set up already"),
        (status = 422, description = "The password is too short or one that others guess, or the body has mistakes"),
        (status = 503, description = "Too many passwords are being hashed; try again"),
    )
)]
pub(crate) async fn create_admin(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    Json(body): Json,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    let (name, password) = read_admin(&body)?;
    let user = api
        .access()
        .first_admin(&caller.by(), name, password.expose(), api.now())
        .await
        .map_err(|error| users::refused(error, "/password"))?;
    caller.did("first administrator made", &user.name.0);
    Ok(users::created(&user))
}

fn read_admin(body: &Value) -> Result<(UserName, SecretText), Problem> {
    let mistakes = Mistakes::default();
    let asked = Object::read(body, "", &["user", "password"], &mistakes);
    let asked = asked.and_then(|body| read(&body));
    mistakes.or(Kind::Invalid, asked)
}

/// The administrator's name and password.
fn read(body: &Object<'_>) -> Option<(UserName, SecretText)> {
    let name = body.required_text("user").map(str::parse::<UserName>);
    if let Some(Err(why)) = &name {
        body.wrong("user", why.to_string());
    }
    if !body.has("password") {
        body.wrong("password", "password is missing");
    }
    let password = password(body, "password");
    Some((name?.ok()?, SecretText::new(password?.to_owned())))
}

fn required(body: &Object<'_>, field: &str) -> SecretText {
    if !body.has(field) {
        body.wrong(field, format!("{field} is missing"));
    }
    SecretText::new(typed(body, field).unwrap_or_default().to_owned())
}
