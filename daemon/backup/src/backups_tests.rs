//! Backups as a daemon makes them: into a directory, by a clock of the test's.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::tz::TimeZone;
use model::Timestamp;
use tempfile::TempDir;

use crate::{
    About, BackupError, BackupName, Backups, BackupsSettings, Identities, Pieces, PlaceSettings,
    TimeOfDay,
};

/// A daemon's directories.
struct Daemon {
    backups: Backups,
    to: TempDir,
    work: TempDir,
    /// Whether snapshots fail.
    is_broken: Arc<AtomicBool>,
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn day(day: u8) -> Timestamp {
    at(&format!("2026-11-{day:02}T02:30:00Z"))
}

fn name(day_number: u8) -> BackupName {
    BackupName::new("core", day(day_number), false)
}

impl Daemon {
    fn start() -> Daemon {
        Daemon::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut BackupsSettings)) -> Daemon {
        let to = tempfile::tempdir().unwrap();
        let work = tempfile::tempdir().unwrap();
        let is_broken = Arc::new(AtomicBool::new(false));
        let mut settings = BackupsSettings {
            place: Some(PlaceSettings::Directory(to.path().to_owned())),
            at: TimeOfDay {
                hour: 2,
                minute: 30,
            },
            keep: 3,
            recipients: Vec::new(),
            host: "core".to_owned(),
        };
        change(&mut settings);
        let broken = is_broken.clone();
        let snapshot = move |directory: &Path| {
            if broken.load(Ordering::SeqCst) {
                return Err("the store is closed".to_owned());
            }
            fs::write(directory.join("sotp.redb"), vec![7; 2_000_000]).unwrap();
            fs::create_dir(directory.join("seg")).unwrap();
            fs::write(directory.join("seg/1.seg"), vec![8; 1_000_000]).unwrap();
            Ok(About::new("0.1.0", 7, day(1)))
        };
        let backups = Backups::new(&settings, Arc::new(snapshot), work.path());
        Daemon {
            backups: backups.unwrap().in_zone(TimeZone::UTC),
            to,
            work,
            is_broken,
        }
    }

    async fn names(&self) -> Vec<BackupName> {
        let found = self.backups.list().await.unwrap();
        found.into_iter().map(|found| found.name).collect()
    }

    fn nothing_is_left_behind(&self) {
        assert_eq!(fs::read_dir(self.work.path()).unwrap().count(), 0);
        assert_eq!(self.backups.bytes_done(), 0);
    }
}

#[tokio::test]
async fn a_backup_is_made_when_it_is_due_and_can_be_restored() {
    let daemon = Daemon::start();
    assert_eq!(daemon.backups.next_due(day(1)).await, Some(day(1)));
    let done = daemon.backups.run_once(day(1)).await.unwrap();
    assert_eq!(done.name, name(1));
    assert_eq!(done.manifest.files.len(), 2);
    assert_eq!(daemon.backups.next_due(day(1)).await, Some(day(2)));
    daemon.nothing_is_left_behind();

    let file = daemon.to.path().join(name(1).to_string());
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(metadata.len(), done.bytes);
    let reader = daemon
        .backups
        .place()
        .unwrap()
        .open(&name(1))
        .await
        .unwrap();
    let into = tempfile::tempdir().unwrap();
    let verified = crate::restore(reader, &Identities::none(), into.path(), &mut |_| {}).unwrap();
    assert_eq!(verified.about.host, "core");
    let restored = fs::read(into.path().join("seg/1.seg")).unwrap();
    assert_eq!(restored, vec![8; 1_000_000]);
}

#[tokio::test]
async fn the_oldest_are_removed_after_one_that_succeeded_and_only_then() {
    let daemon = Daemon::start();
    let others = [
        "sotp-edge-20200101T000000Z.tar",
        "notes.txt",
        "sotp-core.tar",
    ];
    for other in others {
        fs::write(daemon.to.path().join(other), "x").unwrap();
    }
    for number in 1..=5 {
        daemon.backups.run_once(day(number)).await.unwrap();
    }
    let edge = others[0].parse().unwrap();
    let kept = [name(5), name(4), name(3), edge];
    assert_eq!(daemon.names().await, kept);
    daemon.is_broken.store(true, Ordering::SeqCst);
    for number in 6..=9 {
        let error = daemon.backups.run_once(day(number)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot take a snapshot: the store is closed"
        );
    }
    assert_eq!(daemon.names().await, kept);
    assert_eq!(fs::read_dir(daemon.to.path()).unwrap().count(), 6);
    daemon.nothing_is_left_behind();
}

#[tokio::test]
async fn one_that_failed_is_tried_again_after_half_an_hour() {
    let daemon = Daemon::start();
    daemon.is_broken.store(true, Ordering::SeqCst);
    daemon.backups.run_once(day(1)).await.unwrap_err();
    let again = at("2026-11-01T03:00:00Z");
    assert_eq!(daemon.backups.next_due(day(1)).await, Some(again));
    daemon.is_broken.store(false, Ordering::SeqCst);
    daemon.backups.run_once(again).await.unwrap();
    assert_eq!(daemon.backups.next_due(again).await, Some(day(2)));
}

#[tokio::test]
async fn a_daemon_that_was_started_again_knows_the_last_one() {
    let daemon = Daemon::start();
    daemon.backups.run_once(day(1)).await.unwrap();
    let to = daemon.to.path().to_owned();
    let again = Daemon::with(|settings| settings.place = Some(PlaceSettings::Directory(to)));
    let noon = at("2026-11-01T12:00:00Z");
    assert_eq!(again.backups.next_due(noon).await, Some(day(2)));
    // and makes up for one that was missed
    let late = at("2026-11-02T12:00:00Z");
    assert_eq!(again.backups.next_due(late).await, Some(late));
}

#[tokio::test]
async fn what_a_killed_daemon_left_is_cleared_away() {
    let daemon = Daemon::start();
    let part = daemon.to.path().join(format!(".{}.part", name(1)));
    fs::write(&part, "half").unwrap();
    let foreign = daemon
        .to
        .path()
        .join(".sotp-edge-20200101T000000Z.tar.part");
    fs::write(&foreign, "half").unwrap();
    let work = tempfile::tempdir().unwrap();
    fs::create_dir(work.path().join("backup-snapshot-1")).unwrap();
    fs::write(work.path().join("backup-snapshot-1/sotp.redb"), "x").unwrap();
    fs::create_dir(work.path().join("another")).unwrap();

    daemon.backups.run_once(day(2)).await.unwrap();
    assert!(!part.exists());
    assert!(foreign.exists());
    let settings = BackupsSettings {
        place: None,
        at: TimeOfDay { hour: 0, minute: 0 },
        keep: 1,
        recipients: Vec::new(),
        host: String::new(),
    };
    let nothing = Arc::new(|_: &Path| Err("never".to_owned()));
    let idle = Backups::new(&settings, nothing, work.path()).unwrap();
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 1);
    assert_eq!(idle.next_due(day(1)).await, None);
    let error = idle.run_once(day(1)).await.unwrap_err();
    assert!(matches!(error, BackupError::NoPlace), "{error}");
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_not_made() {
    let daemon = Daemon::with(|settings| {
        settings.place = Some(PlaceSettings::Directory("/nowhere/at/all".into()));
    });
    let error = daemon.backups.run_once(day(1)).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("/nowhere/at/all is no directory: make it")
    );
    assert!(daemon.backups.next_due(day(1)).await > Some(day(1)));
}

#[tokio::test]
async fn two_of_the_same_second_are_not_mixed_up() {
    let daemon = Daemon::start();
    daemon.backups.run_once(day(1)).await.unwrap();
    let error = daemon.backups.run_once(day(1)).await.unwrap_err();
    assert!(matches!(error, BackupError::Exists { .. }), "{error}");
    assert_eq!(daemon.names().await, [name(1)]);
}

async fn all_of(mut pieces: Pieces) -> Result<Vec<u8>, BackupError> {
    let mut all = Vec::new();
    while let Some(piece) = pieces.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

#[tokio::test]
async fn who_asks_gets_a_backup_that_is_not_kept_here() {
    let daemon = Daemon::with(|settings| settings.place = None);
    let (name, pieces) = daemon.backups.stream(day(1)).await.unwrap();
    assert_eq!(name.to_string(), "sotp-core-20261101T023000Z.tar");
    let archive = all_of(pieces).await.unwrap();
    let verified = crate::verify(&archive[..], &Identities::none(), &mut |_| {}).unwrap();
    assert_eq!(verified.about.bytes, 3_000_000);
    assert_eq!(daemon.names().await, []);
}

#[tokio::test]
async fn while_one_is_made_there_is_no_other() {
    let daemon = Daemon::start();
    let (_, mut pieces) = daemon.backups.stream(day(1)).await.unwrap();
    // the snapshot is there, and the pieces wait to be taken
    let first = pieces.next().await.unwrap().unwrap();
    assert!(!first.is_empty());
    let error = daemon.backups.run_once(day(1)).await.unwrap_err();
    assert!(matches!(error, BackupError::Busy), "{error}");
    drop(pieces);
    // whoever went away ends it
    let mut tries = 0;
    while let Err(error) = daemon.backups.run_once(day(1)).await {
        assert!(
            matches!(error, BackupError::Busy) && tries < 1_000,
            "{error}"
        );
        tries += 1;
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    daemon.nothing_is_left_behind();
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_archived_is_an_error_among_the_pieces() {
    let work = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let settings = BackupsSettings {
        place: Some(PlaceSettings::Directory(to.path().to_owned())),
        at: TimeOfDay { hour: 0, minute: 0 },
        keep: 1,
        recipients: Vec::new(),
        host: "core".to_owned(),
    };
    let snapshot = |directory: &Path| {
        fs::write(directory.join("a"), vec![1; 1_000_000]).unwrap();
        // it cannot be opened, not even by root
        fs::write(directory.join("b"), "x").unwrap();
        fs::remove_file(directory.join("b")).unwrap();
        std::os::unix::fs::symlink("/nowhere", directory.join("b")).unwrap();
        Ok(About::new("0.1.0", 7, day(1)))
    };
    let backups = Backups::new(&settings, Arc::new(snapshot), work.path()).unwrap();
    let (_, pieces) = backups.stream(day(1)).await.unwrap();
    let error = all_of(pieces).await.unwrap_err().to_string();
    assert!(error.contains("cannot be put into a backup"), "{error}");
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
}

#[test]
fn a_reader_of_pieces_tells_an_end_from_a_failure() {
    let (sender, pieces) = crate::pipe::pipe();
    drop(sender);
    let mut reader = crate::pipe::PieceReader::new(pieces);
    let error = reader.read(&mut [0; 9]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Other);
}
