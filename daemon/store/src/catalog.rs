//! The catalog of the sample store: which groups, columns and segments there
//! are, and from which log file on a start has to read.
//!
//! The engine (the crate `samples`) says what changes; here it becomes one job
//! of the writer, in one transaction. Whoever calls the engine waits for the
//! writer then, so the writer itself must never cut, compact, resume or forget.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use ::samples::{
    Catalog, CatalogChange, CatalogError, CatalogState, GroupRecord, SegmentName, SegmentRow,
};
use ::samples::{Span, Tier};
use model::{By, DeviceId, GroupKey, Timestamp};
use redb::{ReadTransaction, WriteTransaction};
use segment::Summary;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::audit;
use crate::book::Change;
use crate::columns;
use crate::error::{Fault, WriteError};
use crate::inventory;
use crate::queue::{Job, Queue};
use crate::tables::{self, CHECKPOINT, COUNTER, NEXT_SEGMENT};

/// A group as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptGroup {
    key: GroupKey,
    note: Vec<u8>,
    gone: bool,
}

/// What a segment holds, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptSegment {
    tier: u8,
    span: u8,
    from: u64,
    until: u64,
    rows: u64,
    samples: u64,
    bytes: u64,
    kinds: [(u64, u64); 4],
    crc: u32,
}

impl KeptSegment {
    fn new(summary: &Summary) -> KeptSegment {
        KeptSegment {
            tier: summary.tier.number(),
            span: summary.span.number(),
            from: summary.from,
            until: summary.until,
            rows: summary.rows,
            samples: summary.samples,
            bytes: summary.bytes,
            kinds: summary.kinds,
            crc: summary.crc,
        }
    }

    fn summary(&self) -> Option<Summary> {
        Some(Summary {
            tier: Tier::of_number(self.tier)?,
            span: Span::of_number(self.span)?,
            from: self.from,
            until: self.until,
            rows: self.rows,
            samples: self.samples,
            bytes: self.bytes,
            kinds: self.kinds,
            crc: self.crc,
        })
    }
}

/// Reads all of it, counting the rows.
pub(crate) fn load(txn: &ReadTransaction) -> Result<CatalogState, Fault> {
    let mut state = CatalogState {
        columns: columns::load(txn)?,
        checkpoint: COUNTER.get(txn, CHECKPOINT)?.unwrap_or(0),
        next_segment: COUNTER.get(txn, NEXT_SEGMENT)?.unwrap_or(0),
        ..CatalogState::default()
    };
    tables::GROUP.load(txn, |id, kept| {
        let KeptGroup { key, note, gone } = kept;
        state.groups.push((id, GroupRecord { key, note, gone }));
    })?;
    let mut unknown = None;
    tables::SEGMENT.load(txn, |name, kept| match kept.summary() {
        Some(summary) => state.segments.push(SegmentRow {
            name: SegmentName(name),
            summary,
        }),
        None => unknown = Some(name),
    })?;
    match unknown {
        None => Ok(state),
        Some(name) => Err(Fault::Damage(format!("segment {name} is of no known kind"))),
    }
}

/// Makes one change, as part of a transaction.
pub(crate) fn apply(txn: &WriteTransaction, change: &CatalogChange) -> Result<(), Fault> {
    for (id, group) in &change.groups {
        let kept = KeptGroup {
            key: group.key,
            note: group.note.clone(),
            gone: group.gone,
        };
        tables::GROUP.put(txn, *id, &kept)?;
    }
    for id in &change.forget_groups {
        tables::GROUP.remove(txn, *id)?;
    }
    for (id, own) in &change.columns {
        columns::put_columns(txn, *id, own)?;
    }
    for id in &change.forget_columns {
        columns::forget_columns(txn, *id)?;
    }
    for row in &change.segments {
        tables::SEGMENT.put(txn, row.name.0, &KeptSegment::new(&row.summary))?;
    }
    for name in &change.forget_segments {
        tables::SEGMENT.remove(txn, name.0)?;
    }
    let counters = [
        (CHECKPOINT, change.checkpoint),
        (NEXT_SEGMENT, change.next_segment),
    ];
    for (name, value) in counters {
        if let Some(value) = value {
            COUNTER.put(txn, name, &value)?;
        }
    }
    Ok(())
}

/// Somebody deletes the samples of a device.
#[derive(Clone, Debug)]
struct Deletion {
    by: By,
    device: DeviceId,
    now: Timestamp,
}

impl Deletion {
    /// Whether `change` is what it leads to.
    fn is_in(&self, change: &CatalogChange) -> bool {
        let own = |group: &GroupRecord| group.gone && group.key.device == self.device;
        change.groups.iter().any(|(_, group)| own(group))
    }

    /// The line that tells of it.
    fn tell(&self, change: &mut Change<'_>, groups: usize) -> Result<(), Fault> {
        let Some(device) = change.book.inventory.device(self.device).cloned() else {
            return Ok(());
        };
        let line = inventory::line("metrics.delete", &device).after(json!({ "groups": groups }));
        audit::append(change, &self.by, self.now, line).map(drop)
    }
}

/// The catalog in redb. See the module.
pub(crate) struct RedbCatalog {
    queue: Arc<Queue>,
    /// Whether the disk was full when the writer last met trouble.
    full: AtomicBool,
    /// Those that are not in the catalog yet.
    deletions: Mutex<Vec<Deletion>>,
}

impl RedbCatalog {
    pub(crate) fn new(queue: Arc<Queue>) -> RedbCatalog {
        RedbCatalog {
            queue,
            full: AtomicBool::new(false),
            deletions: Mutex::default(),
        }
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// Does `forget`, which leads to a change of the catalog: the line of the
    /// audit log is in the same transaction, also if that succeeds only later.
    /// Blocks.
    pub(crate) fn deleting(
        &self,
        (by, device, now): (&By, DeviceId, Timestamp),
        forget: impl FnOnce() -> Result<usize, CatalogError>,
    ) -> Result<usize, WriteError> {
        self.take_deletions(|other| other.device == device);
        let by = by.clone();
        self.deletions().push(Deletion { by, device, now });
        let groups = forget().map_err(|error| WriteError::NotWriting { why: error.why })?;
        // there was nothing to delete: that it was asked for is told
        for untold in self.take_deletions(|other| other.device == device) {
            self.ask(move |change| untold.tell(change, groups))?;
        }
        Ok(groups)
    }

    fn deletions(&self) -> std::sync::MutexGuard<'_, Vec<Deletion>> {
        self.deletions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn take_deletions(&self, wanted: impl Fn(&Deletion) -> bool) -> Vec<Deletion> {
        let mut all = self.deletions();
        let (taken, rest) = all.drain(..).partition(wanted);
        *all = rest;
        taken
    }

    /// Does `work` in a transaction of the writer; returns when it is on the
    /// disk.
    fn ask(
        &self,
        work: impl FnMut(&mut Change<'_>) -> Result<(), Fault> + Send + 'static,
    ) -> Result<(), WriteError> {
        let (answer, told) = mpsc::channel();
        self.queue.push_own(Box::new(Asked { work, answer }));
        told.recv().unwrap_or(Err(WriteError::Closed))
    }
}

impl Catalog for RedbCatalog {
    fn commit(&self, change: &CatalogChange) -> Result<(), CatalogError> {
        let own = change.clone();
        let told = self.take_deletions(|deletion| deletion.is_in(change));
        let lines = told.clone();
        let committed = self.ask(move |change| {
            apply(change.txn, &own)?;
            let tell = |deletion: &Deletion| deletion.tell(change, own.groups.len());
            lines.iter().try_for_each(tell)
        });
        if committed.is_err() {
            self.deletions().extend(told);
        }
        committed.map_err(|error| CatalogError {
            full: self.full.load(Ordering::Relaxed),
            why: match error {
                WriteError::NotWriting { why } => why,
                other => other.to_string(),
            },
        })
    }
}

/// A thread that waits for the writer.
struct Asked<F> {
    work: F,
    answer: mpsc::Sender<Result<(), WriteError>>,
}

impl<F: FnMut(&mut Change<'_>) -> Result<(), Fault> + Send> Job for Asked<F> {
    fn run(&mut self, change: &mut Change<'_>) -> Result<(), Fault> {
        (self.work)(change)
    }

    fn finish(self: Box<Self>, result: Result<(), WriteError>) {
        // whoever asked waits until then
        let _ = self.answer.send(result);
    }
}

#[cfg(test)]
mod tests {
    use model::Check;
    use redb::backends::InMemoryBackend;

    use super::*;

    fn group(device: u64) -> GroupRecord {
        GroupRecord {
            key: GroupKey {
                device: DeviceId(device),
                check: Check::Snmp,
            },
            note: vec![1, 2, 3],
            gone: device == 2,
        }
    }

    fn segment(name: u64) -> SegmentRow {
        SegmentRow {
            name: SegmentName(name),
            summary: Summary {
                tier: Tier::Hour,
                span: Span::Day,
                from: 1,
                until: 2,
                rows: 3,
                samples: 4,
                bytes: 5,
                kinds: [(6, 7), (8, 9), (10, 11), (12, 13)],
                crc: 14,
            },
        }
    }

    #[test]
    fn a_change_is_loaded_as_it_was_made_also_if_it_was_made_twice() {
        let builder = redb::Database::builder();
        let db = builder.create_with_backend(InMemoryBackend::new()).unwrap();
        let own = Arc::new(model::Columns::new(Vec::new()));
        let first = CatalogChange {
            groups: vec![(1, group(1)), (2, group(2))],
            columns: vec![(1, own.clone()), (2, own.clone())],
            segments: vec![segment(1), segment(2)],
            checkpoint: Some(7),
            next_segment: Some(3),
            ..CatalogChange::default()
        };
        let second = CatalogChange {
            forget_groups: vec![1],
            forget_columns: vec![2],
            forget_segments: vec![SegmentName(1)],
            next_segment: Some(4),
            ..CatalogChange::default()
        };
        let txn = db.begin_write().unwrap();
        for table in tables::ALL {
            table.create(&txn).unwrap();
        }
        for change in [&first, &first, &second, &second] {
            apply(&txn, change).unwrap();
        }
        txn.commit().unwrap();
        let state = load(&redb::ReadableDatabase::begin_read(&db).unwrap()).unwrap();
        assert_eq!(state.groups, [(2, group(2))]);
        assert_eq!(state.columns, [(1, own)]);
        assert_eq!(state.segments, [segment(2)]);
        assert_eq!((state.checkpoint, state.next_segment), (7, 4));
    }
}
