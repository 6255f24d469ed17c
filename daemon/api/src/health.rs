//! For whoever watches the watcher: is it alive, is it ready, how does it do.

use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::IntoResponse;
use serde::Serialize;
use store::{StoreHealth, StoreStats};
use utoipa::ToSchema;

use crate::Api;
use crate::exposition::{CONTENT_TYPE, ExposedKind, Exposition, as_f64};
use crate::problem::Problem;
use crate::query;
use crate::request::JsonAnswer;

/// How the daemon is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// ok or failing.
    status: &'static str,
    /// What is wrong, one line each.
    reasons: Vec<String>,
}

/// Says that the process runs.
#[utoipa::path(
    get,
    path = "/health/live",
    tag = "daemon",
    responses((status = 200, description = "It runs", body = Health))
)]
pub(crate) async fn live(uri: Uri) -> Result<JsonAnswer<Health>, Problem> {
    query::none(&uri)?;
    Ok(JsonAnswer(health(Vec::new())))
}

/// Says whether the daemon does its work: whether the store can be written.
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "daemon",
    responses(
        (status = 200, description = "It does its work", body = Health),
        (status = 503, description = "It does not, and this is why", body = Health),
    )
)]
pub(crate) async fn ready(
    State(api): State<Api>,
    uri: Uri,
) -> Result<(StatusCode, JsonAnswer<Health>), Problem> {
    query::none(&uri)?;
    let reasons: Vec<String> = not_writing(&api.store().stats().health)
        .into_iter()
        .collect();
    let status = match reasons.as_slice() {
        [] => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    Ok((status, JsonAnswer(health(reasons))))
}

fn health(reasons: Vec<String>) -> Health {
    Health {
        status: match reasons.as_slice() {
            [] => "ok",
            _ => "failing",
        },
        reasons,
    }
}

/// Why the store takes no writes, if it does not.
pub(crate) fn not_writing(health: &StoreHealth) -> Option<String> {
    match health {
        StoreHealth::Ok => None,
        StoreHealth::NotWriting { error, .. } => {
            Some(format!("the store cannot be written: {error}"))
        }
    }
}

/// Shows metrics about the daemon itself, in the Prometheus text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "daemon",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain"))
)]
pub(crate) async fn expose_metrics(
    State(api): State<Api>,
    uri: Uri,
) -> Result<impl IntoResponse, Problem> {
    query::none(&uri)?;
    let mut text = Exposition::default();
    api.daemon().metrics(&mut text);
    api.telemetry().expose(&mut text);
    expose_store(&api.store().stats(), &mut text);
    text.single(
        "sotp_devices",
        ExposedKind::Gauge,
        "Devices in the inventory, deleted ones not counted",
        size(api.store().inventory().len()),
    );
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text.into_text()))
}

fn size(count: usize) -> f64 {
    u64::try_from(count).map_or(f64::INFINITY, as_f64)
}

fn expose_store(stats: &StoreStats, text: &mut Exposition) {
    let writing = not_writing(&stats.health).is_none();
    for (name, help, value) in [
        (
            "sotp_store_writing",
            "1 if the store can be written, else 0",
            f64::from(u8::from(writing)),
        ),
        (
            "sotp_store_file_bytes",
            "Size of the store's file",
            as_f64(stats.file_bytes),
        ),
        (
            "sotp_store_queue_length",
            "Poll reports that wait for the writer",
            size(stats.queue_len),
        ),
        (
            "sotp_store_queue_limit",
            "Poll reports that can wait for the writer",
            size(stats.queue_limit),
        ),
        (
            "sotp_store_backlog_reports",
            "Poll reports kept in memory until the disk takes writes again",
            size(stats.backlog_reports),
        ),
        (
            "sotp_store_rows",
            "Rows of samples that are kept",
            as_f64(stats.rows),
        ),
        (
            "sotp_store_samples",
            "Samples that are kept",
            as_f64(stats.samples),
        ),
        (
            "sotp_store_chunks",
            "Compressed chunks of samples",
            as_f64(stats.chunks),
        ),
        (
            "sotp_store_chunk_bytes",
            "Bytes in compressed chunks of samples",
            as_f64(stats.chunk_bytes),
        ),
        (
            "sotp_outbox_queued",
            "Notifications to be delivered",
            size(stats.open_outbox),
        ),
        (
            "sotp_outbox_parked",
            "Notifications that were refused for good",
            size(stats.parked_outbox),
        ),
    ] {
        text.single(name, ExposedKind::Gauge, help, value);
    }
    for (name, help, value) in [
        (
            "sotp_store_commits_total",
            "Commits of the store",
            stats.commits,
        ),
        (
            "sotp_store_backlog_dropped_total",
            "Poll reports lost because the disk took no writes for too long",
            stats.backlog_dropped,
        ),
        (
            "sotp_store_corrupt_reads_total",
            "Reads that met a damaged record",
            stats.corrupt_reads,
        ),
    ] {
        text.single(name, ExposedKind::Counter, help, as_f64(value));
    }
    let name = "sotp_store_commit_seconds";
    text.family(name, ExposedKind::Histogram, "How long a commit took");
    let commits = &stats.commit_seconds;
    let buckets = commits.buckets.iter().copied();
    text.histogram(name, &[], buckets, commits.sum, commits.count);
}
