//! What goes on in the background: tokens are renewed, values asked for again,
//! keys unwrapped, interrupted rotations finished.

use std::collections::HashSet;
use std::time::Duration;

use model::{By, SealedValue, SecretName, SecretVersion, Timestamp};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::kv::{Found, Kv, Which};
use crate::ring::{Wrapper, sealed_in};
use crate::transit::{BATCH, Transit, Verdict};
use crate::vault::VaultError;
use crate::{Secrets, SecretsError};

/// Values asked for at the same time.
const TOGETHER: usize = 8;

/// How long nothing is done if nothing is due.
const PAUSE: Duration = Duration::from_secs(30);

/// How long nothing is done after something was.
const REST: Duration = Duration::from_millis(200);

/// How long to wait after a failure; doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// The longest wait after failures.
const LAST_RETRY: Duration = Duration::from_secs(30);

impl Secrets {
    /// Does what is due until `stop`: renews tokens when two thirds of their
    /// time are over, asks for values again before they are too old, goes on
    /// with what was interrupted. A server that is down is tried again and
    /// again, every 30 s in the end.
    pub async fn run(&self, clock: fn() -> Timestamp, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            let now = clock();
            self.inner.clock.set(now);
            let went_well = tokio::select! {
                () = stop.cancelled() => return,
                went_well = self.upkeep(now) => went_well,
            };
            failures = if went_well { 0 } else { failures + 1 };
            let pause = match failures {
                0 => self.until_due(),
                failures => retry_after(failures),
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
                () = self.woken(), if went_well => {}
            }
        }
    }

    /// Somebody wants what is not in memory; not too often.
    async fn woken(&self) {
        sleep(REST).await;
        self.inner.wake.notified().await;
    }

    fn until_due(&self) -> Duration {
        let tokens = self
            .inner
            .vaults
            .iter()
            .filter_map(|vault| vault.renew_at());
        let values = self.inner.kv.as_ref().and_then(Kv::next_due);
        let next = tokens.chain(values).min();
        let until = next.map(|at| at.saturating_duration_since(Instant::now()));
        until.unwrap_or(PAUSE).clamp(REST, PAUSE)
    }

    /// Asks for what is needed to answer from memory, as long as a start may
    /// wait for it.
    pub(crate) async fn warm_up(&self) {
        let patience = self.inner.vaults.iter().map(|vault| vault.timeout()).max();
        if let Some(patience) = patience {
            let now = self.inner.clock.now();
            // where it is too slow, it goes on in the background
            let _ = timeout(patience, self.upkeep(now)).await;
        }
    }

    /// One round; whether all of it could be done.
    async fn upkeep(&self, now: Timestamp) -> bool {
        if let Some(kv) = &self.inner.kv {
            // also while the server is down: nothing is kept beyond its time
            kv.tidy(&self.wanted().into_iter().collect::<HashSet<Which>>());
        }
        for vault in &self.inner.vaults {
            if let Err(error) = vault.keep_signed_in().await {
                tracing::debug!(server = vault.address(), %error, "not signed in");
                return false;
            }
        }
        let mut went_well = true;
        if let Wrapper::Transit(transit) = &self.inner.wrapper {
            went_well &= self.keep_unwrapped(transit).await;
        }
        if let Some(kv) = &self.inner.kv {
            went_well &= self.keep_fetched(kv).await;
        }
        went_well && self.finish_what_was_begun(now).await
    }

    async fn finish_what_was_begun(&self, now: Timestamp) -> bool {
        if !self.is_rotation_unfinished() {
            return true;
        }
        let Ok(_one) = self.inner.rotating.try_lock() else {
            return true;
        };
        match self.finish_rotation(&By::system(), now).await {
            Ok(done) => {
                tracing::info!(key = %done.active, rewrapped = done.rewrapped, "the change of the key is finished");
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the change of the key is not finished");
                false
            }
        }
    }

    // --- transit

    async fn keep_unwrapped(&self, transit: &Transit) -> bool {
        let before = transit.verdict();
        let unwrapped = match self.verify_transit(transit).await {
            Ok(()) => self.unwrap_missing(transit).await,
            Err(error) => Err(error),
        };
        match (transit.verdict(), unwrapped) {
            (Verdict::Wrong(why), _) => {
                if before != Verdict::Wrong(why.clone()) {
                    tracing::error!(%why, "the server has not the key that the store is sealed with");
                }
                false
            }
            (_, Ok(())) => true,
            (_, Err(error)) => {
                tracing::debug!(%error, "keys are not unwrapped yet");
                false
            }
        }
    }

    async fn unwrap_missing(&self, transit: &Transit) -> Result<(), VaultError> {
        if transit.verdict() != Verdict::Good {
            return Ok(());
        }
        let records = self.inner.store.secrets();
        let sealed: Vec<(&SecretName, &SealedValue)> = records
            .iter()
            .flat_map(|record| sealed_in(record).map(|(_, sealed)| (&record.name, sealed)))
            .collect();
        transit.tidy(&sealed.iter().map(|(_, sealed)| sealed.nonce).collect());
        let is_missing = |(_, sealed): &&(&SecretName, &SealedValue)| transit.is_to_unwrap(sealed);
        let missing: Vec<(&SecretName, &SealedValue)> =
            sealed.iter().filter(is_missing).copied().collect();
        for part in missing.chunks(BATCH) {
            let values: Vec<&SealedValue> = part.iter().map(|(_, sealed)| *sealed).collect();
            for ((name, sealed), key) in part.iter().zip(transit.unwrap(&values).await?) {
                match key {
                    Ok(key) => transit.remember(sealed.nonce, key),
                    Err(error) => {
                        tracing::error!(secret = %name, %error, "its key cannot be unwrapped");
                        transit.give_up(sealed.nonce);
                    }
                }
            }
        }
        Ok(())
    }

    /// How many values cannot be read for want of their key.
    pub(crate) fn not_unwrapped(&self, transit: &Transit) -> usize {
        let records = self.inner.store.secrets();
        let sealed = records.iter().flat_map(|record| sealed_in(record));
        sealed
            .filter(|(_, sealed)| transit.data_key(sealed).is_none())
            .count()
    }

    // --- KV

    async fn keep_fetched(&self, kv: &Kv) -> bool {
        let mut went_well = kv.remove_leftovers().await;
        let mut due = kv.due(self.wanted()).into_iter();
        let mut refused: Vec<(SecretName, VaultError)> = Vec::new();
        let mut running = JoinSet::new();
        loop {
            while went_well && running.len() < TOGETHER {
                let Some((name, version)) = due.next() else {
                    break;
                };
                let secrets = self.clone();
                running.spawn(async move {
                    let refreshed = secrets.refresh(&name, version).await;
                    (name, refreshed)
                });
            }
            match running.join_next().await {
                None => break,
                Some(Ok((_, Ok(())))) => {}
                Some(Ok((_, Err(error)))) if error.is_down() => went_well = false,
                // one that is refused does not keep the others from coming
                Some(Ok((name, Err(error)))) => refused.push((name, error)),
                Some(Err(error)) => tracing::error!(%error, "fetching a value failed"),
            }
        }
        if let Some((name, error)) = refused.first() {
            let count = refused.len();
            tracing::warn!(secret = %name, %error, count, "values are refused, this one first");
        }
        went_well
    }

    /// The values in use that lie in OpenBao or Vault.
    fn wanted(&self) -> Vec<Which> {
        let records = self.inner.store.secrets();
        let in_use = records.iter().filter_map(|record| {
            let last = record.versions.last()?;
            let lies_there = last.sealed.is_none();
            lies_there.then(|| (record.name.clone(), last.version))
        });
        in_use.collect()
    }

    pub(crate) fn not_fetched(&self, kv: &Kv) -> usize {
        let wanted = self.wanted();
        wanted.iter().filter(|which| !kv.holds(which)).count()
    }

    /// Asks for the value of a secret, whose record names `version`.
    pub(crate) async fn refresh(&self, name: &SecretName, version: u32) -> Result<(), VaultError> {
        let Some(kv) = &self.inner.kv else {
            return Ok(());
        };
        match kv.get(name, None).await {
            Ok(Some(found)) if found.version == version => {
                kv.remember((name.clone(), version), found.value);
                return Ok(());
            }
            Ok(Some(found)) if found.version > version && !found.is_ours => {
                if self.take_over(kv, name, found).await.is_ok() {
                    return Ok(());
                }
            }
            Ok(_) | Err(VaultError::Strange(_)) => {}
            Err(error) => return Err(error),
        }
        self.refresh_version(kv, name, version).await
    }

    pub(crate) async fn refresh_version(
        &self,
        kv: &Kv,
        name: &SecretName,
        version: u32,
    ) -> Result<(), VaultError> {
        let which = (name.clone(), version);
        match kv.get(name, Some(version)).await? {
            Some(found) => kv.remember(which, found.value),
            None => {
                tracing::warn!(secret = %name, version, "its value is gone from the server");
                kv.forget(&which);
            }
        }
        Ok(())
    }

    /// Somebody set a value in OpenBao or Vault itself.
    async fn take_over(
        &self,
        kv: &Kv,
        name: &SecretName,
        found: Found,
    ) -> Result<(), SecretsError> {
        let record = self.record(name)?;
        let now = self.inner.clock.now();
        let mut next = model::SecretRecord::clone(&record);
        next.versions.push(SecretVersion {
            version: found.version,
            created: found.created.unwrap_or(now),
            created_by: kv.vault.address().to_owned(),
            sealed: None,
        });
        kv.remember((name.clone(), found.version), found.value);
        let (store, by) = (&self.inner.store, By::system());
        store
            .put_secret(&by, next, Some(record.revision), now)
            .await?;
        tracing::info!(secret = %name, version = found.version, "a new value was set on the server");
        Ok(())
    }
}

/// How long to wait after the last of `failures`.
fn retry_after(failures: u32) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LAST_RETRY)
}
