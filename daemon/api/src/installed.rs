//! What the API asks of who looks after the plugins.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use contract::{Answer, Ask, Ended, Failure, Kind, LogLine, Place};
use model::{
    Alert, By, Capabilities, DeviceId, PluginName, PluginRecord, PluginVersion, Timestamp,
};
use serde_json::Value;
use store::WriteError;

use crate::daemon::Later;

/// Bytes of a package that is uploaded.
pub const PACKAGE_BYTES: usize = 40 << 20;

/// How long a plugin that is being written stays, unless it is put again or its
/// time is renewed.
pub const DEV_LEASE: Duration = Duration::from_secs(60);

/// Who looks after the plugins. What is asked for may read a disk or wait for a
/// plugin, and does not block. What changes something writes its own line in the
/// audit log, in the transaction of the change (see [`store::Store`]); of what
/// changes nothing that is kept (`dev`, `try_on`, `ask`, `plan`) the API writes
/// it.
pub trait Plugins: Send + Sync + 'static {
    /// All that are installed and those that are being written, by name. From
    /// memory.
    fn list(&self) -> Vec<PluginStatus>;

    /// How the process does that they run in. From memory.
    fn host(&self) -> PluginHostStatus;

    /// The newest lines that one logged, oldest first; `None`: there is no such
    /// plugin. From memory.
    fn log(&self, name: &PluginName) -> Option<Vec<(Timestamp, LogLine)>>;

    /// One with everything that its manifest says.
    fn details(&self, name: &PluginName) -> Later<Result<PluginDetails, PluginRefused>>;

    /// What can be installed from the daemon's own directory, by id.
    fn bundled(&self) -> Later<Result<Vec<BundledPlugin>, PluginRefused>>;

    /// Installs one, or a newer version of one. `name` is by default its id,
    /// which may be neither `bundled` nor `dev`, nor begin with `dev.`: the API
    /// refuses a `name` that is. Goes on even if nobody waits for it any more,
    /// as all that changes something. Whatever asks for more than is granted waits for it.
    fn install(
        &self,
        by: By,
        from: PluginSource,
        name: Option<PluginName>,
    ) -> Later<Result<PluginInstalled, PluginRefused>>;

    /// Removes one with all that it kept. `expected`: the revision that was
    /// seen; `None`: whatever is there.
    fn remove(
        &self,
        by: By,
        name: &PluginName,
        expected: Option<u64>,
    ) -> Later<Result<(), PluginRefused>>;

    /// Says what one may do, in the place of what it might before; `None`:
    /// everything that it (or the version of it that waits) asks for. A version
    /// that waits and asks for no more than that takes its place. `expected`: the
    /// revision that the caller has seen; `None`: whatever is there.
    fn grant(
        &self,
        by: By,
        name: &PluginName,
        capabilities: Option<Capabilities>,
        expected: Option<u64>,
    ) -> Later<Result<PluginStatus, PluginRefused>>;

    /// Says whether one may run.
    fn enable(
        &self,
        by: By,
        name: &PluginName,
        enabled: bool,
    ) -> Later<Result<PluginStatus, PluginRefused>>;

    /// Goes back to the version before.
    fn roll_back(&self, by: By, name: &PluginName) -> Later<Result<PluginStatus, PluginRefused>>;

    /// Changes settings; `None` takes one back to its default.
    fn set(
        &self,
        by: By,
        name: &PluginName,
        settings: BTreeMap<String, Option<Value>>,
        expected: Option<u64>,
    ) -> Later<Result<PluginStatus, PluginRefused>>;

    /// Runs a package that need not be signed for one device, under a name of
    /// its own (`dev.` and `name`) and with what its manifest asks for, until
    /// [`DEV_LEASE`] is over. A package that comes again takes the place of the
    /// one before. Gives what it made of the device's last answer.
    fn dev(
        &self,
        by: By,
        name: &PluginName,
        device: DeviceId,
        package: Bytes,
    ) -> Later<Result<PluginRun, PluginRefused>>;

    /// Renews the lease of one that is being written; gives what it made of the
    /// device's last answer since.
    fn renew_dev(&self, name: &PluginName) -> Later<Result<PluginRun, PluginRefused>>;

    /// Ends one that is being written.
    fn end_dev(&self, name: &PluginName) -> Later<Result<(), PluginRefused>>;

    /// Asks a device now, with its own credential. Only SNMP; in the order of
    /// the questions.
    fn ask(
        &self,
        device: DeviceId,
        questions: Vec<Ask>,
    ) -> Later<Result<Vec<(Ask, Answer)>, PluginRefused>>;

    /// Calls one for a device now, with what it is asked for; keeps nothing of
    /// it. Not for notifiers and remediations.
    fn try_on(
        &self,
        name: &PluginName,
        device: DeviceId,
    ) -> Later<Result<PluginRun, PluginRefused>>;

    /// What a remediation would do about an alert. Nothing is done.
    fn plan(&self, name: &PluginName, alert: Alert) -> Later<Result<PluginRun, PluginRefused>>;
}

/// Where a package comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginSource {
    /// These bytes.
    Uploaded(Bytes),
    /// The daemon's own directory, by id.
    Bundled(String),
}

/// How a plugin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginState {
    /// It runs.
    Active,
    /// Somebody said that it may not.
    Disabled,
    /// It runs only once it is granted what it asks for.
    WaitingForGrant,
    /// It cannot be loaded, or does not do what its golden cases say.
    Broken,
    /// It broke too often and is left alone for a while.
    Paused,
    /// It is being written: it runs for one device, until its lease ends.
    Dev,
}

impl PluginState {
    /// The word in the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            PluginState::Active => "active",
            PluginState::Disabled => "disabled",
            PluginState::WaitingForGrant => "waiting_for_grant",
            PluginState::Broken => "broken",
            PluginState::Paused => "paused",
            PluginState::Dev => "dev",
        }
    }
}

/// One plugin, and how it does.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginStatus {
    /// What is kept of it; for one that is being written, what would be.
    pub record: Arc<PluginRecord>,
    /// How it is.
    pub state: PluginState,
    /// Why it is so, in words; of one that is broken, what is wrong.
    pub why: Option<String>,
    /// What it (or the version that waits) asks for and is not granted, in
    /// plain words.
    pub missing: Vec<String>,
    /// Devices that it is for.
    pub devices: usize,
    /// How it does.
    pub figures: PluginFigures,
}

/// How a plugin does. Counted since the daemon's start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PluginFigures {
    /// Calls that ended.
    pub calls: u64,
    /// Those that came to nothing, by [`Failure::word`].
    pub failures: BTreeMap<String, u64>,
    /// Half of the last calls took less than this.
    pub p50: Duration,
    /// Of a hundred of the last calls all but one took less than this.
    pub p99: Duration,
    /// The most memory that a call had, in bytes.
    pub memory: u64,
    /// Processor time of all calls.
    pub cpu: Duration,
    /// How often it was left alone for a while.
    pub pauses: u64,
    /// The newest failure, and when it was.
    pub last_failure: Option<(Timestamp, Failure)>,
}

/// How the process does that plugins run in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginHostStatus {
    /// Whether the settings let plugins run at all.
    pub enabled: bool,
    /// Its process, if it is there.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u64,
    /// Calls that wait or run.
    pub in_flight: usize,
    /// Its resident memory in bytes.
    pub resident: u64,
    /// What of its sandbox this machine does not have, in words.
    pub not_in_force: Vec<String>,
}

/// A plugin with everything that its manifest says.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginDetails {
    /// How it is.
    pub status: PluginStatus,
    /// What it asks for, each in plain words.
    pub asks_in_words: Vec<String>,
    /// What it is granted, each in plain words.
    pub granted_in_words: Vec<String>,
    /// What it can be set to do.
    pub schema: BTreeMap<String, PluginSetting>,
    /// SPDX.
    pub license: String,
    /// Where to read more.
    pub homepage: Option<String>,
    /// Its README.md.
    pub readme: String,
    /// Metrics that it measures.
    pub metrics: Vec<String>,
}

/// What a setting is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PluginSetting {
    /// text, integer, number, boolean, list or secret.
    pub kind: String,
    /// One line for people.
    pub help: String,
    /// Its value where none is set; `None`: it must be set.
    pub default: Option<Value>,
    /// The values that it takes, if only some are.
    pub choices: Vec<String>,
    /// The least that it may be.
    pub min: Option<Value>,
    /// The most that it may be.
    pub max: Option<Value>,
}

/// A plugin that can be installed from the daemon's own directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundledPlugin {
    /// Its id.
    pub id: String,
    /// The version that lies there.
    pub version: String,
    /// What it does.
    pub kind: Kind,
    /// One line for people.
    pub description: String,
    /// What it asks for, each in plain words.
    pub asks_in_words: Vec<String>,
    /// As what it is installed, in which versions.
    pub installed: Vec<(PluginName, String)>,
}

/// What installing led to.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginInstalled {
    /// How it is now.
    pub status: PluginStatus,
    /// The version that was installed: in force, or waiting for a grant.
    pub version: PluginVersion,
    /// Whether there was none of the name.
    pub is_new: bool,
}

/// What a plugin was called with by hand, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginRun {
    /// For which device.
    pub device: DeviceId,
    /// When what it was called with was collected.
    pub at: Timestamp,
    /// For each call what it was about (`snmp:gauges`, `start`, `decide`) and
    /// how it ended.
    pub calls: Vec<(String, Ended)>,
}

/// Something that is wrong with a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginProblem {
    /// Where.
    pub place: Option<Place>,
    /// What.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Why something was not done.
#[derive(Clone, Debug)]
pub enum PluginRefused {
    /// There is no such plugin.
    NoSuch(PluginName),
    /// The package, the settings or the grant are wrong: everything that is.
    Problems(Vec<PluginProblem>),
    /// It cannot be done as things are: says why, and what to do.
    Conflict(String),
    /// It cannot be done now: says why.
    Unavailable(String),
    /// The store refuses it, or cannot be written.
    Store(WriteError),
}

impl From<WriteError> for PluginRefused {
    fn from(error: WriteError) -> PluginRefused {
        PluginRefused::Store(error)
    }
}

impl fmt::Display for PluginRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PluginRefused::NoSuch(name) => write!(f, "there is no plugin {name}"),
            PluginRefused::Problems(problems) => match problems.first() {
                Some(first) => f.write_str(&first.message),
                None => f.write_str("the package is wrong"),
            },
            PluginRefused::Conflict(why) | PluginRefused::Unavailable(why) => f.write_str(why),
            PluginRefused::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PluginRefused {}

/// What a metric that is not built in is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// What its values are.
    pub kind: model::MetricKind,
    /// Its unit.
    pub unit: String,
    /// One line for people.
    pub help: String,
}
