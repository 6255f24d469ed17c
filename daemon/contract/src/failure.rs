//! Why a call came to nothing: the plugin said so, or it broke a limit.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a plugin itself says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PluginError {
    /// This input is not for this plugin. Not a failure.
    NotMine(String),
    /// The input is damaged: the device's trouble, not the plugin's.
    Malformed(String),
    /// The plugin's settings are wrong; it is not called until they change.
    Config(String),
    /// Something of the host's was denied or failed; worth another try.
    Unavailable(String),
    /// Anything else.
    Internal(String),
}

impl PluginError {
    /// The word in metrics and the API.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            PluginError::NotMine(_) => "not_mine",
            PluginError::Malformed(_) => "malformed",
            PluginError::Config(_) => "config",
            PluginError::Unavailable(_) => "unavailable",
            PluginError::Internal(_) => "internal",
        }
    }

    /// What the plugin says.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            PluginError::NotMine(text)
            | PluginError::Malformed(text)
            | PluginError::Config(text)
            | PluginError::Unavailable(text)
            | PluginError::Internal(text) => text,
        }
    }
}

/// How a plugin broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    /// It ended by a trap, a panic, an exception.
    Trap,
    /// It used more processor time than it may.
    Cpu,
    /// It took longer than it may, whatever it waited for.
    Time,
    /// It wanted more memory than it may have.
    Memory,
    /// It called itself too often.
    Stack,
    /// It asked the host too often.
    HostCalls,
    /// It logged too much.
    Log,
    /// Its result is larger than allowed.
    ResultSize,
    /// Its result breaks the contract: NaN, a wrong number of labels, ...
    BadResult,
    /// It uses what it was not granted.
    NotGranted,
    /// It is no plugin of this contract: cannot be loaded.
    Load,
    /// The plugin host died during the call.
    HostDied,
    /// Too many calls wait already.
    Busy,
    /// It broke too often and is left alone for a while.
    Paused,
}

impl FaultClass {
    /// Every class.
    pub const ALL: [FaultClass; 14] = [
        FaultClass::Trap,
        FaultClass::Cpu,
        FaultClass::Time,
        FaultClass::Memory,
        FaultClass::Stack,
        FaultClass::HostCalls,
        FaultClass::Log,
        FaultClass::ResultSize,
        FaultClass::BadResult,
        FaultClass::NotGranted,
        FaultClass::Load,
        FaultClass::HostDied,
        FaultClass::Busy,
        FaultClass::Paused,
    ];

    /// The word in metrics and the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            FaultClass::Trap => "trap",
            FaultClass::Cpu => "cpu",
            FaultClass::Time => "time",
            FaultClass::Memory => "memory",
            FaultClass::Stack => "stack",
            FaultClass::HostCalls => "host_calls",
            FaultClass::Log => "log",
            FaultClass::ResultSize => "result_size",
            FaultClass::BadResult => "bad_result",
            FaultClass::NotGranted => "not_granted",
            FaultClass::Load => "load",
            FaultClass::HostDied => "host_died",
            FaultClass::Busy => "busy",
            FaultClass::Paused => "paused",
        }
    }

    /// Whether the plugin is to blame, so that it counts for its breaker.
    #[must_use]
    pub fn is_the_plugins(self) -> bool {
        !matches!(
            self,
            FaultClass::HostDied | FaultClass::Busy | FaultClass::Paused
        )
    }
}

/// A place in a plugin's source; lines and columns count from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// As the plugin's author knows it: `main.rhai`, `src/lib.rs`.
    pub file: String,
    /// The line.
    pub line: u32,
    /// The column; 0: not known.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        if self.column > 0 {
            write!(f, ":{}", self.column)?;
        }
        Ok(())
    }
}

/// How a plugin broke, with everything its author needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// How.
    pub class: FaultClass,
    /// One line: what happened, with the figures.
    pub message: String,
    /// Where in the source, if that is known.
    pub place: Option<Place>,
    /// Who called it, from the inside out: `pct() at main.rhai:8:12`.
    pub trace: Vec<String>,
    /// What to do about it, if we know.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault of which nothing more is known.
    #[must_use]
    pub fn new(class: FaultClass, message: impl Into<String>) -> Fault {
        Fault {
            class,
            message: message.into(),
            place: None,
            trace: Vec::new(),
            hint: None,
        }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(place) = &self.place {
            write!(f, " ({place})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The plugin says so.
    Said(PluginError),
    /// It broke.
    Fault(Fault),
}

impl Failure {
    /// The word in metrics and the API.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Failure::Said(error) => error.word(),
            Failure::Fault(fault) => fault.class.word(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Said(error) => write!(f, "{}: {}", error.word(), error.text()),
            Failure::Fault(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        Failure::Fault(fault)
    }
}

impl From<PluginError> for Failure {
    fn from(error: PluginError) -> Failure {
        Failure::Said(error)
    }
}
