//! Compiling, in a process of its own: a component can be made so that
//! compiling it takes for ever, or all memory.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use contract::limits::CODE_BYTES;
use contract::{Fault, FaultClass};
use nix::libc;
use serde::{Deserialize, Serialize};
use wasm::Compiling;

use crate::cache::COMPILED;
use crate::judge::cut_fault;
use crate::sandbox::{Rations, Sandbox};
use crate::system;

/// What compiling may use.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Rationed {
    /// Bytes of memory.
    pub memory: u64,
    /// Seconds of processor time.
    pub cpu_s: u64,
    /// Time.
    pub wall: Duration,
}

/// What compiling a component of the size that is allowed takes, many times.
pub(crate) const RATIONED: Rationed = Rationed {
    memory: 2 << 30,
    cpu_s: 60,
    wall: Duration::from_secs(120),
};

/// Bytes that are kept of what the compiler says when it dies.
const LAST_WORDS: u64 = 4 << 10;

#[derive(Debug, Serialize, Deserialize)]
struct Order<'a> {
    rationed: Rationed,
    for_its_author: bool,
    component: &'a [u8],
}

/// Compiles what stands on standard input onto standard output.
pub(crate) fn serve(compile: fn(&[u8], Compiling) -> Result<Vec<u8>, Fault>) -> ExitCode {
    // what the daemon cannot read it counts as a death
    let closed = system::close_all_from(3);
    let most = CODE_BYTES as u64 + 1024;
    let mut input = Vec::new();
    if io::stdin()
        .lock()
        .take(most)
        .read_to_end(&mut input)
        .is_err()
    {
        return ExitCode::FAILURE;
    }
    let Ok(order) = postcard::from_bytes::<Order<'_>>(&input) else {
        return ExitCode::FAILURE;
    };
    let mut sandbox = Sandbox::begin(Rations {
        memory: order.rationed.memory,
        cpu_s: Some(order.rationed.cpu_s),
    });
    sandbox.layer("closed descriptors", closed);
    // the host's own report names the same walls
    drop(sandbox.close());
    let how = Compiling {
        for_its_author: order.for_its_author,
    };
    let (word, bytes) = match compile(order.component, how) {
        Ok(code) => (0, code),
        Err(fault) => (1, postcard::to_stdvec(&fault).unwrap_or_default()),
    };
    let mut output = io::stdout().lock();
    let head = (bytes.len() as u64).to_le_bytes();
    let written = output
        .write_all(&head)
        .and_then(|()| output.write_all(&[word]))
        .and_then(|()| output.write_all(&bytes))
        .and_then(|()| output.flush());
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// A command that begins with nothing of ours.
pub(crate) fn bare(program: &Path, word: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.arg(word).env_clear().current_dir("/");
    command
}

/// Compiles a component; blocks until that is done or takes too much.
///
/// # Errors
///
/// Says what is wrong with the component, or which limit it broke.
pub(crate) fn compile(
    program: &Path,
    rationed: Rationed,
    component: &[u8],
    how: Compiling,
) -> Result<Vec<u8>, Fault> {
    let order = Order {
        rationed,
        for_its_author: how.for_its_author,
        component,
    };
    let order = postcard::to_stdvec(&order).map_err(|error| load(error.to_string()))?;
    let mut child = bare(program, "plugin-compile")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| load(format!("cannot start the compiler: {error}")))?;
    let ran = run(&mut child, order, rationed.wall);
    // it may have ended already
    let _ended = child.kill();
    let status = child.wait().map_err(|error| load(error.to_string()))?;
    match ran {
        Ran::Done(answer, words) => {
            read(&answer).unwrap_or_else(|| Err(died(status, &words, rationed)))
        }
        Ran::TooLong => Err(Fault::new(
            FaultClass::Time,
            format!(
                "compiling it takes more than {} s",
                rationed.wall.as_secs_f64()
            ),
        )),
    }
}

enum Ran {
    Done(Vec<u8>, String),
    TooLong,
}

fn run(child: &mut Child, order: Vec<u8>, wall: Duration) -> Ran {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (told, hear) = mpsc::sync_channel(1);
    thread::spawn(move || {
        // if it died early its last words say why
        let _early = stdin.map(|mut stdin| stdin.write_all(&order));
        let answer = read_all(stdout, COMPILED as u64 + 16);
        let words = read_all(stderr, LAST_WORDS);
        let words = String::from_utf8_lossy(&words).into_owned();
        // nobody waits any more
        let _late = told.send((answer, words));
    });
    match hear.recv_timeout(wall) {
        Ok((answer, words)) => Ran::Done(answer, words),
        Err(mpsc::RecvTimeoutError::Timeout) => Ran::TooLong,
        Err(mpsc::RecvTimeoutError::Disconnected) => Ran::Done(Vec::new(), String::new()),
    }
}

/// As much as there is, up to a limit.
pub(crate) fn read_all(from: Option<impl Read>, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // what came before the error is kept
        let _partly = from.take(limit).read_to_end(&mut bytes);
    }
    bytes
}

/// What the compiler said, if it said all.
fn read(answer: &[u8]) -> Option<Result<Vec<u8>, Fault>> {
    let (length, rest) = answer.split_first_chunk::<8>()?;
    let (word, bytes) = rest.split_first()?;
    if u64::from_le_bytes(*length) != bytes.len() as u64 {
        return None;
    }
    match word {
        0 => Some(Ok(bytes.to_vec())),
        1 => {
            let mut fault: Fault = postcard::from_bytes(bytes).ok()?;
            cut_fault(&mut fault);
            Some(Err(fault))
        }
        _ => None,
    }
}

fn died(status: ExitStatus, words: &str, rationed: Rationed) -> Fault {
    if status.signal() == Some(libc::SIGXCPU) {
        let seconds = rationed.cpu_s;
        let message = format!("compiling it takes more than {seconds} s of processor time");
        return Fault::new(FaultClass::Cpu, message);
    }
    if words.contains("memory allocation of") || words.contains("out of memory") {
        let mebibytes = rationed.memory >> 20;
        let message = format!("compiling it takes more than {mebibytes} MiB of memory");
        return Fault::new(FaultClass::Memory, message);
    }
    if words.contains("overflowed its stack") {
        return Fault::new(FaultClass::Stack, "it is too deeply nested to be compiled");
    }
    let last = words.lines().last().unwrap_or("it said nothing");
    load(format!("the compiler died ({status}): {last}"))
}

fn load(message: String) -> Fault {
    Fault::new(FaultClass::Load, message)
}
