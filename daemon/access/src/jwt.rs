//! Access tokens: short-lived, signed, and worth nothing without their session.
//!
//! One algorithm (EdDSA with Ed25519), keys that live in memory alone: after a
//! restart everybody refreshes. A key signs for a day; the one before it is
//! still good for as long as what it signed may live. RFC 9068 says what is in
//! a token, except that roles are not: they are looked up.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
};
use model::{SessionId, Timestamp, UserName};
use serde::{Deserialize, Serialize};

use crate::text::{hex, random};
use crate::{AccessError, SecretText};

/// Whom our tokens are for.
const AUDIENCE: &str = "sotp";

/// What they are (RFC 9068).
const KIND: &str = "at+jwt";

/// How long a key signs.
const KEY_LIFE: Duration = Duration::from_hours(24);

/// How long the key before it is still good, at least.
const KEY_AFTERLIFE: Duration = Duration::from_mins(10);

/// Bytes of a token; ours are shorter.
const MAX_TOKEN: usize = 2048;

/// For this long a token may come from the future: the clock is set back a
/// little now and then.
const CLOCK_SLACK_SECS: u64 = 5;

/// What a token says.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    sid: String,
    iat: u64,
    nbf: u64,
    exp: u64,
}

struct Key {
    kid: String,
    made: Timestamp,
    signs: EncodingKey,
    verifies: DecodingKey,
}

struct Keys {
    current: Arc<Key>,
    /// The one before, and until when it is good.
    before: Option<(Arc<Key>, Timestamp)>,
}

/// Signs access tokens and knows its own.
pub(crate) struct Signer {
    keys: RwLock<Arc<Keys>>,
}

impl Signer {
    pub(crate) fn new(now: Timestamp) -> Signer {
        Signer {
            keys: RwLock::new(Arc::new(Keys {
                current: Arc::new(new_key(now)),
                before: None,
            })),
        }
    }

    /// A token for a session, good for `ttl`.
    pub(crate) fn sign(
        &self,
        issuer: &str,
        user: &UserName,
        session: &SessionId,
        ttl: Duration,
        now: Timestamp,
    ) -> SecretText {
        let keys = self.keys_at(now, ttl);
        let secs = now.0 / 1000;
        let claims = Claims {
            iss: issuer.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user.0.clone(),
            sid: session.0.clone(),
            iat: secs,
            nbf: secs,
            exp: secs.saturating_add(ttl.as_secs()),
        };
        let header = Header {
            typ: Some(KIND.to_owned()),
            kid: Some(keys.current.kid.clone()),
            ..Header::new(Algorithm::EdDSA)
        };
        let token = encode(&header, &claims, &keys.current.signs);
        SecretText::new(token.expect("plain texts and numbers are signed with a key of ours"))
    }

    /// Whose token this is, and of which session.
    ///
    /// # Errors
    ///
    /// [`AccessError::BadToken`], [`AccessError::Expired`].
    pub(crate) fn verify(
        &self,
        token: &str,
        issuer: &str,
        now: Timestamp,
    ) -> Result<(UserName, SessionId), AccessError> {
        let bad = |why| AccessError::BadToken { why };
        if token.len() > MAX_TOKEN {
            return Err(bad("it is too long"));
        }
        let header = decode_header(token).map_err(|_error| bad("it is no token of ours"))?;
        if header.alg != Algorithm::EdDSA || header.typ.as_deref() != Some(KIND) {
            return Err(bad("it is no access token"));
        }
        let kid = header.kid.as_deref().unwrap_or_default();
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let keys = keys.clone();
        let key = keys
            .find(kid, now)
            .ok_or(bad("its key is not in use (any more); refresh it"))?;
        let claims = decode::<Claims>(token, &key.verifies, &rules(issuer))
            .map_err(|_error| bad("it is not ours, or not for us"))?
            .claims;
        let secs = now.0 / 1000;
        if claims.nbf.max(claims.iat) > secs.saturating_add(CLOCK_SLACK_SECS) {
            return Err(bad("it is not good yet"));
        }
        if claims.exp <= secs {
            return Err(AccessError::Expired);
        }
        Ok((UserName(claims.sub), SessionId(claims.sid)))
    }

    /// The keys, the current one being young enough to sign.
    fn keys_at(&self, now: Timestamp, ttl: Duration) -> Arc<Keys> {
        let fresh = |keys: &Keys| now.since(keys.current.made) < KEY_LIFE;
        {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            if fresh(&keys) {
                return keys.clone();
            }
        }
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if !fresh(&keys) {
            let until = now.plus(KEY_AFTERLIFE.max(ttl));
            *keys = Arc::new(Keys {
                current: Arc::new(new_key(now)),
                before: Some((keys.current.clone(), until)),
            });
        }
        keys.clone()
    }
}

impl Keys {
    fn find(&self, kid: &str, now: Timestamp) -> Option<&Key> {
        if self.current.kid == kid {
            return Some(&self.current);
        }
        let (before, until) = self.before.as_ref()?;
        (before.kid == kid && now < *until).then_some(before)
    }
}

fn new_key(now: Timestamp) -> Key {
    let pair = SigningKey::from_bytes(&random::<32>());
    let der = pair.to_pkcs8_der().expect("an Ed25519 key has this form");
    Key {
        kid: hex(random::<8>().as_slice()),
        made: now,
        signs: EncodingKey::from_ed_der(der.as_bytes()),
        verifies: DecodingKey::from_ed_der(pair.verifying_key().as_bytes()),
    }
}

/// What is checked with the signature; times are not, as that would ask the
/// clock: see [`Signer::verify`].
fn rules(issuer: &str) -> Validation {
    let mut rules = Validation::new(Algorithm::EdDSA);
    rules.set_audience(&[AUDIENCE]);
    rules.set_issuer(&[issuer]);
    rules.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
    rules.validate_exp = false;
    rules.validate_nbf = false;
    rules
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
    use serde_json::{Value, json};

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const TTL: Duration = Duration::from_mins(5);
    const ISSUER: &str = "https://nms.example.net:8443";

    fn sign(signer: &Signer, now: Timestamp) -> String {
        let (user, session) = (UserName("jane".to_owned()), SessionId("5e55".to_owned()));
        let token = signer.sign(ISSUER, &user, &session, TTL, now);
        token.expose().to_owned()
    }

    fn verdict(signer: &Signer, token: &str, now: Timestamp) -> String {
        match signer.verify(token, ISSUER, now) {
            Ok((user, session)) => format!("{user} {session}"),
            Err(error) => error.to_string(),
        }
    }

    /// A token with the signer's own key, but with these words changed.
    fn forged(signer: &Signer, header: &[(&str, Value)], claims: &[(&str, Value)]) -> String {
        let token = sign(signer, NOW);
        let parts: Vec<Value> = token
            .split('.')
            .take(2)
            .map(|part| serde_json::from_slice(&BASE64.decode(part).unwrap()).unwrap())
            .collect();
        let changed = |whole: &Value, changes: &[(&str, Value)]| {
            let mut whole = whole.clone();
            for (name, value) in changes {
                match value {
                    Value::Null => whole.as_object_mut().unwrap().remove(*name),
                    value => whole
                        .as_object_mut()
                        .unwrap()
                        .insert((*name).to_owned(), value.clone()),
                };
            }
            BASE64.encode(whole.to_string())
        };
        let message = format!(
            "{}.{}",
            changed(&parts[0], header),
            changed(&parts[1], claims)
        );
        let key = &signer.keys.read().unwrap().current.signs;
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), key, Algorithm::EdDSA).unwrap();
        format!("{message}.{signature}")
    }

    #[test]
    fn a_token_names_its_person_and_session_until_it_expires() {
        let signer = Signer::new(NOW);
        let token = sign(&signer, NOW);
        assert_eq!(verdict(&signer, &token, NOW), "jane 5e55");
        let last = NOW.plus(TTL).minus(Duration::from_secs(1));
        assert_eq!(verdict(&signer, &token, last), "jane 5e55");
        let over = verdict(&signer, &token, NOW.plus(TTL));
        assert_eq!(over, "the token or the session has expired");
    }

    #[test]
    fn what_the_helper_forges_without_changes_is_good() {
        let signer = Signer::new(NOW);
        assert_eq!(
            verdict(&signer, &forged(&signer, &[], &[]), NOW),
            "jane 5e55"
        );
    }

    #[test]
    fn a_token_without_a_signature_is_refused() {
        let signer = Signer::new(NOW);
        for alg in ["none", "None", "NONE", "nOnE", ""] {
            let token = forged(&signer, &[("alg", json!(alg))], &[]);
            let (message, _) = token.rsplit_once('.').unwrap();
            for token in [token.clone(), format!("{message}."), message.to_owned()] {
                let verdict = verdict(&signer, &token, NOW);
                assert!(verdict.contains("cannot be used"), "{alg}: {verdict}");
            }
        }
        let good = sign(&signer, NOW);
        let (message, _) = good.rsplit_once('.').unwrap();
        let verdict = verdict(&signer, &format!("{message}."), NOW);
        assert!(verdict.contains("not ours"), "{verdict}");
    }

    #[test]
    fn a_token_signed_with_the_public_key_as_a_shared_secret_is_refused() {
        let signer = Signer::new(NOW);
        let keys = signer.keys.read().unwrap().clone();
        let public = keys.current.verifies.try_get_as_bytes().unwrap().to_vec();
        for alg in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let header = Header {
                typ: Some(KIND.to_owned()),
                kid: Some(keys.current.kid.clone()),
                ..Header::new(alg)
            };
            let claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "jane", "sid": "5e55",
                "iat": NOW.0 / 1000, "nbf": NOW.0 / 1000, "exp": NOW.0 / 1000 + 300});
            let token = encode(&header, &claims, &EncodingKey::from_secret(&public)).unwrap();
            let verdict = verdict(&signer, &token, NOW);
            assert!(verdict.contains("no access token"), "{verdict}");
        }
    }

    #[test]
    fn a_token_with_one_wrong_word_is_refused() {
        let signer = Signer::new(NOW);
        let late = json!(NOW.0 / 1000 + 60);
        for (header, claims) in [
            (vec![("typ", json!("JWT"))], vec![]),
            (vec![("typ", Value::Null)], vec![]),
            (vec![("kid", json!("0123456789abcdef"))], vec![]),
            (vec![("kid", json!("../../etc/passwd"))], vec![]),
            (vec![("kid", Value::Null)], vec![]),
            (vec![("alg", json!("ES256"))], vec![]),
            (vec![], vec![("aud", json!("other"))]),
            (vec![], vec![("aud", json!(["other", "another"]))]),
            (vec![], vec![("aud", Value::Null)]),
            (vec![], vec![("iss", json!("https://evil.example.net"))]),
            (vec![], vec![("iss", Value::Null)]),
            (vec![], vec![("exp", Value::Null)]),
            (vec![], vec![("exp", json!("never"))]),
            (vec![], vec![("exp", json!(NOW.0 / 1000))]),
            (vec![], vec![("nbf", late.clone())]),
            (vec![], vec![("nbf", Value::Null)]),
            (vec![], vec![("iat", late)]),
            (vec![], vec![("sub", Value::Null)]),
            (vec![], vec![("sid", Value::Null)]),
        ] {
            let token = forged(&signer, &header, &claims);
            let verdict = verdict(&signer, &token, NOW);
            assert!(!verdict.starts_with("jane"), "{header:?} {claims:?}");
        }
    }

    #[test]
    fn a_token_of_another_start_is_refused() {
        let token = sign(&Signer::new(NOW), NOW);
        let verdict = verdict(&Signer::new(NOW), &token, NOW);
        assert!(verdict.contains("its key is not in use"), "{verdict}");
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let signer = Signer::new(NOW);
        let long = format!("{}.{}.x", "e".repeat(3000), "e".repeat(3000));
        for text in ["", ".", "..", "a.b.c", "ä.ö.ü", &long] {
            let verdict = verdict(&signer, text, NOW);
            assert!(verdict.contains("cannot be used"), "{text}: {verdict}");
        }
    }

    #[test]
    fn the_key_changes_every_day_and_the_one_before_lives_ten_minutes_more() {
        let signer = Signer::new(NOW);
        let almost = NOW.plus(KEY_LIFE).minus(Duration::from_secs(1));
        let old = sign(&signer, almost);
        let next_day = NOW.plus(KEY_LIFE);
        let new = sign(&signer, next_day);
        assert_ne!(
            decode_header(&old).unwrap().kid,
            decode_header(&new).unwrap().kid
        );
        assert_eq!(verdict(&signer, &old, next_day), "jane 5e55");
        assert_eq!(verdict(&signer, &new, next_day), "jane 5e55");
        let later = next_day.plus(Duration::from_mins(10));
        assert!(verdict(&signer, &old, later).contains("its key is not in use"));
        assert_eq!(signer.keys.read().unwrap().before.iter().count(), 1);
    }
}
