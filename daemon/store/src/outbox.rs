//! What is to be told, until it is told: queued deliveries in memory and in
//! one table, parked and delivered ones in tables of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{By, Channel, Delivery, DeliveryState, OutboxId, TenantName, Timestamp};
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};

use crate::audit::{self, Line};
use crate::book::{Book, Change};
use crate::error::{Fault, Refusal};
use crate::record::Kept;
use crate::{shown, tables};

/// Mails that can wait: they are in memory. A notification beyond it is parked
/// at once, which is shown, rather than keeping its alert out.
pub const MAX_QUEUED: usize = 20_000;

/// Deliveries that can wait for one notifier plugin: one that is broken takes no
/// room from mail or from the others.
pub const MAX_QUEUED_PER_PLUGIN: usize = 5_000;

/// Deliveries that can wait in all; beyond it, none of a plugin's are queued.
const MAX_QUEUED_IN_ALL: usize = 2 * MAX_QUEUED;

/// Parked deliveries that are kept: the oldest go first.
pub const MAX_PARKED: u64 = 20_000;

/// Done deliveries that are kept, whatever their age: the oldest go first.
pub const MAX_DELIVERED: u64 = 100_000;

/// Which deliveries are asked for.
#[derive(Clone, Debug)]
pub struct OutboxAsk {
    /// In one of these states, by their words; empty: in any.
    pub states: Vec<String>,
    /// Older than this one.
    pub before: Option<OutboxId>,
    /// At most so many.
    pub limit: usize,
}

impl OutboxAsk {
    fn wants(&self, word: &str) -> bool {
        self.states.is_empty() || self.states.iter().any(|state| state == word)
    }
}

/// Gives `delivery` its number and keeps it; parked, if too many wait.
pub(crate) fn enqueue(change: &mut Change<'_>, delivery: &Delivery) -> Result<OutboxId, Fault> {
    let id = OutboxId(change.book.next_delivery);
    change.book.next_delivery += 1;
    tables::COUNTER.put(
        change.txn,
        tables::NEXT_DELIVERY,
        &change.book.next_delivery,
    )?;
    let mut delivery = Delivery {
        id,
        ..delivery.clone()
    };
    if let Some(limit) = full(&change.book, &delivery.channel) {
        delivery.state = DeliveryState::Parked;
        delivery.last_error = Some(format!("{limit} deliveries were waiting before it"));
    }
    keep(change, delivery)?;
    Ok(id)
}

/// The limit, if no more deliveries over `channel` can wait.
fn full(book: &Book, channel: &Channel) -> Option<usize> {
    let (limit, is_one): (usize, fn(&Channel, &Channel) -> bool) = match channel {
        Channel::Mail { .. } => (MAX_QUEUED, |one, _| matches!(one, Channel::Mail { .. })),
        Channel::Plugin { .. } if book.queued.len() >= MAX_QUEUED_IN_ALL => {
            return Some(MAX_QUEUED_IN_ALL);
        }
        Channel::Plugin { .. } => (MAX_QUEUED_PER_PLUGIN, |one, other| one == other),
    };
    if book.queued.len() < limit {
        return None;
    }
    let waiting = book.queued.values();
    let waiting = waiting.filter(|delivery| is_one(&delivery.channel, channel));
    (waiting.count() >= limit).then_some(limit)
}

/// Like [`enqueue`], asked for by hand.
pub(crate) fn enqueue_test(
    change: &mut Change<'_>,
    by: &By,
    delivery: &Delivery,
    now: Timestamp,
) -> Result<OutboxId, Fault> {
    let id = enqueue(change, delivery)?;
    let line = Line::on("notification.test", &format!("delivery:{id}"))
        .of(tenant_of(change, delivery))
        .after(shown::addressed(delivery));
    audit::append(change, by, now, line)?;
    Ok(id)
}

/// Replaces what is kept of `delivery`, wherever that is.
pub(crate) fn update(
    change: &mut Change<'_>,
    delivery: &Delivery,
) -> Result<Result<(), Refusal>, Fault> {
    if !take_out(change, delivery.id)? {
        return Ok(Err(Refusal::NoSuchDelivery { id: delivery.id }));
    }
    keep(change, delivery.clone()).map(Ok)
}

/// Queues a parked delivery again, due now.
pub(crate) fn retry(
    change: &mut Change<'_>,
    by: &By,
    id: OutboxId,
    now: Timestamp,
) -> Result<Result<Delivery, Refusal>, Fault> {
    let Some(parked) = tables::PARKED.get_in(change.txn, id.0)? else {
        let known = change.book.queued.contains_key(&id)
            || tables::DELIVERED.get_in(change.txn, id.0)?.is_some();
        return Ok(Err(if known {
            Refusal::NotParked { id }
        } else {
            Refusal::NoSuchDelivery { id }
        }));
    };
    if let Some(limit) = full(&change.book, &parked.channel) {
        return Ok(Err(Refusal::TooMany {
            what: "deliveries that wait",
            limit,
        }));
    }
    let before = shown::delivery(&parked);
    let delivery = Delivery {
        state: DeliveryState::Queued { next: now },
        ..parked
    };
    let line = Line::on("outbox.retry", &format!("delivery:{id}"))
        .of(tenant_of(change, &delivery))
        .before(before)
        .after(shown::delivery(&delivery));
    audit::append(change, by, now, line)?;
    take_out(change, id)?;
    keep(change, delivery.clone())?;
    Ok(Ok(delivery))
}

/// Whose device it tells of.
fn tenant_of(change: &Change<'_>, delivery: &Delivery) -> Option<TenantName> {
    let alert = delivery.alert.as_ref()?;
    let device = change.book.inventory.device(alert.device)?;
    Some(device.tenant.clone())
}

fn take_out(change: &mut Change<'_>, id: OutboxId) -> Result<bool, Fault> {
    if change.book.queued.contains_key(&id) {
        Arc::make_mut(&mut change.book.queued).remove(&id);
        return tables::QUEUED.remove(change.txn, id.0);
    }
    if change.book.parked.contains(&id) {
        Arc::make_mut(&mut change.book.parked).remove(&id);
        return tables::PARKED.remove(change.txn, id.0);
    }
    tables::DELIVERED.remove(change.txn, id.0)
}

fn keep(change: &mut Change<'_>, delivery: Delivery) -> Result<(), Fault> {
    change.book.outbox_changes += 1;
    let id = delivery.id;
    match delivery.state {
        DeliveryState::Queued { .. } => {
            tables::QUEUED.put(change.txn, id.0, &delivery)?;
            Arc::make_mut(&mut change.book.queued).insert(id, Arc::new(delivery));
        }
        DeliveryState::Parked => {
            tables::PARKED.put(change.txn, id.0, &delivery)?;
            Arc::make_mut(&mut change.book.parked).insert(id);
            for old in forget_oldest(change, &tables::PARKED, MAX_PARKED)? {
                Arc::make_mut(&mut change.book.parked).remove(&OutboxId(old));
            }
        }
        DeliveryState::Delivered { .. } => {
            tables::DELIVERED.put(change.txn, id.0, &delivery)?;
            forget_oldest(change, &tables::DELIVERED, MAX_DELIVERED)?;
        }
    }
    Ok(())
}

fn forget_oldest(
    change: &Change<'_>,
    kept: &Kept<u64, Delivery>,
    limit: u64,
) -> Result<Vec<u64>, Fault> {
    let mut table = change.txn.open_table(kept.definition())?;
    let mut forgotten = Vec::new();
    while table.len()? > limit {
        let oldest = table.pop_first()?;
        forgotten.extend(oldest.map(|(key, _)| key.value()));
    }
    Ok(forgotten)
}

/// Those to be tried now, oldest first.
pub(crate) fn due(book: &Book, now: Timestamp, limit: usize) -> Vec<Delivery> {
    book.queued
        .values()
        .filter(|delivery| next_try(delivery).is_some_and(|next| next <= now))
        .take(limit)
        .map(|delivery| Delivery::clone(delivery))
        .collect()
}

/// Those over channels that `wants` names, whenever they are due, oldest first.
pub(crate) fn waiting(
    book: &Book,
    limit: usize,
    wants: impl Fn(&Channel) -> bool,
) -> Vec<Delivery> {
    book.queued
        .values()
        .filter(|delivery| wants(&delivery.channel))
        .take(limit)
        .map(|delivery| Delivery::clone(delivery))
        .collect()
}

/// How many wait for each plugin; none that nothing waits for.
pub(crate) fn waiting_for_plugins(book: &Book) -> BTreeMap<String, usize> {
    let mut waiting = BTreeMap::new();
    for delivery in book.queued.values() {
        if let Channel::Plugin { plugin } = &delivery.channel {
            match waiting.get_mut(plugin) {
                Some(count) => *count += 1,
                None => drop(waiting.insert(plugin.clone(), 1)),
            }
        }
    }
    waiting
}

/// When the next one is to be tried.
pub(crate) fn next(book: &Book) -> Option<Timestamp> {
    book.queued.values().filter_map(|d| next_try(d)).min()
}

fn next_try(delivery: &Delivery) -> Option<Timestamp> {
    match delivery.state {
        DeliveryState::Queued { next } => Some(next),
        DeliveryState::Parked | DeliveryState::Delivered { .. } => None,
    }
}

/// The delivery with this number, wherever it is kept.
pub(crate) fn find(
    book: &Book,
    txn: impl FnOnce() -> Result<ReadTransaction, Fault>,
    id: OutboxId,
) -> Result<Option<Delivery>, Fault> {
    if let Some(delivery) = book.queued.get(&id) {
        return Ok(Some(Delivery::clone(delivery)));
    }
    let txn = txn()?;
    match tables::PARKED.get(&txn, id.0)? {
        Some(delivery) => Ok(Some(delivery)),
        None => tables::DELIVERED.get(&txn, id.0),
    }
}

/// What `ask` asks for, newest first.
pub(crate) fn list(
    book: &Book,
    txn: impl FnOnce() -> Result<ReadTransaction, Fault>,
    ask: &OutboxAsk,
) -> Result<Vec<Delivery>, Fault> {
    let before = ask.before.unwrap_or(OutboxId(u64::MAX));
    let mut found: Vec<Delivery> = Vec::new();
    if ask.wants("queued") {
        let queued = book.queued.range(..before).rev().take(ask.limit);
        found.extend(queued.map(|(_, delivery)| Delivery::clone(delivery)));
    }
    if ask.wants("parked") || ask.wants("delivered") {
        let txn = txn()?;
        if ask.wants("parked") {
            found.extend(newest(&txn, &tables::PARKED, before, ask.limit)?);
        }
        if ask.wants("delivered") {
            found.extend(newest(&txn, &tables::DELIVERED, before, ask.limit)?);
        }
    }
    found.sort_unstable_by_key(|delivery| std::cmp::Reverse(delivery.id));
    // moved between our looks at memory and at the disk
    found.dedup_by_key(|delivery| delivery.id);
    found.truncate(ask.limit);
    Ok(found)
}

fn newest(
    txn: &ReadTransaction,
    kept: &Kept<u64, Delivery>,
    before: OutboxId,
    limit: usize,
) -> Result<Vec<Delivery>, Fault> {
    let table = txn.open_table(kept.definition())?;
    table
        .range(..before.0)?
        .rev()
        .take(limit)
        .map(|row| {
            let (key, sealed) = row?;
            kept.unseal(&key.value(), sealed.value())
        })
        .collect()
}

/// Forgets those delivered before `cutoff`, at most `count` of them.
pub(crate) fn sweep(change: &Change<'_>, count: usize, cutoff: Timestamp) -> Result<(), Fault> {
    let mut table = change.txn.open_table(tables::DELIVERED.definition())?;
    for _ in 0..count {
        let Some((id, delivery)) = table
            .first()?
            .map(|(key, sealed)| {
                let delivery = tables::DELIVERED.unseal(&key.value(), sealed.value());
                delivery.map(|delivery| (key.value(), delivery))
            })
            .transpose()?
        else {
            break;
        };
        if delivery.created >= cutoff {
            break;
        }
        table.remove(id)?;
    }
    Ok(())
}
