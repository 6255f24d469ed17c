//! Ninety days of 10,000 counters, summed hour by hour: ours from roll-ups, the
//! peers from what they have. A value every half hour, so that the peers can be
//! fed within minutes; our roll-ups of an hour are as many as they would be with
//! a value every second.

use std::path::Path;
use std::sync::Arc;

use harness::{Daemon, Folder};
use model::{Breaks, Columns, Labels, MetricKind, SeriesKey, Timestamp};
use store::Store;
use store::samples::{Append, Tier};

use crate::asked::{ask, escaped, repeated};
use crate::fleet;
use crate::history::{compact, day_before, enter, name_of, options, tell_time};
use crate::mix;
use crate::report::{Bar, Report, Value, say};
use crate::rivals::Rival;
use crate::wire::{WriteRequest, labels};

const DEVICES: u64 = 100;
const COUNTERS: usize = 100;
const DAYS: u64 = 90;
const EVERY: u64 = 30 * 60 * 1000;
const DAY: u64 = 86_400_000;
const STEPS: u64 = DAYS * DAY / EVERY;
const METRIC: &str = "ifHCInOctets";

/// Longer than the ninety days, so that no hour is missing at the front.
const STORE_SETTINGS: &str = "keep_samples = \"120d\"";

/// Devices of a peer's request: 5,000 samples.
const PER_REQUEST: usize = 50;

pub(crate) fn run(report: &mut Report) {
    let folder = fleet::folder("");
    folder.write_settings(STORE_SETTINGS, "");
    let until = Timestamp(day_before(fleet::now()).0 + DAY);
    let from = Timestamp(until.0 - DAYS * DAY);
    make(&folder, from);
    let daemon = Daemon::start(&folder, None);
    let path = format!(
        "/api/v1/series?selector={METRIC}&from={}&until={}&step=1h&aggregate=increase&across=sum&source=1h",
        from.0 / 1_000,
        until.0 / 1_000
    );
    let ours = repeated(|| ask(&folder, &path));
    assert!(daemon.stop().success());
    let value = Value::new("samples.90d_of_10000_counters", ours, "ms");
    report.add(value.bar(Bar::AtMost(300.0)));
    type Start = fn(&Path) -> Rival;
    let rivals: [Start; 2] = [Rival::prometheus, Rival::victoria_metrics];
    for start in rivals {
        let place = Folder::new();
        let rival = start(place.path());
        feed(&rival, from);
        rival.settle();
        let query = escaped(&format!("sum(increase({METRIC}[1h]))"));
        let path = format!(
            "/api/v1/query_range?query={query}&start={}&end={}&step=1h",
            from.0 / 1_000 + 3_600,
            until.0 / 1_000
        );
        let took = repeated(|| rival.query(&path).0);
        let name = format!("samples.90d_of_10000_counters_beside_{}", rival.name);
        let value = Value::new(name, ours, "ms").peer(rival.name, took);
        report.add(value.bar(Bar::OfPeer(1.0)));
    }
}

/// Rises unevenly, and differently for each.
fn value(device: u64, counter: usize, step: u64) -> f64 {
    let pace = 1_000_000 + device * 7_919 + counter as u64 * 104_729;
    let noise = step.wrapping_mul(0x9E37_79B9).wrapping_add(device * 31) % 100_000;
    #[expect(clippy::cast_precision_loss, reason = "it is below 2^53")]
    let value = (step * pace + noise) as f64;
    value
}

fn columns() -> Arc<Columns> {
    let series = (0..COUNTERS).map(|counter| SeriesKey {
        metric: METRIC.into(),
        labels: Arc::new(Labels::new([("ifName", format!("Gi1/0/{counter}"))])),
        kind: MetricKind::Counter64,
    });
    Arc::new(Columns::new(series.collect()))
}

fn make(folder: &Folder, from: Timestamp) {
    let mut options = options(folder);
    options.keep_samples *= 4;
    let store = Store::open(options, from).expect("an empty store");
    let ids = enter(&store, DEVICES, from);
    let columns = columns();
    let per_day = DAY / EVERY;
    for step in 0..STEPS {
        let at = Timestamp(from.0 + step * EVERY);
        let values: Vec<Vec<f64>> = (0..DEVICES)
            .map(|device| {
                (0..COUNTERS)
                    .map(|counter| value(device, counter, step))
                    .collect()
            })
            .collect();
        let rows: Vec<Append<'_>> = ids
            .iter()
            .zip(&values)
            .map(|(id, values)| Append {
                group: mix::group(*id),
                at,
                columns: &columns,
                values,
                breaks: &Breaks::None,
                note: None,
            })
            .collect();
        let appended = store.samples().append(&rows, at);
        assert!(appended.refused.is_empty(), "{:?}", appended.refused[0]);
        tell_time(&store, at);
        if step % per_day == per_day - 1 {
            appended.ticket.durable().expect("a disk that works");
            store.samples().cut().expect("a disk that works");
            // a clock that is further ahead of the rows is not believed
            compact(&store, Timestamp(at.0 + EVERY * 3 / 2));
        }
    }
    let stats = store.samples().stats();
    for (tier, span, held) in &stats.tiers {
        let (tier, span, held) = (tier.word(), span.word(), held.segments);
        say(&format!("   {held} segments of {tier}/{span}"));
    }
    let hours = stats.tiers.iter().filter(|(tier, ..)| *tier == Tier::Hour);
    let rows: u64 = hours.map(|(.., held)| held.rows).sum();
    assert_eq!(rows, DAYS * 24 * DEVICES, "not every hour was rolled up");
    store.close().expect("everything reaches the disk");
}

fn feed(rival: &Rival, from: Timestamp) {
    let names: Vec<Vec<Vec<u8>>> = (0..DEVICES)
        .map(|device| {
            let counters = (0..COUNTERS).map(|counter| {
                let port = format!("Gi1/0/{counter}");
                let device = name_of(device);
                labels(&[("__name__", METRIC), ("device", &device), ("ifName", &port)])
            });
            counters.collect()
        })
        .collect();
    let mut sender = rival.sender();
    let mut request = WriteRequest::default();
    // step by step: prometheus takes nothing that is an hour older than its newest
    for step in 0..STEPS {
        let at = Timestamp(from.0 + step * EVERY);
        for devices in (0..).zip(&names).collect::<Vec<_>>().chunks(PER_REQUEST) {
            for (device, names) in devices {
                for (counter, labels) in names.iter().enumerate() {
                    let sample = (at, value(*device, counter, step));
                    request.add(labels, std::iter::once(sample));
                }
            }
            sender.send(&request.take()).expect("it takes what comes");
        }
    }
}
