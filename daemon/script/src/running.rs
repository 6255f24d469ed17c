//! One call while it runs: its clocks, where in the script it is, and what it
//! has handed over so far.
//!
//! Rhai runs a call on the thread that asked for it, and some of its hooks are
//! told nothing of the call; so the call lies in a thread-local for as long as
//! it runs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::{
    Fault, FaultClass, HostAnswer, HostAsk, HostCalls, MetricDescriptor, Nanos, Octets, Output,
    RuleDescriptor, Session, Usage, Verdict,
};
use nix::time::{ClockId, clock_gettime};
use rhai::Position;

use crate::prelude::Response;

thread_local! {
    static CURRENT: RefCell<Option<Box<Running>>> = const { RefCell::new(None) };
}

/// A call.
pub(crate) struct Running {
    pub(crate) session: Session,
    /// The instant that the input is of.
    pub(crate) at: Nanos,
    /// `describe` runs, which may only look at the settings.
    pub(crate) describing: bool,
    pub(crate) declared: Declared,
    /// What may be emitted.
    pub(crate) metrics: Arc<MetricDescriptor>,
    pub(crate) sink: Sink,
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) state: Octets,
    /// The answer that a notifier interprets.
    pub(crate) response: Option<Response>,
    /// What ended it, other than an error of the script's own.
    pub(crate) fault: Option<Ending>,
    pub(crate) pace: Pace,
    pub(crate) trail: Trail,
}

/// A fault that no script can catch, and where it was.
pub(crate) struct Ending {
    pub(crate) fault: Fault,
    pub(crate) at: Option<(Position, usize)>,
}

/// What `describe` has declared.
pub(crate) struct Declared {
    pub(crate) metrics: MetricDescriptor,
    pub(crate) rule: RuleDescriptor,
}

impl Default for Declared {
    fn default() -> Declared {
        /// How often a rule is evaluated that does not say.
        const INTERVAL_S: u32 = 60;
        Declared {
            metrics: MetricDescriptor::default(),
            rule: RuleDescriptor {
                interval_s: INTERVAL_S,
                ..RuleDescriptor::default()
            },
        }
    }
}

/// What a parser or poller has read, and how to find a row again.
#[derive(Default)]
pub(crate) struct Sink {
    pub(crate) output: Output,
    rows: HashMap<(Vec<String>, Vec<String>), usize>,
    pub(crate) values: usize,
    pub(crate) bytes: u64,
}

impl Sink {
    /// The row with these labels; a new one if there is none.
    pub(crate) fn row(&mut self, names: &[String], labels: Vec<String>) -> &mut contract::Row {
        let rows = &mut self.output.rows;
        let key = (names.to_vec(), labels);
        let place = self.rows.get(&key).copied().unwrap_or_else(|| {
            rows.push(contract::Row {
                labels: key.1.clone(),
                values: Vec::new(),
            });
            self.rows.insert(key, rows.len() - 1);
            rows.len() - 1
        });
        &mut rows[place]
    }
}

/// How fast a call uses up what it may.
pub(crate) struct Pace {
    started: Instant,
    cpu_started: Duration,
    cpu: Duration,
    wall: Duration,
    operations: u64,
    cpu_looked: Instant,
}

/// How many operations pass between two looks at the clock.
const STRIDE: u64 = 32;
/// How much time passes between two looks at the processor time, which costs a
/// system call.
const CPU_STRIDE: Duration = Duration::from_millis(1);

impl Pace {
    fn new(limits: &contract::Limits) -> Pace {
        let now = Instant::now();
        Pace {
            started: now,
            cpu_started: thread_cpu(),
            cpu: Duration::from_millis(limits.cpu_ms.into()),
            wall: Duration::from_millis(limits.wall_ms.into()),
            operations: limits.operations,
            cpu_looked: now,
        }
    }

    fn over(&mut self, operations: u64) -> Option<Fault> {
        if operations > self.operations {
            let message = format!(
                "it took more than {} operations in one call",
                self.operations
            );
            return Some(Fault::new(FaultClass::Cpu, message));
        }
        if operations.is_multiple_of(STRIDE) {
            return self.late();
        }
        None
    }

    /// Whether a limit of time is reached. A call cannot have used more
    /// processor time than time.
    fn late(&mut self) -> Option<Fault> {
        let now = Instant::now();
        let wall = now - self.started;
        if wall > self.wall {
            let message = format!("it took longer than {} ms", self.wall.as_millis());
            return Some(Fault::new(FaultClass::Time, message));
        }
        if wall <= self.cpu || now - self.cpu_looked < CPU_STRIDE {
            return None;
        }
        self.cpu_looked = now;
        if thread_cpu().saturating_sub(self.cpu_started) <= self.cpu {
            return None;
        }
        let message = format!(
            "it used more than {} ms of processor time",
            self.cpu.as_millis()
        );
        Some(Fault::new(FaultClass::Cpu, message))
    }

    pub(crate) fn usage(&self) -> Usage {
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Usage {
            cpu_ns: nanos(thread_cpu().saturating_sub(self.cpu_started)),
            wall_ns: nanos(self.started.elapsed()),
            memory: 0,
        }
    }
}

fn thread_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Where each function that is being called is, if the engine traces: Rhai
/// forgets it when a limit ends the call.
#[derive(Default)]
pub(crate) struct Trail {
    levels: Vec<Position>,
    level: usize,
}

impl Trail {
    fn step(&mut self, level: usize, at: Position) {
        if self.levels.len() <= level {
            self.levels.resize(level + 1, Position::NONE);
        }
        self.level = level;
        if !at.is_none() {
            self.levels[level] = at;
        }
    }

    /// From the inside out.
    pub(crate) fn from(&self, level: usize) -> impl Iterator<Item = Position> + '_ {
        let end = (level + 1).min(self.levels.len());
        self.levels[..end]
            .iter()
            .rev()
            .copied()
            .filter(|at| !at.is_none())
    }

    pub(crate) fn level(&self) -> usize {
        self.level
    }
}

impl Running {
    pub(crate) fn new(session: Session) -> Running {
        Running {
            at: session.now(),
            pace: Pace::new(session.limits()),
            session,
            describing: false,
            declared: Declared::default(),
            metrics: Arc::default(),
            sink: Sink::default(),
            verdicts: Vec::new(),
            state: Octets::default(),
            response: None,
            fault: None,
            trail: Trail::default(),
        }
    }
}

impl Running {
    /// The same call once more, to see where it ends: with a quarter of the
    /// time, and a host that knows nothing, which the call was to be asked for
    /// by then.
    pub(crate) fn again(&self) -> Running {
        let session = &self.session;
        let mut limits = session.limits().clone();
        limits.cpu_ms = (limits.cpu_ms / 4).max(1);
        limits.wall_ms = limits.wall_ms.min(limits.cpu_ms);
        let (grants, settings) = (session.grants().clone(), session.settings().clone());
        let host = Arc::new(Ignorant);
        let session = Session::new(session.now(), limits, grants, Arc::new(settings), host);
        Running {
            at: self.at,
            describing: self.describing,
            metrics: Arc::clone(&self.metrics),
            response: self.response.clone(),
            ..Running::new(session)
        }
    }
}

/// Knows nothing.
struct Ignorant;

impl HostCalls for Ignorant {
    fn ask(&self, ask: HostAsk) -> Result<HostAnswer, Fault> {
        Ok(match ask {
            HostAsk::KvGet(_) => HostAnswer::Value(None),
            HostAsk::KvKeys { .. } => HostAnswer::Keys(Vec::new()),
            HostAsk::Device(_) => HostAnswer::Device(None),
            HostAsk::Fact { .. } => HostAnswer::Fact(None),
            HostAsk::Links(_) => HostAnswer::Links(Vec::new()),
            HostAsk::Query { .. } => HostAnswer::Series(Ok(Vec::new())),
        })
    }
}

/// Runs `call` with `running` as this thread's call. A panic of the engine ends
/// the call and nothing else: `None`.
pub(crate) fn with<T>(
    running: Box<Running>,
    call: impl FnOnce() -> T,
) -> Option<(Option<T>, Box<Running>)> {
    CURRENT.with_borrow_mut(|current| *current = Some(running));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
    let running = CURRENT.with_borrow_mut(Option::take)?;
    Some((result.ok(), running))
}

/// Looks at or changes this thread's call; `None`: there is none.
pub(crate) fn current<T>(look: impl FnOnce(&mut Running) -> T) -> Option<T> {
    CURRENT.with_borrow_mut(|current| current.as_mut().map(|running| look(running)))
}

/// Counts an operation; whether it was the last one.
pub(crate) fn is_over(operations: u64) -> bool {
    current(|running| {
        if running.fault.is_none() {
            let fault = running.pace.over(operations);
            running.fault = fault.map(|fault| Ending { fault, at: None });
        }
        running.fault.is_some()
    })
    .unwrap_or(false)
}

/// Notes where the call is.
pub(crate) fn step(level: usize, at: Position) {
    current(|running| running.trail.step(level, at));
}

/// Notes that the call is back from a function of this level.
pub(crate) fn left(level: usize) {
    current(|running| running.trail.level = level.saturating_sub(1));
}
