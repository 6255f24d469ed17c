//! What `/api/v1/series` answers, as points in time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::client::{Client, query};
use crate::command::Asked;
use crate::error::Trouble;
use crate::output::{safe, talk};

use super::instant;

const PATH: &str = "/api/v1/series";

/// Values of some series over some time.
#[derive(Debug)]
pub(super) struct Answer {
    /// As it came.
    pub(super) body: Value,
    /// Which tier was read: raw, 15m or 1h.
    pub(super) source: String,
    /// The beginning of the range, and of the first step.
    pub(super) from_ms: i64,
    /// Between two values; `None` for values as they were measured.
    pub(super) step_ms: Option<i64>,
    /// What the caller should know of it, such as which parts are missing.
    pub(super) warnings: Vec<String>,
    /// Parts are missing.
    pub(super) incomplete: bool,
    pub(super) series: Vec<Series>,
}

/// Values of one series.
#[derive(Debug)]
pub(super) struct Series {
    /// Absent for what was made of many.
    pub(super) device: Option<String>,
    pub(super) metric: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) unit: String,
    /// Oldest first.
    pub(super) points: Vec<Point>,
}

/// A value at an instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    /// Milliseconds since 1970.
    pub(super) at_ms: i64,
    /// `None`: not measured.
    pub(super) value: Option<f64>,
    /// Whether the device began anew between the value before and this one.
    pub(super) broken: bool,
}

#[derive(Deserialize)]
struct AnswerBody {
    source: String,
    from: Value,
    /// In seconds.
    step: Option<f64>,
    warnings: Vec<String>,
    /// Absent: every warning is of something that is missing.
    incomplete: Option<bool>,
    series: Vec<SeriesBody>,
}

#[derive(Deserialize)]
struct SeriesBody {
    device: Option<String>,
    metric: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    unit: String,
    /// One per step.
    #[serde(default)]
    values: Vec<Value>,
    /// Without steps: seconds since 1970, the value, and perhaps whether it is
    /// broken off from the one before.
    #[serde(default)]
    points: Vec<Vec<Value>>,
}

/// What of [`Asked`] is said anew in every request.
pub(super) struct Window {
    pub(super) from: String,
    pub(super) until: String,
    pub(super) step: Option<String>,
    pub(super) source: Option<String>,
    pub(super) width: Option<u32>,
}

pub(super) async fn ask(
    asked: &Asked,
    window: &Window,
    client: &Client,
) -> Result<Answer, Trouble> {
    let path = format!(
        "{PATH}{}",
        query(&[
            ("selector", Some(asked.selector.clone())),
            ("from", Some(window.from.clone())),
            ("until", Some(window.until.clone())),
            ("step", window.step.clone()),
            ("aggregate", asked.aggregate.clone()),
            ("across", asked.across.clone()),
            ("source", window.source.clone()),
            ("width", window.width.map(|width| width.to_string())),
        ])
    );
    Answer::read(client.get(&path).await?.body)
}

impl Answer {
    fn read(body: Value) -> Result<Answer, Trouble> {
        let read = AnswerBody::deserialize(&body)
            .map_err(|error| Trouble::Garbled(format!("{PATH}: {error}")))?;
        let step_ms = read.step.map(step_of).transpose()?;
        let from_ms = millis(&read.from).ok_or_else(|| garbled("a range without a beginning"))?;
        let series = read.series.into_iter();
        let series = series.map(|series| series.read(step_ms, from_ms));
        Ok(Answer {
            source: read.source,
            from_ms,
            step_ms,
            incomplete: read.incomplete.unwrap_or(!read.warnings.is_empty()),
            warnings: read.warnings,
            series: series.collect::<Result<_, _>>()?,
            body,
        })
    }

    /// Says on standard error what is to be known of it.
    pub(super) fn warn(&self) {
        for warning in &self.warnings {
            talk(&format!("warning: {warning}"));
        }
    }
}

impl SeriesBody {
    fn read(self, step_ms: Option<i64>, from_ms: i64) -> Result<Series, Trouble> {
        let points = match step_ms {
            Some(step_ms) if self.points.is_empty() => stepped(&self.values, step_ms, from_ms)?,
            None if self.values.is_empty() => {
                let points = self.points.iter().map(|point| measured(point));
                points.collect::<Result<_, _>>()?
            }
            Some(_) => return Err(garbled("points that stand at no step")),
            None => return Err(garbled("values without a step")),
        };
        Ok(Series {
            device: self.device,
            metric: self.metric.unwrap_or_default(),
            labels: self.labels,
            unit: self.unit,
            points,
        })
    }
}

fn step_of(seconds: f64) -> Result<i64, Trouble> {
    whole_ms(seconds)
        .filter(|step_ms| *step_ms > 0)
        .ok_or_else(|| garbled("a step that is no span"))
}

fn stepped(values: &[Value], step_ms: i64, from_ms: i64) -> Result<Vec<Point>, Trouble> {
    let mut at_ms = from_ms;
    let mut points = Vec::with_capacity(values.len());
    for value in values {
        points.push(Point {
            at_ms,
            value: number(value)?,
            broken: false,
        });
        at_ms = at_ms.saturating_add(step_ms);
    }
    Ok(points)
}

fn measured(point: &[Value]) -> Result<Point, Trouble> {
    let at = point.first().and_then(millis);
    Ok(Point {
        at_ms: at.ok_or_else(|| garbled("a point without a time"))?,
        value: number(point.get(1).unwrap_or(&Value::Null))?,
        broken: matches!(point.get(2), Some(Value::Bool(true))),
    })
}

/// JSON has no infinities: they are text.
fn number(value: &Value) -> Result<Option<f64>, Trouble> {
    match value {
        Value::Null => Ok(None),
        Value::Number(number) => Ok(number.as_f64()),
        Value::String(text) if text == "+Inf" => Ok(Some(f64::INFINITY)),
        Value::String(text) if text == "-Inf" => Ok(Some(f64::NEG_INFINITY)),
        other => Err(garbled(&format!("a value that is {other}"))),
    }
}

/// An instant, in seconds since 1970 or RFC 3339, as milliseconds.
pub(super) fn millis(instant: &Value) -> Option<i64> {
    match instant {
        Value::String(text) => text.parse::<Timestamp>().ok().map(|at| at.as_millisecond()),
        other => whole_ms(other.as_f64()?),
    }
}

pub(super) fn whole_ms(seconds: f64) -> Option<i64> {
    let span = jiff::SignedDuration::try_from_secs_f64(seconds).ok()?;
    i64::try_from((span.as_nanos() + 500_000).div_euclid(1_000_000)).ok()
}

fn garbled(what: &str) -> Trouble {
    Trouble::Garbled(format!("{PATH} answers with {what}"))
}

/// RFC 3339 with milliseconds.
pub(super) fn shown_time(at_ms: i64) -> String {
    match Timestamp::from_millisecond(at_ms) {
        Ok(at) => format!("{at:.3}"),
        // no year that a calendar has
        Err(_beyond) => at_ms.to_string(),
    }
}

/// What the daemon reads itself, it reads itself; a date is an instant.
pub(super) fn time(text: &str) -> String {
    match text.parse::<f64>() {
        Ok(_seconds) => text.to_owned(),
        Err(_) => instant(text).map_or_else(|| text.to_owned(), |at| at.to_string()),
    }
}

/// Labels as Prometheus writes them; nothing for none.
pub(super) fn prometheus(labels: &BTreeMap<String, String>) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{}=\"{}\"", safe(name), escaped(&safe(value))))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn points(body: Value) -> Vec<Point> {
        let mut answer = Answer::read(body).unwrap();
        answer.series.remove(0).points
    }

    #[test]
    fn steps_begin_at_from_and_what_was_not_measured_is_none() {
        let found = points(json!({
            "source": "raw", "from": "2026-01-01T00:00:00Z", "step": 0.5, "warnings": [],
            "series": [{"device": "core1", "values": [1, null, "+Inf", "-Inf"], "points": []}],
        }));
        let begin = 1_767_225_600_000;
        let expected = [
            (begin, Some(1.0)),
            (begin + 500, None),
            (begin + 1_000, Some(f64::INFINITY)),
            (begin + 1_500, Some(f64::NEG_INFINITY)),
        ];
        let found: Vec<_> = found
            .iter()
            .map(|point| (point.at_ms, point.value))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_measured_point_has_its_own_time_to_the_millisecond() {
        let found = points(json!({
            "source": "raw", "from": 0, "step": null, "warnings": [],
            "series": [{
                "values": [], "points": [[1_767_225_600.123, 7], [1_767_225_630.001, 1, true]],
            }],
        }));
        assert_eq!(found[0].at_ms, 1_767_225_600_123);
        assert_eq!(shown_time(found[1].at_ms), "2026-01-01T00:00:30.001Z");
        assert_eq!((found[0].broken, found[1].broken), (false, true));
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_refused() {
        for (step, series) in [
            (json!(null), json!({"points": [[0, "NaN"]]})),
            (json!(null), json!({"points": [["x", 1]]})),
            (json!(null), json!({"points": [[]]})),
            (json!(null), json!({"values": [1]})),
            (json!(60), json!({"points": [[0, 1]]})),
            (json!(0), json!({"values": [1]})),
            (json!(-60), json!({"values": [1]})),
        ] {
            let body = json!({
                "source": "raw", "from": 0, "step": step, "warnings": [], "series": [series],
            });
            assert!(Answer::read(body.clone()).is_err(), "{body}");
        }
    }

    #[test]
    fn labels_are_written_as_in_a_selector() {
        let labels = |value: &str| {
            prometheus(&BTreeMap::from([
                ("a".to_owned(), value.to_owned()),
                ("b".to_owned(), "x".to_owned()),
            ]))
        };
        assert_eq!(labels("Gi0/1"), "{a=\"Gi0/1\",b=\"x\"}");
        assert_eq!(
            labels("\\ \"q\"\u{1b}[2J\n"),
            "{a=\"\\\\ \\\"q\\\"[2J \",b=\"x\"}"
        );
        assert_eq!(prometheus(&BTreeMap::new()), "");
    }

    #[test]
    fn a_date_is_an_instant_and_a_span_is_left_to_the_daemon() {
        assert_eq!(time("2026-01-01"), "2026-01-01T00:00:00Z");
        for same in ["-1h", "now", "1767225600"] {
            assert_eq!(time(same), same);
        }
    }
}
