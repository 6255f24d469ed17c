//! When a plugin that breaks too often is left alone, and when it is tried
//! again. Decides; asks no clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use contract::{Failure, PluginError};

/// So many faults...
const FAULTS: usize = 5;
/// ... in this time open the breaker.
const WINDOW: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// What a call says of the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It works, whatever it said of its input.
    Works,
    /// It broke.
    Broke,
    /// Its settings are wrong.
    Unset,
    /// Nothing: the host was to blame.
    Unknown,
}

impl Outcome {
    pub(crate) fn of(failure: Option<&Failure>) -> Outcome {
        match failure {
            None => Outcome::Works,
            Some(Failure::Said(PluginError::Config(_))) => Outcome::Unset,
            Some(Failure::Said(PluginError::Internal(_))) => Outcome::Broke,
            Some(Failure::Said(_)) => Outcome::Works,
            Some(Failure::Fault(fault)) if fault.class.is_the_plugins() => Outcome::Broke,
            Some(Failure::Fault(_)) => Outcome::Unknown,
        }
    }
}

/// Whether a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Like any other.
    Normal,
    /// The one that tries whether the plugin works again.
    Trial,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Closed,
    Open {
        until: Instant,
        trial: bool,
    },
    /// Until the plugin is loaded again.
    Unset,
}

/// One plugin's breaker.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    state: State,
    faults: VecDeque<Instant>,
    pause: Option<Duration>,
    pauses: u64,
}

impl Breaker {
    /// Whether a call may be made now, or how long it is to wait.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<Pass, Duration> {
        match &mut self.state {
            State::Closed => Ok(Pass::Normal),
            State::Unset => Err(Duration::MAX),
            State::Open { until, .. } if now < *until => Err(*until - now),
            State::Open { trial: true, .. } => Err(Duration::ZERO),
            State::Open { trial, .. } => {
                *trial = true;
                Ok(Pass::Trial)
            }
        }
    }

    /// A call ended. Calls that began before a pause change nothing in it.
    pub(crate) fn ended(&mut self, pass: Pass, outcome: Outcome, now: Instant) {
        match (outcome, pass, &self.state) {
            (Outcome::Unset, _, _) => {
                self.pauses += u64::from(!matches!(self.state, State::Unset));
                self.state = State::Unset;
            }
            (Outcome::Works, Pass::Trial, State::Open { .. }) => {
                self.state = State::Closed;
                self.faults.clear();
                self.pause = None;
            }
            (Outcome::Broke, Pass::Trial, State::Open { .. }) => self.open(now),
            (Outcome::Unknown, Pass::Trial, _) => self.gave_up(pass),
            (Outcome::Broke, Pass::Normal, State::Closed) => {
                self.faults
                    .retain(|at| now.saturating_duration_since(*at) < WINDOW);
                self.faults.push_back(now);
                if self.faults.len() >= FAULTS {
                    self.open(now);
                }
            }
            _ => {}
        }
    }

    /// Nobody waits for the call any more.
    pub(crate) fn gave_up(&mut self, pass: Pass) {
        if let (Pass::Trial, State::Open { trial, .. }) = (pass, &mut self.state) {
            *trial = false;
        }
    }

    /// Leaves the plugin alone at once, for longer than the last time.
    pub(crate) fn open(&mut self, now: Instant) {
        let pause = self
            .pause
            .map_or(FIRST_PAUSE, |last| (last * 2).min(LONGEST_PAUSE));
        self.pause = Some(pause);
        self.pauses += 1;
        self.faults.clear();
        self.state = State::Open {
            until: now + pause,
            trial: false,
        };
    }

    /// Another version or other settings: it gets another chance.
    pub(crate) fn loaded(&mut self) {
        *self = Breaker::default();
    }

    /// How much longer the plugin is left alone; [`Duration::MAX`]: until it is
    /// loaded with other settings.
    pub(crate) fn paused(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Closed => None,
            State::Unset => Some(Duration::MAX),
            State::Open { until, .. } => Some(until.saturating_duration_since(now)),
        }
    }

    /// How often it was opened since the plugin was loaded.
    pub(crate) fn pauses(&self) -> u64 {
        self.pauses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(breaker: &mut Breaker, now: Instant) {
        let pass = breaker.admit(now).unwrap();
        breaker.ended(pass, Outcome::Broke, now);
    }

    #[test]
    fn five_faults_in_a_minute_pause_a_plugin_and_four_do_not() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        (0..4).for_each(|_| broken(&mut breaker, now));
        assert_eq!(breaker.paused(now), None);
        let later = now + WINDOW;
        (0..4).for_each(|_| broken(&mut breaker, later));
        assert_eq!(breaker.paused(later), None, "the first four are forgotten");
        broken(&mut breaker, later);
        assert_eq!(breaker.paused(later), Some(FIRST_PAUSE));
        assert_eq!(breaker.admit(later), Err(FIRST_PAUSE));
    }

    #[test]
    fn after_a_pause_one_call_tries_and_a_success_closes() {
        let mut now = Instant::now();
        let mut breaker = Breaker::default();
        breaker.open(now);
        now += FIRST_PAUSE;
        assert_eq!(breaker.admit(now), Ok(Pass::Trial));
        assert_eq!(breaker.admit(now), Err(Duration::ZERO), "one at a time");
        breaker.gave_up(Pass::Trial);
        assert_eq!(breaker.admit(now), Ok(Pass::Trial));
        breaker.ended(Pass::Trial, Outcome::Unknown, now);
        assert_eq!(breaker.admit(now), Ok(Pass::Trial));
        breaker.ended(Pass::Trial, Outcome::Works, now);
        assert_eq!(breaker.admit(now), Ok(Pass::Normal));
        assert_eq!(breaker.pauses(), 1);
    }

    #[test]
    fn pauses_double_up_to_an_hour() {
        let mut now = Instant::now();
        let mut breaker = Breaker::default();
        breaker.open(now);
        let mut seen = Vec::new();
        for _ in 0..9 {
            let pause = breaker.paused(now).unwrap();
            seen.push(pause.as_secs());
            now += pause;
            assert_eq!(breaker.admit(now), Ok(Pass::Trial));
            breaker.ended(Pass::Trial, Outcome::Broke, now);
        }
        assert_eq!(seen, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
    }

    #[test]
    fn wrong_settings_pause_a_plugin_until_it_is_loaded_again() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        breaker.ended(Pass::Normal, Outcome::Unset, now);
        let far = now + Duration::from_secs(86_400);
        assert_eq!(breaker.admit(far), Err(Duration::MAX));
        breaker.loaded();
        assert_eq!(breaker.admit(far), Ok(Pass::Normal));
    }

    #[test]
    fn damaged_input_is_no_fault_of_the_plugin() {
        use contract::{Fault, FaultClass};
        let of = |failure: Failure| Outcome::of(Some(&failure));
        let said = |error| of(Failure::Said(error));
        assert_eq!(said(PluginError::Malformed(String::new())), Outcome::Works);
        assert_eq!(said(PluginError::NotMine(String::new())), Outcome::Works);
        assert_eq!(said(PluginError::Internal(String::new())), Outcome::Broke);
        assert_eq!(said(PluginError::Config(String::new())), Outcome::Unset);
        let fault = |class| of(Fault::new(class, "").into());
        assert_eq!(fault(FaultClass::HostDied), Outcome::Unknown);
        assert_eq!(fault(FaultClass::Busy), Outcome::Unknown);
        assert_eq!(fault(FaultClass::Trap), Outcome::Broke);
        assert_eq!(fault(FaultClass::BadResult), Outcome::Broke);
    }
}
