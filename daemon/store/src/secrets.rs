//! Secrets, sealed before they come here, and the ring of keys that they are
//! sealed with.

use std::sync::Arc;

use model::{
    By, Credential, CredentialName, CredentialRecord, KeyId, KeyRing, SealedValue, SecretName,
    SecretRecord, SecretVersion, TenantName, Timestamp, TokenProof,
};

use crate::audit::{self, Line};
use crate::book::{Book, Change};
use crate::error::{Answer, Fault, Refusal, WriteError, or_refuse};
use crate::{Store, checks, credentials, shown, tables};

/// Secrets that can be kept.
pub const MAX_SECRETS: usize = 10_000;

/// Bytes of one secret as it is kept, all versions together.
pub const MAX_SECRET_BYTES: usize = 64 * 1024;

/// Versions of one secret that are kept: the oldest go first.
pub const MAX_SECRET_VERSIONS: usize = 10;

impl Store {
    // --- secrets

    /// The secret of this name, sealed.
    #[must_use]
    pub fn secret(&self, name: &SecretName) -> Option<Arc<SecretRecord>> {
        self.shared.book().secrets.get(name).cloned()
    }

    /// All secrets, sealed, by name; the daemon's own too.
    #[must_use]
    pub fn secrets(&self) -> Vec<Arc<SecretRecord>> {
        self.shared.book().secrets.values().cloned().collect()
    }

    /// What uses a secret: `credential:campus`, `token:backup`, `user:jane`.
    #[must_use]
    pub fn secret_users(&self, name: &SecretName) -> Vec<String> {
        users_of(&self.shared.book(), name)
    }

    /// Keeps a secret, in the place of what had its name. `expected`: 0 if it
    /// has to be new, else the revision that was seen; `None`: whatever is
    /// there. The store sets revision and times, keeps the newest
    /// [`MAX_SECRET_VERSIONS`], and keeps older versions as *it* has them
    /// (another call may have wrapped them anew meanwhile). A version is never
    /// given twice: the last one of `secret` has to be newer than what is
    /// there. Returns when it is on the disk.
    ///
    /// Where a secret comes with something else (a credential, a token), its
    /// `revision` takes the place of `expected`: the one that was seen, 0 if
    /// there was none.
    ///
    /// # Errors
    ///
    /// Refused with `NameExists`, `NoSuch`, `RevisionMismatch`, `NoSuchTenant`,
    /// `KeyNotInRing` or `TooMany`; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn put_secret(
        &self,
        by: &By,
        secret: SecretRecord,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<Arc<SecretRecord>, WriteError> {
        let by = by.clone();
        self.write(move |change| {
            let secret = or_refuse!(plan(&change.book, &secret, expected, now));
            keep(change, &by, secret, now).map(Ok)
        })
        .await
    }

    /// Takes a secret away that nothing uses. Returns when that is on the
    /// disk.
    ///
    /// # Errors
    ///
    /// Refused with `NoSuch`, `RevisionMismatch` or `SecretInUse`;
    /// [`WriteError::NotWriting`], [`WriteError::Closed`].
    pub async fn delete_secret(
        &self,
        by: &By,
        name: &SecretName,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        let (by, name) = (by.clone(), name.clone());
        self.write(move |change| delete(change, &by, &name, expected, now))
            .await
    }

    /// Puts the same values, wrapped by another key, in the place of those at
    /// the revisions that were seen; skips what changed meanwhile. How many
    /// were replaced. All in one transaction, which is on the disk when this
    /// returns. No audit line, no new revision.
    ///
    /// # Errors
    ///
    /// Refused with `KeyNotInRing`; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn replace_sealed(
        &self,
        secrets: Vec<(SecretName, u64, SecretRecord)>,
        now: Timestamp,
    ) -> Result<usize, WriteError> {
        self.write(move |change| replace_sealed(change, &secrets, now))
            .await
    }

    /// The keys in use.
    #[must_use]
    pub fn key_ring(&self) -> Arc<KeyRing> {
        self.shared.book().key_ring.clone()
    }

    /// Replaces the ring; `expected` is the revision that was seen, 0 at
    /// first. Returns when it is on the disk.
    ///
    /// # Errors
    ///
    /// Refused with `RevisionMismatch`, or `KeyInUse` if a secret is sealed
    /// with a key that would leave the ring; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn put_key_ring(
        &self,
        by: &By,
        ring: KeyRing,
        expected: u64,
        now: Timestamp,
    ) -> Result<Arc<KeyRing>, WriteError> {
        let by = by.clone();
        self.write(move |change| put_key_ring(change, &by, &ring, expected, now))
            .await
    }

    // --- what an older version kept unsealed

    /// Credentials that an older version kept as they are, to be sealed now:
    /// until then no device can be asked with them.
    #[must_use]
    pub fn open_plain_credentials(&self) -> Vec<(CredentialName, Credential)> {
        let book = self.shared.book();
        let plain = book.plain.iter();
        plain
            .map(|(name, kept)| (name.clone(), kept.secret.clone()))
            .collect()
    }

    /// Keeps sealed ones in the place of [`Store::open_plain_credentials`], all
    /// or none, and overwrites what of those is left in the file's free pages.
    /// Returns when all of it is on the disk. If the disk runs full on the way,
    /// the pages are overwritten at the next start.
    ///
    /// # Errors
    ///
    /// As [`Store::put_credential`].
    pub async fn seal_plain_credentials(
        &self,
        by: &By,
        sealed: Vec<(CredentialRecord, SecretRecord)>,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        let by = by.clone();
        self.write(move |change| credentials::seal_plain(change, &by, &sealed, now))
            .await?;
        // the writer overwrites free pages before it looks at the next thing
        let _ = self.heartbeat().await;
        Ok(())
    }
}

/// What the secret of a credential that is given together with it begins with,
/// after the tenant.
const INLINE: &str = "credential.";

/// Whose a secret is; `None`: the daemon's own.
pub(crate) fn tenant_of(name: &SecretName) -> Option<TenantName> {
    (!name.is_internal()).then(|| TenantName::of(&name.0))
}

/// The secret that is given together with a credential of this name.
pub(crate) fn inline_of(credential: &CredentialName) -> SecretName {
    let tenant = TenantName::of(&credential.0);
    let own = credential.0.rsplit('/').next().unwrap_or_default();
    SecretName(tenant.qualify(&format!("{INLINE}{own}")))
}

/// What uses a secret.
pub(crate) fn users_of(book: &Book, name: &SecretName) -> Vec<String> {
    let credentials = book.credentials.values();
    let credentials = credentials.filter(|kept| kept.secret == *name);
    let tokens = book.people.tokens();
    let tokens = tokens.filter(|token| token.proof == TokenProof::Hmac(name.clone()));
    let users = book.people.users();
    let users = users.filter(|user| user.totp.as_ref().is_some_and(|totp| totp.seed == *name));
    credentials
        .map(|kept| format!("credential:{}", kept.name))
        .chain(tokens.map(|token| format!("token:{}", token.name)))
        .chain(users.map(|user| format!("user:{}", user.name)))
        .collect()
}

/// The secret as it would be kept, if it can be.
pub(crate) fn plan(
    book: &Book,
    secret: &SecretRecord,
    expected: Option<u64>,
    now: Timestamp,
) -> Result<SecretRecord, Refusal> {
    check_name(book, &secret.name)?;
    let before = book.secrets.get(&secret.name);
    let found = before.map(|before| before.revision);
    checks::expected("secret", &secret.name.0, found, expected)?;
    if before.is_none() {
        checks::room("secrets", book.secrets.len(), MAX_SECRETS)?;
    }
    let had = before.map_or(&[][..], |before| &before.versions);
    check_versions(secret, had, found)?;
    let planned = SecretRecord {
        versions: merged(&secret.versions, had),
        created: before.map_or(now, |before| before.created),
        updated: now,
        revision: found.unwrap_or(0) + 1,
        ..secret.clone()
    };
    for sealed in sealed_of(&planned) {
        check_key(&book.key_ring, &sealed.key)?;
    }
    checks::size("bytes in one secret", &planned, MAX_SECRET_BYTES)?;
    Ok(planned)
}

fn check_name(book: &Book, name: &SecretName) -> Result<(), Refusal> {
    if name.is_internal() {
        return match name.0.len() <= 256 {
            true => Ok(()),
            false => Err(Refusal::BadName {
                what: "secret",
                name: name.0.chars().take(200).collect(),
                why: "it is longer than 256 bytes",
            }),
        };
    }
    // the secret of a credential with the longest name is longer than that
    let (tenant, own) = name.0.split_once('/').unwrap_or(("", &name.0));
    let short = match own.strip_prefix(INLINE) {
        Some(short) if tenant.is_empty() => short.to_owned(),
        Some(short) => format!("{tenant}/{short}"),
        None => name.0.clone(),
    };
    checks::qualified(&book.people, "secret", &short).map(drop)
}

/// A version is given once: two that were made of the same one before do not
/// replace each other.
fn check_versions(
    secret: &SecretRecord,
    had: &[SecretVersion],
    found: Option<u64>,
) -> Result<(), Refusal> {
    let Some(last) = secret.versions.last() else {
        return Err(Refusal::NoSuch {
            what: "value of the secret",
            name: secret.name.0.clone(),
        });
    };
    let is_news = had
        .last()
        .is_none_or(|newest| last.version > newest.version || last == newest);
    match is_news {
        true => Ok(()),
        false => Err(Refusal::RevisionMismatch {
            expected: secret.revision,
            found: found.unwrap_or(0),
        }),
    }
}

/// The newest of `given`; where they are the same as some of `had`, as they
/// are there.
fn merged(given: &[SecretVersion], had: &[SecretVersion]) -> Vec<SecretVersion> {
    let superfluous = given.len().saturating_sub(MAX_SECRET_VERSIONS);
    let newest = given[superfluous..].iter();
    newest
        .map(|version| {
            let known = had.iter().find(|known| known.version == version.version);
            known.unwrap_or(version).clone()
        })
        .collect()
}

fn sealed_of(secret: &SecretRecord) -> impl Iterator<Item = &SealedValue> {
    secret
        .versions
        .iter()
        .filter_map(|kept| kept.sealed.as_ref())
}

/// Whether what is sealed with `key` can be read. Without a ring nothing is
/// known of keys.
fn check_key(ring: &KeyRing, key: &KeyId) -> Result<(), Refusal> {
    match ring.revision == 0 || ring.keys.iter().any(|known| known.id == *key) {
        true => Ok(()),
        false => Err(Refusal::KeyNotInRing { key: key.clone() }),
    }
}

/// Keeps a secret that was planned.
pub(crate) fn keep(
    change: &mut Change<'_>,
    by: &By,
    secret: SecretRecord,
    now: Timestamp,
) -> Result<Arc<SecretRecord>, Fault> {
    let before = change.book.secrets.get(&secret.name);
    let before = before.map(|before| shown::secret(before));
    let line = Line::set("secret", &secret.name.0, before)
        .of(tenant_of(&secret.name))
        .after(shown::secret(&secret));
    audit::append(change, by, now, line)?;
    put(change, secret)
}

fn put(change: &mut Change<'_>, secret: SecretRecord) -> Result<Arc<SecretRecord>, Fault> {
    tables::SECRET.put(change.txn, secret.name.0.as_str(), &secret)?;
    let secret = Arc::new(secret);
    Arc::make_mut(&mut change.book.secrets).insert(secret.name.clone(), secret.clone());
    Ok(secret)
}

fn delete(
    change: &mut Change<'_>,
    by: &By,
    name: &SecretName,
    expected: Option<u64>,
    now: Timestamp,
) -> Answer<()> {
    let Some(before) = change.book.secrets.get(name).cloned() else {
        return Ok(Err(Refusal::NoSuch {
            what: "secret",
            name: name.0.clone(),
        }));
    };
    let found = Some(before.revision);
    or_refuse!(checks::expected("secret", &name.0, found, expected));
    let users = users_of(&change.book, name);
    if !users.is_empty() {
        let name = name.clone();
        return Ok(Err(Refusal::SecretInUse { name, users }));
    }
    remove(change, by, &before, now)?;
    Ok(Ok(()))
}

fn remove(
    change: &mut Change<'_>,
    by: &By,
    secret: &SecretRecord,
    now: Timestamp,
) -> Result<(), Fault> {
    let line = Line::on("secret.delete", &format!("secret:{}", secret.name))
        .of(tenant_of(&secret.name))
        .before(shown::secret(secret));
    audit::append(change, by, now, line)?;
    tables::SECRET.remove(change.txn, secret.name.0.as_str())?;
    Arc::make_mut(&mut change.book.secrets).remove(&secret.name);
    Ok(())
}

/// Takes a secret away that came with something that is gone, unless something
/// else uses it.
pub(crate) fn forget_unused(
    change: &mut Change<'_>,
    by: &By,
    name: &SecretName,
    now: Timestamp,
) -> Result<(), Fault> {
    match change.book.secrets.get(name).cloned() {
        Some(secret) if users_of(&change.book, name).is_empty() => remove(change, by, &secret, now),
        _ => Ok(()),
    }
}

fn replace_sealed(
    change: &mut Change<'_>,
    secrets: &[(SecretName, u64, SecretRecord)],
    now: Timestamp,
) -> Answer<usize> {
    change.heard = now;
    for sealed in secrets.iter().flat_map(|(_, _, secret)| sealed_of(secret)) {
        or_refuse!(check_key(&change.book.key_ring, &sealed.key));
    }
    let mut replaced = 0;
    for (name, seen, secret) in secrets {
        let known = change.book.secrets.get(name);
        let Some(known) = known.filter(|known| known.revision == *seen) else {
            continue;
        };
        let secret = SecretRecord {
            versions: resealed(&known.versions, &secret.versions),
            ..SecretRecord::clone(known)
        };
        put(change, secret)?;
        replaced += 1;
    }
    Ok(Ok(replaced))
}

/// `had`, sealed as in `given`.
fn resealed(had: &[SecretVersion], given: &[SecretVersion]) -> Vec<SecretVersion> {
    let had = had.iter().map(|known| {
        let anew = given.iter().find(|anew| anew.version == known.version);
        let sealed = anew.and_then(|anew| anew.sealed.clone());
        SecretVersion {
            sealed: sealed.or_else(|| known.sealed.clone()),
            ..known.clone()
        }
    });
    had.collect()
}

fn put_key_ring(
    change: &mut Change<'_>,
    by: &By,
    ring: &KeyRing,
    expected: u64,
    now: Timestamp,
) -> Answer<Arc<KeyRing>> {
    let before = change.book.key_ring.clone();
    if expected != before.revision {
        let found = before.revision;
        return Ok(Err(Refusal::RevisionMismatch { expected, found }));
    }
    let ring = KeyRing {
        revision: before.revision + 1,
        ..ring.clone()
    };
    or_refuse!(check_ring(&change.book, &ring));
    let newest = ring.keys.last().map_or("none", |key| key.id.0.as_str());
    let action = match before.revision {
        0 => "key.create",
        _ => "key.rotate",
    };
    let line = Line::on(action, &format!("key:{newest}"))
        .before(shown::key_ring(&before))
        .after(shown::key_ring(&ring));
    audit::append(change, by, now, line)?;
    tables::KEY_RING.put(change.txn, tables::ONLY, &ring)?;
    let ring = Arc::new(ring);
    change.book.key_ring = ring.clone();
    Ok(Ok(ring))
}

/// Whether everything that is sealed can still be read.
fn check_ring(book: &Book, ring: &KeyRing) -> Result<(), Refusal> {
    let lost = |sealed: &&SealedValue| check_key(ring, &sealed.key).is_err();
    let mut losers = book
        .secrets
        .values()
        .filter_map(|secret| sealed_of(secret).find(lost));
    match losers.next() {
        None => Ok(()),
        Some(first) => Err(Refusal::KeyInUse {
            key: first.key.clone(),
            secrets: 1 + losers.count(),
        }),
    }
}
