//! Schemas: each version of the format has a number, and each step from one to
//! the next is written down here once and for all.
//!
//! A migration changes the file in the transaction that also raises the number,
//! so a crash in it leaves the old schema. It runs before anything is written to
//! the file (see [`crate::disk`]), so one that fails leaves the file as it was.
//! What it writes beside the file before that counts for nothing.

pub(crate) mod to_segments;
pub(crate) mod to_tenants;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use ::samples::fs::Fs;
use model::Timestamp;
use redb::{
    Database, ReadableDatabase, ReadableTableMetadata, StorageBackend, TableError, TableHandle,
    WriteTransaction,
};

use crate::disk::{Copier, begin_write};
use crate::error::Fault;
use crate::record::Table;
use crate::tables::{self, SCHEMA, SCHEMA_KEY};

/// What the store of schema 2 is kept under: its name with this behind it.
const BEFORE_3: &str = ".before-3";

/// What a step may need beside the file.
pub(crate) struct Ground {
    pub(crate) copier: Box<dyn Copier>,
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) samples: ::samples::Options,
    pub(crate) now: Timestamp,
}

/// One step: from this schema to the next.
pub(crate) struct Migration {
    pub(crate) from: u32,
    /// Reads what there is, and gives what is to be done in one transaction.
    pub(crate) run: fn(&Database, &Ground) -> Result<Work, Fault>,
}

/// What a step does in its one transaction.
type Work = Box<dyn FnOnce(&WriteTransaction) -> Result<(), Fault>>;

/// Every step, oldest first. Schema 1 is the first that was released.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        from: 1,
        run: |_, _| Ok(Box::new(to_tenants::run)),
    },
    Migration {
        from: 2,
        run: |db, ground| {
            let txn = db.begin_read()?;
            keep_a_copy(&txn, ground)?;
            let state = to_segments::move_samples(&txn, ground)?;
            Ok(Box::new(|txn| to_segments::list(txn, state)))
        },
    },
];

/// Keeps the file as it is, for whoever wants to go back to the older version;
/// unless something in it is in plain text that must not stay anywhere.
fn keep_a_copy(txn: &redb::ReadTransaction, ground: &Ground) -> Result<(), Fault> {
    let plain = txn.open_table(tables::CREDENTIAL_PLAIN.definition())?;
    let is_plain = !plain.is_empty()? || tables::COUNTER.get(txn, tables::WIPE)? == Some(1);
    let copy = if is_plain { 0 } else { ground.copier.bytes() };
    let needed = copy + to_segments::room(txn)?;
    let folder = ground.samples.dir.parent();
    let space = folder.map(|folder| ground.fs.space(folder));
    let free = space.transpose().map_err(redb::StorageError::Io)?;
    let free = free.map_or(u64::MAX, |space| space.free);
    if free < needed {
        return Err(Fault::NoRoom { needed, free });
    }
    if is_plain {
        tracing::warn!("no copy of the store is kept: there is something in plain text in it");
        return Ok(());
    }
    Ok(ground
        .copier
        .copy(BEFORE_3)
        .map_err(redb::StorageError::Io)?)
}

/// What a look at a file's schema says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Schema {
    /// It is, or now has been brought to, this version's.
    Current {
        /// It was another one.
        migrated: bool,
    },
    /// It is newer: not to be touched.
    Newer(u32),
}

/// Brings the store to this version's schema.
pub(crate) fn migrate(db: &Database, ground: &Ground) -> Result<Schema, Fault> {
    migrate_by(db, ground, MIGRATIONS, SCHEMA)
}

fn migrate_by(
    db: &Database,
    ground: &Ground,
    steps: &[Migration],
    newest: u32,
) -> Result<Schema, Fault> {
    let mut migrated = false;
    loop {
        let found = schema_of(db)?;
        if found == newest {
            complete(db)?;
            return Ok(Schema::Current { migrated });
        }
        if found > newest {
            return Ok(Schema::Newer(found));
        }
        let step = steps.iter().find(|step| step.from == found);
        let Some(step) = step else {
            return Err(Fault::Damage(format!("its schema {found} never existed")));
        };
        tracing::info!(from = found, "migrating the store to the next schema");
        let work = (step.run)(db, ground)?;
        let txn = begin_write(db)?;
        work(&txn)?;
        tables::COUNTER.put(&txn, SCHEMA_KEY, &u64::from(found + 1))?;
        txn.commit()?;
        migrated = true;
    }
}

/// Makes the tables that came within this schema and are not there yet.
fn complete(db: &Database) -> Result<(), Fault> {
    let known: BTreeSet<String> = {
        let txn = db.begin_read()?;
        let tables = txn.list_tables()?;
        tables.map(|table| table.name().to_owned()).collect()
    };
    let late = [
        &tables::PLUGIN as &dyn Table,
        &tables::PLUGIN_KV,
        &tables::PLUGIN_STATE,
    ];
    if late.iter().all(|table| known.contains(table.name())) {
        return Ok(());
    }
    let txn = begin_write(db)?;
    late.iter().try_for_each(|table| table.create(&txn))?;
    Ok(txn.commit()?)
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
    tables::ALL.iter().try_for_each(|table| table.create(txn))
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

    fn ground() -> Ground {
        struct Nothing;
        impl Copier for Nothing {
            fn bytes(&self) -> u64 {
                0
            }
            fn copy(&self, _: &str) -> io::Result<()> {
                Ok(())
            }
        }
        Ground {
            copier: Box::new(Nothing),
            fs: Arc::new(wal::fs::sim::SimFs::default()),
            samples: crate::StoreOptions::at("/store/sotp.redb").for_samples(),
            now: Timestamp(0),
        }
    }

    const STEPS: &[Migration] = &[
        Migration {
            from: 0,
            run: |_, _| {
                Ok(Box::new(|txn| {
                    tables::COUNTER.remove(txn, "old name")?;
                    tables::COUNTER.put(txn, "new name", &7)
                }))
            },
        },
        Migration {
            from: 1,
            run: |_, _| {
                Ok(Box::new(|_| {
                    Err(Fault::Damage("the second step fails".into()))
                }))
            },
        },
    ];

    #[test]
    fn an_old_store_is_brought_up_step_by_step() {
        let db = store_of(0);
        assert_eq!(
            migrate_by(&db, &ground(), STEPS, 1).unwrap(),
            Schema::Current { migrated: true }
        );
        let txn = db.begin_read().unwrap();
        assert_eq!(tables::COUNTER.get(&txn, "old name").unwrap(), None);
        assert_eq!(tables::COUNTER.get(&txn, "new name").unwrap(), Some(7));
        assert_eq!(schema_of(&db).unwrap(), 1);
    }

    #[test]
    fn a_step_that_fails_leaves_the_schema_before_it() {
        let db = store_of(0);
        let fault = migrate_by(&db, &ground(), STEPS, 2).unwrap_err();
        assert_eq!(fault.to_string(), "the second step fails");
        assert_eq!(schema_of(&db).unwrap(), 1);
    }

    #[test]
    fn a_newer_store_is_left_alone() {
        let db = store_of(u64::from(SCHEMA) + 1);
        assert_eq!(migrate(&db, &ground()).unwrap(), Schema::Newer(SCHEMA + 1));
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
        let fault = migrate(&db, &ground()).unwrap_err();
        assert!(fault.to_string().contains("not a store"), "{fault}");
    }
}
