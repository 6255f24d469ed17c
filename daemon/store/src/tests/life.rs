//! Devices, credentials, rules, alerts and deliveries through their lives, and
//! over restarts.

use std::collections::BTreeSet;
use std::time::Duration;

use model::{
    Address, AlertId, AlertState, Condition, CredentialName, CredentialRecord, Delivery,
    DeliveryState, DeviceDraft, DeviceId, DownAfter, Facts, OutboxId, Rule, RuleName, RuleSource,
    SecretName, SecretRecord, Selector, Severity, Timestamp,
};

use super::support::*;
use crate::{AlertsAsk, Judgement, OpenError, OutboxAsk, Refusal, Store, StoreHealth, WriteError};

fn name(text: &str) -> CredentialName {
    CredentialName(text.to_owned())
}

fn with_parents(name: &str, address: &str, parents: &[u64]) -> DeviceDraft {
    DeviceDraft {
        parents: parents.iter().map(|id| DeviceId(*id)).collect(),
        ..draft(name, address)
    }
}

#[test]
fn a_device_keeps_its_number_and_counts_its_changes_over_restarts() {
    let home = Home::new();
    let store = home.open();
    let device = create(&store, "core1", "10.0.0.1");
    assert_eq!((device.id, device.revision), (DeviceId(1), 1));
    let later = NOW.plus(Duration::from_secs(5));
    let renamed = draft("core-1", "10.0.0.1");
    let replaced =
        block_on(store.replace_device(by(), device.id, renamed, Some(1), later)).unwrap();
    assert_eq!(
        (replaced.created, replaced.updated, replaced.revision),
        (NOW, later, 2)
    );
    store.close().unwrap();

    let store = home.open();
    let inventory = store.inventory();
    assert_eq!(inventory.by_name(&ours(), "core-1"), Some(&replaced));
    assert_eq!(inventory.by_name(&ours(), "core1"), None);
    assert_eq!(create(&store, "core2", "10.0.0.2").id, DeviceId(2));
}

#[test]
fn names_and_addresses_of_live_devices_are_unique() {
    let home = Home::new();
    let store = home.open();
    create(&store, "a", "10.0.0.1");
    let again = |name: &str, address: &str| {
        refused(block_on(store.create_device(
            by(),
            draft(name, address),
            None,
            NOW,
        )))
    };
    let first = DeviceId(1);
    let taken = Refusal::NameTaken {
        name: "a".into(),
        by: first,
    };
    assert_eq!(again("a", "10.0.0.2"), taken);
    let text = again("b", "10.0.0.1").to_string();
    assert_eq!(
        text,
        "the address 10.0.0.1 is taken by device 1 (a); change or delete that one first"
    );

    block_on(store.delete_device(by(), first, None, NOW)).unwrap();
    let second = create(&store, "a", "10.0.0.1");
    let restored = block_on(store.restore_device(by(), first, NOW));
    assert_eq!(
        refused(restored),
        Refusal::NameTaken {
            name: "a".into(),
            by: second.id
        }
    );
    block_on(store.delete_device(by(), second.id, Some(1), NOW)).unwrap();
    let back = block_on(store.restore_device(by(), first, NOW)).unwrap();
    assert_eq!((back.deleted, back.revision), (None, 3));
    assert_eq!(store.inventory().len(), 1);
    assert_eq!(store.inventory().all().count(), 2);
}

#[test]
fn a_deleted_device_is_neither_changed_nor_deleted_again() {
    let home = Home::new();
    let store = home.open();
    let id = create(&store, "a", "10.0.0.1").id;
    assert_eq!(
        refused(block_on(store.restore_device(by(), id, NOW))),
        Refusal::NotDeleted { id }
    );
    block_on(store.delete_device(by(), id, None, NOW)).unwrap();
    let gone = Refusal::Deleted { id };
    assert_eq!(
        refused(block_on(store.delete_device(by(), id, None, NOW))),
        gone
    );
    let replaced = store.replace_device(by(), id, draft("b", "10.0.0.2"), None, NOW);
    assert_eq!(refused(block_on(replaced)), gone);
    let id = DeviceId(9);
    assert_eq!(
        refused(block_on(store.delete_device(by(), id, None, NOW))),
        Refusal::NoSuchDevice { id }
    );
}

#[test]
fn a_change_on_an_old_revision_is_refused() {
    let home = Home::new();
    let store = home.open();
    let id = create(&store, "a", "10.0.0.1").id;
    let change = |expected| store.replace_device(by(), id, draft("a", "10.0.0.1"), expected, NOW);
    block_on(change(Some(1))).unwrap();
    assert_eq!(
        refused(block_on(change(Some(1)))),
        Refusal::RevisionMismatch {
            expected: 1,
            found: 2
        }
    );
    block_on(change(None)).unwrap();
}

#[test]
fn a_device_is_never_reached_through_itself() {
    let home = Home::new();
    let store = home.open();
    create(&store, "a", "10.0.0.1");
    let new = |draft| block_on(store.create_device(by(), draft, None, NOW));
    new(with_parents("b", "10.0.0.2", &[1])).unwrap();
    new(with_parents("c", "10.0.0.3", &[2])).unwrap();
    let circle = store.replace_device(
        by(),
        DeviceId(1),
        with_parents("a", "10.0.0.1", &[3]),
        None,
        NOW,
    );
    assert_eq!(
        refused(block_on(circle)),
        Refusal::ParentCycle { id: DeviceId(3) }
    );
    let itself = store.replace_device(
        by(),
        DeviceId(1),
        with_parents("a", "10.0.0.1", &[1]),
        None,
        NOW,
    );
    assert_eq!(
        refused(block_on(itself)),
        Refusal::ParentCycle { id: DeviceId(1) }
    );
    let nobody = new(with_parents("d", "10.0.0.4", &[77]));
    assert_eq!(refused(nobody), Refusal::NoSuchParent { id: DeviceId(77) });
    let children: Vec<DeviceId> = store.inventory().children(DeviceId(1)).collect();
    assert_eq!(children, [DeviceId(2)]);
}

#[test]
fn a_deleted_parent_does_not_keep_its_child_from_changing() {
    let home = Home::new();
    let store = home.open();
    create(&store, "a", "10.0.0.1");
    let child = with_parents("b", "10.0.0.2", &[1]);
    block_on(store.create_device(by(), child.clone(), None, NOW)).unwrap();
    block_on(store.delete_device(by(), DeviceId(1), None, NOW)).unwrap();
    let renamed = DeviceDraft {
        name: "b2".into(),
        ..child
    };
    block_on(store.replace_device(by(), DeviceId(2), renamed, None, NOW)).unwrap();
    let new = block_on(store.create_device(by(), with_parents("c", "10.0.0.3", &[1]), None, NOW));
    assert_eq!(refused(new), Refusal::NoSuchParent { id: DeviceId(1) });
}

#[test]
fn of_many_devices_the_good_ones_are_entered_and_the_others_named() {
    let home = Home::new();
    let store = home.open();
    let drafts = vec![
        draft("a", "10.0.0.1"),
        draft("a", "10.0.0.2"),
        draft("b", "10.0.0.1"),
        draft("c", "c.example.net"),
    ];
    let entered = block_on(store.create_devices(by(), drafts, NOW)).unwrap();
    let good: Vec<bool> = entered.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, false, false, true]);
    let address: Address = "c.example.net".parse().unwrap();
    assert_eq!(
        store
            .inventory()
            .by_address(&ours(), &address)
            .unwrap()
            .name,
        "c"
    );
    assert_eq!(store.stats().commits, 1);
}

#[test]
fn a_device_and_its_credential_come_together_or_not_at_all() {
    let home = Home::new();
    let store = home.open();
    let with = |name_: &str, address: &str, credential: &str| DeviceDraft {
        credential: Some(name(credential)),
        ..draft(name_, address)
    };
    let none = block_on(store.create_device(by(), with("a", "10.0.0.1", "lab"), None, NOW));
    assert_eq!(
        refused(none),
        Refusal::NoSuchCredential { name: name("lab") }
    );
    let lab = |value: &str| {
        let (record, secret) = credential("lab", value);
        Some((record, Some(secret)))
    };
    let bring = |draft, brought| block_on(store.create_device(by(), draft, brought, NOW));
    bring(with("a", "10.0.0.1", "lab"), lab("one")).unwrap();
    refused(bring(with("a", "10.0.0.9", "lab"), lab("one")));
    let other = refused(bring(with("b", "10.0.0.2", "lab"), lab("two")));
    assert!(matches!(other, Refusal::CredentialInUse { .. }), "{other}");
    let (record, _) = lab("one").unwrap();
    bring(with("b", "10.0.0.2", "lab"), Some((record.clone(), None))).unwrap();
    let (kept, users) = store.credentials().remove(0);
    assert_eq!((&kept.name, kept.revision, users), (&name("lab"), 1, 2));
    let sealed = store.secret(&record.secret).unwrap().versions[0]
        .sealed
        .clone();
    assert_eq!(opened(&sealed.unwrap()).as_deref(), Some("one"));

    let delete = || block_on(store.delete_credential(by(), &name("lab"), Some(1), NOW));
    let used = refused(delete());
    assert!(used.to_string().contains("is used by a, b"), "{used}");
    for id in [1, 2] {
        block_on(store.delete_device(by(), DeviceId(id), None, NOW)).unwrap();
    }
    delete().unwrap();
    assert_eq!(
        store.secret(&record.secret),
        None,
        "it went with its credential"
    );
    let restored = block_on(store.restore_device(by(), DeviceId(1), NOW));
    assert_eq!(
        refused(restored),
        Refusal::NoSuchCredential { name: name("lab") }
    );
    store.close().unwrap();
    assert_eq!(home.open().credential(&name("lab")), None);
}

#[test]
fn a_credential_that_comes_with_a_new_device_changes_none_that_is_there() {
    let home = Home::new();
    let store = home.open();
    let with = |device: &str, address: &str, credential: &str| DeviceDraft {
        credential: Some(name(credential)),
        ..draft(device, address)
    };
    let (spare, value) = credential("spare", "one");
    let put = store.put_credential(by(), spare.clone(), Some(value), None, NOW);
    block_on(put).unwrap();
    let own = secret("credential.lab", &["ours"]);
    block_on(store.put_secret(by(), own, None, NOW)).unwrap();
    let head = store.audit_head();

    // no device uses it now, but one that is restored may
    let seen = store.secret(&spare.secret).unwrap();
    let mut next = SecretRecord::clone(&seen);
    next.versions
        .extend(secret("x", &["0", "evil"]).versions.pop());
    let bring = |device, brought| block_on(store.create_device(by(), device, brought, NOW));
    let brought = Some((spare.clone(), Some(next)));
    let refusal = refused(bring(with("a", "10.0.0.1", "spare"), brought));
    let is = |refusal: &Refusal, thing: &str| {
        let told = matches!(refusal, Refusal::NameExists { what, .. } if *what == thing);
        assert!(told, "{refusal}");
    };
    is(&refusal, "credential");
    let pointed = CredentialRecord {
        secret: SecretName("credential.lab".into()),
        ..spare.clone()
    };
    let refusal = refused(bring(with("a", "10.0.0.1", "spare"), Some((pointed, None))));
    is(&refusal, "credential");

    // nor an ordinary secret that others refer to
    let (lab, mut value) = credential("lab", "evil");
    for revision in [0, 1] {
        value.revision = revision;
        let brought = Some((lab.clone(), Some(value.clone())));
        let refusal = refused(bring(with("a", "10.0.0.1", "lab"), brought));
        is(&refusal, "secret");
    }
    assert_eq!(store.secret(&spare.secret), Some(seen));
    assert_eq!(store.credential(&spare.name).unwrap().revision, 1);
    assert_eq!(store.audit_head(), head);
    assert!(store.inventory().is_empty());
    bring(with("a", "10.0.0.1", "spare"), Some((spare, None))).unwrap();
}

#[test]
fn a_refusal_that_names_devices_says_which() {
    let home = Home::new();
    let store = home.open();
    let (lab, value) = credential("lab", "one");
    block_on(store.put_credential(by(), lab, Some(value), None, NOW)).unwrap();
    create(&store, "other", "10.0.0.9");
    for (device, address) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        let device = DeviceDraft {
            credential: Some(name("lab")),
            ..draft(device, address)
        };
        block_on(store.create_device(by(), device, None, NOW)).unwrap();
    }
    let refusal = refused(block_on(store.delete_credential(
        by(),
        &name("lab"),
        None,
        NOW,
    )));
    let Refusal::CredentialInUse { devices, ids, .. } = refusal else {
        panic!("{refusal}");
    };
    assert_eq!(devices, ["a", "b"]);
    assert_eq!(ids, [DeviceId(2), DeviceId(3)]);
}

pub(super) fn rule(name: &str, source: RuleSource) -> Rule {
    Rule {
        name: RuleName(name.into()),
        severity: Severity::Critical,
        enabled: true,
        selector: Selector::default(),
        condition: Condition::Availability {
            check: model::Check::Icmp,
            after: DownAfter::Rounds(3),
        },
        note: None,
        source,
        updated: Timestamp(0),
        revision: 0,
    }
}

#[test]
fn a_rule_of_a_file_wins_and_is_changed_in_its_file() {
    let home = Home::new();
    let store = home.open();
    let put = |name: &str, expected| {
        block_on(store.put_rule(by(), rule(name, RuleSource::Api), expected, NOW))
    };
    let kept = put("a", None).unwrap();
    assert_eq!((kept.revision, kept.updated), (1, NOW));
    assert_eq!(put("a", Some(1)).unwrap().revision, 2);
    assert!(matches!(
        refused(put("a", Some(1))),
        Refusal::RevisionMismatch { .. }
    ));
    assert!(matches!(
        refused(put("z", Some(1))),
        Refusal::NoSuchRule { .. }
    ));

    let mut changed = store.changed();
    changed.mark_unchanged();
    let file = RuleSource::File("/etc/sotp/rules/b.toml".into());
    store.set_file_rules(vec![rule("b", file.clone()), rule("a", file.clone())]);
    assert!(changed.has_changed().unwrap());
    let sources: Vec<RuleSource> = store.rules().iter().map(|r| r.source.clone()).collect();
    assert_eq!(sources, [file.clone(), file]);
    let text = refused(put("b", None)).to_string();
    assert!(text.contains("/etc/sotp/rules/b.toml"), "{text}");
    let gone = refused(block_on(store.delete_rule(
        by(),
        &RuleName("b".into()),
        None,
        NOW,
    )));
    assert!(matches!(gone, Refusal::RuleFromFile { .. }));
    store.set_file_rules(Vec::new());
    store.close().unwrap();

    let store = home.open();
    assert_eq!(store.rules().len(), 1);
    block_on(store.delete_rule(by(), &RuleName("a".into()), Some(2), NOW)).unwrap();
    assert!(store.rules().is_empty());
}

fn ask(states: &[&str]) -> AlertsAsk {
    AlertsAsk {
        states: states.iter().map(|state| (*state).to_owned()).collect(),
        device: None,
        rule: None,
        severity: None,
        before: None,
        limit: 100,
    }
}

fn ids(store: &Store, ask: &AlertsAsk) -> Vec<u64> {
    store
        .alerts(ask)
        .unwrap()
        .iter()
        .map(|alert| alert.id.0)
        .collect()
}

#[test]
fn alerts_and_what_tells_of_them_are_kept_together_and_numbered_once() {
    let home = Home::new();
    let store = home.open();
    assert_eq!(store.next_alert_id(), 1);
    let judgement = Judgement {
        alerts: (1..=5).map(|id| alert(id, AlertState::Firing)).collect(),
        gone: Vec::new(),
        deliveries: vec![delivery(20), delivery(10)],
    };
    block_on(store.judge(judgement)).unwrap();
    let judgement = Judgement {
        alerts: vec![
            alert(2, AlertState::Resolved),
            alert(4, AlertState::Resolved),
        ],
        gone: vec![AlertId(5)],
        deliveries: Vec::new(),
    };
    block_on(store.judge(judgement)).unwrap();
    store.close().unwrap();

    let store = home.open();
    assert_eq!(store.next_alert_id(), 6);
    let open: Vec<u64> = store.open_alerts().iter().map(|alert| alert.id.0).collect();
    assert_eq!(open, [1, 3]);
    assert_eq!(ids(&store, &ask(&[])), [4, 3, 2, 1]);
    assert_eq!(ids(&store, &ask(&["resolved"])), [4, 2]);
    assert_eq!(ids(&store, &ask(&["firing", "pending"])), [3, 1]);
    let before = Some(AlertId(4));
    assert_eq!(
        ids(
            &store,
            &AlertsAsk {
                before,
                limit: 2,
                ..ask(&[])
            }
        ),
        [3, 2]
    );
    let device = Some(DeviceId(1));
    assert_eq!(ids(&store, &AlertsAsk { device, ..ask(&[]) }), [4, 1]);
    assert_eq!(
        store.alert(AlertId(4)).unwrap().unwrap().state,
        AlertState::Resolved
    );
    assert_eq!(store.alert(AlertId(5)).unwrap(), None);

    let due: Vec<u64> = store
        .outbox_due(Timestamp(15), 10)
        .iter()
        .map(|d| d.id.0)
        .collect();
    assert_eq!(due, [2]);
    assert_eq!(store.outbox_next(), Some(Timestamp(10)));
    let due: Vec<u64> = store
        .outbox_due(Timestamp(25), 10)
        .iter()
        .map(|d| d.id.0)
        .collect();
    assert_eq!(due, [1, 2], "oldest first");
}

#[test]
fn a_delivery_is_queued_parked_tried_again_and_done() {
    let home = Home::new();
    let store = home.open();
    let mut changes = store.outbox_changed();
    let id = block_on(store.enqueue(delivery(10))).unwrap();
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert_eq!(id, OutboxId(1));
    let not_parked = refused(block_on(store.retry_delivery(by(), id, NOW)));
    assert_eq!(not_parked, Refusal::NotParked { id });

    let mut tried = store.delivery(id).unwrap().unwrap();
    tried.state = DeliveryState::Parked;
    tried.last_error = Some("550 no such user".into());
    block_on(store.update_delivery(tried.clone())).unwrap();
    assert!(store.outbox_due(NOW, 10).is_empty());
    assert_eq!(store.stats().parked_outbox, 1);
    store.close().unwrap();

    let store = home.open();
    assert_eq!(store.delivery(id).unwrap(), Some(tried));
    let again = block_on(store.retry_delivery(by(), id, NOW)).unwrap();
    assert_eq!(again.state, DeliveryState::Queued { next: NOW });
    let done = DeliveryState::Delivered { at: NOW };
    block_on(store.update_delivery(Delivery {
        state: done.clone(),
        ..again
    }))
    .unwrap();
    assert_eq!(store.outbox_next(), None);
    block_on(store.enqueue(delivery(10))).unwrap();
    let ask = |states: &[&str]| OutboxAsk {
        states: states.iter().map(|state| (*state).to_owned()).collect(),
        before: None,
        limit: 10,
    };
    let all = store.outbox(&ask(&[])).unwrap();
    assert_eq!(all.iter().map(|d| d.id.0).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(store.outbox(&ask(&["delivered"])).unwrap()[0].state, done);
    let unknown = OutboxId(9);
    let retried = refused(block_on(store.retry_delivery(by(), unknown, NOW)));
    assert_eq!(retried, Refusal::NoSuchDelivery { id: unknown });
}

#[test]
fn what_is_told_and_done_is_forgotten_in_the_end() {
    let home = Home::new();
    let day = Duration::from_secs(86_400);
    let options = crate::StoreOptions {
        keep_alerts: day,
        ..home.options()
    };
    let store = Store::open(options, NOW).unwrap();
    let done = Delivery {
        state: DeliveryState::Delivered { at: NOW },
        ..delivery(1)
    };
    let judgement = Judgement {
        alerts: vec![alert(1, AlertState::Resolved), alert(2, AlertState::Firing)],
        gone: Vec::new(),
        deliveries: vec![done, delivery(1)],
    };
    block_on(store.judge(judgement)).unwrap();
    assert_eq!(ids(&store, &ask(&[])), [2, 1]);
    let mut later = NOW.plus(2 * day);
    until("the old to go", || {
        later = later.plus(Duration::from_secs(1));
        send(&store, report(icmp(1), later, &["x"], &[1.0]));
        let gone = store.delivery(OutboxId(1)).unwrap().is_none();
        (gone && ids(&store, &ask(&[])) == [2]).then_some(())
    });
    assert!(
        store.delivery(OutboxId(2)).unwrap().is_some(),
        "it still waits"
    );
    assert_eq!(store.next_alert_id(), 3);
}

#[test]
fn a_notification_beyond_the_limit_is_parked_and_its_alert_kept() {
    let home = Home::new();
    let store = home.open();
    let judgement = Judgement {
        alerts: vec![alert(1, AlertState::Firing)],
        gone: Vec::new(),
        deliveries: vec![delivery(1); crate::MAX_QUEUED + 1],
    };
    block_on(store.judge(judgement)).unwrap();
    let stats = store.stats();
    assert_eq!(
        (stats.open_outbox, stats.parked_outbox),
        (crate::MAX_QUEUED, 1)
    );
    let last = store
        .delivery(OutboxId(crate::MAX_QUEUED as u64 + 1))
        .unwrap()
        .unwrap();
    assert!(last.last_error.unwrap().contains("were waiting before it"));
}

#[test]
fn neither_a_plugins_backlog_nor_that_of_mail_takes_the_others_room() {
    let home = Home::new();
    let store = home.open();
    let to = |plugin: &str| {
        let mut delivery = delivery(1);
        delivery.channel = model::Channel::Plugin {
            plugin: plugin.to_owned(),
        };
        delivery
    };
    let queue = |deliveries: Vec<Delivery>| {
        let alerts = vec![alert(1, AlertState::Firing)];
        let judgement = Judgement {
            alerts,
            gone: Vec::new(),
            deliveries,
        };
        block_on(store.judge(judgement)).unwrap();
        (store.stats().open_outbox, store.stats().parked_outbox)
    };
    let limit = crate::MAX_QUEUED_PER_PLUGIN;
    assert_eq!(queue(vec![to("slack"); limit + 2]), (limit, 2));
    assert_eq!(queue(vec![to("pager"); 1]), (limit + 1, 2));
    let mails = crate::MAX_QUEUED;
    assert_eq!(queue(vec![delivery(1); mails + 1]), (limit + 1 + mails, 3));
    assert_eq!(queue(vec![to("pager"); 1]), (limit + 2 + mails, 3));
    assert_eq!(queue(vec![to("slack"); 1]), (limit + 2 + mails, 4));

    let waiting = store.outbox_of_plugins();
    assert_eq!((waiting["slack"], waiting["pager"]), (limit, 2));
    let pager = store.outbox_waiting(10, |channel| *channel == to("pager").channel);
    let ids: Vec<u64> = pager.iter().map(|delivery| delivery.id.0).collect();
    let first = limit as u64 + 3;
    assert_eq!(ids, [first, first + 1 + mails as u64 + 1]);
}

#[test]
fn facts_and_addresses_are_kept_and_written_only_when_they_change() {
    let home = Home::new();
    let store = home.open();
    let facts = |name: &str, changed| Facts {
        system: model::SystemFacts {
            name: Some(name.into()),
            ..Default::default()
        },
        changed,
        ..Default::default()
    };
    let send_facts = |at: u64, name: &str| {
        let mut report = report(icmp(1), Timestamp(NOW.0 + at), &["x"], &[1.0]);
        report.facts = Some(facts(name, Timestamp(at)));
        send(&store, report);
        store.facts(DeviceId(1)).unwrap().changed
    };
    assert_eq!(send_facts(10, "core1"), Timestamp(10));
    assert_eq!(send_facts(20, "core1"), Timestamp(10), "nothing changed");
    assert_eq!(send_facts(30, "core-1"), Timestamp(30));
    store.keep_address("core1.example.net", "10.0.0.1".parse().unwrap());
    store.close().unwrap();

    let store = home.open();
    assert_eq!(
        store.facts(DeviceId(1)).as_deref(),
        Some(&facts("core-1", Timestamp(30)))
    );
    assert_eq!(
        store.last_address("core1.example.net"),
        Some("10.0.0.1".parse().unwrap())
    );
    assert_eq!(store.last_address("other"), None);
}

#[test]
fn a_second_instance_is_told_that_the_store_is_in_use() {
    let home = Home::new();
    let store = home.open();
    let error = Store::open(home.options(), NOW).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains("in use by another process"));
    create(&store, "a", "10.0.0.1");
    store.close().unwrap();
    home.open();
}

#[test]
fn a_store_is_only_read_by_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    home.open();
    let mode = std::fs::metadata(home.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let beside: BTreeSet<String> = std::fs::read_dir(home.path().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected = ["sotp.redb", "sotp.samples"].map(str::to_owned);
    assert_eq!(beside, BTreeSet::from(expected));
    let samples = std::fs::metadata(home.options().samples_dir()).unwrap();
    assert_eq!(samples.permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_heartbeat_goes_through_the_disk_and_the_end_is_told() {
    let home = Home::new();
    let store = home.open();
    assert!(block_on(store.heartbeat()).unwrap() > Duration::ZERO);
    assert_eq!(store.stats().commits, 1);
    assert_eq!(store.stats().health, StoreHealth::Ok);
    let other = store.clone();
    store.close().unwrap();
    block_on(other.writer_gone());
    assert!(matches!(
        block_on(other.heartbeat()),
        Err(WriteError::Closed)
    ));
    assert!(other.try_reserve().is_none());
}

#[test]
fn a_heartbeat_does_not_return_while_the_writer_hangs() {
    let home = Home::new();
    let store = home.open();
    let stall = store.stall();
    block_on(async {
        let beat = store.heartbeat();
        tokio::pin!(beat);
        let patience = Duration::from_millis(50);
        assert!(tokio::time::timeout(patience, &mut beat).await.is_err());
        drop(stall);
        assert!(beat.await.is_ok());
    });
}

#[test]
fn what_was_accepted_is_written_before_the_store_closes() {
    let home = Home::new();
    let store = Store::open(
        crate::StoreOptions {
            commit_every: Duration::from_secs(3_600),
            ..home.options()
        },
        NOW,
    )
    .unwrap();
    for at in 1..=5u32 {
        let at_ms = Timestamp(NOW.0 + u64::from(at) * 1000);
        let report = report(icmp(1), at_ms, &["x"], &[f64::from(at)]);
        store.try_reserve().unwrap().send(report);
    }
    assert_eq!(store.stats().queue_len, 5);
    store.close().unwrap();
    assert_eq!(points(&home.open(), 1).len(), 5);
}
