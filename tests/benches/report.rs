//! What was measured, beside its bar: a table for people, bench.json for
//! programs.

use std::path::PathBuf;

use serde_json::{Value as Json, json};

/// What a value should be.
#[derive(Clone, Copy)]
pub(crate) enum Bar {
    /// At most this, in the value's unit.
    AtMost(f64),
    /// At least this, in the value's unit.
    AtLeast(f64),
    /// At most this share of the peer's value.
    OfPeer(f64),
}

/// Another program that did the same.
pub(crate) struct Peer {
    /// What was run.
    pub(crate) name: &'static str,
    /// What it took, in the value's unit.
    pub(crate) value: f64,
}

/// One thing that was measured.
pub(crate) struct Value {
    name: String,
    value: f64,
    unit: &'static str,
    peer: Option<Peer>,
    bar: Option<Bar>,
    load: f64,
}

impl Value {
    /// A value that has neither peer nor bar.
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Value {
        Value {
            name: name.into(),
            value,
            unit,
            peer: None,
            bar: None,
            load: f64::NAN,
        }
    }

    pub(crate) fn bar(self, bar: Bar) -> Value {
        Value {
            bar: Some(bar),
            ..self
        }
    }

    pub(crate) fn peer(self, name: &'static str, value: f64) -> Value {
        Value {
            peer: Some(Peer { name, value }),
            ..self
        }
    }

    /// The value as a share of its peer's.
    fn ratio(&self) -> Option<f64> {
        self.peer.as_ref().map(|peer| self.value / peer.value)
    }

    fn holds(&self) -> Option<bool> {
        let holds = match self.bar? {
            Bar::AtMost(limit) => self.value <= limit,
            Bar::AtLeast(limit) => self.value >= limit,
            Bar::OfPeer(share) => self.ratio()? <= share,
        };
        Some(holds)
    }

    fn is_measured(&self) -> bool {
        let peer = self.peer.as_ref();
        self.value.is_finite() && peer.is_none_or(|peer| peer.value.is_finite() && peer.value > 0.0)
    }

    fn json(&self) -> Json {
        json!({
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "peer": self.peer.as_ref().map(|peer| peer.value),
            "peer_name": self.peer.as_ref().map(|peer| peer.name),
            "ratio": self.ratio(),
            "bar": self.bar.map(shown_bar),
            "holds": self.holds(),
            "load": self.load,
        })
    }

    fn cells(&self) -> [String; COLUMNS.len()] {
        let nothing = || "-".to_owned();
        let peer = self.peer.as_ref();
        let holds = self.holds().map(|holds| if holds { "yes" } else { "no" });
        [
            self.name.clone(),
            shown(self.value),
            self.unit.to_owned(),
            peer.map_or_else(nothing, |peer| {
                format!("{} {}", shown(peer.value), peer.name)
            }),
            self.ratio().map_or_else(nothing, shown),
            self.bar.map_or_else(nothing, shown_bar),
            holds.map_or_else(nothing, str::to_owned),
            format!("{:.2}", self.load),
        ]
    }
}

const COLUMNS: [&str; 8] = [
    "name", "value", "unit", "peer", "ratio", "bar", "holds", "load",
];

fn shown_bar(bar: Bar) -> String {
    match bar {
        Bar::AtMost(limit) => format!("<= {limit}"),
        Bar::AtLeast(limit) => format!(">= {limit}"),
        Bar::OfPeer(share) => format!("ratio <= {share}"),
    }
}

/// With three digits that say something, and no exponent.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size == 0.0 || size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        size if size >= 0.1 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

/// Everything that was measured, and what could not be.
#[derive(Default)]
pub(crate) struct Report {
    values: Vec<Value>,
    missing: Vec<String>,
    load: Option<f64>,
}

impl Report {
    /// The values that follow were measured while the load average was `load`;
    /// with `None`, just now.
    pub(crate) fn load(&mut self, load: Option<f64>) {
        self.load = load;
    }

    /// Takes a value, and says so at once: the whole run takes long.
    pub(crate) fn add(&mut self, mut value: Value) {
        value.load = self.load.unwrap_or_else(load_average);
        let [name, figure, unit, peer, ..] = value.cells();
        say(&format!("{name}: {figure} {unit} (peer {peer})"));
        if !value.is_measured() {
            self.could_not(&value.name);
        }
        self.values.push(value);
    }

    /// Notes what could not be measured.
    pub(crate) fn could_not(&mut self, what: &str) {
        say(&format!("COULD NOT BE MEASURED: {what}"));
        self.missing.push(what.to_owned());
    }

    /// Whether everything could be measured.
    pub(crate) fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        let mut lines = vec![COLUMNS.map(str::to_owned)];
        lines.extend(self.values.iter().map(Value::cells));
        let widths: Vec<usize> = (0..COLUMNS.len())
            .map(|column| lines.iter().map(|line| line[column].len()).max())
            .map(Option::unwrap_or_default)
            .collect();
        say("");
        for line in &lines {
            let cells = line.iter().zip(&widths);
            let cells = cells.map(|(cell, width)| format!("{cell:<width$}"));
            say(cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        for what in &self.missing {
            say(&format!("COULD NOT BE MEASURED: {what}"));
        }
    }

    /// Writes bench.json into the target directory, in the place of an older
    /// one.
    pub(crate) fn write(&self) -> std::io::Result<PathBuf> {
        let path = target_directory()?.join("bench.json");
        let values: Vec<Json> = self.values.iter().map(Value::json).collect();
        std::fs::write(&path, format!("{:#}\n", Json::from(values)))?;
        Ok(path)
    }
}

/// Above `PROFILE/deps/product-…`.
fn target_directory() -> std::io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let directory = program.ancestors().nth(3);
    Ok(directory.unwrap_or(&program).to_owned())
}

/// Runnable processes over the last minute, this run's own included (proc(5)).
pub(crate) fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|load| load.parse().ok()).unwrap_or(f64::NAN)
}

#[expect(clippy::print_stdout, reason = "a benchmark prints what it finds")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}
