//! Secrets as they are kept: sealed, and never shown.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{CredentialName, TenantName, Timestamp};

/// The name of a secret, as in `secret://name`; `tenant/name` in any tenant but
/// the default one. Names that begin with a dot are the daemon's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SecretName(pub String);

impl SecretName {
    /// What a reference to a secret begins with.
    pub const SCHEME: &'static str = "secret://";

    /// The secret that `reference` names, if it is one.
    #[must_use]
    pub fn from_reference(reference: &str) -> Option<SecretName> {
        reference
            .strip_prefix(SecretName::SCHEME)
            .map(|name| SecretName(name.to_owned()))
    }

    /// The secret of a credential whose value came with it.
    #[must_use]
    pub fn of_credential(credential: &CredentialName) -> SecretName {
        let tenant = TenantName::of(&credential.0);
        let name = match credential.0.split_once('/') {
            Some((_, name)) => name,
            None => credential.0.as_str(),
        };
        SecretName(tenant.qualify(&format!("credential.{name}")))
    }

    /// Whether it is the daemon's own, which nobody sees or sets by hand.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.0.starts_with('.')
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a key that wraps the keys of secrets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyId(pub String);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value that cannot be read without a key. `Debug` shows its length alone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedValue {
    /// The key that wraps the value's own key.
    pub key: KeyId,
    /// The value's own key, wrapped.
    pub wrapped_key: Vec<u8>,
    /// What the value is sealed with, once.
    pub nonce: [u8; 24],
    /// The value, sealed.
    pub text: Vec<u8>,
}

impl fmt::Debug for SealedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SealedValue({} bytes under {})",
            self.text.len(),
            self.key
        )
    }
}

/// One value that a secret had or has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretVersion {
    /// Counts from 1.
    pub version: u32,
    /// When it was set.
    pub created: Timestamp,
    /// Who set it.
    pub created_by: String,
    /// `None`: the value lies in the other backend (OpenBao, Vault).
    pub sealed: Option<SealedValue>,
}

/// A secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRecord {
    /// What it is referred to by.
    pub name: SecretName,
    /// What it is for.
    pub note: Option<String>,
    /// The values that are kept, oldest first; the last one is in use.
    pub versions: Vec<SecretVersion>,
    /// When it was first set.
    pub created: Timestamp,
    /// When it was last set.
    pub updated: Timestamp,
    /// Counts changes, from 1.
    pub revision: u64,
}

/// A key that wraps the keys of secrets, as far as it may be written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// Its name.
    pub id: KeyId,
    /// Since when it is used.
    pub created: Timestamp,
    /// A known text, sealed with it: opens only with the same key.
    pub check: SealedValue,
}

/// The keys in use: one, or two while a rotation goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRing {
    /// The last one wraps whatever is sealed from now on.
    pub keys: Vec<KeyInfo>,
    /// Counts changes; 0: nothing was ever sealed.
    pub revision: u64,
}

/// What a device is asked with, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialRecord {
    /// What devices refer to it by; `tenant/name` in any tenant but the
    /// default one.
    pub name: CredentialName,
    /// What the secret is.
    pub kind: CredentialKind,
    /// The secret.
    pub secret: SecretName,
    /// When it was last set.
    pub updated: Timestamp,
    /// Counts changes, from 1.
    pub revision: u64,
}

/// What the secret of a credential is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CredentialKind {
    /// An SNMPv2c community (RFC 1901).
    SnmpV2c,
}

impl CredentialKind {
    /// The word in the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            CredentialKind::SnmpV2c => "snmp-v2c",
        }
    }
}
