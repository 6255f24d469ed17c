//! What one call, and one plugin, may use.

use serde::{Deserialize, Serialize};

use crate::Kind;

/// Limits of a plugin. A manifest may ask for less; for more only by a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Processor time of a call, in milliseconds.
    pub cpu_ms: u32,
    /// Time of a call, whatever it waits for, in milliseconds.
    pub wall_ms: u32,
    /// Linear memory of a component, in bytes.
    pub memory: u64,
    /// Bytes of one call's input.
    pub input: u64,
    /// Bytes that a call may hand to the host, its result included.
    pub output: u64,
    /// Bytes of log lines of a call.
    pub log_bytes: u32,
    /// Log lines of a call.
    pub log_lines: u32,
    /// Questions to the host in a call.
    pub host_calls: u32,
    /// Bytes of all keys and values that a plugin keeps.
    pub kv_bytes: u32,
    /// Bytes of one value that it keeps.
    pub kv_value: u32,
    /// Keys that it keeps.
    pub kv_keys: u32,
    /// Operations of a script in a call.
    pub operations: u64,
}

/// Bytes of a component or a script.
pub const CODE_BYTES: usize = 32 << 20;
/// Bytes of a script.
pub const SCRIPT_BYTES: usize = 256 << 10;
/// Bytes of a rule's state.
pub const STATE_BYTES: usize = 64 << 10;
/// Bytes of a key of [`kv`](crate::HostAsk).
pub const KEY_BYTES: usize = 256;

impl Limits {
    /// What a plugin of `kind` may use unless its manifest says otherwise.
    #[must_use]
    pub fn of(kind: Kind) -> Limits {
        let parser = Limits {
            cpu_ms: 100,
            wall_ms: 1_000,
            memory: 64 << 20,
            input: 8 << 20,
            output: 16 << 20,
            log_bytes: 64 << 10,
            log_lines: 100,
            host_calls: 10_000,
            kv_bytes: 1 << 20,
            kv_value: 64 << 10,
            kv_keys: 2_000,
            operations: 5_000_000,
        };
        match kind {
            Kind::Parser | Kind::Poller => parser,
            Kind::Rule => Limits {
                cpu_ms: 50,
                wall_ms: 1_000,
                memory: 32 << 20,
                input: 2 << 20,
                output: 1 << 20,
                ..parser
            },
            Kind::Remediation | Kind::Notifier => Limits {
                cpu_ms: 200,
                wall_ms: 2_000,
                input: 1 << 20,
                output: 1 << 20,
                ..parser
            },
        }
    }
}
