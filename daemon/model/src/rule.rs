//! What counts as a fault.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Check, Device, DeviceKind, TenantName, Timestamp};

/// A rule's name: unique, and what people call it; `tenant/name` in any tenant
/// but the default one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleName(pub String);

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Look at it today.
    Warning,
    /// Get up.
    Critical,
}

impl Severity {
    /// The word that people write.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }

    /// The severity that `word` names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Severity> {
        [Severity::Info, Severity::Warning, Severity::Critical]
            .into_iter()
            .find(|severity| severity.word() == word)
    }
}

/// Which devices a rule judges: those that meet every part that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// One of these names.
    pub devices: BTreeSet<String>,
    /// At one of these sites.
    pub sites: BTreeSet<String>,
    /// Of one of these kinds.
    pub kinds: BTreeSet<DeviceKind>,
    /// With at least one of these tags.
    pub tags: BTreeSet<String>,
}

impl Selector {
    /// Whether `device` is judged.
    #[must_use]
    pub fn selects(&self, device: &Device) -> bool {
        let one_of = |set: &BTreeSet<String>, value: Option<&String>| {
            set.is_empty() || value.is_some_and(|v| set.contains(v))
        };
        one_of(&self.devices, Some(&device.name))
            && one_of(&self.sites, device.site.as_ref())
            && (self.kinds.is_empty() || self.kinds.contains(&device.kind))
            && (self.tags.is_empty() || !self.tags.is_disjoint(&device.tags))
    }
}

/// How long a device has to be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DownAfter {
    /// This many rounds in a row without an answer; at least 1.
    Rounds(u32),
    /// Rounds without an answer over at least this long.
    Span(Duration),
}

/// How a value is compared with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
}

impl Comparison {
    /// Every comparison with its sign.
    pub const ALL: [(Comparison, &'static str); 6] = [
        (Comparison::Above, ">"),
        (Comparison::AtLeast, ">="),
        (Comparison::Below, "<"),
        (Comparison::AtMost, "<="),
        (Comparison::Equal, "=="),
        (Comparison::NotEqual, "!="),
    ];

    /// Its sign.
    #[must_use]
    pub fn sign(self) -> &'static str {
        Comparison::ALL
            .iter()
            .find(|(comparison, _)| *comparison == self)
            .map_or("?", |(_, sign)| sign)
    }

    /// The comparison that `sign` stands for.
    #[must_use]
    pub fn from_sign(sign: &str) -> Option<Comparison> {
        Comparison::ALL
            .iter()
            .find(|(_, known)| *known == sign)
            .map(|(comparison, _)| *comparison)
    }

    /// Whether `value` compares so with `limit`.
    #[must_use]
    #[expect(
        clippy::float_cmp,
        reason = "states are whole numbers; who writes == on a gauge asked for it"
    )]
    pub fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Comparison::Above => value > limit,
            Comparison::AtLeast => value >= limit,
            Comparison::Below => value < limit,
            Comparison::AtMost => value <= limit,
            Comparison::Equal => value == limit,
            Comparison::NotEqual => value != limit,
        }
    }
}

/// What counts as a fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Condition {
    /// The device does not answer.
    Availability {
        /// Asked how.
        check: Check,
        /// For how long.
        after: DownAfter,
    },
    /// A value is beyond a limit. A counter is judged by its increase per
    /// second.
    Threshold {
        /// The metric's name.
        metric: String,
        /// Only series that carry all of these labels.
        labels: BTreeMap<String, String>,
        /// How the value is compared with the limit.
        comparison: Comparison,
        /// The limit, in the metric's base unit.
        limit: f64,
        /// For how long without a break before anyone is told.
        hold: Duration,
        /// Hysteresis: a firing alert resolves only once the value no longer
        /// compares so with this limit. `None`: with `limit`.
        clear: Option<f64>,
    },
    /// A plugin says so.
    Plugin {
        /// Which.
        plugin: String,
    },
}

/// Where a rule comes from; one from a file is changed in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleSource {
    /// A file under the rules directory: its path.
    File(String),
    /// The API.
    Api,
    /// An enabled plugin: it goes with the plugin.
    Plugin,
}

/// What counts as a fault, on which devices, and how bad it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub name: RuleName,
    /// How bad a fault is.
    pub severity: Severity,
    /// Judged at all.
    pub enabled: bool,
    /// Which devices.
    pub selector: Selector,
    /// What counts as a fault.
    pub condition: Condition,
    /// What to tell people beside the facts; a link to a runbook, say.
    pub note: Option<String>,
    /// Where it comes from.
    pub source: RuleSource,
    /// When it was last changed.
    pub updated: Timestamp,
    /// Counts changes, from 1.
    pub revision: u64,
}

impl Rule {
    /// Whose it is; `None`: the appliance's, for the devices of every tenant. Such
    /// are those that stand in files without a tenant in their name.
    #[must_use]
    pub fn tenant(&self) -> Option<TenantName> {
        let tenant = TenantName::of(&self.name.0);
        let of_all = matches!(self.source, RuleSource::File(_)) && tenant.is_default();
        (!of_all).then_some(tenant)
    }

    /// Whether it judges `device`.
    #[must_use]
    pub fn judges(&self, device: &Device) -> bool {
        self.tenant().is_none_or(|tenant| tenant == device.tenant) && self.selector.selects(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sign_reads_back() {
        for (comparison, sign) in Comparison::ALL {
            assert_eq!(Comparison::from_sign(sign), Some(comparison));
            assert_eq!(comparison.sign(), sign);
        }
        assert_eq!(Comparison::from_sign("=>"), None);
    }
}
