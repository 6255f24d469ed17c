//! Which device is reached through which.
//!
//! Holds only edges that prove something: from a watched device up to a parent
//! that is judged by an availability rule. Edges that close a circle are left
//! out (the inventory refuses them; a damaged one must not hang us), so every
//! walk ends.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::DeviceId;

use crate::watched::Standing;

/// Parents and children of every watched device.
#[derive(Debug, Default)]
pub(crate) struct Topology {
    parents: HashMap<DeviceId, Vec<DeviceId>>,
    children: HashMap<DeviceId, Vec<DeviceId>>,
}

impl Topology {
    /// The edges of `devices` (a device and its parents) to parents that
    /// `count`.
    pub(crate) fn new<'a>(
        devices: impl Iterator<Item = (DeviceId, &'a BTreeSet<DeviceId>)>,
        counts: impl Fn(DeviceId) -> bool,
    ) -> Topology {
        let wanted: BTreeMap<DeviceId, Vec<DeviceId>> = devices
            .map(|(device, parents)| (device, parents.iter().copied().filter(|p| counts(*p))))
            .map(|(device, parents)| (device, parents.collect::<Vec<_>>()))
            .filter(|(_, parents)| !parents.is_empty())
            .collect();
        let parents = without_circles(&wanted);
        let mut children: HashMap<DeviceId, Vec<DeviceId>> = HashMap::new();
        for (device, parents) in &parents {
            for parent in parents {
                children.entry(*parent).or_default().push(*device);
            }
        }
        for siblings in children.values_mut() {
            siblings.sort_unstable();
        }
        Topology { parents, children }
    }

    /// The parents of `device` that count.
    pub(crate) fn parents(&self, device: DeviceId) -> &[DeviceId] {
        self.parents.get(&device).map_or(&[], Vec::as_slice)
    }

    /// The watched devices that name `device` as a parent.
    pub(crate) fn children(&self, device: DeviceId) -> &[DeviceId] {
        self.children.get(&device).map_or(&[], Vec::as_slice)
    }

    /// The down devices nearest to us that cut `device` off, by number: up
    /// through parents that are themselves cut off.
    pub(crate) fn behind(
        &self,
        device: DeviceId,
        standing: impl Fn(DeviceId) -> Standing,
    ) -> Vec<DeviceId> {
        let mut found = BTreeSet::new();
        let mut seen = BTreeSet::from([device]);
        let mut work = vec![device];
        while let Some(next) = work.pop() {
            for &parent in self.parents(next) {
                match standing(parent) {
                    Standing::Down => {
                        found.insert(parent);
                    }
                    Standing::CutOff if seen.insert(parent) => work.push(parent),
                    Standing::CutOff | Standing::Suspect | Standing::Up | Standing::Unknown => {}
                }
            }
        }
        found.into_iter().collect()
    }

    /// Everything below `device` that has no way up besides it and devices that
    /// are `closed` already, by number. A device that `stands` for itself (down
    /// by itself, or heard since) is not among them, nor what is below it only.
    pub(crate) fn cut_off_by(
        &self,
        device: DeviceId,
        closed: impl Fn(DeviceId) -> bool,
        stands: impl Fn(DeviceId) -> bool,
    ) -> Vec<DeviceId> {
        let mut cut = BTreeSet::from([device]);
        let mut work = vec![device];
        while let Some(next) = work.pop() {
            for &child in self.children(next) {
                let no_way = |parent: &DeviceId| cut.contains(parent) || closed(*parent);
                if !cut.contains(&child) && !stands(child) && self.parents(child).iter().all(no_way)
                {
                    cut.insert(child);
                    work.push(child);
                }
            }
        }
        cut.remove(&device);
        cut.into_iter().collect()
    }
}

/// `edges` (from a device to its parents) less those that lead back to a device
/// the walk came from.
fn without_circles(edges: &BTreeMap<DeviceId, Vec<DeviceId>>) -> HashMap<DeviceId, Vec<DeviceId>> {
    let parents_of = |device: &DeviceId| edges.get(device).map_or(&[][..], Vec::as_slice);
    let mut kept: HashMap<DeviceId, Vec<DeviceId>> = HashMap::with_capacity(edges.len());
    let mut on_the_way = BTreeSet::new();
    let mut finished = BTreeSet::new();
    for start in edges.keys() {
        if finished.contains(start) {
            continue;
        }
        on_the_way.insert(*start);
        let mut path = vec![(*start, 0)];
        while let Some((device, place)) = path.last_mut() {
            let Some(&parent) = parents_of(device).get(*place) else {
                on_the_way.remove(device);
                finished.insert(*device);
                path.pop();
                continue;
            };
            *place += 1;
            if on_the_way.contains(&parent) {
                continue;
            }
            kept.entry(*device).or_default().push(parent);
            if edges.contains_key(&parent) && !finished.contains(&parent) {
                on_the_way.insert(parent);
                path.push((parent, 0));
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From pairs of a device and its parents.
    fn topology(edges: &[(u64, &[u64])]) -> Topology {
        let sets: Vec<(DeviceId, BTreeSet<DeviceId>)> = edges
            .iter()
            .map(|(d, parents)| (DeviceId(*d), parents.iter().map(|p| DeviceId(*p)).collect()))
            .collect();
        Topology::new(sets.iter().map(|(d, p)| (*d, p)), |_| true)
    }

    fn ids(numbers: &[u64]) -> Vec<DeviceId> {
        numbers.iter().map(|n| DeviceId(*n)).collect()
    }

    #[test]
    fn circles_are_opened_and_a_device_is_not_its_own_parent() {
        let circle = topology(&[(1, &[3, 9]), (2, &[1]), (3, &[2]), (4, &[4])]);
        let edges: usize = (1..=4).map(|d| circle.parents(DeviceId(d)).len()).sum();
        assert_eq!(edges, 3, "{circle:?}");
        assert!(circle.parents(DeviceId(1)).contains(&DeviceId(9)));
        assert!(circle.parents(DeviceId(4)).is_empty());
    }

    #[test]
    fn a_parent_that_does_not_count_is_no_edge() {
        let parents = BTreeSet::from([DeviceId(1), DeviceId(2)]);
        let topology = Topology::new([(DeviceId(3), &parents)].into_iter(), |p| p == DeviceId(2));
        assert_eq!(topology.parents(DeviceId(3)), ids(&[2]));
        assert_eq!(topology.children(DeviceId(1)), []);
    }

    #[test]
    fn behind_is_the_nearest_down_device_on_every_way_up() {
        // 1 - 2 - 4 - 5 and 3 - 4
        let diamond = topology(&[(2, &[1]), (4, &[2, 3]), (5, &[4])]);
        let standing = |device: DeviceId| match device.0 {
            1 | 3 => Standing::Down,
            _ => Standing::CutOff,
        };
        assert_eq!(diamond.behind(DeviceId(5), standing), ids(&[1, 3]));
    }

    #[test]
    fn what_has_another_way_up_is_not_cut_off() {
        let ring = topology(&[(3, &[1, 2]), (4, &[1]), (5, &[4]), (6, &[4, 3]), (7, &[1])]);
        let nobody = |_| false;
        assert_eq!(
            ring.cut_off_by(DeviceId(1), nobody, |d| d == DeviceId(7)),
            ids(&[4, 5])
        );
        assert_eq!(
            ring.cut_off_by(DeviceId(1), |d| d == DeviceId(2), nobody),
            ids(&[3, 4, 5, 6, 7])
        );
    }

    #[test]
    fn a_chain_of_ten_thousand_is_walked_without_recursion() {
        let sets: Vec<(DeviceId, BTreeSet<DeviceId>)> = (1..10_000)
            .map(|d| (DeviceId(d), BTreeSet::from([DeviceId(d - 1)])))
            .collect();
        let chain = Topology::new(sets.iter().map(|(d, p)| (*d, p)), |_| true);
        let nobody = |_| false;
        assert_eq!(chain.cut_off_by(DeviceId(0), nobody, nobody).len(), 9_999);
    }
}
