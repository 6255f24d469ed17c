//! DURABILITY.md is true: every line of it names tests that exist.

use std::path::{Path, PathBuf};

fn crate_dir() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap())
}

fn sources(dir: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else {
            text += &std::fs::read_to_string(path).unwrap();
        }
    }
    text
}

/// Each line's number and the tests that it names.
fn lines(page: &str) -> Vec<(usize, Vec<String>)> {
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let mut lines = Vec::new();
    for row in rows.filter(|row| !row.starts_with("| #")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        assert_eq!(cells.len(), 6, "{row}");
        let tests = cells[5]
            .split(',')
            .map(|name| name.trim().trim_matches('`').to_owned());
        lines.push((cells[0].trim().parse().unwrap(), tests.collect()));
    }
    lines
}

#[test]
fn every_line_of_the_durability_page_is_tested() {
    let page = std::fs::read_to_string(crate_dir().join("DURABILITY.md")).unwrap();
    let sources = sources(&crate_dir().join("src"));
    let lines = lines(&page);
    assert!(lines.len() >= 20);
    for (place, (number, tests)) in lines.iter().enumerate() {
        assert_eq!(*number, place + 1, "the lines are numbered");
        assert!(!tests.is_empty());
        for test in tests {
            let is_there = sources.contains(&format!("#[test]\nfn {test}()"));
            assert!(is_there, "line {number} names {test}, which is not there");
        }
    }
}
