//! Whom to believe about plugins: a name, and the key that they sign with.

use crate::kinds::{One, quoted};
use crate::problem::Mistake;

/// A key that plugins may be signed with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedKey {
    /// Whose it is, as people here call them.
    pub name: String,
    /// The key: `sotp-plugin-key ed25519 BASE64`, perhaps with a comment.
    pub key: String,
}

/// The longest name of whom a key belongs to.
const NAME_BYTES: usize = 63;

/// What a public key begins with.
const BEGIN: [&str; 2] = ["sotp-plugin-key", "ed25519"];

/// The letters of 32 bytes in base64 (RFC 4648 §4), without the `=` at the end.
const KEY_LETTERS: usize = 43;

const HINT: &str = "write a name, a colon and the line that `sotp plugin keygen` shows: \
                    \"acme: sotp-plugin-key ed25519 AAAA...\"";

/// `acme: sotp-plugin-key ed25519 BASE64`. A private key is not repeated.
pub(crate) fn trusted_key() -> One<TrustedKey> {
    let words = "names with keys: \"acme: sotp-plugin-key ed25519 AAAA...\"";
    One::of_text(words, |text| {
        if text.to_ascii_uppercase().contains("PLUGIN-SECRET-KEY") {
            let hint = "its public key belongs here; whoever could read this file has the \
                        private one: make another";
            return Err(Mistake::new("is a private key", hint));
        }
        let Some((name, key)) = text.split_once(':') else {
            return Err(Mistake::new(
                format!("{} has no name before its key", quoted(text)),
                HINT,
            ));
        };
        if !is_name(name) {
            let message = format!("{} is no name of whom a key belongs to", quoted(name));
            let hint = "1 to 63 letters, digits and any of - _ . before the colon";
            return Err(Mistake::new(message, hint));
        }
        if name == BUNDLED {
            let hint = "so are called the plugins that came with the daemon; take another name";
            return Err(Mistake::new(format!("{name:?} is taken"), hint));
        }
        let key = key.trim();
        if !is_key(key) {
            return Err(Mistake::new(
                format!("{} is no public key of plugins", quoted(key)),
                HINT,
            ));
        }
        Ok(TrustedKey {
            name: name.to_owned(),
            key: key.to_owned(),
        })
    })
}

/// What the daemon calls the signer of the plugins that came with it.
const BUNDLED: &str = "bundled";

fn is_name(name: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=NAME_BYTES).contains(&name.len())
        && name.chars().all(inside)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_key(key: &str) -> bool {
    let mut words = key.split(' ');
    let begins = BEGIN.iter().all(|word| words.next() == Some(*word));
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
    let letters = words.next().and_then(|word| word.strip_suffix('='));
    let is_whole =
        letters.is_some_and(|word| word.len() == KEY_LETTERS && word.chars().all(inside));
    begins && is_whole && !key.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{read, says};

    const KEY: &str = "sotp-plugin-key ed25519 qCvmVpCkvtTExtDgM5VKCOLb9wkqKcYgdGxjZBqIF3I=";

    #[test]
    fn a_key_has_a_name_and_perhaps_a_comment() {
        for (text, key) in [
            (format!("acme: {KEY}"), KEY.to_owned()),
            (format!("acme:{KEY} jane@acme"), format!("{KEY} jane@acme")),
        ] {
            let name = "acme".to_owned();
            let read = read(&trusted_key(), &format!("{text:?}"));
            assert_eq!(read, Ok(TrustedKey { name, key }));
        }
    }

    #[test]
    fn what_is_no_name_with_a_key_is_refused() {
        for (bad, said) in [
            (KEY.to_owned(), "no name before its key"),
            (format!(": {KEY}"), "no name of whom"),
            (format!("a b: {KEY}"), "no name of whom"),
            (format!("bundled: {KEY}"), "is taken"),
            (format!("acme: {}", &KEY[..KEY.len() - 2]), "no public key"),
            (
                format!("acme: {}", KEY.replace("ed25519", "rsa")),
                "no public key",
            ),
            ("acme: ssh-ed25519 AAAA".to_owned(), "no public key"),
        ] {
            says(&trusted_key(), &format!("{bad:?}"), said);
        }
    }

    #[test]
    fn a_private_key_is_refused_and_not_repeated() {
        let text = "\"acme: SOTP-PLUGIN-SECRET-KEY-CANARY\"";
        let said = read(&trusted_key(), text).unwrap_err();
        assert!(said[0].contains("is a private key"), "{said:?}");
        assert!(!said[0].contains("CANARY"), "{said:?}");
    }
}
