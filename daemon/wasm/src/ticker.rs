//! The clock hand that lets running guests look at their time.
//!
//! It moves only while calls run: a daemon without plugins is never woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use wasmtime::Engine;

/// How often a guest looks at its time, and so how much longer than allowed it
/// may run.
const TICK: Duration = Duration::from_millis(2);
/// Ticks without a call until the hand rests: the next call wakes it. Few, as
/// most daemons call a plugin now and then; more than one, as under load there
/// is a call at nearly every tick and waking costs more than ticking.
const RESTLESS: u32 = 3;

#[derive(Debug, Default)]
struct Shared {
    calls: AtomicUsize,
    rests: AtomicBool,
    ends: AtomicBool,
}

/// Moves an engine's epoch.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    waker: Thread,
}

/// A call that runs.
pub(crate) struct Busy<'a>(&'a Ticker);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.shared.calls.fetch_sub(1, Ordering::Release);
    }
}

impl Ticker {
    pub(crate) fn start(engine: Engine) -> std::io::Result<Ticker> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new()
            .name("plugin-ticks".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || tick(&engine, &shared)
            })?;
        Ok(Ticker {
            shared,
            waker: thread.thread().clone(),
            thread: Some(thread),
        })
    }

    /// The hand moves until this is dropped.
    pub(crate) fn busy(&self) -> Busy<'_> {
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        if self.shared.rests.load(Ordering::SeqCst) {
            self.waker.unpark();
        }
        Busy(self)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        self.waker.unpark();
        if let Some(thread) = self.thread.take() {
            // it has nothing to say, and it cannot panic
            let _ = thread.join();
        }
    }
}

fn tick(engine: &Engine, shared: &Shared) {
    let mut idle = 0;
    while !shared.ends.load(Ordering::SeqCst) {
        std::thread::park_timeout(TICK);
        engine.increment_epoch();
        if shared.calls.load(Ordering::SeqCst) > 0 {
            idle = 0;
            continue;
        }
        idle += 1;
        if idle < RESTLESS {
            continue;
        }
        shared.rests.store(true, Ordering::SeqCst);
        // who came between the two looks saw no rest and wakes nobody
        while shared.calls.load(Ordering::SeqCst) == 0 && !shared.ends.load(Ordering::SeqCst) {
            std::thread::park();
        }
        shared.rests.store(false, Ordering::SeqCst);
        idle = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn wait_for(what: &str, is_so: impl Fn() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < Duration::from_secs(10), "not {what}");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    #[test]
    fn the_hand_rests_without_calls_and_moves_again_with_one() {
        let ticker = Ticker::start(Engine::default()).unwrap();
        let rests = || ticker.shared.rests.load(Ordering::SeqCst);
        for _ in 0..20 {
            wait_for("at rest", rests);
            let running = ticker.busy();
            wait_for("moving", || !rests());
            drop(running);
        }
    }
}
