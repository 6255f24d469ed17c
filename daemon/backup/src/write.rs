//! From a snapshot's directory to an archive.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use model::Timestamp;
use zstd::stream::write::Encoder;

use crate::about::{About, FORMAT, FileEntry, Manifest, Packed, Sum, sha256};
use crate::entry::{
    ABOUT, ABOUT_BYTES, MANIFEST, MANIFEST_BYTES, MAX_FILES, PACKED, TRAILER, check_path, header,
    padding,
};
use crate::error::{ArchiveError, is_full};
use crate::seal::{Recipients, Sealer};

/// How much is read at a time.
pub(crate) const PIECE: usize = 128 << 10;
/// Segments are compressed already; everything else shrinks to a third.
const NOT_PACKED: &str = ".seg";
/// zstd's own default: better ones cost time of the daemon's.
const LEVEL: i32 = 3;

/// Writes everything in `snapshot_dir` to `out`, encrypted for `recipients` if
/// there are any; blocks. `progress` is told how many of the snapshot's bytes
/// are done.
///
/// The directory must not change meanwhile. It needs room for one compressed
/// file at a time. `out` is flushed, not synced; if this fails, what was
/// written is no backup, and its reader will say so.
///
/// # Errors
///
/// See [`ArchiveError`]: a file that cannot be read or has no place in a
/// backup, or `out` that does not take it.
pub fn write(
    snapshot_dir: &Path,
    about: About,
    recipients: &Recipients,
    out: impl Write,
    progress: &mut dyn FnMut(u64),
) -> Result<Manifest, ArchiveError> {
    let files = files_in(snapshot_dir)?;
    let about = About {
        format: FORMAT,
        files: files.len() as u64,
        bytes: files.iter().map(|file| file.size).sum(),
        ..about
    };
    let mut writer = ArchiveWriter {
        out: Sealer::new(out, recipients)?,
        made_s: seconds(about.made),
        snapshot_dir,
        done: 0,
        progress,
    };
    let about = json(&about, ABOUT_BYTES)?;
    writer.bytes(ABOUT, &about)?;
    let mut manifest = Manifest {
        about: sha256(&about),
        files: Vec::with_capacity(files.len()),
    };
    for file in files {
        manifest.files.push(writer.file(file)?);
    }
    writer.bytes(MANIFEST, &json(&manifest, MANIFEST_BYTES)?)?;
    writer.put(&[0; TRAILER])?;
    writer.out.finish().map_err(failed)?;
    Ok(manifest)
}

/// A file of the snapshot.
struct Source {
    path: String,
    size: u64,
}

/// How many bytes there are in `snapshot_dir`.
pub(crate) fn bytes_in(snapshot_dir: &Path) -> Result<u64, ArchiveError> {
    Ok(files_in(snapshot_dir)?.iter().map(|file| file.size).sum())
}

/// Every file below `snapshot_dir`, by path.
fn files_in(snapshot_dir: &Path) -> Result<Vec<Source>, ArchiveError> {
    let mut files = Vec::new();
    collect(snapshot_dir, "", &mut files)?;
    files.sort_by(|one: &Source, other| one.path.cmp(&other.path));
    Ok(files)
}

fn collect(directory: &Path, above: &str, files: &mut Vec<Source>) -> Result<(), ArchiveError> {
    let unreadable = |source| ArchiveError::Snapshot {
        path: directory.to_owned(),
        source,
    };
    for found in fs::read_dir(directory).map_err(unreadable)? {
        let found = found.map_err(unreadable)?;
        let refused = |why| ArchiveError::NotForBackup {
            path: found.path(),
            why,
        };
        let name = found.file_name();
        let name = name
            .to_str()
            .ok_or_else(|| refused("its name is not UTF-8"))?;
        let path = format!("{above}{name}");
        // of the link itself, if it is one
        let metadata = found.metadata().map_err(unreadable)?;
        if metadata.is_dir() {
            collect(&found.path(), &format!("{path}/"), files)?;
            continue;
        }
        if !metadata.is_file() {
            return Err(refused("it is neither a file nor a directory"));
        }
        check_path(&stored_path(&path)).map_err(refused)?;
        if path == ABOUT || path == MANIFEST || path.ends_with(PACKED) {
            return Err(refused("its name has a meaning of its own there"));
        }
        if files.len() == MAX_FILES {
            return Err(refused("there are too many files"));
        }
        files.push(Source {
            path,
            size: metadata.len(),
        });
    }
    Ok(())
}

fn is_packed(path: &str) -> bool {
    !path.ends_with(NOT_PACKED)
}

fn stored_path(path: &str) -> String {
    match is_packed(path) {
        true => format!("{path}{PACKED}"),
        false => path.to_owned(),
    }
}

/// The time in a header counts seconds.
pub(crate) fn seconds(made: Timestamp) -> u64 {
    made.0 / 1_000
}

fn json(value: &impl serde::Serialize, most: u64) -> Result<Vec<u8>, ArchiveError> {
    let text = serde_json::to_vec(value).map_err(|error| failed(io::Error::other(error)))?;
    match text.len() as u64 <= most {
        true => Ok(text),
        false => Err(failed(io::Error::other(
            "there is too much to say about it",
        ))),
    }
}

fn failed(source: io::Error) -> ArchiveError {
    ArchiveError::Write { source }
}

struct ArchiveWriter<'a, W: Write> {
    out: Sealer<W>,
    made_s: u64,
    snapshot_dir: &'a Path,
    done: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl<W: Write> ArchiveWriter<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.out.write_all(bytes).map_err(failed)
    }

    fn bytes(&mut self, path: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
        let size = bytes.len() as u64;
        self.put(header(path, size, self.made_s)?.as_bytes())?;
        self.put(bytes)?;
        self.put(&vec![0; padding(size)])
    }

    fn file(&mut self, file: Source) -> Result<FileEntry, ArchiveError> {
        let path = self.snapshot_dir.join(&file.path);
        let unreadable = |source| ArchiveError::Snapshot {
            path: path.clone(),
            source,
        };
        let mut source = File::open(&path).map_err(unreadable)?;
        if !is_packed(&file.path) {
            let sha256 = self.content(&file.path, file.size, &mut source, &path, true)?;
            return Ok(FileEntry {
                path: file.path,
                size: file.size,
                sha256,
                packed: None,
            });
        }
        let (mut packed, sha256) = self.pack(&mut source, file.size, &path)?;
        let size = packed.metadata().map_err(unreadable)?.len();
        let name = stored_path(&file.path);
        let packed_sha256 = self.content(&name, size, &mut packed, &path, false)?;
        Ok(FileEntry {
            path: file.path,
            size: file.size,
            sha256,
            packed: Some(Packed {
                size,
                sha256: packed_sha256,
            }),
        })
    }

    /// Writes one entry, whose content is the next `size` bytes of `source`;
    /// gives its hash.
    fn content(
        &mut self,
        name: &str,
        size: u64,
        source: &mut File,
        path: &Path,
        counts: bool,
    ) -> Result<String, ArchiveError> {
        self.put(header(name, size, self.made_s)?.as_bytes())?;
        let mut sum = Sum::default();
        each_piece(source, path, size, |piece| {
            sum.add(piece);
            self.put(piece)?;
            if counts {
                self.advance(piece.len());
            }
            Ok(())
        })?;
        self.put(&vec![0; padding(size)])?;
        Ok(sum.finish().1)
    }

    /// `source` compressed, in a file without a name, and the hash of `source`.
    fn pack(
        &mut self,
        source: &mut File,
        size: u64,
        path: &Path,
    ) -> Result<(File, String), ArchiveError> {
        let unwritable = |source: io::Error| match is_full(&source) {
            true => ArchiveError::DiskFull {
                path: self.snapshot_dir.to_owned(),
            },
            false => ArchiveError::Snapshot {
                path: self.snapshot_dir.to_owned(),
                source,
            },
        };
        let packed = tempfile::tempfile_in(self.snapshot_dir).map_err(unwritable)?;
        let mut encoder = Encoder::new(packed, LEVEL).map_err(unwritable)?;
        encoder.include_checksum(true).map_err(unwritable)?;
        encoder
            .set_pledged_src_size(Some(size))
            .map_err(unwritable)?;
        let mut sum = Sum::default();
        let mut pieces = 0;
        each_piece(source, path, size, |piece| {
            sum.add(piece);
            pieces += piece.len();
            encoder.write_all(piece).map_err(unwritable)
        })?;
        let mut packed = encoder.finish().map_err(unwritable)?;
        packed.rewind().map_err(unwritable)?;
        self.advance(pieces);
        Ok((packed, sum.finish().1))
    }

    fn advance(&mut self, bytes: usize) {
        self.done += bytes as u64;
        (self.progress)(self.done);
    }
}

/// Hands over the next `size` bytes of `source`, which must be all that it has.
fn each_piece(
    source: &mut File,
    path: &Path,
    size: u64,
    mut take: impl FnMut(&[u8]) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let unreadable = |source| ArchiveError::Snapshot {
        path: PathBuf::from(path),
        source,
    };
    let mut buffer = vec![0; PIECE];
    let mut left = size;
    loop {
        let read = source.read(&mut buffer).map_err(unreadable)?;
        if read as u64 > left || (read == 0 && left > 0) {
            return Err(unreadable(io::Error::other("it changed while it was read")));
        }
        if read == 0 {
            return Ok(());
        }
        left -= read as u64;
        take(&buffer[..read])?;
    }
}
