//! Secrets sealed in the store with a given key.

use std::time::Duration;

use model::{KeyId, KeyRing, SecretRecord};
use store::{MAX_SECRET_VERSIONS, Refusal, WriteError};

use super::support::{Home, NOW, by, embedded, name, open, state, value};
use crate::{MAX_VALUE_BYTES, SecretBytes, SecretsError, WrappingKey};

fn refusal(error: SecretsError) -> Refusal {
    match error {
        SecretsError::Store(WriteError::Refused(refusal)) => refusal,
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_secret_is_used_as_it_was_set_also_after_a_restart() {
    let (home, key) = (Home::new(), WrappingKey::generate());
    let bytes: Vec<u8> = (0..=255).collect();
    {
        let store = home.open();
        let secrets = open(&store, embedded(&key, &[])).await.unwrap();
        secrets.set("smtp", "hunter2").await.unwrap();
        let odd = SecretBytes::new(bytes.clone());
        let odd = secrets.put(by(), name(".totp/jane"), odd, None, None, NOW);
        odd.await.unwrap();
        store.close().unwrap();
    }
    let store = home.open();
    let secrets = open(&store, embedded(&key, &[])).await.unwrap();
    assert_eq!(secrets.shown("smtp").unwrap(), "hunter2");
    assert_eq!(secrets.expose(&name(".totp/jane")).unwrap().expose(), bytes);
    let fresh = secrets.expose_fresh(&name("smtp")).await.unwrap();
    assert_eq!(fresh.expose(), b"hunter2");
    let missing = secrets.shown("none").unwrap_err();
    assert!(
        matches!(missing, SecretsError::NoSuchSecret { .. }),
        "{missing}"
    );
}

#[tokio::test]
async fn earlier_values_are_kept_until_there_are_too_many() {
    let (home, key) = (Home::new(), WrappingKey::generate());
    let store = home.open();
    let secrets = open(&store, embedded(&key, &[])).await.unwrap();
    let versions = u32::try_from(MAX_SECRET_VERSIONS).unwrap() + 2;
    for version in 1..=versions {
        let record = secrets
            .set("smtp", &format!("value {version}"))
            .await
            .unwrap();
        assert_eq!(record.versions.last().unwrap().version, version);
        assert_eq!(record.versions.last().unwrap().created_by, "uid:0");
    }
    for version in 1..=versions {
        let shown = secrets.shown_version("smtp", version).await;
        match version {
            1 | 2 => assert!(matches!(shown, Err(SecretsError::NoSuchVersion { .. }))),
            _ => assert_eq!(shown.unwrap(), format!("value {version}")),
        }
    }
    assert_eq!(secrets.shown("smtp").unwrap(), format!("value {versions}"));
}

#[tokio::test]
async fn a_note_stays_until_another_is_given() {
    let (home, key) = (Home::new(), WrappingKey::generate());
    let store = home.open();
    let secrets = open(&store, embedded(&key, &[])).await.unwrap();
    let note = |text: &str| Some(text.to_owned());
    let put = async |note| {
        let put = secrets.put(by(), name("smtp"), value("x"), note, None, NOW);
        put.await.unwrap().note.clone()
    };
    assert_eq!(put(note("mail relay")).await, note("mail relay"));
    assert_eq!(put(None).await, note("mail relay"));
    assert_eq!(put(note("new relay")).await, note("new relay"));
    let long = Some("x".repeat(513));
    let refused = secrets.put(by(), name("smtp"), value("x"), long, None, NOW);
    assert!(matches!(refused.await, Err(SecretsError::BadValue { .. })));
}

#[tokio::test]
async fn whoever_saw_another_revision_changes_nothing() {
    let (home, key) = (Home::new(), WrappingKey::generate());
    let store = home.open();
    let secrets = open(&store, embedded(&key, &[])).await.unwrap();
    let put = async |expected| {
        let put = secrets.put(by(), name("smtp"), value("x"), None, expected, NOW);
        put.await.map(|record| record.revision)
    };
    assert!(matches!(
        refusal(put(Some(1)).await.unwrap_err()),
        Refusal::NoSuch { .. }
    ));
    assert_eq!(put(Some(0)).await.unwrap(), 1);
    assert!(matches!(
        refusal(put(Some(0)).await.unwrap_err()),
        Refusal::NameExists { .. }
    ));
    assert_eq!(put(Some(1)).await.unwrap(), 2);
    let refused = refusal(put(Some(1)).await.unwrap_err());
    assert_eq!(
        refused,
        Refusal::RevisionMismatch {
            expected: 1,
            found: 2
        }
    );
    let refused = secrets.delete(by(), &name("smtp"), Some(1), NOW).await;
    assert!(matches!(
        refusal(refused.unwrap_err()),
        Refusal::RevisionMismatch { .. }
    ));
    secrets
        .delete(by(), &name("smtp"), Some(2), NOW)
        .await
        .unwrap();
    assert!(matches!(
        secrets.shown("smtp"),
        Err(SecretsError::NoSuchSecret { .. })
    ));
}

#[tokio::test]
async fn many_who_set_a_secret_at_once_all_succeed() {
    let (home, key) = (Home::new(), WrappingKey::generate());
    let store = home.open();
    let secrets = open(&store, embedded(&key, &[])).await.unwrap();
    let mut all = tokio::task::JoinSet::new();
    for number in 0..4 {
        let secrets = secrets.clone();
        all.spawn(async move { secrets.set("smtp", &format!("{number}")).await });
    }
    let mut versions = Vec::new();
    while let Some(done) = all.join_next().await {
        versions.push(done.unwrap().unwrap().versions.last().unwrap().version);
    }
    versions.sort_unstable();
    assert_eq!(versions, [1, 2, 3, 4]);
    for version in 1..=4 {
        secrets.shown_version("smtp", version).await.unwrap();
    }
}

#[tokio::test]
async fn bad_names_and_values_are_refused() {
    let (home, key) = (Home::new(), WrappingKey::generate());
    let store = home.open();
    let secrets = open(&store, embedded(&key, &[])).await.unwrap();
    let long = "x".repeat(257);
    for bad in [
        "", "a/b/c", "/a", "a/", "../a", "a/..", ".", "a\0b", "a\nb", &long,
    ] {
        let refused = secrets.set(bad, "x").await.unwrap_err();
        assert!(
            matches!(refused, SecretsError::BadName { .. }),
            "{bad:?}: {refused}"
        );
    }
    // the store knows the tenants
    let refused = refusal(secrets.set("nobody/smtp", "x").await.unwrap_err());
    assert!(matches!(refused, Refusal::NoSuchTenant { .. }), "{refused}");
    for bad in [Vec::new(), vec![0; MAX_VALUE_BYTES + 1]] {
        let put = secrets.put(by(), name("smtp"), SecretBytes::new(bad), None, None, NOW);
        let refused = put.await.unwrap_err();
        assert!(
            matches!(refused, SecretsError::BadValue { .. }),
            "{refused}"
        );
    }
    assert_eq!(store.secrets().len(), 0);
}

#[tokio::test]
async fn as_many_of_the_longest_values_fit_as_are_kept() {
    let (home, key) = (Home::new(), WrappingKey::generate());
    let store = home.open();
    let secrets = open(&store, embedded(&key, &[])).await.unwrap();
    let note = Some("x".repeat(512));
    for _ in 0..MAX_SECRET_VERSIONS + 2 {
        let value = SecretBytes::new(vec![7; MAX_VALUE_BYTES]);
        let put = secrets.put(by(), name("big"), value, note.clone(), None, NOW);
        put.await.unwrap();
    }
}

#[tokio::test]
async fn a_wrong_key_opens_nothing_and_changes_nothing() {
    let (home, key) = (Home::new(), WrappingKey::generate());
    let before = {
        let store = home.open();
        let secrets = open(&store, embedded(&key, &[])).await.unwrap();
        secrets.set("smtp", "hunter2").await.unwrap();
        let before = state(&store);
        store.close().unwrap();
        before
    };
    let other = WrappingKey::generate();
    let store = home.open();
    let refused = open(&store, embedded(&other, &[])).await.unwrap_err();
    let SecretsError::WrongKey { needed, given } = &refused else {
        panic!("{refused}");
    };
    assert_eq!((needed, given), (&vec![key.id()], &vec![other.id()]));
    assert!(refused.to_string().contains(&key.id().0), "{refused}");
    assert_eq!(state(&store), before);
    // with the right one everything is there
    let secrets = open(&store, embedded(&other, &[&key])).await.unwrap();
    assert_eq!(secrets.shown("smtp").unwrap(), "hunter2");
    assert_eq!(secrets.status().active_key, Some(key.id()));
    assert_eq!(state(&store), before);
}

#[tokio::test]
async fn a_wrong_key_is_refused_also_before_the_first_secret() {
    let (home, key) = (Home::new(), WrappingKey::generate());
    let store = home.open();
    open(&store, embedded(&key, &[])).await.unwrap();
    let before = state(&store);
    assert_eq!(before.0.keys.len(), 1);
    let refused = open(&store, embedded(&WrappingKey::generate(), &[])).await;
    assert!(matches!(refused, Err(SecretsError::WrongKey { .. })));
    assert_eq!(state(&store), before);
}

#[tokio::test]
async fn a_key_that_has_the_name_of_the_right_one_is_found_out() {
    let (home, key) = (Home::new(), WrappingKey::generate());
    let store = home.open();
    open(&store, embedded(&key, &[])).await.unwrap();
    // a ring whose check was made with another key under this name
    let ring = KeyRing::clone(&store.key_ring());
    let other = home.after_a_crash().open();
    let mut forged = ring.clone();
    forged.keys[0].check.text[0] ^= 1;
    other
        .put_key_ring(by(), forged, ring.revision, NOW)
        .await
        .unwrap();
    let refused = open(&other, embedded(&key, &[])).await;
    assert!(matches!(refused, Err(SecretsError::WrongKey { .. })));
}

#[tokio::test]
async fn a_value_that_was_moved_in_the_store_is_refused_by_name() {
    let (home, key) = (Home::new(), WrappingKey::generate());
    let store = home.open();
    let secrets = open(&store, embedded(&key, &[])).await.unwrap();
    let from = secrets.set("harmless", "hunter2").await.unwrap();
    let moved = SecretRecord {
        name: name("smtp"),
        revision: 0,
        ..(*from).clone()
    };
    store.put_secret(by(), moved, Some(0), NOW).await.unwrap();
    let refused = secrets.shown("smtp").unwrap_err();
    assert!(
        matches!(refused, SecretsError::Damaged { version: 1, .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("smtp"), "{refused}");
    let mut renumbered = (*from).clone();
    renumbered.versions[0].version = 2;
    store.put_secret(by(), renumbered, None, NOW).await.unwrap();
    let refused = secrets.shown("harmless").unwrap_err();
    assert!(
        matches!(refused, SecretsError::Damaged { version: 2, .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn a_sealed_record_is_put_with_something_else_and_used_from_then_on() {
    let (home, key) = (Home::new(), WrappingKey::generate());
    let store = home.open();
    let secrets = open(&store, embedded(&key, &[])).await.unwrap();
    let seal = async |text: &str| {
        let (name, value) = (name("credential.campus"), value(text));
        secrets
            .seal_record(&name, &value, "user:jane", NOW)
            .await
            .unwrap()
    };
    let first = seal("one").await;
    assert_eq!((first.revision, first.versions[0].version), (0, 1));
    assert!(matches!(
        secrets.shown("credential.campus"),
        Err(SecretsError::NoSuchSecret { .. })
    ));
    let seen = first.revision;
    store
        .put_secret(by(), first, Some(seen), NOW)
        .await
        .unwrap();
    let second = seal("two").await;
    assert_eq!((second.revision, second.versions[1].version), (1, 2));
    assert_eq!(secrets.shown("credential.campus").unwrap(), "one");
    let seen = second.revision;
    store
        .put_secret(by(), second, Some(seen), NOW)
        .await
        .unwrap();
    assert_eq!(secrets.shown("credential.campus").unwrap(), "two");
}

fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

#[tokio::test]
async fn nothing_of_a_value_is_in_the_stores_file() {
    let (home, key, next) = (
        Home::new(),
        WrappingKey::generate(),
        WrappingKey::generate(),
    );
    let store = home.open();
    let secrets = open(&store, embedded(&key, &[])).await.unwrap();
    let canary = "canary-9c5f3628-in-a-coal-mine";
    let note = Some("a-note-in-plain".to_owned());
    let put = secrets.put(by(), name("smtp"), value(canary), note, None, NOW);
    put.await.unwrap();
    secrets
        .set("smtp", &format!("{canary} again"))
        .await
        .unwrap();
    secrets
        .rotate_key(by(), Some(next.clone()), NOW)
        .await
        .unwrap();
    secrets.set(".totp/jane", canary).await.unwrap();
    secrets
        .delete(by(), &name("smtp"), None, NOW)
        .await
        .unwrap();
    store.close().unwrap();
    let bytes = home.bytes();
    assert!(holds(&bytes, b"a-note-in-plain"), "what is plain is found");
    assert!(!holds(&bytes, canary.as_bytes()));
    assert!(!holds(&bytes, &canary.as_bytes()[7..20]));
    for key in [&key, &next] {
        assert!(!holds(&bytes, &key.bytes()[..8]));
        assert!(!holds(&bytes, key.to_text().as_bytes()));
    }
}

#[tokio::test]
async fn status_and_ages_tell_of_everything_but_values() {
    let (home, key) = (Home::new(), WrappingKey::generate());
    let store = home.open();
    let secrets = open(&store, embedded(&key, &[])).await.unwrap();
    let status = secrets.status();
    assert_eq!(
        (status.values, status.wrap, status.secrets),
        ("embedded", "key", 0)
    );
    let later = NOW.plus(Duration::from_secs(60));
    secrets.set(".totp/jane", "canary").await.unwrap();
    secrets.set("old", "canary").await.unwrap();
    for _ in 0..2 {
        let put = secrets.put(by(), name("new"), value("canary"), None, None, later);
        put.await.unwrap();
    }
    let status = secrets.status();
    assert_eq!(status.active_key, Some(key.id()));
    let keys: Vec<(KeyId, usize, bool)> = status
        .keys
        .iter()
        .map(|key| (key.id.clone(), key.sealed, key.active))
        .collect();
    assert_eq!(keys, [(key.id(), 4, true)]);
    assert_eq!(
        (status.secrets, status.in_vault, &status.vault),
        (3, 0, &None)
    );
    assert_eq!(status.oldest, Some((name("old"), NOW)));
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let ages = secrets.ages(later.plus(minutes(1)));
    assert_eq!(ages, [(name("new"), minutes(1)), (name("old"), minutes(2))]);
    assert!(!format!("{status:?} {secrets:?}").contains("canary"));
}
