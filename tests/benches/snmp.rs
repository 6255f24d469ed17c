//! SNMP: 1,000 simulated switches with 48 ports, beside net-snmp's walks and
//! Debian's prometheus-snmp-exporter on the same agents.
//!
//! The peers walk ifTable and ifXTable, whole, as people have them do. The
//! daemon asks for what it keeps, and keeps it: its time is all that the
//! process used, for the store, the rules and the schedule too.

use std::path::PathBuf;
use std::time::Duration;

use harness::{Daemon, Folder, Namespace, Site, eventually};
use store::samples::Point;

use crate::report::{Bar, Report, Value};
use crate::samples::Kept;
use crate::scrape::Scrape;
use crate::window::Window;
use crate::{api, fleet, peers};

const DEVICES: usize = 1_000;

/// As the simulator is told.
pub(crate) const SITE: [&str; 4] = ["--uniform", "1000", "--ports", "48"];

/// Two rounds.
const WATCHED: Duration = Duration::from_secs(120);

/// What is read from the store reaches so far beyond the window, so that a
/// round that begins a little late is seen.
const SLACK: Duration = Duration::from_millis(500);

/// After the first round, so that its last rows are on the disk.
const SETTLING: Duration = Duration::from_secs(5);

/// ICMP has a part of its own: here each device is pinged once, at the start.
const SETTINGS: &str = "[icmp]\nevery = \"1d\"\n[snmp]\nevery = \"60s\"\n";

/// Devices that the peers are measured on.
const SAMPLE: usize = 100;

/// Devices that the exporter is asked for beforehand.
const WARM_UP: usize = 10;

pub(crate) fn run(report: &mut Report) {
    let namespace = fleet::namespace();
    let folder = fleet::folder(SETTINGS);
    let site = Site::start(folder.path(), Some(&namespace), &SITE);
    let csv = site.csv(fleet::CREDENTIAL);
    let daemon = Daemon::start(&folder, Some(&namespace));
    fleet::import(&daemon, &csv);
    eventually(180, "a first poll of each device", || {
        let scrape = Scrape::of(&folder.socket());
        let polls = ["icmp", "snmp"].map(|check| {
            let check = format!("check=\"{check}\"");
            scrape.sum("sotp_polls_total", &[&check, "result=\"answered\""])
        });
        if polls.iter().all(|polls| *polls >= fleet::number(DEVICES)) {
            Ok(())
        } else {
            Err(polls)
        }
    });
    fleet::pause(SETTLING);

    let window = Window::watch(&daemon, &folder, WATCHED);
    let names: Vec<String> = fleet::columns(&csv, ["name"])
        .into_iter()
        .flatten()
        .collect();
    api::run(report, "api", &folder.socket(), &names);
    let resident = daemon.process().resident_bytes();
    assert!(daemon.stop().success(), "sotpd did not stop cleanly");

    report.load(Some(window.load));
    polls(report, &folder, &window);
    let resident = Value::new("snmp.resident", peers::mib(resident), "MiB");
    report.add(resident.bar(Bar::AtMost(200.0)));
    processor(report, &window, &Peers::measure(&namespace, &folder, &csv));
    store(report, &window);
}

/// Whether all were polled, and how late.
fn polls(report: &mut Report, folder: &Folder, window: &Window) {
    let kept = Kept::open(folder, window.from, window.until.plus(SLACK));
    let up = kept.of_each_device("snmp_up");
    assert_eq!(up.len(), DEVICES, "devices in the store");
    let answered = |point: &&Point| point.value > 0.0;
    let twice = |points: &&Vec<Point>| points.iter().filter(answered).count() >= 2;
    let polled = fleet::number(up.iter().filter(twice).count());
    let value = Value::new("snmp.polled_each_round", polled, "devices");
    report.add(value.bar(Bar::AtLeast(fleet::number(DEVICES))));

    let polls = window.polls("snmp");
    for (name, count) in [
        ("snmp.polls_failed", polls.failed),
        ("snmp.polls_skipped", polls.skipped),
    ] {
        report.add(Value::new(name, count, "polls").bar(Bar::AtMost(0.0)));
    }
    let took: Vec<f64> = kept
        .of_each_device("snmp_poll_seconds")
        .iter()
        .flatten()
        .map(|point| point.value * 1e3)
        .collect();
    report.add(Value::new(
        "snmp.poll_p50",
        fleet::median(took.clone()),
        "ms",
    ));
    report.add(Value::new(
        "snmp.poll_p99",
        fleet::quantile(took, 0.99),
        "ms",
    ));
    let lag = polls.lag / polls.answered * 1e3;
    report.add(Value::new("snmp.lag_mean", lag, "ms"));
    report.add(Value::new("snmp.lag_max", window.lag_max * 1e3, "ms"));
}

/// What the peers take for one device, in ms of processor time.
struct Peers {
    snmpbulkwalk: f64,
    exporter: f64,
}

impl Peers {
    fn measure(namespace: &Namespace, folder: &Folder, csv: &str) -> Peers {
        let agents: Vec<String> = fleet::columns(csv, ["address", "snmp_port"])
            .into_iter()
            .map(|[address, port]| format!("{address}:{port}\n"))
            .collect();
        let sample: Vec<String> = agents.into_iter().step_by(DEVICES / SAMPLE).collect();
        let write = |name: &str, targets: &[String]| {
            let path: PathBuf = folder.path().join(name);
            std::fs::write(&path, targets.concat()).expect("writable");
            path
        };
        let targets = [
            write("warm-up", &sample[..WARM_UP]),
            write("targets", &sample),
        ];
        let snmpbulkwalk = peers::snmpbulkwalk(namespace, &targets[1]);
        let exporter = peers::Exporter::start(namespace, folder);
        Peers {
            snmpbulkwalk,
            exporter: exporter.scrape(namespace, &targets),
        }
    }
}

/// Processor time, in all and beside the peers'.
fn processor(report: &mut Report, window: &Window, peers: &Peers) {
    let share = window.cpu / window.seconds * 100.0;
    let value = Value::new("snmp.cpu", share, "% of a core");
    report.add(value.bar(Bar::AtMost(15.0)));
    let each = window.cpu / window.polls("snmp").answered * 1e3;
    let value = Value::new("snmp.cpu_per_poll", each, "ms");
    let value = value.peer("2 x snmpbulkwalk", peers.snmpbulkwalk);
    report.add(value.bar(Bar::OfPeer(0.1)));
    let value = Value::new("snmp.cpu_per_poll_exporter", each, "ms");
    let value = value.peer("snmp-exporter", peers.exporter);
    report.add(value.bar(Bar::OfPeer(0.05)));
}

/// What the store did in the window.
fn store(report: &mut Report, window: &Window) {
    let commits = "sotp_store_commit_seconds";
    for (name, q) in [("store.commit_p50", 0.5), ("store.commit_p99", 0.99)] {
        let took = window.after.quantile(&window.before, commits, q);
        report.add(Value::new(name, took * 1e3, "ms"));
    }
    let kept = |name: &str| window.after.one(name) - window.before.one(name);
    let values = kept("sotp_store_samples");
    let each = values / kept("sotp_store_rows");
    report.add(Value::new("store.values_per_row", each, "values"));
    let rate = values / window.seconds;
    report.add(Value::new("store.values_per_second", rate, "values/s"));
}
