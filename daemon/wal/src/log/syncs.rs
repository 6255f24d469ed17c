//! How long syncs took.

use std::time::Duration;

/// Upper bounds in seconds: from a disk with a battery to one that dies.
const BOUNDS: [f64; 13] = [
    0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
];

/// A histogram of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Syncs {
    pub(super) count: u64,
    pub(super) seconds: f64,
    at_most: [u64; BOUNDS.len()],
}

impl Syncs {
    pub(super) fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.count += 1;
        self.seconds += seconds;
        for (bound, count) in BOUNDS.iter().zip(&mut self.at_most) {
            *count += u64::from(seconds <= *bound);
        }
    }

    pub(super) fn histogram(&self) -> Vec<(f64, u64)> {
        let mut all: Vec<_> = BOUNDS.into_iter().zip(self.at_most).collect();
        all.push((f64::INFINITY, self.count));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_counts_all_below_it() {
        let mut syncs = Syncs::default();
        syncs.add(Duration::from_micros(700));
        syncs.add(Duration::from_secs(9));
        let histogram = syncs.histogram();
        assert_eq!(histogram[0], (0.000_5, 0));
        assert_eq!(histogram[1], (0.001, 1));
        assert_eq!(histogram[12], (5.0, 1));
        assert_eq!(histogram[13], (f64::INFINITY, 2));
    }
}
