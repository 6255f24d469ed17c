//! The one thread that writes.
//!
//! It takes what waits, puts all of it into one transaction, and tells whoever
//! waits only once that is on the disk. When the disk takes nothing, reports
//! become visible all the same and wait in memory, changes are refused, and a
//! probe now and then finds out when there is room again. Damage or a
//! panic in a transaction ends the thread: going on could make it worse.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use model::{PollReport, PollRow, Timestamp, TokenId};
use redb::WriteTransaction;
use tokio::sync::OwnedSemaphorePermit;

use crate::audit::{Denied, Note};
use crate::book::{Book, Change};
use crate::disk::Ballast;
use crate::error::{Fault, WriteError, WriterEnd};
use crate::queue::{Batch, Job, QUEUE_NOTES};
use crate::samples::row::MAX_COLUMNS;
use crate::samples::write::{Ready, Tracks};
use crate::shared::Shared;
use crate::stats::StoreHealth;
use crate::{alerts, answers, audit, outbox, people, sessions, tables, wipe};

/// Reports written at once when there is room again.
const BACKLOG_BATCH: usize = 512;

/// Sweeps that one commit makes up for, where commits are further apart than
/// sweeps: as many as fit between two at the slowest setting.
const MAX_SWEEPS: u32 = 10;

/// Tracks that one sweep looks at: at one a second all of 20,000 within six
/// minutes, so up to 64 chunks a second go, which is thirty times what comes
/// at that size.
const SWEEP_TRACKS: usize = 64;

/// Alerts and deliveries that one sweep looks at.
const SWEEP_ROWS: usize = 64;

/// How often the writer looks after things, however often it commits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// A disk that takes no writes is tried once in this time.
    pub(crate) probe: Duration,
    /// Old things are looked for once in this time.
    pub(crate) sweep: Duration,
}

impl Pace {
    /// Two seconds after there is room again, history is written; sweeps are
    /// in bounds small enough to share a second's commit.
    pub(crate) const USUAL: Pace = Pace {
        probe: Duration::from_secs(2),
        sweep: Duration::from_secs(1),
    };

    /// Sweeps to make when the last one was `elapsed` ago.
    fn sweeps(&self, elapsed: Duration) -> usize {
        let fit = (1..=MAX_SWEEPS).take_while(|count| self.sweep * *count <= elapsed);
        fit.count()
    }
}

type Waiting = (Box<dyn Job>, OwnedSemaphorePermit);

/// See the module.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    pace: Pace,
    tracks: Tracks,
    ballast: Ballast,
    backlog: Backlog,
    /// Why nothing is written, if nothing is.
    trouble: Option<String>,
    /// Whether a change is worth a try while nothing is written: once per
    /// probe.
    may_try: bool,
    probe_at: Option<Instant>,
    now: Timestamp,
    /// The same, as whoever came last said: a change, a report or a line of
    /// the audit log.
    heard: Timestamp,
    swept: Instant,
    track_cursor: u32,
    /// Nothing was older when all tracks had been looked at; 0 before that.
    oldest: Timestamp,
    /// The same, of those looked at since.
    oldest_seen: Timestamp,
    alert_cursor: u64,
    /// Addresses that came while nothing was written.
    addresses: Vec<(String, IpAddr)>,
    /// Audit lines that nobody waits for, until they are on the disk.
    notes: Vec<Note>,
    /// When tokens were used, until that is on the disk.
    token_uses: HashMap<TokenId, (Timestamp, String)>,
    /// Free pages could not be overwritten: not tried again before the next
    /// start.
    wipe_failed: bool,
}

/// Reports that are visible but not on the disk.
#[derive(Default)]
struct Backlog {
    reports: VecDeque<Ready>,
    bytes: usize,
}

impl Backlog {
    /// Adds `reports`; drops the oldest beyond `limit` bytes and counts them.
    fn push(&mut self, reports: Vec<Ready>, limit: usize) -> u64 {
        for report in reports {
            self.bytes += weight(&report);
            self.reports.push_back(report);
        }
        let mut dropped = 0;
        while self.bytes > limit {
            let Some(oldest) = self.reports.pop_front() else {
                break;
            };
            self.bytes -= weight(&oldest);
            dropped += 1;
        }
        dropped
    }

    fn oldest(&mut self) -> &[Ready] {
        let count = self.reports.len().min(BACKLOG_BATCH);
        &self.reports.make_contiguous()[..count]
    }

    /// What became of the `count` oldest.
    fn settle(&mut self, count: usize, written: bool) {
        if !written {
            let oldest = self.reports.iter_mut().take(count);
            oldest.for_each(|report| report.doubtful = true);
            return;
        }
        for report in self.reports.drain(..count) {
            self.bytes -= weight(&report);
        }
    }
}

/// What a report takes in memory, roughly.
fn weight(report: &Ready) -> usize {
    const REPORT: usize = 400;
    const INTERFACE: usize = 400;
    let values = report.row.as_ref().map_or(0, |row| row.values.len());
    let interfaces = report
        .facts
        .as_ref()
        .map_or(0, |facts| facts.interfaces.len());
    REPORT + values * size_of::<f64>() + interfaces * INTERFACE
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        pace: Pace,
        tracks: Tracks,
        ballast: Ballast,
        now: Timestamp,
    ) -> Writer {
        Writer {
            shared,
            pace,
            tracks,
            ballast,
            backlog: Backlog::default(),
            trouble: None,
            may_try: true,
            probe_at: None,
            now,
            heard: now,
            swept: Instant::now(),
            track_cursor: 0,
            oldest: Timestamp(0),
            oldest_seen: Timestamp(u64::MAX),
            alert_cursor: 0,
            addresses: Vec::new(),
            notes: Vec::new(),
            token_uses: HashMap::new(),
            wipe_failed: false,
        }
    }

    /// Writes until the store is closed, or until it must not go on.
    pub(crate) fn run(mut self) {
        if let Err(error) = self.ballast.restore() {
            tracing::warn!(%error, "no room for the ballast beside the store");
        }
        let mut result = self.wipe_if_wanted();
        while result.is_ok() {
            let batch = self.shared.queue.next(self.patience(), self.timeout());
            let closing = batch.closing;
            result = self.serve(batch);
            if result.is_ok() {
                result = self.wipe_if_wanted();
            }
            if closing && result.is_ok() {
                result = self.drain();
                break;
            }
        }
        if let Err(fault) = result {
            let why = self.end_of(fault);
            tracing::error!(%why, "nothing more is written to the store");
            self.shared.set_fault(why);
        }
        self.shared.queue.abandon();
        self.shared.disk.close();
    }

    /// A panic may be redb's, which met damaged pages, or a mistake of ours:
    /// a look at the file tells.
    fn end_of(&self, fault: Fault) -> WriterEnd {
        let Fault::Panic(what) = fault else {
            return WriterEnd::Damaged(fault.to_string());
        };
        self.shared.disk.close();
        match self.shared.disk.reopen(|db| crate::load(db).map(drop)) {
            Err(damage) if damage.is_damage() => {
                WriterEnd::Damaged(format!("{damage} (after a panic: {what})"))
            }
            _ => WriterEnd::Panicked(what),
        }
    }

    fn patience(&self) -> Duration {
        self.shared.options.commit_every
    }

    fn timeout(&self) -> Option<Duration> {
        if self.trouble.is_none() && !self.backlog.reports.is_empty() {
            return Some(Duration::ZERO);
        }
        let probe_at = self.probe_at?;
        Some(probe_at.saturating_duration_since(Instant::now()))
    }

    /// `Err` is damage: the end.
    fn serve(&mut self, batch: Batch) -> Result<(), Fault> {
        let reports: Vec<Ready> = batch
            .reports
            .into_iter()
            .map(|report| self.ready(report))
            .collect();
        self.addresses.extend(batch.addresses);
        self.token_uses.extend(batch.token_uses);
        if let Some(note) = batch.notes.last() {
            self.heard = note.at;
        }
        self.take_notes(batch.notes);
        self.take_notes(self.shared.queue.denied_again(self.heard, batch.closing));
        self.clear_doubt()?;
        if self.probe_at.is_some_and(|at| at <= Instant::now()) {
            self.probe()?;
        }
        let result = if self.trouble.is_some() {
            self.keep_in_memory(reports, false);
            self.serve_jobs_alone(batch.jobs, None)
        } else if self.backlog.reports.is_empty() {
            self.serve_all(batch.jobs, reports)
        } else {
            self.keep_in_memory(reports, false);
            self.serve_with_backlog(batch.jobs)
        };
        self.shared.note_backlog(self.backlog.reports.len());
        result
    }

    /// As it should be: everything goes to the disk, then becomes visible.
    fn serve_all(&mut self, mut jobs: Vec<Waiting>, reports: Vec<Ready>) -> Result<(), Fault> {
        if jobs.is_empty() && reports.is_empty() && self.nothing_beside() {
            return Ok(());
        }
        match self.transact(&mut jobs, &reports) {
            Ok(book) => {
                self.shared.publish(book);
                self.shared.view.publish(&reports);
                finish(jobs, &Ok(()));
                Ok(())
            }
            Err(fault) => {
                // trouble is known before reports become visible that are not
                // on the disk
                let result = self.fell(fault, jobs);
                self.keep_in_memory(reports, true);
                result
            }
        }
    }

    /// Whether nothing waits that comes along with the next commit.
    fn nothing_beside(&self) -> bool {
        self.addresses.is_empty() && self.notes.is_empty() && self.token_uses.is_empty()
    }

    fn take_notes(&mut self, notes: Vec<Note>) {
        let room = QUEUE_NOTES.saturating_sub(self.notes.len());
        let dropped = notes.len().saturating_sub(room);
        self.notes.extend(notes.into_iter().take(room));
        self.shared.note_audit_dropped(dropped as u64);
    }

    /// Overwrites free pages, if something in them was in plain text.
    fn wipe_if_wanted(&mut self) -> Result<(), Fault> {
        let book = self.shared.book();
        let wanted = book.to_wipe && book.plain.is_empty();
        if !wanted || self.wipe_failed || self.trouble.is_some() {
            return Ok(());
        }
        let shared = self.shared.clone();
        match wipe::wipe(&shared.disk) {
            Ok(()) => {
                shared.publish(Book {
                    to_wipe: false,
                    ..Book::clone(&book)
                });
                tracing::info!("what older versions kept in plain text is gone from the store");
                Ok(())
            }
            Err(fault) if fault.is_damage() => Err(fault),
            Err(fault) => {
                tracing::warn!(%fault, "what older versions kept in plain text is still in free pages of the store: they are overwritten at the next start");
                self.wipe_failed = true;
                self.give_up(fault, Vec::new())
            }
        }
    }

    /// There is room again: what waited in memory goes first.
    fn serve_with_backlog(&mut self, mut jobs: Vec<Waiting>) -> Result<(), Fault> {
        let mut backlog = std::mem::take(&mut self.backlog);
        let count = backlog.oldest().len();
        let written = self.transact(&mut jobs, backlog.oldest());
        backlog.settle(count, written.is_ok());
        self.backlog = backlog;
        match written {
            Ok(book) => {
                self.shared.publish(book);
                finish(jobs, &Ok(()));
                Ok(())
            }
            Err(fault) => self.fell(fault, jobs),
        }
    }

    /// The disk takes no samples; perhaps it takes the few bytes of a change.
    /// `tried` is the number of the write that they failed in before.
    fn serve_jobs_alone(
        &mut self,
        mut jobs: Vec<Waiting>,
        tried: Option<u64>,
    ) -> Result<(), Fault> {
        if jobs.is_empty() {
            return Ok(());
        }
        if !self.may_try {
            self.refuse(jobs);
            return Ok(());
        }
        if let Err(fault) = self.reopen() {
            return self.give_up(fault, jobs);
        }
        if tried.is_some_and(|number| self.is_written(number)) {
            finish(jobs, &Ok(()));
            return Ok(());
        }
        let number = self.next_write();
        match self.transact(&mut jobs, &[]) {
            Ok(book) => {
                self.shared.publish(book);
                finish(jobs, &Ok(()));
                Ok(())
            }
            Err(fault) if fault.is_damage() => self.give_up(fault, jobs),
            Err(fault) => {
                self.shared.disk.close();
                match self.reopen() {
                    Ok(()) if self.is_written(number) => {
                        finish(jobs, &Ok(()));
                        self.give_up(fault, Vec::new())
                    }
                    Err(damage) if damage.is_damage() => self.give_up(damage, jobs),
                    _ => self.give_up(fault, jobs),
                }
            }
        }
    }

    /// The number that the next write for somebody will have.
    fn next_write(&self) -> u64 {
        self.shared.book().writes + 1
    }

    /// Whether the write of this number, which failed, is on the disk after
    /// all: known once the database has been opened again, and then for good,
    /// because opening it writes its header anew and syncs it.
    fn is_written(&self, number: u64) -> bool {
        self.shared.book().writes == number
    }

    /// The disk took nothing for the first time. On a full one the ballast
    /// makes room for the changes among what was to be written.
    fn fell(&mut self, fault: Fault, jobs: Vec<Waiting>) -> Result<(), Fault> {
        if fault.is_damage() {
            finish(jobs, &Err(not_writing(&fault.to_string())));
            return Err(fault);
        }
        let released = fault.is_full() && self.ballast.release();
        tracing::error!(%fault, released, "the store cannot be written: polls are kept in memory");
        self.in_trouble(&fault);
        let number = self.next_write();
        self.shared.disk.close();
        self.may_try = true;
        self.serve_jobs_alone(jobs, Some(number))
    }

    /// Not even the changes can be written until the next probe.
    fn give_up(&mut self, fault: Fault, jobs: Vec<Waiting>) -> Result<(), Fault> {
        finish(jobs, &Err(not_writing(&fault.to_string())));
        if fault.is_damage() {
            return Err(fault);
        }
        self.in_trouble(&fault);
        self.shared.disk.close();
        self.may_try = false;
        Ok(())
    }

    fn in_trouble(&mut self, fault: &Fault) {
        let error = if fault.is_full() {
            let mebibytes = (self.shared.options.ballast_bytes >> 20) + 1;
            format!(
                "the disk is full: with {mebibytes} MiB free, polls that are kept in memory are written by themselves"
            )
        } else {
            fault.to_string()
        };
        self.shared.set_health(StoreHealth::NotWriting {
            since: self.shared.troubled_since().unwrap_or(self.now),
            error: error.clone(),
        });
        self.trouble = Some(error);
        self.probe_at = Some(Instant::now() + self.pace.probe);
    }

    fn refuse(&self, jobs: Vec<Waiting>) {
        let why = self
            .trouble
            .as_deref()
            .unwrap_or("the disk takes no writes");
        finish(jobs, &Err(not_writing(why)));
    }

    /// Tries whether the disk takes writes again.
    fn probe(&mut self) -> Result<(), Fault> {
        self.probe_at = Some(Instant::now() + self.pace.probe);
        self.may_try = true;
        if let Err(fault) = self.reopen() {
            return self.give_up(fault, Vec::new());
        }
        // no room for the ballast is too little room for samples
        if self.ballast.restore().is_err_and(|error| is_full(&error)) {
            return Ok(());
        }
        let mut backlog = std::mem::take(&mut self.backlog);
        let count = backlog.oldest().len();
        let mut heartbeat: Vec<Waiting> = Vec::new();
        let written = self.transact(&mut heartbeat, backlog.oldest());
        backlog.settle(count, written.is_ok());
        self.backlog = backlog;
        match written {
            Ok(book) => {
                self.shared.publish(book);
                self.trouble = None;
                self.probe_at = None;
                self.shared.set_health(StoreHealth::Ok);
                let waiting = self.backlog.reports.len();
                tracing::info!(waiting, "the store is written again");
                Ok(())
            }
            Err(fault) if fault.is_damage() => Err(fault),
            Err(fault) => {
                if fault.is_full() {
                    self.ballast.release();
                }
                self.give_up(fault, Vec::new())
            }
        }
    }

    /// Opens the database again, if it is not open, and goes on from what is
    /// there.
    fn reopen(&mut self) -> Result<(), Fault> {
        if self.shared.disk.is_open() {
            return Ok(());
        }
        let shared = self.shared.clone();
        let (book, tracks) = shared.disk.reopen(|db| {
            let txn = redb::ReadableDatabase::begin_read(db)?;
            let mut registry = shared
                .registry
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            registry.reload(&txn)?;
            Ok((Book::load(&txn)?, Tracks::load(&txn)?.0))
        })?;
        self.tracks = tracks;
        shared.view.set_tracks(self.tracks.by_group());
        let before = shared.book();
        // notes of a transaction that seemed to fail, but is there
        let written = book.notes.saturating_sub(before.notes);
        let written = usize::try_from(written).unwrap_or(usize::MAX);
        self.notes.drain(..written.min(self.notes.len()));
        shared.publish(Book {
            people: Arc::new(book.people.changed_since(&before.people)),
            watched: before.watched + 1,
            outbox_changes: before.outbox_changes + 1,
            ..book
        });
        Ok(())
    }

    /// A reader panicked in redb; the others, and we, need it opened again.
    fn clear_doubt(&mut self) -> Result<(), Fault> {
        if !self.shared.disk.is_doubtful() || self.trouble.is_some() {
            return Ok(());
        }
        tracing::warn!("a read met damage; the store is opened again");
        self.shared.disk.close();
        match self.reopen() {
            Err(fault) if !fault.is_damage() => self.give_up(fault, Vec::new()),
            other => other,
        }
    }

    /// Makes reports visible that wait in memory for the disk. `doubtful`: a
    /// transaction with them failed.
    fn keep_in_memory(&mut self, mut reports: Vec<Ready>, doubtful: bool) {
        self.shared.view.publish(&reports);
        for report in &mut reports {
            report.doubtful = doubtful;
        }
        let dropped = self
            .backlog
            .push(reports, self.shared.options.backlog_bytes);
        self.shared.note_dropped(dropped);
    }

    /// Writes what waits in memory before the store closes.
    fn drain(&mut self) -> Result<(), Fault> {
        if self.trouble.is_some() {
            self.probe()?;
        }
        while self.trouble.is_none() && !self.backlog.reports.is_empty() {
            self.serve_with_backlog(Vec::new())?;
        }
        let lost = self.backlog.reports.len();
        if lost > 0 {
            let why = self.trouble.clone().unwrap_or_default();
            self.shared.set_lost(lost as u64, why);
        }
        Ok(())
    }

    /// One transaction: all of it is on the disk when this returns `Ok`, or
    /// none of it.
    fn transact(&mut self, jobs: &mut [Waiting], reports: &[Ready]) -> Result<Book, Fault> {
        let began = Instant::now();
        let shared = self.shared.clone();
        let written = shared.disk.write(|txn| self.fill(txn, jobs, reports));
        let mut registry = shared
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match written {
            Ok(book) => {
                registry.committed();
                if self.tracks.tracks_change() {
                    shared.view.set_tracks(self.tracks.by_group());
                }
                self.tracks.committed();
                self.addresses.clear();
                self.notes.clear();
                self.token_uses.clear();
                shared.note_commit(began.elapsed(), &mut self.tracks);
                Ok(book)
            }
            Err(fault) => {
                registry.rolled_back();
                self.tracks.rolled_back();
                match fault {
                    Fault::Panic(what) if shared.disk.is_doubtful() => Err(Fault::Stale(what)),
                    other => Err(other),
                }
            }
        }
    }

    fn fill(
        &mut self,
        txn: &WriteTransaction,
        jobs: &mut [Waiting],
        reports: &[Ready],
    ) -> Result<Book, Fault> {
        let mut change = Change {
            txn,
            book: Book::clone(&self.shared.book()),
            file_rules: self.shared.file_rules(),
            heard: self.heard,
        };
        let (audit_head, denied) = (change.book.audit_head, change.book.denied);
        if !jobs.is_empty() {
            change.book.writes += 1;
            tables::COUNTER.put(txn, tables::WRITES, &change.book.writes)?;
        }
        audit::append_notes(&mut change, self.notes.iter())?;
        for (job, _room) in jobs {
            job.run(&mut change)?;
        }
        audit::tell_dropped(&mut change)?;
        audit::settle(&mut change, audit_head, audit::MAX_AUDIT)?;
        people::keep_token_uses(&mut change, self.token_uses.iter())?;
        self.heard = change.heard;
        self.tracks.write_all(txn, &self.shared.registry, reports)?;
        for (host, ip) in &self.addresses {
            tables::ADDRESS.put(txn, host.as_str(), ip)?;
        }
        let sweeps = self.pace.sweeps(self.swept.elapsed());
        if sweeps > 0 && self.trouble.is_none() {
            self.swept = Instant::now();
            self.sweep(&mut change, sweeps)?;
        }
        Denied::keep(&change, denied)?;
        Ok(change.book)
    }

    /// Takes away what is too old: the bounded amount of `sweeps` sweeps.
    fn sweep(&mut self, change: &mut Change<'_>, sweeps: usize) -> Result<(), Fault> {
        let samples = self.now.minus(self.shared.options.keep_samples);
        let past = self.now.minus(self.shared.options.keep_alerts);
        let cursor = self.track_cursor;
        let swept = self
            .tracks
            .forget_old(change.txn, cursor, SWEEP_TRACKS * sweeps, samples)?;
        self.track_cursor = swept.cursor;
        self.oldest_seen = self.oldest_seen.min(swept.oldest);
        if swept.cursor == 0 {
            self.oldest = std::mem::replace(&mut self.oldest_seen, Timestamp(u64::MAX));
        }
        let mut registry = self
            .shared
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // columns go after the last chunk that has them, whatever the clock says
        registry.forget_unused(change.txn, samples.min(self.oldest), 1)?;
        drop(registry);
        let rows = SWEEP_ROWS * sweeps;
        self.alert_cursor = alerts::sweep(change, self.alert_cursor, rows, past)?;
        outbox::sweep(change, rows, past)?;
        sessions::sweep(change, self.heard)?;
        answers::sweep(change, self.heard)?;
        let lines = self.heard.minus(self.shared.options.keep_audit);
        audit::sweep(change, rows, lines)
    }

    /// A report as it will be kept.
    fn ready(&mut self, report: PollReport) -> Ready {
        self.now = report.outcome.at;
        self.heard = report.outcome.at;
        let row = report.row.and_then(|row| self.ready_row(report.group, row));
        let known = self.shared.view.facts(report.group.device);
        let facts = report.facts.filter(|facts| {
            known.is_none_or(|known| {
                known.system != facts.system || known.interfaces != facts.interfaces
            })
        });
        Ready {
            group: report.group,
            outcome: report.outcome,
            row,
            facts: facts.map(Arc::new),
            doubtful: false,
        }
    }

    /// A row with interned columns, or nothing if it makes no sense.
    fn ready_row(&self, group: model::GroupKey, row: PollRow) -> Option<PollRow> {
        let (values, columns) = (row.values.len(), row.columns.series().len());
        if values != columns || columns > MAX_COLUMNS {
            let (device, check) = (group.device, group.check.word());
            tracing::error!(%device, check, values, columns, "a row of values does not fit its columns, or is too wide: dropped");
            return None;
        }
        let mut registry = self
            .shared
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let columns = registry.intern(&row.columns);
        Some(PollRow {
            group,
            columns,
            ..row
        })
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

fn not_writing(why: &str) -> WriteError {
    WriteError::NotWriting {
        why: why.to_owned(),
    }
}

fn finish(jobs: Vec<Waiting>, result: &Result<(), WriteError>) {
    for (job, _room) in jobs {
        job.finish(result.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_keep_their_pace_whatever_the_time_between_commits() {
        let sweeps = |ms| Pace::USUAL.sweeps(Duration::from_millis(ms));
        assert_eq!([sweeps(0), sweeps(999), sweeps(1_000)], [0, 0, 1]);
        assert_eq!([sweeps(1_999), sweeps(10_000)], [1, 10]);
        assert_eq!(sweeps(3_600_000), 10, "no more than one commit can bear");
    }
}
