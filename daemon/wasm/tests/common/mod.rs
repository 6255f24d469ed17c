//! A guest that misbehaves on demand, built once, and a short way to call it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test uses its part, and what cannot be prepared has failed"
)]

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock, OnceLock};

use contract::{
    Call, Cells, Column, Device, Ended, Failure, Fault, FaultClass, Grants, HostAnswer, HostAsk,
    HostCalls, Kind, Limits, Nanos, Octets, Oid, Output, ParserInput, Payload, Plugin, Reply,
    Session, Settings, Table,
};
use wasm::{Compiling, Component, Engine};

/// The guest's core module.
pub(crate) fn module() -> &'static [u8] {
    static MODULE: OnceLock<Vec<u8>> = OnceLock::new();
    MODULE.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
        let done = Command::new(env!("CARGO"))
            .args(["build", "--release", "--locked", "--quiet"])
            .args(["--target", "wasm32-unknown-unknown"])
            .arg("--target-dir")
            .arg(&built)
            .current_dir(here.join("tests/guest"))
            // the settings of the daemon's build are not the guest's
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .status()
            .unwrap();
        assert!(done.success(), "the guest does not build");
        std::fs::read(built.join("wasm32-unknown-unknown/release/guest.wasm")).unwrap()
    })
}

/// The guest as a component.
pub(crate) fn component() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| wasm::componentize(module()).unwrap())
}

pub(crate) const FOR_ITS_AUTHOR: Compiling = Compiling {
    for_its_author: true,
};

/// The guest's code.
pub(crate) fn code(how: Compiling) -> &'static [u8] {
    static CODE: [OnceLock<Vec<u8>>; 2] = [OnceLock::new(), OnceLock::new()];
    CODE[usize::from(how.for_its_author)].get_or_init(|| wasm::compile(component(), how).unwrap())
}

pub(crate) static ENGINE: LazyLock<Engine> =
    LazyLock::new(|| Engine::new(Compiling::default()).unwrap());

pub(crate) fn grants() -> Grants {
    Grants {
        kv: true,
        inventory: true,
        series: Vec::new(),
    }
}

/// The limits of a parser, on a machine that may be slow and busy.
pub(crate) fn limits() -> Limits {
    Limits {
        cpu_ms: 1_000,
        wall_ms: 60_000,
        ..Limits::of(Kind::Parser)
    }
}

/// The guest, loaded with those limits.
pub(crate) fn guest() -> Component {
    guest_with(&limits())
}

pub(crate) fn guest_with(limits: &Limits) -> Component {
    let code = code(Compiling::default());
    ENGINE.load(code, Kind::Parser, &grants(), limits).unwrap()
}

/// A daemon that knows one key and no device.
struct Daemon;

impl HostCalls for Daemon {
    fn ask(&self, ask: HostAsk) -> Result<HostAnswer, Fault> {
        Ok(match ask {
            HostAsk::KvGet(key) if key == "key" => {
                HostAnswer::Value(Some(Octets(b"four".to_vec())))
            }
            HostAsk::KvGet(_) => HostAnswer::Value(None),
            HostAsk::KvKeys { .. } => HostAnswer::Keys(Vec::new()),
            _ => HostAnswer::Device(None),
        })
    }
}

pub(crate) fn session(limits: &Limits) -> Session {
    session_with(limits, Arc::new(Daemon))
}

pub(crate) fn session_with(limits: &Limits, daemon: Arc<dyn HostCalls>) -> Session {
    let settings = Settings {
        values: [("limit".to_owned(), "90".to_owned())].into(),
        json: "{\"limit\":90}".to_owned(),
    };
    Session::new(
        Nanos(1),
        limits.clone(),
        grants(),
        Arc::new(settings),
        daemon,
    )
}

pub(crate) fn parse(source: &str, payload: Payload) -> Call {
    Call::Parse(ParserInput {
        device: Device::default(),
        source: source.to_owned(),
        collected_at: Nanos(1),
        payload,
    })
}

/// Calls the guest with a behaviour and its number.
pub(crate) fn call(guest: &Component, limits: &Limits, source: &str, number: u64) -> Ended {
    guest.call(
        parse(source, Payload::Text(number.to_string())),
        session(limits),
    )
}

/// The one value of a result.
pub(crate) fn value(ended: &Ended) -> f64 {
    match &ended.result {
        Ok(Reply::Output(output)) => output.rows[0].values[0].1,
        other => panic!("no value: {other:?}"),
    }
}

pub(crate) fn output(ended: Ended) -> Output {
    match ended.result {
        Ok(Reply::Output(output)) => output,
        other => panic!("no output: {other:?}"),
    }
}

/// How a call broke.
pub(crate) fn fault(ended: Ended) -> Fault {
    match ended.result {
        Err(Failure::Fault(fault)) => fault,
        other => panic!("no fault: {other:?}"),
    }
}

/// The fault of one behaviour, after which the component works on.
#[track_caller]
pub(crate) fn breaks(source: &str, number: u64, class: FaultClass) -> Fault {
    breaks_in(&guest(), source, number, class)
}

#[track_caller]
pub(crate) fn breaks_in(guest: &Component, source: &str, number: u64, class: FaultClass) -> Fault {
    let limits = limits();
    let fault = fault(call(guest, &limits, source, number));
    assert_eq!(fault.class, class, "{source}: {fault:?}");
    assert_eq!(value(&call(guest, &limits, "honest", 7)), 7.0, "{source}");
    fault
}

/// An interface table.
pub(crate) fn ports(count: u32) -> Payload {
    let column = |number: u32, cells: Cells| Column {
        base: Oid(vec![1, 3, 6, 1, 2, 1, 2, 2, 1, number]),
        rows: (0..count).collect(),
        cells,
    };
    let numbers = |of: fn(u64) -> u64| Cells::Uints((1..=u64::from(count)).map(of).collect());
    Payload::SnmpTable(Table {
        indexes: (1..=count).map(|index| Oid(vec![index])).collect(),
        columns: vec![
            column(
                2,
                Cells::Texts((1..=count).map(|n| format!("Gi0/{n}")).collect()),
            ),
            column(5, numbers(|_| 1_000_000_000)),
            column(7, numbers(|_| 1)),
            column(8, numbers(|n| 1 + n % 2)),
            column(10, numbers(|n| n * 1_000)),
            column(14, numbers(|n| n)),
            column(16, numbers(|n| n * 2_000)),
            column(20, numbers(|_| 0)),
        ],
    })
}
