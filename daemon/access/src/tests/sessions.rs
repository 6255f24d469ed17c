//! Sessions: refreshed, stolen, ended.

use std::time::{Duration, Instant};

use model::{By, Digest, Permission, Role, SessionId, SessionRecord, SignIn, UserName};

use super::support::{House, NOW, everywhere, from};
use crate::{AccessError, Granted, Shown};

#[tokio::test]
async fn a_refresh_token_is_exchanged_once_for_the_next_one() {
    let house = House::new().await;
    let first = house.log_in("root").await;
    let mut token = first.refresh_token.clone().unwrap();
    let mut now = NOW;
    for _ in 0..5 {
        now = now.plus(Duration::from_hours(23));
        let next = house
            .access
            .refresh(token.expose(), &from(2), now)
            .await
            .unwrap();
        assert_eq!(next.session, first.session);
        assert_eq!(house.show(&next, now).unwrap().user.unwrap().name.0, "root");
        token = next.refresh_token.unwrap();
    }
    assert!(house.show(&first, now).is_err());
}

#[tokio::test]
async fn a_refresh_token_that_is_used_twice_ends_the_whole_session() {
    let house = House::new().await;
    let first = house.log_in("root").await;
    let stolen = first.refresh_token.clone().unwrap();
    let theirs = house
        .access
        .refresh(stolen.expose(), &from(2), NOW)
        .await
        .unwrap();
    let later = NOW.plus(Duration::from_secs(11));
    let again = house.access.refresh(stolen.expose(), &from(1), later).await;
    assert!(matches!(again, Err(AccessError::Reused)));
    for granted in [&first, &theirs] {
        assert!(matches!(
            house.show(granted, later),
            Err(AccessError::Revoked)
        ));
    }
    let next = theirs.refresh_token.unwrap();
    let gone = house.access.refresh(next.expose(), &from(2), later).await;
    assert!(matches!(gone, Err(AccessError::Revoked)));
    assert_eq!(house.access.stats().reused, 1);
    assert!(house.audited("session.reuse", "session:").await);
    assert!(house.store.sessions().is_empty());
}

#[tokio::test]
async fn an_older_refresh_token_of_the_session_ends_it_even_at_once() {
    let house = House::new().await;
    let first = house.log_in("root").await.refresh_token.unwrap();
    let second = house
        .access
        .refresh(first.expose(), &from(1), NOW)
        .await
        .unwrap();
    let second = second.refresh_token.unwrap();
    house
        .access
        .refresh(second.expose(), &from(1), NOW)
        .await
        .unwrap();
    let old = house.access.refresh(first.expose(), &from(1), NOW).await;
    assert!(matches!(old, Err(AccessError::Reused)));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_that_refresh_at_once_both_stay_in() {
    let house = House::new().await;
    let granted = house.log_in("root").await;
    let token = granted.refresh_token.clone().unwrap();
    let tabs: Vec<_> = (0..8)
        .map(|_| {
            let (access, token) = (house.access.clone(), token.clone());
            tokio::spawn(async move { access.refresh(token.expose(), &from(1), NOW).await })
        })
        .collect();
    let mut next = Vec::new();
    for tab in tabs {
        let answer = tab.await.unwrap().unwrap();
        assert!(house.show(&answer, NOW).is_ok());
        next.extend(answer.refresh_token);
    }
    assert_eq!(next.len(), 1, "one of them gets the next token");
    house
        .access
        .refresh(next[0].expose(), &from(1), NOW)
        .await
        .unwrap();
}

#[tokio::test]
async fn who_knows_a_sessions_number_cannot_end_it_with_a_made_up_token() {
    let house = House::new().await;
    let granted = house.log_in("root").await;
    let other = house.log_in("root").await.refresh_token.unwrap();
    let text = granted.refresh_token.as_ref().unwrap().expose();
    let id = &granted.session.0;
    let mut family = text.to_owned();
    family.replace_range(6..7, if &family[6..7] == "A" { "B" } else { "A" });
    for made_up in [
        format!("sotpr_{id}{}", &text[38..]),
        format!("sotpr_{id}{id}"),
        family,
        "sotpr_".to_owned(),
        String::new(),
    ] {
        let answer = house.access.refresh(&made_up, &from(1), NOW).await;
        let refused = matches!(
            answer,
            Err(AccessError::BadToken { .. } | AccessError::Revoked)
        );
        assert!(refused, "{made_up}");
    }
    assert!(house.show(&granted, NOW).is_ok());
    house
        .access
        .refresh(other.expose(), &from(1), NOW)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_session_ends_when_it_is_idle_and_in_any_case_after_a_month() {
    let house = House::new().await;
    let idle = house.log_in("root").await;
    let later = NOW.plus(Duration::from_hours(24));
    let token = idle.refresh_token.clone().unwrap();
    let answer = house.access.refresh(token.expose(), &from(1), later).await;
    assert!(matches!(answer, Err(AccessError::Expired)));
    let gone = house.access.refresh(token.expose(), &from(1), NOW).await;
    assert!(matches!(gone, Err(AccessError::Revoked)));

    let mut granted = house.log_in("root").await;
    let mut now = NOW;
    for _ in 0..30 {
        now = now.plus(Duration::from_hours(23) + Duration::from_mins(59));
        let token = granted.refresh_token.take().unwrap();
        granted = house
            .access
            .refresh(token.expose(), &from(1), now)
            .await
            .unwrap();
    }
    let last = NOW
        .plus(Duration::from_hours(30 * 24))
        .minus(Duration::from_mins(1));
    let token = granted.refresh_token.take().unwrap();
    let granted = house
        .access
        .refresh(token.expose(), &from(1), last)
        .await
        .unwrap();
    assert_eq!(
        granted.expires_in,
        Duration::from_mins(1),
        "no longer than its session"
    );
    let over = last.plus(Duration::from_mins(1));
    let token = granted.refresh_token.clone().unwrap();
    let answer = house.access.refresh(token.expose(), &from(1), over).await;
    assert!(matches!(answer, Err(AccessError::Expired)));
}

#[tokio::test]
async fn idle_sessions_are_ended_without_anybody_asking() {
    let house = House::new().await;
    let (old, young) = (house.log_in("root").await, house.log_in("root").await);
    let hour = NOW.plus(Duration::from_hours(1));
    let token = young.refresh_token.clone().unwrap();
    house
        .access
        .refresh(token.expose(), &from(1), hour)
        .await
        .unwrap();
    let day = NOW.plus(Duration::from_hours(24));
    assert_eq!(house.access.end_idle_sessions(day).await.unwrap(), 1);
    let left = house.store.sessions();
    assert!(!left.contains_key(&old.session) && left.contains_key(&young.session));
}

#[tokio::test]
async fn a_sign_out_holds_from_the_next_request_on() {
    let house = House::new().await;
    let (one, other) = (house.log_in("root").await, house.log_in("root").await);
    let by = house.caller(&one).by("req-2");
    house
        .access
        .end_session(&by, &one.session, NOW)
        .await
        .unwrap();
    assert!(matches!(house.show(&one, NOW), Err(AccessError::Revoked)));
    assert!(house.show(&other, NOW).is_ok());
    let token = one.refresh_token.unwrap();
    let answer = house.access.refresh(token.expose(), &from(1), NOW).await;
    assert!(matches!(answer, Err(AccessError::Revoked)));
    let again = house.access.end_session(&by, &one.session, NOW).await;
    assert!(matches!(again, Err(AccessError::NotFound { .. })));
    let name = UserName("root".to_owned());
    let ended = house
        .access
        .end_sessions_of(&by, &name, Some(&other.session), NOW)
        .await;
    assert_eq!(ended.unwrap(), 0);
    let ended = house.access.end_sessions_of(&by, &name, None, NOW).await;
    assert_eq!(ended.unwrap(), 1);
    assert!(house.show(&other, NOW).is_err());
}

#[tokio::test]
async fn a_change_of_roles_holds_from_the_next_request_on() {
    let house = House::new().await;
    house.enter("jane", Role::Operator).await;
    let granted = house.log_in("jane").await;
    assert!(house.caller(&granted).holds(Permission::DevicesWrite));
    house
        .change("jane", |user| {
            user.bindings = vec![everywhere(Role::ReadOnly)];
        })
        .await;
    let caller = house.caller(&granted);
    assert!(!caller.holds(Permission::DevicesWrite) && caller.holds(Permission::DevicesRead));
    house
        .change("jane", |user| user.bindings = vec![everywhere(Role::Admin)])
        .await;
    assert!(
        house
            .caller(&granted)
            .holds_everywhere(Permission::UsersWrite)
    );
}

#[tokio::test]
async fn who_is_deactivated_or_deleted_is_out_from_the_next_request_on() {
    let house = House::new().await;
    house.enter("jane", Role::Operator).await;
    let granted = house.log_in("jane").await;
    house.change("jane", |user| user.active = false).await;
    assert!(matches!(
        house.show(&granted, NOW),
        Err(AccessError::Revoked)
    ));
    house.change("jane", |user| user.active = true).await;
    assert!(
        house.show(&granted, NOW).is_err(),
        "a session does not come back"
    );

    let granted = house.log_in("jane").await;
    let by = By::system();
    let jane = UserName("jane".to_owned());
    house
        .store
        .delete_user(&by, &jane, None, NOW)
        .await
        .unwrap();
    assert!(matches!(
        house.show(&granted, NOW),
        Err(AccessError::Revoked)
    ));
    house.enter("jane", Role::Admin).await;
    assert!(
        house.show(&granted, NOW).is_err(),
        "somebody else of that name"
    );
    let token = granted.refresh_token.unwrap();
    let answer = house.access.refresh(token.expose(), &from(1), NOW).await;
    assert!(matches!(answer, Err(AccessError::Revoked)));
}

/// The shortest time that a request took: what else the machine does makes
/// some longer.
fn fastest(house: &House, granted: &Granted) -> Duration {
    let once = |_| {
        let begun = Instant::now();
        house.caller(granted);
        begun.elapsed()
    };
    (0..100).map(once).min().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_10_000_sessions_a_request_is_still_answered_from_memory() {
    let house = House::new().await;
    let first = house.log_in("root").await;
    let alone = fastest(&house, &first);
    house
        .access
        .end_session(&By::system(), &first.session, NOW)
        .await
        .unwrap();
    for n in 0..200 {
        let user = model::User::new(UserName(format!("user{n}")), NOW);
        house
            .store
            .create_user(&By::system(), user, NOW)
            .await
            .unwrap();
    }
    let opened: Vec<_> = (0..9_999_u32)
        .map(|n| {
            let store = house.store.clone();
            tokio::spawn(async move {
                let session = SessionRecord {
                    id: SessionId(format!("{n:032x}")),
                    user: UserName(format!("user{}", n % 200)),
                    how: SignIn::Password,
                    origin: "10.0.0.1".to_owned(),
                    agent: None,
                    created: NOW,
                    used: NOW,
                    expires: NOW.plus(Duration::from_hours(1)),
                    refresh: Digest([0; 32]),
                    previous: None,
                };
                store.create_session(session, NOW).await
            })
        })
        .collect();
    for done in opened {
        done.await.unwrap().unwrap();
    }
    let granted = house.log_in("root").await;
    assert_eq!(house.access.stats().sessions, 10_000);
    let crowded = fastest(&house, &granted);
    assert!(
        crowded < alone * 3,
        "{alone:?} alone, {crowded:?} with 10,000"
    );
    let more = house
        .log_in_at("root", super::support::PASSWORD, None, &from(2), NOW)
        .await;
    assert!(
        matches!(more, Err(AccessError::Store(_))),
        "one more is one too many"
    );
    assert!(house.show(&granted, NOW).is_ok());
}

#[tokio::test]
async fn who_shows_nothing_is_nobody_and_may_nothing() {
    let house = House::new().await;
    let nobody = house
        .access
        .authenticate(Shown::Nothing, &from(1), NOW)
        .unwrap();
    assert!(nobody.is_anonymous() && nobody.permissions().is_empty());
    assert_eq!(nobody.rate_key(), "address:10.0.0.1");
    for text in ["", "x", "sotp_", "a.b.c", "Bearer", "sotpr_abc"] {
        let shown = Shown::Bearer(text);
        let answer = house.access.authenticate(shown, &from(1), NOW);
        assert!(
            matches!(answer, Err(AccessError::BadToken { .. })),
            "{text}"
        );
    }
}

#[tokio::test]
async fn root_and_the_daemon_itself_may_everything_and_the_sockets_group_what_is_set() {
    let house = House::new().await;
    let own = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    let local = crate::Origin::default();
    for (uid, role) in [
        (0, Role::Admin),
        (own, Role::Admin),
        (54_321, Role::Operator),
    ] {
        let caller = house
            .access
            .authenticate(Shown::Local(uid), &local, NOW)
            .unwrap();
        assert_eq!(caller.bindings(), [everywhere(role)]);
        assert_eq!(
            (caller.origin.as_str(), caller.rate_key()),
            ("socket", format!("uid:{uid}"))
        );
    }
}
