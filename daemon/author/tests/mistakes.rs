//! What an author is shown for the mistakes that authors make: the whole text,
//! kept in tests/mistakes. After a change: `SOTP_WRITE_GOLDEN=1 cargo test -p
//! author --test mistakes`, and read the difference.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test may")]

use std::fs;
use std::path::{Path, PathBuf};

use author::{Language, Painter, start};
use contract::Failure;

const PLAIN: Painter = Painter { colours: false };

/// A new plugin with `from` in its source replaced by `to`.
fn spoilt(folder: &Path, language: Language, from: &str, to: &str) -> PathBuf {
    let at = folder.join("acme-ups");
    start("acme-ups", contract::Kind::Parser, language, &at).unwrap();
    let source = at.join(match language {
        Language::Rhai => "main.rhai",
        Language::Rust => "src/lib.rs",
    });
    let text = fs::read_to_string(&source).unwrap();
    assert!(text.contains(from), "the template has no {from:?}: {text}");
    fs::write(&source, text.replacen(from, to, 1)).unwrap();
    at
}

/// What its author is shown when its cases are run.
fn shown(folder: &Path) -> String {
    let built = match author::build(folder, false) {
        Ok(built) => built,
        Err(list) => {
            let lines = list.iter().map(|p| author::problem(p, folder, PLAIN));
            return lines.collect();
        }
    };
    let report = match author::run(&built.package, &|_| true) {
        Ok(report) => report,
        Err(fault) => return author::fault(&fault, folder, PLAIN),
    };
    assert!(!report.is_good(), "a mistake, and all is well");
    let came = report.cases.iter().flat_map(|case| &case.came);
    let shown = came.map(|came| match came {
        Err(Failure::Fault(fault)) => author::fault(fault, folder, PLAIN),
        other => format!("{other:?}\n"),
    });
    shown.collect()
}

fn assert_shown(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/mistakes/{name}.txt"));
    if std::env::var_os("SOTP_WRITE_GOLDEN").is_some() {
        fs::write(&path, text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "{} is out of date", path.display());
}

fn assert_rhai(name: &str, from: &str, to: &str) {
    let folder = tempfile::tempdir().unwrap();
    let at = spoilt(folder.path(), Language::Rhai, from, to);
    assert_shown(name, &shown(&at));
}

#[test]
fn a_function_that_is_misspelt_is_named_with_the_one_that_was_meant() {
    assert_rhai("typo", "gauge(", "guage(");
}

#[test]
fn a_column_that_is_not_there_is_named_where_it_is_read() {
    assert_rhai("column", "row.int(2)", "row.int(42)");
}

#[test]
fn an_endless_loop_is_shown_by_a_line_of_the_loop() {
    let endless = "fn parse(input) {\n    let n = 0;\n    while n >= 0 {\n        n += 1;\n    }";
    let folder = tempfile::tempdir().unwrap();
    let at = spoilt(folder.path(), Language::Rhai, "fn parse(input) {", endless);
    let text = shown(&at);
    // where in the loop it was when its time was over is chance
    let (before, after) = text.split_once("it was at main.rhai:").expect("a place");
    let (_, after) = after.split_once(" last").expect("the last place");
    assert_shown(
        "loop",
        &format!("{before}it was at main.rhai:… last{after}"),
    );
}

#[test]
fn a_value_that_is_no_number_is_refused_where_it_is_emitted() {
    assert_rhai("nan", "row.int(5) / 100.0", "0.0 / 0.0");
}

#[test]
fn a_panic_in_rust_is_shown_by_its_line() {
    if !can_build_rust() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let loops = "for row in input.table()?.rows() {\n";
    let broken =
        format!("{loops}            let none: Option<u32> = None;\n            none.unwrap();\n");
    let at = spoilt(folder.path(), Language::Rust, loops, &broken);
    assert_shown("panic", &shown(&at));
}

/// Whether Rust is here with what plugins are built for; says so where it is
/// not, and fails where `SOTP_NO_SKIP` is set.
fn can_build_rust() -> bool {
    let sysroot = std::process::Command::new("rustc")
        .args(["--print", "sysroot"])
        .output();
    let sysroot = sysroot.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let is_here = sysroot.is_ok_and(|sysroot| {
        let target = Path::new(&sysroot).join("lib/rustlib/wasm32-unknown-unknown");
        target.is_dir()
    });
    if !is_here {
        let why = "no Rust for wasm32-unknown-unknown: plugins in Rust are not tested";
        assert!(std::env::var_os("SOTP_NO_SKIP").is_none(), "{why}");
        eprintln!("skipped: {why}");
    }
    is_here
}
