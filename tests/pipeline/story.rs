//! From nobody to an audit log that holds, told by `sotp` itself.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use harness::{ADMIN, Daemon, Folder, PASSWORD, binary, eventually, write_private};
use serde_json::json;

use crate::setup::quiet;

/// Lines of an answer that are written down.
const LINES: usize = 12;

/// A person at a terminal, whose words and answers are written down.
struct Terminal {
    home: PathBuf,
    transcript: String,
}

impl Terminal {
    fn new(folder: &Folder) -> Terminal {
        let home = folder.path().join("home");
        std::fs::create_dir(&home).unwrap();
        Terminal {
            home,
            transcript: String::new(),
        }
    }

    /// Runs `sotp`: its exit code and all that it said, of which the first lines
    /// are written down.
    fn sotp(&mut self, words: &str) -> (i32, String) {
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
    fn good(&mut self, words: &str) -> String {
        let (code, said) = self.sotp(words);
        assert_eq!(code, 0, "sotp {words}: {said}");
        said
    }

    /// A file of this person with a password in it.
    fn keep(&self, name: &str, text: &str) {
        write_private(&self.home.join(name), text);
    }
}

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
