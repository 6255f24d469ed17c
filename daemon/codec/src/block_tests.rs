//! Whole blocks: what was encoded comes back, what was damaged is refused.

use model::Breaks;
use proptest::prelude::*;

use super::{Block, ColumnsRef, RowsRef, encode_columns, encode_rows};
use crate::{Effort, Scratch};

/// A block's rows, owned.
#[derive(Clone, Debug)]
struct Rows {
    width: usize,
    times: Vec<u64>,
    values: Vec<f64>,
    breaks: Vec<(u32, Breaks)>,
}

impl Rows {
    fn encode(&self, effort: Effort) -> Vec<u8> {
        let mut out = vec![0xee];
        let rows = RowsRef {
            columns: 7,
            width: self.width,
            times: &self.times,
            values: &self.values,
            breaks: &self.breaks,
        };
        encode_rows(rows, effort, &mut Scratch::default(), &mut out);
        out.split_off(1)
    }

    fn by_column(&self) -> Vec<f64> {
        let rows = self.times.len();
        let places = (0..self.width * rows).map(|i| i % rows * self.width + i / rows);
        places.map(|place| self.values[place]).collect()
    }

    fn come_back_from(&self, bytes: &[u8]) {
        let mut scratch = Scratch::default();
        let block = Block::open(bytes).expect("opens");
        assert_eq!(
            (block.columns(), block.rows(), block.width()),
            (7, self.times.len(), self.width)
        );
        let (mut times, mut values) = (Vec::new(), Vec::new());
        block.times(&mut scratch, &mut times).expect("times");
        for column in 0..self.width {
            block
                .column(column, &mut scratch, &mut values)
                .expect("a column");
        }
        assert_eq!(times, self.times);
        assert_eq!(block.breaks().expect("breaks"), self.breaks);
        let bits = |values: &[f64]| -> Vec<u64> {
            let bits = values
                .iter()
                .map(|v| if v.is_nan() { f64::NAN } else { *v });
            bits.map(f64::to_bits).collect()
        };
        assert_eq!(bits(&values), bits(&self.by_column()));
    }
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => any::<u64>().prop_map(f64::from_bits),
        4 => (-1000_i32..1000, 0_i32..8).prop_map(|(v, e)| f64::from(v) / 10_f64.powi(e)),
        2 => any::<i64>().prop_map(|v| v as f64),
        1 => Just(f64::NAN),
        1 => Just(-0.0),
        1 => Just(f64::INFINITY),
    ]
}

/// Mostly of one kind, as columns are.
fn column(rows: usize) -> impl Strategy<Value = Vec<f64>> {
    let few = prop::collection::vec(value(), 1..4);
    let mixed = (
        few,
        prop::collection::vec(any::<prop::sample::Index>(), rows),
    );
    prop_oneof![
        prop::collection::vec(value(), rows),
        mixed.prop_map(|(few, picks)| picks.iter().map(|i| few[i.index(few.len())]).collect()),
        (any::<u32>(), prop::collection::vec(0_u32..100_000, rows)).prop_map(|(start, steps)| {
            let mut sum = f64::from(start);
            steps
                .iter()
                .map(|s| {
                    sum += f64::from(*s);
                    sum
                })
                .collect()
        }),
    ]
}

fn rows() -> impl Strategy<Value = Rows> {
    (1_usize..150, 0_usize..40).prop_flat_map(|(rows, width)| {
        (
            any::<u32>(),
            prop::collection::vec(1_u64..100_000, rows),
            prop::collection::vec(column(rows), width),
            prop::collection::vec(
                (any::<bool>(), prop::collection::vec(any::<u32>(), 1..4)),
                rows,
            ),
            0_usize..10,
        )
            .prop_map(move |(start, steps, columns, breaks, breaking)| {
                let mut time = u64::from(start);
                let times = steps
                    .iter()
                    .map(|s| {
                        time += s;
                        time
                    })
                    .collect();
                let values = (0..rows * width)
                    .map(|i| columns[i % width][i / width])
                    .collect();
                let broken = breaks
                    .into_iter()
                    .enumerate()
                    .filter(|(row, _)| row % 10 < breaking);
                let breaks = broken
                    .map(|(row, (all, some))| {
                        let breaks = if all {
                            Breaks::All
                        } else {
                            Breaks::Columns(some)
                        };
                        (u32::try_from(row).expect("few rows"), breaks)
                    })
                    .collect();
                Rows {
                    width,
                    times,
                    values,
                    breaks,
                }
            })
    })
}

proptest! {
    // pco is slow without optimisation
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_is_encoded_comes_back(rows in rows()) {
        for effort in [Effort::Fast, Effort::Dense] {
            rows.come_back_from(&rows.encode(effort));
        }
    }

    #[test]
    fn rows_and_columns_give_the_same_bytes(rows in rows()) {
        let values = rows.by_column();
        let by_column = ColumnsRef {
            columns: 7,
            width: rows.width,
            times: &rows.times,
            values: &values,
            breaks: &rows.breaks,
        };
        let mut out = Vec::new();
        encode_columns(by_column, Effort::Fast, &mut Scratch::default(), &mut out);
        prop_assert_eq!(out, rows.encode(Effort::Fast));
    }
}

#[test]
fn a_block_of_one_wide_row_comes_back() {
    let values: Vec<f64> = (0..1000).map(|i| f64::from(i) * 0.5).collect();
    let rows = Rows {
        width: 1000,
        times: vec![u64::MAX],
        values,
        breaks: Vec::new(),
    };
    rows.come_back_from(&rows.encode(Effort::Fast));
}

#[test]
fn what_does_not_change_costs_little() {
    let mut values = vec![f64::NAN; 120 * 100];
    for row in values.chunks_mut(100) {
        row[50..75].fill(0.0);
        row[75..].fill(10_000_000.0);
    }
    let times: Vec<u64> = (0..120).map(|i| i * 30_000).collect();
    let rows = Rows {
        width: 100,
        times,
        values,
        breaks: Vec::new(),
    };
    let bytes = rows.encode(Effort::Fast);
    rows.come_back_from(&bytes);
    // 1 for what is absent, 2 for zeros, 7 for a large constant; the header and marks
    assert!(
        bytes.len() <= 50 + 25 * 2 + 25 * 7 + 50,
        "{} bytes",
        bytes.len()
    );
    let block = Block::open(&bytes).expect("opens");
    let bytes = [0, 50, 75, 100].map(|column| block.column_bytes(column));
    assert_eq!(bytes, [0, 1, 6, 0]);
}
