//! What the log and the segments want of a file system: small enough that a
//! test can break every promise of it.

mod real;
#[cfg(feature = "sim")]
pub mod sim;

use std::fmt;
use std::io;
use std::path::Path;

pub use real::RealFs;

/// Room on a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// In all.
    pub total: u64,
    /// Free for us.
    pub free: u64,
}

/// A file system. Nothing but [`File::sync`] and [`Fs::sync_dir`] makes
/// anything survive a power cut.
pub trait Fs: Send + Sync + fmt::Debug {
    /// Makes a file of mode 0600 to write to; fails if it is there.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// Opens a file to read.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// Gives a file another name, in the place of what had it.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory of mode 0700 and those above it, where they are not
    /// there.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Names and lengths of the files in a directory.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>>;
    /// Makes what was created, renamed and removed in a directory survive a
    /// power cut.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Room on the disk that holds a directory.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn space(&self, dir: &Path) -> io::Result<Space>;
}

/// A file that is open. It stays readable after it was renamed or removed.
pub trait File: Send + Sync + fmt::Debug {
    /// Writes all of `bytes` behind what is there.
    ///
    /// # Errors
    ///
    /// What the system says; how much was written is not known.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Fills `out` from `offset` on.
    ///
    /// # Errors
    ///
    /// What the system says; `UnexpectedEof` if there is less.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Its length.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn length(&self) -> io::Result<u64>;
    /// Makes what was written survive a power cut. After an error nothing is
    /// known of what was written, and another try proves nothing.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn sync(&mut self) -> io::Result<()>;
}
