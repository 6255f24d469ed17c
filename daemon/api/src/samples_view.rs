//! The sample store's figures: for whoever watches it, and on the status page.

use model::{MetricKind, Timestamp};
use serde::Serialize;
use store::samples::{ForecastDays, SamplesHealth, SamplesStats, Tier, TierStats};
use utoipa::ToSchema;

use crate::exposition::{ExposedKind, Exposition, as_f64};
use crate::health::size;
use crate::history::seconds;

/// The kinds of metrics in the order in which they are counted.
const KINDS: [MetricKind; 4] = [
    MetricKind::Counter32,
    MetricKind::Counter64,
    MetricKind::Gauge,
    MetricKind::State,
];

/// The disk is full in so few days that an operator should know.
const FULL_SOON: f64 = 14.0;

/// How measured values are kept.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SamplesView {
    /// ok, or "not writing": what comes is kept in memory, within a bound.
    health: &'static str,
    /// Why it is not written.
    error: Option<String>,
    /// What an operator should know, one line each.
    warnings: Vec<String>,
    /// What all files of values and roll-ups take.
    bytes: u64,
    /// Values that are kept, in files and in memory; roll-ups are not counted.
    samples: u64,
    /// What a value takes in files; null where there is none.
    bytes_per_sample: Option<f64>,
    /// The same for each kind of metric.
    by_kind: Vec<KindView>,
    /// Series that are measured now.
    active_series: usize,
    /// Values as they were measured.
    raw: TierView,
    /// Roll-ups of 15 minutes.
    #[serde(rename = "15m")]
    quarter: TierView,
    /// Roll-ups of an hour.
    #[serde(rename = "1h")]
    hour: TierView,
    /// Values that were dropped because nothing could be written for too long.
    dropped: u64,
    /// Files or parts of files that were damaged, since the start.
    damaged: u64,
    /// Damaged files that were set aside.
    quarantined: usize,
    /// Files that were deleted because there was no room, since the start.
    evicted: u64,
    /// Times that values in memory were written into files, since the start.
    cuts: u64,
    /// How long that took last; null if it was not done yet.
    last_cut_seconds: Option<f64>,
    /// How long the last compaction took; null if there was none yet.
    last_compaction_seconds: Option<f64>,
    /// Within this, 99 of 100 syncs of the log were done; null if there was
    /// none, or if it is longer than a bucket can say.
    sync_p99_seconds: Option<f64>,
    /// How long it took at the start to read what was not in files yet.
    replay_seconds: f64,
    /// In so many days the disk is full if all goes on like this; null if it
    /// will not be, or if that is not known yet.
    disk_full_days: Option<f64>,
    /// The same in words.
    forecast: String,
}

/// Values of one kind of metric, in files.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KindView {
    /// counter32, counter64, gauge or state.
    kind: &'static str,
    /// How many.
    samples: u64,
    /// What they take.
    bytes: u64,
    /// What each takes; null where there is none.
    bytes_per_sample: Option<f64>,
}

/// Files of one tier.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TierView {
    /// How many files.
    files: usize,
    /// What they take.
    bytes: u64,
    /// The oldest that is in them; null where there are none.
    oldest: Option<String>,
}

impl SamplesView {
    pub(crate) fn of(stats: &SamplesStats) -> SamplesView {
        let (health, error) = match &stats.health {
            SamplesHealth::Ok => ("ok", None),
            SamplesHealth::NotWriting(why) => ("not writing", Some(why.to_string())),
        };
        let raw = stats.tiers.iter().filter(|(tier, ..)| *tier == Tier::Raw);
        let values = stats.kinds.iter().map(|(values, _)| values).sum();
        let bytes = stats.kinds.iter().map(|(_, bytes)| bytes).sum();
        SamplesView {
            health,
            error,
            warnings: warnings(stats),
            bytes: stats.tiers.iter().map(|(.., tier)| tier.bytes).sum(),
            samples: raw.map(|(.., tier)| tier.samples).sum::<u64>() + stats.head_samples,
            bytes_per_sample: each(bytes, values),
            by_kind: KindView::all(stats),
            active_series: stats.active_series,
            raw: TierView::of(stats, Tier::Raw),
            quarter: TierView::of(stats, Tier::Quarter),
            hour: TierView::of(stats, Tier::Hour),
            dropped: stats.dropped,
            damaged: stats.damaged,
            quarantined: stats.quarantined,
            evicted: stats.evicted,
            cuts: stats.cuts,
            last_cut_seconds: (stats.cuts > 0).then_some(stats.last_cut.as_secs_f64()),
            last_compaction_seconds: (stats.compactions > 0)
                .then_some(stats.last_compaction.as_secs_f64()),
            sync_p99_seconds: sync_p99(stats),
            replay_seconds: stats.replay_took.as_secs_f64(),
            disk_full_days: match stats.forecast {
                ForecastDays::In(days) => Some(days),
                ForecastDays::Never | ForecastDays::Unknown => None,
            },
            forecast: forecast(stats.forecast),
        }
    }
}

impl KindView {
    fn all(stats: &SamplesStats) -> Vec<KindView> {
        let kinds = KINDS.iter().zip(stats.kinds);
        kinds
            .map(|(kind, (samples, bytes))| KindView {
                kind: kind.word(),
                samples,
                bytes,
                bytes_per_sample: each(bytes, samples),
            })
            .collect()
    }
}

impl TierView {
    fn of(stats: &SamplesStats, of: Tier) -> TierView {
        let tiers = || stats.tiers.iter().filter(|(tier, ..)| *tier == of);
        TierView {
            files: tiers().map(|(.., tier)| tier.segments).sum(),
            bytes: tiers().map(|(.., tier)| tier.bytes).sum(),
            oldest: oldest(stats, of).map(|at| at.to_string()),
        }
    }
}

fn each(bytes: u64, samples: u64) -> Option<f64> {
    (samples > 0).then(|| as_f64(bytes) / as_f64(samples))
}

fn warnings(stats: &SamplesStats) -> Vec<String> {
    let lost = [
        (
            u64::try_from(stats.quarantined)
                .unwrap_or(u64::MAX)
                .max(stats.damaged),
            "blocks or files of samples are damaged: see the journal",
        ),
        (
            stats.dropped,
            "values were dropped because nothing could be written for too long",
        ),
        (
            stats.evicted,
            "files of samples were deleted before their time because there was no room",
        ),
    ];
    let lost = lost.into_iter().filter(|(count, _)| *count > 0);
    let mut warnings: Vec<String> = lost
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if matches!(stats.forecast, ForecastDays::In(days) if days < FULL_SOON) {
        warnings.push(forecast(stats.forecast));
    }
    warnings
}

/// The upper bound of the bucket within which 99 of 100 syncs are.
fn sync_p99(stats: &SamplesStats) -> Option<f64> {
    let buckets = &stats.wal.sync_seconds;
    let most = buckets
        .iter()
        .map(|(_, count)| *count)
        .max()?
        .max(stats.wal.syncs);
    let within = buckets
        .iter()
        .find(|(_, count)| most > 0 && count * 100 >= most * 99);
    within
        .map(|(bound, _)| *bound)
        .filter(|bound| bound.is_finite())
}

fn forecast(forecast: ForecastDays) -> String {
    match forecast {
        ForecastDays::Never => "what is kept stops growing before the disk is full".to_owned(),
        ForecastDays::In(days) => format!("the disk is full in {days:.0} days"),
        ForecastDays::Unknown => "not known before a day has passed".to_owned(),
    }
}

fn oldest(stats: &SamplesStats, of: Tier) -> Option<Timestamp> {
    let tiers = stats.tiers.iter().filter(|(tier, ..)| *tier == of);
    tiers.filter_map(|(.., tier)| tier.oldest).min()
}

/// Writes all figures.
pub(crate) fn expose(stats: &SamplesStats, text: &mut Exposition) {
    tiers(stats, text);
    kinds(stats, text);
    gauges(stats, text);
    counters(stats, text);
    syncs(stats, text);
}

fn tiers(stats: &SamplesStats, text: &mut Exposition) {
    type Figure = fn(&TierStats) -> f64;
    let families: [(&str, &str, Figure); 4] = [
        (
            "sotp_samples_bytes",
            "What the files of samples take, by how they are kept and the time that a file spans",
            |tier| as_f64(tier.bytes),
        ),
        ("sotp_samples_segments", "Files of samples", |tier| {
            size(tier.segments)
        }),
        (
            "sotp_samples_rows",
            "Rows in files of samples; in roll-ups, buckets",
            |tier| as_f64(tier.rows),
        ),
        (
            "sotp_samples_values",
            "Values in files of samples; in roll-ups, several for each bucket",
            |tier| as_f64(tier.samples),
        ),
    ];
    for (name, help, value) in families {
        text.family(name, ExposedKind::Gauge, help);
        for (tier, span, figures) in &stats.tiers {
            let labels = [("tier", tier.word()), ("span", span.word())];
            text.sample(name, &labels, value(figures));
        }
    }
    let name = "sotp_samples_oldest_timestamp_seconds";
    let help = "When the oldest sample was measured that is kept in files";
    text.family(name, ExposedKind::Gauge, help);
    for tier in Tier::ALL {
        if let Some(at) = oldest(stats, tier) {
            text.sample(name, &[("tier", tier.word())], seconds(at));
        }
    }
}

fn kinds(stats: &SamplesStats, text: &mut Exposition) {
    for (name, help, of_bytes) in [
        (
            "sotp_samples_kind_values",
            "Values in files of raw samples, by the kind of their metric",
            false,
        ),
        ("sotp_samples_kind_bytes", "What they take", true),
    ] {
        text.family(name, ExposedKind::Gauge, help);
        for (kind, (values, bytes)) in KINDS.iter().zip(stats.kinds) {
            let value = if of_bytes { bytes } else { values };
            text.sample(name, &[("kind", kind.word())], as_f64(value));
        }
    }
}

fn gauges(stats: &SamplesStats, text: &mut Exposition) {
    let writing = stats.health == SamplesHealth::Ok;
    let full_days = match stats.forecast {
        ForecastDays::Never => f64::INFINITY,
        ForecastDays::In(days) => days,
        ForecastDays::Unknown => f64::NAN,
    };
    for (name, help, value) in [
        (
            "sotp_samples_writing",
            "1 if samples reach the disk, 0 while they are kept in memory alone",
            f64::from(u8::from(writing)),
        ),
        (
            "sotp_samples_groups",
            "Checks of devices that have samples",
            size(stats.groups),
        ),
        (
            "sotp_samples_active_series",
            "Series whose newest sample is in memory",
            size(stats.active_series),
        ),
        (
            "sotp_samples_head_rows",
            "Rows of samples in memory, not in a file yet",
            as_f64(stats.head_rows),
        ),
        (
            "sotp_samples_head_values",
            "Values in these rows",
            as_f64(stats.head_samples),
        ),
        (
            "sotp_samples_head_bytes",
            "Memory that these rows take",
            as_f64(stats.head_bytes),
        ),
        (
            "sotp_samples_quarantined",
            "Damaged files of samples that were set aside",
            size(stats.quarantined),
        ),
        (
            "sotp_samples_last_cut_seconds",
            "How long it took the last time to write samples from memory into a file",
            stats.last_cut.as_secs_f64(),
        ),
        (
            "sotp_samples_last_compaction_seconds",
            "How long the last compaction took",
            stats.last_compaction.as_secs_f64(),
        ),
        (
            "sotp_samples_log_pending_bytes",
            "Bytes that wait to be written to the log of samples",
            size(stats.wal.pending),
        ),
        (
            "sotp_samples_replay_seconds",
            "How long it took to read the log of samples at the start",
            stats.replay_took.as_secs_f64(),
        ),
        (
            "sotp_store_disk_full_days",
            "Days until the disk is full if all goes on as in the last days; +Inf: it will not be; NaN: not known yet",
            full_days,
        ),
    ] {
        text.single(name, ExposedKind::Gauge, help, value);
    }
}

fn counters(stats: &SamplesStats, text: &mut Exposition) {
    let name = "sotp_samples_refused_total";
    let help = "Rows of samples that were refused, by why";
    text.family(name, ExposedKind::Counter, help);
    for (reason, count) in stats.refused {
        text.sample(name, &[("reason", reason)], as_f64(count));
    }
    for (name, help, value) in [
        (
            "sotp_samples_appended_total",
            "Values that were taken",
            stats.appended,
        ),
        (
            "sotp_samples_dropped_total",
            "Values dropped because nothing could be written for too long",
            stats.dropped,
        ),
        (
            "sotp_samples_damaged_total",
            "Files of samples, or parts of them, that were damaged",
            stats.damaged,
        ),
        (
            "sotp_samples_expired_total",
            "Files of samples deleted because of their age",
            stats.expired,
        ),
        (
            "sotp_samples_evicted_total",
            "Files of samples deleted because there was no room",
            stats.evicted,
        ),
        (
            "sotp_samples_cuts_total",
            "Times that samples in memory were written into a file",
            stats.cuts,
        ),
        (
            "sotp_samples_compactions_total",
            "Compactions of files of samples",
            stats.compactions,
        ),
        (
            "sotp_samples_log_bytes_total",
            "Bytes written to the log of samples",
            stats.wal.written,
        ),
        (
            "sotp_samples_log_sealed_total",
            "Files of the log that a failed write or sync ended",
            stats.wal.sealed,
        ),
    ] {
        text.single(name, ExposedKind::Counter, help, as_f64(value));
    }
}

fn syncs(stats: &SamplesStats, text: &mut Exposition) {
    let name = "sotp_samples_sync_seconds";
    let help = "How long it took to sync the log of samples: what a commit waits for";
    text.family(name, ExposedKind::Histogram, help);
    let log = &stats.wal;
    let buckets = log.sync_seconds.iter().copied();
    text.histogram(name, &[], buckets, log.sync_seconds_sum, log.syncs);
}
