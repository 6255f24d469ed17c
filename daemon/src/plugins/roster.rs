//! Which plugins run, and for whom.

use std::collections::BTreeMap;
use std::sync::Arc;

use contract::{Kind, MetricDescriptor, Reply, RuleDescriptor};
use model::{Capabilities, DeviceId, RuleName, SecretName};
use package::Manifest;
use plugin::Generation;

use super::words::About;

/// A plugin that runs.
#[derive(Debug)]
pub(super) struct Active {
    /// What the host knows it as.
    pub(super) host_name: String,
    /// Its manifest.
    pub(super) manifest: Manifest,
    /// What runs.
    pub(super) generation: Generation,
    /// What it said that it does.
    pub(super) described: Reply,
    /// What it may do.
    pub(super) granted: Capabilities,
    /// Its settings that are names of secrets, by key.
    pub(super) secrets: BTreeMap<String, SecretName>,
    /// What stands in the place of each secret in what it sees: a device that
    /// sends it back cannot know it.
    pub(super) nonce: String,
    /// The names of the metrics that it described, shared by all rows.
    pub(super) metrics: Vec<Arc<str>>,
    /// It is being tried out on this device alone.
    pub(super) only: Option<DeviceId>,
}

impl Active {
    /// What a parser or poller measures.
    pub(super) fn measures(&self) -> Option<&MetricDescriptor> {
        match &self.described {
            Reply::Metrics(descriptor) => Some(descriptor),
            _ => None,
        }
    }

    /// What a rule judges.
    pub(super) fn judges(&self) -> Option<&RuleDescriptor> {
        match &self.described {
            Reply::Rule(descriptor) => Some(descriptor),
            _ => None,
        }
    }

    /// Whether it is for this device.
    pub(super) fn is_for(&self, device: DeviceId, about: &About) -> bool {
        match self.only {
            Some(only) => only == device,
            None => self.manifest.matches.fits(&about.seen()),
        }
    }

    /// The rule that its alerts are of.
    pub(super) fn rule(&self) -> RuleName {
        rule_name(&self.host_name)
    }
}

/// The rule that the alerts of the plugin called `name` are of.
pub(super) fn rule_name(name: &str) -> RuleName {
    RuleName(format!("plugin:{name}"))
}

/// All that run, in the order in which they read: the manifest's, then by
/// name.
#[derive(Debug, Default)]
pub(super) struct Roster {
    pub(super) all: Vec<Arc<Active>>,
}

impl Roster {
    /// The roster with `active` in it, in the place of one that has its name.
    pub(super) fn with(&self, active: Active) -> Roster {
        let mut all = self.without(&active.host_name).all;
        all.push(Arc::new(active));
        all.sort_by(|a, b| {
            let key = |active: &Active| (active.manifest.order, active.host_name.clone());
            key(a).cmp(&key(b))
        });
        Roster { all }
    }

    pub(super) fn without(&self, name: &str) -> Roster {
        let others = self.all.iter().filter(|active| active.host_name != name);
        Roster {
            all: others.cloned().collect(),
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<&Arc<Active>> {
        self.all.iter().find(|active| active.host_name == name)
    }

    pub(super) fn of(&self, kind: Kind) -> impl Iterator<Item = &Arc<Active>> {
        self.all
            .iter()
            .filter(move |active| active.manifest.kind == kind)
    }

    /// Those of `kind` that are for this device. One that is being tried out on
    /// it stands in for the installed one of its package.
    pub(super) fn fitting(&self, kind: Kind, device: DeviceId, about: &About) -> Vec<Arc<Active>> {
        let fitting: Vec<&Arc<Active>> = self
            .of(kind)
            .filter(|active| active.is_for(device, about))
            .collect();
        let is_shadowed = |active: &Active| {
            active.only.is_none()
                && fitting
                    .iter()
                    .any(|other| other.only.is_some() && other.manifest.id == active.manifest.id)
        };
        fitting
            .iter()
            .filter(|active| !is_shadowed(active))
            .map(|active| Arc::clone(active))
            .collect()
    }
}
