//! The disk behind [`super::SimFs`]: files, names, and what of both would
//! survive.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::Space;
use super::chance::{self, Chance};

/// What a disk without a limit says of itself.
const ENDLESS: u64 = 1 << 42;

/// What it does wrong.
#[derive(Clone, Debug, Default)]
struct Faults {
    crash_at: Option<u64>,
    fail_at: Option<(u64, ErrorKind)>,
    fail: Option<ErrorKind>,
    capacity: Option<u64>,
    forget_syncs: bool,
    dead: bool,
}

/// Files, names and faults.
#[derive(Debug, Default)]
pub(super) struct Disk {
    files: BTreeMap<u64, Inode>,
    directories: BTreeMap<PathBuf, Directory>,
    operations: u64,
    faults: Faults,
}

/// A file, whatever its names.
#[derive(Debug, Default)]
struct Inode {
    content: Content,
    handles: usize,
}

/// What a file holds and how much of that is sure.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    /// In order, not touching each other's bytes.
    pub(super) doubts: Vec<Doubt>,
}

/// Bytes that a power cut may take.
#[derive(Clone, Debug)]
pub(super) struct Doubt {
    pub(super) from: usize,
    pub(super) to: usize,
    /// A sync failed over them: no other makes them sure.
    for_good: bool,
}

impl Content {
    /// Where the last byte that is sure ends.
    pub(super) fn last_sure_end(&self) -> usize {
        let mut end = self.bytes.len();
        for doubt in self.doubts.iter().rev() {
            if doubt.to < end {
                break;
            }
            end = doubt.from;
        }
        end
    }

    fn append(&mut self, bytes: &[u8]) {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        if !bytes.is_empty() {
            self.doubts.push(Doubt {
                from,
                to: self.bytes.len(),
                for_good: false,
            });
        }
    }
}

/// Names as they are, and what of them is sure.
#[derive(Clone, Debug, Default)]
struct Directory {
    names: BTreeMap<String, u64>,
    sure: BTreeMap<String, u64>,
    pending: Vec<NameChange>,
}

/// What was done to names of one directory.
#[derive(Clone, Debug)]
struct NameChange {
    /// The operation that did it; two directories may share one.
    operation: u64,
    gone: Option<String>,
    new: Option<(String, u64)>,
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        if let Some(name) = &self.gone {
            names.remove(name);
        }
        if let Some((name, inode)) = &self.new {
            names.insert(name.clone(), *inode);
        }
    }
}

impl Directory {
    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }
}

/// Faults.
impl Disk {
    pub(super) fn crash_in(&mut self, operations: u64) {
        self.faults.crash_at = Some(self.operations + operations);
    }

    pub(super) fn fail_once_in(&mut self, operations: u64, kind: ErrorKind) {
        self.faults.fail_at = Some((self.operations + operations, kind));
    }

    pub(super) fn fail_with(&mut self, kind: Option<ErrorKind>) {
        self.faults.fail = kind;
    }

    pub(super) fn set_capacity(&mut self, bytes: Option<u64>) {
        self.faults.capacity = bytes;
    }

    pub(super) fn forget_syncs(&mut self) {
        self.faults.forget_syncs = true;
    }

    pub(super) fn is_dead(&self) -> bool {
        self.faults.dead
    }

    pub(super) fn operations(&self) -> u64 {
        self.operations
    }

    /// Counts an operation that changes something, and says whether it fails.
    fn operate(&mut self) -> io::Result<()> {
        self.alive()?;
        self.operations += 1;
        if self.faults.crash_at.is_some_and(|at| self.operations >= at) {
            self.faults.dead = true;
        }
        self.alive()?;
        match self.faults.fail_at {
            Some((at, kind)) if self.operations >= at => {
                self.faults.fail_at = None;
                Err(kind.into())
            }
            _ => Ok(()),
        }
    }

    /// As [`Disk::operate`], for what writes.
    fn operate_writing(&mut self) -> io::Result<()> {
        self.operate()?;
        self.faults.fail.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn alive(&self) -> io::Result<()> {
        if self.faults.dead {
            return Err(io::Error::other("the power is gone"));
        }
        Ok(())
    }
}

/// Names.
impl Disk {
    pub(super) fn create(&mut self, path: &Path) -> io::Result<u64> {
        self.operate_writing()?;
        if self.find(path).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let inode = self.operations; // no other has it
        self.link(path, inode)?;
        let file = Inode {
            handles: 1,
            ..Inode::default()
        };
        self.files.insert(inode, file);
        Ok(inode)
    }

    pub(super) fn open(&mut self, path: &Path) -> io::Result<u64> {
        self.alive()?;
        let inode = self.find(path)?;
        self.file(inode)?.handles += 1;
        Ok(inode)
    }

    pub(super) fn close(&mut self, inode: u64) {
        if let Some(file) = self.files.get_mut(&inode) {
            file.handles -= 1;
        }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate()?;
        let inode = self.find(from)?;
        let (from_dir, from_name) = split(from)?;
        let (to_dir, to_name) = split(to)?;
        self.directory(&to_dir)?;
        if (&from_dir, &from_name) == (&to_dir, &to_name) {
            return Ok(());
        }
        let operation = self.operations;
        let mut arrives = NameChange {
            operation,
            gone: None,
            new: Some((to_name, inode)),
        };
        if from_dir == to_dir {
            arrives.gone = Some(from_name);
        } else {
            let leaves = NameChange {
                operation,
                gone: Some(from_name),
                new: None,
            };
            self.directory(&from_dir)?.change(leaves);
        }
        self.directory(&to_dir)?.change(arrives);
        Ok(())
    }

    pub(super) fn hard_link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate()?;
        let inode = self.find(from)?;
        if self.find(to).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.link(to, inode)
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.operate()?;
        self.find(path)?;
        let (dir, name) = split(path)?;
        let operation = self.operations;
        self.directory(&dir)?.change(NameChange {
            operation,
            gone: Some(name),
            new: None,
        });
        Ok(())
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        self.operate_writing()?;
        for dir in path.ancestors() {
            self.directories.entry(dir.to_path_buf()).or_default();
        }
        Ok(())
    }

    pub(super) fn list(&mut self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        self.alive()?;
        let names = self.directory(dir)?.names.clone();
        let length = |inode| {
            self.files
                .get(&inode)
                .map_or(0, |file| file.content.bytes.len())
        };
        Ok(names
            .into_iter()
            .map(|(name, inode)| (name, length(inode) as u64))
            .collect())
    }

    pub(super) fn names(&self, dir: &Path) -> Vec<String> {
        self.directories
            .get(dir)
            .map(|directory| directory.names.keys().cloned().collect())
            .unwrap_or_default()
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.operate_writing()?;
        let forget = self.faults.forget_syncs;
        let directory = self.directory(dir)?;
        if !forget {
            for change in std::mem::take(&mut directory.pending) {
                change.apply(&mut directory.sure);
            }
            self.forget_unreachable();
        }
        Ok(())
    }

    fn link(&mut self, path: &Path, inode: u64) -> io::Result<()> {
        let (dir, name) = split(path)?;
        let operation = self.operations;
        self.directory(&dir)?.change(NameChange {
            operation,
            gone: None,
            new: Some((name, inode)),
        });
        Ok(())
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        let (dir, name) = split(path)?;
        self.directories
            .get(&dir)
            .and_then(|directory| directory.names.get(&name).copied())
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn directory(&mut self, dir: &Path) -> io::Result<&mut Directory> {
        self.directories
            .get_mut(dir)
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Frees the memory of files that nothing can bring back.
    fn forget_unreachable(&mut self) {
        let mut reachable: BTreeSet<u64> = BTreeSet::new();
        for directory in self.directories.values() {
            reachable.extend(directory.names.values());
            reachable.extend(directory.sure.values());
            let pending = directory
                .pending
                .iter()
                .filter_map(|change| change.new.as_ref());
            reachable.extend(pending.map(|(_, inode)| inode));
        }
        self.files
            .retain(|inode, file| file.handles > 0 || reachable.contains(inode));
    }
}

/// Bytes.
impl Disk {
    pub(super) fn append(&mut self, inode: u64, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.operate_writing() {
            // a part of it may have come through
            let part = Chance::new(self.operations).below(bytes.len() + 1);
            let part = part.min(self.room());
            self.file(inode)?.content.append(&bytes[..part]);
            return Err(error);
        }
        let fits = bytes.len().min(self.room());
        self.file(inode)?.content.append(&bytes[..fits]);
        if fits < bytes.len() {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    pub(super) fn read_at(&mut self, inode: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.alive()?;
        let bytes = &self.file(inode)?.content.bytes;
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let part = from
            .checked_add(out.len())
            .and_then(|to| bytes.get(from..to))
            .ok_or(ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(part);
        Ok(())
    }

    pub(super) fn length(&mut self, inode: u64) -> io::Result<u64> {
        self.alive()?;
        Ok(self.file(inode)?.content.bytes.len() as u64)
    }

    pub(super) fn sync(&mut self, inode: u64) -> io::Result<()> {
        let outcome = self.operate_writing();
        let forget = self.faults.forget_syncs;
        let doubts = &mut self.file(inode)?.content.doubts;
        match outcome {
            Ok(()) if forget => {}
            Ok(()) => doubts.retain(|doubt| doubt.for_good),
            Err(_) => doubts.iter_mut().for_each(|doubt| doubt.for_good = true),
        }
        outcome
    }

    pub(super) fn space(&self) -> io::Result<Space> {
        self.alive()?;
        let total = self.faults.capacity.unwrap_or(ENDLESS);
        Ok(Space {
            total,
            free: total.saturating_sub(self.used()),
        })
    }

    /// What a test looks at or spoils.
    pub(super) fn content(&mut self, path: &Path) -> &mut Vec<u8> {
        let inode = self
            .find(path)
            .expect("the test names a file that is there");
        &mut self.file(inode).expect("a name has a file").content.bytes
    }

    pub(super) fn truncate(&mut self, path: &Path, length: u64) {
        let length = usize::try_from(length).expect("a file in memory");
        let inode = self
            .find(path)
            .expect("the test names a file that is there");
        let content = &mut self.file(inode).expect("a name has a file").content;
        content.bytes.truncate(length);
        content.doubts.retain(|doubt| doubt.from < length);
        if let Some(last) = content.doubts.last_mut() {
            last.to = last.to.min(length);
        }
    }

    fn file(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.files
            .get_mut(&inode)
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn room(&self) -> usize {
        let free = match self.faults.capacity {
            Some(capacity) => capacity.saturating_sub(self.used()),
            None => ENDLESS,
        };
        usize::try_from(free).unwrap_or(usize::MAX)
    }

    /// Bytes of all files that have a name or are open.
    fn used(&self) -> u64 {
        let named: BTreeSet<u64> = self
            .directories
            .values()
            .flat_map(|directory| directory.names.values().copied())
            .collect();
        self.files
            .iter()
            .filter(|(inode, file)| file.handles > 0 || named.contains(inode))
            .map(|(_, file)| file.content.bytes.len() as u64)
            .sum()
    }
}

/// The end, and what comes after it.
impl Disk {
    pub(super) fn after_power_cut(&self, seed: u64) -> Disk {
        let mut chance = Chance::new(seed);
        let names = self.names_after_power_cut(&mut chance);
        self.reborn(names, |content| chance::cut(content, &mut chance))
    }

    pub(super) fn after_kill(&self) -> Disk {
        let mut disk = self.reborn(BTreeMap::new(), |_| Vec::new());
        disk.directories = self.directories.clone();
        disk.files = self
            .files
            .iter()
            .map(|(inode, file)| (*inode, closed(file.content.clone())))
            .collect();
        disk
    }

    fn names_after_power_cut(
        &self,
        chance: &mut Chance,
    ) -> BTreeMap<PathBuf, BTreeMap<String, u64>> {
        let pending = self.pending_operations();
        let kept = Kept::by(chance, &pending);
        self.directories
            .iter()
            .map(|(path, directory)| {
                let mut names = directory.sure.clone();
                let last = kept.last(chance, &pending);
                for change in &directory.pending {
                    if kept.keeps(change.operation, last) {
                        change.apply(&mut names);
                    }
                }
                (path.clone(), names)
            })
            .collect()
    }

    /// Operations on names that were not synced, in order.
    fn pending_operations(&self) -> Vec<u64> {
        let all: BTreeSet<u64> = self
            .directories
            .values()
            .flat_map(|directory| directory.pending.iter().map(|change| change.operation))
            .collect();
        all.into_iter().collect()
    }

    /// A new disk with these names, where all is sure.
    fn reborn(
        &self,
        names: BTreeMap<PathBuf, BTreeMap<String, u64>>,
        mut content: impl FnMut(&Content) -> Vec<u8>,
    ) -> Disk {
        let mut disk = Disk {
            operations: self.operations, // so that no file number comes twice
            ..Disk::default()
        };
        disk.faults.capacity = self.faults.capacity;
        let all: BTreeSet<u64> = names
            .values()
            .flat_map(|names| names.values().copied())
            .collect();
        for inode in all {
            let bytes = self.files.get(&inode).map(|file| content(&file.content));
            let sure = Content {
                bytes: bytes.unwrap_or_default(),
                doubts: Vec::new(),
            };
            disk.files.insert(inode, closed(sure));
        }
        for (path, names) in names {
            let directory = Directory {
                sure: names.clone(),
                names,
                pending: Vec::new(),
            };
            disk.directories.insert(path, directory);
        }
        disk
    }
}

fn closed(content: Content) -> Inode {
    Inode {
        content,
        handles: 0,
    }
}

/// Which operations on names that were not synced survived.
enum Kept {
    All,
    None,
    UpTo(u64),
    UpToInEach,
    Some(u64),
}

impl Kept {
    fn by(chance: &mut Chance, pending: &[u64]) -> Kept {
        match chance.below(5) {
            0 => Kept::All,
            1 => Kept::None,
            2 => Kept::UpTo(one_of(pending, chance)),
            3 => Kept::UpToInEach,
            _ => Kept::Some(chance.next()),
        }
    }

    /// The last operation that survived in the next directory.
    fn last(&self, chance: &mut Chance, pending: &[u64]) -> u64 {
        match self {
            Kept::All | Kept::Some(_) => u64::MAX,
            Kept::None => 0,
            Kept::UpTo(last) => *last,
            Kept::UpToInEach => one_of(pending, chance),
        }
    }

    fn keeps(&self, operation: u64, last: u64) -> bool {
        match self {
            Kept::Some(seed) => Chance::new(seed ^ operation.rotate_left(32)).coin(),
            Kept::All | Kept::None | Kept::UpTo(_) | Kept::UpToInEach => operation <= last,
        }
    }
}

fn one_of(operations: &[u64], chance: &mut Chance) -> u64 {
    let at = chance.below(operations.len());
    operations.get(at).copied().unwrap_or(0)
}

fn split(path: &Path) -> io::Result<(PathBuf, String)> {
    let dir = path.parent().ok_or(ErrorKind::InvalidInput)?;
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or(ErrorKind::InvalidInput)?;
    Ok((dir.to_path_buf(), name.to_owned()))
}
