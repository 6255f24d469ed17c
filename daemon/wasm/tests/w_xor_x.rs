//! Code runs where no memory may become executable, as the daemon's unit has
//! it (MemoryDenyWriteExecute). A process of its own: there is no way back.
#![allow(
    clippy::unwrap_used,
    reason = "in a test, what cannot be prepared has failed"
)]

mod common;

use common::{call, code, grants, value};
use contract::Kind;
use wasm::{Compiling, Engine};

const PR_SET_MDWE: i32 = 65;
const PR_MDWE_REFUSE_EXEC_GAIN: u64 = 1;

#[expect(unsafe_code, reason = "there is no safe way to ask for it")]
fn deny_write_execute() -> bool {
    // SAFETY: takes numbers, changes what later calls of mmap may do.
    unsafe { nix::libc::prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0_u64, 0_u64, 0_u64) == 0 }
}

#[test]
fn code_runs_without_memory_that_is_writable_and_then_executable() {
    let code = code(Compiling::default());
    if !deny_write_execute() {
        // a kernel before 6.3: nothing to see here
        return;
    }
    let usual = wasmtime::Engine::default();
    let text = wat::parse_str("(module (func (export \"f\")))").unwrap();
    let usually = wasmtime::Module::new(&usual, text);
    assert!(usually.is_err(), "nothing is denied");

    let limits = common::limits();
    let engine = Engine::new(Compiling::default()).unwrap();
    for _ in 0..20 {
        let guest = engine.load(code, Kind::Parser, &grants(), &limits).unwrap();
        assert_eq!(value(&call(&guest, &limits, "honest", 7)), 7.0);
    }
}
