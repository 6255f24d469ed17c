//! A start: the catalog, the segments and the log become one head.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use model::{GroupKey, Timestamp};
use segment::Tier;
use wal::fs::Fs;
use wal::{Wal, WalError, WalOptions};

use crate::catalog::{Catalog, CatalogState, GroupRecord};
use crate::engine::{Inner, Monotonic, OpenError, Options};
use crate::files::{self, Places};
use crate::head::{Group, Head};
use crate::keeper::{Counts, Keeper};
use crate::registry::Registry;
use crate::replay::{self, Logged};
use crate::retention::JumpWatch;
use crate::rows::Piece;
use crate::shelf::{Content, Shelf};

/// What was appended is written, not synced, this soon: as much is lost when
/// the process dies.
const WRITE_EVERY: Duration = Duration::from_millis(20);

/// Bytes that may wait for a disk that is slow: a second of a full-speed import.
const MAX_PENDING: usize = 64 << 20;

impl Inner {
    pub(crate) fn open(
        fs: Arc<dyn Fs>,
        options: Options,
        state: CatalogState,
        catalog: Arc<dyn Catalog>,
        now: Timestamp,
        monotonic: Monotonic,
    ) -> Result<Inner, OpenError> {
        let places = Places::of(&options.dir);
        files::make(&fs, &options.dir, &places)?;
        check(&state)?;
        files::remove_unlisted(&fs, &places, &state.segments)?;
        let opened = state.segments.iter().cloned();
        let opened = opened.map(|row| Arc::new(files::open_listed(&fs, &places, row)));
        let shelf = Shelf::new(opened.collect());
        let lost = |listed: &&Arc<_>| is_lost(listed);
        let damaged = shelf.segments.iter().filter(lost).count() as u64;

        let gone: HashSet<u32> = gone(&state);
        let began = Instant::now();
        let (wal, replay, logged) = read_log(&fs, &options, &places, state.checkpoint, &gone)?;
        for (file, offset, what) in &replay.damaged {
            tracing::error!(
                file,
                offset,
                what,
                "the log is damaged; what is behind was read"
            );
        }
        let damaged = damaged + replay.damaged.len() as u64 + logged.garbled;
        let replay_took = began.elapsed();

        let next_segment = state.next_segment;
        let registry = registry(&state, &logged);
        let (mut head, dropped) = head(state, gone, logged, &registry);
        head.learn(shelf, &registry);
        let newest = head.groups.values().filter_map(|group| group.newest).max();
        let keeper = Keeper {
            next_segment,
            cut_slot: Some(slot(&options, now)),
            jumps: JumpWatch::starting(newest, monotonic()),
            ..Keeper::default()
        };
        let counts = Counts {
            damaged: damaged + dropped,
            ..Counts::default()
        };
        Ok(Inner {
            fs,
            options,
            catalog,
            wal,
            head: Mutex::new(head),
            registry: RwLock::new(registry),
            keeper: Mutex::new(keeper),
            monotonic,
            waiting: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            counts: Mutex::new(counts),
            replay,
            replay_took,
        })
    }
}

fn is_lost(listed: &crate::shelf::Listed) -> bool {
    matches!(listed.content, Content::Lost(_))
}

/// Which of the times to cut `now` is in.
pub(crate) fn slot(options: &Options, now: Timestamp) -> u64 {
    let every = u64::try_from(options.cut_every.as_millis()).unwrap_or(u64::MAX);
    now.0 / every.max(1)
}

/// Whether the catalog makes sense.
fn check(state: &CatalogState) -> Result<(), OpenError> {
    let mut names = HashSet::new();
    for row in &state.segments {
        if row.name.0 >= state.next_segment || !names.insert(row.name) {
            let what = format!("segment {} is listed twice or too early", row.name.0);
            return Err(OpenError::Catalog(what));
        }
    }
    let mut numbers = HashSet::new();
    match state
        .groups
        .iter()
        .find(|(number, _)| !numbers.insert(*number))
    {
        Some((number, _)) => Err(OpenError::Catalog(format!("group {number} is there twice"))),
        None => Ok(()),
    }
}

/// The groups whose data was deleted. Of two with one key the older one is: a
/// deletion was under way.
fn gone(state: &CatalogState) -> HashSet<u32> {
    let groups = state.groups.iter().filter(|(_, record)| record.gone);
    groups.map(|(number, _)| *number).collect()
}

fn read_log(
    fs: &Arc<dyn Fs>,
    options: &Options,
    places: &Places,
    checkpoint: u64,
    gone: &HashSet<u32>,
) -> Result<(Wal, wal::Replay, Logged), OpenError> {
    let log = WalOptions {
        dir: places.log.clone(),
        stream: 'm',
        write_every: WRITE_EVERY,
        sync_every: options.sync_every,
        max_pending: MAX_PENDING,
    };
    let skip = |group: u32| gone.contains(&group);
    let open = |each: &mut dyn FnMut(Vec<u8>)| Wal::open(Arc::clone(fs), log, checkpoint, each);
    replay::read(options.open_bytes, &skip, open).map_err(log_failed)
}

fn log_failed(error: WalError) -> OpenError {
    OpenError::Io {
        doing: error.doing,
        path: PathBuf::from(&error.path),
        source: error.source,
    }
}

/// The columns of the catalog and of the log.
fn registry(state: &CatalogState, logged: &Logged) -> Registry {
    let mut registry = Registry::default();
    for (number, columns) in &state.columns {
        registry.put(*number, Arc::clone(columns), true);
    }
    for (number, columns) in &logged.columns {
        if registry.get(*number).is_none() {
            registry.put(*number, Arc::clone(columns), false);
        }
    }
    if let Some(last) = logged.columns_below.checked_sub(1) {
        registry.reserve(last);
    }
    registry
}

/// The groups of the catalog and of the log with the log's rows; and how many
/// pieces of it belong to nobody.
fn head(
    state: CatalogState,
    gone: HashSet<u32>,
    logged: Logged,
    registry: &Registry,
) -> (Head, u64) {
    let mut head = Head {
        gone,
        next_group: logged.groups_below,
        ..Head::default()
    };
    for (number, record) in state.groups {
        head.next_group = head.next_group.max(number + 1);
        if !record.gone {
            let mut group = Group::new(number);
            group.note = Arc::from(record.note);
            group.listed = true;
            head.begin(record.key, group);
        }
    }
    let known: HashMap<u32, GroupKey> = head.keys();
    let mut new: Vec<(u32, GroupKey)> = logged.keys.into_iter().collect();
    new.retain(|(number, _)| !known.contains_key(number) && !head.gone.contains(number));
    new.sort_unstable();
    for (number, key) in new {
        head.begin(key, Group::new(number));
    }
    head.note(logged.notes);
    let dropped = head.fill(logged.rows, registry);
    (head, dropped)
}

impl Head {
    /// Begins a group. One of the same key that is there already is gone: a
    /// deletion was under way when the process ended.
    fn begin(&mut self, key: GroupKey, group: Group) {
        let newer = self.groups.get(&key).map(|other| other.number);
        let gone = match newer {
            Some(newer) if newer > group.number => Some(group),
            _ => self.groups.insert(key, group),
        };
        if let Some(gone) = gone {
            self.gone.insert(gone.number);
            let record = GroupRecord {
                key,
                note: Vec::new(),
                gone: true,
            };
            self.gone_untold.push((gone.number, record));
        }
    }

    /// When the oldest row is that is not in a segment and not frozen.
    fn oldest_row(&self) -> Option<u64> {
        let open = self
            .groups
            .values()
            .filter_map(|group| group.open.times.first());
        let closed = self.groups.values().flat_map(|group| &group.closed);
        open.copied()
            .chain(closed.map(|piece| piece.span().0))
            .min()
    }

    /// Whether rows of these times are not in a listed segment.
    pub(crate) fn has_rows_before(&self, end: u64) -> bool {
        let mut frozen = self.frozen.iter().flat_map(|frozen| frozen.pieces());
        frozen.any(|piece| piece.span().0 < end) || self.oldest_row().is_some_and(|at| at < end)
    }

    /// First and last times of all that holds raw rows.
    pub(crate) fn spans(&self) -> Vec<(u64, u64)> {
        let raw = self.shelf.of(Tier::Raw);
        let listed = raw.map(|listed| (listed.row.summary.from, listed.row.summary.until));
        let held = self.groups.values().flat_map(|group| &group.closed);
        let frozen = self.frozen.iter().flat_map(|frozen| frozen.pieces());
        let pieces = frozen.chain(held).map(Piece::span);
        let open = self.groups.values().flat_map(|group| &group.open.times);
        listed
            .chain(pieces)
            .chain(open.map(|at| (*at, *at)))
            .collect()
    }

    /// The key of each number.
    pub(crate) fn keys(&self) -> HashMap<u32, GroupKey> {
        let groups = self.groups.iter();
        groups.map(|(key, group)| (group.number, *key)).collect()
    }

    fn note(&mut self, notes: HashMap<u32, Arc<[u8]>>) {
        for group in self.groups.values_mut() {
            if let Some(note) = notes.get(&group.number) {
                group.note = Arc::clone(note);
                group.note_changed = true;
            }
        }
    }

    /// Puts the log's rows into the groups; gives how many pieces have no
    /// group or no columns: their definition was in a damaged place.
    fn fill(&mut self, mut rows: HashMap<u32, Group>, registry: &Registry) -> u64 {
        let mut dropped = 0;
        let fits = |piece: &Piece| {
            let columns = registry.get(piece.columns());
            columns.is_some_and(|set| set.series().len() * piece.rows() == piece.samples())
        };
        for group in self.groups.values_mut() {
            let Some(mut found) = rows.remove(&group.number) else {
                continue;
            };
            group.last = found.last;
            let mut pieces = found.take();
            let before = pieces.len();
            pieces.retain(fits);
            dropped += (before - pieces.len()) as u64;
            group.newest = pieces.iter().map(|piece| piece.span().1).max();
            for piece in pieces {
                self.held.rows += piece.rows() as u64;
                self.held.samples += piece.samples() as u64;
                self.held.bytes += piece.bytes();
                let set = registry.get(piece.columns());
                group.columns = set.map(|set| (piece.columns(), Arc::clone(set)));
                match piece {
                    Piece::Open(open) => group.open = open, // there is one at most, the last
                    closed @ Piece::Closed(_) => group.closed.push(closed),
                }
            }
            let width = group
                .columns
                .as_ref()
                .map_or(0, |(_, set)| set.series().len());
            group.active = if group.newest.is_some() { width } else { 0 };
            self.active += group.active;
        }
        rows.retain(|number, _| !self.gone.contains(number));
        dropped + rows.len() as u64
    }

    /// What segments say of the groups: their newest rows.
    fn learn(&mut self, shelf: Shelf, registry: &Registry) {
        let mut newest: HashMap<u32, (u64, u32)> = HashMap::new();
        for listed in shelf.of(Tier::Raw) {
            let Some(segment) = listed.segment() else {
                continue;
            };
            for entry in segment.entries() {
                let found = newest.entry(entry.group).or_default();
                *found = (*found).max((entry.until, entry.columns));
            }
        }
        for group in self.groups.values_mut() {
            let Some((until, columns)) = newest.get(&group.number) else {
                continue;
            };
            if group.columns.is_none() {
                let set = registry.get(*columns);
                group.columns = set.map(|set| (*columns, Arc::clone(set)));
            }
            group.newest = group.newest.max(Some(*until));
        }
        self.shelf = Arc::new(shelf);
    }
}
