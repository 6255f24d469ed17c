//! A look at a store that is not open: which keys it is sealed with.
//!
//! Opening a store writes to it, if only redb's header. Who was given the wrong
//! key shall not have changed one byte, so the ring is looked at first, through
//! a file that is opened for reading.

use std::path::Path;

use model::KeyRing;
use redb::{ReadOnlyDatabase, ReadableDatabase};

use crate::disk::caught;
use crate::error::Fault;
use crate::tables;

/// The ring is as it is today since this schema.
const SINCE: u64 = 2;

/// The key ring of the store at `path`, if it can be had without writing.
/// `None` says nothing about the store: it may be absent, in use, not closed
/// cleanly, older or damaged, which opening it finds out and says. Blocks.
#[must_use]
pub fn key_ring_of(path: &Path) -> Option<KeyRing> {
    caught(|| look(path)).ok().flatten()
}

fn look(path: &Path) -> Result<Option<KeyRing>, Fault> {
    let txn = ReadOnlyDatabase::open(path)?.begin_read()?;
    let schema = tables::COUNTER.get(&txn, tables::SCHEMA_KEY)?;
    let known = SINCE..=u64::from(tables::SCHEMA);
    if !schema.is_some_and(|schema| known.contains(&schema)) {
        return Ok(None);
    }
    let mut found = None;
    tables::KEY_RING.load(&txn, |_, ring| found = Some(ring))?;
    Ok(found)
}
