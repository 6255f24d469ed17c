//! Remediations: plans of steps. Nothing is done here; the host shows the plan
//! and, if it may, performs it.

use std::sync::Arc;

use contract::{
    Action, Check, CliAction, CliMode, Comparison, Decision, HttpRequest, Kind, OnFailure, Plan,
    Risk, SnmpValue, Stage, Step, StepOutcome, Varbind,
};
use rhai::{Array, Dynamic, Map, NativeCallContext};

use super::declare::texts;
use super::input::Device;
use super::{
    Out, Prelude, attribute_map, bad, call, mistake, seconds, severity_word, unsigned, word,
};
use crate::convert::name_of;

#[derive(Clone)]
pub(super) struct Incident(Arc<contract::Incident>);

impl From<contract::Incident> for Incident {
    fn from(incident: contract::Incident) -> Incident {
        Incident(Arc::new(incident))
    }
}

/// What was done so far, as maps.
pub(super) fn history(history: &[Stage]) -> Dynamic {
    history.iter().map(stage).collect::<Array>().into()
}

fn stage(stage: &Stage) -> Dynamic {
    let results: Array = stage.results.iter().map(result).collect();
    let titles: Array = stage
        .plan
        .steps
        .iter()
        .map(|step| step.title.clone().into())
        .collect();
    map([
        ("summary", stage.plan.summary.clone().into()),
        ("steps", titles.into()),
        ("results", results.into()),
    ])
}

fn result(result: &contract::StepResult) -> Dynamic {
    let (outcome, reason) = match &result.outcome {
        StepOutcome::Done => ("done", ""),
        StepOutcome::Failed(why) => ("failed", why.as_str()),
        StepOutcome::TimedOut => ("timed_out", ""),
        StepOutcome::Denied(why) => ("denied", why.as_str()),
        StepOutcome::Skipped => ("skipped", ""),
    };
    let status = result
        .http
        .as_ref()
        .map_or(Dynamic::UNIT, |http| i64::from(http.status).into());
    map([
        ("step_id", result.step_id.clone().into()),
        ("outcome", outcome.into()),
        ("reason", reason.to_owned().into()),
        ("output", result.output.clone().into()),
        ("http_status", status),
    ])
}

fn map<const N: usize>(entries: [(&str, Dynamic); N]) -> Dynamic {
    let entries = entries.into_iter().map(|(key, value)| (key.into(), value));
    Dynamic::from_map(entries.collect::<Map>())
}

pub(super) fn register(prelude: &mut Prelude) {
    prelude.section(
        "A remediation's input",
        &[Kind::Remediation],
        "`decide(incident, history)` says what to do next. `history` is an array of what was done so far, empty at first: \
         maps with `summary`, `steps` (titles) and `results`; a result has `step_id`, `outcome` (`done`, `failed`, `timed_out`, \
         `denied` or `skipped`), `reason`, `output` and `http_status`.",
    );
    prelude
        .name::<Incident>("Incident")
        .prop(
            "incident.alert_id",
            "The alert's number.",
            |i: &mut Incident| i.0.alert_id.clone(),
        )
        .prop(
            "incident.rule_id",
            "The rule that raised it.",
            |i: &mut Incident| i.0.rule_id.clone(),
        )
        .prop(
            "incident.key",
            "Which of the rule's alerts.",
            |i: &mut Incident| i.0.key.clone(),
        )
        .prop(
            "incident.severity",
            "`info`, `warning` or `critical`.",
            |i: &mut Incident| severity_word(i.0.severity),
        )
        .prop(
            "incident.since",
            "Since when, in seconds since 1970.",
            |i: &mut Incident| seconds(i.0.since),
        )
        .prop(
            "incident.summary",
            "One line of text.",
            |i: &mut Incident| i.0.summary.clone(),
        )
        .prop("incident.attrs", "A map.", |i: &mut Incident| {
            attribute_map(&i.0.attrs)
        })
        .prop("incident.device", "The device.", |i: &mut Incident| {
            Device(Arc::new(i.0.device.clone()))
        })
        .prop(
            "incident.attempt",
            "How often this was tried.",
            |i: &mut Incident| i64::from(i.0.attempt),
        );
    decisions(prelude);
    actions(prelude);
}

const RISKS: [(&str, Risk); 4] = [
    ("read_only", Risk::ReadOnly),
    ("low", Risk::Low),
    ("medium", Risk::Medium),
    ("high", Risk::High),
];

const COMPARISONS: [(&str, Comparison); 6] = [
    ("<", Comparison::Lt),
    ("<=", Comparison::Le),
    ("==", Comparison::Eq),
    ("!=", Comparison::Ne),
    (">=", Comparison::Ge),
    (">", Comparison::Gt),
];

const ON_FAILURE: [(&str, OnFailure); 3] = [
    ("abort", OnFailure::Abort),
    ("proceed", OnFailure::Proceed),
    ("undo", OnFailure::Undo),
];

fn decisions(prelude: &mut Prelude) {
    prelude.section(
        "Decisions, plans and steps",
        &[Kind::Remediation],
        "`decide` returns one decision. Methods of plans, steps and checks return what they changed, so that calls can be chained.",
    );
    prelude
        .name::<Decision>("Decision")
        .name::<Plan>("Plan")
        .name::<Step>("Step")
        .name::<Check>("Check")
        .def("run(plan)", "Do this.", Decision::Run)
        .def("resolved(why)", "There is nothing left to do.", |why: &str| Decision::Resolved(why.to_owned()))
        .def("give_up(why)", "This cannot be repaired from here.", |why: &str| Decision::GiveUp(why.to_owned()))
        .def("escalate(why)", "A person has to look.", |why: &str| Decision::Escalate(why.to_owned()))
        .def("plan(summary, risk)", "A plan without steps; `risk` is `read_only`, `low`, `medium` or `high`.", |c: NativeCallContext, summary: &str, risk: &str| -> Out<Plan> {
            Ok(Plan {
                summary: summary.to_owned(),
                risk: word(&c, "risk", risk, &RISKS)?,
                steps: Vec::new(),
                verify: Vec::new(),
            })
        })
        .def("plan.step(step)", "Adds a step.", |c: NativeCallContext, p: &mut Plan, step: Step| -> Out<Plan> {
            if p.steps.len() >= contract::check::STEPS {
                let message = format!("more than {} steps", contract::check::STEPS);
                return Err(super::end(&c, bad(message)));
            }
            p.steps.push(step);
            Ok(p.clone())
        })
        .def("plan.verify(check)", "Adds what must hold in the end.", |c: NativeCallContext, p: &mut Plan, check: Check| -> Out<Plan> {
            if p.verify.len() >= contract::check::STEPS {
                let message = format!("more than {} checks", contract::check::STEPS);
                return Err(super::end(&c, bad(message)));
            }
            p.verify.push(check);
            Ok(p.clone())
        })
        .def("step(device_id, id, title, action)", "One step on a device: it ends the plan when it fails, has 30 s, and is not done twice.", |c: NativeCallContext, device: &str, id: &str, title: &str, what: Dynamic| -> Out<Step> {
            /// How long a step may take.
            const TIMEOUT_S: u32 = 30;
            Ok(Step {
                id: id.to_owned(),
                device_id: device.to_owned(),
                title: title.to_owned(),
                action: action(&c, what)?,
                undo: None,
                on_failure: OnFailure::Abort,
                idempotent: false,
                timeout_s: TIMEOUT_S,
            })
        })
        .def("step.undo(action)", "What takes it back.", |c: NativeCallContext, s: &mut Step, what: Dynamic| -> Out<Step> {
            s.undo = Some(action(&c, what)?);
            Ok(s.clone())
        })
        .def("step.on_failure(what)", "`abort`, `proceed` or `undo`.", |c: NativeCallContext, s: &mut Step, what: &str| -> Out<Step> {
            s.on_failure = word(&c, "way to go on", what, &ON_FAILURE)?;
            Ok(s.clone())
        })
        .def("step.idempotent()", "It may be done twice.", |s: &mut Step| -> Step {
            s.idempotent = true;
            s.clone()
        })
        .def("step.timeout_s(seconds)", "How long it may take.", |c: NativeCallContext, s: &mut Step, seconds: i64| -> Out<Step> {
            s.timeout_s = unsigned(&c, "the time", seconds)?;
            Ok(s.clone())
        })
        .def("check(query, comparison, threshold)", "A value that must be so: `check(\"ifOperStatus\", \"==\", 1)`; at once, within 60 s.", |c: NativeCallContext, query: &str, comparison: &str, threshold: Dynamic| -> Out<Check> {
            /// How long to wait for it.
            const WITHIN_S: u32 = 60;
            let Some(threshold) = crate::convert::number(&threshold) else {
                let message = format!("the threshold is {}", name_of(&threshold));
                return Err(mistake(&c, message, "it is a number"));
            };
            Ok(Check {
                query: query.to_owned(),
                comparison: word(&c, "comparison", comparison, &COMPARISONS)?,
                threshold,
                hold_s: 0,
                within_s: WITHIN_S,
            })
        })
        .def("check.hold_s(seconds)", "For how long it must be so.", |c: NativeCallContext, k: &mut Check, seconds: i64| -> Out<Check> {
            k.hold_s = unsigned(&c, "the time", seconds)?;
            Ok(k.clone())
        })
        .def("check.within_s(seconds)", "How long to wait for it.", |c: NativeCallContext, k: &mut Check, seconds: i64| -> Out<Check> {
            k.within_s = unsigned(&c, "the time", seconds)?;
            Ok(k.clone())
        });
}

fn actions(prelude: &mut Prelude) {
    prelude.section(
        "Actions",
        &[Kind::Remediation],
        "What a step does: one of these, a request, or a check.",
    );
    prelude
        .name::<Action>("Action")
        .name::<Varbind>("Value to set")
        .def(
            "cli(commands)",
            "Commands that change nothing.",
            |c: NativeCallContext, commands: Array| cli(&c, CliMode::Exec, &commands),
        )
        .def(
            "cli_configure(commands)",
            "Commands in configuration mode.",
            |c: NativeCallContext, commands: Array| cli(&c, CliMode::Configure, &commands),
        )
        .def(
            "cli.expect(pattern)",
            "The last command's output must match this regular expression.",
            |c: NativeCallContext, a: &mut Action, pattern: &str| -> Out<Action> {
                match a {
                    Action::Cli(cli) => {
                        if let Some(last) = cli.expect.last_mut() {
                            *last = Some(pattern.to_owned());
                        }
                        Ok(a.clone())
                    }
                    _ => Err(mistake(
                        &c,
                        "expect is of commands",
                        "cli([...]).expect(\"...\")",
                    )),
                }
            },
        )
        .def(
            "wait(seconds)",
            "Waits.",
            |c: NativeCallContext, seconds: i64| -> Out<Action> {
                Ok(Action::WaitS(unsigned(&c, "the time", seconds)?))
            },
        )
        .def(
            "snmp_set(values)",
            "Sets values: `snmp_set([integer(\"1.3.6.1.2.1.2.2.1.7.3\", 2)])`.",
            |c: NativeCallContext, values: Array| -> Out<Action> {
                let each = |value: Dynamic| {
                    value.try_cast_result::<Varbind>().map_err(|other| {
                        let message = format!("snmp_set was given {}", name_of(&other));
                        mistake(
                            &c,
                            message,
                            "give it integer(oid, n), octets(oid, text) and the like",
                        )
                    })
                };
                values
                    .into_iter()
                    .map(each)
                    .collect::<Out<Vec<Varbind>>>()
                    .map(Action::SnmpSet)
            },
        )
        .def(
            "integer(oid, number)",
            "An INTEGER to set.",
            |c: NativeCallContext, name: &str, number: i64| -> Out<Varbind> {
                let Ok(number) = i32::try_from(number) else {
                    return Err(mistake(
                        &c,
                        format!("{number} is no INTEGER"),
                        "it has 32 bits",
                    ));
                };
                Ok(Varbind {
                    name: super::snmp::oid(&c, name)?,
                    value: SnmpValue::Integer(number),
                })
            },
        )
        .def(
            "unsigned32(oid, number)",
            "An Unsigned32 or Gauge32 to set.",
            |c: NativeCallContext, name: &str, number: i64| -> Out<Varbind> {
                Ok(Varbind {
                    name: super::snmp::oid(&c, name)?,
                    value: SnmpValue::Unsigned32(unsigned(&c, "the value", number)?),
                })
            },
        )
        .def(
            "octets(oid, text)",
            "An OCTET STRING to set.",
            |c: NativeCallContext, name: &str, text: &str| -> Out<Varbind> {
                let value = SnmpValue::Octets(contract::Octets(text.as_bytes().to_vec()));
                Ok(Varbind {
                    name: super::snmp::oid(&c, name)?,
                    value,
                })
            },
        );
}

fn cli(context: &NativeCallContext, mode: CliMode, commands: &Array) -> Out<Action> {
    let commands = texts(context, "commands", commands)?;
    let bytes = commands.iter().map(String::len).sum();
    call(context, |running| super::rows::taken(running, bytes))?;
    Ok(Action::Cli(CliAction {
        mode,
        expect: vec![None; commands.len()],
        commands,
    }))
}

/// What a script gives as an action.
fn action(context: &NativeCallContext, value: Dynamic) -> Out<Action> {
    let value = match value.try_cast_result::<Action>() {
        Ok(action) => return Ok(action),
        Err(value) => value,
    };
    let value = match value.try_cast_result::<HttpRequest>() {
        Ok(request) => return Ok(Action::Http(request)),
        Err(value) => value,
    };
    value.try_cast_result::<Check>().map(Action::Check).map_err(|other| {
        let message = format!("the action is {}", name_of(&other));
        mistake(context, message, "it is cli([...]), cli_configure([...]), snmp_set([...]), wait(seconds), a request or a check")
    })
}
