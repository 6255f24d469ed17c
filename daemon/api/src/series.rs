//! Series of many devices: found by a selector, as raw points or by steps, as
//! JSON or as columns (see `columns`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use model::{Check, Device, DeviceId, GroupKey, Permission, SeriesKey, metric_info};
use serde::Serialize;
use store::Store;
use store::samples::{self, Aggregate, Frames, Selected, SelectedSeries, Selector, Tier};
use utoipa::ToSchema;

use crate::Api;
use crate::caller::Caller;
use crate::columns;
use crate::history::{self, Asked, BySteps, Stepped, metric_of, seconds};
use crate::json_numbers;
use crate::metrics::described;
use crate::mistakes::did_you_mean;
use crate::number::{Number, Numbers, Point};
use crate::problem::{Kind, Problem};
use crate::series_ask::{Format, How, SeriesAsk, Step, across_word, aligned, easy_step};

/// Series that a selector finds, over time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SeriesAnswer {
    #[serde(flatten)]
    head: Head,
    /// In the order of devices, checks and series; those without any value in
    /// the range are left out.
    series: Vec<OneSeries>,
}

/// What all series of an answer have in common.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Head {
    /// The first instant of the range: the beginning of the first step.
    from: String,
    /// The first instant after it: the end of the last step.
    until: String,
    /// The length of a step in seconds; null for raw points.
    step: Option<f64>,
    /// Where all values come from: raw, 15m or 1h.
    source: &'static str,
    /// That reaches back to here; steps before have no values. Null for raw
    /// points.
    oldest: Option<String>,
    /// What became of all series together: sum, avg, min, max or count.
    across: Option<&'static str>,
    /// Series that were selected.
    selected: usize,
    /// Something could not be read: the answer lacks it.
    incomplete: bool,
    /// What could not be read, and why; and why nothing was found, or what does
    /// not belong together.
    warnings: Vec<String>,
}

/// One series over time. What it is of is null for all series together.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OneSeries {
    #[serde(flatten)]
    of: Of,
    /// One value per step, the first at `from`; empty for raw points.
    #[schema(value_type = Vec<Number>)]
    values: Values,
    /// Raw points, oldest first; empty by steps.
    #[schema(value_type = Vec<Point>)]
    points: Points,
}

/// Which series, and what its values are.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Of {
    /// The device's name.
    device: Option<String>,
    /// The device's number.
    id: Option<u64>,
    /// How it is asked: icmp or snmp.
    check: Option<&'static str>,
    /// The metric's name.
    metric: Option<String>,
    /// Of what; empty for the device as a whole, and for all together.
    labels: BTreeMap<String, String>,
    /// counter32, counter64, gauge or state.
    kind: Option<&'static str>,
    /// The unit of the values; empty for a bare number.
    unit: String,
    /// What the metric means.
    help: String,
    /// What became of the values within a step; null for raw points.
    aggregate: Option<&'static str>,
    /// Seconds since 1970 at which the series had ended; empty by steps.
    ends: Vec<f64>,
}

/// Values as they are kept, written as [`Numbers`].
#[derive(Debug)]
struct Values(Vec<f64>);

impl Serialize for Values {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Numbers(&self.0).serialize(serializer)
    }
}

/// Points as the store found them, written as [`Point`].
#[derive(Debug)]
struct Points(Vec<samples::Point>);

impl Serialize for Points {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let points = self.0.iter();
        serializer.collect_seq(points.map(|p| Point(seconds(p.at), p.value, p.broken)))
    }
}

/// The header of an answer as columns.
#[derive(Serialize)]
struct ColumnsHeader<'a> {
    #[serde(flatten)]
    head: &'a Head,
    series: Vec<ColumnsOf<'a>>,
}

#[derive(Serialize)]
struct ColumnsOf<'a> {
    #[serde(flatten)]
    of: &'a Of,
    offset: usize,
    length: usize,
    broken: Vec<usize>,
}

/// An answer before it is written.
struct Found {
    head: Head,
    series: Vec<(Of, Data)>,
}

enum Data {
    Steps(Vec<f64>),
    Raw(Vec<samples::Point>),
}

/// Shows series over time.
///
/// The selector is that of PromQL: a metric's name, matchers in braces, or
/// both, such as `ifHCInOctets{site="ber",ifName=~"Gi.*"}`. Beside the labels of
/// the series the matchers know those of their device: `device` (its name), `id`,
/// `site`, `tenant`, `tag` (it has one like that) and `check`. What the caller
/// may not see is not there.
///
/// Counters have increase, rate, max_rate and count alone: what they stand at is
/// shown by raw points.
///
/// Without a step its length is chosen: an easy one with at most `points`, or
/// `width` in pixels, steps in the range, and with two rounds of the slowest
/// poll or more in it. Steps begin at whole multiples since 1970.
///
/// Values are null where nothing was measured; infinities are the texts "+Inf"
/// and "-Inf". An answer has at most 200000 points of 10000 series as JSON,
/// 2000000 as columns; one line across series is made of 100000 at most.
///
/// As columns (`application/vnd.sotp.columns`, little-endian): the 8 bytes
/// SOTPCOL1; the header's length h, a multiple of 8, in 4 bytes; 4 zero bytes;
/// the header, JSON with spaces behind it; then doubles to the end. The header is
/// the answer as JSON, but a series has `offset`, `length` and `broken` in place of
/// `values` and `points`: its numbers are the `length` doubles from the byte
/// 16 + h + 8 × `offset` on. Of raw points these are the times, as many values
/// stand right behind them, and `broken` lists the places, from 0, of those at
/// which a counter does not go on. NaN: nothing was measured.
#[utoipa::path(
    get,
    path = "/series",
    tag = "metrics",
    params(
        ("selector" = String, Query, description = "Which series, as in PromQL"),
        ("from" = Option<String>, Query, description = "First instant; by default an hour before until"),
        ("until" = Option<String>, Query, description = "First instant after the range; by default now"),
        ("step" = Option<String>, Query, description = "A span such as 5m; raw: every value as it was measured"),
        ("points" = Option<usize>, Query, description = "At most so many steps, 1 to 10000; by default 600"),
        ("width" = Option<usize>, Query, description = "The same, for a chart of so many pixels"),
        ("aggregate" = Option<String>, Query, description = "What becomes of a series' values within a step; by default rate for counters and avg for the rest"),
        ("across" = Option<String>, Query, description = "Brings all series together to one"),
        ("source" = Option<String>, Query, description = "auto (the default): the coarsest roll-up that answers well; or the one to read"),
        ("format" = Option<String>, Query, description = "json (the default) or columns; Accept: application/vnd.sotp.columns says the same"),
    ),
    responses(
        (status = 200, description = "The series", content(
            (SeriesAnswer = "application/json"),
            (Vec<u8> = "application/vnd.sotp.columns"),
        )),
        (status = 400, description = "A parameter is wrong, or the answer would have too many points or series"),
    )
)]
pub(crate) async fn show_series(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let ask = SeriesAsk::read(&uri, &headers, api.now())?;
    let owners = Owners::of(&api, &caller, &ask);
    let place = api.histories().take(&caller.rate_key()).await;
    let format = ask.format;
    let describing = api.clone();
    let counted = matches!(
        ask.how,
        How::Steps {
            across: Some(samples::Across::Count),
            ..
        }
    );
    let written = api.read(move |store| {
        // it is taken for as long as this runs, even if nobody waits any more
        let _place = place;
        let mut found = find(store, &ask, &owners)?;
        for (of, _) in &mut found.series {
            describe(&describing, of, counted);
        }
        write(found, ask.format)
    });
    let body = written.await?;
    let kind = match format {
        Format::Json => "application/json",
        Format::Columns => columns::CONTENT_TYPE,
    };
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

/// The devices whose series are asked for and may be seen.
struct Owners {
    devices: HashMap<DeviceId, Arc<Device>>,
    /// The longest time between two polls of any of them.
    every: Duration,
}

/// What a metric means that is built in.
fn help(metric: Option<&str>) -> String {
    let info = metric.and_then(metric_info);
    info.map_or("", |info| info.help).to_owned()
}

/// Says of series that plugins measure what they are. `counted`: they are not
/// values, but how many there are.
fn describe(api: &Api, of: &mut Of, counted: bool) {
    let described = of.metric.as_deref().map(|metric| described(api, metric));
    let Some(metric) = described.flatten() else {
        return;
    };
    // of a count the unit is none, whatever was counted
    of.unit = match (of.aggregate, of.unit.as_str()) {
        _ if counted => String::new(),
        (Some("count"), _) => String::new(),
        (_, "/s") => format!("{}/s", metric.unit),
        _ => metric.unit,
    };
    of.help = metric.help;
}

impl Owners {
    fn of(api: &Api, caller: &Caller, ask: &SeriesAsk) -> Owners {
        let inventory = api.store().inventory();
        let meant = inventory.live().filter(|device| {
            caller.on_device(Permission::MetricsRead, device) && ask.owner.is(device)
        });
        let devices: HashMap<DeviceId, Arc<Device>> = meant
            .map(|device| (device.id, Arc::clone(device)))
            .collect();
        let checks = Check::ALL
            .into_iter()
            .filter(|check| ask.owner.asks(*check));
        let every = checks.flat_map(|check| {
            let devices = devices.values();
            devices.map(move |device| api.daemon().interval(device, check))
        });
        Owners {
            every: every.max().unwrap_or_default(),
            devices,
        }
    }
}

/// Asks the sample store. Blocks.
fn find(store: &Store, ask: &SeriesAsk, owners: &Owners) -> Result<Found, Problem> {
    let samples = store.samples();
    let groups =
        |group: GroupKey| owners.devices.contains_key(&group.device) && ask.owner.asks(group.check);
    let mut asked = Asked {
        selector: &ask.selector,
        groups: &groups,
        from: ask.from,
        until: ask.until,
        most: ask.format.most(),
    };
    match ask.how {
        How::Raw => {
            let selected = history::points(samples, &asked)?;
            let mut found = raw(ask, selected, owners);
            if found.head.selected == 0 {
                found.head.warnings.extend(unknown(store, ask, owners));
            }
            Ok(found)
        }
        How::Steps {
            step,
            aggregate,
            across,
            source,
        } => {
            let range = ask.until.since(ask.from);
            let step = match step {
                Step::Of(step) => step,
                Step::AtMost(most) => easy_step(range, most, owners.every, source),
            };
            (asked.from, asked.until) = aligned(ask.from, ask.until, step);
            let by = BySteps {
                step,
                aggregate,
                across,
                source,
            };
            let stepped = history::steps(samples, &asked, &by)?;
            let mut notes = history::notes(samples, &asked, &by, &stepped);
            if stepped.frames.series == 0 && notes.is_empty() {
                notes.extend(unknown(store, ask, owners));
            }
            let mut found = by_steps(&ask.selector, &by, stepped, owners);
            found.head.warnings.extend(notes);
            Ok(found)
        }
    }
}

/// Says that nothing is called so, within what the caller may see, where that is
/// why an answer is empty.
fn unknown(store: &Store, ask: &SeriesAsk, owners: &Owners) -> Option<String> {
    if owners.devices.is_empty() {
        return Some("no series is called so: there is no such device".to_owned());
    }
    let checks = Check::ALL
        .into_iter()
        .filter(|check| ask.owner.asks(*check));
    let groups = checks.flat_map(|check| {
        let devices = owners.devices.keys();
        devices.map(move |device| GroupKey {
            device: *device,
            check,
        })
    });
    let mut names = BTreeSet::new();
    for group in groups {
        let Some(reading) = store.reading(group) else {
            continue;
        };
        for key in reading.row.columns.series() {
            if ask.selector.accepts(key) {
                return None;
            }
            if !names.contains(&key.metric) {
                names.insert(Arc::clone(&key.metric));
            }
        }
    }
    let what = match metric_of(&ask.selector) {
        None => "nothing that is measured is selected".to_owned(),
        Some(name) if names.contains(name) => {
            format!("{name} is measured, but without such labels")
        }
        Some(name) if metric_info(name).is_some() => format!("{name} is not measured there"),
        Some(name) => {
            let known: Vec<&str> = names.iter().map(|name| &**name).collect();
            match did_you_mean(name, &known) {
                hint if hint.starts_with("did you mean") => {
                    format!("{name:?} is not measured; {hint}")
                }
                _ => format!("{name:?} is not measured"),
            }
        }
    };
    Some(format!("no series is called so: {what}"))
}

fn raw(ask: &SeriesAsk, selected: Selected, owners: &Owners) -> Found {
    let head = Head {
        from: ask.from.to_string(),
        until: ask.until.to_string(),
        step: None,
        source: Tier::Raw.word(),
        oldest: None,
        across: None,
        selected: selected.series.len(),
        incomplete: !selected.missing.is_empty(),
        warnings: history::warnings(&selected.missing),
    };
    let series = selected.series.into_iter();
    let series = series.filter_map(|series| points(series, owners));
    Found {
        head,
        series: series.collect(),
    }
}

fn points(series: SelectedSeries, owners: &Owners) -> Option<(Of, Data)> {
    let of = Of {
        ends: series.ends.iter().map(|at| seconds(*at)).collect(),
        ..Of::one(series.group, &series.key, None, owners)?
    };
    Some((of, Data::Raw(series.points)))
}

fn by_steps(selector: &Selector, by: &BySteps, stepped: Stepped, owners: &Owners) -> Found {
    let Stepped { frames, aggregates } = stepped;
    let head = head_of(&frames, by);
    let frames = frames.frames.into_iter().zip(aggregates);
    let series = frames.filter_map(|(frame, aggregate)| {
        let of = match &frame.of {
            Some((group, key)) => Of::one(*group, key, Some(aggregate), owners)?,
            None => Of::all(selector, by, aggregate),
        };
        let measured = frame.values.iter().any(|value| !value.is_nan());
        (measured || frame.of.is_none()).then_some((of, Data::Steps(frame.values)))
    });
    Found {
        series: series.collect(),
        head,
    }
}

fn head_of(frames: &Frames, by: &BySteps) -> Head {
    let length = frames.step_ms.saturating_mul(frames.steps as u64);
    Head {
        from: frames.from.to_string(),
        until: frames.from.plus(Duration::from_millis(length)).to_string(),
        step: Some(by.step.as_secs_f64()),
        source: frames.source.word(),
        oldest: Some(frames.oldest.to_string()),
        across: by.across.map(across_word),
        selected: frames.series,
        incomplete: !frames.missing.is_empty(),
        warnings: history::warnings(&frames.missing),
    }
}

impl Of {
    /// One series; `None` where its device is none of `owners`.
    fn one(
        group: GroupKey,
        key: &SeriesKey,
        aggregate: Option<Aggregate>,
        owners: &Owners,
    ) -> Option<Of> {
        let device = owners.devices.get(&group.device)?;
        let labels = key.labels.iter();
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some(Of {
            device: Some(device.name.clone()),
            id: Some(group.device.0),
            check: Some(group.check.word()),
            metric: Some(key.metric.to_string()),
            labels: labels.collect(),
            kind: Some(key.kind.word()),
            unit: history::unit(&key.metric, aggregate),
            help: help(Some(&key.metric)),
            aggregate: aggregate.map(history::word),
            ends: Vec::new(),
        })
    }

    /// All series together.
    fn all(selector: &Selector, by: &BySteps, aggregate: Aggregate) -> Of {
        let metric = metric_of(selector);
        let counted = matches!(by.across, Some(samples::Across::Count));
        Of {
            metric: metric.map(str::to_owned),
            unit: match metric {
                Some(metric) if !counted => history::unit(metric, Some(aggregate)),
                _ => String::new(),
            },
            help: help(metric),
            aggregate: Some(history::word(aggregate)),
            ..Of::default()
        }
    }
}

fn write(found: Found, format: Format) -> Result<Vec<u8>, Problem> {
    let written = match format {
        Format::Json => as_json(&json(found)),
        Format::Columns => as_columns(&found),
    };
    written.map_err(|error| Problem::new(Kind::Internal, error.to_string()))
}

fn json(found: Found) -> SeriesAnswer {
    let series = found.series.into_iter().map(|(of, data)| {
        let (values, points) = match data {
            Data::Steps(values) => (values, Vec::new()),
            Data::Raw(points) => (Vec::new(), points),
        };
        OneSeries {
            of,
            values: Values(values),
            points: Points(points),
        }
    });
    SeriesAnswer {
        head: found.head,
        series: series.collect(),
    }
}

/// Below this many numbers a second thread costs more than it gives.
const FEW_NUMBERS: usize = 20_000;

/// Room for one number of an answer, and for what a series is of: growing copies
/// all that was written.
const NUMBER_ROOM: usize = 16;
const SERIES_ROOM: usize = 512;

/// Writes `answer` as `serde_json` writes what is derived for it, which the test
/// compares; but its numbers by [`json_numbers`], and a large one with two
/// threads.
fn as_json(answer: &SeriesAnswer) -> serde_json::Result<Vec<u8>> {
    let is_large = answer.series.iter().map(numbers).sum::<usize>() >= FEW_NUMBERS;
    let mut text = serde_json::to_vec(&answer.head)?;
    text.pop(); // its closing brace
    text.reserve(room(&answer.series));
    text.extend_from_slice(b",\"series\":[");
    match answer.series.split_at(answer.series.len() / 2) {
        (first, second) if is_large && !first.is_empty() => {
            let behind = std::thread::scope(|scope| {
                let other = std::thread::Builder::new().spawn_scoped(scope, || written(second));
                write_series(&mut text, first)?;
                // never half an answer
                let panicked = |panic| std::panic::resume_unwind(panic);
                match other {
                    Ok(other) => other.join().unwrap_or_else(panicked),
                    Err(_no_thread_left) => written(second),
                }
            })?;
            text.push(b',');
            text.extend_from_slice(&behind);
        }
        _ => write_series(&mut text, &answer.series)?,
    }
    text.extend_from_slice(b"]}");
    Ok(text)
}

fn numbers(one: &OneSeries) -> usize {
    one.values.0.len() + 2 * one.points.0.len()
}

/// Bytes that `series` will take, more or less.
fn room(series: &[OneSeries]) -> usize {
    let room = |one| SERIES_ROOM + NUMBER_ROOM * numbers(one);
    series.iter().map(room).sum()
}

fn written(series: &[OneSeries]) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(room(series));
    write_series(&mut text, series)?;
    Ok(text)
}

/// Writes `series` with commas between them.
fn write_series(text: &mut Vec<u8>, series: &[OneSeries]) -> serde_json::Result<()> {
    for (place, one) in series.iter().enumerate() {
        if place > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut *text, &one.of)?;
        text.pop(); // its closing brace
        text.extend_from_slice(b",\"values\":");
        json_numbers::numbers(text, &one.values.0)?;
        text.extend_from_slice(b",\"points\":");
        json_numbers::points(text, &one.points.0)?;
        text.push(b'}');
    }
    Ok(())
}

fn as_columns(found: &Found) -> Result<Vec<u8>, serde_json::Error> {
    let mut offset = 0;
    let numbers: Vec<[Cow<'_, [f64]>; 2]> = found
        .series
        .iter()
        .map(|(_, data)| data.columns())
        .collect();
    let series = found.series.iter().zip(&numbers);
    let series = series.map(|((of, data), columns)| {
        let begins = offset;
        offset += columns.iter().map(|column| column.len()).sum::<usize>();
        ColumnsOf {
            of,
            offset: begins,
            length: columns[0].len(),
            broken: data.broken(),
        }
    });
    let header = ColumnsHeader {
        series: series.collect(),
        head: &found.head,
    };
    let columns = numbers.iter().flatten().map(|column| &**column);
    columns::write(&header, columns)
}

impl Data {
    /// The numbers in the order in which they are written.
    fn columns(&self) -> [Cow<'_, [f64]>; 2] {
        match self {
            Data::Steps(values) => [Cow::Borrowed(values), Cow::Borrowed(&[])],
            Data::Raw(points) => [
                points.iter().map(|point| seconds(point.at)).collect(),
                points.iter().map(|point| point.value).collect(),
            ],
        }
    }

    /// The places of points at which a counter does not go on.
    fn broken(&self) -> Vec<usize> {
        match self {
            Data::Steps(_) => Vec::new(),
            Data::Raw(points) => {
                let places = points.iter().enumerate().filter(|(_, point)| point.broken);
                places.map(|(place, _)| place).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Timestamp;

    fn answer(series: usize, points: u64, steps: u32) -> SeriesAnswer {
        let points = (0..points).map(|at| samples::Point {
            at: Timestamp(at * 30_007),
            value: 1.5,
            broken: at == 3,
        });
        let points: Vec<_> = points.collect();
        let one = |place| OneSeries {
            of: Of {
                device: Some(format!("\"sw\"-{place}")),
                ends: vec![1.0],
                ..Of::default()
            },
            values: Values((0..steps).map(|step| 1.0 / f64::from(step)).collect()),
            points: Points(points.clone()),
        };
        SeriesAnswer {
            head: Head {
                from: String::new(),
                until: String::new(),
                step: None,
                source: "raw",
                oldest: None,
                across: None,
                selected: series,
                incomplete: false,
                warnings: vec!["a warning".to_owned()],
            },
            series: (0..series).map(one).collect(),
        }
    }

    #[test]
    fn an_answer_is_as_serde_json_writes_it_also_by_two_threads() {
        let sizes = [
            (0, 0, 0),
            (1, 3, 0),
            (3, 0, 5),
            (1, 30_000, 0),
            (2, 10_000, 0),
            (7, 3_000, 0),
            (7, 0, 3_000),
        ];
        for (series, points, steps) in sizes {
            let answer = answer(series, points, steps);
            let slow = serde_json::to_string(&answer).unwrap();
            let quick = as_json(&answer).unwrap();
            assert!(
                slow.as_bytes() == quick,
                "{series} series: {points}, {steps}"
            );
        }
    }
}
