//! The blocks of one group: raw rows joined, roll-ups of them, and rows of
//! buckets joined.

use std::collections::HashMap;
use std::sync::Arc;

use codec::{ColumnsRef, Effort, Scratch};
use model::{Breaks, Columns, SeriesKey};
use tracing::warn;

use crate::gather::{Joiner, Part, Piece, cut, order};
use crate::lanes::{Lanes, Steps, seconds_of};
use crate::rollup::{Roll, fold, forget_broken};
use crate::{Output, Tier};

/// The most rows of a raw block that compaction makes: six hours of 30 s, so that
/// an hour of many series does not read days. Longer ones save 2 % of the disk.
const BLOCK_ROWS: usize = 720;

/// The same of roll-ups: who asks for them asks for weeks.
const ROLLED_ROWS: usize = 4_096;

/// The most values of such a block: what bounds memory for wide rows (32 MiB).
const BLOCK_VALUES: usize = 4 << 20;

/// Fewer rows than this compress badly, however wide they are.
const FEWEST_ROWS: usize = 64;

/// A block that is to be pushed.
pub(crate) struct Made {
    /// Into which output.
    pub(crate) output: usize,
    /// What its columns (those of the raw rows) are.
    pub(crate) columns: Arc<Columns>,
    /// As codec encoded it.
    pub(crate) bytes: Vec<u8>,
}

/// The row before a run.
pub(crate) struct Before {
    /// Which of the sources it is of, if it is of one.
    source: Option<usize>,
    at: u64,
    columns: Arc<Columns>,
    values: Vec<f64>,
}

impl From<(u64, Arc<Columns>, Vec<f64>)> for Before {
    fn from((at, columns, values): (u64, Arc<Columns>, Vec<f64>)) -> Before {
        Before {
            source: None,
            at,
            columns,
            values,
        }
    }
}

impl Before {
    /// Its values where `columns` has them; NaN for series that it has not.
    fn values_in(&self, columns: &Arc<Columns>) -> Vec<f64> {
        if Arc::ptr_eq(&self.columns, columns) || self.columns == *columns {
            return self.values.clone();
        }
        let own = self.columns.series().iter().zip(&self.values);
        let own: HashMap<&SeriesKey, f64> = own.map(|(key, value)| (key, *value)).collect();
        let value = |key| own.get(key).copied().unwrap_or(f64::NAN);
        columns.series().iter().map(value).collect()
    }
}

/// Which part is damaged, and how.
pub(crate) type Damage = (usize, String);

/// What is to be made of one group.
pub(crate) struct Task<'a> {
    /// Its blocks.
    pub(crate) parts: &'a [Part<'a>],
    /// For what.
    pub(crate) outputs: &'a [Output],
    /// The last rows' times of blocks that are damaged. Counters do not go on
    /// over them: what broke them may have been there.
    pub(crate) lost: &'a [u64],
}

/// Makes blocks out of parts; holds the memory for it.
#[derive(Default)]
pub(crate) struct Maker {
    pub(crate) scratch: Scratch,
    joiner: Joiner,
    steps: Steps,
    /// Of the block at hand, column by column.
    values: Vec<f64>,
}

impl Maker {
    /// Raw rows and roll-ups of them. `before` is the last row before the
    /// range, as far as others know.
    pub(crate) fn raw(
        &mut self,
        task: &Task<'_>,
        before: Option<Before>,
    ) -> Result<Vec<Made>, Damage> {
        self.joiner.begin(task.parts.len());
        let mut before = self.row_before(task.parts, before)?;
        let mut made = Vec::new();
        for pieces in runs(task.parts, &order(task.parts, Tier::Raw)) {
            let mut run = Run::new(task.parts, pieces);
            run.rolls = rolls_of(task.outputs, &run.lanes, &times_of(task.parts, pieces));
            for pieces in cut(pieces, target(run.width(), BLOCK_ROWS)) {
                before = self.raw_block(task, &pieces, &mut run, before, &mut made)?;
            }
            self.roll_ups(run, &mut made);
        }
        Ok(made)
    }

    /// The last row before the range: `known`, or a newer one in the parts.
    fn row_before(
        &mut self,
        parts: &[Part<'_>],
        known: Option<Before>,
    ) -> Result<Option<Before>, Damage> {
        let last = |place: usize| {
            let row = parts[place].within.start.checked_sub(1)?;
            Some((parts[place].times[row], place, row))
        };
        // of one instant, that of the earlier source
        let places = (0..parts.len()).rev();
        let newest = places.filter_map(last).max_by_key(|(at, _, _)| *at);
        let known_at = known.as_ref().map(|row| row.at);
        let Some((at, part, row)) = newest.filter(|(at, _, _)| known_at.is_none_or(|it| it < *at))
        else {
            return Ok(known);
        };
        let rows = row..row + 1;
        let columns = Arc::clone(&parts[part].columns);
        let mut values = Vec::new();
        for column in 0..columns.series().len() {
            let piece = Piece {
                part,
                rows: rows.clone(),
            };
            self.joiner.column(parts, &[piece], column, &mut values)?;
        }
        Ok(Some(Before {
            source: Some(parts[part].source),
            at,
            columns,
            values,
        }))
    }

    /// One block of a run, and what its rows add to the run's roll-ups. Returns
    /// its last row.
    fn raw_block(
        &mut self,
        task: &Task<'_>,
        pieces: &[Piece],
        run: &mut Run,
        before: Option<Before>,
        made: &mut Vec<Made>,
    ) -> Result<Option<Before>, Damage> {
        let times = times_of(task.parts, pieces);
        let mut breaks = breaks_of(task.parts, pieces);
        let source = before.as_ref().and_then(|row| row.source);
        break_between(task.parts, pieces, source, &mut breaks);
        let before_at = before.as_ref().map(|row| row.at);
        break_behind(task.lost, before_at, &times, &mut breaks);
        let seconds = seconds_of(before_at, &times);
        let last = before.map(|row| row.values_in(&run.columns));
        run.rolls
            .iter_mut()
            .for_each(|(_, roll)| roll.begin(&times));

        self.values.clear();
        let mut newest = Vec::with_capacity(run.width());
        for (column, (kind, lane)) in run.lanes.columns().enumerate() {
            let begin = self.values.len();
            self.joiner
                .column(task.parts, pieces, column, &mut self.values)?;
            let values = &self.values[begin..];
            newest.push(values.last().copied().unwrap_or(f64::NAN));
            if run.rolls.is_empty() {
                continue;
            }
            if kind.is_counter() {
                let last = last.as_ref().and_then(|row| row.get(column));
                let last = last.copied().unwrap_or(f64::NAN);
                self.steps.measure(kind, last, &seconds, values);
                forget_broken(&mut self.steps, &breaks, column);
            }
            for (_, roll) in &mut run.rolls {
                match kind.is_counter() {
                    true => roll.counter(lane, &self.steps),
                    false => roll.gauge(lane, values),
                }
            }
        }
        let raw = |output: &Output| output.tier == Tier::Raw;
        self.encode(task, run, (&times, &breaks), &raw, made);
        let source = pieces.last().map(|piece| task.parts[piece.part].source);
        Ok(times.last().map(|at| Before {
            source,
            at: *at,
            columns: Arc::clone(&run.columns),
            values: newest,
        }))
    }

    /// Encodes the values at hand for some of the outputs.
    fn encode(
        &mut self,
        task: &Task<'_>,
        run: &Run,
        (times, breaks): (&[u64], &[(u32, Breaks)]),
        is_for: &dyn Fn(&Output) -> bool,
        made: &mut Vec<Made>,
    ) {
        let rows = ColumnsRef {
            columns: run.number,
            width: self.values.len() / times.len(),
            times,
            values: &self.values,
            breaks,
        };
        for (output, asked) in task.outputs.iter().enumerate() {
            if is_for(asked) {
                let mut bytes = Vec::new();
                codec::encode_columns(rows, Effort::Dense, &mut self.scratch, &mut bytes);
                made.push(run.made(output, bytes));
            }
        }
    }

    fn roll_ups(&mut self, mut run: Run, made: &mut Vec<Made>) {
        for (output, roll) in std::mem::take(&mut run.rolls) {
            let target = target(run.lanes.width(), ROLLED_ROWS);
            let mut out = |bytes| made.push(run.made(output, bytes));
            roll.encode(run.number, &run.lanes, target, &mut self.scratch, &mut out);
        }
    }

    /// Rows of buckets, out of rows of the same buckets.
    pub(crate) fn buckets(&mut self, task: &Task<'_>, tier: Tier) -> Result<Vec<Made>, Damage> {
        self.joiner.begin(task.parts.len());
        let mut made = Vec::new();
        for pieces in runs(task.parts, &order(task.parts, tier)) {
            let run = Run::new(task.parts, pieces);
            for pieces in cut(pieces, target(run.lanes.width(), ROLLED_ROWS)) {
                let mut times = times_of(task.parts, &pieces);
                self.values.clear();
                for lane in 0..run.lanes.width() {
                    self.joiner
                        .column(task.parts, &pieces, lane, &mut self.values)?;
                }
                fold(&mut times, &mut self.values, &run.lanes);
                self.encode(task, &run, (&times, &[]), &|_| true, &mut made);
            }
        }
        Ok(made)
    }
}

/// Rows that follow each other with the same columns.
struct Run {
    columns: Arc<Columns>,
    number: u32,
    lanes: Lanes,
    /// What is made of them beside raw rows, and for which output.
    rolls: Vec<(usize, Roll)>,
}

impl Run {
    fn new(parts: &[Part<'_>], pieces: &[Piece]) -> Run {
        let first = &parts[pieces[0].part];
        Run {
            columns: Arc::clone(&first.columns),
            number: first.block.columns(),
            lanes: Lanes::new(first.columns.series()),
            rolls: Vec::new(),
        }
    }

    /// Values of a raw row.
    fn width(&self) -> usize {
        self.columns.series().len()
    }

    fn made(&self, output: usize, bytes: Vec<u8>) -> Made {
        Made {
            output,
            columns: Arc::clone(&self.columns),
            bytes,
        }
    }
}

/// Pieces that follow each other with the same columns.
fn runs<'p>(parts: &[Part<'_>], pieces: &'p [Piece]) -> impl Iterator<Item = &'p [Piece]> {
    let number = |piece: &Piece| parts[piece.part].block.columns();
    pieces.chunk_by(move |a, b| number(a) == number(b))
}

/// Rows of a block of so many columns, where at most `rows` are wanted.
fn target(width: usize, rows: usize) -> usize {
    (BLOCK_VALUES / width.max(1)).clamp(FEWEST_ROWS, rows)
}

fn times_of(parts: &[Part<'_>], pieces: &[Piece]) -> Vec<u64> {
    let times = |piece: &Piece| &parts[piece.part].times[piece.rows.clone()];
    pieces.iter().flat_map(times).copied().collect()
}

fn breaks_of(parts: &[Part<'_>], pieces: &[Piece]) -> Vec<(u32, Breaks)> {
    let mut breaks = Vec::new();
    let mut begin = 0;
    for Piece { part, rows } in pieces {
        for (row, broken) in &parts[*part].breaks {
            let row = *row as usize;
            if rows.contains(&row) {
                let place = begin + row - rows.start;
                let place = u32::try_from(place).expect("a block has at most MAX_ROWS rows");
                breaks.push((place, broken.clone()));
            }
        }
        begin += rows.len();
    }
    breaks
}

/// Breaks all counters at the first row behind each that was lost.
fn break_behind(lost: &[u64], before: Option<u64>, times: &[u64], breaks: &mut Vec<(u32, Breaks)>) {
    for time in lost {
        let row = times.partition_point(|own| own <= time);
        let is_first_behind = row > 0 || before.is_none_or(|before| before <= *time);
        if row == times.len() || !is_first_behind {
            continue;
        }
        break_all(row, breaks);
    }
}

/// Breaks all counters at rows that a row of a later source came before: it was
/// put there when they had been measured against another.
fn break_between(
    parts: &[Part<'_>],
    pieces: &[Piece],
    before: Option<usize>,
    breaks: &mut Vec<(u32, Breaks)>,
) {
    let mut before = before;
    let mut row = 0;
    for piece in pieces {
        let own = parts[piece.part].source;
        if before.replace(own).is_some_and(|before| before > own) {
            break_all(row, breaks);
        }
        row += piece.rows.len();
    }
}

fn break_all(row: usize, breaks: &mut Vec<(u32, Breaks)>) {
    let row = u32::try_from(row).expect("a block has at most MAX_ROWS rows");
    match breaks.binary_search_by_key(&row, |(place, _)| *place) {
        Ok(found) => breaks[found].1 = Breaks::All,
        Err(place) => breaks.insert(place, (row, Breaks::All)),
    }
}

/// What is to be rolled up of a run, and for which output.
fn rolls_of(outputs: &[Output], lanes: &Lanes, times: &[u64]) -> Vec<(usize, Roll)> {
    if lanes.width() > codec::MAX_WIDTH {
        let width = lanes.width();
        warn!(width, "rows are too wide to be rolled up");
        return Vec::new();
    }
    let roll = |(place, output): (usize, &Output)| {
        let width_ms = output.tier.bucket_ms()?;
        Some((place, Roll::new(width_ms, times, lanes)))
    };
    outputs.iter().enumerate().filter_map(roll).collect()
}
