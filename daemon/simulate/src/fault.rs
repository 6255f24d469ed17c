//! What can go wrong with a device on command, and what it does to the device.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use model::Timestamp;

use crate::traffic::{Active, Standing};

/// One thing that goes wrong with one device.
///
/// Most faults stand until they are cleared. [`Fault::Reboot`],
/// [`Fault::Reindex`], [`Fault::Wrap`] and [`Fault::ClearCounters`] are events:
/// they happen once, and clearing does not undo them.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Answers nothing at all: neither SNMP nor ICMP.
    Down,
    /// Answers ICMP, but not SNMP.
    Silent,
    /// Every answer, also to ICMP, comes so much later.
    Slow(Duration),
    /// This share of the answers, also to ICMP, is lost; 0 to 1.
    Lossy(f64),
    /// Restarts: uptime and all counters begin again.
    Reboot {
        /// Answers nothing for so long, and is up from then on.
        away: Duration,
        /// Comes back with other ifIndexes, as [`Fault::Reindex`] does.
        reindex: bool,
    },
    /// Counters jump to 15 seconds of traffic before their end, as a known
    /// discontinuity, and wrap then as counters do.
    Wrap(WrapWidth),
    /// The counters of one interface begin again, and
    /// ifCounterDiscontinuityTime says so.
    ClearCounters {
        /// Its ifName or ifDescr.
        interface: String,
    },
    /// Every interface gets another's ifIndex; ifNames stay.
    Reindex,
    /// Answers tooBig to whatever would take more varbinds than this.
    TooBig(usize),
    /// Answers are random bytes.
    Garbage,
    /// Answers are cut in the middle.
    Truncated,
    /// Walks of interface columns go round in a circle.
    NotIncreasing,
    /// Interface columns never end.
    Endless,
    /// Answers carry another request-id than the request.
    WrongId,
    /// Has no 64-bit counters.
    NoHighCapacity,
    /// Answers this community only.
    Community(Vec<u8>),
    /// The interface goes down and stays down; its counters stand still.
    InterfaceDown {
        /// Its ifName or ifDescr.
        interface: String,
    },
    /// The interface comes up, also one that was never up before.
    InterfaceUp {
        /// Its ifName or ifDescr.
        interface: String,
    },
}

/// Which counters [`Fault::Wrap`] brings to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrapWidth {
    /// 32-bit octet counters.
    Bits32,
    /// 32-bit and 64-bit octet counters.
    Bits64,
}

/// Why a fault could not be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// No device of the site has this name or address.
    #[error("no simulated device is called {0:?}; `list` names them all")]
    NoSuchDevice(String),
    /// The device has no such interface.
    #[error("{device} has no interface called {interface:?}; it has {known}")]
    NoSuchInterface {
        /// The device's name.
        device: String,
        /// What was asked for.
        interface: String,
        /// Some of the interfaces that it has.
        known: String,
    },
    /// A recording has no life of its own.
    #[error("{device} replays a recording, which cannot do {fault:?}")]
    Recorded {
        /// The device's name.
        device: String,
        /// The fault's word.
        fault: &'static str,
    },
    /// A number is out of its range.
    #[error("{0}")]
    OutOfRange(&'static str),
}

/// Why words do not name a fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultWordsError {
    /// No such word.
    #[error("there is no fault {word:?}; the faults are {}", known_words())]
    Unknown {
        /// What was written.
        word: String,
    },
    /// What stands behind the word is missing or wrong.
    #[error("expected `{usage}`")]
    Usage {
        /// How it is written.
        usage: &'static str,
    },
}

/// How each fault is written; the device stands behind the first word.
const USAGE: &[(&str, &str)] = &[
    ("down", "down DEVICE"),
    ("silent", "silent DEVICE"),
    ("slow", "slow DEVICE 500ms"),
    ("lossy", "lossy DEVICE 20%"),
    ("reboot", "reboot DEVICE [20s] [reindex]"),
    ("wrap", "wrap DEVICE [32|64]"),
    ("clear-counters", "clear-counters DEVICE INTERFACE"),
    ("reindex", "reindex DEVICE"),
    ("too-big", "too-big DEVICE VARBINDS"),
    ("garbage", "garbage DEVICE"),
    ("truncated", "truncated DEVICE"),
    ("not-increasing", "not-increasing DEVICE"),
    ("endless", "endless DEVICE"),
    ("wrong-id", "wrong-id DEVICE"),
    ("no-hc", "no-hc DEVICE"),
    ("community", "community DEVICE WORD"),
    ("if-down", "if-down DEVICE INTERFACE"),
    ("if-up", "if-up DEVICE INTERFACE"),
];

fn known_words() -> String {
    let words: Vec<&str> = USAGE.iter().map(|(word, _)| *word).collect();
    words.join(", ")
}

impl Fault {
    /// The fault that people write as `word`, with `arguments` behind the
    /// device: `slow` with `["500ms"]`.
    ///
    /// # Errors
    ///
    /// [`FaultWordsError`] says how it is written.
    pub fn from_words(word: &str, arguments: &[&str]) -> Result<Fault, FaultWordsError> {
        let Some((_, usage)) = USAGE.iter().find(|(known, _)| *known == word) else {
            return Err(FaultWordsError::Unknown {
                word: word.chars().take(40).collect(),
            });
        };
        let fault = match arguments {
            [] => Fault::alone(word),
            [argument] => Fault::with_argument(word, argument),
            [away, "reindex"] if word == "reboot" => seconds(away).map(|away| Fault::Reboot {
                away,
                reindex: true,
            }),
            _ => None,
        };
        fault.ok_or(FaultWordsError::Usage { usage })
    }

    fn alone(word: &str) -> Option<Fault> {
        Some(match word {
            "down" => Fault::Down,
            "silent" => Fault::Silent,
            "reboot" => Fault::Reboot {
                away: Duration::ZERO,
                reindex: false,
            },
            "wrap" => Fault::Wrap(WrapWidth::Bits64),
            "reindex" => Fault::Reindex,
            "garbage" => Fault::Garbage,
            "truncated" => Fault::Truncated,
            "not-increasing" => Fault::NotIncreasing,
            "endless" => Fault::Endless,
            "wrong-id" => Fault::WrongId,
            "no-hc" => Fault::NoHighCapacity,
            _ => return None,
        })
    }

    fn with_argument(word: &str, argument: &str) -> Option<Fault> {
        let interface = || argument.to_owned();
        Some(match (word, argument) {
            ("slow", _) => Fault::Slow(seconds(argument)?),
            ("lossy", _) => Fault::Lossy(share(argument)?),
            ("reboot", "reindex") => Fault::Reboot {
                away: Duration::ZERO,
                reindex: true,
            },
            ("reboot", _) => Fault::Reboot {
                away: seconds(argument)?,
                reindex: false,
            },
            ("wrap", "32") => Fault::Wrap(WrapWidth::Bits32),
            ("wrap", "64") => Fault::Wrap(WrapWidth::Bits64),
            ("clear-counters", _) => Fault::ClearCounters {
                interface: interface(),
            },
            ("too-big", _) => Fault::TooBig(argument.parse().ok()?),
            ("community", _) => Fault::Community(argument.as_bytes().to_vec()),
            ("if-down", _) => Fault::InterfaceDown {
                interface: interface(),
            },
            ("if-up", _) => Fault::InterfaceUp {
                interface: interface(),
            },
            _ => return None,
        })
    }

    /// The word that people write.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Fault::Down => "down",
            Fault::Silent => "silent",
            Fault::Slow(_) => "slow",
            Fault::Lossy(_) => "lossy",
            Fault::Reboot { .. } => "reboot",
            Fault::Wrap(_) => "wrap",
            Fault::ClearCounters { .. } => "clear-counters",
            Fault::Reindex => "reindex",
            Fault::TooBig(_) => "too-big",
            Fault::Garbage => "garbage",
            Fault::Truncated => "truncated",
            Fault::NotIncreasing => "not-increasing",
            Fault::Endless => "endless",
            Fault::WrongId => "wrong-id",
            Fault::NoHighCapacity => "no-hc",
            Fault::Community(_) => "community",
            Fault::InterfaceDown { .. } => "if-down",
            Fault::InterfaceUp { .. } => "if-up",
        }
    }

    /// The interface that it is about.
    pub(crate) fn interface(&self) -> Option<&str> {
        match self {
            Fault::ClearCounters { interface }
            | Fault::InterfaceDown { interface }
            | Fault::InterfaceUp { interface } => Some(interface),
            _ => None,
        }
    }

    /// Whether a device without interfaces and time can have it.
    pub(crate) fn suits_recording(&self) -> bool {
        matches!(
            self,
            Fault::Down
                | Fault::Silent
                | Fault::Slow(_)
                | Fault::Lossy(_)
                | Fault::TooBig(_)
                | Fault::Garbage
                | Fault::Truncated
                | Fault::WrongId
                | Fault::Community(_)
        )
    }

    pub(crate) fn check(&self) -> Result<(), FaultError> {
        match self {
            Fault::Lossy(share) if !(0.0..=1.0).contains(share) => Err(FaultError::OutOfRange(
                "the share of lost answers must lie between 0 and 1",
            )),
            Fault::Slow(span) | Fault::Reboot { away: span, .. } if *span > LONGEST => Err(
                FaultError::OutOfRange("no device is slower or away for longer than an hour"),
            ),
            _ => Ok(()),
        }
    }
}

/// Slower answers would only fill memory.
const LONGEST: Duration = Duration::from_secs(3_600);

/// A time as people write it: `500ms`, `2s`, `1m`.
fn seconds(text: &str) -> Option<Duration> {
    let (number, ms) = if let Some(number) = text.strip_suffix("ms") {
        (number, 1)
    } else if let Some(number) = text.strip_suffix('s') {
        (number, 1_000)
    } else {
        (text.strip_suffix('m')?, 60_000)
    };
    let number: u64 = number.parse().ok()?;
    Some(Duration::from_millis(number.checked_mul(ms)?))
}

/// A share as people write it: `20%` or `0.2`.
fn share(text: &str) -> Option<f64> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().ok()? / 100.0,
        None => text.parse().ok()?,
    };
    (0.0..=1.0).contains(&share).then_some(share)
}

/// What became of one interface that somebody touched.
///
/// Its counters go by a clock of its own, which stands still while it is down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PortChange {
    /// The clock's reading when its counters were 0.
    from_ms: u64,
    /// How far the clock is behind.
    behind_ms: u64,
    /// Since when it is down by command.
    down_since: Option<Timestamp>,
    /// It is up by command.
    raised: bool,
    /// When its state last changed.
    changed: Timestamp,
    /// When its counters last lost continuity, if since the device started.
    pub(crate) discontinuity: Option<Timestamp>,
}

impl PortChange {
    fn clock_ms(&self, now: Timestamp) -> u64 {
        let at = self.down_since.map_or(now, |since| since.min(now));
        at.0.saturating_sub(self.behind_ms)
    }

    fn begin_again(&mut self, now: Timestamp) {
        self.from_ms = self.clock_ms(now);
    }

    fn lower(&mut self, now: Timestamp) {
        if self.down_since.is_none() {
            self.down_since = Some(now);
            self.raised = false;
            self.changed = now;
        }
    }

    fn raise(&mut self, now: Timestamp, never_was_up: bool) {
        if let Some(since) = self.down_since.take() {
            let away_ms = now.0.saturating_sub(since.0);
            self.behind_ms = self.behind_ms.saturating_add(away_ms);
            self.changed = now;
        } else if never_was_up && !self.raised {
            self.begin_again(now);
            self.changed = now;
        }
        self.raised = true;
    }
}

/// How a device is, beyond what its seed says.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    /// It answers nothing before this, and its uptime counts from it.
    pub(crate) boot: Timestamp,
    pub(crate) down: bool,
    pub(crate) silent: bool,
    pub(crate) slow: Duration,
    pub(crate) loss: f64,
    pub(crate) too_big: Option<usize>,
    pub(crate) garbage: bool,
    pub(crate) truncated: bool,
    pub(crate) not_increasing: bool,
    pub(crate) endless: bool,
    pub(crate) wrong_id: bool,
    pub(crate) no_high_capacity: bool,
    pub(crate) community: Option<Box<[u8]>>,
    /// How often ifIndexes were given anew.
    pub(crate) reindexed: u32,
    /// When counters jumped towards their end.
    pub(crate) wrapped: Option<(Timestamp, WrapWidth)>,
    /// Interfaces that somebody touched.
    ports: BTreeMap<u32, PortChange>,
}

impl Condition {
    /// A device without faults that is up since `boot`.
    pub(crate) fn new(boot: Timestamp) -> Condition {
        Condition {
            boot,
            down: false,
            silent: false,
            slow: Duration::ZERO,
            loss: 0.0,
            too_big: None,
            garbage: false,
            truncated: false,
            not_increasing: false,
            endless: false,
            wrong_id: false,
            no_high_capacity: false,
            community: None,
            reindexed: 0,
            wrapped: None,
            ports: BTreeMap::new(),
        }
    }

    /// Whether nothing comes back, whatever is asked.
    pub(crate) fn is_gone(&self, now: Timestamp) -> bool {
        self.down || now < self.boot
    }

    /// Makes `fault` happen; `port` is the number of the interface that it
    /// names and how that stands by nature.
    pub(crate) fn set(&mut self, fault: &Fault, port: Option<(u32, Standing)>, now: Timestamp) {
        match fault {
            Fault::Down => self.down = true,
            Fault::Silent => self.silent = true,
            Fault::Slow(span) => self.slow = *span,
            Fault::Lossy(share) => self.loss = *share,
            Fault::Reboot { away, reindex } => self.reboot(now.plus(*away), *reindex),
            Fault::Wrap(width) => self.wrapped = Some((now, *width)),
            Fault::Reindex => self.reindexed += 1,
            Fault::TooBig(varbinds) => self.too_big = Some(*varbinds),
            Fault::Garbage => self.garbage = true,
            Fault::Truncated => self.truncated = true,
            Fault::NotIncreasing => self.not_increasing = true,
            Fault::Endless => self.endless = true,
            Fault::WrongId => self.wrong_id = true,
            Fault::NoHighCapacity => self.no_high_capacity = true,
            Fault::Community(community) => self.community = Some(community.as_slice().into()),
            Fault::ClearCounters { .. }
            | Fault::InterfaceDown { .. }
            | Fault::InterfaceUp { .. } => {
                if let Some((port, standing)) = port {
                    self.touch(fault, port, standing, now);
                }
            }
        }
    }

    fn touch(&mut self, fault: &Fault, port: u32, standing: Standing, now: Timestamp) {
        let boot = self.boot;
        let change = self.ports.entry(port).or_insert(PortChange {
            from_ms: boot.0,
            behind_ms: 0,
            down_since: None,
            raised: false,
            changed: boot,
            discontinuity: None,
        });
        match fault {
            Fault::InterfaceDown { .. } => change.lower(now),
            Fault::InterfaceUp { .. } => change.raise(now, standing != Standing::Up),
            _ => {
                change.begin_again(now);
                change.discontinuity = Some(now);
            }
        }
    }

    fn reboot(&mut self, up_at: Timestamp, reindex: bool) {
        self.boot = up_at;
        self.wrapped = None;
        self.reindexed += u32::from(reindex);
        for change in self.ports.values_mut() {
            if let Some(since) = &mut change.down_since {
                *since = up_at;
            }
            change.begin_again(up_at);
            change.discontinuity = None;
            change.changed = up_at;
        }
    }

    /// Ends the standing faults; what happened stays so.
    pub(crate) fn clear(&mut self, now: Timestamp) {
        let mut healthy = Condition::new(self.boot);
        healthy.reindexed = self.reindexed;
        healthy.wrapped = self.wrapped;
        healthy.ports = std::mem::take(&mut self.ports);
        for change in healthy.ports.values_mut() {
            if change.down_since.is_some() {
                change.raise(now, false);
                change.raised = false;
            }
        }
        *self = healthy;
    }

    /// How the interface called `port` stands, if by nature it is `standing`.
    pub(crate) fn standing(&self, port: u32, standing: Standing) -> Standing {
        match self.ports.get(&port) {
            Some(change) if change.down_since.is_some() => Standing::Unplugged,
            Some(change) if change.raised => Standing::Up,
            _ => standing,
        }
    }

    /// When it counts, as its own clock shows it.
    pub(crate) fn active(&self, port: u32, standing: Standing, now: Timestamp) -> Active {
        let change = self.ports.get(&port);
        if standing != Standing::Up && !change.is_some_and(|change| change.raised) {
            return Active {
                from_ms: 0,
                until_ms: 0,
            };
        }
        match change {
            Some(change) => Active {
                from_ms: change.from_ms,
                until_ms: change.clock_ms(now),
            },
            None => Active {
                from_ms: self.boot.0,
                until_ms: now.0,
            },
        }
    }

    pub(crate) fn changed(&self, port: u32) -> Timestamp {
        self.ports
            .get(&port)
            .map_or(self.boot, |change| change.changed)
    }

    /// When the counters of `port` last lost continuity, if since the start.
    pub(crate) fn discontinuity(&self, port: u32) -> Option<Timestamp> {
        let cleared = self
            .ports
            .get(&port)
            .and_then(|change| change.discontinuity);
        cleared.max(self.wrapped.map(|(at, _)| at))
    }
}

impl fmt::Display for Condition {
    /// The standing faults in the words that people write, or `ok`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        let flags = [
            (self.down, "down"),
            (self.silent, "silent"),
            (self.garbage, "garbage"),
            (self.truncated, "truncated"),
            (self.not_increasing, "not-increasing"),
            (self.endless, "endless"),
            (self.wrong_id, "wrong-id"),
            (self.no_high_capacity, "no-hc"),
            (self.community.is_some(), "community"),
        ];
        let set = flags.iter().filter(|(set, _)| *set);
        words.extend(set.map(|(_, word)| (*word).to_owned()));
        if !self.slow.is_zero() {
            words.push(format!("slow {}ms", self.slow.as_millis()));
        }
        if self.loss > 0.0 {
            words.push(format!("lossy {}%", self.loss * 100.0));
        }
        if let Some(varbinds) = self.too_big {
            words.push(format!("too-big {varbinds}"));
        }
        let lowered = self.ports.values().filter(|port| port.down_since.is_some());
        let lowered = lowered.count();
        if lowered > 0 {
            words.push(format!("if-down ({lowered})"));
        }
        if words.is_empty() {
            words.push("ok".to_owned());
        }
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: Timestamp = Timestamp(1_000_000);

    fn at(seconds: u64) -> Timestamp {
        BOOT.plus(Duration::from_secs(seconds))
    }

    fn span(condition: &Condition, now: Timestamp) -> u64 {
        let active = condition.active(3, Standing::Up, now);
        (active.until_ms - active.from_ms) / 1_000
    }

    fn interface() -> String {
        "Gi1/0/3".to_owned()
    }

    #[test]
    fn faults_are_read_as_they_are_written() {
        let slow = Fault::Slow(Duration::from_millis(500));
        let away = Fault::Reboot {
            away: Duration::from_secs(20),
            reindex: true,
        };
        for (words, fault) in [
            (&["down"][..], Fault::Down),
            (&["slow", "500ms"], slow),
            (&["lossy", "20%"], Fault::Lossy(0.2)),
            (&["lossy", "0.5"], Fault::Lossy(0.5)),
            (&["reboot", "20s", "reindex"], away),
            (&["wrap", "32"], Fault::Wrap(WrapWidth::Bits32)),
            (&["too-big", "10"], Fault::TooBig(10)),
        ] {
            assert_eq!(Fault::from_words(words[0], &words[1..]), Ok(fault.clone()));
            assert_eq!(fault.word(), words[0]);
        }
    }

    #[test]
    fn a_wrong_word_is_answered_with_how_it_is_written() {
        for (words, message) in [
            (&["slow"][..], "expected `slow DEVICE 500ms`"),
            (&["slow", "fast"], "expected `slow DEVICE 500ms`"),
            (&["lossy", "120%"], "expected `lossy DEVICE 20%`"),
            (&["down", "now"], "expected `down DEVICE`"),
            (&["wrap", "16"], "expected `wrap DEVICE [32|64]`"),
        ] {
            let error = Fault::from_words(words[0], &words[1..]).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
        let error = Fault::from_words("explode", &[]).unwrap_err().to_string();
        assert!(error.starts_with("there is no fault \"explode\"; the faults are down, silent"));
    }

    #[test]
    fn counters_stand_still_while_an_interface_is_down_and_go_on_after() {
        let mut condition = Condition::new(BOOT);
        let port = Some((3, Standing::Up));
        let down = Fault::InterfaceDown {
            interface: interface(),
        };
        condition.set(&down, port, at(100));
        assert_eq!(span(&condition, at(150)), 100);
        assert_eq!(condition.standing(3, Standing::Up), Standing::Unplugged);

        condition.set(
            &Fault::InterfaceUp {
                interface: interface(),
            },
            port,
            at(200),
        );
        assert_eq!(span(&condition, at(210)), 110);
        assert_eq!(condition.changed(3), at(200));
    }

    #[test]
    fn clearing_counters_is_a_discontinuity_of_that_interface_alone() {
        let mut condition = Condition::new(BOOT);
        let cleared = Fault::ClearCounters {
            interface: interface(),
        };
        condition.set(&cleared, Some((3, Standing::Up)), at(100));
        assert_eq!(span(&condition, at(130)), 30);
        assert_eq!(condition.discontinuity(3), Some(at(100)));
        assert_eq!(condition.discontinuity(4), None);
    }

    #[test]
    fn a_reboot_begins_again_also_for_an_interface_that_is_down() {
        let mut condition = Condition::new(BOOT);
        let port = Some((3, Standing::Up));
        let down = Fault::InterfaceDown {
            interface: interface(),
        };
        condition.set(&down, port, at(100));
        let reboot = Fault::Reboot {
            away: Duration::from_secs(10),
            reindex: false,
        };
        condition.set(&reboot, None, at(190));
        assert!(condition.is_gone(at(199)) && !condition.is_gone(at(200)));
        assert_eq!(span(&condition, at(250)), 0);

        condition.clear(at(300));
        assert_eq!(span(&condition, at(310)), 10);
    }

    #[test]
    fn an_interface_that_never_was_up_counts_from_when_it_is_raised() {
        let mut condition = Condition::new(BOOT);
        let up = Fault::InterfaceUp {
            interface: interface(),
        };
        condition.set(&up, Some((3, Standing::Unplugged)), at(50));
        let active = condition.active(3, Standing::Unplugged, at(60));
        assert_eq!(active.until_ms - active.from_ms, 10_000);
        assert_eq!(condition.standing(3, Standing::Unplugged), Standing::Up);
    }

    #[test]
    fn clearing_ends_what_stands_and_keeps_what_happened() {
        let mut condition = Condition::new(BOOT);
        for fault in [Fault::Down, Fault::Garbage, Fault::Reindex] {
            condition.set(&fault, None, at(1));
        }
        assert_eq!(condition.to_string(), "down, garbage");
        condition.clear(at(2));
        assert_eq!(condition.to_string(), "ok");
        assert_eq!(condition.reindexed, 1);
    }
}
