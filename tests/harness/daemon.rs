//! The real `sotpd`, with everything it writes in a folder of its own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::certificates::{Identity, self_signed};
use crate::http::{Ask, Line, Response};
use crate::https::Client;
use crate::namespace::Namespace;
use crate::process::{Process, binary};
use crate::wait::eventually;

/// Where one daemon keeps its things; it outlives the daemon.
#[derive(Debug)]
pub struct Folder {
    folder: tempfile::TempDir,
    https: Option<(SocketAddr, Identity)>,
}

impl Folder {
    /// One with a wrapping key and without rules; the daemon is asked over its
    /// Unix socket alone.
    ///
    /// # Panics
    ///
    /// If the disk refuses.
    #[must_use]
    pub fn new() -> Folder {
        let folder = Folder {
            folder: tempfile::tempdir().expect("a temporary folder"),
            https: None,
        };
        let rules = folder.path().join("rules");
        std::fs::create_dir(&rules).expect("an empty folder");
        write_private(&folder.key(), &new_key());
        folder
    }

    /// The same, and the daemon listens for HTTPS on a free port of loopback.
    ///
    /// # Panics
    ///
    /// If the disk refuses.
    #[must_use]
    pub fn with_https() -> Folder {
        let folder = Folder::new();
        let identity = self_signed(&folder.path().join("tls"));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        Folder {
            https: Some((address, identity)),
            ..folder
        }
    }

    /// The key that wraps all secrets.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.path().join("kek")
    }

    /// The listener's certificate and key.
    ///
    /// # Panics
    ///
    /// Without HTTPS.
    #[must_use]
    pub fn tls(&self) -> &Identity {
        &self.listener().1
    }

    /// Where the daemon listens for HTTPS.
    ///
    /// # Panics
    ///
    /// Without HTTPS.
    #[must_use]
    pub fn https(&self) -> SocketAddr {
        self.listener().0
    }

    fn listener(&self) -> &(SocketAddr, Identity) {
        let https = self.https.as_ref();
        https.expect("this test began with Folder::with_https")
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

    /// Writes the settings: `more` after what a test needs anyway. `[store]`,
    /// `[api]` and `[secrets]` are taken; `store_more` goes into `[store]`.
    ///
    /// # Panics
    ///
    /// If the disk refuses.
    pub fn write_settings(&self, store_more: &str, more: &str) {
        self.write_all_settings(store_more, "", "", more);
    }

    /// The same with more in `[api]`.
    ///
    /// # Panics
    ///
    /// If the disk refuses.
    pub fn write_api_settings(&self, api_more: &str, more: &str) {
        self.write_all_settings("", api_more, "", more);
    }

    /// The same with more in each of the sections that are taken.
    ///
    /// # Panics
    ///
    /// If the disk refuses.
    pub fn write_all_settings(&self, store: &str, api: &str, secrets: &str, more: &str) {
        let here = self.path().display();
        let https = match &self.https {
            Some((address, identity)) => format!(
                "https = \"{address}\"\ncertificate = \"{}\"\nkey = \"{}\"",
                identity.certificate.display(),
                identity.key.display()
            ),
            None => "https = \"off\"".to_owned(),
        };
        let text = format!(
            "[store]\npath = \"{here}/sotp.redb\"\nballast = \"0B\"\n{store}\n\
             [api]\nsocket = \"{here}/sotp.sock\"\nlisten = \"\"\n{https}\n{api}\n\
             [secrets]\nkey_file = \"{here}/kek\"\n{secrets}\n\
             [rules]\ndir = \"{here}/rules\"\n{more}\n"
        );
        std::fs::write(self.settings(), text).expect("writable");
    }
}

/// Writes a file that only its owner may read.
///
/// # Panics
///
/// If the disk refuses.
pub fn write_private(path: &Path, text: &str) {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// A wrapping key as its file has it: 64 hexadecimal digits.
///
/// # Panics
///
/// Without random numbers.
#[must_use]
pub fn new_key() -> String {
    let mut bytes = [0; 32];
    let random = std::fs::File::open("/dev/urandom");
    let read = random.and_then(|mut file| file.read_exact(&mut bytes));
    read.expect("random numbers");
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    format!("{}\n", digits.collect::<String>())
}

/// Asks over the socket of a daemon, as a local process does.
///
/// # Errors
///
/// If the socket does not answer.
pub fn local(socket: &Path, ask: &Ask<'_>) -> std::io::Result<Response> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(40)))?;
    Line::new(stream).send(ask)
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .expect("loopback has free ports")
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
    https: Option<Client>,
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
            https: folder
                .https
                .as_ref()
                .map(|(address, identity)| Client::new(*address, &identity.certificate)),
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

    /// Asks it to read its settings and files again.
    pub fn reload(&self) {
        self.process.signal(Signal::SIGHUP);
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

    /// Somebody who asks over HTTPS and shows nothing to be let in.
    ///
    /// # Panics
    ///
    /// If the daemon does not listen for HTTPS.
    #[must_use]
    pub fn https(&self) -> &Client {
        let https = self.https.as_ref();
        https.expect("this test began with Folder::with_https")
    }

    /// Asks the API as a local process does.
    ///
    /// # Errors
    ///
    /// If the socket does not answer.
    pub fn send(&self, ask: &Ask<'_>) -> std::io::Result<Response> {
        local(&self.socket, ask)
    }

    /// The same with what most tests need; what is patched or deleted is so
    /// whatever revision it has.
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
        let mut ask = Ask::new(method, path);
        if matches!(method, "PATCH" | "DELETE") {
            ask = ask.header("If-Match", "*");
        }
        if let Some((kind, content)) = body {
            ask = ask.bytes(kind, content.to_vec());
        }
        self.send(&ask)
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
        response.expect(&format!("{method} {path}"))
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
