//! Where a process may not reserve addresses, components run all the same. A
//! process of its own: the limit is the process's.
#![allow(
    clippy::unwrap_used,
    reason = "in a test, what cannot be prepared has failed"
)]

mod common;

use common::{breaks_in, call, code, grants, value};
use contract::{FaultClass, Kind};
use nix::sys::resource::{Resource, setrlimit};
use wasm::{Compiling, Engine, key};

#[test]
fn components_run_without_a_pool_and_with_the_same_code() {
    let how = Compiling::default();
    let code = code(how);
    let before = key(how);
    assert!(Engine::new(how).unwrap().is_pooled());

    let few = 16_u64 << 30;
    setrlimit(Resource::RLIMIT_AS, few, few).unwrap();
    let engine = Engine::new(how).unwrap();
    assert!(!engine.is_pooled());
    assert_eq!(key(how), before);
    let limits = common::limits();
    let guest = engine.load(code, Kind::Parser, &grants(), &limits).unwrap();
    for _ in 0..20 {
        assert_eq!(value(&call(&guest, &limits, "honest", 7)), 7.0);
    }
    breaks_in(&guest, "memory", 0, FaultClass::Memory);
    breaks_in(&guest, "recursion", u64::MAX, FaultClass::Stack);
}
