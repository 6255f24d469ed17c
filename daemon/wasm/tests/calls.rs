//! Calls of a guest that does what no plugin should: each ends with a fault
//! that says what happened, and the next call finds nothing of it.

mod common;

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use common::{
    FOR_ITS_AUTHOR, breaks, call, code, fault, grants, guest, limits, output, parse, ports,
    session, session_with, value,
};
use contract::{
    Call, Failure, Fault, FaultClass, HostAnswer, HostAsk, HostCalls, Kind, Limits, Oid, Payload,
    Plugin, PluginError, Reply, SnmpValue, Varbind,
};
use wasm::{Compiling, Engine};

#[test]
fn an_honest_table_is_read_row_by_row() {
    let ended = guest().call(parse("ports", ports(48)), session(&limits()));
    assert!(ended.usage.memory >= 64 << 10, "{:?}", ended.usage);
    assert!(ended.usage.cpu_ns > 0 && ended.usage.wall_ns > 0);
    let rows = output(ended).rows;
    assert_eq!(rows.len(), 48);
    assert_eq!(rows[47].labels, ["48", "Gi0/48"]);
    let values = [(1, 1e9), (2, 1.0), (3, 48_000.0), (4, 96_000.0)];
    assert_eq!(rows[47].values, values);
}

#[test]
fn varbinds_settings_kept_values_and_devices_reach_the_guest() {
    let guest = guest();
    let varbind = Varbind {
        name: Oid(vec![1, 3, 6]),
        value: SnmpValue::IpAddress(10, 0, 0, 1),
    };
    let payload = Payload::Snmp(vec![varbind; 10]);
    let ended = guest.call(parse("honest", payload), session(&limits()));
    assert_eq!(value(&ended), 10.0);
    assert_eq!(value(&call(&guest, &limits(), "setting", 0)), 90.0);
    assert_eq!(value(&call(&guest, &limits(), "kv read", 0)), 4.0);
    assert_eq!(value(&call(&guest, &limits(), "device", 0)), 0.0);
    let ended = call(&guest, &limits(), "kv", 3);
    let kept: Vec<&str> = ended.kv.iter().map(|write| write.key.as_str()).collect();
    assert_eq!(kept, ["0", "1", "2"]);
}

#[test]
fn nothing_of_a_call_is_left_for_the_next() {
    let guest = guest();
    for _ in 0..5 {
        assert_eq!(value(&call(&guest, &limits(), "seen", 0)), 0.0);
    }
}

#[test]
fn what_a_plugin_says_is_no_fault() {
    let ended = call(&guest(), &limits(), "not mine", 0);
    let said = Failure::Said(PluginError::NotMine("a test".to_owned()));
    assert_eq!(ended.result, Err(said));
}

#[test]
fn a_description_comes_back_as_it_was_given() {
    let ended = guest().call(Call::Describe, session(&limits()));
    let Ok(Reply::Metrics(descriptor)) = ended.result else {
        panic!("{ended:?}");
    };
    assert_eq!(descriptor.metrics[1].name, "acme_speed_bits");
    assert_eq!(descriptor.metrics[1].labels, ["if_index", "if_name"]);
}

#[test]
fn a_parser_is_not_asked_for_verdicts() {
    let device = contract::Device::default();
    let fault = fault(guest().call(Call::Start { device }, session(&limits())));
    assert_eq!(fault.message, "it is a parser, which has no function start");
}

#[test]
fn an_endless_loop_ends_at_its_processor_time() {
    let started = Instant::now();
    let fault = breaks("loop", 0, FaultClass::Cpu);
    assert_eq!(fault.message, "it used more than 1000 ms of processor time");
    // a busy machine may stretch it, and the wall clock would end it by then
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn an_endless_loop_ends_at_its_time_where_that_is_less() {
    let limits = Limits {
        wall_ms: 20,
        ..limits()
    };
    let fault = fault(call(&guest(), &limits, "loop", 0));
    assert_eq!(fault.class, FaultClass::Time);
    assert_eq!(fault.message, "it took longer than 20 ms");
}

#[test]
fn an_endless_recursion_ends_at_the_stack() {
    let fault = breaks("recursion", u64::MAX, FaultClass::Stack);
    assert!(fault.message.contains("its stack was full"), "{fault}");
    let fault = breaks("numbers", u64::MAX, FaultClass::Stack);
    assert!(fault.trace[0].contains("guest::down"), "{fault:?}");
    let ended = call(&guest(), &limits(), "recursion", 1_000);
    assert_eq!(value(&ended), 500_500.0);
}

#[test]
fn a_memory_hog_ends_at_its_memory() {
    let fault = breaks("memory", 0, FaultClass::Memory);
    assert!(fault.message.contains("it may have 67108864"), "{fault}");
    let ended = call(&guest(), &limits(), "grow", 32 << 20);
    assert!(ended.usage.memory >= 32 << 20, "{:?}", ended.usage);
    let fault = fault_of("grow", 65 << 20);
    assert_eq!(fault.class, FaultClass::Memory);
}

fn fault_of(source: &str, number: u64) -> Fault {
    fault(call(&guest(), &limits(), source, number))
}

#[test]
fn a_component_that_needs_more_than_it_may_have_is_not_loaded() {
    let limits = Limits {
        memory: 64 << 10,
        ..limits()
    };
    let code = code(Compiling::default());
    let loaded = common::ENGINE.load(code, Kind::Parser, &grants(), &limits);
    assert_eq!(loaded.unwrap_err().class, FaultClass::Memory);
}

#[test]
fn an_input_that_does_not_fit_into_its_memory_ends_the_call() {
    let text = "x".repeat(65 << 20);
    let ended = guest().call(parse("honest", Payload::Text(text)), session(&limits()));
    assert_eq!(fault(ended).class, FaultClass::Memory);
}

#[test]
fn a_trap_is_a_trap() {
    let fault = breaks("trap", 0, FaultClass::Trap);
    assert!(fault.message.starts_with("it trapped: "), "{fault}");
}

#[test]
fn a_panic_says_its_words_and_its_place() {
    let fault = breaks("panic", 12, FaultClass::Trap);
    assert_eq!(
        fault.message,
        "it panicked: index out of bounds: the len is 0 but the index is 12"
    );
    let place = fault.place.unwrap();
    assert_eq!(place.file, "src/lib.rs");
    assert!(place.line > 50 && place.column > 0, "{place}");
}

#[test]
fn an_author_sees_the_line_of_a_loop_and_who_called_it() {
    let engine = Engine::new(FOR_ITS_AUTHOR).unwrap();
    let limits = limits();
    let guest = engine
        .load(code(FOR_ITS_AUTHOR), Kind::Parser, &grants(), &limits)
        .unwrap();
    let fault = fault(call(&guest, &limits, "loop", 0));
    assert_eq!(fault.class, FaultClass::Cpu);
    assert_eq!(
        fault.place.as_ref().unwrap().file,
        "src/lib.rs",
        "{fault:?}"
    );
    assert!(fault.trace[0].contains("endless"), "{fault:?}");
    assert!(fault.trace[0].contains(" at src/lib.rs:"), "{fault:?}");
    assert!(fault.trace.len() > 1, "{fault:?}");
}

#[test]
fn a_large_result_is_not_copied() {
    let fault = breaks("large", 48 << 20, FaultClass::ResultSize);
    assert_eq!(
        fault.message,
        "it handed more than 16777216 bytes to the host"
    );
    let fault = breaks("large log", 48 << 20, FaultClass::ResultSize);
    assert_eq!(
        fault.message,
        "it handed more than 16777216 bytes to the host"
    );
}

#[test]
fn a_flood_of_log_lines_ends_the_call_and_the_first_stay() {
    let fault = breaks("log", u64::MAX, FaultClass::Log);
    assert!(fault.message.contains("100 lines"), "{fault}");
    let ended = call(&guest(), &limits(), "log", 100);
    assert_eq!(ended.log.len(), 100);
    let ended = call(&guest(), &limits(), "log", 101);
    assert_eq!(ended.log.len(), 100);
    assert_eq!(
        breaks("large log", 1 << 20, FaultClass::Log).class,
        FaultClass::Log
    );
}

#[test]
fn a_flood_of_kept_values_ends_the_call_and_keeps_none() {
    let ended = call(&guest(), &limits(), "kv", u64::MAX);
    assert!(ended.kv.is_empty());
    assert_eq!(fault(ended).class, FaultClass::HostCalls);
    breaks("kv", u64::MAX, FaultClass::HostCalls);
    // within the number of calls, the guest is told and goes on
    assert_eq!(value(&call(&guest(), &limits(), "kv", 5_000)), 2_000.0);
}

#[test]
fn results_that_break_the_contract_are_dropped() {
    let fault = breaks("nan", 0, FaultClass::BadResult);
    assert_eq!(fault.message, "row 0: acme_value is NaN");
    let fault = breaks("labels", 0, FaultClass::BadResult);
    assert!(fault.message.contains("has 1 label values"), "{fault}");
    let fault = breaks("rows", 100_000, FaultClass::BadResult);
    assert!(fault.message.contains("100000 values"), "{fault}");
}

/// A daemon that takes its time.
struct Slow(Duration);

impl HostCalls for Slow {
    fn ask(&self, _: HostAsk) -> Result<HostAnswer, Fault> {
        let (_never, never) = std::sync::mpsc::channel::<()>();
        let _ = never.recv_timeout(self.0);
        Ok(HostAnswer::Value(None))
    }
}

#[test]
fn waiting_for_the_daemon_counts_as_time_and_not_as_work() {
    let ask = |limits: &Limits| {
        let session = session_with(limits, Arc::new(Slow(Duration::from_millis(200))));
        guest().call(parse("kv read", Payload::Text(String::new())), session)
    };
    let little_work = Limits {
        cpu_ms: 100,
        ..limits()
    };
    assert_eq!(value(&ask(&little_work)), -1.0);
    let little_time = Limits {
        wall_ms: 150,
        ..limits()
    };
    assert_eq!(fault(ask(&little_time)).class, FaultClass::Time);
}

#[test]
fn a_daemon_that_fails_ends_the_call_with_its_fault() {
    struct Gone;
    impl HostCalls for Gone {
        fn ask(&self, _: HostAsk) -> Result<HostAnswer, Fault> {
            Err(Fault::new(FaultClass::HostDied, "the daemon is gone"))
        }
    }
    let session = session_with(&limits(), Arc::new(Gone));
    let ended = guest().call(parse("kv read", Payload::Text(String::new())), session);
    let fault = fault(ended);
    assert_eq!(
        (fault.class, fault.message.as_str()),
        (FaultClass::HostDied, "the daemon is gone")
    );
}

/// A daemon that answers nobody before everybody has asked or was turned away.
struct Crowd {
    here: Mutex<usize>,
    changed: Condvar,
}

impl Crowd {
    const ALL: usize = 70;

    fn one_more(&self) -> MutexGuard<'_, usize> {
        let mut here = self.here.lock().expect("nobody panics here");
        *here += 1;
        self.changed.notify_all();
        here
    }
}

impl HostCalls for Crowd {
    fn ask(&self, _: HostAsk) -> Result<HostAnswer, Fault> {
        let here = self.one_more();
        let all = self.changed.wait_while(here, |here| *here < Crowd::ALL);
        drop(all.expect("nobody panics here"));
        Ok(HostAnswer::Value(None))
    }
}

#[test]
fn more_calls_at_once_than_there_is_room_for_are_turned_away() {
    // an engine of its own: the other tests take no room in its pool
    let engine = Engine::new(Compiling::default()).unwrap();
    let limits = limits();
    let code = code(Compiling::default());
    let guest = engine.load(code, Kind::Parser, &grants(), &limits).unwrap();
    // what it describes is known: checking a result takes no further room
    let described = guest.call(Call::Describe, session(&limits));
    assert!(described.result.is_ok());
    let crowd = Arc::new(Crowd {
        here: Mutex::new(0),
        changed: Condvar::new(),
    });
    let turned_away = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..Crowd::ALL)
            .map(|_| {
                let session = session_with(&limits, crowd.clone());
                let (guest, crowd) = (&guest, &crowd);
                scope.spawn(move || {
                    let call = parse("kv read", Payload::Text(String::new()));
                    let Err(Failure::Fault(fault)) = guest.call(call, session).result else {
                        return 0;
                    };
                    drop(crowd.one_more());
                    assert_eq!(fault.class, FaultClass::Busy, "{fault:?}");
                    1
                })
            })
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join().unwrap());
        ended.sum::<usize>()
    });
    assert_eq!(turned_away, Crowd::ALL - 64);
    assert_eq!(value(&call(&guest, &limits, "honest", 7)), 7.0);
}

#[test]
fn many_threads_share_one_component() {
    let guest = guest();
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let guest = &guest;
            scope.spawn(move || {
                for round in 0..50 {
                    let number = thread * 1_000 + round;
                    assert_eq!(
                        value(&call(guest, &limits(), "honest", number)),
                        number as f64
                    );
                    if round % 10 == thread % 10 {
                        assert_eq!(fault_of("trap", 0).class, FaultClass::Trap);
                    }
                }
            });
        }
    });
}
