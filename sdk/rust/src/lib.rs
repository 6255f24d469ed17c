//! Write plugins of the SOTP daemon in Rust.
//!
//! A plugin is a function of its input: it opens no socket and no file, it
//! cannot wait, and every call finds it as if it had just been loaded. What it
//! may ask of the host stands here: [`log`](mod@log) lines, the [`now`] of the call, its
//! [`config`], what it keeps ([`kv`]), the [`inventory`] and stored [`series`].
//!
//! ```
//! use sotp_plugin::prelude::*;
//!
//! metrics! {
//!     gauge acme_fan_rpm{fan} "rpm" "Speed of a fan";
//!     gauge acme_temperature_celsius{sensor} "celsius" "Temperature of a sensor";
//! }
//!
//! struct Acme;
//!
//! impl Parser for Acme {
//!     fn describe() -> Descriptor {
//!         descriptor()
//!     }
//!
//!     fn parse(input: Input, out: &mut Output) -> Result<()> {
//!         for row in input.table()?.rows() {
//!             let name = row.text(2).unwrap_or_default();
//!             match row.i64(4) {
//!                 Some(1) => out.set(acme_temperature_celsius, [&name], row.f64(3)),
//!                 Some(2) => out.set(acme_fan_rpm, [&name], row.f64(3)),
//!                 _ => warn!("{name} measures what we do not know"),
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//!
//! export_parser!(Acme);
//! # fn main() {}
//! ```
//!
//! Natively, in `cargo test`, the host is a double: see [`testing`].

#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
mod arena;
#[doc(hidden)]
#[allow(missing_docs, clippy::all, unused, unsafe_op_in_unsafe_fn)]
pub mod bindings {
    pub mod notifier;
    pub mod parser;
    pub mod poller;
    pub mod remediation;
    pub mod rule;
    pub mod sdk;
}
mod failures;
mod host;
pub mod json;
mod kinds;
mod log;
mod output;
#[doc(hidden)]
pub mod runtime;
mod snmp;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

use bindings::sdk::sotp::plugin as contract;

pub use contract::log::Level;
pub use contract::metrics::{Descriptor, Fact, MetricDesc, MetricKind, Output, Row};
pub use contract::types::{
    Attr, Device, Event, Extension, PluginError as Error, Point, Scalar, Series, Severity,
    Timestamp,
};
pub use host::{config, inventory, kv, now, series};
pub use kinds::{
    Notifier, Parser, Poller, Remediation, Rule, notifier, parser, poller, remediation, rule,
};
pub use log::log;
pub use output::{Metric, RowMut, Value};
pub use snmp::{TableRow, dotted, oid};

/// SNMP's words (RFC 2578, RFC 3416), as the contract has them.
pub mod snmp_types {
    pub use crate::contract::snmp::{Cells, Column, Oid, Table, Value, Varbind};
}

/// What plugins ask and are answered over HTTP.
pub mod http {
    pub use crate::contract::http::{Request, Response};
    pub use crate::output::request;
}

/// What a plugin's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that a plugin's source begins with.
pub mod prelude {
    pub use crate::http::{Request, Response};
    pub use crate::notifier::{Delivery, Notification, Phase};
    pub use crate::parser::{Input, Payload};
    pub use crate::poller::{Answer, Ask, Next};
    pub use crate::remediation::{
        Action, Check, CliAction, CliMode, Comparison, Decision, Incident, OnFailure, Plan, Risk,
        Stage, Step,
    };
    pub use crate::rule::{
        RuleDescriptor, RuleInput, RuleOutput, Selector, Status, Trigger, Verdict,
    };
    pub use crate::snmp_types::{Oid, Table, Varbind};
    pub use crate::{
        Descriptor, Device, Error, Event, Notifier, Output, Parser, Point, Poller, Remediation,
        Result, Rule, Scalar, Series, Severity, TableRow, config, inventory, kv, now, oid, series,
    };
    pub use crate::{debug, error, info, trace, warn};
    pub use crate::{
        export_notifier, export_parser, export_poller, export_remediation, export_rule, metrics,
    };
}

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ARENA: arena::Arena = arena::Arena::new();

#[doc(hidden)]
pub mod __private {
    pub use crate::log::enabled;
    pub use crate::output::{kind, labels, states};
}
