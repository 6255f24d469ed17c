//! What people do with plugins: install, grant, set, enable, roll back, remove.
//!
//! Every change is tried first and written then: a version that cannot be
//! loaded, or that fails its own golden cases, never takes the place of one
//! that runs. What runs and what is written change together, one change at a
//! time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::{
    BundledPlugin, Later, PluginDetails, PluginFigures, PluginHostStatus, PluginInstalled,
    PluginRefused, PluginRun, PluginSetting, PluginSource, PluginState, PluginStatus,
};
use contract::{Answer, Ask, LogLine};
use model::{
    Alert, By, Capabilities, DeviceId, PluginName, PluginRecord, PluginVersion, Timestamp,
};
use package::{Package, SettingKind, SettingSchema};
use serde_json::Value;

use super::packages::{Examined, aside, one_problem, problems};
use super::roster::Active;
use super::{Plugins, unconsidered};
use crate::clock;
use crate::failure::chain;

/// What all golden cases of a package may take when it is installed.
const CASES: Duration = Duration::from_secs(60);

impl api::Plugins for Plugins {
    fn list(&self) -> Vec<PluginStatus> {
        let installed = self.inner.store.plugins();
        let installed = installed.values().map(|record| self.status_of(record));
        let mut all: Vec<PluginStatus> = installed.collect();
        all.extend(self.trials());
        all
    }

    fn host(&self) -> PluginHostStatus {
        let Some(host) = &self.inner.host else {
            return PluginHostStatus::default();
        };
        let figures = host.host_figures();
        PluginHostStatus {
            enabled: true,
            pid: figures.pid,
            restarts: figures.restarts,
            in_flight: figures.in_flight,
            resident: figures.resident,
            not_in_force: figures.not_in_force,
        }
    }

    fn log(&self, name: &PluginName) -> Option<Vec<(Timestamp, LogLine)>> {
        let is_there = self.inner.store.plugins().contains_key(name)
            || self.roster().find(name.as_str()).is_some();
        let host = self.inner.host.as_ref().filter(|_| is_there);
        let lines = host.map(|host| host.log(name.as_str())).unwrap_or_default();
        is_there.then(|| {
            let lines = lines.into_iter();
            lines.map(|(at, line)| (at.into(), line)).collect()
        })
    }

    fn details(&self, name: &PluginName) -> Later<Result<PluginDetails, PluginRefused>> {
        let (plugins, name) = (self.clone(), name.clone());
        Box::pin(async move { plugins.describe(&name).await })
    }

    fn bundled(&self) -> Later<Result<Vec<BundledPlugin>, PluginRefused>> {
        let plugins = self.clone();
        Box::pin(async move {
            let own = plugins.clone();
            let read = tokio::task::spawn_blocking(move || own.bundled_packages()).await;
            let installed = plugins.inner.store.plugins();
            let packages = read.unwrap_or_default().into_iter();
            let bundled = packages.map(|package| bundled(&package, &installed));
            Ok(bundled.collect())
        })
    }

    fn install(
        &self,
        by: By,
        from: PluginSource,
        name: Option<PluginName>,
    ) -> Later<Result<PluginInstalled, PluginRefused>> {
        let plugins = self.clone();
        Box::pin(async move { plugins.install_one(by, from, name).await })
    }

    fn remove(
        &self,
        by: By,
        name: &PluginName,
        expected: Option<u64>,
    ) -> Later<Result<(), PluginRefused>> {
        let (plugins, name) = (self.clone(), name.clone());
        Box::pin(async move {
            let _alone = plugins.inner.changing.lock().await;
            plugins.find(&name)?;
            let store = &plugins.inner.store;
            store
                .remove_plugin(&by, &name, expected, clock::now())
                .await?;
            plugins.put_out(name.as_str());
            // what waits for it is given up now, not at its next try
            plugins.notifiers_changed();
            Ok(())
        })
    }

    fn grant(
        &self,
        by: By,
        name: &PluginName,
        capabilities: Option<Capabilities>,
        expected: Option<u64>,
    ) -> Later<Result<PluginStatus, PluginRefused>> {
        let (plugins, name) = (self.clone(), name.clone());
        Box::pin(async move { plugins.grant_one(by, &name, capabilities, expected).await })
    }

    fn enable(
        &self,
        by: By,
        name: &PluginName,
        enabled: bool,
    ) -> Later<Result<PluginStatus, PluginRefused>> {
        let (plugins, name) = (self.clone(), name.clone());
        Box::pin(async move {
            let action = if enabled {
                "plugin.enable"
            } else {
                "plugin.disable"
            };
            let change = |record: &mut PluginRecord| record.enabled = enabled;
            plugins.change_one(by, &name, None, action, change).await
        })
    }

    fn roll_back(&self, by: By, name: &PluginName) -> Later<Result<PluginStatus, PluginRefused>> {
        let (plugins, name) = (self.clone(), name.clone());
        Box::pin(async move {
            let _alone = plugins.inner.changing.lock().await;
            let previous = plugins.find(&name)?.previous.clone();
            let previous = previous.ok_or_else(|| {
                PluginRefused::Conflict(format!("there is no version of {name} before this one"))
            })?;
            let change = |record: &mut PluginRecord| {
                let current = std::mem::replace(&mut record.current, previous);
                record.previous = Some(current);
            };
            plugins
                .change_alone(by, &name, None, "plugin.rollback", change)
                .await
        })
    }

    fn set(
        &self,
        by: By,
        name: &PluginName,
        settings: BTreeMap<String, Option<Value>>,
        expected: Option<u64>,
    ) -> Later<Result<PluginStatus, PluginRefused>> {
        let (plugins, name) = (self.clone(), name.clone());
        Box::pin(async move {
            let _alone = plugins.inner.changing.lock().await;
            let record = plugins.find(&name)?;
            let package = plugins.package_of(&record.current).await?;
            let mut given = record.settings.clone();
            let of_another_version = given
                .keys()
                .filter(|key| !package.manifest.settings.contains_key(*key))
                .filter(|key| !matches!(settings.get(*key), Some(Some(_))))
                .cloned()
                .collect::<Vec<_>>();
            for (key, value) in settings {
                match value {
                    Some(value) => given.insert(key, value.to_string()),
                    None => given.remove(&key),
                };
            }
            // what is absent may still come; what is wrong is refused now
            let mut whole = stand_ins(&package);
            whole.extend(given.clone());
            whole.retain(|key, _| !of_another_version.contains(key));
            package.manifest.settings(&whole).map_err(problems)?;
            plugins.secrets_are_named(&package.manifest, &given)?;
            let change = |record: &mut PluginRecord| record.settings = given;
            plugins
                .change_alone(by, &name, expected, "plugin.set", change)
                .await
        })
    }

    fn dev(
        &self,
        _by: By,
        name: &PluginName,
        device: DeviceId,
        package: bytes::Bytes,
    ) -> Later<Result<PluginRun, PluginRefused>> {
        let (plugins, name) = (self.clone(), name.clone());
        Box::pin(async move { plugins.try_package(&name, device, package).await })
    }

    fn renew_dev(&self, name: &PluginName) -> Later<Result<PluginRun, PluginRefused>> {
        let (plugins, name) = (self.clone(), name.clone());
        Box::pin(async move { plugins.renew_trial(&name).await })
    }

    fn end_dev(&self, name: &PluginName) -> Later<Result<(), PluginRefused>> {
        let (plugins, name) = (self.clone(), name.clone());
        Box::pin(async move { plugins.end_trial(&name) })
    }

    fn ask(
        &self,
        device: DeviceId,
        questions: Vec<Ask>,
    ) -> Later<Result<Vec<(Ask, Answer)>, PluginRefused>> {
        let plugins = self.clone();
        Box::pin(async move { plugins.ask_device(device, questions).await })
    }

    fn try_on(
        &self,
        name: &PluginName,
        device: DeviceId,
    ) -> Later<Result<PluginRun, PluginRefused>> {
        let (plugins, name) = (self.clone(), name.clone());
        Box::pin(async move {
            let active = plugins.running(&name)?;
            plugins.run_on(&active, device).await
        })
    }

    fn plan(&self, name: &PluginName, alert: Alert) -> Later<Result<PluginRun, PluginRefused>> {
        let (plugins, name) = (self.clone(), name.clone());
        Box::pin(async move { plugins.plan_for(&name, alert).await })
    }
}

impl Plugins {
    pub(super) fn find(&self, name: &PluginName) -> Result<Arc<PluginRecord>, PluginRefused> {
        let installed = self.inner.store.plugins();
        let found = installed.get(name).cloned();
        found.ok_or_else(|| PluginRefused::NoSuch(name.clone()))
    }

    /// The plugin called `name`, which has to run.
    pub(super) fn running(&self, name: &PluginName) -> Result<Arc<Active>, PluginRefused> {
        if let Some(active) = self.roster().find(name.as_str()) {
            return Ok(Arc::clone(active));
        }
        let status = self.status_of(&self.find(name)?);
        let why = status.why.unwrap_or_else(|| status.state.word().to_owned());
        Err(PluginRefused::Conflict(format!(
            "{name} does not run: {why}"
        )))
    }

    pub(super) async fn package_of(
        &self,
        version: &PluginVersion,
    ) -> Result<Package, PluginRefused> {
        let (store, digest) = (self.inner.store.clone(), version.digest);
        let read = aside(move || {
            let bytes = store.package(digest);
            let bytes = bytes.map_err(|error| {
                package::Problem::new(format!("its package cannot be read: {error}"))
            })?;
            Package::read(&bytes)
        });
        read.await?
            .map_err(|problem| PluginRefused::Unavailable(problem.message))
    }

    async fn install_one(
        &self,
        by: By,
        from: PluginSource,
        name: Option<PluginName>,
    ) -> Result<PluginInstalled, PluginRefused> {
        self.host()?;
        let own = self.clone();
        let examined = aside(move || match from {
            PluginSource::Uploaded(bytes) => own.examine(bytes),
            PluginSource::Bundled(id) => own.bundled_package(&id),
        });
        let examined = examined.await??;
        let id = PluginName::new(&examined.package.manifest.id);
        let name = match name {
            Some(name) => name,
            None => id.map_err(|why| one_problem(package::Problem::new(why.to_string())))?,
        };
        if matches!(name.as_str(), "dev" | "bundled") || name.as_str().starts_with("dev.") {
            let why = "bundled, dev and what begins with dev. are no names for an installed plugin";
            return Err(PluginRefused::Conflict(why.to_owned()));
        }
        let _alone = self.inner.changing.lock().await;
        let before = self.inner.store.plugins().get(&name).cloned();
        if let Some(before) = &before {
            is_the_same(before, &examined)?;
        }
        self.try_cases(&name, &examined).await?;
        let now = clock::now();
        let version = examined.version(now);
        let bytes = examined.bytes.clone();
        let (store, digest) = (self.inner.store.clone(), version.digest);
        let written = aside(move || store.put_package(&bytes, digest)).await?;
        written.map_err(|error| PluginRefused::Unavailable(chain(&error)))?;
        let is_new = before.is_none();
        let record = match before {
            None => PluginRecord {
                name: name.clone(),
                current: version.clone(),
                previous: None,
                waiting: None,
                granted: Capabilities::default(),
                considered: Capabilities::default(),
                settings: BTreeMap::new(),
                enabled: false,
                updated: now,
                revision: 0,
            },
            Some(before) => updated(&before, version.clone()),
        };
        self.put(&by, "plugin.install", record, None).await?;
        let record = self.find(&name)?;
        Ok(PluginInstalled {
            status: self.status_of(&record),
            version,
            is_new,
        })
    }

    /// Loads what is to be installed with what it asks for and runs its golden
    /// cases; nothing of it goes on running.
    async fn try_cases(&self, name: &PluginName, examined: &Examined) -> Result<(), PluginRefused> {
        let package = examined.package.clone();
        let cases = package.golden.clone();
        let asks = package.manifest.asks.clone();
        // its cases say what they are set to; here it is only loaded
        let stand_in = stand_ins(&package);
        let active = self.load(name.as_str(), package, &asks, &stand_in).await?;
        // nobody else changes anything meanwhile
        let held = tokio::time::timeout(CASES, self.check_cases(&active, &cases)).await;
        self.host()?.forget(active.generation);
        held.unwrap_or_else(|_too_long| {
            Err(PluginRefused::Conflict(format!(
                "its golden cases were not done after {} s",
                CASES.as_secs()
            )))
        })
    }

    async fn grant_one(
        &self,
        by: By,
        name: &PluginName,
        capabilities: Option<Capabilities>,
        expected: Option<u64>,
    ) -> Result<PluginStatus, PluginRefused> {
        let change = |record: &mut PluginRecord| {
            let wanted = record.waiting.as_ref().unwrap_or(&record.current);
            let asks = wanted.asks.clone();
            match capabilities {
                Some(capabilities) => record.granted = capabilities,
                // what a version before was granted stays, for who goes back to it
                None => add(&mut record.granted, &asks),
            }
            add(&mut record.considered, &asks);
            let nothing = Capabilities::default();
            let fits = record.waiting.as_ref().is_some_and(|waiting| {
                package::beyond(&waiting.asks, &record.considered) == nothing
            });
            if fits && let Some(waiting) = record.waiting.take() {
                let current = std::mem::replace(&mut record.current, waiting);
                record.previous = Some(current);
            }
        };
        self.change_one(by, name, expected, "plugin.grant", change)
            .await
    }

    /// Changes one that is installed: what comes of it is brought up first, if
    /// it shall run.
    async fn change_one(
        &self,
        by: By,
        name: &PluginName,
        expected: Option<u64>,
        action: &'static str,
        change: impl FnOnce(&mut PluginRecord),
    ) -> Result<PluginStatus, PluginRefused> {
        let _alone = self.inner.changing.lock().await;
        self.change_alone(by, name, expected, action, change).await
    }

    /// Changes one while nobody else changes any: whoever calls holds
    /// `changing`, and has what the change rests on read since.
    async fn change_alone(
        &self,
        by: By,
        name: &PluginName,
        expected: Option<u64>,
        action: &'static str,
        change: impl FnOnce(&mut PluginRecord),
    ) -> Result<PluginStatus, PluginRefused> {
        let mut record = PluginRecord::clone(&*self.find(name)?);
        change(&mut record);
        record.updated = clock::now();
        self.put(&by, action, record, expected).await?;
        Ok(self.status_of(&self.find(name)?))
    }

    /// Brings `record` up if it shall run, writes it, and lets it run.
    async fn put(
        &self,
        by: &By,
        action: &'static str,
        record: PluginRecord,
        expected: Option<u64>,
    ) -> Result<(), PluginRefused> {
        let missing = unconsidered(&record);
        let may_run = record.enabled && missing == Capabilities::default();
        if action == "plugin.enable" && !may_run {
            let words = package::in_plain_words(&missing).join("; ");
            return Err(PluginRefused::Conflict(format!(
                "{0} is not granted what it asks for ({words}): sotp plugin grant {0}",
                record.name
            )));
        }
        let up = match may_run {
            true => {
                let package = self.package_of(&record.current).await?;
                let (granted, settings) = (&record.granted, &record.settings);
                let name = record.name.as_str();
                Some(self.load(name, package, granted, settings).await?)
            }
            false => None,
        };
        let generation = up.as_ref().map(|active| active.generation);
        let name = record.name.clone();
        let written = self
            .inner
            .store
            .put_plugin(by, record, expected, action, clock::now())
            .await;
        if let Err(error) = written {
            if let Some(generation) = generation {
                self.host()?.forget(generation);
            }
            return Err(error.into());
        }
        match up {
            Some(active) => self.activate(active),
            None => self.put_out(name.as_str()),
        }
        Ok(())
    }

    pub(super) fn status_of(&self, record: &Arc<PluginRecord>) -> PluginStatus {
        let name = record.name.as_str();
        let wanted = record.waiting.as_ref().unwrap_or(&record.current);
        let waits = unconsidered(record);
        let missing = package::beyond(&wanted.asks, &record.granted);
        let missing = package::in_plain_words(&missing);
        let roster = self.roster();
        let active = roster.find(name);
        let broken = self.broken().get(name).cloned();
        let figures = self.inner.host.as_ref().map(|host| host.figures(name));
        let paused = figures.as_ref().and_then(|figures| figures.paused);
        let (state, why) = match (active, broken) {
            (Some(_), _) if paused.is_some() => {
                let why = paused_because(paused.unwrap_or_default());
                (PluginState::Paused, Some(why))
            }
            (Some(_), _) => (PluginState::Active, None),
            (None, Some(why)) => (PluginState::Broken, Some(why)),
            (None, None) if waits != Capabilities::default() => {
                let why = format!("it asks for what it was not granted: sotp plugin grant {name}");
                (PluginState::WaitingForGrant, Some(why))
            }
            (None, None) => {
                let why = format!("it is not enabled: sotp plugin enable {name}");
                (PluginState::Disabled, Some(why))
            }
        };
        PluginStatus {
            record: Arc::clone(record),
            state,
            why,
            missing,
            devices: active.map_or(0, |active| self.devices_of(active).len()),
            figures: figures.map(figures_of).unwrap_or_default(),
        }
    }

    async fn describe(&self, name: &PluginName) -> Result<PluginDetails, PluginRefused> {
        let record = self.find(name)?;
        let package = self.package_of(&record.current).await?;
        let schema = package.manifest.settings.iter();
        let roster = self.roster();
        let active = roster.find(name.as_str());
        let metrics = active.map(|active| active.metrics.iter().map(ToString::to_string));
        Ok(PluginDetails {
            status: self.status_of(&record),
            asks_in_words: package::in_plain_words(&record.current.asks),
            granted_in_words: package::in_plain_words(&record.granted),
            schema: schema
                .map(|(key, schema)| (key.clone(), setting(schema)))
                .collect(),
            license: package.manifest.license,
            homepage: package.manifest.homepage,
            readme: package.readme,
            metrics: metrics.into_iter().flatten().collect(),
        })
    }
}

/// Why a plugin is not called for as long as this.
fn paused_because(pause: Duration) -> String {
    match pause {
        Duration::MAX => {
            "it cannot work as it is set: it is not called until its settings change".to_owned()
        }
        pause => {
            let seconds = pause.as_secs();
            format!("it broke too often; it is tried again in {seconds} s")
        }
    }
}

/// Refuses what is no other version of what is installed under its name.
fn is_the_same(before: &PluginRecord, new: &Examined) -> Result<(), PluginRefused> {
    let manifest = &new.package.manifest;
    let known = &before.current;
    let name = &before.name;
    if known.id != manifest.id {
        return Err(PluginRefused::Conflict(format!(
            "{name} is the plugin {}, not {}: install it under another name (--as)",
            known.id, manifest.id
        )));
    }
    if known.kind != manifest.kind.word() {
        return Err(PluginRefused::Conflict(format!(
            "{name} is a {}, not a {}: remove it first",
            known.kind, manifest.kind
        )));
    }
    if known.signer != new.signer {
        return Err(PluginRefused::Conflict(format!(
            "{name} is signed by {}, this package by {}: remove it first if that is right",
            known.signer, new.signer
        )));
    }
    if known.digest == new.digest() {
        return Err(PluginRefused::Conflict(format!(
            "{name} {} is installed already",
            known.version
        )));
    }
    if package::compare_versions(&manifest.version, &known.version).is_lt() {
        return Err(PluginRefused::Conflict(format!(
            "{name} {} is newer than {}: sotp plugin rollback goes back",
            known.version, manifest.version
        )));
    }
    Ok(())
}

/// What is kept of a plugin of which `version` was installed. One that asks for
/// more than is granted waits; the one that runs goes on.
fn updated(before: &PluginRecord, version: PluginVersion) -> PluginRecord {
    let mut record = before.clone();
    record.updated = version.installed;
    let nothing = Capabilities::default();
    let asks_for_more = package::beyond(&version.asks, &record.considered) != nothing;
    let was_granted = unconsidered(&record) == nothing;
    if record.enabled && asks_for_more && was_granted {
        record.waiting = Some(version);
    } else {
        let current = std::mem::replace(&mut record.current, version);
        record.previous = Some(current);
        record.waiting = None;
    }
    record
}

/// Adds to `known` what is in `more`.
fn add(known: &mut Capabilities, more: &Capabilities) {
    for (capability, patterns) in &more.0 {
        let own = known.0.entry(capability.clone()).or_default();
        own.extend(patterns.iter().cloned());
    }
}

/// Values for settings that have to be set and are not yet.
fn stand_ins(package: &Package) -> BTreeMap<String, String> {
    let schema = package.manifest.settings.iter();
    let needed = schema.filter(|(_, schema)| schema.default.is_none());
    let value = |kind: &SettingKind| match kind {
        SettingKind::Text(choices) => Value::from(choices.first().cloned().unwrap_or_default()),
        SettingKind::Integer(least, _) => Value::from(least.unwrap_or_default()),
        SettingKind::Number(least, _) => Value::from(least.unwrap_or_default()),
        SettingKind::Boolean => Value::from(false),
        SettingKind::List => Value::Array(Vec::new()),
        SettingKind::Secret => Value::from("stand-in"),
    };
    needed
        .map(|(key, schema)| (key.clone(), value(&schema.kind).to_string()))
        .collect()
}

fn setting(schema: &SettingSchema) -> PluginSetting {
    let (kind, choices, min, max) = match &schema.kind {
        SettingKind::Text(choices) => ("text", choices.clone(), None, None),
        SettingKind::Integer(min, max) => {
            let value = |bound: &Option<i64>| bound.map(Value::from);
            ("integer", Vec::new(), value(min), value(max))
        }
        SettingKind::Number(min, max) => {
            let value = |bound: &Option<f64>| bound.map(Value::from);
            ("number", Vec::new(), value(min), value(max))
        }
        SettingKind::Boolean => ("boolean", Vec::new(), None, None),
        SettingKind::List => ("list", Vec::new(), None, None),
        SettingKind::Secret => ("secret", Vec::new(), None, None),
    };
    let default = schema.default.as_deref();
    PluginSetting {
        kind: kind.to_owned(),
        help: schema.help.clone(),
        default: default.and_then(|json| serde_json::from_str(json).ok()),
        choices,
        min,
        max,
    }
}

fn bundled(
    package: &Package,
    installed: &BTreeMap<PluginName, Arc<PluginRecord>>,
) -> BundledPlugin {
    let manifest = &package.manifest;
    let same = installed
        .values()
        .filter(|record| record.current.id == manifest.id);
    BundledPlugin {
        id: manifest.id.clone(),
        version: manifest.version.clone(),
        kind: manifest.kind,
        description: manifest.description.clone(),
        asks_in_words: package::in_plain_words(&manifest.asks),
        installed: same
            .map(|record| (record.name.clone(), record.current.version.clone()))
            .collect(),
    }
}

pub(super) fn figures_of(figures: plugin::Figures) -> PluginFigures {
    let failures = figures.failures.into_iter();
    PluginFigures {
        calls: figures.calls,
        failures: failures
            .map(|(word, count)| (word.to_owned(), count))
            .collect(),
        p50: figures.p50,
        p99: figures.p99,
        memory: figures.memory,
        cpu: figures.cpu,
        pauses: figures.pauses,
        last_failure: figures
            .last_failure
            .map(|(at, failure)| (at.into(), failure)),
    }
}

/// How long a trial lasts without a renewal.
pub(super) const LEASE: Duration = api::DEV_LEASE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_without_an_end_is_not_counted_in_seconds() {
        let why = paused_because(Duration::MAX);
        assert_eq!(
            why,
            "it cannot work as it is set: it is not called until its settings change"
        );
        let why = paused_because(Duration::from_secs(60));
        assert_eq!(why, "it broke too often; it is tried again in 60 s");
    }
}
