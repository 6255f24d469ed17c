//! Faults on command: lines over a Unix stream socket.
//!
//! A line is answered by `ok` or by `error: …`; `list`, `interfaces` and `help`
//! have their lines before the `ok`. The socket is for its owner alone.

use std::fs::{self, Permissions};
use std::io;
use std::io::{BufRead, BufReader as BlockingReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::fault::{Fault, FaultError, FaultWordsError};
use crate::site::{SimulatedDevice, Site};

/// The longest line; the longest command has a device and an interface.
const LINE_BYTES: usize = 1_024;

/// Clients at once. One person and a few scripts.
const CLIENTS: usize = 16;

/// A client that says nothing for so long is gone.
const IDLE: Duration = Duration::from_secs(600);

/// How long the client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

const HELP: &str = "\
down DEVICE | up DEVICE             answers nothing | answers again
silent DEVICE                       answers ICMP only
slow DEVICE 500ms                   answers later
lossy DEVICE 20%                    loses answers
reboot DEVICE [20s] [reindex]       restarts, after being away, with other ifIndexes
wrap DEVICE [32|64]                 octet counters wrap in 15 s
clear-counters DEVICE INTERFACE     the interface's counters begin again
reindex DEVICE                      every interface gets another's ifIndex
too-big DEVICE VARBINDS             tooBig above so many varbinds
garbage | truncated | wrong-id | not-increasing | endless | no-hc DEVICE
community DEVICE WORD               answers this community only
if-down | if-up DEVICE INTERFACE
clear DEVICE                        ends every standing fault
list | interfaces DEVICE | help";

/// Why a command was not obeyed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The words are wrong.
    #[error(transparent)]
    Words(#[from] FaultWordsError),
    /// The device cannot have that.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// Something is missing or too much.
    #[error("expected `{0}`; `help` lists the commands")]
    Usage(&'static str),
}

/// Does what one line says and returns the lines to show before `ok`.
///
/// # Errors
///
/// [`ControlError`] says what is wrong with it; nothing was changed then.
pub fn obey(site: &Site, line: &str) -> Result<Vec<String>, ControlError> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        [] => Err(ControlError::Usage("COMMAND DEVICE …")),
        ["help"] => Ok(HELP.lines().map(str::to_owned).collect()),
        ["list"] => Ok(site
            .devices()
            .iter()
            .map(|device| listed(site, device))
            .collect()),
        [_alone] => Err(ControlError::Usage("COMMAND DEVICE …")),
        [word, device, arguments @ ..] => {
            let found = site.device(device);
            let found = found.ok_or_else(|| FaultError::NoSuchDevice(shortened(device)))?;
            let address = found.address.ip();
            match (*word, arguments) {
                ("interfaces", []) => return Ok(site.interfaces(address)?),
                ("up", []) => site.up(address)?,
                ("clear", []) => site.clear(address)?,
                ("interfaces", _) => return Err(ControlError::Usage("interfaces DEVICE")),
                ("up", _) => return Err(ControlError::Usage("up DEVICE")),
                ("clear", _) => return Err(ControlError::Usage("clear DEVICE")),
                _ => site.fault(address, Fault::from_words(word, arguments)?)?,
            }
            info!(device = found.name, command = line.trim(), "obeyed");
            Ok(Vec::new())
        }
    }
}

fn shortened(word: &str) -> String {
    word.chars().take(80).collect()
}

fn listed(site: &Site, device: &SimulatedDevice) -> String {
    let condition = site.condition(device.address.ip());
    let condition = condition.unwrap_or_else(|error| error.to_string());
    format!("{} {} {condition}", device.name, device.address)
}

/// The socket; removed when dropped.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    listener: UnixListener,
}

impl Control {
    /// Opens the socket at `path`. A socket that nobody listens on any more is
    /// replaced. Needs a Tokio runtime.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AddrInUse`] if another simulation listens there or
    /// `path` is something else than a socket.
    pub fn open(path: &Path) -> io::Result<Control> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(path) => {
                fs::remove_file(path)?;
                UnixListener::bind(path)?
            }
            bound => bound?,
        };
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(Control {
            path: path.to_owned(),
            listener,
        })
    }

    /// Obeys clients until dropped.
    pub async fn serve(&self, site: Arc<Site>) {
        let clients = Arc::new(Semaphore::new(CLIENTS));
        loop {
            let Ok(place) = Arc::clone(&clients).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let site = Arc::clone(&site);
                    tokio::spawn(async move {
                        let _place = place;
                        if let Err(error) = converse(stream, &site).await {
                            warn!(%error, "a control connection broke");
                        }
                    });
                }
                Err(error) => {
                    warn!(%error, "no control connection accepted");
                    // out of file descriptors: ours come back, others' may
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether `path` is a socket that nobody listens on.
fn is_left_over(path: &Path) -> bool {
    let refused = BlockingStream::connect(path).err();
    refused.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

async fn converse(stream: UnixStream, site: &Site) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut stream).take(LINE_BYTES as u64);
        let Ok(read) = timeout(IDLE, limited.read_until(b'\n', &mut line)).await else {
            return Ok(());
        };
        if read? == 0 {
            return Ok(());
        }
        let whole = line.ends_with(b"\n");
        let answer = if whole || line.len() < LINE_BYTES {
            reply(site, &String::from_utf8_lossy(&line))
        } else {
            format!("error: a line has at most {LINE_BYTES} bytes\n")
        };
        stream.write_all(answer.as_bytes()).await?;
        if !whole {
            return Ok(());
        }
    }
}

fn reply(site: &Site, line: &str) -> String {
    match obey(site, line) {
        Ok(lines) => {
            let mut reply = String::new();
            for line in lines {
                reply.push_str(&line);
                reply.push('\n');
            }
            reply + "ok\n"
        }
        Err(error) => format!("error: {error}\n"),
    }
}

/// Sends one command to the simulation behind `path` and returns what it
/// answered: the lines before `ok`, or what stands behind `error: `. Blocks for
/// at most ten seconds.
///
/// # Errors
///
/// If nobody listens there or the answer does not come.
pub fn ask(path: &Path, command: &str) -> io::Result<Result<Vec<String>, String>> {
    let mut stream = BlockingStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{}\n", command.replace('\n', " ")).as_bytes())?;
    let mut lines = Vec::new();
    for line in BlockingReader::new(stream).lines() {
        let line = line?;
        if line == "ok" {
            return Ok(Ok(lines));
        }
        if let Some(error) = line.strip_prefix("error: ") {
            return Ok(Err(error.to_owned()));
        }
        lines.push(line);
    }
    Err(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the simulation hung up before it answered",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;
    use crate::site::{Plan, SiteOptions};

    fn site() -> Site {
        Site::start(SiteOptions {
            plan: Plan::Company { devices: 20 },
            network: "127.31.0.0/24".parse::<Network>().unwrap(),
            ..SiteOptions::default()
        })
        .unwrap()
    }

    #[test]
    fn commands_are_obeyed_and_listed() {
        let site = site();
        for command in [
            "down sw-berlin-03",
            "slow 127.31.0.1 500ms",
            "if-down core-2 Gi0/1/1",
        ] {
            assert_eq!(obey(&site, command), Ok(Vec::new()), "{command}");
        }
        let list = obey(&site, "list").unwrap();
        assert_eq!(list.len(), 20);
        assert!(list[0].starts_with("core-1 127.31.0.1:") && list[0].ends_with(" slow 500ms"));
        assert!(list[1].ends_with(" if-down (1)"), "{}", list[1]);
        assert!(
            list.iter()
                .any(|line| line.starts_with("sw-berlin-03 ") && line.ends_with(" down"))
        );

        for command in ["up sw-berlin-03", "clear core-1", "clear core-2"] {
            assert_eq!(obey(&site, command), Ok(Vec::new()), "{command}");
        }
        let list = obey(&site, "list").unwrap();
        assert!(list.iter().all(|line| line.ends_with(" ok")), "{list:#?}");
    }

    #[test]
    fn a_wrong_command_is_answered_with_what_is_wrong() {
        let site = site();
        for (command, message) in [
            (
                "down",
                "expected `COMMAND DEVICE …`; `help` lists the commands",
            ),
            (
                "down sw-99",
                "no simulated device is called \"sw-99\"; `list` names them all",
            ),
            ("slow core-1", "expected `slow DEVICE 500ms`"),
            (
                "slow core-1 90m",
                "no device is slower or away for longer than an hour",
            ),
            (
                "up core-1 now",
                "expected `up DEVICE`; `help` lists the commands",
            ),
            (
                "if-down core-1 eth0",
                "core-1 has no interface called \"eth0\"; it has fxp0, lo0, et-0/0/0, et-0/0/1, et-0/0/2, et-0/0/3, xe-0/1/0, xe-0/1/1, and 6 more",
            ),
        ] {
            assert_eq!(obey(&site, command).unwrap_err().to_string(), message);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn clients_are_answered_over_the_socket_and_it_is_removed_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let control = Control::open(&path).unwrap();
        assert!(
            Control::open(&path).is_err(),
            "two simulations on one socket"
        );
        let site = Arc::new(site());
        let serving = tokio::spawn(async move { control.serve(site).await });

        let client = path.clone();
        let answers = tokio::task::spawn_blocking(move || {
            let long = "x".repeat(5_000);
            ["down core-1", "down core-9", &long].map(|command| ask(&client, command).unwrap())
        });
        let [good, bad, long] = answers.await.unwrap();
        assert_eq!(good, Ok(Vec::new()));
        assert!(bad.unwrap_err().contains("core-9"));
        assert_eq!(long, Err("a line has at most 1024 bytes".to_owned()));

        serving.abort();
        let _ = serving.await;
        assert!(!path.exists());
    }
}
