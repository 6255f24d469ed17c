//! Cuts: the head becomes segments, one for each UTC day that its rows touch,
//! so that a segment never has to be compacted for two days.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use codec::{ColumnsRef, Effort, Scratch};
use model::{Breaks, Columns, MetricKind};
use segment::{Segment, SegmentError, SegmentWriter, Span, Summary, Tier};

use crate::catalog::{CatalogChange, CatalogError, GroupRecord, SegmentName, SegmentRow};
use crate::engine::Inner;
use crate::files::{Places, chain};
use crate::head::Frozen;
use crate::keeper::{Counts, Keeper, Pending};
use crate::limits::DAY_MS;
use crate::lock::{self, lock};
use crate::rows::{Part, Piece, Run, Wanted, merge};
use crate::shelf::{Content, Listed};

/// Groups that a thread encodes before they are written: it bounds the memory
/// of a cut.
const BATCH: usize = 64;

/// Below this many groups a second thread costs more than it gives.
const FEW: usize = 8;

/// What is taken out of the head at one moment.
struct Taken {
    frozen: Vec<Arc<Frozen>>,
    groups: Vec<(u32, GroupRecord)>,
    columns: Vec<(u32, Arc<Columns>)>,
    gone: HashSet<u32>,
    /// The first log file that holds none of it.
    checkpoint: u64,
}

/// A block of a group with the number of its columns.
struct Encoded {
    group: u32,
    columns: u32,
    bytes: Vec<u8>,
}

impl Inner {
    /// Cuts the head into segments. What is not in them at the end stays
    /// readable and is taken again.
    pub(crate) fn cut(&self, keeper: &mut Keeper) -> Result<(), CatalogError> {
        self.finish(keeper)?;
        let began = Instant::now();
        let Some(taken) = self.take() else {
            return Ok(());
        };
        let mut pending = Pending {
            frozen: taken.frozen.iter().map(|frozen| frozen.id).collect(),
            log_before: Some(taken.checkpoint),
            gone: Some(taken.gone),
            ..Pending::default()
        };
        for day in days(&taken.frozen) {
            let range = day * DAY_MS..(day + 1) * DAY_MS;
            let opened = self.write_fresh(keeper, &taken.frozen, &range);
            match opened.inspect_err(|_| self.discard(&pending.opened)) {
                Ok(opened) => pending.opened.extend(opened.map(Arc::new)),
                Err(error) => return Err(error),
            }
        }
        let rows = pending.opened.iter().map(|listed| listed.row.clone());
        pending.change = CatalogChange {
            segments: rows.collect(),
            groups: taken.groups,
            columns: taken.columns,
            checkpoint: Some(taken.checkpoint),
            next_segment: Some(keeper.next_segment),
            ..CatalogChange::default()
        };
        pending.counts = Counts {
            cuts: 1,
            last_cut: began.elapsed(),
            ..Counts::default()
        };
        drop(taken.frozen);
        self.change(keeper, pending)
    }

    /// Freezes the head's rows and turns the log to a new file in one moment.
    fn take(&self) -> Option<Taken> {
        let mut head = lock(&self.head);
        let suspended = head.suspended;
        head.freeze_with_last(suspended);
        let changed = head.groups.iter();
        let changed = changed.filter(|(_, group)| group.note_changed || !group.listed);
        let record = |(key, group): (&_, &crate::head::Group)| {
            let record = GroupRecord {
                key: *key,
                note: group.note.to_vec(),
                gone: false,
            };
            (group.number, record)
        };
        let untold = head.gone_untold.iter().cloned();
        let groups: Vec<(u32, GroupRecord)> = changed.map(record).chain(untold).collect();
        let columns = lock::read(&self.registry).unlisted();
        if head.frozen.is_empty() && groups.is_empty() && columns.is_empty() {
            return None;
        }
        Some(Taken {
            frozen: head.frozen.clone(),
            groups,
            columns,
            gone: head.gone.clone(),
            checkpoint: self.wal.rotate(),
        })
    }

    /// Writes one day's rows of what is frozen.
    fn write_fresh(
        &self,
        keeper: &mut Keeper,
        frozen: &[Arc<Frozen>],
        range: &Range<u64>,
    ) -> Result<Option<Listed>, CatalogError> {
        let name = next_name(keeper);
        let written = self.create(name, Tier::Raw, Span::Fresh, &mut |writer| {
            self.write_groups(writer, frozen, range)
        });
        match written? {
            Some(summary) => self.open_new(name, summary).map(Some),
            None => Ok(None),
        }
    }

    /// Writes a segment under its temporary name.
    fn create(
        &self,
        name: SegmentName,
        tier: Tier,
        span: Span,
        write: &mut dyn FnMut(&mut SegmentWriter) -> Result<(), SegmentError>,
    ) -> Result<Option<Summary>, CatalogError> {
        let path = self.places().temporary(name);
        let _ = self.fs.remove(&path); // left by an earlier try
        let written = SegmentWriter::create(&self.fs, &path, tier, span).and_then(|mut writer| {
            write(&mut writer)?;
            writer.finish()
        });
        written.map_err(|error| {
            let _ = self.fs.remove(&path);
            refused(&error)
        })
    }

    /// Gives a segment that was written its name, and opens it.
    pub(crate) fn open_new(
        &self,
        name: SegmentName,
        summary: Summary,
    ) -> Result<Listed, CatalogError> {
        let places = self.places();
        let (from, path) = (places.temporary(name), places.segment(name));
        let named = self.fs.rename(&from, &path);
        let named = named.and_then(|()| self.fs.sync_dir(&places.segments));
        let opened = named
            .map_err(|error| unnamed(&path, &error))
            .and_then(|()| Segment::open(&self.fs, &path).map_err(|error| refused(&error)));
        match opened {
            Ok(segment) => Ok(Listed {
                row: SegmentRow { name, summary },
                content: Content::Open(Arc::new(segment)),
                quarantined: false,
                path,
            }),
            Err(error) => {
                let _ = self.fs.remove(&from);
                let _ = self.fs.remove(&path);
                Err(error)
            }
        }
    }

    /// Removes segments that were written for nothing.
    pub(crate) fn discard(&self, opened: &[Arc<Listed>]) {
        for listed in opened {
            let _ = self.fs.remove(&listed.path); // else at the next start
        }
    }

    pub(crate) fn places(&self) -> Places {
        Places::of(&self.options.dir)
    }

    fn write_groups(
        &self,
        writer: &mut SegmentWriter,
        frozen: &[Arc<Frozen>],
        range: &Range<u64>,
    ) -> Result<(), SegmentError> {
        let numbers = self.groups_in(frozen, range);
        let encode = |numbers: &[u32]| encode_groups(numbers, frozen, range);
        for two in numbers.chunks(2 * BATCH) {
            let (first, second) = two.split_at(match two.len() {
                0..FEW => two.len(),
                many => many / 2,
            });
            let (first, second) = match second.is_empty() {
                true => (encode(first), Encodings::default()),
                false => in_two(|| encode(first), || encode(second)).ok_or_else(panicked)?,
            };
            self.count_damaged(first.damaged + second.damaged);
            for encoded in first.blocks.into_iter().chain(second.blocks) {
                self.push(writer, &encoded)?;
            }
        }
        Ok(())
    }

    fn push(&self, writer: &mut SegmentWriter, encoded: &Encoded) -> Result<(), SegmentError> {
        let columns = lock::read(&self.registry).get(encoded.columns).cloned();
        let series = columns.iter().flat_map(|columns| columns.series());
        let mut kinds = series.map(|key| key.kind);
        let kinds: &mut dyn Iterator<Item = MetricKind> = &mut kinds;
        writer.push(encoded.group, &encoded.bytes, kinds)
    }

    /// Groups with rows in `range` whose data was not deleted.
    fn groups_in(&self, frozen: &[Arc<Frozen>], range: &Range<u64>) -> Vec<u32> {
        let head = lock(&self.head);
        let all = frozen.iter().flat_map(|frozen| &frozen.groups);
        let within = all.filter(|(_, pieces)| pieces.iter().any(|piece| piece.overlaps(range)));
        let numbers = within.map(|(number, _)| *number);
        let numbers: BTreeSet<u32> = numbers.filter(|n| !head.gone.contains(n)).collect();
        numbers.into_iter().collect()
    }
}

/// The next segment's number.
pub(crate) fn next_name(keeper: &mut Keeper) -> SegmentName {
    keeper.next_segment += 1;
    SegmentName(keeper.next_segment - 1)
}

/// What a segment's error means to who maintains.
pub(crate) fn refused(error: &SegmentError) -> CatalogError {
    let full = matches!(error, SegmentError::Io { source, .. } if is_full(source));
    CatalogError {
        why: chain(error),
        full,
    }
}

fn unnamed(path: &Path, error: &io::Error) -> CatalogError {
    CatalogError {
        why: format!("cannot name the segment {}: {error}", path.display()),
        full: is_full(error),
    }
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// The UTC days that rows touch.
fn days(frozen: &[Arc<Frozen>]) -> BTreeSet<u64> {
    let mut days = BTreeSet::new();
    let mut scratch = Scratch::default();
    for piece in frozen.iter().flat_map(|frozen| frozen.pieces()) {
        let (from, until) = piece.span();
        let (first, last) = (from / DAY_MS, until / DAY_MS);
        if first == last {
            days.insert(first);
        } else if let Ok(part) = piece.part(Wanted::Places(&[]), &mut scratch) {
            days.extend(part.times.iter().map(|at| at / DAY_MS));
        }
    }
    days
}

/// Does both at once, the second in a thread of its own; `None` if that one
/// panicked.
fn in_two<T: Send>(first: impl FnOnce() -> T, second: impl FnOnce() -> T + Send) -> Option<(T, T)> {
    std::thread::scope(|scope| {
        let other = scope.spawn(second);
        let mine = first();
        Some((mine, other.join().ok()?))
    })
}

/// Half of the groups have no blocks: nothing is listed, all is tried again.
fn panicked() -> SegmentError {
    SegmentError::Io {
        doing: "encode",
        path: PathBuf::new(),
        source: io::Error::other("a thread that encodes blocks panicked"),
    }
}

#[derive(Default)]
struct Encodings {
    blocks: Vec<Encoded>,
    damaged: u64,
}

/// The blocks of some groups, in order.
fn encode_groups(numbers: &[u32], frozen: &[Arc<Frozen>], range: &Range<u64>) -> Encodings {
    let mut out = Encodings::default();
    let mut scratch = Scratch::default();
    for number in numbers {
        let pieces = frozen.iter().flat_map(|frozen| frozen.of(*number));
        let pieces: Vec<&Piece> = pieces.filter(|piece| piece.overlaps(range)).collect();
        encode_group(*number, &pieces, range, &mut scratch, &mut out);
    }
    out
}

fn encode_group(
    group: u32,
    pieces: &[&Piece],
    range: &Range<u64>,
    scratch: &mut Scratch,
    out: &mut Encodings,
) {
    if let [Piece::Closed(only)] = pieces
        && only.from >= range.start
        && only.until < range.end
    {
        let bytes = only.bytes.to_vec();
        let columns = only.columns;
        return out.blocks.push(Encoded {
            group,
            columns,
            bytes,
        });
    }
    let mut parts = Vec::new();
    for piece in pieces {
        match piece.part(Wanted::All, scratch) {
            Ok(part) => parts.push(part),
            Err(error) => {
                tracing::error!(group, %error, "a block in memory is damaged; its rows are lost");
                out.damaged += 1;
            }
        }
    }
    for runs in alike(&parts, &merge(&parts, range)) {
        let columns = parts[runs[0].part].columns;
        let bytes = encode_runs(&parts, runs, scratch);
        out.blocks.push(Encoded {
            group,
            columns,
            bytes,
        });
    }
}

/// Runs with the same columns, together no more rows than a block takes.
fn alike<'a>(parts: &[Part], runs: &'a [Run]) -> Vec<&'a [Run]> {
    let mut groups = Vec::new();
    let (mut start, mut rows) = (0, 0);
    for (place, run) in runs.iter().enumerate() {
        let same = parts[run.part].columns == parts[runs[start].part].columns;
        if place > start && (!same || rows + run.rows.len() > codec::MAX_ROWS) {
            groups.push(&runs[start..place]);
            (start, rows) = (place, 0);
        }
        rows += run.rows.len();
    }
    if start < runs.len() {
        groups.push(&runs[start..]);
    }
    groups
}

fn encode_runs(parts: &[Part], runs: &[Run], scratch: &mut Scratch) -> Vec<u8> {
    let rows: usize = runs.iter().map(|run| run.rows.len()).sum();
    let first = &parts[runs[0].part];
    let width = first.values.len() / first.times.len().max(1);
    let mut times = Vec::with_capacity(rows);
    let mut breaks = Vec::new();
    for run in runs {
        let part = &parts[run.part];
        add_breaks(part, run, times.len(), &mut breaks);
        times.extend_from_slice(&part.times[run.rows.clone()]);
    }
    let mut values = Vec::with_capacity(rows * width);
    for column in 0..width {
        for run in runs {
            values.extend_from_slice(&parts[run.part].column(column)[run.rows.clone()]);
        }
    }
    let columns = ColumnsRef {
        columns: first.columns,
        width,
        times: &times,
        values: &values,
        breaks: &breaks,
    };
    let mut out = Vec::new();
    codec::encode_columns(columns, Effort::Fast, scratch, &mut out);
    out
}

/// The breaks of a run whose first row is to be the `place`-th.
fn add_breaks(part: &Part, run: &Run, place: usize, out: &mut Vec<(u32, Breaks)>) {
    let moved = |row: usize| u32::try_from(row - run.rows.start + place).expect("below 2^16 rows");
    if run.breaks {
        out.push((moved(run.rows.start), Breaks::All));
    }
    for (row, breaks) in part.breaks_in(&run.rows) {
        let row = *row as usize;
        if !(run.breaks && row == run.rows.start) {
            out.push((moved(row), breaks.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_is_not_taken_for_one_that_found_nothing() {
        assert_eq!(in_two(|| 1, || 2), Some((1, 2)));
        assert_eq!(in_two(|| 1, || panic!("as a test wants it")), None);
        assert!(refused(&panicked()).why.contains("panicked"));
    }
}
