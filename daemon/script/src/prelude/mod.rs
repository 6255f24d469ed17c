//! What scripts can use: each function stands beside its documentation, from
//! which the reference is made.

mod declare;
mod host;
mod input;
mod notifier;
mod poller;
mod remediation;
mod rows;
mod rule;
mod snmp;
mod text;

use std::collections::BTreeMap;

use contract::{
    Call, Decision, Failure, Fault, FaultClass, Kind, Next, PluginError, Reply, RuleOutput,
};
use rhai::{
    Array, Dynamic, Engine, EvalAltResult, FuncRegistration, NativeCallContext, Position,
    RhaiNativeFunc, Variant,
};

use crate::convert::name_of;
use crate::running::{self, Ending, Running};

pub(crate) use host::printed;
pub(crate) use notifier::{Response, default_reply};

/// What a function of the prelude returns.
pub(crate) type Out<T> = Result<T, Box<EvalAltResult>>;

/// A part of the reference.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) text: &'static str,
    /// For whom; empty: for all.
    pub(crate) kinds: &'static [Kind],
    pub(crate) entries: Vec<(&'static str, &'static str)>,
}

/// Registers functions with an engine and notes their documentation.
pub(crate) struct Prelude<'a> {
    engine: &'a mut Engine,
    kind: Option<Kind>,
    sections: Vec<Section>,
}

/// Registers everything that `kind` can use; returns the documentation of the
/// whole prelude.
pub(crate) fn register(engine: &mut Engine, kind: Option<Kind>) -> Vec<Section> {
    let mut prelude = Prelude {
        engine,
        kind,
        sections: Vec::new(),
    };
    declare::register(&mut prelude);
    input::register(&mut prelude);
    snmp::register(&mut prelude);
    rows::register(&mut prelude);
    rule::register(&mut prelude);
    notifier::register(&mut prelude);
    remediation::register(&mut prelude);
    poller::register(&mut prelude);
    host::register(&mut prelude);
    text::register(&mut prelude);
    prelude.sections
}

impl Prelude<'_> {
    fn section(&mut self, title: &'static str, kinds: &'static [Kind], text: &'static str) {
        self.sections.push(Section {
            title,
            text,
            kinds,
            entries: Vec::new(),
        });
    }

    fn is_on(&self) -> bool {
        let kinds = self
            .sections
            .last()
            .map_or(&[][..], |section| section.kinds);
        match self.kind {
            Some(kind) => kinds.is_empty() || kinds.contains(&kind),
            None => true,
        }
    }

    fn note(&mut self, signature: &'static str, doc: &'static str) {
        if let Some(section) = self.sections.last_mut() {
            section.entries.push((signature, doc));
        }
    }

    /// A function or a method: `emit(name, value)`, `row.int(column)`.
    fn def<A: 'static, const N: usize, const X: bool, R: Variant + Clone, const F: bool>(
        &mut self,
        signature: &'static str,
        doc: &'static str,
        function: impl RhaiNativeFunc<A, N, X, R, F> + Send + Sync + 'static,
    ) -> &mut Self {
        self.note(signature, doc);
        self.also(signature, function)
    }

    /// The same function for other types.
    fn also<A: 'static, const N: usize, const X: bool, R: Variant + Clone, const F: bool>(
        &mut self,
        signature: &'static str,
        function: impl RhaiNativeFunc<A, N, X, R, F> + Send + Sync + 'static,
    ) -> &mut Self {
        if self.is_on() {
            self.engine.register_fn(name_in(signature), function);
        }
        self
    }

    /// A property: `row.index`.
    fn prop<A: 'static, const X: bool, R: Variant + Clone, const F: bool>(
        &mut self,
        signature: &'static str,
        doc: &'static str,
        function: impl RhaiNativeFunc<A, 1, X, R, F> + Send + Sync + 'static,
    ) -> &mut Self {
        self.note(signature, doc);
        if self.is_on() {
            FuncRegistration::new_getter(name_in(signature))
                .register_into_engine(self.engine, function);
        }
        self
    }

    /// The name of a type in messages.
    fn name<T: Variant + Clone>(&mut self, name: &'static str) -> &mut Self {
        self.engine.register_type_with_name::<T>(name);
        self
    }

    /// Makes `for x in value` possible.
    fn iterable<T>(&mut self) -> &mut Self
    where
        T: Variant + Clone + IntoIterator,
        T::Item: Variant + Clone,
    {
        self.engine.register_iterator::<T>();
        self
    }
}

/// The name that a signature is registered under.
pub(crate) fn name_in(signature: &str) -> &str {
    let call = signature.split('(').next().unwrap_or(signature);
    call.rsplit('.').next().unwrap_or(call)
}

/// What a script throws that is more than a text.
#[derive(Clone, Debug)]
pub(crate) enum Thrown {
    /// What the plugin itself says.
    Said(PluginError),
    /// A mistake that a function of the prelude found.
    Mistake { message: String, hint: String },
}

impl Thrown {
    pub(crate) fn text(&self) -> &str {
        match self {
            Thrown::Said(error) => error.text(),
            Thrown::Mistake { message, .. } => message,
        }
    }
}

/// A mistake of the script's, at the call. A script can catch it.
fn mistake(
    context: &NativeCallContext,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Box<EvalAltResult> {
    let thrown = Thrown::Mistake {
        message: message.into(),
        hint: hint.into(),
    };
    EvalAltResult::ErrorRuntime(Dynamic::from(thrown), context.call_position()).into()
}

/// Ends the call, at this call; a script cannot catch it.
fn end(context: &NativeCallContext, fault: Fault) -> Box<EvalAltResult> {
    let at = (context.call_position(), context.call_level());
    running::current(|running| {
        running.fault = Some(Ending {
            fault,
            at: Some(at),
        });
    });
    EvalAltResult::ErrorTerminated(Dynamic::UNIT, context.call_position()).into()
}

fn bad(message: impl Into<String>) -> Fault {
    Fault::new(FaultClass::BadResult, message)
}

/// Looks at the call, at this call.
fn call<T>(
    context: &NativeCallContext,
    look: impl FnOnce(&mut Running) -> Result<T, Fault>,
) -> Out<T> {
    match running::current(look) {
        Some(Ok(value)) => Ok(value),
        Some(Err(fault)) => Err(end(context, fault)),
        None => Err(mistake(context, "no call is running", "")),
    }
}

/// The arguments of a call, as a script sees them.
pub(crate) struct Arguments {
    pub(crate) function: &'static str,
    pub(crate) values: Vec<Dynamic>,
}

impl Arguments {
    pub(crate) fn none(function: &'static str) -> Arguments {
        Arguments {
            function,
            values: Vec::new(),
        }
    }
}

/// Makes a call's input what a script sees.
pub(crate) fn arguments(call: Call, running: &mut Running) -> Result<Arguments, Failure> {
    let function = call.function();
    let values = match call {
        Call::Describe => Vec::new(),
        Call::Parse(input) => {
            running.at = input.collected_at;
            vec![input::parser(input)]
        }
        Call::Evaluate(input) => {
            running.at = input.at;
            running.state = input.state.clone();
            vec![rule::input(input)?]
        }
        Call::Decide { incident, history } => {
            vec![
                Dynamic::from(remediation::Incident::from(incident)),
                remediation::history(&history),
            ]
        }
        Call::Render(notification) => vec![notifier::notification(notification)],
        Call::Interpret {
            notification,
            response,
        } => {
            let response = Response::from(response);
            running.response = Some(response.clone());
            vec![
                notifier::notification(notification),
                Dynamic::from(response),
            ]
        }
        Call::Start { device } => vec![input::device(device)],
        Call::Resume {
            device,
            round,
            answers,
        } => vec![
            input::device(device),
            i64::from(round).into(),
            poller::answers(answers),
        ],
    };
    Ok(Arguments { function, values })
}

/// What a function did and returned, as a reply.
pub(crate) fn reply(
    kind: Kind,
    function: &str,
    value: Dynamic,
    running: &mut Running,
) -> Result<Reply, Fault> {
    match (function, kind) {
        ("describe", Kind::Parser | Kind::Poller) => Ok(Reply::Metrics(std::mem::take(
            &mut running.declared.metrics,
        ))),
        ("describe", Kind::Rule) => Ok(Reply::Rule(std::mem::take(&mut running.declared.rule))),
        ("parse", _) => Ok(Reply::Output(std::mem::take(&mut running.sink.output))),
        ("evaluate", _) => Ok(Reply::Verdicts(RuleOutput {
            verdicts: std::mem::take(&mut running.verdicts),
            state: std::mem::take(&mut running.state),
        })),
        ("decide", _) => match value.try_cast_result::<Decision>() {
            Ok(decision) => Ok(Reply::Decision(decision)),
            Err(other) => Err(returned(
                "decide",
                &other,
                "a decision: run(plan), resolved(why), give_up(why) or escalate(why)",
            )),
        },
        ("render", _) => Ok(Reply::Requests(notifier::requests(value)?)),
        ("interpret", _) => match value.try_cast_result() {
            Ok(delivery) => Ok(Reply::Delivery(delivery)),
            Err(other) => Err(returned(
                "interpret",
                &other,
                "delivered(), retry_after(seconds) or failed(why)",
            )),
        },
        ("start", _) => Ok(Reply::Asks(poller::asks("start", value)?)),
        ("resume", _) if value.is_array() || value.is::<contract::Ask>() => {
            Ok(Reply::Next(Next::More(poller::asks("resume", value)?)))
        }
        ("resume", _) => Ok(Reply::Next(Next::Done(std::mem::take(
            &mut running.sink.output,
        )))),
        _ => Ok(Reply::Nothing),
    }
}

fn returned(function: &str, value: &Dynamic, wanted: &str) -> Fault {
    bad(format!("{function}() returned {}", name_of(value)))
        .with_hint(format!("it returns {wanted}"))
}

/// One value, or an array of them.
fn list(value: Dynamic) -> Array {
    if value.is_unit() {
        return Array::new();
    }
    match value.try_cast_result::<Array>() {
        Ok(values) => values,
        Err(value) => vec![value],
    }
}

/// The word among `words`, or what may have been meant.
fn word<T: Copy>(
    context: &NativeCallContext,
    what: &str,
    text: &str,
    words: &[(&str, T)],
) -> Out<T> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let all: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
    let message = format!("{text:?} is no {what}");
    Err(mistake(
        context,
        message,
        format!("it is one of {}", all.join(", ")),
    ))
}

const SEVERITIES: [(&str, contract::Severity); 3] = [
    ("info", contract::Severity::Info),
    ("warning", contract::Severity::Warning),
    ("critical", contract::Severity::Critical),
];

fn severity(context: &NativeCallContext, text: &str) -> Out<contract::Severity> {
    word(context, "severity", text, &SEVERITIES)
}

fn severity_word(severity: contract::Severity) -> &'static str {
    let found = SEVERITIES.iter().find(|(_, value)| *value == severity);
    found.map_or("info", |(word, _)| word)
}

/// A map as attributes.
fn attributes(context: &NativeCallContext, map: &rhai::Map) -> Out<Vec<contract::Attr>> {
    let mut attributes = Vec::with_capacity(map.len());
    for (key, value) in map {
        if value.is_unit() {
            continue;
        }
        let Some(text) = crate::convert::label(value) else {
            let message = format!("the value of {key:?} is {}", name_of(value));
            return Err(mistake(context, message, "it is a text or a number"));
        };
        attributes.push((key.to_string(), text));
    }
    Ok(attributes)
}

/// Attributes as a map.
fn attribute_map(attributes: &[contract::Attr]) -> rhai::Map {
    let entry = |(key, value): &contract::Attr| (key.as_str().into(), value.clone().into());
    attributes.iter().map(entry).collect()
}

/// A whole number that the contract has unsigned.
fn unsigned(context: &NativeCallContext, what: &str, number: i64) -> Out<u32> {
    u32::try_from(number).map_err(|_| {
        let message = format!("{what} is {number}");
        mistake(context, message, "it is a whole number from 0")
    })
}

/// Seconds since 1970, as scripts have instants.
#[expect(clippy::cast_possible_wrap, reason = "2^63 seconds do not pass")]
fn seconds(at: contract::Nanos) -> i64 {
    (at.0 / 1_000_000_000) as i64
}

/// The names of everything that is registered, with the numbers of arguments.
pub(crate) fn known(engine: &Engine) -> BTreeMap<String, Vec<usize>> {
    let mut known: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let each =
        |info: rhai::FuncInfo| Some((info.metadata.name.to_string(), info.metadata.num_params));
    for (name, arguments) in engine.collect_fn_metadata(None, each, true) {
        let counts = known.entry(name).or_default();
        if !counts.contains(&arguments) {
            counts.push(arguments);
            counts.sort_unstable();
        }
    }
    known
}

/// Where a position is, if anywhere.
pub(crate) fn line_and_column(at: Position) -> Option<(u32, u32)> {
    let line = u32::try_from(at.line()?).ok()?;
    let column = at
        .position()
        .map_or(0, |column| u32::try_from(column).unwrap_or(0));
    Some((line, column))
}
