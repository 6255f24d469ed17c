//! Backups of the whole box: one a day by the settings, one whenever somebody
//! asks, and one sent to whoever asks for it. One at a time.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::{BackupRefused, BackupRun, BackupState, ExposedKind, Exposition, KeptBackup, Later};
use backup::{
    About, BackupError, Backups, BackupsSettings, Place, PlaceSettings, S3Settings, SecretKey,
    TimeOfDay,
};
use bytes::Bytes;
use config::{BackupPlace, BackupSettings, Settings};
use model::{By, Timestamp};
use secrets::Secrets;
use store::Store;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use zeroize::Zeroizing;

use crate::clock;
use crate::failure::{Failure, chain};
use crate::settings::{credentials_directory, host_name};

/// Runs that are remembered.
const RUNS: usize = 50;

/// How often we look whether one is due: the clock may be set meanwhile.
const LOOK: Duration = Duration::from_secs(30);

/// Pieces that wait for whoever takes a backup home.
const PIECES: usize = 4;

/// Where backups go that no setting says: a restore finds the same names there.
const SENT: &str = "whoever asked";

/// Makes backups. Clones are the same.
#[derive(Clone)]
pub(crate) struct Keeper(Arc<Inner>);

struct Inner {
    backups: Backups,
    settings: Option<BackupSettings>,
    secrets: Secrets,
    /// Where they go by the settings, for people.
    to: Option<String>,
    runs: Mutex<Runs>,
}

#[derive(Default)]
struct Runs {
    /// Newest last.
    all: VecDeque<BackupRun>,
    last: u64,
    failed: u64,
    succeeded: Option<Timestamp>,
    /// Why the last one by the settings came to nothing.
    trouble: Option<String>,
}

impl Keeper {
    /// Looks at the settings; blocks.
    pub(crate) fn new(
        settings: &Settings,
        store: &Store,
        secrets: &Secrets,
    ) -> Result<Keeper, Failure> {
        let own = settings.backup.clone();
        let place = own
            .as_ref()
            .map(|own| place(own, &own.to, secrets))
            .transpose()
            .map_err(Failure::Backup)?;
        let at = own
            .as_ref()
            .map_or(config::TimeOfDay::default(), |own| own.at);
        let at = TimeOfDay {
            hour: at.hour,
            minute: at.minute,
        };
        let how = BackupsSettings {
            place,
            at,
            keep: own.as_ref().map_or(1, |own| own.keep),
            recipients: own
                .as_ref()
                .map_or(Vec::new(), |own| own.recipients.clone()),
            host: host_name(),
        };
        let work_dir = settings.store.path.parent().unwrap_or(Path::new("/"));
        let backups = Backups::new(&how, snapshot(store.clone()), work_dir);
        Ok(Keeper(Arc::new(Inner {
            backups: backups.map_err(Failure::Backup)?,
            to: own.as_ref().map(|own| shown(&own.to)),
            settings: own,
            secrets: secrets.clone(),
            runs: Mutex::default(),
        })))
    }

    /// Makes one whenever it is due, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            let now = clock::now();
            let due = self.0.backups.next_due(now).await;
            // one that somebody asked for is waited for
            if due.is_some_and(|due| due <= now) && !self.0.backups.is_busy() {
                let begun = self.begin(self.0.to.clone().unwrap_or_default());
                let made = tokio::select! {
                    made = self.0.backups.run_once(now) => made,
                    // what was begun is not put away, and its files go at the next start
                    () = stop.cancelled() => return,
                };
                let bytes = made.map(|done| done.bytes);
                let trouble = self.end(begun.id, bytes);
                self.runs().trouble = trouble;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// What an operator should know.
    pub(crate) fn warning(&self) -> Option<String> {
        let why = self.runs().trouble.clone()?;
        Some(format!("the last backup came to nothing: {why}"))
    }

    /// When the last one succeeded, and how many failed since the start.
    pub(crate) fn metrics(&self, into: &mut Exposition) {
        let (succeeded, failed) = {
            let runs = self.runs();
            (runs.succeeded, runs.failed)
        };
        if let Some(at) = succeeded {
            into.single(
                "sotp_backup_last_success_timestamp_seconds",
                ExposedKind::Gauge,
                "When a backup was last made and put away",
                at.since(Timestamp(0)).as_secs_f64(),
            );
        }
        into.single(
            "sotp_backups_failed_total",
            ExposedKind::Counter,
            "Backups that came to nothing",
            f64::from(u32::try_from(failed).unwrap_or(u32::MAX)),
        );
    }

    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.0.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, to: String) -> BackupRun {
        let mut runs = self.runs();
        runs.last += 1;
        let run = BackupRun {
            id: runs.last,
            state: BackupState::Running,
            begun: clock::now(),
            ended: None,
            bytes: 0,
            to,
            error: None,
        };
        if runs.all.len() >= RUNS {
            runs.all.pop_front();
        }
        runs.all.push_back(run.clone());
        run
    }

    /// Notes how a run ended; why it came to nothing, if so.
    fn end(&self, id: u64, made: Result<u64, BackupError>) -> Option<String> {
        let now = clock::now();
        if let Err(error) = &made {
            let error = chain(error);
            warn!(run = id, error, "a backup came to nothing: {error}");
        }
        let mut runs = self.runs();
        let why = made.as_ref().err().map(|error| chain(error));
        match made {
            Ok(_) => runs.succeeded = Some(now),
            Err(_) => runs.failed += 1,
        }
        if let Some(run) = runs.all.iter_mut().find(|run| run.id == id) {
            run.ended = Some(now);
            run.bytes = made.unwrap_or(0);
            run.error.clone_from(&why);
            run.state = match why {
                None => BackupState::Done,
                Some(_) => BackupState::Failed,
            };
        }
        why
    }

    /// The place that somebody named.
    fn elsewhere(&self, to: &str) -> Result<Place, BackupRefused> {
        let named = to.parse::<BackupPlace>().map_err(BackupRefused::To)?;
        let settings = match (&self.0.settings, &named) {
            (Some(own), _) => place(own, &named, &self.0.secrets),
            (None, BackupPlace::Directory(path)) => Ok(PlaceSettings::Directory(path.clone())),
            (None, BackupPlace::S3 { .. }) => {
                let why =
                    "S3 needs access_key and secret_key: add section [backup] to the settings";
                return Err(BackupRefused::To(why.to_owned()));
            }
        };
        settings
            .and_then(|settings| Place::new(&settings))
            .map_err(|error| BackupRefused::To(chain(&error)))
    }

    async fn make(self, place: Option<Place>, begun: BackupRun) {
        let made = match place {
            None => {
                let made = self.0.backups.run_once(begun.begun).await;
                made.map(|done| done.bytes)
            }
            Some(place) => {
                let made = self.0.backups.run_at(&place, begun.begun).await;
                self.end(begun.id, made);
                return;
            }
        };
        let trouble = self.end(begun.id, made);
        self.runs().trouble = trouble;
    }
}

impl api::Backups for Keeper {
    fn list(&self) -> Later<Result<Vec<KeptBackup>, BackupRefused>> {
        let keeper = self.clone();
        Box::pin(async move {
            let found = keeper.0.backups.list().await.map_err(refused)?;
            let to = keeper.0.to.as_deref().unwrap_or_default();
            let to = to.trim_end_matches('/');
            let kept = found.into_iter().map(|found| KeptBackup {
                at: format!("{to}/{}", found.name),
                made: found.name.at(),
                encrypted: Some(found.name.is_encrypted()),
                name: found.name.to_string(),
                bytes: found.bytes,
            });
            Ok(kept.collect())
        })
    }

    fn start(&self, _by: By, to: Option<String>) -> Later<Result<BackupRun, BackupRefused>> {
        let keeper = self.clone();
        Box::pin(async move {
            if keeper.0.backups.is_busy() {
                return Err(BackupRefused::Busy);
            }
            let place = match &to {
                None if keeper.0.to.is_none() => return Err(refused(BackupError::NoPlace)),
                None => None,
                Some(to) => {
                    let (keeper, to) = (keeper.clone(), to.clone());
                    // reads certificates
                    let found = tokio::task::spawn_blocking(move || keeper.elsewhere(&to)).await;
                    let defect = |_| BackupRefused::Unavailable("a defect: see the journal".into());
                    Some(found.map_err(defect)??)
                }
            };
            let shown = to.or_else(|| keeper.0.to.clone()).unwrap_or_default();
            let begun = keeper.begin(shown);
            tokio::spawn(keeper.clone().make(place, begun.clone()));
            Ok(begun)
        })
    }

    fn runs(&self) -> Later<Vec<BackupRun>> {
        let done = self.0.backups.bytes_done();
        let mut runs: Vec<BackupRun> = self.runs().all.iter().rev().cloned().collect();
        for run in &mut runs {
            if run.state == BackupState::Running {
                run.bytes = done;
            }
        }
        Box::pin(std::future::ready(runs))
    }

    fn stream(
        &self,
        _by: By,
    ) -> Later<Result<mpsc::Receiver<Result<Bytes, String>>, BackupRefused>> {
        let keeper = self.clone();
        Box::pin(async move {
            let (_, pieces) = keeper
                .0
                .backups
                .stream(clock::now())
                .await
                .map_err(refused)?;
            let begun = keeper.begin(SENT.to_owned());
            let (sender, receiver) = mpsc::channel(PIECES);
            tokio::spawn(async move {
                let sent = send(pieces, sender).await;
                keeper.end(begun.id, sent);
            });
            Ok(receiver)
        })
    }
}

/// Hands the pieces over, and an empty one at their end; gives their bytes.
async fn send(
    mut pieces: backup::Pieces,
    to: mpsc::Sender<Result<Bytes, String>>,
) -> Result<u64, BackupError> {
    let mut bytes = 0;
    while let Some(piece) = pieces.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => {
                // nobody may be there any more
                let _ = to.send(Err(chain(&error))).await;
                return Err(error);
            }
        };
        bytes += piece.len() as u64;
        if to.send(Ok(piece)).await.is_err() {
            return Err(BackupError::Interrupted);
        }
    }
    let _ = to.send(Ok(Bytes::new())).await;
    Ok(bytes)
}

fn refused(error: BackupError) -> BackupRefused {
    match error {
        BackupError::Busy => BackupRefused::Busy,
        error @ BackupError::NoPlace => BackupRefused::To(chain(&error)),
        other => BackupRefused::Unavailable(chain(&other)),
    }
}

/// Takes a snapshot of the store, and says of what.
fn snapshot(store: Store) -> backup::Snapshot {
    Arc::new(move |into| {
        let about = store
            .snapshot(into, clock::now())
            .map_err(|error| chain(&error))?;
        let counts = [
            ("devices", about.devices),
            ("groups", about.groups),
            ("segments", about.segments),
        ];
        let counts = counts.map(|(what, count)| (what.to_owned(), count as u64));
        let mut counts = BTreeMap::from(counts);
        let stats = store.samples().stats();
        let damaged = stats.damaged.max(stats.quarantined as u64);
        if damaged > 0 {
            warn!(damaged, "a backup is made of a store with damaged samples");
            counts.insert("damaged".to_owned(), damaged);
        }
        Ok(About {
            counts,
            ..About::new(env!("CARGO_PKG_VERSION"), u64::from(about.schema), about.at)
        })
    })
}

fn shown(to: &BackupPlace) -> String {
    match to {
        BackupPlace::Directory(path) => path.display().to_string(),
        BackupPlace::S3 { bucket, prefix } => format!("s3://{bucket}/{prefix}"),
    }
}

/// What `to` means with these settings.
fn place(
    own: &BackupSettings,
    to: &BackupPlace,
    secrets: &Secrets,
) -> Result<PlaceSettings, BackupError> {
    let (bucket, prefix) = match to {
        BackupPlace::Directory(path) => return Ok(PlaceSettings::Directory(path.clone())),
        BackupPlace::S3 { bucket, prefix } => (bucket.clone(), prefix.clone()),
    };
    Ok(PlaceSettings::S3(S3Settings {
        endpoint: own.endpoint.clone(),
        region: own.region.clone(),
        bucket,
        prefix,
        path_style: own.path_style,
        access_key: own.access_key.clone().unwrap_or_default(),
        secret_key: secret_key(own, secrets),
        ca_file: own.ca_file.clone(),
        timeout: own.timeout,
    }))
}

/// The secret as it is when it is wanted: it may be rotated meanwhile.
fn secret_key(own: &BackupSettings, secrets: &Secrets) -> SecretKey {
    let (name, file) = (own.secret_key.clone(), own.secret_key_file.clone());
    let secrets = secrets.clone();
    SecretKey::new(move || {
        let (name, file, secrets) = (name.clone(), file.clone(), secrets.clone());
        async move {
            if let Some(name) = name {
                let value = secrets.expose_fresh(&name).await;
                let value = value.map_err(|error| chain(&error))?;
                let text = value.expose_str().map(str::to_owned);
                let text = text.ok_or_else(|| format!("the secret {name} is not UTF-8 text"))?;
                return Ok(Zeroizing::new(text));
            }
            let file = file.ok_or("neither backup.secret_key nor secret_key_file is set")?;
            let read = tokio::task::spawn_blocking(move || in_a_file(&file)).await;
            read.map_err(|error| error.to_string())?
        }
    })
}

fn in_a_file(file: &Path) -> Result<Zeroizing<String>, String> {
    let secret = config::read_secret_file(file, credentials_directory().as_deref());
    let secret = secret.map_err(|error| chain(&error))?;
    Ok(Zeroizing::new(secret.expose().to_owned()))
}
