//! Where log lines go: to the journal with their fields if systemd started us,
//! else to standard error as text.
//!
//! A panic anywhere becomes a log line. Device text is made safe where it is
//! read (`parse::safe_text`); the text layer here escapes control characters a
//! second time, so that no field can move the cursor of a terminal.

use std::os::linux::fs::MetadataExt;

use tracing::error;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

/// Changes the level while running.
pub(crate) struct LogLevel(reload::Handle<LevelFilter, Registry>);

impl LogLevel {
    /// From now on, lines at `level` and above are logged.
    pub(crate) fn set(&self, level: LevelFilter) {
        if let Err(error) = self.0.modify(|filter| *filter = level) {
            error!(%error, "cannot change the log level");
        }
    }
}

/// Starts logging at `level`, and makes panics log lines.
pub(crate) fn start(level: LevelFilter) -> LogLevel {
    let (filter, handle) = reload::Layer::new(level);
    let registry = tracing_subscriber::registry().with(filter);
    match journal_layer() {
        Some(journal) => registry.with(journal).init(),
        None => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(std::io::stderr)
                    .with_ansi(false)
                    .with_target(false),
            )
            .init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let what = panic.payload_as_str().unwrap_or("no message");
        error!(
            place,
            what, "panic: this is a defect in sotpd, please report it"
        );
    }));
    LogLevel(handle)
}

fn journal_layer() -> Option<
    impl Layer<tracing_subscriber::layer::Layered<reload::Layer<LevelFilter, Registry>, Registry>>,
> {
    if !stderr_is_the_journal() {
        return None;
    }
    tracing_journald::layer()
        .map(|layer| {
            layer
                .with_syslog_identifier("sotpd".into())
                .with_field_prefix(None)
        })
        .ok()
}

/// systemd names the device and inode of the journal's stream in
/// `JOURNAL_STREAM`; they are compared because a child with its output elsewhere
/// inherits the variable too (systemd.exec(5)).
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else {
        return false;
    };
    stream == format!("{}:{}", stderr.st_dev(), stderr.st_ino())
}
