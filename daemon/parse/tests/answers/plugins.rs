//! What plugins read, in the rows of simulated agents.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::{
    BUILT_IN_METRICS, Breaks, Columns, Labels, MetricKind, PollReport, Reading, SeriesKey,
    SnmpValue, Timestamp,
};
use parse::{MAX_PLUGIN_COLUMNS, PluginPart, WithPlugins, with_plugins};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::agent::{Agent, Memory, octets};

const START: Timestamp = Timestamp(1_800_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);

fn after(minutes: u32) -> Timestamp {
    START.plus(MINUTE * minutes)
}

fn key(metric: &str, slot: &str, kind: MetricKind) -> SeriesKey {
    let labels = (!slot.is_empty()).then_some(("slot", slot));
    SeriesKey {
        metric: metric.into(),
        labels: Arc::new(Labels::new(labels)),
        kind,
    }
}

/// A plugin that measures temperatures by slot.
fn part(values: &[(&str, f64)]) -> PluginPart {
    let series = values.iter().map(|(slot, value)| {
        let key = key("acme_temperature_celsius", slot, MetricKind::Gauge);
        (key, *value)
    });
    PluginPart {
        series: series.collect(),
        keep: false,
        metrics: BTreeSet::from(["acme_temperature_celsius".into()]),
    }
}

fn failed() -> PluginPart {
    PluginPart {
        keep: true,
        ..part(&[])
    }
}

/// Polls a device and its plugins, and remembers the row as a store does.
fn poll(memory: &mut Memory, agent: &Agent, at: Timestamp, parts: &[PluginPart]) -> WithPlugins {
    let before = memory.reading.clone();
    let report = parse::snmp(
        crate::agent::DEVICE,
        &agent.answer(at),
        before.as_ref(),
        memory.facts.as_ref(),
    );
    let with = with_plugins(report, parts, before.as_ref());
    memory.keep(&with.report);
    with
}

/// The plugins' columns, "-" for not measured.
fn plugins_of(report: &PollReport) -> Vec<String> {
    let row = report.row.as_ref().unwrap();
    assert_eq!(row.columns.series().len(), row.values.len());
    let all = row.columns.series().iter().zip(row.values.iter());
    all.filter(|(series, _)| series.metric.starts_with("acme_"))
        .map(|(series, value)| {
            let slot = series.labels.get("slot").unwrap_or("");
            let value = (!value.is_nan()).then(|| value.to_string());
            format!("{slot}={}", value.unwrap_or("-".to_owned()))
        })
        .collect()
}

fn columns(with: &WithPlugins) -> &Arc<Columns> {
    &with.report.row.as_ref().unwrap().columns
}

#[test]
fn plugins_stand_behind_the_poll_and_share_its_columns() {
    let (mut agent, mut memory) = (Agent::new(&["a", "b"]), Memory::default());
    let alone = Memory::default().poll(&agent, START).row.unwrap();
    let first = poll(
        &mut memory,
        &agent,
        START,
        &[part(&[("1", 40.0), ("2", 41.0)])],
    );
    let built_in = alone.columns.series();
    assert!(columns(&first).series().starts_with(built_in));
    assert_eq!(plugins_of(&first.report), ["1=40", "2=41"]);

    agent.run(MINUTE, 1_000);
    let second = poll(
        &mut memory,
        &agent,
        after(1),
        &[part(&[("1", 42.0), ("2", 43.0)])],
    );
    assert!(Arc::ptr_eq(columns(&first), columns(&second)));
    assert_eq!(plugins_of(&second.report), ["1=42", "2=43"]);
    // and the counters of interfaces go on
    assert!(memory.value("ifHCInOctets", "a").is_some());

    let swapped = poll(
        &mut memory,
        &agent,
        after(2),
        &[part(&[("2", 45.0), ("1", 44.0)])],
    );
    assert!(
        Arc::ptr_eq(columns(&first), columns(&swapped)),
        "another order is no change"
    );
    assert_eq!(plugins_of(&swapped.report), ["1=44", "2=45"]);
}

#[test]
fn a_series_that_a_plugin_no_longer_gives_ends_and_a_new_one_begins() {
    let (agent, mut memory) = (Agent::new(&["a"]), Memory::default());
    poll(
        &mut memory,
        &agent,
        START,
        &[part(&[("1", 40.0), ("2", 41.0)])],
    );
    let with = poll(
        &mut memory,
        &agent,
        after(1),
        &[part(&[("3", 1.0), ("2", 42.0)])],
    );
    assert_eq!(plugins_of(&with.report), ["2=42", "3=1"]);
    let none = poll(&mut memory, &agent, after(2), &[part(&[])]);
    assert_eq!(plugins_of(&none.report), [""; 0]);
}

#[test]
fn what_a_plugin_that_failed_gave_before_stays_without_a_value() {
    let (agent, mut memory) = (Agent::new(&["a"]), Memory::default());
    let first = poll(
        &mut memory,
        &agent,
        START,
        &[part(&[("1", 40.0), ("2", 41.0)])],
    );
    for minute in 1..4 {
        let with = poll(&mut memory, &agent, after(minute), &[failed()]);
        assert_eq!(plugins_of(&with.report), ["1=-", "2=-"]);
        assert!(Arc::ptr_eq(columns(&first), columns(&with)));
    }
    let half = PluginPart {
        keep: true,
        ..part(&[("2", 50.0)])
    };
    let with = poll(&mut memory, &agent, after(4), &[half]);
    assert_eq!(
        plugins_of(&with.report),
        ["1=-", "2=50"],
        "a part of it failed"
    );
    let gone = poll(&mut memory, &agent, after(5), &[]);
    assert_eq!(plugins_of(&gone.report), [""; 0], "it is no longer there");
}

#[test]
fn of_two_plugins_with_one_series_the_first_counts_and_the_other_is_named() {
    let (agent, mut memory) = (Agent::new(&["a"]), Memory::default());
    let parts = [
        part(&[("1", 1.0), ("2", f64::NAN)]),
        part(&[("1", 9.0), ("2", 2.0), ("3", 3.0)]),
    ];
    let with = poll(&mut memory, &agent, START, &parts);
    assert_eq!(plugins_of(&with.report), ["1=1", "2=2", "3=3"]);
    let key = key("acme_temperature_celsius", "1", MetricKind::Gauge);
    assert_eq!(with.duplicates, [(1, key.clone())]);
    // and again with the row before, where all are known
    let with = poll(&mut memory, &agent, after(1), &parts);
    assert_eq!(with.duplicates, [(1, key)]);
    let twice = poll(
        &mut memory,
        &agent,
        after(2),
        &[part(&[("1", 1.0), ("1", 2.0)])],
    );
    assert_eq!(plugins_of(&twice.report), ["1=1"]);
    assert_eq!(twice.duplicates.len(), 1);
}

#[test]
fn a_plugin_cannot_change_what_the_poll_measured() {
    let (agent, mut memory) = (Agent::new(&["a"]), Memory::default());
    let before = poll(&mut memory, &agent, START, &[]).report.row.unwrap();
    let lies = BUILT_IN_METRICS.iter().map(|metric| {
        let of = before
            .columns
            .series()
            .iter()
            .find(|key| &*key.metric == metric.name);
        let key = of
            .cloned()
            .unwrap_or_else(|| key(metric.name, "", metric.kind));
        (key, -7.0)
    });
    let liar = PluginPart {
        series: lies.collect(),
        ..PluginPart::default()
    };
    let with = poll(&mut memory, &agent, after(1), &[liar]);
    let row = with.report.row.unwrap();
    let (own, given) = row.values.split_at(before.values.len());
    assert!(
        own.iter()
            .all(|value| value.to_bits() != (-7.0_f64).to_bits())
    );
    assert_eq!(given.len() + with.duplicates.len(), BUILT_IN_METRICS.len());
}

#[test]
fn no_plugin_says_how_long_a_device_has_been_up() {
    let (agent, mut memory) = (Agent::new(&["a"]), Memory::default());
    let liar = PluginPart {
        series: vec![(key("sysUpTime", "", MetricKind::Gauge), 1.0)],
        ..PluginPart::default()
    };
    let mut answer = agent.answer(START);
    answer.scalars.clear();
    let report = memory.read(&answer);
    let with = with_plugins(report, &[liar], None);
    assert_eq!(columns(&with).find("sysUpTime"), None);
    assert_eq!(with.duplicates.len(), 1);
}

#[test]
fn a_plugin_may_measure_what_the_poll_could_not() {
    let (mut agent, mut memory) = (Agent::new(&["a"]), Memory::default());
    let usage = PluginPart {
        series: vec![(key("cpu_usage_ratio", "", MetricKind::Gauge), 0.5)],
        ..PluginPart::default()
    };
    poll(&mut memory, &agent, START, std::slice::from_ref(&usage));
    // now the table that it would come from is not complete: it may be there
    agent.failing = vec!["hrProcessorTable"];
    let with = poll(&mut memory, &agent, after(1), &[usage]);
    let row = with.report.row.unwrap();
    let place = row.columns.find("cpu_usage_ratio").unwrap();
    assert!((row.values[place] - 0.5).abs() < f64::EPSILON);
    assert!(with.duplicates.is_empty(), "{:?}", with.duplicates);
}

#[test]
fn a_plugins_label_does_not_make_an_interface() {
    let (mut agent, mut memory) = (Agent::new(&["a"]), Memory::default());
    let optics = PluginPart {
        series: vec![(
            SeriesKey {
                metric: "acme_light_watts".into(),
                labels: Arc::new(Labels::new([("ifName", "sfp-9")])),
                kind: MetricKind::Gauge,
            },
            0.001,
        )],
        ..PluginPart::default()
    };
    poll(&mut memory, &agent, START, std::slice::from_ref(&optics));
    agent.failing = vec!["ifTable", "ifXTable"];
    let with = poll(&mut memory, &agent, after(1), &[optics]);
    let row = with.report.row.unwrap();
    let of_it = row
        .columns
        .series()
        .iter()
        .filter(|key| key.labels.get("ifName") == Some("sfp-9"));
    assert_eq!(of_it.count(), 1);
}

#[test]
fn a_plugins_counter_goes_on_unless_the_device_restarted() {
    let (mut agent, mut memory) = (Agent::new(&["a"]), Memory::default());
    let counted = |count: f64| PluginPart {
        series: vec![(key("acme_drops_total", "", MetricKind::Counter64), count)],
        ..PluginPart::default()
    };
    let rate = |memory: &Memory| {
        let reading = memory.reading.as_ref().unwrap();
        reading.value(reading.row.columns.find("acme_drops_total").unwrap())
    };
    poll(&mut memory, &agent, START, &[counted(60.0)]);
    assert_eq!(rate(&memory), None, "there is nothing before it");
    agent.run(MINUTE, 1_000);
    let with = poll(&mut memory, &agent, after(1), &[counted(120.0)]);
    assert_eq!(with.report.row.unwrap().breaks, Breaks::None);
    assert_eq!(rate(&memory), Some(1.0));

    // an interface's counters are cleared: that is its own business
    agent.run(MINUTE, 1_000);
    agent.ports[0].discontinuity += 1;
    let with = poll(&mut memory, &agent, after(2), &[counted(180.0)]);
    assert!(matches!(
        with.report.row.unwrap().breaks,
        Breaks::Columns(_)
    ));
    assert_eq!(rate(&memory), Some(1.0));

    agent.uptime = 1_000;
    let with = poll(&mut memory, &agent, after(3), &[counted(6_000.0)]);
    assert_eq!(with.report.row.unwrap().breaks, Breaks::All);
    assert_eq!(rate(&memory), None);

    // not measured once: no rate over the hole
    for (minute, part) in [(4, failed_counter()), (5, counted(6_060.0))] {
        agent.run(MINUTE, 1_000);
        poll(&mut memory, &agent, after(minute), &[part]);
        assert_eq!(rate(&memory), None);
    }
}

fn failed_counter() -> PluginPart {
    PluginPart {
        keep: true,
        metrics: BTreeSet::from(["acme_drops_total".into()]),
        ..PluginPart::default()
    }
}

#[test]
fn a_metric_that_becomes_a_counter_has_no_rate_over_that_step() {
    let (mut agent, mut memory) = (Agent::new(&["a"]), Memory::default());
    let of = |kind, value| PluginPart {
        series: vec![(key("acme_x", "", kind), value)],
        ..PluginPart::default()
    };
    poll(&mut memory, &agent, START, &[of(MetricKind::Gauge, 5.0)]);
    agent.run(MINUTE, 1_000);
    poll(
        &mut memory,
        &agent,
        after(1),
        &[of(MetricKind::Counter64, 9.0)],
    );
    let reading = memory.reading.as_ref().unwrap();
    let place = reading.row.columns.find("acme_x").unwrap();
    assert_eq!(
        reading.row.columns.series()[place].kind,
        MetricKind::Counter64
    );
    assert_eq!(reading.value(place), None);
}

#[test]
fn a_silent_device_has_no_values_of_plugins() {
    let (agent, mut memory) = (Agent::new(&["a"]), Memory::default());
    poll(&mut memory, &agent, START, &[part(&[("1", 1.0)])]);
    memory.silence(after(1));
    let silent = memory.reading.clone().unwrap();
    let group = silent.row.group;
    let failure = model::Failure {
        kind: model::FailureKind::Timeout,
        text: String::new(),
    };
    let report = parse::failed(group, after(2), MINUTE, failure);
    let with = with_plugins(report, &[part(&[("1", 1.0)])], Some(&silent));
    assert_eq!(columns(&with).series().len(), 1);
}

#[test]
fn too_many_columns_are_counted_and_left_out() {
    let (agent, mut memory) = (Agent::new(&["a"]), Memory::default());
    let slots: Vec<String> = (0..MAX_PLUGIN_COLUMNS + 3).map(|n| n.to_string()).collect();
    let values: Vec<(&str, f64)> = slots.iter().map(|slot| (slot.as_str(), 1.0)).collect();
    let with = poll(&mut memory, &agent, START, &[part(&values)]);
    assert_eq!(with.left_out, 3);
    assert_eq!(plugins_of(&with.report).len(), MAX_PLUGIN_COLUMNS);
    let (whose, failure) = with.report.outcome.partial.last().unwrap();
    assert_eq!(whose, "plugins");
    assert!(failure.text.contains("3 are left out"), "{}", failure.text);
    let again = poll(&mut memory, &agent, after(1), &[part(&values)]);
    assert_eq!(
        (again.left_out, plugins_of(&again.report).len()),
        (3, MAX_PLUGIN_COLUMNS)
    );
    assert_eq!(again.report.outcome.partial.len(), 1, "said each time");
    let all = poll(&mut memory, &agent, after(2), &[part(&values[3..])]);
    assert_eq!((all.left_out, all.report.outcome.partial.len()), (0, 0));
}

fn parts() -> impl Strategy<Value = Vec<PluginPart>> {
    let value = prop_oneof![3 => (0..9u8).prop_map(f64::from), 1 => Just(f64::NAN)];
    let series = vec((0..6u8, value), 0..6);
    let one = (series, any::<bool>()).prop_map(|(series, keep)| {
        let slots: Vec<(String, f64)> = series
            .into_iter()
            .map(|(slot, value)| (slot.to_string(), value))
            .collect();
        let slots: Vec<(&str, f64)> = slots.iter().map(|(s, v)| (s.as_str(), *v)).collect();
        PluginPart {
            keep,
            ..part(&slots)
        }
    });
    vec(one, 0..4)
}

/// What the row should have: the first value of each slot, and what is kept.
fn expected(parts: &[PluginPart], before: Option<&Reading>) -> Vec<String> {
    let mut slots: std::collections::BTreeMap<String, f64> = Default::default();
    for (key, value) in parts.iter().flat_map(|part| &part.series) {
        let slot = key.labels.get("slot").unwrap().to_owned();
        let cell = slots.entry(slot).or_insert(f64::NAN);
        if cell.is_nan() {
            *cell = *value;
        }
    }
    if parts.iter().any(|part| part.keep) {
        let before = before
            .into_iter()
            .flat_map(|reading| reading.row.columns.series());
        for slot in before.filter_map(|key| key.labels.get("slot")) {
            slots.entry(slot.to_owned()).or_insert(f64::NAN);
        }
    }
    let shown = slots.into_iter().map(|(slot, value)| {
        let value = (!value.is_nan()).then(|| value.to_string());
        format!("{slot}={}", value.unwrap_or("-".to_owned()))
    });
    shown.collect()
}

proptest! {
    #[test]
    fn whatever_plugins_give_the_row_has_each_series_once(rounds in vec(parts(), 1..6)) {
        let (mut agent, mut memory) = (Agent::new(&["a", "b"]), Memory::default());
        agent.set("1.3.6.1.2.1.1.6.0", SnmpValue::clone(&octets("here")));
        for (minute, parts) in (1..).zip(rounds) {
            agent.run(MINUTE, 1_000);
            let before = memory.reading.clone();
            let expected = expected(&parts, before.as_ref());
            let with = poll(&mut memory, &agent, after(minute), &parts);
            let mut shown = plugins_of(&with.report);
            shown.sort();
            prop_assert_eq!(shown, expected);
            let row = with.report.row.unwrap();
            prop_assert!(matches!(row.breaks, Breaks::None));
            let given: usize = parts.iter().map(|part| part.series.len()).sum();
            prop_assert!(with.duplicates.len() <= given);
            if let Some(before) = before {
                let is_same = *before.row.columns == *row.columns;
                prop_assert_eq!(is_same, Arc::ptr_eq(&before.row.columns, &row.columns));
            }
        }
    }
}
