//! `describe`: what a plugin measures or looks at.

use contract::{Kind, MetricDesc, MetricKind, RuleSelector};
use rhai::{Array, Map, NativeCallContext};

use super::{Out, Prelude, call, mistake, unsigned};
use crate::convert::name_of;

pub(super) fn register(prelude: &mut Prelude) {
    prelude.section(
        "Declaring metrics",
        &[Kind::Parser, Kind::Poller],
        "In `describe()`, before anything can be emitted. Names begin with the vendor's, units are base units. \
         `describe()` may look at the settings (`config`), at nothing else.",
    );
    prelude
        .def(
            "gauge(name, unit, help, labels)",
            "Declares a metric that goes up and down. `labels`: an array of names, may be left out.",
            |c: NativeCallContext, name: &str, unit: &str, help: &str, labels: Array| {
                declare(&c, MetricKind::Gauge, name, unit, help, &labels)
            },
        )
        .also("gauge", |c: NativeCallContext, name: &str, unit: &str, help: &str| {
            declare(&c, MetricKind::Gauge, name, unit, help, &[])
        })
        .def(
            "counter32(name, unit, help, labels)",
            "Declares a counter that starts again after 2^32.",
            |c: NativeCallContext, name: &str, unit: &str, help: &str, labels: Array| {
                declare(&c, MetricKind::Counter32, name, unit, help, &labels)
            },
        )
        .also("counter32", |c: NativeCallContext, name: &str, unit: &str, help: &str| {
            declare(&c, MetricKind::Counter32, name, unit, help, &[])
        })
        .def(
            "counter64(name, unit, help, labels)",
            "Declares a counter that does not start again.",
            |c: NativeCallContext, name: &str, unit: &str, help: &str, labels: Array| {
                declare(&c, MetricKind::Counter64, name, unit, help, &labels)
            },
        )
        .also("counter64", |c: NativeCallContext, name: &str, unit: &str, help: &str| {
            declare(&c, MetricKind::Counter64, name, unit, help, &[])
        })
        .def(
            "state(name, help, labels, states)",
            "Declares a state: `state(\"acme_psu_state\", \"State of a supply\", [\"psu\"], #{\"1\": \"ok\", \"2\": \"failed\"})`.",
            |c: NativeCallContext, name: &str, help: &str, labels: Array, states: Map| {
                declare(&c, MetricKind::State, name, "", help, &labels)?;
                let states = codes(&c, &states)?;
                call(&c, |running| {
                    if let Some(metric) = running.declared.metrics.metrics.last_mut() {
                        metric.states = states;
                    }
                    Ok(())
                })
            },
        )
        .def(
            "facts(names)",
            "Declares the facts that `fact` may set: `facts([\"serial\", \"firmware\"])`.",
            |c: NativeCallContext, names: Array| {
                let names = texts(&c, "facts", &names)?;
                call(&c, |running| {
                    running.declared.metrics.facts.extend(names);
                    Ok(())
                })
            },
        )
        .def(
            "events(names)",
            "Declares the kinds of events that `event` may tell of.",
            |c: NativeCallContext, names: Array| {
                let names = texts(&c, "events", &names)?;
                call(&c, |running| {
                    running.declared.metrics.events.extend(names);
                    Ok(())
                })
            },
        );
    prelude.section(
        "Declaring what a rule looks at",
        &[Kind::Rule],
        "In `describe()`.",
    );
    prelude
        .def(
            "every(seconds)",
            "How often the rule is evaluated for each device: 5 to 86400 s. Without it every 60 s.",
            |c: NativeCallContext, seconds: i64| {
                let seconds = unsigned(&c, "the interval", seconds)?;
                call(&c, |running| {
                    running.declared.rule.interval_s = seconds;
                    Ok(())
                })
            },
        )
        .def(
            "select(name, query, window_s, step_s)",
            "Asks for series: what `query` selects of the last `window_s` seconds, as `input.series(name)`. \
             `step_s` 0, or left out: the samples as they are.",
            |c: NativeCallContext, name: &str, query: &str, window_s: i64, step_s: i64| {
                select(&c, name, query, window_s, step_s)
            },
        )
        .also("select", |c: NativeCallContext, name: &str, query: &str, window_s: i64| {
            select(&c, name, query, window_s, 0)
        })
        .def(
            "on_events(names)",
            "Asks to be evaluated when such an event happens: it is `input.event`.",
            |c: NativeCallContext, names: Array| {
                let names = texts(&c, "on_events", &names)?;
                call(&c, |running| {
                    running.declared.rule.events.extend(names);
                    Ok(())
                })
            },
        );
}

fn declare(
    context: &NativeCallContext,
    kind: MetricKind,
    name: &str,
    unit: &str,
    help: &str,
    labels: &[rhai::Dynamic],
) -> Out<()> {
    let metric = MetricDesc {
        name: name.to_owned(),
        kind,
        unit: unit.to_owned(),
        help: help.to_owned(),
        labels: texts(context, "labels", labels)?,
        states: Vec::new(),
    };
    call(context, |running| {
        if !running.describing {
            return Err(
                super::bad(format!("{name} is declared outside of describe()")).with_hint(
                    "declare metrics in describe(); emit(name, value) gives them values",
                ),
            );
        }
        let declared = &mut running.declared.metrics;
        // each metric is checked where it is declared, so that its line is known
        let alone = contract::MetricDescriptor {
            metrics: vec![metric.clone()],
            ..Default::default()
        };
        contract::check::metrics(&alone)?;
        if declared
            .metrics
            .iter()
            .any(|known| known.name == metric.name)
        {
            return Err(super::bad(format!("the metric {name} is described twice")));
        }
        declared.metrics.push(metric);
        Ok(())
    })
}

fn select(
    context: &NativeCallContext,
    name: &str,
    query: &str,
    window_s: i64,
    step_s: i64,
) -> Out<()> {
    let selector = RuleSelector {
        name: name.to_owned(),
        query: query.to_owned(),
        window_s: unsigned(context, "the window", window_s)?,
        step_s: unsigned(context, "the step", step_s)?,
    };
    call(context, |running| {
        running.declared.rule.selectors.push(selector);
        Ok(())
    })
}

/// An array of texts.
pub(super) fn texts(
    context: &NativeCallContext,
    what: &str,
    values: &[rhai::Dynamic],
) -> Out<Vec<String>> {
    let each = |value: &rhai::Dynamic| match value.as_immutable_string_ref() {
        Ok(text) => Ok(text.to_string()),
        Err(_) => {
            let message = format!("{what} has {} in it", name_of(value));
            Err(mistake(
                context,
                message,
                format!("{what} is an array of texts"),
            ))
        }
    };
    values.iter().map(each).collect()
}

fn codes(context: &NativeCallContext, states: &Map) -> Out<Vec<(i64, String)>> {
    let mut codes = Vec::with_capacity(states.len());
    for (code, name) in states {
        let (Ok(code), Ok(name)) = (code.parse(), name.as_immutable_string_ref()) else {
            let message = format!("the state {code:?} is {name}");
            return Err(mistake(
                context,
                message,
                "states map codes to names: #{\"1\": \"ok\", \"2\": \"failed\"}",
            ));
        };
        codes.push((code, name.to_string()));
    }
    codes.sort_unstable();
    Ok(codes)
}
