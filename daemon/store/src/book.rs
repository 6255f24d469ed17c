//! What is kept in memory whole, beside the samples: devices, rules, people,
//! sessions, credentials, sealed secrets, plugins and what they keep, open
//! alerts and what waits in the outbox.
//!
//! A [`Book`] is a handful of shared maps. The writer changes a copy (only the
//! maps that it touches are really copied) together with a transaction, and
//! publishes the copy once the transaction is on the disk. If it does not get
//! there, the copy is dropped: memory never runs ahead of the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{
    Alert, AlertId, CredentialName, CredentialRecord, Delivery, KeyRing, OutboxId, Rule, RuleName,
    SecretName, SecretRecord, SessionId, SessionRecord, Timestamp,
};
use redb::{ReadTransaction, WriteTransaction};

use crate::answers::Answers;
use crate::audit::Denied;
use crate::credentials::PlainCredential;
use crate::error::Fault;
use crate::inventory::Inventory;
use crate::people::People;
use crate::plugins::Plugins;
use crate::tables::{self, AuditMark};

/// One consistent state.
#[derive(Clone)]
pub(crate) struct Book {
    pub(crate) inventory: Arc<Inventory>,
    pub(crate) people: Arc<People>,
    pub(crate) sessions: Arc<BTreeMap<SessionId, Arc<SessionRecord>>>,
    pub(crate) credentials: Arc<BTreeMap<CredentialName, Arc<CredentialRecord>>>,
    /// What an older version kept, until it is sealed.
    pub(crate) plain: Arc<BTreeMap<CredentialName, PlainCredential>>,
    pub(crate) secrets: Arc<BTreeMap<SecretName, Arc<SecretRecord>>>,
    pub(crate) key_ring: Arc<KeyRing>,
    pub(crate) answers: Arc<Answers>,
    pub(crate) plugins: Plugins,
    /// The newest line of the audit log.
    pub(crate) audit_head: AuditMark,
    /// What is known of its denied lines.
    pub(crate) denied: Denied,
    /// Counts lines of the audit log that nobody waited for: says whether
    /// those in a transaction that failed are on the disk after all.
    pub(crate) notes: u64,
    /// Free pages are to be overwritten.
    pub(crate) to_wipe: bool,
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
    /// What time it is, as far as anybody said.
    pub(crate) heard: Timestamp,
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
            notes: tables::COUNTER.get(txn, tables::NOTES)?.unwrap_or(0),
            to_wipe: tables::COUNTER.get(txn, tables::WIPE)? == Some(1),
            audit_head: AuditMark::START,
            denied: Denied::load(txn)?,
            people: Arc::new(People::load(txn)?),
            answers: Arc::new(Answers::load(txn)?),
            plugins: Plugins::load(txn)?,
            inventory: Arc::default(),
            sessions: Arc::default(),
            credentials: Arc::default(),
            plain: Arc::default(),
            secrets: Arc::default(),
            key_ring: Arc::default(),
            rules: Arc::default(),
            alerts: Arc::default(),
            queued: Arc::default(),
            parked: Arc::default(),
            watched: 0,
            outbox_changes: 0,
        };
        tables::AUDIT_END.load(txn, |end, mark| {
            if end == tables::HEAD {
                book.audit_head = mark;
            }
        })?;
        tables::KEY_RING.load(txn, |_, ring| book.key_ring = Arc::new(ring))?;
        let mut inventory = Inventory::default();
        tables::DEVICE.load(txn, |_, device| inventory.insert(Arc::new(device)))?;
        book.inventory = Arc::new(inventory);

        let credentials = Arc::make_mut(&mut book.credentials);
        tables::CREDENTIAL.load(txn, |name, kept| {
            credentials.insert(CredentialName(name.to_owned()), Arc::new(kept));
        })?;
        let plain = Arc::make_mut(&mut book.plain);
        tables::CREDENTIAL_PLAIN.load(txn, |name, kept| {
            plain.insert(CredentialName(name.to_owned()), kept);
        })?;
        let secrets = Arc::make_mut(&mut book.secrets);
        tables::SECRET.load(txn, |name, kept| {
            secrets.insert(SecretName(name.to_owned()), Arc::new(kept));
        })?;
        let sessions = Arc::make_mut(&mut book.sessions);
        tables::SESSION.load(txn, |id, kept| {
            sessions.insert(SessionId(id.to_owned()), Arc::new(kept));
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
