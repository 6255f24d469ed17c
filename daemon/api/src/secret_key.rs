//! The key that wraps the keys of all secrets: how it does, and changing it
//! while the daemon runs.

use axum::extract::State;
use axum::http::Uri;
use model::Permission;
use secrets::{KeyStatus, Rotation, SecretsStatus, VaultHealth};
use serde::Serialize;
use utoipa::ToSchema;

use crate::Api;
use crate::caller::Caller;
use crate::problem::{Kind, Problem};
use crate::query;
use crate::request::JsonAnswer;

/// How secrets are kept and how that goes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SecretKeyView {
    /// Where new values are put: embedded or vault.
    values: &'static str,
    /// What wraps their keys: key or transit.
    wrap: &'static str,
    /// The key that seals from now on; null: none was ever needed, or it is not
    /// known yet as the server is down.
    active_key: Option<String>,
    /// The keys in use; more than one while a rotation goes on.
    keys: Vec<KeyView>,
    /// How many secrets there are, the daemon's own among them.
    secrets: usize,
    /// How many values, of all versions, lie in OpenBao or Vault.
    in_vault: usize,
    /// The secret whose value was set the longest time ago.
    oldest: Option<OldestView>,
    /// OpenBao or Vault, where it is used.
    vault: Option<VaultView>,
}

/// One key of the key ring.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyView {
    /// Its name; nothing of the key itself can be told from it.
    #[schema(example = "9f86d081884c7d65")]
    id: String,
    /// Since when it is used.
    created: String,
    /// How many values, of all versions, are sealed under it.
    sealed: usize,
    /// Whether it seals from now on.
    active: bool,
}

/// The secret whose value was set the longest time ago.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OldestView {
    /// Its name.
    name: String,
    /// When its value was set.
    set: String,
}

/// How OpenBao or Vault does.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VaultView {
    /// Its address.
    address: String,
    /// Whether the last request was answered.
    up: bool,
    /// When a request was last answered.
    last_ok: Option<String>,
    /// What went wrong last; kept after it is well again.
    last_error: Option<String>,
    /// When that was.
    last_error_at: Option<String>,
    /// Values that are used beyond their time as the server is down.
    stale: usize,
    /// Values that cannot be had at all until the server is back.
    missing: usize,
}

/// What a rotation did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RotationView {
    /// The key that seals from now on.
    active: String,
    /// The keys that are not needed any more.
    dropped: Vec<String>,
    /// How many secrets were wrapped anew.
    rewrapped: usize,
}

impl From<&SecretsStatus> for SecretKeyView {
    fn from(status: &SecretsStatus) -> SecretKeyView {
        SecretKeyView {
            values: status.values,
            wrap: status.wrap,
            active_key: status.active_key.as_ref().map(ToString::to_string),
            keys: status.keys.iter().map(KeyView::from).collect(),
            secrets: status.secrets,
            in_vault: status.in_vault,
            oldest: status.oldest.as_ref().map(|(name, set)| OldestView {
                name: name.to_string(),
                set: set.to_string(),
            }),
            vault: status.vault.as_ref().map(VaultView::from),
        }
    }
}

impl From<&KeyStatus> for KeyView {
    fn from(key: &KeyStatus) -> KeyView {
        KeyView {
            id: key.id.to_string(),
            created: key.created.to_string(),
            sealed: key.sealed,
            active: key.active,
        }
    }
}

impl From<&VaultHealth> for VaultView {
    fn from(vault: &VaultHealth) -> VaultView {
        let error = vault.last_error.as_ref();
        VaultView {
            address: vault.address.clone(),
            up: vault.up,
            last_ok: vault.last_ok.as_ref().map(ToString::to_string),
            last_error: error.map(|(_, why)| why.clone()),
            last_error_at: error.map(|(at, _)| at.to_string()),
            stale: vault.stale,
            missing: vault.missing,
        }
    }
}

impl From<&Rotation> for RotationView {
    fn from(rotation: &Rotation) -> RotationView {
        RotationView {
            active: rotation.active.to_string(),
            dropped: rotation.dropped.iter().map(ToString::to_string).collect(),
            rewrapped: rotation.rewrapped,
        }
    }
}

/// Shows how secrets are kept and how that goes.
#[utoipa::path(
    get,
    path = "/secrets-key",
    tag = "secrets",
    responses(
        (status = 200, description = "The keys and the backends; never a key itself", body = SecretKeyView),
        (status = 403, description = "You may read secrets of a part of the appliance only"),
    )
)]
pub(crate) async fn get_secrets_key(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<SecretKeyView>, Problem> {
    caller.need_everywhere(Permission::SecretsRead)?;
    query::none(&uri)?;
    Ok(JsonAnswer(SecretKeyView::from(&api.secrets().status())))
}

/// Changes the key that wraps the keys of all secrets, while running.
///
/// The new key is read on the machine itself (`[secrets] new_key_file`) or made
/// by transit; it is never sent. Every secret is wrapped anew before this
/// answers.
#[utoipa::path(
    post,
    path = "/secrets-key/rotate",
    tag = "secrets",
    responses(
        (status = 200, description = "What was done", body = RotationView),
        (status = 403, description = "You may not do this for the whole appliance"),
        (status = 409, description = "There is no new key, it is the one in use, or a rotation is going on"),
        (status = 503, description = "The new key cannot be read, or the server cannot be asked"),
    )
)]
pub(crate) async fn rotate_secrets_key(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<RotationView>, Problem> {
    caller.need_everywhere(Permission::SecretsRotateKey)?;
    query::none(&uri)?;
    let daemon = api.clone();
    let read = tokio::task::spawn_blocking(move || daemon.daemon().new_wrapping_key());
    let read = read.await.map_err(|_ended| fault("reading the new key"))?;
    let new = read.map_err(|why| Problem::new(Kind::Unavailable, why))?;
    // it goes on even if whoever asked hangs up
    let (secrets, by, now) = (api.secrets().clone(), caller.by(), api.now());
    let rotated = tokio::spawn(async move { secrets.rotate_key(&by, new, now).await });
    match rotated.await {
        Ok(rotation) => {
            let rotation = rotation?;
            caller.did("wrapping key changed", &rotation.active.0);
            Ok(JsonAnswer(RotationView::from(&rotation)))
        }
        Err(_ended) => Err(fault("changing the key")),
    }
}

fn fault(what: &str) -> Problem {
    Problem::new(Kind::Internal, format!("{what} ended by a fault"))
}
