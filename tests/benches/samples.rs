//! What a daemon kept, read from its store after its end: no poll is missed
//! here, and what is read is what reached the disk.

use std::time::Duration;

use harness::Folder;
use model::{DeviceId, Timestamp};
use store::samples::{Matcher, MatcherKind, Point, Select, Selector};
use store::{Store, StoreOptions};

use crate::fleet::now;

/// More points than one device has of one metric in any part.
const POINTS: usize = 100_000;

/// The settings of a store as the daemon has it, without a ballast.
pub(crate) fn options(folder: &Folder) -> StoreOptions {
    StoreOptions {
        commit_every: Duration::from_millis(200),
        backlog_bytes: 64 << 20,
        ballast_bytes: 0,
        keep_samples: Duration::from_secs(30 * 24 * 60 * 60),
        keep_alerts: Duration::from_secs(365 * 24 * 60 * 60),
        keep_audit: Duration::from_secs(730 * 24 * 60 * 60),
        ..StoreOptions::at(folder.store())
    }
}

/// The store of a daemon that has ended.
pub(crate) struct Kept {
    store: Store,
    from: Timestamp,
    until: Timestamp,
}

impl Kept {
    /// The samples from `from` to before `until`.
    ///
    /// # Panics
    ///
    /// If the daemon still runs or left a damaged store.
    pub(crate) fn open(folder: &Folder, from: Timestamp, until: Timestamp) -> Kept {
        let store = Store::open(options(folder), now());
        Kept {
            store: store.expect("a daemon leaves a sound store"),
            from,
            until,
        }
    }

    /// The points of `metric`, one list for each live device that has it.
    ///
    /// # Panics
    ///
    /// If the store is damaged.
    pub(crate) fn of_each_device(&self, metric: &str) -> Vec<Vec<Point>> {
        let inventory = self.store.inventory();
        inventory
            .live()
            .map(|device| self.of_device(device.id, metric))
            .collect()
    }

    fn of_device(&self, device: DeviceId, metric: &str) -> Vec<Point> {
        let named = Matcher::new("__name__", MatcherKind::Equal, metric);
        let selector = Selector::new(vec![named.expect("a name is no expression")]);
        let selected = self.store.samples().select(&Select {
            selector: &selector,
            groups: &|group| group.device == device,
            from: self.from,
            until: self.until,
            max_points: POINTS,
            max_series: POINTS,
        });
        let selected = selected.expect("there are not that many points");
        assert_eq!(selected.missing, [], "a daemon leaves sound samples");
        let points = selected.series.into_iter().map(|one| one.points);
        points.flatten().collect()
    }
}
