//! The texts that services and refreshing clients show.
//!
//! - A service's token: `sotp_<id>_<secret>_<crc32>`, in letters and digits. Its
//!   beginning is for those who look for leaked secrets; its checksum refuses a
//!   mistyped one without a look-up.
//! - A refresh token: `sotpr_<family><secret>`. The session's number is the
//!   beginning of the family's hash, so that nobody can make up a token for
//!   somebody else's session, and end it as stolen, who saw its number alone.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use model::{Digest, SessionId, TokenId};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::SecretText;
use crate::text::{base62_of_32_bits, digest, hex, random, random_base62};

/// What a service's token begins with.
pub(crate) const TOKEN: &str = "sotp_";

/// What a refresh token begins with.
const REFRESH: &str = "sotpr_";

/// Letters of a service token's number: 71 bits, so that two never meet.
const ID_LETTERS: usize = 12;

/// Letters of its secret: 256 bits.
const SECRET_LETTERS: usize = 43;

/// Letters of its checksum.
const CHECK_LETTERS: usize = 6;

/// Bytes that all refresh tokens of a session have in common.
const FAMILY_BYTES: usize = 16;

/// Bytes of the rest.
const ONCE_BYTES: usize = 32;

/// A new token for a service: its number and its text.
pub(crate) fn new_token() -> (TokenId, SecretText) {
    let id = random_base62(ID_LETTERS);
    let body = Zeroizing::new(format!("{TOKEN}{}_{}", *id, *random_base62(SECRET_LETTERS)));
    let check = checksum(&body);
    (
        TokenId(id.to_string()),
        SecretText::new(format!("{}_{check}", *body)),
    )
}

/// The number in a service's token, if the text is one without a slip.
pub(crate) fn token_id(text: &str) -> Option<TokenId> {
    let length = TOKEN.len() + ID_LETTERS + 1 + SECRET_LETTERS + 1 + CHECK_LETTERS;
    if text.len() != length || !text.is_ascii() {
        return None;
    }
    let (body, check) = text.rsplit_once('_')?;
    let (id, secret) = body.strip_prefix(TOKEN)?.split_once('_')?;
    let sound = id.len() == ID_LETTERS
        && secret.len() == SECRET_LETTERS
        && id.bytes().all(|letter| letter.is_ascii_alphanumeric())
        && check == checksum(body);
    sound.then(|| TokenId(id.to_owned()))
}

fn checksum(body: &str) -> String {
    base62_of_32_bits(crc32fast::hash(body.as_bytes()))
}

/// A new session's number and its first refresh token.
pub(crate) fn new_session() -> (SessionId, SecretText) {
    let family = random::<FAMILY_BYTES>();
    (
        session_of(family.as_slice()),
        refresh_text(family.as_slice()),
    )
}

/// A refresh token as it was shown.
pub(crate) struct Refresh {
    family: Zeroizing<Vec<u8>>,
    /// Its session.
    pub(crate) session: SessionId,
    /// What is kept of it.
    pub(crate) digest: Digest,
}

impl Refresh {
    /// The token, if the text is one.
    pub(crate) fn parse(text: &str) -> Option<Refresh> {
        // 48 bytes are 64 letters, without any left over
        let bytes = Zeroizing::new(BASE64.decode(text.strip_prefix(REFRESH)?).ok()?);
        if bytes.len() != FAMILY_BYTES + ONCE_BYTES {
            return None;
        }
        let family = Zeroizing::new(bytes[..FAMILY_BYTES].to_vec());
        Some(Refresh {
            session: session_of(&family),
            family,
            digest: digest(text),
        })
    }

    /// The one to exchange it for.
    pub(crate) fn next(&self) -> SecretText {
        refresh_text(&self.family)
    }
}

fn refresh_text(family: &[u8]) -> SecretText {
    let mut bytes = Zeroizing::new(family.to_vec());
    bytes.extend_from_slice(random::<ONCE_BYTES>().as_slice());
    SecretText::new(format!(
        "{REFRESH}{}",
        *Zeroizing::new(BASE64.encode(&*bytes))
    ))
}

fn session_of(family: &[u8]) -> SessionId {
    let hash = Sha256::new()
        .chain_update(b"sotp session")
        .chain_update(family)
        .finalize();
    SessionId(hex(&hash[..16]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_token_has_its_parts_and_reads_back() {
        let (id, text) = new_token();
        let parts: Vec<&str> = text.expose().split('_').collect();
        assert_eq!(
            parts.iter().map(|part| part.len()).collect::<Vec<_>>(),
            [4, 12, 43, 6]
        );
        assert_eq!((parts[0], parts[1]), ("sotp", id.0.as_str()));
        assert_eq!(token_id(text.expose()), Some(id));
    }

    #[test]
    fn a_service_token_with_any_letter_mistyped_is_none() {
        let (_, text) = new_token();
        for place in 0..text.expose().len() {
            let mut typed = text.expose().to_owned();
            let other = if typed[place..].starts_with('x') {
                "y"
            } else {
                "x"
            };
            typed.replace_range(place..=place, other);
            assert_eq!(token_id(&typed), None, "letter {place}");
        }
        for nonsense in ["", "sotp_", "sotp___", &"_".repeat(68), &"ä".repeat(34)] {
            assert_eq!(token_id(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn refresh_tokens_of_a_session_share_its_number_and_nothing_that_shows_it() {
        let (id, first) = new_session();
        let shown = Refresh::parse(first.expose()).unwrap();
        let second = shown.next();
        assert_ne!(first, second);
        assert_eq!(shown.session, id);
        assert_eq!(Refresh::parse(second.expose()).unwrap().session, id);
        assert_eq!(id.0.len(), 32);
        assert!(!first.expose().contains(&id.0));
    }

    #[test]
    fn nonsense_is_no_refresh_token() {
        let (_, good) = new_session();
        for bad in ["", "sotpr_", &good.expose()[1..], &good.expose()[..60]] {
            assert!(Refresh::parse(bad).is_none(), "{bad}");
        }
    }
}
