//! Plugins that are installed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Digest, Timestamp};

/// What an installed plugin is called here: usually its package's id; another
/// name where one package is installed twice with different settings.
/// `[a-z0-9]`, then `[a-z0-9.-]`, at most 63.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PluginName(String);

/// Why a text is no [`PluginName`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAPlugin(pub String);

impl fmt::Display for NotAPlugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.0.chars().take(80).collect();
        write!(
            f,
            "{text:?} is no name of a plugin: 1 to 63 of a-z, 0-9, - and ., a letter or digit first and last"
        )
    }
}

impl std::error::Error for NotAPlugin {}

impl PluginName {
    /// The name that `text` is.
    ///
    /// # Errors
    ///
    /// Says what a name looks like.
    pub fn new(text: &str) -> Result<PluginName, NotAPlugin> {
        let at_an_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_name = (1..=63).contains(&text.len())
            && text.chars().all(|c| at_an_end(c) || c == '-' || c == '.')
            && text.starts_with(at_an_end)
            && text.ends_with(at_an_end);
        is_name
            .then(|| PluginName(text.to_owned()))
            .ok_or_else(|| NotAPlugin(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a plugin asks to be allowed, or is: by capability (`kv`, `inventory`,
/// `series`, `http`, `cli.exec`, `cli.configure`, `snmp_set`, `secrets`) the
/// patterns of what. One without patterns (`kv`, `inventory`) has an empty set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities(pub BTreeMap<String, BTreeSet<String>>);

impl Capabilities {
    /// Whether it is there at all.
    #[must_use]
    pub fn has(&self, capability: &str) -> bool {
        self.0.contains_key(capability)
    }

    /// Its patterns.
    pub fn patterns(&self, capability: &str) -> impl Iterator<Item = &str> {
        let patterns = self.0.get(capability);
        patterns.into_iter().flatten().map(String::as_str)
    }

    /// What of this is not in `granted`: the same capability with the same
    /// pattern, or with one that covers it (`*` at its end).
    #[must_use]
    pub fn beyond(&self, granted: &Capabilities) -> Capabilities {
        let mut missing = Capabilities::default();
        for (capability, patterns) in &self.0 {
            let Some(known) = granted.0.get(capability) else {
                missing.0.insert(capability.clone(), patterns.clone());
                continue;
            };
            let new = patterns
                .iter()
                .filter(|pattern| !known.iter().any(|known| covers(known, pattern)));
            let new: BTreeSet<String> = new.cloned().collect();
            if !new.is_empty() {
                missing.0.insert(capability.clone(), new);
            }
        }
        missing
    }

    /// Whether `value` meets one of the patterns of `capability`.
    #[must_use]
    pub fn allows(&self, capability: &str, value: &str) -> bool {
        self.patterns(capability)
            .any(|pattern| covers(pattern, value))
    }
}

/// Whether `pattern` is `value`, or ends with `*` and is what `value` begins
/// with.
fn covers(pattern: &str, value: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => value.starts_with(start),
        None => pattern == value,
    }
}

/// One version of a plugin's package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginVersion {
    /// The package's id, fixed by who makes it.
    pub id: String,
    /// Its version.
    pub version: String,
    /// parser, rule, remediation, notifier or poller.
    pub kind: String,
    /// One line for people.
    pub description: String,
    /// SHA-256 of the package: the name of the file that it is kept in.
    pub digest: Digest,
    /// Whose key it is signed with, as the settings call it; `bundled` for those
    /// that came with the daemon.
    pub signer: String,
    /// What it asks to be allowed.
    pub asks: Capabilities,
    /// When it was installed.
    pub installed: Timestamp,
}

/// A plugin that is installed. Its package lies in a file beside the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginRecord {
    /// What it is called here.
    pub name: PluginName,
    /// What runs, if it is enabled.
    pub current: PluginVersion,
    /// What ran before: to go back to.
    pub previous: Option<PluginVersion>,
    /// A newer version that asks for more than is granted: it waits.
    pub waiting: Option<PluginVersion>,
    /// What an administrator allows.
    pub granted: Capabilities,
    /// What it asked for when somebody said what it may do, whether or not that was
    /// all of it: a version that asks for no more than that may run.
    pub considered: Capabilities,
    /// Its settings, each value as JSON.
    pub settings: BTreeMap<String, String>,
    /// Whether it may run.
    pub enabled: bool,
    /// When it was last changed.
    pub updated: Timestamp,
    /// Counts changes, from 1.
    pub revision: u64,
}

/// A value that a plugin keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginValue {
    /// The value.
    pub bytes: Vec<u8>,
    /// When it is forgotten.
    pub expires: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capabilities(list: &[(&str, &[&str])]) -> Capabilities {
        let entries = list.iter().map(|(capability, patterns)| {
            let patterns = patterns.iter().map(|p| (*p).to_owned()).collect();
            ((*capability).to_owned(), patterns)
        });
        Capabilities(entries.collect())
    }

    #[test]
    fn an_update_that_asks_for_more_is_told_from_one_that_does_not() {
        let granted = capabilities(&[("kv", &[]), ("http", &["https://hooks.slack.com/*"])]);
        let same = capabilities(&[("http", &["https://hooks.slack.com/services/*"])]);
        assert_eq!(same.beyond(&granted), Capabilities::default());
        let more = capabilities(&[("http", &["https://*"]), ("inventory", &[])]);
        let missing = more.beyond(&granted);
        assert_eq!(
            missing,
            capabilities(&[("http", &["https://*"]), ("inventory", &[])])
        );
    }

    #[test]
    fn a_pattern_covers_what_begins_so() {
        let granted = capabilities(&[("series", &["if*", "icmp_up"])]);
        assert!(granted.allows("series", "ifHCInOctets"));
        assert!(granted.allows("series", "icmp_up"));
        assert!(!granted.allows("series", "icmp_up_x"));
        assert!(!granted.allows("http", "x"));
    }

    #[test]
    fn a_name_is_small_and_plain() {
        assert!(PluginName::new("acme-ups").is_ok());
        for bad in ["", "-a", "a-", "A", "a/b", "a b", &"x".repeat(64)] {
            assert!(PluginName::new(bad).is_err(), "{bad}");
        }
    }
}
