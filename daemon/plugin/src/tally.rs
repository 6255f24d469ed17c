//! What is known of one plugin's calls: figures, and the newest log lines.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use contract::{Ended, Failure, LogLevel, LogLine, Nanos, PluginError};

use crate::Figures;
use crate::breaker::Breaker;

/// Calls over which durations are told.
const LAST_CALLS: usize = 1_024;
/// Log lines that are kept.
const LINES: usize = 200;
/// Log lines of a minute; more are dropped and counted.
const LINES_A_MINUTE: u32 = 1_000;
const MINUTE: Duration = Duration::from_secs(60);

/// One plugin's figures.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    calls: u64,
    failures: BTreeMap<&'static str, u64>,
    durations: VecDeque<Duration>,
    cpu: Duration,
    memory: u64,
    last_failure: Option<(Nanos, Failure)>,
    log: VecDeque<(Nanos, LogLine)>,
    minute: Option<Instant>,
    in_minute: u32,
    dropped: u64,
}

impl Tally {
    /// Counts a call, and takes its log lines.
    pub(crate) fn count(&mut self, ended: &mut Ended, now: Instant, at: Nanos) {
        self.calls += 1;
        self.cpu += Duration::from_nanos(ended.usage.cpu_ns);
        self.memory = self.memory.max(ended.usage.memory);
        if self.durations.len() == LAST_CALLS {
            self.durations.pop_front();
        }
        self.durations
            .push_back(Duration::from_nanos(ended.usage.wall_ns));
        for line in std::mem::take(&mut ended.log) {
            self.log(line, now, at);
        }
        if let Err(failure) = &ended.result {
            self.failed(failure, now, at);
        }
    }

    fn failed(&mut self, failure: &Failure, now: Instant, at: Nanos) {
        if matches!(failure, Failure::Said(PluginError::NotMine(_))) {
            return;
        }
        *self.failures.entry(failure.word()).or_default() += 1;
        self.last_failure = Some((at, failure.clone()));
        let line = LogLine {
            level: LogLevel::Error,
            message: failure.to_string(),
            fields: vec![("failure".to_owned(), failure.word().to_owned())],
        };
        self.log(line, now, at);
    }

    /// Counts a call that was not made.
    pub(crate) fn refused(&mut self, failure: &Failure) {
        *self.failures.entry(failure.word()).or_default() += 1;
    }

    /// Takes a log line, unless there were too many.
    pub(crate) fn log(&mut self, line: LogLine, now: Instant, at: Nanos) {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= MINUTE;
        if self.minute.is_none_or(is_over) {
            self.minute = Some(now);
            self.in_minute = 0;
            let dropped = std::mem::take(&mut self.dropped);
            if dropped > 0 {
                let message = format!("{dropped} more lines were dropped");
                self.keep(at, LogLevel::Warn, message);
            }
        }
        self.in_minute += 1;
        if self.in_minute > LINES_A_MINUTE {
            self.dropped += 1;
            return;
        }
        self.push(at, line);
    }

    fn keep(&mut self, at: Nanos, level: LogLevel, message: String) {
        let fields = Vec::new();
        self.push(
            at,
            LogLine {
                level,
                message,
                fields,
            },
        );
    }

    fn push(&mut self, at: Nanos, line: LogLine) {
        if self.log.len() == LINES {
            self.log.pop_front();
        }
        self.log.push_back((at, line));
    }

    /// The newest lines, oldest first.
    pub(crate) fn lines(&self) -> Vec<(Nanos, LogLine)> {
        self.log.iter().cloned().collect()
    }

    /// The figures.
    pub(crate) fn figures(&self, breaker: &Breaker, now: Instant) -> Figures {
        let mut durations: Vec<Duration> = self.durations.iter().copied().collect();
        durations.sort_unstable();
        let of_hundred = |part: usize| {
            let place = (durations.len() * part / 100).min(durations.len().saturating_sub(1));
            durations.get(place).copied().unwrap_or_default()
        };
        Figures {
            calls: self.calls,
            failures: self.failures.iter().map(|(word, n)| (*word, *n)).collect(),
            p50: of_hundred(50),
            p99: of_hundred(99),
            cpu: self.cpu,
            memory: self.memory,
            paused: breaker.paused(now),
            pauses: breaker.pauses(),
            last_failure: self.last_failure.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{Reply, Usage};

    fn ended(wall_ms: u64, lines: usize) -> Ended {
        let line = LogLine {
            level: LogLevel::Info,
            message: "hello".to_owned(),
            fields: Vec::new(),
        };
        Ended {
            result: Ok(Reply::Nothing),
            log: vec![line; lines],
            kv: Vec::new(),
            usage: Usage {
                cpu_ns: 1_000,
                wall_ns: wall_ms * 1_000_000,
                memory: wall_ms,
            },
        }
    }

    #[test]
    fn figures_tell_of_the_last_calls() {
        let now = Instant::now();
        let mut tally = Tally::default();
        (1..=100).for_each(|ms| tally.count(&mut ended(ms, 0), now, Nanos(0)));
        let figures = tally.figures(&Breaker::default(), now);
        assert_eq!(figures.calls, 100);
        assert_eq!(figures.p50.as_millis(), 51);
        assert_eq!(figures.p99.as_millis(), 100);
        assert_eq!(figures.memory, 100);
        assert_eq!(figures.cpu, Duration::from_micros(100));
        (0..LAST_CALLS).for_each(|_| tally.count(&mut ended(1, 0), now, Nanos(0)));
        assert_eq!(tally.figures(&Breaker::default(), now).p99.as_millis(), 1);
    }

    #[test]
    fn a_flood_of_lines_is_dropped_and_counted() {
        let now = Instant::now();
        let mut tally = Tally::default();
        (0..11).for_each(|_| tally.count(&mut ended(1, 100), now, Nanos(0)));
        assert_eq!(tally.lines().len(), LINES);
        tally.count(&mut ended(1, 1), now + MINUTE, Nanos(1));
        let lines = tally.lines();
        assert_eq!(lines[LINES - 2].1.message, "100 more lines were dropped");
        assert_eq!(lines[LINES - 1].1.message, "hello");
    }

    #[test]
    fn input_that_is_not_for_it_is_no_failure() {
        let now = Instant::now();
        let mut tally = Tally::default();
        let mut not_mine = ended(1, 0);
        not_mine.result = Err(PluginError::NotMine("x".to_owned()).into());
        tally.count(&mut not_mine, now, Nanos(0));
        let mut internal = ended(1, 0);
        internal.result = Err(PluginError::Internal("boom".to_owned()).into());
        tally.count(&mut internal, now, Nanos(0));
        let figures = tally.figures(&Breaker::default(), now);
        assert_eq!(figures.failures, [("internal", 1)]);
        assert!(tally.lines()[0].1.message.contains("boom"));
    }
}
