//! Where deliveries come from and where their fate is kept: what the reconciler
//! needs of the store, and nothing else of it.

use std::future::Future;

use model::{Delivery, Rule, RuleName, Timestamp};
use store::{Store, WriteError};
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

/// Later than anything that is queued: whether a delivery is due is decided in
/// `lanes`.
const AT_ANY_TIME: Timestamp = Timestamp(u64::MAX);

impl Outbox for Store {
    fn queued(&self, limit: usize) -> Vec<Delivery> {
        self.outbox_due(AT_ANY_TIME, limit)
    }

    fn rule(&self, name: &RuleName) -> Option<Rule> {
        self.rules().iter().find(|rule| rule.name == *name).cloned()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.outbox_changed()
    }

    async fn keep(&self, delivery: Delivery) -> Result<(), KeepError> {
        self.update_delivery(delivery)
            .await
            .map_err(|error| match error {
                WriteError::Refused(refusal) => KeepError::Refused(refusal.to_string()),
                WriteError::NotWriting { why } => KeepError::TryAgain(why),
                WriteError::Closed => KeepError::Closed,
            })
    }
}
