//! The files of segments: their names, and those that nobody lists.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use segment::{Segment, SegmentError};
use wal::fs::Fs;

use crate::catalog::{SegmentName, SegmentRow};
use crate::engine::OpenError;
use crate::shelf::{Content, Listed};

/// Where the files of a store lie.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) log: PathBuf,
    pub(crate) segments: PathBuf,
    pub(crate) quarantine: PathBuf,
}

impl Places {
    pub(crate) fn of(dir: &Path) -> Places {
        Places {
            log: dir.join("wal"),
            segments: dir.join("seg"),
            quarantine: dir.join("quarantine"),
        }
    }

    pub(crate) fn segment(&self, name: SegmentName) -> PathBuf {
        self.segments.join(file_name(name))
    }

    pub(crate) fn temporary(&self, name: SegmentName) -> PathBuf {
        self.segments.join(format!("{}.tmp", file_name(name)))
    }

    pub(crate) fn aside(&self, name: SegmentName) -> PathBuf {
        self.quarantine.join(file_name(name))
    }
}

fn file_name(name: SegmentName) -> String {
    format!("{:08}.seg", name.0)
}

/// Makes the directories.
pub(crate) fn make(fs: &Arc<dyn Fs>, dir: &Path, places: &Places) -> Result<(), OpenError> {
    for made in [&places.log, &places.segments, &places.quarantine] {
        fs.create_dir(made).map_err(failed("make", made))?;
    }
    fs.sync_dir(dir).map_err(failed("sync", dir))
}

fn failed(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> OpenError {
    let path = path.to_path_buf();
    move |source| OpenError::Io {
        doing,
        path: path.clone(),
        source,
    }
}

/// Removes what nobody lists: it was being written when the process ended, or
/// was not needed any more.
pub(crate) fn remove_unlisted(
    fs: &Arc<dyn Fs>,
    places: &Places,
    rows: &[SegmentRow],
) -> Result<(), OpenError> {
    let listed: HashSet<String> = rows.iter().map(|row| file_name(row.name)).collect();
    let dir = &places.segments;
    for (name, _) in fs.list(dir).map_err(failed("list", dir))? {
        let is_ours = name.ends_with(".seg") || name.ends_with(".tmp");
        if !is_ours || listed.contains(&name) {
            continue;
        }
        let path = dir.join(&name);
        match fs.remove(&path) {
            Ok(()) => tracing::info!(file = name, "removed a segment that nobody lists"),
            Err(error) => tracing::warn!(file = name, %error, "cannot remove a segment"),
        }
    }
    Ok(())
}

/// Opens a listed segment wherever it lies; one that is damaged is set aside.
pub(crate) fn open_listed(fs: &Arc<dyn Fs>, places: &Places, row: SegmentRow) -> Listed {
    let path = places.segment(row.name);
    let found = open_as(fs, &path, &row);
    match found {
        Ok(segment) => Listed {
            row,
            content: Content::Open(Arc::new(segment)),
            quarantined: false,
            path,
        },
        Err(SegmentError::Corrupt { .. }) => {
            let why = found.expect_err("it is one").to_string();
            set_aside(fs, places, row.name);
            tracing::error!(why, "a segment is damaged and was set aside");
            lost(row, places, why)
        }
        Err(SegmentError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            open_aside(fs, places, row)
        }
        Err(error) => {
            let why = chain(&error);
            tracing::error!(why, "a segment cannot be read");
            let content = Content::Lost(why);
            let quarantined = false;
            Listed {
                row,
                content,
                quarantined,
                path,
            }
        }
    }
}

fn open_as(fs: &Arc<dyn Fs>, path: &Path, row: &SegmentRow) -> Result<Segment, SegmentError> {
    let segment = Segment::open(fs, path)?;
    if *segment.summary() == row.summary {
        return Ok(segment);
    }
    Err(SegmentError::Corrupt {
        path: path.to_path_buf(),
        what: "it is not the one that the catalog lists".into(),
    })
}

fn open_aside(fs: &Arc<dyn Fs>, places: &Places, row: SegmentRow) -> Listed {
    let path = places.aside(row.name);
    match open_as(fs, &path, &row) {
        Ok(segment) => Listed {
            row,
            content: Content::Open(Arc::new(segment)),
            quarantined: true,
            path,
        },
        Err(error) => {
            let why = chain(&error);
            tracing::error!(why, "a listed segment is not there");
            lost(row, places, why)
        }
    }
}

fn lost(row: SegmentRow, places: &Places, why: String) -> Listed {
    Listed {
        path: places.aside(row.name),
        row,
        content: Content::Lost(why),
        quarantined: true,
    }
}

/// Moves a segment's file into quarantine.
pub(crate) fn set_aside(fs: &Arc<dyn Fs>, places: &Places, name: SegmentName) {
    let moved = fs.rename(&places.segment(name), &places.aside(name));
    let dirs = [&places.quarantine, &places.segments];
    let moved = moved.and_then(|()| dirs.iter().try_for_each(|dir| fs.sync_dir(dir)));
    if let Err(error) = moved {
        tracing::error!(segment = name.0, %error, "cannot set a damaged segment aside");
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
