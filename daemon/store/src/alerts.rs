//! Alerts: open ones in memory and in one table, resolved ones in another, so
//! that a start reads only the few that still matter.

use std::sync::Arc;

use model::{
    Alert, AlertId, AlertState, Delivery, DeliveryState, DeviceId, RuleName, Severity, Timestamp,
};
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};

use crate::book::{Book, Change};
use crate::error::Fault;
use crate::{outbox, tables};

/// Resolved alerts that are kept, whatever their age: the oldest go first.
pub const MAX_PAST_ALERTS: u64 = 100_000;

/// What the rules decided at one instant: kept in one transaction, so there is
/// neither an alert that nobody is told of nor a mail about nothing.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// New or changed.
    pub alerts: Vec<Alert>,
    /// Pending ones that came to nothing.
    pub gone: Vec<AlertId>,
    /// To be told; the store gives them their numbers, in this order.
    pub deliveries: Vec<Delivery>,
}

/// Which alerts are asked for: those that meet every part.
#[derive(Clone, Debug)]
pub struct AlertsAsk {
    /// In one of these states, by their words; empty: in any.
    pub states: Vec<String>,
    /// Of this device.
    pub device: Option<DeviceId>,
    /// Of this rule.
    pub rule: Option<RuleName>,
    /// As bad as this.
    pub severity: Option<Severity>,
    /// Older than this one.
    pub before: Option<AlertId>,
    /// At most so many.
    pub limit: usize,
}

impl AlertsAsk {
    fn meets(&self, alert: &Alert) -> bool {
        let state = alert.state.word();
        (self.states.is_empty() || self.states.iter().any(|word| word == state))
            && self.device.is_none_or(|device| device == alert.device)
            && self.rule.as_ref().is_none_or(|rule| *rule == alert.rule)
            && self
                .severity
                .is_none_or(|severity| severity == alert.severity)
            && self.before.is_none_or(|before| alert.id < before)
    }

    fn wants_past(&self) -> bool {
        let resolved = AlertState::Resolved;
        self.states.is_empty() || self.states.iter().any(|word| word == resolved.word())
    }
}

/// Keeps what the rules decided.
pub(crate) fn judge(change: &mut Change<'_>, judgement: &Judgement) -> Result<(), Fault> {
    for alert in &judgement.alerts {
        keep(change, alert)?;
    }
    for id in &judgement.gone {
        if Arc::make_mut(&mut change.book.alerts).remove(id).is_some() {
            tables::ALERT.remove(change.txn, id.0)?;
        }
    }
    let queued = change.book.queued.len();
    for delivery in &judgement.deliveries {
        outbox::enqueue(change, delivery)?;
    }
    let to_queue = |delivery: &&Delivery| matches!(delivery.state, DeliveryState::Queued { .. });
    let wanted = judgement.deliveries.iter().filter(to_queue).count();
    let parked = queued + wanted - change.book.queued.len();
    if parked > 0 {
        tracing::warn!(
            parked,
            "too many deliveries wait already: new notifications are parked, to be retried by hand"
        );
    }
    let highest = judgement.alerts.iter().map(|alert| alert.id.0);
    let highest = highest.chain(judgement.gone.iter().map(|id| id.0)).max();
    if let Some(id) = highest.filter(|id| *id >= change.book.next_alert) {
        change.book.next_alert = id + 1;
        tables::COUNTER.put(change.txn, tables::NEXT_ALERT, &(id + 1))?;
    }
    Ok(())
}

fn keep(change: &mut Change<'_>, alert: &Alert) -> Result<(), Fault> {
    let open = Arc::make_mut(&mut change.book.alerts);
    if alert.state == AlertState::Resolved {
        if open.remove(&alert.id).is_some() {
            tables::ALERT.remove(change.txn, alert.id.0)?;
        }
        tables::ALERT_PAST.put(change.txn, alert.id.0, alert)?;
        return forget_oldest(change);
    }
    open.insert(alert.id, Arc::new(alert.clone()));
    tables::ALERT.put(change.txn, alert.id.0, alert)
}

fn forget_oldest(change: &Change<'_>) -> Result<(), Fault> {
    let mut past = change.txn.open_table(tables::ALERT_PAST.definition())?;
    while past.len()? > MAX_PAST_ALERTS {
        past.pop_first()?;
    }
    Ok(())
}

/// The alert with this number, wherever it is kept.
pub(crate) fn find(
    book: &Book,
    txn: impl FnOnce() -> Result<ReadTransaction, Fault>,
    id: AlertId,
) -> Result<Option<Alert>, Fault> {
    match book.alerts.get(&id) {
        Some(alert) => Ok(Some(Alert::clone(alert))),
        None => tables::ALERT_PAST.get(&txn()?, id.0),
    }
}

/// What `ask` asks for, newest first.
pub(crate) fn list(
    book: &Book,
    txn: impl FnOnce() -> Result<ReadTransaction, Fault>,
    ask: &AlertsAsk,
) -> Result<Vec<Alert>, Fault> {
    let open = book.alerts.values().rev().filter(|alert| ask.meets(alert));
    let mut found: Vec<Alert> = open.take(ask.limit).map(|a| Alert::clone(a)).collect();
    if ask.wants_past() {
        found.extend(past(&txn()?, ask)?);
        found.sort_unstable_by_key(|alert| std::cmp::Reverse(alert.id));
        // resolved between our looks at memory and at the disk
        found.dedup_by_key(|alert| alert.id);
        found.truncate(ask.limit);
    }
    Ok(found)
}

fn past(txn: &ReadTransaction, ask: &AlertsAsk) -> Result<Vec<Alert>, Fault> {
    let table = txn.open_table(tables::ALERT_PAST.definition())?;
    let before = ask.before.map_or(u64::MAX, |id| id.0);
    let mut found = Vec::new();
    for row in table.range(..before)?.rev() {
        if found.len() >= ask.limit {
            break;
        }
        let (key, sealed) = row?;
        let alert = tables::ALERT_PAST.unseal(&key.value(), sealed.value())?;
        if ask.meets(&alert) {
            found.push(alert);
        }
    }
    Ok(found)
}

/// Forgets those resolved before `cutoff` among the `count` after `cursor`;
/// gives the place to go on from, 0 at the end.
pub(crate) fn sweep(
    change: &Change<'_>,
    cursor: u64,
    count: usize,
    cutoff: Timestamp,
) -> Result<u64, Fault> {
    let mut past = change.txn.open_table(tables::ALERT_PAST.definition())?;
    let mut old = Vec::new();
    let mut next = 0;
    for (place, row) in past.range(cursor..)?.enumerate() {
        let (key, sealed) = row?;
        if place == count {
            next = key.value();
            break;
        }
        let alert = tables::ALERT_PAST.unseal(&key.value(), sealed.value())?;
        if alert.resolved.unwrap_or(alert.judged) < cutoff {
            old.push(key.value());
        }
    }
    for id in old {
        past.remove(id)?;
    }
    Ok(next)
}
