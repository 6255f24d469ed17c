//! Plugins as people see them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contract::{Ended, Failure, LogLine};
use model::{PluginVersion, Timestamp};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::installed::{
    BundledPlugin, PluginDetails, PluginFigures, PluginHostStatus, PluginRun, PluginSetting,
    PluginStatus,
};

/// What may be done: patterns by capability; none where it has no parts.
pub(crate) type CapabilitiesView = BTreeMap<String, BTreeSet<String>>;

/// Plugins, and the process that they run in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PluginList {
    /// Those that are installed and those that are being written, by name.
    pub(crate) items: Vec<PluginView>,
    /// The process that they run in.
    pub(crate) host: PluginHostView,
}

/// The process that plugins run in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PluginHostView {
    /// Whether the settings let plugins run at all.
    enabled: bool,
    /// Its number; null while it is not there.
    pid: Option<u32>,
    /// How often it was started again since the daemon's start.
    restarts: u64,
    /// Calls that wait or run.
    in_flight: usize,
    /// Its resident memory.
    memory_bytes: u64,
    /// What of its sandbox this machine does not have.
    not_in_force: Vec<String>,
}

/// A plugin, and how it does.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PluginView {
    /// What it is called here.
    name: String,
    /// What its maker calls it.
    id: String,
    /// The version that runs, if any does.
    version: String,
    /// parser, rule, remediation, notifier or poller.
    kind: String,
    /// Whose key it is signed with; `bundled` if it came with the daemon.
    signer: String,
    /// What it is for.
    description: String,
    /// Whether it may run.
    enabled: bool,
    /// active, disabled, `waiting_for_grant`, broken, paused or dev.
    state: &'static str,
    /// Why it is so.
    state_reason: Option<String>,
    /// What it asks to be allowed.
    asks: CapabilitiesView,
    /// What it is allowed.
    granted: CapabilitiesView,
    /// What it, or the version that waits, asks for and is not allowed, in
    /// plain words.
    missing: Vec<String>,
    /// Devices that it is for.
    devices: usize,
    /// How it does.
    figures: PluginFiguresView,
    /// When it was last changed.
    updated: String,
    /// Counts changes, from 1; the `ETag`.
    revision: u64,
}

/// How a plugin does, since the daemon's start.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PluginFiguresView {
    /// Calls that ended.
    calls: u64,
    /// Those that came to nothing, by why.
    failures: BTreeMap<String, u64>,
    /// Half of the last calls took less than this.
    p50_seconds: f64,
    /// Of a hundred of the last calls all but one took less than this.
    p99_seconds: f64,
    /// The most memory that a call had.
    memory_bytes: u64,
    /// Processor time of all calls.
    cpu_seconds: f64,
    /// How often it was left alone for a while because it broke too often.
    pauses: u64,
    /// The newest call that came to nothing.
    last_failure: Option<FailureView>,
}

/// Why a call came to nothing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FailureView {
    /// When.
    at: String,
    /// How: `cpu`, `trap`, `bad_result`, `malformed` and so on.
    class: &'static str,
    /// What happened.
    message: String,
    /// Where in its source: file:line:column.
    place: Option<String>,
    /// Who called that, from the inside out.
    trace: Vec<String>,
    /// What to do about it.
    hint: Option<String>,
}

/// One version of a plugin.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PluginVersionView {
    /// The version.
    version: String,
    /// SHA-256 of its package.
    sha256: String,
    /// Whose key it is signed with.
    signer: String,
    /// What it asks to be allowed.
    asks: CapabilitiesView,
    /// When it was installed.
    installed: String,
}

/// A plugin with everything that is known of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PluginDetail {
    #[serde(flatten)]
    plugin: PluginView,
    /// The version that runs.
    current: PluginVersionView,
    /// The version before: what a rollback goes back to.
    previous: Option<PluginVersionView>,
    /// A newer version that asks for more than is allowed.
    waiting: Option<PluginVersionView>,
    /// What it asks to be allowed, in plain words.
    asks_in_words: Vec<String>,
    /// What it is allowed, in plain words.
    granted_in_words: Vec<String>,
    /// What it is set to do; secrets by name alone.
    #[schema(value_type = BTreeMap<String, Object>)]
    settings: BTreeMap<String, Value>,
    /// What it can be set to do.
    schema: BTreeMap<String, PluginSettingView>,
    /// SPDX.
    license: String,
    /// Where to read more.
    homepage: Option<String>,
    /// Its README.md.
    readme: String,
    /// Metrics that it measures.
    metrics: Vec<String>,
}

/// What a setting is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PluginSettingView {
    /// text, integer, number, boolean, list or secret.
    #[serde(rename = "type")]
    kind: String,
    /// What it is for.
    help: String,
    /// Its value where none is set; null: it must be set.
    #[schema(value_type = Object)]
    default: Option<Value>,
    /// The values that it takes; empty: any.
    choices: Vec<String>,
    /// The least that it may be.
    #[schema(value_type = Object)]
    min: Option<Value>,
    /// The most that it may be.
    #[schema(value_type = Object)]
    max: Option<Value>,
}

/// What came of installing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PluginInstalledView {
    #[serde(flatten)]
    pub(crate) plugin: PluginView,
    /// The version that was installed: it runs, or waits until it is allowed
    /// what it asks for.
    pub(crate) installed: PluginVersionView,
}

/// Plugins that can be installed by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BundledList {
    /// By id.
    pub(crate) items: Vec<BundledView>,
}

/// A plugin that can be installed by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BundledView {
    /// What to install it by.
    id: String,
    /// The version that came with the daemon.
    version: String,
    /// parser, rule, remediation, notifier or poller.
    kind: &'static str,
    /// What it is for.
    description: String,
    /// What it asks to be allowed, in plain words.
    asks_in_words: Vec<String>,
    /// As what it is installed.
    installed: Vec<InstalledAs>,
}

/// A plugin that a package is installed as.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstalledAs {
    /// What it is called.
    name: String,
    /// Its version.
    version: String,
}

/// What a plugin logged.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PluginLog {
    /// The newest lines, oldest first.
    pub(crate) items: Vec<PluginLogLine>,
}

/// A line that a plugin logged.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PluginLogLine {
    /// When.
    at: String,
    /// trace, debug, info, warn or error.
    #[schema(value_type = String)]
    level: Value,
    /// What.
    message: String,
    /// More, by name.
    fields: BTreeMap<String, String>,
}

/// What a plugin was called with by hand, and what came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PluginRunView {
    /// For which device.
    device: u64,
    /// When what it was called with was collected.
    at: String,
    /// Its calls, in order.
    calls: Vec<PluginCallView>,
}

/// One call of a plugin by hand.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PluginCallView {
    /// What it was about: `snmp:gauges`, `start`, `decide`.
    what: String,
    /// What came of it, as the contract of plugins has it; null: nothing.
    #[schema(value_type = Object)]
    reply: Option<Value>,
    /// Why nothing came of it.
    failure: Option<FailureView>,
    /// What it logged.
    log: Vec<PluginLogLine>,
    /// What it would keep, as the contract of plugins has it.
    #[schema(value_type = Vec<Object>)]
    kv: Value,
    /// Processor time.
    cpu_seconds: f64,
    /// Time.
    seconds: f64,
    /// The most memory that it had.
    memory_bytes: u64,
}

impl From<PluginHostStatus> for PluginHostView {
    fn from(host: PluginHostStatus) -> PluginHostView {
        PluginHostView {
            enabled: host.enabled,
            pid: host.pid,
            restarts: host.restarts,
            in_flight: host.in_flight,
            memory_bytes: host.resident,
            not_in_force: host.not_in_force,
        }
    }
}

impl From<&PluginStatus> for PluginView {
    fn from(status: &PluginStatus) -> PluginView {
        let record = &status.record;
        let current = &record.current;
        PluginView {
            name: record.name.to_string(),
            id: current.id.clone(),
            version: current.version.clone(),
            kind: current.kind.clone(),
            signer: current.signer.clone(),
            description: current.description.clone(),
            enabled: record.enabled,
            state: status.state.word(),
            state_reason: status.why.clone(),
            asks: current.asks.0.clone(),
            granted: record.granted.0.clone(),
            missing: status.missing.clone(),
            devices: status.devices,
            figures: (&status.figures).into(),
            updated: record.updated.to_string(),
            revision: record.revision,
        }
    }
}

impl From<&PluginFigures> for PluginFiguresView {
    fn from(figures: &PluginFigures) -> PluginFiguresView {
        let last = figures.last_failure.as_ref();
        PluginFiguresView {
            calls: figures.calls,
            failures: figures.failures.clone(),
            p50_seconds: figures.p50.as_secs_f64(),
            p99_seconds: figures.p99.as_secs_f64(),
            memory_bytes: figures.memory,
            cpu_seconds: figures.cpu.as_secs_f64(),
            pauses: figures.pauses,
            last_failure: last.map(|(at, failure)| FailureView::of(*at, failure)),
        }
    }
}

impl FailureView {
    fn of(at: Timestamp, failure: &Failure) -> FailureView {
        let fault = match failure {
            Failure::Fault(fault) => Some(fault),
            Failure::Said(_) => None,
        };
        let place = fault.and_then(|fault| fault.place.as_ref());
        FailureView {
            at: at.to_string(),
            class: failure.word(),
            message: match failure {
                Failure::Said(error) => error.text().to_owned(),
                Failure::Fault(fault) => fault.message.clone(),
            },
            place: place.map(ToString::to_string),
            trace: fault.map_or(Vec::new(), |fault| fault.trace.clone()),
            hint: fault.and_then(|fault| fault.hint.clone()),
        }
    }
}

impl From<&PluginVersion> for PluginVersionView {
    fn from(version: &PluginVersion) -> PluginVersionView {
        PluginVersionView {
            version: version.version.clone(),
            sha256: version.digest.hex(),
            signer: version.signer.clone(),
            asks: version.asks.0.clone(),
            installed: version.installed.to_string(),
        }
    }
}

/// A setting's value is kept as JSON; what is none is shown as it is.
fn setting(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

impl From<PluginDetails> for PluginDetail {
    fn from(details: PluginDetails) -> PluginDetail {
        let record = &details.status.record;
        let settings = record.settings.iter();
        let schema = details.schema.into_iter();
        PluginDetail {
            plugin: (&details.status).into(),
            current: (&record.current).into(),
            previous: record.previous.as_ref().map(PluginVersionView::from),
            waiting: record.waiting.as_ref().map(PluginVersionView::from),
            asks_in_words: details.asks_in_words,
            granted_in_words: details.granted_in_words,
            settings: settings
                .map(|(name, value)| (name.clone(), setting(value)))
                .collect(),
            schema: schema
                .map(|(name, setting)| (name, setting.into()))
                .collect(),
            license: details.license,
            homepage: details.homepage,
            readme: details.readme,
            metrics: details.metrics,
        }
    }
}

impl From<PluginSetting> for PluginSettingView {
    fn from(setting: PluginSetting) -> PluginSettingView {
        PluginSettingView {
            kind: setting.kind,
            help: setting.help,
            default: setting.default,
            choices: setting.choices,
            min: setting.min,
            max: setting.max,
        }
    }
}

impl From<BundledPlugin> for BundledView {
    fn from(plugin: BundledPlugin) -> BundledView {
        let installed = plugin.installed.into_iter();
        BundledView {
            id: plugin.id,
            version: plugin.version,
            kind: plugin.kind.word(),
            description: plugin.description,
            asks_in_words: plugin.asks_in_words,
            installed: installed
                .map(|(name, version)| InstalledAs {
                    name: name.to_string(),
                    version,
                })
                .collect(),
        }
    }
}

impl PluginLogLine {
    pub(crate) fn of(at: Timestamp, line: LogLine) -> PluginLogLine {
        PluginLogLine {
            at: at.to_string(),
            level: as_json(&line.level),
            message: line.message,
            fields: line.fields.into_iter().collect(),
        }
    }
}

impl From<PluginRun> for PluginRunView {
    fn from(run: PluginRun) -> PluginRunView {
        let calls = run.calls.into_iter();
        PluginRunView {
            device: run.device.0,
            at: run.at.to_string(),
            calls: calls
                .map(|(what, ended)| call(what, run.at, ended))
                .collect(),
        }
    }
}

fn call(what: String, at: Timestamp, ended: Ended) -> PluginCallView {
    let seconds = |ns: u64| Duration::from_nanos(ns).as_secs_f64();
    let failure = ended.result.as_ref().err();
    PluginCallView {
        what,
        reply: ended.result.as_ref().ok().map(as_json),
        failure: failure.map(|failure| FailureView::of(at, failure)),
        log: ended
            .log
            .into_iter()
            .map(|line| PluginLogLine::of(at, line))
            .collect(),
        kv: as_json(&ended.kv),
        cpu_seconds: seconds(ended.usage.cpu_ns),
        seconds: seconds(ended.usage.wall_ns),
        memory_bytes: ended.usage.memory,
    }
}

/// Words of the contract as it writes them in recordings. What cannot be
/// written there (a key that is no text) is null.
pub(crate) fn as_json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}
