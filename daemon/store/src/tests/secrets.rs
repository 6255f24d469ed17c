//! Secrets and the keys that they are sealed with: nothing is lost, and nothing
//! is left that cannot be opened.

use model::{
    CredentialName, CredentialRecord, KeyId, KeyInfo, KeyRing, SecretName, SecretRecord,
    SecretVersion,
};

use super::sim::{Dice, SimDisk};
use super::support::*;
use crate::{MAX_SECRET_BYTES, MAX_SECRET_VERSIONS, OpenError, Refusal, Store, WriteError};

fn name(text: &str) -> SecretName {
    SecretName(text.to_owned())
}

fn put(
    store: &Store,
    secret: SecretRecord,
    expected: Option<u64>,
) -> Result<std::sync::Arc<SecretRecord>, WriteError> {
    block_on(store.put_secret(by(), secret, expected, NOW))
}

/// `secret` with one more value, sealed with `key`.
fn next(secret: &SecretRecord, key: &str, value: &str) -> SecretRecord {
    let mut next = secret.clone();
    let version = secret.versions.last().map_or(0, |last| last.version) + 1;
    next.versions.push(SecretVersion {
        version,
        created: NOW,
        created_by: "system".to_owned(),
        sealed: Some(sealed(key, value)),
    });
    next
}

/// The same values, sealed with another key.
fn rewrapped(secret: &SecretRecord, key: &str) -> SecretRecord {
    let mut rewrapped = secret.clone();
    for version in &mut rewrapped.versions {
        let value = opened(version.sealed.as_ref().unwrap()).unwrap();
        version.sealed = Some(sealed(key, &value));
    }
    rewrapped
}

fn ring(keys: &[&str]) -> KeyRing {
    let keys = keys.iter().map(|key| KeyInfo {
        id: KeyId((*key).to_owned()),
        created: NOW,
        check: sealed(key, "check"),
    });
    KeyRing {
        keys: keys.collect(),
        revision: 0,
    }
}

fn values(secret: &SecretRecord) -> Vec<String> {
    let sealed = secret.versions.iter().map(|kept| kept.sealed.as_ref());
    sealed
        .map(|sealed| opened(sealed.unwrap()).unwrap())
        .collect()
}

#[test]
fn a_secret_counts_its_versions_and_keeps_the_newest() {
    let home = Home::new();
    let store = home.open();
    let mut kept = put(&store, secret("smtp", &["v1"]), Some(0)).unwrap();
    for n in 2..=13 {
        let more = next(&kept, "k1", &format!("v{n}"));
        kept = put(&store, more, Some(kept.revision)).unwrap();
    }
    assert_eq!(
        (kept.revision, kept.versions.len()),
        (13, MAX_SECRET_VERSIONS)
    );
    assert_eq!(values(&kept).last().unwrap(), "v13");
    assert_eq!(kept.versions[0].version, 4);
    store.close().unwrap();
    let store = home.open();
    assert_eq!(store.secret(&name("smtp")), Some(kept));
    assert_eq!(store.secrets().len(), 1);
}

#[test]
fn what_is_expected_has_to_be_there() {
    let home = Home::new();
    let store = home.open();
    let absent = refused(put(&store, secret("smtp", &["v1"]), Some(3)));
    assert!(matches!(absent, Refusal::NoSuch { .. }), "{absent}");
    put(&store, secret("smtp", &["v1"]), Some(0)).unwrap();
    let there = refused(put(&store, secret("smtp", &["v1"]), Some(0)));
    assert!(matches!(there, Refusal::NameExists { .. }), "{there}");
    let more = next(&secret("smtp", &["v1"]), "k1", "v2");
    let old = refused(put(&store, more.clone(), Some(7)));
    assert!(matches!(old, Refusal::RevisionMismatch { found: 1, .. }));
    put(&store, more, None).unwrap();
    let empty = refused(put(&store, secret("other", &[]), None));
    assert!(matches!(empty, Refusal::NoSuch { .. }), "{empty}");
    let big = "x".repeat(MAX_SECRET_BYTES);
    let big = refused(put(&store, secret("other", &[&big]), None));
    assert!(matches!(big, Refusal::TooMany { .. }), "{big}");
}

#[test]
fn a_version_is_never_given_twice() {
    let home = Home::new();
    let store = home.open();
    let seen = put(&store, secret("smtp", &["v1"]), None).unwrap();
    put(&store, next(&seen, "k1", "mine"), None).unwrap();
    let second = refused(put(&store, next(&seen, "k1", "theirs"), None));
    assert!(matches!(second, Refusal::RevisionMismatch { found: 2, .. }));
    assert_eq!(
        values(&store.secret(&name("smtp")).unwrap()),
        ["v1", "mine"]
    );
}

#[test]
fn what_was_wrapped_anew_meanwhile_stays_so() {
    let home = Home::new();
    let store = home.open();
    block_on(store.put_key_ring(by(), ring(&["k1", "k2"]), 0, NOW)).unwrap();
    let seen = put(&store, secret("smtp", &["v1"]), None).unwrap();
    let anew = vec![(name("smtp"), seen.revision, rewrapped(&seen, "k2"))];
    assert_eq!(block_on(store.replace_sealed(anew, NOW)).unwrap(), 1);
    let kept = store.secret(&name("smtp")).unwrap();
    assert_eq!((kept.revision, values(&kept)), (1, vec!["v1".to_owned()]));

    let kept = put(&store, next(&seen, "k2", "v2"), Some(seen.revision)).unwrap();
    let keys: Vec<&str> = kept
        .versions
        .iter()
        .map(|kept| kept.sealed.as_ref().unwrap().key.0.as_str())
        .collect();
    assert_eq!(keys, ["k2", "k2"]);
    // who is late with wrapping leaves the newer one alone
    let late = vec![(name("smtp"), seen.revision, rewrapped(&seen, "k1"))];
    assert_eq!(block_on(store.replace_sealed(late, NOW)).unwrap(), 0);
}

#[test]
fn no_secret_is_sealed_with_a_key_that_is_not_in_use() {
    let home = Home::new();
    let store = home.open();
    block_on(store.put_key_ring(by(), ring(&["k1"]), 0, NOW)).unwrap();
    let seen = put(&store, secret("smtp", &["v1"]), None).unwrap();
    let key = KeyId("k2".into());
    let unknown = Refusal::KeyNotInRing { key };
    assert_eq!(refused(put(&store, next(&seen, "k2", "v2"), None)), unknown);
    let anew = vec![(name("smtp"), 1, rewrapped(&seen, "k2"))];
    assert_eq!(
        refused(block_on(store.replace_sealed(anew.clone(), NOW))),
        unknown
    );
    let rotate =
        |keys: &[&str], expected| block_on(store.put_key_ring(by(), ring(keys), expected, NOW));
    let key = KeyId("k1".into());
    let in_use = Refusal::KeyInUse { key, secrets: 1 };
    assert_eq!(refused(rotate(&["k2"], 1)), in_use);
    assert!(matches!(
        refused(rotate(&["k1", "k2"], 9)),
        Refusal::RevisionMismatch { found: 1, .. }
    ));
    rotate(&["k1", "k2"], 1).unwrap();
    assert_eq!(refused(rotate(&["k2"], 2)), in_use);
    block_on(store.replace_sealed(anew, NOW)).unwrap();
    assert_eq!(rotate(&["k2"], 2).unwrap().revision, 3);
    store.close().unwrap();
    assert_eq!(home.open().key_ring().keys[0].id.0, "k2");
}

#[test]
fn a_secret_in_use_stays() {
    let home = Home::new();
    let store = home.open();
    put(&store, secret("shared", &["v"]), None).unwrap();
    let lab = CredentialRecord {
        secret: name("shared"),
        ..credential("lab", "").0
    };
    let kept = block_on(store.put_credential(by(), lab.clone(), None, Some(0), NOW)).unwrap();
    let delete = || block_on(store.delete_secret(by(), &name("shared"), Some(1), NOW));
    let text = refused(delete()).to_string();
    assert!(text.contains("is used by credential:lab"), "{text}");

    // with a secret of its own it lets the other go, and takes its own along
    let (own, value) = credential("lab", "public");
    block_on(store.put_credential(by(), own, Some(value), Some(kept.revision), NOW)).unwrap();
    delete().unwrap();
    let own = name("credential.lab");
    assert_eq!(store.secret_users(&own), ["credential:lab"]);
    put(&store, secret("shared", &["v"]), None).unwrap();
    block_on(store.put_credential(by(), lab, None, None, NOW)).unwrap();
    assert_eq!(store.secret(&own), None);
    block_on(store.delete_credential(by(), &CredentialName("lab".into()), None, NOW)).unwrap();
    assert!(
        store.secret(&name("shared")).is_some(),
        "it was not its own"
    );
}

#[test]
fn a_credential_does_not_come_without_its_secret() {
    let home = Home::new();
    let store = home.open();
    let (record, value) = credential("lab", "public");
    let put = |record: CredentialRecord, value: Option<SecretRecord>| {
        block_on(store.put_credential(by(), record, value, None, NOW))
    };
    let none = refused(put(record.clone(), None));
    assert!(matches!(none, Refusal::NoSuch { what: "secret", .. }));
    let wrong = secret("other", &["v"]);
    assert!(put(record.clone(), Some(wrong)).is_err());
    put(record.clone(), Some(value.clone())).unwrap();
    // the value was made for a new secret, and there is one now
    let stale = refused(put(record.clone(), Some(value)));
    assert!(matches!(stale, Refusal::NameExists { .. }), "{stale}");
    let seen = SecretRecord::clone(&store.secret(&record.secret).unwrap());
    let kept = put(record, Some(next(&seen, "k1", "private"))).unwrap();
    assert_eq!(kept.revision, 2);
    assert!(store.secrets().iter().all(|kept| kept.name.0 != "other"));
}

// --- a rotation that is cut off

const SECRETS: usize = 24;
const BATCH: usize = 5;

fn filled() -> Vec<u8> {
    let disk = SimDisk::with_empty_store();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_on(options(folder.path()), disk.parts(), QUICK, NOW).unwrap();
    block_on(store.put_key_ring(by(), ring(&["k1"]), 0, NOW)).unwrap();
    for n in 0..SECRETS {
        let (first, second) = (format!("a{n}"), format!("b{n}"));
        put(&store, secret(&format!("s{n}"), &[&first, &second]), None).unwrap();
    }
    store.close().unwrap();
    disk.image()
}

/// Goes on with the rotation from k1 to k2, wherever it is.
fn rotate(store: &Store) -> Result<(), WriteError> {
    block_on(async {
        let seen = store.key_ring();
        if seen.keys.len() == 1 && seen.keys[0].id.0 == "k1" {
            let both = ring(&["k1", "k2"]);
            store.put_key_ring(by(), both, seen.revision, NOW).await?;
        }
        let old: Vec<_> = store
            .secrets()
            .into_iter()
            .filter(|secret| secret.versions[0].sealed.as_ref().unwrap().key.0 == "k1")
            .map(|secret| {
                (
                    secret.name.clone(),
                    secret.revision,
                    rewrapped(&secret, "k2"),
                )
            })
            .collect();
        for batch in old.chunks(BATCH) {
            store.replace_sealed(batch.to_vec(), NOW).await?;
        }
        let seen = store.key_ring();
        if seen.keys.len() == 2 {
            let new = ring(&["k2"]);
            store.put_key_ring(by(), new, seen.revision, NOW).await?;
        }
        Ok(())
    })
}

/// Every value opens, with a key that is in the ring.
fn assert_whole(store: &Store, story: &str) {
    let ring = store.key_ring();
    let secrets = store.secrets();
    assert_eq!(secrets.len(), SECRETS, "{story}");
    for secret in secrets {
        let n = &secret.name.0[1..];
        assert_eq!(
            values(&secret),
            [format!("a{n}"), format!("b{n}")],
            "{story}"
        );
        for version in &secret.versions {
            let key = &version.sealed.as_ref().unwrap().key;
            let known = ring.keys.iter().any(|known| known.id == *key);
            assert!(known, "{story}: {} is lost with {key}", secret.name);
        }
    }
}

#[test]
fn a_rotation_that_is_cut_off_anywhere_leaves_every_secret_whole_and_goes_on() {
    let image = filled();
    let folder = tempfile::tempdir().unwrap();
    let open = |disk: &SimDisk| {
        let options = options(folder.path());
        Store::open_on(options, disk.parts(), QUICK, NOW)
    };
    let mut cut_off = 0;
    for writes in 1..120 {
        let story = format!("power gone at write {writes}");
        let mut dice = Dice::new(writes);
        let disk = SimDisk::new(image.clone());
        disk.crash_in(writes);
        match open(&disk) {
            Ok(store) => {
                cut_off += usize::from(rotate(&store).is_err());
                drop(store.close());
            }
            Err(OpenError::Io { .. }) => {}
            Err(error) => panic!("{story}: {error}"),
        }
        let disk = disk.after_power_cut(&mut dice);
        let store = open(&disk).unwrap();
        assert_whole(&store, &story);
        rotate(&store).unwrap();
        assert_whole(&store, &story);
        assert_eq!(store.key_ring().keys.len(), 1);
        assert_eq!(store.key_ring().keys[0].id.0, "k2");
        assert_eq!(store.verify_audit().unwrap().broken, None, "{story}");
    }
    assert!(cut_off > 10, "only {cut_off} were cut off");
}
