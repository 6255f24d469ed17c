//! The reference page is what the functions say of themselves.

use std::path::Path;

/// `SOTP_GOLDEN=write` writes it anew.
#[test]
fn the_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/rhai/REFERENCE.md");
    let page = script::reference();
    if std::env::var_os("SOTP_GOLDEN").is_some_and(|wish| wish == "write") {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "run SOTP_GOLDEN=write cargo test -p script"
    );
}
