//! Reading one TOML table, key by key.
//!
//! A [`TableReader`] never stops at the first mistake: it notes what is wrong
//! in [`Findings`], goes on with a stand-in value, and in the end complains of
//! every key that nobody asked for. Whoever uses the values looks at the
//! findings first: a stand-in is never seen outside this crate.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::kinds::{Kind, Wrong, shown, type_in_words};
use crate::problem::{Mistake, Problem, did_you_mean};
use crate::source::Source;

/// More than this nobody reads in one go; the rest is counted.
const PROBLEMS: usize = 1_000;

/// More than this are not even counted: a file of 1 MiB can have hundreds of
/// thousands, and each takes time and memory.
pub(crate) const COUNTED_PROBLEMS: usize = 5_000;

/// Something wrong at a byte of the file.
#[derive(Clone, Debug)]
struct Complaint {
    at: usize,
    key: Option<String>,
    mistake: Mistake,
    /// The parser found it. What else we could say of that line is guesswork.
    syntax: bool,
}

/// A setting after it was read.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// With its section: `icmp.every`.
    pub(crate) key: String,
    /// As TOML; `None` where there is no value.
    pub(crate) shown: Option<String>,
    /// Where its key stands; `None` if the file has it not.
    pub(crate) at: Option<usize>,
    /// Whether it could be read.
    pub(crate) sound: bool,
}

/// What was found in one file.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// At most [`COUNTED_PROBLEMS`].
    complaints: Vec<Complaint>,
    /// All that there were.
    noted: usize,
    /// Settings in the order in which they were asked for.
    pub(crate) settings: Vec<Found>,
}

impl Findings {
    pub(crate) fn note(&mut self, at: usize, key: impl Into<String>, mistake: Mistake) {
        self.push(Complaint {
            at,
            key: Some(key.into()),
            mistake,
            syntax: false,
        });
    }

    fn push(&mut self, complaint: Complaint) {
        if self.complaints.len() < COUNTED_PROBLEMS {
            self.complaints.push(complaint);
        }
        self.noted += 1;
    }

    pub(crate) fn note_syntax(&mut self, at: usize, message: String, hint: String) {
        self.push(Complaint {
            at,
            key: None,
            mistake: Mistake { message, hint },
            syntax: true,
        });
    }

    /// How many complaints there were so far.
    pub(crate) fn count(&self) -> usize {
        self.noted
    }

    pub(crate) fn setting(&self, key: &str) -> Option<&Found> {
        self.settings.iter().find(|found| found.key == key)
    }

    /// Notes `mistake` at the first of `keys` that the file has, if it is
    /// `nonsense` and all of them could be read.
    pub(crate) fn refuse_if(
        &mut self,
        nonsense: bool,
        keys: &[&str],
        mistake: impl FnOnce() -> Mistake,
    ) {
        let found: Vec<&Found> = keys.iter().filter_map(|key| self.setting(key)).collect();
        if !nonsense || found.iter().any(|found| !found.sound) {
            return;
        }
        let culprit = found.iter().find_map(|found| Some((found.at?, &found.key)));
        if let Some((at, key)) = culprit.map(|(at, key)| (at, key.clone())) {
            self.note(at, key, mistake());
        }
    }

    /// The complaints as problems of `source`, by their place in it.
    pub(crate) fn into_problems(self, source: &Source) -> Vec<Problem> {
        let mut syntax_lines: Vec<usize> = self
            .complaints
            .iter()
            .filter(|complaint| complaint.syntax)
            .map(|complaint| source.place(complaint.at).line)
            .collect();
        syntax_lines.sort_unstable();
        let is_guesswork = |complaint: &Complaint| {
            let line = source.place(complaint.at).line;
            !complaint.syntax && syntax_lines.binary_search(&line).is_ok()
        };

        let mut complaints = self.complaints;
        complaints.retain(|complaint| !is_guesswork(complaint));
        complaints.sort_by_key(|complaint| complaint.at);
        let problems = complaints.into_iter().map(|complaint| {
            let Mistake { message, hint } = complaint.mistake;
            source.problem(complaint.at, complaint.key, message, hint)
        });
        problems.collect()
    }
}

/// Keeps the first [`PROBLEMS`] and says how many more there were.
pub(crate) fn capped(mut problems: Vec<Problem>) -> Vec<Problem> {
    let more = problems.len().saturating_sub(PROBLEMS);
    if let Some(last) = problems.get(PROBLEMS).filter(|_| more > 1).cloned() {
        problems.truncate(PROBLEMS);
        problems.push(Problem {
            message: format!("and at least {more} more problems from here on"),
            key: None,
            hint: "put these right first".to_owned(),
            ..last
        });
    }
    problems
}

/// A table below a key.
pub(crate) enum Below<'t, 'f> {
    Absent,
    /// Something else stands there, and a complaint says so.
    Broken,
    Table(TableReader<'t, 'f>),
}

/// One table and what was asked of it.
pub(crate) struct TableReader<'t, 'f> {
    /// `None`: the file does not have it, so every key has its default.
    table: Option<&'t DeTable<'t>>,
    /// Where it begins: for complaints of what is missing.
    at: usize,
    /// What stands before its keys in complaints: `icmp.`, or nothing.
    prefix: String,
    asked: Vec<&'static str>,
    pub(crate) findings: &'f mut Findings,
}

impl<'t, 'f> TableReader<'t, 'f> {
    pub(crate) fn new(
        table: Option<&'t DeTable<'t>>,
        at: usize,
        prefix: String,
        findings: &'f mut Findings,
    ) -> TableReader<'t, 'f> {
        TableReader {
            table,
            at,
            prefix,
            asked: Vec::new(),
            findings,
        }
    }

    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(crate) fn rename(&mut self, prefix: String) {
        self.prefix = prefix;
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(name))
    }

    /// Where the key called `name` stands; the table's begin, if it does not.
    pub(crate) fn place_of(&self, name: &str) -> usize {
        self.entry(name).map_or(self.at, |(key_at, _)| key_at)
    }

    /// Notes a mistake at the key called `name`.
    pub(crate) fn complain(&mut self, name: &str, mistake: Mistake) {
        let (at, key) = (self.place_of(name), self.key(name));
        self.findings.note(at, key, mistake);
    }

    /// Notes a mistake of the table as a whole.
    pub(crate) fn complain_of_all(&mut self, mistake: Mistake) {
        let key = self.prefix.trim_end_matches(['.', ' ', ',']).to_owned();
        self.findings.note(self.at, key, mistake);
    }

    /// Where the key called `name` stands, and its value.
    pub(crate) fn entry(&self, name: &str) -> Option<(usize, &'t Spanned<DeValue<'t>>)> {
        let (key, value) = self.table?.get_key_value(name)?;
        Some((key.span().start, value))
    }

    /// Every key with its place and its value, in the order of the names; for
    /// a table whose keys are not known beforehand.
    pub(crate) fn entries(&self) -> Vec<(usize, &'t str, &'t Spanned<DeValue<'t>>)> {
        let entries = self.table.into_iter().flatten();
        let entries = entries.map(|(key, value)| (key.span().start, &**key.get_ref(), value));
        entries.collect()
    }

    /// The value of the key called `name`, if it is there. One that cannot be
    /// read is complained of, and a stand-in returned.
    pub(crate) fn optional<K: Kind>(&mut self, name: &'static str, kind: &K) -> Option<K::Value> {
        self.asked.push(name);
        let (_, value) = self.entry(name)?;
        Some(self.read(name, value, kind).unwrap_or_default())
    }

    /// As [`TableReader::optional`], but it has to be there.
    pub(crate) fn required<K: Kind>(&mut self, name: &'static str, kind: &K) -> K::Value {
        if !self.has(name) {
            self.complain_of_missing(name, &kind.words());
        }
        self.optional(name, kind).unwrap_or_default()
    }

    pub(crate) fn complain_of_missing(&mut self, name: &str, words: &str) {
        let (at, key) = (self.at, self.key(name));
        let mistake = Mistake::new("is missing", format!("add {name} = …: {words}"));
        self.findings.note(at, key, mistake);
    }

    /// Reads `value` of the key called `name`; `None` if that was complained of.
    pub(crate) fn read<K: Kind>(
        &mut self,
        name: &str,
        value: &Spanned<DeValue<'_>>,
        kind: &K,
    ) -> Option<K::Value> {
        let mut wrongs = Vec::new();
        let read = kind.read(value, &mut wrongs);
        let key = self.key(name);
        let sound = wrongs.is_empty();
        for Wrong { at, mistake } in wrongs {
            self.findings.note(at, key.clone(), mistake);
        }
        read.filter(|_| sound)
    }

    /// Notes that `name` was asked for, without reading it.
    pub(crate) fn ask(&mut self, name: &'static str) {
        self.asked.push(name);
    }

    /// The table below the key called `name`; `header` is how it opens.
    pub(crate) fn below(&mut self, name: &'static str, header: &str) -> Below<'t, '_> {
        self.asked.push(name);
        let Some((at, value)) = self.entry(name) else {
            return Below::Absent;
        };
        let Some(table) = value.get_ref().as_table() else {
            let hint = format!("open it as {header} on a line of its own, its keys below");
            let mistake = Mistake::new(
                format!("is a section, not {}", type_in_words(value.get_ref())),
                hint,
            );
            self.complain(name, mistake);
            return Below::Broken;
        };
        let prefix = format!("{}{name}.", self.prefix);
        Below::Table(TableReader::new(
            Some(table),
            at,
            prefix,
            &mut *self.findings,
        ))
    }

    /// Complains of every key that nobody asked for. `elsewhere` may know
    /// where such a key belongs.
    pub(crate) fn finish(self, elsewhere: impl Fn(&str) -> Option<String>) {
        let Some(table) = self.table else { return };
        for (key, value) in table {
            let name: &str = key.get_ref();
            if self.asked.contains(&name) {
                continue;
            }
            if self.findings.count() >= COUNTED_PROBLEMS {
                return;
            }
            let hint = elsewhere(name).unwrap_or_else(|| did_you_mean(name, &self.asked));
            let thing = if value.get_ref().is_table() {
                "unknown section"
            } else {
                "unknown key"
            };
            let path = self.key(&shown_key(name));
            let mistake = Mistake::new(thing, hint);
            self.findings.note(key.span().start, path, mistake);
        }
    }
}

/// `name` as it would stand in a file: in quotes where it needs them.
fn shown_key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.chars().all(is_bare) {
        crate::kinds::shortened(name)
    } else {
        shown(&DeValue::String(name.into()))
    }
}
