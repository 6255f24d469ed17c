//! The reconciler: while something is queued, the oldest that may go is sent,
//! and what it came to is kept. The one task that sends mail.

use std::sync::Arc;
use std::time::Duration;

use model::{Delivery, Timestamp};
use store::Store;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::lanes::{Lanes, Pick};
use crate::outbox::{KeepError, Outbox, Over};
use crate::settings::Mailer;
use crate::settle::{Answer, settle};
use crate::smtp::{Carrier, Line};
use crate::status::MailHealth;

/// Queued deliveries that are looked at for the next one: more only where all
/// of these have to wait.
const LOOK: usize = 256;
/// At most this many, so that a look never fills the memory: with more than
/// that waiting, the youngest are seen later.
pub(crate) const LOOK_MAX: usize = 65_536;
/// The wait before an outbox that cannot be written is tried again: as long as
/// the store needs to see that a disk has room again.
const KEEP_AGAIN: Duration = Duration::from_secs(5);
/// The wait for the outbox after the stop: a commit takes milliseconds, and a
/// disk that is full is not well again before the daemon is gone.
pub(crate) const KEEP_GRACE: Duration = Duration::from_secs(5);

/// Sends what `store`'s outbox holds until `stop`, then finishes the delivery
/// in hand, for at most the mailer's timeout, and ends. Also ends when the
/// store is closed.
///
/// New settings come through `mailer` and count from the next delivery on;
/// with `None` everything waits. `health` tells how mail does; `clock` says
/// what time it is.
pub async fn drain(
    store: Store,
    mailer: watch::Receiver<Option<Arc<Mailer>>>,
    health: MailHealth,
    clock: fn() -> Timestamp,
    stop: CancellationToken,
) {
    let drain = Drain {
        outbox: store,
        carrier: Line::default(),
        lanes: Lanes::default(),
        health,
        clock,
        stop,
    };
    drain.run(mailer).await;
}

struct Drain<O, C, F> {
    outbox: O,
    carrier: C,
    lanes: Lanes,
    health: MailHealth,
    clock: F,
    stop: CancellationToken,
}

/// Why a run of mails ends.
enum Pause {
    /// Nothing may go before this instant, or before the outbox changes.
    Until(Option<Instant>),
    /// We were told to stop, or the store is closed.
    End,
}

impl<O: Outbox, C: Carrier, F: Fn() -> Timestamp + Send> Drain<O, C, F> {
    async fn run(mut self, mut mailers: watch::Receiver<Option<Arc<Mailer>>>) {
        let mut changed = self.outbox.changed();
        let mut current: Option<Arc<Mailer>> = None;
        let mut is_first = true;
        loop {
            changed.mark_unchanged();
            let mailer = mailers.borrow_and_update().clone();
            if is_first || !is_same(current.as_ref(), mailer.as_ref()) {
                self.take(mailer.as_deref()).await;
                current = mailer;
                is_first = false;
            }
            let pause = match current.as_deref() {
                Some(mailer) => self.send_some(mailer, &mailers).await,
                None => Pause::Until(None),
            };
            let Pause::Until(until) = pause else { break };
            if mailers.has_changed().unwrap_or(false) {
                continue;
            }
            self.carrier.hang_up().await;
            self.health.waits(until, Instant::now(), (self.clock)());
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = next_change(&mut mailers) => {}
                () = next_change(&mut changed) => {}
                () = reached(until) => {}
            }
        }
        self.carrier.hang_up().await;
    }

    /// Takes new settings: nothing waits for what an older server did.
    async fn take(&mut self, mailer: Option<&Mailer>) {
        self.carrier.hang_up().await;
        self.lanes.forget();
        self.health.configured(mailer);
        match mailer {
            Some(mailer) => {
                for problem in mailer.template_problems() {
                    warn!(%problem, "mail template not used: {problem}");
                }
            }
            None if !self.outbox.queued(Over::Mail, 1).is_empty() => {
                warn!("mail is queued, but there is no [mail] section; it waits");
            }
            None => {}
        }
    }

    /// Sends one delivery after the other until none may go, there are new
    /// settings, or it is time to stop.
    async fn send_some(
        &mut self,
        mailer: &Mailer,
        mailers: &watch::Receiver<Option<Arc<Mailer>>>,
    ) -> Pause {
        loop {
            if self.stop.is_cancelled() {
                return Pause::End;
            }
            if mailers.has_changed().unwrap_or(false) {
                return Pause::Until(None);
            }
            let delivery = match self.look() {
                Ok(delivery) => delivery,
                Err(until) => return Pause::Until(until),
            };
            if !self.tell(mailer, &delivery).await {
                return Pause::End;
            }
        }
    }

    /// The delivery that goes next, or until when none does.
    fn look(&mut self) -> Result<Delivery, Option<Instant>> {
        let now = Instant::now();
        let mut limit = LOOK;
        loop {
            let mut queued = self.outbox.queued(Over::Mail, limit);
            let is_all = queued.len() < limit;
            if is_all {
                self.lanes.keep_only(&queued);
            }
            match self.lanes.pick(&queued, now) {
                Pick::Send(place) => return Ok(queued.swap_remove(place)),
                Pick::Wait(until) if is_all || limit >= LOOK_MAX => return Err(until),
                Pick::Wait(_) => limit = (limit * 4).min(LOOK_MAX),
            }
        }
    }

    /// Tries `delivery` and keeps what it came to. `false` if it is time to
    /// end.
    async fn tell(&mut self, mailer: &Mailer, delivery: &Delivery) -> bool {
        let Some(answer) = self.answer(mailer, delivery).await else {
            warn!(delivery = %delivery.id, "stopped while a mail was on its way; it may come twice");
            return false;
        };
        let now = (self.clock)();
        let settled = settle(delivery, &answer, now, &mailer.retry);
        self.lanes
            .note(&settled, &answer, Instant::now(), &mailer.retry);
        self.health.tried(&settled, &answer, now);
        log(&settled, &answer);
        self.keep(settled).await
    }

    async fn answer(&mut self, mailer: &Mailer, delivery: &Delivery) -> Option<Answer> {
        let rule = delivery
            .alert
            .as_ref()
            .and_then(|alert| self.outbox.rule(&alert.rule));
        let letter = match mailer.compose(delivery, rule.as_ref()) {
            Ok(letter) => letter,
            Err(why) => return Some(Answer::Never(why)),
        };
        if let Some(problem) = &letter.template_problem {
            warn!(delivery = %delivery.id, %problem, "mail template not used: {problem}");
            self.health.template_failed(problem);
        }
        let carrying = self.carrier.carry(mailer, &letter);
        in_time(&self.stop, mailer.timeout, carrying).await
    }

    /// Keeps `settled`, however long the disk needs: nothing else is sent
    /// meanwhile, or a crash would send all of that again. `false` if it is
    /// time to end.
    async fn keep(&mut self, settled: Delivery) -> bool {
        let tell = |error| self.health.outbox(error);
        let keeping = keep_at_last(&self.outbox, tell, &settled);
        let kept = in_time(&self.stop, KEEP_GRACE, keeping).await;
        match kept {
            Some(Ok(())) => true,
            Some(Err(KeepError::Refused(why))) => {
                warn!(delivery = %settled.id, %why, "a delivery's fate is not kept: {why}");
                self.lanes.set_aside(settled.id, Instant::now());
                true
            }
            Some(Err(KeepError::TryAgain(_) | KeepError::Closed)) | None => false,
        }
    }
}

/// Tries until the outbox has `settled`, or never will.
pub(crate) async fn keep_at_last(
    outbox: &impl Outbox,
    tell: impl Fn(Option<String>),
    settled: &Delivery,
) -> Result<(), KeepError> {
    let mut is_known = false;
    loop {
        match outbox.keep(settled.clone()).await {
            Err(KeepError::TryAgain(why)) => {
                if !is_known {
                    warn!(delivery = %settled.id, %why, "the outbox cannot be written, nothing is sent: {why}");
                }
                is_known = true;
                tell(Some(why));
                sleep(KEEP_AGAIN).await;
            }
            done => {
                tell(None);
                return done;
            }
        }
    }
}

/// `work`'s result, or `None` if it is not there `grace` after the stop.
pub(crate) async fn in_time<T>(
    stop: &CancellationToken,
    grace: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = async { stop.cancelled().await; sleep(grace).await } => None,
    }
}

fn is_same(one: Option<&Arc<Mailer>>, other: Option<&Arc<Mailer>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

/// The next change; never, if nobody is left to make one.
pub(crate) async fn next_change<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

pub(crate) async fn reached(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

fn log(settled: &Delivery, answer: &Answer) {
    let (model::Channel::Mail { to } | model::Channel::Plugin { plugin: to }) = &settled.channel;
    let (id, to) = (settled.id, crate::safe::one_line(to, 254));
    match (answer, &settled.last_error) {
        (Answer::Taken, _) => info!(delivery = %id, %to, event = settled.event.word(), "mail sent"),
        (Answer::Never(_), Some(why)) => {
            warn!(delivery = %id, %to, %why, "mail to {to} parked: {why}");
        }
        (_, why) => {
            let why = why.as_deref().unwrap_or_default();
            warn!(delivery = %id, %to, attempts = settled.attempts, %why, "mail to {to} not sent yet: {why}");
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
