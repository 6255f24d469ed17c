//! A parser that does what `input.source` says, most of it forbidden.

wit_bindgen::generate!({ path: "../../../../sdk/wit/v1", world: "parser-plugin", generate_all });

use std::hint::black_box;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use exports::sotp::plugin::parser::{Descriptor, Guest, Input, Output, Payload, PluginError};
use sotp::plugin::metrics::{MetricDesc, MetricKind, Row};
use sotp::plugin::snmp::Cells;
use sotp::plugin::{config, inventory, kv, log};

struct Misbehaving;

/// Calls that this instance has seen.
static CALLS: AtomicU32 = AtomicU32::new(0);

fn hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            log::log(log::Level::Error, &info.to_string(), &[]);
        }));
    });
}

fn gauge(name: &str, labels: &[&str]) -> MetricDesc {
    MetricDesc {
        name: name.to_owned(),
        kind: MetricKind::Gauge,
        unit: String::new(),
        help: String::new(),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        states: Vec::new(),
    }
}

fn row(labels: &[&str], values: &[(u32, f64)]) -> Row {
    Row {
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        values: values.to_vec(),
    }
}

fn output(rows: Vec<Row>) -> Output {
    Output {
        rows,
        facts: Vec::new(),
        events: Vec::new(),
        warnings: Vec::new(),
    }
}

impl Guest for Misbehaving {
    fn describe() -> Descriptor {
        hook();
        let per_port = ["if_index", "if_name"];
        Descriptor {
            metrics: vec![
                gauge("acme_value", &[]),
                gauge("acme_speed_bits", &per_port),
                gauge("acme_status", &per_port),
                gauge("acme_in_octets", &per_port),
                gauge("acme_out_octets", &per_port),
            ],
            facts: Vec::new(),
            events: Vec::new(),
        }
    }

    fn parse(input: Input) -> Result<Output, PluginError> {
        hook();
        let seen = CALLS.fetch_add(1, Ordering::Relaxed);
        let number = || number_of(&input.payload);
        let rows = match input.source.as_str() {
            "honest" => vec![row(&[], &[(0, number() as f64)])],
            "ports" => ports(&input.payload),
            "seen" => vec![row(&[], &[(0, f64::from(seen))])],
            "loop" => endless(),
            "spin" => {
                spin(number());
                vec![row(&[], &[(0, 1.0)])]
            }
            "recursion" => vec![row(&[], &[(0, deeper(number()) as f64)])],
            "numbers" => vec![row(&[], &[(0, down(number()) as f64)])],
            "memory" => hog(),
            "grow" => vec![row(&[], &[(0, grow(number()) as f64)])],
            "trap" => trap(),
            "panic" => {
                let none: Vec<u64> = Vec::new();
                vec![row(&[], &[(0, none[number() as usize] as f64)])]
            }
            "large" => vec![Row {
                labels: vec!["x".repeat(number() as usize)],
                values: Vec::new(),
            }],
            "log" => {
                for line in 0..number() {
                    log::log(log::Level::Info, &format!("line {line}"), &[]);
                }
                Vec::new()
            }
            "large log" => {
                log::log(log::Level::Info, &"x".repeat(number() as usize), &[]);
                Vec::new()
            }
            "kv" => {
                let kept = (0..number()).filter(|n| kv::set(&n.to_string(), b"x", None).is_ok());
                vec![row(&[], &[(0, kept.count() as f64)])]
            }
            "kv read" => {
                let value = kv::get("key").map_or(-1.0, |value| value.len() as f64);
                vec![row(&[], &[(0, value)])]
            }
            "device" => {
                let found = inventory::get_device("7").is_some();
                vec![row(&[], &[(0, f64::from(u8::from(found)))])]
            }
            "setting" => vec![row(
                &[],
                &[(0, config::get("limit").unwrap().parse().unwrap())],
            )],
            "nan" => vec![row(&[], &[(0, f64::NAN)])],
            "labels" => vec![row(&["one"], &[(0, 1.0)])],
            "rows" => (0..number()).map(|n| row(&[], &[(0, n as f64)])).collect(),
            "not mine" => return Err(PluginError::NotMine("a test".to_owned())),
            other => return Err(PluginError::Internal(format!("what is {other}?"))),
        };
        Ok(output(rows))
    }
}

fn number_of(payload: &Payload) -> u64 {
    match payload {
        Payload::Text(text) => text.parse().unwrap_or(0),
        Payload::Snmp(varbinds) => varbinds.len() as u64,
        _ => 0,
    }
}

/// What an honest parser of an interface table does.
fn ports(payload: &Payload) -> Vec<Row> {
    let Payload::SnmpTable(table) = payload else {
        return Vec::new();
    };
    let column = |number: u32| {
        table
            .columns
            .iter()
            .find(|c| c.base.last() == Some(&number))
    };
    let of = |number: u32, row: usize| match &column(number)?.cells {
        Cells::Uints(cells) => cells.get(row).map(|n| *n as f64),
        Cells::Ints(cells) => cells.get(row).map(|n| *n as f64),
        _ => None,
    };
    let name = |row: usize| match &column(2)?.cells {
        Cells::Texts(cells) => cells.get(row).cloned(),
        _ => None,
    };
    let rows = table.indexes.iter().enumerate().map(|(place, index)| {
        let values = [(1, 5), (2, 8), (3, 10), (4, 16)];
        let values = values.into_iter();
        Row {
            labels: vec![index[0].to_string(), name(place).unwrap_or_default()],
            values: values
                .filter_map(|(metric, number)| Some((metric, of(number, place)?)))
                .collect(),
        }
    });
    rows.collect()
}

#[inline(never)]
fn spin(rounds: u64) {
    for round in 0..rounds {
        black_box(round);
    }
}

#[inline(never)]
fn endless() -> Vec<Row> {
    loop {
        black_box(());
    }
}

#[inline(never)]
#[allow(unconditional_recursion)]
fn deeper(depth: u64) -> u64 {
    let here = black_box([depth; 16]);
    if depth == 0 {
        return 0;
    }
    deeper(depth - 1) + black_box(here[3])
}

/// A recursion that needs no memory, only places to return to.
#[inline(never)]
fn down(depth: u64) -> u64 {
    if depth == 0 {
        return 1;
    }
    down(depth - 1).wrapping_mul(3) ^ depth
}

fn hog() -> Vec<Row> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        all.push(black_box(vec![1; 1 << 20]));
    }
}

/// Takes that many bytes at once.
fn grow(bytes: u64) -> u64 {
    black_box(vec![1_u8; bytes as usize]).len() as u64
}

fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}

export!(Misbehaving);
