//! What a plugin may ask of the host. Natively the double of
//! [`testing`](crate::testing) answers.

use crate::Timestamp;

#[cfg(target_arch = "wasm32")]
use crate::contract as real;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::double as real;

/// The instant of this call, in nanoseconds since 1970: the same throughout, so
/// that the call can be replayed.
#[must_use]
pub fn now() -> Timestamp {
    real::clock::now()
}

/// The plugin's settings, as its `plugin.toml` describes them.
pub mod config {
    use super::real;
    use crate::{Error, Result};

    /// A setting as text; numbers as JSON writes them.
    #[must_use]
    pub fn text(key: &str) -> Option<String> {
        real::config::get(key)
    }

    /// A setting, read as whatever it is to be; `None`: it is not set.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if it does not read so.
    pub fn get<T: std::str::FromStr>(key: &str) -> Result<Option<T>> {
        let Some(text) = text(key) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Error::Config(format!(
                "the setting {key} cannot be {text:?}"
            ))),
        }
    }

    /// A setting that must be there.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if it is not set or does not read so.
    pub fn need<T: std::str::FromStr>(key: &str) -> Result<T> {
        get(key)?.ok_or_else(|| Error::Config(format!("the setting {key} is not set")))
    }

    /// All settings.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if the host's JSON is none.
    pub fn all() -> Result<crate::json::Json> {
        crate::json::Json::parse(&real::config::all())
            .map_err(|why| Error::Internal(format!("settings: {why}")))
    }
}

/// What the plugin keeps from call to call (capability `kv`). Kept only if the
/// call succeeds.
pub mod kv {
    use super::real;
    use crate::{Error, Result};

    /// The value under `key`.
    #[must_use]
    pub fn get(key: &str) -> Option<Vec<u8>> {
        real::kv::get(key)
    }

    /// The value under `key`, if it is text.
    #[must_use]
    pub fn text(key: &str) -> Option<String> {
        String::from_utf8(get(key)?).ok()
    }

    /// Keeps `value` under `key`.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if it is too large, or all of them are too many.
    pub fn set(key: &str, value: impl AsRef<[u8]>) -> Result<()> {
        put(key, value.as_ref(), None)
    }

    /// Keeps `value` under `key` for so many seconds.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if it is too large, or all of them are too many.
    pub fn set_for(key: &str, value: impl AsRef<[u8]>, ttl_s: u32) -> Result<()> {
        put(key, value.as_ref(), Some(ttl_s))
    }

    fn put(key: &str, value: &[u8], ttl_s: Option<u32>) -> Result<()> {
        real::kv::set(key, value, ttl_s).map_err(|error| {
            use crate::contract::kv::KvError::{Quota, TooLarge};
            let (Quota(why) | TooLarge(why)) = error;
            Error::Unavailable(why)
        })
    }

    /// Forgets `key`.
    pub fn delete(key: &str) {
        real::kv::delete(key);
    }

    /// Keys that begin with `prefix`, sorted, at most `limit`.
    #[must_use]
    pub fn keys(prefix: &str, limit: u32) -> Vec<String> {
        real::kv::keys(prefix, limit)
    }
}

/// What the daemon knows of its devices (capability `inventory`).
pub mod inventory {
    use super::real;
    pub use crate::contract::inventory::Link;
    use crate::{Device, Scalar};

    /// The device with this number.
    #[must_use]
    pub fn device(id: &str) -> Option<Device> {
        real::inventory::get_device(id)
    }

    /// A fact that is known of a device.
    #[must_use]
    pub fn fact(device: &str, key: &str) -> Option<Scalar> {
        real::inventory::get_fact(device, key)
    }

    /// What the device is connected to.
    #[must_use]
    pub fn links(device: &str) -> Vec<Link> {
        real::inventory::get_links(device)
    }
}

/// What was measured (capability `series`).
pub mod series {
    use super::real;
    use crate::{Error, Result, Series, Timestamp};

    /// What `selector` selects between two instants, a point every `step_s`
    /// seconds.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if it is not granted or takes too long,
    /// [`Error::Internal`] if it is no selector.
    pub fn query(
        selector: &str,
        start: Timestamp,
        end: Timestamp,
        step_s: u32,
    ) -> Result<Vec<Series>> {
        use crate::contract::series_query::QueryError;
        real::series_query::query(selector, start, end, step_s).map_err(|error| match error {
            QueryError::Denied(why) => Error::Unavailable(format!("not granted: {why}")),
            QueryError::Syntax(why) => Error::Internal(format!("{selector}: {why}")),
            QueryError::TooLarge(why) => Error::Unavailable(format!("{selector}: {why}")),
            QueryError::Timeout => Error::Unavailable(format!("{selector} took too long")),
        })
    }
}
