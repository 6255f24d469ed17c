//! What is measured: the newest values of a device, ranges of them, and what
//! each metric means.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::Uri;
use model::{
    BUILT_IN_METRICS, Check, Device, GroupKey, Labels, MetricKind, Permission, Reading, SeriesKey,
    Timestamp, counter_rate, metric_info,
};
use serde::Serialize;
use store::samples::{Matcher, MatcherKind, NotASelector, Point, QueryError, Select, Selector};
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::device_view::polled;
use crate::devices::find;
use crate::mistakes::did_you_mean;
use crate::problem::{Kind, Problem};
use crate::query::{self, Query};
use crate::request::{JsonAnswer, Path};
use crate::{Api, when};

/// Points in one answer, over all its series: some 4 MB of JSON.
const POINTS: usize = 200_000;

/// The range of a query that names none.
const DEFAULT_RANGE: Duration = Duration::from_secs(60 * 60);

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
    help: &'static str,
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
    /// One per set of labels.
    series: Vec<SeriesView>,
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
        help: info.map_or("", |info| info.help),
    }
}

/// Shows the values of one metric over time.
///
/// Times are RFC 3339, seconds since 1970, `now`, or a span before now such as
/// `-1h`.
#[utoipa::path(
    get,
    path = "/devices/{device}/metrics/{metric}",
    tag = "metrics",
    params(
        ("device" = String, Path, description = "Id or name"),
        ("metric" = String, Path, description = "The metric's name"),
        ("from" = Option<String>, Query, description = "First instant; by default an hour before until"),
        ("until" = Option<String>, Query, description = "First instant after the range; by default now"),
        ("step" = Option<String>, Query, description = "raw: every value as it was measured"),
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
    if metric_info(&metric).is_none() {
        let known: Vec<&str> = BUILT_IN_METRICS.iter().map(|known| known.name).collect();
        let hint = did_you_mean(&metric, &known);
        let detail = format!("there is no metric {metric:?}: {hint}");
        return Err(Problem::new(Kind::NotFound, detail));
    }
    let gap = gap(&api, &device, &metric);
    let selector = selector(&metric, &ask.labels)
        .map_err(|error| Problem::new(Kind::BadRequest, error.to_string()))?;
    let (own, from, until) = (device.id, ask.from, ask.until);
    let selected = api
        .read(move |store| {
            let select = Select {
                selector: &selector,
                groups: &|group| group.device == own,
                // a rate needs the point before the first one
                from: from.minus(gap),
                until,
                max_points: POINTS,
                max_series: POINTS,
            };
            let selected = store.samples().select(&select).map_err(no_range)?;
            match selected.missing.first() {
                None => Ok(selected.series),
                Some(missing) => Err(Problem::new(Kind::Internal, missing.why.clone())),
            }
        })
        .await?;

    let series = selected.iter().map(|series| SeriesView {
        labels: shown(&series.key.labels),
        kind: series.key.kind.word(),
        points: ask.points(series.key.kind, &series.points, gap),
    });
    let series: Vec<SeriesView> = series.filter(|series| !series.points.is_empty()).collect();
    Ok(JsonAnswer(RangeView {
        unit: unit(&metric, ask.view),
        metric,
        view: ask.view.word(),
        from: ask.from.to_string(),
        until: ask.until.to_string(),
        series,
    }))
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

fn selector(metric: &str, labels: &BTreeMap<String, String>) -> Result<Selector, NotASelector> {
    let name = std::iter::once(("__name__", metric));
    let labels = labels
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let matchers = name
        .chain(labels)
        .map(|(name, value)| Matcher::new(name, MatcherKind::Equal, value));
    Ok(Selector::new(matchers.collect::<Result<_, _>>()?))
}

fn no_range(error: QueryError) -> Problem {
    match error {
        QueryError::TooManyPoints { .. } | QueryError::TooManySeries { .. } => Problem::new(
            Kind::TooManyPoints,
            format!(
                "the range has more than {POINTS} points; ask for a shorter one with from and until, or for fewer series with label.NAME=VALUE"
            ),
        ),
        other => Problem::new(Kind::BadRequest, other.to_string()),
    }
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
    match metric_info(metric) {
        Some(info) if info.kind.is_counter() && view == View::Rate => format!("{}/s", info.unit),
        Some(info) => info.unit.to_owned(),
        None => String::new(),
    }
}

/// What a range is asked for.
struct RangeAsk {
    from: Timestamp,
    until: Timestamp,
    view: View,
    labels: BTreeMap<String, String>,
}

impl RangeAsk {
    fn read(uri: &Uri, now: Timestamp) -> Result<RangeAsk, Problem> {
        let query = Query::read(uri, &["from", "until", "step", "view", "label.*"])?;
        let time = |name: &str| {
            let read = when::read(query.one(name)?, now);
            read.map_err(|why| query.mistakes.parameter(name, why)).ok()
        };
        let until = time("until").unwrap_or(now);
        let from = time("from").unwrap_or(until.minus(DEFAULT_RANGE));
        if from >= until {
            let message = "from has to be before until";
            query.mistakes.parameter("from", message);
        }
        if query.one("step").is_some_and(|step| step != "raw") {
            let message = "the only step is \"raw\": every value as it was measured";
            query.mistakes.parameter("step", message);
        }
        let view = match query.one("view") {
            None | Some("rate") => View::Rate,
            Some("raw") => View::Raw,
            Some(other) => {
                let message = format!("unknown view {other:?}: known are raw, rate");
                query.mistakes.parameter("view", message);
                View::Rate
            }
        };
        let labels = query.labels();
        query.or(RangeAsk {
            from,
            until,
            view,
            labels,
        })
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

/// Seconds since 1970.
fn seconds(at: Timestamp) -> f64 {
    at.since(Timestamp::default()).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(view: View) -> RangeAsk {
        RangeAsk {
            from: Timestamp(100_000),
            until: Timestamp(1_000_000),
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
    fn a_range_of_too_many_points_says_how_to_ask_for_less() {
        let problem = no_range(QueryError::TooManyPoints { limit: POINTS });
        assert!(problem.detail().contains("from and until"), "{problem:?}");
    }

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
