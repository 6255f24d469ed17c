//! Processors, memory and storage (HOST-RESOURCES-MIB, RFC 2790).

use std::borrow::Cow;

use model::{Columns, SnmpAnswer, SnmpColumn, SnmpValue};

use crate::interfaces::unique;
use crate::layout::Owner;
use crate::layout::labels_of;
use crate::ping::mean;
use crate::plan::{
    HR_PROCESSOR_ENTRY, HR_PROCESSOR_LOAD, HR_PROCESSOR_TABLE, HR_STORAGE_ALLOCATION_UNITS,
    HR_STORAGE_DESCR, HR_STORAGE_ENTRY, HR_STORAGE_SIZE, HR_STORAGE_TABLE, HR_STORAGE_TYPE,
    HR_STORAGE_USED,
};
use crate::value::{columns, is_incomplete, number, text, unsigned_32};

/// The most processors and storage areas of one device that are read: more
/// than any host has, few enough to keep a hostile agent cheap.
pub(crate) const MAX_ROWS: usize = 1024;

/// HOST-RESOURCES-TYPES::hrStorageRam.
const HR_STORAGE_RAM: &[u32] = &[1, 3, 6, 1, 2, 1, 25, 2, 1, 2];

/// What a host says of its resources.
pub(crate) struct Host<'a> {
    /// By hrDeviceIndex: hrProcessorLoad in percent.
    pub(crate) processors: Vec<(Cow<'a, str>, f64)>,
    /// Physical memory, if the host has any.
    pub(crate) memory: Area,
    /// By hrStorageDescr, made unique.
    pub(crate) storages: Vec<(Cow<'a, str>, Area)>,
    /// What was left out because of [`MAX_ROWS`]: table, rows found.
    pub(crate) cut: Vec<(&'static str, usize)>,
}

/// Size and used part in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area {
    pub(crate) size: f64,
    pub(crate) used: f64,
}

impl Area {
    pub(crate) const UNKNOWN: Area = Area {
        size: f64::NAN,
        used: f64::NAN,
    };

    /// The used share, 0 to 1.
    pub(crate) fn usage(self) -> f64 {
        match self.used / self.size {
            share if (0.0..=1.0).contains(&share) => share,
            _ => f64::NAN,
        }
    }
}

impl<'a> Host<'a> {
    /// Reads both tables. What `previous` had stays, without a value, where a
    /// table is not complete.
    pub(crate) fn read(answer: &'a SnmpAnswer, previous: Option<&'a Columns>) -> Host<'a> {
        let mut host = Host {
            processors: Vec::new(),
            memory: Area::UNKNOWN,
            storages: Vec::new(),
            cut: Vec::new(),
        };
        host.read_processors(answer);
        host.read_storages(answer);
        if is_incomplete(answer, HR_PROCESSOR_TABLE) {
            keep(&mut host.processors, previous, Owner::Processor, f64::NAN);
        }
        if is_incomplete(answer, HR_STORAGE_TABLE) {
            keep(&mut host.storages, previous, Owner::Storage, Area::UNKNOWN);
        }
        host
    }

    /// Mean of all processors' loads, 0 to 1.
    pub(crate) fn cpu_usage(&self) -> f64 {
        let measured = self.processors.iter().map(|(_, load)| *load);
        mean(measured.filter(|load| !load.is_nan())) / 100.0
    }

    fn read_processors(&mut self, answer: &'a SnmpAnswer) {
        let is_load = |(number, _): &(u32, &SnmpColumn)| *number == HR_PROCESSOR_LOAD;
        let Some((_, column)) = columns(answer, HR_PROCESSOR_ENTRY).find(is_load) else {
            return;
        };
        let mut loads: Vec<(u32, f64)> = column
            .cells
            .iter()
            .map(|(index, value)| (*index, percent(value)))
            .collect();
        loads.sort_by_key(|(index, _)| *index);
        loads.dedup_by_key(|(index, _)| *index);
        self.note_cut(HR_PROCESSOR_TABLE, loads.len());
        loads.truncate(MAX_ROWS);
        self.processors = loads
            .into_iter()
            .map(|(index, load)| (Cow::Owned(index.to_string()), load))
            .collect();
    }

    fn read_storages(&mut self, answer: &'a SnmpAnswer) {
        let mut rows = storage_rows(answer);
        self.note_cut(HR_STORAGE_TABLE, rows.len());
        rows.truncate(MAX_ROWS);

        self.memory = physical_memory(&rows);
        let named = rows
            .iter()
            .filter(|row| !row.is_ram && row.area().size > 0.0);
        let texts = named.map(|row| (row.text(), row.index, row.area()));
        self.storages = unique(texts.collect());
    }

    fn note_cut(&mut self, table: &'static str, rows: usize) {
        if rows > MAX_ROWS {
            self.cut.push((table, rows));
        }
    }
}

/// The first of the areas that call themselves RAM. Some systems list pools
/// and RAM disks after it under the same type.
fn physical_memory(rows: &[StorageRow<'_>]) -> Area {
    let mut memories = rows.iter().filter(|row| row.is_ram).map(StorageRow::area);
    memories
        .find(|area| area.size > 0.0)
        .unwrap_or(Area::UNKNOWN)
}

/// Adds what `previous` had and `found` has not. Both are sorted as columns
/// are, and stay so.
fn keep<'a, T: Copy>(
    found: &mut Vec<(Cow<'a, str>, T)>,
    previous: Option<&'a Columns>,
    owner: Owner,
    nothing: T,
) {
    for label in previous
        .map(|columns| labels_of(columns, owner))
        .unwrap_or_default()
    {
        let known = found.iter().any(|(name, _)| name == label);
        if !known && found.len() < MAX_ROWS {
            found.push((Cow::Borrowed(label), nothing));
        }
    }
    match owner {
        Owner::Processor => found.sort_by_key(|(index, _)| index.parse::<u32>().ok()),
        Owner::Device | Owner::Storage | Owner::Interface => {
            found.sort_by(|a, b| a.0.cmp(&b.0));
        }
    }
}

/// 0 to 100; anything else is no percentage.
fn percent(value: &SnmpValue) -> f64 {
    match number(value) {
        load if load <= 100.0 => load,
        _ => f64::NAN,
    }
}

/// A row of hrStorageTable.
struct StorageRow<'a> {
    index: u32,
    is_ram: bool,
    descr: Option<Cow<'a, str>>,
    unit: f64,
    size: f64,
    used: f64,
}

impl<'a> StorageRow<'a> {
    fn new(index: u32) -> StorageRow<'a> {
        StorageRow {
            index,
            is_ram: false,
            descr: None,
            unit: f64::NAN,
            size: f64::NAN,
            used: f64::NAN,
        }
    }

    fn area(&self) -> Area {
        Area {
            size: self.size * self.unit,
            used: self.used * self.unit,
        }
    }

    fn text(&self) -> Cow<'a, str> {
        match &self.descr {
            Some(descr) if !descr.is_empty() => descr.clone(),
            Some(_) | None => Cow::Owned(format!("storage{}", self.index)),
        }
    }

    fn take(&mut self, column: u32, value: &'a SnmpValue) {
        match column {
            HR_STORAGE_TYPE => {
                self.is_ram = matches!(value, SnmpValue::ObjectId(oid) if oid.0 == HR_STORAGE_RAM);
            }
            HR_STORAGE_DESCR => self.descr = text(value),
            HR_STORAGE_ALLOCATION_UNITS => self.unit = unsigned_32(value),
            HR_STORAGE_SIZE => self.size = unsigned_32(value),
            HR_STORAGE_USED => self.used = unsigned_32(value),
            _ => {}
        }
    }
}

/// All rows, by index.
fn storage_rows(answer: &SnmpAnswer) -> Vec<StorageRow<'_>> {
    let mut indices: Vec<u32> = columns(answer, HR_STORAGE_ENTRY)
        .flat_map(|(_, column)| column.cells.iter().map(|(index, _)| *index))
        .collect();
    indices.sort_unstable();
    indices.dedup();
    let mut rows: Vec<StorageRow<'_>> = indices.into_iter().map(StorageRow::new).collect();
    for (number, column) in columns(answer, HR_STORAGE_ENTRY) {
        for (index, value) in &column.cells {
            if let Ok(place) = rows.binary_search_by_key(index, |row| row.index) {
                rows[place].take(number, value);
            }
        }
    }
    rows
}
