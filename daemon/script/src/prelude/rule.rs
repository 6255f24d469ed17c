//! Rules: series in, verdicts out.

use std::sync::Arc;

use contract::{Failure, Kind, PluginError, RuleInput, RuleStatus, RuleTrigger, Verdict};
use rhai::{Array, Dynamic, Map, NativeCallContext};

use super::input::Device;
use super::{
    Out, Prelude, attribute_map, attributes, call, mistake, seconds, severity, severity_word,
};
use crate::convert::{from_json, number, to_json};
use crate::lint::meant;

#[derive(Clone)]
struct Input(Arc<Given>);

struct Given {
    rule_id: String,
    device: Option<Device>,
    at: i64,
    series: Vec<(String, Vec<Series>)>,
    event: Dynamic,
    state: Dynamic,
}

/// Samples of one series.
#[derive(Clone)]
pub(super) struct Series(pub(super) Arc<contract::Series>);

/// One sample.
#[derive(Clone)]
struct Point(contract::Point);

pub(super) fn input(input: RuleInput) -> Result<Dynamic, Failure> {
    let state = if input.state.0.is_empty() {
        Dynamic::from_map(Map::new())
    } else {
        let said = |error| PluginError::Internal(format!("its state is no JSON: {error}"));
        from_json(serde_json::from_slice(&input.state.0).map_err(said)?)
    };
    let (series, event) = match input.trigger {
        RuleTrigger::Window(selected) => {
            let each = |(name, series): (String, Vec<contract::Series>)| {
                (
                    name,
                    series.into_iter().map(|s| Series(Arc::new(s))).collect(),
                )
            };
            (selected.into_iter().map(each).collect(), Dynamic::UNIT)
        }
        RuleTrigger::Event(event) => (Vec::new(), event_map(&event).into()),
        RuleTrigger::Extension(_) => (Vec::new(), Dynamic::UNIT),
    };
    Ok(Dynamic::from(Input(Arc::new(Given {
        rule_id: input.rule_id,
        device: input.device.map(|device| Device(Arc::new(device))),
        at: seconds(input.at),
        series,
        event,
        state,
    }))))
}

fn event_map(event: &contract::Event) -> Map {
    [
        ("at", seconds(event.at).into()),
        ("kind", event.kind.clone().into()),
        ("severity", severity_word(event.severity).into()),
        ("message", event.message.clone().into()),
        ("attrs", attribute_map(&event.attrs).into()),
    ]
    .into_iter()
    .map(|(key, value)| (key.into(), value))
    .collect()
}

pub(super) fn register(prelude: &mut Prelude) {
    prelude.section(
        "A rule's input",
        &[Kind::Rule],
        "`evaluate(input)` is called for each device that the manifest matches, at every interval and for every event it asked for.",
    );
    prelude
        .name::<Input>("Input")
        .prop("input.rule_id", "The rule's name.", |i: &mut Input| i.0.rule_id.clone())
        .prop("input.device", "The device, or `()`.", |i: &mut Input| -> Dynamic {
            i.0.device.clone().map_or(Dynamic::UNIT, Dynamic::from)
        })
        .prop("input.at", "The instant to judge, in seconds since 1970.", |i: &mut Input| i.0.at)
        .def("input.series(name)", "What the selector `name` selects: an array of series; empty when an event is judged.", |c: NativeCallContext, i: &mut Input, name: &str| -> Out<Array> {
            let all = &i.0.series;
            if let Some((_, series)) = all.iter().find(|(known, _)| known == name) {
                return Ok(series.iter().cloned().map(Dynamic::from).collect());
            }
            if all.is_empty() {
                return Ok(Array::new());
            }
            let names = all.iter().map(|(known, _)| known.as_str());
            let hint = match meant(name, names) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("select({name:?}, ...) in describe()"),
            };
            Err(mistake(&c, format!("no selector is called {name:?}"), hint))
        })
        .prop("input.event", "The event, a map with `at`, `kind`, `severity`, `message` and `attrs`; `()` if none is judged.", |i: &mut Input| i.0.event.clone())
        .prop("input.state", "What `set_state` was given the last time; at first an empty map: `input.state.count ?? 0`.", |i: &mut Input| i.0.state.clone());
    verdicts(prelude);
    series(prelude);
}

fn verdicts(prelude: &mut Prelude) {
    prelude.section(
        "Verdicts",
        &[Kind::Rule],
        "`key` tells the alerts of a rule apart: one alert for each port has the port as its key. \
         Each key is judged once in a call. Attributes, a map, may be left out.",
    );
    prelude
        .def("firing(key, severity, summary)", "It is so: tell people.", |c: NativeCallContext, key: &str, how_bad: &str, summary: &str| {
            verdict(&c, RuleStatus::Firing, key, how_bad, summary, &Map::new())
        })
        .def("firing(key, severity, summary, attrs)", "The same with attributes.", |c: NativeCallContext, key: &str, how_bad: &str, summary: &str, attrs: Map| {
            verdict(&c, RuleStatus::Firing, key, how_bad, summary, &attrs)
        })
        .def("pending(key, severity, summary)", "It may become so: nobody is told yet.", |c: NativeCallContext, key: &str, how_bad: &str, summary: &str| {
            verdict(&c, RuleStatus::Pending, key, how_bad, summary, &Map::new())
        })
        .also("pending", |c: NativeCallContext, key: &str, how_bad: &str, summary: &str, attrs: Map| {
            verdict(&c, RuleStatus::Pending, key, how_bad, summary, &attrs)
        })
        .def("ok(key)", "It is not so, or no longer.", |c: NativeCallContext, key: &str| {
            verdict(&c, RuleStatus::Ok, key, "info", "", &Map::new())
        })
        .def("ok(key, summary)", "The same with words.", |c: NativeCallContext, key: &str, summary: &str| {
            verdict(&c, RuleStatus::Ok, key, "info", summary, &Map::new())
        })
        .def("unknown(key, summary)", "It cannot be said: the alert stays as it is.", |c: NativeCallContext, key: &str, summary: &str| {
            verdict(&c, RuleStatus::Unknown, key, "info", summary, &Map::new())
        })
        .def("set_state(map)", "What `input.state` is the next time, for this device; at most 64 KiB as JSON. Without it the state stays.", |c: NativeCallContext, state: Map| {
            let state = to_json(&state.into()).map_err(|error| mistake(&c, error, ""))?;
            call(&c, |running| {
                running.state = contract::Octets(state.to_string().into_bytes());
                Ok(())
            })
        });
}

fn verdict(
    context: &NativeCallContext,
    status: RuleStatus,
    key: &str,
    how_bad: &str,
    summary: &str,
    attrs: &Map,
) -> Out<()> {
    let verdict = Verdict {
        key: key.to_owned(),
        status,
        severity: severity(context, how_bad)?,
        summary: summary.to_owned(),
        attrs: attributes(context, attrs)?,
    };
    call(context, |running| {
        super::rows::taken(running, key.len() + summary.len())?;
        if running.verdicts.iter().any(|known| known.key == key) {
            return Err(super::bad(format!("the key {key:?} is judged twice"))
                .with_hint("each alert of a rule has a key of its own"));
        }
        if running.verdicts.len() >= contract::check::VERDICTS {
            let message = format!("more than {} verdicts", contract::check::VERDICTS);
            return Err(contract::Fault::new(
                contract::FaultClass::ResultSize,
                message,
            ));
        }
        running.verdicts.push(verdict);
        Ok(())
    })
}

fn series(prelude: &mut Prelude) {
    prelude.section(
        "Series",
        &[Kind::Rule, Kind::Remediation],
        "From `input.series(name)` or `query`. `first`, `last`, `min`, `max` and `avg` are `()` where there are no samples.",
    );
    prelude
        .name::<Series>("Series")
        .name::<Point>("Point")
        .prop("series.metric", "The metric's name.", |s: &mut Series| s.0.metric.clone())
        .prop("series.labels", "A map.", |s: &mut Series| attribute_map(&s.0.labels))
        .def("series.label(name)", "One label's value, or `()`.", |s: &mut Series, name: &str| -> Dynamic {
            let found = s.0.labels.iter().find(|(label, _)| label == name);
            found.map_or(Dynamic::UNIT, |(_, value)| value.clone().into())
        })
        .prop("series.len", "How many samples.", |s: &mut Series| i64::try_from(s.0.points.len()).unwrap_or(i64::MAX))
        .prop("series.points", "An array of samples: `point.at` (seconds since 1970) and `point.value`.", |s: &mut Series| -> Array {
            s.0.points.iter().map(|point| Dynamic::from(Point(*point))).collect()
        })
        .prop("series.values", "The samples' values, an array.", |s: &mut Series| -> Array {
            values(s).map(Dynamic::from).collect()
        })
        .prop("series.first", "The first value.", |s: &mut Series| maybe(values(s).next()))
        .prop("series.last", "The last value.", |s: &mut Series| maybe(s.0.points.last().map(|point| point.value)))
        .prop("series.min", "The least value.", |s: &mut Series| maybe(values(s).reduce(f64::min)))
        .prop("series.max", "The greatest value.", |s: &mut Series| maybe(values(s).reduce(f64::max)))
        .prop("series.avg", "The mean of the values.", |s: &mut Series| maybe(mean(&values(s).collect::<Vec<f64>>())))
        .prop("series.rate", "How fast a counter grew: per second between the first and the last sample, restarts left out; `()` with fewer than two.", |s: &mut Series| maybe(rate(&s.0.points)))
        .prop("series.changes", "How often the value changed.", |s: &mut Series| -> i64 {
            let pairs = s.0.points.windows(2);
            let changes = pairs.filter(|pair| pair[0].value.total_cmp(&pair[1].value).is_ne());
            i64::try_from(changes.count()).unwrap_or(i64::MAX)
        })
        .prop("point.at", "When, in seconds since 1970.", |p: &mut Point| seconds(p.0.at))
        .prop("point.value", "What.", |p: &mut Point| p.0.value)
        .def("mean(numbers)", "The mean of an array; `()` of none.", |c: NativeCallContext, list: Array| -> Out<Dynamic> {
            Ok(maybe(mean(&numbers(&c, &list)?)))
        })
        .def("median(numbers)", "The middle value; `()` of none.", |c: NativeCallContext, list: Array| -> Out<Dynamic> {
            Ok(maybe(quantile(numbers(&c, &list)?, 0.5)))
        })
        .def("quantile(numbers, q)", "The value that the share `q` (0.0 to 1.0) of them does not exceed; `()` of none.", |c: NativeCallContext, list: Array, q: f64| -> Out<Dynamic> {
            Ok(maybe(quantile(numbers(&c, &list)?, q)))
        })
        .def("deviation(numbers)", "The median distance from the median, which a few outliers do not move; `()` of none.", |c: NativeCallContext, list: Array| -> Out<Dynamic> {
            let numbers = numbers(&c, &list)?;
            let Some(middle) = quantile(numbers.clone(), 0.5) else {
                return Ok(Dynamic::UNIT);
            };
            let distances = numbers.iter().map(|number| (number - middle).abs()).collect();
            Ok(maybe(quantile(distances, 0.5)))
        });
}

fn values(series: &Series) -> impl Iterator<Item = f64> + '_ {
    series.0.points.iter().map(|point| point.value)
}

fn maybe(value: Option<f64>) -> Dynamic {
    value.map_or(Dynamic::UNIT, Dynamic::from)
}

fn numbers(context: &NativeCallContext, list: &Array) -> Out<Vec<f64>> {
    let each = |value: &Dynamic| {
        let message = || format!("{} is no number", crate::convert::name_of(value));
        number(value).ok_or_else(|| mistake(context, message(), "give an array of numbers"))
    };
    list.iter().map(each).collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts of samples are small")]
fn mean(numbers: &[f64]) -> Option<f64> {
    let sum: f64 = numbers.iter().sum();
    (!numbers.is_empty()).then(|| sum / numbers.len() as f64)
}

/// Between two neighbours, in proportion.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place between 0 and the length"
)]
fn quantile(mut numbers: Vec<f64>, q: f64) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let last = numbers.len().checked_sub(1)?;
    let place = q.clamp(0.0, 1.0) * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    let share = place - place.floor();
    Some(numbers[below] + (numbers[above] - numbers[below]) * share)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "nanoseconds between two samples"
)]
fn rate(points: &[contract::Point]) -> Option<f64> {
    let (first, last) = (points.first()?, points.last()?);
    let span = last.at.0.checked_sub(first.at.0).filter(|span| *span > 0)?;
    let grown = points.windows(2).map(|pair| {
        let grown = pair[1].value - pair[0].value;
        if grown < 0.0 { pair[1].value } else { grown }
    });
    Some(grown.sum::<f64>() / (span as f64 / 1e9))
}
