//! Recordings of real devices, read and compared with what another system
//! read out of them.
//!
//! That system also reads vendors' own MIBs and mends what some devices send,
//! and it leaves out interfaces that it takes for useless. So only what both
//! name is compared, and a floor says how many recordings agree in full. Those
//! that do not are printed: `cargo test -p parse recordings -- --nocapture`. The
//! recordings are not part of the project: where they are missing, the test
//! says so and passes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use model::{DeviceId, Facts, Oid, PollReport, SnmpValue, Timestamp};
use serde_json::Value;

use crate::agent::{Mib, answer};

/// Files of `OID|type|value`, each with a `.json` beside it.
const RECORDINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/librenms");

const AT: Timestamp = Timestamp(1_800_000_000_000);

fn recordings() -> Vec<PathBuf> {
    let Ok(folder) = std::fs::read_dir(RECORDINGS) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = folder
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "snmprec"))
        .collect();
    paths.sort();
    paths
}

fn recording(path: &Path) -> Mib {
    let bytes = std::fs::read(path).unwrap();
    bytes
        .split(|byte| *byte == b'\n')
        .filter_map(object)
        .collect()
}

/// One line; `None` for comments and types that no poll meets.
fn object(line: &[u8]) -> Option<(Oid, SnmpValue)> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut parts = line.splitn(3, |byte| *byte == b'|');
    let oid = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let kind = std::str::from_utf8(parts.next()?).ok()?;
    let raw = parts.next()?;
    let (kind, bytes) = match kind.as_bytes() {
        [.., b'x'] => (&kind[..kind.len() - 1], unhex(raw)),
        [.., b'e'] => (&kind[..kind.len() - 1], unescape(raw)),
        _ => (kind, raw.to_vec()),
    };
    Some((oid, value(kind, bytes)?))
}

fn value(kind: &str, bytes: Vec<u8>) -> Option<SnmpValue> {
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    Some(match kind {
        "2" => SnmpValue::Integer(text.parse().ok()?),
        "4" => SnmpValue::Octets(bytes.into()),
        "5" => SnmpValue::Null,
        "6" => SnmpValue::ObjectId(text.parse().ok()?),
        "64" => SnmpValue::IpAddress(bytes.try_into().unwrap_or_default()),
        "65" => SnmpValue::Counter32(text.parse().ok()?),
        "66" => SnmpValue::Gauge32(text.parse().ok()?),
        "67" => SnmpValue::TimeTicks(text.parse().ok()?),
        "68" => SnmpValue::Opaque(bytes.into()),
        "70" => SnmpValue::Counter64(text.parse().ok()?),
        _ => return None,
    })
}

fn unhex(text: &[u8]) -> Vec<u8> {
    let pairs = text
        .chunks_exact(2)
        .map(|pair| std::str::from_utf8(pair).ok());
    pairs
        .map_while(|pair| u8::from_str_radix(pair?, 16).ok())
        .collect()
}

/// `\\xd4` stands for one byte.
fn unescape(text: &[u8]) -> Vec<u8> {
    match text {
        [b'\\', b'x', high, low, rest @ ..] => {
            let mut bytes = unhex(&[*high, *low]);
            bytes.extend(unescape(rest));
            bytes
        }
        [first, rest @ ..] => [&[*first], unescape(rest).as_slice()].concat(),
        [] => Vec::new(),
    }
}

/// How many recordings have to agree on each part. The others differ because
/// the part comes from a vendor's own MIB there, because the device's answer
/// is mended (`lo` filled up with NUL is shown as `lo....` there), or because
/// an interface has 32-bit counters beside others with 64-bit ones.
const FLOORS: [(&str, usize); 15] = [
    ("ifName", 354),
    ("ifDescr", 349),
    ("ifAlias", 352),
    ("speed", 319),
    ("MAC", 333),
    ("oper status", 359),
    ("admin status", 346),
    ("octets in", 309),
    ("octets out", 308),
    ("packets in", 297),
    ("errors in", 97),
    ("discards out", 64),
    ("processors", 76),
    ("memory", 70),
    ("storage", 68),
];

/// How many of the recordings that say something of it agree.
#[derive(Default)]
struct Tally {
    agree: usize,
    differ: Vec<String>,
}

impl Tally {
    fn count(&mut self, recording: &str, agrees: Result<(), String>) {
        match agrees {
            Ok(()) => self.agree += 1,
            Err(how) => self.differ.push(format!("{recording}: {how}")),
        }
    }
    fn report(&self, what: &str) {
        let all = self.agree + self.differ.len();
        println!("{what}: {} of {all} recordings agree", self.agree);
        for differ in &self.differ {
            println!("  {differ}");
        }
    }
}

fn same<T: PartialEq + std::fmt::Debug>(ours: &T, theirs: &T) -> Result<(), String> {
    match ours == theirs {
        true => Ok(()),
        false => Err(format!("ours {ours:?}, theirs {theirs:?}")),
    }
}

fn rows<'a>(expected: &'a Value, part: &str) -> Vec<&'a Value> {
    let rows = expected[part][part].as_array();
    rows.map(|rows| rows.iter().collect()).unwrap_or_default()
}

/// By ifIndex.
type ByIndex<T> = BTreeMap<u64, T>;

fn by_index<T>(facts: &Facts, what: impl Fn(&str, &model::Interface) -> Option<T>) -> ByIndex<T> {
    let interfaces = facts.interfaces.iter();
    interfaces
        .filter_map(|(id, interface)| Some((interface.index.into(), what(id, interface)?)))
        .collect()
}

fn their_index<T>(ports: &[&Value], what: impl Fn(&Value) -> Option<T>) -> ByIndex<T> {
    let ports = ports.iter();
    ports
        .filter_map(|port| Some((port["ifIndex"].as_u64()?, what(port)?)))
        .collect()
}

fn difference<T: PartialEq + std::fmt::Debug>(
    ours: &ByIndex<T>,
    theirs: &ByIndex<T>,
) -> Result<(), String> {
    let differing: Vec<String> = theirs
        .keys()
        .filter(|index| ours.get(*index) != theirs.get(*index))
        .map(|index| format!("{index}: {:?} / {:?}", ours.get(index), theirs.get(index)))
        .collect();
    match differing.len() {
        0 => Ok(()),
        count => Err(format!(
            "{count} of {}: {}",
            theirs.len(),
            differing[..count.min(4)].join("; ")
        )),
    }
}

fn sane(report: &PollReport) {
    let row = report.row.as_ref().unwrap();
    let facts = report.facts.as_ref().unwrap();
    assert_eq!(row.values.len(), row.columns.series().len());
    let keys: BTreeSet<(&str, String)> = row
        .columns
        .series()
        .iter()
        .map(|series| (&*series.metric, series.labels.to_string()))
        .collect();
    assert_eq!(
        keys.len(),
        row.values.len(),
        "two columns are the same series"
    );
    let indices: BTreeSet<u32> = facts.interfaces.values().map(|i| i.index).collect();
    assert_eq!(indices.len(), facts.interfaces.len());
    assert!(
        row.values
            .iter()
            .all(|value| value.is_nan() || (*value >= 0.0 && value.is_finite()))
    );
}

/// What a poll says, beside what they say, for each thing that both name.
struct Comparison<'a> {
    report: &'a PollReport,
    facts: &'a Facts,
    expected: &'a Value,
}

impl Comparison<'_> {
    fn interfaces<T: PartialEq + std::fmt::Debug>(
        &self,
        ours: impl Fn(&str, &model::Interface) -> Option<T>,
        theirs: impl Fn(&Value) -> Option<T>,
    ) -> Option<Result<(), String>> {
        let ports = rows(self.expected, "ports");
        let theirs = their_index(&ports, theirs);
        let ours = by_index(self.facts, ours);
        (!theirs.is_empty()).then(|| difference(&ours, &theirs))
    }

    fn values(&self, metric: &str, label: &str) -> BTreeMap<String, f64> {
        let row = self.report.row.as_ref().unwrap();
        let all = row.columns.series().iter().zip(row.values.iter());
        all.filter(|(series, _)| &*series.metric == metric)
            .map(|(series, value)| (series.labels.get(label).unwrap_or("").to_owned(), *value))
            .collect()
    }

    fn counters(&self, wide: &str, narrow: &str, field: &str) -> Option<Result<(), String>> {
        let (wide, narrow) = (self.values(wide, "ifName"), self.values(narrow, "ifName"));
        let ours = |id: &str, _: &model::Interface| {
            let found = |values: &BTreeMap<String, f64>| values.get(id).copied();
            let value = found(&wide).filter(|v| !v.is_nan()).or(found(&narrow))?;
            (!value.is_nan()).then_some(value)
        };
        self.interfaces(ours, |port| port[field].as_f64().filter(|v| *v > 0.0))
    }

    fn processors(&self) -> Option<Result<(), String>> {
        let rows = rows(self.expected, "processors").into_iter();
        let rows = rows.filter(|row| row["processor_type"] == "hr");
        let theirs: BTreeMap<String, f64> = rows
            .filter_map(|row| {
                let index = row["processor_index"].as_str()?.to_owned();
                Some((index, row["processor_usage"].as_f64()?))
            })
            .collect();
        (!theirs.is_empty())
            .then(|| same(&self.values("hrProcessorLoad", "hrDeviceIndex"), &theirs))
    }

    fn memory(&self) -> Option<Result<(), String>> {
        let rows = rows(self.expected, "mempools").into_iter();
        let mut pools = rows
            .filter(|row| row["mempool_type"] == "hrstorage" && row["mempool_class"] == "system");
        let theirs = pools.next()?["mempool_total"].as_f64()?;
        let ours = self.values("memory_size_bytes", "");
        Some(same(&ours.get("").copied(), &Some(theirs)))
    }

    fn storages(&self) -> Option<Result<(), String>> {
        let rows = rows(self.expected, "storage").into_iter();
        let rows = rows.filter(|row| row["type"] == "hrstorage");
        let theirs: BTreeMap<u64, u64> = rows
            .filter_map(|row| Some((row["storage_size"].as_u64()?, row["storage_used"].as_u64()?)))
            .collect();
        let size = self.values("storage_size_bytes", "hrStorageDescr");
        let used = self.values("storage_used_bytes", "hrStorageDescr");
        let ours: BTreeSet<(String, String)> = size
            .iter()
            .map(|(descr, size)| (size.to_string(), used[descr].to_string()))
            .collect();
        let missing: Vec<_> = theirs
            .iter()
            .filter(|(size, used)| !ours.contains(&(size.to_string(), used.to_string())))
            .collect();
        (!theirs.is_empty())
            .then(|| same(&missing, &Vec::new()).map_err(|how| format!("{how} {ours:?}")))
    }
}

/// 0 and all ones say that the speed is not known; beyond 10 Tbit/s somebody
/// took bit/s for Mbit/s.
fn is_a_speed(speed: &u64) -> bool {
    *speed > 0 && *speed < 10_000_000_000_000 && *speed != u64::from(u32::MAX)
}

fn word(names: &[&str], code: Option<u32>) -> Option<String> {
    let place = usize::try_from(code?).ok()?.checked_sub(1)?;
    names.get(place).map(|name| (*name).to_owned())
}

fn text(port: &Value, field: &str) -> Option<String> {
    port[field].as_str().map(str::to_owned)
}

const OPER_STATUS: [&str; 7] = [
    "up",
    "down",
    "testing",
    "unknown",
    "dormant",
    "notPresent",
    "lowerLayerDown",
];

#[test]
fn recordings_of_real_devices_are_read_as_another_system_reads_them() {
    let paths = recordings();
    if paths.is_empty() {
        println!("skipped: there are no recordings in {RECORDINGS}");
        return;
    }
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    for path in &paths {
        let name = path.file_stem().unwrap().to_string_lossy();
        let report = parse::snmp(DeviceId(1), &answer(&recording(path), AT), None, None);
        sane(&report);
        let facts = report.facts.clone().unwrap();
        let expected = std::fs::read(path.with_extension("json")).unwrap();
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        let comparison = Comparison {
            report: &report,
            facts: &facts,
            expected: &expected,
        };
        let parts = [
            (
                "ifName",
                comparison.interfaces(
                    |_, i| i.name.clone().or(i.descr.clone()),
                    |port| text(port, "ifName"),
                ),
            ),
            (
                "ifDescr",
                comparison.interfaces(|_, i| i.descr.clone(), |port| text(port, "ifDescr")),
            ),
            (
                "ifAlias",
                comparison.interfaces(
                    |_, i| i.alias.clone().or(i.descr.clone()).or(i.name.clone()),
                    |port| text(port, "ifAlias"),
                ),
            ),
            (
                "speed",
                comparison.interfaces(
                    |_, i| i.speed_bps,
                    |port| port["ifSpeed"].as_u64().filter(is_a_speed),
                ),
            ),
            (
                "MAC",
                comparison.interfaces(
                    |_, i| i.mac.as_deref().map(|mac| mac.replace(':', "")),
                    |port| text(port, "ifPhysAddress").filter(|mac| mac != "000000000000"),
                ),
            ),
            (
                "oper status",
                comparison.interfaces(
                    |_, i| word(&OPER_STATUS, i.oper_status),
                    |port| text(port, "ifOperStatus"),
                ),
            ),
            (
                "admin status",
                comparison.interfaces(
                    |_, i| word(&OPER_STATUS, i.admin_status),
                    |port| text(port, "ifAdminStatus"),
                ),
            ),
            (
                "octets in",
                comparison.counters("ifHCInOctets", "ifInOctets", "ifInOctets"),
            ),
            (
                "octets out",
                comparison.counters("ifHCOutOctets", "ifOutOctets", "ifOutOctets"),
            ),
            (
                "packets in",
                comparison.counters("ifHCInUcastPkts", "ifInUcastPkts", "ifInUcastPkts"),
            ),
            (
                "errors in",
                comparison.counters("ifInErrors", "ifInErrors", "ifInErrors"),
            ),
            (
                "discards out",
                comparison.counters("ifOutDiscards", "ifOutDiscards", "ifOutDiscards"),
            ),
            ("processors", comparison.processors()),
            ("memory", comparison.memory()),
            ("storage", comparison.storages()),
        ];
        for (what, agrees) in parts {
            if let Some(agrees) = agrees {
                tallies.entry(what).or_default().count(&name, agrees);
            }
        }
    }
    let mut odd: BTreeSet<&str> = BTreeSet::new();
    for (what, floor) in FLOORS {
        let tally = &tallies[what];
        tally.report(what);
        assert!(tally.agree >= floor, "{what}: only {} agree", tally.agree);
        if ["ifName", "speed"].contains(&what) {
            odd.extend(
                tally
                    .differ
                    .iter()
                    .filter_map(|line| line.split(':').next()),
            );
        }
    }
    let all = paths.len();
    println!(
        "names and speeds: {} of {all} recordings agree",
        all - odd.len()
    );
}
