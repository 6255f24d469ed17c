//! A file that is there complete or not at all: written under another name,
//! synced, and then given its own.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::error::Trouble;

/// Gathered before it is written.
const BUFFER_BYTES: usize = 256 * 1024;

/// What begins as `FILE.part`. Removed again unless it is finished.
pub(crate) struct Part {
    writer: BufWriter<File>,
    path: PathBuf,
    target: PathBuf,
    finished: bool,
}

impl Part {
    /// Begins `target`, with these permissions. What an earlier run left lying is
    /// taken away, unless that run still goes on.
    pub(crate) fn begin(target: &Path, mode: u32) -> Result<Part, Trouble> {
        // renaming would put a plain file in the place of a device
        match std::fs::metadata(target) {
            Ok(there) if !there.is_file() => {
                return Err(Trouble::Usage(format!(
                    "{} is there and is not a plain file",
                    target.display()
                )));
            }
            Ok(_) | Err(_) => {}
        }
        let mut name = target.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        let file = match create(&path, mode) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                clear_away(&path)?;
                create(&path, mode)
            }
            other => other,
        };
        let file = file.map_err(|source| cannot("make", &path, source))?;
        file.try_lock().map_err(|_held| busy(&path))?;
        Ok(Part {
            writer: BufWriter::with_capacity(BUFFER_BYTES, file),
            path,
            target: target.to_owned(),
            finished: false,
        })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let written = self.writer.write_all(bytes);
        written.map_err(|source| cannot("write", &self.path, source))
    }

    /// Makes it last, and gives it its name.
    pub(crate) fn finish(mut self) -> Result<(), Trouble> {
        let synced = self
            .writer
            .flush()
            .and_then(|()| self.writer.get_ref().sync_all());
        synced.map_err(|source| cannot("write", &self.path, source))?;
        std::fs::rename(&self.path, &self.target)
            .map_err(|source| cannot("rename", &self.path, source))?;
        self.finished = true;
        sync_directory(&self.target).map_err(|source| cannot("sync", &self.target, source))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.finished {
            // the next run takes away what cannot be removed now
            let _tried = std::fs::remove_file(&self.path);
        }
    }
}

/// Never through a link, and never what somebody else made.
fn create(path: &Path, mode: u32) -> std::io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
}

fn clear_away(path: &Path) -> Result<(), Trouble> {
    let left = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
        .map_err(|source| cannot("look at", path, source))?;
    left.try_lock().map_err(|_held| busy(path))?;
    std::fs::remove_file(path).map_err(|source| cannot("remove", path, source))
}

fn busy(path: &Path) -> Trouble {
    Trouble::NotNow(format!(
        "another sotp is writing {}: wait for it, or end it",
        path.display()
    ))
}

fn sync_directory(file: &Path) -> std::io::Result<()> {
    let directory = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn cannot(doing: &str, path: &Path, source: std::io::Error) -> Trouble {
    Trouble::local(format!("{doing} {}", path.display()), source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_there_complete_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("x.tar");
        std::fs::write(&target, "before").unwrap();
        let mut part = Part::begin(&target, 0o600).unwrap();
        part.write(b"half").unwrap();
        drop(part);
        assert_eq!(std::fs::read(&target).unwrap(), b"before");
        assert_eq!(names(directory.path()), ["x.tar"]);

        let mut part = Part::begin(&target, 0o600).unwrap();
        part.write(b"all").unwrap();
        part.finish().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"all");
        assert_eq!(names(directory.path()), ["x.tar"]);
    }

    #[test]
    fn what_an_earlier_run_left_is_taken_away_and_what_one_still_writes_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("x");
        std::fs::write(directory.path().join("x.part"), "left").unwrap();
        let mut first = Part::begin(&target, 0o600).unwrap();
        first.write(b"first").unwrap();
        assert!(matches!(
            Part::begin(&target, 0o600),
            Err(Trouble::NotNow(_))
        ));
        first.finish().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"first");
    }

    #[test]
    fn neither_a_device_nor_a_directory_nor_a_link_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        for target in [directory.path(), Path::new("/dev/null")] {
            let refused = Part::begin(target, 0o600).err().unwrap();
            assert!(
                refused.to_string().contains("not a plain file"),
                "{refused}"
            );
        }
        let victim = directory.path().join("victim");
        std::fs::write(&victim, "mine").unwrap();
        let target = directory.path().join("x");
        std::os::unix::fs::symlink(&victim, directory.path().join("x.part")).unwrap();
        assert!(Part::begin(&target, 0o600).is_err());
        assert_eq!(std::fs::read(&victim).unwrap(), b"mine");
    }
}
