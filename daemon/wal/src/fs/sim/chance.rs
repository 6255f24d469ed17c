//! Chance that can be had again, and what a power cut does to bytes by it.

use super::disk::{Content, Doubt};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Numbers by a seed (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; 0 if that is 0.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        let limit = limit.max(1) as u64;
        usize::try_from(self.next() % limit).expect("below a usize")
    }

    pub(super) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

/// What is left of a file after a power cut.
pub(super) fn cut(content: &Content, chance: &mut Chance) -> Vec<u8> {
    if content.doubts.is_empty() {
        return content.bytes.clone();
    }
    match chance.below(5) {
        0 => content.bytes.clone(),
        1 => keep(content, |_, _| Kept::Not, chance),
        2 => prefix(content, chance),
        3 => keep(content, |_, chance| Kept::by(chance), chance),
        _ => zeros(content),
    }
}

/// What became of a sector.
#[derive(Clone, Copy, PartialEq)]
enum Kept {
    All,
    Not,
    Zeros,
    Rubbish,
}

impl Kept {
    fn by(chance: &mut Chance) -> Kept {
        match chance.below(8) {
            0..=3 => Kept::All,
            4 | 5 => Kept::Not,
            6 => Kept::Zeros,
            _ => Kept::Rubbish,
        }
    }
}

/// Decides for each sector in doubt; the file ends behind the last byte that
/// was kept.
fn keep(
    content: &Content,
    mut decide: impl FnMut(usize, &mut Chance) -> Kept,
    chance: &mut Chance,
) -> Vec<u8> {
    let mut bytes = content.bytes.clone();
    let mut end = content.last_sure_end();
    for doubt in &content.doubts {
        for (from, to) in sectors(doubt) {
            match decide(from, chance) {
                Kept::All => end = end.max(to),
                Kept::Not => bytes[from..to].fill(0),
                Kept::Zeros => {
                    bytes[from..to].fill(0);
                    end = end.max(to);
                }
                Kept::Rubbish => {
                    bytes[from..to].fill_with(|| chance.next().to_le_bytes()[0]);
                    end = end.max(to);
                }
            }
        }
    }
    bytes.truncate(end);
    bytes
}

/// The doubts up to some byte survived, the others did not.
fn prefix(content: &Content, chance: &mut Chance) -> Vec<u8> {
    let first = content.doubts.first().map_or(0, |doubt| doubt.from);
    let cut = first + chance.below(content.bytes.len() - first + 1);
    let mut bytes = content.bytes.clone();
    for doubt in &content.doubts {
        if doubt.to > cut {
            bytes[doubt.from.max(cut)..doubt.to].fill(0);
        }
    }
    bytes.truncate(cut.max(content.last_sure_end()));
    bytes
}

/// The length survived, the bytes did not.
fn zeros(content: &Content) -> Vec<u8> {
    let mut bytes = content.bytes.clone();
    for doubt in &content.doubts {
        bytes[doubt.from..doubt.to].fill(0);
    }
    bytes
}

/// The parts of sectors that a doubt covers.
fn sectors(doubt: &Doubt) -> impl Iterator<Item = (usize, usize)> {
    let to = doubt.to;
    let mut from = doubt.from;
    std::iter::from_fn(move || {
        let start = from;
        (start < to).then(|| {
            from = ((start / SECTOR + 1) * SECTOR).min(to);
            (start, from)
        })
    })
}
