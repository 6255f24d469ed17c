//! The log.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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
pub struct Wal {}

impl Wal {
    /// Hands every whole frame of the files numbered `first` and above to
    /// `replay`, in order, then begins a new file. Files below `first` are
    /// removed.
    ///
    /// # Errors
    ///
    /// [`WalError`].
    pub fn open(
        fs: Arc<dyn Fs>,
        options: WalOptions,
        first: u64,
        replay: &mut dyn FnMut(Vec<u8>),
    ) -> Result<(Wal, Replay), WalError> {
        let _ = (fs, options, first, replay);
        unimplemented!()
    }

    /// Appends what `write` writes into the frame that is being gathered. Never
    /// touches the disk; waits only while [`WalOptions::max_pending`] is
    /// exceeded. While the log is suspended, forgets it.
    pub fn append(&self, write: &mut dyn FnMut(&mut Vec<u8>)) -> Lsn {
        let _ = write;
        unimplemented!()
    }

    /// Waits until everything up to `lsn` is on the disk; calls for a sync at
    /// once. Blocks.
    ///
    /// # Errors
    ///
    /// [`NotDurable`].
    pub fn wait(&self, lsn: Lsn) -> Result<(), NotDurable> {
        let _ = lsn;
        unimplemented!()
    }

    /// What is appended from now on goes into files numbered at least what
    /// this gives, what was appended before into lower ones. Does not block.
    #[must_use]
    pub fn rotate(&self) -> u64 {
        unimplemented!()
    }

    /// Removes the files numbered below `first`. Blocks.
    pub fn remove_before(&self, first: u64) {
        let _ = first;
        unimplemented!()
    }

    /// Tries whether a suspended log can be written again: a new file with an
    /// empty frame that is synced. What was appended meanwhile is not in it.
    ///
    /// # Errors
    ///
    /// [`NotDurable`].
    pub fn resume(&self) -> Result<(), NotDurable> {
        unimplemented!()
    }

    /// What the log says of itself.
    #[must_use]
    pub fn stats(&self) -> WalStats {
        unimplemented!()
    }

    /// Writes and syncs what is left and ends the thread. Blocks.
    ///
    /// # Errors
    ///
    /// [`NotDurable`].
    pub fn close(&self) -> Result<(), NotDurable> {
        unimplemented!()
    }
}
