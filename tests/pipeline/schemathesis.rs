//! The running daemon against its own OpenAPI document, as each role.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::{Client, Daemon, Folder};
use serde_json::json;

use crate::skipped;

/// The same cases in every run.
const SEED: &str = "17";

/// Cases per operation and phase: all four roles take a few minutes.
const EXAMPLES: &str = "5";

/// The tool, if it is installed: `packaging/deps.sh test`.
fn tool() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")))?;
    let path = cache.join("sotp/schemathesis/bin/schemathesis");
    path.exists().then_some(path)
}

/// What is in the store while it runs, so that something is found.
fn furnish(admin: &Client) {
    admin.ask("POST", "/api/v1/tenants", &json!({"name": "acme"}));
    for place in 1..4 {
        let device = json!({"name": format!("core{place}"), "address": format!("127.0.9.{place}"), "enabled": false});
        admin.ask("POST", "/api/v1/devices", &device);
    }
    let community = json!({"kind": "snmp-v2c", "community": "public"});
    admin.ask("PUT", "/api/v1/credentials/campus", &community);
    admin.ask("PUT", "/api/v1/secrets/smtp", &json!({"value": "s3cret"}));
    admin.add_person("berta", &json!([{"role": "READONLY"}]));
}

/// The tool's settings: which answers mean what here. What is good by its shape
/// may be refused by its meaning (400 for parameters, 422 for bodies): no schema
/// says what a cursor, a password that others guess, or an address is.
const SETTINGS: &str = "\
[checks]
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 406, 409, 412, 413, 415, 422, 428, 429]
positive_data_acceptance.expected-statuses = [\"2xx\", 303, 400, 401, 403, 404, 409, 412, 422, 428, 429]
missing_required_header.expected-statuses = [400, 401, 403, 404, 406, 415, 422, 428]
";

/// Runs it as `role`; whether all was well, and what it said.
fn run(program: &Path, folder: &Folder, client: &Client, role: &str) -> (bool, String) {
    let settings = folder.path().join("schemathesis.toml");
    std::fs::write(&settings, SETTINGS).unwrap();
    let output = Command::new(program)
        .arg("--config-file")
        .arg(&settings)
        .arg("run")
        .arg(format!("https://{}/api/v1/openapi.json", client.address()))
        .args([
            "--header",
            &format!("Authorization: Bearer {}", client.token()),
        ])
        .args(["--tls-verify", "false", "--checks", "all"])
        .args(["--phases", "examples,coverage,fuzzing,stateful"])
        .args(["--seed", SEED, "--max-examples", EXAMPLES])
        .arg("--no-color")
        .current_dir(folder.path())
        .env("PYTHONIOENCODING", "utf-8")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    std::fs::write(folder.path().join(format!("schemathesis-{role}")), &said).unwrap();
    (output.status.success(), said)
}

#[test]
fn schemathesis_finds_no_server_error_and_no_answer_that_the_document_does_not_tell() {
    let Some(program) = tool() else {
        return skipped("schemathesis is not installed: packaging/deps.sh test");
    };
    let mut wrong = Vec::new();
    for role in ["READONLY", "AUDITOR", "OPERATOR", "ADMIN"] {
        // each begins with the same things: what one deletes is there for the next
        let folder = Folder::with_https();
        folder.write_api_settings(
            "requests_per_minute = 100000\nanonymous_per_minute = 100000",
            "[icmp]\nevery = \"60s\"\n",
        );
        let daemon = Daemon::start(&folder, None);
        let admin = daemon.set_up();
        furnish(&admin);
        let client = admin.service("schemathesis", &json!([{"role": role}]));
        let (well, said) = run(&program, &folder, &client, role);
        let summary = said.rfind("SUMMARY").map_or(said.as_str(), |place| {
            let line = said[..place].rfind('\n').map_or(0, |end| end + 1);
            &said[line..]
        });
        let _ = writeln!(std::io::stderr(), "schemathesis as {role}:\n{summary}");
        if !well {
            // a request that it made up can be a megabyte on a line
            let lines = said
                .lines()
                .map(|line| line.chars().take(300).collect::<String>());
            wrong.push(format!(
                "as {role}:\n{}",
                lines.collect::<Vec<_>>().join("\n")
            ));
        }
        let log = daemon.log();
        assert!(!log.contains("panicked"), "{log}");
        assert!(daemon.stop().success());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
