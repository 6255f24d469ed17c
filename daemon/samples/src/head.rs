//! The head: what is not in a segment yet.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, RwLock};

use codec::Scratch;
use model::{Breaks, Columns, GroupKey, Timestamp};

use crate::catalog::GroupRecord;
use crate::engine::{Append, Options, Refused};
use crate::limits::{self, Begun};
use crate::lock;
use crate::record;
use crate::registry::Registry;
use crate::rows::{OpenRows, Piece, is_within, row_bytes};
use crate::shelf::Shelf;

/// Rows of a block of the head: fewer compress badly, more gain nothing.
pub(crate) const BLOCK_ROWS: std::ops::RangeInclusive<usize> = 30..=120;

/// A group that is not gone.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) number: u32,
    /// The newest row that was ever stored.
    pub(crate) newest: Option<u64>,
    /// The row that was stored last; `None` if nobody knows since the start.
    pub(crate) last: Option<u64>,
    /// Those of the row that came last.
    pub(crate) columns: Option<(u32, Arc<Columns>)>,
    pub(crate) closed: Vec<Piece>,
    pub(crate) open: OpenRows,
    pub(crate) note: Arc<[u8]>,
    /// The catalog has another note, or none.
    pub(crate) note_changed: bool,
    /// The catalog has the group.
    pub(crate) listed: bool,
    /// Series that count as active because of its rows in the head.
    pub(crate) active: usize,
}

impl Group {
    pub(crate) fn new(number: u32) -> Group {
        Group {
            number,
            newest: None,
            last: None,
            columns: None,
            closed: Vec::new(),
            open: OpenRows::default(),
            note: Arc::default(),
            note_changed: false,
            listed: false,
            active: 0,
        }
    }

    /// Adds a row; rows of other columns are closed first, and so are as many
    /// as `room`. `false`: the open rows have one of its instant.
    pub(crate) fn add(&mut self, row: NewRow<'_>, room: usize, scratch: &mut Scratch) -> bool {
        let open = &mut self.open;
        let fits = open.columns == row.columns && open.width == row.values.len();
        if !open.times.is_empty() && (!fits || open.times.len() >= room) {
            self.closed.push(Piece::Closed(open.close(scratch)));
        }
        open.columns = row.columns;
        open.width = row.values.len();
        self.newest = self.newest.max(Some(row.at));
        self.last = Some(row.at);
        open.add(row.at, row.values, row.breaks, room)
    }

    /// Takes its rows away, in the order in which they were stored.
    pub(crate) fn take(&mut self) -> Vec<Piece> {
        let mut pieces = std::mem::take(&mut self.closed);
        let open = std::mem::take(&mut self.open);
        if !open.times.is_empty() {
            pieces.push(Piece::Open(open));
        }
        self.active = 0;
        pieces
    }

    /// Whether its rows in the head have one of these instants.
    fn holds(&self, range: &Range<u64>, scratch: &mut Scratch) -> bool {
        is_within(&self.open.times, range)
            || self.closed.iter().any(|piece| piece.holds(range, scratch))
    }

    fn is_empty(&self) -> bool {
        self.open.times.is_empty() && self.closed.is_empty()
    }
}

/// A row with the number of its columns.
#[derive(Clone, Debug)]
pub(crate) struct NewRow<'a> {
    pub(crate) at: u64,
    pub(crate) columns: u32,
    pub(crate) values: &'a [f64],
    pub(crate) breaks: Breaks,
}

/// Rows that were taken out of the head and are not in a listed segment yet.
#[derive(Clone, Debug)]
pub(crate) struct Frozen {
    pub(crate) id: u64,
    /// They came while the log was suspended: if room is needed they go.
    pub(crate) unlogged: bool,
    /// The log may have lost some of them: they must get into a segment.
    pub(crate) is_backlog: bool,
    /// By number.
    pub(crate) groups: Vec<(u32, Vec<Piece>)>,
}

impl Frozen {
    /// The rows of a group, in the order in which they were stored.
    pub(crate) fn of(&self, group: u32) -> &[Piece] {
        let found = self
            .groups
            .binary_search_by_key(&group, |(number, _)| *number);
        found.map_or(&[], |place| &self.groups[place].1)
    }

    pub(crate) fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.groups.iter().flat_map(|(_, pieces)| pieces)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.pieces().map(Piece::bytes).sum()
    }
}

/// How much the head holds, that which is frozen not included.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    pub(crate) rows: u64,
    pub(crate) samples: u64,
    pub(crate) bytes: usize,
}

/// Why rows were refused: the places of [`Refused`]'s words.
pub(crate) const REFUSALS: [&str; 6] = [
    "duplicate",
    "too_old",
    "too_new",
    "shape",
    "labels",
    "too_many_series",
];

fn refusal(why: &Refused) -> usize {
    match why {
        Refused::Duplicate { .. } => 0,
        Refused::TooOld { .. } => 1,
        Refused::TooNew { .. } => 2,
        Refused::Shape { .. } => 3,
        Refused::Labels { .. } => 4,
        Refused::TooManySeries { .. } => 5,
    }
}

/// See the module. Everything in it is consistent at any moment: a reader that
/// holds its lock sees each row in the shelf, in what is frozen or in a group.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) groups: HashMap<GroupKey, Group>,
    /// Numbers of groups whose data was deleted.
    pub(crate) gone: HashSet<u32>,
    /// Those of them of which the catalog does not know it: they are told with
    /// the next change.
    pub(crate) gone_untold: Vec<(u32, GroupRecord)>,
    pub(crate) next_group: u32,
    /// Oldest first.
    pub(crate) frozen: Vec<Arc<Frozen>>,
    pub(crate) next_frozen: u64,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) begun: Begun,
    pub(crate) held: Held,
    /// Bytes of what is frozen and was never logged.
    pub(crate) unlogged: usize,
    /// Series with rows in the head.
    pub(crate) active: usize,
    /// As many there were when the head was cut.
    pub(crate) active_before: usize,
    /// Whoever appends says again what its numbers stand for: the log that said
    /// it may be lost.
    pub(crate) resuming: bool,
    /// The log is known to be suspended.
    pub(crate) suspended: bool,
    pub(crate) scratch: Scratch,
    pub(crate) appended: u64,
    pub(crate) refused: [u64; 6],
    pub(crate) dropped: u64,
}

/// Rows after which a block is closed.
pub(crate) fn block_rows(open_bytes: usize, series: usize) -> usize {
    let rows = open_bytes / (8 * series.max(1));
    rows.clamp(*BLOCK_ROWS.start(), *BLOCK_ROWS.end())
}

impl Head {
    /// Keeps a row and writes its record, or says why not.
    pub(crate) fn append(
        &mut self,
        row: &Append<'_>,
        now: Timestamp,
        options: &Options,
        registry: &RwLock<Registry>,
        log: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let kept = match row.values.is_empty() {
            true => {
                self.group(row.group, log);
                Ok(())
            }
            false => self.append_row(row, now, options, registry, log),
        };
        match kept {
            Ok(()) => self.keep_note(row, log),
            Err(ref why) => self.refused[refusal(why)] += 1,
        }
        kept
    }

    fn append_row(
        &mut self,
        row: &Append<'_>,
        now: Timestamp,
        options: &Options,
        registry: &RwLock<Registry>,
        log: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        limits::check_shape(row)?;
        limits::check_time(row.at, options.keep.raw, now)?;
        let late = self.check_order(row)?;
        let columns = self.columns(row, now, options, registry, log)?;
        let number = self.group(row.group, log).number;
        let breaks = match late {
            true => Breaks::All,
            false => row.breaks.clone(),
        };
        record::put_row(number, columns, row.at.0, &breaks, row.values, log);
        let new = NewRow {
            at: row.at.0,
            columns,
            values: row.values,
            breaks,
        };
        self.add(row.group, new, options.open_bytes);
        self.appended += row.values.len() as u64;
        Ok(())
    }

    /// Whether what the row says of its counters was measured against another
    /// row than the one before it in time; refuses a second row of an instant.
    fn check_order(&mut self, row: &Append<'_>) -> Result<bool, Refused> {
        let Some(group) = self.groups.get(&row.group) else {
            return Ok(false);
        };
        let at = row.at.0;
        match group.newest {
            Some(newest) if at <= newest => {}
            _ => return Ok(false),
        }
        let frozen = || {
            let all = self.frozen.iter();
            all.flat_map(|frozen| frozen.of(group.number))
        };
        let scratch = &mut self.scratch;
        let mut holds = |range: &Range<u64>| {
            group.holds(range, scratch) || frozen().any(|piece| piece.holds(range, scratch))
        };
        if group.newest == Some(at) || holds(&(at..at + 1)) {
            return Err(Refused::Duplicate { at: row.at });
        }
        // a row of the future does not break all that come before it
        Ok(match group.last {
            Some(last) if last < at => holds(&(last + 1..at)),
            _ => true,
        })
    }

    /// The number of a row's columns, which it gets if they are new.
    fn columns(
        &mut self,
        row: &Append<'_>,
        now: Timestamp,
        options: &Options,
        registry: &RwLock<Registry>,
        log: &mut Vec<u8>,
    ) -> Result<u32, Refused> {
        let group = self.groups.get(&row.group);
        let old = group.and_then(|group| group.columns.as_ref());
        if let Some((number, columns)) = old
            && Arc::ptr_eq(columns, row.columns)
            && !self.resuming
        {
            return Ok(*number);
        }
        let old_number = old.map(|(number, _)| *number);
        let is_same = old.is_some_and(|(_, columns)| **columns == **row.columns);
        if !is_same {
            limits::check_labels(row.columns)?;
            let device = row.group.device;
            let old = old.map(|(_, columns)| &**columns);
            let limit = options.series_per_device;
            self.begun.count(device, old, row.columns, limit, now)?;
            if lock::read(registry).find(row.columns).is_none() {
                let width = row.columns.series().len();
                self.begun.count_set(device, width, limit)?;
            }
        }
        let number = match old_number {
            Some(number) if is_same && !self.resuming => number,
            _ => self.register(row.columns, registry, log),
        };
        if let Some(group) = self.groups.get_mut(&row.group) {
            group.columns = Some((number, Arc::clone(row.columns)));
        }
        Ok(number)
    }

    fn register(
        &self,
        columns: &Arc<Columns>,
        registry: &RwLock<Registry>,
        log: &mut Vec<u8>,
    ) -> u32 {
        let known = lock::read(registry).find(columns);
        let number = known.unwrap_or_else(|| lock::write(registry).add(columns));
        let is_unlisted = || !lock::read(registry).is_listed(number);
        if known.is_none() || (self.resuming && is_unlisted()) {
            record::put_columns(number, columns, log);
        }
        number
    }

    /// The group of this key, which begins if it is not there.
    fn group(&mut self, key: GroupKey, log: &mut Vec<u8>) -> &mut Group {
        let next = &mut self.next_group;
        let mut begins = false;
        let group = self.groups.entry(key).or_insert_with(|| {
            begins = true;
            *next += 1;
            Group::new(*next - 1)
        });
        if begins || (self.resuming && !group.listed) {
            record::put_group(group.number, key, log);
        }
        group
    }

    fn keep_note(&mut self, row: &Append<'_>, log: &mut Vec<u8>) {
        let Some(note) = row.note else { return };
        let resuming = self.resuming;
        let group = self.group(row.group, log);
        if *group.note == *note && !(resuming && group.note_changed) {
            return;
        }
        record::put_note(group.number, note, log);
        group.note = Arc::from(note);
        group.note_changed = true;
    }

    /// Adds a row to a group that is there.
    pub(crate) fn add(&mut self, key: GroupKey, row: NewRow<'_>, open_bytes: usize) {
        let room = block_rows(open_bytes, self.active.max(self.active_before));
        let Some(group) = self.groups.get_mut(&key) else {
            return;
        };
        let width = row.values.len();
        if group.active != width {
            self.active = self.active + width - group.active;
            group.active = width;
        }
        let (blocks, open) = (group.closed.len(), group.open.bytes());
        if !group.add(row, room, &mut self.scratch) {
            return;
        }
        self.held.rows += 1;
        self.held.samples += width as u64;
        self.held.bytes += row_bytes(width);
        if let Some(Piece::Closed(closed)) = group.closed.get(blocks) {
            self.held.bytes = self.held.bytes + closed.bytes.len() - open;
        }
    }

    /// Takes all rows out of the groups; they are frozen from now on. `false`:
    /// there are none.
    pub(crate) fn freeze(&mut self, unlogged: bool) -> bool {
        let with_rows = self.groups.values_mut().filter(|group| !group.is_empty());
        let taken = with_rows.map(|group| (group.number, group.take()));
        let mut groups: Vec<(u32, Vec<Piece>)> = taken.collect();
        self.held = Held::default();
        if groups.is_empty() {
            return false;
        }
        groups.sort_unstable_by_key(|(number, _)| *number);
        self.active_before = self.active;
        self.active = 0;
        let id = self.next_frozen;
        self.next_frozen += 1;
        let frozen = Frozen {
            id,
            unlogged,
            is_backlog: unlogged,
            groups,
        };
        self.unlogged += if unlogged { frozen.bytes() } else { 0 };
        self.frozen.push(Arc::new(frozen));
        true
    }

    /// Logs again what the catalog does not have: the log may have lost it.
    pub(crate) fn define_again(&self, registry: &RwLock<Registry>, log: &mut Vec<u8>) {
        for (number, columns) in lock::read(registry).unlisted() {
            record::put_columns(number, &columns, log);
        }
        for (key, group) in &self.groups {
            if !group.listed {
                record::put_group(group.number, *key, log);
            }
            if group.note_changed {
                record::put_note(group.number, &group.note, log);
            }
        }
    }
}
