//! How mail does, for whoever asks: `/status`, metrics, the log.

use std::sync::{Arc, Mutex, PoisonError};

use model::{Delivery, Timestamp};
use tokio::time::Instant;

use crate::settings::Mailer;
use crate::settle::{Answer, Whose};

/// How mail does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailStatus {
    /// Where mail is sent, as `server:port`; `None`: there is no `[mail]`
    /// section, and what is queued waits.
    pub server: Option<String>,
    /// When the server last took a mail.
    pub last_success: Option<Timestamp>,
    /// When a try last failed, and why: one line that is safe to show.
    pub last_error: Option<(Timestamp, String)>,
    /// Since when no mail gets through; `None`: as far as we know it does.
    pub failing_since: Option<Timestamp>,
    /// When the next try is due, if something waits for one.
    pub next_try: Option<Timestamp>,
    /// Templates that cannot be used and why; the built-in ones take their
    /// place.
    pub template_problems: Vec<String>,
    /// Why the outbox cannot be written: nothing is sent until it can.
    pub outbox_error: Option<String>,
    /// Mails that the server took, since the start.
    pub sent: u64,
    /// Tries that failed and are repeated, since the start.
    pub failed: u64,
    /// Deliveries that were refused for good, since the start.
    pub parked: u64,
}

/// The one [`MailStatus`] of a daemon: written by [`crate::drain()`], read by
/// anybody. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct MailHealth(Arc<Mutex<MailStatus>>);

impl MailHealth {
    /// How mail does now.
    #[must_use]
    pub fn status(&self) -> MailStatus {
        self.with(|status| status.clone())
    }

    fn with<T>(&self, read: impl FnOnce(&mut MailStatus) -> T) -> T {
        read(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// There are new settings, or none.
    pub(crate) fn configured(&self, mailer: Option<&Mailer>) {
        self.with(|status| {
            status.server = mailer.map(|mailer| format!("{}:{}", mailer.server, mailer.port));
            status.template_problems =
                mailer.map_or_else(Vec::new, |mailer| mailer.template_problems().to_vec());
            status.next_try = None;
            if mailer.is_none() {
                status.failing_since = None;
            }
        });
    }

    /// A template failed while a mail was rendered.
    pub(crate) fn template_failed(&self, problem: &str) {
        self.with(|status| {
            if !status
                .template_problems
                .iter()
                .any(|known| known == problem)
            {
                status.template_problems.truncate(MAX_TEMPLATE_PROBLEMS - 1);
                status.template_problems.push(problem.to_owned());
            }
        });
    }

    /// A try of `settled` came to `answer` at `now`.
    pub(crate) fn tried(&self, settled: &Delivery, answer: &Answer, now: Timestamp) {
        self.with(|status| {
            status.next_try = None;
            let in_server_trouble =
                matches!(answer, Answer::Later(trouble) if trouble.whose == Whose::Server);
            if in_server_trouble {
                status.failing_since.get_or_insert(now);
            } else {
                status.failing_since = None;
            }
            match answer {
                Answer::Taken => {
                    status.sent += 1;
                    status.last_success = Some(now);
                }
                Answer::Later(_) => status.failed += 1,
                Answer::Never(_) => status.parked += 1,
            }
            if let Some(error) = &settled.last_error {
                status.last_error = Some((now, error.clone()));
            }
        });
    }

    /// Nothing is sent until `until`, which lies ahead of `instant`, which is
    /// `now`.
    pub(crate) fn waits(&self, until: Option<Instant>, instant: Instant, now: Timestamp) {
        let next = until.map(|until| now.plus(until.saturating_duration_since(instant)));
        self.with(|status| status.next_try = next);
    }

    /// The outbox can, or cannot, be written.
    pub(crate) fn outbox(&self, error: Option<String>) {
        self.with(|status| status.outbox_error = error);
    }
}

/// There are three templates; each has few ways to fail.
const MAX_TEMPLATE_PROBLEMS: usize = 10;
