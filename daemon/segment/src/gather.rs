//! One group's blocks out of several segments, and the order of their rows.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use codec::{Block, Scratch};
use model::{Breaks, Columns};

use crate::lanes::Lanes;
use crate::reader::open_block;
use crate::{Entry, Segment, Tier};

/// A block as it lies on the disk.
pub(crate) struct Raw {
    /// Which of the sources it is of.
    pub(crate) source: usize,
    /// Its file.
    pub(crate) path: PathBuf,
    /// What the index says of it.
    pub(crate) entry: Entry,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
}

impl Raw {
    /// Reads a block; what is wrong, if it cannot be.
    pub(crate) fn read((source, segment): (usize, &Segment), entry: &Entry) -> Result<Raw, String> {
        let mut bytes = Vec::new();
        match segment.read(entry, &mut bytes) {
            Ok(()) => Ok(Raw {
                source,
                path: segment.path().clone(),
                entry: *entry,
                bytes,
            }),
            Err(error) => Err(chain(&error)),
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// A block that is what its entry says.
pub(crate) struct Part<'a> {
    /// Which of the blocks as they lie on the disk.
    pub(crate) raw: usize,
    /// Which of the sources it is of.
    pub(crate) source: usize,
    /// Its values.
    pub(crate) block: Block<'a>,
    /// What its columns (those of the raw rows) are.
    pub(crate) columns: Arc<Columns>,
    /// When its rows were.
    pub(crate) times: Vec<u64>,
    /// Where counters lost continuity.
    pub(crate) breaks: Vec<(u32, Breaks)>,
    /// Of its rows those within the range.
    pub(crate) within: Range<usize>,
}

impl<'a> Part<'a> {
    /// Verifies everything but the columns' own bytes.
    pub(crate) fn open(
        (place, raw): (usize, &'a Raw),
        tier: Tier,
        range: &Range<u64>,
        columns: &dyn Fn(u32) -> Option<Arc<Columns>>,
        scratch: &mut Scratch,
    ) -> Result<Part<'a>, String> {
        let mut times = Vec::new();
        let block = open_block(&raw.bytes, &raw.entry, scratch, &mut times)?;
        let number = block.columns();
        let columns = columns(number).ok_or(format!("columns {number} are not known"))?;
        let width = match tier {
            Tier::Raw => columns.series().len(),
            Tier::Quarter | Tier::Hour => Lanes::new(columns.series()).width(),
        };
        if block.width() != width {
            return Err("its width is not that of its columns".to_owned());
        }
        let begin = times.partition_point(|time| *time < range.start);
        let end = times.partition_point(|time| *time < range.end);
        Ok(Part {
            raw: place,
            source: raw.source,
            breaks: block.breaks().map_err(|corrupt| corrupt.to_string())?,
            block,
            columns,
            times,
            within: begin..end.max(begin),
        })
    }

    /// The times of its rows within the range.
    fn times_within(&self) -> &[u64] {
        &self.times[self.within.clone()]
    }
}

/// Rows of one part that follow each other in the answer as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Which part.
    pub(crate) part: usize,
    /// Which of its rows.
    pub(crate) rows: Range<usize>,
}

/// All rows by time. Of rows of one instant the first part's stays; in the tiers
/// above raw all of its source stay, as they are parts of one bucket.
pub(crate) fn order(parts: &[Part<'_>], tier: Tier) -> Vec<Piece> {
    let mut places: Vec<usize> = (0..parts.len())
        .filter(|place| !parts[*place].within.is_empty())
        .collect();
    places.sort_by_key(|place| parts[*place].times_within()[0]);
    let follows = |pair: &[usize]| {
        let (before, behind) = (&parts[pair[0]], &parts[pair[1]]);
        let last = before.times_within().last();
        let first = behind.times_within().first();
        let may_share = tier != Tier::Raw && before.source == behind.source;
        last < first || may_share && last == first
    };
    if !places.windows(2).all(follows) {
        return interleave(parts, &places, tier);
    }
    let whole = |part: usize| Piece {
        part,
        rows: parts[part].within.clone(),
    };
    places.into_iter().map(whole).collect()
}

/// The same, row by row.
fn interleave(parts: &[Part<'_>], places: &[usize], tier: Tier) -> Vec<Piece> {
    let mut rows: Vec<(u64, usize, usize)> = Vec::new();
    for part in places {
        let within = parts[*part].within.clone();
        rows.extend(within.map(|row| (parts[*part].times[row], *part, row)));
    }
    rows.sort_unstable();
    let is_kept = |first: (u64, usize, usize), row: (u64, usize, usize)| {
        let of_one_source = parts[row.1].source == parts[first.1].source;
        row == first || tier != Tier::Raw && of_one_source
    };
    let instants = rows.chunk_by(|a, b| a.0 == b.0);
    let kept = instants.flat_map(|rows| rows.iter().filter(|row| is_kept(rows[0], **row)));
    let rows: Vec<(u64, usize, usize)> = kept.copied().collect();
    let chunks = rows.chunk_by(|a, b| (a.1, a.2 + 1) == (b.1, b.2));
    let piece = |chunk: &[(u64, usize, usize)]| Piece {
        part: chunk[0].1,
        rows: chunk[0].2..chunk[0].2 + chunk.len(),
    };
    chunks.map(piece).collect()
}

/// Cuts a run of pieces into blocks of about `target` rows: between pieces
/// where that will do, as a piece that is cut is decoded for each of its parts.
pub(crate) fn cut(run: &[Piece], target: usize) -> Vec<Vec<Piece>> {
    let rows: usize = run.iter().map(|piece| piece.rows.len()).sum();
    let goal = rows.div_ceil(rows.div_ceil(target).max(1));
    let mut blocks: Vec<Vec<Piece>> = Vec::new();
    let mut open: Vec<Piece> = Vec::new();
    let mut filled = 0;
    for piece in run.iter().flat_map(|piece| halves(piece, target)) {
        if filled >= goal || filled + piece.rows.len() > target && filled > 0 {
            blocks.push(std::mem::take(&mut open));
            filled = 0;
        }
        filled += piece.rows.len();
        open.push(piece);
    }
    blocks.push(open);
    blocks
}

/// A piece in even parts of at most `target` rows.
fn halves(piece: &Piece, target: usize) -> impl Iterator<Item = Piece> {
    let (part, rows) = (piece.part, piece.rows.clone());
    let count = rows.len().div_ceil(target).max(1);
    let size = rows.len().div_ceil(count).max(1);
    rows.clone().step_by(size).map(move |begin| Piece {
        part,
        rows: begin..(begin + size).min(rows.end),
    })
}

/// Columns of several parts put together, with what was decoded of parts of
/// which a block takes only some rows.
#[derive(Default)]
pub(crate) struct Joiner {
    scratch: Scratch,
    /// By part: which column, and its values.
    decoded: Vec<Option<(usize, Vec<f64>)>>,
}

impl Joiner {
    /// One for another group.
    pub(crate) fn begin(&mut self, parts: usize) {
        self.decoded.clear();
        self.decoded.resize_with(parts, || None);
    }

    /// Appends the values of a column. On an error: whose bytes are wrong, and
    /// how.
    pub(crate) fn column(
        &mut self,
        parts: &[Part<'_>],
        pieces: &[Piece],
        column: usize,
        out: &mut Vec<f64>,
    ) -> Result<(), (usize, String)> {
        for piece in pieces {
            let part = &parts[piece.part];
            let bad = |corrupt: codec::Corrupt| (piece.part, corrupt.to_string());
            if piece.rows == (0..part.times.len()) {
                let decoded = part.block.column(column, &mut self.scratch, out);
                decoded.map_err(bad)?;
                continue;
            }
            let slot = &mut self.decoded[piece.part];
            let (of, values) = slot.get_or_insert_with(|| (usize::MAX, Vec::new()));
            if *of != column {
                values.clear();
                *of = usize::MAX;
                let decoded = part.block.column(column, &mut self.scratch, values);
                decoded.map_err(bad)?;
                *of = column;
            }
            out.extend_from_slice(&values[piece.rows.clone()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(part: usize, rows: Range<usize>) -> Piece {
        Piece { part, rows }
    }

    #[test]
    fn a_day_is_one_block_and_a_long_run_several_of_the_same_size() {
        let hours: Vec<Piece> = (0..24).map(|part| piece(part, 0..120)).collect();
        assert_eq!(cut(&hours, 4_096), std::slice::from_ref(&hours));
        let hours: Vec<Piece> = (0..24).map(|part| piece(part, 0..360)).collect();
        let blocks: Vec<usize> = cut(&hours, 4_096).iter().map(Vec::len).collect();
        assert_eq!(blocks, [8, 8, 8]);
    }

    #[test]
    fn a_piece_that_is_too_long_is_cut() {
        let blocks = cut(&[piece(7, 5..10_005)], 4_096);
        let expected = [
            vec![piece(7, 5..3_339)],
            vec![piece(7, 3_339..6_673)],
            vec![piece(7, 6_673..10_005)],
        ];
        assert_eq!(blocks, expected);
    }
}
