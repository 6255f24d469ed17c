//! The real file system.

use std::io;
use std::path::Path;

use super::{File, Fs, Space};

/// The machine's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFs;

impl Fs for RealFs {
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
