//! A value that is wiped from memory when it is dropped, and that no log shows.

use std::fmt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::KeyFileError;
use crate::file::read_secret_file;

/// A secret in plain. `Debug` shows nothing of it, not even its length; its
/// memory is wiped when it is dropped.
#[derive(Clone, Default)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes `value` over.
    #[must_use]
    pub fn new(value: Vec<u8>) -> SecretBytes {
        SecretBytes(Zeroizing::new(value))
    }

    pub(crate) fn from_zeroizing(value: Zeroizing<Vec<u8>>) -> SecretBytes {
        SecretBytes(value)
    }

    /// The one line in a file; blocks. See [`crate::WrappingKey::from_file`]
    /// for who may be able to read it.
    ///
    /// # Errors
    ///
    /// See [`KeyFileError`].
    pub fn from_file(
        path: &Path,
        credentials_directory: Option<&Path>,
    ) -> Result<SecretBytes, KeyFileError> {
        read_secret_file(path, credentials_directory)
    }

    /// The value itself.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The value itself, where it is UTF-8.
    #[must_use]
    pub fn expose_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(value: Vec<u8>) -> SecretBytes {
        SecretBytes::new(value)
    }
}

impl From<String> for SecretBytes {
    fn from(value: String) -> SecretBytes {
        SecretBytes::new(value.into_bytes())
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(…)")
    }
}
