//! Honest calls that end just before their deadline are never ended by us,
//! spinners always are. `SOTP_DEADLINE_CALLS` sets how many.
#![allow(
    clippy::unwrap_used,
    reason = "in a test, what cannot be prepared has failed"
)]

mod common;

use common::{call, fault, guest_with, value};
use contract::{FaultClass, Kind, Limits};

/// As many as run in some seconds.
const CALLS: u64 = 600;
const MS: u64 = 1_000_000;

/// Rounds that take as long as wanted, by what the last ones took: the machine
/// is another one every moment.
fn toward(wanted_ns: u64, rounds: u64, took_ns: u64) -> u64 {
    let better = rounds.saturating_mul(wanted_ns) / took_ns.max(1);
    better.clamp(rounds / 2, rounds * 2)
}

#[test]
fn calls_that_end_just_before_their_deadline_are_never_ended() {
    let calls = std::env::var("SOTP_DEADLINE_CALLS").map_or(CALLS, |calls| calls.parse().unwrap());
    let limits = Limits {
        cpu_ms: 5,
        wall_ms: 60_000,
        ..Limits::of(Kind::Parser)
    };
    let guest = guest_with(&limits);
    let mut rounds = 100_000;
    let mut near = 0;
    for number in 0..calls {
        let ended = call(&guest, &limits, "spin", rounds);
        let used = ended.usage.cpu_ns;
        if used < 5 * MS {
            assert_eq!(value(&ended), 1.0, "call {number} used {used} ns");
        }
        near += u64::from(used > 3 * MS);
        rounds = toward(4 * MS + MS / 2, rounds, used);
        if number % 20 == 0 {
            let ended = call(&guest, &limits, "loop", 0);
            let used = ended.usage.cpu_ns / MS;
            assert_eq!(fault(ended).class, FaultClass::Cpu);
            assert!((5..45).contains(&used), "a spinner had {used} ms");
        }
    }
    assert!(
        near > calls / 2,
        "only {near} of {calls} calls came near the deadline"
    );
}

#[test]
fn many_at_once_are_charged_for_their_own_time_alone() {
    let limits = Limits {
        cpu_ms: 50,
        wall_ms: 60_000,
        ..Limits::of(Kind::Parser)
    };
    let guest = guest_with(&limits);
    // ten on two processors: each waits four times as long as it works
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let mut rounds = 100_000;
                for _ in 0..8 {
                    let ended = call(&guest, &limits, "spin", rounds);
                    let used = ended.usage.cpu_ns;
                    assert!(ended.result.is_ok() || used >= 50 * MS, "{ended:?}");
                    rounds = toward(25 * MS, rounds, used);
                }
            });
        }
    });
}
