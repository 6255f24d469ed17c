//! Schemas: each version of the format has a number, and each step from one to
//! the next is written down here once and for all.
//!
//! A migration runs in the transaction that also raises the number, so a crash
//! in it leaves the old schema. It runs before anything is written to the file
//! (see [`crate::disk`]), so one that fails leaves the file as it was.

pub(crate) mod to_tenants;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Database, ReadableDatabase, StorageBackend, TableError, WriteTransaction};

use crate::disk::begin_write;
use crate::error::Fault;
use crate::samples::pieces::{CHUNK, ROW, SERIES};
use crate::tables::{self, SCHEMA, SCHEMA_KEY};

/// One step: from this schema to the next.
pub(crate) struct Migration {
    pub(crate) from: u32,
    pub(crate) run: fn(&WriteTransaction) -> Result<(), Fault>,
}

/// Every step, oldest first. Schema 1 is the first that was released.
pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    from: 1,
    run: to_tenants::run,
}];

/// What a look at a file's schema says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Schema {
    /// It is, or now has been brought to, this version's.
    Current,
    /// It is newer: not to be touched.
    Newer(u32),
}

/// Brings the store to this version's schema.
pub(crate) fn migrate(db: &Database) -> Result<Schema, Fault> {
    migrate_by(db, MIGRATIONS, SCHEMA)
}

fn migrate_by(db: &Database, steps: &[Migration], newest: u32) -> Result<Schema, Fault> {
    loop {
        let found = schema_of(db)?;
        if found == newest {
            return Ok(Schema::Current);
        }
        if found > newest {
            return Ok(Schema::Newer(found));
        }
        let step = steps.iter().find(|step| step.from == found);
        let Some(step) = step else {
            return Err(Fault::Damage(format!("its schema {found} never existed")));
        };
        tracing::info!(from = found, "migrating the store to the next schema");
        let txn = begin_write(db)?;
        (step.run)(&txn)?;
        tables::COUNTER.put(&txn, SCHEMA_KEY, &u64::from(found + 1))?;
        txn.commit()?;
    }
}

fn schema_of(db: &Database) -> Result<u32, Fault> {
    let txn = db.begin_read()?;
    match txn.open_table(tables::COUNTER.definition()) {
        Err(TableError::TableDoesNotExist(_)) => {
            let what = "it is a redb file, but not a store of this program";
            return Err(Fault::Damage(what.to_owned()));
        }
        other => drop(other?),
    }
    let found = tables::COUNTER.get(&txn, SCHEMA_KEY)?;
    let lost = || Fault::Damage("the number of its schema is missing".to_owned());
    u32::try_from(found.ok_or_else(lost)?).map_err(|_| lost())
}

/// The bytes of an empty store.
pub(crate) fn empty_image() -> Result<Vec<u8>, Fault> {
    let image = Image::default();
    let db = Database::builder().create_with_backend(image.clone())?;
    let txn = begin_write(&db)?;
    create_tables(&txn)?;
    tables::COUNTER.put(&txn, SCHEMA_KEY, &u64::from(SCHEMA))?;
    txn.commit()?;
    drop(db);
    let bytes = image.0.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(bytes.clone())
}

fn create_tables(txn: &WriteTransaction) -> Result<(), Fault> {
    tables::COUNTER.create(txn)?;
    tables::DEVICE.create(txn)?;
    tables::CREDENTIAL.create(txn)?;
    tables::CREDENTIAL_PLAIN.create(txn)?;
    tables::USER.create(txn)?;
    tables::TENANT.create(txn)?;
    tables::TOKEN.create(txn)?;
    tables::POLICY.create(txn)?;
    tables::SESSION.create(txn)?;
    tables::SECRET.create(txn)?;
    tables::KEY_RING.create(txn)?;
    tables::AUDIT.create(txn)?;
    tables::AUDIT_END.create(txn)?;
    tables::ANSWER.create(txn)?;
    tables::RULE.create(txn)?;
    tables::ALERT.create(txn)?;
    tables::ALERT_PAST.create(txn)?;
    tables::QUEUED.create(txn)?;
    tables::PARKED.create(txn)?;
    tables::DELIVERED.create(txn)?;
    tables::FACTS.create(txn)?;
    tables::ADDRESS.create(txn)?;
    tables::TOTALS.create(txn)?;
    tables::TRACK.create(txn)?;
    tables::STATE.create(txn)?;
    tables::COLUMNS.create(txn)?;
    for pieces in [ROW, CHUNK, SERIES] {
        txn.open_table(pieces.definition())?;
    }
    Ok(())
}

/// A file in memory whose bytes can be taken out again.
#[derive(Clone, Default)]
struct Image(Arc<Mutex<Vec<u8>>>);

impl Image {
    fn with<T>(&self, work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn place(offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
    let start = usize::try_from(offset).map_err(io::Error::other)?;
    Ok(start..start + length)
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Image")
    }
}

impl StorageBackend for Image {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|bytes| bytes.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let place = place(offset, out.len())?;
        self.with(|bytes| {
            let there = bytes.get(place).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(there);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let end = place(len, 0)?.start;
        self.with(|bytes| bytes.resize(end, 0));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let place = place(offset, data.len())?;
        self.with(|bytes| {
            if bytes.len() < place.end {
                bytes.resize(place.end, 0);
            }
            bytes[place].copy_from_slice(data);
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    fn store_of(schema: u64) -> Database {
        let db = Database::builder()
            .create_with_backend(InMemoryBackend::new())
            .unwrap();
        let txn = begin_write(&db).unwrap();
        create_tables(&txn).unwrap();
        tables::COUNTER.put(&txn, SCHEMA_KEY, &schema).unwrap();
        tables::COUNTER.put(&txn, "old name", &7).unwrap();
        txn.commit().unwrap();
        db
    }

    const STEPS: &[Migration] = &[
        Migration {
            from: 0,
            run: |txn| {
                tables::COUNTER.remove(txn, "old name")?;
                tables::COUNTER.put(txn, "new name", &7)
            },
        },
        Migration {
            from: 1,
            run: |_| Err(Fault::Damage("the second step fails".into())),
        },
    ];

    #[test]
    fn an_old_store_is_brought_up_step_by_step() {
        let db = store_of(0);
        assert_eq!(migrate_by(&db, STEPS, 1).unwrap(), Schema::Current);
        let txn = db.begin_read().unwrap();
        assert_eq!(tables::COUNTER.get(&txn, "old name").unwrap(), None);
        assert_eq!(tables::COUNTER.get(&txn, "new name").unwrap(), Some(7));
        assert_eq!(schema_of(&db).unwrap(), 1);
    }

    #[test]
    fn a_step_that_fails_leaves_the_schema_before_it() {
        let db = store_of(0);
        let fault = migrate_by(&db, STEPS, 2).unwrap_err();
        assert_eq!(fault.to_string(), "the second step fails");
        assert_eq!(schema_of(&db).unwrap(), 1);
    }

    #[test]
    fn a_newer_store_is_left_alone() {
        let db = store_of(u64::from(SCHEMA) + 1);
        assert_eq!(migrate(&db).unwrap(), Schema::Newer(SCHEMA + 1));
    }

    #[test]
    fn every_schema_up_to_this_one_has_a_step() {
        let steps: Vec<u32> = MIGRATIONS.iter().map(|step| step.from).collect();
        assert_eq!(steps, (1..SCHEMA).collect::<Vec<u32>>());
    }

    #[test]
    fn somebody_elses_redb_file_is_not_taken_for_a_store() {
        let db = Database::builder()
            .create_with_backend(InMemoryBackend::new())
            .unwrap();
        let fault = migrate(&db).unwrap_err();
        assert!(fault.to_string().contains("not a store"), "{fault}");
    }
}
