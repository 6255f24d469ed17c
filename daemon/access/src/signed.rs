//! Requests that are signed with a service's token (HMAC-SHA-256).
//!
//! Signed is `METHOD\npath?query\nts\nnonce\nhex(sha256(body))`; the key is the
//! token's text as it was shown. Such a request is good once, for five minutes:
//! its nonce is remembered for as long as its time could be taken. What was
//! signed before the daemon's start is refused, as nobody remembers it. Each
//! token has a share of what is remembered, so that one of them cannot fill it
//! for the others.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use model::{Digest, Timestamp, TokenId, TokenRecord};
use sha2::Sha256;

use crate::AccessError;
use crate::text::{digest, hex};

/// The sender's clock may be this far from ours.
const MAX_SKEW: Duration = Duration::from_mins(5);

/// Nonces that are remembered; beyond it requests are sent away.
const MAX_NONCES: usize = 200_000;

/// Nonces of one token: half of them all, however much it may send. The other
/// half stays for the others.
const MAX_NONCES_OF_ONE: usize = MAX_NONCES / 2;

/// Minutes that a nonce is remembered at most: two generations of ten. A token
/// that keeps to its rate never has more than this many minutes' worth.
const MINUTES_REMEMBERED: usize = 20;

/// The header of a signed request, taken apart:
/// `SOTP-HMAC-SHA256 key=<id>, ts=<unix seconds>, nonce=<16..64>, signature=<base64>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedHeader<'a> {
    /// The token's number.
    pub key: &'a str,
    /// When it was signed, in seconds since 1970.
    pub timestamp: u64,
    /// What the sender says once only.
    pub nonce: &'a str,
    /// The signature, in base64.
    pub signature: &'a str,
}

impl<'a> SignedHeader<'a> {
    /// What the header begins with.
    pub const SCHEME: &'static str = "SOTP-HMAC-SHA256";

    /// The header's value, if it is of this scheme and complete.
    #[must_use]
    pub fn parse(value: &'a str) -> Option<SignedHeader<'a>> {
        let (scheme, rest) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case(SignedHeader::SCHEME) {
            return None;
        }
        let (mut key, mut timestamp, mut nonce, mut signature) = (None, None, None, None);
        for part in rest.split(',') {
            let (name, value) = part.trim().split_once('=')?;
            let place = match name {
                "key" => &mut key,
                "ts" => &mut timestamp,
                "nonce" => &mut nonce,
                "signature" => &mut signature,
                _ => return None,
            };
            // said twice, one reader takes the first and another the last
            if place.replace(value).is_some() {
                return None;
            }
        }
        // digits alone: `+5` and `05` are the same number and another text
        let timestamp = timestamp.filter(|ts| ts.bytes().all(|byte| byte.is_ascii_digit()))?;
        Some(SignedHeader {
            key: key?,
            timestamp: timestamp.parse().ok()?,
            nonce: nonce.filter(|nonce| is_nonce(nonce))?,
            signature: signature?,
        })
    }
}

fn is_nonce(nonce: &str) -> bool {
    (16..=64).contains(&nonce.len())
        && nonce
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~+/=".contains(&byte))
}

/// What is signed.
pub(crate) fn message(
    header: &SignedHeader<'_>,
    method: &str,
    target: &str,
    body: &Digest,
) -> String {
    let (timestamp, nonce) = (header.timestamp, header.nonce);
    format!("{method}\n{target}\n{timestamp}\n{nonce}\n{}", hex(&body.0))
}

/// Whether `signature` is that of `message`, in a time that does not tell how
/// much of it is.
pub(crate) fn is_signed(key: &[u8], message: &str, signature: &str) -> bool {
    let Ok(signature) = BASE64.decode(signature) else {
        return false;
    };
    Hmac::<Sha256>::new_from_slice(key)
        .is_ok_and(|mac| mac.chain_update(message).verify_slice(&signature).is_ok())
}

/// What was signed and seen already.
#[derive(Debug)]
pub(crate) struct Seen {
    since: Timestamp,
    generations: Mutex<Generations>,
}

/// Two of them, each for as long as a request can be taken: the older one goes
/// when the younger one is that old.
#[derive(Debug)]
struct Generations {
    begun: Timestamp,
    young: Generation,
    old: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    requests: HashSet<Digest>,
    by_token: HashMap<TokenId, usize>,
}

impl Generation {
    fn of(&self, token: &TokenId) -> usize {
        self.by_token.get(token).copied().unwrap_or_default()
    }
}

/// How many requests of `token` are remembered.
fn share(token: &TokenRecord) -> usize {
    let per_minute = usize::try_from(token.requests_per_minute).unwrap_or(usize::MAX);
    per_minute
        .saturating_mul(MINUTES_REMEMBERED)
        .min(MAX_NONCES_OF_ONE)
}

impl Seen {
    pub(crate) fn new(now: Timestamp) -> Seen {
        Seen {
            since: now,
            generations: Mutex::new(Generations {
                begun: now,
                young: Generation::default(),
                old: Generation::default(),
            }),
        }
    }

    /// Whether `timestamp` is one to look at.
    ///
    /// # Errors
    ///
    /// [`AccessError::BadToken`] says why not.
    pub(crate) fn check_time(&self, timestamp: u64, now: Timestamp) -> Result<(), AccessError> {
        let at = Timestamp(timestamp.saturating_mul(1000));
        let why = if now.since(at) > MAX_SKEW {
            "it was signed more than five minutes ago; is the sender's clock right?"
        } else if at.since(now) > MAX_SKEW {
            "it is signed for more than five minutes ahead; is the sender's clock right?"
        } else if at.0 + 999 < self.since.0 {
            "it was signed before the appliance's last start; sign it again"
        } else {
            return Ok(());
        };
        Err(AccessError::BadToken { why })
    }

    /// Remembers a request that is signed well by `token`, by its time and its
    /// nonce.
    ///
    /// # Errors
    ///
    /// [`AccessError::BadToken`] if it was seen before,
    /// [`AccessError::TooSoon`] if the token has sent more than it may,
    /// [`AccessError::TooBusy`] if no more can be remembered of anybody.
    pub(crate) fn remember(
        &self,
        token: &TokenRecord,
        header: &SignedHeader<'_>,
        now: Timestamp,
    ) -> Result<(), AccessError> {
        let id = &token.id;
        let this = digest(&format!("{id}\n{}\n{}", header.timestamp, header.nonce));
        let mut seen = self
            .generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // a request is taken from five minutes before its time to five after
        if now.since(seen.begun) >= 2 * MAX_SKEW {
            seen.old = std::mem::take(&mut seen.young);
            seen.begun = now;
        }
        if seen.old.requests.contains(&this) || seen.young.requests.contains(&this) {
            return Err(AccessError::BadToken {
                why: "it was sent before",
            });
        }
        if seen.young.of(id) + seen.old.of(id) >= share(token) {
            let wait = (2 * MAX_SKEW).saturating_sub(now.since(seen.begun));
            return Err(AccessError::TooSoon { wait });
        }
        if seen.young.requests.len() + seen.old.requests.len() >= MAX_NONCES {
            return Err(AccessError::TooBusy);
        }
        seen.young.requests.insert(this);
        *seen.young.by_token.entry(id.clone()).or_default() += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use model::{SecretName, TokenProof};

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn token(id: &str, requests_per_minute: u32) -> TokenRecord {
        TokenRecord {
            id: TokenId(id.to_owned()),
            name: id.to_owned(),
            proof: TokenProof::Hmac(SecretName(format!(".token/{id}"))),
            bindings: vec![],
            permissions: [].into(),
            requests_per_minute,
            created_by: "system".to_owned(),
            created: NOW,
            expires: NOW.plus(Duration::from_hours(24)),
            last_used: None,
            revision: 1,
        }
    }

    impl Seen {
        fn take(
            &self,
            token: &TokenRecord,
            nonce: &str,
            now: Timestamp,
        ) -> Result<(), AccessError> {
            let header = SignedHeader {
                key: &token.id.0,
                timestamp: NOW.0 / 1000,
                nonce,
                signature: "",
            };
            self.remember(token, &header, now)
        }
    }

    #[test]
    fn a_header_is_read_in_any_order_and_refused_with_anything_unclear() {
        let good =
            "SOTP-HMAC-SHA256 key=abc, ts=1800000000, nonce=0123456789abcdef, signature=eA==";
        let header = SignedHeader::parse(good).unwrap();
        assert_eq!((header.key, header.timestamp), ("abc", 1_800_000_000));
        assert_eq!(
            (header.nonce, header.signature),
            ("0123456789abcdef", "eA==")
        );
        let turned = "sotp-hmac-sha256 signature=eA==,nonce=0123456789abcdef,ts=1800000000,key=abc";
        assert_eq!(SignedHeader::parse(turned), Some(header));
        for bad in [
            "",
            "Bearer abc",
            "SOTP-HMAC-SHA256",
            &good.replace("abc,", "abc, key=abd,"),
            &good.replace("key=abc, ", ""),
            &good.replace("0123456789abcdef", "0123"),
            &good.replace("0123456789abcdef", "0123456789\nbcdef"),
            &good.replace("1800000000", "+1800000000"),
            &good.replace("1800000000", "-1"),
            &format!("{good}, more=1"),
        ] {
            assert_eq!(SignedHeader::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_signature_is_hmac_sha_256_as_in_rfc_4231() {
        let expected = "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=";
        let text = "what do ya want for nothing?";
        assert!(is_signed(b"Jefe", text, expected));
        assert!(!is_signed(b"Jefa", text, expected));
        assert!(!is_signed(
            b"Jefe",
            "what do ya want for nothing!",
            expected
        ));
        assert!(!is_signed(b"Jefe", text, &expected[..40]));
        assert!(!is_signed(b"Jefe", text, ""));
    }

    #[test]
    fn a_request_is_good_for_five_minutes_and_not_from_before_the_start() {
        let seen = Seen::new(NOW);
        let secs = NOW.0 / 1000;
        let hour = NOW.plus(Duration::from_hours(1));
        assert!(seen.check_time(secs, NOW).is_ok());
        assert!(seen.check_time(secs + 300, NOW).is_ok());
        assert!(seen.check_time(secs + 301, NOW).is_err());
        assert!(seen.check_time(secs - 1, NOW).is_err());
        assert!(seen.check_time(hour.0 / 1000 - 300, hour).is_ok());
        assert!(seen.check_time(hour.0 / 1000 - 301, hour).is_err());
        assert!(seen.check_time(u64::MAX, NOW).is_err());
    }

    #[test]
    fn a_request_is_taken_once_for_as_long_as_its_time_is_taken() {
        let seen = Seen::new(NOW);
        let token = token("backup", 600);
        let mut now = NOW;
        for n in 0..100 {
            let nonce = format!("request {n}");
            seen.take(&token, &nonce, now).unwrap();
            // in steps that do not fit the generations
            for minutes in [0, 3, 7, 10] {
                let later = now.plus(Duration::from_mins(minutes));
                assert!(seen.take(&token, &nonce, later).is_err(), "{n} {minutes}");
            }
            now = now.plus(Duration::from_mins(11));
        }
        let held = seen.generations.lock().unwrap();
        assert!(held.young.requests.len() + held.old.requests.len() <= 2);
        assert!(held.young.by_token.len() + held.old.by_token.len() <= 2);
    }

    #[test]
    fn a_token_that_sends_more_than_it_may_waits_and_leaves_room_for_the_others() {
        let seen = Seen::new(NOW);
        let (flood, other) = (token("flood", 60), token("other", 60));
        for n in 0..20 * 60 {
            seen.take(&flood, &n.to_string(), NOW).unwrap();
        }
        let soon = NOW.plus(Duration::from_mins(4));
        let more = seen.take(&flood, "more", soon);
        assert!(
            matches!(more, Err(AccessError::TooSoon { wait }) if wait == Duration::from_mins(6))
        );
        seen.take(&other, "more", soon).unwrap();
        let replayed = seen.take(&flood, "0", soon);
        assert!(matches!(replayed, Err(AccessError::BadToken { .. })));
        // a generation later the other one still counts
        let later = NOW.plus(Duration::from_mins(10));
        let more = seen.take(&flood, "more", later);
        assert!(matches!(more, Err(AccessError::TooSoon { .. })));
        let later = NOW.plus(Duration::from_mins(20));
        seen.take(&flood, "more", later).unwrap();
    }

    #[test]
    fn a_token_that_keeps_to_its_rate_never_waits() {
        let seen = Seen::new(NOW);
        let token = token("steady", 60);
        for second in 0..2 * 3600 {
            let now = NOW.plus(Duration::from_secs(second));
            seen.take(&token, &second.to_string(), now).unwrap();
        }
    }

    #[test]
    fn one_token_never_fills_what_is_remembered_however_much_it_may_send() {
        let seen = Seen::new(NOW);
        let flood = token("flood", 60_000);
        let taken = (0..MAX_NONCES)
            .take_while(|n| seen.take(&flood, &n.to_string(), NOW).is_ok())
            .count();
        assert_eq!(taken, MAX_NONCES_OF_ONE);
        seen.take(&token("other", 60), "0", NOW).unwrap();
    }

    #[test]
    fn a_flood_of_requests_is_sent_away_instead_of_forgetting() {
        let seen = Seen::new(NOW);
        let tokens = [token("one", 60_000), token("other", 60_000)];
        let third = token("third", 60);
        for n in 0..MAX_NONCES {
            seen.take(&tokens[n % 2], &n.to_string(), NOW).unwrap();
        }
        let more = seen.take(&third, "more", NOW);
        assert!(matches!(more, Err(AccessError::TooBusy)));
        assert!(seen.take(&tokens[0], "0", NOW).is_err());
        let later = NOW.plus(Duration::from_mins(20));
        seen.take(&third, "x", NOW.plus(Duration::from_mins(10)))
            .unwrap_err();
        seen.take(&third, "more", later).unwrap();
    }
}
