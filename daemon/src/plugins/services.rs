//! What plugins ask during a call, answered from the store.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contract::{Fault, FaultClass, HostAnswer, HostAsk, Octets, Scalar};
use model::{Capabilities, Device, DeviceId, Facts, PluginName};
use store::Store;

use super::query::Query;
use super::words;
use crate::clock;

/// Facts that plugins read out of devices. They are not kept on the disk: the
/// next poll reads them again.
pub(super) type FactBook = Mutex<HashMap<DeviceId, BTreeMap<String, Scalar>>>;

/// Who answers.
pub(super) struct Services {
    pub(super) store: Store,
    pub(super) facts: Arc<FactBook>,
    /// What each plugin that runs may do.
    pub(super) granted: Mutex<HashMap<String, Capabilities>>,
}

impl Services {
    fn granted_to(&self, plugin: &str) -> Capabilities {
        let granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        granted.get(plugin).cloned().unwrap_or_default()
    }

    fn device(&self, id: &str) -> Option<Arc<Device>> {
        let id = id.parse().ok().map(DeviceId)?;
        self.store.inventory().device(id).map(Arc::clone)
    }

    /// What the daemon itself knows comes before what plugins read: nobody may
    /// say that an interface has another number.
    fn fact(&self, id: &str, key: &str) -> Option<Scalar> {
        let device = self.device(id)?;
        let known = self.store.facts(device.id);
        if let Some(fact) = known.and_then(|known| own_fact(&known, key)) {
            return Some(fact);
        }
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        facts.get(&device.id)?.get(key).cloned()
    }

    /// What an inventory's parents and children say of a device's place.
    fn links(&self, id: &str) -> Vec<contract::Link> {
        let Some(device) = self.device(id) else {
            return Vec::new();
        };
        let inventory = self.store.inventory();
        let up = device.parents.iter().map(|parent| (*parent, "parent"));
        let down = inventory
            .live()
            .filter(|other| other.parents.contains(&device.id))
            .map(|other| (other.id, "child"));
        let linked = up.chain(down);
        linked
            .map(|(other, protocol)| contract::Link {
                local_port: String::new(),
                remote_device: other.to_string(),
                remote_port: String::new(),
                protocol: protocol.to_owned(),
            })
            .collect()
    }
}

impl plugin::Services for Services {
    fn answer(&self, plugin: &str, ask: HostAsk) -> Result<HostAnswer, Fault> {
        // a plugin that is tried out keeps its values apart from the installed one
        let name = PluginName::new(plugin).map_err(|_| gone(plugin))?;
        Ok(match ask {
            HostAsk::KvGet(key) => {
                let value = self.store.plugin_value(&name, &key, clock::now());
                HostAnswer::Value(value.map(|value| Octets(value.bytes.clone())))
            }
            HostAsk::KvKeys { prefix, limit } => {
                let limit = limit as usize;
                let keys = self.store.plugin_keys(&name, &prefix, limit, clock::now());
                HostAnswer::Keys(keys)
            }
            HostAsk::Device(id) => {
                let device = self.device(&id);
                HostAnswer::Device(device.map(|device| {
                    let facts = self.store.facts(device.id);
                    words::device(&device, facts.as_deref())
                }))
            }
            HostAsk::Fact { device, key } => HostAnswer::Fact(self.fact(&device, &key)),
            HostAsk::Links(id) => HostAnswer::Links(self.links(&id)),
            HostAsk::Query {
                selector,
                start,
                end,
                step_s,
            } => {
                let granted = self.granted_to(plugin);
                let series = Query::read(&selector, &granted).and_then(|query| {
                    let range = (start.into(), end.into());
                    let step = Duration::from_secs(u64::from(step_s));
                    query.run(&self.store, None, range, step)
                });
                HostAnswer::Series(series)
            }
        })
    }
}

/// What the daemon's own polls know of a device.
fn own_fact(known: &Facts, key: &str) -> Option<Scalar> {
    if let Some(name) = key.strip_prefix("ifIndex.") {
        let interface = known.interfaces.get(name)?;
        return Some(Scalar::Uint(u64::from(interface.index)));
    }
    let system = &known.system;
    let text = match key {
        "sys_descr" => &system.descr,
        "sys_object_id" => &system.object_id,
        "sys_name" => &system.name,
        "sys_location" => &system.location,
        "sys_contact" => &system.contact,
        "vendor" => &system.vendor,
        _ => return None,
    };
    text.clone().map(Scalar::Text)
}

fn gone(plugin: &str) -> Fault {
    Fault::new(
        FaultClass::HostDied,
        format!("there is no plugin called {plugin} any more"),
    )
}
