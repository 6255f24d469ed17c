//! Compiling components, and loading what was compiled.

use std::sync::Arc;

use contract::{
    Fault, FaultClass, Grants, HostAnswer, HostAsk, HostCalls, Kind, Limits, Nanos, Session,
    Settings,
};
use wasmtime::component::{HasSelf, InstancePre, Linker};

use crate::bindings::{
    clock, config, http, inventory, kv, log, metrics, series_query, snmp, types,
};
use crate::component::{Component, Entry};
use crate::explain::{self, chain};
use crate::host::Host;
use crate::inspect::{Name, inspect, is_types_only, no};
use crate::ticker::Ticker;
use crate::{Compiling, code, code_memory, settings};

/// Compiles a component to code that [`Engine::load`] takes. Takes seconds and
/// much memory: in a process of its own.
///
/// # Errors
///
/// Says why it cannot be compiled.
pub fn compile(component: &[u8], how: Compiling) -> Result<Vec<u8>, Fault> {
    inspect(component)?;
    let compiled = settings::compiler(how)?
        .precompile_component(component)
        .map_err(|error| no(format!("it cannot be compiled: {}", chain(&error))))?;
    code::pack(&settings::key(how), &compiled)
}

/// What compiled code fits: the engine's version, its settings and the
/// processor. Code is found again by this and by the component's digest.
#[must_use]
pub fn key(how: Compiling) -> String {
    settings::key(how)
}

/// Runs components.
///
/// Made before a process locks itself up: it reserves addresses (up to half a
/// terabyte, none of it used; no `RLIMIT_AS`), opens /proc/self/pagemap, handles
/// SIGSEGV, SIGBUS, SIGILL and SIGFPE, and starts a thread.
#[derive(Debug)]
pub struct Engine {
    engine: Engined,
    is_pooled: bool,
    key: String,
    ticker: Arc<Ticker>,
}

/// An engine that says nothing of itself.
#[derive(Clone)]
struct Engined(wasmtime::Engine);

impl std::fmt::Debug for Engined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("wasmtime")
    }
}

impl Engine {
    /// An engine, with the thread that ends what runs too long.
    ///
    /// # Errors
    ///
    /// Says what the system refused.
    pub fn new(how: Compiling) -> Result<Engine, Fault> {
        let (engine, is_pooled) = settings::runner(how)?;
        let ticker = Ticker::start(engine.clone())
            .map_err(|error| no(format!("no thread for the engine: {error}")))?;
        Ok(Engine {
            engine: Engined(engine),
            is_pooled,
            key: settings::key(how),
            ticker: Arc::new(ticker),
        })
    }

    /// Whether instances come from a pool. Without one, because the process may
    /// not have the addresses, everything works and calls cost more.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        self.is_pooled
    }

    /// Loads what [`compile`] made, and tries an instance.
    ///
    /// # Safety-relevant
    ///
    /// `code` is run as it is: it must be what [`compile`] gave. Damage is
    /// noticed, a forger is not.
    ///
    /// # Errors
    ///
    /// Says why it cannot be run: other settings, another contract, an import
    /// that is not granted.
    pub fn load(
        &self,
        code: &[u8],
        kind: Kind,
        grants: &Grants,
        limits: &Limits,
    ) -> Result<Component, Fault> {
        let code = code::unpack(&self.key, code)?;
        let component = code_memory::component(&self.engine.0, code)
            .map_err(|error| no(format!("the compiled code does not fit: {}", chain(&error))))?;
        let about = component.component_type();
        for (name, _) in about.imports(&self.engine.0) {
            may_import(name, grants)?;
        }
        let linked = linker(&self.engine.0, grants)
            .and_then(|linker| linker.instantiate_pre(&component))
            .map_err(|error| does_not_fit(&error))?;
        let entry = entry(kind, linked)?;
        let component = Component::new(entry, self.engine.0.clone(), Arc::clone(&self.ticker));
        component
            .try_an_instance(nobody(grants, limits))
            .map_err(|error| {
                let fault = explain::fault(&error, limits, None);
                match fault.class {
                    // the engine's words for types that do not match
                    FaultClass::BadResult => does_not_fit(&error),
                    _ => fault,
                }
            })?;
        Ok(component)
    }
}

fn does_not_fit(error: &wasmtime::Error) -> Fault {
    no(format!(
        "it does not fit the contract of this host, sotp:plugin@1.0: {}",
        chain(error)
    ))
    .with_hint("build it with the SDK of this version, or update the daemon")
}

/// Whether an import is granted.
fn may_import(name: &str, grants: &Grants) -> Result<(), Fault> {
    let interface = Name::of_the_contract(name)?.interface;
    let capability = match interface {
        "kv" if !grants.kv => "kv",
        "inventory" if !grants.inventory => "inventory",
        "series-query" if grants.series.is_empty() => "series",
        "log" | "clock" | "config" | "kv" | "inventory" | "series-query" => return Ok(()),
        other if is_types_only(other) => return Ok(()),
        _ => {
            let message = format!("it imports {name}, which this host does not offer");
            return Err(no(message).with_hint("update the daemon, or use an older SDK"));
        }
    };
    let message = format!("it imports {name}, and {capability} was not granted");
    Err(
        Fault::new(FaultClass::NotGranted, message).with_hint(format!(
            "ask for {capability} under [capabilities] in plugin.toml; an administrator grants it"
        )),
    )
}

/// Everything that a plugin with these grants can reach.
fn linker(engine: &wasmtime::Engine, grants: &Grants) -> wasmtime::Result<Linker<Host>> {
    fn same(host: &mut Host) -> &mut Host {
        host
    }
    let mut linker = Linker::new(engine);
    let to = &mut linker;
    types::add_to_linker::<_, HasSelf<Host>>(to, same)?;
    metrics::add_to_linker::<_, HasSelf<Host>>(to, same)?;
    snmp::add_to_linker::<_, HasSelf<Host>>(to, same)?;
    http::add_to_linker::<_, HasSelf<Host>>(to, same)?;
    log::add_to_linker::<_, HasSelf<Host>>(to, same)?;
    clock::add_to_linker::<_, HasSelf<Host>>(to, same)?;
    config::add_to_linker::<_, HasSelf<Host>>(to, same)?;
    if grants.kv {
        kv::add_to_linker::<_, HasSelf<Host>>(to, same)?;
    }
    if grants.inventory {
        inventory::add_to_linker::<_, HasSelf<Host>>(to, same)?;
    }
    if !grants.series.is_empty() {
        series_query::add_to_linker::<_, HasSelf<Host>>(to, same)?;
    }
    Ok(linker)
}

fn entry(kind: Kind, linked: InstancePre<Host>) -> Result<Entry, Fault> {
    Entry::of(kind, linked).map_err(|error| no(format!("it is no {kind}: {}", chain(&error))))
}

/// A session for an instance that is only tried: there is nobody to ask.
fn nobody(grants: &Grants, limits: &Limits) -> Session {
    struct Nobody;

    impl HostCalls for Nobody {
        fn ask(&self, _: HostAsk) -> Result<HostAnswer, Fault> {
            Err(no("it asks the host before it is called"))
        }
    }

    Session::new(
        Nanos::default(),
        limits.clone(),
        grants.clone(),
        Arc::new(Settings::default()),
        Arc::new(Nobody),
    )
}
