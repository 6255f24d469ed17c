//! Where deliveries come from and where their fate is kept: what the reconciler
//! needs of the store, and nothing else of it.

use std::future::Future;

use model::{Delivery, Rule, RuleName, Timestamp};
use tokio::sync::watch;

/// Why a delivery's fate is not on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeepError {
    /// The disk; it may be well again later.
    TryAgain(String),
    /// The store has no use for it: there is no such delivery any more.
    Refused(String),
    /// The store is closed.
    Closed,
}

/// The outbox as the reconciler sees it.
pub(crate) trait Outbox: Send + Sync {
    /// At most `limit` queued deliveries, from the oldest.
    fn queued(&self, limit: usize) -> Vec<Delivery>;

    /// The rule called `name` as it is now.
    fn rule(&self, name: &RuleName) -> Option<Rule>;

    /// Counts changes of the outbox.
    fn changed(&self) -> watch::Receiver<u64>;

    /// Keeps a delivery's new state; on disk when this returns.
    fn keep(&self, delivery: Delivery) -> impl Future<Output = Result<(), KeepError>> + Send;
}
