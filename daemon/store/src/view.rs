//! What readers see of the samples without the disk: each group's newest
//! reading and outcome, facts, last known addresses, and what was committed of
//! late.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use model::{DeviceId, Facts, GroupKey, Outcome, PollRow, Reading};
use tokio::sync::watch;

/// Reports that [`CommittedSince`] reaches back to: seconds at the design
/// size. Who is further behind looks at all readings once.
const RING: usize = 2_048;

/// Host names whose last known address is kept: one for every device.
pub(crate) const MAX_ADDRESSES: usize = crate::inventory::MAX_DEVICES;

/// One poll report that became visible.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Counts reports since the start, from 1.
    pub n: u64,
    /// Whose.
    pub group: GroupKey,
    /// How it went.
    pub outcome: Outcome,
    /// The values, if it brought some.
    pub reading: Option<Arc<Reading>>,
}

/// What became visible since a reader last looked.
#[derive(Clone, Debug)]
pub struct CommittedSince {
    /// Up to this one.
    pub upto: u64,
    /// Oldest first.
    pub reports: Vec<Committed>,
    /// Older ones are no longer known: look at all readings and outcomes.
    pub missed: bool,
}

/// A report as the writer passes it on: columns interned, facts only if new.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) group: GroupKey,
    pub(crate) outcome: Outcome,
    pub(crate) row: Option<PollRow>,
    pub(crate) facts: Option<Arc<Facts>>,
}

#[derive(Default)]
struct Group {
    outcome: Option<Outcome>,
    reading: Option<Arc<Reading>>,
}

#[derive(Default)]
struct Ring {
    newest: u64,
    reports: VecDeque<Committed>,
}

/// See the module.
pub(crate) struct View {
    groups: RwLock<HashMap<GroupKey, Group>>,
    facts: RwLock<HashMap<DeviceId, Arc<Facts>>>,
    addresses: RwLock<HashMap<String, IpAddr>>,
    ring: Mutex<Ring>,
    committed: watch::Sender<u64>,
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl View {
    /// What there is at a start: each group with its note and its newest rows.
    pub(crate) fn new(
        newest: Vec<(GroupKey, Vec<u8>, Vec<PollRow>)>,
        facts: HashMap<DeviceId, Arc<Facts>>,
        addresses: HashMap<String, IpAddr>,
    ) -> View {
        let groups = newest.into_iter().map(|(key, note, mut rows)| {
            rows.sort_by_key(|row| row.at);
            let row = rows.pop();
            let reading = row.map(|row| Arc::new(reading(row, rows.last())));
            // of another version: it is known again after the next asking
            let outcome = postcard::from_bytes(&note).ok();
            (key, Group { outcome, reading })
        });
        View {
            groups: RwLock::new(groups.collect()),
            facts: RwLock::new(facts),
            addresses: RwLock::new(addresses),
            ring: Mutex::default(),
            committed: watch::channel(0).0,
        }
    }

    pub(crate) fn reading(&self, group: GroupKey) -> Option<Arc<Reading>> {
        read(&self.groups).get(&group)?.reading.clone()
    }

    pub(crate) fn outcome(&self, group: GroupKey) -> Option<Outcome> {
        read(&self.groups).get(&group)?.outcome.clone()
    }

    pub(crate) fn facts(&self, device: DeviceId) -> Option<Arc<Facts>> {
        read(&self.facts).get(&device).cloned()
    }

    pub(crate) fn address(&self, host: &str) -> Option<IpAddr> {
        read(&self.addresses).get(host).copied()
    }

    /// Whether that is news; takes it, if so.
    pub(crate) fn learn_address(&self, host: &str, ip: IpAddr) -> bool {
        let mut addresses = write(&self.addresses);
        if addresses.get(host) == Some(&ip) {
            return false;
        }
        if addresses.len() >= MAX_ADDRESSES && !addresses.contains_key(host) {
            return false;
        }
        addresses.insert(host.to_owned(), ip);
        true
    }

    pub(crate) fn committed(&self) -> watch::Receiver<u64> {
        self.committed.subscribe()
    }

    pub(crate) fn committed_since(&self, n: u64) -> CommittedSince {
        let ring = self.ring();
        let oldest = ring
            .reports
            .front()
            .map_or(ring.newest + 1, |first| first.n);
        let skip = usize::try_from((n + 1).saturating_sub(oldest)).unwrap_or(usize::MAX);
        CommittedSince {
            upto: ring.newest,
            reports: ring.reports.iter().skip(skip).cloned().collect(),
            missed: n + 1 < oldest,
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes reports visible, in their order.
    pub(crate) fn publish(&self, reports: &[Ready]) {
        if reports.is_empty() {
            return;
        }
        // who sees a reading sees what came with it
        let news = reports.iter().filter_map(|report| {
            let facts = report.facts.as_ref()?;
            Some((report.group.device, facts.clone()))
        });
        write(&self.facts).extend(news);
        let mut seen = Vec::with_capacity(reports.len());
        let mut groups = write(&self.groups);
        for report in reports {
            let group = groups.entry(report.group).or_default();
            group.outcome = Some(report.outcome.clone());
            let brought = report.row.as_ref().map(|row| {
                let before = group.reading.as_ref().map(|reading| &reading.row);
                Arc::new(reading(row.clone(), before))
            });
            if brought.is_some() {
                group.reading.clone_from(&brought);
            }
            seen.push((report.group, report.outcome.clone(), brought));
        }
        drop(groups);
        let newest = self.remember(seen);
        self.committed.send_replace(newest);
    }

    /// Forgets what was measured of a device, until more is.
    pub(crate) fn forget(&self, device: DeviceId) {
        write(&self.groups).retain(|group, _| group.device != device);
    }

    fn remember(&self, seen: Vec<(GroupKey, Outcome, Option<Arc<Reading>>)>) -> u64 {
        let mut ring = self.ring();
        for (group, outcome, reading) in seen {
            ring.newest += 1;
            let n = ring.newest;
            if ring.reports.len() >= RING {
                ring.reports.pop_front();
            }
            ring.reports.push_back(Committed {
                n,
                group,
                outcome,
                reading,
            });
        }
        ring.newest
    }
}

/// `row` beside the values of the one before, in its own columns.
pub(crate) fn reading(row: PollRow, previous: Option<&PollRow>) -> Reading {
    let previous = previous.map(|before| (before.at, in_columns_of(&row, before)));
    Reading { row, previous }
}

fn in_columns_of(row: &PollRow, before: &PollRow) -> Arc<[f64]> {
    if Arc::ptr_eq(&row.columns, &before.columns) {
        return before.values.clone();
    }
    let had = before.columns.series().iter().zip(before.values.iter());
    let had: HashMap<_, f64> = had.map(|(key, value)| (key, *value)).collect();
    let own = row.columns.series().iter();
    own.map(|key| had.get(key).copied().unwrap_or(f64::NAN))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::{Check, Timestamp};

    use super::*;

    fn reports(count: u64) -> Vec<Ready> {
        (0..count)
            .map(|at| Ready {
                group: GroupKey {
                    device: DeviceId(1),
                    check: Check::Icmp,
                },
                outcome: Outcome {
                    at: Timestamp(at),
                    took: Duration::ZERO,
                    failure: None,
                    partial: Vec::new(),
                },
                row: None,
                facts: None,
            })
            .collect()
    }

    fn empty() -> View {
        View::new(Vec::new(), HashMap::new(), HashMap::new())
    }

    #[test]
    fn a_reader_gets_each_report_once_in_order() {
        let view = empty();
        assert_eq!(view.committed_since(0).upto, 0);
        view.publish(&reports(3));
        let first = view.committed_since(0);
        let numbers: Vec<u64> = first.reports.iter().map(|report| report.n).collect();
        assert_eq!(
            (numbers, first.upto, first.missed),
            (vec![1, 2, 3], 3, false)
        );
        view.publish(&reports(1));
        let next = view.committed_since(first.upto);
        assert_eq!((next.reports.len(), next.upto), (1, 4));
        assert!(view.committed_since(4).reports.is_empty());
    }

    #[test]
    fn a_reader_that_is_far_behind_is_told() {
        let view = empty();
        view.publish(&reports(RING as u64 + 5));
        let late = view.committed_since(2);
        assert!(late.missed);
        assert_eq!(late.reports.len(), RING);
        assert!(!view.committed_since(5).missed);
    }
}
