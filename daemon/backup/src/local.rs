//! Backups in a directory of this machine.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use model::Timestamp;

use crate::error::{BackupError, is_full};
use crate::name::BackupName;
use crate::pipe::Pieces;
use crate::place::StoredBackup;

/// What stands around the name of a backup until all of it is there.
const PART_START: &str = ".";
const PART_END: &str = ".part";

#[derive(Clone, Debug)]
pub(crate) struct Local {
    directory: PathBuf,
}

impl Local {
    pub(crate) fn new(directory: PathBuf) -> Local {
        Local { directory }
    }

    pub(crate) async fn put(&self, name: &BackupName, pieces: Pieces) -> Result<u64, BackupError> {
        let (here, name) = (self.clone(), name.clone());
        blocking(move || here.put_now(&name, pieces)).await
    }

    pub(crate) async fn list(&self) -> Result<Vec<StoredBackup>, BackupError> {
        let here = self.clone();
        blocking(move || here.list_now()).await
    }

    pub(crate) async fn open(
        &self,
        name: &BackupName,
    ) -> Result<Box<dyn Read + Send>, BackupError> {
        let path = self.path(name);
        let name = name.to_string();
        let opened = blocking(move || match File::open(&path) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(BackupError::Missing { name })
            }
            Err(error) => Err(failed("open", &path, error)),
        });
        Ok(Box::new(opened.await?))
    }

    pub(crate) async fn remove(&self, name: &BackupName) -> Result<(), BackupError> {
        let path = self.path(name);
        blocking(move || match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path, error))
            }
            _ => Ok(()),
        })
        .await
    }

    fn path(&self, name: &BackupName) -> PathBuf {
        self.directory.join(name.to_string())
    }

    fn put_now(&self, name: &BackupName, mut pieces: Pieces) -> Result<u64, BackupError> {
        self.check_directory()?;
        self.remove_parts_of(name)?;
        let part = Part(self.directory.join(format!("{PART_START}{name}{PART_END}")));
        let path = &part.0;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| failed("create", path, error))?;
        let mut bytes = 0;
        while let Some(piece) = pieces.blocking_next() {
            let piece = piece?;
            file.write_all(&piece)
                .map_err(|error| failed("write", path, error))?;
            bytes += piece.len() as u64;
        }
        file.sync_all()
            .map_err(|error| failed("sync", path, error))?;
        let to = self.path(name);
        fs::rename(path, &to).map_err(|error| failed("make", &to, error))?;
        let directory = File::open(&self.directory).and_then(|directory| directory.sync_all());
        directory.map_err(|error| failed("sync", &self.directory, error))?;
        Ok(bytes)
    }

    fn check_directory(&self) -> Result<(), BackupError> {
        match fs::metadata(&self.directory) {
            Ok(found) if found.is_dir() => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("look into", &self.directory, error))
            }
            _ => Err(BackupError::NoDirectory {
                path: self.directory.clone(),
            }),
        }
    }

    /// Removes what a backup of the same host that was interrupted left.
    fn remove_parts_of(&self, name: &BackupName) -> Result<(), BackupError> {
        for (found, path) in self.names()? {
            let part = found.strip_prefix(PART_START);
            let part = part.and_then(|part| part.strip_suffix(PART_END));
            let part = part.and_then(|part| part.parse::<BackupName>().ok());
            if part.is_some_and(|part| part.host() == name.host()) {
                fs::remove_file(&path).map_err(|error| failed("remove", &path, error))?;
            }
        }
        Ok(())
    }

    fn list_now(&self) -> Result<Vec<StoredBackup>, BackupError> {
        self.check_directory()?;
        let mut found = Vec::new();
        for (name, path) in self.names()? {
            let Ok(name) = name.parse() else { continue };
            let metadata = match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_file() => metadata,
                Ok(_) => continue,
                // removed since
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed("look at", &path, error)),
            };
            found.push(StoredBackup {
                name,
                bytes: metadata.len(),
                modified: modified(&metadata),
            });
        }
        Ok(found)
    }

    fn names(&self) -> Result<Vec<(String, PathBuf)>, BackupError> {
        let unreadable = |error| failed("look into", &self.directory, error);
        let mut names = Vec::new();
        for found in fs::read_dir(&self.directory).map_err(unreadable)? {
            let found = found.map_err(unreadable)?;
            if let Ok(name) = found.file_name().into_string() {
                names.push((name, found.path()));
            }
        }
        Ok(names)
    }
}

/// A file that goes away again unless it was given its name.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // it is not there any more where all went well
        let _ = fs::remove_file(&self.0);
    }
}

fn modified(metadata: &fs::Metadata) -> Option<Timestamp> {
    let since = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok().map(Timestamp)
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> BackupError {
    let path = path.to_owned();
    match is_full(&source) {
        true => BackupError::DiskFull { path },
        false => BackupError::Directory {
            doing,
            path,
            source,
        },
    }
}

/// Runs what blocks on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| BackupError::Interrupted)?
}
