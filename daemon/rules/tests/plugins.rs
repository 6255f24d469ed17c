//! What plugins judge, as stories.

mod story;

use std::collections::{BTreeMap, BTreeSet};

use model::{AlertState, Check, CredentialName, Severity};
use rules::{PluginStatus, PluginVerdict};
use story::Seen::{Answers, Becomes, Breaks, ClockIsSet, Judged, Nothing, Restart, Silent};
use story::{Site, Teller, above, at, judged_by_plugin, story, told, verdict};

use PluginStatus::{Firing, Ok, Pending, Unknown};

fn watched() -> Site {
    Site::new(&[("sw", &[])]).with(judged_by_plugin("flaps"))
}

const FLAPS: &[(&str, PluginStatus)] = &[("Gi0/1", Firing)];
const WELL: &[(&str, PluginStatus)] = &[("Gi0/1", Ok)];

#[test]
fn what_a_plugin_calls_firing_is_told_at_once_and_again_when_it_is_over() {
    let came = story(
        watched(),
        &[
            (0, "sw", Answers),
            (10, "sw", Judged(FLAPS)),
            (70, "sw", Judged(FLAPS)),
            (130, "sw", Judged(WELL)),
        ],
    );
    assert_eq!(
        came.told,
        ["10 sw/flaps(Gi0/1) fires", "130 sw/flaps(Gi0/1) resolved"]
    );
    assert_eq!(came.summaries, ["Gi0/1 is Firing", "Gi0/1 is Ok"]);
}

#[test]
fn a_key_that_is_no_longer_there_is_well() {
    let came = story(
        watched(),
        &[
            (0, "sw", Answers),
            (10, "sw", Judged(&[("a", Firing), ("b", Firing)])),
            (70, "sw", Judged(&[("b", Firing)])),
            (130, "sw", Judged(&[])),
        ],
    );
    let expected = [
        "10 sw/flaps(a) fires",
        "10 sw/flaps(b) fires",
        "70 sw/flaps(a) resolved",
        "130 sw/flaps(b) resolved",
    ];
    assert_eq!(came.told, expected);
    assert_eq!(came.summaries[2], "over; it was: a is Firing");
}

#[test]
fn an_empty_key_is_the_device_itself() {
    let came = story(watched(), &[(10, "sw", Judged(&[("", Firing)]))]);
    assert_eq!(came.told, ["10 sw/flaps fires"]);
    let alert = came.stored.values().next().unwrap();
    assert!(alert.labels.is_empty());
}

#[test]
fn pending_is_seen_and_not_told_and_may_leave_no_trace() {
    let pending = Judged(&[("a", Pending)]);
    let site = watched();
    let came = story(
        site.clone(),
        &[(10, "sw", pending.clone()), (40, "sw", pending.clone())],
    );
    assert!(came.told.is_empty(), "{:?}", came.told);
    let alert = came.stored.values().next().unwrap();
    assert_eq!((&alert.state, alert.since), (&AlertState::Pending, at(10)));

    let fires = Judged(&[("a", Firing)]);
    let events = [(10, "sw", pending.clone()), (40, "sw", fires)];
    let came = story(site.clone(), &events);
    assert_eq!(came.told, ["40 sw/flaps(a) fires"]);
    assert_eq!(came.stored.values().next().unwrap().since, at(10));

    let came = story(site, &[(10, "sw", pending), (40, "sw", Judged(&[]))]);
    assert!(came.told.is_empty() && came.stored.is_empty());
}

#[test]
fn unknown_and_pending_leave_a_firing_alert_as_it_is() {
    let came = told(
        watched(),
        &[
            (10, "sw", Judged(FLAPS)),
            (20, "sw", Judged(&[("Gi0/1", Unknown)])),
            (30, "sw", Judged(&[("Gi0/1", Pending)])),
            (40, "sw", Judged(&[("Gi0/1", Firing)])),
            (50, "sw", Judged(WELL)),
        ],
    );
    assert_eq!(came.len(), 2, "{came:?}");
    let none = told(watched(), &[(10, "sw", Judged(&[("a", Unknown)]))]);
    assert!(none.is_empty());
}

#[test]
fn the_severity_is_the_plugins() {
    let mut teller = Teller::new(watched(), at(0));
    for (second, severity) in [(10, Severity::Info), (20, Severity::Critical)] {
        let verdicts = [verdict("a", Firing, severity)];
        let changed = teller.judged(at(second), "sw", &verdicts);
        assert_eq!(changed.alerts[0].severity, severity, "it is stored at once");
    }
    // and a change of the rules does not take it back
    let more = watched().with(above("cpu", "cpu_usage_ratio", 0.9, 0, None));
    teller.site = more;
    teller.configure(at(30));
    let alert = teller.stored.values().next().unwrap();
    assert_eq!(alert.severity, Severity::Critical);
}

#[test]
fn what_is_firing_is_not_stored_with_every_verdict() {
    let mut teller = Teller::new(watched(), at(0));
    let verdicts = [verdict("a", Firing, Severity::Warning)];
    let first = teller.judged(at(10), "sw", &verdicts);
    assert_eq!((first.alerts.len(), first.tell.len()), (1, 1));
    let stored: usize = (1..20)
        .map(|n| teller.judged(at(10 + n * 30), "sw", &verdicts).alerts.len())
        .sum();
    assert_eq!(stored, 1, "once in five minutes");
}

#[test]
fn a_device_that_is_down_has_one_fault_and_not_two() {
    let site = watched();
    let came = told(
        site.clone(),
        &[
            (0, "sw", Answers),
            (30, "sw", Silent),
            (60, "sw", Silent),
            (90, "sw", Silent),
            (95, "sw", Judged(FLAPS)),
            (120, "sw", Silent),
            (125, "sw", Judged(FLAPS)),
            (150, "sw", Answers),
            (185, "sw", Judged(FLAPS)),
        ],
    );
    assert_eq!(
        came,
        [
            "90 sw fires",
            "150 sw resolved",
            "185 sw/flaps(Gi0/1) fires",
        ],
        "after the outage the plugin has to say so anew"
    );
    // over before the outage was
    let came = told(
        site,
        &[
            (30, "sw", Silent),
            (60, "sw", Silent),
            (90, "sw", Silent),
            (95, "sw", Judged(FLAPS)),
            (125, "sw", Judged(WELL)),
            (150, "sw", Answers),
        ],
    );
    assert_eq!(came, ["90 sw fires", "150 sw resolved"]);
}

#[test]
fn a_device_that_may_be_down_is_asked_before_a_plugin_is_believed() {
    let came = story(
        watched(),
        &[
            (0, "sw", Answers),
            (30, "sw", Silent),
            (35, "sw", Judged(FLAPS)),
            (40, "sw", Answers),
        ],
    );
    assert_eq!(came.told, ["40 sw/flaps(Gi0/1) fires"]);
    let came = story(
        watched(),
        &[
            (0, "sw", Answers),
            (30, "sw", Silent),
            (35, "sw", Judged(FLAPS)),
            (60, "sw", Silent),
            (90, "sw", Silent),
            (120, "sw", Silent),
        ],
    );
    assert_eq!(came.told, ["90 sw fires"]);
}

#[test]
fn a_plugins_fault_behind_a_dead_parent_is_not_told() {
    let site = Site::new(&[("core", &[]), ("sw", &["core"])]).with(judged_by_plugin("flaps"));
    let mut events = vec![(0, "core", Answers), (0, "sw", Answers)];
    for second in [30, 60, 90, 120] {
        events.push((second, "core", Silent));
        events.push((second + 1, "sw", Silent));
    }
    events.push((125, "sw", Judged(FLAPS)));
    let came = told(site, &events);
    assert_eq!(came, ["90 core fires, cuts off sw"], "{came:?}");
}

#[test]
fn alerts_go_on_after_a_restart() {
    let came = told(
        watched(),
        &[
            (0, "sw", Answers),
            (10, "sw", Judged(FLAPS)),
            (20, "sw", Restart),
            (40, "sw", Judged(FLAPS)),
            (50, "sw", Restart),
            (70, "sw", Judged(WELL)),
        ],
    );
    assert_eq!(
        came,
        ["10 sw/flaps(Gi0/1) fires", "70 sw/flaps(Gi0/1) resolved"]
    );
}

#[test]
fn a_plugin_that_breaks_after_a_restart_leaves_the_alerts_that_are_stored() {
    let came = story(
        watched(),
        &[
            (0, "sw", Answers),
            (10, "sw", Judged(FLAPS)),
            (20, "sw", Restart),
            (40, "sw", Breaks),
            (70, "sw", Breaks),
            (100, "sw", Judged(FLAPS)),
            (130, "sw", Judged(WELL)),
        ],
    );
    let expected = [
        "10 sw/flaps(Gi0/1) fires",
        "40 sw/flaps(plugin-broken) fires",
        "100 sw/flaps(plugin-broken) resolved",
        "130 sw/flaps(Gi0/1) resolved",
    ];
    assert_eq!(came.told, expected);
    assert_eq!(came.summaries[1], "it cannot judge");
    assert_eq!(came.summaries[2], "over; it was: it cannot judge");
}

#[test]
fn a_plugin_that_breaks_on_a_device_that_it_is_not_for_opens_nothing() {
    let nobody = Site::new(&[("sw", &[])]);
    assert!(told(nobody, &[(0, "sw", Answers), (10, "sw", Breaks)]).is_empty());
}

#[test]
fn what_was_held_back_before_a_restart_is_told_by_the_next_verdict_alone() {
    let came = told(
        watched(),
        &[
            (0, "sw", Answers),
            (30, "sw", Silent),
            (35, "sw", Judged(FLAPS)),
            (36, "sw", Restart),
            (60, "sw", Answers),
            (80, "sw", Nothing),
            (90, "sw", Judged(FLAPS)),
        ],
    );
    assert_eq!(came, ["90 sw/flaps(Gi0/1) fires"]);
}

#[test]
fn what_a_plugin_no_longer_judges_ends_with_the_reason() {
    let disabled = || {
        let mut rule = judged_by_plugin("flaps");
        rule.enabled = false;
        rule
    };
    let elsewhere = || {
        let mut rule = judged_by_plugin("flaps");
        rule.selector.tags = BTreeSet::from(["edge".to_owned()]);
        rule
    };
    let ends = [
        (watched().without("flaps"), "rule removed"),
        (watched().with(disabled()), "rule disabled"),
        (
            watched().with(elsewhere()),
            "device no longer selected by the rule",
        ),
        (
            watched().with(above("flaps", "cpu_usage_ratio", 0.9, 0, None)),
            "rule changed",
        ),
        (
            watched().change("sw", |device| device.enabled = false),
            "device disabled",
        ),
    ];
    for (site, why) in ends {
        let events = [
            (10, "sw", Judged(FLAPS)),
            (20, "sw", Becomes(site)),
            // an evaluation that was on its way
            (21, "sw", Judged(FLAPS)),
        ];
        let came = story(watched(), &events);
        assert_eq!(came.told.len(), 2, "{why}: {:?}", came.told);
        let expected = format!("{why}; it was: Gi0/1 is Firing");
        assert_eq!(came.summaries[1], expected);
    }
}

#[test]
fn a_device_without_snmp_and_one_without_any_rule_are_judged_too() {
    let site = watched().change("sw", |device| device.credential = None);
    assert!(!site.devices[0].wants(Check::Snmp));
    assert_eq!(told(site, &[(10, "sw", Judged(FLAPS))]).len(), 1);

    let no_icmp = watched().without("device-down").change("sw", |device| {
        device.poll.icmp.enabled = Some(false);
        device.credential = Some(CredentialName("public".to_owned()));
    });
    assert_eq!(told(no_icmp, &[(10, "sw", Judged(FLAPS))]).len(), 1);
}

#[test]
fn of_two_verdicts_with_one_key_the_first_counts() {
    let came = told(
        watched(),
        &[(10, "sw", Judged(&[("a", Ok), ("a", Firing)]))],
    );
    assert!(came.is_empty(), "{came:?}");
}

#[test]
fn more_keys_than_anybody_could_read_are_counted() {
    let mut teller = Teller::new(watched(), at(0));
    let verdicts: Vec<PluginVerdict> = (0..1_010)
        .map(|n| verdict(&n.to_string(), Firing, Severity::Info))
        .collect();
    let judged = teller.judged(at(10), "sw", &verdicts);
    assert_eq!(judged.tell.len(), 1_000);
    assert_eq!(teller.engine.not_opened(), 10);
}

#[test]
fn a_summary_is_one_line_and_a_figure_is_a_number() {
    let mut teller = Teller::new(watched(), at(0));
    let odd = PluginVerdict {
        summary: format!("two\nlines\u{1b}[31m {}", "x".repeat(9_000)),
        value: Some(f64::NAN),
        ..verdict("a", Firing, Severity::Info)
    };
    let judged = teller.judged(at(10), "sw", &[odd]);
    let alert = &judged.alerts[0];
    assert!(
        alert.summary.starts_with("two lines [31m x"),
        "{}",
        alert.summary
    );
    assert!(alert.summary.len() < 2_000);
    assert_eq!(alert.value, None);
}

#[test]
fn a_clock_that_was_set_back_changes_nothing() {
    let came = told(
        watched(),
        &[
            (4_000, "sw", Answers),
            (4_010, "sw", Judged(FLAPS)),
            (100, "sw", ClockIsSet),
            (110, "sw", Judged(FLAPS)),
            (140, "sw", Judged(WELL)),
        ],
    );
    assert_eq!(came.len(), 2, "{came:?}");
}

/// The same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % below
    }
}

#[test]
fn whatever_a_plugin_says_people_hear_of_each_fault_once_and_of_its_end() {
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let mut teller = Teller::new(watched(), at(0));
        // key: whether people know of it
        let mut truth: BTreeMap<String, bool> = BTreeMap::new();
        teller.play(at(1), "sw", &Answers);
        for round in 1..60 {
            let now = at(round * 10);
            let mut verdicts = Vec::new();
            for key in ["a", "b", ""] {
                let status = [Ok, Pending, Firing, Unknown][dice.place(4)];
                if dice.roll(4) > 0 {
                    verdicts.push(verdict(key, status, Severity::Warning));
                }
            }
            for key in ["a", "b", ""] {
                let said = verdicts.iter().find(|v| v.key == key).map(|v| v.status);
                match said {
                    Some(Firing) => drop(truth.insert(key.to_owned(), true)),
                    Some(Ok) | None => drop(truth.remove(key)),
                    Some(Pending | Unknown) => {}
                }
            }
            if dice.roll(6) == 0 {
                teller.restart(now);
            }
            teller.judged(now, "sw", &verdicts);
            let firing = teller
                .stored
                .values()
                .filter(|alert| alert.state == AlertState::Firing)
                .map(|alert| alert.labels.get("key").unwrap_or("").to_owned());
            let firing: BTreeSet<String> = firing.collect();
            let expected: BTreeSet<String> = truth.keys().cloned().collect();
            assert_eq!(firing, expected, "seed {seed}, round {round}");
        }
    }
}

impl Dice {
    fn place(&mut self, below: u64) -> usize {
        usize::try_from(self.roll(below)).expect("it is small")
    }
}
