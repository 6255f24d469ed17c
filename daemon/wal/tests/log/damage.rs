//! Bits that flip, files that are cut or gone: at most what was hit is lost,
//! and never in silence.

use std::io::ErrorKind;

use wal::fs::Fs;
use wal::fs::sim::SimFs;

use crate::support::{append, names, open, path, store};

/// A log with all there can be in it, one record in a frame: files that were
/// rotated, one that a failed sync ended and one that a suspension did.
fn log() -> (SimFs, Vec<u64>) {
    let fs = SimFs::default();
    let (wal, ..) = open(&fs, 0);
    let mut stored = Vec::new();
    let mut keep = |id| {
        store(&wal, id).unwrap();
        stored.push(id);
    };
    (0..6).for_each(&mut keep);
    let _ = wal.rotate();
    (6..9).for_each(&mut keep);
    fs.fail_once_in(2, ErrorKind::Other);
    (9..12).for_each(&mut keep);
    fs.fail_with(Some(ErrorKind::StorageFull));
    assert!(store(&wal, 12).is_err());
    fs.fail_with(None);
    wal.resume().unwrap();
    (13..17).for_each(&mut keep);
    drop(wal);
    let (wal, ..) = open(&fs, 0);
    for id in 17..20 {
        store(&wal, id).unwrap();
        stored.push(id);
    }
    drop(wal);
    (fs, stored)
}

fn missing(stored: &[u64], found: &[u64]) -> Vec<u64> {
    assert!(found.is_sorted_by(|one, next| one < next), "{found:?}");
    let lost = |id: &&u64| !found.contains(id);
    stored.iter().filter(lost).copied().collect()
}

#[test]
fn the_log_that_is_spoiled_is_whole() {
    let (fs, stored) = log();
    assert!(names(&fs).len() >= 5, "{:?}", names(&fs));
    let (_, replay, found) = open(&fs, 0);
    assert!(missing(&stored, &found).is_empty());
    assert!(
        replay.damaged.is_empty() && replay.torn_tail == 0,
        "{replay:?}"
    );
}

#[test]
fn each_flipped_bit_loses_at_most_its_frame_and_is_told() {
    let (fs, stored) = log();
    for name in names(&fs) {
        let length = fs.read_all(&path(&name)).len() as u64;
        for byte in 0..length {
            let spoiled = fs.after_kill();
            spoiled.flip(&path(&name), byte, u8::try_from(byte % 8).unwrap());
            let (_, replay, found) = open(&spoiled, 0);
            let lost = missing(&stored, &found);
            let at = format!("{name} byte {byte}: lost {lost:?}, {replay:?}");
            assert!(lost.len() <= 1, "{at}");
            assert!(
                found.iter().all(|id| *id == 12 || stored.contains(id)),
                "{at}"
            );
            let told = !replay.damaged.is_empty() || replay.torn_tail > 0;
            assert!(lost.is_empty() || told, "{at}");
            let tail_only = replay.damaged.is_empty();
            assert!(lost.is_empty() || !tail_only || lost == [19], "{at}");
        }
    }
}

#[test]
fn a_damaged_file_is_kept_when_it_is_removed() {
    let (fs, _) = log();
    let name = "m-00000001.wal";
    fs.flip(&path(name), 100, 3);
    let spoiled = fs.read_all(&path(name));
    let (wal, replay, _) = open(&fs, 0);
    assert_eq!(replay.damaged.len(), 1);
    assert_eq!(replay.damaged[0].0, name);
    assert!(replay.damaged[0].2.contains("missing"), "{replay:?}");
    wal.remove_before(wal.rotate());
    assert_eq!(names(&fs), [format!("{name}.damaged")]);
    assert_eq!(fs.read_all(&path(&format!("{name}.damaged"))), spoiled);
}

#[test]
fn a_log_cut_at_any_byte_is_read_up_to_there() {
    let (fs, stored) = log();
    let last = names(&fs).pop().unwrap();
    let length = fs.read_all(&path(&last)).len() as u64;
    for cut in 0..length {
        let spoiled = fs.after_kill();
        spoiled.truncate(&path(&last), cut);
        let (_, replay, found) = open(&spoiled, 0);
        let lost = missing(&stored, &found);
        assert!(stored.ends_with(&lost), "{cut}: {lost:?}");
        assert!(replay.damaged.is_empty(), "{cut}: {replay:?}");
    }
}

#[test]
fn a_file_that_is_gone_is_told() {
    let (fs, stored) = log();
    let all = names(&fs);
    let mut told = 0;
    for name in &all[..all.len() - 1] {
        let spoiled = fs.after_kill();
        spoiled.remove(&path(name)).unwrap();
        let (_, replay, found) = open(&spoiled, 0);
        let lost = missing(&stored, &found);
        assert_eq!(
            lost.is_empty(),
            replay.damaged.is_empty(),
            "{name}: {lost:?} {replay:?}"
        );
        told += usize::from(!lost.is_empty());
    }
    assert!(told >= 3);
}

#[test]
fn a_log_of_rubbish_never_panics_and_gives_nothing() {
    let fs = SimFs::default();
    drop(open(&fs, 0));
    for number in 2..6_u64 {
        let name = path(&format!("m-{number:08}.wal"));
        let mut file = fs.create(&name).unwrap();
        let bytes: Vec<u8> = (0..5000 * number)
            .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ number) >> 40).to_le_bytes()[0])
            .collect();
        file.append(&bytes).unwrap();
        file.append(&[0xf7, b'W', 0xa1, b'f', 255, 255, 255, 255])
            .unwrap();
        file.append(&[0xf7, b'W', 0xa1, b'f', 9, 0, 0, 0]).unwrap();
    }
    let (wal, replay, found) = open(&fs, 0);
    assert!(found.is_empty() && replay.frames == 0);
    assert!(replay.torn_tail > 0);
    append(&wal, 1);
    drop(wal);
    assert_eq!(open(&fs, 0).2, [1]);
}
