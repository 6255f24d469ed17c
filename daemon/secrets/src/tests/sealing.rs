//! What a sealed value withstands.

use model::{KeyId, SealedValue, SecretName};
use proptest::prelude::*;

use crate::seal::{self, Place};
use crate::{SecretBytes, WrappingKey};

fn name(text: &str) -> SecretName {
    SecretName(text.to_owned())
}

fn seal(name: &SecretName, version: u32, value: &[u8], key: &WrappingKey) -> SealedValue {
    let place = Place { name, version };
    let sealed = seal::seal(place, &SecretBytes::new(value.to_vec()));
    let wrapped = seal::wrap(place, key, &sealed.key);
    sealed.wrapped(key.id(), wrapped)
}

fn open(
    name: &SecretName,
    version: u32,
    sealed: &SealedValue,
    key: &WrappingKey,
) -> Option<Vec<u8>> {
    let place = Place { name, version };
    let data_key = seal::unwrap(place, sealed, key)?;
    let value = seal::open(place, sealed, &data_key)?;
    Some(value.expose().to_vec())
}

#[test]
fn every_flipped_bit_is_refused() {
    let (key, name) = (WrappingKey::generate(), name("acme/smtp"));
    let sealed = seal(&name, 3, b"hunter2", &key);
    assert_eq!(
        open(&name, 3, &sealed, &key).as_deref(),
        Some(&b"hunter2"[..])
    );
    let mut tried = 0;
    let mut refuse = |changed: &SealedValue, what: &str, bit: usize| {
        assert_ne!(*changed, sealed);
        assert!(
            open(&name, 3, changed, &key).is_none(),
            "bit {bit} of {what}"
        );
        tried += 1;
    };
    for bit in 0..sealed.nonce.len() * 8 {
        let mut changed = sealed.clone();
        changed.nonce[bit / 8] ^= 1 << (bit % 8);
        refuse(&changed, "the nonce", bit);
    }
    for bit in 0..sealed.text.len() * 8 {
        let mut changed = sealed.clone();
        changed.text[bit / 8] ^= 1 << (bit % 8);
        refuse(&changed, "the text", bit);
    }
    for bit in 0..sealed.wrapped_key.len() * 8 {
        let mut changed = sealed.clone();
        changed.wrapped_key[bit / 8] ^= 1 << (bit % 8);
        refuse(&changed, "the wrapped key", bit);
    }
    // of ASCII, the bits that leave it ASCII
    for bit in (0..sealed.key.0.len() * 8).filter(|bit| bit % 8 != 7) {
        let mut changed = sealed.clone();
        let mut id = changed.key.0.into_bytes();
        id[bit / 8] ^= 1 << (bit % 8);
        changed.key = KeyId(String::from_utf8(id).unwrap());
        refuse(&changed, "the key's name", bit);
    }
    assert_eq!(tried, 24 * 8 + (7 + 16) * 8 + (24 + 32 + 16) * 8 + 16 * 7);
}

#[test]
fn what_is_cut_short_or_made_longer_is_refused() {
    let (key, name) = (WrappingKey::generate(), name("smtp"));
    let sealed = seal(&name, 1, b"hunter2", &key);
    for length in 0..sealed.text.len() {
        let mut changed = sealed.clone();
        changed.text.truncate(length);
        assert!(open(&name, 1, &changed, &key).is_none());
    }
    for length in 0..sealed.wrapped_key.len() {
        let mut changed = sealed.clone();
        changed.wrapped_key.truncate(length);
        assert!(open(&name, 1, &changed, &key).is_none());
    }
    let mut changed = sealed.clone();
    changed.text.push(0);
    assert!(open(&name, 1, &changed, &key).is_none());
}

#[test]
fn a_value_opens_under_its_own_name_and_version_alone() {
    let key = WrappingKey::generate();
    let sealed = seal(&name("a"), 1, b"hunter2", &key);
    for (other, version) in [("a", 2), ("b", 1), ("acme/a", 1), ("", 1), ("a", 257)] {
        assert!(
            open(&name(other), version, &sealed, &key).is_none(),
            "{other} {version}"
        );
    }
    // nor with the wrapped key of another value
    let second = seal(&name("a"), 2, b"hunter3", &key);
    let mixed = SealedValue {
        wrapped_key: second.wrapped_key.clone(),
        ..sealed
    };
    assert!(open(&name("a"), 1, &mixed, &key).is_none());
    assert!(open(&name("a"), 2, &mixed, &key).is_none());
}

#[test]
fn another_key_opens_nothing() {
    let (key, other) = (WrappingKey::generate(), WrappingKey::generate());
    let sealed = seal(&name("a"), 1, b"hunter2", &key);
    assert!(open(&name("a"), 1, &sealed, &other).is_none());
    let renamed = SealedValue {
        key: other.id(),
        ..sealed
    };
    assert!(open(&name("a"), 1, &renamed, &other).is_none());
}

#[test]
fn the_same_value_is_never_sealed_the_same_way() {
    let key = WrappingKey::generate();
    let first = seal(&name("a"), 1, b"hunter2", &key);
    let second = seal(&name("a"), 1, b"hunter2", &key);
    assert_ne!(first.nonce, second.nonce);
    assert_ne!(first.text, second.text);
    assert_ne!(first.wrapped_key, second.wrapped_key);
}

proptest! {
    #[test]
    fn whatever_is_sealed_is_opened(value: Vec<u8>, text in "[^\\p{Cc}]{1,20}", version: u32) {
        let (key, name) = (WrappingKey::generate(), name(&text));
        let sealed = seal(&name, version, &value, &key);
        prop_assert_eq!(open(&name, version, &sealed, &key), Some(value));
    }
}
