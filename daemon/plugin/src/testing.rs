//! For this crate's own tests, which need a real process: a host with plugins
//! that no language would let anybody write.

use std::path::Path;
use std::process::ExitCode;

use contract::Fault;
use wasm::Compiling;

pub use crate::child::Maker;
pub use crate::compile::Rationed;

/// A host that makes plugins of scripts that are none.
#[must_use]
pub fn host_main_with(maker: Maker) -> ExitCode {
    crate::child::serve(Some(maker))
}

/// A compiler that is somebody else's.
#[must_use]
pub fn compile_main_with(compile: fn(&[u8], Compiling) -> Result<Vec<u8>, Fault>) -> ExitCode {
    crate::compile::serve(compile)
}

/// Compiles with limits of its own.
///
/// # Errors
///
/// Says which limit was broken.
pub fn compile(program: &Path, rationed: Rationed, component: &[u8]) -> Result<Vec<u8>, Fault> {
    crate::compile::compile(program, rationed, component, Compiling::default())
}

/// What the sandbox refuses, in a process that has it; and what is missing of
/// it.
#[cfg(debug_assertions)]
#[must_use]
pub fn probe() -> (Vec<(&'static str, bool)>, Vec<String>) {
    let rations = crate::sandbox::Rations {
        memory: 1 << 30,
        cpu_s: Some(60),
    };
    let missing = crate::sandbox::Sandbox::begin(rations).close();
    (crate::system::probe(), missing)
}
