//! Days of scheduling, simulated in milliseconds.

use std::collections::{BTreeMap, HashMap};

use model::DeviceId;
use proptest::prelude::*;

use super::*;

const EVERY: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(86_400);
const BACKOFF_MAX: Duration = Duration::from_secs(300);

fn ping(device: u64) -> GroupKey {
    GroupKey {
        device: DeviceId(device),
        check: Check::Icmp,
    }
}

fn walk(device: u64) -> GroupKey {
    GroupKey {
        device: DeviceId(device),
        check: Check::Snmp,
    }
}

fn at(seconds: u64) -> Tick {
    Duration::from_secs(seconds)
}

fn schedule(groups: impl IntoIterator<Item = GroupKey>) -> Schedule {
    let mut schedule = Schedule::new(BACKOFF_MAX);
    for group in groups {
        schedule.set(group, EVERY, First::InTurn, Tick::ZERO);
    }
    schedule
}

/// Runs until `until`; each poll takes no time and is answered as `answered`
/// says. Returns when each group was asked.
fn run(
    schedule: &mut Schedule,
    until: Tick,
    answered: impl Fn(GroupKey) -> Option<bool>,
) -> HashMap<GroupKey, Vec<Tick>> {
    let mut asked: HashMap<GroupKey, Vec<Tick>> = HashMap::new();
    while let Some(now) = schedule.wake().filter(|wake| *wake < until) {
        while let Some(ask) = schedule.next(now) {
            asked.entry(ask.group).or_default().push(now);
            schedule.finished(ask.group, answered(ask.group), now);
        }
    }
    asked
}

#[test]
fn ten_thousand_devices_are_spread_evenly_over_the_interval() {
    let mut schedule = schedule((0..10_000).map(ping));
    let asked = run(&mut schedule, EVERY + Duration::from_millis(1), |_| {
        Some(true)
    });
    assert_eq!(asked.len(), 10_000);

    let mut per_second: BTreeMap<u64, u32> = BTreeMap::new();
    for when in asked.values() {
        *per_second.entry(when[0].as_secs() % 30).or_default() += 1;
    }
    let busiest = per_second.values().max().copied().unwrap_or(0);
    let idlest = per_second.values().min().copied().unwrap_or(0);
    // 333 a second on average; five standard deviations of chance are 91
    assert!(busiest <= 424 && idlest >= 242, "{idlest}..{busiest}");
}

#[test]
fn over_three_days_each_device_is_asked_once_per_interval_at_its_own_place() {
    let mut schedule = schedule((0..200).map(ping).chain((0..200).map(walk)));
    let asked = run(&mut schedule, 3 * DAY, |_| Some(true));
    assert_eq!(asked.len(), 400);
    for (group, when) in asked {
        assert_eq!(when.len(), 3 * 2_880, "{group:?}");
        assert!(
            when.windows(2).all(|pair| pair[1] - pair[0] == EVERY),
            "{group:?} was asked off its beat"
        );
    }
    assert_eq!(schedule.stats(Tick::ZERO).skipped_busy, 0);
    assert_eq!(schedule.stats(Tick::ZERO).skipped_behind, 0);
}

#[test]
fn a_device_is_never_asked_while_it_is_being_asked() {
    let mut schedule = schedule([ping(1)]);
    let first = schedule.wake().unwrap();
    assert!(schedule.next(first).is_some());
    assert_eq!(schedule.next(first + 2 * EVERY), None);
    assert_eq!(schedule.stats(Tick::ZERO).skipped_busy, 1);

    schedule.finished(ping(1), Some(true), first + 2 * EVERY);
    assert!(schedule.next(first + 3 * EVERY).is_some());
}

#[test]
fn a_device_entered_again_while_it_is_asked_is_still_not_asked_twice() {
    let mut schedule = schedule([ping(1)]);
    let first = schedule.wake().unwrap();
    assert!(schedule.next(first).is_some());
    schedule.remove(ping(1));
    schedule.set(ping(1), EVERY, First::Soon, first);
    assert_eq!(schedule.next(first + FIRST_WITHIN), None);
}

#[test]
fn turns_that_nobody_took_are_counted_and_not_made_up_for() {
    let mut schedule = schedule([ping(1)]);
    let first = schedule.wake().unwrap();
    let late = schedule.next(first + 10 * EVERY).unwrap();
    assert_eq!(late.lag, 10 * EVERY);
    assert_eq!(schedule.stats(Tick::ZERO).skipped_behind, 10);
    schedule.finished(ping(1), Some(true), first + 10 * EVERY);
    assert_eq!(schedule.next(first + 10 * EVERY), None);
}

#[test]
fn a_new_device_is_asked_within_seconds_and_then_in_turn() {
    let mut schedule = schedule((0..100).map(ping));
    run(&mut schedule, at(1_000), |_| Some(true));
    schedule.set(walk(7), Duration::from_secs(3_600), First::Soon, at(1_000));
    let asked = run(&mut schedule, at(1_000) + FIRST_WITHIN, |_| Some(true));
    assert_eq!(asked[&walk(7)].len(), 1);
}

#[test]
fn poll_now_comes_at_once_and_leaves_the_beat_alone() {
    let mut schedule = schedule([ping(1)]);
    let beat = schedule.wake().unwrap();
    assert!(schedule.next(beat).is_some());
    schedule.finished(ping(1), Some(true), beat);

    let now = beat + at(5);
    assert!(schedule.poll_now(ping(1), now));
    assert_eq!(schedule.next(now).map(|ask| ask.lag), Some(Duration::ZERO));
    schedule.finished(ping(1), Some(true), now);
    assert_eq!(schedule.wake(), Some(beat + EVERY));
    assert!(!schedule.poll_now(ping(2), now), "nobody knows device 2");
}

#[test]
fn poll_now_during_a_poll_asks_again_when_that_is_finished() {
    let mut schedule = schedule([ping(1)]);
    let now = schedule.wake().unwrap();
    assert!(schedule.next(now).is_some());
    assert!(schedule.poll_now(ping(1), now));
    assert_eq!(schedule.next(now), None);
    schedule.finished(ping(1), Some(true), now + at(1));
    assert!(schedule.next(now + at(1)).is_some());
}

#[test]
fn a_silent_agent_is_asked_less_often_and_a_silent_device_is_still_pinged() {
    let mut schedule = schedule([ping(1), walk(1)]);
    let asked = run(&mut schedule, DAY, |_| Some(false));
    let longest = |group| {
        asked[&group]
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .max()
            .unwrap()
    };
    let patient = &asked[&walk(1)][..10];
    assert!(patient.windows(2).all(|pair| pair[1] - pair[0] == EVERY));
    assert!(
        longest(walk(1)) <= 2 * BACKOFF_MAX,
        "{:?}",
        longest(walk(1))
    );
    assert!(asked[&walk(1)].len() < 400, "{}", asked[&walk(1)].len());
    assert!(longest(ping(1)) <= 2 * 2 * EVERY, "{:?}", longest(ping(1)));
    assert_eq!(schedule.stats(Tick::ZERO).backed_off, 2);
}

#[test]
fn an_agent_that_answers_again_is_asked_as_before() {
    let mut schedule = schedule([walk(1)]);
    run(&mut schedule, DAY, |_| Some(false));
    let back = run(&mut schedule, DAY + at(1_200), |_| Some(true));
    let when = &back[&walk(1)];
    assert!(when.windows(2).all(|pair| pair[1] - pair[0] == EVERY));
    assert!(when.len() > 20, "{}", when.len());
}

#[test]
fn what_could_not_be_asked_is_not_taken_for_silence() {
    let mut schedule = schedule([walk(1)]);
    let asked = run(&mut schedule, DAY, |_| None);
    assert_eq!(asked[&walk(1)].len(), 2_880);
}

proptest! {
    /// Whatever is done in whatever order, no group is in flight twice and none
    /// is forgotten.
    #[test]
    fn no_order_of_events_loses_or_doubles_a_group(
        events in proptest::collection::vec((0u8..6, 0u64..5, 0u64..90), 1..400)
    ) {
        let mut schedule = Schedule::new(BACKOFF_MAX);
        let mut now = Tick::ZERO;
        let mut known = HashSet::new();
        let mut flying = HashSet::new();
        for (what, device, seconds) in events {
            let group = walk(device);
            now += at(seconds);
            match what {
                0 => {
                    schedule.set(group, EVERY, First::Soon, now);
                    known.insert(group);
                }
                1 => {
                    schedule.remove(group);
                    known.remove(&group);
                }
                2 => {
                    schedule.poll_now(group, now);
                }
                3 => {
                    schedule.finished(group, Some(device % 2 == 0), now);
                    flying.remove(&group);
                }
                _ => {
                    while let Some(ask) = schedule.next(now) {
                        prop_assert!(flying.insert(ask.group), "{:?} twice", ask.group);
                    }
                }
            }
            let scheduled: HashSet<_> = schedule.groups().collect();
            prop_assert_eq!(&scheduled, &known);
            prop_assert_eq!(schedule.queue.len(), known.len());
        }
    }
}
