//! The devices, with what keeps them unique and free of circles.
//!
//! [`Inventory`] is a snapshot that readers share. All checks are made by the
//! writer against the newest one, so two changes at the same time cannot both
//! pass.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use model::{
    Address, By, CredentialName, CredentialRecord, Device, DeviceDraft, DeviceId, SecretRecord,
    TenantName, Timestamp,
};

use serde_json::json;

use crate::audit::{self, Line};
use crate::book::{Book, Change};
use crate::error::{Answer, Fault, Refusal, or_refuse};
use crate::{checks, credentials, plugins, shown, tables};

/// Devices that can be kept, deleted ones included: ten times what one daemon
/// can poll.
pub const MAX_DEVICES: usize = 100_000;

/// Ways that can lead to one device: more is a mistake in somebody's script.
pub const MAX_PARENTS: usize = 64;

/// Bytes of one device as it is kept: a name, a few words and tags.
pub const MAX_DEVICE_BYTES: usize = 16 * 1024;

/// All devices at one instant.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    devices: BTreeMap<DeviceId, Arc<Device>>,
    /// Of live devices only.
    tenants: HashMap<TenantName, Tenancy>,
    /// `(parent, child)` of live children.
    links: BTreeSet<(DeviceId, DeviceId)>,
}

/// What is unique among the live devices of a tenant.
#[derive(Clone, Debug, Default)]
struct Tenancy {
    names: HashMap<String, DeviceId>,
    addresses: HashMap<Address, DeviceId>,
}

impl Inventory {
    /// The device with this number, also a deleted one.
    #[must_use]
    pub fn device(&self, id: DeviceId) -> Option<&Arc<Device>> {
        self.devices.get(&id)
    }

    /// The tenant's live device of this name.
    #[must_use]
    pub fn by_name(&self, tenant: &TenantName, name: &str) -> Option<&Arc<Device>> {
        self.device(*self.tenants.get(tenant)?.names.get(name)?)
    }

    /// The tenant's live device with this address.
    #[must_use]
    pub fn by_address(&self, tenant: &TenantName, address: &Address) -> Option<&Arc<Device>> {
        self.device(*self.tenants.get(tenant)?.addresses.get(address)?)
    }

    /// The live devices of this name, at most one in each tenant, by number.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<&Arc<Device>> {
        let ids = self.tenants.values().filter_map(|own| own.names.get(name));
        let mut found: Vec<&Arc<Device>> = ids.filter_map(|id| self.device(*id)).collect();
        found.sort_unstable_by_key(|device| device.id);
        found
    }

    /// How many devices of a tenant are not deleted.
    #[must_use]
    pub fn count_of(&self, tenant: &TenantName) -> usize {
        self.tenants.get(tenant).map_or(0, |own| own.names.len())
    }

    /// Devices that are not deleted, by number.
    pub fn live(&self) -> impl Iterator<Item = &Arc<Device>> {
        self.all().filter(|device| device.deleted.is_none())
    }

    /// All devices, by number.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Device>> {
        self.devices.values()
    }

    /// Live devices that name `id` as a parent.
    pub fn children(&self, id: DeviceId) -> impl Iterator<Item = DeviceId> + '_ {
        let all = (id, DeviceId(0))..=(id, DeviceId(u64::MAX));
        self.links.range(all).map(|(_, child)| *child)
    }

    /// How many devices are not deleted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tenants.values().map(|own| own.names.len()).sum()
    }

    /// Whether there is no live device.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts `device` in, in the place of what had its number.
    pub(crate) fn insert(&mut self, device: Arc<Device>) {
        if let Some(before) = self.devices.remove(&device.id) {
            self.forget_index(&before);
        }
        if device.deleted.is_none() {
            let own = self.tenants.entry(device.tenant.clone()).or_default();
            own.names.insert(device.name.clone(), device.id);
            own.addresses.insert(device.address.clone(), device.id);
            let links = device.parents.iter().map(|parent| (*parent, device.id));
            self.links.extend(links);
        }
        self.devices.insert(device.id, device);
    }

    fn forget_index(&mut self, device: &Device) {
        if device.deleted.is_some() {
            return;
        }
        if let Some(own) = self.tenants.get_mut(&device.tenant) {
            own.names.remove(&device.name);
            own.addresses.remove(&device.address);
        }
        for parent in &device.parents {
            self.links.remove(&(*parent, device.id));
        }
    }

    fn next_id(&self) -> DeviceId {
        DeviceId(self.devices.last_key_value().map_or(1, |(id, _)| id.0 + 1))
    }

    /// The live devices that use the credential `name`.
    pub(crate) fn users_of(&self, name: &CredentialName) -> Vec<&Arc<Device>> {
        self.live()
            .filter(|device| device.credential.as_ref() == Some(name))
            .collect()
    }
}

/// Enters a device, and its credential if one comes with it: both or neither.
pub(crate) fn create(
    change: &mut Change<'_>,
    by: &By,
    draft: &DeviceDraft,
    credential: Option<&(CredentialRecord, Option<SecretRecord>)>,
    now: Timestamp,
) -> Answer<Arc<Device>> {
    let brought = credential
        .map(|(record, secret)| credentials::plan_new(&change.book, record, secret.as_ref(), now));
    let brought = or_refuse!(brought.transpose());
    let name = credential.map(|(record, _)| &record.name);
    or_refuse!(check_new(&change.book, draft, name));
    if let Some(planned) = brought.flatten() {
        credentials::keep(change, by, planned, now)?;
    }
    let id = change.book.inventory.next_id();
    let device = device_of(draft, id, now);
    let line = line("device.create", &device).after(shown::device(&device));
    audit::append(change, by, now, line)?;
    keep(change, device).map(Ok)
}

/// Enters the good ones of `drafts`, and says of each other why not.
pub(crate) fn create_all(
    change: &mut Change<'_>,
    by: &By,
    drafts: &[DeviceDraft],
    now: Timestamp,
) -> Result<Vec<Result<Arc<Device>, Refusal>>, Fault> {
    let mut answers = Vec::with_capacity(drafts.len());
    for draft in drafts {
        answers.push(create(change, by, draft, None, now)?);
    }
    let mut tenants: Vec<&TenantName> = drafts.iter().map(|draft| &draft.tenant).collect();
    tenants.dedup();
    let only = match tenants[..] {
        [only] => Some(only.clone()),
        _ => None,
    };
    let entered = answers.iter().filter(|answer| answer.is_ok()).count();
    let line = Line::on("devices.import", "devices:import")
        .of(only)
        .after(json!({ "offered": drafts.len(), "entered": entered }));
    audit::append(change, by, now, line)?;
    Ok(answers)
}

/// What the audit log says of a device.
pub(crate) fn line(action: &'static str, device: &Device) -> Line {
    let object = format!("device:{}", device.tenant.qualify(&device.name));
    Line::on(action, &object).of(Some(device.tenant.clone()))
}

/// Replaces all that people said of a device.
pub(crate) fn replace(
    change: &mut Change<'_>,
    by: &By,
    id: DeviceId,
    draft: &DeviceDraft,
    expected: Option<u64>,
    now: Timestamp,
) -> Answer<Arc<Device>> {
    let before = or_refuse!(live_at(&change.book, id, expected));
    or_refuse!(check(&change.book, draft, Some(&before), None));
    or_refuse!(check_children(&change.book.inventory, draft, &before));
    let device = Device {
        created: before.created,
        revision: before.revision + 1,
        ..device_of(draft, id, now)
    };
    alter(change, by, "device.change", &before, device, now).map(Ok)
}

/// Marks a device as deleted; its name and address become free.
pub(crate) fn delete(
    change: &mut Change<'_>,
    by: &By,
    id: DeviceId,
    expected: Option<u64>,
    now: Timestamp,
) -> Answer<Arc<Device>> {
    let before = or_refuse!(live_at(&change.book, id, expected));
    let device = Device {
        deleted: Some(now),
        updated: now,
        revision: before.revision + 1,
        ..Device::clone(&before)
    };
    plugins::forget_device(change, id)?;
    alter(change, by, "device.delete", &before, device, now).map(Ok)
}

/// Takes a deletion back, unless somebody has the name or address meanwhile.
pub(crate) fn restore(
    change: &mut Change<'_>,
    by: &By,
    id: DeviceId,
    now: Timestamp,
) -> Answer<Arc<Device>> {
    let before = match change.book.inventory.device(id) {
        None => return Ok(Err(Refusal::NoSuchDevice { id })),
        Some(device) if device.deleted.is_none() => return Ok(Err(Refusal::NotDeleted { id })),
        Some(device) => device.clone(),
    };
    or_refuse!(check(&change.book, &before.draft(), Some(&before), None));
    let device = Device {
        deleted: None,
        updated: now,
        revision: before.revision + 1,
        ..Device::clone(&before)
    };
    alter(change, by, "device.restore", &before, device, now).map(Ok)
}

fn alter(
    change: &mut Change<'_>,
    by: &By,
    action: &'static str,
    before: &Device,
    device: Device,
    now: Timestamp,
) -> Result<Arc<Device>, Fault> {
    for line in told(action, before, &device) {
        audit::append(change, by, now, line)?;
    }
    keep(change, device)
}

/// What the log says of a changed device. One that goes to another tenant is in
/// the log of both, in each without what the other one said of it.
fn told(action: &'static str, before: &Device, device: &Device) -> Vec<Line> {
    let (was, is) = (shown::device(before), shown::device(device));
    if before.tenant == device.tenant {
        return vec![line(action, device).before(was).after(is)];
    }
    vec![
        line(action, before).before(was),
        line(action, device).after(is),
    ]
}

fn device_of(draft: &DeviceDraft, id: DeviceId, now: Timestamp) -> Device {
    let draft = draft.clone();
    Device {
        id,
        name: draft.name,
        address: draft.address,
        kind: draft.kind,
        vendor: draft.vendor,
        model: draft.model,
        os: draft.os,
        site: draft.site,
        location: draft.location,
        tags: draft.tags,
        parents: draft.parents,
        poll: draft.poll,
        credential: draft.credential,
        enabled: draft.enabled,
        tenant: draft.tenant,
        created: now,
        updated: now,
        deleted: None,
        revision: 1,
    }
}

fn keep(change: &mut Change<'_>, device: Device) -> Result<Arc<Device>, Fault> {
    tables::DEVICE.put(change.txn, device.id.0, &device)?;
    let device = Arc::new(device);
    Arc::make_mut(&mut change.book.inventory).insert(device.clone());
    change.book.watched += 1;
    Ok(device)
}

fn live_at(book: &Book, id: DeviceId, expected: Option<u64>) -> Result<Arc<Device>, Refusal> {
    let device = book
        .inventory
        .device(id)
        .ok_or(Refusal::NoSuchDevice { id })?;
    if device.deleted.is_some() {
        return Err(Refusal::Deleted { id });
    }
    match expected {
        Some(expected) if expected != device.revision => Err(Refusal::RevisionMismatch {
            expected,
            found: device.revision,
        }),
        _ => Ok(device.clone()),
    }
}

fn check_new(
    book: &Book,
    draft: &DeviceDraft,
    brought: Option<&CredentialName>,
) -> Result<(), Refusal> {
    if book.inventory.devices.len() >= MAX_DEVICES {
        return Err(Refusal::TooMany {
            what: "devices, deleted ones included",
            limit: MAX_DEVICES,
        });
    }
    check(book, draft, None, brought)
}

/// Whether `draft` can take the place of `before`; `brought` is a credential
/// that comes into being with it.
fn check(
    book: &Book,
    draft: &DeviceDraft,
    before: Option<&Device>,
    brought: Option<&CredentialName>,
) -> Result<(), Refusal> {
    let own = before.map(|device| device.id);
    checks::tenant(&book.people, &draft.tenant)?;
    check_unique(&book.inventory, draft, own)?;
    check_parents(&book.inventory, draft, before)?;
    if let Some(name) = &draft.credential {
        check_credential(book, draft, name, brought)?;
    }
    check_quota(book, draft, before)?;
    check_size(draft)
}

fn check_credential(
    book: &Book,
    draft: &DeviceDraft,
    name: &CredentialName,
    brought: Option<&CredentialName>,
) -> Result<(), Refusal> {
    let its = TenantName::of(&name.0);
    if its != draft.tenant {
        return Err(Refusal::OtherTenant {
            what: "credential",
            name: name.0.clone(),
            its,
            tenant: draft.tenant.clone(),
            device: None,
        });
    }
    match brought == Some(name) || credentials::is_there(book, name) {
        true => Ok(()),
        false => Err(Refusal::NoSuchCredential { name: name.clone() }),
    }
}

/// Whether the tenant can have one more, unless it has it already.
fn check_quota(book: &Book, draft: &DeviceDraft, before: Option<&Device>) -> Result<(), Refusal> {
    let tenant = &draft.tenant;
    let has_it = before.is_some_and(|before| before.deleted.is_none() && before.tenant == *tenant);
    let limit = book
        .people
        .tenant(tenant)
        .and_then(|known| known.quota.devices);
    match limit {
        Some(limit) if !has_it && book.inventory.count_of(tenant) as u64 >= limit => {
            Err(Refusal::Quota {
                tenant: tenant.clone(),
                what: "devices",
                limit,
            })
        }
        _ => Ok(()),
    }
}

/// A device that goes to another tenant must not be the way to devices of the
/// one before.
fn check_children(
    inventory: &Inventory,
    draft: &DeviceDraft,
    before: &Device,
) -> Result<(), Refusal> {
    if draft.tenant == before.tenant {
        return Ok(());
    }
    match inventory.children(before.id).next() {
        None => Ok(()),
        Some(child) => Err(Refusal::OtherTenant {
            what: "device behind it,",
            name: child.to_string(),
            its: before.tenant.clone(),
            tenant: draft.tenant.clone(),
            device: Some(child),
        }),
    }
}

fn check_unique(
    inventory: &Inventory,
    draft: &DeviceDraft,
    own: Option<DeviceId>,
) -> Result<(), Refusal> {
    let another = |found: Option<&Arc<Device>>| found.filter(|d| Some(d.id) != own).cloned();
    if let Some(by) = another(inventory.by_name(&draft.tenant, &draft.name)) {
        return Err(Refusal::NameTaken {
            name: draft.name.clone(),
            by: by.id,
        });
    }
    if let Some(by) = another(inventory.by_address(&draft.tenant, &draft.address)) {
        return Err(Refusal::AddressTaken {
            address: draft.address.clone(),
            by: by.id,
            name: by.name.clone(),
        });
    }
    Ok(())
}

/// A parent has to be live, unless it was a parent before: a deleted parent
/// must not keep people from changing the rest of the device.
fn check_parents(
    inventory: &Inventory,
    draft: &DeviceDraft,
    before: Option<&Device>,
) -> Result<(), Refusal> {
    if draft.parents.len() > MAX_PARENTS {
        return Err(Refusal::TooMany {
            what: "parents of a device",
            limit: MAX_PARENTS,
        });
    }
    let had = |id: &DeviceId| before.is_some_and(|device| device.parents.contains(id));
    for id in &draft.parents {
        let device = inventory.device(*id);
        let device = device.filter(|device| device.deleted.is_none() || had(id));
        let Some(device) = device else {
            return Err(Refusal::NoSuchParent { id: *id });
        };
        if device.tenant != draft.tenant {
            return Err(Refusal::OtherTenant {
                what: "parent",
                name: id.to_string(),
                its: device.tenant.clone(),
                tenant: draft.tenant.clone(),
                device: Some(*id),
            });
        }
    }
    match before {
        None => Ok(()),
        Some(device) => check_no_circle(inventory, device.id, &draft.parents),
    }
}

fn check_no_circle(
    inventory: &Inventory,
    own: DeviceId,
    parents: &BTreeSet<DeviceId>,
) -> Result<(), Refusal> {
    for first in parents {
        let mut seen = BTreeSet::new();
        let mut open = vec![*first];
        while let Some(id) = open.pop() {
            if id == own {
                return Err(Refusal::ParentCycle { id: *first });
            }
            if seen.insert(id) {
                let above = inventory.device(id).map(|device| &device.parents);
                open.extend(above.into_iter().flatten());
            }
        }
    }
    Ok(())
}

fn check_size(draft: &DeviceDraft) -> Result<(), Refusal> {
    let words = [
        &draft.vendor,
        &draft.model,
        &draft.os,
        &draft.site,
        &draft.location,
    ];
    let words: usize = words.into_iter().flatten().map(String::len).sum();
    let tags: usize = draft.tags.iter().map(String::len).sum();
    if draft.name.len() + words + tags > MAX_DEVICE_BYTES {
        return Err(Refusal::TooMany {
            what: "bytes in one device",
            limit: MAX_DEVICE_BYTES,
        });
    }
    Ok(())
}
