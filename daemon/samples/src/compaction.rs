//! Compaction: a UTC day's fresh segments become one, with its roll-ups; a UTC
//! month's roll-ups become one segment each.
//!
//! A cut writes a segment for each day, so a source belongs to one day and is
//! forgotten once that day was compacted. If the head has rows of a day that is
//! due, it is cut first. Fresh segments of several days, which
//! a cut never writes, are read until they expire but are not compacted. Rows
//! that come after their day was compacted wait for the next UTC day and are
//! then compacted together with it. Those that come after their month was
//! compacted are not in its roll-ups.
//!
//! A source with a damaged block is set aside into quarantine but stays listed,
//! so that answers can say what they lack.

#[cfg(test)]
use std::collections::BTreeMap;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use model::Timestamp;
use segment::{Compacted, Compaction, Output, Segment, Span, Tier};

use crate::catalog::{CatalogChange, CatalogError, SegmentName};
use crate::cut::{next_name, refused};
use crate::engine::Inner;
use crate::files;
use crate::head::Head;
use crate::keeper::{Counts, Keeper, Pending};
use crate::limits::DAY_MS;
use crate::lock::{self, lock};
use crate::shelf::{Listed, Shelf};

/// A day is compacted so long after its end: rows that a slow poll measured
/// just before midnight are there by then.
const AFTER_DAY_MS: u64 = 10 * 60 * 1000;

/// A month is compacted so long after its end: rows that came late are in the
/// roll-ups of their days by then.
const AFTER_MONTH_MS: u64 = DAY_MS + DAY_MS / 2;

/// A compaction that failed is not tried again for so long.
const AFTER_FAILURE_MS: u64 = 5 * 60 * 1000;

/// On which day (since 1970) a tier's day or month (its first day) was
/// compacted last, since the start.
pub(crate) type CompactedOn = HashMap<(Tier, u64), u64>;

/// What is to be compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// The raw segments of a day.
    Day(u64),
    /// A tier's segments of the days from here to there, the end excluded.
    Month(Tier, u64, u64),
}

impl Due {
    /// The end of its days, in ms.
    fn end(self) -> u64 {
        match self {
            Due::Day(day) => (day + 1) * DAY_MS,
            Due::Month(_, _, end) => end * DAY_MS,
        }
    }
}

/// What is due, the oldest first.
pub(crate) fn due(shelf: &Shelf, done: &CompactedOn, now: Timestamp) -> Option<Due> {
    let day = days_due(shelf, done, now).min();
    day.map(Due::Day).or_else(|| month_due(shelf, now))
}

/// Whether a segment can be a source.
fn is_source(listed: &Listed) -> bool {
    !listed.quarantined && listed.segment().is_some()
}

/// Days with fresh segments.
fn fresh_days(shelf: &Shelf) -> impl Iterator<Item = u64> {
    let fresh = shelf.of(Tier::Raw).filter(|listed| {
        listed.is(Tier::Raw, Span::Fresh) && is_source(listed) && listed.is_of_one_day()
    });
    fresh.map(|listed| listed.day())
}

fn days_due(shelf: &Shelf, done: &CompactedOn, now: Timestamp) -> impl Iterator<Item = u64> {
    let today = now.0 / DAY_MS;
    let is_over = move |day: &u64| (day + 1) * DAY_MS + AFTER_DAY_MS <= now.0;
    let was_today = move |day: &u64| done.get(&(Tier::Raw, *day)) == Some(&today);
    fresh_days(shelf).filter(move |day| is_over(day) && !was_today(day))
}

fn month_due(shelf: &Shelf, now: Timestamp) -> Option<Due> {
    let waiting: HashSet<u64> = fresh_days(shelf).map(first_of_month).collect();
    for tier in [Tier::Quarter, Tier::Hour] {
        let days = shelf
            .of(tier)
            .filter(|listed| listed.is(tier, Span::Day) && is_source(listed));
        let firsts = days.map(|listed| first_of_month(listed.day()));
        let is_due = |first: &u64| {
            next_month(*first) * DAY_MS + AFTER_MONTH_MS <= now.0 && !waiting.contains(first)
        };
        if let Some(first) = firsts.filter(is_due).min() {
            return Some(Due::Month(tier, first, next_month(first)));
        }
    }
    None
}

/// The first day of a day's month, both in days since 1970.
pub(crate) fn first_of_month(day: u64) -> u64 {
    day + 1 - day_of_month(day)
}

/// The first day of the month behind that which begins at `first`.
fn next_month(first: u64) -> u64 {
    first_of_month(first + 31)
}

/// The day of the month, from 1, in the proleptic Gregorian calendar. Years
/// are counted from March, so that the leap day is the last of its year.
fn day_of_month(day: u64) -> u64 {
    const DAYS_TO_1970: u64 = 719_468; // since 0000-03-01
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let of_era = (day + DAYS_TO_1970) % DAYS_OF_400_YEARS;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153; // from March
    of_year - (153 * month + 2) / 5 + 1
}

/// What is compacted into what.
struct Plan {
    sources: Vec<Arc<Listed>>,
    /// Roll-ups that are made anew.
    replaced: Vec<Arc<Listed>>,
    span: Span,
    tiers: Vec<Tier>,
    /// In days.
    days: std::ops::Range<u64>,
}

fn plan(shelf: &Shelf, due: Due) -> Plan {
    match due {
        Due::Day(day) => plan_day(shelf, day),
        Due::Month(tier, first, end) => {
            let days = shelf.of(tier).filter(|listed| {
                listed.is(tier, Span::Day)
                    && is_source(listed)
                    && (first..end).contains(&listed.day())
            });
            Plan {
                sources: days.cloned().collect(),
                replaced: Vec::new(),
                span: Span::Month,
                tiers: vec![tier],
                days: first..end,
            }
        }
    }
}

fn plan_day(shelf: &Shelf, day: u64) -> Plan {
    let is_of_day = |listed: &&Arc<Listed>| listed.day() == day && listed.is_of_one_day();
    let raw = shelf.of(Tier::Raw).filter(is_of_day);
    let sources: Vec<Arc<Listed>> = raw.filter(|listed| is_source(listed)).cloned().collect();
    let has_day = sources.iter().any(|listed| listed.is(Tier::Raw, Span::Day));
    let mut tiers = vec![Tier::Raw];
    let mut replaced = Vec::new();
    for tier in [Tier::Quarter, Tier::Hour] {
        let of_day: Vec<&Arc<Listed>> = shelf.of(tier).filter(is_of_day).collect();
        let in_month = shelf.of(tier).any(|listed| {
            listed.is(tier, Span::Month) && first_of_month(listed.day()) == first_of_month(day)
        });
        // without the day's other rows the roll-ups that are there know more
        if !in_month && (of_day.is_empty() || has_day) {
            tiers.push(tier);
            replaced.extend(of_day.into_iter().cloned());
        }
    }
    Plan {
        sources,
        replaced,
        span: Span::Day,
        tiers,
        days: day..day + 1,
    }
}

impl Inner {
    /// Compacts what is due; whether something was.
    pub(crate) fn compact_if_due(
        &self,
        keeper: &mut Keeper,
        now: Timestamp,
    ) -> Result<bool, CatalogError> {
        let wait = keeper.compact_after.saturating_sub(now.0);
        if (1..=AFTER_FAILURE_MS).contains(&wait) {
            return Ok(false);
        }
        let find = |keeper: &Keeper| {
            let shelf = Arc::clone(&lock(&self.head).shelf);
            let due = due(&shelf, &keeper.compacted_on, now);
            due.map(|due| (shelf, due))
        };
        let Some((mut shelf, mut due)) = find(keeper) else {
            return Ok(false);
        };
        if lock(&self.head).has_rows_before(due.end()) {
            let cut = self.cut(keeper);
            cut.inspect_err(|_| keeper.compact_after = now.0 + AFTER_FAILURE_MS)?;
            match find(keeper) {
                Some(found) => (shelf, due) = found,
                None => return Ok(false),
            }
        }
        match self.compact(keeper, &shelf, &plan(&shelf, due)) {
            Ok(true) => {
                if let Due::Day(day) = due {
                    let today = now.0 / DAY_MS;
                    keeper.compacted_on.insert((Tier::Raw, day), today);
                    keeper.compacted_on.retain(|_, on| *on == today);
                }
                Ok(true)
            }
            Ok(false) => Ok(false),
            Err(error) => {
                keeper.compact_after = now.0 + AFTER_FAILURE_MS;
                Err(error)
            }
        }
    }

    /// `false`: it was stopped.
    fn compact(
        &self,
        keeper: &mut Keeper,
        shelf: &Shelf,
        plan: &Plan,
    ) -> Result<bool, CatalogError> {
        let began = Instant::now();
        let names: Vec<SegmentName> = plan.tiers.iter().map(|_| next_name(keeper)).collect();
        let compacted = self.write_compacted(shelf, plan, &names)?;
        if compacted.stopped {
            return Ok(false);
        }
        let mut pending = self.open_compacted(plan, &names, &compacted)?;
        pending.change.next_segment = Some(keeper.next_segment);
        pending.counts = Counts {
            damaged: compacted.damaged.len() as u64,
            compactions: 1,
            last_compaction: began.elapsed(),
            ..Counts::default()
        };
        self.change(keeper, pending).map(|()| true)
    }

    fn write_compacted(
        &self,
        shelf: &Shelf,
        plan: &Plan,
        names: &[SegmentName],
    ) -> Result<Compacted, CatalogError> {
        let places = self.places();
        let output = |(tier, name): (&Tier, &SegmentName)| Output {
            path: places.temporary(*name),
            tier: *tier,
            span: plan.span,
        };
        let outputs: Vec<Output> = plan.tiers.iter().zip(names).map(output).collect();
        for output in &outputs {
            let _ = self.fs.remove(&output.path); // left by an earlier try
        }
        let gone = lock(&self.head).gone.clone();
        let from = plan.days.start * DAY_MS;
        let segments = plan.sources.iter().filter_map(|listed| listed.segment());
        let compaction = Compaction {
            fs: Arc::clone(&self.fs),
            sources: segments.cloned().collect(),
            range: from..plan.days.end * DAY_MS,
            is_gone: &|group| gone.contains(&group),
            columns: &|number| lock::read(&self.registry).get(number).cloned(),
            previous: &|group| self.last_before(shelf, group, from),
            outputs,
            stop: &|| self.is_wanted_elsewhere(),
        };
        segment::compact(&compaction).map_err(|error| refused(&error))
    }

    /// Whether a compaction gives way: it is only put off.
    fn is_wanted_elsewhere(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Gives the outputs their names, and says what becomes of the sources.
    fn open_compacted(
        &self,
        plan: &Plan,
        names: &[SegmentName],
        compacted: &Compacted,
    ) -> Result<Pending, CatalogError> {
        let mut pending = Pending::default();
        for (name, summary) in names.iter().zip(&compacted.outputs) {
            let Some(summary) = summary else { continue };
            match self.open_new(*name, summary.clone()) {
                Ok(listed) => pending.opened.push(Arc::new(listed)),
                Err(error) => {
                    self.discard(&pending.opened);
                    for name in names {
                        let _ = self.fs.remove(&self.places().temporary(*name));
                    }
                    return Err(error);
                }
            }
        }
        let damaged: HashSet<&PathBuf> = compacted.damaged.iter().map(|d| &d.0).collect();
        let is_damaged = |listed: &Listed| {
            let path = listed
                .segment()
                .map(|segment: &Arc<Segment>| segment.path());
            path.is_some_and(|path| damaged.contains(path))
        };
        for (path, group, _, _, what) in &compacted.damaged {
            let path = path.display();
            tracing::error!(%path, group, what, "a block is damaged; its rows were left out");
        }
        let rows = pending.opened.iter().map(|listed| listed.row.clone());
        let mut change = CatalogChange {
            segments: rows.collect(),
            ..CatalogChange::default()
        };
        for listed in plan.sources.iter().chain(&plan.replaced) {
            let name = listed.row.name;
            match is_damaged(listed) {
                true => pending.quarantine.push(name),
                false => {
                    change.forget_segments.push(name);
                    pending.unlink.push(listed.path.clone());
                }
            }
        }
        pending.change = change;
        Ok(pending)
    }

    /// Sets a segment with damaged blocks aside; it stays listed.
    pub(crate) fn quarantine(&self, names: &[SegmentName]) {
        let places = self.places();
        for name in names {
            files::set_aside(&self.fs, &places, *name);
            let mut head = lock(&self.head);
            let found = head.shelf.segments.iter().find(|l| l.row.name == *name);
            let Some(listed) = found.and_then(|listed| listed.aside(places.aside(*name))) else {
                continue;
            };
            let shelf = head.shelf.changed(&[Arc::new(listed)], &[]);
            head.shelf = Arc::new(shelf);
        }
    }

    /// Once a day: forgets deleted groups and columns of which no row is left.
    pub(crate) fn tidy(&self, keeper: &mut Keeper, now: Timestamp) -> Result<(), CatalogError> {
        let today = now.0 / DAY_MS;
        if keeper.tidied.replace(today) == Some(today) {
            return Ok(());
        }
        let change = {
            let mut head = lock(&self.head);
            let Some(used) = Used::of(&head) else {
                return Ok(()); // nobody knows what is in a segment that is lost
            };
            let mut registry = lock::write(&self.registry);
            let mut columns = registry.all_listed();
            columns.retain(|number| !used.columns.contains(number));
            registry.remove(&columns);
            let mut groups: Vec<u32> = keeper.gone_at_cut.iter().copied().collect();
            groups.retain(|number| !used.groups.contains(number) && head.gone.contains(number));
            head.begun.tidy(now);
            CatalogChange {
                forget_groups: groups,
                forget_columns: columns,
                ..CatalogChange::default()
            }
        };
        if change.forget_groups.is_empty() && change.forget_columns.is_empty() {
            return Ok(());
        }
        let pending = Pending {
            change,
            ..Pending::default()
        };
        self.change(keeper, pending)
    }
}

impl Listed {
    /// The same segment in quarantine.
    fn aside(&self, path: PathBuf) -> Option<Listed> {
        Some(Listed {
            row: self.row.clone(),
            content: crate::shelf::Content::Open(Arc::clone(self.segment()?)),
            quarantined: true,
            path,
        })
    }
}

/// Numbers that rows have.
struct Used {
    groups: HashSet<u32>,
    columns: HashSet<u32>,
}

impl Used {
    fn of(head: &Head) -> Option<Used> {
        let mut used = Used {
            groups: HashSet::new(),
            columns: HashSet::new(),
        };
        for listed in &head.shelf.segments {
            for entry in listed.segment()?.entries() {
                used.groups.insert(entry.group);
                used.columns.insert(entry.columns);
            }
        }
        for frozen in &head.frozen {
            used.groups
                .extend(frozen.groups.iter().map(|(number, _)| *number));
            used.columns
                .extend(frozen.pieces().map(|piece| piece.columns()));
        }
        for group in head.groups.values() {
            let current = group.columns.as_ref().map(|(number, _)| *number);
            used.columns.extend(current);
            let open = (!group.open.times.is_empty()).then_some(group.open.columns);
            used.columns.extend(open);
            used.columns
                .extend(group.closed.iter().map(|piece| piece.columns()));
        }
        Some(used)
    }
}

/// Segments by day, for tests and logs.
#[cfg(test)]
pub(crate) fn by_day(shelf: &Shelf) -> BTreeMap<(Tier, Span, u64), usize> {
    let mut days = BTreeMap::new();
    for listed in &shelf.segments {
        let summary = &listed.row.summary;
        *days
            .entry((summary.tier, summary.span, listed.day()))
            .or_default() += 1;
    }
    days
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_where_the_calendar_says() {
        assert_eq!(first_of_month(0), 0);
        assert_eq!(next_month(0), 31);
        assert_eq!(next_month(31), 59);
        // 2024-02-29 and 2024-03-01
        assert_eq!(first_of_month(19_782), 19_754);
        assert_eq!(next_month(19_754), 19_783);
        // 2026-12-31 and 2027-01-01
        assert_eq!(first_of_month(20_818), 20_788);
        assert_eq!(next_month(20_788), 20_819);
    }
}
