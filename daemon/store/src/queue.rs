//! The way to the writer: poll reports, which wait a little for others to
//! share a commit with, and jobs, which do not.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::{PollReport, Timestamp, TokenId};
use tokio::sync::OwnedSemaphorePermit;

use crate::audit::{Denials, Note};
use crate::book::Change;
use crate::error::{Fault, WriteError};

/// Poll reports that can wait, places taken beforehand included: twice what
/// can be in flight at the design size, for the length of a slow commit.
pub(crate) const QUEUE_REPORTS: usize = 4_096;

/// Poll reports in one commit: a second's worth at the design size.
const BATCH_REPORTS: usize = 1_024;

/// Jobs that can wait: each is somebody who waits for an answer.
pub(crate) const QUEUE_JOBS: usize = 1_024;

/// Audit lines that can wait for the next commit: more denied attempts than one
/// second can bring within the limits of the API.
pub(crate) const QUEUE_NOTES: usize = 4_096;

/// Something to do in the next transaction, for somebody who waits.
pub(crate) trait Job: Send {
    /// Does it; may be called again if the transaction fails.
    fn run(&mut self, change: &mut Change<'_>) -> Result<(), Fault>;
    /// Tells whoever waits. `Ok` means: on the disk.
    fn finish(self: Box<Self>, result: Result<(), WriteError>);
}

/// A job, and the place that it takes while it waits; one of the store's own
/// needs none, because who queues it waits.
pub(crate) type Task = (Box<dyn Job>, Option<OwnedSemaphorePermit>);

/// What the writer takes at once.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) jobs: Vec<Task>,
    pub(crate) reports: Vec<PollReport>,
    pub(crate) addresses: Vec<(String, IpAddr)>,
    pub(crate) notes: Vec<Note>,
    pub(crate) token_uses: HashMap<TokenId, (Timestamp, String)>,
    pub(crate) closing: bool,
}

/// The queue.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: Vec<Task>,
    reports: VecDeque<PollReport>,
    addresses: HashMap<String, IpAddr>,
    notes: Vec<Note>,
    denials: Denials,
    token_uses: HashMap<TokenId, (Timestamp, String)>,
    /// Places taken for reports that are on their way.
    reserved: usize,
    /// When the oldest of what does not call the writer at once came.
    since: Option<Instant>,
    /// The writer is to have a look at the disk.
    nudged: bool,
    /// Nothing comes in any more but the store's own jobs.
    closed: bool,
    /// Nobody takes anything out any more.
    abandoned: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn len(&self) -> usize {
        let waiting = self.lock();
        waiting.reports.len() + waiting.reserved
    }

    pub(crate) fn try_reserve(self: &Arc<Self>) -> Option<Room> {
        let mut waiting = self.lock();
        if waiting.closed || waiting.reports.len() + waiting.reserved >= QUEUE_REPORTS {
            return None;
        }
        waiting.reserved += 1;
        Some(Room {
            queue: self.clone(),
            taken: true,
        })
    }

    /// Queues a job, unless the store is closed.
    pub(crate) fn push_job(&self, job: Box<dyn Job>, room: OwnedSemaphorePermit) {
        let mut waiting = self.lock();
        if waiting.closed {
            drop(waiting);
            return job.finish(Err(WriteError::Closed));
        }
        waiting.jobs.push((job, Some(room)));
        self.changed.notify_all();
    }

    /// Queues a job of the store itself, also while it closes.
    pub(crate) fn push_own(&self, job: Box<dyn Job>) {
        let mut waiting = self.lock();
        if waiting.abandoned {
            drop(waiting);
            return job.finish(Err(WriteError::Closed));
        }
        waiting.jobs.push((job, None));
        self.changed.notify_all();
    }

    /// Waits for jobs, or until somebody nudges; takes the jobs.
    pub(crate) fn next_jobs(&self, timeout: Duration) -> Vec<Task> {
        let nothing = |waiting: &mut Waiting| waiting.jobs.is_empty() && !waiting.nudged;
        let woken = self
            .changed
            .wait_timeout_while(self.lock(), timeout, nothing);
        let mut waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        waiting.nudged = false;
        std::mem::take(&mut waiting.jobs)
    }

    pub(crate) fn push_address(&self, host: String, ip: IpAddr) {
        let mut waiting = self.lock();
        if waiting.closed || waiting.addresses.len() >= QUEUE_REPORTS {
            return; // it is only a hint, and comes again
        }
        waiting.addresses.insert(host, ip);
        waiting.since.get_or_insert_with(Instant::now);
        self.changed.notify_all();
    }

    /// Queues a line of the audit log, or counts it if it is a denial that was
    /// queued a moment ago; whether there was room.
    pub(crate) fn push_note(&self, note: Note) -> bool {
        let mut waiting = self.lock();
        if waiting.closed || waiting.notes.len() >= QUEUE_NOTES {
            return false;
        }
        let notes = waiting.denials.take(note);
        if notes.is_empty() {
            return true;
        }
        waiting.notes.extend(notes);
        waiting.since.get_or_insert_with(Instant::now);
        self.changed.notify_all();
        true
    }

    /// Lines that say how often denials came again, in minutes that are over
    /// or, at the end, at all.
    pub(crate) fn denied_again(&self, now: Timestamp, closing: bool) -> Vec<Note> {
        let denials = &mut self.lock().denials;
        match closing {
            true => denials.all(),
            false => denials.over(now),
        }
    }

    /// Keeps that a token was used, unless that waits already.
    pub(crate) fn push_token_use(&self, id: TokenId, at: Timestamp, from: String) {
        let mut waiting = self.lock();
        if waiting.closed || waiting.token_uses.contains_key(&id) {
            return;
        }
        waiting.token_uses.insert(id, (at, from));
        waiting.since.get_or_insert_with(Instant::now);
        self.changed.notify_all();
    }

    /// Wakes the writer though there is nothing to write.
    pub(crate) fn nudge(&self) {
        self.lock().nudged = true;
        self.changed.notify_all();
    }

    /// Takes no more; what is queued is still handed out.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Takes no more and forgets what is queued: whoever waits is told.
    pub(crate) fn abandon(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.abandoned = true;
        waiting.reports.clear();
        let jobs = std::mem::take(&mut waiting.jobs);
        drop(waiting);
        for (job, _room) in jobs {
            job.finish(Err(WriteError::Closed));
        }
    }

    /// Waits for something to do: a job, reports that waited for `patience`,
    /// the end, or `timeout` (then the batch is empty).
    pub(crate) fn next(&self, patience: Duration, timeout: Option<Duration>) -> Batch {
        let give_up = timeout.map(|timeout| Instant::now() + timeout);
        let mut waiting = self.lock();
        loop {
            let now = Instant::now();
            let due = waiting.since.map(|since| since + patience);
            let is_full = waiting.reports.len() >= BATCH_REPORTS;
            let is_due = is_full || due.is_some_and(|due| due <= now);
            let is_over = give_up.is_some_and(|give_up| give_up <= now);
            let is_called = !waiting.jobs.is_empty() || waiting.nudged || waiting.closed;
            if is_called || is_due || is_over {
                return waiting.take();
            }
            let until = [due, give_up].into_iter().flatten().min();
            waiting = match until {
                None => self
                    .changed
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let woken = self.changed.wait_timeout(waiting, until - now);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl Waiting {
    fn take(&mut self) -> Batch {
        let count = self.reports.len().min(BATCH_REPORTS);
        let reports: Vec<PollReport> = self.reports.drain(..count).collect();
        if self.reports.is_empty() {
            self.since = None;
        }
        self.nudged = false;
        Batch {
            jobs: std::mem::take(&mut self.jobs),
            reports,
            addresses: self.addresses.drain().collect(),
            notes: std::mem::take(&mut self.notes),
            token_uses: std::mem::take(&mut self.token_uses),
            closing: self.closed && self.reports.is_empty(),
        }
    }
}

/// A place in the queue, taken before a device is asked.
pub struct Room {
    queue: Arc<Queue>,
    taken: bool,
}

impl Room {
    /// Hands the report over. It is kept with the next commit.
    pub fn send(mut self, report: PollReport) {
        self.taken = false;
        let mut waiting = self.queue.lock();
        waiting.reserved -= 1;
        if waiting.closed {
            return;
        }
        waiting.reports.push_back(report);
        let is_full = waiting.reports.len() == BATCH_REPORTS;
        if waiting.since.is_none() || is_full {
            waiting.since.get_or_insert_with(Instant::now);
            self.queue.changed.notify_all();
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.taken {
            self.queue.lock().reserved -= 1;
        }
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Room")
    }
}

#[cfg(test)]
mod tests {
    use model::{Check, DeviceId, GroupKey, Outcome, Timestamp};

    use super::*;

    fn report(at: u64) -> PollReport {
        PollReport {
            group: GroupKey {
                device: DeviceId(1),
                check: Check::Icmp,
            },
            outcome: Outcome {
                at: Timestamp(at),
                took: Duration::ZERO,
                failure: None,
                partial: Vec::new(),
            },
            row: None,
            facts: None,
        }
    }

    #[test]
    fn a_place_is_taken_before_and_given_back_unused() {
        let queue = Arc::new(Queue::default());
        let rooms: Vec<Room> = (0..QUEUE_REPORTS)
            .filter_map(|_| queue.try_reserve())
            .collect();
        assert_eq!(rooms.len(), QUEUE_REPORTS);
        assert!(queue.try_reserve().is_none());
        drop(rooms);
        assert_eq!(queue.len(), 0);
        queue.try_reserve().unwrap().send(report(1));
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn a_full_batch_waits_for_nobody() {
        let queue = Arc::new(Queue::default());
        for at in 0..1_024 {
            queue.try_reserve().unwrap().send(report(at));
        }
        let patience = Duration::from_secs(60);
        let began = Instant::now();
        assert_eq!(queue.next(patience, None).reports.len(), BATCH_REPORTS);
        assert!(began.elapsed() < patience / 2);
    }

    #[test]
    fn reports_wait_for_others_and_come_in_order() {
        let queue = Arc::new(Queue::default());
        for at in 0..3 {
            queue.try_reserve().unwrap().send(report(at));
        }
        let none_yet = queue.next(Duration::from_secs(60), Some(Duration::ZERO));
        // a timeout hands out what there is
        assert_eq!(none_yet.reports.len(), 3);
        let times: Vec<u64> = none_yet.reports.iter().map(|r| r.outcome.at.0).collect();
        assert_eq!(times, [0, 1, 2]);
    }

    #[test]
    fn a_closed_queue_hands_out_the_rest_in_batches() {
        let queue = Arc::new(Queue::default());
        for at in 0..1_500 {
            queue.try_reserve().unwrap().send(report(at));
        }
        queue.close();
        assert!(queue.try_reserve().is_none());
        let first = queue.next(Duration::ZERO, None);
        assert_eq!((first.reports.len(), first.closing), (BATCH_REPORTS, false));
        let rest = queue.next(Duration::ZERO, None);
        assert_eq!(
            (rest.reports.len(), rest.closing),
            (1_500 - BATCH_REPORTS, true)
        );
    }
}
