//! Plugins: calls through the process boundary, a fresh instance each, beside the
//! same code native; what fifty of them take; what a thousand devices cost.
//!
//! The guest is `benches/guest`, a parser in Rust. Processor time is that of
//! both processes together.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::{
    Call, Cells, Column, Ended, Fault, Grants, HostAnswer, HostAsk, Kind, Limits, Nanos, Octets,
    Oid, ParserInput, Payload, Settings, SnmpValue, Table, Varbind,
};
use harness::{Daemon, Site, binary, eventually};
use plugin::{Code, Host, HostOptions, Load, Replay};
use tokio::task::JoinSet;

use crate::report::{Bar, Report, Value, load_average, say};
use crate::scrape::Scrape;
use crate::window::Window;
use crate::{fleet, peers};

/// How long each kind of call is made.
const SPAN: Duration = Duration::from_secs(5);

/// Calls on their way at once.
const AT_ONCE: usize = 256;

/// Plugins that are loaded at once.
const MANY: usize = 50;

/// Calls in one process, for what the boundary costs.
const IN_PROCESS: u32 = 20_000;

const PORTS: u32 = 48;

struct Nobody;

impl plugin::Services for Nobody {
    fn answer(&self, _plugin: &str, _ask: HostAsk) -> Result<HostAnswer, Fault> {
        Ok(HostAnswer::Value(None))
    }
}

fn now() -> Nanos {
    fleet::now().into()
}

pub(crate) fn run(report: &mut Report) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let component: Arc<[u8]> = component(folder.path()).into();
    runtime.block_on(calls(report, folder.path(), &component));
    runtime.block_on(many(report, folder.path(), &component));
    runtime.block_on(reload(report, folder.path(), &component));
    drop(runtime);
    thousand_devices(report, folder.path(), &component);
}

/// The guest as a component, built by cargo and packed by `sotp`.
fn component(folder: &Path) -> Vec<u8> {
    let guest = guest();
    let target = folder.join("guest");
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(&guest)
        .env("CARGO_TARGET_DIR", &target)
        .args([
            "build",
            "--quiet",
            "--release",
            "--lib",
            "--target",
            "wasm32-unknown-unknown",
        ])
        .status()
        .expect("cargo");
    assert!(
        built.success(),
        "the guest cannot be built: rustup target add wasm32-unknown-unknown"
    );
    let module = target.join("wasm32-unknown-unknown/release/ports.wasm");
    let module = std::fs::read(module).expect("a module");
    wasm::componentize(&module).expect("a component")
}

fn guest() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/guest")
}

fn options(folder: &Path) -> HostOptions {
    HostOptions {
        program: binary("sotpd"),
        cache: folder.join("cache"),
        threads: 2,
        waiting: 4_096,
        memory: 1 << 30,
    }
}

fn load(component: &Arc<[u8]>) -> Load {
    Load {
        kind: Kind::Parser,
        code: Code::Component(Arc::clone(component)),
        limits: Limits::of(Kind::Parser),
        grants: Grants::default(),
        settings: Settings::default(),
        for_its_author: false,
    }
}

/// ifTable of a switch with 48 ports, all 22 columns but those of OIDs.
fn table() -> Call {
    let rows: Vec<u32> = (0..PORTS).collect();
    let counters = [3, 4, 5, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21];
    let column = |number: u32, cells: Cells| Column {
        base: Oid(vec![1, 3, 6, 1, 2, 1, 2, 2, 1, number]),
        rows: rows.clone(),
        cells,
    };
    let mut columns = vec![
        column(
            2,
            Cells::Texts(
                rows.iter()
                    .map(|i| format!("GigabitEthernet1/0/{i}"))
                    .collect(),
            ),
        ),
        column(7, Cells::Ints(vec![1; rows.len()])),
        column(8, Cells::Ints(vec![1; rows.len()])),
    ];
    for number in counters {
        let cells = rows.iter().map(|row| u64::from(row * 12_345 + number));
        columns.push(column(number, Cells::Uints(cells.collect())));
    }
    let table = Table {
        indexes: (1..=PORTS).map(|index| Oid(vec![index])).collect(),
        columns,
    };
    parse("snmp:ifTable", Payload::SnmpTable(table))
}

fn varbinds() -> Call {
    let varbinds = (1..=10).map(|object| Varbind {
        name: Oid(vec![1, 3, 6, 1, 4, 1, 318, 1, 1, 1, object, 0]),
        value: match object % 3 {
            0 => SnmpValue::Octets(Octets(b"1234".to_vec())),
            1 => SnmpValue::Unsigned32(object),
            _ => SnmpValue::Integer(7),
        },
    });
    parse("snmp:scalars", Payload::Snmp(varbinds.collect()))
}

fn parse(source: &str, payload: Payload) -> Call {
    Call::Parse(ParserInput {
        device: contract::Device {
            id: "1".to_owned(),
            hostname: "core-sw-01.example.net".to_owned(),
            address: "192.0.2.1".to_owned(),
            vendor: "ciscoSystems".to_owned(),
            ..contract::Device::default()
        },
        source: source.to_owned(),
        collected_at: now(),
        payload,
    })
}

async fn calls(report: &mut Report, folder: &Path, component: &Arc<[u8]>) {
    let host = Host::start(options(folder), Arc::new(Nobody), now).await;
    let host = host.expect("a host");
    let loaded = host
        .load("ports", load(component))
        .await
        .expect("the guest");
    host.activate("ports", loaded.generation);
    for (name, call, bar) in [
        ("table_48", table(), 4_000.0),
        ("varbinds_10", varbinds(), 15_000.0),
    ] {
        let through = through_the_boundary(&host, &call).await;
        let value = Value::new(format!("plugin.{name}"), 1.0 / through.cpu, "calls/s/core");
        report.load(Some(load_average()));
        report.add(value.bar(Bar::AtLeast(bar)));
        let name_wall = format!("plugin.{name}_throughput");
        report.add(Value::new(name_wall, through.per_second, "calls/s"));
        let inside = in_process(component, &call);
        let share = (through.cpu - inside) / through.cpu;
        report.add(Value::new(
            format!("plugin.{name}_boundary"),
            share * 100.0,
            "% of the call",
        ));
        let native = native(folder, &call);
        let value = Value::new(
            format!("plugin.{name}_time"),
            through.cpu * 1e6,
            "us of CPU",
        );
        report.add(value.peer("native", native * 1e6));
    }
    host.stop().await;
}

struct Through {
    /// Processor seconds of one call, in both processes.
    cpu: f64,
    per_second: f64,
}

async fn through_the_boundary(host: &Host, call: &Call) -> Through {
    let pid = host.host_figures().pid.expect("a process");
    let good = |ended: &Ended| assert!(ended.result.is_ok(), "{:?}", ended.result);
    // warm
    for _ in 0..1_000 {
        good(&host.call("ports", call).await);
    }
    let (began, own, child) = (Instant::now(), own_cpu(), cpu_of(pid));
    let mut going = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (host, call) = (host.clone(), call.clone());
        going.spawn(async move {
            let mut calls = 0_u32;
            while began.elapsed() < SPAN {
                let ended = host.call("ports", &call).await;
                assert!(ended.result.is_ok(), "{:?}", ended.result);
                calls += 1;
            }
            calls
        });
    }
    let mut calls = 0;
    while let Some(made) = going.join_next().await {
        calls += made.expect("calls");
    }
    let cpu = own_cpu() - own + cpu_of(pid) - child;
    let seconds = began.elapsed().as_secs_f64();
    say(&format!(
        "   {calls} calls in {seconds:.1} s, {cpu:.2} s of CPU"
    ));
    Through {
        cpu: cpu / f64::from(calls),
        per_second: f64::from(calls) / seconds,
    }
}

/// Processor seconds of a call in this very process.
fn in_process(component: &Arc<[u8]>, call: &Call) -> f64 {
    let load = load(component);
    let guest = plugin::load_here(&load).expect("the guest");
    let replay = || Replay {
        now: now(),
        call: call.clone(),
        settings: Settings::default(),
        host: Vec::new(),
    };
    let once = || {
        let ended = plugin::replay_here(&*guest, &load, replay());
        assert!(ended.result.is_ok(), "{:?}", ended.result);
        ended.usage.cpu_ns
    };
    (0..200).for_each(|_| {
        once();
    });
    let own = own_cpu();
    let calls = IN_PROCESS / 4;
    (0..calls).for_each(|_| {
        once();
    });
    (own_cpu() - own) / f64::from(calls)
}

/// Processor seconds of the same code native, with its input and output made as
/// often as a component's are: `benches/guest/examples/native.rs`.
fn native(folder: &Path, call: &Call) -> f64 {
    let table = match call {
        Call::Parse(ParserInput {
            payload: Payload::SnmpTable(table),
            ..
        }) => recorded(table),
        _ => String::new(),
    };
    let recording = folder.join("recording");
    std::fs::write(&recording, table).expect("writable");
    let ran = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(guest())
        .env("CARGO_TARGET_DIR", folder.join("guest"))
        .args(["run", "--quiet", "--release", "--example", "native", "--"])
        .arg(&recording)
        .output()
        .expect("cargo");
    let said = String::from_utf8_lossy(&ran.stdout);
    said.trim().parse().expect("seconds of a call")
}

/// A table as a recording has it.
fn recorded(table: &Table) -> String {
    let mut lines = Vec::new();
    for column in &table.columns {
        for (place, row) in column.rows.iter().enumerate() {
            let index = &table.indexes[*row as usize];
            let (kind, value) = match &column.cells {
                Cells::Ints(cells) => (2, cells[place].to_string()),
                Cells::Uints(cells) => (65, cells[place].to_string()),
                Cells::Texts(cells) => (4, cells[place].clone()),
                Cells::Octets(_) | Cells::Mixed(_) => continue,
            };
            lines.push(format!("{}.{index}|{kind}|{value}", column.base));
        }
    }
    lines.join("\n")
}

fn own_cpu() -> f64 {
    cpu_of(std::process::id())
}

/// Processor seconds that a process used, from /proc/PID/stat and schedstat.
fn cpu_of(pid: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let nanos = tasks.flatten().filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    });
    nanos.sum::<f64>() / 1e9
}

fn resident_of(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.expect("a resident size") / 1024.0
}

/// Fifty plugins: their memory, and a start with all of them in the cache.
async fn many(report: &mut Report, folder: &Path, component: &Arc<[u8]>) {
    let host = Host::start(options(folder), Arc::new(Nobody), now).await;
    let host = host.expect("a host");
    let pid = host.host_figures().pid.expect("a process");
    let (own, child) = (resident_of(std::process::id()), resident_of(pid));
    let variants: Vec<Arc<[u8]>> = (0..MANY).map(|number| variant(component, number)).collect();
    for (number, variant) in variants.iter().enumerate() {
        let name = format!("ports-{number}");
        let loaded = host.load(&name, load(variant)).await.expect("the guest");
        host.activate(&name, loaded.generation);
        let ended = host.call(&name, &table()).await;
        assert!(ended.result.is_ok(), "{:?}", ended.result);
    }
    let more = resident_of(std::process::id()) - own + resident_of(pid) - child;
    report.load(Some(load_average()));
    let value = Value::new("plugin.memory_of_50", more, "MiB");
    report.add(value.bar(Bar::AtMost(150.0)));
    host.stop().await;

    let began = Instant::now();
    let host = Host::start(options(folder), Arc::new(Nobody), now).await;
    let host = host.expect("a host");
    let mut going = JoinSet::new();
    for (number, variant) in variants.iter().enumerate() {
        let (host, load) = (host.clone(), load(variant));
        going.spawn(async move {
            let name = format!("ports-{number}");
            let loaded = host.load(&name, load).await.expect("the guest");
            assert!(loaded.cached, "{name} was compiled again");
            host.activate(&name, loaded.generation);
        });
    }
    while let Some(loaded) = going.join_next().await {
        loaded.expect("loaded");
    }
    let value = Value::new("plugin.start_of_50", began.elapsed().as_secs_f64(), "s");
    report.add(value.bar(Bar::AtMost(1.0)));
    host.stop().await;
}

/// The component with another custom section: another plugin for the cache.
fn variant(component: &[u8], number: usize) -> Arc<[u8]> {
    let name = format!("bench-{number:04}");
    let mut bytes = component.to_vec();
    // section 0: custom; its size, the name's length, the name
    let length = u8::try_from(name.len()).expect("short");
    bytes.extend([0, length + 1, length]);
    bytes.extend(name.as_bytes());
    bytes.into()
}

/// One plugin in the place of another, under load: how long, and that no call is
/// lost.
async fn reload(report: &mut Report, folder: &Path, component: &Arc<[u8]>) {
    let host = Host::start(options(folder), Arc::new(Nobody), now).await;
    let host = host.expect("a host");
    let loaded = host
        .load("ports", load(component))
        .await
        .expect("the guest");
    host.activate("ports", loaded.generation);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut going = JoinSet::new();
    for _ in 0..2 {
        let (host, stop) = (host.clone(), Arc::clone(&stop));
        going.spawn(async move {
            let mut lost = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let ended = host.call("ports", &varbinds()).await;
                lost += u32::from(ended.result.is_err());
            }
            lost
        });
    }
    let mut took = Vec::new();
    for number in 0..20 {
        let other = variant(component, number);
        let began = Instant::now();
        let loaded = host.load("ports", load(&other)).await.expect("the guest");
        host.activate("ports", loaded.generation);
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut lost = 0;
    while let Some(calls) = going.join_next().await {
        lost += calls.expect("calls");
    }
    report.load(Some(load_average()));
    let worst = took.iter().copied().fold(0.0, f64::max);
    let value = Value::new("plugin.reload_max", worst, "ms");
    report.add(value.bar(Bar::AtMost(100.0)));
    report.add(Value::new("plugin.reload_p50", fleet::median(took), "ms"));
    let value = Value::new("plugin.reload_lost", f64::from(lost), "calls");
    report.add(value.bar(Bar::AtMost(0.0)));
    host.stop().await;
}

/// As the simulator is told.
const SITE: [&str; 4] = ["--uniform", "1000", "--ports", "48"];

const SETTINGS: &str = "[icmp]\nevery = \"1d\"\n[snmp]\nevery = \"30s\"\n";

/// Two rounds.
const WATCHED: Duration = Duration::from_secs(60);

/// A thousand switches every 30 s, without a plugin and with one that reads
/// ifTable of each.
fn thousand_devices(report: &mut Report, folder: &Path, component: &[u8]) {
    let namespace = fleet::namespace();
    let packages = packages(folder, component);
    let settings = format!("{SETTINGS}[plugins]\ndir = \"{}\"\n", packages.display());
    let home = fleet::folder(&settings);
    let site = Site::start(home.path(), Some(&namespace), &SITE);
    let csv = site.csv(fleet::CREDENTIAL);
    let daemon = Daemon::start(&home, Some(&namespace));
    fleet::import(&daemon, &csv);
    let answered = |least: f64| {
        eventually(180, "polls", || {
            let scrape = Scrape::of(&home.socket());
            let polls = scrape.sum(
                "sotp_polls_total",
                &["check=\"snmp\"", "result=\"answered\""],
            );
            if polls >= least { Ok(()) } else { Err(polls) }
        });
    };
    answered(1_000.0);
    fleet::pause(Duration::from_secs(5));
    let without = Window::watch(&daemon, &home, WATCHED);
    let resident = daemon.process().resident_bytes();
    let socket = home.socket().display().to_string();
    let sotp = |words: &[&str]| {
        let done = Command::new(binary("sotp"))
            .args(["--socket", &socket, "plugin"])
            .args(words)
            .output()
            .expect("sotp");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "sotp plugin {words:?}: {said}");
    };
    // from the daemon's own directory, which needs no signature
    sotp(&["install", "--bundled", "ports"]);
    sotp(&["enable", "ports"]);
    let scrape = Scrape::of(&home.socket());
    let before = scrape.sum("sotp_plugin_calls_total", &["plugin=\"ports\""]);
    eventually(90, "a call for each device", || {
        let scrape = Scrape::of(&home.socket());
        let calls = scrape.sum("sotp_plugin_calls_total", &["plugin=\"ports\""]);
        if calls - before >= 1_000.0 {
            Ok(())
        } else {
            Err(calls)
        }
    });
    let pid: u32 = {
        let body = daemon.get("/api/v1/plugins");
        let pid = body["host"]["pid"].as_u64().expect("a plugin host");
        u32::try_from(pid).expect("a pid")
    };
    let child = cpu_of(pid);
    let with = Window::watch(&daemon, &home, WATCHED);
    let child = cpu_of(pid) - child;
    let share = |window: &Window, more: f64| (window.cpu + more) / window.seconds * 100.0;
    report.load(Some(with.load));
    let (without_it, with_it) = (share(&without, 0.0), share(&with, child));
    report.add(Value::new(
        "plugin.1000_devices_built_in",
        without_it,
        "% of one core",
    ));
    let value = Value::new(
        "plugin.1000_devices_more",
        with_it - without_it,
        "% of one core",
    );
    report.add(value.bar(Bar::AtMost(5.0)));
    report.add(Value::new(
        "plugin.1000_devices_host",
        child / with.seconds * 100.0,
        "% of one core",
    ));
    let more = daemon.process().resident_bytes().saturating_sub(resident);
    report.add(Value::new(
        "plugin.1000_devices_memory",
        peers::mib(more),
        "MiB more",
    ));
    assert!(daemon.stop().success(), "sotpd did not stop cleanly");
}

/// A directory of packages as the daemon is installed with, with the guest in it.
fn packages(folder: &Path, component: &[u8]) -> PathBuf {
    let source = folder.join("ports");
    std::fs::create_dir_all(&source).expect("a folder");
    std::fs::write(source.join("plugin.toml"), MANIFEST).expect("writable");
    let packed = package::Package::pack(&source, Some(component)).expect("a package");
    let packages = folder.join("packages");
    std::fs::create_dir_all(&packages).expect("a folder");
    std::fs::write(packages.join("ports.sotp-plugin"), packed).expect("writable");
    packages
}

const MANIFEST: &str = r#"
[plugin]
id = "ports"
version = "1.0.0"
kind = "parser"
api = "1.0"
description = "Ports of switches, for the benchmark"
license = "Apache-2.0"
main = "plugin.wasm"

[[collect]]
name = "ifTable"
builtin = "ifTable"
"#;
