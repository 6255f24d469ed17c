//! Which devices a plugin is for.

use contract::Oid;

/// Which devices a plugin is for: all that meet every part that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matches {
    /// Their sysObjectID is one of these or lies below it.
    pub sys_object_id: Vec<Oid>,
    /// Their vendor is one of these; capitals do not matter.
    pub vendor: Vec<String>,
    /// Their sysDescr contains one of these; capitals do not matter.
    pub sys_descr: Vec<String>,
    /// They are of one of these kinds.
    pub kind: Vec<String>,
    /// They have one of these tags.
    pub tag: Vec<String>,
    /// They are at one of these sites.
    pub site: Vec<String>,
}

/// What of a device decides whether a plugin is for it. What is not known is
/// empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceAbout<'d> {
    /// Its sysObjectID.
    pub sys_object_id: Option<&'d [u32]>,
    /// Who made it.
    pub vendor: &'d str,
    /// Its sysDescr.
    pub sys_descr: &'d str,
    /// The word for its kind: `switch`.
    pub kind: &'d str,
    /// Its tags.
    pub tags: &'d [String],
    /// Its site.
    pub site: &'d str,
}

impl Matches {
    /// Whether the plugin is for this device. Without any part it is for every
    /// device; a part about something that is not known yet is not met.
    #[must_use]
    pub fn fits(&self, about: &DeviceAbout<'_>) -> bool {
        let below = |oid: &Oid| {
            about
                .sys_object_id
                .is_some_and(|of_device| of_device.starts_with(&oid.0))
        };
        let descr = about.sys_descr.to_lowercase();
        met(&self.sys_object_id, below)
            && met(&self.vendor, |v| v.eq_ignore_ascii_case(about.vendor))
            && met(&self.sys_descr, |part| descr.contains(&part.to_lowercase()))
            && met(&self.kind, |kind| kind == about.kind)
            && met(&self.tag, |tag| about.tags.contains(tag))
            && met(&self.site, |site| site == about.site)
    }

    /// Whether it has no part, so that it is for every device.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Matches::default()
    }
}

fn met<T>(part: &[T], is: impl Fn(&T) -> bool) -> bool {
    part.is_empty() || part.iter().any(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_plugin_is_for_the_devices_that_meet_every_part() {
        let tags = words(&["core", "lab"]);
        let about = DeviceAbout {
            sys_object_id: Some(&[1, 3, 6, 1, 4, 1, 14988, 1]),
            vendor: "MikroTik",
            sys_descr: "RouterOS RB4011iGS+",
            kind: "router",
            tags: &tags,
            site: "berlin",
        };
        let of = |change: fn(&mut Matches)| {
            let mut matches = Matches::default();
            change(&mut matches);
            matches.fits(&about)
        };
        assert!(of(|_| ()));
        assert!(of(
            |m| m.sys_object_id = vec![Oid(vec![1, 3, 6, 1, 4, 1, 14988])]
        ));
        // 1.3.6.1.4.1.1498 is another vendor's, though its digits begin alike
        assert!(!of(
            |m| m.sys_object_id = vec![Oid(vec![1, 3, 6, 1, 4, 1, 1498])]
        ));
        assert!(!of(
            |m| m.sys_object_id = vec![Oid(vec![1, 3, 6, 1, 4, 1, 14988, 1, 2])]
        ));
        assert!(of(|m| m.vendor = words(&["cisco", "mikrotik"])));
        assert!(of(|m| m.sys_descr = words(&["routeros"])));
        assert!(!of(|m| m.kind = words(&["switch"])));
        assert!(of(|m| m.tag = words(&["lab"])));
        assert!(!of(|m| m.tag = words(&["la"])));
        assert!(!of(|m| {
            m.vendor = words(&["mikrotik"]);
            m.site = words(&["paris"]);
        }));
        assert!(of(|m| m.site = words(&["berlin", "paris"])));
    }

    #[test]
    fn what_is_not_known_yet_meets_no_part_about_it() {
        let unknown = DeviceAbout::default();
        let by_oid = Matches {
            sys_object_id: vec![Oid(vec![1, 3])],
            ..Matches::default()
        };
        assert!(!by_oid.fits(&unknown));
        let by_vendor = Matches {
            vendor: words(&["apc"]),
            ..Matches::default()
        };
        assert!(!by_vendor.fits(&unknown));
        assert!(Matches::default().fits(&unknown) && Matches::default().is_empty());
    }
}
