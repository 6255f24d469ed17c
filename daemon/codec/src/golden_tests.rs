//! Blocks as released versions wrote them, in `tests/golden`: they must be
//! read for ever, whatever the encoder chooses today.
//!
//! A new coding gets a new case; `cargo test -p codec -- --ignored` writes the
//! files that do not exist and never changes one that does.

use std::path::PathBuf;

use model::Breaks;

use super::{Block, ColumnsRef, encode_columns};
use crate::{Effort, Scratch};

/// A column, and the ids with which its bytes begin.
struct Column {
    ids: &'static [u8],
    value: fn(u64) -> f64,
}

struct Golden {
    name: &'static str,
    effort: Effort,
    rows: u64,
    columns: Vec<Column>,
    breaks: Vec<(u32, Breaks)>,
}

impl Golden {
    fn path(&self) -> PathBuf {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        folder.join(self.name).with_extension("block")
    }

    /// A poll every 30 s, a few milliseconds late.
    fn times(&self) -> Vec<u64> {
        let late = |row: u64| row * 7 % 23 + if row == 5 { 300 } else { 0 };
        let rows = 0..self.rows;
        rows.map(|row| 1_790_000_000_000 + row * 30_000 + late(row))
            .collect()
    }

    fn values(&self, column: &Column) -> Vec<f64> {
        (0..self.rows).map(column.value).collect()
    }

    fn encode(&self) -> Vec<u8> {
        let values: Vec<f64> = self.columns.iter().flat_map(|c| self.values(c)).collect();
        let rows = ColumnsRef {
            columns: 77,
            width: self.columns.len(),
            times: &self.times(),
            values: &values,
            breaks: &self.breaks,
        };
        let mut out = Vec::new();
        encode_columns(rows, self.effort, &mut Scratch::default(), &mut out);
        out
    }

    fn holds(&self, bytes: &[u8]) {
        let name = self.name;
        let block = Block::open(bytes).expect(name);
        let mut scratch = Scratch::default();
        assert_eq!(
            (block.columns(), block.width()),
            (77, self.columns.len()),
            "{name}"
        );
        let mut times = Vec::new();
        block.times(&mut scratch, &mut times).expect(name);
        assert_eq!(times, self.times(), "{name}");
        assert_eq!(block.breaks().expect(name), self.breaks, "{name}");
        for (place, column) in self.columns.iter().enumerate() {
            let bytes = block.find(place).expect(name);
            assert!(
                bytes.starts_with(column.ids),
                "{name} {place}: {:?}",
                &bytes[..2]
            );
            let mut values = Vec::new();
            block.column(place, &mut scratch, &mut values).expect(name);
            let expected = self.values(column);
            let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits();
            assert!(values.len() == expected.len(), "{name} {place}");
            assert!(values.iter().zip(&expected).all(same), "{name} {place}");
        }
    }
}

fn column(ids: &'static [u8], value: fn(u64) -> f64) -> Column {
    Column { ids, value }
}

/// Below `end`, and without a pattern.
fn noise(row: u64, end: u64) -> f64 {
    let mixed = (row + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed >> 33) % end) as f64
}

/// A walk in small steps.
fn walk(row: u64) -> f64 {
    (0..row).map(|i| noise(i, 7) - 3.0).sum()
}

fn goldens() -> Vec<Golden> {
    let plain = |name, columns| Golden {
        name,
        effort: Effort::Fast,
        rows: 120,
        columns,
        breaks: Vec::new(),
    };
    vec![
        plain(
            "constants",
            vec![
                column(&[], |_| f64::NAN),
                column(&[0], |_| 0.0),
                column(&[0, 0], |_| 10_000_000_000.0),
                column(&[0, 0], |_| -3.0),
                column(&[7, 0], |_| -0.0),
                column(&[7, 0], |_| f64::INFINITY),
            ],
        ),
        plain(
            "decimals",
            vec![
                column(&[1, 0], |_| 20.5),
                column(&[2, 0], |_| 0.25),
                column(&[3, 1], |row| noise(row, 997) / 1e3),
                column(&[4, 1], |row| noise(row, 997) / 1e4),
                column(&[5, 1], |row| noise(row, 997) / 1e5),
                column(&[6, 1], |row| noise(row, 997) / 1e6),
            ],
        ),
        plain(
            "integers",
            vec![
                column(&[0, 1], |row| noise(row, 997) - 500.0),
                column(&[0, 1], |row| if row == 9 { 1e12 } else { noise(row, 4) }),
                column(&[0, 2], |row| 1e12 + (row * 5000 + row * 37 % 97) as f64),
                column(&[0, 3], |row| {
                    walk(row) + if row / 20 == 2 { 1e6 } else { 0.0 }
                }),
                column(&[0, 4], |row| (row * row * 50 + row % 2) as f64),
                column(&[0, 0x80], |row| 4096.0 * noise(row, 997)),
                column(&[7], |row| 1.0 / (row + 3) as f64),
                column(&[0, 0x80], |row| {
                    if row.is_multiple_of(2) {
                        -9e18
                    } else {
                        9e18 + row as f64 * 1e6
                    }
                }),
            ],
        ),
        plain(
            "gaps",
            vec![
                column(
                    &[0x40, 1],
                    |row| if row < 70 { row as f64 } else { f64::NAN },
                ),
                column(&[0x40, 0], |row| {
                    if row % 3 == 1 {
                        f64::NAN
                    } else {
                        (row % 5) as f64
                    }
                }),
                column(&[0x47, 3], |row| {
                    if (2..91).contains(&row) {
                        -0.0
                    } else {
                        f64::NAN
                    }
                }),
            ],
        ),
        Golden {
            breaks: vec![
                (0, Breaks::All),
                (17, Breaks::Columns(vec![40, 2, 65])),
                (119, Breaks::Columns(vec![u32::MAX])),
            ],
            ..plain(
                "wide",
                (0..70)
                    .map(|_| column(&[0, 4], |row| (row * 100 + row % 9) as f64))
                    .collect(),
            )
        },
        Golden {
            rows: 1,
            ..plain("one-row", vec![column(&[1, 0], |_| 36.6)])
        },
        Golden {
            effort: Effort::Dense,
            rows: 400,
            ..plain(
                "dense",
                vec![
                    column(&[0, 5], |row| noise(row, row % 19 + 2)),
                    column(&[8], |row| noise(row, 4001) / 4001.0),
                ],
            )
        },
    ]
}

#[test]
fn blocks_of_every_release_are_read() {
    for golden in goldens() {
        let path = golden.path();
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        golden.holds(&bytes);
    }
}

#[test]
fn the_encoder_still_knows_every_coding() {
    for golden in goldens() {
        golden.holds(&golden.encode());
    }
}

#[test]
#[ignore = "writes files of cases that are new"]
fn write_what_is_new() {
    for golden in goldens().iter().filter(|golden| !golden.path().exists()) {
        std::fs::write(golden.path(), golden.encode()).expect("it can be written");
    }
}
