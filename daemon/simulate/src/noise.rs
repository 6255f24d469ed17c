//! Numbers that look random and are pure functions: the same seed and the same
//! instant give the same number, in every run.

/// A number that has nothing visible in common with `seed` and `salt`
/// (splitmix64).
pub(crate) fn mix(seed: u64, salt: u64) -> u64 {
    let mut mixed = seed ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// As [`mix`], from 0 up to but without 1.
pub(crate) fn unit(seed: u64, salt: u64) -> f64 {
    (mix(seed, salt) >> 11) as f64 / (1_u64 << 53) as f64
}

/// As [`mix`], from `low` up to but without `high`.
pub(crate) fn between(seed: u64, salt: u64, low: f64, high: f64) -> f64 {
    low + (high - low) * unit(seed, salt)
}

/// As [`mix`], one of the numbers below `count`.
pub(crate) fn pick(seed: u64, salt: u64, count: usize) -> usize {
    let count = u64::try_from(count.max(1)).unwrap_or(u64::MAX);
    usize::try_from(mix(seed, salt) % count).unwrap_or(0)
}

/// A line that wanders between 0 and 1, turning every `period` seconds.
pub(crate) fn wander(seed: u64, at_seconds: f64, period: f64) -> f64 {
    let place = at_seconds / period;
    let turn = whole(place);
    let from = unit(seed, turn);
    let to = unit(seed, turn + 1);
    from + (to - from) * place.fract()
}

/// `number` without its fraction; nothing below 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from f64 saturates, which is what is wanted"
)]
pub(crate) fn whole(number: f64) -> u64 {
    number as u64
}

/// The low 32 bits: how a Counter32 shows a longer count.
pub(crate) fn low32(number: u64) -> u32 {
    u32::try_from(number & 0xffff_ffff).expect("32 bits were kept")
}

/// `number` as a Gauge32, which stays at its end (RFC 2578 §7.1.7).
pub(crate) fn gauge32(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A stream of numbers for decisions that need not be repeatable, such as
/// which answer is lost.
#[derive(Debug)]
pub(crate) struct Chance {
    seed: u64,
    drawn: u64,
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        Chance { seed, drawn: 0 }
    }

    /// From 0 up to but without 1.
    pub(crate) fn unit(&mut self) -> f64 {
        self.drawn += 1;
        unit(self.seed, self.drawn)
    }

    /// `count` bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        std::iter::repeat_with(|| {
            self.drawn += 1;
            mix(self.seed, self.drawn).to_le_bytes()[0]
        })
        .take(count)
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_spread_evenly() {
        let mut chance = Chance::new(1);
        let below = (0..10_000).filter(|_| chance.unit() < 0.2).count();
        assert!((1_900..2_100).contains(&below), "{below}");
    }

    #[test]
    fn a_wandering_line_has_no_jumps() {
        let steps = (0..100_000).map(|step| wander(7, f64::from(step) * 0.1, 15.0));
        let pairs: Vec<f64> = steps.collect();
        assert!(
            pairs
                .windows(2)
                .all(|pair| (pair[1] - pair[0]).abs() < 0.01)
        );
    }
}
