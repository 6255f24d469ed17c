//! A device as people write it: the body of POST and PUT, what PATCH merges
//! into, and the first part of what GET shows.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use model::{
    Address, CredentialName, Device, DeviceDraft, DeviceId, DeviceKind, IcmpPoll, PollSettings,
    SnmpPoll, TenantName, checked_name,
};
use secrets::SecretBytes;
use serde::Serialize;
use serde_json::Value;
use store::Inventory;
use utoipa::ToSchema;

use crate::mistakes::{Mistakes, Object};
use crate::span;

/// Bytes of a line that people say of a device.
const LINE_BYTES: usize = 256;

/// Tags of one device.
const TAGS: usize = 64;

/// Parents of one device.
const PARENTS: usize = 64;

/// Bytes of an SNMP community: what its length field holds in one byte.
const COMMUNITY_BYTES: usize = 255;

/// Time between two polls: faster than a second is a flood, slower than a day
/// is not watching.
const EVERY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);

/// The fields of a device.
pub(crate) const FIELDS: [&str; 14] = [
    "tenant",
    "name",
    "address",
    "kind",
    "vendor",
    "model",
    "os",
    "site",
    "location",
    "tags",
    "parents",
    "poll",
    "credential",
    "enabled",
];

/// A device as people write it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeviceBody {
    /// Whose it is. A new device that does not say belongs to the only tenant
    /// that the caller may enter devices for, else to the default one; another
    /// one stays where it is.
    #[schema(required = false)]
    tenant: String,
    /// Unique among the tenant's devices that are not deleted; 1 to 128 bytes
    /// and not a number.
    name: String,
    /// IPv4, IPv6 or host name; unique among the tenant's devices that are not
    /// deleted.
    address: String,
    /// What it is for: router, switch, firewall, wireless, server, storage,
    /// ups, pdu, printer, phone, camera, sensor or other.
    #[schema(required = false)]
    kind: &'static str,
    /// Who made it.
    vendor: Option<String>,
    /// Its model.
    model: Option<String>,
    /// Its operating system.
    os: Option<String>,
    /// The site it stands at.
    site: Option<String>,
    /// Where in the site.
    location: Option<String>,
    /// Free words to select by.
    #[schema(required = false)]
    tags: Vec<String>,
    /// Names or ids of the devices it is reached through, of the same tenant.
    /// Those that the caller does not see are not shown, and stay.
    #[schema(required = false)]
    parents: Vec<String>,
    /// How it is asked; what is null follows the settings.
    #[schema(required = false)]
    poll: PollBody,
    /// The name of its SNMP credential, of the same tenant.
    credential: Option<String>,
    /// Asked and judged at all.
    #[schema(required = false)]
    enabled: bool,
}

/// How a device is asked; what is null follows the settings.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PollBody {
    #[schema(required = false)]
    icmp: IcmpBody,
    #[schema(required = false)]
    snmp: SnmpBody,
}

/// How a device is pinged.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IcmpBody {
    /// Pinged at all; by default yes.
    enabled: Option<bool>,
    /// Time between two rounds, such as "30s".
    every: Option<String>,
}

/// How a device is asked by SNMP.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SnmpBody {
    /// Asked at all; by default if the device has a credential.
    enabled: Option<bool>,
    /// Time between two rounds, such as "60s".
    every: Option<String>,
    /// The agent's UDP port; by default 161.
    port: Option<u16>,
}

/// A new device: with its SNMP community, if it has no credential yet.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes in the document what `read` reads")]
pub(crate) struct NewDeviceBody {
    #[schema(inline)]
    #[serde(flatten)]
    device: DeviceBody,
    /// Kept as a credential named after the device, and never shown again.
    #[schema(write_only)]
    snmp_community: Option<String>,
}

impl DeviceBody {
    /// `device` as people would write it; parents by name, as far as `sees`
    /// sees them.
    pub(crate) fn of(
        device: &Device,
        inventory: &Inventory,
        sees: impl Fn(&Device) -> bool,
    ) -> DeviceBody {
        let poll = &device.poll;
        let parents = device.parents.iter();
        DeviceBody {
            tenant: device.tenant.0.clone(),
            name: device.name.clone(),
            address: device.address.to_string(),
            kind: device.kind.word(),
            vendor: device.vendor.clone(),
            model: device.model.clone(),
            os: device.os.clone(),
            site: device.site.clone(),
            location: device.location.clone(),
            tags: device.tags.iter().cloned().collect(),
            parents: parents
                .filter_map(|parent| inventory.device(*parent))
                .filter(|parent| sees(parent))
                .map(|parent| name_of(parent))
                .collect(),
            poll: PollBody {
                icmp: IcmpBody {
                    enabled: poll.icmp.enabled,
                    every: poll.icmp.every.map(span::write),
                },
                snmp: SnmpBody {
                    enabled: poll.snmp.enabled,
                    every: poll.snmp.every.map(span::write),
                    port: poll.snmp.port,
                },
            },
            credential: device.credential.as_ref().map(ToString::to_string),
            enabled: device.enabled,
        }
    }
}

/// A device's name; its id where its name does not lead to it any more.
fn name_of(device: &Device) -> String {
    match device.deleted {
        None => device.name.clone(),
        Some(_) => device.id.to_string(),
    }
}

/// What a body may refer to.
pub(crate) struct Known<'a> {
    /// Devices, as parents.
    pub(crate) inventory: &'a Inventory,
    /// Whether somebody sees a device.
    pub(crate) sees: &'a dyn Fn(&Device) -> bool,
    /// Whether there is such a credential.
    pub(crate) credential: &'a dyn Fn(&CredentialName) -> bool,
    /// Whose a device is whose body does not say.
    pub(crate) tenant: &'a TenantName,
}

impl Known<'_> {
    /// The parent that `text` means, for a device of `tenant`: an id, else the
    /// name of a live device.
    pub(crate) fn parent(&self, text: &str, tenant: &TenantName) -> Option<DeviceId> {
        let found = match text.parse() {
            Ok(id) => self.inventory.device(DeviceId(id)),
            Err(_) => self.inventory.by_name(tenant, text),
        };
        found
            .filter(|device| (self.sees)(device))
            .map(|device| device.id)
    }
}

/// Reads a device. What is returned is worth something only if there was no
/// mistake.
pub(crate) fn read(value: &Value, known: &Known<'_>, mistakes: &Mistakes) -> Option<DeviceDraft> {
    let body = Object::read(value, "", &FIELDS, mistakes)?;
    let name = body.required_text("name");
    let address = body.required_text("address");
    if let Some(Err(why)) = name.map(checked_name) {
        body.wrong("name", why.to_string());
    }
    let address = match address.map(str::parse::<Address>) {
        Some(Err(why)) => {
            body.wrong("address", why.to_string());
            None
        }
        Some(Ok(address)) => Some(address),
        None => None,
    };
    let tenant = read_tenant(&body, known);
    let rest = Rest::read(&body, known, tenant);
    Some(rest.draft(name?.to_owned(), address?))
}

/// Everything of a device but its name and address, so that a mistake in
/// those does not hide one in these.
struct Rest {
    tenant: TenantName,
    kind: DeviceKind,
    vendor: Option<String>,
    model: Option<String>,
    os: Option<String>,
    site: Option<String>,
    location: Option<String>,
    tags: BTreeSet<String>,
    parents: BTreeSet<DeviceId>,
    poll: PollSettings,
    credential: Option<CredentialName>,
    enabled: bool,
}

impl Rest {
    fn read(body: &Object<'_>, known: &Known<'_>, tenant: TenantName) -> Rest {
        let kinds = DeviceKind::ALL.map(|(_, word)| word);
        Rest {
            kind: body
                .word("kind", &kinds, DeviceKind::from_word)
                .unwrap_or_default(),
            vendor: line(body, "vendor"),
            model: line(body, "model"),
            os: line(body, "os"),
            site: name(body, "site"),
            location: line(body, "location"),
            tags: read_tags(body),
            parents: read_parents(body, known, &tenant),
            poll: read_poll(body),
            credential: read_credential(body, known, &tenant),
            enabled: body.flag("enabled").unwrap_or(true),
            tenant,
        }
    }

    fn draft(self, name: String, address: Address) -> DeviceDraft {
        DeviceDraft {
            name,
            address,
            kind: self.kind,
            vendor: self.vendor,
            model: self.model,
            os: self.os,
            site: self.site,
            location: self.location,
            tags: self.tags,
            parents: self.parents,
            poll: self.poll,
            credential: self.credential,
            enabled: self.enabled,
            tenant: self.tenant,
        }
    }
}

/// A line of text without control characters; an empty one is none.
fn line(body: &Object<'_>, field: &str) -> Option<String> {
    let text = body.text(field)?;
    if text.len() > LINE_BYTES {
        body.wrong(field, format!("{field} is longer than {LINE_BYTES} bytes"));
    }
    if text.chars().any(char::is_control) {
        body.wrong(field, format!("{field} contains a control character"));
    }
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The name of something; an empty one is none.
fn name(body: &Object<'_>, field: &str) -> Option<String> {
    let text = body.text(field).filter(|text| !text.is_empty())?;
    if let Err(why) = checked_name(text) {
        body.wrong(field, why.to_string());
    }
    Some(text.to_owned())
}

fn read_tags(body: &Object<'_>) -> BTreeSet<String> {
    let mut tags = BTreeSet::new();
    for (pointer, tag) in body.texts("tags", TAGS) {
        if let Err(why) = checked_name(&tag) {
            body.mistakes().at(&pointer, why.to_string());
        }
        tags.insert(tag);
    }
    tags
}

fn read_tenant(body: &Object<'_>, known: &Known<'_>) -> TenantName {
    let said = body.text("tenant").filter(|text| !text.is_empty());
    match said.map(str::parse::<TenantName>) {
        Some(Ok(tenant)) => return tenant,
        Some(Err(why)) => body.wrong("tenant", why.to_string()),
        None => {}
    }
    known.tenant.clone()
}

fn read_parents(body: &Object<'_>, known: &Known<'_>, tenant: &TenantName) -> BTreeSet<DeviceId> {
    let mut parents = BTreeSet::new();
    for (pointer, parent) in body.texts("parents", PARENTS) {
        match known.parent(&parent, tenant) {
            Some(id) => {
                parents.insert(id);
            }
            None => body
                .mistakes()
                .at(&pointer, format!("there is no device {parent:?}")),
        }
    }
    parents
}

fn read_poll(body: &Object<'_>) -> PollSettings {
    let mut poll = PollSettings::default();
    let Some(settings) = body.object("poll", &["icmp", "snmp"]) else {
        return poll;
    };
    if let Some(icmp) = settings.object("icmp", &["enabled", "every"]) {
        poll.icmp = IcmpPoll {
            enabled: icmp.flag("enabled"),
            every: icmp.span("every", EVERY),
        };
    }
    if let Some(snmp) = settings.object("snmp", &["enabled", "every", "port"]) {
        let port = snmp.whole("port", 1..=u64::from(u16::MAX));
        poll.snmp = SnmpPoll {
            enabled: snmp.flag("enabled"),
            every: snmp.span("every", EVERY),
            port: port.and_then(|port| u16::try_from(port).ok()),
        };
    }
    poll
}

fn read_credential(
    body: &Object<'_>,
    known: &Known<'_>,
    tenant: &TenantName,
) -> Option<CredentialName> {
    let credential = CredentialName(name(body, "credential")?);
    let is_theirs = TenantName::of(&credential.0) == *tenant;
    if !is_theirs || !(known.credential)(&credential) {
        let hint = match is_theirs {
            true => "PUT /api/v1/credentials/NAME makes one".to_owned(),
            false => format!(
                "those of the tenant {tenant} are called {:?}",
                tenant.qualify("NAME")
            ),
        };
        let name = &credential.0;
        body.wrong(
            "credential",
            format!("there is no credential {name:?}; {hint}"),
        );
    }
    Some(credential)
}

/// Takes `snmp_community` out of the body of a new device, which is then a
/// device like any other.
pub(crate) fn take_community(value: &mut Value, mistakes: &Mistakes) -> Option<SecretBytes> {
    let body = value.as_object_mut()?;
    let community = body.remove("snmp_community")?;
    if body.get("credential").is_some_and(|named| !named.is_null()) {
        mistakes.at(
            "/snmp_community",
            "give either a credential or an snmp_community",
        );
    }
    match community {
        Value::Null => None,
        Value::String(community) => read_community(&community, "/snmp_community", mistakes),
        _ => {
            mistakes.at("/snmp_community", "an SNMP community is text");
            None
        }
    }
}

/// An SNMP community; a mistake never repeats it.
pub(crate) fn read_community(
    community: &str,
    pointer: &str,
    mistakes: &Mistakes,
) -> Option<SecretBytes> {
    if (1..=COMMUNITY_BYTES).contains(&community.len()) {
        return Some(SecretBytes::new(community.as_bytes().to_vec()));
    }
    mistakes.at(
        pointer,
        format!("an SNMP community has 1 to {COMMUNITY_BYTES} bytes"),
    );
    None
}
