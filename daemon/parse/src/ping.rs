//! Reading a round of echo requests.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use model::{
    Breaks, Check, Columns, DeviceId, Failure, FailureKind, GroupKey, Outcome, PingAnswer,
    PollReport, PollRow, Probe,
};

use crate::layout::series;

/// What a round measures, in the order of the columns.
const METRICS: [&str; 6] = [
    "icmp_up",
    "icmp_rtt_seconds",
    "icmp_rtt_min_seconds",
    "icmp_rtt_max_seconds",
    "icmp_jitter_seconds",
    "icmp_loss_ratio",
];

/// The columns of a round: one set for all devices.
pub(crate) fn columns() -> Arc<Columns> {
    static COLUMNS: OnceLock<Arc<Columns>> = OnceLock::new();
    Arc::clone(COLUMNS.get_or_init(|| {
        let none = Arc::default();
        let all = METRICS.iter().map(|metric| series(metric, &none));
        Arc::new(Columns::new(all.collect()))
    }))
}

/// The values of a device that did not answer and of which nothing else is
/// known.
pub(crate) fn silent_values() -> Arc<[f64]> {
    let mut values = [f64::NAN; METRICS.len()];
    values[0] = 0.0;
    Arc::new(values)
}

/// Reads a round of echo requests to `device`, which took `took`.
///
/// A value that was not measured is NaN: there is no round-trip time without
/// an answer and no jitter without two. A round that sent nothing claims
/// nothing.
#[must_use]
pub fn ping(device: DeviceId, answer: &PingAnswer, took: Duration) -> PollReport {
    let group = GroupKey {
        device,
        check: Check::Icmp,
    };
    let row = (!answer.probes.is_empty()).then(|| PollRow {
        group,
        at: answer.at,
        columns: columns(),
        values: Arc::new(values(&answer.probes)),
        breaks: Breaks::None,
    });
    let outcome = Outcome {
        at: answer.at,
        took,
        failure: failure(answer),
        partial: Vec::new(),
    };
    PollReport {
        group,
        outcome,
        row,
        facts: None,
    }
}

/// In the order of [`METRICS`].
fn values(probes: &[Probe]) -> [f64; METRICS.len()] {
    let times: Vec<f64> = probes
        .iter()
        .filter_map(|probe| match probe {
            Probe::Answered(time) => Some(time.as_secs_f64()),
            Probe::TimedOut | Probe::Unreachable => None,
        })
        .collect();
    let lost = probes.len() - times.len();
    [
        if times.is_empty() { 0.0 } else { 1.0 },
        mean(times.iter().copied()),
        times.iter().copied().fold(f64::NAN, f64::min),
        times.iter().copied().fold(f64::NAN, f64::max),
        mean(times.windows(2).map(|pair| (pair[1] - pair[0]).abs())),
        ratio(lost, probes.len()),
    ]
}

/// NaN of nothing.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a round has at most thousands of probes"
)]
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

/// Why nothing was answered; `None` if something was.
fn failure(answer: &PingAnswer) -> Option<Failure> {
    let target = answer.target;
    let sent = answer.probes.len();
    let count = |fate: fn(&Probe) -> bool| answer.probes.iter().filter(|p| fate(p)).count();
    if count(|p| matches!(p, Probe::Answered(_))) > 0 {
        return None;
    }
    let unreachable = count(|p| *p == Probe::Unreachable);
    let (kind, text) = if sent == 0 {
        let text = format!("no echo request could be sent to {target}");
        (FailureKind::Local, text)
    } else if unreachable == 0 {
        let text = format!("{target} answered none of {sent} echo requests");
        (FailureKind::Timeout, text)
    } else {
        let text = format!(
            "{target} is unreachable: {unreachable} of {sent} echo requests were refused on the \
             way, none was answered"
        );
        (FailureKind::Unreachable, text)
    };
    Some(Failure { kind, text })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use model::Timestamp;

    use super::*;

    const LOST: Probe = Probe::TimedOut;
    const REFUSED: Probe = Probe::Unreachable;

    fn answered(ms: u64) -> Probe {
        Probe::Answered(Duration::from_millis(ms))
    }

    fn round(probes: &[Probe]) -> PollReport {
        let answer = PingAnswer {
            at: Timestamp(1000),
            target: IpAddr::V4(Ipv4Addr::LOCALHOST),
            probes: probes.to_vec(),
        };
        ping(DeviceId(7), &answer, Duration::from_millis(12))
    }

    /// "-" stands for not measured.
    #[track_caller]
    fn measures(probes: &[Probe], expected: &str) {
        let values = round(probes).row.unwrap().values;
        let shown: Vec<String> = values
            .iter()
            .map(|v| {
                if v.is_nan() {
                    "-".to_owned()
                } else {
                    format!("{v:.3}")
                }
            })
            .collect();
        assert_eq!(shown.join(" "), expected);
    }

    #[track_caller]
    fn fails(probes: &[Probe], kind: FailureKind, text: &str) {
        let failure = round(probes).outcome.failure.unwrap();
        assert_eq!((failure.kind, failure.text.as_str()), (kind, text));
    }

    #[test]
    fn a_round_gives_mean_least_most_jitter_and_loss() {
        measures(
            &[answered(10), answered(30), LOST, answered(20)],
            "1.000 0.020 0.010 0.030 0.015 0.250",
        );
        assert_eq!(round(&[answered(1), LOST]).outcome.failure, None);
    }

    #[test]
    fn one_answer_has_no_jitter() {
        measures(&[LOST, answered(8)], "1.000 0.008 0.008 0.008 - 0.500");
    }

    #[test]
    fn silence_has_no_round_trip_time() {
        measures(&[LOST, LOST], "0.000 - - - - 1.000");
        measures(&[REFUSED], "0.000 - - - - 1.000");
    }

    #[test]
    fn silence_and_a_refusal_are_different_failures() {
        use FailureKind::{Timeout, Unreachable};
        let text = "127.0.0.1 answered none of 5 echo requests";
        fails(&[LOST; 5], Timeout, text);
        let text = "127.0.0.1 is unreachable: 2 of 2 echo requests were refused on the way, none \
                    was answered";
        fails(&[REFUSED; 2], Unreachable, text);
        let text = "127.0.0.1 is unreachable: 1 of 3 echo requests were refused on the way, none \
                    was answered";
        fails(&[REFUSED, LOST, LOST], Unreachable, text);
    }

    #[test]
    fn a_round_that_sent_nothing_claims_nothing() {
        let report = round(&[]);
        assert!(report.row.is_none());
        assert_eq!(report.outcome.device_answered(), None);
        fails(
            &[],
            FailureKind::Local,
            "no echo request could be sent to 127.0.0.1",
        );
    }

    #[test]
    fn all_devices_share_one_set_of_columns() {
        let first = round(&[answered(1)]).row.unwrap();
        let second = round(&[LOST]).row.unwrap();
        assert!(Arc::ptr_eq(&first.columns, &second.columns));
        assert_eq!(first.columns.find("icmp_loss_ratio"), Some(5));
    }
}
