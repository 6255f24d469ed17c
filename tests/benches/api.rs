//! How fast the API answers while the daemon polls.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::client::{self, Answer};
use crate::fleet::{pause_until, quantile};
use crate::report::{Bar, Report, Value};

/// Requests of each kind.
const REQUESTS: usize = 250;

/// Between two requests: a browser or two, not a load test.
const EVERY: Duration = Duration::from_millis(100);

/// What p95 may be, in ms.
const BAR: Bar = Bar::AtMost(50.0);

/// A kind of request.
struct Kind {
    name: &'static str,
    path: fn(&str) -> String,
    /// How many things the answer holds.
    count: fn(&Json) -> usize,
    /// It has to hold this many: an error or an empty page is no fast answer.
    at_least: usize,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "list",
        path: |_| "/api/v1/devices?limit=1000".to_owned(),
        count: |answer| length(&answer["items"]),
        at_least: 1_000,
    },
    Kind {
        name: "latest",
        path: |device| format!("/api/v1/devices/{device}/metrics"),
        count: |answer| length(&answer["items"]),
        at_least: 48,
    },
    Kind {
        name: "range",
        path: |device| format!("/api/v1/devices/{device}/metrics/ifHCInOctets?from=-1h"),
        count: |answer| length(&answer["series"]),
        at_least: 48,
    },
];

fn length(list: &Json) -> usize {
    list.as_array().map_or(0, Vec::len)
}

/// Asks for lists, newest values and the last hour of one metric of all ports
/// of a device, in turn, about ever another of `devices`.
///
/// # Panics
///
/// If an answer does not hold what was asked for.
pub(crate) fn run(report: &mut Report, part: &str, socket: &Path, devices: &[String]) {
    let mut took: [Vec<f64>; KINDS.len()] = Default::default();
    let mut next = Instant::now();
    for device in devices.iter().cycle().step_by(7).take(REQUESTS) {
        for (kind, took) in KINDS.iter().zip(&mut took) {
            pause_until(next);
            next += EVERY;
            let path = (kind.path)(device);
            let answer = client::get(socket, &path).expect("sotpd answers");
            took.push(answer.took.as_secs_f64() * 1e3);
            check(kind, &path, &answer);
        }
    }
    report.load(None);
    for (kind, took) in KINDS.iter().zip(took) {
        let name = |share: &str| format!("{part}.{}_{share}", kind.name);
        report.add(Value::new(name("p50"), quantile(took.clone(), 0.5), "ms"));
        report.add(Value::new(name("p95"), quantile(took, 0.95), "ms").bar(BAR));
    }
}

fn check(kind: &Kind, path: &str, answer: &Answer) {
    let body: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
    assert_eq!(answer.status, 200, "{path}: {body}");
    let count = (kind.count)(&body);
    assert!(count >= kind.at_least, "{path}: {count} items");
}
