//! The one thread that writes.
//!
//! It takes what waits: rows and outcomes go to the sample store's log,
//! everything else into one transaction. It tells whoever waits, and makes
//! reports visible, only once they are on the disk. Where only rows came, there
//! is no transaction.
//!
//! When the disk takes nothing, reports become visible all the same and wait in
//! the sample store's memory, changes are refused, and a probe now and then
//! finds out when there is room again. Damage or a panic in a transaction ends
//! the thread: going on could make it worse.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::samples::{Append, NotDurable, Refused, Ticket};
use model::{Breaks, Columns, DeviceId, Facts, GroupKey, PollReport, PollRow, Timestamp, TokenId};
use redb::{ReadableTableMetadata, WriteTransaction};

use crate::audit::{Denied, Note};
use crate::book::{Book, Change};
use crate::columns::{Interner, MAX_COLUMNS};
use crate::disk::Ballast;
use crate::error::{Fault, WriteError, WriterEnd};
use crate::queue::{Batch, QUEUE_NOTES, Task};
use crate::shared::Shared;
use crate::stats::StoreHealth;
use crate::view::Ready;
use crate::{alerts, answers, audit, outbox, people, plugins, sessions, tables, wipe};

/// Sweeps that one commit makes up for, where commits are further apart than
/// sweeps: as many as fit between two at the slowest setting.
const MAX_SWEEPS: u32 = 10;

/// Alerts and deliveries that one sweep looks at.
const SWEEP_ROWS: usize = 64;

/// Reports of one batch that are further apart were not polled by one clock.
const CLOCK_LEAP_MS: u64 = 3_600_000;

/// How long the writer waits at once for the keeper's last jobs.
const LAST_JOBS: Duration = Duration::from_millis(100);

/// Rows that are refused are told of in the log at most this often.
const TELL_REFUSED: Duration = Duration::from_secs(60);

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

/// See the module.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    pace: Pace,
    columns: Interner,
    ballast: Ballast,
    /// Why nothing is written, if nothing is.
    trouble: Option<String>,
    /// Whether a change is worth a try while nothing is written: once per
    /// probe.
    may_try: bool,
    probe_at: Option<Instant>,
    /// The log of the samples takes nothing.
    suspended: bool,
    /// The keeper tries whether it does again.
    trying_log: bool,
    /// Reports that are visible, but neither in the log nor in a segment.
    backlog: usize,
    now: Timestamp,
    /// The same, as whoever came last said: a change, a report or a line of
    /// the audit log.
    heard: Timestamp,
    swept: Instant,
    alert_cursor: u64,
    /// The newest row of those whose clock was set back, until it has caught
    /// up.
    set_back: HashMap<GroupKey, Timestamp>,
    /// Facts that are not on the disk yet.
    facts: BTreeMap<DeviceId, Arc<Facts>>,
    /// Addresses that came while nothing was written.
    addresses: Vec<(String, IpAddr)>,
    /// Audit lines that nobody waits for, until they are on the disk.
    notes: Vec<Note>,
    /// When tokens were used, until that is on the disk.
    token_uses: HashMap<TokenId, (Timestamp, String)>,
    /// Free pages could not be overwritten: not tried again before the next
    /// start.
    wipe_failed: bool,
    /// The columns of what has no row.
    no_columns: Arc<Columns>,
    told_refused: Option<Instant>,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        pace: Pace,
        columns: Interner,
        ballast: Ballast,
        now: Timestamp,
    ) -> Writer {
        Writer {
            shared,
            pace,
            columns,
            ballast,
            trouble: None,
            may_try: true,
            probe_at: None,
            suspended: false,
            trying_log: false,
            backlog: 0,
            now,
            heard: now,
            swept: Instant::now(),
            alert_cursor: 0,
            set_back: HashMap::new(),
            facts: BTreeMap::new(),
            addresses: Vec::new(),
            notes: Vec::new(),
            token_uses: HashMap::new(),
            wipe_failed: false,
            no_columns: Arc::new(Columns::new(Vec::new())),
            told_refused: None,
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
        let result = result.and_then(|()| self.let_the_keeper_end());
        if let Err(fault) = result {
            let why = self.end_of(fault);
            tracing::error!(%why, "nothing more is written to the store");
            self.shared.set_fault(why);
        }
    }

    /// Does the last jobs of who looks after the samples.
    fn let_the_keeper_end(&mut self) -> Result<(), Fault> {
        self.shared.keeper.stop();
        self.shared.samples.stop();
        while !self.shared.keeper.is_over() {
            let jobs = self.shared.queue.next_jobs(LAST_JOBS);
            self.serve_jobs(jobs)?;
        }
        Ok(())
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
        self.shared.note_heard(self.heard);
        self.take_notes(batch.notes);
        self.take_notes(self.shared.queue.denied_again(self.heard, batch.closing));
        self.clear_doubt()?;
        self.hear_the_keeper()?;
        if self.probe_at.is_some_and(|at| at <= Instant::now()) {
            self.probe()?;
        }
        let ticket = self.append(&reports);
        let result = self.serve_jobs(batch.jobs);
        // trouble is known before reports become visible that are not on the
        // disk
        self.wait_for_log(ticket, reports.len());
        self.shared.view.publish(&reports);
        self.shared.note_backlog(self.backlog);
        result
    }

    /// Hands the rows and outcomes to the sample store. Gives the ticket of the
    /// last ones: when they are in the log, all are.
    fn append(&mut self, reports: &[Ready]) -> Option<Ticket> {
        let close = |a: &Ready, b: &Ready| a.outcome.at.0.abs_diff(b.outcome.at.0) < CLOCK_LEAP_MS;
        let runs = reports.chunk_by(close);
        runs.map(|run| self.append_run(run)).last()
    }

    /// Of rows between which no clock leapt: what is too old or too new is so
    /// by the clock of its own time.
    fn append_run(&mut self, reports: &[Ready]) -> Ticket {
        let newest = reports.last().map_or(self.now, |report| report.outcome.at);
        let note = |report: &Ready| {
            postcard::to_stdvec(&report.outcome).expect("plain data in memory can be written down")
        };
        let notes: Vec<Vec<u8>> = reports.iter().map(note).collect();
        let caught_up = self.caught_up(reports);
        let of_none: (&Arc<Columns>, &[f64], &Breaks) = (&self.no_columns, &[], &Breaks::None);
        let rows = reports.iter().zip(&notes).map(|(report, note)| {
            let row = report.row.as_ref();
            let (columns, values, breaks) =
                row.map_or(of_none, |row| (&row.columns, &*row.values, &row.breaks));
            let breaks = match row.is_some_and(|row| caught_up.contains(&(report.group, row.at))) {
                true => &Breaks::All,
                false => breaks,
            };
            Append {
                group: report.group,
                at: row.map_or(report.outcome.at, |row| row.at),
                columns,
                values,
                breaks,
                note: Some(note),
            }
        });
        let rows: Vec<Append<'_>> = rows.collect();
        let appended = self.shared.samples.append(&rows, newest);
        self.tell_refused(reports, &appended.refused);
        appended.ticket
    }

    /// The rows among `reports` with which a clock that was set back once is at
    /// last beyond where it had been: such a row was measured against the one that
    /// came before it, and in time others lie between.
    fn caught_up(&mut self, reports: &[Ready]) -> HashSet<(GroupKey, Timestamp)> {
        let mut caught_up = HashSet::new();
        let mut last: HashMap<GroupKey, Timestamp> = HashMap::new();
        for (group, at) in reports
            .iter()
            .filter_map(|report| Some((report.group, report.row.as_ref()?.at)))
        {
            let before = last.insert(group, at);
            let seen = || Some(self.shared.view.reading(group)?.row.at);
            if let Some(before) = before.or_else(seen).filter(|before| at < *before) {
                let newest = self.set_back.entry(group).or_insert(before);
                *newest = before.max(*newest);
            }
            if self.set_back.get(&group).is_some_and(|newest| *newest < at) {
                self.set_back.remove(&group);
                caught_up.insert((group, at));
            }
        }
        caught_up
    }

    fn tell_refused(&mut self, reports: &[Ready], refused: &[(usize, Refused)]) {
        let lately = self
            .told_refused
            .is_some_and(|at| at.elapsed() < TELL_REFUSED);
        let Some((place, why)) = refused.first().filter(|_| !lately) else {
            return;
        };
        let (device, check) = match reports.get(*place) {
            Some(report) => (report.group.device, report.group.check.word()),
            None => return,
        };
        tracing::warn!(%device, check, %why, rows = refused.len(), "samples are refused");
        self.told_refused = Some(Instant::now());
    }

    /// Waits until rows are in the log, or until it is known that they are not.
    fn wait_for_log(&mut self, ticket: Option<Ticket>, reports: usize) {
        let Some(ticket) = ticket else {
            return;
        };
        if let Err(error) = ticket.durable() {
            self.backlog += reports;
            self.log_fell(&error);
        }
    }

    /// The log takes nothing: on a full disk the ballast makes room for changes.
    fn log_fell(&mut self, error: &NotDurable) {
        if self.suspended {
            return;
        }
        self.suspended = true;
        let released = error.full && self.ballast.release();
        tracing::error!(%error, released, "samples cannot be written: they are kept in memory");
        if self.trouble.is_none() {
            self.may_try = true;
            self.in_trouble(error.full, &error.why);
        }
    }

    /// Does what somebody waits for, and what comes along with it.
    fn serve_jobs(&mut self, mut jobs: Vec<Task>) -> Result<(), Fault> {
        if self.trouble.is_some() {
            return self.serve_jobs_alone(jobs, None);
        }
        if jobs.is_empty() && self.nothing_beside() {
            return self.sweep_alone();
        }
        match self.transact(&mut jobs) {
            Ok(book) => {
                self.shared.publish(book);
                finish(jobs, &Ok(()));
                Ok(())
            }
            Err(fault) => self.fell(fault, jobs),
        }
    }

    /// Whether nothing waits that comes along with the next commit.
    fn nothing_beside(&self) -> bool {
        self.facts.is_empty()
            && self.addresses.is_empty()
            && self.notes.is_empty()
            && self.token_uses.is_empty()
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

    /// The disk takes no samples; perhaps it takes the few bytes of a change.
    /// `tried` is the number of the write that they failed in before.
    fn serve_jobs_alone(&mut self, mut jobs: Vec<Task>, tried: Option<u64>) -> Result<(), Fault> {
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
        match self.transact(&mut jobs) {
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
    fn fell(&mut self, fault: Fault, jobs: Vec<Task>) -> Result<(), Fault> {
        if fault.is_damage() {
            finish(jobs, &Err(not_writing(&fault.to_string())));
            return Err(fault);
        }
        let released = fault.is_full() && self.ballast.release();
        tracing::error!(%fault, released, "the store cannot be written");
        self.in_trouble(fault.is_full(), &fault.to_string());
        let number = self.next_write();
        self.shared.disk.close();
        self.may_try = true;
        self.serve_jobs_alone(jobs, Some(number))
    }

    /// Not even the changes can be written until the next probe.
    fn give_up(&mut self, fault: Fault, jobs: Vec<Task>) -> Result<(), Fault> {
        finish(jobs, &Err(not_writing(&fault.to_string())));
        if fault.is_damage() {
            return Err(fault);
        }
        self.in_trouble(fault.is_full(), &fault.to_string());
        self.shared.disk.close();
        self.may_try = false;
        Ok(())
    }

    fn in_trouble(&mut self, full: bool, why: &str) {
        self.shared.catalog.set_full(full);
        let error = if full {
            let mebibytes = (self.shared.options.ballast_bytes >> 20) + 1;
            format!(
                "the disk is full: with {mebibytes} MiB free, polls that are kept in memory are written by themselves"
            )
        } else {
            why.to_owned()
        };
        self.shared.set_health(StoreHealth::NotWriting {
            since: self.shared.troubled_since().unwrap_or(self.now),
            error: error.clone(),
        });
        self.trouble = Some(error);
        self.probe_at = Some(Instant::now() + self.pace.probe);
    }

    fn refuse(&self, jobs: Vec<Task>) {
        let why = self
            .trouble
            .as_deref()
            .unwrap_or("the disk takes no writes");
        finish(jobs, &Err(not_writing(why)));
    }

    /// Tries whether the disk takes writes again.
    fn probe(&mut self) -> Result<(), Fault> {
        self.probe_at = Some(Instant::now() + self.pace.probe);
        if self.trying_log {
            return Ok(());
        }
        self.may_try = true;
        if let Err(fault) = self.reopen() {
            return self.give_up(fault, Vec::new());
        }
        // no room for the ballast is too little room for samples
        if self.ballast.restore().is_err_and(|error| is_full(&error)) {
            return Ok(());
        }
        match self.transact(&mut []) {
            Ok(book) => {
                self.shared.publish(book);
                if self.suspended {
                    self.trying_log = true;
                    self.shared.keeper.try_log();
                } else {
                    self.recovered();
                }
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

    fn recovered(&mut self) {
        self.trouble = None;
        self.probe_at = None;
        self.shared.set_health(StoreHealth::Ok);
        tracing::info!("the store is written again");
    }

    /// Takes to heart how trying the log went, if it was tried.
    fn hear_the_keeper(&mut self) -> Result<(), Fault> {
        match self.shared.keeper.take_tried() {
            None => return Ok(()),
            Some(Ok(())) => {
                self.suspended = false;
                self.backlog = 0;
            }
            Some(Err(error)) => {
                if error.full {
                    self.ballast.release();
                }
            }
        }
        self.trying_log = false;
        if self.trouble.is_none() || self.suspended {
            return Ok(());
        }
        match self.shared.disk.is_open() {
            true => {
                self.recovered();
                Ok(())
            }
            // it fell meanwhile
            false => self.probe(),
        }
    }

    /// Opens the database again, if it is not open, and goes on from what is
    /// there.
    fn reopen(&mut self) -> Result<(), Fault> {
        if self.shared.disk.is_open() {
            return Ok(());
        }
        let shared = self.shared.clone();
        let book = shared.disk.reopen(|db| {
            let txn = redb::ReadableDatabase::begin_read(db)?;
            Book::load(&txn)
        })?;
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

    /// Writes what waits in memory before the store closes.
    fn drain(&mut self) -> Result<(), Fault> {
        if self.trouble.is_some() {
            self.probe()?;
        }
        while self.trying_log && !self.shared.keeper.is_over() {
            let jobs = self.shared.queue.next_jobs(LAST_JOBS);
            self.hear_the_keeper()?;
            self.serve_jobs(jobs)?;
        }
        if !self.nothing_beside() {
            self.serve_jobs(Vec::new())?;
        }
        if self.backlog > 0 {
            let why = self.trouble.clone().unwrap_or_default();
            self.shared.set_lost(self.backlog as u64, why);
        }
        Ok(())
    }

    /// One transaction: all of it is on the disk when this returns `Ok`, or
    /// none of it.
    fn transact(&mut self, jobs: &mut [Task]) -> Result<Book, Fault> {
        let began = Instant::now();
        let shared = self.shared.clone();
        match shared.disk.write(|txn| self.fill(txn, jobs)) {
            Ok(book) => {
                self.facts.clear();
                self.addresses.clear();
                self.notes.clear();
                self.token_uses.clear();
                shared.note_commit(began.elapsed());
                Ok(book)
            }
            Err(Fault::Panic(what)) if shared.disk.is_doubtful() => Err(Fault::Stale(what)),
            Err(fault) => Err(fault),
        }
    }

    /// A copy of the book, to be changed with `txn`.
    fn change<'t>(&self, txn: &'t WriteTransaction) -> Change<'t> {
        Change {
            txn,
            book: Book::clone(&self.shared.book()),
            file_rules: self.shared.file_rules(),
            heard: self.heard,
        }
    }

    fn fill(&mut self, txn: &WriteTransaction, jobs: &mut [Task]) -> Result<Book, Fault> {
        let mut change = self.change(txn);
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
        for (device, facts) in &self.facts {
            tables::FACTS.put(txn, device.0, facts)?;
        }
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

    /// Takes away what is too old where no commit came along for a while. What
    /// takes nothing away is no commit.
    fn sweep_alone(&mut self) -> Result<(), Fault> {
        let sweeps = MAX_SWEEPS as usize;
        if self.pace.sweeps(self.swept.elapsed()) < sweeps {
            return Ok(());
        }
        self.swept = Instant::now();
        let began = self.swept;
        let shared = self.shared.clone();
        let swept = shared.disk.write_if(|txn| {
            let mut change = self.change(txn);
            let denied = change.book.denied;
            let before = sweepable(txn)?;
            self.sweep(&mut change, sweeps)?;
            Denied::keep(&change, denied)?;
            Ok((sweepable(txn)? != before).then_some(change.book))
        });
        match swept {
            Ok(None) => Ok(()),
            Ok(Some(book)) => {
                shared.note_commit(began.elapsed());
                shared.publish(book);
                Ok(())
            }
            Err(fault) => self.fell(fault, Vec::new()),
        }
    }

    /// Takes away what is too old: the bounded amount of `sweeps` sweeps.
    fn sweep(&mut self, change: &mut Change<'_>, sweeps: usize) -> Result<(), Fault> {
        let past = self.now.minus(self.shared.options.keep_alerts);
        let rows = SWEEP_ROWS * sweeps;
        self.alert_cursor = alerts::sweep(change, self.alert_cursor, rows, past)?;
        outbox::sweep(change, rows, past)?;
        sessions::sweep(change, self.heard)?;
        answers::sweep(change, self.heard)?;
        plugins::sweep(change, self.heard)?;
        let lines = self.heard.minus(self.shared.options.keep_audit);
        audit::sweep(change, rows, lines)
    }

    /// A report as it will be kept.
    fn ready(&mut self, report: PollReport) -> Ready {
        self.now = report.outcome.at;
        self.heard = report.outcome.at;
        let row = report.row.and_then(|row| self.ready_row(report.group, row));
        let device = report.group.device;
        let known = self.shared.view.facts(device);
        let known = self.facts.get(&device).or(known.as_ref());
        let news = report.facts.filter(|facts| {
            known.is_none_or(|known| {
                known.system != facts.system || known.interfaces != facts.interfaces
            })
        });
        let facts = news.map(Arc::new);
        if let Some(facts) = &facts {
            self.facts.insert(device, facts.clone());
        }
        Ready {
            group: report.group,
            outcome: report.outcome,
            row,
            facts,
        }
    }

    /// A row with interned columns, or nothing if it makes no sense.
    fn ready_row(&mut self, group: GroupKey, row: PollRow) -> Option<PollRow> {
        let (values, columns) = (row.values.len(), row.columns.series().len());
        if values != columns || columns > MAX_COLUMNS {
            let (device, check) = (group.device, group.check.word());
            tracing::error!(%device, check, values, columns, "a row of values does not fit its columns, or is too wide: dropped");
            return None;
        }
        Some(PollRow {
            group,
            columns: self.columns.intern(&row.columns),
            ..row
        })
    }
}

/// How many rows there are of what sweeps take away.
fn sweepable(txn: &WriteTransaction) -> Result<[u64; 6], Fault> {
    Ok([
        txn.open_table(tables::ALERT_PAST.definition())?.len()?,
        txn.open_table(tables::DELIVERED.definition())?.len()?,
        txn.open_table(tables::SESSION.definition())?.len()?,
        txn.open_table(tables::ANSWER.definition())?.len()?,
        txn.open_table(tables::PLUGIN_KV.definition())?.len()?,
        txn.open_table(tables::AUDIT.definition())?.len()?,
    ])
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

fn finish(jobs: Vec<Task>, result: &Result<(), WriteError>) {
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
