//! The engine's settings: one function makes them for who compiles and for who
//! runs, because code fits only the settings that it was compiled with.

use std::hash::{Hash as _, Hasher};
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};

use contract::{Fault, FaultClass};
use sha2::{Digest as _, Sha256};
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

use crate::Compiling;
use crate::code_memory::SealedCode;
use crate::explain::{FRAMES, chain};

/// The engine's version, for people: the digest in a key covers it as well.
const VERSION: &str = "48.0.8";
/// Stack of a guest. A thread that calls plugins has four times as much.
const STACK_BYTES: usize = 512 << 10;
/// More memory than this no plugin has, whatever it was granted.
pub(crate) const MEMORY_CEILING: usize = 256 << 20;
/// Elements of all tables of a plugin: function pointers of its code.
pub(crate) const TABLE_ELEMENTS: usize = 50_000;

/// Calls at once, whatever the number of threads.
const INSTANCES: u32 = 64;
/// Memories of all calls at once; a component from another language's
/// toolchain has up to four.
const MEMORIES: u32 = 128;
const MEMORIES_EACH: u32 = 4;
/// Memory slots that stay mapped after a call, and what of each stays resident.
const WARM_SLOTS: u32 = 16;
const KEPT_MEMORY: usize = 1 << 20;
const KEPT_TABLE: usize = 16 << 10;
/// Where a memory has 4 GiB of addresses to itself, code needs no bounds checks.
const RESERVATION: u64 = 4 << 30;
const GUARD: u64 = 32 << 20;

/// Who wants an engine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Compile,
    /// With a pool of instances.
    Run,
    /// Without one, where its addresses are not to be had.
    RunWithoutPool,
}

/// Whether processes here have 47 bits of addresses or more; some kernels have
/// 39 or 42. Stacks lie in the upper two thirds of what there is, whatever the
/// layout, and every process of a machine sees the same, whatever its limits:
/// so who compiles and who runs agree.
fn has_many_addresses() -> bool {
    let here = 0_u8;
    let place = std::ptr::from_ref(&here).addr();
    u64::try_from(place).is_ok_and(|place| place >> 43 != 0)
}

/// The one function that makes settings.
fn config(how: Compiling, purpose: Purpose) -> Config {
    config_for(how, purpose, has_many_addresses())
}

fn config_for(how: Compiling, purpose: Purpose, many_addresses: bool) -> Config {
    let mut config = Config::new();
    let details = if how.for_its_author {
        WasmBacktraceDetails::Enable
    } else {
        WasmBacktraceDetails::Disable
    };
    let level = if how.for_its_author {
        OptLevel::None
    } else {
        OptLevel::Speed
    };
    config
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES)
        .memory_init_cow(true)
        .wasm_memory64(false)
        .wasm_backtrace_details(details)
        .wasm_backtrace_max_frames(NonZeroUsize::new(FRAMES))
        .memory_guard_size(GUARD);
    if many_addresses {
        config.memory_reservation(RESERVATION);
    } else {
        config
            .memory_reservation(MEMORY_CEILING as u64)
            .memory_may_move(false);
    }
    match purpose {
        Purpose::Compile => {
            config.cranelift_opt_level(level);
        }
        Purpose::Run => {
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
        }
        Purpose::RunWithoutPool => {
            config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
        }
    }
    if purpose != Purpose::Compile {
        config
            .enable_compiler(false)
            .with_custom_code_memory(Some(Arc::new(SealedCode::new())));
    }
    config
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(INSTANCES)
        .total_core_instances(INSTANCES * 8)
        .total_memories(MEMORIES)
        .total_tables(INSTANCES * 8)
        .max_memory_size(MEMORY_CEILING)
        .max_memories_per_component(MEMORIES_EACH)
        .max_tables_per_component(20)
        .max_core_instances_per_component(40)
        .max_core_instance_size(2 << 20)
        .max_component_instance_size(4 << 20)
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEPT_MEMORY)
        .table_keep_resident(KEPT_TABLE)
        .max_unused_warm_slots(WARM_SLOTS)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// An engine that compiles.
pub(crate) fn compiler(how: Compiling) -> Result<wasmtime::Engine, Fault> {
    wasmtime::Engine::new(&config(how, Purpose::Compile)).map_err(no_engine)
}

/// An engine that runs, and whether it has a pool.
pub(crate) fn runner(how: Compiling) -> Result<(wasmtime::Engine, bool), Fault> {
    if let Ok(engine) = wasmtime::Engine::new(&config(how, Purpose::Run)) {
        return Ok((engine, true));
    }
    let engine = wasmtime::Engine::new(&config(how, Purpose::RunWithoutPool));
    engine.map(|engine| (engine, false)).map_err(no_engine)
}

fn no_engine(error: wasmtime::Error) -> Fault {
    let message = format!(
        "the engine for components does not start: {}",
        chain(&error)
    );
    Fault::new(FaultClass::Load, message)
}

/// A hasher whose result is long enough that two settings never share it.
struct Sha(Sha256);

impl Hasher for Sha {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest
            .iter()
            .fold(0, |all, byte| all << 8 | u64::from(*byte))
    }
}

/// What compiled code fits: the engine's version, its settings and the
/// processor. Empty if there is no engine to be had.
pub(crate) fn key(how: Compiling) -> String {
    static KEYS: [OnceLock<String>; 2] = [OnceLock::new(), OnceLock::new()];
    KEYS[usize::from(how.for_its_author)]
        .get_or_init(|| compiler(how).map_or_else(|_| String::new(), |engine| key_of(&engine, how)))
        .clone()
}

fn key_of(engine: &wasmtime::Engine, how: Compiling) -> String {
    let mut sha = Sha(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut sha);
    let digest = sha.0.finalize();
    let word = if how.for_its_author {
        "author"
    } else {
        "speed"
    };
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("wasmtime-{}-{word}-{digits}", VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_the_engine_that_is_built_in() {
        let manifest = include_str!("../Cargo.toml");
        assert!(manifest.contains(&format!("version = \"={VERSION}\"")));
        let key = key(Compiling::default());
        assert!(key.starts_with("wasmtime-48.0.8-speed-"), "{key}");
    }

    #[test]
    fn a_key_is_the_same_every_time_and_another_for_other_settings() {
        let how = Compiling::default();
        let engine = compiler(how).unwrap();
        assert_eq!(key_of(&engine, how), key(how));
        let for_its_author = Compiling {
            for_its_author: true,
        };
        assert_ne!(key(for_its_author), key(how));
    }

    #[test]
    fn every_thread_gives_the_same_key() {
        assert!(has_many_addresses() || cfg!(not(target_arch = "x86_64")));
        let elsewhere = std::thread::spawn(has_many_addresses).join().unwrap();
        assert_eq!(elsewhere, has_many_addresses());
    }

    #[test]
    fn code_fits_with_and_without_a_pool_where_addresses_are_few_and_where_not() {
        let text = "(component (core module $m (memory 1) (func (export \"f\")))
            (core instance (instantiate $m)))";
        let component = wat::parse_str(text).unwrap();
        let how = Compiling::default();
        for many in [false, true] {
            let compiler = wasmtime::Engine::new(&config_for(how, Purpose::Compile, many));
            let code = compiler.unwrap().precompile_component(&component).unwrap();
            for purpose in [Purpose::Run, Purpose::RunWithoutPool] {
                let engine = wasmtime::Engine::new(&config_for(how, purpose, many)).unwrap();
                let loaded = crate::code_memory::component(&engine, &code).unwrap();
                let mut store = wasmtime::Store::new(&engine, ());
                store.set_epoch_deadline(1);
                let linker = wasmtime::component::Linker::new(&engine);
                linker.instantiate(&mut store, &loaded).unwrap();
                let other = wasmtime::Engine::new(&config_for(how, purpose, !many)).unwrap();
                assert!(crate::code_memory::component(&other, &code).is_err());
            }
        }
    }
}
