//! How plugins do, for `/metrics`.

use api::{ExposedKind, Exposition};

use super::Plugins;

/// A figure of each plugin: its name, what it is, help, and where it stands.
type Figure = (
    &'static str,
    ExposedKind,
    &'static str,
    fn(&plugin::Figures) -> f64,
);

impl Plugins {
    /// Writes the figures of every plugin that runs, and of their host.
    pub(crate) fn metrics(&self, into: &mut Exposition) {
        let Some(host) = &self.inner.host else {
            return;
        };
        let roster = self.roster();
        let figures: Vec<_> = roster
            .all
            .iter()
            .map(|active| (active, host.figures(&active.host_name)))
            .collect();
        into.family(
            "sotp_plugin_info",
            ExposedKind::Gauge,
            "Always 1; the version and the kind are labels",
        );
        for (active, _) in &figures {
            let labels = [
                ("plugin", active.host_name.as_str()),
                ("version", &active.manifest.version),
                ("kind", active.manifest.kind.word()),
            ];
            into.sample("sotp_plugin_info", &labels, 1.0);
        }
        into.family(
            "sotp_plugin_failures_total",
            ExposedKind::Counter,
            "Calls that came to nothing, by class",
        );
        for (active, figures) in &figures {
            for (class, count) in &figures.failures {
                let labels = [("plugin", active.host_name.as_str()), ("class", class)];
                into.sample("sotp_plugin_failures_total", &labels, as_f64(*count));
            }
        }
        let of_each: [Figure; 7] = [
            (
                "sotp_plugin_calls_total",
                ExposedKind::Counter,
                "Calls that ended",
                |figures| as_f64(figures.calls),
            ),
            (
                "sotp_plugin_cpu_seconds_total",
                ExposedKind::Counter,
                "Processor time of all calls",
                |figures| figures.cpu.as_secs_f64(),
            ),
            (
                "sotp_plugin_call_p50_seconds",
                ExposedKind::Gauge,
                "Half of the last calls took less",
                |figures| figures.p50.as_secs_f64(),
            ),
            (
                "sotp_plugin_call_p99_seconds",
                ExposedKind::Gauge,
                "Of a hundred of the last calls all but one took less",
                |figures| figures.p99.as_secs_f64(),
            ),
            (
                "sotp_plugin_memory_bytes",
                ExposedKind::Gauge,
                "The most memory that a call had",
                |figures| as_f64(figures.memory),
            ),
            (
                "sotp_plugin_pauses_total",
                ExposedKind::Counter,
                "How often it was left alone for a while because it broke too often",
                |figures| as_f64(figures.pauses),
            ),
            (
                "sotp_plugin_paused",
                ExposedKind::Gauge,
                "1 while it is left alone, else 0",
                |figures| if figures.paused.is_some() { 1.0 } else { 0.0 },
            ),
        ];
        for (name, kind, help, value) in of_each {
            into.family(name, kind, help);
            for (active, figures) in &figures {
                let labels = [("plugin", active.host_name.as_str())];
                into.sample(name, &labels, value(figures));
            }
        }
        let host = host.host_figures();
        into.single(
            "sotp_plugin_host_restarts_total",
            ExposedKind::Counter,
            "How often the plugin host was started again",
            as_f64(host.restarts),
        );
        into.single(
            "sotp_plugin_host_resident_bytes",
            ExposedKind::Gauge,
            "Memory in use by the plugin host",
            as_f64(host.resident),
        );
        into.single(
            "sotp_plugin_calls_in_flight",
            ExposedKind::Gauge,
            "Calls that wait or run",
            as_f64(u64::try_from(host.in_flight).unwrap_or(u64::MAX)),
        );
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the text format has only floating point numbers"
)]
fn as_f64(number: u64) -> f64 {
    number as f64
}
