//! How far something long has come: one line on a terminal, nothing elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::output::safe;

/// What is done sooner shows nothing.
const SILENCE: Duration = Duration::from_millis(300);

/// Between two looks.
const PACE: Duration = Duration::from_millis(200);

/// A line on standard error that is written over, and gone at the end.
pub(crate) struct Progress {
    terminal: bool,
    begun: Instant,
    shown: Option<Instant>,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        Progress {
            terminal: std::io::stderr().is_terminal() && !dumb,
            begun: Instant::now(),
            shown: None,
        }
    }

    /// None: where the line would stand among what is printed.
    pub(crate) fn silent() -> Progress {
        Progress {
            terminal: false,
            begun: Instant::now(),
            shown: None,
        }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// Shows `text`, unless the line before is still fresh.
    pub(crate) fn tell(&mut self, text: impl FnOnce() -> String) {
        let due = match self.shown {
            None => self.begun.elapsed() >= SILENCE,
            Some(then) => then.elapsed() >= PACE,
        };
        if self.terminal && due {
            self.shown = Some(Instant::now());
            write(&format!("\r\u{1b}[K{}", safe(&text())));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            write("\r\u{1b}[K");
        }
    }
}

fn write(text: &str) {
    let mut terminal = std::io::stderr().lock();
    // who does not see how far it is loses nothing
    let _shown = terminal
        .write_all(text.as_bytes())
        .and_then(|()| terminal.flush());
}
