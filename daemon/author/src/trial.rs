//! Running a plugin's golden cases, here and now, with the limits that it has in
//! the daemon.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use contract::{Failure, Fault, LogLine, Reply, Usage};
use package::{CaseEnd, Golden, Manifest, Package, Problem};
use plugin::{Code, Load, Replay};
use similar::{ChangeTag, TextDiff};

use crate::Painter;

/// How the cases of a plugin went.
#[derive(Clone, Debug)]
pub struct Report {
    /// Each case.
    pub cases: Vec<CaseReport>,
    /// From the first look at the plugin to the end of the last case.
    pub took: Duration,
}

/// How one case went.
#[derive(Clone, Debug)]
pub struct CaseReport {
    /// The case's name.
    pub name: String,
    /// How each call ended.
    pub ends: Vec<CaseEnd>,
    /// What it came to, as it would be written.
    pub came: Vec<Result<Reply, Failure>>,
    /// What it logged.
    pub log: Vec<LogLine>,
    /// What it used, all calls together; of memory the most.
    pub usage: Usage,
    /// Its settings are wrong.
    pub problems: Vec<Problem>,
}

impl CaseReport {
    /// Whether all of it is as expected.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.is_empty() && self.ends.iter().all(|end| *end == CaseEnd::Passed)
    }

    /// Whether a call broke a rule or a limit, which nobody expects of a plugin.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        let mut came = self.came.iter();
        came.any(|came| matches!(came, Err(Failure::Fault(_))))
    }
}

impl Report {
    /// Whether all cases are as expected, and there is one.
    #[must_use]
    pub fn is_good(&self) -> bool {
        !self.cases.is_empty() && self.cases.iter().all(CaseReport::is_good)
    }
}

/// Loads the plugin and runs those of its cases that `wanted` accepts. Blocks.
///
/// # Errors
///
/// The plugin cannot be loaded, or does not say what it is.
pub fn run(package: &Package, wanted: &dyn Fn(&str) -> bool) -> Result<Report, Fault> {
    let began = Instant::now();
    let load = load_of(package)?;
    let plugin = plugin::load_here(&load)?;
    let cases = package.golden.iter().filter(|case| wanted(&case.name));
    let cases = cases.map(|case| one(&*plugin, &load, &package.manifest, case));
    Ok(Report {
        cases: cases.collect(),
        took: began.elapsed(),
    })
}

/// What a plugin says that it does. Blocks.
///
/// # Errors
///
/// It cannot be loaded, or does not say it.
pub fn described(package: &Package) -> Result<Reply, Failure> {
    let load = load_of(package)?;
    let plugin = plugin::load_here(&load)?;
    let replay = Replay {
        now: contract::Nanos::default(),
        call: contract::Call::Describe,
        settings: some_settings(package),
        host: Vec::new(),
    };
    plugin::replay_here(&*plugin, &load, replay).result
}

/// Settings that the plugin takes: its defaults, or, where something has to be
/// set, those of a case.
fn some_settings(package: &Package) -> contract::Settings {
    let none = BTreeMap::new();
    let cases = package.golden.iter().map(|case| &case.settings);
    let mut all = std::iter::once(&none).chain(cases);
    let good = all.find_map(|given| package.manifest.settings(given).ok());
    good.unwrap_or_default()
}

fn load_of(package: &Package) -> Result<Load, Fault> {
    let manifest = &package.manifest;
    let code = if manifest.is_script() {
        let source = String::from_utf8(package.code.clone()).map_err(|_| {
            let message = format!("{} is not UTF-8 text", manifest.main);
            Fault::new(contract::FaultClass::Load, message)
        })?;
        Code::Script {
            file: manifest.main.clone(),
            source: source.into(),
        }
    } else {
        Code::Component(package.code.clone().into())
    };
    Ok(Load {
        kind: manifest.kind,
        code,
        limits: manifest.limits.clone(),
        grants: Manifest::grants(&manifest.asks),
        settings: contract::Settings::default(),
        for_its_author: true,
    })
}

fn one(
    plugin: &dyn contract::Plugin,
    load: &Load,
    manifest: &Manifest,
    case: &Golden,
) -> CaseReport {
    let mut report = CaseReport {
        name: case.name.clone(),
        ends: Vec::new(),
        came: Vec::new(),
        log: Vec::new(),
        usage: Usage::default(),
        problems: Vec::new(),
    };
    let settings = match manifest.settings(&case.settings) {
        Ok(settings) => settings,
        Err(problems) => {
            report.problems = problems;
            return report;
        }
    };
    for (place, call) in case.calls.iter().enumerate() {
        let replay = Replay {
            now: call.now,
            call: call.call.clone(),
            settings: settings.clone(),
            host: case.host.clone(),
        };
        let ended = plugin::replay_here(plugin, load, replay);
        report.usage.cpu_ns += ended.usage.cpu_ns;
        report.usage.wall_ns += ended.usage.wall_ns;
        report.usage.memory = report.usage.memory.max(ended.usage.memory);
        report.log.extend(ended.log);
        report.ends.extend(case.judge(place, &ended.result));
        report.came.push(ended.result);
    }
    report
}

/// The case with what came as what is expected.
#[must_use]
pub fn bless(case: &Golden, report: &CaseReport) -> Golden {
    let mut blessed = case.clone();
    for (call, came) in blessed.calls.iter_mut().zip(&report.came) {
        call.expect = Some(came.clone());
    }
    blessed
}

/// Lines around a difference.
const CONTEXT: usize = 3;

/// What was expected and what came, line by line.
#[must_use]
pub fn difference(
    expected: &Result<Reply, Failure>,
    came: &Result<Reply, Failure>,
    painter: Painter,
) -> String {
    let json = |result: &Result<Reply, Failure>| {
        serde_json::to_string_pretty(result).unwrap_or_default() + "\n"
    };
    let (expected, came) = (json(expected), json(came));
    let diff = TextDiff::from_lines(&expected, &came);
    let mut text = String::new();
    for group in diff.grouped_ops(CONTEXT) {
        if !text.is_empty() {
            text.push_str(&painter.dim("  ...\n"));
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let line = change.value().trim_end_matches('\n');
            let line = match change.tag() {
                ChangeTag::Delete => painter.bad(&format!("- {line}")),
                ChangeTag::Insert => painter.good(&format!("+ {line}")),
                ChangeTag::Equal => painter.dim(&format!("  {line}")),
            };
            let _ = writeln!(text, "{line}");
        }
    }
    text
}
