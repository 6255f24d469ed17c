//! Codes that change (RFC 6238: SHA-1, six digits, 30 s), and those for the day
//! when the telephone is lost.

use model::{Digest, Timestamp, UserName};
use secrets::SecretBytes;
use subtle::ConstantTimeEq as _;
use totp_rs::{Builder, Totp};
use zeroize::Zeroizing;

use crate::text::{digest, random};
use crate::{AccessError, SecretText, TotpOffer};

/// Seconds that a code is shown.
const STEP_SECS: u64 = 30;

/// Recovery codes that are given at once.
const RECOVERY_CODES: usize = 10;

/// Letters of a recovery code: 120 random bits, so that a plain hash of it may be
/// kept (OWASP ASVS 6.5.2 wants 112).
const RECOVERY_LETTERS: usize = 24;

/// Letters and digits that are not mistaken for each other, 32 of them.
const CLEAR: &[u8; 32] = b"23456789abcdefghjkmnpqrstuvwxyz0";

/// A new seed: 160 bits, as RFC 4226 wants.
pub(crate) fn new_seed() -> SecretBytes {
    SecretBytes::new(random::<20>().to_vec())
}

/// What an authenticator is set up with.
///
/// # Errors
///
/// [`AccessError::Invalid`] if the names cannot stand in such an address.
pub(crate) fn offer(
    seed: &SecretBytes,
    user: &UserName,
    host: &str,
) -> Result<TotpOffer, AccessError> {
    let account = match host {
        "" => user.to_string(),
        host => format!("{user} on {}", host.replace(':', " ")),
    };
    let totp = generator(seed)
        .with_account_name(account)
        .with_issuer(Some("SOTP"))
        .build()
        .map_err(|error| AccessError::Invalid {
            what: format!("no authenticator can be set up: {error}"),
        })?;
    let uri = totp.to_url().map_err(|error| AccessError::Invalid {
        what: format!("no authenticator can be set up: {error}"),
    })?;
    let secret = totp.secret().to_base32().to_string();
    Ok(TotpOffer {
        uri: SecretText::new(uri),
        secret: SecretText::new(secret),
    })
}

/// The step at `now` or one beside it at which `code` is shown; the same work
/// whichever it is.
pub(crate) fn step_of(seed: &SecretBytes, code: &str, now: Timestamp) -> Option<u64> {
    let current = now.0 / 1000 / STEP_SECS;
    let totp = generator(seed).build_noncompliant();
    let code = code.trim().as_bytes();
    let mut found = None;
    for step in [
        current.saturating_sub(1),
        current,
        current.saturating_add(1),
    ] {
        let shown = code_of(&totp, step);
        if bool::from(shown.as_bytes().ct_eq(code)) {
            found = Some(step);
        }
    }
    found
}

/// The code that is shown at `now`.
#[cfg(test)]
pub(crate) fn code_at(seed: &[u8], now: Timestamp) -> String {
    let totp = generator(&SecretBytes::new(seed.to_vec())).build_noncompliant();
    code_of(&totp, now.0 / 1000 / STEP_SECS).to_string()
}

fn generator(seed: &SecretBytes) -> Builder {
    Builder::new()
        .with_secret(seed.expose().to_vec())
        .with_step_duration(STEP_SECS)
}

fn code_of(totp: &Totp, step: u64) -> Zeroizing<String> {
    Zeroizing::new(totp.generate(step.saturating_mul(STEP_SECS)).to_string())
}

/// Whether `code` is meant as one of an authenticator.
pub(crate) fn looks_like_a_code(code: &str) -> bool {
    let code = code.trim();
    code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit())
}

/// New recovery codes, and what is kept of them.
pub(crate) fn new_recovery_codes() -> (Vec<SecretText>, Vec<Digest>) {
    (0..RECOVERY_CODES)
        .map(|_| {
            let letters: Zeroizing<String> = Zeroizing::new(
                random::<RECOVERY_LETTERS>()
                    .iter()
                    .map(|byte| char::from(CLEAR[usize::from(byte % 32)]))
                    .collect(),
            );
            let code = format!(
                "{}-{}-{}-{}",
                &letters[..6],
                &letters[6..12],
                &letters[12..18],
                &letters[18..]
            );
            (SecretText::new(code), digest(&letters))
        })
        .unzip()
}

/// What is kept of a recovery code, however it was typed.
pub(crate) fn recovery_digest(code: &str) -> Digest {
    let letters: Zeroizing<String> = Zeroizing::new(
        code.chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|letter| letter.to_ascii_lowercase())
            .take(64)
            .collect(),
    );
    digest(&letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp(secs * 1000)
    }

    #[test]
    fn codes_are_those_of_rfc_6238_appendix_b() {
        let seed = b"12345678901234567890";
        for (secs, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
        ] {
            assert_eq!(code_at(seed, at(secs)), code);
        }
    }

    #[test]
    fn a_code_is_good_one_step_early_and_one_step_late_and_no_more() {
        let seed = new_seed();
        let code = code_at(seed.expose(), at(3_000_000));
        let step = 3_000_000 / 30;
        for secs in [2_999_970, 3_000_000, 3_000_029, 3_000_059] {
            assert_eq!(step_of(&seed, &code, at(secs)), Some(step), "{secs}");
        }
        for secs in [2_999_969, 3_000_060] {
            assert_ne!(step_of(&seed, &code, at(secs)), Some(step), "{secs}");
        }
        assert_eq!(step_of(&seed, "", at(3_000_000)), None);
    }

    #[test]
    fn an_authenticator_gets_an_address_with_seed_issuer_and_name() {
        let seed = SecretBytes::new(b"12345678901234567890".to_vec());
        let offer = offer(&seed, &UserName("jane@a.b".to_owned()), "nms:8443").unwrap();
        assert_eq!(offer.secret.expose(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        let uri = offer.uri.expose();
        assert!(uri.starts_with("otpauth://totp/SOTP:jane"), "{uri}");
        assert!(
            uri.contains("secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"),
            "{uri}"
        );
    }

    #[test]
    fn a_recovery_code_is_known_however_it_is_typed() {
        let (codes, kept) = new_recovery_codes();
        assert_eq!((codes.len(), kept.len()), (10, 10));
        for (code, kept) in codes.iter().zip(&kept) {
            let typed = format!(" {} ", code.expose().to_uppercase().replace('-', " "));
            assert_eq!(recovery_digest(&typed), *kept);
            assert!(!looks_like_a_code(code.expose()));
        }
        assert!(looks_like_a_code(" 123456 ") && !looks_like_a_code("12345"));
    }
}
