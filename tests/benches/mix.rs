//! The realistic mix: what a hundred series of a switch look like, by the
//! numbers, the same in every run.
//!
//! A third of the counters are busy and noisy, as many never move; there are
//! percentages, temperatures, round-trip times, constants, and three ratios with
//! every bit in use. Polls come every 30 s, some milliseconds early or late.

use std::sync::Arc;

use model::{Check, Columns, DeviceId, GroupKey, Labels, MetricKind, SeriesKey, Timestamp};

/// Series of a device.
pub(crate) const WIDTH: usize = 100;

/// Between two polls, in ms.
pub(crate) const EVERY: u64 = 30_000;

/// xorshift64*: the same numbers everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _warm_up in 0..4 {
            dice.next();
        }
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// From 0 to 1, all 53 bits.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number with every bit of it by chance, around 1.
    pub(crate) fn any_bits(&mut self) -> f64 {
        1.0 + self.share()
    }

    /// Around 0, nearly normal.
    fn noise(&mut self) -> f64 {
        (0..4).map(|_| self.share()).sum::<f64>() - 2.0
    }

    /// A whole number below `limit`.
    fn whole(&mut self, limit: f64) -> f64 {
        (self.share() * limit).floor()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Busy,
    Quiet,
    Idle,
    Packets,
    Errors,
    Percent,
    Memory,
    Temperature,
    Rtt,
    Loss,
    Constant,
    Ratio,
    Uptime,
    Sessions,
}

/// The sort of each column, and the metric that carries such values.
fn sort_of(column: usize) -> (Sort, &'static str) {
    match column {
        0..8 => (Sort::Busy, "ifHCInOctets"),
        8..15 => (Sort::Busy, "ifHCOutOctets"),
        15..23 => (Sort::Quiet, "ifHCOutOctets"),
        23..31 => (Sort::Idle, "ifHCInMulticastPkts"),
        31..40 => (Sort::Packets, "ifHCInUcastPkts"),
        40..46 => (Sort::Idle, "ifHCOutMulticastPkts"),
        46..53 => (Sort::Errors, "ifInErrors"),
        53..60 => (Sort::Errors, "ifOutDiscards"),
        60..70 => (Sort::Percent, "hrProcessorLoad"),
        70..76 => (Sort::Memory, "storage_used_bytes"),
        76..82 => (Sort::Temperature, "temperature_celsius"),
        82..85 => (Sort::Rtt, "icmp_rtt_seconds"),
        85..87 => (Sort::Loss, "icmp_loss_ratio"),
        87..91 => (Sort::Constant, "ifOperStatus"),
        91..95 => (Sort::Constant, "ifSpeed_bps"),
        95..98 => (Sort::Ratio, "cache_hit_ratio"),
        98 => (Sort::Uptime, "sysUpTime"),
        _ => (Sort::Sessions, "firewall_sessions"),
    }
}

fn kind_of(sort: Sort) -> MetricKind {
    match sort {
        Sort::Busy | Sort::Quiet | Sort::Idle | Sort::Packets => MetricKind::Counter64,
        Sort::Errors => MetricKind::Counter32,
        Sort::Constant => MetricKind::State,
        _ => MetricKind::Gauge,
    }
}

/// Metric and port of a column, as every peer is told.
pub(crate) fn name_of(column: usize) -> (&'static str, String) {
    (sort_of(column).1, format!("Gi1/0/{column}"))
}

/// The columns of a switch; with `own`, its labels are nobody else's.
pub(crate) fn columns(own: Option<u64>) -> Arc<Columns> {
    let series = (0..WIDTH).map(|column| {
        let (metric, port) = name_of(column);
        let mut labels = vec![("ifName".to_owned(), port)];
        labels.extend(own.map(|device| ("serial".to_owned(), format!("FOC{device:08X}"))));
        SeriesKey {
            metric: metric.into(),
            labels: Arc::new(Labels::new(labels)),
            kind: kind_of(sort_of(column).0),
        }
    });
    Arc::new(Columns::new(series.collect()))
}

/// The group of a device.
pub(crate) fn group(device: DeviceId) -> GroupKey {
    GroupKey {
        device,
        check: Check::Snmp,
    }
}

/// When `device` is polled for the `step`-th time.
pub(crate) fn time(from: Timestamp, device: u64, step: u64) -> Timestamp {
    let phase = device * 7_919 % EVERY;
    let mut dice = Dice::new(device * 1_000_003 + step);
    let late = if dice.share() < 0.05 { 400.0 } else { 25.0 };
    let late = std::time::Duration::from_secs_f64(dice.whole(late) / 1e3);
    Timestamp(from.0 + step * EVERY + phase).plus(late)
}

/// One series, going on.
#[derive(Clone, Debug)]
struct Series {
    sort: Sort,
    dice: Dice,
    value: f64,
    pace: f64,
    drift: f64,
}

impl Series {
    fn new(device: u64, column: usize) -> Series {
        let sort = sort_of(column).0;
        let mut dice = Dice::new(device * 1_000 + column as u64 + 1);
        let (value, pace) = match sort {
            Sort::Busy => (dice.whole(1.7e13), 10f64.powf(4.0 + 4.0 * dice.share())),
            Sort::Quiet => (dice.whole(6.8e10), 0.0),
            Sort::Idle => (
                if dice.share() < 0.5 {
                    0.0
                } else {
                    dice.whole(1e9)
                },
                0.0,
            ),
            Sort::Packets => (dice.whole(2.7e11), 10f64.powf(1.5 + 3.5 * dice.share())),
            Sort::Errors => (
                dice.whole(500.0),
                if dice.share() < 0.7 { 0.0 } else { 0.03 },
            ),
            Sort::Percent => (5.0 + 50.0 * dice.share(), 3.0),
            Sort::Memory => (dice.whole(4e6) * 4_096.0, 64.0),
            Sort::Temperature => (30.0 + 30.0 * dice.share(), 0.0),
            Sort::Rtt => (0.0, 0.2 + 40.0 * dice.share()),
            Sort::Loss => (0.0, 0.0),
            Sort::Constant => ([1.0, 1e9, 2.0, 1e10][column % 4], 0.0),
            Sort::Ratio => (0.5, 0.02),
            Sort::Uptime => (dice.whole(1e9), 0.0),
            Sort::Sessions => (dice.whole(4_000.0), 20.0),
        };
        Series {
            sort,
            dice,
            value,
            pace,
            drift: 0.0,
        }
    }

    /// The value after `ms` more.
    fn next(&mut self, day: f64, ms: f64) -> f64 {
        let dice = &mut self.dice;
        match self.sort {
            Sort::Busy | Sort::Packets => {
                self.drift = 0.9 * self.drift + 0.25 * dice.noise();
                let rate = self.pace * (1.0 + 0.5 * day) * (1.0 + self.drift).max(0.05);
                self.value += (rate * ms / 1e3).floor();
            }
            Sort::Quiet if dice.share() < 0.5 => self.value += 60.0 + 64.0 * dice.whole(8.0),
            Sort::Errors if dice.share() < self.pace => self.value += 1.0 + dice.whole(5.0),
            Sort::Percent => {
                self.value = (self.value + dice.noise() * self.pace).clamp(0.0, 100.0);
                return self.value.round();
            }
            Sort::Memory if dice.share() < 0.7 => {
                let pages = (dice.noise() * self.pace).round();
                self.value = (self.value + pages * 4_096.0).max(0.0);
            }
            Sort::Temperature => {
                if dice.share() < 0.15 {
                    self.value = (self.value + dice.noise()).clamp(15.0, 90.0);
                }
                return (self.value * 2.0).round() / 2.0;
            }
            Sort::Rtt => {
                let spike = if dice.share() < 0.02 {
                    50.0 * dice.share()
                } else {
                    0.0
                };
                let ms = self.pace * (1.0 + 0.08 * dice.noise().abs()) + spike;
                return (ms * 1e3).round() / 1e6;
            }
            Sort::Loss => return if dice.share() < 0.01 { 0.2 } else { 0.0 },
            Sort::Ratio => {
                self.value = (self.value + dice.noise() * self.pace).clamp(0.0, 1.0);
            }
            Sort::Uptime => self.value += (ms / 10.0).round(),
            Sort::Sessions => {
                self.value = (self.value + (dice.noise() * self.pace).round()).max(0.0);
            }
            Sort::Quiet | Sort::Errors | Sort::Memory | Sort::Idle | Sort::Constant => {}
        }
        self.value
    }
}

/// A switch, going on.
#[derive(Clone, Debug)]
pub(crate) struct Switch {
    series: Vec<Series>,
}

impl Switch {
    pub(crate) fn new(device: u64) -> Switch {
        Switch {
            series: (0..WIDTH)
                .map(|column| Series::new(device, column))
                .collect(),
        }
    }

    /// Appends the row at `at`, `ms` after the last one, to `out`.
    pub(crate) fn next(&mut self, at: Timestamp, ms: u64, out: &mut Vec<f64>) {
        const DAY: u64 = 86_400_000;
        let (of_day, ms) = (whole(at.0 % DAY) / whole(DAY), whole(ms));
        let day = (of_day * std::f64::consts::TAU).sin();
        out.extend(self.series.iter_mut().map(|series| series.next(day, ms)));
    }
}

#[expect(clippy::cast_precision_loss, reason = "it is below 2^53")]
fn whole(number: u64) -> f64 {
    number as f64
}
