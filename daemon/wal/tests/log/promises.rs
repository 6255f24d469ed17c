//! What the documentation of the log promises, line by line.

use std::io::ErrorKind;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wal::fs::sim::SimFs;
use wal::fs::{Fs, RealFs};
use wal::{Lsn, Wal, WalOptions};

use crate::support::{DIR, append, names, open, options, path, record, store, try_open};

/// Longer than any disk takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn append_too_long(wal: &Wal) -> Lsn {
    wal.append(&mut |out| out.resize(out.len() + (256 << 20) + 1, 0))
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < PATIENCE, "still not: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn on_a_real_disk_what_was_waited_for_is_there_after_a_kill() {
    let temporary = tempfile::tempdir().unwrap();
    let real = || WalOptions {
        dir: temporary.path().join("wal"),
        ..options()
    };
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let (wal, _, found) = try_open(fs.clone(), real(), 0).unwrap();
    assert!(found.is_empty());
    (0..50).for_each(|id| store(&wal, id).unwrap());
    let number = wal.rotate();
    (50..60).for_each(|id| store(&wal, id).unwrap());
    std::mem::forget(wal); // nothing is closed

    let (wal, replay, found) = try_open(fs.clone(), real(), 0).unwrap();
    assert_eq!(found, (0..60).collect::<Vec<_>>());
    assert_eq!(replay.frames, 60);
    assert_eq!(
        replay.bytes,
        (0..60).map(|id| record(id).len() as u64).sum()
    );
    assert!(replay.damaged.is_empty() && replay.torn_tail == 0);
    wal.close().unwrap();

    let (wal, _, found) = try_open(fs.clone(), real(), number).unwrap();
    assert_eq!(found, (50..60).collect::<Vec<_>>());
    let mut names: Vec<_> = fs.list(&real().dir).unwrap();
    names.sort();
    assert_eq!(names[0].0, format!("m-{number:08}.wal"), "{names:?}");
    drop(wal);
}

#[test]
fn what_was_appended_is_written_soon_without_anybody_waiting() {
    let fs = SimFs::default();
    let soon = WalOptions {
        write_every: Duration::from_millis(1),
        ..options()
    };
    let (wal, ..) = try_open(Arc::new(fs.clone()), soon, 0).unwrap();
    for id in 0..3 {
        let before = wal.stats().written;
        append(&wal, id);
        until("written", || wal.stats().written > before);
    }
    assert_eq!(wal.stats().syncs, 0);
    let (_, _, found) = open(&fs.after_kill(), 0);
    assert_eq!(found, [0, 1, 2]);
}

#[test]
fn what_was_appended_is_synced_in_time_without_anybody_waiting() {
    let fs = SimFs::default();
    let soon = WalOptions {
        sync_every: Duration::from_millis(1),
        ..options()
    };
    let (wal, ..) = try_open(Arc::new(fs.clone()), soon, 0).unwrap();
    for id in 0..3 {
        append(&wal, id);
        until("synced", || wal.stats().pending == 0);
    }
    assert!(wal.stats().syncs >= 3);
    let (_, _, found) = open(&fs.after_power_cut(1), 0);
    assert_eq!(found, [0, 1, 2]);
}

#[test]
fn dropping_the_last_clone_syncs_what_is_left() {
    let fs = SimFs::default();
    let (wal, ..) = open(&fs, 0);
    let clone = wal.clone();
    append(&wal, 1);
    drop(wal);
    append(&clone, 2);
    drop(clone);
    assert_eq!(open(&fs.after_power_cut(1), 0).2, [1, 2]);
}

#[test]
fn a_closed_log_forgets_and_says_so() {
    let fs = SimFs::default();
    let (wal, ..) = open(&fs, 0);
    let kept = append(&wal, 1);
    wal.close().unwrap();
    wal.close().unwrap();
    wal.wait(kept).unwrap();
    let error = store(&wal, 2).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the log takes nothing: the log is closed"
    );
    assert!(wal.resume().is_err());
    assert_eq!(open(&fs.after_power_cut(1), 0).2, [1]);
}

#[test]
fn places_grow_and_a_place_of_nothing_is_the_one_before() {
    let (wal, ..) = open(&SimFs::default(), 0);
    let first = append(&wal, 1);
    assert!(first > Lsn::default());
    assert_eq!(wal.append(&mut |_| {}), first);
    assert!(append(&wal, 2) > first);
    wal.wait(Lsn(u64::MAX)).unwrap();
    assert_eq!(wal.stats().pending, 0);
}

#[test]
fn a_rotation_parts_what_is_replayed_and_old_files_can_go() {
    let fs = SimFs::default();
    let (wal, ..) = open(&fs, 0);
    store(&wal, 1).unwrap();
    append(&wal, 2); // still gathered
    let number = wal.rotate();
    assert!(wal.rotate() > number);
    store(&wal, 3).unwrap();
    assert_eq!(open(&fs.after_kill(), 0).2, [1, 2, 3]);
    let (_, replay, found) = open(&fs.after_kill(), number);
    assert_eq!(found, [3]);
    assert!(replay.damaged.is_empty(), "{replay:?}");

    let before = names(&fs).len();
    wal.remove_before(number);
    assert_eq!(names(&fs).len(), before - 1);
    wal.remove_before(u64::MAX);
    store(&wal, 4).unwrap();
    assert_eq!(open(&fs.after_kill(), number).2, [3, 4]);
}

#[test]
fn a_rotation_after_which_nothing_came_leaves_an_empty_log() {
    let fs = SimFs::default();
    let (wal, ..) = open(&fs, 0);
    store(&wal, 1).unwrap();
    let number = wal.rotate();
    wal.remove_before(number);
    assert!(names(&fs).is_empty());
    let (wal, replay, found) = open(&fs.after_power_cut(5), number);
    assert!(found.is_empty() && replay.damaged.is_empty());
    assert!(wal.rotate() > number);
}

#[test]
fn a_failed_sync_ends_the_file_and_the_next_has_its_frames() {
    let fs = SimFs::default();
    let (wal, ..) = open(&fs, 0);
    store(&wal, 1).unwrap();
    fs.fail_once_in(2, ErrorKind::Other); // the write, then the sync
    store(&wal, 2).unwrap();
    assert_eq!(wal.stats().sealed, 1);
    assert_eq!(wal.stats().suspended, None);
    store(&wal, 3).unwrap();
    assert_eq!(names(&fs), ["m-00000001.wal", "m-00000002.wal"]);
    for seed in 0..100 {
        let (_, replay, found) = open(&fs.after_power_cut(seed), 0);
        assert_eq!(found, [1, 2, 3], "seed {seed}");
        assert!(replay.damaged.is_empty(), "seed {seed}: {replay:?}");
    }
}

#[test]
fn a_failed_write_ends_the_file_too() {
    let fs = SimFs::default();
    let (wal, ..) = open(&fs, 0);
    fs.fail_once_in(1, ErrorKind::Other);
    store(&wal, 11).unwrap();
    assert_eq!(wal.stats().sealed, 1);
    let (_, replay, found) = open(&fs.after_power_cut(1), 0);
    assert_eq!(found, [11]);
    assert!(replay.damaged.is_empty() && replay.torn_tail == 0);
}

#[test]
fn frames_from_before_a_rotation_are_not_replayed_from_the_file_that_saved_them() {
    let fs = SimFs::default();
    let (wal, ..) = open(&fs, 0);
    let last = append(&wal, 1);
    let number = wal.rotate();
    fs.fail_once_in(2, ErrorKind::Other);
    wal.wait(last).unwrap(); // it is in a file above `number` now
    store(&wal, 2).unwrap();
    assert_eq!(open(&fs.after_kill(), 0).2, [1, 2]);
    assert_eq!(open(&fs.after_kill(), number).2, [2]);
}

#[test]
fn a_full_disk_suspends_the_log_until_it_is_resumed() {
    let fs = SimFs::default();
    let small = WalOptions {
        max_pending: 1000,
        ..options()
    };
    let (wal, ..) = try_open(Arc::new(fs.clone()), small, 0).unwrap();
    store(&wal, 1).unwrap();
    fs.fail_with(Some(ErrorKind::StorageFull));
    let lost = append(&wal, 2);
    let error = wal.wait(lost).unwrap_err();
    assert!(error.full);
    assert_eq!(wal.stats().suspended, Some(error.clone()));
    for id in 3..99 {
        append(&wal, id); // never blocks
    }
    assert_eq!(store(&wal, 99), Err(error.clone()));
    assert!(wal.resume().is_err());

    fs.fail_with(None);
    assert_eq!(store(&wal, 100), Err(error), "nothing is tried by itself");
    wal.resume().unwrap();
    wal.resume().unwrap();
    store(&wal, 101).unwrap();
    assert!(wal.wait(lost).is_err(), "it is still not in the log");
    assert_eq!(wal.stats().suspended, None);
    for seed in 0..100 {
        let (_, replay, mut found) = open(&fs.after_power_cut(seed), 0);
        found.retain(|id| *id != 2); // that one may have come through
        assert_eq!(found, [1, 101], "seed {seed}");
        assert!(replay.damaged.is_empty(), "seed {seed}: {replay:?}");
    }
}

#[test]
fn a_resume_that_fails_leaves_no_file() {
    // what fails of it: the file, its header, the sync of that, the sync of its
    // name, the empty frame, the sync of that
    for step in 1..=6 {
        let fs = SimFs::default();
        let (wal, ..) = open(&fs, 0);
        store(&wal, 1).unwrap();
        fs.fail_with(Some(ErrorKind::StorageFull));
        assert!(store(&wal, 2).is_err());
        fs.fail_with(None);
        let before = names(&fs);
        for _ in 0..5 {
            fs.fail_once_in(step, ErrorKind::StorageFull);
            assert!(wal.resume().unwrap_err().full);
            assert_eq!(names(&fs), before, "step {step}");
        }
        check_after_failed_resumes(&fs, &wal);
    }
}

#[test]
fn resumes_on_a_disk_without_room_leave_no_file() {
    for room in 0..80 {
        let fs = SimFs::default();
        let (wal, ..) = open(&fs, 0);
        store(&wal, 1).unwrap();
        let used: usize = names(&fs)
            .iter()
            .map(|name| fs.read_all(&path(name)).len())
            .sum();
        fs.set_capacity(Some((used + room) as u64));
        assert!(store(&wal, 10).is_err());
        let before = names(&fs);
        for _ in 0..5 {
            assert!(wal.resume().unwrap_err().full);
            assert_eq!(names(&fs), before, "room {room}");
        }
        fs.set_capacity(None);
        check_after_failed_resumes(&fs, &wal);
    }
}

/// The log goes on, and no start takes what was removed for damage, whether it
/// comes back with the power or not.
fn check_after_failed_resumes(fs: &SimFs, wal: &Wal) {
    for seed in 0..20 {
        let (_, replay, found) = open(&fs.after_power_cut(seed), 0);
        assert_eq!(found.first(), Some(&1), "seed {seed}");
        assert!(replay.damaged.is_empty(), "seed {seed}: {replay:?}");
    }
    wal.resume().unwrap();
    store(wal, 101).unwrap();
    for seed in 0..20 {
        let (_, replay, found) = open(&fs.after_power_cut(seed), 0);
        assert_eq!((found.first(), found.last()), (Some(&1), Some(&101)));
        assert!(replay.damaged.is_empty(), "seed {seed}: {replay:?}");
    }
}

#[test]
fn a_disk_that_is_full_at_the_start_gives_the_log_suspended() {
    let fs = SimFs::default();
    let (wal, ..) = open(&fs, 0);
    store(&wal, 1).unwrap();
    drop(wal);
    fs.fail_with(Some(ErrorKind::StorageFull));
    let (wal, _, found) = open(&fs, 0);
    assert_eq!(found, [1]);
    assert!(wal.stats().suspended.unwrap().full);
    assert!(store(&wal, 2).is_err());
    fs.fail_with(None);
    wal.resume().unwrap();
    store(&wal, 3).unwrap();
    assert_eq!(open(&fs.after_power_cut(1), 0).2, [1, 3]);
}

#[test]
fn a_writer_that_panics_leaves_no_half_record() {
    let fs = SimFs::default();
    let (wal, ..) = open(&fs, 0);
    append(&wal, 1);
    let panics = AssertUnwindSafe(|| {
        wal.append(&mut |out| {
            out.extend_from_slice(b"half");
            panic!("as the test wants");
        })
    });
    assert!(std::panic::catch_unwind(panics).is_err());
    store(&wal, 2).unwrap();
    assert_eq!(open(&fs.after_power_cut(1), 0).2, [1, 2]);
}

#[test]
fn a_record_that_is_too_long_suspends_the_log_behind_what_came_before() {
    let fs = SimFs::default();
    let (wal, ..) = open(&fs, 0);
    let before = append(&wal, 1);
    let long = append_too_long(&wal);
    let error = wal.wait(long).unwrap_err();
    assert!(error.why.contains("longer") && !error.full);
    assert_eq!(store(&wal, 2), Err(error.clone()), "it may build on that");
    assert_eq!(wal.stats().suspended, Some(error));
    wal.resume().unwrap(); // with what came before still gathered
    wal.wait(before).unwrap();
    store(&wal, 3).unwrap();
    assert!(wal.wait(long).is_err());
    let (_, replay, found) = open(&fs.after_power_cut(1), 0);
    assert_eq!(found, [1, 3]);
    assert!(replay.damaged.is_empty(), "{replay:?}");
}

#[test]
fn what_came_before_a_record_that_is_too_long_is_stored_without_a_resume() {
    let fs = SimFs::default();
    let (wal, ..) = open(&fs, 0);
    let before = append(&wal, 1);
    let long = append_too_long(&wal);
    wal.wait(before).unwrap();
    assert!(wal.wait(long).is_err() && wal.close().is_err());
    assert_eq!(open(&fs.after_power_cut(1), 0).2, [1]);
}

#[test]
fn what_came_before_a_record_that_is_too_long_is_not_said_to_be_stored_if_it_is_not() {
    let fs = SimFs::default();
    let (wal, ..) = open(&fs, 0);
    let before = append(&wal, 1);
    let long = append_too_long(&wal);
    fs.fail_with(Some(ErrorKind::StorageFull));
    assert!(wal.wait(before).unwrap_err().full);
    assert!(wal.wait(long).is_err() && wal.resume().is_err());
    fs.fail_with(None);
    wal.resume().unwrap();
    assert!(wal.wait(before).is_err());
    store(&wal, 2).unwrap();
}

#[test]
fn many_long_records_become_many_frames_of_whole_records() {
    let fs = SimFs::default();
    let (wal, ..) = open(&fs, 0);
    let long = vec![7; 400_000];
    for _ in 0..19 {
        wal.append(&mut |out| out.extend_from_slice(&long));
    }
    let last = wal.append(&mut |out| out.extend_from_slice(&long));
    wal.wait(last).unwrap();
    let mut lengths = Vec::new();
    let fs = Arc::new(fs.after_power_cut(1));
    let (_wal, replay) =
        Wal::open(fs, options(), 0, &mut |frame| lengths.push(frame.len())).unwrap();
    assert!(lengths.iter().all(|length| length % 400_000 == 0));
    assert_eq!(lengths.iter().sum::<usize>(), 20 * 400_000);
    assert!(replay.frames >= 6, "{replay:?}");
}

#[test]
fn other_streams_and_other_files_are_left_alone() {
    let fs = SimFs::default();
    let logs = WalOptions {
        stream: 'l',
        ..options()
    };
    let (other, ..) = try_open(Arc::new(fs.clone()), logs, 0).unwrap();
    store(&other, 1).unwrap();
    fs.create(&path("m-1.wal")).unwrap();
    let (wal, replay, found) = open(&fs, 9);
    assert!(found.is_empty() && replay.damaged.is_empty());
    wal.remove_before(wal.rotate());
    assert_eq!(names(&fs), ["l-00000001.wal", "m-1.wal"]);
}

#[test]
fn a_file_that_a_crash_left_without_a_header_does_not_matter() {
    for left in [&b""[..], b"SOTPWAL\n\x01\0", &[0; 300]] {
        let fs = SimFs::default();
        let (wal, ..) = open(&fs, 0);
        store(&wal, 1).unwrap();
        drop(wal);
        fs.create(&path("m-00000002.wal"))
            .unwrap()
            .append(left)
            .unwrap();
        let (wal, replay, found) = open(&fs, 0);
        assert_eq!(found, [1]);
        assert_eq!(replay.torn_tail, left.len() as u64);
        assert!(replay.damaged.is_empty(), "{replay:?}");
        store(&wal, 2).unwrap();
        drop(wal);
        let (_, replay, found) = open(&fs, 0);
        assert_eq!(found, [1, 2]);
        assert!(
            replay.damaged.is_empty() && replay.torn_tail == 0,
            "{replay:?}"
        );
    }
}

#[test]
fn a_first_file_without_a_header_is_not_missed_later() {
    for left in [&b""[..], b"SOTPWAL\n", &[0; 300]] {
        let fs = SimFs::default();
        fs.create_dir(Path::new(DIR)).unwrap();
        fs.create(&path("m-00000001.wal"))
            .unwrap()
            .append(left)
            .unwrap();
        let (wal, ..) = open(&fs, 0);
        store(&wal, 1).unwrap();
        drop(wal);
        let (_, replay, found) = open(&fs, 0);
        assert_eq!(found, [1]);
        assert!(replay.damaged.is_empty(), "{replay:?}");
    }
}

#[test]
fn a_log_of_a_newer_format_is_refused_by_name() {
    let fs = SimFs::default();
    drop(open(&fs, 0));
    let name = path("m-00000001.wal");
    let mut header = fs.read_all(&name)[..48].to_vec();
    header[8] = 2;
    header.extend(crc32fast::hash(&header).to_le_bytes());
    fs.remove(&name).unwrap();
    fs.create(&name).unwrap().append(&header).unwrap();
    let error = try_open(Arc::new(fs), options(), 0).unwrap_err();
    assert_eq!(error.path, name);
    assert_eq!(error.source.to_string(), "its format is 2, known is 1");
}

#[test]
fn the_counters_say_what_was_done() {
    let fs = SimFs::default();
    let (wal, ..) = open(&fs, 0);
    append(&wal, 1);
    assert_eq!(wal.stats().pending, record(1).len());
    store(&wal, 2).unwrap();
    let stats = wal.stats();
    assert_eq!((stats.syncs, stats.sealed, stats.pending), (1, 0, 0));
    assert_eq!(
        stats.written,
        (28 + record(1).len() + record(2).len()) as u64
    );
    assert_eq!(stats.sync_seconds.last(), Some(&(f64::INFINITY, 1)));
    assert!(stats.sync_seconds_sum > 0.0);
}
