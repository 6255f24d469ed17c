//! What an agent can be asked for, in the order of its names.
//!
//! The answering side ([`crate::answer`]) knows objects only through this, so
//! that an invented device and a recording of a real one are asked alike.

use crate::message::Value;

/// Where an instance stands; only the view that gave it can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) column: usize,
    pub(crate) row: usize,
}

/// What GET finds (RFC 3416 §4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Instance(Place),
    NoSuchInstance,
    NoSuchObject,
}

/// Instances in lexicographic order of their names.
pub(crate) trait View {
    /// The instance called `oid`.
    fn get(&self, oid: &[u32]) -> Found;
    /// The first instance behind `oid`.
    fn next(&self, oid: &[u32]) -> Option<Place>;
    /// The first instance behind the one at `place`.
    fn after(&self, place: Place) -> Option<Place>;
    /// Puts the name of the instance at `place` into `name`.
    fn name(&self, place: Place, name: &mut Vec<u32>);
    /// What the instance at `place` holds.
    fn value(&self, place: Place) -> Value;
}
