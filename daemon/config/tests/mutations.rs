//! However a file is spoilt: no panic, and every problem lies inside the file.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use config::{Problems, read, read_rules};
use proptest::prelude::*;

fn etc(name: &str) -> String {
    let etc = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../etc");
    fs::read_to_string(etc.join(name)).unwrap()
}

/// A shipped file with everything in it put to use, but for second places of a
/// secret.
fn uncommented(name: &str) -> Vec<u8> {
    let text = etc(name);
    let is_setting = |rest: &&str| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase());
    let lines = text
        .lines()
        .filter(|line| {
            !["#password_file", "#secret_key_file"]
                .iter()
                .any(|key| line.starts_with(key))
        })
        .map(|line| line.strip_prefix('#').filter(is_setting).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n").into_bytes()
}

/// What a slip of the hand, a bad merge or a bad disk does to a file.
#[derive(Clone, Debug)]
enum Spoil {
    Replace(u8),
    Insert(&'static str),
    Cut(usize),
    /// Half-written: it ends here.
    End,
    /// A piece of it stands here once more.
    Repeat(usize, usize),
}

fn spoil() -> impl Strategy<Value = Spoil> {
    let pieces = [
        "\"",
        "'",
        "\"\"\"",
        "[",
        "]",
        "[[",
        "{",
        "}",
        "=",
        ",",
        ".",
        "#",
        "\n",
        "\r",
        "\t",
        "\u{0}",
        "\u{feff}",
        "ü",
        "-",
        "0",
        "99999999999999999999",
        "1e999",
        "nan",
        "inf",
        "0x",
        "true",
        "s",
        "\\u0000",
        "\\",
        "1979-05-27",
        "rule",
        "[mail]\n",
        "[[rule]]\n",
        "\u{1b}[31m",
        "[oidc]\n",
        "[vault]\n",
        "[backup]\n",
        "[plugins]\n",
        "s3://",
        "https://",
        "secret://",
        "/0",
        ":",
    ];
    prop_oneof![
        any::<u8>().prop_map(Spoil::Replace),
        prop::sample::select(pieces.to_vec()).prop_map(Spoil::Insert),
        (1..40_usize).prop_map(Spoil::Cut),
        Just(Spoil::End),
        (0..5_000_usize, 1..200_usize).prop_map(|(from, length)| Spoil::Repeat(from, length)),
    ]
}

fn spoilt(mut bytes: Vec<u8>, spoils: Vec<(prop::sample::Index, Spoil)>) -> Vec<u8> {
    for (place, spoil) in spoils {
        if bytes.is_empty() {
            break;
        }
        let at = place.index(bytes.len());
        match spoil {
            Spoil::Replace(byte) => bytes[at] = byte,
            Spoil::Insert(piece) => drop(bytes.splice(at..at, piece.bytes())),
            Spoil::Cut(length) => drop(bytes.drain(at..bytes.len().min(at + length))),
            Spoil::End => bytes.truncate(at),
            Spoil::Repeat(from, length) => {
                let from = from % bytes.len();
                let piece = bytes[from..bytes.len().min(from + length)].to_vec();
                drop(bytes.splice(at..at, piece));
            }
        }
    }
    bytes
}

fn every_problem_lies_inside(problems: &Problems, file: &PathBuf, bytes: &[u8]) {
    assert!(!problems.0.is_empty());
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines: Vec<&str> = text.split('\n').collect();
    for problem in &problems.0 {
        assert_eq!(&problem.file, file);
        let place = problem.place.unwrap();
        assert!((1..=lines.len()).contains(&place.line), "{problem}");
        let columns = lines[place.line - 1].chars().count() + 1;
        assert!((1..=columns).contains(&place.column), "{problem}");
        assert!(
            !problem.message.is_empty() && !problem.hint.is_empty(),
            "{problem}"
        );
        assert!(!problem.to_string().contains('\u{1b}'), "{problem}");
    }
}

fn spoils() -> impl Strategy<Value = Vec<(prop::sample::Index, Spoil)>> {
    prop::collection::vec((any::<prop::sample::Index>(), spoil()), 1..6)
}

#[test]
fn an_unspoilt_file_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sotp.toml");
    fs::write(&file, uncommented("sotp.toml")).unwrap();
    if let Err(problems) = read(&file, None) {
        panic!("{problems}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn a_spoilt_settings_file_is_read_or_refused_where_it_is_spoilt(spoils in spoils()) {
        let bytes = spoilt(uncommented("sotp.toml"), spoils);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sotp.toml");
        fs::write(&file, &bytes).unwrap();
        if let Err(problems) = read(&file, None) {
            every_problem_lies_inside(&problems, &file, &bytes);
        }
    }

    #[test]
    fn a_spoilt_rules_file_is_read_or_refused_where_it_is_spoilt(spoils in spoils()) {
        let bytes = spoilt(uncommented("rules/interfaces.toml"), spoils);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("rules.toml");
        fs::write(&file, &bytes).unwrap();
        if let Err(problems) = read_rules(directory.path()) {
            every_problem_lies_inside(&problems, &file, &bytes);
        }
    }
}
