//! One poll after another, of simulated agents.

use std::sync::Arc;
use std::time::Duration;

use model::{Breaks, FailureKind, PollReport, SnmpValue, Timestamp};

use crate::agent::{Agent, Memory, Port, column, octets};

const START: Timestamp = Timestamp(1_800_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);

/// 1 Mbit/s over a minute, in octets, and per second.
const TRAFFIC: u64 = 7_500_000;
const RATE: f64 = 125_000.0;

fn after(minutes: u32) -> Timestamp {
    START.plus(MINUTE * minutes)
}

/// A switch that was polled twice, a minute apart.
fn polled_twice(names: &[&str]) -> (Agent, Memory) {
    let (mut agent, mut memory) = (Agent::new(names), Memory::default());
    memory.poll(&agent, START);
    agent.run(MINUTE, TRAFFIC);
    memory.poll(&agent, after(1));
    (agent, memory)
}

/// The values of all series with these metrics, "-" for not measured.
#[track_caller]
fn shows(report: &PollReport, metrics: &[&str], expected: &[&str]) {
    let row = report.row.as_ref().unwrap();
    let all = row.columns.series().iter().zip(row.values.iter());
    let shown: Vec<String> = all
        .filter(|(series, _)| metrics.contains(&&*series.metric))
        .map(|(series, value)| {
            let value = if value.is_nan() {
                "-".to_owned()
            } else {
                value.to_string()
            };
            format!("{}{} {value}", series.metric, series.labels)
        })
        .collect();
    assert_eq!(shown, expected);
}

fn identities(report: &PollReport) -> Vec<&str> {
    let facts = report.facts.as_ref().unwrap();
    facts.interfaces.keys().map(String::as_str).collect()
}

fn first_poll(agent: &Agent) -> PollReport {
    Memory::default().poll(agent, START)
}

#[test]
fn values_have_the_units_that_their_metrics_say() {
    let mut agent = Agent::new(&["Gi0/1"]);
    agent.ports[0].discontinuity = 250;
    let report = first_poll(&agent);
    shows(
        &report,
        &[
            "snmp_up",
            "snmp_poll_seconds",
            "snmp_poll_requests",
            "sysUpTime",
        ],
        &[
            "snmp_up{} 1",
            "snmp_poll_seconds{} 0.08",
            "snmp_poll_requests{} 12",
            "sysUpTime{} 864000",
        ],
    );
    shows(
        &report,
        &[
            "ifSpeed_bps",
            "ifOperStatus",
            "ifCounterDiscontinuityTime",
            "ifHCInOctets",
        ],
        &[
            r#"ifOperStatus{ifName="Gi0/1"} 1"#,
            r#"ifSpeed_bps{ifName="Gi0/1"} 1000000000"#,
            r#"ifCounterDiscontinuityTime{ifName="Gi0/1"} 2.5"#,
            r#"ifHCInOctets{ifName="Gi0/1"} 1000000"#,
        ],
    );
    let facts = report.facts.unwrap();
    assert_eq!(facts.system.vendor.as_deref(), Some("ciscoSystems"));
    assert_eq!(facts.system.name.as_deref(), Some("sw1"));
    let port = &facts.interfaces["Gi0/1"];
    assert_eq!(port.mac.as_deref(), Some("02:00:00:00:00:01"));
    assert_eq!(
        (port.speed_bps, port.oper_status),
        (Some(1_000_000_000), Some(1))
    );
    assert_eq!(facts.changed, START);
}

#[test]
fn the_speed_is_the_one_that_the_device_can_mean() {
    for (megabits, bits, expected) in [
        (1000, 1_000_000_000, Some(1e9)),
        (100_000, u32::MAX, Some(1e11)),
        (0, 64_000, Some(64_000.0)),
        (0, 0, Some(0.0)),
        (0, u32::MAX, None),
        (1_000_000_000, 1_000_000_000, Some(1e9)),
        (144_400_000, u32::MAX, Some(144_400_000.0)),
        (4_294_901_759, u32::MAX, None),
        (u32::MAX, u32::MAX, None),
    ] {
        let mut answer = Agent::new(&["a", "b"]).answer(START);
        for column in answer
            .tables
            .iter_mut()
            .flat_map(|table| &mut table.columns)
        {
            let value = match column.oid.to_string().as_str() {
                "1.3.6.1.2.1.31.1.1.1.15" => megabits,
                "1.3.6.1.2.1.2.2.1.5" => bits,
                _ => continue,
            };
            column.cells[0].1 = SnmpValue::Gauge32(value);
        }
        let row = parse::snmp(crate::agent::DEVICE, &answer, None, None)
            .row
            .unwrap();
        let speed = row.values[column(&row, "ifSpeed_bps", "a").unwrap()];
        assert_eq!(
            (!speed.is_nan()).then_some(speed),
            expected,
            "{megabits} {bits}"
        );
    }
}

#[test]
fn an_interface_is_known_by_its_name_else_its_alias_else_its_description() {
    let mut agent = Agent::new(&["Gi0/1", "", "", ""]);
    agent.ports[1].alias = "uplink".to_owned();
    agent.ports[3].descr = " \0 ".to_owned();
    assert_eq!(
        identities(&first_poll(&agent)),
        ["Gi0/1", "if4", "port 3", "uplink"]
    );
}

#[test]
fn interfaces_with_one_name_are_all_told_apart() {
    let agent = Agent::new(&["eth", "eth", "lo"]);
    assert_eq!(identities(&first_poll(&agent)), ["eth#1", "eth#2", "lo"]);
}

#[test]
fn a_name_that_looks_like_one_told_apart_is_told_apart_too() {
    let agent = Agent::new(&["eth", "eth", "eth#1", "eth#1#3", "if#9"]);
    assert_eq!(
        identities(&first_poll(&agent)),
        ["eth#1", "eth#1#3", "eth#1#3#4", "eth#2", "if#9"]
    );
}

#[test]
fn an_unchanged_device_shares_its_columns_and_has_rates() {
    let (mut agent, mut memory) = polled_twice(&["b", "a"]);
    let first = Arc::clone(&memory.reading.as_ref().unwrap().row.columns);
    agent.run(MINUTE, TRAFFIC);
    let report = memory.poll(&agent, after(2));
    let row = report.row.unwrap();
    assert!(Arc::ptr_eq(&row.columns, &first));
    assert_eq!(row.breaks, Breaks::None);
    assert_eq!(memory.value("ifHCInOctets", "a"), Some(RATE));
    assert_eq!(report.facts.unwrap().changed, START);
}

#[test]
fn interfaces_that_got_other_indices_go_on_under_their_names() {
    let (mut agent, mut memory) = polled_twice(&["a", "b", "c"]);
    let first = Arc::clone(&memory.reading.as_ref().unwrap().row.columns);
    agent.ports.reverse();
    for (index, port) in (10..).zip(&mut agent.ports) {
        port.index = index;
    }
    agent.run(MINUTE, TRAFFIC);
    let row = memory.poll(&agent, after(2)).row.unwrap();
    assert!(Arc::ptr_eq(&row.columns, &first));
    assert_eq!(row.breaks, Breaks::None);
    assert_eq!(memory.value("ifHCInOctets", "c"), Some(RATE));
    let facts = memory.facts.unwrap();
    assert_eq!((facts.interfaces["a"].index, facts.changed), (12, after(2)));
}

#[test]
fn a_restart_is_a_gap_of_one_step() {
    let (mut agent, mut memory) = polled_twice(&["a"]);
    agent.uptime = 1000;
    agent.ports[0].octets += TRAFFIC;
    assert_eq!(
        memory.poll(&agent, after(2)).row.unwrap().breaks,
        Breaks::All
    );
    assert_eq!(memory.value("ifHCInOctets", "a"), None);
    agent.run(MINUTE, TRAFFIC);
    memory.poll(&agent, after(3));
    assert_eq!(memory.value("ifHCInOctets", "a"), Some(RATE));
}

#[test]
fn an_uptime_that_wraps_is_no_restart() {
    let mut agent = Agent::new(&["a"]);
    agent.uptime = u32::MAX - 3000;
    let mut memory = Memory::default();
    memory.poll(&agent, START);
    agent.run(MINUTE, TRAFFIC);
    assert!(agent.uptime < 4000);
    memory.poll(&agent, after(1));
    assert_eq!(memory.value("ifHCInOctets", "a"), Some(RATE));
}

#[test]
fn setting_our_clock_is_no_restart() {
    for at in [after(60), START.minus(MINUTE * 60)] {
        let (mut agent, mut memory) = polled_twice(&["a"]);
        agent.run(MINUTE, TRAFFIC);
        assert_eq!(memory.poll(&agent, at).row.unwrap().breaks, Breaks::None);
        agent.run(MINUTE, TRAFFIC);
        memory.poll(&agent, at.plus(MINUTE));
        assert_eq!(memory.value("ifHCInOctets", "a"), Some(RATE));
    }
}

#[test]
fn after_a_poll_without_an_answer_nothing_is_said_to_go_on() {
    let (mut agent, mut memory) = polled_twice(&["a"]);
    memory.silence(after(2));
    agent.run(MINUTE * 2, 2 * TRAFFIC);
    let row = memory.poll(&agent, after(3)).row.unwrap();
    assert_eq!(row.breaks, Breaks::All);
    agent.run(MINUTE, TRAFFIC);
    memory.poll(&agent, after(4));
    assert_eq!(memory.value("ifHCInOctets", "a"), Some(RATE));
}

/// Which interfaces' counters broke at the third poll, after `change`.
fn broken_by(change: impl FnOnce(&mut Agent)) -> Vec<String> {
    let (mut agent, mut memory) = polled_twice(&["a", "b"]);
    agent.run(MINUTE, TRAFFIC);
    change(&mut agent);
    let row = memory.poll(&agent, after(2)).row.unwrap();
    let Breaks::Columns(broken) = row.breaks else {
        assert_eq!(row.breaks, Breaks::None);
        return Vec::new();
    };
    let series = row.columns.series();
    let broken = broken.iter().map(|column| &series[*column as usize]);
    broken
        .map(|series| format!("{} {}", series.metric, series.labels.get("ifName").unwrap()))
        .collect()
}

const ALL_OF_A: [&str; 6] = [
    "ifHCInOctets a",
    "ifHCOutOctets a",
    "ifInErrors a",
    "ifOutErrors a",
    "ifInDiscards a",
    "ifOutDiscards a",
];

#[test]
fn counters_that_the_device_cleared_are_a_gap() {
    let broken = broken_by(|agent| agent.ports[0].discontinuity = agent.uptime - 500);
    assert_eq!(broken, ALL_OF_A);
}

#[test]
fn another_interface_under_an_old_name_is_a_gap() {
    assert_eq!(broken_by(|agent| agent.ports[0].if_type = 24), ALL_OF_A);
    assert_eq!(
        broken_by(|agent| agent.ports[0].mac = [2, 9, 9, 9, 9, 9]),
        ALL_OF_A
    );
    assert_eq!(broken_by(|agent| agent.ports[0].index = 77), [""; 0]);
}

#[test]
fn more_than_the_line_can_carry_is_a_gap() {
    let fits = 11_000_000_000;
    assert_eq!(broken_by(|agent| agent.ports[0].octets += fits), [""; 0]);
    let jump = 12_000_000_000;
    let broken = broken_by(|agent| agent.ports[0].octets += jump);
    assert_eq!(broken, ["ifHCInOctets a", "ifHCOutOctets a"]);
    let unknown = broken_by(|agent| {
        agent.ports[0].megabits = 0;
        agent.ports[0].octets += jump;
    });
    assert_eq!(unknown, broken, "the speed before still counts");
}

#[test]
fn traffic_that_stays_above_the_speed_means_that_the_speed_is_wrong() {
    let mut agent = Agent::new(&["tunnel"]);
    agent.ports[0].megabits = 1;
    let mut memory = Memory::default();
    let rates = (0..4).map(|minute| {
        memory.poll(&agent, after(minute));
        agent.run(MINUTE, 100 * TRAFFIC);
        memory.value("ifHCInOctets", "tunnel")
    });
    let expected = [None, None, Some(100.0 * RATE), Some(100.0 * RATE)];
    assert_eq!(rates.collect::<Vec<_>>(), expected);
}

#[test]
fn an_interface_that_was_away_does_not_go_on() {
    let (mut agent, mut memory) = polled_twice(&["a", "b"]);
    let port = agent.ports.remove(0);
    agent.run(MINUTE, TRAFFIC);
    memory.poll(&agent, after(2));
    agent.ports.insert(0, port);
    agent.run(MINUTE, TRAFFIC);
    let row = memory.poll(&agent, after(3)).row.unwrap();
    assert!(
        !row.breaks
            .spares(column(&row, "ifHCInOctets", "a").unwrap())
    );
    assert!(
        row.breaks
            .spares(column(&row, "ifHCInOctets", "b").unwrap())
    );
}

#[test]
fn a_device_without_64_bit_counters_has_its_32_bit_ones() {
    let mut agent = Agent::new(&["a"]);
    agent.wide = false;
    agent.ports[0].octets = (1 << 32) - 1_000_000;
    let mut memory = Memory::default();
    let report = memory.poll(&agent, START);
    shows(
        &report,
        &["ifInOctets", "ifHCInOctets"],
        &[r#"ifInOctets{ifName="a"} 4293967296"#],
    );
    agent.run(MINUTE, TRAFFIC);
    memory.poll(&agent, after(1));
    assert_eq!(memory.value("ifInOctets", "a"), Some(RATE));
}

#[test]
fn a_32_bit_wrap_is_believed_only_where_sysuptime_says_that_nothing_restarted() {
    let rate = |with_uptime: bool| {
        let mut agent = Agent::new(&["a"]);
        agent.wide = false;
        agent.ports[0].octets = (1 << 32) - 1_000_000;
        let mut memory = Memory::default();
        for minute in 0..2 {
            let mut answer = agent.answer(after(minute));
            if !with_uptime {
                answer
                    .scalars
                    .retain(|scalar| scalar.oid.to_string() != "1.3.6.1.2.1.1.3.0");
            }
            memory.read(&answer);
            agent.run(MINUTE, TRAFFIC);
        }
        memory.value("ifInOctets", "a")
    };
    assert_eq!(rate(true), Some(RATE));
    assert_eq!(rate(false), None);
}

#[test]
fn while_a_table_is_incomplete_names_columns_and_facts_stay() {
    for table in ["ifXTable", "ifTable"] {
        let (mut agent, mut memory) = polled_twice(&["a", "b", "c", "c"]);
        let columns = Arc::clone(&memory.reading.as_ref().unwrap().row.columns);
        let facts = memory.facts.clone();
        agent.failing = vec![table];
        agent.run(MINUTE, TRAFFIC);
        let report = memory.poll(&agent, after(2));
        let row = report.row.unwrap();
        assert!(Arc::ptr_eq(&row.columns, &columns), "{table}");
        assert_eq!(memory.facts, facts, "{table}");
        let (name, failure) = &report.outcome.partial[0];
        assert_eq!((name.as_str(), failure.kind), (table, FailureKind::Timeout));
        assert_eq!(report.outcome.failure, None);
        let octets = row.values[column(&row, "ifHCInOctets", "c#4").unwrap()];
        assert_eq!(octets.is_nan(), table == "ifXTable");

        agent.failing.clear();
        agent.run(MINUTE, TRAFFIC);
        let row = memory.poll(&agent, after(3)).row.unwrap();
        assert!(Arc::ptr_eq(&row.columns, &columns), "{table}");
        assert_eq!(row.breaks, Breaks::None, "{table}");
    }
}

#[test]
fn an_incomplete_table_after_a_silence_loses_no_interface() {
    let (mut agent, mut memory) = polled_twice(&["a", "b"]);
    let facts = memory.facts.clone();
    memory.silence(after(2));
    agent.failing = vec!["ifXTable"];
    agent.run(MINUTE * 2, TRAFFIC);
    memory.poll(&agent, after(3));
    assert_eq!(memory.facts, facts);
}

#[test]
fn an_interface_that_cannot_be_named_yet_is_left_out() {
    let mut agent = Agent::new(&["a", "b"]);
    agent.failing = vec!["ifXTable"];
    assert_eq!(identities(&first_poll(&agent)), ["a"]);
    agent.failing = vec!["ifTable"];
    assert_eq!(identities(&first_poll(&agent)), ["a", "b"]);
}

#[test]
fn an_index_means_nothing_after_a_restart() {
    let (mut agent, mut memory) = polled_twice(&["a", "b"]);
    agent.uptime = 500;
    agent.ports[1].index = 1;
    agent.ports[0].index = 2;
    agent.failing = vec!["ifXTable"];
    let report = memory.poll(&agent, after(2));
    let facts = report.facts.unwrap();
    assert_eq!(facts.interfaces["b"].index, 1);
    assert_eq!(report.row.unwrap().breaks, Breaks::All);
}

fn put_storage(agent: &mut Agent, index: u32, kind: u32, descr: &str, units: [i64; 3]) {
    let entry = "1.3.6.1.2.1.25.2.3.1";
    let kind = SnmpValue::ObjectId(format!("1.3.6.1.2.1.25.2.1.{kind}").parse().unwrap());
    agent.set(&format!("{entry}.2.{index}"), kind);
    agent.set(&format!("{entry}.3.{index}"), octets(descr));
    for (column, value) in (4..).zip(units) {
        agent.set(
            &format!("{entry}.{column}.{index}"),
            SnmpValue::Integer(value),
        );
    }
}

#[test]
fn processors_memory_and_storage_are_read() {
    let mut agent = Agent::new(&[]);
    for (index, load) in [(196_608, 20), (196_609, 40), (196_610, 250)] {
        let oid = format!("1.3.6.1.2.1.25.3.3.1.2.{index}");
        agent.set(&oid, SnmpValue::Integer(load));
    }
    put_storage(&mut agent, 1, 2, "Physical memory", [1024, 1000, 250]);
    put_storage(&mut agent, 2, 2, "a RAM disk", [1024, 10, 1]);
    put_storage(&mut agent, 31, 4, "/", [4096, -2_000_000_000, 1000]);
    put_storage(&mut agent, 32, 4, "/none", [4096, 0, 0]);
    put_storage(&mut agent, 33, 9, "flash", [1, 64, 32]);
    put_storage(&mut agent, 34, 9, "flash", [1, 65, 32]);
    let report = first_poll(&agent);
    shows(
        &report,
        &[
            "cpu_usage_ratio",
            "hrProcessorLoad",
            "memory_size_bytes",
            "memory_used_bytes",
            "memory_usage_ratio",
        ],
        &[
            "cpu_usage_ratio{} 0.3",
            "memory_size_bytes{} 1024000",
            "memory_used_bytes{} 256000",
            "memory_usage_ratio{} 0.25",
            r#"hrProcessorLoad{hrDeviceIndex="196608"} 20"#,
            r#"hrProcessorLoad{hrDeviceIndex="196609"} 40"#,
            r#"hrProcessorLoad{hrDeviceIndex="196610"} -"#,
        ],
    );
    shows(
        &report,
        &["storage_size_bytes"],
        &[
            r#"storage_size_bytes{hrStorageDescr="/"} 9400186044416"#,
            r#"storage_size_bytes{hrStorageDescr="flash#33"} 64"#,
            r#"storage_size_bytes{hrStorageDescr="flash#34"} 65"#,
        ],
    );
}

#[test]
fn while_a_host_table_is_incomplete_its_columns_stay() {
    let mut agent = Agent::new(&["a"]);
    agent.set("1.3.6.1.2.1.25.3.3.1.2.1", SnmpValue::Integer(20));
    put_storage(&mut agent, 1, 2, "Physical memory", [1024, 1000, 250]);
    put_storage(&mut agent, 31, 4, "/", [4096, 10, 1]);
    let mut memory = Memory::default();
    let first = memory.poll(&agent, START).row.unwrap();
    agent.failing = vec!["hrProcessorTable", "hrStorageTable"];
    agent.run(MINUTE, TRAFFIC);
    let report = memory.poll(&agent, after(1));
    assert!(Arc::ptr_eq(
        &report.row.as_ref().unwrap().columns,
        &first.columns
    ));
    shows(
        &report,
        &["cpu_usage_ratio", "storage_used_bytes"],
        &[
            "cpu_usage_ratio{} -",
            r#"storage_used_bytes{hrStorageDescr="/"} -"#,
        ],
    );
}

#[test]
fn an_agent_that_shows_nothing_is_up_and_says_why() {
    let answer = crate::agent::answer(&crate::agent::Mib::new(), START);
    let report = parse::snmp(crate::agent::DEVICE, &answer, None, None);
    shows(&report, &["snmp_up", "sysUpTime"], &["snmp_up{} 1"]);
    let (name, failure) = &report.outcome.partial[0];
    assert_eq!(
        (name.as_str(), failure.kind),
        ("system", FailureKind::Refused)
    );
    assert!(failure.text.contains("view"), "{failure}");
}

#[test]
fn device_text_is_safe_wherever_it_goes() {
    let mut agent = Agent::new(&["a\x1b[31m\u{202e}b"]);
    agent.ports[0].alias = "x\ny".to_owned();
    agent.set("1.3.6.1.2.1.1.6.0", octets("cellar\0\r\n"));
    let facts = first_poll(&agent).facts.unwrap();
    assert_eq!(facts.interfaces["ab"].alias.as_deref(), Some("x y"));
    assert_eq!(facts.system.location.as_deref(), Some("cellar"));
}

#[test]
fn too_many_interfaces_are_cut_and_the_cut_is_named() {
    let mut agent = Agent::new(&[]);
    let many = u32::try_from(parse::MAX_INTERFACES).unwrap() + 5;
    agent.ports = (1..=many)
        .map(|index| Port::new(index, &format!("p{index}")))
        .collect();
    let report = first_poll(&agent);
    assert_eq!(identities(&report).len(), parse::MAX_INTERFACES);
    let (name, failure) = &report.outcome.partial[0];
    assert_eq!(name, "ifTable");
    assert_eq!(
        failure.text,
        "ifTable has 10005 rows: only the 10000 with the lowest index are read"
    );
}
