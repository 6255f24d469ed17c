//! Values in the KV engine of a real OpenBao.

use std::time::Duration;

use hyper::Method;
use serde_json::json;

use super::bao::Bao;
use super::support::{Home, NOW, by, embedded, name, open, state, until, value};
use crate::{SecretsError, SecretsSettings, Values, Wrap, WrappingKey};

const HOUR: Duration = Duration::from_secs(3600);

fn settings(bao: &Bao, key: &WrappingKey, cache: Duration, stale: Duration) -> SecretsSettings {
    SecretsSettings {
        wrap: Wrap::Key {
            active: key.clone(),
            old: Vec::new(),
        },
        values: Values::Kv {
            vault: bao.settings(),
            mount: "secret".to_owned(),
            path: "sotp".to_owned(),
            cache,
            stale,
        },
    }
}

fn is_unavailable<T>(answer: &Result<T, SecretsError>) -> bool {
    matches!(answer, Err(SecretsError::Unavailable { .. }))
}

#[tokio::test]
async fn values_lie_on_the_server_and_nothing_of_them_in_the_store() {
    let Some(bao) = Bao::start("1h", "2h").await else {
        return;
    };
    let (home, key) = (Home::new(), WrappingKey::generate());
    let store = home.open();
    let secrets = open(&store, settings(&bao, &key, HOUR, HOUR))
        .await
        .unwrap();
    secrets.set("smtp", "canary one").await.unwrap();
    let record = secrets.set("smtp", "canary two").await.unwrap();
    assert!(
        record
            .versions
            .iter()
            .all(|version| version.sealed.is_none())
    );
    secrets.set(".totp/jane", "canary three").await.unwrap();
    assert_eq!(secrets.shown("smtp").unwrap(), "canary two");
    assert_eq!(
        secrets.shown_version("smtp", 1).await.unwrap(),
        "canary one"
    );
    let answer = bao.root(Method::GET, "secret/data/sotp/smtp", None).await;
    assert_eq!(answer["data"]["data"]["value"], "canary two");
    let status = secrets.status();
    assert_eq!(
        (status.values, status.in_vault, status.secrets),
        ("vault", 3, 2)
    );
    assert!(status.vault.unwrap().up);
    // a start finds them again
    let again = open(&store, settings(&bao, &key, HOUR, HOUR))
        .await
        .unwrap();
    assert_eq!(again.shown("smtp").unwrap(), "canary two");
    assert_eq!(again.shown(".totp/jane").unwrap(), "canary three");
    secrets
        .delete(by(), &name("smtp"), None, NOW)
        .await
        .unwrap();
    let (status, _) = bao
        .ask(Method::GET, "secret/data/sotp/smtp?version=1", None)
        .await
        .unwrap();
    assert_eq!(status, 404);
    assert!(matches!(
        secrets.shown("smtp"),
        Err(SecretsError::NoSuchSecret { .. })
    ));
    drop((secrets, again));
    store.close().unwrap();
    let bytes = home.bytes();
    assert!(!bytes.windows(6).any(|window| window == b"canary"));
}

#[tokio::test]
async fn a_value_whose_change_the_store_refused_is_used_by_nobody() {
    let Some(bao) = Bao::start("1h", "2h").await else {
        return;
    };
    let (home, key) = (Home::new(), WrappingKey::generate());
    let store = home.open();
    let secrets = open(&store, settings(&bao, &key, HOUR, HOUR))
        .await
        .unwrap();
    secrets.set("credential.campus", "one").await.unwrap();
    let name = name("credential.campus");
    let never_put = secrets
        .seal_record(&name, &value("two"), "user:jane", NOW)
        .await
        .unwrap();
    assert_eq!(never_put.versions.last().unwrap().version, 2);
    assert_eq!(secrets.shown("credential.campus").unwrap(), "one");
    let fresh = secrets.expose_fresh(&name).await.unwrap();
    assert_eq!(fresh.expose(), b"one");
    let again = open(&store, settings(&bao, &key, HOUR, HOUR))
        .await
        .unwrap();
    assert_eq!(again.shown("credential.campus").unwrap(), "one");
    let record = again.set("credential.campus", "three").await.unwrap();
    assert_eq!(record.versions.last().unwrap().version, 3);
    assert_eq!(again.shown("credential.campus").unwrap(), "three");
}

#[tokio::test]
async fn a_value_that_somebody_sets_on_the_server_is_taken_over() {
    let Some(bao) = Bao::start("1h", "2h").await else {
        return;
    };
    let (home, key) = (Home::new(), WrappingKey::generate());
    let store = home.open();
    let cache = Duration::from_millis(300);
    let secrets = open(&store, settings(&bao, &key, cache, HOUR))
        .await
        .unwrap();
    secrets.set("smtp", "ours").await.unwrap();
    let running = secrets.running();
    let theirs = json!({ "data": { "value": "theirs" } });
    bao.root(Method::POST, "secret/data/sotp/smtp", Some(theirs))
        .await;
    until(|| secrets.shown("smtp").unwrap(), |text| text == "theirs").await;
    running.stop().await;
    let record = store.secret(&name("smtp")).unwrap();
    let last = record.versions.last().unwrap();
    assert_eq!(
        (last.version, &last.created_by),
        (2, &bao.settings().address)
    );
    assert_eq!(secrets.shown_version("smtp", 1).await.unwrap(), "ours");
    // something without a value changes nothing
    let nonsense = json!({ "data": { "user": "jane" } });
    bao.root(Method::POST, "secret/data/sotp/smtp", Some(nonsense))
        .await;
    let fresh = secrets.expose_fresh(&name("smtp")).await.unwrap();
    assert_eq!(fresh.expose(), b"theirs");
    let record = secrets.set("smtp", "ours again").await.unwrap();
    assert_eq!(record.versions.last().unwrap().version, 4);
}

#[tokio::test]
async fn while_the_server_is_down_values_are_used_for_a_while_and_then_it_recovers() {
    let Some(mut bao) = Bao::start("1h", "2h").await else {
        return;
    };
    let (home, key) = (Home::new(), WrappingKey::generate());
    let store = home.open();
    let (cache, stale) = (Duration::from_millis(300), Duration::from_secs(5));
    let secrets = open(&store, settings(&bao, &key, cache, stale))
        .await
        .unwrap();
    secrets.set("smtp", "hunter2").await.unwrap();
    let running = secrets.running();
    let health = || secrets.status().vault.unwrap();
    until(health, |health| health.up && health.missing == 0).await;
    bao.kill();
    let down = until(health, |health| !health.up && health.stale == 1).await;
    assert!(
        down.last_error.is_some() && down.last_ok.is_some(),
        "{down:?}"
    );
    assert_eq!(secrets.shown("smtp").unwrap(), "hunter2");
    let before = state(&store);
    assert!(is_unavailable(&secrets.set("smtp", "new").await));
    assert!(is_unavailable(&secrets.set("other", "new").await));
    assert_eq!(state(&store), before);
    // too old in the end
    let refused = until(|| secrets.shown("smtp"), is_unavailable).await;
    assert!(refused.unwrap_err().to_string().contains("cannot reach"));
    until(health, |health| health.missing == 1 && health.stale == 0).await;
    bao.start_again().await;
    bao.unseal().await;
    until(
        || secrets.shown("smtp").ok(),
        |text| text.as_deref() == Some("hunter2"),
    )
    .await;
    let up = until(health, |health| health.up && health.missing == 0).await;
    assert!(up.last_error.is_some(), "it is told still: {up:?}");
    secrets.set("smtp", "new").await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn a_start_without_the_server_serves_values_when_it_comes() {
    let Some(mut bao) = Bao::start("1h", "2h").await else {
        return;
    };
    let (home, key) = (Home::new(), WrappingKey::generate());
    let store = home.open();
    let first = open(&store, settings(&bao, &key, HOUR, HOUR))
        .await
        .unwrap();
    first.set("smtp", "hunter2").await.unwrap();
    drop(first);
    bao.kill();
    let secrets = open(&store, settings(&bao, &key, HOUR, HOUR))
        .await
        .unwrap();
    assert!(is_unavailable(&secrets.shown("smtp")));
    assert!(is_unavailable(&secrets.expose_fresh(&name("smtp")).await));
    let health = secrets.status().vault.unwrap();
    assert_eq!(
        (health.up, health.last_ok, health.missing),
        (false, None, 1)
    );
    let running = secrets.running();
    bao.start_again().await;
    assert!(is_unavailable(&secrets.shown("smtp")), "it is sealed");
    bao.unseal().await;
    until(
        || secrets.shown("smtp").ok(),
        |text| text.as_deref() == Some("hunter2"),
    )
    .await;
    running.stop().await;
}

#[tokio::test]
async fn what_could_not_be_removed_is_removed_when_the_server_is_back() {
    let Some(mut bao) = Bao::start("1h", "2h").await else {
        return;
    };
    let (home, key) = (Home::new(), WrappingKey::generate());
    let store = home.open();
    let secrets = open(&store, settings(&bao, &key, HOUR, HOUR))
        .await
        .unwrap();
    secrets.set("smtp", "hunter2").await.unwrap();
    bao.kill();
    secrets
        .delete(by(), &name("smtp"), None, NOW)
        .await
        .unwrap();
    assert!(matches!(
        secrets.shown("smtp"),
        Err(SecretsError::NoSuchSecret { .. })
    ));
    let running = secrets.running();
    bao.start_again().await;
    bao.unseal().await;
    let began = std::time::Instant::now();
    loop {
        let (status, _) = bao
            .ask(Method::GET, "secret/data/sotp/smtp", None)
            .await
            .unwrap();
        if status == 404 {
            break;
        }
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "it is still there"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn values_that_were_sealed_in_the_store_before_stay_readable() {
    let Some(bao) = Bao::start("1h", "2h").await else {
        return;
    };
    let (home, key) = (Home::new(), WrappingKey::generate());
    let store = home.open();
    let before = open(&store, embedded(&key, &[])).await.unwrap();
    for number in 1..=8 {
        before
            .set("smtp", &format!("value {number}"))
            .await
            .unwrap();
    }
    let secrets = open(&store, settings(&bao, &key, HOUR, HOUR))
        .await
        .unwrap();
    assert_eq!(secrets.shown("smtp").unwrap(), "value 8");
    // numbers go on, here and there
    let record = secrets.set("smtp", "value 9").await.unwrap();
    let versions: Vec<(u32, bool)> = record
        .versions
        .iter()
        .map(|version| (version.version, version.sealed.is_some()))
        .collect();
    let expected: Vec<(u32, bool)> = (1..=9).map(|version| (version, version < 9)).collect();
    assert_eq!(versions, expected);
    assert_eq!(secrets.shown("smtp").unwrap(), "value 9");
    assert_eq!(secrets.shown_version("smtp", 2).await.unwrap(), "value 2");
    // and back
    let back = open(&store, embedded(&key, &[])).await.unwrap();
    let refused = back.shown("smtp");
    assert!(is_unavailable(&refused));
    assert!(refused.unwrap_err().to_string().contains("set it again"));
    back.set("smtp", "value 10").await.unwrap();
    assert_eq!(back.shown("smtp").unwrap(), "value 10");
}

#[tokio::test]
async fn a_value_beyond_its_time_is_not_used_even_if_nobody_looks_after_it() {
    let Some(mut bao) = Bao::start("1h", "2h").await else {
        return;
    };
    let (home, key) = (Home::new(), WrappingKey::generate());
    let store = home.open();
    let (cache, stale) = (Duration::from_millis(200), Duration::from_millis(500));
    let secrets = open(&store, settings(&bao, &key, cache, stale))
        .await
        .unwrap();
    secrets.set("smtp", "hunter2").await.unwrap();
    bao.kill();
    assert_eq!(secrets.shown("smtp").unwrap(), "hunter2");
    let refused = until(|| secrets.shown("smtp"), is_unavailable).await;
    assert!(refused.unwrap_err().to_string().contains("smtp"));
}

#[tokio::test]
async fn a_value_that_the_role_may_not_read_is_told_and_asked_for_in_good_time() {
    let Some(bao) = Bao::start("1h", "2h").await else {
        return;
    };
    let (home, key) = (Home::new(), WrappingKey::generate());
    let store = home.open();
    let cache = Duration::from_millis(200);
    let secrets = open(&store, settings(&bao, &key, cache, HOUR))
        .await
        .unwrap();
    secrets.set("smtp", "hunter2").await.unwrap();
    let nothing = json!({ "policy": "path \"elsewhere\" { capabilities = [\"read\"] }" });
    bao.root(Method::POST, "sys/policies/acl/sotp", Some(nothing))
        .await;
    let running = secrets.running();
    let health = || secrets.status().vault.unwrap();
    let denied = until(health, |health| health.last_error.is_some()).await;
    assert!(denied.last_error.unwrap().1.contains("permission denied"));
    assert_eq!(secrets.shown("smtp").unwrap(), "hunter2");
    let refused = secrets.set("smtp", "new").await.unwrap_err();
    assert!(matches!(refused, SecretsError::Vault { .. }), "{refused}");
    let kv = secrets.inner.kv.as_ref().unwrap();
    assert!(
        kv.next_due()
            .is_none_or(|at| at > tokio::time::Instant::now())
    );
    running.stop().await;
}
