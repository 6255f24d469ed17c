//! What plugins ask of the sample store.

use std::time::Duration;

use contract::{Nanos, Point, QueryError, Series};
use model::{Capabilities, Device, DeviceId, GroupKey, MetricKind, Timestamp};
use store::Store;
use store::samples::{self, Aggregate, Matcher, MatcherKind, Rollup, Select, Selector, Source};

/// Points of one answer.
const POINTS: usize = 200_000;

/// Series of one answer.
const SERIES: usize = 5_000;

/// Labels that a device carries and its series do not.
const DEVICE_LABELS: [&str; 5] = ["device", "id", "site", "tenant", "tag"];

/// A selector that was read and that is granted.
#[derive(Clone, Debug)]
pub(super) struct Query {
    owner: Vec<Matcher>,
    selector: Selector,
}

impl Query {
    /// Reads `text`; its metric has to be one that is granted.
    pub(super) fn read(text: &str, granted: &Capabilities) -> Result<Query, QueryError> {
        let selector: Selector = text
            .parse()
            .map_err(|why: samples::NotASelector| QueryError::Syntax(why.to_string()))?;
        let metric = selector
            .matchers()
            .iter()
            .find(|matcher| matcher.name() == "__name__" && matcher.kind() == MatcherKind::Equal);
        let Some(metric) = metric.map(|matcher| matcher.value().to_owned()) else {
            let why = format!("{text}: a plugin names the one metric that it reads");
            return Err(QueryError::Denied(why));
        };
        if !granted.allows("series", &metric) {
            let why = format!("it was not granted to read {metric}");
            return Err(QueryError::Denied(why));
        }
        let (owner, selector) = selector.split(&DEVICE_LABELS);
        Ok(Query { owner, selector })
    }

    fn is_of(&self, device: &Device) -> bool {
        self.owner.iter().all(|matcher| match matcher.name() {
            "device" => matcher.accepts(&device.name),
            "id" => matcher.accepts(&device.id.to_string()),
            "site" => matcher.accepts(device.site.as_deref().unwrap_or_default()),
            "tenant" => matcher.accepts(&device.tenant.0),
            _ if device.tags.is_empty() => matcher.accepts(""),
            _ => device.tags.iter().any(|tag| matcher.accepts(tag)),
        })
    }

    /// What it selects, of one device or of all; blocks on the disk. With a step
    /// a counter comes as its rate, a state as its newest and a gauge as its mean
    /// value; without, as measured.
    pub(super) fn run(
        &self,
        store: &Store,
        only: Option<DeviceId>,
        (from, until): (Timestamp, Timestamp),
        step: Duration,
    ) -> Result<Vec<Series>, QueryError> {
        let inventory = store.inventory();
        let is_meant = |group: GroupKey| {
            only.is_none_or(|only| only == group.device)
                && inventory
                    .device(group.device)
                    .is_some_and(|device| self.is_of(device))
        };
        let name = |group: GroupKey| {
            let device = inventory.device(group.device);
            device.map(|device| device.name.clone()).unwrap_or_default()
        };
        if step.is_zero() {
            let selected = store.samples().select(&Select {
                selector: &self.selector,
                groups: &is_meant,
                from,
                until,
                max_points: POINTS,
                max_series: SERIES,
            });
            let selected = selected.map_err(|error| QueryError::TooLarge(error.to_string()))?;
            whole(&selected.missing)?;
            let series = selected.series.into_iter().map(|found| Series {
                metric: found.key.metric.to_string(),
                labels: labels(&found.key, name(found.group)),
                points: found
                    .points
                    .iter()
                    .map(|point| Point {
                        at: point.at.into(),
                        value: point.value,
                    })
                    .collect(),
            });
            return Ok(series.collect());
        }
        let mut all = Vec::new();
        let mut kinds = vec![Aggregate::Avg];
        while let Some(aggregate) = kinds.pop() {
            let frames = store.samples().rollup(&Rollup {
                selector: &self.selector,
                groups: &is_meant,
                from,
                until,
                step_ms: u64::try_from(step.as_millis()).unwrap_or(u64::MAX).max(1),
                aggregate,
                across: None,
                source: Source::Auto,
                max_points: POINTS,
                max_series: SERIES,
            });
            let frames = frames.map_err(|error| QueryError::TooLarge(error.to_string()))?;
            whole(&frames.missing)?;
            let step_ns = frames.step_ms.saturating_mul(1_000_000);
            let first = Nanos::from(frames.from).0;
            for frame in frames.frames {
                let Some((group, key)) = frame.of else {
                    continue;
                };
                let fits = aggregate_of(key.kind);
                if fits != aggregate {
                    // asked for once more, as what it is
                    if aggregate == Aggregate::Avg && !kinds.contains(&fits) {
                        kinds.push(fits);
                    }
                    continue;
                }
                let points = (0u64..)
                    .zip(&frame.values)
                    .filter(|(_, value)| !value.is_nan());
                let points = points.map(|(step, value)| Point {
                    at: Nanos(first.saturating_add(step.saturating_mul(step_ns))),
                    value: *value,
                });
                all.push(Series {
                    metric: key.metric.to_string(),
                    labels: labels(&key, name(group)),
                    points: points.collect(),
                });
            }
        }
        Ok(all)
    }
}

/// An answer that lacks something is none: a rule would take it for all there
/// is.
fn whole(missing: &[samples::Missing]) -> Result<(), QueryError> {
    match missing.first() {
        None => Ok(()),
        Some(part) => Err(QueryError::Denied(format!(
            "the samples from {} to {} cannot be read: {}",
            part.from, part.until, part.why
        ))),
    }
}

fn aggregate_of(kind: MetricKind) -> Aggregate {
    match kind {
        MetricKind::Counter32 | MetricKind::Counter64 => Aggregate::Rate,
        MetricKind::State => Aggregate::Last,
        MetricKind::Gauge => Aggregate::Avg,
    }
}

fn labels(key: &model::SeriesKey, device: String) -> Vec<(String, String)> {
    let own = key.labels.iter();
    let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
    std::iter::once(("device".to_owned(), device))
        .chain(own)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(patterns: &[&str]) -> Capabilities {
        let patterns = patterns.iter().map(|p| (*p).to_owned()).collect();
        Capabilities([("series".to_owned(), patterns)].into())
    }

    #[test]
    fn a_plugin_reads_what_it_was_granted_and_nothing_by_a_trick() {
        let granted = granted(&["if*"]);
        assert!(Query::read("ifOperStatus", &granted).is_ok());
        assert!(Query::read("ifOperStatus{site=\"x\"}", &granted).is_ok());
        for tricky in ["icmp_up", "{site=\"x\"}", "{__name__=~\"if.*|icmp_up\"}"] {
            let said = Query::read(tricky, &granted);
            assert!(matches!(said, Err(QueryError::Denied(_))), "{tricky}");
        }
        assert!(matches!(
            Query::read("if{", &granted),
            Err(QueryError::Syntax(_))
        ));
    }
}
