//! What time it is between two calls that say so.

use std::sync::{Mutex, PoisonError};

use model::Timestamp;
use tokio::time::Instant;

/// The last instant that a caller gave, and how long ago that was.
#[derive(Debug)]
pub(crate) struct Clock(Mutex<(Timestamp, Instant)>);

impl Clock {
    pub(crate) fn new(now: Timestamp) -> Clock {
        Clock(Mutex::new((now, Instant::now())))
    }

    pub(crate) fn set(&self, now: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (now, Instant::now());
    }

    pub(crate) fn now(&self) -> Timestamp {
        let (given, at) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        given.plus(at.elapsed())
    }
}
