//! Backups of everything: those that are kept, making one, and taking one home.
//!
//! A backup holds what all tenants have, so only who has the permission
//! everywhere gets near it.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use model::{AuditDraft, AuditOutcome, Permission};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tracing::{error, warn};
use utoipa::ToSchema;

use crate::Api;
use crate::caller::Caller;
use crate::daemon::{BackupRefused, BackupRun, Backups, KeptBackup};
use crate::mistakes::{Mistakes, Object};
use crate::problem::{Kind, Problem};
use crate::query;
use crate::request::{JsonAnswer, MaybeJson, Path};

/// The path of the one answer that takes as long as it takes.
pub(crate) const STREAM: &str = "/api/v1/backups/stream";

/// Bytes of a place: a path has no more on Linux.
pub(crate) const PLACE_BYTES: usize = 4096;

/// Backups.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackupList {
    /// Those that are kept where they go by the settings, newest first.
    items: Vec<BackupView>,
    /// Those that were begun since the daemon's start, newest first.
    runs: Vec<BackupRunView>,
}

/// A backup that is kept.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackupView {
    /// Its name there.
    name: String,
    /// Where it is in full: a path, or s3://bucket/name.
    at: String,
    /// When it was made.
    made_at: String,
    /// What it takes.
    bytes: u64,
    /// Whether it is sealed for whom the settings name; null: not known.
    encrypted: Option<bool>,
}

/// The making of a backup.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackupRunView {
    /// Its number, since the daemon's start.
    id: u64,
    /// running, done or failed.
    state: &'static str,
    /// When it began.
    begun: String,
    /// When it ended.
    ended: Option<String>,
    /// Bytes written so far.
    bytes: u64,
    /// Where it goes.
    #[serde(rename = "where")]
    place: String,
    /// Why it came to nothing.
    error: Option<String>,
}

/// A backup to be made.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes in the document what `read_to` reads")]
pub(crate) struct NewBackupBody {
    /// Where it goes: the absolute path of a directory of the daemon's machine,
    /// or s3://bucket/prefix; by default where the settings say.
    to: Option<String>,
}

impl From<KeptBackup> for BackupView {
    fn from(kept: KeptBackup) -> BackupView {
        BackupView {
            name: kept.name,
            at: kept.at,
            made_at: kept.made.to_string(),
            bytes: kept.bytes,
            encrypted: kept.encrypted,
        }
    }
}

impl From<BackupRun> for BackupRunView {
    fn from(run: BackupRun) -> BackupRunView {
        BackupRunView {
            id: run.id,
            state: run.state.word(),
            begun: run.begun.to_string(),
            ended: run.ended.map(|at| at.to_string()),
            bytes: run.bytes,
            place: run.to,
            error: run.error,
        }
    }
}

/// Lists the backups that are kept, and those that were begun.
#[utoipa::path(
    get,
    path = "/backups",
    tag = "daemon",
    responses(
        (status = 200, description = "The backups", body = BackupList),
        (status = 403, description = "You may not see the whole appliance"),
        (status = 503, description = "Where they are kept cannot be read now"),
    )
)]
pub(crate) async fn list_backups(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<BackupList>, Problem> {
    query::none(&uri)?;
    caller.need_everywhere(Permission::BackupsRead)?;
    let backups = made_by(&api)?;
    let kept = backups.list().await.map_err(refused)?;
    let runs = backups.runs().await;
    Ok(JsonAnswer(BackupList {
        items: kept.into_iter().map(BackupView::from).collect(),
        runs: runs.into_iter().map(BackupRunView::from).collect(),
    }))
}

/// Makes a backup.
///
/// The answer does not wait for it; its run says when it is done.
#[utoipa::path(
    post,
    path = "/backups",
    tag = "daemon",
    request_body = Option<NewBackupBody>,
    responses(
        (status = 202, description = "It has begun; Location says where its run is", body = BackupRunView),
        (status = 403, description = "You may not do this for the whole appliance"),
        (status = 409, description = "Another one is being made"),
        (status = 422, description = "The body has mistakes: all are named"),
        (status = 503, description = "It cannot be written now"),
    )
)]
pub(crate) async fn create_backup(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    MaybeJson(body): MaybeJson,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    caller.need_everywhere(Permission::BackupsWrite)?;
    let body = body.filter(|body| !body.is_null());
    let to = body.as_ref().map_or(Ok(None), read_to)?;
    let run = made_by(&api)?
        .start(caller.by(), to)
        .await
        .map_err(refused)?;
    note(&api, &caller, &format!("backup:{}", run.id), &run.to).await;
    let location = [(header::LOCATION, format!("/api/v1/backups/runs/{}", run.id))];
    let view = JsonAnswer(BackupRunView::from(run));
    Ok((StatusCode::ACCEPTED, location, view).into_response())
}

/// Shows how far a backup is.
#[utoipa::path(
    get,
    path = "/backups/runs/{id}",
    tag = "daemon",
    params(("id" = u64, Path, description = "The run's number")),
    responses(
        (status = 200, description = "The run", body = BackupRunView),
        (status = 403, description = "You may not see the whole appliance"),
        (status = 404, description = "There is no such run since the daemon's start, or it was long ago"),
    )
)]
pub(crate) async fn get_backup_run(
    State(api): State<Api>,
    Path(id): Path<u64>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<BackupRunView>, Problem> {
    query::none(&uri)?;
    caller.need_everywhere(Permission::BackupsRead)?;
    let runs = made_by(&api)?.runs().await;
    let run = runs.into_iter().find(|run| run.id == id);
    let run = run.ok_or_else(|| Problem::not_found("run of a backup", &id.to_string()))?;
    Ok(JsonAnswer(BackupRunView::from(run)))
}

/// Makes a backup and answers with it.
///
/// The answer is the archive, of a length that is not known beforehand: a
/// connection that ends before its end is a backup that broke off. One at a
/// time; it takes as long as it takes.
#[utoipa::path(
    post,
    path = "/backups/stream",
    tag = "daemon",
    responses(
        (status = 200, description = "The archive", content_type = "application/x-tar", body = Vec<u8>),
        (status = 403, description = "You may not do this for the whole appliance"),
        (status = 409, description = "Another one is being made"),
        (status = 503, description = "It cannot be made now"),
    )
)]
pub(crate) async fn stream_backup(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    caller.need_everywhere(Permission::BackupsWrite)?;
    let backups = made_by(&api)?;
    let place = api.stream().ok_or_else(|| refused(BackupRefused::Busy))?;
    let pieces = backups.stream(caller.by()).await.map_err(refused)?;
    note(&api, &caller, "backup:stream", "the client").await;
    let kind = [(header::CONTENT_TYPE, "application/x-tar")];
    Ok((kind, body(pieces, place)).into_response())
}

/// The pieces as a body, until the empty one. The place is free again when the
/// client has all of it, or is gone.
fn body(pieces: mpsc::Receiver<Result<Bytes, String>>, place: OwnedSemaphorePermit) -> Body {
    let begin = Some((pieces, place));
    Body::from_stream(stream::unfold(begin, async |going| {
        let (mut pieces, place) = going?;
        let broke_off = |why: String| {
            warn!(error = %why, "a backup that is streamed broke off");
            Some((Err(io::Error::other(why)), None))
        };
        match pieces.recv().await {
            Some(Ok(piece)) if piece.is_empty() => None,
            Some(Ok(piece)) => Some((Ok(piece), Some((pieces, place)))),
            Some(Err(why)) => broke_off(why),
            None => broke_off("it ended by a fault".to_owned()),
        }
    }))
}

fn made_by(api: &Api) -> Result<Arc<dyn Backups>, Problem> {
    api.daemon().backups().ok_or_else(|| {
        Problem::new(
            Kind::Conflict,
            "backups are not set up; add a section [backup] to the settings and reload",
        )
    })
}

fn refused(why: BackupRefused) -> Problem {
    let text = why.to_string();
    match why {
        BackupRefused::Busy => Problem::new(Kind::Conflict, text),
        BackupRefused::To(_) => Problem::new(Kind::Invalid, text).at("/to"),
        BackupRefused::Unavailable(_) => Problem::new(Kind::Unavailable, text),
    }
}

/// Writes down who made a backup. One that rescues what is on a failing disk is
/// not held up by a log that cannot be written.
async fn note(api: &Api, caller: &Caller, object: &str, to: &str) {
    caller.did("backup begun", to);
    let draft = AuditDraft {
        action: "backup.create".to_owned(),
        object: object.to_owned(),
        tenant: None,
        outcome: AuditOutcome::Done,
        after: Some(json!({ "to": to }).to_string()),
    };
    let noted = api.store().note_audit(&caller.by(), draft, api.now()).await;
    if let Err(error) = noted {
        error!(%error, "a backup is not in the audit log: {error}");
    }
}

fn read_to(body: &Value) -> Result<Option<String>, Problem> {
    let mistakes = Mistakes::default();
    let object = Object::read(body, "", &["to"], &mistakes);
    let to = object.and_then(|object| object.text("to").map(str::to_owned));
    if let Some(to) = &to {
        let is_place = to.starts_with('/') || to.starts_with("s3://");
        if !is_place || to.len() > PLACE_BYTES || to.chars().any(char::is_control) {
            let message = format!(
                "this is not a place for a backup: the absolute path of a directory, or s3://bucket/prefix, of at most {PLACE_BYTES} bytes"
            );
            mistakes.at("/to", message);
        }
    }
    mistakes.or(Kind::Invalid, Some(to))
}
