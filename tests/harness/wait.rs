//! Waiting for a state, with a bound.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Looks until `look` gives something, for at most `seconds`.
///
/// # Panics
///
/// When time runs out, saying what was waited for and what `look` saw last.
#[track_caller]
pub fn eventually<T, S: Debug>(
    seconds: u64,
    what: &str,
    mut look: impl FnMut() -> Result<T, S>,
) -> T {
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(last) if Instant::now() >= until => {
                panic!("{what}: not within {seconds} s; last seen: {last:?}")
            }
            Err(_) => pause(LOOK),
        }
    }
}

/// Looks until `look` is true, for at most `seconds`.
///
/// # Panics
///
/// When time runs out.
#[track_caller]
pub fn eventually_true(seconds: u64, what: &str, mut look: impl FnMut() -> bool) {
    eventually(seconds, what, || if look() { Ok(()) } else { Err(()) });
}

/// Lets `span` go by: the pause between two looks at another process.
pub(crate) fn pause(span: Duration) {
    std::thread::park_timeout(span);
}
