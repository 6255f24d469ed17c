//! A person at a terminal.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use harness::{Folder, binary, write_private};

/// Lines of an answer that are written down.
const LINES: usize = 12;

/// A person at a terminal, whose words and answers are written down.
pub(crate) struct Terminal {
    pub(crate) home: PathBuf,
    pub(crate) transcript: String,
}

impl Terminal {
    pub(crate) fn new(folder: &Folder) -> Terminal {
        let home = folder.path().join("home");
        std::fs::create_dir(&home).unwrap();
        Terminal {
            home,
            transcript: String::new(),
        }
    }

    /// Runs `sotp`: its exit code and all that it said, of which the first lines
    /// are written down.
    pub(crate) fn sotp(&mut self, words: &str) -> (i32, String) {
        let output = Command::new(binary("sotp"))
            .args(words.split_whitespace())
            .env_clear()
            .env("HOME", &self.home)
            .env("PATH", "/usr/bin:/bin")
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        let code = output.status.code().unwrap();
        let mut shown: Vec<&str> = said.lines().take(LINES).collect();
        if said.lines().count() > LINES {
            shown.push("…");
        }
        let shown = shown.join("\n");
        let told = format!("$ sotp {words}\n{shown}\n[exit code {code}]\n\n");
        // where this test happens to be is no part of the story
        let here = self.home.parent().unwrap().display().to_string();
        self.transcript.push_str(&told.replace(&here, "…"));
        (code, said)
    }

    /// The same, and it has to go well.
    #[track_caller]
    pub(crate) fn good(&mut self, words: &str) -> String {
        let (code, said) = self.sotp(words);
        assert_eq!(code, 0, "sotp {words}: {said}");
        said
    }

    /// A file of this person with a password in it.
    pub(crate) fn keep(&self, name: &str, text: &str) {
        write_private(&self.home.join(name), text);
    }
}
