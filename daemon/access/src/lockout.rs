//! Who failed too often has to wait, longer each time.
//!
//! An attempt counts as failed from its beginning, and is taken back when it
//! turns out well: so many attempts at once do not slip through together. The
//! books are bounded: when one is full, whoever failed least goes first.
//!
//! An address waits for up to a quarter of an hour, an account for half a
//! minute only: names are no secret, and whoever knows one could keep its person
//! out from anywhere. Where they signed in before, their account does not wait.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::{Digest, Timestamp};

/// Failures that cost nothing: people mistype.
const FREE: u32 = 5;

/// The longest wait of an address.
const LONGEST_OF_ADDRESS: Duration = Duration::from_mins(15);

/// The longest wait of an account, whatever is tried from many addresses: with
/// it somebody still gets through whose name others try, and guessing stays at
/// 3,000 passwords a day.
const LONGEST_OF_ACCOUNT: Duration = Duration::from_secs(30);

/// After so long without a failure they are forgotten.
const FORGOTTEN: Duration = Duration::from_hours(1);

/// Names or addresses in one book.
const MAX_ENTRIES: usize = 10_000;

/// Failures, by name or by address.
#[derive(Debug)]
pub(crate) struct Lockout {
    longest: Duration,
    entries: Mutex<HashMap<Digest, Failures>>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Timestamp,
}

impl Failures {
    fn wait(self, longest: Duration) -> Duration {
        match self.count.checked_sub(FREE) {
            None => Duration::ZERO,
            Some(more) => Duration::from_secs(1 << more.min(20)).min(longest),
        }
    }

    fn left(self, longest: Duration, now: Timestamp) -> Duration {
        self.wait(longest).saturating_sub(now.since(self.last))
    }

    fn add(&mut self, now: Timestamp) {
        self.count = self.count.saturating_add(1);
        self.last = now;
    }

    fn is_forgotten(self, now: Timestamp) -> bool {
        now.since(self.last) >= FORGOTTEN
    }
}

impl Lockout {
    /// Of names: they wait for half a minute at most.
    pub(crate) fn of_accounts() -> Lockout {
        Lockout::new(LONGEST_OF_ACCOUNT)
    }

    /// Of addresses: they wait for a quarter of an hour at most.
    pub(crate) fn of_addresses() -> Lockout {
        Lockout::new(LONGEST_OF_ADDRESS)
    }

    fn new(longest: Duration) -> Lockout {
        Lockout {
            longest,
            entries: Mutex::default(),
        }
    }

    /// Begins an attempt, which counts as failed for now.
    ///
    /// # Errors
    ///
    /// How long to wait, if too many failed before; nothing is counted then.
    pub(crate) fn begin(&self, who: Digest, now: Timestamp) -> Result<(), Duration> {
        self.with(who, now, |entry| match entry.left(self.longest, now) {
            Duration::ZERO => {
                entry.add(now);
                Ok(())
            }
            wait => Err(wait),
        })
    }

    /// As [`Lockout::begin`] for who does not have to wait.
    pub(crate) fn begin_at_once(&self, who: Digest, now: Timestamp) {
        self.with(who, now, |entry| entry.add(now));
    }

    fn with<T>(&self, who: Digest, now: Timestamp, act: impl FnOnce(&mut Failures) -> T) -> T {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if !entries.contains_key(&who) && entries.len() >= MAX_ENTRIES {
            make_room(&mut entries, now);
        }
        let fresh = Failures {
            count: 0,
            last: now,
        };
        let entry = entries.entry(who).or_insert(fresh);
        if entry.is_forgotten(now) {
            *entry = fresh;
        }
        // a clock that was set back must not make them wait for it
        entry.last = entry.last.min(now);
        act(entry)
    }

    /// Takes one attempt back: it was not wrong.
    pub(crate) fn take_back(&self, who: &Digest) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(who) {
            entry.count = entry.count.saturating_sub(1);
            if entry.count == 0 {
                entries.remove(who);
            }
        }
    }

    /// Forgets all: they have proved who they are.
    pub(crate) fn clear(&self, who: &Digest) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.remove(who);
    }

    /// How many have to wait between attempts.
    pub(crate) fn slowed(&self) -> usize {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |entry: &&Failures| !entry.wait(self.longest).is_zero();
        entries.values().filter(waits).count()
    }
}

fn make_room(entries: &mut HashMap<Digest, Failures>, now: Timestamp) {
    entries.retain(|_, entry| !entry.is_forgotten(now));
    if entries.len() < MAX_ENTRIES {
        return;
    }
    let least = entries
        .iter()
        .min_by_key(|(_, entry)| (entry.count, entry.last))
        .map(|(who, _)| *who);
    if let Some(least) = least {
        entries.remove(&least);
    }
}

/// How long an address is known from which somebody signed in.
const KNOWN_FOR: Duration = Duration::from_hours(30 * 24);

/// Addresses that are known of one account; the one that was used least
/// recently goes first.
const MAX_KNOWN: usize = 20;

/// From where people signed in. In memory: after a restart they may wait with
/// the others once, for half a minute.
#[derive(Debug, Default)]
pub(crate) struct Known {
    by_account: Mutex<HashMap<Digest, Vec<Place>>>,
}

/// An address, and when they last signed in from there.
#[derive(Clone, Copy, Debug)]
struct Place {
    address: Digest,
    last: Timestamp,
}

impl Place {
    fn is_forgotten(self, now: Timestamp) -> bool {
        now.since(self.last) >= KNOWN_FOR
    }
}

impl Known {
    /// Whether `account` signed in from `address` within 30 days.
    pub(crate) fn has(&self, account: &Digest, address: &Digest, now: Timestamp) -> bool {
        let known = self
            .by_account
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.get(account).is_some_and(|places| {
            places
                .iter()
                .any(|place| place.address == *address && !place.is_forgotten(now))
        })
    }

    /// Keeps that `account` signed in from `address`.
    pub(crate) fn note(&self, account: Digest, address: Digest, now: Timestamp) {
        let mut known = self
            .by_account
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !known.contains_key(&account) && known.len() >= MAX_ENTRIES {
            make_room_for_places(&mut known);
        }
        let places = known.entry(account).or_default();
        places.retain(|place| place.address != address && !place.is_forgotten(now));
        if places.len() >= MAX_KNOWN {
            // the latest one is the last one
            places.remove(0);
        }
        places.push(Place { address, last: now });
    }
}

/// Lets go of who has not signed in for longest.
fn make_room_for_places(known: &mut HashMap<Digest, Vec<Place>>) {
    let oldest = known
        .iter()
        .min_by_key(|(_, places)| places.last().map(|place| place.last))
        .map(|(account, _)| *account);
    if let Some(oldest) = oldest {
        known.remove(&oldest);
    }
}

/// Codes that one person may try per minute.
const CODES_PER_MINUTE: u32 = 5;

/// Attempts with something short, of people whom we know.
#[derive(Debug, Default)]
pub(crate) struct Minutes {
    tried: Mutex<HashMap<Digest, (Timestamp, u32)>>,
}

impl Minutes {
    /// Counts an attempt.
    ///
    /// # Errors
    ///
    /// How long to wait, if there were too many within a minute.
    pub(crate) fn begin(&self, who: Digest, now: Timestamp) -> Result<(), Duration> {
        const MINUTE: Duration = Duration::from_mins(1);
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        if tried.len() >= MAX_ENTRIES {
            tried.retain(|_, (since, _)| now.since(*since) < MINUTE);
        }
        let (since, count) = tried.entry(who).or_insert((now, 0));
        if now.since(*since) >= MINUTE || *since > now {
            (*since, *count) = (now, 0);
        }
        if *count >= CODES_PER_MINUTE {
            return Err(MINUTE.saturating_sub(now.since(*since)));
        }
        *count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::digest;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn fail(book: &Lockout, who: &str, times: u32) {
        for _ in 0..times {
            let mut now = NOW;
            while let Err(wait) = book.begin(digest(who), now) {
                now = now.plus(wait);
            }
        }
    }

    #[test]
    fn five_failures_are_free_and_each_further_one_doubles_the_wait() {
        let book = Lockout::of_addresses();
        let mut now = NOW;
        let mut waits = Vec::new();
        for _ in 0..18 {
            if let Err(wait) = book.begin(digest("jane"), now) {
                waits.push(wait.as_secs());
                now = now.plus(wait);
                book.begin(digest("jane"), now).unwrap();
            }
        }
        assert_eq!(
            waits,
            [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]
        );
        assert_eq!(book.slowed(), 1);
        assert!(
            book.begin(digest("john"), now).is_ok(),
            "others do not wait"
        );
    }

    #[test]
    fn an_account_waits_for_half_a_minute_at_most() {
        let book = Lockout::of_accounts();
        fail(&book, "jane", 40);
        let now = NOW
            .plus(Duration::from_hours(1))
            .minus(Duration::from_secs(1));
        book.begin_at_once(digest("jane"), now);
        let wait = book.begin(digest("jane"), now).unwrap_err();
        assert_eq!(wait, Duration::from_secs(30));
        assert!(book.begin(digest("jane"), now.plus(wait)).is_ok());
    }

    #[test]
    fn what_is_tried_without_waiting_counts_too() {
        let book = Lockout::of_accounts();
        for _ in 0..6 {
            book.begin_at_once(digest("jane"), NOW);
        }
        let wait = book.begin(digest("jane"), NOW).unwrap_err();
        assert_eq!(wait, Duration::from_secs(2));
    }

    #[test]
    fn an_address_is_known_for_30_days_after_the_last_time_and_to_that_account_alone() {
        let known = Known::default();
        let (jane, home) = (digest("jane"), digest("10.0.0.1"));
        known.note(jane, home, NOW);
        let day = NOW.plus(Duration::from_hours(24));
        assert!(known.has(&jane, &home, day));
        assert!(!known.has(&jane, &digest("10.0.0.2"), day));
        assert!(!known.has(&digest("john"), &home, day));
        let month = NOW.plus(KNOWN_FOR);
        assert!(!known.has(&jane, &home, month));
        known.note(jane, home, day);
        assert!(known.has(&jane, &home, month));
    }

    #[test]
    fn the_addresses_that_are_known_stay_few() {
        let known = Known::default();
        let jane = digest("jane");
        let at = |n: usize| digest(&format!("address {n}"));
        for n in 0..100 {
            known.note(jane, at(n), NOW);
        }
        assert!(known.has(&jane, &at(99), NOW) && known.has(&jane, &at(80), NOW));
        assert!(!known.has(&jane, &at(79), NOW));
        let later = NOW.plus(Duration::from_secs(1));
        for n in 0..MAX_ENTRIES {
            known.note(digest(&format!("person {n}")), at(0), later);
        }
        assert_eq!(known.by_account.lock().unwrap().len(), MAX_ENTRIES);
        assert!(
            !known.has(&jane, &at(99), later),
            "who was here longest ago"
        );
    }

    #[test]
    fn who_waits_is_not_punished_for_asking_again() {
        let book = Lockout::of_addresses();
        fail(&book, "jane", 5);
        for _ in 0..100 {
            assert_eq!(book.begin(digest("jane"), NOW), Err(Duration::from_secs(1)));
        }
        assert!(
            book.begin(digest("jane"), NOW.plus(Duration::from_secs(1)))
                .is_ok()
        );
    }

    #[test]
    fn a_success_clears_and_an_hour_forgets() {
        let book = Lockout::of_addresses();
        fail(&book, "jane", 5);
        book.clear(&digest("jane"));
        assert!(book.begin(digest("jane"), NOW).is_ok());
        fail(&book, "john", 5);
        let later = NOW.plus(FORGOTTEN);
        for _ in 0..5 {
            assert!(book.begin(digest("john"), later).is_ok());
        }
        assert!(book.begin(digest("john"), later).is_err());
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nobody_wait_for_longer() {
        let book = Lockout::of_addresses();
        fail(&book, "jane", 6);
        let before = NOW.minus(Duration::from_hours(5));
        let wait = book.begin(digest("jane"), before).unwrap_err();
        assert_eq!(wait, Duration::from_secs(2));
        assert!(book.begin(digest("jane"), before.plus(wait)).is_ok());
    }

    #[test]
    fn an_attempt_that_was_not_wrong_does_not_count() {
        let book = Lockout::of_addresses();
        for _ in 0..100 {
            book.begin(digest("10.0.0.1"), NOW).unwrap();
            book.take_back(&digest("10.0.0.1"));
        }
        assert_eq!(book.entries.lock().unwrap().len(), 0);
    }

    #[test]
    fn a_flood_of_names_keeps_the_book_small_and_does_not_free_who_waits() {
        let book = Lockout::of_addresses();
        fail(&book, "jane", 5);
        for n in 0..MAX_ENTRIES + 500 {
            let _ = book.begin(digest(&format!("flood {n}")), NOW);
        }
        assert_eq!(book.entries.lock().unwrap().len(), MAX_ENTRIES);
        assert!(book.begin(digest("jane"), NOW).is_err());
    }

    #[test]
    fn five_codes_may_be_tried_per_minute() {
        let minutes = Minutes::default();
        for _ in 0..5 {
            minutes.begin(digest("jane"), NOW).unwrap();
        }
        let soon = NOW.plus(Duration::from_secs(20));
        assert_eq!(
            minutes.begin(digest("jane"), soon),
            Err(Duration::from_secs(40))
        );
        assert!(minutes.begin(digest("john"), soon).is_ok());
        assert!(
            minutes
                .begin(digest("jane"), NOW.plus(Duration::from_mins(1)))
                .is_ok()
        );
    }
}
