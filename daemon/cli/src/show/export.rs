//! `sotp metrics export`: values of years, without holding more than a window of
//! them.
//!
//! The range is asked for window by window, oldest first. A window that has too
//! many points is halved, one with few is followed by one twice as long. Windows
//! meet where steps meet, and all of them are read from the tier that the first
//! one was read from, so that the whole is what one answer would have been.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::client::Client;
use crate::command::{MetricsExport, TableFormat};
use crate::error::Trouble;
use crate::output::{Output, safe, talk};
use crate::part::Part;
use crate::progress::Progress;

use super::metrics::row;
use super::series::{Answer, Point, Series, Window, ask, prometheus, shown_time};
use super::when::{instant_ms, span_ms};

/// The first window: what 100 series measured every minute come to is within what
/// one answer may hold.
const FIRST_WINDOW_MS: i64 = 86_400_000;

/// A window of raw values is not made shorter: who measures more in a second has
/// to ask for fewer series.
const SHORTEST_WINDOW_MS: i64 = 1_000;

/// Steps in a window, even where nearly nothing was measured: half of what one
/// answer may hold.
const MOST_STEPS: i64 = 100_000;

/// A window with fewer points is followed by a longer one: twice as many are far
/// below what one answer may hold.
const FEW_POINTS: usize = 50_000;

/// Warnings that are told one by one; there may be one per window.
const WARNINGS_TOLD: usize = 100;

/// How often in a row a daemon may say that it is asked too much.
const TURNS_AWAY: u32 = 20;

/// The longest wait for a daemon that is asked too much.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub(super) async fn run(
    words: &MetricsExport,
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    let plan = Plan::read(words, Timestamp::now())?;
    let mut sink = Sink::open(words, output)?;
    let mut progress = match words.file.is_none() && output.is_terminal() {
        true => Progress::silent(),
        false => Progress::new(),
    };
    let mut told = Told::default();
    let written = write(words, plan, client, &mut sink, &mut progress, &mut told).await;
    drop(progress);
    match written {
        // a file that is there already stays as it is
        Ok(0) => return Err(told.nothing(words)),
        Ok(_) => sink.finish()?,
        Err(trouble) => return Err(sink.torn(trouble)),
    }
    told.verdict()
}

/// The windows that are left.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    next_ms: i64,
    until_ms: i64,
    length_ms: i64,
    /// Windows meet at this instant and whole steps from it.
    anchor_ms: i64,
    /// 1 ms for values as they were measured.
    step_ms: i64,
}

impl Plan {
    fn read(words: &MetricsExport, now: Timestamp) -> Result<Plan, Trouble> {
        let time = |flag: &str, text: &str| {
            instant_ms(text, now).ok_or_else(|| {
                Trouble::Usage(format!(
                    "{flag} {text:?} is no time: write 2026-11-21T03:00:00Z, 2026-11-21, seconds since 1970, or -1h for an hour ago"
                ))
            })
        };
        let from_ms = time("--from", &words.asked.from)?;
        let until_ms = time("--until", &words.asked.until)?;
        let step_ms = match words.step.as_str() {
            "raw" => 1,
            step => span_ms(step).ok_or_else(|| {
                Trouble::Usage(format!(
                    "--step {step:?} is no span such as 30s, 5m, 1h; raw takes values as they were measured"
                ))
            })?,
        };
        if from_ms >= until_ms {
            return Err(Trouble::Usage("--from has to be before --until".into()));
        }
        Ok(Plan {
            next_ms: from_ms,
            until_ms,
            length_ms: FIRST_WINDOW_MS.max(step_ms),
            anchor_ms: 0,
            step_ms,
        })
    }

    /// The window that is next: its first instant, and the first one after it.
    fn window(&self) -> Option<(i64, i64)> {
        if self.next_ms >= self.until_ms {
            return None;
        }
        let most_ms = match self.step_ms {
            1 => i64::MAX,
            step_ms => step_ms.saturating_mul(MOST_STEPS),
        };
        let end_ms = self.next_ms.saturating_add(self.length_ms.min(most_ms));
        if end_ms >= self.until_ms {
            return Some((self.next_ms, self.until_ms));
        }
        let over_ms = (end_ms - self.anchor_ms).rem_euclid(self.step_ms);
        // not shorter than the step in which it begins
        let meeting_ms = match end_ms - over_ms {
            met if met > self.next_ms => met,
            met => met.saturating_add(self.step_ms),
        };
        Some((self.next_ms, meeting_ms.min(self.until_ms)))
    }

    /// The window had too many points. Gives whether a shorter one can be tried.
    fn halve(&mut self, (from_ms, until_ms): (i64, i64)) -> bool {
        let length_ms = until_ms - from_ms;
        let shortest_ms = SHORTEST_WINDOW_MS.max(self.step_ms);
        if length_ms <= shortest_ms {
            return false;
        }
        self.length_ms = (length_ms / 2).max(shortest_ms);
        true
    }

    /// The window is written; it had this many points.
    fn advance(&mut self, (_, until_ms): (i64, i64), points: usize) {
        self.next_ms = until_ms;
        if points < FEW_POINTS {
            self.length_ms = self.length_ms.saturating_mul(2);
        }
    }

    /// Whether the steps of an answer are those that windows were cut for. If not,
    /// they are cut for them from now on.
    fn agrees(&mut self, window: (i64, i64), answer: &Answer) -> bool {
        let Some(step_ms) = answer.step_ms else {
            return true;
        };
        let from_ms = answer.from_ms;
        let met = (window.1 - from_ms).rem_euclid(step_ms) == 0 || window.1 >= self.until_ms;
        (self.anchor_ms, self.step_ms) = (from_ms, step_ms);
        met
    }
}

/// Writes all windows of `plan`.
async fn write(
    words: &MetricsExport,
    mut plan: Plan,
    client: &Client,
    sink: &mut Sink<'_>,
    progress: &mut Progress,
    told: &mut Told,
) -> Result<usize, Trouble> {
    let begin_ms = plan.next_ms;
    let mut source = words.asked.source.clone();
    let mut turned_away = 0;
    let mut cut_anew = false;
    let mut points = 0_usize;
    while let Some(window) = plan.window() {
        let answer = match ask(&words.asked, &asked(words, window, source.clone()), client).await {
            Ok(answer) => answer,
            Err(trouble) if too_many(&trouble) && plan.halve(window) => continue,
            Err(trouble) if trouble.status() == Some(429) && turned_away < TURNS_AWAY => {
                turned_away += 1;
                tokio::time::sleep(wait(&trouble)).await;
                continue;
            }
            Err(trouble) => return Err(trouble),
        };
        turned_away = 0;
        if window.0 == begin_ms && !cut_anew && !plan.agrees(window, &answer) {
            cut_anew = true;
            continue;
        }
        source = Some(answer.source.clone());
        told.hear(&answer);
        // the first window may begin within a step, whose value stands before it
        let from_ms = if window.0 == begin_ms {
            i64::MIN
        } else {
            window.0
        };
        let rows = in_order(&answer.series, from_ms, window.1);
        points += rows.len();
        if points > 0 {
            sink.write(&rows)?;
        }
        plan.advance(window, rows.len());
        progress.tell(|| format!("{points} points, up to {}", shown_time(window.1)));
    }
    Ok(points)
}

fn asked(words: &MetricsExport, window: (i64, i64), source: Option<String>) -> Window {
    Window {
        from: shown_time(window.0),
        until: shown_time(window.1),
        step: Some(words.step.clone()),
        source,
        width: None,
    }
}

fn too_many(trouble: &Trouble) -> bool {
    let Trouble::Refused { problem, .. } = trouble else {
        return false;
    };
    let kind = problem.get("type").and_then(Value::as_str);
    kind.is_some_and(|kind| kind.ends_with("/too-many-points"))
}

fn wait(trouble: &Trouble) -> Duration {
    let seconds = match trouble {
        Trouble::Refused { problem, .. } => problem.get("retry_after").and_then(Value::as_u64),
        _ => None,
    };
    Duration::from_secs(seconds.unwrap_or(1).max(1)).min(LONGEST_WAIT)
}

/// What was measured from `from_ms` until before `until_ms`, in the order of time.
fn in_order(series: &[Series], from_ms: i64, until_ms: i64) -> Vec<(&Series, &Point)> {
    let within =
        |point: &&Point| point.value.is_some() && point.at_ms >= from_ms && point.at_ms < until_ms;
    let mut rows: Vec<_> = series
        .iter()
        .flat_map(|one| {
            one.points
                .iter()
                .filter(within)
                .map(move |point| (one, point))
        })
        .collect();
    // stable: series of one instant keep their order
    rows.sort_by_key(|(_, point)| point.at_ms);
    rows
}

/// What the daemon warned of: each text once.
#[derive(Default)]
struct Told {
    texts: BTreeSet<String>,
    count: usize,
    /// Why windows are empty: it is told if all are.
    notes: BTreeSet<String>,
}

impl Told {
    fn hear(&mut self, answer: &Answer) {
        if !answer.incomplete && answer.series.is_empty() {
            self.notes.extend(answer.warnings.iter().cloned());
            return;
        }
        for warning in &answer.warnings {
            self.count += usize::from(answer.incomplete);
            if self.texts.len() < WARNINGS_TOLD && self.texts.insert(warning.clone()) {
                talk(&format!("warning: {warning}"));
            }
        }
    }

    /// There is not one value.
    fn nothing(&self, words: &MetricsExport) -> Trouble {
        let why = match self.notes.is_empty() {
            true if self.count > 0 => "nothing of that time could be read".to_owned(),
            true => "nothing was measured in that time".to_owned(),
            false => self.notes.iter().cloned().collect::<Vec<_>>().join("\n"),
        };
        let file = match &words.file {
            Some(_) => "no file was written: ",
            None => "",
        };
        Trouble::Partly(format!("{file}{why}"))
    }

    fn verdict(&self) -> Result<(), Trouble> {
        match self.count {
            0 => Ok(()),
            count => Err(Trouble::Partly(format!(
                "all that there is was written, with {count} warnings: some of it may be missing"
            ))),
        }
    }
}

/// Where rows go, and as what.
struct Sink<'a> {
    format: TableFormat,
    to: To<'a>,
    begun: bool,
}

enum To<'a> {
    Output(&'a Output),
    Part(Part),
}

impl Sink<'_> {
    fn open<'a>(words: &MetricsExport, output: &'a Output) -> Result<Sink<'a>, Trouble> {
        /// As the umask wants it.
        const MODE: u32 = 0o666;
        let to = match &words.file {
            Some(file) => To::Part(Part::begin(file, MODE)?),
            None => To::Output(output),
        };
        Ok(Sink {
            format: words.format,
            to,
            begun: false,
        })
    }

    fn write(&mut self, rows: &[(&Series, &Point)]) -> Result<(), Trouble> {
        let mut text = String::new();
        if !self.begun && self.format == TableFormat::Csv {
            text.push_str(CSV_HEADER);
        }
        self.begun = true;
        for (series, point) in rows {
            match self.format {
                TableFormat::Csv => text.push_str(&csv_line(series, point)),
                TableFormat::Jsonl => {
                    text.push_str(&row(series, point).to_string());
                    text.push('\n');
                }
            }
        }
        match &mut self.to {
            To::Output(output) => output.raw(text.as_bytes()),
            To::Part(part) => part.write(text.as_bytes()),
        }
    }

    fn finish(self) -> Result<(), Trouble> {
        match self.to {
            To::Output(_) => Ok(()),
            To::Part(part) => part.finish(),
        }
    }

    /// What went wrong, for who has seen a part of it.
    fn torn(&self, trouble: Trouble) -> Trouble {
        match (&self.to, &trouble) {
            (_, Trouble::Closed) => trouble,
            (To::Output(_), _) if self.begun => {
                Trouble::Partly(format!("{trouble}\nwhat was printed is not all"))
            }
            (To::Output(_) | To::Part(_), _) => trouble,
        }
    }
}

const CSV_HEADER: &str = "time,device,metric,labels,value,broken\r\n";

fn csv_line(series: &Series, point: &Point) -> String {
    format!(
        "{},{},{},{},{},{}\r\n",
        shown_time(point.at_ms),
        field(series.device.as_deref().unwrap_or_default()),
        field(&series.metric),
        field(&prometheus(&series.labels)),
        point.value.map(figure).unwrap_or_default(),
        if point.broken { "true" } else { "" },
    )
}

/// A number with all of its digits.
fn figure(value: f64) -> String {
    match value.is_infinite() {
        true => if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
        false => value.to_string(),
    }
}

/// A text of somebody else's as a field (RFC 4180), harmless in a terminal and in
/// a spreadsheet, which takes what begins so for a formula.
fn field(text: &str) -> String {
    let text = safe(text);
    let text = match text.starts_with(['=', '+', '-', '@']) {
        true => format!("'{text}"),
        false => text,
    };
    match text.contains([',', '"']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const HOUR_MS: i64 = 3_600_000;

    fn plan(from_ms: i64, until_ms: i64, step_ms: i64) -> Plan {
        Plan {
            next_ms: from_ms,
            until_ms,
            length_ms: FIRST_WINDOW_MS.max(step_ms),
            anchor_ms: 0,
            step_ms,
        }
    }

    #[test]
    fn windows_follow_each_other_without_a_gap_and_meet_where_steps_meet() {
        for (step_ms, points) in [
            (1, 0),
            (HOUR_MS, 0),
            (7 * HOUR_MS, 60_000),
            (100 * HOUR_MS, 9),
        ] {
            let (from_ms, until_ms) = (HOUR_MS / 3, 1_000 * HOUR_MS + 5);
            let mut plan = plan(from_ms, until_ms, step_ms);
            let mut reached_ms = from_ms;
            while let Some(window) = plan.window() {
                assert_eq!(window.0, reached_ms);
                assert!(window.1 > window.0);
                assert!(
                    window.1 == until_ms || window.1 % step_ms == 0,
                    "{window:?}"
                );
                reached_ms = window.1;
                plan.advance(window, points);
            }
            assert_eq!(reached_ms, until_ms);
        }
    }

    #[test]
    fn a_window_with_too_many_points_is_halved_until_it_cannot_be() {
        for (step_ms, shortest_ms) in [(1, SHORTEST_WINDOW_MS), (HOUR_MS, HOUR_MS)] {
            let mut plan = plan(0, 365 * 24 * HOUR_MS, step_ms);
            let mut window = plan.window().unwrap();
            while plan.halve(window) {
                let shorter = plan.window().unwrap();
                assert!(shorter.1 < window.1, "{window:?}");
                window = shorter;
            }
            assert_eq!(window.1, shortest_ms);
        }
    }

    #[test]
    fn a_window_with_few_points_is_followed_by_a_longer_one() {
        let mut plan = plan(0, 365 * 24 * HOUR_MS, 1);
        let first = plan.window().unwrap();
        plan.advance(first, FEW_POINTS - 1);
        let second = plan.window().unwrap();
        assert_eq!(second.1 - second.0, 2 * FIRST_WINDOW_MS);
        plan.advance(second, FEW_POINTS);
        let third = plan.window().unwrap();
        assert_eq!(third.1 - third.0, 2 * FIRST_WINDOW_MS);
    }

    #[test]
    fn no_window_has_more_steps_than_an_answer() {
        let mut plan = plan(0, i64::MAX / 2, 1_000);
        for _ in 0..20 {
            let window = plan.window().unwrap();
            assert!((window.1 - window.0) / 1_000 <= MOST_STEPS, "{window:?}");
            plan.advance(window, 0);
        }
    }

    fn series(device: &str, points: &[(i64, f64)]) -> Series {
        let point = |(at_ms, value): &(i64, f64)| Point {
            at_ms: *at_ms,
            value: Some(*value),
            broken: false,
        };
        Series {
            device: Some(device.to_owned()),
            metric: "m".to_owned(),
            labels: BTreeMap::new(),
            unit: String::new(),
            points: points.iter().map(point).collect(),
        }
    }

    #[test]
    fn rows_stand_in_the_order_of_time_and_those_of_another_window_are_left_to_it() {
        let all = [
            series("a", &[(9, 0.0), (10, 1.0), (30, 2.0)]),
            series("b", &[(10, 3.0), (20, 4.0), (40, 5.0)]),
        ];
        let rows = in_order(&all, 10, 40);
        let rows: Vec<_> = rows.iter().map(|(_, point)| point.value.unwrap()).collect();
        assert_eq!(rows, [1.0, 3.0, 4.0, 2.0]);
    }

    #[test]
    fn a_text_is_neither_a_formula_nor_the_end_of_its_field() {
        assert_eq!(field("core1"), "core1");
        assert_eq!(field("=HYPERLINK(\"x\")"), "\"'=HYPERLINK(\"\"x\"\")\"");
        for text in ["+1", "-1", "@x", "=1", "\t=1", "\u{1b}=1"] {
            assert!(field(text).starts_with(['\'', ' ']), "{text:?}");
        }
        assert_eq!(field("a,b\u{1b}[2J"), "\"a,b[2J\"");
    }

    #[test]
    fn a_line_has_the_labels_in_one_field_and_every_digit_of_the_value() {
        let mut one = series("core1", &[]);
        one.labels.insert("ifName".into(), "Gi0/1".into());
        let line = |value: f64, broken: bool| {
            let point = Point {
                at_ms: 1_500,
                value: Some(value),
                broken,
            };
            csv_line(&one, &point)
        };
        assert_eq!(
            line(-0.1, true),
            "1970-01-01T00:00:01.500Z,core1,m,\"{ifName=\"\"Gi0/1\"\"}\",-0.1,true\r\n"
        );
        assert!(line(18_446_744_073_709_551_615.0, false).contains(",18446744073709552000,\r\n"));
        assert!(line(f64::INFINITY, false).contains(",+Inf,"));
    }
}
