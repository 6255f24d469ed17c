//! Rows of one group in memory: open ones, closed blocks, and their merging.

use std::ops::Range;
use std::sync::Arc;

use codec::{Block, Corrupt, Effort, RowsRef, Scratch};
use model::Breaks;

use crate::head::BLOCK_ROWS;

/// Rows with the same columns, by time, as they were polled.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenRows {
    /// The number of their columns.
    pub(crate) columns: u32,
    /// Values of a row.
    pub(crate) width: usize,
    /// Rising strictly.
    pub(crate) times: Vec<u64>,
    /// Row by row.
    pub(crate) values: Vec<f64>,
    /// By place, rising.
    pub(crate) breaks: Vec<(u32, Breaks)>,
}

impl OpenRows {
    /// The memory of its rows.
    pub(crate) fn bytes(&self) -> usize {
        self.times.len() * row_bytes(self.width)
    }

    /// Whether rows of it may lie in `range`.
    pub(crate) fn overlaps(&self, range: &Range<u64>) -> bool {
        let ends = self.times.first().zip(self.times.last());
        ends.is_some_and(|(from, until)| *from < range.end && *until >= range.start)
    }

    /// Adds a row, at its place in time. `false`: there is one of its instant.
    pub(crate) fn add(&mut self, at: u64, values: &[f64], breaks: Breaks, room: usize) -> bool {
        if self.times.is_empty() {
            self.values.reserve_exact(room * self.width);
            self.times.reserve_exact(room);
        }
        if self.times.last().is_some_and(|last| at <= *last) {
            return self.insert(at, values, breaks);
        }
        if breaks != Breaks::None {
            self.breaks.push((place(self.times.len()), breaks));
        }
        self.times.push(at);
        self.values.extend_from_slice(values);
        true
    }

    /// Puts a row between others: the next one is not known to go on from it.
    fn insert(&mut self, at: u64, values: &[f64], breaks: Breaks) -> bool {
        let Err(row) = self.times.binary_search(&at) else {
            return false;
        };
        self.times.insert(row, at);
        let start = row * self.width;
        self.values.splice(start..start, values.iter().copied());
        let row = place(row);
        self.breaks.retain(|(broken, _)| *broken != row);
        let behind = self.breaks.partition_point(|(broken, _)| *broken < row);
        for (broken, _) in &mut self.breaks[behind..] {
            *broken += 1;
        }
        let next = self.breaks.get_mut(behind);
        match next.filter(|(broken, _)| *broken == row + 1) {
            Some(next) => next.1 = Breaks::All,
            None => self.breaks.insert(behind, (row + 1, Breaks::All)),
        }
        if breaks != Breaks::None {
            self.breaks.insert(behind, (row, breaks));
        }
        true
    }

    /// The rows as a block; they are gone from here, their memory is not.
    pub(crate) fn close(&mut self, scratch: &mut Scratch) -> ClosedRows {
        let closed = self.encoded(scratch);
        self.times.clear();
        self.values.clear();
        self.breaks.clear();
        closed
    }

    fn encoded(&self, scratch: &mut Scratch) -> ClosedRows {
        let rows = RowsRef {
            columns: self.columns,
            width: self.width,
            times: &self.times,
            values: &self.values,
            breaks: &self.breaks,
        };
        let mut bytes = Vec::new();
        codec::encode_rows(rows, Effort::Fast, scratch, &mut bytes);
        ClosedRows {
            columns: self.columns,
            width: self.width,
            rows: self.times.len(),
            from: self.times.first().copied().unwrap_or_default(),
            until: self.times.last().copied().unwrap_or_default(),
            bytes: Arc::from(bytes),
        }
    }

    /// Its rows with the wanted columns.
    pub(crate) fn part(&self, places: Wanted<'_>) -> Part {
        let column = |place: usize| self.values.iter().skip(place).step_by(self.width).copied();
        let mut values = Vec::with_capacity(places.count(self.width) * self.times.len());
        places.each(self.width, |place| values.extend(column(place)));
        Part {
            columns: self.columns,
            times: self.times.clone(),
            values,
            breaks: self.breaks.clone(),
        }
    }
}

/// Whether one of some times, which rise, is in a range.
pub(crate) fn is_within(times: &[u64], range: &Range<u64>) -> bool {
    let first = times.partition_point(|at| *at < range.start);
    times.get(first).is_some_and(|at| *at < range.end)
}

/// The memory of an open row.
pub(crate) fn row_bytes(width: usize) -> usize {
    8 * (width + 1)
}

fn place(row: usize) -> u32 {
    u32::try_from(row).expect("a block has at most 2^16 rows")
}

/// Rows that were encoded.
#[derive(Clone, Debug)]
pub(crate) struct ClosedRows {
    pub(crate) columns: u32,
    pub(crate) width: usize,
    pub(crate) rows: usize,
    pub(crate) from: u64,
    pub(crate) until: u64,
    pub(crate) bytes: Arc<[u8]>,
}

impl ClosedRows {
    /// Whether one of its rows is of these instants.
    pub(crate) fn holds(&self, range: &Range<u64>, scratch: &mut Scratch) -> bool {
        if self.from >= range.end || self.until < range.start {
            return false;
        }
        let mut times = Vec::with_capacity(self.rows);
        let read = Block::open(&self.bytes).and_then(|b| b.times(scratch, &mut times));
        read.is_ok() && is_within(&times, range)
    }
}

/// Rows of a group that were stored one after the other.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Closed(ClosedRows),
    Open(OpenRows),
}

impl Piece {
    pub(crate) fn rows(&self) -> usize {
        match self {
            Piece::Closed(closed) => closed.rows,
            Piece::Open(open) => open.times.len(),
        }
    }

    pub(crate) fn samples(&self) -> usize {
        match self {
            Piece::Closed(closed) => closed.rows * closed.width,
            Piece::Open(open) => open.values.len(),
        }
    }

    pub(crate) fn columns(&self) -> u32 {
        match self {
            Piece::Closed(closed) => closed.columns,
            Piece::Open(open) => open.columns,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Piece::Closed(closed) => closed.bytes.len(),
            Piece::Open(open) => open.bytes(),
        }
    }

    /// The first row's time and the last one's.
    pub(crate) fn span(&self) -> (u64, u64) {
        match self {
            Piece::Closed(closed) => (closed.from, closed.until),
            Piece::Open(open) => (
                open.times.first().copied().unwrap_or(u64::MAX),
                open.times.last().copied().unwrap_or(0),
            ),
        }
    }

    pub(crate) fn overlaps(&self, range: &Range<u64>) -> bool {
        let (from, until) = self.span();
        from < range.end && until >= range.start
    }

    /// Whether one of its rows is of these instants.
    pub(crate) fn holds(&self, range: &Range<u64>, scratch: &mut Scratch) -> bool {
        match self {
            Piece::Closed(closed) => closed.holds(range, scratch),
            Piece::Open(open) => is_within(&open.times, range),
        }
    }

    /// Its rows, with the wanted columns.
    pub(crate) fn part(&self, wanted: Wanted<'_>, scratch: &mut Scratch) -> Result<Part, Corrupt> {
        match self {
            Piece::Closed(closed) => Part::of_block(&closed.bytes, wanted, scratch),
            Piece::Open(open) => Ok(open.part(wanted)),
        }
    }
}

/// Adds a piece behind others; open rows that go on become one, and a block
/// once they are as many as a block has.
pub(crate) fn join(pieces: &mut Vec<Piece>, piece: Piece, scratch: &mut Scratch) {
    let (Some(Piece::Open(last)), Piece::Open(more)) = (pieces.last_mut(), &piece) else {
        return pieces.push(piece);
    };
    let alike = last.columns == more.columns && last.width == more.width;
    if !alike || last.times.last() >= more.times.first() {
        return pieces.push(piece);
    }
    let rows = last.times.len();
    let moved = |(row, breaks): &(u32, Breaks)| (row + place(rows), breaks.clone());
    last.breaks.extend(more.breaks.iter().map(moved));
    last.times.extend_from_slice(&more.times);
    last.values.extend_from_slice(&more.values);
    if last.times.len() >= *BLOCK_ROWS.end() {
        let closed = last.close(scratch);
        pieces.pop();
        pieces.push(Piece::Closed(closed));
    }
}

/// Which columns.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted<'a> {
    All,
    Places(&'a [u32]),
}

impl Wanted<'_> {
    fn count(self, width: usize) -> usize {
        match self {
            Wanted::All => width,
            Wanted::Places(places) => places.len(),
        }
    }

    fn each(self, width: usize, mut each: impl FnMut(usize)) {
        match self {
            Wanted::All => (0..width).for_each(each),
            Wanted::Places(places) => places.iter().for_each(|place| each(*place as usize)),
        }
    }
}

/// Rows with the same columns, by time, of which some columns were read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Part {
    /// The number of their columns.
    pub(crate) columns: u32,
    /// Rising strictly.
    pub(crate) times: Vec<u64>,
    /// Of each wanted column, one value per row.
    pub(crate) values: Vec<f64>,
    /// By place, rising.
    pub(crate) breaks: Vec<(u32, Breaks)>,
}

impl Part {
    /// What a block holds.
    pub(crate) fn of_block(
        bytes: &[u8],
        wanted: Wanted<'_>,
        scratch: &mut Scratch,
    ) -> Result<Part, Corrupt> {
        let block = Block::open(bytes)?;
        let mut times = Vec::with_capacity(block.rows());
        block.times(scratch, &mut times)?;
        let mut values = Vec::with_capacity(wanted.count(block.width()) * block.rows());
        let mut read = Ok(());
        wanted.each(block.width(), |place| {
            if read.is_ok() {
                read = block.column(place, scratch, &mut values);
            }
        });
        read?;
        Ok(Part {
            columns: block.columns(),
            times,
            values,
            breaks: block.breaks()?,
        })
    }

    /// The values of the `wanted`-th wanted column.
    pub(crate) fn column(&self, wanted: usize) -> &[f64] {
        let rows = self.times.len();
        &self.values[wanted * rows..(wanted + 1) * rows]
    }

    /// Where counters broke within some rows.
    pub(crate) fn breaks_in(&self, rows: &Range<usize>) -> &[(u32, Breaks)] {
        let before = |row: usize| self.breaks.partition_point(|(at, _)| (*at as usize) < row);
        &self.breaks[before(rows.start)..before(rows.end)]
    }
}

/// Rows of a part that follow each other in time without another part's
/// between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Which part.
    pub(crate) part: usize,
    /// Which rows of it.
    pub(crate) rows: Range<usize>,
    /// Its first row follows one that was stored later: counters break, as
    /// what the row says of that was measured against another one.
    pub(crate) breaks: bool,
}

/// The rows of parts, which were stored in this order, by time within `range`.
/// Of two of one instant the one that was stored first stays.
pub(crate) fn merge(parts: &[Part], range: &Range<u64>) -> Vec<Run> {
    let in_order = |pair: &[Part]| match (pair[0].times.last(), pair[1].times.first()) {
        (Some(last), Some(first)) => last < first,
        _ => true,
    };
    match parts.windows(2).all(in_order) {
        true => each_whole(parts, range),
        false => woven(parts, range),
    }
}

fn within(part: &Part, range: &Range<u64>) -> Range<usize> {
    let before = |at: u64| part.times.partition_point(|time| *time < at);
    before(range.start)..before(range.end)
}

fn each_whole(parts: &[Part], range: &Range<u64>) -> Vec<Run> {
    let run = |(place, part): (usize, &Part)| Run {
        part: place,
        rows: within(part, range),
        breaks: false,
    };
    let runs = parts.iter().enumerate().map(run);
    runs.filter(|run| !run.rows.is_empty()).collect()
}

fn woven(parts: &[Part], range: &Range<u64>) -> Vec<Run> {
    let mut rows: Vec<(u64, usize, usize)> = Vec::new();
    for (place, part) in parts.iter().enumerate() {
        rows.extend(within(part, range).map(|row| (part.times[row], place, row)));
    }
    rows.sort_unstable();
    rows.dedup_by_key(|(at, ..)| *at);
    let mut runs: Vec<Run> = Vec::new();
    for (_, part, row) in rows {
        match runs.last_mut() {
            Some(run) if run.part == part && run.rows.end == row => run.rows.end += 1,
            last => {
                let breaks = last.is_some_and(|run| run.part > part);
                let rows = row..row + 1;
                runs.push(Run { part, rows, breaks });
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(times: &[u64]) -> Part {
        Part {
            times: times.to_vec(),
            ..Part::default()
        }
    }

    fn run(part: usize, rows: Range<usize>, breaks: bool) -> Run {
        Run { part, rows, breaks }
    }

    #[test]
    fn parts_in_order_are_runs_as_they_are() {
        let parts = [part(&[1, 2]), part(&[3, 4, 5])];
        let runs = merge(&parts, &(2..5));
        assert_eq!(runs, [run(0, 1..2, false), run(1, 0..2, false)]);
    }

    #[test]
    fn the_row_behind_a_late_one_breaks_and_the_first_of_two_stays() {
        let parts = [part(&[1, 3, 4]), part(&[2, 4, 5])];
        let runs = merge(&parts, &(0..9));
        let wanted = [
            run(0, 0..1, false),
            run(1, 0..1, false),
            run(0, 1..3, true),
            run(1, 2..3, false),
        ];
        assert_eq!(runs, wanted);
    }

    #[test]
    fn a_row_that_comes_late_breaks_itself_and_the_next() {
        let mut rows = OpenRows {
            width: 1,
            ..OpenRows::default()
        };
        assert!(rows.add(10, &[1.0], Breaks::All, 4));
        assert!(rows.add(30, &[3.0], Breaks::None, 4));
        assert!(rows.add(40, &[4.0], Breaks::Columns(vec![0]), 4));
        assert!(rows.add(20, &[2.0], Breaks::All, 4));
        assert!(!rows.add(30, &[9.0], Breaks::None, 4));
        assert_eq!(rows.times, [10, 20, 30, 40]);
        assert_eq!(rows.values, [1.0, 2.0, 3.0, 4.0]);
        let breaks = [
            (0, Breaks::All),
            (1, Breaks::All),
            (2, Breaks::All),
            (3, Breaks::Columns(vec![0])),
        ];
        assert_eq!(rows.breaks, breaks);
    }
}
