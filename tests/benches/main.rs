//! `make bench`: the product beside its peers, on real sockets, in a release
//! build.
//!
//! Each part starts the real `sotpd` in a network namespace of its own, so the
//! load stays on loopback and ends with the part. A peer is measured in the same
//! run, on the same targets. Processor time is what counts: on a shared machine
//! it moves least. The load average stands beside each value.
//!
//! `cargo bench -p tests --bench product` runs all parts, `… -- icmp snmp` only
//! those that are named. A value that falls short of its bar is reported as it
//! is; a value that could not be measured makes the run fail.

mod access;
mod api;
mod asked;
mod client;
mod day;
mod fleet;
mod history;
mod icmp;
mod inside;
mod million;
mod mix;
mod peers;
mod plugin;
mod quarter;
mod report;
mod restart;
mod rivals;
mod samples;
mod scrape;
mod snmp;
mod whole_box;
mod window;
mod wire;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use report::Report;

/// A part of the run: its name and what it does.
type Part = (&'static str, fn(&mut Report));

const PARTS: [Part; 9] = [
    ("access", access::run),
    ("icmp", icmp::run),
    ("snmp", snmp::run),
    ("restart", restart::run),
    ("plugin", plugin::run),
    ("samples", history::run),
    ("samples.90d", quarter::run),
    ("samples.1M", million::run),
    ("samples.box", whole_box::run),
];

fn main() -> ExitCode {
    // cargo adds --bench
    let words = std::env::args().skip(1).filter(|word| word != "--bench");
    let words: Vec<String> = words.collect();
    if let [first, rest @ ..] = words.as_slice()
        && first == inside::WORD
    {
        return inside::run(rest);
    }
    if let [first, rest @ ..] = words.as_slice()
        && first == million::WORD
    {
        return million::inside(rest);
    }
    match chosen(&words) {
        Ok(parts) => run(&parts),
        Err(unknown) => {
            let known = PARTS.map(|(name, _)| name).join(", ");
            report::say(&format!("no part is called {unknown:?}: there are {known}"));
            ExitCode::FAILURE
        }
    }
}

/// The parts that `words` name; all of them without a word.
fn chosen(words: &[String]) -> Result<Vec<Part>, &String> {
    let find = |word| {
        let part = PARTS.into_iter().find(|(name, _)| name == word);
        part.ok_or(word)
    };
    match words {
        [] => Ok(PARTS.to_vec()),
        words => words.iter().map(find).collect(),
    }
}

fn run(parts: &[Part]) -> ExitCode {
    let mut report = Report::default();
    for (name, part) in parts {
        report::say(&format!("== {name}"));
        report.load(None);
        // a part that fails says why by its panic; the others still run
        if catch_unwind(AssertUnwindSafe(|| part(&mut report))).is_err() {
            report.could_not(name);
        }
    }
    report.print();
    match report.write() {
        Ok(path) => report::say(&format!("written to {}", path.display())),
        Err(error) => {
            report::say(&format!("cannot write bench.json: {error}"));
            return ExitCode::FAILURE;
        }
    }
    if report.is_complete() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
