//! An index over sets of columns: postings of metrics, label names and values.

use std::sync::Arc;

use model::Columns;

use crate::Selector;

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
pub struct Index {}

impl Index {
    /// Adds a set of columns; does nothing if it has that number.
    pub fn add(&mut self, id: ColumnsId, columns: &Arc<Columns>) {
        let _ = (id, columns);
        unimplemented!()
    }

    /// Forgets sets of columns.
    pub fn remove(&mut self, ids: &[ColumnsId]) {
        let _ = ids;
        unimplemented!()
    }

    /// What `selector` selects, by number.
    #[must_use]
    pub fn find(&self, selector: &Selector) -> Vec<Found> {
        let _ = selector;
        unimplemented!()
    }

    /// The names of all metrics, sorted.
    #[must_use]
    pub fn metrics(&self) -> Vec<Arc<str>> {
        unimplemented!()
    }

    /// The names of all labels, sorted.
    #[must_use]
    pub fn labels(&self) -> Vec<String> {
        unimplemented!()
    }

    /// The values of a label, sorted.
    #[must_use]
    pub fn values(&self, label: &str) -> Vec<String> {
        let _ = label;
        unimplemented!()
    }
}
