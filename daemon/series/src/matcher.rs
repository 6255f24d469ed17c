//! One condition on one label.

use std::fmt;

use regex::{Regex, RegexBuilder};

use crate::NotASelector;

/// A compiled regular expression takes at most this much memory: a person's
/// pattern takes some KB, and one that takes more is there to be expensive.
const REGEX_LIMIT: usize = 1 << 20;

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatcherKind {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Matches,
    /// `!~`, anchored at both ends
    NotMatches,
}

impl MatcherKind {
    /// As it is written.
    #[must_use]
    pub fn sign(self) -> &'static str {
        match self {
            MatcherKind::Equal => "=",
            MatcherKind::NotEqual => "!=",
            MatcherKind::Matches => "=~",
            MatcherKind::NotMatches => "!~",
        }
    }
}

/// One condition. A label that is not there reads as the empty text.
#[derive(Clone, Debug)]
pub struct Matcher {
    name: String,
    kind: MatcherKind,
    value: String,
    pattern: Pattern,
}

/// What the value says, before it is turned round by `!`.
#[derive(Clone, Debug)]
pub(crate) enum Pattern {
    /// One of these, sorted.
    OneOf(Vec<String>),
    /// What begins so, with at least so many bytes in all.
    Prefix(String, usize),
    /// What the expression matches from end to end.
    Regex(Regex),
}

impl Pattern {
    pub(crate) fn matches(&self, value: &str) -> bool {
        match self {
            Pattern::OneOf(values) => values.binary_search_by(|v| v.as_str().cmp(value)).is_ok(),
            Pattern::Prefix(prefix, least) => value.len() >= *least && value.starts_with(prefix),
            Pattern::Regex(regex) => regex.is_match(value),
        }
    }
}

impl Matcher {
    /// A condition on the label `name` (`__name__`: the metric).
    ///
    /// # Errors
    ///
    /// [`NotASelector`] where `value` is not a regular expression, or one too
    /// large.
    pub fn new(name: &str, kind: MatcherKind, value: &str) -> Result<Matcher, NotASelector> {
        let pattern = match kind {
            MatcherKind::Equal | MatcherKind::NotEqual => Pattern::OneOf(vec![value.to_owned()]),
            MatcherKind::Matches | MatcherKind::NotMatches => pattern(value)?,
        };
        Ok(Matcher {
            name: name.to_owned(),
            kind,
            value: value.to_owned(),
            pattern,
        })
    }

    /// The label's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is compared.
    #[must_use]
    pub fn kind(&self) -> MatcherKind {
        self.kind
    }

    /// With what it is compared, as it was given.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a label with this value is meant.
    #[must_use]
    pub fn accepts(&self, value: &str) -> bool {
        self.pattern.matches(value) != self.is_negative()
    }

    pub(crate) fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Whether it accepts what the pattern does not match.
    pub(crate) fn is_negative(&self) -> bool {
        matches!(self.kind, MatcherKind::NotEqual | MatcherKind::NotMatches)
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}\"", self.name, self.kind.sign())?;
        for c in self.value.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                _ => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

/// What a regular expression means, without a regular expression where it can
/// be said so.
fn pattern(text: &str) -> Result<Pattern, NotASelector> {
    Ok(match plain(text) {
        Some(pattern) => pattern,
        None => Pattern::Regex(anchored(text)?),
    })
}

/// `a|b|c`, `(a|b|c)`, `a.*` and `a.+`, where a, b and c are plain text.
fn plain(text: &str) -> Option<Pattern> {
    if let Some(prefix) = text.strip_suffix(".*").and_then(literal) {
        let least = prefix.len();
        return Some(Pattern::Prefix(prefix, least));
    }
    if let Some(prefix) = text.strip_suffix(".+").and_then(literal) {
        let least = prefix.len() + 1;
        return Some(Pattern::Prefix(prefix, least));
    }
    let inside = text.strip_prefix('(').and_then(|t| t.strip_suffix(')'));
    let choices = inside.unwrap_or(text).split('|').map(literal);
    let mut choices: Vec<String> = choices.collect::<Option<_>>()?;
    choices.sort_unstable();
    choices.dedup();
    Some(Pattern::OneOf(choices))
}

/// The text that an expression stands for if it stands for just one. An
/// escape stands for itself before punctuation, and for a class, a control
/// character or an assertion before the rest.
fn literal(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' => {
                return None;
            }
            '\\' => match chars.next()? {
                // `\<` and `\>` are word boundaries
                '<' | '>' => return None,
                escaped if escaped.is_ascii_punctuation() => plain.push(escaped),
                _ => return None,
            },
            _ => plain.push(c),
        }
    }
    Some(plain)
}

fn anchored(text: &str) -> Result<Regex, NotASelector> {
    // alone first: `a)|(b` makes no sense alone, but it would within brackets
    compiled(text)?;
    compiled(&format!("^(?s:{text})$"))
}

fn compiled(text: &str) -> Result<Regex, NotASelector> {
    RegexBuilder::new(text)
        .size_limit(REGEX_LIMIT)
        .build()
        .map_err(|error| NotASelector {
            at: 0,
            what: complaint(&error),
        })
}

fn complaint(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => format!(
            "the regular expression takes more than {limit} bytes of memory; use smaller repetitions or fewer alternatives"
        ),
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            let why = last.trim_start_matches("error: ");
            match caret(&text) {
                Some(place) => format!(
                    "not a regular expression: {why} at its character {}",
                    place + 1
                ),
                None => format!("not a regular expression: {why}"),
            }
        }
    }
}

/// Where in the expression the complaint's caret stands: it prints expressions
/// of one line indented by four.
fn caret(complaint: &str) -> Option<usize> {
    complaint
        .lines()
        .find(|line| line.trim_start().starts_with('^') && line.trim_matches([' ', '^']).is_empty())
        .and_then(|line| line.find('^'))
        .and_then(|column| column.checked_sub(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(text: &str) -> Matcher {
        Matcher::new("a", MatcherKind::Matches, text).unwrap()
    }

    #[test]
    fn an_expression_matches_the_whole_value() {
        assert!(matches("Gi.*").accepts("Gi0/1"));
        assert!(!matches("i.*").accepts("Gi0/1"));
        assert!(matches("a|bc").accepts("bc"));
        assert!(!matches("a|bc").accepts("abc"));
        assert!(!matches("a?|b").accepts("ab"));
    }

    #[test]
    fn a_dot_is_a_line_end_too() {
        for pattern in ["a.*", "a.+", "[a].*", "a."] {
            assert!(matches(pattern).accepts("a\n"), "{pattern}");
        }
    }

    #[test]
    fn what_can_be_said_without_an_expression_is() {
        for pattern in ["", "abc", r"10\.0\.0\.1", "a|b", "(a|b)", "a|", "()"] {
            let pattern = matches(pattern).pattern;
            assert!(matches!(pattern, Pattern::OneOf(_)), "{pattern:?}");
        }
        for pattern in [".*", "Gi.+", r"Gi0\/.*"] {
            let pattern = matches(pattern).pattern;
            assert!(matches!(pattern, Pattern::Prefix(..)), "{pattern:?}");
        }
        for pattern in [
            "a.*b", "a.*|b.*", r"a\d", r"a\.*", "(a)|(b)", r"\<a", "(?i)a", "a{2}",
        ] {
            let pattern = matches(pattern).pattern;
            assert!(matches!(pattern, Pattern::Regex(_)), "{pattern:?}");
        }
    }

    #[test]
    fn the_quick_ways_say_what_the_expression_says() {
        let patterns = [
            "", "ab", r"a\.b", "a|b", "(a|)", "a|a", ".*", ".+", "ab.*", "ab.+", r"\-a",
        ];
        let values = ["", "a", "b", "ab", "abc", "a.b", "axb", "-a", "\n"];
        for pattern in patterns {
            let slow = anchored(pattern).unwrap();
            for value in values {
                let quick = matches(pattern).accepts(value);
                assert_eq!(quick, slow.is_match(value), "{pattern} on {value:?}");
            }
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_and_says_where() {
        let refused = |text| {
            Matcher::new("a", MatcherKind::Matches, text)
                .unwrap_err()
                .what
        };
        assert_eq!(
            refused("ab[c"),
            "not a regular expression: unclosed character class at its character 3"
        );
        assert!(refused("a)|(b").contains("unopened group"));
        assert!(refused("*").contains("repetition"));
        assert!(refused("\\").contains("incomplete escape"));
        assert!(refused("(?x)a #").contains("unclosed group"));
        let large = refused(r"(\w{100}){100}");
        assert!(large.contains("bytes of memory"), "{large}");
    }

    #[test]
    fn a_negative_matcher_accepts_the_rest() {
        let not = Matcher::new("a", MatcherKind::NotMatches, "x|y").unwrap();
        assert!(!not.accepts("x") && not.accepts("") && not.accepts("z"));
        let not = Matcher::new("a", MatcherKind::NotEqual, "x").unwrap();
        assert!(!not.accepts("x") && not.accepts("") && not.accepts("x.*"));
    }
}
