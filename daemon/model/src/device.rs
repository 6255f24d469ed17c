//! What the inventory knows of a device.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{TenantName, Timestamp};

/// A device's number in the inventory: given once, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceId(pub u64);

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a device is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Address {
    /// IPv4 or IPv6.
    Ip(IpAddr),
    /// A host name (RFC 1123), in lower case, without the final dot.
    Host(String),
}

/// Why a text is not an [`Address`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnAddress(pub String);

impl fmt::Display for NotAnAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no address of a device: an IPv4 or IPv6 address of one host without a port or zone, or a host name (RFC 1123)",
            self.0
        )
    }
}

impl std::error::Error for NotAnAddress {}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Address, NotAnAddress> {
        let refused = || NotAnAddress(text.to_owned());
        if let Ok(ip) = text.parse::<IpAddr>() {
            // ::ffff:10.0.0.1 and 10.0.0.1 are one device
            let ip = ip.to_canonical();
            let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
            let reachable = !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast;
            return reachable.then_some(Address::Ip(ip)).ok_or_else(refused);
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        is_host_name(&name)
            .then_some(Address::Host(name))
            .ok_or_else(refused)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(ip) => ip.fmt(f),
            Address::Host(name) => f.write_str(name),
        }
    }
}

/// RFC 1123 §2.1; a name of digits and dots alone is a mistyped address.
fn is_host_name(name: &str) -> bool {
    let all_numeric = name.chars().all(|c| c.is_ascii_digit() || c == '.');
    !all_numeric && name.len() <= 253 && name.split('.').all(is_host_label)
}

fn is_host_label(label: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=63).contains(&label.len())
        && label.chars().all(inside)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// What a device is for.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[expect(missing_docs, reason = "each variant is the word itself")]
pub enum DeviceKind {
    Router,
    Switch,
    Firewall,
    Wireless,
    Server,
    Storage,
    Ups,
    Pdu,
    Printer,
    Phone,
    Camera,
    Sensor,
    #[default]
    Other,
}

impl DeviceKind {
    /// Every kind, with the word that people write.
    pub const ALL: [(DeviceKind, &'static str); 13] = [
        (DeviceKind::Router, "router"),
        (DeviceKind::Switch, "switch"),
        (DeviceKind::Firewall, "firewall"),
        (DeviceKind::Wireless, "wireless"),
        (DeviceKind::Server, "server"),
        (DeviceKind::Storage, "storage"),
        (DeviceKind::Ups, "ups"),
        (DeviceKind::Pdu, "pdu"),
        (DeviceKind::Printer, "printer"),
        (DeviceKind::Phone, "phone"),
        (DeviceKind::Camera, "camera"),
        (DeviceKind::Sensor, "sensor"),
        (DeviceKind::Other, "other"),
    ];

    /// The word that people write.
    #[must_use]
    pub fn word(self) -> &'static str {
        DeviceKind::ALL
            .iter()
            .find(|(kind, _)| *kind == self)
            .map_or("other", |(_, word)| word)
    }

    /// The kind that `word` names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<DeviceKind> {
        DeviceKind::ALL
            .iter()
            .find(|(_, known)| *known == word)
            .map(|(kind, _)| *kind)
    }
}

/// How a device is asked. One of them is in flight per device at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Check {
    /// A burst of echo requests (RFC 792, RFC 4443).
    Icmp,
    /// A walk of the tables we know (RFC 3416).
    Snmp,
}

impl Check {
    /// Every check.
    pub const ALL: [Check; 2] = [Check::Icmp, Check::Snmp];

    /// The word used in settings, the API and metric labels.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Check::Icmp => "icmp",
            Check::Snmp => "snmp",
        }
    }
}

/// How one device is pinged; what is `None` follows the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IcmpPoll {
    /// Pinged at all; by default yes.
    pub enabled: Option<bool>,
    /// Time between two rounds.
    pub every: Option<Duration>,
}

/// How one device is asked by SNMP; what is `None` follows the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnmpPoll {
    /// Asked at all; by default if the device has a credential.
    pub enabled: Option<bool>,
    /// Time between two rounds.
    pub every: Option<Duration>,
    /// The agent's UDP port; by default 161.
    pub port: Option<u16>,
}

/// How one device is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollSettings {
    /// By ICMP.
    pub icmp: IcmpPoll,
    /// By SNMP.
    pub snmp: SnmpPoll,
}

/// The name of a credential: what devices refer to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CredentialName(pub String);

impl fmt::Display for CredentialName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What lets us in. `Debug` never shows the secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Credential {
    /// SNMPv2c (RFC 1901): the community.
    SnmpV2c {
        /// As bytes on the wire; 1 to 255 of them.
        community: Vec<u8>,
    },
}

impl Credential {
    /// The word for this kind in the API.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Credential::SnmpV2c { .. } => "snmp-v2c",
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({}, …)", self.word())
    }
}

/// One device in the inventory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Its number.
    pub id: DeviceId,
    /// Unique among a tenant's devices that are not deleted; see [`checked_name`].
    pub name: String,
    /// Unique among a tenant's devices that are not deleted.
    pub address: Address,
    /// What it is for.
    pub kind: DeviceKind,
    /// As people entered it; what the device says of itself is in [`crate::Facts`].
    pub vendor: Option<String>,
    /// As people entered it.
    pub model: Option<String>,
    /// As people entered it.
    pub os: Option<String>,
    /// The site it stands at.
    pub site: Option<String>,
    /// Where in the site.
    pub location: Option<String>,
    /// Free words to select by.
    pub tags: BTreeSet<String>,
    /// The devices it is reached through: unreachable if *all* of them are down.
    pub parents: BTreeSet<DeviceId>,
    /// How it is asked.
    pub poll: PollSettings,
    /// The credential for SNMP.
    pub credential: Option<CredentialName>,
    /// Asked and judged at all.
    pub enabled: bool,
    /// When it was entered.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
    /// Since when it is deleted; a deleted device can be restored.
    pub deleted: Option<Timestamp>,
    /// Counts changes, from 1.
    pub revision: u64,
    /// Whose it is. Names and addresses are unique within a tenant.
    pub tenant: TenantName,
}

/// What people say of a device: all of it but what the store adds.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceDraft {
    /// See [`Device::name`].
    pub name: String,
    /// See [`Device::address`].
    pub address: Address,
    /// See [`Device::kind`].
    pub kind: DeviceKind,
    /// See [`Device::vendor`].
    pub vendor: Option<String>,
    /// See [`Device::model`].
    pub model: Option<String>,
    /// See [`Device::os`].
    pub os: Option<String>,
    /// See [`Device::site`].
    pub site: Option<String>,
    /// See [`Device::location`].
    pub location: Option<String>,
    /// See [`Device::tags`].
    pub tags: BTreeSet<String>,
    /// See [`Device::parents`].
    pub parents: BTreeSet<DeviceId>,
    /// See [`Device::poll`].
    pub poll: PollSettings,
    /// See [`Device::credential`].
    pub credential: Option<CredentialName>,
    /// See [`Device::enabled`].
    pub enabled: bool,
    /// See [`Device::tenant`].
    pub tenant: TenantName,
}

impl DeviceDraft {
    /// A device of which only its name and its address are known.
    #[must_use]
    pub fn new(name: String, address: Address) -> DeviceDraft {
        DeviceDraft {
            name,
            address,
            kind: DeviceKind::default(),
            vendor: None,
            model: None,
            os: None,
            site: None,
            location: None,
            tags: BTreeSet::new(),
            parents: BTreeSet::new(),
            poll: PollSettings::default(),
            credential: None,
            enabled: true,
            tenant: TenantName::default_tenant(),
        }
    }
}

impl Device {
    /// What people said of it, to change and offer again.
    #[must_use]
    pub fn draft(&self) -> DeviceDraft {
        DeviceDraft {
            name: self.name.clone(),
            address: self.address.clone(),
            kind: self.kind,
            vendor: self.vendor.clone(),
            model: self.model.clone(),
            os: self.os.clone(),
            site: self.site.clone(),
            location: self.location.clone(),
            tags: self.tags.clone(),
            parents: self.parents.clone(),
            poll: self.poll.clone(),
            credential: self.credential.clone(),
            enabled: self.enabled,
            tenant: self.tenant.clone(),
        }
    }

    /// Asked and judged now.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.enabled && self.deleted.is_none()
    }

    /// Whether `check` is asked of it.
    #[must_use]
    pub fn wants(&self, check: Check) -> bool {
        let wanted = match check {
            Check::Icmp => self.poll.icmp.enabled.unwrap_or(true),
            Check::Snmp => self.credential.is_some() && self.poll.snmp.enabled.unwrap_or(true),
        };
        self.is_watched() && wanted
    }
}

/// Why a text cannot be a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAName {
    /// What was offered.
    pub name: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl fmt::Display for NotAName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} cannot be a name: {}", self.name, self.why)
    }
}

impl std::error::Error for NotAName {}

/// The longest name of anything that a person names.
const NAME_BYTES: usize = 128;

/// Returns `name` if it can name a device, a credential, a site or a tag:
/// 1 to 128 bytes, no white space at its ends, no control or invisible
/// characters, and not a number (which would be taken for an id).
///
/// # Errors
///
/// [`NotAName`] says which of these it breaks.
pub fn checked_name(name: &str) -> Result<&str, NotAName> {
    let refuse = |why| {
        Err(NotAName {
            name: name.chars().take(NAME_BYTES).collect(),
            why,
        })
    };
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > NAME_BYTES {
        return refuse("it is longer than 128 bytes");
    }
    if name.trim() != name {
        return refuse("it begins or ends with white space");
    }
    if name.chars().any(char::is_control) {
        return refuse("it contains a control character");
    }
    if name.chars().any(is_invisible) {
        return refuse("it contains a character that is not seen, or that turns the text around");
    }
    if name.chars().all(|c| c.is_ascii_digit()) {
        return refuse("it is a number, which would be taken for an id");
    }
    Ok(name)
}

/// Format characters (Unicode category Cf): with them one name can be made to
/// look like another.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_be_made_to_look_like_another() {
        for name in [
            "core\u{200b}1",
            "\u{202e}1eroc",
            "\u{feff}core1",
            "co\u{ad}re1",
        ] {
            let refused = checked_name(name).unwrap_err();
            assert!(refused.to_string().contains("not seen"), "{refused}");
        }
        assert!(checked_name("Köln-7 (Süd)").is_ok());
    }

    #[test]
    fn addresses_are_read_in_the_one_form_they_are_compared_in() {
        for (text, shown) in [
            ("10.0.0.1", "10.0.0.1"),
            ("2001:DB8::0:1", "2001:db8::1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("Core1.Example.NET.", "core1.example.net"),
            ("sw_1", "sw_1"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_nobody_could_reach_is_not_an_address() {
        for text in [
            "",
            "10.0.0.256",
            "10.0.0",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "a..b",
            "-a",
            "a b",
            "fe80::1%eth0",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_name_that_reads_as_an_id_is_refused() {
        assert_eq!(checked_name("core1"), Ok("core1"));
        for name in ["", " a", "17", "a\u{1b}[31m", &"x".repeat(129)] {
            assert!(checked_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_credential_is_never_shown() {
        let credential = Credential::SnmpV2c {
            community: b"s3cret".to_vec(),
        };
        assert_eq!(format!("{credential:?}"), "Credential(snmp-v2c, …)");
    }
}
