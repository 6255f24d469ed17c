//! The sandboxed process that plugins run in, from both sides.
//!
//! A plugin is somebody else's code, and what runs it may have holes. So it
//! runs in a process that has nothing: no files, no network, no other
//! processes, little memory. The daemon talks to it over a socket pair,
//! believes nothing that it says before it has looked at it, and starts it
//! again when it dies.
//!
//! - [`Host`]: the daemon's side; `supervisor` keeps the process running,
//!   `state` decides what happens to calls when it dies.
//! - `child`: the process itself; `sandbox`: what it gives up.
//! - `wire`, `outbox`, `board`: what goes between them.
//! - `compile`, `cache`: components are compiled once, in a process of their
//!   own.
//! - `judge`, `breaker`, `tally`: what is believed of a result, when a plugin
//!   is left alone, what is counted.

mod board;
mod breaker;
mod cache;
mod child;
mod compile;
mod here;
mod host;
mod judge;
mod outbox;
mod sandbox;
mod state;
mod supervisor;
mod system;
mod tally;
#[doc(hidden)]
pub mod testing;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use contract::{
    Call, Ended, Fault, Grants, HostAnswer, HostAsk, Kind, Limits, LogLine, Nanos, Plugin, Reply,
    Settings,
};

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// A Rhai script.
    Script {
        /// What its author calls it: `main.rhai`.
        file: String,
        /// The script.
        source: Arc<str>,
    },
    /// A WebAssembly component.
    Component(Arc<[u8]>),
}

/// A plugin to be loaded.
#[derive(Clone, Debug)]
pub struct Load {
    /// What it does.
    pub kind: Kind,
    /// What runs.
    pub code: Code,
    /// What a call may use.
    pub limits: Limits,
    /// What it may ask of the host.
    pub grants: Grants,
    /// Its settings.
    pub settings: Settings,
    /// Compiled quickly, with places in the source.
    pub for_its_author: bool,
}

/// Loads a plugin into this very process: for its author's tests. Compiles it
/// first, which takes a moment.
///
/// # Errors
///
/// Says what is wrong with it.
pub fn load_here(load: &Load) -> Result<Box<dyn Plugin>, Fault> {
    here::load(load)
}

/// One call of a golden case.
#[derive(Clone, Debug)]
pub struct Replay {
    /// When it is made.
    pub now: Nanos,
    /// The call.
    pub call: Call,
    /// The case's settings.
    pub settings: Settings,
    /// What the host is asked, and answers; anything else is answered with
    /// nothing.
    pub host: Vec<(HostAsk, HostAnswer)>,
}

/// Makes a call of a golden case in this very process.
#[must_use]
pub fn replay_here(plugin: &dyn Plugin, load: &Load, replay: Replay) -> Ended {
    here::replay(plugin, load, replay)
}

/// How the host is run.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// The program that is started with the word `plugin-host`, or
    /// `plugin-compile`: this one, usually.
    pub program: PathBuf,
    /// The directory of compiled components; made if it is absent.
    pub cache: PathBuf,
    /// Calls at once.
    pub threads: usize,
    /// Calls that may wait; more are refused as [`contract::FaultClass::Busy`].
    pub waiting: usize,
    /// Bytes of memory of the host, all plugins together.
    pub memory: u64,
}

/// Who answers what plugins ask: the daemon. Called on a thread that may
/// block.
pub trait Services: Send + Sync + 'static {
    /// Answers a question of the plugin called `plugin`.
    ///
    /// # Errors
    ///
    /// A fault that ends the call.
    fn answer(&self, plugin: &str, ask: HostAsk) -> Result<HostAnswer, Fault>;
}

/// One version of a plugin that is loaded; no longer than the host keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub u64);

impl Generation {
    fn unknown(self) -> Fault {
        let message = format!("version {} is not loaded any more", self.0);
        Fault::new(contract::FaultClass::Load, message)
    }
}

/// What loading led to.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Which it is; calls to its name go to it once it is
    /// [activated](Host::activate).
    pub generation: Generation,
    /// What it said to `Describe`.
    pub described: Reply,
    /// Whether its compiled code was in the cache.
    pub cached: bool,
    /// How long it took.
    pub took: Duration,
}

/// How a plugin does. Counted since the daemon's start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Calls that ended.
    pub calls: u64,
    /// Those that came to nothing, by [`contract::Failure::word`].
    pub failures: Vec<(&'static str, u64)>,
    /// Half of the last calls took less than this.
    pub p50: Duration,
    /// Of a hundred of the last calls all but one took less than this.
    pub p99: Duration,
    /// Processor time of all calls.
    pub cpu: Duration,
    /// The most memory that a call had, in bytes.
    pub memory: u64,
    /// Whether it is left alone for now because it broke too often, and for
    /// how much longer; [`Duration::MAX`]: until it is loaded with other
    /// settings, because it says that these are wrong.
    pub paused: Option<Duration>,
    /// How often that was so since it was loaded.
    pub pauses: u64,
    /// The newest failure and when it was.
    pub last_failure: Option<(Nanos, contract::Failure)>,
}

/// How the host itself does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostFigures {
    /// Its process, if it is there.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u64,
    /// Calls that wait or run.
    pub in_flight: usize,
    /// Its resident memory in bytes.
    pub resident: u64,
    /// What of its sandbox this machine does not have: in words.
    pub not_in_force: Vec<String>,
}

/// The host, as the daemon sees it. Clones are the same one; when the last is
/// dropped the process ends.
#[derive(Clone, Debug)]
pub struct Host {
    owner: Arc<host::Owner>,
}

impl Host {
    /// Starts the process.
    ///
    /// # Errors
    ///
    /// Says what the system refused.
    pub async fn start(
        options: HostOptions,
        services: Arc<dyn Services>,
        now: fn() -> Nanos,
    ) -> Result<Host, Fault> {
        Host::start_host(options, services, now).await
    }

    /// Compiles if it has to, loads, tries an instance and asks it what it is.
    /// What runs under `name` goes on meanwhile, and afterwards.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub async fn load(&self, name: &str, load: Load) -> Result<Loaded, Fault> {
        self.load_version(name, load).await
    }

    /// From now on calls to `name` go to `generation`; those that run end where
    /// they began. The one before is dropped when its last call has ended.
    pub fn activate(&self, name: &str, generation: Generation) {
        self.activate_version(name, generation.0);
    }

    /// Drops a generation that is not active.
    pub fn forget(&self, generation: Generation) {
        self.forget_version(generation.0);
    }

    /// From now on there is no plugin called `name`.
    pub fn unload(&self, name: &str) {
        self.unload_plugin(name);
    }

    /// Calls the active generation of `name`. A call that is in flight when the
    /// host dies is made once more: plugins change nothing, so it may.
    pub async fn call(&self, name: &str, call: &Call) -> Ended {
        self.make_call(name, call).await
    }

    /// Makes a call of a golden case to one generation, active or not. Not
    /// counted in its figures.
    pub async fn replay(&self, generation: Generation, replay: Replay) -> Ended {
        self.make_replay(generation.0, replay).await
    }

    /// How `name` does.
    #[must_use]
    pub fn figures(&self, name: &str) -> Figures {
        self.figures_of(name)
    }

    /// How the host does.
    #[must_use]
    pub fn host_figures(&self) -> HostFigures {
        self.figures_of_host()
    }

    /// The newest lines that `name` logged, oldest first, with what its failures
    /// said among them.
    #[must_use]
    pub fn log(&self, name: &str) -> Vec<(Nanos, LogLine)> {
        self.lines_of(name)
    }

    /// Ends the process and waits for it.
    pub async fn stop(&self) {
        self.stop_host().await;
    }
}

/// What the program does when it is started with the word `plugin-host`: serves
/// calls from its standard input until that ends.
#[must_use]
pub fn host_main() -> ExitCode {
    child::serve(None)
}

/// What the program does when it is started with the word `plugin-compile`:
/// compiles the component on its standard input onto its standard output.
#[must_use]
pub fn compile_main() -> ExitCode {
    compile::serve(wasm::compile)
}
