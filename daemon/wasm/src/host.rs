//! What a guest finds on the host's side during one call: its state, its
//! limits and the functions that it may call.

use std::time::{Duration, Instant};

use contract::{Fault, FaultClass, Limits, LogLevel, Nanos, QueryError, Session, Usage};
use nix::time::{ClockId, clock_gettime};
use wasmtime::{Error, ResourceLimiter, Result};

use crate::bindings::{
    clock, config, http, inventory, kv, log, metrics, series_query, snmp, types,
};
use crate::convert::Turn;
use crate::settings::{MEMORY_CEILING, TABLE_ELEMENTS};

/// What a call has used so far. A call runs on one thread from start to end.
pub(crate) struct Meter {
    cpu: Duration,
    started: Instant,
}

/// Processor time of this thread.
fn thread_cpu() -> Duration {
    // a clock that every Linux has; were it missing, the wall clock would
    // still end every call
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

impl Meter {
    pub(crate) fn start() -> Meter {
        Meter {
            cpu: thread_cpu(),
            started: Instant::now(),
        }
    }

    pub(crate) fn usage(&self, memory: u64) -> Usage {
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Usage {
            cpu_ns: nanos(thread_cpu().saturating_sub(self.cpu)),
            wall_ns: nanos(self.started.elapsed()),
            memory,
        }
    }

    fn cpu_within(&self, limits: &Limits) -> Result<()> {
        let used = thread_cpu().saturating_sub(self.cpu);
        if used < Duration::from_millis(u64::from(limits.cpu_ms)) {
            return Ok(());
        }
        let message = format!("it used more than {} ms of processor time", limits.cpu_ms);
        let fault = Fault::new(FaultClass::Cpu, message)
            .with_hint("an endless loop, or more work than one call may do");
        Err(Error::new(fault))
    }

    fn time_within(&self, limits: &Limits) -> Result<()> {
        if self.started.elapsed() < Duration::from_millis(u64::from(limits.wall_ms)) {
            return Ok(());
        }
        let message = format!("it took longer than {} ms", limits.wall_ms);
        let fault = Fault::new(FaultClass::Time, message)
            .with_hint("it waited for answers of the host, or the machine is busy");
        Err(Error::new(fault))
    }
}

/// Memory and tables of a call, all of its instances together.
pub(crate) struct Space {
    limit: usize,
    now: usize,
    pub(crate) peak: usize,
    elements: usize,
}

impl Space {
    pub(crate) fn of(limits: &Limits) -> Space {
        Space {
            limit: usize::try_from(limits.memory).map_or(MEMORY_CEILING, |m| m.min(MEMORY_CEILING)),
            now: 0,
            peak: 0,
            elements: 0,
        }
    }
}

impl ResourceLimiter for Space {
    fn memory_growing(&mut self, now: usize, wanted: usize, _: Option<usize>) -> Result<bool> {
        let all = (self.now - now.min(self.now)).saturating_add(wanted);
        if all > self.limit {
            let message = format!(
                "it wanted {all} bytes of memory; it may have {}",
                self.limit
            );
            let fault = Fault::new(FaultClass::Memory, message)
                .with_hint("limits.memory_mib in plugin.toml, up to what is granted");
            return Err(Error::new(fault));
        }
        self.now = all;
        self.peak = self.peak.max(all);
        Ok(true)
    }

    /// The pool's or the guest's own end of memory. Guests that are told so
    /// rarely make sense of it: the call ends.
    fn memory_grow_failed(&mut self, error: Error) -> Result<()> {
        let message = format!("it wanted more memory than there is: {error}");
        Err(Error::new(Fault::new(FaultClass::Memory, message)))
    }

    fn table_growing(&mut self, now: usize, wanted: usize, _: Option<usize>) -> Result<bool> {
        let all = (self.elements - now.min(self.elements)).saturating_add(wanted);
        if all > TABLE_ELEMENTS {
            let message =
                format!("it wanted tables of {all} elements; it may have {TABLE_ELEMENTS}");
            return Err(Error::new(Fault::new(FaultClass::Memory, message)));
        }
        self.elements = all;
        Ok(true)
    }
}

/// The state of one call.
pub(crate) struct Host {
    pub(crate) session: Session,
    pub(crate) space: Space,
    pub(crate) meter: Meter,
    /// What the guest logged last as an error: its panic, if it panicked.
    pub(crate) said: Option<String>,
}

impl Host {
    pub(crate) fn new(session: Session, meter: Meter) -> Host {
        Host {
            space: Space::of(session.limits()),
            session,
            meter,
            said: None,
        }
    }

    /// Whether the call may go on: asked at every tick.
    pub(crate) fn within_time(&self) -> Result<()> {
        self.meter.cpu_within(self.session.limits())?;
        self.meter.time_within(self.session.limits())
    }

    /// What the daemon answered, if it was in time.
    fn in_time<T>(&self, answer: Result<T, Fault>) -> Result<T> {
        let answer = answer.map_err(Error::new)?;
        self.meter.time_within(self.session.limits())?;
        Ok(answer)
    }
}

impl types::Host for Host {}
impl metrics::Host for Host {}
impl snmp::Host for Host {}
impl http::Host for Host {}

impl log::Host for Host {
    fn enabled(&mut self, _: log::Level) -> Result<bool> {
        Ok(true)
    }

    fn log(
        &mut self,
        at: log::Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> Result<()> {
        let at = match at {
            log::Level::Trace => LogLevel::Trace,
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        if at == LogLevel::Error {
            self.said = Some(message.clone());
        }
        self.session.log(at, message, fields).map_err(Error::new)
    }
}

impl clock::Host for Host {
    fn now(&mut self) -> Result<u64> {
        Ok(self.session.now().0)
    }
}

impl config::Host for Host {
    fn get(&mut self, key: String) -> Result<Option<String>> {
        Ok(self.session.settings().values.get(&key).cloned())
    }

    fn all(&mut self) -> Result<String> {
        Ok(self.session.settings().json.clone())
    }
}

impl kv::Host for Host {
    fn get(&mut self, key: String) -> Result<Option<Vec<u8>>> {
        let value = self.session.kv_get(&key);
        Ok(self.in_time(value)?.turn())
    }

    fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_s: Option<u32>,
    ) -> Result<Result<(), kv::KvError>> {
        let too_large = value.len() > self.session.limits().kv_value as usize;
        let kept = self
            .session
            .kv_set(&key, value, ttl_s)
            .map_err(Error::new)?;
        Ok(kept.map_err(|why| {
            if too_large {
                kv::KvError::TooLarge(why)
            } else {
                kv::KvError::Quota(why)
            }
        }))
    }

    fn delete(&mut self, key: String) -> Result<()> {
        self.session.kv_delete(&key).map_err(Error::new)
    }

    fn keys(&mut self, prefix: String, limit: u32) -> Result<Vec<String>> {
        let keys = self.session.kv_keys(&prefix, limit);
        self.in_time(keys)
    }
}

impl inventory::Host for Host {
    fn get_device(&mut self, id: String) -> Result<Option<types::Device>> {
        let device = self.session.device(&id);
        Ok(self.in_time(device)?.turn())
    }

    fn get_fact(&mut self, device: String, key: String) -> Result<Option<types::Scalar>> {
        let fact = self.session.fact(&device, &key);
        Ok(self.in_time(fact)?.turn())
    }

    fn get_links(&mut self, device: String) -> Result<Vec<inventory::Link>> {
        let links = self.session.links(&device);
        Ok(self.in_time(links)?.turn())
    }
}

impl series_query::Host for Host {
    fn query(
        &mut self,
        selector: String,
        start: u64,
        end: u64,
        step_s: u32,
    ) -> Result<Result<Vec<types::Series>, series_query::QueryError>> {
        let (start, end) = (Nanos(start), Nanos(end));
        let answer = self.session.query(selector, start, end, step_s);
        let answer = self.in_time(answer)?;
        Ok(answer.map(Turn::turn).map_err(|why| match why {
            QueryError::Denied(why) => series_query::QueryError::Denied(why),
            QueryError::Syntax(why) => series_query::QueryError::Syntax(why),
            QueryError::TooLarge(why) => series_query::QueryError::TooLarge(why),
            QueryError::Timeout => series_query::QueryError::Timeout,
        }))
    }
}
