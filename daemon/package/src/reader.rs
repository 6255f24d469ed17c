//! Reading `plugin.toml`, key by key.
//!
//! Nothing here stops at the first mistake: each is noted with its place, and
//! in the end every key is complained of for which nobody asked.

use contract::Place;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{Problem, did_you_mean, quoted};

/// More than this nobody reads in one go; the rest is counted.
const PROBLEMS: usize = 200;

/// A value and where it stands.
pub(crate) type Value<'t> = Spanned<DeValue<'t>>;

/// What was found wrong in one file so far.
pub(crate) struct Findings<'a> {
    file: &'a str,
    text: &'a str,
    noted: Vec<(usize, String, Option<String>)>,
    count: usize,
}

impl<'a> Findings<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Findings<'a> {
        Findings {
            file,
            text,
            noted: Vec::new(),
            count: 0,
        }
    }

    /// Notes a mistake at byte `at`; an empty hint is none.
    pub(crate) fn note(&mut self, at: usize, message: impl Into<String>, hint: impl Into<String>) {
        self.count += 1;
        if self.noted.len() < PROBLEMS {
            let hint = Some(hint.into()).filter(|hint| !hint.is_empty());
            self.noted.push((at, message.into(), hint));
        }
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.count == 0
    }

    /// Everything that was noted, by its place.
    pub(crate) fn into_problems(mut self) -> Vec<Problem> {
        self.noted.sort_by_key(|(at, ..)| *at);
        let more = self.count - self.noted.len();
        let noted = std::mem::take(&mut self.noted);
        let mut problems: Vec<Problem> = noted
            .into_iter()
            .map(|(at, message, hint)| Problem {
                place: Some(self.place(at)),
                message,
                hint,
            })
            .collect();
        if more > 0 {
            problems.push(Problem::new(format!("and {more} more")));
        }
        problems
    }

    /// Where byte `at` stands; columns count characters.
    fn place(&self, at: usize) -> Place {
        let at = at.min(self.text.len());
        let before = &self.text.as_bytes()[..at];
        let line_start = before.iter().rposition(|byte| *byte == b'\n');
        let newlines = before.iter().filter(|byte| **byte == b'\n').count();
        // every byte that does not continue a character begins one
        let characters = before[line_start.map_or(0, |at| at + 1)..]
            .iter()
            .filter(|byte| **byte & 0xc0 != 0x80)
            .count();
        let number = |count: usize| u32::try_from(count + 1).unwrap_or(u32::MAX);
        Place {
            file: self.file.to_owned(),
            line: number(newlines),
            column: number(characters),
        }
    }

    /// The file as a table; `None`, and notes, if it is not TOML.
    pub(crate) fn parse(&mut self) -> Option<DeTable<'a>> {
        let text = self.text;
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let span = error.span().unwrap_or_default();
            let culprit = text.get(span.clone()).unwrap_or_default();
            let (message, hint) = explain(error.message(), culprit);
            self.note(span.start, message, hint);
        }
        errors.is_empty().then(|| table.into_inner())
    }
}

/// The parser's `message` about `culprit` in the reader's words, and a hint.
fn explain(message: &str, culprit: &str) -> (String, String) {
    let begins = |start| message.starts_with(start);
    if begins("string values must be quoted") {
        return match culprit {
            "" => (
                "the value is missing".to_owned(),
                "write one after the =".to_owned(),
            ),
            word => (
                format!("{} stands without quotes", quoted(word)),
                format!("write {}", quoted(word)),
            ),
        };
    }
    if begins("duplicate key") {
        return (
            format!("{} stands here a second time", quoted(culprit)),
            "keep one of them; a section, too, is opened once".to_owned(),
        );
    }
    (
        format!("not TOML: {}", message.lines().next().unwrap_or_default()),
        "a line is [section], key = value or # comment; text stands in quotes".to_owned(),
    )
}

/// One table and what was asked of it.
pub(crate) struct Section<'t> {
    /// `None`: the file does not have it.
    table: Option<&'t DeTable<'t>>,
    /// Where it begins: for complaints of what is missing.
    pub(crate) at: usize,
    /// What stands before its keys in messages: `plugin.`, or nothing.
    prefix: String,
    asked: Vec<&'static str>,
}

impl<'t> Section<'t> {
    pub(crate) fn root(table: &'t DeTable<'t>) -> Section<'t> {
        Section {
            table: Some(table),
            at: 0,
            prefix: String::new(),
            asked: Vec::new(),
        }
    }

    /// `table`, whose keys are called `prefix` and a dot and their names.
    pub(crate) fn of(table: Option<&'t DeTable<'t>>, at: usize, prefix: &str) -> Section<'t> {
        Section {
            table,
            at,
            prefix: format!("{prefix}."),
            asked: Vec::new(),
        }
    }

    /// How `key` is called in messages.
    pub(crate) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The value called `key`, if it is there.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<&'t Value<'t>> {
        self.asked.push(key);
        self.table?.get(key)
    }

    /// Where the value called `key` stands, or else the table.
    pub(crate) fn place_of(&self, key: &str) -> usize {
        let value = self.table.and_then(|table| table.get(key));
        value.map_or(self.at, |value| value.span().start)
    }

    /// Every key with its value, in the order of the names.
    pub(crate) fn entries(
        &self,
    ) -> impl Iterator<Item = (&'t Spanned<toml::de::DeString<'t>>, &'t Value<'t>)> + use<'t> {
        self.table.into_iter().flat_map(DeTable::iter)
    }

    /// The table called `key`; an empty one if it is not there.
    pub(crate) fn below(&mut self, key: &'static str, findings: &mut Findings<'_>) -> Section<'t> {
        let name = self.name(key);
        let Some(value) = self.take(key) else {
            return Section::of(None, self.at, &name);
        };
        let at = value.span().start;
        let table = value.get_ref().as_table();
        if table.is_none() {
            let what = in_words(value.get_ref());
            findings.note(
                at,
                format!("{name} is a section, not {what}"),
                format!("open it as [{name}] on a line of its own, its keys below"),
            );
        }
        Section::of(table, at, &name)
    }

    pub(crate) fn text(
        &mut self,
        key: &'static str,
        findings: &mut Findings<'_>,
    ) -> Option<(usize, String)> {
        let name = self.name(key);
        let value = self.take(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some((value.span().start, text.to_owned())),
            None => wrong_type(&name, value, "text, in quotes", findings),
        }
    }

    /// A text that has to be there; `example` follows the = in the hint.
    pub(crate) fn required_text(
        &mut self,
        key: &'static str,
        example: &str,
        findings: &mut Findings<'_>,
    ) -> Option<(usize, String)> {
        if self.table.is_none_or(|table| !table.contains_key(key)) {
            self.asked.push(key);
            let name = self.name(key);
            findings.note(
                self.at,
                format!("{name} is missing"),
                format!("add {key} = {example}"),
            );
            return None;
        }
        self.text(key, findings)
    }

    pub(crate) fn boolean(
        &mut self,
        key: &'static str,
        findings: &mut Findings<'_>,
    ) -> Option<bool> {
        let name = self.name(key);
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::Boolean(is) => Some(*is),
            _ => wrong_type(&name, value, "true or false", findings),
        }
    }

    /// A whole number that is not negative.
    pub(crate) fn count(
        &mut self,
        key: &'static str,
        findings: &mut Findings<'_>,
    ) -> Option<(usize, u64)> {
        let name = self.name(key);
        let value = self.take(key)?;
        match integer(value.get_ref()).and_then(|n| u64::try_from(n).ok()) {
            Some(number) => Some((value.span().start, number)),
            None => wrong_type(&name, value, "a whole number from 0", findings),
        }
    }

    /// A list of texts, each with its place; empty if it is not there.
    pub(crate) fn texts(
        &mut self,
        key: &'static str,
        findings: &mut Findings<'_>,
    ) -> Vec<(usize, String)> {
        let name = self.name(key);
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let Some(list) = value.get_ref().as_array() else {
            let _: Option<()> =
                wrong_type(&name, value, "a list of texts: [\"a\", \"b\"]", findings);
            return Vec::new();
        };
        if list.is_empty() {
            findings.note(
                value.span().start,
                format!("{name} is an empty list"),
                "leave it out",
            );
        }
        let mut texts = Vec::new();
        for item in list.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push((item.span().start, text.to_owned())),
                None => {
                    let _: Option<()> = wrong_type(
                        &format!("an entry of {name}"),
                        item,
                        "text, in quotes",
                        findings,
                    );
                }
            }
        }
        texts
    }

    /// Complains of every key for which nobody asked.
    pub(crate) fn finish(self, findings: &mut Findings<'_>) {
        for (key, value) in self.entries() {
            let name: &str = key.get_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let what = if value.get_ref().is_table() {
                "section"
            } else {
                "key"
            };
            let full: String = self.name(name).chars().take(80).collect();
            findings.note(
                key.span().start,
                format!("unknown {what} {}", quoted(&full)),
                did_you_mean(name, &self.asked),
            );
        }
    }
}

/// A whole number, if `value` is one that fits.
pub(crate) fn integer(value: &DeValue<'_>) -> Option<i64> {
    match value {
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix()).ok(),
        _ => None,
    }
}

/// A number, if `value` is one and finite.
pub(crate) fn number(value: &DeValue<'_>) -> Option<f64> {
    let number = match value {
        DeValue::Float(digits) => digits.as_str().parse().ok(),
        // exact for everything that a person writes
        DeValue::Integer(_) => integer(value).map(|whole| whole as f64),
        _ => None,
    };
    number.filter(|number| number.is_finite())
}

/// Notes that `value` is not what it ought to be.
pub(crate) fn wrong_type<T>(
    name: &str,
    value: &Value<'_>,
    wanted: &str,
    findings: &mut Findings<'_>,
) -> Option<T> {
    let is = in_words(value.get_ref());
    let message = format!("{name} is {is}: it has to be {wanted}");
    findings.note(value.span().start, message, "");
    None
}

pub(crate) fn in_words(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}
