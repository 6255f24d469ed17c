//! The program that is killed: appends step by step, and says before each which
//! it tries and after each which is on the disk.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::{Breaks, Check, DeviceId, GroupKey, Outcome, PollReport, Timestamp};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use store::Store;
use store::samples::{Append, Samples};

use crate::feed::{self, DEVICES, WIDTH};
use crate::scene::Scene;

/// The first word on the command line of such a start.
pub(crate) const WORD: &str = "writer";

/// How long the disk stays full, and how long it has room.
const PAUSE: Duration = Duration::from_millis(20);

/// Steps of one life: more than fit before any kill.
const STEPS: u64 = 1_000_000;

/// What the command line says.
struct Task {
    scene: Scene,
    folder: PathBuf,
    first: u64,
}

impl Task {
    fn read(words: &[String]) -> Option<Task> {
        let [scene, folder, first] = words else {
            return None;
        };
        Some(Task {
            scene: Scene::of_word(scene)?,
            folder: folder.into(),
            first: first.parse().ok()?,
        })
    }
}

/// Writes until it is killed.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let Some(task) = Task::read(words) else {
        return ExitCode::from(64);
    };
    // nobody is left to kill it if whoever started it is gone
    if set_pdeathsig(Signal::SIGKILL).is_err() {
        return ExitCode::FAILURE;
    }
    let now = feed::time(task.scene, task.first);
    let store = match Store::open(feed::options(&task.folder), now) {
        Ok(store) => store,
        Err(error) => {
            tell(&format!("error {error}"));
            return ExitCode::FAILURE;
        }
    };
    tell("open");
    let step = AtomicU64::new(task.first);
    std::thread::scope(|scope| {
        scope.spawn(|| beside(&task, &store, &step));
        append(&task, &store, &step);
    });
    ExitCode::SUCCESS
}

/// One line; a single write, so that it is whole or not there.
fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    // whoever reads may have gone: then nothing matters any more
    let _ = out.write_all(format!("{line}\n").as_bytes());
    let _ = out.flush();
}

fn append(task: &Task, store: &Store, step: &AtomicU64) {
    let columns = feed::columns();
    let breaks = Breaks::None;
    for number in task.first..task.first + STEPS {
        let at = feed::time(task.scene, number);
        let values: Vec<Vec<f64>> = (0..DEVICES)
            .map(|device| (0..WIDTH).map(|c| feed::value(device, c, number)).collect())
            .collect();
        let rows: Vec<Append<'_>> = (0..DEVICES)
            .zip(&values)
            .map(|(device, values)| Append {
                group: feed::group(device),
                at,
                columns: &columns,
                values,
                breaks: &breaks,
                note: None,
            })
            .collect();
        tell(&format!("try {number}"));
        let appended = store.samples().append(&rows, at);
        if let Some((_, why)) = appended.refused.first() {
            tell(&format!("error {why}"));
            return;
        }
        step.store(number, Ordering::Relaxed);
        if task.scene == Scene::Compaction {
            tell_time(store, at);
        }
        match appended.ticket.durable() {
            Ok(()) => tell(&format!("kept {number}")),
            // a full disk: nothing was promised
            Err(_) => drop(store.samples().resume(at)),
        }
    }
}

/// Tells the store what time it is, as a poll that brought nothing would: its own
/// upkeep goes by that, and does not believe a clock that goes back and forth.
fn tell_time(store: &Store, at: Timestamp) {
    let Some(room) = store.try_reserve() else {
        return; // the next one will do
    };
    room.send(PollReport {
        group: GroupKey {
            device: DeviceId(1),
            check: Check::Icmp,
        },
        outcome: Outcome {
            at,
            took: Duration::ZERO,
            failure: None,
            partial: Vec::new(),
        },
        row: None,
        facts: None,
    });
}

/// What goes on beside the appends.
fn beside(task: &Task, store: &Store, step: &AtomicU64) {
    let samples = store.samples();
    let now = || feed::time(task.scene, step.load(Ordering::Relaxed));
    for turn in 0u64.. {
        match task.scene {
            Scene::Append | Scene::Migration => return,
            Scene::Cut => drop(samples.cut()),
            Scene::Compaction => maintain(samples, now()),
            Scene::Backup => snapshot(store, &task.folder, turn, now()),
            Scene::FullDisk => fill(samples, &task.folder, turn, now()),
        }
    }
}

fn maintain(samples: &Samples, now: Timestamp) {
    let before = samples.stats().compactions;
    // an error is of a disk, and this one works
    let _ = samples.maintain(now);
    if samples.stats().compactions > before {
        tell("compacted");
    }
}

fn snapshot(store: &Store, folder: &Path, turn: u64, now: Timestamp) {
    let into = folder.join(format!("snapshot-{}-{turn}", std::process::id()));
    match store.snapshot(&into, now) {
        Ok(_) => tell("snapshot"),
        Err(error) => tell(&format!("error {error}")),
    }
    let _ = std::fs::remove_dir_all(into);
}

/// Takes all room that there is, cuts into it, and gives it back.
fn fill(samples: &Samples, folder: &Path, turn: u64, now: Timestamp) {
    let path = folder.join("filler");
    let block = vec![0; 64 << 10];
    if let Ok(mut file) = std::fs::File::create(&path) {
        while file.write_all(&block).is_ok() {}
    }
    tell("full");
    if turn.is_multiple_of(2) {
        let _ = samples.cut();
    }
    std::thread::park_timeout(PAUSE);
    let _ = std::fs::remove_file(&path);
    let _ = samples.resume(now);
    std::thread::park_timeout(PAUSE);
}
