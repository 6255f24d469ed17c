//! When the next delivery of one notifier plugin may go, and what a try leads
//! to. Pure, as `lanes` and `settle` are for mail.
//!
//! A lane goes oldest first, and what its service does not take now holds the
//! younger ones: they would fare no better. A delivery that is put off again and
//! again holds them no longer, as it may be the only one that is.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use model::{Delivery, DeliveryState, NotificationEvent, OutboxId, Timestamp};
use tokio::time::Instant;

use crate::lanes::{Pick, is_fresh_test, sooner};
use crate::settle::{RetryPolicy, reason};

/// What carrying a delivery came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// The service took it.
    Taken,
    /// Not now.
    Later {
        /// In words.
        why: String,
        /// When to try again, if the service says so.
        after: Option<Duration>,
    },
    /// Never: trying again would give the same answer.
    Never {
        /// In words.
        why: String,
    },
}

/// Waits between tries, unless the service names one.
pub(crate) const POLICY: RetryPolicy = RetryPolicy {
    min: Duration::from_secs(30),
    max: Duration::from_secs(900),
};

/// The waits that a service may name: one that says "now" is not hammered, one
/// that says "next year" is asked before.
const AFTER_LEAST: Duration = Duration::from_secs(1);
const AFTER_MOST: Duration = Duration::from_secs(6 * 3_600);

/// Tries after which a delivery does not hold back younger ones.
const HOLDING_TRIES: u32 = 8;

/// A delivery that is older and was tried often is given up: parked, to be
/// retried by hand.
const GIVE_UP_AFTER: Duration = Duration::from_secs(86_400);

/// What waits in one lane.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// Until when the service is left alone.
    until: Option<Instant>,
    /// Tries in a row that came to nothing.
    failures: u32,
    /// Deliveries that hold nobody else.
    put_off: HashMap<OutboxId, Instant>,
}

impl Lane {
    /// The next of `queued`, which are sorted from the oldest.
    pub(crate) fn pick(&self, queued: &[Delivery], now: Instant) -> Pick {
        if let Some(place) = queued.iter().position(is_fresh_test) {
            return Pick::Send(place);
        }
        if let Some(until) = self.until.filter(|until| *until > now) {
            return Pick::Wait(Some(until));
        }
        let mut soonest = None;
        for (place, delivery) in queued.iter().enumerate() {
            let put_off = self.put_off.get(&delivery.id);
            match put_off.filter(|until| **until > now) {
                None => return Pick::Send(place),
                Some(until) => soonest = sooner(soonest, *until),
            }
        }
        Pick::Wait(soonest)
    }

    /// `delivery` as it is to be kept after a try that came to `carried`.
    pub(crate) fn settle(
        &mut self,
        delivery: &Delivery,
        carried: &Carried,
        instant: Instant,
        now: Timestamp,
    ) -> Delivery {
        let mut settled = delivery.clone();
        settled.attempts = settled.attempts.saturating_add(1);
        self.put_off.remove(&settled.id);
        let (why, after) = match carried {
            Carried::Taken => {
                settled.state = DeliveryState::Delivered { at: now };
                settled.last_error = None;
                self.is_well();
                return settled;
            }
            Carried::Never { why } => {
                settled.state = DeliveryState::Parked;
                settled.last_error = Some(reason(why));
                self.is_well();
                return settled;
            }
            Carried::Later { why, after } => (why, after),
        };
        settled.last_error = Some(reason(why));
        let is_a_test = settled.event == NotificationEvent::Test;
        let holds = settled.attempts < HOLDING_TRIES && !is_a_test;
        if !is_a_test {
            self.failures = self.failures.saturating_add(1);
        }
        if settled.attempts >= HOLDING_TRIES && now.since(settled.created) >= GIVE_UP_AFTER {
            settled.state = DeliveryState::Parked;
            settled.last_error = Some(reason(&format!("given up after a day: {why}")));
            self.until = Some(instant + POLICY.wait(self.failures, settled.id.0));
            return settled;
        }
        let failures = self.failures.max(settled.attempts);
        let wait = match after {
            Some(after) => (*after).clamp(AFTER_LEAST, AFTER_MOST),
            None => POLICY.wait(failures, settled.id.0),
        };
        settled.state = DeliveryState::Queued {
            next: now.plus(wait),
        };
        if holds {
            self.until = Some(instant + wait);
        } else {
            self.put_off.insert(settled.id, instant + wait);
        }
        settled
    }

    fn is_well(&mut self) {
        self.until = None;
        self.failures = 0;
    }

    /// Leaves the delivery `id` alone for a day: what became of it cannot be
    /// kept, so it would be sent again and again.
    pub(crate) fn set_aside(&mut self, id: OutboxId, now: Instant) {
        self.put_off.insert(id, now + Duration::from_secs(86_400));
    }

    /// Forgets what waits: everything gets a try.
    pub(crate) fn forget(&mut self) {
        *self = Lane::default();
    }

    /// Forgets deliveries that are not queued any more; `queued` are all.
    pub(crate) fn keep_only(&mut self, queued: &[Delivery]) {
        let known: HashSet<OutboxId> = queued.iter().map(|delivery| delivery.id).collect();
        self.put_off.retain(|id, _| known.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::tests::{NIGHT, delivery};

    fn later(after: Option<u64>) -> Carried {
        Carried::Later {
            why: "503\u{1b}[1m busy".to_owned(),
            after: after.map(Duration::from_secs),
        }
    }

    /// A try, at a second after the alert; the seconds until the next one.
    fn wait(lane: &mut Lane, of: &mut Delivery, carried: &Carried, second: u64) -> Option<u64> {
        let now = of.created.plus(Duration::from_secs(second));
        *of = lane.settle(of, carried, Instant::now(), now);
        match of.state {
            DeliveryState::Queued { next } => Some(next.since(now).as_secs()),
            DeliveryState::Parked | DeliveryState::Delivered { .. } => None,
        }
    }

    #[test]
    fn waits_grow_from_half_a_minute_to_a_quarter_of_an_hour() {
        let (mut lane, mut alert) = (Lane::default(), delivery(NotificationEvent::Firing));
        let mut waits = Vec::new();
        for _ in 0..8 {
            waits.push(wait(&mut lane, &mut alert, &later(None), 0).unwrap());
        }
        assert_eq!(waits[0], 30);
        let bounds = [30, 60, 120, 240, 480, 900, 900, 900];
        for (wait, most) in waits.iter().zip(bounds) {
            assert!((most * 3 / 4..=most).contains(wait), "{waits:?}");
        }
        assert_eq!(alert.last_error.as_deref(), Some("503[1m busy"));
    }

    #[test]
    fn a_wait_that_the_service_names_is_kept_within_reason() {
        for (named, kept) in [(0, 1), (7, 7), (999_999, 21_600)] {
            let (mut lane, mut alert) = (Lane::default(), delivery(NotificationEvent::Firing));
            let waits = wait(&mut lane, &mut alert, &later(Some(named)), 0);
            assert_eq!(waits, Some(kept));
        }
    }

    #[test]
    fn after_a_day_of_tries_it_is_parked_and_not_before_it_was_tried_often() {
        let (mut lane, mut alert) = (Lane::default(), delivery(NotificationEvent::Firing));
        for _ in 0..7 {
            // the daemon was off for two days
            assert!(wait(&mut lane, &mut alert, &later(None), 172_800).is_some());
        }
        assert_eq!(wait(&mut lane, &mut alert, &later(None), 172_900), None);
        assert_eq!(alert.state, DeliveryState::Parked);
        let why = alert.last_error.unwrap();
        assert!(why.starts_with("given up after a day: 503"), "{why}");

        let mut young = delivery(NotificationEvent::Firing);
        young.attempts = 90;
        assert!(wait(&mut lane, &mut young, &later(None), 86_000).is_some());
    }

    #[test]
    fn what_is_refused_is_parked_and_what_is_taken_is_done() {
        let (mut lane, mut alert) = (Lane::default(), delivery(NotificationEvent::Firing));
        let never = Carried::Never {
            why: "404 no such channel".to_owned(),
        };
        assert_eq!(wait(&mut lane, &mut alert, &never, 5), None);
        assert_eq!(alert.state, DeliveryState::Parked);
        assert_eq!(wait(&mut lane, &mut alert, &Carried::Taken, 9), None);
        let at = NIGHT.plus(Duration::from_secs(9));
        assert!(
            matches!(alert.state, DeliveryState::Delivered { .. }),
            "{at}"
        );
        assert_eq!((alert.attempts, alert.last_error), (2, None));
    }

    #[test]
    fn the_oldest_holds_the_younger_ones_until_it_was_tried_often() {
        let now = Instant::now();
        let mut queued: Vec<Delivery> = (1..=3)
            .map(|id| Delivery {
                id: OutboxId(id),
                ..delivery(NotificationEvent::Firing)
            })
            .collect();
        let mut lane = Lane::default();
        for _ in 1..HOLDING_TRIES {
            assert_eq!(lane.pick(&queued, now + AFTER_MOST), Pick::Send(0));
            queued[0] = lane.settle(&queued[0], &later(None), now, NIGHT);
            assert!(matches!(lane.pick(&queued, now), Pick::Wait(Some(_))));
        }
        let past = lane.until.unwrap();
        queued[0] = lane.settle(&queued[0], &later(None), past, NIGHT);
        assert_eq!(lane.pick(&queued, past), Pick::Send(1));
        // and that one, of a service that is gone, does not begin at half a minute
        queued[1] = lane.settle(&queued[1], &later(None), past, NIGHT);
        let Pick::Wait(Some(until)) = lane.pick(&queued, past) else {
            panic!("{lane:?}");
        };
        assert!(
            until - past > Duration::from_secs(600),
            "{:?}",
            until - past
        );
        queued[1] = lane.settle(&queued[1], &Carried::Taken, past, NIGHT);
        assert_eq!(lane.pick(&queued[2..], past), Pick::Send(0));
    }

    #[test]
    fn a_fresh_test_goes_first_and_holds_nobody() {
        let now = Instant::now();
        let mut lane = Lane::default();
        let mut queued = vec![delivery(NotificationEvent::Firing)];
        queued[0] = lane.settle(&queued[0], &later(None), now, NIGHT);
        let mut test = delivery(NotificationEvent::Test);
        test.id = OutboxId(99);
        queued.push(test);
        assert_eq!(lane.pick(&queued, now), Pick::Send(1));
        let failures = lane.failures;
        queued[1] = lane.settle(&queued[1], &later(None), now, NIGHT);
        assert_eq!(lane.failures, failures);
        assert!(matches!(lane.pick(&queued, now), Pick::Wait(Some(_))));
        lane.forget();
        assert_eq!(lane.pick(&queued, now), Pick::Send(0));
    }
}
