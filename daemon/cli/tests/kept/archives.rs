//! `sotp backup verify|restore`: without any daemon.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use backup::{About, Recipients};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::names;
use crate::fake::{Home, Ran};

/// A pair of keys that the documentation of age shows; nothing is protected by it.
const PUBLIC: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";
const PRIVATE: &str =
    "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33\n";

/// A backup of two files.
fn make(home: &Home, recipients: &[String]) -> PathBuf {
    let snapshot = home.path("snapshot");
    std::fs::create_dir_all(snapshot.join("sotp.samples/seg")).unwrap();
    std::fs::write(snapshot.join("sotp.redb"), "the catalog").unwrap();
    std::fs::write(snapshot.join("sotp.samples/seg/1.seg"), vec![7; 600_000]).unwrap();
    let about: About = serde_json::from_value(json!({
        "format": 1, "product": "0.1.0", "schema": 9, "made": 1_767_225_600_000_i64,
        "host": "nms1", "files": 0, "bytes": 0, "counts": {"devices": 50, "segments": 1},
    }))
    .unwrap();
    let archive = home.path("x.tar");
    let out = std::fs::File::create(&archive).unwrap();
    let recipients = Recipients::parse(recipients).unwrap();
    backup::write(&snapshot, about, &recipients, out, &mut |_bytes| {}).unwrap();
    archive
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_whole_backup_is_verified_and_its_contents_are_told() {
    let home = Home::new();
    let archive = make(&home, &[]);
    let run = home
        .run(&["backup", "verify", text(&archive), "-o", "json"])
        .well();
    let facts: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(
        (&facts["files"], &facts["bytes"]),
        (&json!(2), &json!(600_011))
    );
    assert_eq!(facts["counts"], json!({"devices": 50, "segments": 1}));
    assert_eq!(
        (&facts["host"], &facts["encrypted"]),
        (&json!("nms1"), &json!(false))
    );
    let run = home
        .run(&["backup", "verify", text(&archive), "-o", "table"])
        .well();
    assert!(
        run.out.contains("50 devices, 1 segments") && run.out.contains("2026-01-01"),
        "{run:?}"
    );
    assert_eq!(run.err, "the backup is whole\n");
}

#[test]
fn a_backup_is_verified_from_a_pipe() {
    let home = Home::new();
    let archive = std::fs::File::open(make(&home, &[])).unwrap();
    let mut command = home.command(&["backup", "verify", "-"]);
    Ran::of(command.stdin(archive).output().unwrap()).well();
}

#[test]
fn a_flipped_bit_and_a_lost_end_are_found_wherever_they_are() {
    let home = Home::new();
    let archive = make(&home, &[]);
    let whole = std::fs::read(&archive).unwrap();
    let into = home.path("restored");
    for place in (0..whole.len()).step_by(whole.len() / 12) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        std::fs::write(&archive, bytes).unwrap();
        home.run(&["backup", "verify", text(&archive)])
            .failed(1, &["error: cannot verify"]);
    }
    std::fs::write(&archive, &whole[..whole.len() / 2]).unwrap();
    home.run(&["backup", "restore", text(&archive), text(&into)])
        .failed(1, &["cut short", text(&archive)]);
    assert!(!into.exists());
}

#[test]
fn a_restore_says_what_is_left_to_do() {
    let home = Home::new();
    let (archive, into) = (make(&home, &[]), home.path("restored"));
    let run = home
        .run(&[
            "backup",
            "restore",
            text(&archive),
            text(&into),
            "-o",
            "table",
        ])
        .well();
    assert_eq!(
        std::fs::read(into.join("sotp.redb")).unwrap(),
        b"the catalog"
    );
    assert_eq!(
        std::fs::read(into.join("sotp.samples/seg/1.seg")).unwrap(),
        vec![7; 600_000]
    );
    for step in [
        "systemctl stop sotpd",
        text(&into),
        "chown -R sotp:sotp",
        "/etc/sotp/sotp-kek",
    ] {
        assert!(run.err.contains(step), "{step}: {run:?}");
    }
    assert!(
        run.out.contains("50 devices") && run.out.contains("took"),
        "{run:?}"
    );
}

#[test]
fn nothing_is_restored_into_a_directory_that_is_in_use() {
    let home = Home::new();
    let archive = make(&home, &[]);
    let into = home.path("snapshot");
    let before = names(&into);
    home.run(&["backup", "restore", text(&archive), text(&into)])
        .failed(3, &["is not empty"]);
    assert_eq!(names(&into), before);
}

#[test]
fn an_encrypted_backup_is_read_with_its_key_and_with_no_other() {
    let home = Home::new();
    let archive = make(&home, &[PUBLIC.to_owned()]);
    let key = home.file("key.txt", PRIVATE);
    let verify = |more: &[&str]| home.run(&[&["backup", "verify", text(&archive)], more].concat());
    verify(&["--identity", &key]).well();
    verify(&[]).failed(2, &["--identity FILE"]);
    let wrong = home.file("wrong.txt", "AGE-SECRET-KEY-hunter2\n");
    let run = verify(&["--identity", &wrong]).failed(2, &["wrong.txt"]);
    assert!(!run.err.contains("hunter2"));
}

#[test]
fn what_is_not_there_is_named() {
    let home = Home::new();
    let run = home.run(&["backup", "verify", "/nonexistent.tar"]);
    run.failed(1, &["cannot read /nonexistent.tar"]);
}

#[test]
fn ctrl_c_in_a_restore_leaves_nothing_behind() {
    let home = Home::new();
    let into = home.path("restored");
    let archive = std::fs::read(make(&home, &[])).unwrap();
    let mut command = home.command(&["backup", "restore", "-", text(&into)]);
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut feeding = child.stdin.take().unwrap();
    // far more than a pipe holds: most of it was read
    let (begin, rest) = archive.split_at(400_000);
    feeding.write_all(begin).unwrap();
    assert!(into.exists());
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    // its reader waits for more, and notices with the next byte that nobody does
    for byte in rest {
        if child.try_wait().unwrap().is_some() || feeding.write_all(&[*byte]).is_err() {
            break;
        }
    }
    drop(feeding);
    Ran::of(child.wait_with_output().unwrap()).failed(130, &["interrupted"]);
    assert!(!into.exists());
}
