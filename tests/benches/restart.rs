//! Starting with 1,000 devices and a day of their samples: the time from the
//! start of the process until it says READY=1, after a stop and after a kill -9
//! while it polls.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use harness::{Ask, Daemon, Folder, Namespace, Process, Site, eventually};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::report::{Bar, Report, Value, say};
use crate::samples::options;
use crate::scrape::Scrape;
use crate::{api, client, day, fleet, peers, snmp};

/// Defaults: ICMP every 30 s, SNMP every 60 s.
const SETTINGS: &str = "";

/// Starts after a stop, and as many after a kill.
const STARTS: usize = 3;

/// Polls that a daemon has to have made before it is stopped or killed.
const POLLS: f64 = 100.0;

/// Longer than any start may take, so that a slow one is measured too.
const PATIENCE: Duration = Duration::from_secs(120);

/// Making the day may take this long; if it would take longer, it is made of
/// fewer ports, and the values say so.
const MAKING: Duration = Duration::from_secs(360);

/// Minutes that are made first, to know how long a day takes: enough that rows
/// go into chunks.
const TRIAL: u64 = 90;

pub(crate) fn run(report: &mut Report) {
    let namespace = fleet::namespace();
    let folder = fleet::folder(SETTINGS);
    let site = Site::start(folder.path(), Some(&namespace), &snmp::SITE);
    let csv = site.csv(fleet::CREDENTIAL);
    let devices = fleet::columns(&csv, ["name", "address", "snmp_port"]);
    make_day(report, &folder, &devices);

    let mut after_stop = Vec::new();
    for start in 1..=STARTS {
        let (daemon, took) = ready(&folder, &namespace);
        after_stop.push(took);
        if start == 1 {
            tell_credential(&folder);
        }
        polling(&folder);
        if start < STARTS {
            stop(daemon);
        } else {
            kill(daemon);
        }
    }
    let mut after_kill = Vec::new();
    for _ in 1..STARTS {
        let (daemon, took) = ready(&folder, &namespace);
        after_kill.push(took);
        polling(&folder);
        kill(daemon);
    }
    let (daemon, took) = ready(&folder, &namespace);
    after_kill.push(took);
    for (name, took) in [
        ("restart.ready_after_stop", after_stop),
        ("restart.ready_after_kill", after_kill),
    ] {
        let longest = fleet::quantile(took, 1.0);
        report.add(Value::new(name, longest, "s").bar(Bar::AtMost(1.0)));
    }

    polling(&folder);
    let names: Vec<String> = devices.into_iter().map(|[name, ..]| name).collect();
    history(report, &folder, &names[0]);
    api::run(report, "api.day", &folder.socket(), &names);
    let resident = peers::mib(daemon.resident_bytes());
    report.add(Value::new("restart.resident", resident, "MiB"));
    stop(daemon);

    forget_cached(&folder);
    let (daemon, took) = ready(&folder, &namespace);
    report.add(Value::new("restart.ready_not_cached", took, "s"));
    stop(daemon);
}

/// Makes the store of `folder`.
fn make_day(report: &mut Report, folder: &Folder, devices: &[day::Entry]) {
    let now = fleet::now();
    let trial = Folder::new();
    let tried = day::make(options(&trial), devices, day::PORTS, TRIAL, now);
    drop(trial);
    let expected =
        tried.took.as_secs_f64() * fleet::number(minutes(day::DAY)) / fleet::number(minutes(TRIAL));
    let ports = affordable_ports(expected);
    let columns = day::columns(ports);
    say(&format!(
        "   a day of {columns} values a minute from each device is expected to take {:.0} s",
        expected * f64::from(ports) / f64::from(day::PORTS)
    ));
    let made = day::make(options(folder), devices, ports, day::DAY, now);
    let seconds = made.took.as_secs_f64();
    let name = |what: &str| match ports {
        day::PORTS => what.to_owned(),
        fewer => format!("{what} ({fewer} of {} ports)", day::PORTS),
    };
    report.add(Value::new(name("restart.preparation"), seconds, "s"));
    let stats = &made.stats;
    let samples = count(stats.values);
    report.add(Value::new(
        name("store.day"),
        samples / 1e6,
        "million values",
    ));
    report.add(Value::new(
        name("store.append"),
        samples / seconds,
        "values/s",
    ));
    let tiers = stats.samples.tiers.iter();
    let (bytes, cut) = tiers.fold((0, 0), |(bytes, cut), (_, _, tier)| {
        (bytes + tier.bytes, cut + tier.samples)
    });
    report.add(Value::new(
        name("store.segment_bytes_per_value"),
        count(bytes) / count(cut),
        "bytes",
    ));
    let file = std::fs::metadata(folder.store())
        .expect("it was made")
        .len();
    let each = count(file) / samples;
    report.add(Value::new(
        name("store.file_bytes_per_value"),
        each,
        "bytes",
    ));
    report.add(Value::new(name("store.file"), count(file) / 1e6, "MB"));
}

fn minutes(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "nothing here is counted to 2^53"
)]
fn count(count: u64) -> f64 {
    count as f64
}

/// All ports, or fewer where a day of all of them would take too long.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it lies between 1 and PORTS"
)]
fn affordable_ports(expected: f64) -> u32 {
    let share = MAKING.as_secs_f64() / expected;
    let ports = f64::from(day::PORTS) * share.min(1.0);
    (ports as u32).max(1)
}

/// Starts the daemon; it and the seconds until it was ready.
fn ready(folder: &Folder, namespace: &Namespace) -> (Process, f64) {
    let path = folder.path().join("notify");
    let _ = std::fs::remove_file(&path);
    let notify = UnixDatagram::bind(&path).expect("a free path");
    notify
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket has one");
    let log = std::fs::File::create(folder.path().join("log")).expect("writable");
    let mut command = Daemon::command(folder, Some(namespace));
    command.env("NOTIFY_SOCKET", &path).stderr(log);

    let began = Instant::now();
    let daemon = Process::start(command);
    let mut message = [0; 4096];
    loop {
        let length = notify.recv(&mut message).unwrap_or_else(|error| {
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            panic!("no READY=1: {error}\n{log}")
        });
        let fields = String::from_utf8_lossy(&message[..length]);
        if fields.lines().any(|field| field == "READY=1") {
            let took = began.elapsed().as_secs_f64();
            say(&format!("   ready after {took:.3} s"));
            return (daemon, took);
        }
    }
}

/// Waits until the daemon has polled some devices.
/// The value of the credential that all devices name.
fn tell_credential(folder: &Folder) {
    let path = format!("/api/v1/credentials/{}", fleet::CREDENTIAL);
    let ask = Ask::new("PUT", &path).header("If-Match", "*");
    let ask = ask.json(&json!({"kind": "snmp-v2c", "community": "public"}));
    let told = harness::local(&folder.socket(), &ask);
    told.expect("sotpd answers").expect("a credential");
}

fn polling(folder: &Folder) {
    eventually(90, "polls after a start", || {
        let labels = ["check=\"snmp\"", "result=\"answered\""];
        let polls = Scrape::of(&folder.socket()).sum("sotp_polls_total", &labels);
        if polls >= POLLS { Ok(()) } else { Err(polls) }
    });
}

fn stop(mut daemon: Process) {
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait(40).success(), "sotpd did not stop cleanly");
}

fn kill(mut daemon: Process) {
    daemon.kill9();
}

/// The day is there, and nothing of it is damaged: a store that opens quickly
/// because it forgot is no quick store.
fn history(report: &mut Report, folder: &Folder, device: &str) {
    let socket = folder.socket();
    let path = format!("/api/v1/devices/{device}/metrics/icmp_rtt_seconds?from=-25h");
    let answer = client::get(&socket, &path).expect("sotpd answers");
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    assert_eq!(answer.status, 200, "{body}");
    let points = body["series"][0]["points"].as_array().map_or(0, Vec::len);
    let value = Value::new("restart.points_of_a_day", fleet::number(points), "points");
    report.add(value.bar(Bar::AtLeast(fleet::number(minutes(2 * day::DAY)))));
    let corrupt = Scrape::of(&socket).one("sotp_store_corrupt_reads_total");
    let value = Value::new("restart.corrupt_reads", corrupt, "reads");
    report.add(value.bar(Bar::AtMost(0.0)));
}

/// Has the system forget the pages of the store that it keeps in memory, as
/// after a boot.
fn forget_cached(folder: &Folder) {
    let file = std::fs::File::open(folder.store()).expect("it is there");
    file.sync_all().expect("a disk that works");
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).expect("a file has pages");
}
