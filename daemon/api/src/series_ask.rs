//! What `/series` is asked for: read from a query, every mistake named.

use std::time::Duration;

use axum::http::{HeaderMap, Uri, header};
use model::{Check, Device, Timestamp};
use store::samples::{
    Across, Aggregate, Matcher, MatcherKind, NotASelector, QueryError, Selector, Source, Tier,
};

use crate::history::{self, COLUMN_VALUES, DEFAULT_RANGE, POINTS, milliseconds};
use crate::mistakes::did_you_mean;
use crate::problem::Problem;
use crate::query::Query;
use crate::{columns, span, when};

/// Steps of who says nothing of steps: a chart of usual width.
const DEFAULT_STEPS: usize = 600;

/// Steps, or pixels, that may be asked for.
pub(crate) const STEPS: std::ops::RangeInclusive<usize> = 1..=10_000;

/// Nothing is measured more often.
const SHORTEST_STEP: Duration = Duration::from_secs(1);

/// Steps that people read easily, in seconds; above a day it is whole days.
const EASY_STEPS: [u64; 18] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 14_400, 21_600,
    43_200,
];

const DAY: u64 = 86_400;

/// Rounds of a poll in a step that we choose: in a shorter one, a poll that is
/// a little late would leave a gap.
const ROUNDS_IN_STEP: u32 = 2;

/// Labels that a device carries and its series do not.
const DEVICE_LABELS: [&str; 6] = ["device", "id", "site", "tenant", "tag", "check"];

pub(crate) const AGGREGATES: [&str; 8] = [
    "min", "max", "avg", "last", "count", "increase", "rate", "max_rate",
];

pub(crate) const ACROSS: [&str; 5] = ["sum", "avg", "min", "max", "count"];

pub(crate) const SOURCES: [&str; 4] = ["auto", "raw", "15m", "1h"];

pub(crate) const FORMATS: [&str; 2] = ["json", "columns"];

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Columns,
}

impl Format {
    /// Values in one answer.
    pub(crate) fn most(self) -> usize {
        match self {
            Format::Json => POINTS,
            Format::Columns => COLUMN_VALUES,
        }
    }
}

/// What becomes of the points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum How {
    /// Nothing.
    Raw,
    /// They are brought together.
    Steps {
        step: Step,
        aggregate: Option<Aggregate>,
        across: Option<Across>,
        source: Source,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    /// As long as that.
    Of(Duration),
    /// As short as it can be with at most so many of them.
    AtMost(usize),
}

/// A question.
#[derive(Debug)]
pub(crate) struct SeriesAsk {
    /// Of whom.
    pub(crate) owner: Owner,
    /// Which of their series.
    pub(crate) selector: Selector,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
    pub(crate) how: How,
    pub(crate) format: Format,
}

impl SeriesAsk {
    pub(crate) fn read(uri: &Uri, headers: &HeaderMap, now: Timestamp) -> Result<Self, Problem> {
        let known = [
            "selector",
            "from",
            "until",
            "step",
            "points",
            "width",
            "aggregate",
            "across",
            "source",
            "format",
        ];
        let query = Query::read(uri, &known)?;
        let selector = selector(&query);
        let (from, until) = range(&query, now);
        let how = how(&query);
        let format = format(&query, headers);
        let (owner, selector) = selector.split(&DEVICE_LABELS);
        let ask = query.or(SeriesAsk {
            owner: Owner(owner),
            selector,
            from,
            until,
            how,
            format,
        })?;
        if let How::Steps {
            step: Step::Of(step),
            ..
        } = how
        {
            refuse_too_many(from, until, step, format)?;
        }
        Ok(ask)
    }
}

/// The parameter `selector`; anything if it is no good.
fn selector(query: &Query) -> Selector {
    let Some(text) = query.one("selector") else {
        let message = "selector is missing: which series, such as ifHCInOctets{device=\"core1\"}";
        query.mistakes.parameter("selector", message);
        return Selector::new(Vec::new());
    };
    text.parse().unwrap_or_else(|why: NotASelector| {
        query.mistakes.parameter("selector", why.to_string());
        Selector::new(Vec::new())
    })
}

/// The parameters `from` and `until`.
pub(crate) fn range(query: &Query, now: Timestamp) -> (Timestamp, Timestamp) {
    let time = |name: &str| {
        let read = when::read(query.one(name)?, now);
        read.map_err(|why| query.mistakes.parameter(name, why)).ok()
    };
    let until = time("until").unwrap_or(now);
    let from = time("from").unwrap_or(until.minus(DEFAULT_RANGE));
    if from >= until {
        let message = "from has to be before until";
        query.mistakes.parameter("from", message);
    }
    (from, until)
}

fn how(query: &Query) -> How {
    let (points, width) = (query.whole("points", STEPS), query.whole("width", STEPS));
    let aggregate = word(query, "aggregate", &AGGREGATES, aggregate);
    let across = word(query, "across", &ACROSS, across);
    let source = word(query, "source", &SOURCES, source);
    let step = query.one("step");
    let chosen = [
        ("step", step.is_some()),
        ("points", points.is_some()),
        ("width", width.is_some()),
    ];
    let mut chosen = chosen.into_iter().filter(|(_, given)| *given);
    if let (Some((first, _)), Some((second, _))) = (chosen.next(), chosen.next()) {
        let message =
            format!("{second} says how long a step is, and so does {first}: leave one out");
        query.mistakes.parameter(second, message);
    }
    if step == Some("raw") {
        for (name, given) in [
            ("aggregate", aggregate.is_some()),
            ("across", across.is_some()),
        ] {
            if given {
                let message =
                    format!("raw points are shown as they are: leave {name} out, or give a step");
                query.mistakes.parameter(name, message);
            }
        }
        if !matches!(source, None | Some(Source::Auto | Source::Of(Tier::Raw))) {
            let message = "raw points are not in roll-ups: leave source out, or give a step";
            query.mistakes.parameter("source", message);
        }
        return How::Raw;
    }
    let most = points.or(width).unwrap_or(DEFAULT_STEPS);
    let given = step.and_then(|text| self::step(query, text));
    How::Steps {
        step: given.map_or(Step::AtMost(most), Step::Of),
        aggregate,
        across,
        source: source.unwrap_or(Source::Auto),
    }
}

/// A step as it is given.
pub(crate) fn step(query: &Query, text: &str) -> Option<Duration> {
    match span::read(text) {
        Ok(step) if step >= SHORTEST_STEP => return Some(step),
        Ok(_) => query.mistakes.parameter("step", "a step has at least 1s"),
        Err(why) => {
            let message = format!("{why}, or \"raw\": every value as it was measured");
            query.mistakes.parameter("step", message);
        }
    }
    None
}

/// Refuses a step of which there would be more than an answer holds, before
/// anything is looked for.
pub(crate) fn refuse_too_many(
    from: Timestamp,
    until: Timestamp,
    step: Duration,
    format: Format,
) -> Result<(), Problem> {
    let steps = until.since(from).as_millis() / step.as_millis().max(1);
    let limit = format.most();
    match steps < limit as u128 {
        true => Ok(()),
        false => Err(history::no_answer(QueryError::TooManyPoints { limit })),
    }
}

fn word<T>(
    query: &Query,
    name: &str,
    known: &[&str],
    find: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let word = query.one(name)?;
    let found = find(word);
    if found.is_none() {
        let hint = did_you_mean(word, known);
        let message = format!("unknown word {word:?}: {hint}");
        query.mistakes.parameter(name, message);
    }
    found
}

fn aggregate(word: &str) -> Option<Aggregate> {
    use Aggregate::{Avg, Count, Increase, Last, Max, MaxRate, Min, Rate};
    let all = [Min, Max, Avg, Last, Count, Increase, Rate, MaxRate];
    all.into_iter().find(|known| history::word(*known) == word)
}

fn across(word: &str) -> Option<Across> {
    use self::Across::{Avg, Count, Max, Min, Sum};
    let all = [Sum, Avg, Min, Max, Count];
    all.into_iter().find(|known| across_word(*known) == word)
}

/// The word for what becomes of several series.
pub(crate) fn across_word(across: Across) -> &'static str {
    match across {
        Across::Sum => "sum",
        Across::Avg => "avg",
        Across::Min => "min",
        Across::Max => "max",
        Across::Count => "count",
    }
}

fn source(word: &str) -> Option<Source> {
    if word == "auto" {
        return Some(Source::Auto);
    }
    let tier = Tier::ALL.into_iter().find(|tier| tier.word() == word)?;
    Some(Source::Of(tier))
}

fn format(query: &Query, headers: &HeaderMap) -> Format {
    let named = word(query, "format", &FORMATS, |word| match word {
        "json" => Some(Format::Json),
        "columns" => Some(Format::Columns),
        _ => None,
    });
    let accepted = headers.get_all(header::ACCEPT).iter().any(|value| {
        let types = value.to_str().unwrap_or_default().split(',');
        let mut types = types.map(|kind| kind.split(';').next().unwrap_or_default().trim());
        types.any(|kind| kind.eq_ignore_ascii_case(columns::CONTENT_TYPE))
    });
    named.unwrap_or(match accepted {
        true => Format::Columns,
        false => Format::Json,
    })
}

/// The shortest easy step with at most `most` steps in `range`; none of a
/// length in which the slowest of the polls, `every`, could be missed, or that
/// `source` cannot give.
pub(crate) fn easy_step(range: Duration, most: usize, every: Duration, source: Source) -> Duration {
    let most = u32::try_from(most).unwrap_or(u32::MAX).max(1);
    let bucket = match source {
        Source::Of(tier) => tier.bucket_ms().unwrap_or_default(),
        Source::Auto => 0,
    };
    // easy steps that are as long as a bucket are multiples of it
    let least = (range / most)
        .max(every.saturating_mul(ROUNDS_IN_STEP))
        .max(Duration::from_millis(bucket));
    let seconds = least.as_secs() + u64::from(least.subsec_nanos() > 0);
    let easy = EASY_STEPS.into_iter().find(|easy| *easy >= seconds);
    Duration::from_secs(easy.unwrap_or(seconds.div_ceil(DAY) * DAY))
}

/// The whole steps since 1970 that `from` to `until` touches.
pub(crate) fn aligned(from: Timestamp, until: Timestamp, step: Duration) -> (Timestamp, Timestamp) {
    let step = milliseconds(step);
    let end = until.0.div_ceil(step).saturating_mul(step);
    (Timestamp(from.0 / step * step), Timestamp(end))
}

/// Conditions on what a device is, and on how it is asked.
#[derive(Debug)]
pub(crate) struct Owner(Vec<Matcher>);

impl Owner {
    /// Whether all conditions hold but those on checks.
    pub(crate) fn is(&self, device: &Device) -> bool {
        self.0.iter().all(|matcher| match matcher.name() {
            "device" => matcher.accepts(&device.name),
            "id" => matcher.accepts(&device.id.to_string()),
            "site" => matcher.accepts(device.site.as_deref().unwrap_or_default()),
            "tenant" => matcher.accepts(&device.tenant.0),
            "tag" => accepts_tags(matcher, device),
            _ => true,
        })
    }

    /// Whether the conditions on checks hold.
    pub(crate) fn asks(&self, check: Check) -> bool {
        let mut of_check = self.0.iter().filter(|matcher| matcher.name() == "check");
        of_check.all(|matcher| matcher.accepts(check.word()))
    }
}

/// A device has many tags: one of them has to be meant, and with a negative
/// condition none of them may be what it excludes.
fn accepts_tags(matcher: &Matcher, device: &Device) -> bool {
    if device.tags.is_empty() {
        return matcher.accepts("");
    }
    let mut tags = device.tags.iter();
    match matcher.kind() {
        MatcherKind::Equal | MatcherKind::Matches => tags.any(|tag| matcher.accepts(tag)),
        MatcherKind::NotEqual | MatcherKind::NotMatches => tags.all(|tag| matcher.accepts(tag)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Kind;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn ask(query: &str) -> Result<SeriesAsk, Vec<String>> {
        let query = query.replace('"', "%22");
        let uri = format!("/series?{query}").parse().unwrap();
        let read = SeriesAsk::read(&uri, &HeaderMap::new(), NOW);
        read.map_err(|problem| vec![problem.into_mistake().unwrap().message])
    }

    fn refused(query: &str) -> String {
        ask(query).expect_err(query).remove(0)
    }

    #[test]
    fn what_is_not_said_is_what_a_chart_of_the_last_hour_needs() {
        let ask = ask("selector=up").unwrap();
        assert_eq!((ask.from, ask.until), (Timestamp(NOW.0 - 3_600_000), NOW));
        assert_eq!(ask.format, Format::Json);
        assert_eq!(
            ask.how,
            How::Steps {
                step: Step::AtMost(600),
                aggregate: None,
                across: None,
                source: Source::Auto,
            }
        );
    }

    #[test]
    fn what_is_said_of_a_device_is_no_label_of_its_series() {
        let ask = ask("selector=up{device=\"a\",check=~\"i.*\",x=\"y\"}").unwrap();
        assert_eq!(ask.selector.to_string(), "{__name__=\"up\",x=\"y\"}");
        assert!(ask.owner.asks(Check::Icmp) && !ask.owner.asks(Check::Snmp));
    }

    #[test]
    fn a_step_is_easy_to_read_and_misses_no_poll() {
        let hour = Duration::from_secs(3_600);
        let step = |hours, most, every| {
            let every = Duration::from_secs(every);
            easy_step(hour * hours, most, every, Source::Auto).as_secs()
        };
        assert_eq!(step(1, 600, 1), 10);
        assert_eq!(step(1, 600, 30), 60);
        assert_eq!(step(24, 600, 30), 300);
        assert_eq!(step(24 * 365, 600, 30), 86_400);
        assert_eq!(step(24 * 365, 10, 30), 37 * 86_400);
        assert_eq!(step(1, 10_000, 0), 1);
        let hourly = easy_step(hour, 600, Duration::ZERO, Source::Of(Tier::Hour));
        assert_eq!(hourly, hour);
        for hours in [1, 5, 30, 1_000, 50_000] {
            for most in [1, 7, 600, 9_999] {
                let steps = u64::from(hours) * 3_600 / step(hours, most, 0);
                assert!(steps <= most as u64, "{hours} {most}");
            }
        }
    }

    #[test]
    fn steps_begin_at_whole_multiples() {
        let step = Duration::from_secs(60);
        let range = aligned(Timestamp(119_999), Timestamp(180_001), step);
        assert_eq!(range, (Timestamp(60_000), Timestamp(240_000)));
        let whole = (Timestamp(60_000), Timestamp(120_000));
        assert_eq!(aligned(whole.0, whole.1, step), whole);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_hint() {
        for (query, what) in [
            ("", "selector is missing"),
            ("selector=up{", "the end where a label's name"),
            ("selector={}", "this selects everything"),
            ("selector=up&step=0s", "at least 1s"),
            ("selector=up&step=fast", "or \"raw\""),
            ("selector=up&points=0", "from 1 to 10000"),
            ("selector=up&width=10001", "from 1 to 10000"),
            (
                "selector=up&points=5&step=1m",
                "points says how long a step is",
            ),
            (
                "selector=up&points=5&width=5",
                "width says how long a step is",
            ),
            ("selector=up&aggregate=mean", "unknown word \"mean\""),
            ("selector=up&across=summ", "did you mean \"sum\"?"),
            ("selector=up&source=5m", "unknown word \"5m\""),
            ("selector=up&format=csv", "known are json, columns"),
            ("selector=up&step=raw&aggregate=avg", "leave aggregate out"),
            ("selector=up&step=raw&across=sum", "leave across out"),
            ("selector=up&step=raw&source=1h", "not in roll-ups"),
            (
                "selector=up&from=-1h&until=-2h",
                "from has to be before until",
            ),
        ] {
            let said = refused(query);
            assert!(said.contains(what), "{query}: {said}");
        }
        assert!(ask("selector=up&step=raw&source=raw").is_ok());
    }

    #[test]
    fn more_steps_than_an_answer_holds_are_too_many_points() {
        let range = |seconds| (NOW, NOW.plus(Duration::from_secs(seconds)));
        let steps = |seconds, format| {
            let (from, until) = range(seconds);
            refuse_too_many(from, until, SHORTEST_STEP, format).map_err(|p| p.kind())
        };
        assert_eq!(steps(199_999, Format::Json), Ok(()));
        assert_eq!(steps(200_000, Format::Json), Err(Kind::TooManyPoints));
        assert_eq!(steps(200_000, Format::Columns), Ok(()));
    }

    #[test]
    fn columns_are_asked_for_by_name_or_by_type() {
        let uri = "/series?selector=up".parse().unwrap();
        let with = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            SeriesAsk::read(&uri, &headers, NOW).unwrap().format
        };
        assert_eq!(with("application/vnd.sotp.columns"), Format::Columns);
        assert_eq!(
            with("text/html, application/vnd.sotp.columns;q=0.9"),
            Format::Columns
        );
        assert_eq!(with("*/*"), Format::Json);
        assert_eq!(
            ask("selector=up&format=columns").unwrap().format,
            Format::Columns
        );
    }
}
