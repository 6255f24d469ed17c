//! For whoever watches the watcher: is it alive, is it ready, how does it do.

use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::IntoResponse;
use model::Permission;
use serde::Serialize;
use store::{StoreHealth, StoreStats};
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::exposition::{CONTENT_TYPE, ExposedKind, Exposition, as_f64};
use crate::problem::Problem;
use crate::query;
use crate::request::JsonAnswer;
use crate::{Api, samples_view};

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
    let reasons: Vec<String> = not_writing(&api.store().health()).into_iter().collect();
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
///
/// On the plain listener of the machine itself everybody sees them; the age of
/// each secret by its name only who may also list secrets everywhere.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "daemon",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain"))
)]
pub(crate) async fn expose_metrics(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<impl IntoResponse, Problem> {
    query::none(&uri)?;
    // nobody gets here but on the plain listener, where everybody may
    if !caller.is_anonymous() {
        caller.need_everywhere(Permission::TelemetryRead)?;
    }
    let mut text = Exposition::default();
    api.daemon().metrics(&mut text);
    api.telemetry().expose(&mut text);
    let stats = api.store().stats();
    expose_store(&stats, &mut text);
    samples_view::expose(&stats.samples, &mut text);
    expose_access(&api, &mut text);
    expose_secrets(&api, &caller, &mut text);
    text.single(
        "sotp_devices",
        ExposedKind::Gauge,
        "Devices in the inventory, deleted ones not counted",
        size(api.store().inventory().len()),
    );
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text.into_text()))
}

fn expose_access(api: &Api, text: &mut Exposition) {
    let stats = api.access().stats();
    let name = "sotp_api_logins_total";
    text.family(
        name,
        ExposedKind::Counter,
        "Attempts to sign in, by how they ended",
    );
    for (outcome, count) in [
        ("let_in", stats.logins),
        ("refused", stats.refused),
        ("too_soon", stats.too_soon),
        ("too_busy", stats.too_busy),
    ] {
        text.sample(name, &[("outcome", outcome)], as_f64(count));
    }
    for (name, help, value) in [
        (
            "sotp_api_refresh_reused_total",
            "Refresh tokens that were used twice: their session was ended",
            stats.reused,
        ),
        (
            "sotp_api_password_hashes_total",
            "Password hashes that were computed",
            stats.hashes,
        ),
    ] {
        text.single(name, ExposedKind::Counter, help, as_f64(value));
    }
    for (name, help, value) in [
        (
            "sotp_api_sessions",
            "Sessions of people who are signed in",
            stats.sessions,
        ),
        (
            "sotp_api_locked",
            "Accounts and addresses that have to wait before the next attempt",
            stats.locked,
        ),
        (
            "sotp_api_logins_waiting",
            "Attempts to sign in that wait for a password hash",
            stats.waiting,
        ),
    ] {
        text.single(name, ExposedKind::Gauge, help, size(value));
    }
}

/// How old secrets are. What they are called is for those alone who may list
/// them.
fn expose_secrets(api: &Api, caller: &Caller, text: &mut Exposition) {
    let ages = api.secrets().ages(api.now());
    let oldest = ages.iter().map(|(_, age)| *age).max().unwrap_or_default();
    text.single(
        "sotp_secrets",
        ExposedKind::Gauge,
        "Secrets that are kept",
        size(ages.len()),
    );
    text.single(
        "sotp_secret_oldest_age_seconds",
        ExposedKind::Gauge,
        "Time since the value of the secret was set that was not set for longest",
        oldest.as_secs_f64(),
    );
    if !caller.holds_everywhere(Permission::SecretsRead) {
        return;
    }
    let name = "sotp_secret_age_seconds";
    text.family(
        name,
        ExposedKind::Gauge,
        "Time since the value of a secret was set",
    );
    for (secret, age) in ages {
        text.sample(name, &[("secret", &secret.0)], age.as_secs_f64());
    }
}

/// A number of things as a sample.
pub(crate) fn size(count: usize) -> f64 {
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
            as_f64(stats.values),
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
            "Samples lost because the disk took no writes for too long",
            stats.backlog_dropped,
        ),
        (
            "sotp_store_corrupt_reads_total",
            "Reads that met a damaged record",
            stats.corrupt_reads,
        ),
        (
            "sotp_audit_dropped_total",
            "Lines of the audit log that were dropped because too many waited",
            stats.audit_dropped,
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
