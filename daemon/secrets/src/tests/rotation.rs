//! The wrapping key is changed, and that is interrupted everywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model::KeyId;
use store::Store;

use super::support::{Home, NOW, by, embedded, name, open, state, until};
use crate::ring::{Wrapper, keys_in_use};
use crate::rotate::Step;
use crate::{Rotation, Secrets, SecretsError, WrappingKey};

/// Secrets of a story.
const SECRETS: usize = 7;

/// Two keys and secrets with two versions each.
struct Story {
    home: Home,
    old: WrappingKey,
    new: WrappingKey,
}

impl Story {
    async fn begin() -> (Story, Store, Secrets) {
        let story = Story {
            home: Home::new(),
            old: WrappingKey::generate(),
            new: WrappingKey::generate(),
        };
        let store = story.home.open();
        let secrets = open(&store, embedded(&story.old, &[])).await.unwrap();
        for number in 0..SECRETS {
            secrets
                .set(&format!("secret{number}"), "before")
                .await
                .unwrap();
            secrets
                .set(&format!("secret{number}"), &format!("value {number}"))
                .await
                .unwrap();
        }
        (story, store, secrets)
    }

    async fn check(secrets: &Secrets) {
        for number in 0..SECRETS {
            let name = format!("secret{number}");
            assert_eq!(secrets.shown(&name).unwrap(), format!("value {number}"));
            assert_eq!(secrets.shown_version(&name, 1).await.unwrap(), "before");
        }
    }
}

fn ring_of(store: &Store) -> Vec<KeyId> {
    let ring = store.key_ring();
    ring.keys.iter().map(|info| info.id.clone()).collect()
}

#[tokio::test]
async fn after_a_rotation_the_new_key_alone_is_needed() {
    let (story, store, secrets) = Story::begin().await;
    let revisions = |store: &Store| -> Vec<u64> {
        let records = store.secrets();
        records.iter().map(|record| record.revision).collect()
    };
    let before = revisions(&store);
    let done = secrets
        .rotate_key(by(), Some(story.new.clone()), NOW)
        .await
        .unwrap();
    assert_eq!(
        done,
        Rotation {
            dropped: vec![story.old.id()],
            active: story.new.id(),
            rewrapped: SECRETS,
        }
    );
    assert_eq!(revisions(&store), before, "values are the same");
    let Wrapper::Keys(keys) = &secrets.inner.wrapper else {
        panic!("a key was given");
    };
    assert_eq!(keys.ids(), [story.new.id()], "the old one is forgotten");
    Story::check(&secrets).await;
    secrets
        .set("later", "sealed with the new one")
        .await
        .unwrap();
    drop(secrets);
    store.close().unwrap();
    let store = story.home.open();
    let refused = open(&store, embedded(&story.old, &[])).await;
    assert!(matches!(refused, Err(SecretsError::WrongKey { .. })));
    // also before the files are exchanged
    for settings in [
        embedded(&story.new, &[]),
        embedded(&story.old, &[&story.new]),
    ] {
        let secrets = open(&store, settings).await.unwrap();
        Story::check(&secrets).await;
        assert_eq!(secrets.status().active_key, Some(story.new.id()));
        assert_eq!(secrets.shown("later").unwrap(), "sealed with the new one");
    }
}

#[tokio::test]
async fn a_rotation_without_a_sense_is_refused_and_changes_nothing() {
    let (story, store, secrets) = Story::begin().await;
    let before = state(&store);
    let refused = secrets.rotate_key(by(), None, NOW).await.unwrap_err();
    assert!(matches!(refused, SecretsError::NoNewKey), "{refused}");
    let refused = secrets
        .rotate_key(by(), Some(story.old.clone()), NOW)
        .await
        .unwrap_err();
    assert!(matches!(refused, SecretsError::SameKey { .. }), "{refused}");
    assert_eq!(state(&store), before);
}

#[tokio::test]
async fn a_rotation_that_is_done_is_done_when_it_is_asked_for_again() {
    let (story, store, secrets) = Story::begin().await;
    secrets
        .rotate_key(by(), Some(story.new.clone()), NOW)
        .await
        .unwrap();
    let before = state(&store);
    let again = secrets
        .rotate_key(by(), Some(story.new.clone()), NOW)
        .await
        .unwrap();
    assert_eq!(
        (again.dropped, again.active, again.rewrapped),
        (Vec::new(), story.new.id(), 0)
    );
    assert_eq!(state(&store), before);
    // and back
    secrets
        .rotate_key(by(), Some(story.old.clone()), NOW)
        .await
        .unwrap();
    Story::check(&secrets).await;
    assert_eq!(ring_of(&store), [story.old.id()]);
}

#[tokio::test]
async fn values_are_set_and_read_while_the_key_is_changed() {
    let (story, store, secrets) = Story::begin().await;
    for number in 0..300 {
        secrets.set(&format!("bulk{number}"), "bulk").await.unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (writer, stopped) = (secrets.clone(), stop.clone());
    let writing = tokio::spawn(async move {
        let mut round = 0;
        while !stopped.load(Ordering::SeqCst) {
            round += 1;
            for number in (0..300).step_by(37) {
                let (name, text) = (format!("bulk{number}"), format!("round {round}"));
                writer.set(&name, &text).await.unwrap();
                assert_eq!(writer.shown(&name).unwrap(), text);
            }
        }
        round
    });
    for key in [&story.new, &WrappingKey::generate(), &story.old] {
        secrets
            .rotate_key(by(), Some(key.clone()), NOW)
            .await
            .unwrap();
        assert_eq!(ring_of(&store), [key.id()]);
        assert_eq!(
            keys_in_use(&store.secrets())
                .into_iter()
                .collect::<Vec<KeyId>>(),
            [key.id()]
        );
        Story::check(&secrets).await;
    }
    stop.store(true, Ordering::SeqCst);
    let rounds = writing.await.unwrap();
    assert_eq!(secrets.shown("bulk0").unwrap(), format!("round {rounds}"));
    assert_eq!(secrets.shown("bulk1").unwrap(), "bulk");
}

/// Opens what a crash left with each set of keys that somebody may have then.
async fn check_crash(story: &Story, at: &str) {
    let crashed = story.home.after_a_crash();
    let in_use = keys_in_use(&crashed.open().secrets());
    let (old, new) = (&story.old, &story.new);
    // one key: where the other one is not needed
    for (has, lacks) in [(old, new), (new, old)] {
        let store = story.home.after_a_crash().open();
        let before = state(&store);
        let is_known = ring_of(&store).contains(&has.id());
        match open(&store, embedded(has, &[])).await {
            Ok(secrets) => {
                assert!(is_known && !in_use.contains(&lacks.id()), "{at}");
                secrets.finish_rotation(by(), NOW).await.unwrap();
                Story::check(&secrets).await;
                assert_eq!(ring_of(&store), [has.id()], "{at}");
            }
            Err(SecretsError::WrongKey { needed, .. }) => {
                assert!(!is_known || in_use.contains(&lacks.id()), "{at}");
                assert_eq!(needed, [lacks.id()], "{at}");
                assert_eq!(state(&store), before, "{at}");
            }
            Err(error) => panic!("{at}: {error}"),
        }
    }
    // both keys, in either file: it goes on by itself
    for (active, other) in [(old, new), (new, old)] {
        let store = story.home.after_a_crash().open();
        let secrets = open(&store, embedded(active, &[other])).await.unwrap();
        Story::check(&secrets).await;
        let before = ring_of(&store);
        let running = secrets.running();
        let ring = until(|| ring_of(&store), |ring| ring.len() == 1).await;
        running.stop().await;
        assert_eq!(ring.first(), before.last(), "{at}");
        Story::check(&secrets).await;
        let in_use = keys_in_use(&store.secrets());
        assert_eq!(in_use.into_iter().collect::<Vec<KeyId>>(), ring, "{at}");
    }
}

#[tokio::test]
async fn a_crash_at_any_step_leaves_a_store_that_opens_and_goes_on() {
    let (story, store, secrets) = Story::begin().await;
    let Wrapper::Keys(keys) = &secrets.inner.wrapper else {
        panic!("a key was given");
    };
    check_crash(&story, "before").await;
    let begun = secrets.begin_with_key(keys, by(), Some(story.new.clone()), NOW);
    begun.await.unwrap();
    assert_eq!(ring_of(&store), [story.old.id(), story.new.id()]);
    check_crash(&story, "after the first step").await;
    let mut batches = 0;
    while let Step::Some(count, damaged) = secrets.rewrap_some(2, &[], NOW).await.unwrap() {
        assert!((1..=2).contains(&count) && damaged.is_empty());
        batches += 1;
        check_crash(&story, &format!("after batch {batches}")).await;
    }
    assert_eq!(batches, SECRETS.div_ceil(2));
    // with somebody else's key nothing opens at all
    let crashed = story.home.after_a_crash().open();
    let foreign = embedded(&WrappingKey::generate(), &[]);
    let refused = open(&crashed, foreign).await;
    assert!(matches!(refused, Err(SecretsError::WrongKey { .. })));
    secrets.drop_keys(by(), NOW).await.unwrap();
    assert_eq!(ring_of(&store), [story.new.id()]);
    check_crash(&story, "after the last step").await;
}

#[tokio::test]
async fn an_unfinished_rotation_goes_on_when_it_is_asked_for_and_admits_no_other() {
    let (story, store, secrets) = Story::begin().await;
    let Wrapper::Keys(keys) = &secrets.inner.wrapper else {
        panic!("a key was given");
    };
    let begun = secrets.begin_with_key(keys, by(), Some(story.new.clone()), NOW);
    begun.await.unwrap();
    secrets.rewrap_some(2, &[], NOW).await.unwrap();
    let other = Some(WrappingKey::generate());
    let refused = secrets.rotate_key(by(), other, NOW).await.unwrap_err();
    assert!(
        matches!(refused, SecretsError::RotationRunning { .. }),
        "{refused}"
    );
    let done = secrets.rotate_key(by(), None, NOW).await.unwrap();
    assert_eq!((done.active, done.rewrapped), (story.new.id(), SECRETS - 2));
    assert_eq!(ring_of(&store), [story.new.id()]);
    Story::check(&secrets).await;
}

#[tokio::test]
async fn a_damaged_value_is_named_and_keeps_the_old_key_in_the_ring() {
    let (story, store, secrets) = Story::begin().await;
    let mut damaged = (*store.secret(&name("secret3")).unwrap()).clone();
    let mut version = damaged.versions[1].clone();
    version.version = 3;
    damaged.versions.push(version);
    store.put_secret(by(), damaged, None, NOW).await.unwrap();
    let refused = secrets
        .rotate_key(by(), Some(story.new.clone()), NOW)
        .await
        .unwrap_err();
    let SecretsError::Damaged { name: which, .. } = &refused else {
        panic!("{refused}");
    };
    assert_eq!(*which, name("secret3"));
    assert_eq!(ring_of(&store), [story.old.id(), story.new.id()]);
    assert_eq!(
        secrets.shown_version("secret3", 2).await.unwrap(),
        "value 3"
    );
    // the others are done; without the damaged one it ends
    secrets
        .delete(by(), &name("secret3"), None, NOW)
        .await
        .unwrap();
    let done = secrets.rotate_key(by(), None, NOW).await.unwrap();
    assert_eq!((done.rewrapped, ring_of(&store)), (0, vec![story.new.id()]));
}
