//! Reading a body or a query so that one answer names every mistake in it.
//!
//! A field that is absent and one that is `null` are the same: not said.

use std::cell::RefCell;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::problem::{Kind, Mistake, Problem};
use crate::span;

/// Mistakes named in one answer; who made more has seen the pattern.
const MISTAKES_NAMED: usize = 100;

/// Fields that answers have and bodies have not: who sends back what was read
/// is told so.
const SHOWN_ONLY: [&str; 13] = [
    "id",
    "state",
    "state_reason",
    "behind",
    "facts",
    "checks",
    "created",
    "updated",
    "deleted",
    "revision",
    "source",
    "file",
    "devices",
];

/// The mistakes found so far.
#[derive(Default)]
pub(crate) struct Mistakes(RefCell<Vec<Mistake>>);

impl Mistakes {
    pub(crate) fn at(&self, pointer: &str, message: impl Into<String>) {
        self.0.borrow_mut().push(Mistake {
            pointer: Some(pointer.to_owned()),
            parameter: None,
            message: message.into(),
        });
    }

    pub(crate) fn parameter(&self, name: &str, message: impl Into<String>) {
        self.0.borrow_mut().push(Mistake {
            pointer: None,
            parameter: Some(name.to_owned()),
            message: message.into(),
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// The mistakes, in the order they were found.
    pub(crate) fn into_list(self) -> Vec<Mistake> {
        self.0.into_inner()
    }

    /// `value` if there was no mistake.
    pub(crate) fn or<T>(self, kind: Kind, value: Option<T>) -> Result<T, Problem> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            _ => Err(self.problem(kind)),
        }
    }

    pub(crate) fn problem(self, kind: Kind) -> Problem {
        let mut list = self.into_list();
        let detail = match list.as_slice() {
            [_only] => "there is a mistake in what was sent".to_owned(),
            many => format!("there are {} mistakes in what was sent", many.len()),
        };
        list.truncate(MISTAKES_NAMED);
        Problem::new(kind, detail).with_errors(list)
    }
}

/// `known` as a hint for somebody who wrote `unknown`.
pub(crate) fn did_you_mean(unknown: &str, known: &[&str]) -> String {
    let close = known
        .iter()
        .map(|word| {
            (
                distance(&unknown.to_lowercase(), &word.to_lowercase()),
                word,
            )
        })
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4)
        .min();
    match close {
        Some((_, word)) => format!("did you mean {word:?}?"),
        None => format!("known are {}", known.join(", ")),
    }
}

/// Words longer than this are not mistyped ones of ours.
const LONGEST_WORD: usize = 64;

/// Insertions, deletions, replacements and swaps of neighbours between two
/// words (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len() > LONGEST_WORD || b.len() > LONGEST_WORD {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

/// `name` as a step of a JSON pointer (RFC 6901 §3).
fn step(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// What a JSON value is, for messages.
fn what(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A JSON object while it is read.
pub(crate) struct Object<'a> {
    pointer: String,
    fields: &'a Map<String, Value>,
    mistakes: &'a Mistakes,
}

impl<'a> Object<'a> {
    /// Reads `value`, which is to have no other fields than `known`.
    pub(crate) fn read(
        value: &'a Value,
        pointer: &str,
        known: &[&str],
        mistakes: &'a Mistakes,
    ) -> Option<Object<'a>> {
        let Value::Object(fields) = value else {
            mistakes.at(
                pointer,
                format!("this is {} and not an object", what(value)),
            );
            return None;
        };
        for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
            let message = match SHOWN_ONLY.contains(&name.as_str()) {
                true => format!("{name} is shown and cannot be set; leave it out"),
                false => format!("unknown field {name:?}: {}", did_you_mean(name, known)),
            };
            mistakes.at(&format!("{pointer}/{}", step(name)), message);
        }
        Some(Object {
            pointer: pointer.to_owned(),
            fields,
            mistakes,
        })
    }

    pub(crate) fn pointer(&self, field: &str) -> String {
        format!("{}/{}", self.pointer, step(field))
    }

    pub(crate) fn wrong(&self, field: &str, message: impl Into<String>) {
        self.mistakes.at(&self.pointer(field), message);
    }

    pub(crate) fn has(&self, field: &str) -> bool {
        self.value(field).is_some()
    }

    fn value(&self, field: &str) -> Option<&'a Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// The field as `read` takes it; a mistake if it is something else.
    fn typed<T>(
        &self,
        field: &str,
        wanted: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(field)?;
        let typed = read(value);
        if typed.is_none() {
            self.wrong(field, format!("{} is not {wanted}", what(value)));
        }
        typed
    }

    pub(crate) fn text(&self, field: &str) -> Option<&'a str> {
        self.typed(field, "text", Value::as_str)
    }

    pub(crate) fn required_text(&self, field: &str) -> Option<&'a str> {
        if !self.has(field) {
            self.wrong(field, format!("{field} is missing"));
        }
        self.text(field)
    }

    pub(crate) fn flag(&self, field: &str) -> Option<bool> {
        self.typed(field, "true or false", Value::as_bool)
    }

    pub(crate) fn number(&self, field: &str) -> Option<f64> {
        self.typed(field, "a number", Value::as_f64)
    }

    /// A whole number within `range`.
    pub(crate) fn whole(&self, field: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        let value = self.value(field)?;
        let number = value.as_u64().filter(|number| range.contains(number));
        if number.is_none() {
            self.wrong(field, format!("{value} is not {wanted}"));
        }
        number
    }

    /// A span such as "30s" within `range`.
    pub(crate) fn span(
        &self,
        field: &str,
        range: std::ops::RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let text = self.typed(
            field,
            "a span of time in text, such as \"30s\"",
            Value::as_str,
        )?;
        match span::read(text) {
            Err(why) => self.wrong(field, why),
            Ok(span) if !range.contains(&span) => self.wrong(
                field,
                format!(
                    "{text} is not from {} to {}",
                    span::write(*range.start()),
                    span::write(*range.end())
                ),
            ),
            Ok(span) => return Some(span),
        }
        None
    }

    /// The word of `field` as `find` knows it.
    pub(crate) fn word<T>(
        &self,
        field: &str,
        known: &[&str],
        find: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(field)?;
        let found = find(text);
        if found.is_none() {
            self.wrong(
                field,
                format!("unknown word {text:?}: {}", did_you_mean(text, known)),
            );
        }
        found
    }

    /// The items of a list of text (or whole numbers, read as text), each with
    /// its pointer; at most `limit`.
    pub(crate) fn texts(&self, field: &str, limit: usize) -> Vec<(String, String)> {
        let Some(items) = self.typed(field, "a list", Value::as_array) else {
            return Vec::new();
        };
        if items.len() > limit {
            self.wrong(
                field,
                format!("there are {} and {limit} are allowed", items.len()),
            );
            return Vec::new();
        }
        let mut texts = Vec::new();
        for (place, item) in items.iter().enumerate() {
            let pointer = format!("{}/{place}", self.pointer(field));
            match item {
                Value::String(text) => texts.push((pointer, text.clone())),
                Value::Number(number) if number.is_u64() => {
                    texts.push((pointer, number.to_string()));
                }
                other => self
                    .mistakes
                    .at(&pointer, format!("{} is not text", what(other))),
            }
        }
        texts
    }

    /// A field that is itself an object with no other fields than `known`.
    pub(crate) fn object(&self, field: &str, known: &[&str]) -> Option<Object<'a>> {
        let value = self.value(field)?;
        Object::read(value, &self.pointer(field), known, self.mistakes)
    }

    /// The names and texts of a field that is a map of text.
    pub(crate) fn map(&self, field: &str, limit: usize) -> Vec<(&'a str, &'a str)> {
        let Some(map) = self.typed(field, "an object", Value::as_object) else {
            return Vec::new();
        };
        if map.len() > limit {
            self.wrong(
                field,
                format!("there are {} and {limit} are allowed", map.len()),
            );
            return Vec::new();
        }
        let mut pairs = Vec::new();
        for (name, value) in map {
            match value.as_str() {
                Some(text) => pairs.push((name.as_str(), text)),
                None => self.mistakes.at(
                    &format!("{}/{}", self.pointer(field), step(name)),
                    format!("{} is not text", what(value)),
                ),
            }
        }
        pairs
    }

    pub(crate) fn mistakes(&self) -> &'a Mistakes {
        self.mistakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_word_is_recognised_and_a_strange_one_lists_what_is_known() {
        let known = ["address", "name", "kind"];
        assert_eq!(did_you_mean("adress", &known), r#"did you mean "address"?"#);
        assert_eq!(did_you_mean("Nmae", &known), r#"did you mean "name"?"#);
        assert_eq!(
            did_you_mean("colour", &known),
            "known are address, name, kind"
        );
    }

    #[test]
    fn a_pointer_escapes_what_a_pointer_uses_itself() {
        let mistakes = Mistakes::default();
        let value = serde_json::json!({"a/b~c": 1});
        Object::read(&value, "", &["name"], &mistakes);
        let list = mistakes.into_list();
        assert_eq!(list[0].pointer.as_deref(), Some("/a~1b~0c"));
    }
}
