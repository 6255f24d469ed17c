//! A real SMTP server (aiosmtpd) that keeps what it is given.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::daemon::free_port;
use crate::namespace::Namespace;
use crate::process::Process;
use crate::wait::eventually_true;

/// The interpreter that Debian's python3-aiosmtpd belongs to.
const PYTHON: &str = "/usr/bin/python3";

/// A server and its mailbox.
#[derive(Debug)]
pub struct MailServer {
    _process: Process,
    port: u16,
    mailbox: Mailbox,
}

/// The mails that arrived.
#[derive(Clone, Debug)]
pub struct Mailbox(PathBuf);

impl MailServer {
    /// Starts one on loopback, in `namespace` if given. `None` where aiosmtpd is
    /// not installed: the caller says that it skipped.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn start(folder: &Path, namespace: Option<&Namespace>) -> Option<MailServer> {
        let installed = Command::new(PYTHON)
            .args(["-c", "import aiosmtpd"])
            .stderr(Stdio::null())
            .status();
        if !matches!(installed, Ok(status) if status.success()) {
            return None;
        }
        let port = match namespace {
            Some(_) => 2525,
            None => free_port(),
        };
        let mailbox = Mailbox(folder.join("mailbox"));
        let mut command = match namespace {
            Some(namespace) => namespace.command(PYTHON),
            None => Command::new(PYTHON),
        };
        command
            .args(["-m", "aiosmtpd", "-n", "-l", &format!("127.0.0.1:{port}")])
            .args(["-c", "aiosmtpd.handlers.Mailbox"])
            .arg(&mailbox.0)
            .stderr(Stdio::null());
        let process = Process::start(command);
        eventually_true(20, "a mail server", || match namespace {
            Some(namespace) => namespace
                .run("ss", &["-Hltn", "sport", "=", ":2525"])
                .is_some_and(|sockets| !sockets.is_empty()),
            None => std::net::TcpStream::connect(("127.0.0.1", port)).is_ok(),
        });
        Some(MailServer {
            _process: process,
            port,
            mailbox,
        })
    }

    /// Where it listens on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What arrived.
    #[must_use]
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }
}

impl Mailbox {
    /// Every mail as it came, in the order of arrival.
    #[must_use]
    pub fn mails(&self) -> Vec<String> {
        let folder = std::fs::read_dir(self.0.join("new"));
        let mut files: Vec<PathBuf> = folder
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .collect();
        files.sort_by_key(|path| {
            let changed = path.metadata().and_then(|metadata| metadata.modified());
            (changed.ok(), path.clone())
        });
        files
            .iter()
            .map(|path| {
                String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
            })
            .collect()
    }

    /// The subjects, in the order of arrival.
    #[must_use]
    pub fn subjects(&self) -> Vec<String> {
        self.mails()
            .iter()
            .map(|mail| header(mail, "Subject").unwrap_or_default())
            .collect()
    }
}

/// The value of a header, unfolded.
fn header(mail: &str, name: &str) -> Option<String> {
    let start = format!("{}:", name.to_lowercase());
    let mut lines = mail.lines();
    let first = lines.find(|line| line.to_lowercase().starts_with(&start))?;
    let mut value = first[start.len()..].trim().to_owned();
    for line in lines.take_while(|line| line.starts_with([' ', '\t'])) {
        value.push(' ');
        value.push_str(line.trim());
    }
    Some(value)
}
