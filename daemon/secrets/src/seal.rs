//! Sealing, without any I/O.
//!
//! A value is sealed with XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) and a
//! key of its own; that data key is wrapped by the wrapping key. Both are bound
//! to the secret's name and version by the associated data, so that a sealed
//! value opens in its own place alone. All nonces and data keys are random: 24
//! bytes do not meet by chance.
//!
//! ```text
//! text        = seal(data key, nonce, name 00 version, value)
//! wrapped_key = nonce' seal(wrapping key, nonce', id of the key 00 name 00 version, data key)
//! ```
//!
//! `version` is four bytes, the most significant one first. Names have no
//! control characters, so that the 00 ends them.

use chacha20poly1305::aead::Aead as _;
use chacha20poly1305::{AeadInOut as _, KeyInit as _, XChaCha20Poly1305, XNonce, aead};
use model::{KeyId, SealedValue, SecretName};
use zeroize::Zeroizing;

use crate::key::KEY_BYTES;
use crate::{SecretBytes, WrappingKey};

/// Bytes of a nonce.
const NONCE_BYTES: usize = 24;

/// Bytes that sealing adds.
const TAG_BYTES: usize = 16;

/// The key of one value.
#[derive(Clone)]
pub(crate) struct DataKey(Zeroizing<[u8; KEY_BYTES]>);

impl DataKey {
    pub(crate) fn generate() -> DataKey {
        DataKey(Zeroizing::new(random()))
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<DataKey> {
        let bytes: &[u8; KEY_BYTES] = bytes.try_into().ok()?;
        Some(DataKey(Zeroizing::new(*bytes)))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// Where a sealed value belongs.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) name: &'a SecretName,
    pub(crate) version: u32,
}

impl Place<'_> {
    fn bound(self) -> Vec<u8> {
        let mut bound = self.name.0.clone().into_bytes();
        bound.push(0);
        bound.extend_from_slice(&self.version.to_be_bytes());
        bound
    }

    fn bound_under(self, key: &KeyId) -> Vec<u8> {
        let mut bound = key.0.clone().into_bytes();
        bound.push(0);
        bound.extend_from_slice(&self.bound());
        bound
    }
}

/// A value that is sealed, while its key is not wrapped yet.
pub(crate) struct Sealed {
    pub(crate) key: DataKey,
    pub(crate) nonce: [u8; NONCE_BYTES],
    pub(crate) text: Vec<u8>,
}

impl Sealed {
    pub(crate) fn wrapped(self, key: KeyId, wrapped_key: Vec<u8>) -> SealedValue {
        SealedValue {
            key,
            wrapped_key,
            nonce: self.nonce,
            text: self.text,
        }
    }
}

/// Seals `value` with a new key.
pub(crate) fn seal(place: Place<'_>, value: &SecretBytes) -> Sealed {
    let key = DataKey::generate();
    let nonce = random();
    let text = seal_with(&key.0, &nonce, &place.bound(), value.expose());
    Sealed { key, nonce, text }
}

/// What was sealed, if this is it.
pub(crate) fn open(place: Place<'_>, sealed: &SealedValue, key: &DataKey) -> Option<SecretBytes> {
    open_with(&key.0, &sealed.nonce, &place.bound(), &sealed.text)
}

/// Wraps the key of a value.
pub(crate) fn wrap(place: Place<'_>, with: &WrappingKey, key: &DataKey) -> Vec<u8> {
    let nonce: [u8; NONCE_BYTES] = random();
    let bound = place.bound_under(&with.id());
    let mut wrapped = nonce.to_vec();
    wrapped.extend_from_slice(&seal_with(with.bytes(), &nonce, &bound, key.bytes()));
    wrapped
}

/// The key that was wrapped, if this is it.
pub(crate) fn unwrap(
    place: Place<'_>,
    sealed: &SealedValue,
    with: &WrappingKey,
) -> Option<DataKey> {
    let (nonce, text) = sealed.wrapped_key.split_at_checked(NONCE_BYTES)?;
    let bound = place.bound_under(&sealed.key);
    let key = open_with(with.bytes(), nonce.try_into().ok()?, &bound, text)?;
    DataKey::from_bytes(key.expose())
}

fn seal_with(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    bound: &[u8],
    value: &[u8],
) -> Vec<u8> {
    // the room is made before the value is copied in, and sealed in place: no
    // copy of it is left behind
    XChaCha20Poly1305::new(key.into())
        .encrypt(
            &XNonce::from(*nonce),
            aead::Payload {
                msg: value,
                aad: bound,
            },
        )
        .expect("a value is shorter than 256 GiB")
}

fn open_with(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    bound: &[u8],
    text: &[u8],
) -> Option<SecretBytes> {
    let mut value = Zeroizing::new(Vec::with_capacity(text.len() + TAG_BYTES));
    value.extend_from_slice(text);
    XChaCha20Poly1305::new(key.into())
        .decrypt_in_place(&XNonce::from(*nonce), bound, &mut *value)
        .ok()?;
    Some(SecretBytes::from_zeroizing(value))
}

/// # Panics
///
/// If the system has no randomness: nothing could be sealed.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes
}
