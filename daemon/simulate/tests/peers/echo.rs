//! Echo replies as ping and fping see them, in a network namespace in which
//! the kernel keeps quiet.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::bench::{has, skipped, text};

const PROGRAM: &str = env!("CARGO_BIN_EXE_simulate");

/// The options of `unshare` for a namespace of our own: as root, and as a user.
const AS_ROOT: &[&str] = &["-n"];
const AS_USER: &[&str] = &["-U", "-r", "-n"];

/// A site of four devices in a namespace.
struct Namespace {
    child: Child,
    with_users: bool,
    folder: tempfile::TempDir,
}

impl Namespace {
    /// None if the machine does not let us have a namespace.
    fn start() -> Option<Namespace> {
        let works = |options: &&&[&str]| {
            let tried = Command::new("unshare").args(**options).arg("true").output();
            tried.is_ok_and(|output| output.status.success())
        };
        let Some(options) = [AS_ROOT, AS_USER].iter().find(works) else {
            skipped("no network namespace can be made here");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let script = "ip link set lo up && echo 1 > /proc/sys/net/ipv4/icmp_echo_ignore_all && \
                      exec \"$0\" --icmp --devices 4 --control \"$1\"";
        let mut child = Command::new("unshare")
            .args(*options)
            .args(["sh", "-c", script, PROGRAM])
            .arg(folder.path().join("control"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.as_mut().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Some(Namespace {
            child,
            with_users: *options == AS_USER,
            folder,
        })
    }

    /// What `program` says inside the namespace.
    fn run(&self, program: &str, words: &[&str]) -> String {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.child.id().to_string(), "-n"]);
        if self.with_users {
            command.args(["-U", "--preserve-credentials"]);
        }
        text(&command.arg(program).args(words).output().unwrap())
    }

    fn ctl(&self, command: &str) {
        let control = self.folder.path().join("control");
        let output = Command::new(PROGRAM)
            .args(["ctl", "--control"])
            .arg(control)
            .args(command.split(' '))
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}: {}", text(&output));
    }

    /// Loss in percent and mean RTT in milliseconds, by ping.
    fn ping(&self, address: &str, more: &[&str]) -> (f64, Option<f64>) {
        let words = [&["-n", "-q", "-c10", "-i0.05", "-W1"], more, &[address]].concat();
        let said = self.run("ping", &words);
        let loss = said
            .split(", ")
            .find_map(|part| part.split_once("% packet loss"))
            .unwrap_or_else(|| panic!("no loss in {said}"));
        let mean = said
            .lines()
            .find(|line| line.starts_with("rtt "))
            .and_then(|line| line.split('/').nth(4));
        (
            loss.0.parse().unwrap(),
            mean.map(|mean| mean.parse().unwrap()),
        )
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn devices_answer_echo_requests_after_a_believable_time_unless_they_are_down() {
    if !["unshare", "nsenter", "ping", "ip"].into_iter().all(has) {
        return;
    }
    let Some(namespace) = Namespace::start() else {
        return;
    };
    for address in ["127.20.0.1", "127.20.0.2", "127.20.0.3", "127.20.0.4"] {
        let (loss, mean) = namespace.ping(address, &[]);
        let mean = mean.unwrap();
        assert!(loss == 0.0, "{address} lost {loss} %");
        assert!((0.3..60.0).contains(&mean), "{address} took {mean} ms");
    }
    let (loss, _) = namespace.ping("127.20.0.9", &[]);
    assert!(loss == 100.0, "an address without a device lost {loss} %");

    namespace.ctl("down core-1");
    let (loss, _) = namespace.ping("127.20.0.1", &[]);
    assert!(loss == 100.0, "a device that is down lost {loss} %");
    namespace.ctl("silent core-2");
    let (loss, _) = namespace.ping("127.20.0.2", &[]);
    assert!(loss == 0.0, "a device without SNMP lost {loss} %");
    namespace.ctl("up core-1");
    let (loss, _) = namespace.ping("127.20.0.1", &[]);
    assert!(loss == 0.0, "a device that is up again lost {loss} %");

    namespace.ctl("slow core-1 100ms");
    let (_, mean) = namespace.ping("127.20.0.1", &[]);
    let mean = mean.unwrap();
    assert!(
        (100.0..200.0).contains(&mean),
        "a slow device took {mean} ms"
    );
}

#[test]
fn long_echo_requests_are_answered_whole() {
    if !["unshare", "nsenter", "ping", "ip"].into_iter().all(has) {
        return;
    }
    let Some(namespace) = Namespace::start() else {
        return;
    };
    namespace.run("ip", &["link", "set", "lo", "mtu", "1500"]);
    let (loss, mean) = namespace.ping("127.20.0.1", &["-s4000"]);
    assert!(loss == 0.0 && mean.is_some(), "lost {loss} %");
}

#[test]
fn fping_sees_the_share_of_answers_that_is_lost() {
    if !["unshare", "nsenter", "fping", "ip"].into_iter().all(has) {
        return;
    }
    let Some(namespace) = Namespace::start() else {
        return;
    };
    namespace.ctl("lossy core-1 50%");
    let words = ["-q", "-c100", "-p10", "-t500", "127.20.0.1", "127.20.0.2"];
    let said = namespace.run("fping", &words);
    let lost = |address: &str| -> u32 {
        let line = said.lines().find(|line| line.starts_with(address));
        let share = line.and_then(|line| line.split(['/', '%']).nth(5));
        share.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
    };
    let half = lost("127.20.0.1");
    assert!(
        (25..=75).contains(&half),
        "{half} % lost of one half: {said}"
    );
    assert_eq!(lost("127.20.0.2"), 0, "{said}");
}

#[test]
fn where_the_kernel_answers_the_site_refuses_to() {
    if !["unshare", "ip"].into_iter().all(has) || Namespace::start().is_none() {
        return;
    }
    let quiet = std::fs::read_to_string("/proc/sys/net/ipv4/icmp_echo_ignore_all");
    if quiet.is_ok_and(|quiet| quiet.trim() != "0") {
        skipped("the kernel answers no echo requests here");
        return;
    }
    let output = Command::new(PROGRAM)
        .args(["--icmp", "--port", "0"])
        .output();
    let said = text(&output.unwrap());
    assert!(said.contains("net.ipv4.icmp_echo_ignore_all=1"), "{said}");
}
