//! What the tests share: a site, and real tools that ask it.

use std::net::IpAddr;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use simulate::{Fault, Plan, SimulatedDevice, Site, SiteOptions};

/// How long a state may take to come about.
const BOUND: Duration = Duration::from_secs(20);

/// Whether `tool` is there; says so if a test is skipped for lack of it.
#[expect(
    clippy::print_stderr,
    reason = "who runs tests must see what was skipped"
)]
pub(crate) fn has(tool: &str) -> bool {
    let found = Command::new(tool)
        .arg("-V")
        .stdin(Stdio::null())
        .output()
        .is_ok();
    if !found {
        eprintln!("skipped: {tool} is not installed");
    }
    found
}

#[expect(
    clippy::print_stderr,
    reason = "who runs tests must see what was skipped"
)]
pub(crate) fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// Asks until `reached` is content with the answer, and returns that.
pub(crate) fn wait_for<T: std::fmt::Debug>(
    mut ask: impl FnMut() -> T,
    reached: impl Fn(&T) -> bool,
) -> T {
    let deadline = Instant::now() + BOUND;
    loop {
        let state = ask();
        if reached(&state) {
            return state;
        }
        assert!(
            Instant::now() < deadline,
            "gave up; the last state was {state:#?}"
        );
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// What a program said, both ways.
pub(crate) fn text(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    format!("{out}{err}")
}

/// A site and its first manager.
pub(crate) struct Bench {
    pub(crate) site: Site,
}

impl Bench {
    /// A company of ten devices.
    pub(crate) fn company() -> Bench {
        Bench::with(Plan::Company { devices: 10 })
    }

    pub(crate) fn with(plan: Plan) -> Bench {
        let options = SiteOptions {
            plan,
            ..SiteOptions::default()
        };
        Bench {
            site: Site::start(options).unwrap(),
        }
    }

    pub(crate) fn device(&self, name: &str) -> &SimulatedDevice {
        self.site.device(name).unwrap()
    }

    pub(crate) fn ip(&self, name: &str) -> IpAddr {
        self.device(name).address.ip()
    }

    pub(crate) fn fault(&self, name: &str, fault: Fault) {
        self.site.fault(self.ip(name), fault).unwrap();
    }

    /// Runs one of net-snmp's tools against a device: one try of a third of a
    /// second, numbers everywhere.
    pub(crate) fn ask(&self, tool: &str, name: &str, words: &[&str]) -> String {
        self.ask_as(tool, name, &["-v2c", "-cpublic", "-t0.35", "-r0"], words)
    }

    pub(crate) fn ask_as(
        &self,
        tool: &str,
        name: &str,
        options: &[&str],
        words: &[&str],
    ) -> String {
        let output = Command::new(tool)
            .args(options)
            .args(["-m", "", "-Onet"])
            .arg(self.device(name).address.to_string())
            .args(words)
            .output()
            .unwrap();
        text(&output)
    }

    /// The number that a device holds at `oid`.
    pub(crate) fn number(&self, name: &str, oid: &str) -> u64 {
        let answer = self.ask("snmpget", name, &["-Oqv", oid]);
        let number = answer.trim().parse();
        number.unwrap_or_else(|_| panic!("{name} holds no number at {oid}: {answer}"))
    }
}
