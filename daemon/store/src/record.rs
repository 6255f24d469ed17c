//! How a value lies in a table: a version byte, the body, and a CRC-32 over the
//! table's name, the key and both.
//!
//! redb does not verify its checksums when it reads, so a flipped bit would
//! come back as a value. The key is part of the sum because damage can also
//! put a good value under another key. Rows that vanish are noticed where a
//! table is loaded whole ([`Kept::load`] counts them) or by the chain of
//! timestamps in the samples.

use std::marker::PhantomData;

use redb::{
    AccessGuard, Key, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition,
    TableHandle, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Fault;

/// Bytes that [`seal`] adds.
pub(crate) const SEAL_BYTES: usize = 5;

fn checksum(table: &str, key: &[u8], sealed: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(table.as_bytes());
    sum.update(&[0]);
    sum.update(key);
    sum.update(sealed);
    sum.finalize()
}

/// `body` as it is kept under `key` of `table`.
pub(crate) fn seal(table: &str, key: &[u8], version: u8, body: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(body.len() + SEAL_BYTES);
    sealed.push(version);
    sealed.extend_from_slice(body);
    let sum = checksum(table, key, &sealed);
    sealed.extend_from_slice(&sum.to_le_bytes());
    sealed
}

/// The body of what [`seal`] made; damage if a single bit differs.
pub(crate) fn unseal<'v>(
    table: &str,
    key: &[u8],
    version: u8,
    sealed: &'v [u8],
) -> Result<&'v [u8], Fault> {
    let damage = |what: &str| Fault::Damage(format!("a value in table {table} {what}"));
    let Some((content, sum)) = sealed.split_last_chunk::<4>() else {
        return Err(damage("is cut short"));
    };
    if checksum(table, key, content) != u32::from_le_bytes(*sum) {
        return Err(damage("does not match its checksum"));
    }
    match content.split_first() {
        Some((found, body)) if *found == version => Ok(body),
        Some((found, _)) => Err(damage(&format!("has the unknown version {found}"))),
        None => Err(damage("is empty")),
    }
}

/// A table of `T` as postcard under keys `K`.
pub(crate) struct Kept<K: Key + 'static, T> {
    name: &'static str,
    version: u8,
    types: PhantomData<fn() -> (K, T)>,
}

impl<K: Key + 'static, T> Kept<K, T> {
    pub(crate) const fn new(name: &'static str, version: u8) -> Kept<K, T> {
        Kept {
            name,
            version,
            types: PhantomData,
        }
    }

    pub(crate) fn definition(&self) -> TableDefinition<'static, K, &'static [u8]> {
        TableDefinition::new(self.name)
    }
}

/// What can be done with any table.
pub(crate) trait Table: Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Makes sure that it exists.
    fn create(&self, txn: &WriteTransaction) -> Result<(), Fault>;
    /// Copies its rows as they are, checksums included; gives their number.
    fn copy(&self, from: &ReadTransaction, to: &WriteTransaction) -> Result<u64, Fault>;
    /// Goes through its rows and counts them.
    fn count(&self, txn: &ReadTransaction) -> Result<u64, Fault>;
}

impl<K: Key + 'static, T> Table for Kept<K, T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn create(&self, txn: &WriteTransaction) -> Result<(), Fault> {
        txn.open_table(self.definition())?;
        Ok(())
    }

    fn copy(&self, from: &ReadTransaction, to: &WriteTransaction) -> Result<u64, Fault> {
        copy(self.definition(), from, to)
    }

    fn count(&self, txn: &ReadTransaction) -> Result<u64, Fault> {
        count(self.definition(), txn)
    }
}

/// See [`Table::copy`].
pub(crate) fn copy<K: Key + 'static>(
    table: TableDefinition<'static, K, &'static [u8]>,
    from: &ReadTransaction,
    to: &WriteTransaction,
) -> Result<u64, Fault> {
    let rows = from.open_table(table)?;
    let mut own = to.open_table(table)?;
    for row in rows.iter()? {
        let (key, sealed) = row?;
        own.insert(key.value(), sealed.value())?;
    }
    let (found, copied) = (rows.len()?, own.len()?);
    match found == copied {
        true => Ok(copied),
        false => Err(missing_rows(table.name(), copied, found)),
    }
}

/// See [`Table::count`].
pub(crate) fn count<K: Key + 'static>(
    table: TableDefinition<'static, K, &'static [u8]>,
    txn: &ReadTransaction,
) -> Result<u64, Fault> {
    let mut found = 0;
    for row in txn.open_table(table)?.iter()? {
        row?;
        found += 1;
    }
    Ok(found)
}

fn missing_rows(table: &str, found: u64, should_be: u64) -> Fault {
    Fault::Damage(format!(
        "table {table} has {found} rows where it should have {should_be}"
    ))
}

impl<K: Key + 'static, T: Serialize + DeserializeOwned> Kept<K, T> {
    /// `value` as it is kept under `key`.
    pub(crate) fn seal(&self, key: &K::SelfType<'_>, value: &T) -> Vec<u8> {
        let body = postcard::to_stdvec(value).expect("plain data in memory can be written down");
        seal(self.name, K::as_bytes(key).as_ref(), self.version, &body)
    }

    /// What `sealed` under `key` says.
    pub(crate) fn unseal(&self, key: &K::SelfType<'_>, sealed: &[u8]) -> Result<T, Fault> {
        let body = unseal(self.name, K::as_bytes(key).as_ref(), self.version, sealed)
            .map_err(|fault| self.at(key, &fault))?;
        match postcard::take_from_bytes(body) {
            Ok((value, [])) => Ok(value),
            Ok(_) => Err(self.at(key, &"it is too long")),
            Err(error) => Err(self.at(key, &error)),
        }
    }

    fn at(&self, key: &K::SelfType<'_>, why: &dyn std::fmt::Display) -> Fault {
        Fault::Damage(format!("table {}, key {key:?}: {why}", self.name))
    }

    /// Puts `value` under `key`, in the place of what was there.
    pub(crate) fn put<'k>(
        &self,
        txn: &WriteTransaction,
        key: K::SelfType<'k>,
        value: &T,
    ) -> Result<(), Fault> {
        let sealed = self.seal(&key, value);
        txn.open_table(self.definition())?
            .insert(key, sealed.as_slice())?;
        Ok(())
    }

    /// Takes what is under `key` away; whether something was.
    pub(crate) fn remove<'k>(
        &self,
        txn: &WriteTransaction,
        key: K::SelfType<'k>,
    ) -> Result<bool, Fault> {
        let mut table = txn.open_table(self.definition())?;
        let found = table.remove(key)?.is_some();
        Ok(found)
    }

    /// What is under `key`, as this transaction sees it.
    pub(crate) fn get_in<'k>(
        &self,
        txn: &WriteTransaction,
        key: K::SelfType<'k>,
    ) -> Result<Option<T>, Fault> {
        let table = txn.open_table(self.definition())?;
        let found = table.get(&key)?;
        found
            .map(|guard| self.unseal(&key, guard.value()))
            .transpose()
    }

    /// What is under `key`.
    pub(crate) fn get<'k>(
        &self,
        txn: &ReadTransaction,
        key: K::SelfType<'k>,
    ) -> Result<Option<T>, Fault> {
        let table = txn.open_table(self.definition())?;
        let found = table.get(&key)?;
        found
            .map(|guard| self.unseal(&key, guard.value()))
            .transpose()
    }

    /// Hands every row to `each`, in the order of keys, and counts them: rows
    /// that vanished are damage too.
    pub(crate) fn load(
        &self,
        txn: &ReadTransaction,
        mut each: impl FnMut(K::SelfType<'_>, T),
    ) -> Result<(), Fault> {
        let table = txn.open_table(self.definition())?;
        let mut found = 0u64;
        for row in table.iter()? {
            let (key, sealed): (AccessGuard<'_, K>, AccessGuard<'_, &[u8]>) = row?;
            let value = self.unseal(&key.value(), sealed.value())?;
            each(key.value(), value);
            found += 1;
        }
        self.counted(found, table.len()?)
    }

    /// Like [`Kept::load`], but only verifies the checksums.
    pub(crate) fn verify(&self, txn: &ReadTransaction) -> Result<(), Fault> {
        let table = txn.open_table(self.definition())?;
        let mut found = 0u64;
        for row in table.iter()? {
            let (key, sealed) = row?;
            let key = key.value();
            let bytes = K::as_bytes(&key);
            unseal(self.name, bytes.as_ref(), self.version, sealed.value())
                .map_err(|fault| self.at(&key, &fault))?;
            found += 1;
        }
        self.counted(found, table.len()?)
    }

    fn counted(&self, found: u64, should_be: u64) -> Result<(), Fault> {
        if found == should_be {
            return Ok(());
        }
        Err(missing_rows(self.name, found, should_be))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let sealed = seal("device", &[7], 1, b"core1");
        assert_eq!(unseal("device", &[7], 1, &sealed).unwrap(), b"core1");
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal("device", &[7], 1, &damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_good_value_under_another_key_or_in_another_table_is_damage() {
        let sealed = seal("device", &[7], 1, b"core1");
        assert!(unseal("device", &[8], 1, &sealed).is_err());
        assert!(unseal("facts", &[7], 1, &sealed).is_err());
        assert!(unseal("device", &[7], 1, &[]).is_err());
    }

    #[test]
    fn a_value_of_another_version_is_not_guessed_at() {
        let sealed = seal("device", &[7], 2, b"core1");
        let fault = unseal("device", &[7], 1, &sealed).unwrap_err();
        assert!(fault.to_string().contains("version 2"), "{fault}");
    }

    #[test]
    fn what_is_put_is_loaded_in_the_order_of_keys() {
        let table: Kept<u64, String> = Kept::new("words", 1);
        let db = redb::Database::builder()
            .create_with_backend(redb::backends::InMemoryBackend::new())
            .unwrap();
        let txn = db.begin_write().unwrap();
        for (key, word) in [(2, "b"), (1, "a"), (3, "c")] {
            table.put(&txn, key, &word.to_owned()).unwrap();
        }
        assert!(table.remove(&txn, 3).unwrap());
        txn.commit().unwrap();

        let mut seen = Vec::new();
        let txn = redb::ReadableDatabase::begin_read(&db).unwrap();
        table
            .load(&txn, |key, word| seen.push((key, word)))
            .unwrap();
        assert_eq!(seen, [(1, "a".to_owned()), (2, "b".to_owned())]);
        assert_eq!(table.get(&txn, 2).unwrap().as_deref(), Some("b"));
    }
}
