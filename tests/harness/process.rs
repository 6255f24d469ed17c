//! Processes that end with the test that started them.

use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::{eventually, pause};

/// A running program.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts `command` with nothing to read.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    #[track_caller]
    pub fn start(mut command: Command) -> Process {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Process { child, name }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it `signal`.
    ///
    /// # Panics
    ///
    /// If it is gone.
    pub fn signal(&self, signal: Signal) {
        kill(pid(self.child.id()), signal)
            .unwrap_or_else(|error| panic!("signal {}: {error}", self.name));
    }

    /// Kills it as a power cut would, and waits for its end.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How it ended, if it did.
    ///
    /// # Panics
    ///
    /// If the system does not say.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child
            .try_wait()
            .expect("the child is ours to wait for")
    }

    /// Waits for its end, for at most `seconds`.
    ///
    /// # Panics
    ///
    /// When time runs out.
    #[track_caller]
    pub fn wait(&mut self, seconds: u64) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        eventually(seconds, &what, || self.ended().ok_or(()))
    }

    /// User and system time so far, in seconds (proc(5)); of the program alone.
    ///
    /// # Panics
    ///
    /// If it is gone.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("it runs");
        let (_, fields) = stat.rsplit_once(')').expect("the name is in parentheses");
        let ticks = |place: usize| -> f64 {
            let field = fields.split_whitespace().nth(place).expect("proc(5)");
            field.parse().expect("a number")
        };
        let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
            .ok()
            .flatten()
            .unwrap_or(100);
        #[expect(clippy::cast_precision_loss, reason = "it is 100")]
        let per_second = per_second as f64;
        (ticks(11) + ticks(12)) / per_second
    }

    /// Resident memory in bytes (proc(5)).
    ///
    /// # Panics
    ///
    /// If it is gone.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory that it ever had, in bytes (proc(5)).
    ///
    /// # Panics
    ///
    /// If it is gone.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status
            .lines()
            .find(|line| line.starts_with(field))
            .expect("proc(5)");
        let kib: u64 = line
            .split_whitespace()
            .nth(1)
            .and_then(|n| n.parse().ok())
            .expect("a number");
        kib * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(pid(self.child.id()), Signal::SIGTERM);
            for _look in 0..60 {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                pause(Duration::from_millis(50));
            }
            self.kill9();
        }
    }
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).expect("process ids are small"))
}

/// The program `name` of this workspace, built in the profile of this test.
///
/// # Panics
///
/// If it was not built: `cargo build --workspace --bins` first.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let folder = test
        .parent()
        .and_then(|deps| deps.parent())
        .expect("target/PROFILE/deps");
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is missing: cargo build --workspace --bins",
        path.display()
    );
    path
}

/// Whether a program called `name` can be run here.
#[must_use]
pub fn tool(name: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {name}")])
        .stdout(Stdio::null())
        .status();
    matches!(found, Ok(status) if status.success())
}

/// Whether this runs as root.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Runs `command` to its end and returns its standard output.
///
/// # Errors
///
/// With its standard error, if it fails.
pub(crate) fn output_of(mut command: Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(io::Error::other(
        String::from_utf8_lossy(&output.stderr).into_owned(),
    ))
}
