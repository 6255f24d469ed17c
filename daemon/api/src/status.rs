//! The daemon on one page.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::Uri;
use model::{AlertState, Permission};
use serde::Serialize;
use store::{StoreHealth, StoreStats};
use utoipa::ToSchema;

use crate::Api;
use crate::caller::Caller;
use crate::daemon::{DaemonStatus, MailStatus, SchedulerStatus};
use crate::device_view::Viewer;
use crate::health::not_writing;
use crate::problem::Problem;
use crate::query;
use crate::request::JsonAnswer;
use crate::samples_view::SamplesView;

/// How the daemon is. Before it is set up the network sees `set_up` alone, and
/// who has the permission for a tenant, sites or tags only does not see how the
/// daemon itself is: that is null then.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct StatusView {
    /// Whether there is an administrator.
    set_up: bool,
    /// The daemon's version.
    version: Option<String>,
    /// Since when it runs.
    started: Option<String>,
    /// For how long it runs.
    uptime_seconds: Option<f64>,
    /// What an operator should know, one line each.
    warnings: Vec<String>,
    /// How many devices there are that the caller sees, and how they are.
    devices: Option<DevicesView>,
    /// Open alerts that the caller sees.
    alerts: Option<AlertsView>,
    /// How polling goes.
    scheduler: Option<SchedulerView>,
    /// How it pings, by address family.
    icmp: Option<IcmpView>,
    /// The store.
    store: Option<StoreView>,
    /// How measured values are kept.
    samples: Option<SamplesView>,
    /// Mail; null where it is not set up.
    mail: Option<MailView>,
    /// Notifications.
    outbox: Option<OutboxView>,
}

/// How many devices there are, and how they are.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DevicesView {
    total: usize,
    up: usize,
    problem: usize,
    down: usize,
    unreachable: usize,
    unknown: usize,
    disabled: usize,
}

/// Alerts that are not resolved, by state.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct AlertsView {
    firing: usize,
    pending: usize,
    unreachable: usize,
    /// Firing ones, by severity.
    by_severity: BTreeMap<&'static str, usize>,
}

/// How polling goes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SchedulerView {
    /// Polls that are due and not begun.
    due: u64,
    /// Polls begun and not ended.
    in_flight: u64,
    /// How late the latest poll began.
    lag_seconds: f64,
    /// Polls skipped since the start, by reason.
    skipped: BTreeMap<String, u64>,
}

/// How the daemon pings, or why it cannot.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IcmpView {
    v4: String,
    v6: String,
}

/// How the store is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StoreView {
    /// ok, or "not writing".
    health: &'static str,
    /// Why not.
    error: Option<String>,
    /// Since when not.
    failing_since: Option<String>,
    /// Size of its file.
    file_bytes: u64,
    /// Commits since the start.
    commits: u64,
    /// What a commit took on average.
    commit_mean_seconds: Option<f64>,
    /// Poll reports that wait for the writer.
    queue: usize,
    /// Poll reports that can wait for the writer.
    queue_limit: usize,
    /// Poll reports kept in memory until the disk takes writes again.
    backlog_reports: usize,
    /// Poll reports lost because it took none for too long.
    backlog_dropped: u64,
    /// Reads that met a damaged record.
    corrupt_reads: u64,
}

/// How mail goes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MailView {
    /// The server, as `host:port`.
    server: String,
    /// Who gets mail by default.
    recipients: Vec<String>,
    /// When a mail was last accepted.
    last_success: Option<String>,
    /// When a try last failed.
    last_error_at: Option<String>,
    /// Why.
    last_error: Option<String>,
}

/// How many notifications wait.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OutboxView {
    /// To be delivered.
    open: usize,
    /// Refused for good.
    parked: usize,
}

/// Shows how the daemon is.
#[utoipa::path(
    get,
    path = "/status",
    tag = "daemon",
    responses((status = 200, description = "How it is", body = StatusView))
)]
pub(crate) async fn get_status(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<StatusView>, Problem> {
    query::none(&uri)?;
    let set_up = api.access().is_set_up();
    if caller.is_anonymous() {
        return Ok(JsonAnswer(StatusView {
            set_up,
            ..StatusView::default()
        }));
    }
    let daemon = api.daemon().status();
    let seen = StatusView {
        set_up,
        version: Some(daemon.version.clone()),
        started: Some(daemon.started.to_string()),
        uptime_seconds: Some(api.now().since(daemon.started).as_secs_f64()),
        devices: Some(devices(&api, &caller)),
        alerts: Some(alerts(&api, &caller)),
        ..StatusView::default()
    };
    Ok(JsonAnswer(
        match caller.holds_everywhere(Permission::StatusRead) {
            true => with_details(&api, daemon, seen),
            false => seen,
        },
    ))
}

/// What is the appliance's and no tenant's.
fn with_details(api: &Api, daemon: DaemonStatus, seen: StatusView) -> StatusView {
    let stats = api.store().stats();
    StatusView {
        outbox: Some(OutboxView {
            open: stats.open_outbox,
            parked: stats.parked_outbox,
        }),
        store: Some(store_view(&stats)),
        samples: Some(SamplesView::of(&stats.samples)),
        mail: mail(api, &daemon),
        scheduler: Some(scheduler(daemon.scheduler)),
        icmp: Some(IcmpView {
            v4: daemon.icmp.v4,
            v6: daemon.icmp.v6,
        }),
        warnings: daemon.warnings,
        ..seen
    }
}

fn devices(api: &Api, caller: &Caller) -> DevicesView {
    let viewer = Viewer::new(api, caller);
    let mut by_state = BTreeMap::<&str, usize>::new();
    let seen = viewer.inventory().live();
    for device in seen.filter(|device| caller.on_device(Permission::StatusRead, device)) {
        *by_state.entry(viewer.state(device).word()).or_default() += 1;
    }
    let count = |word: &str| by_state.get(word).copied().unwrap_or(0);
    DevicesView {
        total: by_state.values().sum(),
        up: count("up"),
        problem: count("problem"),
        down: count("down"),
        unreachable: count("unreachable"),
        unknown: count("unknown"),
        disabled: count("disabled"),
    }
}

fn alerts(api: &Api, caller: &Caller) -> AlertsView {
    let inventory = api.store().inventory();
    let mut counts = AlertsView::default();
    let seen = api.store().open_alerts().into_iter().filter(|alert| {
        match inventory.device(alert.device) {
            Some(device) => caller.on_device(Permission::StatusRead, device),
            None => caller.holds_everywhere(Permission::StatusRead),
        }
    });
    for alert in seen {
        match alert.state {
            AlertState::Firing => {
                counts.firing += 1;
                *counts.by_severity.entry(alert.severity.word()).or_default() += 1;
            }
            AlertState::Pending => counts.pending += 1,
            AlertState::Unreachable { .. } => counts.unreachable += 1,
            AlertState::Resolved => {}
        }
    }
    counts
}

fn scheduler(scheduler: SchedulerStatus) -> SchedulerView {
    SchedulerView {
        due: scheduler.due,
        in_flight: scheduler.in_flight,
        lag_seconds: scheduler.lag_seconds,
        skipped: scheduler.skipped.into_iter().collect(),
    }
}

fn store_view(stats: &StoreStats) -> StoreView {
    let commits = &stats.commit_seconds;
    let (health, since) = match &stats.health {
        StoreHealth::Ok => ("ok", None),
        StoreHealth::NotWriting { since, .. } => ("not writing", Some(since.to_string())),
    };
    StoreView {
        health,
        error: not_writing(&stats.health),
        failing_since: since,
        file_bytes: stats.file_bytes,
        commits: stats.commits,
        commit_mean_seconds: (commits.count > 0)
            .then(|| commits.sum / crate::exposition::as_f64(commits.count)),
        queue: stats.queue_len,
        queue_limit: stats.queue_limit,
        backlog_reports: stats.backlog_reports,
        backlog_dropped: stats.backlog_dropped,
        corrupt_reads: stats.corrupt_reads,
    }
}

fn mail(api: &Api, daemon: &DaemonStatus) -> Option<MailView> {
    let MailStatus {
        server,
        last_success,
        last_error,
    } = daemon.mail.clone()?;
    let (at, why) = last_error.unzip();
    Some(MailView {
        server,
        recipients: api.daemon().mail_recipients().unwrap_or_default(),
        last_success: last_success.map(|at| at.to_string()),
        last_error_at: at.map(|at| at.to_string()),
        last_error: why,
    })
}
