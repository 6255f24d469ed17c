//! Files in memory that fail on purpose.
//!
//! A [`SimFs`] is a disk that promises as little as a real one may:
//!
//! - Bytes survive a power cut only after [`File::sync`], names only after
//!   [`Fs::sync_dir`] of their directory. What was not synced is, by chance,
//!   kept, dropped, kept up to some byte, or kept in single sectors out of
//!   order, with zeros or rubbish between them.
//! - A sync that fails leaves its bytes in doubt for good: they can be read,
//!   and no later sync makes them survive (so it is on Linux).
//! - A file whose bytes were synced but not its name may be gone.
//! - Operations on names survive as a prefix of what was done on the whole
//!   disk or in each directory (as journals do it), or each by chance. A rename
//!   within a directory is one operation; between two it is both or neither
//!   until one of them is synced.
//! - A write that fails may have written a part.
//!
//! Directories themselves always survive. The same operations and the same
//! seed give the same disk.

mod chance;
mod disk;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::disk::Disk;
use super::{File, Fs, Space};

/// A disk in memory; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimFs {
    disk: Arc<Mutex<Disk>>,
}

impl SimFs {
    /// Every write, sync, creation, rename and so on from now on counts; the
    /// `n`-th (from 1) and all after it fail as if the power were gone.
    pub fn crash_in(&self, operations: u64) {
        self.disk().crash_in(operations);
    }

    /// The `n`-th operation (from 1) of those that [`SimFs::crash_in`] counts
    /// fails with `kind`, once.
    pub fn fail_once_in(&self, operations: u64, kind: io::ErrorKind) {
        self.disk().fail_once_in(operations, kind);
    }

    /// Every write, creation and sync fails with this from now on.
    pub fn fail_with(&self, kind: Option<io::ErrorKind>) {
        self.disk().fail_with(kind);
    }

    /// The disk holds at most this much; beyond it writes get `StorageFull`
    /// after they wrote what there was room for.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().set_capacity(bytes);
    }

    /// Syncs do nothing and say that they did: proof that a checker can fail.
    pub fn forget_syncs(&self) {
        self.disk().forget_syncs();
    }

    /// Whether the power is gone.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.disk().is_dead()
    }

    /// How many operations [`SimFs::crash_in`] would have counted since the
    /// disk was made: run once, then crash at any of them.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.disk().operations()
    }

    /// The disk after a power cut, by chance of `seed`: what was synced, and of
    /// the rest what chance kept, in sectors of 512 bytes, torn and out of
    /// order; names whose directory was not synced are there or not. It works
    /// again, and its capacity is the same.
    #[must_use]
    pub fn after_power_cut(&self, seed: u64) -> SimFs {
        SimFs::of(self.disk().after_power_cut(seed))
    }

    /// The disk as the next process finds it when only the process died: all
    /// that was written, and it works again.
    #[must_use]
    pub fn after_kill(&self) -> SimFs {
        SimFs::of(self.disk().after_kill())
    }

    /// All bytes of a file.
    ///
    /// # Panics
    ///
    /// If there is no such file.
    #[must_use]
    pub fn read_all(&self, path: &Path) -> Vec<u8> {
        self.disk().content(path).clone()
    }

    /// The names in a directory, sorted; none if it is not there.
    #[must_use]
    pub fn names(&self, dir: &Path) -> Vec<String> {
        self.disk().names(dir)
    }

    /// Flips one bit of a file.
    ///
    /// # Panics
    ///
    /// If there is no such file or byte.
    pub fn flip(&self, path: &Path, byte: u64, bit: u8) {
        let byte = usize::try_from(byte).expect("a file in memory");
        self.disk().content(path)[byte] ^= 1 << bit;
    }

    /// Cuts a file to `length` bytes.
    ///
    /// # Panics
    ///
    /// If there is no such file.
    pub fn truncate(&self, path: &Path, length: u64) {
        self.disk().truncate(path, length);
    }

    fn of(disk: Disk) -> SimFs {
        SimFs {
            disk: Arc::new(Mutex::new(disk)),
        }
    }

    /// A test that panicked meanwhile does not matter to the others.
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, inode: u64) -> Box<dyn File> {
        Box::new(SimFile {
            fs: self.clone(),
            inode,
        })
    }
}

impl Fs for SimFs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let inode = self.disk().create(path)?;
        Ok(self.handle(inode))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let inode = self.disk().open(path)?;
        Ok(self.handle(inode))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk().rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk().hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk().remove(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk().create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        self.disk().list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk().sync_dir(dir)
    }

    fn space(&self, _dir: &Path) -> io::Result<Space> {
        self.disk().space()
    }
}

/// An open file of a [`SimFs`].
#[derive(Debug)]
struct SimFile {
    fs: SimFs,
    inode: u64,
}

impl File for SimFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.fs.disk().append(self.inode, bytes)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.fs.disk().read_at(self.inode, offset, out)
    }

    fn length(&self) -> io::Result<u64> {
        self.fs.disk().length(self.inode)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.fs.disk().sync(self.inode)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.fs.disk().close(self.inode);
    }
}
