//! The log at a start: its frames, read by two threads that share the groups.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use codec::Scratch;
use model::{Columns, GroupKey};
use wal::{Replay, Wal, WalError};

use crate::head::{Group, NewRow, block_rows};
use crate::record::{self, Record, Records, RowRecord};

/// Threads that read rows; a group's rows are read by one of them, in order.
const READERS: usize = 2;

/// Frames that wait for each of them: what one reads while another one was
/// written by a cut.
const AHEAD: usize = 64;

/// What the log says.
#[derive(Debug, Default)]
pub(crate) struct Logged {
    /// Groups that it defines.
    pub(crate) keys: HashMap<u32, GroupKey>,
    /// Columns that it defines.
    pub(crate) columns: HashMap<u32, Arc<Columns>>,
    /// The latest notes.
    pub(crate) notes: HashMap<u32, Arc<[u8]>>,
    /// Rows by group, as they would lie in the head.
    pub(crate) rows: HashMap<u32, Group>,
    /// Numbers of columns below this may stand in it.
    pub(crate) columns_below: u32,
    /// Numbers of groups below this may stand in it.
    pub(crate) groups_below: u32,
    /// Records that make no sense.
    pub(crate) garbled: u64,
}

/// Opens the log and reads it. `skip`: groups whose rows are not wanted.
pub(crate) fn read(
    open_bytes: usize,
    skip: &(dyn Fn(u32) -> bool + Sync),
    open: impl FnOnce(&mut dyn FnMut(Vec<u8>)) -> Result<(Wal, Replay), WalError>,
) -> Result<(Wal, Replay, Logged), WalError> {
    std::thread::scope(|scope| {
        let mut senders = Vec::new();
        let mut readers = Vec::new();
        for mine in 0..READERS {
            let (sender, frames) = sync_channel(AHEAD);
            senders.push(sender);
            readers.push(scope.spawn(move || Reader::new(mine, open_bytes).read(&frames, skip)));
        }
        let mut logged = Logged::default();
        let opened = open(&mut |frame| hand_out(frame, &mut logged, &senders));
        drop(senders);
        let mut panicked = false;
        for reader in readers {
            match reader.join() {
                Ok((rows, garbled)) => {
                    logged.rows.extend(rows);
                    logged.garbled += garbled;
                }
                Err(_) => panicked = true,
            }
        }
        let (wal, replay) = opened?;
        if panicked {
            // without its rows the next cut would remove the log for good
            let _ = wal.close();
            return Err(WalError {
                doing: "read",
                path: PathBuf::from("the log"),
                source: io::Error::other("a thread that reads rows panicked"),
            });
        }
        Ok((wal, replay, logged))
    })
}

/// Notes what a frame defines, and gives it to who reads its rows.
fn hand_out(frame: Vec<u8>, logged: &mut Logged, readers: &[SyncSender<Arc<Vec<u8>>>]) {
    for record in Records::of(&frame) {
        logged.define(record);
    }
    let frame = Arc::new(frame);
    for reader in readers {
        // a reader that is gone panicked: the start fails in the end
        let _ = reader.send(Arc::clone(&frame));
    }
}

impl Logged {
    fn define(&mut self, record: Result<Record<'_>, record::Garbled>) {
        match record {
            Ok(Record::Group { group, key }) => {
                self.sees_group(group);
                self.keys.insert(group, key);
            }
            Ok(Record::Columns { columns, bytes }) => {
                self.sees_columns(columns);
                match record::columns_of(bytes) {
                    Ok(what) => drop(self.columns.insert(columns, what)),
                    Err(record::Garbled) => self.garbled += 1,
                }
            }
            Ok(Record::Note { group, note }) => {
                self.sees_group(group);
                self.notes.insert(group, Arc::from(note));
            }
            Ok(Record::Row(row)) => {
                self.sees_group(row.group);
                self.sees_columns(row.columns);
            }
            Ok(Record::Unknown) | Err(record::Garbled) => self.garbled += 1,
        }
    }

    fn sees_group(&mut self, group: u32) {
        self.groups_below = self.groups_below.max(group.saturating_add(1));
    }

    fn sees_columns(&mut self, columns: u32) {
        self.columns_below = self.columns_below.max(columns.saturating_add(1));
    }
}

/// Reads the rows of its share of the groups.
struct Reader {
    mine: usize,
    open_bytes: usize,
    rows: HashMap<u32, Group>,
    series: usize,
    garbled: u64,
    values: Vec<f64>,
    scratch: Scratch,
}

impl Reader {
    fn new(mine: usize, open_bytes: usize) -> Reader {
        Reader {
            mine,
            open_bytes,
            rows: HashMap::new(),
            series: 0,
            garbled: 0,
            values: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    fn read(
        mut self,
        frames: &Receiver<Arc<Vec<u8>>>,
        skip: &dyn Fn(u32) -> bool,
    ) -> (HashMap<u32, Group>, u64) {
        for frame in frames {
            for record in Records::of(&frame) {
                if let Ok(Record::Row(row)) = record
                    && row.group as usize % READERS == self.mine
                    && !skip(row.group)
                {
                    self.row(&row);
                }
            }
        }
        (self.rows, self.garbled)
    }

    fn row(&mut self, row: &RowRecord<'_>) {
        let Ok(breaks) = row.unpack(&mut self.values) else {
            self.garbled += 1;
            return;
        };
        let group = self
            .rows
            .entry(row.group)
            .or_insert_with(|| Group::new(row.group));
        let width = self.values.len();
        if group.active != width {
            self.series = self.series + width - group.active;
            group.active = width;
        }
        let room = block_rows(self.open_bytes, self.series * READERS);
        let new = NewRow {
            at: row.at,
            columns: row.columns,
            values: &self.values,
            breaks,
        };
        group.add(new, room, &mut self.scratch);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::Breaks;
    use wal::WalOptions;
    use wal::fs::sim::SimFs;

    use super::*;

    #[test]
    fn a_reader_that_panics_fails_the_start_and_the_next_one_has_its_rows() {
        let options = WalOptions {
            dir: "/log".into(),
            stream: 'm',
            write_every: Duration::from_millis(1),
            sync_every: Duration::from_millis(1),
            max_pending: 1 << 20,
        };
        let fs = SimFs::default();
        let start = |fs: &SimFs, skip: &(dyn Fn(u32) -> bool + Sync)| {
            let fs = Arc::new(fs.clone());
            read(1 << 20, skip, |each| {
                Wal::open(fs, options.clone(), 0, each)
            })
        };
        let (wal, ..) = start(&fs, &|_| false).unwrap();
        let mut write = |log: &mut Vec<u8>| {
            record::put_row(1, 0, 5, &Breaks::None, &[1.0], log);
        };
        wal.wait(wal.append(&mut write)).unwrap();
        wal.close().unwrap();
        let fs = fs.after_kill();
        let panics = |_| panic!("as a test wants it");
        assert_eq!(start(&fs, &panics).unwrap_err().doing, "read");
        let fs = fs.after_kill();
        let (_, _, logged) = start(&fs, &|_| false).unwrap();
        assert_eq!(logged.rows.len(), 1);
    }
}
