//! Where deliveries come from and where their fate is kept: what the reconciler
//! needs of the store, and nothing else of it.

use std::collections::BTreeMap;
use std::future::Future;

use model::{Channel, Delivery, Rule, RuleName};
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

/// Which deliveries are asked for: who carries mail sees no others, and however
/// many wait for one channel, those of another are not behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over<'a> {
    /// Mail.
    Mail,
    /// This notifier plugin.
    Plugin(&'a str),
}

impl Over<'_> {
    /// Whether what goes over `channel` is one of them.
    pub(crate) fn is(self, channel: &Channel) -> bool {
        match (self, channel) {
            (Over::Mail, Channel::Mail { .. }) => true,
            (Over::Plugin(name), Channel::Plugin { plugin }) => plugin == name,
            (Over::Mail, Channel::Plugin { .. }) | (Over::Plugin(_), Channel::Mail { .. }) => false,
        }
    }
}

/// The outbox as the reconciler sees it.
pub(crate) trait Outbox: Send + Sync {
    /// At most `limit` queued deliveries, from the oldest, whenever they are due:
    /// that is decided in `lanes`.
    fn queued(&self, over: Over<'_>, limit: usize) -> Vec<Delivery>;

    /// How many are queued for each plugin.
    fn plugins(&self) -> BTreeMap<String, usize>;

    /// The rule called `name` as it is now.
    fn rule(&self, name: &RuleName) -> Option<Rule>;

    /// Counts changes of the outbox.
    fn changed(&self) -> watch::Receiver<u64>;

    /// Keeps a delivery's new state; on disk when this returns.
    fn keep(&self, delivery: Delivery) -> impl Future<Output = Result<(), KeepError>> + Send;
}

impl Outbox for Store {
    fn queued(&self, over: Over<'_>, limit: usize) -> Vec<Delivery> {
        self.outbox_waiting(limit, |channel| over.is(channel))
    }

    fn plugins(&self) -> BTreeMap<String, usize> {
        self.outbox_of_plugins()
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
