//! Bodies longer than one value may be, cut into pieces.
//!
//! redb puts a value in pages of a power of two of 4 KiB, so a value of 5,000
//! bytes takes 8 KiB. A piece is just as long as a page has room for, and the
//! last one is shorter. The first piece begins with the count of pieces.

use redb::{ReadableTable, Table, TableDefinition};

use super::bytes::{Reader, put};
use crate::error::Fault;
use crate::record::{SEAL_BYTES, seal, unseal};

/// Number, ms, piece.
pub(crate) type PieceKey = (u32, u64, u16);

/// A sealed piece that fills a page of 4,096 bytes: less the page's header
/// (4), the end of the value (4) and the key (14).
const PIECE_BYTES: usize = 4_074;

/// Room for the count in the first piece.
const COUNT_BYTES: usize = 3;

/// Pieces of one body: 16 MiB.
const MAX_PIECES: usize = 4_096;

const VERSION: u8 = 1;

/// A table of bodies in pieces.
pub(crate) struct Pieces {
    name: &'static str,
}

/// `row`: see [`super::row`].
pub(crate) const ROW: Pieces = Pieces { name: "row" };
/// `chunk`: see [`super::chunk`].
pub(crate) const CHUNK: Pieces = Pieces { name: "chunk" };
/// `series`: see [`super::columns`].
pub(crate) const SERIES: Pieces = Pieces { name: "series" };

/// As [`redb::WriteTransaction::open_table`] gives it.
pub(crate) type Writing<'t> = Table<'t, PieceKey, &'static [u8]>;

fn key_bytes(key: PieceKey) -> [u8; 14] {
    let mut bytes = [0; 14];
    bytes[..4].copy_from_slice(&key.0.to_le_bytes());
    bytes[4..12].copy_from_slice(&key.1.to_le_bytes());
    bytes[12..].copy_from_slice(&key.2.to_le_bytes());
    bytes
}

impl Pieces {
    pub(crate) fn definition(&self) -> TableDefinition<'static, PieceKey, &'static [u8]> {
        TableDefinition::new(self.name)
    }

    /// Puts `body` in; gives the bytes that it takes.
    pub(crate) fn put(
        &self,
        table: &mut Writing<'_>,
        (number, at): (u32, u64),
        body: &[u8],
    ) -> Result<u64, Fault> {
        let room = PIECE_BYTES - SEAL_BYTES;
        let count = (body.len() + COUNT_BYTES).div_ceil(room).max(1);
        if count > MAX_PIECES {
            return Err(Fault::Damage(format!("{} bytes for one value", body.len())));
        }
        let mut with_count = Vec::with_capacity(body.len() + COUNT_BYTES);
        put(&mut with_count, count as u64);
        with_count.extend_from_slice(body);

        let mut bytes = 0;
        let mut rest = with_count.as_slice();
        for piece in 0..count {
            let (now, later) = rest.split_at(rest.len().min(room));
            rest = later;
            let piece = u16::try_from(piece).expect("there are at most MAX_PIECES");
            let key = (number, at, piece);
            let sealed = seal(self.name, &key_bytes(key), VERSION, now);
            bytes += sealed.len() as u64;
            table.insert(key, sealed.as_slice())?;
        }
        Ok(bytes)
    }

    /// The body under these, if there is one.
    pub(crate) fn get(
        &self,
        table: &impl ReadableTable<PieceKey, &'static [u8]>,
        (number, at): (u32, u64),
    ) -> Result<Option<Vec<u8>>, Fault> {
        let mut found = None;
        self.scan(table, number, at..=at, |_, body| {
            found = Some(body);
            false
        })?;
        found.transpose()
    }

    /// Hands the bodies of `number` from `first` to `last` to `each`, oldest
    /// first, until it says `false`. A damaged one is handed over as such.
    pub(crate) fn scan(
        &self,
        table: &impl ReadableTable<PieceKey, &'static [u8]>,
        number: u32,
        range: std::ops::RangeInclusive<u64>,
        mut each: impl FnMut(u64, Result<Vec<u8>, Fault>) -> bool,
    ) -> Result<(), Fault> {
        let (first, last) = range.into_inner();
        let mut open: Option<Joining> = None;
        for row in table.range((number, first, 0)..=(number, last, u16::MAX))? {
            let (key, sealed) = row?;
            let (_, at, piece) = key.value();
            if open.as_ref().is_some_and(|open| open.at != at) {
                let done = open.take().expect("just looked at");
                if !each(done.at, done.finish()) {
                    return Ok(());
                }
            }
            let open = open.get_or_insert_with(|| Joining::new(at));
            let body = unseal(
                self.name,
                &key_bytes((number, at, piece)),
                VERSION,
                sealed.value(),
            );
            open.add(piece, body);
        }
        if let Some(done) = open {
            each(done.at, done.finish());
        }
        Ok(())
    }

    /// Takes the body under these away; gives the bytes that it took.
    pub(crate) fn remove(
        &self,
        table: &mut Writing<'_>,
        (number, at): (u32, u64),
    ) -> Result<u64, Fault> {
        let mut bytes = 0;
        table.retain_in((number, at, 0)..=(number, at, u16::MAX), |_, sealed| {
            bytes += sealed.len() as u64;
            false
        })?;
        Ok(bytes)
    }
}

/// A body while its pieces are put together.
struct Joining {
    at: u64,
    count: usize,
    found: usize,
    body: Vec<u8>,
    damage: Option<Fault>,
}

impl Joining {
    fn new(at: u64) -> Joining {
        Joining {
            at,
            count: 0,
            found: 0,
            body: Vec::new(),
            damage: None,
        }
    }

    fn add(&mut self, piece: u16, bytes: Result<&[u8], Fault>) {
        if self.damage.is_some() {
            return;
        }
        match bytes {
            Err(fault) => self.damage = Some(fault),
            Ok(_) if usize::from(piece) != self.found => self.damage = Some(lost_piece()),
            Ok(bytes) if piece == 0 => {
                let mut from = Reader(bytes);
                match from.count(MAX_PIECES) {
                    Ok(count) => self.count = count,
                    Err(_) => self.damage = Some(lost_piece()),
                }
                self.body.extend_from_slice(from.0);
            }
            Ok(bytes) => self.body.extend_from_slice(bytes),
        }
        self.found += 1;
    }

    fn finish(self) -> Result<Vec<u8>, Fault> {
        match self.damage {
            Some(fault) => Err(fault),
            None if self.found != self.count => Err(lost_piece()),
            None => Ok(self.body),
        }
    }
}

fn lost_piece() -> Fault {
    Fault::Damage("a piece of it is missing".to_owned())
}

#[cfg(test)]
mod tests {
    use redb::{Database, ReadableTableMetadata, backends::InMemoryBackend};

    use super::*;

    fn with_table(test: impl FnOnce(&mut Writing<'_>)) {
        let db = Database::builder()
            .create_with_backend(InMemoryBackend::new())
            .unwrap();
        let txn = db.begin_write().unwrap();
        test(&mut txn.open_table(ROW.definition()).unwrap());
    }

    fn body(len: usize) -> Vec<u8> {
        (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect()
    }

    #[test]
    fn bodies_of_any_length_are_put_together_again() {
        with_table(|table| {
            for len in [0, 1, 4_065, 4_066, 4_067, 4_068, 8_135, 8_136, 100_000] {
                ROW.put(table, (7, len as u64), &body(len)).unwrap();
                let back = ROW.get(table, (7, len as u64)).unwrap();
                assert_eq!(back, Some(body(len)), "{len}");
            }
            assert_eq!(ROW.get(table, (8, 1)).unwrap(), None);
            ROW.remove(table, (7, 100_000)).unwrap();
            assert_eq!(ROW.get(table, (7, 100_000)).unwrap(), None);
        });
    }

    #[test]
    fn a_lost_piece_is_damage_and_the_neighbours_stay_readable() {
        for lost in 0..3 {
            with_table(|table| {
                for at in 1..=3 {
                    ROW.put(table, (7, at), &body(10_000)).unwrap();
                }
                table.remove((7, 2, lost)).unwrap();
                let mut seen = Vec::new();
                let all = 0..=u64::MAX;
                ROW.scan(table, 7, all, |at, body| {
                    seen.push((at, body.is_ok()));
                    true
                })
                .unwrap();
                assert_eq!(seen, [(1, true), (2, false), (3, true)]);
            });
        }
    }

    #[test]
    fn a_scan_stops_when_told() {
        with_table(|table| {
            for at in 1..=3 {
                ROW.put(table, (7, at), &body(10)).unwrap();
            }
            assert_eq!(table.len().unwrap(), 3);
            let mut seen = 0;
            ROW.scan(table, 7, 0..=9, |_, _| {
                seen += 1;
                seen < 2
            })
            .unwrap();
            assert_eq!(seen, 2);
        });
    }
}
