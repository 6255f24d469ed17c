//! Reads the log again at a start.
//!
//! What is missing is found by the frames' numbers, not by what a broken place
//! looks like: a torn end that a later file makes up for is no damage, and a
//! file that is gone is.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use super::format::{
    BadHeader, FILE_HEADER, FRAME_HEADER, FRAME_MAGIC, FileHeader, FileId, FrameHeader, VERSION,
};
use super::writer::Start;
use super::{Replay, WalError};
use crate::fs::{File, Fs};

/// Read at once.
const WINDOW: usize = 4 << 20;
/// What a disk fails to read at least.
const PAGE: usize = 4096;

/// Where frames go.
pub(super) type Sink<'a> = &'a mut dyn FnMut(Vec<u8>);

/// What a start found, and where the log goes on.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) replay: Replay,
    pub(super) start: Start,
    /// The highest number that a file has or had.
    pub(super) last_number: u64,
}

/// Reads all files from `first` on, removes those below and makes sure that
/// what was read survives.
pub(super) fn replay(
    fs: &dyn Fs,
    dir: &Path,
    stream: char,
    first: u64,
    sink: Sink<'_>,
) -> Result<Found, WalError> {
    let ids = list(fs, dir, stream)?;
    let (old, kept): (Vec<FileId>, Vec<FileId>) = ids.iter().partition(|id| id.number < first);
    for id in old {
        remove(fs, &dir.join(id.name()));
    }
    let mut reader = Reader::new(fs, dir, first, sink);
    let headers = reader.headers(&kept)?;
    reader.read(&headers)?;
    let frame = reader.expected.unwrap_or(1);
    let given_up = reader.unsure_from(&headers);
    let last = ids.last().map_or(0, |id| id.number);
    Ok(Found {
        replay: reader.replay,
        start: Start {
            frame,
            given_up,
            previous: last_whole(&headers),
        },
        last_number: last.max(first.saturating_sub(1)),
    })
}

/// The files of a stream, by their numbers.
pub(super) fn list(fs: &dyn Fs, dir: &Path, stream: char) -> Result<Vec<FileId>, WalError> {
    let names = fs.list(dir).map_err(failed("list", dir))?;
    let mut ids: Vec<_> = names
        .iter()
        .filter_map(|(name, _)| FileId::parse(name, stream))
        .collect();
    ids.sort_by_key(|id| id.number);
    Ok(ids)
}

/// Removes a file that is not needed. If that fails it is removed once it is
/// below what a start or [`crate::Wal::remove_before`] is given.
pub(super) fn remove(fs: &dyn Fs, path: &Path) {
    if let Err(error) = fs.remove(path) {
        tracing::warn!(path = %path.display(), %error, "cannot remove a file of the log");
    }
}

pub(super) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WalError {
    let path = path.to_path_buf();
    move |source| WalError {
        doing,
        path,
        source,
    }
}

/// Files that were not read yet, each with its header if that is whole.
type Headers = VecDeque<(FileId, Option<FileHeader>)>;

/// The last file that has a header: one that a crash left without never had a
/// frame, and is not missed.
fn last_whole(headers: &Headers) -> u64 {
    let mut whole = headers.iter().rev().filter_map(|(_, header)| *header);
    whole.next().map_or(0, |header| header.id.number)
}

/// A place that no frame begins at, before more is known.
#[derive(Debug)]
struct Bad {
    file: FileId,
    offset: u64,
}

struct Reader<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    first: u64,
    sink: Sink<'a>,
    /// The number of the frame that comes next.
    expected: Option<u64>,
    /// The last bad place behind which no frame was missed yet.
    bad: Option<Bad>,
    replay: Replay,
}

impl<'a> Reader<'a> {
    fn new(fs: &'a dyn Fs, dir: &'a Path, first: u64, sink: Sink<'a>) -> Reader<'a> {
        Reader {
            fs,
            dir,
            first,
            sink,
            expected: None,
            bad: None,
            replay: Replay::default(),
        }
    }

    fn headers(&self, ids: &[FileId]) -> Result<Headers, WalError> {
        ids.iter().map(|id| Ok((*id, self.header(*id)?))).collect()
    }

    fn header(&self, id: FileId) -> Result<Option<FileHeader>, WalError> {
        let path = self.path(id);
        let mut window = Window::open(self.fs, &path)?;
        let bytes = window
            .up_to(0, FILE_HEADER)
            .map_err(failed("read", &path))?;
        match FileHeader::decode(bytes, id) {
            Ok(header) => Ok(Some(header)),
            Err(BadHeader::Damaged) => Ok(None),
            Err(BadHeader::Version(version)) => {
                let what = format!("its format is {version}, known is {VERSION}");
                Err(failed("read", &path)(io::Error::other(what)))
            }
        }
    }

    fn read(&mut self, headers: &Headers) -> Result<(), WalError> {
        let mut rest = headers.clone();
        while let Some((id, header)) = rest.pop_front() {
            self.read_file(id, header, &rest)?;
        }
        if let Some(bad) = self.bad.take() {
            let length = self
                .fs
                .open(&self.path(bad.file))
                .and_then(|file| file.length());
            let length = length.map_err(failed("read", &self.path(bad.file)))?;
            self.replay.torn_tail = length.saturating_sub(bad.offset);
        }
        Ok(())
    }

    fn read_file(
        &mut self,
        id: FileId,
        header: Option<FileHeader>,
        later: &Headers,
    ) -> Result<(), WalError> {
        let path = self.path(id);
        let mut window = Window::open(self.fs, &path)?;
        if let Some(header) = &header {
            self.enter(header);
        }
        let mut headless = header.is_none();
        let mut offset = if headless { 0 } else { FILE_HEADER as u64 };
        let unreadable = || failed("read", &path);
        while let Some((at, frame)) = self.find(offset, id, &mut window).map_err(unreadable())? {
            if std::mem::take(&mut headless) {
                self.bad = None;
                self.report(id, 0, "its header is damaged".to_owned());
            }
            if !self.goes_on(frame.number, id, at, later) {
                break;
            }
            self.take(frame, at, &mut window).map_err(unreadable())?;
            offset = at + (FRAME_HEADER + frame.length) as u64;
        }
        Ok(())
    }

    /// The next whole frame, at `offset` or behind a bad place, and where it
    /// begins.
    fn find(
        &mut self,
        offset: u64,
        id: FileId,
        window: &mut Window,
    ) -> io::Result<Option<(u64, FrameHeader)>> {
        if offset >= window.length {
            return Ok(None);
        }
        if let Some(frame) = window.frame(offset, id)? {
            return Ok(Some((offset, frame)));
        }
        self.bad = Some(Bad { file: id, offset });
        window.scan(offset + 1, id)
    }

    /// A file begins: are all frames before it there?
    fn enter(&mut self, header: &FileHeader) {
        let Some(expected) = self.expected else {
            self.expected = Some(header.first);
            let previous = FileId {
                number: header.previous,
                ..header.id
            };
            if previous.number != 0 && previous.number >= self.first {
                self.report(
                    previous,
                    0,
                    "it is missing, or nothing in it can be read".to_owned(),
                );
            }
            return;
        };
        let needed = header.first.min(header.given_up);
        if needed > expected {
            self.report_gap(expected, needed, header.id, 0);
        }
        self.bad = None; // what it took is here again
        self.expected = Some(expected.max(header.first));
    }

    /// Whether the frame that was found is to be taken: not if one is missing
    /// that a later file has again, with all that follow it.
    fn goes_on(&mut self, number: u64, id: FileId, offset: u64, later: &Headers) -> bool {
        let Some(expected) = self.expected else {
            return true;
        };
        if number > expected {
            let has = |header: &FileHeader| header.first <= expected;
            if later
                .iter()
                .any(|(_, header)| header.as_ref().is_some_and(has))
            {
                self.bad = None;
                return false;
            }
            self.report_gap(expected, number, id, offset);
        }
        self.bad = None;
        true
    }

    fn take(&mut self, frame: FrameHeader, offset: u64, window: &mut Window) -> io::Result<()> {
        let is_new = self
            .expected
            .is_none_or(|expected| frame.number >= expected);
        if !is_new {
            return Ok(());
        }
        self.expected = Some(frame.number.saturating_add(1));
        if frame.rotation < self.first || frame.length == 0 {
            return Ok(());
        }
        let records = window.up_to(offset + FRAME_HEADER as u64, frame.length)?;
        self.replay.frames += 1;
        self.replay.bytes += records.len() as u64;
        (self.sink)(records.to_vec());
        Ok(())
    }

    /// Frames are missing, at the last bad place if there is one.
    fn report_gap(&mut self, from: u64, to: u64, id: FileId, offset: u64) {
        let lost = format!("the frames {from} to {} are missing", to - 1);
        match self.bad.take() {
            Some(bad) => self.report(
                bad.file,
                bad.offset,
                format!("no frame begins here: {lost}"),
            ),
            None => self.report(id, offset, lost),
        }
    }

    fn report(&mut self, id: FileId, offset: u64, what: String) {
        let name = id.name();
        tracing::error!(file = name, offset, what, "the log is damaged");
        let path = self.path(id);
        let kept = path.with_file_name(format!("{name}.damaged"));
        match self.fs.hard_link(&path, &kept) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => tracing::warn!(file = name, %error, "cannot keep the damaged file"),
        }
        self.replay.damaged.push((name, offset, what));
    }

    /// Makes what was read survive: it may be in the machine's memory only,
    /// and what follows builds on it. Gives from which frame on it may not be.
    fn unsure_from(&self, headers: &Headers) -> Option<u64> {
        let sync = |id: FileId| {
            self.fs
                .open(&self.path(id))
                .and_then(|mut file| file.sync())
        };
        for (id, header) in headers {
            if let Err(error) = sync(*id) {
                tracing::warn!(file = id.name(), %error, "cannot sync an old file of the log");
                return Some(header.map_or(0, |header| header.first));
            }
        }
        None
    }

    fn path(&self, id: FileId) -> PathBuf {
        self.dir.join(id.name())
    }
}

/// A part of a file in memory.
struct Window {
    file: Box<dyn File>,
    length: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn open(fs: &dyn Fs, path: &Path) -> Result<Window, WalError> {
        let file = fs.open(path).map_err(failed("open", path))?;
        let length = file.length().map_err(failed("read", path))?;
        Ok(Window {
            file,
            length,
            start: 0,
            bytes: Vec::new(),
        })
    }

    /// Up to `most` bytes from `offset` on, fewer only at the file's end.
    fn up_to(&mut self, offset: u64, most: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let most = most.min(left);
        let has = |window: &Window| {
            offset >= window.start
                && offset + most as u64 <= window.start + window.bytes.len() as u64
        };
        if !has(self) {
            self.load(offset, most.max(WINDOW.min(left)))?;
        }
        let from = usize::try_from(offset - self.start).map_err(io::Error::other)?;
        Ok(&self.bytes[from..from + most])
    }

    fn load(&mut self, offset: u64, length: usize) -> io::Result<()> {
        self.start = offset;
        self.bytes.resize(length, 0);
        let Err(error) = self.file.read_at(offset, &mut self.bytes) else {
            return Ok(());
        };
        // a bad sector must not take the frames around it with it
        let mut at = offset;
        let mut any = false;
        for page in self.bytes.chunks_mut(PAGE) {
            match self.file.read_at(at, page) {
                Ok(()) => any = true,
                Err(_) => page.fill(0),
            }
            at += page.len() as u64;
        }
        if any { Ok(()) } else { Err(error) }
    }

    /// The whole frame that begins at `offset`, if one does.
    fn frame(&mut self, offset: u64, id: FileId) -> io::Result<Option<FrameHeader>> {
        let bytes = self.up_to(offset, FRAME_HEADER)?;
        let Some(header) = FrameHeader::decode(bytes) else {
            return Ok(None);
        };
        let length = FRAME_HEADER + header.length;
        if length as u64 > self.length - offset {
            return Ok(None);
        }
        let frame = self.up_to(offset, length)?;
        Ok(header.matches(frame, id).then_some(header))
    }

    /// The next whole frame from `offset` on, and where it begins.
    fn scan(&mut self, mut offset: u64, id: FileId) -> io::Result<Option<(u64, FrameHeader)>> {
        while offset + FRAME_HEADER as u64 <= self.length {
            let bytes = self.up_to(offset, WINDOW)?;
            let Some(at) = find_magic(bytes) else {
                offset += (bytes.len() - FRAME_MAGIC.len() + 1) as u64;
                continue;
            };
            offset += at as u64;
            if let Some(frame) = self.frame(offset, id)? {
                return Ok(Some((offset, frame)));
            }
            offset += 1;
        }
        Ok(None)
    }
}

fn find_magic(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(FRAME_MAGIC.len())
        .position(|window| window == FRAME_MAGIC)
}
