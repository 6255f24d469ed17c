//! What readers, callers and the writer share.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use ::samples::Samples;
use model::{Rule, Timestamp};
use tokio::sync::{Semaphore, watch};

use crate::StoreOptions;
use crate::book::Book;
use crate::catalog::RedbCatalog;
use crate::disk::Disk;
use crate::error::WriterEnd;
use crate::keeper::Keeper;
use crate::packages::{self, Packages};
use crate::queue::{QUEUE_JOBS, Queue};
use crate::rulebook;
use crate::stats::{Histogram, StoreHealth};
use crate::view::View;

/// See the module.
pub(crate) struct Shared {
    pub(crate) options: StoreOptions,
    pub(crate) disk: Disk,
    pub(crate) queue: Arc<Queue>,
    pub(crate) room_for_jobs: Arc<Semaphore>,
    pub(crate) view: View,
    pub(crate) samples: Samples,
    pub(crate) catalog: Arc<RedbCatalog>,
    pub(crate) keeper: Keeper,
    pub(crate) watched: watch::Sender<u64>,
    pub(crate) outbox: watch::Sender<u64>,
    pub(crate) people: watch::Sender<u64>,
    pub(crate) plugins: watch::Sender<u64>,
    pub(crate) packages: Packages,
    pub(crate) writer_gone: watch::Sender<bool>,
    book: RwLock<Arc<Book>>,
    rules: RwLock<Rules>,
    figures: Mutex<Figures>,
    corrupt_reads: AtomicU64,
    backlog: AtomicUsize,
    heard: AtomicU64,
    audit_dropped: AtomicU64,
}

#[derive(Default)]
struct Rules {
    files: Arc<Vec<Rule>>,
    merged: Arc<Vec<Rule>>,
}

/// What [`crate::StoreStats`] is made of.
pub(crate) struct Figures {
    pub(crate) commit_seconds: Histogram,
    pub(crate) health: StoreHealth,
    /// Why the writer ended, if it was not asked to.
    pub(crate) fault: Option<WriterEnd>,
    /// Reports that could not be written to the end, and why.
    pub(crate) lost: Option<(u64, String)>,
}

impl Shared {
    pub(crate) fn new(
        options: StoreOptions,
        disk: Disk,
        (book, view): (Book, View),
        (samples, catalog, queue): (Samples, Arc<RedbCatalog>, Arc<Queue>),
        now: Timestamp,
    ) -> Shared {
        let packages = Packages::new(options.plugins_dir());
        let shared = Shared {
            options,
            disk,
            queue,
            room_for_jobs: Arc::new(Semaphore::new(QUEUE_JOBS)),
            view,
            samples,
            catalog,
            keeper: Keeper::default(),
            watched: watch::channel(0).0,
            outbox: watch::channel(0).0,
            people: watch::channel(book.people.revision()).0,
            plugins: watch::channel(0).0,
            packages,
            writer_gone: watch::channel(false).0,
            book: RwLock::new(Arc::new(book)),
            rules: RwLock::default(),
            figures: Mutex::new(Figures {
                commit_seconds: Histogram::default(),
                health: StoreHealth::Ok,
                fault: None,
                lost: None,
            }),
            corrupt_reads: AtomicU64::new(0),
            backlog: AtomicUsize::new(0),
            heard: AtomicU64::new(now.0),
            audit_dropped: AtomicU64::new(0),
        };
        shared.merge_rules();
        shared
    }

    pub(crate) fn book(&self) -> Arc<Book> {
        self.book
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Makes a committed book visible.
    pub(crate) fn publish(&self, book: Book) {
        let before = {
            let mut own = self.book.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *own, Arc::new(book))
        };
        let now = self.book();
        if !Arc::ptr_eq(&before.rules, &now.rules) {
            self.merge_rules();
        }
        if before.people.revision() != now.people.revision() {
            self.people.send_replace(now.people.revision());
        }
        if !Arc::ptr_eq(&before.plugins.records, &now.plugins.records) {
            self.plugins.send_modify(|count| *count += 1);
        }
        if before.watched != now.watched {
            self.watched.send_modify(|count| *count += 1);
        }
        if before.outbox_changes != now.outbox_changes {
            self.outbox.send_modify(|count| *count += 1);
        }
    }

    /// Removes packages of plugins that no record names.
    pub(crate) fn tidy_packages(&self) {
        self.packages.tidy(|| {
            let book = self.book();
            packages::named(book.plugins.records.values().map(|record| &**record))
        });
    }

    fn merge_rules(&self) {
        let book = self.book();
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        rules.merged = Arc::new(rulebook::merged(&book.rules, &rules.files));
    }

    pub(crate) fn set_file_rules(&self, files: Vec<Rule>) {
        self.rules
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .files = Arc::new(files);
        self.merge_rules();
        self.watched.send_modify(|count| *count += 1);
    }

    pub(crate) fn file_rules(&self) -> Arc<Vec<Rule>> {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        rules.files.clone()
    }

    pub(crate) fn rules(&self) -> Arc<Vec<Rule>> {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        rules.merged.clone()
    }

    pub(crate) fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note_commit(&self, took: Duration) {
        self.figures().commit_seconds.add(took);
    }

    /// What time it is, as whoever came last said.
    pub(crate) fn heard(&self) -> Timestamp {
        Timestamp(self.heard.load(Ordering::Relaxed))
    }

    pub(crate) fn note_heard(&self, now: Timestamp) {
        self.heard.store(now.0, Ordering::Relaxed);
    }

    pub(crate) fn note_corrupt(&self, count: u64) {
        self.corrupt_reads.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn corrupt_reads(&self) -> u64 {
        self.corrupt_reads.load(Ordering::Relaxed)
    }

    pub(crate) fn note_backlog(&self, reports: usize) {
        self.backlog.store(reports, Ordering::Relaxed);
    }

    pub(crate) fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    pub(crate) fn note_audit_dropped(&self, lines: u64) {
        self.audit_dropped.fetch_add(lines, Ordering::Relaxed);
    }

    pub(crate) fn audit_dropped(&self) -> u64 {
        self.audit_dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn set_health(&self, health: StoreHealth) {
        self.figures().health = health;
    }

    pub(crate) fn troubled_since(&self) -> Option<Timestamp> {
        match self.figures().health {
            StoreHealth::Ok => None,
            StoreHealth::NotWriting { since, .. } => Some(since),
        }
    }

    pub(crate) fn set_fault(&self, fault: WriterEnd) {
        self.figures().fault = Some(fault);
    }

    pub(crate) fn set_lost(&self, reports: u64, why: String) {
        self.figures().lost = Some((reports, why));
    }
}
