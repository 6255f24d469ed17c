//! The write-ahead log: frames in numbered files, synced in groups.
//!
//! A frame that [`Wal::wait`] returned `Ok` for is on the disk. Each frame
//! carries its length, its number and a checksum; nothing in one depends on
//! another.

pub mod fs;
mod log;

pub use log::{Lsn, NotDurable, Replay, Wal, WalError, WalOptions, WalStats};
