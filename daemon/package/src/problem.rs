//! What is wrong with a plugin, said so that its author can put it right at
//! once.

use std::fmt;

use contract::Place;

/// Something that is wrong with a plugin, for its author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Option<Place>,
    /// What.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem of which nothing more is known.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Problem {
        Problem {
            place: None,
            message: message.into(),
            hint: None,
        }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    /// Says where it is.
    #[must_use]
    pub fn at(mut self, place: Place) -> Problem {
        self.place = Some(place);
        self
    }

    /// Says in which file it is; its first line.
    #[must_use]
    pub fn in_file(self, file: impl Into<String>) -> Problem {
        self.at(Place {
            file: file.into(),
            line: 1,
            column: 0,
        })
    }
}

impl fmt::Display for Problem {
    /// `file:line:column: message`; the hint is for whoever shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// A word longer than this is nobody's slip of the pen; comparing it with
/// every known word would only cost time.
const LONGEST_SLIP: usize = 64;

/// A hint for `word`, which is none of `known`: the one that it was probably
/// meant to be (at most a third of its letters differ), or all of them.
pub(crate) fn did_you_mean(word: &str, known: &[&str]) -> String {
    let typed = word.to_lowercase();
    let slips = |known: &&&str| strsim::osa_distance(&typed, &known.to_lowercase());
    let is_near = |known: &&&str| slips(known) <= known.chars().count().div_ceil(3);
    let nearest = known.iter().filter(is_near).min_by_key(slips);
    match nearest.filter(|_| word.len() <= LONGEST_SLIP) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None if known.is_empty() => "leave it out".to_owned(),
        None => format!("known: {}", known.join(", ")),
    }
}

/// `text` in quotes, escaped and not longer than a line.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 80;
    let mut short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_finds_the_word_that_was_meant() {
        let known = ["version", "license"];
        assert_eq!(did_you_mean("versoin", &known), "did you mean \"version\"?");
        assert_eq!(did_you_mean("licence", &known), "did you mean \"license\"?");
        assert_eq!(did_you_mean("zzz", &known), "known: version, license");
        let long = "version".repeat(1_000_000);
        assert_eq!(did_you_mean(&long, &known), "known: version, license");
    }

    #[test]
    fn a_problem_reads_as_editors_like_it() {
        let place = Place {
            file: "plugin.toml".to_owned(),
            line: 3,
            column: 9,
        };
        let problem = Problem::new("is no version").at(place);
        assert_eq!(problem.to_string(), "plugin.toml:3:9: is no version");
        let whole = Problem::new("is empty").in_file("README.md");
        assert_eq!(whole.to_string(), "README.md:1: is empty");
        assert_eq!(quoted("a\nb"), r#""a\nb""#);
        assert!(quoted(&"x".repeat(500)).chars().count() < 90);
    }
}
