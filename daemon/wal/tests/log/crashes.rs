//! Lives of a log that end in crashes, on disks that fail, by chance of a
//! seed. A checker knows what each wait said.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use wal::fs::sim::SimFs;
use wal::{Lsn, Wal, WalOptions};

use crate::support::{append, ids, options};

/// Disks.
const SEEDS: u64 = 3000;
/// Starts of the log on each.
const LIVES: u64 = 4;

/// Numbers by a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// What the log owes.
#[derive(Default)]
struct Checker {
    /// Records that were appended: the next one's number.
    next: u64,
    /// Those whose wait said Ok.
    acknowledged: Vec<u64>,
    /// The file to replay from, and the first record that is to come.
    first: u64,
    base: u64,
    /// A sync failed and only the process died: what can still be read of that
    /// file is not on the disk, and no sync of the next process tells.
    in_doubt: bool,
    /// That was so once: a file's beginning may be gone, and be missed.
    was_in_doubt: bool,
}

impl Checker {
    fn check(&self, found: &[u64]) -> Result<(), String> {
        if !found.is_sorted_by(|one, next| one < next) {
            return Err(format!("twice or out of order: {found:?}"));
        }
        if let Some(id) = found.iter().find(|id| **id >= self.next) {
            return Err(format!("{id} was never appended"));
        }
        if let Some(id) = found.iter().find(|id| **id < self.base) {
            return Err(format!("{id} was before the rotation"));
        }
        let owed = |id: &&u64| **id >= self.base && found.binary_search(id).is_err();
        match self.acknowledged.iter().find(owed) {
            Some(id) => Err(format!(
                "{id} was acknowledged and is lost; found {found:?}"
            )),
            None => Ok(()),
        }
    }
}

/// A start of the log, until it ends.
struct Life<'a> {
    fs: &'a SimFs,
    wal: Wal,
    chance: &'a mut Chance,
    checker: &'a mut Checker,
    /// Appended and not known to be lost or stored.
    open: Vec<(u64, Lsn)>,
    /// What the last rotation gave, and the record that came next.
    rotated: Option<(u64, u64)>,
}

impl Life<'_> {
    fn step(&mut self) {
        match self.chance.below(20) {
            0..=8 => self.append(),
            9..=12 => self.wait(),
            13..=14 => self.rotated = Some((self.wal.rotate(), self.checker.next)),
            15 => self.remove(),
            16..=17 => self.fail(),
            18 => self.fs.fail_with(None),
            _ => self.resume(),
        }
    }

    fn append(&mut self) {
        for _ in 0..=self.chance.below(4) {
            let place = append(&self.wal, self.checker.next);
            self.open.push((self.checker.next, place));
            self.checker.next += 1;
        }
    }

    fn wait(&mut self) {
        let Some((_, last)) = self.open.last() else {
            return;
        };
        let _ = self.wal.wait(*last);
        for (id, place) in std::mem::take(&mut self.open) {
            if self.wal.wait(place).is_ok() {
                self.checker.acknowledged.push(id);
            }
        }
    }

    /// As after a cut: what was before the rotation is elsewhere now.
    fn remove(&mut self) {
        if let Some((number, next)) = self.rotated.take() {
            (self.checker.first, self.checker.base) = (number, next);
            self.wal.remove_before(number);
        }
    }

    fn fail(&mut self) {
        match self.chance.below(6) {
            0 => self.fs.fail_with(Some(ErrorKind::Other)),
            1 => self.fs.set_capacity(Some(self.chance.below(20_000))),
            2 => self.fs.set_capacity(None),
            _ => self
                .fs
                .fail_once_in(1 + self.chance.below(6), ErrorKind::Other),
        }
    }

    fn resume(&mut self) {
        self.fs.set_capacity(None);
        self.fs.fail_with(None);
        let _ = self.wal.resume();
    }

    /// The disk that the next life finds.
    fn end(mut self) -> SimFs {
        match self.chance.below(4) {
            0 => {
                let _ = self.wal.close();
                self.wait();
            }
            // a disk without power has only one end
            1 if !self.fs.is_dead() => {
                let left = self.fs.after_kill();
                let _ = self.wal.close(); // a sync that failed just then counts too
                self.checker.in_doubt |= self.wal.stats().sealed > 0;
                return left;
            }
            2 => self.wait(),
            _ => {}
        }
        self.checker.was_in_doubt |= self.checker.in_doubt;
        self.checker.in_doubt = false;
        self.fs.after_power_cut(self.chance.below(u64::MAX))
    }
}

/// A disk's whole story; what went wrong in it, if something did.
fn story(seed: u64, forget_syncs: bool) -> Result<(), String> {
    let mut chance = Chance(seed);
    let mut checker = Checker::default();
    let mut fs = SimFs::default();
    for life in 0..LIVES {
        if forget_syncs {
            fs.forget_syncs();
        }
        fs.set_capacity(None);
        if chance.one_in(3) {
            fs.crash_in(1 + chance.below(60));
        }
        fs = live(&fs, &mut chance, &mut checker)
            .map_err(|what| format!("seed {seed}, life {life}: {what}"))?;
    }
    fs.set_capacity(None);
    live(&fs, &mut chance, &mut checker).map(drop)
}

fn live(fs: &SimFs, chance: &mut Chance, checker: &mut Checker) -> Result<SimFs, String> {
    let mut found = Vec::new();
    let mut frames = Vec::new();
    let hurried = chance.one_in(8);
    let pace = WalOptions {
        write_every: if hurried {
            Duration::ZERO
        } else {
            options().write_every
        },
        max_pending: if hurried { 2000 } else { options().max_pending },
        ..options()
    };
    let opened = Wal::open(Arc::new(fs.clone()), pace, checker.first, &mut |frame| {
        frames.push(frame);
    });
    let Ok((wal, replay)) = opened else {
        // only the power may have stopped it
        return if fs.is_dead() {
            Ok(fs.after_power_cut(chance.below(u64::MAX)))
        } else {
            Err("cannot open".into())
        };
    };
    for frame in frames {
        found.extend(ids(&frame)?);
    }
    checker.check(&found)?;
    if !checker.was_in_doubt
        && let Some((name, ..)) = replay
            .damaged
            .iter()
            .find(|(_, _, what)| what.contains("it is missing"))
    {
        return Err(format!("no crash takes a file that was begun: {name}"));
    }
    if !fs.is_dead() && !checker.in_doubt {
        checker.acknowledged = found; // it was synced again
    }
    let mut life = Life {
        fs,
        wal,
        chance,
        checker,
        open: Vec::new(),
        rotated: None,
    };
    for _ in 0..life.chance.below(30) {
        life.step();
    }
    Ok(life.end())
}

#[test]
fn what_a_wait_said_ok_to_survives_everything_and_nothing_is_invented() {
    for seed in 0..SEEDS {
        story(seed, false).unwrap();
    }
}

#[test]
fn a_disk_that_forgets_syncs_is_found_out() {
    let found_out = (0..200).filter(|seed| story(*seed, true).is_err()).count();
    assert!(found_out > 50, "only {found_out} of 200");
}
