//! From an archive to its files, each byte checked on the way.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read};

use serde::Deserialize;
use zstd::stream::read::Decoder;

use crate::about::{About, FORMAT, FileEntry, Manifest, Packed, Sum, Verified, sha256};
use crate::entry::{
    ABOUT, ABOUT_BYTES, BLOCK, Entry, MANIFEST, MANIFEST_BYTES, MAX_FILES, PACKED, TRAILER,
    padding, parse,
};
use crate::error::ArchiveError;
use crate::seal::{Identities, open};
use crate::write::{PIECE, seconds};

/// What the decoder of a compressed file may take: our level's window is 2 MiB.
const WINDOW_LOG: u32 = 23;

/// Where the files of an archive go.
pub(crate) trait Sink {
    /// A file begins.
    fn begin(&mut self, path: &str) -> Result<(), ArchiveError>;
    /// The next of its bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError>;
    /// It is complete.
    fn end(&mut self) -> Result<(), ArchiveError>;
}

/// Where nothing is kept.
struct Nowhere;

impl Sink for Nowhere {
    fn begin(&mut self, _path: &str) -> Result<(), ArchiveError> {
        Ok(())
    }

    fn write(&mut self, _bytes: &[u8]) -> Result<(), ArchiveError> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), ArchiveError> {
        Ok(())
    }
}

/// Reads an archive to its end and checks all of it; blocks. Needs a few
/// megabytes of memory, however large it is. `progress` is told how many bytes
/// of the archive (decrypted) are done.
///
/// # Errors
///
/// See [`ArchiveError`].
pub fn verify(
    input: impl Read,
    identities: &Identities,
    progress: &mut dyn FnMut(u64),
) -> Result<Verified, ArchiveError> {
    read_archive(input, identities, &mut Nowhere, progress)
}

/// Reads an archive into `sink`, which must keep nothing if this fails.
pub(crate) fn read_archive(
    input: impl Read,
    identities: &Identities,
    sink: &mut dyn Sink,
    progress: &mut dyn FnMut(u64),
) -> Result<Verified, ArchiveError> {
    let mut opened = open(input, identities)?;
    let encrypted = opened.is_sealed();
    let mut input = Input {
        input: &mut opened,
        done: 0,
        progress,
        failed: None,
    };
    let (about, about_sha256) = read_about(&mut input)?;
    let mut files = Files {
        about: &about,
        paths: BTreeSet::new(),
        directories: BTreeSet::new(),
        restored: 0,
        seen: Vec::new(),
    };
    let manifest = loop {
        let entry = input.entry()?;
        if entry.made_s != seconds(about.made) {
            return Err(damaged(&entry.path, "its header is not as we write it"));
        }
        if entry.path == MANIFEST {
            break input.json(&entry, MANIFEST_BYTES)?.0;
        }
        files.read(&mut input, &entry, sink)?;
    };
    input.end()?;
    compare(&manifest, &about_sha256, &files.seen)?;
    let seen = files.seen.len() as u64;
    if (seen, files.restored) != (about.files, about.bytes) {
        return Err(damaged(ABOUT, "it counts other files than there are"));
    }
    Ok(Verified {
        about,
        manifest,
        encrypted,
    })
}

fn damaged(name: &str, why: &'static str) -> ArchiveError {
    ArchiveError::Damaged {
        name: name.to_owned(),
        why,
    }
}

fn read_about(input: &mut Input<'_>) -> Result<(About, String), ArchiveError> {
    let not_ours = ArchiveError::NotABackup {
        why: "it does not begin with about.json",
    };
    let entry = match input.entry() {
        Ok(entry) if entry.path == ABOUT => entry,
        Ok(_) => return Err(not_ours),
        Err(ArchiveError::Damaged { name, .. }) if name != ABOUT => return Err(not_ours),
        Err(error) => return Err(error),
    };
    let text = input.small(&entry, ABOUT_BYTES)?;
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    // read first: a later format may say more
    let version: Version = parse_json(&entry, &text)?;
    if version.format > FORMAT {
        return Err(ArchiveError::Newer {
            found: version.format,
        });
    }
    let about: About = canonical(&entry, &text)?;
    if about.format != FORMAT || entry.made_s != seconds(about.made) {
        return Err(damaged(ABOUT, "it contradicts itself"));
    }
    Ok((about, sha256(&text)))
}

fn parse_json<T: serde::de::DeserializeOwned>(
    entry: &Entry,
    text: &[u8],
) -> Result<T, ArchiveError> {
    serde_json::from_slice(text).map_err(|_| damaged(&entry.path, "it is not what we write there"))
}

/// What `text` says, if it says it as we do: the same text comes out again.
fn canonical<T>(entry: &Entry, text: &[u8]) -> Result<T, ArchiveError>
where
    T: serde::de::DeserializeOwned + serde::Serialize,
{
    let value: T = parse_json(entry, text)?;
    match serde_json::to_vec(&value).is_ok_and(|again| again == text) {
        true => Ok(value),
        false => Err(damaged(&entry.path, "it is not as we write it")),
    }
}

/// Whether the manifest says what was seen; names the first file of which it
/// does not.
fn compare(manifest: &Manifest, about: &str, seen: &[FileEntry]) -> Result<(), ArchiveError> {
    if manifest.about != about {
        return Err(damaged(ABOUT, "it is not as it was written"));
    }
    for (listed, seen) in manifest.files.iter().zip(seen) {
        if listed.path != seen.path {
            return Err(damaged(&seen.path, "it is not listed in manifest.json"));
        }
        if listed.size != seen.size {
            return Err(damaged(
                &seen.path,
                "its size is not what manifest.json says",
            ));
        }
        if listed != seen {
            return Err(damaged(&seen.path, "its content is not as it was written"));
        }
    }
    if let Some(extra) = seen.get(manifest.files.len()) {
        return Err(damaged(&extra.path, "it is not listed in manifest.json"));
    }
    if let Some(missing) = manifest.files.get(seen.len()) {
        return Err(damaged(&missing.path, "it is missing"));
    }
    Ok(())
}

/// The files that were read so far.
struct Files<'a> {
    about: &'a About,
    paths: BTreeSet<String>,
    directories: BTreeSet<String>,
    restored: u64,
    seen: Vec<FileEntry>,
}

impl Files<'_> {
    fn read(
        &mut self,
        input: &mut Input<'_>,
        entry: &Entry,
        sink: &mut dyn Sink,
    ) -> Result<(), ArchiveError> {
        let packed = entry.path.strip_suffix(PACKED);
        let path = packed.unwrap_or(&entry.path).to_owned();
        self.check(&path)?;
        sink.begin(&path)?;
        let mut stored = Stored {
            input,
            left: entry.size,
            sum: Sum::default(),
        };
        let mut restored = Sum::default();
        match packed {
            Some(_) => self.unpack(&mut stored, &entry.path, &mut restored, sink)?,
            None => self.copy(&mut stored, &entry.path, &mut restored, sink)?,
        }
        sink.end()?;
        if stored.left > 0 {
            return Err(damaged(&entry.path, "it goes on after its end"));
        }
        let (packed_size, packed_sha256) = stored.sum.finish();
        input.zeros(padding(entry.size), &entry.path)?;
        let (size, sha256) = restored.finish();
        self.restored += size;
        self.seen.push(FileEntry {
            path,
            size,
            sha256,
            packed: packed.map(|_| Packed {
                size: packed_size,
                sha256: packed_sha256,
            }),
        });
        Ok(())
    }

    /// Refuses a file that is there already, or lies in one.
    fn check(&mut self, path: &str) -> Result<(), ArchiveError> {
        let forbidden = |why| {
            Err(ArchiveError::Forbidden {
                name: path.to_owned(),
                why,
            })
        };
        if self.seen.len() == MAX_FILES || self.seen.len() as u64 == self.about.files {
            return forbidden("there are too many files");
        }
        let ends = path.match_indices('/').map(|(at, _)| &path[..at]);
        let above: Vec<&str> = ends.collect();
        let in_a_file = above
            .iter()
            .any(|directory| self.paths.contains(*directory));
        let is_reserved = path == ABOUT || path == MANIFEST;
        if is_reserved || in_a_file || self.directories.contains(path) {
            return forbidden("its name is taken");
        }
        if !self.paths.insert(path.to_owned()) {
            return forbidden("its name is there twice");
        }
        self.directories
            .extend(above.into_iter().map(str::to_owned));
        Ok(())
    }

    fn copy(
        &self,
        from: &mut Stored<'_, '_>,
        name: &str,
        sum: &mut Sum,
        sink: &mut dyn Sink,
    ) -> Result<(), ArchiveError> {
        let mut buffer = vec![0; PIECE];
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(_) => return Err(from.input.failure(name, "it cannot be read")),
            };
            self.give(&buffer[..read], name, sum, sink)?;
        }
    }

    fn unpack(
        &self,
        from: &mut Stored<'_, '_>,
        name: &str,
        sum: &mut Sum,
        sink: &mut dyn Sink,
    ) -> Result<(), ArchiveError> {
        let why = "it cannot be decompressed";
        let buffered = BufReader::with_capacity(PIECE, &mut *from);
        let failed = |_| damaged(name, why);
        let mut decoder = Decoder::with_buffer(buffered).map_err(failed)?;
        decoder.window_log_max(WINDOW_LOG).map_err(failed)?;
        let mut buffer = vec![0; PIECE];
        loop {
            match decoder.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => self.give(&buffer[..read], name, sum, sink)?,
                Err(_) => {
                    drop(decoder);
                    return Err(from.input.failure(name, why));
                }
            }
        }
    }

    fn give(
        &self,
        bytes: &[u8],
        name: &str,
        sum: &mut Sum,
        sink: &mut dyn Sink,
    ) -> Result<(), ArchiveError> {
        sum.add(bytes);
        let all = self.restored.saturating_add(sum.bytes());
        if all > self.about.bytes {
            // before a disk is full of it
            return Err(damaged(name, "there is more in it than about.json says"));
        }
        sink.write(bytes)
    }
}

/// The decrypted archive.
struct Input<'a> {
    input: &'a mut dyn Read,
    done: u64,
    progress: &'a mut dyn FnMut(u64),
    /// Why the last read failed.
    failed: Option<ArchiveError>,
}

impl Input<'_> {
    /// Reads some bytes; none: the end.
    fn some(&mut self, into: &mut [u8]) -> Result<usize, ArchiveError> {
        loop {
            match self.input.read(into) {
                Ok(read) => {
                    self.done += read as u64;
                    (self.progress)(self.done);
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
    }

    fn exact(&mut self, into: &mut [u8]) -> Result<(), ArchiveError> {
        let mut filled = 0;
        while filled < into.len() {
            match self.some(&mut into[filled..])? {
                0 => return Err(ArchiveError::CutShort),
                read => filled += read,
            }
        }
        Ok(())
    }

    fn entry(&mut self) -> Result<Entry, ArchiveError> {
        let mut block = [0; BLOCK];
        self.exact(&mut block)?;
        if block == [0; BLOCK] {
            // the end of a tar, before the manifest
            return Err(ArchiveError::CutShort);
        }
        parse(&block)
    }

    /// The whole content of an entry that has at most `most` bytes.
    fn small(&mut self, entry: &Entry, most: u64) -> Result<Vec<u8>, ArchiveError> {
        if entry.size > most {
            return Err(damaged(&entry.path, "it is too large"));
        }
        let mut text = Vec::new();
        let mut buffer = vec![0; PIECE];
        let mut left = entry.size;
        while left > 0 {
            // no more memory than there are bytes, whatever the size says
            let most = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = self.some(&mut buffer[..most])?;
            if read == 0 {
                return Err(ArchiveError::CutShort);
            }
            text.extend_from_slice(&buffer[..read]);
            left -= read as u64;
        }
        self.zeros(padding(entry.size), &entry.path)?;
        Ok(text)
    }

    fn json<T>(&mut self, entry: &Entry, most: u64) -> Result<(T, Vec<u8>), ArchiveError>
    where
        T: serde::de::DeserializeOwned + serde::Serialize,
    {
        let text = self.small(entry, most)?;
        Ok((canonical(entry, &text)?, text))
    }

    fn zeros(&mut self, count: usize, name: &str) -> Result<(), ArchiveError> {
        let mut block = [0; TRAILER];
        self.exact(&mut block[..count])?;
        match block[..count].iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => Err(damaged(name, "there is something behind it")),
        }
    }

    /// The end of a tar, and nothing behind it.
    fn end(&mut self) -> Result<(), ArchiveError> {
        self.zeros(TRAILER, MANIFEST)?;
        match self.some(&mut [0; 1])? {
            0 => Ok(()),
            _ => Err(damaged(MANIFEST, "there is something behind it")),
        }
    }

    /// Why reading an entry failed: the archive itself, or else `why`.
    fn failure(&mut self, name: &str, why: &'static str) -> ArchiveError {
        self.failed.take().unwrap_or_else(|| damaged(name, why))
    }
}

fn unreadable(source: io::Error) -> ArchiveError {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveError::CutShort,
        // age says so of a piece that was changed
        io::ErrorKind::InvalidData => damaged("its encryption", "it is not as it was written"),
        _ => ArchiveError::Read { source },
    }
}

/// The content of an entry as it stands in the archive.
struct Stored<'i, 'a> {
    input: &'i mut Input<'a>,
    left: u64,
    sum: Sum,
}

impl Read for Stored<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let read = match self.input.some(&mut into[..most]) {
            Ok(0) => Err(ArchiveError::CutShort),
            read => read,
        };
        match read {
            Ok(read) => {
                self.left -= read as u64;
                self.sum.add(&into[..read]);
                Ok(read)
            }
            Err(error) => {
                self.input.failed = Some(error);
                Err(io::Error::other("the archive cannot be read on"))
            }
        }
    }
}
