//! Columns: each different set is kept once on the disk and once in memory,
//! however many devices answer with it. The sample store gives them numbers.
//!
//! Body of `series`, zstd after its length: the count of metrics and their
//! names; the count of label sets, each the count of labels, their names and
//! values; the count of series, each the place of its metric, of its labels,
//! and its kind (0 Counter32, 1 Counter64, 2 Gauge, 3 State). A text is its
//! length and its UTF-8.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use model::{Columns, Labels, MetricKind, SeriesKey};
use redb::{ReadTransaction, ReadableTableMetadata, WriteTransaction};

use crate::bytes::{Garbled, Reader, put};
use crate::error::Fault;
use crate::pieces::SERIES;

/// Values that one poll can bring: ten times the largest chassis we know of.
pub const MAX_COLUMNS: usize = 200_000;

/// Texts of one set of columns before compression.
const MAX_TEXT: usize = 64 << 20;

const LEVEL: i32 = 1;

/// Puts columns under their number.
pub(crate) fn put_columns(txn: &WriteTransaction, id: u32, columns: &Columns) -> Result<(), Fault> {
    let mut table = txn.open_table(SERIES.definition())?;
    // what had the number before may have more pieces
    SERIES.remove(&mut table, (id, 0))?;
    SERIES.put(&mut table, (id, 0), &encode(columns.series()))
}

/// Takes the columns of a number away.
pub(crate) fn forget_columns(txn: &WriteTransaction, id: u32) -> Result<(), Fault> {
    SERIES.remove(&mut txn.open_table(SERIES.definition())?, (id, 0))
}

/// All columns by number, each text once in memory.
pub(crate) fn load(txn: &ReadTransaction) -> Result<Vec<(u32, Arc<Columns>)>, Fault> {
    let mut all = Vec::new();
    let mut damaged = None;
    each(txn, |id, columns| match columns {
        Ok(columns) => all.push((id, columns)),
        Err(fault) => damaged = Some(fault),
    })?;
    damaged.map_or(Ok(all), Err)
}

/// Hands all columns to `each`, those that are damaged too, and counts the
/// rows.
pub(crate) fn each(
    txn: &ReadTransaction,
    mut each: impl FnMut(u32, Result<Arc<Columns>, Fault>),
) -> Result<(), Fault> {
    let table = txn.open_table(SERIES.definition())?;
    let mut words = Words::default();
    let (mut found, mut id) = (0, Some(0));
    while let Some(from) = id {
        let Some(next) = SERIES.next(&table, (from, 0))? else {
            break;
        };
        let (number, _) = next.key;
        let damage = |what: &str| Fault::Damage(format!("the columns {number}: {what}"));
        let body = next.body.map_err(|fault| damage(&fault.to_string()));
        let series = body.and_then(|body| decode(&body).map_err(|_| damage("they are garbled")));
        each(
            number,
            series.map(|series| Arc::new(words.intern_all(&series))),
        );
        found += next.pieces;
        id = number.checked_add(1);
    }
    if found == table.len()? {
        return Ok(());
    }
    let what = "rows of the table series are missing".to_owned();
    Err(Fault::Damage(what))
}

/// One copy in memory of equal columns, however many devices answer with them.
#[derive(Default)]
pub(crate) struct Interner {
    known: HashMap<u64, Vec<Weak<Columns>>>,
    words: Words,
    /// Clean up when there are more different columns than this.
    clean_at: usize,
}

impl Interner {
    /// The one copy in memory of what equals `columns`.
    pub(crate) fn intern(&mut self, columns: &Arc<Columns>) -> Arc<Columns> {
        self.clean();
        let list = self.known.entry(columns.fingerprint()).or_default();
        let mut alive = list.iter().filter_map(Weak::upgrade);
        if let Some(same) = alive.find(|known| Arc::ptr_eq(known, columns) || known == columns) {
            return same;
        }
        let own = Arc::new(self.words.intern_all(columns.series()));
        list.push(Arc::downgrade(&own));
        own
    }

    /// Makes these columns the copy that equal ones become.
    pub(crate) fn know(&mut self, columns: &Arc<Columns>) {
        let list = self.known.entry(columns.fingerprint()).or_default();
        list.push(Arc::downgrade(columns));
    }

    /// Forgets what nobody uses, each time that there is twice as much.
    fn clean(&mut self) {
        const FEW: usize = 1_024;
        if self.known.len() > self.clean_at.max(FEW) {
            self.known.retain(|_, list| {
                list.retain(|known| known.strong_count() > 0);
                !list.is_empty()
            });
            self.clean_at = 2 * self.known.len();
        }
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
    fn equal_columns_are_one_in_memory_as_long_as_somebody_uses_them() {
        let mut interner = Interner::default();
        let first = interner.intern(&columns(3));
        assert!(Arc::ptr_eq(&first, &interner.intern(&columns(3))));
        assert!(!Arc::ptr_eq(&first, &interner.intern(&columns(4))));
        let known = columns(5);
        interner.know(&known);
        assert!(Arc::ptr_eq(&known, &interner.intern(&columns(5))));
        for ports in 0..2_000 {
            interner.intern(&columns(ports));
        }
        assert!(interner.known.len() < 1_100, "{}", interner.known.len());
        assert!(Arc::ptr_eq(&first, &interner.intern(&columns(3))));
    }

    fn database() -> redb::Database {
        let builder = redb::Database::builder();
        builder.create_with_backend(InMemoryBackend::new()).unwrap()
    }

    #[test]
    fn columns_are_loaded_by_number() {
        let db = database();
        let txn = db.begin_write().unwrap();
        // long ones make way for short ones
        for (id, ports) in [(7, 3_000), (7, 2), (u32::MAX, 3), (9, 1)] {
            put_columns(&txn, id, &columns(ports)).unwrap();
        }
        forget_columns(&txn, 9).unwrap();
        txn.commit().unwrap();
        let txn = redb::ReadableDatabase::begin_read(&db).unwrap();
        let all = load(&txn).unwrap();
        assert_eq!(all, [(7, columns(2)), (u32::MAX, columns(3))]);
        let metric = |place: usize| all[place].1.series()[0].metric.clone();
        assert!(
            Arc::ptr_eq(&metric(0), &metric(1)),
            "each text is there once"
        );
    }

    #[test]
    fn damaged_columns_are_named() {
        let db = database();
        let txn = db.begin_write().unwrap();
        put_columns(&txn, 7, &columns(3)).unwrap();
        let mut table = txn.open_table(SERIES.definition()).unwrap();
        table.insert((7, 0, 0), &b"damaged"[..]).unwrap();
        drop(table);
        txn.commit().unwrap();
        let txn = redb::ReadableDatabase::begin_read(&db).unwrap();
        let fault = load(&txn).unwrap_err().to_string();
        assert!(fault.contains("the columns 7"), "{fault}");
    }
}
