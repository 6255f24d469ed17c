//! A span of time in which a daemon is watched.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use harness::{Daemon, Folder, Process};
use model::Timestamp;

use crate::fleet::{now, pause_until};
use crate::report::{load_average, say};
use crate::scrape::{Polls, Scrape};

/// Between two looks at how late polls are. A look costs the daemon less than a
/// millisecond.
const LOOK: Duration = Duration::from_secs(5);

/// What was seen of a daemon from one instant to another.
pub(crate) struct Window {
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
    pub(crate) seconds: f64,
    /// Processor time of the daemon, in seconds.
    pub(crate) cpu: f64,
    /// The same by thread name.
    pub(crate) threads: Threads,
    /// The load average at its end.
    pub(crate) load: f64,
    pub(crate) before: Scrape,
    pub(crate) after: Scrape,
    /// The longest that a poll was seen to be due.
    pub(crate) lag_max: f64,
}

impl Window {
    /// Watches for `span`.
    pub(crate) fn watch(daemon: &Daemon, folder: &Folder, span: Duration) -> Window {
        say(&format!("   watching for {} s", span.as_secs()));
        let process = daemon.process();
        let before = Scrape::of(&folder.socket());
        let threads = Threads::of(process);
        let (from, began, cpu) = (now(), Instant::now(), process.cpu_seconds());
        let mut lag_max: f64 = 0.0;
        let mut look = began + LOOK;
        while look < began + span {
            pause_until(look);
            lag_max = lag_max.max(Scrape::of(&folder.socket()).one("sotp_poll_lag_seconds"));
            look += LOOK;
        }
        pause_until(began + span);
        let (until, seconds) = (now(), began.elapsed().as_secs_f64());
        let cpu = process.cpu_seconds() - cpu;
        let threads = Threads::of(process).since(&threads);
        say(&format!("   processor time by thread: {threads}"));
        Window {
            from,
            until,
            seconds,
            cpu,
            threads,
            load: load_average(),
            before,
            after: Scrape::of(&folder.socket()),
            lag_max,
        }
    }

    /// The polls of one check in it.
    pub(crate) fn polls(&self, check: &str) -> Polls {
        Polls::between(&self.before, &self.after, check)
    }
}

/// Processor time by thread name: where to look if a bar does not hold.
pub(crate) struct Threads(BTreeMap<String, Duration>);

impl Threads {
    /// Since each of them began (proc(5), schedstat).
    pub(crate) fn of(process: &Process) -> Threads {
        let mut used: BTreeMap<String, Duration> = BTreeMap::new();
        let threads = std::fs::read_dir(format!("/proc/{}/task", process.id()));
        for thread in threads.into_iter().flatten().flatten() {
            let read = |file| std::fs::read_to_string(thread.path().join(file)).ok();
            let (Some(name), Some(stat)) = (read("comm"), read("schedstat")) else {
                continue; // it has ended
            };
            let first = stat.split_whitespace().next();
            let nanoseconds = first.and_then(|first| first.parse().ok()).unwrap_or(0);
            *used.entry(name.trim_end().to_owned()).or_default() +=
                Duration::from_nanos(nanoseconds);
        }
        Threads(used)
    }

    /// What was used since an earlier look.
    pub(crate) fn since(&self, earlier: &Threads) -> Threads {
        let used = self.0.iter().map(|(name, used)| {
            let before = earlier.0.get(name).copied().unwrap_or_default();
            (name.clone(), used.saturating_sub(before))
        });
        Threads(used.collect())
    }

    /// Seconds of the threads called `name`; NaN if there is none.
    pub(crate) fn seconds(&self, name: &str) -> f64 {
        self.0.get(name).map_or(f64::NAN, Duration::as_secs_f64)
    }
}

impl fmt::Display for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, used)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {:.2} s", used.as_secs_f64())?;
        }
        Ok(())
    }
}
