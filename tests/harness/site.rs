//! Simulated devices in a process of their own.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::namespace::Namespace;
use crate::process::{Process, binary, output_of};
use crate::wait::eventually;

/// A running simulation.
#[derive(Debug)]
pub struct Site {
    process: Process,
    control: PathBuf,
    what: Vec<String>,
}

impl Site {
    /// Starts one with the options `what` (such as `--devices 50`); in
    /// `namespace`, if given, it answers ICMP as well.
    ///
    /// # Panics
    ///
    /// If it is not ready within 20 s.
    #[must_use]
    pub fn start(folder: &std::path::Path, namespace: Option<&Namespace>, what: &[&str]) -> Site {
        let control = folder.join("simulate.sock");
        let mut command = match namespace {
            Some(namespace) => {
                namespace.silence_kernel();
                let mut command = namespace.command(binary("simulate"));
                command.arg("--icmp");
                command
            }
            None => Command::new(binary("simulate")),
        };
        command
            .args(what)
            .arg("--control")
            .arg(&control)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let site = Site {
            process: Process::start(command),
            control,
            what: what.iter().map(ToString::to_string).collect(),
        };
        eventually(20, "a simulation", || site.try_control("list"));
        site
    }

    /// Its inventory as CSV, with the credential `credential`.
    ///
    /// # Panics
    ///
    /// If the simulator refuses.
    #[must_use]
    pub fn csv(&self, credential: &str) -> String {
        let mut command = Command::new(binary("simulate"));
        command
            .arg("site")
            .args(&self.what)
            .args(["--credential", credential]);
        output_of(command).expect("the simulator knows its site")
    }

    /// Passes a command, such as `down sw-berlin-03`.
    ///
    /// # Panics
    ///
    /// If it is refused.
    #[track_caller]
    pub fn control(&self, words: &str) {
        self.try_control(words)
            .unwrap_or_else(|error| panic!("{words}: {error}"));
    }

    fn try_control(&self, words: &str) -> Result<String, String> {
        let mut command = Command::new(binary("simulate"));
        command
            .arg("ctl")
            .arg("--control")
            .arg(&self.control)
            .args(words.split_whitespace());
        output_of(command).map_err(|error| error.to_string())
    }

    /// The running program.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}
