//! The wiring: every queue and every task, in the order the data flows.
//!
//! This is the only file that knows all stages. Stages never import each other;
//! they meet here, in `model` types, over queues with a limit.
//!
//! Started from the last stage to the first, so that nobody sends before
//! somebody listens; stopped from the first to the last: no new polls, what is
//! measured is committed, rules judge it once more, mails in hand are finished,
//! the API ends last.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use collect::{Pinger, Resolver, SnmpEngine};
use config::Settings;
use notify::{MailHealth, Mailer};
use store::Store;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::failure::{Failure, chain};
use crate::journal::LogLevel;
use crate::judge::Judge;
use crate::poll::{Collectors, Pace, Poller};
use crate::settings::{self, Everything};
use crate::status::Board;
use crate::{clock, reload, systemd, watchdog};

/// What each stage gets to finish what it has in hand; all of them together stay
/// below TimeoutStopSec= of the unit.
const GRACE: Duration = Duration::from_secs(6);

/// Opening a large store may take longer than systemd waits by itself.
const OPENING: Duration = Duration::from_secs(300);

/// A running pipeline, from the first stage to the last.
pub(crate) struct App {
    store: Store,
    poller: Stage,
    judge: Stage,
    notify: Stage,
    watchdog: Stage,
    api: Stage,
    health: Option<Stage>,
    pub(crate) knobs: Knobs,
}

/// What a reload turns.
pub(crate) struct Knobs {
    /// What the daemon was started with: in force for all that a reload cannot
    /// change.
    pub(crate) started_with: Settings,
    pub(crate) store: Store,
    pub(crate) pinger: Pinger,
    pub(crate) snmp: SnmpEngine,
    pub(crate) pace: watch::Sender<Pace>,
    pub(crate) recipients: watch::Sender<Vec<String>>,
    pub(crate) mailer: watch::Sender<Option<Arc<Mailer>>>,
    pub(crate) board: Board,
    pub(crate) log_level: LogLevel,
}

/// One task that runs until it is told to stop.
struct Stage {
    name: &'static str,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Stage {
    fn start<F>(name: &'static str, run: impl FnOnce(CancellationToken) -> F) -> Stage
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(stop.clone()));
        Stage { name, stop, task }
    }

    /// Ends when the stage does, which it does not do by itself.
    async fn gone(&mut self) -> &'static str {
        let _ = (&mut self.task).await;
        self.name
    }

    /// Tells the stage to stop and waits for it, but not for ever.
    async fn stop(mut self) {
        self.stop.cancel();
        if self.task.is_finished() {
            return;
        }
        if timeout(GRACE, &mut self.task).await.is_err() {
            warn!(
                stage = self.name,
                "did not stop in time; going on without it"
            );
            self.task.abort();
        }
    }
}

impl App {
    /// Opens the store and binds the sockets, then starts the stages.
    pub(crate) async fn start(everything: Everything, log_level: LogLevel) -> Result<App, Failure> {
        let Everything {
            settings,
            rules,
            mailer,
        } = everything;
        systemd::extend_timeout(OPENING);
        let store = open_store(&settings).await?;
        store.set_file_rules(rules);
        let socket = bind_socket(&settings.api.socket)?;
        let listener = match settings.api.listen {
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .map_err(Failure::system(format!("listen on {address} (api.listen)")))?,
            ),
            None => None,
        };

        let collectors = start_collectors(&settings).await?;
        let (pace, pace_seen) = watch::channel(settings::pace(&settings));
        let (recipients, recipients_seen) = watch::channel(settings::recipients(&settings));
        let (mailer, mailer_seen) = watch::channel(mailer.map(Arc::new));
        let health = MailHealth::default();
        let judge = Judge::new(store.clone());
        let (poller, handle) = Poller::new(store.clone(), collectors.clone(), pace_seen.clone());
        let board = Board {
            started: clock::now(),
            store: store.clone(),
            judge: judge.clone(),
            poller: handle.clone(),
            pinger: collectors.pinger.clone(),
            mail: health.clone(),
            pace: pace_seen.clone(),
            recipients: recipients_seen.clone(),
            mail_is_set: mailer_seen.clone(),
            reload_refused: Arc::new(Mutex::new(None)),
        };

        let api = api::Api::new(
            store.clone(),
            Arc::new(board.clone()),
            settings::api(&settings),
        );
        let api_stage = Stage::start("the API", |stop| api::serve_unix(socket, api.clone(), stop));
        let health_stage = listener.map(|listener| {
            Stage::start("the health listener", |stop| {
                api::serve_tcp(listener, api, stop)
            })
        });
        let watchdog = Stage::start("the watchdog", |stop| {
            watchdog::run(store.clone(), board.clone(), stop)
        });
        let notify = Stage::start("notify", |stop| {
            notify::drain(store.clone(), mailer_seen, health, clock::now, stop)
        });
        let judge = Stage::start("the rules", |stop| {
            judge.run(handle, pace_seen, recipients_seen, stop)
        });
        let poller = Stage::start("the poller", |stop| poller.run(stop));

        Ok(App {
            poller,
            judge,
            notify,
            watchdog,
            api: api_stage,
            health: health_stage,
            knobs: Knobs {
                started_with: settings,
                store: store.clone(),
                pinger: collectors.pinger,
                snmp: collectors.snmp,
                pace,
                recipients,
                mailer,
                board,
                log_level,
            },
            store,
        })
    }

    /// Takes the settings and rules that stand in the files now, or keeps the
    /// old ones.
    pub(crate) async fn reload(&mut self, path: &Path) {
        systemd::reloading();
        reload::reload(&mut self.knobs, path).await;
        systemd::ready();
        systemd::status(&self.knobs.board.line());
    }

    /// Ends when a stage ended by itself, which is a fault.
    pub(crate) async fn fault(&mut self) -> Failure {
        let writer = self.store.clone();
        let health = async {
            match &mut self.health {
                Some(stage) => stage.gone().await,
                None => std::future::pending().await,
            }
        };
        let stage = tokio::select! {
            () = writer.writer_gone() => return Failure::WriterGone,
            stage = self.poller.gone() => stage,
            stage = self.judge.gone() => stage,
            stage = self.notify.gone() => stage,
            stage = self.watchdog.gone() => stage,
            stage = self.api.gone() => stage,
            stage = health => stage,
        };
        Failure::StageGone { stage }
    }

    /// Stops from the first stage to the last.
    pub(crate) async fn drain(self) -> Result<(), Failure> {
        self.watchdog.stop().await;
        self.poller.stop().await;
        self.judge.stop().await;
        self.notify.stop().await;
        if let Some(health) = self.health {
            health.stop().await;
        }
        self.api.stop().await;
        let socket = self.knobs.started_with.api.socket.clone();
        let store = self.store;
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        let _ = std::fs::remove_file(socket);
        match closed {
            Ok(Ok(())) => {
                info!("stopped; everything accepted is on the disk");
                Ok(())
            }
            Ok(Err(error)) => {
                warn!(error = %chain(&error), "the store did not close cleanly");
                Err(Failure::WriterGone)
            }
            Err(_panicked) => Err(Failure::WriterGone),
        }
    }
}

async fn open_store(settings: &Settings) -> Result<Store, Failure> {
    let options = settings::store(settings);
    let now = clock::now();
    tokio::task::spawn_blocking(move || Store::open(options, now))
        .await
        .map_err(|_panicked| Failure::WriterGone)?
        .map_err(Failure::Store)
}

async fn start_collectors(settings: &Settings) -> Result<Collectors, Failure> {
    Ok(Collectors {
        pinger: Pinger::start(settings::ping(settings))
            .map_err(Failure::system("start the pinger"))?,
        snmp: SnmpEngine::start(settings::snmp(settings))
            .await
            .map_err(Failure::system("open sockets for SNMP"))?,
        resolver: Resolver::new(settings::dns(settings))
            .map_err(Failure::system("set up name resolution"))?,
    })
}

/// Binds the API's socket. Holding the store's lock, we may take the place of a
/// socket that a killed daemon left, but never of one that answers.
fn bind_socket(path: &Path) -> Result<UnixListener, Failure> {
    let doing = || format!("listen on {} (api.socket)", path.display());
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(Failure::SocketInUse {
            path: path.to_owned(),
        });
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Failure::system(doing())(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(Failure::system(doing()))?;
    // root, our own user and our group: whoever may run `sotp`
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o660);
    std::fs::set_permissions(path, mode).map_err(Failure::system(doing()))?;
    Ok(listener)
}
