//! Where backups lie: a directory of this machine, or an S3 bucket.

use std::io::Read;
use std::path::PathBuf;

use model::Timestamp;

use crate::error::BackupError;
use crate::local::Local;
use crate::name::BackupName;
use crate::pipe::Pieces;
use crate::s3::{S3, S3Settings};

/// Where backups go.
#[derive(Clone, Debug)]
pub enum PlaceSettings {
    /// A directory, which has to be there.
    Directory(PathBuf),
    /// A bucket.
    S3(S3Settings),
}

/// A backup that was put away whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBackup {
    /// Its name.
    pub name: BackupName,
    /// Its size.
    pub bytes: u64,
    /// When it was put there, if the place knows.
    pub modified: Option<Timestamp>,
}

/// A place for backups. Clones are the same place.
#[derive(Clone, Debug)]
pub struct Place(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Local(Local),
    S3(Box<S3>),
}

impl Place {
    /// Looks at the settings, not at the place; reads certificates, so it blocks.
    ///
    /// # Errors
    ///
    /// [`BackupError::S3Settings`] and [`BackupError::Fetch`].
    pub fn new(settings: &PlaceSettings) -> Result<Place, BackupError> {
        Ok(Place(match settings {
            PlaceSettings::Directory(path) => Kind::Local(Local::new(path.clone())),
            PlaceSettings::S3(settings) => Kind::S3(Box::new(S3::new(settings)?)),
        }))
    }

    /// Puts an archive away: it has its name once all of it is there, and not
    /// before. `about_bytes` is about how large it will be. Gives its size.
    ///
    /// # Errors
    ///
    /// The error among the pieces, or that of the place; nothing of the name is
    /// there then.
    pub async fn put(
        &self,
        name: &BackupName,
        about_bytes: u64,
        pieces: Pieces,
    ) -> Result<u64, BackupError> {
        match &self.0 {
            Kind::Local(local) => local.put(name, pieces).await,
            Kind::S3(s3) => s3.put(name, about_bytes, pieces).await,
        }
    }

    /// Every backup, of whatever host, the newest first. What has another name
    /// than a backup's is left out.
    ///
    /// # Errors
    ///
    /// Those of the place.
    pub async fn list(&self) -> Result<Vec<StoredBackup>, BackupError> {
        let mut found = match &self.0 {
            Kind::Local(local) => local.list().await?,
            Kind::S3(s3) => s3.list().await?,
        };
        found.sort_by(|one, other| other.name.cmp(&one.name));
        Ok(found)
    }

    /// Opens a backup for a thread that may block, such as one that verifies or
    /// restores it. From S3 it comes in parts, while the runtime that this was
    /// called on is running.
    ///
    /// # Errors
    ///
    /// [`BackupError::Missing`] and those of the place.
    pub async fn open(&self, name: &BackupName) -> Result<Box<dyn Read + Send>, BackupError> {
        match &self.0 {
            Kind::Local(local) => local.open(name).await,
            Kind::S3(s3) => s3.open(name).await,
        }
    }

    /// Removes a backup; one that is not there is removed, too.
    ///
    /// # Errors
    ///
    /// Those of the place.
    pub async fn remove(&self, name: &BackupName) -> Result<(), BackupError> {
        match &self.0 {
            Kind::Local(local) => local.remove(name).await,
            Kind::S3(s3) => s3.remove(name).await,
        }
    }
}
