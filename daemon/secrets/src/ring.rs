//! The key ring: which keys the store is sealed with, and whether they are at
//! hand.
//!
//! The ring in the store says which key seals: its last one. What the daemon is
//! given only has to include what the ring names. So the files of keys may be
//! exchanged before or after a rotation, and no start changes the key by
//! itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{By, KeyId, KeyInfo, KeyRing, SealedValue, SecretName, SecretRecord, Timestamp};
use store::{Refusal, WriteError};

use crate::seal::{self, Place};
use crate::transit::{Transit, Verdict};
use crate::vault::VaultError;
use crate::{SecretBytes, Secrets, SecretsError, WrappingKey};

/// How often a change is tried that others get in the way of.
pub(crate) const ATTEMPTS: usize = 5;

/// What the known text of a [`KeyInfo`] is sealed as. No secret has this name:
/// the daemon's own ones have a folder.
const CHECK: &str = ".check";

/// What wraps the keys of values.
pub(crate) enum Wrapper {
    Keys(Keys),
    Transit(Transit),
}

impl Wrapper {
    /// What is at hand, for people.
    fn given(&self) -> Vec<KeyId> {
        match self {
            Wrapper::Keys(keys) => keys.ids(),
            Wrapper::Transit(transit) => vec![KeyId(format!("{}*", transit.id_prefix()))],
        }
    }

    pub(crate) fn wrong_key(&self, needed: impl IntoIterator<Item = KeyId>) -> SecretsError {
        SecretsError::WrongKey {
            needed: needed.into_iter().collect(),
            given: self.given(),
        }
    }
}

/// The keys that the daemon was given.
pub(crate) struct Keys {
    /// The one that a new store begins with.
    pub(crate) first: KeyId,
    held: Mutex<BTreeMap<KeyId, WrappingKey>>,
}

impl Keys {
    pub(crate) fn new(active: WrappingKey, old: Vec<WrappingKey>) -> Keys {
        let first = active.id();
        let all = old.into_iter().chain([active]);
        Keys {
            first,
            held: Mutex::new(all.map(|key| (key.id(), key)).collect()),
        }
    }

    pub(crate) fn get(&self, id: &KeyId) -> Option<WrappingKey> {
        self.lock().get(id).cloned()
    }

    pub(crate) fn add(&self, key: WrappingKey) {
        self.lock().insert(key.id(), key);
    }

    pub(crate) fn drop_keys(&self, ids: &[KeyId]) {
        self.lock().retain(|id, _| !ids.contains(id));
    }

    pub(crate) fn ids(&self) -> Vec<KeyId> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<KeyId, WrappingKey>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A known text, sealed with `key`.
pub(crate) fn info(key: &WrappingKey, now: Timestamp) -> KeyInfo {
    let name = SecretName(CHECK.to_owned());
    let place = check_place(&name);
    let sealed = seal::seal(place, &SecretBytes::new(CHECK.as_bytes().to_vec()));
    let wrapped = seal::wrap(place, key, &sealed.key);
    KeyInfo {
        id: key.id(),
        created: now,
        check: sealed.wrapped(key.id(), wrapped),
    }
}

/// Whether `key` is the one of `info`.
pub(crate) fn fits(info: &KeyInfo, key: &WrappingKey) -> bool {
    if info.id != key.id() {
        return false;
    }
    let name = SecretName(CHECK.to_owned());
    let place = check_place(&name);
    info.check.key == info.id
        && seal::unwrap(place, &info.check, key)
            .and_then(|data_key| seal::open(place, &info.check, &data_key))
            .is_some_and(|text| text.expose() == CHECK.as_bytes())
}

fn check_place(name: &SecretName) -> Place<'_> {
    Place { name, version: 0 }
}

/// The keys that values are sealed with, of all versions.
pub(crate) fn keys_in_use(records: &[Arc<SecretRecord>]) -> BTreeSet<KeyId> {
    let sealed = records.iter().flat_map(|record| sealed_in(record));
    sealed.map(|(_, sealed)| sealed.key.clone()).collect()
}

/// The sealed values of a secret, with their versions.
pub(crate) fn sealed_in(record: &SecretRecord) -> impl Iterator<Item = (u32, &SealedValue)> {
    record
        .versions
        .iter()
        .filter_map(|version| Some((version.version, version.sealed.as_ref()?)))
}

impl Secrets {
    /// Checks that what the store is sealed with is at hand; makes the ring of
    /// a new store. Nothing is changed where a key is missing.
    pub(crate) async fn settle_ring(&self, now: Timestamp) -> Result<(), SecretsError> {
        match &self.inner.wrapper {
            Wrapper::Keys(keys) => self.settle_keys(keys, now).await,
            Wrapper::Transit(transit) => self.settle_transit(transit),
        }
    }

    async fn settle_keys(&self, keys: &Keys, now: Timestamp) -> Result<(), SecretsError> {
        let ring = self.inner.store.key_ring();
        let in_use = keys_in_use(&self.inner.store.secrets());
        let is_at_hand = |info: &KeyInfo| keys.get(&info.id).is_some_and(|key| fits(info, &key));
        let at_hand: Vec<KeyInfo> = ring
            .keys
            .iter()
            .filter(|key| is_at_hand(key))
            .cloned()
            .collect();
        let missing = in_use
            .iter()
            .filter(|id| !at_hand.iter().any(|info| info.id == **id));
        let missing: Vec<KeyId> = missing.cloned().collect();
        if !missing.is_empty() {
            return Err(self.inner.wrapper.wrong_key(missing));
        }
        let Some(active) = ring.keys.last() else {
            let first = keys.get(&keys.first).expect("the first key is held");
            return self.replace_ring(&ring, vec![info(&first, now)], now).await;
        };
        match at_hand.contains(active) {
            true => Ok(()),
            // a rotation was begun, and nothing is sealed with its key
            false if !at_hand.is_empty() => self.replace_ring(&ring, at_hand, now).await,
            false => Err(self.inner.wrapper.wrong_key([active.id.clone()])),
        }
    }

    async fn replace_ring(
        &self,
        seen: &KeyRing,
        keys: Vec<KeyInfo>,
        now: Timestamp,
    ) -> Result<(), SecretsError> {
        let ring = KeyRing {
            keys,
            revision: seen.revision,
        };
        let (store, by) = (&self.inner.store, By::system());
        store.put_key_ring(&by, ring, seen.revision, now).await?;
        Ok(())
    }

    fn settle_transit(&self, transit: &Transit) -> Result<(), SecretsError> {
        let ring = self.inner.store.key_ring();
        let in_use = keys_in_use(&self.inner.store.secrets());
        let named = ring.keys.last().map(|info| info.id.clone());
        let foreign = in_use
            .into_iter()
            .chain(named)
            .filter(|id| !transit.is_own(id));
        let foreign: BTreeSet<KeyId> = foreign.collect();
        match foreign.is_empty() {
            true => Ok(()),
            false => Err(self.inner.wrapper.wrong_key(foreign)),
        }
    }

    /// Asks the server whether it has the key that the store is sealed with;
    /// makes the ring of a new store.
    pub(crate) async fn verify_transit(&self, transit: &Transit) -> Result<(), VaultError> {
        if transit.verdict() == Verdict::Good {
            return Ok(());
        }
        let ring = self.inner.store.key_ring();
        let checks: Vec<&SealedValue> = ring.keys.iter().map(|info| &info.check).collect();
        if checks.is_empty() {
            self.note_transit_version(transit).await?;
            transit.set_verdict(Verdict::Good);
            return Ok(());
        }
        match transit.unwrap(&checks).await {
            Ok(results) => {
                let refused = results.into_iter().find_map(Result::err);
                transit.set_verdict(match refused {
                    None => Verdict::Good,
                    Some(error) => Verdict::Wrong(error.to_string()),
                });
                Ok(())
            }
            // it has no such key
            Err(VaultError::Refused {
                status: 400, why, ..
            }) => {
                transit.set_verdict(Verdict::Wrong(why));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes the newest version of the key into the ring.
    pub(crate) async fn note_transit_version(&self, transit: &Transit) -> Result<(), VaultError> {
        let name = SecretName(CHECK.to_owned());
        let sealed = seal::seal(
            check_place(&name),
            &SecretBytes::new(CHECK.as_bytes().to_vec()),
        );
        let (id, wrapped) = transit.wrap(&sealed.key).await?;
        let now = self.inner.clock.now();
        let info = KeyInfo {
            id: id.clone(),
            created: now,
            check: sealed.wrapped(id, wrapped),
        };
        let by = By::system();
        let added = self.change_ring(&by, now, |ring| {
            let is_new = ring.keys.iter().all(|key| key.id != info.id);
            is_new.then(|| ring.keys.iter().chain([&info]).cloned().collect())
        });
        let added = added.await;
        added.map_err(|error| VaultError::Down(format!("its key cannot be noted: {error}")))?;
        Ok(())
    }

    /// Replaces the keys of the ring by what `change` makes of them; `None`:
    /// they stay.
    pub(crate) async fn change_ring(
        &self,
        by: &By,
        now: Timestamp,
        change: impl Fn(&KeyRing) -> Option<Vec<KeyInfo>>,
    ) -> Result<Arc<KeyRing>, WriteError> {
        let mut tries = 0;
        loop {
            let seen = self.inner.store.key_ring();
            let Some(keys) = change(&seen) else {
                return Ok(seen);
            };
            let revision = seen.revision;
            let ring = KeyRing { keys, revision };
            let put = self.inner.store.put_key_ring(by, ring, revision, now).await;
            tries += 1;
            match put {
                Err(WriteError::Refused(Refusal::RevisionMismatch { .. })) if tries < ATTEMPTS => {}
                put => return put,
            }
        }
    }
}
