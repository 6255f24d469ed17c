//! Bytes and nanoseconds a sample, by kind of series: MEASURED.md has a run.
//!
//! ```text
//! cargo run --release -p codec --example measure [FOLDER OF SNMP RECORDINGS]
//! ```
//!
//! With recordings (`*.snmprec`) the series begin at their levels and grow at
//! the mean rate since their device started. The movement is made up either
//! way: recordings hold each value once.
#![expect(clippy::print_stdout, reason = "this is what it is for")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "random numbers are cut off on purpose and never negative"
)]

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use codec::{Block, Effort, RowsRef, Scratch, encode_rows};

const STEP_MS: u64 = 30_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    BusyOctets,
    NearIdle,
    Idle,
    Packets,
    Errors,
    Cpu,
    Memory,
    Temperature,
    RoundTrip,
    Loss,
    Constant,
    Ratio,
    Uptime,
    Sessions,
}

/// A device's hundred series: how many of each kind.
const MIX: [(Kind, usize); 14] = [
    (Kind::BusyOctets, 15),
    (Kind::NearIdle, 8),
    (Kind::Idle, 14),
    (Kind::Packets, 9),
    (Kind::Errors, 14),
    (Kind::Cpu, 10),
    (Kind::Memory, 6),
    (Kind::Temperature, 6),
    (Kind::RoundTrip, 3),
    (Kind::Loss, 2),
    (Kind::Constant, 8),
    (Kind::Ratio, 3),
    (Kind::Uptime, 1),
    (Kind::Sessions, 1),
];

/// Enough of a random number for noise, the same in every run.
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About normal around 0, of variance 1/3.
    fn noise(&mut self) -> f64 {
        self.unit() + self.unit() + self.unit() + self.unit() - 2.0
    }

    fn below(&mut self, end: f64) -> f64 {
        (self.unit() * end).floor()
    }

    fn pick(&mut self, from: &[f64]) -> f64 {
        from[(self.unit() * from.len() as f64) as usize]
    }
}

/// What recordings hold: counters with their mean rates, other values.
#[derive(Default)]
struct Levels {
    octets: Vec<(f64, f64)>,
    packets: Vec<(f64, f64)>,
    errors: Vec<f64>,
    memory: Vec<f64>,
    uptime: Vec<f64>,
    constants: Vec<f64>,
}

impl Levels {
    fn read(folder: &Path) -> std::io::Result<Levels> {
        let mut levels = Levels::default();
        let mut paths: Vec<_> = std::fs::read_dir(folder)?
            .flatten()
            .map(|e| e.path())
            .collect();
        paths.sort();
        for path in paths
            .iter()
            .filter(|p| p.extension().is_some_and(|e| e == "snmprec"))
        {
            levels.add(&String::from_utf8_lossy(&std::fs::read(path)?));
        }
        Ok(levels)
    }

    fn add(&mut self, recording: &str) {
        let values: HashMap<&str, f64> = recording.lines().filter_map(value_of_line).collect();
        let ticks = values.get("1.3.6.1.2.1.1.3.0").copied().unwrap_or(0.0);
        let seconds = (ticks / 100.0).max(1.0);
        self.uptime.extend(Some(ticks).filter(|t| *t > 0.0));
        for (name, value) in values {
            let Some((column, index)) = name.rsplit_once('.') else {
                continue;
            };
            match column {
                "1.3.6.1.2.1.31.1.1.1.6" | "1.3.6.1.2.1.31.1.1.1.10" => {
                    self.octets.push((value, value / seconds));
                }
                "1.3.6.1.2.1.31.1.1.1.7" | "1.3.6.1.2.1.31.1.1.1.11" => {
                    self.packets.push((value, value / seconds));
                }
                "1.3.6.1.2.1.2.2.1.14" | "1.3.6.1.2.1.2.2.1.20" => self.errors.push(value),
                "1.3.6.1.2.1.31.1.1.1.15" => self.constants.push(value),
                "1.3.6.1.2.1.25.2.3.1.6" => {
                    let unit = recording
                        .lines()
                        .filter_map(value_of_line)
                        .find(|(name, _)| {
                            name.strip_prefix("1.3.6.1.2.1.25.2.3.1.4.") == Some(index)
                        });
                    self.memory.push(value * unit.map_or(1.0, |(_, unit)| unit));
                }
                _ => {}
            }
        }
    }

    /// The order of a map is another in every run.
    fn sort(&mut self) {
        self.octets
            .sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
        self.packets
            .sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
        for values in [&mut self.errors, &mut self.memory, &mut self.constants] {
            values.sort_by(f64::total_cmp);
        }
    }
}

/// Numbers: `name|2, 65, 66, 67 or 70|value`.
fn value_of_line(line: &str) -> Option<(&str, f64)> {
    let mut parts = line.split('|');
    let (name, kind, value) = (parts.next()?, parts.next()?, parts.next()?);
    let numeric = matches!(kind, "2" | "65" | "66" | "67" | "70");
    Some((name, value.trim().parse().ok().filter(|_| numeric)?))
}

struct Series {
    kind: Kind,
    random: Random,
    value: f64,
    scale: f64,
    drift: f64,
}

impl Series {
    fn new(kind: Kind, seed: u64, levels: &Levels) -> Series {
        let mut random = Random(seed.wrapping_mul(0xd1b5_4a32_d192_ed03));
        let r = &mut random;
        let (value, scale) = match kind {
            Kind::BusyOctets => start(r, &levels.octets, 1e4, 44, 4.0..8.0),
            Kind::Packets => start(r, &levels.packets, 30.0, 38, 1.5..5.0),
            Kind::NearIdle => (r.below(6.9e10), 60.0),
            Kind::Idle if r.unit() < 0.5 => (0.0, 0.0),
            Kind::Idle => (r.below(1e9), 0.0),
            Kind::Errors => {
                let often = if r.unit() < 0.7 { 0.0 } else { 0.03 };
                (level(r, &levels.errors, 500.0), often)
            }
            Kind::Cpu => (5.0 + r.unit() * 50.0, 3.0),
            Kind::Memory => (level(r, &levels.memory, 4e6 * 4096.0), 64.0),
            Kind::Temperature => (30.0 + r.unit() * 30.0, 0.0),
            Kind::RoundTrip => (0.0, 0.2 + r.unit() * 40.0),
            Kind::Loss => (0.0, 0.0),
            Kind::Constant if levels.constants.is_empty() => {
                (r.pick(&[1.0, 1e9, 2.0, 1e10, 100.0]), 0.0)
            }
            Kind::Constant => (r.pick(&levels.constants), 0.0),
            Kind::Ratio => (0.5, 0.02),
            Kind::Uptime => (level(r, &levels.uptime, 1e9), 0.0),
            Kind::Sessions => (r.below(4000.0), 20.0),
        };
        Series {
            kind,
            random,
            value,
            scale,
            drift: 0.0,
        }
    }

    fn next(&mut self, at_ms: u64, passed_ms: u64) -> f64 {
        let r = &mut self.random;
        match self.kind {
            Kind::BusyOctets | Kind::Packets => {
                self.drift = 0.9 * self.drift + 0.25 * r.noise();
                let day = (at_ms as f64 / 86_400_000.0 * std::f64::consts::TAU).sin();
                let rate = self.scale * (1.0 + 0.5 * day) * (1.0 + self.drift).max(0.05);
                self.value += (rate * passed_ms as f64 / 1000.0).floor();
            }
            Kind::NearIdle if r.unit() < 0.5 => self.value += 60.0 + r.below(8.0) * 64.0,
            Kind::Errors if r.unit() < self.scale => self.value += 1.0 + r.below(5.0),
            Kind::NearIdle | Kind::Errors | Kind::Idle | Kind::Constant => {}
            Kind::Cpu => {
                self.value = (self.value + r.noise() * self.scale).clamp(0.0, 100.0);
                return self.value.round();
            }
            Kind::Memory if r.unit() < 0.7 => {
                let pages = (r.noise() * self.scale).round();
                self.value = (self.value + pages * 4096.0).max(0.0);
            }
            Kind::Memory => {}
            Kind::Temperature => {
                if r.unit() < 0.15 {
                    self.value = (self.value + r.noise()).clamp(15.0, 90.0);
                }
                return (self.value * 2.0).round() / 2.0;
            }
            Kind::RoundTrip => {
                let spike = if r.unit() < 0.02 {
                    r.unit() * 50.0
                } else {
                    0.0
                };
                let ms = self.scale * (1.0 + 0.08 * r.noise().abs()) + spike;
                return (ms * 1000.0).round() / 1000.0;
            }
            Kind::Loss if r.unit() < 0.01 => return r.pick(&[10.0, 20.0, 33.3, 100.0]),
            Kind::Loss => {}
            Kind::Ratio => self.value = (self.value + r.noise() * self.scale).clamp(0.0, 1.0),
            Kind::Uptime => self.value += (passed_ms / 10) as f64,
            Kind::Sessions => {
                self.value = (self.value + (r.noise() * self.scale).round()).max(0.0);
            }
        }
        self.value
    }
}

/// A counter and its rate: a recorded one that is busy enough, or any.
fn start(
    random: &mut Random,
    recorded: &[(f64, f64)],
    busy: f64,
    bits: i32,
    magnitude: std::ops::Range<f64>,
) -> (f64, f64) {
    let busy: Vec<_> = recorded.iter().filter(|(_, rate)| *rate >= busy).collect();
    if busy.is_empty() {
        let exponent = magnitude.start + random.unit() * (magnitude.end - magnitude.start);
        return (random.below(2_f64.powi(bits)), 10_f64.powf(exponent));
    }
    *busy[random.below(busy.len() as f64) as usize]
}

fn level(random: &mut Random, recorded: &[f64], most: f64) -> f64 {
    if recorded.is_empty() {
        random.below(most)
    } else {
        random.pick(recorded)
    }
}

struct Group {
    times: Vec<u64>,
    values: Vec<f64>,
    width: usize,
}

impl Group {
    /// Polls of one device: each a little late, one of twenty more so.
    fn new(device: u64, kinds: &[Kind], rows: usize, levels: &Levels) -> Group {
        let seeds = (device * 1000 + 1..).zip(kinds);
        let mut series: Vec<_> = seeds
            .map(|(seed, k)| Series::new(*k, seed, levels))
            .collect();
        let mut random = Random(device);
        let mut before = 1_790_000_000_000 + device * 7919 % STEP_MS;
        let first = before;
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for row in 0..rows as u64 {
            let late = if random.unit() < 0.05 { 400.0 } else { 25.0 };
            let at = first + row * STEP_MS + random.below(late) as u64;
            times.push(at);
            values.extend(series.iter_mut().map(|s| s.next(at, at - before)));
            before = at;
        }
        Group {
            times,
            values,
            width: kinds.len(),
        }
    }

    fn encode(&self, effort: Effort, scratch: &mut Scratch, out: &mut Vec<u8>) {
        let (times, values) = (&self.times, &self.values);
        let rows = RowsRef {
            columns: 1,
            width: self.width,
            times,
            values,
            breaks: &[],
        };
        encode_rows(rows, effort, scratch, out);
    }
}

/// What some groups cost.
struct Cost {
    bytes: f64,
    encode_ns: f64,
    decode_ns: f64,
}

/// Bytes a sample, and the time of the quickest of some rounds of each group.
fn cost(groups: &[Group], effort: Effort, rounds: usize) -> Cost {
    let samples: usize = groups.iter().map(|g| g.values.len()).sum();
    let mut scratch = Scratch::default();
    let mut blocks = vec![Vec::new(); groups.len()];
    let mut values = Vec::new();
    let mut quickest = vec![(f64::MAX, f64::MAX); groups.len()];
    for _ in 0..rounds {
        for ((group, block), quickest) in groups.iter().zip(&mut blocks).zip(&mut quickest) {
            let start = Instant::now();
            block.clear();
            group.encode(effort, &mut scratch, block);
            quickest.0 = quickest.0.min(start.elapsed().as_secs_f64());
        }
        for (block, quickest) in blocks.iter().zip(&mut quickest) {
            let start = Instant::now();
            values.clear();
            let block = Block::open(block).expect("a block of ours");
            for column in 0..block.width() {
                let read = block.column(column, &mut scratch, &mut values);
                read.expect("a column of ours");
            }
            quickest.1 = quickest.1.min(start.elapsed().as_secs_f64());
        }
    }
    let samples = samples as f64;
    Cost {
        bytes: blocks.iter().map(Vec::len).sum::<usize>() as f64 / samples,
        encode_ns: quickest.iter().map(|q| q.0).sum::<f64>() * 1e9 / samples,
        decode_ns: quickest.iter().map(|q| q.1).sum::<f64>() * 1e9 / samples,
    }
}

fn main() -> std::io::Result<()> {
    let mut levels = Levels::default();
    if let Some(folder) = std::env::args().nth(1) {
        levels = Levels::read(Path::new(&folder))?;
        levels.sort();
        let (octets, packets) = (levels.octets.len(), levels.packets.len());
        println!("levels of {octets} octet and {packets} packet counters\n");
    }
    println!(
        "| Series | Rows | fast B | encode ns | decode ns | dense B | encode ns | decode ns |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mix: Vec<Kind> = MIX
        .iter()
        .flat_map(|(kind, count)| vec![*kind; *count])
        .collect();
    for (rows, devices) in [(120, 100), (480, 40), (2880, 12)] {
        let groups: Vec<_> = (0..devices)
            .map(|d| Group::new(d, &mix, rows, &levels))
            .collect();
        line("mix", rows, &groups);
    }
    for (kind, _) in MIX {
        for rows in [120, 2880] {
            let groups = [Group::new(1, &[kind; 50], rows, &levels)];
            line(&format!("{kind:?}"), rows, &groups);
        }
    }
    Ok(())
}

fn line(name: &str, rows: usize, groups: &[Group]) {
    print!("| {name} | {rows} |");
    for (effort, rounds) in [(Effort::Fast, 20), (Effort::Dense, 10)] {
        let Cost {
            bytes,
            encode_ns,
            decode_ns,
        } = cost(groups, effort, rounds);
        print!(" {bytes:.3} | {encode_ns:.1} | {decode_ns:.1} |");
    }
    println!();
}
