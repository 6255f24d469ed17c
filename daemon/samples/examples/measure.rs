//! What the sample store costs and gives, on a mix like that of real devices.
//! `cargo run --release -p samples --example measure [day|log|quarter|million]`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a program for people who measure"
)]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use model::{Breaks, Check, Columns, DeviceId, GroupKey, Labels, MetricKind, SeriesKey, Timestamp};
use samples::fs::RealFs;
use samples::{
    Across, Aggregate, Append, Catalog, CatalogChange, CatalogError, CatalogState, Keep, Options,
    Rollup, Samples, Select, Source, Span, Tier,
};

const START: u64 = 1_767_225_600_000;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
const POLL: u64 = 30_000;
const DEVICES: u64 = 125;

#[derive(Default)]
struct InMemory(Mutex<CatalogState>);

impl Catalog for InMemory {
    fn commit(&self, change: &CatalogChange) -> Result<(), CatalogError> {
        let mut state = self.0.lock().unwrap();
        state.groups.extend(change.groups.iter().cloned());
        state.columns.extend(change.columns.iter().cloned());
        state.segments.extend(change.segments.iter().cloned());
        state
            .segments
            .retain(|row| !change.forget_segments.contains(&row.name));
        state.checkpoint = change.checkpoint.unwrap_or(state.checkpoint);
        state.next_segment = change.next_segment.unwrap_or(state.next_segment);
        Ok(())
    }
}

fn main() {
    let dir = std::env::temp_dir().join(format!("measure-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let part = std::env::args().nth(1).unwrap_or_default();
    if part.is_empty() || part == "day" {
        day(&dir.join("day"));
    }
    if part.is_empty() || part == "log" {
        replay(&dir.join("log"));
    }
    if part == "quarter" {
        quarter(&dir.join("quarter"));
    }
    if part == "million" {
        million(&dir.join("million"));
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

/// The memory of a million series that are active: two hours of them.
fn million(dir: &Path) {
    let catalog = Arc::new(InMemory::default());
    let samples = open(dir, &catalog, START);
    let mut mix = Mix::new(10_000);
    println!("resident with the values to come: {} MB", peak_mb());
    for poll in 0..80 {
        let rows = mix.poll(START + poll * POLL, 0);
        append(&samples, &mix.columns, &rows);
    }
    let stats = samples.stats();
    println!(
        "{} series, {} MB in the head",
        stats.active_series,
        stats.head_bytes >> 20
    );
    println!("resident at most: {} MB", peak_mb());
    samples.maintain(Timestamp(START + HOUR)).unwrap();
    println!(
        "resident at most, with a cut of {:?}: {} MB",
        samples.stats().last_cut,
        peak_mb()
    );
}

fn open(dir: &Path, catalog: &Arc<InMemory>, now: u64) -> Samples {
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let options = Options {
        dir: dir.to_path_buf(),
        keep: Keep {
            raw: days(400),
            quarter: days(400),
            hour: days(400),
            budget: 0,
        },
        cut_every: Duration::from_secs(3600),
        sync_every: Duration::from_millis(250),
        open_bytes: 512 << 20,
        backlog_bytes: 64 << 20,
        series_per_device: 20_000,
    };
    let state = catalog.0.lock().unwrap().clone();
    let catalog = Arc::clone(catalog) as Arc<dyn Catalog>;
    Samples::open(Arc::new(RealFs), options, state, catalog, Timestamp(now)).unwrap()
}

/// A day of devices, an hour at a time.
fn day(dir: &Path) {
    let catalog = Arc::new(InMemory::default());
    let samples = open(dir, &catalog, START);
    let mut mix = Mix::new(DEVICES);
    let (mut wall, mut cpu, mut values) = (0.0, 0.0, 0.0);
    for hour in 0..24 {
        let rows = mix.hour(START + hour * HOUR);
        let (began, before) = (Instant::now(), cpu_seconds());
        append(&samples, &mix.columns, &rows);
        samples
            .maintain(Timestamp(START + (hour + 1) * HOUR))
            .unwrap();
        wall += began.elapsed().as_secs_f64();
        cpu += cpu_seconds() - before;
        values += rows.len() as f64 * 100.0;
    }
    println!(
        "ingest, log and cuts: {:.1} M samples/s, {:.1} ns CPU/sample ({:.0} M samples)",
        values / wall / 1e6,
        cpu / values * 1e9,
        values / 1e6
    );
    print_bytes(&samples, Span::Fresh);
    print_queries(&samples, "fresh");
    let (began, before) = (Instant::now(), cpu_seconds());
    while samples.maintain(Timestamp(START + DAY + HOUR / 2)).unwrap() {}
    println!(
        "compaction and roll-ups: {:.2} s, {:.1} ns CPU/sample",
        began.elapsed().as_secs_f64(),
        (cpu_seconds() - before) / values * 1e9
    );
    print_bytes(&samples, Span::Day);
    print_queries(&samples, "compacted");
    println!("resident at most: {} MB", peak_mb());
}

fn append(samples: &Samples, columns: &Arc<Columns>, rows: &[(u64, u64, Vec<f64>)]) {
    let mut last = None;
    for batch in rows.chunks(50) {
        let batch: Vec<Append<'_>> = batch
            .iter()
            .map(|(device, at, values)| Append {
                group: group(*device),
                at: Timestamp(*at),
                columns,
                values,
                breaks: &Breaks::None,
                note: None,
            })
            .collect();
        let appended = samples.append(&batch, batch[0].at);
        assert!(appended.refused.is_empty(), "{:?}", appended.refused[0]);
        last = Some(appended.ticket);
    }
    last.unwrap().durable().unwrap();
}

fn print_bytes(samples: &Samples, span: Span) {
    for (tier, of, stats) in samples.stats().tiers {
        if of == span {
            println!(
                "{} {}: {:.3} bytes/sample in {} segments",
                tier.word(),
                of.word(),
                stats.bytes as f64 / stats.samples as f64,
                stats.segments
            );
        }
    }
}

fn print_queries(samples: &Samples, what: &str) {
    let one = best(|| {
        let device = group(17);
        select(
            samples,
            "ifHCInOctets{ifName=\"Gi1/0/3\"}",
            &|key| key == device,
            START,
            DAY,
        )
    });
    let many = best(|| {
        select(
            samples,
            "ifHCInOctets",
            &|key| key.device.0 < 125,
            START + 9 * HOUR,
            HOUR,
        )
    });
    println!(
        "{what}: 1 series x 24 h {:.3} ms ({} points), 1,000 x 1 h {:.2} ms ({} points)",
        one.0, one.1, many.0, many.1
    );
}

fn select(
    samples: &Samples,
    selector: &str,
    groups: &dyn Fn(GroupKey) -> bool,
    from: u64,
    length: u64,
) -> usize {
    let ask = Select {
        selector: &selector.parse().unwrap(),
        groups,
        from: Timestamp(from),
        until: Timestamp(from + length),
        max_points: 10_000_000,
        max_series: 10_000,
    };
    let selected = samples.select(&ask).unwrap();
    assert!(selected.missing.is_empty());
    selected
        .series
        .iter()
        .map(|series| series.points.len())
        .sum()
}

/// The least milliseconds of some tries, and what they gave.
fn best(mut ask: impl FnMut() -> usize) -> (f64, usize) {
    let mut least = f64::MAX;
    let mut count = 0;
    for _ in 0..15 {
        let began = Instant::now();
        count = ask();
        least = least.min(began.elapsed().as_secs_f64() * 1e3);
    }
    (least, count)
}

/// Four hours in the log alone.
fn replay(dir: &Path) {
    let catalog = Arc::new(InMemory::default());
    let samples = open(dir, &catalog, START);
    let mut mix = Mix::new(DEVICES);
    for hour in 0..4 {
        let rows = mix.hour(START + hour * HOUR);
        append(&samples, &mix.columns, &rows);
    }
    samples.close().unwrap();
    drop(samples);
    let samples = open(dir, &catalog, START + 4 * HOUR);
    let stats = samples.stats();
    let seconds = stats.replay_took.as_secs_f64();
    println!(
        "replay: {:.1} M samples/s ({:.1} M samples, {:.2} bytes/sample in the log)",
        stats.head_samples as f64 / seconds / 1e6,
        stats.head_samples as f64 / 1e6,
        stats.replay.bytes as f64 / stats.head_samples as f64
    );
}

/// 10,000 counters for 90 days, a row an hour: as many buckets as any.
fn quarter(dir: &Path) {
    let catalog = Arc::new(InMemory::default());
    let samples = open(dir, &catalog, START);
    let key = |port: u64| SeriesKey {
        metric: Arc::from("ifHCInOctets"),
        labels: Arc::new(Labels::new([("ifName", format!("Gi1/0/{port}"))])),
        kind: MetricKind::Counter64,
    };
    let columns = Arc::new(Columns::new((0..100).map(key).collect()));
    let mut chance = Chance(42);
    let mut state = vec![0.0f64; 10_000];
    for day in 0..90 {
        let mut rows = Vec::new();
        for hour in 0..24 {
            for device in 0..100u64 {
                let own = &mut state[device as usize * 100..][..100];
                own.iter_mut()
                    .for_each(|v| *v += (chance.next() * 1e9).floor());
                rows.push((
                    device,
                    START + day * DAY + hour * HOUR + 1000 + device,
                    own.to_vec(),
                ));
            }
        }
        append(&samples, &columns, &rows);
        samples.cut().unwrap();
        while samples
            .maintain(Timestamp(START + (day + 1) * DAY + HOUR))
            .unwrap()
        {}
    }
    for step in [HOUR, DAY] {
        let (ms, series) = best(|| {
            let ask = Rollup {
                selector: &"ifHCInOctets".parse().unwrap(),
                groups: &|_| true,
                from: Timestamp(START),
                until: Timestamp(START + 90 * DAY),
                step_ms: step,
                aggregate: Aggregate::Increase,
                across: Some(Across::Sum),
                source: Source::Of(Tier::Hour),
                max_points: 10_000_000,
                max_series: 10_000,
            };
            samples.rollup(&ask).unwrap().series
        });
        println!(
            "90 days of {series} counters summed by {} h from 1h: {ms:.0} ms",
            step / HOUR
        );
    }
}

fn group(device: u64) -> GroupKey {
    GroupKey {
        device: DeviceId(device),
        check: Check::Snmp,
    }
}

fn cpu_seconds() -> f64 {
    let whole = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = whole
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks = |field: usize| fields[field].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

struct Chance(u64);

impl Chance {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About normal, of variance 1/3.
    fn normal(&mut self) -> f64 {
        self.next() + self.next() + self.next() + self.next() - 2.0
    }
}

/// What a slot of the 100 of a device measures.
#[derive(Clone, Copy)]
enum Slot {
    Octets,
    FewOctets,
    Idle,
    Packets,
    Errors,
    Percent,
    Memory,
    Celsius,
    Seconds,
    Loss,
    Ratio,
    Uptime,
    Sessions,
}

fn slot(place: usize) -> (Slot, &'static str, MetricKind) {
    use MetricKind::{Counter64, Gauge, State};
    match place {
        0..8 => (Slot::Octets, "ifHCInOctets", Counter64),
        8..15 => (Slot::Octets, "ifHCOutOctets", Counter64),
        15..23 => (Slot::FewOctets, "ifHCOutOctets", Counter64),
        23..31 => (Slot::Idle, "ifHCInMulticastPkts", Counter64),
        31..40 => (Slot::Packets, "ifHCInUcastPkts", Counter64),
        40..46 => (Slot::Idle, "ifHCOutMulticastPkts", Counter64),
        46..60 => (Slot::Errors, "ifInErrors", Counter64),
        60..70 => (Slot::Percent, "hrProcessorLoad", Gauge),
        70..76 => (Slot::Memory, "storage_used_bytes", Gauge),
        76..82 => (Slot::Celsius, "temperature_celsius", Gauge),
        82..85 => (Slot::Seconds, "icmp_rtt_seconds", Gauge),
        85..87 => (Slot::Loss, "icmp_loss_ratio", Gauge),
        87..95 => (Slot::Idle, "ifOperStatus", State),
        95..98 => (Slot::Ratio, "cache_hit_ratio", Gauge),
        98 => (Slot::Uptime, "sysUpTime", Gauge),
        _ => (Slot::Sessions, "sessions", Gauge),
    }
}

/// The mix of `notes/storage.md`, §2: what 100 series of a device look like.
struct Mix {
    columns: Arc<Columns>,
    series: Vec<(f64, f64, f64)>,
    devices: u64,
    chance: Chance,
}

impl Mix {
    fn new(devices: u64) -> Mix {
        let key = |place: usize| SeriesKey {
            metric: Arc::from(slot(place).1),
            labels: Arc::new(Labels::new([("ifName", format!("Gi1/0/{place}"))])),
            kind: slot(place).2,
        };
        let columns = Arc::new(Columns::new((0..100).map(key).collect()));
        let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
        let series = (0..devices * 100).map(|n| begin(slot(n as usize % 100).0, &mut chance));
        Mix {
            series: series.collect(),
            columns,
            devices,
            chance,
        }
    }

    /// An hour's rows in the order of their times.
    fn hour(&mut self, from: u64) -> Vec<(u64, u64, Vec<f64>)> {
        let polls = 0..HOUR / POLL;
        polls.flat_map(|poll| self.poll(from, poll)).collect()
    }

    /// One row of every device.
    fn poll(&mut self, from: u64, poll: u64) -> Vec<(u64, u64, Vec<f64>)> {
        let mut rows = Vec::new();
        for device in 0..self.devices {
            let phase = device * 7919 % (POLL - 500);
            let most = if self.chance.next() < 0.05 {
                400.0
            } else {
                25.0
            };
            let jitter = (self.chance.next() * most) as u64;
            let at = from + poll * POLL + phase + jitter;
            let own = &mut self.series[device as usize * 100..][..100];
            let chance = &mut self.chance;
            let values = own.iter_mut().enumerate();
            let values = values.map(|(place, state)| step(slot(place).0, state, at, chance));
            rows.push((device, at, values.collect()));
        }
        rows
    }
}

/// Value, size and memory of a new series.
fn begin(slot: Slot, chance: &mut Chance) -> (f64, f64, f64) {
    let mut below = |n: f64| (chance.next() * n).floor();
    let (value, size) = match slot {
        Slot::Octets => (below(1.7e13), 10f64.powf(4.0 + below(4000.0) / 1000.0)),
        Slot::FewOctets => (below(6e10), 60.0),
        Slot::Idle => (if below(2.0) > 0.0 { below(1e9) } else { 0.0 }, 0.0),
        Slot::Packets => (below(2e11), 10f64.powf(1.5 + below(3500.0) / 1000.0)),
        Slot::Errors => (below(500.0), if below(10.0) < 7.0 { 0.0 } else { 0.03 }),
        Slot::Percent => (5.0 + below(50.0), 3.0),
        Slot::Memory => (below(4e6) * 4096.0, 64.0),
        Slot::Celsius => (30.0 + below(30.0), 0.0),
        Slot::Seconds => (0.0, 0.2 + below(40.0)),
        Slot::Loss => (0.0, 0.0),
        Slot::Ratio => (0.5, 0.02),
        Slot::Uptime => (below(1e9), 0.0),
        Slot::Sessions => (below(4000.0), 20.0),
    };
    (value, size, 0.0)
}

fn step(
    slot: Slot,
    (value, size, memory): &mut (f64, f64, f64),
    at: u64,
    chance: &mut Chance,
) -> f64 {
    match slot {
        Slot::Octets | Slot::Packets => {
            *memory = 0.9 * *memory + 0.25 * chance.normal();
            let of_day = (at % DAY) as f64 / DAY as f64 * std::f64::consts::TAU;
            let rate = *size * (1.0 + 0.5 * of_day.sin()) * (1.0 + *memory).max(0.05);
            *value += (rate * POLL as f64 / 1000.0).floor();
        }
        Slot::FewOctets if chance.next() < 0.5 => {
            *value += 60.0 + (chance.next() * 8.0).floor() * 64.0;
        }
        Slot::Errors if chance.next() < *size => *value += 1.0 + (chance.next() * 5.0).floor(),
        Slot::Percent => {
            *value = (*value + chance.normal() * *size).clamp(0.0, 100.0);
            return value.round();
        }
        Slot::Memory if chance.next() < 0.7 => {
            *value = (*value + (chance.normal() * *size).round() * 4096.0).max(0.0);
        }
        Slot::Celsius => {
            if chance.next() < 0.15 {
                *value = (*value + chance.normal()).clamp(15.0, 90.0);
            }
            return (*value * 2.0).round() / 2.0;
        }
        Slot::Seconds => {
            let spike = if chance.next() < 0.02 {
                chance.next() * 50.0
            } else {
                0.0
            };
            return ((*size * (1.0 + 0.08 * chance.normal().abs()) + spike) * 1000.0).round()
                / 1000.0;
        }
        Slot::Loss => return if chance.next() < 0.01 { 20.0 } else { 0.0 },
        Slot::Ratio => *value = (*value + chance.normal() * *size).clamp(0.0, 1.0),
        Slot::Uptime => *value += POLL as f64 / 10.0,
        Slot::Sessions => *value = (*value + (chance.normal() * *size).round()).max(0.0),
        Slot::Idle | Slot::FewOctets | Slot::Errors | Slot::Memory => {}
    }
    *value
}
