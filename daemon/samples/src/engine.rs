//! The engine: everything behind one door.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use model::{Breaks, Columns, DeviceId, GroupKey, PollRow, Timestamp};
use segment::{Span, Tier};
use wal::fs::Fs;
use wal::{Lsn, NotDurable, Replay, Wal, WalStats};

use crate::catalog::{Catalog, CatalogError, CatalogState};
use crate::head::Head;
use crate::keeper::{Counts, Keeper};
use crate::lock::{self, lock};
use crate::query::{Frames, QueryError, Rollup, Select, Selected};
use crate::registry::Registry;

/// How long what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Raw samples.
    pub raw: Duration,
    /// Roll-ups of 15 minutes.
    pub quarter: Duration,
    /// Roll-ups of an hour.
    pub hour: Duration,
    /// All segments together in bytes; the oldest go first. 0: no limit.
    pub budget: u64,
}

/// How the sample store is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its directory: `wal/`, `seg/` and `quarantine/` lie in it.
    pub dir: PathBuf,
    /// How long what is kept.
    pub keep: Keep,
    /// The head is cut into a segment this often, at whole multiples since
    /// 1970.
    pub cut_every: Duration,
    /// Rows that nobody waits for are synced at most this much later.
    pub sync_every: Duration,
    /// Memory for rows that are not in blocks yet: blocks are closed earlier if
    /// there are more series than that has room for.
    pub open_bytes: usize,
    /// While the disk takes nothing: memory for what is not on it. Beyond it
    /// the oldest is dropped and counted.
    pub backlog_bytes: usize,
    /// Different series that one device may begin in a day.
    pub series_per_device: usize,
}

/// A row to be kept.
#[derive(Clone, Copy, Debug)]
pub struct Append<'a> {
    /// Whose.
    pub group: GroupKey,
    /// When, in ms.
    pub at: Timestamp,
    /// What each value is. The same `Arc` for row after row is quickest.
    pub columns: &'a Arc<Columns>,
    /// As many as there are columns; any NaN: not measured. Infinities are
    /// values. Empty: there is no row, only a note.
    pub values: &'a [f64],
    /// Where counters lost continuity.
    pub breaks: &'a Breaks,
    /// Found again at a start beside the newest row; `None`: as before.
    pub note: Option<&'a [u8]>,
}

/// Why a row is not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The group has a row of this instant.
    #[error("there is a row of {at} already")]
    Duplicate {
        /// Which instant.
        at: Timestamp,
    },
    /// Older than raw samples are kept.
    #[error("{at} is older than samples are kept")]
    TooOld {
        /// Which instant.
        at: Timestamp,
    },
    /// More than a day ahead of the clock.
    #[error("{at} lies in the future")]
    TooNew {
        /// Which instant.
        at: Timestamp,
    },
    /// It does not fit its columns, or is too wide.
    #[error("{values} values do not fit {columns} columns, or are more than {limit}")]
    Shape {
        /// Values that came.
        values: usize,
        /// Columns that came.
        columns: usize,
        /// As many are taken.
        limit: usize,
    },
    /// A series has too many labels, or too long ones.
    #[error("{what}")]
    Labels {
        /// Which series, and what is too much.
        what: String,
    },
    /// The device began too many series of late.
    #[error("device {device} began more than {limit} series within a day")]
    TooManySeries {
        /// Which device.
        device: DeviceId,
        /// As many are taken.
        limit: usize,
    },
}

/// What became of a batch.
#[derive(Debug)]
pub struct Appended {
    /// Of the rows that were taken.
    pub ticket: Ticket,
    /// Places in the batch, rising, and why not.
    pub refused: Vec<(usize, Refused)>,
}

/// Rows on their way to the disk. They are visible already.
#[derive(Clone, Debug)]
pub struct Ticket {
    wal: Wal,
    lsn: Lsn,
}

impl Ticket {
    /// Waits until they are in a log that is synced. Blocks.
    ///
    /// # Errors
    ///
    /// [`NotDurable`]: they stay in memory, within a bound, until
    /// [`Samples::resume`].
    pub fn durable(&self) -> Result<(), NotDurable> {
        self.wal.wait(self.lsn)
    }
}

/// Why the sample store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system says so.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The catalog makes no sense.
    #[error("the catalog of samples is damaged: {0}")]
    Catalog(String),
}

/// Whether the disk takes what comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SamplesHealth {
    /// It does.
    Ok,
    /// The log is suspended: what comes is kept in memory, within a bound.
    NotWriting(NotDurable),
}

/// What one tier holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierStats {
    /// Segments.
    pub segments: usize,
    /// What they take.
    pub bytes: u64,
    /// Rows in them.
    pub rows: u64,
    /// Values in them.
    pub samples: u64,
    /// The oldest row; `None` without any.
    pub oldest: Option<Timestamp>,
    /// The newest row.
    pub newest: Option<Timestamp>,
}

/// When the disk will be full if all goes on as in the last days.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ForecastDays {
    /// Not by samples: they stop growing before.
    Never,
    /// In so many days.
    In(f64),
    /// There is not a day of segments yet.
    Unknown,
}

/// What the sample store says of itself.
#[derive(Clone, Debug)]
pub struct SamplesStats {
    /// By tier and span; those without segments are left out.
    pub tiers: Vec<(Tier, Span, TierStats)>,
    /// Of raw segments, by kind (the places of `MetricKind`'s variants): values
    /// and bytes.
    pub kinds: [(u64, u64); 4],
    /// Groups that have rows.
    pub groups: usize,
    /// Series with rows in the head, or with rows in it when it was cut last.
    pub active_series: usize,
    /// Rows in the head, those in its blocks included.
    pub head_rows: u64,
    /// Values in them.
    pub head_samples: u64,
    /// Memory of the head's rows and blocks.
    pub head_bytes: u64,
    /// Values that were appended since the start.
    pub appended: u64,
    /// Rows that were refused since the start, by the word for why: duplicate,
    /// too_old, too_new, shape, labels, too_many_series.
    pub refused: [(&'static str, u64); 6],
    /// Values dropped because nothing could be written for too long.
    pub dropped: u64,
    /// Blocks or files that were damaged, since the start.
    pub damaged: u64,
    /// Files in quarantine.
    pub quarantined: usize,
    /// Segments unlinked because of their age, since the start.
    pub expired: u64,
    /// Segments unlinked because of the budget or of a full disk.
    pub evicted: u64,
    /// Cuts since the start, and how long the last one took.
    pub cuts: u64,
    /// How long the last cut took.
    pub last_cut: Duration,
    /// Compactions since the start.
    pub compactions: u64,
    /// How long the last one took.
    pub last_compaction: Duration,
    /// What the log says.
    pub wal: WalStats,
    /// What the start found in the log.
    pub replay: Replay,
    /// How long it took to read it.
    pub replay_took: Duration,
    /// When the disk will be full.
    pub forecast: ForecastDays,
    /// Whether the disk takes what comes.
    pub health: SamplesHealth,
}

/// The files of one instant: see [`Samples::snapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Hard links of all listed segments, below the directory that was given.
    pub files: Vec<PathBuf>,
    /// What they take.
    pub bytes: u64,
}

/// The sample store. Clones are the same one.
#[derive(Clone)]
pub struct Samples {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Samples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Samples")
    }
}

/// How long the process runs: a clock that nobody sets.
pub(crate) type Monotonic = Box<dyn Fn() -> Duration + Send + Sync>;

/// What all clones share. Locks are taken in this order: keeper, head,
/// registry. Nobody writes to a disk while holding the head.
pub(crate) struct Inner {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) options: Options,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) wal: Wal,
    pub(crate) head: Mutex<Head>,
    pub(crate) registry: RwLock<Registry>,
    pub(crate) keeper: Mutex<Keeper>,
    pub(crate) monotonic: Monotonic,
    /// Those who wait for the keeper and do not want to wait for a compaction.
    pub(crate) waiting: AtomicUsize,
    /// A long compaction gives up soon.
    pub(crate) stop: AtomicBool,
    pub(crate) counts: Mutex<Counts>,
    pub(crate) replay: Replay,
    pub(crate) replay_took: Duration,
}

impl Samples {
    /// Opens what `state` lists: removes files that it does not list, sets
    /// damaged ones aside, reads the log. Blocks.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; a damaged segment or log is not one of them.
    pub fn open(
        fs: Arc<dyn Fs>,
        options: Options,
        state: CatalogState,
        catalog: Arc<dyn Catalog>,
        now: Timestamp,
    ) -> Result<Samples, OpenError> {
        let began = Instant::now();
        let monotonic: Monotonic = Box::new(move || began.elapsed());
        Samples::open_with(fs, options, state, catalog, now, monotonic)
    }

    /// [`Samples::open`] with a clock of one's own.
    pub(crate) fn open_with(
        fs: Arc<dyn Fs>,
        options: Options,
        state: CatalogState,
        catalog: Arc<dyn Catalog>,
        now: Timestamp,
        monotonic: Monotonic,
    ) -> Result<Samples, OpenError> {
        let inner = Inner::open(fs, options, state, catalog, now, monotonic)?;
        let inner = Arc::new(inner);
        Ok(Samples { inner })
    }

    #[cfg(test)]
    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Keeps rows: visible when it returns, on the disk when the ticket says.
    /// Does not touch the disk.
    #[must_use]
    pub fn append(&self, rows: &[Append<'_>], now: Timestamp) -> Appended {
        let Inner {
            options, registry, ..
        } = &*self.inner;
        let mut refused = Vec::new();
        let mut head = lock(&self.inner.head);
        let is_kept = Cell::new(false);
        let mut keep = |log: &mut Vec<u8>| {
            is_kept.set(true);
            for (place, row) in rows.iter().enumerate() {
                if let Err(why) = head.append(row, now, options, registry, log) {
                    refused.push((place, why));
                }
            }
        };
        let lsn = self.inner.wal.append(&mut keep);
        if !is_kept.get() {
            keep(&mut Vec::new()); // the log takes nothing: memory does
        }
        self.inner.shed(&mut head);
        let wal = self.inner.wal.clone();
        let ticket = Ticket { wal, lsn };
        Appended { ticket, refused }
    }

    /// Tries whether the log can be written again, and puts what was kept in
    /// memory meanwhile into a segment. Blocks.
    ///
    /// # Errors
    ///
    /// [`NotDurable`].
    pub fn resume(&self, now: Timestamp) -> Result<(), NotDurable> {
        let resumed = self.inner.resume();
        if let Err(error) = &resumed {
            tracing::debug!(%now, %error, "the log is not resumed");
        }
        resumed
    }

    /// Does what is due: cut, compaction, retention, one step of each. To be
    /// called about once a second from a thread of its own. Blocks, for minutes
    /// while it compacts a large day. Whether it should be called again at once.
    ///
    /// # Errors
    ///
    /// [`CatalogError`], or what a disk says: nothing is lost, it is tried
    /// again.
    pub fn maintain(&self, now: Timestamp) -> Result<bool, CatalogError> {
        self.inner.maintain(now)
    }

    /// Cuts the head into a segment now, whatever the time. Blocks.
    ///
    /// # Errors
    ///
    /// As [`Samples::maintain`].
    pub fn cut(&self) -> Result<(), CatalogError> {
        self.inner.cut(&mut self.inner.keep())
    }

    /// Ends a long [`Samples::maintain`] soon: the daemon stops.
    pub fn stop(&self) {
        self.inner.stop.store(true, Ordering::Relaxed);
    }

    /// Every group with its note, and its newest rows: the newest and the one
    /// before it, if there are. For a start. Blocks.
    #[must_use]
    pub fn newest(&self) -> Vec<(GroupKey, Vec<u8>, Vec<PollRow>)> {
        self.inner.newest()
    }

    /// Raw samples. Blocks.
    ///
    /// # Errors
    ///
    /// [`QueryError`].
    pub fn select(&self, ask: &Select<'_>) -> Result<Selected, QueryError> {
        self.inner.select(ask)
    }

    /// Values by steps. Blocks; uses two threads for a large answer.
    ///
    /// # Errors
    ///
    /// [`QueryError`].
    pub fn rollup(&self, ask: &Rollup<'_>) -> Result<Frames, QueryError> {
        self.inner.rollup(ask)
    }

    /// The names of all metrics that have rows, sorted.
    #[must_use]
    pub fn metrics(&self) -> Vec<Arc<str>> {
        lock::read(&self.inner.registry).metrics()
    }

    /// Deletes all data of these groups: gone for readers at once, from the
    /// disk as segments are compacted or expire. A later row begins anew.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// [`CatalogError`]: they are gone for readers, and gone for good once a
    /// later [`Samples::maintain`] succeeded.
    pub fn forget(&self, groups: &dyn Fn(GroupKey) -> bool) -> Result<usize, CatalogError> {
        self.inner.forget(groups)
    }

    /// Cuts the head, then links every listed segment into `into` (a directory
    /// on the same file system, made if it is not there) while nothing is
    /// listed or removed, and calls `meanwhile` within the same moment: what
    /// the catalog says then fits the links. Blocks.
    ///
    /// # Errors
    ///
    /// As [`Samples::maintain`].
    pub fn snapshot(
        &self,
        into: &Path,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Snapshot, CatalogError> {
        self.inner.snapshot(into, meanwhile)
    }

    /// What it says of itself.
    #[must_use]
    pub fn stats(&self) -> SamplesStats {
        self.inner.stats()
    }

    /// Writes and syncs what is left. Blocks.
    ///
    /// # Errors
    ///
    /// [`NotDurable`].
    pub fn close(&self) -> Result<(), NotDurable> {
        self.stop();
        self.inner.wal.close()
    }
}
