//! Mistakes, shown as a good compiler shows them: what, where, the line itself
//! with a caret, who called it, what to do.

use std::fmt::Write;
use std::path::Path;

use contract::{Fault, Place};
use package::Problem;

/// Colours, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Painter {
    /// Whether there are colours.
    pub colours: bool,
}

impl Painter {
    fn paint(self, code: &str, text: &str) -> String {
        match self.colours {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// Something is wrong.
    #[must_use]
    pub fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Something is right.
    #[must_use]
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Less important.
    #[must_use]
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// More important.
    #[must_use]
    pub fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }
}

/// A fault of a plugin whose sources lie in `folder`.
#[must_use]
pub fn fault(fault: &Fault, folder: &Path, painter: Painter) -> String {
    let place = fault.place.as_ref();
    shown(
        &fault.message,
        place,
        &fault.trace,
        fault.hint.as_deref(),
        folder,
        painter,
    )
}

/// A problem of a plugin whose files lie in `folder`.
#[must_use]
pub fn problem(problem: &Problem, folder: &Path, painter: Painter) -> String {
    let place = problem.place.as_ref();
    let hint = problem.hint.as_deref();
    shown(&problem.message, place, &[], hint, folder, painter)
}

fn shown(
    message: &str,
    place: Option<&Place>,
    trace: &[String],
    hint: Option<&str>,
    folder: &Path,
    painter: Painter,
) -> String {
    let mut text = format!("{}: {}\n", painter.bad("error"), plain(message));
    let number = place.map_or(String::new(), |place| place.line.to_string());
    let margin = " ".repeat(number.len().max(1));
    let bar = painter.dim("|");
    if let Some(place) = place {
        let arrow = painter.dim("-->");
        let _ = writeln!(text, "{margin} {arrow} {}", plain(&place.to_string()));
        if let Some(line) = line_of(folder, place) {
            let _ = writeln!(text, "{margin} {bar}");
            let _ = writeln!(text, "{} {bar} {}", painter.dim(&number), line.shown);
            if let Some(caret) = line.caret {
                let caret = format!("{}^", " ".repeat(caret));
                let _ = writeln!(text, "{margin} {bar} {}", painter.bad(&caret));
            }
        }
    }
    for caller in trace {
        let _ = writeln!(
            text,
            "{margin} {} called from {}",
            painter.dim("="),
            plain(caller)
        );
    }
    if let Some(hint) = hint {
        let word = painter.strong("help");
        let _ = writeln!(
            text,
            "{margin} {} {word}: {}",
            painter.dim("="),
            plain(hint)
        );
    }
    text
}

struct Line {
    shown: String,
    /// Columns before the caret.
    caret: Option<usize>,
}

/// Columns of a line that are shown.
const WIDE: usize = 160;

/// Bytes of a source file that is looked into.
const LONG: u64 = 4 << 20;

/// The line that a place is in, if its file is one of the plugin's.
fn line_of(folder: &Path, place: &Place) -> Option<Line> {
    let relative = Path::new(&place.file);
    let inside = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
    if relative.is_absolute() || !relative.components().all(inside) {
        return None;
    }
    let path = folder.join(relative);
    if std::fs::metadata(&path).ok()?.len() > LONG {
        return None;
    }
    let source = std::fs::read_to_string(&path).ok()?;
    let number = usize::try_from(place.line).ok()?.checked_sub(1)?;
    let line = source.lines().nth(number)?;
    let shown: String = line.replace('\t', "    ").chars().take(WIDE).collect();
    let column = usize::try_from(place.column).ok()?.checked_sub(1);
    let caret = column.map(|column| {
        let before = line.chars().take(column);
        before.map(|c| if c == '\t' { 4 } else { 1 }).sum()
    });
    Some(Line {
        shown: plain(&shown),
        caret: caret.filter(|caret| *caret <= WIDE),
    })
}

/// Text without what a terminal would obey.
fn plain(text: &str) -> String {
    let kept = text.chars().map(|c| match c {
        '\n' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::FaultClass;

    const PLAIN: Painter = Painter { colours: false };

    #[test]
    fn a_mistake_is_shown_with_its_line_and_a_caret() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("main.rhai"),
            "fn parse(input) {\n\tguage(1);\n}\n",
        )
        .unwrap();
        let mut wrong = Fault::new(FaultClass::Load, "Function not found: guage");
        wrong.place = Some(Place {
            file: "main.rhai".to_owned(),
            line: 2,
            column: 2,
        });
        wrong.trace = vec!["parse() at main.rhai:1:1".to_owned()];
        wrong.hint = Some("did you mean `gauge`?".to_owned());
        let expected = "\
error: Function not found: guage
  --> main.rhai:2:2
  |
2 |     guage(1);
  |     ^
  = called from parse() at main.rhai:1:1
  = help: did you mean `gauge`?
";
        assert_eq!(fault(&wrong, folder.path(), PLAIN), expected);
    }

    #[test]
    fn a_place_outside_the_plugin_and_control_characters_show_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["/etc/passwd", "../secret"] {
            let mut wrong = Fault::new(FaultClass::Trap, "boom \x1b[31m");
            wrong.place = Some(Place {
                file: file.to_owned(),
                line: 1,
                column: 1,
            });
            let said = fault(&wrong, folder.path(), PLAIN);
            assert!(
                !said.contains('\x1b') && said.lines().count() == 2,
                "{said}"
            );
        }
    }
}
