//! Backups of a running daemon: made when they are due, put away, listed, sent
//! to whoever asks.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;
use model::Timestamp;
use tokio::sync::OwnedMutexGuard;
use tracing::{info, warn};

use crate::about::{About, Manifest};
use crate::calendar::{TimeOfDay, next_due, to_remove};
use crate::error::BackupError;
use crate::local::blocking;
use crate::name::BackupName;
use crate::pipe::{PieceSender, Pieces, pipe};
use crate::place::{Place, PlaceSettings, StoredBackup};
use crate::seal::Recipients;
use crate::write::{bytes_in, write};

/// What directories of snapshots are called in the work directory.
const SNAPSHOT: &str = "backup-snapshot-";
/// A backup that failed is tried again after this long.
const RETRY_AFTER: Duration = Duration::from_secs(30 * 60);

/// What is backed up, how and where.
#[derive(Clone, Debug)]
pub struct BackupsSettings {
    /// Where to; `None`: backups are only sent to whoever asks.
    pub place: Option<PlaceSettings>,
    /// The time of day at which one is made.
    pub at: TimeOfDay,
    /// How many of this host are kept.
    pub keep: usize,
    /// Public keys of age, `age1…`; none: backups are not encrypted.
    pub recipients: Vec<String>,
    /// This host's name.
    pub host: String,
}

/// Fills an empty directory with a snapshot and says what it is of; blocks.
pub type Snapshot = Arc<dyn Fn(&Path) -> Result<About, String> + Send + Sync>;

/// A backup that was made and put away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Its name.
    pub name: BackupName,
    /// Its size.
    pub bytes: u64,
    /// What is in it.
    pub manifest: Manifest,
    /// Older ones that were removed for it.
    pub removed: Vec<BackupName>,
    /// Why older ones could not be removed, if so. The backup itself is good.
    pub not_removed: Option<String>,
}

/// Makes backups, one at a time.
pub struct Backups {
    place: Option<Place>,
    at: TimeOfDay,
    keep: usize,
    recipients: Recipients,
    host: String,
    zone: TimeZone,
    snapshot: Snapshot,
    work_dir: PathBuf,
    one_at_a_time: Arc<tokio::sync::Mutex<()>>,
    done: Arc<AtomicU64>,
    past: Mutex<Past>,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default)]
struct Past {
    /// Whether the place was asked for backups of earlier runs.
    is_known: bool,
    success: Option<Timestamp>,
    failure: Option<Timestamp>,
}

impl Backups {
    /// Looks at the settings and removes from `work_dir` what an earlier run
    /// left, so there is one of them at a time; blocks. `work_dir` has to be there, on the disk of the store if
    /// snapshots are hard links, with room for the largest compressed file.
    ///
    /// # Errors
    ///
    /// Settings that cannot be used, or a `work_dir` that cannot.
    pub fn new(
        settings: &BackupsSettings,
        snapshot: Snapshot,
        work_dir: &Path,
    ) -> Result<Backups, BackupError> {
        remove_stale(work_dir)?;
        Ok(Backups {
            place: settings.place.as_ref().map(Place::new).transpose()?,
            at: settings.at,
            keep: settings.keep,
            recipients: Recipients::parse(&settings.recipients)?,
            host: settings.host.clone(),
            // UTC where the host has none
            zone: TimeZone::system(),
            snapshot,
            work_dir: work_dir.to_owned(),
            one_at_a_time: Arc::default(),
            done: Arc::default(),
            past: Mutex::default(),
        })
    }

    /// The same, in another time zone than the host's.
    #[cfg(test)]
    pub(crate) fn in_zone(self, zone: TimeZone) -> Backups {
        Backups { zone, ..self }
    }

    /// How many bytes of its snapshot the backup that is being made has done; 0
    /// if none is.
    #[must_use]
    pub fn bytes_done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// When the next backup is to be made: `now`, or a time after it. `None`:
    /// never by itself. Asks the place, the first time, when the last one was;
    /// if it does not answer, that counts as a failure.
    pub async fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let place = self.place.as_ref()?;
        if !self.past().is_known {
            match place.list().await {
                Ok(found) => self.learn(&found, now),
                Err(error) => {
                    warn!(%error, "cannot list the backups");
                    self.past().failure = Some(now);
                }
            }
        }
        let past = *self.past();
        let next = next_due(now, past.success, self.at, &self.zone);
        // a failure "after" now is one from before the clock was set back
        let failure = past.failure.filter(|failure| *failure <= now);
        Some(failure.map_or(next, |failure| next.max(failure.plus(RETRY_AFTER))))
    }

    fn learn(&self, found: &[StoredBackup], now: Timestamp) {
        let own = found.iter().filter(|found| found.name.is_of(&self.host));
        let newest = own
            .map(|found| found.name.at())
            .filter(|at| *at <= now)
            .max();
        let mut past = self.past();
        past.is_known = true;
        past.success = past.success.max(newest);
    }

    fn past(&self) -> std::sync::MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a backup, puts it away, looks whether it is there and removes those
    /// that are too many.
    ///
    /// # Errors
    ///
    /// [`BackupError::Busy`] if one is being made; [`BackupError::NoPlace`] if
    /// nothing says where to; any other: there is no backup of this name, and
    /// [`Backups::next_due`] says when to try again.
    pub async fn run_once(&self, now: Timestamp) -> Result<Done, BackupError> {
        let turn = self.turn()?;
        let outcome = self.run(now, &turn).await;
        drop(turn);
        let mut past = self.past();
        match &outcome {
            Ok(done) => {
                past.success = Some(now);
                past.failure = None;
                let (name, bytes) = (&done.name, done.bytes);
                info!(%name, bytes, removed = done.removed.len(), "made a backup");
            }
            Err(_) => past.failure = Some(now),
        }
        drop(past);
        outcome
    }

    /// Makes a backup and puts it away at another place than that of the
    /// settings; removes nothing there. Gives its size.
    ///
    /// # Errors
    ///
    /// As [`Backups::run_once`].
    pub async fn run_at(&self, place: &Place, now: Timestamp) -> Result<u64, BackupError> {
        let turn = self.turn()?;
        let (name, written, _) = self.put_away(place, now, &turn).await?;
        let (_, bytes) = written;
        info!(%name, bytes, "made a backup");
        Ok(bytes)
    }

    /// Whether one is being made.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.one_at_a_time.try_lock().is_err()
    }

    fn turn(&self) -> Result<Arc<Turn>, BackupError> {
        let lock = self.one_at_a_time.clone().try_lock_owned();
        let lock = lock.map_err(|_| BackupError::Busy)?;
        Ok(Arc::new(Turn {
            done: self.done.clone(),
            _lock: lock,
        }))
    }

    async fn run(&self, now: Timestamp, turn: &Arc<Turn>) -> Result<Done, BackupError> {
        let place = self.place.as_ref().ok_or(BackupError::NoPlace)?;
        let (name, (manifest, bytes), found) = self.put_away(place, now, turn).await?;
        let (removed, not_removed) = self.tidy(place, &name, found).await;
        Ok(Done {
            name,
            bytes,
            manifest,
            removed,
            not_removed,
        })
    }

    /// Makes one and puts it away; gives what it is and all that are there.
    async fn put_away(
        &self,
        place: &Place,
        now: Timestamp,
        turn: &Arc<Turn>,
    ) -> Result<(BackupName, (Manifest, u64), Vec<StoredBackup>), BackupError> {
        let name = BackupName::new(&self.host, now, !self.recipients.is_empty());
        // before the work of a snapshot, so that a place that is away costs none
        if place.list().await?.iter().any(|found| found.name == name) {
            return Err(BackupError::Exists {
                name: name.to_string(),
            });
        }
        let (shot, about) = self.shoot(turn.clone()).await?;
        let directory = shot.directory.clone();
        let about_bytes = blocking(move || Ok(bytes_in(&directory)?)).await?;
        let (sender, pieces) = pipe();
        let writing = tokio::task::spawn_blocking(self.writing(shot, about, sender));
        let put = place.put(&name, about_bytes, pieces).await;
        let written = writing.await.map_err(|_| BackupError::Interrupted)?;
        let (manifest, bytes) = match (put, written) {
            (Ok(_), Ok(written)) => written,
            // the writer's own error is among the pieces
            (Err(error), _) | (Ok(_), Err(error)) => return Err(error),
        };
        let found = self.look(place, &name, bytes).await?;
        Ok((name, (manifest, bytes), found))
    }

    /// A snapshot in a directory of its own.
    async fn shoot(&self, turn: Arc<Turn>) -> Result<(Shot, About), BackupError> {
        let (work_dir, snapshot) = (self.work_dir.clone(), self.snapshot.clone());
        let host = self.host.clone();
        blocking(move || {
            let shot = Shot::new(&work_dir, turn)?;
            let about = snapshot(&shot.directory).map_err(|why| BackupError::Snapshot { why })?;
            Ok((shot, About { host, ..about }))
        })
        .await
    }

    /// What a thread does that may block: writes the archive into `sender`.
    fn writing(
        &self,
        shot: Shot,
        about: About,
        sender: PieceSender,
    ) -> impl FnOnce() -> Result<(Manifest, u64), BackupError> + Send + 'static {
        let (recipients, done) = (self.recipients.clone(), self.done.clone());
        move || {
            let mut writer = sender.into_writer();
            let mut progress = |bytes| done.store(bytes, Ordering::Relaxed);
            let directory = &shot.directory;
            let written = write(directory, about, &recipients, &mut writer, &mut progress);
            match written {
                Ok(manifest) => Ok((manifest, writer.finish().map_err(unsent)?)),
                Err(error) => {
                    // whoever takes the pieces tells it
                    writer.fail(error.into());
                    Err(BackupError::Interrupted)
                }
            }
        }
    }

    /// All backups, if this one is among them as it was sent.
    async fn look(
        &self,
        place: &Place,
        name: &BackupName,
        bytes: u64,
    ) -> Result<Vec<StoredBackup>, BackupError> {
        let found = place.list().await?;
        let size = found.iter().find(|found| found.name == *name);
        let size = size.map(|found| found.bytes);
        if size == Some(bytes) {
            return Ok(found);
        }
        if let Err(error) = place.remove(name).await {
            warn!(%name, %error, "cannot remove a backup that is not whole");
        }
        Err(BackupError::NotThere {
            name: name.to_string(),
            found: size.map_or("nothing".to_owned(), |size| format!("a file of {size}")),
            expected: bytes,
        })
    }

    /// Removes those that are too many; `made` is not one of them, whatever the
    /// clock says.
    async fn tidy(
        &self,
        place: &Place,
        made: &BackupName,
        found: Vec<StoredBackup>,
    ) -> (Vec<BackupName>, Option<String>) {
        let names: Vec<BackupName> = found.into_iter().map(|found| found.name).collect();
        let mut removed = Vec::new();
        for name in to_remove(&names, &self.host, self.keep) {
            if name == *made {
                continue;
            }
            if let Err(error) = place.remove(&name).await {
                warn!(%name, %error, "cannot remove an old backup");
                return (removed, Some(error.to_string()));
            }
            removed.push(name);
        }
        (removed, None)
    }

    /// Every backup at the place, the newest first; none if there is no place.
    ///
    /// # Errors
    ///
    /// Those of the place.
    pub async fn list(&self) -> Result<Vec<StoredBackup>, BackupError> {
        match &self.place {
            Some(place) => place.list().await,
            None => Ok(Vec::new()),
        }
    }

    /// The place, to read from.
    #[must_use]
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Makes a backup for whoever takes the pieces; nothing of it is kept here.
    /// Who does not take all of them has no backup.
    ///
    /// # Errors
    ///
    /// [`BackupError::Busy`] and [`BackupError::Snapshot`]; later ones are among
    /// the pieces.
    pub async fn stream(&self, now: Timestamp) -> Result<(BackupName, Pieces), BackupError> {
        let name = BackupName::new(&self.host, now, !self.recipients.is_empty());
        let (shot, about) = self.shoot(self.turn()?).await?;
        let (sender, pieces) = pipe();
        let writing = self.writing(shot, about, sender);
        // its outcome is among the pieces
        drop(tokio::task::spawn_blocking(writing));
        Ok((name, pieces))
    }
}

impl std::fmt::Debug for Backups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backups")
            .field("place", &self.place)
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}

fn unsent(source: io::Error) -> BackupError {
    BackupError::Archive(crate::ArchiveError::Write { source })
}

/// The right to make a backup.
struct Turn {
    done: Arc<AtomicU64>,
    _lock: OwnedMutexGuard<()>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.done.store(0, Ordering::Relaxed);
    }
}

/// A snapshot's directory, which goes away with it.
struct Shot {
    directory: PathBuf,
    /// The thread that writes holds it, too: it may outlive whoever asked for it.
    _turn: Arc<Turn>,
}

impl Shot {
    fn new(work_dir: &Path, turn: Arc<Turn>) -> Result<Shot, BackupError> {
        // whatever is left here now could not be removed before
        remove_stale(work_dir)?;
        let directory = work_dir.join(format!("{SNAPSHOT}{}", std::process::id()));
        let made = DirBuilder::new().mode(0o700).create(&directory);
        made.map_err(|error| failed("create", &directory, error))?;
        Ok(Shot {
            directory,
            _turn: turn,
        })
    }
}

impl Drop for Shot {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            warn!(directory = %self.directory.display(), %error, "cannot remove a snapshot");
        }
    }
}

fn remove_stale(work_dir: &Path) -> Result<(), BackupError> {
    let unreadable = |error| failed("look into", work_dir, error);
    for found in fs::read_dir(work_dir).map_err(unreadable)? {
        let found = found.map_err(unreadable)?;
        let is_ours = found.file_name().to_string_lossy().starts_with(SNAPSHOT);
        if is_ours && found.file_type().map_err(unreadable)?.is_dir() {
            let path = found.path();
            fs::remove_dir_all(&path).map_err(|error| failed("remove", &path, error))?;
        }
    }
    Ok(())
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> BackupError {
    BackupError::Directory {
        doing,
        path: path.to_owned(),
        source,
    }
}
