//! What compaction costs and what segments take, on a day of made-up but
//! realistic rows: `cargo run --release -p segment --example measure [devices]`.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::path::Path;
use std::sync::Arc;

use codec::{Effort, RowsRef, Scratch};
use model::{Columns, Labels, MetricKind, SeriesKey};
use segment::{
    Compaction, Output, Segment, SegmentError, SegmentWriter, Span, Summary, Tier, compact,
};
use wal::fs::{Fs, RealFs};

const DAY: u64 = 86_400_000;
const BASE: u64 = 19_675 * DAY;
const INTERVAL: u64 = 30_000;

/// Seconds that this thread was on a processor: others may be busy on it too.
/// Counted in ticks of some milliseconds.
fn spent() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = told.split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
    first.unwrap_or(0) as f64 / 1e9
}

/// xorshift64*: the same numbers in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Around 0, mostly within 1.
    fn about(&mut self) -> f64 {
        self.share() + self.share() + self.share() + self.share() - 2.0
    }
}

/// What a column is like.
#[derive(Clone, Copy)]
enum Sort {
    Octets,
    FewOctets,
    Idle,
    Packets,
    Errors,
    Cpu,
    Memory,
    Temperature,
    Rtt,
    Loss,
    Constant,
    Ratio,
    Uptime,
    Sessions,
}

/// A device's hundred columns.
const MIX: [(Sort, usize); 14] = [
    (Sort::Octets, 15),
    (Sort::FewOctets, 8),
    (Sort::Idle, 14),
    (Sort::Packets, 9),
    (Sort::Errors, 14),
    (Sort::Cpu, 10),
    (Sort::Memory, 6),
    (Sort::Temperature, 6),
    (Sort::Rtt, 3),
    (Sort::Loss, 2),
    (Sort::Constant, 8),
    (Sort::Ratio, 3),
    (Sort::Uptime, 1),
    (Sort::Sessions, 1),
];

fn kind(sort: Sort) -> MetricKind {
    match sort {
        Sort::Octets | Sort::FewOctets | Sort::Idle | Sort::Packets => MetricKind::Counter64,
        Sort::Errors => MetricKind::Counter32,
        Sort::Constant => MetricKind::State,
        _ => MetricKind::Gauge,
    }
}

struct Series {
    sort: Sort,
    chance: Chance,
    value: f64,
    scale: f64,
    drift: f64,
}

impl Series {
    fn new(sort: Sort, seed: u64) -> Series {
        let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..4 {
            chance.next();
        }
        let share = chance.share();
        let (value, scale) = match sort {
            Sort::Octets => (1e12 * share, 10f64.powf(4.0 + 4.0 * chance.share())),
            Sort::FewOctets => (1e10 * share, 60.0),
            Sort::Idle => (1e9 * share, 0.0),
            Sort::Packets => (1e11 * share, 10f64.powf(1.5 + 3.5 * chance.share())),
            Sort::Errors => (500.0 * share, if share < 0.7 { 0.0 } else { 0.03 }),
            Sort::Cpu => (5.0 + share * 50.0, 3.0),
            Sort::Memory => (4096.0 * (4e6 * share), 64.0),
            Sort::Temperature => (30.0 + share * 30.0, 0.0),
            Sort::Rtt => (0.0, 0.2 + share * 40.0),
            Sort::Constant => ([1.0, 1e9, 2.0, 1e10][(chance.next() % 4) as usize], 0.0),
            Sort::Ratio => (0.5, 0.02),
            Sort::Sessions => (4_000.0 * share, 20.0),
            Sort::Loss | Sort::Uptime => (1e6 * share, 0.0),
        };
        Series {
            sort,
            chance,
            value: value.floor(),
            scale,
            drift: 0.0,
        }
    }

    fn next(&mut self, at: u64, seconds: f64) -> f64 {
        let chance = &mut self.chance;
        match self.sort {
            Sort::Octets | Sort::Packets => {
                self.drift = 0.9 * self.drift + 0.25 * chance.about();
                let day = ((at % DAY) as f64 / DAY as f64 * std::f64::consts::TAU).sin();
                let rate = self.scale * (1.0 + 0.5 * day) * (1.0 + self.drift).max(0.05);
                self.value += (rate * seconds).floor();
            }
            Sort::FewOctets if chance.share() < 0.5 => {
                self.value += 60.0 + (chance.next() % 8) as f64 * 64.0;
            }
            Sort::Errors if chance.share() < self.scale => {
                self.value += 1.0 + (chance.next() % 5) as f64;
            }
            Sort::Cpu => {
                self.value = (self.value + chance.about() * self.scale).clamp(0.0, 100.0);
                return self.value.round();
            }
            Sort::Memory if chance.share() < 0.7 => {
                let pages = (chance.about() * self.scale).round();
                self.value = (self.value + pages * 4096.0).max(0.0);
            }
            Sort::Temperature => {
                if chance.share() < 0.15 {
                    self.value = (self.value + chance.about()).clamp(15.0, 90.0);
                }
                return (self.value * 2.0).round() / 2.0;
            }
            Sort::Rtt => {
                let spike = if chance.share() < 0.02 {
                    50.0 * chance.share()
                } else {
                    0.0
                };
                let rtt = self.scale * (1.0 + 0.08 * chance.about().abs()) + spike;
                return (rtt * 1_000.0).round() / 1_000.0;
            }
            Sort::Loss => {
                let lost = chance.share() < 0.01;
                return if lost {
                    [10.0, 20.0, 100.0][(chance.next() % 3) as usize]
                } else {
                    0.0
                };
            }
            Sort::Ratio => {
                self.value = (self.value + chance.about() * self.scale).clamp(0.0, 1.0);
            }
            Sort::Uptime => self.value += (seconds * 100.0).floor(),
            Sort::Sessions => {
                self.value = (self.value + (chance.about() * self.scale).round()).max(0.0);
            }
            _ => {}
        }
        self.value
    }
}

fn sorts() -> impl Iterator<Item = Sort> {
    MIX.into_iter()
        .flat_map(|(sort, count)| std::iter::repeat_n(sort, count))
}

fn columns() -> Arc<Columns> {
    let key = |(place, sort): (usize, Sort)| SeriesKey {
        metric: format!("metric_{place}").into(),
        labels: Arc::new(Labels::new([("interface", place.to_string())])),
        kind: kind(sort),
    };
    Arc::new(Columns::new(sorts().enumerate().map(key).collect()))
}

struct Device {
    series: Vec<Series>,
    chance: Chance,
    phase: u64,
    before: u64,
}

impl Device {
    fn new(number: u64) -> Device {
        let series = sorts().zip(0u64..);
        Device {
            series: series
                .map(|(sort, place)| Series::new(sort, number * 1_000 + place + 1))
                .collect(),
            chance: Chance(number.wrapping_mul(0xD1B5_4A32_D192_ED03) | 1),
            phase: number * 7_919 % INTERVAL,
            before: BASE,
        }
    }

    /// An hour of rows.
    fn hour(&mut self, hour: u64) -> (Vec<u64>, Vec<f64>) {
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for poll in 0..3_600_000 / INTERVAL {
            let late = if self.chance.share() < 0.05 { 400 } else { 25 };
            let at = BASE
                + hour * 3_600_000
                + poll * INTERVAL
                + self.phase / 2
                + self.chance.next() % late;
            let seconds = at.saturating_sub(self.before) as f64 / 1_000.0;
            self.before = at;
            times.push(at);
            values.extend(
                self.series
                    .iter_mut()
                    .map(|series| series.next(at, seconds)),
            );
        }
        (times, values)
    }
}

fn write_hour(
    fs: &Arc<dyn Fs>,
    path: &Path,
    hour: u64,
    devices: &mut [Device],
) -> Result<(Option<Summary>, f64), SegmentError> {
    let set = columns();
    let mut scratch = Scratch::default();
    let mut writer = SegmentWriter::create(fs, path, Tier::Raw, Span::Fresh)?;
    let hours: Vec<_> = devices.iter_mut().map(|device| device.hour(hour)).collect();
    let mut bytes = Vec::new();
    let begun = spent();
    for (group, (times, values)) in (0u32..).zip(&hours) {
        let rows = RowsRef {
            columns: 1,
            width: set.series().len(),
            times,
            values,
            breaks: &[],
        };
        bytes.clear();
        codec::encode_rows(rows, Effort::Fast, &mut scratch, &mut bytes);
        let mut kinds = set.series().iter().map(|key| key.kind);
        writer.push(group, &bytes, &mut kinds)?;
    }
    let total = spent() - begun;
    Ok((writer.finish()?, total))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let devices = std::env::args()
        .nth(1)
        .map_or(Ok(30), |count| count.parse())?;
    let dir = tempfile::tempdir()?;
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let mut devices: Vec<Device> = (0..devices).map(Device::new).collect();
    let (mut sources, mut bytes, mut samples, mut total) = (Vec::new(), 0, 0, 0.0);
    for hour in 0..24 {
        let path = dir.path().join(format!("{hour}.seg"));
        let (summary, seconds) = write_hour(&fs, &path, hour, &mut devices)?;
        let summary = summary.ok_or("there are rows")?;
        bytes += summary.bytes;
        samples += summary.samples;
        total += seconds;
        sources.push(Arc::new(Segment::open(&fs, &path)?));
    }
    let per = |seconds: f64| seconds * 1e9 / samples as f64;
    println!("{samples} samples of {} series", devices.len() * 100);
    println!(
        "fresh   {:6.3} B/sample {:7.2} ns/sample",
        bytes as f64 / samples as f64,
        per(total)
    );
    for tiers in [&Tier::ALL[..1], &Tier::ALL[1..], &Tier::ALL] {
        let words: Vec<&str> = tiers.iter().map(|tier| tier.word()).collect();
        let begun = spent();
        let made = day(&fs, dir.path(), &sources, tiers)?;
        println!(
            "compact to {:12} {:7.2} ns/sample",
            words.join("+"),
            per(spent() - begun)
        );
        for (tier, summary) in tiers.iter().zip(made) {
            let summary = summary.ok_or("there are rows")?;
            println!(
                "  {:6} {:7.4} B per raw sample, {:6.3} B per value of {}",
                tier.word(),
                summary.bytes as f64 / samples as f64,
                summary.bytes as f64 / summary.samples as f64,
                summary.samples
            );
            if tiers.len() == 3 {
                let kinds = summary
                    .kinds
                    .map(|(values, bytes)| bytes as f64 / values.max(1) as f64);
                println!("         by kind (counter32, counter64, gauge, state) {kinds:.3?}");
            }
            std::fs::remove_file(dir.path().join(tier.word()))?;
        }
    }
    Ok(())
}

fn day(
    fs: &Arc<dyn Fs>,
    dir: &Path,
    sources: &[Arc<Segment>],
    tiers: &[Tier],
) -> Result<Vec<Option<Summary>>, SegmentError> {
    let set = columns();
    let output = |tier: &Tier| Output {
        path: dir.join(tier.word()),
        tier: *tier,
        span: Span::Day,
    };
    let made = compact(&Compaction {
        fs: Arc::clone(fs),
        sources: sources.to_vec(),
        range: BASE..BASE + DAY + INTERVAL,
        is_gone: &|_| false,
        columns: &|_| Some(Arc::clone(&set)),
        previous: &|_| None,
        outputs: tiers.iter().map(output).collect(),
        stop: &|| false,
    })?;
    Ok(made.outputs)
}
