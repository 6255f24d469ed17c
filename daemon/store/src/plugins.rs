//! Plugins that are installed, what they keep for themselves, and the state of
//! those that judge. All of it is in memory, so that a plugin is never kept
//! waiting by the disk, nor stopped by a full one; what may be kept is bounded
//! so that one plugin cannot take the room of the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{By, DeviceId, PluginName, PluginRecord, PluginValue, Timestamp};
use redb::ReadTransaction;
use tokio::sync::watch;

use crate::audit::{self, Line};
use crate::book::Change;
use crate::error::{Answer, Fault, Refusal, WriteError, or_refuse};
use crate::{Store, checks, shown, tables};

/// Plugins that can be installed.
pub const MAX_PLUGINS: usize = 200;

/// Bytes of one plugin as it is kept: its settings and what it asks for.
pub const MAX_PLUGIN_BYTES: usize = 256 << 10;

/// Bytes of a key of what plugins keep.
pub const MAX_PLUGIN_KEY_BYTES: usize = 256;

/// Bytes of one value that a plugin keeps.
pub const MAX_PLUGIN_VALUE_BYTES: usize = 64 << 10;

/// Bytes of keys and values that one plugin changes in a minute: each goes to
/// the disk, which all share.
pub const MAX_PLUGIN_CHANGED_BYTES: usize = 4 << 20;

/// What a change counts beside its bytes: the least that it costs.
const CHANGE_BYTES: usize = 64;

/// How long [`MAX_PLUGIN_CHANGED_BYTES`] have to do.
const CHANGED_WITHIN: Duration = Duration::from_secs(60);

/// Bytes of all keys and values of all plugins.
pub const MAX_PLUGIN_VALUES_BYTES: usize = 128 << 20;

/// Bytes of the state of one plugin for one device.
pub const MAX_PLUGIN_STATE_BYTES: usize = 64 << 10;

/// Bytes of all states of one plugin: 3 KiB for each of ten thousand devices.
pub const MAX_PLUGIN_STATES_BYTES: usize = 32 << 20;

/// Bytes of all states of all plugins.
pub const MAX_ALL_STATES_BYTES: usize = 128 << 20;

/// What one plugin may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluginRoom {
    /// Bytes of all its keys and values.
    pub bytes: usize,
    /// Its keys.
    pub keys: usize,
}

/// What one plugin keeps.
#[derive(Clone, Default)]
pub(crate) struct Values {
    kept: BTreeMap<Arc<str>, Arc<PluginValue>>,
    bytes: usize,
    /// Nothing expires before this.
    expiry: Option<Timestamp>,
    changed: Changed,
}

/// What a plugin changed since some moment, at most a minute ago.
#[derive(Clone, Default)]
struct Changed {
    since: Option<Timestamp>,
    bytes: usize,
}

impl Changed {
    fn add(&mut self, bytes: usize, now: Timestamp) -> usize {
        let is_over = |since: Timestamp| now < since || since.plus(CHANGED_WITHIN) <= now;
        if self.since.is_none_or(is_over) {
            *self = Changed {
                since: Some(now),
                bytes: 0,
            };
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.bytes
    }
}

impl Values {
    fn insert(&mut self, key: Arc<str>, value: Arc<PluginValue>) {
        self.remove(&key);
        self.bytes += key.len() + value.bytes.len();
        self.expiry = match (self.expiry, value.expires) {
            (Some(known), Some(new)) => Some(known.min(new)),
            (known, new) => known.or(new),
        };
        self.kept.insert(key, value);
    }

    fn remove(&mut self, key: &str) {
        if let Some(value) = self.kept.remove(key) {
            self.bytes -= key.len() + value.bytes.len();
        }
    }

    /// The keys of those that are forgotten by `now`.
    fn expired(&self, now: Timestamp) -> Vec<Arc<str>> {
        if self.expiry.is_none_or(|expiry| expiry > now) {
            return Vec::new();
        }
        let expired = self.kept.iter().filter(|(_, value)| !lives(value, now));
        expired.map(|(key, _)| key.clone()).collect()
    }
}

fn lives(value: &PluginValue, now: Timestamp) -> bool {
    value.expires.is_none_or(|expires| expires > now)
}

/// The states of one plugin.
#[derive(Clone, Default)]
pub(crate) struct States {
    kept: BTreeMap<DeviceId, Arc<[u8]>>,
    bytes: usize,
}

impl States {
    fn insert(&mut self, device: DeviceId, state: Arc<[u8]>) {
        self.remove(device);
        self.bytes += state.len();
        self.kept.insert(device, state);
    }

    fn remove(&mut self, device: DeviceId) -> bool {
        let removed = self.kept.remove(&device);
        self.bytes -= removed.as_ref().map_or(0, |state| state.len());
        removed.is_some()
    }
}

/// Everything about plugins, of one state of the store.
#[derive(Clone, Default)]
pub(crate) struct Plugins {
    pub(crate) records: Arc<BTreeMap<PluginName, Arc<PluginRecord>>>,
    values: Arc<BTreeMap<PluginName, Arc<Values>>>,
    states: Arc<BTreeMap<PluginName, Arc<States>>>,
}

impl Plugins {
    /// Reads all, counting the rows.
    pub(crate) fn load(txn: &ReadTransaction) -> Result<Plugins, Fault> {
        let mut records = BTreeMap::new();
        tables::PLUGIN.load(txn, |_, record| {
            records.insert(record.name.clone(), Arc::new(record));
        })?;
        let mut misplaced = None;
        let mut name_of = |text: &str| {
            let name = PluginName::new(text);
            name.map_err(|error| misplaced = Some(error.to_string()))
                .ok()
        };
        let mut values: BTreeMap<PluginName, Arc<Values>> = BTreeMap::new();
        tables::PLUGIN_KV.load(txn, |(name, key), value| {
            if let Some(name) = name_of(name) {
                let own = values.entry(name).or_default();
                Arc::make_mut(own).insert(Arc::from(key), Arc::new(value));
            }
        })?;
        let mut states: BTreeMap<PluginName, Arc<States>> = BTreeMap::new();
        tables::PLUGIN_STATE.load(txn, |(name, device), state| {
            if let Some(name) = name_of(name) {
                let own = states.entry(name).or_default();
                Arc::make_mut(own).insert(DeviceId(device), Arc::from(state));
            }
        })?;
        match misplaced {
            Some(why) => Err(Fault::Damage(format!("what a plugin kept: {why}"))),
            None => Ok(Plugins {
                records: Arc::new(records),
                values: Arc::new(values),
                states: Arc::new(states),
            }),
        }
    }

    fn value(&self, name: &PluginName, key: &str, now: Timestamp) -> Option<&Arc<PluginValue>> {
        let value = self.values.get(name)?.kept.get(key)?;
        lives(value, now).then_some(value)
    }

    fn values_bytes(&self) -> usize {
        self.values.values().map(|values| values.bytes).sum()
    }

    fn states_bytes(&self) -> usize {
        self.states.values().map(|states| states.bytes).sum()
    }

    fn own_values(&mut self, name: &PluginName) -> &mut Values {
        let all = Arc::make_mut(&mut self.values);
        Arc::make_mut(all.entry(name.clone()).or_default())
    }

    fn own_states(&mut self, name: &PluginName) -> &mut States {
        let all = Arc::make_mut(&mut self.states);
        Arc::make_mut(all.entry(name.clone()).or_default())
    }
}

impl Store {
    // --- plugins

    /// All plugins that are installed, as of the last committed change.
    #[must_use]
    pub fn plugins(&self) -> Arc<BTreeMap<PluginName, Arc<PluginRecord>>> {
        self.shared.book().plugins.records.clone()
    }

    /// Counts changes of [`Store::plugins`].
    #[must_use]
    pub fn plugins_changed(&self) -> watch::Receiver<u64> {
        self.shared.plugins.subscribe()
    }

    /// Keeps a plugin, in the place of what had its name; its package has to be
    /// there before (see [`Store::put_package`]). `expected`: 0 if it has to be
    /// new, else the revision that was seen; `None`: whatever is there. The
    /// store sets revision and time. `action` is what the audit log says was
    /// done: `plugin.install`, `plugin.grant`. Returns when it is on the disk.
    ///
    /// # Errors
    ///
    /// Refused with `NameExists`, `NoSuch`, `RevisionMismatch` or `TooMany`;
    /// [`WriteError::NotWriting`], [`WriteError::Closed`].
    pub async fn put_plugin(
        &self,
        by: &By,
        record: PluginRecord,
        expected: Option<u64>,
        action: &'static str,
        now: Timestamp,
    ) -> Result<Arc<PluginRecord>, WriteError> {
        let by = by.clone();
        self.write(move |change| put(change, &by, &record, expected, action, now))
            .await
    }

    /// Takes a plugin away with all that it kept. Its packages go later.
    /// Returns when that is on the disk.
    ///
    /// # Errors
    ///
    /// Refused with `NoSuch` or `RevisionMismatch`; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn remove_plugin(
        &self,
        by: &By,
        name: &PluginName,
        expected: Option<u64>,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        let (by, name) = (by.clone(), name.clone());
        self.write(move |change| remove(change, &by, &name, expected, now))
            .await
    }

    /// A value that a plugin keeps and that has not expired by `now`. From
    /// memory.
    #[must_use]
    pub fn plugin_value(
        &self,
        name: &PluginName,
        key: &str,
        now: Timestamp,
    ) -> Option<Arc<PluginValue>> {
        self.shared.book().plugins.value(name, key, now).cloned()
    }

    /// The first `limit` keys that begin with `prefix`, in order, of what has
    /// not expired by `now`. From memory.
    #[must_use]
    pub fn plugin_keys(
        &self,
        name: &PluginName,
        prefix: &str,
        limit: usize,
        now: Timestamp,
    ) -> Vec<String> {
        let book = self.shared.book();
        let Some(values) = book.plugins.values.get(name) else {
            return Vec::new();
        };
        let from: Arc<str> = Arc::from(prefix);
        let keys = values.kept.range(from..);
        keys.take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(_, value)| lives(value, now))
            .take(limit)
            .map(|(key, _)| key.to_string())
            .collect()
    }

    /// What a plugin keeps: bytes of keys and values, and how many there are.
    #[must_use]
    pub fn plugin_kept(&self, name: &PluginName) -> PluginRoom {
        let book = self.shared.book();
        let values = book.plugins.values.get(name);
        PluginRoom {
            bytes: values.map_or(0, |values| values.bytes),
            keys: values.map_or(0, |values| values.kept.len()),
        }
    }

    /// Changes what a plugin keeps: `None` takes a value away. All or nothing;
    /// returns when it is on the disk. No audit line.
    ///
    /// # Errors
    ///
    /// Refused with `NoSuch` (the plugin) or `TooMany` (beyond `room`, the
    /// store's own limits, or [`MAX_PLUGIN_CHANGED_BYTES`] in a minute); [`WriteError::NotWriting`], [`WriteError::Closed`].
    pub async fn keep_plugin_values(
        &self,
        name: &PluginName,
        changes: Vec<(String, Option<PluginValue>)>,
        room: PluginRoom,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        let name = name.clone();
        self.write(move |change| keep_values(change, &name, &changes, room, now))
            .await
    }

    /// The state of a plugin for a device; none is nothing. From memory.
    #[must_use]
    pub fn plugin_state(&self, name: &PluginName, device: DeviceId) -> Option<Arc<[u8]>> {
        let book = self.shared.book();
        book.plugins.states.get(name)?.kept.get(&device).cloned()
    }

    /// Keeps states, in the place of those before; an empty one is taken away.
    /// Those that are as they were cost nothing, and those of a plugin or a
    /// device that is gone are left out. One that is too long, or for which the
    /// plugin has no room any more, stays as it was: gives those. All others are
    /// on the disk when this returns. No audit line.
    ///
    /// # Errors
    ///
    /// [`WriteError::NotWriting`], [`WriteError::Closed`]: none was kept.
    pub async fn keep_plugin_states(
        &self,
        mut states: Vec<(PluginName, DeviceId, Vec<u8>)>,
    ) -> Result<Vec<(PluginName, DeviceId)>, WriteError> {
        states.retain(|(name, device, state)| {
            let known = self.plugin_state(name, *device);
            known.as_deref().unwrap_or_default() != state.as_slice()
        });
        if states.is_empty() {
            return Ok(Vec::new());
        }
        self.write(move |change| keep_states(change, &states).map(Ok))
            .await
    }
}

fn put(
    change: &mut Change<'_>,
    by: &By,
    record: &PluginRecord,
    expected: Option<u64>,
    action: &str,
    now: Timestamp,
) -> Answer<Arc<PluginRecord>> {
    change.heard = now;
    let name = record.name.as_str();
    let known = change.book.plugins.records.get(&record.name).cloned();
    let revision = known.as_ref().map(|known| known.revision);
    or_refuse!(checks::expected("plugin", name, revision, expected));
    if known.is_none() {
        let count = change.book.plugins.records.len();
        or_refuse!(checks::room("plugins", count, MAX_PLUGINS));
    }
    let record = PluginRecord {
        updated: now,
        revision: revision.unwrap_or(0) + 1,
        ..record.clone()
    };
    or_refuse!(checks::size(
        "bytes in one plugin's record",
        &record,
        MAX_PLUGIN_BYTES
    ));
    let mut line = Line::on(action, &format!("plugin:{name}")).after(shown::plugin(&record));
    if let Some(known) = known {
        line = line.before(shown::plugin(&known));
    }
    audit::append(change, by, now, line)?;
    tables::PLUGIN.put(change.txn, name, &record)?;
    let record = Arc::new(record);
    Arc::make_mut(&mut change.book.plugins.records).insert(record.name.clone(), record.clone());
    Ok(Ok(record))
}

fn remove(
    change: &mut Change<'_>,
    by: &By,
    name: &PluginName,
    expected: Option<u64>,
    now: Timestamp,
) -> Answer<()> {
    change.heard = now;
    let Some(before) = change.book.plugins.records.get(name).cloned() else {
        return Ok(Err(no_such(name)));
    };
    let found = Some(before.revision);
    or_refuse!(checks::expected("plugin", name.as_str(), found, expected));
    let line = Line::on("plugin.remove", &format!("plugin:{name}")).before(shown::plugin(&before));
    audit::append(change, by, now, line)?;
    tables::PLUGIN.remove(change.txn, name.as_str())?;
    let plugins = &mut change.book.plugins;
    Arc::make_mut(&mut plugins.records).remove(name);
    if let Some(values) = Arc::make_mut(&mut plugins.values).remove(name) {
        for key in values.kept.keys() {
            tables::PLUGIN_KV.remove(change.txn, (name.as_str(), key))?;
        }
    }
    if let Some(states) = Arc::make_mut(&mut plugins.states).remove(name) {
        for device in states.kept.keys() {
            tables::PLUGIN_STATE.remove(change.txn, (name.as_str(), device.0))?;
        }
    }
    Ok(Ok(()))
}

fn no_such(name: &PluginName) -> Refusal {
    Refusal::NoSuch {
        what: "plugin",
        name: name.to_string(),
    }
}

fn keep_values(
    change: &mut Change<'_>,
    name: &PluginName,
    changes: &[(String, Option<PluginValue>)],
    room: PluginRoom,
    now: Timestamp,
) -> Answer<()> {
    change.heard = now;
    if !change.book.plugins.records.contains_key(name) {
        return Ok(Err(no_such(name)));
    }
    for (key, value) in changes {
        or_refuse!(check_value(key, value.as_ref()));
    }
    // tried on a copy: nothing is written of what is refused
    let mut plugins = change.book.plugins.clone();
    let values = plugins.own_values(name);
    let expired = values.expired(now);
    for key in &expired {
        values.remove(key);
    }
    for (key, value) in changes {
        match value {
            Some(value) => values.insert(Arc::from(key.as_str()), Arc::new(value.clone())),
            None => values.remove(key),
        }
    }
    let changed = values.changed.add(bytes_of(changes), now);
    let (bytes, keys) = (values.bytes, values.kept.len());
    or_refuse!(at_most(
        "bytes that the plugin changes in a minute",
        changed,
        MAX_PLUGIN_CHANGED_BYTES
    ));
    or_refuse!(at_most("bytes that the plugin keeps", bytes, room.bytes));
    or_refuse!(at_most("keys that the plugin keeps", keys, room.keys));
    or_refuse!(at_most(
        "bytes that all plugins keep",
        plugins.values_bytes(),
        MAX_PLUGIN_VALUES_BYTES
    ));
    for key in &expired {
        tables::PLUGIN_KV.remove(change.txn, (name.as_str(), key))?;
    }
    for (key, value) in changes {
        let key = (name.as_str(), key.as_str());
        match value {
            Some(value) => tables::PLUGIN_KV.put(change.txn, key, value)?,
            None => drop(tables::PLUGIN_KV.remove(change.txn, key)?),
        }
    }
    change.book.plugins = plugins;
    Ok(Ok(()))
}

fn bytes_of(changes: &[(String, Option<PluginValue>)]) -> usize {
    let each = changes.iter().map(|(key, value)| {
        let value = value.as_ref().map_or(0, |value| value.bytes.len());
        CHANGE_BYTES + key.len() + value
    });
    each.sum()
}

fn check_value(key: &str, value: Option<&PluginValue>) -> Result<(), Refusal> {
    at_most("bytes in a key", key.len(), MAX_PLUGIN_KEY_BYTES)?;
    let bytes = value.map_or(0, |value| value.bytes.len());
    at_most("bytes in one value", bytes, MAX_PLUGIN_VALUE_BYTES)
}

fn at_most(what: &'static str, count: usize, limit: usize) -> Result<(), Refusal> {
    match count <= limit {
        true => Ok(()),
        false => Err(Refusal::TooMany { what, limit }),
    }
}

fn keep_states(
    change: &mut Change<'_>,
    states: &[(PluginName, DeviceId, Vec<u8>)],
) -> Result<Vec<(PluginName, DeviceId)>, Fault> {
    let mut left = Vec::new();
    for (name, device, state) in states {
        let is_watched = change
            .book
            .inventory
            .device(*device)
            .is_some_and(|device| device.deleted.is_none());
        if !is_watched || !change.book.plugins.records.contains_key(name) {
            continue;
        }
        let key = (name.as_str(), device.0);
        if state.is_empty() {
            tables::PLUGIN_STATE.remove(change.txn, key)?;
            change.book.plugins.own_states(name).remove(*device);
        } else if has_room(&change.book.plugins, name, *device, state) {
            tables::PLUGIN_STATE.put(change.txn, key, state)?;
            let own = change.book.plugins.own_states(name);
            own.insert(*device, Arc::from(state.as_slice()));
        } else {
            left.push((name.clone(), *device));
        }
    }
    Ok(left)
}

fn has_room(plugins: &Plugins, name: &PluginName, device: DeviceId, state: &[u8]) -> bool {
    let own = plugins.states.get(name);
    let before = own.and_then(|own| own.kept.get(&device));
    let before = before.map_or(0, |state| state.len());
    let own = own.map_or(0, |own| own.bytes);
    state.len() <= MAX_PLUGIN_STATE_BYTES
        && own - before + state.len() <= MAX_PLUGIN_STATES_BYTES
        && plugins.states_bytes() - before + state.len() <= MAX_ALL_STATES_BYTES
}

/// Takes the states for a device away that is deleted.
pub(crate) fn forget_device(change: &mut Change<'_>, device: DeviceId) -> Result<(), Fault> {
    let has_some = |states: &Arc<States>| states.kept.contains_key(&device);
    let states = change.book.plugins.states.iter();
    let names: Vec<PluginName> = states
        .filter(|(_, states)| has_some(states))
        .map(|(name, _)| name.clone())
        .collect();
    for name in names {
        tables::PLUGIN_STATE.remove(change.txn, (name.as_str(), device.0))?;
        change.book.plugins.own_states(&name).remove(device);
    }
    Ok(())
}

/// Forgets values that have expired.
pub(crate) fn sweep(change: &mut Change<'_>, now: Timestamp) -> Result<(), Fault> {
    let all = change.book.plugins.values.iter();
    let expired: Vec<(PluginName, Vec<Arc<str>>)> = all
        .map(|(name, values)| (name.clone(), values.expired(now)))
        .filter(|(_, keys)| !keys.is_empty())
        .collect();
    for (name, keys) in expired {
        let values = change.book.plugins.own_values(&name);
        for key in &keys {
            values.remove(key);
            tables::PLUGIN_KV.remove(change.txn, (name.as_str(), key))?;
        }
        values.expiry = values.kept.values().filter_map(|value| value.expires).min();
    }
    Ok(())
}
