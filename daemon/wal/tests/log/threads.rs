//! Many threads, and a disk whose syncs take as long as the test wants.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use wal::fs::sim::SimFs;
use wal::fs::{File, Fs, RealFs, Space};
use wal::{Lsn, WalOptions};

use crate::support::{append, ids, open, options, record, store, try_open};

/// Lets syncs pass or not, and counts who stands before it.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn shut(&self, shut: bool) {
        self.state.lock().unwrap().0 = shut;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        while state.0 {
            state = self.changed.wait(state).unwrap();
        }
        state.1 -= 1;
    }

    fn wait_for_somebody(&self) {
        let state = self.state.lock().unwrap();
        drop(
            self.changed
                .wait_while(state, |state| state.1 == 0)
                .unwrap(),
        );
    }
}

#[derive(Debug)]
struct GatedFs(SimFs, Arc<Gate>);

#[derive(Debug)]
struct GatedFile(Box<dyn File>, Arc<Gate>);

impl Fs for GatedFs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(GatedFile(self.0.create(path)?, self.1.clone())))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.0.open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.hard_link(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        self.0.list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }
    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.0.space(dir)
    }
}

impl File for GatedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.append(bytes)
    }
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, out)
    }
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }
    fn sync(&mut self) -> io::Result<()> {
        self.1.pass();
        self.0.sync()
    }
}

#[test]
fn while_one_sync_runs_appends_go_on_and_the_next_serves_them_all() {
    let gate = Arc::new(Gate::default());
    let fs = Arc::new(GatedFs(SimFs::default(), gate.clone()));
    let (wal, ..) = try_open(fs, options(), 0).unwrap();
    gate.shut(true);
    thread::scope(|scope| {
        scope.spawn(|| store(&wal, 0).unwrap());
        gate.wait_for_somebody();
        let places: Vec<Lsn> = (1..50).map(|id| append(&wal, id)).collect();
        for place in places {
            let wal = &wal;
            scope.spawn(move || wal.wait(place).unwrap());
        }
        gate.shut(false);
    });
    assert_eq!(wal.stats().syncs, 2);
}

#[test]
fn a_rotation_does_not_wait_for_a_sync() {
    let gate = Arc::new(Gate::default());
    let fs = Arc::new(GatedFs(SimFs::default(), gate.clone()));
    let (wal, ..) = try_open(fs, options(), 0).unwrap();
    gate.shut(true);
    thread::scope(|scope| {
        scope.spawn(|| store(&wal, 0).unwrap());
        gate.wait_for_somebody();
        let _ = wal.rotate();
        append(&wal, 1);
        let _ = wal.rotate();
        let last = append(&wal, 2);
        gate.shut(false);
        wal.wait(last).unwrap();
    });
}

#[test]
fn who_appends_faster_than_the_disk_waits() {
    let sim = SimFs::default();
    let gate = Arc::new(Gate::default());
    let fs = Arc::new(GatedFs(sim.clone(), gate.clone()));
    let small = WalOptions {
        max_pending: 10_000,
        ..options()
    };
    let most = 10_000 + record(0).len();
    let (wal, ..) = try_open(fs, small, 0).unwrap();
    gate.shut(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            for id in 0..500 {
                append(&wal, id);
                assert!(wal.stats().pending <= most);
            }
        });
        gate.wait_for_somebody();
        assert!(wal.stats().pending > 5_000);
        gate.shut(false);
    });
    drop(wal);
    let (_, _, found) = open(&sim.after_power_cut(1), 0);
    assert_eq!(found, (0..500).collect::<Vec<_>>());
}

#[test]
fn many_threads_store_on_a_real_disk_and_each_keeps_its_order() {
    const THREADS: u64 = 8;
    const EACH: u64 = 60;
    let temporary = tempfile::tempdir().unwrap();
    let real = || WalOptions {
        dir: temporary.path().to_path_buf(),
        write_every: Duration::from_millis(2),
        max_pending: 20_000,
        ..options()
    };
    let (wal, ..) = try_open(Arc::new(RealFs), real(), 0).unwrap();
    thread::scope(|scope| {
        for worker in 0..THREADS {
            let wal = &wal;
            scope.spawn(move || {
                for at in 0..EACH {
                    let place = append(wal, worker * 1000 + at);
                    if at % 7 == 0 {
                        wal.wait(place).unwrap();
                    }
                    if at % 20 == 0 {
                        let _ = wal.rotate();
                    }
                }
            });
        }
    });
    drop(wal);
    let mut found: Vec<u64> = Vec::new();
    let sink = &mut |frame: Vec<u8>| found.extend(ids(&frame).unwrap());
    let (_wal, replay) = wal::Wal::open(Arc::new(RealFs), real(), 0, sink).unwrap();
    assert!(
        replay.damaged.is_empty() && replay.torn_tail == 0,
        "{replay:?}"
    );
    for worker in 0..THREADS {
        let of_one = found.iter().filter(|id| **id / 1000 == worker);
        assert!(of_one.copied().eq((0..EACH).map(|at| worker * 1000 + at)));
    }
}
