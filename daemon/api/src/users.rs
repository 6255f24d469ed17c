//! People: who they are, what they may do, and how they prove it.
//!
//! Passwords and seeds go in and never come out. Nobody makes, changes or
//! takes over somebody who may do more than they may themselves: that is asked
//! of the very revision that is then written.

use std::sync::Arc;

use access::AccessError;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use model::{OidcSubject, Permission, User, UserName};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::Api;
use crate::binding_body::{self, BindingBody, BindingView};
use crate::caller::Caller;
use crate::mistakes::{Mistakes, Object};
use crate::patch::{is_changed_meanwhile, merged};
use crate::problem::{Kind, Problem, not_written};
use crate::query::{self, Query};
use crate::request::{Json, JsonAnswer, Path, etag, require_match};
use crate::rules::in_path;
use crate::sorted::{Sorted, time_key};
use crate::words::line;

/// Bytes of a password: whoever sends more wants to see us hash.
pub(crate) const PASSWORD_BYTES: usize = 1024;

/// What a list of people is sorted by.
pub(crate) const SORTS: [&str; 4] = ["name", "created", "updated", "last_login"];

/// Fields that a patch may name, too.
const FIELDS: [&str; 7] = [
    "full_name",
    "email",
    "active",
    "bindings",
    "must_change_password",
    "certificate",
    "oidc",
];

/// Somebody.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserView {
    /// What they sign in with, in lower case.
    #[schema(example = "jane")]
    name: String,
    /// What people call them.
    full_name: Option<String>,
    /// Where they get mail.
    email: Option<String>,
    /// Whether they may sign in.
    active: bool,
    /// What they may do, and where.
    bindings: Vec<BindingView>,
    /// Whether they can sign in with a password.
    password_set: bool,
    /// Whether they have to choose another password before anything else.
    must_change_password: bool,
    /// Codes that change (TOTP): none, pending or on.
    totp: &'static str,
    /// The subject of their client certificate, or a name in its
    /// subjectAltName.
    certificate: Option<String>,
    /// Who they are at the OpenID provider.
    oidc: Option<OidcBody>,
    /// When they were entered.
    created: String,
    /// When they were last changed.
    updated: String,
    /// When they last signed in.
    last_login: Option<String>,
    /// Counts changes, from 1; the `ETag`.
    revision: u64,
}

/// Who somebody is at an OpenID provider.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OidcBody {
    /// The provider: its `iss`.
    #[schema(example = "https://login.example.net")]
    issuer: String,
    /// The person: their `sub` there.
    subject: String,
}

/// One page of people.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserList {
    /// The people, in order.
    items: Vec<UserView>,
    /// `cursor` of the next page; null on the last one.
    next: Option<String>,
    /// How many the filters leave, on all pages.
    total: usize,
}

/// Somebody new.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes in the document what `read_new` reads")]
pub(crate) struct NewUserBody {
    /// What they will sign in with: 1 to 64 letters, digits and any of
    /// `. _ - + @`; kept in lower case.
    #[schema(example = "jane")]
    name: String,
    /// What people call them.
    #[schema(example = "Jane Doe")]
    full_name: Option<String>,
    /// Where they get mail.
    #[schema(example = "jane@example.net")]
    email: Option<String>,
    /// Whether they may sign in; by default yes.
    active: Option<bool>,
    /// What they may do, which cannot be more than you may; by default nothing.
    bindings: Option<Vec<BindingBody>>,
    /// Whether they have to choose another password before anything else; by
    /// default yes if one is given.
    must_change_password: Option<bool>,
    /// The subject of their client certificate (RFC 4514), or a name in its
    /// subjectAltName; nobody else may have it.
    certificate: Option<String>,
    /// Who they are at the OpenID provider; nobody else may be that.
    oidc: Option<OidcBody>,
    /// What they sign in with at first; without it they sign in with a
    /// certificate or at the OpenID provider, or wait for a password reset.
    #[schema(write_only)]
    password: Option<String>,
}

/// What can be changed of somebody.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserBody {
    /// What people call them.
    #[schema(example = "Jane Doe")]
    full_name: Option<String>,
    /// Where they get mail.
    #[schema(example = "jane@example.net")]
    email: Option<String>,
    /// Whether they may sign in; by default yes.
    active: Option<bool>,
    /// What they may do; by default nothing.
    #[schema(value_type = Option<Vec<BindingBody>>)]
    bindings: Option<Vec<BindingView>>,
    /// Whether they have to choose another password before anything else; by
    /// default no.
    must_change_password: Option<bool>,
    /// The subject of their client certificate (RFC 4514), or a name in its
    /// subjectAltName; nobody else may have it.
    certificate: Option<String>,
    /// Who they are at the OpenID provider; nobody else may be that.
    oidc: Option<OidcBody>,
}

/// A password that is shown once.
#[derive(Serialize, ToSchema)]
pub(crate) struct PasswordView {
    /// What they sign in with next; they have to choose another one then.
    password: String,
}

impl From<&User> for UserView {
    fn from(user: &User) -> UserView {
        let totp = match &user.totp {
            None => "none",
            Some(totp) if totp.confirmed => "on",
            Some(_) => "pending",
        };
        UserView {
            name: user.name.to_string(),
            full_name: user.full_name.clone(),
            email: user.email.clone(),
            active: user.active,
            bindings: binding_body::shown(&user.bindings),
            password_set: user.password.is_some(),
            must_change_password: user.must_change_password,
            totp,
            certificate: user.certificate.clone(),
            oidc: user.oidc.as_ref().map(OidcBody::from),
            created: user.created.to_string(),
            updated: user.updated.to_string(),
            last_login: user.last_login.as_ref().map(ToString::to_string),
            revision: user.revision,
        }
    }
}

impl From<&OidcSubject> for OidcBody {
    fn from(oidc: &OidcSubject) -> OidcBody {
        OidcBody {
            issuer: oidc.issuer.clone(),
            subject: oidc.subject.clone(),
        }
    }
}

impl UserBody {
    fn of(user: &User) -> UserBody {
        UserBody {
            full_name: user.full_name.clone(),
            email: user.email.clone(),
            active: Some(user.active),
            bindings: Some(binding_body::shown(&user.bindings)),
            must_change_password: Some(user.must_change_password),
            certificate: user.certificate.clone(),
            oidc: user.oidc.as_ref().map(OidcBody::from),
        }
    }
}

fn shown(status: StatusCode, user: &User) -> Response {
    let tag = [(header::ETAG, etag(user.revision))];
    (status, tag, JsonAnswer(UserView::from(user))).into_response()
}

/// The answer to who made somebody.
pub(crate) fn created(user: &User) -> Response {
    let path = format!("/api/v1/users/{}", in_path(&user.name.0));
    let location = [(header::LOCATION, path)];
    (location, shown(StatusCode::CREATED, user)).into_response()
}

/// The person called `asked`.
pub(crate) fn find(api: &Api, asked: &str) -> Result<Arc<User>, Problem> {
    let missing = || Problem::not_found("user", asked);
    let name: UserName = asked.parse().map_err(|_| missing())?;
    let people = api.store().people();
    people.user(&name).cloned().ok_or_else(missing)
}

/// The person called `asked`, if the caller may do at least as much.
fn find_to_change(api: &Api, caller: &Caller, asked: &str) -> Result<Arc<User>, Problem> {
    let user = find(api, asked)?;
    match caller.may_give(&user.bindings, &Default::default()) {
        true => Ok(user),
        false => Err(Problem::forbidden("this user may do more than you may")),
    }
}

/// Lists people.
#[utoipa::path(
    get,
    path = "/users",
    tag = "people",
    params(
        ("role" = Option<Vec<String>>, Query, description = "With one of these roles, anywhere"),
        ("tenant" = Option<String>, Query, description = "With a role that holds for something of this tenant"),
        ("active" = Option<bool>, Query, description = "Only those that may, or may not, sign in"),
        ("q" = Option<String>, Query, description = "Words that all stand in name, full name or mail address"),
        ("sort" = Option<String>, Query, description = "name (the default), created, updated or last_login; with - before it from last to first"),
        ("limit" = Option<usize>, Query, description = "Items in a page, 1 to 1000; by default 100"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of people", body = UserList),
        (status = 400, description = "A parameter is wrong"),
    )
)]
pub(crate) async fn list_users(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<UserList>, Problem> {
    caller.need_everywhere(Permission::UsersRead)?;
    let known = ["role", "tenant", "active", "q", "sort", "limit", "cursor"];
    let query = Query::read(&uri, &known)?;
    let roles = query.words(
        "role",
        &model::Role::ALL.map(model::Role::word),
        model::Role::from_word,
    );
    let tenant = query
        .one("tenant")
        .map(|name| model::TenantName(name.to_owned()));
    let active = query.flag("active");
    let words = query.one("q").unwrap_or_default().to_lowercase();
    let sorted = Sorted::read(&query, &SORTS)?;
    query.or(())?;

    let people = api.store().people();
    let wanted = |user: &&Arc<User>| {
        let holds = |wanted: &dyn Fn(&model::Binding) -> bool| user.bindings.iter().any(wanted);
        (roles.is_empty() || holds(&|binding| roles.contains(&binding.role)))
            && tenant
                .as_ref()
                .is_none_or(|tenant| holds(&|binding| binding.scope.reaches_tenant(tenant)))
            && active.is_none_or(|active| user.active == active)
            && words.split_whitespace().all(|word| stands_in(word, user))
    };
    let page = sorted.cut(people.users().filter(wanted).map(|user| {
        let key = match sorted.field() {
            "created" => time_key(Some(user.created)),
            "updated" => time_key(Some(user.updated)),
            "last_login" => time_key(user.last_login),
            _name => String::new(),
        };
        (key, user.name.0.clone(), user)
    }));
    Ok(JsonAnswer(UserList {
        items: page
            .items
            .into_iter()
            .map(|user| UserView::from(&**user))
            .collect(),
        next: page.next,
        total: page.total,
    }))
}

/// Whether `word`, in lower case, stands in one of the texts of `user`.
fn stands_in(word: &str, user: &User) -> bool {
    [
        Some(&user.name.0),
        user.full_name.as_ref(),
        user.email.as_ref(),
    ]
    .into_iter()
    .flatten()
    .any(|text| text.to_lowercase().contains(word))
}

/// Shows somebody.
#[utoipa::path(
    get,
    path = "/users/{name}",
    tag = "people",
    params(("name" = String, Path, description = "What they sign in with")),
    responses(
        (status = 200, description = "Who they are and what they may do", body = UserView, headers(("ETag" = String, description = "The revision"))),
        (status = 404, description = "There is no such user"),
    )
)]
pub(crate) async fn get_user(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    caller.need_everywhere(Permission::UsersRead)?;
    query::none(&uri)?;
    let user = find(&api, &name)?;
    Ok(shown(StatusCode::OK, &user))
}

/// Makes somebody.
///
/// Nobody can give more than they have themselves.
#[utoipa::path(
    post,
    path = "/users",
    tag = "people",
    request_body = NewUserBody,
    responses(
        (status = 201, description = "Who was made", body = UserView, headers(("ETag" = String, description = "The revision"), ("Location" = String, description = "The path"))),
        (status = 403, description = "A role would allow more than you may do yourself"),
        (status = 409, description = "The name, the certificate or the OpenID subject is taken"),
        (status = 422, description = "The body has mistakes: all are named"),
        (status = 503, description = "Too many passwords are being hashed; try again"),
    )
)]
pub(crate) async fn create_user(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    Json(body): Json,
) -> Result<Response, Problem> {
    caller.need_everywhere(Permission::UsersWrite)?;
    query::none(&uri)?;
    let (user, password) = read_new(&api, &body)?;
    if !caller.may_give(&user.bindings, &Default::default()) {
        return Err(Problem::forbidden("you cannot give more than you have").at("/bindings"));
    }
    let user = api
        .access()
        .create_user(&caller.by(), user, password.as_deref(), api.now())
        .await
        .map_err(|error| refused(error, "/password"))?;
    caller.did("user made", &user.name.0);
    Ok(created(&user))
}

/// Reads somebody new, and the password that they begin with.
fn read_new(api: &Api, body: &Value) -> Result<(User, Option<String>), Problem> {
    let mistakes = Mistakes::default();
    let known: Vec<&str> = ["name", "password"].into_iter().chain(FIELDS).collect();
    let user = Object::read(body, "", &known, &mistakes).and_then(|fields| {
        let name = fields.required_text("name").map(str::parse::<UserName>);
        if let Some(Err(why)) = &name {
            fields.wrong("name", why.to_string());
        }
        let password = password(&fields, "password").map(str::to_owned);
        let draft = Draft::read(api, body, &fields);
        let name = name?.ok()?;
        let must_change = draft.must_change_password.unwrap_or(password.is_some());
        let blank = User::new(name, api.now());
        Some((draft.onto(&blank, must_change), password))
    });
    mistakes.or(Kind::Invalid, user)
}

/// What an attempt with a new password means for who sent it at `pointer`.
pub(crate) fn refused(error: AccessError, pointer: &str) -> Problem {
    match error {
        AccessError::WeakPassword { .. } => Problem::from(error).at(pointer),
        other => other.into(),
    }
}

/// A password as it is typed; whether it is a good one is decided elsewhere.
pub(crate) fn password<'b>(body: &Object<'b>, field: &str) -> Option<&'b str> {
    let password = body.text(field)?;
    if password.len() > PASSWORD_BYTES {
        body.wrong(
            field,
            format!("a password has at most {PASSWORD_BYTES} bytes"),
        );
    }
    Some(password)
}

/// What a body says of somebody, beside the name.
struct Draft {
    full_name: Option<String>,
    email: Option<String>,
    active: bool,
    bindings: Vec<model::Binding>,
    must_change_password: Option<bool>,
    certificate: Option<String>,
    oidc: Option<OidcSubject>,
}

impl Draft {
    fn read(api: &Api, body: &Value, fields: &Object<'_>) -> Draft {
        let people = api.store().people();
        let known = |tenant: &model::TenantName| people.tenant(tenant).is_some();
        Draft {
            full_name: line(fields, "full_name"),
            email: email(fields),
            active: fields.flag("active").unwrap_or(true),
            bindings: binding_body::read(body, &known, fields.mistakes()),
            must_change_password: fields.flag("must_change_password"),
            certificate: line(fields, "certificate"),
            oidc: oidc(fields),
        }
    }

    fn onto(self, user: &User, must_change_password: bool) -> User {
        User {
            full_name: self.full_name,
            email: self.email,
            active: self.active,
            bindings: self.bindings,
            must_change_password,
            certificate: self.certificate,
            oidc: self.oidc,
            ..user.clone()
        }
    }
}

fn email(fields: &Object<'_>) -> Option<String> {
    let email = line(fields, "email")?;
    let parts = email.rsplit_once('@');
    let looks_right = parts.is_some_and(|(who, host)| !who.is_empty() && !host.is_empty());
    if !looks_right || email.contains(char::is_whitespace) {
        fields.wrong("email", format!("{email:?} is not a mail address"));
    }
    Some(email)
}

fn oidc(fields: &Object<'_>) -> Option<OidcSubject> {
    let oidc = fields.object("oidc", &["issuer", "subject"])?;
    let required = |field: &str| {
        if !oidc.has(field) {
            oidc.wrong(field, format!("{field} is missing"));
        }
        line(&oidc, field)
    };
    let (issuer, subject) = (required("issuer"), required("subject"));
    Some(OidcSubject {
        issuer: issuer?,
        subject: subject?,
    })
}

/// Changes something of somebody.
///
/// The body is a merge patch (RFC 7396): what it does not name stays, null
/// goes back to the default, a list is replaced as a whole. What they may do
/// changes at once, also in sessions that are open.
#[utoipa::path(
    patch,
    path = "/users/{name}",
    tag = "people",
    params(
        ("name" = String, Path, description = "What they sign in with"),
        ("If-Match" = String, Header, description = "The revision that is to be changed, or `*`"),
    ),
    request_body(content((UserBody = "application/merge-patch+json"), (UserBody = "application/json"))),
    responses(
        (status = 200, description = "As they are now", body = UserView, headers(("ETag" = String, description = "The revision"))),
        (status = 403, description = "They may do more than you, or would"),
        (status = 404, description = "There is no such user"),
        (status = 409, description = "The certificate or the OpenID subject is taken, or no administrator would be left"),
        (status = 412, description = "They were changed meanwhile"),
        (status = 422, description = "The body has mistakes: all are named"),
        (status = 428, description = "If-Match is missing"),
    )
)]
pub(crate) async fn patch_user(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
    Json(patch): Json,
) -> Result<Response, Problem> {
    caller.need_everywhere(Permission::UsersWrite)?;
    query::none(&uri)?;
    let by = caller.by();
    for _ in 0..crate::patch::TRIES {
        let user = find_to_change(&api, &caller, &asked)?;
        require_match(&headers, user.revision)?;
        let changed = patched(&api, &user, &patch)?;
        if !caller.may_give(&changed.bindings, &Default::default()) {
            return Err(Problem::forbidden("you cannot give more than you have").at("/bindings"));
        }
        let write = api
            .store()
            .replace_user(&by, changed, Some(user.revision), api.now());
        match write.await {
            Ok(user) => {
                caller.did("user changed", &user.name.0);
                return Ok(shown(StatusCode::OK, &user));
            }
            Err(error) if is_changed_meanwhile(&error) => {}
            Err(error) => return Err(not_written(&error, &api.store().inventory())),
        }
    }
    Err(crate::patch::contended("user"))
}

fn patched(api: &Api, user: &User, patch: &Value) -> Result<User, Problem> {
    let body = merged(&UserBody::of(user), patch)?;
    let mistakes = Mistakes::default();
    let changed = Object::read(&body, "", &FIELDS, &mistakes).map(|fields| {
        let draft = Draft::read(api, &body, &fields);
        let must_change = draft.must_change_password.unwrap_or(false);
        draft.onto(user, must_change)
    });
    mistakes.or(Kind::Invalid, changed)
}

/// Deletes somebody.
///
/// Their sessions end. What they did stays in the audit log.
#[utoipa::path(
    delete,
    path = "/users/{name}",
    tag = "people",
    params(
        ("name" = String, Path, description = "What they sign in with"),
        ("If-Match" = String, Header, description = "The revision that is to be deleted, or `*`"),
    ),
    responses(
        (status = 204, description = "They are gone"),
        (status = 403, description = "They may do more than you"),
        (status = 404, description = "There is no such user"),
        (status = 409, description = "No administrator would be left"),
        (status = 412, description = "They were changed meanwhile"),
        (status = 428, description = "If-Match is missing"),
    )
)]
pub(crate) async fn delete_user(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    caller.need_everywhere(Permission::UsersWrite)?;
    query::none(&uri)?;
    for _ in 0..crate::patch::TRIES {
        let user = find_to_change(&api, &caller, &asked)?;
        require_match(&headers, user.revision)?;
        let by = caller.by();
        let write = api
            .store()
            .delete_user(&by, &user.name, Some(user.revision), api.now());
        match write.await {
            Ok(()) => {
                caller.did("user deleted", &user.name.0);
                return Ok(StatusCode::NO_CONTENT);
            }
            Err(error) if is_changed_meanwhile(&error) => {}
            Err(error) => return Err(not_written(&error, &api.store().inventory())),
        }
    }
    Err(crate::patch::contended("user"))
}

/// Gives somebody a new password, which is shown once.
///
/// Their sessions end, and they have to choose another password when they sign
/// in.
#[utoipa::path(
    post,
    path = "/users/{name}/password-reset",
    tag = "people",
    params(("name" = String, Path, description = "What they sign in with")),
    responses(
        (status = 200, description = "The password, this once", body = PasswordView),
        (status = 403, description = "They may do more than you"),
        (status = 404, description = "There is no such user"),
        (status = 409, description = "Others change this user just now"),
        (status = 503, description = "Too many passwords are being hashed; try again"),
    )
)]
pub(crate) async fn reset_password(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<PasswordView>, Problem> {
    caller.need_everywhere(Permission::UsersWrite)?;
    query::none(&uri)?;
    for _ in 0..crate::patch::TRIES {
        let user = find_to_change(&api, &caller, &asked)?;
        let by = caller.by();
        let seen = Some(user.revision);
        let reset = api
            .access()
            .reset_password(&by, &user.name, seen, api.now());
        match reset.await {
            Ok(password) => {
                caller.did("password reset", &user.name.0);
                return Ok(JsonAnswer(PasswordView {
                    password: password.expose().to_owned(),
                }));
            }
            Err(AccessError::Store(error)) if is_changed_meanwhile(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(crate::patch::contended("user"))
}

/// Takes the codes (TOTP) of somebody away who lost them.
///
/// A password alone lets them in then, unless the policy demands codes.
#[utoipa::path(
    delete,
    path = "/users/{name}/totp",
    tag = "people",
    params(("name" = String, Path, description = "What they sign in with")),
    responses(
        (status = 204, description = "They have none now"),
        (status = 403, description = "They may do more than you"),
        (status = 404, description = "There is no such user"),
        (status = 409, description = "They have none, or others change this user just now"),
    )
)]
pub(crate) async fn remove_totp(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    caller.need_everywhere(Permission::UsersWrite)?;
    query::none(&uri)?;
    for _ in 0..crate::patch::TRIES {
        let user = find_to_change(&api, &caller, &asked)?;
        let by = caller.by();
        let seen = Some(user.revision);
        let removed = api.access().remove_totp(&by, &user.name, seen, api.now());
        match removed.await {
            Ok(()) => {
                caller.did("authenticator removed", &user.name.0);
                return Ok(StatusCode::NO_CONTENT);
            }
            Err(AccessError::Store(error)) if is_changed_meanwhile(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(crate::patch::contended("user"))
}

/// Signs somebody out everywhere.
#[utoipa::path(
    delete,
    path = "/users/{name}/sessions",
    tag = "people",
    params(("name" = String, Path, description = "What they sign in with")),
    responses(
        (status = 204, description = "They have no session now"),
        (status = 404, description = "There is no such user"),
    )
)]
pub(crate) async fn end_sessions(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    caller.need_everywhere(Permission::SessionsEnd)?;
    query::none(&uri)?;
    let user = find(&api, &asked)?;
    api.access()
        .end_sessions_of(&caller.by(), &user.name, None, api.now())
        .await?;
    caller.did("sessions ended", &user.name.0);
    Ok(StatusCode::NO_CONTENT)
}
