//! The client and a server that misbehaves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fake;
mod kept;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use fake::{Asked, Home, Ran, Reply, Server, client};

/// Long enough for the slowest machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that says yes to everything.
fn agreeable() -> Server {
    Server::start(|asked| match asked.line.as_str() {
        "GET /api/v1/setup" => Reply::Json(200, json!({"set_up": true})),
        "GET /api/v1/me" => Reply::Json(200, json!({"actor": "user:jane", "bindings": []})),
        "POST /api/v1/sessions" => Reply::Json(201, granted("access", "refresh")),
        _ => Reply::Json(200, json!({"items": []})),
    })
}

fn granted(access: &str, refresh: &str) -> Value {
    json!({
        "access_token": access, "token_type": "Bearer", "expires_in": 300,
        "refresh_token": refresh, "session": "s1", "user": "jane",
    })
}

fn refused(status: u16, detail: &str) -> Reply {
    Reply::Json(status, json!({"type": "/problems/x", "detail": detail}))
}

/// A session whose access token is over.
fn stale() -> Value {
    json!({
        "access_token": "a0", "refresh_token": "r0",
        "access_expires": "2020-01-01T00:00:00Z",
    })
}

/// A session that is good, as far as the client knows.
fn good() -> Value {
    json!({
        "access_token": "a0", "refresh_token": "r0",
        "access_expires": "2120-01-01T00:00:00Z",
    })
}

#[test]
fn the_pinned_certificate_is_talked_to_and_any_other_hears_nothing() {
    let (server, other) = (agreeable(), agreeable());
    let home = Home::new();
    let ask = |server: &Server, pin: &str| {
        home.run(&["--server", &server.url, "--fingerprint", pin, "roles"])
    };
    ask(&server, &server.fingerprint).well();
    ask(&server, &server.fingerprint.replace(':', "").to_lowercase()).well();
    let said = [
        "not trusted",
        &other.fingerprint,
        &server.fingerprint,
        "(from --server)",
        "hint:",
    ];
    ask(&other, &server.fingerprint).failed(4, &said);
    assert!(other.asked().is_empty());
    assert_eq!(server.lines().len(), 2);
}

#[test]
fn a_certificate_that_nobody_vouches_for_hears_nothing() {
    let server = agreeable();
    let home = Home::new();
    let run = home.run(&["--server", &server.url, "roles"]);
    run.failed(4, &["not trusted", "--fingerprint", "--ca-file"]);
    assert!(server.asked().is_empty());
}

#[test]
fn a_file_of_issuers_vouches_for_names_and_for_nobody_else() {
    let (server, other) = (agreeable(), agreeable());
    let home = Home::new();
    let ask = |url: &str, file: &Server| {
        let file = file.certificate.to_str().unwrap();
        home.run(&["--server", url, "--ca-file", file, "roles"])
    };
    ask(&server.url, &server).well();
    ask(&server.url, &other).failed(4, &["not trusted"]);
    let by_number = format!("https://127.0.0.1:{}", server.port);
    ask(&by_number, &server).failed(4, &["not trusted"]);
    assert_eq!(server.lines().len(), 1);
}

#[test]
fn nobody_there_is_said_with_the_address_and_where_it_came_from() {
    let home = Home::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://127.0.0.1:{}", free.local_addr().unwrap().port());
    drop(free);
    let run = Ran::of(
        home.command(&["roles"])
            .env("SOTP_SERVER", &url)
            .output()
            .unwrap(),
    );
    run.failed(4, &[&url, "(from SOTP_SERVER)", "hint:"]);
    let run = home.run(&["--socket", "/nonexistent.sock", "roles"]);
    run.failed(4, &["/nonexistent.sock (from --socket)", "hint:"]);
}

#[test]
fn signing_in_without_a_terminal_needs_to_be_told_whom_to_trust() {
    let server = agreeable();
    let home = Home::new();
    let password = home.file("password", "correct horse battery\n");
    let words = [
        "login",
        &server.url,
        "--user",
        "jane",
        "--password-file",
        &password,
    ];
    let shown = home
        .run(&words)
        .failed(4, &["not trusted", &server.fingerprint]);
    assert!(!home.contexts().exists(), "{shown:?}");
    assert!(server.asked().is_empty());

    let pinned = [
        &words[..],
        &["--fingerprint", &server.fingerprint, "--context", "noc"],
    ]
    .concat();
    home.run(&pinned).well();
    let asked = server.asked().pop().unwrap();
    assert_eq!(
        asked.json(),
        json!({"user": "jane", "password": "correct horse battery"})
    );
    assert_eq!(asked.header("authorization"), None);
    assert_eq!(home.context("noc")["refresh_token"], "refresh");

    let kept = std::fs::read_to_string(home.contexts()).unwrap();
    assert!(!kept.contains("horse"));
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home.contexts()), 0o600);
    assert_eq!(mode(home.contexts().parent().unwrap()), 0o700);

    let me = home.run(&["whoami", "-o", "json"]).well();
    assert!(me.out.contains("user:jane"));
    let asked = server.asked().pop().unwrap();
    assert_eq!(asked.header("authorization"), Some("Bearer access"));

    // the next time nothing but the password is needed
    home.run(&["login", "--user", "jane", "--password-file", &password])
        .well();
    // and a pin once trusted is not dropped for whoever answers now
    let other = agreeable();
    let text = std::fs::read_to_string(home.contexts()).unwrap();
    std::fs::write(home.contexts(), text.replace(&server.url, &other.url)).unwrap();
    let run = home.run(&["login", "--user", "jane", "--password-file", &password]);
    run.failed(4, &["not trusted", &other.fingerprint]);
    assert!(other.asked().is_empty());
}

/// A client on a terminal of its own; `script` makes one.
struct Terminal {
    child: std::process::Child,
    input: std::process::ChildStdin,
    output: mpsc::Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn run(home: &Home, words: &str) -> Terminal {
        let mut child = Command::new("script")
            .args([
                "-qec",
                &format!("{} {words}", client().display()),
                "/dev/null",
            ])
            .env("XDG_CONFIG_HOME", home.path("config"))
            .env_remove("SOTP_SOCKET")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("util-linux's script makes a terminal");
        let mut out = child.stdout.take().unwrap();
        let (send, output) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = out.read(&mut bytes) {
                if send.send(bytes[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take().unwrap();
        Terminal {
            child,
            input,
            output,
            seen: String::new(),
        }
    }

    /// Waits until `text` is on the screen, and then types.
    fn after(&mut self, text: &str, typed: &str) {
        while !self.seen.contains(text) {
            let more = self.output.recv_timeout(PATIENCE);
            let more = more.unwrap_or_else(|_| panic!("no {text:?} in {:?}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&more));
        }
        self.input.write_all(typed.as_bytes()).unwrap();
        self.input.flush().unwrap();
    }

    fn end(mut self) -> (Option<i32>, String) {
        while let Ok(more) = self.output.recv_timeout(PATIENCE) {
            self.seen.push_str(&String::from_utf8_lossy(&more));
        }
        (self.child.wait().unwrap().code(), self.seen)
    }
}

#[test]
fn on_a_terminal_the_certificate_is_shown_and_the_password_is_not() {
    let server = Server::start(|asked| match asked.line.as_str() {
        "GET /api/v1/setup" => Reply::Json(200, json!({"set_up": true})),
        "POST /api/v1/sessions" if asked.json()["code"] == "123456" => {
            Reply::Json(201, granted("access", "refresh"))
        }
        _ => Reply::Json(
            401,
            json!({"type": "/problems/code-needed", "detail": "a code is needed"}),
        ),
    });
    let home = Home::new();
    let mut terminal = Terminal::run(&home, &format!("login {}", server.url));
    terminal.after("Type yes: ", "yes\n");
    terminal.after("User: ", "jane\n");
    terminal.after("Password: ", "hunter2hunter3\x7f2\n");
    terminal.after("Code: ", "123456\n");
    let (code, seen) = terminal.end();
    assert_eq!(code, Some(0), "{seen}");
    assert!(
        seen.contains(&server.fingerprint) && seen.contains("signed in as jane"),
        "{seen}"
    );
    assert!(!seen.contains("hunter"), "{seen}");
    assert_eq!(
        server.asked().pop().unwrap().json()["password"],
        "hunter2hunter2"
    );
    assert_eq!(
        home.context("localhost")["fingerprint"],
        json!(server.fingerprint)
    );
}

#[test]
fn who_does_not_say_yes_to_the_certificate_sends_nothing() {
    let server = agreeable();
    let home = Home::new();
    let mut terminal = Terminal::run(&home, &format!("login {} --user jane", server.url));
    terminal.after("Type yes: ", "y\n");
    let (code, seen) = terminal.end();
    assert_eq!(code, Some(3), "{seen}");
    assert!(server.asked().is_empty() && !home.contexts().exists());
}

#[test]
fn ctrl_c_at_the_password_gives_the_terminal_back() {
    let server = agreeable();
    let home = Home::new();
    let words = format!(
        "login {} --user jane --fingerprint {}; stty -a",
        server.url, server.fingerprint
    );
    let mut terminal = Terminal::run(&home, &words);
    terminal.after("Password: ", "hun\x03");
    let (_code, seen) = terminal.end();
    let given_back = [" echo ", " icanon "]
        .iter()
        .all(|flag| seen.contains(flag));
    assert!(given_back && !seen.contains("-isig"), "{seen}");
    assert!(
        seen.contains("interrupted") && !seen.contains("hun"),
        "{seen}"
    );
}

/// Grants tokens as the daemon does: a refresh token is good for one exchange,
/// and whoever shows an old one again ends the session.
struct Sessions {
    exchanges: AtomicUsize,
    reused: AtomicUsize,
}

impl Sessions {
    fn exchange(&self, asked: &Asked) -> Reply {
        let current = self.exchanges.load(Ordering::SeqCst);
        // as slow as a real one, so that others come meanwhile
        let (_never, wait) = mpsc::channel::<()>();
        let _waited = wait.recv_timeout(Duration::from_millis(150));
        if asked.json()["refresh_token"] != format!("r{current}") {
            self.reused.fetch_add(1, Ordering::SeqCst);
            return refused(401, "the session is over");
        }
        let next = self.exchanges.fetch_add(1, Ordering::SeqCst) + 1;
        Reply::Json(200, granted(&format!("a{next}"), &format!("r{next}")))
    }
}

fn with_sessions() -> (Server, std::sync::Arc<Sessions>) {
    let sessions = std::sync::Arc::new(Sessions {
        exchanges: AtomicUsize::new(0),
        reused: AtomicUsize::new(0),
    });
    let shared = sessions.clone();
    let server = Server::start(move |asked| {
        let current = shared.exchanges.load(Ordering::SeqCst);
        match (asked.line.as_str(), asked.header("authorization")) {
            ("POST /api/v1/sessions/refresh", None) => shared.exchange(asked),
            (_, Some(token)) if current > 0 && token == format!("Bearer a{current}") => {
                Reply::Json(200, json!({"items": []}))
            }
            _ => refused(401, "the token is not good"),
        }
    });
    (server, sessions)
}

#[test]
fn many_processes_at_once_exchange_a_refresh_token_once() {
    let (server, sessions) = with_sessions();
    let home = Home::new();
    home.sign_in(&server, stale());
    let running: Vec<_> = (0..8)
        .map(|_| {
            home.command(&["roles"])
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in running {
        Ran::of(child.wait_with_output().unwrap()).well();
    }
    assert_eq!(sessions.exchanges.load(Ordering::SeqCst), 1);
    assert_eq!(sessions.reused.load(Ordering::SeqCst), 0);
    assert_eq!(home.context("here")["refresh_token"], "r1");
    home.run(&["roles"]).well();
    assert_eq!(sessions.exchanges.load(Ordering::SeqCst), 1);
}

#[test]
fn a_token_that_a_restarted_daemon_does_not_know_is_exchanged_at_once() {
    let (server, sessions) = with_sessions();
    let home = Home::new();
    home.sign_in(&server, good());
    home.run(&["roles"]).well();
    assert_eq!(sessions.exchanges.load(Ordering::SeqCst), 1);
    assert_eq!(home.context("here")["access_token"], "a1");
}

#[test]
fn a_session_that_is_over_is_forgotten_and_says_how_to_go_on() {
    let (server, sessions) = with_sessions();
    sessions.exchanges.store(7, Ordering::SeqCst);
    let home = Home::new();
    home.sign_in(&server, stale());
    let words = [
        "the session is over",
        "(from the context here)",
        "sotp login",
        "--context here",
    ];
    home.run(&["roles"]).failed(4, &words);
    assert_eq!(home.context("here").get("refresh_token"), None);
    assert_eq!(sessions.reused.load(Ordering::SeqCst), 1);
    home.run(&["roles"]).failed(4, &["sotp login"]);
    assert_eq!(sessions.reused.load(Ordering::SeqCst), 1);
}

#[test]
fn signing_out_forgets_the_tokens_even_if_the_server_is_gone() {
    let server = agreeable();
    let home = Home::new();
    home.sign_in(&server, good());
    home.run(&["logout"]).well();
    assert_eq!(server.lines(), ["DELETE /api/v1/me/session"]);
    let kept = home.context("here");
    assert_eq!(kept.get("refresh_token"), None);
    assert_eq!(kept["fingerprint"], json!(server.fingerprint));

    let silent = Server::start(|_asked| Reply::HangUp);
    home.sign_in(&silent, good());
    home.run(&["logout"]).failed(1, &["signed out here"]);
    assert_eq!(home.context("here").get("refresh_token"), None);
}

/// Answers everything, but hangs up at the first request whose line begins so.
fn hangs_up_once_at(start: &'static str) -> Server {
    let times = AtomicUsize::new(0);
    Server::start(move |asked| {
        let hit = asked.line.starts_with(start);
        match hit && times.fetch_add(1, Ordering::SeqCst) == 0 {
            true => Reply::HangUp,
            false if asked.line.starts_with("GET /api/v1/policy") => {
                Reply::Tagged("\"7\"", json!({"require_totp": []}))
            }
            false => Reply::Json(200, json!({"items": [], "name": "x", "token": "sotp_x"})),
        }
    })
}

fn run_at(server: &Server, words: &[&str]) -> Ran {
    let home = Home::new();
    let token = home.file("token", "sotp_abc\n");
    let at = [
        "--server",
        &server.url,
        "--fingerprint",
        &server.fingerprint,
        "--token-file",
        &token,
    ];
    home.run(&[&at, words].concat())
}

#[test]
fn what_is_safe_to_repeat_is_repeated_once_after_the_connection_broke() {
    let server = hangs_up_once_at("GET /api/v1/roles");
    run_at(&server, &["roles"]).well();
    assert_eq!(server.lines().len(), 2);

    let server = hangs_up_once_at("POST /api/v1/tenants");
    run_at(&server, &["tenants", "add", "acme"]).well();
    let asked = server.asked();
    let keys: BTreeSet<_> = asked
        .iter()
        .map(|asked| asked.header("idempotency-key").unwrap())
        .collect();
    assert_eq!((asked.len(), keys.len()), (2, 1));

    let server = Server::start(|_asked| Reply::HangUp);
    run_at(&server, &["roles"]).failed(4, &["broke before the answer"]);
    assert_eq!(server.lines().len(), 2);
}

#[test]
fn what_may_have_been_done_is_not_repeated_and_says_so() {
    let server = hangs_up_once_at("PATCH /api/v1/policy");
    let run = run_at(&server, &["policy", "set", "--require-totp", "ADMIN"]);
    run.failed(4, &["broke before the answer", "it may have been done"]);
    assert_eq!(
        server.lines(),
        ["GET /api/v1/policy", "PATCH /api/v1/policy"]
    );

    let server = hangs_up_once_at("POST /api/v1/tokens");
    let run = run_at(
        &server,
        &["tokens", "add", "x", "--role", "ADMIN", "--expires", "1d"],
    );
    run.failed(4, &["it may have been done"]);
    assert_eq!(server.lines().len(), 1);
}

#[test]
fn a_change_says_which_state_it_saw_over_the_same_connection() {
    let server = hangs_up_once_at("nothing");
    run_at(&server, &["policy", "set", "--require-totp", "ADMIN"]).well();
    let asked = server.asked();
    assert_eq!(asked[1].header("if-match"), Some("\"7\""));
    assert_eq!(asked[1].json(), json!({"require_totp": ["ADMIN"]}));
    assert_eq!(
        asked[1].header("content-type"),
        Some("application/merge-patch+json")
    );
    assert_eq!(asked[0].connection, asked[1].connection);
    assert_eq!(asked[1].header("authorization"), Some("Bearer sotp_abc"));
}

#[test]
fn what_is_set_for_the_first_time_must_not_be_there_yet() {
    let server = Server::start(|asked| match asked.line.starts_with("GET") {
        true => refused(404, "there is none"),
        false => Reply::Json(201, json!({"version": 1})),
    });
    let home = Home::new();
    let value = home.file("value", "hunter2\n");
    let run = run_at(
        &server,
        &["secrets", "set", "acme/smtp", "--value-file", &value],
    )
    .well();
    let asked = server.asked().pop().unwrap();
    assert_eq!(asked.line, "PUT /api/v1/secrets/acme%2Fsmtp");
    assert_eq!(asked.header("if-none-match"), Some("*"));
    assert_eq!(asked.json(), json!({"value": "hunter2"}));
    assert!(!run.err.contains("hunter2") && run.out.is_empty());
}

/// A server at which somebody sets codes up.
fn sets_codes_up(has_password: bool) -> Server {
    Server::start(move |asked| match asked.line.as_str() {
        "GET /api/v1/me" => Reply::Json(200, json!({"user": {"password_set": has_password}})),
        _ => Reply::Json(200, json!({"secret": "SEED", "uri": "otpauth://totp/x"})),
    })
}

#[test]
fn who_sets_codes_up_shows_their_password_before() {
    let home = Home::new();
    let file = home.file("password", "hunter2\n");
    let server = sets_codes_up(true);
    let run = run_at(&server, &["totp", "enable", "--password-file", &file]);
    // there is no code on standard input
    let run = run.failed(3, &["SEED", "no code came"]);
    assert!(!run.err.contains("hunter2"));
    let offer = server.asked().pop().unwrap();
    assert_eq!(offer.line, "POST /api/v1/me/totp");
    assert_eq!(offer.json(), json!({"password": "hunter2"}));

    let server = sets_codes_up(true);
    run_at(&server, &["totp", "enable"]).failed(3, &["--password-file FILE"]);
    assert_eq!(server.lines(), ["GET /api/v1/me"]);
    run_at(&server, &["totp", "enable", "--password-file", "-"]).failed(2, &["standard input"]);
}

#[test]
fn who_has_no_password_sets_codes_up_without() {
    let server = sets_codes_up(false);
    run_at(&server, &["totp", "enable"]).failed(3, &["SEED"]);
    assert_eq!(server.asked().pop().unwrap().json(), json!({}));
}

#[test]
fn who_may_write_and_not_read_sets_secrets_old_and_new() {
    for (there, sent) in [
        (true, vec!["if-match"]),
        (false, vec!["if-match", "if-none-match"]),
    ] {
        let server = Server::start(move |asked| match asked.line.starts_with("GET") {
            true => refused(403, "this needs the permission secrets:read"),
            false if there == asked.header("if-match").is_some() => {
                Reply::Json(200, json!({"version": 1}))
            }
            false => refused(412, "it is not so"),
        });
        let home = Home::new();
        let value = home.file("value", "hunter2");
        run_at(&server, &["secrets", "set", "smtp", "--value-file", &value]).well();
        let asked = server.asked();
        let tried = asked.iter().filter(|asked| asked.line.starts_with("PUT"));
        for (asked, header) in tried.clone().zip(&sent) {
            assert_eq!(asked.header(header), Some("*"));
        }
        assert_eq!(tried.count(), sent.len());
    }
}

#[test]
fn a_token_is_alone_on_standard_output() {
    let server = hangs_up_once_at("nothing");
    let words = [
        "tokens",
        "add",
        "x",
        "--role",
        "READONLY@acme,site=berlin",
        "--expires",
        "90d",
    ];
    let run = run_at(&server, &words).well();
    assert_eq!(run.out, "sotp_x\n");
    assert!(run.err.contains("this once"));
    let asked = server.asked().pop().unwrap();
    assert_eq!(asked.header("idempotency-key"), None);
    let role = json!([{"role": "READONLY", "tenant": "acme", "sites": ["berlin"]}]);
    assert_eq!(asked.json()["bindings"], role);
}

#[test]
fn a_file_that_holds_more_than_a_token_is_not_sent() {
    let server = agreeable();
    let home = Home::new();
    let token = home.file("token", "sotp_abc\nsomething else\n");
    let at = [
        "--server",
        &server.url,
        "--fingerprint",
        &server.fingerprint,
    ];
    let run = home.run(&[&at, &["--token-file", &token, "roles"][..]].concat());
    let run = run.failed(2, &["must hold the token and nothing else"]);
    assert!(!run.err.contains("sotp_abc") && server.asked().is_empty());
}

#[test]
fn an_import_into_a_tenant_has_it_in_every_line() {
    let server = Server::start(|_asked| Reply::Json(200, json!({"created": 1, "failures": []})));
    let home = Home::new();
    let csv = home.file("site.csv", "name,address\ncore1,10.0.0.1\n");
    run_at(&server, &["devices", "import", &csv, "--tenant", "acme"]).well();
    let asked = server.asked().pop().unwrap();
    assert_eq!(asked.body, "name,address,tenant\ncore1,10.0.0.1,acme\n");
}

#[test]
fn an_export_that_breaks_off_is_not_taken_for_all() {
    let server = Server::start(|_asked| Reply::CutOff(1000, "{\"seq\":1}\n".into()));
    let run = run_at(&server, &["audit", "export", "--format", "jsonl"]);
    let run = run.failed(1, &["broke in the middle", "not all"]);
    assert_eq!(run.out, "{\"seq\":1}\n");
    let asked = server.asked().pop().unwrap();
    assert_eq!(asked.header("accept"), Some("application/x-ndjson"));
}

#[test]
fn a_log_that_was_written_anew_is_found_by_the_head_that_was_noted_down() {
    let hash = |letter: &str| letter.repeat(64);
    let verdict =
        json!({"ok": true, "lines": 9, "first": 2, "head": {"seq": 9, "hash": hash("9")}});
    let lines: Vec<Value> = (2..=9)
        .rev()
        .map(|seq| json!({"seq": seq, "hash": hash(&seq.to_string())}))
        .collect();
    let server = Server::start(move |asked| match asked.line.contains("verify") {
        true => Reply::Json(200, verdict.clone()),
        false => Reply::Json(200, json!({"items": lines, "next": null})),
    });
    let verify = |head: String| run_at(&server, &["audit", "verify", "--head", &head]);
    verify(format!("5:{}", hash("5"))).well();
    verify(format!("5:{}", hash("6"))).failed(1, &["written anew"]);
    verify(format!("10:{}", hash("1"))).failed(1, &["cut off"]);
    verify(format!("1:{}", hash("1"))).failed(1, &["older than what is kept"]);
}

#[test]
fn a_wrong_password_of_ones_own_is_not_taken_for_a_session_that_is_over() {
    let server = Server::start(|asked| match asked.line.as_str() {
        "GET /api/v1/me" => Reply::Json(200, json!({"actor": "user:jane"})),
        "PUT /api/v1/me/password" => refused(401, "the old password is wrong"),
        _ => Reply::Json(200, granted("a1", "r1")),
    });
    let home = Home::new();
    home.sign_in(&server, good());
    let (old, new) = (home.file("old", "a\n"), home.file("new", "b\n"));
    let words = [
        "password",
        "--old-password-file",
        &old,
        "--new-password-file",
        &new,
    ];
    let run = home.run(&words).failed(4, &["the old password is wrong"]);
    assert!(!run.err.contains("not signed in"), "{run:?}");
    assert_eq!(
        server.lines(),
        ["GET /api/v1/me", "PUT /api/v1/me/password"]
    );
}

#[test]
fn contexts_made_by_many_processes_at_once_are_all_there() {
    let server = agreeable();
    let home = Home::new();
    let token = home.file("token", "sotp_abc\n");
    let names: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();
    let running: Vec<_> = names
        .iter()
        .map(|name| {
            let words = [
                "login",
                &server.url,
                "--context",
                name,
                "--token-file",
                &token,
                "--fingerprint",
                &server.fingerprint,
            ];
            home.command(&words).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in running {
        Ran::of(child.wait_with_output().unwrap()).well();
    }
    for name in &names {
        assert_eq!(home.context(name)["api_token"], "sotp_abc", "{name}");
    }
    let shown = home.run(&["context", "ls", "-o", "json"]).well();
    assert!(!shown.out.contains("sotp_abc"));
    assert_eq!(shown.out.matches("\"name\"").count(), names.len());
    home.run(&["context", "rm", "c3"]).well();
    home.run(&["context", "use", "c3"])
        .failed(2, &["no context c3", "c1, c2, c4"]);
}

#[test]
fn colours_are_there_where_they_are_wanted_and_nowhere_else() {
    let server = Server::start(|_asked| {
        Reply::Json(
            200,
            json!({"items": [{"seq": 1, "outcome": "denied", "actor": "\u{1b}[2Jx"}], "next": null}),
        )
    });
    let words = ["audit", "ls", "-o", "table"];
    let coloured = |more: &[&str]| {
        run_at(&server, &[&words, more].concat())
            .well()
            .out
            .contains("\u{1b}[")
    };
    assert!(!coloured(&[]));
    assert!(!coloured(&["--color", "never"]));
    assert!(coloured(&["--color", "always"]));
    let shown = run_at(&server, &[&words, &["--color=always"][..]].concat()).well();
    assert!(!shown.out.contains("\u{1b}[2J"), "{shown:?}");
}

/// Answers with `plugin` whatever is asked of it.
fn with_plugin(plugin: Value) -> Server {
    Server::start(move |_asked| Reply::Tagged("\"3\"", plugin.clone()))
}

#[test]
fn everything_that_a_plugin_asks_for_is_named_when_it_is_granted() {
    let asks = json!({"http": ["https://a.example/*"], "kv": [], "limits": ["memory_mib=128"]});
    let server = with_plugin(json!({"name": "ups", "asks": asks, "waiting": null, "missing": []}));
    let said = run_at(&server, &["plugin", "grant", "ups", "--all"]).well();
    let asked = server.asked();
    let lines: Vec<&str> = asked.iter().map(|asked| asked.line.as_str()).collect();
    let expected = ["GET /api/v1/plugins/ups", "POST /api/v1/plugins/ups/grant"];
    assert_eq!(lines, expected);
    assert_eq!(asked[1].json(), json!({"capabilities": asks}));
    drop(said);

    // the version that waits is the one that is granted something
    let more = json!({"kv": [], "secrets": []});
    let waiting = json!({"version": "2.0.0", "asks": more});
    let server = with_plugin(json!({"name": "ups", "asks": asks, "waiting": waiting}));
    run_at(&server, &["plugin", "grant", "ups", "--all"]).well();
    assert_eq!(server.asked()[1].json(), json!({"capabilities": more}));

    // nothing is taken away because the answer is not understood
    let server = with_plugin(json!({"name": "ups"}));
    run_at(&server, &["plugin", "grant", "ups", "--all"]).failed(1, &["asks for"]);
    assert_eq!(server.asked().len(), 1);
}
