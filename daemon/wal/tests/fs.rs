//! Files, real ones and those that break.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use wal::fs::sim::SimFs;
use wal::fs::{Fs, RealFs};

/// How often chance is asked.
const SEEDS: u64 = 500;

/// A disk with a directory whose name is sure.
fn disk() -> (SimFs, PathBuf) {
    let fs = SimFs::default();
    let dir = PathBuf::from("/state/wal");
    fs.create_dir(&dir).unwrap();
    (fs, dir)
}

fn put(fs: &dyn Fs, path: &Path, bytes: &[u8], sync: bool) {
    let mut file = fs.create(path).unwrap();
    file.append(bytes).unwrap();
    if sync {
        file.sync().unwrap();
    }
}

fn get(fs: &dyn Fs, path: &Path) -> Vec<u8> {
    let file = fs.open(path).unwrap();
    let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

/// What everybody expects of a file system.
fn works_as_a_file_system_does(fs: &dyn Fs, dir: &Path) {
    let (one, two, three) = (dir.join("one"), dir.join("two"), dir.join("three"));
    let mut file = fs.create(&one).unwrap();
    file.append(b"hello ").unwrap();
    file.append(b"world").unwrap();
    file.sync().unwrap();
    assert_eq!(
        fs.create(&one).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    assert_eq!(fs.open(&two).unwrap_err().kind(), ErrorKind::NotFound);

    fs.rename(&one, &two).unwrap();
    fs.hard_link(&two, &three).unwrap();
    assert_eq!(
        fs.hard_link(&two, &three).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    let mut names = fs.list(dir).unwrap();
    names.sort();
    assert_eq!(names, [("three".to_owned(), 11), ("two".to_owned(), 11)]);
    fs.remove(&two).unwrap();
    fs.remove(&three).unwrap();
    assert_eq!(fs.remove(&three).unwrap_err().kind(), ErrorKind::NotFound);

    // an open file outlives its names
    file.append(b"!").unwrap();
    assert_eq!(file.length().unwrap(), 12);
    let mut end = [0; 6];
    file.read_at(6, &mut end).unwrap();
    assert_eq!(&end, b"world!");
    let beyond = file.read_at(7, &mut end).unwrap_err();
    assert_eq!(beyond.kind(), ErrorKind::UnexpectedEof);

    put(fs, &one, b"new", false);
    put(fs, &two, b"old", false);
    fs.rename(&one, &two).unwrap();
    assert_eq!(get(fs, &two), b"new");
    fs.sync_dir(dir).unwrap();
    let space = fs.space(dir).unwrap();
    assert!(space.free > 0 && space.free <= space.total, "{space:?}");
}

#[test]
fn the_machine_has_a_file_system_for_us_alone() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("a/b");
    RealFs.create_dir(&dir).unwrap();
    RealFs.create_dir(&dir).unwrap();
    works_as_a_file_system_does(&RealFs, &dir);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("two")), 0o600);
}

#[test]
fn memory_has_a_file_system_too() {
    let (fs, dir) = disk();
    works_as_a_file_system_does(&fs, &dir);
}

#[test]
fn what_was_synced_survives_every_power_cut() {
    let (fs, dir) = disk();
    let path = dir.join("file");
    put(&fs, &path, &[7; 3000], true);
    fs.sync_dir(&dir).unwrap();
    for seed in 0..SEEDS {
        assert_eq!(get(&fs.after_power_cut(seed), &path), [7; 3000]);
    }
}

#[test]
fn what_was_not_synced_survives_whole_torn_or_not_at_all() {
    let (fs, dir) = disk();
    let path = dir.join("file");
    put(&fs, &path, &[7; 100], true);
    fs.sync_dir(&dir).unwrap();
    let mut file = fs.create(&dir.join("other")).unwrap();
    fs.rename(&path, &path).unwrap();
    file.append(&[8; 3000]).unwrap();
    fs.sync_dir(&dir).unwrap();
    let left = |seed| get(&fs.after_power_cut(seed), &dir.join("other"));
    let all: Vec<_> = (0..SEEDS).map(left).collect();
    assert!(all.iter().any(Vec::is_empty));
    assert!(all.iter().any(|bytes| *bytes == [8; 3000]));
    assert!(all.iter().any(|bytes| *bytes == [0; 3000]));
    let torn = |bytes: &Vec<u8>| bytes.len() < 3000 && !bytes.is_empty();
    assert!(
        all.iter()
            .any(|bytes| torn(bytes) && bytes.iter().all(|byte| *byte == 8))
    );
    let hole = |bytes: &Vec<u8>| bytes.starts_with(&[0; 512]) && bytes.contains(&8);
    assert!(all.iter().any(hole));
    assert_eq!(left(3), left(3), "a seed says it all");
}

#[test]
fn a_name_that_was_not_synced_is_there_or_not() {
    let (fs, dir) = disk();
    put(&fs, &dir.join("new"), b"x", true);
    let there = |seed| !fs.after_power_cut(seed).names(&dir).is_empty();
    assert!((0..SEEDS).any(there));
    assert!(!(0..SEEDS).all(there));
}

#[test]
fn a_rename_in_one_directory_leaves_the_old_or_the_new_file() {
    let (fs, dir) = disk();
    let (old, new) = (dir.join("file"), dir.join("file.tmp"));
    put(&fs, &old, b"old", true);
    put(&fs, &new, b"new", true);
    fs.sync_dir(&dir).unwrap();
    fs.rename(&new, &old).unwrap();
    let left: Vec<_> = (0..SEEDS)
        .map(|seed| get(&fs.after_power_cut(seed), &old))
        .collect();
    assert!(left.iter().any(|bytes| bytes == b"old"));
    assert!(left.iter().any(|bytes| bytes == b"new"));
}

#[test]
fn a_rename_between_directories_needs_the_new_one_synced_first() {
    let (fs, dir) = disk();
    let away = PathBuf::from("/state/quarantine");
    fs.create_dir(&away).unwrap();
    put(&fs, &dir.join("file"), b"x", true);
    fs.sync_dir(&dir).unwrap();
    fs.rename(&dir.join("file"), &away.join("file")).unwrap();
    let names = |fs: &SimFs, seed| {
        let after = fs.after_power_cut(seed);
        after.names(&dir).len() + after.names(&away).len()
    };
    assert!((0..SEEDS).all(|seed| names(&fs, seed) >= 1));
    fs.sync_dir(&dir).unwrap();
    assert!((0..SEEDS).any(|seed| names(&fs, seed) == 0));
    fs.sync_dir(&away).unwrap();
    assert!((0..SEEDS).all(|seed| names(&fs, seed) == 1));
}

#[test]
fn a_sync_that_failed_is_not_made_good_by_the_next() {
    let (fs, dir) = disk();
    let path = dir.join("file");
    let mut file = fs.create(&path).unwrap();
    fs.sync_dir(&dir).unwrap();
    file.append(b"first").unwrap();
    fs.fail_once_in(1, ErrorKind::Other);
    assert!(file.sync().is_err());
    file.append(b"second").unwrap();
    file.sync().unwrap();
    assert_eq!(get(&fs, &path), b"firstsecond");
    let left: Vec<_> = (0..SEEDS)
        .map(|seed| get(&fs.after_power_cut(seed), &path))
        .collect();
    assert!(left.iter().all(|bytes| bytes.ends_with(b"second")));
    assert!(left.iter().any(|bytes| bytes == b"\0\0\0\0\0second"));
}

#[test]
fn a_disk_that_forgets_syncs_loses_what_was_synced() {
    let (fs, dir) = disk();
    fs.forget_syncs();
    put(&fs, &dir.join("file"), b"x", true);
    fs.sync_dir(&dir).unwrap();
    let lost = |seed: u64| fs.after_power_cut(seed).names(&dir).is_empty();
    assert!((0..SEEDS).any(lost));
}

#[test]
fn without_power_nothing_works() {
    let (fs, dir) = disk();
    fs.crash_in(2);
    let mut file = fs.create(&dir.join("file")).unwrap();
    assert!(!fs.is_dead());
    assert!(file.append(&[1; 2000]).is_err());
    assert!(fs.is_dead());
    assert!(file.sync().is_err());
    assert!(fs.list(&dir).is_err());
    assert!(fs.sync_dir(&dir).is_err());
    let after = fs.after_power_cut(1);
    after.create(&dir.join("again")).unwrap();
}

#[test]
fn a_full_disk_takes_what_fits_and_what_is_removed_makes_room() {
    let (fs, dir) = disk();
    put(&fs, &dir.join("ballast"), &[0; 600], true);
    fs.set_capacity(Some(1000));
    let mut file = fs.create(&dir.join("file")).unwrap();
    let full = file.append(&[1; 500]).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    assert_eq!(file.length().unwrap(), 400);
    assert_eq!(fs.space(&dir).unwrap().free, 0);
    fs.remove(&dir.join("ballast")).unwrap();
    file.append(&[1; 500]).unwrap();
    assert_eq!(fs.space(&dir).unwrap().free, 100);
}

#[test]
fn a_killed_process_leaves_all_that_it_wrote_and_a_power_cut_may_still_take_it() {
    let (fs, dir) = disk();
    let path = dir.join("file");
    put(&fs, &path, b"written", false);
    let after = fs.after_kill();
    assert_eq!(get(&after, &path), b"written");
    let lost = |seed| after.after_power_cut(seed).names(&dir).is_empty();
    assert!((0..SEEDS).any(lost));
}

#[test]
fn bytes_can_be_spoiled() {
    let (fs, dir) = disk();
    let path = dir.join("file");
    put(&fs, &path, &[0; 10], true);
    fs.flip(&path, 3, 7);
    fs.truncate(&path, 4);
    assert_eq!(fs.read_all(&path), [0, 0, 0, 0x80]);
}

#[test]
fn a_fault_comes_once_or_stays() {
    let (fs, dir) = disk();
    fs.fail_with(Some(ErrorKind::StorageFull));
    assert!(fs.create(&dir.join("file")).is_err());
    assert!(fs.create(&dir.join("file")).is_err());
    fs.fail_with(None);
    let before = fs.operations();
    fs.fail_once_in(2, ErrorKind::Other);
    let mut file = fs.create(&dir.join("file")).unwrap();
    assert!(file.append(b"x").is_err());
    file.append(b"y").unwrap();
    assert_eq!(fs.operations() - before, 3);
}
