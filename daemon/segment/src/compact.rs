//! Many segments into one, and roll-ups of them.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use codec::{ColumnsRef, Effort, Scratch};
use model::{Breaks, Columns, MetricKind, SeriesKey};
use tracing::warn;
use wal::fs::Fs;

use crate::gather::{Joiner, Part, Piece, Raw, cut, order};
use crate::lanes::{Lanes, Steps, seconds_of};
use crate::rollup::{Roll, fold, forget_broken};
use crate::{Entry, Segment, SegmentError, SegmentWriter, Span, Summary, Tier};

/// The most rows of a block that compaction makes: a day of 30 s is one block,
/// and a day of seconds is cut, so that one chart does not read all of it.
const BLOCK_ROWS: usize = 4_096;

/// The most values of such a block: what bounds memory for wide rows (32 MiB).
const BLOCK_VALUES: usize = 4 << 20;

/// Fewer rows than this compress badly, however wide they are.
const FEWEST_ROWS: usize = 64;

/// A file to be written.
#[derive(Clone, Debug)]
pub struct Output {
    /// Where (a temporary name).
    pub path: PathBuf,
    /// Which tier: that of the sources, or a coarser one of raw sources.
    pub tier: Tier,
    /// Its span.
    pub span: Span,
}

/// A group's last row before the sources begin, by series: what a counter's
/// first step is measured from.
pub type Previous<'a> = &'a dyn Fn(u32) -> Option<(u64, Arc<Columns>, Vec<f64>)>;

/// What is to become of some segments of one tier.
pub struct Compaction<'a> {
    /// Where files are.
    pub fs: Arc<dyn Fs>,
    /// Oldest first; of two rows of a group at one instant, that of the
    /// earlier source stays.
    pub sources: Vec<Arc<Segment>>,
    /// Rows outside of this (ms; the end excluded) are left out.
    pub range: std::ops::Range<u64>,
    /// Groups that are left out: their data was deleted.
    pub is_gone: &'a dyn Fn(u32) -> bool,
    /// The columns of this number.
    pub columns: &'a dyn Fn(u32) -> Option<Arc<Columns>>,
    /// See [`Previous`].
    pub previous: Previous<'a>,
    /// What is written.
    pub outputs: Vec<Output>,
    /// Asked between groups: whether to give up.
    pub stop: &'a dyn Fn() -> bool,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Compacted {
    /// For each output: what it holds; `None` if there was nothing for it.
    pub outputs: Vec<Option<Summary>>,
    /// Blocks that could not be read and are in none of the outputs: file,
    /// group, from, until and what is wrong. Whoever compacts keeps the file.
    pub damaged: Vec<(PathBuf, u32, u64, u64, String)>,
    /// [`Compaction::stop`] said so; nothing of it is to be used.
    pub stopped: bool,
}

/// Reads the sources group by group, merges rows by time, drops second ones of
/// an instant, and writes the outputs, raw ones with `codec::Effort::Dense`.
/// Memory: one group's rows. The files are synced, not renamed; none is left
/// behind where it stops or fails.
///
/// # Errors
///
/// [`SegmentError::Io`] of an output; those of a source are in
/// [`Compacted::damaged`].
///
/// # Panics
///
/// If the sources are not all of one tier, or an output is of a tier that
/// cannot be made of them.
pub fn compact(compaction: &Compaction<'_>) -> Result<Compacted, SegmentError> {
    let Some(first) = compaction.sources.first() else {
        return Ok(Compacted {
            outputs: vec![None; compaction.outputs.len()],
            ..Compacted::default()
        });
    };
    let tier = first.summary().tier;
    let is_of_it = |source: &Arc<Segment>| source.summary().tier == tier;
    assert!(
        compaction.sources.iter().all(is_of_it),
        "sources of one tier"
    );
    let can_be_made = |output: &Output| output.tier == tier || tier == Tier::Raw;
    assert!(
        compaction.outputs.iter().all(can_be_made),
        "roll-ups are made of raw rows"
    );
    let mut job = Job {
        compaction,
        tier,
        writers: VecDeque::new(),
        created: 0,
        damaged: Vec::new(),
        maker: Maker::default(),
    };
    let done = job.run();
    if !matches!(done, Ok(Some(_))) {
        job.clean_up();
    }
    Ok(match done? {
        Some(outputs) => Compacted {
            outputs,
            damaged: job.damaged,
            stopped: false,
        },
        None => Compacted {
            outputs: vec![None; compaction.outputs.len()],
            damaged: job.damaged,
            stopped: true,
        },
    })
}

/// A compaction at work.
struct Job<'a> {
    compaction: &'a Compaction<'a>,
    tier: Tier,
    /// One for each output that is not finished.
    writers: VecDeque<SegmentWriter>,
    /// Outputs whose files are ours.
    created: usize,
    damaged: Vec<(PathBuf, u32, u64, u64, String)>,
    maker: Maker,
}

impl Job<'_> {
    /// What the outputs hold; `None` if it was stopped.
    fn run(&mut self) -> Result<Option<Vec<Option<Summary>>>, SegmentError> {
        let Compaction { fs, outputs, .. } = self.compaction;
        for Output { path, tier, span } in outputs {
            let writer = SegmentWriter::create(fs, path, *tier, *span)?;
            self.writers.push_back(writer);
            self.created += 1;
        }
        let sources = &self.compaction.sources;
        let mut rest: Vec<&[Entry]> = sources.iter().map(|source| source.entries()).collect();
        while let Some((group, entries)) = next_group(&mut rest) {
            if (self.compaction.stop)() {
                return Ok(None);
            }
            if !(self.compaction.is_gone)(group) {
                self.group(group, &entries)?;
            }
        }
        let mut summaries = Vec::new();
        while let Some(writer) = self.writers.pop_front() {
            summaries.push(writer.finish()?);
        }
        Ok(Some(summaries))
    }

    /// Takes away what was written in vain.
    fn clean_up(&mut self) {
        self.writers.clear();
        let Compaction { fs, outputs, .. } = self.compaction;
        for Output { path, .. } in &outputs[..self.created] {
            match fs.remove(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    warn!(path = %path.display(), %error, "left a file behind");
                }
                _ => {}
            }
        }
    }

    fn group(&mut self, group: u32, entries: &[&[Entry]]) -> Result<(), SegmentError> {
        let mut lost = Vec::new();
        let mut raws = self.read(entries, &mut lost);
        loop {
            let made = self.make(group, &raws, &lost);
            match made {
                Ok(made) => return self.push(group, made),
                Err((place, what)) => {
                    let raw = raws.remove(place);
                    lost.push(raw.entry.until);
                    self.damage(&raw.path, &raw.entry, what);
                }
            }
        }
    }

    /// The blocks of a group that may matter, in the order of the sources.
    /// Those of before the range may have the row that a step begins at.
    /// `lost` gets the last rows' times of those that cannot be read.
    fn read(&mut self, entries: &[&[Entry]], lost: &mut Vec<u64>) -> Vec<Raw> {
        let sources = &self.compaction.sources;
        let mut raws = Vec::new();
        for (source, entries) in sources.iter().zip(entries) {
            for entry in *entries {
                if entry.from >= self.compaction.range.end {
                    continue;
                }
                match Raw::read(source, entry) {
                    Ok(raw) => raws.push(raw),
                    Err(what) => {
                        lost.push(entry.until);
                        self.damage(source.path(), entry, what);
                    }
                }
            }
        }
        raws
    }

    fn damage(&mut self, path: &Path, entry: &Entry, what: String) {
        if entry.until >= self.compaction.range.start {
            let (group, from, until) = (entry.group, entry.from, entry.until);
            let path = path.to_owned();
            self.damaged.push((path, group, from, until, what));
        }
    }

    /// The group's blocks of all outputs, or which of `raws` is damaged.
    fn make(
        &mut self,
        group: u32,
        raws: &[Raw],
        lost: &[u64],
    ) -> Result<Vec<Made>, (usize, String)> {
        let Compaction { range, columns, .. } = self.compaction;
        let mut parts = Vec::with_capacity(raws.len());
        for (place, raw) in raws.iter().enumerate() {
            let scratch = &mut self.maker.scratch;
            let part = Part::open((place, raw), self.tier, range, columns, scratch);
            parts.push(part.map_err(|what| (place, what))?);
        }
        let made = match self.tier {
            Tier::Raw => {
                let before = (self.compaction.previous)(group).map(Before::from);
                self.maker
                    .raw(&parts, before, lost, &self.compaction.outputs)
            }
            Tier::Quarter | Tier::Hour => {
                self.maker
                    .buckets(&parts, self.tier, &self.compaction.outputs)
            }
        };
        made.map_err(|(part, what)| (parts[part].raw, what))
    }

    fn push(&mut self, group: u32, made: Vec<Made>) -> Result<(), SegmentError> {
        for Made {
            output,
            columns,
            bytes,
        } in made
        {
            let writer = &mut self.writers[output];
            match self.compaction.outputs[output].tier {
                Tier::Raw => writer.push(group, &bytes, &mut kinds(&columns))?,
                Tier::Quarter | Tier::Hour => {
                    let lanes = Lanes::new(columns.series());
                    writer.push(group, &bytes, &mut lanes.kinds())?;
                }
            }
        }
        Ok(())
    }
}

fn kinds(columns: &Columns) -> impl Iterator<Item = MetricKind> {
    columns.series().iter().map(|key| key.kind)
}

/// The least group that is left, and its entries in each source.
fn next_group<'a>(rest: &mut [&'a [Entry]]) -> Option<(u32, Vec<&'a [Entry]>)> {
    let firsts = rest.iter().filter_map(|entries| entries.first());
    let group = firsts.map(|entry| entry.group).min()?;
    let take = |entries: &mut &'a [Entry]| {
        let count = entries.partition_point(|entry| entry.group == group);
        let (of, behind) = entries.split_at(count);
        *entries = behind;
        of
    };
    Some((group, rest.iter_mut().map(take).collect()))
}

/// A block that is to be pushed.
struct Made {
    output: usize,
    columns: Arc<Columns>,
    bytes: Vec<u8>,
}

/// The row before a run.
struct Before {
    at: u64,
    columns: Arc<Columns>,
    values: Vec<f64>,
}

impl From<(u64, Arc<Columns>, Vec<f64>)> for Before {
    fn from((at, columns, values): (u64, Arc<Columns>, Vec<f64>)) -> Before {
        Before {
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

type Damage = (usize, String);

/// Makes blocks out of parts; holds the memory for it.
#[derive(Default)]
struct Maker {
    scratch: Scratch,
    joiner: Joiner,
    steps: Steps,
    times: Vec<u64>,
    values: Vec<f64>,
}

impl Maker {
    /// Raw rows and roll-ups of them. Counters do not go on over rows that
    /// were `lost`: what broke them may have been among those.
    fn raw(
        &mut self,
        parts: &[Part<'_>],
        before: Option<Before>,
        lost: &[u64],
        outputs: &[Output],
    ) -> Result<Vec<Made>, Damage> {
        self.joiner.begin(parts.len());
        let mut before = self.row_before(parts, before)?;
        let mut made = Vec::new();
        for run in runs(parts, &order(parts, Tier::Raw)) {
            self.raw_run(parts, run, &mut before, lost, outputs, &mut made)?;
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
        let newest = (0..parts.len())
            .rev()
            .filter_map(last)
            .max_by_key(|at| at.0);
        let Some((at, part, row)) = newest else {
            return Ok(known);
        };
        if known.as_ref().is_some_and(|known| known.at >= at) {
            return Ok(known);
        }
        let columns = Arc::clone(&parts[part].columns);
        let piece = [Piece {
            part,
            rows: row..row + 1,
        }];
        let mut values = Vec::new();
        for column in 0..columns.series().len() {
            self.joiner.column(parts, &piece, column, &mut values)?;
        }
        Ok(Some(Before {
            at,
            columns,
            values,
        }))
    }

    fn raw_run(
        &mut self,
        parts: &[Part<'_>],
        run: &[Piece],
        before: &mut Option<Before>,
        lost: &[u64],
        outputs: &[Output],
        made: &mut Vec<Made>,
    ) -> Result<(), Damage> {
        let columns = Arc::clone(&parts[run[0].part].columns);
        let number = parts[run[0].part].block.columns();
        let lanes = Lanes::new(columns.series());
        let mut rolls = rolls_of(outputs, &lanes, &times_of(parts, run));
        let keeps_raw = |output: &Output| output.tier == Tier::Raw;
        for pieces in cut(run, target(columns.series().len())) {
            let times = times_of(parts, &pieces);
            let mut breaks = breaks_of(parts, &pieces);
            let at = before.as_ref().map(|row| row.at);
            break_behind(lost, at, &times, &mut breaks);
            let seconds = seconds_of(at, &times);
            let last = before.take().map(|row| row.values_in(&columns));
            rolls.iter_mut().for_each(|(_, roll)| roll.begin(&times));
            let mut values = std::mem::take(&mut self.values);
            values.clear();
            let mut newest = Vec::with_capacity(columns.series().len());
            for (column, (kind, lane)) in lanes.columns().enumerate() {
                let begin = values.len();
                self.joiner.column(parts, &pieces, column, &mut values)?;
                let values = &values[begin..];
                newest.push(values.last().copied().unwrap_or(f64::NAN));
                if kind.is_counter() {
                    let last = last.as_ref().and_then(|row| row.get(column));
                    let last = last.copied().unwrap_or(f64::NAN);
                    self.steps.measure(kind, last, &seconds, values);
                    forget_broken(&mut self.steps, &breaks, column);
                    rolls
                        .iter_mut()
                        .for_each(|(_, roll)| roll.counter(lane, &self.steps));
                } else {
                    rolls
                        .iter_mut()
                        .for_each(|(_, roll)| roll.gauge(lane, values));
                }
            }
            *before = times.last().map(|at| Before {
                at: *at,
                columns: Arc::clone(&columns),
                values: newest,
            });
            let block = ColumnsRef {
                columns: number,
                width: columns.series().len(),
                times: &times,
                values: &values,
                breaks: &breaks,
            };
            self.encode(block, Effort::Dense, &columns, outputs, &keeps_raw, made);
            self.values = values;
        }
        for (output, roll) in rolls {
            let mut out = |bytes| {
                let columns = Arc::clone(&columns);
                made.push(Made {
                    output,
                    columns,
                    bytes,
                });
            };
            let target = target(lanes.width());
            roll.encode(number, &lanes, target, &mut self.scratch, &mut out);
        }
        Ok(())
    }

    fn encode(
        &mut self,
        block: ColumnsRef<'_>,
        effort: Effort,
        columns: &Arc<Columns>,
        outputs: &[Output],
        is_for: &dyn Fn(&Output) -> bool,
        made: &mut Vec<Made>,
    ) {
        for (output, _) in outputs
            .iter()
            .enumerate()
            .filter(|(_, output)| is_for(output))
        {
            let mut bytes = Vec::new();
            codec::encode_columns(block, effort, &mut self.scratch, &mut bytes);
            let columns = Arc::clone(columns);
            made.push(Made {
                output,
                columns,
                bytes,
            });
        }
    }

    /// Rows of buckets, out of rows of the same buckets.
    fn buckets(
        &mut self,
        parts: &[Part<'_>],
        tier: Tier,
        outputs: &[Output],
    ) -> Result<Vec<Made>, Damage> {
        self.joiner.begin(parts.len());
        let mut made = Vec::new();
        for run in runs(parts, &order(parts, tier)) {
            let columns = Arc::clone(&parts[run[0].part].columns);
            let number = parts[run[0].part].block.columns();
            let lanes = Lanes::new(columns.series());
            for pieces in cut(run, target(lanes.width())) {
                self.times = times_of(parts, &pieces);
                self.values.clear();
                for lane in 0..lanes.width() {
                    self.joiner.column(parts, &pieces, lane, &mut self.values)?;
                }
                fold(&mut self.times, &mut self.values, &lanes);
                let times = std::mem::take(&mut self.times);
                let values = std::mem::take(&mut self.values);
                let block = ColumnsRef {
                    columns: number,
                    width: lanes.width(),
                    times: &times,
                    values: &values,
                    breaks: &[],
                };
                self.encode(
                    block,
                    Effort::Dense,
                    &columns,
                    outputs,
                    &|_| true,
                    &mut made,
                );
                self.values = values;
            }
        }
        Ok(made)
    }
}

/// Pieces that follow each other with the same columns.
fn runs<'p>(parts: &[Part<'_>], pieces: &'p [Piece]) -> impl Iterator<Item = &'p [Piece]> {
    let number = |piece: &Piece| parts[piece.part].block.columns();
    pieces.chunk_by(move |a, b| number(a) == number(b))
}

/// Rows of a block of so many columns.
fn target(width: usize) -> usize {
    (BLOCK_VALUES / width.max(1)).clamp(FEWEST_ROWS, BLOCK_ROWS)
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
        let row = u32::try_from(row).expect("a block has at most MAX_ROWS rows");
        match breaks.binary_search_by_key(&row, |(place, _)| *place) {
            Ok(found) => breaks[found].1 = Breaks::All,
            Err(place) => breaks.insert(place, (row, Breaks::All)),
        }
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
