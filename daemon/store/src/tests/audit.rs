//! Who did what is written down with what was done, and nobody changes a line
//! of it without being noticed.

use std::io::ErrorKind;
use std::time::Duration;

use model::{
    AuditDraft, AuditOutcome, AuditRecord, CredentialName, KeyInfo, KeyRing, Policy, Role,
    RuleName, SecretName, TenantName, Timestamp, TokenId, User, UserName,
};
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase};

use super::sim::SimDisk;
use super::support::*;
use crate::audit::{settle, verify};
use crate::disk::begin_write;
use crate::record;
use crate::record::Table;
use crate::tables::{ANCHOR, AUDIT, AUDIT_END, AuditMark, HEAD};
use crate::{AuditAsk, AuditVerdict, OutcomeIs, Store, StoreOptions};

fn ask() -> AuditAsk {
    AuditAsk::newest(1_000)
}

/// Does each thing that can be done once, and ends with nothing left of it.
fn change_everything(store: &Store) {
    let acme = || TenantName("acme".into());
    block_on(async {
        let first = user("jane", Role::Admin);
        store.create_first_admin(by(), first, NOW).await.unwrap();
        let joe = user("joe", Role::Admin);
        store.create_user(by(), joe.clone(), NOW).await.unwrap();
        store.replace_user(by(), joe, None, NOW).await.unwrap();
        let joe = UserName("joe".into());
        store.delete_user(by(), &joe, None, NOW).await.unwrap();
        let tenant = tenant("acme", None);
        store
            .put_tenant(by(), tenant.clone(), None, NOW)
            .await
            .unwrap();
        store.put_tenant(by(), tenant, None, NOW).await.unwrap();
        let policy = Policy::default();
        store.put_policy(by(), policy, 0, NOW).await.unwrap();
        let token = token("t1", "acme/backup");
        store
            .create_token(by(), token.clone(), None, NOW)
            .await
            .unwrap();
        store.replace_token(by(), token, None, NOW).await.unwrap();
        let id = TokenId("t1".into());
        store.delete_token(by(), &id, None, NOW).await.unwrap();
        let smtp = secret("smtp", &["canary-value"]);
        store.put_secret(by(), smtp, None, NOW).await.unwrap();
        let smtp = SecretName("smtp".into());
        store.delete_secret(by(), &smtp, None, NOW).await.unwrap();
        let ring = KeyRing {
            keys: vec![KeyInfo {
                id: model::KeyId("k1".into()),
                created: NOW,
                check: sealed("k1", "canary-check"),
            }],
            revision: 0,
        };
        store
            .put_key_ring(by(), ring.clone(), 0, NOW)
            .await
            .unwrap();
        store.put_key_ring(by(), ring, 1, NOW).await.unwrap();
        let (record, value) = credential("lab", "canary-community");
        let put = store.put_credential(by(), record, Some(value), None, NOW);
        put.await.unwrap();
        let lab = CredentialName("lab".into());
        store
            .delete_credential(by(), &lab, None, NOW)
            .await
            .unwrap();
        let device = model::DeviceDraft {
            tenant: acme(),
            ..draft("sw1", "10.0.0.1")
        };
        let drafts = vec![device.clone(), device.clone()];
        let entered = store.create_devices(by(), drafts, NOW).await.unwrap();
        let id = entered[0].as_ref().unwrap().id;
        store
            .replace_device(by(), id, device, None, NOW)
            .await
            .unwrap();
        store.delete_device(by(), id, None, NOW).await.unwrap();
        store.restore_device(by(), id, NOW).await.unwrap();
        let rule = super::life::rule("down", model::RuleSource::Api);
        store.put_rule(by(), rule.clone(), None, NOW).await.unwrap();
        store.put_rule(by(), rule, None, NOW).await.unwrap();
        let down = RuleName("down".into());
        store.delete_rule(by(), &down, None, NOW).await.unwrap();
        let told = model::Delivery {
            state: model::DeliveryState::Parked,
            ..delivery(1)
        };
        let id = store.enqueue(told).await.unwrap();
        store.retry_delivery(by(), id, NOW).await.unwrap();
        let test = delivery(1);
        store.enqueue_test(by(), test, NOW).await.unwrap();
        // what the daemon itself tells is no change
        store.enqueue(delivery(1)).await.unwrap();
    });
}

#[test]
fn every_change_has_its_line() {
    let home = Home::new();
    let store = home.open();
    change_everything(&store);
    let lines = audit_lines(&store);
    let said: Vec<String> = lines
        .iter()
        .map(|line| {
            let tenant = line.tenant.as_ref().map_or("-", |tenant| &tenant.0);
            format!("{} {} {tenant}", line.action, line.object)
        })
        .collect();
    assert_eq!(
        said,
        [
            "setup.admin user:jane -",
            "user.create user:joe -",
            "user.change user:joe -",
            "user.delete user:joe -",
            "tenant.create tenant:acme -",
            "tenant.change tenant:acme -",
            "policy.change policy:sign-in -",
            "token.create token:acme/backup acme",
            "token.change token:acme/backup acme",
            "token.delete token:acme/backup acme",
            "secret.set secret:smtp default",
            "secret.delete secret:smtp default",
            "key.create key:k1 -",
            "key.rotate key:k1 -",
            "secret.set secret:credential.lab default",
            "credential.set credential:lab default",
            "credential.delete credential:lab default",
            "secret.delete secret:credential.lab default",
            "device.create device:acme/sw1 acme",
            "devices.import devices:import acme",
            "device.change device:acme/sw1 acme",
            "device.delete device:acme/sw1 acme",
            "device.restore device:acme/sw1 acme",
            "rule.create rule:down default",
            "rule.change rule:down default",
            "rule.delete rule:down default",
            "outbox.retry delivery:1 -",
            "notification.test delivery:2 -",
        ]
    );
    let test = lines[27].after.as_deref();
    assert!(test.is_some_and(|after| after.contains("noc@example.net")));
    for line in &lines {
        assert_eq!((line.actor.as_str(), line.at), ("uid:0", NOW));
        assert_eq!(line.origin, "socket");
        assert_eq!(line.request.as_deref(), Some("r1"));
        for part in [&line.before, &line.after].into_iter().flatten() {
            let object: serde_json::Value = serde_json::from_str(part).unwrap();
            assert!(object.is_object(), "{part}");
        }
    }
    let verdict = store.verify_audit().unwrap();
    assert_eq!(verdict.broken, None);
    assert_eq!((verdict.lines, verdict.first, verdict.head), (28, 1, 28));
    assert_eq!((verdict.head, verdict.hash), store.audit_head());
    store.close().unwrap();
    assert_eq!(home.open().verify_audit().unwrap(), verdict);
}

#[test]
fn no_line_lets_anybody_in() {
    let home = Home::new();
    let store = home.open();
    change_everything(&store);
    let shown = format!("{:?}", audit_lines(&store));
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let sealed = sealed("k1", "canary-value");
    for secret in [
        "canary".to_owned(),
        hex(&digest(9).0),
        format!("{:?}", digest(9).0).replace(' ', ""),
        format!("{:?}", sealed.text).replace(' ', ""),
        hex(&sealed.text),
    ] {
        assert!(!shown.replace(' ', "").contains(&secret), "{secret}");
    }
    // it is what was put in, so the test can fail
    assert!(shown.contains("password_set") && shown.contains("versions"));
}

#[test]
fn what_is_refused_has_no_line() {
    let home = Home::new();
    let store = home.open();
    create(&store, "a", "10.0.0.1");
    let head = store.audit_head();
    let again = store.create_device(by(), draft("a", "10.0.0.1"), None, NOW);
    assert!(block_on(again).is_err());
    assert_eq!(store.audit_head(), head);
}

// --- the chain

/// The rows of a log, by line, in a database that can be changed at will.
struct Log {
    db: Database,
    lines: Vec<AuditRecord>,
}

impl Log {
    fn of(lines: Vec<AuditRecord>) -> Log {
        let backend = InMemoryBackend::new();
        let db = Database::builder().create_with_backend(backend).unwrap();
        let log = Log { db, lines };
        log.restore();
        log
    }

    /// Puts everything back as it was written.
    fn restore(&self) {
        self.change(|txn| {
            txn.delete_table(AUDIT.definition()).unwrap();
            txn.delete_table(AUDIT_END.definition()).unwrap();
            Table::create(&AUDIT, txn).unwrap();
            for line in &self.lines {
                AUDIT.put(txn, line.seq, line).unwrap();
            }
            let last = self.lines.last().unwrap();
            let head = AuditMark {
                seq: last.seq,
                hash: last.hash,
            };
            AUDIT_END.put(txn, HEAD, &head).unwrap();
        });
    }

    fn change(&self, change: impl FnOnce(&redb::WriteTransaction)) {
        let mut txn = self.db.begin_write().unwrap();
        txn.set_durability(redb::Durability::None).unwrap();
        change(&txn);
        txn.commit().unwrap();
    }

    fn verdict(&self) -> AuditVerdict {
        verify(&self.db.begin_read().unwrap()).unwrap()
    }

    /// Changes something, and says where the chain is broken then.
    fn broken_by(&self, change: impl FnOnce(&redb::WriteTransaction)) -> Option<u64> {
        self.change(change);
        let broken = self.verdict().broken;
        self.restore();
        assert_eq!(self.verdict().broken, None);
        broken.map(|broken| broken.seq)
    }

    /// Like [`Log::broken_by`], where one row is another.
    fn broken_by_row(&self, seq: u64, row: &[u8]) -> Option<u64> {
        let put = |row: &[u8]| {
            self.change(|txn| {
                let mut table = txn.open_table(AUDIT.definition()).unwrap();
                table.insert(seq, row).unwrap();
            });
        };
        put(row);
        let broken = self.verdict().broken;
        let good = self.lines.iter().find(|line| line.seq == seq).unwrap();
        put(&AUDIT.seal(&seq, good));
        broken.map(|broken| broken.seq)
    }
}

fn few_lines() -> Vec<AuditRecord> {
    let home = Home::new();
    let store = home.open();
    create(&store, "a", "10.0.0.1");
    let drafts = [
        note("session.create", "session:s1"),
        AuditDraft {
            tenant: Some(TenantName("acme".into())),
            outcome: AuditOutcome::Denied("no permission".into()),
            after: Some("{\"n\":1}".into()),
            ..note("access.denied", "device:7")
        },
        note("session.end", "session:s1"),
    ];
    for draft in drafts {
        block_on(store.note_audit(by(), draft, NOW)).unwrap();
    }
    create(&store, "b", "10.0.0.2");
    audit_lines(&store)
}

#[test]
fn any_changed_byte_of_a_line_is_found() {
    let log = Log::of(few_lines());
    assert_eq!(log.verdict().broken, None);
    for line in &log.lines {
        let row = AUDIT.seal(&line.seq, line);
        for place in 0..row.len() {
            for flipped in [0x01, 0x20, 0xFF] {
                let mut changed = row.clone();
                changed[place] ^= flipped;
                let found = log.broken_by_row(line.seq, &changed);
                assert_eq!(found, Some(line.seq), "byte {place}");
            }
        }
    }
}

#[test]
fn any_changed_byte_is_found_though_its_checksum_was_made_to_fit() {
    let log = Log::of(few_lines());
    let mut tried = 0;
    for line in &log.lines {
        let body = postcard::to_stdvec(line).unwrap();
        for place in 0..body.len() {
            for flipped in [0x01, 0x02, 0x20] {
                let mut changed = body.clone();
                changed[place] ^= flipped;
                let read: Result<AuditRecord, _> = postcard::from_bytes(&changed);
                tried += usize::from(read.is_ok());
                let row = record::seal("audit", &line.seq.to_le_bytes(), 1, &changed);
                let found = log.broken_by_row(line.seq, &row);
                assert_eq!(found, Some(line.seq), "byte {place}: {read:?}");
            }
        }
    }
    assert_eq!(log.verdict().broken, None);
    assert!(tried > 1_000, "only {tried} could be read at all");
}

#[test]
fn a_line_that_was_written_anew_does_not_fit_the_next() {
    let log = Log::of(few_lines());
    for (place, line) in log.lines.iter().enumerate() {
        let forged = AuditRecord {
            actor: "user:somebody-else".to_owned(),
            ..line.clone()
        };
        let forged = AuditRecord {
            hash: crate::audit::hash_of(&forged),
            ..forged
        };
        let found = log.broken_by(|txn| AUDIT.put(txn, line.seq, &forged).unwrap());
        // the next one notices, or the head behind the last
        let next = log.lines.get(place + 1).map_or(line.seq, |next| next.seq);
        assert_eq!(found, Some(next));
    }
}

#[test]
fn removed_swapped_and_added_lines_are_found() {
    let log = Log::of(few_lines());
    let last = log.lines.len() as u64;
    for (place, line) in log.lines.iter().enumerate() {
        let found = log.broken_by(|txn| assert!(AUDIT.remove(txn, line.seq).unwrap()));
        assert_eq!(found, Some(line.seq), "removed");
        for other in &log.lines[place + 1..] {
            let found = log.broken_by(|txn| {
                AUDIT.put(txn, line.seq, other).unwrap();
                AUDIT.put(txn, other.seq, line).unwrap();
            });
            assert_eq!(found, Some(line.seq), "swapped with {}", other.seq);
            let renumbered = AuditRecord {
                seq: line.seq,
                ..other.clone()
            };
            let found = log.broken_by(|txn| AUDIT.put(txn, line.seq, &renumbered).unwrap());
            assert_eq!(found, Some(line.seq), "replaced by {}", other.seq);
        }
        // the end is cut off
        let found = log.broken_by(|txn| {
            for seq in line.seq..=last {
                AUDIT.remove(txn, seq).unwrap();
            }
        });
        assert_eq!(found, Some(line.seq), "cut");
    }
    let one_more = AuditRecord {
        seq: last + 1,
        previous: log.lines.last().unwrap().hash,
        ..log.lines[0].clone()
    };
    let one_more = AuditRecord {
        hash: crate::audit::hash_of(&one_more),
        ..one_more
    };
    let found = log.broken_by(|txn| AUDIT.put(txn, last + 1, &one_more).unwrap());
    assert_eq!(found, Some(last + 1), "added");
}

#[test]
fn damaged_ends_are_found() {
    let log = Log::of(few_lines());
    let last = log.lines.len() as u64;
    for end in [HEAD, ANCHOR] {
        let found = log.broken_by(|txn| {
            let mut table = txn.open_table(AUDIT_END.definition()).unwrap();
            table.insert(end, &b"damaged"[..]).unwrap();
        });
        assert!(found.is_some(), "{end}");
    }
    let found = log.broken_by(|txn| assert!(AUDIT_END.remove(txn, HEAD).unwrap()));
    assert_eq!(found, Some(last));
}

// --- the oldest go

#[test]
fn a_log_without_its_oldest_lines_still_verifies_and_says_so() {
    let home = Home::new();
    let options = StoreOptions {
        keep_audit: Duration::from_secs(86_400),
        ..home.options()
    };
    let store = open_quick(options.clone());
    for n in 0..10 {
        create(&store, &format!("d{n}"), &format!("10.0.1.{n}"));
    }
    let day_after = NOW.plus(Duration::from_secs(90_000));
    until("the old lines to go", || {
        // a change or a report: either says what time it is
        let line = note("session.create", "session:s1");
        block_on(store.note_audit(by(), line, day_after)).unwrap();
        (audit_lines(&store)[0].at == day_after).then_some(())
    });
    let verdict = store.verify_audit().unwrap();
    assert_eq!(verdict.broken, None);
    assert_eq!(verdict.first, 11);
    assert_eq!(verdict.lines, verdict.head - 10);
    store.close().unwrap();

    // without the anchor, or with lines taken by hand, it does not
    let db = Database::open(&options.path).unwrap();
    let txn = begin_write(&db).unwrap();
    AUDIT.remove(&txn, 11).unwrap();
    txn.commit().unwrap();
    drop(db);
    let store = home.open();
    assert_eq!(store.verify_audit().unwrap().broken.unwrap().seq, 11);
    let error = store.audit(&AuditAsk::newest(usize::MAX)).unwrap_err();
    assert!(error.to_string().contains("line 11"), "{error}");
    create(&store, "later", "10.0.2.1");
    let newest = store.audit(&AuditAsk::newest(1)).unwrap();
    assert_eq!(newest[0].object, "device:later", "the rest is readable");
}

#[test]
fn a_log_keeps_to_its_limit_and_stays_a_chain() {
    let home = Home::new();
    let store = home.open();
    for n in 0..10 {
        create(&store, &format!("d{n}"), &format!("10.0.1.{n}"));
    }
    let work = |change: &mut crate::book::Change<'_>| {
        crate::audit::append(change, by(), NOW, crate::audit::Line::on("a.b", "c:d"))?;
        settle(change, AuditMark::START, 4).map(Ok)
    };
    block_on(store.write(work)).unwrap();
    let verdict = store.verify_audit().unwrap();
    assert_eq!((verdict.first, verdict.lines, verdict.head), (8, 4, 11));
    assert_eq!(verdict.broken, None);
}

#[test]
fn a_damaged_line_at_the_front_does_not_stop_the_daemon() {
    let home = Home::new();
    let store = home.open();
    create(&store, "a", "10.0.0.1");
    create(&store, "b", "10.0.0.2");
    store.close().unwrap();
    let db = Database::open(home.path()).unwrap();
    let txn = begin_write(&db).unwrap();
    txn.open_table(AUDIT.definition())
        .unwrap()
        .insert(1, &b"damaged"[..])
        .unwrap();
    txn.commit().unwrap();
    drop(db);
    let store = open_quick(StoreOptions {
        keep_audit: Duration::from_secs(1),
        ..home.options()
    });
    let mut at = NOW.plus(Duration::from_secs(1_000_000));
    for _ in 0..50 {
        at = at.plus(Duration::from_secs(1));
        send(&store, report(icmp(1), at, &["x"], &[1.0]));
        block_on(store.heartbeat()).unwrap();
    }
    assert_eq!(store.fault(), None);
    assert_eq!(store.verify_audit().unwrap().broken.unwrap().seq, 1);
}

// --- questions

#[test]
fn lines_are_found_by_what_they_say() {
    let home = Home::new();
    let store = home.open();
    let acme = TenantName("acme".into());
    let jane = model::By {
        actor: model::Actor::Certificate(UserName("jane".into())),
        origin: "10.0.0.9".into(),
        request: Some("REQ-7".into()),
    };
    let at = |seconds| NOW.plus(Duration::from_secs(seconds));
    let drafts = [
        (by(), note("device.create", "device:core1"), at(1)),
        (
            &jane,
            AuditDraft {
                tenant: Some(acme.clone()),
                after: Some("{\"site\":\"Köln\"}".into()),
                ..note("device.delete", "device:acme/core1")
            },
            at(2),
        ),
        (
            &jane,
            AuditDraft {
                outcome: AuditOutcome::Denied("needs users:write".into()),
                ..note("access.denied", "user:joe")
            },
            at(3),
        ),
        (by(), note("device.create", "device:core10"), at(4)),
    ];
    for (by, draft, at) in drafts {
        block_on(store.note_audit(by, draft, at)).unwrap();
    }
    let found = |ask: &AuditAsk| -> Vec<u64> {
        store
            .audit(ask)
            .unwrap()
            .iter()
            .map(|line| line.seq)
            .collect()
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(found(&ask()), [4, 3, 2, 1]);
    type Question<'q> = &'q dyn Fn(&mut AuditAsk);
    let tests: [(Question<'_>, &[u64]); 12] = [
        (&|ask| ask.actor = some("certificate:jane"), &[3, 2]),
        (&|ask| ask.actor = some("certificate:*"), &[3, 2]),
        (&|ask| ask.action = some("device.create"), &[4, 1]),
        (&|ask| ask.action = some("device.*"), &[4, 2, 1]),
        (&|ask| ask.action = some("device"), &[]),
        (&|ask| ask.object = some("device:core1"), &[1]),
        (&|ask| ask.object = some("device:core1*"), &[4, 1]),
        (&|ask| ask.tenants = Some(vec![acme.clone()]), &[2]),
        (&|ask| ask.tenants = Some(Vec::new()), &[]),
        (&|ask| ask.outcome = Some(OutcomeIs::Denied), &[3]),
        (
            &|ask| (ask.from, ask.to) = (Some(at(2)), Some(at(4))),
            &[3, 2],
        ),
        (&|ask| (ask.before, ask.limit) = (Some(3), 1), &[2]),
    ];
    for (place, (wanted, lines)) in tests.iter().enumerate() {
        let mut ask = ask();
        wanted(&mut ask);
        assert_eq!(found(&ask), *lines, "question {place}");
    }
    for (text, lines) in [
        ("KÖLN", vec![2]),
        ("req-7", vec![3, 2]),
        ("users:WRITE", vec![3]),
        ("10.0.0.9", vec![3, 2]),
        ("acme", vec![2]),
        ("nothing like it", vec![]),
    ] {
        assert_eq!(
            found(&AuditAsk {
                text: some(text),
                ..ask()
            }),
            lines,
            "{text}"
        );
    }
}

// --- lines that nobody waits for

#[test]
fn a_line_that_nobody_waits_for_is_written_with_the_next_commit() {
    let home = Home::new();
    let store = home.open();
    store.try_note_audit(by(), note("session.create", "session:s1"), NOW);
    until("the line", || (store.audit_head().0 == 1).then_some(()));
    store.try_note_audit(by(), note("session.end", "session:s1"), NOW);
    store.close().unwrap();
    let store = home.open();
    let actions: Vec<String> = audit_lines(&store).into_iter().map(|l| l.action).collect();
    assert_eq!(actions, ["session.create", "session.end"]);
}

#[test]
fn lines_beyond_the_limit_are_dropped_and_counted() {
    let home = Home::new();
    let store = home.open();
    let stall = store.stall();
    until("the writer to be busy", || {
        (store.shared.room_for_jobs.available_permits() < crate::queue::QUEUE_JOBS).then_some(())
    });
    // as many can be with the writer already
    let count = 2 * crate::queue::QUEUE_NOTES + 7;
    for n in 0..count {
        store.try_note_audit(by(), note("a.b", &format!("c:{n}")), NOW);
    }
    drop(stall);
    block_on(store.heartbeat()).unwrap();
    until("the lines", || {
        let all = store.audit_head().0 + store.stats().audit_dropped;
        (all == count as u64).then_some(())
    });
    assert!(store.stats().audit_dropped >= 7);
    assert_eq!(store.verify_audit().unwrap().broken, None);
}

#[test]
fn lines_wait_while_the_disk_fails_and_are_written_once() {
    let home = Home::new();
    let disk = SimDisk::with_empty_store();
    let store = Store::open_on(home.options(), disk.parts(), QUICK, NOW).unwrap();
    disk.fail_with(Some(ErrorKind::StorageFull));
    for n in 0..20 {
        store.try_note_audit(by(), note("a.b", &format!("c:{n}")), NOW);
    }
    let trouble = || matches!(store.stats().health, crate::StoreHealth::NotWriting { .. });
    until("the trouble", || trouble().then_some(()));
    disk.fail_with(None);
    until("the lines", || (store.audit_head().0 == 20).then_some(()));
    assert_eq!(store.stats().audit_dropped, 0);
}

#[test]
fn a_write_that_fails_at_any_place_writes_each_line_once() {
    for writes in 1..40 {
        let home = Home::new();
        let disk = SimDisk::with_empty_store();
        let store = Store::open_on(home.options(), disk.parts(), QUICK, NOW).unwrap();
        disk.fail_once_in(writes);
        for n in 0..6 {
            store.try_note_audit(by(), note("a.b", &format!("c:{n}")), NOW);
            let jane = User {
                full_name: Some(n.to_string()),
                ..user(&format!("u{n}"), Role::Admin)
            };
            block_on(store.create_user(by(), jane, NOW)).unwrap();
        }
        until("all lines", || (store.audit_head().0 >= 12).then_some(()));
        let lines = audit_lines(&store);
        let count = |start: &str| lines.iter().filter(|l| l.object.starts_with(start)).count();
        assert_eq!((count("c:"), count("user:u")), (6, 6), "write {writes}");
        assert_eq!(store.people().users().count(), 6);
        assert_eq!(store.verify_audit().unwrap().broken, None, "write {writes}");
        store.close().unwrap();
        let store = Store::open_on(home.options(), disk.parts(), QUICK, NOW).unwrap();
        assert_eq!(store.verify_audit().unwrap().lines, 12, "write {writes}");
    }
}

#[test]
fn polls_are_not_written_down() {
    let home = Home::new();
    let store = home.open();
    for row in 1..20 {
        send(
            &store,
            report(icmp(1), Timestamp(row * 1_000), &["x"], &[1.0]),
        );
    }
    let judgement = crate::Judgement {
        alerts: vec![alert(1, model::AlertState::Firing)],
        gone: Vec::new(),
        deliveries: vec![delivery(1)],
    };
    block_on(store.judge(judgement)).unwrap();
    assert_eq!(store.audit_head().0, 0);
}

// --- what is denied

fn denial(object: &str, why: &str) -> AuditDraft {
    AuditDraft {
        outcome: AuditOutcome::Denied(why.to_owned()),
        ..note("access.denied", object)
    }
}

fn at_origin(origin: &str) -> model::By {
    model::By {
        actor: model::Actor::Anonymous,
        origin: origin.to_owned(),
        request: None,
    }
}

#[test]
fn no_part_of_a_line_is_longer_than_its_bound() {
    let home = Home::new();
    let store = home.open();
    let long = "ü\"\u{1}".repeat(20_000);
    let by = model::By {
        actor: model::Actor::Token(TokenId("t1".into()), long.clone()),
        origin: long.clone(),
        request: Some(long.clone()),
    };
    let draft = AuditDraft {
        action: long.clone(),
        after: Some(serde_json::json!({ "path": long }).to_string()),
        ..denial(&long, &long)
    };
    block_on(store.note_audit(&by, draft.clone(), NOW)).unwrap();
    store.try_note_audit(&by, draft, NOW);
    let rule = model::Rule {
        note: Some("n".repeat(40_000)),
        ..super::life::rule("down", model::RuleSource::Api)
    };
    block_on(store.put_rule(&by, rule, None, NOW)).unwrap();
    let lines = audit_lines(&store);
    assert_eq!(lines.len(), 3);
    for line in &lines {
        let of = |text: &str| (text.chars().count(), text.ends_with('…'));
        assert_eq!(of(&line.actor), (256, true));
        assert_eq!(of(&line.origin), (256, true));
        assert_eq!(of(line.request.as_ref().unwrap()), (256, true));
        if let AuditOutcome::Denied(why) = &line.outcome {
            assert_eq!(of(why), (1_024, true));
            assert_eq!(of(&line.object), (512, true));
            assert_eq!(of(&line.action), (128, true));
        }
        let after = line.after.as_ref().unwrap();
        assert!(after.len() <= 16 * 1024, "{}", after.len());
        let after: serde_json::Value = serde_json::from_str(after).unwrap();
        assert_eq!(after["cut"], true);
        assert!(after["bytes"].as_u64().unwrap() > 40_000);
        assert!(after["begins"].as_str().unwrap().starts_with('{'));
    }
    assert_eq!(store.verify_audit().unwrap().broken, None);
}

#[test]
fn what_fits_is_not_cut() {
    let home = Home::new();
    let store = home.open();
    let object = "x".repeat(512);
    let after = serde_json::json!({ "path": "y".repeat(16_000) }).to_string();
    let draft = AuditDraft {
        after: Some(after.clone()),
        ..note("a.b", &object)
    };
    block_on(store.note_audit(by(), draft, NOW)).unwrap();
    let lines = audit_lines(&store);
    assert_eq!((&lines[0].object, &lines[0].after), (&object, &Some(after)));
}

#[test]
fn the_same_denial_is_one_line_a_minute_with_a_count() {
    let home = Home::new();
    let store = home.open();
    let at = |seconds| NOW.plus(Duration::from_secs(seconds));
    let deny = |origin: &str, object: &str, seconds| {
        let draft = AuditDraft {
            after: Some(format!("{{\"path\":\"/p{seconds}\"}}")),
            ..denial(object, "no permission")
        };
        store.try_note_audit(&at_origin(origin), draft, at(seconds));
    };
    for n in 0..50 {
        deny(&format!("10.0.0.9:{}", 1_000 + n), "request:a", n);
    }
    deny("10.0.0.8:1000", "request:a", 50);
    deny("10.0.0.9:1000", "request:b", 51);
    // it was done, each time
    for _ in 0..2 {
        store.try_note_audit(by(), note("session.create", "session:s1"), at(52));
    }
    block_on(store.heartbeat()).unwrap();
    let said = || -> Vec<(String, String, Option<u64>)> {
        let lines = audit_lines(&store).into_iter();
        let said = lines.map(|line| {
            let after = line.after.unwrap_or("null".to_owned());
            let after: serde_json::Value = serde_json::from_str(&after).unwrap();
            (line.origin, line.object, after["count"].as_u64())
        });
        said.collect()
    };
    let line = |origin: &str, object: &str, count| (origin.to_owned(), object.to_owned(), count);
    let mut expected = vec![
        line("10.0.0.9:1000", "request:a", None),
        line("10.0.0.8:1000", "request:a", None),
        line("10.0.0.9:1000", "request:b", None),
        line("socket", "session:s1", None),
        line("socket", "session:s1", None),
    ];
    assert_eq!(said(), expected);
    // the next minute: what came again, and the first one of that minute
    deny("10.0.0.9:7", "request:a", 60);
    block_on(store.heartbeat()).unwrap();
    expected.push(line("10.0.0.9:1049", "request:a", Some(49)));
    expected.push(line("10.0.0.9:7", "request:a", None));
    assert_eq!(said(), expected);
    let told = &audit_lines(&store)[5];
    assert!(told.after.as_ref().unwrap().contains("/p49"), "{told:?}");
    assert_eq!(told.at, at(49));
    // nothing more comes: it is told once the minute is over
    deny("10.0.0.9:8", "request:a", 61);
    send(&store, report(icmp(1), at(200), &["x"], &[1.0]));
    until("what came again", || {
        block_on(store.heartbeat()).unwrap();
        (said().len() == 8).then_some(())
    });
    expected.push(line("10.0.0.9:8", "request:a", Some(1)));
    assert_eq!(said(), expected);
    // or at the end
    deny("10.0.0.9:9", "request:a", 201);
    deny("10.0.0.9:9", "request:a", 202);
    store.close().unwrap();
    let store = home.open();
    let lines = audit_lines(&store);
    assert_eq!(lines.len(), 10);
    assert!(lines[9].after.as_ref().unwrap().contains("\"count\":1"));
    assert_eq!(store.verify_audit().unwrap().broken, None);
}

#[test]
fn many_different_denials_take_no_more_memory_than_some() {
    let mut denials = crate::audit::Denials::default();
    let mut written = 0;
    for round in 0..2 {
        for n in 0..3_000 {
            let note = crate::audit::Note {
                by: at_origin("10.0.0.9"),
                line: denial(&format!("request:{n}"), "no").into(),
                at: NOW.plus(Duration::from_millis(round * 3_000 + n)),
            };
            written += denials.take(note).len();
        }
    }
    // those that are watched are counted, all others written
    assert_eq!(written, 6_000 - 1_024);
    assert_eq!(denials.over(NOW.plus(Duration::from_secs(60))).len(), 1);
    assert_eq!(denials.all().len(), 1_023);
    assert!(denials.all().is_empty());
}

#[test]
fn denied_lines_take_at_most_their_share_and_the_others_are_counted() {
    let home = Home::new();
    let store = home.open();
    let at = |minutes| NOW.plus(Duration::from_secs(60 * minutes));
    let set = |lines: u64| {
        let work = move |change: &mut crate::book::Change<'_>| {
            change.book.denied.lines = lines;
            Ok(Ok(()))
        };
        block_on(store.write(work)).unwrap();
    };
    let deny = |store: &Store, n: u64| {
        let draft = denial(&format!("request:{n}"), "no");
        block_on(store.note_audit(by(), draft, at(n))).unwrap()
    };
    assert_eq!(deny(&store, 0), 1);
    assert_eq!(store.shared.book().denied.lines, 1);
    set(crate::MAX_DENIED - 1);
    assert_eq!(deny(&store, 1), 2);
    for n in 2..=62 {
        deny(&store, n);
    }
    create(&store, "a", "10.0.0.1");
    let said = |store: &Store| -> Vec<String> {
        let lines = audit_lines(store).into_iter();
        lines
            .map(|line| format!("{} {}", line.action, line.after.unwrap_or_default()))
            .collect()
    };
    let lines = said(&store);
    let dropped = |n| format!("audit.dropped {{\"dropped\":{n},\"kept\":1000000}}");
    assert_eq!(lines[..2], ["access.denied ", "access.denied "]);
    assert_eq!(lines[2..4], [dropped(1), dropped(60)], "once an hour");
    assert!(lines[4].starts_with("device.create"), "{lines:?}");
    assert_eq!(lines.len(), 5);
    deny(&store, 63);
    store.close().unwrap();
    // nothing is forgotten over a restart
    let store = home.open();
    let denied = store.shared.book().denied;
    assert_eq!((denied.lines, denied.dropped), (crate::MAX_DENIED, 1));
    deny(&store, 200);
    assert_eq!(said(&store)[5..], [dropped(2)]);
    // where old ones go, there is room again
    let work = |change: &mut crate::book::Change<'_>| settle(change, AuditMark::START, 5).map(Ok);
    block_on(store.write(work)).unwrap();
    assert_eq!(store.shared.book().denied.lines, crate::MAX_DENIED - 1);
    deny(&store, 201);
    assert_eq!(said(&store).last().unwrap(), "access.denied ");
    assert_eq!(store.verify_audit().unwrap().broken, None);
}

#[test]
fn a_search_stops_after_so_many_lines_and_says_where_to_go_on() {
    let home = Home::new();
    let store = home.open();
    for n in 1..=10 {
        let object = if n == 2 { "c:wanted" } else { "c:other" };
        block_on(store.note_audit(by(), note("a.b", object), NOW)).unwrap();
    }
    let ask = |before| AuditAsk {
        object: Some("c:wanted".to_owned()),
        before,
        ..AuditAsk::newest(5)
    };
    let look = |before, most| {
        let page = store.read(|txn| crate::audit::find(txn, &ask(before), most));
        let page = page.unwrap();
        let found: Vec<u64> = page.lines.iter().map(|line| line.seq).collect();
        (found, page.looked_to)
    };
    assert_eq!(look(None, 4), (vec![], Some(7)));
    assert_eq!(look(Some(7), 4), (vec![], Some(3)));
    assert_eq!(look(Some(3), 4), (vec![2], None));
    assert_eq!(look(None, 8), (vec![], Some(3)));
    assert_eq!(look(None, 9), (vec![2], Some(2)));
    assert_eq!(look(Some(2), 9), (vec![], None));
    assert_eq!(look(Some(1), 9), (vec![], None));
    // where it is full it says so as well
    let page = store.audit_page(&AuditAsk::newest(3)).unwrap();
    assert_eq!((page.lines.len(), page.looked_to), (3, Some(8)));
    let page = store.audit_page(&AuditAsk::newest(10)).unwrap();
    assert_eq!((page.lines.len(), page.looked_to), (10, None));
    assert_eq!(
        store.audit_page(&ask(None)).unwrap().lines,
        store.audit(&ask(None)).unwrap()
    );
}
