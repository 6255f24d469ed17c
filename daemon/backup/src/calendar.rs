//! When a backup is due, and which ones are too many. Decides; does nothing.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{ToSpan, Zoned};
use model::Timestamp;

use crate::name::BackupName;

/// A time of day, to the minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeOfDay {
    /// From 0 to 23.
    pub hour: u8,
    /// From 0 to 59.
    pub minute: u8,
}

impl TimeOfDay {
    /// A number that no clock shows counts as 0.
    fn time(self) -> Time {
        let number = |number: u8, most: u8| match number <= most {
            true => i8::try_from(number).unwrap_or(0),
            false => 0,
        };
        Time::new(number(self.hour, 23), number(self.minute, 59), 0, 0).unwrap_or(Time::midnight())
    }
}

/// Whether a backup is due at `now`: there was none since the last time that
/// the clock showed `at`. One that succeeded "later" than `now` counts for
/// nothing: the clock was wrong.
#[must_use]
pub fn due(
    now: Timestamp,
    last_success: Option<Timestamp>,
    at: TimeOfDay,
    zone: &TimeZone,
) -> bool {
    let last = last_success.filter(|last| *last <= now);
    last.is_none_or(|last| last < last_planned(now, at, zone))
}

/// When the next backup is due: `now` or a time after it.
#[must_use]
pub fn next_due(
    now: Timestamp,
    last_success: Option<Timestamp>,
    at: TimeOfDay,
    zone: &TimeZone,
) -> Timestamp {
    if due(now, last_success, at, zone) {
        return now;
    }
    let today = local(now, zone).date();
    let days = (0..=2).filter_map(|days| today.checked_add(days.days()).ok());
    let planned = days.filter_map(|day| planned(day, at, zone));
    // two days on there is always one; a day may have none at the end of time
    planned
        .into_iter()
        .find(|planned| *planned > now)
        .unwrap_or(now)
}

/// The last time, up to `now`, that the clock showed `at`.
fn last_planned(now: Timestamp, at: TimeOfDay, zone: &TimeZone) -> Timestamp {
    let today = local(now, zone).date();
    let days = (0..=2).filter_map(|days| today.checked_sub(days.days()).ok());
    let mut planned = days.filter_map(|day| planned(day, at, zone));
    planned
        .find(|planned| *planned <= now)
        .unwrap_or(Timestamp(0))
}

/// When the clock shows `at` on this day: the first time where it is set back,
/// the minute after the gap where it is set forward.
fn planned(day: Date, at: TimeOfDay, zone: &TimeZone) -> Option<Timestamp> {
    let planned = day.to_datetime(at.time()).to_zoned(zone.clone()).ok()?;
    let ms = planned.timestamp().as_millisecond();
    u64::try_from(ms).ok().map(Timestamp)
}

fn local(now: Timestamp, zone: &TimeZone) -> Zoned {
    let ms = i64::try_from(now.0).unwrap_or(i64::MAX);
    let instant = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX);
    instant.to_zoned(zone.clone())
}

/// Which of `names` are too many if `host` keeps `keep` of its own: the oldest,
/// never its newest, and none of another host. Only backups that were put away
/// whole have a name, so one that failed neither counts nor drives a good one
/// out.
#[must_use]
pub fn to_remove(names: &[BackupName], host: &str, keep: usize) -> Vec<BackupName> {
    let mut own: Vec<&BackupName> = names.iter().filter(|name| name.is_of(host)).collect();
    own.sort();
    let too_many = own.len().saturating_sub(keep.max(1));
    own.into_iter().take(too_many).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: TimeOfDay = TimeOfDay {
        hour: 2,
        minute: 30,
    };

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn is_due(now: &str, last: &str, zone: &TimeZone) -> bool {
        due(at(now), Some(at(last)), AT, zone)
    }

    fn next(now: &str, last: &str, zone: &TimeZone) -> String {
        next_due(at(now), Some(at(last)), AT, zone).to_string()
    }

    #[test]
    fn a_backup_is_due_once_a_day_at_its_time() {
        let utc = TimeZone::UTC;
        let last = "2026-11-20T02:30:05Z";
        assert!(!is_due("2026-11-21T02:29:59.999Z", last, &utc));
        assert!(is_due("2026-11-21T02:30:00Z", last, &utc));
        assert!(!is_due(
            "2026-11-21T23:00:00Z",
            "2026-11-21T02:30:05Z",
            &utc
        ));
        assert_eq!(
            next("2026-11-20T02:31:00Z", last, &utc),
            "2026-11-21T02:30:00.000Z"
        );
    }

    #[test]
    fn the_first_and_a_missed_one_are_due_at_once() {
        let now = at("2026-11-21T14:00:00Z");
        assert!(due(now, None, AT, &TimeZone::UTC));
        assert_eq!(next_due(now, None, AT, &TimeZone::UTC), now);
        assert!(is_due(
            "2026-11-21T14:00:00Z",
            "2026-11-20T02:30:05Z",
            &TimeZone::UTC
        ));
    }

    #[test]
    fn one_made_by_hand_does_not_move_the_nightly_one() {
        let by_hand = "2026-11-20T15:00:00Z";
        assert!(!is_due("2026-11-20T16:00:00Z", by_hand, &TimeZone::UTC));
        assert!(is_due("2026-11-21T02:30:00Z", by_hand, &TimeZone::UTC));
    }

    #[test]
    fn a_backup_from_the_future_does_not_stop_all_others() {
        assert!(is_due(
            "2026-11-21T02:30:00Z",
            "2036-01-01T00:00:00Z",
            &TimeZone::UTC
        ));
    }

    #[test]
    fn the_time_is_the_clocks_on_the_wall() {
        let next = next("2026-07-01T10:00:00Z", "2026-07-01T09:00:00Z", &berlin());
        assert_eq!(next, "2026-07-02T00:30:00.000Z");
    }

    #[test]
    fn there_is_one_on_the_day_without_that_hour_and_one_on_the_day_with_two() {
        let spring = next("2026-03-28T10:00:00Z", "2026-03-28T01:30:05Z", &berlin());
        assert_eq!(spring, "2026-03-29T01:30:00.000Z");
        let autumn = next("2026-10-24T10:00:00Z", "2026-10-24T00:30:05Z", &berlin());
        assert_eq!(autumn, "2026-10-25T00:30:00.000Z");
        // the clock shows 02:30 for the second time
        assert!(!is_due(
            "2026-10-25T01:31:00Z",
            "2026-10-25T00:30:05Z",
            &berlin()
        ));
    }

    #[test]
    fn every_day_of_ten_years_has_one_backup() {
        let zone = berlin();
        let mut now = at("2026-01-01T00:00:00Z");
        let mut last = now;
        let mut made = 0;
        while now < at("2036-01-01T00:00:00Z") {
            now = next_due(now, Some(last), AT, &zone);
            assert!(due(now, Some(last), AT, &zone));
            last = now;
            made += 1;
        }
        assert_eq!(made, 3_652 + 1);
    }

    fn names(host: &str, days: std::ops::RangeInclusive<u8>) -> Vec<BackupName> {
        let name = |day| BackupName::new(host, at(&format!("2026-11-{day:02}T02:30:00Z")), false);
        days.map(name).collect()
    }

    #[test]
    fn the_oldest_are_too_many_and_never_the_newest() {
        let mut all = names("core", 1..=9);
        all.reverse();
        assert_eq!(to_remove(&all, "core", 7), names("core", 1..=2));
        assert_eq!(to_remove(&all, "core", 9), []);
        assert_eq!(to_remove(&all, "core", 0), names("core", 1..=8));
        assert_eq!(to_remove(&[], "core", 1), []);
    }

    #[test]
    fn nobody_removes_the_backups_of_another_host() {
        let mut all = names("core", 1..=3);
        all.extend(names("edge", 1..=3));
        assert_eq!(to_remove(&all, "core", 1), names("core", 1..=2));
        assert_eq!(to_remove(&all, "cor", 1), []);
    }
}
