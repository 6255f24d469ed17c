//! A page that both sides see: on it every thread of the host writes what it is
//! doing *before* it does it. So the daemon knows what ran when the host died,
//! however it died, and what has been running for too long.
//!
//! The host may write any rubbish there; the daemon takes it for a hint.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Threads that can have a place.
pub(crate) const PLACES: usize = 64;
const PLACE: usize = 8;

/// The page.
#[derive(Debug)]
pub(crate) struct Board(File);

impl Board {
    /// An empty page.
    pub(crate) fn new() -> io::Result<Board> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = File::from(memfd_create("plugin-board", flags)?);
        file.set_len((PLACES * PLACE) as u64)?;
        let seals = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(Board(file))
    }

    /// The page that was handed over.
    pub(crate) fn from_fd(fd: OwnedFd) -> Board {
        Board(File::from(fd))
    }

    /// To be handed over.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        Ok(self.0.try_clone()?.into())
    }

    /// The thread at `place` is doing `id` from now on.
    pub(crate) fn write(&self, place: usize, id: u64) {
        let at = (place % PLACES) * PLACE;
        // a hint is missing then, nothing else
        let _written = self.0.write_all_at(&id.to_le_bytes(), at as u64);
    }

    /// What each thread did last.
    pub(crate) fn read(&self) -> Vec<u64> {
        let mut bytes = [0; PLACES * PLACE];
        if self.0.read_exact_at(&mut bytes, 0).is_err() {
            return Vec::new();
        }
        let word = |word: &[u8]| word.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
        bytes.chunks(PLACE).map(word).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_side_writes_the_other_reads() {
        let board = Board::new().unwrap();
        let other = Board::from_fd(board.share().unwrap());
        other.write(0, 7);
        other.write(63, u64::MAX);
        other.write(0, 8);
        let read = board.read();
        assert_eq!((read[0], read[1], read[63]), (8, 0, u64::MAX));
        assert!(
            other.0.set_len(1 << 20).is_err(),
            "it cannot be made larger"
        );
    }
}
