//! Damaged bytes under a checksum that fits them: whatever is read has the
//! shape that was promised, or is refused; nothing panics.

use model::Breaks;

use super::{Block, RowsRef, encode_rows};
use crate::column;
use crate::{Effort, Scratch};

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).expect("it is below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[7]
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A column for every coding: constants, counters, decimals, raw, with gaps.
fn value(column: usize, row: usize, random: &mut Random) -> f64 {
    let at = row as f64;
    match column % 12 {
        0 => f64::NAN,
        1 => 0.0,
        2 => 1e10,
        3 => at * 3000.0 + (random.unit() * 500.0).floor(),
        4 => (random.unit() * 1000.0).round() / 10.0,
        5 => random.unit(),
        6 => 4096.0 * (random.unit() * 100.0).floor(),
        7 => at * at * 17.0 + (random.unit() * 2.0).floor(),
        8 if row.is_multiple_of(3) => f64::NAN,
        8 => (random.unit() * 50.0).floor(),
        9 if (20..40).contains(&row) => f64::NAN,
        9 => f64::from_bits(random.next()),
        10 if row == 7 => 1e15,
        _ => (random.unit() * 4.0).floor(),
    }
}

fn block(rows: usize, width: usize, effort: Effort, random: &mut Random) -> Vec<u8> {
    let mut time = 1_700_000_000_000;
    let times: Vec<u64> = (0..rows)
        .map(|_| {
            time += 30_000 + random.next() % 25;
            time
        })
        .collect();
    let places = (0..rows * width).map(|i| (i % width, i / width));
    let values: Vec<f64> = places
        .map(|(column, row)| value(column, row, random))
        .collect();
    let breaks = [(0, Breaks::All), (3, Breaks::Columns(vec![2, 9, 1]))];
    let rows = RowsRef {
        columns: 3,
        width,
        times: &times,
        values: &values,
        breaks: if rows > 3 { &breaks } else { &[] },
    };
    let mut out = Vec::new();
    encode_rows(rows, effort, &mut Scratch::default(), &mut out);
    out
}

fn samples(random: &mut Random) -> Vec<Vec<u8>> {
    let shapes = [(1, 12), (2, 13), (30, 24), (120, 40), (700, 12)];
    let both = [Effort::Fast, Effort::Dense].into_iter();
    both.flat_map(|effort| shapes.map(|(rows, width)| (rows, width, effort)))
        .map(|(rows, width, effort)| block(rows, width, effort, random))
        .collect()
}

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len());
        let end = (at + random.below(12)).min(bytes.len());
        match random.below(8) {
            _ if bytes.is_empty() => bytes.push(random.byte()),
            0..3 => bytes[at] ^= 1 << random.below(8),
            3 => bytes[at] = random.byte(),
            4 => bytes[at] = [0, 0xff, 0x80, 0x7f][random.below(4)],
            5 => bytes.truncate(at),
            6 => bytes.insert(at, random.byte()),
            _ => bytes.extend_from_within(at..end),
        }
    }
}

/// Puts the checksum of what stands there behind it.
fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = crc32fast::hash(&bytes);
    bytes.extend(sum.to_le_bytes());
    bytes
}

/// Reads all there is; says whether all of it could be read.
fn read_all(bytes: &[u8], scratch: &mut Scratch) -> bool {
    let Ok(block) = Block::open(bytes) else {
        return false;
    };
    let mut times = vec![9];
    let mut whole = match block.times(scratch, &mut times) {
        Ok(()) => {
            assert_eq!(times.len(), 1 + block.rows());
            assert!(times[1..].is_sorted_by(|a, b| a < b));
            true
        }
        Err(_) => {
            assert_eq!(times, [9]);
            false
        }
    };
    for column in 0..block.width() {
        let mut values = vec![9.0];
        let read = block.column(column, scratch, &mut values).is_ok();
        assert_eq!(values.len(), 1 + if read { block.rows() } else { 0 });
        assert!(block.column_bytes(column) <= bytes.len());
        whole &= read;
    }
    assert!(
        block
            .column(block.width(), scratch, &mut Vec::new())
            .is_err()
    );
    match block.breaks() {
        Ok(breaks) => {
            assert!(breaks.is_sorted_by(|a, b| a.0 < b.0));
            assert!(breaks.last().is_none_or(|b| (b.0 as usize) < block.rows()));
            whole
        }
        Err(_) => false,
    }
}

#[test]
fn damage_under_a_right_checksum_is_refused_or_read_in_shape() {
    let mut random = Random(1);
    let samples = samples(&mut random);
    let mut scratch = Scratch::default();
    let (mut read, mut opened) = (0, 0);
    for seed in 0..6000 {
        let mut random = Random(seed);
        let mut bytes = samples[random.below(samples.len())].clone();
        bytes.truncate(bytes.len() - 4);
        damage(&mut bytes, &mut random);
        let bytes = seal(bytes);
        opened += usize::from(Block::open(&bytes).is_ok());
        read += usize::from(read_all(&bytes, &mut scratch));
    }
    // the decoders behind the header were reached
    assert!(opened > 1500, "{opened} opened");
    assert!(
        read > 500 && read < opened,
        "{read} of {opened} could be read whole"
    );
}

#[test]
fn damage_to_a_column_alone_is_refused_or_read_in_shape() {
    let mut random = Random(2);
    let samples = samples(&mut random);
    let mut scratch = Scratch::default();
    let (mut good, mut bad) = (0, 0);
    for seed in 0..20_000 {
        let mut random = Random(seed);
        let block = Block::open(&samples[random.below(samples.len())]).expect("it is whole");
        let mut bytes = block
            .find(random.below(block.width()))
            .expect("a column")
            .to_vec();
        damage(&mut bytes, &mut random);
        let mut values = vec![9.0];
        match column::decode(&bytes, block.rows(), &mut scratch.column, &mut values) {
            Ok(()) => {
                assert_eq!(values.len(), 1 + block.rows());
                good += 1;
            }
            Err(_) => {
                assert_eq!(values, [9.0]);
                bad += 1;
            }
        }
    }
    assert!(good > 2000 && bad > 2000, "{good} read, {bad} refused");
}

#[test]
fn damage_that_the_checksum_does_not_fit_is_always_seen() {
    let mut random = Random(3);
    for bytes in samples(&mut random)
        .iter()
        .filter(|bytes| bytes.len() < 4000)
    {
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Block::open(&bytes).is_err());
        }
    }
}

#[test]
fn random_bytes_and_any_length_of_a_block_are_refused() {
    let mut random = Random(4);
    let whole = block(30, 24, Effort::Fast, &mut random);
    for length in 0..whole.len() - 4 {
        assert!(Block::open(&whole[..length]).is_err());
        assert!(!read_all(
            &seal(whole[..length].to_vec()),
            &mut Scratch::default()
        ));
    }
    for length in 0..2000 {
        let bytes = (0..length % 64).map(|_| random.byte()).collect();
        read_all(&seal(bytes), &mut Scratch::default());
    }
}

#[test]
fn the_largest_shape_opens_and_one_more_is_refused() {
    let (rows, columns) = ([0x80, 0x80, 4], [0x80, 0x80, 20]);
    let more = |[low, middle, high]: [u8; 3]| [low + 1, middle, high];
    // times: an even step of 1000 and nothing off it; no breaks
    let behind = [4, 0xe8, 7, 0, 0, 0];
    let marks = (1_u32..10_240)
        .flat_map(|mark| [mark * 32, 0].map(u32::to_le_bytes))
        .flatten();
    let table: Vec<u8> = marks
        .chain(columns)
        .chain(std::iter::repeat_n(0, crate::MAX_WIDTH))
        .collect();
    let sealed = |rows: [u8; 3], width: [u8; 3]| {
        seal([&[1, 0], &rows[..], &width, &behind, &table].concat())
    };
    let bytes = sealed(rows, columns);
    let block = Block::open(&bytes).expect("it is legal");
    assert_eq!(
        (block.rows(), block.width()),
        (crate::MAX_ROWS, crate::MAX_WIDTH)
    );
    let mut values = Vec::new();
    block
        .column(crate::MAX_WIDTH - 1, &mut Scratch::default(), &mut values)
        .expect("nothing was measured");
    assert!(values.len() == crate::MAX_ROWS && values.iter().all(|v| v.is_nan()));
    assert!(Block::open(&sealed(more(rows), columns)).is_err());
    assert!(Block::open(&sealed(rows, more(columns))).is_err());
}
