//! Who is next. Pure: the queued deliveries and the time go in, one of them or
//! how long to wait comes out.
//!
//! What waits and why is kept in memory alone, on a clock that nobody sets:
//! `next` in the outbox tells readers the same in the time of day. So a restart
//! and new settings begin with one try for everything, and a clock that is set
//! back by an hour does not hold mail for an hour.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use model::{Channel, Delivery, NotificationEvent, OutboxId};
use tokio::time::Instant;

use crate::settle::{Answer, RetryPolicy, Whose, holds_its_recipient, wait_after};

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// Send the one at this place.
    Send(usize),
    /// Nothing until then; `None`: until the outbox changes.
    Wait(Option<Instant>),
}

/// Who waits.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    /// Until when the server is left alone.
    server: Option<Instant>,
    /// Deliveries that were put off for a reason of their own.
    put_off: HashMap<OutboxId, PutOff>,
}

#[derive(Clone, Copy, Debug)]
struct PutOff {
    until: Instant,
    holds_its_recipient: bool,
}

impl Lanes {
    /// The next of `queued`, which are sorted from the oldest.
    pub(crate) fn pick(&self, queued: &[Delivery], now: Instant) -> Pick {
        if let Some(place) = queued.iter().position(is_fresh_test) {
            return Pick::Send(place);
        }
        if let Some(until) = self.server.filter(|until| *until > now) {
            return Pick::Wait(Some(until));
        }
        let mut held = HashSet::new();
        let mut soonest = None;
        for (place, delivery) in queued.iter().enumerate() {
            let (Channel::Mail { to } | Channel::Plugin { plugin: to }) = &delivery.channel;
            let put_off = self.put_off.get(&delivery.id).filter(|p| p.until > now);
            match put_off {
                Some(put_off) => {
                    soonest = sooner(soonest, put_off.until);
                    if put_off.holds_its_recipient {
                        held.insert(to);
                    }
                }
                None if !held.contains(to) => return Pick::Send(place),
                None => {}
            }
        }
        Pick::Wait(soonest)
    }

    /// Takes note of what the latest try of `settled` came to.
    pub(crate) fn note(
        &mut self,
        settled: &Delivery,
        answer: &Answer,
        now: Instant,
        policy: &RetryPolicy,
    ) {
        self.put_off.remove(&settled.id);
        let trouble = match answer {
            Answer::Later(trouble) => trouble,
            Answer::Taken | Answer::Never(_) => {
                self.server = None;
                return;
            }
        };
        let until = now + wait_after(settled, trouble, policy);
        if trouble.whose == Whose::Server {
            // a test that went ahead does not make the others wait longer
            self.server = self.server.filter(|known| *known > now).or(Some(until));
            return;
        }
        self.server = None;
        let put_off = PutOff {
            until,
            holds_its_recipient: holds_its_recipient(settled, trouble),
        };
        self.put_off.insert(settled.id, put_off);
    }

    /// Leaves the delivery `id` alone for a day: what became of it cannot be
    /// kept, so it would be sent again and again.
    pub(crate) fn set_aside(&mut self, id: OutboxId, now: Instant) {
        let put_off = PutOff {
            until: now + Duration::from_secs(86_400),
            holds_its_recipient: false,
        };
        self.put_off.insert(id, put_off);
    }

    /// Forgets what waits: everything gets a try.
    pub(crate) fn forget(&mut self) {
        *self = Lanes::default();
    }

    /// Forgets deliveries that are not queued any more; `queued` are all.
    pub(crate) fn keep_only(&mut self, queued: &[Delivery]) {
        let known: HashSet<OutboxId> = queued.iter().map(|delivery| delivery.id).collect();
        self.put_off.retain(|id, _| known.contains(id));
    }
}

/// Somebody waits for the answer, and no alert's order is at stake.
pub(crate) fn is_fresh_test(delivery: &Delivery) -> bool {
    delivery.event == NotificationEvent::Test && delivery.attempts == 0
}

pub(crate) fn sooner(known: Option<Instant>, other: Instant) -> Option<Instant> {
    Some(known.map_or(other, |known| known.min(other)))
}

#[cfg(test)]
mod tests {
    use model::Timestamp;

    use super::*;
    use crate::settle::{Trouble, settle};
    use crate::words::tests::delivery;

    const POLICY: RetryPolicy = RetryPolicy {
        min: Duration::from_secs(30),
        max: Duration::from_secs(900),
    };

    /// An outbox and its lanes, at a time of the test's choosing.
    struct Story {
        queued: Vec<Delivery>,
        lanes: Lanes,
        began: Instant,
    }

    impl Story {
        /// Alerts with ids from 1, to these recipients.
        fn new(recipients: &[&str]) -> Story {
            let queued = (1..).zip(recipients).map(|(id, to)| {
                let mut alert = delivery(NotificationEvent::Firing);
                alert.id = OutboxId(id);
                alert.channel = Channel::Mail {
                    to: (*to).to_owned(),
                };
                alert
            });
            Story {
                queued: queued.collect(),
                lanes: Lanes::default(),
                began: Instant::now(),
            }
        }

        fn at(&self, second: u64) -> Instant {
            self.began + Duration::from_secs(second)
        }

        /// The id that goes out at `second`, or until when nothing does.
        fn next(&self, second: u64) -> Result<u64, Option<u64>> {
            match self.lanes.pick(&self.queued, self.at(second)) {
                Pick::Send(place) => Ok(self.queued[place].id.0),
                Pick::Wait(until) => Err(until.map(|until| (until - self.began).as_secs())),
            }
        }

        /// Delivery `id` is tried at `second`.
        fn try_it(&mut self, second: u64, id: u64, answer: Answer) {
            let place = self.queued.iter().position(|d| d.id.0 == id).unwrap();
            let settled = settle(&self.queued[place], &answer, Timestamp(0), &POLICY);
            self.lanes.note(&settled, &answer, self.at(second), &POLICY);
            match answer {
                Answer::Later(_) => self.queued[place] = settled,
                Answer::Taken | Answer::Never(_) => {
                    self.queued.remove(place);
                }
            }
        }

        fn add_test(&mut self, id: u64) {
            let mut test = delivery(NotificationEvent::Test);
            test.id = OutboxId(id);
            self.queued.push(test);
        }
    }

    fn later(whose: Whose) -> Answer {
        Answer::Later(Trouble {
            whose,
            needs_an_operator: false,
            why: String::new(),
        })
    }

    #[test]
    fn the_oldest_goes_first() {
        let mut story = Story::new(&["a@x", "b@x"]);
        assert_eq!(story.next(0), Ok(1));
        story.try_it(0, 1, Answer::Taken);
        assert_eq!(story.next(0), Ok(2));
        story.try_it(0, 2, Answer::Taken);
        assert_eq!(story.next(0), Err(None));
    }

    #[test]
    fn a_server_in_trouble_is_left_alone_and_then_asked_by_the_oldest() {
        let mut story = Story::new(&["a@x", "b@x", "c@x"]);
        story.try_it(0, 1, later(Whose::Server));
        assert_eq!(story.next(1), Err(Some(30)));
        assert_eq!(story.next(30), Ok(1));
        story.try_it(30, 1, later(Whose::Server));
        let Err(Some(until)) = story.next(31) else {
            panic!("the server is not left alone");
        };
        assert!((75..=90).contains(&until), "{until}");
        story.try_it(90, 1, Answer::Taken);
        assert_eq!(story.next(90), Ok(2));
    }

    #[test]
    fn one_recipients_trouble_makes_only_that_recipient_wait() {
        let mut story = Story::new(&["full@x", "b@x", "full@x", "b@x"]);
        story.try_it(0, 1, later(Whose::Recipient));
        assert_eq!(story.next(0), Ok(2));
        story.try_it(0, 2, Answer::Taken);
        assert_eq!(story.next(0), Ok(4), "3 waits behind 1");
        story.try_it(0, 4, Answer::Taken);
        assert_eq!(story.next(1), Err(Some(30)));
        assert_eq!(story.next(30), Ok(1), "in order");
    }

    #[test]
    fn a_refused_recipient_does_not_hold_anybody() {
        let mut story = Story::new(&["gone@x", "gone@x", "b@x"]);
        story.try_it(0, 1, Answer::Never("550".to_owned()));
        assert_eq!(story.next(0), Ok(2));
    }

    #[test]
    fn a_test_goes_ahead_and_its_success_ends_the_wait() {
        let mut story = Story::new(&["a@x"]);
        story.try_it(0, 1, later(Whose::Server));
        assert_eq!(story.next(1), Err(Some(30)));
        story.add_test(9);
        assert_eq!(story.next(1), Ok(9));
        story.try_it(1, 9, Answer::Taken);
        assert_eq!(story.next(1), Ok(1));
    }

    #[test]
    fn a_test_that_fails_too_is_tried_once_and_changes_no_wait() {
        let mut story = Story::new(&["a@x"]);
        story.try_it(0, 1, later(Whose::Server));
        story.add_test(9);
        story.try_it(20, 9, later(Whose::Server));
        assert_eq!(story.next(20), Err(Some(30)));
        assert_eq!(story.next(30), Ok(1));
    }

    #[test]
    fn new_settings_end_every_wait() {
        let mut story = Story::new(&["a@x", "a@x"]);
        story.try_it(0, 1, later(Whose::Recipient));
        assert_eq!(story.next(0), Err(Some(30)));
        story.lanes.forget();
        assert_eq!(story.next(0), Ok(1));
    }

    #[test]
    fn what_is_not_queued_any_more_is_forgotten() {
        let mut story = Story::new(&["a@x", "a@x"]);
        story.try_it(0, 1, later(Whose::Recipient));
        story.queued.remove(0);
        assert_eq!(story.next(0), Ok(2));
        story.lanes.keep_only(&story.queued);
        assert!(story.lanes.put_off.is_empty());
    }
}
