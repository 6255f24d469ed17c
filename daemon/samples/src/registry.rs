//! Sets of columns and their numbers, and which of them a selector means.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use model::Columns;
use series::{ColumnsId, Index, Selector};

/// Every set of columns that rows have.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    sets: BTreeMap<u32, Arc<Columns>>,
    numbers: HashMap<u64, Vec<u32>>,
    index: Index,
    /// Those that the catalog does not have yet.
    unlisted: BTreeSet<u32>,
    next: u32,
}

/// What a selector means.
#[derive(Debug, Default)]
pub(crate) struct Meant {
    /// Sets of columns that it means something of: the places, rising.
    pub(crate) sets: HashMap<u32, MeantSet>,
    /// Sets of columns with this number or a higher one were not there yet.
    pub(crate) below: u32,
}

/// What a selector means of one set of columns.
#[derive(Clone, Debug)]
pub(crate) struct MeantSet {
    pub(crate) columns: Arc<Columns>,
    pub(crate) places: Arc<[u32]>,
}

impl Registry {
    /// Puts a set that has a number. `listed`: the catalog has it.
    pub(crate) fn put(&mut self, number: u32, columns: Arc<Columns>, listed: bool) {
        self.reserve(number);
        let numbers = self.numbers.entry(columns.fingerprint()).or_default();
        numbers.push(number);
        self.index.add(ColumnsId(number), &columns);
        self.sets.insert(number, columns);
        if !listed {
            self.unlisted.insert(number);
        }
    }

    /// Never gives this number to another set.
    pub(crate) fn reserve(&mut self, number: u32) {
        self.next = self.next.max(number.saturating_add(1));
    }

    /// The number of a set that is known.
    pub(crate) fn find(&self, columns: &Columns) -> Option<u32> {
        let numbers = self.numbers.get(&columns.fingerprint())?;
        let same = |number: &&u32| self.sets.get(number).is_some_and(|set| **set == *columns);
        numbers.iter().find(same).copied()
    }

    /// Gives a new set a number.
    pub(crate) fn add(&mut self, columns: &Arc<Columns>) -> u32 {
        let number = self.next;
        self.put(number, Arc::clone(columns), false);
        number
    }

    /// The set of this number.
    pub(crate) fn get(&self, number: u32) -> Option<&Arc<Columns>> {
        self.sets.get(&number)
    }

    /// Whether the catalog has it.
    pub(crate) fn is_listed(&self, number: u32) -> bool {
        !self.unlisted.contains(&number)
    }

    /// Those that the catalog does not have yet.
    pub(crate) fn unlisted(&self) -> Vec<(u32, Arc<Columns>)> {
        let set = |number: &u32| Some((*number, Arc::clone(self.sets.get(number)?)));
        self.unlisted.iter().filter_map(set).collect()
    }

    /// The catalog has them now.
    pub(crate) fn listed(&mut self, numbers: impl Iterator<Item = u32>) {
        for number in numbers {
            self.unlisted.remove(&number);
        }
    }

    /// The numbers of all sets that the catalog has.
    pub(crate) fn all_listed(&self) -> Vec<u32> {
        let listed = |number: &&u32| !self.unlisted.contains(number);
        self.sets.keys().filter(listed).copied().collect()
    }

    /// Forgets sets that no row has. Their numbers are not given again while
    /// the process lives.
    pub(crate) fn remove(&mut self, gone: &[u32]) {
        let ids: Vec<ColumnsId> = gone.iter().copied().map(ColumnsId).collect();
        self.index.remove(&ids);
        for number in gone {
            let Some(columns) = self.sets.remove(number) else {
                continue;
            };
            if let Some(numbers) = self.numbers.get_mut(&columns.fingerprint()) {
                numbers.retain(|other| other != number);
                if numbers.is_empty() {
                    self.numbers.remove(&columns.fingerprint());
                }
            }
        }
    }

    /// What `selector` means.
    pub(crate) fn meant(&self, selector: &Selector) -> Meant {
        let set = |found: series::Found| {
            let columns = Arc::clone(self.sets.get(&found.columns.0)?);
            let places = Arc::from(found.places);
            Some((found.columns.0, MeantSet { columns, places }))
        };
        let found = self.index.find(selector).into_iter();
        Meant {
            sets: found.filter_map(set).collect(),
            below: self.next,
        }
    }

    /// The names of all metrics, sorted.
    pub(crate) fn metrics(&self) -> Vec<Arc<str>> {
        self.index.metrics()
    }
}
