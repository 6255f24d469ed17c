//! Where the truth is kept: one redb file, one thread that writes it, and the
//! sample store beside it (the crate `samples`), whose catalog is in the file.
//!
//! - A call that changes something returns once the change is on the disk
//!   (fsynced): it survives a kill and a power cut. Poll reports are queued
//!   without waiting; [`Store::committed`] says how far they are.
//! - Reads of devices, rules, open alerts, newest readings and outcomes come
//!   from memory and never wait for the disk. Reads of history (those of
//!   [`Store::samples`], [`Store::alerts`] and [`Store::outbox`] with past
//!   ones) block on it: call them from a blocking thread.
//! - A change says who makes it, and the line that tells of it in the audit log
//!   is in the same transaction. Secrets come sealed, and go so.
//! - What is read is what was written: every value carries a checksum, rows
//!   that vanish are noticed, and damage is an error that names its place.
//! - A full disk stops nothing but history: see [`StoreHealth`].
//!
//! The format of the file is specified in `tables.rs`. Its directory of samples
//! has its name with the extension `samples`: `sotp.samples/` beside
//! `sotp.redb`; and that of the packages of plugins is `sotp.plugins/`.

mod alerts;
mod answers;
mod audit;
mod book;
mod bytes;
mod catalog;
mod checks;
mod columns;
mod credentials;
mod disk;
mod error;
mod inventory;
mod keeper;
mod migrate;
mod outbox;
mod packages;
mod peek;
mod people;
mod pieces;
mod plugins;
mod queue;
mod record;
mod rulebook;
mod secrets;
mod sessions;
mod shared;
mod shown;
mod snapshot;
mod stats;
mod tables;
#[cfg(test)]
mod tests;
mod view;
mod wipe;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use model::{
    Alert, AlertId, By, Channel, CredentialName, CredentialRecord, Delivery, Device, DeviceDraft,
    DeviceId, Facts, GroupKey, OutboxId, Outcome, Reading, Rule, RuleName, SecretRecord, Timestamp,
};
use tokio::sync::{oneshot, watch};

pub use alerts::{AlertsAsk, Judgement, MAX_PAST_ALERTS};
pub use answers::{KEEP_ANSWERS, MAX_ANSWER_BYTES, MAX_ANSWERS, MAX_ANSWERS_BYTES, StoredAnswer};
pub use audit::{
    AUDIT_LOOKED_THROUGH, AuditAsk, AuditBreak, AuditPage, AuditVerdict, MAX_AUDIT, MAX_DENIED,
    OutcomeIs,
};
pub use columns::MAX_COLUMNS;
pub use credentials::MAX_CREDENTIALS;
pub use error::{OpenError, ReadError, Refusal, SnapshotError, StoreError, WriteError, WriterEnd};
pub use inventory::{Inventory, MAX_DEVICE_BYTES, MAX_DEVICES, MAX_PARENTS};
pub use outbox::{MAX_DELIVERED, MAX_PARKED, MAX_QUEUED, MAX_QUEUED_PER_PLUGIN, OutboxAsk};
pub use packages::PackageError;
pub use peek::key_ring_of;
pub use people::{MAX_PERSON_BYTES, MAX_TENANTS, MAX_TOKENS, MAX_USERS, People};
pub use plugins::{
    MAX_ALL_STATES_BYTES, MAX_PLUGIN_BYTES, MAX_PLUGIN_CHANGED_BYTES, MAX_PLUGIN_KEY_BYTES,
    MAX_PLUGIN_STATE_BYTES, MAX_PLUGIN_STATES_BYTES, MAX_PLUGIN_VALUE_BYTES,
    MAX_PLUGIN_VALUES_BYTES, MAX_PLUGINS, PluginRoom,
};
pub use queue::Room;
pub use rulebook::{MAX_RULE_BYTES, MAX_RULES};
pub use secrets::{MAX_SECRET_BYTES, MAX_SECRET_VERSIONS, MAX_SECRETS};
pub use sessions::{MAX_SESSIONS, MAX_SESSIONS_PER_USER, ROTATION_GRACE, Rotated};
pub use snapshot::SnapshotAbout;
pub use stats::{HistogramSnapshot, StoreHealth, StoreStats};
pub use view::{Committed, CommittedSince};

/// The sample store.
pub mod samples {
    pub use ::samples::*;
}

use ::samples::fs::{Fs, RealFs};
use ::samples::{CatalogState, Keep, Samples};
use book::{Book, Change};
use catalog::RedbCatalog;
use columns::Interner;
use disk::{Ballast, Disk, FileMedium, Medium};
use error::Fault;
use keeper::Keeper;
use migrate::{Ground, Schema};
use queue::{Job, QUEUE_REPORTS, Queue};
use shared::Shared;
use view::View;
use writer::{Pace, Writer};

/// The samples that came last are cut into a segment this often.
const CUT_EVERY: Duration = Duration::from_secs(3_600);

/// Memory for rows that are not in blocks yet: eight hundred thousand series
/// with ten rows each.
const OPEN_BYTES: usize = 64 << 20;

/// How the store is kept.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The file. Beside it lie `<file>.ballast` and the directory of samples.
    pub path: PathBuf,
    /// Poll reports wait at most this long for others to share a commit with.
    pub commit_every: Duration,
    /// Memory for poll reports while the disk takes none; beyond it the oldest
    /// are dropped and counted.
    pub backlog_bytes: usize,
    /// A file of this size is given up when the disk is full, so that alerts
    /// and changes can still be written. 0: none.
    pub ballast_bytes: u64,
    /// Samples as they were measured, older than this, are removed.
    pub keep_samples: Duration,
    /// Roll-ups of 15 minutes older than this are removed.
    pub keep_15m: Duration,
    /// Roll-ups of an hour older than this are removed.
    pub keep_1h: Duration,
    /// All samples and roll-ups together may take this much; the oldest are
    /// removed first. 0: no limit.
    pub disk_budget: u64,
    /// Different series that one device may begin in a day.
    pub series_per_device: usize,
    /// Resolved alerts and deliveries older than this are removed.
    pub keep_alerts: Duration,
    /// Lines of the audit log older than this are removed.
    pub keep_audit: Duration,
}

impl StoreOptions {
    /// A store at `path`, kept as is usual.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> StoreOptions {
        const DAY: Duration = Duration::from_secs(86_400);
        StoreOptions {
            path: path.into(),
            commit_every: Duration::from_secs(1),
            backlog_bytes: 64 << 20,
            ballast_bytes: 0,
            keep_samples: 30 * DAY,
            keep_15m: 180 * DAY,
            keep_1h: 1_825 * DAY,
            disk_budget: 0,
            series_per_device: 20_000,
            keep_alerts: 365 * DAY,
            keep_audit: 730 * DAY,
        }
    }
}

impl StoreOptions {
    /// The directory of samples.
    #[must_use]
    pub fn samples_dir(&self) -> PathBuf {
        self.path.with_extension("samples")
    }

    /// The directory of the packages of plugins.
    #[must_use]
    pub fn plugins_dir(&self) -> PathBuf {
        self.path.with_extension("plugins")
    }

    /// How the samples are kept.
    fn for_samples(&self) -> samples::Options {
        samples::Options {
            dir: self.samples_dir(),
            keep: Keep {
                raw: self.keep_samples,
                quarter: self.keep_15m,
                hour: self.keep_1h,
                budget: self.disk_budget,
            },
            cut_every: CUT_EVERY,
            sync_every: self.commit_every,
            open_bytes: OPEN_BYTES,
            backlog_bytes: self.backlog_bytes,
            series_per_device: self.series_per_device,
        }
    }
}

/// The store. Clones are the same store; when the last one is dropped, what
/// was accepted is written and the writer ends in the background.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    writer: Arc<WriterHandle>,
}

struct WriterHandle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for WriterHandle {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = &self.shared.options.path;
        f.debug_struct("Store")
            .field("path", path)
            .finish_non_exhaustive()
    }
}

/// Everything that a start reads from the file.
struct Loaded {
    book: Book,
    facts: HashMap<DeviceId, Arc<Facts>>,
    addresses: HashMap<String, IpAddr>,
    catalog: CatalogState,
}

impl Store {
    /// Opens the store, or makes an empty one if there is no file (samples that
    /// are there without it are set aside). Blocks.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; a file that is there is not changed in any of these
    /// cases.
    pub fn open(options: StoreOptions, now: Timestamp) -> Result<Store, OpenError> {
        for folder in [options.samples_dir(), options.plugins_dir()] {
            disk::set_aside(&options.path, &folder)?;
        }
        disk::create_if_absent(&options.path)?;
        let medium = FileMedium {
            path: options.path.clone(),
        };
        let fs: Arc<dyn Fs> = Arc::new(RealFs);
        Store::open_on(options, (Box::new(medium), fs), Pace::USUAL, now)
    }

    /// Opens the store on something that behaves like a file, and something
    /// that behaves like a file system for the samples.
    fn open_on(
        options: StoreOptions,
        (medium, fs): (Box<dyn Medium>, Arc<dyn Fs>),
        pace: Pace,
        now: Timestamp,
    ) -> Result<Store, OpenError> {
        let ground = Ground {
            copier: medium.copier(),
            fs: fs.clone(),
            samples: options.for_samples(),
            now,
        };
        let mut newer = None;
        let opened = Disk::open(medium, |db| match migrate::migrate(db, &ground)? {
            Schema::Newer(found) => {
                newer = Some(found);
                Err(Fault::Damage("it is newer".to_owned()))
            }
            Schema::Current { migrated } => Ok((load(db)?, migrated)),
        });
        let (disk, (loaded, migrated)) = opened.map_err(|fault| match newer {
            Some(found) => OpenError::Newer {
                path: options.path.clone(),
                found,
                known: tables::SCHEMA,
            },
            None => open_error(&options, fault),
        })?;
        if migrated {
            disk.compact();
        }
        Store::start(options, (disk, fs), loaded, pace, now)
    }

    fn start(
        options: StoreOptions,
        (disk, fs): (Disk, Arc<dyn Fs>),
        loaded: Loaded,
        pace: Pace,
        now: Timestamp,
    ) -> Result<Store, OpenError> {
        let ballast = Ballast::new(&options.path, options.ballast_bytes);
        let path = options.path.clone();
        let io_error = |source| OpenError::Io {
            path: path.clone(),
            doing: "start a thread of",
            source,
        };
        let queue = Arc::new(Queue::default());
        let catalog = Arc::new(RedbCatalog::new(queue.clone()));
        let mut columns = Interner::default();
        for (_, own) in &loaded.catalog.columns {
            columns.know(own);
        }
        let kept = options.for_samples();
        let folder = kept.dir.parent().map(Path::to_owned);
        let samples = Samples::open(fs.clone(), kept, loaded.catalog, catalog.clone(), now);
        let samples = samples.map_err(|source| OpenError::Samples {
            path: path.clone(),
            source,
        })?;
        if let Some(folder) = folder.filter(|folder| !folder.as_os_str().is_empty()) {
            // its directory may be new
            let synced = fs.sync_dir(&folder);
            synced.map_err(|source| OpenError::Io {
                path: folder,
                doing: "sync the directory",
                source,
            })?;
        }
        let view = View::new(samples.newest(), loaded.facts, loaded.addresses);
        let shared = Arc::new(Shared::new(
            options,
            disk,
            (loaded.book, view),
            (samples, catalog, queue),
            now,
        ));
        shared.tidy_packages();
        Keeper::start(&shared).map_err(io_error)?;
        let writer = Writer::new(shared.clone(), pace, columns, ballast, now);
        let own = shared.clone();
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || live(&own, writer))
            .map_err(|source| {
                shared.keeper.stop();
                io_error(source)
            })?;
        let writer = Arc::new(WriterHandle {
            shared: shared.clone(),
            thread: Mutex::new(Some(thread)),
        });
        Ok(Store { shared, writer })
    }

    /// Writes everything that was accepted and ends the writer. Blocks. Other
    /// clones can still read what is in memory.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotWritten`] if the disk took nothing to the end;
    /// [`StoreError::WriterFailed`] if the writer had ended by a fault.
    pub fn close(self) -> Result<(), StoreError> {
        self.shared.queue.close();
        let thread = self
            .writer
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // it catches its panics itself
            let _ = thread.join();
        }
        let figures = self.shared.figures();
        if let Some(why) = figures.fault.clone() {
            return Err(StoreError::WriterFailed { why });
        }
        match figures.lost.clone() {
            Some((reports, why)) => Err(StoreError::NotWritten { reports, why }),
            None => Ok(()),
        }
    }

    /// Resolves when the writer has ended: after [`Store::close`], or by a
    /// fault, after which nothing is written any more and the daemon has to
    /// stop: [`Store::fault`] says whether starting again may help.
    pub async fn writer_gone(&self) {
        let mut gone = self.shared.writer_gone.subscribe();
        // the sender lives as long as `self`
        let _ = gone.wait_for(|gone| *gone).await;
    }

    /// Why the writer ended, if it was by a fault.
    #[must_use]
    pub fn fault(&self) -> Option<WriterEnd> {
        self.shared.figures().fault.clone()
    }

    /// Hands `work` to the writer and waits for the disk.
    async fn write<R: Send + 'static>(
        &self,
        work: impl FnMut(&mut Change<'_>) -> Result<Result<R, Refusal>, Fault> + Send + 'static,
    ) -> Result<R, WriteError> {
        let room = self.shared.room_for_jobs.clone().acquire_owned().await;
        let room = room.map_err(|_| WriteError::Closed)?;
        let (answer, told) = oneshot::channel();
        let job = Box::new(Ask {
            work,
            done: None,
            answer,
        });
        self.shared.queue.push_job(job, room);
        told.await.unwrap_or(Err(WriteError::Closed))
    }

    // --- inventory

    /// All devices, as of the last committed change.
    #[must_use]
    pub fn inventory(&self) -> Arc<Inventory> {
        self.shared.book().inventory.clone()
    }

    /// Counts changes of devices, rules and credentials.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.watched.subscribe()
    }

    /// Enters a device, and a credential if one comes with it: both or
    /// neither. Returns when it is on the disk.
    ///
    /// # Errors
    ///
    /// [`WriteError::Refused`] where name or address are taken, a parent or
    /// the credential is not there, or the credential that comes with it, or
    /// its secret, is there already (one that is there as it comes, without a
    /// secret, is left as it is); [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn create_device(
        &self,
        by: &By,
        draft: DeviceDraft,
        credential: Option<(CredentialRecord, Option<SecretRecord>)>,
        now: Timestamp,
    ) -> Result<Arc<Device>, WriteError> {
        let by = by.clone();
        self.write(move |change| inventory::create(change, &by, &draft, credential.as_ref(), now))
            .await
    }

    /// Enters the good ones of `drafts` in one transaction, and says of each
    /// other why not, in their order. Returns when they are on the disk.
    ///
    /// # Errors
    ///
    /// [`WriteError::NotWriting`], [`WriteError::Closed`]: none is entered.
    pub async fn create_devices(
        &self,
        by: &By,
        drafts: Vec<DeviceDraft>,
        now: Timestamp,
    ) -> Result<Vec<Result<Arc<Device>, Refusal>>, WriteError> {
        let by = by.clone();
        self.write(move |change| inventory::create_all(change, &by, &drafts, now).map(Ok))
            .await
    }

    /// Replaces all that people said of a device; only if it is at revision
    /// `expected`, where that is given. Returns when it is on the disk.
    ///
    /// # Errors
    ///
    /// As [`Store::create_device`], and [`Refusal::RevisionMismatch`],
    /// [`Refusal::ParentCycle`], [`Refusal::Deleted`].
    pub async fn replace_device(
        &self,
        by: &By,
        id: DeviceId,
        draft: DeviceDraft,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<Arc<Device>, WriteError> {
        let by = by.clone();
        self.write(move |change| inventory::replace(change, &by, id, &draft, expected, now))
            .await
    }

    /// Marks a device as deleted: its name and address become free, its
    /// samples stay until they are too old. Returns when it is on the disk.
    ///
    /// # Errors
    ///
    /// [`WriteError::Refused`] if it is not there, is deleted already or is
    /// not at revision `expected`; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn delete_device(
        &self,
        by: &By,
        id: DeviceId,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<Arc<Device>, WriteError> {
        let by = by.clone();
        self.write(move |change| inventory::delete(change, &by, id, expected, now))
            .await
    }

    /// Takes a deletion back. Returns when that is on the disk.
    ///
    /// # Errors
    ///
    /// [`WriteError::Refused`] if it is not deleted, or if another device has
    /// its name or address now; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn restore_device(
        &self,
        by: &By,
        id: DeviceId,
        now: Timestamp,
    ) -> Result<Arc<Device>, WriteError> {
        let by = by.clone();
        self.write(move |change| inventory::restore(change, &by, id, now))
            .await
    }

    // --- credentials

    /// Keeps a credential, in the place of what had its name, and its secret
    /// if one comes with it: both or neither. `expected`: 0 if it has to be
    /// new, else the revision that was seen; `None`: whatever is there. The
    /// store sets revision and time. For the secret's revision see
    /// [`Store::put_secret`]. Returns when it is on the disk.
    ///
    /// # Errors
    ///
    /// Refused with `NameExists`, `NoSuchCredential`, `RevisionMismatch`,
    /// `NoSuch` (its secret), `OtherTenant` (its secret), `NoSuchTenant` or
    /// `TooMany`, and as [`Store::put_secret`]; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn put_credential(
        &self,
        by: &By,
        credential: CredentialRecord,
        secret: Option<SecretRecord>,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<Arc<CredentialRecord>, WriteError> {
        let by = by.clone();
        self.write(move |change| {
            credentials::put(change, &by, (&credential, secret.as_ref()), expected, now)
        })
        .await
    }

    /// Takes a credential away that no live device uses, and the secret that
    /// was given with it (`credential.<name>`).
    ///
    /// # Errors
    ///
    /// [`Refusal::NoSuchCredential`], [`Refusal::CredentialInUse`],
    /// [`Refusal::RevisionMismatch`]; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn delete_credential(
        &self,
        by: &By,
        name: &CredentialName,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        let (by, name) = (by.clone(), name.clone());
        self.write(move |change| credentials::delete(change, &by, &name, expected, now))
            .await
    }

    /// The credential of this name.
    #[must_use]
    pub fn credential(&self, name: &CredentialName) -> Option<Arc<CredentialRecord>> {
        self.shared.book().credentials.get(name).cloned()
    }

    /// All credentials by name, and how many live devices use each.
    #[must_use]
    pub fn credentials(&self) -> Vec<(Arc<CredentialRecord>, usize)> {
        let book = self.shared.book();
        let mut users: HashMap<&CredentialName, usize> = HashMap::new();
        for name in book.inventory.live().filter_map(|d| d.credential.as_ref()) {
            *users.entry(name).or_default() += 1;
        }
        let shown = book.credentials.iter().map(|(name, kept)| {
            let users = users.get(name).copied().unwrap_or(0);
            (kept.clone(), users)
        });
        shown.collect()
    }

    // --- rules

    /// Hands the rules of files in, in the place of those before.
    pub fn set_file_rules(&self, rules: Vec<Rule>) {
        self.shared.set_file_rules(rules);
    }

    /// All rules, sorted by name. A rule of a file wins over one of the API
    /// with the same name.
    #[must_use]
    pub fn rules(&self) -> Arc<Vec<Rule>> {
        self.shared.rules()
    }

    /// Keeps a rule of the API, in the place of what had its name; only if
    /// that is at revision `expected`, where given. Revision, source and time
    /// are set by the store. Returns when it is on the disk.
    ///
    /// # Errors
    ///
    /// [`Refusal::RuleFromFile`], [`Refusal::RevisionMismatch`],
    /// [`Refusal::NoSuchRule`] (a revision is expected of a rule that is not
    /// there), [`Refusal::TooMany`]; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn put_rule(
        &self,
        by: &By,
        rule: Rule,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<Rule, WriteError> {
        let by = by.clone();
        self.write(move |change| rulebook::put(change, &by, &rule, expected, now))
            .await
    }

    /// Takes a rule of the API away.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoSuchRule`], [`Refusal::RuleFromFile`],
    /// [`Refusal::RevisionMismatch`]; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn delete_rule(
        &self,
        by: &By,
        name: &RuleName,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        let by = by.clone();
        let name = name.clone();
        self.write(move |change| rulebook::delete(change, &by, &name, expected, now))
            .await
    }

    // --- poll reports

    /// A place for a report, taken before the device is asked. `None`: the
    /// store is behind, or closed; skip this poll and count it.
    #[must_use]
    pub fn try_reserve(&self) -> Option<Room> {
        self.shared.queue.try_reserve()
    }

    /// Counts reports that became visible: all up to this one are on the disk,
    /// or, while the disk takes none, in the backlog (see [`StoreHealth`]).
    #[must_use]
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.shared.view.committed()
    }

    /// The reports after the `n`-th.
    #[must_use]
    pub fn committed_since(&self, n: u64) -> CommittedSince {
        self.shared.view.committed_since(n)
    }

    /// A group's newest row beside the one before it.
    #[must_use]
    pub fn reading(&self, group: GroupKey) -> Option<Arc<Reading>> {
        self.shared.view.reading(group)
    }

    /// How the latest asking of a group went.
    #[must_use]
    pub fn outcome(&self, group: GroupKey) -> Option<Outcome> {
        self.shared.view.outcome(group)
    }

    /// What a device says of itself.
    #[must_use]
    pub fn facts(&self, device: DeviceId) -> Option<Arc<Facts>> {
        self.shared.view.facts(device)
    }

    /// The samples: what is asked of history. A report's samples may be seen in
    /// them a moment before the report counts as [`Store::committed`].
    #[must_use]
    pub fn samples(&self) -> &Samples {
        &self.shared.samples
    }

    /// Deletes all samples of a device: gone for readers at once, from the disk
    /// as segments are compacted or expire. Says of how many checks there were
    /// some. What the device is asked from now on is kept anew. Blocks.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoSuchDevice`]; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub fn forget_samples(
        &self,
        by: &By,
        device: DeviceId,
        now: Timestamp,
    ) -> Result<usize, WriteError> {
        if self.inventory().device(device).is_none() {
            return Err(Refusal::NoSuchDevice { id: device }.into());
        }
        let catalog = &self.shared.catalog;
        let groups = catalog.deleting((by, device, now), || {
            self.shared.samples.forget(&|group| group.device == device)
        })?;
        self.shared.view.forget(device);
        Ok(groups)
    }

    /// Puts a copy of the store into the directory `into`, as of one instant:
    /// the file under its own name, and the segments as hard links in the
    /// directory of samples that belongs to it. `into` is made, has to be on
    /// the same file system and without such a copy. The copy is on the disk,
    /// and was opened and counted, when this returns. Blocks, as long as it
    /// takes to copy the file.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]; what is in `into` then is of no use.
    pub fn snapshot(&self, into: &Path, now: Timestamp) -> Result<SnapshotAbout, SnapshotError> {
        snapshot::take(&self.shared, into, now)
    }

    /// Reads from the disk; damage is counted and logged.
    fn read<T>(
        &self,
        work: impl FnOnce(&redb::ReadTransaction) -> Result<T, Fault>,
    ) -> Result<T, ReadError> {
        self.read_lazily(|txn| work(&txn()?))
    }

    fn count(&self, error: &ReadError) {
        if let ReadError::Corrupt { what } = error {
            tracing::error!(what, "damage was met while reading the store");
            self.shared.note_corrupt(1);
        }
    }

    /// The last known address of a host name.
    #[must_use]
    pub fn last_address(&self, host: &str) -> Option<IpAddr> {
        self.shared.view.address(host)
    }

    /// Keeps the address of a host name, with the next commit.
    pub fn keep_address(&self, host: &str, ip: IpAddr) {
        if self.shared.view.learn_address(host, ip) {
            self.shared.queue.push_address(host.to_owned(), ip);
        }
    }

    // --- alerts and outbox

    /// The first number that no alert has had. The one judge counts up from
    /// it.
    #[must_use]
    pub fn next_alert_id(&self) -> u64 {
        self.shared.book().next_alert
    }

    /// Alerts that are not resolved, by number.
    #[must_use]
    pub fn open_alerts(&self) -> Vec<Alert> {
        let book = self.shared.book();
        book.alerts
            .values()
            .map(|alert| Alert::clone(alert))
            .collect()
    }

    /// The alert of this number. Blocks on the disk if it is resolved.
    ///
    /// # Errors
    ///
    /// [`ReadError::Corrupt`], [`ReadError::Io`].
    pub fn alert(&self, id: AlertId) -> Result<Option<Alert>, ReadError> {
        let book = self.shared.book();
        self.read_lazily(|txn| alerts::find(&book, txn, id))
    }

    /// Alerts, newest first. Blocks on the disk if resolved ones are asked
    /// for.
    ///
    /// # Errors
    ///
    /// [`ReadError::Corrupt`], [`ReadError::Io`].
    pub fn alerts(&self, ask: &AlertsAsk) -> Result<Vec<Alert>, ReadError> {
        let book = self.shared.book();
        self.read_lazily(|txn| alerts::list(&book, txn, ask))
    }

    /// Like [`Store::read`], for work that may not need the disk at all.
    fn read_lazily<T>(
        &self,
        work: impl FnOnce(&dyn Fn() -> Result<redb::ReadTransaction, Fault>) -> Result<T, Fault>,
    ) -> Result<T, ReadError> {
        let disk = &self.shared.disk;
        let read = disk.read(|| work(&|| disk.begin_read()));
        if disk.is_doubtful() {
            self.shared.queue.nudge();
        }
        read.map_err(ReadError::from)
            .inspect_err(|error| self.count(error))
    }

    /// Keeps what the rules decided, in one transaction: alerts, and the
    /// deliveries that tell of them. Returns when it is on the disk.
    ///
    /// # Errors
    ///
    /// [`WriteError::NotWriting`], [`WriteError::Closed`]: nothing of it is
    /// kept; try again.
    pub async fn judge(&self, judgement: Judgement) -> Result<(), WriteError> {
        self.write(move |change| alerts::judge(change, &judgement).map(Ok))
            .await
    }

    /// Counts changes of the outbox.
    #[must_use]
    pub fn outbox_changed(&self) -> watch::Receiver<u64> {
        self.shared.outbox.subscribe()
    }

    /// Deliveries to be tried now, oldest first.
    #[must_use]
    pub fn outbox_due(&self, now: Timestamp, limit: usize) -> Vec<Delivery> {
        outbox::due(&self.shared.book(), now, limit)
    }

    /// Deliveries that wait to go over one of the channels that `wants` names,
    /// whenever they are due, oldest first.
    pub fn outbox_waiting(&self, limit: usize, wants: impl Fn(&Channel) -> bool) -> Vec<Delivery> {
        outbox::waiting(&self.shared.book(), limit, wants)
    }

    /// How many deliveries wait for each notifier plugin.
    #[must_use]
    pub fn outbox_of_plugins(&self) -> BTreeMap<String, usize> {
        outbox::waiting_for_plugins(&self.shared.book())
    }

    /// When the next delivery is to be tried.
    #[must_use]
    pub fn outbox_next(&self) -> Option<Timestamp> {
        outbox::next(&self.shared.book())
    }

    /// Deliveries, newest first. Blocks on the disk if others than queued ones
    /// are asked for.
    ///
    /// # Errors
    ///
    /// [`ReadError::Corrupt`], [`ReadError::Io`].
    pub fn outbox(&self, ask: &OutboxAsk) -> Result<Vec<Delivery>, ReadError> {
        let book = self.shared.book();
        self.read_lazily(|txn| outbox::list(&book, txn, ask))
    }

    /// The delivery of this number. Blocks on the disk if it is not queued.
    ///
    /// # Errors
    ///
    /// [`ReadError::Corrupt`], [`ReadError::Io`].
    pub fn delivery(&self, id: OutboxId) -> Result<Option<Delivery>, ReadError> {
        let book = self.shared.book();
        self.read_lazily(|txn| outbox::find(&book, txn, id))
    }

    /// Queues a delivery; the store gives it its number. Returns when it is on
    /// the disk.
    ///
    /// # Errors
    ///
    /// [`WriteError::NotWriting`], [`WriteError::Closed`].
    pub async fn enqueue(&self, delivery: Delivery) -> Result<OutboxId, WriteError> {
        self.write(move |change| outbox::enqueue(change, &delivery).map(Ok))
            .await
    }

    /// Like [`Store::enqueue`], for a delivery that somebody asks for by hand,
    /// to see whether it arrives: the audit log says so.
    ///
    /// # Errors
    ///
    /// [`WriteError::NotWriting`], [`WriteError::Closed`].
    pub async fn enqueue_test(
        &self,
        by: &By,
        delivery: Delivery,
        now: Timestamp,
    ) -> Result<OutboxId, WriteError> {
        let by = by.clone();
        self.write(move |change| outbox::enqueue_test(change, &by, &delivery, now).map(Ok))
            .await
    }

    /// Replaces what is kept of a delivery: after a try. Returns when it is on
    /// the disk.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoSuchDelivery`]; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn update_delivery(&self, delivery: Delivery) -> Result<(), WriteError> {
        self.write(move |change| outbox::update(change, &delivery))
            .await
    }

    /// Queues a parked delivery again, due now.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoSuchDelivery`], [`Refusal::NotParked`],
    /// [`Refusal::TooMany`]; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn retry_delivery(
        &self,
        by: &By,
        id: OutboxId,
        now: Timestamp,
    ) -> Result<Delivery, WriteError> {
        let by = by.clone();
        self.write(move |change| outbox::retry(change, &by, id, now))
            .await
    }

    // --- health

    /// Writes a little through the real writer to the real disk; how long that
    /// took, waiting included. Does not return while the writer hangs.
    ///
    /// # Errors
    ///
    /// [`WriteError::NotWriting`]: the writer is alive, but the disk takes
    /// nothing. [`WriteError::Closed`].
    pub async fn heartbeat(&self) -> Result<Duration, WriteError> {
        let began = Instant::now();
        self.write(|change| {
            let beats = tables::COUNTER.get_in(change.txn, tables::HEARTBEAT)?;
            let beats = beats.unwrap_or(0).wrapping_add(1);
            tables::COUNTER.put(change.txn, tables::HEARTBEAT, &beats)?;
            Ok(Ok(()))
        })
        .await?;
        Ok(began.elapsed())
    }

    /// Keeps the writer from doing anything until what this returns is
    /// dropped: for tests of what watches over it.
    #[cfg(any(test, feature = "faults"))]
    #[must_use]
    pub fn stall(&self) -> Stall {
        let (held, released) = std::sync::mpsc::channel::<()>();
        let released = Mutex::new(released);
        let work = move |_: &mut Change<'_>| {
            let released = released.lock().unwrap_or_else(PoisonError::into_inner);
            // nothing is ever sent: it ends when the other side is dropped
            let _ = released.recv();
            Ok(Ok(()))
        };
        let (answer, _) = oneshot::channel();
        let job = Box::new(Ask {
            work,
            done: None,
            answer,
        });
        if let Ok(room) = self.shared.room_for_jobs.clone().try_acquire_owned() {
            self.shared.queue.push_job(job, room);
        }
        Stall { _held: held }
    }

    /// Whether the disk takes what comes. From memory alone.
    #[must_use]
    pub fn health(&self) -> StoreHealth {
        self.shared.figures().health.clone()
    }

    /// What the store says of itself. Looks at the disk's room, too.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let book = self.shared.book();
        let samples = self.shared.samples.stats();
        let (rows, values) = stats::raw_totals(&samples);
        let figures = self.shared.figures();
        let commit_seconds = figures.commit_seconds.snapshot();
        StoreStats {
            file_bytes: self.shared.disk.bytes(),
            commits: commit_seconds.count,
            commit_seconds,
            queue_len: self.shared.queue.len(),
            queue_limit: QUEUE_REPORTS,
            backlog_reports: self.shared.backlog(),
            backlog_dropped: samples.dropped,
            rows,
            values,
            corrupt_reads: self.shared.corrupt_reads() + samples.damaged,
            samples,
            open_outbox: book.queued.len(),
            parked_outbox: book.parked.len(),
            audit_dropped: self.shared.audit_dropped(),
            health: figures.health.clone(),
        }
    }
}

/// See [`Store::stall`].
#[cfg(any(test, feature = "faults"))]
#[derive(Debug)]
pub struct Stall {
    _held: std::sync::mpsc::Sender<()>,
}

/// Somebody who waits for the writer.
struct Ask<R, F> {
    work: F,
    done: Option<Result<R, Refusal>>,
    answer: oneshot::Sender<Result<R, WriteError>>,
}

impl<R, F> Job for Ask<R, F>
where
    R: Send,
    F: FnMut(&mut Change<'_>) -> Result<Result<R, Refusal>, Fault> + Send,
{
    fn run(&mut self, change: &mut Change<'_>) -> Result<(), Fault> {
        self.done = Some((self.work)(change)?);
        Ok(())
    }

    fn finish(self: Box<Self>, result: Result<(), WriteError>) {
        let told = match (result, self.done) {
            (Err(error), _) => Err(error),
            (Ok(()), Some(done)) => done.map_err(WriteError::Refused),
            (Ok(()), None) => Err(WriteError::Closed),
        };
        // whoever asked may have gone away
        let _ = self.answer.send(told);
    }
}

/// The life of the writer's thread.
fn live(shared: &Shared, writer: Writer) {
    let ended = disk::caught(|| {
        writer.run();
        Ok(())
    });
    if let Err(fault) = ended {
        tracing::error!(%fault, "the store's writer panicked");
        shared.set_fault(WriterEnd::Panicked(fault.to_string()));
    }
    shared.keeper.stop();
    shared.samples.stop();
    // whoever waits for the writer is told, the keeper too
    shared.queue.abandon();
    shared.keeper.join();
    if let Err(error) = shared.samples.close() {
        tracing::error!(%error, "the newest samples did not reach the disk");
    }
    shared.disk.close();
    shared.writer_gone.send_replace(true);
}

/// Reads everything that is kept in memory, and verifies what is not but is
/// small.
fn load(db: &redb::Database) -> Result<Loaded, Fault> {
    let txn = redb::ReadableDatabase::begin_read(db)?;
    let book = Book::load(&txn)?;
    tables::ALERT_PAST.verify(&txn)?;
    tables::DELIVERED.verify(&txn)?;
    let mut facts = HashMap::new();
    tables::FACTS.load(&txn, |device, kept| {
        facts.insert(DeviceId(device), Arc::new(kept));
    })?;
    let mut addresses = HashMap::new();
    tables::ADDRESS.load(&txn, |host, ip| {
        addresses.insert(host.to_owned(), ip);
    })?;
    Ok(Loaded {
        book,
        facts,
        addresses,
        catalog: catalog::load(&txn)?,
    })
}

fn open_error(options: &StoreOptions, fault: Fault) -> OpenError {
    let path = options.path.clone();
    match fault {
        Fault::Redb(redb::Error::DatabaseAlreadyOpen) => OpenError::InUse { path },
        Fault::Redb(redb::Error::Io(source)) if !Fault::is_bad_data(&source) => OpenError::Io {
            path,
            doing: "open the store",
            source,
        },
        Fault::NoRoom { needed, free } => OpenError::NoRoom { path, needed, free },
        Fault::Samples(source) => OpenError::Samples { path, source },
        other => OpenError::Corrupt {
            path,
            what: other.to_string(),
        },
    }
}
