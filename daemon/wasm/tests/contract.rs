//! The contract that was released stays: what was built against it runs on.
//! `sdk/wit/README.md` has the rules.
#![allow(
    clippy::unwrap_used,
    reason = "in a test, what cannot be prepared has failed"
)]

use std::path::{Path, PathBuf};

use wit_component::semver_check;
use wit_parser::Resolve;

const WORLDS: [&str; 5] = [
    "parser-plugin",
    "rule-plugin",
    "remediation-plugin",
    "notifier-plugin",
    "poller-plugin",
];

fn wit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/wit")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(wit().join(path)).unwrap()
}

/// Whether what was built for `before` runs on a host of `now`, for one world;
/// else why not.
fn compatible(before: &str, now: &str, world: &str) -> Result<(), String> {
    // two packages of one name have to differ in their version
    let now = now.replace("package sotp:plugin@1.", "package sotp:plugin@1.999");
    let mut resolve = Resolve::default();
    let before = resolve.push_str("before.wit", before).unwrap();
    let now = resolve.push_str("now.wit", &now).unwrap();
    let before = resolve.select_world(&[before], Some(world)).unwrap();
    let now = resolve.select_world(&[now], Some(world)).unwrap();
    semver_check(resolve, before, now).map_err(|why| format!("{why:#}"))
}

fn released() -> Vec<(String, String)> {
    let directories = std::fs::read_dir(wit().join("released")).unwrap();
    let mut all: Vec<_> = directories
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|version| {
            let text = read(&format!("released/{version}/plugin.wit"));
            (version, text)
        })
        .collect();
    all.sort();
    all
}

#[test]
fn every_released_contract_is_still_kept() {
    let now = read("v1/plugin.wit");
    let released = released();
    assert!(!released.is_empty());
    for (version, before) in released {
        assert!(before.contains(&format!("package sotp:plugin@{version};")));
        for world in WORLDS {
            if let Err(why) = compatible(&before, &now, world) {
                panic!("what was built for {version} no longer runs: {world}: {why}");
            }
        }
    }
}

#[test]
fn the_version_of_the_contract_is_released_as_it_stands() {
    let now = read("v1/plugin.wit");
    let version = now
        .lines()
        .find_map(|line| line.strip_prefix("package sotp:plugin@")?.strip_suffix(';'))
        .unwrap();
    let same = released()
        .into_iter()
        .find(|(released, _)| released == version)
        .map(|(_, text)| text == now);
    // a version that is not released yet may change
    assert_ne!(
        same,
        Some(false),
        "{version} was released; give the contract another version"
    );
}

/// One change of the contract, and whether old plugins run on.
#[track_caller]
fn changed(from: &str, to: &str, world: &str) -> Result<(), String> {
    let before = read("v1/plugin.wit");
    let now = before.replacen(from, to, 1);
    assert_ne!(before, now, "{from:?} is no longer in the contract");
    compatible(&before, &now, world)
}

#[test]
fn the_check_notices_what_breaks_plugins() {
    for (from, to, world) in [
        // a record gains a field
        (
            "record point { at: timestamp, value: f64 }",
            "record point { at: timestamp, value: f64, unit: string }",
            "rule-plugin",
        ),
        // a variant gains a case
        (
            "internal(string),",
            "internal(string), other(string),",
            "parser-plugin",
        ),
        // an enum gains a case
        (
            "enum severity { info,",
            "enum severity { notice, info,",
            "notifier-plugin",
        ),
        // a function gains a parameter
        (
            "delete: func(key: string);",
            "delete: func(key: string, at: u64);",
            "poller-plugin",
        ),
        // a function goes
        ("now: func() -> timestamp;", "", "remediation-plugin"),
        // a kind has to export more
        (
            "interpret: func(n: notification",
            "forget: func();\n    interpret: func(n: notification",
            "notifier-plugin",
        ),
    ] {
        assert!(changed(from, to, world).is_err(), "{from} -> {to}");
    }
}

#[test]
fn the_check_allows_what_the_rules_allow() {
    for (from, to, world) in [
        // a new host function
        (
            "now: func() -> timestamp;",
            "now: func() -> timestamp;\n    zone: func() -> string;",
            "parser-plugin",
        ),
        // a new host interface
        (
            "world base { import log;",
            "interface lines { line: func() -> string; }\nworld base { import lines; import log;",
            "parser-plugin",
        ),
    ] {
        assert_eq!(changed(from, to, world), Ok(()), "{from} -> {to}");
    }
}
