//! What is kept in memory whole, beside the samples: devices, credentials,
//! rules, open alerts and what waits in the outbox.
//!
//! A [`Book`] is a handful of shared maps. The writer changes a copy (only the
//! maps that it touches are really copied) together with a transaction, and
//! publishes the copy once the transaction is on the disk. If it does not get
//! there, the copy is dropped: memory never runs ahead of the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Alert, AlertId, CredentialName, Delivery, OutboxId, Rule, RuleName};
use redb::{ReadTransaction, WriteTransaction};

use crate::credentials::KeptCredential;
use crate::error::Fault;
use crate::inventory::Inventory;
use crate::tables;

/// One consistent state.
#[derive(Clone, Default)]
pub(crate) struct Book {
    pub(crate) inventory: Arc<Inventory>,
    pub(crate) credentials: Arc<BTreeMap<CredentialName, KeptCredential>>,
    /// Those of the API.
    pub(crate) rules: Arc<BTreeMap<RuleName, Rule>>,
    /// Those that are not resolved.
    pub(crate) alerts: Arc<BTreeMap<AlertId, Arc<Alert>>>,
    pub(crate) next_alert: u64,
    pub(crate) queued: Arc<BTreeMap<OutboxId, Arc<Delivery>>>,
    pub(crate) parked: Arc<BTreeSet<OutboxId>>,
    pub(crate) next_delivery: u64,
    /// Counts transactions with something that somebody waits for: says
    /// whether one that failed in its very last step is on the disk after all.
    pub(crate) writes: u64,
    /// Counts changes of devices, rules and credentials.
    pub(crate) watched: u64,
    /// Counts changes of the outbox.
    pub(crate) outbox_changes: u64,
}

/// A copy of the book and the transaction that it is changed with.
pub(crate) struct Change<'t> {
    pub(crate) txn: &'t WriteTransaction,
    pub(crate) book: Book,
    pub(crate) file_rules: Arc<Vec<Rule>>,
}

impl Book {
    /// Reads everything, counting the rows.
    pub(crate) fn load(txn: &ReadTransaction) -> Result<Book, Fault> {
        let mut book = Book {
            next_alert: tables::COUNTER.get(txn, tables::NEXT_ALERT)?.unwrap_or(1),
            next_delivery: tables::COUNTER
                .get(txn, tables::NEXT_DELIVERY)?
                .unwrap_or(1),
            writes: tables::COUNTER.get(txn, tables::WRITES)?.unwrap_or(0),
            ..Book::default()
        };
        let mut inventory = Inventory::default();
        tables::DEVICE.load(txn, |_, device| inventory.insert(Arc::new(device)))?;
        book.inventory = Arc::new(inventory);

        let credentials = Arc::make_mut(&mut book.credentials);
        tables::CREDENTIAL.load(txn, |name, kept| {
            credentials.insert(CredentialName(name.to_owned()), kept);
        })?;
        let rules = Arc::make_mut(&mut book.rules);
        tables::RULE.load(txn, |name, rule| {
            rules.insert(RuleName(name.to_owned()), rule);
        })?;
        let alerts = Arc::make_mut(&mut book.alerts);
        tables::ALERT.load(txn, |id, alert| {
            alerts.insert(AlertId(id), Arc::new(alert));
        })?;
        let queued = Arc::make_mut(&mut book.queued);
        tables::QUEUED.load(txn, |id, delivery| {
            queued.insert(OutboxId(id), Arc::new(delivery));
        })?;
        let parked = Arc::make_mut(&mut book.parked);
        tables::PARKED.load(txn, |id, _| {
            parked.insert(OutboxId(id));
        })?;
        Ok(book)
    }
}
