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

/// Segments that nobody lists and that a crash can have left: a cut or a migration
/// leaves one for each day that it touched. More of them belong to a newer catalog
/// than the one that is there.
const LEFT_BY_A_CRASH: usize = 64;

/// Removes what nobody lists: it was being written when the process ended, or
/// was not needed any more. What is too much for that goes into `orphans/`:
/// somebody may have put an older catalog back.
pub(crate) fn remove_unlisted(
    fs: &Arc<dyn Fs>,
    places: &Places,
    rows: &[SegmentRow],
) -> Result<(), OpenError> {
    let listed: HashSet<String> = rows.iter().map(|row| file_name(row.name)).collect();
    let dir = &places.segments;
    let found = fs.list(dir).map_err(failed("list", dir))?;
    let names = found.into_iter().map(|(name, _)| name);
    let is_ours = |name: &String| name.ends_with(".seg") || name.ends_with(".tmp");
    let unlisted = names.filter(|name| is_ours(name) && !listed.contains(name));
    let (whole, begun): (Vec<String>, Vec<String>) =
        unlisted.partition(|name| name.ends_with(".seg"));
    let too_many = whole.len() > LEFT_BY_A_CRASH;
    if too_many {
        keep_orphans(fs, places, &whole)?;
    }
    let rest = if too_many { Vec::new() } else { whole };
    for name in begun.into_iter().chain(rest) {
        let path = dir.join(&name);
        match fs.remove(&path) {
            Ok(()) => tracing::info!(file = name, "removed a segment that nobody lists"),
            Err(error) => tracing::warn!(file = name, %error, "cannot remove a segment"),
        }
    }
    Ok(())
}

/// Moves segments that nobody lists to where nobody removes them.
fn keep_orphans(fs: &Arc<dyn Fs>, places: &Places, names: &[String]) -> Result<(), OpenError> {
    let orphans = places.segments.with_file_name("orphans");
    fs.create_dir(&orphans).map_err(failed("make", &orphans))?;
    let (count, kept_in) = (names.len(), orphans.display());
    tracing::error!(
        count,
        %kept_in,
        "the catalog does not list these segments: is it an older one? they are kept aside"
    );
    for name in names {
        let path = places.segments.join(name);
        fs.rename(&path, &orphans.join(name))
            .map_err(failed("move", &path))?;
    }
    fs.sync_dir(&orphans).map_err(failed("sync", &orphans))?;
    fs.sync_dir(&places.segments)
        .map_err(failed("sync", &places.segments))
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

#[cfg(test)]
mod tests {
    use wal::fs::sim::SimFs;

    use super::*;

    /// A directory with so many segments that nobody lists; what is left of them,
    /// and what is among the orphans.
    fn opened(count: usize) -> (usize, usize) {
        let fs: Arc<dyn Fs> = Arc::new(SimFs::default());
        let dir = Path::new("/s");
        let places = Places::of(dir);
        make(&fs, dir, &places).unwrap();
        for name in 0..count {
            let path = places.segment(SegmentName(name as u64));
            fs.create(&path).unwrap().append(b"x").unwrap();
        }
        remove_unlisted(&fs, &places, &[]).unwrap();
        let left = fs.list(&places.segments).unwrap().len();
        let orphans = fs.list(&dir.join("orphans")).map_or(0, |found| found.len());
        (left, orphans)
    }

    #[test]
    fn a_handful_that_nobody_lists_goes_and_more_than_a_crash_leaves_is_kept() {
        assert_eq!(opened(LEFT_BY_A_CRASH), (0, 0));
        assert_eq!(opened(LEFT_BY_A_CRASH + 1), (0, LEFT_BY_A_CRASH + 1));
    }
}
