//! The ring of a store that is not open is read, and nothing else happens.

use std::path::Path;

use model::{KeyId, KeyInfo, KeyRing};
use redb::Database;

use super::support::*;
use crate::disk::begin_write;
use crate::key_ring_of;
use crate::tables::{COUNTER, KEY_RING, ONLY, SCHEMA, SCHEMA_KEY};

/// A store with a ring, closed; and the ring.
fn with_ring() -> (Home, KeyRing) {
    let home = Home::new();
    let store = home.open();
    let ring = KeyRing {
        keys: vec![KeyInfo {
            id: KeyId("k1".into()),
            created: NOW,
            check: sealed("k1", "check"),
        }],
        revision: 0,
    };
    let kept = block_on(store.put_key_ring(by(), ring, 0, NOW)).unwrap();
    store.close().unwrap();
    (home, KeyRing::clone(&kept))
}

/// Looks, and makes sure that the file is as it was, to the byte.
fn look(path: &Path) -> Option<KeyRing> {
    let read = || std::fs::read(path).ok();
    let written = || {
        std::fs::metadata(path)
            .and_then(|about| about.modified())
            .ok()
    };
    let before = (read(), written());
    let found = key_ring_of(path);
    assert!((read(), written()) == before, "the file was changed");
    found
}

fn change(home: &Home, change: impl FnOnce(&redb::WriteTransaction)) {
    let db = Database::open(home.path()).unwrap();
    let txn = begin_write(&db).unwrap();
    change(&txn);
    txn.commit().unwrap();
}

#[test]
fn the_ring_of_an_older_store_is_read_before_it_is_migrated() {
    let (home, ring) = with_ring();
    change(&home, |txn| COUNTER.put(txn, SCHEMA_KEY, &2).unwrap());
    assert_eq!(look(&home.path()), Some(ring));
}

#[test]
fn the_ring_is_read_without_changing_a_byte() {
    let (home, ring) = with_ring();
    assert_eq!(look(&home.path()), Some(ring.clone()));
    assert_eq!(look(&home.path()), Some(ring), "and again");
    let empty = Home::new();
    empty.open().close().unwrap();
    assert_eq!(look(&empty.path()), None, "there is none yet");
}

#[test]
fn a_file_in_use_is_left_alone() {
    let (home, ring) = with_ring();
    let store = home.open();
    assert_eq!(look(&home.path()), None);
    block_on(store.heartbeat()).unwrap();
    store.close().unwrap();
    assert_eq!(look(&home.path()), Some(ring));
}

#[test]
fn where_no_file_is_none_comes_into_being() {
    let home = Home::new();
    assert_eq!(look(&home.path()), None);
    assert!(!home.path().exists());
    let folder = home.path().parent().unwrap().to_owned();
    assert_eq!(look(&folder), None);
    std::fs::write(home.path(), b"").unwrap();
    assert_eq!(look(&home.path()), None);
    std::fs::write(home.path(), b"this is a letter to my aunt").unwrap();
    assert_eq!(look(&home.path()), None);
}

#[test]
fn the_ring_of_another_schema_is_not_guessed_at() {
    for schema in [1, SCHEMA + 1] {
        let (home, _) = with_ring();
        change(&home, |txn| {
            COUNTER.put(txn, SCHEMA_KEY, &u64::from(schema)).unwrap();
        });
        assert_eq!(look(&home.path()), None, "schema {schema}");
    }
    let (home, _) = with_ring();
    change(&home, |txn| {
        txn.delete_table(KEY_RING.definition()).unwrap();
    });
    assert_eq!(look(&home.path()), None);
}

#[test]
fn a_damaged_file_never_gives_a_wrong_ring() {
    let (home, ring) = with_ring();
    change(&home, |txn| {
        let mut table = txn.open_table(KEY_RING.definition()).unwrap();
        table.insert(ONLY, &b"damaged"[..]).unwrap();
    });
    assert_eq!(look(&home.path()), None);

    let (home, _) = with_ring();
    let good = std::fs::read(home.path()).unwrap();
    let mut lost = 0;
    const PIECE: usize = 512;
    for piece in 0..good.len() / PIECE {
        let part = piece * PIECE..(piece + 1) * PIECE;
        if good[part.clone()].iter().all(|byte| *byte == 0) {
            continue;
        }
        let mut bad = good.clone();
        for byte in &mut bad[part] {
            *byte ^= 0xFF;
        }
        std::fs::write(home.path(), &bad).unwrap();
        match look(&home.path()) {
            None => lost += 1,
            Some(found) => assert_eq!(found, ring, "piece {piece}"),
        }
    }
    assert!(lost > 1, "nothing was hit");
    for length in [1, 100, 4_096, good.len() / 2] {
        std::fs::write(home.path(), &good[..length]).unwrap();
        assert_eq!(look(&home.path()), None, "{length} bytes");
    }
}
