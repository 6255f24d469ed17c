//! The author's guide keeps its word: every example is built, loaded and gives
//! what its golden cases say; every block of code in a page is the file that it
//! names; what `sotp plugin new` writes is green at once. So are the plugins
//! that come with the daemon. With `SOTP_GOLDEN=write` what comes is written to
//! the cases.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test may"
)]

use std::fs;
use std::path::{Path, PathBuf};

use author::{Language, Painter, start};
use contract::Kind;

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap()
}

/// The plugins in a folder, by name.
fn plugins_in(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("plugin.toml").is_file());
    folders.sort();
    folders
}

/// What is wrong with a plugin, in words; nothing if it is well.
fn complaints(folder: &Path) -> String {
    let painter = Painter { colours: false };
    let built = match author::build(folder, false) {
        Ok(built) => built,
        Err(problems) => {
            let lines = problems.iter().map(|p| author::problem(p, folder, painter));
            return lines.collect();
        }
    };
    let report = match author::run(&built.package, &|_| true) {
        Ok(report) => report,
        Err(fault) => return author::fault(&fault, folder, painter),
    };
    if std::env::var("SOTP_GOLDEN").is_ok_and(|mode| mode == "write") {
        for (case, report) in built.package.golden.iter().zip(&report.cases) {
            let path = folder.join("golden").join(format!("{}.json", case.name));
            fs::write(path, author::bless(case, report).to_json()).unwrap();
        }
    }
    match report.is_good() {
        true => String::new(),
        false => format!("{:#?}", report.cases),
    }
}

fn assert_well(folder: &Path) {
    if !can_be_built(folder) {
        return;
    }
    let wrong = complaints(folder);
    assert!(wrong.is_empty(), "{}: {wrong}", folder.display());
}

#[test]
fn every_example_gives_what_its_golden_cases_say() {
    let folders = plugins_in("sdk/examples");
    assert_eq!(folders.len(), 10, "five kinds in two languages");
    folders.iter().for_each(|folder| assert_well(folder));
}

#[test]
fn every_plugin_that_comes_with_the_daemon_gives_what_its_golden_cases_say() {
    let folders = plugins_in("plugins");
    assert!(!folders.is_empty());
    folders.iter().for_each(|folder| assert_well(folder));
}

#[test]
fn what_new_writes_is_green_at_once() {
    let scripts = Kind::ALL.map(|kind| (kind, Language::Rhai));
    let crates = [Kind::Parser, Kind::Rule].map(|kind| (kind, Language::Rust));
    for (kind, language) in scripts.into_iter().chain(crates) {
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("acme.ups-2");
        let began = std::time::Instant::now();
        start("acme.ups-2", kind, language, &new).unwrap();
        let manifest = fs::read_to_string(new.join("plugin.toml")).unwrap();
        let (id, word) = ("id = \"acme.ups-2\"", format!("kind = \"{kind}\""));
        assert!(
            manifest.contains(id) && manifest.contains(&word),
            "{manifest}"
        );
        assert_well(&new);
        println!(
            "{kind} in {language:?}: green after {:.0?}",
            began.elapsed()
        );
    }
}

#[test]
fn a_reviewer_has_nothing_to_say_of_the_plugins_that_come_with_the_daemon() {
    let mut said = String::new();
    for folder in plugins_in("plugins").iter().filter(|at| can_be_built(at)) {
        let built = author::build(folder, false).unwrap();
        let described = author::described(&built.package).unwrap();
        for remark in author::lint(&built.package, Some(&described)) {
            said += &format!("{}: {remark}\n", built.package.manifest.id);
        }
    }
    assert!(said.is_empty(), "{said}");
}

/// Whether the plugin needs no Rust, or Rust is here with what plugins are built
/// for; says so where it is not, and fails where `SOTP_NO_SKIP` is set.
fn can_be_built(folder: &Path) -> bool {
    if !folder.join("Cargo.toml").is_file() {
        return true;
    }
    let sysroot = std::process::Command::new("rustc")
        .args(["--print", "sysroot"])
        .output();
    let sysroot = sysroot.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let is_here = sysroot.is_ok_and(|sysroot| {
        let target = Path::new(&sysroot).join("lib/rustlib/wasm32-unknown-unknown");
        target.is_dir()
    });
    if !is_here {
        let why = "no Rust for wasm32-unknown-unknown";
        assert!(std::env::var_os("SOTP_NO_SKIP").is_none(), "{why}");
        eprintln!("skipped {}: {why}", folder.display());
    }
    is_here
}

/// A page says `<!-- sdk/examples/parser-rhai/main.rhai -->` before a block of
/// code: the block is that file, whole.
#[test]
fn every_block_of_code_in_the_guide_is_the_file_that_it_names() {
    let mut blocks = 0;
    let mut pages = vec![root().join("sdk/README.md")];
    let docs = fs::read_dir(root().join("sdk/docs")).unwrap();
    pages.extend(docs.map(|entry| entry.unwrap().path()));
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for part in text.split("\n<!-- sdk/").skip(1) {
            let (name, rest) = part.split_once(" -->\n").unwrap();
            let (_, block) = rest.split_once('\n').unwrap();
            let (block, _) = block.split_once("```\n").unwrap();
            let file = fs::read_to_string(root().join("sdk").join(name)).unwrap();
            let page = page.display();
            assert_eq!(block, file, "{page}: this is no longer sdk/{name}");
            blocks += 1;
        }
    }
    assert!(blocks >= 15, "{blocks} blocks: where are the others?");
}
