//! Bodies longer than one value may be, cut into pieces.
//!
//! redb puts a value in pages of a power of two of 4 KiB, so a value of 5,000
//! bytes takes 8 KiB. A piece is just as long as a page has room for, and the
//! last one is shorter. The first piece begins with the count of pieces.

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::bytes::{Reader, put};
use crate::error::Fault;
use crate::record::{self, SEAL_BYTES, seal, unseal};

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
    pub(crate) name: &'static str,
}

/// `series`: see [`crate::columns`].
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

    /// Puts `body` in.
    pub(crate) fn put(
        &self,
        table: &mut Writing<'_>,
        (number, at): (u32, u64),
        body: &[u8],
    ) -> Result<(), Fault> {
        let room = PIECE_BYTES - SEAL_BYTES;
        let count = (body.len() + COUNT_BYTES).div_ceil(room).max(1);
        if count > MAX_PIECES {
            return Err(Fault::Damage(format!("{} bytes for one value", body.len())));
        }
        let mut with_count = Vec::with_capacity(body.len() + COUNT_BYTES);
        put(&mut with_count, count as u64);
        with_count.extend_from_slice(body);

        let mut rest = with_count.as_slice();
        for piece in 0..count {
            let (now, later) = rest.split_at(rest.len().min(room));
            rest = later;
            let piece = u16::try_from(piece).expect("there are at most MAX_PIECES");
            let key = (number, at, piece);
            let sealed = seal(self.name, &key_bytes(key), VERSION, now);
            table.insert(key, sealed.as_slice())?;
        }
        Ok(())
    }

    /// The first body under these numbers or behind them, of whatever number.
    pub(crate) fn next(
        &self,
        table: &impl ReadableTable<PieceKey, &'static [u8]>,
        (number, at): (u32, u64),
    ) -> Result<Option<Body>, Fault> {
        let first = table.range((number, at, 0)..)?.next().transpose()?;
        let Some((number, at, _)) = first.map(|(key, _)| key.value()) else {
            return Ok(None);
        };
        let mut found = Joining::default();
        for row in table.range((number, at, 0)..=(number, at, u16::MAX))? {
            let (key, sealed) = row?;
            let piece = key.value();
            let body = unseal(self.name, &key_bytes(piece), VERSION, sealed.value());
            found.add(piece.2, body);
        }
        Ok(Some(Body {
            key: (number, at),
            pieces: found.found as u64,
            body: found.finish(),
        }))
    }

    /// Takes the body under these away.
    pub(crate) fn remove(
        &self,
        table: &mut Writing<'_>,
        (number, at): (u32, u64),
    ) -> Result<(), Fault> {
        table.retain_in((number, at, 0)..=(number, at, u16::MAX), |_, _| false)?;
        Ok(())
    }
}

impl record::Table for Pieces {
    fn name(&self) -> &'static str {
        self.name
    }

    fn create(&self, txn: &WriteTransaction) -> Result<(), Fault> {
        txn.open_table(self.definition())?;
        Ok(())
    }

    fn copy(&self, from: &ReadTransaction, to: &WriteTransaction) -> Result<u64, Fault> {
        record::copy(self.definition(), from, to)
    }

    fn count(&self, txn: &ReadTransaction) -> Result<u64, Fault> {
        record::count(self.definition(), txn)
    }
}

/// A body, put together.
pub(crate) struct Body {
    pub(crate) key: (u32, u64),
    /// In how many pieces it was found.
    pub(crate) pieces: u64,
    /// Damage, if some are damaged or missing.
    pub(crate) body: Result<Vec<u8>, Fault>,
}

/// A body while its pieces are put together.
#[derive(Default)]
struct Joining {
    count: usize,
    found: usize,
    body: Vec<u8>,
    damage: Option<Fault>,
}

impl Joining {
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
        test(&mut txn.open_table(SERIES.definition()).unwrap());
    }

    fn body(len: usize) -> Vec<u8> {
        (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect()
    }

    fn get(table: &Writing<'_>, key: (u32, u64)) -> Option<Result<Vec<u8>, Fault>> {
        let next = SERIES.next(table, key).unwrap();
        next.filter(|next| next.key == key).map(|next| next.body)
    }

    #[test]
    fn bodies_of_any_length_are_put_together_again() {
        with_table(|table| {
            for len in [0, 1, 4_065, 4_066, 4_067, 4_068, 8_135, 8_136, 100_000] {
                SERIES.put(table, (7, len as u64), &body(len)).unwrap();
                let back = get(table, (7, len as u64)).unwrap().unwrap();
                assert!(back == body(len), "{len}");
            }
            assert!(get(table, (8, 1)).is_none());
            SERIES.remove(table, (7, 100_000)).unwrap();
            assert!(get(table, (7, 100_000)).is_none());
        });
    }

    #[test]
    fn a_lost_piece_is_damage_and_the_neighbours_stay_readable() {
        for lost in 0..3 {
            with_table(|table| {
                for at in 1..=3 {
                    SERIES.put(table, (7, at), &body(10_000)).unwrap();
                }
                table.remove((7, 2, lost)).unwrap();
                let seen = [1, 2, 3].map(|at| get(table, (7, at)).unwrap().is_ok());
                assert_eq!(seen, [true, false, true]);
            });
        }
    }

    #[test]
    fn bodies_follow_each_other_in_order() {
        with_table(|table| {
            for (number, at) in [(7, 3), (7, 1), (9, 2)] {
                SERIES.put(table, (number, at), &body(5_000)).unwrap();
            }
            assert_eq!(table.len().unwrap(), 6);
            let mut seen = Vec::new();
            let mut from = (0, 0);
            while let Some(next) = SERIES.next(table, from).unwrap() {
                seen.push((next.key, next.pieces));
                from = (next.key.0, next.key.1 + 1);
            }
            assert_eq!(seen, [((7, 1), 2), ((7, 3), 2), ((9, 2), 2)]);
        });
    }
}
