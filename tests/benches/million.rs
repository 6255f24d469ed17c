//! A million series: what they take in memory, how long a start takes after
//! kill -9 with two hours of them in the log, and what an appliance's steady
//! stream costs. Each in a process of its own.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use harness::{Folder, Process, eventually_true};
use model::{Breaks, DeviceId, Timestamp};
use store::samples::{Append, Tier};
use store::{Store, StoreOptions};

use crate::fleet::{self, pause_until};
use crate::history::cpu_seconds;
use crate::mix::{self, Switch, WIDTH};
use crate::peers::mib;
use crate::report::{Bar, Report, Value, say};

/// The first word on the command line of such a process.
pub(crate) const WORD: &str = "million";

/// Devices with a hundred series each.
const DEVICES: u64 = 10_000;

/// Polls of an hour and of two.
const HOUR: u64 = 120;

/// How long the steady stream is watched.
const STEADY: Duration = Duration::from_secs(30);

/// When the first row is.
const FROM: Timestamp = Timestamp(1_795_132_800_000);

pub(crate) fn run(report: &mut Report) {
    let folder = Folder::new();
    let mut fed = child("feed", &folder);
    let full = folder.path().join("hour");
    eventually_true(900, "an hour of a million series", || {
        assert!(fed.ended().is_none(), "the feeder ended");
        full.exists()
    });
    let value = Value::new("samples.1M_series_resident", mib(fed.peak_bytes()), "MiB");
    report.add(value.bar(Bar::AtMost(1_536.0)));
    let done = folder.path().join("done");
    eventually_true(900, "two hours of a million series", || {
        assert!(fed.ended().is_none(), "the feeder ended");
        done.exists()
    });
    fed.kill9();
    drop(fed);
    let said = answers("start", &folder);
    // the head is cut early when it is large: less than two hours are in the log
    report.add(Value::new("samples.1M_series_log", said[1], "MiB"));
    let value = Value::new("samples.1M_series_start", said[0], "s");
    report.add(value.bar(Bar::AtMost(5.0)));
    let folder = Folder::new();
    let share = answers("steady", &folder);
    let value = Value::new("samples.steady_cpu", share[0] * 100.0, "% of one core");
    report.add(value.bar(Bar::AtMost(5.0)));
}

fn command(what: &str, folder: &Folder) -> Command {
    let program = std::env::current_exe().expect("a running program has a path");
    let mut command = Command::new(program);
    command.args([WORD, what]).arg(folder.path());
    command
}

fn child(what: &str, folder: &Folder) -> Process {
    Process::start(command(what, folder))
}

/// The numbers that such a process prints.
fn answers(what: &str, folder: &Folder) -> Vec<f64> {
    let output = command(what, folder).stderr(Stdio::inherit()).output();
    let output = output.expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{what}: {said}");
    let numbers = said.split_whitespace().map(str::parse);
    numbers
        .collect::<Result<_, _>>()
        .expect("it prints numbers")
}

/// What the command line asks for.
pub(crate) fn inside(words: &[String]) -> ExitCode {
    match words {
        [what, folder] if what == "feed" => feed(Path::new(folder)),
        [what, folder] if what == "start" => start(Path::new(folder)),
        [what, folder] if what == "steady" => steady(Path::new(folder)),
        _ => return ExitCode::from(64),
    }
    ExitCode::SUCCESS
}

/// Nobody tells this store that time goes by, so the head is cut when we say.
fn options(folder: &Path) -> StoreOptions {
    StoreOptions::at(folder.join("sotp.redb"))
}

/// An hour of a million series, each with labels of its own, which is cut; then two
/// hours more, which stay in the log. Waits to be killed.
fn feed(folder: &Path) {
    let store = Store::open(options(folder), FROM).expect("an empty store");
    let columns: Vec<_> = (0..DEVICES)
        .map(|device| mix::columns(Some(device)))
        .collect();
    // few switches go on, and many devices look like them: what the generator
    // itself takes must not count
    let mut switches: Vec<Switch> = (0..50).map(Switch::new).collect();
    for step in 0..3 * HOUR {
        let at = Timestamp(FROM.0 + step * mix::EVERY);
        let rows: Vec<Vec<f64>> = switches
            .iter_mut()
            .map(|switch| {
                let mut row = Vec::with_capacity(WIDTH);
                switch.next(at, mix::EVERY, &mut row);
                row
            })
            .collect();
        let devices: Vec<u64> = (0..DEVICES).collect();
        for devices in devices.chunks(500) {
            let batch: Vec<Append<'_>> = devices
                .iter()
                .map(|device| {
                    let place = usize::try_from(*device).expect("it is small");
                    Append {
                        group: mix::group(DeviceId(device + 1)),
                        at: mix::time(FROM, *device, step),
                        columns: &columns[place],
                        values: &rows[place % rows.len()],
                        breaks: &Breaks::None,
                        note: None,
                    }
                })
                .collect();
            let appended = store.samples().append(&batch, at);
            assert!(appended.refused.is_empty(), "{:?}", appended.refused[0]);
            appended.ticket.durable().expect("a disk that works");
        }
        if step == HOUR - 1 {
            store.samples().cut().expect("a disk that works");
            std::fs::write(folder.join("hour"), "").expect("writable");
            fleet::pause(Duration::from_millis(500));
        }
    }
    std::fs::write(folder.join("done"), "").expect("writable");
    fleet::pause(Duration::from_secs(900));
}

/// Seconds until the store is open.
fn start(folder: &Path) {
    let began = Instant::now();
    let now = Timestamp(FROM.0 + 3 * HOUR * mix::EVERY + 1_000);
    let store = Store::open(options(folder), now).expect("a sound store");
    let took = began.elapsed().as_secs_f64();
    store.samples().cut().expect("a disk that works");
    let stats = store.samples().stats();
    let raw = stats.tiers.iter().filter(|(tier, ..)| *tier == Tier::Raw);
    let kept: u64 = raw.map(|(.., tier)| tier.samples).sum();
    let all = DEVICES * 3 * HOUR * WIDTH as u64;
    assert_eq!(kept, all, "not all samples are there");
    let log = mib(stats.replay.bytes);
    say(&format!("{took} {log}"));
    // nothing is to be tidied up: the folder goes
    std::mem::forget(store);
}

/// The share of one core that 33,000 samples a second take.
fn steady(folder: &Path) {
    let options = StoreOptions::at(folder.join("sotp.redb"));
    let store = Store::open(options, FROM).expect("an empty store");
    let columns = mix::columns(None);
    let mut row = Vec::with_capacity(WIDTH);
    Switch::new(1).next(FROM, mix::EVERY, &mut row);
    let (began, before) = (Instant::now(), cpu_seconds());
    let slots = u64::try_from(STEADY.as_millis() / 100).expect("it is small");
    let mut device = 0;
    for slot in 0..slots {
        let at = Timestamp(FROM.0 + slot * 100);
        // 10,000 devices every 30 s: a hundred rows in three slots
        let count = if slot % 3 == 0 { 34 } else { 33 };
        let batch: Vec<Append<'_>> = (0..count)
            .map(|_| {
                device = device % DEVICES + 1;
                Append {
                    group: mix::group(DeviceId(device)),
                    at,
                    columns: &columns,
                    values: &row,
                    breaks: &Breaks::None,
                    note: None,
                }
            })
            .collect();
        let appended = store.samples().append(&batch, at);
        assert!(appended.refused.is_empty(), "{:?}", appended.refused[0]);
        appended.ticket.durable().expect("a disk that works");
        pause_until(began + Duration::from_millis(100) * u32::try_from(slot + 1).unwrap_or(1));
    }
    let share = (cpu_seconds() - before) / began.elapsed().as_secs_f64();
    say(&share.to_string());
}
