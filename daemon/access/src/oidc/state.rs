//! What we know again when somebody comes back from the provider.
//!
//! The browser keeps it, signed: a number for this one attempt, from which
//! state, nonce and PKCE verifier are derived with a key that only we have. So
//! nothing is kept here for those who never come back.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use model::{Digest, Timestamp};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::text::{digest, random};
use crate::{AccessError, SecretText};

/// How long somebody may take at the provider.
const PATIENCE: Duration = Duration::from_mins(10);

/// Bytes of an attempt's number.
const NUMBER_BYTES: usize = 32;

/// Attempts that came back and are remembered; beyond it they have to wait.
const MAX_DONE: usize = 10_000;

/// One attempt to sign in at the provider.
pub(crate) struct Begun {
    /// What the browser keeps.
    pub(crate) cookie: SecretText,
    /// What the provider hands back with the browser.
    pub(crate) state: String,
    /// What the provider puts into the ID token.
    pub(crate) nonce: String,
    /// What proves to the provider that the code comes from who asked for it
    /// (RFC 7636).
    pub(crate) verifier: SecretText,
}

/// Knows attempts again.
pub(crate) struct State {
    key: Zeroizing<[u8; 32]>,
    done: Mutex<HashMap<Digest, Timestamp>>,
}

impl State {
    pub(crate) fn new() -> State {
        State {
            key: random(),
            done: Mutex::default(),
        }
    }

    /// A new attempt.
    pub(crate) fn begin(&self, now: Timestamp) -> Begun {
        let number = random::<NUMBER_BYTES>();
        let until = now.plus(PATIENCE).0.to_be_bytes();
        let mut bytes = Zeroizing::new(number.to_vec());
        bytes.extend_from_slice(&until);
        let seal = self.derive("cookie", &bytes);
        bytes.extend_from_slice(seal.as_slice());
        self.attempt(SecretText::new(BASE64.encode(&*bytes)), number.as_slice())
    }

    /// The attempt that comes back with this cookie and this state, once.
    ///
    /// # Errors
    ///
    /// [`AccessError::Oidc`] says what does not fit.
    pub(crate) fn finish(
        &self,
        cookie: &str,
        state: &str,
        now: Timestamp,
    ) -> Result<Begun, AccessError> {
        let wrong = |why: &str| AccessError::Oidc {
            why: why.to_owned(),
        };
        let stranger = || wrong("this browser did not ask to sign in; begin again");
        let bytes = Zeroizing::new(BASE64.decode(cookie).map_err(|_error| stranger())?);
        let (said, seal) = bytes
            .split_at_checked(NUMBER_BYTES + 8)
            .ok_or_else(stranger)?;
        if !bool::from(self.derive("cookie", said).as_slice().ct_eq(seal)) {
            return Err(stranger());
        }
        let (number, until) = said.split_at(NUMBER_BYTES);
        let until = until.try_into().map_or(0, u64::from_be_bytes);
        if now.0 >= until {
            return Err(wrong("it took too long to come back; begin again"));
        }
        let begun = self.attempt(SecretText::new(cookie.to_owned()), number);
        if !bool::from(begun.state.as_bytes().ct_eq(state.as_bytes())) {
            return Err(wrong("the answer belongs to another attempt; begin again"));
        }
        self.take(digest(cookie), Timestamp(until), now)?;
        Ok(begun)
    }

    fn take(&self, attempt: Digest, until: Timestamp, now: Timestamp) -> Result<(), AccessError> {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.retain(|_, until| now < *until);
        if done.len() >= MAX_DONE {
            return Err(AccessError::TooBusy);
        }
        match done.insert(attempt, until) {
            None => Ok(()),
            Some(_) => Err(AccessError::Oidc {
                why: "this attempt came back before; begin again".to_owned(),
            }),
        }
    }

    fn attempt(&self, cookie: SecretText, number: &[u8]) -> Begun {
        let text = |label| BASE64.encode(self.derive(label, number).as_slice());
        Begun {
            cookie,
            state: text("state"),
            nonce: text("nonce"),
            verifier: SecretText::new(text("verifier")),
        }
    }

    fn derive(&self, label: &str, from: &[u8]) -> Zeroizing<[u8; 32]> {
        let mac = Hmac::<Sha256>::new_from_slice(self.key.as_slice());
        let mac = mac.expect("HMAC takes keys of any length");
        let mac = mac.chain_update(label).chain_update([0]).chain_update(from);
        Zeroizing::new(mac.finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn why(state: &State, cookie: &str, shown: &str, now: Timestamp) -> String {
        match state.finish(cookie, shown, now) {
            Ok(_) => "known".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn who_comes_back_is_known_again_once() {
        let state = State::new();
        let begun = state.begin(NOW);
        let again = state
            .finish(begun.cookie.expose(), &begun.state, NOW)
            .unwrap();
        assert_eq!(again.nonce, begun.nonce);
        assert_eq!(again.verifier, begun.verifier);
        assert_eq!(begun.verifier.expose().len(), 43);
        let second = why(&state, begun.cookie.expose(), &begun.state, NOW);
        assert!(second.contains("came back before"), "{second}");
    }

    #[test]
    fn nobody_comes_back_with_another_state_or_too_late() {
        let state = State::new();
        let (one, other) = (state.begin(NOW), state.begin(NOW));
        let mixed = why(&state, one.cookie.expose(), &other.state, NOW);
        assert!(mixed.contains("another attempt"), "{mixed}");
        let late = why(&state, one.cookie.expose(), &one.state, NOW.plus(PATIENCE));
        assert!(late.contains("too long"), "{late}");
        let known = why(&state, one.cookie.expose(), &one.state, NOW);
        assert_eq!(known, "known", "none of that used it up");
    }

    #[test]
    fn a_cookie_that_is_not_ours_is_not_taken() {
        let (ours, theirs) = (State::new(), State::new());
        let begun = theirs.begin(NOW);
        let mut changed = ours.begin(NOW).cookie.expose().to_owned();
        changed.replace_range(45..46, if &changed[45..46] == "A" { "B" } else { "A" });
        for cookie in [
            "",
            "x",
            "AAAA",
            &"A".repeat(96),
            begun.cookie.expose(),
            &changed,
        ] {
            let why = why(&ours, cookie, &begun.state, NOW);
            assert!(why.contains("did not ask"), "{cookie}: {why}");
        }
    }
}
