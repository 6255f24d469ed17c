//! A whole box, backed up while it runs and restored elsewhere.

use std::io::Write;
use std::path::Path;

use harness::{Daemon, Folder, eventually};
use serde_json::{Value, json};

use crate::terminal::Terminal;
use crate::{QUICK, daemon, namespace};

/// Points that have been measured before anything is backed up.
const POINTS: usize = 5;

fn points(daemon: &Daemon) -> Vec<Value> {
    let range = daemon.get("/api/v1/devices/here/metrics/icmp_rtt_seconds?from=-1h");
    let points = range["series"][0]["points"].as_array();
    points.cloned().unwrap_or_default()
}

/// Moves a restored store to where a daemon looks for its own.
fn move_in(restored: &Path, folder: &Folder) {
    for name in ["sotp.redb", "sotp.samples"] {
        std::fs::rename(restored.join(name), folder.path().join(name)).unwrap();
    }
}

#[test]
fn a_box_that_is_backed_up_while_it_runs_answers_the_same_where_it_is_restored() {
    let Some(namespace) = namespace() else { return };
    let folder = Folder::new();
    let watching = daemon(&folder, &namespace, "");
    let here = json!({"name": "here", "address": "127.0.0.1", "site": "berlin"});
    watching.ask("POST", "/api/v1/devices", Some(&here));
    eventually(60, "points", || match points(&watching).len() {
        POINTS.. => Ok(()),
        few => Err(few),
    });
    let mut terminal = Terminal::new(&folder);
    let socket = folder.socket().display().to_string();
    let export = |socket: &str, until: &str| {
        format!(
            "--socket {socket} metrics export icmp_rtt_seconds{{site=\"berlin\"}} --from -1h --until {until} --format csv"
        )
    };
    let until = watching.get("/api/v1/devices/here/metrics/icmp_rtt_seconds?from=-1h");
    let until = until["until"].as_str().unwrap().to_owned();
    let before = terminal.good(&export(&socket, &until));
    assert!(before.lines().count() > POINTS, "{before}");

    terminal.good(&format!("--socket {socket} backup create box.tar"));
    let verified = terminal.good("backup verify box.tar");
    assert!(verified.contains("whole"), "{verified}");
    terminal.good("backup restore box.tar restored");
    let (code, said) = terminal.sotp("backup restore box.tar restored");
    assert_ne!(code, 0, "restored over something: {said}");
    assert!(watching.stop().success());

    let second = Folder::new();
    std::fs::copy(folder.key(), second.key()).unwrap();
    move_in(&terminal.home.join("restored"), &second);
    second.write_settings("", &format!("{QUICK}\n[schedule]\n"));
    let restored = Daemon::start(&second, Some(&namespace));
    let socket = second.socket().display().to_string();
    let after = terminal.good(&export(&socket, &until));
    assert_eq!(after, before, "another answer to the same question");
    let verdict = restored.get("/api/v1/audit/verify");
    assert!(verdict["broken"].is_null(), "{verdict}");
    assert!(restored.stop().success());
    flipped(&mut terminal);
    let _ = writeln!(std::io::stderr(), "{}", terminal.transcript);
}

/// A backup with one bit that is not as it was is found out, and nothing is
/// restored from it.
fn flipped(terminal: &mut Terminal) {
    let path = terminal.home.join("box.tar");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(terminal.home.join("flipped.tar"), bytes).unwrap();
    let (code, said) = terminal.sotp("backup verify flipped.tar");
    assert_ne!(code, 0, "{said}");
    let (code, said) = terminal.sotp("backup restore flipped.tar other");
    assert_ne!(code, 0, "{said}");
    let left = std::fs::read_dir(terminal.home.join("other"));
    assert_eq!(left.map_or(0, Iterator::count), 0, "something was left");
}
