//! Opening the secrets: where the key comes from, and what an older build kept in
//! clear.

use std::path::{Path, PathBuf};

use config::{SecretsBackend, SecretsWrap, Settings};
use model::{
    By, Credential, CredentialKind, CredentialName, CredentialRecord, SecretName, SecretRecord,
};
use secrets::{SecretBytes, Secrets, SecretsSettings, VaultSettings, WrappingKey};
use secrets::{Values, Wrap};
use store::Store;
use tracing::info;

use crate::clock;
use crate::failure::Failure;
use crate::settings::credentials_directory;

/// The credential with the wrapping key (systemd.exec(5), CREDENTIALS).
const KEY: &str = "sotp-kek";

/// The credential with the key that comes after it.
const NEW_KEY: &str = "sotp-kek-new";

/// The credential with the SecretID for OpenBao or Vault.
const SECRET_ID: &str = "vault-secret-id";

/// Reads what the secrets are opened with; blocks.
pub(crate) fn read(settings: &Settings) -> Result<SecretsSettings, Failure> {
    Ok(SecretsSettings {
        wrap: wrap(settings)?,
        values: values(settings)?,
    })
}

fn wrap(settings: &Settings) -> Result<Wrap, Failure> {
    if settings.secrets.wrap == SecretsWrap::Transit {
        let (vault, named) = vault(settings)?;
        return Ok(Wrap::Transit {
            vault,
            mount: named.transit_mount.clone(),
            key: named.transit_key.clone(),
        });
    }
    let path = place(settings.secrets.key_file.as_ref(), KEY).ok_or(Failure::NoKey)?;
    let new = new_key(settings)?;
    Ok(Wrap::Key {
        active: key(&path)?,
        old: new.into_iter().collect(),
    })
}

/// The key that comes after the one in use, if there is one; blocks.
pub(crate) fn new_key(settings: &Settings) -> Result<Option<WrappingKey>, Failure> {
    match place(settings.secrets.new_key_file.as_ref(), NEW_KEY) {
        // between two rotations there is none, or an empty credential
        Some(path) if is_filled(&path) => key(&path).map(Some),
        _ => Ok(None),
    }
}

/// Whether there is something in the file; one that cannot be read is, and the
/// reader says why.
fn is_filled(path: &Path) -> bool {
    match std::fs::metadata(path) {
        Ok(file) => file.len() > 1,
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

fn key(path: &Path) -> Result<WrappingKey, Failure> {
    WrappingKey::from_file(path, credentials_directory().as_deref()).map_err(Failure::KeyFile)
}

/// The file that the settings name, or the credential of this name.
fn place(named: Option<&PathBuf>, credential: &str) -> Option<PathBuf> {
    let handed_over = || credentials_directory().map(|directory| directory.join(credential));
    named.cloned().or_else(handed_over)
}

fn values(settings: &Settings) -> Result<Values, Failure> {
    if settings.secrets.backend == SecretsBackend::Embedded {
        return Ok(Values::Embedded);
    }
    let (vault, named) = vault(settings)?;
    Ok(Values::Kv {
        vault,
        mount: named.kv_mount.clone(),
        path: named.kv_path.clone(),
        cache: named.cache,
        stale: named.stale,
    })
}

fn vault(settings: &Settings) -> Result<(VaultSettings, &config::VaultSettings), Failure> {
    let named = settings.vault.as_ref().ok_or(Failure::NoVault)?;
    let path = place(named.secret_id_file.as_ref(), SECRET_ID).ok_or(Failure::NoVault)?;
    let secret_id = config::read_secret_file(&path, credentials_directory().as_deref())
        .map_err(Failure::Secret)?;
    let vault = VaultSettings {
        address: named.address.clone(),
        ca_file: named.ca_file.clone(),
        role_id: named.role_id.clone(),
        secret_id: SecretBytes::new(secret_id.expose().as_bytes().to_vec()),
        auth_mount: named.auth_mount.clone(),
        namespace: named.namespace.clone(),
        timeout: named.timeout,
    };
    Ok((vault, named))
}

/// Opens the secrets of `store` and seals what an older build kept in clear.
pub(crate) async fn open(store: &Store, settings: SecretsSettings) -> Result<Secrets, Failure> {
    let opened = Secrets::open(store.clone(), settings, clock::now()).await;
    let secrets = opened.map_err(Failure::Secrets)?;
    seal_what_is_plain(store, &secrets).await?;
    Ok(secrets)
}

async fn seal_what_is_plain(store: &Store, secrets: &Secrets) -> Result<(), Failure> {
    let plain = store.open_plain_credentials();
    if plain.is_empty() {
        return Ok(());
    }
    let mut sealed = Vec::with_capacity(plain.len());
    for (name, credential) in &plain {
        let record = sealed_one(secrets, name, credential).await?;
        sealed.push(record);
    }
    let now = clock::now();
    store
        .seal_plain_credentials(&By::system(), sealed, now)
        .await
        .map_err(Failure::system("seal the credentials of an older build"))?;
    info!(
        credentials = plain.len(),
        "sealed the credentials that an older build had kept in clear"
    );
    Ok(())
}

async fn sealed_one(
    secrets: &Secrets,
    name: &CredentialName,
    credential: &Credential,
) -> Result<(CredentialRecord, SecretRecord), Failure> {
    let Credential::SnmpV2c { community } = credential;
    let value = SecretBytes::new(community.clone());
    let secret = SecretName::of_credential(name);
    let now = clock::now();
    let sealed = secrets.seal_record(&secret, &value, "system", now).await;
    let record = CredentialRecord {
        name: name.clone(),
        kind: CredentialKind::SnmpV2c,
        secret,
        updated: now,
        revision: 1,
    };
    Ok((record, sealed.map_err(Failure::Secrets)?))
}

/// Makes a file with a new key; blocks.
///
/// # Errors
///
/// Never writes over a file that is there: secrets may be sealed with its key.
pub(crate) fn make_key(path: &Path) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let text = WrappingKey::generate().to_text();
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}
