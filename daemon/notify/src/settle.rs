//! What a try leads to. Pure: a delivery, an answer and the time go in, the
//! delivery as it is to be kept comes out.

use std::time::Duration;

use model::{Delivery, DeliveryState, NotificationEvent, Timestamp};

use crate::safe;

/// As much of a reason as is kept and shown.
const REASON_CHARS: usize = 300;

/// How long to wait after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// After the first.
    pub min: Duration,
    /// At most.
    pub max: Duration,
}

impl RetryPolicy {
    /// The wait after the failure number `failures` (from 1) of what `seed`
    /// names: twice the one before, up to the longest, and up to a quarter
    /// shorter, so that many waits that began together do not end together.
    #[must_use]
    pub fn wait(&self, failures: u32, seed: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.min.saturating_mul(1 << doublings).min(self.max);
        let share = jitter(seed, failures);
        full.saturating_sub(full / 4 * share / 256).max(self.min)
    }
}

/// 0 to 255, the same for the same question.
fn jitter(seed: u64, failures: u32) -> u32 {
    // the multiplier of Knuth's MMIX generator mixes the low bits into the high
    let mixed = (seed ^ (u64::from(failures) << 32)).wrapping_mul(6_364_136_223_846_793_005);
    u32::from((mixed >> 56) as u8)
}

/// What a try came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The server took it and is answerable for it now.
    Taken,
    /// Not now.
    Later(Trouble),
    /// Never: trying again would give the same answer. Why, in words.
    Never(String),
}

/// Why not now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Whose trouble it is: who else has to wait.
    pub whose: Whose,
    /// Whether only an operator can end it, such as a wrong password.
    pub needs_an_operator: bool,
    /// In words.
    pub why: String,
}

/// Whose trouble it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The server's: nothing can be sent.
    Server,
    /// One recipient's: the others are not concerned.
    Recipient,
    /// Perhaps this mail's alone: the server did not take its text.
    Message,
}

/// `delivery` after a try that came to `answer` at `now`.
#[must_use]
pub fn settle(
    delivery: &Delivery,
    answer: &Answer,
    now: Timestamp,
    policy: &RetryPolicy,
) -> Delivery {
    let mut settled = delivery.clone();
    settled.attempts = settled.attempts.saturating_add(1);
    match answer {
        Answer::Taken => {
            settled.state = DeliveryState::Delivered { at: now };
            settled.last_error = None;
        }
        Answer::Later(trouble) => {
            let next = now.plus(wait_after(&settled, trouble, policy));
            settled.state = DeliveryState::Queued { next };
            settled.last_error = Some(reason(&trouble.why));
        }
        Answer::Never(why) => {
            settled.state = DeliveryState::Parked;
            settled.last_error = Some(reason(why));
        }
    }
    settled
}

/// How long `settled`, whose latest failure is counted, waits for `trouble`.
pub(crate) fn wait_after(settled: &Delivery, trouble: &Trouble, policy: &RetryPolicy) -> Duration {
    if trouble.needs_an_operator {
        return policy.max;
    }
    policy.wait(settled.attempts, settled.id.0)
}

/// Tries after which a mail whose text the server puts off again and again does
/// not hold back younger ones to the same recipient: over half an hour with the
/// default waits.
const HOLDING_TRIES: u32 = 8;

/// Whether younger deliveries to the same recipient wait until `settled` is
/// tried again.
pub(crate) fn holds_its_recipient(settled: &Delivery, trouble: &Trouble) -> bool {
    match (settled.event, trouble.whose) {
        (NotificationEvent::Test, _) => false,
        (_, Whose::Server | Whose::Recipient) => true,
        (_, Whose::Message) => settled.attempts < HOLDING_TRIES,
    }
}

/// `text` as it is kept in [`Delivery::last_error`] and shown.
pub(crate) fn reason(text: &str) -> String {
    safe::one_line(text, REASON_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::tests::delivery;

    const POLICY: RetryPolicy = RetryPolicy {
        min: Duration::from_secs(30),
        max: Duration::from_secs(900),
    };
    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn later(whose: Whose, needs_an_operator: bool) -> Answer {
        Answer::Later(Trouble {
            whose,
            needs_an_operator,
            why: "451 4.7.1\r\n try \u{1b}[1mlater".to_owned(),
        })
    }

    /// State after the try number `attempts + 1`, the wait in seconds and the
    /// last error.
    fn settled(attempts: u32, answer: &Answer) -> (&'static str, Option<u64>, Option<String>) {
        let mut before = delivery(NotificationEvent::Firing);
        before.attempts = attempts;
        before.last_error = Some("an older one".to_owned());
        let after = settle(&before, answer, NOW, &POLICY);
        assert_eq!(after.attempts, attempts + 1);
        assert_eq!((after.id, &after.alert), (before.id, &before.alert));
        let wait = match after.state {
            DeliveryState::Queued { next } => Some(next.since(NOW).as_secs()),
            DeliveryState::Parked => None,
            DeliveryState::Delivered { at } => {
                assert_eq!(at, NOW);
                None
            }
        };
        (after.state.word(), wait, after.last_error)
    }

    #[test]
    fn every_answer_leads_to_one_state() {
        let put_off = Some("451 4.7.1 try [1mlater".to_owned());
        let never = Answer::Never("550 no such user".to_owned());
        let refused = Some("550 no such user".to_owned());
        for (attempts, answer, expected) in [
            (0, Answer::Taken, ("delivered", None, None)),
            (7, Answer::Taken, ("delivered", None, None)),
            (
                0,
                later(Whose::Server, false),
                ("queued", Some(30), put_off.clone()),
            ),
            (
                0,
                later(Whose::Recipient, false),
                ("queued", Some(30), put_off.clone()),
            ),
            (
                0,
                later(Whose::Message, false),
                ("queued", Some(30), put_off.clone()),
            ),
            (
                0,
                later(Whose::Server, true),
                ("queued", Some(900), put_off),
            ),
            (0, never.clone(), ("parked", None, refused.clone())),
            (99, never, ("parked", None, refused)),
        ] {
            assert_eq!(
                settled(attempts, &answer),
                expected,
                "{attempts} {answer:?}"
            );
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_are_the_same_each_time() {
        for failures in 1..200 {
            for seed in [0, 1, 17, u64::MAX] {
                let full = POLICY.min * 2u32.pow((failures - 1).min(6));
                let full = full.min(POLICY.max);
                let wait = POLICY.wait(failures, seed);
                assert!(wait <= full && wait >= full * 3 / 4, "{failures}: {wait:?}");
                assert!(wait >= POLICY.min, "{failures}: {wait:?}");
                assert_eq!(wait, POLICY.wait(failures, seed));
            }
        }
        let waits: Vec<_> = (0..50).map(|seed| POLICY.wait(9, seed)).collect();
        assert!(waits.iter().any(|wait| *wait != waits[0]), "no jitter");
    }

    #[test]
    fn a_mail_that_is_put_off_for_ever_does_not_hold_its_recipient_for_ever() {
        let holds = |event, whose, attempts| {
            let mut settled = delivery(event);
            settled.attempts = attempts;
            let Answer::Later(trouble) = later(whose, false) else {
                unreachable!("made as one");
            };
            holds_its_recipient(&settled, &trouble)
        };
        assert!(holds(NotificationEvent::Firing, Whose::Message, 1));
        assert!(!holds(NotificationEvent::Firing, Whose::Message, 8));
        assert!(holds(NotificationEvent::Resolved, Whose::Recipient, 99));
        assert!(!holds(NotificationEvent::Test, Whose::Recipient, 1));
    }
}
