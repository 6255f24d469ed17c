//! Plugins that are WebAssembly components.
//!
//! - [`inspect`] says what a component is, [`componentize`] makes one of what
//!   the SDK built; neither runs anything of it.
//! - [`compile`] makes machine code of it, in a process of its own; [`key`]
//!   says which engine that code fits.
//! - [`Engine::load`] links code with what is granted and nothing else;
//!   [`Component`] answers calls, each in a fresh instance with limits on
//!   processor time, time, memory, stack, what it asks and what it returns.
//!
//! The contract is `sdk/wit/v1`. A component does no input and output of its
//! own: there is no WASI here.

mod bindings;
mod code;
mod code_memory;
mod component;
mod convert;
mod engine;
mod explain;
mod host;
mod inspect;
mod settings;
mod ticker;

use contract::Kind;

pub use component::Component;
pub use engine::{Engine, compile, key};
pub use inspect::{componentize, inspect};

/// What can be said of a component without running it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// What it does.
    pub kind: Kind,
    /// The version of the contract that it was built for.
    pub api: (u64, u64),
    /// What it imports, without the types: `kv`, `inventory`, `log`, ...
    pub imports: Vec<String>,
}

/// How a component is compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compiling {
    /// Quickly, and with places in the source where its author built it so.
    pub for_its_author: bool,
}
