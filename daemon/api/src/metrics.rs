//! What is measured: the newest values of a device, ranges of them, and what
//! each metric means.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::Uri;
use model::{
    BUILT_IN_METRICS, Check, Device, DeviceId, GroupKey, Labels, MetricKind, Permission, Reading,
    SeriesKey, Timestamp, counter_rate, metric_info,
};
use serde::Serialize;
use store::Store;
use store::samples::{Matcher, MatcherKind, Point, Samples, Selector, Source};
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::device_view::polled;
use crate::devices::find;
use crate::history::{self, Asked, BySteps, METRIC, POINTS, seconds};
use crate::installed::Described;
use crate::mistakes::did_you_mean;
use crate::problem::{Kind, Problem, not_written};
use crate::query::{self, Query};
use crate::request::{JsonAnswer, Path};
use crate::series_ask::{self, Format, aligned};
use crate::{Api, span};

/// Two points further apart than this many rounds have a gap between them: a
/// poll may be late, but here one is missing.
const ROUNDS_UNTIL_GAP: f64 = 2.5;

/// A metric.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MetricView {
    /// Its name.
    name: &'static str,
    /// counter32, counter64, gauge or state.
    kind: &'static str,
    /// Its base unit; empty for a bare number.
    unit: &'static str,
    /// What it means.
    help: &'static str,
}

/// The metrics that are measured without any plugin.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MetricList {
    /// All of them.
    items: Vec<MetricView>,
}

/// The newest values of a device.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LatestList {
    /// One per series.
    items: Vec<LatestView>,
}

/// The newest value of one series.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LatestView {
    /// The metric's name.
    metric: String,
    /// Of what; empty for the device as a whole.
    labels: BTreeMap<String, String>,
    /// counter32, counter64, gauge or state.
    kind: &'static str,
    /// The unit of `value`; empty for a bare number.
    unit: String,
    /// The value: a counter's increase per second, anything else as it is;
    /// null where it is not known.
    value: Option<f64>,
    /// The number as the device gave it.
    raw: Option<f64>,
    /// When it was measured.
    at: String,
    /// Whether the newest poll measured it; a value that is not current is
    /// what was last seen.
    current: bool,
    /// What the metric means.
    help: String,
}

/// Values of a metric over time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RangeView {
    /// The metric's name.
    metric: String,
    /// The unit of the values; empty for a bare number.
    unit: String,
    /// raw: as the device gave them; rate: a counter's increase per second.
    view: &'static str,
    /// The first instant of the range.
    from: String,
    /// The first instant after it.
    until: String,
    /// The length of a step; null: every value as it was measured.
    step: Option<String>,
    /// One per set of labels.
    series: Vec<SeriesView>,
    /// What could not be read, and why: the answer lacks it.
    warnings: Vec<String>,
}

/// Values of one series over time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SeriesView {
    /// Of what; empty for the device as a whole.
    labels: BTreeMap<String, String>,
    /// counter32, counter64, gauge or state.
    kind: &'static str,
    /// Seconds since 1970 and the value, oldest first; a null stands in every
    /// gap.
    #[schema(value_type = Vec<Vec<Option<f64>>>)]
    points: Vec<(f64, Option<f64>)>,
}

/// Lists the metrics that are measured.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "metrics",
    responses((status = 200, description = "The metrics", body = MetricList))
)]
pub(crate) async fn list_metrics(uri: Uri) -> Result<JsonAnswer<MetricList>, Problem> {
    query::none(&uri)?;
    let items = BUILT_IN_METRICS.iter().map(|metric| MetricView {
        name: metric.name,
        kind: metric.kind.word(),
        unit: metric.unit,
        help: metric.help,
    });
    Ok(JsonAnswer(MetricList {
        items: items.collect(),
    }))
}

/// Shows the newest values of a device.
#[utoipa::path(
    get,
    path = "/devices/{device}/metrics",
    tag = "metrics",
    params(
        ("device" = String, Path, description = "Id or name"),
        ("metric" = Option<Vec<String>>, Query, description = "Only these metrics"),
        ("label.*" = Option<String>, Query, description = "Only series with this label, such as `label.ifName=eth0`"),
    ),
    responses(
        (status = 200, description = "The newest values", body = LatestList),
        (status = 404, description = "There is no such device"),
    )
)]
pub(crate) async fn latest_metrics(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<LatestList>, Problem> {
    let query = Query::read(&uri, &["metric", "label.*"])?;
    let (metrics, labels) = (query.all("metric"), query.labels());
    query.or(())?;
    let device = find(&api, &caller, Permission::MetricsRead, &asked)?;

    let wanted = |key: &SeriesKey| {
        (metrics.is_empty() || metrics.iter().any(|metric| **metric == *key.metric))
            && carries(&key.labels, &labels)
    };
    let mut items = Vec::new();
    for check in Check::ALL {
        let group = GroupKey {
            device: device.id,
            check,
        };
        let Some(reading) = api.store().reading(group) else {
            continue;
        };
        let current = polled(&api, &device, check).fresh.is_some();
        let columns = reading.row.columns.series().iter().enumerate();
        items.extend(
            columns
                .filter(|(_, key)| wanted(key))
                .map(|(column, key)| latest(key, column, &reading, current)),
        );
    }
    for item in &mut items {
        describe(&api, item);
    }
    Ok(JsonAnswer(LatestList { items }))
}

fn carries(labels: &Labels, wanted: &BTreeMap<String, String>) -> bool {
    wanted
        .iter()
        .all(|(name, value)| labels.get(name) == Some(value))
}

fn shown(labels: &Labels) -> BTreeMap<String, String> {
    labels
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn latest(key: &SeriesKey, column: usize, reading: &Reading, current: bool) -> LatestView {
    let info = metric_info(&key.metric);
    LatestView {
        metric: key.metric.to_string(),
        labels: shown(&key.labels),
        kind: key.kind.word(),
        unit: unit(&key.metric, View::Rate),
        value: reading.value(column),
        raw: reading.raw(column),
        at: reading.row.at.to_string(),
        current,
        help: info.map_or("", |info| info.help).to_owned(),
    }
}

/// Says of a metric that a plugin measures what it is.
fn describe(api: &Api, view: &mut LatestView) {
    if let Some(metric) = described(api, &view.metric) {
        view.unit = shown_unit(&metric.unit, metric.kind, View::Rate);
        view.help = metric.help;
    }
}

/// What a metric is that is not built in, as far as any plugin says.
pub(crate) fn described(api: &Api, metric: &str) -> Option<Described> {
    match metric_info(metric) {
        Some(_) => None,
        None => api.daemon().metric_described(metric),
    }
}

/// Shows the values of one metric over time.
///
/// Times are RFC 3339, seconds since 1970, `now`, or a span before now such as
/// `-1h`. With a step, a value stands at the beginning of each step, null where
/// nothing was measured: counters by their rate, the rest by its mean.
#[utoipa::path(
    get,
    path = "/devices/{device}/metrics/{metric}",
    tag = "metrics",
    params(
        ("device" = String, Path, description = "Id or name"),
        ("metric" = String, Path, description = "The metric's name"),
        ("from" = Option<String>, Query, description = "First instant; by default an hour before until"),
        ("until" = Option<String>, Query, description = "First instant after the range; by default now"),
        ("step" = Option<String>, Query, description = "raw (the default): every value as it was measured; or a span such as 5m"),
        ("view" = Option<String>, Query, description = "rate (the default): counters by their increase per second; raw: as the device gave them"),
        ("label.*" = Option<String>, Query, description = "Only series with this label, such as `label.ifName=eth0`"),
    ),
    responses(
        (status = 200, description = "The values", body = RangeView),
        (status = 400, description = "A parameter is wrong, or the range has too many points"),
        (status = 404, description = "There is no such device, or no such metric"),
    )
)]
pub(crate) async fn metric_range(
    State(api): State<Api>,
    Path((asked, metric)): Path<(String, String)>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<RangeView>, Problem> {
    let ask = RangeAsk::read(&uri, api.now())?;
    let device = find(&api, &caller, Permission::MetricsRead, &asked)?;
    let gap = gap(&api, &device, &metric);
    let described = described(&api, &metric);
    let way = ask.view;
    let place = api.histories().take(&caller.rate_key()).await;
    let view = api.read(move |store| {
        let _place = place;
        ask.of(store, &device, metric, gap)
    });
    let mut view = view.await?;
    if let Some(metric) = described {
        view.unit = shown_unit(&metric.unit, metric.kind, way);
    }
    Ok(JsonAnswer(view))
}

/// Refuses a metric that the device does not measure; what others measure is
/// nothing that it tells.
fn known(store: &Store, device: DeviceId, metric: &str) -> Result<(), Problem> {
    let measured = || {
        let groups = Check::ALL.map(|check| GroupKey { device, check });
        let mut readings = groups.into_iter().filter_map(|group| store.reading(group));
        readings.any(|reading| {
            let mut keys = reading.row.columns.series().iter();
            keys.any(|key| *key.metric == *metric)
        })
    };
    if metric_info(metric).is_some() || measured() {
        return Ok(());
    }
    let known: Vec<&str> = BUILT_IN_METRICS.iter().map(|known| known.name).collect();
    let hint = did_you_mean(metric, &known);
    let detail = format!("there is no metric {metric:?}: {hint}");
    Err(Problem::new(Kind::NotFound, detail))
}

/// What was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Forgotten {
    /// Checks whose values are gone.
    checks: usize,
}

/// Deletes everything that was measured of a device.
///
/// It cannot be undone. Readers miss it at once; from the disk it goes as files
/// are rewritten or expire. What is measured from now on is kept.
#[utoipa::path(
    delete,
    path = "/devices/{device}/metrics",
    tag = "metrics",
    params(("device" = String, Path, description = "Id or name; the id of one that is deleted")),
    responses(
        (status = 200, description = "It is gone", body = Forgotten),
        (status = 404, description = "There is no such device"),
        (status = 503, description = "The store takes no writes now"),
    )
)]
pub(crate) async fn forget_metrics(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<Forgotten>, Problem> {
    query::none(&uri)?;
    let device = find(&api, &caller, Permission::MetricsDelete, &asked)?;
    let (by, id, now) = (caller.by(), device.id, api.now());
    let forgotten = api.read(move |store| {
        let forgotten = store.forget_samples(&by, id, now);
        forgotten.map_err(|error| not_written(&error, &store.inventory()))
    });
    let checks = forgotten.await?;
    caller.did("what was measured is deleted", &device.name);
    Ok(JsonAnswer(Forgotten { checks }))
}

/// The check that measures `metric` polls this often; points much further
/// apart have a gap between them.
fn gap(api: &Api, device: &Device, metric: &str) -> Duration {
    let check = match metric.starts_with("icmp_") {
        true => Check::Icmp,
        false => Check::Snmp,
    };
    let every = api.daemon().interval(device, check);
    every.mul_f64(ROUNDS_UNTIL_GAP)
}

/// How counters are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    Raw,
    Rate,
}

impl View {
    fn word(self) -> &'static str {
        match self {
            View::Raw => "raw",
            View::Rate => "rate",
        }
    }
}

/// The unit of `metric` as it is shown.
fn unit(metric: &str, view: View) -> String {
    metric_info(metric).map_or(String::new(), |info| shown_unit(info.unit, info.kind, view))
}

fn shown_unit(unit: &str, kind: MetricKind, view: View) -> String {
    match kind.is_counter() && view == View::Rate {
        true => format!("{unit}/s"),
        false => unit.to_owned(),
    }
}

/// What a range is asked for.
struct RangeAsk {
    from: Timestamp,
    until: Timestamp,
    /// `None`: raw points.
    step: Option<Duration>,
    view: View,
    labels: BTreeMap<String, String>,
}

impl RangeAsk {
    fn read(uri: &Uri, now: Timestamp) -> Result<RangeAsk, Problem> {
        let query = Query::read(uri, &["from", "until", "step", "view", "label.*"])?;
        let (from, until) = series_ask::range(&query, now);
        let step = query.one("step").filter(|step| *step != "raw");
        let step = step.and_then(|text| series_ask::step(&query, text));
        let view = match query.one("view") {
            None | Some("rate") => View::Rate,
            Some("raw") => View::Raw,
            Some(other) => {
                let message = format!("unknown view {other:?}: known are raw, rate");
                query.mistakes.parameter("view", message);
                View::Rate
            }
        };
        if view == View::Raw && step.is_some() {
            let message = "raw values have no steps: leave step out, or view";
            query.mistakes.parameter("view", message);
        }
        let labels = query.labels();
        let ask = query.or(RangeAsk {
            from,
            until,
            step,
            view,
            labels,
        })?;
        if let Some(step) = step {
            series_ask::refuse_too_many(from, until, step, Format::Json)?;
        }
        Ok(ask)
    }

    /// Which series of a device.
    fn selector(&self, metric: &str) -> Result<Selector, Problem> {
        let labels = self.labels.iter();
        let labels = labels.map(|(name, value)| (name.as_str(), value.as_str()));
        let matchers = std::iter::once((METRIC, metric)).chain(labels);
        let matchers = matchers.map(|(name, value)| Matcher::new(name, MatcherKind::Equal, value));
        let matchers: Result<Vec<Matcher>, _> = matchers.collect();
        let matchers = matchers.map_err(|why| Problem::new(Kind::BadRequest, why.to_string()))?;
        Ok(Selector::new(matchers))
    }

    /// Asks the sample store. Blocks.
    fn of(
        &self,
        store: &Store,
        device: &Device,
        metric: String,
        gap: Duration,
    ) -> Result<RangeView, Problem> {
        let samples = store.samples();
        let selector = self.selector(&metric)?;
        let groups = |group: GroupKey| group.device == device.id;
        let mut asked = Asked {
            selector: &selector,
            groups: &groups,
            from: self.from,
            until: self.until,
            most: POINTS,
        };
        let (series, missing) = match self.step {
            Some(step) => {
                (asked.from, asked.until) = aligned(self.from, self.until, step);
                self.by_steps(samples, &asked, step)?
            }
            None => {
                // a rate needs the point before the first one
                asked.from = self.from.minus(gap);
                self.raw(samples, &asked, gap)?
            }
        };
        if series.is_empty() {
            known(store, device.id, &metric)?;
        }
        Ok(RangeView {
            unit: unit(&metric, self.view),
            metric,
            view: self.view.word(),
            from: self.from.to_string(),
            until: self.until.to_string(),
            step: self.step.map(span::write),
            series,
            warnings: missing,
        })
    }

    fn raw(
        &self,
        samples: &Samples,
        asked: &Asked<'_>,
        gap: Duration,
    ) -> Result<(Vec<SeriesView>, Vec<String>), Problem> {
        let selected = history::points(samples, asked)?;
        let series = selected.series.iter().map(|series| SeriesView {
            labels: shown(&series.key.labels),
            kind: series.key.kind.word(),
            points: self.points(series.key.kind, &series.points, gap),
        });
        let series = series.filter(|series| !series.points.is_empty());
        Ok((series.collect(), history::warnings(&selected.missing)))
    }

    fn by_steps(
        &self,
        samples: &Samples,
        asked: &Asked<'_>,
        step: Duration,
    ) -> Result<(Vec<SeriesView>, Vec<String>), Problem> {
        let by = BySteps {
            step,
            aggregate: None,
            across: None,
            source: Source::Auto,
        };
        let frames = history::steps(samples, asked, &by)?.frames;
        let begins = |place: u32| seconds(frames.from.plus(step.saturating_mul(place)));
        let series = frames.frames.iter().filter_map(|frame| {
            let (_, key) = frame.of.as_ref()?;
            let values = frame
                .values
                .iter()
                .map(|value| value.is_finite().then_some(*value));
            let points: Vec<_> = (0..).map(begins).zip(values).collect();
            points
                .iter()
                .any(|(_, value)| value.is_some())
                .then(|| SeriesView {
                    labels: shown(&key.labels),
                    kind: key.kind.word(),
                    points,
                })
        });
        Ok((series.collect(), history::warnings(&frames.missing)))
    }

    /// What is shown of `points`, which begin one gap before the range.
    fn points(&self, kind: MetricKind, points: &[Point], gap: Duration) -> Vec<(f64, Option<f64>)> {
        let as_rate = self.view == View::Rate && kind.is_counter();
        let mut shown = Vec::with_capacity(points.len());
        let mut before: Option<&Point> = None;
        for point in points {
            let in_range = point.at >= self.from;
            let hole = before.filter(|before| point.at.since(before.at) > gap);
            if let Some(before) = hole.filter(|_| in_range) {
                let middle = point.at.since(before.at) / 2;
                shown.push((seconds(before.at.plus(middle).max(self.from)), None));
            }
            let value = match as_rate {
                true => before.and_then(|before| rate(kind, before, point)),
                false => Some(point.value),
            };
            // the first point ever has no rate, which is not a gap
            if in_range && (value.is_some() || before.is_some()) {
                shown.push((seconds(point.at), value));
            }
            before = Some(point);
        }
        shown
    }
}

fn rate(kind: MetricKind, before: &Point, point: &Point) -> Option<f64> {
    match point.broken {
        true => None,
        false => counter_rate(kind, (before.at, before.value), (point.at, point.value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(view: View) -> RangeAsk {
        RangeAsk {
            from: Timestamp(100_000),
            until: Timestamp(1_000_000),
            step: None,
            view,
            labels: BTreeMap::new(),
        }
    }

    fn point(second: u64, value: f64, broken: bool) -> Point {
        Point {
            at: Timestamp(second * 1000),
            value,
            broken,
        }
    }

    const GAP: Duration = Duration::from_secs(75);

    #[test]
    fn a_rate_uses_the_point_before_the_range() {
        let points = [point(70, 0.0, false), point(100, 300.0, false)];
        let shown = ask(View::Rate).points(MetricKind::Counter64, &points, GAP);
        assert_eq!(shown, [(100.0, Some(10.0))]);
    }

    #[test]
    fn a_restart_and_a_missing_poll_are_nulls() {
        let points = [
            point(100, 300.0, false),
            point(130, 10.0, true),
            point(160, 40.0, false),
            point(360, 240.0, false),
        ];
        let shown = ask(View::Rate).points(MetricKind::Counter64, &points, GAP);
        assert_eq!(
            shown,
            [
                (130.0, None),
                (160.0, Some(1.0)),
                (260.0, None),
                (360.0, Some(1.0))
            ]
        );
        let raw = ask(View::Raw).points(MetricKind::Counter64, &points, GAP);
        let values: Vec<Option<f64>> = raw.iter().map(|(_, value)| *value).collect();
        assert_eq!(
            values,
            [Some(300.0), Some(10.0), Some(40.0), None, Some(240.0)]
        );
    }
}
