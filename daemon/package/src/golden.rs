//! Golden cases: what a plugin is asked, and what it answers.
//!
//! A case is `golden/NAME.json`, which people read and edit: the contract's
//! words as JSON, in an order that does not change, short lists on one line.
//! Numbers come back exactly as they were written, so that they can be
//! compared exactly.

use std::collections::BTreeMap;
use std::fmt;

use contract::{Call, Failure, HostAnswer, HostAsk, Nanos, Place, Reply};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::problem::Problem;

/// Bytes of a case.
pub(crate) const CASE_BYTES: usize = 8 << 20;
/// Cases of a plugin.
pub(crate) const CASES: usize = 500;
/// Calls of a case.
const CALLS: usize = 100;
/// Questions that a case answers.
const HOST_ANSWERS: usize = 1_000;
/// Bytes of a case's name.
const NAME_BYTES: usize = 60;
/// Differences that are told; the rest is counted.
const DIFFERENCES: usize = 50;

/// A recorded case: what a plugin is asked, and what it answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Golden {
    /// The name of its file, without `.json`.
    pub name: String,
    /// What is asked; of a poller, each round.
    pub calls: Vec<GoldenCall>,
    /// Settings of the case, each value as JSON.
    pub settings: BTreeMap<String, String>,
    /// What it asks of the host, and is answered.
    pub host: Vec<(HostAsk, HostAnswer)>,
}

/// One call of a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenCall {
    /// When it is made.
    pub now: Nanos,
    /// The call.
    pub call: Call,
    /// What it shall come to; `None`: nobody has said yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Result<Reply, Failure>>,
}

/// What a plugin did in a golden case.
#[derive(Clone, Debug, PartialEq)]
pub enum CaseEnd {
    /// What was expected.
    Passed,
    /// Something else: the place of the call, what was expected and what came.
    Differs {
        /// Which call of the case.
        call: usize,
        /// What was expected.
        expected: Result<Reply, Failure>,
        /// What came.
        came: Result<Reply, Failure>,
    },
    /// Nobody has said what is expected: the place of the call and what came.
    New {
        /// Which call of the case.
        call: usize,
        /// What came.
        came: Result<Reply, Failure>,
    },
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    settings: BTreeMap<String, Json>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    host: Vec<(HostAsk, HostAnswer)>,
    calls: Vec<GoldenCall>,
}

impl Golden {
    /// Reads the case `name` from the text of its file.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it and where.
    pub fn parse(name: &str, text: &str) -> Result<Golden, Problem> {
        let file = format!("golden/{name}.json");
        let refused = |message: String| Problem::new(message).in_file(&file);
        if !is_case_name(name) {
            let problem =
                refused("the name of a case has letters, digits, _, - and . alone".into());
            return Err(problem.with_hint("at most 60 of them, and no dot first"));
        }
        if text.len() > CASE_BYTES {
            return Err(refused("is longer than 8 MiB".into())
                .with_hint("record a device with fewer rows, or leave some out"));
        }
        let read: File = serde_json::from_str(text).map_err(|error| {
            let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let place = Place {
                file: file.clone(),
                line: number(error.line().max(1)),
                column: number(error.column()),
            };
            let whole = error.to_string();
            let message = whole.split(" at line ").next().unwrap_or_default();
            Problem::new(format!("is no golden case: {message}")).at(place)
        })?;
        if read.calls.is_empty() || read.calls.len() > CALLS {
            let message = format!("has {} calls: 1 to {CALLS} are allowed", read.calls.len());
            return Err(refused(message));
        }
        if read.host.len() > HOST_ANSWERS {
            return Err(refused(format!(
                "answers {} questions: at most {HOST_ANSWERS} are allowed",
                read.host.len()
            )));
        }
        let settings = read.settings.into_iter();
        Ok(Golden {
            name: name.to_owned(),
            calls: read.calls,
            settings: settings
                .map(|(key, value)| (key, value.to_string()))
                .collect(),
            host: read.host,
        })
    }

    /// The text of its file. The same case gives the same text.
    ///
    /// # Panics
    ///
    /// Never: the contract's words are JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let as_json = |text: &String| serde_json::from_str(text).unwrap_or(Json::Null);
        let settings = self.settings.iter();
        let file = File {
            settings: settings
                .map(|(key, text)| (key.clone(), as_json(text)))
                .collect(),
            host: self.host.clone(),
            calls: self.calls.clone(),
        };
        let compact = serde_json::to_string(&file).expect("the contract's words are JSON");
        let mut pretty = String::with_capacity(compact.len() * 2);
        lay_out(&compact, 0, &mut pretty);
        pretty.push('\n');
        pretty
    }

    /// Whether what came of its call number `call` is what was expected.
    /// `None`: there is no such call.
    #[must_use]
    pub fn judge(&self, call: usize, came: &Result<Reply, Failure>) -> Option<CaseEnd> {
        let expected = &self.calls.get(call)?.expect;
        Some(match expected {
            None => CaseEnd::New {
                call,
                came: came.clone(),
            },
            Some(expected) if is_same(expected, came) => CaseEnd::Passed,
            Some(expected) => CaseEnd::Differs {
                call,
                expected: expected.clone(),
                came: came.clone(),
            },
        })
    }
}

/// Whether `name` may be the name of a case.
pub(crate) fn is_case_name(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=NAME_BYTES).contains(&name.len()) && name.chars().all(is_letter) && !name.starts_with('.')
}

/// Whether `came` is what was expected: exactly, numbers too. Of a fault only
/// the class counts, and its message where one is expected: places and traces
/// change with every line of the source.
#[must_use]
pub fn is_same(expected: &Result<Reply, Failure>, came: &Result<Reply, Failure>) -> bool {
    match (expected, came) {
        (Err(Failure::Fault(expected)), Err(Failure::Fault(came))) => {
            expected.class == came.class
                && (expected.message.is_empty() || expected.message == came.message)
        }
        _ => expected == came,
    }
}

/// A part of a reply that is not what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where: `Ok.output.rows[2].values[0][1]`.
    pub path: String,
    /// What was expected there, as JSON; `None`: nothing.
    pub expected: Option<String>,
    /// What came there, as JSON; `None`: nothing.
    pub came: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match (&self.expected, &self.came) {
            (Some(expected), Some(came)) => write!(f, "{path}: expected {expected}, came {came}"),
            (Some(expected), None) => write!(f, "{path}: expected {expected}, nothing came"),
            (None, Some(came)) => write!(f, "{path}: expected nothing, came {came}"),
            (None, None) => f.write_str(path),
        }
    }
}

/// Where `came` is not what was expected; empty exactly if [`is_same`]. At most
/// 50, the last of which then says how many more there are.
#[must_use]
pub fn differences(
    expected: &Result<Reply, Failure>,
    came: &Result<Reply, Failure>,
) -> Vec<Difference> {
    if is_same(expected, came) {
        return Vec::new();
    }
    let as_json = |result| serde_json::to_value(result).unwrap_or(Json::Null);
    let mut found = Found::default();
    compare(
        &mut String::new(),
        &as_json(expected),
        &as_json(came),
        &mut found,
    );
    if found.list.is_empty() {
        // what JSON cannot tell apart, such as NaN and nothing
        found.note("", Some(&as_json(expected)), Some(&as_json(came)));
    }
    let more = found.count - found.list.len();
    if more > 0 {
        found.list.push(Difference {
            path: format!("and {more} more"),
            expected: None,
            came: None,
        });
    }
    found.list
}

#[derive(Default)]
struct Found {
    list: Vec<Difference>,
    count: usize,
}

impl Found {
    fn note(&mut self, path: &str, expected: Option<&Json>, came: Option<&Json>) {
        self.count += 1;
        if self.list.len() < DIFFERENCES {
            self.list.push(Difference {
                path: path.trim_start_matches('.').to_owned(),
                expected: expected.map(Json::to_string),
                came: came.map(Json::to_string),
            });
        }
    }
}

fn compare(path: &mut String, expected: &Json, came: &Json, found: &mut Found) {
    let length = path.len();
    match (expected, came) {
        (Json::Object(expected), Json::Object(came)) => {
            let keys: std::collections::BTreeSet<&String> =
                expected.keys().chain(came.keys()).collect();
            for key in keys {
                path.push('.');
                path.push_str(key);
                pair(path, expected.get(key), came.get(key), found);
                path.truncate(length);
            }
        }
        (Json::Array(expected), Json::Array(came)) => {
            for place in 0..expected.len().max(came.len()) {
                path.push_str(&format!("[{place}]"));
                pair(path, expected.get(place), came.get(place), found);
                path.truncate(length);
            }
        }
        _ if expected == came => {}
        _ => found.note(path, Some(expected), Some(came)),
    }
}

fn pair(path: &mut String, expected: Option<&Json>, came: Option<&Json>, found: &mut Found) {
    match (expected, came) {
        (Some(expected), Some(came)) => compare(path, expected, came, found),
        _ => found.note(path, expected, came),
    }
}

/// What fits in so many columns stands on one line.
const COLUMNS: usize = 110;

/// Writes the compact JSON `text` so that people can read it.
fn lay_out(text: &str, depth: usize, out: &mut String) {
    let indent = depth * 2;
    let opens = text.starts_with(['{', '[']);
    if !opens || text.len() == 2 || (indent + text.len() <= COLUMNS && depth > 0) {
        one_line(text, out);
        return;
    }
    let inner = &text[1..text.len() - 1];
    out.push_str(&text[..1]);
    for (nth, part) in parts(inner).into_iter().enumerate() {
        if nth > 0 {
            out.push(',');
        }
        out.push('\n');
        out.push_str(&" ".repeat(indent + 2));
        let key = key_of(part).filter(|_| text.starts_with('{'));
        match key {
            Some(end) => {
                out.push_str(&part[..end]);
                out.push_str(": ");
                lay_out(&part[end + 1..], depth + 1, out);
            }
            None => lay_out(part, depth + 1, out),
        }
    }
    out.push('\n');
    out.push_str(&" ".repeat(indent));
    out.push_str(&text[text.len() - 1..]);
}

/// Calls `found` with every byte of JSON that stands outside of texts.
fn outside_texts(text: &str, mut found: impl FnMut(usize, u8)) {
    let (mut in_text, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if !in_text => found(at, byte),
            _ => {}
        }
    }
}

fn one_line(text: &str, out: &mut String) {
    let mut from = 0;
    outside_texts(text, |at, byte| {
        if matches!(byte, b',' | b':') {
            out.push_str(&text[from..=at]);
            out.push(' ');
            from = at + 1;
        }
    });
    out.push_str(&text[from..]);
}

/// What stands between the commas of a list or an object.
fn parts(inner: &str) -> Vec<&str> {
    let (mut depth, mut from) = (0_usize, 0);
    let mut parts = Vec::new();
    outside_texts(inner, |at, byte| match byte {
        b'{' | b'[' => depth += 1,
        b'}' | b']' => depth = depth.saturating_sub(1),
        b',' if depth == 0 => {
            parts.push(&inner[from..at]);
            from = at + 1;
        }
        _ => {}
    });
    parts.push(&inner[from..]);
    parts
}

/// Where the key of `"key":value` ends.
fn key_of(part: &str) -> Option<usize> {
    let mut end = None;
    outside_texts(part, |at, byte| {
        if byte == b':' && end.is_none() {
            end = Some(at);
        }
    });
    end
}
