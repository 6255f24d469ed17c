//! Changes of what is listed: one at a time, and each until it succeeded.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use crate::catalog::{CatalogChange, CatalogError, SegmentName};
use crate::compaction::CompactedOn;
use crate::engine::Inner;
use crate::lock::{self, lock};
use crate::retention::JumpWatch;
use crate::shelf::Listed;

/// Who holds it changes what is listed, and nobody else does.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    /// A change that the catalog did not confirm: it may have happened, so the
    /// very same one is tried until it is confirmed.
    pub(crate) pending: Option<Pending>,
    pub(crate) next_segment: u64,
    /// `now / cut_every` at the last cut.
    pub(crate) cut_slot: Option<u64>,
    /// By day or month (in days): the day on which it was compacted last.
    pub(crate) compacted_on: CompactedOn,
    /// Not before this is a cut tried again that failed.
    pub(crate) cut_after: u64,
    /// Not before this is a compaction tried again that failed.
    pub(crate) compact_after: u64,
    pub(crate) jumps: JumpWatch,
    /// A segment was removed while the disk was full, and gave no room; until
    /// the log goes on.
    pub(crate) relief_is_vain: bool,
    /// When, by the monotonic clock, a segment was unlinked last.
    pub(crate) unlinked: Option<Duration>,
    /// The day on which leftovers were looked for last.
    pub(crate) tidied: Option<u64>,
    /// Groups that were gone when the log was cut last: it has no row of them.
    pub(crate) gone_at_cut: HashSet<u32>,
}

/// A change, and what is done once it is confirmed.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) change: CatalogChange,
    /// Its new segments.
    pub(crate) opened: Vec<Arc<Listed>>,
    /// What was frozen and is in them.
    pub(crate) frozen: Vec<u64>,
    /// Files that nobody needs then.
    pub(crate) unlink: Vec<PathBuf>,
    /// Files that are set aside.
    pub(crate) quarantine: Vec<SegmentName>,
    /// Groups that were gone at this cut.
    pub(crate) gone: Option<HashSet<u32>>,
    /// Log files below this are not needed then.
    pub(crate) log_before: Option<u64>,
    /// What is counted then.
    pub(crate) counts: Counts,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) damaged: u64,
    pub(crate) expired: u64,
    pub(crate) evicted: u64,
    pub(crate) cuts: u64,
    pub(crate) last_cut: Duration,
    pub(crate) compactions: u64,
    pub(crate) last_compaction: Duration,
}

impl Counts {
    fn add(&mut self, more: &Counts) {
        self.damaged += more.damaged;
        self.expired += more.expired;
        self.evicted += more.evicted;
        self.cuts += more.cuts;
        self.compactions += more.compactions;
        if more.cuts > 0 {
            self.last_cut = more.last_cut;
        }
        if more.compactions > 0 {
            self.last_compaction = more.last_compaction;
        }
    }
}

/// Somebody waits for the keeper: a compaction gives way.
pub(crate) struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inner {
    /// The keeper; a compaction under way is put off.
    pub(crate) fn keep(&self) -> MutexGuard<'_, Keeper> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        lock(&self.keeper)
    }

    /// Counts something damaged.
    pub(crate) fn count_damaged(&self, more: u64) {
        lock(&self.counts).damaged += more;
    }

    /// Makes a change: in the catalog, then for readers, then on the disk.
    pub(crate) fn change(&self, keeper: &mut Keeper, pending: Pending) -> Result<(), CatalogError> {
        self.finish(keeper)?;
        keeper.pending = Some(pending);
        self.finish(keeper)
    }

    /// Tries again what the catalog did not confirm.
    pub(crate) fn finish(&self, keeper: &mut Keeper) -> Result<(), CatalogError> {
        let Some(pending) = &keeper.pending else {
            return Ok(());
        };
        self.catalog.commit(&pending.change)?;
        if let Some(mut pending) = keeper.pending.take() {
            self.show(&pending);
            self.clean(&pending);
            if let Some(gone) = pending.gone.take() {
                keeper.gone_at_cut = gone;
            }
        }
        Ok(())
    }

    /// Readers see what was changed.
    fn show(&self, pending: &Pending) {
        let change = &pending.change;
        let mut head = lock(&self.head);
        let shelf = head.shelf.changed(&pending.opened, &change.forget_segments);
        head.shelf = Arc::new(shelf);
        head.frozen
            .retain(|frozen| !pending.frozen.contains(&frozen.id));
        let unlogged = head.frozen.iter().filter(|frozen| frozen.unlogged);
        head.unlogged = unlogged.map(|frozen| frozen.bytes()).sum();
        for (number, record) in &change.groups {
            let Some(group) = head.groups.get_mut(&record.key) else {
                continue;
            };
            if group.number == *number {
                group.listed = true;
                group.note_changed &= *group.note != *record.note;
            }
        }
        let is_told = |number: &u32| change.groups.iter().any(|(told, _)| told == number);
        head.gone_untold.retain(|(number, _)| !is_told(number));
        for number in &change.forget_groups {
            head.gone.remove(number);
        }
        let listed = change.columns.iter().map(|(number, _)| *number);
        lock::write(&self.registry).listed(listed);
        lock(&self.counts).add(&pending.counts);
    }

    /// What nobody needs any more goes from the disk. What fails is found again
    /// at the next start.
    fn clean(&self, pending: &Pending) {
        if let Some(first) = pending.log_before {
            self.wal.remove_before(first);
        }
        self.quarantine(&pending.quarantine);
        for path in &pending.unlink {
            if let Err(error) = self.fs.remove(path) {
                tracing::warn!(path = %path.display(), %error, "a segment was not removed");
            }
        }
    }
}
