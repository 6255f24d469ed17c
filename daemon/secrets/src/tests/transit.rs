//! Values in the store, their keys wrapped by a real OpenBao.

use hyper::Method;
use model::KeyId;
use serde_json::json;
use store::Store;

use super::bao::Bao;
use super::support::{Home, NOW, by, embedded, open, state, until};
use crate::ring::{Wrapper, keys_in_use};
use crate::{Secrets, SecretsError, SecretsSettings, Values, Wrap, WrappingKey};

const V1: &str = "transit/transit/sotp/v1";
const V2: &str = "transit/transit/sotp/v2";

fn settings(bao: &Bao) -> SecretsSettings {
    SecretsSettings {
        wrap: Wrap::Transit {
            vault: bao.settings(),
            mount: "transit".to_owned(),
            key: "sotp".to_owned(),
        },
        values: Values::Embedded,
    }
}

fn is_unavailable<T>(answer: &Result<T, SecretsError>) -> bool {
    matches!(answer, Err(SecretsError::Unavailable { .. }))
}

fn ring_of(store: &Store) -> Vec<String> {
    let ring = store.key_ring();
    ring.keys.iter().map(|info| info.id.0.clone()).collect()
}

fn in_use(store: &Store) -> Vec<KeyId> {
    keys_in_use(&store.secrets()).into_iter().collect()
}

async fn fill(secrets: &Secrets) {
    for number in 0..5 {
        secrets
            .set(&format!("secret{number}"), "before")
            .await
            .unwrap();
        secrets
            .set(&format!("secret{number}"), &format!("value {number}"))
            .await
            .unwrap();
    }
}

async fn check(secrets: &Secrets) {
    for number in 0..5 {
        let name = format!("secret{number}");
        assert_eq!(secrets.shown(&name).unwrap(), format!("value {number}"));
        assert_eq!(secrets.shown_version(&name, 1).await.unwrap(), "before");
    }
}

#[tokio::test]
async fn the_key_gets_a_new_version_and_everything_is_wrapped_with_it() {
    let Some(bao) = Bao::start("1h", "2h").await else {
        return;
    };
    let home = Home::new();
    let store = home.open();
    let secrets = open(&store, settings(&bao)).await.unwrap();
    assert_eq!(ring_of(&store), [V1]);
    fill(&secrets).await;
    check(&secrets).await;
    assert_eq!(secrets.status().wrap, "transit");
    let done = secrets.rotate_key(by(), None, NOW).await.unwrap();
    assert_eq!((done.active.0.as_str(), done.rewrapped), (V2, 5));
    assert_eq!(ring_of(&store), [V2]);
    assert_eq!(in_use(&store), [KeyId(V2.to_owned())]);
    check(&secrets).await;
    // what is old is of no use to the server any more, and that does not matter
    let oldest = json!({ "min_decryption_version": 2 });
    bao.root(Method::POST, "transit/keys/sotp/config", Some(oldest))
        .await;
    drop(secrets);
    let secrets = open(&store, settings(&bao)).await.unwrap();
    check(&secrets).await;
    assert_eq!(secrets.status().vault.unwrap().missing, 0);
}

#[tokio::test]
async fn a_rotation_that_was_interrupted_or_made_on_the_server_is_finished() {
    let Some(bao) = Bao::start("1h", "2h").await else {
        return;
    };
    let home = Home::new();
    let store = home.open();
    let secrets = open(&store, settings(&bao)).await.unwrap();
    fill(&secrets).await;
    bao.root(Method::POST, "transit/keys/sotp/rotate", Some(json!({})))
        .await;
    // the next one that is set shows it
    secrets.set("secret0", "value 0").await.unwrap();
    assert_eq!(ring_of(&store), [V1, V2]);
    secrets.rewrap_some(2, &[], NOW).await.unwrap();
    drop(secrets);
    let secrets = open(&store, settings(&bao)).await.unwrap();
    let running = secrets.running();
    until(|| ring_of(&store), |ring| *ring == [V2]).await;
    running.stop().await;
    assert_eq!(in_use(&store), [KeyId(V2.to_owned())]);
    assert_eq!(secrets.shown("secret0").unwrap(), "value 0");
    assert_eq!(secrets.shown_version("secret4", 1).await.unwrap(), "before");
}

#[tokio::test]
async fn while_the_server_is_down_what_was_unwrapped_is_used() {
    let Some(mut bao) = Bao::start("1h", "2h").await else {
        return;
    };
    let home = Home::new();
    let store = home.open();
    let secrets = open(&store, settings(&bao)).await.unwrap();
    fill(&secrets).await;
    bao.kill();
    check(&secrets).await;
    let before = state(&store);
    assert!(is_unavailable(&secrets.set("secret0", "new").await));
    assert!(is_unavailable(&secrets.rotate_key(by(), None, NOW).await));
    assert_eq!(state(&store), before);
    assert!(!secrets.status().vault.unwrap().up);
    drop(secrets);
    // a start without it
    let secrets = open(&store, settings(&bao)).await.unwrap();
    assert!(is_unavailable(&secrets.shown("secret0")));
    let health = secrets.status().vault.unwrap();
    assert_eq!((health.up, health.missing), (false, 10));
    assert_eq!(state(&store), before);
    let running = secrets.running();
    bao.start_again().await;
    bao.unseal().await;
    until(
        || secrets.status().vault.unwrap().missing,
        |missing| *missing == 0,
    )
    .await;
    check(&secrets).await;
    secrets.set("secret0", "new").await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn the_first_start_may_be_without_the_server() {
    let Some(mut bao) = Bao::start("1h", "2h").await else {
        return;
    };
    let home = Home::new();
    let store = home.open();
    bao.kill();
    let secrets = open(&store, settings(&bao)).await.unwrap();
    assert!(is_unavailable(&secrets.set("smtp", "x").await));
    assert_eq!(secrets.status().active_key, None);
    bao.start_again().await;
    bao.unseal().await;
    secrets.set("smtp", "x").await.unwrap();
    assert_eq!(ring_of(&store), [V1]);
    assert_eq!(secrets.shown("smtp").unwrap(), "x");
}

#[tokio::test]
async fn a_server_with_another_key_opens_nothing_and_changes_nothing() {
    let Some(mut bao) = Bao::start("1h", "2h").await else {
        return;
    };
    let home = Home::new();
    let store = home.open();
    let secrets = open(&store, settings(&bao)).await.unwrap();
    fill(&secrets).await;
    drop(secrets);
    let before = state(&store);
    // the same name, another key
    let erasable = json!({ "deletion_allowed": true });
    bao.root(Method::POST, "transit/keys/sotp/config", Some(erasable))
        .await;
    bao.root(Method::DELETE, "transit/keys/sotp", None).await;
    let refused = open(&store, settings(&bao)).await;
    assert!(
        matches!(refused, Err(SecretsError::WrongKey { .. })),
        "{refused:?}"
    );
    bao.root(Method::POST, "transit/keys/sotp", Some(json!({})))
        .await;
    let refused = open(&store, settings(&bao)).await;
    assert!(
        matches!(refused, Err(SecretsError::WrongKey { .. })),
        "{refused:?}"
    );
    // a key of ours does not fit either, nor does a key of another name
    let refused = open(&store, embedded(&WrappingKey::generate(), &[])).await;
    assert!(
        matches!(refused, Err(SecretsError::WrongKey { .. })),
        "{refused:?}"
    );
    let mut other = settings(&bao);
    if let Wrap::Transit { key, .. } = &mut other.wrap {
        *key = "other".to_owned();
    }
    let refused = open(&store, other).await;
    assert!(
        matches!(refused, Err(SecretsError::WrongKey { .. })),
        "{refused:?}"
    );
    // found out in the background, where the server was down at the start
    bao.kill();
    let secrets = open(&store, settings(&bao)).await.unwrap();
    let running = secrets.running();
    bao.start_again().await;
    bao.unseal().await;
    let Wrapper::Transit(transit) = &secrets.inner.wrapper else {
        panic!("transit was given");
    };
    let verdict = || format!("{:?}", transit.verdict());
    until(verdict, |verdict| verdict.starts_with("Wrong")).await;
    let refused = secrets.set("secret0", "new").await;
    assert!(
        matches!(refused, Err(SecretsError::WrongKey { .. })),
        "{refused:?}"
    );
    running.stop().await;
    assert_eq!(state(&store), before);
}
