//! Changing the key that wraps the keys of values, while everything goes on.
//!
//! 1. The new key enters the ring, at its end: from then on it seals.
//! 2. Batch by batch, what is sealed with other keys is wrapped with it. Values
//!    themselves are not touched.
//! 3. The other keys leave the ring; the store refuses that while any value
//!    needs them.
//!
//! Each step is one transaction of the store, and a stop between any two leaves
//! a store that opens:
//!
//! - before step 1 with the old key; the new one is not known;
//! - after step 1 with both keys: the rest is done in the background. With the
//!   old key alone as long as nothing is sealed with the new one: then the
//!   rotation is taken back. With the new one alone as soon as nothing is
//!   sealed with the old one. Otherwise the start is refused and names the key
//!   that is missing;
//! - after step 3 with the new key; the old one is not needed any more.
//!
//! With a key in OpenBao or Vault, step 1 makes a new version of it there, and
//! the server wraps anew.

use std::sync::Arc;

use model::{By, KeyId, KeyInfo, SealedValue, SecretName, SecretRecord, Timestamp};
use store::{Refusal, WriteError};

use crate::ring::{self, Keys, Wrapper, sealed_in};
use crate::seal::{self, Place};
use crate::transit::{self, Transit};
use crate::vault::VaultError;
use crate::{Rotation, Secrets, SecretsError, WrappingKey};

/// Secrets that are wrapped anew in one transaction: a few milliseconds.
pub(crate) const BATCH: usize = 100;

/// How often keys are tried to be dropped that values are sealed with again
/// and again.
const DROPS: usize = 20;

/// What became of some secrets.
#[derive(Default)]
struct Batch {
    /// At which revisions they were seen, and as they are to be.
    rewrapped: Vec<(SecretName, u64, SecretRecord)>,
    /// Which cannot be unwrapped.
    damaged: Vec<(SecretName, u32)>,
}

/// What came of one transaction.
pub(crate) enum Step {
    /// Nothing is left to be done.
    Done,
    /// So many secrets were wrapped anew; these cannot be unwrapped.
    Some(usize, Vec<(SecretName, u32)>),
}

impl Secrets {
    /// Changes the key that wraps the keys of values: to `new`, or to a new
    /// version in OpenBao or Vault (where `new` is of no matter). Goes on with a change that was interrupted.
    /// Values can be read and set all the time; returns when nothing needs the
    /// old key any more. A change that is done already is none to fail at. See the file for what holds where it is interrupted.
    ///
    /// # Errors
    ///
    /// [`SecretsError::NoNewKey`]; [`SecretsError::SameKey`] if the new key is
    /// the one that the settings give as the first;
    /// [`SecretsError::RotationRunning`] if a change to another key is
    /// unfinished: nothing is changed. [`SecretsError::Damaged`] if a value cannot be
    /// unwrapped: all others are, and the old key stays in the ring.
    /// [`SecretsError::Unavailable`], [`SecretsError::Vault`],
    /// [`SecretsError::Store`]: it goes on by itself.
    pub async fn rotate_key(
        &self,
        by: &By,
        new: Option<WrappingKey>,
        now: Timestamp,
    ) -> Result<Rotation, SecretsError> {
        self.inner.clock.set(now);
        let _one = self.inner.rotating.lock().await;
        match &self.inner.wrapper {
            Wrapper::Keys(keys) => self.begin_with_key(keys, by, new, now).await?,
            Wrapper::Transit(transit) => self.begin_transit(transit, by, now).await?,
        }
        self.finish_rotation(by, now).await
    }

    pub(crate) async fn begin_with_key(
        &self,
        keys: &Keys,
        by: &By,
        new: Option<WrappingKey>,
        now: Timestamp,
    ) -> Result<(), SecretsError> {
        let ring = self.inner.store.key_ring();
        let active = ring.keys.last().map(|info| info.id.clone());
        let is_unfinished = ring.keys.len() > 1;
        let new = match (new, active) {
            (None, _) if is_unfinished => return Ok(()),
            (None, _) => return Err(SecretsError::NoNewKey),
            (Some(new), Some(active)) if new.id() == active => {
                // done before, unless it is the key that everything began with
                let is_first = !is_unfinished && active == keys.first;
                let same = Err(SecretsError::SameKey { key: active });
                return if is_first { same } else { Ok(()) };
            }
            (Some(_), Some(to)) if is_unfinished => {
                return Err(SecretsError::RotationRunning { to });
            }
            (Some(new), _) => new,
        };
        let info = ring::info(&new, now);
        // at hand before anybody can look for it
        keys.add(new);
        self.add_to_ring(by, info, now).await
    }

    async fn add_to_ring(
        &self,
        by: &By,
        info: KeyInfo,
        now: Timestamp,
    ) -> Result<(), SecretsError> {
        let added = self.change_ring(by, now, |ring| {
            let others = ring.keys.iter().filter(|key| key.id != info.id);
            Some(others.chain([&info]).cloned().collect())
        });
        added.await?;
        Ok(())
    }

    async fn begin_transit(
        &self,
        transit: &Transit,
        by: &By,
        now: Timestamp,
    ) -> Result<(), SecretsError> {
        if self.inner.store.key_ring().keys.len() > 1 {
            return Ok(());
        }
        let refused = |error| transit.vault.error("rotate the key", error);
        self.verify_transit(transit).await.map_err(refused)?;
        transit.rotate().await.map_err(refused)?;
        tracing::info!(by = %by.actor, at = %now, "the key has a new version");
        self.note_transit_version(transit).await.map_err(refused)
    }

    /// Steps 2 and 3.
    pub(crate) async fn finish_rotation(
        &self,
        by: &By,
        now: Timestamp,
    ) -> Result<Rotation, SecretsError> {
        let mut rewrapped = 0;
        let mut drops = 0;
        loop {
            rewrapped += self.rewrap_all(now).await?;
            drops += 1;
            match self.drop_keys(by, now).await {
                // somebody sealed with the old key meanwhile
                Err(WriteError::Refused(Refusal::KeyInUse { .. })) if drops < DROPS => {}
                dropped => {
                    let (dropped, active) = dropped?;
                    return Ok(Rotation {
                        dropped,
                        active,
                        rewrapped,
                    });
                }
            }
        }
    }

    /// Whether there are other keys than the one that seals now.
    pub(crate) fn is_rotation_unfinished(&self) -> bool {
        self.inner.store.key_ring().keys.len() > 1
    }

    /// Takes all keys but the active one out of the ring.
    pub(crate) async fn drop_keys(
        &self,
        by: &By,
        now: Timestamp,
    ) -> Result<(Vec<KeyId>, KeyId), WriteError> {
        let before = self.inner.store.key_ring();
        let ring = self.change_ring(by, now, |ring| {
            let active = ring.keys.last().filter(|_| ring.keys.len() > 1);
            active.map(|active| vec![active.clone()])
        });
        let ring = ring.await?;
        let is_gone = |id: &KeyId| ring.keys.iter().all(|info| info.id != *id);
        let ids = before.keys.iter().map(|info| info.id.clone());
        let dropped: Vec<KeyId> = ids.filter(is_gone).collect();
        if let Wrapper::Keys(keys) = &self.inner.wrapper {
            keys.drop_keys(&dropped);
        }
        let active = ring.keys.last().map(|info| info.id.clone());
        Ok((dropped, active.unwrap_or_else(|| KeyId(String::new()))))
    }

    /// Wraps everything with the active key; how many secrets.
    async fn rewrap_all(&self, now: Timestamp) -> Result<usize, SecretsError> {
        let mut done = 0;
        let mut damaged: Vec<(SecretName, u32)> = Vec::new();
        loop {
            let skip: Vec<SecretName> = damaged.iter().map(|(name, _)| name.clone()).collect();
            match self.rewrap_some(BATCH, &skip, now).await? {
                Step::Done => break,
                Step::Some(replaced, bad) => {
                    done += replaced;
                    damaged.extend(bad);
                }
            }
        }
        match damaged.into_iter().next() {
            None => Ok(done),
            Some((name, version)) => Err(SecretsError::Damaged { name, version }),
        }
    }

    /// Wraps up to `limit` secrets but those in `skip` with the active key, in
    /// one transaction.
    pub(crate) async fn rewrap_some(
        &self,
        limit: usize,
        skip: &[SecretName],
        now: Timestamp,
    ) -> Result<Step, SecretsError> {
        let ring = self.inner.store.key_ring();
        let Some(active) = ring.keys.last().map(|info| info.id.clone()) else {
            return Ok(Step::Done);
        };
        let outdated = self.outdated(&active, limit, skip);
        if outdated.is_empty() {
            return Ok(Step::Done);
        }
        let batch = match &self.inner.wrapper {
            Wrapper::Keys(keys) => self.rewrap_with_keys(keys, &active, &outdated)?,
            Wrapper::Transit(transit) => {
                self.rewrap_with_transit(transit, &active, &outdated)
                    .await?
            }
        };
        let replaced = match batch.rewrapped.is_empty() {
            true => 0,
            false => {
                self.inner
                    .store
                    .replace_sealed(batch.rewrapped, now)
                    .await?
            }
        };
        Ok(Step::Some(replaced, batch.damaged))
    }

    fn outdated(
        &self,
        active: &KeyId,
        limit: usize,
        skip: &[SecretName],
    ) -> Vec<Arc<SecretRecord>> {
        let records = self.inner.store.secrets().into_iter();
        let is_outdated = |record: &Arc<SecretRecord>| {
            let mut sealed = sealed_in(record);
            sealed.any(|(_, sealed)| sealed.key != *active) && !skip.contains(&record.name)
        };
        records.filter(is_outdated).take(limit).collect()
    }

    fn rewrap_with_keys(
        &self,
        keys: &Keys,
        active: &KeyId,
        outdated: &[Arc<SecretRecord>],
    ) -> Result<Batch, SecretsError> {
        let wrong = |id: &KeyId| self.inner.wrapper.wrong_key([id.clone()]);
        let new = keys.get(active).ok_or_else(|| wrong(active))?;
        let mut batch = Batch::default();
        for record in outdated {
            let ids = keys_of(record);
            let old: Option<Vec<WrappingKey>> = ids.iter().map(|id| keys.get(id)).collect();
            let old = old.ok_or_else(|| SecretsError::WrongKey {
                needed: ids,
                given: keys.ids(),
            })?;
            batch.add(record, active, |place, sealed| {
                let old = old.iter().find(|key| key.id() == sealed.key)?;
                let data_key = seal::unwrap(place, sealed, old)?;
                Some((new.id(), seal::wrap(place, &new, &data_key)))
            });
        }
        Ok(batch)
    }

    async fn rewrap_with_transit(
        &self,
        transit: &Transit,
        active: &KeyId,
        outdated: &[Arc<SecretRecord>],
    ) -> Result<Batch, SecretsError> {
        let refused = |error| transit.vault.error("wrap keys anew", error);
        let values = outdated.iter().flat_map(|record| sealed_in(record));
        let values: Vec<&SealedValue> = values
            .map(|(_, sealed)| sealed)
            .filter(|sealed| sealed.key != *active)
            .collect();
        let mut results = Vec::with_capacity(values.len());
        for part in values.chunks(transit::BATCH) {
            results.extend(transit.rewrap(part).await.map_err(refused)?);
        }
        let is_newer = |result: &Result<(KeyId, Vec<u8>), VaultError>| matches!(result, Ok((id, _)) if id != active);
        if results.iter().any(is_newer) {
            // somebody made a new version meanwhile
            self.note_transit_version(transit).await.map_err(refused)?;
        }
        let mut results = results.into_iter();
        let mut batch = Batch::default();
        for record in outdated {
            batch.add(record, active, |_, _| results.next()?.ok());
        }
        Ok(batch)
    }
}

impl Batch {
    /// Wraps the values of `record` that are not sealed with `active`.
    fn add(
        &mut self,
        record: &SecretRecord,
        active: &KeyId,
        mut rewrap: impl FnMut(Place<'_>, &SealedValue) -> Option<(KeyId, Vec<u8>)>,
    ) {
        let name = &record.name;
        let mut next = record.clone();
        let mut bad = None;
        for version in &mut next.versions {
            let number = version.version;
            let is_outdated = |sealed: &&mut SealedValue| sealed.key != *active;
            let Some(sealed) = version.sealed.as_mut().filter(is_outdated) else {
                continue;
            };
            let place = Place {
                name,
                version: number,
            };
            match rewrap(place, sealed) {
                Some((key, wrapped_key)) => (sealed.key, sealed.wrapped_key) = (key, wrapped_key),
                None => bad = Some(number),
            }
        }
        match bad {
            None => self.rewrapped.push((name.clone(), record.revision, next)),
            Some(version) => self.damaged.push((name.clone(), version)),
        }
    }
}

/// The keys that the values of one secret are sealed with.
fn keys_of(record: &SecretRecord) -> Vec<KeyId> {
    sealed_in(record)
        .map(|(_, sealed)| sealed.key.clone())
        .collect()
}
