//! What this program does when it starts itself again inside a network
//! namespace: ask the simulated agents through a peer, and print one number.

use std::ffi::OsStr;
use std::io;
use std::net::TcpStream;
use std::process::{Command, ExitCode};
use std::time::Instant;

use harness::Namespace;

use crate::client;
use crate::fleet::number;
use crate::peers::{EXPORTER, cpu_of_children};
use crate::report::say;

/// The first word on the command line of such a start.
pub(crate) const WORD: &str = "inside";
/// Walks each target by two `snmpbulkwalk`; prints the ms of processor time for
/// one of them.
pub(crate) const WALK: &str = "walk";
/// Has the exporter ask each target; prints how many did.
pub(crate) const SCRAPE: &str = "scrape";

/// ifTable and ifXTable (RFC 2863).
const TABLES: [&str; 2] = ["1.3.6.1.2.1.2.2", "1.3.6.1.2.1.31.1.1"];

/// Both tables of a switch with 48 ports have well above this many instances:
/// a walk that ended early must not count as a quick one.
const INSTANCES: usize = 1_200;

/// Runs this program with `words` inside; the number that it prints.
///
/// # Panics
///
/// If it fails.
pub(crate) fn in_namespace(namespace: &Namespace, words: &[&OsStr]) -> f64 {
    let program = std::env::current_exe().expect("a running program has a path");
    let mut command = namespace.command(program);
    command.arg(WORD).args(words);
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}{errors}");
    said.trim().parse().expect("it prints a number")
}

/// What the command line asks for.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let result = match words {
        [what, file] => targets(file).and_then(|targets| match what.as_str() {
            WALK => walk(&targets),
            SCRAPE => scrape(&targets),
            _ => Err(io::Error::other(format!("{what}: unknown"))),
        }),
        _ => Err(io::Error::other("a word and a file are expected")),
    };
    match result {
        Ok(value) => {
            say(&value.to_string());
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// One `address:port` in each line.
fn targets(file: &str) -> io::Result<Vec<String>> {
    let text = std::fs::read_to_string(file)?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn walk(targets: &[String]) -> io::Result<f64> {
    let before = cpu_of_children();
    for target in targets {
        let mut instances = 0;
        for table in TABLES {
            let mut command = Command::new("snmpbulkwalk");
            command.args(["-v2c", "-c", "public", "-Cr25", target, table]);
            let output = command.output()?;
            instances += output.stdout.iter().filter(|byte| **byte == b'\n').count();
        }
        enough(target, instances)?;
    }
    Ok((cpu_of_children() - before) / number(targets.len()) * 1e3)
}

fn scrape(targets: &[String]) -> io::Result<f64> {
    for target in targets {
        let began = Instant::now();
        let stream = TcpStream::connect(EXPORTER)?;
        let path = format!("/snmp?module=if_mib&target={target}");
        let answer = client::exchange(stream, &path, began)?;
        let text = String::from_utf8_lossy(&answer.body);
        if answer.status != 200 {
            return Err(io::Error::other(format!("{target}: {text}")));
        }
        let samples = text.lines().filter(|line| !line.starts_with('#')).count();
        enough(target, samples)?;
    }
    Ok(number(targets.len()))
}

fn enough(target: &str, instances: usize) -> io::Result<()> {
    if instances >= INSTANCES {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{target}: only {instances} values"
    )))
}
