//! The file: how it comes into being, is opened and opened again, and the
//! ballast beside it.
//!
//! Everything that touches redb goes through [`Disk`], where a panic in redb
//! (damaged pages make it panic) becomes a [`Fault`].

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::Bound;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use redb::backends::FileBackend;
use redb::{
    BackendError, Database, Durability, ReadTransaction, ReadableDatabase, StorageBackend,
    WriteTransaction,
};

use crate::error::{Fault, OpenError};
use crate::tables;

/// Bytes of pages that redb keeps in memory, read and written ones together:
/// what one commit touches, and the upper parts of the trees. Without it redb
/// would fill 1 GiB as the store grows. A long look at history reads each page
/// once, so more of them in memory would not make it faster, and the kernel
/// keeps the file's pages besides, in memory that it can take back.
pub(crate) const CACHE_BYTES: usize = 16 << 20;

/// Only the daemon's user reads the store: it holds secrets.
pub(crate) const MODE: u32 = 0o600;

/// What the store lies on. Tests put a disk there that fails on purpose.
pub(crate) trait Medium: Send + Sync + 'static {
    /// Access to the bytes.
    fn backend(&self) -> Result<Box<dyn StorageBackend>, Fault>;
    /// What they take.
    fn bytes(&self) -> u64;
    /// How far they reach.
    fn length(&self) -> u64;
    /// What copies them.
    fn copier(&self) -> Box<dyn Copier>;
}

/// Copies the bytes of a [`Medium`] as they are, before anything is written.
pub(crate) trait Copier {
    /// What a copy takes.
    fn bytes(&self) -> u64;
    /// Puts a copy beside it, named like it with `suffix` behind: on the disk
    /// when this returns, whole or not at all, in the place of an older one.
    fn copy(&self, suffix: &str) -> io::Result<()>;
}

/// A file.
pub(crate) struct FileMedium {
    pub(crate) path: PathBuf,
}

impl Medium for FileMedium {
    fn backend(&self) -> Result<Box<dyn StorageBackend>, Fault> {
        let file = OpenOptions::new().read(true).write(true).open(&self.path);
        let file = file.map_err(redb::StorageError::Io)?;
        Ok(Box::new(FileBackend::new(file)?))
    }

    fn bytes(&self) -> u64 {
        // blocks are 512 bytes, whatever the file system's are
        std::fs::metadata(&self.path).map_or(0, |file| file.blocks() * 512)
    }

    fn length(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |file| file.len())
    }

    fn copier(&self) -> Box<dyn Copier> {
        Box::new(FileMedium {
            path: self.path.clone(),
        })
    }
}

impl Copier for FileMedium {
    fn bytes(&self) -> u64 {
        self.length()
    }

    fn copy(&self, suffix: &str) -> io::Result<()> {
        let copy = beside(&self.path, suffix);
        let part = beside(&self.path, &format!("{suffix}.part"));
        let mut into = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(MODE)
            .open(&part)?;
        io::copy(&mut File::open(&self.path)?, &mut into)?;
        into.sync_all()?;
        std::fs::rename(&part, &copy)?;
        sync_folder(&self.path)
    }
}

/// `path` with more behind its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// Makes what happened to names beside `path` survive a power cut.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// A database on a medium; absent while it is being opened again.
pub(crate) struct Disk {
    medium: Box<dyn Medium>,
    db: RwLock<Option<Database>>,
    /// A reader panicked in redb: its locks are poisoned, and the database has
    /// to be opened again for others to go on.
    doubtful: AtomicBool,
}

impl Disk {
    /// Opens the database, and lets `look` read (and migrate) it. Nothing is
    /// written to the medium before `look` is content.
    pub(crate) fn open<T>(
        medium: Box<dyn Medium>,
        look: impl FnOnce(&Database) -> Result<T, Fault>,
    ) -> Result<(Disk, T), Fault> {
        let (db, seen) = open_held(medium.as_ref(), look)?;
        let disk = Disk {
            medium,
            db: RwLock::new(Some(db)),
            doubtful: AtomicBool::new(false),
        };
        Ok((disk, seen))
    }

    /// Drops the database: the only way on after an I/O error, and what gives
    /// the file free.
    pub(crate) fn close(&self) {
        let db = self
            .db
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Err(fault) = caught(|| {
            drop(db);
            Ok(())
        }) {
            tracing::warn!(%fault, "the store did not close cleanly");
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.db
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// Opens the database again after [`Disk::close`]. A transaction that
    /// failed in its very last step may be on the disk after all, so `look`
    /// has to read again what is there.
    pub(crate) fn reopen<T>(
        &self,
        look: impl FnOnce(&Database) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let (db, seen) = open_held(self.medium.as_ref(), look)?;
        self.doubtful.store(false, Ordering::Release);
        *self.db.write().unwrap_or_else(PoisonError::into_inner) = Some(db);
        Ok(seen)
    }

    /// Whether the database has to be opened again because of a reader.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.doubtful.load(Ordering::Acquire)
    }

    /// Reads; see [`Disk::is_doubtful`].
    pub(crate) fn read<T>(&self, work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        caught(work).inspect_err(|fault| {
            let poisoned = matches!(fault, Fault::Redb(redb::Error::LockPoisoned(_)));
            if poisoned || matches!(fault, Fault::Panic(_)) {
                self.doubtful.store(true, Ordering::Release);
            }
        })
    }

    /// A consistent state to read from.
    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, Fault> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = db.as_ref().ok_or(redb::StorageError::DatabaseClosed)?;
        Ok(db.begin_read()?)
    }

    /// Writes in one transaction, which is on the disk when this returns `Ok`,
    /// and not at all otherwise.
    pub(crate) fn write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let done = self.write_if(|txn| work(txn).map(Some))?;
        Ok(done.expect("it was just given"))
    }

    /// Like [`Disk::write`]; nothing is written where `work` gives nothing.
    pub(crate) fn write_if<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<Option<T>, Fault>,
    ) -> Result<Option<T>, Fault> {
        caught(|| {
            let txn = {
                let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
                let db = db.as_ref().ok_or(redb::StorageError::DatabaseClosed)?;
                begin_write(db)?
            };
            let done = work(&txn)?;
            match done.is_some() {
                true => txn.commit()?,
                false => txn.abort()?,
            }
            Ok(done)
        })
    }

    /// Gives free pages back to the file system, if there are many. To be
    /// called while nobody uses the database.
    pub(crate) fn compact(&self) {
        let compacted = caught(|| {
            let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
            match db.as_mut() {
                Some(db) if has_much_free(db, self.length())? => Ok(db.compact()?),
                _ => Ok(false),
            }
        });
        let fault = match compacted {
            Ok(done) => {
                if done {
                    tracing::info!(bytes = self.bytes(), "the store was compacted");
                }
                return;
            }
            Err(fault) => fault,
        };
        tracing::warn!(%fault, "the store could not be compacted: it only takes more room");
        self.close();
        if let Err(fault) = self.reopen(|_| Ok(())) {
            tracing::error!(%fault, "the store could not be opened again");
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.medium.bytes()
    }

    /// The length of the file, which grows when there is no free page.
    pub(crate) fn length(&self) -> u64 {
        self.medium.length()
    }
}

/// Whether more than half of the file is free pages, and it is worth the time.
fn has_much_free(db: &Database, length: u64) -> Result<bool, Fault> {
    const WORTH: u64 = 16 << 20;
    if length < WORTH {
        return Ok(false);
    }
    // pages are free for others after a transaction or two
    for beat in 0..2 {
        let txn = begin_write(db)?;
        tables::COUNTER.put(&txn, tables::HEARTBEAT, &beat)?;
        txn.commit()?;
    }
    let txn = begin_write(db)?;
    let stats = txn.stats()?;
    txn.abort()?;
    let used = stats.allocated_pages() * stats.page_size() as u64;
    Ok(used < length / 2)
}

/// A transaction that survives a power cut once committed, and leaves a file
/// that opens in milliseconds after a crash, however large it is.
pub(crate) fn begin_write(db: &Database) -> Result<WriteTransaction, Fault> {
    let mut txn = db.begin_write()?;
    txn.set_durability(Durability::Immediate)
        .expect("no savepoint was made in this transaction");
    txn.set_quick_repair(true);
    Ok(txn)
}

/// Does `work`; a panic in it becomes a fault.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Fault::Panic(text.unwrap_or("without a message").to_owned()))
    })
}

fn open_held<T>(
    medium: &dyn Medium,
    look: impl FnOnce(&Database) -> Result<T, Fault>,
) -> Result<(Database, T), Fault> {
    caught(|| {
        let inner = medium.backend()?;
        if inner.len().map_err(redb::StorageError::Io)? == 0 {
            return Err(Fault::Damage("the file is empty".to_owned()));
        }
        let held = Held::new(inner);
        let db = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(held.clone())?;
        let seen = look(&db)?;
        held.release().map_err(redb::StorageError::Io)?;
        Ok((db, seen))
    })
}

/// A medium whose writes are kept in memory until [`Held::release`]: opening a
/// database writes to it, and a damaged or newer file must stay as it is.
#[derive(Clone)]
struct Held(Arc<HeldInner>);

struct HeldInner {
    medium: Box<dyn StorageBackend>,
    state: RwLock<State>,
}

enum State {
    Held(Mutex<Kept>),
    Released,
    /// Not all that was kept could be written: what would come now does not
    /// fit what is there.
    Failed,
}

/// What was written since the opening, in order, and how it reads.
struct Kept {
    len: u64,
    pages: BTreeMap<u64, Vec<u8>>,
    log: Vec<Written>,
}

enum Written {
    Bytes(u64, Vec<u8>),
    Len(u64),
    Sync,
}

const PAGE: u64 = 4_096;

impl Held {
    fn new(medium: Box<dyn StorageBackend>) -> Held {
        let kept = Kept {
            len: medium.len().unwrap_or(0),
            pages: BTreeMap::new(),
            log: Vec::new(),
        };
        Held(Arc::new(HeldInner {
            medium,
            state: RwLock::new(State::Held(Mutex::new(kept))),
        }))
    }

    /// Writes to the medium what was kept, in the same order and with the same
    /// syncs (redb's safety rests on them), and all further writes at once.
    fn release(&self) -> io::Result<()> {
        let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
        let State::Held(kept) = std::mem::replace(&mut *state, State::Failed) else {
            return Ok(());
        };
        let log = kept
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .log;
        for written in log {
            match written {
                Written::Bytes(offset, bytes) => self.0.medium.write(offset, &bytes)?,
                Written::Len(len) => self.0.medium.set_len(len)?,
                Written::Sync => self.0.medium.sync_data()?,
            }
        }
        *state = State::Released;
        Ok(())
    }

    /// Does `held` with what is kept, or `direct` with the medium.
    fn either<T>(
        &self,
        held: impl FnOnce(&mut Kept, &dyn StorageBackend) -> io::Result<T>,
        direct: impl FnOnce(&dyn StorageBackend) -> io::Result<T>,
    ) -> io::Result<T> {
        let state = self.0.state.read().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Released => {
                drop(state);
                direct(self.0.medium.as_ref())
            }
            State::Held(kept) => {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                held(&mut kept, self.0.medium.as_ref())
            }
            State::Failed => Err(io::Error::other("the store could not be opened")),
        }
    }
}

impl Kept {
    /// The page at `start` as it reads now.
    fn page(&mut self, start: u64, medium: &dyn StorageBackend) -> io::Result<&mut Vec<u8>> {
        use std::collections::btree_map::Entry;
        match self.pages.entry(start) {
            Entry::Occupied(page) => Ok(page.into_mut()),
            Entry::Vacant(place) => Ok(place.insert(medium_page(start, medium)?)),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8], medium: &dyn StorageBackend) -> io::Result<()> {
        if offset + out.len() as u64 > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (start, within, part) in parts(offset, out.len()) {
            let part = &mut out[part];
            match self.pages.get(&start) {
                Some(page) => part.copy_from_slice(&page[within..within + part.len()]),
                None => {
                    let page = medium_page(start, medium)?;
                    part.copy_from_slice(&page[within..within + part.len()]);
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8], medium: &dyn StorageBackend) -> io::Result<()> {
        self.len = self.len.max(offset + data.len() as u64);
        for (start, within, part) in parts(offset, data.len()) {
            let part = &data[part];
            self.page(start, medium)?[within..within + part.len()].copy_from_slice(part);
        }
        self.log.push(Written::Bytes(offset, data.to_vec()));
        Ok(())
    }

    fn set_len(&mut self, len: u64, medium: &dyn StorageBackend) -> io::Result<()> {
        if len < self.len {
            let start = len - len % PAGE;
            let within = usize::try_from(len % PAGE).expect("less than a page");
            self.page(start, medium)?[within..].fill(0);
            let behind: Vec<u64> = self.pages.range(start + 1..).map(|(at, _)| *at).collect();
            for at in behind {
                self.pages.insert(at, empty_page());
            }
        }
        self.len = len;
        self.log.push(Written::Len(len));
        Ok(())
    }
}

fn empty_page() -> Vec<u8> {
    vec![0; usize::try_from(PAGE).expect("a page is small")]
}

/// A page of the medium, with zeros behind its end.
fn medium_page(start: u64, medium: &dyn StorageBackend) -> io::Result<Vec<u8>> {
    let mut page = empty_page();
    let there = medium.len()?.saturating_sub(start).min(PAGE);
    let there = usize::try_from(there).expect("at most a page");
    if there > 0 {
        medium.read(start, &mut page[..there])?;
    }
    Ok(page)
}

/// The pages that `length` bytes from `offset` on touch: where each begins,
/// the first byte in it, and the part of the bytes.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= length {
            return None;
        }
        let at = offset + done as u64;
        let within = usize::try_from(at % PAGE).expect("less than a page");
        let page = usize::try_from(PAGE).expect("a page is small");
        let count = (page - within).min(length - done);
        let part = done..done + count;
        done += count;
        Some((at - at % PAGE, within, part))
    })
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

impl StorageBackend for Held {
    fn len(&self) -> io::Result<u64> {
        self.either(|kept, _| Ok(kept.len), |medium| medium.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let cell = std::cell::RefCell::new(out);
        self.either(
            |kept, medium| kept.read(offset, &mut cell.borrow_mut(), medium),
            |medium| medium.read(offset, &mut cell.borrow_mut()),
        )
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.either(
            |kept, medium| kept.set_len(len, medium),
            |medium| medium.set_len(len),
        )
    }

    fn sync_data(&self) -> io::Result<()> {
        self.either(
            |kept, _| {
                kept.log.push(Written::Sync);
                Ok(())
            },
            |medium| medium.sync_data(),
        )
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.either(
            |kept, medium| kept.write(offset, data, medium),
            |medium| medium.write(offset, data),
        )
    }

    fn close(&self) -> io::Result<()> {
        self.0.medium.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.medium.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.0.medium.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.medium.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.medium.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.medium.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.medium.query_lock_range(start, end)
    }
}

/// Puts an empty store at `path`, whole or not at all: it is made in memory,
/// written under another name, synced and renamed. Does nothing if there is
/// one.
pub(crate) fn create_if_absent(path: &Path) -> Result<(), OpenError> {
    let io_error = |doing: &'static str| {
        move |source| OpenError::Io {
            path: path.to_owned(),
            doing,
            source,
        }
    };
    if path.try_exists().map_err(io_error("look for the store"))? {
        return Ok(());
    }
    let image = crate::migrate::empty_image().map_err(|fault| OpenError::Corrupt {
        path: path.to_owned(),
        what: fault.to_string(),
    })?;
    let temporary = beside(path, &format!(".new-{}", std::process::id()));
    write_synced(&temporary, &image).map_err(io_error("create the store"))?;
    // a link, unlike a rename, never replaces a store that came meanwhile
    let linked = match std::fs::hard_link(&temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    let removed = std::fs::remove_file(&temporary);
    linked.and(removed).map_err(io_error("create the store"))?;
    sync_folder(path).map_err(io_error("sync the folder of"))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(MODE)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Moves a directory beside the store away where there is no store that it could
/// belong to: a new one would take samples in its log for its own, and remove
/// the others, and packages. Does nothing if there is a store, or no such
/// directory.
pub(crate) fn set_aside(store: &Path, folder: &Path) -> Result<(), OpenError> {
    let io_error = |doing: &'static str| {
        move |source| OpenError::Io {
            path: folder.to_owned(),
            doing,
            source,
        }
    };
    let is_there = |path: &Path| path.try_exists().map_err(io_error("look for"));
    if is_there(store)? || !is_there(folder)? {
        return Ok(());
    }
    let mut names = (1..).map(|n| beside(folder, &format!(".aside-{n}")));
    let aside = loop {
        let name = names.next().expect("there are more numbers than files");
        if !is_there(&name)? {
            break name;
        }
    };
    std::fs::rename(folder, &aside).map_err(io_error("set aside"))?;
    sync_folder(folder).map_err(io_error("sync the folder of"))?;
    let aside = aside.display();
    tracing::warn!(%aside, "what belonged to a store that is gone was set aside");
    Ok(())
}

/// A file that only takes room: given up when the disk is full, so that there
/// is some for alerts and for the inventory.
pub(crate) struct Ballast {
    path: PathBuf,
    bytes: u64,
}

impl Ballast {
    pub(crate) fn new(store: &Path, bytes: u64) -> Ballast {
        Ballast {
            path: beside(store, ".ballast"),
            bytes,
        }
    }

    /// Takes the room, if it is not taken. Without enough of it, nothing is
    /// taken.
    pub(crate) fn restore(&self) -> io::Result<()> {
        let there = std::fs::metadata(&self.path).map_or(0, |file| file.blocks() * 512);
        if self.bytes == 0 || there >= self.bytes {
            return Ok(());
        }
        let made = self.make();
        if made.is_err() {
            self.release();
        }
        made
    }

    fn make(&self) -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .open(&self.path)?;
        let length = i64::try_from(self.bytes).unwrap_or(i64::MAX);
        nix::fcntl::posix_fallocate(&file, 0, length)?;
        file.set_len(self.bytes)
    }

    /// Gives the room free; whether there was some.
    pub(crate) fn release(&self) -> bool {
        std::fs::remove_file(&self.path).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{COUNTER, SCHEMA, SCHEMA_KEY};

    fn medium(folder: &Path) -> FileMedium {
        let path = folder.join("sotp.redb");
        create_if_absent(&path).unwrap();
        FileMedium { path }
    }

    #[test]
    fn a_reader_in_mid_read_does_not_keep_the_file_from_being_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, ()) = Disk::open(Box::new(medium(folder.path())), |_| Ok(())).unwrap();
        let reading = disk.begin_read().unwrap();
        disk.close();
        assert!(disk.begin_read().is_err());
        disk.reopen(|_| Ok(())).unwrap();
        let late = caught(|| COUNTER.get(&reading, SCHEMA_KEY));
        assert!(late.is_err() || late.is_ok_and(|schema| schema == Some(u64::from(SCHEMA))));
        let reading = disk.begin_read().unwrap();
        assert_eq!(
            COUNTER.get(&reading, SCHEMA_KEY).unwrap(),
            Some(u64::from(SCHEMA))
        );
    }

    #[test]
    fn nothing_is_written_before_the_look_is_content() {
        let folder = tempfile::tempdir().unwrap();
        let medium = medium(folder.path());
        let path = medium.path.clone();
        let before = std::fs::read(&path).unwrap();
        let refused = Disk::open(Box::new(medium), |db| {
            let txn = begin_write(db)?;
            COUNTER.put(&txn, "x", &7)?;
            txn.commit()?;
            let txn = db.begin_read()?;
            assert_eq!(COUNTER.get(&txn, "x")?, Some(7), "it reads as if written");
            Err::<(), _>(Fault::Damage("not content".to_owned()))
        });
        assert!(refused.is_err());
        assert!(std::fs::read(&path).unwrap() == before);
    }

    #[test]
    fn a_file_that_is_there_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sotp.redb");
        std::fs::write(&path, b"mine").unwrap();
        create_if_absent(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        let nowhere = folder.path().join("missing/sotp.redb");
        let error = create_if_absent(&nowhere).unwrap_err().to_string();
        assert!(error.starts_with("cannot create the store"), "{error}");
    }

    #[test]
    fn bytes_are_found_in_the_pages_that_they_touch() {
        let touched: Vec<_> = parts(4_000, 5_000).collect();
        assert_eq!(
            touched,
            [
                (0, 4_000, 0..96),
                (4_096, 0, 96..4_192),
                (8_192, 0, 4_192..5_000)
            ]
        );
        assert_eq!(parts(7, 0).count(), 0);
    }
}
