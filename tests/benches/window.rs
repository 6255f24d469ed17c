//! A span of time in which a daemon is watched.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use harness::{Daemon, Folder};
use model::Timestamp;

use crate::fleet::{now, pause_until};
use crate::report::say;
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
    pub(crate) before: Scrape,
    pub(crate) after: Scrape,
    /// The longest that a poll was seen to be due.
    pub(crate) lag_max: f64,
}

impl Window {
    /// Watches for `span`.
    pub(crate) fn watch(daemon: &Daemon, folder: &Folder, span: Duration) -> Window {
        let process = daemon.process();
        let before = Scrape::of(&folder.socket());
        let threads = cpu_by_thread(process.id());
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
        say_threads(&threads, &cpu_by_thread(process.id()));
        Window {
            from,
            until,
            seconds,
            cpu,
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

/// Ticks of processor time by thread name (proc(5)).
fn cpu_by_thread(process: u32) -> BTreeMap<String, u64> {
    let mut ticks = BTreeMap::new();
    let threads = std::fs::read_dir(format!("/proc/{process}/task"));
    for thread in threads.into_iter().flatten().flatten() {
        let Ok(stat) = std::fs::read_to_string(thread.path().join("stat")) else {
            continue; // it has ended
        };
        let Some((name, fields)) = stat.rsplit_once(") ") else {
            continue;
        };
        let name = name.split_once('(').map_or("", |(_, name)| name);
        let fields = fields.split_whitespace().skip(11).take(2);
        let used: u64 = fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        *ticks.entry(name.to_owned()).or_default() += used;
    }
    ticks
}

/// Says which threads the time went to: where to look if a bar does not hold.
fn say_threads(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) {
    let used = after.iter().map(|(name, ticks)| {
        let earlier = before.get(name).copied().unwrap_or(0);
        format!("{name} {}", ticks.saturating_sub(earlier))
    });
    let used: Vec<String> = used.collect();
    say(&format!("   clock ticks by thread: {}", used.join(", ")));
}
