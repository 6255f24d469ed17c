//! What a reviewer would say of a plugin that works.

use contract::{MetricDescriptor, MetricKind, Reply};
use package::{Package, Problem};

/// Units that have a base unit.
const SCALED: [(&str, &str); 12] = [
    ("milliseconds", "seconds"),
    ("ms", "seconds"),
    ("minutes", "seconds"),
    ("hours", "seconds"),
    ("kilobytes", "bytes"),
    ("kb", "bytes"),
    ("megabytes", "bytes"),
    ("mb", "bytes"),
    ("millivolts", "volts"),
    ("percent", "ratio"),
    ("fahrenheit", "celsius"),
    ("mhz", "hertz"),
];

/// Looks at a plugin that can be loaded; `described` is what it said that it
/// does.
#[must_use]
pub fn lint(package: &Package, described: Option<&Reply>) -> Vec<Problem> {
    let mut remarks = Vec::new();
    let mut say = |message: String, hint: &str| {
        remarks.push(Problem::new(message).with_hint(hint));
    };
    if package.golden.is_empty() {
        say(
            "it has no golden case".to_owned(),
            "record one: sotp plugin record DEVICE",
        );
    }
    for case in &package.golden {
        if case.calls.iter().any(|call| call.expect.is_none()) {
            say(
                format!("the case {} does not say what is expected", case.name),
                "look at what comes, then: sotp plugin test --bless",
            );
        }
    }
    if package.readme.trim().is_empty() {
        say(
            "it has no README.md".to_owned(),
            "say what it measures, in which units, out of which MIB",
        );
    }
    if package.manifest.is_script() {
        let source = String::from_utf8_lossy(&package.code).into_owned();
        for (capability, words) in [
            ("kv", ["kv_get", "kv_set", "kv_keys"]),
            ("inventory", ["device(", "fact_of", "links("]),
        ] {
            let is_used = words.iter().any(|word| source.contains(word));
            if package.manifest.asks.has(capability) && !is_used {
                say(
                    format!("it asks for {capability} and does not use it"),
                    "ask for no more than is needed: somebody has to grant it",
                );
            }
        }
    } else if let Ok(about) = wasm::inspect(&package.code) {
        for capability in ["kv", "inventory"] {
            let is_used = about.imports.iter().any(|import| import == capability);
            if package.manifest.asks.has(capability) && !is_used {
                say(
                    format!("it asks for {capability} and does not import it"),
                    "ask for no more than is needed: somebody has to grant it",
                );
            }
        }
    }
    if let Some(Reply::Metrics(descriptor)) = described {
        metrics(package, descriptor, &mut say);
    }
    remarks
}

fn metrics(package: &Package, descriptor: &MetricDescriptor, say: &mut dyn FnMut(String, &str)) {
    let words: Vec<&str> = package.manifest.id.split(['-', '.']).collect();
    for metric in &descriptor.metrics {
        let name = &metric.name;
        if metric.help.trim().is_empty() {
            say(
                format!("{name} has no help"),
                "one line: what it is, and out of which object",
            );
        }
        if !words.iter().any(|word| name.starts_with(word)) {
            say(
                format!("{name} does not begin with a word of the plugin's id"),
                "begin with the vendor, so that names of two plugins do not collide",
            );
        }
        let last = name.rsplit('_').next().unwrap_or_default();
        let scaled = SCALED
            .iter()
            .find(|(unit, _)| *unit == last || *unit == metric.unit.to_lowercase());
        if let Some((unit, base)) = scaled {
            say(
                format!("{name} is in {unit}"),
                &format!("use the base unit, {base}, as Prometheus does"),
            );
        }
        if matches!(metric.kind, MetricKind::Counter32 | MetricKind::Counter64)
            && !name.ends_with("_total")
        {
            say(
                format!("{name} is a counter and does not end in _total"),
                "call it so, unless it has the name of a MIB's object",
            );
        }
    }
}
