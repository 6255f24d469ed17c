//! Plugins that are Rhai scripts.

use contract::{Call, Ended, Fault, Grants, Kind, Plugin, Session};

/// A script that is compiled.
#[derive(Debug)]
pub struct Script {}

impl Script {
    /// Compiles a script; `file` is what its author calls it.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it, where, and what may have been meant.
    pub fn compile(
        _file: &str,
        _source: &str,
        _kind: Kind,
        _grants: &Grants,
    ) -> Result<Script, Fault> {
        Err(not_yet())
    }
}

impl Plugin for Script {
    fn call(&self, _call: Call, session: Session) -> Ended {
        session.end(Err(not_yet().into()), contract::Usage::default())
    }
}

/// The reference of everything that a script can use, as Markdown.
#[must_use]
pub fn reference() -> String {
    String::new()
}

fn not_yet() -> Fault {
    Fault::new(contract::FaultClass::Load, "not built yet")
}
