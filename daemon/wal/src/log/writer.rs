//! Frames into files: the only place that writes the log. It belongs to the
//! log's thread and knows nothing of who waits.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::format::{self, FILE_HEADER, FRAME_HEADER, FileHeader, FileId};
use super::replay;
use super::syncs::Syncs;
use crate::fs::{File, Fs};

/// A file that has this many bytes is followed by the next: small enough to be
/// read again in a moment, so large that an hour rarely needs two.
const MAX_FILE: u64 = 256 << 20;

/// Records that become one frame.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Room for the frame's header, then the records.
    pub(super) bytes: Vec<u8>,
    /// The last append in it.
    pub(super) upto: u64,
    pub(super) rotation: u64,
    /// When its first record was appended.
    pub(super) since: Instant,
    /// The frame's number, once it was written.
    pub(super) number: u64,
}

impl Chunk {
    pub(super) fn payload(&self) -> usize {
        self.bytes.len() - FRAME_HEADER
    }
}

/// What the writer did since it was asked last.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Everything up to this append is on the disk.
    pub(super) durable: u64,
    /// Chunks that are not needed any more.
    pub(super) done: Vec<Chunk>,
    /// Since when something is written and not synced.
    pub(super) unsynced_since: Option<Instant>,
    pub(super) written: u64,
    pub(super) sealed: u64,
    pub(super) syncs: Syncs,
}

/// Where the log goes on after what is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// The next frame's number.
    pub(super) frame: u64,
    /// Frames from here on may be missing, if there is such.
    pub(super) given_up: Option<u64>,
    /// The last file that is there, or 0.
    pub(super) previous: u64,
}

/// Gives numbers to files, each once.
pub(super) type Numbers<'a> = &'a mut dyn FnMut() -> u64;

#[derive(Debug)]
pub(super) struct Writer {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    stream: char,
    file: Option<Current>,
    /// In the file, and not known to be on the disk.
    unsynced: Vec<Chunk>,
    next: Start,
    progress: Progress,
    /// [`MAX_FILE`], or what a test has the patience for.
    max_file: u64,
}

#[derive(Debug)]
struct Current {
    file: Box<dyn File>,
    number: u64,
    length: u64,
}

impl Writer {
    pub(super) fn new(fs: Arc<dyn Fs>, dir: PathBuf, stream: char, next: Start) -> Writer {
        Writer {
            fs,
            dir,
            stream,
            file: None,
            unsynced: Vec::new(),
            next,
            progress: Progress::default(),
            max_file: MAX_FILE,
        }
    }

    /// Writes chunks, and if asked syncs them. After an error everything that
    /// is not known to be on the disk was given up.
    pub(super) fn store(
        &mut self,
        chunks: Vec<Chunk>,
        sync: bool,
        numbers: Numbers<'_>,
    ) -> io::Result<()> {
        for chunk in chunks {
            self.put(chunk, numbers)?;
        }
        if sync {
            self.settle(numbers)?;
        }
        Ok(())
    }

    /// Begins the first file, with the number that the first rotation gave.
    pub(super) fn begin_first(&mut self, number: u64) -> io::Result<()> {
        let outcome = self.begin(number);
        if outcome.is_err() {
            self.give_up();
        }
        outcome
    }

    /// Begins a new file with an empty frame; one try, of which nothing is left
    /// if it fails: it is made again and again.
    pub(super) fn begin_again(&mut self, rotation: u64, numbers: Numbers<'_>) -> io::Result<()> {
        let empty = Chunk {
            bytes: vec![0; FRAME_HEADER],
            upto: self.progress.durable,
            rotation,
            since: Instant::now(),
            number: self.next.frame,
        };
        let before = self.next;
        let number = numbers();
        self.begin(number)?;
        self.next.frame += 1;
        self.unsynced.push(empty);
        let outcome = self.write(0).and_then(|()| self.sync());
        if outcome.is_err() {
            // whether the file is gone after a power cut is not known: the next
            // one's header is true with it and without it
            self.next.given_up = before.given_up;
            self.next.previous = before.previous;
            self.give_up();
            self.discard(number);
        }
        outcome
    }

    /// What was done; the counters stay.
    pub(super) fn progress(&mut self) -> Progress {
        let done = std::mem::take(&mut self.progress.done);
        Progress {
            done,
            unsynced_since: self.unsynced.first().map(|chunk| chunk.since),
            ..self.progress
        }
    }

    fn put(&mut self, mut chunk: Chunk, numbers: Numbers<'_>) -> io::Result<()> {
        if self.turns_before(chunk.rotation) {
            self.settle(numbers)?;
        }
        chunk.number = self.next.frame;
        self.next.frame += 1;
        let rotation = chunk.rotation;
        self.unsynced.push(chunk);
        let outcome = self
            .turn(rotation, numbers)
            .and_then(|()| self.write(self.unsynced.len() - 1));
        outcome.or_else(|error| self.rescue(&error, numbers))
    }

    /// Whether frames of this rotation need another file.
    fn turns_before(&self, rotation: u64) -> bool {
        self.file
            .as_ref()
            .is_none_or(|file| file.number < rotation || file.length >= self.max_file)
    }

    /// Begins the file that frames of this rotation need. All that is in the
    /// one before was synced.
    fn turn(&mut self, rotation: u64, numbers: Numbers<'_>) -> io::Result<()> {
        if !self.turns_before(rotation) {
            return Ok(());
        }
        match &self.file {
            // the number was given out for this, and no file has it yet
            Some(file) if file.number < rotation => self.begin(rotation),
            _ => self.begin(numbers()),
        }
    }

    /// Makes everything that was written survive.
    fn settle(&mut self, numbers: Numbers<'_>) -> io::Result<()> {
        if self.unsynced.is_empty() {
            return Ok(());
        }
        self.sync().or_else(|error| self.rescue(&error, numbers))
    }

    /// The file is dead: nothing is known of what was not synced, and a second
    /// sync would say nothing. All of it goes into a new file.
    fn rescue(&mut self, error: &io::Error, numbers: Numbers<'_>) -> io::Result<()> {
        tracing::warn!(%error, "a file of the log failed; going on in a new one");
        self.seal();
        let outcome = self.begin(numbers()).and_then(|()| {
            for at in 0..self.unsynced.len() {
                self.write(at)?;
            }
            self.sync()
        });
        if outcome.is_err() {
            self.give_up();
        }
        outcome
    }

    fn seal(&mut self) {
        self.progress.sealed += u64::from(self.file.take().is_some());
    }

    /// Forgets what is not known to be on the disk.
    fn give_up(&mut self) {
        self.seal();
        let first = self.first_frame();
        let before = self.next.given_up.unwrap_or(first);
        self.next.given_up = Some(before.min(first));
        self.progress.done.append(&mut self.unsynced);
    }

    /// The number of the first frame of a file that begins now.
    fn first_frame(&self) -> u64 {
        self.unsynced
            .first()
            .map_or(self.next.frame, |chunk| chunk.number)
    }

    /// Removes a file that got no frame that anybody waits for.
    fn discard(&self, number: u64) {
        replay::remove(&*self.fs, &self.dir.join(self.id(number).name()));
    }

    /// Begins a file. Its header and name are on the disk before a frame is
    /// written, so that a file with frames has a header. If that fails there is
    /// none.
    fn begin(&mut self, number: u64) -> io::Result<()> {
        self.file = None;
        let first = self.first_frame();
        let header = FileHeader {
            id: self.id(number),
            first,
            given_up: self.next.given_up.unwrap_or(first).min(first),
            previous: self.next.previous,
        };
        let mut file = self.fs.create(&self.dir.join(header.id.name()))?;
        let outcome = file
            .append(&header.encode())
            .and_then(|()| file.sync())
            .and_then(|()| self.fs.sync_dir(&self.dir));
        if let Err(error) = outcome {
            self.progress.sealed += 1;
            drop(file);
            self.discard(number);
            return Err(error);
        }
        self.next.given_up = None;
        self.next.previous = number;
        self.file = Some(Current {
            file,
            number,
            length: FILE_HEADER as u64,
        });
        Ok(())
    }

    /// Writes the frame of an unsynced chunk into the file.
    fn write(&mut self, at: usize) -> io::Result<()> {
        let (stream, current) = (self.stream, self.file.as_mut());
        let current = current.ok_or_else(|| io::Error::other("the log has no file"))?;
        let chunk = &mut self.unsynced[at];
        let number = current.number;
        format::seal(
            &mut chunk.bytes,
            FileId { stream, number },
            chunk.number,
            chunk.rotation,
        );
        current.file.append(&chunk.bytes)?;
        current.length += chunk.bytes.len() as u64;
        self.progress.written += chunk.bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let current = self.file.as_mut();
        let current = current.ok_or_else(|| io::Error::other("the log has no file"))?;
        let began = Instant::now();
        current.file.sync()?;
        self.progress.syncs.add(began.elapsed());
        if let Some(last) = self.unsynced.last() {
            self.progress.durable = last.upto;
        }
        self.progress.done.append(&mut self.unsynced);
        Ok(())
    }

    fn id(&self, number: u64) -> FileId {
        FileId {
            stream: self.stream,
            number,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fs::RealFs;
    use crate::log::replay::replay;

    const START: Start = Start {
        frame: 1,
        given_up: None,
        previous: 0,
    };

    fn chunk(upto: u64, rotation: u64) -> Chunk {
        let mut bytes = vec![0; FRAME_HEADER];
        bytes.resize(FRAME_HEADER + 100, upto.to_le_bytes()[0]);
        Chunk {
            bytes,
            upto,
            rotation,
            since: Instant::now(),
            number: 0,
        }
    }

    /// Files by number, and how many frames are replayed from one on.
    fn look(dir: &Path, first: u64) -> (Vec<String>, u64) {
        let names = RealFs.list(dir).expect("it was made");
        let mut names: Vec<_> = names.into_iter().map(|(name, _)| name).collect();
        names.sort();
        let found = replay(&RealFs, dir, 'm', first, &mut drop).expect("it was written");
        assert!(found.replay.damaged.is_empty(), "{:?}", found.replay);
        (names, found.replay.frames)
    }

    #[test]
    fn a_file_that_is_long_enough_is_followed_by_the_next() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut writer = Writer::new(Arc::new(RealFs), dir.path().to_path_buf(), 'm', START);
        writer.max_file = 300; // a header and two frames
        writer.begin_first(1).expect("a file");
        let mut last = 1;
        let mut numbers = || {
            last += 1;
            last
        };
        let chunks = (1..=5).map(|upto| chunk(upto, 1)).collect();
        writer.store(chunks, true, &mut numbers).expect("a disk");
        assert_eq!(writer.progress().durable, 5);
        // the next rotation was given 9 meanwhile
        let chunks = (6..=7).map(|upto| chunk(upto, 9)).collect();
        writer.store(chunks, true, &mut numbers).expect("a disk");
        let expected = [
            "m-00000001.wal",
            "m-00000002.wal",
            "m-00000003.wal",
            "m-00000009.wal",
        ];
        assert_eq!(
            look(dir.path(), 0),
            (expected.map(str::to_owned).to_vec(), 7)
        );
        assert_eq!(look(dir.path(), 9).1, 2);
    }
}
