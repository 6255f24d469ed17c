//! What a disaster costs: a box with 10 GB of samples is backed up while it
//! runs, verified, restored into an empty directory and opened, by the programs
//! that people use.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use harness::{Daemon, Folder, binary};
use model::{Breaks, Timestamp};
use store::Store;
use store::samples::Append;

use crate::fleet;
use crate::history::{day_before, enter, options};
use crate::mix::{self, Dice, WIDTH};
use crate::report::{Report, Value, say};

/// What the box holds.
const BYTES: u64 = 10_000_000_000;

/// Box, backup and restored box, and some room.
const ROOM: u64 = 3 * BYTES + 4_000_000_000;

/// Rows between two cuts: segments of some 250 MB.
const ROWS: u64 = 320_000;

const DEVICES: u64 = 1_000;

pub(crate) fn run(report: &mut Report) {
    let folder = fleet::folder("");
    let free = nix::sys::statvfs::statvfs(folder.path()).expect("it is there");
    let free = free.blocks_available() * free.fragment_size();
    if free < ROOM {
        report.could_not("samples.restore_10GB: the disk has not 34 GB free");
        return;
    }
    let made = make(&folder);
    report.add(Value::new("samples.box", gigabytes(made), "GB"));
    let archive = folder.path().join("box.tar");
    let into = folder.path().join("restored");
    let daemon = Daemon::start(&folder, None);
    let socket = folder.socket().display().to_string();
    let took = sotp(&["--socket", &socket, "backup", "create"], &[&archive]);
    report.add(Value::new("samples.backup_10GB", took, "s"));
    assert!(daemon.stop().success());
    let took = sotp(&["backup", "verify"], &[&archive]);
    report.add(Value::new("samples.verify_10GB", took, "s"));
    let began = Instant::now();
    sotp(&["backup", "restore"], &[&archive, &into]);
    let restored = Store::open(
        store::StoreOptions::at(into.join("sotp.redb")),
        fleet::now(),
    );
    let restored = restored.expect("a restored box is sound");
    report.add(Value::new(
        "samples.restore_10GB",
        began.elapsed().as_secs_f64(),
        "s",
    ));
    assert_eq!(restored.inventory().len() as u64, DEVICES);
    restored.close().expect("a disk that works");
}

/// Runs the client; the seconds that it took.
fn sotp(words: &[&str], paths: &[&Path]) -> f64 {
    let began = Instant::now();
    let output = Command::new(binary("sotp"))
        .args(words)
        .args(paths)
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "sotp {words:?}: {said}");
    say(&format!("   sotp {}: {}", words.join(" "), said.trim()));
    began.elapsed().as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "it is below 2^53")]
fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

/// Values with every bit in use, so that nothing is smaller than it looks.
fn make(folder: &Folder) -> u64 {
    let from = day_before(fleet::now());
    let store = Store::open(options(folder), from).expect("an empty store");
    let ids = enter(&store, DEVICES, from);
    let columns = mix::columns(None);
    let mut dice = Dice::new(10);
    let mut row = 0;
    loop {
        for _ in 0..ROWS / DEVICES {
            let values: Vec<f64> = (0..WIDTH * 1_000).map(|_| dice.any_bits()).collect();
            let at = Timestamp(from.0 + row * 20);
            row += 1;
            let rows: Vec<Append<'_>> = ids
                .iter()
                .zip(values.chunks(WIDTH))
                .map(|(id, values)| Append {
                    group: mix::group(*id),
                    at,
                    columns: &columns,
                    values,
                    breaks: &Breaks::None,
                    note: None,
                })
                .collect();
            let appended = store.samples().append(&rows, at);
            assert!(appended.refused.is_empty(), "{:?}", appended.refused[0]);
        }
        store.samples().cut().expect("a disk that works");
        let stats = store.samples().stats();
        let bytes = stats.tiers.iter().map(|(.., tier)| tier.bytes).sum();
        if bytes >= BYTES {
            store.close().expect("everything reaches the disk");
            return bytes;
        }
    }
}
