//! For tests: an outbox in memory and what a test asks of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use model::{Channel, Delivery, DeliveryState, NotificationEvent, OutboxId, Rule, RuleName};
use tokio::sync::watch;

use crate::outbox::{KeepError, Outbox, Over};
use crate::words::tests::{NIGHT, delivery, down_rule};

/// An outbox in memory. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Desk {
    rows: Arc<Mutex<BTreeMap<OutboxId, Delivery>>>,
    /// What the next `keep` says, while it is an error.
    disk: Arc<Mutex<Result<(), KeepError>>>,
    changed: watch::Sender<u64>,
}

impl Desk {
    pub(crate) fn empty() -> Desk {
        Desk {
            rows: Arc::default(),
            disk: Arc::new(Mutex::new(Ok(()))),
            changed: watch::Sender::new(0),
        }
    }

    /// Alerts with ids from 1, to these recipients.
    pub(crate) fn with_alerts_to(recipients: &[&str]) -> Desk {
        let desk = Desk::empty();
        for to in recipients {
            desk.add(NotificationEvent::Firing, to);
        }
        desk
    }

    /// Queues one more mail; returns its id.
    pub(crate) fn add(&self, event: NotificationEvent, to: &str) -> u64 {
        self.add_over(event, Channel::Mail { to: to.to_owned() })
    }

    /// Queues one more for a plugin; returns its id.
    pub(crate) fn add_for(&self, event: NotificationEvent, plugin: &str) -> u64 {
        let plugin = plugin.to_owned();
        self.add_over(event, Channel::Plugin { plugin })
    }

    fn add_over(&self, event: NotificationEvent, channel: Channel) -> u64 {
        let mut rows = self.rows.lock().unwrap();
        let id = rows.len() as u64 + 1;
        let mut row = delivery(event);
        row.id = OutboxId(id);
        row.channel = channel;
        row.state = DeliveryState::Queued { next: NIGHT };
        if let Some(alert) = &mut row.alert {
            alert.id.0 = id;
        }
        rows.insert(row.id, row);
        drop(rows);
        self.changed.send_modify(|n| *n += 1);
        id
    }

    pub(crate) fn set_disk(&self, disk: Result<(), KeepError>) {
        *self.disk.lock().unwrap() = disk;
    }

    /// As an administrator retries a parked one, or as time goes by.
    pub(crate) fn change(&self, id: u64, change: impl FnOnce(&mut Delivery)) {
        change(self.rows.lock().unwrap().get_mut(&OutboxId(id)).unwrap());
        self.changed.send_modify(|n| *n += 1);
    }

    pub(crate) fn row(&self, id: u64) -> Delivery {
        self.rows.lock().unwrap()[&OutboxId(id)].clone()
    }

    /// The word for each state, from the oldest.
    pub(crate) fn states(&self) -> Vec<&'static str> {
        let rows = self.rows.lock().unwrap();
        rows.values().map(|row| row.state.word()).collect()
    }

    pub(crate) fn are_all_delivered(&self) -> bool {
        self.states().iter().all(|state| *state == "delivered")
    }
}

impl Outbox for Desk {
    fn plugins(&self) -> BTreeMap<String, usize> {
        let rows = self.rows.lock().unwrap();
        let queued = rows
            .values()
            .filter(|row| matches!(row.state, DeliveryState::Queued { .. }));
        let mut counts = BTreeMap::new();
        for row in queued {
            if let Channel::Plugin { plugin } = &row.channel {
                *counts.entry(plugin.clone()).or_default() += 1;
            }
        }
        counts
    }

    fn queued(&self, over: Over<'_>, limit: usize) -> Vec<Delivery> {
        let rows = self.rows.lock().unwrap();
        rows.values()
            .filter(|row| matches!(row.state, DeliveryState::Queued { .. }))
            .filter(|row| over.is(&row.channel))
            .take(limit)
            .cloned()
            .collect()
    }

    fn rule(&self, name: &RuleName) -> Option<Rule> {
        Some(down_rule()).filter(|rule| rule.name == *name)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    async fn keep(&self, delivery: Delivery) -> Result<(), KeepError> {
        self.disk.lock().unwrap().clone()?;
        self.rows.lock().unwrap().insert(delivery.id, delivery);
        self.changed.send_modify(|n| *n += 1);
        Ok(())
    }
}
