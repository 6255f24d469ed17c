//! What a mail says: a delivery's facts as the words that templates put in
//! place. Pure.
//!
//! Everything here is one line that is safe to show ([`crate::safe`]); only the
//! note has several. What a template can use is listed in
//! `etc/templates/README.md`.

use std::time::Duration;

use jiff::tz::TimeZone;
use minijinja::{Value, context};
use model::{
    Alert, Check, Comparison, Condition, Delivery, MetricInfo, NotificationEvent, Rule, Severity,
    Timestamp, metric_info,
};

use crate::safe;

/// Names of things: longer ones are cut.
const NAME_CHARS: usize = 80;
/// The line that says what is wrong.
const SUMMARY_CHARS: usize = 300;
/// Addresses, sites, label values.
const FACT_CHARS: usize = 200;
/// Devices that are named; the others are counted.
const NAMED_DEVICES: usize = 20;
/// Labels that are shown; a series has a handful.
const LABELS: usize = 16;
/// A note is a few sentences and links; a runbook stands elsewhere.
const NOTE_LINES: usize = 30;
const NOTE_CHARS: usize = 500;

/// The words for `delivery`. `rule` is the alert's rule as it is now; `host`
/// the machine that tells.
pub(crate) fn words(
    delivery: &Delivery,
    rule: Option<&Rule>,
    zone: &TimeZone,
    host: &str,
) -> Value {
    let common = context! {
        event => delivery.event.word(),
        word => word(delivery),
        colour => colour(delivery),
        host => host,
        created => moment(delivery.created, zone),
        delivery_id => delivery.id.0,
    };
    match &delivery.alert {
        Some(alert) => {
            let rule = rule.filter(|rule| rule.name == alert.rule);
            context! { alert => alert_words(delivery, alert, rule, zone), ..common }
        }
        None => context! { alert => Value::from(()), ..common },
    }
}

/// The word that stands first: how bad it is, or that it is over.
pub(crate) fn word(delivery: &Delivery) -> &'static str {
    match (delivery.event, &delivery.alert) {
        (NotificationEvent::Test, _) | (_, None) => "TEST",
        (NotificationEvent::Resolved, Some(_)) => "RESOLVED",
        (NotificationEvent::Firing, Some(alert)) => match alert.severity {
            Severity::Critical => "CRITICAL",
            Severity::Warning => "WARNING",
            Severity::Info => "INFO",
        },
    }
}

/// The word's colour: white text on it has a contrast of at least 4.5 to 1
/// (WCAG 2.1 §1.4.3). It never stands without the word.
fn colour(delivery: &Delivery) -> &'static str {
    match word(delivery) {
        "CRITICAL" => "#b3261e",
        "WARNING" => "#8a5300",
        "INFO" => "#0b57d0",
        "RESOLVED" => "#18713a",
        _ => "#5f6368",
    }
}

fn alert_words(delivery: &Delivery, alert: &Alert, rule: Option<&Rule>, zone: &TimeZone) -> Value {
    let device = safe::one_line(&alert.device_name, NAME_CHARS);
    let summary = safe::one_line(&alert.summary, SUMMARY_CHARS);
    let headline = headline(&device, &summary, rule);
    let labels: Vec<Value> = alert
        .labels
        .iter()
        .take(LABELS)
        .map(|(name, value)| {
            context! {
                name => safe::one_line(name, NAME_CHARS),
                value => safe::one_line(value, FACT_CHARS),
            }
        })
        .collect();
    let behind: Vec<String> = delivery
        .behind
        .iter()
        .take(NAMED_DEVICES)
        .map(|name| safe::one_line(name, NAME_CHARS))
        .collect();
    let ended = (delivery.event == NotificationEvent::Resolved)
        .then_some(alert.resolved)
        .flatten();
    let metric = rule.and_then(metric_of);
    context! {
        id => alert.id.0,
        severity => alert.severity.word(),
        rule => safe::one_line(&alert.rule.0, NAME_CHARS),
        details => Some(&summary).filter(|summary| !headline.contains(summary.as_str())),
        headline => headline,
        device => device,
        device_id => alert.device.0,
        place => safe::one_line(&delivery.place, FACT_CHARS),
        labels => labels,
        since => moment(alert.since, zone),
        fired => alert.fired.map(|at| moment(at, zone)),
        resolved => ended.map(|at| moment(at, zone)),
        lasted => ended.map(|at| span(at.since(alert.since))),
        value => alert.value.map(|value| measured(value, metric)),
        limit => rule.and_then(|rule| limit(rule, delivery.created, metric)),
        behind => behind,
        behind_count => delivery.behind.len(),
        behind_more => delivery.behind.len().saturating_sub(NAMED_DEVICES),
        note => rule
            .and_then(|rule| rule.note.as_deref())
            .map(|note| safe::few_lines(note, NOTE_LINES, NOTE_CHARS))
            .filter(|note| !note.is_empty()),
        command => format!("sotp alerts show {}", alert.id),
    }
}

/// What is wrong, as short as a list of mails shows it. It stays the same from
/// the first mail of an alert to the last where it can.
fn headline(device: &str, summary: &str, rule: Option<&Rule>) -> String {
    match rule.map(|rule| &rule.condition) {
        Some(Condition::Availability {
            check: Check::Icmp, ..
        }) => format!("{device} is down"),
        Some(Condition::Availability {
            check: Check::Snmp, ..
        }) => format!("{device} does not answer SNMP"),
        Some(Condition::Threshold { .. } | Condition::Plugin { .. }) | None => {
            if summary.is_empty() {
                device.to_owned()
            } else {
                format!("{device}: {summary}")
            }
        }
    }
}

fn metric_of(rule: &Rule) -> Option<&'static MetricInfo> {
    match &rule.condition {
        Condition::Threshold { metric, .. } => metric_info(metric),
        Condition::Availability { .. } | Condition::Plugin { .. } => None,
    }
}

/// The limit, if it is still the one that was judged by.
fn limit(rule: &Rule, told: Timestamp, metric: Option<&MetricInfo>) -> Option<String> {
    let Condition::Threshold {
        comparison, limit, ..
    } = &rule.condition
    else {
        return None;
    };
    let words = match comparison {
        Comparison::Above => "above",
        Comparison::AtLeast => "at least",
        Comparison::Below => "below",
        Comparison::AtMost => "at most",
        Comparison::Equal => "equal to",
        Comparison::NotEqual => "not",
    };
    (rule.updated <= told).then(|| format!("{words} {}", measured(*limit, metric)))
}

/// An instant in UTC and, where that is another one, in the local time zone.
fn moment(at: Timestamp, zone: &TimeZone) -> Value {
    let utc = shown_in(at, &TimeZone::UTC).unwrap_or_else(|| at.to_string());
    let local = Some(zone)
        .filter(|zone| **zone != TimeZone::UTC && !zone.is_unknown())
        .and_then(|zone| shown_in(at, zone))
        .filter(|local| *local != utc);
    context! { utc => utc, local => local }
}

fn shown_in(at: Timestamp, zone: &TimeZone) -> Option<String> {
    let seconds = i64::try_from(at.0 / 1000).ok()?;
    let instant = jiff::Timestamp::from_second(seconds).ok()?;
    let there = instant.to_zoned(zone.clone());
    Some(there.strftime("%Y-%m-%d %H:%M:%S %Z").to_string())
}

/// `4m 12s`: the two largest units.
fn span(long: Duration) -> String {
    let seconds = long.as_secs();
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let largest = units.iter().position(|(count, _)| *count > 0);
    let shown: Vec<String> = units
        .iter()
        .skip(largest.unwrap_or(units.len()))
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if shown.is_empty() {
        return "0s".to_owned();
    }
    shown.join(" ")
}

/// `value` in a unit that people read: `97.3 %`, `12.5 ms`, `1.2 GB`. A
/// counter's value is its increase per second.
fn measured(value: f64, metric: Option<&MetricInfo>) -> String {
    let unit = metric.map_or("", |metric| metric.unit);
    let per_second = metric.is_some_and(|metric| metric.kind.is_counter());
    let shown = match unit {
        "ratio" => format!("{} %", number(value * 100.0)),
        "percent" => format!("{} %", number(value)),
        "seconds" => seconds(value),
        "" => number(value),
        "bytes" => format!("{}B", scaled(value)),
        unit => format!("{}{unit}", scaled(value)),
    };
    if per_second {
        format!("{shown}/s")
    } else {
        shown
    }
}

fn seconds(value: f64) -> String {
    match value.abs() {
        size if size >= 1.0 || size == 0.0 => format!("{} s", number(value)),
        size if size >= 0.001 => format!("{} ms", number(value * 1e3)),
        _ => format!("{} µs", number(value * 1e6)),
    }
}

/// `12.3 M`, ready for a unit.
fn scaled(value: f64) -> String {
    let (divisor, prefix) = match value.abs() {
        size if size >= 1e12 => (1e12, "T"),
        size if size >= 1e9 => (1e9, "G"),
        size if size >= 1e6 => (1e6, "M"),
        size if size >= 1e3 => (1e3, "k"),
        _ => (1.0, ""),
    };
    format!("{} {prefix}", number(value / divisor))
}

/// At most three figures after the point, and none that say nothing.
fn number(value: f64) -> String {
    let places = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let shown = format!("{value:.places$}");
    if !shown.contains('.') {
        return shown;
    }
    shown.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use model::{
        AlertId, AlertState, Channel, DeliveryState, DeviceId, Labels, OutboxId, RuleName,
        RuleSource, Selector,
    };

    use super::*;

    /// 2026-11-21T03:00:00Z.
    pub(crate) const NIGHT: Timestamp = Timestamp(1_795_230_000_000);

    /// core1 is down, core1 is up again, or a test; to ops@example.net.
    pub(crate) fn delivery(event: NotificationEvent) -> Delivery {
        let minutes = |n: u64| NIGHT.plus(Duration::from_secs(n * 60));
        let resolved = event == NotificationEvent::Resolved;
        let alert = Alert {
            id: AlertId(17),
            rule: RuleName("device-down".to_owned()),
            severity: Severity::Critical,
            device: DeviceId(5),
            device_name: "core1".to_owned(),
            labels: Arc::new(Labels::default()),
            state: if resolved {
                AlertState::Resolved
            } else {
                AlertState::Firing
            },
            since: NIGHT,
            judged: minutes(2),
            rounds: 3,
            told: true,
            fired: Some(minutes(1)),
            resolved: resolved.then(|| NIGHT.plus(Duration::from_secs(252))),
            value: None,
            summary: if resolved {
                "answers ICMP again after 4m 12s".to_owned()
            } else {
                "no answer to 3 rounds of ICMP since 03:00:00Z: no reply within 1s".to_owned()
            },
        };
        Delivery {
            id: OutboxId(42),
            channel: Channel::Mail {
                to: "ops@example.net".to_owned(),
            },
            event,
            alert: (event != NotificationEvent::Test).then_some(alert),
            place: "10.0.0.1, Vienna, rack 4".to_owned(),
            behind: Vec::new(),
            created: minutes(if resolved { 5 } else { 1 }),
            state: DeliveryState::Queued { next: minutes(1) },
            attempts: 0,
            last_error: None,
        }
    }

    /// The rule of [`delivery`].
    pub(crate) fn down_rule() -> Rule {
        Rule {
            name: RuleName("device-down".to_owned()),
            severity: Severity::Critical,
            enabled: true,
            selector: Selector::default(),
            condition: Condition::Availability {
                check: Check::Icmp,
                after: model::DownAfter::Rounds(3),
            },
            note: Some(
                "Call the data centre: +43 1 555 0100\nhttps://wiki.example.net/run/down?a=1&b=2"
                    .to_owned(),
            ),
            source: RuleSource::Api,
            updated: NIGHT.minus(Duration::from_secs(86_400)),
            revision: 1,
        }
    }

    /// A rule that judges `metric` by `limit`.
    pub(crate) fn threshold_rule(metric: &str, limit: f64) -> Rule {
        Rule {
            condition: Condition::Threshold {
                metric: metric.to_owned(),
                labels: BTreeMap::new(),
                comparison: Comparison::Above,
                limit,
                hold: Duration::from_secs(300),
                clear: None,
            },
            ..down_rule()
        }
    }

    #[test]
    fn values_are_shown_in_units_that_people_read() {
        for (metric, value, shown) in [
            ("icmp_loss_ratio", 0.973, "97.3 %"),
            ("hrProcessorLoad", 90.0, "90 %"),
            ("icmp_rtt_seconds", 0.0125, "12.5 ms"),
            ("icmp_rtt_seconds", 0.000_25, "250 µs"),
            ("icmp_rtt_seconds", 2.5, "2.5 s"),
            ("memory_used_bytes", 1.2e9, "1.2 GB"),
            ("memory_used_bytes", 512.0, "512 B"),
            ("ifSpeed_bps", 1e9, "1 Gbit/s"),
            ("ifSpeed_bps", 64.0, "64 bit/s"),
            ("ifHCInOctets", 12_345_678.0, "12.3 Moctets/s"),
            ("ifInErrors", 0.25, "0.25 packets/s"),
            ("ifOperStatus", 2.0, "2"),
        ] {
            assert_eq!(measured(value, metric_info(metric)), shown, "{metric}");
        }
        assert_eq!(measured(1_500.0, None), "1500");
        assert_eq!(measured(-0.5, None), "-0.5");
    }

    #[test]
    fn spans_are_shown_in_their_two_largest_units() {
        for (seconds, shown) in [
            (0, "0s"),
            (59, "59s"),
            (252, "4m 12s"),
            (3_600, "1h"),
            (90_061, "1d 1h"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), shown);
        }
    }

    #[test]
    fn a_limit_that_was_changed_since_is_not_shown() {
        let mut rule = threshold_rule("icmp_loss_ratio", 0.2);
        let metric = metric_of(&rule);
        assert_eq!(limit(&rule, NIGHT, metric).as_deref(), Some("above 20 %"));
        rule.updated = NIGHT.plus(Duration::from_secs(1));
        assert_eq!(limit(&rule, NIGHT, metric), None);
    }

    #[test]
    fn local_time_stands_beside_utc_where_it_differs() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let shown = moment(NIGHT, &zone);
        let part = |name| shown.get_attr(name).unwrap();
        assert_eq!(part("utc").as_str(), Some("2026-11-21 03:00:00 UTC"));
        assert!(
            part("local")
                .as_str()
                .unwrap()
                .starts_with("2026-11-21 04:00:00")
        );
        assert!(
            moment(NIGHT, &TimeZone::UTC)
                .get_attr("local")
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn the_headline_says_what_is_wrong_with_which_device() {
        let by = |rule: Option<&Rule>| headline("core1", "no answer to 3 rounds", rule);
        let mut rule = down_rule();
        assert_eq!(by(Some(&rule)), "core1 is down");
        rule.condition = Condition::Availability {
            check: Check::Snmp,
            after: model::DownAfter::Rounds(3),
        };
        assert_eq!(by(Some(&rule)), "core1 does not answer SNMP");
        assert_eq!(by(None), "core1: no answer to 3 rounds");
        assert_eq!(headline("core1", "", None), "core1");
    }
}
