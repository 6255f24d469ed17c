//! Values in the KV engine, version 2.
//!
//! What is in use is what the store's record says: value and record change at
//! one instant, and a value that was written for a change which the store then
//! refused is used by nobody. Such a value carries a mark. One without it was
//! set by somebody in OpenBao or Vault itself: it is taken over when it is seen.
//!
//! Values are kept in memory, asked for again when they are `cache` old, and
//! used for `stale` beyond that while the server is down.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use model::{SecretName, Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::SecretBytes;
use crate::vault::{Vault, VaultError, segments};

/// How long a value is held that the store's record does not name: until its
/// change is on the disk, or refused.
const UNNAMED: Duration = Duration::from_secs(60);

struct Held {
    value: SecretBytes,
    fetched: Instant,
}

/// Which value of which secret.
pub(crate) type Which = (SecretName, u32);

/// The values of one folder.
pub(crate) struct Kv {
    pub(crate) vault: Arc<Vault>,
    mount: String,
    path: String,
    cache: Duration,
    stale: Duration,
    held: Mutex<BTreeMap<Which, Held>>,
    /// What is to be removed there once that is possible.
    leftovers: Mutex<BTreeSet<SecretName>>,
}

/// A value as it lies there.
pub(crate) struct Found {
    pub(crate) version: u32,
    pub(crate) created: Option<Timestamp>,
    pub(crate) value: SecretBytes,
    /// Whether it was written by us.
    pub(crate) is_ours: bool,
}

/// How a value in memory may be used.
pub(crate) enum Memory {
    Good(SecretBytes),
    /// Good, but to be asked for again.
    Old(SecretBytes),
    None,
}

impl Kv {
    pub(crate) fn new(
        vault: Arc<Vault>,
        mount: &str,
        path: &str,
        cache: Duration,
        stale: Duration,
    ) -> Kv {
        Kv {
            vault,
            mount: segments(mount),
            path: segments(path),
            cache,
            stale,
            held: Mutex::new(BTreeMap::new()),
            leftovers: Mutex::new(BTreeSet::new()),
        }
    }

    // --- memory

    pub(crate) fn remembered(&self, which: &Which) -> Memory {
        let held = self.lock();
        let Some(held) = held.get(which) else {
            return Memory::None;
        };
        match held.fetched.elapsed() {
            age if age <= self.cache => Memory::Good(held.value.clone()),
            age if age <= self.cache + self.stale => Memory::Old(held.value.clone()),
            _ => Memory::None,
        }
    }

    pub(crate) fn remember(&self, which: Which, value: SecretBytes) {
        let fetched = Instant::now();
        self.lock().insert(which, Held { value, fetched });
    }

    pub(crate) fn holds(&self, which: &Which) -> bool {
        self.lock().contains_key(which)
    }

    pub(crate) fn forget(&self, which: &Which) {
        self.lock().remove(which);
    }

    /// Drops what is too old to be used and what no record names.
    pub(crate) fn tidy(&self, named: &HashSet<Which>) {
        let limit = self.cache + self.stale;
        self.lock().retain(|which, held| {
            let age = held.fetched.elapsed();
            age <= limit && (named.contains(which) || age <= UNNAMED)
        });
    }

    /// Those of `wanted` that have to be asked for, the missing ones first.
    pub(crate) fn due(&self, wanted: Vec<Which>) -> Vec<Which> {
        let held = self.lock();
        let mut due: Vec<(Option<Instant>, Which)> = wanted
            .into_iter()
            .map(|which| (held.get(&which).map(|held| held.fetched), which))
            .filter(|(fetched, _)| fetched.is_none_or(|at| at.elapsed() >= self.cache))
            .collect();
        due.sort();
        due.into_iter().map(|(_, which)| which).collect()
    }

    /// When the next value has to be asked for again; those that could not be
    /// had when they were due wait for the next round.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let now = Instant::now();
        let held = self.lock();
        let due = held.values().map(|held| held.fetched + self.cache);
        due.filter(|at| *at > now).min()
    }

    /// How many values in memory are beyond their time.
    pub(crate) fn stale(&self) -> usize {
        let held = self.lock();
        let is_old = |held: &&Held| held.fetched.elapsed() > self.cache;
        held.values().filter(is_old).count()
    }

    // --- the server

    /// The value of `version`, or the newest one.
    pub(crate) async fn get(
        &self,
        name: &SecretName,
        version: Option<u32>,
    ) -> Result<Option<Found>, VaultError> {
        let mut path = self.data(name);
        if let Some(version) = version {
            path.push_str(&format!("?version={version}"));
        }
        match self.vault.ask(Method::GET, &path, None).await {
            Ok(answer) => found_in(&answer).map(Some),
            Err(VaultError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a value after those that are there; its version. `Ok(None)`:
    /// somebody else wrote one at the same time.
    pub(crate) async fn put(
        &self,
        name: &SecretName,
        value: &SecretBytes,
    ) -> Result<Option<u32>, VaultError> {
        let newest = self.newest(name).await?;
        self.put_after(name, value, newest).await
    }

    /// Writes a value if `newest` is the newest version there (0: none).
    pub(crate) async fn put_after(
        &self,
        name: &SecretName,
        value: &SecretBytes,
        newest: u32,
    ) -> Result<Option<u32>, VaultError> {
        let data = match value.expose_str() {
            Some(text) => json!({ "value": text, "written_by": "sotp" }),
            None => {
                json!({ "value_base64": STANDARD.encode(value.expose()), "written_by": "sotp" })
            }
        };
        let body = json!({ "options": { "cas": newest }, "data": data });
        self.lock_leftovers().remove(name);
        match self
            .vault
            .ask(Method::POST, &self.data(name), Some(&body))
            .await
        {
            Ok(answer) => version_in(&answer["data"]).map(Some),
            // not 409: both servers answer 400 and say so in words
            Err(VaultError::Refused {
                status: 400, why, ..
            }) if why.contains("check-and-set parameter did not match") => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn newest(&self, name: &SecretName) -> Result<u32, VaultError> {
        match self.vault.ask(Method::GET, &self.data(name), None).await {
            Ok(answer) => version_in(&answer["data"]["metadata"]),
            // a deleted version still counts
            Err(VaultError::NotFound(answer)) => {
                Ok(version_in(&answer["data"]["metadata"]).unwrap_or(0))
            }
            Err(error) => Err(error),
        }
    }

    /// Removes all versions; later, where it cannot be done now.
    pub(crate) async fn delete(&self, name: &SecretName) {
        self.lock().retain(|(held, _), _| held != name);
        self.lock_leftovers().insert(name.clone());
        self.remove_leftover(name).await;
    }

    /// Removes what could not be removed before; whether nothing is left.
    pub(crate) async fn remove_leftovers(&self) -> bool {
        let names: Vec<SecretName> = self.lock_leftovers().iter().cloned().collect();
        for name in names {
            if !self.remove_leftover(&name).await {
                return false;
            }
        }
        true
    }

    async fn remove_leftover(&self, name: &SecretName) -> bool {
        let path = format!("{}/metadata/{}", self.mount, self.below(name));
        match self.vault.ask(Method::DELETE, &path, None).await {
            Ok(_) | Err(VaultError::NotFound(_)) => {}
            Err(error) if error.is_down() => return false,
            Err(error) => {
                tracing::error!(secret = %name, %error, "its values stay on the server: remove them there");
            }
        }
        self.lock_leftovers().remove(name);
        true
    }

    fn data(&self, name: &SecretName) -> String {
        format!("{}/data/{}", self.mount, self.below(name))
    }

    fn below(&self, name: &SecretName) -> String {
        let name = segments(&name.0);
        match self.path.is_empty() {
            true => name,
            false => format!("{}/{name}", self.path),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Which, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_leftovers(&self) -> MutexGuard<'_, BTreeSet<SecretName>> {
        self.leftovers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn found_in(answer: &Value) -> Result<Found, VaultError> {
    let (data, metadata) = (&answer["data"]["data"], &answer["data"]["metadata"]);
    let text = data["value"].as_str().map(|text| text.as_bytes().to_vec());
    let bytes = || STANDARD.decode(data["value_base64"].as_str()?).ok();
    let value = text.or_else(bytes).ok_or(VaultError::Strange(
        "the secret has neither `value` nor `value_base64`",
    ))?;
    Ok(Found {
        version: version_in(metadata)?,
        created: metadata["created_time"]
            .as_str()
            .and_then(|text| text.parse().ok()),
        value: SecretBytes::new(value),
        is_ours: data["written_by"] == "sotp",
    })
}

fn version_in(metadata: &Value) -> Result<u32, VaultError> {
    let version = metadata["version"].as_u64();
    let version = version.and_then(|version| u32::try_from(version).ok());
    version.ok_or(VaultError::Strange("it names no version"))
}
