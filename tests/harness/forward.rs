//! A way from outside into a namespace's TCP, over a socket in the file system:
//! those are seen from every network.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::namespace::Namespace;
use crate::process::Process;
use crate::wait::eventually_true;

/// Takes connections on the Unix socket and passes each on to the TCP port.
const FORWARD: &str = "
import socket, sys, threading
def copy(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(512)
while True:
    here, _ = listener.accept()
    try:
        there = socket.create_connection(('127.0.0.1', int(sys.argv[2])))
    except OSError:
        here.close()
        continue
    for pair in ((here, there), (there, here)):
        threading.Thread(target=copy, args=pair, daemon=True).start()
";

/// A running forward.
#[derive(Debug)]
pub struct Forward {
    _process: Process,
    path: PathBuf,
}

impl Forward {
    /// To `port` of the loopback of `namespace`.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn start(folder: &Path, namespace: &Namespace, port: u16) -> Forward {
        let path = folder.join("forward.sock");
        let mut command = namespace.command("python3");
        command
            .args(["-c", FORWARD])
            .arg(&path)
            .arg(port.to_string())
            .stderr(Stdio::null());
        let process = Process::start(command);
        eventually_true(20, "a forward", || path.exists());
        Forward {
            _process: process,
            path,
        }
    }

    /// Where it takes connections.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
