//! A disk that fails on purpose: it loses, reorders and tears what was not
//! synced when the power goes, runs full, and gives I/O errors.
//!
//! The store's file is on one part of it and the samples are on the other; the
//! power goes for both at the same moment.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use ::samples::fs::Fs;
use redb::StorageBackend;
use wal::fs::sim::SimFs;

use crate::disk::{Copier, Medium};
use crate::error::Fault;

/// xorshift64: the same numbers from the same seed, everywhere.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap()
    }
}

#[derive(Debug)]
enum Pending {
    Bytes(usize, Vec<u8>),
    Len(usize),
}

struct Inner {
    /// What a power cut leaves for certain.
    durable: Vec<u8>,
    /// What reads see.
    view: Vec<u8>,
    pending: Vec<Pending>,
    /// Writes until the power goes.
    crash_in: Option<u64>,
    dead: bool,
    /// Syncs do nothing: proof that the checker can fail.
    forgetful: bool,
    /// Writes until one fails, once.
    fail_in: Option<u64>,
    /// What every write gets.
    fails_with: Option<io::ErrorKind>,
    /// The other part of the disk.
    fs: SimFs,
}

/// See the module. Clones are the same disk.
#[derive(Clone)]
pub(super) struct SimDisk {
    inner: Arc<Mutex<Inner>>,
    /// Where the samples are.
    pub(super) fs: SimFs,
}

impl SimDisk {
    /// A disk with an image of the file on it, and no samples.
    pub(super) fn new(image: Vec<u8>) -> SimDisk {
        SimDisk::with(image, SimFs::default())
    }

    fn with(image: Vec<u8>, fs: SimFs) -> SimDisk {
        let inner = Inner {
            durable: image.clone(),
            view: image,
            pending: Vec::new(),
            crash_in: None,
            dead: false,
            forgetful: false,
            fail_in: None,
            fails_with: None,
            fs: fs.clone(),
        };
        SimDisk {
            inner: Arc::new(Mutex::new(inner)),
            fs,
        }
    }

    /// A copy of it with another image of the file.
    pub(super) fn with_image(&self, image: Vec<u8>) -> SimDisk {
        SimDisk::with(image, self.fs.after_kill())
    }

    /// A copy of it as it reads now, on a disk that works.
    pub(super) fn copied(&self) -> SimDisk {
        self.with_image(self.image())
    }

    /// As a store wants it.
    pub(super) fn parts(&self) -> (Box<dyn Medium>, Arc<dyn Fs>) {
        (Box::new(self.clone()), Arc::new(self.fs.clone()))
    }

    pub(super) fn with_empty_store() -> SimDisk {
        SimDisk::new(crate::migrate::empty_image().unwrap())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Lets the power go after so many writes to the file.
    pub(super) fn crash_in(&self, writes: u64) {
        self.lock().crash_in = Some(writes);
    }

    pub(super) fn forget_syncs(&self) {
        self.lock().forgetful = true;
        self.fs.forget_syncs();
    }

    /// Lets the `writes`-th write or sync from now on fail, and none after it.
    pub(super) fn fail_once_in(&self, writes: u64) {
        self.lock().fail_in = Some(writes);
    }

    /// What every write gets, to the file and of samples.
    pub(super) fn fail_with(&self, kind: Option<io::ErrorKind>) {
        self.lock().fails_with = kind;
        self.fs.fail_with(kind);
    }

    /// What reads see.
    pub(super) fn image(&self) -> Vec<u8> {
        self.lock().view.clone()
    }

    pub(super) fn is_dead(&self) -> bool {
        self.lock().dead || self.fs.is_dead()
    }

    /// The disk after a power cut.
    pub(super) fn after_power_cut(&self, dice: &mut Dice) -> SimDisk {
        let image = self.image_after_power_cut(dice);
        let fs = self.fs.after_power_cut(dice.below(usize::MAX) as u64);
        SimDisk::with(image, fs)
    }

    /// What is on the platter after a power cut: everything synced, and of the
    /// rest whatever chance kept, in sectors of 512 bytes. Lengths are the file
    /// system's and stay in order.
    fn image_after_power_cut(&self, dice: &mut Dice) -> Vec<u8> {
        let inner = self.lock();
        let mode = dice.below(4);
        let lens = inner.pending.iter().filter_map(|pending| match pending {
            Pending::Len(len) => Some(*len),
            Pending::Bytes(..) => None,
        });
        let lens: Vec<usize> = lens.collect();
        let kept = if mode == 0 {
            lens.len()
        } else {
            dice.below(lens.len() + 1)
        };
        let len = lens[..kept].last().copied().unwrap_or(inner.durable.len());

        let writes = inner.pending.iter().filter_map(|pending| match pending {
            Pending::Bytes(at, bytes) => Some((*at, bytes)),
            Pending::Len(_) => None,
        });
        let mut writes: Vec<(usize, &Vec<u8>)> = writes.collect();
        match mode {
            0 => {}
            1 => writes.truncate(dice.below(writes.len() + 1)),
            2 => writes.retain(|_| dice.below(2) == 0),
            _ => {
                for place in (1..writes.len()).rev() {
                    writes.swap(place, dice.below(place + 1));
                }
                writes.retain(|_| dice.below(3) != 0);
            }
        }
        let mut image = inner.durable.clone();
        image.resize(len.max(image.len()), 0);
        for (at, bytes) in writes {
            for (sector, part) in bytes.chunks(512).enumerate() {
                let at = at + sector * 512;
                let torn = mode != 0 && dice.below(10) == 0;
                if !torn && at + part.len() <= image.len() {
                    image[at..at + part.len()].copy_from_slice(part);
                }
            }
        }
        image.truncate(len);
        image.resize(len, 0);
        image
    }
}

impl Inner {
    fn tick(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.crash_in {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.dead = true;
                self.fs.crash_in(1);
            }
        }
        if self.dead || self.fs.is_dead() {
            self.dead = true;
            return Err(io::Error::other("the power is gone"));
        }
        if let Some(left) = &mut self.fail_in {
            *left -= 1;
            if *left == 0 {
                self.fail_in = None;
                return Err(io::Error::other("this write failed"));
            }
        }
        match self.fails_with {
            Some(kind) => Err(kind.into()),
            None => Ok(()),
        }
    }
}

impl Medium for SimDisk {
    fn backend(&self) -> Result<Box<dyn StorageBackend>, Fault> {
        Ok(Box::new(self.clone()))
    }

    fn bytes(&self) -> u64 {
        self.lock().view.len() as u64
    }

    fn length(&self) -> u64 {
        Medium::bytes(self)
    }

    fn copier(&self) -> Box<dyn Copier> {
        Box::new(self.clone())
    }
}

impl Copier for SimDisk {
    fn bytes(&self) -> u64 {
        self.lock().view.len() as u64
    }

    fn copy(&self, _suffix: &str) -> io::Result<()> {
        self.lock().tick()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimDisk")
    }
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

impl StorageBackend for SimDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().view.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.lock();
        let from = at(offset);
        let there = inner.view.get(from..from + out.len());
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.lock();
        inner.tick()?;
        inner.view.resize(at(len), 0);
        inner.pending.push(Pending::Len(at(len)));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.lock();
        inner.tick()?;
        if inner.forgetful {
            return Ok(());
        }
        for pending in std::mem::take(&mut inner.pending) {
            match pending {
                Pending::Len(len) => inner.durable.resize(len, 0),
                Pending::Bytes(at, bytes) => {
                    let end = at + bytes.len();
                    if inner.durable.len() < end {
                        inner.durable.resize(end, 0);
                    }
                    inner.durable[at..end].copy_from_slice(&bytes);
                }
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.lock();
        inner.tick()?;
        let from = at(offset);
        if inner.view.len() < from + data.len() {
            inner.view.resize(from + data.len(), 0);
        }
        inner.view[from..from + data.len()].copy_from_slice(data);
        inner.pending.push(Pending::Bytes(from, data.to_vec()));
        Ok(())
    }
}
