//! A network of its own, in which only loopback is up.

use std::process::{Command, Stdio};

use crate::process::{Process, is_root};
use crate::wait::eventually;

/// A network namespace with loopback, open ping sockets and, if wanted, no
/// kernel that answers echo requests.
#[derive(Debug)]
pub struct Namespace {
    holder: Process,
}

impl Namespace {
    /// Makes one. `None` where this machine refuses: the caller says that it
    /// skipped.
    #[must_use]
    pub fn new() -> Option<Namespace> {
        if !refused_nothing() {
            return None;
        }
        let mut command = Command::new("unshare");
        command.arg("--net");
        if !is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        // ping sockets for group 0 alone: in a user's namespace no other is mapped,
        // and a wider range is refused
        command.args([
            "sh",
            "-c",
            "ip link set lo up && echo '0 0' >/proc/sys/net/ipv4/ping_group_range && echo ready && exec sleep 3600",
        ]);
        command.stdout(Stdio::null());
        let namespace = Namespace {
            holder: Process::start(command),
        };
        eventually(10, "a network namespace", || {
            let range = namespace.run("cat", &["/proc/sys/net/ipv4/ping_group_range"]);
            let up = namespace.run("ip", &["-o", "link", "show", "up"]);
            match (range, up) {
                (Some(range), Some(up))
                    if range.split_whitespace().eq(["0", "0"]) && up.contains("lo") =>
                {
                    Ok(())
                }
                seen => Err(seen),
            }
        });
        Some(namespace)
    }

    /// No kernel answers echo requests any more: the simulator does.
    ///
    /// # Panics
    ///
    /// If the namespace is gone.
    pub fn silence_kernel(&self) {
        self.run(
            "sh",
            &["-c", "echo 1 >/proc/sys/net/ipv4/icmp_echo_ignore_all"],
        )
        .expect("the namespace is ours");
    }

    /// `program`, to be started inside.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.holder.id()))
            .arg("--net");
        if !is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--").arg(program);
        command
    }

    /// Runs a program inside; its output, if it succeeds.
    #[must_use]
    pub fn run(&self, program: &str, arguments: &[&str]) -> Option<String> {
        let mut command = self.command(program);
        command.args(arguments);
        crate::process::output_of(command).ok()
    }
}

fn refused_nothing() -> bool {
    let mut command = Command::new("unshare");
    command.arg("--net");
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["ip", "link", "set", "lo", "up"]);
    crate::process::output_of(command).is_ok()
}
