//! Plugin packages: manifest, settings, capabilities in plain words, golden
//! cases, one signed file.
//!
//! [`Manifest::parse`] reads `plugin.toml` and says everything that is wrong
//! with it at once, each with its place. [`Package`] is one file with all of a
//! plugin in it; [`PrivateKey`] signs it and [`PublicKey`] tells whose it is.
//! [`Golden`] is a recorded case. [`in_plain_words`] says what a plugin may do
//! as an administrator reads it.
//!
//! Nothing here runs a plugin, and nothing asks the clock. Files are read and
//! written where a function says that it blocks.

mod capability;
mod golden;
mod keys;
mod limits;
mod manifest;
mod matches;
mod package;
mod problem;
mod reader;
mod settings;
#[cfg(test)]
mod tests;
mod version;

pub use capability::{beyond, in_plain_words};
pub use golden::{CaseEnd, Difference, Golden, GoldenCall, differences, is_same};
pub use keys::{PrivateKey, PublicKey};
pub use manifest::{Collect, CollectWhat, Manifest, built_in_table};
pub use matches::{DeviceAbout, Matches};
pub use package::{PACKAGE_BYTES, Package, UNPACKED_BYTES};
pub use problem::Problem;
pub use settings::{SettingKind, SettingSchema};
pub use version::{API, compare_versions};
