//! The first administrator.

use std::time::Duration;

use model::{By, Role, UserName};

use super::support::{House, NOW, PASSWORD, from};
use crate::AccessError;

fn jane() -> UserName {
    UserName("jane".to_owned())
}

#[tokio::test]
async fn a_link_makes_one_administrator_who_can_sign_in() {
    let house = House::empty().await;
    assert!(!house.access.is_set_up());
    let before = house.log_in_at("jane", PASSWORD, None, &from(1), NOW).await;
    assert!(matches!(before, Err(AccessError::NotSetUp)));
    let offer = house.access.offer_setup(NOW).unwrap();
    let token = offer.token.expose();
    let made = house
        .access
        .set_up(token, jane(), PASSWORD, &from(1), NOW)
        .await;
    assert!(made.unwrap().is_full_admin());
    assert!(house.access.is_set_up());
    assert_eq!(house.log_in("jane").await.user.name, jane());
    let again = house
        .access
        .set_up(token, jane(), PASSWORD, &from(1), NOW)
        .await;
    assert!(matches!(again, Err(AccessError::AlreadySetUp)));
    assert!(matches!(
        house.access.offer_setup(NOW),
        Err(AccessError::AlreadySetUp)
    ));
}

#[tokio::test]
async fn a_link_is_void_when_it_is_old_or_wrong_or_another_was_made() {
    let house = House::empty().await;
    let first = house.access.offer_setup(NOW).unwrap();
    let second = house.access.offer_setup(NOW).unwrap();
    let late = NOW.plus(Duration::from_mins(30));
    for (token, now) in [
        (first.token.expose(), NOW),
        (second.token.expose(), late),
        ("", NOW),
        ("guess", NOW),
    ] {
        let made = house
            .access
            .set_up(token, jane(), PASSWORD, &from(1), now)
            .await;
        assert!(matches!(made, Err(AccessError::SetupToken)), "{token}");
    }
    assert!(house.audited("setup.refused", "appliance").await);
    assert_eq!(second.expires, late);
    let made = house
        .access
        .set_up(second.token.expose(), jane(), PASSWORD, &from(1), NOW)
        .await;
    made.unwrap();
}

#[tokio::test]
async fn a_password_that_is_not_taken_leaves_the_link_good() {
    let house = House::empty().await;
    let offer = house.access.offer_setup(NOW).unwrap();
    let token = offer.token.expose();
    let weak = house
        .access
        .set_up(token, jane(), "password1234", &from(1), NOW)
        .await;
    assert!(matches!(weak, Err(AccessError::WeakPassword { .. })));
    house
        .access
        .set_up(token, jane(), PASSWORD, &from(1), NOW)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_people_with_the_same_link_one_becomes_administrator() {
    for _ in 0..20 {
        let house = House::empty().await;
        let offer = house.access.offer_setup(NOW).unwrap();
        let tries = ["jane", "john"].map(|name| {
            let (access, token) = (house.access.clone(), offer.token.clone());
            let name = UserName(name.to_owned());
            tokio::spawn(async move {
                access
                    .set_up(token.expose(), name, PASSWORD, &from(1), NOW)
                    .await
            })
        });
        let mut made = 0;
        for done in tries {
            match done.await.unwrap() {
                Ok(_) => made += 1,
                Err(error) => assert!(
                    matches!(error, AccessError::SetupToken | AccessError::AlreadySetUp),
                    "{error}"
                ),
            }
        }
        assert_eq!((made, house.store.people().users().count()), (1, 1));
    }
}

#[tokio::test]
async fn local_root_makes_the_first_administrator_without_a_link_and_only_the_first() {
    let house = House::empty().await;
    let by = By::system();
    let weak = house
        .access
        .first_admin(&by, jane(), "jane-sotp-2026", NOW)
        .await;
    assert!(matches!(weak, Err(AccessError::WeakPassword { .. })));
    let made = house
        .access
        .first_admin(&by, jane(), PASSWORD, NOW)
        .await
        .unwrap();
    assert_eq!(made.bindings[0].role, Role::Admin);
    let again = house.access.first_admin(&by, jane(), PASSWORD, NOW).await;
    assert!(matches!(again, Err(AccessError::AlreadySetUp)));
}
