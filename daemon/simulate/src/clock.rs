//! The one place of the simulator that asks what time it is.

use std::time::{Instant, SystemTime};

use model::Timestamp;

/// The wall clock as it was at the start, and steady from then on: a device's
/// counters must not fall because somebody sets the machine's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_at: Timestamp,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the one place that may ask")]
    pub(crate) fn start() -> Clock {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let ms = since_1970.map_or(0, |since| since.as_millis());
        Clock {
            started: Instant::now(),
            started_at: Timestamp(u64::try_from(ms).unwrap_or(u64::MAX)),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.started_at.plus(self.started.elapsed())
    }
}
