//! The host with a real process: what it does when plugins, or the process
//! itself, misbehave.
#![allow(clippy::unwrap_used, reason = "what cannot be prepared has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use contract::{
    Call, Device, Ended, Failure, Fault, FaultClass, Grants, HostAnswer, HostAsk, Kind, Limits,
    Nanos, Octets, Output, ParserInput, Payload, Reply, Settings,
};
use plugin::testing::{Rationed, compile};
use plugin::{Code, Generation, Host, HostOptions, Load, Replay, Services};

const PROGRAM: &str = env!("CARGO_BIN_EXE_plugin-host");

struct Daemon;

impl Services for Daemon {
    fn answer(&self, plugin: &str, ask: HostAsk) -> Result<HostAnswer, Fault> {
        match ask {
            HostAsk::KvGet(key) => {
                let value = format!("{plugin}'s {key}").into_bytes();
                Ok(HostAnswer::Value(Some(Octets(value))))
            }
            _ => panic!("on purpose"),
        }
    }
}

struct Here {
    host: Host,
    directory: tempfile::TempDir,
}

/// A host; the program is known by another name, where that changes what it
/// does.
async fn started(name: &str, threads: usize, waiting: usize) -> Here {
    let directory = tempfile::tempdir().unwrap();
    let program = named(directory.path(), name);
    let options = HostOptions {
        program,
        cache: directory.path().join("cache"),
        threads,
        waiting,
        memory: 1 << 30,
    };
    let host = Host::start(options, Arc::new(Daemon), || Nanos(1_000_000_000));
    let host = host.await.unwrap();
    Here { host, directory }
}

fn named(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    std::os::unix::fs::symlink(PROGRAM, &path).unwrap();
    path
}

async fn usual() -> Here {
    started("plugin-host", 3, 1_000).await
}

fn fake(source: &str) -> Load {
    Load {
        kind: Kind::Parser,
        code: Code::Script {
            file: "fake".to_owned(),
            source: source.into(),
        },
        limits: Limits::of(Kind::Parser),
        grants: Grants::default(),
        settings: Settings::default(),
        for_its_author: false,
    }
}

fn parse(text: &str) -> Call {
    Call::Parse(ParserInput {
        device: Device::default(),
        source: "test".to_owned(),
        collected_at: Nanos(0),
        payload: Payload::Text(text.to_owned()),
    })
}

/// What a parser warned of, or how the call failed.
fn said(ended: &Ended) -> String {
    match &ended.result {
        Ok(Reply::Output(Output { warnings, .. })) => warnings.concat(),
        Ok(other) => format!("{other:?}"),
        Err(failure) => format!("{}: {failure}", failure.word()),
    }
}

fn class(ended: &Ended) -> Option<FaultClass> {
    match &ended.result {
        Err(Failure::Fault(fault)) => Some(fault.class),
        _ => None,
    }
}

impl Here {
    async fn load(&self, name: &str, load: Load) -> Generation {
        let loaded = self.host.load(name, load).await.unwrap();
        self.host.activate(name, loaded.generation);
        loaded.generation
    }

    async fn call(&self, name: &str, text: &str) -> String {
        said(&self.host.call(name, &parse(text)).await)
    }

    fn kill(&self) {
        let pid = self.host.host_figures().pid.unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Host) -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !is_so(&self.host) {
            let figures = self.host.host_figures();
            assert!(Instant::now() < until, "never {what}: {figures:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_started_is_there() {
    for _ in 0..30 {
        let figures = usual().await.host.host_figures();
        assert!(figures.pid.is_some(), "{figures:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_loaded_called_and_counted() {
    let here = usual().await;
    here.load("p", fake("echoes")).await;
    assert_eq!(here.call("p", "hello").await, "hello");
    let figures = here.host.figures("p");
    assert_eq!((figures.calls, figures.failures), (1, Vec::new()));
    assert!(here.call("q", "x").await.contains("no plugin is called"));
    let start = Call::Start {
        device: Device::default(),
    };
    let other = here.host.call("p", &start).await;
    assert!(said(&other).contains("it is a parser"));
    here.host.unload("p");
    assert!(here.call("p", "x").await.contains("no plugin is called"));
    here.until("a figure", |host| host.host_figures().resident > 0)
        .await;
    here.host.stop().await;
    assert_eq!(here.host.host_figures().pid, None);
    assert_eq!(
        class(&here.host.call("p", &parse("x")).await),
        Some(FaultClass::Load)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_asks_the_daemon_only_what_it_may() {
    let here = usual().await;
    let mut load = fake("keeps");
    here.load("denied", load.clone()).await;
    assert!(here.call("denied", "").await.starts_with("not_granted"));
    load.grants.kv = true;
    let generation = here.load("granted", load).await;
    assert_eq!(here.call("granted", "").await, "granted's k");
    let mut replay = Replay {
        now: Nanos(1),
        call: parse(""),
        settings: Settings::default(),
        host: Vec::new(),
    };
    assert_eq!(
        said(&here.host.replay(generation, replay.clone()).await),
        "nothing"
    );
    let value = HostAnswer::Value(Some(Octets(b"recorded".to_vec())));
    replay.host.push((HostAsk::KvGet("k".to_owned()), value));
    assert_eq!(
        said(&here.host.replay(generation, replay).await),
        "recorded"
    );
    assert_eq!(here.host.figures("granted").calls, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_break_the_contract_or_are_too_large_are_faults() {
    let here = usual().await;
    let mut load = fake("sends 100");
    load.limits.output = 64 << 10;
    load.limits.kv_bytes = 0;
    here.load("large", load).await;
    assert!(here.call("large", "").await.starts_with("result_size"));
    here.load("wrong", fake("measures")).await;
    assert!(here.call("wrong", "").await.starts_with("bad_result"));
    here.load("many", fake("sends 5000")).await;
    assert!(here.call("many", "").await.starts_with("bad_result"));
    here.load("logs", fake("logs 101")).await;
    assert!(here.call("logs", "").await.starts_with("log"));
    assert_eq!(here.host.log("logs").len(), 101);
    here.load("panics", fake("panics")).await;
    assert!(here.call("panics", "").await.contains("on purpose"));
    let long = "x".repeat(9 << 20);
    assert!(here.call("wrong", &long).await.starts_with("malformed"));
    assert_eq!(here.host.host_figures().restarts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_faults_pause_a_plugin_and_wrong_settings_at_once() {
    let here = usual().await;
    here.load("p", fake("breaks")).await;
    for _ in 0..5 {
        assert!(here.call("p", "bad").await.starts_with("trap"));
    }
    assert!(here.call("p", "good").await.starts_with("paused"));
    let figures = here.host.figures("p");
    assert!(figures.paused.unwrap() > Duration::from_secs(25));
    assert_eq!(figures.failures, [("paused", 1), ("trap", 5)]);
    here.load("p", fake("breaks")).await;
    assert_eq!(here.call("p", "good").await, "fine");
    here.load("q", fake("unset")).await;
    assert!(here.call("q", "").await.starts_with("config"));
    assert!(here.call("q", "").await.starts_with("paused"));
    assert_eq!(here.host.figures("q").paused, Some(Duration::MAX));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_plugin_leaves_a_thread_to_others_and_a_full_queue_says_so() {
    let here = started("plugin-host", 2, 16).await;
    here.load("slow", fake("sleeps 400")).await;
    here.load("quick", fake("echoes")).await;
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let host = here.host.clone();
            tokio::spawn(async move { class(&host.call("slow", &parse("")).await) })
        })
        .collect();
    here.until("full", |host| host.host_figures().in_flight >= 14)
        .await;
    let began = Instant::now();
    assert_eq!(here.call("quick", "hello").await, "hello");
    assert!(
        began.elapsed() < Duration::from_millis(390),
        "{:?}",
        began.elapsed()
    );
    let mut busy = 0;
    for call in calls {
        busy += usize::from(call.await.unwrap() == Some(FaultClass::Busy));
    }
    assert_eq!(busy, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_under_way_when_the_host_is_killed_are_made_again() {
    let here = usual().await;
    here.load("p", fake("sleeps 20")).await;
    here.load("q", fake("echoes")).await;
    let done = Arc::new(AtomicUsize::new(0));
    let calls: Vec<_> = (0..100)
        .map(|n| {
            let (host, done) = (here.host.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let name = if n % 2 == 0 { "p" } else { "q" };
                let ended = host.call(name, &parse("x")).await;
                done.fetch_add(1, Ordering::Relaxed);
                said(&ended)
            })
        })
        .collect();
    here.until("under way", |_| done.load(Ordering::Relaxed) >= 55)
        .await;
    here.kill();
    let killed = Instant::now();
    here.until("started again", |host| host.host_figures().restarts == 1)
        .await;
    assert_eq!(here.call("q", "back").await, "back");
    let took = killed.elapsed();
    for call in calls {
        let said = call.await.unwrap();
        assert!(said == "slept" || said == "x", "{said}");
    }
    assert_eq!(here.host.host_figures().restarts, 1);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_kills_the_host_twice_fails_and_pauses_its_plugin_alone() {
    let here = usual().await;
    here.load("poison", fake("dies-of poison")).await;
    here.load("p", fake("sleeps 30")).await;
    let others: Vec<_> = (0..40)
        .map(|_| {
            let host = here.host.clone();
            tokio::spawn(async move { said(&host.call("p", &parse("")).await) })
        })
        .collect();
    let ended = here.host.call("poison", &parse("poison")).await;
    assert_eq!(
        class(&ended),
        Some(FaultClass::HostDied),
        "{}",
        said(&ended)
    );
    assert!(here.call("poison", "x").await.starts_with("paused"));
    for other in others {
        assert_eq!(other.await.unwrap(), "slept");
    }
    assert_eq!(here.host.host_figures().restarts, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_kills_the_host_while_it_is_loaded_is_refused() {
    let here = usual().await;
    here.load("p", fake("echoes")).await;
    let fault = here
        .host
        .load("q", fake("kills-at-load"))
        .await
        .unwrap_err();
    assert_eq!(fault.class, FaultClass::HostDied);
    assert_eq!(here.call("p", "hello").await, "hello");
    assert_eq!(here.host.host_figures().restarts, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_hangs_in_the_host_is_ended_from_outside() {
    let here = usual().await;
    let mut load = fake("sleeps 600000");
    load.limits.wall_ms = 100;
    here.load("hangs", load).await;
    let ended = here.host.call("hangs", &parse("")).await;
    assert_eq!(class(&ended), Some(FaultClass::HostDied));
    assert!(said(&ended).contains("hangs"), "{}", said(&ended));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_lost_or_answered_by_another_version_while_it_is_reloaded() {
    let here = usual().await;
    here.load("p", fake("says 0")).await;
    let newest = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (host, newest, stop) = (here.host.clone(), newest.clone(), stop.clone());
            tokio::spawn(async move {
                let mut calls = 0;
                while stop.load(Ordering::SeqCst) == 0 {
                    let least = newest.load(Ordering::SeqCst);
                    let answer = said(&host.call("p", &parse("")).await);
                    let version: usize = answer.parse().unwrap_or_else(|_| panic!("{answer}"));
                    assert!(version >= least, "{version} after {least}");
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    for version in 1..=500 {
        here.load("p", fake(&format!("says {version}"))).await;
        newest.store(version, Ordering::SeqCst);
    }
    stop.store(1, Ordering::SeqCst);
    for caller in callers {
        assert!(caller.await.unwrap() > 10);
    }
    assert_eq!(here.host.host_figures().restarts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_taken_over_is_killed_and_hurts_nobody() {
    for evil in [
        "unknown-id",
        "wrong-kind",
        "garbage",
        "oversized",
        "unreadable",
        "asks",
        "asks-large",
        "loaded-twice",
    ] {
        let here = started(evil, 2, 100).await;
        here.load("p", fake("echoes")).await;
        let ended = here.host.call("p", &parse("x")).await;
        assert!(ended.result.is_err(), "{evil}");
        here.until(evil, |host| host.host_figures().restarts > 0)
            .await;
    }
    let here = started("wrong-reply", 2, 100).await;
    here.load("p", fake("echoes")).await;
    assert!(here.call("p", "x").await.starts_with("bad_result"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_asks_more_than_its_calls_may_is_killed() {
    let here = started("asks-on", 2, 100).await;
    let mut load = fake("echoes");
    load.limits.host_calls = 50;
    load.limits.wall_ms = 60_000;
    here.load("p", load).await;
    let said = here.call("p", "x").await;
    assert!(said.contains("more than 50 questions"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_waits_for_is_forgotten() {
    let here = usual().await;
    here.load("p", fake("sleeps 50")).await;
    let slow = parse("");
    let call = here.host.call("p", &slow);
    assert!(
        tokio::time::timeout(Duration::from_millis(5), call)
            .await
            .is_err()
    );
    here.until("idle", |host| host.host_figures().in_flight == 0)
        .await;
    assert_eq!(here.call("p", "").await, "slept");
    assert_eq!(here.host.host_figures().restarts, 0);
}

#[test]
fn the_sandbox_refuses_everything_that_it_should() {
    let probe = std::process::Command::new(PROGRAM)
        .arg("plugin-probe")
        .output();
    let probe = String::from_utf8(probe.unwrap().stdout).unwrap();
    let said: BTreeMap<&str, &str> = probe.lines().filter_map(|l| l.split_once(": ")).collect();
    assert!(said.len() > 10, "{probe}");
    assert!(!probe.contains("ALLOWED"), "{probe}");
}

#[tokio::test]
async fn a_program_that_is_no_host_is_an_error_and_no_wait() {
    let directory = tempfile::tempdir().unwrap();
    let options = HostOptions {
        program: "/bin/true".into(),
        cache: directory.path().join("cache"),
        threads: 1,
        waiting: 1,
        memory: 1 << 30,
    };
    let refused = Host::start(options, Arc::new(Daemon), || Nanos(0)).await;
    assert!(
        refused
            .unwrap_err()
            .message
            .contains("cannot start the plugin host")
    );
}

#[test]
fn compiling_has_limits_and_says_which_was_broken() {
    let directory = tempfile::tempdir().unwrap();
    let with = |name: &str, memory, cpu_s, wall_ms| {
        let rationed = Rationed {
            memory,
            cpu_s,
            wall: Duration::from_millis(wall_ms),
        };
        compile(&named(directory.path(), name), rationed, b"component")
    };
    assert_eq!(with("copies", 1 << 30, 60, 30_000).unwrap(), b"component");
    let cases = [
        (
            with("spins", 1 << 30, 1, 60_000),
            FaultClass::Cpu,
            "1 s of processor",
        ),
        (with("sleeps", 1 << 30, 60, 300), FaultClass::Time, "0.3 s"),
        (
            with("eats", 256 << 20, 60, 60_000),
            FaultClass::Memory,
            "256 MiB",
        ),
        (
            with("recurses", 1 << 30, 60, 60_000),
            FaultClass::Stack,
            "nested",
        ),
    ];
    for (done, class, text) in cases {
        let fault = done.unwrap_err();
        assert_eq!(fault.class, class, "{fault}");
        assert!(fault.message.contains(text), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_is_compiled_once_and_a_damaged_file_is_compiled_again() {
    let here = usual().await;
    let mut load = Load {
        code: Code::Component(component().into()),
        ..fake("")
    };
    load.grants = Grants {
        kv: true,
        inventory: true,
        series: Vec::new(),
    };
    let loaded = here.host.load("c", load.clone()).await.unwrap();
    assert!(!loaded.cached);
    here.host.activate("c", loaded.generation);
    assert!(here.host.load("c", load.clone()).await.unwrap().cached);
    for damage in [b"".as_slice(), b"SOTPWASM and more"] {
        let cache = here.directory.path().join("cache");
        for file in std::fs::read_dir(cache).unwrap() {
            std::fs::write(file.unwrap().path(), damage).unwrap();
        }
        assert!(!here.host.load("c", load.clone()).await.unwrap().cached);
    }
    assert!(here.host.load("c", load).await.unwrap().cached);
    here.kill();
    here.until("started again", |host| host.host_figures().restarts == 1)
        .await;
    let honest = here.host.call("c", &source("honest", "7")).await;
    assert!(matches!(honest.result, Ok(Reply::Output(_))), "{honest:?}");
    let endless = here.host.call("c", &source("loop", "")).await;
    assert_eq!(class(&endless), Some(FaultClass::Cpu), "{endless:?}");
    let figures = here.host.host_figures();
    assert_eq!(
        (figures.restarts, figures.not_in_force.len()),
        (1, 0),
        "{figures:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_component_is_refused_with_a_reason() {
    let here = usual().await;
    for bytes in [b"".as_slice(), b"\0asm\x01\0\0\0", b"\x7fELF"] {
        let load = Load {
            code: Code::Component(bytes.into()),
            ..fake("")
        };
        let fault = here.host.load("c", load).await.unwrap_err();
        assert_eq!(fault.class, FaultClass::Load, "{fault}");
    }
    assert_eq!(here.host.host_figures().restarts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_runs_in_the_sandbox_and_its_mistakes_have_a_place() {
    let here = usual().await;
    let script = |source: &str| Load {
        code: Code::Script {
            file: "main.rhai".to_owned(),
            source: source.into(),
        },
        ..fake("")
    };
    let broken = script("fn parse(input) { let x = ; }");
    let fault = here.host.load("s", broken).await.unwrap_err();
    let place = fault.place.unwrap();
    assert_eq!((place.file.as_str(), place.line), ("main.rhai", 1));
    let endless =
        "fn describe() { gauge(\"acme_x\", \"\", \"x\", []); }\nfn parse(input) {\n  loop { }\n}";
    here.load("s", script(endless)).await;
    let ended = here.host.call("s", &parse("x")).await;
    assert!(matches!(class(&ended), Some(FaultClass::Cpu)), "{ended:?}");
    assert_eq!(here.host.host_figures().restarts, 0);
}

/// The component that the tests of `wasm` use: it misbehaves on demand.
fn component() -> Vec<u8> {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wasm/tests/guest");
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
    let done = std::process::Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--quiet"])
        .args(["--target", "wasm32-unknown-unknown", "--target-dir"])
        .arg(&built)
        .current_dir(guest)
        // the settings of the daemon's build are not the guest's
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .unwrap();
    assert!(done.success(), "the guest does not build");
    let module = built.join("wasm32-unknown-unknown/release/guest.wasm");
    wasm::componentize(&std::fs::read(module).unwrap()).unwrap()
}

fn source(source: &str, text: &str) -> Call {
    let Call::Parse(mut input) = parse(text) else {
        unreachable!("a parser is called so");
    };
    input.source = source.to_owned();
    Call::Parse(input)
}
