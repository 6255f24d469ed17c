//! What each kind of plugin is called with, and what it returns. The words are
//! those of `sdk/wit/v1`, where each is explained.
#![expect(missing_docs, reason = "the words of the WIT, which explains them")]

use serde::{Deserialize, Serialize};

use crate::{
    Attr, Device, Event, Extension, Kind, Nanos, Octets, Oid, Scalar, Series, Severity, SnmpValue,
    Varbind,
};

/// One call of a plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// What a parser, poller or rule is about; of the others, nothing.
    Describe,
    /// Parser.
    Parse(ParserInput),
    /// Rule.
    Evaluate(RuleInput),
    /// Remediation.
    Decide {
        incident: Incident,
        history: Vec<Stage>,
    },
    /// Notifier: words for one notification.
    Render(Notification),
    /// Notifier: what an answer means.
    Interpret {
        notification: Notification,
        response: HttpResponse,
    },
    /// Poller: the first questions.
    Start { device: Device },
    /// Poller: the answers to the last ones.
    Resume {
        device: Device,
        round: u32,
        answers: Vec<(Ask, Answer)>,
    },
}

impl Call {
    /// The kind of plugin that this is for; `None`: any.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Call::Describe => None,
            Call::Parse(_) => Some(Kind::Parser),
            Call::Evaluate(_) => Some(Kind::Rule),
            Call::Decide { .. } => Some(Kind::Remediation),
            Call::Render(_) | Call::Interpret { .. } => Some(Kind::Notifier),
            Call::Start { .. } | Call::Resume { .. } => Some(Kind::Poller),
        }
    }

    /// The name of the exported function.
    #[must_use]
    pub fn function(&self) -> &'static str {
        match self {
            Call::Describe => "describe",
            Call::Parse(_) => "parse",
            Call::Evaluate(_) => "evaluate",
            Call::Decide { .. } => "decide",
            Call::Render(_) => "render",
            Call::Interpret { .. } => "interpret",
            Call::Start { .. } => "start",
            Call::Resume { .. } => "resume",
        }
    }
}

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To `Describe`, of a remediation or a notifier: they have nothing to say.
    Nothing,
    /// To `Describe`, of a parser or poller.
    Metrics(MetricDescriptor),
    /// To `Describe`, of a rule.
    Rule(RuleDescriptor),
    /// To `Parse`.
    Output(Output),
    /// To `Evaluate`.
    Verdicts(RuleOutput),
    /// To `Decide`.
    Decision(Decision),
    /// To `Render`.
    Requests(Vec<HttpRequest>),
    /// To `Interpret`.
    Delivery(Delivery),
    /// To `Start`.
    Asks(Vec<Ask>),
    /// To `Resume`.
    Next(Next),
}

// --- snmp

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Row index arcs.
    pub indexes: Vec<Oid>,
    pub columns: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    pub base: Oid,
    /// Places in [`Table::indexes`], as many as there are cells.
    pub rows: Vec<u32>,
    pub cells: Cells,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cells {
    Ints(Vec<i64>),
    Uints(Vec<u64>),
    Texts(Vec<String>),
    Octets(Vec<Octets>),
    Mixed(Vec<SnmpValue>),
}

impl Cells {
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Cells::Ints(cells) => cells.len(),
            Cells::Uints(cells) => cells.len(),
            Cells::Texts(cells) => cells.len(),
            Cells::Octets(cells) => cells.len(),
            Cells::Mixed(cells) => cells.len(),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

// --- metrics

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    Gauge,
    Counter32,
    Counter64,
    State,
}

impl From<MetricKind> for model::MetricKind {
    fn from(kind: MetricKind) -> model::MetricKind {
        match kind {
            MetricKind::Gauge => model::MetricKind::Gauge,
            MetricKind::Counter32 => model::MetricKind::Counter32,
            MetricKind::Counter64 => model::MetricKind::Counter64,
            MetricKind::State => model::MetricKind::State,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricDesc {
    pub name: String,
    pub kind: MetricKind,
    pub unit: String,
    pub help: String,
    /// Names of the positional label values in [`Row::labels`].
    pub labels: Vec<String>,
    /// Of a state: code and name.
    pub states: Vec<(i64, String)>,
}

/// `metrics.descriptor`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MetricDescriptor {
    pub metrics: Vec<MetricDesc>,
    pub facts: Vec<String>,
    pub events: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub labels: Vec<String>,
    /// (place in [`MetricDescriptor::metrics`], value)
    pub values: Vec<(u32, f64)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    pub key: String,
    pub value: Scalar,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Output {
    pub rows: Vec<Row>,
    pub facts: Vec<Fact>,
    pub events: Vec<Event>,
    pub warnings: Vec<String>,
}

// --- http

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpRequest {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<Octets>,
    pub timeout_ms: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpResponse {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Octets,
}

// --- parser

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SyslogMessage {
    pub facility: u8,
    pub severity: u8,
    pub at: Option<Nanos>,
    pub hostname: String,
    pub app: String,
    pub procid: String,
    pub msgid: String,
    pub structured: Vec<Attr>,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    Snmp(Vec<Varbind>),
    SnmpTable(Table),
    Text(String),
    Json(String),
    Syslog(SyslogMessage),
    Bytes(Octets),
    Extension(Extension),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParserInput {
    pub device: Device,
    /// `snmp:` and the name of a `[[collect]]` of the manifest, or of a
    /// built-in table; `syslog`, `http:...`, `cli:...`.
    pub source: String,
    pub collected_at: Nanos,
    pub payload: Payload,
}

// --- rule

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleSelector {
    pub name: String,
    pub query: String,
    pub window_s: u32,
    pub step_s: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleDescriptor {
    pub selectors: Vec<RuleSelector>,
    pub events: Vec<String>,
    pub interval_s: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleTrigger {
    /// Each selector's name and what it selects now.
    Window(Vec<(String, Vec<Series>)>),
    Event(Event),
    Extension(Extension),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleInput {
    pub rule_id: String,
    pub device: Option<Device>,
    pub at: Nanos,
    pub trigger: RuleTrigger,
    pub state: Octets,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleStatus {
    Ok,
    Pending,
    Firing,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub key: String,
    pub status: RuleStatus,
    pub severity: Severity,
    pub summary: String,
    pub attrs: Vec<Attr>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleOutput {
    pub verdicts: Vec<Verdict>,
    pub state: Octets,
}

// --- remediation

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CliMode {
    Exec,
    Configure,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CliAction {
    pub mode: CliMode,
    pub commands: Vec<String>,
    pub expect: Vec<Option<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    Lt,
    Le,
    Eq,
    Ne,
    Ge,
    Gt,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub query: String,
    pub comparison: Comparison,
    pub threshold: f64,
    pub hold_s: u32,
    pub within_s: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Cli(CliAction),
    Http(HttpRequest),
    SnmpSet(Vec<Varbind>),
    WaitS(u32),
    Check(Check),
    Extension(Extension),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    Abort,
    Proceed,
    Undo,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub id: String,
    pub device_id: String,
    pub title: String,
    pub action: Action,
    pub undo: Option<Action>,
    pub on_failure: OnFailure,
    pub idempotent: bool,
    pub timeout_s: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    ReadOnly,
    Low,
    Medium,
    High,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub summary: String,
    pub risk: Risk,
    pub steps: Vec<Step>,
    pub verify: Vec<Check>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    pub alert_id: String,
    pub rule_id: String,
    pub key: String,
    pub severity: Severity,
    pub since: Nanos,
    pub summary: String,
    pub attrs: Vec<Attr>,
    pub device: Device,
    pub attempt: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    Done,
    Failed(String),
    TimedOut,
    Denied(String),
    Skipped,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepResult {
    pub step_id: String,
    pub outcome: StepOutcome,
    pub output: String,
    pub http: Option<HttpResponse>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    pub plan: Plan,
    pub results: Vec<StepResult>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Run(Plan),
    Resolved(String),
    GiveUp(String),
    Escalate(String),
}

// --- notifier

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Opened,
    Changed,
    Resolved,
    Remediated,
    Test,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    pub id: String,
    pub phase: Phase,
    pub severity: Severity,
    pub at: Nanos,
    pub summary: String,
    pub attrs: Vec<Attr>,
    pub device: Option<Device>,
    pub url: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    Delivered(Option<String>),
    RetryAfterS(u32),
    Failed(String),
}

// --- poller

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    SnmpGet(Vec<Oid>),
    SnmpWalk(Oid),
    SnmpTable(Oid),
    Cli(String),
    Http(HttpRequest),
    Extension(Extension),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Snmp(Vec<Varbind>),
    SnmpTable(Table),
    Text(String),
    Http(HttpResponse),
    Error(String),
    Extension(Extension),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    More(Vec<Ask>),
    Done(Output),
}
