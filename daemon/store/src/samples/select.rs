//! Reading history: rows out of chunks and out of the newest rows, by series.
//!
//! Every row and chunk says when the row before it was. A reader follows that
//! chain from before the asked time to after it, so a row that is gone is an
//! error and not a silent gap.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use model::{Breaks, Check, DeviceId, GroupKey, SeriesKey, Timestamp};
use redb::ReadTransaction;

use super::chunk;
use super::columns::Registry;
use super::pieces::{CHUNK, ROW, SERIES};
use super::row::KeptRow;
use super::write::read_row;
use crate::error::{Fault, ReadError};
use crate::tables::{self, TrackState};

/// Which samples are asked for.
#[derive(Clone, Debug)]
pub struct Select {
    /// Of this device.
    pub device: DeviceId,
    /// Of this metric; `None`: of all.
    pub metric: Option<String>,
    /// Series must carry all of these.
    pub labels: BTreeMap<String, String>,
    /// Not older than this.
    pub from: Timestamp,
    /// Older than this.
    pub until: Timestamp,
    /// Over all series; more are refused with [`ReadError::TooMany`].
    pub max_points: usize,
}

impl Select {
    fn wants(&self, key: &SeriesKey) -> bool {
        let labels = &self.labels;
        self.metric
            .as_deref()
            .is_none_or(|metric| metric == &*key.metric)
            && labels
                .iter()
                .all(|(name, value)| key.labels.get(name) == Some(value))
    }
}

/// The points of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectedSeries {
    /// Which series.
    pub key: SeriesKey,
    /// Oldest first.
    pub points: Vec<Point>,
}

/// One measured value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When.
    pub at: Timestamp,
    /// As it was measured; never NaN: what was not measured has no point.
    pub value: f64,
    /// A counter does not go on from the point before.
    pub broken: bool,
}

/// Why a read ended early.
enum Stop {
    Fault(Fault),
    TooMany,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault)
    }
}

/// Reads what `ask` asks for. `tracks_of` gives a group's tracks in the order they
/// began.
pub(crate) fn select(
    txn: &ReadTransaction,
    registry: &Mutex<Registry>,
    tracks_of: impl Fn(GroupKey) -> Vec<u32>,
    ask: &Select,
) -> Result<Vec<SelectedSeries>, ReadError> {
    let mut found: Vec<SelectedSeries> = Vec::new();
    let mut points = 0;
    for check in Check::ALL {
        let group = GroupKey {
            device: ask.device,
            check,
        };
        let mut tracks = Vec::new();
        for id in tracks_of(group) {
            let Some(state) = tables::STATE.get(txn, id)? else {
                if tracks_of(group).contains(&id) {
                    let what = format!("the state of track {id} is missing");
                    return Err(in_group(group, Fault::Damage(what)));
                }
                continue; // it grew too old meanwhile
            };
            let mut gather = Gather::new(txn, registry, ask, points)?;
            match gather.track(txn, id, &state) {
                Ok(()) => {}
                Err(Stop::Fault(fault)) => return Err(in_group(group, fault)),
                Err(Stop::TooMany) => {
                    let points = ask.max_points;
                    return Err(ReadError::TooMany { points });
                }
            }
            points = gather.points;
            tracks.push(gather.finish());
        }
        found.extend(merge(tracks));
    }
    Ok(found)
}

fn in_group(group: GroupKey, fault: Fault) -> ReadError {
    match fault {
        Fault::Damage(what) => {
            let (device, check) = (group.device, group.check.word());
            let what = format!("{check} samples of device {device}: {what}");
            ReadError::Corrupt { what }
        }
        other => other.into(),
    }
}

/// Points of one track as they are found.
struct Gather<'a> {
    ask: &'a Select,
    registry: &'a Mutex<Registry>,
    series_table: redb::ReadOnlyTable<super::pieces::PieceKey, &'static [u8]>,
    /// By columns: the places in them that are wanted, and whose they are.
    wanted: HashMap<u32, Arc<Wanted>>,
    places: HashMap<SeriesKey, usize>,
    found: Vec<Growing>,
    /// Rows up to now in which all counters broke.
    all_broke: u32,
    points: usize,
    chain: Chain,
}

struct Wanted {
    /// `(place in the columns, place in found)`
    places: Vec<(usize, usize)>,
}

/// A series that is being gathered.
struct Growing {
    series: SelectedSeries,
    /// A break since the last point.
    broken: bool,
    /// [`Gather::all_broke`] at the last point.
    all_broke: u32,
}

/// Notices rows that are gone.
struct Chain {
    /// The last row that was seen.
    last: Option<u64>,
    from: u64,
    trimmed: u64,
    /// A damaged chunk that began before the asked time: it matters only if it
    /// went on into it.
    damaged: Option<Fault>,
}

impl Chain {
    /// A row at `at`, or a run of them up to `last`, whose predecessor was at
    /// `before`.
    fn link(&mut self, at: u64, last: u64, before: u64) -> Result<(), Fault> {
        let seen = self.last == Some(before);
        let is_outside = before < self.from || before <= self.trimmed;
        let was_inside = self.last.is_some_and(|last| last >= self.from);
        if !seen && (was_inside || !is_outside) {
            let (before, at) = (Timestamp(before), Timestamp(at));
            let what = format!("rows up to {before}, before that of {at}, are missing");
            return Err(self.damaged.take().unwrap_or(Fault::Damage(what)));
        }
        self.damaged = None;
        self.last = Some(last);
        Ok(())
    }

    /// The track ends here, and its newest row is at `newest`.
    fn end(&mut self, newest: u64) -> Result<(), Fault> {
        if self.last == Some(newest) {
            return Ok(());
        }
        let what = format!("rows up to {} are missing", Timestamp(newest));
        Err(self.damaged.take().unwrap_or(Fault::Damage(what)))
    }
}

impl<'a> Gather<'a> {
    fn new(
        txn: &ReadTransaction,
        registry: &'a Mutex<Registry>,
        ask: &'a Select,
        points: usize,
    ) -> Result<Gather<'a>, Fault> {
        Ok(Gather {
            ask,
            registry,
            series_table: txn.open_table(SERIES.definition())?,
            wanted: HashMap::new(),
            places: HashMap::new(),
            found: Vec::new(),
            all_broke: 0,
            points,
            chain: Chain {
                last: None,
                from: ask.from.0,
                trimmed: 0,
                damaged: None,
            },
        })
    }

    fn track(&mut self, txn: &ReadTransaction, id: u32, state: &TrackState) -> Result<(), Stop> {
        if state.newest == 0 || state.newest < self.ask.from.0 || self.ask.from >= self.ask.until {
            return Ok(());
        }
        self.chain.trimmed = state.trimmed;
        let done = self.chunks(txn, id)? || self.rows(txn, id)?;
        if !done {
            self.chain.end(state.newest)?;
        }
        Ok(())
    }

    /// Whether all that was asked for has been seen.
    fn chunks(&mut self, txn: &ReadTransaction, id: u32) -> Result<bool, Stop> {
        let table = txn.open_table(CHUNK.definition()).map_err(Fault::from)?;
        let all_before = (id, 0, 0)..=(id, self.ask.from.0, u16::MAX);
        let begin = table.range(all_before).map_err(Fault::from)?.next_back();
        let begin = begin.transpose().map_err(Fault::from)?;
        let begin = begin.map_or(self.ask.from.0, |(key, _)| key.value().1);
        let mut result = Ok(false);
        CHUNK.scan(&table, id, begin..=u64::MAX, |first, body| {
            result = self.chunk(first, body);
            matches!(result, Ok(false))
        })?;
        result
    }

    /// Whether all that was asked for has been seen.
    fn chunk(&mut self, first: u64, body: Result<Vec<u8>, Fault>) -> Result<bool, Stop> {
        let garbled = |_| Fault::Damage(format!("the chunk of {} is garbled", Timestamp(first)));
        let body = match body {
            Ok(body) => body,
            Err(fault) => return self.damaged(first, at(first, "chunk", fault)),
        };
        let (head, compressed) = match chunk::head(first, &body) {
            Ok(read) => read,
            Err(error) => return self.damaged(first, garbled(error)),
        };
        if head.last < self.ask.from.0 {
            // lies before the asked time, but the chain begins with it
            self.chain.last = Some(head.last);
            return Ok(false);
        }
        self.chain.link(first, head.last, head.before)?;
        if first >= self.ask.until.0 {
            return Ok(true);
        }
        let opened = chunk::open(&head, compressed).map_err(garbled)?;
        let mut start = 0;
        let mut starts = Vec::new();
        let mut wanted = Vec::new();
        for span in &head.spans {
            starts.push(start);
            start += span.rows;
            wanted.push(self.wanted(span.id, span.columns)?);
        }
        // columns come one by one; points have to come row by row where breaks
        // are counted, so the wanted columns are put together first
        let mut picked: Vec<Vec<Vec<f64>>> = head.spans.iter().map(|_| Vec::new()).collect();
        let mut next = vec![0; head.spans.len()];
        opened
            .columns(&head, |span, column, values| {
                let place = wanted[span].places.get(next[span]);
                if place.is_some_and(|(own, _)| *own == column) {
                    picked[span].push(values.to_vec());
                    next[span] += 1;
                }
            })
            .map_err(garbled)?;
        for (span, columns) in picked.iter().enumerate() {
            for row in 0..head.spans[span].rows {
                let place = starts[span] + row;
                let time = opened.times[place];
                if time >= self.ask.until.0 {
                    return Ok(true);
                }
                let values = columns.iter().map(|column| column[row]);
                self.add(time, &opened.breaks[place], &wanted[span], values)?;
            }
        }
        Ok(head.last >= self.ask.until.0)
    }

    /// What a damaged chunk means for what was asked: before it perhaps
    /// nothing, behind it nothing.
    fn damaged(&mut self, first: u64, fault: Fault) -> Result<bool, Stop> {
        if first >= self.ask.until.0 {
            return Ok(true);
        }
        if first >= self.ask.from.0 {
            return Err(fault.into());
        }
        self.chain.damaged = Some(fault);
        Ok(false)
    }

    /// Whether all that was asked for has been seen.
    fn rows(&mut self, txn: &ReadTransaction, id: u32) -> Result<bool, Stop> {
        let table = txn.open_table(ROW.definition()).map_err(Fault::from)?;
        let mut result = Ok(false);
        ROW.scan(&table, id, self.ask.from.0..=u64::MAX, |time, body| {
            result = self.row(time, body);
            matches!(result, Ok(false))
        })?;
        result
    }

    fn row(&mut self, time: u64, body: Result<Vec<u8>, Fault>) -> Result<bool, Stop> {
        let row: KeptRow = match body.and_then(|body| read_row(time, &body)) {
            Ok(row) => row,
            Err(fault) => return self.damaged(time, at(time, "row", fault)),
        };
        self.chain.link(time, time, row.before)?;
        if time >= self.ask.until.0 {
            return Ok(true);
        }
        let wanted = self.wanted(row.columns, row.values.len())?;
        let values = wanted.places.iter().map(|(place, _)| row.values[*place]);
        self.add(time, &row.breaks, &wanted, values)?;
        Ok(false)
    }

    fn wanted(&mut self, id: u32, width: usize) -> Result<Arc<Wanted>, Fault> {
        if let Some(wanted) = self.wanted.get(&id) {
            return Ok(wanted.clone());
        }
        let columns = {
            let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
            registry.get(&self.series_table, id)?
        };
        if columns.series().len() != width {
            return Err(Fault::Damage(format!("rows do not fit their columns {id}")));
        }
        let mut places = Vec::new();
        for (place, key) in columns.series().iter().enumerate() {
            if self.ask.wants(key) {
                places.push((place, self.place_of(key)));
            }
        }
        let wanted = Arc::new(Wanted { places });
        self.wanted.insert(id, wanted.clone());
        Ok(wanted)
    }

    fn place_of(&mut self, key: &SeriesKey) -> usize {
        if let Some(place) = self.places.get(key) {
            return *place;
        }
        let place = self.found.len();
        self.places.insert(key.clone(), place);
        self.found.push(Growing {
            series: SelectedSeries {
                key: key.clone(),
                points: Vec::new(),
            },
            broken: false,
            all_broke: self.all_broke,
        });
        place
    }

    fn add(
        &mut self,
        time: u64,
        breaks: &Breaks,
        wanted: &Wanted,
        values: impl Iterator<Item = f64>,
    ) -> Result<(), Stop> {
        if time < self.ask.from.0 {
            return Ok(());
        }
        if *breaks == Breaks::All {
            self.all_broke += 1;
        }
        for ((column, place), value) in wanted.places.iter().zip(values) {
            let growing = &mut self.found[*place];
            growing.broken |= !breaks.spares(*column);
            if value.is_nan() {
                continue;
            }
            if self.points >= self.ask.max_points {
                return Err(Stop::TooMany);
            }
            self.points += 1;
            growing.series.points.push(Point {
                at: Timestamp(time),
                value,
                broken: growing.broken || growing.all_broke != self.all_broke,
            });
            growing.broken = false;
            growing.all_broke = self.all_broke;
        }
        Ok(())
    }

    fn finish(self) -> Vec<SelectedSeries> {
        let series = self.found.into_iter().map(|growing| growing.series);
        series.filter(|series| !series.points.is_empty()).collect()
    }
}

fn at(time: u64, what: &str, fault: Fault) -> Fault {
    match fault {
        Fault::Damage(why) => Fault::Damage(format!(
            "the {what} of {} is damaged: {why}",
            Timestamp(time)
        )),
        other => other,
    }
}

/// The points of a group's tracks by time. Where they change over, a counter
/// does not go on.
fn merge(tracks: Vec<Vec<SelectedSeries>>) -> Vec<SelectedSeries> {
    let mut tracks = tracks.into_iter();
    let mut all = tracks.next().unwrap_or_default();
    let rest: Vec<SelectedSeries> = tracks.flatten().collect();
    if rest.is_empty() {
        return all;
    }
    let mut by_key: HashMap<SeriesKey, Vec<(usize, Vec<Point>)>> = HashMap::new();
    let mut order = Vec::new();
    for (track, series) in all.drain(..).chain(rest).enumerate() {
        let parts = by_key.entry(series.key.clone()).or_default();
        if parts.is_empty() {
            order.push(series.key);
        }
        parts.push((track, series.points));
    }
    order
        .into_iter()
        .map(|key| {
            let points = by_time(by_key.remove(&key).unwrap_or_default());
            SelectedSeries { key, points }
        })
        .collect()
}

fn by_time(parts: Vec<(usize, Vec<Point>)>) -> Vec<Point> {
    let tagged = parts
        .into_iter()
        .flat_map(|(track, points)| points.into_iter().map(move |point| (track, point)));
    let mut tagged: Vec<(usize, Point)> = tagged.collect();
    tagged.sort_by_key(|(track, point)| (point.at, *track));
    // of two at one instant the later track's stays
    tagged.dedup_by(|later, first| {
        let same = later.1.at == first.1.at;
        if same {
            *first = *later;
        }
        same
    });
    let mut before = None;
    tagged
        .into_iter()
        .map(|(track, point)| {
            let changed = before.is_some_and(|before| before != track);
            before = Some(track);
            Point {
                broken: point.broken || changed,
                ..point
            }
        })
        .collect()
}
