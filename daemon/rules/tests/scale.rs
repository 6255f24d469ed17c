//! Ten thousand devices, each with 750 columns: judging keeps up.

mod story;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{
    Breaks, Check, Columns, Device, DeviceId, DownAfter, GroupKey, Outcome, PollRow, Reading,
};
use rules::Engine;
use story::{Site, above, at, down_after};

const DEVICES: usize = 10_000;

/// Metrics of each of 50 interfaces.
const METRICS: [&str; 15] = [
    "ifAdminStatus",
    "ifOperStatus",
    "ifSpeed_bps",
    "ifHCInOctets",
    "ifHCOutOctets",
    "ifHCInUcastPkts",
    "ifHCOutUcastPkts",
    "ifHCInMulticastPkts",
    "ifHCOutMulticastPkts",
    "ifHCInBroadcastPkts",
    "ifHCOutBroadcastPkts",
    "ifInErrors",
    "ifOutErrors",
    "ifInDiscards",
    "ifOutDiscards",
];

fn site() -> Site {
    let mut site = Site::new(&[("core", &[])])
        .with(down_after("agent", Check::Snmp, DownAfter::Rounds(3)))
        .with(above("loss", "icmp_loss_ratio", 0.2, 300, None))
        .with(above("rtt", "icmp_rtt_seconds", 0.5, 300, None));
    for metric in ["ifInErrors", "ifOutErrors", "ifInDiscards", "ifOutDiscards"] {
        site = site.with(above(metric, metric, 10.0, 300, None));
    }
    for place in 1..DEVICES {
        // fifty to a switch, all switches on the core
        let parent = if place <= 200 {
            0
        } else {
            (place - 1) % 200 + 1
        };
        let parent = site.devices[parent].name.clone();
        site.add(&format!("device{place}"), &[&parent]);
    }
    site
}

fn wide() -> Arc<Columns> {
    let names: Vec<String> = (0..50).map(|port| format!("ge-0/0/{port}")).collect();
    let pairs = names.iter().flat_map(|n| METRICS.map(|m| (m, n.as_str())));
    story::columns(&pairs.collect::<Vec<_>>())
}

fn reading(group: GroupKey, columns: &Arc<Columns>, round: u64) -> Reading {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let values =
        |round: u64| -> Arc<[f64]> { columns.series().iter().map(|_| round as f64).collect() };
    Reading {
        row: PollRow {
            group,
            at: at(60 * round),
            columns: Arc::clone(columns),
            values: values(round),
            breaks: Breaks::None,
        },
        previous: Some((at(60 * (round - 1)), values(round - 1))),
    }
}

/// A debug build on a busy machine is some thirty times slower than the daemon,
/// so the bounds are loose: they catch what grows with the square.
#[expect(clippy::print_stderr, reason = "figures for whoever asks: --nocapture")]
#[test]
fn ten_thousand_devices_are_configured_and_judged_in_time() {
    let site = site();
    let devices: Vec<Arc<Device>> = site.devices.iter().cloned().map(Arc::new).collect();
    let every = |_: &Device, _: Check| Duration::from_secs(60);
    let mut engine = Engine::new(1, Vec::new());
    let mut timed = |what: &str, limit: Duration, work: &mut dyn FnMut(&mut Engine)| {
        let begun = Instant::now();
        work(&mut engine);
        let took = begun.elapsed();
        eprintln!("{what}: {took:?}");
        assert!(took < limit, "{what} took {took:?}");
    };
    let seconds = Duration::from_secs;

    timed("first configuration", seconds(10), &mut |engine| {
        engine.configure(&site.rules, &devices, &every, at(1));
    });
    timed("nothing changed", seconds(5), &mut |engine| {
        engine.configure(&site.rules, &devices, &every, at(2));
    });
    let mut edited = devices.clone();
    edited[5_000] = Arc::new(Device {
        revision: 2,
        ..Device::clone(&devices[5_000])
    });
    timed("one device changed", seconds(10), &mut |engine| {
        engine.configure(&site.rules, &edited, &every, at(3));
    });

    let columns = wide();
    assert_eq!(columns.series().len(), 750);
    let outcome = |second| Outcome {
        at: at(second),
        took: Duration::ZERO,
        failure: None,
        partial: Vec::new(),
    };
    for round in [2, 3] {
        let groups = (1..=DEVICES as u64).map(|device| GroupKey {
            device: DeviceId(device),
            check: Check::Snmp,
        });
        let one = reading(groups.clone().next().expect("the first"), &columns, round);
        let what = format!("10,000 healthy readings of 750 columns, round {round}");
        timed(&what, seconds(60), &mut |engine| {
            for group in groups.clone() {
                let now = at(60 * round);
                let verdict = engine.observe(group, &outcome(60 * round), Some(&one), now);
                assert!(verdict.is_empty());
            }
        });
    }

    let mut told = 0;
    let mut unreachable = BTreeSet::new();
    timed("all silent for four rounds", seconds(120), &mut |engine| {
        for round in 0..4 {
            for device in (1..=DEVICES as u64).rev() {
                let group = GroupKey {
                    device: DeviceId(device),
                    check: Check::Icmp,
                };
                let now = at(1_000 + round * 60);
                let silent = Outcome {
                    failure: story::silence(),
                    ..outcome(1_000 + round * 60)
                };
                let verdict = engine.observe(group, &silent, None, now);
                told += verdict.tell.len();
                let cut = verdict
                    .alerts
                    .iter()
                    .filter(|a| a.state.word() == "unreachable");
                unreachable.extend(cut.map(|alert| alert.device));
            }
        }
    });
    assert_eq!((told, unreachable.len()), (1, DEVICES - 1));
}
