//! A copy of the store as of one instant, while it is in use.
//!
//! The segments are linked, and in the same moment a read of the file is begun:
//! what it lists is what is linked. So are the packages of plugins that it names. Its tables are then copied row by row into
//! a fresh file. (A copy of the file's bytes would be torn.)

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use model::{Digest, Timestamp};
use redb::backends::FileBackend;
use redb::{Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase};

use crate::disk::{self, begin_write};
use crate::error::{Fault, ReadError, SnapshotError};
use crate::shared::Shared;
use crate::{packages, tables};

/// What a copy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotAbout {
    /// The schema of its file.
    pub schema: u32,
    /// Devices that are not deleted.
    pub devices: usize,
    /// Groups (a device and a check) that have samples.
    pub groups: usize,
    /// Segments of samples.
    pub segments: usize,
    /// What all of it takes.
    pub bytes: u64,
    /// When it was taken.
    pub at: Timestamp,
}

/// See [`crate::Store::snapshot`].
pub(crate) fn take(
    shared: &Shared,
    into: &Path,
    now: Timestamp,
) -> Result<SnapshotAbout, SnapshotError> {
    let io_error = |doing: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| SnapshotError::Io {
            doing,
            path,
            source,
        }
    };
    let file = into.join(shared.options.path.file_name().unwrap_or_default());
    make_folder(into).map_err(io_error("make the directory", into))?;
    let created = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(disk::MODE)
        .open(&file);
    let created = created.map_err(io_error("create the copy", &file))?;

    // none goes between the read that names it and its link
    let packages = shared.packages.hold();
    let mut read = None;
    let segments = file.with_extension("samples").join("seg");
    let linked = shared.samples.snapshot(&segments, &mut || {
        read = Some(shared.disk.begin_read());
    })?;
    let read = read.unwrap_or_else(|| shared.disk.begin_read());
    let read = read.map_err(ReadError::from)?;
    let digests = shared.disk.read(|| named(&read)).map_err(ReadError::from)?;
    let package_bytes = packages.link(&digests, &file.with_extension("plugins"))?;
    drop(packages);
    let counts = shared.disk.read(|| copy(&read, created));
    let counts = counts.map_err(ReadError::from)?;
    let bytes = std::fs::metadata(&file).map_err(io_error("look at", &file))?;
    for folder in [&file, into] {
        disk::sync_folder(folder).map_err(io_error("sync the directory of", folder))?;
    }
    let seen = disk::caught(|| verify(&file, &counts)).map_err(|fault| {
        let what = fault.to_string();
        let path = file.clone();
        SnapshotError::NotTheSame { path, what }
    })?;
    Ok(SnapshotAbout {
        segments: linked.files.len(),
        bytes: linked.bytes + package_bytes + bytes.len(),
        at: now,
        ..seen
    })
}

/// The packages that the file's plugins need.
fn named(txn: &ReadTransaction) -> Result<BTreeSet<Digest>, Fault> {
    let mut records = Vec::new();
    tables::PLUGIN.load(txn, |_, record| records.push(record))?;
    Ok(packages::named(&records))
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Copies every table; gives how many rows each has.
fn copy(from: &ReadTransaction, file: File) -> Result<Vec<u64>, Fault> {
    let synced = file.try_clone().map_err(redb::StorageError::Io)?;
    let db = Database::builder()
        .set_cache_size(disk::CACHE_BYTES)
        .create_with_backend(FileBackend::new(file)?)?;
    let txn = begin_write(&db)?;
    let counts = tables::ALL
        .iter()
        .map(|table| table.copy(from, &txn))
        .collect::<Result<_, _>>()?;
    txn.commit()?;
    drop(db);
    synced.sync_all().map_err(redb::StorageError::Io)?;
    Ok(counts)
}

/// Opens the copy, as a start would, and counts the rows of each table.
fn verify(file: &Path, counts: &[u64]) -> Result<SnapshotAbout, Fault> {
    let txn = ReadOnlyDatabase::open(file)?.begin_read()?;
    for (table, should_be) in tables::ALL.iter().zip(counts) {
        let found = table.count(&txn)?;
        if found != *should_be {
            let name = table.name();
            let what = format!("table {name} has {found} rows instead of {should_be}");
            return Err(Fault::Damage(what));
        }
    }
    let schema = tables::COUNTER.get(&txn, tables::SCHEMA_KEY)?.unwrap_or(0);
    let mut devices = 0;
    tables::DEVICE.load(&txn, |_, device| {
        devices += usize::from(device.deleted.is_none());
    })?;
    let catalog = crate::catalog::load(&txn)?;
    Ok(SnapshotAbout {
        schema: u32::try_from(schema).unwrap_or(0),
        devices,
        groups: catalog
            .groups
            .iter()
            .filter(|(_, group)| !group.gone)
            .count(),
        segments: catalog.segments.len(),
        bytes: 0,
        at: Timestamp(0),
    })
}
