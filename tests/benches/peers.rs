//! The programs that do the same as we do, on the same targets.

use std::path::{Path, PathBuf};

use harness::{Folder, Namespace, Process, eventually_true};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use crate::inside;

/// Where Debian's exporter listens.
pub(crate) const EXPORTER: &str = "127.0.0.1:9116";

/// Its module `if_mib`, which Debian may not ship: both tables, whole, as
/// upstream's walks them.
const IF_MIB: &str = include_str!("if_mib.yml");

pub(crate) fn mib(bytes: u64) -> f64 {
    let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
    f64::from(kib) / 1024.0
}

/// Processor time of all children that were waited for, in seconds: its growth
/// around one child is that child's.
pub(crate) fn cpu_of_children() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the system counts it");
    let seconds = |time: TimeVal| {
        let (whole, part) = (time.tv_sec(), time.tv_usec());
        #[expect(clippy::cast_precision_loss, reason = "seconds of a benchmark")]
        let seconds = whole as f64 + part as f64 / 1e6;
        seconds
    };
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// One run of fping.
pub(crate) struct Fping {
    pub(crate) probes: usize,
    pub(crate) lost: usize,
    /// In seconds.
    pub(crate) cpu: f64,
}

/// Five probes to each of `targets`, as fast as fping can.
///
/// # Panics
///
/// If it does not say what became of each probe.
pub(crate) fn fping(namespace: &Namespace, targets: &Path) -> Fping {
    let mut command = namespace.command("fping");
    command.args(["-i", "0", "-C", "5", "-p", "200", "-q", "-f"]);
    command.arg(targets);
    let before = cpu_of_children();
    let output = command.output().expect("fping is installed");
    let cpu = cpu_of_children() - before;
    // `127.64.0.1 : 0.05 0.04 - 0.03 0.05`
    let said = String::from_utf8_lossy(&output.stderr);
    let results = said.lines().filter_map(|line| line.split_once(" : "));
    let fates: Vec<bool> = results
        .flat_map(|(_, probes)| probes.split_whitespace().map(|probe| probe != "-"))
        .collect();
    assert!(fates.contains(&true), "fping: {said:.300}");
    Fping {
        probes: fates.len(),
        lost: fates.iter().filter(|answered| !**answered).count(),
        cpu,
    }
}

/// Processor time for one device's ifTable and ifXTable, in ms.
pub(crate) fn snmpbulkwalk(namespace: &Namespace, targets: &Path) -> f64 {
    inside::in_namespace(namespace, &[inside::WALK.as_ref(), targets.as_os_str()])
}

/// Debian's exporter, running.
pub(crate) struct Exporter {
    process: Process,
}

impl Exporter {
    /// Starts it and waits until it answers.
    ///
    /// # Panics
    ///
    /// If it is not installed or does not start.
    pub(crate) fn start(namespace: &Namespace, folder: &Folder) -> Exporter {
        let settings = folder.path().join("snmp.yml");
        std::fs::write(&settings, IF_MIB).expect("writable");
        let log = std::fs::File::create(folder.path().join("exporter.log")).expect("writable");
        let mut command = namespace.command("prometheus-snmp-exporter");
        command
            .arg(format!("--config.file={}", settings.display()))
            .arg(format!("--web.listen-address={EXPORTER}"))
            .stderr(log);
        let mut process = Process::start(command);
        eventually_true(20, "prometheus-snmp-exporter", || {
            assert!(process.ended().is_none(), "prometheus-snmp-exporter ended");
            namespace
                .run("ss", &["-Hltn", "sport", "=", ":9116"])
                .is_some_and(|sockets| !sockets.is_empty())
        });
        Exporter { process }
    }

    /// Processor time for one device's ifTable and ifXTable, in ms.
    pub(crate) fn scrape(&self, namespace: &Namespace, targets: &[PathBuf; 2]) -> f64 {
        let [warm_up, targets] = targets;
        let scrape = |targets: &Path| {
            let words = [inside::SCRAPE.as_ref(), targets.as_os_str()];
            inside::in_namespace(namespace, &words)
        };
        scrape(warm_up);
        let before = self.process.cpu_seconds();
        let devices = scrape(targets);
        (self.process.cpu_seconds() - before) / devices * 1e3
    }
}
