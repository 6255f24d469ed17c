//! The one word for how a device is.

/// How a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// It answers.
    Up,
    /// It answers, and something is wrong with it: an alert fires.
    Problem,
    /// It does not answer, and a rule says that it should.
    Down,
    /// It does not answer, and neither does anything that leads to it.
    Unreachable {
        /// Names of the down devices that cut it off.
        behind: Vec<String>,
    },
    /// Not asked yet, or we could not ask.
    Unknown,
    /// Not asked: an operator said so.
    Disabled,
}

impl DeviceState {
    /// The word used in the API.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            DeviceState::Up => "up",
            DeviceState::Problem => "problem",
            DeviceState::Down => "down",
            DeviceState::Unreachable { .. } => "unreachable",
            DeviceState::Unknown => "unknown",
            DeviceState::Disabled => "disabled",
        }
    }
}
