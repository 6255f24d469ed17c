//! Metrics in the Prometheus text format, version 0.0.4.

use std::fmt::Write;

/// The `Content-Type` of what an [`Exposition`] holds.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How a metric's values relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExposedKind {
    /// Only rises; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// `_bucket`, `_sum` and `_count`.
    Histogram,
}

/// Metrics being written: a family at a time, its samples after it.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// Begins the family called `name`; its samples follow.
    pub fn family(&mut self, name: &str, kind: ExposedKind, help: &str) {
        let kind = match kind {
            ExposedKind::Counter => "counter",
            ExposedKind::Gauge => "gauge",
            ExposedKind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// One sample of the family last begun. Label values may be any text.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let mut shown = String::new();
        for (place, (label, text)) in labels.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            shown.push_str(&format!("{comma}{label}=\"{text}\""));
        }
        let value = number(value);
        match labels {
            [] => self.line(format_args!("{name} {value}")),
            _ => self.line(format_args!("{name}{{{shown}}} {value}")),
        }
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &str, kind: ExposedKind, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// The samples of one histogram of the family last begun. `buckets` are
    /// upper bounds in rising order with the count of values up to each.
    pub fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        buckets: impl IntoIterator<Item = (f64, u64)>,
        sum: f64,
        count: u64,
    ) {
        let bucket = format!("{name}_bucket");
        let ends = buckets.into_iter().filter(|(bound, _)| bound.is_finite());
        for (bound, up_to) in ends.chain([(f64::INFINITY, count)]) {
            let bound = number(bound);
            let mut labels = labels.to_vec();
            labels.push(("le", &bound));
            self.sample(&bucket, &labels, as_f64(up_to));
        }
        self.sample(&format!("{name}_sum"), labels, sum);
        self.sample(&format!("{name}_count"), labels, as_f64(count));
    }

    /// What was written.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("writing to a String does not fail");
    }
}

/// A count as a sample; above 2^53 it loses its lowest bits.
#[expect(
    clippy::cast_precision_loss,
    reason = "the text format has only floating point numbers"
)]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        (if value > 0.0 { "+Inf" } else { "-Inf" }).to_owned()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_and_help_are_escaped() {
        let mut text = Exposition::default();
        text.family("a_total", ExposedKind::Counter, "one\ntwo \\ three");
        text.sample("a_total", &[("x", "q\"b\\s\nn")], 1.5);
        assert_eq!(
            text.into_text(),
            "# HELP a_total one\\ntwo \\\\ three\n# TYPE a_total counter\na_total{x=\"q\\\"b\\\\s\\nn\"} 1.5\n"
        );
    }

    #[test]
    fn a_histogram_ends_with_infinity_once() {
        let mut text = Exposition::default();
        text.histogram("h", &[], [(0.1, 1), (f64::INFINITY, 3)], 2.5, 3);
        assert_eq!(
            text.into_text(),
            "h_bucket{le=\"0.1\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_sum 2.5\nh_count 3\n"
        );
    }
}
