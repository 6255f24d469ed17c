//! Keys and other secrets: in files, in memory, in logs.

use std::fs::{self, File, Permissions};
use std::hint::black_box;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::PathBuf;

use crate::{KeyFileError, SecretBytes, WrappingKey};

const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn file(&self, text: &str, mode: u32) -> PathBuf {
        let path = self.0.path().join("sotp-kek");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }
}

#[test]
fn a_key_is_read_as_base64_and_as_hex_with_and_without_a_line_end() {
    let folder = Folder::new();
    for text in [BASE64, HEX] {
        for end in ["", "\n", "\r\n"] {
            let path = folder.file(&format!("{text}{end}"), 0o600);
            let key = WrappingKey::from_file(&path, None).unwrap();
            assert_eq!(key.to_text().as_str(), BASE64);
            // SHA-256("sotp kek" 00 01 … 1f), from another tool
            assert_eq!(key.id().0, KEY_ID);
        }
    }
}

const KEY_ID: &str = "4445b6d97ee7f2c8";

#[test]
fn a_key_that_is_made_is_read_back() {
    let folder = Folder::new();
    let key = WrappingKey::generate();
    let path = folder.file(&format!("{}\n", *key.to_text()), 0o400);
    assert_eq!(WrappingKey::from_file(&path, None).unwrap().id(), key.id());
    assert_ne!(WrappingKey::generate().id(), key.id());
}

#[test]
fn a_file_that_others_may_read_is_refused_unless_systemd_hands_it_over() {
    let folder = Folder::new();
    for mode in [0o640, 0o604, 0o620, 0o444] {
        let path = folder.file(BASE64, mode);
        let refused = WrappingKey::from_file(&path, None).unwrap_err();
        assert!(matches!(refused, KeyFileError::TooOpen { .. }), "{refused}");
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
        let elsewhere = tempfile::tempdir().unwrap();
        WrappingKey::from_file(&path, Some(elsewhere.path())).unwrap_err();
        WrappingKey::from_file(&path, Some(folder.0.path())).unwrap();
    }
}

#[test]
fn a_file_with_something_else_is_refused_without_showing_it() {
    let folder = Folder::new();
    let short = &BASE64[4..];
    let no_hex = HEX.replace("1f", "1g").replace("1F", "1G");
    let two = format!("{BASE64}\n{BASE64}\n");
    let wide = "A".repeat(44);
    let long = "A".repeat(5000);
    for text in [
        "canary",
        short,
        &no_hex,
        &two,
        &wide,
        &long,
        &format!(" {BASE64}"),
    ] {
        let path = folder.file(text, 0o600);
        let refused = WrappingKey::from_file(&path, None).unwrap_err();
        assert!(
            matches!(refused, KeyFileError::Content { .. }),
            "{text}: {refused}"
        );
        assert!(!refused.is_absent());
        let shown = format!("{refused} {refused:?}");
        assert!(
            !shown.contains("canary") && !shown.contains(short),
            "{shown}"
        );
    }
}

#[test]
fn a_missing_and_an_empty_file_are_no_key() {
    let folder = Folder::new();
    let missing = WrappingKey::from_file(&folder.0.path().join("none"), None).unwrap_err();
    assert!(missing.is_absent(), "{missing}");
    for text in ["", "\n"] {
        let empty = WrappingKey::from_file(&folder.file(text, 0o600), None).unwrap_err();
        assert!(empty.is_absent(), "{empty}");
    }
}

#[test]
fn a_secret_in_a_file_is_its_line() {
    let folder = Folder::new();
    let path = folder.file(" s3cret \n", 0o600);
    let secret = SecretBytes::from_file(&path, None).unwrap();
    assert_eq!(secret.expose_str(), Some(" s3cret "));
}

#[test]
fn neither_a_secret_nor_a_key_is_shown() {
    let secret = SecretBytes::from("canary".to_owned());
    assert_eq!(
        format!("{secret:?} {secret:#?}"),
        "SecretBytes(…) SecretBytes(…)"
    );
    let key = WrappingKey::generate();
    assert_eq!(format!("{key:?}"), format!("WrappingKey({})", key.id()));
}

/// Looks at the test's own memory, without taking any for itself.
struct Memory {
    file: File,
    seen: Vec<u8>,
}

impl Memory {
    fn new(length: usize) -> Memory {
        Memory {
            file: File::open("/proc/self/mem").unwrap(),
            seen: vec![0; length],
        }
    }

    /// How many bytes at `address` are `canary`.
    fn count(&mut self, address: usize, canary: u8) -> usize {
        self.file
            .read_exact_at(&mut self.seen, address as u64)
            .unwrap();
        self.seen.iter().filter(|byte| **byte == canary).count()
    }
}

#[test]
fn a_secret_is_wiped_from_memory_when_it_is_dropped() {
    const LENGTH: usize = 6000;
    let mut memory = Memory::new(LENGTH);
    let plain = black_box(vec![0xA7_u8; LENGTH]);
    let address = plain.as_ptr() as usize;
    drop(plain);
    let left = memory.count(address, 0xA7);
    assert!(left > LENGTH / 2, "what is not wiped is seen: {left}");

    let secret = SecretBytes::new(vec![0xB9; LENGTH]);
    let address = secret.expose().as_ptr() as usize;
    assert_eq!(memory.count(address, 0xB9), LENGTH);
    drop(secret);
    let left = memory.count(address, 0xB9);
    assert!(left < LENGTH / 20, "{left} bytes of the secret are left");
}
