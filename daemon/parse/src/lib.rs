//! Reading: answers become rows of values, facts and outcomes.
//!
//! Pure: no I/O, no clock, no async. What a collector brought back goes in
//! with what was known before; a [`PollReport`] comes out. Nothing that a
//! device sends can make this panic, take unbounded memory or pass as text
//! that is not safe to show.
//!
//! Three promises keep counters from lying:
//!
//! - an interface is known by its name, never by its ifIndex alone
//!   (`interfaces`);
//! - a counter that does not go on from the row before, because the device
//!   restarted, its counters were cleared or another interface took its name,
//!   is marked so, and a step that the interface cannot have carried is marked
//!   as well (`breaks`): a gap is true where a spike would be a lie;
//! - what was not measured is NaN, never 0.
//!
//! What plugins read stands behind that in the same row (`plugins`), and what
//! they are to read is laid out as tables here (`pivot`).

mod breaks;
mod host;
mod interfaces;
mod layout;
mod ping;
mod pivot;
mod plan;
mod plugins;
mod snmp;
mod system;
mod text;
mod value;
mod vendor;

use std::time::Duration;

use model::{Breaks, Check, Failure, GroupKey, Outcome, PollReport, PollRow, Timestamp};

pub use interfaces::MAX_INTERFACES;
pub use ping::ping;
pub use pivot::{NoTable, PivotColumn, Pivoted, pivot, pivot_table};
pub use plan::snmp_plan;
pub use plugins::{MAX_PLUGIN_COLUMNS, PluginPart, WithPlugins, with_plugins};
pub use snmp::snmp;
pub use text::safe_text;

/// The report of a poll without any answer.
///
/// If the failure is about the device, the row says that it is not up and
/// nothing else; if we could not ask, there is no row.
#[must_use]
pub fn failed(group: GroupKey, at: Timestamp, took: Duration, failure: Failure) -> PollReport {
    let (columns, values) = match group.check {
        Check::Icmp => (ping::columns(), ping::silent_values()),
        Check::Snmp => (snmp::silent_columns(), snmp::silent_values()),
    };
    let row = failure.kind.is_about_the_device().then_some(PollRow {
        group,
        at,
        columns,
        values,
        breaks: Breaks::None,
    });
    let outcome = Outcome {
        at,
        took,
        failure: Some(failure),
        partial: Vec::new(),
    };
    PollReport {
        group,
        outcome,
        row,
        facts: None,
    }
}

#[cfg(test)]
mod tests {
    use model::{DeviceId, FailureKind};

    use super::*;

    fn report(check: Check, kind: FailureKind) -> PollReport {
        let group = GroupKey {
            device: DeviceId(7),
            check,
        };
        let failure = Failure {
            kind,
            text: "no answer".to_owned(),
        };
        failed(group, Timestamp(5), Duration::from_secs(6), failure)
    }

    #[test]
    fn a_device_that_does_not_answer_is_not_up_and_nothing_else_is_claimed() {
        for (check, metric) in [(Check::Icmp, "icmp_up"), (Check::Snmp, "snmp_up")] {
            let report = report(check, FailureKind::Timeout);
            let row = report.row.unwrap();
            let up = row.columns.find(metric).unwrap();
            assert_eq!(row.columns.series().len(), row.values.len());
            for (column, value) in row.values.iter().enumerate() {
                assert_eq!(value.to_bits() == 0, column == up, "{metric}: {value}");
                assert!(column == up || value.is_nan());
            }
        }
    }

    #[test]
    fn trouble_on_our_side_leaves_no_row() {
        for kind in [
            FailureKind::Permission,
            FailureKind::Resolution,
            FailureKind::Local,
        ] {
            let report = report(Check::Snmp, kind);
            assert!(report.row.is_none());
            assert_eq!(report.outcome.failure.unwrap().text, "no answer");
        }
    }
}
