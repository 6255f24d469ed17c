//! The HTTP API: what people and scripts see of the daemon.
//!
//! [`serve_unix`] serves everything to local users that may open the socket;
//! [`serve_tcp`] serves health and metrics alone. One file per resource holds
//! its handlers and the JSON it speaks; [`model`] types never leave as they
//! are. Lists are built from the store's memory, ranges are read from its disk
//! on the blocking pool.
//!
//! A request that fails is answered with a problem document (RFC 9457) that
//! says what to do; `openapi.json` beside the sources describes all of it and
//! a test keeps it true.

mod alerts;
mod answer;
mod credentials;
mod daemon;
mod device_body;
mod device_view;
mod devices;
mod exposition;
mod health;
mod import;
mod interfaces;
mod metrics;
mod mistakes;
mod openapi;
mod outbox;
mod page;
mod problem;
mod query;
mod request;
mod rollup;
mod router;
mod rule_body;
mod rules;
mod server;
mod span;
mod stall;
mod status;
mod telemetry;
mod when;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::Timestamp;
use store::Store;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use daemon::{Daemon, DaemonStatus, IcmpStatus, MailStatus, PollNowRefused, SchedulerStatus};
pub use exposition::{ExposedKind, Exposition};
pub use openapi::openapi;
pub use server::{serve_tcp, serve_unix};

use problem::{Kind, Problem};
use rollup::Rollups;
use telemetry::Telemetry;

/// Imports that go on at once: their tables are the only large bodies, so this
/// bounds what bodies take in memory.
const IMPORTS_AT_ONCE: usize = 2;

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
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 256,
            header_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            body_bytes: 8 * 1024 * 1024,
            grace: Duration::from_secs(5),
        }
    }
}

/// The API over one store and one daemon. Cheap to clone; clones share their
/// counters.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

struct Shared {
    store: Store,
    daemon: Arc<dyn Daemon>,
    limits: Limits,
    telemetry: Telemetry,
    rollups: Rollups,
    imports: Arc<Semaphore>,
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
    /// The API over `store` and `daemon`.
    #[must_use]
    pub fn new(store: Store, daemon: Arc<dyn Daemon>, limits: Limits) -> Api {
        let started = daemon.now();
        Api(Arc::new(Shared {
            store,
            daemon,
            limits,
            telemetry: Telemetry::default(),
            rollups: Rollups::default(),
            imports: Arc::new(Semaphore::new(IMPORTS_AT_ONCE)),
            started,
            requests: AtomicU64::new(1),
        }))
    }

    fn store(&self) -> &Store {
        &self.0.store
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

    /// A place among the imports that may go on at once; waits for it.
    async fn import_place(&self) -> OwnedSemaphorePermit {
        let place = Arc::clone(&self.0.imports).acquire_owned().await;
        place.expect("the places for imports are never closed")
    }

    fn now(&self) -> Timestamp {
        self.0.daemon.now()
    }

    /// Unlike any other of this daemon, also over restarts.
    fn next_request_id(&self) -> String {
        let count = self.0.requests.fetch_add(1, Ordering::Relaxed);
        format!("{:x}-{count:x}", self.0.started.0)
    }

    /// Runs a read of the store's disk where it may block.
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
