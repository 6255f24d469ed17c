//! Rules as they are read, and what each part of a rule refuses.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use config::{Problems, read_rules};
use model::{
    Check, Comparison, Condition, DeviceKind, DownAfter, Rule, RuleName, RuleSource, Selector,
    Severity, Timestamp,
};

/// The rules in `text`, as the only file.
fn load(text: &str) -> Result<Vec<Rule>, Problems> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("rules.toml"), text).unwrap();
    read_rules(directory.path())
}

fn rule(text: &str) -> Rule {
    let text = format!("[[rule]]\nname = \"r\"\nseverity = \"warning\"\n{text}");
    match load(&text) {
        Ok(mut rules) => rules.pop().unwrap(),
        Err(problems) => panic!("{text}\n{problems}"),
    }
}

fn threshold(text: &str) -> Condition {
    rule(&format!("[rule.threshold]\n{text}")).condition
}

/// Of a rule that begins well and goes on with `text`, this alone is said.
#[track_caller]
fn refused(text: &str, said: &str) {
    let text = format!("[[rule]]\nname = \"r\"\nseverity = \"warning\"\n{text}");
    let report = load(&text).unwrap_err().to_string();
    assert!(report.contains(said), "{text}\nsays\n{report}");
    assert_eq!(report.lines().count(), 2, "{text}\nsays\n{report}");
}

#[test]
fn a_rule_with_everything_is_read_as_it_stands() {
    let text = r#"
[[rule]]
name = "uplink-down"
severity = "critical"
enabled = false
note = "See the runbook."
[rule.match]
devices = ["core1", "core2"]
sites = ["berlin"]
kinds = ["router", "switch"]
tags = ["backbone"]
[rule.threshold]
metric = "ifHCInOctets"
labels = { ifName = "ge-0/0/0" }
below = 125
for = "1m30s"
clear = 1_000.5
"#;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.toml");
    fs::write(&path, text).unwrap();
    let mut rules = read_rules(directory.path()).unwrap();
    assert!(rules[0].updated > Timestamp(0));
    rules[0].updated = Timestamp(0);

    let set = |names: &[&str]| -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    };
    let expected = Rule {
        name: RuleName("uplink-down".to_owned()),
        severity: Severity::Critical,
        enabled: false,
        selector: Selector {
            devices: set(&["core1", "core2"]),
            sites: set(&["berlin"]),
            kinds: BTreeSet::from([DeviceKind::Router, DeviceKind::Switch]),
            tags: set(&["backbone"]),
        },
        condition: Condition::Threshold {
            metric: "ifHCInOctets".to_owned(),
            labels: BTreeMap::from([("ifName".to_owned(), "ge-0/0/0".to_owned())]),
            comparison: Comparison::Below,
            limit: 125.0,
            hold: Duration::from_secs(90),
            clear: Some(1_000.5),
        },
        note: Some("See the runbook.".to_owned()),
        source: RuleSource::File(path.display().to_string()),
        updated: Timestamp(0),
        revision: 1,
    };
    assert_eq!(rules, [expected]);
}

#[test]
fn a_rule_of_a_tenant_says_so_before_its_name() {
    let text = |name: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\nseverity = \"info\"\n\
             availability = {{ check = \"icmp\", rounds = 1 }}\n"
        )
    };
    let rules = load(&format!("{}{}", text("acme/silent"), text("silent"))).unwrap();
    let tenants: Vec<Option<String>> = rules
        .iter()
        .map(|rule| rule.tenant().map(|tenant| tenant.to_string()))
        .collect();
    assert_eq!(tenants, [Some("acme".to_owned()), None]);
    for (name, said) in [
        ("a/b/c", "it has more than one /"),
        ("Acme/silent", "is no name of a tenant"),
        ("acme/", "it is empty"),
        ("default/silent", "leave \"default/\" out"),
    ] {
        let report = load(&text(name)).unwrap_err().to_string();
        assert!(report.contains(said), "{name}: {report}");
    }
}

#[test]
fn availability_counts_rounds_or_time() {
    let text = |after: &str| format!("[rule.availability]\ncheck = \"snmp\"\n{after}\n");
    for (after, expected) in [
        ("rounds = 3", DownAfter::Rounds(3)),
        ("for = \"5m\"", DownAfter::Span(Duration::from_secs(300))),
    ] {
        let read = rule(&text(after));
        let condition = Condition::Availability {
            check: Check::Snmp,
            after: expected,
        };
        assert_eq!(read.condition, condition);
        assert!(read.enabled && read.selector == Selector::default());
    }
    refused(&text(""), "availability: says nowhere how long");
    refused(
        &text("rounds = 3\nfor = \"5m\""),
        "availability.for: there is rounds, too",
    );
    refused(
        &text("rounds = 0"),
        "availability.rounds: 0 is not within 1 to 1000",
    );
}

#[test]
fn every_comparison_has_its_key() {
    for (key, expected) in [
        ("above", Comparison::Above),
        ("at_least", Comparison::AtLeast),
        ("below", Comparison::Below),
        ("at_most", Comparison::AtMost),
        ("equals", Comparison::Equal),
        ("not_equals", Comparison::NotEqual),
    ] {
        let read = threshold(&format!("metric = \"ifOperStatus\"\n{key} = 2\n"));
        assert!(
            matches!(read, Condition::Threshold { comparison, limit: 2.0, .. } if comparison == expected),
            "{key}: {read:?}"
        );
    }
}

#[test]
fn files_are_read_in_the_order_of_their_names_and_rules_as_they_stand() {
    let directory = tempfile::tempdir().unwrap();
    let one = |name: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\nseverity = \"info\"\n\
             availability = {{ check = \"icmp\", rounds = 1 }}\n"
        )
    };
    let write = |file: &str, text: String| fs::write(directory.path().join(file), text).unwrap();
    write("b.toml", one("1"));
    write("a.toml", one("z") + &one("y"));
    write("a.toml.dpkg-old", "nonsense".to_owned());
    let error = read_rules(directory.path()).unwrap_err().to_string();
    assert!(error.contains("it is a number"), "{error}");

    write("b.toml", one("b"));
    let rules = read_rules(directory.path()).unwrap();
    let names: Vec<&str> = rules.iter().map(|rule| rule.name.0.as_str()).collect();
    assert_eq!(names, ["z", "y", "b"]);
}

#[test]
fn a_limit_that_decides_nothing_is_refused() {
    for (text, said) in [
        (
            "metric = \"cpu_usage_ratio\"\nabove = 90",
            "write 0.9 for 90 %",
        ),
        (
            "metric = \"hrProcessorLoad\"\nabove = 101",
            "runs from 0 to 100",
        ),
        (
            "metric = \"icmp_loss_ratio\"\nabove = 1",
            "icmp_loss_ratio is never > 1",
        ),
        (
            "metric = \"icmp_loss_ratio\"\nat_most = 1.0",
            "icmp_loss_ratio is always <= 1",
        ),
        (
            "metric = \"ifInErrors\"\nat_least = 0",
            "ifInErrors is always >= 0",
        ),
        (
            "metric = \"ifInErrors\"\nbelow = 0",
            "ifInErrors is never < 0",
        ),
        (
            "metric = \"ifInErrors\"\nabove = -1",
            "no metric goes below 0",
        ),
        ("metric = \"ifInErrors\"\nabove = nan", "nan is no number"),
        ("metric = \"ifInErrors\"\nabove = inf", "inf is no number"),
        (
            "metric = \"ifInErrors\"\nabove = \"1\"",
            "write it without quotes",
        ),
        ("metric = \"ifInErrors\"", "threshold: has no limit"),
        ("above = 1", "threshold.metric: is missing"),
        (
            "metric = \"ifinerrors\"\nabove = 1",
            "did you mean \"ifInErrors\"?",
        ),
    ] {
        refused(&format!("[rule.threshold]\n{text}\n"), said);
    }
    for good in [
        "metric = \"icmp_loss_ratio\"\nat_least = 1",
        "metric = \"ifInErrors\"\nabove = 0",
        "metric = \"ifInErrors\"\nequals = 0",
    ] {
        threshold(good);
    }
}

#[test]
fn hysteresis_lies_on_the_quiet_side_of_the_limit() {
    let text = |limit: &str, clear: &str| {
        format!("metric = \"ifOutDiscards\"\n{limit}\nclear = {clear}\n")
    };
    for (limit, clear) in [
        ("above = 5", "4"),
        ("at_least = 5", "5"),
        ("below = 5", "6"),
    ] {
        threshold(&text(limit, clear));
    }
    for (limit, clear, said) in [
        ("above = 5", "6", "6 is on the wrong side of the limit 5"),
        ("at_least = 5", "6", "at most 5"),
        ("below = 5", "4", "at least 5"),
        ("at_most = 5", "4", "at least 5"),
        ("equals = 5", "4", "nothing in between"),
    ] {
        refused(&format!("[rule.threshold]\n{}", text(limit, clear)), said);
    }
}

#[test]
fn a_rule_has_one_condition() {
    refused("", "rule \"r\": says nowhere what a fault is");
    let both = "[rule.availability]\ncheck = \"icmp\"\nrounds = 3\n\
                [rule.threshold]\nmetric = \"ifInErrors\"\nabove = 1\n";
    refused(both, "rule \"r\", threshold: there is an availability, too");
}

#[test]
fn a_list_that_selects_nothing_is_no_match() {
    let rest = "[rule.availability]\ncheck = \"icmp\"\nrounds = 3\n";
    let with = |text: &str| format!("[rule.match]\n{text}\n{rest}");
    refused(&with("sites = []"), "leave the key out to select all");
    refused(&with("sites = [\"\"]"), "it is empty");
    refused(&with("tags = \"a\""), "write it in brackets: [\"a\"]");
    refused(&with("site = [\"a\"]"), "did you mean \"sites\"?");
    refused(&with("tags = [\"a\", \"a\"]"), "stands twice");
}

#[test]
fn a_single_bracket_is_told_of_the_second() {
    let report = load("[rule]\nname = \"r\"\n").unwrap_err().to_string();
    assert!(report.contains("open each as [[rule]]"), "{report}");
}
