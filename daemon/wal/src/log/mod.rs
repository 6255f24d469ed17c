//! The log. `state` decides under one lock, `thread` waits and wakes, `writer`
//! writes files, `replay` reads them; `format` is their bytes.

mod format;
mod lost;
mod replay;
mod state;
mod syncs;
mod thread;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use self::replay::failed;
use self::state::{Pace, State};
use self::thread::Shared;
use self::writer::Writer;
use crate::fs::Fs;

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// Where its files lie: `<stream>-<number, 8 digits>.wal`.
    pub dir: PathBuf,
    /// The first letter of its files: m for samples.
    pub stream: char,
    /// What was appended is written (not synced) at most this much later, so
    /// that the death of the process loses next to nothing.
    pub write_every: Duration,
    /// What was appended is synced at most this much later, whether somebody
    /// waits or not.
    pub sync_every: Duration,
    /// Bytes that may wait for the disk; who appends beyond that waits.
    pub max_pending: usize,
}

/// A place in the log: it grows with every append. Not kept over a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(pub u64);

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} the log {path}")]
pub struct WalError {
    /// What was tried.
    pub doing: &'static str,
    /// With which file.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

/// What was appended is not on the disk, and will not be by itself: the log is
/// suspended until [`Wal::resume`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log takes nothing: {why}")]
pub struct NotDurable {
    /// What the system said.
    pub why: String,
    /// Whether the disk is full.
    pub full: bool,
}

/// What a start found in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Frames that were handed out.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes at the end of the last file that were cut off in mid write.
    pub torn_tail: u64,
    /// Damaged places before that: file, offset and what is wrong. What is
    /// behind them was read. The files are kept under `<name>.damaged`.
    pub damaged: Vec<(String, u64, String)>,
}

/// What the log says of itself.
#[derive(Clone, Debug, Default)]
pub struct WalStats {
    /// Bytes written since the start.
    pub written: u64,
    /// Syncs since the start.
    pub syncs: u64,
    /// How long each sync took: upper bound in seconds, how many at most that.
    pub sync_seconds: Vec<(f64, u64)>,
    /// Seconds in all syncs.
    pub sync_seconds_sum: f64,
    /// Bytes that wait.
    pub pending: usize,
    /// Files that a failed write or sync ended.
    pub sealed: u64,
    /// Why nothing is written, if nothing is.
    pub suspended: Option<NotDurable>,
}

/// The log. Clones are the same log; dropping the last one writes and syncs
/// what is left.
#[derive(Clone, Debug)]
pub struct Wal {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    fs: Arc<dyn Fs>,
    options: WalOptions,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Wal {
    /// Hands every whole frame of the files numbered `first` and above to
    /// `replay`, in order, then begins a new file. Files below `first` are
    /// removed.
    ///
    /// Frames that were appended before [`Wal::rotate`] gave `first` are not
    /// handed out, even where a failing disk made them end up in a later file.
    /// A disk that can be read but not written gives a log that is suspended.
    ///
    /// # Errors
    ///
    /// [`WalError`] if the files cannot be read at all, or are of a newer
    /// format.
    pub fn open(
        fs: Arc<dyn Fs>,
        options: WalOptions,
        first: u64,
        replay: &mut dyn FnMut(Vec<u8>),
    ) -> Result<(Wal, Replay), WalError> {
        let dir = &options.dir;
        if fs.list(dir).is_err() {
            fs.create_dir(dir)
                .map_err(failed("make the directory of", dir))?;
        }
        let found = replay::replay(&*fs, dir, options.stream, first, replay)?;
        let writer = Writer::new(fs.clone(), dir.clone(), options.stream, found.start);
        let wal = Wal::start(fs, options, writer, found.last_number)?;
        Ok((wal, found.replay))
    }

    fn start(
        fs: Arc<dyn Fs>,
        options: WalOptions,
        mut writer: Writer,
        last_number: u64,
    ) -> Result<Wal, WalError> {
        let pace = Pace {
            write_every: options.write_every,
            sync_every: options.sync_every,
            max_pending: options.max_pending.max(1), // or nothing could ever be appended
        };
        let mut state = State::new(pace, last_number);
        let rotation = state.rotate();
        let begun = writer.begin_first(rotation);
        state.stored(writer.progress(), Ok(()));
        if let Err(error) = begun {
            tracing::error!(%error, "the log is suspended: it cannot begin a file");
            state.suspend(thread::not_durable(&error));
        }
        let shared = Arc::new(Shared::new(state));
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name(format!("wal-{}", options.stream))
            .spawn(move || thread::run(&theirs, writer))
            .map_err(failed("start the thread of", &options.dir))?;
        let handle = Handle {
            shared,
            fs,
            options,
            thread: Mutex::new(Some(thread)),
        };
        Ok(Wal {
            handle: Arc::new(handle),
        })
    }

    /// Appends what `write` writes into the frame that is being gathered; it
    /// must only add. Never touches the disk; waits only while
    /// [`WalOptions::max_pending`] is exceeded. While the log is suspended or
    /// closed, forgets it without calling `write`.
    ///
    /// What one call writes stays together. More than 256 MiB in one call are
    /// forgotten, who waits for them is told, and the log is suspended: what
    /// comes later may build on them. What came before is still stored.
    pub fn append(&self, write: &mut dyn FnMut(&mut Vec<u8>)) -> Lsn {
        let shared = &self.handle.shared;
        let mut state = shared.lock();
        while state.is_full() {
            shared.wake(&mut state);
            state = shared.wait(state);
        }
        let place = state.append(write);
        shared.wake(&mut state);
        Lsn(place)
    }

    /// Waits until everything up to `lsn` is on the disk; calls for a sync at
    /// once. Blocks.
    ///
    /// # Errors
    ///
    /// [`NotDurable`] if what was appended at `lsn` was dropped by a suspended
    /// log, also after it was resumed.
    pub fn wait(&self, lsn: Lsn) -> Result<(), NotDurable> {
        let shared = &self.handle.shared;
        let mut state = shared.lock();
        let place = lsn.0.min(state.appended());
        loop {
            if let Some(fate) = state.fate(place) {
                return fate;
            }
            state.want(place);
            shared.wake(&mut state);
            state = shared.wait(state);
        }
    }

    /// What is appended from now on goes into files numbered at least what
    /// this gives; what was appended before is not replayed from that number
    /// on. Does not block.
    #[must_use]
    pub fn rotate(&self) -> u64 {
        let shared = &self.handle.shared;
        let mut state = shared.lock();
        let number = state.rotate();
        shared.wake(&mut state);
        number
    }

    /// Removes the files numbered below `first`, which [`Wal::rotate`] gave.
    /// Blocks.
    pub fn remove_before(&self, first: u64) {
        let first = first.min(self.handle.shared.lock().rotation());
        let options = &self.handle.options;
        let fs = &*self.handle.fs;
        match replay::list(fs, &options.dir, options.stream) {
            Ok(ids) => ids
                .iter()
                .filter(|id| id.number < first)
                .for_each(|id| replay::remove(fs, &options.dir.join(id.name()))),
            Err(error) => tracing::warn!(error = %error.source, "{error}"),
        }
    }

    /// Tries whether a suspended log can be written again: a new file with an
    /// empty frame that is synced. What was appended meanwhile is not in it.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// [`NotDurable`].
    pub fn resume(&self) -> Result<(), NotDurable> {
        let shared = &self.handle.shared;
        let mut state = shared.lock();
        if state.suspended().is_none() {
            return state.refuses().map_or(Ok(()), Err);
        }
        let asked = state.ask_resume();
        loop {
            if let Some(outcome) = state.resumed(asked) {
                return outcome;
            }
            shared.wake(&mut state);
            state = shared.wait(state);
        }
    }

    /// What the log says of itself.
    #[must_use]
    pub fn stats(&self) -> WalStats {
        self.handle.shared.lock().stats()
    }

    /// Writes and syncs what is left and ends the thread. Blocks.
    ///
    /// # Errors
    ///
    /// [`NotDurable`] if the log is suspended, or the last sync failed.
    pub fn close(&self) -> Result<(), NotDurable> {
        self.handle.close()
    }
}

impl Handle {
    fn close(&self) -> Result<(), NotDurable> {
        let mut state = self.shared.lock();
        state.close();
        while !state.has_ended() {
            self.shared.wake(&mut state);
            state = self.shared.wait(state);
        }
        state.suspended().map_or(Ok(()), Err)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "the end of the log was not synced");
        }
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log's thread panicked");
        }
    }
}
