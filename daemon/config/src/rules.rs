//! Rules files: what counts as a fault.
//!
//! A directory of TOML files, each with any number of `[[rule]]`:
//!
//! ```toml
//! [[rule]]
//! name = "cpu-busy"               # unique among all files; as "acme/cpu-busy"
//!                                 # it judges devices of the tenant acme alone
//! severity = "warning"            # info, warning or critical
//! enabled = true                  # the default
//! note = "see the runbook"        # optional: told together with the fault
//! [rule.match]                    # optional: which devices; without it, all
//! devices = ["core1"]             # one of these names, and
//! sites = ["berlin"]              # at one of these sites, and
//! kinds = ["router", "switch"]    # of one of these kinds, and
//! tags = ["backbone"]             # with at least one of these tags
//! [rule.threshold]                # either this ...
//! metric = "cpu_usage_ratio"      # a counter is judged by its rate per second
//! labels = { ifName = "ge-0/0/0" } # optional: only series with all of these
//! above = 0.9                     # or at_least, below, at_most, equals, not_equals
//! for = "5m"                      # optional: that long without a break
//! clear = 0.8                     # optional: over only once it is back at this
//! # [rule.availability]           # ... or this
//! # check = "icmp"                # icmp or snmp
//! # rounds = 3                    # that many in a row; or for = "90s"
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{
    BUILT_IN_METRICS, Check, Comparison, Condition, DeviceKind, DownAfter, MetricInfo, Rule,
    RuleName, RuleSource, Selector, Severity, metric_info,
};
use toml::Spanned;
use toml::de::DeValue;

use crate::access::qualified_name;
use crate::kinds::{Kind, Wrong, count, flag, line, list, name, number, shown, span, word};
use crate::problem::{Mistake, Place, Problem, Problems, did_you_mean};
use crate::source::Source;
use crate::table::{Below, COUNTED_PROBLEMS, Findings, TableReader, capped};

/// More files than this are no longer written by hand: it is the wrong
/// directory.
const FILES: usize = 1_000;

/// Every rule is judged for every device it selects, at every poll.
const RULES: usize = 10_000;

/// A note is a line or two in a mail.
const NOTE_BYTES: usize = 1_000;

/// One rule with more names than this wants a tag instead.
const NAMES: usize = 1_000;

/// A series has a handful of labels.
const LABELS: usize = 16;

/// The longest value of a label: an ifAlias has 64 characters (RFC 2863), an
/// ifDescr 255 (RFC 1213).
const LABEL_BYTES: usize = 255;

const SECOND: Duration = Duration::from_secs(1);
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// Reads every file in `directory` whose name ends in `.toml`, in the order of
/// the names; hidden files and directories below are left alone. Blocks.
///
/// A rule's `updated` is when its file was last changed.
///
/// # Errors
///
/// Every problem of all files, in the order of the files and the lines in them;
/// past a thousand they are only counted, past some thousands no longer looked
/// for.
pub fn read_rules(directory: &Path) -> Result<Vec<Rule>, Problems> {
    let files = match rules_files(directory) {
        Ok(files) => files,
        Err(problem) => return Err(Problems(vec![problem])),
    };
    let mut collected = Collected::default();
    for file in &files {
        if collected.problems.len() < COUNTED_PROBLEMS {
            collected.take_file(file);
        }
    }
    if collected.problems.is_empty() {
        Ok(collected.rules)
    } else {
        Err(Problems(capped(collected.problems)))
    }
}

fn rules_files(directory: &Path) -> Result<Vec<PathBuf>, Problem> {
    let refused = |error: &io::Error| unreadable(directory, error);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| refused(&error))? {
        let path = entry.map_err(|error| refused(&error))?.path();
        if is_rules_file(&path) {
            files.push(path);
        }
        if files.len() > FILES {
            let message = format!("has more than {FILES} rules files");
            return Err(Problem::of_file(
                directory,
                message,
                "a file may hold many rules; is this the right directory?",
            ));
        }
    }
    files.sort();
    Ok(files)
}

fn is_rules_file(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.ends_with(b".toml") && !name.starts_with(b".")
}

fn unreadable(directory: &Path, error: &io::Error) -> Problem {
    let (message, hint) = match error.kind() {
        io::ErrorKind::NotFound => (
            "there is no such directory".to_owned(),
            "create it, or change dir in section [rules]; an empty one will do",
        ),
        io::ErrorKind::NotADirectory => (
            "is no directory".to_owned(),
            "dir in section [rules] names the directory, not a file in it",
        ),
        io::ErrorKind::PermissionDenied => (
            "may not be read".to_owned(),
            "let the group sotp read it: chgrp sotp, chmod 750",
        ),
        _ => (
            format!("cannot be read: {error}"),
            "look at the file system it lies on",
        ),
    };
    Problem::of_file(directory, message, hint)
}

/// Rules and problems of all files so far.
#[derive(Default)]
struct Collected {
    rules: Vec<Rule>,
    problems: Vec<Problem>,
    /// Where the first rule of each name stands.
    names: BTreeMap<String, (PathBuf, Place)>,
    seen: usize,
}

impl Collected {
    fn take_file(&mut self, file: &Path) {
        match Source::open(file) {
            Ok(source) => self.take_source(&source),
            Err(problem) => self.problems.push(problem),
        }
    }

    fn take_source(&mut self, source: &Source) {
        let mut findings = Findings::default();
        if let Some(table) = source.parse(&mut findings) {
            let mut root = TableReader::new(Some(&table), 0, String::new(), &mut findings);
            root.ask("rule");
            if let Some((at, value)) = root.entry("rule") {
                self.take_rules(source, at, value, root.findings);
            }
            root.finish(|_| Some("a rules file has nothing but [[rule]]".to_owned()));
        }
        self.problems.extend(findings.into_problems(source));
    }

    fn take_rules(
        &mut self,
        source: &Source,
        at: usize,
        value: &Spanned<DeValue<'_>>,
        findings: &mut Findings,
    ) {
        let Some(elements) = value.get_ref().as_array() else {
            let mistake = Mistake::new(
                "there may be many rules",
                "open each as [[rule]], with two brackets on either side",
            );
            findings.note(at, "rule", mistake);
            return;
        };
        for (nth, element) in elements.iter().enumerate() {
            self.seen += 1;
            if self.seen == RULES + 1 {
                let message = format!("these are more than {RULES} rules in all");
                let hint = "one rule can judge many devices: see [rule.match]";
                findings.note(element.span().start, "rule", Mistake::new(message, hint));
            }
            if self.seen <= RULES {
                self.take_rule(source, nth + 1, element, findings);
            }
        }
    }

    fn take_rule(
        &mut self,
        source: &Source,
        nth: usize,
        element: &Spanned<DeValue<'_>>,
        findings: &mut Findings,
    ) {
        let at = element.span().start;
        let Some(table) = element.get_ref().as_table() else {
            let message = format!("{} is no rule", shown(element.get_ref()));
            findings.note(at, "rule", Mistake::new(message, "open each as [[rule]]"));
            return;
        };
        let complaints = findings.count();
        let prefix = format!("rule {nth}, ");
        let mut reader = TableReader::new(Some(table), at, prefix, &mut *findings);
        let rule = read_rule(&mut reader, source);
        self.claim_name(&rule.name, source, &mut reader);
        reader.finish(|_| None);
        if findings.count() == complaints {
            self.rules.push(rule);
        }
    }

    /// Notes a rule whose name another has; of whatever files both are.
    fn claim_name(&mut self, name: &RuleName, source: &Source, reader: &mut TableReader<'_, '_>) {
        if name.0.is_empty() {
            return;
        }
        let place = source.place(reader.place_of("name"));
        if let Some((file, first)) = self.names.get(&name.0) {
            let message = format!("another rule has this name: {}:{first}", file.display());
            reader.complain(
                "name",
                Mistake::new(message, "give one of them another name"),
            );
            return;
        }
        self.names
            .insert(name.0.clone(), (source.file.clone(), place));
    }
}

/// The rule in `reader`'s table; not to be used if there are new complaints.
fn read_rule(reader: &mut TableReader<'_, '_>, source: &Source) -> Rule {
    let name = reader.required("name", &qualified_name("a name"));
    if !name.is_empty() {
        reader.rename(format!("rule {name:?}, "));
    }
    Rule {
        name: RuleName(name),
        severity: reader
            .required("severity", &severity())
            .unwrap_or(Severity::Warning),
        enabled: reader.optional("enabled", &flag()).unwrap_or(true),
        note: reader.optional("note", &line("a line of text", NOTE_BYTES)),
        selector: read_selector(reader),
        condition: read_condition(reader),
        source: RuleSource::File(source.file.display().to_string()),
        updated: source.changed,
        revision: 1,
    }
}

/// `None` stands for one that cannot be read.
fn severity() -> impl Kind<Value = Option<Severity>> {
    let known = [Severity::Info, Severity::Warning, Severity::Critical];
    word(known.map(|severity| (severity.word(), severity)).to_vec()).or_none()
}

fn read_selector(reader: &mut TableReader<'_, '_>) -> Selector {
    let Below::Table(mut table) = reader.below("match", "[rule.match]") else {
        return Selector::default();
    };
    let selector = Selector {
        devices: names(&mut table, "devices"),
        sites: names(&mut table, "sites"),
        kinds: kinds(&mut table),
        tags: names(&mut table, "tags"),
    };
    table.finish(|_| None);
    selector
}

/// An empty list would be no limit at all, which is not what it looks like.
const EMPTY_LIST: &str = "leave the key out to select all; many names are better told by a tag";

fn names(table: &mut TableReader<'_, '_>, key: &'static str) -> BTreeSet<String> {
    let names = table.optional(key, &list(name("names"), 1..=NAMES, EMPTY_LIST));
    names.unwrap_or_default().into_iter().collect()
}

fn kinds(table: &mut TableReader<'_, '_>) -> BTreeSet<DeviceKind> {
    let known = DeviceKind::ALL.map(|(kind, word)| (word, kind));
    let kinds = table.optional("kinds", &list(word(known.to_vec()), 1..=NAMES, EMPTY_LIST));
    kinds.unwrap_or_default().into_iter().collect()
}

/// What stands for a condition that cannot be read.
const NO_CONDITION: Condition = Condition::Availability {
    check: Check::Icmp,
    after: DownAfter::Rounds(1),
};

fn read_condition(reader: &mut TableReader<'_, '_>) -> Condition {
    let one_of_two = "one of [rule.availability] and [rule.threshold]";
    match (reader.has("availability"), reader.has("threshold")) {
        (true, true) => {
            let mistake = Mistake::new(
                "there is an availability, too",
                format!("keep {one_of_two}; two rules can have the same match"),
            );
            reader.complain("threshold", mistake);
        }
        (false, false) => {
            let mistake = Mistake::new("says nowhere what a fault is", format!("add {one_of_two}"));
            reader.complain_of_all(mistake);
        }
        _ => {}
    }
    // both are read, if both are there: all mistakes at once
    let availability = match reader.below("availability", "[rule.availability]") {
        Below::Table(table) => Some(read_availability(table)),
        Below::Absent | Below::Broken => None,
    };
    let threshold = match reader.below("threshold", "[rule.threshold]") {
        Below::Table(table) => Some(read_threshold(table)),
        Below::Absent | Below::Broken => None,
    };
    availability.or(threshold).unwrap_or(NO_CONDITION)
}

fn read_availability(mut table: TableReader<'_, '_>) -> Condition {
    let checks = Check::ALL.map(|check| (check.word(), check));
    let check = table.required("check", &word(checks.to_vec()).or_none());
    let rounds = table.optional(
        "rounds",
        &count::<u32>(
            1..=1_000,
            "a fault takes at least one silent round; use for instead of more",
        ),
    );
    let span = table.optional(
        "for",
        &span(
            SECOND..=WEEK,
            "rounds = 1 tells at once; whatever is silent for a week is gone",
        ),
    );
    match (rounds, span) {
        (None, None) => table.complain_of_all(Mistake::new(
            "says nowhere how long a device has to be silent",
            "add rounds = 3, or for = \"90s\"",
        )),
        (Some(_), Some(_)) => table.complain(
            "for",
            Mistake::new("there is rounds, too", "keep one of rounds and for"),
        ),
        _ => {}
    }
    table.finish(|_| None);
    Condition::Availability {
        check: check.unwrap_or(Check::Icmp),
        after: span.map_or(DownAfter::Rounds(rounds.unwrap_or(1)), DownAfter::Span),
    }
}

/// Each comparison with the key that stands for it.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("above", Comparison::Above),
    ("at_least", Comparison::AtLeast),
    ("below", Comparison::Below),
    ("at_most", Comparison::AtMost),
    ("equals", Comparison::Equal),
    ("not_equals", Comparison::NotEqual),
];

fn read_threshold(mut table: TableReader<'_, '_>) -> Condition {
    let metric = table.required("metric", &Metric);
    let labels = read_labels(&mut table);
    let (key, comparison, limit) = read_limit(&mut table);
    let hold = table.optional(
        "for",
        &span(
            Duration::ZERO..=WEEK,
            "whatever lasts a week is no longer a fault but a state",
        ),
    );
    let clear = table.optional("clear", &number());

    if let Some((metric, limit)) = metric.zip(limit) {
        refuse_limit_that_decides_nothing(&mut table, key, metric, comparison, limit);
    }
    if let Some((limit, clear)) = limit.zip(clear) {
        refuse_clear_on_the_wrong_side(&mut table, comparison, limit, clear);
    }
    table.finish(|_| None);
    Condition::Threshold {
        metric: metric
            .map(|metric| metric.name.to_owned())
            .unwrap_or_default(),
        labels,
        comparison,
        limit: limit.unwrap_or_default(),
        hold: hold.unwrap_or_default(),
        clear,
    }
}

/// A metric by its name. `None` stands for one that nobody measures.
struct Metric;

impl Kind for Metric {
    type Value = Option<&'static MetricInfo>;

    fn words(&self) -> String {
        "the name of a metric".to_owned()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>, wrongs: &mut Vec<Wrong>) -> Option<Self::Value> {
        let known = value.get_ref().as_str().and_then(metric_info);
        if known.is_none() {
            let names: Vec<&str> = BUILT_IN_METRICS.iter().map(|metric| metric.name).collect();
            let hint = did_you_mean(value.get_ref().as_str().unwrap_or_default(), &names);
            let message = format!("{} is no metric that is measured", shown(value.get_ref()));
            let at = value.span().start;
            wrongs.push(Wrong {
                at,
                mistake: Mistake::new(message, hint),
            });
        }
        Some(known)
    }
}

/// The comparison that the table has: its key, and its limit if that could be
/// read.
fn read_limit(table: &mut TableReader<'_, '_>) -> (&'static str, Comparison, Option<f64>) {
    let mut first: Option<(&'static str, Comparison, Option<f64>)> = None;
    for (key, comparison) in COMPARISONS {
        let complaints = table.findings.count();
        let Some(limit) = table.optional(key, &number()) else {
            continue;
        };
        let limit = (table.findings.count() == complaints).then_some(limit);
        match first {
            None => first = Some((key, comparison, limit)),
            Some((other, ..)) => {
                let mistake = Mistake::new(
                    format!("there is {other}, too"),
                    "keep one of them; two rules can watch one metric",
                );
                table.complain(key, mistake);
            }
        }
    }
    first.unwrap_or_else(|| {
        let keys = COMPARISONS.map(|(key, _)| key).join(", ");
        table.complain_of_all(Mistake::new(
            "has no limit",
            format!("add one of {keys}, such as above = 0.9"),
        ));
        ("above", Comparison::Above, None)
    })
}

fn read_labels(table: &mut TableReader<'_, '_>) -> BTreeMap<String, String> {
    let mut read = BTreeMap::new();
    let Below::Table(labels) = table.below("labels", "[rule.threshold.labels]") else {
        return read;
    };
    let mut labels = labels;
    let entries = labels.entries();
    if !(1..=LABELS).contains(&entries.len()) {
        let hint = "leave labels out to judge every series of the metric";
        let message = format!("has {} labels: 1 to {LABELS} are allowed", entries.len());
        labels.complain_of_all(Mistake::new(message, hint));
        return read;
    }
    for (at, name, value) in entries {
        if !is_label_name(name) {
            let hint = "a letter or _, then letters, digits and _: ifName";
            let key = labels.key("");
            let key = key.trim_end_matches('.');
            let message = format!("{} is no name of a label", crate::kinds::quoted(name));
            labels.findings.note(at, key, Mistake::new(message, hint));
            continue;
        }
        if let Some(text) = labels.read(name, value, &line("text", LABEL_BYTES)) {
            read.insert(name.to_owned(), text);
        }
    }
    read
}

/// As Prometheus has it.
fn is_label_name(name: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(inside) && name.starts_with(|c: char| !c.is_ascii_digit())
}

/// The largest value of a metric with this unit, if there is one, and how it is
/// written.
fn largest(unit: &str) -> Option<(f64, &'static str)> {
    match unit {
        "ratio" => Some((1.0, "a ratio runs from 0 to 1: write 0.9 for 90 %")),
        "percent" => Some((100.0, "a percentage runs from 0 to 100")),
        _ => None,
    }
}

/// Complains of a limit that every value is beyond, or none.
fn refuse_limit_that_decides_nothing(
    table: &mut TableReader<'_, '_>,
    key: &str,
    metric: &MetricInfo,
    comparison: Comparison,
    limit: f64,
) {
    let name = metric.name;
    if limit < 0.0 {
        let message = format!("{limit} is below every value of {name}");
        table.complain(key, Mistake::new(message, "no metric goes below 0"));
        return;
    }
    let most = largest(metric.unit);
    if let Some((_, hint)) = most.filter(|(most, _)| limit > *most) {
        let message = format!("{limit} is above every value of {name}");
        table.complain(key, Mistake::new(message, hint));
        return;
    }
    let at_most = |value: f64| most.is_some_and(|(most, _)| most <= value);
    let (decides, always) = match comparison {
        Comparison::Above => (!at_most(limit), false),
        Comparison::AtMost => (!at_most(limit), true),
        Comparison::AtLeast => (limit > 0.0, true),
        Comparison::Below => (limit > 0.0, false),
        Comparison::Equal | Comparison::NotEqual => (true, false),
    };
    if !decides {
        let when = if always { "always" } else { "never" };
        let message = format!("{name} is {when} {} {limit}", comparison.sign());
        let hint = "as it stands, the rule says nothing; choose another limit or comparison";
        table.complain(key, Mistake::new(message, hint));
    }
}

/// Complains of a `clear` that a firing alert has passed when it begins.
fn refuse_clear_on_the_wrong_side(
    table: &mut TableReader<'_, '_>,
    comparison: Comparison,
    limit: f64,
    clear: f64,
) {
    let side = match comparison {
        Comparison::Above | Comparison::AtLeast if clear > limit => "at most",
        Comparison::Below | Comparison::AtMost if clear < limit => "at least",
        Comparison::Equal | Comparison::NotEqual => {
            let mistake = Mistake::new(
                "a state is equal or not: there is nothing in between",
                "leave clear out, or use above or below",
            );
            table.complain("clear", mistake);
            return;
        }
        _ => return,
    };
    let message = format!("{clear} is on the wrong side of the limit {limit}");
    let hint = format!("an alert is over once the value is back: {side} {limit}");
    table.complain("clear", Mistake::new(message, hint));
}
