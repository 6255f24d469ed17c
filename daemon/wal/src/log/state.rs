//! What appenders, waiters and the log's thread share, under one lock. It
//! decides and does no input or output.

use std::time::{Duration, Instant};

use super::format::{FRAME_HEADER, FRAME_TARGET, MAX_APPEND};
use super::lost::Lost;
use super::syncs::Syncs;
use super::writer::{Chunk, Progress};
use super::{NotDurable, WalStats};

/// So many frames' memory a quiet log keeps: the one that is gathered next, and
/// one while a sync runs.
const QUIET_SPARES: usize = 2;

/// When to write and sync.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) write_every: Duration,
    pub(super) sync_every: Duration,
    pub(super) max_pending: usize,
}

/// What the thread does next.
#[derive(Debug)]
pub(super) enum Task {
    /// Nothing, at most until then.
    Sleep(Option<Instant>),
    /// Write these, and sync if so.
    Store { chunks: Vec<Chunk>, sync: bool },
    /// Try whether the disk takes something again.
    Resume { asked: u64, rotation: u64 },
    /// Write and sync these, and be done.
    End(Vec<Chunk>),
}

/// What the thread waits for, so that nobody wakes it for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asleep {
    Not,
    UntilSomethingHurries,
    UntilSomethingComes,
}

#[derive(Debug)]
pub(super) struct State {
    pace: Pace,
    /// Room for a frame's header, then what was appended last.
    gathering: Vec<u8>,
    /// When the first of that came.
    since: Option<Instant>,
    full: Vec<Chunk>,
    spare: Vec<Vec<u8>>,
    /// Bytes of records that are not known to be on the disk.
    pending: usize,
    unsynced_since: Option<Instant>,
    /// How many appends there were.
    appended: u64,
    /// What became of everything up to here is known: it is on the disk, or lost.
    settled: u64,
    /// Somebody waits for everything up to here.
    wanted: u64,
    lost: Lost,
    /// What [`State::rotate`] gave last.
    rotation: u64,
    /// The highest number that a file or a rotation got.
    last_number: u64,
    suspended: Option<NotDurable>,
    resumes_asked: u64,
    resumes_tried: u64,
    closing: bool,
    ended: bool,
    written: u64,
    sealed: u64,
    syncs: Syncs,
    pub(super) asleep: Asleep,
    pub(super) waiting: usize,
}

/// Appending.
impl State {
    pub(super) fn new(pace: Pace, rotation: u64) -> State {
        State {
            pace,
            gathering: vec![0; FRAME_HEADER],
            since: None,
            full: Vec::new(),
            spare: Vec::new(),
            pending: 0,
            unsynced_since: None,
            appended: 0,
            settled: 0,
            wanted: 0,
            lost: Lost::default(),
            rotation,
            last_number: rotation,
            suspended: None,
            resumes_asked: 0,
            resumes_tried: 0,
            closing: false,
            ended: false,
            written: 0,
            sealed: 0,
            syncs: Syncs::default(),
            asleep: Asleep::Not,
            waiting: 0,
        }
    }

    /// Whether an append has to wait for room.
    pub(super) fn is_full(&self) -> bool {
        self.pending >= self.pace.max_pending && self.refuses().is_none()
    }

    /// Why nothing is taken, if nothing is.
    pub(super) fn refuses(&self) -> Option<NotDurable> {
        let closed = || NotDurable {
            why: "the log is closed".to_owned(),
            full: false,
        };
        match &self.suspended {
            Some(why) => Some(why.clone()),
            None => (self.closing || self.ended).then(closed),
        }
    }

    /// Appends what `write` writes, and gives its place.
    pub(super) fn append(&mut self, write: &mut dyn FnMut(&mut Vec<u8>)) -> u64 {
        if let Some(why) = self.refuses() {
            return self.forget_one(&why);
        }
        let before = self.gathering.len();
        let mut partial = Partial {
            buffer: &mut self.gathering,
            whole: before,
        };
        write(partial.buffer);
        let written = partial.buffer.len().saturating_sub(before);
        if written > MAX_APPEND {
            drop(partial);
            // what comes later may build on it: no more is taken, while what
            // came before is still stored
            let why = too_long(written);
            self.suspended = Some(why.clone());
            return self.forget_one(&why);
        }
        partial.whole = before + written;
        drop(partial);
        self.took(written)
    }

    fn took(&mut self, bytes: usize) -> u64 {
        if bytes == 0 {
            return self.appended;
        }
        self.appended += 1;
        self.pending += bytes;
        if self.since.is_none() {
            self.since = Some(Instant::now());
        }
        if self.gathering.len() >= FRAME_TARGET {
            self.close_frame();
        }
        self.appended
    }

    fn forget_one(&mut self, why: &NotDurable) -> u64 {
        self.appended += 1;
        self.lost.add(self.appended - 1, self.appended, why);
        self.appended
    }

    /// What is gathered becomes a frame; the next is gathered.
    fn close_frame(&mut self) {
        let Some(since) = self.since.take() else {
            return; // nothing was gathered
        };
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.resize(FRAME_HEADER, 0);
        self.full.push(Chunk {
            bytes: std::mem::replace(&mut self.gathering, bytes),
            upto: self.appended,
            rotation: self.rotation,
            since,
            number: 0,
        });
    }

    pub(super) fn rotate(&mut self) -> u64 {
        self.close_frame();
        self.rotation = self.next_number();
        self.rotation
    }

    pub(super) fn rotation(&self) -> u64 {
        self.rotation
    }

    /// A number for a file that no other has or gets.
    pub(super) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}

/// Waiting.
impl State {
    pub(super) fn appended(&self) -> u64 {
        self.appended
    }

    /// What became of a place: nothing yet, or the answer.
    pub(super) fn fate(&self, place: u64) -> Option<Result<(), NotDurable>> {
        if let Some(why) = self.lost.why(place) {
            return Some(Err(why.clone()));
        }
        (place <= self.settled).then_some(Ok(()))
    }

    pub(super) fn want(&mut self, place: u64) {
        self.wanted = self.wanted.max(place);
    }

    /// Asks for a try to write again, and gives which try that is.
    pub(super) fn ask_resume(&mut self) -> u64 {
        self.resumes_asked += 1;
        self.resumes_asked
    }

    /// What became of a try.
    pub(super) fn resumed(&self, asked: u64) -> Option<Result<(), NotDurable>> {
        let known = self.resumes_tried >= asked || self.ended;
        known.then(|| self.refuses().map_or(Ok(()), Err))
    }

    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn suspended(&self) -> Option<NotDurable> {
        self.suspended.clone()
    }

    pub(super) fn stats(&self) -> WalStats {
        WalStats {
            written: self.written,
            syncs: self.syncs.count,
            sync_seconds: self.syncs.histogram(),
            sync_seconds_sum: self.syncs.seconds,
            pending: self.pending,
            sealed: self.sealed,
            suspended: self.suspended.clone(),
        }
    }
}

/// The thread's side.
impl State {
    /// Whether the thread has to do something although its time has not come.
    pub(super) fn hurries(&self) -> bool {
        self.closing
            || self.resumes_asked > self.resumes_tried
            || !self.full.is_empty()
            || self.wants_sync()
    }

    /// Whether there is anything that the thread has to note the time of.
    pub(super) fn has_something(&self) -> bool {
        self.since.is_some()
    }

    fn wants_sync(&self) -> bool {
        // half, so that those who append need not wait for a sync to begin
        self.wanted > self.settled || self.pending > self.pace.max_pending / 2
    }

    pub(super) fn next_task(&mut self, now: Instant) -> Task {
        if self.closing {
            return Task::End(self.take());
        }
        if self.resumes_asked > self.resumes_tried && self.pending > 0 {
            // from before a record that was too long
            let chunks = self.take();
            return Task::Store { chunks, sync: true };
        }
        if self.resumes_asked > self.resumes_tried {
            return Task::Resume {
                asked: self.resumes_asked,
                rotation: self.rotation,
            };
        }
        let write_at = after(self.since, self.pace.write_every);
        let first = self
            .unsynced_since
            .or(self.full.first().map(|chunk| chunk.since));
        let sync_at = after(first.or(self.since), self.pace.sync_every);
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let sync = self.wants_sync() || is_due(sync_at);
        if sync || !self.full.is_empty() || is_due(write_at) {
            let chunks = self.take();
            return Task::Store { chunks, sync };
        }
        Task::Sleep(write_at.into_iter().chain(sync_at).min())
    }

    fn take(&mut self) -> Vec<Chunk> {
        self.close_frame();
        std::mem::take(&mut self.full)
    }

    /// Notes what the writer did; with an error, everything else is lost.
    pub(super) fn stored(&mut self, progress: Progress, outcome: Result<(), NotDurable>) {
        self.settled = self.settled.max(progress.durable);
        self.unsynced_since = progress.unsynced_since;
        self.written = progress.written;
        self.sealed = progress.sealed;
        self.syncs = progress.syncs;
        let quiet = progress.done.len() <= 1;
        for chunk in progress.done {
            self.pending = self.pending.saturating_sub(chunk.payload());
            self.keep_spare(chunk.bytes);
        }
        if quiet && self.spare.len() > QUIET_SPARES {
            self.spare.pop(); // what a burst needed goes bit by bit
        }
        if let Err(why) = outcome {
            self.suspend(why);
        }
    }

    pub(super) fn tried_resume(&mut self, asked: u64, outcome: Result<(), NotDurable>) {
        self.resumes_tried = asked;
        self.suspended = outcome.err();
    }

    pub(super) fn suspend(&mut self, why: NotDurable) {
        self.lost.add(self.settled, self.appended, &why);
        self.settled = self.appended;
        self.take();
        self.pending = 0;
        self.unsynced_since = None;
        self.suspended = Some(why);
    }

    /// The thread is gone; what is not settled is lost.
    pub(super) fn end(&mut self) {
        if self.pending > 0 {
            let why = NotDurable {
                why: "the log's thread ended".to_owned(),
                full: false,
            };
            self.lost.add(self.settled, self.appended, &why);
            self.settled = self.appended;
        }
        self.ended = true;
    }

    /// New memory costs more than filling it: a burst gets it once.
    fn keep_spare(&mut self, bytes: Vec<u8>) {
        let kept: usize = self.spare.iter().map(Vec::capacity).sum();
        if kept + bytes.capacity() <= self.pace.max_pending {
            self.spare.push(bytes);
        }
    }
}

/// Takes back what was half written when `write` panics.
struct Partial<'a> {
    buffer: &'a mut Vec<u8>,
    whole: usize,
}

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        self.buffer.truncate(self.whole);
    }
}

fn after(since: Option<Instant>, time: Duration) -> Option<Instant> {
    since.and_then(|since| since.checked_add(time))
}

fn too_long(bytes: usize) -> NotDurable {
    tracing::error!(
        bytes,
        most = MAX_APPEND,
        "a record is too long: the log is suspended"
    );
    NotDurable {
        why: format!("a record of {bytes} bytes is longer than the {MAX_APPEND} that it takes"),
        full: false,
    }
}
