//! The lock around the state, who sleeps on it, and the log's thread.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::NotDurable;
use super::state::{Asleep, State, Task};
use super::writer::Writer;

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// The thread waits here.
    work: Condvar,
    /// Everybody else does.
    done: Condvar,
}

impl Shared {
    pub(super) fn new(state: State) -> Shared {
        Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            done: Condvar::new(),
        }
    }

    /// A panic in someone's `write` leaves the state whole.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the thread if what was changed concerns it.
    pub(super) fn wake(&self, state: &mut State) {
        let wakes = match state.asleep {
            Asleep::Not => false,
            Asleep::UntilSomethingHurries => state.hurries(),
            Asleep::UntilSomethingComes => state.has_something() || state.hurries(),
        };
        if wakes {
            state.asleep = Asleep::Not;
            self.work.notify_one();
        }
    }

    /// Waits until the thread did something.
    pub(super) fn wait<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.waiting += 1;
        let mut state = self
            .done
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state
    }

    fn tell(&self, state: &State) {
        if state.waiting > 0 {
            self.done.notify_all();
        }
    }

    fn next_task(&self) -> Task {
        let mut state = self.lock();
        loop {
            match state.next_task(Instant::now()) {
                Task::Sleep(until) => state = self.sleep(state, until),
                task => return task,
            }
        }
    }

    fn sleep<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        // a time to sync is no time to write: what comes has to be noted
        state.asleep = if state.has_something() {
            Asleep::UntilSomethingHurries
        } else {
            Asleep::UntilSomethingComes
        };
        let mut state = match until {
            None => self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let time = until.saturating_duration_since(Instant::now());
                let woken = self.work.wait_timeout(state, time);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.asleep = Asleep::Not;
        state
    }
}

/// Tells everybody when the thread is gone, also if it panicked.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.end();
        self.0.tell(&state);
    }
}

/// The thread: until the log is closed.
pub(super) fn run(shared: &Arc<Shared>, mut writer: Writer) {
    let _ending = Ending(shared);
    let mut numbers = || shared.lock().next_number();
    loop {
        match shared.next_task() {
            Task::Sleep(_) => {}
            Task::Store { chunks, sync } => {
                let outcome = writer.store(chunks, sync, &mut numbers);
                stored(shared, &mut writer, outcome);
            }
            Task::Resume { asked, rotation } => {
                let outcome = writer.begin_again(rotation, &mut numbers);
                resumed(shared, &mut writer, asked, outcome);
            }
            Task::End(chunks) => {
                let outcome = writer.store(chunks, true, &mut numbers);
                stored(shared, &mut writer, outcome);
                return;
            }
        }
    }
}

fn stored(shared: &Shared, writer: &mut Writer, outcome: io::Result<()>) {
    let progress = writer.progress();
    let outcome = outcome.map_err(|error| not_durable(&error));
    if let Err(why) = &outcome {
        tracing::error!(error = %why, "the log is suspended: nothing is stored durably");
    }
    let mut state = shared.lock();
    state.stored(progress, outcome);
    shared.tell(&state);
}

fn resumed(shared: &Shared, writer: &mut Writer, asked: u64, outcome: io::Result<()>) {
    let progress = writer.progress();
    if outcome.is_ok() {
        tracing::info!("the log is written again");
    }
    let mut state = shared.lock();
    state.stored(progress, Ok(()));
    state.tried_resume(asked, outcome.map_err(|error| not_durable(&error)));
    shared.tell(&state);
}

pub(super) fn not_durable(error: &io::Error) -> NotDurable {
    let kind = error.kind();
    NotDurable {
        why: error.to_string(),
        full: matches!(
            kind,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ),
    }
}
