//! The reference page, made of what stands beside each function.

use std::fmt::Write;

use rhai::Engine;

use crate::prelude;

const INTRODUCTION: &str = include_str!("introduction.md");

/// The reference of everything that a script can use, as Markdown.
#[must_use]
pub fn reference() -> String {
    let sections = prelude::register(&mut Engine::new_raw(), None);
    let mut page = INTRODUCTION.to_owned();
    for section in &sections {
        let _ = write!(page, "\n## {}\n\n", section.title);
        if !section.kinds.is_empty() {
            let kinds: Vec<&str> = section.kinds.iter().map(|kind| kind.word()).collect();
            let _ = write!(page, "*For: {}.* ", kinds.join(", "));
        }
        let _ = write!(page, "{}\n\n", section.text);
        page.push_str("| | |\n|---|---|\n");
        for (signature, doc) in &section.entries {
            let doc = doc.replace('|', "\\|");
            let _ = writeln!(page, "| `{signature}` | {doc} |");
        }
    }
    page
}
