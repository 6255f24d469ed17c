//! What a plugin may ask of the host during one call, and how much of it.
//!
//! Components and scripts come through the same [`Session`], so that a limit
//! holds for both or for neither. What a call writes to its `kv` is kept only
//! when the call succeeds: a call that breaks leaves nothing half done. Reads
//! see the call's own writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::KEY_BYTES;
use crate::{
    Attr, Device, Failure, Fault, FaultClass, Limits, Link, Nanos, Octets, Reply, Scalar, Series,
};

/// How urgent a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is the word itself")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// A line that a plugin logged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// How urgent.
    pub level: LogLevel,
    /// What.
    pub message: String,
    /// Names and values.
    pub fields: Vec<Attr>,
}

/// A change of what a plugin keeps: `value` is absent where the key is
/// deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KvWrite {
    /// Which.
    pub key: String,
    /// Its new value.
    pub value: Option<Octets>,
    /// Seconds until it is forgotten.
    pub ttl_s: Option<u32>,
}

/// What an administrator lets a plugin use, of what its host interfaces offer.
/// What its *results* may lead to (requests, commands) is checked by whoever
/// acts on them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// It may keep values.
    pub kv: bool,
    /// It may read the inventory.
    pub inventory: bool,
    /// It may read these metrics: names, `*` at the end for all that begin so.
    pub series: Vec<String>,
}

/// The settings of a plugin, as its manifest's schema wants them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// By key, as text: numbers and booleans as JSON writes them.
    pub values: BTreeMap<String, String>,
    /// All of them as a JSON object.
    pub json: String,
}

/// Why a query has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words of the WIT")]
pub enum QueryError {
    Denied(String),
    Syntax(String),
    TooLarge(String),
    Timeout,
}

/// A question of a plugin that the daemon has to answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the words of the WIT")]
pub enum HostAsk {
    KvGet(String),
    KvKeys {
        prefix: String,
        limit: u32,
    },
    Device(String),
    Fact {
        device: String,
        key: String,
    },
    Links(String),
    Query {
        selector: String,
        start: Nanos,
        end: Nanos,
        step_s: u32,
    },
}

/// The daemon's answer, of the question's kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the words of the WIT")]
pub enum HostAnswer {
    Value(Option<Octets>),
    Keys(Vec<String>),
    Device(Option<Device>),
    Fact(Option<Scalar>),
    Links(Vec<Link>),
    Series(Result<Vec<Series>, QueryError>),
}

/// Who answers questions: the daemon, over the process boundary; a recording,
/// in tests.
pub trait HostCalls: Send + Sync {
    /// Answers, and may block for as long as a call may take.
    ///
    /// # Errors
    ///
    /// A fault that ends the call.
    fn ask(&self, ask: HostAsk) -> Result<HostAnswer, Fault>;
}

/// What a call used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time, in nanoseconds.
    pub cpu_ns: u64,
    /// Time, in nanoseconds.
    pub wall_ns: u64,
    /// The most memory it had, in bytes.
    pub memory: u64,
}

/// What a call ended with. What it wants kept stands here only if it
/// succeeded; what it logged, always.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// The reply, or why there is none.
    pub result: Result<Reply, Failure>,
    /// What it logged.
    pub log: Vec<LogLine>,
    /// What it wants kept.
    pub kv: Vec<KvWrite>,
    /// What it used.
    pub usage: Usage,
}

/// One call's way to the host.
pub struct Session {
    now: Nanos,
    limits: Limits,
    grants: Grants,
    settings: Arc<Settings>,
    host: Arc<dyn HostCalls>,
    log: Vec<LogLine>,
    log_bytes: usize,
    host_calls: u32,
    kv: BTreeMap<String, KvWrite>,
    kv_bytes: usize,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// Bytes of a log line's name or value, and lines beyond which fields are cut.
const FIELDS: usize = 32;

impl Session {
    /// A session of a call that begins `now`.
    #[must_use]
    pub fn new(
        now: Nanos,
        limits: Limits,
        grants: Grants,
        settings: Arc<Settings>,
        host: Arc<dyn HostCalls>,
    ) -> Session {
        Session {
            now,
            limits,
            grants,
            settings,
            host,
            log: Vec::new(),
            log_bytes: 0,
            host_calls: 0,
            kv: BTreeMap::new(),
            kv_bytes: 0,
        }
    }

    /// The instant of the call: the same throughout, so that it can be
    /// replayed.
    #[must_use]
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// The limits of the call.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What it may use.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// The plugin's settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Counts a question to the host, of which log lines are one as well.
    fn count(&mut self) -> Result<(), Fault> {
        self.host_calls += 1;
        if self.host_calls > self.limits.host_calls {
            let limit = self.limits.host_calls;
            let message = format!("it asked the host more than {limit} times in one call");
            return Err(Fault::new(FaultClass::HostCalls, message));
        }
        Ok(())
    }

    /// Logs a line.
    ///
    /// # Errors
    ///
    /// Ends the call when it logged too much.
    pub fn log(
        &mut self,
        level: LogLevel,
        message: String,
        mut fields: Vec<Attr>,
    ) -> Result<(), Fault> {
        self.count()?;
        fields.truncate(FIELDS);
        let bytes = fields.iter().map(|(name, value)| name.len() + value.len());
        self.log_bytes += message.len() + bytes.sum::<usize>();
        let (lines, bytes) = (self.limits.log_lines, self.limits.log_bytes);
        if self.log.len() >= lines as usize || self.log_bytes > bytes as usize {
            let message = format!("it logged more than {lines} lines or {bytes} bytes in one call");
            return Err(Fault::new(FaultClass::Log, message)
                .with_hint("log what is unusual, not what is read"));
        }
        self.log.push(LogLine {
            level,
            message,
            fields,
        });
        Ok(())
    }

    fn not_granted(capability: &str) -> Fault {
        let message = format!("it uses {capability}, which it was not granted");
        Fault::new(FaultClass::NotGranted, message).with_hint(format!(
            "ask for {capability} under [capabilities] in plugin.toml; an administrator grants it"
        ))
    }

    fn need(granted: bool, capability: &str) -> Result<(), Fault> {
        if granted {
            Ok(())
        } else {
            Err(Session::not_granted(capability))
        }
    }

    fn ask(&mut self, ask: HostAsk) -> Result<HostAnswer, Fault> {
        self.count()?;
        self.host.ask(ask)
    }

    /// The value under `key`.
    ///
    /// # Errors
    ///
    /// Ends the call if that is not granted, or asked too often.
    pub fn kv_get(&mut self, key: &str) -> Result<Option<Octets>, Fault> {
        Session::need(self.grants.kv, "kv")?;
        if let Some(write) = self.kv.get(key) {
            let value = write.value.clone();
            self.count()?;
            return Ok(value);
        }
        match self.ask(HostAsk::KvGet(key.to_owned()))? {
            HostAnswer::Value(value) => Ok(value),
            _ => Err(wrong_answer()),
        }
    }

    /// Keeps `value` under `key` once the call has succeeded. The inner error
    /// says that a limit was reached; the plugin may go on. (Whether all of
    /// the plugin's values together are too many is seen when they are kept.)
    ///
    /// # Errors
    ///
    /// Ends the call if that is not granted, or asked too often.
    pub fn kv_set(
        &mut self,
        key: &str,
        value: Vec<u8>,
        ttl_s: Option<u32>,
    ) -> Result<Result<(), String>, Fault> {
        Session::need(self.grants.kv, "kv")?;
        self.count()?;
        if key.is_empty() || key.len() > KEY_BYTES {
            return Ok(Err(format!("a key has 1 to {KEY_BYTES} bytes")));
        }
        let limit = self.limits.kv_value as usize;
        if value.len() > limit {
            return Ok(Err(format!(
                "a value has at most {limit} bytes; this one has {}",
                value.len()
            )));
        }
        let before = self.kv.get(key).map_or(0, kv_bytes);
        let write = KvWrite {
            key: key.to_owned(),
            value: Some(Octets(value)),
            ttl_s,
        };
        let bytes = self.kv_bytes - before + kv_bytes(&write);
        let limit = self.limits.kv_bytes as usize;
        let keys = self.limits.kv_keys as usize;
        if bytes > limit {
            return Ok(Err(format!("a plugin keeps at most {limit} bytes")));
        }
        if before == 0 && self.kv.len() >= keys {
            return Ok(Err(format!("a plugin keeps at most {keys} keys")));
        }
        self.kv_bytes = bytes;
        self.kv.insert(write.key.clone(), write);
        Ok(Ok(()))
    }

    /// Forgets `key` once the call has succeeded.
    ///
    /// # Errors
    ///
    /// Ends the call if that is not granted, or asked too often.
    pub fn kv_delete(&mut self, key: &str) -> Result<(), Fault> {
        Session::need(self.grants.kv, "kv")?;
        self.count()?;
        let key = key.get(..KEY_BYTES).unwrap_or(key);
        let write = KvWrite {
            key: key.to_owned(),
            value: None,
            ttl_s: None,
        };
        let before = self.kv.get(key).map_or(0, kv_bytes);
        if before == 0 && self.kv.len() >= self.limits.kv_keys as usize {
            return Ok(());
        }
        self.kv_bytes = self.kv_bytes - before + kv_bytes(&write);
        self.kv.insert(key.to_owned(), write);
        Ok(())
    }

    /// Keys that begin with `prefix`, sorted; at most `limit`.
    ///
    /// # Errors
    ///
    /// Ends the call if that is not granted, or asked too often.
    pub fn kv_keys(&mut self, prefix: &str, limit: u32) -> Result<Vec<String>, Fault> {
        Session::need(self.grants.kv, "kv")?;
        let limit = limit.min(self.limits.kv_keys);
        let ask = HostAsk::KvKeys {
            prefix: prefix.to_owned(),
            limit: self.limits.kv_keys,
        };
        let HostAnswer::Keys(keys) = self.ask(ask)? else {
            return Err(wrong_answer());
        };
        let mut keys: std::collections::BTreeSet<String> = keys.into_iter().collect();
        for (key, write) in &self.kv {
            if write.value.is_none() {
                keys.remove(key);
            } else if key.starts_with(prefix) {
                keys.insert(key.clone());
            }
        }
        Ok(keys.into_iter().take(limit as usize).collect())
    }

    /// The device with this number.
    ///
    /// # Errors
    ///
    /// Ends the call if that is not granted, or asked too often.
    pub fn device(&mut self, id: &str) -> Result<Option<Device>, Fault> {
        Session::need(self.grants.inventory, "inventory")?;
        match self.ask(HostAsk::Device(id.to_owned()))? {
            HostAnswer::Device(device) => Ok(device),
            _ => Err(wrong_answer()),
        }
    }

    /// A fact that is known of a device.
    ///
    /// # Errors
    ///
    /// Ends the call if that is not granted, or asked too often.
    pub fn fact(&mut self, device: &str, key: &str) -> Result<Option<Scalar>, Fault> {
        Session::need(self.grants.inventory, "inventory")?;
        let (device, key) = (device.to_owned(), key.to_owned());
        match self.ask(HostAsk::Fact { device, key })? {
            HostAnswer::Fact(fact) => Ok(fact),
            _ => Err(wrong_answer()),
        }
    }

    /// What the device is connected to.
    ///
    /// # Errors
    ///
    /// Ends the call if that is not granted, or asked too often.
    pub fn links(&mut self, device: &str) -> Result<Vec<Link>, Fault> {
        Session::need(self.grants.inventory, "inventory")?;
        match self.ask(HostAsk::Links(device.to_owned()))? {
            HostAnswer::Links(links) => Ok(links),
            _ => Err(wrong_answer()),
        }
    }

    /// What a selector selects. The daemon checks the metric's name against
    /// what was granted.
    ///
    /// # Errors
    ///
    /// Ends the call if nothing of it is granted, or asked too often.
    pub fn query(
        &mut self,
        selector: String,
        start: Nanos,
        end: Nanos,
        step_s: u32,
    ) -> Result<Result<Vec<Series>, QueryError>, Fault> {
        Session::need(!self.grants.series.is_empty(), "series")?;
        let ask = HostAsk::Query {
            selector,
            start,
            end,
            step_s,
        };
        match self.ask(ask)? {
            HostAnswer::Series(series) => Ok(series),
            _ => Err(wrong_answer()),
        }
    }

    /// Ends the call.
    #[must_use]
    pub fn end(self, result: Result<Reply, Failure>, usage: Usage) -> Ended {
        let kv = match &result {
            Ok(_) => self.kv.into_values().collect(),
            Err(_) => Vec::new(),
        };
        Ended {
            result,
            log: self.log,
            kv,
            usage,
        }
    }
}

/// What a write counts for: never nothing.
fn kv_bytes(write: &KvWrite) -> usize {
    write.key.len() + write.value.as_ref().map_or(1, |value| value.0.len() + 1)
}

fn wrong_answer() -> Fault {
    Fault::new(
        FaultClass::HostDied,
        "the daemon answered another question than was asked",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl HostCalls for Nothing {
        fn ask(&self, ask: HostAsk) -> Result<HostAnswer, Fault> {
            Ok(match ask {
                HostAsk::KvGet(_) => HostAnswer::Value(None),
                HostAsk::KvKeys { .. } => HostAnswer::Keys(vec!["a".to_owned()]),
                _ => HostAnswer::Device(None),
            })
        }
    }

    fn session(change: impl FnOnce(&mut Limits, &mut Grants)) -> Session {
        let mut limits = Limits::of(crate::Kind::Parser);
        let mut grants = Grants {
            kv: true,
            ..Grants::default()
        };
        change(&mut limits, &mut grants);
        let settings = Arc::new(Settings::default());
        Session::new(Nanos(1), limits, grants, settings, Arc::new(Nothing))
    }

    #[test]
    fn what_is_not_granted_ends_the_call_and_is_named() {
        let mut session = session(|_, grants| grants.kv = false);
        let fault = session.kv_get("x").unwrap_err();
        assert_eq!(fault.class, FaultClass::NotGranted);
        assert!(fault.message.contains("kv"), "{fault}");
        let fault = session.device("1").unwrap_err();
        assert!(fault.message.contains("inventory"), "{fault}");
    }

    #[test]
    fn a_call_reads_what_it_wrote_and_keeps_nothing_when_it_breaks() {
        let mut session = session(|_, _| ());
        assert_eq!(session.kv_set("b", b"1".to_vec(), None), Ok(Ok(())));
        assert_eq!(session.kv_get("b"), Ok(Some(Octets(b"1".to_vec()))));
        assert_eq!(
            session.kv_keys("", 10),
            Ok(vec!["a".to_owned(), "b".to_owned()])
        );
        session.kv_delete("a").unwrap();
        assert_eq!(session.kv_keys("", 10), Ok(vec!["b".to_owned()]));
        let fault = Fault::new(FaultClass::Trap, "boom");
        let ended = session.end(Err(fault.into()), Usage::default());
        assert!(ended.kv.is_empty());
    }

    #[test]
    fn too_many_values_are_refused_and_the_call_goes_on() {
        let mut session = session(|limits, _| limits.kv_bytes = 10);
        assert_eq!(session.kv_set("abc", vec![0; 4], None), Ok(Ok(())));
        let refused = session.kv_set("def", vec![0; 4], None).unwrap();
        assert!(refused.unwrap_err().contains("10 bytes"));
        assert_eq!(session.kv_set("abc", vec![0; 6], None), Ok(Ok(())));
    }

    #[test]
    fn a_flood_of_log_lines_ends_the_call_and_the_first_lines_stay() {
        let mut session = session(|limits, _| limits.log_lines = 3);
        let mut log = || session.log(LogLevel::Info, "x".to_owned(), Vec::new());
        assert!((0..3).all(|_| log().is_ok()));
        assert_eq!(log().unwrap_err().class, FaultClass::Log);
        let ended = session.end(Ok(Reply::Nothing), Usage::default());
        assert_eq!(ended.log.len(), 3);
    }

    #[test]
    fn questions_to_the_host_have_an_end() {
        let mut session = session(|limits, _| limits.host_calls = 2);
        assert!(session.kv_get("x").is_ok());
        assert!(session.kv_get("x").is_ok());
        let fault = session.kv_get("x").unwrap_err();
        assert_eq!(fault.class, FaultClass::HostCalls);
    }
}
