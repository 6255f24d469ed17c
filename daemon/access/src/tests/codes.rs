//! Codes of an authenticator, and recovery codes.

use std::time::Duration;

use model::{By, Permission, Role, SecretName, Timestamp};

use super::support::{House, NOW, PASSWORD, from};
use crate::totp::code_at;
use crate::{AccessError, Caller, Restriction, SecretText};

impl House {
    fn code(&self, name: &str, now: Timestamp) -> String {
        let seed = self
            .secrets
            .expose(&SecretName(format!(".totp/{name}")))
            .unwrap();
        code_at(seed.expose(), now)
    }

    /// Sets codes up; takes the step of `now`.
    async fn with_codes(&self, caller: &Caller, now: Timestamp) -> Vec<SecretText> {
        let name = caller.user.as_ref().unwrap().name.0.clone();
        self.access
            .begin_totp(caller, Some(PASSWORD), now)
            .await
            .unwrap();
        let code = self.code(&name, now);
        self.access.confirm_totp(caller, &code, now).await.unwrap()
    }
}

const LATER: Timestamp = Timestamp(NOW.0 + 60_000);

#[tokio::test]
async fn with_codes_on_a_password_alone_does_not_let_in() {
    let house = House::new().await;
    let caller = house.caller(&house.log_in("root").await);
    let codes = house.with_codes(&caller, NOW).await;
    assert_eq!(codes.len(), 10);
    for code in [None, Some("")] {
        let answer = house
            .log_in_at("root", PASSWORD, code, &from(1), LATER)
            .await;
        assert!(matches!(answer, Err(AccessError::CodeNeeded)));
    }
    let code = house.code("root", LATER);
    let wrong = house
        .log_in_at("root", "wrong horse", Some(&code), &from(1), LATER)
        .await;
    assert!(matches!(wrong, Err(AccessError::Refused)));
    let guess = if code == "000000" { "000001" } else { "000000" };
    let wrong = house
        .log_in_at("root", PASSWORD, Some(guess), &from(1), LATER)
        .await;
    assert!(matches!(wrong, Err(AccessError::Refused)));
    let granted = house
        .log_in_at("root", PASSWORD, Some(&code), &from(1), LATER)
        .await
        .unwrap();
    let how = house.store.sessions()[&granted.session].how;
    assert_eq!(how, model::SignIn::PasswordAndTotp);
}

#[tokio::test]
async fn a_code_is_taken_once() {
    let house = House::new().await;
    let caller = house.caller(&house.log_in("root").await);
    house.with_codes(&caller, NOW).await;
    let used = house.code("root", NOW);
    let replayed = house
        .log_in_at("root", PASSWORD, Some(&used), &from(1), NOW)
        .await;
    assert!(
        matches!(replayed, Err(AccessError::Refused)),
        "the one that set it up"
    );
    let code = house.code("root", LATER);
    house
        .log_in_at("root", PASSWORD, Some(&code), &from(1), LATER)
        .await
        .unwrap();
    let replayed = house
        .log_in_at("root", PASSWORD, Some(&code), &from(1), LATER)
        .await;
    assert!(matches!(replayed, Err(AccessError::Refused)));
    let earlier = house.code("root", LATER.minus(Duration::from_secs(30)));
    let older = house
        .log_in_at("root", PASSWORD, Some(&earlier), &from(1), LATER)
        .await;
    assert!(
        matches!(older, Err(AccessError::Refused)),
        "nor one before it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_use_the_same_code_at_once_one_gets_in() {
    let house = std::sync::Arc::new(House::new().await);
    let caller = house.caller(&house.log_in("root").await);
    house.with_codes(&caller, NOW).await;
    let code = house.code("root", LATER);
    let tries: Vec<_> = (0..4)
        .map(|n| {
            let (house, code) = (house.clone(), code.clone());
            tokio::spawn(async move {
                house
                    .log_in_at("root", PASSWORD, Some(&code), &from(n), LATER)
                    .await
                    .is_ok()
            })
        })
        .collect();
    let mut inside = 0;
    for done in tries {
        inside += i32::from(done.await.unwrap());
    }
    assert_eq!(inside, 1);
}

#[tokio::test]
async fn a_recovery_code_lets_in_once() {
    let house = House::new().await;
    let caller = house.caller(&house.log_in("root").await);
    let codes = house.with_codes(&caller, NOW).await;
    let typed = codes[3].expose().to_uppercase().replace('-', " ");
    house
        .log_in_at("root", PASSWORD, Some(&typed), &from(1), LATER)
        .await
        .unwrap();
    let again = house
        .log_in_at("root", PASSWORD, Some(&typed), &from(1), LATER)
        .await;
    assert!(matches!(again, Err(AccessError::Refused)));
    let other = codes[4].expose();
    house
        .log_in_at("root", PASSWORD, Some(other), &from(1), LATER)
        .await
        .unwrap();
    assert_eq!(house.user("root").totp.as_ref().unwrap().recovery.len(), 8);
}

#[tokio::test]
async fn five_codes_may_be_tried_in_a_minute() {
    let house = House::new().await;
    let caller = house.caller(&house.log_in("root").await);
    house
        .access
        .begin_totp(&caller, Some(PASSWORD), NOW)
        .await
        .unwrap();
    let good = house.code("root", NOW);
    let guess = if good == "000000" { "000001" } else { "000000" };
    for _ in 0..5 {
        let wrong = house.access.confirm_totp(&caller, guess, NOW).await;
        assert!(matches!(wrong, Err(AccessError::Refused)));
    }
    let soon = house.access.confirm_totp(&caller, &good, NOW).await;
    assert!(matches!(soon, Err(AccessError::TooSoon { .. })));
    let good = house.code("root", LATER);
    house
        .access
        .confirm_totp(&caller, &good, LATER)
        .await
        .unwrap();
}

#[tokio::test]
async fn codes_are_demanded_only_after_the_first_one_was_right() {
    let house = House::new().await;
    let caller = house.caller(&house.log_in("root").await);
    let access = &house.access;
    let nothing = access.confirm_totp(&caller, "123456", NOW).await;
    assert!(matches!(nothing, Err(AccessError::TotpIsOff)));
    let first = access
        .begin_totp(&caller, Some(PASSWORD), NOW)
        .await
        .unwrap();
    house.log_in("root").await;
    let second = access
        .begin_totp(&caller, Some(PASSWORD), NOW)
        .await
        .unwrap();
    assert_ne!(first.secret, second.secret, "begun anew");
    let other = house.log_in("root").await;
    let code = house.code("root", NOW);
    access.confirm_totp(&caller, &code, NOW).await.unwrap();
    assert!(house.show(&other, NOW).is_err(), "other sessions end");
    let again = access.begin_totp(&caller, Some(PASSWORD), NOW).await;
    assert!(matches!(again, Err(AccessError::TotpIsOn)));
    assert!(house.audited("user.totp-on", "user:root").await);
    let all = format!("{:?}", house.audit().await);
    assert!(!all.contains(second.secret.expose()));
}

#[tokio::test]
async fn codes_go_by_the_password_or_by_an_administrator_and_the_seed_with_them() {
    let house = House::new().await;
    let caller = house.caller(&house.log_in("root").await);
    house.with_codes(&caller, NOW).await;
    let access = &house.access;
    let wrong = access.remove_own_totp(&caller, "wrong horse", NOW).await;
    assert!(matches!(wrong, Err(AccessError::Refused)));
    access
        .remove_own_totp(&caller, PASSWORD, NOW)
        .await
        .unwrap();
    let seed = SecretName(".totp/root".to_owned());
    assert!(house.secrets.expose(&seed).is_err(), "the seed is gone");
    house.with_codes(&caller, LATER).await;
    let root = house.user("root").name.clone();
    access
        .remove_totp(&By::system(), &root, None, LATER)
        .await
        .unwrap();
    let again = access.remove_totp(&By::system(), &root, None, LATER).await;
    assert!(matches!(again, Err(AccessError::TotpIsOff)));
    assert!(
        access
            .end_session(&By::system(), caller.session.as_ref().unwrap(), LATER)
            .await
            .is_err(),
        "their sessions ended"
    );
}

#[tokio::test]
async fn a_role_that_needs_codes_may_nothing_before_they_are_set_up() {
    let house = House::new().await;
    house.enter("jane", Role::Operator).await;
    let (root, jane) = (house.log_in("root").await, house.log_in("jane").await);
    house.demand_codes(&[Role::Admin]).await;
    let caller = house.caller(&root);
    assert_eq!(caller.restricted, Some(Restriction::MustEnrolTotp));
    assert!(
        caller.permissions().is_empty()
            && !caller.on_tenant(Permission::RulesRead, &"default".parse().unwrap())
    );
    assert!(!caller.may_give(&[super::support::everywhere(Role::ReadOnly)], &[].into()));
    assert_eq!(house.caller(&jane).restricted, None, "other roles do not");
    let granted = house.log_in("root").await;
    assert_eq!(granted.restricted, Some(Restriction::MustEnrolTotp));
    house.with_codes(&caller, NOW).await;
    let caller = house.caller(&root);
    assert_eq!(caller.restricted, None);
    assert!(caller.holds_everywhere(Permission::PolicyWrite));
}

#[tokio::test]
async fn a_borrowed_session_sets_up_no_authenticator_without_the_password() {
    let house = House::new().await;
    let caller = house.caller(&house.log_in("root").await);
    let access = &house.access;
    let nothing = access.begin_totp(&caller, None, NOW).await;
    assert!(matches!(nothing, Err(AccessError::NotAllowed { .. })));
    for _ in 0..5 {
        let wrong = access.begin_totp(&caller, Some("wrong horse"), NOW).await;
        assert!(matches!(wrong, Err(AccessError::Refused)));
    }
    assert_eq!(access.stats().refused, 5);
    assert!(house.audited("session.refused", "user:root").await);
    let before = access.stats().hashes;
    let soon = access.begin_totp(&caller, Some(PASSWORD), NOW).await;
    assert!(matches!(soon, Err(AccessError::TooSoon { .. })));
    assert_eq!(access.stats().hashes, before);
    assert_eq!(house.user("root").totp, None);
    access
        .begin_totp(&caller, Some(PASSWORD), LATER)
        .await
        .unwrap();
}

#[tokio::test]
async fn who_signed_in_just_now_and_has_to_set_codes_up_need_not_say_the_password_again() {
    let house = House::new().await;
    house.demand_codes(&[Role::Admin]).await;
    let granted = house.log_in("root").await;
    let caller = house.caller(&granted);
    let access = &house.access;
    let soon = NOW
        .plus(Duration::from_mins(10))
        .minus(Duration::from_secs(1));
    access.begin_totp(&caller, None, soon).await.unwrap();
    let later = NOW.plus(Duration::from_mins(10));
    let late = access.begin_totp(&caller, None, later).await;
    assert!(matches!(late, Err(AccessError::NotAllowed { .. })));
    // a certificate is no password that was just said
    let root = house.user("root");
    let restricted = caller.restricted;
    let certified = Caller::certificate(root, restricted, &from(1));
    let nothing = access.begin_totp(&certified, None, NOW).await;
    assert!(matches!(nothing, Err(AccessError::NotAllowed { .. })));
    // and who has no password has none to say
    house.enter("jane", Role::Operator).await;
    house.change("jane", |user| user.password = None).await;
    let jane = Caller::certificate(house.user("jane"), None, &from(1));
    access.begin_totp(&jane, None, NOW).await.unwrap();
}
