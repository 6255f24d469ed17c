//! What was measured, as the sample store is asked for it: raw points or
//! values by steps, within limits, and what the answer lacks.

use std::collections::BTreeSet;
use std::time::Duration;

use model::{GroupKey, Labels, MetricKind, SeriesKey, Timestamp, metric_info};
use store::samples::{
    Across, Aggregate, Frame, Frames, MatcherKind, Missing, QueryError, Rollup, Samples, Select,
    Selected, Selector, Source, Tier,
};

use crate::problem::{Kind, Problem};
use crate::query;

/// Points in one answer as JSON, over all its series: some 4 MB.
pub(crate) const POINTS: usize = 200_000;

/// Values in one answer as columns: 16 MB.
pub(crate) const COLUMN_VALUES: usize = 2_000_000;

/// Series in one answer; a chart of more is a stain.
pub(crate) const SERIES: usize = 10_000;

/// Series that one line across them is made of: the traffic of a large
/// appliance, but not everything that it measures.
pub(crate) const SERIES_ACROSS: usize = 100_000;

/// The range of a query that names none.
pub(crate) const DEFAULT_RANGE: Duration = Duration::from_secs(60 * 60);

/// The label that stands for the metric.
pub(crate) const METRIC: &str = "__name__";

/// What an answer lacks, a line each.
pub(crate) fn warnings(missing: &[Missing]) -> Vec<String> {
    let line = |missing: &Missing| {
        let Missing { from, until, why } = missing;
        format!("missing from {from} to {until}: {}", without_folders(why))
    };
    missing.iter().map(line).collect()
}

/// The text with the name alone in place of the whole path of each file: where
/// they are is nothing for readers of an answer.
fn without_folders(why: &str) -> String {
    let words = why.split(' ').map(|word| match word.rsplit_once('/') {
        Some((folders, name)) if folders.contains('/') || word.starts_with('/') => name,
        Some(_) | None => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Which series of whom, and when.
pub(crate) struct Asked<'a> {
    pub(crate) selector: &'a Selector,
    pub(crate) groups: &'a dyn Fn(GroupKey) -> bool,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
    /// Values in the answer.
    pub(crate) most: usize,
}

/// How values are brought together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BySteps {
    pub(crate) step: Duration,
    /// `None`: counters by their rate, the rest by their mean.
    pub(crate) aggregate: Option<Aggregate>,
    pub(crate) across: Option<Across>,
    pub(crate) source: Source,
}

/// Frames, each with what its values are.
pub(crate) struct Stepped {
    pub(crate) frames: Frames,
    /// As many as there are frames.
    pub(crate) aggregates: Vec<Aggregate>,
}

/// Raw points. Blocks.
pub(crate) fn points(samples: &Samples, asked: &Asked<'_>) -> Result<Selected, Problem> {
    let ask = Select {
        selector: asked.selector,
        groups: asked.groups,
        from: asked.from,
        until: asked.until,
        max_points: asked.most,
        max_series: SERIES,
    };
    samples.select(&ask).map_err(no_answer)
}

/// Values by steps. Blocks.
pub(crate) fn steps(
    samples: &Samples,
    asked: &Asked<'_>,
    by: &BySteps,
) -> Result<Stepped, Problem> {
    let with = |aggregate| rollup(samples, asked, by, aggregate);
    if let Some(aggregate) = by.aggregate {
        return with(aggregate).map(|frames| of_one(frames, aggregate));
    }
    // a kind that nothing on this box has is not looked for; beyond that the
    // answer depends on what was found alone, as others' names are not told
    let kinds = Kinds::of(samples, asked.selector);
    if kinds.counters && kinds.others {
        let (means, rates) = (with(Aggregate::Avg)?, with(Aggregate::Rate)?);
        return match by.across {
            None => Ok(each_its_own(means, rates)),
            Some(_) => one_of_both(asked.selector, means, rates),
        };
    }
    let aggregate = match kinds.counters {
        true => Aggregate::Rate,
        false => Aggregate::Avg,
    };
    let frames = with(aggregate)?;
    let aggregate = match frames.series {
        0 => of_nothing(asked.selector),
        _ => aggregate,
    };
    Ok(of_one(frames, aggregate))
}

/// All series as one, by what all of them have.
fn one_of_both(selector: &Selector, means: Frames, rates: Frames) -> Result<Stepped, Problem> {
    match (means.series, rates.series) {
        (0, 0) => Ok(of_one(means, of_nothing(selector))),
        (0, _) => Ok(of_one(rates, Aggregate::Rate)),
        (_, 0) => Ok(of_one(means, Aggregate::Avg)),
        (_, _) => Err(query::wrong(
            "aggregate",
            "across counters and others alike needs to be told what becomes of each: aggregate=rate, or avg, min, max, last, count, increase, max_rate; or select one metric",
        )),
    }
}

/// What would become of values of which there are none.
fn of_nothing(selector: &Selector) -> Aggregate {
    match metric_of(selector).and_then(metric_info) {
        Some(info) if info.kind.is_counter() => Aggregate::Rate,
        Some(_) | None => Aggregate::Avg,
    }
}

/// What is to be known of an answer that is not what it looks like: it is empty
/// because the aggregate is none of what was measured, or it adds up what does
/// not belong together. Blocks.
pub(crate) fn notes(
    samples: &Samples,
    asked: &Asked<'_>,
    by: &BySteps,
    stepped: &Stepped,
) -> Vec<String> {
    let found = || present(samples, asked, by, stepped.frames.source);
    let note = match (by.aggregate, by.across) {
        (Some(aggregate), _) if stepped.frames.series == 0 => lacking(&found(), aggregate),
        (_, None | Some(Across::Count)) | (Some(Aggregate::Count), _) => None,
        (_, Some(_)) if metric_of(asked.selector).is_some() => None,
        (_, Some(_)) => {
            let aggregate = stepped.aggregates.first().copied();
            aggregate.and_then(|aggregate| mixed(&found(), aggregate))
        }
    };
    note.into_iter().collect()
}

/// The series that have values in the range, whatever their kind is; none where
/// they are too many.
fn present(samples: &Samples, asked: &Asked<'_>, by: &BySteps, source: Tier) -> Vec<SeriesKey> {
    let step_ms = milliseconds(by.step);
    let range_ms = milliseconds(asked.until.since(asked.from));
    let ask = Rollup {
        selector: asked.selector,
        groups: asked.groups,
        from: asked.from,
        until: asked.until,
        step_ms: range_ms.div_ceil(step_ms).saturating_mul(step_ms),
        aggregate: Aggregate::Count,
        across: None,
        source: Source::Of(source),
        max_points: COLUMN_VALUES,
        max_series: SERIES_ACROSS,
    };
    let frames = samples.rollup(&ask).map(|frames| frames.frames);
    let keys = frames.unwrap_or_default().into_iter();
    keys.filter_map(|frame| Some(frame.of?.1)).collect()
}

fn has(kind: MetricKind, aggregate: Aggregate) -> bool {
    match aggregate {
        Aggregate::Count => true,
        Aggregate::Increase | Aggregate::Rate | Aggregate::MaxRate => kind.is_counter(),
        Aggregate::Min | Aggregate::Max | Aggregate::Avg | Aggregate::Last => !kind.is_counter(),
    }
}

/// Says that none of these series has that.
fn lacking(found: &[SeriesKey], aggregate: Aggregate) -> Option<String> {
    let first = found.first()?;
    if found.iter().any(|key| has(key.kind, aggregate)) {
        return None;
    }
    let names: BTreeSet<&str> = found.iter().map(|key| &*key.metric).collect();
    let (what, they_have) = match first.kind.is_counter() {
        true => ("a counter", "increase, rate, max_rate and count"),
        false => ("no counter", "min, max, avg, last and count"),
    };
    let more = match names.len() {
        1 => String::new(),
        count => format!(", as are {} others that are selected", count - 1),
    };
    let metric = names.first()?;
    let word = word(aggregate);
    Some(format!(
        "{metric} is {what}{more}: it has {they_have}, but not {word}"
    ))
}

/// Says that these are different things.
fn mixed(found: &[SeriesKey], aggregate: Aggregate) -> Option<String> {
    let of = |key: &SeriesKey| {
        let unit = match unit(&key.metric, Some(aggregate)) {
            unit if unit.is_empty() => "no unit".to_owned(),
            unit => unit,
        };
        match key.kind {
            MetricKind::State => format!("{unit} (states)"),
            _ => unit,
        }
    };
    let having = found.iter().filter(|key| has(key.kind, aggregate));
    let units: BTreeSet<String> = having.map(of).collect();
    (units.len() > 1).then(|| {
        let units: Vec<String> = units.into_iter().collect();
        format!(
            "what is brought together across series has different units: {}",
            units.join(", ")
        )
    })
}

fn rollup(
    samples: &Samples,
    asked: &Asked<'_>,
    by: &BySteps,
    aggregate: Aggregate,
) -> Result<Frames, Problem> {
    let ask = Rollup {
        selector: asked.selector,
        groups: asked.groups,
        from: asked.from,
        until: asked.until,
        step_ms: milliseconds(by.step),
        aggregate,
        across: by.across,
        source: by.source,
        max_points: asked.most,
        max_series: match by.across {
            Some(_) => SERIES_ACROSS,
            None => SERIES,
        },
    };
    let frames = samples.rollup(&ask).map_err(no_answer)?;
    match frames.frames.len().saturating_mul(frames.steps) > asked.most {
        true => Err(no_answer(QueryError::TooManyPoints { limit: asked.most })),
        false => Ok(frames),
    }
}

/// A span as the sample store counts, at least 1.
pub(crate) fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn of_one(frames: Frames, aggregate: Aggregate) -> Stepped {
    Stepped {
        aggregates: vec![aggregate; frames.frames.len()],
        frames,
    }
}

/// Counters by their rates, the rest by their means, in the order of groups and
/// series.
fn each_its_own(mut means: Frames, rates: Frames) -> Stepped {
    let is_counter = |frame: &Frame| {
        frame
            .of
            .as_ref()
            .is_some_and(|(_, key)| key.kind.is_counter())
    };
    means.frames.retain(|frame| !is_counter(frame));
    means.series = means.series.saturating_add(rates.series);
    for missing in rates.missing {
        if !means.missing.contains(&missing) {
            means.missing.push(missing);
        }
    }
    means
        .frames
        .extend(rates.frames.into_iter().filter(is_counter));
    means.frames.sort_by(|a, b| place(a).cmp(&place(b)));
    let own = |frame: &Frame| match is_counter(frame) {
        true => Aggregate::Rate,
        false => Aggregate::Avg,
    };
    Stepped {
        aggregates: means.frames.iter().map(own).collect(),
        frames: means,
    }
}

fn place(frame: &Frame) -> Option<(GroupKey, &str, &Labels)> {
    let (group, key) = frame.of.as_ref()?;
    Some((*group, &key.metric, &key.labels))
}

/// What kinds of series a selector may find.
struct Kinds {
    counters: bool,
    others: bool,
}

impl Kinds {
    /// By the names of the metrics that it may find: what is not built in may
    /// be of either kind.
    fn of(samples: &Samples, selector: &Selector) -> Kinds {
        let names = samples.metrics();
        let found = names.iter().filter(|name| {
            let mut of_metric = selector.matchers().iter().filter(|m| m.name() == METRIC);
            of_metric.all(|matcher| matcher.accepts(name))
        });
        let mut kinds = Kinds {
            counters: false,
            others: false,
        };
        for name in found {
            let kind = metric_info(name).map(|info| info.kind);
            kinds.counters |= kind.is_none_or(MetricKind::is_counter);
            kinds.others |= kind.is_none_or(|kind| !kind.is_counter());
        }
        kinds
    }
}

/// The metric that a selector names, if it names one.
pub(crate) fn metric_of(selector: &Selector) -> Option<&str> {
    let named = |matcher: &&store::samples::Matcher| {
        matcher.name() == METRIC && matcher.kind() == MatcherKind::Equal
    };
    let matcher = selector.matchers().iter().find(named)?;
    Some(matcher.value())
}

/// The word for what becomes of values.
pub(crate) fn word(aggregate: Aggregate) -> &'static str {
    match aggregate {
        Aggregate::Min => "min",
        Aggregate::Max => "max",
        Aggregate::Avg => "avg",
        Aggregate::Last => "last",
        Aggregate::Count => "count",
        Aggregate::Increase => "increase",
        Aggregate::Rate => "rate",
        Aggregate::MaxRate => "max_rate",
    }
}

/// The unit of what becomes of a metric's values.
pub(crate) fn unit(metric: &str, aggregate: Option<Aggregate>) -> String {
    let unit = metric_info(metric).map_or("", |info| info.unit);
    match aggregate {
        Some(Aggregate::Count) => String::new(),
        Some(Aggregate::Rate | Aggregate::MaxRate) => format!("{unit}/s"),
        _ => unit.to_owned(),
    }
}

/// Seconds since 1970.
pub(crate) fn seconds(at: Timestamp) -> f64 {
    at.since(Timestamp::default()).as_secs_f64()
}

/// What a question that is too large, or makes no sense, is told.
pub(crate) fn no_answer(error: QueryError) -> Problem {
    match error {
        QueryError::TooManyPoints { limit } => Problem::new(
            Kind::TooManyPoints,
            format!(
                "the answer would have more than {limit} points; ask for a shorter range with from and until, for a longer step, or for fewer series"
            ),
        ),
        QueryError::TooManySeries { limit } => Problem::new(
            Kind::TooManySeries,
            format!(
                "more than {limit} series are selected; select fewer by a metric's name or by labels such as device, site or ifName, or bring them together with across"
            ),
        ),
        QueryError::NoSuchStep(why) => query::wrong("step", why),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Check, DeviceId};

    use super::*;

    fn frame(metric: &str, kind: MetricKind, value: f64) -> Frame {
        let group = GroupKey {
            device: DeviceId(1),
            check: Check::Snmp,
        };
        let key = SeriesKey {
            metric: Arc::from(metric),
            labels: Arc::new(Labels::default()),
            kind,
        };
        Frame {
            of: Some((group, key)),
            values: vec![value; 2],
        }
    }

    fn frames(frames: Vec<Frame>) -> Frames {
        Frames {
            source: Tier::Raw,
            oldest: Timestamp(0),
            from: Timestamp(0),
            step_ms: 1000,
            steps: 2,
            series: frames.len(),
            frames,
            missing: Vec::new(),
        }
    }

    #[test]
    fn counters_are_shown_by_their_rate_and_the_rest_by_its_mean() {
        let gauge = |value| frame("g", MetricKind::Gauge, value);
        let counter = |value| frame("c", MetricKind::Counter64, value);
        let means = frames(vec![counter(100.0), gauge(1.0)]);
        let rates = frames(vec![gauge(7.0), counter(5.0)]);
        let own = each_its_own(means, rates);
        let shown: Vec<f64> = own.frames.frames.iter().map(|f| f.values[1]).collect();
        assert_eq!(shown, [5.0, 1.0]);
        let words: Vec<&str> = own.aggregates.iter().map(|a| word(*a)).collect();
        assert_eq!(words, ["rate", "avg"]);
        assert_eq!(own.frames.series, 4, "the sum of both");
    }

    #[test]
    fn a_warning_names_files_without_their_folders() {
        let why =
            "a block of /var/lib/sotp/sotp.samples/seg/00000002.seg at byte 9: Input/output error";
        let missing = Missing {
            from: Timestamp(0),
            until: Timestamp(1000),
            why: why.to_owned(),
        };
        let told = warnings(&[missing]).concat();
        let end = ": a block of 00000002.seg at byte 9: Input/output error";
        assert!(told.ends_with(end), "{told}");
    }

    #[test]
    fn a_unit_is_that_of_what_is_shown() {
        assert_eq!(unit("ifHCInOctets", Some(Aggregate::Rate)), "octets/s");
        assert_eq!(unit("ifHCInOctets", Some(Aggregate::Increase)), "octets");
        assert_eq!(unit("ifHCInOctets", Some(Aggregate::Count)), "");
        assert_eq!(unit("icmp_rtt_seconds", None), "seconds");
    }

    #[test]
    fn a_question_that_is_too_large_says_how_to_ask_for_less() {
        let problem = no_answer(QueryError::TooManyPoints { limit: 7 });
        assert!(
            problem.detail().contains("more than 7 points"),
            "{problem:?}"
        );
        assert!(problem.detail().contains("from and until"), "{problem:?}");
        let problem = no_answer(QueryError::TooManySeries { limit: 7 });
        assert!(problem.detail().contains("across"), "{problem:?}");
        let problem = no_answer(QueryError::NoSuchStep("no such step".into()));
        assert_eq!(problem.into_mistake().unwrap().parameter.unwrap(), "step");
    }
}
