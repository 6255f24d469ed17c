//! Keys of values, wrapped by a key that never leaves OpenBao or Vault.
//!
//! A data key that was unwrapped once stays in memory, so that values can be
//! read while the server is down. It is found by its value's nonce, which no
//! other value has and which no rotation changes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use model::{KeyId, SealedValue};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::seal::DataKey;
use crate::vault::{Vault, VaultError, segments};

/// Keys in one request.
pub(crate) const BATCH: usize = 250;

/// Whether the server has the key that the store is sealed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was not asked yet.
    Unknown,
    Good,
    Wrong(String),
}

/// One key of the transit engine.
pub(crate) struct Transit {
    pub(crate) vault: Arc<Vault>,
    mount: String,
    key: String,
    unwrapped: Mutex<HashMap<[u8; 24], DataKey>>,
    /// Those that the server refused to unwrap: asked for once.
    given_up: Mutex<HashSet<[u8; 24]>>,
    verdict: Mutex<Verdict>,
}

impl Transit {
    pub(crate) fn new(vault: Arc<Vault>, mount: &str, key: &str) -> Transit {
        Transit {
            vault,
            mount: segments(mount),
            key: segments(key),
            unwrapped: Mutex::new(HashMap::new()),
            given_up: Mutex::new(HashSet::new()),
            verdict: Mutex::new(Verdict::Unknown),
        }
    }

    /// Whether `id` is a version of this key.
    pub(crate) fn is_own(&self, id: &KeyId) -> bool {
        id.0.strip_prefix(&self.id_prefix())
            .is_some_and(|version| !version.is_empty() && !version.contains('/'))
    }

    /// What the ids of this key's versions have in common.
    pub(crate) fn id_prefix(&self) -> String {
        format!("transit/{}/{}/", self.mount, self.key)
    }

    // --- memory

    pub(crate) fn data_key(&self, sealed: &SealedValue) -> Option<DataKey> {
        self.lock().get(&sealed.nonce).cloned()
    }

    pub(crate) fn is_to_unwrap(&self, sealed: &SealedValue) -> bool {
        !self.lock().contains_key(&sealed.nonce) && !self.lock_given_up().contains(&sealed.nonce)
    }

    pub(crate) fn give_up(&self, nonce: [u8; 24]) {
        self.lock_given_up().insert(nonce);
    }

    pub(crate) fn remember(&self, nonce: [u8; 24], key: DataKey) {
        self.lock().insert(nonce, key);
    }

    /// Drops the keys of values that are not there any more.
    pub(crate) fn tidy(&self, nonces: &HashSet<[u8; 24]>) {
        self.lock().retain(|nonce, _| nonces.contains(nonce));
        self.lock_given_up().retain(|nonce| nonces.contains(nonce));
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let verdict = self.verdict.lock();
        verdict.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_verdict(&self, verdict: Verdict) {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = verdict;
    }

    // --- the server

    /// Wraps a key with the newest version.
    pub(crate) async fn wrap(&self, key: &DataKey) -> Result<(KeyId, Vec<u8>), VaultError> {
        let input = json!([{ "plaintext": STANDARD.encode(key.bytes()) }]);
        let results = self.batch("encrypt", input, 1).await?;
        self.wrapped_in(&results[0])
    }

    /// Unwraps keys; those that are refused one by one.
    pub(crate) async fn unwrap(
        &self,
        sealed: &[&SealedValue],
    ) -> Result<Vec<Result<DataKey, VaultError>>, VaultError> {
        let results = self
            .batch("decrypt", input_of(sealed), sealed.len())
            .await?;
        Ok(results.iter().map(unwrapped_in).collect())
    }

    /// Wraps keys anew, with the newest version.
    pub(crate) async fn rewrap(
        &self,
        sealed: &[&SealedValue],
    ) -> Result<Vec<Result<(KeyId, Vec<u8>), VaultError>>, VaultError> {
        let results = self.batch("rewrap", input_of(sealed), sealed.len()).await?;
        Ok(results
            .iter()
            .map(|result| self.wrapped_in(result))
            .collect())
    }

    /// Makes a new version of the key.
    pub(crate) async fn rotate(&self) -> Result<(), VaultError> {
        let path = format!("{}/keys/{}/rotate", self.mount, self.key);
        let asked = self.vault.ask(Method::POST, &path, Some(&json!({}))).await;
        asked.map(|_| ())
    }

    async fn batch(&self, verb: &str, input: Value, size: usize) -> Result<Vec<Value>, VaultError> {
        let path = format!("{}/{verb}/{}", self.mount, self.key);
        let body = json!({ "batch_input": input });
        let answer = match self.vault.ask(Method::POST, &path, Some(&body)).await {
            // some of them failed: each says so for itself
            Err(VaultError::Refused {
                status: 400, data, ..
            }) if data["data"]["batch_results"].is_array() => *data,
            answer => answer?,
        };
        match answer["data"]["batch_results"].as_array() {
            Some(results) if results.len() == size => Ok(results.clone()),
            _ => Err(VaultError::Strange("it has not one result per key")),
        }
    }

    fn wrapped_in(&self, result: &Value) -> Result<(KeyId, Vec<u8>), VaultError> {
        failure_in(result)?;
        let text = result["ciphertext"].as_str();
        let text = text.ok_or(VaultError::Strange("it has no wrapped key"))?;
        let id = self.id_of(text)?;
        Ok((id, text.as_bytes().to_vec()))
    }

    /// Which version wrapped this: `vault:v2:…`.
    fn id_of(&self, wrapped: &str) -> Result<KeyId, VaultError> {
        let version = wrapped.split(':').nth(1).filter(|version| {
            let digits = version.strip_prefix('v').unwrap_or_default();
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        });
        let version = version.ok_or(VaultError::Strange("its wrapped key names no version"))?;
        Ok(KeyId(format!("{}{version}", self.id_prefix())))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 24], DataKey>> {
        self.unwrapped
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_given_up(&self) -> MutexGuard<'_, HashSet<[u8; 24]>> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn input_of(sealed: &[&SealedValue]) -> Value {
    let texts = sealed
        .iter()
        .map(|sealed| String::from_utf8_lossy(&sealed.wrapped_key));
    texts.map(|text| json!({ "ciphertext": text })).collect()
}

fn unwrapped_in(result: &Value) -> Result<DataKey, VaultError> {
    failure_in(result)?;
    let text = result["plaintext"].as_str().unwrap_or_default();
    let bytes = STANDARD.decode(text).map(Zeroizing::new);
    let key = bytes.ok().and_then(|bytes| DataKey::from_bytes(&bytes));
    key.ok_or(VaultError::Strange("what it unwrapped is no key"))
}

fn failure_in(result: &Value) -> Result<(), VaultError> {
    match result["error"].as_str() {
        None | Some("") => Ok(()),
        Some(why) => Err(VaultError::Refused {
            status: 400,
            why: why.chars().take(300).collect(),
            data: Box::default(),
        }),
    }
}
