//! Archives, whole and spoilt: what was written comes back, and nothing else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use model::{Capabilities, PluginName, PluginRecord, PluginVersion, Timestamp};
use sha2::{Digest as _, Sha256};
use store::{Store, StoreOptions};
use tar::{EntryType, Header};
use tempfile::TempDir;

use crate::about::sha256;
use crate::entry::{BLOCK, header, padding};
use crate::seal::new_keys;
use crate::{About, ArchiveError, Identities, Manifest, Recipients, Verified};

const MADE: Timestamp = Timestamp(1_795_228_200_123);

fn about() -> About {
    let mut about = About::new("0.1.0", 7, MADE);
    about.host = "core".to_owned();
    about.counts.insert("devices".to_owned(), 50);
    about
}

/// Bytes that do not compress, always the same.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2) + 1;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// What a small daemon has.
fn contents() -> BTreeMap<&'static str, Vec<u8>> {
    let mut redb = noise(1, 5_000);
    redb.extend(vec![0; 20_000]);
    BTreeMap::from([
        ("sotp.redb", redb),
        ("sotp.samples/empty", Vec::new()),
        ("sotp.samples/seg/00000001.seg", noise(2, 9_000)),
        ("sotp.samples/seg/00000012.seg", noise(3, 1_024)),
        ("sotp.samples/seg/00000013.seg", noise(4, 1)),
    ])
}

fn snapshot(contents: &BTreeMap<&'static str, Vec<u8>>) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (path, content) in contents {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    directory
}

fn archive_of(snapshot: &Path, recipients: &Recipients) -> Result<Vec<u8>, ArchiveError> {
    let mut archive = Vec::new();
    crate::write(snapshot, about(), recipients, &mut archive, &mut |_| {})?;
    Ok(archive)
}

fn plain() -> Vec<u8> {
    archive_of(snapshot(&contents()).path(), &Recipients::default()).unwrap()
}

fn verify(archive: &[u8], identities: &Identities) -> Result<Verified, ArchiveError> {
    crate::verify(archive, identities, &mut |_| {})
}

/// Gives few bytes at a time, as a network does.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(1_000);
        self.0.read(&mut into[..most])
    }
}

fn restore(archive: &[u8], identities: &Identities, into: &Path) -> Result<Verified, ArchiveError> {
    crate::restore(Slow(archive), identities, into, &mut |_| {})
}

fn restored(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
            if path.is_dir() {
                assert_eq!(mode, 0o700, "{}", path.display());
                directories.push(path);
                continue;
            }
            assert_eq!(mode, 0o600, "{}", path.display());
            let name = path.strip_prefix(directory).unwrap();
            let name = name.to_str().unwrap().to_owned();
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

/// What is said of an archive that nobody may restore.
fn refused(archive: &[u8], identities: &Identities) -> String {
    let error = verify(archive, identities).unwrap_err().to_string();
    let into = tempfile::tempdir().unwrap();
    let again = restore(archive, identities, into.path()).unwrap_err();
    assert_eq!(again.to_string(), error);
    assert!(is_empty(into.path()), "{error}");
    error
}

fn says(archive: &[u8], said: &str) {
    let error = refused(archive, &Identities::none());
    assert!(error.contains(said), "{error:?} does not say {said:?}");
}

#[test]
fn what_was_written_is_restored() {
    let into = tempfile::tempdir().unwrap();
    let verified = restore(&plain(), &Identities::none(), into.path()).unwrap();
    let found = restored(into.path());
    let expected = contents();
    let expected = expected
        .into_iter()
        .map(|(path, content)| (path.to_owned(), content));
    assert_eq!(found, expected.collect());
    assert!(!verified.encrypted);
    assert_eq!(verified.about.files, 5);
    assert_eq!(verified.about.bytes, 25_000 + 9_000 + 1_024 + 1);
    assert_eq!(verified.about.counts["devices"], 50);
    assert_eq!(verified.about.made, MADE);
}

#[test]
fn what_was_encrypted_is_read_by_each_of_its_keys_and_nobody_else() {
    let ((one, key_one), (two, key_two), (_, stranger)) = (new_keys(), new_keys(), new_keys());
    let both = Recipients::both(&one, &two);
    let archive = archive_of(snapshot(&contents()).path(), &both).unwrap();
    for key in [&key_one, &key_two] {
        let into = tempfile::tempdir().unwrap();
        let verified = restore(&archive, key, into.path()).unwrap();
        assert!(verified.encrypted);
        assert_eq!(restored(into.path()).len(), 5);
        assert_eq!(verified, verify(&archive, key).unwrap());
    }
    let error = refused(&archive, &Identities::none());
    assert!(
        error.contains("is encrypted: give --identity FILE"),
        "{error}"
    );
    let error = refused(&archive, &stranger);
    assert!(error.contains("none of the given identities"), "{error}");
    // a key does no harm where none is needed
    verify(&plain(), &key_one).unwrap();
}

#[test]
fn an_empty_snapshot_is_an_archive_too() {
    let empty = archive_of(snapshot(&BTreeMap::new()).path(), &Recipients::default()).unwrap();
    assert_eq!(verify(&empty, &Identities::none()).unwrap().about.files, 0);
}

#[test]
fn a_directory_that_is_not_there_is_made_and_goes_away_after_a_failure() {
    let above = tempfile::tempdir().unwrap();
    let into = above.path().join("new");
    let archive = plain();
    restore(&archive[..archive.len() - 1], &Identities::none(), &into).unwrap_err();
    assert!(!into.exists());
    restore(&archive, &Identities::none(), &into).unwrap();
    assert_eq!(
        fs::metadata(&into).unwrap().permissions().mode() & 0o777,
        0o700
    );
    let deep = above.path().join("not/there");
    let error = restore(&archive, &Identities::none(), &deep).unwrap_err();
    assert!(matches!(error, ArchiveError::Restore { .. }), "{error}");
}

#[test]
fn a_directory_in_use_is_not_touched() {
    let into = tempfile::tempdir().unwrap();
    fs::write(into.path().join("sotp.redb"), "the living").unwrap();
    let error = restore(&plain(), &Identities::none(), into.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("is not empty: sotp.redb is in it"),
        "{error}"
    );
    assert_eq!(
        fs::read(into.path().join("sotp.redb")).unwrap(),
        b"the living"
    );
    assert_eq!(fs::read_dir(into.path()).unwrap().count(), 1);
    let file = into.path().join("sotp.redb");
    restore(&plain(), &Identities::none(), &file).unwrap_err();
    assert_eq!(fs::read(file).unwrap(), b"the living");
}

/// Several hundred places: the first and the last bytes, and some everywhere.
fn places(length: usize) -> Vec<usize> {
    let step = (length / 400).max(1) | 1;
    let ends = (0..64).chain(length.saturating_sub(64)..length);
    ends.chain((0..length).step_by(step)).collect()
}

fn every_flip_is_found(archive: &[u8], identities: &Identities) {
    verify(archive, identities).unwrap();
    let into = tempfile::tempdir().unwrap();
    for (number, place) in places(archive.len()).into_iter().enumerate() {
        let mut spoilt = archive.to_vec();
        spoilt[place] ^= 1 << (number % 8);
        assert!(verify(&spoilt, identities).is_err(), "byte {place}");
        if number % 5 == 0 {
            assert!(
                restore(&spoilt, identities, into.path()).is_err(),
                "byte {place}"
            );
            assert!(is_empty(into.path()), "byte {place}");
        }
    }
}

#[test]
fn no_byte_flips_unseen() {
    every_flip_is_found(&plain(), &Identities::none());
}

#[test]
fn no_encrypted_byte_flips_unseen() {
    let (recipients, identities) = new_keys();
    let archive = archive_of(snapshot(&contents()).path(), &recipients).unwrap();
    every_flip_is_found(&archive, &identities);
}

#[test]
fn an_archive_that_is_cut_short_or_goes_on_is_refused() {
    let (recipients, identities) = new_keys();
    let sealed = archive_of(snapshot(&contents()).path(), &recipients).unwrap();
    for (archive, identities) in [(plain(), Identities::none()), (sealed, identities)] {
        let into = tempfile::tempdir().unwrap();
        for length in places(archive.len()) {
            assert!(
                verify(&archive[..length], &identities).is_err(),
                "{length} bytes"
            );
        }
        for length in (0..archive.len()).step_by(archive.len() / 20) {
            restore(&archive[..length], &identities, into.path()).unwrap_err();
            assert!(is_empty(into.path()), "{length} bytes");
        }
        for more in [&[0_u8][..], &[0; 512], &[0; 10_240], b"x"] {
            let longer = [&archive[..], more].concat();
            assert!(verify(&longer, &identities).is_err(), "{} more", more.len());
        }
    }
    let archive = plain();
    says(&archive[..archive.len() - 1], "cut short");
    says(&archive[..archive.len() / 2], "cut short");
}

#[test]
fn the_file_that_is_damaged_is_named() {
    let archive = plain();
    let seg = noise(2, 9_000);
    let at = archive
        .windows(100)
        .position(|window| window == &seg[..100])
        .unwrap();
    let mut spoilt = archive.clone();
    spoilt[at + 5_000] ^= 1;
    says(
        &spoilt,
        "damaged: sotp.samples/seg/00000001.seg: its content is not as it was",
    );
}

#[test]
fn what_is_no_backup_is_called_so() {
    for other in [&b"x"[..], &[0; 4_096], &noise(9, 4_096), b"PK\x03\x04"] {
        let error = refused(other, &Identities::none());
        assert!(
            error.contains("no backup") || error.contains("cut short"),
            "{error}"
        );
    }
    let armored = "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n";
    says(armored.as_bytes(), "decrypt it with age -d first");
    // a header of age without an end
    let (_, identities) = new_keys();
    let endless = io::repeat(b'A');
    let endless = (&b"age-encryption.org/v1\n-> X25519 "[..]).chain(endless);
    let error = crate::verify(endless, &identities, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ArchiveError::Damaged { .. }), "{error}");
}

/// An archive as somebody else would make it.
#[derive(Default)]
struct Forged {
    bytes: Vec<u8>,
}

impl Forged {
    fn new(files: u64, bytes: u64) -> Forged {
        let about = About {
            files,
            bytes,
            ..about()
        };
        Forged::default().file("about.json", &serde_json::to_vec(&about).unwrap())
    }

    fn file(self, path: &str, content: &[u8]) -> Forged {
        let header = header(path, content.len() as u64, MADE.0 / 1_000).unwrap();
        self.entry(&header, content)
    }

    fn entry(mut self, header: &Header, content: &[u8]) -> Forged {
        self.bytes.extend(header.as_bytes());
        self.bytes.extend(content);
        self.bytes.extend(vec![0; padding(content.len() as u64)]);
        self
    }

    /// An entry whose header is `change`d, with a good checksum.
    fn changed(self, change: impl Fn(&mut Header)) -> Forged {
        let mut header = header("a", 4, MADE.0 / 1_000).unwrap();
        change(&mut header);
        header.set_cksum();
        self.entry(&header, b"evil")
    }

    fn named(self, name: &[u8]) -> Forged {
        self.changed(|header| {
            let field = &mut header.as_old_mut().name;
            *field = [0; 100];
            field[..name.len()].copy_from_slice(name);
        })
    }

    fn end(self) -> Vec<u8> {
        let about = &self.bytes[BLOCK..];
        let length = about.iter().position(|byte| *byte == 0).unwrap();
        let manifest = Manifest {
            about: sha256(&about[..length]),
            files: Vec::new(),
        };
        let mut all = self.file("manifest.json", &serde_json::to_vec(&manifest).unwrap());
        all.bytes.extend([0; 2 * BLOCK]);
        all.bytes
    }
}

#[test]
fn hostile_entries_are_refused_by_what_they_are() {
    let forged = || Forged::new(9, 1 << 40);
    says(
        &forged().named(b"../evil").end(),
        "its path leads out of the backup",
    );
    says(&forged().named(b"a/../../evil").end(), "its path leads out");
    says(
        &forged().named(b"/etc/cron.d/evil").end(),
        "its path is absolute",
    );
    says(
        &forged().named(b"a//b").end(),
        "a character that none of our files has",
    );
    says(
        &forged().named(b".ssh").end(),
        "a character that none of our files has",
    );
    says(
        &forged().named(b"a\x1b[2J").end(),
        "a character that none of our files has",
    );
    says(&forged().named(b"\xff\xfe").end(), "not UTF-8");
    for (kind, said) in [
        (EntryType::Symlink, "it is a link"),
        (EntryType::Link, "it is a link"),
        (EntryType::Char, "a device or a pipe"),
        (EntryType::Block, "a device or a pipe"),
        (EntryType::Fifo, "a device or a pipe"),
        (EntryType::Directory, "it is a directory"),
        (EntryType::GNULongName, "its name is too long"),
        (EntryType::GNUSparse, "no regular file"),
        (EntryType::XHeader, "no regular file"),
        (EntryType::XGlobalHeader, "no regular file"),
    ] {
        says(
            &forged().changed(|header| header.set_entry_type(kind)).end(),
            said,
        );
    }
    let change = |change: fn(&mut Header)| forged().changed(change).end();
    says(
        &change(|header| header.set_mode(0o4755)),
        "not as we write it",
    );
    says(&change(|header| header.set_uid(1)), "not as we write it");
    says(&change(|header| header.set_mtime(1)), "not as we write it");
    says(
        &change(|header| header.set_size(u64::MAX >> 1)),
        "cut short",
    );
    says(&change(|header| header.set_size(1 << 50)), "cut short");
}

#[test]
fn entries_that_do_not_fit_together_are_refused() {
    let forged = || Forged::new(2, 100);
    says(
        &forged().file("a", b"").file("a", b"").end(),
        "its name is there twice",
    );
    says(
        &forged().file("a", b"").file("a/b", b"").end(),
        "its name is taken",
    );
    says(
        &forged().file("a/b", b"").file("a", b"").end(),
        "its name is taken",
    );
    says(&forged().file("about.json", b"").end(), "its name is taken");
    let three = forged().file("a", b"").file("b", b"").file("c", b"");
    says(&three.end(), "too many files");
    says(
        &forged().file("a", &[1; 101]).end(),
        "more in it than about.json says",
    );
    says(
        &forged().file("a", b"x").file("b", b"").end(),
        "not listed in manifest.json",
    );
    says(&forged().end(), "it counts other files");
    says(
        &forged().file("a.zst", b"no zstd").end(),
        "cannot be decompressed",
    );
    let mut without = forged().file("a", b"").bytes;
    without.extend([0; 2 * BLOCK]);
    says(&without, "cut short");
}

#[test]
fn a_small_file_that_would_fill_the_disk_is_stopped() {
    let bomb = zstd::encode_all(io::repeat(0).take(8 << 20), 3).unwrap();
    let forged = Forged::new(1, 1_000).file("a.zst", &bomb).end();
    assert!(forged.len() < 100_000);
    says(&forged, "more in it than about.json says");
}

#[test]
fn a_backup_of_a_later_release_says_so() {
    let later = br#"{"format":2,"product":"9.0","another":[]}"#;
    says(
        &Forged::default().file("about.json", later).end(),
        "the backup has format 2, this build reads up to 1",
    );
    let huge = Forged::default().changed(|header| {
        header.set_path("about.json").unwrap();
        header.set_size(1 << 40);
    });
    says(&huge.end(), "it is too large");
}

#[test]
fn what_does_not_belong_into_a_backup_is_not_put_there() {
    let refused = |prepare: &dyn Fn(&Path)| {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        archive_of(directory.path(), &Recipients::default()).unwrap_err()
    };
    let link = |at: &Path| std::os::unix::fs::symlink("/etc/passwd", at.join("a")).unwrap();
    assert!(
        refused(&link)
            .to_string()
            .contains("neither a file nor a directory")
    );
    for name in [
        "about.json",
        "manifest.json",
        "a.zst",
        ".hidden",
        "a b",
        &"x".repeat(98),
    ] {
        let file = |at: &Path| fs::write(at.join(name), "x").unwrap();
        let error = refused(&file);
        assert!(
            matches!(error, ArchiveError::NotForBackup { .. }),
            "{error}"
        );
    }
    let gone = archive_of(Path::new("/nowhere/at/all"), &Recipients::default());
    assert!(matches!(gone, Err(ArchiveError::Snapshot { .. })));
}

#[test]
fn a_full_disk_is_told() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let snapshot = snapshot(&contents());
    let error = crate::write(
        snapshot.path(),
        about(),
        &Recipients::default(),
        full,
        &mut |_| {},
    );
    assert!(
        matches!(error, Err(ArchiveError::Write { .. })),
        "{error:?}"
    );
}

#[test]
fn progress_ends_at_all_of_the_snapshot() {
    let snapshot = snapshot(&contents());
    let (mut last, mut archive) = (0, Vec::new());
    let mut progress = |bytes| {
        assert!(bytes >= last);
        last = bytes;
    };
    crate::write(
        snapshot.path(),
        about(),
        &Recipients::default(),
        &mut archive,
        &mut progress,
    )
    .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(last, 35_025);
}

#[test]
fn keys_are_read_from_a_file_and_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    let key = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
    fs::write(&file, format!("# created: today\n\n{key}\n")).unwrap();
    let identities = Identities::from_file(&file).unwrap();
    assert_eq!(format!("{identities:?}"), "Identities(1)");

    fs::write(&file, format!("{key}x\n")).unwrap();
    let error = Identities::from_file(&file).unwrap_err();
    assert!(
        error.to_string().contains("line 1 is no private key"),
        "{error}"
    );
    assert!(!format!("{error}{error:?}").contains("GQ9778"));
    fs::write(&file, "# nothing\n").unwrap();
    assert!(Identities::from_file(&file).is_err());

    let public = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa".to_owned();
    assert!(
        !Recipients::parse(std::slice::from_ref(&public))
            .unwrap()
            .is_empty()
    );
    let error = Recipients::parse(&[public, key.to_owned()]).unwrap_err();
    assert!(!format!("{error}{error:?}").contains("GQ9778"), "{error}");
}

#[test]
fn the_format_is_what_tar_shows() {
    let archive = plain();
    let mut names = Vec::new();
    for entry in tar::Archive::new(&archive[..]).entries().unwrap() {
        names.push(entry.unwrap().path().unwrap().to_str().unwrap().to_owned());
    }
    assert_eq!(
        names,
        [
            "about.json",
            "sotp.redb.zst",
            "sotp.samples/empty.zst",
            "sotp.samples/seg/00000001.seg",
            "sotp.samples/seg/00000012.seg",
            "sotp.samples/seg/00000013.seg",
            "manifest.json"
        ]
    );
}

#[tokio::test]
async fn a_plugin_comes_back_with_its_package() {
    let by = model::By {
        actor: model::Actor::Local(0),
        origin: "socket".to_owned(),
        request: None,
    };
    let package = noise(5, 30_000);
    let digest = model::Digest(Sha256::digest(&package).into());
    let name = PluginName::new("acme-ups").unwrap();
    let record = PluginRecord {
        name: name.clone(),
        current: PluginVersion {
            id: "acme-ups".to_owned(),
            version: "1.0.0".to_owned(),
            kind: "parser".to_owned(),
            description: "Batteries".to_owned(),
            digest,
            signer: "acme".to_owned(),
            asks: Capabilities::default(),
            installed: MADE,
        },
        previous: None,
        waiting: None,
        granted: Capabilities::default(),
        considered: Capabilities::default(),
        settings: BTreeMap::new(),
        enabled: true,
        updated: MADE,
        revision: 0,
    };
    let home = tempfile::tempdir().unwrap();
    let options = |folder: &Path| StoreOptions::at(folder.join("sotp.redb"));
    let store = Store::open(options(home.path()), MADE).unwrap();
    store.put_package(&package, digest).unwrap();
    let put = store.put_plugin(&by, record, Some(0), "plugin.install", MADE);
    let kept = put.await.unwrap();

    let copy = home.path().join("copy");
    store.snapshot(&copy, MADE).unwrap();
    let archive = archive_of(&copy, &Recipients::default()).unwrap();
    let into = tempfile::tempdir().unwrap();
    let verified = restore(&archive, &Identities::none(), into.path()).unwrap();
    let path = format!("sotp.plugins/{}.sotp-plugin", digest.hex());
    let files = &verified.manifest.files;
    assert!(files.iter().any(|file| file.path == path), "{files:?}");
    let restored = Store::open(options(into.path()), MADE).unwrap();
    assert_eq!(restored.plugins().get(&name), Some(&kept));
    assert!(restored.package(digest).unwrap() == package);
}
