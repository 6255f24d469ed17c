//! Tenants, people, sessions and tokens: what is unique, what is limited, and
//! what happens once.

use std::time::Duration;

use model::{
    Binding, DeviceDraft, DeviceId, OidcSubject, Policy, Role, Scope, SecretName, SessionId,
    TenantName, Timestamp, TokenId, TokenProof, TotpRecord, User, UserName,
};

use super::support::*;
use crate::{
    MAX_SESSIONS, MAX_SESSIONS_PER_USER, ROTATION_GRACE, Refusal, Rotated, Store, StoreOptions,
};

fn acme() -> TenantName {
    TenantName("acme".into())
}

fn name(text: &str) -> UserName {
    UserName(text.to_owned())
}

fn with_acme(devices: Option<u64>) -> (Home, Store) {
    let home = Home::new();
    let store = home.open();
    block_on(store.put_tenant(by(), tenant("acme", devices), Some(0), NOW)).unwrap();
    (home, store)
}

fn of_acme(name: &str, address: &str) -> DeviceDraft {
    DeviceDraft {
        tenant: acme(),
        ..draft(name, address)
    }
}

fn enter(store: &Store, draft: DeviceDraft) -> Result<DeviceId, Refusal> {
    match block_on(store.create_device(by(), draft, None, NOW)) {
        Ok(device) => Ok(device.id),
        other => Err(refused(other)),
    }
}

fn add(store: &Store, user: User) -> std::sync::Arc<User> {
    block_on(store.create_user(by(), user, NOW)).unwrap()
}

// --- tenants

#[test]
fn names_and_addresses_of_devices_are_unique_within_a_tenant() {
    let (home, store) = with_acme(None);
    let ours_id = enter(&store, draft("core1", "10.0.0.1")).unwrap();
    let theirs = enter(&store, of_acme("core1", "10.0.0.1")).unwrap();
    assert!(matches!(
        enter(&store, of_acme("core1", "10.0.0.2")),
        Err(Refusal::NameTaken { by, .. }) if by == theirs
    ));
    assert!(matches!(
        enter(&store, of_acme("core2", "10.0.0.1")),
        Err(Refusal::AddressTaken { by, .. }) if by == theirs
    ));
    store.close().unwrap();
    let inventory = home.open().inventory();
    let found = |tenant: &TenantName| inventory.by_name(tenant, "core1").unwrap().id;
    assert_eq!((found(&ours()), found(&acme())), (ours_id, theirs));
    let address = "10.0.0.1".parse().unwrap();
    assert_eq!(inventory.by_address(&acme(), &address).unwrap().id, theirs);
    let named: Vec<DeviceId> = inventory.named("core1").iter().map(|d| d.id).collect();
    assert_eq!(named, [ours_id, theirs]);
    assert_eq!((inventory.len(), inventory.count_of(&acme())), (2, 1));
}

#[test]
fn nothing_of_another_tenant_is_used() {
    let (_home, store) = with_acme(None);
    let other = |refusal: Refusal, thing: &str| match refusal {
        Refusal::OtherTenant { what, device, .. } => {
            assert_eq!(what, thing);
            device
        }
        other => panic!("{other}"),
    };
    let parent = enter(&store, draft("core1", "10.0.0.1")).unwrap();
    let child = DeviceDraft {
        parents: [parent].into(),
        ..of_acme("sw1", "10.0.0.2")
    };
    let named = other(enter(&store, child).unwrap_err(), "parent");
    assert_eq!(named, Some(parent));

    let (record, value) = credential("lab", "public");
    block_on(store.put_credential(by(), record.clone(), Some(value), None, NOW)).unwrap();
    let asks = DeviceDraft {
        credential: Some(record.name.clone()),
        ..of_acme("sw1", "10.0.0.2")
    };
    let named = other(enter(&store, asks).unwrap_err(), "credential");
    assert_eq!(named, None);
    let theirs = model::CredentialRecord {
        name: model::CredentialName("acme/lab".into()),
        ..record
    };
    let put = block_on(store.put_credential(by(), theirs, None, None, NOW));
    other(refused(put), "secret");

    let child = DeviceDraft {
        parents: [parent].into(),
        ..draft("sw2", "10.0.0.3")
    };
    let child = enter(&store, child).unwrap();
    let moved = store.replace_device(by(), parent, of_acme("core1", "10.0.0.1"), None, NOW);
    let named = other(refused(block_on(moved)), "device behind it,");
    assert_eq!(named, Some(child));
}

#[test]
fn a_device_that_moves_is_in_the_log_of_both_tenants() {
    let (_home, store) = with_acme(None);
    let ours_only = DeviceDraft {
        site: Some("our site".into()),
        ..draft("core1", "10.0.0.1")
    };
    let id = enter(&store, ours_only).unwrap();
    let theirs_only = DeviceDraft {
        site: Some("their site".into()),
        ..of_acme("core1-moved", "10.0.0.1")
    };
    block_on(store.replace_device(by(), id, theirs_only, None, NOW)).unwrap();
    let lines_of = |tenant: TenantName| {
        let ask = crate::AuditAsk {
            tenants: Some(vec![tenant]),
            ..crate::AuditAsk::newest(10)
        };
        let lines = store.audit(&ask).unwrap();
        let changes = lines.into_iter().filter(|l| l.action == "device.change");
        changes.collect::<Vec<_>>()
    };
    let [was] = &lines_of(ours())[..] else {
        panic!("{:?}", audit_lines(&store));
    };
    let [is] = &lines_of(acme())[..] else {
        panic!("{:?}", audit_lines(&store));
    };
    assert_eq!(was.object, "device:core1");
    assert!(was.before.as_ref().unwrap().contains("our site"));
    assert_eq!(was.after, None);
    assert_eq!(is.object, "device:acme/core1-moved");
    assert_eq!(is.before, None);
    assert!(is.after.as_ref().unwrap().contains("their site"));
}

#[test]
fn what_belongs_to_no_tenant_is_refused() {
    let home = Home::new();
    let store = home.open();
    let gone = Refusal::NoSuchTenant { name: acme() };
    assert_eq!(enter(&store, of_acme("a", "10.0.0.1")).unwrap_err(), gone);
    let secret = secret("acme/x", &["v"]);
    assert_eq!(
        refused(block_on(store.put_secret(by(), secret, None, NOW))),
        gone
    );
    let token = token("t1", "acme/x");
    assert_eq!(
        refused(block_on(store.create_token(by(), token, None, NOW))),
        gone
    );
    let mut jane = user("jane", Role::Admin);
    jane.bindings[0].scope.tenant = Some(acme());
    assert_eq!(refused(block_on(store.create_user(by(), jane, NOW))), gone);
}

#[test]
fn a_name_says_its_tenant_in_one_way() {
    let (_home, store) = with_acme(None);
    let put = |name: &str| block_on(store.put_secret(by(), secret(name, &["v"]), Some(0), NOW));
    for good in ["smtp", "acme/smtp", "credential.x", "acme/credential.x"] {
        put(good).unwrap();
    }
    let long = format!("credential.{}", "x".repeat(128));
    put(&long).unwrap();
    for bad in [
        "",
        "acme/",
        "acme/a/b",
        "default/smtp",
        "acme/.x",
        " a",
        "17",
        "acme/17",
        "a\u{7}",
        &"x".repeat(129),
    ] {
        let refusal = refused(put(bad));
        assert!(
            matches!(refusal, Refusal::BadName { .. }),
            "{bad}: {refusal}"
        );
    }
}

#[test]
fn a_tenant_has_no_more_devices_than_its_quota() {
    let (_home, store) = with_acme(Some(2));
    let full = Refusal::Quota {
        tenant: acme(),
        what: "devices",
        limit: 2,
    };
    let first = enter(&store, of_acme("a", "10.0.0.1")).unwrap();
    let more = vec![of_acme("b", "10.0.0.2"), of_acme("c", "10.0.0.3")];
    let entered = block_on(store.create_devices(by(), more, NOW)).unwrap();
    assert!(entered[0].is_ok());
    assert_eq!(entered[1], Err(full.clone()));
    let same = store.replace_device(by(), first, of_acme("a2", "10.0.0.1"), None, NOW);
    block_on(same).unwrap();

    let foreign = enter(&store, draft("d", "10.0.0.4")).unwrap();
    let moved = store.replace_device(by(), foreign, of_acme("d", "10.0.0.4"), None, NOW);
    assert_eq!(refused(block_on(moved)), full);
    block_on(store.delete_device(by(), first, None, NOW)).unwrap();
    let moved = store.replace_device(by(), foreign, of_acme("d", "10.0.0.4"), None, NOW);
    block_on(moved).unwrap();
    let restored = block_on(store.restore_device(by(), first, NOW));
    assert_eq!(refused(restored), full);

    let wider = tenant("acme", Some(3));
    block_on(store.put_tenant(by(), wider, Some(1), NOW)).unwrap();
    block_on(store.restore_device(by(), first, NOW)).unwrap();
}

#[test]
fn a_tenant_goes_only_when_nothing_belongs_to_it() {
    let (_home, store) = with_acme(None);
    let device = enter(&store, of_acme("a", "10.0.0.1")).unwrap();
    let theirs = secret("acme/x", &["v"]);
    block_on(store.put_secret(by(), theirs, None, NOW)).unwrap();
    let mut jane = user("jane", Role::Operator);
    jane.bindings[0].scope.tenant = Some(acme());
    add(&store, jane);
    let delete = |expected| block_on(store.delete_tenant(by(), &acme(), expected, NOW));
    let holders = vec![
        "1 device".into(),
        "secret:acme/x".into(),
        "user:jane".into(),
    ];
    let in_use = Refusal::TenantInUse {
        name: acme(),
        holders,
    };
    assert_eq!(refused(delete(None)), in_use);

    block_on(store.delete_device(by(), device, None, NOW)).unwrap();
    block_on(store.delete_secret(by(), &SecretName("acme/x".into()), Some(1), NOW)).unwrap();
    block_on(store.delete_user(by(), &name("jane"), None, NOW)).unwrap();
    assert!(matches!(
        refused(delete(Some(7))),
        Refusal::RevisionMismatch { found: 1, .. }
    ));
    delete(Some(1)).unwrap();
    let restored = block_on(store.restore_device(by(), device, NOW));
    assert_eq!(refused(restored), Refusal::NoSuchTenant { name: acme() });
    let always = block_on(store.delete_tenant(by(), &ours(), None, NOW));
    assert_eq!(refused(always), Refusal::DefaultTenant);
}

#[test]
fn the_default_tenant_is_there_from_the_start_and_can_be_given_a_quota() {
    let home = Home::new();
    let store = home.open();
    assert_eq!(store.people().tenants().count(), 1);
    let taken = block_on(store.put_tenant(by(), tenant("default", None), Some(0), NOW));
    assert!(matches!(refused(taken), Refusal::NameExists { .. }));
    block_on(store.put_tenant(by(), tenant("default", Some(0)), Some(1), NOW)).unwrap();
    assert!(matches!(
        enter(&store, draft("a", "10.0.0.1")),
        Err(Refusal::Quota { limit: 0, .. })
    ));
    store.close().unwrap();
    assert_eq!(home.open().people().tenant(&ours()).unwrap().revision, 2);
}

// --- people

#[test]
fn the_first_admin_is_made_once_and_the_last_one_stays() {
    let home = Home::new();
    let store = home.open();
    assert!(!store.people().has_full_admin());
    let first = |user| block_on(store.create_first_admin(by(), user, NOW));
    first(user("jane", Role::Admin)).unwrap();
    assert_eq!(
        refused(first(user("eve", Role::Admin))),
        Refusal::AlreadySetUp
    );
    let jane = store.people().user(&name("jane")).unwrap().clone();
    let replace = |user| block_on(store.replace_user(by(), user, None, NOW));
    let inactive = User {
        active: false,
        ..User::clone(&jane)
    };
    let demoted = User {
        bindings: user("jane", Role::Operator).bindings,
        ..User::clone(&jane)
    };
    let limited = User {
        bindings: vec![Binding {
            role: Role::Admin,
            scope: Scope {
                sites: ["berlin".to_owned()].into(),
                ..Scope::default()
            },
        }],
        ..User::clone(&jane)
    };
    for user in [&inactive, &demoted, &limited] {
        assert_eq!(refused(replace(user.clone())), Refusal::LastAdmin);
    }
    let delete = || block_on(store.delete_user(by(), &name("jane"), None, NOW));
    assert_eq!(refused(delete()), Refusal::LastAdmin);

    add(&store, user("joe", Role::Admin));
    replace(limited).unwrap();
    delete().unwrap();
    let joe = block_on(store.delete_user(by(), &name("joe"), None, NOW));
    assert_eq!(refused(joe), Refusal::LastAdmin);
    store.close().unwrap();
    assert!(home.open().people().has_full_admin());
}

#[test]
fn two_admins_who_remove_each_other_do_not_both_succeed() {
    let home = Home::new();
    let store = home.open();
    for who in ["jane", "joe"] {
        add(&store, user(who, Role::Admin));
    }
    let asked = ["jane", "joe"].map(|who| {
        let store = store.clone();
        async move { store.delete_user(by(), &name(who), None, NOW).await }
    });
    let done = all_at_once(asked);
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1);
    assert!(store.people().has_full_admin());
}

#[test]
fn names_certificates_and_subjects_belong_to_one_person() {
    let home = Home::new();
    let store = home.open();
    let subject = OidcSubject {
        issuer: "https://id.example.net".into(),
        subject: "17".into(),
    };
    let mut jane = user("jane", Role::Auditor);
    jane.certificate = Some("CN=jane".into());
    jane.oidc = Some(subject.clone());
    add(&store, jane.clone());
    let create = |user| refused(block_on(store.create_user(by(), user, NOW)));
    assert!(matches!(
        create(user("jane", Role::Admin)),
        Refusal::NameExists { .. }
    ));
    assert!(matches!(
        create(user("Jane", Role::Admin)),
        Refusal::BadName { .. }
    ));
    let mut eve = user("eve", Role::Auditor);
    eve.certificate = Some("CN=jane".into());
    assert!(matches!(create(eve.clone()), Refusal::CertificateTaken { by, .. } if by == "jane"));
    eve.certificate = None;
    eve.oidc = Some(subject.clone());
    assert!(matches!(create(eve.clone()), Refusal::SubjectTaken { by, .. } if by == "jane"));

    // what somebody gives up is free
    jane.certificate = None;
    jane.oidc = None;
    block_on(store.replace_user(by(), jane, Some(1), NOW)).unwrap();
    add(&store, eve);
    store.close().unwrap();
    let people = home.open().people();
    assert_eq!(people.user_by_oidc(&subject).unwrap().name, name("eve"));
    assert!(people.user_by_certificate("CN=jane").is_none());
}

fn with_totp(store: &Store) {
    let seed = secret(".totp/jane", &["seed"]);
    block_on(store.put_secret(by(), seed, None, NOW)).unwrap();
    let mut jane = user("jane", Role::Admin);
    jane.totp = Some(TotpRecord {
        seed: SecretName(".totp/jane".into()),
        confirmed: true,
        last_step: 0,
        recovery: vec![digest(1), digest(2)],
    });
    add(store, jane);
}

#[test]
fn a_totp_step_is_taken_once_by_whoever_comes_first() {
    let home = Home::new();
    let store = home.open();
    with_totp(&store);
    let seen = User::clone(store.people().user(&name("jane")).unwrap());
    let take = |step| {
        let store = store.clone();
        async move { store.take_totp_step(&name("jane"), step).await.unwrap() }
    };
    let taken = all_at_once((0..50).map(|_| take(100)));
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 1);
    assert!(!block_on(take(99)), "an older one");
    assert!(block_on(take(101)));
    // who saw jane before that does not give it back
    block_on(store.replace_user(by(), seen, Some(1), NOW)).unwrap();
    assert!(!block_on(take(101)));
    store.close().unwrap();
    let store = home.open();
    let jane = name("jane");
    assert!(!block_on(store.take_totp_step(&jane, 101)).unwrap());
    let nobody = block_on(store.take_totp_step(&name("eve"), 1));
    assert!(matches!(refused(nobody), Refusal::NoSuch { .. }));
}

#[test]
fn a_recovery_code_is_taken_once_and_not_given_back() {
    let home = Home::new();
    let store = home.open();
    with_totp(&store);
    let seen = User::clone(store.people().user(&name("jane")).unwrap());
    let take = |n| {
        let store = store.clone();
        let take = async move {
            let code = digest(n);
            store
                .take_recovery_code(by(), &name("jane"), code, NOW)
                .await
        };
        async move { take.await.unwrap() }
    };
    let taken = all_at_once((0..20).map(|_| take(1)));
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 1);
    assert!(!block_on(take(3)), "never one of theirs");
    let stale = block_on(store.replace_user(by(), seen, Some(1), NOW));
    assert!(matches!(
        refused(stale),
        Refusal::RevisionMismatch { found: 2, .. }
    ));
}

#[test]
fn signing_in_is_kept_without_a_line_or_a_revision() {
    let home = Home::new();
    let store = home.open();
    add(&store, user("jane", Role::Admin));
    let (revision, head) = (store.people().revision(), store.audit_head());
    block_on(store.note_login(&name("jane"), NOW)).unwrap();
    let jane = store.people().user(&name("jane")).unwrap().clone();
    assert_eq!((jane.last_login, jane.revision), (Some(NOW), 1));
    assert_eq!(
        (store.people().revision(), store.audit_head()),
        (revision, head)
    );
    // nor does a change of somebody who was looked at before take it back
    block_on(store.replace_user(by(), user("jane", Role::Admin), None, NOW)).unwrap();
    store.close().unwrap();
    let people = home.open().people();
    assert_eq!(people.user(&name("jane")).unwrap().last_login, Some(NOW));
}

#[test]
fn every_change_of_people_is_heard_of() {
    let home = Home::new();
    let store = home.open();
    let mut heard = store.people_changed();
    heard.mark_unchanged();
    add(&store, user("jane", Role::Admin));
    assert!(heard.has_changed().unwrap());
    assert_eq!(*heard.borrow_and_update(), store.people().revision());
    create(&store, "a", "10.0.0.1");
    assert!(!heard.has_changed().unwrap());
    let policy = Policy {
        require_totp: [Role::Admin].into(),
        revision: 0,
    };
    block_on(store.put_policy(by(), policy.clone(), 0, NOW)).unwrap();
    assert!(heard.has_changed().unwrap());
    assert!(matches!(
        refused(block_on(store.put_policy(by(), policy, 0, NOW))),
        Refusal::RevisionMismatch { found: 1, .. }
    ));
    store.close().unwrap();
    assert_eq!(home.open().people().policy().revision, 1);
}

#[test]
fn with_a_person_their_sessions_and_their_seed_go() {
    let home = Home::new();
    let store = home.open();
    with_totp(&store);
    add(&store, user("joe", Role::Admin));
    for who in ["jane", "joe"] {
        block_on(store.create_session(session(who, who, NOW), NOW)).unwrap();
    }
    let seed = SecretName(".totp/jane".into());
    assert_eq!(store.secret_users(&seed), ["user:jane"]);
    let used = refused(block_on(store.delete_secret(by(), &seed, None, NOW)));
    assert!(matches!(used, Refusal::SecretInUse { .. }), "{used}");
    block_on(store.delete_user(by(), &name("jane"), Some(1), NOW)).unwrap();
    assert_eq!(store.secret(&seed), None);
    let left: Vec<SessionId> = store.sessions().keys().cloned().collect();
    assert_eq!(left, [SessionId("joe".into())]);

    add(&store, user("jane", Role::Admin));
    let inactive = User {
        active: false,
        ..user("joe", Role::Admin)
    };
    block_on(store.replace_user(by(), inactive, None, NOW)).unwrap();
    assert!(store.sessions().is_empty());
    let back = block_on(store.create_session(session("s", "joe", NOW), NOW));
    assert!(matches!(refused(back), Refusal::NoSuch { .. }));
}

// --- sessions

fn rotate(store: &Store, presented: u64, next: u64, now: Timestamp) -> Rotated {
    let id = SessionId("s".into());
    block_on(store.rotate_session(&id, digest(presented), digest(next), now)).unwrap()
}

fn after(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

fn with_session() -> (Home, Store) {
    let home = Home::new();
    let store = home.open();
    add(&store, user("jane", Role::Admin));
    block_on(store.create_session(session("s", "jane", NOW), NOW)).unwrap();
    (home, store)
}

#[test]
fn a_refresh_token_is_exchanged_once() {
    let (home, store) = with_session();
    let Rotated::Done(kept) = rotate(&store, 1, 2, after(300)) else {
        panic!("not exchanged");
    };
    assert_eq!((kept.refresh, kept.used), (digest(2), after(300)));
    // a second tab, or an answer that was lost
    assert!(matches!(
        rotate(&store, 1, 3, after(309)),
        Rotated::Grace(_)
    ));
    store.close().unwrap();
    let store = home.open();
    assert!(matches!(rotate(&store, 2, 4, after(600)), Rotated::Done(_)));
    assert_eq!(rotate(&store, 2, 5, after(610)), Rotated::Reused);
    assert!(store.sessions().is_empty());
    assert_eq!(rotate(&store, 4, 6, after(611)), Rotated::Gone);
    assert!(ROTATION_GRACE <= Duration::from_secs(10));
}

#[test]
fn a_stolen_token_is_noticed_however_often_the_thief_exchanged_it() {
    let (_home, store) = with_session();
    for n in 1..6 {
        assert!(matches!(
            rotate(&store, n, n + 1, after(n)),
            Rotated::Done(_)
        ));
    }
    assert_eq!(rotate(&store, 1, 99, after(6)), Rotated::Reused);
    assert_eq!(rotate(&store, 6, 7, after(7)), Rotated::Gone);
}

#[test]
fn of_many_who_exchange_the_same_token_one_succeeds() {
    let (_home, store) = with_session();
    let asked = (0..30).map(|n| {
        let store = store.clone();
        let next = digest(100 + n);
        async move {
            let id = SessionId("s".into());
            store
                .rotate_session(&id, digest(1), next, NOW)
                .await
                .unwrap()
        }
    });
    let answers = all_at_once(asked);
    let count = |wanted: fn(&Rotated) -> bool| answers.iter().filter(|a| wanted(a)).count();
    assert_eq!(count(|answer| matches!(answer, Rotated::Done(_))), 1);
    assert_eq!(count(|answer| matches!(answer, Rotated::Grace(_))), 29);
}

#[test]
fn an_expired_session_is_gone() {
    let (_home, store) = with_session();
    assert_eq!(rotate(&store, 1, 2, after(86_400)), Rotated::Gone);
    assert!(store.sessions().is_empty());
}

#[test]
fn expired_sessions_and_answers_are_swept() {
    let home = Home::new();
    let store = open_quick(home.options());
    add(&store, user("jane", Role::Admin));
    block_on(store.create_session(session("s", "jane", NOW), NOW)).unwrap();
    let answer = crate::StoredAnswer {
        request: digest(1),
        status: 201,
        headers: Vec::new(),
        body: b"{}".to_vec(),
        at: NOW,
    };
    block_on(store.put_idempotent(digest(7), answer, NOW)).unwrap();
    let mut later = after(90_000);
    until("both to go", || {
        later = later.plus(Duration::from_secs(1));
        send(&store, report(icmp(1), later, &["x"], &[1.0]));
        (store.sessions().is_empty() && store.idempotent(&digest(7)).is_none()).then_some(())
    });
}

#[test]
fn a_person_has_no_more_sessions_than_the_limit() {
    let home = Home::new();
    let store = home.open();
    add(&store, user("jane", Role::Admin));
    add(&store, user("joe", Role::Admin));
    let joe = model::SessionRecord {
        used: Timestamp(1),
        ..session("joe", "joe", NOW)
    };
    block_on(store.create_session(joe, NOW)).unwrap();
    for n in 0..=MAX_SESSIONS_PER_USER {
        // the second is the one that was not used for the longest time
        let used = after(if n == 1 { 0 } else { n as u64 + 1 });
        let session = session(&format!("s{n}"), "jane", used);
        block_on(store.create_session(session, NOW)).unwrap();
    }
    let sessions = store.sessions();
    assert_eq!(sessions.len(), MAX_SESSIONS_PER_USER + 1);
    assert!(!sessions.contains_key(&SessionId("s1".into())));
    assert!(sessions.contains_key(&SessionId("s0".into())));
    let ids: Vec<SessionId> = sessions.keys().cloned().collect();
    let ended = block_on(store.end_sessions(ids)).unwrap();
    assert_eq!(ended, MAX_SESSIONS_PER_USER + 1);
    store.close().unwrap();
    assert!(home.open().sessions().is_empty());
}

#[test]
fn there_are_no_more_sessions_than_the_limit_unless_some_have_expired() {
    let home = Home::new();
    let store = home.open();
    let people = MAX_SESSIONS / MAX_SESSIONS_PER_USER;
    let users = (0..=people).map(|n| {
        let store = store.clone();
        let user = user(&format!("u{n}"), Role::ReadOnly);
        async move { store.create_user(by(), user, NOW).await.map(drop) }
    });
    assert!(all_at_once(users).iter().all(Result::is_ok));
    let sessions = (0..MAX_SESSIONS).map(|n| {
        let store = store.clone();
        let session = session(&format!("s{n}"), &format!("u{}", n % people), NOW);
        async move { store.create_session(session, NOW).await.map(drop) }
    });
    assert!(all_at_once(sessions).iter().all(Result::is_ok));
    let last = |now| {
        let session = session("last", &format!("u{people}"), now);
        block_on(store.create_session(session, now))
    };
    assert!(matches!(
        refused(last(after(1))),
        Refusal::TooMany {
            limit: MAX_SESSIONS,
            ..
        }
    ));
    last(after(86_400)).unwrap();
    assert_eq!(store.sessions().len(), 1);
}

// --- tokens

#[test]
fn a_token_comes_and_goes_with_its_secret() {
    let (home, store) = with_acme(None);
    let signs = model::TokenRecord {
        proof: TokenProof::Hmac(SecretName(".token/t1".into())),
        ..token("t1", "acme/backup")
    };
    let create = |token, secret| block_on(store.create_token(by(), token, secret, NOW));
    assert!(matches!(
        refused(create(signs.clone(), None)),
        Refusal::NoSuch { what: "secret", .. }
    ));
    create(signs, Some(secret(".token/t1", &["key"]))).unwrap();
    let taken = refused(create(token("t2", "acme/backup"), None));
    assert!(matches!(taken, Refusal::NameExists { .. }), "{taken}");
    let own = SecretName(".token/t1".into());
    assert_eq!(store.secret_users(&own), ["token:acme/backup"]);
    let id = TokenId("t1".into());
    let delete = |expected| block_on(store.delete_token(by(), &id, expected, NOW));
    assert!(matches!(
        refused(delete(Some(5))),
        Refusal::RevisionMismatch { .. }
    ));
    delete(Some(1)).unwrap();
    assert_eq!(store.secret(&own), None);
    store.close().unwrap();
    assert_eq!(home.open().people().tokens().count(), 0);
}

#[test]
fn the_use_of_a_token_is_written_once_a_minute_and_is_no_change() {
    let home = Home::new();
    let store = home.open();
    block_on(store.create_token(by(), token("t1", "backup"), None, NOW)).unwrap();
    let id = TokenId("t1".into());
    let (revision, head) = (store.people().revision(), store.audit_head());
    let used = || {
        let people = store.people();
        people.token(&id).unwrap().last_used.clone()
    };
    store.note_token_use(&id, "10.0.0.1".into(), NOW);
    store.note_token_use(&TokenId("other".into()), "10.0.0.1".into(), NOW);
    until("the use", used);
    let commits = store.stats().commits;
    store.note_token_use(&id, "10.0.0.2".into(), after(59));
    block_on(store.heartbeat()).unwrap();
    assert_eq!(used(), Some((NOW, "10.0.0.1".into())));
    assert_eq!(store.stats().commits, commits + 1, "the heartbeat alone");
    store.note_token_use(&id, "10.0.0.2".into(), after(60));
    until("the next use", || used().filter(|(at, _)| *at == after(60)));
    assert_eq!(
        (store.people().revision(), store.audit_head()),
        (revision, head)
    );

    let shorter = model::TokenRecord {
        requests_per_minute: 1,
        ..token("t1", "backup")
    };
    block_on(store.replace_token(by(), shorter, Some(1), NOW)).unwrap();
    store.close().unwrap();
    let people = home.open().people();
    let kept = people.token(&id).unwrap();
    assert_eq!(kept.last_used, Some((after(60), "10.0.0.2".into())));
    assert_eq!((kept.revision, kept.requests_per_minute), (2, 1));
}

// --- answers

#[test]
fn an_answer_is_given_again_after_a_restart_and_the_oldest_go_first() {
    let home = Home::new();
    let store = Store::open(
        StoreOptions {
            keep_alerts: Duration::from_secs(1),
            ..home.options()
        },
        NOW,
    )
    .unwrap();
    let answer = |bytes: usize| crate::StoredAnswer {
        request: digest(1),
        status: 201,
        headers: vec![("etag".into(), "\"1\"".into())],
        body: vec![b'x'; bytes],
        at: Timestamp(0),
    };
    let put = |n, bytes, now| block_on(store.put_idempotent(digest(n), answer(bytes), now));
    assert!(matches!(
        refused(put(0, crate::MAX_ANSWER_BYTES, NOW)),
        Refusal::TooMany { .. }
    ));
    let fits = crate::MAX_ANSWER_BYTES - 1_000;
    let count = 1 + (crate::MAX_ANSWERS_BYTES / fits) as u64;
    for n in 0..count {
        put(n, fits, after(n)).unwrap();
    }
    assert!(store.idempotent(&digest(0)).is_none(), "the oldest");
    store.close().unwrap();
    let store = home.open();
    let kept = store.idempotent(&digest(1)).unwrap();
    assert_eq!((kept.at, kept.body.len()), (after(1), fits));
    assert!(store.idempotent(&digest(0)).is_none());
}
