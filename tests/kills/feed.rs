//! What is appended: every value follows from its place, so whoever reads it
//! knows whether somebody wrote it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::{Check, Columns, DeviceId, GroupKey, Labels, MetricKind, SeriesKey, Timestamp};
use store::StoreOptions;

use crate::scene::Scene;

/// Devices of one writer.
pub(crate) const DEVICES: u64 = 7;

/// Values of a row.
pub(crate) const WIDTH: usize = 12;

/// The first row's time: midnight, so that a day is a day.
const BEGINNING: u64 = 1_795_305_600_000;

/// What the first device's number is: others are in a store that was there.
const FIRST_DEVICE: u64 = 1_000;

/// The group of a device.
pub(crate) fn group(device: u64) -> GroupKey {
    GroupKey {
        device: DeviceId(FIRST_DEVICE + device),
        check: Check::Snmp,
    }
}

/// Whether a group is one of ours.
pub(crate) fn is_ours(key: GroupKey) -> bool {
    (0..DEVICES).any(|device| group(device) == key)
}

/// When the rows of a step are.
pub(crate) fn time(scene: Scene, step: u64) -> Timestamp {
    Timestamp(BEGINNING + step * scene.step_ms())
}

/// Which step has rows of this instant.
pub(crate) fn step_of(scene: Scene, at: Timestamp) -> Option<u64> {
    let since = at.0.checked_sub(BEGINNING)?;
    (since % scene.step_ms() == 0).then(|| since / scene.step_ms())
}

/// A counter, gauges of every sort, and a column that is absent now and then.
pub(crate) fn value(device: u64, column: usize, step: u64) -> f64 {
    let mix = step
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(device * 131 + column as u64)
        .rotate_left(17)
        .wrapping_mul(0xD1B5_4A32_D192_ED03);
    let small = |n: u64| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    match column {
        0..=3 => small(step) * small(1_000 + device) + small(mix % 900),
        4 => small(mix % 101),
        5 => small(mix % 4_000) / 100.0,
        6 if mix.is_multiple_of(5) => f64::NAN,
        6 => 1.0,
        7 => f64::from_bits((mix >> 2) | 0x3FF0_0000_0000_0000)
            .abs()
            .fract(),
        8 if mix.is_multiple_of(97) => f64::INFINITY,
        _ => small(column as u64),
    }
}

/// The columns of every device.
pub(crate) fn columns() -> Arc<Columns> {
    let series = (0..WIDTH).map(|column| SeriesKey {
        metric: format!("m{column}").into(),
        labels: Arc::new(Labels::new([("port", column.to_string())])),
        kind: match column {
            0..=3 => MetricKind::Counter64,
            9 => MetricKind::State,
            _ => MetricKind::Gauge,
        },
    });
    Arc::new(Columns::new(series.collect()))
}

/// How the writer and whoever checks it open the store.
pub(crate) fn options(folder: &Path) -> StoreOptions {
    const YEAR: Duration = Duration::from_secs(366 * 86_400);
    StoreOptions {
        commit_every: Duration::from_millis(10),
        keep_samples: 10 * YEAR,
        keep_15m: 10 * YEAR,
        keep_1h: 10 * YEAR,
        ballast_bytes: 1 << 20,
        ..StoreOptions::at(folder.join("sotp.redb"))
    }
}
