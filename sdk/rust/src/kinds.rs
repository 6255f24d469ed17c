//! The five kinds of plugin: a trait and an `export_...!` each.

use std::borrow::Cow;

use crate::bindings;
use crate::contract::snmp::{Table, Value, Varbind};
use crate::http::{Request, Response};
use crate::json::Json;
use crate::{Attr, Descriptor, Device, Error, Output, Result, Series, Severity, runtime};

/// Reads what was collected.
pub trait Parser {
    /// What it can emit: `descriptor()` of [`metrics!`](crate::metrics), with
    /// facts and events if it has any.
    fn describe() -> Descriptor;

    /// Reads one payload.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from reading it; then nothing of `out` counts.
    fn parse(input: parser::Input, out: &mut Output) -> Result<()>;
}

/// Judges.
pub trait Rule {
    /// What it looks at, and how often.
    fn describe() -> rule::RuleDescriptor;

    /// Judges what its selectors select now. `out` begins with the state that
    /// the last evaluation left.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from judging: the verdict is then `unknown`.
    fn evaluate(input: rule::RuleInput, out: &mut rule::RuleOutput) -> Result<()>;
}

/// Plans repairs.
pub trait Remediation {
    /// What to do about an incident; `history` has the stages done so far.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from deciding: nothing is done then.
    fn decide(
        incident: remediation::Incident,
        history: Vec<remediation::Stage>,
    ) -> Result<remediation::Decision>;
}

/// Words notifications.
pub trait Notifier {
    /// The requests that tell somebody.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from wording them.
    fn render(n: notifier::Notification) -> Result<Vec<Request>>;

    /// What an answer means. By default 2xx is delivered, 429 and 5xx are tried
    /// again, and the rest failed.
    fn interpret(_n: notifier::Notification, answer: Response) -> notifier::Delivery {
        notifier::by_status(&answer)
    }
}

/// Says what to fetch, then reads it.
pub trait Poller {
    /// What it can emit.
    fn describe() -> Descriptor;

    /// The first questions.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from asking.
    fn start(device: Device) -> Result<Vec<poller::Ask>>;

    /// The answers to the last questions, in their order; `round` counts from 1.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from reading them.
    fn resume(
        device: Device,
        round: u32,
        answers: Vec<(poller::Ask, poller::Answer)>,
    ) -> Result<poller::Next>;
}

/// A parser's words.
pub mod parser {
    pub use crate::bindings::parser::exports::sotp::plugin::parser::{
        Input, Payload, SyslogMessage,
    };
}

/// A rule's words.
pub mod rule {
    pub use crate::bindings::rule::exports::sotp::plugin::rule::{
        Descriptor as RuleDescriptor, Input as RuleInput, Output as RuleOutput, Selector, Status,
        Trigger, Verdict,
    };
}

/// A remediation's words.
pub mod remediation {
    pub use crate::bindings::remediation::exports::sotp::plugin::remediation::{
        Action, Check, CliAction, CliMode, Comparison, Decision, Incident, OnFailure, Plan, Risk,
        Stage, Step, StepOutcome, StepResult,
    };
}

/// A notifier's words.
pub mod notifier {
    use crate::http::Response;

    pub use crate::bindings::notifier::exports::sotp::plugin::notifier::{
        Delivery, Notification, Phase,
    };

    /// 2xx is delivered, 429 and 5xx are tried again after `retry-after` or 30
    /// s, and the rest failed.
    #[must_use]
    pub fn by_status(answer: &Response) -> Delivery {
        match answer.status {
            200..=299 => Delivery::Delivered(None),
            429 | 500..=599 => {
                let after = answer.header("retry-after");
                Delivery::RetryAfterS(after.and_then(|s| s.trim().parse().ok()).unwrap_or(30))
            }
            status => {
                let body = String::from_utf8_lossy(&answer.body);
                let body: String = body.chars().take(200).collect();
                Delivery::Failed(format!("answered {status}: {body}"))
            }
        }
    }
}

/// A poller's words.
pub mod poller {
    pub use crate::bindings::poller::exports::sotp::plugin::poller::{Answer, Ask, Next};
}

impl parser::Input {
    /// The table that was collected.
    ///
    /// # Errors
    ///
    /// [`Error::NotMine`] if something else was.
    pub fn table(&self) -> Result<&Table> {
        match &self.payload {
            parser::Payload::SnmpTable(table) => Ok(table),
            _ => Err(self.no("a table")),
        }
    }

    /// The varbinds that were collected.
    ///
    /// # Errors
    ///
    /// [`Error::NotMine`] if something else was.
    pub fn varbinds(&self) -> Result<&[Varbind]> {
        match &self.payload {
            parser::Payload::Snmp(varbinds) => Ok(varbinds),
            _ => Err(self.no("a list of varbinds")),
        }
    }

    /// The value of one object of the varbinds; `None` if the device does not
    /// have it.
    #[must_use]
    pub fn get(&self, oid: &str) -> Option<&Value> {
        crate::snmp::find(self.varbinds().ok()?, oid)
    }

    /// The text that was collected.
    ///
    /// # Errors
    ///
    /// [`Error::NotMine`] if something else was.
    pub fn text(&self) -> Result<&str> {
        match &self.payload {
            parser::Payload::Text(text) => Ok(text),
            _ => Err(self.no("text")),
        }
    }

    /// The JSON that was collected.
    ///
    /// # Errors
    ///
    /// [`Error::NotMine`] if something else was, [`Error::Malformed`] if it is
    /// none.
    pub fn json(&self) -> Result<Json> {
        match &self.payload {
            parser::Payload::Json(text) => Json::parse(text).map_err(Error::Malformed),
            _ => Err(self.no("JSON")),
        }
    }

    /// The message that was received.
    ///
    /// # Errors
    ///
    /// [`Error::NotMine`] if it is something else.
    pub fn syslog(&self) -> Result<&parser::SyslogMessage> {
        match &self.payload {
            parser::Payload::Syslog(message) => Ok(message),
            _ => Err(self.no("a syslog message")),
        }
    }

    fn no(&self, wanted: &str) -> Error {
        Error::NotMine(format!("{} is not {wanted}", self.source))
    }
}

impl Device {
    /// `site`, `kind`, `sys_object_id` and the like.
    #[must_use]
    pub fn attr(&self, key: &str) -> Option<&str> {
        find(&self.attrs, key)
    }
}

impl Series {
    /// The value of a label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        find(&self.labels, name)
    }

    /// The newest value.
    #[must_use]
    pub fn last(&self) -> Option<f64> {
        Some(self.points.last()?.value)
    }

    /// The mean of all points.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let sum: f64 = self.points.iter().map(|point| point.value).sum();
        (!self.points.is_empty()).then(|| sum / self.points.len() as f64)
    }
}

fn find<'a>(attrs: &'a [Attr], key: &str) -> Option<&'a str> {
    let (_, value) = attrs.iter().find(|(k, _)| k == key)?;
    Some(value)
}

impl rule::RuleInput {
    /// What the selector of this name selects.
    #[must_use]
    pub fn window(&self, name: &str) -> &[Series] {
        match &self.trigger {
            rule::Trigger::Window(all) => {
                let found = all.iter().find(|(n, _)| n == name);
                found.map_or(&[], |(_, series)| series)
            }
            _ => &[],
        }
    }

    /// The state that the last evaluation left, as text.
    #[must_use]
    pub fn state_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.state)
    }
}

impl rule::Selector {
    /// What `query` selects within the last `window_s` seconds, a point every
    /// `step_s`.
    #[must_use]
    pub fn new(name: &str, query: &str, window_s: u32, step_s: u32) -> rule::Selector {
        rule::Selector {
            name: name.to_owned(),
            query: query.to_owned(),
            window_s,
            step_s,
        }
    }
}

impl rule::RuleDescriptor {
    /// A rule that is evaluated every `interval_s` seconds.
    #[must_use]
    pub fn every(interval_s: u32, selectors: Vec<rule::Selector>) -> rule::RuleDescriptor {
        rule::RuleDescriptor {
            selectors,
            events: Vec::new(),
            interval_s,
        }
    }
}

impl rule::RuleOutput {
    /// A verdict. The same `key` is the same alert.
    pub fn verdict(
        &mut self,
        key: &str,
        status: rule::Status,
        severity: Severity,
        summary: impl Into<String>,
    ) -> &mut rule::Verdict {
        self.verdicts.push(rule::Verdict {
            key: key.to_owned(),
            status,
            severity,
            summary: summary.into(),
            attrs: Vec::new(),
        });
        let last = self.verdicts.len() - 1;
        &mut self.verdicts[last]
    }
}

impl rule::Verdict {
    /// Adds an attribute.
    pub fn attr(&mut self, key: &str, value: impl Into<String>) -> &mut rule::Verdict {
        self.attrs.push((key.to_owned(), value.into()));
        self
    }
}

impl notifier::Notification {
    /// An attribute of the alert.
    #[must_use]
    pub fn attr(&self, key: &str) -> Option<&str> {
        find(&self.attrs, key)
    }

    /// The device's name, if it is about one.
    #[must_use]
    pub fn hostname(&self) -> Option<&str> {
        Some(&self.device.as_ref()?.hostname)
    }
}

impl remediation::Incident {
    /// An attribute of the alert.
    #[must_use]
    pub fn attr(&self, key: &str) -> Option<&str> {
        find(&self.attrs, key)
    }
}

impl Response {
    /// A header, whatever the case of its name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if it is none.
    pub fn json(&self) -> Result<Json> {
        let text = String::from_utf8_lossy(&self.body);
        Json::parse(&text).map_err(Error::Malformed)
    }
}

impl poller::Answer {
    /// The table that was asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if there is none, with the reason.
    pub fn table(&self) -> Result<&Table> {
        match self {
            poller::Answer::SnmpTable(table) => Ok(table),
            other => Err(other.no("table")),
        }
    }

    /// The varbinds that were asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if there are none, with the reason.
    pub fn varbinds(&self) -> Result<&[Varbind]> {
        match self {
            poller::Answer::Snmp(varbinds) => Ok(varbinds),
            other => Err(other.no("varbinds")),
        }
    }

    /// The value of one object; `None` if the device does not have it.
    #[must_use]
    pub fn get(&self, oid: &str) -> Option<&Value> {
        crate::snmp::find(self.varbinds().ok()?, oid)
    }

    /// The response to a request.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if there is none, with the reason.
    pub fn http(&self) -> Result<&Response> {
        match self {
            poller::Answer::Http(response) => Ok(response),
            other => Err(other.no("response")),
        }
    }

    fn no(&self, wanted: &str) -> Error {
        match self {
            poller::Answer::Error(why) => Error::Unavailable(why.clone()),
            _ => Error::Internal(format!("the answer is no {wanted}")),
        }
    }
}

impl<T: Parser> bindings::parser::exports::sotp::plugin::parser::Guest for T {
    fn describe() -> Descriptor {
        runtime::begin();
        T::describe()
    }

    fn parse(input: parser::Input) -> Result<Output> {
        runtime::begin();
        let mut out = Output::default();
        T::parse(input, &mut out)?;
        Ok(out)
    }
}

impl<T: Rule> bindings::rule::exports::sotp::plugin::rule::Guest for T {
    fn describe() -> rule::RuleDescriptor {
        runtime::begin();
        T::describe()
    }

    fn evaluate(input: rule::RuleInput) -> Result<rule::RuleOutput> {
        runtime::begin();
        let mut out = rule::RuleOutput {
            verdicts: Vec::new(),
            state: input.state.clone(),
        };
        T::evaluate(input, &mut out)?;
        Ok(out)
    }
}

impl<T: Remediation> bindings::remediation::exports::sotp::plugin::remediation::Guest for T {
    fn decide(
        incident: remediation::Incident,
        history: Vec<remediation::Stage>,
    ) -> Result<remediation::Decision> {
        runtime::begin();
        T::decide(incident, history)
    }
}

impl<T: Notifier> bindings::notifier::exports::sotp::plugin::notifier::Guest for T {
    fn render(n: notifier::Notification) -> Result<Vec<Request>> {
        runtime::begin();
        T::render(n)
    }

    fn interpret(n: notifier::Notification, r: Response) -> notifier::Delivery {
        runtime::begin();
        T::interpret(n, r)
    }
}

impl<T: Poller> bindings::poller::exports::sotp::plugin::poller::Guest for T {
    fn describe() -> Descriptor {
        runtime::begin();
        T::describe()
    }

    fn start(device: Device) -> Result<Vec<poller::Ask>> {
        runtime::begin();
        T::start(device)
    }

    fn resume(
        device: Device,
        round: u32,
        answers: Vec<(poller::Ask, poller::Answer)>,
    ) -> Result<poller::Next> {
        runtime::begin();
        T::resume(device, round, answers)
    }
}

/// Makes a type that is a [`Parser`] the plugin. Natively it does nothing, so that
/// `cargo test` links.
#[macro_export]
macro_rules! export_parser {
    ($plugin:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::parser::__export_parser!($plugin with_types_in $crate::bindings::parser);
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            let _ = <$plugin as $crate::Parser>::parse;
        };
    };
}

/// Makes a type that is a [`Rule`] the plugin. Natively it does nothing, so that
/// `cargo test` links.
#[macro_export]
macro_rules! export_rule {
    ($plugin:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::rule::__export_rule!($plugin with_types_in $crate::bindings::rule);
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            let _ = <$plugin as $crate::Rule>::evaluate;
        };
    };
}

/// Makes a type that is a [`Remediation`] the plugin. Natively it does nothing, so that
/// `cargo test` links.
#[macro_export]
macro_rules! export_remediation {
    ($plugin:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::remediation::__export_remediation!($plugin with_types_in $crate::bindings::remediation);
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            let _ = <$plugin as $crate::Remediation>::decide;
        };
    };
}

/// Makes a type that is a [`Notifier`] the plugin. Natively it does nothing, so that
/// `cargo test` links.
#[macro_export]
macro_rules! export_notifier {
    ($plugin:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::notifier::__export_notifier!($plugin with_types_in $crate::bindings::notifier);
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            let _ = <$plugin as $crate::Notifier>::render;
        };
    };
}

/// Makes a type that is a [`Poller`] the plugin. Natively it does nothing, so that
/// `cargo test` links.
#[macro_export]
macro_rules! export_poller {
    ($plugin:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::poller::__export_poller!($plugin with_types_in $crate::bindings::poller);
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            let _ = <$plugin as $crate::Poller>::resume;
        };
    };
}

impl remediation::Plan {
    /// A plan without steps.
    #[must_use]
    pub fn new(summary: impl Into<String>, risk: remediation::Risk) -> remediation::Plan {
        remediation::Plan {
            summary: summary.into(),
            risk,
            steps: Vec::new(),
            verify: Vec::new(),
        }
    }

    /// Adds a step.
    #[must_use]
    pub fn step(mut self, step: remediation::Step) -> remediation::Plan {
        self.steps.push(step);
        self
    }

    /// Adds what must hold in the end.
    #[must_use]
    pub fn check(mut self, check: remediation::Check) -> remediation::Plan {
        self.verify.push(check);
        self
    }
}

impl remediation::Step {
    /// A step on a device: it ends the plan when it fails, has 30 s, and is not
    /// done twice.
    #[must_use]
    pub fn new(
        device_id: &str,
        id: &str,
        title: impl Into<String>,
        action: remediation::Action,
    ) -> remediation::Step {
        remediation::Step {
            id: id.to_owned(),
            device_id: device_id.to_owned(),
            title: title.into(),
            action,
            undo: None,
            on_failure: remediation::OnFailure::Abort,
            idempotent: false,
            timeout_s: 30,
        }
    }

    /// What takes it back; it is taken back when it fails.
    #[must_use]
    pub fn or_undo(mut self, action: remediation::Action) -> remediation::Step {
        self.undo = Some(action);
        self.on_failure = remediation::OnFailure::Undo;
        self
    }
}

impl remediation::Action {
    /// Sets an INTEGER.
    #[must_use]
    pub fn set(oid: &str, number: i32) -> remediation::Action {
        remediation::Action::SnmpSet(vec![Varbind {
            name: crate::oid(oid),
            value: Value::Integer(number),
        }])
    }
}

impl remediation::Check {
    /// A value that must be so, within a minute.
    #[must_use]
    pub fn new(
        query: impl Into<String>,
        comparison: remediation::Comparison,
        threshold: f64,
    ) -> remediation::Check {
        remediation::Check {
            query: query.into(),
            comparison,
            threshold,
            hold_s: 0,
            within_s: 60,
        }
    }
}
