//! Emitting: rows, facts, events and warnings go to the host one by one.

use std::sync::Arc;

use contract::{Event, Fact, FaultClass, Kind, MetricDesc, MetricDescriptor, Scalar};
use rhai::{Dynamic, Map, NativeCallContext};

use super::{Out, Prelude, attributes, bad, call, mistake, severity};
use crate::convert::{label, name_of, number};
use crate::lint::meant;
use crate::running::Running;

/// Labels that several metrics share.
#[derive(Clone)]
struct Labelled(Arc<Map>);

pub(super) fn register(prelude: &mut Prelude) {
    prelude.section(
        "Emitting",
        &[Kind::Parser, Kind::Poller],
        "Values go to the host at once: no arrays are built. A value is an integer, a float or a boolean (1 or 0); \
         `()` is left out, so that `emit(\"acme_load\", row.get(5))` emits what was answered. NaN, infinity, \
         an undeclared metric and a wrong label end the call at that line.",
    );
    prelude
        .name::<Labelled>("Labels")
        .def("emit(name, value)", "Emits a value of a metric without labels.", |c: NativeCallContext, name: &str, value: Dynamic| {
            emit(&c, name, &Map::new(), &value)
        })
        .def("emit(name, labels, value)", "Emits a value: `emit(\"acme_fan_rpm\", #{fan: row.text(2)}, row.int(3))`.", |c: NativeCallContext, name: &str, labels: Map, value: Dynamic| {
            emit(&c, name, &labels, &value)
        })
        .def("labels(map)", "Labels for several values: `labels(#{fan: \"1\"}).emit(\"acme_fan_rpm\", 900).emit(\"acme_fan_ok\", true)`.", |map: Map| Labelled(Arc::new(map)))
        .def("labels.emit(name, value)", "Emits a value with these labels.", |c: NativeCallContext, labels: &mut Labelled, name: &str, value: Dynamic| -> Out<Labelled> {
            emit(&c, name, &labels.0, &value)?;
            Ok(labels.clone())
        })
        .def("fact(key, value)", "States a fact of the device: `fact(\"serial\", \"8F3A\")`. `()` and empty texts are left out.", |c: NativeCallContext, key: &str, value: Dynamic| fact(&c, key, &value))
        .def("event(kind, severity, message)", "Tells that something happened; `severity` is `info`, `warning` or `critical`.", |c: NativeCallContext, kind: &str, severity: &str, message: &str| {
            event(&c, kind, severity, message, &Map::new())
        })
        .def("event(kind, severity, message, attrs)", "The same with attributes, a map.", |c: NativeCallContext, kind: &str, severity: &str, message: &str, attrs: Map| {
            event(&c, kind, severity, message, &attrs)
        })
        .def("warn(text)", "Says that something in the input is odd; the values still count.", |c: NativeCallContext, text: &str| {
            call(&c, |running| {
                taken(running, text.len())?;
                enough(running.sink.output.warnings.len(), "warnings")?;
                running.sink.output.warnings.push(text.to_owned());
                Ok(())
            })
        });
}

fn emit(context: &NativeCallContext, name: &str, labels: &Map, value: &Dynamic) -> Out<()> {
    if value.is_unit() {
        return Ok(());
    }
    let Some(number) = number(value) else {
        let message = format!("the value of {name} is {} ({value})", name_of(value));
        let hint = "emit numbers; parse_float, number_in and row.float read them from text";
        return Err(mistake(context, message, hint));
    };
    call(context, |running| {
        if running.describing {
            return Err(bad(format!("{name} is emitted in describe()")));
        }
        let descriptor = Arc::clone(&running.metrics);
        let (place, metric) = declared(&descriptor, name)?;
        if !number.is_finite() {
            return Err(
                bad(format!("{name} is {number}")).with_hint("leave out what was not measured")
            );
        }
        let values = label_values(metric, labels)?;
        running.sink.values += 1;
        if running.sink.values > contract::check::VALUES {
            let message = format!("more than {} values in one result", contract::check::VALUES);
            return Err(contract::Fault::new(FaultClass::ResultSize, message));
        }
        let bytes: usize = values.iter().map(String::len).sum();
        taken(running, bytes)?;
        running
            .sink
            .row(&metric.labels, values)
            .values
            .push((place, number));
        Ok(())
    })
}

fn declared<'a>(
    descriptor: &'a MetricDescriptor,
    name: &str,
) -> Result<(u32, &'a MetricDesc), contract::Fault> {
    let place = descriptor
        .metrics
        .iter()
        .position(|metric| metric.name == name);
    if let Some(place) = place
        && let Ok(number) = u32::try_from(place)
    {
        return Ok((number, &descriptor.metrics[place]));
    }
    let names = descriptor.metrics.iter().map(|metric| metric.name.as_str());
    let hint = match meant(name, names) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("declare it in describe(): gauge({name:?}, \"unit\", \"help\")"),
    };
    Err(bad(format!("the metric {name:?} is not declared")).with_hint(hint))
}

fn label_values(metric: &MetricDesc, labels: &Map) -> Result<Vec<String>, contract::Fault> {
    let name = &metric.name;
    let wrong = |message: String| {
        let hint = match metric.labels.as_slice() {
            [] => format!("{name} is declared without labels"),
            labels => format!("{name} is declared with the labels {}", labels.join(", ")),
        };
        bad(message).with_hint(hint)
    };
    for key in labels.keys() {
        if !metric.labels.iter().any(|label| label == key.as_str()) {
            return Err(wrong(format!("{name} has no label {key:?}")));
        }
    }
    let value = |key: &String| match labels.get(key.as_str()) {
        None => Err(wrong(format!("{name} needs the label {key:?}"))),
        Some(value) => match label(value) {
            Some(text) if text.len() <= contract::check::LABEL_BYTES => Ok(text),
            Some(text) => Err(wrong(format!(
                "the label {key:?} of {name} has {} bytes: at most {} are allowed",
                text.len(),
                contract::check::LABEL_BYTES
            ))),
            None => Err(wrong(format!(
                "the label {key:?} of {name} is {}",
                name_of(value)
            ))),
        },
    };
    metric.labels.iter().map(value).collect()
}

/// Counts what is handed to the host.
pub(super) fn taken(running: &mut Running, bytes: usize) -> Result<(), contract::Fault> {
    /// What a value needs beside its texts.
    const EACH: u64 = 16;
    running.sink.bytes += EACH + bytes as u64;
    let limit = running.session.limits().output;
    if running.sink.bytes <= limit {
        return Ok(());
    }
    let message = format!("its result has more than {limit} bytes");
    Err(contract::Fault::new(FaultClass::ResultSize, message))
}

fn enough(count: usize, what: &str) -> Result<(), contract::Fault> {
    if count < contract::check::NOTES {
        return Ok(());
    }
    let message = format!("more than {} {what} in one result", contract::check::NOTES);
    Err(contract::Fault::new(FaultClass::ResultSize, message))
}

fn fact(context: &NativeCallContext, key: &str, value: &Dynamic) -> Out<()> {
    let value = if let Ok(flag) = value.as_bool() {
        Scalar::Boolean(flag)
    } else if let Ok(number) = value.as_int() {
        Scalar::Int(number)
    } else if let Ok(number) = value.as_float() {
        Scalar::Float(number)
    } else if let Ok(text) = value.as_immutable_string_ref() {
        if text.is_empty() {
            return Ok(());
        }
        Scalar::Text(text.to_string())
    } else if value.is_unit() {
        return Ok(());
    } else {
        let message = format!("the fact {key:?} is {}", name_of(value));
        return Err(mistake(
            context,
            message,
            "it is a text, a number or a boolean",
        ));
    };
    call(context, |running| {
        let bytes = if let Scalar::Text(text) = &value {
            text.len()
        } else {
            0
        };
        taken(running, bytes)?;
        enough(running.sink.output.facts.len(), "facts")?;
        let known = &running.metrics.facts;
        if !known.iter().any(|known| known == key) {
            let hint = match meant(key, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("declare it in describe(): facts([{key:?}])"),
            };
            return Err(bad(format!("the fact {key:?} is not declared")).with_hint(hint));
        }
        running.sink.output.facts.push(Fact {
            key: key.to_owned(),
            value,
        });
        Ok(())
    })
}

fn event(
    context: &NativeCallContext,
    kind: &str,
    how_bad: &str,
    message: &str,
    attrs: &Map,
) -> Out<()> {
    let severity = severity(context, how_bad)?;
    let attrs = attributes(context, attrs)?;
    call(context, |running| {
        taken(running, message.len())?;
        enough(running.sink.output.events.len(), "events")?;
        let known = &running.metrics.events;
        if !known.iter().any(|known| known == kind) {
            let hint = match meant(kind, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("declare it in describe(): events([{kind:?}])"),
            };
            return Err(bad(format!("the event {kind:?} is not declared")).with_hint(hint));
        }
        running.sink.output.events.push(Event {
            at: running.at,
            kind: kind.to_owned(),
            severity,
            message: message.to_owned(),
            attrs,
        });
        Ok(())
    })
}
