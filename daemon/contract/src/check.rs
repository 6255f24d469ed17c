//! Whether a plugin keeps the contract. Nothing that it returns is believed
//! before it was looked at here; a result that breaks a rule is dropped as a
//! whole, and the fault names the rule, the place and the value.

use std::collections::BTreeSet;

use crate::limits::STATE_BYTES;
use crate::{
    Ask, Decision, Fault, FaultClass, HttpRequest, MetricDescriptor, Next, Output, Plan, Reply,
    Row, RuleDescriptor, RuleOutput, Scalar,
};

/// Metrics that a plugin may describe.
pub const METRICS: usize = 1_000;
/// Labels of a metric.
pub const LABELS: usize = 16;
/// Bytes of a label's value.
pub const LABEL_BYTES: usize = 256;
/// Values of one result.
pub const VALUES: usize = 50_000;
/// Facts, events or warnings of one result.
pub const NOTES: usize = 1_000;
/// Bytes of a text that people read.
pub const TEXT_BYTES: usize = 4_096;
/// Verdicts of one result.
pub const VERDICTS: usize = 1_000;
/// Steps of a plan.
pub const STEPS: usize = 64;
/// Requests of one notification.
pub const REQUESTS: usize = 32;
/// Questions of a poller at once.
pub const ASKS: usize = 64;
/// Bytes of a name.
const NAME_BYTES: usize = 200;

/// Labels that the inventory gives to every series: a plugin that could set
/// them could pass off one device's values as another's.
pub const RESERVED_LABELS: [&str; 5] = ["device", "id", "site", "tenant", "tag"];

fn bad(message: impl Into<String>) -> Fault {
    Fault::new(FaultClass::BadResult, message)
}

fn at_most(count: usize, limit: usize, what: &str) -> Result<(), Fault> {
    if count <= limit {
        return Ok(());
    }
    Err(bad(format!("{count} {what}: at most {limit} are allowed")))
}

fn text(text: &str, what: &str) -> Result<(), Fault> {
    at_most(text.len(), TEXT_BYTES, &format!("bytes of {what}"))
}

fn names(names: &[String], what: &str) -> Result<(), Fault> {
    let mut names = names.iter();
    names.try_for_each(|name| at_most(name.len(), NAME_BYTES, &format!("bytes of {what}")))
}

fn is_metric_name(name: &str) -> bool {
    let mut letters = name.chars();
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    letters.next().is_some_and(first)
        && letters.all(|c| first(c) || c.is_ascii_digit())
        && name.len() <= NAME_BYTES
}

fn is_label_name(name: &str) -> bool {
    is_metric_name(name) && !name.contains(':') && !name.starts_with("__")
}

/// Whether a parser's or poller's description is one.
///
/// # Errors
///
/// Names the first rule that it breaks.
pub fn metrics(descriptor: &MetricDescriptor) -> Result<(), Fault> {
    at_most(descriptor.metrics.len(), METRICS, "metrics")?;
    at_most(descriptor.facts.len(), NOTES, "names of facts")?;
    names(&descriptor.facts, "a fact's name")?;
    at_most(descriptor.events.len(), NOTES, "names of events")?;
    names(&descriptor.events, "an event's name")?;
    let mut seen = BTreeSet::new();
    for metric in &descriptor.metrics {
        let name = &metric.name;
        if !is_metric_name(name) {
            return Err(bad(format!("{name:?} is no name of a metric"))
                .with_hint("letters, digits and _, as Prometheus has them: mikrotik_fan_rpm"));
        }
        if model::metric_info(name).is_some() {
            return Err(bad(format!("{name} is measured by the daemon itself"))
                .with_hint("give the metric a name that begins with the vendor's"));
        }
        if !seen.insert(name) {
            return Err(bad(format!("the metric {name} is described twice")));
        }
        text(&metric.help, "help")?;
        text(&metric.unit, "a unit")?;
        at_most(metric.labels.len(), LABELS, "labels")?;
        at_most(metric.states.len(), NOTES, "states")?;
        let mut labels = BTreeSet::new();
        for label in &metric.labels {
            if !is_label_name(label) {
                return Err(bad(format!("{label:?} of {name} is no name of a label")));
            }
            if RESERVED_LABELS.contains(&label.as_str()) {
                return Err(bad(format!(
                    "{name} has the label {label}, which the inventory sets"
                )));
            }
            if !labels.insert(label) {
                return Err(bad(format!("{name} has the label {label} twice")));
            }
        }
    }
    Ok(())
}

/// Whether a rule's description is one.
///
/// # Errors
///
/// Names the first rule that it breaks.
pub fn rule(descriptor: &RuleDescriptor) -> Result<(), Fault> {
    at_most(descriptor.selectors.len(), REQUESTS, "selectors")?;
    at_most(descriptor.events.len(), NOTES, "names of events")?;
    names(&descriptor.events, "an event's name")?;
    if !(5..=86_400).contains(&descriptor.interval_s) {
        return Err(bad(format!(
            "an interval of {} s: it is 5 to 86400",
            descriptor.interval_s
        )));
    }
    for selector in &descriptor.selectors {
        text(&selector.query, "a query")?;
        if selector.window_s == 0 || selector.window_s > 31 * 86_400 {
            return Err(bad(format!(
                "the window of the selector {:?} is {} s: it is 1 s to 31 days",
                selector.name, selector.window_s
            )));
        }
    }
    Ok(())
}

/// Whether what a parser or poller read is what it described.
///
/// # Errors
///
/// Names the first rule that it breaks.
pub fn output(descriptor: &MetricDescriptor, output: &Output) -> Result<(), Fault> {
    let values = output.rows.iter().map(|row| row.values.len()).sum();
    at_most(values, VALUES, "values")?;
    at_most(output.rows.len(), VALUES, "rows")?;
    at_most(output.facts.len(), NOTES, "facts")?;
    at_most(output.events.len(), NOTES, "events")?;
    at_most(output.warnings.len(), NOTES, "warnings")?;
    for (place, row) in output.rows.iter().enumerate() {
        one_row(descriptor, place, row)?;
    }
    for fact in &output.facts {
        if !descriptor.facts.contains(&fact.key) {
            return Err(bad(format!("the fact {:?} was not described", fact.key)));
        }
        match &fact.value {
            Scalar::Text(value) => text(value, "a fact")?,
            Scalar::Bytes(value) => at_most(value.0.len(), TEXT_BYTES, "bytes of a fact")?,
            Scalar::Boolean(_) | Scalar::Int(_) | Scalar::Uint(_) | Scalar::Float(_) => {}
        }
    }
    for event in &output.events {
        if !descriptor.events.contains(&event.kind) {
            return Err(bad(format!("the event {:?} was not described", event.kind)));
        }
        text(&event.message, "an event")?;
    }
    output
        .warnings
        .iter()
        .try_for_each(|w| text(w, "a warning"))
}

fn one_row(descriptor: &MetricDescriptor, place: usize, row: &Row) -> Result<(), Fault> {
    for (metric, value) in &row.values {
        let Some(metric) = descriptor.metrics.get(*metric as usize) else {
            return Err(bad(format!(
                "row {place} has a value of metric number {metric}; {} are described",
                descriptor.metrics.len()
            )));
        };
        if metric.labels.len() != row.labels.len() {
            return Err(bad(format!(
                "row {place} has {} label values; {} has the labels {:?}",
                row.labels.len(),
                metric.name,
                metric.labels
            )));
        }
        if !value.is_finite() {
            return Err(bad(format!("row {place}: {} is {value}", metric.name))
                .with_hint("leave out what was not measured"));
        }
    }
    for label in &row.labels {
        if label.len() > LABEL_BYTES {
            return Err(bad(format!(
                "row {place} has a label value of {} bytes: at most {LABEL_BYTES} are allowed",
                label.len()
            )));
        }
    }
    Ok(())
}

/// Whether a rule's verdicts are.
///
/// # Errors
///
/// Names the first rule that they break.
pub fn verdicts(output: &RuleOutput) -> Result<(), Fault> {
    at_most(output.verdicts.len(), VERDICTS, "verdicts")?;
    at_most(output.state.0.len(), STATE_BYTES, "bytes of state")?;
    let mut keys = BTreeSet::new();
    for verdict in &output.verdicts {
        at_most(verdict.key.len(), LABEL_BYTES, "bytes of a key")?;
        text(&verdict.summary, "a summary")?;
        at_most(verdict.attrs.len(), NOTES, "attributes")?;
        if !keys.insert(&verdict.key) {
            return Err(bad(format!("two verdicts have the key {:?}", verdict.key)));
        }
    }
    Ok(())
}

fn plan(plan: &Plan) -> Result<(), Fault> {
    at_most(plan.steps.len(), STEPS, "steps")?;
    at_most(plan.verify.len(), STEPS, "checks")?;
    text(&plan.summary, "a summary")?;
    let mut ids = BTreeSet::new();
    for step in &plan.steps {
        text(&step.title, "a title")?;
        if !ids.insert(&step.id) {
            return Err(bad(format!("two steps are called {:?}", step.id)));
        }
    }
    Ok(())
}

fn requests(requests: &[HttpRequest]) -> Result<(), Fault> {
    at_most(requests.len(), REQUESTS, "requests")
}

fn asks(asks: &[Ask]) -> Result<(), Fault> {
    at_most(asks.len(), ASKS, "questions")
}

/// Whether `reply` keeps the contract, as far as that can be said without what
/// the plugin described; [`output`] says the rest.
///
/// # Errors
///
/// Names the first rule that it breaks.
pub fn reply(reply: &Reply) -> Result<(), Fault> {
    match reply {
        Reply::Nothing | Reply::Delivery(_) | Reply::Output(_) | Reply::Next(Next::Done(_)) => {
            Ok(())
        }
        Reply::Metrics(descriptor) => metrics(descriptor),
        Reply::Rule(descriptor) => rule(descriptor),
        Reply::Verdicts(output) => verdicts(output),
        Reply::Decision(Decision::Run(to_run)) => plan(to_run),
        Reply::Decision(
            Decision::Resolved(why) | Decision::GiveUp(why) | Decision::Escalate(why),
        ) => text(why, "a reason"),
        Reply::Requests(list) => requests(list),
        Reply::Asks(list) | Reply::Next(Next::More(list)) => asks(list),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fact, MetricDesc, MetricKind, Octets};

    fn descriptor() -> MetricDescriptor {
        let metric = |name: &str, labels: &[&str]| MetricDesc {
            name: name.to_owned(),
            kind: MetricKind::Gauge,
            unit: String::new(),
            help: "a test".to_owned(),
            labels: labels.iter().map(|l| (*l).to_owned()).collect(),
            states: Vec::new(),
        };
        MetricDescriptor {
            metrics: vec![metric("acme_one", &[]), metric("acme_many", &["fan"])],
            facts: vec!["serial".to_owned()],
            events: Vec::new(),
        }
    }

    fn said(labels: &[&str], values: &[(u32, f64)]) -> String {
        let row = Row {
            labels: labels.iter().map(|l| (*l).to_owned()).collect(),
            values: values.to_vec(),
        };
        let read = Output {
            rows: vec![row],
            ..Output::default()
        };
        output(&descriptor(), &read).map_or_else(|fault| fault.message, |()| "fine".to_owned())
    }

    #[test]
    fn a_row_has_the_labels_that_were_described_and_finite_values() {
        assert_eq!(said(&[], &[(0, 1.0)]), "fine");
        assert_eq!(said(&["1"], &[(1, 1.0)]), "fine");
        assert_eq!(said(&[], &[(0, f64::NAN)]), "row 0: acme_one is NaN");
        assert!(said(&["1"], &[(0, 1.0)]).contains("has 1 label values"));
        assert!(said(&[], &[(7, 1.0)]).contains("metric number 7"));
        assert!(said(&["x".repeat(257).as_str()], &[(1, 1.0)]).contains("257 bytes"));
        let many = vec![(0, 1.0); VALUES + 1];
        assert!(said(&[], &many).contains("50001 values"));
    }

    #[test]
    fn a_metric_neither_passes_for_a_built_in_one_nor_lies_about_its_device() {
        let changed = |change: &dyn Fn(&mut MetricDesc)| {
            let mut descriptor = descriptor();
            change(&mut descriptor.metrics[1]);
            metrics(&descriptor).unwrap_err().message
        };
        assert!(changed(&|m| m.name = "icmp_up".to_owned()).contains("by the daemon itself"));
        for label in ["device", "id", "site", "tenant", "tag"] {
            assert!(changed(&|m| m.labels[0] = label.to_owned()).contains("inventory sets"));
        }
        assert!(changed(&|m| m.name = "acme one".to_owned()).contains("no name of a metric"));
        assert!(changed(&|m| m.name = "acme_one".to_owned()).contains("twice"));
    }

    #[test]
    fn a_fact_is_small_whatever_it_is_made_of() {
        let read = |value: Scalar| {
            let key = "serial".to_owned();
            let read = Output {
                facts: vec![Fact { key, value }],
                ..Output::default()
            };
            output(&descriptor(), &read).map_err(|fault| fault.message)
        };
        let text = |bytes: usize| Scalar::Text("x".repeat(bytes));
        let bytes = |bytes: usize| Scalar::Bytes(Octets(vec![0; bytes]));
        assert_eq!(read(text(TEXT_BYTES)), Ok(()));
        assert_eq!(read(bytes(TEXT_BYTES)), Ok(()));
        assert!(read(text(TEXT_BYTES + 1)).is_err());
        assert!(read(bytes(TEXT_BYTES + 1)).is_err());
    }

    #[test]
    fn the_names_of_facts_and_events_are_short() {
        let (longest, too_long) = ("x".repeat(NAME_BYTES), "x".repeat(NAME_BYTES + 1));
        let described = |facts: &[&String], events: &[&String]| {
            let owned = |names: &[&String]| names.iter().map(|name| (*name).clone()).collect();
            metrics(&MetricDescriptor {
                facts: owned(facts),
                events: owned(events),
                ..descriptor()
            })
        };
        assert!(described(&[&longest], &[&longest]).is_ok());
        assert!(described(&[&too_long], &[]).is_err());
        assert!(described(&[], &[&too_long]).is_err());
    }
}
