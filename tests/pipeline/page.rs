//! The set-up page in a real browser: what a fake one would forgive, above all
//! what the page's own content security policy forbids it.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use harness::Folder;

use crate::setup::quiet;
use crate::skipped;

/// The browser, its driver, and what drives it: packages `chromium-driver` and
/// `python3-selenium`.
fn is_installed() -> bool {
    let selenium = Command::new("/usr/bin/python3")
        .args(["-c", "import selenium"])
        .output();
    Path::new("/usr/bin/chromedriver").exists() && selenium.is_ok_and(|run| run.status.success())
}

#[test]
fn the_set_up_page_works_in_chromium() {
    if !is_installed() {
        return skipped("chromium-driver or python3-selenium is missing");
    }
    let folder = Folder::with_https();
    let daemon = quiet(&folder);
    let link = daemon.ask("POST", "/api/v1/setup-links", None);
    let script =
        Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("pipeline/setup_page.py");
    let walk = Command::new("/usr/bin/python3")
        .arg(script)
        .arg(format!("https://{}", folder.https()))
        .arg(link["token"].as_str().unwrap())
        .args(["jane", "five tall herons wading 7"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&walk.stdout);
    let why = String::from_utf8_lossy(&walk.stderr);
    assert!(walk.status.success(), "{said}\n{why}\n{}", daemon.log());
    // past the capture of test output
    let _ = writeln!(std::io::stderr(), "{said}");
}
