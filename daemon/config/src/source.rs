//! A file's text, the places in it, and its first reading as TOML.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use model::Timestamp;
use toml::de::DeTable;

use crate::kinds::quoted;
use crate::problem::{Place, Problem};
use crate::table::Findings;

/// Nobody writes this much by hand; a log or a device node given by mistake is
/// noticed before it fills the memory.
const FILE_BYTES: u64 = 1024 * 1024;

/// A file that was read.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) file: PathBuf,
    pub(crate) text: String,
    /// When the file was last changed.
    pub(crate) changed: Timestamp,
    line_starts: Vec<usize>,
}

impl Source {
    /// Reads `file`; blocks.
    pub(crate) fn open(file: &Path) -> Result<Source, Problem> {
        let refused = |error: &io::Error| unreadable(file, error);
        let metadata = fs::metadata(file).map_err(|error| refused(&error))?;
        // asked before the file is opened: opening a named pipe would block
        if !metadata.is_file() {
            return Err(not_a_file(file, metadata.is_dir()));
        }

        let mut bytes = Vec::new();
        File::open(file)
            .and_then(|open| open.take(FILE_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|error| refused(&error))?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES) {
            return Err(Problem::of_file(
                file,
                "is longer than 1 MiB",
                "is this the right file?",
            ));
        }
        let changed = metadata.modified().map_or(Timestamp(0), timestamp);
        Source::from_bytes(file, bytes, changed)
    }

    pub(crate) fn from_bytes(
        file: &Path,
        bytes: Vec<u8>,
        changed: Timestamp,
    ) -> Result<Source, Problem> {
        let file = file.to_owned();
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Source::from_text(file, text, changed)),
            Err(error) => {
                let good = error.utf8_error().valid_up_to();
                let sound = String::from_utf8_lossy(&error.as_bytes()[..good]).into_owned();
                let source = Source::from_text(file, sound, changed);
                Err(source.problem(
                    good,
                    None,
                    "the text is not UTF-8 from here on",
                    "save the file as UTF-8",
                ))
            }
        }
    }

    fn from_text(file: PathBuf, mut text: String, changed: Timestamp) -> Source {
        if text.starts_with('\u{feff}') {
            text.remove(0);
        }
        let after_newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(after_newlines).collect();
        Source {
            file,
            text,
            changed,
            line_starts,
        }
    }

    /// Where byte `offset` stands.
    pub(crate) fn place(&self, offset: usize) -> Place {
        let offset = offset.min(self.text.len());
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let before = &self.text.as_bytes()[self.line_starts[line - 1]..offset];
        // every byte that does not continue a character begins one
        let characters = before.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
        Place {
            line,
            column: characters + 1,
        }
    }

    pub(crate) fn problem(
        &self,
        offset: usize,
        key: Option<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Problem {
        Problem {
            file: self.file.clone(),
            place: Some(self.place(offset)),
            key,
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// The file as a TOML table. All that the parser refuses is noted; `None`
    /// where that leaves in doubt which value belongs to which key.
    pub(crate) fn parse(&self, findings: &mut Findings) -> Option<DeTable<'_>> {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        let mut in_order = true;
        for error in &errors {
            let span = error.span().unwrap_or_default();
            let at = span.start;
            let culprit = self.text.get(span).unwrap_or_default();
            let (message, hint) = explain(error.message(), culprit, self.line_of(at));
            findings.note_syntax(at, message, hint);
            in_order &= spares_the_order(error.message());
        }
        in_order.then(|| table.into_inner())
    }

    fn line_of(&self, offset: usize) -> &str {
        let line = self.place(offset).line;
        let end = self.line_starts.get(line).copied();
        &self.text[self.line_starts[line - 1]..end.unwrap_or(self.text.len())]
    }
}

fn timestamp(instant: std::time::SystemTime) -> Timestamp {
    let since_1970 = instant
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(0).plus(since_1970)
}

fn unreadable(file: &Path, error: &io::Error) -> Problem {
    match error.kind() {
        ErrorKind::NotFound => Problem::of_file(
            file,
            "there is no such file",
            "check the path; an empty file will do, since every key has a default",
        ),
        ErrorKind::PermissionDenied => Problem::of_file(
            file,
            "may not be read",
            "let the group sotp read it: chgrp sotp, chmod 640",
        ),
        _ => Problem::of_file(
            file,
            format!("cannot be read: {error}"),
            "look at the file system it lies on",
        ),
    }
}

fn not_a_file(file: &Path, is_directory: bool) -> Problem {
    let message = if is_directory {
        "is a directory, not a file"
    } else {
        "is not a regular file"
    };
    Problem::of_file(file, message, "name a text file")
}

/// How the parser begins the messages after which it knows for sure where the
/// next key begins. After any other, what follows may be read as something it
/// is not, and complaints about it would mislead.
const ORDER_IS_KEPT: &[&str] = &[
    "string values must be quoted",
    "duplicate key",
    "unexpected leading zero",
    "`_` may only go between digits",
    "invalid basic string",
    "missing escaped value",
    "invalid integer",
    "invalid float",
];

fn spares_the_order(message: &str) -> bool {
    ORDER_IS_KEPT.iter().any(|known| message.starts_with(known))
}

/// The parser's `message` about `culprit` in the reader's words, and a hint.
fn explain(message: &str, culprit: &str, line: &str) -> (String, String) {
    let ours = |message: &str, hint: &str| (message.to_owned(), hint.to_owned());
    let begins = |start| message.starts_with(start);
    if begins("string values must be quoted") {
        return match holds_a_secret(line) {
            true => explain_bare_secret(),
            false => explain_bare_word(culprit),
        };
    }
    if begins("duplicate key") {
        return (
            format!("{} stands here a second time", quoted(culprit)),
            "keep one of them; a section, too, is opened once".to_owned(),
        );
    }
    if begins("unclosed table") || begins("unclosed array table") {
        return ours(
            "the closing bracket is missing",
            "a section opens as [icmp], a rule as [[rule]]",
        );
    }
    if begins("unclosed array") {
        return ours(
            "a list that began before is not closed",
            "close it: [\"a\", \"b\"]",
        );
    }
    if begins("invalid basic string") && culprit.is_empty() {
        return ours("the closing quote is missing", "text ends with a \"");
    }
    if begins("key with no value") && line.contains(':') && !line.contains('=') {
        return ours("a key without a value", "write = where the colon is");
    }
    if begins("key with no value") {
        return ours("a key without a value", "write key = value");
    }
    if begins("unexpected leading zero") {
        return ours("a number with a zero before it", "leave the zero out");
    }
    (
        format!("not TOML: {message}"),
        "a line is [section], key = value or # comment; text stands in quotes".to_owned(),
    )
}

/// Whether a key stands in `line` whose value people take for the secret itself:
/// what stands there is not to be repeated.
fn holds_a_secret(line: &str) -> bool {
    let key = line.split('=').next().unwrap_or_default();
    let key = key.rsplit('.').next().unwrap_or_default();
    let key = key.trim_matches(|c: char| c.is_whitespace() || c == '"' || c == '\'');
    !key.ends_with("_file") && ["password", "secret"].iter().any(|word| key.contains(word))
}

fn explain_bare_secret() -> (String, String) {
    (
        "the value stands without quotes".to_owned(),
        "write \"secret://NAME\", which names a secret; the secret itself never stands here"
            .to_owned(),
    )
}

fn explain_bare_word(word: &str) -> (String, String) {
    let hint = match word.to_ascii_lowercase().as_str() {
        "" => {
            return (
                "the value is missing".to_owned(),
                "write one after the =".to_owned(),
            );
        }
        "yes" | "on" | "true" => "write true, in small letters".to_owned(),
        "no" | "off" | "false" => "write false, in small letters".to_owned(),
        _ => format!("write {}", quoted(word)),
    };
    (format!("{} stands without quotes", quoted(word)), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::from_bytes(Path::new("x"), text.into(), Timestamp(0)).unwrap()
    }

    #[test]
    fn columns_are_counted_in_characters_and_a_byte_order_mark_is_none() {
        let source = source("\u{feff}a\nüü = 1\n");
        assert_eq!(source.place(0), Place { line: 1, column: 1 });
        let after_two_umlauts = "a\nüü".len();
        let expected = Place { line: 2, column: 3 };
        assert_eq!(source.place(after_two_umlauts), expected);
        let end = Place { line: 3, column: 1 };
        assert_eq!(source.place(usize::MAX), end);
    }

    #[test]
    fn text_that_is_not_utf_8_is_refused_where_it_begins() {
        let problem = Source::from_bytes(Path::new("x"), b"a = 1\nb = \xff".into(), Timestamp(0))
            .unwrap_err();
        assert_eq!(problem.place, Some(Place { line: 2, column: 5 }));
    }

    #[test]
    fn what_is_no_file_is_refused_by_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing.toml");
        for (path, said) in [
            (missing.as_path(), "no such file"),
            (directory.path(), "is a directory"),
            (Path::new("/dev/zero"), "not a regular file"),
        ] {
            let problem = Source::open(path).unwrap_err();
            assert_eq!(problem.file, path);
            assert!(problem.message.contains(said), "{problem}");
        }
    }

    #[test]
    fn a_file_of_more_than_a_mebibyte_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sotp.toml");
        fs::write(&path, "#".repeat(1024 * 1024)).unwrap();
        assert!(Source::open(&path).is_ok());
        fs::write(&path, "#".repeat(1024 * 1024 + 1)).unwrap();
        let problem = Source::open(&path).unwrap_err();
        assert!(problem.message.contains("1 MiB"), "{problem}");
    }
}
