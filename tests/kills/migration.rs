//! A store of the schema before this one, and what has to be in it afterwards.

use std::path::Path;

use model::{Check, DeviceId, GroupKey, Timestamp};
use store::Store;
use store::samples::{Select, Selector};

use crate::feed;

/// As the last version of that schema left it.
const STORE: &[u8] = include_bytes!("../../daemon/store/src/tests/golden/schema-2.redb.zst");

/// What that version answered, a line for each point: device, series, ms since
/// [`NOW`], bits of the value, whether a counter broke.
const ANSWERS: &[u8] = include_bytes!("../../daemon/store/src/tests/golden/schema-2.answers.zst");

/// More than either takes unpacked.
const LARGEST: usize = 8 << 20;

/// When the samples in it begin.
const NOW: u64 = 1_795_230_000_000;

/// Puts it where the writer looks for its store.
pub(crate) fn place(folder: &Path) {
    let image = zstd::bulk::decompress(STORE, LARGEST).expect("it was packed with zstd");
    std::fs::write(feed::options(folder).path, image).expect("writable");
}

/// What is missing of it, and what should not be there.
pub(crate) fn compare(folder: &Path) -> Vec<String> {
    let store = match Store::open(feed::options(folder), Timestamp(NOW)) {
        Ok(store) => store,
        Err(error) => return vec![format!("it does not open: {error}")],
    };
    let found = answers_of(&store);
    let mut wrong: Vec<String> = store
        .close()
        .err()
        .map(|e| e.to_string())
        .into_iter()
        .collect();
    let expected = zstd::bulk::decompress(ANSWERS, LARGEST).expect("it was packed with zstd");
    let expected = String::from_utf8_lossy(&expected).into_owned();
    let expected: std::collections::BTreeSet<&str> = expected.lines().collect();
    let found: std::collections::BTreeSet<&str> = found.iter().map(String::as_str).collect();
    let lost = expected
        .difference(&found)
        .map(|line| format!("lost: {line}"));
    let invented = found
        .difference(&expected)
        .map(|line| format!("invented: {line}"));
    wrong.extend(lost.chain(invented));
    wrong
}

fn answers_of(store: &Store) -> Vec<String> {
    let selector: Selector = r#"{__name__=~".+"}"#.parse().expect("a good selector");
    let was_there = |group: GroupKey| {
        let GroupKey { device, check } = group;
        device <= DeviceId(3) && Check::ALL.contains(&check)
    };
    let ask = Select {
        selector: &selector,
        groups: &was_there,
        from: Timestamp(0),
        until: Timestamp(u64::MAX),
        max_points: usize::MAX,
        max_series: usize::MAX,
    };
    let selected = match store.samples().select(&ask) {
        Ok(selected) => selected,
        Err(error) => return vec![error.to_string()],
    };
    let mut lines: Vec<String> = selected.missing.into_iter().map(|part| part.why).collect();
    for series in selected.series {
        let name = format!("{}{:?}", series.key.metric, series.key.labels);
        let device = series.group.device;
        lines.extend(series.points.iter().map(|point| {
            let (at, bits) = (point.at.0 - NOW, point.value.to_bits());
            format!("{device} {name} {at} {bits:016x} {}", point.broken)
        }));
    }
    lines
}
