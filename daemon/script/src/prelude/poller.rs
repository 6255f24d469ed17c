//! Pollers: questions out, answers in.

use std::sync::Arc;

use contract::{Answer, Ask, Fault, HttpRequest, Kind};
use rhai::{Array, Dynamic, EvalAltResult, NativeCallContext};

use super::declare::texts;
use super::snmp::{Table, Varbinds, oid};
use super::{Out, Prelude, Response, list, mistake, returned};
use crate::convert::name_of;

/// An answer, with what was asked.
#[derive(Clone)]
struct Answered(Arc<(String, Given)>);

enum Given {
    Varbinds(Varbinds),
    Table(Table),
    Text(String),
    Http(Response),
    Error(String),
    Extension(contract::Extension),
}

impl Given {
    fn word(&self) -> &'static str {
        match self {
            Given::Varbinds(_) => "varbinds",
            Given::Table(_) => "table",
            Given::Text(_) => "text",
            Given::Http(_) => "response",
            Given::Error(_) => "error",
            Given::Extension(_) => "json",
        }
    }
}

pub(super) fn answers(answers: Vec<(Ask, Answer)>) -> Dynamic {
    let each = |(ask, answer): (Ask, Answer)| {
        let given = match answer {
            Answer::Snmp(varbinds) => Given::Varbinds(varbinds.into()),
            Answer::SnmpTable(table) => Given::Table(table.into()),
            Answer::Text(text) => Given::Text(text),
            Answer::Http(response) => Given::Http(response.into()),
            Answer::Error(why) => Given::Error(why),
            Answer::Extension(extension) => Given::Extension(extension),
        };
        Dynamic::from(Answered(Arc::new((asked(&ask), given))))
    };
    answers.into_iter().map(each).collect::<Array>().into()
}

/// What was asked, in a line.
fn asked(ask: &Ask) -> String {
    match ask {
        Ask::SnmpGet(oids) => {
            let oids: Vec<String> = oids.iter().map(ToString::to_string).collect();
            format!("snmp_get {}", oids.join(" "))
        }
        Ask::SnmpWalk(oid) => format!("snmp_walk {oid}"),
        Ask::SnmpTable(oid) => format!("snmp_table {oid}"),
        Ask::Cli(command) => format!("cli {command}"),
        Ask::Http(request) => format!("{} {}", request.method, request.url),
        Ask::Extension(extension) => extension.name.clone(),
    }
}

pub(super) fn register(prelude: &mut Prelude) {
    prelude.section(
        "Questions and answers of a poller",
        &[Kind::Poller],
        "`start(device)` returns an array of questions. `resume(device, round, answers)` emits what it reads from the answers, \
         or returns an array of further questions. `answers` is an array in the order of the questions. \
         A request (`get(url)` and the like) is a question as well.",
    );
    prelude
        .name::<Ask>("Question")
        .name::<Answered>("Answer")
        .def(
            "snmp_get(oids)",
            "Asks for values.",
            |c: NativeCallContext, oids: Array| -> Out<Ask> {
                let oids = texts(&c, "snmp_get", &oids)?;
                oids.iter()
                    .map(|text| oid(&c, text))
                    .collect::<Out<_>>()
                    .map(Ask::SnmpGet)
            },
        )
        .def(
            "snmp_walk(oid)",
            "Asks for everything below an object.",
            |c: NativeCallContext, text: &str| -> Out<Ask> { Ok(Ask::SnmpWalk(oid(&c, text)?)) },
        )
        .def(
            "snmp_table(oid)",
            "Asks for a table.",
            |c: NativeCallContext, text: &str| -> Out<Ask> { Ok(Ask::SnmpTable(oid(&c, text)?)) },
        )
        .def(
            "cli(command)",
            "Asks for a command's output.",
            |command: &str| Ask::Cli(command.to_owned()),
        )
        .prop(
            "answer.ask",
            "What was asked, in a line: `snmp_table 1.3.6.1.2.1.2.2`.",
            |a: &mut Answered| a.0.0.clone(),
        )
        .prop(
            "answer.kind",
            "`varbinds`, `table`, `text`, `response`, `json` or `error`.",
            |a: &mut Answered| a.0.1.word(),
        )
        .prop(
            "answer.error",
            "Why there is no answer; `()` if there is one.",
            |a: &mut Answered| -> Dynamic {
                match &a.0.1 {
                    Given::Error(why) => why.clone().into(),
                    _ => Dynamic::UNIT,
                }
            },
        )
        .prop(
            "answer.varbinds",
            "To `snmp_get` and `snmp_walk`.",
            |c: NativeCallContext, a: &mut Answered| -> Out<Varbinds> {
                match &a.0.1 {
                    Given::Varbinds(varbinds) => Ok(varbinds.clone()),
                    _ => Err(other(&c, a, "varbinds")),
                }
            },
        )
        .prop(
            "answer.table",
            "To `snmp_table`.",
            |c: NativeCallContext, a: &mut Answered| -> Out<Table> {
                match &a.0.1 {
                    Given::Table(table) => Ok(table.clone()),
                    _ => Err(other(&c, a, "a table")),
                }
            },
        )
        .prop(
            "answer.text",
            "To `cli`; of a response, its body.",
            |c: NativeCallContext, a: &mut Answered| -> Out<Dynamic> {
                match &a.0.1 {
                    Given::Text(text) => Ok(text.clone().into()),
                    _ => Err(other(&c, a, "text")),
                }
            },
        )
        .prop(
            "answer.response",
            "To a request.",
            |c: NativeCallContext, a: &mut Answered| -> Out<Response> {
                match &a.0.1 {
                    Given::Http(response) => Ok(response.clone()),
                    _ => Err(other(&c, a, "a response")),
                }
            },
        )
        .prop(
            "answer.json",
            "Of something newer than this page, its body.",
            |c: NativeCallContext, a: &mut Answered| -> Out<Dynamic> {
                match &a.0.1 {
                    Given::Extension(extension) => super::input::json(&c, &extension.body),
                    _ => Err(other(&c, a, "JSON")),
                }
            },
        );
}

/// An answer of another sort. That the device did not answer is not the
/// script's mistake.
fn other(context: &NativeCallContext, answer: &Answered, wanted: &str) -> Box<EvalAltResult> {
    let (ask, given) = &*answer.0;
    if let Given::Error(why) = given {
        let said = contract::PluginError::Unavailable(format!("{ask}: {why}"));
        let thrown = Dynamic::from(super::Thrown::Said(said));
        return EvalAltResult::ErrorRuntime(thrown, context.call_position()).into();
    }
    let message = format!("the answer to {ask} is {}, not {wanted}", given.word());
    mistake(context, message, format!("use answer.{}", given.word()))
}

/// The questions that `start` or `resume` returned.
pub(super) fn asks(function: &str, value: Dynamic) -> Result<Vec<Ask>, Fault> {
    let each = |value: Dynamic| {
        match value.try_cast_result::<Ask>() {
        Ok(ask) => Ok(ask),
        Err(value) => value.try_cast_result::<HttpRequest>().map(Ask::Http).map_err(|other| {
            let what = if other.is_unit() { "nothing".to_owned() } else { name_of(&other) };
            let wanted = "an array of questions: snmp_get([...]), snmp_walk(oid), snmp_table(oid), cli(command), get(url)";
            let mut fault = returned(function, &other, wanted);
            fault.message = format!("{function}() returned {what} as a question");
            fault
        }),
    }
    };
    list(value).into_iter().map(each).collect()
}
