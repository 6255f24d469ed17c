//! What the parts have in common: a daemon as it is shipped, and its devices.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use harness::{Daemon, Folder, Namespace};
use model::Timestamp;
use serde_json::json;

/// The credential of the simulated agents.
pub(crate) const CREDENTIAL: &str = "public";

/// A network of our own.
///
/// # Panics
///
/// Where this machine refuses one: nothing can be measured there.
pub(crate) fn namespace() -> Namespace {
    Namespace::new().expect("this machine lets us make a network namespace")
}

/// A folder with these settings and the rules that are shipped.
pub(crate) fn folder(settings: &str) -> Folder {
    let folder = Folder::new();
    folder.write_settings("", settings);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc/rules");
    for file in std::fs::read_dir(shipped).expect("the rules that are shipped") {
        let file = file.expect("a readable folder");
        let copy = folder.path().join("rules").join(file.file_name());
        std::fs::copy(file.path(), copy).expect("writable");
    }
    folder
}

/// Enters all devices of `csv`, and the credential that they may name.
///
/// # Panics
///
/// If a line is refused.
pub(crate) fn import(daemon: &Daemon, csv: &str) {
    let credential = json!({"kind": "snmp-v2c", "community": "public"});
    let path = format!("/api/v1/credentials/{CREDENTIAL}");
    daemon.ask("PUT", &path, Some(&credential));
    let body = Some(("text/csv", csv.as_bytes()));
    let report = daemon
        .try_request("POST", "/api/v1/devices/import", body)
        .expect("sotpd answers");
    assert_eq!(report.body["failed"], 0, "{}", report.body);
    let lines = csv.lines().count() - 1;
    assert_eq!(report.body["created"], lines, "not every line went in");
}

/// The values of the columns called `names` in each line of a simulated site's
/// CSV, which has no quotes.
pub(crate) fn columns<const N: usize>(csv: &str, names: [&str; N]) -> Vec<[String; N]> {
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().expect("a table has a header");
    let places = names.map(|name| {
        let place = header.iter().position(|column| *column == name);
        place.unwrap_or_else(|| panic!("the table has no column {name}"))
    });
    lines
        .map(|line| places.map(|place| line[place].to_owned()))
        .collect()
}

/// Lets time go by: this is a measurement over a span, not a wait for a state.
pub(crate) fn pause_until(end: Instant) {
    while let Some(left) = end.checked_duration_since(Instant::now())
        && !left.is_zero()
    {
        std::thread::park_timeout(left);
    }
}

/// Lets `span` go by.
pub(crate) fn pause(span: Duration) {
    pause_until(Instant::now() + span);
}

/// What the daemon's clock says too.
#[expect(
    clippy::disallowed_methods,
    reason = "it is compared with timestamps that another process took"
)]
pub(crate) fn now() -> Timestamp {
    let since_1970 = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("the clock is past 1970");
    Timestamp::default().plus(since_1970)
}

/// A count as a number to calculate with.
#[expect(
    clippy::cast_precision_loss,
    reason = "nothing here is counted to 2^53"
)]
pub(crate) fn number(count: usize) -> f64 {
    count as f64
}

/// The median; NaN of nothing.
pub(crate) fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

/// The value that the share `q` of `values` is not above; NaN of nothing.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is a place in the list"
)]
pub(crate) fn quantile(mut values: Vec<f64>, q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (number(values.len()) * q).ceil() as usize;
    values.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}
