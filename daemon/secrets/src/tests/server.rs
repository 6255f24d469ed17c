//! Requests to a real OpenBao.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use model::{SealedValue, SecretName, Timestamp};
use serde_json::json;
use tokio::time::Instant;

use super::bao::Bao;
use crate::clock::Clock;
use crate::kv::Kv;
use crate::seal::DataKey;
use crate::transit::Transit;
use crate::vault::{Vault, VaultError};
use crate::{SecretBytes, VaultSettings};

const HOUR: Duration = Duration::from_secs(3600);

fn vault(settings: VaultSettings) -> Arc<Vault> {
    let clock = Arc::new(Clock::new(Timestamp(1_795_230_000_000)));
    Arc::new(Vault::new(settings, clock).unwrap())
}

fn kv(bao: &Bao) -> Kv {
    Kv::new(vault(bao.settings()), "secret", "/sotp/", HOUR, HOUR)
}

fn name(text: &str) -> SecretName {
    SecretName(text.to_owned())
}

fn value(text: &str) -> SecretBytes {
    SecretBytes::from(text.to_owned())
}

async fn found(kv: &Kv, name: &SecretName, version: Option<u32>) -> Option<(u32, Vec<u8>)> {
    let found = kv.get(name, version).await.unwrap()?;
    Some((found.version, found.value.expose().to_vec()))
}

#[tokio::test]
async fn a_token_is_renewed_at_two_thirds_of_its_time_and_then_replaced() {
    let Some(bao) = Bao::start("3s", "7s").await else {
        return;
    };
    let vault = vault(bao.settings());
    let began = Instant::now();
    let mut tokens: Vec<(String, Duration, Duration)> = Vec::new();
    while began.elapsed() < Duration::from_secs(10) {
        vault.keep_signed_in().await.unwrap();
        let renew_at = vault.renew_at().unwrap();
        assert!(
            renew_at <= Instant::now() + Duration::from_secs(2),
            "two thirds of 3 s"
        );
        let answer = vault
            .ask(Method::GET, "auth/token/lookup-self", None)
            .await
            .unwrap();
        let accessor = answer["data"]["accessor"].as_str().unwrap().to_owned();
        let now = began.elapsed();
        match tokens.last_mut() {
            Some((last, _, until)) if *last == accessor => *until = now,
            _ => tokens.push((accessor, now, now)),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(tokens.len() >= 2, "none lives beyond 7 s: {tokens:?}");
    assert!(tokens.len() <= 3, "and one is renewed before: {tokens:?}");
    let (_, from, until) = &tokens[0];
    assert!(
        *until - *from > Duration::from_secs(4),
        "the first was renewed: {tokens:?}"
    );
}

#[tokio::test]
async fn a_token_that_was_revoked_is_replaced_and_a_denial_is_told() {
    let Some(bao) = Bao::start("1h", "2h").await else {
        return;
    };
    let kv = kv(&bao);
    kv.put(&name("a"), &value("one")).await.unwrap();
    let accessors = || async {
        let answer = bao
            .root(Method::GET, "auth/token/accessors?list=true", None)
            .await;
        let keys = answer["data"]["keys"].as_array().unwrap().clone();
        keys.iter()
            .map(ToString::to_string)
            .collect::<BTreeSet<String>>()
    };
    let before = accessors().await;
    // what the role may not do does not make it sign in again
    let denied = kv.vault.ask(Method::GET, "secret/data/other", None).await;
    assert!(
        matches!(denied, Err(VaultError::Refused { status: 403, .. })),
        "{denied:?}"
    );
    assert_eq!(accessors().await, before);
    assert!(kv.vault.health().up);
    let own = kv
        .vault
        .ask(Method::GET, "auth/token/lookup-self", None)
        .await
        .unwrap();
    let revoke = json!({ "accessor": own["data"]["accessor"] });
    bao.root(Method::POST, "auth/token/revoke-accessor", Some(revoke))
        .await;
    assert_eq!(
        found(&kv, &name("a"), None).await,
        Some((1, b"one".to_vec()))
    );
}

#[tokio::test]
async fn a_wrong_secret_id_is_refused_in_the_servers_words_and_not_shown() {
    let Some(bao) = Bao::start("1h", "2h").await else {
        return;
    };
    let mut settings = bao.settings();
    settings.secret_id = value("canary");
    let vault = vault(settings);
    let refused = vault.keep_signed_in().await.unwrap_err();
    assert!(
        matches!(refused, VaultError::Refused { status: 400, .. }),
        "{refused:?}"
    );
    let shown = format!("{refused} {refused:?} {:?}", vault.health());
    assert!(shown.contains("invalid role or secret ID"), "{shown}");
    assert!(!shown.contains("canary"), "{shown}");
}

#[tokio::test]
async fn values_are_written_read_and_deleted() {
    let Some(bao) = Bao::start("1h", "2h").await else {
        return;
    };
    let kv = kv(&bao);
    let bytes = SecretBytes::new(vec![0, 255, 128]);
    for text in [
        "smtp",
        "acme/credential.campus",
        ".totp/jörg müller",
        "50% of #1?",
        "a.b",
    ] {
        let name = name(text);
        assert_eq!(found(&kv, &name, None).await, None, "{text}");
        assert_eq!(
            kv.put(&name, &value("one")).await.unwrap(),
            Some(1),
            "{text}"
        );
        assert_eq!(kv.put(&name, &bytes).await.unwrap(), Some(2), "{text}");
        assert_eq!(found(&kv, &name, None).await, Some((2, vec![0, 255, 128])));
        assert_eq!(found(&kv, &name, Some(1)).await, Some((1, b"one".to_vec())));
        assert_eq!(found(&kv, &name, Some(3)).await, None);
    }
    for text in ["smtp", "50% of #1?"] {
        kv.delete(&name(text)).await;
        assert_eq!(found(&kv, &name(text), None).await, None, "{text}");
        assert_eq!(found(&kv, &name(text), Some(1)).await, None, "{text}");
    }
    assert!(found(&kv, &name("a.b"), None).await.is_some());
}

#[tokio::test]
async fn of_two_who_write_at_the_same_time_one_is_told() {
    let Some(bao) = Bao::start("1h", "2h").await else {
        return;
    };
    let (kv, name) = (kv(&bao), name("smtp"));
    assert_eq!(
        kv.put_after(&name, &value("one"), 0).await.unwrap(),
        Some(1)
    );
    assert_eq!(kv.put_after(&name, &value("two"), 0).await.unwrap(), None);
    assert_eq!(kv.put_after(&name, &value("two"), 2).await.unwrap(), None);
    assert_eq!(found(&kv, &name, None).await, Some((1, b"one".to_vec())));
    assert_eq!(
        kv.put_after(&name, &value("two"), 1).await.unwrap(),
        Some(2)
    );
    // a version that somebody deleted still counts
    bao.root(Method::DELETE, "secret/data/sotp/smtp", None)
        .await;
    assert_eq!(found(&kv, &name, None).await, None);
    assert_eq!(kv.put(&name, &value("three")).await.unwrap(), Some(3));
}

#[tokio::test]
async fn keys_are_wrapped_unwrapped_and_wrapped_anew() {
    let Some(bao) = Bao::start("1h", "2h").await else {
        return;
    };
    let transit = Transit::new(vault(bao.settings()), "transit", "sotp");
    let mut sealed = Vec::new();
    let keys: Vec<DataKey> = (0..3).map(|_| DataKey::generate()).collect();
    for key in &keys {
        let (id, wrapped_key) = transit.wrap(key).await.unwrap();
        assert_eq!(id.0, "transit/transit/sotp/v1");
        assert!(transit.is_own(&id));
        sealed.push(SealedValue {
            key: id,
            wrapped_key,
            nonce: [0; 24],
            text: Vec::new(),
        });
    }
    transit.rotate().await.unwrap();
    // one that is none spoils nothing for the others
    sealed[1].wrapped_key = b"vault:v1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_vec();
    let all: Vec<&SealedValue> = sealed.iter().collect();
    let again = transit.rewrap(&all).await.unwrap();
    assert!(again[1].is_err());
    for at in [0, 2] {
        let (id, wrapped_key) = again[at].clone().unwrap();
        assert_eq!(id.0, "transit/transit/sotp/v2");
        (sealed[at].key, sealed[at].wrapped_key) = (id, wrapped_key);
    }
    let all: Vec<&SealedValue> = sealed.iter().collect();
    let unwrapped = transit.unwrap(&all).await.unwrap();
    assert_eq!(unwrapped[0].as_ref().unwrap().bytes(), keys[0].bytes());
    assert!(matches!(unwrapped[1], Err(VaultError::Refused { .. })));
    assert_eq!(unwrapped[2].as_ref().unwrap().bytes(), keys[2].bytes());
}

#[tokio::test]
async fn a_server_that_is_killed_or_sealed_is_down_and_then_up_again() {
    let Some(mut bao) = Bao::start("1h", "2h").await else {
        return;
    };
    let (kv, name) = (kv(&bao), name("smtp"));
    kv.put(&name, &value("one")).await.unwrap();
    bao.kill();
    let down = kv.get(&name, None).await.err().unwrap();
    assert!(down.is_down(), "{down:?}");
    assert!(!kv.vault.health().up);
    bao.start_again().await;
    let sealed = kv.get(&name, None).await.err().unwrap();
    assert!(
        sealed.is_down() && sealed.to_string().contains("sealed"),
        "{sealed:?}"
    );
    bao.unseal().await;
    assert_eq!(found(&kv, &name, None).await, Some((1, b"one".to_vec())));
    assert!(kv.vault.health().up);
}
