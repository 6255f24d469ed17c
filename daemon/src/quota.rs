//! What a tenant may measure: values per second, over all of its devices.
//!
//! Each tenant with a quota has a bucket that fills at that rate and holds one
//! round of polls ([`BURST`]). A poll takes what it brought out of the bucket; how
//! much that will be is known only afterwards, so the bucket may go below zero,
//! and the next polls are skipped and counted until it is filled again. A tenant
//! that asks for too much thus gets its share, evenly, and nobody else notices.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::TenantName;

/// How long a bucket saves what is not used: polls come in rounds.
const BURST: Duration = Duration::from_secs(60);

/// One tenant's bucket.
struct Bucket {
    values: f64,
    filled: Duration,
}

/// The buckets of all tenants that have a quota.
#[derive(Default)]
pub(crate) struct Quotas(Mutex<HashMap<TenantName, Bucket>>);

impl Quotas {
    /// Whether `tenant`, with `per_second` values a second, may measure at
    /// `now`.
    pub(crate) fn allow(&self, tenant: &TenantName, per_second: u64, now: Duration) -> bool {
        let room = as_f64(per_second) * BURST.as_secs_f64();
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(tenant.clone()).or_insert(Bucket {
            values: room,
            filled: now,
        });
        let elapsed = now.saturating_sub(bucket.filled).as_secs_f64();
        bucket.values = (bucket.values + elapsed * as_f64(per_second)).min(room);
        bucket.filled = now;
        bucket.values > 0.0
    }

    /// Takes `values` that were measured out of the tenant's bucket, if it has
    /// one.
    pub(crate) fn take(&self, tenant: &TenantName, values: usize) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get_mut(tenant) {
            bucket.values -= as_f64(u64::try_from(values).unwrap_or(u64::MAX));
        }
    }

    /// Forgets the buckets of tenants that `keep` does not want.
    pub(crate) fn retain(&self, keep: impl Fn(&TenantName) -> bool) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.retain(|tenant, _| keep(tenant));
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "nobody measures 2^53 values a second"
)]
fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that a tenant with 10 values a second gets in `seconds`, where a
    /// poll of 100 values is due each second.
    fn measured(quotas: &Quotas, tenant: &str, from: u64, seconds: u64) -> usize {
        let tenant = TenantName(tenant.to_owned());
        let polls = (from..from + seconds).filter(|second| {
            let allowed = quotas.allow(&tenant, 10, Duration::from_secs(*second));
            if allowed {
                quotas.take(&tenant, 100);
            }
            allowed
        });
        polls.count() * 100
    }

    #[test]
    fn a_tenant_gets_its_share_and_a_burst_and_no_more() {
        let quotas = Quotas::default();
        let first = measured(&quotas, "acme", 0, 600);
        assert!((6_000..=6_700).contains(&first), "{first}");
        let then = measured(&quotas, "acme", 600, 600);
        assert!((5_900..=6_100).contains(&then), "{then}");
    }

    #[test]
    fn one_tenant_uses_nothing_of_anothers_share() {
        let quotas = Quotas::default();
        measured(&quotas, "acme", 0, 600);
        assert!(measured(&quotas, "other", 600, 60) >= 1_100);
    }

    #[test]
    fn a_clock_that_stands_still_gives_nothing() {
        let quotas = Quotas::default();
        let tenant = TenantName("acme".to_owned());
        let at = Duration::from_secs(5);
        assert!(quotas.allow(&tenant, 1, at));
        quotas.take(&tenant, 1_000);
        assert!(!quotas.allow(&tenant, 1, at));
        quotas.retain(|_| false);
        assert!(quotas.allow(&tenant, 1, at));
    }
}
