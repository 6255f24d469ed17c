//! Texts that let somebody in, and how they are made.

use std::fmt;

use model::Digest;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// A text that lets its owner in: wiped when dropped, and never shown by
/// `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Keeps `text`.
    #[must_use]
    pub fn new(text: String) -> SecretText {
        SecretText(Zeroizing::new(text))
    }

    /// The text, to be handed to its owner once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

/// The digits of [`base62`].
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Bytes that nobody can guess.
///
/// # Panics
///
/// If the kernel gives no random bytes: nothing safe can be done without them.
pub(crate) fn random<const N: usize>() -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice()).expect("the kernel gives random bytes once it is up");
    bytes
}

/// `LEN` letters and digits that nobody can guess, each of them as likely as
/// any other.
pub(crate) fn random_base62(len: usize) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(len));
    while text.len() < len {
        // 248 = 4 * 62: what is beyond it would make some digits likelier
        for byte in random::<64>().iter().filter(|byte| **byte < 248) {
            if text.len() < len {
                text.push(char::from(BASE62[usize::from(byte % 62)]));
            }
        }
    }
    text
}

/// `number` in letters and digits, six of them.
pub(crate) fn base62_of_32_bits(mut number: u32) -> String {
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(number % 62) as usize];
        number /= 62;
    }
    digits.iter().copied().map(char::from).collect()
}

/// Bytes in lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// SHA-256: what is kept of a text that has as much chance in it as a key.
pub(crate) fn digest(text: &str) -> Digest {
    Digest(Sha256::digest(text.as_bytes()).into())
}

/// Whether both are the same, in a time that does not tell where they differ.
pub(crate) fn same(one: &Digest, other: &Digest) -> bool {
    use subtle::ConstantTimeEq as _;
    one.0.ct_eq(&other.0).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_text_shows_itself_to_nobody_who_debugs() {
        let text = SecretText::new("canary".to_owned());
        assert!(!format!("{text:?}").contains("canary"));
        assert_eq!(text.expose(), "canary");
    }

    #[test]
    fn random_texts_have_their_length_and_differ() {
        let (one, other) = (random_base62(43), random_base62(43));
        assert_eq!((one.len(), other.len()), (43, 43));
        assert_ne!(*one, *other);
        assert!(one.bytes().all(|byte| BASE62.contains(&byte)));
    }

    #[test]
    fn a_number_of_32_bits_has_six_digits_and_keeps_its_order() {
        assert_eq!(base62_of_32_bits(0), "000000");
        assert_eq!(base62_of_32_bits(61), "00000z");
        assert_eq!(base62_of_32_bits(62), "000010");
        assert!(base62_of_32_bits(u32::MAX) > base62_of_32_bits(u32::MAX - 1));
    }
}
