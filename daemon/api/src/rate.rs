//! How often somebody may ask.
//!
//! Each principal has a bucket of its own that fills up over a minute. There
//! are only so many buckets: who comes when all are in use shares one with
//! others like them, so that a flood from many addresses takes neither memory
//! nor anybody's place.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;

/// Buckets that are kept.
const BUCKETS: usize = 10_000;

/// A bucket is full again after a minute, and then as good as none.
const FULL_AFTER: Duration = Duration::from_secs(60);

struct Bucket {
    per_minute: NonZeroU32,
    limiter: DefaultDirectRateLimiter,
    used: Instant,
}

impl Bucket {
    fn new(per_minute: NonZeroU32) -> Bucket {
        Bucket {
            per_minute,
            limiter: RateLimiter::direct(Quota::per_minute(per_minute)),
            used: Instant::now(),
        }
    }

    fn take(&mut self) -> Result<(), Duration> {
        self.used = Instant::now();
        self.limiter
            .check()
            .map_err(|full| full.wait_time_from(DefaultClock::default().now()))
    }
}

/// Buckets by whom they are for.
pub(crate) struct Buckets<K>(Mutex<Kept<K>>);

struct Kept<K> {
    own: HashMap<K, Bucket>,
    shared: Option<Bucket>,
}

impl<K: Eq + Hash> Buckets<K> {
    pub(crate) fn new() -> Buckets<K> {
        Buckets(Mutex::new(Kept {
            own: HashMap::new(),
            shared: None,
        }))
    }

    /// Takes one request out of the bucket for `key`, which holds `per_minute`
    /// of them.
    ///
    /// # Errors
    ///
    /// How long it is until the next one.
    pub(crate) fn take(&self, key: K, per_minute: u32) -> Result<(), Duration> {
        let per_minute = NonZeroU32::new(per_minute).unwrap_or(NonZeroU32::MIN);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.own.len() >= BUCKETS && !kept.own.contains_key(&key) {
            let now = Instant::now();
            kept.own.retain(|_, bucket| now - bucket.used < FULL_AFTER);
        }
        let bucket = match kept.own.len() >= BUCKETS && !kept.own.contains_key(&key) {
            true => kept.shared.get_or_insert_with(|| Bucket::new(per_minute)),
            false => kept
                .own
                .entry(key)
                .or_insert_with(|| Bucket::new(per_minute)),
        };
        if bucket.per_minute != per_minute {
            *bucket = Bucket::new(per_minute);
        }
        bucket.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_for_one_and_not_for_others() {
        let buckets = Buckets::new();
        for _ in 0..3 {
            assert_eq!(buckets.take("a", 3), Ok(()));
        }
        let wait = buckets.take("a", 3).unwrap_err();
        assert!(
            wait > Duration::ZERO && wait <= Duration::from_secs(20),
            "{wait:?}"
        );
        assert_eq!(buckets.take("b", 3), Ok(()));
        // another limit begins anew
        assert_eq!(buckets.take("a", 5), Ok(()));
    }

    #[test]
    fn a_flood_of_keys_takes_no_more_than_its_memory_and_shares_one_bucket() {
        let buckets = Buckets::new();
        let refused = (0..BUCKETS + 100)
            .filter(|key| buckets.take(*key, 10).is_err())
            .count();
        assert_eq!(refused, 90);
        assert_eq!(buckets.0.lock().unwrap().own.len(), BUCKETS);
    }
}
