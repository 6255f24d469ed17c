//! The real `sotpd`, with everything it writes in a folder of its own.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::namespace::Namespace;
use crate::process::{Process, binary};
use crate::wait::eventually;

/// Where one daemon keeps its things; it outlives the daemon.
#[derive(Debug)]
pub struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    /// An empty one with the shipped rules.
    ///
    /// # Panics
    ///
    /// If the disk refuses.
    #[must_use]
    pub fn new() -> Folder {
        let folder = Folder {
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        let rules = folder.path().join("rules");
        std::fs::create_dir(&rules).expect("an empty folder");
        folder
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The daemon's store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.path().join("sotp.redb")
    }

    /// The daemon's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path().join("sotp.sock")
    }

    /// The settings file.
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.path().join("sotp.toml")
    }

    /// Writes a file of rules.
    ///
    /// # Panics
    ///
    /// If the disk refuses.
    pub fn write_rules(&self, text: &str) {
        std::fs::write(self.path().join("rules/test.toml"), text).expect("writable");
    }

    /// Writes the settings: `more` after what a test needs anyway. `[store]` and
    /// `[api]` are taken; `store_more` goes into `[store]`.
    ///
    /// # Panics
    ///
    /// If the disk refuses.
    pub fn write_settings(&self, store_more: &str, more: &str) {
        let here = self.path().display();
        let text = format!(
            "[store]\npath = \"{here}/sotp.redb\"\nballast = \"0B\"\n{store_more}\n\
             [api]\nsocket = \"{here}/sotp.sock\"\nlisten = \"\"\n\
             [rules]\ndir = \"{here}/rules\"\n{more}\n"
        );
        std::fs::write(self.settings(), text).expect("writable");
    }
}

impl Default for Folder {
    fn default() -> Folder {
        Folder::new()
    }
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    socket: PathBuf,
    log: PathBuf,
}

/// What the API answered.
#[derive(Clone, Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The body, if it was JSON.
    pub body: Value,
}

impl Daemon {
    /// The command that starts it, to be changed by the test.
    #[must_use]
    pub fn command(folder: &Folder, namespace: Option<&Namespace>) -> Command {
        let program = binary("sotpd");
        let mut command = match namespace {
            Some(namespace) => namespace.command(program),
            None => Command::new(program),
        };
        command.arg("--config").arg(folder.settings());
        command
    }

    /// Starts it and waits until it answers.
    ///
    /// # Panics
    ///
    /// If it does not answer within 20 s.
    #[track_caller]
    #[must_use]
    pub fn start(folder: &Folder, namespace: Option<&Namespace>) -> Daemon {
        Daemon::start_command(folder, Daemon::command(folder, namespace))
    }

    /// Starts it by `command` and waits until it answers.
    ///
    /// # Panics
    ///
    /// If it does not answer within 20 s.
    #[track_caller]
    #[must_use]
    pub fn start_command(folder: &Folder, mut command: Command) -> Daemon {
        let log = folder.path().join("log");
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .expect("writable");
        command.stderr(file);
        let mut daemon = Daemon {
            process: Process::start(command),
            socket: folder.socket(),
            log,
        };
        eventually(20, "an answer of sotpd", || {
            if let Some(status) = daemon.process.ended() {
                panic!("sotpd ended ({status}):\n{}", daemon.log());
            }
            match daemon.try_request("GET", "/health/live", None) {
                Ok(response) if response.status == 200 => Ok(()),
                seen => Err(seen.map(|response| response.status)),
            }
        });
        daemon
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The running program.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Kills it as a power cut would.
    pub fn kill9(mut self) {
        self.process.kill9();
    }

    /// Asks it to stop and waits for the end.
    ///
    /// # Panics
    ///
    /// If it does not end within 40 s.
    #[track_caller]
    pub fn stop(mut self) -> ExitStatus {
        self.process.signal(Signal::SIGTERM);
        self.process.wait(40)
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[track_caller]
    pub fn ended(&mut self, seconds: u64) -> ExitStatus {
        self.process.wait(seconds)
    }

    /// Asks the API.
    ///
    /// # Errors
    ///
    /// If the socket does not answer.
    pub fn try_request(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, &[u8])>,
    ) -> std::io::Result<Response> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(40)))?;
        let (kind, content) = body.unwrap_or(("application/json", b""));
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            content.len()
        )?;
        stream.write_all(content)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let text = String::from_utf8_lossy(&answer);
        let status = text
            .split_whitespace()
            .nth(1)
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| std::io::Error::other("no HTTP status"))?;
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let body = serde_json::from_str(body).unwrap_or_else(|_| json!(body));
        Ok(Response { status, body })
    }

    /// Asks the API and expects a yes.
    ///
    /// # Panics
    ///
    /// If the answer is anything else.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let content = body.map(ToString::to_string);
        let body = content
            .as_ref()
            .map(|text| ("application/json", text.as_bytes()));
        let response = self
            .try_request(method, path, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log()));
        assert!(
            (200..300).contains(&response.status),
            "{method} {path}: {} {}",
            response.status,
            response.body
        );
        response.body
    }

    /// `GET path`.
    ///
    /// # Panics
    ///
    /// If the answer is not a yes.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.ask("GET", path, None)
    }

    /// Enters a device.
    ///
    /// # Panics
    ///
    /// If it is refused.
    #[track_caller]
    pub fn add(&self, device: &Value) -> Value {
        self.ask("POST", "/api/v1/devices", Some(device))
    }

    /// The word for how a device is.
    ///
    /// # Panics
    ///
    /// If there is no such device.
    #[track_caller]
    #[must_use]
    pub fn state(&self, device: &str) -> String {
        let device = self.get(&format!("/api/v1/devices/{device}"));
        device["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a device is in `state`.
    ///
    /// # Panics
    ///
    /// When time runs out.
    #[track_caller]
    pub fn until_state(&self, seconds: u64, device: &str, state: &str) {
        eventually(seconds, &format!("{device} {state}"), || {
            let device = self.get(&format!("/api/v1/devices/{device}"));
            if device["state"] == state {
                Ok(())
            } else {
                Err(device)
            }
        });
    }

    /// Alerts in these states, as `device: rule` in order.
    ///
    /// # Panics
    ///
    /// If the API does not answer.
    #[track_caller]
    #[must_use]
    pub fn alerts(&self, states: &str) -> Vec<String> {
        let page = self.get(&format!("/api/v1/alerts?state={states}&limit=1000"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut alerts: Vec<String> = page["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|alert| {
                format!(
                    "{}: {}",
                    text(&alert["device"]["name"]),
                    text(&alert["rule"])
                )
            })
            .collect();
        alerts.sort();
        alerts
    }
}
