//! Trying plugins: one that is being written, for one device and for a minute at
//! a time; one that runs, by hand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::{PluginRefused, PluginRun, PluginState, PluginStatus};
use bytes::Bytes;
use contract::{Answer, Ask, Call, Ended, Kind, ParserInput, Payload, Reply};
use model::{Credential, Device, DeviceId, PluginName, PluginRecord, SnmpExtra};
use package::{CollectWhat, Manifest, Package, SettingKind};
use tokio::task::AbortHandle;

use super::admin::{LEASE, figures_of};
use super::packages::{aside, one_problem};
use super::reading::Asker;
use super::roster::Active;
use super::{Plugins, words};
use crate::clock;

/// Plugins that are being written at once.
const TRIALS: usize = 20;

/// A plugin that is being written.
pub(super) struct Trial {
    device: DeviceId,
    /// When it ends unless it is renewed.
    until: Duration,
    record: Arc<PluginRecord>,
    /// What ends it in time; it ends with the trial.
    lease: AbortHandle,
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.lease.abort();
    }
}

impl Plugins {
    pub(super) async fn try_package(
        &self,
        name: &PluginName,
        device: DeviceId,
        bytes: Bytes,
    ) -> Result<PluginRun, PluginRefused> {
        let read = aside(move || Package::read(&bytes)).await?;
        let package = read.map_err(one_problem)?;
        may_be_tried(package.manifest.kind)?;
        let host_name = PluginName::new(&format!("dev.{name}"));
        let host_name =
            host_name.map_err(|why| one_problem(package::Problem::new(why.to_string())))?;
        let is_full = {
            let trials = self.trials_now();
            !trials.contains_key(&host_name) && trials.len() >= TRIALS
        };
        if is_full {
            let why = format!("{TRIALS} plugins are being tried out already");
            return Err(PluginRefused::Conflict(why));
        }
        let manifest = &package.manifest;
        let installed = self.inner.store.plugins().get(name).cloned();
        let settings = installed.map(|record| record.settings.clone());
        let settings = without_secrets(manifest, settings.unwrap_or_default());
        let record = Arc::new(PluginRecord {
            name: host_name.clone(),
            current: model::PluginVersion {
                id: manifest.id.clone(),
                version: manifest.version.clone(),
                kind: manifest.kind.word().to_owned(),
                description: manifest.description.clone(),
                digest: model::Digest(package.digest),
                signer: "nobody".to_owned(),
                asks: manifest.asks.clone(),
                installed: clock::now(),
            },
            previous: None,
            waiting: None,
            granted: manifest.asks.clone(),
            considered: manifest.asks.clone(),
            settings,
            enabled: true,
            updated: clock::now(),
            revision: 1,
        });
        let asks = manifest.asks.clone();
        let stand_in = with_stand_ins(manifest, record.settings.clone());
        let mut active = self
            .load(host_name.as_str(), package, &asks, &stand_in)
            .await?;
        active.only = Some(device);
        // nobody signed it: whatever its settings say, they name no secrets
        active.secrets = BTreeMap::new();
        self.activate(active);
        self.lease(&host_name, device, record);
        let active = self.running(&host_name)?;
        self.run_on(&active, device).await
    }

    fn trials_now(&self) -> std::sync::MutexGuard<'_, BTreeMap<PluginName, Trial>> {
        let trials = self.inner.trials.lock();
        trials.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Notes the trial and ends it once nobody renews it. One that was tried out
    /// under its name before gives its lease up.
    fn lease(&self, host_name: &PluginName, device: DeviceId, record: Arc<PluginRecord>) {
        let (plugins, name) = (self.clone(), host_name.clone());
        // until the trial is in it, nobody who looks for it sees the book
        let mut trials = self.trials_now();
        let lease = tokio::spawn(async move {
            loop {
                let until = plugins.trials_now().get(&name).map(|trial| trial.until);
                let Some(until) = until else { return };
                let left = until.saturating_sub(clock::tick());
                if left.is_zero() {
                    let _ = plugins.end_trial_of(&name);
                    return;
                }
                tokio::time::sleep(left).await;
            }
        });
        let trial = Trial {
            device,
            until: clock::tick() + LEASE,
            record,
            lease: lease.abort_handle(),
        };
        trials.insert(host_name.clone(), trial);
    }

    pub(super) async fn renew_trial(&self, name: &PluginName) -> Result<PluginRun, PluginRefused> {
        let host_name = trial_name(name)?;
        let device = {
            let mut trials = self.trials_now();
            let trial = trials.get_mut(&host_name);
            let trial = trial.ok_or_else(|| PluginRefused::NoSuch(name.clone()))?;
            trial.until = clock::tick() + LEASE;
            trial.device
        };
        let active = self.running(&host_name)?;
        self.run_on(&active, device).await
    }

    pub(super) fn end_trial(&self, name: &PluginName) -> Result<(), PluginRefused> {
        self.end_trial_of(&trial_name(name)?)
    }

    fn end_trial_of(&self, host_name: &PluginName) -> Result<(), PluginRefused> {
        let trial = self.trials_now().remove(host_name);
        trial.ok_or_else(|| PluginRefused::NoSuch(host_name.clone()))?;
        self.put_out(host_name.as_str());
        Ok(())
    }

    pub(super) fn trials(&self) -> Vec<PluginStatus> {
        let trials = self.trials_now();
        let status = |(name, trial): (&PluginName, &Trial)| {
            let host = self.inner.host.as_ref();
            let figures = host.map(|host| figures_of(host.figures(name.as_str())));
            let left = trial.until.saturating_sub(clock::tick()).as_secs();
            PluginStatus {
                record: Arc::clone(&trial.record),
                state: PluginState::Dev,
                why: Some(format!("it is tried out for another {left} s")),
                missing: Vec::new(),
                devices: 1,
                figures: figures.unwrap_or_default(),
            }
        };
        trials.iter().map(status).collect()
    }

    /// Asks a device now what it is asked, with its own credential.
    pub(super) async fn ask_device(
        &self,
        id: DeviceId,
        questions: Vec<Ask>,
    ) -> Result<Vec<(Ask, Answer)>, PluginRefused> {
        let (_, target, credential) = self.reached(id).await?;
        let asker = Asker {
            target,
            credential: &credential,
        };
        let mut answers = Vec::with_capacity(questions.len());
        for ask in questions {
            let answer = match &ask {
                Ask::SnmpGet(_) | Ask::SnmpWalk(_) | Ask::SnmpTable(_) => {
                    self.ask_snmp(&ask, &asker).await
                }
                Ask::Cli(_) | Ask::Http(_) | Ask::Extension(_) => {
                    Answer::Error("only SNMP can be asked by hand".to_owned())
                }
            };
            answers.push((ask, answer));
        }
        Ok(answers)
    }

    /// Where and with what a device is asked.
    async fn reached(
        &self,
        id: DeviceId,
    ) -> Result<(Arc<Device>, SocketAddr, Credential), PluginRefused> {
        let inventory = self.inner.store.inventory();
        let device = inventory.device(id).map(Arc::clone);
        let device = device.ok_or_else(|| {
            PluginRefused::Conflict("there is no such device any more".to_owned())
        })?;
        let inner = &self.inner;
        let port = inner.pace.borrow().snmp_port;
        let found = crate::poll::reach(
            &inner.store,
            &inner.secrets,
            &inner.collectors,
            &device,
            port,
        );
        let (target, credential) = found
            .await
            .map_err(|failure| PluginRefused::Unavailable(failure.text))?;
        Ok((device, target, credential))
    }

    /// Calls `active` for a device now. Nothing of what it answers is kept.
    pub(super) async fn run_on(
        &self,
        active: &Arc<Active>,
        id: DeviceId,
    ) -> Result<PluginRun, PluginRefused> {
        let at = clock::now();
        let inventory = self.inner.store.inventory();
        let device = inventory.device(id).map(Arc::clone);
        let device = device.ok_or_else(|| {
            PluginRefused::Conflict("there is no such device any more".to_owned())
        })?;
        let calls = match active.manifest.kind {
            Kind::Parser => self.parse_now(active, &device).await?,
            Kind::Poller => self.poll_now(active, &device).await?,
            Kind::Rule => vec![self.evaluate_now(active, &device).await],
            kind @ (Kind::Notifier | Kind::Remediation) => {
                let why = format!("a {kind} is not called for a device");
                return Err(PluginRefused::Conflict(why));
            }
        };
        Ok(PluginRun {
            device: id,
            at,
            calls,
        })
    }

    async fn parse_now(
        &self,
        active: &Active,
        device: &Device,
    ) -> Result<Vec<(String, Ended)>, PluginRefused> {
        let (_, target, credential) = self.reached(device.id).await?;
        let asker = Asker {
            target,
            credential: &credential,
        };
        let seen = self.seen(device);
        let mut calls = Vec::new();
        for collect in &active.manifest.collect {
            let ask = match &collect.what {
                CollectWhat::Get(oids) => Ask::SnmpGet(oids.clone()),
                CollectWhat::Walk(oid) => Ask::SnmpWalk(oid.clone()),
                CollectWhat::Table(oid) => Ask::SnmpTable(oid.clone()),
                CollectWhat::BuiltIn(name) => match package::built_in_table(name) {
                    Some(oid) => Ask::SnmpTable(oid),
                    None => continue,
                },
            };
            let source = format!("snmp:{}", collect.name);
            let payload = match self.ask_snmp(&ask, &asker).await {
                Answer::Snmp(varbinds) if !varbinds.is_empty() => Payload::Snmp(varbinds),
                Answer::SnmpTable(table) if !table.indexes.is_empty() => Payload::SnmpTable(table),
                Answer::Error(why) => {
                    return Err(PluginRefused::Unavailable(format!("{source}: {why}")));
                }
                // the device does not have it
                _ => continue,
            };
            let call = Call::Parse(ParserInput {
                device: seen.clone(),
                source: source.clone(),
                collected_at: clock::now().into(),
                payload,
            });
            calls.push((source, self.call_whole(active, call).await));
        }
        Ok(calls)
    }

    async fn poll_now(
        &self,
        active: &Active,
        device: &Device,
    ) -> Result<Vec<(String, Ended)>, PluginRefused> {
        let (_, target, credential) = self.reached(device.id).await?;
        let asker = Asker {
            target,
            credential: &credential,
        };
        let seen = self.seen(device);
        let start = Call::Start {
            device: seen.clone(),
        };
        let first = self.call_whole(active, start).await;
        let mut asks = asked(&first);
        let mut calls = vec![("start".to_owned(), first)];
        for round in 1..=super::reading::ROUNDS {
            let Some(questions) = asks.take() else { break };
            let mut answers = Vec::with_capacity(questions.len());
            for ask in questions {
                let answer = self.fetch(active, &ask, &asker).await;
                answers.push((ask, answer));
            }
            let resume = Call::Resume {
                device: seen.clone(),
                round,
                answers,
            };
            let ended = self.call_whole(active, resume).await;
            asks = asked(&ended);
            calls.push((format!("resume {round}"), ended));
        }
        Ok(calls)
    }

    async fn evaluate_now(&self, active: &Active, device: &Device) -> (String, Ended) {
        let what = "evaluate".to_owned();
        match self.windows(active, device.id).await {
            Ok(trigger) => {
                let state = self.state(active, device.id);
                let ask = self.evaluation(active, device, trigger, state);
                let ended = self.call_whole(active, ask).await;
                (what, ended)
            }
            Err(why) => {
                let why = contract::PluginError::Unavailable(words::safe(&why));
                let ended = Ended {
                    result: Err(why.into()),
                    log: Vec::new(),
                    kv: Vec::new(),
                    usage: contract::Usage::default(),
                };
                (what, ended)
            }
        }
    }

    pub(super) async fn call_whole(&self, active: &Active, call: Call) -> Ended {
        match &self.inner.host {
            Some(host) => host.call(&active.host_name, &call).await,
            None => Ended {
                result: Err(contract::Fault::new(
                    contract::FaultClass::HostDied,
                    "plugins do not run here",
                )
                .into()),
                log: Vec::new(),
                kv: Vec::new(),
                usage: contract::Usage::default(),
            },
        }
    }
}

/// Refuses what acts beyond the device that it is tried out on: alerts of all
/// devices go through a notifier, and nobody has signed this one.
fn may_be_tried(kind: Kind) -> Result<(), PluginRefused> {
    match kind {
        Kind::Parser | Kind::Poller | Kind::Rule => Ok(()),
        Kind::Notifier | Kind::Remediation => Err(PluginRefused::Conflict(format!(
            "a {kind} is not tried out on a device: `sotp plugin test` runs its golden cases"
        ))),
    }
}

/// What an installed plugin is set to, without what `manifest` would have as
/// the name of a secret.
fn without_secrets(
    manifest: &Manifest,
    mut settings: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    settings.retain(|key, _| {
        let schema = manifest.settings.get(key);
        schema.is_none_or(|schema| schema.kind != SettingKind::Secret)
    });
    settings
}

/// `settings` with something for every secret, so that the plugin can be
/// loaded. It names none: a trial has no secrets.
fn with_stand_ins(
    manifest: &Manifest,
    mut settings: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    for (key, schema) in &manifest.settings {
        if schema.kind == SettingKind::Secret {
            settings.insert(key.clone(), "\"stand-in\"".to_owned());
        }
    }
    settings
}

fn trial_name(name: &PluginName) -> Result<PluginName, PluginRefused> {
    PluginName::new(&format!("dev.{name}")).map_err(|_| PluginRefused::NoSuch(name.clone()))
}

fn asked(ended: &Ended) -> Option<Vec<Ask>> {
    match &ended.result {
        Ok(Reply::Asks(asks) | Reply::Next(contract::Next::More(asks))) => Some(asks.clone()),
        _ => None,
    }
}

/// What one question is as an extra of a poll.
pub(super) fn extra_of(ask: &Ask) -> SnmpExtra {
    let oid = |oid: &contract::Oid| model::Oid(oid.0.clone());
    match ask {
        Ask::SnmpGet(oids) => SnmpExtra {
            get: oids.iter().map(oid).collect(),
            walk: Vec::new(),
        },
        Ask::SnmpWalk(root) | Ask::SnmpTable(root) => SnmpExtra {
            get: Vec::new(),
            walk: vec![oid(root)],
        },
        Ask::Cli(_) | Ask::Http(_) | Ask::Extension(_) => SnmpExtra::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"
[plugin]
id = "acme"
version = "1.0.0"
kind = "poller"
api = "1.0"
description = "Asks an Acme"
license = "Apache-2.0"
main = "main.rhai"
[match]
vendor = ["acme"]
[capabilities]
http = ["https://acme.example/*"]
secrets = true
[settings.token]
type = "secret"
help = "The token"
[settings.region]
type = "text"
help = "The region"
"#;

    #[test]
    fn a_trial_inherits_settings_and_no_secret() {
        let manifest = Manifest::parse("plugin.toml", MANIFEST).unwrap();
        let set = |key: &str, value: &str| (key.to_owned(), format!("{value:?}"));
        let installed = [set("token", "acme-token"), set("region", "eu")];
        let inherited = without_secrets(&manifest, installed.into());
        assert_eq!(inherited, [set("region", "eu")].into());
        let loaded = with_stand_ins(&manifest, inherited);
        assert_eq!(loaded["token"], "\"stand-in\"");
        assert!(manifest.settings(&loaded).is_ok(), "it can be loaded");
    }

    #[test]
    fn what_acts_beyond_one_device_is_not_tried_out() {
        for kind in [Kind::Parser, Kind::Poller, Kind::Rule] {
            assert!(may_be_tried(kind).is_ok(), "{kind}");
        }
        for kind in [Kind::Notifier, Kind::Remediation] {
            assert!(
                matches!(may_be_tried(kind), Err(PluginRefused::Conflict(_))),
                "{kind}"
            );
        }
    }
}
