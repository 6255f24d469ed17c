//! From an archive to files on this machine: all of them, or none.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::about::Verified;
use crate::error::{ArchiveError, is_full};
use crate::read::{Sink, read_archive};
use crate::seal::Identities;

/// What the directory is called in which files wait until all are there.
const STAGING: &str = ".restoring-";

/// Reads an archive, checks all of it and puts its files into `into`, which must
/// not exist or be empty; blocks. Directories are for their owner alone (0700),
/// and so are files (0600); everything is on disk when this returns.
///
/// If it fails, `into` is as it was. If the process or the machine dies
/// meanwhile, a directory `.restoring-…` may be left in it.
///
/// # Errors
///
/// See [`ArchiveError`]; [`ArchiveError::NotEmpty`] before anything is done.
pub fn restore(
    input: impl Read,
    identities: &Identities,
    into: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Verified, ArchiveError> {
    let mut staging = Staging::new(into)?;
    let verified = read_archive(input, identities, &mut staging, progress)?;
    staging.put_in_place()?;
    Ok(verified)
}

/// The files until all are there; removed with everything in it unless they
/// were put in place.
struct Staging<'a> {
    into: &'a Path,
    /// Whether `into` is ours, too.
    made_into: bool,
    folder: PathBuf,
    directories: BTreeSet<PathBuf>,
    open: Option<(PathBuf, File)>,
    /// What was moved into `into`.
    moved: Vec<PathBuf>,
    done: bool,
}

impl<'a> Staging<'a> {
    fn new(into: &'a Path) -> Result<Staging<'a>, ArchiveError> {
        let made_into = match fs::read_dir(into) {
            Ok(mut found) => {
                if let Some(found) = found.next() {
                    let found = found.map_err(|error| failed(into, error))?;
                    return Err(ArchiveError::NotEmpty {
                        path: into.to_owned(),
                        found: found.file_name().to_string_lossy().into_owned(),
                    });
                }
                false
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_directory(into)?;
                true
            }
            Err(error) => return Err(failed(into, error)),
        };
        let folder = tempfile::Builder::new()
            .prefix(STAGING)
            .tempdir_in(into)
            .map(tempfile::TempDir::keep);
        let mut staging = Staging {
            into,
            made_into,
            folder: PathBuf::new(),
            directories: BTreeSet::new(),
            open: None,
            moved: Vec::new(),
            done: false,
        };
        // it cleans up from here on
        staging.folder = folder.map_err(|error| failed(into, error))?;
        Ok(staging)
    }

    fn put_in_place(mut self) -> Result<(), ArchiveError> {
        for directory in self.directories.iter().rev() {
            sync_directory(directory)?;
        }
        sync_directory(&self.folder)?;
        for name in self.top_level()? {
            let to = self.into.join(&name);
            let from = self.folder.join(&name);
            fs::rename(&from, &to).map_err(|error| failed(&to, error))?;
            self.moved.push(to);
        }
        fs::remove_dir(&self.folder).map_err(|error| failed(&self.folder, error))?;
        sync_directory(self.into)?;
        if self.made_into {
            sync_directory(&above(self.into))?;
        }
        self.done = true;
        Ok(())
    }

    /// What is to be moved: directories first, so that the store's own file is
    /// never there without them.
    fn top_level(&self) -> Result<Vec<PathBuf>, ArchiveError> {
        let unreadable = |error| failed(&self.folder, error);
        let mut names = Vec::new();
        for found in fs::read_dir(&self.folder).map_err(unreadable)? {
            let found = found.map_err(unreadable)?;
            let is_file = found.file_type().map_err(unreadable)?.is_file();
            names.push((is_file, PathBuf::from(found.file_name())));
        }
        names.sort();
        Ok(names.into_iter().map(|(_, name)| name).collect())
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // whatever cannot be removed is named by the next try
        for moved in &self.moved {
            let _ = match moved.is_dir() {
                true => fs::remove_dir_all(moved),
                false => fs::remove_file(moved),
            };
        }
        if !self.folder.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.folder);
        }
        if self.made_into {
            let _ = fs::remove_dir(self.into);
        }
    }
}

impl Sink for Staging<'_> {
    fn begin(&mut self, path: &str) -> Result<(), ArchiveError> {
        let mut directory = self.folder.clone();
        let mut words = path.split('/').peekable();
        while let Some(word) = words.next() {
            directory.push(word);
            let is_file = words.peek().is_none();
            if !is_file && self.directories.insert(directory.clone()) {
                make_directory(&directory)?;
            }
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&directory)
            .map_err(|error| failed(&directory, error))?;
        self.open = Some((directory, file));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let (path, file) = self.open.as_mut().expect("a file was begun");
        file.write_all(bytes).map_err(|error| failed(path, error))
    }

    fn end(&mut self) -> Result<(), ArchiveError> {
        let (path, file) = self.open.take().expect("a file was begun");
        file.sync_all().map_err(|error| failed(&path, error))
    }
}

fn failed(path: &Path, source: io::Error) -> ArchiveError {
    let path = path.to_owned();
    match is_full(&source) {
        true => ArchiveError::DiskFull { path },
        false => ArchiveError::Restore { path, source },
    }
}

fn make_directory(path: &Path) -> Result<(), ArchiveError> {
    let made = DirBuilder::new().mode(0o700).create(path);
    made.map_err(|error| failed(path, error))
}

fn sync_directory(path: &Path) -> Result<(), ArchiveError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| failed(path, error))
}

fn above(path: &Path) -> PathBuf {
    match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above.to_owned(),
        _ => PathBuf::from("."),
    }
}
