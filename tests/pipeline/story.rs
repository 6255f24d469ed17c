//! From nobody to an audit log that holds, told by `sotp` itself.

use std::io::Write;

use harness::{ADMIN, Daemon, Folder, PASSWORD, eventually};
use serde_json::json;

use crate::setup::quiet;
use crate::terminal::Terminal;

/// What stands after the link's `#`.
fn token_of(said: &str) -> String {
    let link = said
        .split_whitespace()
        .find(|word| word.starts_with("https://") && word.contains("/setup#"));
    let link = link.unwrap_or_else(|| panic!("no link in {said}"));
    let (_, fragment) = link.split_once('#').unwrap();
    fragment.rsplit('=').next().unwrap().to_owned()
}

fn set_up(terminal: &mut Terminal, folder: &Folder, daemon: &Daemon) {
    let setup = format!("--socket {} setup", folder.socket().display());
    let said = terminal.good(&setup);
    let token = token_of(&said);
    // what the page does when somebody opened the link
    let wanted = json!({"token": token, "user": ADMIN, "password": PASSWORD});
    let made = daemon.https().say("POST", "/api/v1/setup", &wanted);
    assert_eq!(made.status, 201, "{}", made.body);
    terminal.transcript.push_str(&format!(
        "(the link is opened in a browser, which makes the administrator {ADMIN})\n\n"
    ));
    terminal.transcript = terminal.transcript.replace(&token, "…");
    let (code, said) = terminal.sotp(&setup);
    assert_eq!(code, 3, "set up a second time: {said}");
}

#[test]
fn setup_login_role_denied_audit_verify_is_a_story_that_sotp_tells() {
    let folder = Folder::with_https();
    let daemon = quiet(&folder);
    let mut terminal = Terminal::new(&folder);
    set_up(&mut terminal, &folder, &daemon);

    terminal.keep("password", PASSWORD);
    terminal.keep("own-password", "Pinsel+Nebel+77+Anker");
    let server = format!("https://{}", folder.https());
    let trust = format!("--ca-file {}", folder.tls().certificate.display());
    let login = |user: &str| {
        format!("login {server} {trust} --context {user} --user {user} --password-file password")
    };
    terminal.good(&login(ADMIN));
    let me = terminal.good("whoami");
    assert!(me.contains(ADMIN) && me.contains("ADMIN"), "{me}");
    terminal.good("users add otto --role READONLY --password-file password");
    terminal.good(&login("otto"));
    terminal.good(
        "--context otto password --old-password-file password --new-password-file own-password",
    );
    let (code, said) = terminal.sotp("--context otto devices add core1 127.0.9.1");
    assert_eq!(code, 3, "{said}");
    assert!(
        said.contains("devices:write"),
        "it does not say what is missing: {said}"
    );
    let (code, _) = terminal.sotp("--context otto audit ls");
    assert_eq!(code, 3);

    // denied attempts are written down with the next commit
    eventually(10, "two lines of what was denied", || {
        let denied = daemon.get("/api/v1/audit?outcome=denied&actor=user:otto");
        match denied["items"].as_array().map_or(0, Vec::len) {
            2.. => Ok(()),
            _ => Err(denied),
        }
    });
    let audit = format!("--context {ADMIN} audit");
    let denied = terminal.good(&format!("{audit} ls --outcome denied"));
    assert!(denied.contains("otto"), "{denied}");
    let export = terminal.good(&format!("{audit} export --format jsonl"));
    assert!(export.lines().count() >= 5, "{export}");
    let verified = terminal.good(&format!("{audit} verify"));
    assert!(
        verified.contains("ok") || verified.contains("whole"),
        "{verified}"
    );

    terminal.good("--context otto logout");
    let (code, _) = terminal.sotp("--context otto whoami");
    assert_ne!(code, 0, "signed out and still in");
    assert!(!terminal.transcript.contains(PASSWORD));
    let contexts = std::fs::read_dir(&terminal.home).unwrap().count();
    assert!(contexts >= 1);
    let _ = writeln!(std::io::stderr(), "{}", terminal.transcript);
}
