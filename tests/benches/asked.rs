//! The same questions to the daemon and to its peers, over HTTP, answered in
//! JSON.

use std::time::Instant;

use harness::{Daemon, Folder};
use model::Timestamp;

use crate::client;
use crate::fleet::{median, pause};
use crate::report::{Bar, Report, Value};
use crate::rivals::Rival;

/// Times that each is asked; the first does not count, the median does.
const TIMES: usize = 101;

/// A question.
struct Question {
    name: &'static str,
    selector: &'static str,
    /// The range, in hours.
    hours: u64,
    /// Milliseconds that it may take.
    bar: f64,
}

const QUESTIONS: [Question; 2] = [
    Question {
        name: "samples.1_series_24h",
        selector: r#"ifHCInOctets{device="sw-00003",ifName="Gi1/0/3"}"#,
        hours: 24,
        bar: 1.0,
    },
    Question {
        name: "samples.1000_series_1h",
        selector: r#"{device=~"sw-0000[0-9]"}"#,
        hours: 1,
        bar: 10.0,
    },
];

/// What each took: name of who was asked, and ms per question.
#[derive(Default)]
pub(crate) struct Took {
    ours: Vec<f64>,
    rivals: Vec<(&'static str, Vec<f64>)>,
}

/// When the ranges end: half an hour before midnight, so that all have it whole.
fn end(from: Timestamp) -> u64 {
    (from.0 + 24 * 3_600_000) / 1_000
}

/// Asks a daemon over the samples in `folder`.
pub(crate) fn ourselves(took: &mut Took, folder: &Folder, from: Timestamp) {
    let daemon = Daemon::start(folder, None);
    let until = end(from);
    for question in &QUESTIONS {
        let path = format!(
            "/api/v1/series?selector={}&from={}&until={until}&step=raw",
            escaped(question.selector),
            until - question.hours * 3_600,
        );
        took.ours.push(repeated(|| ask(folder, &path)));
    }
    assert!(daemon.stop().success());
}

/// The ms that the daemon took for `path`.
pub(crate) fn ask(folder: &Folder, path: &str) -> f64 {
    let answer = client::get(&folder.socket(), path).expect("sotpd answers");
    let said = String::from_utf8_lossy(&answer.body[..answer.body.len().min(400)]);
    assert_eq!(answer.status, 200, "{path}: {said}");
    assert!(answer.body.len() > 10_000, "{path}: {said}");
    answer.took.as_secs_f64() * 1e3
}

/// The median of several goes.
pub(crate) fn repeated(mut go: impl FnMut() -> f64) -> f64 {
    let mut took: Vec<f64> = Vec::new();
    let give_up = Instant::now() + std::time::Duration::from_secs(60);
    for _ in 0..TIMES {
        took.push(go());
        pause(std::time::Duration::from_millis(20));
        if Instant::now() > give_up {
            break;
        }
    }
    if took.len() > 1 {
        took.remove(0);
    }
    median(took)
}

/// Asks a peer.
pub(crate) fn rival(took: &mut Took, rival: &Rival, from: Timestamp) {
    let until = end(from);
    let each = QUESTIONS.iter().map(|question| {
        let query = escaped(&format!("{}[{}h]", question.selector, question.hours));
        let path = format!("/api/v1/query?query={query}&time={until}");
        repeated(|| {
            let (ms, bytes) = rival.query(&path);
            assert!(bytes > 10_000, "{}: {bytes} bytes", rival.name);
            ms
        })
    });
    took.rivals.push((rival.name, each.collect()));
}

impl Took {
    pub(crate) fn report(self, report: &mut Report) {
        for (place, question) in QUESTIONS.iter().enumerate() {
            let ours = self.ours[place];
            let value = Value::new(question.name, ours, "ms");
            report.add(value.bar(Bar::AtMost(question.bar)));
            for (name, took) in &self.rivals {
                let beside = format!("{}_beside_{name}", question.name);
                let value = Value::new(beside, ours, "ms").peer(name, took[place]);
                report.add(value.bar(Bar::OfPeer(1.0)));
            }
        }
    }
}

/// For a query string.
pub(crate) fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}
