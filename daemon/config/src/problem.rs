//! What is wrong with a file, said so that the reader can put it right at once.

use std::fmt;
use std::path::{Path, PathBuf};

/// A place in a file, as editors count: both from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character in it; one past the last for "at the end of the line".
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// In which file.
    pub file: PathBuf,
    /// Where in it; `None` where the file as a whole is the trouble.
    pub place: Option<Place>,
    /// The key it is about, with its section, such as `icmp.every`; `None`
    /// where there is no key yet.
    pub key: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl Problem {
    /// The file as a whole is the trouble.
    pub(crate) fn of_file(file: &Path, message: impl Into<String>, hint: &str) -> Problem {
        Problem {
            file: file.to_owned(),
            place: None,
            key: None,
            message: message.into(),
            hint: hint.to_owned(),
        }
    }
}

impl fmt::Display for Problem {
    /// `file:line:column: key: message`, and the hint on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(place) = self.place {
            write!(f, "{place}:")?;
        }
        if let Some(key) = &self.key {
            write!(f, " {key}:")?;
        }
        write!(f, " {}", self.message)?;
        if !self.hint.is_empty() {
            write!(f, "\n  hint: {}", self.hint)?;
        }
        Ok(())
    }
}

/// Everything that is wrong, in the order of the files and the lines in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, problem) in self.0.iter().enumerate() {
            let gap = if nth == 0 { "" } else { "\n" };
            write!(f, "{gap}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// What is wrong with one value; whoever read it knows where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) message: String,
    pub(crate) hint: String,
}

impl Mistake {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Mistake {
        Mistake {
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// A word longer than this is nobody's slip of the pen; comparing it with
/// every known word would only cost time.
const LONGEST_SLIP: usize = 64;

/// The one of `known` that `word` was probably meant to be: at most a third of
/// its letters differ.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let word = word.to_lowercase();
    if word.chars().count() > LONGEST_SLIP {
        return None;
    }
    known
        .into_iter()
        .map(|candidate| {
            let slips = strsim::osa_distance(&word, &candidate.to_lowercase());
            (slips, candidate)
        })
        .filter(|(slips, candidate)| *slips <= candidate.chars().count().div_ceil(3))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// A hint for `word`, which is none of `known`: the nearest of them, or all.
pub(crate) fn did_you_mean(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None => format!("known: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_finds_the_word_that_was_meant() {
        let known = ["every", "probes", "timeout"];
        assert_eq!(nearest("evry", known), Some("every"));
        assert_eq!(nearest("Timeuot", known), Some("timeout"));
        assert_eq!(nearest("community", known), None);
        assert_eq!(nearest(&"e".repeat(1_000_000), known), None);
    }

    #[test]
    fn a_problem_reads_as_editors_like_it() {
        let problem = Problem {
            file: "/etc/sotp/sotp.toml".into(),
            place: Some(Place { line: 3, column: 9 }),
            key: Some("icmp.every".to_owned()),
            message: "30 has no unit".to_owned(),
            hint: "write \"30s\"".to_owned(),
        };
        let shown = "/etc/sotp/sotp.toml:3:9: icmp.every: 30 has no unit\n  hint: write \"30s\"";
        assert_eq!(problem.to_string(), shown);
        let of_file = Problem::of_file(Path::new("/a"), "does not exist", "");
        assert_eq!(of_file.to_string(), "/a: does not exist");
    }
}
