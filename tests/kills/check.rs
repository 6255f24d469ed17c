//! The store after a kill, compared with what the writer said.

use std::path::Path;

use model::Timestamp;
use store::Store;
use store::samples::{Aggregate, Rollup, Select, SelectedSeries, Selector, Source, Tier};

use crate::feed::{self, DEVICES, WIDTH};
use crate::scene::Scene;

/// What the lives of one store said so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    /// Steps that are on the disk, as runs: first and last.
    pub(crate) kept: Vec<(u64, u64)>,
    /// Compactions and backups that were whole.
    pub(crate) done_beside: u64,
    /// Steps that were tried, kept or not.
    pub(crate) tried: Vec<(u64, u64)>,
}

impl Said {
    pub(crate) fn keep(&mut self, step: u64) {
        push(&mut self.kept, step);
    }

    pub(crate) fn try_one(&mut self, step: u64) {
        push(&mut self.tried, step);
    }

    /// The first step of the next life.
    pub(crate) fn next(&self) -> u64 {
        self.tried.last().map_or(0, |(_, last)| last + 1)
    }

    fn was_tried(&self, step: u64) -> bool {
        self.tried
            .iter()
            .any(|(first, last)| (first..=last).contains(&&step))
    }

    /// Samples that were acknowledged.
    pub(crate) fn samples(&self) -> u64 {
        let steps: u64 = self.kept.iter().map(|(first, last)| last - first + 1).sum();
        steps * DEVICES * WIDTH as u64
    }
}

fn push(runs: &mut Vec<(u64, u64)>, step: u64) {
    match runs.last_mut() {
        Some((_, last)) if *last + 1 == step => *last = step,
        _ => runs.push((step, step)),
    }
}

/// Everything that is wrong with the store in `folder`.
pub(crate) fn compare(scene: Scene, folder: &Path, said: &Said) -> Vec<String> {
    let now = feed::time(scene, said.next());
    let store = match Store::open(feed::options(folder), now) {
        Ok(store) => store,
        Err(error) => return vec![format!("it does not open: {error}")],
    };
    let mut wrong = raw(scene, &store, said);
    if scene == Scene::Compaction {
        wrong.extend(rolled_up(scene, &store, said));
    }
    if let Err(error) = store.close() {
        wrong.push(format!("it does not close: {error}"));
    }
    wrong
}

fn all(text: &str) -> Selector {
    text.parse().expect("a good selector")
}

fn raw(scene: Scene, store: &Store, said: &Said) -> Vec<String> {
    let mut wrong = Vec::new();
    let selector = all(r#"{__name__=~"m.*"}"#);
    let ask = Select {
        selector: &selector,
        groups: &feed::is_ours,
        from: Timestamp(0),
        until: Timestamp(u64::MAX),
        max_points: usize::MAX,
        max_series: usize::MAX,
    };
    let selected = match store.samples().select(&ask) {
        Ok(selected) => selected,
        Err(error) => return vec![error.to_string()],
    };
    wrong.extend(selected.missing.iter().map(|part| part.why.clone()));
    for device in 0..DEVICES {
        for column in 0..WIDTH {
            let found = selected.series.iter().find(|series| {
                series.group == feed::group(device) && *series.key.metric == *format!("m{column}")
            });
            let mut points = found.map(points_of).unwrap_or_default();
            wrong.extend(invented(scene, said, (device, column), &points));
            points.dedup_by_key(|(at, _)| *at);
            wrong.extend(lost(scene, said, (device, column), &points));
        }
    }
    wrong
}

fn points_of(series: &SelectedSeries) -> Vec<(Timestamp, f64)> {
    let points = series.points.iter();
    points.map(|point| (point.at, point.value)).collect()
}

type Place = (u64, usize);

/// Points that nobody appended, or that are there twice.
fn invented(
    scene: Scene,
    said: &Said,
    (device, column): Place,
    points: &[(Timestamp, f64)],
) -> Vec<String> {
    let mut wrong = Vec::new();
    for pair in points.windows(2) {
        if pair[0].0 >= pair[1].0 {
            wrong.push(format!(
                "{device}/m{column}: {} after {}",
                pair[1].0, pair[0].0
            ));
        }
    }
    for (at, value) in points {
        let step = feed::step_of(scene, *at).filter(|step| said.was_tried(*step));
        let right = step.map(|step| feed::value(device, column, step));
        if right.map(f64::to_bits) != Some(value.to_bits()) {
            wrong.push(format!(
                "{device}/m{column} at {at}: {value} instead of {right:?}"
            ));
        }
    }
    wrong
}

/// Points that were acknowledged and are not there.
fn lost(
    scene: Scene,
    said: &Said,
    (device, column): Place,
    points: &[(Timestamp, f64)],
) -> Vec<String> {
    let mut wrong = Vec::new();
    let steps = said.kept.iter().flat_map(|(first, last)| *first..=*last);
    for step in steps.filter(|step| !feed::value(device, column, *step).is_nan()) {
        let at = feed::time(scene, step);
        if points.binary_search_by_key(&at, |(at, _)| *at).is_err() {
            wrong.push(format!("{device}/m{column}: step {step} is lost"));
        }
    }
    wrong
}

/// Every hour's count in the roll-ups is that of the raw rows.
fn rolled_up(scene: Scene, store: &Store, said: &Said) -> Vec<String> {
    const HOUR: u64 = 60 * 60 * 1000;
    let mut wrong = Vec::new();
    let selector = all("m4");
    let until = feed::time(scene, said.next());
    let until = Timestamp(until.0.next_multiple_of(HOUR));
    let count = |tier| {
        let ask = Rollup {
            selector: &selector,
            groups: &feed::is_ours,
            from: feed::time(scene, 0),
            until,
            step_ms: HOUR,
            aggregate: Aggregate::Count,
            across: None,
            source: Source::Of(tier),
            max_points: usize::MAX,
            max_series: usize::MAX,
        };
        store.samples().rollup(&ask)
    };
    let raw = match count(Tier::Raw) {
        Ok(frames) => frames.frames,
        Err(error) => return vec![error.to_string()],
    };
    for tier in [Tier::Quarter, Tier::Hour] {
        let rolled = match count(tier) {
            Ok(frames) => frames.frames,
            Err(error) => return vec![error.to_string()],
        };
        let same = rolled.len() == raw.len()
            && rolled.iter().zip(&raw).all(|(one, other)| {
                let pairs = one.values.iter().zip(&other.values);
                one.of == other.of
                    && pairs
                        .into_iter()
                        .all(|(a, b)| a.max(0.0).to_bits() == b.max(0.0).to_bits())
            });
        if !same {
            wrong.push(format!(
                "the counts of {} are not those of raw",
                tier.word()
            ));
        }
    }
    wrong
}
