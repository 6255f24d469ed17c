//! Secrets: sealed in the store, or kept in OpenBao or Vault.
//!
//! - Whoever needs a secret names it (`secret://name`) and asks
//!   [`Secrets::expose`], which answers from memory at once. Values go in and
//!   are used; no way leads out to people.
//! - *Embedded*: each value is sealed with a key of its own, and that one is
//!   wrapped by a key which is not in the store (`seal.rs`): one that the
//!   daemon is given at its start, or one that never leaves OpenBao or Vault
//!   (*transit*, `transit.rs`). The wrapping key can be changed at any time
//!   (`rotate.rs`).
//! - *Vault*: values lie in the KV engine (`kv.rs`); the store has the names,
//!   versions and times. They are kept in memory, and used for a while after
//!   their time if the server is down.
//! - With a wrong key nothing is opened and nothing changed.
//! - A server that is down keeps the daemon neither from starting nor from
//!   working with what is in memory; [`Secrets::run`] tries again and again.
//!
//! What is in plain is wiped from memory when it is no longer needed, but for
//! what passes through the buffers of HTTP.

mod bytes;
mod clock;
mod error;
mod file;
mod key;
mod kv;
mod ring;
mod rotate;
mod seal;
mod settings;
mod status;
#[cfg(test)]
mod tests;
mod transit;
mod upkeep;
mod vault;

use std::sync::Arc;
use std::time::Duration;

use model::{By, SealedValue, SecretName, SecretRecord, SecretVersion, Timestamp};
use store::{MAX_SECRET_VERSIONS, Refusal, Store, WriteError};
use tokio::sync::Notify;

pub use bytes::SecretBytes;
pub use error::{KeyFileError, SecretsError};
pub use key::WrappingKey;
pub use settings::{SecretsSettings, Values, VaultSettings, Wrap};
pub use status::{KeyStatus, Rotation, SecretsStatus, VaultHealth};

use clock::Clock;
use kv::{Kv, Memory};
use ring::{ATTEMPTS, Keys, Wrapper, sealed_in};
use seal::Place;
use transit::{Transit, Verdict};
use vault::Vault;

/// Bytes of a value: ten versions of it fit into what the store keeps of one
/// secret.
pub const MAX_VALUE_BYTES: usize = 6 * 1024;

/// Bytes of a name: that of a credential's own secret is the longest.
const MAX_NAME_BYTES: usize = 256;

/// Bytes of a note.
const MAX_NOTE_BYTES: usize = 512;

/// How often a value is written anew until the server's number for it is ahead
/// of ours. Only after values lay elsewhere before.
const MAX_CATCHING_UP: u32 = 200;

/// All secrets. Clones are the same.
#[derive(Clone)]
pub struct Secrets {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    wrapper: Wrapper,
    kv: Option<Kv>,
    /// The servers in use, each once.
    vaults: Vec<Arc<Vault>>,
    /// One changes the wrapping key at a time.
    rotating: tokio::sync::Mutex<()>,
    /// Somebody wants what is not in memory.
    wake: Notify,
    clock: Arc<Clock>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    /// Opens the secrets of a store; the first time makes its key ring. Where
    /// OpenBao or Vault is used, waits for it at most as long as one request
    /// may take, and starts without it: [`Secrets::run`] goes on trying.
    ///
    /// # Errors
    ///
    /// [`SecretsError::WrongKey`] if anything is sealed with a key that is not
    /// at hand: nothing was changed. [`SecretsError::Settings`] if the server
    /// cannot be asked as the settings say; [`SecretsError::Store`].
    pub async fn open(
        store: Store,
        settings: SecretsSettings,
        now: Timestamp,
    ) -> Result<Secrets, SecretsError> {
        let clock = Arc::new(Clock::new(now));
        let mut vaults: Vec<Arc<Vault>> = Vec::new();
        let wrapper = match settings.wrap {
            Wrap::Key { active, old } => Wrapper::Keys(Keys::new(active, old)),
            Wrap::Transit { vault, mount, key } => {
                let vault = vault_of(&mut vaults, vault, &clock)?;
                Wrapper::Transit(Transit::new(vault, &mount, &key))
            }
        };
        let kv = match settings.values {
            Values::Embedded => None,
            Values::Kv {
                vault,
                mount,
                path,
                cache,
                stale,
            } => {
                let vault = vault_of(&mut vaults, vault, &clock)?;
                Some(Kv::new(vault, &mount, &path, cache, stale))
            }
        };
        let inner = Inner {
            store,
            wrapper,
            kv,
            vaults,
            rotating: tokio::sync::Mutex::new(()),
            wake: Notify::new(),
            clock,
        };
        let secrets = Secrets {
            inner: Arc::new(inner),
        };
        secrets.settle_ring(now).await?;
        secrets.warm_up().await;
        secrets.refuse_wrong_transit_key()?;
        Ok(secrets)
    }

    fn refuse_wrong_transit_key(&self) -> Result<(), SecretsError> {
        let Wrapper::Transit(transit) = &self.inner.wrapper else {
            return Ok(());
        };
        match transit.verdict() {
            Verdict::Wrong(why) => {
                tracing::error!(%why, "the server has not the key that the store is sealed with");
                let ring = self.inner.store.key_ring();
                let needed = ring.keys.iter().map(|info| info.id.clone());
                Err(self.inner.wrapper.wrong_key(needed))
            }
            Verdict::Good | Verdict::Unknown => Ok(()),
        }
    }

    // --- setting

    /// Sets a secret: a new version of it. `note`: `None` leaves it as it is.
    /// `expected`: 0 if it has to be new, else the revision that was seen;
    /// `None`: whatever is there. Returns when it is on the disk, and in
    /// OpenBao or Vault, where that is used.
    ///
    /// # Errors
    ///
    /// [`SecretsError::BadName`], [`SecretsError::BadValue`];
    /// [`SecretsError::Store`] with the store's reasons;
    /// [`SecretsError::Conflict`], [`SecretsError::Unavailable`],
    /// [`SecretsError::Vault`].
    pub async fn put(
        &self,
        by: &By,
        name: SecretName,
        value: SecretBytes,
        note: Option<String>,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<Arc<SecretRecord>, SecretsError> {
        if note
            .as_ref()
            .is_some_and(|note| note.len() > MAX_NOTE_BYTES)
        {
            let why = "its note is longer than 512 bytes";
            return Err(SecretsError::BadValue { name, why });
        }
        let mut tries = 0;
        loop {
            let seen = self.inner.store.secret(&name);
            // before anything is written to the server
            check_expected(&name, seen.as_deref(), expected)?;
            let created_by = by.actor.to_string();
            let mut record = self.seal_record(&name, &value, &created_by, now).await?;
            record.note = note.clone().or(record.note);
            let revision = record.revision;
            let store = &self.inner.store;
            let put = store.put_secret(by, record, Some(revision), now).await;
            tries += 1;
            match put {
                // the wrapping key, or the secret, was changed meanwhile
                Err(WriteError::Refused(refusal)) if tries < ATTEMPTS && is_overtaken(&refusal) => {
                }
                put => return Ok(put?),
            }
        }
    }

    /// The next version of a secret, to be put into the store together with
    /// something else; its `revision` is the one that was seen. With OpenBao or
    /// Vault the value is written there first; it is used by nobody until the
    /// store has taken the record.
    ///
    /// # Errors
    ///
    /// As [`Secrets::put`]. If the store then refuses the record with
    /// `KeyNotInRing` or `RevisionMismatch`, seal it again.
    pub async fn seal_record(
        &self,
        name: &SecretName,
        value: &SecretBytes,
        created_by: &str,
        now: Timestamp,
    ) -> Result<SecretRecord, SecretsError> {
        self.inner.clock.set(now);
        check_name(name)?;
        check_value(name, value)?;
        let seen = self.inner.store.secret(name);
        let mut record = seen.map_or_else(|| new_record(name, now), |seen| (*seen).clone());
        let last = record.versions.last().map_or(0, |last| last.version);
        let (version, sealed) = match &self.inner.kv {
            Some(kv) => (self.write(kv, name, value, last).await?, None),
            None => (last + 1, Some(self.seal(name, last + 1, value).await?)),
        };
        record.versions.push(SecretVersion {
            version,
            created: now,
            created_by: created_by.to_owned(),
            sealed,
        });
        let too_many = record.versions.len().saturating_sub(MAX_SECRET_VERSIONS);
        record.versions.drain(..too_many);
        record.updated = now;
        Ok(record)
    }

    async fn seal(
        &self,
        name: &SecretName,
        version: u32,
        value: &SecretBytes,
    ) -> Result<SealedValue, SecretsError> {
        let place = Place { name, version };
        let sealed = seal::seal(place, value);
        match &self.inner.wrapper {
            Wrapper::Keys(keys) => {
                let ring = self.inner.store.key_ring();
                let active = ring.keys.last().map(|info| &info.id);
                let key = active.and_then(|active| keys.get(active));
                let key = key.ok_or_else(|| self.inner.wrapper.wrong_key(active.cloned()))?;
                let wrapped = seal::wrap(place, &key, &sealed.key);
                Ok(sealed.wrapped(key.id(), wrapped))
            }
            Wrapper::Transit(transit) => self.seal_with_transit(transit, sealed).await,
        }
    }

    async fn seal_with_transit(
        &self,
        transit: &Transit,
        sealed: seal::Sealed,
    ) -> Result<SealedValue, SecretsError> {
        let refused = |error| transit.vault.error("wrap a key", error);
        self.verify_transit(transit).await.map_err(refused)?;
        self.refuse_wrong_transit_key()?;
        let (id, wrapped) = transit.wrap(&sealed.key).await.map_err(refused)?;
        let ring = self.inner.store.key_ring();
        if ring.keys.iter().all(|info| info.id != id) {
            // somebody made a new version there
            self.note_transit_version(transit).await.map_err(refused)?;
        }
        transit.remember(sealed.nonce, sealed.key.clone());
        Ok(sealed.wrapped(id, wrapped))
    }

    /// Writes a value to the server; the number that it has there, which is
    /// beyond `last`.
    async fn write(
        &self,
        kv: &Kv,
        name: &SecretName,
        value: &SecretBytes,
        last: u32,
    ) -> Result<u32, SecretsError> {
        let refused = |error| {
            kv.vault
                .error(&format!("keep the secret \"{name}\""), error)
        };
        let conflict = || SecretsError::Conflict { name: name.clone() };
        let first = kv.put(name, value).await.map_err(refused)?;
        let mut version = first.ok_or_else(conflict)?;
        let start = version;
        while version <= last {
            if version - start >= MAX_CATCHING_UP {
                return Err(kv.vault.error(
                    &format!("keep the secret \"{name}\""),
                    vault::VaultError::Strange("its numbers of versions are far behind ours; delete the secret and set it again"),
                ));
            }
            let next = kv.put_after(name, value, version).await.map_err(refused)?;
            version = next.ok_or_else(conflict)?;
        }
        kv.remember((name.clone(), version), value.clone());
        Ok(version)
    }

    /// Takes a secret away with all its versions. Returns when that is on the
    /// disk; in OpenBao or Vault the values are removed at once, or as soon as
    /// the server is back (a restart before that leaves them there).
    ///
    /// # Errors
    ///
    /// [`SecretsError::Store`] with the store's reasons.
    pub async fn delete(
        &self,
        by: &By,
        name: &SecretName,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<(), SecretsError> {
        self.inner.clock.set(now);
        let store = &self.inner.store;
        store.delete_secret(by, name, expected, now).await?;
        self.forget(name).await;
        Ok(())
    }

    /// Removes what OpenBao or Vault has of a secret that the store took away
    /// together with something else, such as a credential. Does nothing if the
    /// secret is still there.
    pub async fn forget(&self, name: &SecretName) {
        if let Some(kv) = &self.inner.kv
            && self.inner.store.secret(name).is_none()
        {
            kv.delete(name).await;
            self.inner.wake.notify_one();
        }
    }

    // --- using

    /// The value in use, from memory: it waits for nothing. Unsealing takes
    /// microseconds.
    ///
    /// # Errors
    ///
    /// [`SecretsError::NoSuchSecret`]; [`SecretsError::Unavailable`] if the
    /// value (or its key) was not had yet, or not for too long, from OpenBao or
    /// Vault: it is asked for; [`SecretsError::Damaged`].
    pub fn expose(&self, name: &SecretName) -> Result<SecretBytes, SecretsError> {
        let record = self.record(name)?;
        self.read(name, last_of(&record)?)
    }

    /// The value in use; asks OpenBao or Vault where it lies there, and takes
    /// what is in memory if that is down.
    ///
    /// # Errors
    ///
    /// As [`Secrets::expose`].
    pub async fn expose_fresh(&self, name: &SecretName) -> Result<SecretBytes, SecretsError> {
        let record = self.record(name)?;
        let last = last_of(&record)?;
        let asked = self.ask_for(name, last, true).await;
        self.expose(name).map_err(|error| match (error, asked) {
            (SecretsError::Unavailable { .. }, Err(why)) => why,
            (error, _) => error,
        })
    }

    /// An earlier value, where it is still kept; may ask OpenBao or Vault.
    ///
    /// # Errors
    ///
    /// As [`Secrets::expose`], and [`SecretsError::NoSuchVersion`].
    pub async fn expose_version(
        &self,
        name: &SecretName,
        version: u32,
    ) -> Result<SecretBytes, SecretsError> {
        let record = self.record(name)?;
        let kept = record.versions.iter().find(|kept| kept.version == version);
        let kept = kept.ok_or_else(|| SecretsError::NoSuchVersion {
            name: name.clone(),
            version,
        })?;
        match self.read(name, kept) {
            Err(SecretsError::Unavailable { .. }) => {
                self.ask_for(name, kept, false).await?;
                self.read(name, kept)
            }
            answer => answer,
        }
    }

    /// Brings what is needed to read a value into memory.
    async fn ask_for(
        &self,
        name: &SecretName,
        version: &SecretVersion,
        is_last: bool,
    ) -> Result<(), SecretsError> {
        let number = version.version;
        match (&version.sealed, &self.inner.wrapper, &self.inner.kv) {
            (None, _, Some(kv)) => {
                let asked = match is_last {
                    true => self.refresh(name, number).await,
                    false => self.refresh_version(kv, name, number).await,
                };
                asked.map_err(|error| {
                    kv.vault
                        .error(&format!("give the secret \"{name}\""), error)
                })
            }
            (Some(sealed), Wrapper::Transit(transit), _) if transit.data_key(sealed).is_none() => {
                let refused = |error| transit.vault.error("unwrap a key", error);
                let keys = transit.unwrap(&[sealed]).await.map_err(refused)?;
                for key in keys {
                    transit.remember(sealed.nonce, key.map_err(refused)?);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn read(
        &self,
        name: &SecretName,
        version: &SecretVersion,
    ) -> Result<SecretBytes, SecretsError> {
        match &version.sealed {
            Some(sealed) => self.unseal(name, version.version, sealed),
            None => self.remembered(name, version.version),
        }
    }

    fn unseal(
        &self,
        name: &SecretName,
        version: u32,
        sealed: &SealedValue,
    ) -> Result<SecretBytes, SecretsError> {
        let place = Place { name, version };
        let damaged = || SecretsError::Damaged {
            name: name.clone(),
            version,
        };
        let data_key = match &self.inner.wrapper {
            Wrapper::Keys(keys) => {
                let key = keys.get(&sealed.key);
                let key = key.ok_or_else(|| self.inner.wrapper.wrong_key([sealed.key.clone()]))?;
                seal::unwrap(place, sealed, &key).ok_or_else(damaged)?
            }
            Wrapper::Transit(transit) => transit
                .data_key(sealed)
                .ok_or_else(|| self.missing(name, &transit.vault))?,
        };
        seal::open(place, sealed, &data_key).ok_or_else(damaged)
    }

    fn remembered(&self, name: &SecretName, version: u32) -> Result<SecretBytes, SecretsError> {
        let Some(kv) = &self.inner.kv else {
            return Err(SecretsError::Unavailable {
                what: format!("the secret \"{name}\""),
                why: "its value lies in OpenBao or Vault, which the settings do not name; set it again".to_owned(),
            });
        };
        match kv.remembered(&(name.clone(), version)) {
            Memory::Good(value) => Ok(value),
            Memory::Old(value) => {
                self.inner.wake.notify_one();
                Ok(value)
            }
            Memory::None => Err(self.missing(name, &kv.vault)),
        }
    }

    /// Why a value is not in memory; it is asked for.
    fn missing(&self, name: &SecretName, vault: &Vault) -> SecretsError {
        self.inner.wake.notify_one();
        let health = vault.health();
        let why = match health.last_error {
            Some((at, why)) if !health.up => format!("since {at}: {why}"),
            _ => "the server has not given it (yet)".to_owned(),
        };
        SecretsError::Unavailable {
            what: format!("the secret \"{name}\""),
            why,
        }
    }

    fn record(&self, name: &SecretName) -> Result<Arc<SecretRecord>, SecretsError> {
        let record = self.inner.store.secret(name);
        record.ok_or_else(|| SecretsError::NoSuchSecret { name: name.clone() })
    }

    // --- telling

    /// How secrets are kept and how that goes.
    #[must_use]
    pub fn status(&self) -> SecretsStatus {
        let ring = self.inner.store.key_ring();
        let records = self.inner.store.secrets();
        let active_key = ring.keys.last().map(|info| info.id.clone());
        let sealed: Vec<&SealedValue> = records
            .iter()
            .flat_map(|record| sealed_in(record))
            .map(|(_, sealed)| sealed)
            .collect();
        let keys = ring.keys.iter().map(|info| KeyStatus {
            id: info.id.clone(),
            created: info.created,
            sealed: sealed.iter().filter(|sealed| sealed.key == info.id).count(),
            active: Some(&info.id) == active_key.as_ref(),
        });
        let people_set = records.iter().filter(|record| !record.name.is_internal());
        let oldest = people_set.min_by_key(|record| record.updated);
        let versions = records.iter().flat_map(|record| &record.versions);
        SecretsStatus {
            values: if self.inner.kv.is_some() {
                "vault"
            } else {
                "embedded"
            },
            wrap: match self.inner.wrapper {
                Wrapper::Keys(_) => "key",
                Wrapper::Transit(_) => "transit",
            },
            keys: keys.collect(),
            active_key,
            secrets: records.len(),
            in_vault: versions.filter(|version| version.sealed.is_none()).count(),
            oldest: oldest.map(|record| (record.name.clone(), record.updated)),
            vault: self.vault_health(),
        }
    }

    /// How the server does; of two the one that is down.
    fn vault_health(&self) -> Option<VaultHealth> {
        let mut all = self.inner.vaults.iter().map(|vault| vault.health());
        let first = all.next()?;
        let mut health = all.fold(first, |worst, next| if worst.up { next } else { worst });
        if let Some(kv) = &self.inner.kv {
            health.stale = kv.stale();
            health.missing = self.not_fetched(kv);
        }
        if let Wrapper::Transit(transit) = &self.inner.wrapper {
            health.missing += self.not_unwrapped(transit);
        }
        Some(health)
    }

    /// How long ago the value of each secret was set; without the daemon's own.
    #[must_use]
    pub fn ages(&self, now: Timestamp) -> Vec<(SecretName, Duration)> {
        let records = self.inner.store.secrets().into_iter();
        records
            .filter(|record| !record.name.is_internal())
            .map(|record| (record.name.clone(), now.since(record.updated)))
            .collect()
    }
}

/// The client for a server: one for all who use it.
fn vault_of(
    vaults: &mut Vec<Arc<Vault>>,
    settings: VaultSettings,
    clock: &Arc<Clock>,
) -> Result<Arc<Vault>, SecretsError> {
    if let Some(vault) = vaults.iter().find(|vault| vault.is_for(&settings)) {
        return Ok(vault.clone());
    }
    let vault = Arc::new(Vault::new(settings, clock.clone())?);
    vaults.push(vault.clone());
    Ok(vault)
}

fn last_of(record: &SecretRecord) -> Result<&SecretVersion, SecretsError> {
    record
        .versions
        .last()
        .ok_or_else(|| SecretsError::NoSuchSecret {
            name: record.name.clone(),
        })
}

fn new_record(name: &SecretName, now: Timestamp) -> SecretRecord {
    SecretRecord {
        name: name.clone(),
        note: None,
        versions: Vec::new(),
        created: now,
        updated: now,
        revision: 0,
    }
}

/// `name`, `tenant/name`, `.folder/name`: what can stand in a path. The store
/// has more to say of names.
fn check_name(name: &SecretName) -> Result<(), SecretsError> {
    let bad = |why| {
        Err(SecretsError::BadName {
            name: name.0.chars().take(128).collect(),
            why,
        })
    };
    let parts: Vec<&str> = name.0.split('/').collect();
    match parts.as_slice() {
        _ if name.0.len() > MAX_NAME_BYTES => bad("it is longer than 256 bytes"),
        _ if name.0.chars().any(char::is_control) => bad("it contains a control character"),
        [] | [_, _, _, ..] => bad("it has more than one \"/\""),
        parts if parts.iter().any(|part| matches!(*part, "" | "." | "..")) => {
            bad("nothing, \".\" or \"..\" stands for one of its parts")
        }
        _ => Ok(()),
    }
}

fn check_value(name: &SecretName, value: &SecretBytes) -> Result<(), SecretsError> {
    let bad = |why| {
        Err(SecretsError::BadValue {
            name: name.clone(),
            why,
        })
    };
    match value.len() {
        0 => bad("it is empty"),
        1..=MAX_VALUE_BYTES => Ok(()),
        _ => bad("it is longer than 6144 bytes"),
    }
}

/// As the store will say it, but before anything is written elsewhere.
fn check_expected(
    name: &SecretName,
    seen: Option<&SecretRecord>,
    expected: Option<u64>,
) -> Result<(), SecretsError> {
    let what = "secret";
    let refusal = match (expected, seen.map(|seen| seen.revision)) {
        (None, _) | (Some(0), None) => return Ok(()),
        (Some(expected), Some(found)) if expected == found => return Ok(()),
        (Some(0), Some(_)) => Refusal::NameExists {
            what,
            name: name.0.clone(),
        },
        (Some(_), None) => Refusal::NoSuch {
            what,
            name: name.0.clone(),
        },
        (Some(expected), Some(found)) => Refusal::RevisionMismatch { expected, found },
    };
    Err(SecretsError::Store(WriteError::Refused(refusal)))
}

/// Whether something else was quicker, so that it can be tried again.
fn is_overtaken(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::KeyNotInRing { .. }
            | Refusal::RevisionMismatch { .. }
            | Refusal::NameExists { .. }
            | Refusal::NoSuch { .. }
    )
}
