//! The HTTP API: what people and scripts see of the daemon.
//!
//! [`serve_unix`] serves everything to local users that may open the socket,
//! [`serve_https`] to everybody on the network who gets in; [`serve_tcp`] serves
//! health and metrics alone. Who may use a route stands beside it in `router`,
//! and what of a resource they see is its handlers' business. One file per
//! resource holds
//! its handlers and the JSON it speaks; [`model`] types never leave as they
//! are. Lists are built from the store's memory, ranges are read from its disk
//! on the blocking pool.
//!
//! A request that fails is answered with a problem document (RFC 9457) that
//! says what to do; `openapi.json` beside the sources describes all of it and
//! a test keeps it true.

mod alerts;
mod answer;
mod audit;
mod backups;
mod binding_body;
mod caller;
mod columns;
mod cookies;
mod credentials;
mod daemon;
mod device_body;
mod device_view;
mod devices;
mod exposition;
mod gate;
mod health;
mod history;
mod idempotency;
mod import;
mod installed;
mod interfaces;
mod json_numbers;
mod leftover;
mod me;
mod metrics;
mod mistakes;
mod number;
mod oidc;
mod openapi;
mod outbox;
mod page;
mod patch;
mod places;
mod plugin_bench;
mod plugin_views;
mod plugins;
mod policy;
mod problem;
mod proxies;
mod query;
mod rate;
mod request;
mod roles;
mod rollup;
mod router;
mod rule_body;
mod rules;
mod samples_view;
mod secret_key;
mod secret_routes;
mod series;
mod series_ask;
mod server;
mod sessions;
mod setup;
mod setup_page;
mod sorted;
mod span;
mod stall;
mod status;
mod strict_json;
mod taken;
mod telemetry;
mod tenants;
pub mod tls;
mod tokens;
mod users;
mod when;
mod words;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use access::Access;
use model::Timestamp;
use secrets::Secrets;
use store::Store;
use tokio::sync::{Mutex, MutexGuard, OwnedSemaphorePermit, Semaphore};

pub use daemon::{
    BackupRefused, BackupRun, BackupState, Backups, Daemon, DaemonStatus, HttpsStatus, IcmpStatus,
    KeptBackup, Later, MailStatus, PollNowRefused, SchedulerStatus,
};
pub use exposition::{ExposedKind, Exposition};
pub use installed::{
    BundledPlugin, DEV_LEASE, Described, PACKAGE_BYTES, PluginDetails, PluginFigures,
    PluginHostStatus, PluginInstalled, PluginProblem, PluginRefused, PluginRun, PluginSetting,
    PluginSource, PluginState, PluginStatus, Plugins,
};
pub use openapi::openapi;
pub use server::{serve_https, serve_tcp, serve_unix};

use idempotency::InFlight;
use places::Places;
use problem::{Kind, Problem};
use rate::Buckets;
use rollup::Rollups;
use telemetry::Telemetry;

/// Imports that go on at once: their tables are the only large bodies, so this
/// bounds what bodies take in memory. Nobody has more than one of them.
const IMPORTS_AT_ONCE: usize = 2;

/// Packages of plugins that are read at once, each in memory. Nobody has more
/// than one of them.
const PACKAGES_AT_ONCE: usize = 2;

/// Requests at once whose body is read before their handler runs: those that
/// are signed or have an `Idempotency-Key`. Bounds what these take in memory.
const BUFFERED_AT_ONCE: usize = 8;

/// How many of these may be of one principal, or from one address.
const BUFFERED_OF_ONE: usize = 2;

/// Questions to the sample store at once: each may read many files, and has its
/// answer in memory.
const HISTORIES_AT_ONCE: usize = 4;

/// How many of these may be of one principal: two charts of one page.
const HISTORIES_OF_ONE: usize = 2;

/// What a client may use of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once, per listener.
    pub connections: usize,
    /// How long a request's header may take to arrive; also how long a
    /// connection may be idle between two requests.
    pub header_timeout: Duration,
    /// How long a request may take in all, its body at most half of that; also
    /// how long a client may not read its answer.
    pub request_timeout: Duration,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// How long requests in hand are waited for at the end.
    pub grace: Duration,
    /// Requests per minute of each person; a token has its own limit, and
    /// local processes have none.
    pub requests_per_minute: u32,
    /// Requests per minute from each address that show nothing, or something
    /// wrong.
    pub anonymous_per_minute: u32,
    /// Proxies that may say for which address they speak (`X-Forwarded-For`).
    pub trusted_proxies: Vec<model::Network>,
    /// Origins whose pages may read answers, exactly as browsers send them
    /// (`https://host:port`); none: no page of another origin may.
    pub cors_origins: Vec<String>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 256,
            header_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            body_bytes: 8 * 1024 * 1024,
            grace: Duration::from_secs(5),
            requests_per_minute: 600,
            anonymous_per_minute: 60,
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
        }
    }
}

/// The API over one store and one daemon. Cheap to clone; clones share their
/// counters.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

struct Shared {
    store: Store,
    secrets: Secrets,
    access: Access,
    daemon: Arc<dyn Daemon>,
    limits: Limits,
    telemetry: Telemetry,
    rollups: Rollups,
    imports: Places,
    packages: Places,
    buffers: Places,
    histories: Places,
    streams: Arc<Semaphore>,
    audit_turns: audit::Turns,
    in_flight: InFlight,
    addresses: Buckets<IpAddr>,
    principals: Buckets<String>,
    rule_changes: Mutex<()>,
    started: Timestamp,
    requests: AtomicU64,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("limits", &self.0.limits)
            .finish_non_exhaustive()
    }
}

impl Api {
    /// The API over `store` with its `secrets` and the `access` to it, and over
    /// `daemon`.
    #[must_use]
    pub fn new(
        store: Store,
        secrets: Secrets,
        access: Access,
        daemon: Arc<dyn Daemon>,
        limits: Limits,
    ) -> Api {
        let started = daemon.now();
        Api(Arc::new(Shared {
            store,
            secrets,
            access,
            daemon,
            limits,
            telemetry: Telemetry::default(),
            rollups: Rollups::default(),
            imports: Places::new(IMPORTS_AT_ONCE, 1),
            packages: Places::new(PACKAGES_AT_ONCE, 1),
            buffers: Places::new(BUFFERED_AT_ONCE, BUFFERED_OF_ONE),
            histories: Places::new(HISTORIES_AT_ONCE, HISTORIES_OF_ONE),
            streams: Arc::new(Semaphore::new(1)),
            audit_turns: audit::Turns::default(),
            in_flight: InFlight::default(),
            addresses: Buckets::new(),
            principals: Buckets::new(),
            rule_changes: Mutex::new(()),
            started,
            requests: AtomicU64::new(1),
        }))
    }

    fn store(&self) -> &Store {
        &self.0.store
    }

    fn secrets(&self) -> &Secrets {
        &self.0.secrets
    }

    fn access(&self) -> &Access {
        &self.0.access
    }

    fn daemon(&self) -> &dyn Daemon {
        &*self.0.daemon
    }

    fn limits(&self) -> &Limits {
        &self.0.limits
    }

    fn telemetry(&self) -> &Telemetry {
        &self.0.telemetry
    }

    fn rollups(&self) -> &Rollups {
        &self.0.rollups
    }

    /// Places for the imports that may go on at once.
    fn imports(&self) -> &Places {
        &self.0.imports
    }

    /// Places for the packages of plugins that may come at once.
    fn packages(&self) -> &Places {
        &self.0.packages
    }

    /// Places for the requests whose body is read beforehand.
    fn buffers(&self) -> &Places {
        &self.0.buffers
    }

    /// Places for the questions to the sample store.
    fn histories(&self) -> &Places {
        &self.0.histories
    }

    /// The place of the one backup that may be streamed, if it is free.
    fn stream(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.streams).try_acquire_owned().ok()
    }

    /// Nobody else makes or changes a rule while this is held.
    async fn rule_changes(&self) -> MutexGuard<'_, ()> {
        self.0.rule_changes.lock().await
    }

    /// The turns of those who read the audit log.
    fn audit_turns(&self) -> &audit::Turns {
        &self.0.audit_turns
    }

    fn in_flight(&self) -> &InFlight {
        &self.0.in_flight
    }

    fn addresses(&self) -> &Buckets<IpAddr> {
        &self.0.addresses
    }

    fn principals(&self) -> &Buckets<String> {
        &self.0.principals
    }

    fn now(&self) -> Timestamp {
        self.0.daemon.now()
    }

    /// Unlike any other of this daemon, also over restarts.
    fn next_request_id(&self) -> String {
        let count = self.0.requests.fetch_add(1, Ordering::Relaxed);
        format!("{:x}-{count:x}", self.0.started.0)
    }

    /// Runs what waits for the store's disk where it may block.
    async fn read<T, E>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Problem>
    where
        T: Send + 'static,
        E: Into<Problem> + Send + 'static,
    {
        let store = self.0.store.clone();
        match tokio::task::spawn_blocking(move || read(&store)).await {
            Ok(result) => result.map_err(Into::into),
            Err(error) => {
                tracing::error!(%error, "a read of the store ended by a fault: {error}");
                Err(Problem::new(Kind::Internal, "the read ended by a fault"))
            }
        }
    }
}
