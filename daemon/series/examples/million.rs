//! A million series in ten thousand sets: what the index takes and how long it
//! looks. `cargo run --release -p series --example million`

#![expect(clippy::print_stdout, reason = "it is there to print")]

use std::sync::Arc;
use std::time::Instant;

use model::{Columns, Labels, MetricKind, SeriesKey};
use series::{ColumnsId, Index, Selector};

const SETS: u32 = 10_000;

/// As of a switch: four series of its own, and twelve of each of eight
/// interfaces, whose descriptions are nobody else's.
fn columns(set: u32) -> Arc<Columns> {
    let key = |metric: &str, labels: &Arc<Labels>| SeriesKey {
        metric: Arc::from(metric),
        labels: Arc::clone(labels),
        kind: MetricKind::Counter64,
    };
    let none = Arc::new(Labels::default());
    let mut keys: Vec<SeriesKey> = (0..4).map(|n| key(&format!("device_{n}"), &none)).collect();
    for interface in 0..8 {
        let labels = Arc::new(Labels::new([
            ("ifName", format!("Gi1/0/{interface}")),
            ("ifIndex", (interface + 1000 * (set % 7)).to_string()),
            (
                "ifAlias",
                format!("to customer {set} by circuit {interface}"),
            ),
        ]));
        keys.extend((0..12).map(|n| key(&format!("ifMetric{n}"), &labels)));
    }
    Arc::new(Columns::new(keys))
}

/// Resident memory in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

fn main() {
    let sets: Vec<Arc<Columns>> = (0..SETS).map(columns).collect();
    let series: usize = sets.iter().map(|set| set.series().len()).sum();
    let (before, began) = (resident(), Instant::now());
    let mut index = Index::default();
    for (id, set) in (0..).zip(&sets) {
        index.add(ColumnsId(id), set);
    }
    let took = began.elapsed();
    let bytes = resident() - before;
    println!("{series} series, {bytes} bytes, {took:?} to add");
    for text in [
        r#"ifMetric3{ifAlias="to customer 77 by circuit 3"}"#,
        r#"ifMetric3{ifName="Gi1/0/5"}"#,
        "ifMetric3",
        r#"{ifName="Gi1/0/5"}"#,
        r#"ifMetric3{ifAlias=~"to customer 77.*"}"#,
        r#"ifMetric3{ifAlias=~".*r 7+ by.*"}"#,
        r#"ifMetric3{ifAlias!~".*r 7+ by.*"}"#,
        r#"{__name__=~".+"}"#,
    ] {
        let selector: Selector = text.parse().expect("these are selectors");
        let began = Instant::now();
        let found = index.find(&selector);
        let places: usize = found.iter().map(|found| found.places.len()).sum();
        println!("{text}: {places} in {:?}", began.elapsed());
    }
    let began = Instant::now();
    index.remove(&[ColumnsId(5)]);
    println!("one set removed in {:?}", began.elapsed());
    let began = Instant::now();
    let half: Vec<ColumnsId> = (0..SETS).step_by(2).map(ColumnsId).collect();
    index.remove(&half);
    println!("half of the sets removed in {:?}", began.elapsed());
    let began = Instant::now();
    let more: Vec<ColumnsId> = (0..SETS / 10).map(ColumnsId).collect();
    index.remove(&more);
    println!("more removed, numbers given anew, in {:?}", began.elapsed());
}
