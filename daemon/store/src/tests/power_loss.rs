//! The power goes at any moment, also while the store recovers from the last
//! time: what was acknowledged is there, what was not is whole or absent.

use model::{
    AlertId, AlertState, CredentialName, DeviceDraft, OutboxId, Role, SessionId, Timestamp,
    UserName,
};

use super::sim::{Dice, SimDisk};
use super::support::*;
use crate::{Judgement, OpenError, Store, StoreHealth, StoreOptions};

/// Runs of four lives each; the seed is the run's number.
const RUNS: u64 = 300;

/// Runs at the same time: a run mostly waits for its writer.
const THREADS: usize = 6;

/// What was acknowledged.
#[derive(Default)]
struct Acknowledged {
    devices: Vec<u32>,
    people: Vec<u32>,
    judgements: Vec<u32>,
    samples: Vec<u32>,
    heard: u32,
}

fn address_of(n: u32) -> String {
    format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255)
}

fn time_of(n: u32, row: u64) -> Timestamp {
    Timestamp(NOW.0 + u64::from(n) * 1_000 + row)
}

fn credential_of(n: u32) -> CredentialName {
    CredentialName(format!("c{n}"))
}

/// Writes one thing after the other until the disk takes no more.
fn live(store: &Store, dice: &mut Dice, from: u32, done: &mut Acknowledged) -> u32 {
    for n in from..from + 60 {
        let written = match dice.below(5) {
            0 => write_device(store, n, &mut done.devices),
            4 => write_person(store, n, &mut done.people),
            1 => write_judgement(store, n, &mut done.judgements),
            _ => write_samples(store, n, &mut done.samples),
        };
        if !written {
            return n + 1;
        }
    }
    from + 60
}

fn write_device(store: &Store, n: u32, done: &mut Vec<u32>) -> bool {
    let device = DeviceDraft {
        credential: Some(credential_of(n)),
        ..draft(&format!("d{n}"), &address_of(n))
    };
    let (record, secret) = credential(&credential_of(n).0, &n.to_string());
    let brought = Some((record, Some(secret)));
    let written = block_on(store.create_device(by(), device, brought, NOW)).is_ok();
    done.extend(written.then_some(n));
    written
}

fn write_person(store: &Store, n: u32, done: &mut Vec<u32>) -> bool {
    let name = format!("u{n}");
    let written = block_on(async {
        let user = user(&name, Role::Admin);
        store.create_user(by(), user, NOW).await?;
        let session = session(&name, &name, NOW);
        store.create_session(session, NOW).await
    });
    done.extend(written.is_ok().then_some(n));
    written.is_ok()
}

fn write_judgement(store: &Store, n: u32, done: &mut Vec<u32>) -> bool {
    let state = [AlertState::Firing, AlertState::Resolved][n as usize % 2].clone();
    let judgement = Judgement {
        alerts: vec![alert(u64::from(n), state)],
        gone: Vec::new(),
        deliveries: vec![model::Delivery {
            place: n.to_string(),
            ..delivery(1)
        }],
    };
    let written = block_on(store.judge(judgement)).is_ok();
    done.extend(written.then_some(n));
    written
}

/// Twenty rows at once, and a cut now and then.
fn write_samples(store: &Store, n: u32, done: &mut Vec<u32>) -> bool {
    for row in 0..20 {
        let at = time_of(n, row + 1);
        let room = until("a place", || store.try_reserve());
        room.send(report(icmp(1), at, &["x"], &[f64::from(n)]));
    }
    let last = time_of(n, 20);
    until("the samples", || {
        let at = store.reading(icmp(1))?.row.at;
        (at == last).then_some(())
    });
    let written = store.stats().health == StoreHealth::Ok;
    done.extend(written.then_some(n));
    if n.is_multiple_of(7) {
        // the power may go
        let _ = store.samples().cut();
    }
    written
}

/// What is wrong with what `store` has, if something is.
fn missing(store: &Store, done: &Acknowledged) -> Option<String> {
    let inventory = store.inventory();
    for n in &done.devices {
        if inventory.by_name(&ours(), &format!("d{n}")).is_none() {
            return Some(format!("device {n} is lost"));
        }
    }
    for device in inventory.live() {
        let name = device.credential.clone().unwrap();
        let Some(credential) = store.credential(&name) else {
            return Some(format!("{} came without its credential", device.name));
        };
        if store.secret(&credential.secret).is_none() {
            return Some(format!("{} came without its secret", device.name));
        }
    }
    for n in 0..done.heard {
        let alert = store.alert(AlertId(u64::from(n))).unwrap().is_some();
        if !alert && done.judgements.contains(&n) {
            return Some(format!("alert {n} is lost"));
        }
    }
    let told = (1..=u64::from(done.heard)).map_while(|id| store.delivery(OutboxId(id)).unwrap());
    let told: Vec<u32> = told
        .map(|delivery| delivery.place.parse().unwrap())
        .collect();
    let open = |n: &u32| store.alert(AlertId(u64::from(*n))).unwrap().is_some();
    if told.len() != (0..done.heard).filter(open).count() || !told.iter().all(open) {
        return Some(format!("alerts and mails do not belong together: {told:?}"));
    }
    let people = store.people();
    for n in &done.people {
        let name = format!("u{n}");
        let session = store.sessions().contains_key(&SessionId(name.clone()));
        if !session || people.user(&UserName(name)).is_none() {
            return Some(format!("person {n} or their session is lost"));
        }
    }
    let verdict = store.verify_audit().unwrap();
    // the device, its credential and its secret; the person
    let lines = 3 * inventory.len() + people.users().count();
    if verdict.broken.is_some() || verdict.lines != lines as u64 {
        return Some(format!("the audit log does not fit: {verdict:?}"));
    }
    let selected = selected(store, 1, 0, u64::MAX);
    if let Some(missing) = selected.missing.first() {
        return Some(missing.why.clone());
    }
    let first = selected.series.into_iter().next();
    let points = first.map_or(Vec::new(), |series| series.points);
    for n in &done.samples {
        let first = time_of(*n, 1);
        let there = points.iter().skip_while(|point| point.at < first).take(20);
        if there
            .filter(|point| point.value.to_bits() == f64::from(*n).to_bits())
            .count()
            != 20
        {
            return Some(format!("samples {n} are lost"));
        }
    }
    None
}

/// Four lives of one store; what is wrong in the end, if something is.
fn run(seed: u64, options: &StoreOptions, forgetful: bool) -> Option<String> {
    let mut dice = Dice::new(seed);
    let mut done = Acknowledged::default();
    let mut disk = SimDisk::with_empty_store();
    let mut next = 1;
    for life in 0..4 {
        if forgetful {
            disk.forget_syncs();
        }
        if life < 3 {
            // whichever comes first; the other part ends with it
            disk.crash_in(5 + dice.below(400) as u64);
            disk.fs.crash_in(5 + dice.below(300) as u64);
        }
        match Store::open_on(options.clone(), disk.parts(), QUICK, NOW) {
            Ok(store) => {
                let wrong = missing(&store, &done);
                // the power may go while we look
                if let Some(wrong) = wrong.filter(|_| !disk.is_dead()) {
                    return Some(format!("life {life}: {wrong}"));
                }
                if life < 3 {
                    next = live(&store, &mut dice, next, &mut done);
                    done.heard = next;
                }
                // the power may be gone
                let _ = store.close();
            }
            Err(OpenError::Io { .. } | OpenError::Samples { .. }) if disk.is_dead() => {}
            Err(error) => return Some(format!("life {life}: {error}")),
        }
        disk = disk.after_power_cut(&mut dice);
    }
    None
}

fn with_options<T>(test: impl FnOnce(&StoreOptions) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    test(&options(folder.path()))
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_the_power_goes() {
    with_options(|options| {
        std::thread::scope(|scope| {
            for part in (0..RUNS).take(THREADS) {
                scope.spawn(move || {
                    for seed in (part..RUNS).step_by(THREADS) {
                        let wrong = run(seed, options, false);
                        assert_eq!(wrong, None, "seed {seed}");
                    }
                });
            }
        });
    });
}

#[test]
fn the_checker_notices_a_disk_that_forgets_its_syncs() {
    super::damage::hush_redb();
    with_options(|options| {
        let lost = (0..20).filter(|seed| run(*seed, options, true).is_some());
        assert!(lost.count() > 10);
    });
}
