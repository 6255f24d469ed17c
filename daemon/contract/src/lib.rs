//! What plugins and the daemon say to each other: the contract `sdk/wit/v1`
//! as Rust types, for WebAssembly and Rhai alike.
//!
//! - [`Call`] goes in, [`Reply`] comes out; a call that came to nothing has a
//!   [`Failure`].
//! - [`Plugin`] is the one door: whoever calls a plugin does not know in which
//!   language it is written.
//! - [`Session`] is what a plugin may ask of the host during one call, with all
//!   its limits: one code path for both languages.
//! - [`check`] says whether what came back is what was promised. Nothing that
//!   a plugin returns is believed before.
//!
//! The types serialize in two ways: as postcard between processes, and as
//! JSON in recordings that people read and edit (object identifiers dotted,
//! octets as text or as 0x..., instants as RFC 3339).
//!
//! Pure: no I/O, no clock.

mod call;
pub mod check;
mod failure;
pub mod limits;
mod session;
mod snmp;
mod words;

pub use call::{
    Action, Answer, Ask, Call, Cells, Check, CliAction, CliMode, Column, Comparison, Decision,
    Delivery, Fact, HttpRequest, HttpResponse, Incident, MetricDesc, MetricDescriptor, MetricKind,
    Next, Notification, OnFailure, Output, ParserInput, Payload, Phase, Plan, Reply, Risk, Row,
    RuleDescriptor, RuleInput, RuleOutput, RuleSelector, RuleStatus, RuleTrigger, Stage, Step,
    StepOutcome, StepResult, SyslogMessage, Table, Verdict,
};
pub use failure::{Failure, Fault, FaultClass, Place, PluginError};
pub use limits::Limits;
pub use session::{
    Ended, Grants, HostAnswer, HostAsk, HostCalls, KvWrite, LogLevel, LogLine, QueryError, Session,
    Settings, Usage,
};
pub use snmp::{Oid, SnmpValue, Varbind};
pub use words::{
    Attr, Device, Event, Extension, Kind, Link, Nanos, Octets, Point, Scalar, Series, Severity,
};

/// A plugin that is loaded: a component, or a script.
pub trait Plugin: Send + Sync {
    /// Answers one call, in a fresh instance of its own. Blocks for as long as
    /// the session's limits allow, never longer.
    fn call(&self, call: Call, session: Session) -> Ended;
}
