//! Many segments into one, and roll-ups of them.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Columns, MetricKind};
use tracing::warn;
use wal::fs::Fs;

use crate::gather::{Part, Raw};
use crate::lanes::Lanes;
use crate::make::{Before, Damage, Made, Maker, Task};
use crate::{Entry, Segment, SegmentError, SegmentWriter, Span, Summary, Tier};

/// A file to be written.
#[derive(Clone, Debug)]
pub struct Output {
    /// Where (a temporary name).
    pub path: PathBuf,
    /// Which tier: that of the sources, or a coarser one of raw sources.
    pub tier: Tier,
    /// Its span.
    pub span: Span,
}

/// A group's last row before the sources begin, by series: what a counter's
/// first step is measured from.
pub type Previous<'a> = &'a dyn Fn(u32) -> Option<(u64, Arc<Columns>, Vec<f64>)>;

/// What is to become of some segments of one tier.
pub struct Compaction<'a> {
    /// Where files are.
    pub fs: Arc<dyn Fs>,
    /// Oldest first; of two rows of a group at one instant, that of the
    /// earlier source stays.
    pub sources: Vec<Arc<Segment>>,
    /// Rows outside of this (ms; the end excluded) are left out.
    pub range: std::ops::Range<u64>,
    /// Groups that are left out: their data was deleted.
    pub is_gone: &'a dyn Fn(u32) -> bool,
    /// The columns of this number.
    pub columns: &'a dyn Fn(u32) -> Option<Arc<Columns>>,
    /// See [`Previous`].
    pub previous: Previous<'a>,
    /// What is written.
    pub outputs: Vec<Output>,
    /// Asked between groups: whether to give up.
    pub stop: &'a dyn Fn() -> bool,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Compacted {
    /// For each output: what it holds; `None` if there was nothing for it.
    pub outputs: Vec<Option<Summary>>,
    /// Blocks that could not be read and are in none of the outputs: file,
    /// group, from, until and what is wrong. Whoever compacts keeps the file.
    pub damaged: Vec<(PathBuf, u32, u64, u64, String)>,
    /// [`Compaction::stop`] said so; nothing of it is to be used.
    pub stopped: bool,
}

/// Reads the sources group by group, merges rows by time, drops second ones of
/// an instant (in the tiers above raw those of other sources: two rows of one
/// source are parts of one bucket), breaks counters where a row of a later
/// source was put before one of an earlier, and where a block is damaged, and
/// writes the outputs, raw ones with `codec::Effort::Dense`.
/// Memory: one group's rows. The files are synced, not renamed; none is left
/// behind where it stops or fails.
///
/// # Errors
///
/// [`SegmentError::Io`] of an output; those of a source are in
/// [`Compacted::damaged`].
///
/// # Panics
///
/// If the sources are not all of one tier, or an output is of a tier that
/// cannot be made of them.
pub fn compact(compaction: &Compaction<'_>) -> Result<Compacted, SegmentError> {
    let Some(first) = compaction.sources.first() else {
        return Ok(Compacted {
            outputs: vec![None; compaction.outputs.len()],
            ..Compacted::default()
        });
    };
    let tier = first.summary().tier;
    let is_of_it = |source: &Arc<Segment>| source.summary().tier == tier;
    assert!(
        compaction.sources.iter().all(is_of_it),
        "sources of one tier"
    );
    let can_be_made = |output: &Output| output.tier == tier || tier == Tier::Raw;
    assert!(
        compaction.outputs.iter().all(can_be_made),
        "roll-ups are made of raw rows"
    );
    let mut job = Job {
        compaction,
        tier,
        writers: VecDeque::new(),
        created: 0,
        damaged: Vec::new(),
        maker: Maker::default(),
    };
    let done = job.run();
    if !matches!(done, Ok(Some(_))) {
        job.clean_up();
    }
    Ok(match done? {
        Some(outputs) => Compacted {
            outputs,
            damaged: job.damaged,
            stopped: false,
        },
        None => Compacted {
            outputs: vec![None; compaction.outputs.len()],
            damaged: job.damaged,
            stopped: true,
        },
    })
}

/// A compaction at work.
struct Job<'a> {
    compaction: &'a Compaction<'a>,
    tier: Tier,
    /// One for each output that is not finished.
    writers: VecDeque<SegmentWriter>,
    /// Outputs whose files are ours.
    created: usize,
    damaged: Vec<(PathBuf, u32, u64, u64, String)>,
    maker: Maker,
}

impl Job<'_> {
    /// What the outputs hold; `None` if it was stopped.
    fn run(&mut self) -> Result<Option<Vec<Option<Summary>>>, SegmentError> {
        let Compaction { fs, outputs, .. } = self.compaction;
        for Output { path, tier, span } in outputs {
            let writer = SegmentWriter::create(fs, path, *tier, *span)?;
            self.writers.push_back(writer);
            self.created += 1;
        }
        let sources = &self.compaction.sources;
        let mut rest: Vec<&[Entry]> = sources.iter().map(|source| source.entries()).collect();
        while let Some((group, entries)) = next_group(&mut rest) {
            if (self.compaction.stop)() {
                return Ok(None);
            }
            if !(self.compaction.is_gone)(group) {
                self.group(group, &entries)?;
            }
        }
        let mut summaries = Vec::new();
        while let Some(writer) = self.writers.pop_front() {
            summaries.push(writer.finish()?);
        }
        Ok(Some(summaries))
    }

    /// Takes away what was written in vain.
    fn clean_up(&mut self) {
        self.writers.clear();
        let Compaction { fs, outputs, .. } = self.compaction;
        for Output { path, .. } in &outputs[..self.created] {
            match fs.remove(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    warn!(path = %path.display(), %error, "left a file behind");
                }
                _ => {}
            }
        }
    }

    fn group(&mut self, group: u32, entries: &[&[Entry]]) -> Result<(), SegmentError> {
        let mut lost = Vec::new();
        let mut raws = self.read(entries, &mut lost);
        loop {
            let made = self.make(group, &raws, &lost);
            match made {
                Ok(made) => return self.push(group, made),
                Err((place, what)) => {
                    let raw = raws.remove(place);
                    lost.push(raw.entry.until);
                    self.damage(&raw.path, &raw.entry, what);
                }
            }
        }
    }

    /// The blocks of a group that may matter, in the order of the sources.
    /// Those of before the range may have the row that a step begins at.
    /// `lost` gets the last rows' times of those that cannot be read.
    fn read(&mut self, entries: &[&[Entry]], lost: &mut Vec<u64>) -> Vec<Raw> {
        let sources = &self.compaction.sources;
        let mut raws = Vec::new();
        for ((place, source), entries) in sources.iter().enumerate().zip(entries) {
            for entry in *entries {
                if entry.from >= self.compaction.range.end {
                    continue;
                }
                match Raw::read((place, source), entry) {
                    Ok(raw) => raws.push(raw),
                    Err(what) => {
                        lost.push(entry.until);
                        self.damage(source.path(), entry, what);
                    }
                }
            }
        }
        raws
    }

    fn damage(&mut self, path: &Path, entry: &Entry, what: String) {
        if entry.until >= self.compaction.range.start {
            let (group, from, until) = (entry.group, entry.from, entry.until);
            let path = path.to_owned();
            self.damaged.push((path, group, from, until, what));
        }
    }

    /// The group's blocks of all outputs, or which of `raws` is damaged.
    fn make(&mut self, group: u32, raws: &[Raw], lost: &[u64]) -> Result<Vec<Made>, Damage> {
        let Compaction { range, columns, .. } = self.compaction;
        let mut parts = Vec::with_capacity(raws.len());
        for (place, raw) in raws.iter().enumerate() {
            let scratch = &mut self.maker.scratch;
            let part = Part::open((place, raw), self.tier, range, columns, scratch);
            parts.push(part.map_err(|what| (place, what))?);
        }
        let task = Task {
            parts: &parts,
            outputs: &self.compaction.outputs,
            lost,
        };
        let made = match self.tier {
            Tier::Raw => {
                let before = (self.compaction.previous)(group).map(Before::from);
                self.maker.raw(&task, before)
            }
            Tier::Quarter | Tier::Hour => self.maker.buckets(&task, self.tier),
        };
        made.map_err(|(part, what)| (parts[part].raw, what))
    }

    fn push(&mut self, group: u32, made: Vec<Made>) -> Result<(), SegmentError> {
        for Made {
            output,
            columns,
            bytes,
        } in made
        {
            let writer = &mut self.writers[output];
            match self.compaction.outputs[output].tier {
                Tier::Raw => writer.push(group, &bytes, &mut kinds(&columns))?,
                Tier::Quarter | Tier::Hour => {
                    let lanes = Lanes::new(columns.series());
                    writer.push(group, &bytes, &mut lanes.kinds())?;
                }
            }
        }
        Ok(())
    }
}

fn kinds(columns: &Columns) -> impl Iterator<Item = MetricKind> {
    columns.series().iter().map(|key| key.kind)
}

/// The least group that is left, and its entries in each source.
fn next_group<'a>(rest: &mut [&'a [Entry]]) -> Option<(u32, Vec<&'a [Entry]>)> {
    let firsts = rest.iter().filter_map(|entries| entries.first());
    let group = firsts.map(|entry| entry.group).min()?;
    let take = |entries: &mut &'a [Entry]| {
        let count = entries.partition_point(|entry| entry.group == group);
        let (of, behind) = entries.split_at(count);
        *entries = behind;
        of
    };
    Some((group, rest.iter_mut().map(take).collect()))
}
