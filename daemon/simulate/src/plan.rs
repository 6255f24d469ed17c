//! Which devices a site consists of and how they hang together.
//!
//! The default site is a company with a core of two routers and branches
//! behind them. A branch hangs on both core routers by its distribution
//! switches; everything else in it hangs on one distribution switch, so one of
//! these going down cuts off a known set of devices and nothing more.

use std::path::Path;

use model::DeviceKind;

use crate::agent::Agent;
use crate::noise::mix;
use crate::platform::{
    ACCESS_SWITCHES, ARUBA_AP_515, CATALYST_9300, CORE_ROUTERS, DISTRIBUTION_SWITCHES,
    FORTIGATE_100F, LINUX_SERVER, Platform, SMART_UPS, Segment, uniform_segments,
};
use crate::recording::{Recording, RecordingError};

/// What people know of a device: what goes into an inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) kind: DeviceKind,
    pub(crate) vendor: String,
    pub(crate) model: String,
    pub(crate) os: String,
    pub(crate) site: String,
    pub(crate) location: String,
    pub(crate) tags: Vec<String>,
    pub(crate) parents: Vec<String>,
}

/// What answers for a device.
#[derive(Debug)]
pub(crate) enum Inside {
    Invented(Agent),
    Recorded(Recording),
}

/// A device before it has an address.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) entry: Entry,
    pub(crate) inside: Inside,
    /// Equal for devices that stand at one place.
    pub(crate) site_seed: u64,
}

/// Branches, in the order in which they are opened.
const BRANCHES: [&str; 12] = [
    "berlin",
    "hamburg",
    "munich",
    "cologne",
    "frankfurt",
    "stuttgart",
    "dresden",
    "leipzig",
    "bremen",
    "hanover",
    "nuremberg",
    "essen",
];

/// Where the core routers stand.
const CORE_SITE: &str = "datacenter";

/// Devices of one branch before the next one is opened.
const BRANCH_DEVICES: usize = 16;

/// The largest site: more have no room in memory or in a /8.
pub(crate) const MOST_DEVICES: usize = 100_000;

/// The most ports of a device in a uniform site.
pub(crate) const MOST_PORTS: u32 = 10_000;

/// A company of `count` devices; parents come before their children.
pub(crate) fn company(count: usize, seed: u64) -> Vec<Planned> {
    let mut site = Builder::new(seed, count);
    let core: Vec<String> = (1..=count.min(2)).map(|n| format!("core-{n}")).collect();
    for (name, platform) in core.iter().zip(CORE_ROUTERS) {
        site.add(name, platform, CORE_SITE, "row A", &[]);
    }
    let rest = count - core.len();
    let branches = rest.div_ceil(BRANCH_DEVICES).clamp(1, BRANCHES.len());
    for (place, branch) in BRANCHES.iter().take(branches).enumerate() {
        let share = rest / branches + usize::from(place < rest % branches);
        Branch::of(share, place).build(&mut site, branch, &core);
    }
    site.planned
}

/// `count` equal switches with `ports` ports each, side by side.
pub(crate) fn uniform(count: usize, ports: u32, seed: u64) -> Vec<Planned> {
    let segments = uniform_segments(ports);
    let mut site = Builder::new(seed, count);
    for number in 1..=count {
        let name = format!("sim-{number:05}");
        site.add(&name, &CATALYST_9300, "lab", "rack", &[]);
        if let Some(Inside::Invented(agent)) = site.planned.last_mut().map(|last| &mut last.inside)
        {
            agent.segments = segments.clone().into();
        }
    }
    site.planned
}

/// A device that replays `path`, called after the file.
pub(crate) fn recorded(path: &Path, seed: u64) -> Result<Planned, RecordingError> {
    let stem = path.file_stem().unwrap_or(path.as_os_str());
    Ok(Planned {
        entry: Entry {
            name: stem.to_string_lossy().into_owned(),
            kind: DeviceKind::Other,
            vendor: String::new(),
            model: String::new(),
            os: String::new(),
            site: "recorded".to_owned(),
            location: String::new(),
            tags: vec!["recorded".to_owned()],
            parents: Vec::new(),
        },
        inside: Inside::Recorded(Recording::read(path)?),
        site_seed: seed,
    })
}

/// How many of what a branch has.
#[derive(Debug)]
struct Branch {
    place: usize,
    distribution: usize,
    firewalls: usize,
    ups: usize,
    servers: usize,
    wireless: usize,
    access: usize,
}

impl Branch {
    fn of(devices: usize, place: usize) -> Branch {
        let distribution = (1 + devices / 24).min(devices);
        let firewalls = usize::from(devices >= 6);
        let ups = usize::from(devices >= 8);
        let servers = devices / 8;
        let wireless = devices / 5;
        let others = distribution + firewalls + ups + servers + wireless;
        Branch {
            place,
            distribution,
            firewalls,
            ups,
            servers,
            wireless,
            access: devices.saturating_sub(others),
        }
    }

    fn build(&self, site: &mut Builder, branch: &str, core: &[String]) {
        let distribution = self.switches_of_switches(site, branch, core);
        // 0 devices: nothing to hang anything on
        let Some(first) = distribution.first() else {
            return;
        };
        let behind =
            |number: usize| -> [String; 1] { [distribution[number % distribution.len()].clone()] };
        let first = std::slice::from_ref(first);
        for number in 1..=self.firewalls {
            let name = format!("fw-{branch}-{number}");
            site.add(&name, &FORTIGATE_100F, branch, "server room", first);
        }
        for number in 1..=self.ups {
            let name = format!("ups-{branch}-{number}");
            site.add(&name, &SMART_UPS, branch, "server room", first);
        }
        for number in 1..=self.access {
            let name = format!("sw-{branch}-{number:02}");
            let platform = ACCESS_SWITCHES[(self.place + number / 4) % ACCESS_SWITCHES.len()];
            let location = format!("floor {}", (number - 1) / 2 + 1);
            site.add(&name, platform, branch, &location, &behind(number - 1));
        }
        for number in 1..=self.servers {
            let name = format!("srv-{branch}-{number:02}");
            let parent = behind(number - 1);
            site.add(&name, &LINUX_SERVER, branch, "server room", &parent);
        }
        for number in 1..=self.wireless {
            let name = format!("ap-{branch}-{number:02}");
            let parent = self.parent_of_wireless(branch, number, &behind(0)[0]);
            let location = format!("floor {number}");
            site.add(&name, &ARUBA_AP_515, branch, &location, &[parent]);
        }
    }

    fn switches_of_switches(
        &self,
        site: &mut Builder,
        branch: &str,
        core: &[String],
    ) -> Vec<String> {
        let platform = DISTRIBUTION_SWITCHES[self.place % DISTRIBUTION_SWITCHES.len()];
        (1..=self.distribution)
            .map(|number| {
                let name = format!("dist-{branch}-{number}");
                site.add(&name, platform, branch, "server room", core);
                name
            })
            .collect()
    }

    /// An access point hangs on the access switch of its floor.
    fn parent_of_wireless(&self, branch: &str, number: usize, fallback: &str) -> String {
        if self.access == 0 {
            return fallback.to_owned();
        }
        let switch = (number - 1) * 2 % self.access + 1;
        format!("sw-{branch}-{switch:02}")
    }
}

/// Collects devices, up to a count.
struct Builder {
    seed: u64,
    count: usize,
    planned: Vec<Planned>,
}

impl Builder {
    fn new(seed: u64, count: usize) -> Builder {
        Builder {
            seed,
            count,
            planned: Vec::with_capacity(count),
        }
    }

    fn add(
        &mut self,
        name: &str,
        platform: &'static Platform,
        site: &str,
        location: &str,
        parents: &[String],
    ) {
        if self.planned.len() == self.count {
            return;
        }
        let segments: &[Segment] = platform.segments;
        let agent = Agent {
            name: name.to_owned(),
            location: format!("{site}, {location}"),
            parents: parents.to_vec(),
            seed: mix(self.seed, text_number(name)),
            platform,
            segments: segments.into(),
        };
        self.planned.push(Planned {
            entry: Entry {
                name: name.to_owned(),
                kind: platform.kind,
                vendor: platform.vendor.to_owned(),
                model: platform.model.to_owned(),
                os: platform.os.to_owned(),
                site: site.to_owned(),
                location: location.to_owned(),
                tags: vec!["simulated".to_owned()],
                parents: parents.to_vec(),
            },
            inside: Inside::Invented(agent),
            site_seed: mix(self.seed, text_number(site)),
        });
    }
}

/// A number for a name: a device keeps its character when the site grows.
fn text_number(text: &str) -> u64 {
    text.bytes()
        .fold(0, |number, byte| mix(number, u64::from(byte) + 1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(planned: &[Planned]) -> Vec<&str> {
        planned.iter().map(|p| p.entry.name.as_str()).collect()
    }

    #[test]
    fn a_company_has_as_many_devices_as_asked_each_with_a_name_of_its_own() {
        for count in [1, 2, 3, 4, 10, 50, 200, 1_000, 5_000] {
            let planned = company(count, 1);
            let unique: BTreeSet<&str> = names(&planned).into_iter().collect();
            assert_eq!((planned.len(), unique.len()), (count, count));
        }
    }

    #[test]
    fn parents_come_before_their_children() {
        for count in [1, 7, 50, 1_000] {
            let planned = company(count, 1);
            let mut known = BTreeSet::new();
            for device in &planned {
                for parent in &device.entry.parents {
                    assert!(known.contains(parent), "{parent} of {}", device.entry.name);
                }
                known.insert(device.entry.name.clone());
            }
        }
    }

    #[test]
    fn a_distribution_switch_has_two_ways_up_and_is_the_only_way_for_its_branch() {
        let planned = company(50, 1);
        let parents = |name: &str| -> Vec<String> {
            let device = planned.iter().find(|p| p.entry.name == name);
            device.unwrap().entry.parents.clone()
        };
        assert_eq!(parents("dist-berlin-1"), ["core-1", "core-2"]);
        assert_eq!(parents("sw-berlin-03"), ["dist-berlin-1"]);
        let behind = planned
            .iter()
            .filter(|p| p.entry.parents == ["dist-berlin-1"])
            .count();
        assert!(behind >= 8, "{behind} devices behind dist-berlin-1");
    }

    #[test]
    fn fifty_devices_are_of_many_kinds_and_vendors() {
        let planned = company(50, 1);
        let kinds: BTreeSet<DeviceKind> = planned.iter().map(|p| p.entry.kind).collect();
        let vendors: BTreeSet<&str> = planned.iter().map(|p| p.entry.vendor.as_str()).collect();
        assert_eq!(kinds.len(), 6, "{kinds:?}");
        assert!(vendors.len() >= 7, "{vendors:?}");
    }

    #[test]
    fn devices_keep_their_seed_when_the_site_grows() {
        let seed = |count: usize| {
            let planned = company(count, 1);
            let device = planned.into_iter().find(|p| p.entry.name == "sw-berlin-02");
            match device.unwrap().inside {
                Inside::Invented(agent) => agent.seed,
                Inside::Recorded(_) => panic!("a company is invented"),
            }
        };
        assert_eq!(seed(50), seed(500));
    }
}
