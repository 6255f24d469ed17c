//! An index over sets of columns: postings of metrics, label names and values.
//!
//! The series of a set get numbers in one row, in the order of their places,
//! and a *posting* lists the numbers of the series that carry one value of one
//! label: 4 bytes for each, and a text once however many carry it. A selector
//! is answered with one bit per number and matcher, so that an answer takes
//! microseconds per matcher beside what it finds. Each value of a label is
//! looked at once, whatever number of series carry it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use model::{Columns, SeriesKey};

use crate::bits::Bits;
use crate::matcher::Pattern;
use crate::selector::METRIC;
use crate::{Matcher, Selector};

/// Numbers that no series has any more are tolerated up to this many, and up
/// to as many as series have: beyond, all are given anew.
const UNUSED_NUMBERS: u32 = 1 << 16;

/// The number of a set of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnsId(pub u32);

/// Of one set of columns: the places that are selected, rising.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which set.
    pub columns: ColumnsId,
    /// Which places in it.
    pub places: Vec<u32>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// By the number of their first series.
    sets: BTreeMap<u32, Set>,
    /// The number of a set's first series.
    first: HashMap<ColumnsId, u32>,
    /// By name; without any that no series carries.
    labels: BTreeMap<Box<str>, Values>,
    /// All numbers are below this.
    end: u32,
    /// How many of them no series has.
    unused: u32,
}

#[derive(Clone, Debug)]
struct Set {
    id: ColumnsId,
    columns: Arc<Columns>,
    width: u32,
}

/// The postings of one label by value; without empty ones.
#[derive(Clone, Debug, Default)]
struct Values(BTreeMap<Box<str>, Vec<u32>>);

impl Index {
    /// Adds a set of columns; does nothing if it has that number. What goes
    /// beyond 2^32 series in all is not found.
    pub fn add(&mut self, id: ColumnsId, columns: &Arc<Columns>) {
        if columns.series().is_empty() {
            return;
        }
        let Entry::Vacant(entry) = self.first.entry(id) else {
            return;
        };
        let width = u32::try_from(columns.series().len()).unwrap_or(u32::MAX);
        let Some(end) = self.end.checked_add(width) else {
            return;
        };
        let first = std::mem::replace(&mut self.end, end);
        entry.insert(first);
        for (number, key) in (first..).zip(columns.series()) {
            for (name, value) in labels(key) {
                self.values_of(name).add(value, number);
            }
        }
        let columns = Arc::clone(columns);
        self.sets.insert(first, Set { id, columns, width });
    }

    fn values_of(&mut self, name: &str) -> &mut Values {
        if !self.labels.contains_key(name) {
            self.labels.insert(name.into(), Values::default());
        }
        self.labels.get_mut(name).expect("it was just put there")
    }

    /// Forgets sets of columns.
    pub fn remove(&mut self, ids: &[ColumnsId]) {
        let firsts: Vec<u32> = ids.iter().filter_map(|id| self.first.remove(id)).collect();
        let sets = firsts.iter().filter_map(|first| self.sets.remove(first));
        let sets: Vec<Set> = sets.collect();
        let mut gone = Bits::none(self.end);
        for (first, set) in firsts.iter().zip(&sets) {
            gone.put_all(*first..first + set.width);
            self.unused += set.width;
        }
        let touched: HashSet<(&str, &str)> = sets
            .iter()
            .flat_map(|set| set.columns.series().iter().flat_map(labels))
            .collect();
        for (name, value) in touched {
            self.forget(name, value, &gone);
        }
        if self.unused > UNUSED_NUMBERS.max(self.end - self.unused) {
            self.number_anew();
        }
    }

    fn forget(&mut self, name: &str, value: &str, gone: &Bits) {
        let Some(values) = self.labels.get_mut(name) else {
            return;
        };
        values.forget(value, gone);
        if values.0.is_empty() {
            self.labels.remove(name);
        }
    }

    /// Closes the gaps between the numbers of sets; their order stays.
    fn number_anew(&mut self) {
        let mut anew = vec![0; self.end as usize];
        let mut end = 0;
        for (first, set) in std::mem::take(&mut self.sets) {
            let moved = &mut anew[first as usize..][..set.width as usize];
            moved
                .iter_mut()
                .zip(end..)
                .for_each(|(to, number)| *to = number);
            self.first.insert(set.id, end);
            let begin = end;
            end += set.width;
            self.sets.insert(begin, set);
        }
        for values in self.labels.values_mut() {
            for posting in values.0.values_mut() {
                posting
                    .iter_mut()
                    .for_each(|number| *number = anew[*number as usize]);
            }
        }
        self.end = end;
        self.unused = 0;
    }

    /// What `selector` selects, by number.
    #[must_use]
    pub fn find(&self, selector: &Selector) -> Vec<Found> {
        let mut selected = Bits::all(self.end);
        for matcher in selector.matchers() {
            self.narrow(&mut selected, matcher);
        }
        let found = self.sets.iter().map(|(first, set)| Found {
            columns: set.id,
            places: selected.within(*first..first + set.width),
        });
        let mut found: Vec<Found> = found.filter(|found| !found.places.is_empty()).collect();
        found.sort_unstable_by_key(|found| found.columns);
        found
    }

    /// Takes out what `matcher` does not accept. Series without the label stand
    /// in no posting: where they are accepted, the postings that are not are
    /// taken out, else those that are stay alone.
    fn narrow(&self, selected: &mut Bits, matcher: &Matcher) {
        let without = matcher.accepts("");
        let mut these = Bits::none(self.end);
        if let Some(values) = self.labels.get(matcher.name()) {
            values.postings(matcher, !without, &mut |posting| {
                posting.iter().for_each(|number| these.put(*number));
            });
        }
        match without {
            true => selected.drop(&these),
            false => selected.keep(&these),
        }
    }

    /// The names of all metrics, sorted.
    #[must_use]
    pub fn metrics(&self) -> Vec<Arc<str>> {
        let metrics = self.labels.get(METRIC);
        let names = metrics.into_iter().flat_map(|values| values.0.keys());
        names.map(|name| Arc::from(&**name)).collect()
    }

    /// The names of all labels, sorted; `__name__`, the metric, is one of them.
    #[must_use]
    pub fn labels(&self) -> Vec<String> {
        self.labels
            .keys()
            .map(|name| String::from(&**name))
            .collect()
    }

    /// The values of a label, sorted.
    #[must_use]
    pub fn values(&self, label: &str) -> Vec<String> {
        let values = self.labels.get(label);
        let values = values.into_iter().flat_map(|values| values.0.keys());
        values.map(|value| String::from(&**value)).collect()
    }
}

/// The labels of a series with the metric among them. An empty one is like
/// none, and the metric is what the key says.
fn labels(key: &SeriesKey) -> impl Iterator<Item = (&str, &str)> {
    std::iter::once((METRIC, &*key.metric))
        .chain(key.labels.iter().filter(|(name, _)| *name != METRIC))
        .filter(|(_, value)| !value.is_empty())
}

impl Values {
    fn add(&mut self, value: &str, number: u32) {
        match self.0.get_mut(value) {
            Some(posting) => posting.push(number),
            None => {
                self.0.insert(value.into(), vec![number]);
            }
        }
    }

    fn forget(&mut self, value: &str, gone: &Bits) {
        let Some(posting) = self.0.get_mut(value) else {
            return;
        };
        posting.retain(|number| !gone.has(*number));
        match posting.is_empty() {
            true => drop(self.0.remove(value)),
            false if posting.capacity() > 2 * posting.len() => posting.shrink_to_fit(),
            false => {}
        }
    }

    /// Calls `each` with the postings of all values that `matcher` accepts, or
    /// of those that it does not.
    fn postings(&self, matcher: &Matcher, accepted: bool, each: &mut dyn FnMut(&[u32])) {
        let matching = accepted != matcher.is_negative();
        match (matcher.pattern(), matching) {
            (Pattern::OneOf(values), true) => {
                let postings = values.iter().filter_map(|value| self.0.get(value.as_str()));
                postings.for_each(|posting| each(posting));
            }
            (pattern @ Pattern::Prefix(prefix, _), true) => self
                .beginning_with(prefix)
                .filter(|(value, _)| pattern.matches(value))
                .for_each(|(_, posting)| each(posting)),
            (pattern, _) => self
                .0
                .iter()
                .filter(|(value, _)| pattern.matches(value) == matching)
                .for_each(|(_, posting)| each(posting)),
        }
    }

    fn beginning_with(&self, prefix: &str) -> impl Iterator<Item = (&Box<str>, &Vec<u32>)> {
        self.0
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(value, _)| value.starts_with(prefix))
    }
}
