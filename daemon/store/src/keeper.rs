//! The thread that looks after the samples: it cuts, compacts and removes what
//! is too old, and tries a log that was suspended. It removes packages of plugins
//! that nobody needs, too.
//!
//! The samples change the catalog, for which it waits for the writer; so the
//! writer asks for it here and goes on.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ::samples::{CatalogError, NotDurable};

use crate::disk;
use crate::error::{Fault, WriterEnd};
use crate::shared::Shared;

/// How often the keeper looks for what is due.
const EVERY: Duration = Duration::from_secs(1);

/// The same trouble is told in the log at most this often.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// How often packages of plugins are looked for that nobody needs.
const TIDY_EVERY: Duration = Duration::from_secs(600);

/// How the writer and the keeper talk.
#[derive(Default)]
pub(crate) struct Keeper {
    state: Mutex<State>,
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    stopping: bool,
    over: bool,
    /// The log is to be tried.
    asked: bool,
    /// How that went.
    tried: Option<Result<(), NotDurable>>,
}

impl Keeper {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins.
    pub(crate) fn start(shared: &Arc<Shared>) -> std::io::Result<()> {
        let own = shared.clone();
        let thread = std::thread::Builder::new()
            .name("store-keeper".to_owned())
            .spawn(move || run(&own))?;
        *shared.keeper.thread() = Some(thread);
        Ok(())
    }

    /// Asks for a try of the log that is suspended; see
    /// [`Keeper::take_tried`].
    pub(crate) fn try_log(&self) {
        self.state().asked = true;
        self.changed.notify_all();
    }

    /// How the try went, once it is over.
    pub(crate) fn take_tried(&self) -> Option<Result<(), NotDurable>> {
        self.state().tried.take()
    }

    /// Asks it to end soon.
    pub(crate) fn stop(&self) {
        self.state().stopping = true;
        self.changed.notify_all();
    }

    /// Whether it has ended, or was never begun.
    pub(crate) fn is_over(&self) -> bool {
        self.thread().is_none() || self.state().over
    }

    /// Waits for its end.
    pub(crate) fn join(&self) {
        let thread = self.thread().take();
        if let Some(thread) = thread {
            // it catches its panics itself
            let _ = thread.join();
        }
    }

    /// Waits until something is to be done; whether that is trying the log.
    /// `None`: the end.
    fn next(&self, patience: Duration) -> Option<bool> {
        let idle = |state: &mut State| !state.stopping && !state.asked;
        let woken = self
            .changed
            .wait_timeout_while(self.state(), patience, idle);
        let mut state = woken.unwrap_or_else(PoisonError::into_inner).0;
        // a try that was asked for comes before the end: it saves samples
        match (std::mem::take(&mut state.asked), state.stopping) {
            (true, _) => Some(true),
            (false, true) => None,
            (false, false) => Some(false),
        }
    }
}

fn run(shared: &Shared) {
    let ended = disk::caught(|| {
        keep(shared);
        Ok(())
    });
    if let Err(fault) = ended {
        tracing::error!(%fault, "what looks after the samples panicked");
        let what = match fault {
            Fault::Panic(what) => what,
            other => other.to_string(),
        };
        shared.set_fault(WriterEnd::Panicked(what));
        // the daemon has to stop: nobody would cut or remove anything
        shared.queue.close();
    }
    shared.keeper.state().over = true;
    shared.queue.nudge();
}

fn keep(shared: &Shared) {
    let mut told: Option<Instant> = None;
    let mut patience = EVERY;
    let mut tidied = Instant::now();
    while let Some(try_log) = shared.keeper.next(patience) {
        if try_log {
            let tried = shared.samples.resume(shared.heard());
            shared.keeper.state().tried = Some(tried);
            shared.queue.nudge();
        }
        if tidied.elapsed() >= TIDY_EVERY {
            tidied = Instant::now();
            shared.tidy_packages();
        }
        patience = match shared.samples.maintain(shared.heard()) {
            Ok(true) => Duration::ZERO,
            Ok(false) => EVERY,
            Err(error) => {
                tell(&mut told, &error);
                EVERY
            }
        };
    }
}

fn tell(told: &mut Option<Instant>, error: &CatalogError) {
    if told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
        tracing::warn!(%error, "samples cannot be put in order now: it is tried again");
        *told = Some(Instant::now());
    }
}
