//! ICMP: 10,000 addresses that the kernel answers for, and fping on the same
//! ones.
//!
//! What a daemon gets of `icmp.receive_buffer` ends at net.core.rmem_max. Here
//! it asks for no more than that is in a kernel that nobody tuned, so that this
//! machine's setting does not help.

use std::time::{Duration, Instant};

use harness::{Daemon, Folder, Namespace, eventually};
use store::samples::Point;

use crate::fleet;
use crate::peers;
use crate::report::{Bar, Report, Value, say};
use crate::samples::Kept;
use crate::scrape::{Polls, Scrape};
use crate::window::{Threads, Window};

const DEVICES: usize = 10_000;
const PROBES: f64 = 5.0;
const EVERY: Duration = Duration::from_secs(30);

/// Two rounds.
const WATCHED: Duration = Duration::from_secs(60);

/// A round that begins this much late is still in time: the schedule's clock
/// ticks in milliseconds, and other programs run here.
const SLACK: Duration = Duration::from_millis(500);

/// `net.core.rmem_default` and `rmem_max` of a kernel that nobody tuned.
const SETTINGS: &str = "[icmp]\nevery = \"30s\"\nprobes = 5\nreceive_buffer = \"208KiB\"\n";

/// Runs of the peer: the median counts.
const PEER_RUNS: usize = 3;

/// The thread of the daemon that sends and receives.
const ENGINE: &str = "ping";

pub(crate) fn run(report: &mut Report) {
    let namespace = fleet::namespace();
    let folder = fleet::folder(SETTINGS);
    let daemon = Daemon::start(&folder, Some(&namespace));
    let first = FirstRound::watch(&daemon, &folder);
    let window = Window::watch(&daemon, &folder, WATCHED);
    let resident = daemon.process().resident_bytes();
    // what is read from the store reaches beyond the window, so that the end of
    // one round is not cut off
    fleet::pause(2 * SLACK);
    assert!(daemon.stop().success(), "sotpd did not stop cleanly");

    report.load(Some(window.load));
    rounds(report, &folder, &window);
    polls(report, &window);
    for (name, value, unit) in [
        ("icmp.first_round", first.seconds, "s for all devices"),
        ("icmp.first_round_skipped", first.skipped, "polls"),
    ] {
        report.add(Value::new(name, value, unit));
    }
    processor(report, peer(&namespace, &folder), &window, &first);
    let resident = Value::new("icmp.resident", peers::mib(resident), "MiB");
    report.add(resident);
}

/// The first round, right after the devices were entered: as fast as the daemon
/// lets them go.
struct FirstRound {
    /// Until each device was heard of.
    seconds: f64,
    /// Turns that were skipped until then.
    skipped: f64,
    /// Probes that were answered until then.
    probes: f64,
    /// Processor time of the engine until then, in seconds.
    engine: f64,
}

impl FirstRound {
    fn watch(daemon: &Daemon, folder: &Folder) -> FirstRound {
        let before = Threads::of(daemon.process());
        let nothing = Scrape::of(&folder.socket());
        fleet::import(daemon, &table());
        let began = Instant::now();
        let polls = eventually(180, "a first poll of each device", || {
            let polls = Polls::between(&nothing, &Scrape::of(&folder.socket()), "icmp");
            if polls.answered < fleet::number(DEVICES) {
                return Err(format!("{} polls", polls.answered));
            }
            let devices = &daemon.get("/api/v1/status")["devices"];
            if devices["up"] == DEVICES {
                Ok(polls)
            } else {
                Err(devices.to_string())
            }
        });
        FirstRound {
            seconds: began.elapsed().as_secs_f64(),
            skipped: polls.skipped,
            probes: polls.answered * PROBES,
            engine: Threads::of(daemon.process()).since(&before).seconds(ENGINE),
        }
    }
}

/// 127.64.0.1, 127.64.0.2 and so on.
fn addresses() -> impl Iterator<Item = String> {
    (0..DEVICES).map(|place| format!("127.64.{}.{}", place / 200, place % 200 + 1))
}

fn table() -> String {
    let lines = addresses().enumerate();
    let lines = lines.map(|(place, address)| format!("host-{place:05},{address}\n"));
    std::iter::once("name,address\n".to_owned())
        .chain(lines)
        .collect()
}

/// What was measured in the window, by the samples that were kept.
fn rounds(report: &mut Report, folder: &Folder, window: &Window) {
    let until = window.until.plus(SLACK);
    let kept = Kept::open(folder, window.from, until);
    let loss = kept.of_each_device("icmp_loss_ratio");
    assert_eq!(loss.len(), DEVICES, "devices in the store");
    let every_round = |points: &&Vec<Point>| points.len() >= 2;
    let polled = fleet::number(loss.iter().filter(every_round).count());
    let devices = fleet::number(DEVICES);
    let value = Value::new("icmp.polled_each_round", polled, "devices");
    report.add(value.bar(Bar::AtLeast(devices)));

    let first = |points: &Vec<Point>| points.first().map(|point| point.at.since(window.from));
    let last_first = loss.iter().map(first).max().flatten();
    let wall = last_first.map_or(f64::NAN, |span| span.as_secs_f64());
    let value = Value::new("icmp.round", wall, "s for all devices");
    report.add(value.bar(Bar::AtMost((EVERY + SLACK).as_secs_f64())));

    let lossy = loss.iter().flatten().filter(|point| point.value > 0.0);
    let value = Value::new("icmp.false_loss", fleet::number(lossy.count()), "polls");
    report.add(value.bar(Bar::AtMost(0.0)));

    let shortest = kept.of_each_device("icmp_rtt_min_seconds");
    let shortest: Vec<f64> = shortest.iter().flatten().map(|point| point.value).collect();
    assert!(!shortest.is_empty(), "no round-trip time was kept");
    let zero = shortest.iter().filter(|time| **time <= 0.0).count();
    let value = Value::new("icmp.rtt_of_zero", fleet::number(zero), "polls");
    report.add(value.bar(Bar::AtMost(0.0)));

    let mean = kept.of_each_device("icmp_rtt_seconds");
    let mean: Vec<f64> = mean
        .iter()
        .flatten()
        .map(|point| point.value * 1e6)
        .collect();
    let typical = fleet::median(mean.clone());
    report.add(Value::new("icmp.rtt_p50", typical, "us"));
    let slow = fleet::quantile(mean, 0.99);
    report.add(Value::new("icmp.rtt_p99", slow, "us"));
}

/// How the polls went, by the daemon's own figures.
fn polls(report: &mut Report, window: &Window) {
    let polls = window.polls("icmp");
    for (name, count) in [
        ("icmp.polls_failed", polls.failed),
        ("icmp.polls_skipped", polls.skipped),
    ] {
        report.add(Value::new(name, count, "polls").bar(Bar::AtMost(0.0)));
    }
    let mean = polls.lag / polls.answered * 1e3;
    report.add(Value::new("icmp.lag_mean", mean, "ms"));
    report.add(Value::new("icmp.lag_max", window.lag_max * 1e3, "ms"));
}

/// What fping takes for a probe, in us of processor time.
fn peer(namespace: &Namespace, folder: &Folder) -> f64 {
    let targets = folder.path().join("targets");
    let text: String = addresses().map(|address| address + "\n").collect();
    std::fs::write(&targets, text).expect("writable");
    let runs: Vec<peers::Fping> = (0..PEER_RUNS)
        .map(|_| peers::fping(namespace, &targets))
        .collect();
    let lost: usize = runs.iter().map(|run| run.lost).sum();
    say(&format!("   fping lost {lost} probes in {PEER_RUNS} runs"));
    let each = runs.iter().map(|run| run.cpu / fleet::number(run.probes));
    fleet::median(each.collect()) * 1e6
}

/// Processor time for each probe, beside fping's: of the daemon as a whole, and
/// of the thread that does what fping does.
fn processor(report: &mut Report, fping: f64, window: &Window, first: &FirstRound) {
    let probes = window.polls("icmp").answered * PROBES;
    let each = |name, seconds: f64, probes: f64| {
        let value = Value::new(name, seconds / probes * 1e6, "us");
        value.peer("fping -i 0", fping)
    };
    let whole = each("icmp.cpu_per_probe", window.cpu, probes);
    report.add(whole.bar(Bar::OfPeer(0.7)));
    let engine = window.threads.seconds(ENGINE);
    report.add(each("icmp.engine_cpu_per_probe", engine, probes));
    let name = "icmp.engine_cpu_per_probe_first_round";
    report.add(each(name, first.engine, first.probes));
    let share = window.cpu / window.seconds * 100.0;
    report.add(Value::new("icmp.cpu", share, "% of a core"));
}
