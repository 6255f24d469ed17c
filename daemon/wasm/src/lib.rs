//! Plugins that are WebAssembly components.

use contract::{Call, Ended, Fault, Grants, Kind, Limits, Plugin, Session};

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

/// Looks at a component; runs nothing of it.
///
/// # Errors
///
/// Says why this is no component of the contract.
pub fn inspect(_component: &[u8]) -> Result<About, Fault> {
    Err(not_yet())
}

/// Makes a component of a core module that the SDK built.
///
/// # Errors
///
/// Says what is wrong with the module.
pub fn componentize(_module: &[u8]) -> Result<Vec<u8>, Fault> {
    Err(not_yet())
}

/// How a component is compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compiling {
    /// Quickly, and with places in the source where its author built it so.
    pub for_its_author: bool,
}

/// Compiles a component to code that [`Engine::load`] takes. Takes seconds and
/// much memory: in a process of its own.
///
/// # Errors
///
/// Says why it cannot be compiled.
pub fn compile(_component: &[u8], _how: Compiling) -> Result<Vec<u8>, Fault> {
    Err(not_yet())
}

/// What compiled code fits: the engine's version and settings.
#[must_use]
pub fn key(_how: Compiling) -> String {
    String::new()
}

/// Runs components.
#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// An engine, with the thread that ends what runs too long.
    ///
    /// # Errors
    ///
    /// Says what the system refused.
    pub fn new(_how: Compiling) -> Result<Engine, Fault> {
        Err(not_yet())
    }

    /// Loads what [`compile`] made, and tries an instance.
    ///
    /// # Safety-relevant
    ///
    /// `code` is run as it is: it must be what [`compile`] gave.
    ///
    /// # Errors
    ///
    /// Says why it cannot be run: other settings, another contract, an import
    /// that is not granted.
    pub fn load(
        &self,
        _code: &[u8],
        _kind: Kind,
        _grants: &Grants,
        _limits: &Limits,
    ) -> Result<Component, Fault> {
        Err(not_yet())
    }
}

/// A component that is loaded.
#[derive(Debug)]
pub struct Component {}

impl Plugin for Component {
    fn call(&self, _call: Call, session: Session) -> Ended {
        session.end(Err(not_yet().into()), contract::Usage::default())
    }
}

fn not_yet() -> Fault {
    Fault::new(contract::FaultClass::Load, "not built yet")
}
