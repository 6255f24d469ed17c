//! The agents as net-snmp's tools see them: a peer that nobody here wrote.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::bench::{Bench, has, skipped, wait_for};
use simulate::{Fault, Plan, WrapWidth};

const SYS_UP_TIME: &str = ".1.3.6.1.2.1.1.3.0";
const SYS_NAME: &str = ".1.3.6.1.2.1.1.5.0";
const IF_TABLE: &str = ".1.3.6.1.2.1.2";
const IF_X_TABLE: &str = ".1.3.6.1.2.1.31.1.1";
const SWITCH: &str = "sw-berlin-01";

/// ifIndex of Gi1/0/1 of a Catalyst, and of its first uplink, as it is known.
const FIRST_PORT: u32 = 9;
const UPLINK: u32 = 57;
const UPLINK_NAME: &str = "Te1/1/1";

fn column(table: &str, part: u32, index: u32) -> String {
    format!("{table}.1.{part}.{index}")
}

fn if_x(part: u32, index: u32) -> String {
    column(IF_X_TABLE, part, index)
}

fn if_entry(part: u32, index: u32) -> String {
    column(".1.3.6.1.2.1.2.2", part, index)
}

/// The names in a walk's output, as numbers.
fn names(walked: &str) -> Vec<Vec<u32>> {
    walked
        .lines()
        .filter(|line| line.starts_with('.'))
        .map(|line| {
            let name = line.split(' ').next().unwrap();
            name[1..].split('.').map(|id| id.parse().unwrap()).collect()
        })
        .collect()
}

#[test]
fn a_walk_of_the_if_mib_is_complete_and_in_order() {
    if !has("snmpbulkwalk") {
        return;
    }
    let bench = Bench::company();
    let ports = bench.site.interfaces(bench.ip(SWITCH)).unwrap().len();
    for (table, expected) in [(IF_TABLE, 1 + 22 * ports), (IF_X_TABLE, 19 * ports)] {
        let bulk = names(&bench.ask("snmpbulkwalk", SWITCH, &[table]));
        assert_eq!(bulk.len(), expected, "{table}");
        assert!(bulk.windows(2).all(|pair| pair[0] < pair[1]), "{table}");
        let single = names(&bench.ask("snmpwalk", SWITCH, &[table]));
        assert_eq!(single, bulk, "{table}");
    }
}

#[test]
fn every_device_of_a_company_can_be_walked_from_end_to_end() {
    if !has("snmpbulkwalk") {
        return;
    }
    let bench = Bench::with(Plan::Company { devices: 50 });
    for device in bench.site.devices() {
        let walked = bench.ask("snmpbulkwalk", &device.name, &["-Cr40", ".1.3"]);
        let name = format!("{SYS_NAME} = STRING: \"{}\"", device.name);
        assert!(walked.contains(&name), "{walked:.500}");
        assert!(names(&walked).len() > 100, "{}: {walked:.500}", device.name);
        let end = walked.trim_end().lines().next_back().unwrap();
        assert!(
            end.contains("No more variables left"),
            "{}: {end}",
            device.name
        );
    }
}

#[test]
fn counters_have_64_bits_and_rise() {
    if !has("snmpget") {
        return;
    }
    let bench = Bench::company();
    let oid = if_x(6, UPLINK);
    let shown = bench.ask("snmpget", SWITCH, &[&oid]);
    assert!(shown.contains("Counter64: "), "{shown}");
    let before = bench.number(SWITCH, &oid);
    assert!(before > 1 << 32, "{before}");
    wait_for(|| bench.number(SWITCH, &oid), |now| *now > before);
}

#[test]
fn the_32_bit_counter_is_the_low_half_of_the_64_bit_one() {
    if !has("snmpget") {
        return;
    }
    let bench = Bench::company();
    let (short, long) = (if_entry(10, UPLINK), if_x(6, UPLINK));
    let both = bench.ask("snmpget", SWITCH, &["-Oqv", &short, &long]);
    let both: Vec<u64> = both.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(both[0], both[1] & 0xffff_ffff);
}

#[test]
fn version_1_walks_past_64_bit_counters() {
    if !has("snmpwalk") {
        return;
    }
    let bench = Bench::company();
    let v1 = ["-v1", "-cpublic", "-t0.35", "-r0"];
    let ports = bench.site.interfaces(bench.ip(SWITCH)).unwrap().len();
    let walked = bench.ask_as("snmpwalk", SWITCH, &v1, &[IF_X_TABLE]);
    assert_eq!(names(&walked).len(), (19 - 8) * ports);
    let refused = bench.ask_as("snmpget", SWITCH, &v1, &[&if_x(6, UPLINK)]);
    assert!(refused.contains("noSuchName"), "{refused}");
}

#[test]
fn a_device_that_does_not_answer_times_out_and_comes_back() {
    if !has("snmpget") {
        return;
    }
    let bench = Bench::company();
    let ip = bench.ip(SWITCH);
    for fault in [
        Fault::Down,
        Fault::Silent,
        Fault::Lossy(1.0),
        Fault::WrongId,
        Fault::Garbage,
        Fault::Truncated,
        Fault::Community(b"other".to_vec()),
    ] {
        bench.fault(SWITCH, fault.clone());
        let answer = bench.ask("snmpget", SWITCH, &[SYS_NAME]);
        assert!(answer.contains("Timeout"), "{fault:?}: {answer}");
        let neighbour = bench.ask("snmpget", "core-1", &[SYS_NAME]);
        assert!(neighbour.contains("core-1"), "{fault:?}: {neighbour}");
        bench.site.clear(ip).unwrap();
        let answer = bench.ask("snmpget", SWITCH, &[SYS_NAME]);
        assert!(answer.contains(SWITCH), "{fault:?} cleared: {answer}");
    }
}

#[test]
fn a_wrong_community_is_not_answered_and_a_changed_one_is() {
    if !has("snmpget") {
        return;
    }
    let bench = Bench::company();
    let other = ["-v2c", "-cother", "-t0.35", "-r0"];
    let answer = bench.ask_as("snmpget", SWITCH, &other, &[SYS_NAME]);
    assert!(answer.contains("Timeout"), "{answer}");
    bench.fault(SWITCH, Fault::Community(b"other".to_vec()));
    let answer = bench.ask_as("snmpget", SWITCH, &other, &[SYS_NAME]);
    assert!(answer.contains(SWITCH), "{answer}");
}

#[test]
fn a_slow_device_answers_as_late_as_told() {
    if !has("snmpget") {
        return;
    }
    let bench = Bench::company();
    let late = Duration::from_millis(600);
    bench.fault(SWITCH, Fault::Slow(late));
    let answer = bench.ask("snmpget", SWITCH, &[SYS_NAME]);
    assert!(answer.contains("Timeout"), "{answer}");
    let asked = Instant::now();
    let patient = ["-v2c", "-cpublic", "-t10", "-r0"];
    let answer = bench.ask_as("snmpget", SWITCH, &patient, &[SYS_NAME]);
    assert!(answer.contains(SWITCH), "{answer}");
    assert!(asked.elapsed() >= late);
}

#[test]
fn half_of_a_lossy_devices_answers_are_lost() {
    if !has("snmpget") {
        return;
    }
    let bench = Bench::company();
    bench.fault(SWITCH, Fault::Lossy(0.5));
    let quick = ["-v2c", "-cpublic", "-t0.05", "-r0"];
    let lost = (0..40)
        .filter(|_| {
            let answer = bench.ask_as("snmpget", SWITCH, &quick, &[SYS_NAME]);
            answer.contains("Timeout")
        })
        .count();
    assert!((8..=35).contains(&lost), "{lost} of 40 lost");
}

#[test]
fn a_reboot_restarts_uptime_and_counters() {
    if !has("snmpget") {
        return;
    }
    let bench = Bench::company();
    let octets = if_x(6, UPLINK);
    let before = bench.number(SWITCH, &octets);
    let reboot = Fault::Reboot {
        away: Duration::from_millis(100),
        reindex: false,
    };
    bench.fault(SWITCH, reboot);
    let back = |answer: &String| answer.trim().parse::<u64>().is_ok();
    let ask = || bench.ask("snmpget", SWITCH, &["-Oqv", SYS_UP_TIME]);
    let ticks: u64 = wait_for(ask, back).trim().parse().unwrap();
    assert!(ticks < 3_000, "{ticks} hundredths of a second");
    assert!(bench.number(SWITCH, &octets) < before / 2);
}

#[test]
fn counters_that_are_about_to_wrap_say_that_they_jumped() {
    if !has("snmpget") {
        return;
    }
    let bench = Bench::company();
    bench.fault(SWITCH, Fault::Wrap(WrapWidth::Bits64));
    let octets = bench.number(SWITCH, &if_x(6, UPLINK));
    assert!(octets > u64::MAX - (1 << 37), "{octets}");
    assert!(bench.number(SWITCH, &if_x(19, UPLINK)) > 0);
}

#[test]
fn cleared_counters_begin_again_with_a_discontinuity_of_one_interface() {
    if !has("snmpget") {
        return;
    }
    let bench = Bench::company();
    let before = bench.number(SWITCH, &if_x(6, UPLINK));
    let interface = UPLINK_NAME.to_owned();
    bench.fault(SWITCH, Fault::ClearCounters { interface });
    assert!(bench.number(SWITCH, &if_x(6, UPLINK)) < before / 2);
    let ticks = bench.number(SWITCH, &if_x(19, UPLINK));
    assert!(ticks > 0 && ticks <= bench.number(SWITCH, SYS_UP_TIME));
    assert_eq!(bench.number(SWITCH, &if_x(19, UPLINK + 1)), 0);
}

#[test]
fn a_reindex_moves_names_to_other_indexes() {
    if !has("snmpbulkwalk") {
        return;
    }
    let bench = Bench::company();
    let names_by_index = || {
        bench.ask(
            "snmpbulkwalk",
            SWITCH,
            &["-Oqn", &format!("{IF_X_TABLE}.1.1")],
        )
    };
    let before = names_by_index();
    bench.fault(SWITCH, Fault::Reindex);
    let after = names_by_index();
    let moved = before
        .lines()
        .zip(after.lines())
        .all(|(old, new)| old != new);
    assert!(moved, "{after}");
    assert!(after.contains(&format!("\"{UPLINK_NAME}\"")), "{after}");
}

#[test]
fn too_many_varbinds_are_too_big() {
    if !has("snmpget") {
        return;
    }
    let bench = Bench::company();
    bench.fault(SWITCH, Fault::TooBig(2));
    let answer = bench.ask("snmpget", SWITCH, &[SYS_NAME, SYS_UP_TIME, SYS_NAME]);
    assert!(answer.contains("tooBig"), "{answer}");
    let answer = bench.ask("snmpget", SWITCH, &[SYS_NAME, SYS_UP_TIME]);
    assert!(answer.contains(SWITCH), "{answer}");
}

#[test]
fn names_that_do_not_increase_are_seen_as_such() {
    if !has("snmpwalk") {
        return;
    }
    let bench = Bench::company();
    bench.fault(SWITCH, Fault::NotIncreasing);
    for tool in ["snmpwalk", "snmpbulkwalk"] {
        let answer = bench.ask(tool, SWITCH, &[IF_X_TABLE]);
        assert!(answer.contains("OID not increasing"), "{tool}: {answer}");
    }
}

#[test]
fn an_endless_table_has_a_row_behind_every_row() {
    if !has("snmpgetnext") {
        return;
    }
    let bench = Bench::company();
    bench.fault(SWITCH, Fault::Endless);
    for index in [10_000, 1_000_000_000] {
        let next = bench.ask("snmpgetnext", SWITCH, &[&if_x(1, index)]);
        let expected = format!("{} = STRING", if_x(1, index + 1));
        assert!(next.starts_with(&expected), "{next}");
    }
}

#[test]
fn a_device_without_64_bit_counters_has_the_others() {
    if !has("snmpget") {
        return;
    }
    let bench = Bench::company();
    bench.fault(SWITCH, Fault::NoHighCapacity);
    let answer = bench.ask("snmpget", SWITCH, &[&if_x(6, UPLINK)]);
    assert!(answer.contains("No Such Object"), "{answer}");
    let ports = bench.site.interfaces(bench.ip(SWITCH)).unwrap().len();
    let walked = names(&bench.ask("snmpbulkwalk", SWITCH, &[IF_X_TABLE]));
    assert_eq!(walked.len(), (19 - 8) * ports);
    assert!(bench.number(SWITCH, &if_entry(10, UPLINK)) > 0);
}

#[test]
fn an_interface_goes_down_alone_and_comes_up_again() {
    if !has("snmpget") {
        return;
    }
    let bench = Bench::company();
    let status = |index| bench.number(SWITCH, &if_entry(8, index));
    let interface = || UPLINK_NAME.to_owned();
    bench.fault(
        SWITCH,
        Fault::InterfaceDown {
            interface: interface(),
        },
    );
    assert_eq!((status(UPLINK), status(UPLINK + 1)), (2, 1));
    let octets = || bench.number(SWITCH, &if_x(6, UPLINK));
    let still = octets();
    assert_eq!(octets(), still);
    bench.fault(
        SWITCH,
        Fault::InterfaceUp {
            interface: interface(),
        },
    );
    assert_eq!(status(UPLINK), 1);
    wait_for(octets, |now| *now > still);
}

#[test]
fn what_does_not_exist_is_an_exception() {
    if !has("snmpget") {
        return;
    }
    let bench = Bench::company();
    let instance = bench.ask("snmpget", SWITCH, &[&if_x(1, 100_000)]);
    assert!(instance.contains("No Such Instance"), "{instance}");
    let object = bench.ask("snmpget", SWITCH, &[".1.3.6.1.2.1.99.1.0"]);
    assert!(object.contains("No Such Object"), "{object}");
    let set = bench.ask("snmpset", SWITCH, &[SYS_NAME, "s", "mine"]);
    assert!(set.contains("notWritable"), "{set}");
}

#[test]
fn a_lone_device_has_a_socket_of_its_own_and_ports_as_many_as_asked() {
    if !has("snmpbulkwalk") {
        return;
    }
    let bench = Bench::with(Plan::Uniform {
        devices: 1,
        ports: 48,
    });
    let walked = bench.ask("snmpbulkwalk", "sim-00001", &[&format!("{IF_X_TABLE}.1.1")]);
    assert_eq!(names(&walked).len(), 48);
    assert!(walked.starts_with(&if_x(1, FIRST_PORT)), "{walked:.200}");
}

// --- recordings

/// One line of a recording as net-snmp shows it with `-Onetx`.
fn shown(line: &str) -> Option<(Vec<u32>, String)> {
    let line = line.trim_end_matches('\r');
    let mut fields = line.splitn(3, '|');
    let (oid, kind, value) = (fields.next()?, fields.next()?, fields.next()?);
    let ids: Option<Vec<u32>> = oid
        .trim_start_matches('.')
        .split('.')
        .map(|id| id.parse().ok())
        .collect();
    let hex = |bytes: &[u8]| match bytes {
        [] => "\"\"".to_owned(),
        bytes => {
            let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            format!("Hex-STRING: {}", digits.join(" "))
        }
    };
    let unhex = |text: &str| -> Vec<u8> {
        (0..text.len() / 2)
            .map(|place| u8::from_str_radix(&text[place * 2..place * 2 + 2], 16).unwrap())
            .collect()
    };
    let value = match kind {
        "2" => format!("INTEGER: {value}"),
        "4" => hex(value.as_bytes()),
        "4x" => hex(&unhex(value)),
        "6" => format!("OID: .{}", value.trim_start_matches('.')),
        "64" => format!("IpAddress: {value}"),
        "65" => format!("Counter32: {value}"),
        "66" => format!("Gauge32: {value}"),
        "67" => value.to_owned(),
        "70" => format!("Counter64: {value}"),
        _ => return None,
    };
    Some((ids?, value))
}

/// A walk's output, one pair for each instance; net-snmp breaks long values
/// into lines.
fn walked(output: &str) -> Vec<(Vec<u32>, String)> {
    let mut pairs: Vec<(Vec<u32>, String)> = Vec::new();
    for line in output.lines() {
        let named = line
            .strip_prefix('.')
            .and_then(|line| line.split_once(" = "));
        match (named, pairs.last_mut()) {
            (Some((name, value)), _) => {
                let ids = name.split('.').map(|id| id.parse().unwrap()).collect();
                pairs.push((ids, value.trim_end().to_owned()));
            }
            (None, Some((_, value))) if !line.is_empty() => {
                value.push(' ');
                value.push_str(line.trim());
            }
            (None, _) => {}
        }
    }
    pairs
}

fn replayed_equals(path: &Path) {
    let text = String::from_utf8(fs::read(path).unwrap()).unwrap();
    let mut expected: Vec<(Vec<u32>, String)> = text.lines().filter_map(shown).collect();
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    expected.dedup_by(|later, first| later.0 == first.0);

    let bench = Bench::with(Plan::Recordings(vec![path.to_owned()]));
    let name = bench.site.devices()[0].name.clone();
    let output = bench.ask("snmpbulkwalk", &name, &["-Ox", "-Cr20", ".1"]);
    let mut seen = walked(&output);
    // what the walk says when it is through
    seen.retain(|(_, value)| !value.starts_with("No more variables left"));
    assert_eq!(seen.len(), expected.len(), "{}", path.display());
    for (seen, expected) in seen.iter().zip(&expected) {
        assert_eq!(seen, expected, "{}", path.display());
    }
}

#[test]
fn a_recording_served_equals_its_file() {
    if !has("snmpbulkwalk") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("switch.snmprec");
    let lines = "1.3.6.1.2.1.1.5.0|4|hall 3\n1.3.6.1.2.1.1.2.0|6|1.3.6.1.4.1.9.1.1\n\
                 1.3.6.1.2.1.1.3.0|67|4294967295\n1.3.6.1.2.1.2.2.1.6.1|4x|00005e0053AF\n\
                 1.3.6.1.2.1.4.20.1.1.10.0.0.1|64|10.0.0.1\n1.3.6.1.2.1.2.2.1.10.1|65|7\n\
                 1.3.6.1.2.1.31.1.1.1.6.1|70|18446744073709551615\n1.3.6.1.4.1.99.1|2|-1\n";
    fs::write(&path, lines).unwrap();
    replayed_equals(&path);
}

#[test]
fn recordings_of_real_devices_are_served_as_they_are() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/librenms");
    if !folder.is_dir() {
        skipped("the recordings of real devices are not here");
        return;
    }
    if !has("snmpbulkwalk") {
        return;
    }
    for name in [
        "3com",
        "aaron_650",
        "advantech",
        "adtran-aos",
        "aix_std",
        "allied-tq",
    ] {
        replayed_equals(&folder.join(format!("{name}.snmprec")));
    }
}

#[test]
fn a_recording_can_be_down_but_has_no_interfaces_to_clear() {
    if !has("snmpget") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("switch.snmprec");
    fs::write(&path, "1.3.6.1.2.1.1.5.0|4|hall 3\n").unwrap();
    let bench = Bench::with(Plan::Recordings(vec![path]));
    let refused = bench
        .site
        .fault(bench.ip("switch"), Fault::Reindex)
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "switch replays a recording, which cannot do \"reindex\""
    );
    bench.fault("switch", Fault::Down);
    let answer = bench.ask("snmpget", "switch", &[SYS_NAME]);
    assert!(answer.contains("Timeout"), "{answer}");
}
