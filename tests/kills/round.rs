//! Lives of one store: each ends by kill -9, and then it is compared.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use harness::is_root;

use crate::check::{self, Said};
use crate::migration;
use crate::scene::Scene;
use crate::writer;

/// Lives of one store: then a new one is begun, so that a comparison stays quick.
const LIVES: usize = 20;

/// A life lasts at most this long after the store was opened.
const LONGEST: u64 = 160;

/// A writer that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Wrong things that are told of one life.
const TOLD: usize = 5;

/// What came of one scene.
pub(crate) struct Summary {
    scene: Scene,
    kills: usize,
    /// Of them, before the store was open.
    early: usize,
    acknowledged: u64,
    /// Compactions and backups that came to their end.
    done_beside: u64,
    pub(crate) wrong: usize,
    took: Duration,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<11} {:>4} kills ({} while opening), {:>9} samples acknowledged, {:>4} compactions or backups, {} lost or invented, {:.0} s",
            self.scene.word(),
            self.kills,
            self.early,
            self.acknowledged,
            self.done_beside,
            self.wrong,
            self.took.as_secs_f64()
        )
    }
}

/// Plays a scene with so many kills; `None` where it cannot be played here.
pub(crate) fn play(scene: Scene, kills: usize) -> Option<Summary> {
    let began = Instant::now();
    let mut summary = Summary {
        scene,
        kills: 0,
        early: 0,
        acknowledged: 0,
        done_beside: 0,
        wrong: 0,
        took: Duration::ZERO,
    };
    while summary.kills < kills {
        let stage = Stage::build(scene)?;
        let mut said = Said::default();
        for _life in 0..LIVES.min(kills - summary.kills) {
            let number = summary.kills;
            summary.kills += 1;
            summary.early += usize::from(live(scene, stage.folder(), &mut said, number));
            let mut wrong = check::compare(scene, stage.folder(), &said);
            if scene == Scene::Migration {
                wrong.extend(migration::compare(stage.folder()));
            }
            summary.wrong += wrong.len();
            for what in wrong.iter().take(TOLD) {
                crate::say(&format!("{} kill {number}: {what}", scene.word()));
            }
            if scene == Scene::Migration {
                break; // it happens once in the life of a store
            }
        }
        summary.acknowledged += said.samples();
        summary.done_beside += said.done_beside;
    }
    summary.took = began.elapsed();
    Some(summary)
}

/// Where a store lives.
struct Stage {
    folder: tempfile::TempDir,
    mounted: bool,
}

impl Stage {
    fn build(scene: Scene) -> Option<Stage> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut stage = Stage {
            folder,
            mounted: false,
        };
        match scene {
            Scene::FullDisk => {
                stage.mounted = is_root() && mount(stage.folder.path());
                stage.mounted.then_some(stage)
            }
            Scene::Migration => {
                migration::place(stage.folder.path());
                Some(stage)
            }
            _ => Some(stage),
        }
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount")
                .arg("-l")
                .arg(self.folder.path())
                .status();
        }
    }
}

fn mount(folder: &Path) -> bool {
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs"]);
    command.arg(folder);
    command.status().is_ok_and(|status| status.success())
}

/// One life; whether it ended before the store was open.
fn live(scene: Scene, folder: &Path, said: &mut Said, number: usize) -> bool {
    let mut child = start(scene, folder, said.next());
    let lines = follow(child.stdout.take().expect("it is piped"));
    // every length comes up: 97 and 160 have no common divisor
    let span = Duration::from_millis(number as u64 * 97 % LONGEST);
    let early = scene == Scene::Migration || number % 5 == 4;
    let mut open = false;
    let mut kill_at = early.then(|| Instant::now() + span / 2);
    let give_up = Instant::now() + PATIENCE;
    loop {
        let until = kill_at.unwrap_or(give_up);
        let Ok(line) = lines.recv_timeout(until.saturating_duration_since(Instant::now())) else {
            break;
        };
        if line == "open" {
            open = true;
            kill_at = kill_at.or_else(|| Some(Instant::now() + span));
        }
        take(said, &line);
    }
    assert!(
        kill_at.is_some(),
        "{}: the writer says nothing",
        scene.word()
    );
    let _ = child.kill();
    let _ = child.wait();
    for line in lines {
        open |= line == "open";
        take(said, &line);
    }
    !open
}

fn take(said: &mut Said, line: &str) {
    match line.split_once(' ') {
        Some(("try", step)) => said.try_one(step.parse().expect("a number")),
        Some(("kept", step)) => said.keep(step.parse().expect("a number")),
        None if line == "compacted" || line == "snapshot" => said.done_beside += 1,
        Some(("error", what)) => panic!("the writer: {what}"),
        _ => {}
    }
}

fn start(scene: Scene, folder: &Path, first: u64) -> Child {
    let program = std::env::current_exe().expect("a running program has a path");
    let mut command = Command::new(program);
    command.arg(writer::WORD).arg(scene.word()).arg(folder);
    command.arg(first.to_string()).stdout(Stdio::piped());
    command.spawn().expect("it starts")
}

/// The lines of `out` as they come; the channel ends with it.
fn follow(out: ChildStdout) -> mpsc::Receiver<String> {
    let (to, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if to.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
