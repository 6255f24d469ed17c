//! The contract as wasmtime's types, made from the WIT.
//!
//! The types of the imports are made once and shared by all kinds; each kind
//! adds what it exports.

#![allow(
    unused_qualifications,
    clippy::default_trait_access,
    reason = "made by a macro"
)]

mod shared {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit/v1",
        world: "sdk",
        imports: { default: trappable },
    });
}

pub(crate) use shared::sotp::plugin::{
    clock, config, http, inventory, kv, log, metrics, series_query, snmp, types,
};

macro_rules! kind {
    ($module:ident, $world:literal) => {
        pub(crate) mod $module {
            wasmtime::component::bindgen!({
                path: "../../sdk/wit/v1",
                world: $world,
                imports: { default: trappable },
                with: { "sotp:plugin": super::shared::sotp::plugin },
            });
        }
    };
}

kind!(parser, "parser-plugin");
kind!(rule, "rule-plugin");
kind!(remediation, "remediation-plugin");
kind!(notifier, "notifier-plugin");
kind!(poller, "poller-plugin");
