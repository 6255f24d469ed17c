//! From schema 2 to 3: the samples leave the file.
//!
//! Schema 2 kept them in these tables, whose values are as those of all others
//! unless said (see [`crate::tables`]):
//!
//! | table | key | value |
//! |---|---|---|
//! | `totals` | 0 | postcard [`Totals`]: what the sample tables hold |
//! | `track` | track | postcard [`TrackKey`]: whose samples these are |
//! | `state` | track | postcard [`TrackState`]: how far it is |
//! | `columns` | columns | postcard `(u64, u64)`: fingerprint and last use |
//! | `series` | (columns, 0, piece) | as today, under other numbers |
//! | `row` | (track, ms, piece) | one poll's values, see [`row`] |
//! | `chunk` | (track, ms of its first row, piece) | a run of rows by columns, see [`chunk`] |
//!
//! A *track* was a run of samples of one device and one check in which time
//! only went forward: when the clock was set back, a new one began, and readers
//! merged them by time. Of two rows of one instant that of the later track
//! counted, and where tracks changed over, counters broke.
//!
//! The rows go through the sample store into segments, an hour after the other
//! and a cut for each day, while the file stays as it is. Then one transaction
//! lists the segments, drops the tables and raises the schema. Before it is on
//! the disk nobody lists the segments, and the next try removes them.

mod chunk;
mod number;
mod row;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::samples::{
    Append, Catalog, CatalogChange, CatalogError, CatalogState, Keep, Options, Samples,
};
use model::{Breaks, Columns, GroupKey, Outcome, Timestamp};
use redb::{ReadTransaction, ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::Ground;
use crate::catalog;
use crate::columns;
use crate::error::Fault;
use crate::pieces::{PieceKey, Pieces, SERIES};
use crate::record::Kept;

pub(super) const TOTALS: Kept<u32, Totals> = Kept::new("totals", 1);
const TRACK: Kept<u32, TrackKey> = Kept::new("track", 1);
const STATE: Kept<u32, TrackState> = Kept::new("state", 1);
const COLUMNS: Kept<u32, (u64, u64)> = Kept::new("columns", 1);
const ROW: Pieces = Pieces { name: "row" };
const CHUNK: Pieces = Pieces { name: "chunk" };

/// Rows are moved an hour after the other: what is in memory at once is bounded
/// by what one hour brings of one device.
const WINDOW_MS: u64 = 3_600_000;

const DAY_MS: u64 = 24 * WINDOW_MS;

/// Values after which a segment is cut though the day is not over.
const VALUES_PER_CUT: usize = 16 << 20;

/// What the sample tables hold.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Totals {
    pub(super) rows: u64,
    pub(super) samples: u64,
    pub(super) chunks: u64,
    /// Of `samples`, those in chunks.
    pub(super) chunk_samples: u64,
    pub(super) chunk_bytes: u64,
}

impl Totals {
    /// What the segments take at most, and the log until they are written.
    fn room(&self) -> u64 {
        /// A value that was in no chunk, in the log and in a segment.
        const VALUE: u64 = 18;
        /// The log, of which a day is written at once, and the rest.
        const BESIDE: u64 = 64 << 20;
        let others = self.samples.saturating_sub(self.chunk_samples);
        2 * self.chunk_bytes + VALUE * others + BESIDE
    }
}

/// Whose samples a track has.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct TrackKey {
    group: GroupKey,
}

/// How far a track is.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct TrackState {
    newest: u64,
    run: u32,
    trimmed: u64,
    outcome: Option<Outcome>,
}

/// Where the catalog is while nothing is in the file yet.
#[derive(Default)]
struct InMemory(Mutex<CatalogState>);

impl Catalog for InMemory {
    fn commit(&self, change: &CatalogChange) -> Result<(), CatalogError> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let groups = change.groups.iter().cloned();
        put_all(&mut state.groups, groups, &change.forget_groups, |row| {
            row.0
        });
        let columns = change.columns.iter().cloned();
        put_all(&mut state.columns, columns, &change.forget_columns, |row| {
            row.0
        });
        let segments = change.segments.iter().cloned();
        let forgotten = &change.forget_segments;
        put_all(&mut state.segments, segments, forgotten, |row| row.name);
        state.checkpoint = change.checkpoint.unwrap_or(state.checkpoint);
        state.next_segment = change.next_segment.unwrap_or(state.next_segment);
        Ok(())
    }
}

fn put_all<T, K: Ord + Copy>(
    rows: &mut Vec<T>,
    put: impl Iterator<Item = T>,
    forgotten: &[K],
    key: impl Fn(&T) -> K,
) {
    let mut by_key: BTreeMap<K, T> = rows.drain(..).map(|row| (key(&row), row)).collect();
    by_key.extend(put.map(|row| (key(&row), row)));
    for gone in forgotten {
        by_key.remove(gone);
    }
    rows.extend(by_key.into_values());
}

/// The tables as older versions made them.
#[cfg(test)]
pub(crate) fn create_old_tables(txn: &WriteTransaction) -> Result<(), Fault> {
    let all: [&dyn crate::record::Table; 7] =
        [&TOTALS, &TRACK, &STATE, &COLUMNS, &ROW, &CHUNK, &SERIES];
    all.iter().try_for_each(|table| table.create(txn))
}

/// What the segments will take at most.
pub(super) fn room(txn: &ReadTransaction) -> Result<u64, Fault> {
    Ok(TOTALS.get(txn, 0)?.unwrap_or_default().room())
}

/// Makes segments of the rows that `txn` sees; gives the catalog of them.
pub(super) fn move_samples(txn: &ReadTransaction, ground: &Ground) -> Result<CatalogState, Fault> {
    clear(ground)?;
    let own = Arc::new(InMemory::default());
    let samples = Samples::open(
        ground.fs.clone(),
        keep_all(&ground.samples),
        CatalogState::default(),
        own.clone(),
        ground.now,
    )
    .map_err(Fault::Samples)?;
    let mut moving = Moving::new(txn, &samples)?;
    moving.all()?;
    if moving.damaged > 0 {
        let damaged = moving.damaged;
        tracing::error!(damaged, "samples of the older version are damaged and lost");
    }
    samples.close().map_err(|error| not_kept(&error))?;
    let state = own.0.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(state.clone())
}

/// Removes what a try before left that did not come to its end: its log would
/// be taken for that of this one.
fn clear(ground: &Ground) -> Result<(), Fault> {
    for part in ["wal", "seg"] {
        let dir = ground.samples.dir.join(part);
        let files = match ground.fs.list(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(redb::StorageError::Io)?,
        };
        for (name, _) in files {
            let removed = ground.fs.remove(&dir.join(name));
            removed.map_err(redb::StorageError::Io)?;
        }
        ground.fs.sync_dir(&dir).map_err(redb::StorageError::Io)?;
    }
    Ok(())
}

/// Nothing is too old, nothing is removed, nothing is cut by itself.
fn keep_all(options: &Options) -> Options {
    const EVER: Duration = Duration::from_secs(1_000 * 365 * 86_400);
    Options {
        keep: Keep {
            raw: EVER,
            quarter: EVER,
            hour: EVER,
            budget: 0,
        },
        series_per_device: usize::MAX,
        ..options.clone()
    }
}

/// Lists the segments in the place of the tables that the rows were in.
pub(super) fn list(txn: &WriteTransaction, state: CatalogState) -> Result<(), Fault> {
    txn.delete_table(TOTALS.definition())?;
    txn.delete_table(TRACK.definition())?;
    txn.delete_table(STATE.definition())?;
    txn.delete_table(COLUMNS.definition())?;
    for pieces in [ROW, CHUNK, SERIES] {
        txn.delete_table(pieces.definition())?;
    }
    super::create_tables(txn)?;
    let all = CatalogChange {
        groups: state.groups,
        columns: state.columns,
        segments: state.segments,
        checkpoint: Some(state.checkpoint),
        next_segment: Some(state.next_segment),
        ..CatalogChange::default()
    };
    catalog::apply(txn, &all)
}

fn not_kept(error: &dyn std::fmt::Display) -> Fault {
    let error = std::io::Error::other(format!("the samples cannot be moved: {error}"));
    Fault::from(redb::StorageError::Io(error))
}

/// A row on its way.
struct Row {
    at: u64,
    /// The row before it in its track (0: there was none), where it says so.
    before: Option<u64>,
    track: u32,
    columns: Arc<Columns>,
    values: Vec<f64>,
    breaks: Breaks,
}

/// The rows of a group, while they are moved.
struct Group {
    tracks: Vec<Track>,
    /// The track that the last row came from.
    last: Option<u32>,
    outcome: Option<Outcome>,
}

struct Track {
    id: u32,
    /// Nothing that was not moved is older.
    next: u64,
    /// The last row that was moved; 0: none.
    last: u64,
    /// Up to this row history was removed because of its age.
    trimmed: u64,
}

impl Track {
    /// Counts the places before `rows` where others are missing.
    fn missing_before(&mut self, rows: &[Row]) -> u64 {
        let mut missing = 0;
        for row in rows {
            let gone = |before: &u64| *before != self.last && *before > self.trimmed;
            if let Some(before) = row.before.filter(gone) {
                missing += 1;
                let (track, before) = (self.id, Timestamp(before));
                tracing::error!(track, %before, "samples up to this instant are missing");
            }
            self.last = row.at;
        }
        missing
    }
}

struct Moving<'t> {
    samples: &'t Samples,
    rows: redb::ReadOnlyTable<PieceKey, &'static [u8]>,
    chunks: redb::ReadOnlyTable<PieceKey, &'static [u8]>,
    series: HashMap<u32, Arc<Columns>>,
    groups: BTreeMap<GroupKey, Group>,
    /// Values since the last cut.
    values: usize,
    damaged: u64,
}

impl<'t> Moving<'t> {
    fn new(txn: &ReadTransaction, samples: &'t Samples) -> Result<Moving<'t>, Fault> {
        let mut groups: BTreeMap<GroupKey, Group> = BTreeMap::new();
        let mut states = HashMap::new();
        STATE.load(txn, |id, state| {
            states.insert(id, state);
        })?;
        TRACK.load(txn, |id, key| {
            let state: Option<TrackState> = states.remove(&id);
            let trimmed = state.as_ref().map_or(0, |state| state.trimmed);
            let outcome = state.and_then(|state| state.outcome);
            let group = groups.entry(key.group).or_insert(Group {
                tracks: Vec::new(),
                last: None,
                outcome: None,
            });
            // tracks come in the order they began: the last one counts
            group.outcome = outcome;
            group.tracks.push(Track {
                id,
                next: 0,
                last: 0,
                trimmed,
            });
        })?;
        let mut series = HashMap::new();
        let mut damaged = 0;
        columns::each(txn, |id, columns| match columns {
            Ok(columns) => drop(series.insert(id, columns)),
            Err(fault) => {
                damaged += 1;
                tracing::error!(%fault, "columns are damaged: samples with them are lost");
            }
        })?;
        Ok(Moving {
            samples,
            rows: txn.open_table(ROW.definition())?,
            chunks: txn.open_table(CHUNK.definition())?,
            series,
            groups,
            values: 0,
            damaged,
        })
    }

    fn all(&mut self) -> Result<(), Fault> {
        let (mut from, mut day) = (0, 0);
        while let Some(oldest) = self.oldest(from)? {
            if oldest / DAY_MS != day {
                day = oldest / DAY_MS;
                self.cut()?;
            }
            from = (oldest - oldest % WINDOW_MS).saturating_add(WINDOW_MS);
            self.window(from)?;
        }
        self.outcomes();
        self.cut()
    }

    /// The oldest row that is left, at `from` or later.
    fn oldest(&mut self, from: u64) -> Result<Option<u64>, Fault> {
        let mut groups = std::mem::take(&mut self.groups);
        let mut oldest = None;
        for track in groups.values_mut().flat_map(|group| &mut group.tracks) {
            if track.next < from {
                track.next = self.next_of(track.id, from)?;
            }
            if track.next < u64::MAX {
                oldest = Some(oldest.map_or(track.next, |oldest: u64| oldest.min(track.next)));
            }
        }
        self.groups = groups;
        Ok(oldest)
    }

    /// Nothing of the track that is at `from` or later is older than this.
    fn next_of(&self, id: u32, from: u64) -> Result<u64, Fault> {
        if self.chunk_around(id, from)?.is_some() {
            return Ok(from);
        }
        let chunk = first_at(&self.chunks, (id, from))?;
        let row = first_at(&self.rows, (id, from))?;
        Ok(chunk.into_iter().chain(row).min().unwrap_or(u64::MAX))
    }

    /// The beginning of the chunk that began before `at` and goes on beyond it,
    /// if there is one. (A damaged one was told of where it began.)
    fn chunk_around(&self, id: u32, at: u64) -> Result<Option<u64>, Fault> {
        let before = self.chunks.range((id, 0, 0)..(id, at, 0))?.next_back();
        let Some((_, first, _)) = before.transpose()?.map(|(key, _)| key.value()) else {
            return Ok(None);
        };
        let body = CHUNK.next(&self.chunks, (id, first))?;
        let body = body.and_then(|next| next.body.ok()).unwrap_or_default();
        let head = chunk::head(first, &body).map(|(head, _)| head);
        Ok(head.ok().filter(|head| head.last >= at).map(|_| first))
    }

    /// Moves all rows before `until`.
    fn window(&mut self, until: u64) -> Result<(), Fault> {
        let mut groups = std::mem::take(&mut self.groups);
        for (key, group) in &mut groups {
            let mut rows = Vec::new();
            for track in &mut group.tracks {
                if track.next < until {
                    let begin = rows.len();
                    self.read(track, until, &mut rows)?;
                    self.damaged += track.missing_before(&rows[begin..]);
                }
            }
            self.append(*key, merged(rows, &mut group.last));
            if self.values >= VALUES_PER_CUT {
                self.cut()?;
            }
        }
        self.groups = groups;
        Ok(())
    }

    /// The rows of a track from where it is until then.
    fn read(&mut self, track: &Track, until: u64, rows: &mut Vec<Row>) -> Result<(), Fault> {
        let range = track.next..until;
        let begin = self.chunk_around(track.id, range.start)?;
        let mut at = begin.unwrap_or(range.start);
        while let Some(next) = CHUNK.next(&self.chunks, (track.id, at))? {
            let (id, first) = next.key;
            if id != track.id || first >= until {
                break;
            }
            let read = next
                .body
                .and_then(|body| self.read_chunk(track.id, first, &body, &range));
            self.take(track.id, first, read, rows);
            at = first + 1;
        }
        at = range.start;
        while let Some(next) = ROW.next(&self.rows, (track.id, at))? {
            let (id, time) = next.key;
            if id != track.id || time >= until {
                break;
            }
            let read = next
                .body
                .and_then(|body| self.read_row(track.id, time, &body));
            self.take(track.id, time, read.map(|row| vec![row]), rows);
            at = time + 1;
        }
        Ok(())
    }

    fn take(&mut self, track: u32, at: u64, read: Result<Vec<Row>, Fault>, rows: &mut Vec<Row>) {
        match read {
            Ok(read) => rows.extend(read),
            Err(fault) => {
                self.damaged += 1;
                let at = Timestamp(at);
                tracing::error!(track, %at, %fault, "samples are damaged and lost");
            }
        }
    }

    fn read_row(&self, track: u32, at: u64, body: &[u8]) -> Result<Row, Fault> {
        let kept = row::decode(at, body).map_err(|_| garbled())?;
        Ok(Row {
            at,
            before: Some(kept.before),
            track,
            columns: self.columns(kept.columns, kept.values.len())?,
            values: kept.values,
            breaks: kept.breaks,
        })
    }

    fn read_chunk(
        &self,
        track: u32,
        first: u64,
        body: &[u8],
        range: &std::ops::Range<u64>,
    ) -> Result<Vec<Row>, Fault> {
        let (head, body) = chunk::head(first, body).map_err(|_| garbled())?;
        let opened = chunk::open(&head, body).map_err(|_| garbled())?;
        let mut rows = Vec::new();
        let mut starts = Vec::new();
        for span in &head.spans {
            starts.push(rows.len());
            let columns = self.columns(span.id, span.columns)?;
            for _ in 0..span.rows {
                let place = rows.len();
                rows.push(Row {
                    at: opened.times[place],
                    before: (place == 0).then_some(head.before),
                    track,
                    columns: columns.clone(),
                    values: Vec::with_capacity(span.columns),
                    breaks: opened.breaks[place].clone(),
                });
            }
        }
        opened
            .columns(&head, |span, _, values| {
                for (row, value) in rows[starts[span]..].iter_mut().zip(values) {
                    row.values.push(*value);
                }
            })
            .map_err(|_| garbled())?;
        rows.retain(|row| range.contains(&row.at));
        Ok(rows)
    }

    fn columns(&self, id: u32, width: usize) -> Result<Arc<Columns>, Fault> {
        let known = self.series.get(&id);
        let known = known.filter(|columns| columns.series().len() == width);
        let lost = || Fault::Damage(format!("the columns {id} are missing"));
        known.cloned().ok_or_else(lost)
    }

    fn append(&mut self, group: GroupKey, rows: Vec<Row>) {
        let Some(newest) = rows.last().map(|row| Timestamp(row.at)) else {
            return;
        };
        self.values += rows.iter().map(|row| row.values.len()).sum::<usize>();
        let rows: Vec<Append<'_>> = rows
            .iter()
            .map(|row| Append {
                group,
                at: Timestamp(row.at),
                columns: &row.columns,
                values: &row.values,
                breaks: &row.breaks,
                note: None,
            })
            .collect();
        let refused = self.samples.append(&rows, newest).refused;
        self.damaged += refused.len() as u64;
        if let Some((place, why)) = refused.first() {
            let (device, check, at) = (group.device, group.check.word(), rows[*place].at);
            tracing::error!(%device, check, %at, %why, rows = refused.len(), "samples are lost");
        }
    }

    /// How the latest asking of each group went.
    fn outcomes(&self) {
        let none = Arc::new(Columns::new(Vec::new()));
        for (key, group) in &self.groups {
            let Some(outcome) = &group.outcome else {
                continue;
            };
            let note = postcard::to_stdvec(outcome).expect("plain data in memory can be written");
            let append = Append {
                group: *key,
                at: outcome.at,
                columns: &none,
                values: &[],
                breaks: &Breaks::None,
                note: Some(&note),
            };
            // the cut that follows brings it to the disk
            let _ = self.samples.append(&[append], outcome.at);
        }
    }

    fn cut(&mut self) -> Result<(), Fault> {
        self.values = 0;
        self.samples.cut().map_err(|error| not_kept(&error))
    }
}

fn garbled() -> Fault {
    Fault::Damage("they are garbled".to_owned())
}

/// The first of a track's bodies at this instant or later.
fn first_at(
    table: &impl ReadableTable<PieceKey, &'static [u8]>,
    (id, at): (u32, u64),
) -> Result<Option<u64>, Fault> {
    let first = table.range((id, at, 0)..=(id, u64::MAX, u16::MAX))?.next();
    Ok(first.transpose()?.map(|(key, _)| key.value().1))
}

/// Rows of several tracks by time: of two at one instant the later track's
/// stays, and where tracks change over, counters break.
fn merged(mut rows: Vec<Row>, last: &mut Option<u32>) -> Vec<Row> {
    rows.sort_by_key(|row| (row.at, std::cmp::Reverse(row.track)));
    rows.dedup_by_key(|row| row.at);
    for row in &mut rows {
        if last.is_some_and(|last| last != row.track) {
            row.breaks = Breaks::All;
        }
        *last = Some(row.track);
    }
    rows
}
