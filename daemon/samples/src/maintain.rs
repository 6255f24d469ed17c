//! What is done about once a second, and when the disk takes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{GroupKey, Timestamp};
use wal::NotDurable;

use crate::catalog::{CatalogChange, CatalogError, GroupRecord};
use crate::engine::{Inner, Snapshot};
use crate::head::{Frozen, Head};
use crate::keeper::{Keeper, Pending};
use crate::lock::lock;
use crate::open::slot;
use crate::rows::Piece;

/// A cut that failed is not tried again for so long: it reads and encodes all
/// that is not in a segment.
const AFTER_FAILURE_MS: u64 = 10_000;

/// Why a segment is removed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Why {
    Age,
    Room,
}

impl Inner {
    pub(crate) fn maintain(&self, now: Timestamp) -> Result<bool, CatalogError> {
        let mut keeper = lock(&self.keeper);
        let keeper = &mut *keeper;
        let is_calm = self.is_calm(keeper, now);
        self.notice_suspension();
        self.finish(keeper)?;
        lock(&self.head).begun.tidy(now);
        if self.is_suspended() {
            return self.relieve(keeper, now);
        }
        keeper.relief_is_vain = false;
        self.cut_if_due(keeper, now)?;
        if is_calm && self.compact_if_due(keeper, now)? {
            return Ok(true);
        }
        self.tidy(keeper, now)?;
        if is_calm {
            return self.expire(keeper, now);
        }
        Ok(false)
    }

    fn cut_if_due(&self, keeper: &mut Keeper, now: Timestamp) -> Result<(), CatalogError> {
        let slot = slot(&self.options, now);
        let wait = keeper.cut_after.saturating_sub(now.0);
        if (1..=AFTER_FAILURE_MS).contains(&wait) {
            return Ok(());
        }
        let large = 2 * self.options.open_bytes;
        let is_urgent = {
            let head = lock(&self.head);
            head.held.bytes > large || head.has_backlog()
        };
        if keeper.cut_slot == Some(slot) && !is_urgent {
            return Ok(());
        }
        keeper.cut_after = now.0 + AFTER_FAILURE_MS;
        self.cut(keeper)?;
        keeper.cut_after = 0;
        keeper.cut_slot = Some(slot);
        Ok(())
    }

    pub(crate) fn is_suspended(&self) -> bool {
        lock(&self.head).suspended
    }

    /// Once the log is suspended, what came before is kept whatever happens:
    /// it may have been acknowledged. What comes from now on was not.
    fn notice_suspension(&self) {
        let is_suspended = self.wal.stats().suspended.is_some();
        let mut head = lock(&self.head);
        if is_suspended && !head.suspended {
            if head.freeze(false)
                && let Some(last) = head.frozen.last_mut()
            {
                Arc::make_mut(last).is_backlog = true;
            }
            head.suspended = true;
        }
    }

    pub(crate) fn resume(&self) -> Result<(), NotDurable> {
        let mut keeper = self.keep();
        let keeper = &mut *keeper;
        self.notice_suspension();
        if self.is_suspended() {
            self.begin_resuming();
            let resumed = self.wal.resume();
            self.end_resuming(resumed.is_ok());
            resumed?;
        } else if !lock(&self.head).has_backlog() {
            return Ok(());
        }
        self.cut(keeper).map_err(|error| NotDurable {
            why: error.why,
            full: error.full,
        })
    }

    /// What came while the log was suspended is set apart from what comes
    /// now, which may be acknowledged as soon as the log goes on; and that is
    /// logged with all that it needs, as nobody knows when the log goes on.
    pub(crate) fn begin_resuming(&self) {
        let mut head = lock(&self.head);
        head.freeze_with_last(true);
        head.suspended = false;
        head.resuming = true;
    }

    pub(crate) fn end_resuming(&self, resumed: bool) {
        let mut head = lock(&self.head);
        if resumed {
            let again = &mut |log: &mut Vec<u8>| head.define_again(&self.registry, log);
            let _ = self.wal.append(again);
        }
        // what came meanwhile may not be in the log: it has to get into a segment
        if resumed
            && head.freeze(false)
            && let Some(last) = head.frozen.last_mut()
        {
            Arc::make_mut(last).is_backlog = true;
        }
        head.suspended = !resumed;
        head.resuming = false;
    }

    /// Drops the oldest rows that were never logged while there are more than
    /// memory is meant for.
    pub(crate) fn shed(&self, head: &mut Head) {
        let limit = self.options.backlog_bytes;
        if !head.suspended || head.held.bytes + head.unlogged <= limit {
            return;
        }
        head.close_all();
        // a quarter is left for rows that are not in blocks yet
        let dropped = head.drop_oldest(limit / 4 * 3);
        if dropped > 0 {
            head.dropped += dropped;
            tracing::error!(
                samples = dropped,
                "dropped: nothing can be written for too long"
            );
        }
    }

    pub(crate) fn forget(&self, groups: &dyn Fn(GroupKey) -> bool) -> Result<usize, CatalogError> {
        let mut keeper = self.keep();
        self.finish(&mut keeper)?;
        let (gone, count) = {
            let mut head = lock(&self.head);
            let mut gone = head.forget(groups);
            let count = gone.len();
            gone.extend(head.gone_untold.iter().cloned());
            (gone, count)
        };
        let pending = Pending {
            change: CatalogChange {
                groups: gone,
                ..CatalogChange::default()
            },
            ..Pending::default()
        };
        match pending.change.groups.is_empty() {
            true => Ok(0),
            false => self.change(&mut keeper, pending).map(|()| count),
        }
    }

    pub(crate) fn snapshot(
        &self,
        into: &std::path::Path,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Snapshot, CatalogError> {
        let mut keeper = self.keep();
        self.cut(&mut keeper)?;
        let mut snapshot = Snapshot {
            files: Vec::new(),
            bytes: 0,
        };
        let failed = |error: std::io::Error| CatalogError {
            why: format!("cannot link segments into {}: {error}", into.display()),
            full: crate::cut::is_full(&error),
        };
        self.fs.create_dir(into).map_err(failed)?;
        let shelf = Arc::clone(&lock(&self.head).shelf);
        for listed in &shelf.segments {
            let name = self.places().segment(listed.row.name);
            let link = into.join(name.file_name().unwrap_or_default());
            match self.fs.hard_link(&listed.path, &link) {
                Ok(()) => {}
                Err(error) if listed.segment().is_none() => {
                    tracing::warn!(%error, "a damaged segment is not in the snapshot");
                    continue;
                }
                Err(error) => return Err(failed(error)),
            }
            snapshot.bytes += listed.row.summary.bytes;
            snapshot.files.push(link);
        }
        self.fs.sync_dir(into).map_err(failed)?;
        meanwhile();
        Ok(snapshot)
    }
}

impl Head {
    /// Whether rows that the log may never have had wait for a segment.
    pub(crate) fn has_backlog(&self) -> bool {
        self.frozen.iter().any(|frozen| frozen.is_backlog)
    }

    /// Freezes the head's rows together with those that were frozen last, if
    /// both were logged or neither was: tries that fail leave no crumbs.
    pub(crate) fn freeze_with_last(&mut self, unlogged: bool) {
        let before = self.frozen.last();
        let alike = before.is_some_and(|last| last.unlogged == unlogged);
        if self.freeze(unlogged) && alike {
            self.join_last_frozen();
        }
    }

    /// Makes one of the last two things that are frozen. It is a new one: a
    /// change under way that has the older one does not have it.
    fn join_last_frozen(&mut self) {
        let (Some(last), Some(before)) = (self.frozen.pop(), self.frozen.pop()) else {
            return;
        };
        let mut groups: BTreeMap<u32, Vec<Piece>> = before.groups.iter().cloned().collect();
        for (number, pieces) in &last.groups {
            let all = groups.entry(*number).or_default();
            for piece in pieces {
                crate::rows::join(all, piece.clone(), &mut self.scratch);
            }
        }
        self.frozen.push(Arc::new(Frozen {
            id: last.id,
            unlogged: last.unlogged,
            is_backlog: last.is_backlog || before.is_backlog,
            groups: groups.into_iter().collect(),
        }));
        self.recount();
    }

    /// Closes all open rows of the head: blocks take a sixth of their memory.
    fn close_all(&mut self) {
        for group in self.groups.values_mut() {
            if !group.open.times.is_empty() {
                let closed = group.open.close(&mut self.scratch);
                group.closed.push(Piece::Closed(closed));
            }
        }
        self.recount();
    }

    /// Drops the oldest unlogged pieces until at most `target` bytes of them
    /// are left; gives how many values.
    fn drop_oldest(&mut self, target: usize) -> u64 {
        let frozen = self.frozen.iter().filter(|frozen| frozen.unlogged);
        let held = self.groups.values().flat_map(|group| &group.closed);
        let pieces = frozen.flat_map(|frozen| frozen.pieces()).chain(held);
        let mut ages: Vec<(u64, usize)> = pieces.map(|p| (p.span().1, p.bytes())).collect();
        ages.sort_unstable();
        let mut excess = ages.iter().map(|(_, bytes)| bytes).sum::<usize>();
        let mut until = None;
        for (age, bytes) in ages {
            if excess <= target {
                break;
            }
            excess -= bytes;
            until = Some(age);
        }
        until.map_or(0, |until| self.drop_until(until))
    }

    fn drop_until(&mut self, until: u64) -> u64 {
        let mut dropped = 0;
        let mut keep = |piece: &Piece| {
            let stays = piece.span().1 > until;
            dropped += if stays { 0 } else { piece.samples() as u64 };
            stays
        };
        for frozen in self.frozen.iter_mut().filter(|frozen| frozen.unlogged) {
            for (_, pieces) in &mut Arc::make_mut(frozen).groups {
                pieces.retain(&mut keep);
            }
        }
        for group in self.groups.values_mut() {
            group.closed.retain(&mut keep);
        }
        self.recount();
        dropped
    }

    /// Takes groups out: their keys are free, their numbers are gone.
    fn forget(&mut self, groups: &dyn Fn(GroupKey) -> bool) -> Vec<(u32, GroupRecord)> {
        let mut forgotten: Vec<(u32, GroupRecord)> = Vec::new();
        self.groups.retain(|key, group| {
            if !groups(*key) {
                return true;
            }
            let record = GroupRecord {
                key: *key,
                note: Vec::new(),
                gone: true,
            };
            self.active -= group.active.min(self.active);
            forgotten.push((group.number, record));
            false
        });
        self.gone
            .extend(forgotten.iter().map(|(number, _)| *number));
        self.recount();
        forgotten
    }

    /// Counts what the groups hold.
    pub(crate) fn recount(&mut self) {
        let unlogged = self.frozen.iter().filter(|frozen| frozen.unlogged);
        self.unlogged = unlogged.map(|frozen| frozen.bytes()).sum();
        self.held = crate::head::Held::default();
        for group in self.groups.values() {
            let open = &group.open;
            self.held.rows += open.times.len() as u64;
            self.held.samples += open.values.len() as u64;
            self.held.bytes += open.bytes();
            for piece in &group.closed {
                self.held.rows += piece.rows() as u64;
                self.held.samples += piece.samples() as u64;
                self.held.bytes += piece.bytes();
            }
        }
    }
}
