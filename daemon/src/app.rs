//! The wiring: every queue and every task, in the order the data flows.
//!
//! This is the only file that knows all stages. Stages never import each other;
//! they meet here, in `model` types, over queues with a limit.
//!
//! Started from the last stage to the first, so that nobody sends before
//! somebody listens; stopped from the first to the last: no new polls, what is
//! measured is committed, rules judge it once more, mails in hand are finished,
//! the API ends last.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use access::Access;
use collect::{Pinger, Resolver, SnmpEngine};
use config::Settings;
use notify::{ChannelHealth, MailHealth};
use rustls::ServerConfig;
use secrets::Secrets;
use store::Store;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::backups::Keeper;
use crate::failure::Failure;
use crate::https::Tls;
use crate::journal::LogLevel;
use crate::judge::Judge;
use crate::mail::Plan;
use crate::plugins::Plugins;
use crate::poll::{Collectors, Pace, Poller};
use crate::settings::{self, Everything};
use crate::status::Board;
use crate::{audit, clock, https, mail, reload, sealing, systemd, watchdog};

/// Verdicts of plugins that wait for the judge.
const JUDGED_WAITING: usize = 1_000;

/// What the poller and then the rules get to finish what they have in hand.
const GRACE: Duration = Duration::from_secs(5);

/// What mail, health and API get, all at once. With twice [`GRACE`] and
/// [`CLOSING`] this stays below TimeoutStopSec= of the unit.
const LAST_GRACE: Duration = Duration::from_secs(10);

/// What the store gets to write what is left.
const CLOSING: Duration = Duration::from_secs(6);

/// Between two tries to bind the health listener.
const BIND_AGAIN: Duration = Duration::from_secs(10);

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
    https: Option<Stage>,
    health: Option<Stage>,
    secrets: Stage,
    access: Stage,
    mail: Stage,
    audit: Stage,
    backups: Stage,
    plugins: Stage,
    couriers: Stage,
    plugin_host: Plugins,
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
    pub(crate) mail: watch::Sender<Plan>,
    /// What HTTPS is served with, if it is served.
    pub(crate) tls: Option<watch::Sender<Arc<ServerConfig>>>,
    pub(crate) access: Access,
    pub(crate) plugins: Plugins,
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
    async fn stop(mut self, grace: Duration) {
        self.stop.cancel();
        if self.task.is_finished() {
            return;
        }
        if timeout(grace, &mut self.task).await.is_err() {
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
            rules,
            tls,
            secrets,
            mail,
        } = everything;
        let settings = mail.settings.clone();
        systemd::extend_timeout(OPENING);
        check_key(&settings, &secrets).await?;
        let store = open_store(&settings).await?;
        store.set_file_rules(rules);
        let secrets = sealing::open(&store, secrets).await?;
        let access = start_access(&store, &secrets, &settings).await?;
        let socket = bind_socket(&settings.api.socket).await?;
        let collectors = start_collectors(&settings).await?;
        let (pace, pace_seen) = watch::channel(settings::pace(&settings));
        let (recipients, recipients_seen) = watch::channel(settings::recipients(&settings));
        let (mailer, mailer_seen) = watch::channel(None);
        let (mail, mail_seen) = watch::channel(mail);
        let health = MailHealth::default();
        let channels = ChannelHealth::default();
        let judge = Judge::new(store.clone());
        let url = settings.api.https.map(|address| {
            let name = https::name(&settings);
            format!("https://{name}:{}", address.port())
        });
        let (plugins, happened) = Plugins::start(
            &settings,
            &store,
            &secrets,
            &collectors,
            pace_seen.clone(),
            url.clone(),
        )
        .await?;
        let (judged, by_plugins) = mpsc::channel(JUDGED_WAITING);
        let (poller, handle) = Poller::new(
            store.clone(),
            secrets.clone(),
            plugins.clone(),
            collectors.clone(),
            pace_seen.clone(),
        );
        let backups = start_backups(&settings, &store, &secrets).await?;
        let board = Board {
            backups: backups.clone(),
            plugins: plugins.clone(),
            started: clock::now(),
            store: store.clone(),
            judge: judge.clone(),
            poller: handle.clone(),
            pinger: collectors.pinger.clone(),
            mail: health.clone(),
            channels: channels.clone(),
            pace: pace_seen.clone(),
            recipients: recipients_seen.clone(),
            mail_is_set: mailer_seen.clone(),
            troubles: Arc::default(),
            https: url,
            fingerprint: Arc::default(),
            settings: Arc::new(settings.clone()),
        };
        let first = mail.borrow().mailer(&secrets, &board)?;
        mailer.send_replace(first.map(Arc::new));

        let api = api::Api::new(
            store.clone(),
            secrets.clone(),
            access.clone(),
            Arc::new(board.clone()),
            settings::api(&settings),
        );
        let api_stage = Stage::start("the API", |stop| api::serve_unix(socket, api.clone(), stop));
        let (tls, https_stage) = start_https(&settings, tls, &api, &board);
        let secrets_stage = Stage::start("the secrets", |stop| {
            let secrets = secrets.clone();
            async move { secrets.run(clock::now, stop).await }
        });
        let access_stage = Stage::start("access", |stop| keep_access(access.clone(), stop));
        let audit_stage = Stage::start("the audit log's head", |stop| {
            audit::tell_the_journal(store.clone(), stop)
        });
        let mail_stage = Stage::start("the mail settings", |stop| {
            mail::follow(mail_seen, secrets.clone(), board.clone(), mailer, stop)
        });
        let backup_stage = Stage::start("backups", |stop| backups.run(stop));
        let health_stage = settings.api.listen.map(|address| {
            let board = board.clone();
            Stage::start("the health listener", |stop| {
                serve_health(address, api, board, stop)
            })
        });
        let watchdog = Stage::start("the watchdog", |stop| {
            watchdog::run(store.clone(), board.clone(), stop)
        });
        let notify = Stage::start("notify", |stop| {
            notify::drain(store.clone(), mailer_seen, health, clock::now, stop)
        });
        let judge = Stage::start("the rules", |stop| {
            let by_plugins = (plugins.clone(), by_plugins);
            judge.run(handle, pace_seen, recipients_seen, by_plugins, stop)
        });
        let plugin_stage = Stage::start("the rules that are plugins", |stop| {
            plugins.clone().judge(happened, judged, stop)
        });
        let couriers = Stage::start("the notifiers", |stop| {
            let courier = Arc::new(plugins.clone());
            notify::drain_plugins(store.clone(), courier, channels, clock::now, stop)
        });
        let poller = Stage::start("the poller", |stop| poller.run(stop));

        Ok(App {
            poller,
            judge,
            notify,
            watchdog,
            api: api_stage,
            https: https_stage,
            health: health_stage,
            secrets: secrets_stage,
            access: access_stage,
            mail: mail_stage,
            audit: audit_stage,
            backups: backup_stage,
            plugins: plugin_stage,
            couriers,
            plugin_host: plugins.clone(),
            knobs: Knobs {
                started_with: settings,
                store: store.clone(),
                pinger: collectors.pinger,
                snmp: collectors.snmp,
                pace,
                recipients,
                mail,
                tls,
                access,
                plugins,
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
        let stage = tokio::select! {
            () = writer.writer_gone() => return writer_gone(&writer),
            stage = self.poller.gone() => stage,
            stage = self.judge.gone() => stage,
            stage = self.notify.gone() => stage,
            stage = self.watchdog.gone() => stage,
            stage = self.api.gone() => stage,
            stage = self.secrets.gone() => stage,
            stage = self.access.gone() => stage,
            stage = self.mail.gone() => stage,
            stage = self.audit.gone() => stage,
            stage = self.backups.gone() => stage,
            stage = self.plugins.gone() => stage,
            stage = self.couriers.gone() => stage,
            stage = gone_if_any(&mut self.https) => stage,
            stage = gone_if_any(&mut self.health) => stage,
        };
        Failure::StageGone { stage }
    }

    /// Stops from the first stage to the last.
    pub(crate) async fn drain(self) -> Result<(), Failure> {
        // the mail in hand may take a while; no further one is begun
        self.notify.stop.cancel();
        self.couriers.stop.cancel();
        self.backups.stop(GRACE).await;
        self.watchdog.stop(GRACE).await;
        self.poller.stop(GRACE).await;
        // whatever was measured is committed, and so judged
        if timeout(GRACE, self.store.heartbeat()).await.is_err() {
            warn!("the disk does not answer; what was measured last is not judged");
        }
        self.plugins.stop(GRACE).await;
        self.judge.stop(GRACE).await;
        tokio::join!(self.mail.stop(GRACE), self.audit.stop(GRACE));
        tokio::join!(
            self.notify.stop(LAST_GRACE),
            self.couriers.stop(LAST_GRACE),
            self.api.stop(LAST_GRACE),
            stop_if_any(self.https),
            stop_if_any(self.health),
        );
        tokio::join!(
            self.access.stop(GRACE),
            self.secrets.stop(GRACE),
            self.plugin_host.stop()
        );
        // while the store's lock is ours, so that it is not a successor's socket
        let _ = std::fs::remove_file(&self.knobs.started_with.api.socket);
        close(self.store).await
    }
}

/// Ends when the stage does; never, if there is none.
async fn gone_if_any(stage: &mut Option<Stage>) -> &'static str {
    match stage {
        Some(stage) => stage.gone().await,
        None => std::future::pending().await,
    }
}

async fn stop_if_any(stage: Option<Stage>) {
    if let Some(stage) = stage {
        stage.stop(LAST_GRACE).await;
    }
}

/// Lets people in. Reads the certificates of the OpenID provider.
async fn start_access(
    store: &Store,
    secrets: &Secrets,
    settings: &Settings,
) -> Result<Access, Failure> {
    let (store, secrets) = (store.clone(), secrets.clone());
    let settings = settings::access(settings);
    let now = clock::now();
    let started = tokio::task::spawn_blocking(move || Access::new(store, secrets, settings, now));
    match started.await {
        Ok(started) => started.map_err(Failure::Access),
        Err(_panicked) => Err(Failure::StageGone { stage: "access" }),
    }
}

/// Looks at the settings of backups and tidies up after an earlier run.
async fn start_backups(
    settings: &Settings,
    store: &Store,
    secrets: &Secrets,
) -> Result<Keeper, Failure> {
    let (settings, store, secrets) = (settings.clone(), store.clone(), secrets.clone());
    let started = tokio::task::spawn_blocking(move || Keeper::new(&settings, &store, &secrets));
    match started.await {
        Ok(started) => started,
        Err(_panicked) => Err(Failure::StageGone { stage: "backups" }),
    }
}

async fn keep_access(access: Access, stop: CancellationToken) {
    tokio::select! {
        () = access.run(clock::now) => {}
        () = stop.cancelled() => {}
    }
}

/// The sender takes what a reload reads.
fn start_https(
    settings: &Settings,
    tls: Option<Tls>,
    api: &api::Api,
    board: &Board,
) -> (Option<watch::Sender<Arc<ServerConfig>>>, Option<Stage>) {
    let (Some(address), Some(tls)) = (settings.api.https, tls) else {
        return (None, None);
    };
    board.note_fingerprint(tls.fingerprint);
    let (config, config_seen) = watch::channel(tls.server);
    let stage = Stage::start("HTTPS", |stop| {
        https::serve(address, config_seen, api.clone(), board.clone(), stop)
    });
    (Some(config), Some(stage))
}

/// Whether another start can help decides the exit code: a defect may not come
/// again, damage stays.
fn writer_gone(store: &Store) -> Failure {
    match store.fault() {
        Some(store::WriterEnd::Damaged(what)) => Failure::StoreDamaged(what),
        Some(store::WriterEnd::Panicked(what)) => Failure::WriterGone(what),
        None => Failure::WriterGone("without a word".to_owned()),
    }
}

/// Writes what is left and ends the writer.
async fn close(store: Store) -> Result<(), Failure> {
    let closing = tokio::task::spawn_blocking(move || store.close());
    match timeout(CLOSING, closing).await {
        Ok(Ok(Ok(()))) => {
            info!("stopped; everything accepted is on the disk");
            Ok(())
        }
        Ok(Ok(Err(source))) => Err(Failure::NotWritten { source }),
        Ok(Err(panicked)) => Err(Failure::WriterGone(panicked.to_string())),
        Err(_hangs) => Err(Failure::DiskHangs),
    }
}

/// Serves health and metrics. An address that is taken is no reason to stop
/// watching a network: it is said, and tried again.
async fn serve_health(address: SocketAddr, api: api::Api, board: Board, stop: CancellationToken) {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                board.note_health(None);
                return api::serve_tcp(listener, api, stop).await;
            }
            Err(error) => {
                let why = format!(
                    "health and metrics are not served: cannot listen on {address} (api.listen): {error}"
                );
                if board.note_health(Some(why.clone())) {
                    warn!("{why}; trying again");
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(BIND_AGAIN) => {}
        }
    }
}

/// Refuses a key that the store was not sealed with before a byte of the store is
/// changed.
async fn check_key(settings: &Settings, secrets: &secrets::SecretsSettings) -> Result<(), Failure> {
    let path = settings.store.path.clone();
    let ring = tokio::task::spawn_blocking(move || store::key_ring_of(&path)).await;
    match ring {
        Ok(Some(ring)) => secrets.check(&ring).map_err(Failure::Secrets),
        // opening the store says what is the matter with it
        Ok(None) | Err(_) => Ok(()),
    }
}

/// How long a predecessor may hold the store: one that was killed while the disk
/// hung is gone only when the disk is back.
const PREDECESSOR: Duration = Duration::from_secs(60);

async fn open_store(settings: &Settings) -> Result<Store, Failure> {
    let patience = if systemd::started_us() {
        PREDECESSOR
    } else {
        Duration::ZERO
    };
    let end = clock::tick() + patience;
    loop {
        let options = settings::store(settings);
        let now = clock::now();
        let opened = tokio::task::spawn_blocking(move || Store::open(options, now))
            .await
            .map_err(|_panicked| Failure::StageGone {
                stage: "opening the store",
            })?;
        match opened {
            Err(store::OpenError::InUse { .. }) if clock::tick() < end => {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            opened => return opened.map_err(Failure::Store),
        }
    }
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

/// How long another daemon may take to answer on the socket.
const KNOCK: Duration = Duration::from_secs(1);

/// Binds the API's socket. Holding the store's lock, we may take the place of a
/// socket that a killed daemon left, but never of one that answers.
async fn bind_socket(path: &Path) -> Result<UnixListener, Failure> {
    let doing = || format!("listen on {} (api.socket)", path.display());
    match timeout(KNOCK, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == ErrorKind::NotFound => {}
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(Failure::system(doing()))?;
        }
        Ok(Err(error)) => return Err(Failure::system(doing())(error)),
        Ok(Ok(_)) | Err(_) => {
            return Err(Failure::SocketInUse {
                path: path.to_owned(),
            });
        }
    }
    // root, our own user and our group, whoever may run `sotp`; nobody else even
    // for a moment
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o117));
    let listener = UnixListener::bind(path);
    nix::sys::stat::umask(before);
    listener.map_err(Failure::system(doing()))
}
