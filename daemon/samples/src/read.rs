//! Reading: rows of segments, of what is frozen and of the head as one.
//!
//! A reader takes a view of everything in one moment; whatever is cut,
//! compacted or unlinked afterwards, its view stays as it is.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use codec::Scratch;
use model::{Breaks, Columns, GroupKey, PollRow, SeriesKey, Timestamp};
use segment::{Entry, Segment, Tier};

use crate::engine::Inner;
use crate::files::chain;
use crate::head::{Frozen, Group};
use crate::lock::{self, lock};
use crate::query::{Missing, Point, QueryError, Select, Selected, SelectedSeries};
use crate::registry::Meant;
use crate::rows::{ClosedRows, Part, Piece, Run, Wanted, merge};
use crate::shelf::{Content, Listed, Shelf};

/// Below this many groups a second thread costs more than it gives.
const FEW_GROUPS: usize = 4;

/// Everything at one moment, of the groups that are asked for.
pub(crate) struct View {
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) frozen: Vec<Arc<Frozen>>,
    /// By key.
    pub(crate) groups: Vec<ViewGroup>,
}

/// A group's rows in the head.
pub(crate) struct ViewGroup {
    pub(crate) key: GroupKey,
    pub(crate) number: u32,
    pub(crate) head: Vec<Held>,
}

/// Rows of the head as a reader takes them along.
pub(crate) enum Held {
    Closed(ClosedRows),
    /// Open rows, as they change: the wanted columns of them.
    Open(Part),
}

impl Inner {
    /// A view of some groups, with their rows in `range`.
    pub(crate) fn view(
        &self,
        meant: &Meant,
        groups: &dyn Fn(GroupKey) -> bool,
        range: &Range<u64>,
    ) -> View {
        let head = lock(&self.head);
        let asked = head.groups.iter().filter(|(key, _)| groups(**key));
        let mut view = View {
            shelf: Arc::clone(&head.shelf),
            frozen: head.frozen.clone(),
            groups: asked
                .map(|(key, group)| ViewGroup {
                    key: *key,
                    number: group.number,
                    head: held(group, meant, range),
                })
                .collect(),
        };
        drop(head);
        view.groups.sort_unstable_by_key(|group| group.key);
        view
    }

    pub(crate) fn select(&self, ask: &Select<'_>) -> Result<Selected, QueryError> {
        let meant = lock::read(&self.registry).meant(ask.selector);
        let range = ask.from.0..ask.until.0;
        let view = self.view(&meant, ask.groups, &range);
        let limits = Limits::new(ask.max_series, ask.max_points);
        let reading = Reading::new(&view, &meant, range.clone());
        let read =
            |group: &ViewGroup, reader: &mut Reader| select_group(&reading, group, reader, &limits);
        let (mut found, missing) = self.in_two(&view.groups, &read)?;
        let mut selected = Selected {
            series: found.drain(..).flatten().collect(),
            missing: reading.lost(),
        };
        selected.missing.extend(missing);
        Ok(selected)
    }

    /// Reads groups, many of them with two threads; the answers by group.
    pub(crate) fn in_two<T: Send>(
        &self,
        groups: &[ViewGroup],
        read: &(dyn Fn(&ViewGroup, &mut Reader) -> Result<T, QueryError> + Sync),
    ) -> Result<(Vec<T>, Vec<Missing>), QueryError> {
        let half = |groups: &[ViewGroup]| {
            let mut reader = Reader::default();
            let found: Result<Vec<T>, QueryError> = groups
                .iter()
                .map(|group| read(group, &mut reader))
                .collect();
            (found, reader)
        };
        let middle = match groups.len() {
            0..FEW_GROUPS => groups.len(),
            many => many / 2,
        };
        let (first, second) = groups.split_at(middle);
        let ((found, mut reader), others) = match second.is_empty() {
            true => (half(first), None),
            false => std::thread::scope(|scope| {
                let other = scope.spawn(|| half(second));
                let found = half(first);
                match other.join() {
                    Ok(others) => (found, Some(others)),
                    Err(panic) => std::panic::resume_unwind(panic), // never half an answer
                }
            }),
        };
        let mut found = found?;
        if let Some((more, other)) = others {
            found.extend(more?);
            reader.missing.extend(other.missing);
            reader.damaged += other.damaged;
        }
        self.count_damaged(reader.damaged);
        Ok((found, reader.missing))
    }

    /// The newest two rows of every group.
    pub(crate) fn newest(&self) -> Vec<(GroupKey, Vec<u8>, Vec<PollRow>)> {
        let (shelf, frozen, groups) = {
            let head = lock(&self.head);
            let groups = head.groups.iter().map(|(key, group)| {
                let mut pieces = group.closed.clone();
                pieces.push(Piece::Open(group.open.clone()));
                (*key, group.number, group.note.to_vec(), pieces)
            });
            let groups: Vec<_> = groups.collect();
            (Arc::clone(&head.shelf), head.frozen.clone(), groups)
        };
        let mut reader = Reader::default();
        let mut newest = Vec::new();
        for (key, number, note, pieces) in groups {
            let frozen = frozen.iter().flat_map(|frozen| frozen.of(number));
            let pieces: Vec<&Piece> = frozen.chain(&pieces).collect();
            let rows = reader.newest_two(&shelf, number, &pieces, u64::MAX);
            let row = |row| self.poll_row(key, row);
            newest.push((key, note, rows.into_iter().filter_map(row).collect()));
        }
        self.count_damaged(reader.damaged);
        newest
    }

    fn poll_row(&self, group: GroupKey, row: WholeRow) -> Option<PollRow> {
        let columns = lock::read(&self.registry).get(row.columns).cloned()?;
        Some(PollRow {
            group,
            at: Timestamp(row.at),
            columns,
            values: Arc::from(row.values),
            breaks: row.breaks,
        })
    }

    /// A group's last row in segments before some instant; `None` too if a
    /// newer one may lie in what cannot be read.
    pub(crate) fn last_before(
        &self,
        shelf: &Shelf,
        group: u32,
        before: u64,
    ) -> Option<(u64, Arc<Columns>, Vec<f64>)> {
        let mut reader = Reader::default();
        let rows = reader.newest_two(shelf, group, &[], before);
        let row = rows.into_iter().next()?;
        let mut segments = shelf.of(Tier::Raw);
        let is_lost =
            segments.any(|listed| listed.segment().is_none() && listed.overlaps(row.at, before));
        let mut missing = reader.missing.iter();
        if is_lost || missing.any(|missing| missing.until.0 >= row.at) {
            return None;
        }
        let columns = lock::read(&self.registry).get(row.columns).cloned()?;
        Some((row.at, columns, row.values))
    }
}

/// A group's rows in the head.
fn held(group: &Group, meant: &Meant, range: &Range<u64>) -> Vec<Held> {
    let within = group.closed.iter().filter(|piece| piece.overlaps(range));
    let closed = within.filter_map(|piece| match piece {
        Piece::Closed(closed) => Some(Held::Closed(closed.clone())),
        Piece::Open(_) => None,
    });
    let mut held: Vec<Held> = closed.collect();
    if group.open.overlaps(range) {
        let wanted = wanted(meant, group.open.columns);
        held.push(Held::Open(group.open.part(wanted)));
    }
    held
}

/// Which columns of a set a selector means.
fn wanted(meant: &Meant, columns: u32) -> Wanted<'_> {
    let set = meant.sets.get(&columns);
    Wanted::Places(set.map_or(&[], |set| &*set.places))
}

/// How much may be found.
pub(crate) struct Limits {
    max_series: usize,
    max_points: usize,
    series: AtomicUsize,
    points: AtomicUsize,
}

impl Limits {
    pub(crate) fn new(max_series: usize, max_points: usize) -> Limits {
        Limits {
            max_series,
            max_points,
            series: AtomicUsize::new(0),
            points: AtomicUsize::new(0),
        }
    }

    pub(crate) fn add_series(&self, more: usize) -> Result<(), QueryError> {
        let limit = self.max_series;
        match self.series.fetch_add(more, Ordering::Relaxed) + more > limit {
            true => Err(QueryError::TooManySeries { limit }),
            false => Ok(()),
        }
    }

    pub(crate) fn add_points(&self, more: usize) -> Result<(), QueryError> {
        let limit = self.max_points;
        match self.points.fetch_add(more, Ordering::Relaxed) + more > limit {
            true => Err(QueryError::TooManyPoints { limit }),
            false => Ok(()),
        }
    }

    pub(crate) fn series(&self) -> usize {
        self.series.load(Ordering::Relaxed)
    }
}

/// What is read of every group.
pub(crate) struct Reading<'a> {
    pub(crate) view: &'a View,
    pub(crate) meant: &'a Meant,
    pub(crate) range: Range<u64>,
    /// The raw segments that overlap the range.
    pub(crate) raw: Vec<Arc<Listed>>,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(view: &'a View, meant: &'a Meant, range: Range<u64>) -> Reading<'a> {
        let raw = view.shelf.of(Tier::Raw);
        let raw = raw.filter(|listed| listed.overlaps(range.start, range.end));
        Reading {
            raw: raw.cloned().collect(),
            view,
            meant,
            range,
        }
    }

    /// Which segments cannot be read.
    pub(crate) fn lost(&self) -> Vec<Missing> {
        lost(&self.raw, &self.range)
    }

    /// A group's raw rows in the order in which they were stored, none decoded;
    /// empty if nothing of it is meant.
    fn stored<'b>(&'b self, group: &'b ViewGroup) -> Vec<Stored<'b>> {
        let range = &self.range;
        let mut stored: Vec<Stored<'b>> = Vec::new();
        for segment in self.raw.iter().filter_map(|listed| listed.segment()) {
            let entries = segment.of(group.number).iter();
            stored.extend(entries.map(|entry| Stored::Entry(segment, entry)));
        }
        let frozen = self.view.frozen.iter();
        let frozen = frozen.flat_map(|frozen| frozen.of(group.number));
        stored.extend(frozen.map(Stored::Piece));
        stored.extend(group.head.iter().map(Stored::Held));
        stored.retain(|one| one.overlaps(range) && one.columns() < self.meant.below);
        let is_meant = |one: &Stored<'_>| self.meant.sets.contains_key(&one.columns());
        match stored.iter().any(is_meant) {
            true => stored,
            false => Vec::new(),
        }
    }

    /// Pieces of the range, one behind the other, in each of which a group has
    /// about [`VALUES_AT_ONCE`] values or fewer. They begin where blocks do.
    fn windows(&self, stored: &[Stored<'_>]) -> Vec<Range<u64>> {
        let sets: HashSet<u32> = stored.iter().map(Stored::columns).collect();
        let places = |set: &u32| self.meant.sets.get(set).map_or(0, |set| set.places.len());
        let width = 1 + sets.iter().map(places).sum::<usize>();
        let mut begins: Vec<(u64, usize)> = stored
            .iter()
            .map(|one| (one.span().0.max(self.range.start), one.rows()))
            .collect();
        begins.sort_unstable();
        let mut windows = Vec::new();
        let (mut from, mut values) = (self.range.start, 0);
        for (begin, rows) in begins {
            let more = rows.saturating_mul(width);
            if begin > from && values > 0 && values + more > VALUES_AT_ONCE {
                windows.push(from..begin);
                (from, values) = (begin, 0);
            }
            values += more;
        }
        windows.push(from..self.range.end);
        windows
    }

    /// A group's raw rows, each series by itself, in pieces of time that take
    /// little memory. A series has the same place in each piece.
    pub(crate) fn gather(
        &self,
        group: &ViewGroup,
        reader: &mut Reader,
        each: &mut dyn FnMut(&Gathered) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let stored = self.stored(group);
        let mut gathered = Gathered::default();
        let mut slots = Slots::default();
        let mut last = None;
        for window in self.windows(&stored) {
            let mut places = Vec::new();
            let mut parts = Vec::new();
            for (place, one) in stored.iter().enumerate() {
                if one.overlaps(&window)
                    && let Some(part) = one.part(reader, wanted(self.meant, one.columns()))
                {
                    places.push(place);
                    parts.push(part);
                }
            }
            let mut runs = merge(&parts, &window);
            if let (Some(run), Some(last)) = (runs.first_mut(), last) {
                run.breaks |= last > places[run.part];
            }
            last = runs.last().map(|run| places[run.part]).or(last);
            gathered.take(&parts, &runs, self.meant, &mut slots);
            each(&gathered)?;
        }
        Ok(())
    }
}

/// So many values of a group are decoded at once.
const VALUES_AT_ONCE: usize = if cfg!(test) { 3_000 } else { 4_000_000 };

/// Rows of a group that were stored together.
enum Stored<'a> {
    Entry(&'a Segment, &'a Entry),
    Piece(&'a Piece),
    Held(&'a Held),
}

impl Stored<'_> {
    fn columns(&self) -> u32 {
        match self {
            Stored::Entry(_, entry) => entry.columns,
            Stored::Piece(piece) => piece.columns(),
            Stored::Held(held) => held.columns(),
        }
    }

    fn rows(&self) -> usize {
        match self {
            Stored::Entry(_, entry) => entry.rows as usize,
            Stored::Piece(piece) => piece.rows(),
            Stored::Held(Held::Closed(closed)) => closed.rows,
            Stored::Held(Held::Open(part)) => part.times.len(),
        }
    }

    fn span(&self) -> (u64, u64) {
        match self {
            Stored::Entry(_, entry) => (entry.from, entry.until),
            Stored::Piece(piece) => piece.span(),
            Stored::Held(held) => held.span(),
        }
    }

    fn overlaps(&self, range: &Range<u64>) -> bool {
        let (from, until) = self.span();
        from < range.end && until >= range.start
    }

    fn part(&self, reader: &mut Reader, wanted: Wanted<'_>) -> Option<Part> {
        match self {
            Stored::Entry(segment, entry) => reader.entry(segment, entry, wanted),
            Stored::Piece(piece) => {
                let part = piece.part(wanted, &mut reader.scratch);
                reader.in_memory(part, piece.span())
            }
            Stored::Held(Held::Open(part)) => Some(part.clone()),
            Stored::Held(Held::Closed(closed)) => {
                let part = Part::of_block(&closed.bytes, wanted, &mut reader.scratch);
                reader.in_memory(part, (closed.from, closed.until))
            }
        }
    }
}

impl Held {
    /// The first row's time and the last one's.
    pub(crate) fn span(&self) -> (u64, u64) {
        match self {
            Held::Closed(closed) => (closed.from, closed.until),
            Held::Open(part) => {
                let first = part.times.first().copied().unwrap_or(u64::MAX);
                (first, part.times.last().copied().unwrap_or(0))
            }
        }
    }

    pub(crate) fn columns(&self) -> u32 {
        match self {
            Held::Closed(closed) => closed.columns,
            Held::Open(part) => part.columns,
        }
    }
}

/// What of some segments cannot be had in `range`.
pub(crate) fn lost(segments: &[Arc<Listed>], range: &Range<u64>) -> Vec<Missing> {
    let why = |listed: &Arc<Listed>| match &listed.content {
        Content::Lost(why) => Some(Missing {
            from: Timestamp(listed.row.summary.from.max(range.start)),
            until: Timestamp(listed.last().min(range.end.saturating_sub(1))),
            why: why.clone(),
        }),
        Content::Open(_) => None,
    };
    segments.iter().filter_map(why).collect()
}

/// What one thread needs to read.
#[derive(Default)]
pub(crate) struct Reader {
    pub(crate) scratch: Scratch,
    bytes: Vec<u8>,
    pub(crate) missing: Vec<Missing>,
    pub(crate) damaged: u64,
}

/// A row with all of its values.
struct WholeRow {
    at: u64,
    columns: u32,
    values: Vec<f64>,
    breaks: Breaks,
}

impl Reader {
    /// Reads a block; what cannot be read is noted as missing.
    pub(crate) fn entry(
        &mut self,
        segment: &Segment,
        entry: &Entry,
        wanted: Wanted<'_>,
    ) -> Option<Part> {
        let read = segment.read(entry, &mut self.bytes);
        let part = match read {
            Ok(()) => Part::of_block(&self.bytes, wanted, &mut self.scratch)
                .map_err(|error| error.to_string()),
            Err(error) => Err(chain(&error)),
        };
        part.map_err(|what| self.misses(&segment.path().display().to_string(), entry, &what))
            .ok()
    }

    fn misses(&mut self, file: &str, entry: &Entry, what: &str) {
        let why = format!("a block of {file} at byte {}: {what}", entry.offset);
        tracing::error!(why, "a block is damaged");
        self.damaged += 1;
        self.missing.push(Missing {
            from: Timestamp(entry.from),
            until: Timestamp(entry.until),
            why,
        });
    }

    fn in_memory(&mut self, part: Result<Part, codec::Corrupt>, span: (u64, u64)) -> Option<Part> {
        part.map_err(|error| {
            self.damaged += 1;
            self.missing.push(Missing {
                from: Timestamp(span.0),
                until: Timestamp(span.1),
                why: format!("a block in memory: {error}"),
            });
        })
        .ok()
    }

    /// The newest row of a group before some instant and the one before it.
    fn newest_two(
        &mut self,
        shelf: &Shelf,
        group: u32,
        pieces: &[&Piece],
        before: u64,
    ) -> Vec<WholeRow> {
        let mut sources: Vec<(u64, usize, Source<'_>)> = Vec::new();
        for listed in shelf.of(Tier::Raw) {
            for entry in listed.segment().iter().flat_map(|s| s.of(group)) {
                if entry.from < before
                    && let Some(segment) = listed.segment()
                {
                    let source = Source::Entry(segment, entry);
                    sources.push((entry.until, sources.len(), source));
                }
            }
        }
        for piece in pieces {
            if piece.rows() > 0 && piece.span().0 < before {
                sources.push((piece.span().1, sources.len(), Source::Piece(piece)));
            }
        }
        sources.sort_unstable_by_key(|(until, place, _)| (std::cmp::Reverse(*until), *place));
        let mut found: Vec<(usize, Part)> = Vec::new();
        let mut rows = Vec::new();
        for (until, place, source) in sources {
            let older = rows.get(1).is_some_and(|row: &WholeRow| row.at > until);
            if older {
                break;
            }
            let part = match source {
                Source::Entry(segment, entry) => self.entry(segment, entry, Wanted::All),
                Source::Piece(piece) => {
                    let part = piece.part(Wanted::All, &mut self.scratch);
                    self.in_memory(part, piece.span())
                }
            };
            found.extend(part.map(|part| (place, part)));
            found.sort_by_key(|(place, _)| *place);
            rows = last_two(&found, before);
        }
        rows
    }
}

enum Source<'a> {
    Entry(&'a Segment, &'a Entry),
    Piece(&'a Piece),
}

fn last_two(found: &[(usize, Part)], before: u64) -> Vec<WholeRow> {
    let parts: Vec<Part> = found.iter().map(|(_, part)| part.clone()).collect();
    let runs = merge(&parts, &(0..before));
    let rows = runs.iter().rev().flat_map(|run| {
        let part = &parts[run.part];
        run.rows.clone().rev().map(move |row| {
            let is_broken = run.breaks && row == run.rows.start;
            whole_row(part, row, is_broken)
        })
    });
    rows.take(2).collect()
}

fn whole_row(part: &Part, row: usize, is_broken: bool) -> WholeRow {
    let width = part.values.len() / part.times.len();
    let breaks = part.breaks_in(&(row..row + 1)).first();
    WholeRow {
        at: part.times[row],
        columns: part.columns,
        values: (0..width).map(|column| part.column(column)[row]).collect(),
        breaks: match breaks {
            _ if is_broken => Breaks::All,
            Some((_, breaks)) => breaks.clone(),
            None => Breaks::None,
        },
    }
}

/// The rows of a group by time, each series by itself.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// Of all rows.
    pub(crate) times: Vec<u64>,
    pub(crate) series: Vec<GatheredSeries>,
}

/// One series of a group.
#[derive(Debug)]
pub(crate) struct GatheredSeries {
    pub(crate) key: SeriesKey,
    /// One per row; NaN where there is none.
    pub(crate) values: Vec<f64>,
    /// Rows that a counter does not go on into, rising.
    pub(crate) broken: Vec<u32>,
}

impl Gathered {
    /// Takes the rows of these runs, in the place of what was there.
    fn take(&mut self, parts: &[Part], runs: &[Run], meant: &Meant, slots: &mut Slots) {
        let gathered = self;
        let rows = runs.iter().map(|run| run.rows.len()).sum();
        gathered.times.clear();
        for series in &mut gathered.series {
            series.values.clear();
            series.broken.clear();
        }
        gathered.times.reserve(rows);
        for run in runs {
            let part = &parts[run.part];
            let start = gathered.times.len();
            gathered
                .times
                .extend_from_slice(&part.times[run.rows.clone()]);
            let places = slots.of(part.columns, meant, &mut gathered.series);
            for (wanted, slot) in places.iter().enumerate() {
                let series = &mut gathered.series[*slot];
                series.values.resize(start, f64::NAN); // rows without it
                series.values.reserve(rows - start);
                let values = &part.column(wanted)[run.rows.clone()];
                series.values.extend_from_slice(values);
            }
            let breaks = part.breaks_in(&run.rows);
            if run.breaks {
                slots.break_row(
                    &Breaks::All,
                    start,
                    part.columns,
                    meant,
                    &mut gathered.series,
                );
            }
            for (row, breaks) in breaks {
                let row = *row as usize - run.rows.start + start;
                slots.break_row(breaks, row, part.columns, meant, &mut gathered.series);
            }
        }
        for series in &mut gathered.series {
            series.values.resize(rows, f64::NAN);
        }
    }
}

/// Where the series of each set of columns are gathered.
#[derive(Default)]
struct Slots {
    by_set: HashMap<u32, Vec<usize>>,
    by_key: HashMap<SeriesKey, usize>,
}

impl Slots {
    /// The slot of each place that is meant.
    fn of(&mut self, columns: u32, meant: &Meant, all: &mut Vec<GatheredSeries>) -> &[usize] {
        let by_key = &mut self.by_key;
        let is_first = self.by_set.is_empty();
        self.by_set.entry(columns).or_insert_with(|| {
            let Some(set) = meant.sets.get(&columns) else {
                return Vec::new();
            };
            if !is_first && by_key.is_empty() {
                let slots = all.iter().enumerate();
                by_key.extend(slots.map(|(slot, series)| (series.key.clone(), slot)));
            }
            let keys = set
                .places
                .iter()
                .map(|place| &set.columns.series()[*place as usize]);
            let slot = |key: &SeriesKey| {
                let known = by_key.get(key).copied();
                known.unwrap_or_else(|| {
                    all.push(GatheredSeries {
                        key: key.clone(),
                        values: Vec::new(),
                        broken: Vec::new(),
                    });
                    if !is_first {
                        by_key.insert(key.clone(), all.len() - 1);
                    }
                    all.len() - 1
                })
            };
            keys.map(slot).collect()
        })
    }

    /// Counters do not go on into a row.
    fn break_row(
        &self,
        breaks: &Breaks,
        row: usize,
        columns: u32,
        meant: &Meant,
        all: &mut [GatheredSeries],
    ) {
        let row = u32::try_from(row).unwrap_or(u32::MAX);
        let broken = |series: &mut GatheredSeries| {
            if series.broken.last() != Some(&row) {
                series.broken.push(row);
            }
        };
        if *breaks == Breaks::All {
            return all.iter_mut().for_each(broken);
        }
        let Some(set) = meant.sets.get(&columns) else {
            return;
        };
        for (place, slot) in set.places.iter().zip(&self.by_set[&columns]) {
            if !breaks.spares(*place as usize) {
                broken(&mut all[*slot]);
            }
        }
    }
}

fn select_group(
    reading: &Reading<'_>,
    group: &ViewGroup,
    reader: &mut Reader,
    limits: &Limits,
) -> Result<Vec<SelectedSeries>, QueryError> {
    let mut found: Vec<(SelectedSeries, Follows)> = Vec::new();
    reading.gather(group, reader, &mut |gathered| {
        limits.add_series(gathered.series.len() - found.len())?;
        for series in &gathered.series[found.len()..] {
            let selected = SelectedSeries {
                group: group.key,
                key: series.key.clone(),
                points: Vec::new(),
                ends: Vec::new(),
            };
            found.push((selected, Follows::default()));
        }
        for (series, (selected, follows)) in gathered.series.iter().zip(&mut found) {
            let measured = series.values.iter().filter(|value| !value.is_nan()).count();
            limits.add_points(measured)?;
            selected.points.reserve(measured);
            add_points(&gathered.times, series, selected, follows);
        }
        Ok(())
    })?;
    let found = found.into_iter().map(|(selected, _)| selected);
    let mut selected: Vec<SelectedSeries> =
        found.filter(|series| !series.points.is_empty()).collect();
    sort(&mut selected, |series| &series.key);
    Ok(selected)
}

/// What the next point of a series is told of what was before it.
#[derive(Default)]
struct Follows {
    broken: bool,
    is_there: bool,
}

/// Sorts by metric and labels.
pub(crate) fn sort<T>(list: &mut [T], key: impl Fn(&T) -> &SeriesKey) {
    let by = |key: &SeriesKey| (Arc::clone(&key.metric), Arc::clone(&key.labels));
    let is_sorted = list
        .windows(2)
        .all(|pair| by(key(&pair[0])) <= by(key(&pair[1])));
    if !is_sorted {
        list.sort_by_cached_key(|one| by(key(one)));
    }
}

fn add_points(
    times: &[u64],
    series: &GatheredSeries,
    selected: &mut SelectedSeries,
    follows: &mut Follows,
) {
    let mut breaks = series.broken.iter().peekable();
    for (row, (at, value)) in times.iter().zip(&series.values).enumerate() {
        while breaks.next_if(|place| **place as usize <= row).is_some() {
            follows.broken = true;
        }
        let at = Timestamp(*at);
        if value.is_nan() {
            if follows.is_there {
                selected.ends.push(at);
            }
            follows.is_there = false;
            continue;
        }
        selected.points.push(Point {
            at,
            value: *value,
            broken: follows.broken,
        });
        *follows = Follows {
            broken: false,
            is_there: true,
        };
    }
}
