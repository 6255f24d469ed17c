//! The write-ahead log: frames in numbered files, synced in groups.
//!
//! This page is the specification of the format, complete enough to write a
//! reader from, and of what is promised when.
//!
//! # Files
//!
//! A log is one *stream*, named by a letter, in one directory. Its files are
//! `<stream>-<number>.wal`, the number in decimal with at least 8 digits, such
//! as `m-00000042.wal`. Numbers rise and no number is used twice for records;
//! some may be left out. `<file>.damaged` is a hard link to a file that a start found
//! damaged; nothing reads or removes it.
//!
//! All numbers are little-endian; a CRC is the CRC-32 of zip and Ethernet.
//!
//! | Offset | Bytes | The header of a file |
//! |---|---|---|
//! | 0 | 8 | `SOTPWAL\n` |
//! | 8 | 4 | version of the format: 1. A reader refuses another by name |
//! | 12 | 4 | stream: the letter's code point |
//! | 16 | 8 | number of the file, as in its name |
//! | 24 | 8 | *first*: the file's frames have this number and above |
//! | 32 | 8 | *given up*: frames from this number up to *first* may be missing; at most *first* |
//! | 40 | 8 | number of the file before it that is known to be there with a header, 0 if none |
//! | 48 | 4 | CRC of the 48 bytes before |
//!
//! Magic, version and CRC stay where they are in every version.
//!
//! | Offset | Bytes | A frame; they follow one another without padding |
//! |---|---|---|
//! | 0 | 4 | `f7 57 a1 66` |
//! | 4 | 4 | length of the records in bytes, at most 257 MiB |
//! | 8 | 8 | number of the frame: one more than that of the frame before |
//! | 16 | 8 | rotation: see below |
//! | 24 | 4 | CRC of: stream (4 bytes) and number (8 bytes) of the file as in its header, then bytes 0 to 23 of the frame, then the records |
//! | 28 | length | the records: what appends wrote, each whole. None is an empty frame, which is handed to nobody |
//!
//! The CRC covers the file's number so that sectors that an older file left on
//! the disk are never taken for frames.
//!
//! # Writing
//!
//! One thread writes. What was appended gathers in a frame until
//! [`WalOptions::write_every`] passed, somebody waits, or the frame has 1 MiB;
//! then it is written, a frame per write. A sync comes when somebody waits,
//! after [`WalOptions::sync_every`], or when half of
//! [`WalOptions::max_pending`] is not on the disk; one serves all who wait, and
//! while it runs the next frames gather.
//!
//! A new file is begun at every start, by [`Wal::rotate`] (when the next frame
//! comes), after 256 MiB, and after an error. All frames of the file before are
//! synced first. Header and name of a file are synced before its first frame is
//! written: a file with frames and no header is damaged.
//!
//! # Rotations
//!
//! [`Wal::rotate`] gives a number. Frames with what is appended after it say so
//! in *rotation*, and lie in files of at least that number. A start that is
//! given the number removes the files below and passes over frames of lower
//! rotations, which a failing disk may have made end up above.
//!
//! # Errors
//!
//! After an error of a write or a sync nothing is known of what the file got
//! since its last good sync, and another sync of it would say nothing true. So
//! the file is left, and all frames that are not known to be on the disk are
//! written to a new file and synced, with the numbers that they have: a frame
//! may be in two files. If that fails too the log is *suspended*: what was
//! pending is dropped, who waits is told ([`NotDurable`]), appends are
//! forgotten, nothing is tried until [`Wal::resume`]. The next file's header
//! says in *given up* which frames may be missing for that reason.
//!
//! A file whose header fails, and one that a failed [`Wal::resume`] made, is
//! removed if the disk lets it: it has an empty frame at most. A later start
//! may use its number again.
//!
//! A record that is too long suspends the log too, but what was appended before
//! it is stored.
//!
//! # Reading
//!
//! Files in the order of their numbers, frames in the order of their bytes. The
//! *next number* is *first* of the first file, then one above the highest frame
//! that was read.
//!
//! - A frame below the next number was read before and is skipped.
//! - A frame above it shows that frames are missing. If a later file's *first*
//!   is not above the next number, that file has them again: the rest of this
//!   file is skipped. Otherwise they are damage, and reading goes on.
//! - A file whose *given up* is above the next number shows the same. One whose
//!   *first* is above it while *given up* is not raises the next number.
//! - Where no whole frame begins, the next byte at which one begins is looked
//!   for; if there is none, the file ends. If nothing comes after it that shows
//!   missing frames, it was cut off in mid write: the torn tail, which is normal.
//! - If the first file that has a header names one before it that should have
//!   been read too, that is damage.
//!
//! So damage is told by what is missing. It is reported, and the file where it
//! is kept, but it stops nobody.
//!
//! # What is promised
//!
//! | What happened | After the death of the process | After a power cut |
//! |---|---|---|
//! | [`Wal::append`] returned | lost: up to `write_every` and a write | lost: up to `sync_every` and a sync |
//! | [`Wal::wait`] said `Ok` | there, once, whole, in order | there, once, whole, in order |
//! | [`Wal::wait`] said [`NotDurable`] | may be there | may be there |
//! | a start handed it out | there | there, unless a sync failed before the death |
//!
//! The last exception: the machine forgets that a sync failed, so what a dead
//! process could not sync looks whole to the next one.
//!
//! What the format cannot notice: that the last files of a log are gone, and
//! that frames at the very end were damaged and not cut off.

pub mod fs;
mod log;

pub use log::{Lsn, NotDurable, Replay, Wal, WalError, WalOptions, WalStats};
