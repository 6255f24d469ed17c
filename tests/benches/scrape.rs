//! What the daemon says of itself at `/metrics`, read by name and labels.

use std::path::Path;

use crate::client;

/// One look at `/metrics`.
pub(crate) struct Scrape(Vec<(String, f64)>);

impl Scrape {
    /// Looks now.
    pub(crate) fn of(socket: &Path) -> Scrape {
        let answer = client::get(socket, "/metrics").expect("sotpd answers");
        assert_eq!(answer.status, 200, "/metrics");
        let text = String::from_utf8(answer.body).expect("the text format is UTF-8");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        };
        Scrape(lines.filter_map(sample).collect())
    }

    /// The sum of the samples called `name` that carry all of `labels`, such as
    /// `check="icmp"`; 0 if there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let samples = self.0.iter().filter(|(series, _)| {
            let (found, carried) = series.split_once('{').unwrap_or((series, ""));
            found == name && labels.iter().all(|label| carried.contains(label))
        });
        samples.map(|(_, value)| value).sum()
    }

    /// The value of the one sample called `name`.
    ///
    /// # Panics
    ///
    /// If there is none: a figure that is gone must not read as 0.
    #[track_caller]
    pub(crate) fn one(&self, name: &str) -> f64 {
        let found = self.0.iter().find(|(series, _)| series == name);
        found.unwrap_or_else(|| panic!("/metrics has no {name}")).1
    }

    /// The share `q` of what the histogram `name` took in since `before` was at
    /// most this, as Prometheus estimates it.
    pub(crate) fn quantile(&self, before: &Scrape, name: &str, q: f64) -> f64 {
        let buckets = self.buckets(name);
        let earlier = before.buckets(name);
        assert_eq!(buckets.len(), earlier.len(), "{name} has other buckets now");
        let rank = q * buckets.last().map_or(0.0, |last| last.1)
            - q * earlier.last().map_or(0.0, |last| last.1);
        let (mut lower, mut below) = (0.0, 0.0);
        for ((bound, count), (_, before)) in buckets.into_iter().zip(earlier) {
            let count = count - before;
            if count >= rank && count > below {
                if bound.is_infinite() {
                    return lower;
                }
                return lower + (bound - lower) * (rank - below) / (count - below);
            }
            (lower, below) = (bound, count);
        }
        f64::NAN
    }

    /// Upper bounds and counts, in the order they stand.
    fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let start = format!("{name}_bucket{{le=\"");
        let bucket = |(series, count): &(String, f64)| {
            let bound = series.strip_prefix(&start)?.strip_suffix("\"}")?;
            Some((bound.parse().ok()?, *count))
        };
        self.0.iter().filter_map(bucket).collect()
    }
}

/// Polls of one check since another look.
pub(crate) struct Polls {
    pub(crate) answered: f64,
    pub(crate) failed: f64,
    pub(crate) skipped: f64,
    /// The sum of how late they began, in seconds.
    pub(crate) lag: f64,
}

impl Polls {
    /// Those from `before` to `after`. Skips and lag are of all checks.
    pub(crate) fn between(before: &Scrape, after: &Scrape, check: &str) -> Polls {
        let check = format!("check=\"{check}\"");
        let grown =
            |name: &str, labels: &[&str]| after.sum(name, labels) - before.sum(name, labels);
        let answered = grown("sotp_polls_total", &[&check, "result=\"answered\""]);
        Polls {
            answered,
            failed: grown("sotp_polls_total", &[&check]) - answered,
            skipped: grown("sotp_polls_skipped_total", &[]),
            lag: after.one("sotp_poll_lag_seconds_total")
                - before.one("sotp_poll_lag_seconds_total"),
        }
    }
}
