//! What the API counts about itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::exposition::{ExposedKind, Exposition, as_f64};
use crate::problem::Kind;

/// Upper bounds of the latency buckets, in seconds: around the 50 ms that a
/// list may take, and up to the longest that a request lives.
const BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// Requests of one method to one route.
#[derive(Default)]
struct Tally {
    by_status: BTreeMap<u16, u64>,
    buckets: [u64; BUCKETS.len()],
    seconds: f64,
    count: u64,
}

/// Counters of the API. Keys are methods and routes that we know, so there are
/// only so many.
#[derive(Default)]
pub(crate) struct Telemetry {
    tallies: Mutex<BTreeMap<(&'static str, String), Tally>>,
    /// Handlers that panicked.
    pub(crate) panics: AtomicU64,
    /// Connections now open.
    pub(crate) connections: AtomicU64,
    /// Connections turned away because too many were open.
    pub(crate) turned_away: AtomicU64,
    /// TLS handshakes that came to nothing.
    pub(crate) handshakes_failed: AtomicU64,
    /// Attempts that were denied and written into the audit log.
    pub(crate) denied: AtomicU64,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    rate_limited: Mutex<BTreeMap<&'static str, u64>>,
}

/// `method` if it is one that a route of ours can have.
fn known_method(method: &str) -> &'static str {
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
        .into_iter()
        .find(|known| *known == method)
        .unwrap_or("other")
}

fn add_one(counts: &Mutex<BTreeMap<&'static str, u64>>, key: &'static str) {
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    *counts.entry(key).or_default() += 1;
}

fn expose_counts(
    text: &mut Exposition,
    name: &str,
    help: &str,
    label: &str,
    counts: &Mutex<BTreeMap<&'static str, u64>>,
) {
    text.family(name, ExposedKind::Counter, help);
    for (key, count) in &*counts.lock().unwrap_or_else(PoisonError::into_inner) {
        text.sample(name, &[(label, key)], as_f64(*count));
    }
}

impl Telemetry {
    /// Counts one answered request to the route with template `route`.
    pub(crate) fn count(&self, method: &str, route: &str, status: u16, took: Duration) {
        let mut tallies = self.tallies();
        let tally = tallies
            .entry((known_method(method), route.to_owned()))
            .or_default();
        let seconds = took.as_secs_f64();
        *tally.by_status.entry(status).or_default() += 1;
        tally.count += 1;
        tally.seconds += seconds;
        for (bucket, bound) in tally.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    /// Counts a request that ended in a problem.
    pub(crate) fn refused(&self, kind: Kind) {
        add_one(&self.refused, kind.slug());
    }

    /// Counts a request that was one too many, of an address or a principal.
    pub(crate) fn rate_limited(&self, by: &'static str) {
        add_one(&self.rate_limited, by);
    }

    fn tallies(&self) -> MutexGuard<'_, BTreeMap<(&'static str, String), Tally>> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes all of it.
    pub(crate) fn expose(&self, text: &mut Exposition) {
        let plain = |counter: &AtomicU64| as_f64(counter.load(Ordering::Relaxed));
        text.single(
            "sotp_api_connections",
            ExposedKind::Gauge,
            "Connections now open",
            plain(&self.connections),
        );
        text.single(
            "sotp_api_connections_turned_away_total",
            ExposedKind::Counter,
            "Connections turned away because too many were open",
            plain(&self.turned_away),
        );
        text.single(
            "sotp_api_panics_total",
            ExposedKind::Counter,
            "Requests whose handler had a fault",
            plain(&self.panics),
        );
        text.single(
            "sotp_api_tls_handshakes_failed_total",
            ExposedKind::Counter,
            "TLS handshakes that came to nothing",
            plain(&self.handshakes_failed),
        );
        text.single(
            "sotp_api_denied_total",
            ExposedKind::Counter,
            "Attempts that were denied and written into the audit log",
            plain(&self.denied),
        );
        expose_counts(
            text,
            "sotp_api_refused_total",
            "Requests that ended in a problem, by the last part of its type",
            "problem",
            &self.refused,
        );
        expose_counts(
            text,
            "sotp_api_rate_limited_total",
            "Requests that were one too many, of an address or a principal",
            "by",
            &self.rate_limited,
        );
        self.expose_requests(text);
        self.expose_latency(text);
    }

    fn expose_requests(&self, text: &mut Exposition) {
        let name = "sotp_api_requests_total";
        text.family(name, ExposedKind::Counter, "Requests answered");
        for ((method, route), tally) in &*self.tallies() {
            for (status, count) in &tally.by_status {
                let status = status.to_string();
                let labels = [
                    ("method", *method),
                    ("route", route.as_str()),
                    ("status", status.as_str()),
                ];
                text.sample(name, &labels, as_f64(*count));
            }
        }
    }

    fn expose_latency(&self, text: &mut Exposition) {
        let name = "sotp_api_request_seconds";
        let help = "Time from a request's header to its answer";
        text.family(name, ExposedKind::Histogram, help);
        for ((method, route), tally) in &*self.tallies() {
            text.histogram(
                name,
                &[("method", method), ("route", route)],
                BUCKETS.into_iter().zip(tally.buckets),
                tally.seconds,
                tally.count,
            );
        }
    }
}
