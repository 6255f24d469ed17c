//! Columns: each different set is kept once on the disk and once in memory,
//! however many devices answer with it.
//!
//! Body of `series`, zstd after its length: the count of metrics and their
//! names; the count of label sets, each the count of labels, their names and
//! values; the count of series, each the place of its metric, of its labels,
//! and its kind (0 Counter32, 1 Counter64, 2 Gauge, 3 State). A text is its
//! length and its UTF-8.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use model::{Columns, Labels, MetricKind, SeriesKey, Timestamp};
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use super::bytes::{Garbled, Reader, put};
use super::pieces::{PieceKey, SERIES};
use super::row::MAX_COLUMNS;
use crate::error::Fault;
use crate::tables::{self, ColumnsEntry};

/// How exact the last use of columns is: they are written once a day.
const USED_EVERY_MS: u64 = 24 * 60 * 60 * 1000;

/// Texts of one set of columns before compression.
const MAX_TEXT: usize = 64 << 20;

const LEVEL: i32 = 1;

/// A set of columns that we know of.
struct Known {
    /// Its number on the disk, once it is there.
    id: Option<u32>,
    alive: Weak<Columns>,
}

/// Every set of columns: by number on the disk, by content in memory.
#[derive(Default)]
pub(crate) struct Registry {
    entries: HashMap<u32, ColumnsEntry>,
    known: HashMap<u64, Vec<Known>>,
    words: Words,
    /// Numbers given in the transaction that is open.
    new: Vec<u32>,
}

impl Registry {
    /// Knows what the disk has, without reading the series.
    pub(crate) fn load(txn: &ReadTransaction) -> Result<Registry, Fault> {
        let mut registry = Registry::default();
        tables::COLUMNS.load(txn, |id, entry| registry.list(id, entry))?;
        Ok(registry)
    }

    /// Knows what the disk has now, and keeps what is in memory one.
    pub(crate) fn reload(&mut self, txn: &ReadTransaction) -> Result<(), Fault> {
        let mut fresh = Registry::load(txn)?;
        for (fingerprint, list) in self.known.drain() {
            let alive = list
                .into_iter()
                .filter(|known| known.alive.strong_count() > 0);
            let unnumbered = alive.map(|known| Known { id: None, ..known });
            fresh
                .known
                .entry(fingerprint)
                .or_default()
                .extend(unnumbered);
        }
        fresh.words = std::mem::take(&mut self.words);
        *self = fresh;
        Ok(())
    }

    fn list(&mut self, id: u32, entry: ColumnsEntry) {
        self.entries.insert(id, entry);
        self.known
            .entry(entry.fingerprint)
            .or_default()
            .push(Known {
                id: Some(id),
                alive: Weak::new(),
            });
    }

    /// The one copy in memory of what equals `columns`.
    pub(crate) fn intern(&mut self, columns: &Arc<Columns>) -> Arc<Columns> {
        let list = self.known.entry(columns.fingerprint()).or_default();
        list.retain(|known| known.id.is_some() || known.alive.strong_count() > 0);
        let mut alive = list.iter().filter_map(|known| known.alive.upgrade());
        if let Some(same) = alive.find(|known| Arc::ptr_eq(known, columns) || known == columns) {
            return same;
        }
        let own = Arc::new(self.words.intern_all(columns.series()));
        list.push(Known {
            id: None,
            alive: Arc::downgrade(&own),
        });
        own
    }

    /// The number of interned columns on the disk, where they are put if they
    /// are not there.
    pub(crate) fn number(
        &mut self,
        txn: &WriteTransaction,
        columns: &Arc<Columns>,
        now: Timestamp,
    ) -> Result<u32, Fault> {
        let id = match self.find(columns) {
            Some(id) => id,
            None => match self.find_on_disk(txn, columns)? {
                Some(id) => id,
                None => self.write(txn, columns, now)?,
            },
        };
        self.touch(txn, id, now)?;
        Ok(id)
    }

    fn find(&self, columns: &Arc<Columns>) -> Option<u32> {
        let list = self.known.get(&columns.fingerprint())?;
        let own = |known: &&Known| std::ptr::eq(known.alive.as_ptr(), Arc::as_ptr(columns));
        list.iter().filter(own).find_map(|known| known.id)
    }

    fn find_on_disk(
        &mut self,
        txn: &WriteTransaction,
        columns: &Arc<Columns>,
    ) -> Result<Option<u32>, Fault> {
        let Some(list) = self.known.get_mut(&columns.fingerprint()) else {
            return Ok(None);
        };
        let table = txn.open_table(SERIES.definition())?;
        for known in list.iter_mut() {
            let (Some(id), None) = (known.id, known.alive.upgrade()) else {
                continue;
            };
            // a damaged definition is not ours: a new number is given
            let Ok(series) = read_series(&table, id) else {
                continue;
            };
            if series == columns.series() {
                known.alive = Arc::downgrade(columns);
                let own = |known: &Known| std::ptr::eq(known.alive.as_ptr(), Arc::as_ptr(columns));
                list.retain(|known| known.id.is_some() || !own(known));
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    fn write(
        &mut self,
        txn: &WriteTransaction,
        columns: &Arc<Columns>,
        now: Timestamp,
    ) -> Result<u32, Fault> {
        let highest = self.entries.keys().max().copied().unwrap_or(0);
        let id = highest + 1;
        let entry = ColumnsEntry {
            fingerprint: columns.fingerprint(),
            used: now.0,
        };
        let mut table = txn.open_table(SERIES.definition())?;
        SERIES.put(&mut table, (id, 0), &encode(columns.series()))?;
        tables::COLUMNS.put(txn, id, &entry)?;
        self.entries.insert(id, entry);
        self.new.push(id);
        let list = self.known.entry(entry.fingerprint).or_default();
        list.retain(|known| !std::ptr::eq(known.alive.as_ptr(), Arc::as_ptr(columns)));
        list.push(Known {
            id: Some(id),
            alive: Arc::downgrade(columns),
        });
        Ok(id)
    }

    fn touch(&mut self, txn: &WriteTransaction, id: u32, now: Timestamp) -> Result<(), Fault> {
        let Some(entry) = self.entries.get_mut(&id) else {
            return Ok(());
        };
        if now.0 < entry.used.saturating_add(USED_EVERY_MS) {
            return Ok(());
        }
        // if the transaction fails, the next try is tomorrow: the margin in
        // `forget_unused` is wider than that
        entry.used = now.0;
        tables::COLUMNS.put(txn, id, entry)
    }

    /// The transaction is on the disk.
    pub(crate) fn committed(&mut self) {
        self.new.clear();
    }

    /// The transaction is not on the disk, nor are the numbers given in it.
    pub(crate) fn rolled_back(&mut self) {
        for id in std::mem::take(&mut self.new) {
            let Some(entry) = self.entries.remove(&id) else {
                continue;
            };
            let list = self.known.get_mut(&entry.fingerprint).into_iter().flatten();
            list.filter(|known| known.id == Some(id))
                .for_each(|known| known.id = None);
        }
    }

    fn forget(&mut self, id: u32) {
        let Some(entry) = self.entries.remove(&id) else {
            return;
        };
        if let Some(list) = self.known.get_mut(&entry.fingerprint) {
            list.retain(|known| known.id != Some(id));
            if list.is_empty() {
                self.known.remove(&entry.fingerprint);
            }
        }
    }

    /// The columns of this number.
    pub(crate) fn get(
        &mut self,
        table: &impl ReadableTable<PieceKey, &'static [u8]>,
        id: u32,
    ) -> Result<Arc<Columns>, Fault> {
        let lost = || Fault::Damage(format!("the columns {id} are missing"));
        let fingerprint = self.entries.get(&id).ok_or_else(lost)?.fingerprint;
        let list = self.known.entry(fingerprint).or_default();
        let known = list.iter().find(|known| known.id == Some(id));
        let known = known.ok_or_else(lost)?;
        if let Some(columns) = known.alive.upgrade() {
            return Ok(columns);
        }
        let series = read_series(table, id)?;
        let mut alive = list.iter().filter_map(|known| known.alive.upgrade());
        let twin = alive.find(|columns| columns.series() == series);
        drop(alive);
        let columns = twin.unwrap_or_else(|| Arc::new(self.words.intern_all(&series)));
        list.retain(|known| known.id.is_some() || known.alive.as_ptr() != Arc::as_ptr(&columns));
        for known in list.iter_mut().filter(|known| known.id == Some(id)) {
            known.alive = Arc::downgrade(&columns);
        }
        Ok(columns)
    }

    /// Takes columns away that no row has had since `cutoff`, with two days of
    /// margin; at most `limit` of them.
    pub(crate) fn forget_unused(
        &mut self,
        txn: &WriteTransaction,
        cutoff: Timestamp,
        limit: usize,
    ) -> Result<(), Fault> {
        let margin = 2 * USED_EVERY_MS;
        let is_old = |entry: &ColumnsEntry| entry.used.saturating_add(margin) < cutoff.0;
        let old = self.entries.iter().filter(|(_, entry)| is_old(entry));
        let old: Vec<u32> = old.map(|(id, _)| *id).take(limit).collect();
        for id in old {
            let fingerprint = self.entries.get(&id).map(|entry| entry.fingerprint);
            let list = fingerprint.and_then(|it| self.known.get(&it));
            let own = list.and_then(|list| list.iter().find(|known| known.id == Some(id)));
            if own.is_some_and(|known| known.alive.strong_count() > 0) {
                continue;
            }
            tables::COLUMNS.remove(txn, id)?;
            SERIES.remove(&mut txn.open_table(SERIES.definition())?, (id, 0))?;
            self.forget(id);
        }
        Ok(())
    }
}

/// One copy of every metric name and label set.
#[derive(Default)]
struct Words {
    metrics: HashSet<Arc<str>>,
    labels: HashSet<Arc<Labels>>,
    /// Clean up when there are more label sets than this.
    clean_at: usize,
}

impl Words {
    fn intern_all(&mut self, series: &[SeriesKey]) -> Columns {
        self.clean();
        let own = series.iter().map(|key| SeriesKey {
            metric: intern(&mut self.metrics, &key.metric),
            labels: intern(&mut self.labels, &key.labels),
            kind: key.kind,
        });
        Columns::new(own.collect())
    }

    /// Forgets what nobody uses, each time that there is twice as much.
    fn clean(&mut self) {
        const FEW: usize = 4_096;
        if self.labels.len() > self.clean_at.max(FEW) {
            self.labels.retain(|labels| Arc::strong_count(labels) > 1);
            self.metrics.retain(|metric| Arc::strong_count(metric) > 1);
            self.clean_at = 2 * self.labels.len();
        }
    }
}

fn intern<T: ?Sized + Eq + std::hash::Hash>(set: &mut HashSet<Arc<T>>, word: &Arc<T>) -> Arc<T> {
    if let Some(known) = set.get(word) {
        return known.clone();
    }
    set.insert(word.clone());
    word.clone()
}

fn read_series(
    table: &impl ReadableTable<PieceKey, &'static [u8]>,
    id: u32,
) -> Result<Vec<SeriesKey>, Fault> {
    let damage = |what: &str| Fault::Damage(format!("the columns {id}: {what}"));
    let body = SERIES
        .get(table, (id, 0))
        .map_err(|fault| damage(&fault.to_string()))?;
    let body = body.ok_or_else(|| damage("they are missing"))?;
    decode(&body).map_err(|Garbled| damage("they are garbled"))
}

fn encode(series: &[SeriesKey]) -> Vec<u8> {
    let mut metrics = Places::default();
    let mut labels = Places::default();
    let mut list = Vec::new();
    put(&mut list, series.len() as u64);
    for key in series {
        put(&mut list, metrics.place(&key.metric));
        put(&mut list, labels.place(&key.labels));
        list.push(kind_number(key.kind));
    }
    let mut body = Vec::new();
    put(&mut body, metrics.words.len() as u64);
    for metric in metrics.words {
        put_text(&mut body, &metric);
    }
    put(&mut body, labels.words.len() as u64);
    for set in labels.words {
        put(&mut body, set.iter().count() as u64);
        for (name, value) in set.iter() {
            put_text(&mut body, name);
            put_text(&mut body, value);
        }
    }
    body.extend(list);

    let mut out = Vec::new();
    put(&mut out, body.len() as u64);
    let body = zstd::bulk::compress(&body, LEVEL);
    out.extend(body.expect("zstd compresses any bytes in memory"));
    out
}

fn decode(bytes: &[u8]) -> Result<Vec<SeriesKey>, Garbled> {
    let mut from = Reader(bytes);
    let length = from.count(MAX_TEXT)?;
    let body = zstd::bulk::decompress(from.0, length).map_err(|_| Garbled)?;
    let mut from = Reader(&body);
    let mut metrics: Vec<Arc<str>> = Vec::new();
    for _ in 0..from.count(MAX_COLUMNS)? {
        metrics.push(from.text()?.into());
    }
    let mut labels = Vec::new();
    for _ in 0..from.count(MAX_COLUMNS)? {
        let mut pairs = Vec::new();
        for _ in 0..from.count(length)? {
            pairs.push((from.text()?, from.text()?));
        }
        labels.push(Arc::new(Labels::new(pairs)));
    }
    let mut series = Vec::new();
    for _ in 0..from.count(MAX_COLUMNS)? {
        let metric = from.count(MAX_COLUMNS)?;
        let set = from.count(MAX_COLUMNS)?;
        series.push(SeriesKey {
            metric: metrics.get(metric).ok_or(Garbled)?.clone(),
            labels: labels.get(set).ok_or(Garbled)?.clone(),
            kind: kind_of(from.byte()?)?,
        });
    }
    if from.0.is_empty() {
        Ok(series)
    } else {
        Err(Garbled)
    }
}

/// Different words in the order they were first seen.
struct Places<T: ?Sized> {
    words: Vec<Arc<T>>,
    places: HashMap<Arc<T>, u64>,
}

impl<T: ?Sized> Default for Places<T> {
    fn default() -> Places<T> {
        Places {
            words: Vec::new(),
            places: HashMap::new(),
        }
    }
}

impl<T: ?Sized + Eq + std::hash::Hash> Places<T> {
    fn place(&mut self, word: &Arc<T>) -> u64 {
        if let Some(place) = self.places.get(word) {
            return *place;
        }
        let place = self.words.len() as u64;
        self.words.push(word.clone());
        self.places.insert(word.clone(), place);
        place
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn kind_number(kind: MetricKind) -> u8 {
    match kind {
        MetricKind::Counter32 => 0,
        MetricKind::Counter64 => 1,
        MetricKind::Gauge => 2,
        MetricKind::State => 3,
    }
}

fn kind_of(number: u8) -> Result<MetricKind, Garbled> {
    match number {
        0 => Ok(MetricKind::Counter32),
        1 => Ok(MetricKind::Counter64),
        2 => Ok(MetricKind::Gauge),
        3 => Ok(MetricKind::State),
        _ => Err(Garbled),
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    fn columns(ports: usize) -> Arc<Columns> {
        let series = (0..ports).flat_map(|port| {
            let labels = Arc::new(Labels::new([("interface", format!("Gi1/0/{port}"))]));
            ["ifHCInOctets", "ifHCOutOctets"].map(|metric| SeriesKey {
                metric: metric.into(),
                labels: labels.clone(),
                kind: MetricKind::Counter64,
            })
        });
        Arc::new(Columns::new(series.collect()))
    }

    #[test]
    fn series_read_back_and_repeat_no_text() {
        let columns = columns(48);
        let bytes = encode(columns.series());
        assert_eq!(decode(&bytes).unwrap(), columns.series());
        assert!(bytes.len() < 700, "{} bytes for 96 series", bytes.len());
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn equal_columns_are_one_in_memory_and_one_on_the_disk() {
        let db = redb::Database::builder()
            .create_with_backend(InMemoryBackend::new())
            .unwrap();
        let txn = db.begin_write().unwrap();
        let mut registry = Registry::default();
        let first = registry.intern(&columns(3));
        let second = registry.intern(&columns(3));
        assert!(Arc::ptr_eq(&first, &second));
        let now = Timestamp(5);
        let id = registry.number(&txn, &first, now).unwrap();
        assert_eq!(registry.number(&txn, &second, now).unwrap(), id);
        let other = registry.intern(&columns(4));
        assert_ne!(registry.number(&txn, &other, now).unwrap(), id);
        txn.commit().unwrap();

        let read = redb::ReadableDatabase::begin_read(&db).unwrap();
        let mut registry = Registry::load(&read).unwrap();
        let table = read.open_table(SERIES.definition()).unwrap();
        let back = registry.get(&table, id).unwrap();
        assert_eq!(back, first);
        assert!(Arc::ptr_eq(&back, &registry.intern(&columns(3))));
        let txn = db.begin_write().unwrap();
        assert_eq!(registry.number(&txn, &back, now).unwrap(), id);
    }

    #[test]
    fn columns_that_were_not_committed_have_no_number() {
        let db = redb::Database::builder()
            .create_with_backend(InMemoryBackend::new())
            .unwrap();
        let mut registry = Registry::default();
        let own = registry.intern(&columns(3));
        let txn = db.begin_write().unwrap();
        registry.number(&txn, &own, Timestamp(5)).unwrap();
        txn.abort().unwrap();
        registry.rolled_back();
        assert_eq!(registry.find(&own), None);
        assert!(Arc::ptr_eq(&own, &registry.intern(&columns(3))));
    }

    #[test]
    fn columns_that_nothing_uses_are_forgotten_in_the_end() {
        let db = redb::Database::builder()
            .create_with_backend(InMemoryBackend::new())
            .unwrap();
        let mut registry = Registry::default();
        let own = registry.intern(&columns(3));
        let txn = db.begin_write().unwrap();
        registry.number(&txn, &own, Timestamp(5)).unwrap();
        let later = Timestamp(5 + 4 * USED_EVERY_MS);
        registry.forget_unused(&txn, later, 10).unwrap();
        assert!(registry.find(&own).is_some(), "it is in use");
        drop(own);
        registry.forget_unused(&txn, later, 10).unwrap();
        assert!(registry.entries.is_empty() && registry.known.is_empty());
    }
}
