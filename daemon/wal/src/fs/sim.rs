//! Files in memory that fail on purpose.

use std::io;
use std::path::Path;

use super::{File, Fs, Space};

/// A disk in memory; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimFs {}

impl SimFs {
    /// Every write, sync, rename and so on from now on counts; the `n`-th and
    /// all after it fail as if the power were gone.
    pub fn crash_in(&self, _operations: u64) {}

    /// The `n`-th write or sync from now on fails with `kind`, once.
    pub fn fail_once_in(&self, _operations: u64, _kind: io::ErrorKind) {}

    /// Every write, creation and sync fails with this from now on.
    pub fn fail_with(&self, _kind: Option<io::ErrorKind>) {}

    /// The disk holds at most this much; beyond it writes get `StorageFull`.
    pub fn set_capacity(&self, _bytes: Option<u64>) {}

    /// Syncs do nothing: proof that a checker can fail.
    pub fn forget_syncs(&self) {}

    /// Whether the power is gone.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        false
    }

    /// The disk after a power cut, by chance of `seed`: what was synced, and of
    /// the rest what chance kept, in sectors of 512 bytes, torn and out of
    /// order; names whose directory was not synced are there or not.
    #[must_use]
    pub fn after_power_cut(&self, _seed: u64) -> SimFs {
        SimFs {}
    }

    /// Flips one bit of a file.
    ///
    /// # Panics
    ///
    /// If there is no such file or byte.
    pub fn flip(&self, _path: &Path, _byte: u64, _bit: u8) {}

    /// Cuts a file to `length` bytes.
    ///
    /// # Panics
    ///
    /// If there is no such file.
    pub fn truncate(&self, _path: &Path, _length: u64) {}
}

impl Fs for SimFs {
    fn create(&self, _path: &Path) -> io::Result<Box<dyn File>> {
        unimplemented!()
    }
    fn open(&self, _path: &Path) -> io::Result<Box<dyn File>> {
        unimplemented!()
    }
    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn hard_link(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn remove(&self, _path: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn list(&self, _dir: &Path) -> io::Result<Vec<(String, u64)>> {
        unimplemented!()
    }
    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn space(&self, _dir: &Path) -> io::Result<Space> {
        unimplemented!()
    }
}
