//! What a plugin says when there is nothing to say; what each means to the
//! daemon stands in the author's guide.

use crate::Error;

impl Error {
    /// This input is not for this plugin. Not a failure.
    pub fn not_mine(why: impl Into<String>) -> Error {
        Error::NotMine(why.into())
    }

    /// The input is damaged: the device's trouble, not the plugin's.
    pub fn malformed(why: impl Into<String>) -> Error {
        Error::Malformed(why.into())
    }

    /// The settings are wrong: the plugin rests until they change.
    pub fn config(why: impl Into<String>) -> Error {
        Error::Config(why.into())
    }

    /// Something of the host's was denied or failed; worth another try.
    pub fn unavailable(why: impl Into<String>) -> Error {
        Error::Unavailable(why.into())
    }

    /// Anything else.
    pub fn internal(why: impl Into<String>) -> Error {
        Error::Internal(why.into())
    }
}
