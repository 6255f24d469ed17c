//! What lets us into devices: written here, never shown again.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use model::{Credential, CredentialName, checked_name};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::Api;
use crate::device_body::read_community;
use crate::mistakes::{Mistakes, Object, did_you_mean};
use crate::problem::{Kind, Problem, not_written};
use crate::query;
use crate::request::{Json, JsonAnswer, Path, Peer};

/// The kinds of credential.
const KINDS: [&str; 1] = ["snmp-v2c"];

/// A credential without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CredentialView {
    /// What devices refer to.
    name: String,
    /// snmp-v2c.
    kind: &'static str,
    /// When it was last written.
    updated: String,
    /// How many devices use it.
    devices: usize,
}

/// All credentials.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CredentialList {
    /// The credentials, by name.
    items: Vec<CredentialView>,
}

/// A credential with its secret.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes in the document what `read` reads")]
pub(crate) struct CredentialBody {
    /// snmp-v2c.
    kind: String,
    /// The SNMP community, 1 to 255 bytes; never shown again.
    #[schema(write_only)]
    community: String,
}

fn all(api: &Api) -> impl Iterator<Item = CredentialView> {
    let known = api.store().credentials().into_iter();
    known.map(|(name, kind, updated, devices)| CredentialView {
        name: name.0,
        kind,
        updated: updated.to_string(),
        devices,
    })
}

fn find(api: &Api, name: &str) -> Result<CredentialView, Problem> {
    all(api)
        .find(|credential| credential.name == name)
        .ok_or_else(|| Problem::not_found("credential", name))
}

/// Lists credentials, without their secrets.
#[utoipa::path(
    get,
    path = "/credentials",
    tag = "devices",
    responses((status = 200, description = "The credentials", body = CredentialList))
)]
pub(crate) async fn list_credentials(
    State(api): State<Api>,
    uri: Uri,
) -> Result<JsonAnswer<CredentialList>, Problem> {
    query::none(&uri)?;
    Ok(JsonAnswer(CredentialList {
        items: all(&api).collect(),
    }))
}

/// Shows a credential, without its secret.
#[utoipa::path(
    get,
    path = "/credentials/{name}",
    tag = "devices",
    params(("name" = String, Path, description = "The credential's name")),
    responses(
        (status = 200, description = "The credential", body = CredentialView),
        (status = 404, description = "There is no such credential"),
    )
)]
pub(crate) async fn get_credential(
    State(api): State<Api>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<JsonAnswer<CredentialView>, Problem> {
    query::none(&uri)?;
    find(&api, &name).map(JsonAnswer)
}

/// Makes or replaces a credential.
#[utoipa::path(
    put,
    path = "/credentials/{name}",
    tag = "devices",
    params(("name" = String, Path, description = "The credential's name")),
    request_body = CredentialBody,
    responses(
        (status = 200, description = "The credential, without its secret", body = CredentialView),
        (status = 422, description = "The body has mistakes: all are named"),
    )
)]
pub(crate) async fn put_credential(
    State(api): State<Api>,
    Path(name): Path<String>,
    peer: Peer,
    uri: Uri,
    Json(body): Json,
) -> Result<JsonAnswer<CredentialView>, Problem> {
    query::none(&uri)?;
    let credential = read(&name, &body)?;
    api.store()
        .put_credential(CredentialName(name.clone()), credential, api.now())
        .await
        .map_err(|error| not_written(&error, &api.store().inventory()))?;
    peer.did("credential written", &name);
    find(&api, &name).map(JsonAnswer)
}

/// Reads a credential. No mistake repeats the secret.
fn read(name: &str, body: &Value) -> Result<Credential, Problem> {
    let mistakes = Mistakes::default();
    if let Err(why) = checked_name(name) {
        mistakes.at("", why.to_string());
    }
    let credential = Object::read(body, "", &["kind", "community"], &mistakes).and_then(|body| {
        let kind = body.required_text("kind");
        if let Some(kind) = kind.filter(|kind| !KINDS.contains(kind)) {
            let hint = did_you_mean(kind, &KINDS);
            body.wrong("kind", format!("unknown kind {kind:?}: {hint}"));
        }
        let community = body.required_text("community")?;
        read_community(community, "/community", &mistakes)
    });
    mistakes.or(Kind::Invalid, credential)
}

/// Deletes a credential that no device uses.
#[utoipa::path(
    delete,
    path = "/credentials/{name}",
    tag = "devices",
    params(("name" = String, Path, description = "The credential's name")),
    responses(
        (status = 204, description = "It is deleted"),
        (status = 404, description = "There is no such credential"),
        (status = 409, description = "Devices use it"),
    )
)]
pub(crate) async fn delete_credential(
    State(api): State<Api>,
    Path(name): Path<String>,
    peer: Peer,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    query::none(&uri)?;
    find(&api, &name)?;
    api.store()
        .delete_credential(&CredentialName(name.clone()))
        .await
        .map_err(|error| not_written(&error, &api.store().inventory()))?;
    peer.did("credential deleted", &name);
    Ok(StatusCode::NO_CONTENT)
}
