//! The writer's side of the samples: where each track stands, and how a report
//! becomes rows and chunks in a transaction.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use model::{Facts, GroupKey, Outcome, PollRow, Reading, Timestamp};
use redb::{ReadTransaction, ReadableTable, Table, WriteTransaction};

use super::chunk::{self, Scratch};
use super::columns::Registry;
use super::pieces::{CHUNK, PieceKey, ROW, SERIES, Writing};
use super::row::{self, KeptRow};
use crate::error::Fault;
use crate::tables::{self, Totals, TrackKey, TrackState};

/// Newest rows of a track that stay out of chunks, so that a start finds them
/// by their keys.
const KEPT_ROWS: usize = 2;

/// Tracks of one device and check. A new one begins when the clock is set
/// back; a clock that does so more often than this within the time that
/// samples are kept is broken, and history waits until old tracks age out.
pub(crate) const MAX_TRACKS: u32 = 256;

/// A report as the writer passes it on: columns interned, facts only if new.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) group: GroupKey,
    pub(crate) outcome: Outcome,
    pub(crate) row: Option<PollRow>,
    pub(crate) facts: Option<Arc<Facts>>,
    /// A transaction with it failed, perhaps only after it was on the disk.
    pub(crate) doubtful: bool,
}

/// How far a track is: [`TrackState`] without the outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    newest: u64,
    run: u32,
    trimmed: u64,
}

struct Track {
    group: GroupKey,
    position: Position,
}

/// All tracks.
#[derive(Default)]
pub(crate) struct Tracks {
    tracks: BTreeMap<u32, Track>,
    /// The track that a group's next row goes to, and how many it has.
    current: HashMap<GroupKey, (u32, u32)>,
    totals: Totals,
    undo: Undo,
    scratch: Scratch,
    body: Vec<u8>,
    /// Rows that were not kept because the clock was set back too often.
    pub(crate) refused: u64,
    /// Damaged rows that were met while making chunks.
    pub(crate) damaged: u64,
}

/// What to put back if the transaction does not get to the disk.
#[derive(Default)]
struct Undo {
    totals: Totals,
    positions: Vec<(u32, Option<Position>)>,
    current: Vec<(GroupKey, Option<(u32, u32)>)>,
    removed: Vec<(u32, Track)>,
}

/// How far the removal of old samples is.
pub(crate) struct Swept {
    /// The track to go on after; 0: all have been looked at.
    pub(crate) cursor: u32,
    /// Nothing in the tracks that were looked at was older.
    pub(crate) oldest: Timestamp,
}

struct Open<'t> {
    row: Writing<'t>,
    chunk: Writing<'t>,
    state: Table<'t, u32, &'static [u8]>,
}

impl Tracks {
    /// Reads where each track stands, and how the latest asking of each group
    /// went.
    pub(crate) fn load(
        txn: &ReadTransaction,
    ) -> Result<(Tracks, HashMap<GroupKey, Option<Outcome>>), Fault> {
        let mut tracks = Tracks::default();
        tables::TRACK.load(txn, |id, key| {
            tracks.add(id, key.group, Position::default());
        })?;
        let mut outcomes = HashMap::new();
        let mut stated = 0;
        tables::STATE.load(txn, |id, state| {
            let Some(track) = tracks.tracks.get_mut(&id) else {
                return;
            };
            stated += 1;
            track.position = Position {
                newest: state.newest,
                run: state.run,
                trimmed: state.trimmed,
            };
            // tracks come in the order they began: the last one counts
            outcomes.insert(track.group, state.outcome);
        })?;
        let states =
            redb::ReadableTableMetadata::len(&txn.open_table(tables::STATE.definition())?)?;
        if stated != tracks.tracks.len() || stated as u64 != states {
            let what = "the tables track and state do not belong together";
            return Err(Fault::Damage(what.to_owned()));
        }
        tracks.totals = tables::TOTALS.get(txn, 0)?.unwrap_or_default();
        tracks.undo.totals = tracks.totals;
        Ok((tracks, outcomes))
    }

    /// Each group's newest two rows. A damaged row is logged and left out: the
    /// others matter more.
    pub(crate) fn newest(
        &mut self,
        txn: &ReadTransaction,
        registry: &mut Registry,
    ) -> Result<HashMap<GroupKey, Reading>, Fault> {
        let rows = txn.open_table(ROW.definition())?;
        let series = txn.open_table(SERIES.definition())?;
        let mut readings = HashMap::new();
        for (group, (id, _)) in &self.current {
            let position = self.tracks[id].position;
            match newest_rows(&rows, &series, registry, (*group, *id), position) {
                Ok(reading) => readings.extend(reading.map(|reading| (*group, reading))),
                Err(fault) => {
                    self.damaged += 1;
                    let (device, check) = (group.device, group.check.word());
                    tracing::error!(%device, check, %fault, "the newest samples are damaged");
                }
            }
        }
        Ok(readings)
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// The tracks of each group, in the order they began.
    pub(crate) fn by_group(&self) -> HashMap<GroupKey, Vec<u32>> {
        let mut groups: HashMap<GroupKey, Vec<u32>> = HashMap::new();
        for (id, track) in &self.tracks {
            groups.entry(track.group).or_default().push(*id);
        }
        groups
    }

    /// Whether the open transaction brings new tracks or removes some.
    pub(crate) fn tracks_change(&self) -> bool {
        !self.undo.current.is_empty()
    }

    fn add(&mut self, id: u32, group: GroupKey, position: Position) {
        self.tracks.insert(id, Track { group, position });
        let (current, count) = self.current.entry(group).or_insert((id, 0));
        *current = id.max(*current);
        *count += 1;
    }

    /// Writes what `reports` bring. After it, [`Tracks::committed`] or
    /// [`Tracks::rolled_back`] has to be called.
    pub(crate) fn write_all(
        &mut self,
        txn: &WriteTransaction,
        registry: &Mutex<Registry>,
        reports: &[Ready],
    ) -> Result<(), Fault> {
        if reports.is_empty() {
            return Ok(());
        }
        let mut open = Open {
            row: txn.open_table(ROW.definition())?,
            chunk: txn.open_table(CHUNK.definition())?,
            state: txn.open_table(tables::STATE.definition())?,
        };
        let mut touched: BTreeMap<u32, &Outcome> = BTreeMap::new();
        for report in reports {
            let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
            let id = self.write(txn, &mut open, &mut registry, report)?;
            touched.insert(id, &report.outcome);
            if let Some(facts) = &report.facts {
                tables::FACTS.put(txn, report.group.device.0, facts)?;
            }
        }
        for (id, outcome) in touched {
            let position = self.tracks[&id].position;
            put_state(&mut open.state, id, position, Some(outcome.clone()))?;
        }
        tables::TOTALS.put(txn, 0, &self.totals)
    }

    /// Gives the track that the report went to.
    fn write(
        &mut self,
        txn: &WriteTransaction,
        open: &mut Open<'_>,
        registry: &mut Registry,
        report: &Ready,
    ) -> Result<u32, Fault> {
        if let Some(id) = self.already_there(open, report)? {
            return Ok(id);
        }
        let id = self.track_for(txn, report)?;
        let Some(row) = &report.row else {
            return Ok(id);
        };
        let at = row.at.0.max(1);
        let mut position = self.tracks[&id].position;
        if at <= position.newest {
            self.refused += 1;
            return Ok(id);
        }
        let columns = registry.number(txn, &row.columns, row.at)?;
        if position.run as usize >= run_limit(id, row.values.len()) {
            position.run = self.make_chunks(open, id)?;
        }
        self.body.clear();
        let times = (at, position.newest);
        row::encode(&mut self.body, times, columns, &row.breaks, &row.values);
        ROW.put(&mut open.row, (id, at), &self.body)?;
        position.newest = at;
        position.run += 1;
        self.totals.rows += 1;
        self.totals.samples += row.values.len() as u64;
        self.set(id, position);
        Ok(id)
    }

    /// The track that has the row of a doubtful report, if one does.
    fn already_there(&self, open: &Open<'_>, report: &Ready) -> Result<Option<u32>, Fault> {
        let (true, Some(row)) = (report.doubtful, &report.row) else {
            return Ok(None);
        };
        let own = self
            .tracks
            .iter()
            .filter(|(_, track)| track.group == report.group);
        for (id, _) in own {
            if open.row.get((*id, row.at.0.max(1), 0))?.is_some() {
                return Ok(Some(*id));
            }
        }
        Ok(None)
    }

    /// The track for a report: the group's current one, or a new one if there
    /// is none or if the clock was set back.
    fn track_for(&mut self, txn: &WriteTransaction, report: &Ready) -> Result<u32, Fault> {
        let group = report.group;
        let known = self.current.get(&group).copied();
        if let Some((id, count)) = known {
            let newest = self.tracks[&id].position.newest;
            let goes_on = report.row.as_ref().is_none_or(|row| row.at.0 > newest);
            if goes_on || count >= MAX_TRACKS {
                return Ok(id);
            }
            let device = group.device;
            tracing::info!(%device, check = group.check.word(), "the clock was set back: history goes on in a new track");
        }
        let highest = self.tracks.last_key_value().map_or(0, |(id, _)| *id);
        let id = highest + 1;
        tables::TRACK.put(txn, id, &TrackKey { group })?;
        self.undo.current.push((group, known));
        self.undo.positions.push((id, None));
        self.add(id, group, Position::default());
        Ok(id)
    }

    fn set(&mut self, id: u32, position: Position) {
        if let Some(track) = self.tracks.get_mut(&id) {
            self.undo.positions.push((id, Some(track.position)));
            track.position = position;
        }
    }

    /// Moves all rows of a track but the newest into chunks; gives how many
    /// stay.
    fn make_chunks(&mut self, open: &mut Open<'_>, id: u32) -> Result<u32, Fault> {
        let mut found = Vec::new();
        ROW.scan(&open.row, id, 0..=u64::MAX, |at, body| {
            found.push((at, body.and_then(|body| read_row(at, &body))));
            true
        })?;
        let stay = found.len().min(KEPT_ROWS);
        found.truncate(found.len() - stay);
        let times: Vec<u64> = found.iter().map(|(at, _)| *at).collect();
        let group = self.tracks[&id].group;
        let rows: Vec<KeptRow> = found
            .into_iter()
            .filter_map(|(at, row)| {
                row.map_err(|fault| self.report_damage(group, at, &fault))
                    .ok()
            })
            .collect();
        // a row that is gone must stay a gap between two chunks
        for run in rows.chunk_by(|a, b| b.before == a.at) {
            for part in run.chunks(chunk::CHUNK_ROWS) {
                self.put_chunk(&mut open.chunk, id, part)?;
            }
        }
        for at in times {
            ROW.remove(&mut open.row, (id, at))?;
        }
        Ok(u32::try_from(stay).expect("it is at most KEPT_ROWS"))
    }

    fn put_chunk(
        &mut self,
        table: &mut Writing<'_>,
        id: u32,
        rows: &[KeptRow],
    ) -> Result<(), Fault> {
        let body = chunk::encode(rows, &mut self.scratch);
        let bytes = CHUNK.put(table, (id, rows[0].at), &body)?;
        self.totals.chunks += 1;
        self.totals.chunk_bytes += bytes;
        let samples: usize = rows.iter().map(|row| row.values.len()).sum();
        self.totals.chunk_samples += samples as u64;
        Ok(())
    }

    fn report_damage(&mut self, group: GroupKey, at: u64, fault: &Fault) {
        self.damaged += 1;
        let (device, check, at) = (group.device, group.check.word(), Timestamp(at));
        tracing::error!(%device, check, %at, %fault, "a row of samples is damaged and lost");
    }

    /// Takes away what is older than `cutoff` from the tracks after `cursor`:
    /// looks at `look` of them, and removes one chunk of each at most.
    ///
    /// The pace is bounded so that a clock that is wrong for a minute cannot
    /// remove the history of years.
    pub(crate) fn forget_old(
        &mut self,
        txn: &WriteTransaction,
        cursor: u32,
        look: usize,
        cutoff: Timestamp,
    ) -> Result<Swept, Fault> {
        let ids = self.tracks.range(cursor.saturating_add(1)..);
        let ids: Vec<u32> = ids.map(|(id, _)| *id).take(look).collect();
        let mut oldest = u64::MAX;
        for id in &ids {
            oldest = oldest.min(self.forget_of_track(txn, *id, cutoff)?);
        }
        if !ids.is_empty() {
            tables::TOTALS.put(txn, 0, &self.totals)?;
        }
        let at_the_end = ids.len() < look;
        let last = ids.last().copied().unwrap_or(0);
        Ok(Swept {
            cursor: if at_the_end { 0 } else { last },
            oldest: Timestamp(oldest),
        })
    }

    /// Gives a time that nothing in the track was older than.
    fn forget_of_track(
        &mut self,
        txn: &WriteTransaction,
        id: u32,
        cutoff: Timestamp,
    ) -> Result<u64, Fault> {
        let mut chunks = txn.open_table(CHUNK.definition())?;
        if let Some((first, body)) = oldest_chunk(&chunks, id)? {
            let head = chunk::head(first, &body).map(|(head, _)| head).ok();
            let last = head.as_ref().map_or(first, |head| head.last);
            if last < cutoff.0 {
                let bytes = CHUNK.remove(&mut chunks, (id, first))?;
                self.uncount_chunk(head.as_ref(), bytes);
                let mut position = self.tracks[&id].position;
                position.trimmed = position.trimmed.max(last);
                self.set_on_disk(txn, id, position)?;
            }
            return Ok(first);
        }
        drop(chunks);
        let position = self.tracks[&id].position;
        let oldest = oldest_row(txn, id)?.unwrap_or(u64::MAX);
        if position.newest != 0 && position.newest < cutoff.0 {
            self.forget_whole_track(txn, id, position)?;
        }
        Ok(oldest)
    }

    fn set_on_disk(
        &mut self,
        txn: &WriteTransaction,
        id: u32,
        position: Position,
    ) -> Result<(), Fault> {
        self.set(id, position);
        let outcome = tables::STATE
            .get_in(txn, id)?
            .and_then(|state| state.outcome);
        let mut state = txn.open_table(tables::STATE.definition())?;
        put_state(&mut state, id, position, outcome)
    }

    fn uncount_chunk(&mut self, head: Option<&chunk::Head>, bytes: u64) {
        let (rows, samples) = head.map_or((0, 0), |head| (head.rows as u64, head.samples()));
        self.uncount(rows, samples);
        let totals = &mut self.totals;
        totals.chunks = totals.chunks.saturating_sub(1);
        totals.chunk_bytes = totals.chunk_bytes.saturating_sub(bytes);
        totals.chunk_samples = totals.chunk_samples.saturating_sub(samples);
    }

    /// Nothing but rows is left of this track, and they are too old.
    fn forget_whole_track(
        &mut self,
        txn: &WriteTransaction,
        id: u32,
        mut position: Position,
    ) -> Result<(), Fault> {
        let mut rows = txn.open_table(ROW.definition())?;
        let mut found = Vec::new();
        ROW.scan(&rows, id, 0..=u64::MAX, |at, body| {
            let row = body.and_then(|body| read_row(at, &body));
            found.push((at, row.map_or(0, |row| row.values.len() as u64)));
            true
        })?;
        for (at, samples) in found {
            ROW.remove(&mut rows, (id, at))?;
            self.uncount(1, samples);
        }
        let group = self.tracks[&id].group;
        let known = self.current.get(&group).copied();
        if known.is_some_and(|(current, _)| current != id) {
            return self.remove_track(txn, id, group);
        }
        position.trimmed = position.newest;
        position.newest = 0;
        position.run = 0;
        self.set(id, position);
        let outcome = tables::STATE
            .get_in(txn, id)?
            .and_then(|state| state.outcome);
        let mut state = txn.open_table(tables::STATE.definition())?;
        put_state(&mut state, id, position, outcome)
    }

    fn remove_track(
        &mut self,
        txn: &WriteTransaction,
        id: u32,
        group: GroupKey,
    ) -> Result<(), Fault> {
        tables::TRACK.remove(txn, id)?;
        tables::STATE.remove(txn, id)?;
        let known = self.current.get(&group).copied();
        self.undo.current.push((group, known));
        if let Some((_, count)) = self.current.get_mut(&group) {
            *count = count.saturating_sub(1);
        }
        if let Some(track) = self.tracks.remove(&id) {
            self.undo.removed.push((id, track));
        }
        Ok(())
    }

    fn uncount(&mut self, rows: u64, samples: u64) {
        self.totals.rows = self.totals.rows.saturating_sub(rows);
        self.totals.samples = self.totals.samples.saturating_sub(samples);
    }

    /// The transaction is on the disk.
    pub(crate) fn committed(&mut self) {
        self.undo = Undo {
            totals: self.totals,
            ..Undo::default()
        };
    }

    /// The transaction is not on the disk: everything is as before it.
    pub(crate) fn rolled_back(&mut self) {
        let undo = std::mem::take(&mut self.undo);
        self.totals = undo.totals;
        self.undo.totals = undo.totals;
        self.tracks.extend(undo.removed);
        for (id, position) in undo.positions.into_iter().rev() {
            match (position, self.tracks.get_mut(&id)) {
                (Some(position), Some(track)) => track.position = position,
                (None, _) => drop(self.tracks.remove(&id)),
                (Some(_), None) => {}
            }
        }
        for (group, current) in undo.current.into_iter().rev() {
            match current {
                Some(current) => drop(self.current.insert(group, current)),
                None => drop(self.current.remove(&group)),
            }
        }
    }
}

/// Rows of a track that make it due for a chunk. Tracks differ, so that they
/// do not all come due in one second.
fn run_limit(id: u32, columns: usize) -> usize {
    let rows = chunk::rows_for(columns);
    rows - (id as usize * 7) % (rows / 3).max(1) + KEPT_ROWS
}

fn put_state(
    table: &mut Table<'_, u32, &'static [u8]>,
    id: u32,
    position: Position,
    outcome: Option<Outcome>,
) -> Result<(), Fault> {
    let state = TrackState {
        newest: position.newest,
        run: position.run,
        trimmed: position.trimmed,
        outcome,
    };
    table.insert(id, tables::STATE.seal(&id, &state).as_slice())?;
    Ok(())
}

fn oldest_chunk(table: &Writing<'_>, id: u32) -> Result<Option<(u64, Vec<u8>)>, Fault> {
    let first = table.range((id, 0, 0)..=(id, u64::MAX, u16::MAX))?.next();
    let Some(first) = first.transpose()?.map(|(key, _)| key.value().1) else {
        return Ok(None);
    };
    // damaged: it goes when it is old, like the others
    let body = CHUNK.get(table, (id, first)).ok().flatten();
    Ok(Some((first, body.unwrap_or_default())))
}

fn oldest_row(txn: &WriteTransaction, id: u32) -> Result<Option<u64>, Fault> {
    let rows = txn.open_table(ROW.definition())?;
    let first = rows.range((id, 0, 0)..=(id, u64::MAX, u16::MAX))?.next();
    Ok(first.transpose()?.map(|(key, _)| key.value().1))
}

pub(crate) fn read_row(at: u64, body: &[u8]) -> Result<KeptRow, Fault> {
    row::decode(at, body).map_err(|_| Fault::Damage("the row is garbled".to_owned()))
}

/// The newest row of a track and the one before it.
fn newest_rows(
    rows: &impl ReadableTable<PieceKey, &'static [u8]>,
    series: &impl ReadableTable<PieceKey, &'static [u8]>,
    registry: &mut Registry,
    (group, id): (GroupKey, u32),
    position: Position,
) -> Result<Option<Reading>, Fault> {
    if position.newest == 0 {
        return Ok(None);
    }
    let mut get = |at: u64| {
        let body = ROW.get(rows, (id, at))?;
        let lost = || Fault::Damage(format!("the row of {} is missing", Timestamp(at)));
        let row = read_row(at, &body.ok_or_else(lost)?)?;
        let columns = registry.get(series, row.columns)?;
        if columns.series().len() != row.values.len() {
            return Err(Fault::Damage("the row does not fit its columns".to_owned()));
        }
        let poll = PollRow {
            group,
            at: Timestamp(at),
            columns,
            values: row.values.into(),
            breaks: row.breaks,
        };
        Ok((poll, row.before))
    };
    let (row, before) = get(position.newest)?;
    let is_kept = before != 0 && before > position.trimmed;
    let previous = if is_kept { Some(get(before)?.0) } else { None };
    Ok(Some(reading(row, previous.as_ref())))
}

/// `row` beside the values of the one before, in its own columns.
pub(crate) fn reading(row: PollRow, previous: Option<&PollRow>) -> Reading {
    let previous = previous.map(|before| (before.at, in_columns_of(&row, before)));
    Reading { row, previous }
}

fn in_columns_of(row: &PollRow, before: &PollRow) -> Arc<[f64]> {
    if Arc::ptr_eq(&row.columns, &before.columns) {
        return before.values.clone();
    }
    let had = before.columns.series().iter().zip(before.values.iter());
    let had: HashMap<_, f64> = had.map(|(key, value)| (key, *value)).collect();
    let own = row.columns.series().iter();
    own.map(|key| had.get(key).copied().unwrap_or(f64::NAN))
        .collect()
}
