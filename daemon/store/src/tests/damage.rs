//! Bits flip, pages are zeroed, files are cut: whatever can still be read is
//! right, everything else is an error or named as missing, and no file is
//! changed that does not open.

use std::sync::Once;

use ::samples::{Missing, Select};
use model::{
    AlertState, DeviceId, Facts, KeyRing, Policy, Role, SecretName, SessionId, Timestamp, TokenId,
    UserName,
};

use super::sim::{Dice, SimDisk};
use super::support::*;
use crate::error::Fault;
use crate::{
    AlertsAsk, AuditAsk, Judgement, OpenError, OutboxAsk, Store, StoreError, StoreOptions,
    StoredAnswer, WriterEnd,
};

const PAGE: usize = 4_096;
const DEVICES: u64 = 8;
const ROWS: u64 = 150;
const ALERTS: u64 = 60;
const PEOPLE: usize = 12;
/// Users, secrets, tokens, a tenant, the policy, devices.
const LINES: u64 = 3 * PEOPLE as u64 + 2 + DEVICES;

/// Keeps redb's panics, which are expected here, out of the output.
pub(super) fn hush_redb() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let place = panic.location().map_or("", |place| place.file());
            if !place.contains("redb") {
                usual(panic);
            }
        }));
    });
}

fn time_of(row: u64) -> Timestamp {
    Timestamp(NOW.0 + row * 1000)
}

fn value_of(device: u64, row: u64) -> f64 {
    let value = u32::try_from(device * 1_000_000 + row * row).unwrap();
    f64::from(value)
}

/// People, and what belongs to them.
fn fill_people(store: &Store) {
    block_on(async {
        for n in 1..=PEOPLE {
            let name = format!("u{n}");
            let user = user(&name, Role::Admin);
            store.create_user(by(), user, NOW).await.unwrap();
            let session = session(&name, &name, NOW);
            store.create_session(session, NOW).await.unwrap();
            let secret = secret(&name, &[&format!("value {n}")]);
            store.put_secret(by(), secret, None, NOW).await.unwrap();
            let token = token(&name, &name);
            store.create_token(by(), token, None, NOW).await.unwrap();
        }
        let tenant = tenant("acme", None);
        store.put_tenant(by(), tenant, None, NOW).await.unwrap();
        let policy = Policy::default();
        store.put_policy(by(), policy, 0, NOW).await.unwrap();
        let ring = KeyRing::default();
        let refused = store.put_key_ring(by(), ring, 0, NOW).await;
        assert!(refused.is_err(), "a key is in use");
        let answer = StoredAnswer {
            request: digest(1),
            status: 201,
            headers: Vec::new(),
            body: b"body".to_vec(),
            at: NOW,
        };
        store.put_idempotent(digest(1), answer, NOW).await.unwrap();
    });
}

/// People are read at the start, and right or not there; the log is read from
/// the disk.
fn check_people(store: &Store, story: &str) -> usize {
    let people = store.people();
    for n in 1..=PEOPLE {
        let name = format!("u{n}");
        let user = people.user(&UserName(name.clone())).unwrap();
        assert!(user.is_full_admin(), "{story}");
        let session = store.sessions()[&SessionId(name.clone())].clone();
        assert_eq!(session.user, user.name, "{story}");
        let secret = store.secret(&SecretName(name.clone())).unwrap();
        let value = opened(secret.versions[0].sealed.as_ref().unwrap());
        assert_eq!(value, Some(format!("value {n}")), "{story}");
        assert_eq!(people.token(&TokenId(name.clone())).unwrap().name, name);
    }
    assert_eq!(people.tenants().count(), 2, "{story}");
    assert_eq!(people.policy().revision, 1, "{story}");
    assert_eq!(store.idempotent(&digest(1)).unwrap().body, b"body");
    check_log(store, story)
}

fn check_log(store: &Store, story: &str) -> usize {
    let mut errors = 0;
    match store.audit(&AuditAsk::newest(usize::MAX)) {
        Ok(lines) => {
            let objects = lines
                .iter()
                .filter(|line| line.object.starts_with("user:u"));
            assert_eq!(
                objects.count(),
                PEOPLE,
                "{story}: lines are gone in silence"
            );
        }
        Err(_) => errors += 1,
    }
    match store.verify_audit() {
        Ok(verdict) if verdict.broken.is_none() => {
            assert_eq!(verdict.lines, LINES, "{story}");
            assert_eq!(errors, 0, "{story}");
        }
        _ => errors += 1,
    }
    errors
}

/// A store with something in every table.
fn fill(store: &Store) {
    fill_people(store);
    for device in 1..=DEVICES {
        create(store, &format!("d{device}"), &format!("10.0.0.{device}"));
    }
    let state = |id| [AlertState::Firing, AlertState::Resolved][usize::from(id % 2 == 0)].clone();
    let judgement = Judgement {
        alerts: (1..=ALERTS).map(|id| alert(id, state(id))).collect(),
        gone: Vec::new(),
        deliveries: (1..=ALERTS).map(delivery).collect(),
    };
    block_on(store.judge(judgement)).unwrap();
    for row in 1..=ROWS {
        for device in 1..=DEVICES {
            let room = until("a place", || store.try_reserve());
            let mut report = report(icmp(device), time_of(row), &["x"], &[value_of(device, row)]);
            report.facts = Some(Facts {
                system: model::SystemFacts {
                    name: Some(format!("d{device}")),
                    ..Default::default()
                },
                ..Default::default()
            });
            room.send(report);
        }
        if row == ROWS / 2 {
            settled(store, row * DEVICES);
            store.samples().cut().unwrap();
        }
    }
    settled(store, ROWS * DEVICES);
}

fn settled(store: &Store, rows: u64) {
    until("all rows", || (store.stats().rows == rows).then_some(()));
}

/// The disk of a filled store that was closed: half of the rows are in
/// segments, the others in the log.
fn filled(options: &StoreOptions) -> SimDisk {
    let disk = SimDisk::with_empty_store();
    let store = Store::open_on(options.clone(), disk.parts(), QUICK, NOW).unwrap();
    fill(&store);
    store.close().unwrap();
    disk
}

/// Panics if something is read that is neither right nor an error; counts the
/// errors.
fn check(store: &Store, story: &str) -> usize {
    let mut errors = 0;
    let inventory = store.inventory();
    for device in 1..=DEVICES {
        let name = inventory.device(DeviceId(device)).map(|d| d.name.clone());
        assert_eq!(name, Some(format!("d{device}")), "{story}");
        let facts = store.facts(DeviceId(device)).unwrap();
        assert_eq!(facts.system.name, name, "{story}");
        if let Some(reading) = store.reading(icmp(device)) {
            let at = reading.row.at.0;
            let row = (at - NOW.0) / 1000;
            assert_eq!(time_of(row), reading.row.at, "{story}");
            assert_eq!(reading.raw(0), Some(value_of(device, row)), "{story}");
        }
        errors += check_history(store, device, story);
    }
    errors += check_past(store, story);
    errors += check_people(store, story);
    errors
}

/// Each row is as it was, or said to be missing.
fn check_history(store: &Store, device: u64, story: &str) -> usize {
    let selected = store.samples().select(&Select {
        selector: &"x".parse().unwrap(),
        groups: &|group| group.device == DeviceId(device),
        from: Timestamp(0),
        until: Timestamp(u64::MAX),
        max_points: usize::MAX,
        max_series: usize::MAX,
    });
    let selected = selected.unwrap();
    let found = selected.series.first();
    let points = found.map_or(&[][..], |series| &series.points);
    for point in points {
        let row = (point.at.0 - NOW.0) / 1000;
        assert_eq!(point.at, time_of(row), "{story}");
        let value = value_of(device, row);
        assert_eq!(point.value.to_bits(), value.to_bits(), "{story}");
    }
    let is_gone = |row: &u64| {
        let at = time_of(*row);
        let is_missing = |missing: &Missing| (missing.from..=missing.until).contains(&at);
        let told = selected.missing.iter().any(is_missing);
        !told && !points.iter().any(|point| point.at == at)
    };
    let gone = (1..=ROWS).filter(is_gone).count();
    // what was in a damaged place of the log is told of at the start that
    // meets it
    let of_log = store.stats().samples.replay;
    let told = !of_log.damaged.is_empty() || of_log.torn_tail > 0;
    assert!(
        gone == 0 || told,
        "{story}: rows of {device} are gone in silence"
    );
    selected.missing.len() + gone
}

fn check_past(store: &Store, story: &str) -> usize {
    let mut errors = 0;
    let ask = AlertsAsk {
        states: Vec::new(),
        device: None,
        rule: None,
        severity: None,
        before: None,
        limit: 1_000,
    };
    match store.alerts(&ask) {
        Ok(alerts) => {
            let ids: Vec<u64> = alerts.iter().map(|alert| alert.id.0).collect();
            assert_eq!(ids, (1..=ALERTS).rev().collect::<Vec<_>>(), "{story}");
        }
        Err(_) => errors += 1,
    }
    let ask = OutboxAsk {
        states: Vec::new(),
        before: None,
        limit: 1_000,
    };
    match store.outbox(&ask) {
        Ok(deliveries) => assert_eq!(deliveries.len() as u64, ALERTS, "{story}"),
        Err(_) => errors += 1,
    }
    errors
}

/// Writes a little of everything; the writer may refuse or end, but has to say
/// so. How often it wrote.
fn write_on(store: &Store, round: u64) {
    for device in 1..=DEVICES {
        let row = ROWS + round;
        let Some(room) = store.try_reserve() else {
            return;
        };
        room.send(report(
            icmp(device),
            time_of(row),
            &["x"],
            &[value_of(device, row)],
        ));
    }
    // an answer, whichever: it does not hang
    let _ = block_on(store.heartbeat());
}

/// Opens a damaged image, reads everything, writes, and opens and reads again.
/// Whether the damage was noticed.
fn live_with(options: &StoreOptions, disk: &SimDisk, story: &str) -> bool {
    let mut noticed = false;
    for round in 1..=2 {
        let before = disk.image();
        match Store::open_on(options.clone(), disk.parts(), QUICK, NOW) {
            Ok(store) => {
                noticed |= check(&store, story) > 0;
                if round == 1 {
                    write_on(&store, 1);
                }
                noticed |= store.close().is_err();
            }
            Err(OpenError::Corrupt { what, .. }) => {
                assert!(!what.is_empty(), "{story}");
                assert!(disk.image() == before, "{story}: the file was changed");
                return true;
            }
            Err(error) => panic!("{story}: {error:?}"),
        }
    }
    noticed
}

fn with_filled(test: impl FnOnce(&StoreOptions, &SimDisk, &[u8])) {
    hush_redb();
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let disk = filled(&options);
    test(&options, &disk, &disk.image());
}

/// Pages in which something is.
fn used_pages(image: &[u8]) -> Vec<usize> {
    let pages = image.chunks(PAGE).enumerate();
    let used = pages.filter(|(_, page)| page.iter().any(|byte| *byte != 0));
    used.map(|(place, _)| place).collect()
}

#[test]
fn a_flipped_bit_is_never_a_wrong_value() {
    with_filled(|options, disk, image| {
        let pages = used_pages(image);
        let mut noticed = 0;
        for seed in 0..200 {
            let mut dice = Dice::new(seed);
            let page = pages[dice.below(pages.len())];
            let bit = (page * PAGE * 8 + dice.below(PAGE * 8)).min(image.len() * 8 - 1);
            let mut damaged = image.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let story = format!("seed {seed}: bit {} of byte {}", bit % 8, bit / 8);
            noticed += usize::from(live_with(options, &disk.with_image(damaged), &story));
        }
        assert!(
            // how much of the file is free pages differs from run to run
            noticed > 5,
            "only {noticed} of 200 hit something that is read"
        );
    });
}

#[test]
fn a_zeroed_page_is_never_a_wrong_value() {
    with_filled(|options, disk, image| {
        let pages = used_pages(image);
        let mut noticed = 0;
        for seed in 0..100 {
            let page = pages[Dice::new(seed).below(pages.len())];
            let mut damaged = image.to_vec();
            let end = damaged.len().min((page + 1) * PAGE);
            damaged[page * PAGE..end].fill(0);
            noticed += usize::from(live_with(
                options,
                &disk.with_image(damaged),
                &format!("page {page} zeroed"),
            ));
        }
        assert!(
            noticed > 20,
            "only {noticed} of 100 hit something that is read"
        );
    });
}

#[test]
fn a_page_of_another_time_is_never_a_wrong_value() {
    with_filled(|options, disk, image| {
        let pages = used_pages(image);
        for seed in 0..60 {
            let mut dice = Dice::new(seed);
            let (from, to) = (
                pages[dice.below(pages.len())],
                pages[dice.below(pages.len())],
            );
            if from.max(to) * PAGE + PAGE > image.len() {
                continue;
            }
            let mut damaged = image.to_vec();
            damaged.copy_within(from * PAGE..(from + 1) * PAGE, to * PAGE);
            live_with(
                options,
                &disk.with_image(damaged),
                &format!("page {from} in the place of {to}"),
            );
        }
    });
}

#[test]
fn a_cut_file_is_refused_and_left_alone() {
    with_filled(|options, disk, image| {
        for seed in 0..60 {
            let length = Dice::new(seed).below(image.len());
            let story = format!("cut to {length} of {} bytes", image.len());
            live_with(options, &disk.with_image(image[..length].to_vec()), &story);
        }
    });
}

#[test]
fn a_file_of_somebody_else_is_refused_and_left_alone() {
    let home = Home::new();
    for bytes in [&b""[..], b"not a store", &[0; 100_000]] {
        std::fs::write(home.path(), bytes).unwrap();
        let error = Store::open(home.options(), NOW).unwrap_err();
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("was not changed") && text.contains("backup"),
            "{text}"
        );
        assert_eq!(std::fs::read(home.path()).unwrap(), bytes);
    }
}

#[test]
fn a_newer_store_is_refused_and_left_alone() {
    use crate::tables::{COUNTER, SCHEMA, SCHEMA_KEY};
    let home = Home::new();
    let store = home.open();
    send(&store, report(icmp(1), NOW, &["x"], &[1.0]));
    store.samples().cut().unwrap();
    store.close().unwrap();
    // a newer version may list what this one does not know
    let dir = home.options().samples_dir();
    std::fs::write(dir.join("seg/99999999.seg"), b"newer").unwrap();
    let files = |dir: &std::path::Path| {
        let mut all: Vec<(String, Vec<u8>)> = ["wal", "seg"]
            .iter()
            .flat_map(|part| std::fs::read_dir(dir.join(part)).unwrap())
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.display().to_string(), std::fs::read(path).unwrap()))
            .collect();
        all.sort();
        all
    };
    let before = files(&dir);
    let db = redb::Database::open(home.path()).unwrap();
    let txn = crate::disk::begin_write(&db).unwrap();
    COUNTER
        .put(&txn, SCHEMA_KEY, &u64::from(SCHEMA + 1))
        .unwrap();
    txn.commit().unwrap();
    // not closed: as a crash of the newer version leaves it
    let copy = std::fs::read(home.path()).unwrap();
    drop(db);
    std::fs::write(home.path(), &copy).unwrap();

    let error = Store::open(home.options(), NOW).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Newer {
                found: 4,
                known: 3,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(
        std::fs::read(home.path()).unwrap() == copy,
        "it was changed"
    );
    assert!(files(&dir) == before, "the samples were changed");
}

#[test]
fn damaged_samples_are_named_and_everything_else_is_there() {
    with_filled(|options, disk, image| {
        let dir = options.samples_dir();
        let mut noticed = 0;
        for seed in 0..60 {
            let mut dice = Dice::new(seed);
            let damaged = disk.with_image(image.to_vec());
            let part = dir.join(["seg", "wal"][usize::from(seed % 2 == 0)]);
            let names = damaged.fs.names(&part);
            let name = &names[dice.below(names.len())];
            let length = damaged.fs.read_all(&part.join(name)).len();
            if length == 0 {
                continue;
            }
            let byte = dice.below(length) as u64;
            damaged.fs.flip(&part.join(name), byte, 3);
            let story = format!("bit 3 of byte {byte} of {name}");
            noticed += usize::from(samples_live(options, &damaged, &story));
        }
        assert!(noticed > 20, "only {noticed} of 60 hit something");
    });
}

/// Opens a disk with damaged samples; whether it says so.
fn samples_live(options: &StoreOptions, disk: &SimDisk, story: &str) -> bool {
    let store = Store::open_on(options.clone(), disk.parts(), QUICK, NOW).unwrap();
    let missing = check(&store, story);
    write_on(&store, 1);
    let stats = store.stats().samples;
    store.close().unwrap();
    let store = Store::open_on(options.clone(), disk.parts(), QUICK, NOW).unwrap();
    assert!(store.reading(icmp(1)).is_some(), "{story}");
    store.close().unwrap();
    missing > 0 || stats.damaged > 0 || stats.replay.torn_tail > 0
}

#[test]
fn an_end_by_damage_can_be_told_from_one_by_a_mistake() {
    let home = Home::new();
    let end = |store: &Store| {
        block_on(store.writer_gone());
        store.fault().unwrap()
    };

    let store = home.open();
    let _ = block_on(store.write::<()>(|_| panic!("a mistake")));
    let why = end(&store);
    assert!(
        matches!(&why, WriterEnd::Panicked(what) if what.contains("a mistake")),
        "{why}"
    );
    assert!(matches!(
        store.close(),
        Err(StoreError::WriterFailed { why: told }) if told == why
    ));
    home.open().close().unwrap();

    let disk = SimDisk::with_empty_store();
    let store = Store::open_on(home.options(), disk.parts(), QUICK, NOW).unwrap();
    create(&store, "d1", "10.0.0.1");
    let wiped = vec![0; disk.image().len() - PAGE];
    let _ = block_on(store.write::<()>(move |_| {
        redb::StorageBackend::write(&disk, PAGE as u64, &wiped).unwrap();
        panic!("as redb does")
    }));
    let why = end(&store);
    assert!(matches!(&why, WriterEnd::Damaged(_)), "{why}");

    let store = home.open();
    let _ = block_on(store.write::<()>(|_| Err(Fault::Damage("a row".to_owned()))));
    assert_eq!(end(&store), WriterEnd::Damaged("a row".to_owned()));
}
