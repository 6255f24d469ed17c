//! A rule as people write it: the same words as in the rules files, as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use model::{
    BUILT_IN_METRICS, Check, Comparison, Condition, DeviceKind, DownAfter, MetricInfo, Rule,
    Selector, Severity, checked_name, metric_info,
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::mistakes::{Mistakes, Object, did_you_mean};
use crate::span;

/// A note is a line or two in a mail.
const NOTE_BYTES: usize = 1_000;

/// Names in one list of a rule; more are better told by a tag.
const NAMES: usize = 1_000;

/// A series has a handful of labels.
const LABELS: usize = 16;

/// The longest value of a label: an ifDescr has 255 characters (RFC 1213).
const LABEL_BYTES: usize = 255;

/// Silent rounds that a rule can wait for.
const ROUNDS: RangeInclusive<u64> = 1..=1_000;

const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The fields of a rule.
pub(crate) const FIELDS: [&str; 7] = [
    "name",
    "severity",
    "enabled",
    "note",
    "match",
    "availability",
    "threshold",
];

const MATCH_FIELDS: [&str; 4] = ["devices", "sites", "kinds", "tags"];

const AVAILABILITY_FIELDS: [&str; 3] = ["check", "rounds", "for"];

/// Each comparison with the field that stands for it.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("above", Comparison::Above),
    ("at_least", Comparison::AtLeast),
    ("below", Comparison::Below),
    ("at_most", Comparison::AtMost),
    ("equals", Comparison::Equal),
    ("not_equals", Comparison::NotEqual),
];

const THRESHOLD_FIELDS: [&str; 10] = [
    "metric",
    "labels",
    "above",
    "at_least",
    "below",
    "at_most",
    "equals",
    "not_equals",
    "for",
    "clear",
];

/// What counts as a fault: either `availability` or `threshold`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuleBody {
    /// Unique; in the body of PUT it may be left out.
    name: String,
    /// info, warning or critical.
    severity: &'static str,
    /// Judged at all; by default yes.
    #[schema(required = false)]
    enabled: bool,
    /// Told together with the fault.
    note: Option<String>,
    /// Which devices; by default all.
    #[serde(rename = "match")]
    #[schema(required = false)]
    selector: MatchBody,
    /// The device does not answer.
    availability: Option<AvailabilityBody>,
    /// A value is beyond a limit.
    threshold: Option<ThresholdBody>,
}

/// Which devices a rule judges: those that meet every list that is not empty.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MatchBody {
    /// One of these names.
    #[schema(required = false)]
    devices: Vec<String>,
    /// At one of these sites.
    #[schema(required = false)]
    sites: Vec<String>,
    /// Of one of these kinds.
    #[schema(required = false)]
    kinds: Vec<&'static str>,
    /// With at least one of these tags.
    #[schema(required = false)]
    tags: Vec<String>,
}

/// How long a device has to be silent: either `rounds` or `for`.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct AvailabilityBody {
    /// icmp or snmp.
    check: &'static str,
    /// That many rounds in a row.
    rounds: Option<u32>,
    /// That long, such as "90s".
    #[serde(rename = "for")]
    hold: Option<String>,
}

/// Which value, and beyond what: exactly one comparison.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct ThresholdBody {
    /// The metric's name; a counter is judged by its increase per second.
    metric: String,
    /// Only series that carry all of these labels.
    #[schema(required = false)]
    labels: BTreeMap<String, String>,
    above: Option<f64>,
    at_least: Option<f64>,
    below: Option<f64>,
    at_most: Option<f64>,
    equals: Option<f64>,
    not_equals: Option<f64>,
    /// That long without a break, such as "5m"; by default at once.
    #[serde(rename = "for")]
    hold: Option<String>,
    /// An alert is over only once the value is back at this.
    clear: Option<f64>,
}

impl RuleBody {
    /// `rule` as people would write it.
    pub(crate) fn of(rule: &Rule) -> RuleBody {
        let (availability, threshold) = match &rule.condition {
            Condition::Availability { check, after } => (Some(silence(*check, *after)), None),
            Condition::Threshold { .. } => (None, Some(limit(&rule.condition))),
            Condition::Plugin { .. } => (None, None),
        };
        let names = |names: &BTreeSet<String>| names.iter().cloned().collect();
        RuleBody {
            name: rule.name.0.clone(),
            severity: rule.severity.word(),
            enabled: rule.enabled,
            note: rule.note.clone(),
            selector: MatchBody {
                devices: names(&rule.selector.devices),
                sites: names(&rule.selector.sites),
                kinds: rule.selector.kinds.iter().map(|kind| kind.word()).collect(),
                tags: names(&rule.selector.tags),
            },
            availability,
            threshold,
        }
    }
}

fn silence(check: Check, after: DownAfter) -> AvailabilityBody {
    let (rounds, hold) = match after {
        DownAfter::Rounds(rounds) => (Some(rounds), None),
        DownAfter::Span(span) => (None, Some(span::write(span))),
    };
    AvailabilityBody {
        check: check.word(),
        rounds,
        hold,
    }
}

fn limit(condition: &Condition) -> ThresholdBody {
    let Condition::Threshold {
        metric,
        labels,
        comparison,
        limit,
        hold,
        clear,
    } = condition
    else {
        return ThresholdBody::default();
    };
    let only = |wanted| (*comparison == wanted).then_some(*limit);
    ThresholdBody {
        metric: metric.clone(),
        labels: labels.clone(),
        above: only(Comparison::Above),
        at_least: only(Comparison::AtLeast),
        below: only(Comparison::Below),
        at_most: only(Comparison::AtMost),
        equals: only(Comparison::Equal),
        not_equals: only(Comparison::NotEqual),
        hold: (!hold.is_zero()).then(|| span::write(*hold)),
        clear: *clear,
    }
}

/// What a rule's body says.
pub(crate) struct RuleDraft {
    /// `None` where the body leaves it to the path.
    pub(crate) name: Option<String>,
    pub(crate) severity: Severity,
    pub(crate) enabled: bool,
    pub(crate) note: Option<String>,
    pub(crate) selector: Selector,
    pub(crate) condition: Condition,
}

/// Reads a rule. What is returned is worth something only if there was no
/// mistake.
pub(crate) fn read(value: &Value, mistakes: &Mistakes) -> Option<RuleDraft> {
    let body = Object::read(value, "", &FIELDS, mistakes)?;
    let name = body.text("name");
    if let Some(Err(why)) = name.map(checked_name) {
        body.wrong("name", why.to_string());
    }
    if !body.has("severity") {
        body.wrong("severity", "severity is missing");
    }
    let words = ["info", "warning", "critical"];
    let severity = body.word("severity", &words, Severity::from_word);
    let note = read_note(&body);
    let selector = read_match(&body);
    let condition = read_condition(&body);
    Some(RuleDraft {
        name: name.map(str::to_owned),
        severity: severity?,
        enabled: body.flag("enabled").unwrap_or(true),
        note,
        selector,
        condition: condition?,
    })
}

fn read_note(body: &Object<'_>) -> Option<String> {
    let note = body.text("note").filter(|note| !note.is_empty())?;
    if note.len() > NOTE_BYTES {
        body.wrong("note", format!("a note has at most {NOTE_BYTES} bytes"));
    }
    if note.chars().any(char::is_control) {
        body.wrong("note", "a note is one line without control characters");
    }
    Some(note.to_owned())
}

fn read_match(body: &Object<'_>) -> Selector {
    let Some(parts) = body.object("match", &MATCH_FIELDS) else {
        return Selector::default();
    };
    Selector {
        devices: read_names(&parts, "devices"),
        sites: read_names(&parts, "sites"),
        kinds: read_kinds(&parts),
        tags: read_names(&parts, "tags"),
    }
}

fn read_names(body: &Object<'_>, field: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (pointer, name) in body.texts(field, NAMES) {
        if let Err(why) = checked_name(&name) {
            body.mistakes().at(&pointer, why.to_string());
        }
        names.insert(name);
    }
    names
}

fn read_kinds(body: &Object<'_>) -> BTreeSet<DeviceKind> {
    let known = DeviceKind::ALL.map(|(_, word)| word);
    let mut kinds = BTreeSet::new();
    for (pointer, word) in body.texts("kinds", NAMES) {
        match DeviceKind::from_word(&word) {
            Some(kind) => {
                kinds.insert(kind);
            }
            None => body.mistakes().at(
                &pointer,
                format!("unknown kind {word:?}: {}", did_you_mean(&word, &known)),
            ),
        }
    }
    kinds
}

fn read_condition(body: &Object<'_>) -> Option<Condition> {
    match (body.has("availability"), body.has("threshold")) {
        (true, true) => body.wrong(
            "threshold",
            "there is an availability, too; keep one of them and make two rules",
        ),
        (false, false) => body.mistakes().at(
            "",
            "the rule says nowhere what a fault is; add availability or threshold",
        ),
        _ => {}
    }
    let availability = body
        .object("availability", &AVAILABILITY_FIELDS)
        .and_then(|body| read_availability(&body));
    let threshold = body
        .object("threshold", &THRESHOLD_FIELDS)
        .and_then(|body| read_threshold(&body));
    availability.or(threshold)
}

fn read_availability(body: &Object<'_>) -> Option<Condition> {
    if !body.has("check") {
        body.wrong("check", "check is missing: icmp or snmp");
    }
    let words = Check::ALL.map(Check::word);
    let check = body.word("check", &words, |word| {
        Check::ALL.into_iter().find(|check| check.word() == word)
    });
    let rounds = body.whole("rounds", ROUNDS);
    let hold = body.span("for", Duration::from_secs(1)..=WEEK);
    match (body.has("rounds"), body.has("for")) {
        (true, true) => body.wrong("for", "there is rounds, too; keep one of rounds and for"),
        (false, false) => body.wrong(
            "rounds",
            "nothing says how long a device has to be silent; add rounds, or for",
        ),
        _ => {}
    }
    let rounds = rounds.and_then(|rounds| u32::try_from(rounds).ok());
    let after = rounds
        .map(DownAfter::Rounds)
        .or(hold.map(DownAfter::Span))?;
    Some(Condition::Availability {
        check: check?,
        after,
    })
}

fn read_threshold(body: &Object<'_>) -> Option<Condition> {
    let metric = read_metric(body);
    let labels = read_labels(body);
    let limit = read_limit(body);
    let hold = body.span("for", Duration::ZERO..=WEEK).unwrap_or_default();
    let clear = body.number("clear");
    let (field, comparison, limit) = limit?;
    if let Some(why) = metric.and_then(|metric| decides_nothing(metric, comparison, limit)) {
        body.wrong(field, why);
    }
    if let Some(why) = clear.and_then(|clear| wrong_side(comparison, limit, clear)) {
        body.wrong("clear", why);
    }
    Some(Condition::Threshold {
        metric: metric?.name.to_owned(),
        labels,
        comparison,
        limit,
        hold,
        clear,
    })
}

fn read_metric(body: &Object<'_>) -> Option<&'static MetricInfo> {
    let name = body.required_text("metric")?;
    let metric = metric_info(name);
    if metric.is_none() {
        let known: Vec<&str> = BUILT_IN_METRICS.iter().map(|metric| metric.name).collect();
        let hint = did_you_mean(name, &known);
        body.wrong("metric", format!("there is no metric {name:?}: {hint}"));
    }
    metric
}

fn read_labels(body: &Object<'_>) -> BTreeMap<String, String> {
    let labels = body.map("labels", LABELS);
    if labels.iter().any(|(_, value)| value.len() > LABEL_BYTES) {
        body.wrong("labels", format!("a label has at most {LABEL_BYTES} bytes"));
    }
    labels
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The one comparison that the body has.
fn read_limit(body: &Object<'_>) -> Option<(&'static str, Comparison, f64)> {
    let mut given = COMPARISONS.into_iter().filter(|(field, _)| body.has(field));
    let Some((field, comparison)) = given.next() else {
        let fields = COMPARISONS.map(|(field, _)| field).join(", ");
        body.wrong("above", format!("there is no limit; add one of {fields}"));
        return None;
    };
    for (another, _) in given {
        body.wrong(another, format!("there is {field}, too; keep one of them"));
    }
    Some((field, comparison, body.number(field)?))
}

/// Why a limit is beyond every value of `metric`, or none.
fn decides_nothing(metric: &MetricInfo, comparison: Comparison, limit: f64) -> Option<String> {
    let largest = match metric.unit {
        "ratio" => Some(1.0),
        "percent" => Some(100.0),
        _ => None,
    };
    let name = metric.name;
    if limit < 0.0 {
        return Some(format!("{limit} is below every value of {name}"));
    }
    if let Some(largest) = largest.filter(|largest| limit > *largest) {
        return Some(format!(
            "{limit} is above every value of {name}: it runs from 0 to {largest}"
        ));
    }
    let is_largest = largest.is_some_and(|largest| largest <= limit);
    let when = match comparison {
        Comparison::Above if is_largest => "never",
        Comparison::AtMost if is_largest => "always",
        Comparison::AtLeast if limit <= 0.0 => "always",
        Comparison::Below if limit <= 0.0 => "never",
        _ => return None,
    };
    Some(format!(
        "{name} is {when} {} {limit}; choose another limit or comparison",
        comparison.sign()
    ))
}

/// Why an alert that begins has passed `clear` already.
fn wrong_side(comparison: Comparison, limit: f64, clear: f64) -> Option<String> {
    let side = match comparison {
        Comparison::Above | Comparison::AtLeast if clear > limit => "at most",
        Comparison::Below | Comparison::AtMost if clear < limit => "at least",
        Comparison::Equal | Comparison::NotEqual => {
            return Some("a state is equal or not: leave clear out".to_owned());
        }
        _ => return None,
    };
    Some(format!(
        "{clear} is on the wrong side of the limit: an alert is over once the value is back, so {side} {limit}"
    ))
}
