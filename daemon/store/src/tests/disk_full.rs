//! The disk is full, or fails: polling goes on in memory within a bound, the
//! error is shown, and the store recovers by itself.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use model::{AlertState, OutboxId, Timestamp};

use super::sim::SimDisk;
use super::support::*;
use crate::writer::Pace;
use crate::{Judgement, Store, StoreError, StoreHealth, StoreOptions, WriteError};

fn send_rows(store: &Store, rows: std::ops::Range<u32>) {
    for row in rows {
        let at = Timestamp(NOW.0 + u64::from(row) * 1000);
        send(store, report(icmp(1), at, &["x"], &[f64::from(row)]));
    }
}

fn trouble(store: &Store) -> Option<String> {
    match store.stats().health {
        StoreHealth::Ok => None,
        StoreHealth::NotWriting { error, .. } => Some(error),
    }
}

fn assert_history(store: &Store, rows: std::ops::Range<u32>) {
    let seen: Vec<u64> = points(store, 1)
        .iter()
        .map(|point| point.value.to_bits())
        .collect();
    let expected: Vec<u64> = rows.map(|row| f64::from(row).to_bits()).collect();
    assert_eq!(seen, expected);
}

fn on_sim(options: StoreOptions) -> (SimDisk, Store) {
    let disk = SimDisk::with_empty_store();
    let store = Store::open_on(options, disk.parts(), QUICK, NOW).unwrap();
    (disk, store)
}

#[test]
fn polling_goes_on_while_the_disk_fails_and_history_has_no_hole_after() {
    for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
        let home = Home::new();
        let (disk, store) = on_sim(home.options());
        send_rows(&store, 0..10);
        disk.fail_with(Some(kind));
        send_rows(&store, 10..100);
        let newest = store.reading(icmp(1)).unwrap();
        assert_eq!(newest.raw(0), Some(99.0), "visible though not on the disk");
        assert_eq!(newest.value(0), Some(1.0), "and judged");
        assert!(trouble(&store).is_some());
        assert_eq!(store.stats().backlog_reports, 90);
        let refused = block_on(store.create_device(by(), draft("a", "10.0.0.1"), None, NOW));
        assert!(
            matches!(refused, Err(WriteError::NotWriting { .. })),
            "{refused:?}"
        );
        assert!(store.inventory().is_empty());
        assert!(matches!(
            block_on(store.heartbeat()),
            Err(WriteError::NotWriting { .. })
        ));

        disk.fail_with(None);
        until("the recovery", || trouble(&store).is_none().then_some(()));
        send_rows(&store, 100..110);
        until("the backlog", || {
            (store.stats().backlog_reports == 0).then_some(())
        });
        assert_history(&store, 0..110);
        create(&store, "a", "10.0.0.1");
        store.close().unwrap();
        let store = Store::open_on(home.options(), disk.parts(), QUICK, NOW).unwrap();
        assert_history(&store, 0..110);
    }
}

#[test]
fn the_disk_is_tried_every_two_seconds_however_rare_commits_are() {
    let home = Home::new();
    let options = StoreOptions {
        commit_every: Duration::from_secs(10),
        ..home.options()
    };
    let disk = SimDisk::with_empty_store();
    let store = Store::open_on(options, disk.parts(), Pace::USUAL, NOW).unwrap();
    disk.fail_with(Some(ErrorKind::StorageFull));
    assert!(block_on(store.heartbeat()).is_err());
    disk.fail_with(None);
    let began = Instant::now();
    until("the recovery", || trouble(&store).is_none().then_some(()));
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_full_disk_does_not_keep_the_store_from_closing() {
    let home = Home::new();
    let options = StoreOptions {
        commit_every: Duration::from_secs(10),
        ..home.options()
    };
    let disk = SimDisk::with_empty_store();
    let store = Store::open_on(options, disk.parts(), Pace::USUAL, NOW).unwrap();
    disk.fail_with(Some(ErrorKind::StorageFull));
    for row in 0..3_000 {
        let at = Timestamp(NOW.0 + row);
        let room = store.try_reserve().unwrap();
        room.send(report(icmp(1), at, &["x"], &[1.0]));
    }
    let began = Instant::now();
    let error = store.close().unwrap_err();
    assert!(matches!(error, StoreError::NotWritten { .. }), "{error}");
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn what_waits_in_memory_is_bounded_and_the_oldest_goes_first() {
    let home = Home::new();
    let (disk, store) = on_sim(StoreOptions {
        backlog_bytes: 20_000,
        ..home.options()
    });
    disk.fail_with(Some(ErrorKind::StorageFull));
    let mut row = 0u32;
    until("something to be dropped", || {
        for _ in 0..500 {
            let at = Timestamp(NOW.0 + u64::from(row) * 1000);
            let report = report(icmp(1), at, &["x"], &[f64::from(row).sqrt()]);
            until("a place", || store.try_reserve()).send(report);
            row += 1;
        }
        (store.stats().backlog_dropped > 2_000).then_some(())
    });
    let at = Timestamp(NOW.0 + u64::from(row) * 1000);
    send(
        &store,
        report(icmp(1), at, &["x"], &[f64::from(row).sqrt()]),
    );
    disk.fail_with(None);
    until("the recovery", || trouble(&store).is_none().then_some(()));
    let there = points(&store, 1);
    let dropped = store.stats().backlog_dropped;
    assert_eq!(there.len() as u64 + dropped, u64::from(row) + 1);
    assert_eq!(there.last().unwrap().at, at, "the newest stay");
}

#[test]
fn what_cannot_be_written_to_the_end_is_told_when_the_store_closes() {
    let home = Home::new();
    let (disk, store) = on_sim(home.options());
    disk.fail_with(Some(ErrorKind::StorageFull));
    send_rows(&store, 0..7);
    let error = store.close().unwrap_err();
    assert!(
        matches!(error, StoreError::NotWritten { reports: 7, .. }),
        "{error}"
    );
}

#[test]
fn a_disk_that_fails_at_any_write_leaves_a_store_that_goes_on() {
    for writes in 1..40 {
        let home = Home::new();
        let (disk, store) = on_sim(home.options());
        disk.crash_in(writes);
        send_rows(&store, 0..30);
        drop(store.close());
        // the same bytes on a disk that works again
        let disk = disk.copied();
        let store = Store::open_on(home.options(), disk.parts(), QUICK, NOW).unwrap();
        let there = u32::try_from(points(&store, 1).len()).unwrap();
        assert_history(&store, 0..there);
    }
}

/// What people and rules write between two polls, all of it to be told once.
fn write_one_of_each(store: &Store, n: u64) {
    let named = |place: String| model::Delivery {
        place,
        ..delivery(1)
    };
    let device = draft(&format!("d{n}"), &format!("10.0.0.{n}"));
    block_on(store.create_device(by(), device, None, NOW)).unwrap();
    let judgement = Judgement {
        alerts: vec![alert(n, AlertState::Firing)],
        gone: Vec::new(),
        deliveries: vec![named(format!("a{n}")), named(format!("b{n}"))],
    };
    block_on(store.judge(judgement)).unwrap();
    let id = block_on(store.enqueue(named(format!("c{n}")))).unwrap();
    assert_eq!(id, OutboxId(3 * n), "the number that was told");
}

fn assert_written_once(store: &Store, count: u64, story: &str) {
    let devices: Vec<String> = store.inventory().all().map(|d| d.name.clone()).collect();
    let expected: Vec<String> = (1..=count).map(|n| format!("d{n}")).collect();
    assert_eq!(devices, expected, "{story}");
    let told: Vec<(OutboxId, String)> = store
        .outbox_due(NOW, usize::MAX)
        .into_iter()
        .map(|delivery| (delivery.id, delivery.place))
        .collect();
    let places = (1..=count).flat_map(|n| ["a", "b", "c"].map(|word| format!("{word}{n}")));
    let expected: Vec<(OutboxId, String)> = (1..).map(OutboxId).zip(places).collect();
    assert_eq!(told, expected, "{story}");
    assert_eq!(store.open_alerts().len() as u64, count, "{story}");
    assert_eq!(store.next_alert_id(), count + 1, "{story}");
}

/// Runs at the same time: a run mostly waits for its writer.
const THREADS: u64 = 6;

#[test]
fn one_failed_write_or_sync_loses_nothing_and_writes_nothing_twice() {
    std::thread::scope(|scope| {
        for part in 0..THREADS {
            scope.spawn(move || {
                for writes in (1 + part..60).step_by(6) {
                    one_fails(&format!("write {writes} to the file"), |disk| {
                        disk.fail_once_in(writes);
                    });
                    one_fails(&format!("write {writes} of samples"), |disk| {
                        disk.fs.fail_once_in(writes, ErrorKind::Other);
                    });
                }
            });
        }
    });
}

fn one_fails(story: &str, fail: impl FnOnce(&SimDisk)) {
    let home = Home::new();
    let (disk, store) = on_sim(home.options());
    send_rows(&store, 0..70);
    fail(&disk);
    for n in 1..=8 {
        let row = 69 + u32::try_from(n).unwrap();
        send_rows(&store, row..row + 1);
        write_one_of_each(&store, n);
        if n == 4 {
            // it may be what fails, and is tried again
            let _ = store.samples().cut();
        }
    }
    until("the recovery", || trouble(&store).is_none().then_some(()));
    until("the backlog", || {
        (store.stats().backlog_reports == 0).then_some(())
    });
    assert_history(&store, 0..78);
    assert_eq!(store.stats().rows, 78, "{story}");
    assert_written_once(&store, 8, story);
    store.close().unwrap();
    // whatever did not fail yet does not fail now
    let disk = disk.copied();
    let store = Store::open_on(home.options(), disk.parts(), QUICK, NOW).unwrap();
    assert_history(&store, 0..78);
    assert_written_once(&store, 8, story);
}

/// A small file system in memory; `None` where we may not mount one.
struct Tmpfs {
    folder: tempfile::TempDir,
}

impl Tmpfs {
    fn mount(megabytes: u32) -> Option<Tmpfs> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(folder.path())
            .output();
        let mounted = mounted.is_ok_and(|output| output.status.success());
        mounted.then_some(Tmpfs { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves no room at all.
    fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.path().join("filler")).unwrap();
        let block = [0u8; 4_096];
        while file.write_all(&block).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.folder.path()).output();
    }
}

#[test]
fn a_really_full_disk_stops_history_but_neither_alerts_nor_reads() {
    let Some(disk) = Tmpfs::mount(12) else {
        return; // only root can mount; the simulated disks above stand for it
    };
    let options = StoreOptions {
        ballast_bytes: 2 << 20,
        ..options(disk.path())
    };
    let ballast = disk.path().join("sotp.redb.ballast");
    let store = Store::open(options.clone(), NOW).unwrap();
    until("the ballast", || ballast.exists().then_some(()));
    send_rows(&store, 0..10);
    disk.fill();

    let began = Instant::now();
    let mut row = 10;
    while trouble(&store).is_none() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "the disk never filled up"
        );
        send_wide(&store, row);
        row += 1;
    }
    assert!(!ballast.exists(), "it made room");
    let judgement = Judgement {
        alerts: vec![alert(1, AlertState::Firing)],
        gone: Vec::new(),
        deliveries: vec![delivery(1)],
    };
    block_on(store.judge(judgement)).unwrap();
    assert!(trouble(&store).is_some(), "samples still wait");
    assert_eq!(store.open_alerts().len(), 1);
    assert_eq!(points_of_first(&store), row as usize, "also what waits");
    send_wide(&store, row);
    row += 1;

    disk.make_room();
    until("the recovery", || trouble(&store).is_none().then_some(()));
    until("the backlog", || {
        (store.stats().backlog_reports == 0).then_some(())
    });
    assert!(ballast.exists(), "the ballast is back");
    let rows = points_of_first(&store);
    assert_eq!(rows, row as usize, "nothing is missing");
    store.close().unwrap();
    let store = Store::open(options, NOW).unwrap();
    assert_eq!(points_of_first(&store), row as usize);
    assert_eq!(store.open_alerts().len(), 1);
    assert_eq!(store.outbox_due(NOW, 9).len(), 1);
    drop(store);
}

/// A row that takes about 18 KB on the disk.
fn send_wide(store: &Store, row: u32) {
    let names: Vec<String> = (0..2_000).map(|n| format!("m{n}")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names[0] = "x";
    let values: Vec<f64> = (0..2_000)
        .map(|n| (f64::from(n) + f64::from(row)).sqrt())
        .collect();
    let at = Timestamp(NOW.0 + u64::from(row) * 1000);
    send(store, report(icmp(1), at, &names, &values));
}

fn points_of_first(store: &Store) -> usize {
    let found = select(store, 1, 0, u64::MAX);
    let first = found.iter().find(|series| &*series.key.metric == "x");
    first.map_or(0, |series| series.points.len())
}
