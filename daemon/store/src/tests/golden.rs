//! A store of schema 2, as the last version that had it left it.
//!
//! `golden/schema-2.redb.zst` was written by that version from the recipe here.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use model::{
    Breaks, Check, Columns, DeviceId, Facts, Failure, FailureKind, GroupKey, Labels, MetricKind,
    Outcome, PollReport, PollRow, SeriesKey, Timestamp,
};

use super::sim::{Dice, SimDisk};
use super::support::*;
use crate::{OpenError, Store};

/// The file.
const SCHEMA_2: &[u8] = include_bytes!("golden/schema-2.redb.zst");

const MINUTE: u64 = 60_000;

/// Everything that it was given, in the order in which it came.
fn reports() -> Vec<PollReport> {
    let steady = (0..200u32).map(steady);
    let ports = (0..150u32).map(ports);
    let back = (0..90u32).map(set_back);
    steady.chain(ports).chain(back).chain([failed()]).collect()
}

fn key(metric: &str, port: Option<u32>, kind: MetricKind) -> SeriesKey {
    let labels = port.map(|port| ("ifName", format!("Gi1/0/{port}")));
    SeriesKey {
        metric: metric.into(),
        labels: Arc::new(Labels::new(labels)),
        kind,
    }
}

fn report_of(group: GroupKey, at: u64, columns: Vec<SeriesKey>, values: Vec<f64>) -> PollReport {
    let at = Timestamp(NOW.0 + at);
    PollReport {
        group,
        outcome: outcome(at),
        row: Some(PollRow {
            group,
            at,
            columns: Arc::new(Columns::new(columns)),
            values: values.into(),
            breaks: Breaks::None,
        }),
        facts: None,
    }
}

/// Device 1: pings, with what floating point has in its corners.
fn steady(minute: u32) -> PollReport {
    let columns = vec![
        key("icmp_rtt_avg", None, MetricKind::Gauge),
        key("icmp_loss", None, MetricKind::Gauge),
        key("odd", None, MetricKind::State),
    ];
    let odd = match minute % 9 {
        0 => -0.0,
        1 => f64::INFINITY,
        2 => f64::NEG_INFINITY,
        3 => 1.0 / 3.0,
        4 => 1.0e300,
        _ => f64::NAN,
    };
    let rtt = match minute % 50 {
        7 => f64::NAN,
        other => f64::from(other) / 1_000.0,
    };
    let at = u64::from(minute) * MINUTE + u64::from(minute % 7);
    report_of(icmp(1), at, columns, vec![rtt, f64::from(minute % 3), odd])
}

/// Device 2: counters of ports, of which there are more after a while, with
/// restarts and a counter that wraps. The newest rows are in no chunk yet.
fn ports(minute: u32) -> PollReport {
    let count = if minute < 80 { 4 } else { 6 };
    let columns = (0..count).map(|port| key("ifHCInOctets", Some(port), MetricKind::Counter64));
    let up = key("sysUpTime", None, MetricKind::Counter32);
    let values = (0..count).map(|port| f64::from(minute) * 1.5e9 + f64::from(port));
    let group = GroupKey {
        device: DeviceId(2),
        check: Check::Snmp,
    };
    let columns = columns.chain([up]).collect();
    let values = values.chain([f64::from(minute % 40)]).collect();
    let mut report = report_of(group, u64::from(minute) * MINUTE, columns, values);
    let row = report.row.as_mut().unwrap();
    row.breaks = match minute {
        40 | 80 | 149 => Breaks::All,
        20 | 100 => Breaks::Columns(vec![0, 3]),
        _ => Breaks::None,
    };
    if minute == 0 {
        report.facts = Some(Facts {
            system: model::SystemFacts {
                name: Some("d2".into()),
                ..Default::default()
            },
            ..Default::default()
        });
    }
    report
}

/// Device 3: its clock is set back by half an hour after an hour, and half a
/// minute more, but for one instant that is there twice.
fn set_back(count: u32) -> PollReport {
    let at = match count {
        0..60 => u64::from(count) * MINUTE,
        70 => 40 * MINUTE,
        _ => u64::from(count - 30) * MINUTE + MINUTE / 2,
    };
    let columns = vec![key("x", None, MetricKind::Counter64)];
    report_of(icmp(3), at, columns, vec![f64::from(count) * 7.0])
}

/// The latest asking of device 1.
fn failed() -> PollReport {
    let at = Timestamp(NOW.0 + 200 * MINUTE);
    let failure = Failure {
        kind: FailureKind::Timeout,
        text: "no answer within 2 s".to_owned(),
    };
    PollReport {
        group: icmp(1),
        outcome: Outcome {
            at,
            took: Duration::from_millis(2_001),
            partial: vec![("ifTable".to_owned(), failure.clone())],
            failure: Some(failure),
        },
        row: None,
        facts: None,
    }
}

/// What that version answered, a line for each point: device, series, ms since
/// [`NOW`], bits of the value, whether a counter broke.
fn answers() -> Vec<String> {
    let text = zstd::bulk::decompress(include_bytes!("golden/schema-2.answers.zst"), 1 << 20);
    let text = String::from_utf8(text.unwrap()).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn answers_of(store: &Store) -> Vec<String> {
    let mut lines = Vec::new();
    for device in 1..=3 {
        for series in select(store, device, 0, u64::MAX) {
            let name = format!("{}{:?}", series.key.metric, series.key.labels);
            lines.extend(series.points.iter().map(|point| {
                let (at, bits) = (point.at.0 - NOW.0, point.value.to_bits());
                format!("{device} {name} {at} {bits:016x} {}", point.broken)
            }));
        }
    }
    lines.sort();
    lines
}

/// The golden file, where a store looks for its own.
fn golden() -> (Home, Vec<u8>) {
    let home = Home::new();
    let image = zstd::bulk::decompress(SCHEMA_2, 4 << 20).unwrap();
    std::fs::write(home.path(), &image).unwrap();
    (home, image)
}

/// What is not in the answers.
fn check_the_rest(store: &Store) {
    assert_eq!(store.inventory().len(), 3);
    assert_eq!(store.open_alerts().len(), 1);
    assert!(store.alert(model::AlertId(2)).unwrap().is_some());
    assert!(store.last_address("core1.example.net").is_some());
    let facts = store.facts(DeviceId(2)).unwrap();
    assert_eq!(facts.system.name.as_deref(), Some("d2"));
    let newest: BTreeMap<GroupKey, PollReport> = reports()
        .into_iter()
        .map(|report| (report.group, report))
        .collect();
    for (group, report) in newest {
        assert_eq!(store.outcome(group), Some(report.outcome), "{group:?}");
    }
    let reading = store.reading(icmp(1)).unwrap();
    let newest = steady(199).row.unwrap();
    assert_eq!(
        (reading.row.at, &reading.row.columns),
        (newest.at, &newest.columns)
    );
    let previous = reading.previous.as_ref().unwrap();
    assert_eq!(previous.0, steady(198).row.unwrap().at);
    assert_eq!(store.verify_audit().unwrap().broken, None);
}

#[test]
fn every_value_of_schema_2_is_there_after_the_migration() {
    let (home, image) = golden();
    let at = NOW.plus(Duration::from_secs(4 * 3_600));
    let store = Store::open(home.options(), at).unwrap();
    let expected = answers();
    assert!(expected.len() > 1_400, "{}", expected.len());
    assert_eq!(answers_of(&store), expected);
    check_the_rest(&store);
    let stats = store.stats();
    // one instant of device 3 was there twice
    assert_eq!(stats.rows, 439, "{stats:?}");
    assert_eq!(stats.samples.head_rows, 0, "all of it is in segments");
    store.close().unwrap();
    let store = Store::open(home.options(), at).unwrap();
    assert_eq!(answers_of(&store), expected);
    check_the_rest(&store);
    let row = report_of(icmp(3), 3 * 3_600_000, steady_columns(), vec![1.0]);
    send(&store, row);

    let copy = home.path().with_file_name("sotp.redb.before-3");
    assert!(std::fs::read(&copy).unwrap() == image, "as it was");
    let mode = std::fs::metadata(&copy).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

fn steady_columns() -> Vec<SeriesKey> {
    vec![key("x", None, MetricKind::Counter64)]
}

#[test]
fn a_migration_whose_power_goes_at_any_write_comes_to_its_end() {
    let home = Home::new();
    let image = zstd::bulk::decompress(SCHEMA_2, 4 << 20).unwrap();
    let expected = answers();
    let open = |disk: &SimDisk| Store::open_on(home.options(), disk.parts(), QUICK, NOW);
    for writes in (1..120).step_by(2) {
        let story = format!("power gone at write {writes}");
        let mut dice = Dice::new(writes);
        let disk = SimDisk::new(image.clone());
        match writes % 4 {
            1 => disk.crash_in(writes),
            _ => disk.fs.crash_in(writes),
        }
        match open(&disk) {
            Ok(store) => drop(store.close()),
            Err(_) => assert!(disk.is_dead(), "{story}"),
        }
        let disk = disk.after_power_cut(&mut dice);
        let store = open(&disk).unwrap();
        assert_eq!(answers_of(&store), expected, "{story}");
        check_the_rest(&store);
        store.close().unwrap();
    }
}

#[test]
fn a_migration_without_room_is_refused_and_changes_nothing() {
    let home = Home::new();
    let image = zstd::bulk::decompress(SCHEMA_2, 4 << 20).unwrap();
    let disk = SimDisk::new(image.clone());
    disk.fs.set_capacity(Some(1 << 20));
    let error = Store::open_on(home.options(), disk.parts(), QUICK, NOW).unwrap_err();
    assert!(matches!(error, OpenError::NoRoom { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("MiB have to be free"), "{text}");
    assert!(disk.image() == image);
    disk.fs.set_capacity(None);
    let store = Store::open_on(home.options(), disk.parts(), QUICK, NOW).unwrap();
    assert_eq!(answers_of(&store), answers());
}

#[test]
fn damaged_rows_of_schema_2_are_lost_alone() {
    let (home, image) = golden();
    let db = redb::Database::open(home.path()).unwrap();
    let txn = crate::disk::begin_write(&db).unwrap();
    let chunks: redb::TableDefinition<'_, (u32, u64, u16), &[u8]> =
        redb::TableDefinition::new("chunk");
    let mut chunks = txn.open_table(chunks).unwrap();
    let key = redb::ReadableTable::first(&chunks)
        .unwrap()
        .unwrap()
        .0
        .value();
    chunks.insert(key, &b"damaged"[..]).unwrap();
    drop(chunks);
    txn.commit().unwrap();
    drop(db);
    assert!(std::fs::read(home.path()).unwrap() != image);
    let store = home.open();
    let (found, expected) = (answers_of(&store), answers());
    assert!(found.len() < expected.len());
    assert!(found.iter().all(|line| expected.contains(line)));
    let others = |lines: &[String]| lines.iter().filter(|line| !line.starts_with('1')).count();
    assert_eq!(others(&found), others(&expected));
}
