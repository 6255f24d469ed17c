//! Signing in with a password.

use std::sync::Arc;
use std::time::Duration;

use model::{AuditOutcome, By, Role, Timestamp};
use store::{Refusal, WriteError};

use super::support::{House, NOW, PASSWORD, everywhere, from, settings};
use crate::password::Cost;
use crate::{AccessError, Origin, Restriction};

#[tokio::test]
async fn who_knows_the_password_is_in_and_it_is_written_down() {
    let house = House::new().await;
    let granted = house
        .log_in_at("ROOT", PASSWORD, None, &from(1), NOW)
        .await
        .unwrap();
    assert_eq!(granted.restricted, None);
    assert_eq!(granted.expires_in, Duration::from_mins(5));
    let caller = house.caller(&granted);
    assert_eq!(caller.user.unwrap().name.0, "root");
    assert_eq!(caller.session.as_ref(), Some(&granted.session));
    assert_eq!(house.user("root").last_login, Some(NOW));
    let sessions = house.store.sessions();
    let session = &sessions[&granted.session];
    assert_eq!(
        session.agent.as_deref(),
        Some("curl/8"),
        "without control letters"
    );
    assert_eq!(session.origin, "10.0.0.1");
    assert!(
        house
            .audited("session.create", &format!("session:{}", granted.session))
            .await
    );
}

/// Each wrong way in, and whether the person is known.
#[tokio::test]
async fn every_wrong_way_in_gets_the_same_answer_after_the_same_work() {
    let house = House::new().await;
    house.enter("gone", Role::Operator).await;
    house.change("gone", |user| user.active = false).await;
    house.enter("provider", Role::Operator).await;
    house.change("provider", |user| user.password = None).await;
    let mut heard = Vec::new();
    for (n, (name, password)) in [
        ("root", "wrong horse battery"),
        ("nobody", PASSWORD),
        ("gone", PASSWORD),
        ("provider", PASSWORD),
        ("provider", ""),
        ("no name at all!", PASSWORD),
        ("", ""),
        ("root", &"x".repeat(100_000)),
    ]
    .into_iter()
    .enumerate()
    {
        let before = house.access.stats().hashes;
        let origin = from(u32::try_from(n).unwrap());
        let answer = house.log_in_at(name, password, None, &origin, NOW).await;
        heard.push(answer.unwrap_err().to_string());
        let hashes = house.access.stats().hashes - before;
        assert_eq!(hashes, 1, "{name}");
    }
    heard.dedup();
    assert_eq!(heard, ["the user, the password or the code is wrong"]);
    assert_eq!(house.access.stats().refused, 8);
}

#[tokio::test]
async fn a_name_that_is_nobodys_is_not_written_down() {
    let house = House::new().await;
    for name in ["hunter2-typed-in-the-wrong-field", "root"] {
        let _ = house
            .log_in_at(name, "wrong horse battery", None, &from(1), NOW)
            .await;
    }
    let lines = house.audit().await;
    let refused: Vec<_> = lines
        .iter()
        .filter(|line| line.action == "session.refused")
        .map(|line| (line.object.as_str(), line.request.as_deref()))
        .collect();
    assert_eq!(
        refused,
        [
            ("user:(unknown)", Some("req-1")),
            ("user:root", Some("req-1"))
        ]
    );
    assert!(!format!("{lines:?}").contains("hunter2"));
    assert!(
        lines.iter().all(|line| line.action != "session.refused"
            || matches!(line.outcome, AuditOutcome::Denied(_)))
    );
}

#[tokio::test]
async fn after_five_failures_an_account_has_to_wait_from_any_address_and_nothing_is_hashed() {
    let house = House::new().await;
    for n in 0..5 {
        let wrong = house
            .log_in_at("root", "wrong horse", None, &from(n), NOW)
            .await;
        assert!(matches!(wrong, Err(AccessError::Refused)));
    }
    let before = house.access.stats().hashes;
    let soon = house
        .log_in_at("Root", PASSWORD, None, &from(99), NOW)
        .await;
    assert!(matches!(soon, Err(AccessError::TooSoon { wait }) if wait == Duration::from_secs(1)));
    assert_eq!(house.access.stats().hashes, before);
    let later = NOW.plus(Duration::from_secs(1));
    house
        .log_in_at("root", PASSWORD, None, &from(99), later)
        .await
        .unwrap();
    let again = house
        .log_in_at("root", "wrong horse", None, &from(99), later)
        .await;
    assert!(
        matches!(again, Err(AccessError::Refused)),
        "a success forgives"
    );
}

/// Tries `times` wrong passwords for root, each from another address, as soon
/// as it may; says when it is done.
async fn guess(house: &House, times: u32) -> Timestamp {
    let mut now = NOW;
    for n in 0..times {
        let origin = from(1000 + n);
        let mut answer = house.log_in_at("root", "wrong horse", None, &origin, now);
        while let Err(AccessError::TooSoon { wait }) = answer.await {
            now = now.plus(wait);
            answer = house.log_in_at("root", "wrong horse", None, &origin, now);
        }
    }
    now
}

#[tokio::test]
async fn nobody_is_kept_out_for_long_by_others_who_try_their_name() {
    let house = House::new().await;
    let now = guess(&house, 20).await;
    let soon = house.log_in_at("root", PASSWORD, None, &from(1), now).await;
    assert!(
        matches!(soon, Err(AccessError::TooSoon { wait }) if wait == Duration::from_secs(30)),
        "{soon:?}"
    );
    let later = now.plus(Duration::from_secs(30));
    house
        .log_in_at("root", PASSWORD, None, &from(1), later)
        .await
        .unwrap();
}

#[tokio::test]
async fn where_somebody_signed_in_before_they_do_not_wait_for_what_others_try() {
    let house = House::new().await;
    house.log_in("root").await;
    let now = guess(&house, 20).await;
    house
        .log_in_at("root", PASSWORD, None, &from(1), now)
        .await
        .unwrap();
    // what is tried from there waits as from anywhere
    for _ in 0..5 {
        let _ = house
            .log_in_at("root", "wrong horse", None, &from(1), now)
            .await;
    }
    let soon = house.log_in_at("root", PASSWORD, None, &from(1), now).await;
    assert!(matches!(soon, Err(AccessError::TooSoon { .. })));
    let other = house.log_in_at("root", PASSWORD, None, &from(2), now).await;
    assert!(matches!(other, Err(AccessError::TooSoon { .. })));
}

#[tokio::test]
async fn after_five_failures_an_address_has_to_wait_for_any_account() {
    let house = House::new().await;
    for n in 0..5 {
        let name = format!("guess{n}");
        let _ = house
            .log_in_at(&name, "wrong horse", None, &from(1), NOW)
            .await;
    }
    let soon = house.log_in_at("root", PASSWORD, None, &from(1), NOW).await;
    assert!(matches!(soon, Err(AccessError::TooSoon { .. })));
    house
        .log_in_at("root", PASSWORD, None, &from(2), NOW)
        .await
        .unwrap();
}

#[tokio::test]
async fn one_customers_network_of_ipv6_is_one_address() {
    let house = House::new().await;
    let at = |host: u32| Origin {
        address: Some(format!("2001:db8:1:2::{host:x}").parse().unwrap()),
        request: None,
    };
    for n in 0..5 {
        let _ = house
            .log_in_at(&format!("guess{n}"), "wrong", None, &at(n), NOW)
            .await;
    }
    let soon = house.log_in_at("root", PASSWORD, None, &at(77), NOW).await;
    assert!(matches!(soon, Err(AccessError::TooSoon { .. })));
}

#[tokio::test]
async fn many_people_behind_one_address_sign_in_without_waiting() {
    let house = House::new().await;
    for _ in 0..30 {
        house.log_in("root").await;
    }
}

#[tokio::test]
async fn somebody_who_is_in_is_not_touched_by_those_who_guess_their_password() {
    let house = House::new().await;
    let granted = house.log_in("root").await;
    for n in 0..50 {
        let _ = house
            .log_in_at("root", "wrong horse", None, &from(n), NOW)
            .await;
    }
    let caller = house.caller(&granted);
    let new = "tasse regen biber";
    house
        .access
        .change_password(&caller, PASSWORD, new, NOW)
        .await
        .unwrap();
    let refresh = granted.refresh_token.unwrap();
    house
        .access
        .refresh(refresh.expose(), &from(1), NOW)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_200_wrong_passwords_at_once_two_are_looked_at_and_none_gets_in() {
    let house = Arc::new(House::of(settings(), Cost::SOME).await);
    house.enter("root", Role::Admin).await;
    // each from an address of its own, for an account of its own, but for some
    let tries: Vec<_> = (0..200)
        .map(|n| {
            let house = house.clone();
            tokio::spawn(async move {
                let name = match n % 10 {
                    0 => "root".to_owned(),
                    _ => format!("guess{n}"),
                };
                house
                    .log_in_at(&name, "wrong horse", None, &from(n), NOW)
                    .await
            })
        })
        .collect();
    let mut heard = [0; 3];
    for done in tries {
        match done.await.unwrap() {
            Err(AccessError::Refused) => heard[0] += 1,
            Err(AccessError::TooBusy) => heard[1] += 1,
            Err(AccessError::TooSoon { .. }) => heard[2] += 1,
            other => panic!("{other:?}"),
        }
    }
    let most = house.access.inner.hasher.most_at_once();
    assert!((1..=2).contains(&most), "{most} at once");
    assert!(heard[0] >= 2 && heard[1] > 0 && heard[2] > 0, "{heard:?}");
    assert_eq!(heard.iter().sum::<i32>(), 200);
    assert_eq!(house.store.sessions().len(), 0);
    let stats = house.access.stats();
    assert_eq!((stats.logins, stats.waiting), (0, 0));
    // who was sent away was not looked at, and nothing is held against them
    house
        .log_in_at(
            "root",
            PASSWORD,
            None,
            &from(999),
            NOW.plus(Duration::from_secs(1)),
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn a_reset_password_holds_for_seven_days_and_for_changing_it_alone() {
    let house = House::new().await;
    house.enter("jane", Role::Admin).await;
    let jane = house.user("jane").name.clone();
    let open = house.log_in("jane").await;
    let given = house
        .access
        .reset_password(&By::system(), &jane, None, NOW)
        .await
        .unwrap();
    assert!(house.show(&open, NOW).is_err(), "sessions end");
    let old = house.log_in_at("jane", PASSWORD, None, &from(1), NOW).await;
    assert!(matches!(old, Err(AccessError::Refused)));
    let late = NOW.plus(Duration::from_hours(7 * 24 + 1));
    let late = house
        .log_in_at("jane", given.expose(), None, &from(1), late)
        .await;
    assert!(matches!(late, Err(AccessError::Refused)));
    let granted = house
        .log_in_at("jane", given.expose(), None, &from(1), NOW)
        .await
        .unwrap();
    assert_eq!(granted.restricted, Some(Restriction::MustChangePassword));
    let caller = house.caller(&granted);
    assert!(
        !caller.holds(model::Permission::StatusRead),
        "nothing else works"
    );
    let new = "tasse regen biber";
    house
        .access
        .change_password(&caller, given.expose(), new, NOW)
        .await
        .unwrap();
    assert_eq!(house.caller(&granted).restricted, None);
    let names: Vec<String> = house
        .audit()
        .await
        .into_iter()
        .map(|line| line.action)
        .collect();
    for action in ["user.password-reset", "user.password", "session.end"] {
        assert!(
            names.iter().any(|name| name == action),
            "{action} in {names:?}"
        );
    }
}

#[tokio::test]
async fn a_new_password_needs_the_old_one_and_ends_the_other_sessions() {
    let house = House::new().await;
    let (here, there) = (house.log_in("root").await, house.log_in("root").await);
    let caller = house.caller(&here);
    let access = &house.access;
    let new = "tasse regen biber";
    let wrong = access
        .change_password(&caller, "wrong horse", new, NOW)
        .await;
    assert!(matches!(wrong, Err(AccessError::Refused)));
    for bad in [PASSWORD, "short", "rootrootroot1"] {
        let weak = access.change_password(&caller, PASSWORD, bad, NOW).await;
        assert!(
            matches!(weak, Err(AccessError::WeakPassword { .. })),
            "{bad}"
        );
    }
    access
        .change_password(&caller, PASSWORD, new, NOW)
        .await
        .unwrap();
    assert!(house.show(&here, NOW).is_ok() && house.show(&there, NOW).is_err());
    for _ in 0..5 {
        let _ = access
            .change_password(&caller, "wrong horse", new, NOW)
            .await;
    }
    let often = access.change_password(&caller, new, PASSWORD, NOW).await;
    assert!(matches!(often, Err(AccessError::TooSoon { .. })));
}

#[tokio::test]
async fn a_password_kept_with_an_old_cost_is_hashed_anew_at_the_next_sign_in() {
    let house = House::of(settings(), Cost::USUAL).await;
    let cheap = crate::password::Hasher::new(Cost::LEAST);
    let old = cheap
        .hash(&crate::SecretText::new(PASSWORD.to_owned()))
        .await
        .unwrap();
    house.enter("root", Role::Admin).await;
    house.change("root", |user| user.password = Some(old)).await;
    house.log_in("root").await;
    let kept = house.user("root").password.clone().unwrap().0;
    assert!(
        kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
        "{kept}"
    );
    let before = house.access.stats().hashes;
    house.log_in("root").await;
    assert_eq!(house.access.stats().hashes, before + 1, "once");
}

#[tokio::test]
async fn a_change_of_settings_holds_at_once_and_nonsense_changes_nothing() {
    let house = House::new().await;
    let mut changed = settings();
    changed.min_password = 30;
    house.access.reconfigure(changed.clone()).unwrap();
    let user = model::User::new(model::UserName("jane".to_owned()), NOW);
    let weak = house
        .access
        .create_user(&By::system(), user, Some(PASSWORD), NOW)
        .await;
    assert!(matches!(weak, Err(AccessError::WeakPassword { .. })));
    changed.access_ttl = Duration::ZERO;
    let wrong = house.access.reconfigure(changed);
    assert!(matches!(wrong, Err(AccessError::Settings { .. })));
    house.log_in("root").await;
    assert_eq!(house.user("root").bindings, [everywhere(Role::Admin)]);
}

#[tokio::test]
async fn who_was_changed_since_the_caller_was_judged_is_not_reset() {
    let house = House::new().await;
    let jane = house.enter("jane", Role::Operator).await;
    let judged = Some(jane.revision);
    house
        .change("jane", |user| user.bindings = vec![everywhere(Role::Admin)])
        .await;
    let by = By::system();
    let access = &house.access;
    let mismatch = |error: AccessError| {
        matches!(
            error,
            AccessError::Store(WriteError::Refused(Refusal::RevisionMismatch { .. }))
        )
    };
    let before = access.stats().hashes;
    let reset = access.reset_password(&by, &jane.name, judged, NOW).await;
    assert!(mismatch(reset.unwrap_err()));
    assert_eq!(access.stats().hashes, before, "found out before any work");
    let removed = access.remove_totp(&by, &jane.name, judged, NOW).await;
    assert!(mismatch(removed.unwrap_err()));
    house.log_in("jane").await;
    let judged = Some(house.user("jane").revision);
    access
        .reset_password(&by, &jane.name, judged, NOW)
        .await
        .unwrap();
}

#[tokio::test]
async fn who_is_raised_while_the_password_is_made_is_not_reset() {
    // which takes far longer than the change
    let house = House::of(settings(), Cost::USUAL).await;
    house.enter("root", Role::Admin).await;
    let jane = house.enter("jane", Role::Operator).await;
    let by = By::system();
    let reset = house
        .access
        .reset_password(&by, &jane.name, Some(jane.revision), NOW);
    let raised = house.change("jane", |user| user.bindings = vec![everywhere(Role::Admin)]);
    let (reset, ()) = tokio::join!(reset, raised);
    assert!(reset.is_err());
    assert!(!house.user("jane").must_change_password);
}
