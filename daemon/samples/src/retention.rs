//! Retention: which segments go, and when the disk will be full. What is
//! decided is a function of the list and of the time.

use std::time::Duration;

use model::Timestamp;
use segment::{Span, Tier};
use wal::fs::Space;

use crate::catalog::{CatalogChange, CatalogError, SegmentName, SegmentRow};
use crate::engine::{ForecastDays, Inner, Keep};
use crate::keeper::{Counts, Keeper, Pending};
use crate::limits::{self, DAY_MS};
use crate::lock::lock;
use crate::maintain::Why;

/// A wall clock that is this much off from what a clock that nobody sets says
/// was set.
const JUMP: Duration = Duration::from_secs(60 * 60);

/// At a start, the newest row may be this old.
const OFF: Duration = Duration::from_millis(DAY_MS);

/// So long nothing is removed because of its age after the clock was set: what
/// it says now may be wrong, and years are removed once only.
const CALM: Duration = Duration::from_secs(60 * 60);

/// At most one file in so long is removed because of its age or the budget: a
/// mistake can be noticed before everything is gone.
const PAUSE: Duration = Duration::from_secs(60);

/// Days that a forecast looks at.
const LOOK_BACK_DAYS: u64 = 7;

/// Days that a forecast looks ahead: beyond it nobody plans.
const LOOK_AHEAD_DAYS: u32 = 20 * 365;

/// Notices when somebody sets the clock.
#[derive(Debug, Default)]
pub(crate) struct JumpWatch {
    last: Option<(Timestamp, Duration)>,
    jumped: Option<Duration>,
    has_looked: bool,
}

impl JumpWatch {
    /// At a start: what the clock says is measured against the newest row.
    pub(crate) fn starting(newest: Option<u64>, monotonic: Duration) -> JumpWatch {
        JumpWatch {
            last: newest.map(|at| (Timestamp(at), monotonic)),
            jumped: None,
            has_looked: false,
        }
    }

    /// Whether the clock can be trusted: it was not set within the last hour.
    /// `moved`: whether rows lead from that time to now.
    pub(crate) fn is_calm(
        &mut self,
        now: Timestamp,
        monotonic: Duration,
        moved: impl FnOnce(Timestamp) -> bool,
    ) -> bool {
        let limit = match std::mem::replace(&mut self.has_looked, true) {
            true => JUMP,
            false => OFF,
        };
        if let Some((last, at)) = self.last.replace((now, monotonic)) {
            let expected = last.plus(monotonic.saturating_sub(at));
            let off = now.since(expected).max(expected.since(now));
            if off > limit && !moved(last) {
                tracing::warn!(
                    ?off,
                    "the clock was set: nothing expires or is compacted for an hour"
                );
                self.jumped = Some(monotonic);
            }
        }
        let since = self.jumped.map(|at| monotonic.saturating_sub(at));
        since.is_none_or(|since| since >= CALM)
    }
}

impl Inner {
    /// Whether the clock can be trusted. To be asked once each time.
    pub(crate) fn is_calm(&self, keeper: &mut Keeper, now: Timestamp) -> bool {
        let moved = |since: Timestamp| since < now && self.has_rows_all_along(since.0, now.0);
        keeper.jumps.is_calm(now, (self.monotonic)(), moved)
    }

    /// Whether no hour between these times is without rows: a clock that was
    /// set leaves a gap, an import of history does not.
    fn has_rows_all_along(&self, from: u64, until: u64) -> bool {
        let mut spans = lock(&self.head).spans();
        spans.sort_unstable();
        let hour = u64::try_from(JUMP.as_millis()).unwrap_or(u64::MAX);
        let mut reached = from;
        for (first, last) in spans {
            if first > reached.saturating_add(hour) {
                break;
            }
            reached = reached.max(last);
        }
        reached.saturating_add(hour) >= until
    }

    /// Unlinks one segment that is too old or too much.
    pub(crate) fn expire(&self, keeper: &mut Keeper, now: Timestamp) -> Result<bool, CatalogError> {
        let monotonic = (self.monotonic)();
        let since = keeper.unlinked.map(|at| monotonic.saturating_sub(at));
        if since.is_some_and(|since| since < PAUSE) {
            return Ok(false);
        }
        let rows = lock(&self.head).shelf.rows();
        let keep = &self.options.keep;
        let old = too_old(&rows, keep, now).map(|name| (name, Why::Age));
        let Some((name, why)) = old.or_else(|| Some((too_much(&rows, keep, now)?, Why::Room)))
        else {
            return Ok(false);
        };
        keeper.unlinked = Some(monotonic);
        self.unlink(keeper, name, why)?;
        Ok(false)
    }

    /// While the disk takes nothing and memory is half full: makes room.
    pub(crate) fn relieve(
        &self,
        keeper: &mut Keeper,
        now: Timestamp,
    ) -> Result<bool, CatalogError> {
        let is_full = |why: &wal::NotDurable| why.full;
        if !self.wal.stats().suspended.as_ref().is_some_and(is_full) {
            return Ok(false);
        }
        if keeper.relief_is_vain {
            return Ok(false);
        }
        let rows = {
            let head = lock(&self.head);
            let unlogged = head.unlogged + head.held.bytes;
            if unlogged < self.options.backlog_bytes / 2 {
                return Ok(false);
            }
            head.shelf.rows()
        };
        let Some(name) = oldest_raw(&rows, now) else {
            return Ok(false);
        };
        // somebody else may fill the disk, or hold links of the files
        let free = || {
            self.fs
                .space(&self.options.dir)
                .ok()
                .map(|space| space.free)
        };
        let before = free();
        self.unlink(keeper, name, Why::Room)?;
        if before
            .zip(free())
            .is_some_and(|(before, after)| after <= before)
        {
            tracing::error!("a segment was removed and gave no room: no other is for now");
            keeper.relief_is_vain = true;
        }
        Ok(false)
    }

    fn unlink(&self, keeper: &mut Keeper, name: SegmentName, why: Why) -> Result<(), CatalogError> {
        let shelf = std::sync::Arc::clone(&lock(&self.head).shelf);
        let listed = shelf.segments.iter().find(|listed| listed.row.name == name);
        let path = listed.map(|listed| listed.path.clone());
        tracing::info!(segment = name.0, ?why, "a segment is removed");
        let is_age = matches!(why, Why::Age);
        let pending = Pending {
            change: CatalogChange {
                forget_segments: vec![name],
                ..CatalogChange::default()
            },
            unlink: path.into_iter().collect(),
            counts: Counts {
                expired: u64::from(is_age),
                evicted: u64::from(!is_age),
                ..Counts::default()
            },
            ..Pending::default()
        };
        self.change(keeper, pending)
    }
}

fn kept_for(keep: &Keep, tier: Tier) -> Duration {
    match tier {
        Tier::Raw => keep.raw,
        Tier::Quarter => keep.quarter,
        Tier::Hour => keep.hour,
    }
}

/// The oldest segment all of whose rows are older than they are kept.
pub(crate) fn too_old(rows: &[SegmentRow], keep: &Keep, now: Timestamp) -> Option<SegmentName> {
    let expired = rows.iter().filter(|row| {
        let summary = &row.summary;
        summary.until < now.minus(kept_for(keep, summary.tier)).0
    });
    let oldest = expired.min_by_key(|row| (row.summary.until, row.name));
    oldest.map(|row| row.name)
}

/// What goes while there is more than the budget: the oldest raw segment, then
/// the oldest of the finer roll-ups, never one of the newest day.
pub(crate) fn too_much(rows: &[SegmentRow], keep: &Keep, now: Timestamp) -> Option<SegmentName> {
    let bytes: u64 = rows.iter().map(|row| row.summary.bytes).sum();
    if keep.budget == 0 || bytes <= keep.budget {
        return None;
    }
    let tiers = Tier::ALL.into_iter();
    tiers.filter_map(|tier| oldest_of(rows, tier, now)).next()
}

/// The oldest raw segment that is not of the newest day.
pub(crate) fn oldest_raw(rows: &[SegmentRow], now: Timestamp) -> Option<SegmentName> {
    oldest_of(rows, Tier::Raw, now)
}

fn oldest_of(rows: &[SegmentRow], tier: Tier, now: Timestamp) -> Option<SegmentName> {
    // rows of a clock that was ahead are not the newest day
    let plausible = now.plus(limits::AHEAD).0 / DAY_MS;
    let days = rows.iter().map(|row| row.summary.until / DAY_MS);
    let newest_day = days.filter(|day| *day <= plausible).max()?;
    let of_tier = rows.iter().filter(|row| row.summary.tier == tier);
    let older = of_tier.filter(|row| row.summary.until / DAY_MS < newest_day);
    let oldest = older.min_by_key(|row| (row.summary.until, row.name));
    oldest.map(|row| row.name)
}

/// When the disk will be full: each tier grows by what its last days took,
/// until it is as long as it is kept.
pub(crate) fn forecast(rows: &[SegmentRow], keep: &Keep, space: Option<Space>) -> ForecastDays {
    let Some(space) = space else {
        return ForecastDays::Unknown;
    };
    let tiers = Tier::ALL.into_iter();
    let growths: Vec<Growth> = tiers
        .filter_map(|t| growth(rows, t, kept_for(keep, t)))
        .collect();
    if growths.is_empty() {
        return ForecastDays::Unknown;
    }
    let taken: u64 = rows.iter().map(|row| row.summary.bytes).sum();
    let budget = match keep.budget {
        0 => u64::MAX,
        budget => budget.saturating_sub(taken),
    };
    let after = |days: f64| growths.iter().map(|growth| growth.after(days)).sum::<f64>();
    let free = as_f64(space.free);
    let end = f64::from(LOOK_AHEAD_DAYS);
    if free >= as_f64(budget) || after(end) <= free {
        return ForecastDays::Never;
    }
    // it only grows: halve the time until it is known to a minute
    let (mut early, mut late) = (0.0, end);
    for _ in 0..40 {
        let middle = (early + late) / 2.0;
        match after(middle) <= free {
            true => early = middle,
            false => late = middle,
        }
    }
    ForecastDays::In(late)
}

/// How one tier grows.
struct Growth {
    bytes_a_day: f64,
    /// Days until as much expires as comes.
    days: f64,
}

impl Growth {
    fn after(&self, days: f64) -> f64 {
        self.bytes_a_day * days.min(self.days)
    }
}

/// From the newest days that were compacted; a day that was not yet counts for
/// nothing.
fn growth(rows: &[SegmentRow], tier: Tier, kept: Duration) -> Option<Growth> {
    let of_tier = || rows.iter().filter(|row| row.summary.tier == tier);
    let days = of_tier().filter(|row| row.summary.span == Span::Day);
    let day = |row: &&SegmentRow| row.summary.from / DAY_MS;
    let newest = days.clone().map(|row| day(&row)).max()?;
    let oldest = of_tier().map(|row| day(&row)).min()?;
    let first = (newest + 1).saturating_sub(LOOK_BACK_DAYS).max(oldest);
    let lately = days.filter(|row| day(row) >= first);
    let bytes: u64 = lately.map(|row| row.summary.bytes).sum();
    let held = as_f64(newest + 1 - oldest);
    Some(Growth {
        bytes_a_day: as_f64(bytes) / as_f64(newest + 1 - first),
        days: (kept.as_secs_f64() / 86_400.0 - held).max(0.0),
    })
}

#[expect(clippy::cast_precision_loss, reason = "estimates")]
fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use segment::Summary;

    const DAYS: Duration = Duration::from_secs(86_400);

    fn keep() -> Keep {
        Keep {
            raw: 30 * DAYS,
            quarter: 180 * DAYS,
            hour: 1825 * DAYS,
            budget: 0,
        }
    }

    fn row(name: u64, tier: Tier, span: Span, day: u64, bytes: u64) -> SegmentRow {
        SegmentRow {
            name: SegmentName(name),
            summary: Summary {
                tier,
                span,
                from: day * DAY_MS,
                until: (day + 1) * DAY_MS - 1,
                rows: 1,
                samples: 1,
                bytes,
                kinds: [(0, 0); 4],
                crc: 0,
            },
        }
    }

    #[test]
    fn each_tier_goes_at_its_own_age_the_oldest_first() {
        let rows = [
            row(1, Tier::Raw, Span::Day, 101, 1),
            row(2, Tier::Raw, Span::Day, 100, 1),
            row(3, Tier::Hour, Span::Day, 100, 1),
        ];
        let at = |day: u64| Timestamp(day * DAY_MS);
        assert_eq!(too_old(&rows, &keep(), at(131)), Some(SegmentName(2)));
        assert_eq!(too_old(&rows[..1], &keep(), at(131)), None);
        assert_eq!(too_old(&rows[2..], &keep(), at(1925)), None);
        assert_eq!(too_old(&rows[2..], &keep(), at(1926)), Some(SegmentName(3)));
    }

    #[test]
    fn the_budget_takes_the_oldest_raw_segment_but_never_the_newest_day() {
        let mut rows = vec![
            row(1, Tier::Hour, Span::Day, 100, 10),
            row(2, Tier::Raw, Span::Day, 101, 10),
            row(3, Tier::Raw, Span::Day, 102, 10),
        ];
        let keep = Keep {
            budget: 5,
            ..keep()
        };
        let now = Timestamp(103 * DAY_MS);
        assert_eq!(too_much(&rows, &keep, now), Some(SegmentName(2)));
        rows.remove(1);
        assert_eq!(too_much(&rows, &keep, now), Some(SegmentName(1)));
        rows.remove(0);
        assert_eq!(too_much(&rows, &keep, now), None);
    }

    #[test]
    fn a_row_of_the_future_is_not_the_newest_day() {
        let rows = [
            row(1, Tier::Raw, Span::Day, 101, 10),
            row(2, Tier::Raw, Span::Fresh, 102, 10),
            row(3, Tier::Raw, Span::Fresh, 9000, 10),
        ];
        let now = Timestamp(102 * DAY_MS + 1);
        assert_eq!(oldest_raw(&rows, now), Some(SegmentName(1)));
        assert_eq!(oldest_raw(&rows[1..], now), None);
    }

    #[test]
    fn a_disk_that_fills_is_foretold_and_one_that_suffices_is_not() {
        let rows: Vec<SegmentRow> = (0..10)
            .map(|day| row(day, Tier::Raw, Span::Day, 100 + day, 1000))
            .collect();
        let space = |free| {
            Some(Space {
                total: 1 << 40,
                free,
            })
        };
        assert_eq!(forecast(&[], &keep(), space(1)), ForecastDays::Unknown);
        assert_eq!(forecast(&rows, &keep(), space(20_000)), ForecastDays::Never);
        let ForecastDays::In(days) = forecast(&rows, &keep(), space(5_000)) else {
            panic!("it fills");
        };
        assert!((days - 5.0).abs() < 0.01, "{days}");
        let budget = Keep {
            budget: 12_000,
            ..keep()
        };
        assert_eq!(forecast(&rows, &budget, space(5_000)), ForecastDays::Never);
    }

    #[test]
    fn a_start_far_from_the_newest_row_is_not_trusted_for_an_hour() {
        let newest = Some(100 * DAY_MS);
        let after = |days: u64, moved: bool| {
            let mut watch = JumpWatch::starting(newest, Duration::ZERO);
            let now = Timestamp((100 + days) * DAY_MS);
            watch.is_calm(now, Duration::ZERO, |_| moved)
        };
        assert!(after(1, false));
        assert!(!after(2, false));
        assert!(after(2, true));
    }

    #[test]
    fn a_clock_that_was_set_is_not_trusted_for_an_hour() {
        let mut watch = JumpWatch::default();
        let minute = |n: u64| Duration::from_secs(60 * n);
        let at = |n: u64| Timestamp(1_000_000_000 + 60_000 * n);
        assert!(watch.is_calm(at(0), minute(0), |_| false));
        assert!(watch.is_calm(at(1), minute(1), |_| false));
        assert!(!watch.is_calm(at(5000), minute(2), |_| false));
        assert!(!watch.is_calm(at(3), minute(3), |_| false));
        assert!(!watch.is_calm(at(62), minute(62), |_| false));
        assert!(watch.is_calm(at(63), minute(63), |_| false));
    }
}
