//! Overwrites the file's free pages, in which something may still lie that was
//! kept in plain text once.
//!
//! One transaction takes page after page until the file has to grow: then none
//! of the free ones is left. redb writes a page as a whole, and what a page
//! held before it was freed is not in it. The next transaction gives them all
//! back.

use redb::{ReadableTableMetadata, TableDefinition, WriteTransaction};

use crate::disk::Disk;
use crate::error::Fault;
use crate::tables;

/// The rows that fill the pages.
const FILLER: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("wipe");

/// A page of redb, without what a leaf with one such row has beside it: 4 bytes
/// of header, 4 of the row's length, 8 of its key.
const FILLER_BYTES: usize = 4_096 - 16;

/// Transactions until redb takes the pages for free that an earlier one gave
/// back.
const SETTLING: usize = 3;

/// Overwrites what is free now. Returns when that is on the disk, and the note
/// that it is wanted is gone.
pub(crate) fn wipe(disk: &Disk) -> Result<(), Fault> {
    for beat in 0..SETTLING {
        disk.write(|txn| tables::COUNTER.put(txn, tables::HEARTBEAT, &(beat as u64)))?;
    }
    disk.write(|txn| fill(txn, disk))?;
    disk.write(|txn| {
        txn.delete_table(FILLER)?;
        tables::COUNTER.remove(txn, tables::WIPE).map(drop)
    })
}

fn fill(txn: &WriteTransaction, disk: &Disk) -> Result<(), Fault> {
    // what a wipe left that did not come to its end
    txn.delete_table(FILLER)?;
    let mut table = txn.open_table(FILLER)?;
    let filler = [0u8; FILLER_BYTES];
    let before = disk.length();
    while disk.length() <= before {
        let row = table.len()?;
        table.insert(row, &filler[..])?;
    }
    Ok(())
}
