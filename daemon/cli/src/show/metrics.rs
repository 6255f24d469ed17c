//! `sotp metrics ls|get|rm`: what was measured, on a terminal.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::client::{Client, If, segment};
use crate::command::{Metrics, MetricsGet};
use crate::error::Trouble;
use crate::input;
use crate::output::{Column, Format, Grid, Output, column, talk};

use super::series::{Answer, Point, Series, Window, ask, prometheus, shown_time, time};
use super::text::{NONE, ago, with_unit};
use super::{all, export};

/// Most rows that one command lists.
const ROWS: usize = 100_000;

/// More series than these are not read side by side.
const SIDE_BY_SIDE: usize = 5;

/// Rows of a table, at most, unless a step is given.
const SCREEN: u32 = 60;

/// How wide the little picture of a series is.
const PICTURE: usize = 24;

pub(super) async fn run(words: &Metrics, client: &Client, output: &Output) -> Result<(), Trouble> {
    match words {
        Metrics::Ls { device: None } => known(client, output).await,
        Metrics::Ls {
            device: Some(device),
        } => latest(device, client, output).await,
        Metrics::Get(get) => show(get, client, output).await,
        Metrics::Export(words) => export::run(words, client, output).await,
        Metrics::Rm { device, yes } => remove(device, *yes, client).await,
    }
}

const KNOWN: [Column; 4] = [
    column!("METRIC", 0, "/name"),
    column!("KIND", 1, "/kind"),
    column!("UNIT", 1, "/unit"),
    column!("WHAT", 2, "/help"),
];

async fn known(client: &Client, output: &Output) -> Result<(), Trouble> {
    let metrics = all(client, "/api/v1/metrics", ROWS).await?;
    output.list("metrics", &metrics, &KNOWN, "nothing is measured")
}

const LATEST: [Column; 7] = [
    column!("METRIC", 0, "/metric"),
    column!("LABELS", 1, = labels),
    column!("VALUE", 0, "/value", value),
    column!("UNIT", 3, "/unit"),
    column!("KIND", 4, "/kind"),
    column!("AGE", 2, "/at", ago),
    column!("WHAT", 5, "/help"),
];

fn labels(row: &Value) -> String {
    let pairs = row.get("labels").and_then(Value::as_object);
    let pairs: BTreeMap<String, String> = pairs
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    prometheus(&pairs)
}

fn value(row: &Value, pointer: &str) -> String {
    let unit = row.get("unit").and_then(Value::as_str).unwrap_or_default();
    match row.pointer(pointer).and_then(Value::as_f64) {
        Some(value) => with_unit(value, unit),
        None => NONE.to_owned(),
    }
}

async fn latest(device: &str, client: &Client, output: &Output) -> Result<(), Trouble> {
    let path = format!("/api/v1/devices/{}/metrics", segment(device));
    let rows = all(client, &path, ROWS).await?;
    output.list("metrics", &rows, &LATEST, "nothing was measured yet")
}

async fn show(get: &MetricsGet, client: &Client, output: &Output) -> Result<(), Trouble> {
    let window = Window {
        from: time(&get.asked.from),
        until: time(&get.asked.until),
        step: get.step.clone(),
        source: get.asked.source.clone(),
        width: get.width.or_else(|| few_rows(get, output)),
    };
    let answer = ask(&get.asked, &window, client).await?;
    answer.warn();
    match output.format() {
        Format::Json => output.document(&answer.body),
        Format::Jsonl | Format::Tsv => rows(&answer, output),
        Format::Table => table(&answer, output),
    }
}

/// Who looks at a table and says nothing of steps gets what fits on a screen.
fn few_rows(get: &MetricsGet, output: &Output) -> Option<u32> {
    let table = output.format() == Format::Table;
    (table && get.step.is_none()).then_some(SCREEN)
}

const POINTS: [Column; 5] = [
    column!("TIME", 0, "/time"),
    column!("DEVICE", 0, "/device"),
    column!("METRIC", 0, "/metric"),
    column!("LABELS", 0, = labels),
    column!("VALUE", 0, "/value"),
];

/// One row per series and instant; what was not measured has no value.
fn rows(answer: &Answer, output: &Output) -> Result<(), Trouble> {
    let of = |series: &Series| -> Vec<Value> {
        let points = series.points.iter();
        points.map(|point| row(series, point)).collect()
    };
    let rows: Vec<Value> = answer.series.iter().flat_map(of).collect();
    output.list("points", &rows, &POINTS, "")
}

/// A point as a program reads it.
pub(super) fn row(series: &Series, point: &Point) -> Value {
    let mut row = json!({
        "time": shown_time(point.at_ms),
        "device": series.device,
        "metric": series.metric,
        "labels": series.labels,
        "value": number(point.value),
    });
    if point.broken {
        row["broken"] = json!(true);
    }
    row
}

/// As the API writes it: infinities are text.
fn number(value: Option<f64>) -> Value {
    match value {
        None => Value::Null,
        Some(value) if value.is_infinite() => json!(if value > 0.0 { "+Inf" } else { "-Inf" }),
        Some(value) => json!(value),
    }
}

fn table(answer: &Answer, output: &Output) -> Result<(), Trouble> {
    let series = &answer.series;
    if series.iter().all(|series| series.points.is_empty()) {
        if answer.warnings.is_empty() {
            talk("nothing was measured in that time");
        }
        return Ok(());
    }
    let grid = side_by_side(series);
    match series.len() <= SIDE_BY_SIDE && output.fits(&grid) {
        true => output.grid(&grid),
        false => output.grid(&one_line_each(series)),
    }
}

/// A row per instant, a column per series.
fn side_by_side(series: &[Series]) -> Grid {
    let mut instants: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for (place, one) in series.iter().enumerate() {
        for point in &one.points {
            let row = instants
                .entry(point.at_ms)
                .or_insert_with(|| vec![NONE.to_owned(); series.len()]);
            row[place] = shown(point.value, &one.unit);
        }
    }
    let rows = instants
        .into_iter()
        .map(|(at_ms, cells)| [vec![short_time(at_ms)], cells].concat());
    Grid {
        headers: [vec!["TIME".to_owned()], headers(series)].concat(),
        ranks: vec![0; series.len() + 1],
        rows: rows.collect(),
    }
}

/// Without milliseconds that are zero.
fn short_time(at_ms: i64) -> String {
    shown_time(at_ms).replace(".000Z", "Z")
}

fn shown(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| with_unit(value, unit))
}

/// What tells the series apart, and no more.
fn headers(series: &[Series]) -> Vec<String> {
    let differ = |part: fn(&Series) -> String| {
        let mut parts = series.iter().map(part);
        let first = parts.next();
        parts.any(|part| Some(part) != first)
    };
    let device = |one: &Series| one.device.clone().unwrap_or_default();
    let parts: [fn(&Series) -> String; 3] = [
        device,
        |one| one.metric.clone(),
        |one| prometheus(&one.labels),
    ];
    let telling: Vec<fn(&Series) -> String> =
        parts.into_iter().filter(|part| differ(*part)).collect();
    let name = |one: &Series| match telling.is_empty() {
        true => one.metric.clone(),
        false => telling
            .iter()
            .map(|part| part(one))
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" "),
    };
    series.iter().map(name).collect()
}

/// A row per series: its last value and when that was, its extremes, and how it
/// went.
fn one_line_each(series: &[Series]) -> Grid {
    let columns = [
        ("DEVICE", 0),
        ("METRIC", 0),
        ("LABELS", 0),
        ("LAST", 0),
        ("AT", 2),
        ("LOWEST", 4),
        ("HIGHEST", 3),
        ("COURSE", 1),
    ];
    let row = |one: &Series| {
        let measured = one.points.iter().filter(|point| point.value.is_some());
        let last = measured.clone().next_back();
        let values = || measured.clone().filter_map(|point| point.value);
        vec![
            one.device.clone().unwrap_or_default(),
            one.metric.clone(),
            prometheus(&one.labels),
            shown(last.and_then(|last| last.value), &one.unit),
            last.map_or_else(|| NONE.to_owned(), |last| short_time(last.at_ms)),
            shown(values().reduce(f64::min), &one.unit),
            shown(values().reduce(f64::max), &one.unit),
            picture(&one.points),
        ]
    };
    Grid {
        headers: columns
            .iter()
            .map(|(header, _)| (*header).to_owned())
            .collect(),
        ranks: columns.iter().map(|(_, rank)| *rank).collect(),
        rows: series.iter().map(row).collect(),
    }
}

/// How a series went, from its lowest to its highest value; a blank where nothing
/// was measured. Each sign stands for the highest value of its time.
fn picture(points: &[Point]) -> String {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return String::new();
    };
    let mut signs: Vec<Option<f64>> = vec![None; PICTURE.min(points.len())];
    let span = u128::from(last.at_ms.abs_diff(first.at_ms)) + 1;
    for point in points {
        let passed = u128::from(point.at_ms.abs_diff(first.at_ms));
        let place = passed * signs.len() as u128 / span;
        let sign = usize::try_from(place).ok().and_then(|at| signs.get_mut(at));
        if let (Some(sign), Some(value)) = (sign, point.value.filter(|value| value.is_finite())) {
            *sign = Some(sign.map_or(value, |so_far| so_far.max(value)));
        }
    }
    drawn(&signs)
}

fn drawn(signs: &[Option<f64>]) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values = || signs.iter().flatten().copied();
    let lowest = values().fold(f64::INFINITY, f64::min);
    let highest = values().fold(f64::NEG_INFINITY, f64::max);
    let height = |value: f64| {
        let share = (value - lowest) / (highest - lowest);
        HEIGHTS
            .iter()
            .zip(1_i32..)
            .find(|(_, place)| share * 8.0 <= f64::from(*place))
            // a series that never changed has no share
            .map_or(HEIGHTS[0], |(sign, _)| *sign)
    };
    signs.iter().map(|sign| sign.map_or(' ', height)).collect()
}

async fn remove(device: &str, yes: bool, client: &Client) -> Result<(), Trouble> {
    input::confirm("Delete for good what was measured of", device, yes).await?;
    let path = format!("/api/v1/devices/{}/metrics", segment(device));
    client.delete(&path, If::Always).await?;
    talk(&format!(
        "what was measured of {device} is deleted; the device is still watched"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(device: &str, interface: &str, values: &[Option<f64>]) -> Series {
        let points = values.iter().zip(0_i64..).map(|(value, place)| Point {
            at_ms: place * 60_000,
            value: *value,
            broken: false,
        });
        Series {
            device: Some(device.to_owned()),
            metric: "ifHCInOctets".to_owned(),
            labels: BTreeMap::from([("ifName".to_owned(), interface.to_owned())]),
            unit: "octets/s".to_owned(),
            points: points.collect(),
        }
    }

    #[test]
    fn a_heading_says_what_tells_series_apart_and_no_more() {
        let name = |all: &[Series]| headers(all).join("|");
        let (one, other) = (series("a", "x", &[]), series("b", "x", &[]));
        assert_eq!(name(&[one, other]), "a|b");
        let (one, other) = (series("a", "x", &[]), series("a", "y", &[]));
        assert_eq!(name(&[one, other]), "{ifName=\"x\"}|{ifName=\"y\"}");
        assert_eq!(name(&[series("a", "x", &[])]), "ifHCInOctets");
    }

    #[test]
    fn series_stand_side_by_side_by_time_and_a_gap_is_a_dash() {
        let short = series("a", "x", &[Some(1.0)]);
        let long = series("b", "x", &[None, Some(125_000.0)]);
        let grid = side_by_side(&[short, long]);
        let rows = [
            ["1970-01-01T00:00:00Z", "8 bit/s", "—"],
            ["1970-01-01T00:01:00Z", "—", "1.0 Mbit/s"],
        ];
        assert_eq!(grid.rows, rows);
    }

    #[test]
    fn a_picture_goes_from_the_lowest_to_the_highest_and_leaves_gaps() {
        let of = |values: &[Option<f64>]| picture(&series("a", "x", values).points);
        assert_eq!(of(&[Some(0.0), None, Some(4.0), Some(8.0)]), "▁ ▄█");
        assert_eq!(of(&[Some(-1.0), Some(f64::INFINITY), Some(7.0)]), "▁ █");
        assert_eq!(of(&[Some(5.0), Some(5.0)]), "▁▁");
        assert_eq!(of(&[None, None]), "  ");
        assert_eq!(of(&[]), "");
        let many: Vec<_> = (0..10_000).map(|value| Some(f64::from(value))).collect();
        let drawn = of(&many);
        assert_eq!(drawn.chars().count(), PICTURE);
        assert!(drawn.starts_with('▁') && drawn.ends_with('█'), "{drawn}");
    }

    #[test]
    fn a_line_of_many_has_the_last_value_that_was_measured_and_says_when() {
        let grid = one_line_each(&[series("a", "x", &[Some(2.0), Some(1.0), None])]);
        let expected = ["8 bit/s", "1970-01-01T00:01:00Z", "8 bit/s", "16 bit/s"];
        assert_eq!(grid.rows[0][3..7], expected);
        let grid = one_line_each(&[series("a", "x", &[None])]);
        assert_eq!(grid.rows[0][3..7], ["—"; 4]);
    }

    #[test]
    fn an_infinity_is_text_and_a_gap_is_null() {
        assert_eq!(number(Some(f64::NEG_INFINITY)), json!("-Inf"));
        assert_eq!(number(None), Value::Null);
        assert_eq!(number(Some(0.5)), json!(0.5));
    }
}
